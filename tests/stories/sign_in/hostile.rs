//! Hostile input at every endpoint that people and apps use: always an answer, never a 5xx, nothing reflected as HTML,
//! nothing told of the inside; and whoever is signed in stays so.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, ORIGIN, REFERER, USER_AGENT,
};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{ALICE, SHOP, World, parameter, text};
use crate::harness::{Form, Person, Reply, post_form, send, send_raw, urlencoded};

/// A request that would succeed, as a path with a form.
struct Target {
    path: &'static str,
    method: Method,
    fields: Vec<(&'static str, String)>,
    /// Who sends it.
    sender: Sender,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A browser in which somebody is signed in.
    SignedIn,
    /// A browser in which nobody is.
    Stranger,
    /// The app `shop`, with its secret.
    App,
}

#[tokio::test]
async fn no_form_makes_an_endpoint_fail() {
    let world = World::new().await;
    let mut asked = 0;
    for target in targets(&world).await {
        // Each endpoint begins with a new session, since what it does may end one.
        let cookies = cookies(&world, &target).await;
        for index in 0..target.fields.len() {
            for fields in mutations(&target.fields, index) {
                let what = format!("{} {} with {}", target.method, target.path, excerpt(&fields));
                let request = request(&world, &target, &fields, &cookies);
                assert_harmless(&world, &what, &send(request).await.expect(&what));
                asked += 1;
            }
        }
    }
    assert!(asked > 500, "only {asked} requests");
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn no_header_makes_an_endpoint_fail() {
    let world = World::new().await;
    let long = "x".repeat(7_000);
    let values: Vec<(HeaderName, Vec<u8>)> = [
        (COOKIE, b"keywheel-session=; keywheel-session=\xff\xfe; =; ;;; a".to_vec()),
        (COOKIE, format!("keywheel-session={long}").into_bytes()),
        (COOKIE, b"keywheel-session=../../etc/passwd; keywheel-form='; DROP TABLE users; --".to_vec()),
        (ACCEPT_LANGUAGE, format!("de;q=nan,*;q=-1,{long}").into_bytes()),
        (ACCEPT_LANGUAGE, b"\xff\xfe;q=1, \t,,,;;q".to_vec()),
        (USER_AGENT, [b"<script>alert(1)</script>\xf0\x9f".as_slice(), long.as_bytes()].concat()),
        (ORIGIN, b"null".to_vec()),
        (ORIGIN, b"http://127.0.0.1:1@evil.example".to_vec()),
        (REFERER, b"javascript:alert(1)".to_vec()),
        (AUTHORIZATION, b"Bearer ".to_vec()),
        (AUTHORIZATION, b"Bearer a.b.c.d.e".to_vec()),
        (AUTHORIZATION, format!("Bearer {long}").into_bytes()),
        (AUTHORIZATION, b"Basic \xff\xfe".to_vec()),
        (AUTHORIZATION, b"Negotiate YII=".to_vec()),
        (CONTENT_TYPE, b"application/x-www-form-urlencoded; charset=utf-7".to_vec()),
        (CONTENT_TYPE, b"multipart/form-data; boundary=".to_vec()),
        (CONTENT_TYPE, b"application/json".to_vec()),
        (CONTENT_TYPE, b"\xff/\xfe".to_vec()),
        (HeaderName::from_static("sec-fetch-site"), b"Same-Origin, none".to_vec()),
        (HeaderName::from_static("x-forwarded-for"), b"' OR 1=1 --, ::ffff:999.1.1.1, unknown".to_vec()),
        (HeaderName::from_static("forwarded"), b"for=\"[::1]:x\";proto=javascript".to_vec()),
        (HeaderName::from_static("x-forwarded-host"), b"evil.example".to_vec()),
        (HeaderName::from_static("dpop"), b"a.b.c".to_vec()),
    ]
    .into();
    for target in targets(&world).await {
        let cookies = cookies(&world, &target).await;
        for (name, value) in &values {
            let what = format!("{} {} with {name}: {}", target.method, target.path, String::from_utf8_lossy(value));
            let mut request = request(&world, &target, &target.fields, &cookies);
            let value = HeaderValue::from_bytes(value).expect("bytes that a header can carry");
            request.headers_mut().insert(name.clone(), value.clone());
            assert_harmless(&world, &what, &send(request).await.expect(&what));

            let mut twice = self::request(&world, &target, &target.fields, &cookies);
            twice.headers_mut().append(name.clone(), value);
            assert_harmless(&world, &what, &send(twice).await.expect(&what));
        }
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "X"] {
            let what = format!("{method} {}", target.path);
            let mut request = request(&world, &target, &target.fields, &cookies);
            *request.method_mut() = method.parse().expect("a method");
            assert_harmless(&world, &what, &send(request).await.expect(&what));
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn no_json_makes_the_session_api_fail() {
    let world = World::new().await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let nested = format!("{}1{}", "{\"username\":".repeat(5_000), "}".repeat(5_000));
    let long =
        json!({"client_id": "portal", "username": "x".repeat(30_000), "password": "y".repeat(30_000)}).to_string();
    let too_long = "z".repeat(70_000);
    let bodies = [
        "",
        " ",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "1e999",
        "{\"username\":1}",
        "{\"username\":null,\"password\":null}",
        "{\"client_id\":\"portal\",\"username\":\"alice\",\"username\":\"bob\",\"password\":\"x\"}",
        "{\"client_id\":\"portal\",\"username\":\"\\u0000\",\"password\":\"\\u0000\"}",
        "{\"client_id\":\"portal\",\"username\":\"\\ud800\",\"password\":\"x\"}",
        "{\"client_id\":\"portal\",\"username\":\"alice\",\"password\":\"x\",\"response\":\"header\"}",
        "{\"client_id\":\"portal\",\"username\":\"alice\",\"password\":\"x\",\"remember\":\"yes\"}",
        "{\"client_id\":\"' OR 1=1 --\",\"username\":\"alice\",\"password\":\"x\"}",
        "{\"refresh_token\":\"\\u0000\"}",
        "{\"refresh_token\":[\"a\"]}",
        "{\"client_id\":\"portal\"",
        "\u{feff}{}",
        deep.as_str(),
        nested.as_str(),
        long.as_str(),
        too_long.as_str(),
    ];
    for (method, path) in [
        (Method::POST, "/api/session"),
        (Method::DELETE, "/api/session"),
        (Method::GET, "/api/session"),
        (Method::POST, "/api/session/refresh"),
    ] {
        for body in bodies {
            for content in ["application/json", "application/json; charset=utf-16", "text/plain"] {
                let what = format!("{method} {path} {content} {}", body.chars().take(80).collect::<String>());
                let request = Request::builder().method(method.clone()).uri(world.issuer.at(path));
                let request = request.header(ORIGIN, world.app.origin()).header(CONTENT_TYPE, content);
                let request =
                    request.header(COOKIE, "keywheel-access=a.b.c; keywheel-refresh=..\\..; keywheel-session=x");
                let request = request.body(Full::from(body.to_owned())).expect("a request");
                assert_harmless(&world, &what, &send(request).await.expect(&what));
            }
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test]
async fn no_bytes_in_an_address_make_a_page_fail() {
    let world = World::new().await;
    for path in [
        "/login?continue=%00",
        "/login?continue=//evil.example",
        "/login?continue=%ff",
        "/login?lang=%00&lang=de",
        "/login?lang=../../../etc/passwd",
        "/login?continue=/oauth2/authorize?%",
        "/consent?continue=%2Foauth2%2Fauthorize%3F",
        "/consent",
        "/select-account?continue=x",
        "/account?done=<script>alert(1)</script>",
        "/account/../account",
        "/static/..%2f..%2fCargo.toml",
        "/static/%00",
        "/static/",
        "/oauth2/logout?state=%0d%0aset-cookie:a=b",
        "/oauth2/authorize?client_id=shop&redirect_uri=%0d%0a",
        "/oauth2/authorize?%ff=%fe",
        "/oauth2/authorize?&&&===",
        "/oauth2/userinfo?access_token=x",
        "/api/session/../../x",
        "/\u{ff}",
        "/login?\"<>\\^`{|}",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", world.issuer.listen);
        let reply = send_raw(world.issuer.listen, &[head.as_bytes()], Duration::ZERO).await;
        let status = reply.status().unwrap_or(400);
        assert!(status < 500, "{path}: {}", reply.text);
        assert!(!reply.text.contains("<script>alert("), "{path}: {}", reply.text);
        let location = reply.text.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
        let location = location.and_then(|line| line.split_once(": ")).map_or("/", |(_, to)| to);
        let is_ours = location.starts_with('/') && !location.starts_with("//");
        assert!(is_ours || location.starts_with(&world.issuer.url()), "{path} leads to {location}");
        let splits = reply.text.lines().any(|line| line.to_ascii_lowercase().starts_with("set-cookie:a=b"));
        assert!(!splits, "{path}: {}", reply.text);
    }
    assert_unharmed(&world).await;
}

/// Every endpoint with a request that would succeed.
async fn targets(world: &World) -> Vec<Target> {
    let callback = world.app.at("/callback");
    let tokens = tokens(world).await;
    let own = |value: &str| value.to_owned();
    let authorize = vec![
        ("client_id", own("shop")),
        ("redirect_uri", callback.clone()),
        ("response_type", own("code")),
        ("scope", own("openid email")),
        ("state", own("s")),
        ("nonce", own("n")),
        ("prompt", own("consent")),
        ("max_age", own("3600")),
        ("display", own("page")),
        ("ui_locales", own("de en")),
        ("acr_values", own("1")),
        ("login_hint", own("alice")),
        ("id_token_hint", own("x")),
        ("response_mode", own("query")),
        ("code_challenge", "a".repeat(43)),
        ("code_challenge_method", own("S256")),
        ("claims", own("{\"userinfo\":{\"email\":null}}")),
        ("resource", own("https://api.example.com")),
    ];
    let to = own("/oauth2/authorize?client_id=shop&response_type=code&scope=openid&redirect_uri=x");
    let forms = |path, fields: Vec<(&'static str, String)>| Target {
        path,
        method: Method::POST,
        fields,
        sender: Sender::SignedIn,
    };
    let asked = |path, fields| Target { path, method: Method::POST, fields, sender: Sender::App };
    vec![
        Target { path: "/oauth2/authorize", method: Method::GET, fields: authorize.clone(), sender: Sender::SignedIn },
        forms("/oauth2/authorize", authorize),
        Target {
            path: "/login",
            method: Method::POST,
            fields: vec![
                ("csrf", String::new()),
                ("continue", to.clone()),
                ("username", own("stranger")),
                ("password", own("wrong")),
                ("remember", own("yes")),
            ],
            sender: Sender::Stranger,
        },
        Target {
            path: "/login",
            method: Method::GET,
            fields: vec![
                ("continue", to.clone()),
                ("login_hint", own("alice")),
                ("lang", own("de")),
                ("ui_locales", own("de")),
            ],
            sender: Sender::Stranger,
        },
        forms("/consent", vec![("csrf", String::new()), ("continue", to.clone()), ("decision", own("allow"))]),
        forms("/select-account", vec![("csrf", String::new()), ("continue", to)]),
        forms("/account/sign-out", vec![("csrf", String::new()), ("sid", own("x")), ("all", own("others"))]),
        forms("/account/apps/remove", vec![("csrf", String::new()), ("client_id", own("shop"))]),
        forms(
            "/account/password",
            vec![("csrf", String::new()), ("current", own("x")), ("new", own("violet-harbour")), ("again", own("y"))],
        ),
        forms(
            "/oauth2/logout",
            vec![
                ("csrf", String::new()),
                ("decision", own("stay")),
                ("client_id", own("shop")),
                ("state", own("s")),
                ("id_token_hint", text(&tokens, "id_token").to_owned()),
                ("post_logout_redirect_uri", world.app.at("/bye")),
                ("ui_locales", own("de")),
            ],
        ),
        asked(
            "/oauth2/token",
            vec![
                ("grant_type", own("authorization_code")),
                ("code", own("x")),
                ("redirect_uri", callback),
                ("code_verifier", "a".repeat(43)),
            ],
        ),
        asked(
            "/oauth2/token",
            vec![("grant_type", own("refresh_token")), ("refresh_token", own("x")), ("scope", own("openid"))],
        ),
        asked(
            "/oauth2/introspect",
            vec![("token", text(&tokens, "access_token").to_owned()), ("token_type_hint", own("access_token"))],
        ),
        asked("/oauth2/revoke", vec![("token", own("x")), ("token_type_hint", own("refresh_token"))]),
        Target {
            path: "/oauth2/userinfo",
            method: Method::POST,
            fields: vec![("access_token", text(&tokens, "access_token").to_owned())],
            sender: Sender::Stranger,
        },
    ]
}

async fn tokens(world: &World) -> Value {
    let callback = world.alice().authorize(&world.request("")).await;
    let code = parameter(&callback, "code").expect("a code");
    let form = format!("grant_type=authorization_code&code={code}&redirect_uri={}", world.app.at("/callback"));
    let url = world.issuer.at("/oauth2/token");
    let reply = post_form(&url, &form, Some(SHOP)).await.expect("a response");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The cookies to send along, and the token that forms need with them.
async fn cookies(world: &World, target: &Target) -> (String, String) {
    let mut person = match target.sender {
        Sender::SignedIn => world.alice(),
        Sender::Stranger | Sender::App => Person::new(&world.issuer, ALICE.0, ""),
    };
    let page = if target.sender == Sender::SignedIn {
        person.sign_in().await;
        person.get(&world.issuer.at("/account")).await
    } else {
        person.get(&world.issuer.at("/login")).await
    };
    let form = Form::of(&page).expect("a form");
    (person.cookie_header(), form.field("csrf").expect("a token").to_owned())
}

fn request(
    world: &World,
    target: &Target,
    fields: &[(&str, String)],
    (cookies, csrf): &(String, String),
) -> Request<Full<Bytes>> {
    let filled = fields.iter().map(|(name, value)| {
        let value = if *name == "csrf" && value.is_empty() { csrf } else { value };
        (*name, value.as_str())
    });
    // What is meant to be no proper encoding is marked by a letter that nothing else here has.
    let form = urlencoded(filled).replace("%C3%BE", "%");
    let url = world.issuer.at(target.path);
    let builder = Request::builder().method(target.method.clone());
    let builder = if target.sender == Sender::App {
        use base64::Engine as _;
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", SHOP.0, SHOP.1));
        builder.header(AUTHORIZATION, format!("Basic {credentials}"))
    } else {
        builder.header(COOKIE, cookies).header(ORIGIN, world.issuer.url()).header("sec-fetch-site", "same-origin")
    };
    let request = if target.method == Method::GET {
        builder.uri(format!("{url}?{form}")).body(Full::default())
    } else {
        builder.uri(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(Full::from(form))
    };
    request.expect("a request")
}

/// The fields with one of them gone, repeated, or replaced by something nasty.
fn mutations<'f>(fields: &[(&'f str, String)], index: usize) -> Vec<Vec<(&'f str, String)>> {
    let mut gone = fields.to_vec();
    gone.remove(index);
    let mut twice = fields.to_vec();
    twice.push(fields[index].clone());
    let mut all = vec![gone, twice];
    let long = "A".repeat(9_000);
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    for nasty in [
        " ",
        "\0",
        "þzz",
        "þffþfe",
        "\r\nset-cookie: a=b",
        "\u{202e}\u{fffd}𝕏",
        "<script>alert(1)</script>",
        "\"><script>alert(1)</script>",
        "{{ 7 * 7 }}{% raw %}",
        "'; DROP TABLE users; --",
        "../../../../etc/passwd",
        "-1",
        "99999999999999999999999",
        "1e999",
        "NaN",
        "//evil.example/",
        "javascript:alert(1)",
        "http://127.0.0.1:9/",
        "{\"userinfo\":{\"email\":{\"essential\":1,\"value\":[]}}}",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30.",
        deep.as_str(),
        long.as_str(),
    ] {
        let mut mutated = fields.to_vec();
        nasty.clone_into(&mut mutated[index].1);
        all.push(mutated);
    }
    all
}

fn excerpt(fields: &[(&str, String)]) -> String {
    let shown = fields.iter().map(|(name, value)| format!("{name}={}", value.chars().take(60).collect::<String>()));
    shown.collect::<Vec<_>>().join("&")
}

/// No failure, nothing reflected that a browser would run, nothing of the inside, no redirect to anybody.
#[track_caller]
fn assert_harmless(world: &World, what: &str, reply: &Reply) {
    let body = String::from_utf8_lossy(&reply.body);
    assert!(reply.status.as_u16() < 500, "{what}: {} {body}", reply.status);
    for inside in ["panicked", "sqlx", "SELECT ", "src/", "RUST_BACKTRACE", "Error {", "<script>alert("] {
        assert!(!body.contains(inside), "{what}: the answer has {inside}: {body}");
    }
    let location = reply.header("location");
    let known = [world.issuer.at("/"), world.app.at("/")];
    let is_ours = location.is_empty() || location.starts_with('/') && !location.starts_with("//");
    assert!(is_ours || known.iter().any(|base| location.starts_with(base)), "{what}: leads to {location}");
    for cookie in reply.headers.get_all("set-cookie") {
        assert!(cookie.as_bytes().starts_with(b"keywheel-"), "{what}: sets {cookie:?}");
    }
    if reply.header("content-type").starts_with("text/html") {
        assert!(reply.header("content-security-policy").contains("default-src 'none'"), "{what}: {:?}", reply.headers);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
    }
}

/// The server serves, nothing in it broke, and nobody was locked out but whose password was guessed.
async fn assert_unharmed(world: &World) {
    let callback = world.alice().authorize(&world.request("")).await;
    assert!(parameter(&callback, "code").is_some(), "{callback}");
    let log = world.server.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}
