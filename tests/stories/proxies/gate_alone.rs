//! Traefik and Envoy, which Debian does not have: their recipes can't be run here, but the gate is asked as they ask it.

use std::time::Duration;

use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request};
use http_body_util::Full;
use rustix::process::Signal;

use super::product::asked_by;
use super::recipe::identity_headers;
use super::stack::{BILLING, gate_toml};
use crate::harness::{Gate, Issuer, Reply, Settings, claims, eventually, send};

/// How a proxy words its question about a request.
type Ask = fn(gate: &str, method: &str, path: &str) -> http::request::Builder;

/// Always with GET; the request is told about in headers.
fn as_traefik(gate: &str, method: &str, path: &str) -> http::request::Builder {
    Request::get(format!("{gate}/verify"))
        .header("X-Forwarded-Method", method)
        .header("X-Forwarded-Proto", "http")
        .header("X-Forwarded-Host", "api.example.com")
        .header("X-Forwarded-Uri", path)
        .header("X-Forwarded-For", "192.0.2.7")
        .header("Accept-Encoding", "gzip")
}

/// With the request's own method, path and host, and no body whatever there was.
fn as_envoy(gate: &str, method: &str, path: &str) -> http::request::Builder {
    let method: Method = method.parse().expect("a method");
    let request = Request::builder().method(method).uri(format!("{gate}/verify{path}"));
    request.header(HOST, "api.example.com").header("x-envoy-internal", "true").header("x-forwarded-for", "192.0.2.7")
}

#[tokio::test]
async fn a_hangup_ends_no_gate() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _issuing = issuer.serve().await;
    let config = asked_by("traefik", &gate_toml());
    let gate = Gate::with_settings(&config, &[("ISSUER__0__URL", &issuer.url())]).await;

    gate.signal(Signal::HUP);

    eventually("the gate says what it did", Duration::from_secs(10), async || {
        gate.log().contains("SIGHUP: there is nothing to read again").then_some(())
    })
    .await;
    let request = as_traefik(&format!("http://{}", gate.listen), "GET", "/invoices/7").body(Full::default());
    assert_eq!(send(request.expect("a request")).await.expect("an answer").status, 401);
}

#[tokio::test]
async fn traefik_is_answered() {
    answers("traefik", as_traefik).await;
}

#[tokio::test]
async fn envoy_is_answered() {
    answers("envoy", as_envoy).await;
}

async fn answers(product: &str, ask: Ask) {
    let issuer = Issuer::new(Settings::PLAIN);
    let _issuing = issuer.serve().await;
    let url = issuer.url();
    let running = Gate::with_settings(&asked_by(product, &gate_toml()), &[("ISSUER__0__URL", &url)]).await;
    let gate = format!("http://{}", running.listen);
    let token = issuer.token(BILLING).await;
    let about = async |method: &str, path: &str, headers: &[(&str, &str)]| -> Reply {
        let request =
            headers.iter().fold(ask(&gate, method, path), |request, (name, value)| request.header(*name, *value));
        send(request.body(Full::default()).expect("a request")).await.expect("an answer")
    };
    let bearer = format!("Bearer {token}");
    let authorization = (AUTHORIZATION.as_str(), &bearer[..]);

    let claims = claims(&token);
    let passed = about("POST", "/invoices/7?a=%2F", &[authorization, ("X-Auth-Roles", "admin")]).await;
    assert_eq!(passed.status, 200, "{passed:?}");
    for (name, claim) in identity_headers(&gate_toml()) {
        assert!(passed.headers.contains_key(&name), "{name} does not overwrite what a client sends");
        assert_eq!(passed.header(&name), claims[&claim].as_str().expect("a claim of every token"), "{name}");
    }
    let public = about("GET", "/public/logo", &[authorization]).await;
    assert_eq!((public.status.as_u16(), public.header("x-auth-subject")), (200, ""));
    assert!(public.headers.contains_key("x-auth-subject"));

    for (method, path, headers, status) in [
        ("GET", "/invoices/7", &[][..], 401),
        ("GET", "/admin", &[authorization], 403),
        ("GET", "/elsewhere", &[authorization], 403),
        ("GET", "/public/../admin", &[authorization], 400),
        ("GET", "//admin", &[authorization], 400),
        ("GET", "/%61dmin", &[authorization], 400),
        ("GET", "/admin;x", &[authorization], 400),
        ("GET", "/ADMIN", &[authorization], 403),
        ("GET", "/public/logo", &[("x_auth_subject", "mallory")], 400),
        ("GET", "/public/logo", &[("X-Rewrite-URL", "/admin")], 400),
    ] {
        let refused = about(method, path, headers).await;
        assert_eq!(refused.status, status, "{method} {path}: {refused:?}");
        assert_eq!(
            refused.header("www-authenticate").is_empty(),
            path == "/elsewhere" || path == "/ADMIN" || status == 400
        );
    }
}
