//! What a token has to be for its reader: the settings of [`crate::check`].

use std::sync::Arc;
use std::time::Duration;

use crate::Algorithm;
use crate::rejection::shown;

/// What a reader demands of a token. Strict unless told otherwise: every algorithm of the allow-list, 30 s leeway,
/// tokens up to 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    token_type: TokenType,
    issuer: ExpectedIssuer,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    max_token_bytes: usize,
}

/// The kind of token, which decides `typ` and the claims that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenType {
    /// An access token (RFC 9068): `typ` is `at+jwt`; `sub`, `client_id`, `iat` and `jti` are there, and every claim of
    /// [`AccessTokenClaims`](crate::AccessTokenClaims) that is there is of its type.
    AccessToken,
    /// An ID token (OpenID Connect Core §2): `typ` is absent or `JWT`; `sub` and `iat` are there, `azp` is right, and every
    /// claim of [`IdTokenClaims`](crate::IdTokenClaims) that is there is of its type.
    IdToken,
    /// Any signed JWT with an issuer, an audience and an end; `typ` is not looked at. For tools, not for services: it
    /// lets one kind of token pass for another.
    Any,
}

impl TokenType {
    /// The acceptable `typ`, for a message.
    pub(crate) fn expected_typ(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::IdToken => "JWT or none",
            Self::Any => "any",
        }
    }
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A leeway this long would keep dead tokens alive.
    #[error("the leeway is {} s, more than the {} s allowed", .found.as_secs_f64(), Policy::MAX_LEEWAY.as_secs())]
    LeewayTooLong {
        /// The leeway asked for.
        found: Duration,
    },
    /// No algorithm is left.
    #[error("the policy allows no algorithm")]
    NoAlgorithm,
}

impl Policy {
    /// The longest leeway a policy may have.
    pub const MAX_LEEWAY: Duration = Duration::from_secs(60);
    /// The leeway of a new policy: the issuer's default `clock_skew`.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
    /// The longest token of a new policy: twice what common servers take as one header.
    pub const DEFAULT_MAX_TOKEN_BYTES: usize = 16 * 1024;

    /// For a resource server: access tokens of that issuer for that audience. Both are compared exactly.
    pub fn access_token(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self::new(TokenType::AccessToken, issuer.into(), audience.into())
    }

    /// For a client: ID tokens of that issuer for that client.
    pub fn id_token(issuer: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self::new(TokenType::IdToken, issuer.into(), client_id.into())
    }

    /// For a tool: tokens of any kind; see [`TokenType::Any`].
    pub fn any(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self::new(TokenType::Any, issuer.into(), audience.into())
    }

    /// Also accepts tokens for this audience.
    #[must_use]
    pub fn or_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts only these algorithms.
    ///
    /// # Errors
    /// [`PolicyError::NoAlgorithm`]: there are none
    pub fn with_algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Result<Self, PolicyError> {
        let algorithms: Vec<_> = algorithms.into_iter().collect();
        if algorithms.is_empty() {
            return Err(PolicyError::NoAlgorithm);
        }
        Ok(Self { algorithms, ..self })
    }

    /// How far the clocks of issuer and reader may differ, 0 to 60 s, in whole seconds.
    ///
    /// # Errors
    /// [`PolicyError::LeewayTooLong`]: over [`Policy::MAX_LEEWAY`]
    pub fn with_leeway(self, leeway: Duration) -> Result<Self, PolicyError> {
        if leeway > Self::MAX_LEEWAY {
            return Err(PolicyError::LeewayTooLong { found: leeway });
        }
        Ok(Self { leeway: Duration::from_secs(leeway.as_secs()), ..self })
    }

    /// The longest token that is read at all.
    #[must_use]
    pub fn with_max_token_bytes(self, max_token_bytes: usize) -> Self {
        Self { max_token_bytes, ..self }
    }

    /// Accepts tokens of any issuer. The keys alone then decide who can sign; for a person who looks at one token.
    #[must_use]
    pub fn insecure_any_issuer(self) -> Self {
        Self { issuer: ExpectedIssuer::Unchecked, ..self }
    }

    /// The kind of token.
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The issuer, unless any is accepted.
    pub fn issuer(&self) -> Option<&str> {
        match &self.issuer {
            ExpectedIssuer::Exactly(issuer) => Some(issuer),
            ExpectedIssuer::Unchecked => None,
        }
    }

    /// The acceptable audiences; for ID tokens, client ids.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The acceptable algorithms.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// How far clocks may differ.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// The longest token that is read.
    pub fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }

    /// The issuer, unless any is accepted, to keep.
    pub(crate) fn shared_issuer(&self) -> Option<Arc<str>> {
        match &self.issuer {
            ExpectedIssuer::Exactly(issuer) => Some(Arc::clone(issuer)),
            ExpectedIssuer::Unchecked => None,
        }
    }

    /// The acceptable audiences, for a message.
    pub(crate) fn audiences_shown(&self) -> String {
        let shown: Vec<_> = self.audiences.iter().map(|audience| shown(audience)).collect();
        shown.join(" or ")
    }

    fn new(token_type: TokenType, issuer: String, audience: String) -> Self {
        Self {
            token_type,
            issuer: ExpectedIssuer::Exactly(issuer.into()),
            audiences: vec![audience],
            algorithms: Algorithm::ALL.to_vec(),
            leeway: Self::DEFAULT_LEEWAY,
            max_token_bytes: Self::DEFAULT_MAX_TOKEN_BYTES,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ExpectedIssuer {
    Exactly(Arc<str>),
    Unchecked,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::access_token("https://id.example.com", "https://api.example.com")
    }

    #[test]
    fn leeway_is_at_most_a_minute() {
        for seconds in [0, 1, 60] {
            let leeway = Duration::from_secs(seconds);
            assert_eq!(policy().with_leeway(leeway).map(|policy| policy.leeway()), Ok(leeway));
        }
        for leeway in [Duration::from_millis(60_001), Duration::MAX] {
            assert_eq!(policy().with_leeway(leeway), Err(PolicyError::LeewayTooLong { found: leeway }));
        }
    }

    #[test]
    fn a_policy_without_algorithms_is_refused() {
        assert_eq!(policy().with_algorithms([]), Err(PolicyError::NoAlgorithm));
    }
}
