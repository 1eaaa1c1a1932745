//! Whose page a request comes from: the browser says so in headers that no page can set.
//!
//! A browser sends cookies whoever's page made the request, so whoever is to act on a cookie, or to set one, needs the
//! proof that it was one of ours (cross-site request forgery): `Origin` is one of the client's `allowed_origins`, or
//! `Sec-Fetch-Site` is `same-origin`, or, from a browser too old to send that, `Origin` is the issuer's own.
//!
//! What is not a browser sends neither header, and proves nothing; it has no use for cookies, and keeps its tokens itself.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use crate::app::App;
use crate::clients::Client;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A page of the issuer's origin, or of one that the client is registered with.
    OurPage,
    /// Another page.
    AnotherPage,
    /// No page, or one in a browser that does not tell.
    Unknown,
}

/// Reads where a request comes from. No `client`: the request named none, and only the issuer's own pages are ours.
pub(super) fn of(app: &App, client: Option<&Client>, headers: &HeaderMap) -> Source {
    let (Ok(origin), Ok(site)) = (only(headers, ORIGIN.as_str()), only(headers, "sec-fetch-site")) else {
        return Source::AnotherPage;
    };
    let is_allowed = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| client.is_some_and(|client| client.allows_origin(origin)))
    };
    if origin.is_some_and(is_allowed) {
        return Source::OurPage;
    }
    match (site, origin) {
        (Some(site), _) if site == "same-origin" => Source::OurPage,
        (Some(_), _) => Source::AnotherPage,
        (None, Some(origin)) if origin.as_bytes() == own(app).as_bytes() => Source::OurPage,
        (None, Some(_)) => Source::AnotherPage,
        (None, None) => Source::Unknown,
    }
}

/// Answers the question a browser asks before a request from another origin. Whose request it will be is not known yet,
/// so this is about all clients of the API.
pub(super) fn preflight(app: &App, headers: &HeaderMap, methods: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let mut response = readable(app, None, headers, response);
    if response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// Lets the page that sent these headers read the answer, cookies and all, if its origin is the client's; that of any
/// client of the API, where the request did not show whose it was.
pub(super) fn readable(app: &App, client: Option<&Client>, headers: &HeaderMap, mut response: Response) -> Response {
    let answer = response.headers_mut();
    answer.append(VARY, HeaderValue::from_static("origin"));
    let Ok(Some(origin)) = only(headers, ORIGIN.as_str()) else { return response };
    let allows = |origin: &str| match client {
        Some(client) => client.allows_origin(origin),
        None => app.clients().iter().any(|client| client.session_api && client.allows_origin(origin)),
    };
    if origin.to_str().is_ok_and(allows) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
    response
}

fn own(app: &App) -> String {
    Url::parse(app.config.issuer.as_str()).expect("an issuer is a URL").origin().ascii_serialization()
}

/// `Err` for a header that is there twice.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, ()> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next();
    if lines.next().is_some() { Err(()) } else { Ok(line) }
}
