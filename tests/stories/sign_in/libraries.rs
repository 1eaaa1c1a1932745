//! Apps made with libraries by other authors, each of which checks all that its standard asks of a client.

use serde_json::{Value, json};

use super::{ALICE, EVERYTHING, SETTINGS, World, parameter, sign_in, text};
use crate::harness::{Apache, Browser, End, Library, Person, RelyingParty, eventually, header};

/// Of the client `signer`; its public half is in [`super::TABLES`].
pub(super) const SIGNER_D: &str = "fePNh8bd2aZVcZzpqqjzSetpO4I4VpivcFQjx5tzxUI";

#[tokio::test]
async fn openid_client_signs_people_in_and_out() {
    whole_life(Library::OpenidClient).await;
}

#[tokio::test]
async fn oauth4webapi_signs_people_in_and_out() {
    whole_life(Library::Oauth4webapi).await;
}

#[tokio::test]
async fn authlib_signs_people_in_and_out() {
    whole_life(Library::Authlib).await;
}

/// Code flow with PKCE, what is said of the person, renewal, narrowing, introspection, sign-out, revocation.
async fn whole_life(library: Library) {
    let world = World::new().await;
    let shop = world.shop(library).await;
    let mut alice = world.alice();

    let callback = alice.authorize(&shop.begin(EVERYTHING, json!({"prompt": "login", "max_age": "0"})).await).await;
    assert!(callback.starts_with(&world.app.at("/callback?")), "{callback}");
    let first = shop.finish(&callback).await;
    let claims = &first["claims"];
    let id_token = text(&first, "id_token");
    assert_eq!(header(id_token)["alg"], "RS256", "what a client gets that asks for nothing");
    assert_eq!(claims["iss"], world.issuer.url());
    assert!(claims["auth_time"].is_i64() && claims["sid"].is_string() && claims["nonce"].is_string(), "{claims}");
    assert_eq!(first["scope"], EVERYTHING);

    let person = shop.userinfo().await;
    assert_eq!(person["sub"], claims["sub"]);
    assert_eq!(person["email"], "alice@example.com");
    assert_eq!((&person["name"], &person["roles"]), (&json!("Alice Example"), &json!(["customer"])), "{person}");

    let told = shop.introspect().await;
    assert_eq!((&told["active"], &told["sub"]), (&json!(true), &claims["sub"]), "{told}");
    let second = shop.refresh().await;
    assert_ne!(second["refresh_token"], first["refresh_token"], "each is good for one use");
    assert_ne!(second["access_token"], first["access_token"]);
    let narrow = shop.refresh_for("openid email").await;
    assert_eq!(narrow["scope"], "openid email");
    let person = shop.userinfo().await;
    assert_eq!((&person["email"], &person["name"]), (&json!("alice@example.com"), &Value::Null), "{person}");

    // A code is good for one use, whoever has it.
    shop.try_to_finish(&callback).await.expect_err("a code was good twice");

    // Its second use has ended everything; so she signs in anew, out, and the tokens for offline use are given back.
    let callback = alice.authorize(&shop.begin(EVERYTHING, json!({})).await).await;
    shop.finish(&callback).await;
    let End::Sent(bye) = alice.go(&shop.logout(&world.app.at("/bye"), "xyz").await).await else {
        panic!("a hint needs no question")
    };
    assert_eq!(bye, format!("{}?state=xyz", world.app.at("/bye")));
    let End::Sent(refused) = alice.go(&shop.begin(EVERYTHING, json!({"prompt": "none"})).await).await else {
        panic!("prompt=none shows nothing")
    };
    assert_eq!(parameter(&refused, "error"), Some("login_required"));
    shop.revoke().await;
    let error = shop.try_to_refresh().await.expect_err("it was given back");
    assert!(error.contains("invalid_grant"), "{error}");
    assert!(!world.server.log().contains("panicked"), "{}", world.server.log());
}

#[tokio::test]
async fn a_client_proves_itself_with_its_key_and_gets_es256() {
    let world = World::new().await;
    let key = json!({
        "kty": "EC", "crv": "P-256", "kid": "signer-1", "d": SIGNER_D,
        "x": "LksuzCpQFOBxolQMYFNNGU3YZD0fd4fyY9jlNEy06zw", "y": "gCCT6hTu3_Q_L9cqf4pfAd-wxQIx6rCVmw2HYDUvrmQ",
    });
    let registered = json!({
        "client_id": "signer", "method": "private_key_jwt", "key": key, "id_token_alg": "ES256",
        "redirect_uri": world.app.at("/callback"),
    });
    let signer = RelyingParty::new(Library::OpenidClient, &world.issuer, registered).await;

    let callback = world.alice().authorize(&signer.begin("openid email", Value::Null).await).await;
    let tokens = signer.finish(&callback).await;

    assert_eq!(header(text(&tokens, "id_token"))["alg"], "ES256");
    assert_eq!(signer.userinfo().await["email"], "alice@example.com");
    assert_eq!(signer.introspect().await["active"], true);
}

#[tokio::test]
async fn apache_guards_a_page() {
    let apache = Apache::reserve();
    let world = World::with(SETTINGS, &apache.client()).await;
    let apache = apache.serve(&world.issuer).await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;

    let page = alice.goto(&apache.at("/")).await;
    assert_eq!(page.heading, "Sign in", "{page:?}");
    let page = sign_in(alice, ALICE).await;
    assert_eq!(page.heading, "Behind Apache", "{page:?}\n{}", apache.log());
    let session = apache.session(alice).await;
    assert_eq!(session["userinfo"]["email"], "alice@example.com", "{session}");

    // It renews its tokens.
    let token = text(&session, "access_token").to_owned();
    let refresh = format!("/callback?refresh={}&access_token={token}", apache.at("/bye.html"));
    let page = alice.goto(&apache.at(&refresh)).await;
    assert_eq!(page.heading, "Bye from Apache", "{page:?}\n{}", apache.log());
    assert!(!page.url.contains("error"), "{page:?}\n{}", apache.log());
    let renewed = apache.session(alice).await;
    assert_ne!(renewed["access_token"], session["access_token"]);
    assert_ne!(renewed["refresh_token"], session["refresh_token"]);

    // And signs her out of everything.
    let page = alice.goto(&apache.at(&format!("/callback?logout={}", apache.at("/bye.html")))).await;
    assert_eq!(page.heading, "Bye from Apache", "{page:?}\n{}", apache.log());
    assert_eq!(alice.goto(&world.issuer.at("/account")).await.heading, "Sign in");
    assert_eq!(alice.goto(&apache.at("/")).await.heading, "Sign in");
}

#[tokio::test]
async fn people_and_apps_are_imported() {
    let world = World::new().await;
    let callback = world.app.at("/imported");
    let people = json!([
        {"username": "carol", "email": "carol@example.com", "sub": "kept-subject-1", "password": "umbrella-tiger-lamp-9"},
    ]);
    let apps = json!([{
        "client_id": "imported", "client_secret": "an-imported-secret-0123456789-abcdefgh", "client_name": "Imported",
        "redirect_uris": [callback], "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"], "token_endpoint_auth_method": "client_secret_post", "scope": "openid email",
    }]);
    for (command, document) in [("users", people), ("clients", apps)] {
        let exit = world.issuer.command_with_input(&[command, "import", "-"], &document.to_string()).await;
        assert_eq!(exit.code, Some(0), "{command}: {exit:?}");
    }
    let registered = json!({
        "client_id": "imported", "secret": "an-imported-secret-0123456789-abcdefgh", "method": "client_secret_post",
        "redirect_uri": callback,
    });
    let app = RelyingParty::new(Library::OpenidClient, &world.issuer, registered).await;

    let mut carol = Person::new(&world.issuer, "carol@example.com", "umbrella-tiger-lamp-9");
    // A running server learns of new clients from the database.
    let url = eventually("the server knows the app", std::time::Duration::from_secs(40), async || {
        match carol.go(&app.begin("openid email", Value::Null).await).await {
            End::Sent(url) => Some(url),
            _ => None,
        }
    })
    .await;
    let tokens = app.finish(&url).await;

    assert_eq!(tokens["claims"]["sub"], "kept-subject-1");
    assert_eq!(app.userinfo().await["email"], "carol@example.com");
}
