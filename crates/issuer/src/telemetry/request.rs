//! What every request goes through: it gets an id, its time is taken, it is counted, and told of where somebody wants it.
//!
//! Tokens and key sets pass here, so nothing is looked up and nothing is written that nobody reads: two readings of the
//! clock, a few cells to count in, and one header.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::response::Response;
use http::{Method, Request, StatusCode};
use tokio::time::Instant;
use tracing::info;

use super::request_id::{HEADER, RequestId};
use super::traces::{Kind, Trace, Tracer};
use super::{CURRENT, Context, request_id};
use crate::app::App;
use crate::edges::Entropy;
use crate::http::client_address::{Network, client_address, is_trusted};
use crate::http::endpoints::{Endpoint, Endpoints};
use crate::metrics::Requests;

/// What watches a listener.
pub(crate) struct Watch {
    endpoints: Endpoints,
    requests: Arc<Requests>,
    tracer: Option<Arc<Tracer>>,
    entropy: Arc<dyn Entropy>,
    proxies: Vec<Network>,
    tells_of_requests: bool,
}

/// A connection of it.
pub(crate) struct Watched {
    watch: Arc<Watch>,
    peer: IpAddr,
    /// By which the ids of its requests begin.
    number: u64,
    requests: AtomicU32,
}

/// A request that is being answered. Dropped before it was, it is counted as aborted.
struct UnderWay<'w> {
    requests: &'w Requests,
    endpoint: Endpoint,
    method: Method,
    begun: Instant,
    is_over: bool,
}

impl Watch {
    /// For the listeners of `app`.
    pub(crate) fn new(app: &App) -> Arc<Self> {
        Arc::new(Self {
            endpoints: Endpoints::below(app.config.issuer.path()),
            requests: Arc::clone(&app.metrics.requests),
            tracer: app.tracer.clone(),
            entropy: Arc::clone(&app.entropy),
            proxies: app.config.server.trusted_proxies.clone(),
            tells_of_requests: app.config.log.requests,
        })
    }

    /// A connection from `peer`.
    pub(crate) fn connection(self: &Arc<Self>, peer: IpAddr) -> Watched {
        let mut random = [0; 8];
        // Without randomness ids are less telling apart, which is no reason to refuse anybody.
        let _ = self.entropy.fill(&mut random);
        let number = u64::from_be_bytes(random) >> 16;
        Watched { watch: Arc::clone(self), peer, number, requests: AtomicU32::new(1) }
    }
}

impl Watched {
    /// Whether requests without an id of their own are counted and no more.
    pub(crate) fn only_counts(&self) -> bool {
        self.watch.tracer.is_none() && !self.watch.tells_of_requests
    }

    /// Counts a `GET` that was answered at once, and says what it is called.
    pub(crate) fn count(&self, path: &str, status: StatusCode, begun: Instant) -> RequestId {
        let Watch { requests, endpoints, .. } = &*self.watch;
        requests.begun();
        requests.answered(endpoints.of(path), &Method::GET, status, begun.elapsed());
        self.next_id()
    }

    fn next_id(&self) -> RequestId {
        RequestId::Made { connection: self.number, number: self.requests.fetch_add(1, Ordering::Relaxed) }
    }

    /// Answers a request, and says when that was.
    pub(crate) async fn answer<B, F: Future<Output = Response>>(
        &self,
        request: Request<B>,
        answer: impl FnOnce(Request<B>) -> F,
    ) -> (Response, Instant) {
        let watch = &*self.watch;
        let (headers, is_proxy) = (request.headers(), is_trusted(self.peer, &watch.proxies));
        let given = if is_proxy { RequestId::given(headers) } else { None };
        let id = given.unwrap_or_else(|| self.next_id());
        let trace = watch.tracer.as_ref().and_then(|tracer| tracer.begin(is_proxy.then_some(headers)));
        let told = watch.tells_of_requests.then(|| client_address(self.peer, headers, &watch.proxies));
        let endpoint = watch.endpoints.of(request.uri().path());
        let client = (told.is_some() || trace.is_some()).then(Default::default);
        let context = Context { id: Some(id), trace: trace.clone(), client };
        let mut under_way = UnderWay::begin(&watch.requests, endpoint, request.method().clone());
        let work = async move {
            let mut response = answer(request).await;
            let ended = under_way.end(&response);
            if let Some(id) = request_id() {
                response.headers_mut().insert(HEADER, id.to_header());
            }
            if let Some(address) = told {
                under_way.tell(&response, address, ended);
            }
            if let (Some(tracer), Some(trace)) = (&watch.tracer, &trace) {
                under_way.finish(tracer, trace, &response);
            }
            (response, ended)
        };
        CURRENT.scope(context, work).await
    }
}

impl<'w> UnderWay<'w> {
    fn begin(requests: &'w Requests, endpoint: Endpoint, method: Method) -> Self {
        requests.begun();
        Self { requests, endpoint, method, begun: Instant::now(), is_over: false }
    }

    fn end(&mut self, response: &Response) -> Instant {
        let now = Instant::now();
        self.is_over = true;
        self.requests.answered(self.endpoint, &self.method, response.status(), now.duration_since(self.begun));
        now
    }

    fn tell(&self, response: &Response, address: IpAddr, ended: Instant) {
        let (route, status) = (self.endpoint.template(), response.status().as_u16());
        let duration_ms = ended.duration_since(self.begun).as_micros() as f64 / 1000.0;
        let client = client_id();
        let method = method_name(&self.method);
        info!(method, route, status, duration_ms, client.address = %address, client.id = client, "answered");
    }

    fn finish(&self, tracer: &Tracer, trace: &Trace, response: &Response) {
        let (route, status, method) = (self.endpoint.template(), response.status(), method_name(&self.method));
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("http.route", route.into()),
            ("http.response.status_code", i64::from(status.as_u16()).into()),
        ];
        attributes.extend(client_id().map(|id| ("client.id", id.into())));
        let name = format!("{method} {route}");
        tracer.finish(trace, (name, Kind::Server), attributes, status.is_server_error());
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.requests.aborted(self.endpoint, &self.method);
        }
    }
}

fn client_id() -> Option<String> {
    let known = CURRENT.try_with(|current| Some(current.client.as_ref()?.borrow().as_ref()?.id.clone()));
    known.ok().flatten()
}

/// A method that nobody has heard of is a text from outside.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
