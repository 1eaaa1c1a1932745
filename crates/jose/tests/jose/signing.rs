//! Makes tokens: the only place of the crate that can sign. Its keys are printed in RFCs, so they protect nothing.

#![expect(clippy::disallowed_types, reason = "tests need signed tokens")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, KeySet, PublicJwk};
use serde_json::{Value, json};

/// RFC 7515 §A.2.1.
pub(crate) const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_D: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
const RSA_P: &str = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const RSA_Q: &str = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const RSA_DP: &str = "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0";
const RSA_DQ: &str = "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU";
const RSA_QI: &str = "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U";
/// RFC 7515 §A.3.1.
pub(crate) const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
pub(crate) const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const P256_D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
/// RFC 6979 §A.2.6, in base64url.
pub(crate) const P384_X: &str = "7DpOQVtOGaRWhhgCn0J_pdqai8SukuAuBqrlKGswDGTe-PDqkFWGYGSiVFFUgLwT";
pub(crate) const P384_Y: &str = "gBXZty19VyROqO-awMYhiWcIpZNn-d-59UyoSz8cnbEoiyMcOuDU_nNE_SUzJkcg";
const P384_D: &str = "a509rS4bjBwFsZh1tmWfTeI8O2Z78pe6mqR3QHhxN9iW1XJOTHCoJfhyyepg0u31";
/// RFC 8037 §A.1.
pub(crate) const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED25519_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

/// The public half of the key that signs `algorithm` here; its `kid` is its thumbprint, and it names no algorithm.
pub(crate) fn public_key(algorithm: Algorithm) -> PublicJwk {
    let key = match algorithm {
        Algorithm::ES256 => PublicJwk::p256(&decode(P256_X), &decode(P256_Y)),
        Algorithm::ES384 => PublicJwk::p384(&decode(P384_X), &decode(P384_Y)),
        Algorithm::EdDSA => PublicJwk::ed25519(&decode(ED25519_X)),
        _ => PublicJwk::rsa(&decode(RSA_N), &[1, 0, 1]),
    };
    key.expect("the RFCs print good keys").with_thumbprint_kid()
}

/// All four public keys.
pub(crate) fn key_set() -> KeySet {
    KeySet::from_keys([Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256].map(public_key))
}

/// A header as the issuer writes it.
pub(crate) fn header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.as_str(), "typ": "at+jwt", "kid": public_key(algorithm).kid()})
}

/// A token of that header and those claims, signed by the key for `algorithm`, whatever the header says.
pub(crate) fn token(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    raw_token(algorithm, header.to_string().as_bytes(), claims.to_string().as_bytes())
}

/// As [`token`], for header and payload that are no JSON.
pub(crate) fn raw_token(algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
    let signing_input = format!("{}.{}", encode(header), encode(payload));
    let signature = sign(algorithm, signing_input.as_bytes());
    format!("{signing_input}.{}", encode(&signature))
}

/// The signature in the form of RFC 7518 §3.
pub(crate) fn sign(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    match algorithm {
        Algorithm::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, P256_D, P256_X, P256_Y, message),
        Algorithm::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, P384_D, P384_X, P384_Y, message),
        Algorithm::EdDSA => Ed25519KeyPair::from_seed_and_public_key(&decode(ED25519_D), &decode(ED25519_X))
            .expect("RFC 8037 prints a good key")
            .sign(message)
            .as_ref()
            .to_vec(),
        Algorithm::PS256 => rsa(&RSA_PSS_SHA256, message),
        Algorithm::PS384 => rsa(&RSA_PSS_SHA384, message),
        Algorithm::PS512 => rsa(&RSA_PSS_SHA512, message),
        Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256, message),
        Algorithm::RS384 => rsa(&RSA_PKCS1_SHA384, message),
        Algorithm::RS512 => rsa(&RSA_PKCS1_SHA512, message),
    }
}

pub(crate) fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("test constants are base64url")
}

fn ecdsa(
    algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
    d: &str,
    x: &str,
    y: &str,
    message: &[u8],
) -> Vec<u8> {
    let point = [&[4][..], &decode(x), &decode(y)].concat();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &decode(d), &point).expect("the RFCs print good keys");
    pair.sign(&SystemRandom::new(), message).expect("the key can sign").as_ref().to_vec()
}

fn rsa(encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let pair = RsaKeyPair::from_components(&aws_lc_rs::rsa::KeyPairComponents {
        public_key: RsaPublicKeyComponents { n: decode(RSA_N), e: vec![1, 0, 1] },
        d: decode(RSA_D),
        p: decode(RSA_P),
        q: decode(RSA_Q),
        dP: decode(RSA_DP),
        dQ: decode(RSA_DQ),
        qInv: decode(RSA_QI),
    })
    .expect("RFC 7515 prints a good key");
    let mut signature = vec![0; pair.public_key().modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("the key can sign");
    signature
}
