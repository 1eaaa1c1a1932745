//! Signing in and out in Debian's Chromium, as people do.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ALICE, EVERYTHING, SETTINGS, World, parameter, sign_in, text};
use crate::harness::{
    Apache, Browser, Device, Issuer, Library, Panel, RelyingParty, Settings, Tls, claims, eventually, header, kid,
    unix_now,
};

#[tokio::test]
async fn one_sign_in_serves_two_apps_of_different_make() {
    let apache = Apache::reserve();
    let world = World::with(SETTINGS, &apache.client()).await;
    let apache = apache.serve(&world.issuer).await;
    let shop = world.shop(Library::OpenidClient).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;

    let page = alice.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    assert_eq!(page.heading, "Sign in", "{page:?}");
    assert!(page.text.contains("The Shop"), "{page:?}");
    let page = sign_in(alice, ALICE).await;
    assert!(page.heading.contains("asks for access"), "{page:?}");
    assert!(page.text.contains("alice@example.com"), "{page:?}");
    let page = alice.follow("Allow").await;
    assert_eq!(page.heading, "Back at the app", "{page:?}");
    let tokens = shop.finish(&page.url).await;
    assert_eq!(tokens["claims"]["auth_time"].as_i64().map(|_| ()), Some(()), "{tokens}");
    assert_eq!(text(&shop.userinfo().await, "email"), "alice@example.com");

    // Another app, and nothing is typed: Apache sends the browser to the issuer and has it back at once.
    let page = alice.goto(&apache.at("/")).await;
    assert_eq!((page.url.as_str(), page.heading.as_str()), (apache.at("/").as_str(), "Behind Apache"), "{page:?}");
    let session = apache.session(alice).await;
    assert_eq!(session["userinfo"]["sub"], tokens["claims"]["sub"], "{session}");
    assert_eq!(session["id_token"]["sid"], tokens["claims"]["sid"], "one session: {session}");

    // And again at the first, which was allowed already.
    let page = alice.goto(&shop.begin(EVERYTHING, json!({"prompt": "none"})).await).await;
    assert_eq!(page.heading, "Back at the app", "{page:?}");
    shop.finish(&page.url).await;
    assert_eq!(alice.complaints().await, [""; 0], "the browser has nothing to complain of");
}

#[tokio::test]
async fn an_app_gets_nothing_from_a_person_who_refuses() {
    let world = World::new().await;
    let shop = world.shop(Library::Oauth4webapi).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;

    alice.goto(&shop.begin("openid email", Value::Null).await).await;
    sign_in(alice, ALICE).await;
    let page = alice.follow("Don’t allow").await;

    assert_eq!(page.heading, "Back at the app", "{page:?}");
    assert_eq!(parameter(&page.url, "error"), Some("access_denied"), "{page:?}");
    let error = shop.try_to_finish(&page.url).await.expect_err("there is no code");
    assert!(error.contains("access_denied"), "{error}");
    // She may think again.
    let page = alice.goto(&shop.begin("openid email", Value::Null).await).await;
    assert!(page.heading.contains("asks for access"), "{page:?}");
    let page = alice.follow("Allow").await;
    shop.finish(&page.url).await;
}

#[tokio::test]
async fn wrong_passwords_are_one_message_until_there_are_too_many() {
    let world = World::new().await;
    let browser = Browser::start();
    let stranger = browser.device("a stranger's phone", json!({})).await;
    let url = world.issuer.at("/login");

    stranger.goto(&url).await;
    let wrong = sign_in(stranger, (ALICE.0, "not-her-password")).await;
    stranger.goto(&url).await;
    let unknown = sign_in(stranger, ("nobody", "not-her-password")).await;
    for page in [&wrong, &unknown] {
        assert!(page.text.contains("don’t go together"), "{page:?}");
        assert!(page.title.starts_with("Error:"), "{page:?}");
    }
    assert_eq!((wrong.status, &wrong.text), (unknown.status, &unknown.text), "who exists is nobody's business");

    for name in [ALICE.0, "nobody"] {
        for _ in 1..3 {
            stranger.goto(&url).await;
            sign_in(stranger, (name, "not-her-password")).await;
        }
        stranger.goto(&url).await;
        let page = sign_in(stranger, (name, "not-her-password")).await;
        assert_eq!(page.status, 429, "{name}: {page:?}");
        assert!(page.text.contains("Too many attempts"), "{name}: {page:?}");
    }
    // Others are not held up by it.
    stranger.goto(&url).await;
    let page = sign_in(stranger, super::BOB).await;
    assert_eq!(page.url, world.issuer.at("/account"), "{page:?}");
}

#[tokio::test]
async fn everything_works_without_scripts() {
    let world = World::new().await;
    let shop = world.shop(Library::Oauth4webapi).await;
    let browser = Browser::start();
    let careful = browser.device("a browser without scripts", json!({"javaScriptEnabled": false})).await;

    careful.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    sign_in(careful, ALICE).await;
    let page = careful.follow("Allow").await;
    shop.finish(&page.url).await;

    careful.goto(&world.request("&response_mode=form_post&state=posted")).await;
    careful.follow("Continue").await;
    let posted = world.app.arrivals("/callback").pop().expect("the form that was sent");
    assert_eq!(posted.method, "POST");
    assert!(posted.body.contains("code=") && posted.body.contains("state=posted"), "{}", posted.body);

    let page = careful.goto(&world.issuer.at("/account")).await;
    assert!(page.text.contains("The Shop"), "{page:?}");
    let page = careful.follow_beside("The Shop", "Remove access The Shop").await;
    assert!(page.text.contains("The app no longer has access."), "{page:?}");
    let page = careful.follow("Sign out").await;
    assert_eq!(page.heading, "You are signed out", "{page:?}");
    assert_eq!(careful.goto(&world.issuer.at("/account")).await.heading, "Sign in");
}

#[tokio::test]
async fn the_keyboard_alone_is_enough() {
    let world = World::new().await;
    let browser = Browser::start();
    let alice = browser.device("a laptop without a mouse", json!({})).await;

    // The home page says where to go.
    alice.goto(&world.issuer.at("/")).await;
    tab_to(alice, "Sign in").await;
    let page = alice.enter("Enter").await;
    assert_eq!(page.heading, "Sign in");
    assert_eq!(alice.focused().await.tag, "input", "the first field waits for her");
    alice.types(ALICE.0).await;
    tab_to(alice, "Password").await;
    alice.types(ALICE.1).await;
    let page = alice.enter("Enter").await;
    assert_eq!(page.url, world.issuer.at("/account"), "{page:?}");
    assert!(page.text.contains("Alice Example"), "{page:?}");

    // The home page leads back to the account.
    alice.goto(&world.issuer.at("/")).await;
    tab_to(alice, "Your account").await;
    alice.enter("Enter").await;
    tab_to(alice, "Sign out").await;
    let page = alice.enter("Enter").await;
    assert_eq!(page.heading, "You are signed out", "{page:?}");
    tab_to(alice, "Sign in again").await;
    assert_eq!(alice.enter("Enter").await.heading, "Sign in");
}

#[tokio::test]
async fn a_sign_out_without_proof_is_asked_about() {
    let world = World::new().await;
    let shop = world.shop(Library::OpenidClient).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;
    let bye = world.app.at("/bye");
    alice.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    sign_in(alice, ALICE).await;
    shop.finish(&alice.follow("Allow").await.url).await;

    let bare = format!("/oauth2/logout?client_id=shop&state=s&post_logout_redirect_uri={bye}");
    let page = alice.goto(&world.issuer.at(&bare)).await;
    assert_eq!(page.heading, "Sign out?", "{page:?}");
    let page = alice.follow("Stay signed in").await;
    assert_eq!(page.url, format!("{bye}?state=s"), "{page:?}");
    assert_eq!(alice.goto(&world.issuer.at("/account")).await.heading, "Alice Example");
    alice.goto(&world.issuer.at(&bare)).await;
    let page = alice.follow("Sign out").await;
    assert_eq!(page.url, format!("{bye}?state=s"), "{page:?}");
    assert_eq!(alice.goto(&world.issuer.at("/account")).await.heading, "Sign in");

    // With an ID token of this very session nobody is asked.
    sign_in(alice, ALICE).await;
    let page = alice.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    shop.finish(&page.url).await;
    let page = alice.goto(&shop.logout(&bye, "t").await).await;
    assert_eq!(page.url, format!("{bye}?state=t"), "{page:?}");
    assert_eq!(alice.goto(&world.issuer.at("/account")).await.heading, "Sign in");
    // And an address that is not registered is never gone to.
    let page = alice
        .goto(&world.issuer.at("/oauth2/logout?client_id=shop&post_logout_redirect_uri=https://evil.example/"))
        .await;
    assert!(page.url.starts_with(&world.issuer.url()), "{page:?}");
    assert_eq!(page.heading, "We can’t sign you out like this", "{page:?}");
    assert_eq!(alice.complaints().await, [""; 0]);
}

#[tokio::test]
async fn an_answer_can_be_posted_to_the_app() {
    let world = World::new().await;
    let shop = world.shop(Library::OpenidClient).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;

    alice.goto(&shop.begin(EVERYTHING, json!({"response_mode": "form_post"})).await).await;
    sign_in(alice, ALICE).await;
    alice.follow("Allow").await;
    let page = alice.waits_for(&world.app.at("/callback")).await;

    assert_eq!((page.url.as_str(), page.heading.as_str()), (world.app.at("/callback").as_str(), "Back at the app"));
    let posted = world.app.arrivals("/callback").pop().expect("the form that was sent");
    assert_eq!((posted.method.as_str(), posted.uri.query()), ("POST", None), "no code in any address");
    let tokens = shop.finish_posted(&page.url, &posted.body).await;
    assert!(tokens["refresh_token"].is_string(), "{tokens}");
    assert_eq!(alice.complaints().await, [""; 0], "its one script is allowed by its hash");
}

#[tokio::test]
async fn a_remembered_device_stays_signed_in_and_another_does_not() {
    let world = World::new().await;
    let browser = Browser::start();
    let [shared, own] = [
        browser.device("a shared computer", json!({})).await,
        browser.device("a computer of her own", json!({})).await,
    ];

    for device in [shared, own] {
        device.goto(&world.issuer.at("/login")).await;
    }
    own.check("Keep me signed in").await;
    for device in [shared, own] {
        sign_in(device, ALICE).await;
        let cookies = device.cookies().await;
        for cookie in &cookies {
            assert!(cookie.http_only, "no script reads {cookie:?}");
            assert_eq!((cookie.same_site.as_str(), cookie.path.as_str()), ("Lax", "/"), "{cookie:?}");
            assert!(!cookie.secure, "on http://127.0.0.1 it goes without, and the log says so: {cookie:?}");
        }
        let session = cookies.iter().find(|cookie| cookie.name == "keywheel-session").expect("a session");
        assert!(session.value.len() >= 43, "256 bits");
        device.closes_and_opens_again().await;
    }

    assert_eq!(shared.goto(&world.issuer.at("/account")).await.heading, "Sign in");
    assert_eq!(own.goto(&world.issuer.at("/account")).await.heading, "Alice Example");
    let session = own.cookies().await.into_iter().find(|cookie| cookie.name == "keywheel-session").expect("kept");
    let days = (session.expires - unix_now()) / 86_400.0;
    assert!((29.9..=30.1).contains(&days), "remembered for {days} days");
}

#[tokio::test]
async fn on_https_the_cookies_belong_to_this_host_alone() {
    let issuer = Issuer::new(SETTINGS);
    issuer.edit_config("http://app.example", "https://app.example");
    let tls = Tls::before(issuer.listen).await;
    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), &format!("issuer = \"{}\"", tls.at("")));
    let _server = issuer.serve().await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({"ignoreHTTPSErrors": true})).await;

    alice.goto(&tls.at("/login")).await;
    alice.check("Keep me signed in").await;
    let page = sign_in(alice, ALICE).await;
    assert_eq!(page.url, tls.at("/account"), "{page:?}");
    alice.follow("Deutsch").await;

    let cookies = alice.cookies().await;
    let names: BTreeSet<&str> = cookies.iter().map(|cookie| cookie.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["__Host-device", "__Host-form", "__Host-language", "__Host-session"]));
    for cookie in &cookies {
        // The browser refuses the prefix for anything that is not so.
        assert!(cookie.secure && cookie.http_only, "{cookie:?}");
        assert_eq!((cookie.same_site.as_str(), cookie.path.as_str()), ("Lax", "/"), "{cookie:?}");
    }
    let page = alice.follow("Abmelden").await;
    assert_eq!(page.heading, "Sie sind abgemeldet", "{page:?}");
    assert!(alice.cookies().await.iter().all(|cookie| cookie.name != "__Host-session"));
    assert_eq!(alice.complaints().await, [""; 0]);
}

#[tokio::test]
async fn other_sites_have_no_use_of_her_session() {
    let world = World::new().await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;
    alice.goto(&world.issuer.at("/login")).await;
    sign_in(alice, ALICE).await;
    let url = world.issuer.url();

    for (path, fields) in [
        ("/login", "<input name=username value=bob><input name=password value=copper-meadow-whistle-17>"),
        ("/account/sign-out", "<input name=all value=everywhere>"),
        ("/account/apps/remove", "<input name=client_id value=shop>"),
        ("/account/password", "<input name=current value=x><input name=new value=y><input name=again value=y>"),
        ("/consent", "<input name=decision value=allow>"),
        ("/oauth2/logout", "<input name=decision value=sign-out><input name=csrf value=x>"),
    ] {
        let form = format!(
            "<!doctype html><title>Win!</title><form method=post action=\"{url}{path}\">{fields}<button>Win</button></form>"
        );
        world.app.put("/evil", form);
        alice.goto(&world.app.elsewhere("/evil")).await;
        let page = alice.follow("Win").await;
        assert!(page.url.starts_with(&url), "{path}: {page:?}");
        assert!((400..500).contains(&page.status) || page.heading == "You are signed out", "{path}: {page:?}");
        let page = alice.goto(&world.issuer.at("/account")).await;
        assert_eq!(page.heading, "Alice Example", "{path} was done for another site");
    }

    // Nor can any page be framed and painted over.
    for path in ["/login", "/account", "/", "/consent"] {
        world.app.put("/frame", format!("<!doctype html><title>Win!</title><iframe src=\"{url}{path}\"></iframe>"));
        alice.complaints().await;
        alice.goto(&world.app.elsewhere("/frame")).await;
        let complaints = alice.complaints().await;
        assert!(complaints.iter().any(|it| it.contains("frame-ancestors")), "{path} can be framed: {complaints:?}");
        let frames = alice.frames().await;
        assert!(frames.iter().all(|frame| !frame.starts_with(&url)), "{path}: {frames:?}");
    }

    // A script elsewhere can't read them either.
    world.app.put("/script", "<!doctype html><title>Win!</title>");
    alice.goto(&world.app.elsewhere("/script")).await;
    let read = format!("fetch('{url}/account', {{credentials: 'include'}}).then(r => r.text()).catch(e => 'refused')");
    assert_eq!(alice.evaluate(&read).await, "refused");
}

#[tokio::test]
async fn keys_turn_and_nobody_has_to_sign_in_again() {
    let keys = "algorithms = [\"ES256\", \"RS256\"]\nrotate_every = \"5s\"\nannounce = \"5s\"\njwks_max_age = \"1s\"\n\
                jwks_shared_max_age = \"0s\"\nclock_skew = \"0s\"\npoll = \"1s\"\nmax_staleness = \"4s\"";
    let world = World::with(Settings { keys, tokens: "access_ttl = \"5s\"\nid_ttl = \"5s\"", ..SETTINGS }, "").await;
    let shop = world.shop(Library::Authlib).await;
    let panel = Panel::new(&world.issuer, Duration::from_secs(1));
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;
    alice.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    sign_in(alice, ALICE).await;
    let tokens = shop.finish(&alice.follow("Allow").await.url).await;
    let signer = |tokens: &Value| kid(text(tokens, "access_token"));

    let mut kids = BTreeSet::from([signer(&tokens)]);
    eventually("two keys have signed", Duration::from_secs(30), async || {
        let tokens = shop.refresh().await;
        panel.assert_accepted("a renewed token", text(&tokens, "access_token")).await;
        kids.insert(signer(&tokens));
        (kids.len() >= 2).then_some(())
    })
    .await;

    let page = alice.goto(&shop.begin(EVERYTHING, json!({"prompt": "none"})).await).await;
    shop.finish(&page.url).await;
}

#[tokio::test]
async fn apps_are_told_of_a_sign_out() {
    let told = "[outgoing]\nallow_private = true\n[[client]]\nid = \"told\"\nname = \"Told\"\nfirst_party = true\n\
                redirect_uris = [\"http://app.example/callback\"]\n\
                backchannel_logout_uri = \"http://app.example/backchannel\"\nbackchannel_logout_session_required = true\n\
                frontchannel_logout_uri = \"http://app.example/frontchannel\"\nfrontchannel_logout_session_required = true\n";
    let world = World::with(SETTINGS, told).await;
    let registered = json!({"client_id": "told", "redirect_uri": world.app.at("/callback")});
    let app = RelyingParty::new(Library::Oauth4webapi, &world.issuer, registered).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;
    alice.goto(&app.begin("openid", Value::Null).await).await;
    let tokens = app.finish(&sign_in(alice, ALICE).await.url).await;
    let sid = text(&tokens["claims"], "sid");

    alice.goto(&world.issuer.at("/account")).await;
    let page = alice.follow("Sign out").await;

    assert_eq!(page.heading, "You are signed out", "{page:?}");
    let loaded =
        eventually("the browser loads the app's address", PATIENCE, async || world.app.arrivals("/frontchannel").pop());
    let query = loaded.await.uri.query().unwrap_or_default().to_owned();
    assert!(query.contains(&format!("sid={sid}")) && query.contains("iss=http"), "{query}");
    let posted = eventually("the issuer calls the app", PATIENCE, async || world.app.arrivals("/backchannel").pop());
    let body = posted.await.body;
    let token = body.strip_prefix("logout_token=").expect("a logout token");
    assert_eq!(header(token)["typ"], "logout+jwt");
    let claims = claims(token);
    assert_eq!((text(&claims, "sid"), &claims["aud"]), (sid, &json!("told")), "{claims}");
    assert!(claims["events"]["http://schemas.openid.net/event/backchannel-logout"].is_object(), "{claims}");
    assert_eq!(claims["nonce"], Value::Null, "a logout token is no ID token");
}

/// Presses Tab until the focus is on what has this name, which has to show it.
async fn tab_to(device: Device<'_>, name: &str) {
    let mut passed = Vec::new();
    for _ in 0..40 {
        device.press("Tab").await;
        let focused = device.focused().await;
        if focused.name == name {
            assert!(focused.outlined, "it can't be seen that {focused:?} has the focus");
            return;
        }
        passed.push(focused.name);
    }
    panic!("Tab does not lead to {name:?}, only to {passed:?}");
}

const PATIENCE: Duration = Duration::from_secs(15);
