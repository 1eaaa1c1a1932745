//! An issuer for tests: on a folder of its own, with a clock that only moves when told.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tower_service::Service as _;

use crate::app::{App, StartError};
use crate::config::Config;
use crate::edges::{Edges, ManualClock};

/// The declared client of every test issuer.
pub(crate) const CLIENT: &str = "billing";
/// Its secret.
pub(crate) const SECRET: &str = "a-secret-of-at-least-32-characters";
/// When test clocks start.
pub(crate) const START: i64 = 1_800_000_000;

/// A folder with a configuration, in which issuers are opened.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl Home {
    /// Rotation by the minute: the standby signs 60 s after the first key, and a token lives 10 s.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), clock: ManualClock::at(START) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration, with `more` lines in front of the tables.
    pub(crate) fn config(&self, keys: &str) -> Config {
        let path = self.path();
        let text = format!(
            r#"
            issuer = "http://localhost:8080"
            [storage]
            url = "sqlite://{path}/keywheel.db"
            [keys]
            encryption_key_file = "{path}/kek"
            rotate_every = "60s"
            announce = "30s"
            jwks_max_age = "5s"
            jwks_shared_max_age = "1s"
            clock_skew = "2s"
            poll = "1s"
            {keys}
            [tokens]
            access_ttl = "10s"
            id_ttl = "10s"
            [[client]]
            id = "{CLIENT}"
            secret = "{SECRET}"
            scopes = ["invoices:read", "invoices:write"]
            audiences = ["https://api.example.com", "https://other.example.com"]
            "#,
            path = path.display(),
        );
        let file = path.join("keywheel.toml");
        std::fs::write(&file, text).expect("written");
        Config::load(Some(&file), std::iter::empty()).expect("a good configuration").config
    }

    /// [`Self::config`] with some words exchanged.
    pub(crate) fn config_with(&self, keys: &str, exchanged: &[(&str, &str)]) -> Config {
        drop(self.config(keys));
        let mut text = std::fs::read_to_string(self.path().join("keywheel.toml")).expect("read");
        for (old, new) in exchanged {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        let file = self.path().join("exchanged.toml");
        std::fs::write(&file, &text).expect("written");
        Config::load(Some(&file), std::iter::empty()).expect("a good configuration").config
    }

    pub(crate) fn edges(&self) -> Edges {
        Edges { clock: Arc::clone(&self.clock) as _, ..Edges::system() }
    }

    /// Opens an issuer with one ring, ES256.
    pub(crate) async fn open(&self) -> Arc<App> {
        self.open_with(r#"algorithms = ["ES256"]"#).await.expect("an issuer")
    }

    pub(crate) async fn open_with(&self, keys: &str) -> Result<Arc<App>, StartError> {
        App::open(self.config(keys), self.edges()).await
    }
}

/// Sends a request through the router, without a socket.
pub(crate) async fn send(app: &Arc<App>, request: Request<Body>) -> Response {
    crate::http::router(app).call(request).await.expect("the router does not fail")
}

/// `GET`.
pub(crate) async fn get(app: &Arc<App>, path: &str) -> Response {
    send(app, Request::get(path).body(Body::empty()).expect("a request")).await
}

/// A token request with this form, authenticated in the body.
pub(crate) async fn ask(app: &Arc<App>, form: &str) -> Response {
    ask_raw(app, &format!("client_id={CLIENT}&client_secret={SECRET}&{form}")).await
}

/// A token request with exactly this body.
pub(crate) async fn ask_raw(app: &Arc<App>, body: &str) -> Response {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()));
    send(app, request.expect("a request")).await
}

/// A token of the client.
pub(crate) async fn token(app: &Arc<App>) -> String {
    let response = ask(app, "grant_type=client_credentials").await;
    assert_eq!(response.status(), StatusCode::OK);
    json(response).await["access_token"].as_str().expect("a token").to_owned()
}

/// The body of a response.
pub(crate) async fn bytes(response: Response) -> Vec<u8> {
    response.into_body().collect().await.expect("a body").to_bytes().to_vec()
}

/// The body of a response, as JSON.
pub(crate) async fn json(response: Response) -> Value {
    serde_json::from_slice(&bytes(response).await).expect("JSON")
}
