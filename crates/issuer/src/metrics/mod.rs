//! What is counted, for Prometheus. Labels are bounded: endpoints, algorithms, key ids, outcomes, registered error codes;
//! never anything a request brought along.
//!
//! Each token and each key set pass here, so what they count is found beforehand: no look-up, no lock, no allocation.
//! Outcomes are there from the start with zero, because an alert can't see the first step of what appears with it.

mod process;
mod requests;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{Keyring, Phase, RotationPolicy};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use requests::Requests;

/// Label: a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RingLabel {
    alg: AlgorithmLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AlgorithmLabel(Algorithm);

impl EncodeLabelValue for AlgorithmLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0.as_str())
    }
}

impl From<Algorithm> for RingLabel {
    fn from(alg: Algorithm) -> Self {
        Self { alg: AlgorithmLabel(alg) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    alg: AlgorithmLabel,
    kid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    alg: AlgorithmLabel,
    phase: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrantLabel {
    grant_type: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
}

/// How often something went which way.
#[derive(Clone)]
pub(crate) struct Outcomes(Family<OutcomeLabel, Counter>);

impl Outcomes {
    fn new(known: &[&'static str]) -> Self {
        let family = Family::default();
        for outcome in known {
            drop(family.get_or_create(&OutcomeLabel { outcome }));
        }
        Self(family)
    }

    /// Counts one of the outcomes that [`Metrics::new`] lists.
    pub(crate) fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// Tokens issued, by what for.
pub(crate) struct Grants {
    pub(crate) client_credentials: Counter,
    pub(crate) authorization_code: Counter,
    pub(crate) refresh_token: Counter,
    /// Sign-ins by `/api/session`.
    pub(crate) session: Counter,
}

/// What the database is asked for, and how long it takes.
#[derive(Clone)]
pub(crate) struct StoreMetrics {
    transactions: Family<OperationLabel, Histogram, fn() -> Histogram>,
    waits: Histogram,
    errors: Family<OperationLabel, Counter>,
}

impl StoreMetrics {
    /// Counts a transaction: how long it waited for its turn, and how long it took in all.
    pub(crate) fn transaction(&self, operation: &'static str, waited: Duration, took: Duration) {
        self.waits.observe(waited.as_secs_f64());
        self.transactions.get_or_create(&OperationLabel { operation }).observe(took.as_secs_f64());
    }

    /// Counts a query that failed.
    pub(crate) fn failed(&self, operation: &'static str) {
        self.errors.get_or_create(&OperationLabel { operation }).inc();
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let transactions = Family::new_with_constructor(Metrics::histogram as fn() -> Histogram);
        Self { transactions, waits: Metrics::histogram(), errors: Family::default() }
    }
}

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    process: Registry,
    pub(crate) requests: Arc<Requests>,
    pub(crate) grants: Grants,
    /// Sign-ins with a password.
    pub(crate) sign_ins: Outcomes,
    /// Uses of refresh tokens.
    pub(crate) refreshes: Outcomes,
    /// Attempts to tell a client of a logout.
    pub(crate) logouts: Outcomes,
    /// Attempts to tell the hook what happened.
    pub(crate) hook: Outcomes,
    /// Traces, by what became of them.
    pub(crate) traces: Outcomes,
    pub(crate) store: StoreMetrics,
    /// How long passwords were hashed.
    pub(crate) hashes: Histogram,
    signed: Family<KeyLabel, Counter>,
    /// Times a ring's signing key changed, seen by this process.
    pub rotations: Family<RingLabel, Counter>,
    /// Visits of the rotator that failed.
    pub failed_ticks: Counter,
    /// Seconds since 1970 of the last visit that succeeded.
    pub last_tick: Gauge,
    refusals: Family<ErrorLabel, Counter>,
    /// Open connections.
    pub connections: Gauge,
    rings: RingGauges,
    state: StateGauges,
    /// Regular fetchers of the JWKS.
    pub fetchers_regular: Gauge,
    /// Those of them that hold the next key of a ring.
    pub fetchers_holding_next: Family<RingLabel, Gauge>,
}

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Default)]
struct RingGauges {
    active_age: Family<RingLabel, Gauge>,
    until_next: Family<RingLabel, Gauge>,
    overdue: Family<RingLabel, Gauge>,
    published: Family<RingLabel, Gauge>,
    standby: Family<RingLabel, Gauge>,
    phases: Family<PhaseLabel, Gauge>,
    signs_from: Family<KeyLabel, Gauge>,
}

/// Of the whole issuer, at the time of reading.
#[derive(Default)]
struct StateGauges {
    read_age: Seconds,
    read_age_limit: Seconds,
    clock_offset: Seconds,
    clock_offset_limit: Seconds,
    ready: Gauge,
    hashes_running: Gauge,
    hashes_waiting: Gauge,
    clients: Gauge,
    /// Nothing where no TLS is spoken.
    certificate_not_after: Family<[(&'static str, &'static str); 0], Gauge>,
}

/// What is read when somebody asks.
pub(crate) struct State<'a> {
    pub(crate) ring: &'a Keyring,
    pub(crate) policy: &'a RotationPolicy,
    pub(crate) algorithms: &'a [Algorithm],
    pub(crate) read_age: Duration,
    /// How far this machine's clock is ahead of the database's, and how far it may be.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) clock_limit_ms: i64,
    pub(crate) is_ready: bool,
    pub(crate) hashes_running: usize,
    pub(crate) hashes_waiting: usize,
    pub(crate) clients: usize,
    pub(crate) certificate_not_after: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process));
        let mut metrics = Self {
            registry: Registry::with_prefix("keywheel"),
            process,
            requests: Arc::new(Requests::new()),
            grants: Grants {
                client_credentials: Counter::default(),
                authorization_code: Counter::default(),
                refresh_token: Counter::default(),
                session: Counter::default(),
            },
            sign_ins: Outcomes::new(&["accepted", "refused", "throttled", "busy", "failed"]),
            refreshes: Outcomes::new(&["rotated", "replayed", "reused", "revoked", "expired", "unknown", "failed"]),
            logouts: Outcomes::new(&["delivered", "failed", "given_up"]),
            hook: Outcomes::new(&["delivered", "failed"]),
            traces: Outcomes::new(&["exported", "dropped"]),
            store: StoreMetrics::default(),
            hashes: Metrics::histogram(),
            signed: Family::default(),
            rotations: Family::default(),
            failed_ticks: Counter::default(),
            last_tick: Gauge::default(),
            refusals: Family::default(),
            connections: Gauge::default(),
            rings: RingGauges::default(),
            state: StateGauges::default(),
            fetchers_regular: Gauge::default(),
            fetchers_holding_next: Family::default(),
        };
        metrics.register_traffic();
        metrics.register_keys();
        metrics.register_state();
        metrics
    }

    fn register_traffic(&mut self) {
        let registry = &mut self.registry;
        registry.register_collector(Box::new(Arc::clone(&self.requests)));
        registry.register("connections_open", "Open connections", self.connections.clone());
        let grants = Family::<GrantLabel, Counter>::default();
        // A family keeps the counters that it made; these are found in it once.
        let grant = |grant_type| grants.get_or_create_owned(&GrantLabel { grant_type });
        self.grants = Grants {
            client_credentials: grant("client_credentials"),
            authorization_code: grant("authorization_code"),
            refresh_token: grant("refresh_token"),
            session: grant("session"),
        };
        registry.register("grants", "Token requests granted, by grant type; \"session\" is /api/session", grants);
        for error in OAUTH_ERRORS {
            drop(self.refusals.get_or_create(&ErrorLabel { error }));
        }
        registry.register("token_refusals", "Refused token requests, by error code", self.refusals.clone());
        registry.register("sign_ins", "Sign-ins with a password, by outcome", self.sign_ins.0.clone());
        registry.register("refreshes", "Uses of refresh tokens, by outcome", self.refreshes.0.clone());
        let logouts = self.logouts.0.clone();
        registry.register("backchannel_logouts", "Attempts to tell a client of a logout, by outcome", logouts);
        registry.register("hook_posts", "Attempts to tell the hook of events, by outcome", self.hook.0.clone());
        registry.register("traces", "Sampled traces, by what became of them", self.traces.0.clone());
        let StoreMetrics { transactions, waits, errors } = self.store.clone();
        registry.register("store_transaction_seconds", "Duration of database transactions, by operation", transactions);
        registry.register("store_wait_seconds", "Time that transactions waited for a connection or their turn", waits);
        registry.register("store_errors", "Database operations that failed, by operation", errors);
        registry.register(
            "password_hash_seconds",
            "Duration of password hashes, waiting included",
            self.hashes.clone(),
        );
    }

    fn register_keys(&mut self) {
        let registry = &mut self.registry;
        registry.register("tokens_signed", "Tokens signed, by key", self.signed.clone());
        registry.register("rotations", "Changes of the signing key seen by this process", self.rotations.clone());
        registry.register("rotator_failures", "Visits of the rotator that failed", self.failed_ticks.clone());
        registry.register(
            "rotator_last_success_timestamp_seconds",
            "When the rotator last succeeded, in seconds since 1970",
            self.last_tick.clone(),
        );
        let RingGauges { active_age, until_next, overdue, published, standby, phases, signs_from } = &self.rings;
        registry.register("key_active_age_seconds", "Age of the key that signs", active_age.clone());
        registry.register(
            "key_next_rotation_seconds",
            "Seconds until the next key signs; negative when it should have",
            until_next.clone(),
        );
        registry.register(
            "key_rotation_overdue",
            "1 when the signing key should have been replaced and no key is waiting to replace it",
            overdue.clone(),
        );
        registry.register("keys_published", "Keys in the JWKS", published.clone());
        registry.register("keys_standby", "Published keys that wait for their turn", standby.clone());
        registry.register("keys", "Keys that are still of use, by phase", phases.clone());
        registry.register(
            "key_signs_from_timestamp_seconds",
            "When a key starts to sign, or did, in seconds since 1970",
            signs_from.clone(),
        );
        registry.register("fetchers_regular", "Regular fetchers of the JWKS", self.fetchers_regular.clone());
        registry.register(
            "fetchers_holding_next",
            "Regular fetchers of the JWKS that hold the next key",
            self.fetchers_holding_next.clone(),
        );
    }

    fn register_state(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "When the certificate for TLS expires, in seconds since 1970",
            self.state.certificate_not_after.clone(),
        );
        let state = &self.state;
        registry.register("build", "This program", Info::new(BuildLabel { version: env!("CARGO_PKG_VERSION") }));
        registry.register("ready", "1 when requests should come here, as /readyz says", state.ready.clone());
        registry.register("keys_read_age_seconds", "Age of the last reading of the key rows", state.read_age.clone());
        registry.register(
            "keys_read_age_limit_seconds",
            "Age of the last reading from which nothing is signed (max_staleness)",
            state.read_age_limit.clone(),
        );
        registry.register(
            "clock_offset_seconds",
            "How far this machine's clock is ahead of the database's; 0 with an embedded database",
            state.clock_offset.clone(),
        );
        registry.register(
            "clock_offset_limit_seconds",
            "How far the clocks may differ (clock_skew)",
            state.clock_offset_limit.clone(),
        );
        registry.register("password_hashes_running", "Passwords being hashed", state.hashes_running.clone());
        registry.register("password_hashes_waiting", "Passwords waiting to be hashed", state.hashes_waiting.clone());
        registry.register("clients", "Registered clients", state.clients.clone());
    }

    /// A histogram of durations.
    #[must_use]
    pub(crate) fn histogram() -> Histogram {
        Histogram::new(requests::bounds_in_seconds())
    }

    /// The counter of tokens signed by key `kid`.
    #[must_use]
    pub(crate) fn signed(&self, kid: &str, alg: Algorithm) -> Counter {
        self.signed.get_or_create_owned(&KeyLabel { alg: AlgorithmLabel(alg), kid: kid.to_owned() })
    }

    /// Forgets the counter of a key that is gone.
    pub(crate) fn forget_key(&self, kid: &str, alg: Algorithm) {
        self.signed.remove(&KeyLabel { alg: AlgorithmLabel(alg), kid: kid.to_owned() });
    }

    /// Counts a refusal of the token endpoint.
    pub(crate) fn refused(&self, error: &'static str) {
        self.refusals.get_or_create(&ErrorLabel { error }).inc();
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self, state: &State<'_>) -> String {
        self.set_state(state);
        self.set_rings(state);
        let mut text = String::with_capacity(16 * 1024);
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text));
        if written.is_err() {
            // Writing to a String does not fail; say so in the output rather than lose the scrape.
            let _ = write!(text, "# encoding failed\n# EOF\n");
        }
        text
    }

    fn set_state(&self, state: &State<'_>) {
        let gauges = &self.state;
        gauges.read_age.set(state.read_age.as_secs_f64());
        gauges.read_age_limit.set(state.policy.max_staleness().as_secs_f64());
        gauges.clock_offset.set(state.clock_ahead_ms as f64 / 1000.0);
        gauges.clock_offset_limit.set(state.clock_limit_ms as f64 / 1000.0);
        gauges.ready.set(i64::from(state.is_ready));
        gauges.hashes_running.set(count(state.hashes_running));
        gauges.hashes_waiting.set(count(state.hashes_waiting));
        gauges.clients.set(count(state.clients));
        if let Some(not_after) = state.certificate_not_after {
            gauges.certificate_not_after.get_or_create(&[]).set(not_after.as_unix());
        }
    }

    fn set_rings(&self, state: &State<'_>) {
        let &State { ring, algorithms, now, .. } = state;
        let rotate_every = state.policy.slots().smallest_gap();
        let seconds = |later: Timestamp, earlier: Timestamp| later.as_unix().saturating_sub(earlier.as_unix());
        for &alg in algorithms {
            let label = RingLabel::from(alg);
            let published = ring.published(&[alg], now).into_iter().filter(|key| key.alg == alg).collect::<Vec<_>>();
            let standby = published.iter().filter(|key| ring.phase(key, now) == Phase::Standby).count();
            drop(self.rotations.get_or_create(&label));
            self.rings.published.get_or_create(&label).set(count(published.len()));
            self.rings.standby.get_or_create(&label).set(count(standby));
            for (phase, name) in PHASES {
                let of_phase = |key: &&_| ring.phase(key, now) == phase;
                let keys = ring.keys().iter().filter(|key| key.alg == alg).filter(of_phase).count();
                self.rings.phases.get_or_create(&PhaseLabel { alg: label.alg, phase: name }).set(count(keys));
            }
            if let Some(signer) = ring.signer(alg, now) {
                let age = seconds(now, signer.sign_from);
                let until = ring.superseded_at(signer);
                let due = until.unwrap_or(signer.sign_from + rotate_every);
                self.rings.active_age.get_or_create(&label).set(age);
                self.rings.until_next.get_or_create(&label).set(seconds(due, now));
                self.rings.overdue.get_or_create(&label).set(i64::from(until.is_none() && due < now));
            }
        }
        self.rings.signs_from.clear();
        let in_use = |key: &&_| PHASES.iter().any(|(phase, _)| ring.phase(key, now) == *phase);
        for key in ring.keys().iter().filter(in_use) {
            let label = KeyLabel { alg: AlgorithmLabel(key.alg), kid: key.kid.clone() };
            self.rings.signs_from.get_or_create(&label).set(key.sign_from.as_unix());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A key that was removed or revoked is history.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Scheduled, "scheduled"),
    (Phase::Standby, "standby"),
    (Phase::Signing, "signing"),
    (Phase::Retiring, "retiring"),
];

/// What a token request can be refused with.
const OAUTH_ERRORS: [&str; 9] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "temporarily_unavailable",
    "server_error",
];
