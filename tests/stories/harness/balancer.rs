//! What stands before several replicas: each request goes to one of them at random, and to another when that one is gone.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::http::{Reply, send};
use super::wait::unix_now;

/// A replica that has not answered by then is taken for gone. It may be starting, with its port open already.
const PATIENCE: Duration = Duration::from_secs(3);

/// A load balancer; gone when dropped.
pub(crate) struct Balancer {
    errors: Arc<Mutex<Vec<ServerError>>>,
    serving: JoinHandle<()>,
}

/// An answer that says the server is at fault.
#[derive(Clone, Debug)]
pub(crate) struct ServerError {
    /// In seconds since 1970.
    pub(crate) at: f64,
    pub(crate) path: String,
    pub(crate) status: StatusCode,
}

impl Balancer {
    /// Listens on `address` and hands requests on to `replicas`.
    pub(crate) async fn serve(address: SocketAddr, replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let errors = Arc::<Mutex<Vec<ServerError>>>::default();
        let (replicas, seen) = (Arc::<[SocketAddr]>::from(replicas), Arc::clone(&errors));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (replicas, seen) = (Arc::clone(&replicas), Arc::clone(&seen));
                let service = service_fn(move |request| answer(Arc::clone(&replicas), Arc::clone(&seen), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { errors, serving }
    }

    /// Every 5xx that went out so far.
    pub(crate) fn errors(&self) -> Vec<ServerError> {
        self.errors.lock().expect("no panic while noting").clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    replicas: Arc<[SocketAddr]>,
    errors: Arc<Mutex<Vec<ServerError>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let Reply { status, mut headers, body } = forward(&replicas, request).await;
    if status.is_server_error() {
        let error = ServerError { at: unix_now(), path, status };
        errors.lock().expect("no panic while noting").push(error);
    }
    for of_the_connection in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(of_the_connection);
    }
    let mut response = Response::new(Full::new(body));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

/// Asks the replicas one after the other, from a random one on. All that clients send here may be sent twice.
async fn forward(replicas: &[SocketAddr], request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let unanswered = |status| Reply { status, headers: http::HeaderMap::new(), body: Bytes::new() };
    let Ok(body) = body.collect().await else { return unanswered(StatusCode::BAD_REQUEST) };
    let body = body.to_bytes();
    let first = random() % replicas.len();
    for replica in replicas[first..].iter().chain(&replicas[..first]) {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(replica.to_string()).path_and_query(path);
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri.build().expect("parts of a URI that was one");
        *request.headers_mut() = parts.headers.clone();
        request.headers_mut().remove(header::CONNECTION);
        if let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, send(request)).await {
            return reply;
        }
    }
    unanswered(StatusCode::BAD_GATEWAY)
}

/// The standard library seeds its hashers anew each time.
fn random() -> usize {
    RandomState::new().build_hasher().finish() as usize
}
