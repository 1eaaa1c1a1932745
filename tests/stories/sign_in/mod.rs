//! People sign in: in a real browser, with apps made of libraries by other authors, in races, and against hostile input.

mod account;
mod browser;
mod crashes;
mod examples;
mod first_party;
mod hostile;
mod libraries;
mod pages;
mod races;
mod secrets;

use serde_json::{Value, json};

use crate::harness::{Device, Issuer, Landing, Library, Person, RelyingParty, Running, Seen, Settings};

/// An issuer that people can sign in at, and an app's web server.
struct World {
    issuer: Issuer,
    server: Running,
    app: Landing,
}

/// Declared people and apps. `http://app.example` stands for the app's web server.
const TABLES: &str = r#"
    [limits]
    account_failures = 3
    address_failures = 1000

    [[user]]
    username = "alice"
    email = "alice@example.com"
    email_verified = true
    password = "violet-harbour-lantern-42"
    roles = ["customer"]
    name = "Alice Example"
    given_name = "Alice"
    family_name = "Example"

    [[user]]
    username = "bob"
    email = "bob@example.com"
    password = "copper-meadow-whistle-17"
    roles = ["admin", "customer"]

    [[client]]
    id = "shop"
    name = "The Shop"
    secret = "a-secret-of-the-shop-0123456789-abcdefgh"
    grants = ["authorization_code", "refresh_token", "client_credentials"]
    redirect_uris = ["http://app.example/callback"]
    post_logout_redirect_uris = ["http://app.example/bye"]
    scopes = ["openid", "profile", "email", "roles", "offline_access", "orders:read"]
    audiences = ["https://api.example.com"]

    [[client]]
    id = "signer"
    name = "The Signer"
    token_endpoint_auth_method = "private_key_jwt"
    jwks = { keys = [{ kty = "EC", crv = "P-256", kid = "signer-1", alg = "ES256", use = "sig", x = "LksuzCpQFOBxolQMYFNNGU3YZD0fd4fyY9jlNEy06zw", y = "gCCT6hTu3_Q_L9cqf4pfAd-wxQIx6rCVmw2HYDUvrmQ" }] }
    redirect_uris = ["http://app.example/callback"]
    id_token_signed_response_alg = "ES256"

    [[client]]
    id = "spa"
    name = "The Single Page"
    grants = ["authorization_code", "refresh_token"]
    redirect_uris = ["http://app.example/spa"]
    post_logout_redirect_uris = ["http://app.example/"]
    allowed_origins = ["http://app.example"]
    audiences = ["https://api.example.com"]
    first_party = true

    [[client]]
    id = "portal"
    name = "The Portal"
    grants = ["authorization_code", "refresh_token"]
    redirect_uris = ["http://app.example/portal"]
    allowed_origins = ["http://app.example"]
    audiences = ["https://api.example.com"]
    first_party = true
    session_api = true
"#;

const ALICE: (&str, &str) = ("alice", "violet-harbour-lantern-42");
const BOB: (&str, &str) = ("bob", "copper-meadow-whistle-17");
const SHOP: (&str, &str) = ("shop", "a-secret-of-the-shop-0123456789-abcdefgh");
const EVERYTHING: &str = "openid profile email roles offline_access orders:read";
const SETTINGS: Settings = Settings { keys: r#"algorithms = ["ES256", "RS256"]"#, tables: TABLES, ..Settings::PLAIN };

impl World {
    async fn new() -> Self {
        Self::with(SETTINGS, "").await
    }

    /// A world with other settings, and tables after those of [`TABLES`].
    async fn with(settings: Settings, more: &str) -> Self {
        let (issuer, app) = Self::prepare(settings, more).await;
        let server = issuer.serve().await;
        Self { issuer, server, app }
    }

    /// A world that keeps everything in this database.
    async fn in_database(settings: Settings, url: &str) -> Self {
        let (issuer, app) = Self::prepare(settings, "").await;
        issuer.use_database(url);
        let server = issuer.serve().await;
        Self { issuer, server, app }
    }

    async fn prepare(settings: Settings, more: &str) -> (Issuer, Landing) {
        let app = Landing::serve().await;
        let issuer = Issuer::new(settings);
        issuer.append_config(more);
        issuer.edit_config("http://app.example", &app.origin());
        (issuer, app)
    }

    fn alice(&self) -> Person {
        Person::new(&self.issuer, ALICE.0, ALICE.1)
    }

    /// The app `shop`, made with this library.
    async fn shop(&self, library: Library) -> RelyingParty {
        let registered = json!({"client_id": SHOP.0, "secret": SHOP.1, "redirect_uri": self.app.at("/callback")});
        RelyingParty::new(library, &self.issuer, registered).await
    }

    /// An authorization request of `shop` with no library, and no PKCE, which a confidential client may leave out.
    fn request(&self, more: &str) -> String {
        let redirect_uri = self.app.at("/callback").replace(':', "%3A").replace('/', "%2F");
        self.issuer.at(&format!(
            "/oauth2/authorize?client_id=shop&response_type=code&redirect_uri={redirect_uri}&scope=openid{more}"
        ))
    }
}

/// Types name and password into the page to sign in, and sends it.
async fn sign_in(device: Device<'_>, (name, password): (&str, &str)) -> Seen {
    device.fill("User name or e-mail address", name).await;
    device.fill("Password", password).await;
    device.follow("Sign in").await
}

/// The value of a parameter of an address, as it stands there.
fn parameter<'u>(url: &'u str, name: &str) -> Option<&'u str> {
    let (_, query) = url.split_once(['?', '#'])?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}
