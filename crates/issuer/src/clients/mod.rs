//! What a client is, and the rules its metadata follows wherever it comes from: configuration, command line or import.
//!
//! Each of those reads the fields it knows by their own types, sets them on a [`Client`], and asks [`Client::review`]
//! whether they go together.

mod authentication;
mod document;
mod grant;
mod import;
mod rules;
mod uri;

use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

pub use authentication::{
    Authentication, ClientAuthMethod, ClientKeys, Jwks, SecretMethod, hash_new_secret, hash_secret, parse_secret_hash,
};
use authentication::{MAX_SECRET_CHARACTERS, MIN_SECRET_CHARACTERS};
pub use grant::{GrantType, GrantTypes};
pub use import::{ImportProblem, Imported, parse_import};
pub use rules::{Finding, Review};
pub use uri::{InvalidUri, Origin, PostLogoutRedirectUri, RedirectUri, WebUri};

/// A client that may ask for tokens.
///
/// In JSON it has the names of RFC 7591 §2 and of the OpenID Connect specifications; how it authenticates, when it was
/// stored and where it comes from are added by [`Client::to_document`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The `client_id`.
    #[serde(rename = "client_id")]
    pub id: String,
    /// What people call it (`client_name`).
    #[serde(rename = "client_name", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it shows that it is itself.
    #[serde(skip, default = "document::unknown_authentication")]
    pub authentication: Authentication,
    /// How it gets tokens.
    #[serde(rename = "grant_types", default = "document::first_grants")]
    pub grants: GrantTypes,
    /// Where an authorization may be answered. See [`Client::redirect_uri`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<RedirectUri>,
    /// Where people may be sent after signing out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<PostLogoutRedirectUri>,
    /// Whether it runs in a browser's page or beside one; `None` where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_type: Option<ApplicationType>,
    /// Must its authorization requests have a code challenge (RFC 7636)? Asked of public clients in any case: see
    /// [`Client::needs_pkce`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_pkce: bool,
    /// The scopes it may ask for, those of OpenID Connect among them.
    #[serde(rename = "scope", with = "document::words", default)]
    pub scopes: Vec<String>,
    /// The resources its tokens may be for (RFC 8707); the first is the default.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The roles of a person that it may see, or `None` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Does it belong to the issuer's owner, so that nobody is asked for consent?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_party: bool,
    /// May its pages sign people in by `/api/session`?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session_api: bool,
    /// The origins whose scripts may call the issuer for it (CORS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<Origin>,
    /// What signs its access tokens, or `None` for the first configured algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "document::algorithm")]
    pub access_token_alg: Option<Algorithm>,
    /// What signs its ID tokens, or `None` for the default: see [`Client::id_token_alg`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "document::algorithm")]
    pub id_token_signed_response_alg: Option<Algorithm>,
    /// Lifetime of its access tokens, or `None` for `tokens.access_ttl`.
    #[serde(rename = "access_ttl_s", default, skip_serializing_if = "Option::is_none", with = "document::seconds")]
    pub access_ttl: Option<Duration>,
    /// Lifetime of its refresh tokens since their last use, or `None` for `tokens.refresh_ttl`.
    #[serde(rename = "refresh_ttl_s", default, skip_serializing_if = "Option::is_none", with = "document::seconds")]
    pub refresh_ttl: Option<Duration>,
    /// How long ago a person may have signed in when a request says nothing of it (`default_max_age`).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "document::seconds")]
    pub default_max_age: Option<Duration>,
    /// Must its ID tokens say when the person signed in?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_auth_time: bool,
    /// The authentication context classes to aim for when a request names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_acr_values: Vec<String>,
    /// Where somebody else can have it start a sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiate_login_uri: Option<WebUri>,
    /// Where the issuer tells it that a person signed out (OpenID Connect Back-Channel Logout §2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_uri: Option<WebUri>,
    /// Must a back-channel logout token say which session ended?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backchannel_logout_session_required: bool,
    /// What a person's browser loads when they sign out (OpenID Connect Front-Channel Logout §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontchannel_logout_uri: Option<WebUri>,
    /// Must that address be given the issuer and the session?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frontchannel_logout_session_required: bool,
    /// What people are shown of it.
    #[serde(flatten)]
    pub about: About,
    /// When it was stored; `None` for one that is declared or not stored yet.
    #[serde(skip)]
    pub created_at: Option<Timestamp>,
    /// Where it comes from.
    #[serde(skip)]
    pub source: Source,
}

/// What a client says about itself to people; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Its home page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<WebUri>,
    /// Its logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<WebUri>,
    /// What it does with people's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<WebUri>,
    /// Its terms of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<WebUri>,
    /// Who is responsible for it, by e-mail address as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
    /// Which software it is, the same for all its installations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    /// Which version of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
}

/// What kind of application a client is (OpenID Connect Dynamic Registration §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    /// It is reached by its address.
    Web,
    /// It is installed on a person's machine, where ports vary.
    Native,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The configuration, which alone can change it.
    Declared,
    /// The database; the command line can change it.
    #[default]
    Stored,
}

/// Why a piece of client metadata is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClient {
    /// The id does not follow the rule.
    #[error(
        "a client id has 1 to {MAX_ID_CHARACTERS} visible ASCII characters, and no colon because Basic authentication ends it there"
    )]
    Id,
    /// The secret is too short.
    #[error("a client secret has at least {MIN_SECRET_CHARACTERS} characters, this one has {0}")]
    SecretTooShort(usize),
    /// The secret is too long.
    #[error("a client secret has at most {MAX_SECRET_CHARACTERS} characters, this one has {0}")]
    SecretTooLong(usize),
    /// The secret has a character that RFC 6749 does not allow.
    #[error("a client secret has only printable ASCII characters (RFC 6749 appendix A.2)")]
    SecretCharacter,
    /// The hash is not a hash.
    #[error("expected \"sha256:\" and 64 hexadecimal digits")]
    SecretHash,
    /// The text is not one scope.
    #[error("{0:?} is not a scope: visible ASCII without quotes and backslashes (RFC 6749 §3.3)")]
    Scope(String),
    /// The text is not the name of a role.
    #[error("{0:?} is not a name without spaces")]
    Role(String),
    /// The text is not the name of a resource.
    #[error("{0:?} is not an absolute URI without a fragment (RFC 8707 §2)")]
    Audience(String),
    /// An address that cannot be registered.
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    /// Not the keys of a client.
    #[error("not the public keys of a client: {0}")]
    Jwks(String),
    /// Another way to authenticate, which is not built yet or does not exist.
    #[error("{0:?} is not supported by this version: client_secret_basic, client_secret_post, private_key_jwt or none")]
    AuthMethod(String),
    /// Another kind of application.
    #[error("{0:?} is not web or native")]
    ApplicationType(String),
    /// A grant that this version does not offer.
    #[error("{0:?} is not supported by this version: authorization_code, refresh_token or client_credentials")]
    UnsupportedGrant(String),
    /// A grant that nobody offers.
    #[error("{0:?} is not a grant{1}")]
    UnknownGrant(String, DidYouMean),
    /// Not an algorithm that the issuer signs with.
    #[error("{found:?} is not one of the algorithms this issuer signs with ({configured})")]
    Algorithm {
        /// As it was written.
        found: String,
        /// Those of `keys.algorithms`.
        configured: String,
    },
    /// Not an algorithm that a client may sign with.
    #[error("{0:?} is not an algorithm that a client's assertion may be signed with ({algorithms})", algorithms = all_algorithms())]
    AssertionAlgorithm(String),
}

/// A guess at what was meant, for the end of a message; empty when nothing is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DidYouMean(Option<&'static str>);

impl Client {
    /// A client that has nothing but its id and a way to authenticate, and gets tokens by `client_credentials`.
    #[must_use]
    pub fn new(id: impl Into<String>, authentication: Authentication) -> Self {
        Self {
            id: id.into(),
            name: None,
            authentication,
            grants: document::first_grants(),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            application_type: None,
            require_pkce: false,
            scopes: Vec::new(),
            audiences: Vec::new(),
            roles: None,
            first_party: false,
            session_api: false,
            allowed_origins: Vec::new(),
            access_token_alg: None,
            id_token_signed_response_alg: None,
            access_ttl: None,
            refresh_ttl: None,
            default_max_age: None,
            require_auth_time: false,
            default_acr_values: Vec::new(),
            initiate_login_uri: None,
            backchannel_logout_uri: None,
            backchannel_logout_session_required: false,
            frontchannel_logout_uri: None,
            frontchannel_logout_session_required: false,
            about: About::default(),
            created_at: None,
            source: Source::Stored,
        }
    }

    /// Has it nothing to authenticate with?
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.authentication == Authentication::None
    }

    /// The way it authenticates, or `None` where its secret may be sent either way.
    #[must_use]
    pub fn auth_method(&self) -> Option<ClientAuthMethod> {
        self.authentication.method()
    }

    /// Must its authorization requests have a code challenge? "Authorization servers MUST … enforce the correct usage of
    /// code_verifier" for public clients (RFC 9700 §2.1.1); for others where they are registered to.
    #[must_use]
    pub fn needs_pkce(&self) -> bool {
        self.require_pkce || self.is_public()
    }

    /// May it ask for this scope?
    #[must_use]
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }

    /// May it get tokens this way?
    #[must_use]
    pub fn uses(&self, grant: GrantType) -> bool {
        self.grants.contains(grant)
    }

    /// Those of its scopes that mean something without a person: all but those of OpenID Connect.
    pub fn own_scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str).filter(|scope| !OPENID_SCOPES.contains(scope))
    }

    /// Is `presented` one of its redirect URIs? Exactly, but for the port of an app on a person's own machine: of a
    /// native client, or of a public one that did not say what it is.
    #[must_use]
    pub fn redirect_uri(&self, presented: &str) -> Option<&RedirectUri> {
        let ports_vary = self.application_type.map_or(self.is_public(), |it| it == ApplicationType::Native);
        self.redirect_uris.iter().find(|uri| if ports_vary { uri.matches(presented) } else { uri.is(presented) })
    }

    /// Is `presented` one of the addresses that people may be sent to after signing out?
    #[must_use]
    pub fn post_logout_redirect_uri(&self, presented: &str) -> Option<&PostLogoutRedirectUri> {
        self.post_logout_redirect_uris.iter().find(|uri| uri.is(presented))
    }

    /// May scripts of this origin call the issuer for it?
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed.as_str() == origin)
    }

    /// Those of a person's roles that it may see.
    #[must_use]
    pub fn visible_roles<'a>(&self, roles: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
        let visible = |role: &&String| self.roles.as_ref().is_none_or(|own| own.contains(role));
        roles.into_iter().filter(visible).map(String::as_str).collect()
    }

    /// What signs its ID tokens: what it registered; else RS256, the default of OpenID Connect Dynamic Registration §2,
    /// which relying parties expect; else, at an issuer without RS256, the issuer's first algorithm.
    #[must_use]
    pub fn id_token_alg(&self, algorithms: &[Algorithm]) -> Algorithm {
        let rs256 = algorithms.contains(&Algorithm::RS256).then_some(Algorithm::RS256);
        let default = || rs256.or_else(|| algorithms.first().copied()).unwrap_or(Algorithm::RS256);
        self.id_token_signed_response_alg.unwrap_or_else(default)
    }
}

impl ApplicationType {
    /// The registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Native => "native",
        }
    }
}

impl std::str::FromStr for ApplicationType {
    type Err = InvalidClient;

    fn from_str(text: &str) -> Result<Self, InvalidClient> {
        let found = [Self::Web, Self::Native].into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| InvalidClient::ApplicationType(text.to_owned()))
    }
}

impl std::fmt::Display for DidYouMean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(near) => write!(f, "; did you mean {near}?"),
            None => Ok(()),
        }
    }
}

/// Reads a client id.
///
/// # Errors
/// [`InvalidClient::Id`]
pub fn parse_id(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let id = Some(text).filter(|_| allowed && (1..=MAX_ID_CHARACTERS).contains(&text.len()));
    id.map(str::to_owned).ok_or(InvalidClient::Id)
}

/// Reads one scope (`scope-token` of RFC 6749 §3.3).
///
/// # Errors
/// [`InvalidClient::Scope`]
pub fn parse_scope(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let scope = Some(text).filter(|_| allowed && !text.is_empty());
    scope.map(str::to_owned).ok_or_else(|| InvalidClient::Scope(text.to_owned()))
}

/// Reads the name of a role, or of anything else that is a word.
///
/// # Errors
/// [`InvalidClient::Role`]
pub fn parse_role(text: &str) -> Result<String, InvalidClient> {
    let allowed = !text.is_empty() && !text.chars().any(|it| it.is_control() || it.is_whitespace());
    Some(text).filter(|_| allowed).map(str::to_owned).ok_or_else(|| InvalidClient::Role(text.to_owned()))
}

/// Reads the name of a resource; it is kept exactly, since it is compared as a string.
///
/// # Errors
/// [`InvalidClient::Audience`]
pub fn parse_audience(text: &str) -> Result<String, InvalidClient> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let audience = Some(text).filter(|_| allowed && Url::parse(text).is_ok());
    audience.map(str::to_owned).ok_or_else(|| InvalidClient::Audience(text.to_owned()))
}

/// The scopes of a client that named none: those of OpenID Connect, if people sign in to it.
#[must_use]
pub fn default_scopes(grants: &GrantTypes) -> Vec<String> {
    let by_people = OPENID_SCOPES.iter().filter(|scope| match **scope {
        OFFLINE_ACCESS => grants.contains(GrantType::RefreshToken),
        _ => grants.contains(GrantType::AuthorizationCode),
    });
    by_people.map(|scope| (*scope).to_owned()).collect()
}

/// The grants of a client that named none. RFC 7591 §2 says `authorization_code`; one without a redirect URI cannot use
/// that, so it is taken for one of `client_credentials`, or of the session API alone.
#[must_use]
pub fn default_grants(has_redirect_uris: bool, session_api: bool) -> GrantTypes {
    match (has_redirect_uris, session_api) {
        (true, _) => GrantTypes::from([GrantType::AuthorizationCode]),
        (false, true) => GrantTypes::from([GrantType::RefreshToken]),
        (false, false) => GrantTypes::from([GrantType::ClientCredentials]),
    }
}

/// Reads the algorithm that a client's assertions are signed with.
///
/// # Errors
/// [`InvalidClient::AssertionAlgorithm`]
pub fn parse_assertion_alg(text: &str) -> Result<Algorithm, InvalidClient> {
    text.parse().map_err(|_| InvalidClient::AssertionAlgorithm(text.to_owned()))
}

/// Reads the algorithm of a client's tokens, one of those the issuer signs with.
///
/// # Errors
/// [`InvalidClient::Algorithm`]
pub fn parse_token_alg(text: &str, algorithms: &[Algorithm]) -> Result<Algorithm, InvalidClient> {
    algorithms.iter().copied().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        InvalidClient::Algorithm { found: text.to_owned(), configured: names.join(", ") }
    })
}

fn all_algorithms() -> String {
    Algorithm::ALL.map(Algorithm::as_str).join(", ")
}

/// The scopes that are about people: OpenID Connect Core §5.4 and §11, and ours for roles.
pub const OPENID_SCOPES: [&str; 7] = ["openid", "profile", "email", "address", "phone", "roles", OFFLINE_ACCESS];

/// The scope that asks for tokens which outlive the sign-in (OpenID Connect Core §11).
pub const OFFLINE_ACCESS: &str = "offline_access";

/// As long as a client id may be: longer ones are addresses or tokens put in the wrong place.
pub const MAX_ID_CHARACTERS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_short_visible_ascii_without_a_colon() {
        for id in ["billing", "a", "app@example.com/1", &"x".repeat(128)] {
            assert_eq!(parse_id(id).as_deref(), Ok(id));
        }
        for id in ["", "a b", "a:b", "é", "a\n", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(parse_id(id), Err(InvalidClient::Id), "{id:?}");
        }
    }

    #[test]
    fn a_scope_follows_rfc_6749() {
        for scope in ["invoices:read", "!", "#[]~", "https://api.example.com/read"] {
            assert_eq!(parse_scope(scope).as_deref(), Ok(scope));
        }
        for scope in ["", "a b", "a\"b", "a\\b", "é", "a\t"] {
            assert_eq!(parse_scope(scope), Err(InvalidClient::Scope(scope.to_owned())));
        }
    }

    #[test]
    fn an_audience_is_an_absolute_uri_without_fragment_and_kept_exactly() {
        for audience in
            ["https://api.example.com", "https://API.example.com/v1/?x=1", "urn:example:billing", "api://billing"]
        {
            assert_eq!(parse_audience(audience).as_deref(), Ok(audience));
        }
        for audience in ["", "billing", "/v1", "https://api.example.com/#", "https://api.example.com/a b", "https://"] {
            assert_eq!(parse_audience(audience), Err(InvalidClient::Audience(audience.to_owned())));
        }
    }

    #[test]
    fn an_algorithm_the_issuer_does_not_sign_with_is_refused_with_those_it_does() {
        let configured = [Algorithm::ES256, Algorithm::RS256];

        assert_eq!(parse_token_alg("RS256", &configured), Ok(Algorithm::RS256));
        let refusal = parse_token_alg("PS256", &configured).expect_err("not configured");
        assert!(refusal.to_string().contains("ES256, RS256"), "{refusal}");
    }

    fn app(authentication: Authentication, redirect_uris: &[&str]) -> Client {
        let redirect_uris = redirect_uris.iter().map(|uri| RedirectUri::parse(uri).expect("a URI")).collect();
        Client { redirect_uris, grants: [GrantType::AuthorizationCode].into(), ..Client::new("app", authentication) }
    }

    const SECRET: Authentication = Authentication::Secret { sha256: [7; 32], method: None };

    #[test]
    fn ports_of_this_machine_vary_for_apps_that_are_installed_there() {
        let uris = ["https://app.example.com/cb", "http://127.0.0.1/cb"];
        let on_another_port = "http://127.0.0.1:51004/cb";
        let of_type = |authentication, kind| Client { application_type: kind, ..app(authentication, &uris) };
        let (native, web) = (Some(ApplicationType::Native), Some(ApplicationType::Web));

        for (client, varies) in [
            (of_type(Authentication::None, None), true),
            (of_type(Authentication::None, native), true),
            (of_type(SECRET, native), true),
            (of_type(Authentication::None, web), false),
            (of_type(SECRET, web), false),
            (of_type(SECRET, None), false),
        ] {
            assert_eq!(client.redirect_uri(on_another_port).is_some(), varies, "{client:?}");
            assert!(client.redirect_uri(uris[0]).is_some() && client.redirect_uri(uris[1]).is_some());
            assert!(client.redirect_uri("https://app.example.com:8443/cb").is_none());
        }
    }

    #[test]
    fn a_public_client_always_needs_a_code_challenge() {
        assert!(app(Authentication::None, &[]).needs_pkce());
        assert!(!app(SECRET, &[]).needs_pkce());
        assert!(Client { require_pkce: true, ..app(SECRET, &[]) }.needs_pkce());
    }

    #[test]
    fn a_client_may_ask_for_its_scopes_only() {
        let scopes = ["openid", "invoices:read", "offline_access"].map(str::to_owned).to_vec();
        let client = Client { scopes, ..app(SECRET, &[]) };

        assert!(client.may("openid") && client.may("invoices:read"));
        assert!(!client.may("profile") && !client.may("") && !client.may("openid invoices:read"));
        assert_eq!(client.own_scopes().collect::<Vec<_>>(), ["invoices:read"]);
    }

    #[test]
    fn a_client_without_a_list_of_roles_sees_all() {
        let roles = ["admin", "staff"].map(str::to_owned);
        let with = |own: Option<&[&str]>| Client {
            roles: own.map(|own| own.iter().map(|role| (*role).to_owned()).collect()),
            ..app(SECRET, &[])
        };

        assert_eq!(with(None).visible_roles(&roles), ["admin", "staff"]);
        assert_eq!(with(Some(&["staff", "other"])).visible_roles(&roles), ["staff"]);
        assert_eq!(with(Some(&[])).visible_roles(&roles), [""; 0]);
    }

    #[test]
    fn people_are_sent_to_a_registered_address_after_signing_out() {
        let uri = PostLogoutRedirectUri::parse("https://app.example.com/bye").expect("a URI");
        let client = Client { post_logout_redirect_uris: vec![uri], ..app(SECRET, &[]) };

        assert!(client.post_logout_redirect_uri("https://app.example.com/bye").is_some());
        assert!(client.post_logout_redirect_uri("https://app.example.com/bye?x=1").is_none());
        assert!(client.post_logout_redirect_uri("https://app.example.com/").is_none());
    }

    #[test]
    fn id_tokens_are_signed_with_rs256_unless_the_client_or_the_issuer_has_another_way() {
        let client = app(SECRET, &[]);
        let own = Client { id_token_signed_response_alg: Some(Algorithm::EdDSA), ..client.clone() };

        assert_eq!(client.id_token_alg(&[Algorithm::ES256, Algorithm::RS256]), Algorithm::RS256);
        assert_eq!(client.id_token_alg(&[Algorithm::ES256, Algorithm::EdDSA]), Algorithm::ES256);
        assert_eq!(own.id_token_alg(&[Algorithm::ES256, Algorithm::EdDSA]), Algorithm::EdDSA);
    }

    #[test]
    fn scopes_and_grants_that_nobody_named_are_those_that_make_sense() {
        let code = default_grants(true, false);
        assert_eq!(code, [GrantType::AuthorizationCode].into());
        assert_eq!(default_grants(false, false), [GrantType::ClientCredentials].into());
        assert_eq!(default_grants(false, true), [GrantType::RefreshToken].into());

        assert_eq!(default_scopes(&code), ["openid", "profile", "email", "address", "phone", "roles"]);
        let both = [GrantType::AuthorizationCode, GrantType::RefreshToken].into();
        assert_eq!(default_scopes(&both).last().map(String::as_str), Some("offline_access"));
        assert_eq!(default_scopes(&[GrantType::ClientCredentials].into()), [""; 0]);
    }
}
