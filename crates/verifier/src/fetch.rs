//! Getting the key set over the network: the seam, and the client behind it.
//!
//! The cache decides *when* to fetch and what to do with the answer; this module only knows *how*. One fetch is:
//!
//! 1. find the key set: the configured `jwks_url`, or the `jwks_uri` of the issuer's discovery document, whose `issuer`
//!    must be ours character by character (OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3). Where there is no OpenID
//!    document (404), the one of RFC 8414 is asked for;
//! 2. `GET` it, with `If-None-Match` where we hold an entity tag (RFC 9110 §13.1.2);
//! 3. hand back the bytes and what the headers say about their age (RFC 9111 §5.2.2).
//!
//! What a hostile or broken server can do is bounded here: plain `http` only on loopback, redirects refused, a deadline on
//! the connection and on the whole exchange, the size of the body enforced while it streams.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http::request::Builder;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::limits::Limits;
use crate::text::excerpt;

/// Where keys come from: the seam between the cache and the network.
///
/// [`Verifier::builder`](crate::Verifier::builder) uses a hyper client of its own; give another one to
/// [`VerifierBuilder::fetch_keys_with`](crate::VerifierBuilder::fetch_keys_with) to read keys from elsewhere, or to script
/// an issuer in a test. The cache bounds the time, the number of calls in flight and the size of the set, whatever an
/// implementation does.
pub trait FetchKeys: Send + Sync + 'static {
    /// Fetches the JWK Set once, without retrying. `etag` is the entity tag of the set the caller holds: where the server
    /// still has the same one, the answer is [`Fetched::NotModified`].
    fn fetch<'a>(&'a self, etag: Option<&'a str>) -> FetchFuture<'a>;
}

/// What [`FetchKeys::fetch`] returns.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// The answer to one fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// A document, not parsed yet.
    Document {
        /// The JWK Set as it came.
        body: Bytes,
        /// Its entity tag, for the next fetch.
        etag: Option<String>,
        /// How long it may be used.
        caching: Caching,
    },
    /// The set that was named by its entity tag is still the current one.
    NotModified {
        /// How long it may be used, counted anew.
        caching: Caching,
    },
}

/// What an answer's headers say about how long it may be used (RFC 9111 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// `max-age`; zero for `no-store`, `no-cache` and for a value that can't be read; `None` when nothing is said.
    pub max_age: Option<Duration>,
    /// `Age`: how long shared caches held the answer on its way.
    pub age: Duration,
}

impl Caching {
    /// Reads `Cache-Control` and `Age`.
    ///
    /// `s-maxage` is not for us: this is a private cache. `must-revalidate` is not obeyed: how long a set may outlive its
    /// freshness when the issuer can't be reached is the resource server's decision, [`Limits::trusted`].
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut max_age: Option<Duration> = None;
        for directive in list(headers, header::CACHE_CONTROL) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let limit = match name.trim().to_ascii_lowercase().as_str() {
                "max-age" => delta_seconds(value).unwrap_or(Duration::ZERO),
                "no-store" | "no-cache" => Duration::ZERO,
                _ => continue,
            };
            // RFC 9111 §4.2.1: "If directives conflict […] the most restrictive directive should be honored".
            max_age = Some(max_age.map_or(limit, |earlier| earlier.min(limit)));
        }
        let age = list(headers, header::AGE).next().and_then(delta_seconds).unwrap_or(Duration::ZERO);
        Self { max_age, age }
    }
}

/// The members of a comma-separated header that may be sent on several lines; unreadable lines are skipped.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// RFC 9111 §1.2.2; a number too large for us is a very long time, not an error. §5.2: both the token and the quoted form.
fn delta_seconds(value: &str) -> Option<Duration> {
    let digits = value.trim().trim_matches('"');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(digits.parse::<u32>().unwrap_or(u32::MAX).into()))
}

/// Why a fetch brought nothing. The held key set stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Connecting, the TLS handshake or reading the answer failed.
    #[error("{url} could not be read")]
    Exchange {
        /// What was asked for, without its query.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The whole exchange took longer than [`Limits::exchange_deadline`], or the fetch longer than the cache allows.
    #[error("no complete answer within {limit:?}")]
    TimedOut {
        /// The deadline.
        limit: Duration,
    },
    /// The answer was neither 200 nor 304. Redirects are refused: keys come from where the operator said, or not at all.
    #[error("{url} answered {status}, expected 200")]
    Status {
        /// What was asked for, without its query.
        url: String,
        /// What came back.
        status: StatusCode,
    },
    /// The body is longer than [`Limits::body_limit_bytes`].
    #[error("{url} answered more than {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for, without its query.
        url: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// The discovery document is not one.
    #[error("{url} is no discovery document")]
    Discovery {
        /// Where the document was read.
        url: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The discovery document speaks for another issuer (OpenID Connect Discovery 1.0 §4.3).
    #[error("the discovery document is for issuer {found}, expected {expected:?}")]
    IssuerMismatch {
        /// Ours.
        expected: String,
        /// Theirs, escaped and cut.
        found: String,
    },
    /// The discovery document names a `jwks_uri` that keys must not be read from.
    #[error("the discovery document names jwks_uri {found}, which {problem}")]
    JwksUri {
        /// What it names, escaped and cut.
        found: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// There is no certificate authority to check the server's certificate with.
    #[error("no root certificates: the system's store is empty or unreadable, and none was configured")]
    NoRootCertificates,
    /// An implementation of [`FetchKeys`] outside this crate failed.
    #[error("the key source failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a URL is not one that keys may be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlProblem {
    /// Not an absolute URL.
    Unreadable,
    /// Neither `https`, nor `http` on a loopback address.
    Insecure,
    /// Carries a user name or a password.
    Credentials,
    /// An issuer with a query or a fragment (OpenID Connect Discovery 1.0 §3).
    QueryOrFragment,
}

impl fmt::Display for UrlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "is no absolute URL",
            Self::Insecure => "is neither https nor http on a loopback address",
            Self::Credentials => "carries a user name or password",
            Self::QueryOrFragment => "has a query or a fragment, which an issuer must not",
        })
    }
}

/// Reads a URL that keys may come from: `https`, or `http` on loopback.
pub(crate) fn parse_source(url: &str) -> Result<Url, UrlProblem> {
    let url = Url::parse(url).map_err(|_| UrlProblem::Unreadable)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => return Err(UrlProblem::Insecure),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Where the key set is found.
#[derive(Debug)]
pub(crate) enum Source {
    /// At this URL.
    Jwks(Url),
    /// Wherever the issuer's discovery document says.
    Discovery {
        /// What `issuer` has to be in the document.
        issuer: String,
        /// Where the document is.
        url: Url,
        /// Where it is for an authorization server that is no OpenID provider.
        fallback: Url,
    },
}

impl Source {
    /// "OpenID Providers supporting Discovery MUST make a JSON document available at the path formed by concatenating the
    /// string /.well-known/openid-configuration to the Issuer" (OpenID Connect Discovery 1.0 §4).
    pub(crate) fn discovery(issuer: &str) -> Result<Self, UrlProblem> {
        let parsed = parse_source(issuer)?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(UrlProblem::QueryOrFragment);
        }
        // §4.1: "any terminating / MUST be removed before appending".
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let url = Url::parse(&url).map_err(|_| UrlProblem::Unreadable)?;
        // RFC 8414 §3.1: "inserting the well-known URI string into the authorization server's issuer identifier between
        // the host component and the path component".
        let mut fallback = parsed;
        let path = format!("/.well-known/oauth-authorization-server{}", fallback.path().trim_end_matches('/'));
        fallback.set_path(&path);
        Ok(Self::Discovery { issuer: issuer.to_owned(), url, fallback })
    }

    /// Where the first request goes.
    pub(crate) fn url(&self) -> &Url {
        match self {
            Self::Jwks(url) | Self::Discovery { url, .. } => url,
        }
    }
}

/// [`FetchKeys`] by hyper.
pub(crate) struct HttpKeys {
    source: Source,
    client: HttpClient,
    /// What discovery last said. Held only for copies in and out, never across an await.
    discovered: Mutex<Discovered>,
}

#[derive(Clone, Default)]
struct Discovered {
    jwks_url: Option<Url>,
    /// When the document is to be read again, though its `jwks_uri` stays in use where that fails.
    due: Option<Instant>,
    /// Where the last document came from: an entity tag means nothing anywhere else.
    last_read: Option<Url>,
}

impl HttpKeys {
    pub(crate) fn new(source: Source, client: HttpClient) -> Self {
        Self { source, client, discovered: Mutex::default() }
    }

    async fn fetch_once(&self, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let url = self.locate().await?;
        let known = self.edit(|discovered| discovered.last_read.as_ref() == Some(&url));
        let result = self.client.get(&url, etag.filter(|_| known)).await;
        self.edit(|discovered| match &result {
            Ok(_) => discovered.last_read = Some(url),
            // The set may have moved: ask the issuer again before the next attempt.
            Err(_) => discovered.due = None,
        });
        result
    }

    /// Step 1: where the key set is.
    async fn locate(&self) -> Result<Url, FetchError> {
        let (issuer, document_url, fallback_url) = match &self.source {
            Source::Jwks(url) => return Ok(url.clone()),
            Source::Discovery { issuer, url, fallback } => (issuer, url, fallback),
        };
        let Discovered { jwks_url: known, due, .. } = self.edit(|discovered| discovered.clone());
        if let Some(url) = &known
            && due.is_some_and(|due| Instant::now() < due)
        {
            return Ok(url.clone());
        }
        let discovered = match self.discover(issuer, document_url).await {
            Err(FetchError::Status { status: StatusCode::NOT_FOUND, .. }) => self.discover(issuer, fallback_url).await,
            result => result,
        };
        match discovered {
            Ok(url) => {
                self.edit(|discovered| {
                    discovered.jwks_url = Some(url.clone());
                    discovered.due = Some(Instant::now() + DISCOVERY_LIFETIME);
                });
                Ok(url)
            }
            Err(error) => {
                // Discovery may be down while the set is not; but a document that speaks for somebody else is an answer.
                let unreachable = !matches!(error, FetchError::IssuerMismatch { .. } | FetchError::JwksUri { .. });
                known.filter(|_| unreachable).ok_or(error)
            }
        }
    }

    async fn discover(&self, issuer: &str, document_url: &Url) -> Result<Url, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let Fetched::Document { body, .. } = self.client.get(document_url, None).await? else {
            return Err(FetchError::Status { url: shown(document_url), status: StatusCode::NOT_MODIFIED });
        };
        let document: Document = serde_json::from_slice(&body)
            .map_err(|source| FetchError::Discovery { url: shown(document_url), source })?;
        if document.issuer != issuer {
            return Err(FetchError::IssuerMismatch { expected: issuer.to_owned(), found: excerpt(&document.issuer) });
        }
        let refuse = |problem| FetchError::JwksUri { found: excerpt(&document.jwks_uri), problem };
        let jwks_url = parse_source(&document.jwks_uri).map_err(refuse)?;
        if document_url.scheme() == "https" && jwks_url.scheme() != "https" {
            return Err(refuse(UrlProblem::Insecure));
        }
        Ok(jwks_url)
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Discovered) -> T) -> T {
        change(&mut self.discovered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl FetchKeys for HttpKeys {
    fn fetch<'a>(&'a self, etag: Option<&'a str>) -> FetchFuture<'a> {
        Box::pin(self.fetch_once(etag))
    }
}

/// One type for `https` and plain `http`: with two, each service would have the whole of hyper's client in it twice.
type Connections = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that asks for small documents, rarely, and believes nothing.
pub(crate) struct HttpClient {
    /// Made at the first exchange, because reading the system's certificates is slow and plain `http` needs none.
    secure: OnceCell<Connections>,
    plain: OnceCell<Connections>,
    extra_roots: Vec<CertificateDer<'static>>,
    user_agent: HeaderValue,
    limits: Limits,
    idle_connections: usize,
}

impl HttpClient {
    /// A client that closes its connections. Fetches of keys are minutes apart: a kept connection is more often dead than
    /// useful, and delays the issuer's shutdown.
    pub(crate) fn new(limits: &Limits, extra_roots: Vec<CertificateDer<'static>>, user_agent: HeaderValue) -> Self {
        Self::keeping_connections(0, limits, extra_roots, user_agent)
    }

    /// A client that keeps so many connections open for a while, for requests that come often.
    pub(crate) fn keeping_connections(
        idle_connections: usize,
        limits: &Limits,
        extra_roots: Vec<CertificateDer<'static>>,
        user_agent: HeaderValue,
    ) -> Self {
        let limits = limits.clone();
        Self { secure: OnceCell::new(), plain: OnceCell::new(), extra_roots, user_agent, limits, idle_connections }
    }

    /// Posts a form and reads the answer, all within one deadline. Anything but a 200 is a failure.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        authorization: &HeaderValue,
        form: String,
    ) -> Result<Bytes, FetchError> {
        let exchange = async {
            let request = Request::post(url.as_str())
                .header(header::AUTHORIZATION, authorization)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(header::ACCEPT, "application/json");
            let response = self.send(url, request, form.into()).await?;
            match response.status() {
                StatusCode::OK => self.read(response, url).await,
                status => Err(FetchError::Status { url: shown(url), status }),
            }
        };
        let limit = self.limits.exchange_deadline;
        timeout(limit, exchange).await.unwrap_or(Err(FetchError::TimedOut { limit }))
    }

    /// Steps 2 and 3, all within one deadline.
    async fn get(&self, url: &Url, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let limit = self.limits.exchange_deadline;
        timeout(limit, self.exchange(url, etag)).await.unwrap_or(Err(FetchError::TimedOut { limit }))
    }

    async fn exchange(&self, url: &Url, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let mut request =
            Request::get(url.as_str()).header(header::ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = self.send(url, request, Bytes::new()).await?;
        let caching = Caching::from_headers(response.headers());
        match response.status() {
            StatusCode::OK => {
                let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
                let etag = etag.filter(|etag| etag.len() <= MAX_ETAG_BYTES).map(str::to_owned);
                let body = self.read(response, url).await?;
                Ok(Fetched::Document { body, etag, caching })
            }
            StatusCode::NOT_MODIFIED if etag.is_some() => Ok(Fetched::NotModified { caching }),
            status => Err(FetchError::Status { url: shown(url), status }),
        }
    }

    async fn send(&self, url: &Url, request: Builder, body: Bytes) -> Result<Response<Incoming>, FetchError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| FetchError::Exchange { url: shown(url), source };
        let request = request
            // A compressed body would have to be bounded twice.
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, &self.user_agent)
            .body(Full::new(body))
            .map_err(|error| failed(error.into()))?;
        let response = match url.scheme() {
            "https" => self.secure().await?.request(request).await,
            _ => self.plain().await?.request(request).await,
        };
        response.map_err(|error| failed(error.into()))
    }

    /// Reads the body and stops at the limit, whatever `Content-Length` promised.
    async fn read(&self, response: Response<Incoming>, url: &Url) -> Result<Bytes, FetchError> {
        let limit_bytes = self.limits.body_limit_bytes;
        let mut incoming = response.into_body();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| FetchError::Exchange { url: shown(url), source: error.into() })?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > limit_bytes {
                return Err(FetchError::TooLarge { url: shown(url), limit_bytes });
            }
            body.extend_from_slice(&data);
        }
        Ok(body.freeze())
    }

    async fn secure(&self) -> Result<&Connections, FetchError> {
        self.secure
            .get_or_try_init(|| async {
                let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
                let native = native.map_err(|error| FetchError::Other(error.into()))?;
                if !native.errors.is_empty() {
                    tracing::warn!(errors = ?native.errors, "some of the system's root certificates can't be read");
                }
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(native.certs);
                roots.add_parsable_certificates(self.extra_roots.iter().cloned());
                if roots.is_empty() {
                    return Err(FetchError::NoRootCertificates);
                }
                let builder = HttpsConnectorBuilder::new().with_tls_config(tls(roots)?).https_only();
                Ok(self.connections(|tcp| builder.enable_http1().wrap_connector(tcp)))
            })
            .await
    }

    async fn plain(&self) -> Result<&Connections, FetchError> {
        self.plain
            .get_or_try_init(|| async {
                // Without roots nobody could pass for a server of `https`, if one were ever asked here.
                let tls = tls(RootCertStore::empty())?;
                let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
                Ok(self.connections(|tcp| builder.enable_http1().wrap_connector(tcp)))
            })
            .await
    }

    fn connections(&self, secured: impl FnOnce(HttpConnector) -> HttpsConnector<HttpConnector>) -> Connections {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.limits.connect_timeout));
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.idle_connections)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_buf_size(MAX_HEADER_BYTES)
            .build(secured(tcp))
    }
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, FetchError> {
    // The provider is named here: the process default may be another one, or none.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Other(error.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A URL for people: the query may be somebody's secret.
fn shown(url: &Url) -> String {
    url[..url::Position::AfterPath].to_owned()
}

/// Discovery changes when an issuer is moved, so rarely that an hour is quick; a failed fetch of the set shortens it.
const DISCOVERY_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Entity tags are hashes or versions; a longer one would only make our requests large.
pub(crate) const MAX_ETAG_BYTES: usize = 1024;

/// How long a kept connection waits for the next request: less than servers commonly do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How much of an answer hyper buffers, and so how long its head may be.
const MAX_HEADER_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests;
