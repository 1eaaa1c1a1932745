//! Forward authentication: which request the proxy asks about, read from where that proxy puts it.
//!
//! Where that is stands in the table of the crate's documentation. What is missing, there twice or not as it should be is
//! refused with 400. Nothing is guessed: a path that is taken for `/` because nobody said which it is would be judged by the
//! wrong rule. Headers by which some services would answer another request than the one that is judged are refused too.

use http::header::{HOST, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri};

use crate::path::{PathProblem, RequestPath, path_of_target};
use crate::routes::{Host, parse_method};

/// Where a proxy puts what it knows of the original request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// nginx `auth_request`.
    Nginx,
    /// The ingress controller of Kubernetes, `auth-url`.
    IngressNginx,
    /// HAProxy with the Lua script haproxy-auth-request.
    Haproxy,
    /// Apache httpd.
    Apache,
    /// Traefik `ForwardAuth`.
    Traefik,
    /// Caddy `forward_auth`.
    Caddy,
    /// Envoy `ext_authz` over HTTP.
    Envoy,
}

/// What the routes look at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: RequestPath,
    pub(crate) host: Option<Host>,
}

/// Why a request can't be judged: a 400. Says nothing of what the request contained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("the header {0} is missing, in which the proxy tells about the request")]
    Missing(HeaderName),
    #[error("the header {0} is there more than once")]
    Repeated(HeaderName),
    #[error("the header {0} does not say what it should")]
    Malformed(HeaderName),
    #[error("the host is missing or malformed")]
    Host,
    #[error("the method is malformed")]
    Method,
    #[error("{0}")]
    Path(#[from] PathProblem),
    #[error("the request target has a scheme and a host, which only requests to forward proxies have")]
    AbsoluteForm,
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    #[error("the header {0} would have the service answer another request than this one")]
    Override(HeaderName),
    #[error("there is a header that services may take for an identity header")]
    Imitation,
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(_, dialect)| dialect == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Dialect {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, dialect)| *dialect);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("expected one of {}, found {text:?}", names.join(", "))
        })
    }

    const ALL: [(&str, Self); 7] = [
        ("nginx", Self::Nginx),
        ("ingress-nginx", Self::IngressNginx),
        ("haproxy", Self::Haproxy),
        ("apache", Self::Apache),
        ("traefik", Self::Traefik),
        ("caddy", Self::Caddy),
        ("envoy", Self::Envoy),
    ];

    /// Reads the original request, and makes `parts` what the proxy received: its method, its path, its host.
    pub(crate) fn read(self, parts: &mut Parts) -> Result<Asked, BadRequest> {
        // HTTP/2 has the host in the URI. Envoy may speak it, and asks under the host of the request.
        if !parts.headers.contains_key(HOST)
            && let Some(authority) = parts.uri.authority()
        {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BadRequest::Host)?;
            parts.headers.insert(HOST, host);
        }
        let headers = &parts.headers;
        let (method, target, host) = match self {
            Self::Nginx | Self::Haproxy | Self::Apache => {
                (needed_method(headers, X_ORIGINAL_METHOD)?, needed(headers, X_ORIGINAL_URI)?, X_FORWARDED_HOST)
            }
            Self::Traefik | Self::Caddy => {
                (needed_method(headers, X_FORWARDED_METHOD)?, needed(headers, X_FORWARDED_URI)?, X_FORWARDED_HOST)
            }
            Self::IngressNginx => {
                let method = needed_method(headers, X_ORIGINAL_METHOD)?;
                let url = needed(headers, X_ORIGINAL_URL)?;
                let (host, target) = split_url(url).ok_or(BadRequest::Malformed(X_ORIGINAL_URL))?;
                let host = std::str::from_utf8(host).ok().and_then(|host| HeaderValue::from_str(host).ok());
                let (host, target) = (host.ok_or(BadRequest::Host)?, target.to_vec());
                parts.headers.insert(HOST, host);
                return finish(method, &target, HOST, parts);
            }
            Self::Envoy => {
                let method = parse_method(parts.method.as_str()).map_err(|_| BadRequest::Method)?;
                let asked = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
                let target = asked.strip_prefix(VERIFY).unwrap_or_default();
                (method, target.as_bytes(), HOST)
            }
        };
        let target = target.to_vec();
        finish(method, &target, host, parts)
    }

    /// Headers by which this proxy itself tells about the request.
    fn own(self) -> &'static [HeaderName] {
        match self {
            Self::IngressNginx => &PATH_OVERRIDES[..1],
            _ => &[],
        }
    }
}

/// Refuses headers by which a client could have the service answer another path or method than the one that is judged:
/// frameworks follow them as if a proxy had written them. `by_method` is whether any route looks at the method.
pub(crate) fn refuse_overrides(
    headers: &HeaderMap,
    dialect: Option<Dialect>,
    by_method: bool,
) -> Result<(), BadRequest> {
    let own = dialect.map_or(&[][..], Dialect::own);
    let path = PATH_OVERRIDES.iter().filter(|name| !own.contains(name));
    let method = METHOD_OVERRIDES.iter().filter(|_| by_method);
    for name in path.chain(method) {
        let folds_to_it = |other: &HeaderName| {
            other == name
                || other.as_str().len() == name.as_str().len() && other.as_str().replace('_', "-") == name.as_str()
        };
        if headers.keys().any(folds_to_it) {
            return Err(BadRequest::Override(name.clone()));
        }
    }
    Ok(())
}

/// The only line of a header.
pub(crate) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, BadRequest> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(BadRequest::Repeated(name.clone())),
        (line, None) => Ok(line.map(HeaderValue::as_bytes)),
    }
}

/// The host of a header, if it is there.
pub(crate) fn host_in(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Host>, BadRequest> {
    let parse = |line| std::str::from_utf8(line).ok().and_then(|text| Host::parse(text).ok()).ok_or(BadRequest::Host);
    only(headers, name)?.map(parse).transpose()
}

fn finish(method: Method, target: &[u8], host: HeaderName, parts: &mut Parts) -> Result<Asked, BadRequest> {
    let path = path_of_target(target)?;
    let raw = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    parts.uri = Uri::try_from(raw).map_err(|_| PathProblem::Character)?;
    parts.method = method.clone();
    let known = host_in(&parts.headers, &host)?;
    if host != HOST {
        // `Host` names us, the gate; what the client asked for stands elsewhere or nowhere.
        match parts.headers.get(&host).cloned() {
            Some(original) => parts.headers.insert(HOST, original),
            None => parts.headers.remove(HOST),
        };
    }
    Ok(Asked { method, path, host: known })
}

fn needed(headers: &HeaderMap, name: HeaderName) -> Result<&[u8], BadRequest> {
    only(headers, &name)?.filter(|line| !line.is_empty()).ok_or(BadRequest::Missing(name))
}

fn needed_method(headers: &HeaderMap, name: HeaderName) -> Result<Method, BadRequest> {
    let line = needed(headers, name.clone())?;
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| parse_method(text).ok()).ok_or(BadRequest::Malformed(name))
}

/// Host and target of a URL such as `https://app.example.com/path?query`.
fn split_url(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = url.strip_prefix(b"https://").or_else(|| url.strip_prefix(b"http://"))?;
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    Some(rest.split_at(slash))
}

/// Where proxies ask.
pub(crate) const VERIFY: &str = "/verify";

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");

/// Symfony, Zend, ASP.NET and others take the path from these.
static PATH_OVERRIDES: [HeaderName; 2] = [X_ORIGINAL_URL, HeaderName::from_static("x-rewrite-url")];
/// Rails, Laravel, Express and others take the method from these.
static METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn read(
        dialect: Dialect,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, String, Option<String>), BadRequest> {
        let mut parts = parts("GET", uri, headers);
        let asked = dialect.read(&mut parts)?;
        assert_eq!(parts.method, asked.method);
        let host = asked.host.map(|host| host.to_string());
        Ok((asked.method.to_string(), asked.path.to_string(), host))
    }

    fn found(method: &str, path: &str, host: Option<&str>) -> Result<(String, String, Option<String>), BadRequest> {
        Ok((method.to_owned(), path.to_owned(), host.map(str::to_owned)))
    }

    #[test]
    fn each_proxy_is_read_in_its_own_way() {
        let nginx = [
            ("host", "gate:8090"),
            ("x-original-method", "DELETE"),
            ("x-original-uri", "/api/a?b=/c"),
            ("x-forwarded-host", "app.example.com"),
        ];
        for dialect in [Dialect::Nginx, Dialect::Haproxy, Dialect::Apache] {
            assert_eq!(read(dialect, "/verify", &nginx), found("DELETE", "/api/a", Some("app.example.com")));
        }
        let traefik = [
            ("host", "gate:8090"),
            ("x-forwarded-method", "PUT"),
            ("x-forwarded-uri", "/api/a"),
            ("x-forwarded-host", "app.example.com:8443"),
        ];
        for dialect in [Dialect::Traefik, Dialect::Caddy] {
            assert_eq!(read(dialect, "/verify", &traefik), found("PUT", "/api/a", Some("app.example.com")));
        }
        let ingress = [("x-original-method", "GET"), ("x-original-url", "https://app.example.com/api/a?b")];
        assert_eq!(read(Dialect::IngressNginx, "/verify", &ingress), found("GET", "/api/a", Some("app.example.com")));
        let envoy = [("host", "app.example.com")];
        assert_eq!(read(Dialect::Envoy, "/verify/api/a?b", &envoy), found("GET", "/api/a", Some("app.example.com")));
        let http2 = "http://app.example.com/verify/api/a?b";
        assert_eq!(read(Dialect::Envoy, http2, &[]), found("GET", "/api/a", Some("app.example.com")));
    }

    #[test]
    fn a_request_that_is_not_told_about_is_not_guessed() {
        for dialect in [Dialect::Nginx, Dialect::Haproxy, Dialect::Apache, Dialect::IngressNginx] {
            let error = read(dialect, "/verify", &[]).expect_err("nothing was told");
            assert_eq!(error, BadRequest::Missing(X_ORIGINAL_METHOD));
        }
        for dialect in [Dialect::Traefik, Dialect::Caddy] {
            let error = read(dialect, "/verify", &[]).expect_err("nothing was told");
            assert_eq!(error, BadRequest::Missing(X_FORWARDED_METHOD));
        }
        for uri in ["/verify", "/verify?x", "/other"] {
            let error = read(Dialect::Envoy, uri, &[]).expect_err("no path was told");
            assert_eq!(error, BadRequest::Path(PathProblem::NotAbsolute), "{uri}");
        }
        let only_method = [("x-original-method", "GET")];
        assert_eq!(read(Dialect::Nginx, "/verify", &only_method), Err(BadRequest::Missing(X_ORIGINAL_URI)));
        let empty = [("x-original-method", "GET"), ("x-original-uri", "")];
        assert_eq!(read(Dialect::Nginx, "/verify", &empty), Err(BadRequest::Missing(X_ORIGINAL_URI)));
        // The headers of another proxy are those of a client.
        let foreign = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/public")];
        assert_eq!(read(Dialect::Nginx, "/verify", &foreign), Err(BadRequest::Missing(X_ORIGINAL_METHOD)));
    }

    #[test]
    fn what_is_told_twice_or_badly_is_refused() {
        let twice = [("x-original-method", "GET"), ("x-original-uri", "/a"), ("x-original-uri", "/b")];
        assert_eq!(read(Dialect::Nginx, "/verify", &twice), Err(BadRequest::Repeated(X_ORIGINAL_URI)));
        let small = [("x-original-method", "get"), ("x-original-uri", "/a")];
        assert_eq!(read(Dialect::Nginx, "/verify", &small), Err(BadRequest::Malformed(X_ORIGINAL_METHOD)));
        let hosts =
            [("x-original-method", "GET"), ("x-original-uri", "/a"), ("x-forwarded-host", "a.example, b.example")];
        assert_eq!(read(Dialect::Nginx, "/verify", &hosts), Err(BadRequest::Host));
        let absolute = [("x-original-method", "GET"), ("x-original-uri", "http://a/b")];
        assert_eq!(read(Dialect::Nginx, "/verify", &absolute), Err(BadRequest::Path(PathProblem::NotAbsolute)));
        for url in ["/a", "https://a.example", "ftp://a.example/b"] {
            let url = [("x-original-method", "GET"), ("x-original-url", url)];
            assert_eq!(read(Dialect::IngressNginx, "/verify", &url), Err(BadRequest::Malformed(X_ORIGINAL_URL)));
        }
    }

    #[test]
    fn the_host_of_the_gate_is_not_taken_for_that_of_the_request() {
        let headers = [("host", "gate:8090"), ("x-original-method", "GET"), ("x-original-uri", "/a")];
        let mut parts = parts("GET", "/verify", &headers);

        let asked = Dialect::Nginx.read(&mut parts).expect("a request");

        assert_eq!(asked.host, None);
        assert!(!parts.headers.contains_key(HOST));
    }

    #[test]
    fn headers_that_redirect_the_service_are_refused() {
        for name in ["x-original-url", "x-rewrite-url", "x_rewrite_url"] {
            let parts = parts("GET", "/", &[(name, "/admin")]);
            assert!(refuse_overrides(&parts.headers, Some(Dialect::Nginx), false).is_err(), "{name}");
        }
        for name in ["x-http-method-override", "x-http-method", "x-method-override", "x_http_method_override"] {
            let parts = parts("GET", "/", &[(name, "DELETE")]);
            assert!(refuse_overrides(&parts.headers, None, true).is_err(), "{name}");
            assert_eq!(refuse_overrides(&parts.headers, None, false), Ok(()), "{name}");
        }
        let own = parts("GET", "/", &[("x-original-url", "https://a.example/")]);
        assert_eq!(refuse_overrides(&own.headers, Some(Dialect::IngressNginx), true), Ok(()));
    }
}
