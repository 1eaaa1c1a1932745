//! Traces, as a collector receives them.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::collector::{Collector, Span};
use super::{ask, sample, scrape};
use crate::harness::{Issuer, Kept, Person, Settings, eventually};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const GRANT: &str = "grant_type=client_credentials";
const PASSWORD: &str = "violet-harbour-lantern-42";
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

fn root<'s>(trace: &'s [Span], name: &str) -> &'s Span {
    trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {trace:?}"))
}

/// An issuer that is behind a proxy on this machine, and traces to `collector`.
fn traced(collector: &str, more: &str) -> Issuer {
    let issuer = Issuer::new(Settings { server: "trusted_proxies = [\"127.0.0.1\"]", ..Settings::PLAIN });
    issuer.append_config(&format!(
        "[telemetry]\notlp_endpoint = \"{collector}\"\n{more}\n\
         [[user]]\nusername = \"alice\"\nemail = \"alice@example.com\"\npassword = \"{PASSWORD}\"\n"
    ));
    issuer
}

#[tokio::test]
async fn a_request_is_seen_with_its_steps_and_without_secrets() {
    let collector = Collector::serve().await;
    let issuer = traced(&collector.url(), "service_name = \"id\"\notlp_headers_file = \"otlp.headers\"");
    std::fs::write(issuer.path("otlp.headers"), "X-Key: the-key-of-the-collector\n").expect("writing the headers");
    let server = issuer.serve().await;

    let token = issuer.token(BILLING).await;
    let trace = collector.trace("POST /oauth2/token").await;
    let request = root(&trace, "POST /oauth2/token");
    assert_eq!((request.service.as_str(), request.kind, request.parent.as_str()), ("id", SERVER, ""));
    assert_eq!(request.attribute("http.route"), Some("/oauth2/token"));
    assert_eq!(request.attribute("http.response.status_code"), Some("200"));
    assert_eq!(request.attribute("client.id"), Some("billing"));
    let signature = root(&trace, "sign");
    assert_eq!((&signature.parent, signature.attribute("key.alg")), (&request.id, Some("ES256")));
    assert!(request.from_ns <= signature.from_ns && signature.until_ns <= request.until_ns, "{trace:?}");
    assert!(request.from_ns > 1_700_000_000_000_000_000 && request.until_ns > request.from_ns, "{request:?}");

    let mut alice = Person::new(&issuer, "alice", PASSWORD);
    alice.sign_in().await;
    let trace = collector.trace("POST /login").await;
    let request = root(&trace, "POST /login");
    root(&trace, "hash a password");
    let operations: Vec<_> = trace.iter().filter_map(|span| span.attribute("db.operation.name")).collect();
    assert!(operations.len() >= 2, "a sign-in is stored: {trace:?}");
    assert!(trace.iter().all(|span| span.trace == request.trace && span.status == 0), "{trace:?}");

    assert_eq!(collector.header("content-type"), "application/x-protobuf");
    assert_eq!(collector.header("x-key"), "the-key-of-the-collector");
    assert_eq!(server.stop().await.code, Some(0));
    let sent = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for secret in [PASSWORD, Settings::SECRET, "alice", &token, alice.cookie("keywheel-session").expect("a session")] {
        assert!(!sent.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_trace_goes_on_from_a_proxy_of_ours_and_to_whom_we_call() {
    let collector = Collector::serve().await;
    let (told, mut telling) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hook = listener.local_addr().expect("an address");
    let take = move |headers: HeaderMap| std::future::ready(told.send(headers).map_or("", |()| "told"));
    let router = Router::new().route("/hook", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let issuer = traced(&collector.url(), "sample_ratio = 0");
    issuer.append_config(&format!(
        "[outgoing]\nallow_private = true\n[hooks]\nurl = \"http://{hook}/hook\"\n\
         secret = \"a-secret-of-the-hook-0123456789abcdef\"\n"
    ));
    let server = issuer.serve().await;
    let jwks = issuer.jwks_uri();

    let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    ask(&jwks, &[("traceparent", "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00")]).await;
    ask(&jwks, &[]).await;
    ask(&jwks, &[("traceparent", sampled)]).await;
    let trace = collector.trace("GET /.well-known/jwks.json").await;
    let [span] = &trace[..] else { panic!("one span: {trace:?}") };
    assert_eq!((span.trace.as_str(), span.parent.as_str()), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
    assert_eq!(server.stop().await.code, Some(0));
    assert_eq!(collector.spans().len(), 1, "what was not sampled was not sent");

    issuer.edit_config("sample_ratio = 0", "sample_ratio = 1");
    issuer.edit_config("trusted_proxies = [\"127.0.0.1\"]", "");
    let _running = issuer.serve().await;
    ask(&jwks, &[("traceparent", "00-00000000000000000000000000c0ffee-b7ad6b7169203331-01")]).await;
    let mut mistaken = Person::new(&issuer, "alice", "a-wrong-password");
    mistaken.go(&issuer.at("/login")).await;
    let headers = tokio::time::timeout(Duration::from_secs(30), telling.recv()).await;
    let headers = headers.expect("in time").expect("the hook is told");
    let traceparent = headers["traceparent"].to_str().expect("visible").to_owned();
    let trace = collector.trace("tell the hook").await;
    let call = root(&trace, "http request");
    assert_eq!(traceparent, format!("00-{}-{}-01", call.trace, call.id));
    assert_eq!((call.kind, call.attribute("server.address")), (CLIENT, Some("127.0.0.1")));
    assert!(!collector.spans().iter().any(|span| span.trace.ends_with("c0ffee")), "strangers are not followed");
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_gone_slows_nobody_down() {
    // It takes connections and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let issuer = traced(&format!("http://{}", silent.local_addr().expect("an address")), "");
    issuer.append_config("[log]\nlevel = \"warn\"\n");
    let server = issuer.serve().await;
    let kept = Kept::new();
    let (url, requests) = (issuer.at("/.well-known/openid-configuration"), 2_000);
    let get = async || {
        let request = http::Request::get(&url).body(http_body_util::Full::default()).expect("a request");
        kept.send(request).await.expect("a response").status
    };
    for _ in 0..500 {
        get().await;
    }
    let (memory, began) = (server.resident_kib(), Instant::now());

    for _ in 0..requests {
        assert_eq!(get().await, 200);
    }

    let (took, grown) = (began.elapsed(), server.resident_kib().saturating_sub(memory));
    // Did each wait for the collector, it would be hours.
    assert!(took < Duration::from_secs(300), "{requests} requests took {took:?}");
    assert!(grown < 16 * 1024, "{grown} KiB more for {requests} requests");
    eventually("traces are dropped and counted", Duration::from_secs(20), async || {
        sample(&scrape(&issuer).await, "keywheel_traces_total{outcome=\"dropped\"}").filter(|dropped| *dropped > 0.0)
    })
    .await;
    let log = server.stop().await.stderr;
    assert_eq!(log.lines().filter(|line| line.contains("the collector does not take traces")).count(), 1, "{log}");

    // Nobody listens at the port any more.
    drop(silent);
    let _running = issuer.serve().await;
    assert_eq!(issuer.token_reply(GRANT, BILLING).await.status, 200);
    assert_eq!(issuer.jwks().await["keys"].as_array().map(Vec::is_empty), Some(false));
}
