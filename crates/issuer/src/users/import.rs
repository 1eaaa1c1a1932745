//! Reads people that another server knew: a JSON array of objects with the standard claims of OpenID Connect.
//!
//! - `username`, or else `preferred_username`, or else `email`, is what they sign in with.
//! - `sub` is kept, so that apps know everybody again; without it a new one is made.
//! - `password` is hashed; `password_hash` is taken as it is and made anew when its owner signs in. How good a password
//!   is, is not judged: these people have it already. Without either they cannot sign in by a password yet.
//! - `roles`, `groups`, `scopes`, `client_roles` and `disabled` are ours; `updated_at` starts anew.
//! - Whatever else is there is a claim that tokens may carry, and `claims` may hold members as the configuration has them.
//!   A name that sounds like a secret is refused, and so is one that is much like a name with a meaning here, because it
//!   is a slip.
//!
//! Nothing is imported unless everything is well.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::profile::{RESERVED_CLAIMS, TEXT_CLAIMS, check_claim, kind, parse_email, parse_username};
use super::rights::parse_client_roles;
use super::{ClientRoles, PasswordHash, Rights, login_key, parse_password_hash};
use crate::clients::{parse_role, parse_scope};
use crate::config::nearest;

/// Somebody who is to be stored, before their password is hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct UserDraft {
    /// The subject they are known by already; a new one is made without it.
    pub id: Option<String>,
    /// The name to sign in with.
    pub username: String,
    /// The e-mail address to sign in with.
    pub email: Option<String>,
    /// Whether it is known to be theirs.
    pub email_verified: bool,
    /// More claims.
    pub claims: Map<String, Value>,
    /// What they may do.
    pub roles: Vec<String>,
    /// Where they belong.
    pub groups: Vec<String>,
    /// What else they may do.
    pub rights: Rights,
    /// Their password, if they have one.
    pub password: Option<GivenPassword>,
    /// Whether they may not sign in.
    pub disabled: bool,
}

impl UserDraft {
    /// Somebody of whom nothing but the name is known.
    #[must_use]
    pub fn new(username: &str) -> Self {
        Self {
            id: None,
            username: username.to_owned(),
            email: None,
            email_verified: false,
            claims: Map::new(),
            roles: Vec::new(),
            groups: Vec::new(),
            rights: Rights::default(),
            password: None,
            disabled: false,
        }
    }
}

/// A password as somebody gave it to us.
#[derive(Clone, PartialEq, Eq)]
pub enum GivenPassword {
    /// Itself.
    Plain(Zeroizing<String>),
    /// A hash of it.
    Hash(PasswordHash),
}

impl fmt::Debug for GivenPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GivenPassword(…)")
    }
}

/// What is wrong with a file of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserProblem {
    /// Which user, counted from 1; `None` for the file as a whole.
    pub user: Option<usize>,
    /// Their user name, where it is a valid one.
    pub username: Option<String>,
    /// The member it is about; `None` for the user as a whole.
    pub member: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for UserProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user {
            write!(formatter, "user {user}")?;
            if let Some(username) = &self.username {
                write!(formatter, " ({username})")?;
            }
            formatter.write_str(": ")?;
        }
        if let Some(member) = &self.member {
            write!(formatter, "{member}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// Reads a file of users.
///
/// # Errors
/// Every problem of every user, in the order of the file.
pub fn parse_users(json: &[u8]) -> Result<Vec<UserDraft>, Vec<UserProblem>> {
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| {
        let message = format!("not a JSON array of users: {error}");
        vec![UserProblem { user: None, username: None, member: None, message }]
    })?;
    let mut problems = Vec::new();
    let mut users = Vec::with_capacity(entries.len());
    // User names and e-mail addresses are one set: whoever types one is meant.
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for (index, Entry(members)) in entries.into_iter().enumerate() {
        let number = index + 1;
        let mut reading = Reading { number, username: None, members, problems: Vec::new() };
        let user = reading.user();
        if let Some(user) = &user {
            for (member, name) in [("username", Some(&user.username)), ("email", user.email.as_ref())] {
                let Some(name) = name else { continue };
                let other = *names.entry(login_key(name)).or_insert(number);
                if other != number {
                    reading.problem(member, format!("user {other} of this file signs in with {name} too"));
                }
            }
            if let Some(id) = &user.id {
                let other = *ids.entry(id.clone()).or_insert(number);
                if other != number {
                    reading.problem("sub", format!("user {other} of this file has the same"));
                }
            }
        }
        problems.append(&mut reading.problems);
        users.extend(user);
    }
    if problems.is_empty() { Ok(users) } else { Err(problems) }
}

/// One user while they are being read.
struct Reading {
    number: usize,
    username: Option<String>,
    members: Vec<(String, Value)>,
    problems: Vec<UserProblem>,
}

impl Reading {
    fn user(&mut self) -> Option<UserDraft> {
        self.unfold_claims();
        // A claim without a value is left out, as in OpenID Connect Core §5.3.2. An empty password is a mistake.
        self.members.retain(|(name, value)| !value.is_null() && (value != "" || name == "password"));
        let name = self.text("username");
        let member = if name.is_some() { "username" } else { "preferred_username" };
        let name = name.or_else(|| self.text("preferred_username"));
        let has_name = name.is_some();
        self.username = name.and_then(|name| self.checked(member, parse_username(&name)));
        let email = self.text("email").and_then(|email| self.checked("email", parse_email(&email)));
        if let Some(email) = email.as_ref().filter(|_| !has_name) {
            self.username = self.checked("email", parse_username(email));
        }
        if self.username.is_none() && self.problems.is_empty() {
            self.problem("username", "missing");
        }
        let id = self.text("sub").and_then(|sub| self.checked("sub", parse_sub(&sub)));
        let email_verified = self.flag("email_verified");
        let roles = self.names("roles");
        let groups = self.names("groups");
        let rights = Rights { scopes: self.listed("scopes", parse_scope), client_roles: self.client_roles() };
        let disabled = self.flag("disabled");
        let password = self.password();
        self.take("updated_at");
        let claims = self.claims();
        let username = self.username.clone()?;
        Some(UserDraft { id, username, email, email_verified, claims, roles, groups, rights, password, disabled })
    }

    /// `claims` is where the configuration has them.
    fn unfold_claims(&mut self) {
        match self.take("claims") {
            None | Some(Value::Null) => {}
            Some(Value::Object(claims)) => {
                for (name, value) in claims {
                    if self.members.iter().any(|(known, _)| *known == name) {
                        self.problem("claims", format!("{name} is there twice"));
                    }
                    self.members.push((name, value));
                }
            }
            Some(other) => self.problem("claims", format!("expected an object, found {}", kind(&other))),
        }
    }

    fn password(&mut self) -> Option<GivenPassword> {
        let plain = self.text("password").map(Zeroizing::new);
        let hash = self.text("password_hash").map(Zeroizing::new);
        if plain.is_some() && hash.is_some() {
            self.problem("password", "cannot be there together with password_hash");
        }
        if plain.as_ref().is_some_and(|plain| plain.is_empty()) {
            self.problem("password", "is empty: leave it out for somebody without one");
        }
        let hash = hash.and_then(|hash| self.checked("password_hash", parse_password_hash(&hash)));
        plain.map(GivenPassword::Plain).or(hash.map(GivenPassword::Hash))
    }

    /// What nobody asked for yet.
    fn claims(&mut self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut bytes = 0;
        for (name, value) in std::mem::take(&mut self.members) {
            let refusal = refuse_slip(&name).and_then(|()| check_claim(&name, &value));
            if let Err(message) = refusal {
                self.problem(&name, message);
            }
            bytes += name.len() + value.to_string().len();
            claims.insert(name, value);
        }
        if bytes > MAX_CLAIMS_BYTES {
            self.problems.push(self.about(None, format!("the claims have more than {MAX_CLAIMS_BYTES} bytes")));
        }
        if let Some(Value::String(preferred)) = claims.get("preferred_username")
            && Some(preferred) == self.username.as_ref()
        {
            claims.remove("preferred_username");
        }
        claims
    }

    fn take(&mut self, member: &str) -> Option<Value> {
        let place = self.members.iter().position(|(name, _)| name == member)?;
        Some(self.members.swap_remove(place).1)
    }

    fn text(&mut self, member: &str) -> Option<String> {
        match self.take(member)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(member, format!("expected a string, found {}", kind(&other)));
                None
            }
        }
    }

    fn flag(&mut self, member: &str) -> bool {
        match self.take(member) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.problem(member, format!("expected true or false, found {}", kind(&other)));
                false
            }
        }
    }

    fn client_roles(&mut self) -> ClientRoles {
        match self.take("client_roles") {
            None => ClientRoles::new(),
            Some(Value::Object(roles)) => self.checked("client_roles", parse_client_roles(&roles)).unwrap_or_default(),
            Some(other) => {
                self.problem("client_roles", format!("expected an object, found {}", kind(&other)));
                ClientRoles::new()
            }
        }
    }

    fn names(&mut self, member: &str) -> Vec<String> {
        self.listed(member, parse_role)
    }

    fn listed<E: fmt::Display>(&mut self, member: &str, parse: impl Fn(&str) -> Result<String, E>) -> Vec<String> {
        let mut names = Vec::new();
        match self.take(member) {
            None => {}
            Some(Value::Array(items)) => {
                for item in items {
                    let name = item.as_str().ok_or(format!("expected strings, found {}", kind(&item)));
                    let name = name.and_then(|name| parse(name).map_err(|error| error.to_string()));
                    if let Some(name) = self.checked(member, name)
                        && !names.contains(&name)
                    {
                        names.push(name);
                    }
                }
            }
            Some(other) => self.problem(member, format!("expected an array of strings, found {}", kind(&other))),
        }
        names
    }

    fn checked<T, E: fmt::Display>(&mut self, member: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(member, error.to_string())).ok()
    }

    fn problem(&mut self, member: &str, message: impl Into<String>) {
        self.problems.push(self.about(Some(member), message.into()));
    }

    fn about(&self, member: Option<&str>, message: String) -> UserProblem {
        let (user, username) = (Some(self.number), self.username.clone());
        UserProblem { user, username, member: member.map(str::to_owned), message }
    }
}

/// A subject that somebody else made: OpenID Connect Core §2 has up to 255 ASCII characters.
fn parse_sub(text: &str) -> Result<String, &'static str> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 255 ASCII characters without spaces") }
}

/// Claims are for everybody to read who gets a token.
fn refuse_slip(name: &str) -> Result<(), String> {
    let plain = name.to_lowercase();
    if SOUNDS_SECRET.iter().any(|secret| plain.contains(secret)) {
        return Err(
            "sounds like a secret, and apps would be told it; a password is password or password_hash".to_owned()
        );
    }
    let base = plain.split('#').next().unwrap_or(&plain);
    let known = || KNOWN.iter().chain(&TEXT_CLAIMS).chain(&RESERVED_CLAIMS);
    if known().any(|known| *known == base) {
        return Ok(());
    }
    match nearest(base, KNOWN.iter().map(|known| (*known, known))) {
        Some(known) => Err(format!("unknown; did you mean {known}?")),
        None => Ok(()),
    }
}

/// The members of one JSON object. A repeated name is an error: which of two hashes counts must not depend on a parser.
struct Entry(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with what is known of a user")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!("the member {name:?} is there twice")));
                    }
                    members.push((name, value));
                }
                Ok(Entry(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Names with a meaning here that a slip would turn into a claim.
const KNOWN: [&str; 11] = [
    "username",
    "email",
    "email_verified",
    "roles",
    "groups",
    "scopes",
    "client_roles",
    "disabled",
    "address",
    "phone_number_verified",
    "preferred_username",
];
const SOUNDS_SECRET: [&str; 4] = ["password", "passwd", "passphrase", "secret"];

/// More than anybody has to say; tokens go into headers.
const MAX_CLAIMS_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HASH: &str = "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa";

    fn refusals(file: &Value) -> Vec<String> {
        let problems = parse_users(file.to_string().as_bytes()).expect_err("problems");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_that_is_known_of_somebody_is_kept() {
        let file = json!([{
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "username": "alice", "email": "alice@example.com",
            "email_verified": true, "password": "hunter2", "name": "Alice Example", "name#de": "Alice Beispiel",
            "birthdate": "1990-01-02", "address": { "locality": "Berlin" }, "phone_number": "+49 30 1",
            "phone_number_verified": false, "roles": ["admin", "staff", "admin"], "groups": ["sales"],
            "department": { "id": 7 }, "updated_at": 1_700_000_000, "picture": null,
        }]);

        let users = parse_users(file.to_string().as_bytes()).expect("a good file");

        let [alice] = &users[..] else { panic!("one user: {users:?}") };
        assert_eq!(alice.id.as_deref(), Some("auth0|5f7c8ec7c33c6c004bbafe82"));
        assert_eq!((alice.username.as_str(), alice.email.as_deref()), ("alice", Some("alice@example.com")));
        assert!(alice.email_verified && !alice.disabled);
        assert_eq!(
            (&alice.roles[..], &alice.groups[..]),
            (&["admin".to_owned(), "staff".to_owned()][..], &["sales".to_owned()][..])
        );
        assert_eq!(alice.password, Some(GivenPassword::Plain(Zeroizing::new("hunter2".to_owned()))));
        assert_eq!(
            Value::Object(alice.claims.clone()),
            json!({
                "name": "Alice Example", "name#de": "Alice Beispiel", "birthdate": "1990-01-02",
                "address": { "locality": "Berlin" }, "phone_number": "+49 30 1", "phone_number_verified": false,
                "department": { "id": 7 },
            })
        );
        assert!(!format!("{alice:?}").contains("hunter2"));
    }

    #[test]
    fn a_preferred_name_is_a_user_name_unless_there_is_another() {
        let file = json!([
            { "preferred_username": "alice", "password_hash": HASH },
            { "username": "bob", "preferred_username": "Bobby" },
            { "username": "carol", "preferred_username": "carol" },
        ]);

        let users = parse_users(file.to_string().as_bytes()).expect("a good file");

        let preferred = |user: &UserDraft| user.claims.get("preferred_username").cloned();
        assert_eq!(users.iter().map(|user| user.username.as_str()).collect::<Vec<_>>(), ["alice", "bob", "carol"]);
        assert_eq!(users.iter().map(preferred).collect::<Vec<_>>(), [None, Some(json!("Bobby")), None]);
        assert!(matches!(&users[0].password, Some(GivenPassword::Hash(hash)) if hash.expose() == HASH));
    }

    #[test]
    fn every_problem_is_told_with_its_user_and_no_secret() {
        let told = refusals(&json!([
            {},
            { "username": "a b" },
            { "username": "types", "email": 1, "email_verified": "true", "roles": "admin", "name": {}, "address": "x" },
            { "username": "words", "email": "x", "roles": ["a b"], "address": { "town": "x" }, "sub": "ü" },
            { "username": "claims", "iss": "x", "e-mail": "a@b", "usrname": "x", "passwordHash": "hunter2" },
            { "username": "both", "password": "hunter2", "password_hash": HASH },
            { "username": "hash", "password_hash": "hunter2" },
            { "username": "costly", "password_hash": HASH.replace("$04$", "$31$") },
            { "username": "empty", "password": "" },
            { "username": "large", "x": "x".repeat(20_000) },
        ]));

        let starts = [
            "user 1: username: missing",
            "user 2: username: expected 1 to 128",
            "user 3 (types): email: expected a string, found a number",
            "user 3 (types): email_verified: expected true or false, found a string",
            "user 3 (types): roles: expected an array of strings, found a string",
            "user 3 (types): name: expected a string, found an object",
            "user 3 (types): address: expected an object, found a string",
            "user 4 (words): sub: expected 1 to 255 ASCII",
            "user 4 (words): email: \"x\" is not an e-mail address",
            "user 4 (words): roles: \"a b\" is not a name",
            "user 4 (words): address: an address has no \"town\"",
            "user 5 (claims): iss: is set by the issuer",
            "user 5 (claims): e-mail: unknown; did you mean email?",
            "user 5 (claims): usrname: unknown; did you mean username?",
            "user 5 (claims): passwordHash: sounds like a secret",
            "user 6 (both): password: cannot be there together",
            "user 7 (hash): password_hash: expected a password hash",
            "user 8 (costly): password_hash: the bcrypt hash costs too much",
            "user 9 (empty): password: is empty",
            "user 10 (large): the claims have more than",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        // Members of one user are told in no particular order.
        for start in starts {
            assert!(told.iter().any(|told| told.starts_with(start)), "nothing starts with {start}: {told:#?}");
        }
        assert!(!told.concat().contains("hunter2"));
    }

    #[test]
    fn two_who_would_sign_in_with_the_same_are_refused() {
        let told = refusals(&json!([
            { "username": "alice", "email": "alice@example.com", "sub": "1" },
            { "username": "Alice", "sub": "2" },
            { "username": "bob", "email": "ALICE@example.com", "sub": "1" },
            { "username": "alice@example.com" },
        ]));

        assert_eq!(
            told,
            [
                "user 2 (Alice): username: user 1 of this file signs in with Alice too",
                "user 3 (bob): email: user 1 of this file signs in with ALICE@example.com too",
                "user 3 (bob): sub: user 1 of this file has the same",
                "user 4 (alice@example.com): username: user 1 of this file signs in with alice@example.com too",
            ]
        );
    }

    #[test]
    fn an_address_is_the_user_name_of_somebody_who_has_no_other() {
        let file = json!([{"email": "alice@example.com", "sub": "", "website": ""}]);

        let users = parse_users(file.to_string().as_bytes()).expect("all of it is in order");

        let email = Some("alice@example.com".to_owned());
        assert_eq!(users, [UserDraft { email, ..UserDraft::new("alice@example.com") }]);
    }

    #[test]
    fn claims_can_be_in_an_object_of_their_own() {
        let read = |user: Value| parse_users(json!([user]).to_string().as_bytes());

        let users = read(json!({"username": "alice", "claims": {"name": "Alice", "email": "alice@example.com"}}));

        let users = users.expect("all of it is in order");
        assert_eq!(users[0].claims["name"], "Alice");
        assert_eq!(users[0].email.as_deref(), Some("alice@example.com"));
        assert!(read(json!({"username": "alice", "name": "A", "claims": {"name": "B"}})).is_err());
        assert!(read(json!({"username": "alice", "claims": {"client_secret": "x"}})).is_err());
        assert!(read(json!({"username": "alice", "claims": 1})).is_err());
    }

    #[test]
    fn an_address_can_be_the_user_name_as_well() {
        let file = json!([{ "username": "a@example.com", "email": "a@example.com" }]);

        assert!(parse_users(file.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn a_file_that_is_no_array_of_objects_is_refused() {
        for file in ["", "{}", "[1]", "null", "[{]", r#"[{"username":"a","username":"b"}]"#, "[] x"] {
            let problems = parse_users(file.as_bytes()).expect_err(file);

            assert_eq!((problems.len(), problems[0].user), (1, None), "{file}");
        }
    }
}
