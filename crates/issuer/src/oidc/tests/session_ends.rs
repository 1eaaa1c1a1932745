//! What ends with a session: by its age, for want of use, and who hears of it.

use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::housekeeping::end_sessions;

impl World {
    /// Signs alice in at the browser, and to the client with these scopes.
    async fn signed_in_with(&self, client: &str, scope: &str, offline: bool) -> Tokens {
        let sid = format!("sid-of-{client}");
        if !self.is_live(&sid).await {
            self.session(client).await;
        }
        self.redeem(NewGrant { offline, ..self.grant(client, scope, Some(&sid)) }).await
    }

    fn of_session(&self, client: &str, sid: &str) -> NewGrant {
        NewGrant { offline: false, ..self.grant(client, "openid", Some(sid)) }
    }

    async fn is_live(&self, sid: &str) -> bool {
        self.app.store.session_by_sid(sid, self.app.clock.now()).await.expect("read").is_some()
    }

    /// What a refresh is answered with: the next token, or the error.
    async fn next(&self, client: &str, token: &str) -> Result<String, String> {
        let form = format!("grant_type=refresh_token&refresh_token={token}&{}", credentials(client));
        let (status, answer) = self.ask("/oauth2/token", &form).await;
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        if status == StatusCode::OK { Ok(text("refresh_token")) } else { Err(text("error")) }
    }

    fn advance(&self, seconds: i64) {
        self.home.clock.advance(seconds);
        self.app.keys.confirm_fresh(self.app.clock.elapsed());
    }

    async fn told(&self) -> Vec<String> {
        let events = self.app.store.load_events(None, 100).await.expect("events");
        events.into_iter().map(|event| event.kind).collect()
    }
}

fn over() -> Result<String, String> {
    Err("invalid_grant".to_owned())
}

#[tokio::test]
async fn a_session_that_is_over_is_ended_as_by_a_sign_out() {
    let world = World::with(|clients| {
        let shop = clients.iter_mut().find(|client| client.id == "shop").expect("a shop");
        shop.backchannel_logout_uri =
            Some(crate::clients::WebUri::parse("https://shop.example.com/back").expect("a URI"));
    })
    .await;
    let tokens = world.signed_in_with("shop", "openid", false).await;
    let offline = world.signed_in_with("shop", "openid offline_access", true).await;
    end_sessions(&world.app).await;
    assert!(world.is_live("sid-of-shop").await, "it is not over yet");

    world.advance(3600);
    end_sessions(&world.app).await;
    end_sessions(&world.app).await;

    let due = world.app.store.due_logouts(world.app.clock.now(), 9, Duration::from_secs(9)).await.expect("deliveries");
    let due: Vec<_> = due.into_iter().map(|delivery| (delivery.client_id, delivery.sid)).collect();
    assert_eq!(due, [("shop".to_owned(), Some("sid-of-shop".to_owned()))]);
    assert_eq!(world.told().await.iter().filter(|kind| *kind == "session.expired").count(), 1);
    assert_eq!(world.next("shop", &tokens.refresh).await, over());
    assert!(world.next("shop", &offline.refresh).await.is_ok(), "offline access does not depend on it");
}

#[tokio::test]
async fn a_refresh_token_without_offline_access_ends_with_its_session_at_once() {
    let world = World::new().await;
    let tokens = world.signed_in_with("shop", "openid", false).await;
    let offline = world.signed_in_with("shop", "openid offline_access", true).await;
    world.advance(3600);

    assert_eq!(world.next("shop", &tokens.refresh).await, over(), "though nobody has ended it yet");
    assert!(world.next("shop", &offline.refresh).await.is_ok());
    assert!(world.told().await.contains(&"grant.revoked".to_owned()));
}

#[tokio::test]
async fn to_refresh_is_to_use_the_session_up_to_its_end() {
    // An hour in all, twenty minutes without use.
    let world = World::configured(|config| config.tokens.session_idle_ttl = Duration::from_secs(1200)).await;
    let sid = world.session("browser").await;
    let mut token = world.redeem(world.of_session("shop", &sid)).await.refresh;

    for _ in 0..3 {
        world.advance(1190);
        token = world.next("shop", &token).await.expect("in use");
    }
    assert!(world.is_live(&sid).await);
    world.advance(30);

    assert_eq!(world.next("shop", &token).await, over(), "an hour is over");
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_its_refresh_tokens() {
    let world = World::configured(|config| config.tokens.session_idle_ttl = Duration::from_secs(1200)).await;
    let sid = world.session("browser").await;
    let now = world.app.clock.now();
    let token = world.redeem(world.of_session("shop", &sid)).await.refresh;
    world.advance(100);
    let token = world.next("shop", &token).await.expect("in use");
    let session = world.app.store.session_by_sid(&sid, world.app.clock.now()).await.expect("read").expect("live");
    assert_eq!(session.last_seen_at, now + Duration::from_secs(100));
    world.advance(30);
    let token = world.next("shop", &token).await.expect("in use");
    let again = world.app.store.session_by_sid(&sid, world.app.clock.now()).await.expect("read").expect("live");
    assert_eq!(again.last_seen_at, session.last_seen_at, "a minute of use is noted once");

    world.advance(1200);

    assert_eq!(world.next("shop", &token).await, over());
}
