//! Scopes that depend on the person, and roles that count at one client: from the request to a route that is guarded.

use std::collections::BTreeMap;

use http::header::{COOKIE, LOCATION};
use keywheel_jose::{AccessTokenClaims, Policy, check};
use url::{Url, form_urlencoded};

use super::*;
use crate::config::Config;
use crate::scopes::{Scope, Scopes};
use crate::storage::UserChange;

/// The pair of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn configure(config: &mut Config) {
    let restricted = |name: &str, roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Scope { name: name.to_owned(), description: None, roles: Some(roles) }
    };
    config.scopes = Scopes::new(vec![
        restricted("invoices:write", &["accountant"]),
        restricted("invoices:delete", &[]),
        restricted("invoices:read", &["auditor"]),
    ]);
    for client in config.clients.iter_mut().filter(|client| ["app", "shop"].contains(&client.id.as_str())) {
        client.first_party = true;
        client.roles = None;
        client.scopes.extend(["invoices:write", "invoices:delete"].map(str::to_owned));
    }
}

/// What a service does before it lets somebody write invoices: it takes those with the scope, of accountants.
fn lets_write(world: &World, token: &str) -> bool {
    let policy = Policy::access_token(ISSUER, API);
    let verified = check::<AccessTokenClaims>(token, &world.app.keys.all_public(), &policy, world.app.clock.now());
    let claims = verified.expect("a good token").into_claims();
    let may = claims.scopes().any(|scope| scope == "invoices:write");
    may && claims.roles.iter().any(|role| role == "accountant")
}

impl World {
    /// Alice is signed in at the browser.
    async fn with_restricted_scopes() -> Self {
        let world = Self::configured(configure).await;
        world.session("browser").await;
        world
    }

    /// What the client is told, when alice comes with its request.
    async fn authorize(&self, client: &str, scope: &str) -> BTreeMap<String, String> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("client_id", client), ("redirect_uri", CALLBACK), ("response_type", "code")])
            .extend_pairs([("code_challenge", CHALLENGE), ("code_challenge_method", "S256"), ("scope", scope)])
            .finish();
        let request = Request::get(format!("/oauth2/authorize?{query}")).header(COOKIE, "keywheel-session=browser");
        let response = send(&self.app, request.body(Body::empty()).expect("a request")).await;
        let location = response.headers()[LOCATION].to_str().expect("text");
        assert!(location.starts_with(CALLBACK), "{location}");
        Url::parse(location).expect("a URL").query_pairs().into_owned().collect()
    }

    /// The answer of the token endpoint, when alice comes with the client's request.
    async fn sign_in_to(&self, client: &str, scope: &str) -> Value {
        let code = self.authorize(client, scope).await.remove("code").expect("a code");
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}&{}",
            credentials(client)
        );
        let (status, answer) = self.ask("/oauth2/token", &form).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn refresh(&self, client: &str, answer: &Value, more: &str) -> (StatusCode, Value) {
        let token = answer["refresh_token"].as_str().expect("a refresh token");
        let form = format!("grant_type=refresh_token&refresh_token={token}&{}{more}", credentials(client));
        self.ask("/oauth2/token", &form).await
    }

    async fn make_alice(&self, roles: &[&str], rights: Rights) {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let change = UserChange { roles: Some(roles), rights: Some(rights), ..UserChange::default() };
        let by = By::new(&Author::operator(), self.app.clock.now());
        self.app.store.update_user(ALICE, &change, &by).await.expect("changed");
    }
}

fn accountant_at(client: &str) -> Rights {
    Rights { client_roles: [(client.to_owned(), vec!["accountant".to_owned()])].into(), ..Rights::default() }
}

#[tokio::test]
async fn a_route_for_a_scope_and_a_role_opens_and_closes_with_the_role() {
    let world = World::with_restricted_scopes().await;

    let before = world.sign_in_to("shop", "openid invoices:write").await;
    assert_eq!(before["scope"], "openid", "RFC 6749 §3.3: the answer says what was granted");
    assert!(!lets_write(&world, before["access_token"].as_str().expect("a token")));

    world.make_alice(&["customer"], accountant_at("shop")).await;
    let (_, not_asked_for) = world.refresh("shop", &before, "").await;
    assert_eq!(not_asked_for["scope"], "openid", "a grant does not grow");
    let with = world.sign_in_to("shop", "openid roles invoices:write").await;
    assert_eq!(with["scope"], "openid roles invoices:write");
    assert!(lets_write(&world, with["access_token"].as_str().expect("a token")));

    let elsewhere = world.sign_in_to("app", "openid roles invoices:write").await;
    assert_eq!(elsewhere["scope"], "openid roles");
    assert!(!lets_write(&world, elsewhere["access_token"].as_str().expect("a token")), "a role at the shop alone");

    world.make_alice(&["customer"], Rights::default()).await;
    let (status, after) = world.refresh("shop", &with, "").await;
    assert_eq!((status, after["scope"].as_str()), (StatusCode::OK, Some("openid roles")));
    assert!(!lets_write(&world, after["access_token"].as_str().expect("a token")));
}

#[tokio::test]
async fn what_somebody_may_not_have_at_all_is_denied() {
    let world = World::with_restricted_scopes().await;

    let denied = world.authorize("shop", "invoices:write invoices:delete").await;

    assert_eq!(denied.get("error").map(String::as_str), Some("access_denied"));
    assert!(!denied.contains_key("code"));
}

#[tokio::test]
async fn a_scope_that_was_granted_directly_is_had_without_a_role() {
    let world = World::with_restricted_scopes().await;
    let rights = Rights { scopes: vec!["invoices:delete".to_owned()], ..Rights::default() };
    world.make_alice(&["accountant"], rights).await;

    let answer = world.sign_in_to("shop", "invoices:delete invoices:write").await;

    assert_eq!(answer["scope"], "invoices:delete invoices:write");
}

#[tokio::test]
async fn a_refresh_for_nothing_that_is_left_is_refused_and_spoils_nothing() {
    let world = World::with_restricted_scopes().await;
    world.make_alice(&["accountant"], Rights::default()).await;
    let mixed = world.sign_in_to("shop", "openid invoices:write").await;
    let only = world.sign_in_to("shop", "invoices:write").await;
    world.make_alice(&[], Rights::default()).await;

    for (answer, more) in [(&mixed, "&scope=invoices:write"), (&only, "")] {
        let (status, refused) = world.refresh("shop", answer, more).await;
        assert_eq!((status, refused["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_scope")));
    }

    world.make_alice(&["accountant"], Rights::default()).await;
    let (status, again) = world.refresh("shop", &only, "").await;
    assert_eq!((status, again["scope"].as_str()), (StatusCode::OK, Some("invoices:write")), "{again}");
}

#[tokio::test]
async fn a_role_that_is_taken_away_before_the_code_is_redeemed_takes_its_scope_along() {
    let world = World::with_restricted_scopes().await;
    world.make_alice(&["accountant"], Rights::default()).await;
    let code = world.authorize("shop", "openid invoices:write").await.remove("code").expect("a code");
    world.make_alice(&[], Rights::default()).await;

    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}&{}",
        credentials("shop")
    );
    let (_, answer) = world.ask("/oauth2/token", &form).await;

    assert_eq!(answer["scope"], "openid");
}

#[tokio::test]
async fn roles_at_one_client_are_told_to_that_client_alone() {
    let world = World::with_restricted_scopes().await;
    world.make_alice(&["customer"], accountant_at("shop")).await;

    for (client, expected) in [("shop", json!(["customer", "accountant"])), ("app", json!(["customer"]))] {
        let answer = world.sign_in_to(client, "openid roles").await;
        let form = format!("access_token={}", answer["access_token"].as_str().expect("a token"));
        let (_, told) = world.ask("/oauth2/userinfo", &form).await;
        assert_eq!(told["roles"], expected, "{client}");
    }
}

#[tokio::test]
async fn what_a_client_gets_for_itself_is_not_restricted() {
    let world = World::with_restricted_scopes().await;

    let answer = crate::testing::ask(&world.app, "grant_type=client_credentials").await;

    assert_eq!(crate::testing::json(answer).await["scope"], "invoices:read invoices:write");
}
