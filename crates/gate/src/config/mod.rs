//! The configuration: a TOML file, overlaid by environment variables, read into types that prove it is usable.
//!
//! 1. The file is `--config`, else `KEYWHEEL_GATE_CONFIG`, else `keywheel-gate.toml` in the working directory.
//! 2. `KEYWHEEL_GATE_SERVER__LISTEN=0.0.0.0:8090` overrides `listen` in `[server]`; a number picks an entry of a list
//!    (`KEYWHEEL_GATE_ISSUER__0__URL`), and a list of strings has commas. The names in `[headers]` can't be variables.
//! 3. Everything that is wrong is told at once, with file, line and column, or with the variable.
//!
//! Relative paths mean the working directory. This is the only module that reads the environment. `template.toml` explains
//! every setting; `keywheel-gate init` writes it.

mod document;
mod issuer;
mod network;
mod section;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::header::HeaderName;
use http::uri::{Authority, Scheme};

pub(crate) use issuer::{IntrospectionSettings, IssuerSettings};
pub(crate) use network::Network;

use crate::identity::{Claim, IdentityHeaders};
use crate::original::Dialect;
use crate::routes::{Access, Case, Demands, Host, Pattern, Route, Routes, Unmatched, parse_method};
use document::{Place, Problem};
use section::{Report, Section};

/// Everything that can be configured.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: ServerSettings,
    pub(crate) issuers: Vec<IssuerSettings>,
    pub(crate) token: TokenSettings,
    pub(crate) cache: CacheSettings,
    pub(crate) dpop: DpopChoice,
    pub(crate) headers: IdentityHeaders,
    pub(crate) mode: Mode,
    pub(crate) resource: Option<ResourceSettings>,
    pub(crate) routes: Routes,
    pub(crate) unmatched: Unmatched,
}

/// `[server]`
#[derive(Debug)]
pub(crate) struct ServerSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) header_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_connections: usize,
}

/// `[token]`
#[derive(Debug)]
pub(crate) struct TokenSettings {
    pub(crate) cookie: Option<String>,
    pub(crate) external_url: Option<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) realm: Option<String>,
}

/// `[cache]`
#[derive(Debug)]
pub(crate) struct CacheSettings {
    pub(crate) warm_start_dir: Option<PathBuf>,
    pub(crate) verified_tokens_bytes: Option<usize>,
}

/// `[dpop]`
pub(crate) struct DpopChoice {
    pub(crate) nonce: bool,
    pub(crate) nonce_secret: Option<Vec<u8>>,
    pub(crate) max_proofs: Option<usize>,
}

/// What the gate does with a verdict.
#[derive(Debug)]
pub(crate) enum Mode {
    /// It tells a proxy: `[forward_auth]`. Without a dialect nothing is known of the request that the proxy asks about.
    ForwardAuth(Option<Dialect>),
    /// It is the proxy: `[proxy]`.
    Proxy(ProxySettings),
}

/// `[proxy]`
#[derive(Debug)]
pub(crate) struct ProxySettings {
    pub(crate) upstream: Authority,
    pub(crate) host: HostHeader,
    pub(crate) token: PassToken,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) body_timeout: Duration,
}

/// The `Host` that the upstream sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostHeader {
    /// The client's.
    Keep,
    /// The upstream's own.
    Upstream,
}

/// Whether the upstream sees the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassToken {
    Drop,
    Keep,
}

/// `[resource]`
#[derive(Debug)]
pub(crate) struct ResourceSettings {
    pub(crate) identifier: String,
    pub(crate) name: Option<String>,
    pub(crate) documentation: Option<String>,
}

/// Everything that is wrong with a configuration; never empty. Displays as one problem a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigErrors(Vec<Problem>);

impl Config {
    /// Reads the configuration, from `path` or from where the module's documentation says.
    pub(crate) fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let named = variables.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
        let named = named.map(|(_, value)| PathBuf::from(value));
        let path = path.or(named.as_deref()).unwrap_or(Path::new(DEFAULT_FILE));
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read {}: {error}; `keywheel-gate init` writes one", path.display());
            ConfigErrors(vec![Problem { place: Place::Unset, message }])
        })?;
        Self::read(path, &text, variables)
    }

    /// A configuration file that explains each setting.
    pub(crate) fn template() -> &'static str {
        include_str!("template.toml")
    }

    pub(crate) fn read(path: &Path, text: &str, variables: Vec<(String, String)>) -> Result<Self, ConfigErrors> {
        let mut report = Report::default();
        // A file with a syntax error is half a file: what it seems not to say would only mislead.
        let mut table = document::parse(path, text).map_err(ConfigErrors)?;
        let settings = variables.into_iter().filter(|(name, value)| is_setting(name, value));
        report.add(document::overlay(&mut table, PREFIX, settings));
        let config = report.read(table, read_config);
        let problems = report.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(problems)),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Debug for DpopChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopChoice").field("nonce", &self.nonce).field("max_proofs", &self.max_proofs).finish()
    }
}

/// The variables of this process that are UTF-8.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// What to log, from `KEYWHEEL_GATE_LOG`; needed before there is a configuration.
pub(crate) fn log_filter() -> Option<String> {
    environment().find_map(|(name, value)| (name == LOG_VARIABLE && !value.is_empty()).then_some(value))
}

/// Variables that Kubernetes makes for a service called `keywheel-gate` (`KEYWHEEL_GATE_SERVICE_HOST`,
/// `KEYWHEEL_GATE_PORT_8090_TCP_ADDR`) were written by nobody, so they are no mistake.
fn is_setting(name: &str, value: &str) -> bool {
    let is_link = name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol))
        || name.ends_with("_PORT") && value.contains("://");
    !is_link && name != CONFIG_VARIABLE && name != LOG_VARIABLE
}

/// Reads everything, whatever is wrong with parts of it; `None` only when a problem was noted.
fn read_config(root: &mut Section<'_>) -> Option<Config> {
    let case = root.parsed("path_case", |text| match text {
        "significant" => Ok(Case::Significant),
        "ignored" => Ok(Case::Ignored),
        _ => Err("expected significant or ignored"),
    });
    let case = case.unwrap_or_default();
    let unmatched = root.parsed("unmatched", |text| match text {
        "deny" => Ok(Unmatched::Deny),
        "token" => Ok(Unmatched::Token),
        _ => Err("expected deny or token"),
    });
    let server = root.table("server", read_server);
    let issuers = root.tables("issuer", issuer::read);
    if issuers.is_empty() {
        root.problem("issuer", "no [[issuer]] is there: whose tokens are good?");
    }
    let token = root.table("token", read_token);
    let cache = root.table("cache", read_cache);
    let dpop = root.table("dpop", read_dpop);
    let headers = root.table("headers", read_headers);
    let routes = read_routes(root, case);
    let mode = read_mode(root);
    let resource = if root.has("resource") { root.table("resource", read_resource) } else { None };
    if let Mode::ForwardAuth(None) = mode
        && (!routes.routes.is_empty() || token.cookie.is_some())
    {
        let why = if routes.routes.is_empty() { "[token] cookie needs" } else { "the [[route]] tables need" };
        let message = format!(
            "{why} the original method and path, which only the proxy knows: set forward_auth.proxy, \
             so that the gate knows where it puts them"
        );
        root.problem("forward_auth", message);
    }
    let unmatched = unmatched.unwrap_or(if routes.routes.is_empty() { Unmatched::Token } else { Unmatched::Deny });
    let issuers = issuers.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Config { server, issuers, token, cache, dpop, headers, mode, resource, routes, unmatched })
}

fn read_server(section: &mut Section<'_>) -> ServerSettings {
    let listen = section.parsed("listen", parse_address).unwrap_or(DEFAULT_LISTEN);
    let metrics_listen = section
        .parsed("metrics_listen", |text| if text.is_empty() { Ok(None) } else { parse_address(text).map(Some) })
        .unwrap_or(Some(DEFAULT_METRICS_LISTEN));
    if metrics_listen == Some(listen) && listen.port() != 0 {
        section.problem("metrics_listen", format!("{listen} is taken by server.listen"));
    }
    ServerSettings {
        listen,
        metrics_listen,
        trusted_proxies: section.list("trusted_proxies", Network::parse),
        header_timeout: section.duration("header_timeout", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
        drain_timeout: section.duration("drain_timeout", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
        max_connections: section.integer("max_connections", 1..=65_536).unwrap_or(4096) as usize,
    }
}

fn read_token(section: &mut Section<'_>) -> TokenSettings {
    let cookie = section.parsed("cookie", |name| {
        let is_token =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_token { Ok(name.to_owned()) } else { Err("expected a name of letters, digits, '-', '_' and '.'") }
    });
    let external_url = section.parsed("external_url", parse_origin);
    let allowed_origins = section.list("allowed_origins", parse_origin);
    let realm = section.parsed("realm", |text| {
        let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte));
        if is_plain { Ok(text.to_owned()) } else { Err("expected visible ASCII without quotes and backslashes") }
    });
    TokenSettings { cookie, external_url, allowed_origins, realm }
}

fn read_cache(section: &mut Section<'_>) -> CacheSettings {
    let warm_start_dir = section.parsed("warm_start_dir", |text| {
        let path = PathBuf::from(text);
        if path.is_dir() { Ok(path) } else { Err(format!("{text:?} is not a directory")) }
    });
    let bytes = section.integer("verified_tokens_bytes", 0..=1 << 30).unwrap_or(0) as usize;
    if (1..SMALLEST_CACHE).contains(&bytes) {
        section.problem("verified_tokens_bytes", format!("expected 0 for no cache, or at least {SMALLEST_CACHE}"));
    }
    CacheSettings { warm_start_dir, verified_tokens_bytes: (bytes > 0).then_some(bytes) }
}

fn read_dpop(section: &mut Section<'_>) -> DpopChoice {
    let nonce = section.boolean("nonce").unwrap_or(false);
    let nonce_secret = section.parsed("nonce_secret_file", |path| {
        let secret = std::fs::read(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let secret = secret.trim_ascii_end().to_vec();
        let (least, most) = (32, 4096);
        if (least..=most).contains(&secret.len()) {
            Ok(secret)
        } else {
            Err(format!("{path:?} has {} bytes; {least} to {most} are expected", secret.len()))
        }
    });
    if nonce_secret.is_some() && !nonce {
        section.problem("nonce_secret_file", "is of no use without nonce = true");
    }
    let max_proofs = section.integer("max_proofs", 1000..=10_000_000).map(|number| number as usize);
    DpopChoice { nonce, nonce_secret, max_proofs }
}

/// The keys are header names and the values claims. Without the table, the usual ones.
fn read_headers(section: &mut Section<'_>) -> IdentityHeaders {
    let pairs = section.pairs();
    if pairs.is_empty() {
        let default = |(name, claim): &(&'static str, &str)| {
            (HeaderName::from_static(name), Claim::parse(claim).expect("a name that is not empty"))
        };
        return IdentityHeaders::new(DEFAULT_HEADERS.iter().map(default).collect());
    }
    let mut headers = Vec::new();
    for (place, name, claim) in pairs {
        match (name.parse::<HeaderName>(), Claim::parse(&claim)) {
            (Ok(header), _) if !header.as_str().starts_with("x-") || is_reserved(header.as_str()) => {
                let message = format!("headers.{name}: expected a name that begins with X- and means nothing else");
                section.problem_at(place, message);
            }
            (Ok(header), Ok(_)) if headers.iter().any(|(other, _)| *other == header) => {
                section.problem_at(place, format!("headers.{name}: the same header is there in another case"));
            }
            (Ok(header), Ok(claim)) => headers.push((header, claim)),
            (Err(_), _) => section.problem_at(place, format!("headers.{name}: not the name of a header")),
            (_, Err(problem)) => section.problem_at(place, format!("headers.{name}: {problem}")),
        }
    }
    IdentityHeaders::new(headers)
}

/// Headers that proxies write for reasons of their own.
fn is_reserved(name: &str) -> bool {
    ["x-forwarded-", "x-original-", "x-real-ip", "x-rewrite-", "x-http-method"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn read_mode(root: &mut Section<'_>) -> Mode {
    if root.has("forward_auth") && root.has("proxy") {
        root.table("proxy", |section| drop(section.pairs()));
        root.problem("proxy", "cannot be set together with forward_auth: one gate asks or one gate is asked");
    } else if root.has("proxy") {
        let settings = root.table("proxy", read_proxy);
        // What is wrong with the upstream has been noted, so that nothing starts.
        return settings.map_or(Mode::ForwardAuth(Some(Dialect::Nginx)), Mode::Proxy);
    }
    Mode::ForwardAuth(root.table("forward_auth", |section| section.parsed("proxy", Dialect::parse)))
}

fn read_proxy(section: &mut Section<'_>) -> Option<ProxySettings> {
    let upstream = section.parsed("upstream", |text| {
        let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/");
        let plain = uri.filter(|uri| uri.query().is_none()).and_then(|uri| uri.authority().cloned());
        plain.filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| {
            format!("expected http:// with host and port and without a path, such as {EXAMPLE_UPSTREAM}")
        })
    });
    let host = section.parsed("host", |text| match text {
        "keep" => Ok(HostHeader::Keep),
        "upstream" => Ok(HostHeader::Upstream),
        _ => Err("expected keep or upstream"),
    });
    let token = if section.boolean("pass_token") == Some(true) { PassToken::Keep } else { PassToken::Drop };
    let connect_timeout = section.duration("connect_timeout", TIMEOUTS).unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let response_timeout = section.duration("response_timeout", LONG_TIMEOUTS).unwrap_or(DEFAULT_RESPONSE_TIMEOUT);
    let body_timeout = section.duration("body_timeout", LONG_TIMEOUTS).unwrap_or(DEFAULT_BODY_TIMEOUT);
    if upstream.is_none() && !section.has("upstream") {
        section.problem("upstream", format!("expected the service to guard, such as {EXAMPLE_UPSTREAM}"));
    }
    let host = host.unwrap_or(HostHeader::Keep);
    Some(ProxySettings { upstream: upstream?, host, token, connect_timeout, response_timeout, body_timeout })
}

fn read_resource(section: &mut Section<'_>) -> Option<ResourceSettings> {
    let identifier = section.text("identifier");
    if identifier.is_none() {
        section.problem("identifier", "expected the URL that clients know the guarded service by");
    }
    let (name, documentation) = (section.text("name"), section.text("documentation"));
    Some(ResourceSettings { identifier: identifier?, name, documentation })
}

fn read_routes(root: &mut Section<'_>, case: Case) -> Routes {
    let read = root.tables("route", |section| (section.place(), read_route(section, case)));
    let complete = read.iter().all(|(_, route)| route.is_some());
    let (places, routes): (Vec<_>, Vec<_>) =
        read.into_iter().filter_map(|(place, route)| Some((place, route?))).unzip();
    let routes = Routes { routes, case };
    // With one missing, the indices would be wrong.
    if complete && let Some((later, earlier)) = routes.shadowed() {
        let message = format!("route[{later}]: never decides, because route[{earlier}] fits everything that it fits");
        root.problem_at(places[later].clone(), message);
    }
    routes
}

fn read_route(section: &mut Section<'_>, case: Case) -> Option<Route> {
    let methods = section.list("methods", parse_method);
    let hosts = section.list("hosts", Host::parse);
    let path_is_there = section.has("path");
    let path = section.parsed("path", |text| Pattern::parse(text, case));
    if !path_is_there {
        section.problem("path", "expected a path such as /api/**");
    }
    let access = section.parsed("access", |text| match text {
        "public" => Ok(Access::Public),
        "optional" => Ok(Access::Optional),
        "token" => Ok(Access::Token),
        _ => Err("expected public, optional or token"),
    });
    let demands = Demands {
        scopes: section.list("scopes", parse_scope),
        any_scope: section.list("any_scope", parse_scope),
        roles: section.list("roles", parse_role),
        any_role: section.list("any_role", parse_role),
    };
    let access = access.unwrap_or(Access::Token);
    if access != Access::Token && demands != Demands::default() {
        section.problem("access", format!("{access} demands no token, so scopes and roles can't be demanded of it"));
    }
    Some(Route { methods, hosts, path: path?, access, demands })
}

/// RFC 6749 §3.3.
fn parse_scope(text: &str) -> Result<String, &'static str> {
    let is_scope = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'));
    if is_scope {
        Ok(text.to_owned())
    } else {
        Err("expected one scope: visible ASCII without spaces, quotes and backslashes")
    }
}

fn parse_role(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("expected the name of a role") } else { Ok(text.to_owned()) }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected an IP address and a port, such as {DEFAULT_LISTEN}, found {text:?}"))
}

/// RFC 6454 §6.2: scheme, host and port.
fn parse_origin(text: &str) -> Result<String, String> {
    let bad = || format!("expected a scheme and a host, such as https://app.example.com, found {text:?}");
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    let is_origin = is_web && uri.path() == "/" && uri.query().is_none() && !text.contains('@');
    if is_origin { Ok(text.trim_end_matches('/').to_owned()) } else { Err(bad()) }
}

const PREFIX: &str = "KEYWHEEL_GATE_";
const CONFIG_VARIABLE: &str = "KEYWHEEL_GATE_CONFIG";
const LOG_VARIABLE: &str = "KEYWHEEL_GATE_LOG";
/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "keywheel-gate.toml";

/// Loopback, because a gate is asked by a proxy on its own machine, and by nobody else unless somebody says so.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);
const DEFAULT_METRICS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9091);
const EXAMPLE_UPSTREAM: &str = "http://127.0.0.1:3000";

/// Who a request is from, what they may do, and how to tell people apart. A service that needs more says so.
const DEFAULT_HEADERS: &[(&str, &str)] = &[
    ("x-auth-issuer", "iss"),
    ("x-auth-subject", "sub"),
    ("x-auth-client", "client_id"),
    ("x-auth-scopes", "scope"),
    ("x-auth-roles", "roles"),
    ("x-auth-email", "email"),
];

/// The issuer's own: long for a header on a bad line, short for one that only means to hold a connection.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// The upstream is near; what does not answer a SYN twice is down.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// As common proxies have it.
const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
const LONG_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Room for some tokens in each shard.
const SMALLEST_CACHE: usize = 65_536;

#[cfg(test)]
mod tests;
