//! Reads clients that another server knew: a JSON array of client metadata (RFC 7591 §2) with ids and secrets.
//!
//! What this version cannot honour is refused by name, because a client that half works is found out in production.
//! Nothing is imported unless everything is well.
//!
//! Two defaults of RFC 7591 are not followed to the letter. Where `grant_types` is left out it would mean
//! `authorization_code`; a client without redirect URIs cannot use that, so it is taken for one of
//! `client_credentials`. Where `token_endpoint_auth_method` is left out it would mean `client_secret_basic`; that works,
//! and so does `client_secret_post`.

use std::collections::BTreeSet;
use std::fmt;

use keywheel_jose::Algorithm;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Authentication, Client, ClientAuthMethod, GrantType, SecretMethod, hash_new_secret, parse_audience, parse_token_alg,
};
use super::{parse_id, parse_scope};

/// What an import would add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The clients, in the order of the file.
    pub clients: Vec<Client>,
    /// What was left out because this version does not support it and the caller said to ignore that.
    pub warnings: Vec<ImportProblem>,
}

/// What is wrong with a file of clients, or was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportProblem {
    /// Which client, counted from 1; `None` for the file as a whole.
    pub client: Option<usize>,
    /// Its `client_id`, where it has a valid one.
    pub id: Option<String>,
    /// The member it is about; `None` for the client as a whole.
    pub member: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Reads a file of clients. `algorithms` are those the issuer signs with. With `ignore_unsupported`, what this version
/// does not support is left out with a warning; what is wrong stays an error.
///
/// # Errors
/// Every problem of every client, in the order of the file.
pub fn parse_import(
    json: &[u8],
    ignore_unsupported: bool,
    algorithms: &[Algorithm],
) -> Result<Imported, Vec<ImportProblem>> {
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| {
        let message = format!("not a JSON array of client metadata: {error}");
        vec![ImportProblem { client: None, id: None, member: None, message }]
    })?;
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut clients = Vec::new();
    let mut ids = BTreeSet::new();
    for (index, Entry(members)) in entries.into_iter().enumerate() {
        let mut reading = Reading::new(index + 1, members);
        let client = reading.client(algorithms);
        if let Some(id) = &reading.id
            && !ids.insert(id.clone())
        {
            reading.problem("client_id", "another client in this file has the same id");
        }
        problems.append(&mut reading.problems);
        if ignore_unsupported {
            warnings.append(&mut reading.unsupported);
        } else {
            problems.append(&mut reading.unsupported);
        }
        clients.extend(client);
    }
    if problems.is_empty() { Ok(Imported { clients, warnings }) } else { Err(problems) }
}

impl fmt::Display for ImportProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, "client {client}")?;
            if let Some(id) = &self.id {
                write!(f, " ({id})")?;
            }
            f.write_str(": ")?;
        }
        if let Some(member) = &self.member {
            write!(f, "{member}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// One client while it is being read.
struct Reading {
    number: usize,
    id: Option<String>,
    members: Vec<(String, Value)>,
    problems: Vec<ImportProblem>,
    unsupported: Vec<ImportProblem>,
}

impl Reading {
    fn new(number: usize, mut members: Vec<(String, Value)>) -> Self {
        // RFC 7591 §2 gives no meaning to null; as in RFC 7592 §2.2 it is the same as leaving the member out.
        members.retain(|(_, value)| !value.is_null());
        Reading { number, id: None, members, problems: Vec::new(), unsupported: Vec::new() }
    }

    /// The client, unless something is wrong with it or nothing of it is left.
    fn client(&mut self, algorithms: &[Algorithm]) -> Option<Client> {
        self.id = self.text("client_id").and_then(|id| self.checked("client_id", parse_id(&id)));
        if self.id.is_none() && self.problems.is_empty() {
            self.problem("client_id", "missing");
        }
        let auth_method = self.auth_method();
        let may_be_kept = self.grants() & auth_method.is_ok();
        let secret_sha256 = self.secret(may_be_kept);
        let name = self.text("client_name");
        let scopes = self.text("scope").unwrap_or_default();
        let scopes = self.each("scope", scopes.split(' ').filter(|scope| !scope.is_empty()), parse_scope);
        let audiences = self.texts("audiences");
        let audiences = self.each("audiences", audiences.iter().map(String::as_str), parse_audience);
        let access_token_alg = self
            .text("access_token_alg")
            .and_then(|alg| self.checked("access_token_alg", parse_token_alg(&alg, algorithms)));
        self.rest();
        if !may_be_kept {
            return None;
        }
        let method = auth_method.ok()?.map(|method| match method {
            ClientAuthMethod::ClientSecretPost => SecretMethod::Post,
            _ => SecretMethod::Basic,
        });
        Some(Client {
            name,
            scopes,
            audiences,
            access_token_alg,
            ..Client::new(self.id.clone()?, Authentication::Secret { sha256: secret_sha256?, method })
        })
    }

    /// How the client authenticates; `Err` when it can't here, so that nothing of it is left.
    fn auth_method(&mut self) -> Result<Option<ClientAuthMethod>, ()> {
        let Some(text) = self.text("token_endpoint_auth_method") else { return Ok(None) };
        text.parse().map(Some).map_err(|error: super::InvalidClient| {
            self.unsupported("token_endpoint_auth_method", format!("{error}; the whole client is left out"));
        })
    }

    /// Is a grant left that this version offers?
    fn grants(&mut self) -> bool {
        let redirects = !self.texts("redirect_uris").is_empty();
        if redirects {
            self.unsupported("redirect_uris", "not supported by this version");
        }
        let response_types = self.texts("response_types");
        if !response_types.is_empty() {
            self.unsupported("response_types", format!("{response_types:?} is not supported by this version"));
        }
        let grants = match self.has("grant_types") {
            true => self.texts("grant_types"),
            false if redirects => vec!["authorization_code".to_owned()],
            false => return true,
        };
        let mut is_any_left = false;
        for grant in &grants {
            match grant.parse::<GrantType>() {
                Ok(_) => is_any_left = true,
                // To the client's former server the name meant something.
                Err(_) => self.unsupported("grant_types", format!("{grant:?} is not supported by this version")),
            }
        }
        if !is_any_left {
            self.unsupported("grant_types", "no grant of this version is left, so the whole client is left out");
        }
        is_any_left
    }

    fn secret(&mut self, is_needed: bool) -> Option<[u8; 32]> {
        let secret = self.text("client_secret").map(Zeroizing::new);
        match secret {
            Some(secret) => self.checked("client_secret", hash_new_secret(&secret)),
            None => {
                if is_needed && !self.problems.iter().any(|problem| problem.member.as_deref() == Some("client_secret"))
                {
                    self.problem("client_secret", "missing: there are only clients with a secret in this version");
                }
                None
            }
        }
    }

    /// What nobody asked for: informative, or not supported.
    fn rest(&mut self) {
        for (name, value) in std::mem::take(&mut self.members) {
            let base = name.split('#').next().unwrap_or(&name);
            let asks_for_nothing = match &value {
                Value::Bool(asked) => !asked,
                Value::Array(items) => items.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Number(number) => name == "client_secret_expires_at" && number.as_u64() == Some(0),
                _ => false,
            };
            if asks_for_nothing || INFORMATIVE.contains(&base) || base == "client_name" {
                continue;
            }
            let near = crate::config::nearest(&name, SUPPORTED.iter().map(|known| (*known, *known)));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            self.unsupported(&name, format!("not supported by this version{near}"));
        }
    }

    fn has(&self, member: &str) -> bool {
        self.members.iter().any(|(name, _)| name == member)
    }

    fn take(&mut self, member: &str) -> Option<Value> {
        let index = self.members.iter().position(|(name, _)| name == member)?;
        Some(self.members.swap_remove(index).1)
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

    fn texts(&mut self, member: &str) -> Vec<String> {
        let Some(value) = self.take(member) else { return Vec::new() };
        let found = kind(&value);
        serde_json::from_value(value).unwrap_or_else(|_| {
            self.problem(member, format!("expected an array of strings, found {found}"));
            Vec::new()
        })
    }

    /// What the words mean; none twice.
    fn each<'a>(
        &mut self,
        member: &str,
        words: impl Iterator<Item = &'a str>,
        parse: impl Fn(&str) -> Result<String, super::InvalidClient>,
    ) -> Vec<String> {
        let mut values = Vec::new();
        for word in words {
            match self.checked(member, parse(word)) {
                Some(value) if values.contains(&value) => self.problem(member, format!("{word:?} is listed twice")),
                Some(value) => values.push(value),
                None => {}
            }
        }
        values
    }

    fn checked<T>(&mut self, member: &str, result: Result<T, super::InvalidClient>) -> Option<T> {
        result.map_err(|error| self.problem(member, error.to_string())).ok()
    }

    fn problem(&mut self, member: &str, message: impl Into<String>) {
        let problem = self.about(member, message);
        self.problems.push(problem);
    }

    fn unsupported(&mut self, member: &str, message: impl Into<String>) {
        let problem = self.about(member, message);
        self.unsupported.push(problem);
    }

    fn about(&self, member: &str, message: impl Into<String>) -> ImportProblem {
        ImportProblem {
            client: Some(self.number),
            id: self.id.clone(),
            member: Some(member.to_owned()),
            message: message.into(),
        }
    }
}

/// The members of one JSON object. A repeated name is an error: which of two secrets counts must not depend on a parser.
struct Entry(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of client metadata")
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

/// What a JSON value is, for people; never the value itself, which may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array of something else",
        Value::Object(_) => "an object",
    }
}

/// The members that mean something here; the last two are ours.
const SUPPORTED: [&str; 10] = [
    "client_id",
    "client_secret",
    "client_name",
    "grant_types",
    "response_types",
    "redirect_uris",
    "scope",
    "token_endpoint_auth_method",
    "audiences",
    "access_token_alg",
];

/// Members that inform people or belong to the former server; nothing depends on them here.
const INFORMATIVE: [&str; 11] = [
    "client_uri",
    "logo_uri",
    "contacts",
    "tos_uri",
    "policy_uri",
    "software_id",
    "software_version",
    "client_id_issued_at",
    "application_type",
    "registration_client_uri",
    "registration_access_token",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::hash_secret;
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::RS256];

    fn import(file: &Value, ignore_unsupported: bool) -> Result<Imported, Vec<String>> {
        parse_import(file.to_string().as_bytes(), ignore_unsupported, &ALGORITHMS)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn refusals(file: &Value) -> Vec<String> {
        import(file, false).expect_err("something is wrong with it")
    }

    #[test]
    fn a_client_is_read_with_everything_this_version_supports() {
        let file = json!([{
            "client_id": "billing", "client_secret": SECRET, "client_name": "Billing", "client_name#de": "Rechnungen",
            "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
            "scope": "invoices:read invoices:write", "token_endpoint_auth_method": "client_secret_post",
            "audiences": ["https://api.example.com"], "access_token_alg": "RS256",
            "client_uri": "https://billing.example.com", "contacts": ["ops@example.com"], "jwks": null,
            "client_id_issued_at": 1_700_000_000, "client_secret_expires_at": 0, "require_auth_time": false,
        }]);

        let imported = import(&file, false).expect("all of it is supported");

        assert_eq!(imported.warnings, []);
        assert_eq!(
            imported.clients,
            [Client {
                id: "billing".to_owned(),
                name: Some("Billing".to_owned()),
                secret_sha256: hash_secret(SECRET.as_bytes()),
                scopes: vec!["invoices:read".to_owned(), "invoices:write".to_owned()],
                audiences: vec!["https://api.example.com".to_owned()],
                auth_method: Some(ClientAuthMethod::ClientSecretPost),
                access_token_alg: Some(Algorithm::RS256),
                created_at: None,
                source: Source::Stored,
            }]
        );
    }

    #[test]
    fn a_client_of_id_and_secret_alone_is_one_of_client_credentials() {
        let file = json!([{ "client_id": "a", "client_secret": SECRET }]);

        let imported = import(&file, false).expect("enough for client_credentials");

        assert_eq!(imported.clients.len(), 1);
        assert_eq!(imported.clients[0].auth_method, None);
    }

    #[test]
    fn what_this_version_does_not_support_is_refused_by_name() {
        let everything = json!([{
            "client_id": "web", "client_secret": SECRET, "grant_types": ["client_credentials", "authorization_code"],
            "response_types": ["code"], "redirect_uris": ["https://web.example.com/cb"], "jwks": { "keys": [] },
            "jwks_uri": "https://web.example.com/jwks", "id_token_signed_response_alg": "RS256",
            "backchannel_logout_uri": "https://web.example.com/out", "client_secret_expires_at": 1_900_000_000,
            "require_pushed_authorization_requests": true, "audience": "x",
        }]);

        let refusals = refusals(&everything);

        for member in [
            "redirect_uris",
            "response_types",
            "grant_types: \"authorization_code\"",
            "jwks",
            "jwks_uri",
            "id_token_signed_response_alg",
            "backchannel_logout_uri",
            "client_secret_expires_at",
            "require_pushed_authorization_requests",
        ] {
            let start = format!("client 1 (web): {member}");
            assert!(refusals.iter().any(|refusal| refusal.starts_with(&start)), "{member} in {refusals:#?}");
        }
        assert!(refusals.iter().any(|refusal| refusal.ends_with("did you mean audiences?")), "{refusals:#?}");
        assert_eq!(refusals.len(), 10, "{refusals:#?}");
    }

    #[test]
    fn what_is_not_supported_can_be_left_out_with_a_warning() {
        let file = json!([{
            "client_id": "web", "client_secret": SECRET, "grant_types": ["client_credentials", "refresh_token"],
            "jwks_uri": "https://web.example.com/jwks",
        }]);

        let imported = import(&file, true).expect("the rest is well");

        assert_eq!(imported.clients.len(), 1);
        let members: Vec<_> = imported.warnings.iter().filter_map(|warning| warning.member.as_deref()).collect();
        assert_eq!(members, ["grant_types", "jwks_uri"]);
    }

    #[test]
    fn a_client_without_a_way_to_work_here_is_left_out_whole() {
        let file = json!([
            { "client_id": "spa", "token_endpoint_auth_method": "none" },
            { "client_id": "web", "client_secret": SECRET, "redirect_uris": ["https://web.example.com/cb"] },
            { "client_id": "jwt", "token_endpoint_auth_method": "private_key_jwt" },
            { "client_id": "nil", "client_secret": SECRET, "grant_types": [] },
            { "client_id": "job", "client_secret": SECRET },
        ]);

        let imported = import(&file, true).expect("one client can be kept");

        let kept: Vec<_> = imported.clients.iter().map(|client| client.id.as_str()).collect();
        assert_eq!(kept, ["job"]);
        for left_out in ["spa", "web", "jwt", "nil"] {
            assert!(
                imported.warnings.iter().any(|warning| warning.id.as_deref() == Some(left_out)
                    && warning.message.contains("the whole client is left out")),
                "{left_out}"
            );
        }
        assert_eq!(refusals(&file).len(), imported.warnings.len());
    }

    #[test]
    fn every_mistake_of_every_client_is_told_and_ignoring_does_not_hide_them() {
        let file = json!([
            { "client_id": "a:b", "client_secret": SECRET },
            { "client_secret": SECRET },
            { "client_id": "short", "client_secret": "hunter2" },
            { "client_id": "bare" },
            { "client_id": "types", "client_secret": 7, "scope": ["a"], "audiences": "https://x", "client_name": {} },
            { "client_id": "lists", "client_secret": SECRET, "scope": "a a \"", "audiences": ["x"],
              "access_token_alg": "PS256" },
        ]);

        let told = import(&file, true).expect_err("all of these are wrong");

        let starts = [
            "client 1: client_id: ",
            "client 2: client_id: missing",
            "client 3 (short): client_secret: a client secret has at least 32",
            "client 4 (bare): client_secret: missing",
            "client 5 (types): client_secret: expected a string, found a number",
            "client 5 (types): client_name: expected a string, found an object",
            "client 5 (types): scope: expected a string, found an array",
            "client 5 (types): audiences: expected an array of strings, found a string",
            "client 6 (lists): scope: \"a\" is listed twice",
            "client 6 (lists): scope: \"\\\"\" is not a scope",
            "client 6 (lists): audiences: \"x\" is not an absolute URI",
            "client 6 (lists): access_token_alg: \"PS256\" is not one",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start), "{told} should start with {start}");
        }
        assert!(!told.concat().contains("hunter2"));
    }

    #[test]
    fn two_clients_of_one_id_are_refused() {
        let file =
            json!([{ "client_id": "a", "client_secret": SECRET }, { "client_id": "a", "client_secret": SECRET }]);

        assert_eq!(refusals(&file), ["client 2 (a): client_id: another client in this file has the same id"]);
    }

    #[test]
    fn a_file_that_is_no_array_of_objects_is_refused() {
        for file in ["", "{}", "[1]", "null", "[{]", "[{\"client_id\":\"a\",\"client_id\":\"b\"}]", "[] x"] {
            let problems = parse_import(file.as_bytes(), true, &ALGORITHMS).expect_err(file);

            assert_eq!((problems.len(), problems[0].client), (1, None), "{file}");
        }
    }
}
