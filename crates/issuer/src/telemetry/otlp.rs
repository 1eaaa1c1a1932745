//! Traces on their way to a collector: OTLP 1.x over HTTP, as protocol buffers (`opentelemetry/proto/collector/trace/v1`).
//!
//! The messages are few and written by hand, because the libraries for it bring more than the rest of this program's
//! observation weighs. Batches go out one at a time. One that is not taken is dropped and counted: what is observed must
//! not suffer from who observes it, and old traces are worth less than memory.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use tokio::sync::mpsc;
use tracing::{info, warn};
use url::Url;

use super::traces::{Attribute, Ended, Finished};
use crate::chain;
use crate::config::TelemetrySettings;
use crate::metrics::Outcomes;
use crate::outgoing::{Bounds, FetchError, Outgoing, Reach};
use crate::shutdown::Shutdown;

/// Brings traces to the collector.
pub(crate) struct Exporter {
    address: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    service_name: String,
    waiting: mpsc::Receiver<Finished>,
    outgoing: Outgoing,
    outcomes: Outcomes,
}

impl Exporter {
    pub(super) fn new(
        endpoint: &Url,
        settings: &TelemetrySettings,
        waiting: mpsc::Receiver<Finished>,
        outcomes: Outcomes,
    ) -> Self {
        Self {
            address: format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')),
            headers: settings.otlp_headers.clone(),
            service_name: settings.service_name.clone(),
            waiting,
            outgoing: Outgoing::new(Reach::Operator),
            outcomes,
        }
    }

    /// Exports until `shutdown` is ordered, and what is waiting then.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown) {
        let mut works = true;
        loop {
            let mut batch = Vec::new();
            let is_over = tokio::select! {
                received = self.waiting.recv_many(&mut batch, AT_ONCE) => received == 0,
                () = shutdown.ordered() => true,
            };
            if !is_over && batch.len() + self.waiting.len() < AT_ONCE {
                // More will come; a request to the collector for each would be dear for both.
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = shutdown.ordered() => {}
                }
            }
            while batch.len() < AT_ONCE
                && let Ok(next) = self.waiting.try_recv()
            {
                batch.push(next);
            }
            if !batch.is_empty() {
                works = self.export(&batch, works).await;
            }
            if is_over && (batch.is_empty() || !works) {
                return;
            }
        }
    }

    /// Whether it worked; `worked` is whether it did before.
    async fn export(&self, batch: &[Finished], worked: bool) -> bool {
        let body = request(&self.service_name, batch);
        let posted = self.post(body).await;
        let outcome = if posted.is_ok() { "exported" } else { "dropped" };
        batch.iter().for_each(|_| self.outcomes.count(outcome));
        match (&posted, worked) {
            (Err(failure), true) => tell(failure),
            (Ok(()), false) => info!("the collector takes traces again"),
            _ => {}
        }
        posted.is_ok()
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), FetchError> {
        let request = Request::post(&self.address).header(CONTENT_TYPE, PROTOBUF).body(Full::from(body));
        let mut request = request.map_err(|_| FetchError::Address(self.address.clone()))?;
        request.headers_mut().extend(self.headers.iter().cloned());
        let status = self.outgoing.send(request, BOUNDS).await?.status();
        let refused = || FetchError::Status { url: self.address.clone(), status };
        status.is_success().then_some(()).ok_or_else(refused)
    }
}

fn tell(failure: &FetchError) {
    warn!(error = chain(failure), "the collector does not take traces; they are dropped until it does");
}

/// `ExportTraceServiceRequest`
fn request(service_name: &str, batch: &[Finished]) -> Vec<u8> {
    let mut spans = Message::default();
    spans.message(1, |scope| {
        scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
        scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    for Finished { id, spans: ended } in batch {
        for span in ended {
            spans.message(2, |message| write_span(message, &id.0, span));
        }
    }
    let mut request = Message::default();
    request.message(1, |of_resource| {
        of_resource.message(1, |resource| {
            resource.message(1, |it| write_attribute(it, "service.name", &Attribute::from(service_name.to_owned())));
            resource.message(1, |it| write_attribute(it, "service.version", &env!("CARGO_PKG_VERSION").into()));
        });
        of_resource.bytes(2, &spans.0);
    });
    request.0
}

/// `Span`
fn write_span(message: &mut Message, trace: &[u8; 16], span: &Ended) {
    message.bytes(1, trace);
    message.bytes(2, &span.id.to_be_bytes());
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.to_be_bytes());
    }
    message.bytes(5, span.name.as_bytes());
    message.number(6, span.kind as u64);
    message.fixed64(7, span.from_unix_ns);
    message.fixed64(8, span.until_unix_ns);
    for (name, value) in &span.attributes {
        message.message(9, |attribute| write_attribute(attribute, name, value));
    }
    if span.failed {
        message.message(15, |status| status.number(3, STATUS_CODE_ERROR));
    }
}

/// `KeyValue`
fn write_attribute(message: &mut Message, name: &str, value: &Attribute) {
    message.bytes(1, name.as_bytes());
    message.message(2, |any| match value {
        Attribute::Text(text) => any.bytes(1, text.as_bytes()),
        Attribute::Number(number) => any.number(3, number.cast_unsigned()),
    });
}

/// A message of protocol buffers while it is written (<https://protobuf.dev/programming-guides/encoding/>).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// `Status.StatusCode`
const STATUS_CODE_ERROR: u64 = 2;
/// Traces in one request.
const AT_ONCE: usize = 256;
/// How long a batch gathers.
const PAUSE: Duration = Duration::from_secs(1);
/// A collector that is slower than this is too slow for us.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(3), body_limit_bytes: 64 * 1024 };

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own documentation.
    #[test]
    fn numbers_and_texts_are_written_as_the_encoding_says() {
        let mut message = Message::default();
        message.number(1, 150);
        message.bytes(2, b"testing");
        message.message(3, |inner| inner.number(1, 150));

        let expected = [&[0x08, 0x96, 0x01][..], b"\x12\x07testing", &[0x1a, 0x03, 0x08, 0x96, 0x01]].concat();
        assert_eq!(message.0, expected);
    }
}
