//! The verifier: a policy, a cached key set, and the verdict.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use keywheel_jose::{
    Algorithm, Confirmation, DpopRejection, Explained, Policy, Rejection, Timestamp, UnverifiedJwt, Verified,
    check_bound, explain,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::cache::{Flight, Health, KeyCache, KeyCacheSettings, Snapshot};
use crate::dpop::{Dpop, DpopSettings, DpopSettingsError};
use crate::fetch::{FetchKeys, HttpClient, HttpKeys, Source, UrlProblem, parse_source};
use crate::introspection::{IntrospectError, Introspection};
use crate::limits::{Limits, LimitsError};
use crate::metrics::{Meter, Metrics, TokenCacheEvent};
use crate::presented::Presented;
use crate::text::excerpt;
use crate::token_cache::TokenCache;
use crate::warm_start::WarmStart;

/// Verifies the tokens of one issuer, or of [several](Verifier::several), with keys it keeps fresh. Clones share the keys;
/// when the last one is dropped, the background work ends.
#[derive(Clone)]
pub struct Verifier {
    issuers: Arc<[Arc<Issuer>]>,
    /// Where each issuer stands in the list; empty where there is only one, which is then not looked for.
    by_name: Arc<HashMap<String, usize>>,
    clock: Clock,
}

/// The clock that claims are compared with: the system's, and in tests another one.
#[derive(Clone, Default)]
struct Clock {
    #[cfg(any(test, feature = "testing"))]
    test: Option<crate::testing::TestClock>,
}

/// One issuer: what its tokens have to be, its keys, and what was verified with them.
struct Issuer {
    policy: Policy,
    cache: KeyCache,
    tokens: Option<TokenCache>,
    dpop: Dpop,
    introspection: Option<Introspection>,
}

/// Why a token was not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token does not hold: a 401.
    #[error("the token is refused")]
    Rejected(#[source] Rejection),
    /// The token holds, but its DPoP proof does not: a 401 (RFC 9449 §7.1).
    #[error("the DPoP proof is refused")]
    ProofRejected(#[source] DpopRejection),
    /// The DPoP proof has to be made again with this nonce: a 401 (RFC 9449 §9).
    #[error("the DPoP proof lacks a nonce of this server")]
    UseDpopNonce {
        /// For the `DPoP-Nonce` header.
        nonce: String,
    },
    /// Nobody can say whether the token holds, because there are no keys to check it with: a 503 with `Retry-After`,
    /// never a 401, which would sign people out for our outage.
    #[error("no trusted keys are held")]
    KeysUnavailable {
        /// When the next attempt to fetch keys may have succeeded; at least a second.
        retry_after: Duration,
    },
    /// Nobody can say whether an opaque token holds, because the introspection endpoint does not say it: a 503.
    #[error("the issuer does not say whether the token is active")]
    IntrospectionUnavailable {
        /// When it is worth asking again; at least a second.
        retry_after: Duration,
    },
    /// There is no room to remember another DPoP proof ([`DpopSettings::max_proofs`]): a 503.
    #[error("no room to remember another DPoP proof")]
    Overloaded {
        /// When there will be room.
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
            clock: Clock::default(),
            token_cache_bytes: None,
            dpop: DpopSettings::default(),
            introspection: None,
            meter: Meter::default(),
            warm_start_file: None,
        }
    }

    /// A verifier for a static list of issuers, each with its own policy, keys and limits as in the verifiers given. A token
    /// is judged by the issuer that it names in `iss` and by no other, so a `kid` means nothing beyond its issuer, and one
    /// that can't be reached holds up nobody else's tokens.
    ///
    /// # Errors
    /// - [`BuildError::NoIssuer`]: the list is empty, or a policy in it accepts any issuer
    /// - [`BuildError::IssuerTwice`]: one issuer is there twice; a policy can name [several
    ///   audiences](Policy::or_audience)
    /// - [`BuildError::IntrospectionTwice`]: two of them would be asked about opaque tokens
    pub fn several(verifiers: impl IntoIterator<Item = Self>) -> Result<Self, BuildError> {
        let verifiers: Vec<_> = verifiers.into_iter().collect();
        let clock = verifiers.first().map(|verifier| verifier.clock.clone()).unwrap_or_default();
        let issuers: Vec<_> = verifiers.iter().flat_map(|verifier| verifier.issuers.to_vec()).collect();
        let mut by_name = HashMap::with_capacity(issuers.len());
        for (index, issuer) in issuers.iter().enumerate() {
            let name = issuer.policy.issuer().ok_or(BuildError::NoIssuer)?;
            if by_name.insert(name.to_owned(), index).is_some() {
                return Err(BuildError::IssuerTwice { issuer: excerpt(name) });
            }
        }
        if issuers.iter().filter(|issuer| issuer.introspection.is_some()).count() > 1 {
            return Err(BuildError::IntrospectionTwice);
        }
        match issuers.len() {
            0 => return Err(BuildError::NoIssuer),
            1 => by_name.clear(),
            _ => {}
        }
        Ok(Self { issuers: issuers.into(), by_name: Arc::new(by_name), clock })
    }

    /// Verifies a bearer token with the keys at hand, without waiting and without a lock.
    ///
    /// A `kid` that is not among them may begin a fetch in the background, under the same bounds as in
    /// [`verify`](Self::verify), so that a later call knows it.
    ///
    /// # Errors
    /// - [`VerifyError::Rejected`]: the token does not hold, or it is bound to a key and so is no bearer token
    /// - [`VerifyError::KeysUnavailable`]: there are no keys, or only such as have been out of contact with the issuer for
    ///   longer than [`Limits::trusted`]
    pub fn verify_now<C: Claims>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.verify_now_at(token, self.clock.now())
    }

    /// Verifies a bearer token, and where the key is missing waits for one fetch that may bring it.
    ///
    /// A key is fetched for only if everything about the token that needs no key is in order, at most one fetch is in
    /// flight for all callers, and after each there is a pause; a caller in the pause gets its answer at once. Dropping
    /// the future cancels nothing but the waiting.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub async fn verify<C: Claims>(&self, token: &str) -> Result<Verified<C>, VerifyError> {
        self.verify_at(token, self.clock.now()).await
    }

    /// [`verify_now`](Self::verify_now) for a token that came with more than itself: a DPoP proof, a client certificate.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now), and
    /// - [`VerifyError::ProofRejected`], [`VerifyError::UseDpopNonce`]: the token holds and its DPoP proof does not
    /// - [`VerifyError::Overloaded`]: too many proofs to remember
    pub fn verify_presented_now<C: Claims>(&self, presented: &Presented<'_>) -> Result<Verified<C>, VerifyError> {
        self.verify_presented_now_at(presented, self.clock.now())
    }

    /// [`verify`](Self::verify) for a token that came with more than itself: a DPoP proof, a client certificate.
    ///
    /// # Errors
    /// As for [`verify_presented_now`](Self::verify_presented_now)
    pub async fn verify_presented<C: Claims>(&self, presented: &Presented<'_>) -> Result<Verified<C>, VerifyError> {
        self.verify_presented_at(presented, self.clock.now()).await
    }

    /// Every check of a token, in order, with what was expected and what was found: for the question why it is refused. It
    /// is judged as a bearer token with the keys at hand; nothing is fetched, counted or remembered, and neither the token
    /// nor its signature is in the answer.
    ///
    /// # Errors
    /// The [`VerifyError`] that leaves nothing to explain: no keys, or an issuer that is not in the list
    pub fn explain<C: Claims>(&self, token: &str) -> Result<Vec<Explained>, VerifyError> {
        let issuer = self.issuer_of(token)?;
        issuer.cache.read(|held| match held {
            Some(held) => Ok(explain::<C>(token, &held.keys, &issuer.policy, self.clock.now())),
            None => Err(VerifyError::KeysUnavailable { retry_after: issuer.cache.retry_after() }),
        })
    }

    /// [`verify_now`](Self::verify_now) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub fn verify_now_at<C: Claims>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, VerifyError> {
        self.verify_presented_now_at(&Presented::bearer(token), now)
    }

    /// [`verify`](Self::verify) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_now`](Self::verify_now)
    pub async fn verify_at<C: Claims>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, VerifyError> {
        self.verify_presented_at(&Presented::bearer(token), now).await
    }

    /// [`verify_presented_now`](Self::verify_presented_now) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_presented_now`](Self::verify_presented_now)
    pub fn verify_presented_now_at<C: Claims>(
        &self,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Result<Verified<C>, VerifyError> {
        let issuer = self.issuer_of(presented.token)?;
        let verdict = issuer.judge(presented, now).0;
        issuer.count(&verdict);
        verdict
    }

    /// [`verify_presented`](Self::verify_presented) as of `now`, for tests and tools that move time.
    ///
    /// # Errors
    /// As for [`verify_presented_now`](Self::verify_presented_now)
    pub async fn verify_presented_at<C: Claims>(
        &self,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Result<Verified<C>, VerifyError> {
        if let Some((issuer, introspection)) = self.who_knows(presented.token) {
            let verdict = issuer.ask(introspection, presented, now).await;
            issuer.count(&verdict);
            return verdict;
        }
        let issuer = self.issuer_of(presented.token)?;
        let (verdict, flight) = issuer.judge(presented, now);
        let verdict = match flight {
            None => verdict,
            Some(flight) => {
                drop(verdict);
                let began = Instant::now();
                flight.landed().await;
                // The token has aged while we waited.
                issuer.check(presented, now + began.elapsed())
            }
        };
        issuer.count(&verdict);
        verdict
    }

    /// How the key sets are doing: with several issuers, how the worst one is. Cheap enough for every probe.
    #[must_use]
    pub fn health(&self) -> Health {
        let states = self.issuers.iter().map(|issuer| issuer.cache.health());
        states.max_by_key(severity).expect("there is an issuer: build() and several() make none without")
    }

    /// How each issuer's key set is doing, in the order of the list.
    pub fn healths(&self) -> impl Iterator<Item = (&Policy, Health)> {
        self.issuers.iter().map(|issuer| (&issuer.policy, issuer.cache.health()))
    }

    /// What this verifier demands of a token, for each issuer.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.issuers.iter().map(|issuer| &issuer.policy)
    }

    /// A nonce for the client's next DPoP proof, for the `DPoP-Nonce` header of any response (RFC 9449 §8.2); `None` where
    /// [`DpopSettings::nonce`] asks for none.
    #[must_use]
    pub fn dpop_nonce(&self) -> Option<String> {
        let now = self.clock.now();
        self.issuers.iter().find_map(|issuer| issuer.dpop.nonce(now))
    }

    /// The algorithms of the DPoP proofs that are accepted, for challenges: those of the first issuer.
    pub(crate) fn dpop_algorithms(&self) -> &[Algorithm] {
        self.issuers.first().map(|issuer| issuer.dpop.policy().algorithms()).unwrap_or_default()
    }

    /// What [`verify_presented`](Self::verify_presented) says, if it says so without waiting; `None` and nothing counted if
    /// it would wait.
    pub(crate) fn verify_presented_at_once<C: Claims>(
        &self,
        presented: &Presented<'_>,
    ) -> Option<Result<Verified<C>, VerifyError>> {
        if self.who_knows(presented.token).is_some() {
            return None;
        }
        let issuer = match self.issuer_of(presented.token) {
            Ok(issuer) => issuer,
            Err(error) => return Some(Err(error)),
        };
        let (verdict, flight) = issuer.judge(presented, self.clock.now());
        if flight.is_some() {
            return None;
        }
        issuer.count(&verdict);
        Some(verdict)
    }

    /// Whom to ask about a token that can't be read: one that is no JWT, where somebody can be asked.
    fn who_knows(&self, token: &str) -> Option<(&Issuer, &Introspection)> {
        let asked = self.issuers.iter().find_map(|issuer| Some((&**issuer, issuer.introspection.as_ref()?)));
        asked.filter(|_| token.bytes().filter(|&byte| byte == b'.').count() != 2)
    }

    /// The issuer whose token this says it is. Nothing is proved yet: it only decides whose keys and policy will.
    fn issuer_of(&self, token: &str) -> Result<&Issuer, VerifyError> {
        if let [only] = &*self.issuers {
            return Ok(only);
        }
        let longest = self.policies().map(Policy::max_token_bytes).max().unwrap_or_default();
        let unverified = UnverifiedJwt::parse(token, longest).map_err(VerifyError::Rejected)?;
        let name = unverified.issuer().map_err(VerifyError::Rejected)?;
        let index = self.by_name.get(&*name).ok_or_else(|| {
            let expected = format!("one of {} issuers", self.issuers.len());
            VerifyError::Rejected(Rejection::WrongIssuer { expected, found: excerpt(&name) })
        })?;
        Ok(&self.issuers[*index])
    }
}

impl Issuer {
    /// The one verdict, on the set that is held.
    fn check<C: Claims>(&self, presented: &Presented<'_>, now: Timestamp) -> Result<Verified<C>, VerifyError> {
        let mut holder = Ok(None);
        let verdict = self.cache.read(|held| {
            let held = held.ok_or_else(|| VerifyError::KeysUnavailable { retry_after: self.cache.retry_after() })?;
            let verdict = self.check_held(presented.token, held, now, |confirmation| {
                holder = presented.confirm(confirmation, &self.dpop, now);
                // What is returned here stands for `holder`, which says more.
                if holder.is_ok() { Ok(()) } else { Err(Rejection::SenderConstrained) }
            });
            verdict.map_err(VerifyError::Rejected)
        });
        if let Some(proof) = holder? {
            self.dpop.spend(&proof, now)?;
        }
        verdict
    }

    /// The issuer's own verdict on a token that only it can read, and ours on what came with it.
    async fn ask<C: Claims>(
        &self,
        introspection: &Introspection,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Result<Verified<C>, VerifyError> {
        let mut holder = Ok(None);
        let verdict = introspection
            .introspect_bound(presented.token, &self.policy, now, |confirmation| {
                holder = presented.confirm(confirmation, &self.dpop, now);
                if holder.is_ok() { Ok(()) } else { Err(Rejection::SenderConstrained) }
            })
            .await;
        if let Some(proof) = holder? {
            self.dpop.spend(&proof, now)?;
        }
        verdict.map(Verified::from).map_err(|error| match error {
            IntrospectError::Rejected(rejection) => VerifyError::Rejected(rejection),
            IntrospectError::Unavailable { retry_after } => VerifyError::IntrospectionUnavailable { retry_after },
        })
    }

    /// The verdict that was reached before on the same set, or a new one.
    fn check_held<C: Claims>(
        &self,
        token: &str,
        held: &Snapshot,
        now: Timestamp,
        holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
    ) -> Result<Verified<C>, Rejection> {
        let check = |holder| check_bound(token, &held.keys, &self.policy, now, holder);
        let Some(tokens) = self.tokens.as_ref().filter(|_| token.len() <= self.policy.max_token_bytes()) else {
            return check(holder);
        };
        let key = TokenCache::key::<C>(token);
        if let Some(verified) = tokens.find::<C>(&key, held.generation, now) {
            self.cache.meter().tell(|metrics| metrics.token_cache(TokenCacheEvent::Hit));
            holder(verified.confirmation())?;
            return Ok(verified);
        }
        self.cache.meter().tell(|metrics| metrics.token_cache(TokenCacheEvent::Miss));
        let verified = check(holder)?;
        tokens.keep(key, token, &verified, held.generation, now, self.policy.leeway());
        Ok(verified)
    }

    /// The verdict, and a fetch under way that may change it.
    fn judge<C: Claims>(
        &self,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> (Result<Verified<C>, VerifyError>, Option<Flight>) {
        let verdict = self.check(presented, now);
        let without_keys = match &verdict {
            Err(VerifyError::KeysUnavailable { .. }) => true,
            Err(VerifyError::Rejected(rejection)) if rejection.is_missing_key() => false,
            _ => return (verdict, None),
        };
        match self.search(presented, now) {
            Ok(flight) => (verdict, flight),
            // No key could save this token, so it needs none to be refused.
            Err(error) if without_keys => (Err(error), None),
            Err(_) => (verdict, None),
        }
    }

    /// A fetch that may bring the missing key, unless the token would be refused with any.
    fn search(&self, presented: &Presented<'_>, now: Timestamp) -> Result<Option<Flight>, VerifyError> {
        let token = UnverifiedJwt::parse(presented.token, self.policy.max_token_bytes());
        let token = token.map_err(VerifyError::Rejected)?;
        let mut holder = Ok(None);
        let plausible = token.plausible_bound(&self.policy, now, |confirmation| {
            holder = presented.confirm(confirmation, &self.dpop, now);
            if holder.is_ok() { Ok(()) } else { Err(Rejection::SenderConstrained) }
        });
        holder?;
        plausible.map_err(VerifyError::Rejected)?;
        Ok(self.cache.search(token.kid()))
    }

    /// Tells the metrics what became of a token.
    fn count<C>(&self, verdict: &Result<Verified<C>, VerifyError>) {
        self.cache.meter().tell(|metrics| match verdict {
            Ok(_) => metrics.verified(),
            Err(VerifyError::KeysUnavailable { .. }) => metrics.keys_unavailable(),
            Err(error) => {
                if matches!(error, VerifyError::ProofRejected(DpopRejection::Replayed)) {
                    metrics.dpop_replay_refused();
                }
                metrics.rejected(error.code());
            }
        });
    }
}

impl VerifyError {
    /// A stable name for logs and metrics: that of the rejection, where there is one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::ProofRejected(rejection) => rejection.code(),
            Self::UseDpopNonce { .. } => "use_dpop_nonce",
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::IntrospectionUnavailable { .. } => "introspection_unavailable",
            Self::Overloaded { .. } => "overloaded",
        }
    }
}

/// How bad a state is; the more the worse.
fn severity(health: &Health) -> u8 {
    match health {
        Health::Ok { .. } => 0,
        Health::Stale { .. } => 1,
        Health::Unavailable { .. } => 2,
    }
}

/// What claims are read into: any type that serde can make from a token's payload and that may be shared by threads.
pub trait Claims: DeserializeOwned + Send + Sync + 'static {}

impl<C: DeserializeOwned + Send + Sync + 'static> Claims for C {}

/// The settings of a [`Verifier`].
#[must_use]
pub struct VerifierBuilder {
    policy: Policy,
    jwks_url: Option<String>,
    limits: Limits,
    name: Option<String>,
    roots: Vec<Root>,
    fetcher: Option<Box<dyn FetchKeys>>,
    clock: Clock,
    token_cache_bytes: Option<usize>,
    dpop: DpopSettings,
    introspection: Option<Introspection>,
    meter: Meter,
    warm_start_file: Option<PathBuf>,
}

pub(crate) enum Root {
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
    /// One issuer is twice in a list.
    #[error("the issuer {issuer} is there twice")]
    IssuerTwice {
        /// The issuer, escaped and cut.
        issuer: String,
    },
    /// Two issuers in a list would be asked about opaque tokens.
    #[error("more than one issuer would be asked about opaque tokens")]
    IntrospectionTwice,
    /// Keys must not be read from this URL.
    #[error("the jwks_url {url} {problem}")]
    JwksUrl {
        /// The URL, escaped and cut.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// Tokens must not be sent to this introspection endpoint.
    #[error("the introspection endpoint {url} {problem}")]
    IntrospectionEndpoint {
        /// The URL, escaped and cut.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A limit is out of range, or two contradict each other.
    #[error("the limits do not hold")]
    Limits(#[from] LimitsError),
    /// The settings for DPoP do not hold.
    #[error("the DPoP settings do not hold")]
    Dpop(#[from] DpopSettingsError),
    /// The cache for verified tokens is too small for even one.
    #[error("token_cache_bytes is {found}, at least {MIN_TOKEN_CACHE_BYTES} are needed")]
    TokenCache {
        /// What was asked for.
        found: usize,
    },
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

    /// Keeps the key set in this file for the next start, which then verifies tokens even while the issuer is down, for as
    /// long as this process would have. Default: nowhere.
    ///
    /// One file for one issuer, in a folder that only this service may write: whoever can write the file decides whose
    /// tokens are accepted until the first fetch. It is read in [`build`](Self::build); one that is damaged, too old or
    /// another issuer's is a warning in the log, no more.
    pub fn warm_start_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.warm_start_file = Some(path.into());
        self
    }

    /// Tells `metrics` what happens. Default: nobody.
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.meter = Meter::new(metrics);
        self
    }

    /// Remembers tokens that held, in about so many bytes, so that seeing one again costs a hash instead of a signature.
    /// Default: none are remembered. An entry ends with its token, with any change of the key set, and never stands for
    /// another policy or another type of claims. A proof of possession is checked every time.
    pub fn token_cache_bytes(mut self, bytes: usize) -> Self {
        self.token_cache_bytes = Some(bytes);
        self
    }

    /// Asks the issuer about tokens that are no JWTs (RFC 7662), in the asynchronous calls; the others can't wait and refuse
    /// them. Default: nobody is asked, and such tokens are refused. In a [list](Verifier::several) only one issuer may be
    /// asked: an opaque token does not say whose it is, and must not be shown around.
    pub fn introspection(mut self, introspection: Introspection) -> Self {
        self.introspection = Some(introspection);
        self
    }

    /// How DPoP proofs are judged. Default: [`DpopSettings::default`].
    pub fn dpop(mut self, settings: DpopSettings) -> Self {
        self.dpop = settings;
        self
    }

    /// Judges the time of tokens by this clock instead of the system's. The age of keys goes by tokio's all the same.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(mut self, clock: crate::testing::TestClock) -> Self {
        self.clock.test = Some(clock);
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
        let (fetcher, source) = match self.fetcher {
            Some(fetcher) => (fetcher, "the service's own".to_owned()),
            None => {
                let source = source(&self.policy, self.jwks_url.as_deref())?;
                let client =
                    HttpClient::new(&self.limits, certificates(&self.roots)?, user_agent(self.name.as_deref())?);
                let url = source.url().to_string();
                (Box::new(HttpKeys::new(source, client)) as Box<dyn FetchKeys>, url)
            }
        };
        let warm_start = self.warm_start_file.map(|path| WarmStart {
            path,
            issuer: self.policy.issuer().map(str::to_owned),
            source,
            leeway: self.policy.leeway(),
        });
        let clock = self.clock.clone();
        let tokens = match self.token_cache_bytes {
            Some(found) if found < MIN_TOKEN_CACHE_BYTES => return Err(BuildError::TokenCache { found }),
            bytes => bytes.map(|bytes| TokenCache::new(bytes, self.meter.clone())),
        };
        let dpop = Dpop::new(self.dpop)?;
        let cache = KeyCache::start(KeyCacheSettings {
            fetcher,
            limits: self.limits,
            runtime,
            meter: self.meter,
            warm_start,
            wall_clock: Arc::new(move || clock.now()),
        });
        let introspection = self.introspection;
        let issuer = Arc::new(Issuer { policy: self.policy, cache, tokens, dpop, introspection });
        Ok(Verifier { issuers: [issuer].into(), by_name: Arc::default(), clock: self.clock })
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

pub(crate) fn certificates(roots: &[Root]) -> Result<Vec<CertificateDer<'static>>, BuildError> {
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

pub(crate) fn user_agent(name: Option<&str>) -> Result<HeaderValue, BuildError> {
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
        let issuers: Vec<_> = self.healths().map(|(policy, health)| (policy.issuer(), health)).collect();
        f.debug_struct("Verifier").field("issuers", &issuers).finish_non_exhaustive()
    }
}

impl Clock {
    fn now(&self) -> Timestamp {
        #[cfg(any(test, feature = "testing"))]
        if let Some(clock) = &self.test {
            return clock.now();
        }
        system_now()
    }
}

/// The system's clock; ages of the cache are measured by tokio's, which does not jump.
pub(crate) fn system_now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the verifier's only reading of the wall clock")]
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// The product in `User-Agent`.
const PRODUCT: &str = concat!("keywheel-verifier/", env!("CARGO_PKG_VERSION"));

/// Room for a few hundred tokens.
const MIN_TOKEN_CACHE_BYTES: usize = 1024 * 1024;

/// Enough for a service and its instance, too little for a secret to be put there unnoticed.
const MAX_NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests;
