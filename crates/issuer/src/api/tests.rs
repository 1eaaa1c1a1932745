//! The session API, through the router: an issuer with a shop of its owner's, the shop's native app, and a person.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use keywheel_jose::{AccessTokenClaims, KeySet, Policy, check};
use serde_json::{Value, json};

use crate::app::App;
use crate::clients::{ApplicationType, Authentication, Client, GrantType, GrantTypes, Origin as PageOrigin, WebUri};
use crate::config::Config;
use crate::edges::Author;
use crate::login::session;
use crate::scopes::{Scope, Scopes};
use crate::storage::{By, UserChange};
use crate::testing::{Home, bytes, get, json, send};
use crate::users::{NewUser, Rights};

const ISSUER: &str = "https://id.example.com";
const API: &str = "https://api.example.com";
const PAGE: &str = "https://app.example.com";
const PASSWORD: &str = "correct horse battery staple";
const SESSION: &str = "/api/session";
const REFRESH: &str = "/api/session/refresh";

/// From a page of the issuer's origin.
const OURS: (&str, &str) = ("sec-fetch-site", "same-origin");

struct World {
    home: Home,
    app: Arc<App>,
}

/// What a browser keeps.
#[derive(Clone, Default)]
struct Jar(Vec<(String, String)>);

impl World {
    async fn new() -> Self {
        Self::at(ISSUER).await
    }

    async fn at(issuer: &str) -> Self {
        Self::configured(issuer, |_| {}).await
    }

    /// With a configuration that `change` has changed.
    async fn configured(issuer: &str, change: impl FnOnce(&mut Config)) -> Self {
        let home = Home::new();
        let exchanged = [
            ("http://localhost:8080", issuer),
            ("access_ttl", "session_ttl = \"10m\"\nsession_idle_ttl = \"1m\"\nremember_ttl = \"1h\"\naccess_ttl"),
            ("[[client]]", "[limits]\naccount_failures = 3\naccount_lock = \"1m\"\n[[client]]"),
        ];
        let mut config = home.config_with(r#"algorithms = ["ES256"]"#, &exchanged);
        config.clients.extend(clients());
        change(&mut config);
        let app = App::open(config, home.edges()).await.expect("an issuer");
        let hash = app.passwords.hash(PASSWORD).await.expect("hashed");
        let alice = NewUser {
            id: "id-of-alice".to_owned(),
            username: "alice".to_owned(),
            email: Some("alice@example.com".to_owned()),
            email_verified: true,
            claims: json!({ "name": "Alice Example" }).as_object().expect("an object").clone(),
            roles: vec!["admin".to_owned(), "customer".to_owned()],
            groups: Vec::new(),
            rights: Rights::default(),
            password_hash: Some(hash),
            disabled: false,
        };
        let mallory = NewUser {
            id: "id-of-mallory".to_owned(),
            username: "mallory".to_owned(),
            email: None,
            disabled: true,
            ..alice.clone()
        };
        let by = By::new(&Author::operator(), app.clock.now());
        app.store.insert_users(&[alice, mallory], &by).await.expect("stored");
        Self { home, app }
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        send(&self.app, request.body(Body::from(body.to_owned())).expect("a request")).await
    }

    async fn post(&self, body: &Value) -> Response {
        self.call(Method::POST, SESSION, &[OURS], &body.to_string()).await
    }

    /// A browser in which alice has signed in.
    async fn browser(&self) -> Jar {
        let mut jar = Jar::default();
        let response = self.post(&alice()).await;
        assert_eq!(response.status(), StatusCode::OK);
        jar.take(response.headers());
        jar
    }

    /// The tokens of the native app, in which alice has signed in.
    async fn phone(&self) -> Value {
        let response = self.call(Method::POST, SESSION, &[], &on_phone().to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await
    }

    /// With all that the browser keeps.
    async fn by(&self, jar: &Jar, method: Method, path: &str) -> Response {
        self.call(method, path, &[OURS, ("cookie", &jar.line())], "").await
    }

    async fn refresh_by_body(&self, token: &Value) -> Response {
        self.call(Method::POST, REFRESH, &[], &json!({ "refresh_token": token }).to_string()).await
    }

    async fn pass(&self, seconds: i64) {
        self.home.clock.advance(seconds);
        self.app.rotator().tick().await.expect("a visit");
    }

    async fn claims(&self, token: &str) -> AccessTokenClaims {
        let keys = KeySet::parse(&bytes(get(&self.app, "/.well-known/jwks.json").await).await).expect("a JWKS");
        let policy = Policy::access_token(self.app.config.issuer.as_str(), API);
        check(token, &keys, &policy, self.app.clock.now()).expect("the token holds").into_claims()
    }
}

impl Jar {
    fn take(&mut self, headers: &HeaderMap) {
        for line in set_cookies(headers) {
            let (name, value) = line.split(';').next().expect("a part").split_once('=').expect("a name");
            self.0.retain(|(known, _)| known != name);
            if !line.contains("Max-Age=0") {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).expect("it is there")
    }

    fn line(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}

fn clients() -> [Client; 4] {
    let shop = Client {
        grants: GrantTypes::from([GrantType::RefreshToken]),
        scopes: ["openid", "profile", "email", "roles", "offline_access", "cart:write"].map(str::to_owned).to_vec(),
        audiences: vec![API.to_owned(), "https://other.example.com".to_owned()],
        roles: Some(vec!["customer".to_owned()]),
        first_party: true,
        session_api: true,
        allowed_origins: vec![PageOrigin::parse(PAGE).expect("an origin")],
        backchannel_logout_uri: Some(WebUri::parse("https://app.example.com/ended").expect("a URI")),
        ..Client::new("shop", Authentication::None)
    };
    let phone = Client {
        id: "phone".to_owned(),
        application_type: Some(ApplicationType::Native),
        allowed_origins: Vec::new(),
        backchannel_logout_uri: None,
        ..shop.clone()
    };
    let once = Client { id: "once".to_owned(), grants: GrantTypes::from([]), audiences: Vec::new(), ..shop.clone() };
    let others = Client {
        id: "others".to_owned(),
        session_api: false,
        allowed_origins: vec![PageOrigin::parse("https://others.example.com").expect("an origin")],
        ..shop.clone()
    };
    [shop, phone, once, others]
}

fn alice() -> Value {
    json!({ "username": "alice", "password": PASSWORD, "client_id": "shop" })
}

fn on_phone() -> Value {
    json!({ "username": "alice", "password": PASSWORD, "client_id": "phone", "response": "body" })
}

/// `base` with some members others.
fn with(mut base: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        base[name] = value.clone();
    }
    base
}

fn set_cookies(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().expect("text")).collect()
}

/// Cookies as they are set, with the values taken out.
fn shapes(headers: &HeaderMap) -> Vec<String> {
    let shape = |line: &&str| {
        let (name, rest) = line.split_once('=').expect("a name");
        format!("{name}=…{}", &rest[rest.find(';').expect("attributes")..])
    };
    set_cookies(headers).iter().map(shape).collect()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let problem = json(response).await;
    assert_eq!(problem["status"], status.as_u16());
    let code = problem["code"].as_str().expect("a code").to_owned();
    assert_eq!(problem["type"], format!("urn:keywheel:problem:{code}"));
    (status.as_u16(), code)
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn signing_in_sets_cookies_and_shows_no_token() {
    let world = World::new().await;

    let response = world.post(&alice()).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let expected = [
        "__Host-access=…; Path=/; Secure; HttpOnly; SameSite=Strict",
        "__Host-refresh=…; Path=/; Secure; HttpOnly; SameSite=Strict",
        "__Host-session=…; Path=/; Secure; HttpOnly; SameSite=Lax",
        "__Host-device=…; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(shapes(response.headers()), expected);
    let user = json!({
        "sub": "id-of-alice", "name": "Alice Example", "preferred_username": "alice", "updated_at": crate::testing::START,
        "email": "alice@example.com", "email_verified": true, "roles": ["customer"],
    });
    let scope = "openid profile email roles cart:write";
    assert_eq!(json(response).await, json!({ "expires_in": 10, "scope": scope, "user": user }));
}

#[tokio::test]
async fn the_cookies_hold_an_access_token_and_the_session_of_the_pages() {
    let world = World::new().await;

    let jar = world.browser().await;

    let claims = world.claims(jar.get("__Host-access")).await;
    assert_eq!((claims.sub.as_str(), claims.client_id.as_str()), ("id-of-alice", "shop"));
    assert_eq!(claims.roles, ["customer"]);
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::try_from(jar.line()).expect("a line"));
    let session = session::current(&world.app, &headers).await.expect("answered").expect("signed in");
    assert_eq!(claims.sid.as_deref(), Some(session.sid.as_str()));
}

#[tokio::test]
async fn on_this_machine_cookies_are_plain() {
    let world = World::at("http://localhost:8080").await;

    let response = world.post(&alice()).await;

    let expected = [
        "keywheel-access=…; Path=/; HttpOnly; SameSite=Strict",
        "keywheel-refresh=…; Path=/; HttpOnly; SameSite=Strict",
        "keywheel-session=…; Path=/; HttpOnly; SameSite=Lax",
        "keywheel-device=…; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(shapes(response.headers()), expected);
    let mut jar = Jar::default();
    jar.take(response.headers());
    assert_eq!(world.by(&jar, Method::GET, SESSION).await.status(), StatusCode::OK);
    assert_eq!(world.by(&jar, Method::POST, REFRESH).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_is_remembered_outlives_the_window() {
    let world = World::new().await;

    let response = world.post(&with(alice(), &json!({ "remember": true }))).await;

    let expected = [
        "__Host-access=…; Path=/; Max-Age=10; Secure; HttpOnly; SameSite=Strict",
        "__Host-refresh=…; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Strict",
        "__Host-session=…; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax",
        "__Host-device=…; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(shapes(response.headers()), expected);
    let mut jar = Jar::default();
    jar.take(response.headers());
    world.pass(600).await;
    let response = world.by(&jar, Method::POST, REFRESH).await;
    assert_eq!(
        shapes(response.headers())[1],
        "__Host-refresh=…; Path=/; Max-Age=3000; Secure; HttpOnly; SameSite=Strict",
        "the session ends when it was to end"
    );
}

#[tokio::test]
async fn a_name_has_several_names() {
    let world = World::new().await;

    for (member, name) in [("username", "alice@example.com"), ("login", " ALICE "), ("email", "Alice@Example.com")] {
        let body = json!({ member: name, "password": PASSWORD, "client_id": "shop" });

        assert_eq!(world.post(&body).await.status(), StatusCode::OK, "{member}");
    }
}

#[tokio::test]
async fn it_says_who_is_signed_in() {
    let world = World::new().await;
    let jar = world.browser().await;
    world.pass(4).await;

    let answer = json(world.by(&jar, Method::GET, SESSION).await).await;

    assert_eq!((&answer["user"]["sub"], &answer["expires_in"]), (&json!("id-of-alice"), &json!(6)));
    assert_eq!((&answer["client_id"], &answer["auth_time"]), (&json!("shop"), &json!(crate::testing::START)));
    let token = world.phone().await["access_token"].as_str().expect("a token").to_owned();
    let bearer = world.call(Method::GET, SESSION, &[("authorization", &format!("Bearer {token}"))], "").await;
    assert_eq!(json(bearer).await["client_id"], "phone");
    let nobody = world.call(Method::GET, SESSION, &[], "").await;
    assert_eq!(nobody.headers()["www-authenticate"], "Bearer realm=\"session\"");
    assert_eq!(code(nobody).await, refusal(401, "not-signed-in"));
    world.pass(6).await;
    assert_eq!(code(world.by(&jar, Method::GET, SESSION).await).await, refusal(401, "not-signed-in"));
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_the_one_before_gives_the_same_for_a_moment() {
    let world = World::new().await;
    let first = world.browser().await;

    let mut second = first.clone();
    second.take(world.by(&first, Method::POST, REFRESH).await.headers());
    let mut again = first.clone();
    again.take(world.by(&first, Method::POST, REFRESH).await.headers());

    assert_ne!(first.get("__Host-refresh"), second.get("__Host-refresh"));
    assert_eq!(second.get("__Host-refresh"), again.get("__Host-refresh"));
    assert_eq!(world.by(&second, Method::GET, SESSION).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_too_late_ends_the_grant() {
    let world = World::new().await;
    let first = world.browser().await;
    let mut second = first.clone();
    second.take(world.by(&first, Method::POST, REFRESH).await.headers());
    world.pass(11).await;

    let late = world.by(&first, Method::POST, REFRESH).await;

    let cleared = [
        "__Host-access=…; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict",
        "__Host-refresh=…; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict",
    ];
    assert_eq!(shapes(late.headers()), cleared);
    assert_eq!(code(late).await, refusal(401, "not-signed-in"));
    assert_eq!(code(world.by(&second, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"));
}

#[tokio::test]
async fn eight_refreshes_at_once_have_one_successor() {
    let world = World::new().await;
    let jar = world.browser().await;

    let attempts = std::array::from_fn::<_, 8, _>(|_| {
        let (app, line) = (Arc::clone(&world.app), jar.line());
        tokio::spawn(async move {
            let request = Request::post(REFRESH).header(OURS.0, OURS.1).header("cookie", line);
            send(&app, request.body(Body::empty()).expect("a request")).await
        })
    });
    let mut jars = Vec::new();
    for attempt in attempts {
        let response = attempt.await.expect("no panic");
        assert_eq!(response.status(), StatusCode::OK);
        let mut after = jar.clone();
        after.take(response.headers());
        jars.push(after);
    }

    for after in &jars {
        assert_eq!(after.get("__Host-refresh"), jars[0].get("__Host-refresh"));
        world.claims(after.get("__Host-access")).await;
    }
    world.pass(11).await;
    assert_eq!(world.by(&jars[7], Method::POST, REFRESH).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_session_lives_while_its_tokens_are_renewed_up_to_its_end() {
    let world = World::new().await;
    let mut jar = world.browser().await;
    for _ in 0..11 {
        world.pass(50).await;
        let response = world.by(&jar, Method::POST, REFRESH).await;
        assert_eq!(response.status(), StatusCode::OK);
        jar.take(response.headers());
    }

    world.pass(50).await;

    assert_eq!(code(world.by(&jar, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"), "over");
    let idle = world.browser().await;
    world.pass(60).await;
    assert_eq!(code(world.by(&idle, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"), "idle");
}

#[tokio::test]
async fn signing_out_clears_the_cookies_and_ends_the_session_everywhere() {
    let world = World::new().await;
    let jar = world.browser().await;
    let sid = world.claims(jar.get("__Host-access")).await.sid.expect("a session");

    let response = world.by(&jar, Method::DELETE, SESSION).await;

    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let cleared = [
        "__Host-access=…; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict",
        "__Host-refresh=…; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict",
        "__Host-session=…; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(shapes(response.headers()), cleared);
    let now = world.app.clock.now();
    assert_eq!(world.app.store.session_by_sid(&sid, now).await.expect("answered"), None);
    let told = world.app.store.due_logouts(now, 10, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(
        told.iter().map(|it| (it.client_id.as_str(), it.sid.as_deref())).collect::<Vec<_>>(),
        [("shop", Some(sid.as_str()))]
    );
    // Whoever took the cookies along has nothing.
    assert_eq!(code(world.by(&jar, Method::GET, SESSION).await).await, refusal(401, "not-signed-in"));
    assert_eq!(code(world.by(&jar, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"));
    assert_eq!(world.by(&jar, Method::DELETE, SESSION).await.status(), StatusCode::NO_CONTENT, "once more");
}

#[tokio::test]
async fn signing_out_works_with_the_access_token_alone() {
    let world = World::new().await;
    let mut jar = world.browser().await;
    jar.0.retain(|(name, _)| name == "__Host-access");

    assert_eq!(world.by(&jar, Method::DELETE, SESSION).await.status(), StatusCode::NO_CONTENT);

    assert_eq!(world.by(&jar, Method::GET, SESSION).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_signs_in_again_leaves_no_token_behind() {
    let world = World::new().await;
    let first = world.browser().await;

    let line = first.line();
    let again = world.call(Method::POST, SESSION, &[OURS, ("cookie", &line)], &alice().to_string()).await;

    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(code(world.by(&first, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"));
    let mut second = first;
    second.take(again.headers());
    assert_eq!(world.by(&second, Method::POST, REFRESH).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn whoever_may_not_sign_in_learns_nothing_about_why() {
    let world = World::new().await;
    let mut answers = Vec::new();
    for (name, password) in [("alice", "wrong"), ("nobody", PASSWORD), ("mallory", PASSWORD), ("alice", "")] {
        let response = world.post(&with(alice(), &json!({ "username": name, "password": password }))).await;
        assert_eq!(set_cookies(response.headers()), [""; 0]);
        answers.push((response.status(), json(response).await));
    }

    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert_eq!(answers[0].1["code"], "invalid-credentials");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn too_many_attempts_have_to_wait() {
    let world = World::new().await;
    for _ in 0..3 {
        let wrong = world.post(&with(alice(), &json!({ "password": "wrong" }))).await;
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    }

    let throttled = world.post(&alice()).await;

    assert_eq!(throttled.headers()["retry-after"], "60");
    assert_eq!(code(throttled).await, refusal(429, "throttled"));
    world.pass(61).await;
    assert_eq!(world.post(&alice()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_browser_that_was_signed_in_before_waits_for_nobody_else() {
    let world = World::new().await;
    let jar = world.browser().await;
    for _ in 0..3 {
        world.post(&with(alice(), &json!({ "password": "wrong" }))).await;
    }
    assert_eq!(world.post(&alice()).await.status(), StatusCode::TOO_MANY_REQUESTS, "a stranger's browser");

    let device = format!("__Host-device={}", jar.get("__Host-device"));
    let by_device = |body: Value| {
        let (world, headers) = (&world, [OURS, ("cookie", device.as_str())]);
        async move { world.call(Method::POST, SESSION, &headers, &body.to_string()).await.status() }
    };

    assert_eq!(by_device(alice()).await, StatusCode::OK);
    for _ in 0..3 {
        by_device(with(alice(), &json!({ "password": "wrong" }))).await;
    }
    assert_eq!(by_device(alice()).await, StatusCode::TOO_MANY_REQUESTS, "it is counted too, by itself");
}

#[tokio::test]
async fn who_may_have_nothing_of_a_client_is_not_signed_in_to_it() {
    let world = World::configured(ISSUER, |config| {
        let restricted = ["openid", "profile", "email", "roles", "cart:write"].map(|name| Scope {
            name: name.to_owned(),
            description: None,
            roles: Some(vec!["admin".to_owned()]),
        });
        config.scopes = Scopes::new(restricted.into());
    })
    .await;
    let jar = world.browser().await;
    let change = UserChange { roles: Some(Vec::new()), ..UserChange::default() };
    let by = By::new(&Author::operator(), world.app.clock.now());
    world.app.store.update_user("id-of-alice", &change, &by).await.expect("changed");

    assert_eq!(code(world.by(&jar, Method::POST, REFRESH).await).await, refusal(403, "not-permitted"));
    let again = world.post(&alice()).await;
    assert_eq!(set_cookies(again.headers()), [""; 0]);
    assert_eq!(code(again).await, refusal(403, "not-permitted"));
    let sessions = world.app.store.sessions_of_user("id-of-alice", world.app.clock.now()).await.expect("read");
    assert_eq!(sessions.len(), 1, "the one of before");
}

#[tokio::test]
async fn only_clients_that_are_the_owners_and_registered_for_it_may() {
    let world = World::new().await;

    for client in ["others", "nobody", "billing", "", "a\u{0}b"] {
        let response = world.post(&with(alice(), &json!({ "client_id": client }))).await;

        assert_eq!(code(response).await, refusal(403, "client-not-allowed"), "{client:?}");
    }
}

#[tokio::test]
async fn a_client_without_the_grant_gets_no_refresh_token() {
    let world = World::new().await;

    let response = world.post(&with(alice(), &json!({ "client_id": "once" }))).await;

    let expected = [
        "__Host-access=…; Path=/; Secure; HttpOnly; SameSite=Strict",
        "__Host-session=…; Path=/; Secure; HttpOnly; SameSite=Lax",
        "__Host-device=…; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax",
    ];
    assert_eq!(shapes(response.headers()), expected);
    let mut jar = Jar::default();
    jar.take(response.headers());
    assert_eq!(code(world.by(&jar, Method::POST, REFRESH).await).await, refusal(401, "not-signed-in"));
}

#[tokio::test]
async fn a_native_app_gets_tokens_in_the_body() {
    let world = World::new().await;

    let response = world.call(Method::POST, SESSION, &[], &on_phone().to_string()).await;

    assert_eq!(set_cookies(response.headers()), [""; 0]);
    let first = json(response).await;
    assert_eq!((&first["token_type"], &first["expires_in"]), (&json!("Bearer"), &json!(10)));
    let claims = world.claims(first["access_token"].as_str().expect("a token")).await;
    assert_eq!((claims.sub.as_str(), claims.client_id.as_str()), ("id-of-alice", "phone"));
    let second = world.refresh_by_body(&first["refresh_token"]).await;
    assert_eq!(set_cookies(second.headers()), [""; 0]);
    let second = json(second).await;
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let body = json!({ "refresh_token": second["refresh_token"] }).to_string();
    assert_eq!(world.call(Method::DELETE, SESSION, &[], &body).await.status(), StatusCode::NO_CONTENT);
    let over = world.refresh_by_body(&second["refresh_token"]).await;
    assert_eq!(code(over).await, refusal(401, "not-signed-in"));
}

#[tokio::test]
async fn a_page_gets_no_tokens_in_the_body() {
    let world = World::new().await;
    let jar = world.browser().await;

    let asked = world.post(&with(alice(), &json!({ "response": "body" }))).await;
    let taken = world.refresh_by_body(&json!(jar.get("__Host-refresh"))).await;

    assert_eq!(code(asked).await, refusal(403, "tokens-not-allowed"));
    assert_eq!(code(taken).await, refusal(403, "tokens-not-allowed"));
}

#[tokio::test]
async fn what_cookies_decide_needs_the_proof_that_a_page_of_ours_asked_for_it() {
    let site = |value| ("sec-fetch-site", value);
    let from = |value| ("origin", value);
    let (ok, forged) = (StatusCode::OK, StatusCode::FORBIDDEN);
    let table: [(&[(&str, &str)], StatusCode); 16] = [
        (&[site("same-origin")], ok),
        (&[site("same-origin"), from(ISSUER)], ok),
        (&[from(ISSUER)], ok),
        (&[from(PAGE)], ok),
        (&[site("same-site"), from(PAGE)], ok),
        (&[], forged),
        (&[site("same-site")], forged),
        (&[site("cross-site")], forged),
        (&[site("none")], forged),
        (&[site("same-site"), from(ISSUER)], forged),
        (&[from("https://evil.example.com")], forged),
        (&[from("https://others.example.com")], forged),
        (&[from("null")], forged),
        (&[from("http://id.example.com")], forged),
        (&[from("https://id.example.com:8443")], forged),
        (&[from(PAGE), from(PAGE)], forged),
    ];
    let world = World::new().await;
    for (headers, expected) in table {
        let signed_in = world.call(Method::POST, SESSION, headers, &alice().to_string()).await;
        assert_eq!(signed_in.status(), expected, "to sign in: {headers:?}");
        assert_eq!(set_cookies(signed_in.headers()).is_empty(), expected == forged);

        let jar = world.browser().await;
        let line = jar.line();
        let with_cookies = [headers, &[("cookie", line.as_str())]].concat();
        let refreshed = world.call(Method::POST, REFRESH, &with_cookies, "").await;
        assert_eq!(refreshed.status(), expected, "to refresh: {headers:?}");
        let ended = world.call(Method::DELETE, SESSION, &with_cookies, "").await;
        let expected = if expected == ok { StatusCode::NO_CONTENT } else { forged };
        assert_eq!(ended.status(), expected, "to sign out: {headers:?}");
        assert_eq!(set_cookies(ended.headers()).is_empty(), expected == forged);
    }
}

#[tokio::test]
async fn another_page_gets_nothing_for_a_native_app_either() {
    let world = World::new().await;
    let tokens = world.phone().await;

    for headers in [("origin", "https://evil.example.com"), ("sec-fetch-site", "cross-site"), ("origin", PAGE)] {
        let asked = world.call(Method::POST, SESSION, &[headers], &on_phone().to_string()).await;
        assert_eq!(code(asked).await, refusal(403, "cross-site"));
        let body = json!({ "refresh_token": tokens["refresh_token"] }).to_string();
        let refreshed = world.call(Method::POST, REFRESH, &[headers], &body).await;
        assert_eq!(code(refreshed).await, refusal(403, "cross-site"));
    }
}

#[tokio::test]
async fn other_sites_can_not_take_the_cookies_away() {
    let world = World::new().await;

    // The cookies stay at home: they are `SameSite=Strict`.
    for (method, path) in [(Method::POST, REFRESH), (Method::DELETE, SESSION)] {
        let response = world.call(method, path, &[("sec-fetch-site", "cross-site")], "").await;

        assert_eq!(set_cookies(response.headers()), [""; 0]);
    }
}

#[tokio::test]
async fn only_the_pages_of_the_client_may_read_the_answers() {
    let world = World::new().await;
    let jar = world.browser().await;
    let line = jar.line();
    for (origin, may) in [
        (PAGE, true),
        ("https://others.example.com", false),
        ("https://evil.example.com", false),
        ("null", false),
        (ISSUER, false),
    ] {
        let preflight = [("origin", origin), ("access-control-request-method", "POST")];
        let answers = [
            world.call(Method::OPTIONS, SESSION, &preflight, "").await,
            world.call(Method::OPTIONS, REFRESH, &preflight, "").await,
            world.call(Method::GET, SESSION, &[("origin", origin), ("cookie", &line)], "").await,
            world.call(Method::POST, SESSION, &[("origin", origin)], &alice().to_string()).await,
            world.call(Method::POST, REFRESH, &[("origin", origin)], "").await,
        ];
        for response in answers {
            let headers = response.headers();
            assert_eq!(headers["vary"], "origin");
            let allowed = headers.get("access-control-allow-origin").map(|it| it.to_str().expect("text"));
            assert_eq!(allowed, may.then_some(origin));
            assert_eq!(headers.contains_key("access-control-allow-credentials"), may);
        }
    }
    let answer = world.call(Method::OPTIONS, SESSION, &[("origin", PAGE)], "").await;
    assert_eq!(answer.headers()["access-control-allow-methods"], "GET, POST, DELETE");
    assert_eq!(answer.headers()["access-control-allow-headers"], "authorization, content-type");
}

#[tokio::test]
async fn whatever_comes_is_refused_in_words() {
    let world = World::new().await;
    let deep = format!("{{\"username\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let huge = format!("{{\"username\":\"{}\"}}", "x".repeat(70_000));
    let long_password = with(alice(), &json!({ "password": "x".repeat(60_000) })).to_string();
    let nul = with(alice(), &json!({ "username": "a\u{0}b" })).to_string();
    let (bad, wrong) = (refusal(400, "invalid-request"), refusal(401, "invalid-credentials"));
    let table: [(&str, (u16, String)); 25] = [
        ("", refusal(415, "unsupported-media-type")),
        ("{", bad.clone()),
        ("{}", bad.clone()),
        ("[]", bad.clone()),
        ("null", bad.clone()),
        ("\"alice\"", bad.clone()),
        (r#"["alice","correct horse battery staple","shop"]"#, bad.clone()),
        (r#"{"username":"alice","password":"x"}"#, bad.clone()),
        (r#"{"username":"alice","username":"bob","password":"x","client_id":"shop"}"#, bad.clone()),
        (r#"{"username":"alice","email":"alice","password":"x","client_id":"shop"}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":"shop","client_id":"phone"}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":"shop","admin":true}"#, bad.clone()),
        (r#"{"username":1,"password":"x","client_id":"shop"}"#, bad.clone()),
        (r#"{"username":"alice","password":{"$ne":""},"client_id":"shop"}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":["shop"]}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":"shop","remember":"hunter2"}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":"shop","response":"header"}"#, bad.clone()),
        (r#"{"username":"\ud800","password":"x","client_id":"shop"}"#, bad.clone()),
        (r#"{"username":"alice","password":"x","client_id":"shop"} {}"#, bad.clone()),
        (r#"{"username":"  ","password":"x","client_id":"shop"}"#, bad.clone()),
        ("\u{feff}{}", bad.clone()),
        (&deep, bad.clone()),
        (&nul, bad.clone()),
        (&huge, refusal(413, "too-large")),
        (&long_password, wrong),
    ];
    for (body, expected) in table {
        let response = world.call(Method::POST, SESSION, &[OURS], body).await;

        assert_eq!(code(response).await, expected, "{}", &body[..body.len().min(80)]);
    }
    for content_type in
        ["application/x-www-form-urlencoded", "text/plain", "application/jsonp", "", "multipart/form-data"]
    {
        let headers = [OURS, ("content-type", content_type)];
        let response = world.call(Method::POST, SESSION, &headers, &alice().to_string()).await;

        assert_eq!(code(response).await, refusal(415, "unsupported-media-type"), "{content_type}");
    }
}

#[tokio::test]
async fn a_problem_does_not_repeat_what_was_sent() {
    let world = World::new().await;

    for body in [r#"{"hunter2":1}"#, r#"{"remember":"hunter2"}"#, r#"{"password":"hunter2"}"#, "{\"username\":hunter2}"]
    {
        let answer = bytes(world.call(Method::POST, SESSION, &[OURS], body).await).await;

        assert!(!String::from_utf8_lossy(&answer).contains("hunter2"), "{body}");
    }
}

#[tokio::test]
async fn tokens_that_are_none_are_refused() {
    let world = World::new().await;
    for token in ["", "x", "a&scope=openid", "a=b", "é", "\u{0}", &"x".repeat(10_000), "a.b.c"] {
        let response = world.refresh_by_body(&json!(token)).await;
        assert_eq!(code(response).await, refusal(401, "not-signed-in"), "{token}");
        let cookie = format!("__Host-refresh={token}; __Host-access={token}");
        let Ok(cookie) = HeaderValue::from_str(&cookie) else { continue };
        for (method, path, status) in
            [(Method::POST, REFRESH, 401), (Method::GET, SESSION, 401), (Method::DELETE, SESSION, 204)]
        {
            let request = Request::builder().method(method).uri(path).header(OURS.0, OURS.1).header("cookie", &cookie);
            let response = send(&world.app, request.body(Body::empty()).expect("a request")).await;
            assert_eq!(response.status().as_u16(), status, "{token} {path}");
        }
    }
    let other = world.call(Method::PUT, SESSION, &[OURS], "").await;
    assert_eq!(other.headers()["allow"], "GET, HEAD, POST, DELETE, OPTIONS");
}
