//! `/oauth2/logout`, and how clients hear of it.

use axum::body::Body;
use http::header::{LOCATION, SET_COOKIE};
use http::{Request, StatusCode};
use keywheel_jose::{Policy, check};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::*;
use crate::clients::WebUri;
use crate::oidc::backchannel::deliver_due;
use crate::outgoing::tests::Server;
use crate::testing::bytes;

const PATH: &str = "/oauth2/logout";
const COOKIE: &str = "browser";
const BYE: &str = "https://shop.example.com/bye?x=1";

/// What a browser is shown.
struct Shown {
    status: StatusCode,
    location: Option<String>,
    clears_cookie: bool,
    policy: String,
    page: String,
}

fn query(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// Comes from the browser in which alice is signed in.
fn with_cookie(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("cookie", format!("keywheel-session={COOKIE}").parse().expect("a header"));
    request
}

impl World {
    async fn show(&self, request: Request<Body>) -> Shown {
        let response = send(&self.app, request).await;
        let text =
            |name: http::HeaderName| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let (status, location) = (response.status(), text(LOCATION));
        let clears_cookie = text(SET_COOKIE)
            .is_some_and(|cookie| cookie.starts_with("keywheel-session=;") && cookie.contains("Max-Age=0"));
        let policy = text(http::header::CONTENT_SECURITY_POLICY).unwrap_or_default();
        let page = String::from_utf8(bytes(response).await).expect("text");
        Shown { status, location, clears_cookie, policy, page }
    }

    async fn get(&self, parameters: &[(&str, &str)]) -> Shown {
        let request = Request::get(format!("{PATH}?{}", query(parameters))).body(Body::empty());
        self.show(with_cookie(request.expect("a request"))).await
    }

    async fn send_form(&self, parameters: &[(&str, &str)]) -> Shown {
        self.show(with_cookie(post(PATH, &query(parameters)))).await
    }

    async fn is_signed_in(&self, cookie: &str) -> bool {
        self.app.store.session(&sha256(cookie), self.app.clock.now()).await.expect("read").is_some()
    }

    /// Signs alice in, here and to the client.
    async fn signed_in_to(&self, client: &str) -> Tokens {
        let sid = self.session(COOKIE).await;
        self.redeem(self.grant(client, "openid", Some(&sid))).await
    }
}

fn csrf(shown: &Shown) -> &str {
    let (_, rest) = shown.page.split_once("name=\"csrf\" value=\"").expect("a form");
    rest.split_once('"').expect("a value").0
}

#[tokio::test]
async fn a_hint_of_this_session_signs_out_and_goes_back() {
    for by_post in [false, true] {
        let world = World::new().await;
        let tokens = world.signed_in_to("shop").await;
        let parameters = [
            ("id_token_hint", tokens.id.as_str()),
            ("client_id", "shop"),
            ("post_logout_redirect_uri", BYE),
            ("state", "a b&c"),
        ];
        // An ID token names somebody long after its end, and the key that signed it.
        world.home.clock.advance(60);

        let shown = if by_post { world.send_form(&parameters).await } else { world.get(&parameters).await };

        assert_eq!(shown.status, StatusCode::SEE_OTHER);
        assert_eq!(shown.location.as_deref(), Some("https://shop.example.com/bye?x=1&state=a+b%26c"));
        assert!(shown.clears_cookie);
        assert!(!world.is_signed_in(COOKIE).await);
    }
}

#[tokio::test]
async fn what_was_granted_in_the_session_ends_with_it() {
    let world = World::new().await;
    let tokens = world.signed_in_to("shop").await;
    let offline = world.tokens("shop", "openid offline_access").await;

    world.get(&[("id_token_hint", &tokens.id)]).await;

    let refresh = async |token: &str| {
        world
            .ask("/oauth2/token", &format!("grant_type=refresh_token&refresh_token={token}&{}", credentials("shop")))
            .await
    };
    assert_eq!(refresh(&tokens.refresh).await.1["error"], "invalid_grant");
    assert_eq!(refresh(&offline.refresh).await.0, StatusCode::OK);
}

#[tokio::test]
async fn without_a_hint_the_person_is_asked() {
    let world = World::new().await;
    world.signed_in_to("shop").await;
    let parameters = [("client_id", "shop"), ("post_logout_redirect_uri", BYE), ("state", "\"><script>")];

    let asked = world.get(&parameters).await;

    assert_eq!((asked.status, asked.location.as_deref()), (StatusCode::OK, None));
    assert!(!asked.page.contains("\"><script>"), "{}", asked.page);
    assert!(world.is_signed_in(COOKIE).await);
    let answer = |token: &str, decision: &str| {
        let fields = [("csrf", token.to_owned()), ("decision", decision.to_owned())];
        let own = parameters.map(|(name, value)| (name, value.to_owned()));
        fields.into_iter().chain(own).collect::<Vec<_>>()
    };
    let sent = async |fields: Vec<(&str, String)>| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.send_form(&fields).await
    };
    for token in ["", "x", &csrf(&asked).replace(|it: char| it.is_ascii_digit(), "A")] {
        let forged = sent(answer(token, "sign-out")).await;
        assert!(forged.location.is_none() || token.is_empty(), "{token}");
        assert!(world.is_signed_in(COOKIE).await, "{token}");
    }
    let stayed = sent(answer(csrf(&asked), "stay")).await;
    assert!(stayed.location.is_some_and(|it| it.starts_with(BYE)));
    assert!(world.is_signed_in(COOKIE).await);
    let left = sent(answer(csrf(&asked), "sign-out")).await;
    assert_eq!(left.location.as_deref(), Some("https://shop.example.com/bye?x=1&state=%22%3E%3Cscript%3E"));
    assert!(!world.is_signed_in(COOKIE).await);
}

#[tokio::test]
async fn a_hint_of_another_session_or_person_is_not_enough() {
    let world = World::new().await;
    let elsewhere = world.session("another").await;
    let tokens = world.redeem(world.grant("shop", "openid", Some(&elsewhere))).await;
    world.session(COOKIE).await;

    let asked = world.get(&[("id_token_hint", &tokens.id), ("post_logout_redirect_uri", BYE)]).await;

    assert_eq!(asked.status, StatusCode::OK);
    assert!(world.is_signed_in(COOKIE).await && world.is_signed_in("another").await);
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_proven() {
    let world = World::new().await;
    let tokens = world.signed_in_to("shop").await;
    let hint = ("id_token_hint", tokens.id.as_str());
    let to = |uri| ("post_logout_redirect_uri", uri);
    let long = "x".repeat(9000);
    for parameters in [
        vec![to(BYE)],
        vec![hint, to("https://evil.example/")],
        vec![hint, to("https://shop.example.com/bye")],
        vec![hint, to("https://shop.example.com/bye?x=1&y=2")],
        vec![hint, to("https://SHOP.example.com/bye?x=1")],
        vec![hint, to("javascript:alert(1)")],
        vec![hint, to(CALLBACK)],
        vec![hint, ("client_id", "app"), to(BYE)],
        vec![hint, ("client_id", "nobody"), to(BYE)],
        vec![("client_id", "nobody")],
        vec![("client_id", "warehouse"), to(BYE)],
        vec![("id_token_hint", "garbage"), ("client_id", "shop"), to(BYE)],
        vec![("id_token_hint", &tokens.access), to(BYE)],
        vec![hint, to(BYE), ("state", &long)],
        vec![hint, hint],
    ] {
        for shown in [world.get(&parameters).await, world.send_form(&parameters).await] {
            let (status, location) = (shown.status, shown.location);

            assert_eq!((status, location), (StatusCode::BAD_REQUEST, None), "{parameters:.200?}");
            assert!(shown.page.contains("<html"), "a person reads it");
        }
    }
    assert!(world.is_signed_in(COOKIE).await);
}

#[tokio::test]
async fn the_post_of_another_site_comes_again_with_the_cookie() {
    let world = World::new().await;
    let tokens = world.signed_in_to("shop").await;
    let parameters = [("id_token_hint", tokens.id.as_str()), ("post_logout_redirect_uri", BYE), ("more", "x")];

    let first = world.show(post(PATH, &query(&parameters))).await;

    assert_eq!((first.status, first.clears_cookie), (StatusCode::SEE_OTHER, false));
    let location = first.location.expect("a location");
    assert_eq!(location, format!("{PATH}?{}", query(&parameters[..2])));
    let request = Request::get(location).body(Body::empty()).expect("a request");
    assert_eq!(world.show(with_cookie(request)).await.location.as_deref(), Some(BYE));
    assert!(!world.is_signed_in(COOKIE).await);
}

#[tokio::test]
async fn whoever_is_not_signed_in_goes_on_at_once() {
    let world = World::new().await;
    let request = |parameters: &[(&str, &str)]| {
        Request::get(format!("{PATH}?{}", query(parameters))).body(Body::empty()).expect("a request")
    };

    let back = world.show(request(&[("client_id", "shop"), ("post_logout_redirect_uri", BYE)])).await;
    let page = world.show(request(&[])).await;

    assert_eq!(back.location.as_deref(), Some(BYE));
    assert_eq!((page.status, page.location), (StatusCode::OK, None));
    assert!(page.clears_cookie);
}

#[tokio::test]
async fn the_browser_loads_the_front_channels_and_nothing_else() {
    let world = World::with(|clients| {
        for client in clients {
            let uri = format!("https://{}.example.com:8443/front?a=1", client.id);
            client.frontchannel_logout_uri = Some(WebUri::parse(&uri).expect("a URI"));
            client.frontchannel_logout_session_required = client.id == "shop";
        }
    })
    .await;
    let tokens = world.signed_in_to("shop").await;
    world.redeem(world.grant("app", "openid", Some("sid-of-browser"))).await;

    let shown = world.get(&[("id_token_hint", &tokens.id), ("post_logout_redirect_uri", BYE)]).await;

    assert_eq!((shown.status, shown.location), (StatusCode::OK, None));
    assert!(shown.clears_cookie);
    let sources = shown.policy.split(';').find_map(|it| it.trim().strip_prefix("frame-src ")).expect("frames");
    assert_eq!(sources, "https://app.example.com:8443 https://shop.example.com:8443");
    let issuer = form_urlencoded::byte_serialize(ISSUER.as_bytes()).collect::<String>();
    let frames: Vec<_> = shown.page.split("<iframe").skip(1).collect();
    assert_eq!(frames.len(), 2, "{}", shown.page);
    let unescaped = shown.page.replace("&amp;", "&").replace("&#x2f;", "/");
    for frame in [
        "https://app.example.com:8443/front?a=1\"".to_owned(),
        format!("https://shop.example.com:8443/front?a=1&iss={issuer}&sid=sid-of-browser\""),
        BYE.to_owned(),
    ] {
        assert!(unescaped.contains(&frame), "{frame}: {unescaped}");
    }
}

/// A world in which `shop` hears of logouts at a server.
async fn listening(server: &Server) -> World {
    let uri = WebUri::parse(&server.url("/back?a=1")).expect("a URI");
    World::with(|clients| {
        for client in clients.iter_mut().filter(|client| client.id == "shop") {
            client.backchannel_logout_uri = Some(uri.clone());
        }
    })
    .await
}

/// The token that a request brought.
fn logout_token(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").expect("a request");
    assert!(head.starts_with("POST /back?a=1 HTTP/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    body.strip_prefix("logout_token=").expect("a token").to_owned()
}

#[tokio::test]
async fn a_client_hears_of_the_logout_by_a_signed_token() {
    let server = Server::answering("200 OK", "").await;
    let world = listening(&server).await;
    let tokens = world.signed_in_to("shop").await;
    world.redeem(world.grant("app", "openid", Some("sid-of-browser"))).await;

    world.get(&[("id_token_hint", &tokens.id)]).await;
    assert_eq!(deliver_due(&world.app).await.expect("delivered"), 1);

    let received = server.received();
    let token = logout_token(&received[0]);
    let policy = Policy::any(ISSUER, "shop");
    let verified = check::<Value>(&token, &world.app.keys.all_public(), &policy, world.app.clock.now());
    let mut claims = verified.expect("it holds").into_claims();
    let jti = claims.as_object_mut().and_then(|claims| claims.remove("jti"));
    assert!(jti.and_then(|jti| jti.as_str().map(str::len)).is_some_and(|length| length == 22));
    let now = crate::testing::START;
    let expected = json!({
        "iss": ISSUER, "aud": "shop", "sub": ALICE, "sid": "sid-of-browser", "iat": now, "exp": now + 10,
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    assert_eq!(claims, expected);
    let header = keywheel_jose::decode_unverified(&token).expect("a JWT").header_json;
    assert!(header.contains("\"typ\":\"logout+jwt\""), "{header}");
    assert_eq!(deliver_due(&world.app).await.expect("looked"), 0);
    // It is neither an ID token nor good for anything here.
    let (status, _) = world.ask("/oauth2/introspect", &format!("{}&token={token}", credentials("shop"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.get(&[("id_token_hint", &token)]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_client_that_fails_is_told_again_until_it_is_given_up() {
    let server = Server::answering("503 Service Unavailable", "").await;
    let world = listening(&server).await;
    let tokens = world.signed_in_to("shop").await;
    world.get(&[("id_token_hint", &tokens.id)]).await;

    let mut attempts = Vec::new();
    let mut waited = 0;
    while waited < 3 * 3600 {
        if deliver_due(&world.app).await.expect("tried") > 0 {
            attempts.push(waited);
        }
        world.home.clock.advance(5);
        waited += 5;
        world.app.keys.confirm_fresh(world.app.clock.elapsed());
        if waited % 30 == 0 {
            world.app.rotator().tick().await.expect("a visit");
        }
    }

    assert_eq!(attempts, [0, 5, 20, 80, 380, 1280, 3080, 6680]);
    assert_eq!(server.received().len(), 8);
    let events = world.app.store.load_events(Some(ALICE), 20).await.expect("events");
    let last = events.last().expect("an event");
    assert_eq!((last.kind.as_str(), last.client_id.as_deref()), ("logout.undelivered", Some("shop")));
    let metrics = world.app.render_metrics();
    for line in ["{outcome=\"failed\"} 7", "{outcome=\"given_up\"} 1"] {
        assert!(metrics.contains(&format!("keywheel_backchannel_logouts_total{line}")), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_once() {
    let server = Server::answering("500 Internal Server Error", "").await;
    let world = listening(&server).await;
    let tokens = world.signed_in_to("shop").await;
    world.get(&[("id_token_hint", &tokens.id)]).await;
    deliver_due(&world.app).await.expect("tried");

    server.answer("204 No Content", "");
    world.home.clock.advance(5);
    assert_eq!(deliver_due(&world.app).await.expect("delivered"), 1);
    world.home.clock.advance(3600);

    assert_eq!(deliver_due(&world.app).await.expect("looked"), 0);
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert_ne!(logout_token(&received[0]), logout_token(&received[1]), "each attempt has a token of its own");
}

#[tokio::test]
async fn a_private_address_is_not_told_unless_that_is_allowed() {
    let server = Server::answering("200 OK", "").await;
    let home = Home::new();
    let mut config = home.config(r#"algorithms = ["ES256"]"#);
    let uri = WebUri::parse(&server.url("/back?a=1")).expect("a URI");
    config.clients.extend(clients().map(|client| Client { backchannel_logout_uri: Some(uri.clone()), ..client }));
    let app = App::open(config, home.edges()).await.expect("an issuer");
    let target = crate::storage::LogoutTarget { client_id: "shop".to_owned(), uri: uri.to_string() };
    app.store.enqueue_logout(&[target], ALICE, None, app.clock.now()).await.expect("queued");

    assert_eq!(deliver_due(&app).await.expect("tried"), 1);

    assert!(server.received().is_empty());
}
