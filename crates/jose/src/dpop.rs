//! DPoP proofs (RFC 9449): signed evidence that whoever sends a request has the key its access token is bound to.
//!
//! [`check_dpop`] makes the checks of RFC 9449 §4.3 that can be made from one proof and one request, in this order; the
//! numbers are the RFC's:
//! - 2: the proof is one well-formed JWT, and asks for nothing beyond a plain signature
//! - 4, 5: `typ` is `dpop+jwt`, `alg` is allowed and asymmetric
//! - 7, 6: `jwk` is a public key, and the signature is its
//! - 3: the required claims are there
//! - 8, 9: `htm` and `htu` are the request's
//! - 11: it was made just now
//! - 12: `ath` is the hash of the access token, if there is one
//!
//! What is left needs more than one request, and is the caller's: one `DPoP` header only (1), the nonce (10), a `jti` that
//! was not seen before, and [`crate::Holder::may_use`] for the key (12).

use std::time::Duration;

use crate::claims::{check_span, claim_date, claim_text, required};
use crate::confirmation::sha256_base64url;
use crate::json::{Json, Object, text, with_object};
use crate::jwt::{Parts, check_algorithm, is_media_type, read_header};
use crate::rejection::shown;
use crate::request_url::RequestUrl;
use crate::{Algorithm, JwkError, Part, Policy, PublicJwk, Rejection, Timestamp};

/// A DPoP proof and the request it came with.
#[derive(Clone, Copy, Debug)]
pub struct DpopRequest<'a> {
    /// The value of the one `DPoP` header.
    pub proof: &'a str,
    /// The HTTP method.
    pub method: &'a str,
    /// The absolute URL as the client sees it. Query and fragment are ignored.
    pub url: &'a str,
}

/// What a DPoP proof has to be. Unless told otherwise: any algorithm of the allow-list, at most 60 s old, 30 s leeway,
/// up to 8 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DpopPolicy {
    max_age: Duration,
    leeway: Duration,
    algorithms: Vec<Algorithm>,
    max_proof_bytes: usize,
}

/// A proof that held for its request when it was checked. Only [`check_dpop`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopProof {
    jkt: String,
    jti: String,
    iat: Timestamp,
    nonce: Option<String>,
}

/// Why a DPoP proof was refused. Texts named `found` are already escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DpopRejection {
    /// None came where one is needed. Never a verdict of [`check_dpop`].
    #[error("expected a DPoP proof, found none")]
    Missing,
    /// It was used before. Never a verdict of [`check_dpop`], which remembers nothing.
    #[error("the DPoP proof was used before")]
    Replayed,
    /// It is no token that could be a proof, or its claims are missing, of the wrong type or out of date.
    #[error("the DPoP proof is not acceptable as a token")]
    Unacceptable(#[source] Rejection),
    /// There is no key in its header.
    #[error("the DPoP proof has no jwk in its header")]
    MissingKey,
    /// The key in its header can't be used; above all, it may be private.
    #[error("the jwk of the DPoP proof can't be used")]
    UnusableKey(#[source] JwkError),
    /// The key in its header is not for its algorithm.
    #[error("the jwk of the DPoP proof is not for {algorithm}")]
    UnsuitableKey {
        /// The proof's algorithm.
        algorithm: Algorithm,
    },
    /// The signature is not that key's.
    #[error("the signature of the DPoP proof is not valid")]
    BadSignature,
    /// It is for another method.
    #[error("expected a DPoP proof for the method {expected}, found {found}")]
    WrongMethod {
        /// The request's method.
        expected: String,
        /// The `htm`.
        found: String,
    },
    /// It is for another URL.
    #[error("expected a DPoP proof for the URL {expected}, found {found}")]
    WrongUrl {
        /// The request's URL, normalised.
        expected: String,
        /// The `htu`.
        found: String,
    },
    /// It was made too long ago.
    #[error("the DPoP proof was made at {issued_at}, and at {now} that is more than {} s ago", limit.as_secs())]
    TooOld {
        /// The `iat`.
        issued_at: Timestamp,
        /// The instant of the check.
        now: Timestamp,
        /// The policy's age and leeway.
        limit: Duration,
    },
    /// It was made later than now.
    #[error("the DPoP proof was made at {issued_at}, and it is {now} (leeway {} s)", leeway.as_secs())]
    FromTheFuture {
        /// The `iat`.
        issued_at: Timestamp,
        /// The instant of the check.
        now: Timestamp,
        /// The policy's leeway.
        leeway: Duration,
    },
    /// It is for another access token, or for none.
    #[error("the DPoP proof is not for this access token (ath)")]
    WrongAccessToken,
    /// The request's own URL is not absolute, or not of HTTP. Whoever calls has to know better.
    #[error("expected the URL of the request to be absolute and of http or https, found {found}")]
    UnusableRequestUrl {
        /// The URL.
        found: String,
    },
}

/// Checks a DPoP proof at the instant `now`. `access_token` is the token it came with; a token endpoint has none.
///
/// # Errors
/// The first [`DpopRejection`] in the order of the module's list
pub fn check_dpop(
    request: &DpopRequest<'_>,
    access_token: Option<&str>,
    policy: &DpopPolicy,
    now: Timestamp,
) -> Result<DpopProof, DpopRejection> {
    let url = RequestUrl::parse(request.url)
        .ok_or_else(|| DpopRejection::UnusableRequestUrl { found: shown(request.url) })?;
    let (header, proof) = Parts::split(request.proof, policy.max_proof_bytes)?.decode()?;
    let (algorithm, key) =
        with_object(Part::Header, text(Part::Header, &header)?, |header| check_header(header, policy))?;
    let verifying_key = key.verifying_key(algorithm).ok_or(DpopRejection::UnsuitableKey { algorithm })?;
    if !verifying_key.signed(proof.signing_input.as_bytes(), proof.signature()) {
        return Err(DpopRejection::BadSignature);
    }

    with_object(Part::Payload, text(Part::Payload, proof.payload())?, |claims| {
        let jti = required(bounded_text(claims, "jti")?, "jti")?;
        let htm = required(claim_text(claims, "htm")?, "htm")?;
        let htu = required(claim_text(claims, "htu")?, "htu")?;
        let iat = required(claim_date(claims, "iat")?, "iat")?;
        let nonce = bounded_text(claims, "nonce")?;
        let ath = claim_text(claims, "ath")?;
        // Methods are case-sensitive (RFC 9110 §9.1).
        if htm != request.method {
            return Err(DpopRejection::WrongMethod { expected: shown(request.method), found: shown(htm) });
        }
        if RequestUrl::parse(htu).as_ref() != Some(&url) {
            return Err(DpopRejection::WrongUrl { expected: shown(url.as_str()), found: shown(htu) });
        }
        check_age(iat, policy, now)?;
        // Neither is asked for, but where they are they mean what they mean in any token.
        check_span(claim_date(claims, "exp")?, claim_date(claims, "nbf")?, policy.leeway, now)?;
        if let Some(access_token) = access_token
            && required(ath, "ath")? != sha256_base64url(access_token.as_bytes())
        {
            return Err(DpopRejection::WrongAccessToken);
        }
        Ok(DpopProof { jkt: key.thumbprint(), jti: jti.to_owned(), iat, nonce: nonce.map(str::to_owned) })
    })
}

impl DpopPolicy {
    /// The oldest proof of a new policy.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60);
    /// The oldest proof a policy may accept: each has to be remembered that long to be seen once only.
    pub const MAX_MAX_AGE: Duration = Duration::from_secs(600);
    /// The shortest leeway. Clients make proofs with clocks of their own, and a proof is never older than its request.
    pub const MIN_LEEWAY: Duration = Duration::from_secs(5);
    /// The longest proof of a new policy: what common servers take as one header.
    pub const DEFAULT_MAX_PROOF_BYTES: usize = 8 * 1024;

    /// How old a proof may be, besides the leeway; at most [`DpopPolicy::MAX_MAX_AGE`], in whole seconds.
    #[must_use]
    pub fn with_max_age(self, max_age: Duration) -> Self {
        Self { max_age: Duration::from_secs(max_age.min(Self::MAX_MAX_AGE).as_secs()), ..self }
    }

    /// How far the clocks of client and reader may differ, brought to 5 to 60 s, in whole seconds.
    #[must_use]
    pub fn with_leeway(self, leeway: Duration) -> Self {
        let leeway = leeway.clamp(Self::MIN_LEEWAY, Policy::MAX_LEEWAY);
        Self { leeway: Duration::from_secs(leeway.as_secs()), ..self }
    }

    /// Accepts only these algorithms; with none, no proof.
    #[must_use]
    pub fn with_algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self { algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// The longest proof that is read at all.
    #[must_use]
    pub fn with_max_proof_bytes(self, max_proof_bytes: usize) -> Self {
        Self { max_proof_bytes, ..self }
    }

    /// How old a proof may be.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// How far clocks may differ.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// From the first instant at which a proof can be accepted to the first at which it no longer can: for how long its
    /// `jti` has to be remembered.
    pub fn window(&self) -> Duration {
        self.leeway + self.max_age + self.leeway + Duration::from_secs(1)
    }

    /// The acceptable algorithms.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The longest proof that is read.
    pub fn max_proof_bytes(&self) -> usize {
        self.max_proof_bytes
    }
}

impl Default for DpopPolicy {
    fn default() -> Self {
        Self {
            max_age: Self::DEFAULT_MAX_AGE,
            leeway: Policy::DEFAULT_LEEWAY,
            algorithms: Algorithm::ALL.to_vec(),
            max_proof_bytes: Self::DEFAULT_MAX_PROOF_BYTES,
        }
    }
}

impl DpopProof {
    /// The thumbprint of the key that signed it.
    pub fn jkt(&self) -> &str {
        &self.jkt
    }

    /// Its id, of 1 to 256 bytes, which a key uses once.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// When it was made, a fraction rounded up.
    pub fn iat(&self) -> Timestamp {
        self.iat
    }

    /// The nonce in it, whoever made that; of 1 to 256 bytes.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

impl DpopRejection {
    /// A stable code for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "dpop_missing",
            Self::Replayed => "dpop_replayed",
            Self::Unacceptable(_) => "dpop_unacceptable",
            Self::MissingKey => "dpop_missing_key",
            Self::UnusableKey(_) => "dpop_unusable_key",
            Self::UnsuitableKey { .. } => "dpop_unsuitable_key",
            Self::BadSignature => "dpop_bad_signature",
            Self::WrongMethod { .. } => "dpop_wrong_method",
            Self::WrongUrl { .. } => "dpop_wrong_url",
            Self::TooOld { .. } => "dpop_too_old",
            Self::FromTheFuture { .. } => "dpop_from_the_future",
            Self::WrongAccessToken => "dpop_wrong_access_token",
            Self::UnusableRequestUrl { .. } => "dpop_unusable_request_url",
        }
    }
}

impl From<Rejection> for DpopRejection {
    fn from(rejection: Rejection) -> Self {
        Self::Unacceptable(rejection)
    }
}

/// Checks 2, 4, 5 and 7.
fn check_header(header: &Object<'_>, policy: &DpopPolicy) -> Result<(Algorithm, PublicJwk), DpopRejection> {
    let read = read_header(header)?;
    match read.typ() {
        Some(typ) if is_media_type(typ, TYPE) => {}
        typ => {
            let found = typ.map_or("none".into(), shown);
            return Err(Rejection::WrongType { expected: TYPE, found }.into());
        }
    }
    check_algorithm(read.algorithm(), &policy.algorithms)?;
    let jwk = header.get("jwk").ok_or(DpopRejection::MissingKey)?;
    let key = PublicJwk::from_entry(jwk).map_err(DpopRejection::UnusableKey)?;
    Ok((read.algorithm(), key))
}

/// Check 11.
fn check_age(issued_at: Timestamp, policy: &DpopPolicy, now: Timestamp) -> Result<(), DpopRejection> {
    let leeway = policy.leeway;
    if issued_at > now + leeway {
        return Err(DpopRejection::FromTheFuture { issued_at, now, leeway });
    }
    let limit = policy.max_age + leeway;
    if issued_at + limit < now {
        return Err(DpopRejection::TooOld { issued_at, now, limit });
    }
    Ok(())
}

/// A claim that is remembered or compared, so it is not empty and not long.
fn bounded_text<'j>(claims: &'j Object<'_>, claim: &'static str) -> Result<Option<&'j str>, Rejection> {
    let expected = "a string of 1 to 256 bytes";
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::String(text)) => match text.len() {
            0 => Err(Rejection::MalformedClaim { claim, expected, found: "an empty string" }),
            1..=MAX_TEXT_BYTES => Ok(Some(text)),
            _ => Err(Rejection::MalformedClaim { claim, expected, found: "a longer string" }),
        },
        Some(other) => Err(Rejection::MalformedClaim { claim, expected, found: other.kind() }),
    }
}

const TYPE: &str = "dpop+jwt";
const MAX_TEXT_BYTES: usize = 256;
