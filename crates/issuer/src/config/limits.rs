//! `[limits]`, `[outgoing]` and `[hooks]`: how often strangers may try, whom the issuer may call, and whom it tells.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::secret::Secret;
use super::section::Section;
use crate::clients::WebUri;

/// `[limits]`: how often somebody may fail to sign in, and how much hashing that may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// How many wrong passwords an account takes within `account_window` before it waits, 1 to 1000. Default 10.
    pub account_failures: u32,
    /// How long a wrong password counts, 1s to 1d. Default 15m.
    pub account_window: Duration,
    /// How long an account then waits, 1s to 1d. Default 5m; short, because a stranger can cause it.
    pub account_lock: Duration,
    /// How many failures one address may cause within `address_window` before it waits, 1 to 100000. Default 50; many
    /// people can share an address.
    pub address_failures: u32,
    /// How long a failure of an address counts, and how long the address then waits, 1s to 1d. Default 15m.
    pub address_window: Duration,
    /// How many passwords may be hashed at once, 1 to 64. Default: as many as there are processors; each takes one and
    /// 19 MiB, more wait.
    pub password_concurrency: usize,
}

/// `[outgoing]`: requests that the issuer makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingSettings {
    /// May clients' addresses (`jwks_uri`, back-channel logout) be private or loopback ones? Default false.
    pub allow_private: bool,
}

/// `[hooks]`: whom the issuer tells what people and clients do.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// Where events are posted to.
    pub url: WebUri,
    /// What the posts are signed with, 32 characters at least.
    pub secret: Secret,
}

impl HookSettings {
    /// `None` where there is no hook, or a problem was reported.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.parsed("url", WebUri::parse);
        let secret = section.secret("secret", "secret_file");
        match (url, secret) {
            (Some(url), Some(secret)) if secret.expose().chars().count() >= MIN_SECRET_CHARACTERS => {
                Some(Self { url, secret })
            }
            (Some(_), Some(_)) => {
                section.problem("secret", format!("must have at least {MIN_SECRET_CHARACTERS} characters"));
                None
            }
            (Some(_), None) => {
                section.problem("url", "needs a secret or secret_file, by which the receiver knows us".to_owned());
                None
            }
            _ => None,
        }
    }
}

impl LimitSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        LimitSettings {
            account_failures: section.integer("account_failures", 1..=1000).unwrap_or(10),
            account_window: section.duration("account_window", WINDOWS).unwrap_or(DEFAULT_WINDOW),
            account_lock: section.duration("account_lock", WINDOWS).unwrap_or(DEFAULT_LOCK),
            address_failures: section.integer("address_failures", 1..=100_000).unwrap_or(50),
            address_window: section.duration("address_window", WINDOWS).unwrap_or(DEFAULT_WINDOW),
            password_concurrency: section.integer("password_concurrency", 1..=64).unwrap_or_else(processors) as usize,
        }
    }
}

impl OutgoingSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        OutgoingSettings { allow_private: section.boolean("allow_private").unwrap_or(false) }
    }
}

const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// As long as the MAC.
const MIN_SECRET_CHARACTERS: usize = 32;

/// Ten guesses in a quarter of an hour are a thousand a day: no help against any password that is accepted.
const DEFAULT_WINDOW: Duration = Duration::from_secs(15 * 60);
const DEFAULT_LOCK: Duration = Duration::from_secs(5 * 60);

/// How many of them the process may use, up to as many as can be configured.
fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(64) as u32)
}
