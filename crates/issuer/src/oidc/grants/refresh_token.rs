//! The refresh token grant (RFC 6749 §6), with rotation (RFC 9700 §4.14.2).
//!
//! 1. What is asked for is no more than was granted.
//! 2. The token is used up and its successor stored, in one transition. Of many attempts at once one gets it.
//! 3. A client that did not get the answer may ask again for a few seconds, and gets the same successor. After that a
//!    second use means that two hold the token, and ends everything that came of the sign-in.
//! 4. Without `offline_access` the tokens are of a session and end with it; to use one is to use the session.

use tracing::warn;

use super::{OnBehalf, permitted};
use crate::app::App;
use crate::clients::{Client, GrantType, parse_scope};
use crate::http::request::Form;
use crate::login::session;
use crate::oidc::OAuthError;
use crate::oidc::opaque::{Opaque, sha256};
use crate::storage::{Grant, Origin, RefreshPolicy, Rotation, Successor};

/// Uses a refresh token.
///
/// # Errors
/// - [`OAuthError::InvalidRequest`]: no refresh token
/// - [`OAuthError::InvalidScope`], [`OAuthError::InvalidTarget`]: more than was granted, or nothing that the person may
///   have still; the token is not used up
/// - [`OAuthError::InvalidGrant`]: unknown, expired, revoked, reused, or another client's; or its session is over
/// - [`OAuthError::Storage`]
pub(in crate::oidc) async fn rotate(
    app: &App,
    client: &Client,
    form: &Form,
    origin: &Origin<'_>,
) -> Result<OnBehalf, OAuthError> {
    let presented = form.get("refresh_token").ok_or(OAuthError::InvalidRequest("refresh_token is missing"))?;
    if !client.uses(GrantType::RefreshToken) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let hash = sha256(presented);
    let asks_for_less = form.get("scope").is_some() || form.all("resource").next().is_some();
    let may_be_less = asks_for_less || app.config.scopes.restrict_any();
    if may_be_less && let Some(token) = app.store.find_refresh_token(&hash).await.map_err(OAuthError::Storage)? {
        if token.grant.allowed.client_id != client.id {
            return Err(OAuthError::InvalidGrant(NOT_GOOD));
        }
        let (scopes, _) = narrow(&token.grant, client, form)?;
        if app.config.scopes.restrict(&scopes) {
            let user = app.store.user_by_id(&token.grant.allowed.user_id).await.map_err(OAuthError::Storage)?;
            let user = user.ok_or(OAuthError::InvalidGrant(NOT_GOOD))?;
            permitted(&app.config.scopes, &user, &client.id, &scopes)?;
        }
    }

    let tokens = &app.config.tokens;
    let policy = RefreshPolicy {
        grace: tokens.refresh_grace,
        idle: client.refresh_ttl.unwrap_or(tokens.refresh_ttl),
        absolute: Some(tokens.refresh_absolute_ttl),
        access_ttl: client.access_ttl.unwrap_or(tokens.access_ttl),
    };
    let successor = Opaque::new(app.entropy.as_ref()).map_err(|_| OAuthError::ServerError)?;
    let sealed = successor.seal_under(presented).ok_or(OAuthError::ServerError)?;
    let stored = Successor { token_sha256: successor.sha256(), sealed: &sealed };
    let rotation = app.store.rotate_refresh_token(&hash, &client.id, &stored, &policy, origin).await;
    app.metrics.refreshes.count(outcome(rotation.as_ref().ok()));
    let (grant, user, refresh_token) = match rotation.map_err(OAuthError::Storage)? {
        Rotation::Rotated { grant, user, .. } => (grant, user, successor),
        Rotation::Replayed { sealed, grant, user } => {
            (grant, user, Opaque::open_with(presented, &sealed).ok_or(OAuthError::ServerError)?)
        }
        Rotation::Reused { grant_id, revoked } => {
            warn!(client.id = client.id, grant_id, revoked, "a refresh token came again after its use");
            return Err(OAuthError::InvalidGrant(NOT_GOOD));
        }
        Rotation::Revoked | Rotation::Expired | Rotation::Unknown => return Err(OAuthError::InvalidGrant(NOT_GOOD)),
    };
    let (scopes, audiences) = narrow(&grant, client, form)?;
    // Step 4.
    if let (false, Some(sid)) = (grant.allowed.offline, &grant.allowed.sid)
        && session::used_by_app(app, sid, origin.at).await.map_err(OAuthError::Storage)?.is_none()
    {
        app.store.revoke_grant(&grant.allowed.id, origin).await.map_err(OAuthError::Storage)?;
        return Err(OAuthError::InvalidGrant(NOT_GOOD));
    }
    Ok(OnBehalf { scopes, audiences, refresh_token: Some(refresh_token), nonce: None, grant: *grant, user: Some(user) })
}

/// As it is counted.
fn outcome(rotation: Option<&Rotation>) -> &'static str {
    match rotation {
        Some(Rotation::Rotated { .. }) => "rotated",
        Some(Rotation::Replayed { .. }) => "replayed",
        Some(Rotation::Reused { .. }) => "reused",
        Some(Rotation::Revoked) => "revoked",
        Some(Rotation::Expired) => "expired",
        Some(Rotation::Unknown) => "unknown",
        None => "failed",
    }
}

/// Step 1: RFC 6749 §6, "The requested scope MUST NOT include any scope not originally granted"; RFC 8707 §2.2 says the
/// same of resources. A scope that the client has lost since is lost here too.
fn narrow(grant: &Grant, client: &Client, form: &Form) -> Result<(Vec<String>, Vec<String>), OAuthError> {
    let granted: Vec<&String> = grant.allowed.scope.iter().filter(|scope| client.may(scope)).collect();
    let scopes = match form.get("scope") {
        None => granted.into_iter().cloned().collect(),
        Some(requested) => {
            let mut scopes: Vec<String> = Vec::new();
            for scope in requested.split(' ') {
                if parse_scope(scope).is_err() {
                    return Err(OAuthError::InvalidScope("scope must be scope names separated by single spaces"));
                }
                if !granted.iter().any(|known| *known == scope) {
                    return Err(OAuthError::InvalidScope("a requested scope was not granted"));
                }
                if !scopes.iter().any(|known| known == scope) {
                    scopes.push(scope.to_owned());
                }
            }
            scopes
        }
    };
    let mut audiences: Vec<String> = Vec::new();
    for resource in form.all("resource") {
        if !grant.allowed.audiences.iter().any(|known| known == resource) {
            return Err(OAuthError::InvalidTarget("the requested resource was not granted"));
        }
        if !audiences.iter().any(|known| known == resource) {
            audiences.push(resource.to_owned());
        }
    }
    if audiences.is_empty() {
        audiences.clone_from(&grant.allowed.audiences);
    }
    Ok((scopes, audiences))
}

/// One text for every reason: the client can do nothing but have the person sign in.
const NOT_GOOD: &str = "the refresh token is not good any more, or was never given to this client";
