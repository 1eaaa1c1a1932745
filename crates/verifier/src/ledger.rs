//! Who may fetch, whose answer counts, and what readers see: all decisions of the cache, without a task, a timer or a clock.
//!
//! Several threads use a ledger at once. What it promises, whatever their order:
//!
//! 1. In each lane at most one attempt is under way.
//! 2. A search is begun no sooner than a cooldown after the end of the last attempt.
//! 3. An answer never replaces the answer to a later attempt.
//! 4. A reader sees the keys, the generation and the ages of one set, never parts of two.
//! 5. Who waits for an attempt wakes when it ends, also when it is dropped unfinished.
//!
//! What it needs of the machine is behind [`Threads`], so that the same code runs on tokio, and in the tests below on
//! shuttle, which plays thousands of orders.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keywheel_jose::KeySet;
use tokio::time::Instant;

use crate::answer::{Answer, Failure};
use crate::fetch::Caching;
use crate::limits::Limits;
use crate::metrics::Lane;
use crate::schedule::{BACKOFF_WITHOUT_KEYS, HeldFor, SHORTEST_PAUSE, backoff, lifetimes, refresh_after};
use crate::unknown_kids::UnknownKids;

/// A key set as it was fetched, and how long it is good for.
pub(crate) struct Snapshot {
    pub(crate) keys: Arc<KeySet>,
    /// Counts the changes of the set's bytes: two snapshots of one generation have the same keys.
    pub(crate) generation: u64,
    /// Which attempt brought it.
    sequence: u64,
    pub(crate) body: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) caching: Caching,
    /// When the request was sent: what we hold is no newer than this.
    pub(crate) asked_at: Instant,
    pub(crate) fresh_until: Instant,
    pub(crate) trusted_until: Instant,
}

/// What a ledger is built of.
pub(crate) trait Threads: 'static {
    /// A mutex.
    type Lock<T: Send>: Lock<T>;
    /// A pointer that is replaced as a whole.
    type Slot<T: Send + Sync>: Slot<T>;
    /// Held by the one who fetches; once it is dropped, who waits for the flight wakes.
    type Landing: Send;
    /// To wait for the end of a fetch.
    type Flight: Flight;

    fn flight() -> (Self::Landing, Self::Flight);
}

pub(crate) trait Lock<T> {
    fn new(value: T) -> Self;
    fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R;
}

pub(crate) trait Slot<T>: Default {
    fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R;
    fn load(&self) -> Option<Arc<T>>;
    fn store(&self, value: Arc<T>);
}

pub(crate) trait Flight: Clone + Send {
    fn in_the_air(&self) -> bool;
}

pub(crate) struct Ledger<T: Threads> {
    /// The set in use. A reader whose key is there touches nothing else.
    held: T::Slot<Snapshot>,
    /// Never held across an await or a fetch.
    state: T::Lock<State<T>>,
    limits: Limits,
}

struct State<T: Threads> {
    /// The number of the last attempt that was begun.
    sequence: u64,
    /// The last attempt of each lane, for callers to join while it lasts.
    scheduled: Option<T::Flight>,
    search: Option<T::Flight>,
    /// The search lane is closed until then.
    cool_at: Instant,
    /// When the scheduled lane fetches next.
    refresh_at: Instant,
    /// Scheduled attempts that failed since the last success.
    failures: u32,
    unknown: UnknownKids,
}

/// The right and the duty to fetch once. Dropped unfinished, it counts as an attempt that never answered.
pub(crate) struct Attempt<T: Threads> {
    pub(crate) lane: Lane,
    pub(crate) asked_at: Instant,
    /// The set that was held when the attempt began, trusted or not: its entity tag goes with the request.
    pub(crate) held: Option<Arc<Snapshot>>,
    sequence: u64,
    landing: T::Landing,
}

/// What comes of looking for a key that is not in the set.
pub(crate) enum Search<T: Threads> {
    /// The caller has to fetch.
    Begun(Attempt<T>, T::Flight),
    /// Somebody fetches already.
    Joined(T::Flight),
    /// The last attempt was too short a while ago.
    CoolingDown,
    /// A fetch has shown that the key does not exist.
    Settled,
}

/// What became of an attempt.
pub(crate) enum Finished {
    Installed {
        /// The set that was replaced.
        before: Option<Arc<Snapshot>>,
        after: Arc<Snapshot>,
        /// How many scheduled attempts failed before this one.
        failures: u32,
    },
    /// A newer answer is there.
    Late,
    Failed {
        failure: Failure,
        /// How much longer the held set may be used.
        trusted_for: Option<Duration>,
    },
}

impl<T: Threads> Ledger<T> {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let unknown = UnknownKids::new(limits.max_unknown_kids);
        Self {
            held: T::Slot::default(),
            state: T::Lock::new(State {
                sequence: 0,
                scheduled: None,
                search: None,
                cool_at: now,
                refresh_at: now,
                failures: 0,
                unknown,
            }),
            limits,
        }
    }

    /// Begins with a set of an earlier process that was asked for at `asked_at`. Any fetched answer is newer.
    pub(crate) fn preload(&self, answer: Answer, asked_at: Instant) -> Arc<Snapshot> {
        let snapshot = Arc::new(self.snapshot(answer, 0, 1, asked_at));
        self.state.with(|_| self.held.store(Arc::clone(&snapshot)));
        snapshot
    }

    /// Calls `read` with the last set, trusted or not. Takes no lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(Option<&Snapshot>) -> R) -> R {
        self.held.read(read)
    }

    /// The set that may be used at `now`.
    pub(crate) fn trusted(&self, now: Instant) -> Option<Arc<Snapshot>> {
        self.held.load().filter(|held| now < held.trusted_until)
    }

    /// Begins the scheduled attempt, unless one is under way.
    pub(crate) fn begin_scheduled(&self, now: Instant) -> Result<(Attempt<T>, T::Flight), T::Flight> {
        self.state.with(|state| {
            if let Some(flight) = state.scheduled.as_ref().filter(|flight| flight.in_the_air()) {
                return Err(flight.clone());
            }
            // Set anew when the attempt has ended; this is for one that is lost.
            state.refresh_at = now + BACKOFF_WITHOUT_KEYS;
            Ok(self.begin(state, Lane::Scheduled, now))
        })
    }

    /// Looks for a `kid` that the held set does not have, or for any set where none is held.
    pub(crate) fn search(&self, kid: Option<&str>, now: Instant) -> Search<T> {
        self.state.with(|state| {
            let lifetime = self.limits.cooldown * UNKNOWN_COOLDOWNS;
            if let Some(held) = self.trusted(now)
                && state.unknown.is_settled(kid, held.asked_at, now, lifetime)
            {
                return Search::Settled;
            }
            let mut flights = state.scheduled.iter().chain(&state.search);
            if let Some(flight) = flights.find(|flight| flight.in_the_air()) {
                return Search::Joined(flight.clone());
            }
            if now < state.cool_at {
                return Search::CoolingDown;
            }
            let (attempt, flight) = self.begin(state, Lane::Search, now);
            Search::Begun(attempt, flight)
        })
    }

    /// Ends an attempt and wakes who waits for it. `jitter` is in 0..1.
    pub(crate) fn finish(
        &self,
        attempt: Attempt<T>,
        outcome: Result<Answer, Failure>,
        now: Instant,
        jitter: f64,
    ) -> Finished {
        let Attempt { lane, asked_at, sequence, landing, .. } = attempt;
        let finished = self.state.with(|state| {
            // A thread may come late with its `now`: the cooldown only moves forward.
            state.cool_at = state.cool_at.max(now + self.limits.cooldown);
            match outcome {
                Ok(answer) => self.install(state, sequence, asked_at, answer, now, jitter),
                Err(failure) => self.fail(state, lane, failure, now, jitter),
            }
        });
        drop(landing);
        finished
    }

    /// When the scheduled lane fetches next.
    pub(crate) fn refresh_at(&self) -> Instant {
        self.state.with(|state| state.refresh_at)
    }

    /// How long until an attempt may be begun, by whichever lane comes first.
    pub(crate) fn next_attempt_in(&self, now: Instant) -> Duration {
        self.state.with(|state| state.refresh_at.min(state.cool_at).saturating_duration_since(now))
    }

    /// Does something while nobody else gets the lock.
    #[cfg(test)]
    pub(crate) fn while_locked<R>(&self, act: impl FnOnce() -> R) -> R {
        self.state.with(|_| act())
    }

    fn begin(&self, state: &mut State<T>, lane: Lane, now: Instant) -> (Attempt<T>, T::Flight) {
        let (landing, flight) = T::flight();
        state.sequence += 1;
        // Set anew when the attempt has ended; this is for one that is lost.
        state.cool_at = state.cool_at.max(now + self.limits.cooldown);
        match lane {
            Lane::Scheduled => state.scheduled = Some(flight.clone()),
            Lane::Search => state.search = Some(flight.clone()),
        }
        (Attempt { lane, asked_at: now, held: self.held.load(), sequence: state.sequence, landing }, flight)
    }

    /// Puts an answer in place, unless a newer one is there.
    fn install(
        &self,
        state: &mut State<T>,
        sequence: u64,
        asked_at: Instant,
        answer: Answer,
        now: Instant,
        jitter: f64,
    ) -> Finished {
        let before = self.held.load();
        if before.as_ref().is_some_and(|held| held.sequence > sequence) {
            return Finished::Late;
        }
        let changed = before.as_ref().is_none_or(|held| held.body != answer.body);
        let generation = before.as_ref().map_or(0, |held| held.generation) + u64::from(changed);
        let after = Arc::new(self.snapshot(answer, sequence, generation, asked_at));
        let fresh = after.fresh_until.saturating_duration_since(asked_at);
        state.refresh_at = (asked_at + refresh_after(fresh, jitter)).max(now + SHORTEST_PAUSE);
        self.held.store(Arc::clone(&after));
        Finished::Installed { before, after, failures: std::mem::take(&mut state.failures) }
    }

    /// Keeps what is held. Only the scheduled lane backs off: what strangers send must not move the schedule.
    fn fail(&self, state: &mut State<T>, lane: Lane, failure: Failure, now: Instant, jitter: f64) -> Finished {
        let held = self.trusted(now);
        if lane == Lane::Scheduled {
            let held_for = held.as_ref().map(|held| HeldFor {
                fresh: held.fresh_until.saturating_duration_since(held.asked_at),
                trusted: held.trusted_until.saturating_duration_since(now),
            });
            state.refresh_at = now + backoff(state.failures, held_for, jitter);
            state.failures = state.failures.saturating_add(1);
        }
        Finished::Failed { failure, trusted_for: held.map(|held| held.trusted_until.saturating_duration_since(now)) }
    }

    fn snapshot(&self, answer: Answer, sequence: u64, generation: u64, asked_at: Instant) -> Snapshot {
        let Answer { keys, body, etag, caching } = answer;
        let (fresh, trusted) = lifetimes(caching, &self.limits);
        Snapshot {
            keys,
            generation,
            sequence,
            body,
            etag,
            caching,
            asked_at,
            fresh_until: asked_at + fresh,
            trusted_until: asked_at + trusted,
        }
    }
}

/// How long a `kid` that a fetch did not bring is not looked for again. Not for good: a replica of the issuer or a shared
/// cache may have answered with an older set.
const UNKNOWN_COOLDOWNS: u32 = 6;

#[cfg(test)]
mod schedules;
