//! How long transitions take: counted, and seen in traces.

use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::StoreMetrics;
use crate::telemetry::{self, traces::Span};

/// A transition that is timed until it is dropped.
pub(super) struct Timed {
    metrics: StoreMetrics,
    operation: &'static str,
    asked: Instant,
    /// How long it waited for a connection or its turn; nothing while it waits.
    waited: Option<Duration>,
    span: Span,
}

impl Timed {
    /// It is asked for.
    pub(super) fn begin(metrics: &StoreMetrics, operation: &'static str) -> Self {
        let mut span = telemetry::span("transaction").of_a_call();
        span.note("db.operation.name", || operation.into());
        Self { metrics: metrics.clone(), operation, asked: Instant::now(), waited: None, span }
    }

    /// It has its turn.
    pub(super) fn has_its_turn(&mut self) {
        let waited = self.asked.elapsed();
        self.span.note("keywheel.waited_us", || i64::try_from(waited.as_micros()).unwrap_or(i64::MAX).into());
        self.waited = Some(waited);
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        match self.waited {
            Some(waited) => self.metrics.transaction(self.operation, waited, self.asked.elapsed()),
            None => self.span.failed(),
        }
    }
}
