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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn what_may_change_something_needs_proof() {
        for (method, needs) in [
            ("GET", false),
            ("HEAD", false),
            ("OPTIONS", false),
            ("POST", true),
            ("PUT", true),
            ("PATCH", true),
            ("DELETE", true),
            ("TRACE", true),
            ("CONNECT", true),
            ("get", true),
            ("PURGE", true),
        ] {
            assert_eq!(needs_proof(&parts(method, &[])), needs, "{method}");
        }
    }

    #[test]
    fn so_does_opening_a_websocket() {
        for (upgrade, needs) in
            [("websocket", true), ("WebSocket", true), ("h2c, websocket", true), ("websocket/13", true), ("h2c", false)]
        {
            assert_eq!(needs_proof(&parts("GET", &[("upgrade", upgrade)])), needs, "{upgrade}");
        }
    }

    #[test]
    fn sec_fetch_site_decides_where_it_is_sent() {
        let own = ("origin", "https://api.example.com");
        for (site, proves) in
            [("same-origin", true), ("same-site", false), ("cross-site", false), ("none", false), ("", false)]
        {
            let parts = parts("POST", &[("sec-fetch-site", site), ("host", "api.example.com"), own]);
            assert_eq!(has_proof(&parts, None, &[]), proves, "{site}");
            assert_eq!(has_proof(&parts, Some("https://api.example.com"), &[]), proves, "{site}");
            assert!(has_proof(&parts, None, &["https://api.example.com".to_owned()]), "{site}");
        }
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert!(!has_proof(&parts("POST", &twice), None, &[]));
    }

    #[test]
    fn without_it_the_origin_has_to_be_ours() {
        for (host, origin, proves) in [
            ("api.example.com", "https://api.example.com", true),
            ("api.example.com:8443", "https://api.example.com:8443", true),
            ("api.example.com", "http://api.example.com", false),
            ("api.example.com", "https://api.example.com:8443", false),
            ("api.example.com", "https://evil.example", false),
            ("api.example.com", "null", false),
            ("api.example.com", "", false),
            ("localhost:8080", "http://localhost:8080", true),
            ("127.0.0.1", "http://127.0.0.1", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("localhost.evil.example", "http://localhost.evil.example", false),
        ] {
            let parts = parts("POST", &[("host", host), ("origin", origin)]);
            assert_eq!(has_proof(&parts, None, &[]), proves, "{host} {origin}");
        }
        assert!(!has_proof(&parts("POST", &[("host", "api.example.com")]), None, &[]));
        let twice = [("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://a.example")];
        assert!(!has_proof(&parts("POST", &twice), None, &[]));
        let two_hosts = [("host", "evil.example"), ("host", "a.example"), ("origin", "https://evil.example")];
        assert!(!has_proof(&parts("POST", &two_hosts), None, &[]));
    }
}
