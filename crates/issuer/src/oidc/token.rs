//! `POST /oauth2/token` (RFC 6749 §3.2).
//!
//! 1. Read the form once, strictly.
//! 2. Authenticate the client against the registry in memory.
//! 3. The grant decides.
//! 4. Sign with the snapshot in memory, and answer.
//!
//! Nothing on this path reads the database or parses a key.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Serialize;
use tracing::{error, info};

use super::client_auth::authenticate;
use super::grants::client_credentials;
use super::{AccessTokenRequest, OAuthError};
use crate::app::App;
use crate::http::reply;
use crate::http::request::Form;
use crate::keys::SignError;

/// The answer of RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

/// Answers a token request.
pub(crate) async fn token(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match grant(&app, request).await {
        Ok(response) => {
            app.answers.token_ok.inc();
            response
        }
        Err(refusal) => {
            app.metrics.refused(refusal.code());
            let response = refusal.into_response();
            app.metrics.answered("/oauth2/token", response.status().as_u16()).inc();
            response
        }
    }
}

async fn grant(app: &App, request: Request<Body>) -> Result<Response, OAuthError> {
    // RFC 6749 §2.3.1: credentials "MUST NOT be included in the request URI".
    let (parts, body) = request.into_parts();
    if parts.uri.query().is_some() {
        return Err(OAuthError::InvalidRequest("parameters belong into the body, not into the address"));
    }
    let server = &app.config.server;
    let form = Form::read(&parts.headers, body, server.max_body_bytes, server.body_timeout).await?;
    let client = authenticate(&app.clients(), &parts.headers, &form).inspect_err(|refusal| {
        info!(reason = %refusal, "a client did not authenticate");
    })?;

    let issuer = app.config.issuer.as_str();
    let granted = match form.get("grant_type") {
        None => return Err(OAuthError::InvalidRequest("grant_type is missing")),
        Some("client_credentials") => client_credentials::decide(&client, &form, issuer)?,
        Some(_) => return Err(OAuthError::UnsupportedGrantType),
    };

    let now = app.clock.now();
    let lifetime = app.config.tokens.access_ttl;
    let request = AccessTokenRequest {
        issuer,
        subject: &client.id,
        client_id: &client.id,
        audiences: &granted.audiences,
        scope: &granted.scope,
        lifetime,
        alg: client.access_token_alg,
        clock_skew: app.config.keys.rotation.clock_skew(),
        person: None,
    };
    let access_token = request.mint(&app.keys, app.entropy.as_ref(), now).map_err(|failure| {
        error!(client.id = client.id, error = %failure, "no token could be signed");
        match failure {
            SignError::Failed => OAuthError::ServerError,
            other => OAuthError::Unavailable(other),
        }
    })?;
    let answer = TokenResponse {
        access_token: &access_token,
        token_type: "Bearer",
        expires_in: lifetime.as_secs(),
        scope: &granted.scope,
    };
    Ok(reply::unstored_json(StatusCode::OK, serde_json::to_vec(&answer).map_err(|_| OAuthError::ServerError)?))
}
