//! A client as people and machines see it; never a secret.

use keywheel_keyring::format_duration;
use serde_json::{Map, Value, json};

use crate::clients::{Authentication, Client, ClientAuthMethod, ClientKeys, GrantType, Source};

/// RFC 7591 §2 metadata with our extensions, which `keywheel clients import` reads again.
pub(super) fn document(client: &Client) -> Value {
    let mut document: Map<String, Value> = client.to_document();
    document.insert("created_at".to_owned(), json!(client.created_at));
    document.insert("source".to_owned(), source(client.source).into());
    Value::Object(document)
}

/// A line for each thing there is to say.
pub(super) fn describe(client: &Client) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut line = |name, value: String| lines.push((name, value));
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let maybe = |text: Option<&str>| text.unwrap_or("-").to_owned();

    line("id", client.id.clone());
    line("name", maybe(client.name.as_deref()));
    line("grants", or_dash(client.grants.to_string()));
    line("authenticates by", authentication(client));
    if client.uses(GrantType::AuthorizationCode) {
        line("redirect URIs", one_a_line(&client.redirect_uris));
        line("after sign-out", or_dash(one_a_line(&client.post_logout_redirect_uris)));
        line("PKCE", if client.needs_pkce() { "required" } else { "optional" }.to_owned());
        line("consent", if client.first_party { "not asked for: first party" } else { "asked for" }.to_owned());
    }
    line("scopes", or_dash(client.scopes.join(" ")));
    line("audiences", or_dash(one_a_line(&client.audiences)));
    if let Some(roles) = &client.roles {
        line("sees the roles", or_dash(roles.join(" ")));
    }
    if client.session_api {
        line("session API", "yes".to_owned());
    }
    if !client.allowed_origins.is_empty() {
        line("allowed origins", one_a_line(&client.allowed_origins));
    }
    if let Some(kind) = client.application_type {
        line("application type", kind.as_str().to_owned());
    }
    let default = || "the issuer's default".to_owned();
    line("tokens signed with", client.access_token_alg.map_or_else(default, |it| it.to_string()));
    if let Some(alg) = client.id_token_signed_response_alg {
        line("ID tokens signed with", alg.to_string());
    }
    for (name, duration) in [
        ("access tokens live", client.access_ttl),
        ("refresh tokens live", client.refresh_ttl),
        ("sign-in at most ago", client.default_max_age),
    ] {
        if let Some(duration) = duration {
            line(name, format_duration(duration));
        }
    }
    for (name, uri) in [
        ("back-channel logout", &client.backchannel_logout_uri),
        ("front-channel logout", &client.frontchannel_logout_uri),
        ("starts a sign-in at", &client.initiate_login_uri),
        ("home page", &client.about.client_uri),
        ("logo", &client.about.logo_uri),
        ("privacy policy", &client.about.policy_uri),
        ("terms of service", &client.about.tos_uri),
    ] {
        if let Some(uri) = uri {
            line(name, uri.to_string());
        }
    }
    if !client.about.contacts.is_empty() {
        line("contacts", one_a_line(&client.about.contacts));
    }
    line("added", client.created_at.map_or("-".to_owned(), |at| at.to_string()));
    line("from", source(client.source).to_owned());

    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let indented = format!("\n{:width$}  ", "");
    lines.iter().map(|(name, value)| format!("{name:width$}  {}\n", value.replace('\n', &indented))).collect()
}

/// Where it comes from, in a word.
pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Declared => "configuration",
        Source::Stored => "database",
    }
}

fn authentication(client: &Client) -> String {
    match &client.authentication {
        Authentication::Secret { method: None, .. } => "client_secret_basic or client_secret_post".to_owned(),
        Authentication::None => "nothing: it is public".to_owned(),
        Authentication::PrivateKeyJwt { keys: ClientKeys::At(uri), .. } => format!("private_key_jwt, keys at {uri}"),
        Authentication::PrivateKeyJwt { keys: ClientKeys::Inline(jwks), .. } => {
            let kids: Vec<&str> = jwks.keys().keys().iter().map(|key| key.kid().unwrap_or("without kid")).collect();
            format!("private_key_jwt, keys {}", kids.join(" "))
        }
        Authentication::Secret { .. } => client.auth_method().map_or("", ClientAuthMethod::as_str).to_owned(),
    }
}

fn one_a_line(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::RedirectUri;

    fn app() -> Client {
        let uri = |text| RedirectUri::parse(text).expect("a URI");
        Client {
            name: Some("App".to_owned()),
            grants: [GrantType::AuthorizationCode].into(),
            redirect_uris: vec![uri("https://app.example.com/callback"), uri("http://localhost:3000/callback")],
            scopes: vec!["openid".to_owned(), "profile".to_owned()],
            ..Client::new("app", Authentication::None)
        }
    }

    #[test]
    fn a_client_is_described_in_two_columns() {
        let text = describe(&app());

        assert_eq!(
            text,
            "\
id                  app
name                App
grants              authorization_code
authenticates by    nothing: it is public
redirect URIs       https://app.example.com/callback
                    http://localhost:3000/callback
after sign-out      -
PKCE                required
consent             asked for
scopes              openid profile
audiences           -
tokens signed with  the issuer's default
added               -
from                database
"
        );
    }

    #[test]
    fn a_document_has_the_registered_names_and_can_be_imported() {
        let shown = document(&app());

        assert_eq!(
            shown,
            json!({
                "client_id": "app",
                "client_name": "App",
                "grant_types": ["authorization_code"],
                "response_types": ["code"],
                "redirect_uris": ["https://app.example.com/callback", "http://localhost:3000/callback"],
                "token_endpoint_auth_method": "none",
                "scope": "openid profile",
                "audiences": [],
                "created_at": null,
                "source": "database",
            })
        );
        let file = json!([shown]).to_string();
        let imported = crate::clients::parse_import(file.as_bytes(), false, &[]).expect("importable");
        assert_eq!((imported.clients, imported.warnings), (vec![app()], vec![]));
    }
}
