//! `[[user]]`: people that are declared instead of stored, for development and for the first administrator.

use serde_json::{Map, Value};

use super::secret::Secret;
use super::section::Section;
use crate::clients;
use crate::users::{
    ClientRoles, PasswordHash, RESERVED_CLAIMS, Rights, TEXT_CLAIMS, check_address, parse_client_roles, parse_email,
    parse_password_hash, parse_username,
};

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
    /// `scopes`: restricted scopes that they may have whatever their roles are. Default none. `client_roles`: roles at one
    /// client alone. Default none.
    pub rights: Rights,
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
    /// The hash of it.
    Hash(PasswordHash),
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
    let scopes = section.list("scopes", clients::parse_scope).unwrap_or_default();
    let rights = Rights { scopes, client_roles: read_client_roles(section) };
    let password = read_password(section);
    let disabled = section.boolean("disabled").unwrap_or(false);
    Some(DeclaredUser { username: username?, email, email_verified, claims, roles, groups, rights, password, disabled })
}

fn read_client_roles(section: &mut Section<'_>) -> ClientRoles {
    let Some(roles) = section.json("client_roles") else { return ClientRoles::new() };
    parse_client_roles(&roles).map_err(|message| section.problem("client_roles", message)).unwrap_or_default()
}

fn read_password(section: &mut Section<'_>) -> Option<DeclaredPassword> {
    section.one_of(&["password", "password_file", "password_hash"]);
    let hash = section.parsed("password_hash", parse_password_hash).map(DeclaredPassword::Hash);
    let plain = section.secret("password", "password_file").map(DeclaredPassword::Plain);
    plain.or(hash)
}

fn read_address(section: &mut Section<'_>) -> Option<Map<String, Value>> {
    let address = section.json("address")?;
    if let Err(message) = check_address(&address) {
        section.problem("address", message);
    }
    Some(address)
}
