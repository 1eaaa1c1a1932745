//! `keywheel token …`

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use keywheel_jose::{Algorithm, KeySet, Policy, Rejection, Timestamp, check, check_signature, decode_unverified};
use serde_json::{Map, Value, json};

use super::output::{note, print, print_bytes, print_json};
use super::{Failure, Session, read_input};
use crate::app::Ring;
use crate::edges::Edges;
use crate::oidc::AccessTokenRequest;
use crate::outgoing;
use crate::registry::Registry;
use crate::storage::WhenMissing;

#[derive(Subcommand)]
pub(super) enum Token {
    /// Make an access token for a client, as an operator
    Mint(Mint),
    /// Check a token; exit code 1 and the reason when it does not hold
    Verify(Verify),
    /// Show what a token says, without checking it
    Decode {
        /// The token; - reads standard input
        token: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Mint {
    /// The client it is for
    #[arg(long, value_name = "ID")]
    client: String,
    /// Whom it speaks of (default: the client)
    #[arg(long, value_name = "SUB")]
    subject: Option<String>,
    /// Its scopes, separated by spaces (default: all of the client's)
    #[arg(long)]
    scope: Option<String>,
    /// Its audience; repeat for more (default: the client's first)
    #[arg(long = "audience", value_name = "AUD")]
    audiences: Vec<String>,
    /// Its lifetime, at most tokens.access_ttl (default: that)
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
}

#[derive(Args)]
pub(super) struct Verify {
    /// The issuer: its keys are found by discovery, unless --jwks gives them
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The keys: a file or an address of a JWKS (or a single JWK)
    #[arg(long, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// Whom the token must be for
    #[arg(long)]
    audience: Option<String>,
    /// What kind of token it must be
    #[arg(long = "type", value_enum, default_value = "at+jwt")]
    kind: Kind,
    /// Accept only these algorithms; repeat for more
    #[arg(long = "alg", value_name = "ALG")]
    algorithms: Vec<Algorithm>,
    /// How far clocks may differ, up to 60s
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    leeway: String,
    /// Judge as of this instant, in seconds since 1970, instead of now
    #[arg(long, value_name = "SECONDS")]
    at: Option<i64>,
    /// Check the signature alone and print the payload, whatever it is
    #[arg(long)]
    signature_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The token; - reads standard input
    #[arg(allow_hyphen_values = true)]
    token: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// An access token (RFC 9068)
    #[value(name = "at+jwt")]
    Access,
    /// An ID token (OpenID Connect Core); --audience is the client id
    Id,
    /// Any JWT
    Any,
}

impl Token {
    pub(super) async fn run(self, config: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Mint(mint) => mint.run(&Session::open(config)?).await,
            Self::Verify(verify) => verify.run().await,
            Self::Decode { token, json } => decode(&read_token(&token)?, json),
        }
    }
}

impl Mint {
    async fn run(&self, session: &Session) -> Result<(), Failure> {
        let Session { config, edges } = session;
        let ring = Ring::open(config, edges, WhenMissing::Refuse).await?;
        ring.rotator.read().await?;
        let stored = ring.store.load_clients().await?;
        ring.store.close().await;
        let registry = Registry::new(config.clients.iter().cloned().chain(stored));
        let unknown = || Failure::failed(format!("there is no client {}", self.client));
        let client = registry.find(&self.client).ok_or_else(unknown)?;

        let scope = self.scope.clone().unwrap_or_else(|| client.scopes.join(" "));
        if let Some(other) =
            scope.split(' ').find(|scope| !scope.is_empty() && !client.scopes.iter().any(|known| known == scope))
        {
            return Err(Failure::failed(format!("client {} does not have the scope {other}", client.id)));
        }
        let mut audiences: Vec<&str> = self.audiences.iter().map(String::as_str).collect();
        if let Some(other) = audiences.iter().find(|audience| !client.audiences.iter().any(|known| known == *audience))
        {
            return Err(Failure::failed(format!("client {} does not have the audience {other}", client.id)));
        }
        if audiences.is_empty() {
            audiences.push(client.audiences.first().map_or(config.issuer.as_str(), String::as_str));
        }
        let lifetime = match &self.ttl {
            Some(text) => duration(text, config.tokens.access_ttl)?,
            None => config.tokens.access_ttl,
        };
        let request = AccessTokenRequest {
            issuer: config.issuer.as_str(),
            subject: self.subject.as_deref().unwrap_or(&client.id),
            client_id: &client.id,
            audiences: &audiences,
            scope: &scope,
            lifetime,
            alg: client.access_token_alg,
            clock_skew: config.keys.rotation.clock_skew(),
            person: None,
        };
        let token = request
            .mint(&ring.keys, edges.entropy.as_ref(), edges.clock.now())
            .await
            .map_err(|error| Failure::failed(error.to_string()))?;
        Ok(print(&format!("{token}\n"))?)
    }
}

impl Verify {
    async fn run(&self) -> Result<(), Failure> {
        if self.audience.is_none() && !self.signature_only {
            return Err(Failure::usage("--audience says whom the token must be for (or use --signature-only)"));
        }
        let leeway = duration(&self.leeway, Duration::from_secs(60))?;
        let token = read_token(&self.token)?;
        let keys = self.keys().await?;
        for refused in keys.refused() {
            let level = if refused.is_alarming() { "ALARM" } else { "note" };
            let kid = refused.kid.as_deref().unwrap_or("without kid");
            note(format_args!("{level}: key {} ({kid}) is refused: {}", refused.index, refused.reason));
        }
        let algorithms: &[Algorithm] = if self.algorithms.is_empty() { &Algorithm::ALL } else { &self.algorithms };
        if self.signature_only {
            return match check_signature(&token, &keys, algorithms) {
                Ok(verified) if self.json => Ok(print_json(&json!({
                    "valid": true,
                    "alg": verified.algorithm().as_str(),
                    "kid": verified.kid(),
                    "payload": String::from_utf8_lossy(verified.payload()),
                }))?),
                Ok(verified) => Ok(print_bytes(verified.payload())?),
                Err(rejection) => Err(self.rejected(&rejection)?),
            };
        }
        let audience = self.audience.clone().unwrap_or_default();
        let issuer = self.issuer.clone().unwrap_or_default();
        let policy = match self.kind {
            Kind::Access => Policy::access_token(issuer, audience),
            Kind::Id => Policy::id_token(issuer, audience),
            Kind::Any => Policy::any(issuer, audience),
        };
        let policy = policy
            .with_algorithms(algorithms.iter().copied())
            .and_then(|policy| policy.with_leeway(leeway))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let policy = if self.issuer.is_none() {
            note("note: without --issuer, the token's issuer is not checked");
            policy.insecure_any_issuer()
        } else {
            policy
        };
        let now = self.at.map_or_else(|| Edges::system().clock.now(), Timestamp::from_unix);
        match check::<Map<String, Value>>(&token, &keys, &policy, now) {
            Ok(verified) if self.json => Ok(print_json(&json!({
                "valid": true,
                "alg": verified.algorithm().map(Algorithm::as_str),
                "kid": verified.kid(),
                "claims": verified.claims(),
            }))?),
            Ok(verified) => Ok(print_json(&json!(verified.claims()))?),
            Err(rejection) => Err(self.rejected(&rejection)?),
        }
    }

    /// Says why, for people or machines; the exit code is 1.
    fn rejected(&self, rejection: &Rejection) -> Result<Failure, Failure> {
        if self.json {
            print_json(&json!({ "valid": false, "code": rejection.code(), "reason": rejection.to_string() }))?;
            return Ok(Failure::silent());
        }
        Ok(Failure::failed(format!("rejected: {}: {rejection}", rejection.code())))
    }

    async fn keys(&self) -> Result<KeySet, Failure> {
        let failed = |error: outgoing::FetchError| Failure::failed(crate::chain(&error));
        let document = match (&self.jwks, &self.issuer) {
            (Some(place), _) if place.starts_with("https://") || place.starts_with("http://") => {
                outgoing::get(place).await.map_err(failed)?.to_vec()
            }
            (Some(place), _) => read_input(Path::new(place))?.to_vec(),
            (None, Some(issuer)) => {
                // OpenID Connect Discovery §4.1 and §4.3
                let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                let document = outgoing::get(&address).await.map_err(failed)?;
                let metadata: Value = serde_json::from_slice(&document)
                    .map_err(|error| Failure::failed(format!("{address} is not JSON: {error}")))?;
                if metadata["issuer"].as_str() != Some(issuer) {
                    return Err(Failure::failed(format!("{address} names another issuer: {}", metadata["issuer"])));
                }
                let Some(jwks_uri) = metadata["jwks_uri"].as_str() else {
                    return Err(Failure::failed(format!("{address} names no jwks_uri")));
                };
                outgoing::get(jwks_uri).await.map_err(failed)?.to_vec()
            }
            (None, None) => return Err(Failure::usage("say where the keys come from: --issuer or --jwks")),
        };
        KeySet::parse_one_or_set(&document).map_err(|error| Failure::failed(format!("jwks_unreadable: {error}")))
    }
}

fn decode(token: &str, json: bool) -> Result<(), Failure> {
    let parts = decode_unverified(token)
        .map_err(|rejection| Failure::failed(format!("not a token: {}: {rejection}", rejection.code())))?;
    note("NOT VERIFIED: anybody can write these words. `keywheel token verify` checks them.");
    let payload = serde_json::from_slice::<Value>(&parts.payload)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&parts.payload).into_owned()));
    let header = serde_json::from_str::<Value>(&parts.header_json).unwrap_or(Value::Null);
    if json {
        return Ok(print_json(&json!({ "verified": false, "header": header, "payload": payload }))?);
    }
    Ok(print(&format!("{header:#}\n{payload:#}\n"))?)
}

/// The token itself, or standard input for `-` without its final line break.
fn read_token(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let bytes = read_input(Path::new("-"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
}

fn duration(text: &str, longest: Duration) -> Result<Duration, Failure> {
    let duration = keywheel_keyring::parse_duration(text).map_err(|error| Failure::usage(error.to_string()))?;
    if duration > longest {
        let longest = keywheel_keyring::format_duration(longest);
        return Err(Failure::usage(format!("{text} is too long: at most {longest}")));
    }
    Ok(duration)
}
