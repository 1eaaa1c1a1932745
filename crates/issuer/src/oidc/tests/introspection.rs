//! `/oauth2/introspect`

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::*;

const PATH: &str = "/oauth2/introspect";

impl World {
    /// What `client` learns of `token`.
    async fn learn(&self, client: &str, token: &str) -> Value {
        let (status, answer) = self.ask(PATH, &format!("{}&token={token}", credentials(client))).await;
        assert_eq!(status, StatusCode::OK);
        answer
    }

    async fn is_active(&self, client: &str, token: &str) -> bool {
        let answer = self.learn(client, token).await;
        assert!(answer["active"] == true || answer == json!({ "active": false }), "{answer}");
        answer["active"] == true
    }
}

#[tokio::test]
async fn an_active_access_token_is_described() {
    let world = World::new().await;
    let sid = world.session("browser").await;
    let tokens = world.redeem(world.grant("shop", "openid cart:write", Some(&sid))).await;

    let mut answer = world.learn("shop", &tokens.access).await;

    let jti = answer.as_object_mut().and_then(|answer| answer.remove("jti")).expect("a jti");
    assert!(jti.as_str().is_some_and(|jti| jti.contains('.')));
    let start = crate::testing::START;
    let expected = json!({
        "active": true, "token_type": "Bearer", "iss": ISSUER, "sub": ALICE, "aud": API, "client_id": "shop",
        "scope": "openid cart:write", "iat": start, "nbf": start - 4, "exp": start + 10, "auth_time": start,
        "acr": "1", "amr": ["pwd"], "roles": ["customer"], "sid": sid,
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn an_active_refresh_token_is_described_until_it_is_used() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid cart:write").await;
    let start = crate::testing::START;

    let answer = world.learn("shop", &tokens.refresh).await;

    let lifetime = i64::try_from(world.app.config.tokens.refresh_ttl.as_secs()).expect("days");
    let expected = json!({
        "active": true, "iss": ISSUER, "sub": ALICE, "client_id": "shop", "scope": "openid cart:write",
        "iat": start, "exp": start + lifetime,
    });
    assert_eq!(answer, expected);
    let form = format!("grant_type=refresh_token&refresh_token={}&{}", tokens.refresh, credentials("shop"));
    assert_eq!(world.ask("/oauth2/token", &form).await.0, StatusCode::OK);
    assert!(!world.is_active("shop", &tokens.refresh).await);
}

#[tokio::test]
async fn a_client_sees_what_concerns_it() {
    let world = World::with(|clients| {
        let mut stranger = clients.last().expect("a client").clone();
        (stranger.id, stranger.audiences) = ("stranger".to_owned(), Vec::new());
        clients.push(stranger);
    })
    .await;
    let tokens = world.tokens("app", "openid").await;

    assert!(world.is_active("warehouse", &tokens.access).await, "it is the audience");
    assert!(!world.is_active("warehouse", &tokens.refresh).await, "a refresh token is for nobody else");
    assert!(!world.is_active("stranger", &tokens.access).await);
    assert!(!world.is_active("stranger", &tokens.refresh).await);
}

#[tokio::test]
async fn whoever_does_not_authenticate_learns_nothing() {
    let world = World::new().await;
    let token = world.tokens("app", "openid").await.access;
    for form in [
        format!("token={token}"),
        format!("token={token}&client_id=app"),
        format!("token={token}&client_id=shop"),
        format!("token={token}&client_id=shop&client_secret=wrong"),
    ] {
        let (status, answer) = world.ask(PATH, &form).await;

        assert_eq!((status, &answer["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")), "{form}");
    }
    let (status, answer) = world.ask(PATH, &credentials("shop")).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request")));
}

#[tokio::test]
async fn a_token_that_is_over_is_not_active() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    for garbage in ["x", "a.b.c", "%20", "%F0%9F%A6%80", &tokens.id, &"a".repeat(20_000), &".".repeat(100)] {
        assert!(!world.is_active("shop", garbage).await, "{garbage}");
    }
    // A hint that is wrong changes nothing (RFC 7662 §2.1).
    let form = format!("{}&token={}&token_type_hint=refresh_token", credentials("shop"), tokens.access);
    assert_eq!(world.ask(PATH, &form).await.1["active"], true);

    world.home.clock.advance(10);

    assert!(!world.is_active("shop", &tokens.access).await);
    assert!(world.is_active("shop", &tokens.refresh).await);
}

/// Nothing but the clock moves: the housekeeping that ends sessions does not run here.
async fn assert_a_refresh_token_ends_with_its_session(expires_in_s: i64, idle: Duration) {
    let world = World::configured(|config| config.tokens.session_idle_ttl = idle).await;
    let sid = world.session("browser").await;
    let bound = world.redeem(NewGrant { offline: false, ..world.grant("shop", "openid", Some(&sid)) }).await;
    let offline = world.redeem(NewGrant { offline: true, ..world.grant("shop", "openid", Some(&sid)) }).await;
    world.home.clock.advance(expires_in_s - 1);

    let answer = world.learn("shop", &bound.refresh).await;
    assert_eq!((&answer["active"], &answer["exp"]), (&json!(true), &json!(crate::testing::START + expires_in_s)));
    world.home.clock.advance(1);

    assert!(!world.is_active("shop", &bound.refresh).await, "though nobody has ended the session yet");
    assert!(world.is_active("shop", &offline.refresh).await, "offline access does not depend on it");
}

#[tokio::test]
async fn a_refresh_token_is_not_active_from_the_end_of_its_session_on() {
    assert_a_refresh_token_ends_with_its_session(3600, Duration::from_secs(7200)).await;
}

#[tokio::test]
async fn a_refresh_token_is_not_active_when_nobody_uses_its_session() {
    assert_a_refresh_token_ends_with_its_session(1200, Duration::from_secs(1200)).await;
}
