//! `id_token_hint`: an ID token of ours that names a person (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2).

use keywheel_jose::{Algorithm, check_signature};
use serde::Deserialize;

use crate::app::App;

/// What a hint says. That the token has ended does not matter: a person is named with it, and nothing granted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Hint {
    iss: String,
    /// Whom it names.
    pub(crate) sub: String,
    /// The client it was issued to.
    pub(crate) aud: String,
    /// The session it was issued in.
    pub(crate) sid: Option<String>,
}

/// Reads a hint, if it is an ID token of ours.
pub(crate) fn read(app: &App, token: &str) -> Option<Hint> {
    let verified = check_signature(token, &app.keys.all_public(), &Algorithm::ALL).ok()?;
    // What we sign is told apart by its type: no access token and no logout token is a hint.
    let is_id_token = verified.typ().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    let hint: Hint = serde_json::from_slice(verified.payload()).ok()?;
    Some(hint).filter(|hint| is_id_token && hint.iss == app.config.issuer.as_str())
}
