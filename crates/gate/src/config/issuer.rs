//! `[[issuer]]`: whose tokens are good, and how its keys are fetched.

use std::ops::RangeInclusive;
use std::time::Duration;

use keywheel_verifier::{Algorithm, Limits, Policy};

use super::section::Section;

/// One issuer.
#[derive(Clone, Debug)]
pub(crate) struct IssuerSettings {
    pub(crate) policy: Policy,
    pub(crate) jwks_url: Option<String>,
    pub(crate) limits: Limits,
    /// PEM.
    pub(crate) root_certificates: Option<Vec<u8>>,
    pub(crate) introspection: Option<IntrospectionSettings>,
}

/// `[issuer.introspection]`: where to ask about tokens that are no JWTs, and as whom.
#[derive(Clone)]
pub(crate) struct IntrospectionSettings {
    pub(crate) url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) cache_ttl: Option<Duration>,
}

/// Without the secret.
impl std::fmt::Debug for IntrospectionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntrospectionSettings").field("url", &self.url).field("client_id", &self.client_id).finish()
    }
}

/// Reads one. `None` only when a problem was noted.
pub(super) fn read(section: &mut Section<'_>) -> Option<IssuerSettings> {
    let url_is_there = section.has("url");
    let url = section.parsed("url", |text| if text.is_empty() { Err("expected a URL") } else { Ok(text.to_owned()) });
    if !url_is_there {
        section.problem("url", "expected the issuer's URL, exactly as in the `iss` of its tokens");
    }
    let audience_is_there = section.has("audience");
    let audiences = section.list("audience", |text| {
        if text.is_empty() { Err("expected the audience of the guarded service") } else { Ok(text.to_owned()) }
    });
    if !audience_is_there {
        section.problem("audience", "expected the `aud` that tokens for the guarded service have");
    }
    let algorithms = section.list("algorithms", |text| {
        let known = Algorithm::ALL.iter().copied().find(|algorithm| algorithm.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
            format!("expected one of {}, found {text:?}", names.join(", "))
        })
    });
    let leeway = section.duration("leeway", Duration::ZERO..=Policy::MAX_LEEWAY);
    let max_token_bytes = section.integer("max_token_bytes", 1024..=65_536);
    let jwks_url = section.text("jwks_url");
    let root_certificates = section.parsed("root_certificates_file", |path| {
        std::fs::read(path).map_err(|error| format!("cannot read {path:?}: {error}"))
    });
    let limits = read_limits(section);
    let introspection =
        if section.has("introspection") { Some(section.table("introspection", read_introspection)?) } else { None };

    let (first, others) = audiences.split_first()?;
    let mut policy = others.iter().fold(Policy::access_token(url?, first), Policy::or_audience);
    if !algorithms.is_empty() {
        policy = policy.with_algorithms(algorithms).expect("there is an algorithm");
    }
    if let Some(leeway) = leeway {
        policy = policy.with_leeway(leeway).expect("the leeway is in range");
    }
    if let Some(bytes) = max_token_bytes {
        policy = policy.with_max_token_bytes(bytes as usize);
    }
    Some(IssuerSettings { policy, jwks_url, limits, root_certificates, introspection })
}

fn read_introspection(section: &mut Section<'_>) -> Option<IntrospectionSettings> {
    let url = section.text("url");
    let client_id = section.text("client_id");
    let both = section.has("client_secret") && section.has("client_secret_file");
    let written = section.text("client_secret");
    let read = section.parsed("client_secret_file", |path| {
        let secret = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() { Err(format!("{path:?} is empty")) } else { Ok(secret.to_owned()) }
    });
    if both {
        section.problem("client_secret_file", "cannot be set together with client_secret");
    }
    let cache_ttl = section.duration("cache_ttl", Duration::ZERO..=Duration::from_secs(60));
    match (url, client_id, written.or(read)) {
        (Some(url), Some(client_id), Some(client_secret)) => {
            Some(IntrospectionSettings { url, client_id, client_secret, cache_ttl })
        }
        _ => {
            section.problem("url", "expected url, client_id and client_secret_file");
            None
        }
    }
}

/// That no limit contradicts another is found by the verifier, when it is built.
fn read_limits(section: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    for (key, limit, range) in [
        ("freshness_floor", &mut limits.freshness_floor, AGES),
        ("freshness_default", &mut limits.freshness_default, AGES),
        ("freshness_ceiling", &mut limits.freshness_ceiling, AGES),
        ("trusted", &mut limits.trusted, AGES),
        ("cooldown", &mut limits.cooldown, AGES),
        ("connect_timeout", &mut limits.connect_timeout, DEADLINES),
        ("exchange_deadline", &mut limits.exchange_deadline, DEADLINES),
    ] {
        *limit = section.duration(key, range).unwrap_or(*limit);
    }
    if let Some(keys) = section.integer("max_keys", 1..=1000) {
        limits.max_keys = keys as usize;
    }
    limits
}

const AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 60 * 60);
const DEADLINES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
