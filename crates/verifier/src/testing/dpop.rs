//! A client that proves possession of its key (RFC 9449).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, Timestamp};
use serde_json::{Map, Value, json};

use super::TestClock;
use super::signer::Signer;
use super::token::object;

/// A client's DPoP key (ES256).
///
/// ```
/// use keywheel_verifier::testing::{DpopKey, FakeIssuer};
///
/// let issuer = FakeIssuer::in_memory();
/// let key = DpopKey::generate();
/// let token = issuer.token().bound_to(key.thumbprint()).sign();
/// let proof = key.proof("GET", "https://api.example.com/orders").access_token(&token).sign();
/// # assert_eq!(proof.split('.').count(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct DpopKey(Arc<Signer>);

/// A DPoP proof (RFC 9449 §4.2), right in everything that is not said otherwise: made now, with an id of its own.
#[derive(Clone)]
#[must_use]
pub struct ProofBuilder {
    key: Arc<Signer>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl DpopKey {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Arc::new(Signer::generate(Algorithm::ES256)))
    }

    /// Its SHA-256 thumbprint: what a token is bound to, `cnf.jkt`.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.0.jwk().thumbprint()
    }

    /// A proof for a request of this method to this URL. Query and fragment are left out of it, as RFC 9449 §4.2 demands.
    /// It is made now by the system's clock; where the issuer's goes differently, [say so](ProofBuilder::made_at).
    pub fn proof(&self, method: impl Into<String>, url: &str) -> ProofBuilder {
        static MADE: AtomicU64 = AtomicU64::new(1);
        let jti = format!("proof-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let mut jwk = serde_json::to_value(self.0.jwk()).expect("a key is JSON");
        // RFC 9449 §4.2 wants the public key; what else a JWK may say would only make the proof longer.
        for member in ["kid", "use", "alg"] {
            jwk.as_object_mut().expect("a key is an object").remove(member);
        }
        ProofBuilder {
            key: Arc::clone(&self.0),
            header: object(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk})),
            claims: object(json!({"jti": jti, "htm": method.into(), "htu": url})),
        }
        .made_at(TestClock::running().now())
    }
}

impl ProofBuilder {
    /// For use beside this access token: its hash goes into `ath`.
    pub fn access_token(self, token: &str) -> Self {
        self.claim("ath", BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())))
    }

    /// With the nonce that the server asked for (RFC 9449 §9).
    pub fn nonce(self, nonce: impl Into<String>) -> Self {
        self.claim("nonce", nonce.into())
    }

    /// Made at this instant instead of now.
    pub fn made_at(self, instant: Timestamp) -> Self {
        self.claim("iat", instant.as_unix())
    }

    /// This claim, whatever it was before.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// This header member, whatever it was before.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// The proof, for the `DPoP` header.
    #[must_use]
    pub fn sign(&self) -> String {
        self.key.sign(&self.header, &self.claims)
    }
}
