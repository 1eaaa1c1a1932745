//! The server as the image runs it: a root that holds the program and the libraries of `distroless/cc` and cannot be written
//! to, a user without a name, and one folder of its own. The image's base comes from a registry; this root is like it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use rustix::process::getuid;
use tempfile::TempDir;
use tokio::process::Command;

use super::recipe;
use crate::harness::{Exit, Running, eventually, free_addresses, get, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// As the Containerfile says.
const USER: u32 = 65532;

/// The image's files, and what a volume would be.
struct Image {
    root: TempDir,
    data: TempDir,
    settings: [(&'static str, String); 3],
}

#[tokio::test]
async fn the_server_needs_nothing_but_its_libraries_and_a_folder() {
    let [listen, metrics] = free_addresses();
    let image = Image::new(&[
        ("KEYWHEEL_SERVER__LISTEN", listen.to_string()),
        ("KEYWHEEL_SERVER__METRICS_LISTEN", metrics.to_string()),
        ("KEYWHEEL_CONFIG", "/etc/keywheel/keywheel.toml".to_owned()),
    ]);
    let unready = image.run(&["healthcheck"]).await;
    unready.assert_refused(1, &["no answer from", &metrics.to_string()]);

    let mut running = Running::start(image.command(&["serve"]), image.root.path());
    eventually("the server is ready", PATIENCE, async || {
        if let Some(status) = running.has_ended() {
            panic!("the server ended at its start with {status}:\n{}", running.log());
        }
        get(&format!("http://{metrics}/readyz")).await.ok().filter(|reply| reply.status == 200)
    })
    .await;

    let ready = image.run(&["healthcheck"]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");
    let jwks = get(&format!("http://{listen}/.well-known/jwks.json")).await.expect("an answer");
    assert_eq!(jwks.status, 200, "{}", running.log());
    for name in ["keywheel.db", "kek"] {
        let made = fs::metadata(image.data.path().join(name)).expect(name);
        assert_eq!(made.mode() & 0o7777, 0o600, "{name}");
        assert!(!getuid().is_root() || made.uid() == USER, "{name} belongs to {}", made.uid());
    }
    let exit = running.stop().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

impl Image {
    fn new(settings: &[(&'static str, String); 3]) -> Self {
        let [root, data] = [(); 2].map(|()| TempDir::new().expect("a temporary folder"));
        let put = |from: &Path, to: &str| {
            let to = root.path().join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        };
        let built = program();
        let built = Path::new(built.as_std().get_program());
        put(built, "/usr/bin/keywheel");
        put(&recipe::path("container/keywheel.toml"), "/etc/keywheel/keywheel.toml");
        put(Path::new("/etc/ssl/certs/ca-certificates.crt"), "/etc/ssl/certs/ca-certificates.crt");
        for library in libraries(built) {
            put(Path::new(&library), &library);
        }
        fs::create_dir(root.path().join("data")).expect("a folder");
        if getuid().is_root() {
            chown(data.path(), Some(USER), Some(USER)).expect("giving the folder away");
        }
        Self { root, data, settings: settings.clone() }
    }

    /// A command of `keywheel` in a container of its own, but for the network.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        // Without root's rights, the user that tests is the only one there is.
        let (namespaces, user) = if getuid().is_root() {
            (&["--mount"][..], format!("--userspec=+{USER}:+{USER}"))
        } else {
            (&["--user", "--map-root-user", "--mount"][..], "--userspec=+0:+0".to_owned())
        };
        // Mounts in the namespace end with it.
        let script = r#"
            mount --bind "$1" "$1" && mount --bind "$2" "$1/data" && mount -o remount,bind,ro "$1" || exit 99
            root=$1 user=$3; shift 3
            exec env -i $SETTINGS /usr/sbin/chroot "$user" --groups= "$root" /usr/bin/keywheel "$@"
        "#;
        command.args(namespaces).args(["sh", "-c", script, "sh"]).arg(self.root.path()).arg(self.data.path());
        command.arg(user).args(arguments);
        let settings = self.settings.iter().map(|(name, value)| format!("{name}={value}"));
        command.env("SETTINGS", settings.collect::<Vec<_>>().join(" "));
        command
    }

    async fn run(&self, arguments: &[&str]) -> Exit {
        Exit::of(self.command(arguments), self.root.path(), "").await
    }
}

/// The shared libraries of a program, all of which `distroless/cc` has.
fn libraries(program: &Path) -> Vec<String> {
    let output = std::process::Command::new("ldd").arg(program).output().expect("starting ldd");
    let text = String::from_utf8(output.stdout).expect("names in UTF-8");
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    let found: Vec<String> = words.map(str::to_owned).collect();
    let in_the_image = ["ld-linux", "libc.so", "libm.so", "libgcc_s.so", "libdl.so", "libpthread.so", "librt.so"];
    for library in &found {
        assert!(in_the_image.iter().any(|known| library.contains(known)), "the image does not have {library}");
    }
    assert!(!found.is_empty(), "{text}");
    found
}
