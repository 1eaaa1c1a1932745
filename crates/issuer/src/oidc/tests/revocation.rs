//! `/oauth2/revoke`

use axum::body::Body;
use http::StatusCode;

use super::*;
use crate::testing::token;

const PATH: &str = "/oauth2/revoke";

impl World {
    async fn revoke(&self, client: &str, token: &str) -> StatusCode {
        self.ask(PATH, &format!("{}&token={token}", credentials(client))).await.0
    }

    /// Whether an access token and a refresh token are good.
    async fn are_good(&self, tokens: &Tokens) -> (bool, bool) {
        let active = async |token: &str| {
            let form = format!("{}&token={token}", credentials("shop"));
            self.ask("/oauth2/introspect", &form).await.1["active"] == true
        };
        (active(&tokens.access).await, active(&tokens.refresh).await)
    }
}

#[tokio::test]
async fn an_access_token_ends_alone() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;

    assert_eq!(world.revoke("shop", &tokens.access).await, StatusCode::OK);

    assert_eq!(world.are_good(&tokens).await, (false, true));
    assert_eq!(world.revoke("shop", &tokens.access).await, StatusCode::OK, "once more");
}

#[tokio::test]
async fn a_refresh_token_takes_its_grant_with_it() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    let others = world.tokens("shop", "openid").await;

    assert_eq!(world.revoke("shop", &tokens.refresh).await, StatusCode::OK);

    assert_eq!(world.are_good(&tokens).await, (false, false));
    assert_eq!(world.are_good(&others).await, (true, true), "of another grant");
    let events = world.app.store.load_events(Some(ALICE), 10).await.expect("events");
    assert!(events.iter().any(|event| event.kind == "grant.revoked"));
}

#[tokio::test]
async fn a_token_that_a_client_got_for_itself_ends_too() {
    let world = World::new().await;
    let token = token(&world.app).await;
    let form = format!("{}&token={token}", credentials(crate::testing::CLIENT));
    assert_eq!(world.ask("/oauth2/introspect", &form).await.1["active"], true);

    assert_eq!(world.revoke(crate::testing::CLIENT, &token).await, StatusCode::OK);

    assert_eq!(world.ask("/oauth2/introspect", &form).await.1["active"], false);
}

#[tokio::test]
async fn a_public_client_names_itself_and_nobody_ends_anothers_tokens() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    let own = world.tokens("app", "openid").await;

    assert_eq!(world.revoke("app", &tokens.access).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.revoke("app", &tokens.refresh).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.ask(PATH, &format!("client_id=shop&token={}", tokens.refresh)).await.0, StatusCode::UNAUTHORIZED);

    assert_eq!(world.are_good(&tokens).await, (true, true));
    assert_eq!(world.revoke("app", &own.refresh).await, StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_token_is_revoked_already() {
    let world = World::new().await;
    let tokens = world.tokens("shop", "openid").await;
    for garbage in ["x", "a.b.c", "%20", &tokens.id, &"a".repeat(20_000)] {
        assert_eq!(world.revoke("shop", garbage).await, StatusCode::OK, "{garbage}");
    }
    assert_eq!(world.ask(PATH, &credentials("shop")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.are_good(&tokens).await, (true, true));
}

#[tokio::test]
async fn pages_of_the_client_may_read_the_answer() {
    let world = World::new().await;
    let from = |origin: &str, mut request: Request<Body>| {
        request.headers_mut().insert("origin", origin.parse().expect("a header"));
        request
    };
    let form = "client_id=app&token=x";

    let own = send(&world.app, from("https://app.example.com", post(PATH, form))).await;
    let others = send(&world.app, from("https://shop.example.com", post(PATH, form))).await;

    assert_eq!(own.headers()["access-control-allow-origin"], "https://app.example.com");
    assert!(!others.headers().contains_key("access-control-allow-origin"));
}
