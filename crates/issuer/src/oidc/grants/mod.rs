//! One file per grant type. A grant decides what the tokens say; everything that all grants share (reading the request,
//! client authentication, signing, the answer) is done by `oidc/token.rs`, so that none can forget it.

pub(super) mod authorization_code;
pub(super) mod client_credentials;
pub(super) mod refresh_token;

use crate::oidc::opaque::Opaque;
use crate::storage::Grant;

/// What a client gets on behalf of a person.
pub(super) struct OnBehalf {
    /// What the person allowed; alive.
    pub(super) grant: Grant,
    /// The scopes of this access token, which may be fewer than were allowed.
    pub(super) scopes: Vec<String>,
    /// One at least.
    pub(super) audiences: Vec<String>,
    /// The next refresh token.
    pub(super) refresh_token: Option<Opaque>,
    /// Goes into the ID token; for the first one only (OpenID Connect Core §12.2).
    pub(super) nonce: Option<String>,
}
