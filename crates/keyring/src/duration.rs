//! Durations as people write them in a configuration: `30s`, `10m`, `12h`, `30d`, `1h30m`.
//!
//! Only units of fixed length exist here: a month or a year would need a calendar to mean anything.

use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Nothing was written.
    #[error("a duration is missing; write for example 30s, 10m, 12h or 30d")]
    Empty,
    /// Something that is neither a digit nor a unit, or a number or unit without the other.
    #[error("{text:?} is not a duration; write whole numbers with a unit d, h, m or s, for example 30d or 1h30m")]
    Malformed {
        /// The text, cut where it is long.
        text: String,
    },
    /// Units must come from the largest to the smallest, each at most once, so that a slip of the pen is noticed.
    #[error("{text:?} has its units out of order; write days, hours, minutes, seconds, each at most once")]
    OutOfOrder {
        /// The text, cut where it is long.
        text: String,
    },
    /// More seconds than can be counted.
    #[error("{text:?} is too long a duration")]
    TooLong {
        /// The text, cut where it is long.
        text: String,
    },
}

/// Reads `30s`, `10m`, `12h`, `30d` or a sum such as `1h30m`: whole numbers, no spaces.
///
/// # Errors
/// Every [`DurationError`]; a number without a unit is [`DurationError::Malformed`], zero needs one too (`0s`).
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let shown = || text.chars().take(40).collect::<String>();
    let malformed = || DurationError::Malformed { text: shown() };
    let too_long = || DurationError::TooLong { text: shown() };

    let mut seconds = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&digits| digits > 0).ok_or_else(malformed)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next().filter(|c| UNITS.iter().any(|(name, _)| name == c)).ok_or_else(malformed)?;
        let (_, length) =
            units.find(|(name, _)| *name == unit).ok_or_else(|| DurationError::OutOfOrder { text: shown() })?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*length)).ok_or_else(too_long)?;
        seconds = seconds.checked_add(part).ok_or_else(too_long)?;
        rest = &tail[unit.len_utf8()..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes a duration the way [`parse_duration`] reads it, fractions of a second dropped: `1d`, `1h30m`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, length) in UNITS {
        if seconds >= length {
            text.push_str(&format!("{}{name}", seconds / length));
            seconds %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("1h30m", 5_400),
            ("0s", 0),
            ("90m", 5_400),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_in_the_largest_units() {
        for (seconds, text) in [(86_400, "1d"), (5_400, "1h30m"), (90_061, "1d1h1m1s"), (390, "6m30s"), (0, "0s")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        assert_eq!(parse_duration(""), Err(DurationError::Empty));
        for text in ["30", "s", "1.5h", "-1s", "+1s", "1 h", "1w", "1ms", "1S", "٣s", "1hm", "1h30"] {
            assert_eq!(parse_duration(text), Err(DurationError::Malformed { text: text.to_owned() }), "{text}");
        }
        for text in ["30m1h", "1s1s"] {
            assert_eq!(parse_duration(text), Err(DurationError::OutOfOrder { text: text.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_duration_that_overflows_is_refused() {
        for text in ["18446744073709551616s", "213503982334602d", "213503982334601d86400s"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong { text: text.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_in_the_message() {
        let message = parse_duration(&"x".repeat(10_000)).expect_err("no digits").to_string();
        assert!(message.len() < 200, "{message}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds: u64) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_duration(&text);
        }
    }
}
