//! The example apps, in a browser: the shop as a single page and as a page that asks for the password itself, the shop that
//! a server renders, and the club that shares its sign-in.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::sign_in;
use crate::harness::{Browser, Device, Issuer, Running, Settings, eventually, example, free_addresses, get};

const ALICE: (&str, &str) = ("alice", "alice buys a bicycle bell");
const ADMIN: (&str, &str) = ("admin", "admin counts the orders");
const PATIENCE: Duration = Duration::from_secs(20);

/// The issuer of the examples, at addresses of this story's own.
struct Street {
    issuer: Issuer,
    _server: Running,
    shop: String,
    pages: String,
    club: String,
}

impl Street {
    async fn new() -> Self {
        let issuer = Issuer::new(Settings::PLAIN);
        let [shop, pages] = free_addresses().map(|address| format!("http://{address}"));
        let [club, _] = free_addresses().map(|address| format!("http://{address}"));
        let mut config = include_str!("../../../crates/verifier/examples/shop/keywheel.toml").to_owned();
        for (old, new) in [
            ("http://localhost:8080", &*issuer.url()),
            ("http://localhost:3000", &shop),
            ("http://localhost:3001", &pages),
            ("http://localhost:3002", &club),
            // So that this story sees them renewed, too.
            ("access_ttl = \"1m\"", "access_ttl = \"3s\""),
        ] {
            assert!(config.contains(old), "no `{old}` in the example's configuration");
            config = config.replace(old, new);
        }
        let (listen, metrics) = (issuer.listen, issuer.metrics);
        config.push_str(&format!("\n[server]\nlisten = \"{listen}\"\nmetrics_listen = \"{metrics}\"\n"));
        fs::write(issuer.config_file(), config).expect("writing the configuration");
        let server = issuer.serve().await;
        Self { issuer, _server: server, shop, pages, club }
    }

    /// Runs the single-page shop.
    async fn open_shop(&self) -> Running {
        self.open("shop", &[], &self.shop).await
    }

    /// Runs the shop that a server renders.
    async fn open_pages(&self) -> Running {
        self.open("shop_server_rendered", &["shop"], &self.pages).await
    }

    /// Runs the other app of the same program.
    async fn open_club(&self) -> Running {
        self.open("shop_server_rendered", &["club"], &self.club).await
    }

    async fn open(&self, name: &str, app: &[&str], origin: &str) -> Running {
        let mut command = example(name);
        command.args(app).arg(self.issuer.url()).arg(origin);
        let mut running = Running::start(command, &self.issuer.path(""));
        eventually("the example is open", PATIENCE, async || {
            if let Some(status) = running.has_ended() {
                panic!("{name} ended at its start with {status}:\n{}", running.log());
            }
            get(origin).await.ok()
        })
        .await;
        running
    }
}

#[tokio::test]
async fn the_single_page_shop_signs_in_renews_pays_and_signs_out() {
    let street = Street::new().await;
    let _shop = street.open_shop().await;
    let browser = Browser::start();
    let alice = browser.device("Alice's laptop", json!({})).await;
    let api = |path: &str| format!("{}/api/{path}", street.shop);
    for (path, status) in [("products", 200), ("dashboard", 401), ("admin/orders", 401)] {
        assert_eq!(get(&api(path)).await.expect("an answer").status, status, "{path}, without a token");
    }

    alice.goto(&street.shop).await;
    alice.follow("Sign in").await;
    let page = sign_in(alice, ALICE).await;
    assert!(page.url.starts_with(&street.shop), "{page:?}");
    alice.reads("You are signed in as Alice Example.").await;
    assert_eq!(alice.evaluate("document.getElementById('admin').hidden").await, true, "she is no admin");

    // As long as it takes for an access token to end and another to be fetched.
    let mut wanted = 0;
    eventually("the tokens are renewed", PATIENCE, async || {
        alice.click_beside("Lamp", "Add to cart").await;
        wanted += 1;
        count(alice, "#cart li", wanted).await;
        let asked = "performance.getEntriesByType('resource').filter(it => it.name.endsWith('/oauth2/token')).length";
        (alice.evaluate(asked).await.as_u64()? >= 2).then_some(())
    })
    .await;
    assert_eq!(text_of(alice, "#problem").await, "", "and nobody noticed");
    alice.click("Pay").await;
    count(alice, "#cart li", 0).await;
    count(alice, "#orders li", 1).await;

    let admin = browser.device("the shop's computer", json!({})).await;
    admin.goto(&street.shop).await;
    admin.follow("Sign in").await;
    sign_in(admin, ADMIN).await;
    admin.reads("All orders").await;
    count(admin, "#all-orders li", 1).await;

    let page = alice.follow("Sign out").await;
    assert!(page.url.starts_with(&street.shop), "{page:?}");
    alice.reads("You are not signed in.").await;
    assert_eq!(alice.goto(&street.issuer.at("/account")).await.heading, "Sign in");
    assert_eq!([alice.complaints().await, admin.complaints().await], [[""; 0], [""; 0]]);
}

#[tokio::test]
async fn the_password_page_has_its_tokens_where_no_script_reads_them() {
    let street = Street::new().await;
    let _shop = street.open_shop().await;
    let browser = Browser::start();
    let [alice, admin] =
        [browser.device("Alice's laptop", json!({})).await, browser.device("the shop's computer", json!({})).await];
    let password_page = format!("{}/password", street.shop);

    alice.goto(&password_page).await;
    give(alice, (ALICE.0, "not her password")).await;
    let problem = eventually("she is told", PATIENCE, async || {
        Some(text_of(alice, "#problem").await).filter(|problem| !problem.is_empty())
    });
    assert!(!problem.await.contains("alice"), "and not whose fault it is");
    give(alice, ALICE).await;
    alice.reads("You are signed in as Alice Example.").await;

    let cookies = alice.cookies().await;
    let names: BTreeSet<&str> = cookies.iter().map(|cookie| cookie.name.as_str()).collect();
    let tokens = BTreeSet::from(["keywheel-access", "keywheel-refresh"]);
    assert!(names.is_superset(&tokens), "{names:?}");
    assert!(cookies.iter().all(|cookie| cookie.http_only), "{cookies:?}");
    assert_eq!(alice.evaluate("document.cookie").await, "");

    alice.click("Put a bell into the cart").await;
    alice.reads("1 in your cart, 0 orders.").await;
    alice.forgets("keywheel-access").await;
    alice.click("Put a bell into the cart").await;
    alice.reads("2 in your cart, 0 orders.").await;

    // Who may see all orders is for the route to say.
    admin.goto(&password_page).await;
    give(admin, ADMIN).await;
    admin.reads("You are signed in as Ada Example.").await;
    for (device, status) in [(alice, 403), (admin, 200)] {
        assert_eq!(status_of(device, "/api/admin/orders").await, status);
    }

    alice.click("Sign out").await;
    alice.reads("You are not signed in.").await;
    assert!(alice.cookies().await.iter().all(|cookie| !tokens.contains(cookie.name.as_str())), "the cookies are gone");
    assert_eq!(status_of(alice, "/api/dashboard").await, 401);
    assert_eq!(alice.complaints().await, [""; 0]);
}

#[tokio::test]
async fn the_rendered_shop_and_the_club_share_a_sign_in_and_its_end() {
    let street = Street::new().await;
    let (_pages, _club) = (street.open_pages().await, street.open_club().await);
    let browser = Browser::start();
    let alice = browser.device("a browser without scripts", json!({"javaScriptEnabled": false})).await;

    alice.goto(&street.pages).await;
    alice.follow("Sign in").await;
    let page = sign_in(alice, ALICE).await;
    assert!(page.text.contains("You are signed in as Alice Example."), "{page:?}");
    let page = alice.follow_beside("Bell", "Add").await;
    assert!(!page.text.contains("It is empty."), "{page:?}");
    let page = alice.follow("Pay").await;
    assert!(page.text.contains("You paid for 1 things."), "{page:?}");
    assert_eq!(alice.goto(&format!("{}/admin", street.pages)).await.status, 403);

    // The club asks what it may have, and for no password.
    alice.goto(&street.club).await;
    let page = alice.follow("Sign in").await;
    assert!(page.heading.contains("asks for access"), "{page:?}");
    let page = alice.follow("Allow").await;
    assert!(page.url.starts_with(&street.club), "{page:?}");
    assert!(page.text.contains("You are signed in as Alice Example."), "{page:?}");

    alice.goto(&street.pages).await;
    let page = alice.follow("Sign out").await;
    assert!(page.url.starts_with(&street.pages), "{page:?}");
    assert!(page.text.contains("You are not signed in."), "{page:?}");
    eventually("the club has heard of it", PATIENCE, async || {
        alice.goto(&street.club).await.text.contains("You are not signed in.").then_some(())
    })
    .await;

    alice.goto(&street.pages).await;
    alice.follow("Sign in").await;
    let page = sign_in(alice, ADMIN).await;
    assert!(page.text.contains("All carts"), "{page:?}");
    assert_eq!(alice.goto(&format!("{}/admin", street.pages)).await.status, 200);
}

/// Types name and password into the shop's own form, and sends it.
async fn give(device: Device<'_>, (name, password): (&str, &str)) {
    device.fill("User name or e-mail", name).await;
    device.fill("Password", password).await;
    device.click("Sign in").await;
}

/// Waits until a CSS selector finds so many elements.
async fn count(device: Device<'_>, selector: &str, wanted: u64) {
    eventually(&format!("{wanted} of {selector}"), PATIENCE, async || {
        (device.count(selector).await == wanted).then_some(())
    })
    .await;
}

async fn text_of(device: Device<'_>, selector: &str) -> String {
    let text = device.evaluate(&format!("document.querySelector('{selector}').innerText")).await;
    text.as_str().expect("a text").to_owned()
}

/// What a script of the page is answered with.
async fn status_of(device: Device<'_>, path: &str) -> Value {
    device.evaluate(&format!("fetch('{path}').then(response => response.status)")).await
}
