//! The unit as systemd judges it, and the server with a supervisor, whose end of the socket is the story's.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::geteuid;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tempfile::TempDir;
use tokio::process::Command;

use super::recipe;
use crate::harness::{Exit, Issuer, Postgres, Running, Settings, eventually, get, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// In tenths: systemd calls everything below 2 well protected. Left are the network, which a server needs, and the root of
/// the file system.
const EXPOSURE_LIMIT: &str = "12";

/// systemd's end of the socket.
struct Supervisor {
    socket: UnixDatagram,
    folder: TempDir,
    /// Lines that nobody has asked for yet.
    heard: VecDeque<String>,
}

impl Supervisor {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket, folder, heard: VecDeque::new() }
    }

    /// Starts `keywheel serve` and does not wait.
    fn start(&self, issuer: &Issuer) -> Running {
        let mut command = program();
        command.arg("serve").arg("--config").arg(issuer.config_file());
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).env("WATCHDOG_USEC", "600000");
        Running::start(command, self.folder.path())
    }

    /// What has been told and nobody has asked for yet.
    fn told(&mut self) -> &mut VecDeque<String> {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).expect("text");
            self.heard.extend(text.lines().map(str::to_owned));
        }
        &mut self.heard
    }

    /// Waits until a line is told that begins like this. Those before it are forgotten.
    async fn hears(&mut self, beginning: &str) -> String {
        eventually(beginning, PATIENCE, async || {
            let told = self.told();
            let place = told.iter().position(|line| line.starts_with(beginning))?;
            told.drain(..=place).next_back()
        })
        .await
    }
}

#[tokio::test]
async fn a_server_is_ready_when_its_key_set_answers_and_not_before() {
    let postgres = Postgres::serve().await;
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.use_database(&postgres.url());
    assert_eq!(issuer.command(&["migrate"]).await.code, Some(0));
    let mut holding = PgConnection::connect(&postgres.url()).await.expect("connecting to the database");
    let mut transaction = holding.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE signing_keys IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.expect("a lock");

    let mut supervisor = Supervisor::new();
    let running = supervisor.start(&issuer);
    eventually("the server waits for its keys", PATIENCE, async || {
        let waiting = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        (!postgres.texts(waiting).await.is_empty()).then_some(())
    })
    .await;
    assert!(supervisor.told().is_empty(), "{:?}", supervisor.heard);
    transaction.rollback().await.expect("letting go");

    supervisor.hears("READY=1").await;
    let reply = get(&issuer.jwks_uri()).await.expect("an answer at once");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), running.log());
}

#[tokio::test]
async fn a_server_feeds_the_watchdog_and_tells_its_end() {
    let issuer = Issuer::new(Settings::PLAIN);
    let mut supervisor = Supervisor::new();
    let running = supervisor.start(&issuer);

    supervisor.hears("READY=1").await;
    let status = supervisor.hears("STATUS=").await;
    assert!(status.contains(&issuer.url()) && status.contains("key"), "{status}");
    for _ in 0..3 {
        supervisor.hears("WATCHDOG=1").await;
    }
    let exit = running.stop().await;

    assert_eq!(exit.code, Some(0), "{exit:?}");
    let told = supervisor.told().make_contiguous();
    let stopping = told.iter().position(|line| line == "STOPPING=1").unwrap_or_else(|| panic!("{told:?}"));
    // Ten seconds to drain, and ten for the rest.
    assert!(told[stopping..].contains(&"EXTEND_TIMEOUT_USEC=20000000".to_owned()), "{told:?}");
    assert!(!told[stopping..].contains(&"WATCHDOG=1".to_owned()), "{told:?}");
}

#[tokio::test]
async fn systemd_finds_nothing_wrong_with_the_unit() {
    for drop_ins in [&[][..], &["port-443.conf"], &["postgres.conf"], &["port-443.conf", "postgres.conf"]] {
        let folder = unit(drop_ins);

        let exit = analyze(&folder, &["verify", "--man=no"]).await;

        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{drop_ins:?}: {exit:?}");
    }
}

#[tokio::test]
async fn the_unit_is_closed_to_what_the_server_does_not_need() {
    let folder = unit(&["postgres.conf"]);

    let exit = analyze(&folder, &["security", "--offline=true", "--threshold", EXPOSURE_LIMIT]).await;

    assert_eq!(exit.code, Some(0), "{}", exit.stdout);
    assert!(exit.stdout.contains("Overall exposure level"), "{exit:?}");
}

/// The unit with some of its drop-ins, and with the program where it was built.
fn unit(drop_ins: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let built = program();
    let built = built.as_std().get_program().to_str().expect("a path in UTF-8");
    let started = format!("ExecStart={built} ");
    let text = recipe::adapted(&recipe::read("systemd/keywheel.service"), &[("ExecStart=keywheel ", &started)]);
    fs::write(folder.path().join("keywheel.service"), text).expect("writing the unit");
    let beside = folder.path().join("keywheel.service.d");
    fs::create_dir(&beside).expect("a folder for drop-ins");
    for name in drop_ins {
        fs::copy(recipe::path("systemd").join(name), beside.join(name)).expect("copying a drop-in");
    }
    folder
}

async fn analyze(folder: &TempDir, arguments: &[&str]) -> Exit {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg("--no-pager").arg(folder.path().join("keywheel.service"));
    if !geteuid().is_root() {
        command.env("XDG_RUNTIME_DIR", folder.path());
    }
    Exit::of(command, folder.path(), "").await
}
