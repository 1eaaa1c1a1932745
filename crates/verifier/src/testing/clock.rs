//! A clock that tests move.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_jose::Timestamp;

use crate::verifier::system_now;

/// A clock that a test moves. It decides about `exp`, `nbf` and `iat`; how old a key set is is measured by tokio's clock,
/// which `tokio::time::advance` moves. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
///
/// use keywheel_verifier::Timestamp;
/// use keywheel_verifier::testing::TestClock;
///
/// let clock = TestClock::stopped_at(Timestamp::from_unix(1_800_000_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Timestamp::from_unix(1_800_000_060));
/// ```
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Mutex<Time>>);

#[derive(Clone, Copy, Debug)]
enum Time {
    Stopped(Timestamp),
    /// So many seconds before or after the system's clock.
    Running(i64),
}

impl TestClock {
    /// A clock that goes with the system's, until it is moved against it.
    #[must_use]
    pub fn running() -> Self {
        Self(Arc::new(Mutex::new(Time::Running(0))))
    }

    /// A clock that stands still until it is moved.
    #[must_use]
    pub fn stopped_at(instant: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Time::Stopped(instant))))
    }

    /// Moves it forward, by whole seconds.
    pub fn advance(&self, by: Duration) {
        self.edit(|time| match time {
            Time::Stopped(instant) => *instant = *instant + by,
            Time::Running(offset) => *offset = offset.saturating_add_unsigned(by.as_secs()),
        });
    }

    /// Moves it back, by whole seconds, as when a machine's clock is corrected.
    pub fn set_back(&self, by: Duration) {
        self.edit(|time| match time {
            Time::Stopped(instant) => *instant = *instant - by,
            Time::Running(offset) => *offset = offset.saturating_sub_unsigned(by.as_secs()),
        });
    }

    /// Stops it at this instant.
    pub fn stop_at(&self, instant: Timestamp) {
        self.edit(|time| *time = Time::Stopped(instant));
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.edit(|time| *time) {
            Time::Stopped(instant) => instant,
            Time::Running(offset) => Timestamp::from_unix(system_now().as_unix().saturating_add(offset)),
        }
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Time) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::running()
    }
}
