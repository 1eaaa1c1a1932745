//! An HTTP server that plays from a script, in the place of an issuer's key set.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than the verifier's longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server answers.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Reply {
    /// A key set that may be kept for an hour.
    pub(super) fn keys(keys: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: vec![("cache-control", "max-age=3600".to_owned())], body: keys.into() }
    }

    /// The same that may not be kept at all.
    pub(super) fn with_max_age_0(self) -> Self {
        Self { headers: vec![("cache-control", "max-age=0".to_owned())], ..self }
    }
}

/// The server; gone when dropped.
pub(super) struct Origin {
    address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    requests: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

impl Origin {
    pub(super) async fn answering(reply: Reply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let reply = Arc::new(Mutex::new(reply));
        let (count, requests) = watch::channel(0);
        let (played, count) = (Arc::clone(&reply), Arc::new(count));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, count) = (Arc::clone(&played), Arc::clone(&count));
                let service = service_fn(move |_: Request<Incoming>| {
                    count.send_modify(|requests| *requests += 1);
                    let reply = reply.lock().expect("no panic while answering").clone();
                    std::future::ready(Ok::<_, Infallible>(response(reply)))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, reply, requests, serving }
    }

    /// What it answers from now on.
    pub(super) fn answer(&self, reply: Reply) {
        *self.reply.lock().expect("no panic while answering") = reply;
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Waits until it was asked so many times from now on.
    pub(super) async fn asked(&self, times: usize) {
        let mut requests = self.requests.clone();
        let wanted = *requests.borrow() + times;
        let waited = timeout(PATIENCE, requests.wait_for(|requests| *requests >= wanted)).await;
        waited.expect("nobody asked for the key set").expect("the server runs as long as this");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(reply.body)).expect("a script of good headers")
}
