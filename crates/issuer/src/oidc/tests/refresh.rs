//! Refresh tokens and codes through the token endpoint, many at once.

use std::collections::BTreeSet;

use http::StatusCode;

use super::*;

impl World {
    fn refreshing(&self, token: &str) -> impl Future<Output = (StatusCode, String)> + Send + 'static {
        let (app, form) =
            (Arc::clone(&self.app), format!("grant_type=refresh_token&client_id=app&refresh_token={token}"));
        async move {
            let response = send(&app, post("/oauth2/token", &form)).await;
            let status = response.status();
            let answer = crate::testing::json(response).await;
            (status, answer["refresh_token"].as_str().unwrap_or_default().to_owned())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_windows_that_refresh_at_once_get_one_successor() {
    let world = World::new().await;
    let mut token = world.tokens("app", "openid offline_access").await.refresh;

    for _ in 0..10 {
        let attempts: Vec<_> = (0..8).map(|_| tokio::spawn(world.refreshing(&token))).collect();
        let mut successors = BTreeSet::new();
        for attempt in attempts {
            let (status, successor) = attempt.await.expect("no panic");
            assert_eq!(status, StatusCode::OK);
            successors.insert(successor);
        }

        assert_eq!(successors.len(), 1, "{successors:?}");
        token = successors.into_iter().next().expect("one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_that_bring_one_code_one_gets_tokens_and_keeps_none() {
    let world = World::new().await;
    let grant = world.grant("app", "openid offline_access", None);
    let now = world.app.clock.now();
    let code = NewCode {
        code_sha256: sha256("the-code"),
        redirect_uri: Some(CALLBACK.to_owned()),
        code_challenge: None,
        issued_at: now,
        expires_at: now + std::time::Duration::from_secs(60),
        grant,
    };
    world.app.store.insert_code(&code).await.expect("stored");

    let form = format!("grant_type=authorization_code&client_id=app&code=the-code&redirect_uri={CALLBACK}");
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let (app, form) = (Arc::clone(&world.app), form.clone());
            tokio::spawn(async move { send(&app, post("/oauth2/token", &form)).await })
        })
        .collect();
    let mut tokens = Vec::new();
    for attempt in attempts {
        let response = attempt.await.expect("no panic");
        let (status, answer) = (response.status(), crate::testing::json(response).await);
        match status {
            StatusCode::OK => tokens.push(answer["refresh_token"].as_str().expect("a token").to_owned()),
            StatusCode::BAD_REQUEST => assert_eq!(answer["error"], "invalid_grant"),
            other => panic!("{other}: {answer}"),
        }
    }

    assert!(tokens.len() <= 1, "{}", tokens.len());
    for token in tokens {
        assert_eq!(world.refreshing(&token).await.0, StatusCode::BAD_REQUEST, "a code that came twice ends its grant");
    }
}

#[tokio::test]
async fn a_token_that_comes_back_late_ends_everything_of_its_grant() {
    let world = World::new().await;
    let first = world.tokens("app", "openid offline_access").await.refresh;
    let (_, second) = world.refreshing(&first).await;

    world.home.clock.advance(10);
    assert_eq!(world.refreshing(&first).await, (StatusCode::OK, second.clone()), "within the grace");
    world.home.clock.advance(1);
    world.app.keys.confirm_fresh(world.app.clock.elapsed());
    assert_eq!(world.refreshing(&first).await.0, StatusCode::BAD_REQUEST);

    assert_eq!(world.refreshing(&second).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn another_clients_token_is_neither_used_nor_spoilt() {
    let world = World::new().await;
    let token = world.tokens("app", "openid offline_access").await.refresh;
    let form = format!("grant_type=refresh_token&refresh_token={token}&{}", credentials("shop"));

    assert_eq!(world.ask("/oauth2/token", &form).await.0, StatusCode::BAD_REQUEST);

    assert_eq!(world.refreshing(&token).await.0, StatusCode::OK);
}
