//! Instants as JOSE writes them: whole seconds since 1970, UTC (RFC 7519 §2, NumericDate).

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An instant in whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Arithmetic saturates and drops fractions of a second. It is written as a number. A fraction is read as the next whole
/// second, which decides `exp` and `nbf` exactly as the fraction would, because the clock it meets has whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `seconds` after 1970-01-01T00:00:00Z, or before it when negative.
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn as_unix(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The first whole second not before `seconds`, unless that is no finite number near the range of dates.
    pub(crate) fn from_fractional_unix(seconds: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        // Within ±2^53 every whole f64 is exactly one i64.
        (seconds.abs() <= EXACT).then(|| Self(seconds.ceil() as i64))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(duration.as_secs()))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(duration.as_secs()))
    }
}

/// RFC 3339 in UTC: `2026-11-22T07:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.0.div_euclid(SECONDS_PER_DAY));
        let second = self.0.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumericDate)
    }
}

struct NumericDate;

impl Visitor<'_> for NumericDate {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds since 1970")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
        Ok(Timestamp(seconds))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
        i64::try_from(seconds).map(Timestamp).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Timestamp, E> {
        Timestamp::from_fractional_unix(seconds).ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Years are counted from March here, so that the leap day is the last of its year and months have a regular pattern:
/// 153 days every five months.
fn civil_date(days: i64) -> (i64, i64, i64) {
    const DAYS_FROM_0000_03_01_TO_1970_01_01: i64 = 719_468;
    const DAYS_PER_400_YEARS: i64 = 146_097;

    let days = days + DAYS_FROM_0000_03_01_TO_1970_01_01;
    let era = days.div_euclid(DAYS_PER_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_PER_400_YEARS);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

const SECONDS_PER_DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_330_800, "2026-11-22T07:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_unix(seconds).to_string(), text);
        }
    }

    #[test]
    fn eight_centuries_of_days_follow_the_calendar() {
        let (mut year, mut month, mut day) = (1600, 1, 1);
        // 1600-01-01 is 135 140 days before 1970-01-01.
        for days in -135_140..157_054 {
            assert_eq!(civil_date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day == last) {
                (_, false) => (year, month, day + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
        }
        assert_eq!((year, month, day), (2400, 1, 1));
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_unix(i64::MAX);
        let start = Timestamp::from_unix(i64::MIN);

        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(start - Duration::MAX, start);
        assert_eq!(start.duration_since(end), Duration::ZERO);
        assert_eq!(end.duration_since(start), Duration::from_secs(i64::MAX as u64));
        assert!(!end.to_string().is_empty() && !start.to_string().is_empty());
    }

    #[test]
    fn fractions_of_a_second_are_dropped_from_durations_and_rounded_up_in_dates() {
        assert_eq!(Timestamp::from_unix(5) + Duration::from_millis(1999), Timestamp::from_unix(6));
        assert_eq!(serde_json::from_str::<Timestamp>("1.25").ok(), Some(Timestamp::from_unix(2)));
        assert_eq!(serde_json::from_str::<Timestamp>("15e8").ok(), Some(Timestamp::from_unix(1_500_000_000)));
    }

    #[test]
    fn only_numbers_near_the_range_of_dates_are_read() {
        for text in ["\"1\"", "null", "true", "[1]", "1e300", "-1e300", "18446744073709551615"] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in any::<i64>()) {
            let written = serde_json::to_string(&Timestamp::from_unix(seconds)).expect("a number can be written");
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&written).ok(), Some(Timestamp::from_unix(seconds)));
        }

        #[test]
        fn later_instants_have_greater_texts(a in 0..253_402_300_799_i64, b in 0..253_402_300_799_i64) {
            let (a, b) = (Timestamp::from_unix(a), Timestamp::from_unix(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
