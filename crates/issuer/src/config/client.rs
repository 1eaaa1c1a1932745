//! `[[client]]` and `[[user]]`: clients and people that are declared instead of stored.

use keywheel_jose::Algorithm;
use url::Url;

use super::section::Section;
use crate::clients::{self, Authentication, Client, ClientAuthMethod, GrantType, SecretMethod, Source};

/// Reads one `[[client]]`, unless something is wrong with it.
pub(super) fn read_client(section: &mut Section<'_>, algorithms: &[Algorithm]) -> Option<Client> {
    let id = section.parsed("id", clients::parse_id);
    if id.is_none() && !section.was_set("id") {
        section.problem("id", "missing: every client has an id".to_owned());
    }
    let secret_sha256 = read_secret(section);
    section.non_empty_list("grants", "client_credentials", str::parse::<GrantType>);
    for key in ["redirect_uris", "post_logout_redirect_uris"] {
        if section.list(key, check_uri).is_some_and(|uris| !uris.is_empty()) {
            section.without_effect(key);
        }
    }
    if section.boolean("first_party") == Some(true) {
        section.without_effect("first_party");
    }
    let name = section.text("name");
    let scopes = section.list("scopes", clients::parse_scope).unwrap_or_default();
    let audiences = section.list("audiences", clients::parse_audience).unwrap_or_default();
    let auth_method = section.parsed("token_endpoint_auth_method", str::parse);
    let access_token_alg = section.parsed("access_token_alg", |text| clients::parse_token_alg(text, algorithms));
    let method = auth_method.map(|method| match method {
        ClientAuthMethod::ClientSecretPost => SecretMethod::Post,
        _ => SecretMethod::Basic,
    });
    Some(Client {
        name,
        scopes,
        audiences,
        access_token_alg,
        source: Source::Declared,
        ..Client::new(id?, Authentication::Secret { sha256: secret_sha256?, method })
    })
}

/// The hash of a client's secret, however it was given.
fn read_secret(section: &mut Section<'_>) -> Option<[u8; 32]> {
    section.one_of(&["secret", "secret_file", "secret_hash"]);
    let hash = section.parsed("secret_hash", clients::parse_secret_hash);
    let secret = section.secret("secret", "secret_file");
    let key = if section.was_set("secret_file") { "secret_file" } else { "secret" };
    if !["secret", "secret_file", "secret_hash"].iter().any(|key| section.was_set(key)) {
        let message = "missing: give secret, secret_file or secret_hash (this version has no public clients)";
        section.problem(key, message.to_owned());
    }
    match secret {
        Some(secret) => {
            clients::hash_new_secret(secret.expose()).map_err(|error| section.problem(key, error.to_string())).ok()
        }
        None => hash,
    }
}

/// Reads one `[[user]]` and gives its name. People can't sign in yet, so nothing is kept.
pub(super) fn read_user(section: &mut Section<'_>) -> Option<String> {
    let username = section.text("username").filter(|name| !name.is_empty());
    if username.is_none() {
        section.problem("username", "missing: every user has a name".to_owned());
    }
    section.text("email");
    section.secret("password", "password_file");
    section.texts("roles");
    username
}

fn check_uri(text: &str) -> Result<String, String> {
    Url::parse(text).map(|_| text.to_owned()).map_err(|error| format!("{text:?} is not an absolute URI: {error}"))
}
