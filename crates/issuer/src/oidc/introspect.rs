//! `POST /oauth2/introspect` (RFC 7662): whether a token is good at this moment, and what it says.
//!
//! 1. Only clients that authenticate may ask: for anybody else it would be a way to try tokens out.
//! 2. A client sees tokens that were issued to it, and access tokens for one of its `audiences`, so that an API can ask
//!    about what it is shown. Every other token is not active, like one that does not exist (§2.2).
//! 3. A refresh token without `offline_access` ends with its session, whether or not anybody has noticed yet that this is
//!    over.
//!
//! `token_type_hint` is not needed: access tokens have dots, refresh tokens none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use keywheel_jose::AccessTokenClaims;
use serde_json::{Map, Value, json};

use super::client_auth::{identify, read};
use super::opaque::sha256;
use super::{OAuthError, presented};
use crate::app::App;
use crate::clients::Client;
use crate::http::reply;

/// Path below the issuer.
const ENDPOINT: &str = "/oauth2/introspect";

/// Answers a question about a token.
pub(crate) async fn introspect(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match answer(&app, request).await {
        Ok(answer) => reply::unstored_json(StatusCode::OK, answer.to_string()),
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(app: &App, request: Request<Body>) -> Result<Value, OAuthError> {
    let (parts, body) = request.into_parts();
    let form = read(app, &parts, body).await?;
    let client = identify(app, &parts.headers, &form, ENDPOINT).await?;
    // Step 1.
    if client.is_public() {
        return Err(OAuthError::InvalidClient);
    }
    let token = form.get("token").ok_or(OAuthError::InvalidRequest("token is missing"))?;
    let is_access_token = token.contains('.');
    let known = if is_access_token {
        access_token(app, &client, token).await?
    } else {
        refresh_token(app, &client, token).await?
    };
    Ok(known.map_or(json!({ "active": false }), Value::Object))
}

async fn access_token(app: &App, client: &Client, token: &str) -> Result<Option<Map<String, Value>>, OAuthError> {
    let presented = presented::read(app, token).await.map_err(OAuthError::Storage)?;
    let Some(claims) = presented.map(|presented| presented.claims).filter(|claims| concerns(client, claims)) else {
        return Ok(None);
    };
    // §2.2: the members are named like the claims.
    let Ok(Value::Object(mut answer)) = serde_json::to_value(&claims) else { return Err(OAuthError::ServerError) };
    answer.insert("active".to_owned(), Value::Bool(true));
    answer.insert("token_type".to_owned(), Value::String("Bearer".to_owned()));
    Ok(Some(answer))
}

/// Step 2.
fn concerns(client: &Client, claims: &AccessTokenClaims) -> bool {
    claims.client_id == client.id
        || claims.aud.iter().any(|audience| client.audiences.iter().any(|own| own == audience))
}

/// One that was used is not active: within the grace it gives its successor once more, but nobody should count on it.
async fn refresh_token(app: &App, client: &Client, token: &str) -> Result<Option<Map<String, Value>>, OAuthError> {
    let found = app.store.find_refresh_token(&sha256(token)).await.map_err(OAuthError::Storage)?;
    let now = app.clock.now();
    let own = found.filter(|token| token.grant.allowed.client_id == client.id);
    let Some(token) = own.filter(|token| token.used_at.is_none() && token.expires_at > now) else { return Ok(None) };
    let allowed = &token.grant.allowed;
    // Step 3.
    let mut expires_at = token.expires_at;
    if let (false, Some(sid)) = (allowed.offline, &allowed.sid) {
        let session = app.store.session_by_sid(sid, now).await.map_err(OAuthError::Storage)?;
        let Some(session) = session else { return Ok(None) };
        expires_at = expires_at.min(session.expires_at).min(session.idle_expires_at);
    }
    let answer = json!({
        "active": true,
        "iss": app.config.issuer.as_str(),
        "sub": allowed.user_id,
        "client_id": allowed.client_id,
        "scope": allowed.scope.join(" "),
        "iat": token.issued_at.as_unix(),
        "exp": expires_at.as_unix(),
    });
    let Value::Object(answer) = answer else { return Err(OAuthError::ServerError) };
    Ok(Some(answer))
}
