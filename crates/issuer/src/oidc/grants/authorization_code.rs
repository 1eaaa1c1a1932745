//! The authorization code grant (RFC 6749 §4.1.3, RFC 7636 §4.6).
//!
//! 1. The code is spent, whatever comes of it: a lost sign-in is cheaper than a replay.
//! 2. It has to be this client's, for the same redirect URI, with the verifier that fits the challenge.
//! 3. The client gets a refresh token if it is registered for them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tracing::warn;

use super::OnBehalf;
use crate::app::App;
use crate::clients::{Client, GrantType};
use crate::http::request::Form;
use crate::oidc::OAuthError;
use crate::oidc::opaque::{Opaque, sha256};
use crate::storage::{Code, NewRefreshToken, Origin, Redemption};

/// Redeems a code.
///
/// # Errors
/// - [`OAuthError::InvalidRequest`]: no code, or a verifier that can't be one
/// - [`OAuthError::InvalidGrant`]: unknown, expired, spent, or issued to another client, redirect URI or challenge; a code
///   that was spent before has its grant ended with it (RFC 6749 §4.1.2)
/// - [`OAuthError::Storage`]
pub(in crate::oidc) async fn redeem(
    app: &App,
    client: &Client,
    form: &Form,
    origin: &Origin<'_>,
) -> Result<OnBehalf, OAuthError> {
    let code = form.get("code").ok_or(OAuthError::InvalidRequest("code is missing"))?;
    let verifier = form.get("code_verifier");
    if verifier.is_some_and(|verifier| !is_verifier(verifier)) {
        return Err(OAuthError::InvalidRequest(
            "code_verifier must be 43 to 128 letters, digits, '-', '.', '_' or '~'",
        ));
    }
    let access_ttl = client.access_ttl.unwrap_or(app.config.tokens.access_ttl);
    let redeemed = app.store.redeem_code(&sha256(code), origin.at + access_ttl, origin).await;
    let code = match redeemed.map_err(OAuthError::Storage)? {
        Redemption::Redeemed(code) => code,
        Redemption::Reused { grant_id, revoked } => {
            warn!(client.id = client.id, grant_id, revoked, "an authorization code came a second time");
            return Err(OAuthError::InvalidGrant(NOT_GOOD));
        }
        Redemption::Expired | Redemption::Withdrawn | Redemption::Unknown => {
            return Err(OAuthError::InvalidGrant(NOT_GOOD));
        }
    };
    if let Err(why) = fits(&code, client, form) {
        warn!(client.id = client.id, grant_id = code.grant.allowed.id, why, "an authorization code was refused");
        let revoked = app.store.revoke_grant(&code.grant.allowed.id, origin).await;
        revoked.map_err(OAuthError::Storage)?;
        return Err(OAuthError::InvalidGrant(NOT_GOOD));
    }
    let grant = code.grant;
    let refresh_token = if client.uses(GrantType::RefreshToken) {
        let token = Opaque::new(app.entropy.as_ref()).map_err(|_| OAuthError::ServerError)?;
        let lifetime = client.refresh_ttl.unwrap_or(app.config.tokens.refresh_ttl);
        let lifetime = lifetime.min(app.config.tokens.refresh_absolute_ttl);
        let stored =
            NewRefreshToken { token_sha256: token.sha256(), issued_at: origin.at, expires_at: origin.at + lifetime };
        // What ended the grant in this moment, a second use of the code as a rule, ends these tokens as it would a moment
        // later: of many attempts at once, one is answered with tokens.
        let is_alive = app.store.insert_refresh_token(&grant.allowed.id, &stored).await.map_err(OAuthError::Storage)?;
        if !is_alive {
            warn!(client.id = client.id, grant_id = grant.allowed.id, "a grant ended before its tokens were sent");
        }
        Some(token)
    } else {
        None
    };
    Ok(OnBehalf {
        user: None,
        scopes: grant.allowed.scope.clone(),
        audiences: grant.allowed.audiences.clone(),
        nonce: grant.allowed.nonce.clone(),
        refresh_token,
        grant,
    })
}

/// Step 2.
fn fits(code: &Code, client: &Client, form: &Form) -> Result<(), &'static str> {
    if code.grant.allowed.client_id != client.id {
        return Err("it is another client's");
    }
    // RFC 6749 §4.1.3: "REQUIRED, if the "redirect_uri" parameter was included in the authorization request [...] and
    // their values MUST be identical".
    match (&code.redirect_uri, form.get("redirect_uri")) {
        (Some(expected), Some(sent)) if expected == sent => {}
        (Some(_), _) => return Err("the redirect_uri is not that of the authorization request"),
        (None, None) => {}
        (None, Some(sent)) if client.redirect_uri(sent).is_some() => {}
        (None, Some(_)) => return Err("the redirect_uri is not the client's"),
    }
    match (&code.code_challenge, form.get("code_verifier")) {
        (None, None) => Ok(()),
        (Some(challenge), Some(verifier)) => {
            let hash = URL_SAFE_NO_PAD.encode(sha256(verifier));
            let is_equal = verify_slices_are_equal(hash.as_bytes(), challenge.as_bytes()).is_ok();
            if is_equal { Ok(()) } else { Err("the code_verifier does not fit") }
        }
        (Some(_), None) => Err("the code_verifier is missing"),
        // RFC 9700 §4.8.2: a verifier without a challenge means that somebody took the challenge out.
        (None, Some(_)) => Err("there was no code_challenge"),
    }
}

/// RFC 7636 §4.1
fn is_verifier(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

/// One text for every reason: the client can do nothing but start again.
const NOT_GOOD: &str = "the code is not good any more, or was never given to this client for this request";
