//! Traces: which requests are followed, and what is kept of them.
//!
//! A trace is a request with the steps that took time: transactions, signatures, password hashes, calls to others. A step
//! is called by a fixed name; what it carries along are routes, statuses, operations, algorithms, hosts and client ids.
//!
//! Nothing here waits. A finished trace goes into a queue of bounded length; when that is full, it is dropped and counted.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

use super::otlp::Exporter;
use super::{CURRENT, Context};
use crate::config::TelemetrySettings;
use crate::edges::{Clock, Edges, Entropy};
use crate::metrics::{Metrics, Outcomes};

/// Decides what is traced.
pub(crate) struct Tracer {
    /// Of the last eight bytes of a trace's id, those below are traced.
    below: u128,
    queue: mpsc::Sender<Finished>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    outcomes: Outcomes,
}

/// A request, or a piece of work in the background, that is traced.
pub(crate) struct Trace {
    id: TraceId,
    /// Of the step of another program that caused this.
    parent: Option<u64>,
    /// The first span; those of steps are numbered on from it.
    root: u64,
    next: AtomicU64,
    began: Duration,
    began_unix_ms: i64,
    clock: Arc<dyn Clock>,
    steps: Mutex<Vec<Ended>>,
}

/// The id of a trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(pub(super) [u8; 16]);

/// A step; it ends when it is dropped. Without a trace it is nothing.
#[derive(Default)]
pub(crate) struct Span(Option<Open>);

struct Open {
    trace: Arc<Trace>,
    ended: Ended,
    began: Duration,
}

/// A span that is over.
pub(super) struct Ended {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) from_unix_ns: u64,
    pub(super) until_unix_ns: u64,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    pub(super) failed: bool,
}

/// A trace that is over.
pub(super) struct Finished {
    pub(super) id: TraceId,
    pub(super) spans: Vec<Ended>,
}

/// What a span says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Text(Cow<'static, str>),
    Number(i64),
}

/// Who is on the other side of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

impl Tracer {
    /// A tracer, and what brings its traces to the collector; none without a collector.
    pub(crate) fn open(settings: &TelemetrySettings, edges: &Edges, metrics: &Metrics) -> Option<(Self, Exporter)> {
        let endpoint = settings.otlp_endpoint.as_ref()?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let exporter = Exporter::new(endpoint, settings, waiting, metrics.traces.clone());
        let tracer = Self {
            below: (settings.sample_ratio * 2f64.powi(64)) as u128,
            queue,
            clock: Arc::clone(&edges.clock),
            entropy: Arc::clone(&edges.entropy),
            outcomes: metrics.traces.clone(),
        };
        Some((tracer, exporter))
    }

    /// Begins the trace of a request, if it is to be traced. `headers` are those of a proxy of ours, which may have begun
    /// one; whether it is followed was decided there.
    pub(super) fn begin(&self, headers: Option<&HeaderMap>) -> Option<Arc<Trace>> {
        let (id, parent) = match headers.and_then(read_traceparent) {
            Some(Parent { is_sampled: false, .. }) => return None,
            Some(Parent { trace, span, .. }) => (trace, Some(span)),
            None => {
                let mut id = [0; 16];
                self.entropy.fill(&mut id).ok()?;
                let [.., a, b, c, d, e, f, g, h] = id;
                if u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h])) >= self.below {
                    return None;
                }
                (TraceId(id), None)
            }
        };
        let mut root = [0; 8];
        self.entropy.fill(&mut root).ok()?;
        // "An all-zero value is not valid" (OpenTelemetry, SpanContext), and neither may the numbers after it pass zero.
        let root = u64::from_be_bytes(root) >> 1 | 1;
        Some(Arc::new(Trace {
            id,
            parent,
            root,
            next: AtomicU64::new(root + 1),
            began: self.clock.elapsed(),
            began_unix_ms: self.clock.now_ms(),
            clock: Arc::clone(&self.clock),
            steps: Mutex::default(),
        }))
    }

    /// Ends a trace. What goes on behind its back is not seen any more.
    pub(super) fn finish(
        &self,
        trace: &Trace,
        (name, kind): (String, Kind),
        attributes: Vec<(&'static str, Attribute)>,
        failed: bool,
    ) {
        let mut spans = std::mem::take(&mut *trace.steps.lock().unwrap_or_else(PoisonError::into_inner));
        spans.push(Ended {
            name: name.into(),
            kind,
            id: trace.root,
            parent: trace.parent,
            from_unix_ns: trace.unix_ns(trace.began),
            until_unix_ns: trace.unix_ns(self.clock.elapsed()),
            attributes,
            failed,
        });
        if self.queue.try_send(Finished { id: trace.id, spans }).is_err() {
            self.outcomes.count("dropped");
        }
    }
}

/// Traces work that nobody asked for.
pub(crate) async fn job<T, E>(
    tracer: Option<&Tracer>,
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let traced = tracer.and_then(|tracer| Some((tracer, tracer.begin(None)?)));
    let Some((tracer, trace)) = traced else { return work.await };
    let context = Context { id: None, trace: Some(Arc::clone(&trace)), client: None };
    let result = CURRENT.scope(context, work).await;
    tracer.finish(&trace, (name.to_owned(), Kind::Internal), Vec::new(), result.is_err());
    result
}

impl Trace {
    /// What it is called in logs.
    pub(crate) fn id(&self) -> TraceId {
        self.id
    }

    /// A monotonic time as one of the calendar, counted from the beginning of the trace.
    fn unix_ns(&self, elapsed: Duration) -> u64 {
        let began = Duration::from_millis(u64::try_from(self.began_unix_ms).unwrap_or(0));
        u64::try_from((began + elapsed.saturating_sub(self.began)).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Span {
    /// The next step of a trace, if there is one and it has room.
    pub(super) fn of(trace: Option<&Arc<Trace>>, name: &'static str) -> Self {
        let Some(trace) = trace else { return Self(None) };
        let id = trace.next.fetch_add(1, Ordering::Relaxed);
        if id - trace.root > MOST_STEPS {
            return Self(None);
        }
        let ended = Ended {
            name: name.into(),
            kind: Kind::Internal,
            id,
            parent: Some(trace.root),
            from_unix_ns: 0,
            until_unix_ns: 0,
            attributes: Vec::new(),
            failed: false,
        };
        Self(Some(Open { trace: Arc::clone(trace), ended, began: trace.clock.elapsed() }))
    }

    /// A step that asks another program.
    pub(crate) fn of_a_call(mut self) -> Self {
        if let Some(open) = &mut self.0 {
            open.ended.kind = Kind::Client;
        }
        self
    }

    /// Says something about it; `value` is only made for a trace.
    pub(crate) fn note(&mut self, name: &'static str, value: impl FnOnce() -> Attribute) {
        if let Some(open) = &mut self.0 {
            open.ended.attributes.push((name, value()));
        }
    }

    /// It did not work.
    pub(crate) fn failed(&mut self) {
        if let Some(open) = &mut self.0 {
            open.ended.failed = true;
        }
    }

    /// What tells the other program which trace it works for (W3C Trace Context §3.2).
    pub(crate) fn traceparent(&self) -> Option<(HeaderName, HeaderValue)> {
        let Open { trace, ended, .. } = self.0.as_ref()?;
        let value = format!("00-{}-{:016x}-01", trace.id, ended.id);
        Some((TRACEPARENT, HeaderValue::try_from(value).ok()?))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(Open { trace, mut ended, began }) = self.0.take() else { return };
        ended.from_unix_ns = trace.unix_ns(began);
        ended.until_unix_ns = trace.unix_ns(trace.clock.elapsed());
        trace.steps.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// What another program says of the trace that it works for.
#[derive(Debug, PartialEq)]
struct Parent {
    trace: TraceId,
    span: u64,
    is_sampled: bool,
}

/// Reads `traceparent` (W3C Trace Context §3.2.2). Of a version that we do not know, what the first version has.
fn read_traceparent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let mut parts = value.to_str().ok()?.split('-');
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let is_lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.bytes().all(is_lower_hex).then(|| u128::from_str_radix(part, 16).ok())?
    };
    let (version, trace, span, flags) = (number(2)?, number(32)?, number(16)?, number(2)?);
    let is_valid = version != 0xff && trace != 0 && span != 0 && (version != 0 || parts.next().is_none());
    let span = u64::try_from(span).ok()?;
    is_valid.then_some(Parent { trace: TraceId(trace.to_be_bytes()), span, is_sampled: flags & 1 == 1 })
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// More than a request has; what is left out is left out at its end.
const MOST_STEPS: u64 = 64;
/// Traces that wait for the collector: a few megabytes at most.
const QUEUE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::ManualClock;

    fn tracer(sample_ratio: f64) -> (Tracer, mpsc::Receiver<Finished>) {
        let (queue, waiting) = mpsc::channel(2);
        let edges = Edges::system();
        let tracer = Tracer {
            below: (sample_ratio * 2f64.powi(64)) as u128,
            queue,
            clock: ManualClock::at(1_800_000_000),
            entropy: edges.entropy,
            outcomes: Metrics::new().traces.clone(),
        };
        (tracer, waiting)
    }

    fn parent(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().expect("a header"));
        }
        read_traceparent(&headers)
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let read = parent(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]).expect("valid");

        assert_eq!(read.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(read.span, 0xb7ad_6b71_6920_3331);
        assert!(read.is_sampled);
        let later = parent(&["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-comes"]).expect("valid");
        assert!(!later.is_sampled);
    }

    #[test]
    fn what_is_no_traceparent_is_passed_over() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        for values in [
            vec![],
            vec!["".to_owned()],
            vec![format!("00-{TRACE}-b7ad6b7169203331-01-more")],
            vec![format!("ff-{TRACE}-b7ad6b7169203331-01")],
            vec![format!("00-{TRACE}-0000000000000000-01")],
            vec![format!("00-{}-b7ad6b7169203331-01", "0".repeat(32))],
            vec![format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase())],
            vec![format!("00-{TRACE}-b7ad6b71692033-01")],
            vec![format!("00-{TRACE}-+7ad6b7169203331-01")],
            vec![format!("00-{TRACE}-b7ad6b7169203331-01"); 2],
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(parent(&values), None, "{values:?}");
        }
    }

    #[test]
    fn none_all_or_some_are_traced() {
        let (never, _waiting) = tracer(0.0);
        let (always, _waiting_too) = tracer(1.0);
        let (sometimes, _waiting_also) = tracer(0.5);

        assert!((0..100).all(|_| never.begin(None).is_none()));
        assert!((0..100).all(|_| always.begin(None).is_some()));
        let traced = (0..1000).filter(|_| sometimes.begin(None).is_some()).count();
        assert!((350..650).contains(&traced), "{traced}");
    }

    #[tokio::test]
    async fn steps_belong_to_the_work_they_are_done_for_and_the_queue_has_an_end() {
        let (tracer, mut waiting) = tracer(1.0);
        let work = async {
            let mut step = super::super::span("sign");
            step.note("key.alg", || "ES256".into());
            assert!(step.traceparent().is_some());
            drop(step);
            for _ in 0..2 * MOST_STEPS {
                drop(super::super::span("too many"));
            }
            Err::<(), ()>(())
        };

        for _ in 0..3 {
            job(Some(&tracer), "work", async { Ok::<(), ()>(()) }).await.expect("it did");
        }
        drop(super::super::span("of nobody"));
        let [first, second] = [waiting.recv().await, waiting.recv().await].map(|it| it.expect("a trace").spans.len());
        assert_eq!((first, second), (1, 1));
        assert!(waiting.try_recv().is_err(), "the third was dropped");
        assert!(job(Some(&tracer), "work", work).await.is_err());

        let Finished { spans, .. } = waiting.recv().await.expect("a trace");
        assert_eq!(spans.len() as u64, MOST_STEPS + 1);
        let (step, root) = (&spans[0], spans.last().expect("the root"));
        assert_eq!((step.name.as_ref(), step.parent), ("sign", Some(root.id)));
        assert_eq!(step.attributes, [("key.alg", Attribute::from("ES256"))]);
        assert_eq!((root.name.as_ref(), root.parent, root.failed), ("work", None, true));
        assert_eq!(root.from_unix_ns, 1_800_000_000_000_000_000);
    }
}
