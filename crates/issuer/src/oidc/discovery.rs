//! Discovery: OpenID Connect Discovery 1.0 §3 and RFC 8414. Lists what works, nothing more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use keywheel_jose::Algorithm;
use serde_json::json;

use super::profile;
use crate::app::App;
use crate::clients::OPENID_SCOPES;
use crate::config::IssuerUrl;
use crate::http::document::{Document, Wanted};
use crate::login::languages;

/// The document: one for both addresses, since neither standard minds what the other adds.
pub(crate) struct Discovery(Document);

impl Discovery {
    /// Writes the document of `issuer`, which signs with `algorithms`.
    pub(crate) fn new(issuer: &IssuerUrl, algorithms: &[Algorithm]) -> Self {
        let endpoint = |path| issuer.endpoint(path);
        let names = |algorithms: &[Algorithm]| algorithms.iter().map(|alg| alg.as_str()).collect::<Vec<_>>();
        let with_secrets = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
        let with_all = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
        let by_scope = OPENID_SCOPES.iter().flat_map(|scope| profile::claims_of_scope(scope));
        let claims: Vec<&str> = OF_THE_TOKEN.iter().chain(by_scope).copied().collect();
        let document = json!({
            "issuer": issuer.as_str(),
            "authorization_endpoint": endpoint("/oauth2/authorize"),
            "token_endpoint": endpoint("/oauth2/token"),
            "userinfo_endpoint": endpoint("/oauth2/userinfo"),
            "jwks_uri": endpoint("/.well-known/jwks.json"),
            "revocation_endpoint": endpoint("/oauth2/revoke"),
            "introspection_endpoint": endpoint("/oauth2/introspect"),
            "end_session_endpoint": endpoint("/oauth2/logout"),
            "scopes_supported": OPENID_SCOPES,
            "claims_supported": claims,
            "claim_types_supported": ["normal"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "ui_locales_supported": languages().collect::<Vec<_>>(),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": names(algorithms),
            "token_endpoint_auth_methods_supported": with_all,
            "token_endpoint_auth_signing_alg_values_supported": names(&Algorithm::ALL),
            "revocation_endpoint_auth_methods_supported": with_all,
            "revocation_endpoint_auth_signing_alg_values_supported": names(&Algorithm::ALL),
            "introspection_endpoint_auth_methods_supported": with_secrets,
            "introspection_endpoint_auth_signing_alg_values_supported": names(&Algorithm::ALL),
            "authorization_response_iss_parameter_supported": true,
            "claims_parameter_supported": true,
            "request_parameter_supported": false,
            // OpenID Connect Discovery §3: "If omitted, the default value is true".
            "request_uri_parameter_supported": false,
            "backchannel_logout_supported": true,
            "backchannel_logout_session_supported": true,
            "frontchannel_logout_supported": true,
            "frontchannel_logout_session_supported": true,
        });
        let cache_control = HeaderValue::from_static("public, max-age=300");
        Self(Document::new(document.to_string().into_bytes(), "application/json", &cache_control))
    }

    /// Answers whoever sent these headers.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        self.0.answer(headers).0
    }

    /// Writes the answer to a `GET` for whoever wants it.
    pub(crate) fn write(
        &self,
        wanted: &Wanted<'_>,
        answers: &mut Vec<u8>,
        fields: impl FnOnce(StatusCode, &mut Vec<u8>),
    ) {
        self.0.write(wanted, answers, fields);
    }
}

/// `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server`
pub(crate) async fn discovery(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    app.discovery.answer(&headers)
}

/// What ID tokens say beside what they say of the person.
const OF_THE_TOKEN: [&str; 10] = ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid"];
