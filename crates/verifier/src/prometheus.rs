//! [`Metrics`] for Prometheus, in the data model of `prometheus-client`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::cache::Health;
use crate::metrics::{Alarm, FetchReport, KeysChanged, Metrics, TokenCacheEvent, UnknownKid};

/// Counts for Prometheus: `keywheel_verifier_…`. Needs the feature `prometheus`.
///
/// Clones are the same metrics. With several issuers, register one for each under a label:
/// `PrometheusMetrics::register(registry.sub_registry_with_label(("issuer".into(), "main".into())))`.
///
/// Every label is from a closed list. The hot path is one atomic addition for a verified token, and a lookup under a shared
/// lock for a refused one.
#[derive(Clone, Debug)]
pub struct PrometheusMetrics {
    verified: Counter,
    rejected: Family<CodeLabel, Counter>,
    keys_unavailable: Counter,
    unknown_kids: Family<UnknownKidLabel, Counter>,
    fetches: Family<FetchLabel, Counter>,
    fetch_duration: Histogram,
    generation: Gauge,
    keys: Gauge,
    refused_keys: Gauge,
    token_cache_hits: Counter,
    token_cache_misses: Counter,
    token_cache_evictions: Counter,
    dpop_replays: Counter,
    alarms: Family<AlarmLabel, Counter>,
    state: Family<StateLabel, Gauge>,
    age: Gauge,
    trusted_for: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnknownKidLabel {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabel {
    lane: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl PrometheusMetrics {
    /// Makes the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            verified: Counter::default(),
            rejected: Family::default(),
            keys_unavailable: Counter::default(),
            unknown_kids: Family::default(),
            fetches: Family::default(),
            fetch_duration: Histogram::new(FETCH_SECONDS),
            generation: Gauge::default(),
            keys: Gauge::default(),
            refused_keys: Gauge::default(),
            token_cache_hits: Counter::default(),
            token_cache_misses: Counter::default(),
            token_cache_evictions: Counter::default(),
            dpop_replays: Counter::default(),
            alarms: Family::default(),
            state: Family::default(),
            age: Gauge::default(),
            trusted_for: Gauge::default(),
        };
        // An alert on a rise needs a value to rise from.
        for alarm in [Alarm::KidReused, Alarm::AllKeysReplaced, Alarm::SecretPublished, Alarm::RefreshPanicked] {
            drop(metrics.alarms.get_or_create(&AlarmLabel { kind: alarm.as_str() }));
        }

        let registry = registry.sub_registry_with_prefix("keywheel_verifier");
        registry.register("tokens_verified", "Tokens that hold", metrics.verified.clone());
        registry.register("tokens_rejected", "Tokens that do not hold, by code", metrics.rejected.clone());
        registry.register(
            "tokens_undecided",
            "Tokens that could not be judged for want of keys",
            metrics.keys_unavailable.clone(),
        );
        registry.register(
            "unknown_kids",
            "Plausible tokens whose key is not in the set, by what came of it",
            metrics.unknown_kids.clone(),
        );
        registry.register("fetches", "Attempts to fetch the key set", metrics.fetches.clone());
        registry.register(
            "fetch_duration_seconds",
            "How long an attempt to fetch the key set took",
            metrics.fetch_duration.clone(),
        );
        registry.register(
            "keys_generation",
            "Goes up by one with each change of the key set",
            metrics.generation.clone(),
        );
        registry.register("keys_usable", "Keys of the set that can be used", metrics.keys.clone());
        registry.register("keys_refused", "Entries of the set that are not used", metrics.refused_keys.clone());
        registry.register("token_cache_hits", "Tokens found among the verified ones", metrics.token_cache_hits.clone());
        registry.register("token_cache_misses", "Tokens not found among them", metrics.token_cache_misses.clone());
        registry.register(
            "token_cache_evictions",
            "Verified tokens that had to make room",
            metrics.token_cache_evictions.clone(),
        );
        registry.register("dpop_replays_refused", "DPoP proofs that came twice", metrics.dpop_replays.clone());
        registry.register("alarms", "What somebody should look at", metrics.alarms.clone());
        registry.register("keys_state", "1 for the state the key set is in", metrics.state.clone());
        registry.register("keys_age_seconds", "Since the key set was asked for", metrics.age.clone());
        registry.register(
            "keys_trusted_seconds",
            "How much longer a key set that can't be renewed may be used",
            metrics.trusted_for.clone(),
        );
        metrics
    }

    /// Sets the gauges that follow the clock. Call it before the metrics are read, with
    /// [`Verifier::health`](crate::Verifier::health); one that is never called is one without these gauges' values.
    pub fn observe(&self, health: &Health) {
        let (state, age, trusted_for) = match health {
            Health::Ok { age, .. } => ("ok", Some(*age), None),
            Health::Stale { age, trusted_for, .. } => ("stale", Some(*age), Some(*trusted_for)),
            Health::Unavailable { .. } => ("unavailable", None, Some(Duration::ZERO)),
        };
        for name in ["ok", "stale", "unavailable"] {
            self.state.get_or_create(&StateLabel { state: name }).set(i64::from(name == state));
        }
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if let Some(age) = age {
            self.age.set(seconds(age));
        }
        if let Some(trusted_for) = trusted_for {
            self.trusted_for.set(seconds(trusted_for));
        }
    }
}

impl Metrics for PrometheusMetrics {
    fn verified(&self) {
        self.verified.inc();
    }

    fn rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&CodeLabel { code }).inc();
    }

    fn keys_unavailable(&self) {
        self.keys_unavailable.inc();
    }

    fn unknown_kid(&self, answer: UnknownKid) {
        self.unknown_kids.get_or_create(&UnknownKidLabel { answer: answer.as_str() }).inc();
    }

    fn fetched(&self, fetch: &FetchReport) {
        let label = FetchLabel { lane: fetch.lane.as_str(), outcome: fetch.outcome.as_str() };
        self.fetches.get_or_create(&label).inc();
        self.fetch_duration.observe(fetch.duration.as_secs_f64());
    }

    fn keys_changed(&self, change: &KeysChanged) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.generation.set(i64::try_from(change.generation).unwrap_or(i64::MAX));
        self.keys.set(number(change.keys));
        self.refused_keys.set(number(change.refused));
    }

    fn token_cache(&self, event: TokenCacheEvent) {
        match event {
            TokenCacheEvent::Hit => self.token_cache_hits.inc(),
            TokenCacheEvent::Miss => self.token_cache_misses.inc(),
            TokenCacheEvent::Evicted => self.token_cache_evictions.inc(),
        };
    }

    fn dpop_replay_refused(&self) {
        self.dpop_replays.inc();
    }

    fn alarm(&self, alarm: Alarm) {
        self.alarms.get_or_create(&AlarmLabel { kind: alarm.as_str() }).inc();
    }
}

/// From a hit in the same rack to the deadline of two exchanges.
const FETCH_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0, 20.0];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::metrics::{FetchOutcome, Lane};

    fn lines(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).expect("writing to a string does not fail");
        text.lines().map(str::to_owned).collect()
    }

    fn fetch(outcome: FetchOutcome) -> FetchReport {
        FetchReport { lane: Lane::Scheduled, outcome, duration: Duration::from_millis(30) }
    }

    #[test]
    fn what_happens_is_in_the_exposition() {
        let mut registry = Registry::default();
        let metrics = PrometheusMetrics::register(&mut registry);

        metrics.verified();
        metrics.rejected("expired");
        metrics.rejected("expired");
        metrics.keys_unavailable();
        metrics.unknown_kid(UnknownKid::CoolingDown);
        metrics.fetched(&fetch(FetchOutcome::Changed));
        metrics.fetched(&fetch(FetchOutcome::Failed));
        metrics.keys_changed(&KeysChanged { generation: 3, keys: 2, refused: 1 });
        metrics.token_cache(TokenCacheEvent::Hit);
        metrics.dpop_replay_refused();
        metrics.alarm(Alarm::SecretPublished);

        let lines = lines(&registry);
        for line in [
            "keywheel_verifier_tokens_verified_total 1",
            r#"keywheel_verifier_tokens_rejected_total{code="expired"} 2"#,
            "keywheel_verifier_tokens_undecided_total 1",
            r#"keywheel_verifier_unknown_kids_total{answer="cooling_down"} 1"#,
            r#"keywheel_verifier_fetches_total{lane="scheduled",outcome="changed"} 1"#,
            r#"keywheel_verifier_fetches_total{lane="scheduled",outcome="failed"} 1"#,
            r#"keywheel_verifier_fetch_duration_seconds_bucket{le="0.025"} 0"#,
            r#"keywheel_verifier_fetch_duration_seconds_bucket{le="0.05"} 2"#,
            "keywheel_verifier_keys_generation 3",
            "keywheel_verifier_keys_usable 2",
            "keywheel_verifier_keys_refused 1",
            "keywheel_verifier_token_cache_hits_total 1",
            "keywheel_verifier_token_cache_misses_total 0",
            "keywheel_verifier_token_cache_evictions_total 0",
            "keywheel_verifier_dpop_replays_refused_total 1",
            r#"keywheel_verifier_alarms_total{kind="secret_published"} 1"#,
            r#"keywheel_verifier_alarms_total{kind="kid_reused"} 0"#,
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
    }

    #[test]
    fn a_clone_counts_into_the_same_metrics() {
        let mut registry = Registry::default();
        let metrics = PrometheusMetrics::register(&mut registry);

        metrics.clone().verified();
        metrics.verified();

        assert!(lines(&registry).contains(&"keywheel_verifier_tokens_verified_total 2".to_owned()));
    }

    #[test]
    fn the_gauges_follow_the_health() {
        let mut registry = Registry::default();
        let metrics = PrometheusMetrics::register(&mut registry);
        let seconds = Duration::from_secs;

        metrics.observe(&Health::Ok { age: seconds(10), generation: 1 });
        metrics.observe(&Health::Stale { age: seconds(90), generation: 1, trusted_for: seconds(3510) });

        let lines = lines(&registry);
        for line in [
            r#"keywheel_verifier_keys_state{state="ok"} 0"#,
            r#"keywheel_verifier_keys_state{state="stale"} 1"#,
            "keywheel_verifier_keys_age_seconds 90",
            "keywheel_verifier_keys_trusted_seconds 3510",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
    }

    #[test]
    fn two_issuers_are_told_apart_by_a_label() {
        let mut registry = Registry::default();
        let mut issuer = |name: &'static str| {
            PrometheusMetrics::register(registry.sub_registry_with_label(("issuer".into(), name.into())))
        };
        let (main, partner) = (issuer("main"), issuer("partner"));

        main.verified();
        partner.verified();
        partner.verified();

        let lines = lines(&registry);
        for line in [
            r#"keywheel_verifier_tokens_verified_total{issuer="main"} 1"#,
            r#"keywheel_verifier_tokens_verified_total{issuer="partner"} 2"#,
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
    }
}
