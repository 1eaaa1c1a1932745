//! How a client gets tokens (RFC 7591 §2, `grant_types`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DidYouMean, InvalidClient};

/// One way to get tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A person signs in (RFC 6749 §4.1).
    AuthorizationCode,
    /// What was granted is renewed (RFC 6749 §6).
    RefreshToken,
    /// The client itself (RFC 6749 §4.4).
    ClientCredentials,
}

/// The ways a client may use, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantTypes(BTreeSet<GrantType>);

impl GrantType {
    /// The registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl fmt::Display for GrantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GrantType {
    type Err = InvalidClient;

    fn from_str(text: &str) -> Result<Self, InvalidClient> {
        if let Some(grant) = GRANTS.into_iter().find(|grant| grant.as_str() == text) {
            return Ok(grant);
        }
        if LATER_GRANTS.contains(&text) {
            return Err(InvalidClient::UnsupportedGrant(text.to_owned()));
        }
        let known = GRANTS.into_iter().map(GrantType::as_str).chain(LATER_GRANTS);
        let near = crate::config::nearest(text, known.map(|grant| (grant, grant)));
        Err(InvalidClient::UnknownGrant(text.to_owned(), DidYouMean(near)))
    }
}

impl GrantTypes {
    /// May the client get tokens this way?
    #[must_use]
    pub fn contains(&self, grant: GrantType) -> bool {
        self.0.contains(&grant)
    }

    /// Is there no way?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = GrantType> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<GrantType> for GrantTypes {
    fn from_iter<I: IntoIterator<Item = GrantType>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl<const N: usize> From<[GrantType; N]> for GrantTypes {
    fn from(grants: [GrantType; N]) -> Self {
        grants.into_iter().collect()
    }
}

/// Separated by spaces.
impl fmt::Display for GrantTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(GrantType::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

const GRANTS: [GrantType; 3] = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];

/// Grants that exist, by their configuration and their registered names, but not in this version. The first two of the
/// registered ones are not coming: RFC 9700 §2.1.2 and §2.4 advise against them.
const LATER_GRANTS: [&str; 8] = [
    "implicit",
    "password",
    "device_code",
    "token_exchange",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_they_are_written() {
        for grant in GRANTS {
            assert_eq!(grant.as_str().parse(), Ok(grant));
            assert_eq!(serde_json::to_value(grant).expect("JSON"), grant.as_str());
        }
        let both = GrantTypes::from([GrantType::RefreshToken, GrantType::AuthorizationCode]);
        assert_eq!(both.to_string(), "authorization_code refresh_token");
        assert!(both.contains(GrantType::RefreshToken) && !both.contains(GrantType::ClientCredentials));
    }

    #[test]
    fn a_later_grant_and_a_misspelt_one_are_told_apart() {
        let refusal = |text: &str| text.parse::<GrantType>().expect_err("no such grant");

        assert_eq!(refusal("device_code"), InvalidClient::UnsupportedGrant("device_code".to_owned()));
        let misspelt = refusal("client_credential");
        assert_eq!(misspelt.to_string(), "\"client_credential\" is not a grant; did you mean client_credentials?");
        assert_eq!(refusal("x").to_string(), "\"x\" is not a grant");
    }
}
