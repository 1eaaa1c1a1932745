//! Answers, with the headers that no handler may forget.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, PRAGMA, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::telemetry;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An answer with a body of this type.
pub(crate) fn with_body(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// JSON that nobody may keep: tokens, and errors about them (RFC 6749 §5.1).
pub(crate) fn unstored_json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = with_body(status, JSON, body);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// An error of an API that is not OAuth's (RFC 9457).
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    // By which whoever runs the server finds in the log what was behind it.
    if let Some(id) = telemetry::request_id() {
        body["request_id"] = id.to_string().into();
    }
    let mut response = with_body(status, PROBLEM, body.to_string());
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// 405 with the methods that would do (RFC 9110 §15.5.6).
pub(crate) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow} here"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// 303: go on there with GET, and send nothing of this request along (RFC 9110 §15.4.4, RFC 9700 §4.12). `location` is an
/// address that was held against a list.
pub(crate) fn see_other(location: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return problem(StatusCode::BAD_REQUEST, "the address to go on to can't be sent in a header");
    };
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Plain text for people and probes.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = with_body(status, TEXT, body);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// Adds a header.
pub(crate) fn header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}
