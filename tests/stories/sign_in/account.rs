//! The account page: what people see of theirs there, and what they end.

use serde_json::{Value, json};

use super::{ALICE, EVERYTHING, World, sign_in, text};
use crate::harness::{Browser, Library};

#[tokio::test]
async fn people_see_and_end_what_is_theirs() {
    let world = World::new().await;
    let shop = world.shop(Library::OpenidClient).await;
    let browser = Browser::start();
    let laptop = browser.device("her laptop", json!({})).await;
    let phone = browser.device("her phone", json!({"viewport": {"width": 390, "height": 844}})).await;
    laptop.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    sign_in(laptop, ALICE).await;
    shop.finish(&laptop.follow("Allow").await.url).await;
    phone.goto(&world.issuer.at("/account")).await;
    let page = sign_in(phone, ALICE).await;
    assert_eq!(page.url, world.issuer.at("/account"), "on to where she wanted to go");

    let page = laptop.goto(&world.issuer.at("/account")).await;
    for what in ["alice@example.com", "This device", "The Shop", "See your e-mail address", "orders:read"] {
        assert!(page.text.contains(what), "no {what}: {}", page.text);
    }
    assert_eq!(laptop.count("button[name=sid]").await, 2, "both devices are shown");

    // Taking access back ends what the app has.
    shop.refresh().await;
    let page = laptop.follow_beside("The Shop", "Remove access The Shop").await;
    assert!(page.text.contains("The app no longer has access."), "{page:?}");
    let refused = shop.try_to_refresh().await.expect_err("it was taken back");
    assert!(refused.contains("invalid_grant"), "{refused}");
    let page = laptop.goto(&shop.begin(EVERYTHING, Value::Null).await).await;
    assert!(page.heading.contains("asks for access"), "it has to ask again: {page:?}");
    let tokens = shop.finish(&laptop.follow("Allow").await.url).await;
    assert_eq!(text(&shop.introspect().await, "sub"), text(&tokens["claims"], "sub"));

    // Signing out everywhere reaches the other device and the tokens of this one's session.
    laptop.goto(&world.issuer.at("/account")).await;
    let page = laptop.follow("Sign out everywhere").await;
    assert_eq!(page.heading, "You are signed out", "{page:?}");
    for device in [laptop, phone] {
        assert_eq!(device.goto(&world.issuer.at("/account")).await.heading, "Sign in");
    }
    let page = laptop.goto(&shop.begin(EVERYTHING, json!({"prompt": "none"})).await).await;
    assert!(page.url.contains("error=login_required"), "{page:?}");
    assert_eq!(laptop.complaints().await, [""; 0]);
}

#[tokio::test]
async fn one_other_device_can_be_signed_out() {
    let world = World::new().await;
    let browser = Browser::start();
    let laptop = browser.device("her laptop", json!({})).await;
    let lost = browser.device("a lost phone", json!({})).await;
    for device in [lost, laptop] {
        device.goto(&world.issuer.at("/account")).await;
        sign_in(device, ALICE).await;
    }

    let page = laptop.follow("Sign out all other devices").await;

    assert!(page.text.contains("All other devices are signed out."), "{page:?}");
    assert_eq!(lost.goto(&world.issuer.at("/account")).await.heading, "Sign in");
    assert_eq!(laptop.goto(&world.issuer.at("/account")).await.heading, "Alice Example");
}
