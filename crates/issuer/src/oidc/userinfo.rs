//! `/oauth2/userinfo` (OpenID Connect Core §5.3): what a client may know about the person that it has a token of.
//!
//! 1. The token comes in the `Authorization` header, or in the form of a POST (RFC 6750 §2.1, §2.2); never in the address,
//!    where it would be logged.
//! 2. It is any access token of ours that is good and has the scope `openid`. Which API it is for does not matter: a client
//!    has one token for its API and for this.
//! 3. The claims are those of the token's scopes, and those that the authorization request asked for by name (§5.5).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::presented::{self, Presented};
use super::{OAuthError, profile};
use crate::app::App;
use crate::clients::Client;
use crate::http::request::{Form, is_form};
use crate::http::{cors, reply};

/// What the endpoint refuses with.
enum Refused {
    /// RFC 6750 §3.1: "If the request lacks any authentication information [...], the resource server SHOULD NOT include
    /// an error code or other error information."
    NoToken,
    /// RFC 6750 §3.1 `invalid_request`.
    InvalidRequest(&'static str),
    /// RFC 6750 §3.1 `invalid_token`.
    InvalidToken,
    /// RFC 6750 §3.1 `insufficient_scope`.
    InsufficientScope,
    /// What can go wrong at every endpoint.
    Other(OAuthError),
}

/// `GET` and `POST /oauth2/userinfo`
pub(crate) async fn userinfo(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut client = None;
    let response = match answer(&app, &parts, body, &mut client).await {
        Ok(claims) => reply::unstored_json(StatusCode::OK, Value::Object(claims).to_string()),
        Err(refused) => refused.into_response(),
    };
    cors::readable(&app, &parts.headers, client.as_deref(), response)
}

/// `OPTIONS /oauth2/userinfo`
pub(crate) async fn preflight(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    cors::preflight(&app, &headers, "GET, POST")
}

/// The claims. `client` becomes known before the answer does.
async fn answer(
    app: &App,
    parts: &Parts,
    body: Body,
    client: &mut Option<Arc<Client>>,
) -> Result<Map<String, Value>, Refused> {
    let token = token(app, parts, body).await?;
    let presented =
        presented::read(app, &token).await.map_err(|failure| Refused::Other(OAuthError::Storage(failure)))?;
    let presented = presented.ok_or(Refused::InvalidToken)?;
    *client = Some(Arc::clone(&presented.client));
    let Presented { claims, client, grant } = presented;
    let Some(grant) = grant.filter(|_| claims.scopes().any(|scope| scope == "openid")) else {
        return Err(Refused::InsufficientScope);
    };
    let user = app.store.user_by_id(&grant.allowed.user_id).await;
    let user = user.map_err(|failure| Refused::Other(OAuthError::Storage(failure)))?.ok_or(Refused::InvalidToken)?;

    // Step 3.
    let mut wanted: Vec<&str> = claims.scopes().flat_map(profile::claims_of_scope).copied().collect();
    let requested = grant.allowed.claims_request.as_ref().and_then(|request| request.get("userinfo"));
    wanted.extend(requested.and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str));
    let mut known = profile::claims(&client, &user, wanted);
    // §5.3.2: "The sub (subject) Claim MUST always be returned in the UserInfo Response."
    known.insert("sub".to_owned(), Value::String(user.id));
    Ok(known)
}

/// Step 1.
async fn token(app: &App, parts: &Parts, body: Body) -> Result<String, Refused> {
    let in_header = in_header(&parts.headers)?;
    let in_address = parts.uri.query().is_some_and(|query| query.split('&').any(|it| it.starts_with("access_token=")));
    if in_address {
        return Err(Refused::InvalidRequest("the token belongs into the header, not into the address"));
    }
    let mut in_body = None;
    if parts.method == Method::POST && is_form(&parts.headers) {
        let server = &app.config.server;
        let form = Form::read(&parts.headers, body, server.max_body_bytes, server.body_timeout).await;
        let form = form.map_err(|unreadable| Refused::Other(OAuthError::Unreadable(unreadable)))?;
        in_body = form.get("access_token").map(str::to_owned);
    }
    match (in_header, in_body) {
        (None, None) => Err(Refused::NoToken),
        (Some(token), None) | (None, Some(token)) => Ok(token),
        // RFC 6750 §2: "Clients MUST NOT use more than one method to transmit the token in each request."
        (Some(_), Some(_)) => Err(Refused::InvalidRequest("the token is sent in two ways")),
    }
}

/// The token of an `Authorization: Bearer` header. Credentials of another scheme are none.
fn in_header(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refused::InvalidRequest("the Authorization header is included more than once"));
    }
    let (scheme, token) = line.as_bytes().split_at(line.len().min(7));
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Ok(None);
    }
    // RFC 6750 §2.1: b64token.
    let token = std::str::from_utf8(token.trim_ascii()).ok().filter(|token| !token.is_empty());
    let token = token.filter(|token| token.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._~+/=".contains(&it)));
    let malformed = || Refused::InvalidRequest("the Authorization header holds no token");
    token.map(|token| Some(token.to_owned())).ok_or_else(malformed)
}

impl Refused {
    /// RFC 6750 §3.
    fn into_response(self) -> Response {
        let (status, code, description, scope) = match self {
            Self::NoToken => return challenge(StatusCode::UNAUTHORIZED, "", Vec::new()),
            Self::Other(error) => return error.into_response(),
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why, ""),
            Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, "invalid_token", "the token is not good, or not any more", "")
            }
            Self::InsufficientScope => {
                let why = "the token was not issued for the scope openid";
                (StatusCode::FORBIDDEN, "insufficient_scope", why, ", scope=\"openid\"")
            }
        };
        let body = json!({ "error": code, "error_description": description }).to_string();
        challenge(status, &format!(", error=\"{code}\", error_description=\"{description}\"{scope}"), body.into())
    }
}

fn challenge(status: StatusCode, more: &str, body: Vec<u8>) -> Response {
    let value = HeaderValue::try_from(format!("Bearer realm=\"oauth2\"{more}"));
    let value = value.expect("our texts are visible ASCII without quotes");
    reply::header(reply::unstored_json(status, body), WWW_AUTHENTICATE, value)
}
