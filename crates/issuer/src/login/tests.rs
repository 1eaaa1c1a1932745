//! The pages, through the router: what they show, what they refuse, and what they tell the browser.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{Request, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::app::App;
use crate::edges::Author;
use crate::http::request::Peer;
use crate::storage::{By, NewGrant, Origin};
use crate::testing::{Home, bytes, send};
use crate::users::{NewUser, Rights};

const PASSWORD: &str = "correct horse battery";
const OTHER: &str = "staple wheel lantern";

/// An authorization request of the shop.
const WAITING: &str = "/oauth2/authorize?client_id=shop&response_type=code&scope=openid%20email%20orders%3Aread\
    &redirect_uri=https%3A%2F%2Fshop.example%2Fcb&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
    &code_challenge_method=S256&state=s";

/// An issuer with a shop, Alice and Bob.
struct World {
    home: Home,
    app: Arc<App>,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With some words of the configuration exchanged.
    async fn with(exchanged: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let shop = r#"[[client]]
            id = "shop"
            name = "Shop <script>alert(1)</script>"
            redirect_uris = ["https://shop.example/cb", "http://127.0.0.1:3000/cb"]
            logo_uri = "https://pictures.example/shop.png"
            policy_uri = "https://shop.example/privacy"
            frontchannel_logout_uri = "https://shop.example/bye"
            frontchannel_logout_session_required = true
            backchannel_logout_uri = "https://shop.example/back"
            scopes = ["openid", "email", "orders:read"]
            [[client]]"#;
        let exchanged: Vec<_> = [("[[client]]", shop)].into_iter().chain(exchanged.iter().copied()).collect();
        let app = App::open(home.config_with("", &exchanged), home.edges()).await.expect("an issuer");
        let by = By::new(&Author::operator(), app.clock.now());
        for (name, password, disabled) in [("alice", PASSWORD, false), ("bob", OTHER, false), ("carol", OTHER, true)] {
            let hash = app.passwords.hash(password).await.expect("hashed");
            let claims = json!({ "name": format!("{name} <b>Example</b>") });
            let user = NewUser {
                id: format!("u-{name}"),
                username: name.to_owned(),
                email: Some(format!("{name}@example.com")),
                email_verified: true,
                claims: claims.as_object().expect("an object").clone(),
                roles: Vec::new(),
                groups: Vec::new(),
                rights: Rights::default(),
                password_hash: Some(hash),
                disabled,
            };
            app.store.insert_users(&[user], &by).await.expect("stored");
        }
        Self { home, app }
    }

    fn browser(&self) -> Browser {
        Browser::new(Arc::clone(&self.app))
    }

    async fn alice(&self) -> Browser {
        let mut browser = self.browser();
        let answer = browser.sign_in("alice", PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        browser
    }

    async fn events(&self) -> Vec<String> {
        let events = self.app.store.load_events(None, 100).await.expect("events");
        events.into_iter().map(|event| event.kind).collect()
    }
}

/// What a browser keeps, and sends along.
struct Browser {
    app: Arc<App>,
    cookies: BTreeMap<String, String>,
    headers: Vec<(&'static str, String)>,
    address: IpAddr,
}

/// An answer, read.
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Browser {
    fn new(app: Arc<App>) -> Self {
        Self { app, cookies: BTreeMap::new(), headers: Vec::new(), address: Ipv4Addr::new(192, 0, 2, 7).into() }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded"), body).await
    }

    /// Opens the page to sign in, and sends its form.
    async fn sign_in(&mut self, username: &str, password: &str) -> Answer {
        self.sign_in_for("", &[("username", username), ("password", password)]).await
    }

    async fn sign_in_for(&mut self, to: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.get("/login").await;
        let csrf = page.csrf();
        let fields: Vec<_> =
            [("csrf", csrf.as_str()), ("continue", to)].into_iter().chain(fields.iter().copied()).collect();
        self.post("/login", &fields).await
    }

    async fn send(&mut self, request: http::request::Builder, body: String) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.extension(Peer(self.address)).header(COOKIE, cookies.join("; "));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let response: Response = send(&self.app, request.body(Body::from(body)).expect("a request")).await;
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("ASCII");
            let (name, value) = cookie.split(';').next().and_then(|it| it.split_once('=')).expect("a cookie");
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = String::from_utf8(bytes(response).await).expect("UTF-8");
        if headers.get(CONTENT_TYPE).is_some_and(|it| it == "text/html; charset=utf-8") {
            assert_well_formed(&body);
        }
        Answer { status, headers, body }
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|it| it.to_str().expect("ASCII")).unwrap_or_default()
    }

    fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.header(LOCATION.as_str())
    }

    /// The value of the page's field `csrf`.
    fn csrf(&self) -> String {
        let (_, rest) =
            self.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {}", self.body));
        rest.split('"').next().expect("a value").to_owned()
    }

    fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|it| it.to_str().expect("ASCII")).collect()
    }
}

/// Every element is closed in its turn, every attribute is quoted, no id is there twice, and nothing runs.
fn assert_well_formed(html: &str) {
    const VOID: [&str; 6] = ["!doctype", "meta", "link", "img", "input", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains('>'), "a stray >: {text}");
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        rest = after;
        let name = tag.split([' ', '\n']).next().expect("a tag has a name");
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        assert!(!tag.contains(" style=") && !tag.contains(" on"), "<{tag}>");
        assert_ne!(name, "script");
        assert_ne!(name, "style");
        if let Some((_, id)) = tag.split_once(" id=\"") {
            let id = id.split('"').next().expect("a value");
            assert!(!ids.contains(&id), "the id {id} is there twice");
            ids.push(id);
        }
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "in {html}");
        } else if !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} in {html}");
    for reference in ["for=\"", "aria-describedby=\"", "aria-labelledby=\""] {
        for rest in html.split(reference).skip(1) {
            for id in rest.split('"').next().expect("a value").split(' ') {
                assert!(ids.contains(&id), "{reference}{id}: there is no such id");
            }
        }
    }
}

#[tokio::test]
async fn whoever_signs_in_gets_a_session_and_goes_on() {
    let world = World::new().await;
    let mut browser = world.browser();

    let answer = browser.sign_in("Alice@Example.com", PASSWORD).await;

    assert_eq!(answer.location(), "/account");
    let [cookie, device] = answer.cookies().try_into().expect("two cookies");
    assert!(
        device.starts_with("keywheel-device=")
            && device.ends_with("; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax")
    );
    let (value, attributes) =
        cookie.strip_prefix("keywheel-session=").and_then(|it| it.split_once(';')).expect("a cookie");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax", "a window's, and not Secure on http");
    assert_eq!(value.len(), 43);
    let account = browser.get("/account").await;
    assert_eq!(account.status, StatusCode::OK);
    assert!(account.body.contains("alice@example.com") && account.body.contains("This device"), "{}", account.body);
    assert_eq!(world.events().await, ["user.signed_in"]);
}

#[tokio::test]
async fn on_https_cookies_are_for_this_host_alone() {
    let world = World::with(&[("http://localhost:8080", "https://id.example.com")]).await;
    let mut browser = world.browser();

    let page = browser.get("/login").await;
    let answer = browser.sign_in_for("", &[("username", "alice"), ("password", PASSWORD), ("remember", "yes")]).await;

    let attributes = |cookie: &str| cookie.split_once(';').map(|(_, rest)| rest.to_owned());
    let [form] = page.cookies().try_into().expect("one cookie");
    assert!(form.starts_with("__Host-form="));
    assert_eq!(attributes(form).as_deref(), Some(" Path=/; Secure; HttpOnly; SameSite=Lax"));
    let [session, device] = answer.cookies().try_into().expect("two cookies");
    assert!(device.starts_with("__Host-device="));
    let known = " Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(attributes(device).as_deref(), Some(known));
    assert!(session.starts_with("__Host-session="));
    let remembered = " Path=/; Max-Age=2592000; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(attributes(session).as_deref(), Some(remembered));
}

#[tokio::test]
async fn only_the_hash_of_the_cookie_is_stored() {
    let world = World::new().await;
    let browser = world.alice().await;

    let value = browser.cookies["keywheel-session"].as_bytes();

    let mut files = std::fs::read_dir(world.home.path()).expect("a folder");
    assert!(!files.any(|file| {
        let content = std::fs::read(file.expect("a file").path()).expect("read");
        content.windows(value.len()).any(|window| window == value)
    }));
}

#[tokio::test]
async fn signing_in_again_renews_the_cookie_and_ends_the_old_one() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let old = browser.cookies.clone();

    // An app that wants a new sign-in.
    let answer = browser.sign_in_again(PASSWORD).await;

    assert!(answer.location().starts_with("/oauth2/authorize?"));
    assert_ne!(browser.cookies["keywheel-session"], old["keywheel-session"]);
    let mut stolen = Browser { cookies: old, ..world.browser() };
    assert_eq!(stolen.get("/account").await.location(), "/login?continue=%2Faccount");
}

impl Browser {
    /// What an app's `prompt=login` leads to.
    async fn sign_in_again(&mut self, password: &str) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
        let page = self.get(&format!("/login?{query}")).await;
        let csrf = page.csrf();
        let fields = [("csrf", csrf.as_str()), ("continue", WAITING), ("username", "alice"), ("password", password)];
        self.post("/login", &fields).await
    }
}

#[tokio::test]
async fn a_session_ends_by_age_and_by_idleness_and_its_use_is_noted() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    for _ in 0..11 {
        world.home.clock.advance(3600);
        assert_eq!(browser.get("/account").await.status, StatusCode::OK, "an hour of idleness is allowed");
    }
    world.home.clock.advance(3600);
    assert_eq!(browser.get("/account").await.status, StatusCode::SEE_OTHER, "twelve hours are not");

    let mut idle = world.alice().await;
    world.home.clock.advance(2 * 3600);
    assert_eq!(idle.get("/account").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_remembered_session_lives_on() {
    let world = World::new().await;
    let mut browser = world.browser();
    browser.sign_in_for("", &[("username", "alice"), ("password", PASSWORD), ("remember", "yes")]).await;

    world.home.clock.advance(29 * 86_400);

    assert_eq!(browser.get("/account").await.status, StatusCode::OK);
    world.home.clock.advance(86_400);
    assert_eq!(browser.get("/account").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn nobody_is_remembered_where_that_is_not_offered() {
    let world = World::with(&[("access_ttl = \"10s\"", "access_ttl = \"10s\"\nremember_ttl = \"0s\"")]).await;
    let mut browser = world.browser();

    assert!(!browser.get("/login").await.body.contains("name=\"remember\""));
    let fields = [("username", "alice"), ("password", PASSWORD), ("remember", "yes")];
    let answer = browser.sign_in_for("", &fields).await;

    let [session, _] = answer.cookies().try_into().expect("two cookies");
    assert!(session.starts_with("keywheel-session=") && !session.contains("Max-Age"), "{session}");
}

#[tokio::test]
async fn unknown_wrong_and_disabled_are_one_answer() {
    let world = World::new().await;
    let mut pages = Vec::new();
    for (name, password) in [("alice", OTHER), ("nobody", PASSWORD), ("carol", OTHER), ("carol", PASSWORD)] {
        let mut browser = world.browser();
        let answer = browser.sign_in(name, password).await;
        let csrf = answer.csrf();
        pages.push((answer.status, answer.cookies().len(), answer.body.replace(&csrf, "").replace(name, "")));
    }

    assert_eq!(pages[0].0, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(pages[0].2.contains("role=\"alert\"") && !pages[0].2.contains(OTHER));
    for page in &pages {
        assert_eq!(page, &pages[0]);
    }
    let before = world.app.passwords.computed();
    world.browser().sign_in("nobody", PASSWORD).await;
    assert_eq!(world.app.passwords.computed(), before + 1, "a hash is computed for nobody too");
    assert_eq!(world.events().await, ["user.sign_in_failed"; 5]);
}

#[tokio::test]
async fn an_account_waits_after_too_many_attempts_and_not_for_long() {
    let world = World::new().await;
    let mut browser = world.browser();
    for name in ["alice", "nobody"] {
        for attempt in 0..10_u8 {
            // Each from another address, as a stranger would.
            browser.address = Ipv4Addr::new(198, 51, 100, attempt).into();
            assert_eq!(browser.sign_in(name, "wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
        }

        let answer = browser.sign_in(name, PASSWORD).await;

        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{name}");
        assert_eq!(answer.header(RETRY_AFTER.as_str()), "300");
        assert!(answer.body.contains("Wait 5 minutes"), "{}", answer.body);
    }
    world.home.clock.advance(300);
    assert_eq!(browser.sign_in("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
    assert_eq!(world.events().await.iter().filter(|kind| *kind == "user.sign_in_throttled").count(), 2);
}

/// Makes an account wait, as strangers would.
async fn lock(world: &World, name: &str) {
    let mut stranger = world.browser();
    for attempt in 0..10_u8 {
        stranger.address = Ipv4Addr::new(198, 51, 100, attempt).into();
        assert_eq!(stranger.sign_in(name, "wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(stranger.sign_in(name, PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_stranger_has_nobody_wait_at_a_browser_they_have_signed_in_with() {
    let world = World::new().await;
    let mut own = world.alice().await;
    own.cookies.remove("keywheel-session");
    assert_eq!(own.sign_in("bob", OTHER).await.status, StatusCode::SEE_OTHER, "a browser of two people");
    for name in ["alice", "bob", "ALICE@example.com"] {
        lock(&world, name).await;
    }

    for (name, password) in [("alice", PASSWORD), ("bob", OTHER), ("ALICE@example.com", PASSWORD)] {
        own.cookies.remove("keywheel-session");
        assert_eq!(own.sign_in(name, password).await.status, StatusCode::SEE_OTHER, "{name}");
    }
    own.cookies.remove("keywheel-session");
    for _ in 0..10 {
        assert_eq!(own.sign_in("alice", "wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(own.sign_in("alice", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS, "it is no way around");
    assert_eq!(own.sign_in("bob", OTHER).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_browser_is_known_by_what_we_gave_it_for_this_person() {
    let world = World::new().await;
    let mut of_bob = world.browser();
    of_bob.sign_in("bob", OTHER).await;
    let of_bob = of_bob.cookies["keywheel-device"].clone();
    lock(&world, "alice").await;

    for device in [of_bob.as_str(), &"A".repeat(64), &"A".repeat(256), "A", &format!("{of_bob}A")] {
        let mut browser = world.browser();
        browser.cookies.insert("keywheel-device".to_owned(), device.to_owned());
        assert_eq!(browser.sign_in("alice", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS, "{device}");
    }
}

#[tokio::test]
async fn a_browser_knows_the_last_few_people_who_signed_in_with_it() {
    let world = World::new().await;
    let by = By::new(&Author::operator(), world.app.clock.now());
    let hash = world.app.passwords.hash(OTHER).await.expect("hashed");
    let alice = world.app.store.user_by_id("u-alice").await.expect("read").expect("a user");
    let mut browser = world.alice().await;
    for number in 0..4 {
        let user = NewUser {
            id: format!("u-{number}"),
            username: format!("user-{number}"),
            email: None,
            email_verified: false,
            claims: alice.claims.clone(),
            roles: Vec::new(),
            groups: Vec::new(),
            rights: Rights::default(),
            password_hash: Some(hash.clone()),
            disabled: false,
        };
        world.app.store.insert_users(&[user], &by).await.expect("stored");
        browser.cookies.remove("keywheel-session");
        assert_eq!(browser.sign_in(&format!("user-{number}"), OTHER).await.status, StatusCode::SEE_OTHER);
    }

    assert_eq!(browser.cookies["keywheel-device"].len(), 256);
    lock(&world, "alice").await;
    browser.cookies.remove("keywheel-session");
    assert_eq!(
        browser.sign_in("alice", PASSWORD).await.status,
        StatusCode::TOO_MANY_REQUESTS,
        "four others came since"
    );
}

#[tokio::test]
async fn an_address_waits_after_too_many_failures() {
    let limits = "[limits]\naddress_failures = 3\naddress_window = \"1m\"\n[storage]";
    let world = World::with(&[("[storage]", limits)]).await;
    let mut browser = world.browser();
    for name in ["one", "two", "three"] {
        browser.sign_in(name, "wrong").await;
    }

    let answer = browser.sign_in("alice", PASSWORD).await;

    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    let mut elsewhere = Browser { address: Ipv4Addr::new(203, 0, 113, 9).into(), ..world.browser() };
    assert_eq!(elsewhere.sign_in("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
    world.home.clock.advance(60);
    assert_eq!(browser.sign_in("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn nothing_typed_is_no_attempt() {
    let world = World::new().await;
    let mut browser = world.browser();

    for fields in
        [&[("username", "alice")][..], &[("password", PASSWORD)], &[("username", " "), ("password", PASSWORD)], &[]]
    {
        let answer = browser.sign_in_for("", fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn a_sign_in_leads_nowhere_else() {
    let world = World::new().await;
    for to in ["//evil.example", "/\\evil.example", "%2f%2fevil.example", "https://evil.example", "/static/x", ""] {
        let mut browser = world.browser();
        let fields = [("username", "alice"), ("password", PASSWORD)];
        assert_eq!(browser.sign_in_for(to, &fields).await.location(), "/account", "{to}");
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", to).finish();
        assert_eq!(browser.get(&format!("/login?{query}")).await.location(), "/account", "{to}");
    }
    let mut browser = world.browser();
    let fields = [("username", "alice"), ("password", PASSWORD)];
    assert_eq!(browser.sign_in_for("/account/password", &fields).await.location(), "/account/password");
}

#[tokio::test]
async fn a_form_needs_the_token_of_its_own_browser() {
    let world = World::new().await;
    let mut browser = world.browser();
    let token = browser.get("/login").await.csrf();
    let foreign = world.browser().get("/login").await.csrf();
    let good = [("username", "alice"), ("password", PASSWORD)];
    fn with(csrf: &str) -> Vec<(&str, &str)> {
        vec![("csrf", csrf), ("username", "alice"), ("password", PASSWORD)]
    }

    let altered = format!("{}{}", &token[..42], if token.ends_with('A') { "E" } else { "A" });
    for fields in [good.to_vec(), with(""), with("x"), with(&foreign), with(&altered)] {
        let answer = browser.post("/login", &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.body.contains("out of date"), "{}", answer.body);
    }
    let mut without_cookie = world.browser();
    assert_eq!(without_cookie.post("/login", &with(&token)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post("/login", &with(&token)).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_token_is_worth_nothing_in_another_session() {
    let world = World::new().await;
    let mut alice = world.alice().await;
    let mut bob = world.browser();
    bob.sign_in("bob", OTHER).await;
    let (of_alice, of_bob) = (alice.get("/account").await.csrf(), bob.get("/account").await.csrf());
    let of_login = bob.sign_in_token().await;

    for path in ["/account/sign-out", "/account/apps/remove", "/account/password", "/consent", "/select-account"] {
        for token in [of_bob.as_str(), of_login.as_str(), ""] {
            let answer = alice.post(path, &[("csrf", token), ("all", "everywhere")]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    let answer = alice.post("/account/sign-out", &[("csrf", &of_alice), ("all", "everywhere")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let again = alice.post("/account/sign-out", &[("csrf", &of_alice), ("all", "everywhere")]).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN, "the session is over");
}

impl Browser {
    async fn sign_in_token(&mut self) -> String {
        let mut fresh = Browser::new(Arc::clone(&self.app));
        let token = fresh.get("/login").await.csrf();
        self.cookies.extend(fresh.cookies);
        token
    }
}

#[tokio::test]
async fn another_site_can_send_no_form() {
    let world = World::new().await;
    for (header, value, status) in [
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("origin", "http://localhost:8081", StatusCode::FORBIDDEN),
        ("origin", "http://localhost:8080", StatusCode::SEE_OTHER),
        ("sec-fetch-site", "same-origin", StatusCode::SEE_OTHER),
        ("sec-fetch-site", "none", StatusCode::SEE_OTHER),
    ] {
        let mut browser = world.browser();
        let csrf = browser.get("/login").await.csrf();
        browser.headers.push((header, value.to_owned()));
        let fields = [("csrf", csrf.as_str()), ("username", "alice"), ("password", PASSWORD)];
        let answer = browser.post("/login", &fields).await;
        assert_eq!(answer.status, status, "{header}: {value}");
    }
}

#[tokio::test]
async fn every_page_has_its_headers() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    for path in ["/", "/account", "/account/password", "/consent"] {
        let answer = browser.get(path).await;
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
            "{path}"
        );
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
    }
    assert_eq!(browser.get("/account").await.header("cross-origin-opener-policy"), "same-origin");
}

#[tokio::test]
async fn a_page_for_an_app_allows_what_the_app_needs() {
    let world = World::new().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let mut browser = world.browser();
    let mut pages = vec![browser.get(&format!("/login?{query}")).await];
    browser.sign_in("alice", PASSWORD).await;
    for path in ["/consent", "/select-account"] {
        pages.push(browser.get(&format!("{path}?{query}")).await);
    }

    for page in pages {
        assert_eq!(page.status, StatusCode::OK);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("form-action 'self' https://shop.example;"), "{policy}");
        assert!(policy.contains("img-src 'self' https://pictures.example;"), "{policy}");
        assert_eq!(page.header("cross-origin-opener-policy"), "", "an app may have opened the window");
        assert!(page.body.contains("Shop &lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.body);
        assert!(page.body.contains("https://pictures.example/shop.png"), "{}", page.body);
    }
}

#[tokio::test]
async fn the_page_to_sign_in_can_be_filled_in_by_the_app() {
    let world = World::new().await;
    let mut browser = world.browser();
    let query = |more: &str| {
        let to = format!("{WAITING}{more}");
        form_urlencoded::Serializer::new(String::new()).append_pair("continue", &to).finish()
    };

    let hinted = browser.get(&format!("/login?{}", query("&login_hint=al%22%3Cice&ui_locales=fr+de"))).await;

    assert!(hinted.body.contains("value=\"al&quot;&lt;ice\""), "{}", hinted.body);
    assert!(hinted.body.contains("<html lang=\"de\">"));
    let password = hinted.body.split("id=\"password\"").nth(1).expect("a field");
    assert!(password.split('>').next().expect("a tag").contains("autofocus"), "the name is there already");
}

#[tokio::test]
async fn an_app_is_allowed_what_it_asks_for() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let page = browser.get(&format!("/consent?{query}")).await;
    assert!(
        page.body.contains("See your e-mail address") && page.body.contains("<code>orders:read</code>"),
        "{}",
        page.body
    );
    let csrf = page.csrf();

    let answer = browser.post("/consent", &[("csrf", &csrf), ("continue", WAITING), ("decision", "allow")]).await;

    assert!(answer.location().starts_with("/oauth2/authorize?"), "{}", answer.location());
    assert_ne!(answer.location(), WAITING, "it says that somebody agreed");
    let consented = world.app.store.consent("u-alice", "shop").await.expect("read").expect("there");
    assert_eq!(consented, ["email", "openid", "orders:read"]);
    let account = browser.get("/account").await;
    assert!(account.body.contains("Shop &lt;script&gt;"), "{}", account.body);
}

#[tokio::test]
async fn what_an_app_asks_for_is_said_in_the_operators_words() {
    let scope = r#"[[scope]]
        name = "orders:read"
        description = { en = "See your <orders>", de = "Deine Bestellungen sehen" }
        [keys]"#;
    let world = World::with(&[("[keys]", scope)]).await;
    let mut browser = world.alice().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();

    let page = browser.get(&format!("/consent?{query}")).await;
    assert!(page.body.contains("<li>See your &lt;orders&gt;</li>"), "{}", page.body);
    assert!(!page.body.contains("orders:read</code>"));
    let page = browser.get(&format!("/consent?{query}&lang=de")).await;
    assert!(page.body.contains("Deine Bestellungen sehen"), "{}", page.body);
    browser.post("/consent", &[("csrf", &page.csrf()), ("continue", WAITING), ("decision", "allow")]).await;
    assert!(browser.get("/account?lang=en").await.body.contains("<li>See your &lt;orders&gt;</li>"));
}

#[tokio::test]
async fn nobody_is_asked_for_what_they_may_not_have() {
    let scope = "[[scope]]\nname = \"orders:read\"\nroles = [\"seller\"]\n[keys]";
    let world = World::with(&[("[keys]", scope)]).await;
    let mut browser = world.alice().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let page = browser.get(&format!("/consent?{query}")).await;
    assert!(
        page.body.contains("See your e-mail address") && !page.body.contains("orders:read</code>"),
        "{}",
        page.body
    );

    let fields = [("csrf", &*page.csrf()), ("continue", WAITING), ("decision", "allow")];
    let on = browser.post("/consent", &fields).await.location().to_owned();

    let consented = world.app.store.consent("u-alice", "shop").await.expect("read").expect("there");
    assert_eq!(consented, ["email", "openid"]);
    let answer = browser.get(&on).await;
    assert!(answer.location().starts_with("https://shop.example/cb?code="), "{}", answer.location());
    let all = browser.get(WAITING).await;
    assert!(all.location().starts_with("https://shop.example/cb?code="), "nothing of it is new: {}", all.location());
    let only = WAITING.replace("openid%20email%20", "");
    let denied = browser.get(&only).await;
    assert!(denied.location().starts_with("https://shop.example/cb?error=access_denied"), "{}", denied.location());
    let as_another = browser.get(&format!("{only}&prompt=login")).await;
    assert!(as_another.location().starts_with("/login?"), "somebody else may have it: {}", as_another.location());
}

#[tokio::test]
async fn an_app_is_told_when_somebody_refuses() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let csrf = browser.get(&format!("/consent?{query}")).await.csrf();

    let answer = browser.post("/consent", &[("csrf", &csrf), ("continue", WAITING), ("decision", "deny")]).await;

    assert!(answer.location().starts_with("https://shop.example/cb?error=access_denied"), "{}", answer.location());
    assert_eq!(world.app.store.consent("u-alice", "shop").await.expect("read"), None);
}

#[tokio::test]
async fn pages_about_an_app_need_one_and_somebody() {
    let world = World::new().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    for path in ["/consent", "/select-account"] {
        let mut nobody = world.browser();
        let answer = nobody.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.location(), format!("/login?{query}"));
        let mut alice = world.alice().await;
        for nothing in ["", "?continue=%2Faccount", "?continue=%2Foauth2%2Fauthorize%3Fclient_id%3Dnobody"] {
            let answer = alice.get(&format!("{path}{nothing}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}{nothing}");
            assert!(answer.body.contains("Nothing to continue"), "{}", answer.body);
        }
        let csrf = alice.get("/account").await.csrf();
        let answer = alice.post(path, &[("csrf", &csrf), ("decision", "allow")]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn an_account_is_chosen() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let page = browser.get(&format!("/select-account?{query}")).await;

    let answer = browser.post("/select-account", &[("csrf", &page.csrf()), ("continue", WAITING)]).await;

    assert!(answer.location().starts_with("/oauth2/authorize?") && answer.location() != WAITING);
}

#[tokio::test]
async fn the_account_page_signs_out_one_device_or_all() {
    let world = World::new().await;
    let (mut here, mut there, mut third) = (world.alice().await, world.browser(), world.alice().await);
    there.headers.push(("user-agent", "<script>Firefox/1 Linux".to_owned()));
    there.sign_in("alice", PASSWORD).await;
    let page = here.get("/account").await;
    assert!(page.body.contains("Firefox on Linux") && !page.body.contains("<script>"), "{}", page.body);
    let csrf = page.csrf();
    let now = world.app.clock.now();
    let sessions = world.app.store.sessions_of_user("u-alice", now).await.expect("read");
    let there_sid = sessions.iter().find(|session| session.user_agent.contains("Firefox")).expect("there").sid.clone();

    let answer = here.post("/account/sign-out", &[("csrf", &csrf), ("sid", &there_sid)]).await;

    assert_eq!(answer.location(), "/account?done=signed-out");
    assert!(here.get("/account?done=signed-out").await.body.contains("That device is signed out."));
    assert_eq!(there.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(third.get("/account").await.status, StatusCode::OK);

    let answer = here.post("/account/sign-out", &[("csrf", &csrf), ("all", "others")]).await;
    assert_eq!(answer.location(), "/account?done=signed-out-others");
    assert_eq!(third.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(here.get("/account").await.status, StatusCode::OK);

    let mut third = world.alice().await;
    let home = third.get("/").await;
    let answer = third.post("/account/sign-out", &[("csrf", &home.csrf()), ("all", "here")]).await;
    assert!(answer.body.contains("You are signed out"), "{}", answer.body);
    assert_eq!(here.get("/account").await.status, StatusCode::OK);

    let answer = here.post("/account/sign-out", &[("csrf", &csrf), ("all", "everywhere")]).await;
    assert!(answer.body.contains("You are signed out"), "{}", answer.body);
    assert_eq!(answer.cookies(), ["keywheel-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"]);
    assert_eq!(here.get("/account").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn to_sign_out_everywhere_can_end_what_apps_do_meanwhile() {
    let world = World::new().await;
    let grant = NewGrant {
        id: "offline".to_owned(),
        user_id: "u-alice".to_owned(),
        client_id: "shop".to_owned(),
        sid: None,
        offline: true,
        scope: vec!["openid".to_owned(), "offline_access".to_owned()],
        audiences: vec!["https://api.example.com".to_owned()],
        claims_request: None,
        nonce: None,
        auth_time: world.app.clock.now(),
        amr: Vec::new(),
        acr: None,
    };
    let is_alive = async || world.app.store.grant("offline").await.expect("read").is_some();
    let mut browser = world.alice().await;
    assert!(!browser.get("/account").await.body.contains("name=\"apps\""), "there are no such apps");
    let origin = Origin { at: world.app.clock.now(), address: None };
    world
        .app
        .store
        .insert_grant(&grant, None, origin.at + std::time::Duration::from_secs(60), &origin)
        .await
        .expect("stored");

    let page = browser.get("/account").await;
    assert!(page.body.contains("<input type=\"checkbox\" name=\"apps\""), "{}", page.body);
    browser.post("/account/sign-out", &[("csrf", &page.csrf()), ("all", "everywhere")]).await;
    assert!(is_alive().await, "not unless it is said");

    let mut browser = world.alice().await;
    let csrf = browser.get("/account").await.csrf();
    let answer = browser.post("/account/sign-out", &[("csrf", &csrf), ("apps", "yes"), ("all", "everywhere")]).await;
    assert!(answer.body.contains("You are signed out"), "{}", answer.body);
    assert!(!is_alive().await);
}

#[tokio::test]
async fn nobody_signs_out_somebody_else() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.alice().await, world.browser());
    bob.sign_in("bob", OTHER).await;
    let now = world.app.clock.now();
    let sid = world.app.store.sessions_of_user("u-alice", now).await.expect("read")[0].sid.clone();
    let csrf = bob.get("/account").await.csrf();

    bob.post("/account/sign-out", &[("csrf", &csrf), ("sid", &sid)]).await;

    assert_eq!(alice.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_apps_of_a_session_hear_of_its_end() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let now = world.app.clock.now();
    let sid = world.app.store.sessions_of_user("u-alice", now).await.expect("read")[0].sid.clone();
    world.app.store.note_session_client(&sid, "shop", now).await.expect("noted");
    let csrf = browser.get("/account").await.csrf();

    let answer = browser.post("/account/sign-out", &[("csrf", &csrf), ("sid", &sid)]).await;

    let frame = format!("https://shop.example/bye?iss=http%3A%2F%2Flocalhost%3A8080&amp;sid={sid}");
    assert!(answer.body.contains(&format!("src=\"{frame}\"")), "{}", answer.body);
    assert!(answer.header("content-security-policy").contains("; frame-src https://shop.example; "));
    let due = world.app.store.due_logouts(now, 10, std::time::Duration::from_secs(60)).await.expect("read");
    assert_eq!(due.iter().map(|it| it.uri.as_str()).collect::<Vec<_>>(), ["https://shop.example/back"]);
}

#[tokio::test]
async fn an_app_loses_its_access() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let origin = Origin { at: world.app.clock.now(), address: None };
    let scopes = ["openid".to_owned()];
    world.app.store.give_consent("u-alice", "shop", &scopes, &origin).await.expect("stored");
    let csrf = browser.get("/account").await.csrf();

    let answer = browser.post("/account/apps/remove", &[("csrf", &csrf), ("client_id", "shop")]).await;

    assert_eq!(answer.location(), "/account?done=app-removed");
    assert_eq!(world.app.store.consent("u-alice", "shop").await.expect("read"), None);
    assert!(browser.get("/account").await.body.contains("No app has access"));
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knows_it() {
    let world = World::new().await;
    let (mut browser, mut other) = (world.alice().await, world.alice().await);
    let csrf = browser.get("/account/password").await.csrf();
    let new = "a lantern on the river";
    let cases = [
        (PASSWORD, "short", "short", "at least"),
        (PASSWORD, "password123456", "password123456", "lists"),
        (PASSWORD, "alice@example.com", "alice@example.com", "your name or address"),
        (PASSWORD, new, "a lantern on the rover", "not the same"),
        (PASSWORD, PASSWORD, PASSWORD, "Choose another"),
        ("wrong", new, new, "not your current password"),
        ("", new, new, "Enter your current password"),
    ];
    for (current, new, again, reason) in cases {
        let fields = [("csrf", csrf.as_str()), ("current", current), ("new", new), ("again", again)];
        let answer = browser.post("/account/password", &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{reason}");
        assert!(answer.body.contains(reason), "{reason}: {}", answer.body);
        assert!(!answer.body.contains(new) || reason.contains("address"), "a password is not shown again");
    }

    let fields = [("csrf", csrf.as_str()), ("current", PASSWORD), ("new", new), ("again", new), ("others", "yes")];
    let answer = browser.post("/account/password", &fields).await;

    assert_eq!(answer.location(), "/account?done=password-changed");
    assert_eq!(browser.get("/account").await.status, StatusCode::OK);
    assert_eq!(other.get("/account").await.status, StatusCode::SEE_OTHER, "others are signed out");
    assert_eq!(world.browser().sign_in("alice", PASSWORD).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.browser().sign_in("alice", new).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_current_password_can_not_be_tried_without_end() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    let csrf = browser.get("/account/password").await.csrf();
    let fields = |current| {
        [
            ("csrf", csrf.as_str()),
            ("current", current),
            ("new", "a lantern on the river"),
            ("again", "a lantern on the river"),
        ]
    };
    for _ in 0..10 {
        assert_eq!(browser.post("/account/password", &fields("wrong")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    let answer = browser.post("/account/password", &fields(PASSWORD)).await;

    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn pages_speak_the_language_that_is_asked_for() {
    let world = World::new().await;
    let mut browser = world.browser();
    browser.headers.push(("accept-language", "de-AT,de;q=0.9,en;q=0.8".to_owned()));
    assert!(browser.get("/login").await.body.contains("Passwort"));

    let english = browser.get("/login?login_hint=x&lang=en").await;

    assert!(english.body.contains("<html lang=\"en\">"));
    assert!(english.body.contains("href=\"/login?login_hint=x&amp;lang=de\""), "{}", english.body);
    assert!(browser.get("/login").await.body.contains("<html lang=\"en\">"), "it is remembered");
    let by_app = browser.get("/login?ui_locales=de").await;
    assert!(by_app.body.contains("<html lang=\"de\">"), "an app's wish counts more");
}

#[tokio::test]
async fn every_page_can_be_shown_in_every_language() {
    let world = World::new().await;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("continue", WAITING).finish();
    let mut alice = world.alice().await;
    let origin = Origin { at: world.app.clock.now(), address: None };
    let scopes: Vec<String> = crate::clients::OPENID_SCOPES.map(str::to_owned).into();
    world.app.store.give_consent("u-alice", "shop", &scopes, &origin).await.expect("stored");
    for language in ["en", "de"] {
        for path in [
            "/?x",
            "/account?x",
            "/account/password?x",
            &format!("/login?{query}"),
            &format!("/consent?{query}"),
            &format!("/select-account?{query}"),
        ] {
            let answer = alice.get(&format!("{path}&lang={language}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert!(answer.body.contains(&format!("<html lang=\"{language}\">")), "{path}");
        }
        let mut nobody = world.browser();
        assert_eq!(nobody.get(&format!("/?lang={language}")).await.status, StatusCode::OK);
        for done in ["signed-out", "signed-out-others", "app-removed", "password-changed"] {
            let answer = alice.get(&format!("/account?done={done}&lang={language}")).await;
            assert!(answer.body.contains("role=\"status\""), "{done}");
        }
    }
    assert!(!alice.get("/account?done=%3Cb%3E").await.body.contains("role=\"status\""));
}

#[tokio::test]
async fn a_sign_out_that_an_app_asks_for_is_confirmed() {
    let world = World::new().await;
    let mut browser = world.alice().await;
    browser.get("/account").await;
    let mut headers = http::HeaderMap::new();
    let cookie = format!("keywheel-session={}", browser.cookies["keywheel-session"]);
    headers.insert(COOKIE, cookie.parse().expect("a header"));
    let user = world.app.store.user_by_id("u-alice").await.expect("read").expect("there");
    let clients = world.app.clients();
    let asked = super::pages::logout::Confirmation {
        user: &user,
        client: clients.find("shop").map(AsRef::as_ref),
        post_logout_redirect_uri: Some("https://out.example/bye?x=1"),
        fields: &[("state", "\"><script>"), ("client_id", "shop")],
        ui_locales: &["de".to_owned()],
    };

    let page = super::pages::logout::confirmation(&world.app, &headers, &asked);

    let policy = page.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
    assert!(policy.contains("form-action 'self' https://out.example;"), "{policy}");
    let body = String::from_utf8(bytes(page).await).expect("UTF-8");
    assert_well_formed(&body);
    assert!(body.contains("<html lang=\"de\">") && body.contains("action=\"/oauth2/logout\""), "{body}");
    let token = body.split("name=\"csrf\" value=\"").nth(1).and_then(|it| it.split('"').next());
    let checked = super::csrf::check(&world.app, &headers, super::csrf::Bound::ToSession, token);
    assert_eq!(checked, Ok(()));
}

#[tokio::test]
async fn whoever_is_signed_out_goes_on_by_themselves() {
    let world = World::new().await;
    let clients = world.app.clients();
    let go_on = super::pages::logout::GoOn {
        uri: "https://shop.example/?a=\"b\"",
        client: clients.find("shop").expect("there"),
    };
    let frames = ["https://one.example/bye".to_owned(), "https://one.example/two".to_owned()];

    let page = super::pages::logout::signed_out(&world.app, &http::HeaderMap::new(), &frames, Some(&go_on), &[]);

    let policy = page.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
    assert!(policy.contains("; frame-src https://one.example; "), "{policy}");
    let body = String::from_utf8(bytes(page).await).expect("UTF-8");
    assert_well_formed(&body);
    assert!(body.contains("content=\"3;url=https://shop.example/?a=&quot;b&quot;\""), "{body}");
}

#[tokio::test]
async fn faults_are_told_to_people() {
    use super::pages::error::{Fault, page};
    let world = World::new().await;
    let response = page(&world.app, &http::HeaderMap::new(), Fault::UnknownRedirectUri, Some("<b> is not registered"));

    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = String::from_utf8(bytes(response).await).expect("UTF-8");
    assert_well_formed(&body);
    assert!(body.contains("<code>&lt;b&gt; is not registered</code>"), "{body}");
    let mut browser = world.browser();
    let answer = browser.get("/login?a=1&a=2").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let body = "x".repeat(70_000);
    let request = Request::post("/login").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(browser.send(request, body).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(browser.send(Request::post("/login"), "csrf=x".to_owned()).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn files_may_be_kept_for_ever() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser.get("/").await.body;
    for (start, content_type) in [("/static/pages-", "text/css; charset=utf-8"), ("/static/mark-", "image/svg+xml")] {
        let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("{start} is not in {page}"));
        let path = format!("{}{}", start, rest.split('"').next().expect("a value"));

        let file = browser.get(&path).await;

        assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, content_type));
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
        assert!(file.header("content-security-policy").ends_with("sandbox"));
    }
    assert_eq!(browser.get("/static/pages-x.css").await.status, StatusCode::NOT_FOUND);
    assert_eq!(browser.get("/static/..%2fkek").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_methods_are_refused() {
    let world = World::new().await;
    let mut browser = world.browser();
    for (path, allow) in [
        ("/", "GET, HEAD"),
        ("/login", "GET, HEAD, POST"),
        ("/consent", "GET, HEAD, POST"),
        ("/account", "GET, HEAD"),
        ("/account/sign-out", "POST"),
    ] {
        let answer = browser.send(Request::put(path), String::new()).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, allow), "{path}");
    }
}

#[tokio::test]
async fn an_operator_replaces_templates_name_logo_and_colour() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("home.html"),
        "{% extends \"base.html\" %}{% block title %}x{% endblock %}\
        {% block main %}<p>Ours</p>{% endblock %}",
    )
    .expect("written");
    std::fs::write(folder.path().join("logo.svg"), "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").expect("written");
    let path = folder.path().display();
    let pages = format!(
        "[pages]\nname = \"R&D\"\naccent = \"#ff0000\"\ntemplates = \"{path}\"\n\
        logo_file = \"{path}/logo.svg\"\n[storage]"
    );
    let world = World::with(&[("[storage]", &pages)]).await;
    let mut browser = world.browser();

    let home = browser.get("/").await;

    assert!(home.body.contains("<p>Ours</p>") && home.body.contains("R&amp;D"), "{}", home.body);
    assert!(home.body.contains("static/logo-"), "{}", home.body);
    std::fs::write(folder.path().join("login.html"), "{% if %}").expect("written");
    let refused = App::open(world.app.config.clone(), world.home.edges()).await.err().expect("refused");
    assert!(crate::chain(&refused).contains("login.html"), "{}", crate::chain(&refused));
}

#[test]
fn every_message_of_a_template_exists() {
    let messages = super::messages::Messages::new("en");
    let mut seen = 0;
    for (name, source) in super::render::BUILT_IN {
        for rest in source.split("t(\"").skip(1) {
            seen += 1;
            let (key, after) = rest.split_once('"').expect("a text ends");
            // One that is put together is tested where its parts are.
            if !after.starts_with(" ~") {
                assert!(messages.has(key), "{name}: {key}");
            }
        }
    }
    assert!(seen > 50, "the templates no longer name their messages as this test looks for them: {seen}");
    for scope in crate::clients::OPENID_SCOPES {
        assert!(messages.has(&format!("scope-{scope}")), "{scope}");
    }
}
