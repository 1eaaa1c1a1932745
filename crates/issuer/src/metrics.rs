//! What is counted, for Prometheus. Labels are bounded: routes, algorithms, key ids, registered error codes; never
//! anything a request brought along.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{Keyring, Phase};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// Label: an endpoint and the status it answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabel {
    route: &'static str,
    status: u16,
}

/// Label: why the token endpoint refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabel {
    error: &'static str,
}

/// Label: how telling a client of a logout went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LogoutOutcomeLabel {
    outcome: &'static str,
}

impl LogoutOutcomeLabel {
    /// The client knows.
    pub(crate) const DELIVERED: Self = Self { outcome: "delivered" };
    /// It is tried again.
    pub(crate) const FAILED: Self = Self { outcome: "failed" };
    /// It is not tried again.
    pub(crate) const GIVEN_UP: Self = Self { outcome: "given_up" };
}

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    signed: Family<KeyLabel, Counter>,
    /// Times a ring's signing key changed, seen by this process.
    pub rotations: Family<RingLabel, Counter>,
    /// Visits of the rotator that failed.
    pub failed_ticks: Counter,
    /// Seconds since 1970 of the last visit that succeeded.
    pub last_tick: Gauge,
    answers: Family<AnswerLabel, Counter>,
    refusals: Family<ErrorLabel, Counter>,
    logouts: Family<LogoutOutcomeLabel, Counter>,
    /// Open connections.
    pub connections: Gauge,
    rings: RingGauges,
    fresh: Gauge<f64, AtomicU64>,
    /// Regular fetchers of the JWKS.
    pub fetchers_regular: Gauge,
    /// Those of them that hold the next key of a ring.
    pub fetchers_holding_next: Family<RingLabel, Gauge>,
}

#[derive(Default)]
struct RingGauges {
    active_age: Family<RingLabel, Gauge>,
    until_next: Family<RingLabel, Gauge>,
    overdue: Family<RingLabel, Gauge>,
    published: Family<RingLabel, Gauge>,
    standby: Family<RingLabel, Gauge>,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("keywheel");
        let signed = Family::default();
        let rotations = Family::default();
        let failed_ticks = Counter::default();
        let last_tick = Gauge::default();
        let answers = Family::default();
        let refusals = Family::default();
        let logouts = Family::default();
        let connections = Gauge::default();
        let rings = RingGauges::default();
        let fresh: Gauge<f64, AtomicU64> = Gauge::default();

        registry.register("tokens_signed", "Tokens signed, by key", signed.clone());
        registry.register("rotations", "Changes of the signing key seen by this process", rotations.clone());
        registry.register("rotator_failures", "Visits of the rotator that failed", failed_ticks.clone());
        registry.register(
            "rotator_last_success_timestamp_seconds",
            "When the rotator last succeeded, in seconds since 1970",
            last_tick.clone(),
        );
        registry.register("http_requests", "Requests answered, by route and status", answers.clone());
        registry.register("token_refusals", "Refused token requests, by error code", refusals.clone());
        registry.register("backchannel_logouts", "Attempts to tell a client of a logout, by outcome", logouts.clone());
        registry.register("connections_open", "Open connections", connections.clone());
        registry.register("key_active_age_seconds", "Age of the key that signs", rings.active_age.clone());
        registry.register(
            "key_next_rotation_seconds",
            "Seconds until the next key signs; negative when it should have",
            rings.until_next.clone(),
        );
        registry.register(
            "key_rotation_overdue",
            "1 when the signing key should have been replaced and no key is waiting to replace it",
            rings.overdue.clone(),
        );
        registry.register("keys_published", "Keys in the JWKS", rings.published.clone());
        registry.register("keys_standby", "Published keys that wait for their turn", rings.standby.clone());
        registry.register("keys_read_age_seconds", "Age of the last reading of the key rows", fresh.clone());
        let fetchers_regular = Gauge::default();
        let fetchers_holding_next = Family::default();
        registry.register("fetchers_regular", "Regular fetchers of the JWKS", fetchers_regular.clone());
        registry.register(
            "fetchers_holding_next",
            "Regular fetchers of the JWKS that hold the next key",
            fetchers_holding_next.clone(),
        );
        Self {
            registry,
            signed,
            rotations,
            failed_ticks,
            last_tick,
            answers,
            refusals,
            logouts,
            connections,
            rings,
            fresh,
            fetchers_regular,
            fetchers_holding_next,
        }
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

    /// The counter of answers of `route` with `status`, for callers that keep it.
    #[must_use]
    pub(crate) fn answered(&self, route: &'static str, status: u16) -> Counter {
        self.answers.get_or_create_owned(&AnswerLabel { route, status })
    }

    /// Counts a refusal of the token endpoint.
    pub(crate) fn refused(&self, error: &'static str) {
        self.refusals.get_or_create(&ErrorLabel { error }).inc();
    }

    /// Counts an attempt to tell a client of a logout.
    pub(crate) fn logouts(&self, outcome: LogoutOutcomeLabel) {
        self.logouts.get_or_create(&outcome).inc();
    }

    /// The text that Prometheus reads, as of `now`.
    #[must_use]
    pub fn render(
        &self,
        ring: &Keyring,
        algorithms: &[Algorithm],
        rotate_every: Duration,
        read_age: Duration,
        now: Timestamp,
    ) -> String {
        let seconds = |later: Timestamp, earlier: Timestamp| later.as_unix().saturating_sub(earlier.as_unix());
        self.fresh.set(read_age.as_secs_f64());
        for &alg in algorithms {
            let label = RingLabel::from(alg);
            let published = ring.published(&[alg], now).into_iter().filter(|key| key.alg == alg).collect::<Vec<_>>();
            let standby = published.iter().filter(|key| ring.phase(key, now) == Phase::Standby).count();
            self.rings.published.get_or_create(&label).set(i64::try_from(published.len()).unwrap_or(i64::MAX));
            self.rings.standby.get_or_create(&label).set(i64::try_from(standby).unwrap_or(i64::MAX));
            if let Some(signer) = ring.signer(alg, now) {
                let age = seconds(now, signer.sign_from);
                let until = ring.superseded_at(signer);
                let due = until.unwrap_or(signer.sign_from + rotate_every);
                self.rings.active_age.get_or_create(&label).set(age);
                self.rings.until_next.get_or_create(&label).set(seconds(due, now));
                self.rings.overdue.get_or_create(&label).set(i64::from(until.is_none() && due < now));
            }
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a String does not fail; say so in the output rather than lose the scrape.
            let _ = write!(text, "# encoding failed\n# EOF\n");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
