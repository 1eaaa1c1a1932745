//! The flows of tutorials: name and password to an API of the app's own, cookies that no script reads, protected routes,
//! roles, renewal, sign-out; and a single page with PKCE.

use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::{get as on_get, post as on_post};
use http::header::{CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use http::{Method, Request};
use http_body_util::Full;
use keywheel_verifier::{Bearer, Guard, Policy, Verifier};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{ALICE, BOB, World, text};
use crate::harness::{Library, RelyingParty, Reply, Settings, post_form, send};

/// A page of the app: asks the API with the cookies it was given.
struct Page<'w> {
    world: &'w World,
    cookies: Vec<(String, String)>,
}

impl Page<'_> {
    async fn api(&mut self, method: Method, path: &str, body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(self.world.issuer.at(path));
        request = request.header(ORIGIN, self.world.app.origin());
        request = request.header("sec-fetch-site", "same-site").header(COOKIE, self.cookie_header());
        let body = match body {
            Value::Null => String::new(),
            body => {
                request = request.header(CONTENT_TYPE, "application/json");
                body.to_string()
            }
        };
        let reply = send(request.body(Full::from(body)).expect("a request")).await.expect("a response");
        for line in reply.headers.get_all(SET_COOKIE) {
            let line = line.to_str().expect("visible characters");
            assert!(line.contains("; HttpOnly"), "{line}");
            let (name, rest) = line.split_once('=').expect("a cookie");
            let (value, attributes) = rest.split_once(';').expect("attributes");
            self.cookies.retain(|(known, _)| known != name);
            if !attributes.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        reply
    }

    async fn sign_in(&mut self, (name, password): (&str, &str)) -> Reply {
        let body = json!({"client_id": "portal", "username": name, "password": password});
        self.api(Method::POST, "/api/session", body).await
    }

    /// Asks a service with the same cookies, as a page of its own would.
    async fn ask(&self, method: Method, url: &str, site: &str) -> u16 {
        let request = Request::builder().method(method).uri(url).header("sec-fetch-site", site);
        let request = request.header(COOKIE, self.cookie_header()).body(Full::default()).expect("a request");
        send(request).await.expect("a response").status.as_u16()
    }

    fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }
}

/// A service whose routes need a signed-in person, or one with a role.
async fn serve(world: &World) -> String {
    let policy = Policy::access_token(world.issuer.url(), Settings::AUDIENCE);
    let verifier = Verifier::builder(policy).build().expect("a verifier");
    let guard = Guard::new(verifier).cookie("keywheel-access");
    let admins = guard.clone().require_role("admin").layer();
    let router = Router::new()
        .route("/dashboard", on_get(async |Bearer(token): Bearer| token.claims().sub.clone()))
        .route("/cart", on_post(async |Bearer(token): Bearer| token.claims().sub.clone()))
        .route("/admin", on_get(async || "at your service").layer(admins))
        .with_state(guard);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_page_of_ones_own_signs_in_with_cookies() {
    let world = World::new().await;
    let service = serve(&world).await;
    let at = |path: &str| format!("{service}{path}");
    let mut page = Page { world: &world, cookies: Vec::new() };

    assert_eq!(page.ask(Method::GET, &at("/dashboard"), "same-origin").await, 401, "nobody is signed in");
    let wrong = page.sign_in((ALICE.0, "wrong")).await;
    let unknown = page.sign_in(("nobody", "wrong")).await;
    let but_for_its_id = |reply: &Reply| {
        let mut problem = reply.json();
        problem["request_id"].take();
        (reply.status.as_u16(), problem)
    };
    assert_eq!(but_for_its_id(&wrong), but_for_its_id(&unknown));
    assert_eq!(wrong.status, 401);
    assert!(page.cookies.is_empty());

    let reply = page.sign_in(("alice@example.com", ALICE.1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let access = page.cookie("keywheel-access").expect("an access token").to_owned();
    assert!(!reply.text().contains(&access), "scripts get no token");
    assert_eq!(reply.header("access-control-allow-origin"), world.app.origin());
    for (method, path, site, expected) in [
        (Method::GET, "/dashboard", "same-origin", 200),
        (Method::POST, "/cart", "same-origin", 200),
        (Method::POST, "/cart", "cross-site", 403),
        (Method::GET, "/admin", "same-origin", 403),
    ] {
        assert_eq!(page.ask(method.clone(), &at(path), site).await, expected, "{method} {path} {site}");
    }
    let told = page.api(Method::GET, "/api/session", Value::Null).await.json();
    assert_eq!(told["user"]["email"], "alice@example.com", "{told}");

    let refresh = page.cookie("keywheel-refresh").expect("a refresh token").to_owned();
    let reply = page.api(Method::POST, "/api/session/refresh", Value::Null).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_ne!(page.cookie("keywheel-access"), Some(access.as_str()));
    assert_ne!(page.cookie("keywheel-refresh"), Some(refresh.as_str()));
    assert_eq!(page.ask(Method::GET, &at("/dashboard"), "same-origin").await, 200);

    let before = page.cookies.clone();
    assert_eq!(page.api(Method::DELETE, "/api/session", Value::Null).await.status, 204);
    // The browser stays known, which is nobody's sign-in.
    assert!(page.cookies.iter().all(|(name, _)| name == "keywheel-device"), "{:?}", page.cookies);
    page.cookies = before;
    let reply = page.api(Method::POST, "/api/session/refresh", Value::Null).await;
    assert_eq!(reply.status, 401, "a copy of the cookies is worth nothing: {}", reply.text());

    // Who has the role may enter.
    page.sign_in(BOB).await;
    assert_eq!(page.ask(Method::GET, &at("/admin"), "same-origin").await, 200);
}

#[tokio::test]
async fn other_sites_cannot_use_the_api() {
    let world = World::new().await;
    let mut page = Page { world: &world, cookies: Vec::new() };
    assert_eq!(page.sign_in(ALICE).await.status, 200);
    let attack = |method: Method, path: &str, origin: Option<&'static str>, content: &'static str, body: &str| {
        let mut request = Request::builder().method(method).uri(world.issuer.at(path));
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin).header("sec-fetch-site", "cross-site");
        }
        request = request.header(COOKIE, page.cookie_header()).header(CONTENT_TYPE, content);
        send(request.body(Full::from(body.to_owned())).expect("a request"))
    };
    let credentials = json!({"client_id": "portal", "username": BOB.0, "password": BOB.1}).to_string();
    let json = "application/json";

    for origin in [Some("https://evil.example"), Some("null"), None] {
        for (method, path, body) in [
            (Method::POST, "/api/session", credentials.as_str()),
            (Method::POST, "/api/session/refresh", ""),
            (Method::DELETE, "/api/session", ""),
        ] {
            let reply = attack(method.clone(), path, origin, json, body).await.expect("a response");
            assert_eq!(reply.status, 403, "{method} {path} from {origin:?}: {}", reply.text());
            assert_eq!(reply.header("access-control-allow-origin"), "", "{origin:?}");
            assert_eq!(reply.header("set-cookie"), "", "{origin:?}");
        }
    }
    // What a form can send is not read.
    for content in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = attack(Method::POST, "/api/session", None, content, &credentials).await.expect("a response");
        assert_eq!(reply.status, 415, "{content}: {}", reply.text());
    }
    assert_eq!(page.api(Method::GET, "/api/session", Value::Null).await.status, 200, "she is still signed in");
    // A client that is not first-party can't ask for passwords.
    let body = json!({"client_id": "shop", "username": ALICE.0, "password": ALICE.1});
    assert_eq!(page.api(Method::POST, "/api/session", body).await.status, 403);
}

#[tokio::test]
async fn a_single_page_signs_in_with_pkce_alone() {
    let world = World::new().await;
    let service = serve(&world).await;
    let registered = json!({"client_id": "spa", "redirect_uri": world.app.at("/spa")});
    let spa = RelyingParty::new(Library::Oauth4webapi, &world.issuer, registered).await;

    let callback = world.alice().authorize(&spa.begin("openid profile roles", Value::Null).await).await;
    let tokens = spa.finish(&callback).await;

    let bearer = format!("Bearer {}", text(&tokens, "access_token"));
    for (path, expected) in [("/dashboard", 200), ("/admin", 403)] {
        let request = Request::get(format!("{service}{path}")).header("authorization", &bearer);
        let reply = send(request.body(Full::default()).expect("a request")).await.expect("a response");
        assert_eq!(reply.status.as_u16(), expected, "{path}");
    }
    spa.refresh().await;
    // Scripts of its origin may ask for tokens, and those of others may not.
    for (origin, allowed) in [(world.app.origin(), true), ("https://evil.example".to_owned(), false)] {
        let request = Request::builder().method(Method::OPTIONS).uri(world.issuer.at("/oauth2/token"));
        let request = request.header(ORIGIN, &origin).header("access-control-request-method", "POST");
        let reply = send(request.body(Full::default()).expect("a request")).await.expect("a response");
        assert_eq!(reply.header("access-control-allow-origin") == origin, allowed, "{origin}: {:?}", reply.headers);
    }
    // Without the verifier of its own challenge, a code is worth nothing.
    let callback = world.alice().authorize(&spa.begin("openid", Value::Null).await).await;
    let code = super::parameter(&callback, "code").expect("a code");
    let form = format!(
        "grant_type=authorization_code&client_id=spa&code={code}&redirect_uri={}&code_verifier={}",
        world.app.at("/spa"),
        "a".repeat(43)
    );
    let reply = post_form(&world.issuer.at("/oauth2/token"), &form, None).await.expect("a response");
    assert_eq!((reply.status.as_u16(), text(&reply.json(), "error")), (400, "invalid_grant"));
}
