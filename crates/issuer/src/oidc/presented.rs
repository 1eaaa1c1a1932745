//! Access tokens of ours that come back to us, and whether they are still good.
//!
//! Resource servers can only see that a token holds. Here the database is at hand, so a token also ends with its grant, by
//! a revocation of its own, and with its client.

use std::sync::Arc;

use keywheel_jose::{AccessTokenClaims, Audience, Policy, check, decode_unverified};
use serde::Deserialize;

use super::mint::grant_of;
use crate::app::App;
use crate::clients::Client;
use crate::storage::{Grant, StoreError};

/// An access token that is good at this moment.
pub(super) struct Presented {
    pub(super) claims: AccessTokenClaims,
    pub(super) client: Arc<Client>,
    /// What it came from; `None` for one that a client got for itself.
    pub(super) grant: Option<Grant>,
}

/// Reads an access token, if it is one of ours and good.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(super) async fn read(app: &App, token: &str) -> Result<Option<Presented>, StoreError> {
    let Some(claims) = holds(app, token) else { return Ok(None) };
    let Some(client) = app.clients().find(&claims.client_id).cloned() else { return Ok(None) };
    if app.store.is_access_token_revoked(&claims.jti).await? {
        return Ok(None);
    }
    let grant = match grant_of(&claims.jti) {
        None => None,
        Some(id) => match app.store.grant(id).await? {
            Some(grant) => Some(grant),
            None => return Ok(None),
        },
    };
    Ok(Some(Presented { claims, client, grant }))
}

/// The claims of an access token of ours that holds by itself. For which audience it was issued does not matter: the
/// issuer is not one of the resource servers that must not take each other's tokens.
pub(super) fn holds(app: &App, token: &str) -> Option<AccessTokenClaims> {
    #[derive(Deserialize)]
    struct For {
        aud: Audience,
    }

    // Taken from the token, because any will do; nothing is believed of it before the check.
    let payload = decode_unverified(token).ok()?.payload;
    let For { aud } = serde_json::from_slice(&payload).ok()?;
    let skew = app.config.keys.rotation.clock_skew().min(Policy::MAX_LEEWAY);
    let policy = Policy::access_token(app.config.issuer.as_str(), aud.iter().next()?);
    let policy = policy.with_leeway(skew).expect("it is no longer than the longest");
    let now = app.clock.now();
    let verified = check::<AccessTokenClaims>(token, &app.keys.all_public(), &policy, now).ok()?;
    // The leeway is for another replica's clock at the beginning of a token; its end we can tell ourselves.
    (verified.expires_at() > now).then(|| verified.into_claims())
}
