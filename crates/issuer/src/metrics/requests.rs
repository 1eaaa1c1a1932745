//! Requests, counted without a lock or a look-up: a cell for each endpoint, method and status that there can be.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::http::endpoints::Endpoint;

/// What was answered, and how quickly.
pub(crate) struct Requests {
    rows: Box<[Row]>,
    begun: AtomicU64,
}

/// Of one endpoint. Endpoints do not share cache lines, since different cores count them.
#[repr(align(128))]
struct Row {
    answers: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    durations: Durations,
}

/// A histogram of durations.
pub(crate) struct Durations {
    /// One for each of [`BOUNDS_US`], and one for what took longer.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self { rows: Endpoint::all().map(|_| Row::new()).collect(), begun: AtomicU64::new(0) }
    }

    /// A request has come.
    pub(crate) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered after `duration`.
    pub(crate) fn answered(&self, endpoint: Endpoint, method: &Method, status: StatusCode, duration: Duration) {
        let row = &self.rows[endpoint.index()];
        row.answers[method_index(method)][status_index(status)].fetch_add(1, Ordering::Relaxed);
        row.durations.observe(duration);
    }

    /// Whoever sent it has gone away before it was answered.
    pub(crate) fn aborted(&self, endpoint: Endpoint, method: &Method) {
        self.rows[endpoint.index()].answers[method_index(method)][ABORTED].fetch_add(1, Ordering::Relaxed);
    }

    fn in_flight(&self) -> u64 {
        // Read before what has begun: a request that ends in between is in flight, rather than less than none.
        let answers = self.rows.iter().flat_map(|row| row.answers.iter().flatten());
        let ended: u64 = answers.map(|count| count.load(Ordering::Relaxed)).sum();
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

impl Row {
    fn new() -> Self {
        let answers = [const { [const { AtomicU64::new(0) }; STATUSES.len()] }; METHODS.len()];
        Self { answers, durations: Durations::new() }
    }
}

impl Durations {
    pub(super) fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BOUNDS_US.len() + 1], sum_us: AtomicU64::new(0) }
    }

    /// Counts one.
    pub(crate) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = bounds_in_seconds().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        const HELP: &str =
            "Requests answered, by endpoint, method and status; \"aborted\" when the client did not wait";
        let mut family = encoder.encode_descriptor("http_requests", HELP, None, MetricType::Counter)?;
        for endpoint in Endpoint::all() {
            for (method, answers) in METHODS.iter().zip(&self.rows[endpoint.index()].answers) {
                for (status, count) in STATUSES.iter().zip(answers) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels = [("route", endpoint.template()), ("method", method), ("status", status)];
                        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                    }
                }
            }
        }
        const DURATIONS: &str = "How long it took to answer, by endpoint";
        let mut family =
            encoder.encode_descriptor("http_request_duration_seconds", DURATIONS, None, MetricType::Histogram)?;
        for endpoint in Endpoint::all() {
            let durations = &self.rows[endpoint.index()].durations;
            if !durations.is_empty() {
                durations.encode(family.encode_family(&[("route", endpoint.template())])?)?;
            }
        }
        let in_flight = i64::try_from(self.in_flight()).unwrap_or(i64::MAX);
        const IN_FLIGHT: &str = "Requests that are being answered";
        encoder
            .encode_descriptor("http_requests_in_flight", IN_FLIGHT, None, MetricType::Gauge)?
            .encode_gauge(&in_flight)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Requests")
    }
}

/// The upper bounds of every histogram of durations.
pub(super) fn bounds_in_seconds() -> impl Iterator<Item = f64> {
    BOUNDS_US.into_iter().map(|us| Duration::from_micros(us).as_secs_f64())
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::HEAD => 2,
        Method::OPTIONS => 3,
        Method::DELETE => 4,
        Method::PUT => 5,
        Method::PATCH => 6,
        _ => 7,
    }
}

const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "other"];

fn status_index(status: StatusCode) -> usize {
    usize::from(INDEX_OF_STATUS[usize::from(status.as_u16()).min(INDEX_OF_STATUS.len() - 1)])
}

/// What is answered, what may be, and what never is.
const STATUSES: [&str; 32] = [
    "other", "aborted", "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401",
    "403", "404", "405", "406", "408", "409", "410", "413", "415", "421", "422", "428", "429", "500", "502", "503",
    "504",
];
const ABORTED: usize = 1;

/// For each number, its place in [`STATUSES`].
static INDEX_OF_STATUS: [u8; 600] = {
    let mut index = [0; 600];
    let mut place = 2;
    while place < STATUSES.len() {
        let digits = STATUSES[place].as_bytes();
        let number = (digits[0] - b'0') as usize * 100 + (digits[1] - b'0') as usize * 10 + (digits[2] - b'0') as usize;
        index[number] = place as u8;
        place += 1;
    }
    index
};

/// A cached answer, an RSA signature, a commit, a password, and what people notice.
const BOUNDS_US: [u64; 7] = [500, 2_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_leaves_the_flight() {
        let requests = Requests::new();
        let token = Endpoint::all().nth(1).expect("endpoints");

        for _ in 0..3 {
            requests.begun();
        }
        requests.answered(token, &Method::POST, StatusCode::OK, Duration::from_micros(501));
        requests.aborted(token, &Method::from_bytes(b"BREW").expect("a method"));

        assert_eq!(requests.in_flight(), 1);
        assert_eq!(requests.rows[1].answers[1][status_index(StatusCode::OK)].load(Ordering::Relaxed), 1);
        assert_eq!(requests.rows[1].answers[7][ABORTED].load(Ordering::Relaxed), 1);
        assert_eq!(requests.rows[1].durations.counts[1].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_status_has_its_name_and_odd_ones_have_one_together() {
        for (code, name) in [(200, "200"), (304, "304"), (503, "503"), (299, "other"), (999, "other"), (100, "other")] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(STATUSES[status_index(status)], name);
        }
    }
}
