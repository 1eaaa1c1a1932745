//! What access tokens and ID tokens say (RFC 7519 §4.1, RFC 9068 §2.2, OpenID Connect Core §2).
//!
//! The same types are minted from and read into. Whether a token holds does not depend on them: what its kind demands is
//! checked here, whatever type the caller of [`crate::check`] reads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::json::{Json, Object, with_object};
use crate::rejection::shown;
use crate::{Confirmation, Part, Policy, Rejection, Timestamp, TokenType};

/// Whom a token is for. One audience is written as a string, several as an array (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(Vec<String>);

/// The claims of an access token (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    /// The issuer.
    pub iss: String,
    /// The user, or the client when it acts for itself.
    pub sub: String,
    /// The resource servers the token is for.
    pub aud: Audience,
    /// When the token ends.
    pub exp: Timestamp,
    /// When it was issued.
    pub iat: Timestamp,
    /// When it begins to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Timestamp>,
    /// The token's own id.
    pub jti: String,
    /// The client it was issued to.
    pub client_id: String,
    /// The granted scopes, divided by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The user's roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The session it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// When the user signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Timestamp>,
    /// How surely the user was authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// How the user was authenticated (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

/// The claims of an ID token (OpenID Connect Core §2, §3.1.3.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdTokenClaims {
    /// The issuer.
    pub iss: String,
    /// The user.
    pub sub: String,
    /// The clients the token is for.
    pub aud: Audience,
    /// When the token ends.
    pub exp: Timestamp,
    /// When it was issued.
    pub iat: Timestamp,
    /// When the user signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Timestamp>,
    /// The value the client sent with its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// How surely the user was authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// How the user was authenticated (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The client the token was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    /// Half the hash of the access token issued with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// The session it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Further claims about the user, such as `name` and `email`.
    #[serde(flatten)]
    pub profile: serde_json::Map<String, serde_json::Value>,
}

/// The registered claims a verdict is reached from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) expires_at: Timestamp,
    pub(crate) issuer: Option<Arc<str>>,
    pub(crate) subject: Option<Box<str>>,
    pub(crate) confirmation: Option<Confirmation>,
}

impl Audience {
    /// Whether it names `audience`, exactly.
    pub fn contains(&self, audience: &str) -> bool {
        self.0.iter().any(|own| own == audience)
    }

    /// Its members, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl AccessTokenClaims {
    /// The granted scopes one by one.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty())
    }
}

impl From<String> for Audience {
    fn from(audience: String) -> Self {
        Self(vec![audience])
    }
}

impl From<&str> for Audience {
    fn from(audience: &str) -> Self {
        Self(vec![audience.to_owned()])
    }
}

impl From<Vec<String>> for Audience {
    fn from(audiences: Vec<String>) -> Self {
        Self(audiences)
    }
}

impl Serialize for Audience {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [audience] => serializer.serialize_str(audience),
            audiences => audiences.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Audience;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E: de::Error>(self, audience: &str) -> Result<Audience, E> {
        Ok(audience.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, audiences: A) -> Result<Audience, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(audiences)).map(Audience)
    }
}

/// Step 5 of [`crate::check`]. The holder is asked last, about a token that would hold in the right hands. `and_then` gets
/// the claims that have held.
pub(crate) fn check_claims<T>(
    payload: &str,
    policy: &Policy,
    now: Timestamp,
    holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
    and_then: impl FnOnce(&Object<'_>) -> Result<T, Rejection>,
) -> Result<(Registered, T), Rejection> {
    with_object(Part::Payload, payload, |claims| {
        let issuer = check_issuer(claims, policy)?;
        check_audience(claims, policy)?;
        let subject = claim_text(claims, "sub")?;
        // RFC 9068 §2.2 and OpenID Connect Core §2: both are "REQUIRED".
        if policy.token_type() != TokenType::Any {
            required(subject, "sub")?;
            required(claims.get("iat"), "iat")?;
        }
        let expires_at = check_dates(claims, policy, now)?;
        check_profile(claims, policy.token_type())?;
        let confirmation = Confirmation::read(claims)?;
        holder(confirmation.as_ref())?;
        let registered = Registered {
            expires_at,
            // The one the policy expects is there already.
            issuer: policy.shared_issuer().or_else(|| issuer.map(Arc::from)),
            subject: subject.map(Box::from),
            confirmation,
        };
        Ok((registered, and_then(claims)?))
    })
}

/// `iss` alone, from a payload about which nothing else is known.
pub(crate) fn read_issuer(payload: &str) -> Result<String, Rejection> {
    with_object(Part::Payload, payload, |claims| Ok(required(claim_text(claims, "iss")?, "iss")?.to_owned()))
}

fn check_issuer<'j>(claims: &'j Object<'_>, policy: &Policy) -> Result<Option<&'j str>, Rejection> {
    let found = claim_text(claims, "iss")?;
    match policy.issuer() {
        Some(expected) => {
            let found = required(found, "iss")?;
            if found != expected {
                return Err(Rejection::WrongIssuer { expected: shown(expected), found: shown(found) });
            }
        }
        // RFC 9068 §2.2 and OpenID Connect Core §2: "REQUIRED", whoever it is.
        None if policy.token_type() != TokenType::Any => _ = required(found, "iss")?,
        None => {}
    }
    Ok(found)
}

/// RFC 7519 §4.1.3, and for ID tokens OpenID Connect Core §3.1.3.7 steps 3 to 5.
pub(crate) fn check_audience(claims: &Object<'_>, policy: &Policy) -> Result<(), Rejection> {
    let malformed =
        |found| Rejection::MalformedClaim { claim: "aud", expected: "a string or a non-empty array of strings", found };
    let found = match required(claims.get("aud"), "aud")? {
        audience @ Json::String(_) => std::slice::from_ref(audience),
        Json::Array(audiences) if audiences.is_empty() => return Err(malformed("an empty array")),
        Json::Array(audiences) => audiences,
        other => return Err(malformed(other.kind())),
    };
    if found.iter().any(|audience| audience.as_str().is_none()) {
        return Err(malformed("an array of something else"));
    }
    let is_ours = |name: &str| policy.audiences().iter().any(|audience| audience == name);
    let names = found.iter().filter_map(Json::as_str);
    if !names.clone().any(is_ours) {
        let found: Vec<_> = names.collect();
        return Err(Rejection::WrongAudience { expected: policy.audiences_shown(), found: shown(&found.join(" ")) });
    }

    let authorized_party = claim_text(claims, "azp")?;
    if policy.token_type() != TokenType::IdToken {
        return Ok(());
    }
    match authorized_party {
        None if found.len() > 1 => Err(Rejection::MissingClaim { claim: "azp" }),
        Some(party) if !is_ours(party) => {
            Err(Rejection::WrongAuthorizedParty { expected: policy.audiences_shown(), found: shown(party) })
        }
        _ => Ok(()),
    }
}

/// RFC 7519 §4.1.4 to §4.1.6. Returns `exp`.
pub(crate) fn check_dates(claims: &Object<'_>, policy: &Policy, now: Timestamp) -> Result<Timestamp, Rejection> {
    let leeway = policy.leeway();
    let expires_at = required(claim_date(claims, "exp")?, "exp")?;
    let not_before = claim_date(claims, "nbf")?;
    claim_date(claims, "iat")?;
    claim_date(claims, "auth_time")?;
    check_span(Some(expires_at), not_before, leeway, now)?;
    Ok(expires_at)
}

/// Whether `now` lies between `nbf` and `exp`.
pub(crate) fn check_span(
    expires_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    leeway: Duration,
    now: Timestamp,
) -> Result<(), Rejection> {
    match (expires_at, not_before) {
        // "on or after which the JWT MUST NOT be accepted"
        (Some(expires_at), _) if now >= expires_at + leeway => Err(Rejection::Expired { expires_at, now, leeway }),
        // "before which the JWT MUST NOT be accepted"
        (_, Some(not_before)) if not_before > now + leeway => Err(Rejection::NotYetValid { not_before, now, leeway }),
        _ => Ok(()),
    }
}

/// What belongs to the kind of token beside what was looked at before: [`AccessTokenClaims`] and [`IdTokenClaims`] can be
/// read from whatever passes.
fn check_profile(claims: &Object<'_>, token_type: TokenType) -> Result<(), Rejection> {
    check_profile_types(claims, token_type)?;
    // RFC 9068 §2.2: both are "REQUIRED".
    if token_type == TokenType::AccessToken {
        required(claims.get("client_id"), "client_id")?;
        required(claims.get("jti"), "jti")?;
    }
    Ok(())
}

/// The types of what belongs to the kind of token, where it is there.
pub(crate) fn check_profile_types(claims: &Object<'_>, token_type: TokenType) -> Result<(), Rejection> {
    claim_text(claims, "client_id")?;
    claim_text(claims, "jti")?;
    claim_text(claims, "scope")?;
    if token_type == TokenType::Any {
        return Ok(());
    }
    claim_text(claims, "sid")?;
    claim_text(claims, "acr")?;
    check_texts(claims, "amr")?;
    if token_type == TokenType::AccessToken {
        check_texts(claims, "roles")
    } else {
        claim_text(claims, "nonce")?;
        claim_text(claims, "at_hash")?;
        Ok(())
    }
}

pub(crate) fn required<T>(value: Option<T>, claim: &'static str) -> Result<T, Rejection> {
    value.ok_or(Rejection::MissingClaim { claim })
}

pub(crate) fn claim_text<'j>(claims: &'j Object<'_>, claim: &'static str) -> Result<Option<&'j str>, Rejection> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(Rejection::MalformedClaim { claim, expected: "a string", found: other.kind() }),
    }
}

fn check_texts(claims: &Object<'_>, claim: &'static str) -> Result<(), Rejection> {
    let found = match claims.get(claim) {
        None => return Ok(()),
        Some(Json::Array(items)) if items.iter().all(|item| item.as_str().is_some()) => return Ok(()),
        Some(Json::Array(_)) => "an array of something else",
        Some(other) => other.kind(),
    };
    Err(Rejection::MalformedClaim { claim, expected: "an array of strings", found })
}

pub(crate) fn claim_date(claims: &Object<'_>, claim: &'static str) -> Result<Option<Timestamp>, Rejection> {
    let expected = "a number of seconds from 1970 to the year 9999";
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::Number(seconds)) if (0.0..=END_OF_YEAR_9999).contains(seconds) => {
            Ok(Timestamp::from_fractional_unix(*seconds))
        }
        Some(Json::Number(_)) => {
            Err(Rejection::MalformedClaim { claim, expected, found: "a number out of that range" })
        }
        Some(other) => Err(Rejection::MalformedClaim { claim, expected, found: other.kind() }),
    }
}

/// 9999-12-31T23:59:59Z.
const END_OF_YEAR_9999: f64 = 253_402_300_799.0;
