//! Telling the supervisor how the server is: systemd's `Type=notify` and its watchdog (sd_notify(3)).
//!
//! 1. `READY=1` once the keys are read and the listeners are open.
//! 2. `STATUS=` one line about the keys, whenever it changes.
//! 3. `WATCHDOG=1` three times within the time that the supervisor gives, but only after a task has gone through the
//!    runtime's workers, another through its blocking threads, and both loops of the rotator have come round lately.
//!    A server in which one of them hangs is started anew; one that has lost its database is not.
//! 4. `STOPPING=1` when the requests under way are being finished, and how long that may take.
//!
//! Without a supervisor all of it is nothing.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, warn};

use crate::app::App;
use crate::shutdown::Shutdown;

/// Who started the server and wants to hear of it, if anybody.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The supervisor that `environment` names to process `process_id`: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` unless
    /// `WATCHDOG_PID` says that it is meant for another process. One that cannot be reached is told in the log.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn connect(environment: impl Iterator<Item = (String, String)>, process_id: u32) -> Self {
        let (mut address, mut watchdog, mut watched) = (None, None, true);
        for (name, value) in environment {
            match name.as_str() {
                "NOTIFY_SOCKET" if !value.is_empty() => address = Some(value),
                "WATCHDOG_USEC" => watchdog = value.parse().ok().filter(|&limit| limit > 0),
                "WATCHDOG_PID" => watched = value.parse() == Ok(process_id),
                _ => {}
            }
        }
        let Some(address) = address else { return Self::default() };
        match connect(&address) {
            Ok(socket) => {
                Self { socket: Some(socket), watchdog: watchdog.filter(|_| watched).map(Duration::from_micros) }
            }
            Err(error) => {
                warn!(address, %error, "the supervisor that NOTIFY_SOCKET names cannot be reached");
                Self::default()
            }
        }
    }

    /// Sends some lines, without waiting long for a supervisor that does not listen.
    async fn tell(&self, lines: &str) {
        let Some(socket) = &self.socket else { return };
        match timeout(PATIENCE, socket.send(lines.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "the supervisor could not be told"),
            Err(_) => warn!("the supervisor could not be told in time"),
        }
    }
}

/// Connects to a path, or to an abstract name when it begins with `@`.
fn connect(address: &str) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// Says that `app` serves, and then how it is, until `shutdown`.
pub(crate) async fn run(app: Arc<App>, supervisor: Supervisor, mut shutdown: Shutdown) {
    if supervisor.socket.is_none() {
        return;
    }
    supervisor.tell("READY=1\n").await;
    tokio::select! {
        () = report(&supervisor, || status(&app), || app.rotator().hanging()) => {}
        () = shutdown.announced() => {}
    }
    let server = &app.config.server;
    let drain = (server.shutdown_delay + server.drain_timeout + MARGIN).as_micros();
    supervisor
        .tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={drain}\nSTATUS=finishing the requests under way\n"))
        .await;
}

/// Tells of the status, and that nothing hangs, again and again. `hanging` names what does.
async fn report(supervisor: &Supervisor, status: impl Fn() -> String, hanging: impl Fn() -> Option<&'static str>) {
    let mut turn = interval(supervisor.watchdog.map_or(UNWATCHED, |limit| limit / 3));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut hung) = (String::new(), None);
    loop {
        turn.tick().await;
        runtime_turns().await;
        let status = status();
        if status != told {
            supervisor.tell(&format!("STATUS={status}\n")).await;
            told = status;
        }
        let hangs = hanging();
        match hangs {
            None if supervisor.watchdog.is_some() => supervisor.tell("WATCHDOG=1\n").await,
            Some(what) if hung != hangs => error!("{what} hangs; the supervisor is not told any more that all is well"),
            _ => {}
        }
        hung = hangs;
    }
}

/// One line about the keys, for `systemctl status`.
fn status(app: &App) -> String {
    let now = app.clock.now();
    if let Err(reason) = app.keys.ready(now) {
        return format!("not ready: {reason}");
    }
    let next = app.keys.with_ring(|ring| {
        let ends = app.keys.algorithms().iter().filter_map(|&alg| Some((ring.signs_until(alg, now)?, alg)));
        ends.min()
    });
    match next {
        Some((at, alg)) => format!("{} is ready; the next {alg} key signs from {at}", app.config.issuer),
        None => format!("{} is ready; no next key is announced yet", app.config.issuer),
    }
}

/// Returns when a task has gone through the runtime's workers, and another through its blocking threads.
async fn runtime_turns() {
    let workers = tokio::spawn(async {});
    let blocking = tokio::task::spawn_blocking(|| {});
    // They only fail in a runtime that is ending, which is somebody's wish.
    let _ = tokio::join!(workers, blocking);
}

/// How long a supervisor may take to take a message.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the status is looked at where no watchdog asks.
const UNWATCHED: Duration = Duration::from_secs(20);
/// What a stop takes besides the requests under way: ending the tasks, closing the database.
const MARGIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Barrier, mpsc};

    use tempfile::TempDir;

    use super::*;

    /// systemd's end of the socket.
    struct Listening {
        socket: StdDatagram,
        environment: Vec<(String, String)>,
        _folder: TempDir,
    }

    impl Listening {
        fn new(more: &[(&str, &str)]) -> Self {
            let folder = TempDir::new().expect("a temporary folder");
            let path = folder.path().join("notify");
            let socket = StdDatagram::bind(&path).expect("a socket");
            let mut environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
            environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            Self { socket, environment, _folder: folder }
        }

        fn supervisor(&self) -> Supervisor {
            Supervisor::connect(self.environment.iter().cloned(), OURS)
        }

        /// The next message, if one comes within this time.
        fn next(&self, within: Duration) -> Option<String> {
            self.socket.set_read_timeout(Some(within)).expect("a time that is not zero");
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).expect("text"))
        }

        fn drain(&self) {
            while self.next(Duration::from_millis(1)).is_some() {}
        }
    }

    const OURS: u32 = 4711;
    const LONG: Duration = Duration::from_secs(20);
    /// Many times what a ping of these tests takes.
    const A_WHILE: Duration = Duration::from_millis(300);
    const SOON: (&str, &str) = ("WATCHDOG_USEC", "30000");

    #[test]
    fn the_watchdog_counts_when_it_is_meant_for_this_process() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = runtime.enter();
        for (variables, expected) in [
            (&[][..], None),
            (&[("WATCHDOG_USEC", "30000000")], Some(30)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "4711")], Some(30)),
            (&[("WATCHDOG_PID", "4711"), ("WATCHDOG_USEC", "30000000")], Some(30)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "4712")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
        ] {
            let listening = Listening::new(variables);

            let supervisor = listening.supervisor();

            assert!(supervisor.socket.is_some());
            assert_eq!(supervisor.watchdog, expected.map(Duration::from_secs), "{variables:?}");
        }
    }

    #[tokio::test]
    async fn an_abstract_socket_is_told_too() {
        let name = format!("keywheel-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = StdDatagram::bind_addr(&address).expect("a socket");
        let supervisor = Supervisor::connect([("NOTIFY_SOCKET".to_owned(), format!("@{name}"))].into_iter(), OURS);

        supervisor.tell("READY=1\n").await;

        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..length], b"READY=1\n");
    }

    #[tokio::test]
    async fn a_supervisor_that_is_not_there_is_no_obstacle() {
        for address in ["", "/nonexistent/notify", "@", "vsock:2:1234"] {
            let supervisor = Supervisor::connect([("NOTIFY_SOCKET".to_owned(), address.to_owned())].into_iter(), OURS);

            assert!(supervisor.socket.is_none(), "{address}");
            supervisor.tell("READY=1\n").await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_something_hangs_the_watchdog_is_not_fed() {
        let listening = Arc::new(Listening::new(&[SOON]));
        let supervisor = listening.supervisor();
        let hangs = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&hangs);
        let reporting = tokio::spawn(async move {
            let hanging = || seen.load(Ordering::SeqCst).then_some("the rotator");
            report(&supervisor, || "well".to_owned(), hanging).await;
        });
        let story = tokio::task::spawn_blocking(move || {
            assert_eq!(listening.next(LONG).as_deref(), Some("STATUS=well\n"));
            assert_eq!(listening.next(LONG).as_deref(), Some("WATCHDOG=1\n"));

            hangs.store(true, Ordering::SeqCst);
            // One may be on its way.
            let _ = listening.next(A_WHILE);
            listening.drain();
            assert_eq!(listening.next(A_WHILE), None);

            hangs.store(false, Ordering::SeqCst);
            assert_eq!(listening.next(LONG).as_deref(), Some("WATCHDOG=1\n"));
        });
        story.await.expect("the story holds");
        reporting.abort();
    }

    #[test]
    fn while_the_runtime_hangs_the_watchdog_is_not_fed() {
        let workers = 2;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listening = Listening::new(&[SOON]);
        let supervisor = runtime.block_on(async { listening.supervisor() });
        runtime.spawn(async move { report(&supervisor, String::new, || None).await });
        assert_eq!(listening.next(LONG).as_deref(), Some("WATCHDOG=1\n"));

        // Every worker waits as no task should.
        let all_hang = Arc::new(Barrier::new(workers + 1));
        let ends: Vec<_> = (0..workers)
            .map(|_| {
                let (end, ended) = mpsc::channel::<()>();
                let all_hang = Arc::clone(&all_hang);
                runtime.spawn(async move {
                    all_hang.wait();
                    let _ = ended.recv();
                });
                end
            })
            .collect();
        all_hang.wait();
        listening.drain();
        assert_eq!(listening.next(A_WHILE), None);

        drop(ends);
        assert_eq!(listening.next(LONG).as_deref(), Some("WATCHDOG=1\n"));
    }
}
