//! What the session API refuses with (RFC 9457). `code` and `type` are for programs, and stay as they are; `detail` is for
//! people, and may be worded better one day.

use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::http::reply;
use crate::http::request::RequestError;
use crate::oidc::OAuthError;
use crate::storage::StoreError;
use crate::telemetry;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("the body must be application/json")]
    NotJson,
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Unreadable(RequestError),
    #[error("the client is unknown, or may not use this API: it needs first_party and session_api")]
    Client,
    #[error("the request comes from a page that is not the client's")]
    AnotherPage,
    #[error("tokens in the body are for clients of the application_type native that have no secret")]
    NoTokensInBody,
    /// One text for a wrong password, an unknown name and a disabled user.
    #[error("the user name or the password is wrong")]
    Refused,
    #[error("the person may not use this client: none of its scopes is theirs")]
    NotPermitted,
    #[error("nobody is signed in, or not any more")]
    NotSignedIn,
    #[error("there were too many attempts: try again in {wait_s} s")]
    Throttled { wait_s: u64 },
    #[error("too many passwords are being checked: try again in {BUSY_S} s")]
    Busy,
    #[error("the server can't answer at the moment")]
    Store(#[source] StoreError),
    #[error("the server can't answer at the moment")]
    Unavailable,
    #[error("the server failed")]
    Failed,
}

impl Problem {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "invalid-request"),
            Self::Unreadable(RequestError::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::Unreadable(RequestError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, "too-slow"),
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, "invalid-request"),
            Self::Client => (StatusCode::FORBIDDEN, "client-not-allowed"),
            Self::AnotherPage => (StatusCode::FORBIDDEN, "cross-site"),
            Self::NoTokensInBody => (StatusCode::FORBIDDEN, "tokens-not-allowed"),
            Self::Refused => (StatusCode::UNAUTHORIZED, "invalid-credentials"),
            Self::NotPermitted => (StatusCode::FORBIDDEN, "not-permitted"),
            Self::NotSignedIn => (StatusCode::UNAUTHORIZED, "not-signed-in"),
            Self::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, "throttled"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Store(_) | Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "server-error"),
        }
    }

    pub(super) fn into_response(self) -> Response {
        let (status, code) = self.kind();
        let mut body = json!({
            "type": format!("urn:keywheel:problem:{code}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "code": code,
        });
        if let Some(id) = telemetry::request_id() {
            body["request_id"] = id.to_string().into();
        }
        let mut response = reply::unstored_json(status, body.to_string());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 wants a challenge with any 401; `GET /api/session` takes such a token too.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"session\""));
        }
        let wait_s = match self {
            Self::Throttled { wait_s } => Some(wait_s),
            Self::Busy => Some(BUSY_S),
            Self::Store(_) | Self::Unavailable => Some(5),
            _ => None,
        };
        if let Some(wait_s) = wait_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait_s));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What the OAuth side refuses a first-party client with. A sign-in that is over is its `invalid_grant`, or
/// `unauthorized_client` where the client may not use refresh tokens any more.
impl From<OAuthError> for Problem {
    fn from(error: OAuthError) -> Self {
        match error {
            OAuthError::InvalidGrant(_) | OAuthError::UnauthorizedClient => Self::NotSignedIn,
            OAuthError::InvalidScope(_) => Self::NotPermitted,
            OAuthError::Storage(source) => Self::Store(source),
            OAuthError::Unavailable(_) => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

/// A password takes a fraction of that.
const BUSY_S: u64 = 2;
