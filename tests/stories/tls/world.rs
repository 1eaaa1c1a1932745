//! A network of a story's own, where ports 80 and 443 are free and names lead where the story says; and in it a
//! certificate authority that really looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::getuid;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::harness::{Exit, Running, eventually};

/// Longer than any start takes.
const START: Duration = Duration::from_secs(60);

/// Network and names; gone when dropped.
pub(super) struct World {
    folder: TempDir,
    /// Holds the namespaces.
    holder: Child,
}

impl World {
    /// A network with nothing but loopback, whose every address 127.x.y.z can be listened on. `hosts` is what `/etc/hosts`
    /// says in it.
    pub(super) async fn new(hosts: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("hosts");
        fs::write(&file, format!("127.0.0.1 localhost\n{hosts}\n")).expect("writing names");
        let mut holder = Command::new("unshare");
        if !getuid().is_root() {
            holder.args(["--user", "--map-root-user"]);
        }
        let script = "ip link set lo up && mount --bind \"$0\" /etc/hosts && echo ready && exec sleep infinity";
        holder.args(["--net", "--mount", "sh", "-c", script]).arg(&file);
        holder.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut holder = holder.spawn().expect("starting unshare");
        let mut said = [0; 6];
        let mut stdout = holder.stdout.take().expect("a pipe");
        stdout.read_exact(&mut said).await.expect("a network of our own: unshare, ip and mount");
        assert_eq!(&said, b"ready\n");
        Self { folder, holder }
    }

    /// The same command, in there.
    pub(super) fn command(&self, command: &Command) -> Command {
        let command = command.as_std();
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.holder.id().expect("it runs").to_string(), "--net", "--mount"]);
        if !getuid().is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Runs a program to its end.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Exit {
        let mut command = Command::new(program);
        command.args(arguments);
        Exit::of(self.command(&command), self.folder.path(), "").await
    }

    /// What `curl` prints of an address, if there was an answer.
    pub(super) async fn curl(&self, arguments: &[&str]) -> Option<String> {
        let exit = self.run("curl", &[&["-sS", "--max-time", "20"], arguments].concat()).await;
        (exit.code == Some(0)).then_some(exit.stdout)
    }

    /// The certificate that a server shows for `name`, in PEM.
    pub(super) async fn certificate(&self, server: &str, name: &str) -> Option<String> {
        let exit = self.run("openssl", &["s_client", "-connect", server, "-servername", name]).await;
        let (_, rest) = exit.stdout.split_once("-----BEGIN CERTIFICATE-----")?;
        rest.split_once("-----END CERTIFICATE-----").map(|(pem, _)| pem.to_owned())
    }
}

/// Caddy, as an authority for ACME: it validates names as the protocol demands, and signs.
pub(super) struct AcmeServer {
    folder: TempDir,
    running: Running,
}

impl AcmeServer {
    pub(super) const DIRECTORY: &str = "https://127.0.0.1:14000/acme/local/directory";

    /// Starts it; its certificates live for twelve hours.
    pub(super) async fn serve(world: &World) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().display();
        let config = format!(
            "{{\n admin off\n storage file_system {path}/data\n skip_install_trust\n auto_https disable_redirects\n \
             https_port 8443\n http_port 8081\n}}\n\
             https://127.0.0.1:14000 {{\n tls internal\n acme_server\n}}\n"
        );
        fs::write(folder.path().join("Caddyfile"), config).expect("writing a configuration");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.path().join("Caddyfile"));
        command.env("HOME", folder.path());
        let running = Running::start(world.command(&command), folder.path());
        let server = Self { folder, running };
        eventually("the authority answers", START, async || {
            let root = server.root();
            world.curl(&["--cacert", &root.display().to_string(), "--fail", Self::DIRECTORY]).await
        })
        .await;
        server
    }

    /// The certificate by which it and what it signs are recognised.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("data/pki/authorities/local/root.crt")
    }

    /// Keeps it from answering, until [`Self::go_on`].
    pub(super) fn pause(&self) {
        self.running.signal(rustix::process::Signal::STOP);
    }

    pub(super) fn go_on(&self) {
        self.running.signal(rustix::process::Signal::CONT);
    }

    pub(super) async fn kill(self) {
        self.running.kill().await;
    }
}

/// Waits for a server in `world` to be ready, by its own word.
pub(super) async fn ready(world: &World, metrics: &str, running: &mut Running) {
    eventually("the server is ready", START, async || {
        if let Some(status) = running.has_ended() {
            panic!("the server ended at its start with {status}:\n{}", running.log());
        }
        world.curl(&["--fail", &format!("http://{metrics}/readyz")]).await
    })
    .await;
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
