//! Tokens for the pages of the issuer's owner, which ask for the password themselves (`/api/session`).
//!
//! They are what the code flow gives, by the same ways: a grant of the session, which ends with it; access tokens that name
//! the grant; a refresh token that is rotated at each use. There is no consent, since the client is the owner's, and no ID
//! token, since the client knows already who signed in.
//!
//! A session that began here is in use when its tokens are renewed, as one of the pages is when it is looked at.

use std::sync::Arc;
use std::time::Duration;

use keywheel_jose::Timestamp;
use serde_json::{Map, Value};
use tracing::error;

use super::grants::{OnBehalf, permitted, refresh_token};
use super::opaque::{Opaque, new_id, sha256};
use super::presented::{self, Presented};
use super::{OAuthError, profile, token};
use crate::app::App;
use crate::clients::{Client, GrantType, OFFLINE_ACCESS};
use crate::http::request::Form;
use crate::storage::{Grant, NewGrant, NewRefreshToken, Origin, Session, StoreError};
use crate::users::User;

/// What a client gets.
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) expires_in: Duration,
    /// For clients with the grant `refresh_token`.
    pub(crate) refresh_token: Option<Opaque>,
    /// Separated by spaces.
    pub(crate) scope: String,
    /// Claims of the person, by those scopes.
    pub(crate) user: Map<String, Value>,
    pub(crate) session: Session,
}

/// Who is signed in.
pub(crate) struct Current {
    pub(crate) client: Arc<Client>,
    pub(crate) grant: Grant,
    pub(crate) scope: String,
    pub(crate) expires_at: Timestamp,
    /// Claims of the person, by those scopes.
    pub(crate) user: Map<String, Value>,
}

/// What a client gets at this person's sign-in: all of its scopes but `offline_access`, if they may have them.
///
/// # Errors
/// [`OAuthError::InvalidScope`]: they may have none of them
pub(crate) fn scopes(app: &App, client: &Client, user: &User) -> Result<Vec<String>, OAuthError> {
    let all: Vec<String> = client.scopes.iter().filter(|scope| *scope != OFFLINE_ACCESS).cloned().collect();
    permitted(&app.config.scopes, user, &client.id, &all)
}

/// Gives a client the tokens of a session that just began: for the given [`scopes`], and for the first of its audiences. `None` when the session is over, or its user may not sign in any more.
///
/// # Errors
/// - [`OAuthError::Storage`]
/// - [`OAuthError::Unavailable`], [`OAuthError::ServerError`]: nothing could be signed
pub(crate) async fn begin(
    app: &App,
    client: &Client,
    scopes: Vec<String>,
    session: Session,
    user: &User,
    origin: &Origin<'_>,
) -> Result<Option<Tokens>, OAuthError> {
    let grant = NewGrant {
        id: new_id(app.entropy.as_ref()).map_err(|_| no_randomness())?,
        user_id: user.id.clone(),
        client_id: client.id.clone(),
        sid: Some(session.sid.clone()),
        offline: false,
        scope: scopes,
        audiences: vec![client.audiences.first().map_or(app.config.issuer.as_str(), String::as_str).to_owned()],
        claims_request: None,
        nonce: None,
        auth_time: session.auth_time,
        amr: session.amr.clone(),
        acr: session.acr.clone(),
    };
    let tokens = &app.config.tokens;
    let refresh_token = match client.uses(GrantType::RefreshToken) {
        true => Some(Opaque::new(app.entropy.as_ref()).map_err(|_| no_randomness())?),
        false => None,
    };
    let lifetime = tokens.refresh_ttl_of(client).min(tokens.refresh_absolute_ttl);
    let stored = refresh_token.as_ref().map(|token| NewRefreshToken {
        token_sha256: token.sha256(),
        issued_at: origin.at,
        expires_at: origin.at + lifetime,
    });
    let alive_until = origin.at + tokens.access_ttl_of(client);
    let is_alive = app.store.insert_grant(&grant, stored.as_ref(), alive_until, origin).await;
    if !is_alive.map_err(OAuthError::Storage)? {
        return Ok(None);
    }
    let granted = OnBehalf {
        user: None,
        scopes: grant.scope.clone(),
        audiences: grant.audiences.clone(),
        refresh_token,
        nonce: None,
        grant: Grant { allowed: grant, created_at: origin.at, revoked_at: None },
    };
    issue(app, client, granted, user, session, origin.at).await.map(Some)
}

/// Uses a refresh token of [`begin`], which counts as use of its session.
///
/// # Errors
/// - [`OAuthError::InvalidGrant`]: unknown, expired, revoked or reused; or the session is over, and then so is the grant
/// - [`OAuthError::Storage`]
/// - [`OAuthError::Unavailable`], [`OAuthError::ServerError`]: nothing could be signed
pub(crate) async fn renew(
    app: &App,
    client: &Client,
    refresh_token: &str,
    origin: &Origin<'_>,
) -> Result<Tokens, OAuthError> {
    if !is_opaque(refresh_token) {
        return Err(OVER);
    }
    let form = Form::parse(format!("refresh_token={refresh_token}").as_bytes())?;
    let granted = refresh_token::rotate(app, client, &form, origin).await?;
    let sid = granted.grant.allowed.sid.as_deref().ok_or(OVER)?;
    let session = app.store.session_by_sid(sid, origin.at).await.map_err(OAuthError::Storage)?.ok_or(OVER)?;
    let user = app.store.user_by_id(&session.user_id).await.map_err(OAuthError::Storage)?;
    let user = user.filter(|user| !user.disabled).ok_or(OVER)?;
    issue(app, client, granted, &user, session, origin.at).await
}

/// Whose an access token is, if it is good.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn current(app: &App, access_token: &str) -> Result<Option<Current>, StoreError> {
    let Some(Presented { claims, client, grant }) = presented::read(app, access_token).await? else { return Ok(None) };
    let Some(grant) = grant else { return Ok(None) };
    let Some(user) = app.store.user_by_id(&grant.allowed.user_id).await? else { return Ok(None) };
    let user = profile::shown_to(&client, &user, claims.scopes());
    let scope = claims.scopes().collect::<Vec<_>>().join(" ");
    Ok(Some(Current { expires_at: claims.exp, client, grant, scope, user }))
}

/// The grant of a refresh token, alive, and its client; whether the token was used before does not matter.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn find(app: &App, refresh_token: &str) -> Result<Option<(Arc<Client>, Grant)>, StoreError> {
    if !is_opaque(refresh_token) {
        return Ok(None);
    }
    let Some(found) = app.store.find_refresh_token(&sha256(refresh_token)).await? else { return Ok(None) };
    let client = app.clients().find(&found.grant.allowed.client_id).cloned();
    Ok(client.map(|client| (client, found.grant)))
}

async fn issue(
    app: &App,
    client: &Client,
    granted: OnBehalf,
    user: &User,
    session: Session,
    now: Timestamp,
) -> Result<Tokens, OAuthError> {
    let granted = granted.permitted(&app.config.scopes, user)?;
    let access_token = token::access_token(app, client, &granted, user, now).await?;
    Ok(Tokens {
        access_token,
        expires_in: app.config.tokens.access_ttl_of(client),
        refresh_token: granted.refresh_token,
        scope: granted.scopes.join(" "),
        user: profile::shown_to(client, user, granted.scopes.iter().map(String::as_str)),
        session,
    })
}

/// Whether it can be one of ours.
fn is_opaque(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn no_randomness() -> OAuthError {
    error!("there is no randomness for tokens");
    OAuthError::ServerError
}

const OVER: OAuthError = OAuthError::InvalidGrant("the sign-in is over");
