//! A PostgreSQL of the story's own, which it may stop and start again.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::issuer::free_addresses;
use super::wait::eventually;

/// Longer than any start takes, recovery after a hard stop included.
const START: Duration = Duration::from_secs(60);
/// Where Debian puts a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// A database server in a folder of its own; killed when dropped.
pub(crate) struct Postgres {
    folder: TempDir,
    address: SocketAddr,
    programs: PathBuf,
    /// PostgreSQL refuses to run as root; there it runs as the user that Debian's package makes.
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes an empty database and starts it.
    pub(crate) async fn serve() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let user = getuid().is_root().then(postgres_user);
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).expect("giving the database's folder away");
        }
        let [address, _] = free_addresses();
        let mut postgres = Self { folder, address, programs: programs(), user, server: None };
        let mut initdb = postgres.command("initdb");
        let options = ["--username=keywheel", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        let output = initdb.args(options).arg(postgres.data()).output().await.expect("starting initdb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        postgres.start().await;
        postgres
    }

    /// Starts it again after [`stop`](Self::stop), and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("opening the log");
        let port = self.address.port().to_string();
        let settings = ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB"];
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path()).args(["-p", &port]);
        server.args(settings.into_iter().flat_map(|setting| ["-c", setting]));
        server.stdin(Stdio::null()).stdout(log.try_clone().expect("the same log")).stderr(log).kill_on_drop(true);
        self.server = Some(server.spawn().expect("starting postgres"));
        eventually("PostgreSQL answers", START, async || {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().expect("asking for the process"));
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(self.log()).unwrap_or_default());
            PgConnection::connect(&self.url()).await.ok()
        })
        .await;
    }

    /// Stops it at once: connections break, and the next start has to recover.
    pub(crate) async fn stop(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let pid = i32::try_from(server.id().expect("it was not waited for")).expect("a pid");
        // What `pg_ctl stop --mode=immediate` sends.
        kill_process(Pid::from_raw(pid).expect("a pid that is not 0"), Signal::QUIT).expect("signalling our own child");
        server.wait().await.expect("waiting for postgres");
    }

    /// What `storage.url` has to say.
    pub(crate) fn url(&self) -> String {
        format!("postgres://keywheel@{}/postgres", self.address)
    }

    /// The same by its socket, which is reached from every network of this machine.
    pub(crate) fn socket_url(&self) -> String {
        let Self { folder, address, .. } = self;
        format!("postgres://keywheel@localhost:{}/postgres?host={}", address.port(), folder.path().display())
    }

    /// The first column of what a query finds, which has to be text.
    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.url()).await.expect("connecting to the database");
        let rows = sqlx::query(query).fetch_all(&mut connection).await.expect(query);
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // The folder that the tests run in may be closed to the other user.
        command.current_dir("/");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// The newest server's programs.
fn programs() -> PathBuf {
    let installed = Path::new(INSTALLED).read_dir().into_iter().flatten();
    let folders = installed.filter_map(|entry| Some(entry.ok()?.path()));
    let version = |folder: &PathBuf| -> Option<u32> { folder.file_name()?.to_str()?.parse().ok() };
    let newest = folders.filter(|folder| folder.join("bin/initdb").is_file()).max_by_key(version);
    newest.unwrap_or_else(|| panic!("no PostgreSQL in {INSTALLED}; `cargo xtask test` installs it")).join("bin")
}

/// Who owns the folder that Debian's package makes for its databases.
fn postgres_user() -> (u32, u32) {
    let home = fs::metadata("/var/lib/postgresql").expect("the folder of Debian's package postgresql");
    (home.uid(), home.gid())
}
