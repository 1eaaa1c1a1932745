//! How a client shows that it is itself (RFC 7591 §2, `token_endpoint_auth_method`), and what is kept to check it.

use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use keywheel_jose::{Algorithm, KeySet};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{InvalidClient, WebUri};

/// How a client authenticates, with what it takes to check that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// By a secret.
    Secret {
        /// SHA-256 of it. A secret has too much entropy to be guessed, so a slow hash would protect nothing.
        sha256: [u8; 32],
        /// The one way to send it, or `None` where both are accepted.
        method: Option<SecretMethod>,
    },
    /// By a JWT that it signs (RFC 7523 §2.2).
    PrivateKeyJwt {
        /// What checks the signature.
        keys: ClientKeys,
        /// The one algorithm it signs with (`token_endpoint_auth_signing_alg`), or `None` where any that fits is accepted.
        alg: Option<Algorithm>,
    },
    /// Not at all: a public client (RFC 6749 §2.1), such as an app on a phone or in a browser.
    None,
}

/// How a secret is sent (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMethod {
    /// In an `Authorization: Basic` header.
    Basic,
    /// In the form.
    Post,
}

/// The registered ways to authenticate (RFC 7591 §2, `token_endpoint_auth_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMethod {
    /// A secret in an `Authorization: Basic` header.
    ClientSecretBasic,
    /// A secret in the form.
    ClientSecretPost,
    /// A JWT signed with the client's key.
    PrivateKeyJwt,
    /// None: a public client.
    None,
}

/// The public keys of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientKeys {
    /// Registered with it (`jwks`).
    Inline(Jwks),
    /// At an address of the client's (`jwks_uri`).
    At(WebUri),
}

/// A key set with one usable key at least.
#[derive(Debug, Clone)]
pub struct Jwks(Arc<KeySet>);

impl Authentication {
    /// The method that is registered, or `None` where a secret may be sent either way.
    #[must_use]
    pub fn method(&self) -> Option<ClientAuthMethod> {
        match self {
            Self::Secret { method, .. } => method.map(|method| match method {
                SecretMethod::Basic => ClientAuthMethod::ClientSecretBasic,
                SecretMethod::Post => ClientAuthMethod::ClientSecretPost,
            }),
            Self::PrivateKeyJwt { .. } => Some(ClientAuthMethod::PrivateKeyJwt),
            Self::None => Some(ClientAuthMethod::None),
        }
    }

    /// The hash of the secret, if there is one.
    #[must_use]
    pub fn secret_sha256(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Secret { sha256, .. } => Some(sha256),
            Self::PrivateKeyJwt { .. } | Self::None => None,
        }
    }
}

impl ClientAuthMethod {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt, Self::None];

    /// The registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::None => "none",
        }
    }
}

impl FromStr for ClientAuthMethod {
    type Err = InvalidClient;

    fn from_str(text: &str) -> Result<Self, InvalidClient> {
        let found = Self::ALL.into_iter().find(|method| method.as_str() == text);
        found.ok_or_else(|| InvalidClient::AuthMethod(text.to_owned()))
    }
}

impl Jwks {
    /// Reads a JWK set (RFC 7517 §5), or a single JWK.
    ///
    /// # Errors
    /// [`InvalidClient::Jwks`]: no key set, no key in it that can check a signature, or one that gives away more than a
    /// public key
    pub fn parse(json: &[u8]) -> Result<Self, InvalidClient> {
        let set = KeySet::parse_one_or_set(json).map_err(|error| InvalidClient::Jwks(error.to_string()))?;
        if let Some(key) = set.refused().iter().find(|key| key.reason.is_alarming()) {
            return Err(InvalidClient::Jwks(format!("key {}: {}", key.index, key.reason)));
        }
        if set.is_empty() {
            let reasons: Vec<String> =
                set.refused().iter().map(|key| format!("; key {}: {}", key.index, key.reason)).collect();
            return Err(InvalidClient::Jwks(format!("no key that can check a signature{}", reasons.concat())));
        }
        Ok(Self(Arc::new(set)))
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.0
    }
}

impl PartialEq for Jwks {
    fn eq(&self, other: &Self) -> bool {
        self.0.keys() == other.0.keys()
    }
}

impl Eq for Jwks {}

impl Serialize for Jwks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::parse(json.to_string().as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// Hashes a new secret, if it is one that may be used.
///
/// # Errors
/// [`InvalidClient::SecretTooShort`], [`InvalidClient::SecretTooLong`], [`InvalidClient::SecretCharacter`]
pub fn hash_new_secret(secret: &str) -> Result<[u8; 32], InvalidClient> {
    if is_short(secret) {
        return Err(InvalidClient::SecretTooShort(secret.chars().count()));
    }
    hash_known_secret(secret)
}

/// Hashes a secret that a client has from elsewhere, and can't change on the day it moves here: it may be short.
///
/// # Errors
/// [`InvalidClient::SecretTooLong`], [`InvalidClient::SecretCharacter`]
pub(super) fn hash_known_secret(secret: &str) -> Result<[u8; 32], InvalidClient> {
    let characters = secret.chars().count();
    if characters > MAX_SECRET_CHARACTERS {
        return Err(InvalidClient::SecretTooLong(characters));
    }
    if !secret.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(InvalidClient::SecretCharacter);
    }
    Ok(hash_secret(secret.as_bytes()))
}

/// Whether whoever reads its hash could guess a secret.
pub(super) fn is_short(secret: &str) -> bool {
    secret.chars().count() < MIN_SECRET_CHARACTERS
}

/// The hash that is kept of a secret, and that a presented one is compared by.
#[must_use]
pub fn hash_secret(secret: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, secret);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Reads `sha256:` and the hexadecimal hash of a secret.
///
/// # Errors
/// [`InvalidClient::SecretHash`]
pub fn parse_secret_hash(text: &str) -> Result<[u8; 32], InvalidClient> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(InvalidClient::SecretHash)?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |ascii: u8| char::from(ascii).to_digit(16).ok_or(InvalidClient::SecretHash);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).expect("two hexadecimal digits are a byte");
    }
    Ok(hash)
}

/// As short as a secret may be: 32 characters of hexadecimal are 128 bits, which is what makes a fast hash enough.
pub(super) const MIN_SECRET_CHARACTERS: usize = 32;

/// As long as a secret may be: it has to fit into a header together with the id.
pub(super) const MAX_SECRET_CHARACTERS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_under_32_characters_is_refused() {
        assert_eq!(hash_new_secret(&"x".repeat(31)), Err(InvalidClient::SecretTooShort(31)));
        assert!(hash_new_secret(&"x".repeat(32)).is_ok());
        assert_eq!(hash_known_secret("hunter2"), Ok(hash_secret(b"hunter2")));
        assert_eq!(hash_new_secret(&"x".repeat(513)), Err(InvalidClient::SecretTooLong(513)));
        assert_eq!(hash_new_secret(&"é".repeat(32)), Err(InvalidClient::SecretCharacter));
    }

    #[test]
    fn a_configured_hash_is_the_hash_of_the_secret() {
        // NIST's example: the hash of "abc".
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61F20015AD";

        assert_eq!(parse_secret_hash(text), Ok(hash_secret(b"abc")));
    }

    #[test]
    fn a_text_that_is_no_hash_is_refused() {
        for text in [
            "",
            "sha256:",
            "sha512:00",
            &format!("sha256:{}", "g".repeat(64)),
            &format!("sha256:{}", "0".repeat(63)),
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert_eq!(parse_secret_hash(text), Err(InvalidClient::SecretHash), "{text}");
        }
    }

    #[test]
    fn authentication_methods_are_read_as_they_are_written() {
        for method in ClientAuthMethod::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        for other in ["client_secret_jwt", "tls_client_auth", "Client_Secret_Basic", ""] {
            assert_eq!(other.parse::<ClientAuthMethod>(), Err(InvalidClient::AuthMethod(other.to_owned())));
        }
    }

    #[test]
    fn the_keys_of_a_client_are_public_and_usable() {
        // The key of RFC 8037 appendix A.2.
        let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let private = key.replace('}', r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}"#);

        let set = Jwks::parse(format!("{{\"keys\":[{key}]}}").as_bytes()).expect("a usable set");

        assert_eq!(set.keys().len(), 1);
        assert_eq!(Jwks::parse(key.as_bytes()).as_ref(), Ok(&set));
        let stored = serde_json::to_string(&set).expect("JSON");
        assert_eq!(serde_json::from_str::<Jwks>(&stored).expect("as it was stored"), set);
        for unusable in ["", "{}", "[]", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}", &private] {
            let refusal = Jwks::parse(unusable.as_bytes()).expect_err(unusable);

            assert!(matches!(refusal, InvalidClient::Jwks(_)), "{unusable}");
            assert!(!refusal.to_string().contains("nWGxne"), "{refusal}");
        }
    }
}
