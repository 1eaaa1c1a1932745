//! Step 2: a browser sends a cookie with every request to us, whoever's page made it, so a cookie alone proves nothing
//! about who wanted the request.
//!
//! The rule. A request whose token came in a cookie has to prove that one of our own pages made it if
//! - its method may change something: anything but `GET`, `HEAD` and `OPTIONS` (RFC 9110 §9.2.1 calls `TRACE` safe too,
//!   but no page can send it), or
//! - it opens a WebSocket, which begins as a `GET`, is not held back by CORS, and lets the page read and write as the user.
//!
//! The proof, in order:
//! 1. `Origin` is one of the origins that were allowed by name;
//! 2. `Sec-Fetch-Site` is `same-origin`. A page can't set it. `same-site` is not enough, because a neighbouring subdomain
//!    may be somebody else's, and `none` (typed into the address bar) does not occur with these requests;
//! 3. a browser too old to send `Sec-Fetch-Site` sends an `Origin` that is our own. Ours is that of the configured external
//!    URL, or else `https://` and the `Host` of the request (`http://` on loopback only): a page can't choose the `Host`.
//!
//! Anything else is refused, requests without either header among them: what is not a browser can use the
//! `Authorization` header.

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method};

use super::request::only_line;

/// Whether a request with a token in a cookie has to prove where it comes from.
pub(super) fn needs_proof(parts: &Parts) -> bool {
    !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) || opens_websocket(&parts.headers)
}

/// Whether it does. `own` is our configured origin.
pub(super) fn has_proof(parts: &Parts, own: Option<&str>, allowed: &[String]) -> bool {
    let line = |name| only_line(&parts.headers, name).map(|line| line.map(HeaderValue::as_bytes));
    let (Ok(origin), Ok(site)) = (line(ORIGIN), line(SEC_FETCH_SITE)) else { return false };
    let is_origin = |known: &str| origin.is_some_and(|origin| origin.eq_ignore_ascii_case(known.as_bytes()));
    if allowed.iter().any(|allowed| is_origin(allowed)) {
        return true;
    }
    match (site, own) {
        (Some(site), _) => site == b"same-origin",
        (None, Some(own)) => is_origin(own),
        (None, None) => host(parts).is_some_and(|host| {
            is_origin(&format!("https://{host}")) || (is_loopback(host) && is_origin(&format!("http://{host}")))
        }),
    }
}

fn opens_websocket(headers: &HeaderMap) -> bool {
    let names_it = |line: &[u8]| line.split(|byte| *byte == b',').any(is_websocket);
    headers.get_all(UPGRADE).iter().any(|line| names_it(line.as_bytes()))
}

/// An upgrade may have a version: `websocket/13` (RFC 9110 §7.8).
fn is_websocket(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// HTTP/1.1 has it in the header, HTTP/2 in the URI.
fn host(parts: &Parts) -> Option<&str> {
    let header = only_line(&parts.headers, HOST).ok()?.and_then(|host| host.to_str().ok());
    header.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
