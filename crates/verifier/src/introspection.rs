//! Asking the issuer about tokens that only it can read (RFC 7662).
//!
//! The steps for one token:
//! 1. it has the characters and the length of a token (RFC 6750 §2.1); anything else is refused without a word to anybody
//! 2. a remembered answer is used, if it is recent and the token has not ended since
//! 3. otherwise the issuer is asked, once for all callers that bring this token at the moment
//! 4. the answer is read strictly and judged by the same policy as a token that can be read
//!
//! Anybody can invent an opaque token and so cause a request, which is why a JWT is the better choice where there is one.
//! What this costs is bounded: the number of requests in flight, the time of each, the size of an answer, the bytes that
//! are remembered. While the endpoint does not answer as it should, nobody can say whether a token holds: that is a 503,
//! never a 401, and for a second after each failure nobody waits to hear the same.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode};
use keywheel_jose::{
    Confirmation, Holder, Introspected, IntrospectionAnswer, MissingAudience, Policy, Rejection, Timestamp,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use crate::fetch::{FetchError, HttpClient, parse_source};
use crate::limits::{Limits, in_range};
use crate::text::excerpt;
use crate::verifier::{Root, certificates, system_now, user_agent};
use crate::{BuildError, Claims};

/// The introspection endpoint of an issuer, and what it has said lately. Clones share both.
///
/// ```no_run
/// use keywheel_verifier::{IntrospectError, Introspection, Policy};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Claims {
///     sub: String,
///     scope: Option<String>,
/// }
///
/// # async fn example(token: &str, secret: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let introspection = Introspection::builder("https://id.example.com/introspect", "payments", secret).build()?;
/// let policy = Policy::access_token("https://id.example.com", "https://api.example.com");
///
/// match introspection.introspect::<Claims>(token, &policy).await {
///     Ok(introspected) => println!("hello {}", introspected.claims().sub),
///     Err(IntrospectError::Rejected(rejection)) => println!("401: {rejection}"),
///     Err(IntrospectError::Unavailable { retry_after }) => println!("503, retry after {} s", retry_after.as_secs()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Introspection {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Url,
    /// The client's id and secret.
    authorization: HeaderValue,
    client: HttpClient,
    missing_audience: MissingAudience,
    cache_ttl: Duration,
    answers: Cache<Sha256, Arc<Remembered>, Weight>,
    in_flight: Semaphore,
    /// Until when nobody asks, because the last one was not answered. Never held across an await.
    pause: Mutex<Option<Instant>>,
}

type Sha256 = [u8; 32];

struct Remembered {
    answer: IntrospectionAnswer,
    until: Instant,
}

/// The settings of an [`Introspection`].
#[must_use]
pub struct IntrospectionBuilder {
    endpoint: String,
    client_id: String,
    client_secret: String,
    missing_audience: MissingAudience,
    cache_ttl: Duration,
    cache_bytes: usize,
    max_in_flight: usize,
    deadline: Duration,
    name: Option<String>,
    roots: Vec<Root>,
}

/// Why a token was not accepted. There is no third reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectError {
    /// The token does not hold: a 401.
    #[error("the token is refused")]
    Rejected(#[source] Rejection),
    /// Nobody can say whether the token holds, because the endpoint does not say it: a 503 with `Retry-After`, never a 401.
    #[error("the issuer does not say whether the token is active")]
    Unavailable {
        /// When it is worth asking again; at least a second.
        retry_after: Duration,
    },
}

impl Introspection {
    /// Begins a client of the endpoint at this URL (`https`, or `http` on loopback), which identifies itself with this id
    /// and secret (`client_secret_basic`, RFC 6749 §2.3.1).
    pub fn builder(
        endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> IntrospectionBuilder {
        IntrospectionBuilder {
            endpoint: endpoint.into(),
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            missing_audience: MissingAudience::Refused,
            cache_ttl: Duration::from_secs(10),
            cache_bytes: 1024 * 1024,
            max_in_flight: 64,
            deadline: Duration::from_secs(5),
            name: None,
            roots: Vec::new(),
        }
    }

    /// Asks about a bearer token. One that is bound to a key is refused: no proof comes with it here.
    ///
    /// Dropping the future gives up the request, unless others wait for the same token: then one of them asks.
    ///
    /// # Errors
    /// - [`IntrospectError::Rejected`]: the token does not hold
    /// - [`IntrospectError::Unavailable`]: the endpoint can't be reached, refuses our credentials, gives no readable answer,
    ///   or is being asked too much at once
    pub async fn introspect<C: Claims>(
        &self,
        token: &str,
        policy: &Policy,
    ) -> Result<Introspected<C>, IntrospectError> {
        let unproved = |confirmation: Option<&Confirmation>| Holder::default().may_use(confirmation);
        self.introspect_bound(token, policy, system_now(), unproved).await
    }

    /// Like [`introspect`](Self::introspect), as of `now`, and `holder` decides about what the token is bound to, as in
    /// [`keywheel_jose::check_bound`]: a proof is checked every time, whatever is remembered about the token.
    ///
    /// # Errors
    /// As for [`introspect`](Self::introspect), and whatever `holder` refuses with
    pub async fn introspect_bound<C: Claims>(
        &self,
        token: &str,
        policy: &Policy,
        now: Timestamp,
        holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
    ) -> Result<Introspected<C>, IntrospectError> {
        check_shape(token, policy.max_token_bytes()).map_err(IntrospectError::Rejected)?;
        let began = Instant::now();
        let remembered = self.inner.answer(token, now).await?;
        // The token has aged while we waited.
        let now = now + began.elapsed();
        let verdict = remembered.answer.check(policy, self.inner.missing_audience, now, holder);
        verdict.map_err(IntrospectError::Rejected)
    }
}

impl IntrospectionBuilder {
    /// For how long an answer "active" is believed: this is how late a revocation may be noticed. 0 to 60 s, default 10 s.
    /// No token outlives its `exp`. "Not active" is believed for a second.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache_ttl = ttl;
        self
    }

    /// About how many bytes of answers are remembered. At least 16 KiB, default 1 MiB: some thousand tokens.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How many requests may be under way at once; who comes then is told to come again. 1 to 10 000, default 64.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How long one request may take, from connecting to the last byte. 10 ms to 60 s, default 5 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Accepts tokens for which the endpoint names no audience, whomever they are for. One that it names has to be the
    /// policy's all the same.
    pub fn insecure_accept_missing_audience(mut self) -> Self {
        self.missing_audience = MissingAudience::InsecureAccepted;
        self
    }

    /// What this resource server calls itself towards the issuer, in `User-Agent`. Default: nothing.
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

    /// Builds the client. Nothing is sent until the first token comes.
    ///
    /// # Errors
    /// - [`BuildError::IntrospectionEndpoint`]: tokens and the secret must not be sent to this URL
    /// - [`BuildError::Limits`], [`BuildError::Name`], [`BuildError::RootCertificate`]: by what they are about
    pub fn build(self) -> Result<Introspection, BuildError> {
        let endpoint = parse_source(&self.endpoint)
            .map_err(|problem| BuildError::IntrospectionEndpoint { url: excerpt(&self.endpoint), problem })?;
        in_range("cache_ttl", self.cache_ttl, Duration::ZERO, MAX_CACHE_TTL)?;
        in_range("cache_bytes", self.cache_bytes, 16 * 1024, 1 << 30)?;
        in_range("max_in_flight", self.max_in_flight, 1, 10_000)?;
        let limits = Limits {
            exchange_deadline: self.deadline,
            connect_timeout: self.deadline.min(Limits::default().connect_timeout),
            body_limit_bytes: BODY_LIMIT_BYTES,
            ..Limits::default()
        };
        limits.validate()?;
        let (roots, agent) = (certificates(&self.roots)?, user_agent(self.name.as_deref())?);
        let items = self.cache_bytes / TYPICAL_ENTRY_BYTES;
        let inner = Inner {
            endpoint,
            authorization: basic(&self.client_id, &self.client_secret),
            client: HttpClient::keeping_connections(IDLE_CONNECTIONS, &limits, roots, agent),
            missing_audience: self.missing_audience,
            cache_ttl: self.cache_ttl,
            answers: Cache::with_weighter(items, self.cache_bytes as u64, Weight),
            in_flight: Semaphore::new(self.max_in_flight),
            pause: Mutex::new(None),
        };
        Ok(Introspection { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// Steps 2 and 3: what the issuer says about a token.
    async fn answer(&self, token: &str, now: Timestamp) -> Result<Arc<Remembered>, IntrospectError> {
        let key = sha256(token);
        let began = Instant::now();
        loop {
            let guard = match self.answers.get_value_or_guard_async(&key).await {
                Ok(remembered) => {
                    if remembered.is_usable(Instant::now(), now + began.elapsed()) {
                        return Ok(remembered);
                    }
                    // Only this one: another caller may have put a newer one in its place.
                    self.answers.remove_if(&key, |found| Arc::ptr_eq(found, &remembered));
                    continue;
                }
                Err(guard) => guard,
            };
            // Whoever waits for this token meanwhile is at the guard. Without an answer the next of them has a try,
            // and finds the pause.
            let asked_at = Instant::now();
            let answer = self.ask(token).await?;
            let ttl = if answer.is_active() { self.cache_ttl } else { INACTIVE_TTL };
            let remembered = Arc::new(Remembered { answer, until: asked_at + ttl });
            // Fails where the entry was removed meanwhile: then it is not remembered, no more.
            let _ = guard.insert(Arc::clone(&remembered));
            return Ok(remembered);
        }
    }

    /// One request, unless there was no answer a moment ago or too many are under way.
    async fn ask(&self, token: &str) -> Result<IntrospectionAnswer, IntrospectError> {
        let unavailable = IntrospectError::Unavailable { retry_after: PAUSE };
        if self.edit_pause(|pause| pause.is_some_and(|until| Instant::now() < until)) {
            return Err(unavailable);
        }
        let Ok(_permit) = self.in_flight.try_acquire() else {
            tracing::warn!("too many tokens to introspect at once");
            return Err(unavailable);
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let failure: Box<dyn std::error::Error> =
            match self.client.post_form(&self.endpoint, &self.authorization, form).await {
                Ok(body) => match IntrospectionAnswer::parse(&body) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error.into(),
                },
                Err(FetchError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) => {
                    "the endpoint refuses our client id and secret".into()
                }
                Err(error) => error.into(),
            };
        tracing::error!(error = &*failure, "tokens can't be introspected");
        self.edit_pause(|pause| *pause = Some(Instant::now() + PAUSE));
        Err(unavailable)
    }

    fn edit_pause<T>(&self, change: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        change(&mut self.pause.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Remembered {
    /// Recent, and of a token that has not ended since: without leeway, because the issuer can still be asked.
    fn is_usable(&self, instant: Instant, now: Timestamp) -> bool {
        let has_ended = self.answer.is_active() && self.answer.expires_at().is_none_or(|expires_at| expires_at <= now);
        instant < self.until && !has_ended
    }
}

/// Step 1. RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn check_shape(token: &str, limit_bytes: usize) -> Result<(), Rejection> {
    if token.len() > limit_bytes {
        return Err(Rejection::TokenTooLarge { limit_bytes, found_bytes: token.len() });
    }
    let text = token.trim_end_matches('=');
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)) {
        return Err(Rejection::MalformedToken);
    }
    Ok(())
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they are joined, so either may have a colon.
fn basic(client_id: &str, client_secret: &str) -> HeaderValue {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(client_id), encode(client_secret));
    let value = format!("Basic {}", BASE64_STANDARD.encode(joined));
    let mut value = HeaderValue::try_from(value).expect("base64 is a header value");
    value.set_sensitive(true);
    value
}

fn sha256(token: &str) -> Sha256 {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    sha256
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("endpoint", &self.inner.endpoint.as_str()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Sha256, Arc<Remembered>> for Weight {
    fn weight(&self, _: &Sha256, remembered: &Arc<Remembered>) -> u64 {
        (ENTRY_OVERHEAD_BYTES + remembered.answer.size_bytes()) as u64
    }
}

/// A revocation that takes longer than this to be noticed had better not be one.
const MAX_CACHE_TTL: Duration = Duration::from_secs(60);

/// Enough to answer a client that tries again at once, too short to lock out a token that is just becoming active.
const INACTIVE_TTL: Duration = Duration::from_secs(1);

/// After a failure, so that callers do not queue up in front of an endpoint that is down.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers are as large as tokens: a few kilobytes at most.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// As many as are useful to a service that is busy and don't bother the issuer of one that is not.
const IDLE_CONNECTIONS: usize = 4;

/// Hash, pointer, counters and two instants, generously.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// An answer of 500 bytes.
const TYPICAL_ENTRY_BYTES: usize = ENTRY_OVERHEAD_BYTES + 500;

#[cfg(test)]
mod tests;
