//! Makes tokens, good ones and bad ones. Its keys are printed in RFCs or lie under `keys.example/`: they protect nothing.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPairComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keywheel_jose::Algorithm;
use serde_json::{Value, json};

pub(super) const ISSUER: &str = "https://id.example.com";
pub(super) const AUDIENCE: &str = "https://api.example.com";
/// When cases are judged whose verdict hangs on the second. All others hold, or fail, from 2023 to 2096.
pub(super) const NOW: i64 = 1_800_000_000;
const ISSUED_AT: i64 = 1_700_000_000;
pub(super) const EXPIRES_AT: i64 = 4_000_000_000;

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Ours: RSA of 2048 bits.
    Rsa,
    /// Ours: P-256.
    P256,
    /// Ours: P-384.
    P384,
    /// Ours: Ed25519.
    Ed25519,
    /// The attacker's: P-256.
    Stranger,
}

impl Key {
    pub(super) const OURS: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::Ed25519];

    /// The key that signs `algorithm` for us.
    pub(super) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::ES256 => Self::P256,
            Algorithm::ES384 => Self::P384,
            Algorithm::EdDSA => Self::Ed25519,
            _ => Self::Rsa,
        }
    }

    pub(super) fn kid(self) -> &'static str {
        match self {
            Self::Rsa => "our-rsa",
            Self::P256 => "our-p256",
            Self::P384 => "our-p384",
            Self::Ed25519 => "our-ed25519",
            Self::Stranger => "stranger",
        }
    }

    /// With its private half.
    pub(super) fn private_jwk(self) -> Value {
        match self {
            Self::Rsa => example(include_str!("../../../keys.example/rs256.jwk")),
            Self::P256 => example(include_str!("../../../keys.example/es256.jwk")),
            Self::Ed25519 => example(include_str!("../../../keys.example/ed25519.jwk")),
            // RFC 6979 §A.2.6, in base64url.
            Self::P384 => json!({"kty": "EC", "crv": "P-384",
                "x": "7DpOQVtOGaRWhhgCn0J_pdqai8SukuAuBqrlKGswDGTe-PDqkFWGYGSiVFFUgLwT",
                "y": "gBXZty19VyROqO-awMYhiWcIpZNn-d-59UyoSz8cnbEoiyMcOuDU_nNE_SUzJkcg",
                "d": "a509rS4bjBwFsZh1tmWfTeI8O2Z78pe6mqR3QHhxN9iW1XJOTHCoJfhyyepg0u31"}),
            // RFC 7515 §A.3.1.
            Self::Stranger => json!({"kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}),
        }
    }

    /// As it is published. It says neither `use` nor `alg`: an RSA key without `alg` serves all six algorithms.
    pub(super) fn jwk(self) -> Value {
        let mut jwk = self.private_jwk();
        let members = jwk.as_object_mut().expect("a key is an object");
        members.retain(|name, _| ["kty", "crv", "n", "e", "x", "y"].contains(&name.as_str()));
        members.insert("kid".to_owned(), json!(self.kid()));
        jwk
    }

    /// A number of the key.
    pub(super) fn number(self, member: &str) -> Vec<u8> {
        decode(self.private_jwk()[member].as_str().unwrap_or_else(|| panic!("{self:?} has no {member}")))
    }

    /// The signature as RFC 7518 §3 writes it. The key has to be of the algorithm's kind.
    pub(super) fn sign(self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::ES256 => self.ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message),
            Algorithm::ES384 => self.ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, message),
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(&self.number("d"), &self.number("x"));
                pair.expect("a good key").sign(message).as_ref().to_vec()
            }
            Algorithm::RS256 => self.rsa(&RSA_PKCS1_SHA256, message),
            Algorithm::RS384 => self.rsa(&RSA_PKCS1_SHA384, message),
            Algorithm::RS512 => self.rsa(&RSA_PKCS1_SHA512, message),
            Algorithm::PS256 => self.rsa(&RSA_PSS_SHA256, message),
            Algorithm::PS384 => self.rsa(&RSA_PSS_SHA384, message),
            Algorithm::PS512 => self.rsa(&RSA_PSS_SHA512, message),
        }
    }

    /// The signature as X.509 writes it, which JOSE does not.
    pub(super) fn sign_in_der(self, message: &[u8]) -> Vec<u8> {
        self.ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    fn ecdsa(self, algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let point = [&[4][..], &self.number("x"), &self.number("y")].concat();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &self.number("d"), &point);
        let signature = pair.expect("a good key").sign(&SystemRandom::new(), message);
        signature.expect("the key can sign").as_ref().to_vec()
    }

    fn rsa(self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: RsaPublicKeyComponents { n: self.number("n"), e: self.number("e") },
            d: self.number("d"),
            p: self.number("p"),
            q: self.number("q"),
            dP: self.number("dp"),
            dQ: self.number("dq"),
            qInv: self.number("qi"),
        })
        .expect("a good key");
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("the key can sign");
        signature
    }
}

/// The set with our four keys.
pub(super) fn our_keys() -> Value {
    json!({"keys": Key::OURS.map(Key::jwk)})
}

/// The header of a good token.
pub(super) fn header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.as_str(), "typ": "at+jwt", "kid": Key::of(algorithm).kid()})
}

/// The claims of a good token.
pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": EXPIRES_AT, "iat": ISSUED_AT, "nbf": ISSUED_AT,
        "jti": "t1", "client_id": "web", "scope": "invoices:read"})
}

/// A good token.
pub(super) fn good(algorithm: Algorithm) -> String {
    token(algorithm, &header(algorithm), &claims())
}

/// A token of that header and those claims, signed by our key for `algorithm`, whatever the header says.
pub(super) fn token(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    raw_token(algorithm, header.to_string(), claims.to_string())
}

/// The same, for header and payload that may not be JSON.
pub(super) fn raw_token(algorithm: Algorithm, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    signed(&signing_input(header, payload), |message| Key::of(algorithm).sign(algorithm, message))
}

/// What a signature is over.
pub(super) fn signing_input(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode(header), encode(payload))
}

/// A token with the signature that `sign` makes of the signing input.
pub(super) fn signed(signing_input: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    format!("{signing_input}.{}", encode(sign(signing_input.as_bytes())))
}

/// HMAC, for tokens that call a public key a secret.
pub(super) fn hmac(algorithm: &str, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

/// The object with that member set.
pub(super) fn with(mut object: Value, member: &str, value: impl Into<Value>) -> Value {
    object[member] = value.into();
    object
}

/// The object without that member.
pub(super) fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().expect("it is an object").remove(member);
    object
}

/// The object's text with `"member":value` at its end, `value` as it is, JSON or not. A member of that name is gone.
pub(super) fn with_text(object: Value, member: &str, value: &str) -> String {
    and_text(&without(object, member), &format!("\"{member}\":{value}"))
}

/// The object's text with more text before its last brace.
pub(super) fn and_text(object: &Value, members: &str) -> String {
    let text = object.to_string();
    format!("{},{members}}}", &text[..text.len() - 1])
}

pub(super) fn encode(octets: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(octets)
}

pub(super) fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("what the tests hold is base64url")
}

fn example(jwk: &str) -> Value {
    serde_json::from_str(jwk).expect("an example key is JSON")
}
