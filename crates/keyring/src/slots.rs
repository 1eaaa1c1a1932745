//! When a rotation may fall: every so often, or at the instants of a cron expression.
//!
//! Cron expressions are read by the same library, with the same options, as the scheduler that wakes the rotator, so
//! the dates an operator is shown are the dates that happen.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use keywheel_jose::Timestamp;

/// How far the gaps of a cron expression are examined, whichever ends first.
const EXAMINED_SLOTS: usize = 1_000;
const EXAMINED_SPAN: Duration = Duration::from_secs(3_650 * 86_400);

/// 2024-01-01T00:00:00Z, from where cron gaps are examined: the crate reads no clock, and the leap day is soon.
const EXAMINED_FROM: Timestamp = Timestamp::from_unix(1_704_067_200);

/// The instants at which the signing key of a ring may change.
#[derive(Clone, Debug)]
pub struct Slots(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Every(Duration),
    At { cron: Box<Cron>, smallest_gap: Duration },
}

/// Why a text is no cron expression to rotate by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The scheduler's format has six fields; five or seven would mean something else elsewhere.
    #[error(
        "has {found} fields, expected 6: second minute hour day-of-month month day-of-week, for example \"0 0 3 * * Sun\""
    )]
    Fields {
        /// How many fields there are.
        found: usize,
    },
    /// A field is not valid.
    #[error("is not a cron expression: {reason}")]
    Malformed {
        /// What the parser found.
        reason: String,
    },
    /// No date satisfies it, such as 30 February.
    #[error("never fires")]
    NeverFires,
}

impl Slots {
    /// A slot every `interval` after the predecessor began to sign.
    pub fn every(interval: Duration) -> Self {
        Self(Kind::Every(interval))
    }

    /// Slots at the instants of a six-field cron expression with seconds, in UTC. When both days are restricted, both
    /// must match.
    ///
    /// # Errors
    /// Every [`CronError`]. An expression that is silent for ten years counts as one that never fires.
    pub fn cron(text: &str) -> Result<Self, CronError> {
        let found = text.split_whitespace().count();
        if found != 6 {
            return Err(CronError::Fields { found });
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Required)
            .dom_and_dow(true)
            .build()
            .parse(text)
            .map_err(|error| CronError::Malformed { reason: error.to_string() })?;
        let mut slot = cron_slot(&cron, EXAMINED_FROM)
            .filter(|&slot| slot <= EXAMINED_FROM + EXAMINED_SPAN)
            .ok_or(CronError::NeverFires)?;
        let mut smallest_gap = EXAMINED_SPAN;
        for _ in 1..EXAMINED_SLOTS {
            let Some(next) = cron_slot(&cron, slot + Duration::from_secs(1)) else { break };
            smallest_gap = smallest_gap.min(next.duration_since(slot));
            slot = next;
            if slot > EXAMINED_FROM + EXAMINED_SPAN {
                break;
            }
        }
        Ok(Self(Kind::At { cron: Box::new(cron), smallest_gap }))
    }

    /// The shortest time between two slots: the interval, or the smallest gap among a cron expression's next 1,000
    /// instants or ten years, whichever ends first.
    pub fn smallest_gap(&self) -> Duration {
        match &self.0 {
            Kind::Every(interval) => *interval,
            Kind::At { smallest_gap, .. } => *smallest_gap,
        }
    }

    /// When the successor of a key that signs from `predecessor` takes over, not before `earliest`.
    ///
    /// An interval counts from `predecessor`, and a rotation that slipped happens as soon as it may. A cron rotation
    /// that slipped waits for the next instant of the expression, because that is when the operator allowed it.
    pub fn next(&self, predecessor: Timestamp, earliest: Timestamp) -> Timestamp {
        match &self.0 {
            Kind::Every(interval) => earliest.max(predecessor + *interval),
            Kind::At { cron, .. } => {
                let from = earliest.max(predecessor + Duration::from_secs(1));
                // The search ends in the year 5000. A clock that shows it must not stop the rotation.
                cron_slot(cron, from).unwrap_or(from)
            }
        }
    }

    /// The next `count` slots after `from`, if every rotation takes place when it may.
    pub fn preview(&self, from: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(Some(from), |&slot| Some(self.next(slot, slot))).skip(1).take(count).collect()
    }
}

/// The first instant of `cron` at or after `from`. The library keeps the fraction of a second it is given; ours is
/// zero.
fn cron_slot(cron: &Cron, from: Timestamp) -> Option<Timestamp> {
    let from = DateTime::<Utc>::from_timestamp(from.as_unix(), 0)?;
    cron.find_next_occurrence(&from, true).ok().map(|slot| Timestamp::from_unix(slot.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER_22: Timestamp = Timestamp::from_unix(1_795_330_800); // 2026-11-22T07:00:00Z, a Sunday

    fn cron(text: &str) -> Slots {
        Slots::cron(text).expect("a valid expression")
    }

    fn dates(slots: &Slots, from: Timestamp, count: usize) -> Vec<String> {
        slots.preview(from, count).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_interval_counts_from_the_predecessor() {
        let slots = Slots::every(Duration::from_secs(100));
        let predecessor = Timestamp::from_unix(1_000);

        assert_eq!(slots.next(predecessor, Timestamp::from_unix(1_050)), Timestamp::from_unix(1_100));
    }

    #[test]
    fn a_slipped_interval_rotates_as_soon_as_it_may() {
        let slots = Slots::every(Duration::from_secs(100));

        assert_eq!(slots.next(Timestamp::from_unix(1_000), Timestamp::from_unix(1_777)), Timestamp::from_unix(1_777));
    }

    #[test]
    fn cron_slots_are_previewed_as_dates_in_utc() {
        let dates = dates(&cron("0 0 3 * * Sun"), NOVEMBER_22, 3);

        assert_eq!(dates, ["2026-11-29T03:00:00Z", "2026-12-06T03:00:00Z", "2026-12-13T03:00:00Z"]);
    }

    #[test]
    fn a_slipped_cron_rotation_waits_for_the_next_allowed_instant() {
        let slots = cron("0 0 3 * * Sun");

        let next = slots.next(NOVEMBER_22, NOVEMBER_22 + Duration::from_secs(10 * 86_400));

        assert_eq!(next.to_string(), "2026-12-06T03:00:00Z");
    }

    #[test]
    fn a_cron_slot_never_falls_on_its_predecessor() {
        let slots = cron("0 0 7 * * *");

        assert_eq!(slots.next(NOVEMBER_22, NOVEMBER_22).to_string(), "2026-11-23T07:00:00Z");
    }

    #[test]
    fn a_cron_slot_may_fall_on_the_earliest_instant() {
        let slots = cron("0 0 7 * * *");

        assert_eq!(slots.next(NOVEMBER_22 - Duration::from_secs(5), NOVEMBER_22), NOVEMBER_22);
    }

    #[test]
    fn day_of_month_and_day_of_week_must_both_match() {
        let dates = dates(&cron("0 0 0 13 * Fri"), NOVEMBER_22, 2);

        assert_eq!(dates, ["2027-08-13T00:00:00Z", "2028-10-13T00:00:00Z"]);
    }

    #[test]
    fn the_smallest_gap_is_found_among_uneven_slots() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        assert_eq!(cron("0 0 3 * * *").smallest_gap(), hours(24));
        assert_eq!(cron("0 0 3,5 * * Mon").smallest_gap(), hours(2));
        assert_eq!(cron("0 0 0 1,31 * *").smallest_gap(), hours(24));
        assert_eq!(cron("0 0 0 28 2 *").smallest_gap(), hours(365 * 24));
    }

    #[test]
    fn an_expression_that_never_fires_is_refused() {
        assert_eq!(Slots::cron("0 0 0 30 2 *").expect_err("no slots"), CronError::NeverFires);
    }

    #[test]
    fn anything_but_six_fields_is_refused() {
        for (text, found) in [("0 3 * * Sun", 5), ("0 0 3 * * Sun 2030", 7), ("@weekly", 1), ("", 0)] {
            assert_eq!(Slots::cron(text).expect_err("no slots"), CronError::Fields { found }, "{text}");
        }
    }

    #[test]
    fn a_field_out_of_range_is_refused() {
        assert!(matches!(Slots::cron("0 0 25 * * *").expect_err("no slots"), CronError::Malformed { .. }));
    }

    #[test]
    fn a_clock_beyond_the_search_does_not_stop_the_rotation() {
        let beyond = Timestamp::from_unix(i64::MAX - 10);

        assert_eq!(cron("0 0 3 * * *").next(beyond, beyond), beyond + Duration::from_secs(1));
    }
}
