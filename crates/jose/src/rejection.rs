//! Why a token does not hold: a closed list with stable codes.
//!
//! Every message says what was expected and what was found. What was found comes from whoever sent the token, so it is
//! escaped to printable ASCII and cut; the token itself is never repeated.

use std::fmt;
use std::time::Duration;

use crate::{Algorithm, ProofMethod, Timestamp};

/// A part of a compact JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The JOSE header, before the first dot.
    Header,
    /// The payload, between the dots.
    Payload,
    /// The signature, after the second dot.
    Signature,
}

/// Why a token was refused. Texts named `found` are already escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Longer than the policy reads.
    #[error("token has {found_bytes} bytes, more than the {limit_bytes} allowed")]
    TokenTooLarge {
        /// The policy's limit.
        limit_bytes: usize,
        /// The token's length.
        found_bytes: usize,
    },
    /// The JSON serialization of RFC 7515 §7.2, which is not for tokens (RFC 7519 §1).
    #[error("expected a compact token, found the JSON serialization")]
    JsonSerialization,
    /// Five parts: an encrypted token (RFC 7516).
    #[error("expected a signed token of three parts, found an encrypted one of five")]
    EncryptedToken,
    /// Not three parts.
    #[error("expected three parts divided by dots, found {found}")]
    WrongPartCount {
        /// How many there were.
        found: usize,
    },
    /// A part without content.
    #[error("the {part} is empty")]
    EmptyPart {
        /// Which part.
        part: Part,
    },
    /// Not unpadded, canonical base64url: another alphabet, white space, padding, or bits that mean nothing.
    #[error("the {part} is not canonical base64url without padding")]
    NotBase64Url {
        /// Which part.
        part: Part,
    },
    /// The header or the claims are not one JSON object.
    #[error("the {part} is not a JSON object")]
    NotAnObject {
        /// Which part.
        part: Part,
    },
    /// A member name stands twice in one object.
    #[error("the {part} has the member {found} twice in one object")]
    RepeatedMember {
        /// Which part.
        part: Part,
        /// The name.
        found: String,
    },
    /// A header member is missing or is not what it has to be.
    #[error("expected the header member {member} to be {expected}, found {found}")]
    MalformedHeader {
        /// Its name.
        member: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// `crit` demands an extension; none is implemented (RFC 7515 §4.1.11).
    #[error("the header demands critical extensions (crit), and none is understood")]
    CriticalHeader,
    /// `b64`, `enc` or `zip`: the payload would not be what the signature's plain reading says.
    #[error("the header member {member} is not allowed in a signed token")]
    ForbiddenHeader {
        /// Its name.
        member: &'static str,
    },
    /// `cty` says that the payload is itself a token.
    #[error("expected claims, found a nested token (cty: JWT)")]
    NestedToken,
    /// `alg` is not on the allow-list; `none` and HMAC are not.
    #[error("expected a supported signature algorithm, found {found}")]
    UnsupportedAlgorithm {
        /// The `alg`.
        found: String,
    },
    /// `alg` is supported but not by this policy.
    #[error("expected an algorithm of the policy ({expected}), found {found}")]
    AlgorithmNotAllowed {
        /// The policy's algorithms.
        expected: String,
        /// The token's algorithm.
        found: Algorithm,
    },
    /// `typ` is not the one of the expected kind of token.
    #[error("expected the type {expected}, found {found}")]
    WrongType {
        /// The acceptable types.
        expected: &'static str,
        /// The `typ`, or `none`.
        found: String,
    },
    /// No key has the token's `kid`. A newer key set may.
    #[error("no key has the id {found}")]
    UnknownKid {
        /// The `kid`.
        found: String,
    },
    /// The token names no key, and none of the set can have signed it. A newer key set may have one.
    #[error("the token names no key, and no key of the set is for {algorithm}")]
    NoKey {
        /// The token's algorithm.
        algorithm: Algorithm,
    },
    /// Several keys could have signed it; trying each would be guessing.
    #[error("{found} different keys could have signed this {algorithm} token")]
    AmbiguousKey {
        /// The token's algorithm.
        algorithm: Algorithm,
        /// How many keys.
        found: usize,
    },
    /// The named key is not for the token's algorithm.
    #[error("the key {kid} is not for {algorithm}")]
    UnsuitableKey {
        /// The `kid`.
        kid: String,
        /// The token's algorithm.
        algorithm: Algorithm,
    },
    /// The signature is not the key's over this header and payload.
    #[error("the signature is not valid")]
    BadSignature,
    /// A claim the policy needs is missing.
    #[error("expected the claim {claim}, found none")]
    MissingClaim {
        /// Its name.
        claim: &'static str,
    },
    /// A claim is not of its registered type or range.
    #[error("expected the claim {claim} to be {expected}, found {found}")]
    MalformedClaim {
        /// Its name.
        claim: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// `iss` is another issuer.
    #[error("expected the issuer {expected}, found {found}")]
    WrongIssuer {
        /// The policy's issuer.
        expected: String,
        /// The `iss`.
        found: String,
    },
    /// `aud` does not name us.
    #[error("expected the audience {expected}, found {found}")]
    WrongAudience {
        /// The policy's audiences.
        expected: String,
        /// The `aud`.
        found: String,
    },
    /// `azp` of an ID token is another client (OpenID Connect Core §3.1.3.7).
    #[error("expected the authorized party {expected}, found {found}")]
    WrongAuthorizedParty {
        /// The policy's client.
        expected: String,
        /// The `azp`.
        found: String,
    },
    /// `exp` has passed.
    #[error("expired at {expires_at}, and it is {now} (leeway {} s)", leeway.as_secs())]
    Expired {
        /// The `exp`.
        expires_at: Timestamp,
        /// The instant of the check.
        now: Timestamp,
        /// The policy's leeway.
        leeway: Duration,
    },
    /// `nbf` has not come.
    #[error("not valid before {not_before}, and it is {now} (leeway {} s)", leeway.as_secs())]
    NotYetValid {
        /// The `nbf`.
        not_before: Timestamp,
        /// The instant of the check.
        now: Timestamp,
        /// The policy's leeway.
        leeway: Duration,
    },
    /// `cnf` binds the token to its holder (RFC 7800) in a way that is not understood, so no proof could do.
    #[error("expected the claim cnf to be an object with jkt, x5t#S256 or both, found {found}")]
    UnsupportedConfirmation {
        /// What is not understood.
        found: String,
    },
    /// `cnf` binds the token to a key (RFC 7800), and nobody proved to have it.
    #[error("the token is bound to a key (cnf), and no proof of it came with the token")]
    SenderConstrained,
    /// `cnf` binds the token to one key, and another was proved.
    #[error("expected a proof of the key the token is bound to (cnf), found {method} of another")]
    ProofMismatch {
        /// Which proof is of another key.
        method: ProofMethod,
    },
    /// A DPoP proof came with a token that is not bound to a DPoP key (RFC 9449 §7.1).
    #[error("expected a token bound to a DPoP key (cnf.jkt), found one that is not")]
    NotBound,
    /// An opaque token with characters that no token has (RFC 6750 §2.1), or none at all.
    #[error("expected a token of the characters of RFC 6750 (b64token), found others or none")]
    MalformedToken,
    /// The issuer was asked (RFC 7662) and says that the token is not active.
    #[error("the issuer says that the token is not active")]
    Inactive,
    /// The claims hold but do not fit the type the caller reads them into, which asks for more than the kind of token does.
    #[error("the claims do not have the expected members: {found}")]
    UnexpectedClaims {
        /// What did not fit.
        found: String,
    },
}

impl Rejection {
    /// A stable code for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenTooLarge { .. } => "token_too_large",
            Self::JsonSerialization => "json_serialization",
            Self::EncryptedToken => "encrypted_token",
            Self::WrongPartCount { .. } => "wrong_part_count",
            Self::EmptyPart { .. } => "empty_part",
            Self::NotBase64Url { .. } => "not_base64url",
            Self::NotAnObject { .. } => "not_an_object",
            Self::RepeatedMember { .. } => "repeated_member",
            Self::MalformedHeader { .. } => "malformed_header",
            Self::CriticalHeader => "critical_header",
            Self::ForbiddenHeader { .. } => "forbidden_header",
            Self::NestedToken => "nested_token",
            Self::UnsupportedAlgorithm { .. } => "unsupported_algorithm",
            Self::AlgorithmNotAllowed { .. } => "algorithm_not_allowed",
            Self::WrongType { .. } => "wrong_type",
            Self::UnknownKid { .. } => "unknown_kid",
            Self::NoKey { .. } => "no_key",
            Self::AmbiguousKey { .. } => "ambiguous_key",
            Self::UnsuitableKey { .. } => "unsuitable_key",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim { .. } => "missing_claim",
            Self::MalformedClaim { .. } => "malformed_claim",
            Self::WrongIssuer { .. } => "wrong_issuer",
            Self::WrongAudience { .. } => "wrong_audience",
            Self::WrongAuthorizedParty { .. } => "wrong_authorized_party",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnsupportedConfirmation { .. } => "unsupported_confirmation",
            Self::SenderConstrained => "sender_constrained",
            Self::ProofMismatch { .. } => "proof_mismatch",
            Self::NotBound => "not_bound",
            Self::MalformedToken => "malformed_token",
            Self::Inactive => "inactive",
            Self::UnexpectedClaims { .. } => "unexpected_claims",
        }
    }

    /// Whether a newer key set could change the verdict: the key was not found, rather than found and wrong.
    pub fn is_missing_key(&self) -> bool {
        matches!(self, Self::UnknownKid { .. } | Self::NoKey { .. })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

impl fmt::Display for ProofMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dpop => "a DPoP proof",
            Self::Certificate => "a client certificate",
        })
    }
}

/// Text from outside as a message may carry it: in quotes, printable ASCII, at most [`SHOWN_CHARS`] characters of it.
pub(crate) fn shown(text: &str) -> String {
    let mut escaped = text.chars().flat_map(char::escape_default);
    let mut shown = String::from("\"");
    shown.extend(escaped.by_ref().take(SHOWN_CHARS));
    shown.push_str(if escaped.next().is_some() { "...\"" } else { "\"" });
    shown
}

const SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_escaped_and_cut() {
        assert_eq!(shown("billing"), r#""billing""#);
        assert_eq!(shown("a\"b\n\u{202e}é"), r#""a\"b\n\u{202e}\u{e9}""#);
        assert_eq!(shown(&"x".repeat(64)), format!("\"{}\"", "x".repeat(64)));
        assert_eq!(shown(&"x".repeat(1_000_000)), format!("\"{}...\"", "x".repeat(64)));
    }
}
