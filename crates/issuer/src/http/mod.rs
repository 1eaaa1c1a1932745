//! The route table.

pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::app::App;
use crate::http::request::Peer;
use crate::oidc::{discovery, jwks, token};

/// What a listener answers with.
#[derive(Clone)]
pub(crate) struct Routes {
    router: Router,
    /// The token endpoint, where it is answered past the router: it is the one address that is asked for every token,
    /// and the router's boxes and clones are a part of its cost that can be measured.
    token: Option<(Arc<App>, Arc<str>)>,
}

impl Routes {
    /// Those of the public listener.
    pub(crate) fn public(app: &Arc<App>) -> Self {
        let path = format!("{}/oauth2/token", app.config.issuer.path());
        Self { router: router(app), token: Some((Arc::clone(app), path.into())) }
    }

    /// Those of the metrics listener.
    pub(crate) fn metrics(app: &Arc<App>) -> Self {
        Self { router: metrics_router(app), token: None }
    }

    pub(crate) async fn answer(self, mut request: Request<Incoming>, peer: Peer) -> Response {
        request.extensions_mut().insert(peer);
        match self.token {
            Some((app, path)) if request.method() == Method::POST && request.uri().path() == &*path => {
                token::token(State(app), request.map(Body::new)).await
            }
            _ => {
                let mut router = self.router;
                router.call(request).await.unwrap_or_else(|never| match never {})
            }
        }
    }
}

/// What the public listener answers. An issuer with a path has everything below it, and RFC 8414's document also where
/// §3.1 puts it: between host and path.
pub fn router(app: &Arc<App>) -> Router {
    let base = app.config.issuer.path();
    let at = |path: &str| format!("{base}{path}");
    let mut router = Router::new()
        .route(&at("/oauth2/token"), only(post(token::token), || reply::method_not_allowed("POST")))
        .route(&at("/.well-known/jwks.json"), public(get(jwks::jwks)))
        .route(&at("/.well-known/openid-configuration"), public(get(discovery::openid)))
        .route(&at("/.well-known/oauth-authorization-server"), public(get(discovery::oauth)));
    if !base.is_empty() {
        let inserted = format!("/.well-known/oauth-authorization-server{base}");
        router = router.route(&inserted, public(get(discovery::oauth)));
    }
    router
        .route("/healthz", only(get(healthz), || reply::method_not_allowed("GET, HEAD")))
        .route("/readyz", only(get(readyz), || reply::method_not_allowed("GET, HEAD")))
        .fallback(async || reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .with_state(Arc::clone(app))
}

/// What the metrics listener answers.
pub fn metrics_router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/metrics", only(get(metrics), || reply::method_not_allowed("GET, HEAD")))
        .route("/healthz", only(get(healthz), || reply::method_not_allowed("GET, HEAD")))
        .route("/readyz", only(get(readyz), || reply::method_not_allowed("GET, HEAD")))
        .fallback(async || reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .with_state(Arc::clone(app))
}

/// A route that refuses other methods in words.
fn only(route: MethodRouter<Arc<App>>, otherwise: fn() -> Response) -> MethodRouter<Arc<App>> {
    route.fallback(async move || otherwise())
}

/// A document that browsers of every origin may read (CORS).
fn public(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route.options(preflight), || reply::method_not_allowed("GET, HEAD, OPTIONS"))
}

async fn preflight() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// The process runs.
async fn healthz() -> Response {
    reply::text(StatusCode::OK, "ok\n")
}

/// The issuer can sign; or why not.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.keys.ready(app.clock.now()) {
        Ok(()) => reply::text(StatusCode::OK, "ready\n"),
        Err(reason) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.render_metrics();
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    reply::with_body(StatusCode::OK, openmetrics, text)
}
