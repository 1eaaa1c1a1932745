//! One file per grant type. A grant decides what the tokens say; everything that all grants share (reading the request,
//! client authentication, signing, the answer) is done by `oidc/token.rs`, so that none can forget it.

pub(super) mod authorization_code;
pub(super) mod client_credentials;
pub(super) mod refresh_token;

use super::OAuthError;
use crate::oidc::opaque::Opaque;
use crate::scopes::Scopes;
use crate::storage::Grant;
use crate::users::User;

/// What a client gets on behalf of a person.
pub(super) struct OnBehalf {
    /// What the person allowed; alive.
    pub(super) grant: Grant,
    /// The person, where they have been read with it.
    pub(super) user: Option<Box<User>>,
    /// The scopes of this access token, which may be fewer than were allowed.
    pub(super) scopes: Vec<String>,
    /// One at least.
    pub(super) audiences: Vec<String>,
    /// The next refresh token.
    pub(super) refresh_token: Option<Opaque>,
    /// Goes into the ID token; for the first one only (OpenID Connect Core §12.2).
    pub(super) nonce: Option<String>,
}

impl OnBehalf {
    /// With those of its scopes that this person may have at this moment.
    ///
    /// # Errors
    /// [`OAuthError::InvalidScope`]: that is none of them
    pub(super) fn permitted(self, scopes: &Scopes, user: &User) -> Result<Self, OAuthError> {
        let scopes = permitted(scopes, user, &self.grant.allowed.client_id, &self.scopes)?;
        Ok(Self { scopes, ..self })
    }
}

/// Those of `wanted` that the client may have on behalf of this person at this moment.
///
/// # Errors
/// [`OAuthError::InvalidScope`]: that is none of them
pub(super) fn permitted(
    scopes: &Scopes,
    user: &User,
    client_id: &str,
    wanted: &[String],
) -> Result<Vec<String>, OAuthError> {
    let nothing = OAuthError::InvalidScope("the person may not have any of the scopes");
    scopes.permitted(user, client_id, wanted).ok_or(nothing)
}
