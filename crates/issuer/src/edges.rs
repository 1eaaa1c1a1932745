//! The edges of the program: the only reads of time and randomness, and of who runs it where.
//!
//! Everything else takes `now` as an argument or asks a [`Clock`] it was given, so that tests move time instead of
//! waiting for it. Key generation is the one exception for randomness: the generators of `p256`, `rsa` and
//! `aws-lc-rs` draw from the operating system themselves (`keys/material.rs`).

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keywheel_jose::Timestamp;

/// Where the issuer reads the time.
pub trait Clock: Send + Sync {
    /// The present, in whole seconds since 1970 (rounded down).
    fn now(&self) -> Timestamp;

    /// Time since an instant of this process that is always the same; it is not set back when the clock is.
    fn elapsed(&self) -> Duration;

    /// The present in milliseconds since 1970, to compare clocks.
    fn now_ms(&self) -> i64 {
        self.now().as_unix().saturating_mul(1000)
    }
}

/// Where the issuer gets random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` from a cryptographically secure generator.
    ///
    /// # Errors
    /// [`NoEntropy`] when the generator fails; `bytes` must then not be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The random generator gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoEntropy;

/// Who changes keys and clients, for the audit log.
#[derive(Clone, Debug)]
pub struct Author {
    actor: Arc<str>,
    origin: Arc<str>,
}

impl Author {
    /// The person at the command line: the operating system's name for them, on this machine.
    #[must_use]
    pub fn operator() -> Self {
        Self::new(&format!("{} (cli)", user()), &host())
    }

    /// The server, which makes and destroys keys by the timetable.
    #[must_use]
    pub fn rotator() -> Self {
        Self::new("rotator", &format!("{}, process {}", host(), std::process::id()))
    }

    /// Somebody who is signed in, by their id, at a browser with this network address.
    #[must_use]
    pub fn person(user_id: &str, address: Option<IpAddr>) -> Self {
        let address = address.map_or_else(|| "unknown address".to_owned(), |address| address.to_string());
        Self::new(&format!("user {user_id}"), &address)
    }

    fn new(actor: &str, origin: &str) -> Self {
        Self { actor: actor.into(), origin: origin.into() }
    }

    /// Who.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// From where.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// The clock and the generator that a running issuer uses.
#[derive(Clone)]
pub struct Edges {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The generator.
    pub entropy: Arc<dyn Entropy>,
    /// Who is at work.
    pub author: Author,
}

impl Edges {
    /// The operating system's clock and generator, and the person at the command line.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy), author: Author::operator() }
    }
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Instant::now().saturating_duration_since(*START)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        aws_lc_rs::rand::fill(bytes).map_err(|_| NoEntropy)
    }
}

/// The name of the user that runs this. From the system's table, not from the environment, which says what it likes.
fn user() -> String {
    let id = rustix::process::getuid().as_raw();
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {id}"))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A clock that only moves when told, for tests.
#[cfg(test)]
pub(crate) struct ManualClock(std::sync::atomic::AtomicI64);

#[cfg(test)]
impl ManualClock {
    pub(crate) fn at(unix: i64) -> Arc<Self> {
        Arc::new(Self(std::sync::atomic::AtomicI64::new(unix)))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        let since_epoch = u64::try_from(self.now().as_unix()).expect("tests are set after 1970");
        Duration::from_secs(since_epoch)
    }
}
