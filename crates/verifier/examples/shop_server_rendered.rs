//! The shop for browsers without scripts: pages from a server, which keeps the tokens and gives the browser a cookie. Two
//! apps in one program, to see that one sign-in serves both. From the root of the repository, in three terminals:
//!
//! ```text
//! cargo run -p keywheel -- serve --config crates/verifier/examples/shop/keywheel.toml
//! cargo run -p keywheel-verifier --example shop_server_rendered
//! cargo run -p keywheel-verifier --example shop_server_rendered -- club
//! ```
//!
//! Then open <http://localhost:3001>, sign in as `alice` (password `alice buys a bicycle bell`) or `admin` (`admin counts the
//! orders`), and open <http://localhost:3002>, the club: it asks for consent and for no password. Whoever signs out of one is
//! signed out of the other too: the issuer tells it (OpenID Connect Back-Channel Logout). Other addresses than these follow
//! the name of the app: first the issuer, then the app's own origin.
//!
//! 1. `/login` sends the browser to the issuer; what has to fit the answer is in a cookie.
//! 2. `/callback` holds the answer against it, exchanges the code for tokens, and begins a session.
//! 3. Every page has the session's access token verified, and renewed where it is over. What it says decides.
//! 4. `/logout` ends the session here and has the issuer end its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE,
};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use keywheel_verifier::{AccessTokenClaims, IdTokenClaims, Policy, Verifier, VerifyError};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use url::form_urlencoded;

/// What the two apps differ in.
struct Settings {
    name: &'static str,
    client_id: &'static str,
    client_secret: &'static str,
    origin: Cow<'static, str>,
    issuer: Cow<'static, str>,
}

struct App {
    settings: Settings,
    access_tokens: Verifier,
    id_tokens: Verifier,
    logout_tokens: Verifier,
    http: Client<HttpConnector, Full<Bytes>>,
    /// By the value of the cookie.
    sessions: Mutex<HashMap<String, Session>>,
    /// By `sub`.
    carts: Mutex<HashMap<String, Vec<&'static str>>>,
}

#[derive(Clone)]
struct Session {
    name: String,
    sid: Option<String>,
    tokens: Tokens,
}

/// What the token endpoint answers.
#[derive(Clone, Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

type Shared = State<Arc<App>>;
type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = match arguments.next().as_deref() {
        Some("club") => CLUB,
        _ => SHOP,
    };
    if let (Some(issuer), Some(origin)) = (arguments.next(), arguments.next()) {
        (settings.issuer, settings.origin) = (issuer.into(), origin.into());
    }
    let issuer = &*settings.issuer;
    // Each kind of token has its own policy, so that none can pass for another.
    let verifier = |policy| Verifier::builder(policy).name(settings.client_id).build();
    let app = App {
        access_tokens: verifier(Policy::access_token(issuer, &*settings.origin))?,
        id_tokens: verifier(Policy::id_token(issuer, settings.client_id))?,
        logout_tokens: verifier(Policy::any(issuer, settings.client_id))?,
        http: Client::builder(TokioExecutor::new()).build_http(),
        sessions: Mutex::default(),
        carts: Mutex::default(),
        settings,
    };
    let listener =
        TcpListener::bind(app.settings.origin.trim_start_matches("http://").replace("localhost", "127.0.0.1")).await?;
    let router = Router::new()
        .route("/", get(home))
        .route("/login", get(login))
        .route("/callback", get(callback))
        .route("/cart/{product}", post(add_to_cart))
        .route("/payment", post(pay))
        .route("/admin", get(admin))
        .route("/logout", post(logout))
        .route("/backchannel-logout", post(backchannel_logout))
        .with_state(Arc::new(app));
    axum::serve(listener, router).await?;
    Ok(())
}

/// `GET /`: the dashboard, or an invitation to sign in.
async fn home(State(app): Shared, headers: HeaderMap) -> Response {
    let Some((session, claims)) = app.signed_in(&headers).await else {
        return app.page("<p>You are not signed in.</p><p><a href=\"/login\">Sign in</a></p>");
    };
    let carts = lock(&app.carts);
    let cart = carts.get(&claims.sub).map(Vec::as_slice).unwrap_or_default();
    let products: String = PRODUCTS
        .iter()
        .map(|name| {
            format!("<li><form method=\"post\" action=\"/cart/{name}\">{name} <button>Add</button></form></li>")
        })
        .collect();
    let admin =
        if claims.roles.iter().any(|role| role == "admin") { "<p><a href=\"/admin\">All carts</a></p>" } else { "" };
    app.page(&format!(
        "<p>You are signed in as <strong>{}</strong>.</p><form method=\"post\" action=\"/logout\"><button>Sign out</button></form>\
         <h2>Products</h2><ul>{products}</ul><h2>Your cart</h2><p>{}</p>\
         <form method=\"post\" action=\"/payment\"><button>Pay</button></form>{admin}",
        escaped(&session.name),
        if cart.is_empty() { "It is empty.".to_owned() } else { cart.join(", ") },
    ))
}

/// `GET /login`: step 1.
async fn login(State(app): Shared) -> Response {
    let attempt = [random(), random(), random()];
    let [state, nonce, verifier] = &attempt;
    let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
    let query = form(&[
        ("response_type", "code"),
        ("client_id", app.settings.client_id),
        ("redirect_uri", &app.redirect_uri()),
        ("scope", "openid profile cart:write payments:write"),
        ("state", state),
        ("nonce", nonce),
        ("code_challenge", &URL_SAFE_NO_PAD.encode(challenge)),
        ("code_challenge_method", "S256"),
    ]);
    // `Lax`, because the browser comes back from another site.
    let cookie = app.cookie(ATTEMPT, &attempt.join("."), "; Max-Age=600");
    ([(SET_COOKIE, cookie)], Redirect::to(&app.issuer_at(&format!("/oauth2/authorize?{query}")))).into_response()
}

/// `GET /callback`: step 2.
async fn callback(State(app): Shared, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    match app.complete(query.unwrap_or_default().as_bytes(), &headers).await {
        Ok(session) => {
            let id = random();
            lock(&app.sessions).insert(id.clone(), session);
            let forget = app.cookie(ATTEMPT, "", "; Max-Age=0");
            let cookies = [(SET_COOKIE, app.cookie(SESSION, &id, "")), (SET_COOKIE, forget)];
            (AppendHeaders(cookies), Redirect::to("/")).into_response()
        }
        Err(failure) => {
            let why = escaped(&failure.to_string());
            let page = app.page(&format!("<p>That did not work: {why}.</p><p><a href=\"/login\">Try again</a></p>"));
            (StatusCode::BAD_REQUEST, page).into_response()
        }
    }
}

/// `POST /cart/{product}`: for access tokens with the scope `cart:write`.
async fn add_to_cart(State(app): Shared, headers: HeaderMap, Path(product): Path<String>) -> Response {
    let claims = match app.changed_by(&headers, "cart:write").await {
        Ok(claims) => claims,
        Err(refusal) => return refusal,
    };
    let Some(product) = PRODUCTS.into_iter().find(|known| *known == product) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    lock(&app.carts).entry(claims.sub).or_default().push(product);
    Redirect::to("/").into_response()
}

/// `POST /payment`: for access tokens with the scope `payments:write`.
async fn pay(State(app): Shared, headers: HeaderMap) -> Response {
    let claims = match app.changed_by(&headers, "payments:write").await {
        Ok(claims) => claims,
        Err(refusal) => return refusal,
    };
    let paid = lock(&app.carts).remove(&claims.sub).unwrap_or_default();
    app.page(&format!("<p>You paid for {} things.</p><p><a href=\"/\">Back</a></p>", paid.len()))
}

/// `GET /admin`: for people with the role `admin`.
async fn admin(State(app): Shared, headers: HeaderMap) -> Response {
    let Some((_, claims)) = app.signed_in(&headers).await else { return Redirect::to("/login").into_response() };
    if !claims.roles.iter().any(|role| role == "admin") {
        return (StatusCode::FORBIDDEN, app.page("<p>This page is for administrators.</p>")).into_response();
    }
    let carts = lock(&app.carts);
    let carts: String =
        carts.iter().map(|(sub, cart)| format!("<li>{}: {}</li>", escaped(sub), cart.join(", "))).collect();
    app.page(&format!("<h2>All carts</h2><ul>{carts}</ul><p><a href=\"/\">Back</a></p>"))
}

/// `POST /logout`: step 4, RP-initiated logout.
async fn logout(State(app): Shared, headers: HeaderMap) -> Response {
    if !app.is_from_own_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let session = app.cookie_of(&headers, SESSION).and_then(|id| lock(&app.sessions).remove(id));
    let hint = session.and_then(|session| session.tokens.id_token).unwrap_or_default();
    let after = format!("{}/", app.settings.origin);
    let query = form(&[
        ("id_token_hint", hint.as_str()),
        ("client_id", app.settings.client_id),
        ("post_logout_redirect_uri", &after),
    ]);
    let forget = [(SET_COOKIE, app.cookie(SESSION, "", "; Max-Age=0"))];
    (forget, Redirect::to(&app.issuer_at(&format!("/oauth2/logout?{query}")))).into_response()
}

/// `POST /backchannel-logout`: the issuer says that a session is over (OpenID Connect Back-Channel Logout §2.6).
async fn backchannel_logout(State(app): Shared, body: Bytes) -> Response {
    let token = parameter(&body, "logout_token").unwrap_or_default();
    let claims = match app.logout_tokens.verify::<Map<String, Value>>(&token).await {
        Ok(token) => token.into_claims(),
        // The issuer tries again.
        Err(VerifyError::KeysUnavailable { .. }) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let is_logout = claims.get("events").is_some_and(|events| events.get(LOGOUT_EVENT).is_some_and(Value::is_object));
    let sid = claims.get("sid").and_then(Value::as_str);
    if !is_logout || sid.is_none() || claims.contains_key("nonce") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    lock(&app.sessions).retain(|_, session| session.sid.as_deref() != sid);
    ([(CACHE_CONTROL, "no-store")], StatusCode::OK).into_response()
}

impl App {
    /// Step 2.
    async fn complete(&self, query: &[u8], headers: &HeaderMap) -> Result<Session, Failure> {
        let attempt = self.cookie_of(headers, ATTEMPT).ok_or("the browser sent no cookie")?;
        let [state, nonce, verifier] = attempt.split('.').collect::<Vec<_>>()[..] else {
            return Err("no attempt".into());
        };
        // An answer that this browser did not ask for may be somebody else's sign-in.
        if parameter(query, "state").as_deref() != Some(state)
            || parameter(query, "iss").as_deref() != Some(&*self.settings.issuer)
        {
            return Err("the answer does not fit the request".into());
        }
        if let Some(error) = parameter(query, "error") {
            return Err(parameter(query, "error_description").unwrap_or(error).into());
        }
        let code = parameter(query, "code").ok_or("there is no code")?;
        let redirect_uri = self.redirect_uri();
        let tokens = self
            .ask(&[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", &redirect_uri),
                ("code_verifier", verifier),
            ])
            .await?;
        let id_token = tokens.id_token.as_deref().ok_or("there is no ID token")?;
        let claims = self.id_tokens.verify::<IdTokenClaims>(id_token).await?.into_claims();
        if claims.nonce.as_deref() != Some(nonce) {
            return Err("the ID token is for another request".into());
        }
        let user = self.user(&tokens.access_token).await?;
        if user.get("sub").and_then(Value::as_str) != Some(&claims.sub) {
            return Err("UserInfo is about somebody else".into());
        }
        let name = user.get("name").and_then(Value::as_str).unwrap_or(&claims.sub).to_owned();
        Ok(Session { name, sid: claims.sid, tokens })
    }

    /// Step 3: the session and what its access token says; `None` when nobody is signed in, or not any more.
    async fn signed_in(&self, headers: &HeaderMap) -> Option<(Session, AccessTokenClaims)> {
        let id = self.cookie_of(headers, SESSION)?;
        let mut session = lock(&self.sessions).get(id)?.clone();
        if let Ok(token) = self.access_tokens.verify(&session.tokens.access_token).await {
            return Some((session, token.into_claims()));
        }
        let refresh_token = session.tokens.refresh_token.take()?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str())];
        let tokens = self.ask(&form).await.ok()?;
        let id_token = tokens.id_token.or(session.tokens.id_token);
        session.tokens = Tokens { id_token, ..tokens };
        // Not if it was ended meanwhile.
        lock(&self.sessions).get_mut(id)?.clone_from(&session);
        let token = self.access_tokens.verify(&session.tokens.access_token).await.ok()?;
        Some((session, token.into_claims()))
    }

    /// Who sends a form of ours, if their token has this scope; or what they are answered.
    async fn changed_by(&self, headers: &HeaderMap, scope: &str) -> Result<AccessTokenClaims, Response> {
        if !self.is_from_own_page(headers) {
            return Err(StatusCode::FORBIDDEN.into_response());
        }
        let Some((_, claims)) = self.signed_in(headers).await else {
            return Err(Redirect::to("/login").into_response());
        };
        if !claims.scopes().any(|granted| granted == scope) {
            return Err(
                (StatusCode::FORBIDDEN, self.page("<p>You did not allow this app to do that.</p>")).into_response()
            );
        }
        Ok(claims)
    }

    /// Asks the token endpoint, as the client that we are (RFC 6749 §2.3.1).
    async fn ask(&self, parameters: &[(&str, &str)]) -> Result<Tokens, Failure> {
        let credentials = STANDARD.encode(format!("{}:{}", self.settings.client_id, self.settings.client_secret));
        let request = Request::post(self.issuer_at("/oauth2/token"))
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form(parameters)))?;
        Ok(serde_json::from_slice(&self.send(request).await?)?)
    }

    /// Asks the UserInfo endpoint about the person of an access token.
    async fn user(&self, access_token: &str) -> Result<Map<String, Value>, Failure> {
        let request = Request::get(self.issuer_at("/oauth2/userinfo"))
            .header(AUTHORIZATION, format!("Bearer {access_token}"))
            .body(Full::default())?;
        Ok(serde_json::from_slice(&self.send(request).await?)?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Bytes, Failure> {
        let response = self.http.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), 64 * 1024).collect().await?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(format!("the issuer answered {status}").into()) }
    }

    /// A cookie says who somebody is, and not that they meant to send this: another site's page can send forms too.
    fn is_from_own_page(&self, headers: &HeaderMap) -> bool {
        match headers.get("sec-fetch-site") {
            Some(site) => site == "same-origin",
            None => headers.get(ORIGIN).is_some_and(|origin| origin == &*self.settings.origin),
        }
    }

    /// With https it would be `Secure`, and its name would begin with `__Host-`. Cookies know no ports: the two apps need
    /// names of their own.
    fn cookie(&self, name: &str, value: &str, more: &str) -> String {
        format!("{}-{name}={value}; Path=/; HttpOnly; SameSite=Lax{more}", self.settings.client_id)
    }

    fn cookie_of<'h>(&self, headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        let prefix = format!("{}-{name}=", self.settings.client_id);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(prefix.as_str()))
    }

    fn issuer_at(&self, path: &str) -> String {
        format!("{}{path}", self.settings.issuer)
    }

    fn redirect_uri(&self) -> String {
        format!("{}/callback", self.settings.origin)
    }

    fn page(&self, content: &str) -> Response {
        let (name, issuer) = (self.settings.name, &self.settings.issuer);
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{name}</title><h1>{name}</h1>{content}"
        );
        let policy =
            format!("default-src 'none'; form-action 'self' {issuer}; base-uri 'none'; frame-ancestors 'none'");
        ([(CONTENT_SECURITY_POLICY, policy), (CACHE_CONTROL, "no-store".to_owned())], Html(page)).into_response()
    }
}

fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn parameter(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form).find_map(|(known, value)| (known == name).then(|| value.into_owned()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// 256 random bits.
fn random() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's generator works");
    URL_SAFE_NO_PAD.encode(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHOP: Settings = Settings {
    name: "Shop",
    client_id: "pages",
    client_secret: "an-example-secret-that-everybody-knows",
    origin: Cow::Borrowed("http://localhost:3001"),
    issuer: Cow::Borrowed("http://localhost:8080"),
};
const CLUB: Settings = Settings {
    name: "Cycling Club",
    client_id: "club",
    client_secret: "another-example-secret-that-everybody-knows",
    origin: Cow::Borrowed("http://localhost:3002"),
    issuer: Cow::Borrowed("http://localhost:8080"),
};

const PRODUCTS: [&str; 3] = ["Bell", "Lamp", "Basket"];
const ATTEMPT: &str = "attempt";
const SESSION: &str = "session";
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
