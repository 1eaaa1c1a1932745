//! The service behind the gate: writes down what reaches it, and lets WebSockets echo.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What it answers with.
pub(super) const ANSWER: &str = "from the service";

/// Gone when dropped.
pub(super) struct Service {
    pub(super) listen: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// A request that reached the service, with its whole body.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// As it stood in the request line.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Service {
    pub(super) async fn serve() -> Self {
        Self::answering(ANSWER).await
    }

    /// One that answers with another text.
    pub(super) async fn answering(text: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let listen = listener.local_addr().expect("a bound address");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let (notes, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let notes = Arc::clone(&notes);
                let service = service_fn(move |request| answer(request, text, Arc::clone(&notes)));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { listen, seen, connections, serving }
    }

    /// How many connections it has accepted.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What reached it since the last time it was asked.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no panic while noting"))
    }

    /// The same, where it has to be one.
    #[track_caller]
    pub(super) fn only_request(&self) -> Seen {
        let [seen] = <[Seen; 1]>::try_from(self.take()).expect("one request reached the service");
        seen
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Seen {
    /// What a service would take for the value of an identity header, in whatever spelling and however often it is there.
    pub(super) fn identity(&self, name: &str) -> String {
        let same = self.headers.iter().filter(|(other, _)| fold(other.as_str()) == fold(name));
        let values: Vec<_> = same.map(|(_, value)| value.to_str().expect("visible ASCII")).collect();
        values.join(" | ")
    }
}

/// A name as CGI would spell it.
pub(super) fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

async fn answer(
    mut request: Request<Incoming>,
    text: &'static str,
    notes: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let upgrade = request.headers().get(UPGRADE).is_some_and(|value| value == "websocket");
    let upgraded = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = parts.uri.to_string();
    let seen = Seen { method: parts.method, target, headers: parts.headers, body };
    notes.lock().expect("no panic while noting").push(seen);

    let Some(upgraded) = upgraded else { return Ok(Response::new(Full::from(text))) };
    tokio::spawn(async move {
        let stream = upgraded.await.expect("the connection is handed over");
        let (mut reading, mut writing) = tokio::io::split(TokioIo::new(stream));
        // The other side ends it as it likes.
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, super::websocket::ACCEPT)];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Ok(response)
}
