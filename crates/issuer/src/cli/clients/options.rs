//! What `keywheel clients add` and `set` can say about a client.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keywheel_jose::Algorithm;

use crate::cli::{Failure, read_input};
use crate::clients::{
    self, ApplicationType, Authentication, Client, ClientAuthMethod, ClientKeys, GrantType, GrantTypes, InvalidClient,
    Jwks, Origin, PostLogoutRedirectUri, RedirectUri, SecretMethod, WebUri,
};

#[derive(Args)]
pub(super) struct Options {
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// How it gets tokens: authorization_code, refresh_token or client_credentials; repeat for more
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<GrantType>,
    /// Where people are sent back to after signing in; repeat for more
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<RedirectUri>,
    /// Where people may be sent after signing out; repeat for more
    #[arg(long = "post-logout-redirect-uri", value_name = "URI")]
    post_logout_redirect_uris: Vec<PostLogoutRedirectUri>,
    /// A scope it may ask for; repeat for more. Without any: those of OpenID Connect, if people sign in to it
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A resource its tokens may be for (an absolute URI); repeat for more, the first is the default
    #[arg(long = "audience", value_name = "URI")]
    audiences: Vec<String>,
    /// A role of people that it may see; repeat for more. Without any it sees all
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// It has no secret: an app on a phone or in a browser
    #[arg(long, conflicts_with_all = ["auth_method", "jwks_file", "jwks_uri"])]
    public: bool,
    /// client_secret_basic, client_secret_post, private_key_jwt or none; without it a secret may be sent either way
    #[arg(long, value_name = "METHOD")]
    auth_method: Option<ClientAuthMethod>,
    /// Its public keys, a JWK set or a single JWK, for private_key_jwt; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks_file: Option<PathBuf>,
    /// Where its public keys are, for private_key_jwt
    #[arg(long, value_name = "URI")]
    jwks_uri: Option<WebUri>,
    /// web or native; the port of a redirect URI on a person's own machine may vary for a native one
    #[arg(long, value_name = "TYPE")]
    application_type: Option<ApplicationType>,
    /// Refuse its authorization requests without a code challenge, as those of public clients always are
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_pkce: Option<bool>,
    /// It is yours: nobody is asked for consent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    first_party: Option<bool>,
    /// Its pages may sign people in by /api/session; needs --first-party
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    session_api: Option<bool>,
    /// An origin whose scripts may call the issuer for it; repeat for more
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<Origin>,
    /// What signs its access tokens; without it the issuer's first algorithm
    #[arg(long, value_name = "ALG")]
    access_token_alg: Option<Algorithm>,
    /// What signs its ID tokens; without it RS256, if the issuer has that
    #[arg(long, value_name = "ALG")]
    id_token_alg: Option<Algorithm>,
    /// Lifetime of its access tokens, such as 5m; without it tokens.access_ttl
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    access_ttl: Option<Duration>,
    /// Lifetime of its refresh tokens since their last use; without it tokens.refresh_ttl
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    refresh_ttl: Option<Duration>,
    /// How long ago a person may have signed in, when a request does not say
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    default_max_age: Option<Duration>,
    /// Where it is told that a person signed out
    #[arg(long, value_name = "URI")]
    backchannel_logout_uri: Option<WebUri>,
    /// What a person's browser loads when they sign out
    #[arg(long, value_name = "URI")]
    frontchannel_logout_uri: Option<WebUri>,
    /// Where somebody else can have it start a sign-in
    #[arg(long, value_name = "URI")]
    initiate_login_uri: Option<WebUri>,
    /// Its home page
    #[arg(long, value_name = "URI")]
    client_uri: Option<WebUri>,
    /// Its logo
    #[arg(long, value_name = "URI")]
    logo_uri: Option<WebUri>,
    /// What it does with people's data
    #[arg(long, value_name = "URI")]
    policy_uri: Option<WebUri>,
    /// Its terms of service
    #[arg(long, value_name = "URI")]
    tos_uri: Option<WebUri>,
    /// Who is responsible for it; repeat for more
    #[arg(long = "contact", value_name = "ADDRESS")]
    contacts: Vec<String>,
}

impl Options {
    /// How the client shall authenticate, or `None` when nothing was said of it. `secret` is asked for the hash of its
    /// secret when it needs one.
    pub(super) fn authentication(
        &self,
        secret: impl FnOnce() -> Result<[u8; 32], Failure>,
    ) -> Result<Option<Authentication>, Failure> {
        let by_keys = self.jwks_file.is_some() || self.jwks_uri.is_some();
        let method = match self.auth_method {
            None if self.public => ClientAuthMethod::None,
            None if by_keys => ClientAuthMethod::PrivateKeyJwt,
            None => return Ok(None),
            Some(method) => method,
        };
        if by_keys && method != ClientAuthMethod::PrivateKeyJwt {
            return Err(Failure::usage(format!("a client that authenticates by {} has no keys", method.as_str())));
        }
        Ok(Some(match method {
            ClientAuthMethod::None => Authentication::None,
            ClientAuthMethod::PrivateKeyJwt => Authentication::PrivateKeyJwt { keys: self.keys()?, alg: None },
            ClientAuthMethod::ClientSecretBasic => {
                Authentication::Secret { sha256: secret()?, method: Some(SecretMethod::Basic) }
            }
            ClientAuthMethod::ClientSecretPost => {
                Authentication::Secret { sha256: secret()?, method: Some(SecretMethod::Post) }
            }
        }))
    }

    fn keys(&self) -> Result<ClientKeys, Failure> {
        if let Some(uri) = &self.jwks_uri {
            return Ok(ClientKeys::At(uri.clone()));
        }
        let file = self.jwks_file.as_deref();
        let file = file.ok_or_else(|| Failure::usage("private_key_jwt needs --jwks-file or --jwks-uri"))?;
        let jwks = Jwks::parse(&read_input(file)?);
        Ok(ClientKeys::Inline(jwks.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?))
    }

    /// The grants, if any were given or follow from what was.
    pub(super) fn first_grants(&self) -> GrantTypes {
        if self.grants.is_empty() {
            return clients::default_grants(!self.redirect_uris.is_empty(), self.session_api == Some(true));
        }
        self.grants.iter().copied().collect()
    }

    /// Sets what was given. A list that was given replaces the one there was.
    pub(super) fn apply(&self, client: &mut Client, algorithms: &[Algorithm]) -> Result<(), InvalidClient> {
        let token_alg = |alg: Algorithm| clients::parse_token_alg(alg.as_str(), algorithms);
        set(&mut client.name, &self.name);
        if !self.grants.is_empty() {
            client.grants = self.grants.iter().copied().collect();
        }
        replace(&mut client.redirect_uris, &self.redirect_uris);
        replace(&mut client.post_logout_redirect_uris, &self.post_logout_redirect_uris);
        replace(&mut client.scopes, &distinct(&self.scopes, clients::parse_scope)?);
        replace(&mut client.audiences, &distinct(&self.audiences, clients::parse_audience)?);
        let roles = distinct(&self.roles, clients::parse_role)?;
        set(&mut client.roles, &Some(roles).filter(|roles| !roles.is_empty()));
        replace(&mut client.allowed_origins, &self.allowed_origins);
        set(&mut client.application_type, &self.application_type);
        client.require_pkce = self.require_pkce.unwrap_or(client.require_pkce);
        client.first_party = self.first_party.unwrap_or(client.first_party);
        client.session_api = self.session_api.unwrap_or(client.session_api);
        set(&mut client.access_token_alg, &self.access_token_alg.map(token_alg).transpose()?);
        set(&mut client.id_token_signed_response_alg, &self.id_token_alg.map(token_alg).transpose()?);
        set(&mut client.access_ttl, &self.access_ttl);
        set(&mut client.refresh_ttl, &self.refresh_ttl);
        set(&mut client.default_max_age, &self.default_max_age);
        set(&mut client.backchannel_logout_uri, &self.backchannel_logout_uri);
        set(&mut client.frontchannel_logout_uri, &self.frontchannel_logout_uri);
        set(&mut client.initiate_login_uri, &self.initiate_login_uri);
        set(&mut client.about.client_uri, &self.client_uri);
        set(&mut client.about.logo_uri, &self.logo_uri);
        set(&mut client.about.policy_uri, &self.policy_uri);
        set(&mut client.about.tos_uri, &self.tos_uri);
        replace(&mut client.about.contacts, &self.contacts);
        Ok(())
    }
}

/// Takes away what a client has at these members of its document.
pub(super) fn unset(client: &mut Client, members: &[Member]) {
    for member in members {
        match member {
            Member::ClientName => client.name = None,
            Member::RedirectUris => client.redirect_uris.clear(),
            Member::PostLogoutRedirectUris => client.post_logout_redirect_uris.clear(),
            Member::Scope => client.scopes.clear(),
            Member::Audiences => client.audiences.clear(),
            Member::Roles => client.roles = None,
            Member::AllowedOrigins => client.allowed_origins.clear(),
            Member::ApplicationType => client.application_type = None,
            Member::AccessTokenAlg => client.access_token_alg = None,
            Member::IdTokenSignedResponseAlg => client.id_token_signed_response_alg = None,
            Member::AccessTtl => client.access_ttl = None,
            Member::RefreshTtl => client.refresh_ttl = None,
            Member::DefaultMaxAge => client.default_max_age = None,
            Member::BackchannelLogoutUri => client.backchannel_logout_uri = None,
            Member::FrontchannelLogoutUri => client.frontchannel_logout_uri = None,
            Member::InitiateLoginUri => client.initiate_login_uri = None,
            Member::ClientUri => client.about.client_uri = None,
            Member::LogoUri => client.about.logo_uri = None,
            Member::PolicyUri => client.about.policy_uri = None,
            Member::TosUri => client.about.tos_uri = None,
            Member::Contacts => client.about.contacts.clear(),
        }
    }
}

/// What can be taken away, by its name in the document.
#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Member {
    ClientName,
    RedirectUris,
    PostLogoutRedirectUris,
    Scope,
    Audiences,
    Roles,
    AllowedOrigins,
    ApplicationType,
    AccessTokenAlg,
    IdTokenSignedResponseAlg,
    AccessTtl,
    RefreshTtl,
    DefaultMaxAge,
    BackchannelLogoutUri,
    FrontchannelLogoutUri,
    InitiateLoginUri,
    ClientUri,
    LogoUri,
    PolicyUri,
    TosUri,
    Contacts,
}

fn set<T: Clone>(current: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        current.clone_from(given);
    }
}

fn replace<T: Clone + PartialEq>(current: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        current.clear();
        for item in given {
            if !current.contains(item) {
                current.push(item.clone());
            }
        }
    }
}

fn distinct(
    texts: &[String],
    parse: impl Fn(&str) -> Result<String, InvalidClient>,
) -> Result<Vec<String>, InvalidClient> {
    let mut parsed = Vec::new();
    for text in texts {
        let text = parse(text)?;
        if !parsed.contains(&text) {
            parsed.push(text);
        }
    }
    Ok(parsed)
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = keywheel_keyring::parse_duration(text).map_err(|error| error.to_string())?;
    if duration <= LONGEST { Ok(duration) } else { Err(format!("{text} is too long: at most 365d")) }
}

const LONGEST: Duration = Duration::from_secs(365 * 86_400);
