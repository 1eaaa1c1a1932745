//! A public key ready for one algorithm: parsed once, used for every token.
//!
//! `jsonwebtoken`'s own verifiers build the key again for each token. This one implements the same traits over a key
//! that aws-lc-rs has already parsed.

use aws_lc_rs::{digest, signature as lc};
use jsonwebtoken::crypto::JwtVerifier;
use signature::Verifier;

use crate::Algorithm;

/// A parsed public key and the one algorithm it verifies.
#[derive(Clone, Debug)]
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    key: lc::ParsedPublicKey,
}

/// The public numbers do not make a key for that algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAKey;

impl VerifyingKey {
    /// An RSA key from its big-endian modulus and exponent.
    pub(crate) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, NotAKey> {
        let parameters = match algorithm {
            Algorithm::PS256 => &lc::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &lc::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &lc::RSA_PSS_2048_8192_SHA512,
            Algorithm::RS256 => &lc::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &lc::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &lc::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => return Err(NotAKey),
        };
        let key = lc::RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| NotAKey)?;
        Ok(Self { algorithm, key })
    }

    /// An elliptic-curve key: for ECDSA the uncompressed point `04 ‖ x ‖ y`, for Ed25519 its 32 bytes.
    pub(crate) fn curve(algorithm: Algorithm, point: &[u8]) -> Result<Self, NotAKey> {
        let key = match algorithm {
            Algorithm::ES256 => lc::ParsedPublicKey::new(&lc::ECDSA_P256_SHA256_FIXED, point),
            Algorithm::ES384 => lc::ParsedPublicKey::new(&lc::ECDSA_P384_SHA384_FIXED, point),
            Algorithm::EdDSA => lc::ParsedPublicKey::new(&lc::ED25519, point),
            _ => return Err(NotAKey),
        };
        Ok(Self { algorithm, key: key.map_err(|_| NotAKey)? })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this is the key's signature over the message.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let hash = match self.algorithm {
            Algorithm::ES256 | Algorithm::PS256 | Algorithm::RS256 => &digest::SHA256,
            Algorithm::ES384 | Algorithm::PS384 | Algorithm::RS384 => &digest::SHA384,
            Algorithm::PS512 | Algorithm::RS512 => &digest::SHA512,
            // It hashes in its own way.
            Algorithm::EdDSA => return self.key.verify_sig(message, signature).is_ok(),
        };
        // The same check as `verify_sig`, which makes two more contexts on its way: a hundredth of the time with RSA.
        self.key.verify_digest_sig(&digest::digest(hash, message), signature).is_ok()
    }
}

impl Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        if self.signed(message, signature) { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        match self.algorithm {
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
            Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
            Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
            Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        }
    }
}
