//! Public key sets and signed tokens: what they are, and whether a token holds at an instant.
//!
//! This crate is pure. It reads no clock, opens no file or socket, and has no name for a private key. [`check`] is the
//! only way from a string to a [`Verified`] token, so everything that verifies in this project gives the same verdict.
//!
//! The steps of [`check`], in order (RFC 7515 §5.2, RFC 7519 §7.2, RFC 8725):
//! 1. size and shape: a compact JWS of three parts in canonical base64url
//! 2. header: strict JSON, an algorithm of the allow-list, nothing that asks for more than a plain signature
//! 3. key: by `kid`, and compatible with the key's `kty`, `use`, `key_ops` and `alg`
//! 4. signature
//! 5. claims: strict JSON, issuer, audience, time, what the kind of token demands, and what it is bound to
//!
//! ```
//! use keywheel_jose::{AccessTokenClaims, KeySet, Policy, Timestamp, check};
//!
//! let keys = KeySet::parse(br#"{"keys":[]}"#)?;
//! let policy = Policy::access_token("https://id.example.com", "https://api.example.com");
//! let rejection = check::<AccessTokenClaims>("not a token", &keys, &policy, Timestamp::from_unix(0)).unwrap_err();
//! assert_eq!(rejection.code(), "wrong_part_count");
//! # Ok::<(), keywheel_jose::KeySetError>(())
//! ```

mod alg;
mod base64url;
mod claims;
mod confirmation;
mod dpop;
mod explain;
mod introspected;
mod json;
mod jwk;
mod jwks;
mod jwt;
mod policy;
mod rejection;
mod request_url;
mod time;
mod verifying_key;

pub use alg::{Algorithm, UnknownAlgorithm};
pub use claims::{AccessTokenClaims, Audience, IdTokenClaims};
pub use confirmation::{Confirmation, Holder, ProofMethod, certificate_thumbprint};
pub use dpop::{DpopPolicy, DpopProof, DpopRejection, DpopRequest, check_dpop};
pub use explain::{Explained, Outcome, Step, explain, explain_bound};
pub use introspected::{Introspected, IntrospectionAnswer, MissingAudience, UnreadableAnswer};
pub use jwk::{JwkError, KeyType, PublicJwk};
pub use jwks::{KeySet, KeySetError, RefusedKey};
pub use jwt::{
    Header, UnverifiedJwt, UnverifiedParts, Verified, VerifiedPayload, check, check_bound, check_signature,
    decode_unverified,
};
pub use policy::{Policy, PolicyError, TokenType};
pub use rejection::{Part, Rejection};
pub use time::Timestamp;
