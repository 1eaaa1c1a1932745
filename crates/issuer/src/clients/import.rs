//! Reads clients that another server knew: a JSON array of client metadata (RFC 7591 §2) with ids and secrets.
//!
//! What this version cannot honour is refused by name, because a client that half works is found out in production.
//! Nothing is imported unless everything is well.
//!
//! Two defaults of RFC 7591 are not followed to the letter. Where `grant_types` is left out it would mean
//! `authorization_code`; a client without redirect URIs cannot use that, so it is taken for one of
//! `client_credentials`. Where `token_endpoint_auth_method` is left out it would mean `client_secret_basic`; that works,
//! and so does `client_secret_post`.
//!
//! Names that nobody here knows are left out with a warning: "The authorization server MUST ignore any client metadata
//! sent by the client that it does not understand" (RFC 7591 §2). The warning says so where a known name is much like it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use keywheel_jose::Algorithm;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroizing;

use super::authentication::{MIN_SECRET_CHARACTERS, hash_known_secret, is_short};
use super::{
    About, Authentication, Client, ClientAuthMethod, ClientKeys, GrantType, GrantTypes, Jwks, Origin,
    PostLogoutRedirectUri, RedirectUri, SecretMethod, WebUri, default_grants, default_scopes, parse_assertion_alg,
    parse_audience, parse_id, parse_role, parse_scope, parse_token_alg,
};

/// What an import would add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The clients, in the order of the file.
    pub clients: Vec<Client>,
    /// What was left out because nobody here knows it, or does nothing; and, if the caller said so, what this version
    /// does not support.
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
        warnings.append(&mut reading.warnings);
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
    warnings: Vec<ImportProblem>,
}

impl Reading {
    fn new(number: usize, mut members: Vec<(String, Value)>) -> Self {
        // RFC 7591 §2 gives no meaning to null; as in RFC 7592 §2.2 it is the same as leaving the member out. Some servers
        // write an empty text for it. An empty scope is one: none.
        members.retain(|(name, value)| !value.is_null() && (value != "" || name == "scope"));
        let [problems, unsupported, warnings] = [const { Vec::new() }; 3];
        Reading { number, id: None, members, problems, unsupported, warnings }
    }

    /// The client, unless something is wrong with it or nothing of it is left.
    fn client(&mut self, algorithms: &[Algorithm]) -> Option<Client> {
        self.id = self.text("client_id").and_then(|id| self.checked("client_id", parse_id(&id)));
        if self.id.is_none() && self.problems.is_empty() {
            self.problem("client_id", "missing");
        }
        let redirect_uris = self.list("redirect_uris", RedirectUri::parse);
        let session_api = self.flag("session_api");
        let grants = self.grants(!redirect_uris.is_empty(), session_api);
        let authentication = self.authentication(grants.is_none());
        let name = self.text("client_name");
        let scopes = self.scopes();
        let client = Client {
            name,
            scopes: scopes.or_else(|| grants.as_ref().map(default_scopes)).unwrap_or_default(),
            audiences: self.list("audiences", parse_audience),
            access_token_alg: self.parsed("access_token_alg", |alg| parse_token_alg(alg, algorithms)),
            id_token_signed_response_alg: self.id_token_alg(algorithms),
            post_logout_redirect_uris: self.list("post_logout_redirect_uris", PostLogoutRedirectUri::parse),
            application_type: self.parsed("application_type", str::parse),
            require_pkce: self.flag("require_pkce"),
            roles: self.has("roles").then(|| self.list("roles", parse_role)),
            first_party: self.flag("first_party"),
            allowed_origins: self.list("allowed_origins", Origin::parse),
            access_ttl: self.seconds("access_ttl_s"),
            refresh_ttl: self.seconds("refresh_ttl_s"),
            default_max_age: self.seconds("default_max_age"),
            require_auth_time: self.flag("require_auth_time"),
            default_acr_values: self.list("default_acr_values", parse_scope),
            initiate_login_uri: self.parsed("initiate_login_uri", WebUri::parse),
            backchannel_logout_uri: self.parsed("backchannel_logout_uri", WebUri::parse),
            backchannel_logout_session_required: self.flag("backchannel_logout_session_required"),
            frontchannel_logout_uri: self.parsed("frontchannel_logout_uri", WebUri::parse),
            frontchannel_logout_session_required: self.flag("frontchannel_logout_session_required"),
            about: self.about(),
            redirect_uris,
            session_api,
            grants: grants.clone().unwrap_or_default(),
            ..Client::new(self.id.clone().unwrap_or_default(), authentication.clone().unwrap_or(Authentication::None))
        };
        self.rest();
        // What is left out, or wrong already, would only be called inconsistent besides.
        if grants.is_none() || authentication.is_none() || !self.problems.is_empty() {
            return None;
        }
        let review = client.review();
        for finding in review.problems {
            self.problem(finding.member, finding.message);
        }
        for finding in review.warnings {
            self.warning(finding.member, finding.message);
        }
        Some(client)
    }

    /// The grants of this version, or `None` when none is left.
    fn grants(&mut self, has_redirect_uris: bool, session_api: bool) -> Option<GrantTypes> {
        let grants = match self.has("grant_types") {
            false => default_grants(has_redirect_uris, session_api),
            true => {
                let names = self.texts("grant_types");
                let supported = |name: &String| match name.parse::<GrantType>() {
                    Ok(grant) => Some(grant),
                    Err(_) => {
                        // To the client's former server the name meant something.
                        self.unsupported("grant_types", format!("{name:?} is not supported by this version"));
                        None
                    }
                };
                names.iter().filter_map(supported).collect()
            }
        };
        let types = self.texts("response_types");
        for other in types.iter().filter(|name| *name != "code") {
            self.unsupported("response_types", format!("{other:?} is not supported by this version, only code"));
        }
        if !types.is_empty() && !grants.is_empty() && !grants.contains(GrantType::AuthorizationCode) {
            self.warning("response_types", "has no effect without the grant authorization_code");
        }
        if grants.is_empty() && !session_api {
            self.unsupported("grant_types", "no grant of this version is left, so the whole client is left out");
            return None;
        }
        Some(grants)
    }

    /// How the client authenticates; `None` when it can't here, so that nothing of it is left.
    fn authentication(&mut self, is_left_out: bool) -> Option<Authentication> {
        const METHOD: &str = "token_endpoint_auth_method";
        const SIGNING_ALG: &str = "token_endpoint_auth_signing_alg";
        let problems_before = self.problems.len();
        let secret = self.text("client_secret").map(Zeroizing::new);
        let method = self.text(METHOD).map(|text| text.parse::<ClientAuthMethod>()).transpose();
        let Ok(method) = method.map_err(|error| {
            self.unsupported(METHOD, format!("{error}; the whole client is left out"));
        }) else {
            for member in ["jwks", "jwks_uri", SIGNING_ALG] {
                self.take(member);
            }
            return None;
        };
        let by_keys = method == Some(ClientAuthMethod::PrivateKeyJwt);
        if !by_keys {
            for member in ["jwks", "jwks_uri", SIGNING_ALG] {
                if self.take(member).is_some() {
                    self.warning(member, "not kept: only private_key_jwt has a use for it");
                }
            }
        }
        if secret.is_some() && (by_keys || method == Some(ClientAuthMethod::None)) {
            let name = method.map_or("none", ClientAuthMethod::as_str);
            self.warning("client_secret", format!("not kept: a client that authenticates by {name} has none"));
        }
        let sent = match method {
            Some(ClientAuthMethod::PrivateKeyJwt) => return self.private_key_jwt(SIGNING_ALG),
            Some(ClientAuthMethod::None) => return Some(Authentication::None),
            Some(ClientAuthMethod::ClientSecretBasic) => Some(SecretMethod::Basic),
            Some(ClientAuthMethod::ClientSecretPost) => Some(SecretMethod::Post),
            None => None,
        };
        match secret {
            Some(secret) => {
                let sha256 = self.checked("client_secret", hash_known_secret(&secret))?;
                if is_short(&secret) {
                    let message = format!(
                        "has fewer than {MIN_SECRET_CHARACTERS} characters: whoever gets hold of its hash can guess it; \
                         give the client a new one by `keywheel clients rotate-secret`"
                    );
                    self.warning("client_secret", message);
                }
                Some(Authentication::Secret { sha256, method: sent })
            }
            None => {
                if !is_left_out && self.problems.len() == problems_before {
                    let message =
                        "missing: a client without one says token_endpoint_auth_method none or private_key_jwt";
                    self.problem("client_secret", message);
                }
                None
            }
        }
    }

    fn private_key_jwt(&mut self, signing_alg: &str) -> Option<Authentication> {
        let problems_before = self.problems.len();
        let alg = self.parsed(signing_alg, parse_assertion_alg);
        let inline = self.take("jwks").and_then(|set| self.checked("jwks", Jwks::parse(set.to_string().as_bytes())));
        let at = self.parsed("jwks_uri", WebUri::parse);
        if self.problems.len() > problems_before {
            return None;
        }
        match (inline, at) {
            (Some(jwks), None) => Some(Authentication::PrivateKeyJwt { keys: ClientKeys::Inline(jwks), alg }),
            (None, Some(uri)) => Some(Authentication::PrivateKeyJwt { keys: ClientKeys::At(uri), alg }),
            (Some(_), Some(_)) => {
                self.problem("jwks", "cannot be there together with jwks_uri (RFC 7591 §2)");
                None
            }
            (None, None) => {
                self.problem("jwks", "missing: private_key_jwt needs jwks or jwks_uri");
                None
            }
        }
    }

    fn scopes(&mut self) -> Option<Vec<String>> {
        let text = self.text("scope")?;
        Some(self.each("scope", text.split(' ').filter(|scope| !scope.is_empty()), parse_scope))
    }

    fn id_token_alg(&mut self, algorithms: &[Algorithm]) -> Option<Algorithm> {
        let text = self.text("id_token_signed_response_alg")?;
        let alg = parse_token_alg(&text, algorithms);
        alg.map_err(|error| self.unsupported("id_token_signed_response_alg", error.to_string())).ok()
    }

    /// What people are shown. What is wrong here costs no more than not being shown.
    fn about(&mut self) -> About {
        let mut uri = |member: &str| {
            let uri = WebUri::parse(&self.text(member)?);
            uri.map_err(|error| self.warning(member, format!("not kept: {error}"))).ok()
        };
        About {
            client_uri: uri("client_uri"),
            logo_uri: uri("logo_uri"),
            policy_uri: uri("policy_uri"),
            tos_uri: uri("tos_uri"),
            contacts: self.texts("contacts"),
            software_id: self.text("software_id"),
            software_version: self.text("software_version"),
        }
    }

    /// What nobody asked for.
    fn rest(&mut self) {
        for (name, value) in std::mem::take(&mut self.members) {
            let base = name.split('#').next().unwrap_or(&name);
            let is_translation = base != name && TRANSLATED.contains(&base);
            let asks_for_nothing = match &value {
                Value::Bool(asked) => !asked,
                Value::Array(items) => items.is_empty(),
                Value::Number(number) => name == "client_secret_expires_at" && number.as_u64() == Some(0),
                _ => false,
            };
            let is_usual = name == "subject_type" && value == "public";
            if asks_for_nothing || is_translation || is_usual || INFORMATIVE.contains(&name.as_str()) {
                continue;
            }
            if UNSUPPORTED.contains(&name.as_str()) {
                self.unsupported(&name, "not supported by this version");
                continue;
            }
            if WITHOUT_EFFECT.contains(&name.as_str()) {
                self.warning(&name, "has no effect: request objects are not supported by this version");
                continue;
            }
            match crate::config::nearest(&name, SUPPORTED.iter().map(|known| (*known, *known))) {
                Some(near) => {
                    self.warning(&name, format!("nothing of this version; it is left out; did you mean {near}?"));
                }
                None => self.warning(&name, "nothing of this version; it is left out"),
            }
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

    fn parsed<T, E: fmt::Display>(&mut self, member: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(member)?;
        self.checked(member, parse(&text))
    }

    fn flag(&mut self, member: &str) -> bool {
        match self.take(member) {
            None => false,
            Some(Value::Bool(truth)) => truth,
            Some(other) => {
                self.problem(member, format!("expected true or false, found {}", kind(&other)));
                false
            }
        }
    }

    fn seconds(&mut self, member: &str) -> Option<Duration> {
        let value = self.take(member)?;
        let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_SECONDS).map(Duration::from_secs);
        if seconds.is_none() {
            self.problem(member, format!("expected seconds, 0 to {MAX_SECONDS}, found {}", kind(&value)));
        }
        seconds
    }

    fn list<T: PartialEq, E: fmt::Display>(&mut self, member: &str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let texts = self.texts(member);
        self.each(member, texts.iter().map(String::as_str), parse)
    }

    /// What the words mean; none twice.
    fn each<'a, T: PartialEq, E: fmt::Display>(
        &mut self,
        member: &str,
        words: impl Iterator<Item = &'a str>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for word in words {
            match self.checked(member, parse(word)) {
                Some(value) if values.contains(&value) => self.warning(member, format!("{word:?} is listed twice")),
                Some(value) => values.push(value),
                None => {}
            }
        }
        values
    }

    fn checked<T, E: fmt::Display>(&mut self, member: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(member, error.to_string())).ok()
    }

    fn problem(&mut self, member: &str, message: impl Into<String>) {
        let problem = self.found(member, message);
        self.problems.push(problem);
    }

    fn unsupported(&mut self, member: &str, message: impl Into<String>) {
        let problem = self.found(member, message);
        self.unsupported.push(problem);
    }

    fn warning(&mut self, member: &str, message: impl Into<String>) {
        let problem = self.found(member, message);
        self.warnings.push(problem);
    }

    fn found(&self, member: &str, message: impl Into<String>) -> ImportProblem {
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

/// The members that mean something here; those from `audiences` on are ours.
const SUPPORTED: [&str; 41] = [
    "client_id",
    "client_secret",
    "client_name",
    "client_uri",
    "logo_uri",
    "policy_uri",
    "tos_uri",
    "contacts",
    "software_id",
    "software_version",
    "grant_types",
    "response_types",
    "redirect_uris",
    "post_logout_redirect_uris",
    "application_type",
    "scope",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "jwks",
    "jwks_uri",
    "subject_type",
    "id_token_signed_response_alg",
    "default_max_age",
    "require_auth_time",
    "default_acr_values",
    "initiate_login_uri",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
    "frontchannel_logout_uri",
    "frontchannel_logout_session_required",
    "client_secret_expires_at",
    "audiences",
    "access_token_alg",
    "roles",
    "first_party",
    "session_api",
    "allowed_origins",
    "require_pkce",
    "access_ttl_s",
    "refresh_ttl_s",
    "source",
];

/// Registered members that a client relies on, so that it would not work without.
const UNSUPPORTED: [&str; 17] = [
    "subject_type",
    "sector_identifier_uri",
    "client_secret_expires_at",
    "id_token_encrypted_response_alg",
    "id_token_encrypted_response_enc",
    "userinfo_signed_response_alg",
    "userinfo_encrypted_response_alg",
    "userinfo_encrypted_response_enc",
    "introspection_signed_response_alg",
    "authorization_signed_response_alg",
    "require_signed_request_object",
    "require_pushed_authorization_requests",
    "tls_client_certificate_bound_access_tokens",
    "dpop_bound_access_tokens",
    "tls_client_auth_subject_dn",
    "backchannel_token_delivery_mode",
    "authorization_details_types",
];

/// Members about request objects. A client that sends one is told then that it can't.
const WITHOUT_EFFECT: [&str; 4] =
    ["request_uris", "request_object_signing_alg", "request_object_encryption_alg", "request_object_encryption_enc"];

/// Members that belong to the former server, or that `keywheel clients show --json` adds; nothing depends on them here.
const INFORMATIVE: [&str; 6] = [
    "client_id_issued_at",
    "registration_client_uri",
    "registration_access_token",
    "software_statement",
    "created_at",
    "source",
];

/// Members that may be there in several languages (RFC 7591 §2.2); the one without a language is kept.
const TRANSLATED: [&str; 5] = ["client_name", "client_uri", "logo_uri", "policy_uri", "tos_uri"];

/// A year, as no lifetime of a client is longer.
const MAX_SECONDS: u64 = 365 * 86_400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::hash_secret;
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    /// The key of RFC 8037 appendix A.2.
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::RS256];

    fn import(file: &Value, ignore_unsupported: bool) -> Result<Imported, Vec<String>> {
        parse_import(file.to_string().as_bytes(), ignore_unsupported, &ALGORITHMS)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn by_secret(method: Option<SecretMethod>) -> Authentication {
        Authentication::Secret { sha256: hash_secret(SECRET.as_bytes()), method }
    }

    /// The one client of a file, and what was said of it.
    fn one(client: Value) -> (Client, Vec<String>) {
        let mut imported = import(&json!([client]), false).expect("all of it is supported");
        let warnings = imported.warnings.iter().map(ToString::to_string).collect();
        (imported.clients.remove(0), warnings)
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
                name: Some("Billing".to_owned()),
                scopes: vec!["invoices:read".to_owned(), "invoices:write".to_owned()],
                audiences: vec!["https://api.example.com".to_owned()],
                access_token_alg: Some(Algorithm::RS256),
                about: About {
                    client_uri: Some(WebUri::parse("https://billing.example.com").expect("a URI")),
                    contacts: vec!["ops@example.com".to_owned()],
                    ..About::default()
                },
                ..Client::new("billing", by_secret(Some(SecretMethod::Post)))
            }]
        );
    }

    #[test]
    fn a_client_of_id_and_secret_alone_is_one_of_client_credentials() {
        let file = json!([{ "client_id": "a", "client_secret": SECRET }]);

        let imported = import(&file, false).expect("enough for client_credentials");

        assert_eq!(imported.clients.len(), 1);
        assert_eq!(imported.clients[0], Client::new("a", by_secret(None)));
    }

    #[test]
    fn an_app_is_read_with_all_that_openid_connect_registers() {
        let (client, warnings) = one(json!({
            "client_id": "app", "client_secret": SECRET, "client_name": "App", "application_type": "web",
            "redirect_uris": ["https://app.example.com/callback"], "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"], "scope": "openid profile offline_access",
            "post_logout_redirect_uris": ["https://app.example.com/"], "subject_type": "public",
            "token_endpoint_auth_method": "client_secret_basic", "id_token_signed_response_alg": "RS256",
            "default_max_age": 3600, "require_auth_time": true, "default_acr_values": ["1"],
            "initiate_login_uri": "https://app.example.com/login",
            "backchannel_logout_uri": "https://app.example.com/backchannel",
            "backchannel_logout_session_required": true,
            "frontchannel_logout_uri": "https://app.example.com/frontchannel",
            "frontchannel_logout_session_required": true,
            "logo_uri": "https://app.example.com/logo.png", "policy_uri": "https://app.example.com/policy",
            "tos_uri": "https://app.example.com/tos", "software_id": "4NRB1", "software_version": "2",
        }));

        assert_eq!(warnings, [""; 0]);
        let uri = |text| Some(WebUri::parse(text).expect("a URI"));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            client,
            Client {
                name: Some("App".to_owned()),
                application_type: Some(crate::clients::ApplicationType::Web),
                redirect_uris: vec![RedirectUri::parse("https://app.example.com/callback").expect("a URI")],
                post_logout_redirect_uris: vec![
                    PostLogoutRedirectUri::parse("https://app.example.com/").expect("a URI")
                ],
                grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
                scopes: words(&["openid", "profile", "offline_access"]),
                id_token_signed_response_alg: Some(Algorithm::RS256),
                default_max_age: Some(Duration::from_secs(3600)),
                require_auth_time: true,
                default_acr_values: words(&["1"]),
                initiate_login_uri: uri("https://app.example.com/login"),
                backchannel_logout_uri: uri("https://app.example.com/backchannel"),
                backchannel_logout_session_required: true,
                frontchannel_logout_uri: uri("https://app.example.com/frontchannel"),
                frontchannel_logout_session_required: true,
                about: About {
                    logo_uri: uri("https://app.example.com/logo.png"),
                    policy_uri: uri("https://app.example.com/policy"),
                    tos_uri: uri("https://app.example.com/tos"),
                    software_id: Some("4NRB1".to_owned()),
                    software_version: Some("2".to_owned()),
                    ..About::default()
                },
                ..Client::new("app", by_secret(Some(SecretMethod::Basic)))
            }
        );
    }

    #[test]
    fn a_client_with_a_redirect_uri_and_no_grants_is_one_of_authorization_code() {
        let (client, _) =
            one(json!({ "client_id": "a", "client_secret": SECRET, "redirect_uris": ["https://a.example.com/"] }));

        assert_eq!(client.grants, [GrantType::AuthorizationCode].into());
        assert!(client.may("openid") && client.may("email") && !client.may("offline_access"), "{:?}", client.scopes);
    }

    #[test]
    fn a_client_without_a_secret_is_public_or_has_keys() {
        let app = |method: &str, more: Value| {
            let mut app = json!({
                "client_id": "app", "redirect_uris": ["https://app.example.com/"], "token_endpoint_auth_method": method,
            });
            app.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!([app])
        };
        let at = json!({ "jwks_uri": "https://app.example.com/jwks", "token_endpoint_auth_signing_alg": "ES256" });
        let inline = json!({ "jwks": { "keys": [KEY.parse::<Value>().expect("JSON")] } });
        let read = |file: &Value| import(file, false).expect("a good client").clients[0].authentication.clone();

        assert_eq!(read(&app("none", json!({}))), Authentication::None);
        let keys = ClientKeys::At(WebUri::parse("https://app.example.com/jwks").expect("a URI"));
        let alg = Some(Algorithm::ES256);
        assert_eq!(read(&app("private_key_jwt", at)), Authentication::PrivateKeyJwt { keys, alg });
        let keys = ClientKeys::Inline(Jwks::parse(KEY.as_bytes()).expect("a key"));
        assert_eq!(read(&app("private_key_jwt", inline)), Authentication::PrivateKeyJwt { keys, alg: None });
        for (more, why) in [
            (json!({}), "jwks: missing"),
            (json!({ "jwks": { "keys": [] }}), "jwks: not the public keys of a client: no key"),
            (
                json!({ "jwks_uri": "http://app.example.com/jwks" }),
                "jwks_uri: \"http://app.example.com/jwks\" must be https",
            ),
            (
                json!({ "jwks_uri": "https://a/", "jwks": KEY.parse::<Value>().expect("JSON") }),
                "jwks: cannot be there together",
            ),
            (
                json!({ "jwks_uri": "https://a/", "token_endpoint_auth_signing_alg": "HS256" }),
                "token_endpoint_auth_signing_alg: \"HS256\" is not",
            ),
        ] {
            let refusals = refusals(&app("private_key_jwt", more));

            assert_eq!(refusals.len(), 1, "{refusals:?}");
            assert!(refusals[0].starts_with(&format!("client 1 (app): {why}")), "{why}: {refusals:?}");
        }
    }

    #[test]
    fn what_is_not_used_is_left_out_with_a_warning() {
        let (client, warnings) = one(json!({
            "client_id": "app", "client_secret": SECRET,
            "redirect_uris": ["https://app.example.com/", "https://app.example.com/"], "audience": "x",
            "initiate_login_uri": "", "backchannel_logout_uri": "",
            "token_endpoint_auth_method": "none", "jwks_uri": "https://app.example.com/jwks",
            "logo_uri": "http://app.example.com/logo.png", "request_uris": ["https://app.example.com/request"],
            "urn:example:flavour": "vanilla", "client_name#fr": "Appli", "id_token_encrypted_response_alg": null,
        }));

        assert_eq!(client.authentication, Authentication::None);
        assert_eq!(client.redirect_uris.len(), 1);
        assert_eq!((client.about.logo_uri, client.backchannel_logout_uri), (None, None));
        let starts = [
            "client 1 (app): jwks_uri: not kept",
            "client 1 (app): client_secret: not kept",
            "client 1 (app): logo_uri: not kept",
            "client 1 (app): request_uris: has no effect",
            "client 1 (app): urn:example:flavour: nothing of this version",
            "client 1 (app): redirect_uris: \"https://app.example.com/\" is listed twice",
            "client 1 (app): audience: nothing of this version; it is left out; did you mean audiences?",
        ];
        for start in starts {
            assert!(warnings.iter().any(|warning| warning.starts_with(start)), "{start} in {warnings:#?}");
        }
        assert_eq!(warnings.len(), starts.len(), "{warnings:#?}");
    }

    #[test]
    fn what_this_version_does_not_support_is_refused_by_name() {
        let everything = json!([{
            "client_id": "web", "client_secret": SECRET, "redirect_uris": ["https://web.example.com/cb"],
            "grant_types": ["authorization_code", "implicit"], "response_types": ["code", "id_token"],
            "subject_type": "pairwise", "id_token_signed_response_alg": "HS256",
            "userinfo_signed_response_alg": "RS256", "client_secret_expires_at": 1_900_000_000,
            "require_pushed_authorization_requests": true,
        }]);

        let refusals = refusals(&everything);

        for member in [
            "response_types: \"id_token\"",
            "grant_types: \"implicit\"",
            "subject_type",
            "id_token_signed_response_alg",
            "userinfo_signed_response_alg",
            "client_secret_expires_at",
            "require_pushed_authorization_requests",
        ] {
            let start = format!("client 1 (web): {member}");
            assert!(refusals.iter().any(|refusal| refusal.starts_with(&start)), "{member} in {refusals:#?}");
        }
        assert_eq!(refusals.len(), 7, "{refusals:#?}");
    }

    #[test]
    fn what_is_not_supported_can_be_left_out_with_a_warning() {
        let file = json!([{
            "client_id": "web", "client_secret": SECRET, "grant_types": ["client_credentials", "password"],
            "require_signed_request_object": true,
        }]);

        let imported = import(&file, true).expect("the rest is well");

        assert_eq!(imported.clients.len(), 1);
        let members: Vec<_> = imported.warnings.iter().filter_map(|warning| warning.member.as_deref()).collect();
        assert_eq!(members, ["grant_types", "require_signed_request_object"]);
    }

    #[test]
    fn a_client_without_a_way_to_work_here_is_left_out_whole() {
        let file = json!([
            { "client_id": "spa", "token_endpoint_auth_method": "none", "grant_types": ["implicit"] },
            { "client_id": "tls", "token_endpoint_auth_method": "tls_client_auth", "jwks_uri": "https://a/" },
            { "client_id": "nil", "client_secret": SECRET, "grant_types": [] },
            { "client_id": "job", "client_secret": SECRET },
        ]);

        let imported = import(&file, true).expect("one client can be kept");

        let kept: Vec<_> = imported.clients.iter().map(|client| client.id.as_str()).collect();
        assert_eq!(kept, ["job"]);
        for left_out in ["spa", "tls", "nil"] {
            assert!(
                imported.warnings.iter().any(|warning| warning.id.as_deref() == Some(left_out)
                    && warning.message.contains("the whole client is left out")),
                "{left_out}"
            );
        }
        assert_eq!(refusals(&file).len(), imported.warnings.len());
    }

    #[test]
    fn metadata_that_do_not_go_together_are_refused() {
        let file = json!([
            { "client_id": "a", "client_secret": SECRET, "grant_types": ["authorization_code"] },
            { "client_id": "b", "token_endpoint_auth_method": "none", "grant_types": ["client_credentials"] },
        ]);

        let refusals = refusals(&file);

        assert_eq!(refusals.len(), 2, "{refusals:?}");
        assert!(refusals[0].starts_with("client 1 (a): redirect_uris: missing"), "{refusals:?}");
        assert!(refusals[1].starts_with("client 2 (b): grant_types: client_credentials needs"), "{refusals:?}");
    }

    #[test]
    fn a_short_secret_is_kept_because_its_client_has_it_already() {
        let (client, warnings) = one(json!({ "client_id": "a", "client_secret": "hunter2" }));

        assert_eq!(client.authentication, Authentication::Secret { sha256: hash_secret(b"hunter2"), method: None });
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("client 1 (a): client_secret: has fewer than 32"), "{warnings:?}");
        assert!(!warnings[0].contains("hunter2"));
    }

    #[test]
    fn every_mistake_of_every_client_is_told_and_ignoring_does_not_hide_them() {
        let file = json!([
            { "client_id": "a:b", "client_secret": SECRET },
            { "client_secret": SECRET },
            { "client_id": "empty", "client_secret": "" },
            { "client_id": "bare" },
            { "client_id": "types", "client_secret": 7, "scope": ["a"], "audiences": "https://x", "client_name": {} },
            { "client_id": "lists", "client_secret": SECRET, "scope": "a a \"", "audiences": ["x"],
              "access_token_alg": "PS256", "redirect_uris": ["/cb"], "default_max_age": -1, "first_party": "yes" },
        ]);

        let told = import(&file, true).expect_err("all of these are wrong");

        let starts = [
            "client 1: client_id: ",
            "client 2: client_id: missing",
            "client 3 (empty): client_secret: missing",
            "client 4 (bare): client_secret: missing",
            "client 5 (types): client_secret: expected a string, found a number",
            "client 5 (types): client_name: expected a string, found an object",
            "client 5 (types): scope: expected a string, found an array",
            "client 5 (types): audiences: expected an array of strings, found a string",
            "client 6 (lists): redirect_uris: \"/cb\" is not an absolute URI",
            "client 6 (lists): scope: \"\\\"\" is not a scope",
            "client 6 (lists): audiences: \"x\" is not an absolute URI",
            "client 6 (lists): access_token_alg: \"PS256\" is not one",
            "client 6 (lists): first_party: expected true or false, found a string",
            "client 6 (lists): default_max_age: expected seconds, 0 to",
        ];
        assert_eq!(told.len(), starts.len(), "{told:#?}");
        for (told, start) in told.iter().zip(starts) {
            assert!(told.starts_with(start), "{told} should start with {start}");
        }
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
