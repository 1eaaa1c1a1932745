//! `/api/session`: sign-in for pages and apps of the issuer's owner that ask for the password themselves.
//!
//! | request | what |
//! | --- | --- |
//! | `POST /api/session` | signs somebody in |
//! | `GET /api/session` | says who is signed in |
//! | `POST /api/session/refresh` | renews the tokens |
//! | `DELETE /api/session` | signs out, here and at every app of the session |
//!
//! 1. It is for clients with `first_party` and `session_api`, which say their `client_id`.
//! 2. A page gets its tokens as [cookies](Cookie) that no script can read; it and the services it calls are then under one
//!    host with the issuer. Everything that cookies decide needs the proof that one of the client's pages asked for it
//!    (see [`origin`]). Such a page is signed in as with the page `/login`: other apps need no password after it.
//! 3. A native app (`application_type = "native"`, no secret) asks for `"response": "body"`, gets the tokens in the answer,
//!    and sends the refresh token in the body. A page may not: what a script can read, a foreign script can take away. An app
//!    with a server of its own uses the code flow, which shows it no password.
//! 4. Names and passwords are checked by [`sign_in::check`], as on `/login`: with the same counting of failures.
//! 5. The refresh token is rotated at each use, with a few seconds in which the one before still gives the same successor.
//!    Its use is use of the session; what ends the session (`/account`, a logout of any app, time) ends the tokens.
//!
//! Bodies are JSON alone, because forms are what other sites' pages can send without asking.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{error, warn};

use super::cookies::Cookie;
use super::origin::{self, Source};
use super::problem::Problem;
use crate::app::App;
use crate::clients::{ApplicationType, Client};
use crate::http::reply;
use crate::http::request::{Peer, read_body};
use crate::login::session::{self as browser, Remember, SignedIn, StartError, logout_targets};
use crate::login::sign_in::{self, Attempted, SignIn};
use crate::oidc::first_party::{self, Tokens};
use crate::storage::Origin;
use crate::telemetry;

/// What `POST /api/session` reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    #[serde(alias = "login", alias = "email")]
    username: String,
    password: String,
    client_id: String,
    #[serde(default)]
    remember: bool,
    #[serde(default)]
    response: Where,
}

/// Where the tokens go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Where {
    #[default]
    Cookie,
    Body,
}

/// What the other two read, if there is a body.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    refresh_token: Option<String>,
}

/// `POST /api/session`
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut client = None;
    let response = begin(&app, &parts, body, &mut client).await;
    finish(&app, client.as_deref(), &parts.headers, response)
}

/// `GET /api/session`
pub(crate) async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let mut client = None;
    let response = tell(&app, &headers, &mut client).await;
    finish(&app, client.as_deref(), &headers, response)
}

/// `DELETE /api/session`
pub(crate) async fn delete(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut client = None;
    let response = end(&app, &parts, body, &mut client).await;
    finish(&app, client.as_deref(), &parts.headers, response)
}

/// `POST /api/session/refresh`
pub(crate) async fn refresh(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut client = None;
    let response = renew(&app, &parts, body, &mut client).await;
    finish(&app, client.as_deref(), &parts.headers, response)
}

/// `OPTIONS /api/session` and `OPTIONS /api/session/refresh`
pub(crate) async fn preflight(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    origin::preflight(&app, &headers, "GET, POST, DELETE")
}

/// `client` becomes known before the answer does.
async fn begin(app: &App, parts: &Parts, body: Body, client: &mut Option<Arc<Client>>) -> Result<Response, Problem> {
    let request: SignInRequest = read_json(app, &parts.headers, body).await?.ok_or(Problem::NotJson)?;
    let client = &*client.insert(find_client(app, &request.client_id)?);
    allow(origin::of(app, Some(client), &parts.headers), request.response)?;
    if request.response == Where::Body && !gets_tokens(client) {
        return Err(Problem::NoTokensInBody);
    }
    let username = request.username.trim();
    if username.is_empty() || username.chars().any(char::is_control) {
        return Err(Problem::Malformed("username must be a user name or an e-mail address".to_owned()));
    }

    let address = peer(parts);
    let in_browser = request.response == Where::Cookie;
    // What is no browser has no session to go on with, and was not signed in before, whatever cookies it sends.
    let headers = if in_browser { &parts.headers } else { &without_cookies(&parts.headers) };
    let attempt = Attempted { name: username, password: &request.password, address, headers };
    let user = match sign_in::check(app, &attempt).await? {
        SignIn::Accepted(user) => user,
        SignIn::Refused => return Err(Problem::Refused),
        SignIn::Throttled { wait } => return Err(Problem::Throttled { wait_s: wait.as_secs().max(1) }),
        SignIn::Busy => return Err(Problem::Busy),
    };
    let scopes = first_party::scopes(app, client, &user)?;
    let origin_address = address.map(|address| address.to_string());
    let origin = Origin { at: app.clock.now(), address: origin_address.as_deref() };
    if in_browser {
        forget_former(app, &parts.headers, &origin).await?;
    }
    let remember = if request.remember { Remember::Yes } else { Remember::No };
    let signed_in = SignedIn { user: &user, remember, address };
    let started = browser::start(app, headers, &signed_in).await.map_err(|failure| match failure {
        StartError::Store(failure) => Problem::Store(failure),
        StartError::NoEntropy(failure) => {
            error!(error = crate::chain(&failure), "nobody can sign in");
            Problem::Unavailable
        }
    })?;
    // Disabled or removed since a moment ago; so below.
    let started = started.ok_or(Problem::Refused)?;
    let session = app.store.session_by_sid(&started.sid, origin.at).await?.ok_or(Problem::Refused)?;
    let tokens = first_party::begin(app, client, scopes, session, &user, &origin).await?.ok_or(Problem::Refused)?;
    app.metrics.grants.session.inc();
    let mut response = answer(app, &tokens, request.response);
    if in_browser {
        for cookie in started.cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

async fn tell(app: &App, headers: &HeaderMap, client: &mut Option<Arc<Client>>) -> Result<Response, Problem> {
    let token = bearer(headers).or_else(|| Cookie::Access.read(&app.config.issuer, headers));
    let current = match token {
        Some(token) => first_party::current(app, &token).await?,
        None => None,
    };
    let current = current.filter(|current| may(&current.client)).ok_or(Problem::NotSignedIn)?;
    let body = json!({
        "user": current.user,
        "client_id": current.client.id,
        "scope": current.scope,
        "auth_time": current.grant.allowed.auth_time.as_unix(),
        "expires_in": current.expires_at.duration_since(app.clock.now()).as_secs(),
    });
    *client = Some(current.client);
    Ok(reply::unstored_json(StatusCode::OK, body.to_string()))
}

async fn renew(app: &App, parts: &Parts, body: Body, client: &mut Option<Arc<Client>>) -> Result<Response, Problem> {
    let (token, place) = refresh_token(app, &parts.headers, body).await?;
    let found = match &token {
        Some(token) => first_party::find(app, token).await?,
        None => None,
    };
    let found = found.filter(|(client, _)| may(client));
    *client = found.map(|(client, _)| client);
    let source = origin::of(app, client.as_deref(), &parts.headers);
    let (Some(token), Some(client)) = (token, client) else { return Ok(signed_out(app, source, place)) };
    allow(source, place)?;
    if place == Where::Body && !gets_tokens(client) {
        return Err(Problem::NoTokensInBody);
    }
    let address = peer(parts).map(|address| address.to_string());
    let origin = Origin { at: app.clock.now(), address: address.as_deref() };
    match first_party::renew(app, client, &token, &origin).await.map_err(Problem::from) {
        Ok(tokens) => Ok(answer(app, &tokens, place)),
        Err(Problem::NotSignedIn) => Ok(signed_out(app, source, place)),
        Err(problem) => Err(problem),
    }
}

async fn end(app: &App, parts: &Parts, body: Body, client: &mut Option<Arc<Client>>) -> Result<Response, Problem> {
    let (token, place) = refresh_token(app, &parts.headers, body).await?;
    let mut found = match &token {
        Some(token) => first_party::find(app, token).await?,
        None => None,
    };
    if found.is_none()
        && place == Where::Cookie
        && let Some(token) = Cookie::Access.read(&app.config.issuer, &parts.headers)
    {
        found = first_party::current(app, &token).await?.map(|current| (current.client, current.grant));
    }
    *client = found.as_ref().map(|(client, _)| Arc::clone(client));
    let source = origin::of(app, client.as_deref(), &parts.headers);
    let address = peer(parts).map(|address| address.to_string());
    let origin = Origin { at: app.clock.now(), address: address.as_deref() };
    if let Some((_, grant)) = found {
        allow(source, place)?;
        if let Some(sid) = &grant.allowed.sid {
            app.store.end_session(sid, &logout_targets(app), &origin).await?;
            app.logouts.wake();
        }
        // One for offline use outlives its session, but not this.
        app.store.revoke_grant(&grant.allowed.id, &origin).await?;
    }
    let mut response = reply::unstored_json(StatusCode::NO_CONTENT, "");
    response.headers_mut().remove(CONTENT_TYPE);
    if (source, place) == (Source::OurPage, Where::Cookie) {
        forget(app, &mut response);
        // Somebody else may have signed in at one of our pages meanwhile.
        if browser::current(app, &parts.headers).await?.is_none() {
            response.headers_mut().append(SET_COOKIE, browser::clear(app));
        }
    }
    Ok(response)
}

/// The tokens, where the client wants them.
fn answer(app: &App, tokens: &Tokens, place: Where) -> Response {
    let mut body = json!({
        "expires_in": tokens.expires_in.as_secs(),
        "scope": tokens.scope,
        "user": tokens.user,
    });
    if place == Where::Body {
        body["token_type"] = json!("Bearer");
        body["access_token"] = json!(tokens.access_token);
        if let Some(refresh_token) = &tokens.refresh_token {
            body["refresh_token"] = json!(refresh_token.expose());
        }
        return reply::unstored_json(StatusCode::OK, body.to_string());
    }
    let mut response = reply::unstored_json(StatusCode::OK, body.to_string());
    let (issuer, headers) = (&app.config.issuer, response.headers_mut());
    // Who is not to be remembered is forgotten with the browser's last window, though a token may hold a little longer.
    let remembered = |lifetime| tokens.session.persistent.then_some(lifetime);
    headers.append(SET_COOKIE, Cookie::Access.set(issuer, &tokens.access_token, remembered(tokens.expires_in)));
    if let Some(refresh_token) = &tokens.refresh_token {
        let left = tokens.session.expires_at.duration_since(app.clock.now());
        headers.append(SET_COOKIE, Cookie::Refresh.set(issuer, refresh_token.expose(), remembered(left)));
    }
    response
}

/// 401, after which a browser has nothing left to try again with.
fn signed_out(app: &App, source: Source, place: Where) -> Response {
    let mut response = Problem::NotSignedIn.into_response();
    // Cookies do not come along from other sites; to take them away from there must not work either.
    if (source, place) == (Source::OurPage, Where::Cookie) {
        forget(app, &mut response);
    }
    response
}

fn forget(app: &App, response: &mut Response) {
    for cookie in [Cookie::Access, Cookie::Refresh] {
        response.headers_mut().append(SET_COOKIE, cookie.clear(&app.config.issuer));
    }
}

/// Ends the grant whose tokens are in the browser: they are about to be replaced.
async fn forget_former(app: &App, headers: &HeaderMap, origin: &Origin<'_>) -> Result<(), Problem> {
    if let Some(token) = Cookie::Refresh.read(&app.config.issuer, headers)
        && let Some((_, grant)) = first_party::find(app, &token).await?
    {
        app.store.revoke_grant(&grant.allowed.id, origin).await?;
    }
    Ok(())
}

/// Lets the client's pages read it.
fn finish(app: &App, client: Option<&Client>, headers: &HeaderMap, response: Result<Response, Problem>) -> Response {
    let response = response.unwrap_or_else(|problem| {
        if let Problem::Store(source) = &problem {
            warn!(error = crate::chain(source), "the session API can't answer");
        }
        problem.into_response()
    });
    origin::readable(app, client, headers, response)
}

fn find_client(app: &App, id: &str) -> Result<Arc<Client>, Problem> {
    let client = app.clients().find(id).filter(|client| may(client)).cloned();
    client.inspect(telemetry::client_is).ok_or(Problem::Client)
}

/// Step 1.
fn may(client: &Client) -> bool {
    client.session_api && client.first_party
}

/// Step 3.
fn gets_tokens(client: &Client) -> bool {
    client.is_public() && client.application_type == Some(ApplicationType::Native)
}

/// Step 2.
fn allow(source: Source, place: Where) -> Result<(), Problem> {
    match (source, place) {
        (Source::OurPage, _) | (Source::Unknown, Where::Body) => Ok(()),
        (Source::AnotherPage, _) | (Source::Unknown, Where::Cookie) => Err(Problem::AnotherPage),
    }
}

/// The refresh token, and where it came from: the body if it is there, else the cookie.
async fn refresh_token(app: &App, headers: &HeaderMap, body: Body) -> Result<(Option<String>, Where), Problem> {
    let request: Option<TokenRequest> = read_json(app, headers, body).await?;
    Ok(match request.unwrap_or_default().refresh_token {
        Some(token) => (Some(token), Where::Body),
        None => (Cookie::Refresh.read(&app.config.issuer, headers), Where::Cookie),
    })
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<String> {
    let line = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = line.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The network address at the other end.
fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|peer| peer.0)
}

fn without_cookies(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(http::header::COOKIE);
    headers
}

/// Reads a JSON object; `None` for no body. What is wrong with it is told by place alone, because it may hold a password.
async fn read_json<T: DeserializeOwned>(app: &App, headers: &HeaderMap, body: Body) -> Result<Option<T>, Problem> {
    let server = &app.config.server;
    let text = read_body(body, server.max_body_bytes, server.body_timeout).await.map_err(Problem::Unreadable)?;
    if text.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        return Err(Problem::NotJson);
    }
    // An array would be read as the members in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::Malformed("the body must be a JSON object".to_owned()));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member is missing, unknown, repeated or of another type",
            _ => "the body is not well-formed JSON",
        };
        Problem::Malformed(format!("{what} (line {}, column {})", error.line(), error.column()))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
