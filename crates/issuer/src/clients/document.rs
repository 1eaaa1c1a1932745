//! A client as a JSON document with the names of RFC 7591 §2: what is shown, and what is stored beside the columns.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Authentication, Client, ClientKeys, GrantType, GrantTypes, Jwks, Source, WebUri};

/// How the client of a document authenticates.
#[derive(Deserialize)]
struct Method {
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
    #[serde(default)]
    token_endpoint_auth_signing_alg: Option<String>,
    #[serde(default)]
    jwks: Option<Jwks>,
    #[serde(default)]
    jwks_uri: Option<WebUri>,
}

impl Client {
    /// All of its metadata, with the registered names; never a secret.
    #[must_use]
    pub fn to_document(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut document)) = serde_json::to_value(self) else {
            unreachable!("a client has only string keys, so it is an object")
        };
        let mut add = |name: &str, value: Value| document.insert(name.to_owned(), value);
        if let Some(method) = self.auth_method() {
            add("token_endpoint_auth_method", method.as_str().into());
        }
        if let Authentication::PrivateKeyJwt { keys, alg } = &self.authentication {
            match keys {
                ClientKeys::Inline(jwks) => add("jwks", serde_json::to_value(jwks).unwrap_or_default()),
                ClientKeys::At(uri) => add("jwks_uri", uri.as_str().into()),
            };
            if let Some(alg) = alg {
                add("token_endpoint_auth_signing_alg", alg.as_str().into());
            }
        }
        if self.uses(GrantType::AuthorizationCode) {
            add("response_types", ["code"].as_slice().into());
        }
        document
    }

    /// A stored client, from what [`Client::to_document`] gave and the hash that was kept of its secret.
    ///
    /// # Errors
    /// What is unreadable.
    pub(crate) fn from_document(document: &str, secret_sha256: [u8; 32]) -> Result<Self, String> {
        let failed = |error: serde_json::Error| error.to_string();
        let client: Self = serde_json::from_str(document).map_err(failed)?;
        let method: Method = serde_json::from_str(document).map_err(failed)?;
        let authentication = method.with_secret(secret_sha256)?;
        Ok(Self { authentication, source: Source::Stored, ..client })
    }
}

impl Method {
    fn with_secret(self, sha256: [u8; 32]) -> Result<Authentication, String> {
        use super::{ClientAuthMethod as Registered, SecretMethod};
        let method = self.token_endpoint_auth_method.map(|method| method.parse::<Registered>());
        let secret = |method| Authentication::Secret { sha256, method };
        Ok(match method.transpose().map_err(|error| error.to_string())? {
            None => secret(None),
            Some(Registered::ClientSecretBasic) => secret(Some(SecretMethod::Basic)),
            Some(Registered::ClientSecretPost) => secret(Some(SecretMethod::Post)),
            Some(Registered::None) => Authentication::None,
            Some(Registered::PrivateKeyJwt) => {
                let alg = self.token_endpoint_auth_signing_alg.map(|alg| super::parse_assertion_alg(&alg));
                let alg = alg.transpose().map_err(|error| error.to_string())?;
                let keys = self.jwks.map(ClientKeys::Inline).or(self.jwks_uri.map(ClientKeys::At));
                Authentication::PrivateKeyJwt { keys: keys.ok_or("it has neither jwks nor jwks_uri")?, alg }
            }
        })
    }
}

/// Until a document's method has been read.
pub(super) fn unknown_authentication() -> Authentication {
    Authentication::None
}

/// The grants of clients of the first version, whose documents did not say.
pub(super) fn first_grants() -> GrantTypes {
    GrantTypes::from([GrantType::ClientCredentials])
}

/// Words separated by spaces.
pub(super) mod words {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(words: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&words.join(" "))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }
}

/// A duration in whole seconds.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(it: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        it.map(|duration| duration.as_secs()).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

/// The name of an algorithm.
pub(super) mod algorithm {
    use keywheel_jose::Algorithm;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(it: &Option<Algorithm>, serializer: S) -> Result<S::Ok, S::Error> {
        it.map(Algorithm::as_str).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Algorithm>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        name.map(|name| name.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keywheel_jose::Algorithm;
    use serde_json::json;

    use super::*;
    use crate::clients::{About, ApplicationType, Origin, PostLogoutRedirectUri, RedirectUri, SecretMethod};

    fn stored(client: &Client, sha256: [u8; 32]) -> Client {
        Client::from_document(&Value::Object(client.to_document()).to_string(), sha256).expect("as it was stored")
    }

    #[test]
    fn a_client_is_read_as_it_was_written() {
        let uri = |text: &str| Some(WebUri::parse(text).expect("a URI"));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let full = Client {
            name: Some("App".to_owned()),
            grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
            redirect_uris: vec![RedirectUri::parse("com.example.app:/callback").expect("a URI")],
            post_logout_redirect_uris: vec![PostLogoutRedirectUri::parse("https://a.example/").expect("a URI")],
            application_type: Some(ApplicationType::Native),
            require_pkce: true,
            scopes: words(&["openid", "a:b"]),
            audiences: words(&["https://api.example.com"]),
            roles: Some(vec![]),
            first_party: true,
            session_api: true,
            allowed_origins: vec![Origin::parse("https://a.example").expect("an origin")],
            access_token_alg: Some(Algorithm::EdDSA),
            id_token_signed_response_alg: Some(Algorithm::PS256),
            access_ttl: Some(Duration::from_secs(60)),
            refresh_ttl: Some(Duration::from_secs(3600)),
            default_max_age: Some(Duration::ZERO),
            require_auth_time: true,
            default_acr_values: words(&["1"]),
            initiate_login_uri: uri("https://a.example/login"),
            backchannel_logout_uri: uri("https://a.example/back"),
            backchannel_logout_session_required: true,
            frontchannel_logout_uri: uri("https://a.example/front"),
            frontchannel_logout_session_required: true,
            about: About {
                client_uri: uri("https://a.example/"),
                logo_uri: uri("https://a.example/logo"),
                policy_uri: uri("https://a.example/policy"),
                tos_uri: uri("https://a.example/tos"),
                contacts: words(&["ops@a.example"]),
                software_id: Some("x".to_owned()),
                software_version: Some("1".to_owned()),
            },
            ..Client::new("app", Authentication::None)
        };

        assert_eq!(stored(&full, [0; 32]), full);
        let bare = Client::new("service", Authentication::Secret { sha256: [7; 32], method: None });
        assert_eq!(stored(&bare, [7; 32]), bare);
    }

    #[test]
    fn every_way_to_authenticate_survives_and_no_secret_is_written() {
        let key = br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let inline = ClientKeys::Inline(Jwks::parse(key).expect("the key of RFC 8037"));
        let at = ClientKeys::At(WebUri::parse("https://a.example/jwks").expect("a URI"));
        let secret = |method| Authentication::Secret { sha256: [7; 32], method };
        for authentication in [
            secret(None),
            secret(Some(SecretMethod::Basic)),
            secret(Some(SecretMethod::Post)),
            Authentication::None,
            Authentication::PrivateKeyJwt { keys: inline, alg: None },
            Authentication::PrivateKeyJwt { keys: at, alg: Some(Algorithm::ES256) },
        ] {
            let client = Client::new("a", authentication);

            assert_eq!(stored(&client, [7; 32]), client);
            assert!(!Value::Object(client.to_document()).to_string().contains("secret_sha256"));
        }
    }

    #[test]
    fn a_document_has_the_registered_names() {
        let client = Client {
            redirect_uris: vec![RedirectUri::parse("https://a.example/").expect("a URI")],
            grants: [GrantType::AuthorizationCode].into(),
            default_max_age: Some(Duration::from_secs(60)),
            ..Client::new("a", Authentication::Secret { sha256: [7; 32], method: Some(SecretMethod::Post) })
        };

        assert_eq!(
            Value::Object(client.to_document()),
            json!({
                "client_id": "a", "grant_types": ["authorization_code"], "response_types": ["code"],
                "redirect_uris": ["https://a.example/"], "token_endpoint_auth_method": "client_secret_post",
                "scope": "", "audiences": [], "default_max_age": 60,
            })
        );
    }

    #[test]
    fn a_document_that_nobody_wrote_is_unreadable() {
        for document in [
            "",
            "{}",
            r#"{"client_id":"a","redirect_uris":["javascript:x"]}"#,
            r#"{"client_id":"a","grant_types":["magic"]}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"magic"}"#,
            r#"{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}"#,
        ] {
            assert!(Client::from_document(document, [0; 32]).is_err(), "{document}");
        }
    }
}
