//! Every page in every dress: for those who can't see or point, and as pictures for those who look.

use serde_json::{Value, json};

use super::{ALICE, World};
use crate::harness::{Browser, Device};

/// Languages, colours and screens, so that any two of them meet once.
const DRESSES: [(&str, &str, &str); 4] =
    [("en", "light", "desktop"), ("en", "dark", "phone"), ("de", "light", "phone"), ("de", "dark", "desktop")];

#[tokio::test]
async fn every_page_is_accessible_in_every_dress() {
    let world = World::new().await;
    let browser = Browser::start();
    for (language, colours, screen) in DRESSES {
        let viewport = if screen == "phone" {
            json!({"width": 390, "height": 844})
        } else {
            json!({"width": 1280, "height": 800})
        };
        let options =
            json!({"locale": language, "colorScheme": colours, "viewport": viewport, "isMobile": screen == "phone"});
        let device = browser.device("a device", options).await;
        let shown = Shown { device, dress: format!("{language}-{colours}-{screen}") };
        let at = |path: &str| world.issuer.at(path);

        shown.visit("home", &at("/")).await;
        shown.visit("error", &at("/oauth2/authorize?client_id=nobody")).await;
        shown.visit("login", &world.request("+email+profile+offline_access+orders:read")).await;
        shown.submit("form[action=\"/login\"]", &[("username", ALICE.0), ("password", "wrong")]).await;
        shown.look("login-refused").await;
        shown.submit("form[action=\"/login\"]", &[("username", ALICE.0), ("password", ALICE.1)]).await;
        shown.look("consent").await;
        shown.visit("select-account", &world.request("&prompt=select_account")).await;
        shown.visit("home-signed-in", &at("/")).await;
        shown.visit("account", &at("/account")).await;
        shown.visit("password", &at("/account/password")).await;
        shown.visit("logout", &at("/oauth2/logout")).await;
        shown.submit("form[action=\"/oauth2/logout\"]", &[]).await;
        shown.look("signed-out").await;
        device.close().await;
    }
}

/// A device that wears something.
struct Shown<'b> {
    device: Device<'b>,
    dress: String,
}

impl Shown<'_> {
    async fn visit(&self, page: &str, url: &str) {
        self.device.goto(url).await;
        self.look(page).await;
    }

    /// Fills a form in and presses its first button.
    async fn submit(&self, form: &str, fields: &[(&str, &str)]) {
        self.device.submit(form, fields).await;
    }

    async fn look(&self, page: &str) {
        let what = format!("{page} {}", self.dress);
        let language = self.device.evaluate("document.documentElement.lang").await;
        assert_eq!(language, self.dress[..2], "{what}");
        let width = self.device.evaluate("document.documentElement.scrollWidth - innerWidth").await;
        assert_eq!(width, Value::from(0), "{what} is wider than the screen");
        let complaints = self.device.complaints().await;
        assert!(complaints.is_empty(), "{what}: {complaints:?}");
        self.device.picture(format!("{page}-{}", self.dress)).await;
        self.device.assert_accessible(&what).await;
    }
}
