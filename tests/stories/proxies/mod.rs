//! The recipes of `deploy/gate`, each run by the proxy that it is for: a real issuer, a real gate, and a service that writes
//! down what reaches it. The same stories for all of them.

mod gate_alone;
mod product;
mod recipe;
mod service;
mod stack;
mod tricks;
mod websocket;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use tokio::task::JoinSet;

use crate::harness::{Reply, Settings, claims, eventually, kid, send, send_raw, send_with_prior_knowledge};
use product::{Apache, Caddy, FailingHaproxy, Haproxy, Nginx, Product};
use service::Service;
use stack::{BILLING, Proxy, Stack, gate_toml};

/// Each product has the stories in a module of its name.
macro_rules! stories_of {
    ($($module:ident: $product:ty,)*) => {$(
        mod $module {
            use super::*;

            #[tokio::test]
            async fn the_service_learns_who_it_is_from_the_gate_only() {
                super::the_service_learns_who_it_is_from_the_gate_only::<$product>().await;
            }

            #[tokio::test]
            async fn refusals_reach_the_client_as_the_gate_gave_them() {
                super::refusals_reach_the_client_as_the_gate_gave_them::<$product>().await;
            }

            #[tokio::test]
            async fn no_odd_request_reaches_what_it_may_not() {
                super::no_odd_request_reaches_what_it_may_not::<$product>().await;
            }

            #[tokio::test]
            async fn what_passes_arrives_whole() {
                super::what_passes_arrives_whole::<$product>().await;
            }

            #[tokio::test]
            async fn without_the_gate_nobody_passes() {
                super::without_the_gate_nobody_passes::<$product>().await;
            }

            #[tokio::test]
            async fn a_rotation_under_load_refuses_nobody() {
                super::a_rotation_under_load_refuses_nobody::<$product>().await;
            }

            #[tokio::test]
            async fn a_lost_issuer_is_no_fault_of_the_token() {
                super::a_lost_issuer_is_no_fault_of_the_token::<$product>().await;
            }
        }
    )*};
}

stories_of! {
    nginx: Nginx,
    haproxy: Haproxy,
    caddy: Caddy,
    apache: Apache,
}

/// Longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(60);

async fn the_service_learns_who_it_is_from_the_gate_only<P: Product>() {
    let stack = Stack::serve::<P>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;
    let claims = claims(&token);
    let forged = "X-Auth-Subject: mallory\r\nX-AUTH-ROLES: admin\r\nx-auth-roles: root\r\nX-Auth-Email: m@example.com\r\n\
                  X-Auth-Issuer: https://mallory.example\r\nConnection: close, X-Auth-Subject, X-Auth-Client\r\n";
    let target = "/invoices/caf%c3%A9%20+@,/?a=b%2Fc//../;%61";
    let signed = format!("GET {target} HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n");
    let public = "GET /public/logo HTTP/1.1\r\nHost: api.example.com\r\n";

    let reply = stack.raw(&format!("{signed}{forged}\r\n")).await;
    assert_eq!(reply.status(), Some(200), "{}", reply.text);
    let seen = stack.service.only_request();
    assert_eq!(seen.target, target);
    assert_eq!(seen.headers[header::HOST], "api.example.com");
    assert!(!seen.headers.contains_key(header::AUTHORIZATION), "{:?}", seen.headers);
    for (name, claim) in recipe::identity_headers(&gate_toml()) {
        let expected = claims[&claim].as_str().expect("a claim of every token");
        assert_eq!(seen.identity(&name), expected.replace(',', "%2C"), "{name}: {:?}", seen.headers);
    }
    let connection = seen.headers.get_all(header::CONNECTION).iter().map(|line| line.to_str().expect("visible ASCII"));
    assert!(!connection.collect::<String>().to_lowercase().contains("x-auth"), "{:?}", seen.headers);

    let reply = stack.raw(&format!("{public}{forged}\r\n")).await;
    assert_eq!(reply.status(), Some(200), "{}", reply.text);
    let seen = stack.service.only_request();
    for (name, _) in recipe::identity_headers(&gate_toml()) {
        assert_eq!(seen.identity(&name), "", "{name}: {:?}", seen.headers);
    }

    // Refused or removed, either is right.
    for (name, _) in recipe::identity_headers(&gate_toml()) {
        for (request, spelling) in
            [&signed[..], public].into_iter().zip([name.replace('-', "_"), name.replacen('-', "_", 1)])
        {
            let reply = stack.raw(&format!("{request}{spelling}: mallory\r\nConnection: close\r\n\r\n")).await;
            assert!(matches!(reply.status(), Some(200 | 400)), "{spelling}: {}", reply.text);
            for seen in stack.service.take() {
                let forged = |value: &http::HeaderValue| value.as_bytes() == b"mallory";
                assert!(!seen.headers.values().any(forged), "{spelling}: {:?}", seen.headers);
            }
        }
    }
}

async fn refusals_reach_the_client_as_the_gate_gave_them<P: Product>() {
    let stack = Stack::serve::<P>(Settings::PLAIN, &[]).await;
    let reading = stack.issuer.token_reply("grant_type=client_credentials&scope=invoices%3Aread", BILLING).await.json();
    let reading = reading["access_token"].as_str().expect("an access token");
    let forged = format!("{}AAAA", &reading[..reading.len() - 4]);

    for (what, method, path, tokens, status, challenge) in [
        ("no token", Method::GET, "/invoices/7", &[][..], 401, r#"Bearer realm="api""#),
        (
            "a bad token",
            Method::GET,
            "/invoices/7",
            &[&forged[..]],
            401,
            r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#,
        ),
        (
            "a missing scope",
            Method::POST,
            "/invoices/7",
            &[reading],
            403,
            r#"Bearer realm="api", error="insufficient_scope", error_description="the access token lacks a scope", scope="invoices:write""#,
        ),
        (
            "a missing role",
            Method::GET,
            "/admin/users",
            &[reading],
            403,
            r#"Bearer realm="api", error="insufficient_scope", error_description="the user lacks a role""#,
        ),
        ("no such route", Method::GET, "/elsewhere", &[reading], 403, ""),
        ("two tokens", Method::GET, "/invoices/7", &[reading, reading], 400, "any"),
        ("HEAD without a token", Method::HEAD, "/invoices/7", &[], 401, r#"Bearer realm="api""#),
    ] {
        let mut request = Request::builder().method(method).uri(stack.at(path));
        for token in tokens {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let reply = send(request.body(Full::default()).expect("a request")).await.expect(what);

        assert_eq!(reply.status, status, "{what}: {reply:?}\n{}", stack.logs());
        if challenge != "any" {
            assert_eq!(reply.header("www-authenticate"), challenge, "{what}");
            assert!(reply.headers.get_all(header::WWW_AUTHENTICATE).iter().count() <= 1, "{what}: {reply:?}");
        }
        assert!(stack.service.take().is_empty(), "{what} reached the service");
    }
}

async fn no_odd_request_reaches_what_it_may_not<P: Product>() {
    let stack = Stack::serve::<P>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;

    for (what, request) in tricks::requests(&token) {
        let reply = send_raw(stack.listen, &[&request], Duration::ZERO).await;

        // 501 and 505 are about the request too. nginx ends some connections without a word.
        let is_about_the_request = |status| matches!(status, 200 | 400..=499 | 501 | 505);
        assert!(reply.status().is_none_or(is_about_the_request), "{what}: {}", reply.text);
        for seen in stack.service.take() {
            assert!(seen.target.starts_with('/'), "{what} reached {}", seen.target);
            assert!(!tricks::may_mean_admin(&seen.target), "{what} reached {} with {:?}", seen.target, seen.headers);
            let may_turn_into_another = |name| seen.headers.contains_key(name);
            assert!(!tricks::OVERRIDES.into_iter().any(may_turn_into_another), "{what}: {:?}", seen.headers);
        }
    }
    // The service is still there, and so are gate and proxy.
    let reply = stack.get("/invoices/7", &token).await;
    assert_eq!(reply.status, 200, "{reply:?}\n{}", stack.logs());
}

async fn what_passes_arrives_whole<P: Product>() {
    let stack = Stack::serve::<P>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;
    let bearer = format!("Bearer {token}");
    let request = |method: Method| {
        Request::builder().method(method).uri(stack.at("/invoices/7")).header(header::AUTHORIZATION, &bearer)
    };

    let large: Bytes = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect::<Vec<_>>().into();
    for body in [Bytes::from_static(b"paid=yes"), large] {
        let sent = request(Method::POST).body(Full::new(body.clone())).expect("a request");
        let reply = send(sent).await.expect("an answer");
        assert_eq!(reply.status, 200, "{reply:?}\n{}", stack.logs());
        assert_eq!(reply.text(), service::ANSWER);
        let seen = stack.service.only_request();
        assert_eq!(seen.method, Method::POST);
        assert!(seen.body == body, "{} of {} bytes", seen.body.len(), body.len());
    }

    let head = format!(
        "PUT /invoices/7 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: {bearer}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let pieces: [&[u8]; 4] = [head.as_bytes(), b"5\r\npaid=\r\n", b"3\r\nyes\r\n", b"0\r\n\r\n"];
    let reply = send_raw(stack.listen, &pieces, Duration::from_millis(5)).await;
    assert_eq!(reply.status(), Some(200), "{}", reply.text);
    assert_eq!(stack.service.only_request().body, "paid=yes");

    let reply = send(request(Method::HEAD).body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (200, ""));
    assert_eq!(stack.service.only_request().method, Method::HEAD);

    websocket::assert_echo(stack.listen, &bearer).await;
    let seen = stack.service.only_request();
    assert_eq!(seen.identity("X-Auth-Subject"), claims(&token)["sub"], "{:?}", seen.headers);
    websocket::assert_refused(stack.listen).await;
    assert!(stack.service.take().is_empty(), "a WebSocket without a token reached the service");
}

async fn without_the_gate_nobody_passes<P: Product>() {
    let mut stack = Stack::serve::<P>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;
    // Connections to the gate are open, and break.
    assert_eq!(stack.get("/invoices/7", &token).await.status, 200, "{}", stack.logs());
    stack.service.take();

    stack.lose_gate().await;

    // At once: HAProxy tries again, for 3 s.
    let (guarded, public) = tokio::join!(stack.get("/invoices/7", &token), stack.get("/public/logo", &token));
    for reply in [guarded, public] {
        assert!(matches!(reply.status.as_u16(), 502 | 503), "{reply:?}\n{}", stack.logs());
    }
    assert!(stack.service.take().is_empty(), "a request that nobody judged reached the service");
}

#[tokio::test]
async fn nginx_tells_the_gate_of_the_request_and_not_of_its_body() {
    the_gate_is_told_of_the_request_and_not_of_its_body::<Nginx>().await;
}

#[tokio::test]
async fn haproxy_tells_the_gate_of_the_request_and_not_of_its_body() {
    the_gate_is_told_of_the_request_and_not_of_its_body::<Haproxy>().await;
}

#[tokio::test]
async fn caddy_tells_the_gate_of_the_request_and_not_of_its_body() {
    the_gate_is_told_of_the_request_and_not_of_its_body::<Caddy>().await;
}

/// With something in the place of the gate that lets everybody pass, and remembers what it was asked.
async fn the_gate_is_told_of_the_request_and_not_of_its_body<P: Product>() {
    let (gate, service) = (Service::answering("").await, Service::serve().await);
    let proxy = Proxy::serve::<P>(gate.listen, service.listen).await;
    let asked_by_the_client = P::TOLD_IN.map(|name| format!("{name}: /public\r\n{name}: OPTIONS\r\n")).concat();
    let request = format!(
        "POST /invoices/7?a=%2F HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer x\r\nDPoP: y\r\n\
         Cookie: z\r\nContent-Length: 8\r\nConnection: close\r\n{asked_by_the_client}\r\npaid=yes"
    );

    for _ in 0..8 {
        let reply = send_raw(proxy.listen, &[request.as_bytes()], Duration::ZERO).await;

        assert_eq!(reply.status(), Some(200), "{}", reply.text);
        assert_eq!(service.only_request().body, "paid=yes");
        let asked = gate.only_request();
        // Caddy leaves the query there.
        let path = asked.target.split('?').next();
        assert_eq!((&asked.method, path, &asked.body[..]), (&Method::GET, Some("/verify"), &b""[..]));
        for (name, value) in P::TOLD_IN.into_iter().zip(["POST", "/invoices/7?a=%2F", "api.example.com"]) {
            let lines: Vec<_> = asked.headers.get_all(name).iter().collect();
            assert_eq!(lines, [value], "{name}");
        }
        for (name, value) in [("authorization", "Bearer x"), ("dpop", "y"), ("cookie", "z")] {
            assert_eq!(asked.headers.get(name).map(|line| line.as_bytes()), Some(value.as_bytes()), "{name}");
        }
    }
    assert_eq!(gate.connections(), 1, "one is enough for requests that come one after the other");
}

/// HAProxy goes on with its rules after an error in a script.
#[tokio::test]
async fn haproxy_lets_nobody_pass_when_its_script_fails() {
    let stack = Stack::serve::<FailingHaproxy>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;

    for path in ["/invoices/7", "/public/logo"] {
        let reply = stack.get(path, &token).await;
        assert_eq!(reply.status, 503, "{path}: {reply:?}\n{}", stack.logs());
    }
    assert!(stack.service.take().is_empty(), "a request that nobody judged reached the service");
}

/// In HTTP/2 every target has a scheme and a host. HAProxy takes HTTP/2 on the port of its recipe.
#[tokio::test]
async fn haproxy_tells_the_gate_about_http2_alike() {
    let stack = Stack::serve::<Haproxy>(Settings::PLAIN, &[]).await;
    let token = stack.issuer.token(BILLING).await;

    for (path, status) in [("/invoices/7?a=b", 200), ("/public/../admin", 400), ("//admin", 400), ("/admin", 403)] {
        let request = Request::get(stack.at(path)).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.header("x-auth-roles", "admin").body(Full::default()).expect("a request");
        let reply = send_with_prior_knowledge(request).await.expect("an answer");

        assert_eq!(reply.status, status, "{path}: {reply:?}\n{}", stack.logs());
    }
    let seen = stack.service.only_request();
    assert_eq!(seen.target, "/invoices/7?a=b");
    assert_eq!(seen.identity("X-Auth-Roles"), claims(&token)["jti"], "{:?}", seen.headers);
}

async fn a_rotation_under_load_refuses_nobody<P: Product>() {
    let stack = Arc::new(Stack::serve::<P>(stack::ROTATING, &[("ISSUER__0__FRESHNESS_FLOOR", "0s")]).await);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (stack, over, answered) = (Arc::clone(&stack), Arc::clone(&over), Arc::clone(&answered));
        load.spawn(async move {
            let mut signers = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let token = stack.issuer.token(BILLING).await;
                signers.insert(kid(&token));
                for _ in 0..4 {
                    let reply = stack.get("/invoices/7", &token).await;
                    assert_eq!(reply.status, 200, "{reply:?}\n{}", stack.logs());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            signers
        });
    }

    let first = kid(&stack.issuer.token(BILLING).await);
    let changed = eventually("another key signs", PATIENCE, async || {
        (kid(&stack.issuer.token(BILLING).await) != first).then(|| answered.load(Ordering::Relaxed))
    })
    .await;
    eventually("the load goes on with it", PATIENCE, async || {
        (answered.load(Ordering::Relaxed) >= changed + 40).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);

    let signers: BTreeSet<String> = load.join_all().await.into_iter().flatten().collect();
    assert!(signers.len() >= 2, "{signers:?}");
}

async fn a_lost_issuer_is_no_fault_of_the_token<P: Product>() {
    let mut stack = Stack::serve::<P>(stack::ROTATING, stack::SOON_WITHOUT_KEYS).await;
    let token = stack.issuer.token(BILLING).await;
    let reply = stack.get("/invoices/7", &token).await;
    assert_eq!(reply.status, 200, "{reply:?}\n{}", stack.logs());

    stack.lose_issuer().await;
    let start = Instant::now();
    let reply: Reply = loop {
        let reply = stack.get("/invoices/7", &token).await;
        match reply.status.as_u16() {
            200 => assert!(start.elapsed() < PATIENCE, "the keys are trusted for ever"),
            _ => break reply,
        }
        tokio::task::yield_now().await;
    };

    assert_eq!(reply.status, 503, "{reply:?}\n{}", stack.logs());
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{reply:?}");
    assert_eq!(reply.header("www-authenticate"), "");
    // What needs no token needs no issuer.
    assert_eq!(stack.get("/public/logo", &token).await.status, 200);
}
