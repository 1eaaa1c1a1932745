//! Requests that try to reach `/admin` without the role: odd paths, odd request lines, headers that contradict them. Proxies
//! differ in what they do with each. What counts is that none of it reaches the service as anything that may mean `/admin`.

use super::service::fold;

/// What frameworks take another path or method from.
pub(super) const OVERRIDES: [&str; 5] =
    ["x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override"];

/// Every odd request, byte by byte, with what it tries. The token is good, but for no role.
pub(super) fn requests(token: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for target in TARGETS {
        all.push((format!("the target {target:?}"), request(&format!("GET {target} HTTP/1.1"), token, "")));
    }
    for line in LINES {
        all.push((format!("the line {line:?}"), request(line, token, "")));
    }
    for headers in HEADERS {
        for target in ["/admin", "/public/logo", "/invoices/7"] {
            let request = request(&format!("GET {target} HTTP/1.1"), token, &format!("{headers}\r\n"));
            all.push((format!("{headers:?} at {target}"), request));
        }
    }
    for kib in [4, 8, 12, 14, 15, 16, 17, 24, 40, 100] {
        let request = request("GET /admin HTTP/1.1", &token.repeat(kib * 1024 / token.len()), "");
        all.push((format!("a token of {kib} KiB"), request));
    }
    for (lengths, body) in SMUGGLING {
        let request = request("POST /invoices/7 HTTP/1.1", token, &format!("{lengths}\r\n"));
        all.push((format!("a body with {lengths:?}"), [&request[..], body.as_bytes()].concat()));
    }
    all
}

/// Whether any service could take a request target for `/admin`: read as generously as can be.
pub(super) fn may_mean_admin(target: &str) -> bool {
    let mut text = target.to_ascii_lowercase();
    for _ in 0..3 {
        for (written, meant) in [("%2f", "/"), ("%5c", "/"), ("\\", "/"), ("%2e", "."), ("%61", "a"), ("%25", "%")] {
            text = text.replace(written, meant);
        }
    }
    fold(&text).contains("ADMIN")
}

/// Well-formed but for its oddity, and the last of its connection.
fn request(line: &str, token: &str, headers: &str) -> Vec<u8> {
    let host = if headers.to_ascii_lowercase().contains("host: ") { "" } else { "Host: api.example.com\r\n" };
    format!("{line}\r\n{host}Authorization: Bearer {token}\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}

const TARGETS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/users",
    "//admin",
    "///admin",
    "/./admin",
    "/admin/.",
    "/public/../admin",
    "/public/./../admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2E%2Fadmin",
    "/public/..%2fadmin",
    "/admin/..%2f",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public/..;/admin",
    "/public/..%3b/admin",
    "/public/%252e%252e/admin",
    "/public/..%c0%afadmin",
    "/public//../admin",
    "/public%2f..%2fadmin",
    "/%61dmin",
    "/%41dmin",
    "/%2561dmin",
    "/admin;x",
    "/admin;x=y/users",
    "/admin%3bx",
    "/ADMIN",
    "/Admin/users",
    "/admin%00",
    "/public/%00/../admin",
    "/admin%20",
    "/admin%0d%0aX-Auth-Roles:%20admin",
    "/admin%23",
    "/admin%3f",
    "/admin#/public",
    "/public#/../admin",
    "/admin?/public",
    "/%2fadmin",
    "/%5cadmin",
    "http://api.example.com/invoices/7",
    "http://elsewhere.example/invoices/7",
    "http://api.example.com/admin",
    "http://api.example.com//admin",
    "http://api.example.com/public/../admin",
    "http://elsewhere.example/admin",
    "https://api.example.com/admin",
    "//api.example.com/admin",
    "api.example.com/admin",
    "admin",
    "\\admin",
    "/\tadmin",
    "/_keywheel_gate",
    "/verify",
    "/verify/public",
    "*",
];

const LINES: &[&str] = &[
    "get /admin HTTP/1.1",
    "Get /public/../admin HTTP/1.1",
    "GET  /admin HTTP/1.1",
    "GET /public/logo /admin HTTP/1.1",
    "GET\t/admin\tHTTP/1.1",
    " GET /admin HTTP/1.1",
    "GET /admin HTTP/1.0",
    "GET /admin HTTP/0.9",
    "GET /admin",
    "GET /admin HTTP/2.0",
    "POST /admin HTTP/1.1",
    "DELETE /admin/users HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "OPTIONS /admin HTTP/1.1",
    "HEAD /admin HTTP/1.1",
    "TRACE /admin HTTP/1.1",
    "CONNECT api.example.com:443 HTTP/1.1",
    "CONNECT /admin HTTP/1.1",
    "PROPFIND /admin HTTP/1.1",
    "G\0T /admin HTTP/1.1",
];

const HEADERS: &[&str] = &[
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "X_Rewrite_Url: /admin",
    "X-Original-URI: /public/logo",
    "X-Original-URI: /public/logo\r\nX-Original-URI: /public/logo",
    "X-Original-Method: OPTIONS",
    "X-Forwarded-Uri: /public/logo",
    "X-Forwarded-Uri: /public/logo\r\nX-Forwarded-Method: GET",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Prefix: /public",
    "X-Forwarded-Host: public.example",
    "X-HTTP-Method-Override: DELETE",
    "X-Http-Method: DELETE",
    "X-Method-Override: DELETE",
    "Connection: Authorization",
    "Connection: X-Original-URI, X-Original-Method, X-Forwarded-Uri",
    "Connection: Host, Upgrade",
    "Host: api.example.com\r\nHost: public.example",
    "Host: a b",
    "Host: api.example.com/admin?",
    "Host:",
];

/// A second request, hidden in what the two sides may take for the body or for what follows it.
const SMUGGLING: &[(&str, &str)] = &[
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Transfer-Encoding: xchunked", "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Content-Length: 0\r\nContent-Length: 40", "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Content-Length: 0", "GET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
];
