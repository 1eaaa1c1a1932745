//! Discovery: OpenID Connect Discovery 1.0 §3 and RFC 8414. Lists what works, nothing more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use http::{HeaderValue, StatusCode};
use keywheel_jose::Algorithm;
use serde_json::{Value, json};

use crate::app::App;
use crate::config::IssuerUrl;
use crate::http::reply;

/// The two documents, as bytes.
pub(crate) struct Documents {
    openid: Bytes,
    oauth: Bytes,
}

impl Documents {
    /// Writes the documents of `issuer`.
    pub(crate) fn new(issuer: &IssuerUrl, algorithms: &[Algorithm]) -> Self {
        let mut document = json!({
            "issuer": issuer.as_str(),
            "token_endpoint": issuer.endpoint("/oauth2/token"),
            "jwks_uri": issuer.endpoint("/.well-known/jwks.json"),
            // RFC 8414 §2 requires the member; there is no authorization endpoint, so no response type.
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        });
        let oauth = document.to_string().into();
        // Required by OpenID Connect Discovery §3, whoever the subject is.
        document["subject_types_supported"] = json!(["public"]);
        document["id_token_signing_alg_values_supported"] =
            algorithms.iter().map(|alg| Value::from(alg.as_str())).collect();
        Self { openid: document.to_string().into(), oauth }
    }
}

/// `GET /.well-known/openid-configuration`
pub(crate) async fn openid(State(app): State<Arc<App>>) -> Response {
    answer(&app.discovery.openid)
}

/// `GET /.well-known/oauth-authorization-server`
pub(crate) async fn oauth(State(app): State<Arc<App>>) -> Response {
    answer(&app.discovery.oauth)
}

fn answer(document: &Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    let mut response = reply::with_body(StatusCode::OK, json, document.clone());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
