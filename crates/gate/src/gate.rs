//! The gate: which route a request falls under, what that demands of its token, and what the service may know of it.
//!
//! The steps for each request, whether a proxy asks about it or it is to be forwarded:
//! 1. what it asks for is read in the one way that everybody behind the gate reads it too; else 400
//! 2. the first route that fits decides what it has to bring; without one it is refused with 403, or needs a token
//! 3. the verifier's guard judges the token: 401, 403 and 503 are its answers
//! 4. the identity headers are filled from the claims

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use keywheel_verifier::{
    AccessTokenClaims, BuildError, DpopSettings, Grants, Guard, Health, Introspection, InvalidUrl, Nonce,
    PrometheusMetrics, Refusal, Requirement, ResourceMetadata, Verifier,
};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tracing::{debug, warn};

use crate::config::{Config, IntrospectionSettings, IssuerSettings, Mode, Network};
use crate::identity::{IdentityHeaders, TooLong};
use crate::metrics::{Counts, render};
use crate::original::{Asked, BadRequest, Dialect, VERIFY, host_in, only, refuse_overrides};
use crate::path::path_of_target;
use crate::proxy::Proxy;
use crate::reply::{self, Body, BoxError};
use crate::routes::{Access, Demands, Routes, Unmatched, parse_method};

/// Everything that answers requests.
pub(crate) struct Gate {
    verifier: Verifier,
    routes: Routes,
    /// One for each route; `None` where the token is not looked at.
    guards: Vec<Option<Guard<TokenClaims>>>,
    /// For what no route fits; `None` where that is refused.
    unmatched: Option<Guard<TokenClaims>>,
    identity: Arc<IdentityHeaders>,
    front: Front,
    metadata: Option<ResourceMetadata>,
    trusted_proxies: Vec<Network>,
    pub(crate) counts: Counts,
    registry: Registry,
    key_metrics: Vec<PrometheusMetrics>,
}

enum Front {
    ForwardAuth(Option<Dialect>),
    Proxy(Box<Proxy>),
}

/// Why a gate can't be built from a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("issuer {issuer}")]
    Issuer { issuer: String, source: BuildError },
    #[error("the issuers do not go together")]
    Issuers(#[source] BuildError),
    #[error("{setting}")]
    Url { setting: &'static str, source: InvalidUrl },
}

/// The claims of an access token: those every access token has (RFC 9068 §2.2), so that the gate's verdict is that of every
/// other front, and all of them, for the headers.
#[derive(Debug)]
pub(crate) struct TokenClaims {
    access: AccessTokenClaims,
    all: Map<String, Value>,
}

/// Why a request is not let through.
enum Denied {
    Bad(BadRequest),
    NoRoute,
    Refused(Refusal),
    Unspeakable(TooLong),
}

type Identity = Vec<(HeaderName, HeaderValue)>;

impl Gate {
    /// Builds the verifiers, which begin to fetch keys, and a guard for each route.
    pub(crate) fn build(config: Config) -> Result<Self, GateError> {
        let mut registry = Registry::default();
        let mut key_metrics = Vec::new();
        let mut verifiers = Vec::new();
        for (index, issuer) in config.issuers.iter().enumerate() {
            let name = issuer.policy.issuer().unwrap_or_default().to_owned();
            let labelled = registry.sub_registry_with_label(("issuer".into(), name.clone().into()));
            let metrics = PrometheusMetrics::register(labelled);
            key_metrics.push(metrics.clone());
            let verifier = build_verifier(&config, index, issuer, metrics);
            verifiers.push(verifier.map_err(|source| GateError::Issuer { issuer: name, source })?);
        }
        let verifier = Verifier::several(verifiers).map_err(GateError::Issuers)?;
        Self::with_verifier(config, verifier, registry, key_metrics)
    }

    /// A gate with a verifier that has its keys from somewhere else.
    #[cfg(test)]
    pub(crate) fn for_tests(config: Config, verifier: Verifier) -> Self {
        Self::with_verifier(config, verifier, Registry::default(), Vec::new()).expect("a gate")
    }

    fn with_verifier(
        config: Config,
        verifier: Verifier,
        mut registry: Registry,
        key_metrics: Vec<PrometheusMetrics>,
    ) -> Result<Self, GateError> {
        let counts = Counts::default();
        counts.register(registry.sub_registry_with_prefix("keywheel"));
        let url = |setting| move |source| GateError::Url { setting, source };
        let metadata = match &config.resource {
            None => None,
            Some(resource) => {
                let named = ResourceMetadata::new(&resource.identifier).map_err(url("resource.identifier"))?;
                let mut metadata = verifier
                    .policies()
                    .filter_map(|policy| policy.issuer())
                    .fold(named, ResourceMetadata::authorization_server)
                    .scopes(scopes_of(&config.routes));
                if let Some(name) = &resource.name {
                    metadata = metadata.name(name);
                }
                if let Some(documentation) = &resource.documentation {
                    metadata = metadata.documentation(documentation);
                }
                Some(metadata)
            }
        };
        let mut guard = Guard::with_claims(verifier.clone());
        if let Some(cookie) = &config.token.cookie {
            guard = guard.cookie(cookie);
        }
        if let Some(realm) = &config.token.realm {
            guard = guard.realm(realm);
        }
        if let Some(metadata) = &metadata {
            guard = guard.resource_metadata(metadata.url());
        }
        if let Some(external) = &config.token.external_url {
            guard = guard.external_url(external).map_err(url("token.external_url"))?;
        }
        for origin in &config.token.allowed_origins {
            guard = guard.allow_origin(origin).map_err(url("token.allowed_origins"))?;
        }
        let guards = config.routes.routes.iter().map(|route| match route.access {
            Access::Public => None,
            Access::Optional => Some(guard.clone().optional()),
            Access::Token => Some(demanding(guard.clone(), &route.demands)),
        });
        let guards = guards.collect();
        let identity = Arc::new(config.headers);
        let front = match config.mode {
            Mode::ForwardAuth(dialect) => Front::ForwardAuth(dialect),
            Mode::Proxy(settings) => {
                Front::Proxy(Box::new(Proxy::new(settings, Arc::clone(&identity), config.token.cookie)))
            }
        };
        Ok(Self {
            verifier,
            routes: config.routes,
            guards,
            unmatched: (config.unmatched == Unmatched::Token).then_some(guard),
            identity,
            front,
            metadata,
            trusted_proxies: config.server.trusted_proxies,
            counts,
            registry,
            key_metrics,
        })
    }

    /// What it does, for a log line.
    pub(crate) fn purpose(&self) -> String {
        match &self.front {
            Front::ForwardAuth(None) => "answers proxies at /verify".to_owned(),
            Front::ForwardAuth(Some(dialect)) => format!("answers {dialect} at /verify"),
            Front::Proxy(proxy) => format!("guards {}", proxy.upstream()),
        }
    }

    /// What judges tokens.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Answers on the public listener.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(metadata) = &self.metadata
            && metadata.is_at(request.uri())
        {
            return match *request.method() {
                Method::GET | Method::HEAD => metadata
                    .response::<http_body_util::Full<Bytes>>()
                    .map(|body| body.map_err(|never| match never {}).boxed_unsync()),
                _ => {
                    let mut response = reply::problem(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD here");
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                    response
                }
            };
        }
        match &self.front {
            Front::ForwardAuth(dialect) => self.answer_proxy(*dialect, request.into_parts().0, peer).await,
            Front::Proxy(proxy) => self.forward(proxy, request, peer).await,
        }
    }

    /// Answers on the listener for operators.
    pub(crate) fn answer_operator<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => {
                for (metrics, (_, health)) in self.key_metrics.iter().zip(self.verifier.healths()) {
                    metrics.observe(&health);
                }
                let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                reply::with_body(StatusCode::OK, openmetrics, render(&self.registry))
            }
            "/healthz" => reply::text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            _ => reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address"),
        }
    }

    /// Ready when the keys of any issuer are there: one of several that is down must not take the others' users along.
    fn readiness(&self) -> Response<Body> {
        let mut is_ready = false;
        let mut lines = String::new();
        for (policy, health) in self.verifier.healths() {
            let state = match health {
                Health::Ok { age, .. } => format!("ok, keys of {} s ago", age.as_secs()),
                Health::Stale { age, trusted_for, .. } => {
                    format!("stale, keys of {} s ago are used for {} s more", age.as_secs(), trusted_for.as_secs())
                }
                Health::Unavailable { retry_after } => {
                    format!("no keys, next attempt in {} s", retry_after.as_secs().max(1))
                }
                _ => "unknown".to_owned(),
            };
            is_ready |= !matches!(health, Health::Unavailable { .. });
            lines.push_str(&format!("{}: {state}\n", policy.issuer().unwrap_or_default()));
        }
        match is_ready {
            true => reply::text(StatusCode::OK, format!("ready\n{lines}")),
            false => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{lines}")),
        }
    }

    /// Forward authentication: 200 with the identity headers, or the refusal that the proxy is to pass on.
    async fn answer_proxy(&self, dialect: Option<Dialect>, mut parts: Parts, peer: IpAddr) -> Response<Body> {
        let asked_at = parts.uri.path();
        let is_here = match dialect {
            Some(Dialect::Envoy) => {
                asked_at.strip_prefix(VERIFY).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            _ => asked_at == VERIFY,
        };
        if !is_here {
            return reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address: proxies ask at /verify");
        }
        if !self.trusted_proxies.is_empty() && !self.is_trusted(peer) {
            return reply::problem(StatusCode::FORBIDDEN, "only the proxies in server.trusted_proxies may ask here");
        }
        let identity = match self.judge_for_proxy(dialect, &mut parts).await {
            Ok(identity) => identity,
            Err(denied) => return self.deny(denied),
        };
        self.counts.judged(StatusCode::OK.as_u16(), "passed");
        let mut response = reply::text(StatusCode::OK, "");
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        response.headers_mut().extend(identity);
        response
    }

    async fn judge_for_proxy(&self, dialect: Option<Dialect>, parts: &mut Parts) -> Result<Identity, Denied> {
        // The proxy overwrites the headers it gets from here, and none that merely look like them.
        if self.identity.are_imitated(&parts.headers) {
            return Err(Denied::Bad(BadRequest::Imitation));
        }
        let asked = match dialect {
            None => None,
            Some(dialect) => {
                refuse_overrides(&parts.headers, Some(dialect), self.routes.need_method())?;
                Some(dialect.read(parts)?)
            }
        };
        self.judge(asked.as_ref(), parts).await
    }

    async fn forward<B>(&self, proxy: &Proxy, request: Request<B>, peer: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let judged = match self.read_own(&parts) {
            Ok(asked) => self.judge(Some(&asked), &parts).await,
            Err(bad) => Err(Denied::Bad(bad)),
        };
        match judged {
            Ok(identity) => {
                self.counts.judged(StatusCode::OK.as_u16(), "passed");
                let response =
                    proxy.forward(Request::from_parts(parts, body), identity, peer, self.is_trusted(peer)).await;
                self.counts.forwarded(response.status().as_u16());
                response
            }
            Err(denied) => self.deny(denied),
        }
    }

    /// What a request to the gate as a proxy asks for.
    fn read_own(&self, parts: &Parts) -> Result<Asked, BadRequest> {
        let method = parse_method(parts.method.as_str()).map_err(|_| BadRequest::Method)?;
        // A tunnel to anywhere is not ours to give, and TRACE would show the identity headers to the client.
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(BadRequest::Method);
        }
        let host = match parts.version {
            Version::HTTP_2 => {
                let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
                let header = only(&parts.headers, &HOST)?;
                if header.is_some() && header != authority {
                    return Err(BadRequest::Host);
                }
                let text = authority.and_then(|authority| std::str::from_utf8(authority).ok());
                text.and_then(|text| crate::routes::Host::parse(text).ok())
            }
            _ if parts.uri.scheme().is_some() => return Err(BadRequest::AbsoluteForm),
            _ => host_in(&parts.headers, &HOST)?,
        };
        if host.is_none() && parts.version != Version::HTTP_10 {
            return Err(BadRequest::Host);
        }
        if parts.headers.contains_key(CONTENT_LENGTH) && parts.headers.contains_key(TRANSFER_ENCODING) {
            return Err(BadRequest::TwoLengths);
        }
        refuse_overrides(&parts.headers, None, self.routes.need_method())?;
        let path = path_of_target(parts.uri.path().as_bytes())?;
        Ok(Asked { method, path, host })
    }

    /// Steps 2 to 4. `parts` are those of the original request; `asked` is `None` where nothing is known of it.
    async fn judge(&self, asked: Option<&Asked>, parts: &Parts) -> Result<Identity, Denied> {
        if asked.is_some_and(|asked| asked.host.is_none()) && self.routes.need_host() {
            return Err(Denied::Bad(BadRequest::Host));
        }
        let found = asked.and_then(|asked| self.routes.find(&asked.method, asked.host.as_ref(), &asked.path));
        let guard = match found {
            Some((index, _)) => self.guards[index].as_ref(),
            None => Some(self.unmatched.as_ref().ok_or(Denied::NoRoute)?),
        };
        let token = match guard {
            Some(guard) => guard.authorize(parts).await.map_err(Denied::Refused)?,
            None => None,
        };
        let claims = token.as_ref().map(|token| &token.claims().all);
        self.identity.values(claims).map_err(Denied::Unspeakable)
    }

    fn deny(&self, denied: Denied) -> Response<Body> {
        let (code, response) = match denied {
            Denied::Bad(bad) => ("bad_request", reply::problem(StatusCode::BAD_REQUEST, &bad.to_string())),
            Denied::NoRoute => ("no_route", reply::problem(StatusCode::FORBIDDEN, "no route allows this request")),
            Denied::Refused(refusal) => (refusal.code(), reply::refusal(&refusal)),
            Denied::Unspeakable(TooLong { header }) => {
                warn!(%header, "a claim is too long for its header, so the request is refused");
                let detail = "the access token says more than a header can hold";
                ("claim_too_long", reply::problem(StatusCode::FORBIDDEN, detail))
            }
        };
        let status = response.status().as_u16();
        debug!(status, code, "refused");
        self.counts.judged(status, code);
        response
    }

    fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

impl From<BadRequest> for Denied {
    fn from(bad: BadRequest) -> Self {
        Self::Bad(bad)
    }
}

impl<'de> Deserialize<'de> for TokenClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Value::deserialize(deserializer)?;
        let access = AccessTokenClaims::deserialize(&all).map_err(serde::de::Error::custom)?;
        match all {
            Value::Object(all) => Ok(Self { access, all }),
            _ => Err(serde::de::Error::custom("claims are an object")),
        }
    }
}

impl Grants for TokenClaims {
    fn has_scope(&self, scope: &str) -> bool {
        self.access.has_scope(scope)
    }

    fn has_role(&self, role: &str) -> bool {
        self.access.has_role(role)
    }
}

/// A verifier for one issuer of the configuration.
fn build_verifier(
    config: &Config,
    index: usize,
    issuer: &IssuerSettings,
    metrics: PrometheusMetrics,
) -> Result<Verifier, BuildError> {
    let mut builder =
        Verifier::builder(issuer.policy.clone()).limits(issuer.limits.clone()).name("gate").metrics(metrics);
    if let Some(url) = &issuer.jwks_url {
        builder = builder.jwks_url(url);
    }
    if let Some(pem) = &issuer.root_certificates {
        builder = builder.root_certificates_pem(pem.clone());
    }
    if let Some(settings) = &issuer.introspection {
        let IntrospectionSettings { url, client_id, client_secret, cache_ttl } = settings;
        let mut introspection = Introspection::builder(url, client_id, client_secret).name("gate");
        if let Some(ttl) = cache_ttl {
            introspection = introspection.cache_ttl(*ttl);
        }
        if let Some(pem) = &issuer.root_certificates {
            introspection = introspection.root_certificates_pem(pem.clone());
        }
        builder = builder.introspection(introspection.build()?);
    }
    if let Some(bytes) = config.cache.verified_tokens_bytes {
        builder = builder.token_cache_bytes(bytes);
    }
    if let Some(folder) = &config.cache.warm_start_dir {
        builder = builder.warm_start_file(warm_start_file(folder, index));
    }
    let mut dpop = DpopSettings::default();
    if let Some(max_proofs) = config.dpop.max_proofs {
        dpop.max_proofs = max_proofs;
    }
    dpop.nonce = match &config.dpop.nonce_secret {
        Some(secret) => Nonce::RequiredWithSecret(secret.clone()),
        None if config.dpop.nonce => Nonce::Required,
        None => Nonce::NotAsked,
    };
    builder.dpop(dpop).build()
}

/// The verifier refuses a file that is another issuer's, so the number is enough of a name.
fn warm_start_file(folder: &Path, index: usize) -> std::path::PathBuf {
    folder.join(format!("issuer-{index}.json"))
}

fn demanding(guard: Guard<TokenClaims>, demands: &Demands) -> Guard<TokenClaims> {
    let Demands { scopes, any_scope, roles, any_role } = demands;
    let mut guard = scopes.iter().fold(guard, Guard::require_scope);
    guard = roles.iter().fold(guard, Guard::require_role);
    if !any_scope.is_empty() {
        guard = guard.require(Requirement::any(any_scope.iter().map(Requirement::scope)));
    }
    if !any_role.is_empty() {
        guard = guard.require(Requirement::any(any_role.iter().map(Requirement::role)));
    }
    guard
}

/// Every scope that some route demands, in order.
fn scopes_of(routes: &Routes) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in routes.routes.iter().flat_map(|route| route.demands.scopes.iter().chain(&route.demands.any_scope)) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

#[cfg(test)]
mod tests;
