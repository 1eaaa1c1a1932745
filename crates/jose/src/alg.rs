//! The algorithm allow-list (RFC 7518 §3.1, RFC 8037 §3.1, RFC 8725 §3.1).
//!
//! `none` and HMAC have no value here, so no configuration and no token can ask for them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::rejection::shown;

/// A signature algorithm a token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
}

/// A name that is not on the allow-list; its text is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signature algorithm {0}, expected one of ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512")]
pub struct UnknownAlgorithm(String);

impl Algorithm {
    /// Every algorithm, in order of name.
    pub const ALL: [Self; 9] = [
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
    ];

    /// Those an RSA key can serve.
    pub(crate) const RSA: [Self; 6] = [Self::PS256, Self::PS384, Self::PS512, Self::RS256, Self::RS384, Self::RS512];

    /// The name in the `alg` of a header or key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
        }
    }

    /// The algorithm an `alg` of a header or key means: besides its own name, EdDSA has the fully specified name
    /// `Ed25519` (RFC 9864 §2.2), which means the same here, since Ed25519 is the only curve.
    pub(crate) fn from_alg(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDSA),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Reads exactly what [`Algorithm::as_str`] writes.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name).ok_or_else(|| UnknownAlgorithm(shown(name)))
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(Algorithm::from_alg(algorithm.as_str()), Some(algorithm));
            let json = serde_json::to_string(&algorithm).expect("a string can be written");
            assert_eq!(serde_json::from_str::<Algorithm>(&json).ok(), Some(algorithm));
        }
    }

    #[test]
    fn none_and_hmac_and_other_spellings_are_not_representable() {
        for name in
            ["none", "None", "NONE", "HS256", "HS384", "HS512", "rs256", "ES512", "ES256K", "Ed448", "", " RS256"]
        {
            assert!(name.parse::<Algorithm>().is_err(), "{name}");
            assert_eq!(Algorithm::from_alg(name), None, "{name}");
        }
    }

    #[test]
    fn the_fully_specified_name_means_ed_dsa_in_tokens_only() {
        assert_eq!(Algorithm::from_alg("Ed25519"), Some(Algorithm::EdDSA));
        assert!("Ed25519".parse::<Algorithm>().is_err());
    }
}
