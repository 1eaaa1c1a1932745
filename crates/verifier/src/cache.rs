//! The cached key set: two clocks, and who may cause a fetch.
//!
//! **Two clocks.** A set is *fresh* for as long as its headers say, within bounds; at about 80 % of that a background task
//! fetches the next one, so while the issuer answers nobody judges by an older set. When the issuer does not answer, the
//! set stays *trusted* for longer, and after that there are no keys: the resource server can't say whether a token holds.
//!
//! **Two lanes.** The *scheduled* lane is the background task, which obeys nothing but the set's age and its own back-off.
//! The *search* lane is for a `kid` the set does not have: anybody can invent one, so all callers share one fetch in flight,
//! a cooldown counted from the end of the last attempt, and a memory of `kid`s that a fetch did not bring. The lanes never
//! wait for each other, so that a storm in one can't starve the other; a sequence number decides whose answer counts.
//!
//! Reading is one atomic load. Nothing here knows what a token is.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use keywheel_jose::{KeySet, KeySetError, PublicJwk};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::field::display;

use crate::fetch::{Caching, FetchError, FetchKeys, Fetched};
use crate::limits::Limits;
use crate::metrics::Meter;
use crate::schedule::{BACKOFF_WITHOUT_KEYS, HeldFor, SHORTEST_PAUSE, backoff, jitter, lifetimes, refresh_after};
use crate::text::excerpt;
use crate::unknown_kids::UnknownKids;

/// A key set as it was fetched, and how long it is good for.
pub(crate) struct Snapshot {
    pub(crate) keys: Arc<KeySet>,
    /// Counts the changes of the set's bytes: two snapshots of one generation have the same keys.
    pub(crate) generation: u64,
    /// Which attempt brought it.
    sequence: u64,
    body: Bytes,
    etag: Option<String>,
    max_age: Option<Duration>,
    /// When the request was sent: what we hold is no newer than this.
    asked_at: Instant,
    fresh_until: Instant,
    trusted_until: Instant,
}

/// The state of the key set, for a readiness probe or a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The set is fresh.
    Ok {
        /// Since the set was asked for.
        age: Duration,
        /// Goes up by one whenever the set changes.
        generation: u64,
    },
    /// The set is past its freshness and the issuer could not be reached since; tokens are still verified.
    Stale {
        /// Since the set was asked for.
        age: Duration,
        /// Goes up by one whenever the set changes.
        generation: u64,
        /// How much longer the set may be used.
        trusted_for: Duration,
    },
    /// There is no set, or it is older than it may be: nothing can be verified.
    Unavailable {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

/// What a [`KeyCache`] is started with.
pub(crate) struct KeyCacheSettings {
    pub(crate) fetcher: Box<dyn FetchKeys>,
    pub(crate) limits: Limits,
    /// Where the fetches run.
    pub(crate) runtime: Handle,
    pub(crate) meter: Meter,
}

/// The handle: the tasks hold what is shared, never this, and end when it is dropped.
pub(crate) struct KeyCache {
    shared: Arc<Shared>,
    _alive: watch::Sender<()>,
}

struct Shared {
    snapshot: ArcSwapOption<Snapshot>,
    /// Never held across an await or a fetch, and never touched by a reader whose key is there.
    state: Mutex<State>,
    /// The scheduled instant has moved.
    rescheduled: Notify,
    fetcher: Box<dyn FetchKeys>,
    limits: Limits,
    runtime: Handle,
    meter: Meter,
    alive: watch::Receiver<()>,
}

struct State {
    /// The number of the last attempt that was begun.
    sequence: u64,
    /// The last attempt of each lane, for callers to join while it lasts.
    scheduled: Option<Flight>,
    search: Option<Flight>,
    /// The search lane is closed until then.
    cool_at: Instant,
    /// When the scheduled lane fetches next.
    refresh_at: Instant,
    /// Scheduled attempts that failed since the last success.
    failures: u32,
    unknown: UnknownKids,
}

/// A fetch under way. It is a task of its own: who waits for it may go away without harm.
#[derive(Clone)]
pub(crate) struct Flight(watch::Receiver<()>);

impl Flight {
    /// Waits until the fetch has ended, well or badly.
    pub(crate) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn in_the_air(&self) -> bool {
        self.0.has_changed().is_ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Scheduled,
    Search,
}

/// Why an attempt left the set as it was.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the key set can't be fetched")]
    Fetch(#[from] FetchError),
    #[error("the answer is no key set")]
    Unreadable(#[from] KeySetError),
    #[error("the key set has {found} keys, at most {limit} are allowed")]
    TooManyKeys { found: usize, limit: usize },
    #[error("the key set has no key that can be used ({refused} refused)")]
    NoUsableKey { refused: usize },
    #[error("the answer has {found} bytes, at most {limit} are allowed")]
    TooLarge { found: usize, limit: usize },
    #[error("the answer is \"not modified\", but no set is held")]
    NothingToRenew,
}

impl KeyCache {
    /// Begins the first fetch on `runtime` and keeps the set fresh from then on.
    pub(crate) fn start(settings: KeyCacheSettings) -> Self {
        let KeyCacheSettings { fetcher, limits, runtime, meter } = settings;
        let now = Instant::now();
        let (alive_sender, alive) = watch::channel(());
        let shared = Arc::new(Shared {
            snapshot: ArcSwapOption::empty(),
            state: Mutex::new(State {
                sequence: 0,
                scheduled: None,
                search: None,
                cool_at: now,
                refresh_at: now,
                failures: 0,
                unknown: UnknownKids::new(limits.max_unknown_kids),
            }),
            rescheduled: Notify::new(),
            fetcher,
            limits,
            runtime,
            meter,
            alive,
        });
        // Begun here, not in the task: a caller that comes before the task's first step joins this fetch.
        let first = shared.launch(&mut shared.lock(), Lane::Scheduled);
        shared.spawn(Arc::clone(&shared).keep_fresh(first));
        Self { shared, _alive: alive_sender }
    }

    /// Who is told what happens.
    pub(crate) fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// Calls `read` with the set, unless there is none that is still trusted. Takes no lock and shares no counter.
    pub(crate) fn read<T>(&self, read: impl FnOnce(Option<&Snapshot>) -> T) -> T {
        let snapshot = self.shared.snapshot.load();
        read(snapshot.as_deref().filter(|snapshot| Instant::now() < snapshot.trusted_until))
    }

    /// Looks for a `kid` that the held set does not have, or for any set where none is held: joins the fetch that is in
    /// flight or begins one. `None` means that nothing will come of it for now; the caller has its answer at once.
    pub(crate) fn search(&self, kid: Option<&str>) -> Option<Flight> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let lifetime = self.shared.limits.cooldown * UNKNOWN_COOLDOWNS;
        if let Some(held) = self.shared.held(now)
            && state.unknown.is_settled(kid, held.asked_at, now, lifetime)
        {
            return None;
        }
        let mut flights = state.scheduled.iter().chain(&state.search);
        if let Some(flight) = flights.find(|flight| flight.in_the_air()) {
            return Some(flight.clone());
        }
        if now < state.cool_at {
            return None;
        }
        tracing::debug!(kid = kid.map(excerpt).map(display), "fetching the key set for a key that is not in it");
        Some(self.shared.launch(&mut state, Lane::Search))
    }

    /// When the next attempt may have brought keys: at least a second, so that it makes a sensible `Retry-After`.
    pub(crate) fn retry_after(&self) -> Duration {
        let now = Instant::now();
        let state = self.shared.lock();
        state.refresh_at.min(state.cool_at).saturating_duration_since(now).max(Duration::from_secs(1))
    }

    pub(crate) fn health(&self) -> Health {
        let now = Instant::now();
        let Some(held) = self.shared.held(now) else {
            return Health::Unavailable { retry_after: self.retry_after() };
        };
        let (age, generation) = (now.saturating_duration_since(held.asked_at), held.generation);
        if now < held.fresh_until {
            return Health::Ok { age, generation };
        }
        Health::Stale { age, generation, trusted_for: held.trusted_until.saturating_duration_since(now) }
    }
}

impl Shared {
    fn held(&self, now: Instant) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full().filter(|snapshot| now < snapshot.trusted_until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task that ends with the cache.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut alive = self.alive.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                _ = alive.changed() => {}
                () = task => {}
            }
        });
    }

    /// The scheduled lane.
    async fn keep_fresh(self: Arc<Self>, first: Flight) {
        first.landed().await;
        loop {
            let due = self.lock().refresh_at;
            if Instant::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.rescheduled.notified() => {}
                }
                continue;
            }
            let flight = self.launch(&mut self.lock(), Lane::Scheduled);
            flight.landed().await;
        }
    }

    /// Begins a fetch as a task of its own.
    fn launch(self: &Arc<Self>, state: &mut State, lane: Lane) -> Flight {
        let now = Instant::now();
        let (landing, flight) = watch::channel(());
        let flight = Flight(flight);
        state.sequence += 1;
        // The instants are set anew when the fetch has ended; these are for one that panics, or is lost with its runtime.
        state.cool_at = now + self.limits.cooldown;
        match lane {
            Lane::Scheduled => {
                state.refresh_at = now + BACKOFF_WITHOUT_KEYS;
                state.scheduled = Some(flight.clone());
            }
            Lane::Search => state.search = Some(flight.clone()),
        }
        let (shared, sequence) = (Arc::clone(self), state.sequence);
        self.spawn(async move {
            shared.fetch(sequence, lane).await;
            drop(landing);
        });
        flight
    }

    /// One attempt from request to result.
    async fn fetch(&self, sequence: u64, lane: Lane) {
        let asked_at = Instant::now();
        let held = self.snapshot.load_full();
        // The client has deadlines of its own; another implementation of the seam may have none.
        let limit = self.limits.exchange_deadline * EXCHANGES_PER_FETCH;
        let etag = held.as_ref().and_then(|held| held.etag.as_deref());
        let answer = timeout(limit, self.fetcher.fetch(etag)).await.unwrap_or(Err(FetchError::TimedOut { limit }));

        let judged = answer.map_err(Failure::from).and_then(|fetched| self.judge(fetched, held.as_deref()));
        let mut state = self.lock();
        match judged {
            Ok(answer) => self.install(&mut state, sequence, asked_at, answer),
            Err(failure) => self.fail(&mut state, lane, &failure),
        }
        state.cool_at = Instant::now() + self.limits.cooldown;
    }

    /// Judges an answer against the set that was held when it was asked for. Pure: nothing is kept yet.
    fn judge(&self, fetched: Fetched, held: Option<&Snapshot>) -> Result<Answer, Failure> {
        let (body, etag, caching) = match fetched {
            Fetched::NotModified { caching } => {
                let held = held.ok_or(Failure::NothingToRenew)?;
                // RFC 9111 §4.3.4: what the 304 does not say stays as it was.
                let caching = Caching { max_age: caching.max_age.or(held.max_age), ..caching };
                return Ok(Answer {
                    keys: Arc::clone(&held.keys),
                    body: held.body.clone(),
                    etag: held.etag.clone(),
                    caching,
                });
            }
            Fetched::Document { body, etag, caching } => (body, etag, caching),
        };
        if let Some(held) = held.filter(|held| held.body == body) {
            return Ok(Answer { keys: Arc::clone(&held.keys), body: held.body.clone(), etag, caching });
        }
        if body.len() > self.limits.body_limit_bytes {
            return Err(Failure::TooLarge { found: body.len(), limit: self.limits.body_limit_bytes });
        }
        let keys = KeySet::parse(&body)?;
        let found = keys.len() + keys.refused().len();
        if found > self.limits.max_keys {
            return Err(Failure::TooManyKeys { found, limit: self.limits.max_keys });
        }
        if keys.is_empty() {
            return Err(Failure::NoUsableKey { refused: keys.refused().len() });
        }
        Ok(Answer { keys: Arc::new(keys), body, etag, caching })
    }

    /// Puts an answer in place, unless a newer one is there.
    fn install(&self, state: &mut State, sequence: u64, asked_at: Instant, answer: Answer) {
        let held = self.snapshot.load();
        let held = held.as_deref();
        if held.is_some_and(|held| held.sequence > sequence) {
            tracing::debug!("a key set came later than a newer one and was dropped");
            return;
        }
        let changed = held.is_none_or(|held| held.body != answer.body);
        let generation = held.map_or(0, |held| held.generation) + u64::from(changed);
        if changed {
            log_change(held, &answer.keys, generation);
        }
        let (fresh, trusted) = lifetimes(answer.caching, &self.limits);
        state.refresh_at = (asked_at + refresh_after(fresh, jitter())).max(Instant::now() + SHORTEST_PAUSE);
        if state.failures > 0 {
            tracing::info!(failures = state.failures, "the key set can be fetched again");
        }
        state.failures = 0;
        self.snapshot.store(Some(Arc::new(Snapshot {
            keys: answer.keys,
            generation,
            sequence,
            body: answer.body,
            etag: answer.etag,
            max_age: answer.caching.max_age,
            asked_at,
            fresh_until: asked_at + fresh,
            trusted_until: asked_at + trusted,
        })));
        self.rescheduled.notify_one();
    }

    /// Keeps what is held. Only the scheduled lane backs off: what strangers send must not move the schedule.
    fn fail(&self, state: &mut State, lane: Lane, failure: &Failure) {
        let now = Instant::now();
        let held = self.held(now);
        if lane == Lane::Scheduled {
            let held_for = held.as_ref().map(|held| HeldFor {
                fresh: held.fresh_until.saturating_duration_since(held.asked_at),
                trusted: held.trusted_until.saturating_duration_since(now),
            });
            state.refresh_at = now + backoff(state.failures, held_for, jitter());
            state.failures = state.failures.saturating_add(1);
        }
        let error: &dyn Error = failure;
        let trusted_for_s = held.map(|held| held.trusted_until.saturating_duration_since(now).as_secs());
        match trusted_for_s {
            Some(_) => tracing::warn!(error, trusted_for_s, "no new key set; the held one stays in use"),
            None => tracing::error!(error, "no key set; tokens can't be verified"),
        }
    }
}

/// An answer that may be put in place.
struct Answer {
    keys: Arc<KeySet>,
    body: Bytes,
    etag: Option<String>,
    caching: Caching,
}

/// One line for the change, one for each entry that is not used.
fn log_change(held: Option<&Snapshot>, keys: &KeySet, generation: u64) {
    let kids = |keys: &KeySet, other: Option<&KeySet>| -> Vec<String> {
        let kids = keys.keys().iter().filter_map(PublicJwk::kid);
        kids.filter(|kid| other.is_none_or(|other| !other.contains_kid(kid))).map(excerpt).collect()
    };
    let before = held.map(|held| &*held.keys);
    let added = kids(keys, before);
    let removed = before.map_or(Vec::new(), |before| kids(before, Some(keys)));
    let (added, removed) = (added.join(" "), removed.join(" "));
    tracing::info!(generation, keys = keys.len(), %added, %removed, "the key set has changed");
    for refused in keys.refused() {
        let (index, kid, reason) = (refused.index, refused.kid.as_deref().map(display), &refused.reason as &dyn Error);
        if refused.is_alarming() {
            tracing::error!(index, kid, reason, "the issuer publishes secret key material; the key is not used");
        } else if refused.reason.is_unsupported() {
            tracing::debug!(index, kid, reason, "an entry of the key set is of a kind that is not used here");
        } else {
            tracing::warn!(index, kid, reason, "an entry of the key set is not used");
        }
    }
}

/// How long a `kid` that a fetch did not bring is not looked for again. Not for good: a replica of the issuer or a shared
/// cache may have answered with an older set.
const UNKNOWN_COOLDOWNS: u32 = 6;

/// Discovery and the set.
const EXCHANGES_PER_FETCH: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Answer as Script, ScriptedIssuer, Signer};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_that_fails_does_not_move_the_schedule() {
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let cache = KeyCache::start(KeyCacheSettings {
            fetcher: Box::new(issuer.clone()),
            limits: Limits::default(),
            runtime: Handle::current(),
            meter: Meter::default(),
        });
        let schedule = || {
            let state = cache.shared.lock();
            (state.refresh_at, state.failures)
        };
        tokio::time::sleep(seconds(6)).await;
        let before = schedule();
        issuer.answers(Script::Down);

        cache.search(Some("invented")).expect("the cooldown is over").landed().await;

        assert_eq!(issuer.fetch_count(), 2);
        assert_eq!(schedule(), before);
    }
}
