//! What is counted, for Prometheus. Labels are closed lists, never anything a request brought along.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label: the status of a verdict, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    status: u16,
    code: &'static str,
}

/// Label: the status the upstream answered with, or that we answered for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

/// All that the gate itself counts.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    verdicts: Family<VerdictLabel, Counter>,
    forwarded: Family<StatusLabel, Counter>,
    /// Open connections.
    pub(crate) connections: Gauge,
}

impl Counts {
    /// Registers everything.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("gate_verdicts", "Requests judged, by status and reason", self.verdicts.clone());
        registry.register("gate_forwarded", "Requests forwarded to the upstream, by status", self.forwarded.clone());
        registry.register("gate_connections_open", "Open connections", self.connections.clone());
    }

    pub(crate) fn judged(&self, status: u16, code: &'static str) {
        self.verdicts.get_or_create(&VerdictLabel { status, code }).inc();
    }

    pub(crate) fn forwarded(&self, status: u16) {
        self.forwarded.get_or_create(&StatusLabel { status }).inc();
    }
}

/// The text that Prometheus reads.
pub(crate) fn render(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("a String takes everything");
    text
}
