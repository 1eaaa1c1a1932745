//! Which pages may call the endpoints that scripts in browsers use (the CORS protocol of the Fetch standard).
//!
//! A client lists the origins of its pages; no origin is allowed that no client lists, and no answer to a client's request
//! is readable for another client's page. Cookies are never part of it.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::app::App;
use crate::clients::Client;

/// Answers the question a browser asks before a request: whether the page's origin is any client's. Whose request it will
/// be is not known yet.
pub(crate) fn preflight(app: &App, headers: &HeaderMap, methods: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let mut response = readable(app, headers, None, response);
    if response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// Lets the page that sent these headers read the answer, if its origin is the client's; any client's, where the request
/// did not show which it was from.
pub(crate) fn readable(app: &App, headers: &HeaderMap, client: Option<&Client>, mut response: Response) -> Response {
    let Some(origin) = headers.get(ORIGIN) else { return response };
    let allows = |origin: &str| match client {
        Some(client) => client.allows_origin(origin),
        None => app.clients().iter().any(|client| client.allows_origin(origin)),
    };
    let answer = response.headers_mut();
    answer.append(VARY, HeaderValue::from_static("origin"));
    if origin.to_str().is_ok_and(allows) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("www-authenticate, retry-after"));
    }
    response
}
