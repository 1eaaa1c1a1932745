//! OAuth 2.1 and OpenID Connect: a file per endpoint, and the one place where their errors reach the wire.

pub(crate) mod authorize;
pub(crate) mod backchannel;
mod client_assertion;
mod client_auth;
pub(crate) mod client_keys;
pub(crate) mod discovery;
pub(crate) mod first_party;
mod grants;
mod hint;
pub(crate) mod introspect;
mod json;
pub(crate) mod jwks;
pub(crate) mod logout;
mod mint;
pub(crate) mod opaque;
mod presented;
pub(crate) mod profile;
pub(crate) mod revoke;
#[cfg(test)]
mod tests;
pub(crate) mod token;
pub(crate) mod userinfo;

use axum::response::Response;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

pub(crate) use mint::AccessTokenRequest;

use crate::http::reply;
use crate::http::request::RequestError;
use crate::keys::SignError;
use crate::storage::StoreError;

/// What an OAuth endpoint refuses with. The client learns the registered code and a sentence; what is behind it goes
/// to the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OAuthError {
    /// RFC 6749 §5.2 `invalid_request`.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// `invalid_request`, because the request could not be read.
    #[error(transparent)]
    Unreadable(#[from] RequestError),
    /// RFC 6749 §5.2 `invalid_client`: 401, with a challenge when the `Authorization` header was used.
    #[error("client authentication failed")]
    InvalidClient,
    /// RFC 6749 §5.2 `invalid_grant`: a code or refresh token that is not, or not any more, the client's to use.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// RFC 6749 §5.2 `unauthorized_client`.
    #[error("the client is not registered for this grant type")]
    UnauthorizedClient,
    /// RFC 6749 §5.2 `unsupported_grant_type`.
    #[error("the grant type is not supported")]
    UnsupportedGrantType,
    /// RFC 6749 §5.2 `invalid_scope`.
    #[error("{0}")]
    InvalidScope(&'static str),
    /// RFC 8707 §2 `invalid_target`.
    #[error("{0}")]
    InvalidTarget(&'static str),
    /// No key may sign at this moment.
    #[error("no token can be signed at the moment")]
    Unavailable(#[source] SignError),
    /// The database does not answer.
    #[error("the server can't answer at the moment")]
    Storage(#[source] StoreError),
    /// A fault of ours.
    #[error("the server failed")]
    ServerError,
}

impl OAuthError {
    /// The registered code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::Unreadable(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::Unavailable(_) | Self::Storage(_) => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(RequestError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable(RequestError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::Unavailable(_) | Self::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer of RFC 6749 §5.2.
    pub(crate) fn into_response(self) -> Response {
        let body = json!({ "error": self.code(), "error_description": self.to_string() });
        let mut response = reply::unstored_json(self.status(), body.to_string());
        let headers = response.headers_mut();
        match self {
            // RFC 6749 §5.2: "MUST respond with an HTTP 401 [...] and include the "WWW-Authenticate" response header
            // field matching the authentication scheme used by the client". RFC 9110 §11.6.1 wants one with any 401.
            Self::InvalidClient => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"oauth2\", charset=\"UTF-8\""));
            }
            Self::Unavailable(_) | Self::Storage(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
