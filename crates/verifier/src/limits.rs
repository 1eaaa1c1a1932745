//! How long keys may be used, how often they may be fetched, and how much an answer may cost.

use std::time::Duration;

use keywheel_jose::KeySet;

/// Bounds of the key cache and of its client. Every default is safe for a public resource server; change one with
/// `Limits { freshness_floor: Duration::from_secs(1), ..Limits::default() }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The shortest time a fetched set is fresh, whatever its `Cache-Control` says; `no-store` and `no-cache` mean this.
    /// Default 5 s: a `max-age=0` sent by mistake must not turn every resource server into a load on the issuer. Zero is
    /// allowed, for issuers that rotate by the second; refreshes are half a second apart even then.
    pub freshness_floor: Duration,
    /// The longest time a fetched set is fresh. Default 1 h: this bounds how long a revoked key is still accepted while
    /// the issuer can be reached. Between [`freshness_floor`](Self::freshness_floor) and [`trusted`](Self::trusted).
    pub freshness_ceiling: Duration,
    /// How long a set is fresh when the answer does not say. Default 5 min, what issuers that do say usually say.
    pub freshness_default: Duration,
    /// How long a set may be used, since it left the issuer, when no newer one can be fetched. Default 1 h: long enough
    /// to survive most outages, and the bound on how long a withdrawn key is accepted in the worst case.
    pub trusted: Duration,
    /// How long after any attempt to fetch an unknown `kid` may cause no other. Default 5 s, shared by all callers: invented
    /// `kid`s cost the issuer at most twelve requests a minute from each resource server. At least 100 ms.
    pub cooldown: Duration,
    /// How long opening a TCP connection may take. Default 3 s: two SYN retransmissions.
    pub connect_timeout: Duration,
    /// How long one request may take, from connecting to the last byte. Default 10 s. A fetch is discovery, if need be at
    /// both of its places, and the set, and is given up after twice this.
    pub exchange_deadline: Duration,
    /// The longest body that is read, in bytes. Default 256 KiB: a set of a hundred RSA keys with certificates. At most
    /// [`KeySet::MAX_BYTES`].
    pub body_limit_bytes: usize,
    /// The most entries a set may have; a larger set is refused whole. Default 100: rings have a handful. At most
    /// [`KeySet::MAX_KEYS`].
    pub max_keys: usize,
    /// How many unknown `kid`s are remembered, so that they cause no further fetch for six cooldowns. Default 1000: some 50 KiB.
    pub max_unknown_kids: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            freshness_floor: Duration::from_secs(5),
            freshness_ceiling: Duration::from_secs(60 * 60),
            freshness_default: Duration::from_secs(5 * 60),
            trusted: Duration::from_secs(60 * 60),
            cooldown: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            exchange_deadline: Duration::from_secs(10),
            body_limit_bytes: 256 * 1024,
            max_keys: 100,
            max_unknown_kids: 1000,
        }
    }
}

/// Two limits that contradict each other, or one that is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// One limit has to be at most another.
    #[error("{lower} ({lower_value:?}) must not be greater than {upper} ({upper_value:?})")]
    Order {
        /// The field that is too great.
        lower: &'static str,
        /// Its value.
        lower_value: Duration,
        /// The field that is too small.
        upper: &'static str,
        /// Its value.
        upper_value: Duration,
    },
    /// One limit is outside the range that makes sense.
    #[error("{field} is {value}, must be between {min} and {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The smallest value allowed.
        min: String,
        /// The greatest value allowed.
        max: String,
    },
}

impl Limits {
    pub(crate) fn validate(&self) -> Result<(), LimitsError> {
        in_range("trusted", self.trusted, Duration::from_secs(1), MAX_TRUSTED)?;
        in_range("cooldown", self.cooldown, Duration::from_millis(100), Duration::from_secs(60 * 60))?;
        in_range("connect_timeout", self.connect_timeout, Duration::from_millis(10), MAX_DEADLINE)?;
        in_range("exchange_deadline", self.exchange_deadline, Duration::from_millis(10), MAX_DEADLINE)?;
        in_range("body_limit_bytes", self.body_limit_bytes, 1024, KeySet::MAX_BYTES)?;
        in_range("max_keys", self.max_keys, 1, KeySet::MAX_KEYS)?;
        in_range("max_unknown_kids", self.max_unknown_kids, 1, 1_000_000)?;

        let floor = ("freshness_floor", self.freshness_floor);
        let default = ("freshness_default", self.freshness_default);
        let ceiling = ("freshness_ceiling", self.freshness_ceiling);
        ordered(floor, ceiling)?;
        ordered(floor, default)?;
        ordered(default, ceiling)?;
        ordered(ceiling, ("trusted", self.trusted))
    }
}

pub(crate) fn in_range<T: PartialOrd + std::fmt::Debug>(
    field: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), LimitsError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let shown = |bound: T| format!("{bound:?}");
    Err(LimitsError::Range { field, value: shown(value), min: shown(min), max: shown(max) })
}

fn ordered(lower: (&'static str, Duration), upper: (&'static str, Duration)) -> Result<(), LimitsError> {
    if lower.1 <= upper.1 {
        return Ok(());
    }
    Err(LimitsError::Order { lower: lower.0, lower_value: lower.1, upper: upper.0, upper_value: upper.1 })
}

/// Keys nobody has vouched for in a month are not kept out of caution but by mistake.
const MAX_TRUSTED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A server that needs longer than a minute for a few kilobytes is down.
const MAX_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn a_floor_of_zero_is_allowed() {
        assert_eq!(Limits { freshness_floor: Duration::ZERO, ..Limits::default() }.validate(), Ok(()));
    }

    #[test]
    fn a_contradiction_names_both_fields_and_both_numbers() {
        let error = Limits { trusted: Duration::from_secs(60), ..Limits::default() }.validate().expect_err("3600 > 60");
        assert_eq!(error.to_string(), "freshness_ceiling (3600s) must not be greater than trusted (60s)");
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        let cases = [
            Limits { cooldown: Duration::ZERO, ..Limits::default() },
            Limits { exchange_deadline: Duration::ZERO, ..Limits::default() },
            Limits { connect_timeout: Duration::from_secs(61), ..Limits::default() },
            Limits { body_limit_bytes: 0, ..Limits::default() },
            Limits { max_keys: 0, ..Limits::default() },
            Limits { max_unknown_kids: 0, ..Limits::default() },
            Limits { trusted: Duration::MAX, ..Limits::default() },
        ];
        for limits in cases {
            assert!(matches!(limits.validate(), Err(LimitsError::Range { .. })), "{limits:?}");
        }
    }
}
