//! When to fetch next: pure functions of headers, limits, failures and a throw of the dice.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::fetch::Caching;
use crate::limits::Limits;

/// How long an answer is fresh, and how long it is trusted, both since it was asked for.
pub(crate) fn lifetimes(caching: Caching, limits: &Limits) -> (Duration, Duration) {
    let max_age = caching.max_age.unwrap_or(limits.freshness_default);
    let fresh = max_age.saturating_sub(caching.age).clamp(limits.freshness_floor, limits.freshness_ceiling);
    // The time in shared caches counts: the issuer may have withdrawn a key meanwhile.
    (fresh, limits.trusted.saturating_sub(caching.age).max(fresh))
}

/// When in its fresh time a set is replaced. `jitter` is in 0..1, as in all of these.
pub(crate) fn refresh_after(fresh: Duration, jitter: f64) -> Duration {
    fresh.mul_f64(REFRESH_FRACTION + REFRESH_SPREAD * (jitter * 2.0 - 1.0))
}

/// What is held while attempts fail.
#[derive(Clone, Copy)]
pub(crate) struct HeldFor {
    /// How long the set was fresh when it was fetched.
    pub(crate) fresh: Duration,
    /// How long it is trusted yet.
    pub(crate) trusted: Duration,
}

/// The pause after a failed attempt, of which `failures` went before: full jitter under a bound that doubles.
pub(crate) fn backoff(failures: u32, held: Option<HeldFor>, jitter: f64) -> Duration {
    let longest = match held {
        // An issuer that asks for a fetch each second turns its keys as fast: once it is back, a set that has outlived
        // its fresh time must not stay in use for much longer. And the last tries before the end of trust come closer.
        Some(HeldFor { fresh, trusted }) => (trusted / 4).min(fresh).clamp(BACKOFF_FIRST, BACKOFF_LONGEST),
        None => BACKOFF_WITHOUT_KEYS,
    };
    let bound = BACKOFF_FIRST.saturating_mul(1 << failures.min(16)).min(longest);
    bound.mul_f64(jitter).max(SHORTEST_PAUSE)
}

/// A number in 0..1, to spread fetches in time. It has to differ between processes, not to be secret: the standard
/// library keys each hasher differently.
pub(crate) fn jitter() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// When in its fresh time a set is replaced: late enough to honour the issuer's `max-age`, early enough for a retry.
const REFRESH_FRACTION: f64 = 0.8;

/// Spread to both sides, so that resource servers which started together do not fetch together.
const REFRESH_SPREAD: f64 = 0.1;

/// Between two scheduled attempts, whatever the limits and headers say.
pub(crate) const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// Full jitter: after the first failure up to this, doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// While keys are held that were to be fresh for longer: a minute more or less does not matter to anybody.
const BACKOFF_LONGEST: Duration = Duration::from_secs(60);

/// While none are held every request fails, so recovery must be quick.
pub(crate) const BACKOFF_WITHOUT_KEYS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn caching(max_age: Option<u64>, age: u64) -> Caching {
        Caching { max_age: max_age.map(seconds), age: seconds(age) }
    }

    fn held(fresh: u64, trusted: u64) -> Option<HeldFor> {
        Some(HeldFor { fresh: seconds(fresh), trusted: seconds(trusted) })
    }

    #[test]
    fn freshness_is_max_age_minus_age_between_floor_and_ceiling() {
        let limits = Limits::default();
        let fresh = |max_age, age| lifetimes(caching(max_age, age), &limits).0;
        assert_eq!(fresh(Some(600), 0), seconds(600));
        assert_eq!(fresh(Some(600), 100), seconds(500));
        assert_eq!(fresh(Some(600), 10_000), limits.freshness_floor);
        assert_eq!(fresh(Some(0), 0), limits.freshness_floor);
        assert_eq!(fresh(Some(86_400), 0), limits.freshness_ceiling);
        assert_eq!(fresh(None, 0), limits.freshness_default);
    }

    #[test]
    fn time_in_shared_caches_counts_against_trust() {
        let limits = Limits::default();
        let trusted = |age| lifetimes(caching(Some(60), age), &limits).1;
        assert_eq!(trusted(0), seconds(3600));
        assert_eq!(trusted(1000), seconds(2600));
        // Never less than freshness, or a set would be out of use before it is due for replacement.
        assert_eq!(trusted(1_000_000), limits.freshness_floor);
    }

    #[test]
    fn a_set_is_replaced_at_80_percent_of_its_fresh_time_give_or_take_10() {
        assert_eq!(refresh_after(seconds(1000), 0.0).as_secs_f64().round(), 700.0);
        assert_eq!(refresh_after(seconds(1000), 0.5).as_secs_f64().round(), 800.0);
        assert_eq!(refresh_after(seconds(1000), 1.0).as_secs_f64().round(), 900.0);
    }

    #[test]
    fn pauses_double_up_to_a_minute_while_keys_are_held() {
        let pauses: Vec<_> = (0..9).map(|failures| backoff(failures, held(3600, 3600), 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX, held(3600, 3600), 1.0), seconds(60));
    }

    #[test]
    fn no_pause_is_longer_than_a_set_was_fresh() {
        assert_eq!(backoff(8, held(5, 3600), 1.0), seconds(5));
        assert_eq!(backoff(8, held(0, 3600), 1.0), seconds(1));
    }

    #[test]
    fn jitter_is_full_but_never_without_a_pause() {
        assert_eq!(backoff(8, held(3600, 3600), 0.5), seconds(30));
        assert_eq!(backoff(8, held(3600, 3600), 0.0), SHORTEST_PAUSE);
    }

    #[test]
    fn tries_come_closer_as_trust_ends_and_stay_close_without_keys() {
        assert_eq!(backoff(20, held(3600, 100), 1.0), seconds(25));
        assert_eq!(backoff(20, held(3600, 1), 1.0), seconds(1));
        assert_eq!(backoff(20, None, 1.0), seconds(10));
    }

    #[test]
    fn jitter_is_spread_over_its_range() {
        let numbers: Vec<_> = (0..1000).map(|_| jitter()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        // A thousand draws miss a tenth of the range once in 10^46.
        assert!((0..10).all(|tenth| numbers.iter().any(|number| (number * 10.0) as u32 == tenth)));
    }
}
