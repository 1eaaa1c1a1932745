//! Medians, ranges and percentiles.

use std::iter::Sum;
use std::time::Duration;

/// The middle of several measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of one measurement at least.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: f64::midpoint(low, high), min, max }
    }
}

/// How long answers took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.nanoseconds.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The time within which this share of the answers came (0 to 1); zero if there were none.
    pub(crate) fn percentile(&mut self, share: f64) -> Duration {
        if self.nanoseconds.is_empty() {
            return Duration::ZERO;
        }
        let last = self.nanoseconds.len() - 1;
        let rank = ((self.nanoseconds.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
        let (_, value, _) = self.nanoseconds.select_nth_unstable(rank);
        Duration::from_nanos(*value)
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.iter().copied().max().unwrap_or(0))
    }
}

impl Sum for Latencies {
    /// All of them together.
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        Self { nanoseconds: parts.flat_map(|part| part.nanoseconds).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(0.5), Duration::ZERO);
        for milliseconds in (1..=100).rev() {
            latencies.add(Duration::from_millis(milliseconds));
        }

        assert_eq!(latencies.percentile(0.5), Duration::from_millis(50));
        assert_eq!(latencies.percentile(0.99), Duration::from_millis(99));
        assert_eq!(latencies.percentile(1.0), Duration::from_millis(100));
        assert_eq!(latencies.percentile(0.0), Duration::from_millis(1));
        assert_eq!(latencies.max(), Duration::from_millis(100));
    }
}
