//! The edges of the program: the only reads of time and randomness.
//!
//! Everything else takes `now` as an argument or asks a [`Clock`] it was given, so that tests move time instead of
//! waiting for it. Key generation is the one exception for randomness: the generators of `p256`, `rsa` and
//! `aws-lc-rs` draw from the operating system themselves (`keys/material.rs`).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keywheel_jose::Timestamp;

/// Where the issuer reads the time.
pub trait Clock: Send + Sync {
    /// The present, in whole seconds since 1970 (rounded down).
    fn now(&self) -> Timestamp;

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

/// The clock and the generator that a running issuer uses.
#[derive(Clone)]
pub struct Edges {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The generator.
    pub entropy: Arc<dyn Entropy>,
}

impl Edges {
    /// The operating system's clock and generator.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
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
}
