//! Access tokens (RFC 9068) and ID tokens (OpenID Connect Core §2), signed by the ring.
//!
//! The `jti` of an access token that a person granted begins with the id of the grant, so that the token can be found to
//! be taken back although nothing about it is stored.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::edges::Entropy;
use crate::keys::{Keys, SignError, TokenKind};
use crate::oidc::json::{push_list, push_member};

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
    /// Who granted it, unless the client acts for itself.
    pub(crate) person: Option<Person<'a>>,
}

/// What a token says about the person's sign-in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person<'a> {
    pub(crate) grant_id: &'a str,
    pub(crate) sid: Option<&'a str>,
    pub(crate) auth_time: Timestamp,
    pub(crate) acr: Option<&'a str>,
    pub(crate) amr: &'a [String],
    pub(crate) roles: &'a [&'a str],
}

/// What an ID token shall say.
pub(crate) struct IdTokenRequest<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: Option<&'a str>,
    /// The access token issued with it.
    pub(crate) access_token: Option<&'a str>,
    pub(crate) person: Person<'a>,
    /// Single claims that were asked for; none that the token says of itself.
    pub(crate) claims: Map<String, Value>,
    pub(crate) lifetime: Duration,
    pub(crate) alg: Algorithm,
}

#[derive(Serialize)]
struct IdClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    iat: i64,
    auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    at_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(flatten)]
    claims: &'a Map<String, Value>,
}

impl AccessTokenRequest<'_> {
    /// Makes the token (RFC 9068 §2.2).
    ///
    /// `nbf` lies twice the clock skew back: this clock may be ahead by it, and a verifier's behind by it.
    ///
    /// # Errors
    /// Every [`SignError`]; [`SignError::Failed`] also when there is no randomness for the `jti`.
    pub(crate) async fn mint(&self, keys: &Keys, entropy: &dyn Entropy, now: Timestamp) -> Result<String, SignError> {
        let mut random = [0; 16];
        entropy.fill(&mut random).map_err(|_| SignError::Failed)?;
        let mut jti = String::with_capacity(2 * ID_CHARACTERS + 1);
        if let Some(person) = self.person {
            jti.push_str(person.grant_id);
            jti.push(GRANT_DIVIDER);
        }
        URL_SAFE_NO_PAD.encode_string(random, &mut jti);
        let payload = self.claims(&jti, now);
        let alg = self.alg.unwrap_or_else(|| keys.default_algorithm(now));
        keys.sign(TokenKind::Access, alg, &payload, self.lifetime, now).await
    }

    /// RFC 9068 §2.2
    fn claims(&self, jti: &str, now: Timestamp) -> Vec<u8> {
        let mut claims = Vec::with_capacity(512);
        let number = |claims: &mut Vec<u8>, name: &str, at: Timestamp| {
            claims.extend_from_slice(name.as_bytes());
            claims.extend_from_slice(at.as_unix().to_string().as_bytes());
        };
        push_member(&mut claims, "{\"iss\":", self.issuer);
        push_member(&mut claims, ",\"sub\":", self.subject);
        match self.audiences {
            [one] => push_member(&mut claims, ",\"aud\":", one),
            many => push_list(&mut claims, ",\"aud\":", many),
        }
        number(&mut claims, ",\"exp\":", now + self.lifetime);
        number(&mut claims, ",\"iat\":", now);
        number(&mut claims, ",\"nbf\":", now - self.clock_skew * 2);
        push_member(&mut claims, ",\"jti\":", jti);
        push_member(&mut claims, ",\"client_id\":", self.client_id);
        if !self.scope.is_empty() {
            push_member(&mut claims, ",\"scope\":", self.scope);
        }
        if let Some(person) = self.person {
            if let Some(sid) = person.sid {
                push_member(&mut claims, ",\"sid\":", sid);
            }
            number(&mut claims, ",\"auth_time\":", person.auth_time);
            if let Some(acr) = person.acr {
                push_member(&mut claims, ",\"acr\":", acr);
            }
            if !person.amr.is_empty() {
                push_list(&mut claims, ",\"amr\":", person.amr);
            }
            if !person.roles.is_empty() {
                push_list(&mut claims, ",\"roles\":", person.roles);
            }
        }
        claims.push(b'}');
        claims
    }
}

impl IdTokenRequest<'_> {
    /// Makes the token (OpenID Connect Core §2, §3.1.3.6).
    ///
    /// # Errors
    /// Every [`SignError`]
    pub(crate) async fn mint(&self, keys: &Keys, now: Timestamp) -> Result<String, SignError> {
        let claims = IdClaims {
            iss: self.issuer,
            sub: self.subject,
            aud: self.client_id,
            exp: (now + self.lifetime).as_unix(),
            iat: now.as_unix(),
            auth_time: self.person.auth_time.as_unix(),
            nonce: self.nonce,
            acr: self.person.acr,
            amr: self.person.amr,
            at_hash: self.access_token.map(|token| half_hash(self.alg, token)),
            sid: self.person.sid,
            claims: &self.claims,
        };
        let payload = serde_json::to_vec(&claims).map_err(|_| SignError::Failed)?;
        keys.sign(TokenKind::Id, self.alg, &payload, self.lifetime, now).await
    }
}

/// The grant that an access token belongs to, by its `jti`; `None` for one that a client got for itself.
pub(crate) fn grant_of(jti: &str) -> Option<&str> {
    jti.split_once(GRANT_DIVIDER).map(|(grant, _)| grant)
}

/// `at_hash`: "the base64url encoding of the left-most half of the hash of the octets of the ASCII representation of the
/// access_token value, where the hash algorithm used is the hash algorithm used in the alg Header Parameter of the ID
/// Token's JOSE Header" (OpenID Connect Core §3.1.3.6). Ed25519 hashes by SHA-512.
fn half_hash(alg: Algorithm, token: &str) -> String {
    let algorithm = match alg {
        Algorithm::ES384 | Algorithm::RS384 | Algorithm::PS384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
        Algorithm::ES256 | Algorithm::RS256 | Algorithm::PS256 => &digest::SHA256,
    };
    let hash = digest::digest(algorithm, token.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// Not in base64url.
const GRANT_DIVIDER: char = '.';

/// 128 random bits in base64url.
const ID_CHARACTERS: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_hash_is_that_of_the_standard() {
        // The example of OpenID Connect Core A.3.
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";

        assert_eq!(half_hash(Algorithm::RS256, token), "77QmUPtjPfzWtF2AnpK9RQ");
    }

    #[test]
    fn a_token_leads_to_its_grant() {
        assert_eq!(grant_of("abc.def"), Some("abc"));
        assert_eq!(grant_of("abcdef"), None);
    }
}
