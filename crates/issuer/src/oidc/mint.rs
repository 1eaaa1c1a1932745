//! Access tokens: RFC 9068 claims, signed by the ring.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, Timestamp};
use serde::{Serialize, Serializer};

use crate::edges::Entropy;
use crate::keys::{Keys, SignError, TokenKind};

/// What an access token shall say.
pub(crate) struct AccessTokenRequest<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) client_id: &'a str,
    /// One at least.
    pub(crate) audiences: &'a [&'a str],
    /// Separated by spaces; empty for none.
    pub(crate) scope: &'a str,
    pub(crate) lifetime: Duration,
    /// `None`: the issuer's default.
    pub(crate) alg: Option<Algorithm>,
    /// How far verifiers' clocks may be behind.
    pub(crate) clock_skew: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: OneOrMany<'a>,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

struct OneOrMany<'a>(&'a [&'a str]);

impl Serialize for OneOrMany<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl AccessTokenRequest<'_> {
    /// Makes the token (RFC 9068 §2.2).
    ///
    /// `nbf` lies twice the clock skew back: this clock may be ahead by it, and a verifier's behind by it.
    ///
    /// # Errors
    /// Every [`SignError`]; [`SignError::Failed`] also when there is no randomness for the `jti`.
    pub(crate) fn mint(&self, keys: &Keys, entropy: &dyn Entropy, now: Timestamp) -> Result<String, SignError> {
        let mut random = [0; 16];
        entropy.fill(&mut random).map_err(|_| SignError::Failed)?;
        let mut jti = [0; 22];
        let length = URL_SAFE_NO_PAD.encode_slice(random, &mut jti).map_err(|_| SignError::Failed)?;
        let claims = Claims {
            iss: self.issuer,
            sub: self.subject,
            aud: OneOrMany(self.audiences),
            exp: (now + self.lifetime).as_unix(),
            iat: now.as_unix(),
            nbf: (now - self.clock_skew * 2).as_unix(),
            jti: std::str::from_utf8(&jti[..length]).expect("base64 is ASCII"),
            client_id: self.client_id,
            scope: self.scope,
        };
        let mut payload = Vec::with_capacity(512);
        serde_json::to_writer(&mut payload, &claims).map_err(|_| SignError::Failed)?;
        let alg = self.alg.unwrap_or_else(|| keys.default_algorithm(now));
        keys.sign(TokenKind::Access, alg, &payload, self.lifetime, now)
    }
}
