//! What a verifier counts, for whoever wants to draw it.
//!
//! A [`Metrics`] is told about each event as it happens, on the thread where it happens; it is code of the user's, so a
//! panic in it is caught, reported once as a tracing error, and changes neither a verdict nor the key set. (With
//! `panic = "abort"` nothing can be caught.) Ages are not told but asked for: they are in
//! [`Verifier::health`](crate::Verifier::health).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Is told what a verifier does. Every method does nothing unless it is written.
///
/// [`verified`](Self::verified), [`rejected`](Self::rejected) and [`token_cache`](Self::token_cache) are called for each
/// token: an implementation should add to an atomic and return. The labels are closed lists, never anything a token
/// brought along.
pub trait Metrics: Send + Sync + 'static {
    /// A token holds.
    fn verified(&self) {}

    /// A token, or the proof beside it, was refused, by its stable code:
    /// [`Rejection::code`](crate::Rejection::code) and its like.
    fn rejected(&self, code: &'static str) {
        let _ = code;
    }

    /// A token could not be judged, because no trusted keys are held: a 503.
    fn keys_unavailable(&self) {}

    /// A plausible token named a key that is not in the set.
    fn unknown_kid(&self, answer: UnknownKid) {
        let _ = answer;
    }

    /// An attempt to fetch the key set has ended.
    fn fetched(&self, fetch: &FetchReport) {
        let _ = fetch;
    }

    /// Another key set is in place.
    fn keys_changed(&self, change: &KeysChanged) {
        let _ = change;
    }

    /// The cache of verified tokens was asked, or had to make room.
    fn token_cache(&self, event: TokenCacheEvent) {
        let _ = event;
    }

    /// A DPoP proof came a second time and was refused.
    fn dpop_replay_refused(&self) {}

    /// Something happened that somebody should look at; the log has the particulars, under the target
    /// `keywheel_verifier::alarm`.
    fn alarm(&self, alarm: Alarm) {
        let _ = alarm;
    }
}

/// What became of the search for a key that the set does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownKid {
    /// It began a fetch.
    Fetching,
    /// It joined a fetch that was in flight.
    Joined,
    /// Nothing was fetched: the last attempt was too short a while ago.
    CoolingDown,
    /// Nothing was fetched: a fetch has just shown that the issuer does not have the key.
    Settled,
}

/// Who wanted a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lane {
    /// The schedule.
    Scheduled,
    /// A token whose key is not in the set.
    Search,
}

/// One attempt to fetch the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchReport {
    /// Who wanted it.
    pub lane: Lane,
    /// How it ended.
    pub outcome: FetchOutcome,
    /// From the request to the verdict on the answer.
    pub duration: Duration,
}

/// How an attempt to fetch the key set ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchOutcome {
    /// Another set came and is in place.
    Changed,
    /// The set is what it was.
    Unchanged,
    /// A good answer that came after a newer one.
    Late,
    /// No answer, or one that says no.
    Failed,
    /// An answer that is no usable key set.
    Refused,
    /// The key source broke down.
    Panicked,
}

/// A change of the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysChanged {
    /// Goes up by one with each change.
    pub generation: u64,
    /// How many keys can be used.
    pub keys: usize,
    /// How many entries are not used.
    pub refused: usize,
}

/// What the cache of verified tokens did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenCacheEvent {
    /// The token was there, and still holds.
    Hit,
    /// It was not.
    Miss,
    /// Another one had to go.
    Evicted,
}

/// What somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alarm {
    /// A `kid` names another key than before. The new set is used all the same: the issuer is the authority on its keys.
    KidReused,
    /// The set has no key in common with the one before: after an outage of many rotations that is as it should be, at any
    /// other time it is an emergency of the issuer's, or somebody else's set.
    AllKeysReplaced,
    /// The issuer publishes private keys or shared secrets. Those are not used.
    SecretPublished,
    /// The background refresh or its key source panicked. It was started again.
    RefreshPanicked,
}

impl UnknownKid {
    /// A stable name for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Joined => "joined",
            Self::CoolingDown => "cooling_down",
            Self::Settled => "settled",
        }
    }
}

impl Lane {
    /// A stable name for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Search => "search",
        }
    }
}

impl FetchOutcome {
    /// A stable name for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Panicked => "panicked",
        }
    }
}

impl TokenCacheEvent {
    /// A stable name for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Evicted => "evicted",
        }
    }
}

impl Alarm {
    /// A stable name for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KidReused => "kid_reused",
            Self::AllKeysReplaced => "all_keys_replaced",
            Self::SecretPublished => "secret_published",
            Self::RefreshPanicked => "refresh_panicked",
        }
    }
}

/// The user's metrics, or none, behind a guard that keeps their panics from us. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Meter(Option<Arc<Guarded>>);

struct Guarded {
    metrics: Box<dyn Metrics>,
    /// It has panicked and that was logged: a broken counter must not also fill the disk.
    reported: AtomicBool,
}

impl Meter {
    pub(crate) fn new(metrics: impl Metrics) -> Self {
        Self(Some(Arc::new(Guarded { metrics: Box::new(metrics), reported: AtomicBool::new(false) })))
    }

    /// Tells the metrics something, if there are any. Costs a branch if there are none; catching costs nothing until there
    /// is something to catch.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce(&dyn Metrics)) {
        let Some(guarded) = &self.0 else { return };
        // Unwind safe: nothing of ours is borrowed, and a broken counter stays the user's own.
        if catch_unwind(AssertUnwindSafe(|| event(&*guarded.metrics))).is_err()
            && !guarded.reported.swap(true, Ordering::Relaxed)
        {
            tracing::error!("the metrics panicked; some events are not counted");
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Meter(..)" } else { "Meter(none)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_panic_in_the_metrics_stays_there() {
        struct Broken(Arc<AtomicUsize>);
        impl Metrics for Broken {
            fn verified(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
                panic!("a counter that breaks");
            }
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let meter = Meter::new(Broken(Arc::clone(&calls)));

        meter.tell(|metrics| metrics.verified());
        meter.tell(|metrics| metrics.verified());

        assert_eq!(calls.load(Ordering::Relaxed), 2, "it goes on being told");
    }

    #[test]
    fn what_is_not_written_does_nothing() {
        struct Deaf;
        impl Metrics for Deaf {}
        let called = AtomicUsize::new(0);

        Meter::new(Deaf).tell(|metrics| {
            metrics.verified();
            metrics.rejected("expired");
            metrics.alarm(Alarm::KidReused);
            called.fetch_add(1, Ordering::Relaxed);
        });
        Meter::default().tell(|_| {
            called.fetch_add(10, Ordering::Relaxed);
        });

        assert_eq!(called.load(Ordering::Relaxed), 1, "without metrics nothing is even prepared");
    }
}
