//! `[[user]]`: people that are declared instead of stored, for development and for the first administrator.

use serde_json::{Map, Value};

use super::secret::Secret;
use super::section::Section;
use crate::clients;

/// A person who is declared; written to the database at each start.
#[derive(Debug, Clone)]
pub struct DeclaredUser {
    /// What they sign in with.
    pub username: String,
    /// Their e-mail address, with which they can sign in too.
    pub email: Option<String>,
    /// Is the address known to be theirs? Default false.
    pub email_verified: bool,
    /// The standard claims of OpenID Connect Core §5.1 that were given, and those of `claims`.
    pub claims: Map<String, Value>,
    /// What they may do. Default nothing.
    pub roles: Vec<String>,
    /// Where they belong. Default nowhere.
    pub groups: Vec<String>,
    /// Their password; without one they cannot sign in by it.
    pub password: Option<DeclaredPassword>,
    /// May they not sign in? Default false.
    pub disabled: bool,
}

/// A password, as it was declared.
#[derive(Debug, Clone)]
pub enum DeclaredPassword {
    /// Itself; hashed at the start.
    Plain(Secret),
    /// The hash of it, as a PHC string or as bcrypt writes it.
    Hash(String),
}

/// Reads one `[[user]]`, unless something is wrong with it.
pub(super) fn read_user(section: &mut Section<'_>) -> Option<DeclaredUser> {
    let username = section.parsed("username", parse_username);
    if username.is_none() && !section.was_set("username") {
        section.problem("username", "missing: every user has a name".to_owned());
    }
    let email = section.parsed("email", parse_email);
    let email_verified = section.boolean("email_verified").unwrap_or(false);
    let mut claims = section.json("claims").unwrap_or_default();
    let reserved: Vec<&String> = claims.keys().filter(|name| RESERVED_CLAIMS.contains(&name.as_str())).collect();
    if let Some(name) = reserved.first() {
        let message = format!("{name:?} is set by the issuer or by a setting of its own");
        section.problem("claims", message);
    }
    for name in TEXT_CLAIMS {
        if let Some(text) = section.text(name) {
            claims.insert(name.to_owned(), Value::String(text));
        }
    }
    if let Some(verified) = section.boolean("phone_number_verified") {
        claims.insert("phone_number_verified".to_owned(), Value::Bool(verified));
    }
    if let Some(address) = read_address(section) {
        claims.insert("address".to_owned(), Value::Object(address));
    }
    let roles = section.list("roles", clients::parse_role).unwrap_or_default();
    let groups = section.list("groups", clients::parse_role).unwrap_or_default();
    let password = read_password(section);
    let disabled = section.boolean("disabled").unwrap_or(false);
    Some(DeclaredUser { username: username?, email, email_verified, claims, roles, groups, password, disabled })
}

fn read_password(section: &mut Section<'_>) -> Option<DeclaredPassword> {
    section.one_of(&["password", "password_file", "password_hash"]);
    let hash = section.parsed("password_hash", parse_hash).map(DeclaredPassword::Hash);
    let plain = section.secret("password", "password_file").map(DeclaredPassword::Plain);
    plain.or(hash)
}

/// `address` (OpenID Connect Core §5.1.1).
fn read_address(section: &mut Section<'_>) -> Option<Map<String, Value>> {
    let address = section.json("address")?;
    for (name, value) in &address {
        if !ADDRESS_MEMBERS.contains(&name.as_str()) {
            let near = super::nearest(name, ADDRESS_MEMBERS.iter().map(|known| (*known, known)));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            section.problem("address", format!("an address has no {name:?}{near}"));
        } else if !value.is_string() {
            section.problem("address", format!("expected {name} to be a string"));
        }
    }
    Some(address)
}

fn parse_username(text: &str) -> Result<String, &'static str> {
    let fits =
        (1..=128).contains(&text.chars().count()) && !text.chars().any(|it| it.is_control() || it.is_whitespace());
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 128 characters without spaces") }
}

/// Accepts what can be an address. Only a message to it shows whether it is one.
fn parse_email(text: &str) -> Result<String, String> {
    let (local, domain) = text.rsplit_once('@').unwrap_or_default();
    let fits = text.len() <= 254 && !local.is_empty() && !domain.is_empty();
    let is_plain = !text.chars().any(|it| it.is_control() || it.is_whitespace()) && !local.contains('@');
    if fits && is_plain { Ok(text.to_owned()) } else { Err(format!("{text:?} is not an e-mail address")) }
}

/// The form of a hash; it is never repeated, because a password may have been put here by mistake.
fn parse_hash(text: &str) -> Result<String, &'static str> {
    let is_phc =
        text.starts_with('$') && text.matches('$').count() >= 3 && text.bytes().all(|it| it.is_ascii_graphic());
    if is_phc {
        Ok(text.to_owned())
    } else {
        Err("expected a password hash such as $argon2id$v=19$m=19456,t=2,p=1$…$…")
    }
}

/// The standard claims that are text (OpenID Connect Core §5.1), but for those with a meaning of their own here.
const TEXT_CLAIMS: [&str; 14] = [
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
const RESERVED_CLAIMS: [&str; 25] = [
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
