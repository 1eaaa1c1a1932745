//! Proofs of possession (RFC 9449 §4).
//
// LEAD's skeleton so that the verifier compiles: H-JOSE replaces this file. What the verifier uses: the names below,
// `DpopPolicy::window()`, and the variants `Missing` (scheme DPoP without a proof) and `Replayed` (set by the verifier).

use std::time::Duration;

use crate::Timestamp;

/// The proof, and the request it came in.
#[derive(Clone, Copy, Debug)]
pub struct DpopRequest<'a> {
    /// The value of the `DPoP` header.
    pub proof: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The request's URL; query and fragment are ignored.
    pub url: &'a str,
}

/// What a proof has to be.
#[derive(Clone, Debug, Default)]
pub struct DpopPolicy {}

impl DpopPolicy {
    /// From the first to the last instant at which one proof can be accepted: for how long it has to be remembered.
    pub fn window(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// A proof that holds.
#[derive(Clone, Debug)]
pub struct DpopProof {
    jkt: String,
    jti: String,
    nonce: Option<String>,
}

impl DpopProof {
    /// Thumbprint of the key.
    pub fn jkt(&self) -> &str {
        &self.jkt
    }
    /// `jti`.
    pub fn jti(&self) -> &str {
        &self.jti
    }
    /// `nonce`.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DpopRejection {
    /// No proof came.
    #[error("expected a DPoP proof, found none")]
    Missing,
    /// It has been seen before.
    #[error("the proof has been used before")]
    Replayed,
}

impl DpopRejection {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "dpop_missing",
            Self::Replayed => "dpop_replayed",
        }
    }
}

/// Checks a proof.
///
/// # Errors
/// [`DpopRejection`]
pub fn check_dpop(
    _: &DpopRequest<'_>,
    _: Option<&str>,
    _: &DpopPolicy,
    _: Timestamp,
) -> Result<DpopProof, DpopRejection> {
    Err(DpopRejection::Missing)
}
