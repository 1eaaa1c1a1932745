//! The verifier: a policy, a cached key set, and the verdict.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use keywheel_jose::{Policy, Rejection, Timestamp, UnverifiedJwt, Verified, check};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::cache::{Flight, Health, KeyCache, KeyCacheSettings};
use crate::fetch::{FetchKeys, HttpClient, HttpKeys, Source, UrlProblem, parse_source};
use crate::limits::{Limits, LimitsError};
use crate::metrics::{Meter, Metrics};
use crate::text::excerpt;

/// Verifies the tokens of one issuer with keys it keeps fresh. Clones share the keys; when the last one is dropped, the
/// background work ends.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Policy,
    cache: KeyCache,
}

/// Why a token was not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token does not hold: a 401.
    #[error("the token is refused")]
    Rejected(#[source] Rejection),
    /// Nobody can say whether the token holds, because there are no keys to check it with: a 503 with `Retry-After`,
    /// never a 401, which would sign people out for our outage.
    #[error("no trusted keys are held")]
    KeysUnavailable {
        /// When the next attempt to fetch keys may have succeeded; at least a second.
        retry_after: Duration,
    },
}

impl Verifier {
    /// Begins a verifier for what `policy` demands. The keys come from its issuer's discovery document, unless
    /// [`jwks_url`](VerifierBuilder::jwks_url) says otherwise.
    pub fn builder(policy: Policy) -> VerifierBuilder {
        VerifierBuilder {
            policy,
            jwks_url: None,
            limits: Limits::default(),
            name: None,
            roots: Vec::new(),
            fetcher: None,
            meter: Meter::default(),
        }
    }

    /// Verifies with the keys at hand, without waiting and without a lock.
    ///
    /// A `kid` that is not among them may begin a fetch in the background, under the same bounds as in
    /// [`verify`](Self::verify), so that a later call knows it.
    ///
    /// # Errors
    /// - [`VerifyError::Rejected`]: the token does not hold
    /// - [`VerifyError::KeysUnavailable`]: there are no keys, or only such as have been out of contact with the issuer for
    ///   longer than [`Limits::trusted`]
    pub fn verify_now<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.verify_now_at(token, now())
    }

    /// Verifies, and where the key is missing waits for one fetch that may bring it.
    ///
    /// A key is fetched for only if everything about the token that needs no key is in order, at most one fetch is in
    /// flight for all callers, and after each there is a pause; a caller in the pause gets its answer at once. Dropping
    /// the future cancels nothing but the waiting.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub async fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.verify_at(token, now()).await
    }

    /// [`verify_now`](Self::verify_now) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub fn verify_now_at<C: DeserializeOwned>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, VerifyError> {
        self.judge(token, now).0
    }

    /// [`verify`](Self::verify) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub async fn verify_at<C: DeserializeOwned>(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Verified<C>, VerifyError> {
        let (verdict, flight) = self.judge(token, now);
        let Some(flight) = flight else { return verdict };
        drop(verdict);
        let began = Instant::now();
        flight.landed().await;
        // The token has aged while we waited.
        self.check(token, now + began.elapsed())
    }

    /// How the key set is doing. Cheap enough for every probe.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.cache.health()
    }

    /// What this verifier demands of a token.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// The one verdict, on the set that is held.
    fn check<C: DeserializeOwned>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, VerifyError> {
        let Inner { policy, cache } = &*self.inner;
        let verdict = cache.read(|held| held.map(|held| check(token, &held.keys, policy, now)));
        verdict
            .ok_or_else(|| VerifyError::KeysUnavailable { retry_after: cache.retry_after() })?
            .map_err(VerifyError::Rejected)
    }

    /// The verdict, and a fetch under way that may change it.
    fn judge<C: DeserializeOwned>(
        &self,
        token: &str,
        now: Timestamp,
    ) -> (Result<Verified<C>, VerifyError>, Option<Flight>) {
        let verdict = self.check(token, now);
        let without_keys = match &verdict {
            Err(VerifyError::KeysUnavailable { .. }) => true,
            Err(VerifyError::Rejected(rejection)) if rejection.is_missing_key() => false,
            _ => return (verdict, None),
        };
        match self.search(token, now) {
            Ok(flight) => (verdict, flight),
            // No key could save this token, so it needs none to be refused.
            Err(rejection) if without_keys => (Err(VerifyError::Rejected(rejection)), None),
            Err(_) => (verdict, None),
        }
    }

    /// A fetch that may bring the missing key, unless the token would be refused with any.
    fn search(&self, token: &str, now: Timestamp) -> Result<Option<Flight>, Rejection> {
        let Inner { policy, cache } = &*self.inner;
        let token = UnverifiedJwt::parse(token, policy.max_token_bytes())?;
        token.plausible(policy, now)?;
        Ok(cache.search(token.kid()))
    }
}

/// The settings of a [`Verifier`].
#[must_use]
pub struct VerifierBuilder {
    policy: Policy,
    jwks_url: Option<String>,
    limits: Limits,
    name: Option<String>,
    roots: Vec<Root>,
    fetcher: Option<Box<dyn FetchKeys>>,
    meter: Meter,
}

enum Root {
    Pem(Vec<u8>),
    Der(Vec<u8>),
}

/// Why a [`Verifier`] was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy's issuer can't be asked for its keys.
    #[error("the issuer {issuer} {problem}")]
    Issuer {
        /// The issuer, escaped and cut.
        issuer: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// The policy accepts any issuer, so there is none to ask for its keys.
    #[error("a policy without an issuer needs a jwks_url")]
    NoIssuer,
    /// Keys must not be read from this URL.
    #[error("the jwks_url {url} {problem}")]
    JwksUrl {
        /// The URL, escaped and cut.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A limit is out of range, or two contradict each other.
    #[error("the limits do not hold")]
    Limits(#[from] LimitsError),
    /// The name can't be sent in a header.
    #[error("the name {name} must be 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.'")]
    Name {
        /// The name, escaped and cut.
        name: String,
    },
    /// A root certificate can't be read; an empty PEM text counts.
    #[error("a root certificate can't be read")]
    RootCertificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`VerifierBuilder::build`] was called outside a tokio runtime.
    #[error("there is no tokio runtime to fetch keys on")]
    NoRuntime(#[source] tokio::runtime::TryCurrentError),
}

impl VerifierBuilder {
    /// Where the key set is, instead of asking the issuer's discovery document. `https`, or `http` on loopback. The issuer
    /// may then be any string, and need not answer.
    pub fn jwks_url(mut self, url: impl Into<String>) -> Self {
        self.jwks_url = Some(url.into());
        self
    }

    /// Other [`Limits`] than the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What this resource server calls itself towards the issuer, in `User-Agent`: `keywheel-verifier/0.1.0 (payments)`.
    /// Default: nothing.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Also trusts the certificate authorities in this PEM text, beside the system's, to vouch for the issuer's server.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Root::Pem(pem.into()));
        self
    }

    /// Also trusts this certificate authority (X.509 DER), beside the system's, to vouch for the issuer's server.
    pub fn root_certificate_der(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Root::Der(der.into()));
        self
    }

    /// Another source of keys than the client of this crate. The URL, the name and the certificates are then not used.
    pub fn fetch_keys_with(mut self, fetcher: impl FetchKeys) -> Self {
        self.fetcher = Some(Box::new(fetcher));
        self
    }

    /// Tells `metrics` what happens. Default: nobody.
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.meter = Meter::new(metrics);
        self
    }

    /// Builds the verifier and begins the first fetch, without waiting for it: an issuer that is down when a service starts
    /// costs it 503s, not its start. The fetches run on the tokio runtime this is called on (its time and I/O drivers must
    /// be enabled), which has to live as long as the verifier.
    ///
    /// # Errors
    /// [`BuildError`], by variant; nothing has been fetched
    pub fn build(self) -> Result<Verifier, BuildError> {
        let runtime = Handle::try_current().map_err(BuildError::NoRuntime)?;
        self.limits.validate()?;
        let fetcher = match self.fetcher {
            Some(fetcher) => fetcher,
            None => {
                let source = source(&self.policy, self.jwks_url.as_deref())?;
                let client =
                    HttpClient::new(&self.limits, certificates(&self.roots)?, user_agent(self.name.as_deref())?);
                Box::new(HttpKeys::new(source, client))
            }
        };
        let cache = KeyCache::start(KeyCacheSettings { fetcher, limits: self.limits, runtime, meter: self.meter });
        Ok(Verifier { inner: Arc::new(Inner { policy: self.policy, cache }) })
    }
}

fn source(policy: &Policy, jwks_url: Option<&str>) -> Result<Source, BuildError> {
    if let Some(url) = jwks_url {
        let source = parse_source(url).map(Source::Jwks);
        return source.map_err(|problem| BuildError::JwksUrl { url: excerpt(url), problem });
    }
    let issuer = policy.issuer().ok_or(BuildError::NoIssuer)?;
    Source::discovery(issuer).map_err(|problem| BuildError::Issuer { issuer: excerpt(issuer), problem })
}

fn certificates(roots: &[Root]) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let mut certificates = Vec::new();
    for root in roots {
        match root {
            Root::Der(der) => certificates.push(CertificateDer::from(der.clone())),
            Root::Pem(pem) => {
                let before = certificates.len();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    certificates.push(certificate.map_err(|error| BuildError::RootCertificate(error.into()))?);
                }
                if certificates.len() == before {
                    return Err(BuildError::RootCertificate("there is no certificate in the PEM text".into()));
                }
            }
        }
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| BuildError::RootCertificate(error.into()))?;
    }
    Ok(certificates)
}

fn user_agent(name: Option<&str>) -> Result<HeaderValue, BuildError> {
    let Some(name) = name else { return Ok(HeaderValue::from_static(PRODUCT)) };
    let refuse = || BuildError::Name { name: excerpt(name) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return Err(refuse());
    }
    HeaderValue::try_from(format!("{PRODUCT} ({name})")).map_err(|_| refuse())
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = self.policy().issuer();
        f.debug_struct("Verifier").field("issuer", &issuer).field("health", &self.health()).finish_non_exhaustive()
    }
}

/// The clock that claims are compared with; ages of the cache are measured by tokio's, which does not jump.
fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the verifier's only reading of the wall clock")]
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// The product in `User-Agent`.
const PRODUCT: &str = concat!("keywheel-verifier/", env!("CARGO_PKG_VERSION"));

/// Enough for a service and its instance, too little for a secret to be put there unnoticed.
const MAX_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests;
