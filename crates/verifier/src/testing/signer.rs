//! The only private keys of this crate: throwaway ones, made for a test and gone with it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
#[expect(clippy::disallowed_types, reason = "a fake issuer has to sign")]
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, PublicJwk};
use serde_json::{Map, Value};

/// A fresh key for one algorithm. Its id is its thumbprint.
pub(super) struct Signer {
    algorithm: Algorithm,
    pair: Pair,
    jwk: PublicJwk,
}

#[expect(clippy::disallowed_types, reason = "a fake issuer has to sign")]
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
}

impl Signer {
    /// Makes a key. RSA keys have 2048 bits and take a tenth of a second or so; the others take no time.
    pub(super) fn generate(algorithm: Algorithm) -> Self {
        let (pair, jwk) = match algorithm {
            Algorithm::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, PublicJwk::p256),
            Algorithm::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, PublicJwk::p384),
            Algorithm::EdDSA => ed25519(),
            Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::RS384 => rsa(&RSA_PKCS1_SHA384),
            Algorithm::RS512 => rsa(&RSA_PKCS1_SHA512),
            Algorithm::PS256 => rsa(&RSA_PSS_SHA256),
            Algorithm::PS384 => rsa(&RSA_PSS_SHA384),
            Algorithm::PS512 => rsa(&RSA_PSS_SHA512),
        };
        let jwk = jwk.with_alg(algorithm).expect("the key was made for this algorithm").with_thumbprint_kid();
        Self { algorithm, pair, jwk }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }

    pub(super) fn kid(&self) -> &str {
        self.jwk.kid().expect("generate() gives every key its thumbprint")
    }

    /// A compact JWS (RFC 7515 §7.1) with exactly this header and this payload.
    pub(super) fn sign(&self, header: &Map<String, Value>, payload: &Map<String, Value>) -> String {
        let part = |members| BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(members).expect("a map is JSON"));
        let signed = format!("{}.{}", part(header), part(payload));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("a fresh key signs").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).expect("a fresh key signs");
                signature
            }
        }
    }
}

#[expect(clippy::disallowed_types, reason = "a fake issuer has to sign")]
fn ecdsa<E: fmt::Debug>(
    algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
    jwk: impl FnOnce(&[u8], &[u8]) -> Result<PublicJwk, E>,
) -> (Pair, PublicJwk) {
    let pair = EcdsaKeyPair::generate(algorithm).expect("the system has random bytes");
    // SEC 1 §2.3.3: a byte that says "uncompressed", then both coordinates.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = jwk(x, y).expect("the point is on its curve");
    (Pair::Ecdsa(pair), jwk)
}

#[expect(clippy::disallowed_types, reason = "a fake issuer has to sign")]
fn ed25519() -> (Pair, PublicJwk) {
    let pair = Ed25519KeyPair::generate().expect("the system has random bytes");
    let jwk = PublicJwk::ed25519(pair.public_key().as_ref()).expect("a public key has 32 bytes");
    (Pair::Ed25519(pair), jwk)
}

#[expect(clippy::disallowed_types, reason = "a fake issuer has to sign")]
fn rsa(encoding: &'static dyn RsaEncoding) -> (Pair, PublicJwk) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("the system has random bytes");
    let public = pair.public_key();
    let n = public.modulus().big_endian_without_leading_zero();
    let e = public.exponent().big_endian_without_leading_zero();
    let jwk = PublicJwk::rsa(n, e).expect("the modulus has 2048 bits");
    (Pair::Rsa(Box::new(pair), encoding), jwk)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid()).finish_non_exhaustive()
    }
}
