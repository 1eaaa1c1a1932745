//! What is secret stands in no log, however much is logged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ALICE, EVERYTHING, SHOP, World, parameter, text};
use crate::harness::{End, Library, Person};

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let world = World::talkative().await;
    let shop = world.shop(Library::OpenidClient).await;
    let mut alice = world.alice();
    let mut secrets = BTreeSet::from([ALICE.1.to_owned(), SHOP.1.to_owned()]);
    let mut note = |secret: Option<&str>| secrets.insert(secret.expect("a secret").to_owned());

    let mut mistaken = Person::new(&world.issuer, ALICE.0, "a-wrong-password-that-was-typed");
    let End::Page(_) = mistaken.go(&shop.begin(EVERYTHING, Value::Null).await).await else {
        panic!("a wrong password was accepted")
    };
    note(Some("a-wrong-password-that-was-typed"));
    note(mistaken.cookie("keywheel-form"));
    let callback = alice.authorize(&shop.begin(EVERYTHING, Value::Null).await).await;
    note(parameter(&callback, "code"));
    note(alice.cookie("keywheel-session"));
    note(alice.cookie("keywheel-form"));
    for tokens in [shop.finish(&callback).await, shop.refresh().await, shop.refresh().await] {
        for name in ["access_token", "refresh_token", "id_token"] {
            note(Some(text(&tokens, name)));
        }
    }
    shop.userinfo().await;
    shop.introspect().await;
    shop.try_to_finish(&callback).await.expect_err("a code is good once");
    shop.try_to_refresh().await.expect_err("and its second use ends all");
    alice.go(&shop.logout(&world.app.at("/bye"), "s").await).await;

    let log = world.server.log();
    assert!(log.len() > 1_000, "it was to say a lot: {log}");
    for secret in secrets {
        // The first part of a token is no secret, and its signature is.
        let part = secret.rsplit('.').next().expect("the last part");
        assert!(!log.contains(part), "the log has {secret}");
    }
}
