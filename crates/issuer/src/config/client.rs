//! `[[client]]`: clients that are declared instead of stored.

use std::ops::RangeInclusive;
use std::time::Duration;

use keywheel_jose::Algorithm;
use serde_json::Value;

use super::section::Section;
use crate::clients::{self, About, Authentication, Client, ClientAuthMethod, ClientKeys, GrantType, GrantTypes};
use crate::clients::{Jwks, Origin, PostLogoutRedirectUri, RedirectUri, SecretMethod, Source, WebUri};

/// What a client's settings are held against.
pub(super) struct Issuer<'a> {
    /// What it signs with.
    pub(super) algorithms: &'a [Algorithm],
    /// As long as keys stay published for.
    pub(super) longest_signed: Duration,
}

/// Reads one `[[client]]`, unless something is wrong with it.
pub(super) fn read_client(section: &mut Section<'_>, issuer: &Issuer<'_>) -> Option<Client> {
    let problems_before = section.problem_count();
    let id = section.parsed("id", clients::parse_id);
    if id.is_none() && !section.was_set("id") {
        section.problem("id", "missing: every client has an id".to_owned());
    }
    let uri_problems_before = section.problem_count();
    let redirect_uris = section.list("redirect_uris", RedirectUri::parse).unwrap_or_default();
    // One that is wrong still says what was meant.
    let has_redirect_uris = !redirect_uris.is_empty() || section.problem_count() > uri_problems_before;
    let session_api = section.boolean("session_api").unwrap_or(false);
    let grants = section.non_empty_list("grants", "client_credentials or another grant", str::parse::<GrantType>);
    let grants = grants.map(GrantTypes::from_iter);
    let grants = grants.unwrap_or_else(|| clients::default_grants(has_redirect_uris, session_api));
    let authentication = read_authentication(section, &grants);
    let scopes = section.list("scopes", clients::parse_scope);
    let token_alg = |text: &str| clients::parse_token_alg(text, issuer.algorithms);
    // Without an id or a way to authenticate it is none, but the rest is read for what is wrong with it.
    let nobody = (String::new(), Authentication::None);
    let (known_id, known_authentication) = id.clone().zip(authentication.clone()).unwrap_or(nobody);
    let client = Client {
        name: section.text("name"),
        post_logout_redirect_uris: section
            .list("post_logout_redirect_uris", PostLogoutRedirectUri::parse)
            .unwrap_or_default(),
        application_type: section.parsed("application_type", str::parse),
        require_pkce: section.boolean("require_pkce").unwrap_or(false),
        scopes: scopes.unwrap_or_else(|| clients::default_scopes(&grants)),
        audiences: section.list("audiences", clients::parse_audience).unwrap_or_default(),
        roles: section.list("roles", clients::parse_role),
        first_party: section.boolean("first_party").unwrap_or(false),
        allowed_origins: section.list("allowed_origins", Origin::parse).unwrap_or_default(),
        access_token_alg: section.parsed("access_token_alg", token_alg),
        id_token_signed_response_alg: section.parsed("id_token_signed_response_alg", token_alg),
        access_ttl: section.duration("access_ttl", Duration::from_secs(1)..=issuer.longest_signed),
        refresh_ttl: section.duration("refresh_ttl", REFRESH_TTLS),
        default_max_age: section.duration("default_max_age", MAX_AGES),
        require_auth_time: section.boolean("require_auth_time").unwrap_or(false),
        default_acr_values: section.list("default_acr_values", clients::parse_scope).unwrap_or_default(),
        initiate_login_uri: section.parsed("initiate_login_uri", WebUri::parse),
        backchannel_logout_uri: section.parsed("backchannel_logout_uri", WebUri::parse),
        backchannel_logout_session_required: section.boolean("backchannel_logout_session_required").unwrap_or(false),
        frontchannel_logout_uri: section.parsed("frontchannel_logout_uri", WebUri::parse),
        frontchannel_logout_session_required: section.boolean("frontchannel_logout_session_required").unwrap_or(false),
        about: read_about(section),
        redirect_uris,
        session_api,
        grants,
        source: Source::Declared,
        ..Client::new(known_id, known_authentication)
    };
    if section.problem_count() > problems_before {
        return None;
    }
    let review = client.review();
    for warning in review.warnings {
        section.hint(key(warning.member), &warning.message);
    }
    for problem in review.problems {
        section.problem(key(problem.member), problem.message);
    }
    Some(client)
}

/// How the client authenticates, unless something is wrong with that.
fn read_authentication(section: &mut Section<'_>, grants: &GrantTypes) -> Option<Authentication> {
    let problems_before = section.problem_count();
    let sha256 = read_secret(section);
    let keys = read_keys(section);
    let registered = section.parsed("token_endpoint_auth_method", str::parse::<ClientAuthMethod>);
    let alg = section.parsed("token_endpoint_auth_signing_alg", clients::parse_assertion_alg);
    if section.problem_count() > problems_before {
        return None;
    }
    let secret_key = SECRET_KEYS.into_iter().find(|key| section.was_set(key));
    let keys_key = KEYS_KEYS.into_iter().find(|key| section.was_set(key));
    let method = registered.or(keys_key.filter(|_| secret_key.is_none()).map(|_| ClientAuthMethod::PrivateKeyJwt));
    // What belongs to another method would be ignored, and its owner believe that it counts.
    let is_by_keys = method == Some(ClientAuthMethod::PrivateKeyJwt);
    if let Some(key) = secret_key.filter(|_| is_by_keys || method == Some(ClientAuthMethod::None)) {
        let name = method.map_or("none", ClientAuthMethod::as_str);
        section.problem(key, format!("a client that authenticates by {name} has no secret"));
        return None;
    }
    let alg_key = section.was_set("token_endpoint_auth_signing_alg").then_some("token_endpoint_auth_signing_alg");
    if let Some(key) = keys_key.or(alg_key).filter(|_| !is_by_keys) {
        let message = "has no effect without token_endpoint_auth_method = \"private_key_jwt\"";
        section.problem(key, message.to_owned());
        return None;
    }
    let secret_method = match method {
        Some(ClientAuthMethod::ClientSecretBasic) => Some(SecretMethod::Basic),
        Some(ClientAuthMethod::ClientSecretPost) => Some(SecretMethod::Post),
        _ => None,
    };
    match (method, sha256, keys) {
        (Some(ClientAuthMethod::PrivateKeyJwt), _, Some(keys)) => Some(Authentication::PrivateKeyJwt { keys, alg }),
        (Some(ClientAuthMethod::PrivateKeyJwt), ..) => {
            section.problem("jwks", "missing: private_key_jwt needs jwks, jwks_file or jwks_uri".to_owned());
            None
        }
        (Some(ClientAuthMethod::None), ..) => Some(Authentication::None),
        (_, Some(sha256), _) => Some(Authentication::Secret { sha256, method: secret_method }),
        // Without any of these it is a public client, if that can be.
        (None, None, _) if !grants.contains(GrantType::ClientCredentials) => Some(Authentication::None),
        _ => {
            let message = "missing: give secret, secret_file, secret_hash, jwks, jwks_file or jwks_uri; only a client \
                           without client_credentials can be public";
            section.problem("secret", message.to_owned());
            None
        }
    }
}

/// The hash of a client's secret, however it was given.
fn read_secret(section: &mut Section<'_>) -> Option<[u8; 32]> {
    section.one_of(&SECRET_KEYS);
    let hash = section.parsed("secret_hash", clients::parse_secret_hash);
    let secret = section.secret("secret", "secret_file");
    let key = if section.was_set("secret_file") { "secret_file" } else { "secret" };
    match secret {
        Some(secret) => {
            clients::hash_new_secret(secret.expose()).map_err(|error| section.problem(key, error.to_string())).ok()
        }
        None => hash,
    }
}

/// The keys of a client, however they were given.
fn read_keys(section: &mut Section<'_>) -> Option<ClientKeys> {
    section.one_of(&KEYS_KEYS);
    let at = section.parsed("jwks_uri", WebUri::parse).map(ClientKeys::At);
    let from_file = section.parsed("jwks_file", |path| {
        let json = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        Jwks::parse(&json).map_err(|error| format!("{path}: {error}"))
    });
    let inline = section.json("jwks").and_then(|json| {
        let jwks = Jwks::parse(Value::Object(json).to_string().as_bytes());
        jwks.map_err(|error| section.problem("jwks", error.to_string())).ok()
    });
    at.or(from_file.or(inline).map(ClientKeys::Inline))
}

fn read_about(section: &mut Section<'_>) -> About {
    let mut uri = |key| section.parsed(key, WebUri::parse);
    About {
        client_uri: uri("client_uri"),
        logo_uri: uri("logo_uri"),
        policy_uri: uri("policy_uri"),
        tos_uri: uri("tos_uri"),
        contacts: section.list("contacts", |text| Ok::<_, String>(text.to_owned())).unwrap_or_default(),
        software_id: section.text("software_id"),
        software_version: section.text("software_version"),
    }
}

/// What a registered name is called here.
fn key(member: &'static str) -> &'static str {
    match member {
        "grant_types" => "grants",
        "scope" => "scopes",
        other => other,
    }
}

const SECRET_KEYS: [&str; 3] = ["secret", "secret_file", "secret_hash"];

const KEYS_KEYS: [&str; 3] = ["jwks", "jwks_file", "jwks_uri"];

const REFRESH_TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

const MAX_AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);
