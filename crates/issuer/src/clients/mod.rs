//! What a client is, and the rules its metadata follows wherever it comes from: configuration, command line or import.

mod import;

use std::str::FromStr;

use aws_lc_rs::digest;
use keywheel_jose::{Algorithm, Timestamp};
use url::Url;

pub use import::{ImportProblem, Imported, parse_import};

/// A client that may ask for tokens. Every client is confidential in this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// What people call it (`client_name`).
    pub name: Option<String>,
    /// SHA-256 of its secret. A secret has too much entropy to be guessed, so a slow hash would protect nothing.
    pub secret_sha256: [u8; 32],
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// The resources its tokens may be for (RFC 8707); the first is the default.
    pub audiences: Vec<String>,
    /// The one way it may send its secret, or `None` where both are accepted.
    pub auth_method: Option<ClientAuthMethod>,
    /// What signs its access tokens, or `None` for the first configured algorithm.
    pub access_token_alg: Option<Algorithm>,
    /// When it was stored; `None` for one that is declared or not stored yet.
    pub created_at: Option<Timestamp>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration, which alone can change it.
    Declared,
    /// The database; the command line can change it.
    Stored,
}

/// How a client sends its secret (RFC 7591 §2, `token_endpoint_auth_method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMethod {
    /// In an `Authorization: Basic` header.
    ClientSecretBasic,
    /// In the form.
    ClientSecretPost,
}

/// Why a piece of client metadata is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClient {
    /// The id does not follow the rule.
    #[error(
        "a client id has 1 to {MAX_ID_CHARACTERS} visible ASCII characters, and no colon because Basic authentication ends it there"
    )]
    Id,
    /// The secret is too short.
    #[error("a client secret has at least {MIN_SECRET_CHARACTERS} characters, this one has {0}")]
    SecretTooShort(usize),
    /// The secret is too long.
    #[error("a client secret has at most {MAX_SECRET_CHARACTERS} characters, this one has {0}")]
    SecretTooLong(usize),
    /// The secret has a character that RFC 6749 does not allow.
    #[error("a client secret has only printable ASCII characters (RFC 6749 appendix A.2)")]
    SecretCharacter,
    /// The hash is not a hash.
    #[error("expected \"sha256:\" and 64 hexadecimal digits")]
    SecretHash,
    /// The text is not one scope.
    #[error("{0:?} is not a scope: visible ASCII without quotes and backslashes (RFC 6749 §3.3)")]
    Scope(String),
    /// The text is not the name of a resource.
    #[error("{0:?} is not an absolute URI without a fragment (RFC 8707 §2)")]
    Audience(String),
    /// Another way to authenticate, which is not built yet or does not exist.
    #[error("{0:?} is not supported by this version: client_secret_basic or client_secret_post")]
    AuthMethod(String),
    /// A grant that this version does not offer.
    #[error("{0:?} is not supported by this version: client_credentials")]
    UnsupportedGrant(String),
    /// A grant that nobody offers.
    #[error("{0:?} is not a grant{1}")]
    UnknownGrant(String, DidYouMean),
    /// Not an algorithm that the issuer signs with.
    #[error("{found:?} is not one of the algorithms this issuer signs with ({configured})")]
    Algorithm {
        /// As it was written.
        found: String,
        /// Those of `keys.algorithms`.
        configured: String,
    },
}

/// A guess at what was meant, for the end of a message; empty when nothing is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DidYouMean(Option<&'static str>);

impl ClientAuthMethod {
    /// The registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ClientAuthMethod::ClientSecretBasic => "client_secret_basic",
            ClientAuthMethod::ClientSecretPost => "client_secret_post",
        }
    }
}

impl FromStr for ClientAuthMethod {
    type Err = InvalidClient;

    fn from_str(text: &str) -> Result<Self, InvalidClient> {
        [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost]
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| InvalidClient::AuthMethod(text.to_owned()))
    }
}

impl std::fmt::Display for DidYouMean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(near) => write!(f, "; did you mean {near}?"),
            None => Ok(()),
        }
    }
}

/// Reads a client id.
///
/// # Errors
/// [`InvalidClient::Id`]
pub fn parse_id(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let id = Some(text).filter(|_| allowed && (1..=MAX_ID_CHARACTERS).contains(&text.len()));
    id.map(str::to_owned).ok_or(InvalidClient::Id)
}

/// Reads one scope (`scope-token` of RFC 6749 §3.3).
///
/// # Errors
/// [`InvalidClient::Scope`]
pub fn parse_scope(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let scope = Some(text).filter(|_| allowed && !text.is_empty());
    scope.map(str::to_owned).ok_or_else(|| InvalidClient::Scope(text.to_owned()))
}

/// Reads the name of a resource; it is kept exactly, since it is compared as a string.
///
/// # Errors
/// [`InvalidClient::Audience`]
pub fn parse_audience(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let audience = Some(text).filter(|_| allowed && Url::parse(text).is_ok());
    audience.map(str::to_owned).ok_or_else(|| InvalidClient::Audience(text.to_owned()))
}

/// Accepts one grant that a client may use.
///
/// # Errors
/// [`InvalidClient::UnsupportedGrant`], [`InvalidClient::UnknownGrant`]
pub fn check_grant(text: &str) -> Result<(), InvalidClient> {
    if text == CLIENT_CREDENTIALS {
        return Ok(());
    }
    if LATER_GRANTS.contains(&text) {
        return Err(InvalidClient::UnsupportedGrant(text.to_owned()));
    }
    let grants = LATER_GRANTS.iter().copied().chain([CLIENT_CREDENTIALS]);
    let near = crate::config::nearest(text, grants.map(|grant| (grant, grant)));
    Err(InvalidClient::UnknownGrant(text.to_owned(), DidYouMean(near)))
}

/// Reads the algorithm of a client's access tokens, one of those the issuer signs with.
///
/// # Errors
/// [`InvalidClient::Algorithm`]
pub fn parse_access_token_alg(text: &str, algorithms: &[Algorithm]) -> Result<Algorithm, InvalidClient> {
    algorithms.iter().copied().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        InvalidClient::Algorithm { found: text.to_owned(), configured: names.join(", ") }
    })
}

/// Hashes a new secret, if it is one that may be used.
///
/// # Errors
/// [`InvalidClient::SecretTooShort`], [`InvalidClient::SecretTooLong`], [`InvalidClient::SecretCharacter`]
pub fn hash_new_secret(secret: &str) -> Result<[u8; 32], InvalidClient> {
    let characters = secret.chars().count();
    if characters < MIN_SECRET_CHARACTERS {
        return Err(InvalidClient::SecretTooShort(characters));
    }
    if characters > MAX_SECRET_CHARACTERS {
        return Err(InvalidClient::SecretTooLong(characters));
    }
    if !secret.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(InvalidClient::SecretCharacter);
    }
    Ok(hash_secret(secret.as_bytes()))
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

/// As long as a client id may be: longer ones are addresses or tokens put in the wrong place.
pub const MAX_ID_CHARACTERS: usize = 128;

/// As short as a secret may be: 32 characters of hexadecimal are 128 bits, which is what makes a fast hash enough.
pub const MIN_SECRET_CHARACTERS: usize = 32;

/// As long as a secret may be: it has to fit into a header together with the id.
pub const MAX_SECRET_CHARACTERS: usize = 512;

/// The one grant of this version.
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// Grants that exist, by their configuration and their registered names, but not in this version.
const LATER_GRANTS: [&str; 10] = [
    "authorization_code",
    "refresh_token",
    "device_code",
    "token_exchange",
    "implicit",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_short_visible_ascii_without_a_colon() {
        for id in ["billing", "a", "app@example.com/1", &"x".repeat(128)] {
            assert_eq!(parse_id(id).as_deref(), Ok(id));
        }
        for id in ["", "a b", "a:b", "é", "a\n", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(parse_id(id), Err(InvalidClient::Id), "{id:?}");
        }
    }

    #[test]
    fn a_scope_follows_rfc_6749() {
        for scope in ["invoices:read", "!", "#[]~", "https://api.example.com/read"] {
            assert_eq!(parse_scope(scope).as_deref(), Ok(scope));
        }
        for scope in ["", "a b", "a\"b", "a\\b", "é", "a\t"] {
            assert_eq!(parse_scope(scope), Err(InvalidClient::Scope(scope.to_owned())));
        }
    }

    #[test]
    fn an_audience_is_an_absolute_uri_without_fragment_and_kept_exactly() {
        for audience in
            ["https://api.example.com", "https://API.example.com/v1/?x=1", "urn:example:billing", "api://billing"]
        {
            assert_eq!(parse_audience(audience).as_deref(), Ok(audience));
        }
        for audience in ["", "billing", "/v1", "https://api.example.com/#", "https://api.example.com/a b", "https://"] {
            assert_eq!(parse_audience(audience), Err(InvalidClient::Audience(audience.to_owned())));
        }
    }

    #[test]
    fn a_secret_under_32_characters_is_refused() {
        assert_eq!(hash_new_secret(&"x".repeat(31)), Err(InvalidClient::SecretTooShort(31)));
        assert!(hash_new_secret(&"x".repeat(32)).is_ok());
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
    fn a_later_grant_and_a_misspelt_one_are_told_apart() {
        assert_eq!(check_grant("client_credentials"), Ok(()));
        assert_eq!(check_grant("refresh_token"), Err(InvalidClient::UnsupportedGrant("refresh_token".to_owned())));
        let misspelt = check_grant("client_credential").expect_err("no such grant");
        assert_eq!(misspelt.to_string(), "\"client_credential\" is not a grant; did you mean client_credentials?");
        assert_eq!(check_grant("x").expect_err("no such grant").to_string(), "\"x\" is not a grant");
    }

    #[test]
    fn authentication_methods_are_read_as_they_are_written() {
        for method in [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost] {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        for other in ["none", "private_key_jwt", "Client_Secret_Basic", ""] {
            assert_eq!(other.parse::<ClientAuthMethod>(), Err(InvalidClient::AuthMethod(other.to_owned())));
        }
    }

    #[test]
    fn an_algorithm_the_issuer_does_not_sign_with_is_refused_with_those_it_does() {
        let configured = [Algorithm::ES256, Algorithm::RS256];

        assert_eq!(parse_access_token_alg("RS256", &configured), Ok(Algorithm::RS256));
        let refusal = parse_access_token_alg("PS256", &configured).expect_err("not configured");
        assert!(refusal.to_string().contains("ES256, RS256"), "{refusal}");
    }
}
