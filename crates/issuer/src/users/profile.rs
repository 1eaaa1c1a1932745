//! What may be known of a user, wherever it comes from: the configuration, a file, the command line.

use serde_json::{Map, Value};

use crate::config::nearest;

/// Reads a user name.
///
/// # Errors
/// What a user name is.
pub(crate) fn parse_username(text: &str) -> Result<String, &'static str> {
    let fits =
        (1..=128).contains(&text.chars().count()) && !text.chars().any(|it| it.is_control() || it.is_whitespace());
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 128 characters without spaces") }
}

/// Accepts what can be an address. Only a message to it shows whether it is one.
///
/// # Errors
/// That it is none.
pub(crate) fn parse_email(text: &str) -> Result<String, String> {
    let (local, domain) = text.rsplit_once('@').unwrap_or_default();
    let fits = text.len() <= 254 && !local.is_empty() && !domain.is_empty();
    let is_plain = !text.chars().any(|it| it.is_control() || it.is_whitespace()) && !local.contains('@');
    if fits && is_plain { Ok(text.to_owned()) } else { Err(format!("{text:?} is not an e-mail address")) }
}

/// Whether tokens may say this of a user, besides what has a place of its own.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_claim(name: &str, value: &Value) -> Result<(), String> {
    if RESERVED_CLAIMS.contains(&name) {
        return Err("is set by the issuer or has a place of its own".to_owned());
    }
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("is not a name".to_owned());
    }
    // `name#de` is a name in German (OpenID Connect Core §5.2).
    let base = name.split('#').next().unwrap_or(name);
    if TEXT_CLAIMS.contains(&base) && !value.is_string() {
        return Err(format!("expected a string, found {}", kind(value)));
    }
    match (base, value) {
        ("phone_number_verified", Value::Bool(_)) => Ok(()),
        ("phone_number_verified", _) => Err(format!("expected true or false, found {}", kind(value))),
        ("address", Value::Object(address)) => check_address(address),
        ("address", _) => Err(format!("expected an object, found {}", kind(value))),
        _ => Ok(()),
    }
}

/// `address` (OpenID Connect Core §5.1.1).
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_address(address: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in address {
        if !ADDRESS_MEMBERS.contains(&name.as_str()) {
            let near = nearest(name, ADDRESS_MEMBERS.iter().map(|known| (*known, known)));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!("an address has no {name:?}{near}"));
        }
        if !value.is_string() {
            return Err(format!("expected {name} to be a string"));
        }
    }
    Ok(())
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The standard claims that are text (OpenID Connect Core §5.1), but for those with a meaning of their own here.
pub(crate) const TEXT_CLAIMS: [&str; 14] = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
];

const ADDRESS_MEMBERS: [&str; 6] = ["formatted", "street_address", "locality", "region", "postal_code", "country"];

/// Claims that no person can bring along, because tokens are trusted for them, or because they have a setting.
pub(crate) const RESERVED_CLAIMS: [&str; 25] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "nonce",
    "auth_time",
    "acr",
    "amr",
    "azp",
    "at_hash",
    "c_hash",
    "s_hash",
    "cnf",
    "events",
    "client_id",
    "scope",
    "roles",
    "groups",
    "email",
    "email_verified",
    "updated_at",
];
