//! Answers of the gate's own, and the bodies that all answers have.

use std::error::Error;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use keywheel_verifier::Refusal;
use serde_json::json;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// An answer with a body of this type, which nobody may keep.
pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Plain text for people and probes.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_body(status, "text/plain; charset=utf-8", body)
}

/// An error in words (RFC 9457). The words are ours: nothing of a request is repeated in them.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    with_body(status, "application/problem+json", body.to_string())
}

/// A verifier's refusal, in words too.
pub(crate) fn refusal(refusal: &Refusal) -> Response<Body> {
    let detail = match refusal.status() {
        StatusCode::UNAUTHORIZED => "an access token that holds is needed",
        StatusCode::FORBIDDEN => "the access token does not allow this",
        StatusCode::SERVICE_UNAVAILABLE => "access tokens can't be verified at the moment",
        _ => "the request does not say in one way who it is from",
    };
    let mut response = problem(refusal.status(), detail);
    response.headers_mut().extend(refusal.headers());
    response
}
