//! The route table.

pub mod client_address;
pub(crate) mod cors;
pub(crate) mod document;
pub(crate) mod endpoints;
mod fetch;
pub(crate) mod in_the_clear;
mod readiness;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod serve;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    STRICT_TRANSPORT_SECURITY,
};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::api::session;
use crate::app::App;
use crate::config::Config;
use crate::http::client_address::{Network, came_by_https, client_address};
use crate::http::request::Peer;
use crate::login::pages::{account, consent, files, home, login, password, select_account};
use crate::oidc::{authorize, discovery, introspect, jwks, logout, revoke, token, userinfo};
use crate::telemetry::request::{Watch, Watched};

/// What a listener answers with.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Table>);

struct Table {
    router: Router,
    direct: Option<Direct>,
    front: Front,
    watch: Arc<Watch>,
}

/// The addresses that are asked for most, answered past the router, whose boxes and clones are a part of their cost that
/// can be measured. Whatever else is asked there goes through it.
struct Direct {
    app: Arc<App>,
    token: String,
    jwks: String,
    discovery: String,
}

/// What is in front of the routes.
#[derive(Default)]
struct Front {
    /// Who is believed about where a request comes from.
    proxies: Vec<Network>,
    /// What browsers are told that came by https.
    hsts: Option<HeaderValue>,
}

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In the clear, at least on its last part.
    Plain,
    /// We ended its TLS.
    Tls,
}

impl Routes {
    /// Those of the public listener.
    pub(crate) fn public(app: &Arc<App>) -> Self {
        let at = |path: &str| format!("{}{path}", app.config.issuer.path());
        let direct = Direct {
            app: Arc::clone(app),
            token: at("/oauth2/token"),
            jwks: at("/.well-known/jwks.json"),
            discovery: at("/.well-known/openid-configuration"),
        };
        let front = Front { proxies: app.config.server.trusted_proxies.clone(), hsts: hsts(&app.config) };
        Self::new(router(app), Some(direct), front, app)
    }

    /// Those of the listener in the clear.
    pub(crate) fn in_the_clear(app: &Arc<App>) -> Self {
        Self::new(in_the_clear::router(app), None, Front::default(), app)
    }

    /// Those of the metrics listener.
    pub(crate) fn metrics(app: &Arc<App>) -> Self {
        Self::new(metrics_router(app), None, Front::default(), app)
    }

    fn new(router: Router, direct: Option<Direct>, front: Front, app: &App) -> Self {
        Self(Arc::new(Table { router, direct, front, watch: Watch::new(app) }))
    }

    /// What sees the requests of a connection from `peer`.
    pub(crate) fn watch(&self, peer: IpAddr) -> Watched {
        self.0.watch.connection(peer)
    }

    pub(crate) async fn answer(self, mut request: Request<Incoming>, peer: IpAddr, transport: Transport) -> Response {
        let Front { proxies, hsts } = &self.0.front;
        let client = client_address(peer, request.headers(), proxies);
        // RFC 6797 §7.2: never over a connection that is not secure.
        let is_secure = || transport == Transport::Tls || came_by_https(peer, request.headers(), proxies);
        let hsts = hsts.as_ref().filter(|_| is_secure());
        let direct = self.0.direct.as_ref().map(|direct| (direct, direct.of(request.method(), request.uri().path())));
        let mut response = match direct {
            Some((Direct { app, .. }, Some(Address::Token))) => {
                let (parts, body) = request.into_parts();
                token::respond(app, &parts, body, Some(client)).await
            }
            Some((Direct { app, .. }, Some(Address::Jwks))) => {
                jwks::answer(app, request.method(), request.headers(), Some(client))
            }
            Some((Direct { app, .. }, Some(Address::Discovery))) => app.discovery.answer(request.headers()),
            _ => {
                request.extensions_mut().insert(Peer(client));
                let mut router = self.0.router.clone();
                router.call(request).await.unwrap_or_else(|never| match never {})
            }
        };
        if let Some(hsts) = hsts {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        response
    }
}

/// One of those of [`Direct`].
enum Address {
    Token,
    Jwks,
    Discovery,
}

impl Direct {
    fn of(&self, method: &Method, path: &str) -> Option<Address> {
        match *method {
            Method::POST if path == self.token => Some(Address::Token),
            Method::GET if path == self.jwks => Some(Address::Jwks),
            Method::GET if path == self.discovery => Some(Address::Discovery),
            _ => None,
        }
    }
}

/// `Strict-Transport-Security` (RFC 6797), where the issuer is on https and not on loopback: there the header would count
/// for whatever else the developer runs.
fn hsts(config: &Config) -> Option<HeaderValue> {
    let max_age = config.server.hsts.filter(|_| config.issuer.is_https() && !config.issuer.is_loopback())?;
    HeaderValue::try_from(format!("max-age={}", max_age.as_secs())).ok()
}

/// What the public listener answers. An issuer with a path has everything below it, and RFC 8414's document also where
/// §3.1 puts it: between host and path.
pub fn router(app: &Arc<App>) -> Router {
    let base = app.config.issuer.path();
    let at = |path: &str| format!("{base}{}", endpoints::known(path));
    let mut router = Router::new()
        .route(&at("/oauth2/authorize"), form(get(authorize::get).post(authorize::post)))
        .route(&at("/oauth2/token"), scripted(post(token::token).options(token::preflight)))
        .route(&at("/oauth2/revoke"), scripted(post(revoke::revoke).options(revoke::preflight)))
        .route(&at("/oauth2/introspect"), only(post(introspect::introspect), || reply::method_not_allowed("POST")))
        .route(&at("/oauth2/userinfo"), bearing(get(userinfo::userinfo).post(userinfo::userinfo)))
        .route(&at("/oauth2/logout"), form(get(logout::logout).post(logout::logout)))
        .route(&at("/.well-known/jwks.json"), public(get(jwks::jwks)))
        .route(&at("/.well-known/openid-configuration"), public(get(discovery::discovery)))
        .route(&at("/.well-known/oauth-authorization-server"), public(get(discovery::discovery)));
    router = router
        .route(&at("/"), page(get(home::get)))
        .route(&at("/login"), form(get(login::get).post(login::post)))
        .route(&at("/select-account"), form(get(select_account::get).post(select_account::post)))
        .route(&at("/consent"), form(get(consent::get).post(consent::post)))
        .route(&at("/account"), page(get(account::get)))
        .route(&at("/account/password"), form(get(password::get).post(password::post)))
        .route(&at("/account/sign-out"), only(post(account::sign_out), || reply::method_not_allowed("POST")))
        .route(&at("/account/apps/remove"), only(post(account::remove_app), || reply::method_not_allowed("POST")))
        .route(&at("/static/{name}"), page(get(files::get)));
    router = router
        .route(&at("/api/session"), session(post(session::post).get(session::get).delete(session::delete)))
        .route(&at("/api/session/refresh"), scripted(post(session::refresh).options(session::preflight)));
    if !base.is_empty() {
        let inserted = format!("/.well-known/oauth-authorization-server{base}");
        router = router.route(&inserted, public(get(discovery::discovery)));
    }
    router
        .route("/healthz", only(get(healthz), || reply::method_not_allowed("GET, HEAD")))
        .route("/readyz", only(get(readiness::brief), || reply::method_not_allowed("GET, HEAD")))
        .fallback(async || reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .with_state(Arc::clone(app))
}

/// What the metrics listener answers.
pub fn metrics_router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/metrics", only(get(metrics), || reply::method_not_allowed("GET, HEAD")))
        .route("/healthz", only(get(healthz), || reply::method_not_allowed("GET, HEAD")))
        .route("/readyz", only(get(readiness::detailed), || reply::method_not_allowed("GET, HEAD")))
        .fallback(async || reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .with_state(Arc::clone(app))
}

/// A route that refuses other methods in words.
fn only(route: MethodRouter<Arc<App>>, otherwise: fn() -> Response) -> MethodRouter<Arc<App>> {
    route.fallback(async move || otherwise())
}

/// Something that is looked at.
fn page(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route, || reply::method_not_allowed("GET, HEAD"))
}

/// Something that is looked at, and sent back.
fn form(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route, || reply::method_not_allowed("GET, HEAD, POST"))
}

/// Something that scripts of clients' pages post to.
fn scripted(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route, || reply::method_not_allowed("POST, OPTIONS"))
}

/// Something that pages of first-party clients begin, look at and end.
fn session(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route.options(session::preflight), || reply::method_not_allowed("GET, HEAD, POST, DELETE, OPTIONS"))
}

/// Something that scripts of clients' pages ask with a token.
fn bearing(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only(route.options(userinfo::preflight), || reply::method_not_allowed("GET, HEAD, POST, OPTIONS"))
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

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.render_metrics();
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    reply::with_body(StatusCode::OK, openmetrics, text)
}
