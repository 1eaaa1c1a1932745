//! A collector of OpenTelemetry: takes OTLP over HTTP and reads what it was sent.
//!
//! The messages are those of `opentelemetry/proto/trace/v1/trace.proto`, read by their field numbers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::eventually;

/// A running collector; gone when dropped.
pub(super) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Received {
    headers: HeaderMap,
    bodies: Vec<Bytes>,
}

/// A span as it was received.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) status: u64,
}

impl Span {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }
}

impl Collector {
    pub(super) async fn serve() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let received = Arc::<Mutex<Received>>::default();
        let noting = Arc::clone(&received);
        let take = move |headers: HeaderMap, body: Bytes| {
            let mut received = noting.lock().expect("no panic while noting");
            received.headers = headers;
            received.bodies.push(body);
            std::future::ready(StatusCode::OK)
        };
        let router = Router::new().route("/v1/traces", post(take));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serving does not end by itself");
        });
        Self { address, received, serving }
    }

    /// What `telemetry.otlp_endpoint` has to say.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A header of the last request.
    pub(super) fn header(&self, name: &str) -> String {
        let received = self.received.lock().expect("no panic while noting");
        received.headers.get(name).map_or("", |value| value.to_str().expect("visible characters")).to_owned()
    }

    /// Everything that was received.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.received.lock().expect("no panic while noting").bodies.concat()
    }

    /// The spans so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        let bodies = self.received.lock().expect("no panic while noting").bodies.clone();
        bodies.iter().flat_map(|body| read_request(body)).collect()
    }

    /// The spans of the first trace whose root has this name.
    pub(super) async fn trace(&self, root: &str) -> Vec<Span> {
        eventually("the trace is exported", Duration::from_secs(20), async || {
            let spans = self.spans();
            let trace = spans.iter().find(|span| span.name == root)?.trace.clone();
            Some(spans.into_iter().filter(|span| span.trace == trace).collect())
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `ExportTraceServiceRequest`
fn read_request(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in messages(body, 1) {
        let resource = messages(of_resource, 1).next().expect("a resource");
        let attributes: Vec<_> = messages(resource, 1).map(read_attribute).collect();
        let service = attributes.iter().find(|(name, _)| name == "service.name").expect("service.name").1.clone();
        for of_scope in messages(of_resource, 2) {
            spans.extend(messages(of_scope, 2).map(|span| Span { service: service.clone(), ..read_span(span) }));
        }
    }
    spans
}

fn read_span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (field, value) in Fields(message) {
        match (field, value) {
            (1, Value::Bytes(id)) => span.trace = hex(id, 16),
            (2, Value::Bytes(id)) => span.id = hex(id, 8),
            (4, Value::Bytes(id)) => span.parent = hex(id, 8),
            (5, Value::Bytes(name)) => span.name = text(name),
            (6, Value::Number(kind)) => span.kind = kind,
            (7, Value::Number(time)) => span.from_ns = time,
            (8, Value::Number(time)) => span.until_ns = time,
            (9, Value::Bytes(attribute)) => span.attributes.push(read_attribute(attribute)),
            (15, Value::Bytes(status)) => {
                span.status = Fields(status).find_map(|(field, it)| it.number().filter(|_| field == 3)).unwrap_or(0);
            }
            other => panic!("a span has no such field: {other:?}"),
        }
    }
    span
}

/// `KeyValue`
fn read_attribute(message: &[u8]) -> (String, String) {
    let name = messages(message, 1).next().map(text).expect("a key");
    let any = messages(message, 2).next().expect("a value");
    let (field, value) = Fields(any).next().expect("one of the kinds of values");
    let value = match (field, value) {
        (1, Value::Bytes(value)) => text(value),
        (3, Value::Number(value)) => value.cast_signed().to_string(),
        other => panic!("a kind of value that the server does not send: {other:?}"),
    };
    (name, value)
}

#[derive(Debug)]
enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

impl Value<'_> {
    fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// The fields of a message in their order (<https://protobuf.dev/programming-guides/encoding/>).
struct Fields<'m>(&'m [u8]);

impl<'m> Iterator for Fields<'m> {
    type Item = (u64, Value<'m>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let tag = self.varint();
        let value = match tag & 7 {
            0 => Value::Number(self.varint()),
            1 => Value::Number(u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))),
            2 => {
                let length = usize::try_from(self.varint()).expect("a length");
                Value::Bytes(self.take(length))
            }
            other => panic!("wire type {other}"),
        };
        Some((tag >> 3, value))
    }
}

impl<'m> Fields<'m> {
    fn take(&mut self, length: usize) -> &'m [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
        }
        panic!("a number that does not end")
    }
}

/// The messages or texts at a field.
fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn hex(bytes: &[u8], length: usize) -> String {
    assert_eq!(bytes.len(), length);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
