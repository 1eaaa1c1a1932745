//! The endpoints for clients, through the router: an issuer with a person who is signed in, some apps, and an API.

mod client_authentication;
mod discovery;
mod hostile_input;
mod introspection;
mod logout;
mod refresh;
mod revocation;
mod scopes;
mod session_ends;
mod userinfo;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::opaque::sha256;
use crate::app::App;
use crate::clients::{
    Authentication, Client, GrantType, GrantTypes, Origin as PageOrigin, PostLogoutRedirectUri, RedirectUri,
    hash_secret,
};
use crate::config::Config;
use crate::edges::Author;
use crate::storage::{By, NewCode, NewGrant, NewSession, SessionStart};
use crate::testing::{Home, SECRET, send};
use crate::users::{NewUser, Rights};

const ISSUER: &str = "http://localhost:8080";
const API: &str = "https://api.example.com";
const ALICE: &str = "id-of-alice";
const CALLBACK: &str = "https://shop.example.com/cb";

/// An issuer and what is around it.
struct World {
    home: Home,
    app: Arc<App>,
}

/// The tokens of one authorization.
struct Tokens {
    access: String,
    refresh: String,
    id: String,
}

/// `shop` has a secret, `app` has none, and `warehouse` is an API that only asks about tokens.
fn clients() -> [Client; 3] {
    let page = |origin| PageOrigin::parse(origin).expect("an origin");
    let secret = || Authentication::Secret { sha256: hash_secret(SECRET.as_bytes()), method: None };
    let scopes = ["openid", "profile", "email", "roles", "offline_access", "cart:write"].map(str::to_owned).to_vec();
    let app = Client {
        grants: GrantTypes::from([GrantType::AuthorizationCode, GrantType::RefreshToken]),
        redirect_uris: vec![RedirectUri::parse(CALLBACK).expect("a URI")],
        post_logout_redirect_uris: vec![
            PostLogoutRedirectUri::parse("https://shop.example.com/bye?x=1").expect("a URI"),
        ],
        scopes,
        audiences: vec![API.to_owned()],
        roles: Some(vec!["customer".to_owned()]),
        allowed_origins: vec![page("https://app.example.com")],
        ..Client::new("app", Authentication::None)
    };
    let shop = Client {
        id: "shop".to_owned(),
        authentication: secret(),
        allowed_origins: vec![page("https://shop.example.com")],
        ..app.clone()
    };
    let warehouse = Client { audiences: vec![API.to_owned()], ..Client::new("warehouse", secret()) };
    [app, shop, warehouse]
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With clients that `change` has changed.
    async fn with(change: impl FnOnce(&mut Vec<Client>)) -> Self {
        Self::configured(|config| change(&mut config.clients)).await
    }

    /// With a configuration that `change` has changed.
    async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let home = Home::new();
        let exchanged = [("[[client]]", "session_ttl = \"1h\"\n[outgoing]\nallow_private = true\n[[client]]")];
        let mut config = home.config_with(r#"algorithms = ["ES256"]"#, &exchanged);
        config.clients.extend(clients());
        change(&mut config);
        let app = App::open(config, home.edges()).await.expect("an issuer");
        let alice = NewUser {
            id: ALICE.to_owned(),
            username: "alice".to_owned(),
            email: Some("alice@example.com".to_owned()),
            email_verified: true,
            claims: json!({ "name": "Alice Example", "locale": "de" }).as_object().expect("an object").clone(),
            roles: vec!["admin".to_owned(), "customer".to_owned()],
            groups: Vec::new(),
            rights: Rights::default(),
            password_hash: None,
            disabled: false,
        };
        app.store.insert_users(&[alice], &By::new(&Author::operator(), app.clock.now())).await.expect("stored");
        Self { home, app }
    }

    /// Signs alice in at a browser that has this cookie.
    async fn session(&self, cookie: &str) -> String {
        let now = self.app.clock.now();
        let session = NewSession {
            cookie_sha256: sha256(cookie),
            sid: format!("sid-of-{cookie}"),
            user_id: ALICE.to_owned(),
            auth_time: now,
            amr: vec!["pwd".to_owned()],
            acr: Some("1".to_owned()),
            persistent: false,
            expires_at: now + std::time::Duration::from_secs(3600),
            idle_expires_at: now + self.app.config.tokens.session_idle_ttl,
            user_agent: String::new(),
            address: String::new(),
        };
        match self.app.store.create_session(&session, None, &[]).await.expect("stored") {
            SessionStart::Started { sid, .. } => sid,
            SessionStart::Refused => panic!("alice may sign in"),
        }
    }

    fn grant(&self, client: &str, scope: &str, sid: Option<&str>) -> NewGrant {
        NewGrant {
            id: super::opaque::new_id(self.app.entropy.as_ref()).expect("random"),
            user_id: ALICE.to_owned(),
            client_id: client.to_owned(),
            sid: sid.map(str::to_owned),
            offline: sid.is_none(),
            scope: scope.split(' ').map(str::to_owned).collect(),
            audiences: vec![API.to_owned()],
            claims_request: None,
            nonce: Some("n".to_owned()),
            auth_time: self.app.clock.now(),
            amr: vec!["pwd".to_owned()],
            acr: Some("1".to_owned()),
        }
    }

    /// What a client gets for a code that stands for `grant`.
    async fn redeem(&self, grant: NewGrant) -> Tokens {
        let now = self.app.clock.now();
        let credentials = credentials(&grant.client_id);
        let value = grant.id.clone();
        let code = NewCode {
            code_sha256: sha256(&value),
            redirect_uri: Some(CALLBACK.to_owned()),
            code_challenge: None,
            issued_at: now,
            expires_at: now + std::time::Duration::from_secs(60),
            grant,
        };
        self.app.store.insert_code(&code).await.expect("stored");
        let form = format!("grant_type=authorization_code&code={value}&redirect_uri={CALLBACK}&{credentials}");
        let response = self.post("/oauth2/token", &form).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer = crate::testing::json(response).await;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Tokens { access: text("access_token"), refresh: text("refresh_token"), id: text("id_token") }
    }

    /// The tokens of `client` for these scopes, granted without a session.
    async fn tokens(&self, client: &str, scope: &str) -> Tokens {
        self.redeem(self.grant(client, scope, None)).await
    }

    async fn post(&self, path: &str, form: &str) -> Response {
        send(&self.app, post(path, form)).await
    }

    /// The status of an endpoint's answer, and its body.
    async fn ask(&self, path: &str, form: &str) -> (StatusCode, Value) {
        let response = self.post(path, form).await;
        let status = response.status();
        let body = crate::testing::bytes(response).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

fn credentials(client: &str) -> String {
    if client == "app" { "client_id=app".to_owned() } else { format!("client_id={client}&client_secret={SECRET}") }
}

fn post(path: &str, form: &str) -> Request<Body> {
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(Body::from(form.to_owned())).expect("a request")
}
