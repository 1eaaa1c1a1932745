//! A shop: an API whose routes ask for a token, a scope or a role, and a single-page front end that signs people in. From
//! the root of the repository, in two terminals:
//!
//! ```text
//! cargo run -p keywheel -- serve --config crates/verifier/examples/shop/keywheel.toml
//! cargo run -p keywheel-verifier --features axum --example shop
//! ```
//!
//! Then open <http://localhost:3000> and sign in as `alice` (password `alice buys a bicycle bell`) or as `admin`
//! (`admin counts the orders`), who sees all orders. <http://localhost:3000/password> is a page that asks for the password
//! itself, by the issuer's session API, and has the tokens in cookies that no script can read.
//!
//! Other addresses than these follow the program's name: first the issuer, then the shop's own origin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, serve};
use keywheel_verifier::{Bearer, Guard, Policy, ResourceMetadata, Verifier};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the handlers share.
#[derive(Clone)]
struct Shop {
    issuer: Arc<str>,
    guard: Guard,
    people: Arc<Mutex<BTreeMap<String, Person>>>,
}

/// By `sub`, which is the one thing about a person that never changes.
#[derive(Default)]
struct Person {
    cart: Vec<u32>,
    orders: Vec<Vec<u32>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().unwrap_or_else(|| "http://localhost:8080".to_owned());
    let origin = arguments.next().unwrap_or_else(|| "http://localhost:3000".to_owned());
    let metadata = ResourceMetadata::new(&origin)?.authorization_server(&issuer);
    // The issuer is on this machine: there is one clock, and nothing to forgive.
    let policy = Policy::access_token(&issuer, &origin).with_leeway(Duration::ZERO)?;
    let verifier = Verifier::builder(policy).name("shop").build()?;
    // From scripts with a token in the header, from `/password` with the cookie, which is `__Host-access` on https.
    let guard = Guard::new(verifier).resource_metadata(metadata.url()).cookie("keywheel-access");

    let may_buy = guard.clone().require_scope("cart:write").layer();
    let may_pay = guard.clone().require_scope("payments:write").layer();
    let admins = guard.clone().require_role("admin").layer();
    let app = Router::new()
        .route(metadata.well_known_path(), get(metadata.clone()))
        .route("/", file("text/html; charset=utf-8", include_str!("shop/index.html")))
        .route("/shop.js", file("text/javascript", include_str!("shop/shop.js")))
        .route("/password", file("text/html; charset=utf-8", include_str!("shop/password.html")))
        .route("/password.js", file("text/javascript", include_str!("shop/password.js")))
        .route("/issuer.js", get(issuer_script))
        .route("/shop.css", file("text/css", include_str!("shop/shop.css")))
        .route("/api/products", get(products))
        .route("/api/dashboard", get(dashboard))
        .route("/api/cart/{product}", post(add_to_cart).layer(may_buy))
        .route("/api/payment", post(pay).layer(may_pay))
        .route("/api/admin/orders", get(all_orders).layer(admins))
        .with_state(Shop { issuer: issuer.into(), guard, people: Arc::default() });

    let listen = origin.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    serve(TcpListener::bind(listen).await?, app).await?;
    Ok(())
}

/// Tells the scripts who the issuer is.
async fn issuer_script(State(shop): State<Shop>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript")], format!("export const issuer = {};\n", json!(&*shop.issuer)))
}

/// For everybody: a handler that takes no [`Bearer`] asks for no token.
async fn products() -> impl IntoResponse {
    let products: Vec<Value> =
        PRODUCTS.iter().map(|(id, name, cents)| json!({ "id": id, "name": name, "cents": cents })).collect();
    answer(&json!(products))
}

/// For everybody who is signed in.
async fn dashboard(State(shop): State<Shop>, Bearer(token): Bearer) -> impl IntoResponse {
    let mut people = shop.people();
    let person = people.entry(token.claims().sub.clone()).or_default();
    answer(&json!({ "cart": person.cart, "orders": person.orders }))
}

/// For tokens with the scope `cart:write`: the layer of the route has seen to it.
async fn add_to_cart(
    State(shop): State<Shop>,
    Path(product): Path<String>,
    Bearer(token): Bearer,
) -> impl IntoResponse {
    let product = PRODUCTS.iter().map(|(id, ..)| *id).find(|id| product == id.to_string());
    let Some(product) = product else {
        return (StatusCode::NOT_FOUND, answer(&json!({ "error": "there is no such product" })));
    };
    let mut people = shop.people();
    let person = people.entry(token.claims().sub.clone()).or_default();
    person.cart.push(product);
    (StatusCode::OK, answer(&json!(person.cart)))
}

/// For tokens with the scope `payments:write`.
async fn pay(State(shop): State<Shop>, Bearer(token): Bearer) -> impl IntoResponse {
    let mut people = shop.people();
    let person = people.entry(token.claims().sub.clone()).or_default();
    let cart = std::mem::take(&mut person.cart);
    if cart.is_empty() {
        return (StatusCode::CONFLICT, answer(&json!({ "error": "the cart is empty" })));
    }
    person.orders.push(cart);
    (StatusCode::OK, answer(&json!(person.orders)))
}

/// For people with the role `admin`.
async fn all_orders(State(shop): State<Shop>) -> impl IntoResponse {
    let people = shop.people();
    let orders = people.iter().flat_map(|(sub, person)| {
        person.orders.iter().map(move |products| json!({ "person": sub, "products": products }))
    });
    answer(&json!(orders.collect::<Vec<_>>()))
}

impl Shop {
    fn people(&self) -> MutexGuard<'_, BTreeMap<String, Person>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where [`Bearer`] finds the guard.
impl FromRef<Shop> for Guard {
    fn from_ref(shop: &Shop) -> Self {
        shop.guard.clone()
    }
}

fn answer(body: &Value) -> ([(HeaderName, &'static str); 2], String) {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.to_string())
}

/// One of the front end's files. The policy keeps scripts of others out, and tokens from going anywhere but to the issuer
/// and to us.
fn file(content_type: &'static str, text: &'static str) -> MethodRouter<Shop> {
    get(async move |State(shop): State<Shop>| {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {}; base-uri 'none'; \
             frame-ancestors 'none'",
            shop.issuer
        );
        ([(CONTENT_TYPE, content_type.to_owned()), (CONTENT_SECURITY_POLICY, policy)], text)
    })
}

const PRODUCTS: [(u32, &str, u32); 3] = [(1, "Bicycle bell", 900), (2, "Lamp", 2400), (3, "Basket", 3150)];
