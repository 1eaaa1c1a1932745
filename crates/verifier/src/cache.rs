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
//! All of that is decided in [`ledger`]; here are the tasks that act on it. Reading is one atomic load.
//! Nothing here knows what a token is.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::answer::{Failure, judge};
use crate::change::{self, ALARM, PublishedSecrets};
use crate::fetch::{FetchError, FetchKeys};
use crate::ledger::{self, Attempt, Finished, Ledger, Lock, Search, Slot, Threads};
use crate::limits::Limits;
use crate::metrics::{Alarm, FetchOutcome, FetchReport, Meter, UnknownKid};
use crate::schedule::{SHORTEST_PAUSE, jitter};
use crate::text::excerpt;
use crate::warm_start::{WallClock, WarmStart};

pub(crate) use crate::ledger::Snapshot;

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
    /// Where the set is kept for the next start.
    pub(crate) warm_start: Option<WarmStart>,
    /// Reads the wall clock, which is the only one that goes on between two starts.
    pub(crate) wall_clock: WallClock,
}

/// The handle: the tasks hold what is shared, never this, and end when it is dropped.
pub(crate) struct KeyCache {
    shared: Arc<Shared>,
    _alive: watch::Sender<()>,
}

struct Shared {
    ledger: Ledger<Tokio>,
    /// The scheduled instant has moved.
    rescheduled: Notify,
    fetcher: Box<dyn FetchKeys>,
    limits: Limits,
    runtime: Handle,
    meter: Meter,
    secrets: Mutex<PublishedSecrets>,
    /// The set that is to be written for the next start, if anybody writes it.
    to_keep: watch::Sender<Option<Arc<Snapshot>>>,
    alive: watch::Receiver<()>,
}

/// The ledger on tokio: a reader's load is arc-swap's, and a waiter is a task.
pub(crate) struct Tokio;

impl Threads for Tokio {
    type Lock<T: Send> = Mutex<T>;
    type Slot<T: Send + Sync> = ArcSwapOption<T>;
    type Landing = watch::Sender<()>;
    type Flight = Flight;

    fn flight() -> (Self::Landing, Flight) {
        let (landing, flight) = watch::channel(());
        (landing, Flight(flight))
    }
}

impl<T> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Slot<T> for ArcSwapOption<T> {
    fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.load().as_deref())
    }

    fn load(&self) -> Option<Arc<T>> {
        self.load_full()
    }

    fn store(&self, value: Arc<T>) {
        self.store(Some(value));
    }
}

/// A fetch under way. It is a task of its own: who waits for it may go away without harm.
#[derive(Clone)]
pub(crate) struct Flight(watch::Receiver<()>);

impl Flight {
    /// Waits until the fetch has ended, well or badly.
    pub(crate) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl ledger::Flight for Flight {
    fn in_the_air(&self) -> bool {
        self.0.has_changed().is_ok()
    }
}

impl KeyCache {
    /// Takes up the set of the last process where there is one, begins the first fetch on `runtime` and keeps the set fresh
    /// from then on.
    pub(crate) fn start(settings: KeyCacheSettings) -> Self {
        let KeyCacheSettings { fetcher, limits, runtime, meter, warm_start, wall_clock } = settings;
        let now = Instant::now();
        let (alive_sender, alive) = watch::channel(());
        let (to_keep, kept) = watch::channel(None);
        let shared = Arc::new(Shared {
            ledger: Ledger::new(limits.clone(), now),
            rescheduled: Notify::new(),
            fetcher,
            limits,
            runtime,
            meter,
            secrets: Mutex::default(),
            to_keep,
            alive,
        });
        if let Some(warm_start) = warm_start {
            if let Some((answer, asked_at)) = warm_start.load(&shared.limits, now, wall_clock()) {
                let held = shared.ledger.preload(answer, asked_at);
                shared.report_change(None, &held);
            }
            shared.spawn(warm_start.keep(kept, wall_clock));
        }
        // Begun here, not in the task: a caller that comes before the task's first step joins this fetch.
        let first = shared.launch_scheduled();
        shared.spawn(Arc::clone(&shared).keep_fresh(first));
        Self { shared, _alive: alive_sender }
    }

    /// Who is told what happens.
    pub(crate) fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// Calls `read` with the set, unless there is none that is still trusted. Takes no lock and shares no counter.
    pub(crate) fn read<T>(&self, read: impl FnOnce(Option<&Snapshot>) -> T) -> T {
        self.shared.ledger.read(|held| read(held.filter(|held| Instant::now() < held.trusted_until)))
    }

    /// Looks for a `kid` that the held set does not have, or for any set where none is held: joins the fetch that is in
    /// flight or begins one. `None` means that nothing will come of it for now; the caller has its answer at once.
    pub(crate) fn search(&self, kid: Option<&str>) -> Option<Flight> {
        let (event, flight) = match self.shared.ledger.search(kid, Instant::now()) {
            Search::Begun(attempt, flight) => {
                tracing::debug!(
                    kid = kid.map(excerpt).map(display),
                    "fetching the key set for a key that is not in it"
                );
                self.shared.launch(attempt);
                (UnknownKid::Fetching, Some(flight))
            }
            Search::Joined(flight) => (UnknownKid::Joined, Some(flight)),
            Search::CoolingDown => (UnknownKid::CoolingDown, None),
            Search::Settled => (UnknownKid::Settled, None),
        };
        self.shared.meter.tell(|metrics| metrics.unknown_kid(event));
        flight
    }

    /// When the next attempt may have brought keys: at least a second, so that it makes a sensible `Retry-After`.
    pub(crate) fn retry_after(&self) -> Duration {
        self.shared.ledger.next_attempt_in(Instant::now()).max(Duration::from_secs(1))
    }

    pub(crate) fn health(&self) -> Health {
        let now = Instant::now();
        let Some(held) = self.shared.ledger.trusted(now) else {
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

    /// The scheduled lane, which is started again whenever it breaks.
    async fn keep_fresh(self: Arc<Self>, first: Flight) {
        first.landed().await;
        supervised(|| self.follow_schedule(), |message| self.report_panic("the background refresh", message)).await;
    }

    async fn follow_schedule(self: &Arc<Self>) {
        loop {
            let due = self.ledger.refresh_at();
            if Instant::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.rescheduled.notified() => {}
                }
                continue;
            }
            self.launch_scheduled().landed().await;
        }
    }

    /// Begins a scheduled fetch, or joins the one under way.
    fn launch_scheduled(self: &Arc<Self>) -> Flight {
        match self.ledger.begin_scheduled(Instant::now()) {
            Ok((attempt, flight)) => {
                self.launch(attempt);
                flight
            }
            Err(flight) => flight,
        }
    }

    /// Fetches in a task of its own.
    fn launch(self: &Arc<Self>, attempt: Attempt<Tokio>) {
        let shared = Arc::clone(self);
        self.spawn(async move {
            // What breaks in here has ended its attempt already or loses it; either way the schedule goes on.
            if let Err(message) = caught(shared.fetch(attempt)).await {
                shared.report_panic("a fetch", &message);
            }
        });
    }

    /// One attempt from request to result.
    async fn fetch(&self, attempt: Attempt<Tokio>) {
        let (lane, asked_at) = (attempt.lane, attempt.asked_at);
        // The client has deadlines of its own; another implementation of the seam may have none.
        let limit = self.limits.exchange_deadline * DEADLINES_PER_FETCH;
        let held = attempt.held.as_deref();
        let outcome = caught(async {
            let etag = held.and_then(|held| held.etag.as_deref());
            let answer = timeout(limit, self.fetcher.fetch(etag)).await.unwrap_or(Err(FetchError::TimedOut { limit }));
            judge(answer?, held, &self.limits)
        });
        let outcome = outcome.await.unwrap_or_else(|message| Err(Failure::Panicked { message }));

        let now = Instant::now();
        let finished = self.ledger.finish(attempt, outcome, now, jitter());
        // Before anything is reported: reports run code of the user's.
        if let Finished::Installed { after, .. } = &finished {
            self.rescheduled.notify_one();
            self.to_keep.send_replace(Some(Arc::clone(after)));
        }
        let duration = now.saturating_duration_since(asked_at);
        let outcome = self.report(&finished);
        self.meter.tell(|metrics| metrics.fetched(&FetchReport { lane, outcome, duration }));
    }

    fn report(&self, finished: &Finished) -> FetchOutcome {
        match finished {
            Finished::Installed { before, after, failures } => {
                if *failures > 0 {
                    tracing::info!(failures, "the key set can be fetched again");
                }
                if before.as_ref().is_some_and(|before| before.generation == after.generation) {
                    return FetchOutcome::Unchanged;
                }
                self.report_change(before.as_deref(), after);
                FetchOutcome::Changed
            }
            Finished::Late => {
                tracing::debug!("a key set came later than a newer one and was dropped");
                FetchOutcome::Late
            }
            Finished::Failed { failure, trusted_for } => {
                let error: &dyn Error = failure;
                match trusted_for.map(|trusted_for| trusted_for.as_secs()) {
                    Some(trusted_for_s) => {
                        tracing::warn!(error, trusted_for_s, "no new key set; the held one stays in use");
                    }
                    None => tracing::error!(error, "no key set; tokens can't be verified"),
                }
                if let Failure::Panicked { message } = failure {
                    self.report_panic("the key source", message);
                }
                self.secrets.with(|secrets| secrets.report(failure.refused(), &self.meter));
                failure.outcome()
            }
        }
    }

    fn report_change(&self, before: Option<&Snapshot>, after: &Snapshot) {
        change::report(before.map(|before| &*before.keys), &after.keys, after.generation, &self.meter);
        self.secrets.with(|secrets| secrets.report(after.keys.refused(), &self.meter));
    }

    fn report_panic(&self, place: &'static str, message: &str) {
        tracing::error!(target: ALARM, message, "{place} panicked; it is started again");
        self.meter.tell(|metrics| metrics.alarm(Alarm::RefreshPanicked));
    }
}

/// Runs what never ends, again after each panic.
async fn supervised<F: Future<Output = ()>>(mut run: impl FnMut() -> F, mut report: impl FnMut(&str)) {
    while let Err(message) = caught(run()).await {
        // The report itself may be what breaks: the user's subscriber listens.
        let _ = catch_unwind(AssertUnwindSafe(|| report(&message)));
        sleep(SHORTEST_PAUSE).await;
    }
}

/// A future whose panics are errors: what it said, escaped and cut.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // Unwind safe: after a panic the future is only dropped.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(said(&*payload))),
        }
    })
    .await
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "no message".to_owned(), excerpt)
}

/// Discovery and the set. A second place for discovery is asked only after a quick "not found" from the first.
const DEADLINES_PER_FETCH: u32 = 2;

#[cfg(test)]
mod tests;
