//! An app's own web server: where people come back to, and what else an issuer calls. It notes what comes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running web server; gone when dropped.
pub(crate) struct Landing {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    pages: HashMap<String, String>,
    arrivals: Vec<Arrival>,
}

impl Landing {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::<Mutex<State>>::default();
        let noting = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request<Body>| answer(Arc::clone(&noting), request));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serving does not end by itself");
        });
        Self { address, state, serving }
    }

    /// The URL of a path here.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same under a name that browsers take for another site than 127.0.0.1.
    pub(crate) fn elsewhere(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    /// Where its pages come from, as browsers say it.
    pub(crate) fn origin(&self) -> String {
        self.at("")
    }

    /// Has a path answer with this document instead of a greeting.
    pub(crate) fn put(&self, path: &str, html: impl Into<String>) {
        self.state.lock().expect("no panic while noting").pages.insert(path.to_owned(), html.into());
    }

    /// What came to a path, in order.
    pub(crate) fn arrivals(&self, path: &str) -> Vec<Arrival> {
        let state = self.state.lock().expect("no panic while noting");
        state.arrivals.iter().filter(|arrival| arrival.uri.path() == path).cloned().collect()
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let page = {
        let mut state = state.lock().expect("no panic while noting");
        let page = state.pages.get(parts.uri.path()).cloned();
        state.arrivals.push(Arrival { method: parts.method, uri: parts.uri, body });
        page
    };
    let greeting = "<!doctype html><html lang=en><title>An app</title><link rel=icon href=data:,>\
                    <main><h1>Back at the app</h1></main>";
    let mut response = Response::new(Body::from(page.unwrap_or_else(|| greeting.to_owned())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}
