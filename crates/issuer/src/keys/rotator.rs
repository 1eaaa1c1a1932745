//! The rotator: brings the stored keys in line with the timetable.
//!
//! One visit ([`Rotator::tick`]) reads the rows, asks the ring what is due, generates what is missing on a blocking
//! thread, stores it, and puts the result in force. It takes no input, is idempotent, and may come late, twice, or not
//! at all: the timetable decides when a key signs, and the next visit catches up. It is woken by a schedule
//! (`tokio-cron-scheduler`, which does nothing but wake), at start-up, when another process has changed the rows, and
//! by the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{AgesInUse, KeyRecord, Keyring, RotationPolicy, Step};
use serde_json::json;
use tokio::sync::{Mutex, Notify};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::{error, info, warn};

use super::coverage::{self, HeldKey};
use super::material::{MaterialError, PrivateKey};
use super::restore::{self, Settlement};
use super::seal::{KeyEncryptionKeys, SealError};
use super::{Keys, LoadError};
use crate::chain;
use crate::edges::{Author, Clock, Edges};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::storage::{By, Generations, KeyChange, KeysApplied, NewKey, Restored, Store, StoreError};

/// Why a visit failed. The keys in force stay in force.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The database.
    #[error("the signing keys could not be read or stored")]
    Store(#[from] StoreError),
    /// The stored private halves.
    #[error("the stored signing keys cannot be used")]
    Load(#[from] LoadError),
    /// Key generation.
    #[error("a signing key could not be made")]
    Generate(#[from] MaterialError),
    /// Sealing.
    #[error("a signing key could not be sealed")]
    Seal(#[from] SealError),
    /// The wake-up schedule.
    #[error("the wake-up schedule could not be set up")]
    Schedule(#[from] JobSchedulerError),
    /// The database took too long.
    #[error("the database did not answer within a poll")]
    TooSlow,
    /// The plan never came to rest.
    #[error("the rotation plan does not come to rest")]
    Restless,
}

/// Brings the stored keys in line with the timetable.
pub struct Rotator {
    store: Store,
    keys: Arc<Keys>,
    kek: Arc<KeyEncryptionKeys>,
    policy: RotationPolicy,
    rsa_bits: usize,
    /// How long a rotation waits for fetchers that lack the key.
    hold: Duration,
    clock: Arc<dyn Clock>,
    author: Author,
    metrics: Arc<Metrics>,
    wake: Notify,
    /// One visit at a time in this process; between processes the database decides.
    visiting: Mutex<()>,
    /// One reading at a time, so that what was read later is put in force later.
    reading: Mutex<()>,
    /// When [`run`](Self::run) last came round.
    ran: Heartbeat,
    /// When [`watch`](Self::watch) last came round.
    watched: Heartbeat,
}

/// When a loop last came round, in milliseconds of [`Clock::elapsed`].
struct Heartbeat(AtomicU64);

impl Heartbeat {
    fn new(clock: &dyn Clock) -> Self {
        let heartbeat = Self(AtomicU64::new(0));
        heartbeat.beat(clock);
        heartbeat
    }

    fn beat(&self, clock: &dyn Clock) {
        self.0.store(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn age(&self, clock: &dyn Clock) -> Duration {
        clock.elapsed().saturating_sub(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

/// What one round of a visit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Something was stored; more may be due.
    Changed,
    /// Nothing is due.
    AtRest,
}

impl Rotator {
    /// A rotator for `keys`.
    #[must_use]
    pub fn new(
        store: Store,
        keys: Arc<Keys>,
        kek: Arc<KeyEncryptionKeys>,
        policy: RotationPolicy,
        rsa_bits: usize,
        edges: &Edges,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (clock, author) = (Arc::clone(&edges.clock), edges.author.clone());
        let (wake, visiting, reading) = (Notify::new(), Mutex::new(()), Mutex::new(()));
        let hold = Duration::ZERO;
        let (ran, watched) = (Heartbeat::new(clock.as_ref()), Heartbeat::new(clock.as_ref()));
        Self { store, keys, kek, policy, rsa_bits, hold, clock, author, metrics, wake, visiting, reading, ran, watched }
    }

    /// Lets rotations wait for regular fetchers that lack the key, each for `limit` at most.
    #[must_use]
    pub fn holding_for_coverage(self, limit: Duration) -> Self {
        Self { hold: limit, ..self }
    }

    /// Asks for a visit soon.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Gets the keys into a state in which the issuer may start to serve: read, able to sign, and kept for as long as
    /// its tokens will live. What takes longer and can wait (the standby) is left to the next visit.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn prepare(&self) -> Result<(), RotationError> {
        self.generations().await?;
        self.settle_restored().await?;
        // Told before the first set is handed out, so that every replica announces keys for long enough.
        let policy = self.policy_in_force().await?;
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now();
            let ring = self.reload().await?;
            let due = ring.plan(&policy, self.keys.algorithms(), now);
            let promises = due.iter().any(|step| matches!(step, Step::Raise { .. } | Step::Postpone { .. }));
            if !promises && self.keys.ready(now).is_ok() {
                return Ok(());
            }
            if self.round().await? == Round::AtRest {
                return Ok(());
            }
        }
        Err(RotationError::Restless)
    }

    /// Brings everything in line: rounds until nothing is due.
    ///
    /// # Errors
    /// [`RotationError`]; what was stored before stays, and the next visit goes on from there.
    pub async fn tick(&self) -> Result<(), RotationError> {
        self.settle_restored().await?;
        for _ in 0..MAX_ROUNDS {
            if self.round().await? == Round::AtRest {
                self.hold_for_coverage().await?;
                self.metrics.last_tick.set(self.clock.now().as_unix());
                return Ok(());
            }
        }
        Err(RotationError::Restless)
    }

    /// One round: read, plan, generate, store, put in force.
    ///
    /// # Errors
    /// [`RotationError`]; nothing of this round is stored then.
    pub async fn round(&self) -> Result<Round, RotationError> {
        let _one_at_a_time = self.visiting.lock().await;
        let policy = self.policy_in_force().await?;
        let ring = self.reload().await?;
        let algorithms = self.keys.algorithms();
        let steps = ring.plan(&policy, algorithms, self.clock.now());
        if steps.is_empty() {
            return Ok(Round::AtRest);
        }
        let mut made = Vec::new();
        for step in &steps {
            if let Step::Create { alg, .. } = step {
                made.push(PrivateKey::generate_in_background(*alg, self.rsa_bits).await?);
            }
        }
        // Making a key takes time, and its announcement runs from when it is stored, not from when it was planned. Others
        // may have moved dates meanwhile.
        let ring = if made.is_empty() { ring } else { self.reload().await? };
        let now = self.clock.now();
        let steps = ring.plan(&policy, algorithms, now);
        let changes = changes(&ring, steps, &mut made, &self.kek, now)?;
        match self.store.change_keys(&changes, &By::new(&self.author, now)).await? {
            KeysApplied::Raced => info!("another process made the next key first"),
            KeysApplied::Done => {
                for change in &changes {
                    self.log(change);
                }
                self.postpone_if_late(&changes).await?;
            }
        }
        self.reload().await?;
        Ok(Round::Changed)
    }

    /// Puts off what is about to sign while a regular fetcher lacks it.
    async fn hold_for_coverage(&self) -> Result<(), RotationError> {
        if self.hold.is_zero() {
            return Ok(());
        }
        let policy = self.policy_in_force().await?;
        let held = self.store.load_held_keys().await?;
        let now = self.clock.now();
        if self.keys.with_ring(|ring| coverage::holdable(ring, &held, &policy, now).is_empty()) {
            return Ok(());
        }
        let fetchers = self.store.load_fetchers().await?;
        let holds = self.keys.with_ring(|ring| coverage::due_holds(ring, &fetchers, &held, &policy, self.hold, now));
        for hold in &holds {
            if self.store.hold_key(hold, &By::new(&self.author, now)).await? == KeysApplied::Raced {
                continue;
            }
            let HeldKey { kid, planned, held_until } = &hold.key;
            let missing = &hold.missing;
            if *held_until == hold.latest {
                warn!(kid, alg = %hold.alg, %planned, %held_until, missing, "key waits for the last time for fetchers that lack it");
            } else {
                info!(kid, alg = %hold.alg, %planned, %held_until, missing, "key waits for fetchers that lack it");
            }
        }
        if !holds.is_empty() {
            self.reload().await?;
        }
        Ok(())
    }

    /// The policy that keys are announced by: the configured one, with an announcement that covers every set which any
    /// replica has handed out and may still be cached.
    ///
    /// # Errors
    /// [`RotationError::Store`].
    pub async fn policy_in_force(&self) -> Result<RotationPolicy, RotationError> {
        loop {
            let known = self.store.load_ages().await?;
            let renewed = AgesInUse::renewed(known, &self.policy, self.clock.now());
            if known == Some(renewed) || self.store.renew_ages(known, renewed).await? {
                let ages = known.map_or(renewed.ages, |known| known.ages.max(renewed.ages));
                return Ok(self.policy.honouring(ages));
            }
        }
    }

    /// Goes through the keys of a database that was restored from a backup, before anything is signed with them;
    /// `None` when it was not, or another process was first. What was done is told in the log and the audit log.
    ///
    /// # Errors
    /// [`RotationError`]; nothing is stored then.
    pub async fn settle_restored(&self) -> Result<Option<Settlement>, RotationError> {
        let _one_at_a_time = self.visiting.lock().await;
        for _ in 0..MAX_ROUNDS {
            let Some(Restored { backup_at }) = self.store.restored().await? else { return Ok(None) };
            let stored = self.store.load_keys().await?;
            let ring = Keyring::new(stored.into_iter().map(|key| key.record).collect());
            let algorithms = self.keys.algorithms();
            let mut made = Vec::new();
            for step in restore::settle(&ring, &self.policy, algorithms, self.clock.now()).1 {
                if let Step::Create { alg, .. } = step {
                    made.push(PrivateKey::generate_in_background(alg, self.rsa_bits).await?);
                }
            }
            // Making a key takes time; what it was made for may be needed for another ring now.
            let now = self.clock.now();
            let (rings, steps) = restore::settle(&ring, &self.policy, algorithms, now);
            if steps.len() > made.len() {
                continue;
            }
            let changes = changes(&ring, steps, &mut made, &self.kek, now)?;
            let settlement = Settlement { backup_at, rings, usable: restore::usable(&ring, now) };
            let by = By::new(&self.author, now);
            if self.store.settle_restored(&changes, json!(settlement), &by).await? == KeysApplied::Done {
                settlement.tell();
                changes.iter().for_each(|change| self.log(change));
                return Ok(Some(settlement));
            }
        }
        Err(RotationError::Restless)
    }

    /// Reads the rows and puts them in force, and changes nothing.
    ///
    /// # Errors
    /// [`RotationError::Store`], [`RotationError::Load`].
    pub async fn read(&self) -> Result<(), RotationError> {
        self.reload().await.map(|_| ())
    }

    /// Reads the rows and puts them in force.
    async fn reload(&self) -> Result<Keyring, RotationError> {
        let _one_at_a_time = self.reading.lock().await;
        let started = self.clock.elapsed();
        let stored = self.store.load_keys().await?;
        let ring = Keyring::new(stored.iter().map(|key| key.record.clone()).collect());
        self.keys.install(stored, &self.kek, started, self.clock.now())?;
        Ok(ring)
    }

    /// A commit that took longer than a poll has eaten into the announcement: the key starts later by as much.
    async fn postpone_if_late(&self, changes: &[KeyChange]) -> Result<(), RotationError> {
        let now = self.clock.now();
        let late: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                KeyChange::Insert(key) if key.record.sign_from > now => {
                    let lateness = now.duration_since(key.record.publish_at);
                    let slow = lateness > self.policy.replica_convergence() / 2;
                    slow.then(|| KeyChange::Postpone {
                        kid: key.record.kid.clone(),
                        planned: key.record.sign_from,
                        sign_from: key.record.sign_from + lateness,
                    })
                }
                _ => None,
            })
            .collect();
        self.store.change_keys(&late, &By::new(&self.author, now)).await?;
        Ok(())
    }

    fn log(&self, change: &KeyChange) {
        match change {
            KeyChange::Insert(key) | KeyChange::Import(key) => {
                let KeyRecord { kid, alg, publish_at, sign_from, .. } = &key.record;
                info!(kid, %alg, %publish_at, %sign_from, "key created");
            }
            KeyChange::PublishEarlier { kid, publish_at } => info!(kid, %publish_at, "key published early"),
            KeyChange::Postpone { kid, sign_from, .. } => info!(kid, %sign_from, "key postponed"),
            KeyChange::Raise { kid, max_ttl, clock_skew } => {
                info!(kid, max_ttl_s = max_ttl.as_secs(), clock_skew_s = clock_skew.as_secs(), "key kept for longer");
            }
            KeyChange::Rewrap { kid, under, .. } => info!(kid, under, "private half sealed anew"),
            KeyChange::DestroyPrivate { kid } => info!(kid, "private half destroyed"),
            KeyChange::Delete { kid } => {
                for alg in Algorithm::ALL {
                    self.metrics.forget_key(kid, alg);
                }
                info!(kid, "key forgotten");
            }
            KeyChange::BringForward { kid, sign_from, .. } => warn!(kid, %sign_from, "key brought forward"),
            KeyChange::Revoke { kid, revoked_at, .. } => warn!(kid, %revoked_at, "key revoked"),
        }
    }

    /// Visits whenever woken, until `shutdown`. A visit that fails or panics is reported, and tried again.
    pub async fn run(self: Arc<Self>, mut scheduler: JobScheduler, mut shutdown: Shutdown) {
        loop {
            self.ran.beat(self.clock.as_ref());
            tokio::select! {
                () = self.wake.notified() => {}
                () = shutdown.ordered() => break,
            }
            let this = Arc::clone(&self);
            // In a task of its own, so that a panic is an error like others and not the end of all rotation.
            let mut visit = tokio::spawn(async move { this.tick().await });
            let failure = tokio::select! {
                result = &mut visit => match result {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => chain(&error),
                    Err(error) => error.to_string(),
                },
                () = shutdown.ordered() => {
                    visit.abort();
                    break;
                }
            };
            self.metrics.failed_ticks.inc();
            error!(error = failure, "rotation could not be prepared; the keys in force go on, and it is tried again");
        }
        if let Err(error) = scheduler.shutdown().await {
            warn!(%error, "the wake-up schedule did not stop");
        }
    }

    /// Sees what other processes changed, until `shutdown`: keys are put in force at once (a visit may
    /// be busy making the next one), and `clients_changed` is called when it was clients.
    pub async fn watch(&self, clients_changed: impl Fn() + Send + Sync, mut shutdown: Shutdown) {
        let mut seen = None;
        let mut reachable = true;
        let mut changes = self.store.changes(self.policy.poll());
        loop {
            self.watched.beat(self.clock.as_ref());
            tokio::select! {
                () = changes.next() => {}
                () = shutdown.ordered() => return,
            }
            // One period and one timeout make `replica_convergence`.
            let look = tokio::time::timeout(self.policy.poll(), self.look(seen, &clients_changed)).await;
            match look.unwrap_or(Err(RotationError::TooSlow)) {
                Ok(found) => {
                    if !reachable {
                        info!("the database answers again");
                    }
                    (seen, reachable) = (Some(found), true);
                }
                Err(error) => {
                    if reachable {
                        warn!(error = chain(&error), "cannot see what changed in the database");
                    }
                    reachable = false;
                }
            }
        }
    }

    /// Which of the two loops has not come round for longer than a lost database can hold it up, if one has.
    #[must_use]
    pub fn hanging(&self) -> Option<&'static str> {
        let clock = self.clock.as_ref();
        if self.ran.age(clock) > VISIT_LIMIT {
            Some("the rotator")
        } else if self.watched.age(clock) > 2 * self.policy.poll() + LOOK_MARGIN {
            Some("the watch over the database")
        } else {
            None
        }
    }

    /// Asks the database for its generations, and compares the clocks by the way.
    async fn generations(&self) -> Result<Generations, RotationError> {
        let before_ms = self.clock.now_ms();
        let look = self.store.look().await?;
        if let Some(database_ms) = look.clock_ms {
            self.keys.compare_clock(before_ms, database_ms, self.clock.now_ms());
        }
        Ok(look.generations)
    }

    async fn look(
        &self,
        seen: Option<Generations>,
        clients_changed: impl Fn() + Send + Sync,
    ) -> Result<Generations, RotationError> {
        let started = self.clock.elapsed();
        let found = self.generations().await?;
        if seen.is_none_or(|seen| seen.keys != found.keys) {
            self.reload().await?;
            self.wake();
        } else {
            self.keys.confirm_fresh(started);
        }
        if seen.is_none_or(|seen| seen.clients != found.clients) {
            clients_changed();
        }
        Ok(found)
    }

    /// Wakes the rotator by the clock. The schedule overlaps runs and forgets panics, so its job only wakes.
    ///
    /// # Errors
    /// [`RotationError::Schedule`].
    pub async fn schedule(self: &Arc<Self>) -> Result<JobScheduler, RotationError> {
        let every = self.policy.poll().as_secs().clamp(1, 30);
        let scheduler = JobScheduler::new().await?;
        let rotator = Arc::clone(self);
        let job = Job::new_async(format!("*/{every} * * * * *").as_str(), move |_, _| {
            let rotator = Arc::clone(&rotator);
            Box::pin(async move { rotator.wake() })
        })?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok(scheduler)
    }
}

/// What `steps` mean for the rows of `ring`. A `Create` takes its key out of `made`; one that finds none there waits for
/// the next round.
pub(crate) fn changes(
    ring: &Keyring,
    steps: Vec<Step>,
    made: &mut Vec<PrivateKey>,
    kek: &KeyEncryptionKeys,
    now: Timestamp,
) -> Result<Vec<KeyChange>, SealError> {
    let mut changes = Vec::new();
    for step in steps {
        changes.push(match step {
            Step::Create { alg, serial, publish_at, sign_from, max_ttl, clock_skew, .. } => {
                let Some(place) = made.iter().position(|key| key.alg == alg) else { continue };
                let PrivateKey { pkcs8, jwk, .. } = made.swap_remove(place);
                let kid = jwk.thumbprint();
                let sealed_private = kek.seal(&kid, alg, &pkcs8)?;
                let (created_at, revoked_at, has_private) = (now, None, true);
                let record = KeyRecord {
                    kid,
                    alg,
                    serial,
                    jwk,
                    created_at,
                    publish_at,
                    sign_from,
                    max_ttl,
                    clock_skew,
                    revoked_at,
                    has_private,
                };
                KeyChange::Insert(Box::new(NewKey { record, sealed_private }))
            }
            Step::PublishEarlier { kid, publish_at } => KeyChange::PublishEarlier { kid, publish_at },
            Step::BringForward { kid, publish_at, sign_from } => KeyChange::BringForward { kid, publish_at, sign_from },
            Step::Postpone { kid, sign_from } => {
                let Some(planned) = ring.key(&kid).map(|key| key.sign_from) else { continue };
                KeyChange::Postpone { kid, planned, sign_from }
            }
            Step::Raise { kid, max_ttl, clock_skew } => KeyChange::Raise { kid, max_ttl, clock_skew },
            Step::Revoke { kid, revoked_at } => KeyChange::Revoke { kid, revoked_at, reason: None },
            Step::DestroyPrivate { kid } => KeyChange::DestroyPrivate { kid },
            Step::Delete { kid } => KeyChange::Delete { kid },
        });
    }
    Ok(changes)
}

/// A first key, its standby, an early successor and clean-up are four rounds; more means a plan that contradicts itself.
const MAX_ROUNDS: usize = 16;

/// Longer than any visit and the wait for it: large RSA keys take a slow machine minutes, a query is given up after seconds.
const VISIT_LIMIT: Duration = Duration::from_secs(600);
/// What a look may take besides its period and its timeout.
const LOOK_MARGIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LOOK_MARGIN, VISIT_LIMIT};
    use crate::shutdown::shutdown;
    use crate::testing::Home;

    #[tokio::test]
    async fn a_loop_that_does_not_come_round_is_found_hanging() {
        let home = Home::new();
        let app = home.open().await;
        let rotator = app.rotator();
        let clock = home.clock.as_ref();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).expect("a short time");
        let look_limit = seconds(2 * app.config.keys.rotation.poll() + LOOK_MARGIN);

        assert_eq!(rotator.hanging(), None);
        home.clock.advance(look_limit);
        assert_eq!(rotator.hanging(), None);
        home.clock.advance(1);
        assert_eq!(rotator.hanging(), Some("the watch over the database"));

        rotator.watched.beat(clock);
        assert_eq!(rotator.hanging(), None);
        home.clock.advance(seconds(VISIT_LIMIT));
        rotator.watched.beat(clock);
        assert_eq!(rotator.hanging(), Some("the rotator"));

        rotator.ran.beat(clock);
        assert_eq!(rotator.hanging(), None);
    }

    /// The only test that waits for real time: the scheduler polls the system's clock twice a second.
    #[tokio::test]
    async fn the_schedule_wakes_the_rotator() {
        let home = Home::new();
        let app = home.open().await;
        let rotator = std::sync::Arc::clone(app.rotator());
        let (stop, ordered) = shutdown();
        let scheduler = rotator.schedule().await.expect("a schedule");
        let running = tokio::spawn(std::sync::Arc::clone(&rotator).run(scheduler, ordered));
        home.clock.advance(60);

        let woken = async {
            while app.store.load_keys().await.expect("rows").len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), woken).await.expect("a third key is made");

        stop.stop();
        tokio::time::timeout(Duration::from_secs(20), running).await.expect("it stops").expect("without a panic");
    }
}
