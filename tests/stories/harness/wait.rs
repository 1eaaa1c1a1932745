//! Waiting: for a condition, or until an instant that the story computed. Nothing else in the stories sleeps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value.
///
/// # Panics
/// When it has not after `deadline`, naming `what` was waited for.
pub(crate) async fn eventually<T>(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < deadline, "after {deadline:?} still not: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the wall clock shows `instant`, in seconds since 1970.
pub(crate) async fn until(instant: f64) {
    let left = instant - unix_now();
    if left > 0.0 {
        tokio::time::sleep(Duration::from_secs_f64(left)).await;
    }
}

/// The wall clock, in seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs_f64()
}
