//! Many at once with what is good once, on both databases: nothing is issued twice, and nobody is signed out by it.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::task::JoinSet;

use super::{SETTINGS, SHOP, World, parameter, text};
use crate::harness::{Kept, Person, Postgres, Reply, Settings, claims};

const AT_ONCE: usize = 8;

/// How often refresh tokens are rotated; `cargo xtask soak --refresh N` sets another number.
const ROTATIONS: &str = "KEYWHEEL_SOAK_REFRESH";
const FEW_ROTATIONS: usize = 1_000;

/// One fast ring.
const FAST: Settings = Settings { keys: r#"algorithms = ["ES256"]"#, ..SETTINGS };
/// Nothing is given twice.
const NO_GRACE: Settings = Settings { tokens: "refresh_grace = \"0s\"", ..FAST };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_and_refresh_tokens_are_good_once_on_sqlite() {
    race(&World::with(FAST, "").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_and_refresh_tokens_are_good_once_on_postgresql() {
    let postgres = Postgres::serve().await;
    race(&World::in_database(FAST, &postgres.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_without_grace_is_good_once_on_sqlite() {
    race_without_grace(&World::with(NO_GRACE, "").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_without_grace_is_good_once_on_postgresql() {
    let postgres = Postgres::serve().await;
    race_without_grace(&World::in_database(NO_GRACE, &postgres.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rotations_lose_nobody_on_sqlite() {
    rotate(&World::with(FAST, "").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rotations_lose_nobody_on_postgresql() {
    let postgres = Postgres::serve().await;
    rotate(&World::in_database(FAST, &postgres.url()).await).await;
}

async fn race(world: &World) {
    let client = Kept::new();
    let mut alice = world.alice();
    for round in 0..4 {
        let form = code_form(world, &mut alice).await;
        let replies = at_once(world, &client, &form).await;
        let (granted, refused): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!(granted.len(), 1, "round {round}: a code was redeemed {} times", granted.len());
        assert_invalid_grants(&refused);
        // Whoever redeems a code again has stolen it, or was robbed of it: what was issued for it ends (RFC 6749 §4.1.2).
        let reply = ask(world, &client, &refresh_form(&granted[0].json())).await;
        assert_invalid_grants(&[reply]);
    }
    for round in 0..4 {
        let tokens = ask(world, &client, &code_form(world, &mut alice).await).await.json();
        let replies = at_once(world, &client, &refresh_form(&tokens)).await;
        let successors: BTreeSet<String> = replies
            .iter()
            .map(|reply| {
                assert_eq!(reply.status, 200, "round {round}: an answer was lost for good: {}", reply.text());
                text(&reply.json(), "refresh_token").to_owned()
            })
            .collect();
        assert_eq!(successors.len(), 1, "round {round}: the family has branches");
        let next = ask(world, &client, &refresh_form(&replies[0].json())).await;
        assert_eq!(next.status, 200, "round {round}: {}", next.text());
    }
    assert!(!world.server.log().contains("ERROR"), "{}", world.server.log());
}

async fn race_without_grace(world: &World) {
    let client = Kept::new();
    let mut alice = world.alice();
    for round in 0..4 {
        let tokens = ask(world, &client, &code_form(world, &mut alice).await).await.json();
        let replies = at_once(world, &client, &refresh_form(&tokens)).await;
        let (granted, refused): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!(granted.len(), 1, "round {round}: a refresh token was used {} times", granted.len());
        assert_invalid_grants(&refused);
        let reply = ask(world, &client, &refresh_form(&granted[0].json())).await;
        assert_invalid_grants(&[reply]);
    }
}

/// Families of refresh tokens, each rotated many times, side by side.
async fn rotate(world: &World) {
    let rotations = std::env::var(ROTATIONS).map_or(FEW_ROTATIONS, |number| number.parse().expect("a number"));
    let client = Kept::new();
    let mut alice = world.alice();
    let mut families = JoinSet::new();
    for _ in 0..AT_ONCE {
        let tokens = ask(world, &client, &code_form(world, &mut alice).await).await.json();
        let (client, url) = (client.clone(), world.issuer.at("/oauth2/token"));
        families.spawn(async move {
            let (mut tokens, mut seen) = (tokens, Vec::new());
            for number in 0..rotations.div_ceil(AT_ONCE) {
                let reply = client.post_form(&url, &refresh_form(&tokens), Some(SHOP)).await.expect("a response");
                assert_eq!(reply.status, 200, "rotation {number}: {}", reply.text());
                tokens = reply.json();
                seen.push(text(&tokens, "refresh_token").to_owned());
                seen.push(text(&claims(text(&tokens, "access_token")), "jti").to_owned());
            }
            seen
        });
    }
    let all: Vec<String> = families.join_all().await.into_iter().flatten().collect();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "something was issued twice");
    assert!(all.len() >= 2 * rotations);
    // She is still signed in.
    code_form(world, &mut alice).await;
}

/// The redemption of a new code. The first sign-in needs a password, the later ones don't.
pub(super) async fn code_form(world: &World, alice: &mut Person) -> String {
    let request = world.request("+offline_access+orders:read").replace("scope=openid+", "scope=");
    let callback = alice.authorize(&request).await;
    let code = parameter(&callback, "code").unwrap_or_else(|| panic!("no code in {callback}"));
    format!("grant_type=authorization_code&code={code}&redirect_uri={}", world.app.at("/callback"))
}

fn refresh_form(tokens: &Value) -> String {
    format!("grant_type=refresh_token&refresh_token={}", text(tokens, "refresh_token"))
}

async fn at_once(world: &World, client: &Kept, form: &str) -> Vec<Reply> {
    let mut requests = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, url, form) = (client.clone(), world.issuer.at("/oauth2/token"), form.to_owned());
        requests.spawn(async move { client.post_form(&url, &form, Some(SHOP)).await.expect("a response") });
    }
    requests.join_all().await
}

async fn ask(world: &World, client: &Kept, form: &str) -> Reply {
    client.post_form(&world.issuer.at("/oauth2/token"), form, Some(SHOP)).await.expect("a response")
}

#[track_caller]
fn assert_invalid_grants(replies: &[Reply]) {
    for reply in replies {
        assert_eq!((reply.status.as_u16(), text(&reply.json(), "error")), (400, "invalid_grant"));
    }
}
