//! `/oauth2/userinfo`

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::testing::{bytes, token};

const PATH: &str = "/oauth2/userinfo";

fn bearing(token: &str) -> Request<Body> {
    let request = Request::get(PATH).header("authorization", format!("Bearer {token}"));
    request.body(Body::empty()).expect("a request")
}

impl World {
    async fn know(&self, token: &str) -> (StatusCode, Value) {
        let response = send(&self.app, bearing(token)).await;
        let status = response.status();
        (status, serde_json::from_slice(&bytes(response).await).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn the_claims_are_those_of_the_scopes() {
    let world = World::new().await;
    let everything = json!({
        "sub": ALICE, "name": "Alice Example", "locale": "de", "preferred_username": "alice",
        "updated_at": crate::testing::START, "email": "alice@example.com", "email_verified": true,
        "roles": ["customer"],
    });
    for (scope, expected) in [
        ("openid", json!({ "sub": ALICE })),
        ("openid email", json!({ "sub": ALICE, "email": "alice@example.com", "email_verified": true })),
        ("openid roles", json!({ "sub": ALICE, "roles": ["customer"] })),
        ("openid profile email roles cart:write", everything),
    ] {
        let tokens = world.tokens("shop", scope).await;

        assert_eq!(world.know(&tokens.access).await, (StatusCode::OK, expected), "{scope}");
    }
}

#[tokio::test]
async fn single_claims_can_be_asked_for() {
    let world = World::new().await;
    let request =
        json!({ "userinfo": { "email": null, "roles": null, "sub": null, "birthdate": null }, "id_token": {} });
    let grant = world.grant("shop", "openid", None);

    let tokens = world.redeem(NewGrant { claims_request: request.as_object().cloned(), ..grant }).await;

    let expected = json!({ "sub": ALICE, "email": "alice@example.com", "roles": ["customer"] });
    assert_eq!(world.know(&tokens.access).await.1, expected);
}

#[tokio::test]
async fn the_token_comes_in_the_header_or_in_the_form_but_once() {
    let world = World::new().await;
    let token = world.tokens("shop", "openid").await.access;
    let with = |request: Request<Body>, more: &str| {
        let mut request = request;
        request.headers_mut().append("authorization", more.parse().expect("a header"));
        request
    };
    let header = format!("Bearer {token}");
    let form = format!("access_token={token}");
    let get = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    let empty_post = Request::post(PATH).body(Body::empty()).expect("a request");

    for (request, status) in [
        (with(get(PATH), &header), StatusCode::OK),
        (with(get(PATH), &header.replace("Bearer", "bEARER")), StatusCode::OK),
        (with(empty_post, &header), StatusCode::OK),
        (with(post(PATH, ""), &header), StatusCode::OK),
        (post(PATH, &form), StatusCode::OK),
        (with(post(PATH, &form), &header), StatusCode::BAD_REQUEST),
        (with(with(get(PATH), &header), &header), StatusCode::BAD_REQUEST),
        (post(PATH, &format!("{form}&{form}")), StatusCode::BAD_REQUEST),
        (get(&format!("{PATH}?{form}")), StatusCode::BAD_REQUEST),
        (with(get(PATH), "Bearer a b"), StatusCode::BAD_REQUEST),
        (with(get(PATH), "Bearer "), StatusCode::BAD_REQUEST),
        (with(get(PATH), "Basic YTpi"), StatusCode::UNAUTHORIZED),
        (with(get(PATH), &format!("DPoP {token}")), StatusCode::UNAUTHORIZED),
        (post(PATH, "token=x"), StatusCode::UNAUTHORIZED),
    ] {
        let shown = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        assert_eq!(send(&world.app, request).await.status(), status, "{shown}");
    }
}

#[tokio::test]
async fn refusals_are_those_of_rfc_6750() {
    let world = World::new().await;
    let challenge = async |request| {
        let response = send(&world.app, request).await;
        let header = response.headers()["www-authenticate"].to_str().expect("text").to_owned();
        (response.status(), header, bytes(response).await)
    };

    let (status, header, body) = challenge(Request::get(PATH).body(Body::empty()).expect("a request")).await;
    assert_eq!((status, header.as_str()), (StatusCode::UNAUTHORIZED, "Bearer realm=\"oauth2\""));
    assert!(body.is_empty());
    let (status, header, _) = challenge(bearing("garbage")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(header.starts_with("Bearer realm=\"oauth2\", error=\"invalid_token\", error_description=\""), "{header}");
    let without = world.tokens("shop", "profile cart:write").await;
    let (status, header, body) = challenge(bearing(&without.access)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(header.contains("error=\"insufficient_scope\"") && header.ends_with(", scope=\"openid\""), "{header}");
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON")["error"], "insufficient_scope");
    // A client that acts for itself is nobody to know about.
    assert_eq!(challenge(bearing(&token(&world.app).await)).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn only_access_tokens_that_are_good_are_accepted() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    let (head, signature) = tokens.access.rsplit_once('.').expect("a JWT");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}.{other}{}", &signature[1..]);
    for token in [&tokens.id, &tokens.refresh, &forged, "a.b.c", "..", "null"] {
        assert_eq!(world.know(token).await.0, StatusCode::UNAUTHORIZED, "{token}");
    }

    world.home.clock.advance(10);

    assert_eq!(world.know(&tokens.access).await.0, StatusCode::UNAUTHORIZED, "it has ended");
}

#[tokio::test]
async fn a_token_ends_with_its_session_its_grant_and_its_person() {
    let world = World::new().await;
    let origin = crate::storage::Origin { at: world.app.clock.now(), address: None };
    let sid = world.session("browser").await;
    let in_session = world.redeem(world.grant("shop", "openid", Some(&sid))).await;
    let offline = world.tokens("shop", "openid").await;
    assert_eq!(world.know(&in_session.access).await.0, StatusCode::OK);

    world.app.store.end_session(&sid, &[], &origin).await.expect("ended");
    assert_eq!(world.know(&in_session.access).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.know(&offline.access).await.0, StatusCode::OK);
    world.app.store.revoke_grants_of(ALICE, "shop", &origin).await.expect("revoked");
    assert_eq!(world.know(&offline.access).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_of_the_tokens_client_may_read_it() {
    let world = World::new().await;
    let token = world.tokens("shop", "openid").await.access;
    let from = |request: Request<Body>, origin: &str| {
        let mut request = request;
        request.headers_mut().insert("origin", origin.parse().expect("a header"));
        request
    };
    let allowed = |headers: &HeaderMap| {
        headers.get("access-control-allow-origin").map(|origin| origin.to_str().expect("text").to_owned())
    };
    let own = "https://shop.example.com";

    let answer = send(&world.app, from(bearing(&token), own)).await;
    assert_eq!(allowed(answer.headers()).as_deref(), Some(own));
    assert_eq!(answer.headers()["vary"], "origin");
    let answer = send(&world.app, from(bearing(&token), "https://app.example.com")).await;
    assert_eq!(allowed(answer.headers()), None, "another client's");
    let answer = send(&world.app, from(bearing("garbage"), "https://app.example.com")).await;
    assert_eq!(allowed(answer.headers()).as_deref(), Some("https://app.example.com"), "it can read that it failed");
    for (origin, expected) in [(own, Some(own)), ("https://evil.example", None), ("null", None)] {
        let preflight = Request::options(PATH).body(Body::empty()).expect("a request");
        let answer = send(&world.app, from(preflight, origin)).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(allowed(answer.headers()).as_deref(), expected, "{origin}");
        assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    }
}
