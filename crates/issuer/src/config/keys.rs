//! `[keys]` and `[tokens]`: what signs, when it changes, and how long what it signed lives.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use keywheel_jose::Algorithm;
use keywheel_keyring::{RotateEvery, RotationPolicy, RotationSettings, format_duration};

use super::problem::Place;
use super::section::Section;
use crate::clients::Client;

/// `[keys]`: the rings and the policy by which they turn.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// The algorithms to sign with, never empty; the first signs unless a client asks for another. Default ES256, RS256.
    pub algorithms: Vec<Algorithm>,
    /// The size of new RSA keys in bits: 2048, 3072 or 4096. Default 2048; each step makes signing much slower.
    pub rsa_bits: usize,
    /// When keys change, how early they are announced and how long they may be cached, found safe together.
    /// Default: every 30 days, announced for a day.
    pub rotation: RotationPolicy,
    /// How long a rotation waits for regular fetchers of the JWKS that lack the key, at most: 0s to the time between
    /// two rotations. Default 0s, it does not wait.
    pub hold_for_coverage: Duration,
    /// The files with the keys that encrypt private keys in the database, never empty: the first seals, all open.
    /// Default `keywheel-data/kek` alone; relative to the working directory.
    pub encryption_key_files: Vec<PathBuf>,
}

/// `[tokens]`: lifetimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Lifetime of an access token, 1s to 1d. Default 10m; a leaked one is good for as long.
    pub access_ttl: Duration,
    /// Lifetime of an ID token, 1s to 1d. Default 10m; keys stay published for the longer of this and `access_ttl`.
    pub id_ttl: Duration,
    /// Lifetime of a refresh token since its last use, 1s to 365d. Default 30d; a person signs in again after it.
    pub refresh_ttl: Duration,
    /// How long refresh tokens can be renewed after the sign-in, at least `refresh_ttl` and at most 5 years. Default 90d.
    pub refresh_absolute_ttl: Duration,
    /// How long after its use a refresh token gives the same successor again, 0s to 1m. Default 10s; for answers that
    /// were lost. Later use ends all tokens of the grant.
    pub refresh_grace: Duration,
    /// Lifetime of a sign-in in a browser, 1s to 90d. Default 12h.
    pub session_ttl: Duration,
    /// How long a sign-in lives without being used, at most `session_ttl`. Default 2h, or `session_ttl` if that is less.
    pub session_idle_ttl: Duration,
    /// Lifetime of a sign-in that the person asked to be remembered, used or not, 0s to 365d; 0s: nobody is asked.
    /// Default 30d.
    pub remember_ttl: Duration,
    /// Lifetime of an authorization code, 1s to 10m. Default 60s.
    pub code_ttl: Duration,
}

/// The lifetime that decides how long a key stays published, and where it was set.
pub(super) struct LongestTtl {
    duration: Duration,
    place: Place,
    name: &'static str,
}

/// Which of the rotation's settings are held against each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// All: the policy is safe.
    Together,
    /// None: the policy may be unsafe, which only tests in debug builds want.
    #[cfg(debug_assertions)]
    Alone,
}

impl TokenSettings {
    pub(super) fn read(section: &mut Section<'_>) -> (Self, LongestTtl) {
        let refresh_ttl = section.duration("refresh_ttl", seconds(1)..=days(365)).unwrap_or(days(30));
        let refresh_absolute_ttl = section.duration("refresh_absolute_ttl", seconds(1)..=days(5 * 365));
        let session_ttl = section.duration("session_ttl", seconds(1)..=days(90)).unwrap_or(seconds(12 * 3600));
        let session_idle_ttl = section.duration("session_idle_ttl", seconds(1)..=days(90));
        let tokens = TokenSettings {
            access_ttl: section.duration("access_ttl", SIGNED_TTLS).unwrap_or(seconds(600)),
            id_ttl: section.duration("id_ttl", SIGNED_TTLS).unwrap_or(seconds(600)),
            refresh_ttl,
            // A default follows what was set, so that one setting can be changed alone.
            refresh_absolute_ttl: refresh_absolute_ttl.unwrap_or(days(90).max(refresh_ttl)),
            refresh_grace: section.duration("refresh_grace", Duration::ZERO..=seconds(60)).unwrap_or(seconds(10)),
            session_ttl,
            session_idle_ttl: session_idle_ttl.unwrap_or(seconds(2 * 3600).min(session_ttl)),
            remember_ttl: section.duration("remember_ttl", Duration::ZERO..=days(365)).unwrap_or(days(30)),
            // RFC 6749 §4.1.2: "A maximum authorization code lifetime of 10 minutes is RECOMMENDED."
            code_ttl: section.duration("code_ttl", seconds(1)..=seconds(600)).unwrap_or(seconds(60)),
        };
        let at_most =
            |section: &mut Section<'_>, (key, one): (&'static str, Duration), (name, other): (&str, Duration)| {
                if one > other {
                    let [one, other] = [one, other].map(format_duration);
                    section.problem(key, format!("{one} is more than tokens.{name}, which is {other}"));
                }
            };
        let absolute = tokens.refresh_absolute_ttl;
        at_most(section, ("refresh_ttl", tokens.refresh_ttl), ("refresh_absolute_ttl", absolute));
        at_most(section, ("session_idle_ttl", tokens.session_idle_ttl), ("session_ttl", tokens.session_ttl));
        let name = if tokens.id_ttl > tokens.access_ttl { "id_ttl" } else { "access_ttl" };
        let duration = tokens.longest_signed();
        (tokens, LongestTtl { duration, place: section.place_of(name), name })
    }

    /// Lifetime of a client's access tokens: its own, but never longer than keys stay published for.
    #[must_use]
    pub fn access_ttl_of(&self, client: &Client) -> Duration {
        client.access_ttl.map_or(self.access_ttl, |own| own.min(self.longest_signed()))
    }

    /// Lifetime of a client's refresh tokens since their last use.
    #[must_use]
    pub fn refresh_ttl_of(&self, client: &Client) -> Duration {
        client.refresh_ttl.unwrap_or(self.refresh_ttl).min(self.refresh_absolute_ttl)
    }

    /// The lifetime that decides how long a key stays published.
    #[must_use]
    pub fn longest_signed(&self) -> Duration {
        self.access_ttl.max(self.id_ttl)
    }
}

impl KeySettings {
    /// Reads `[keys]`, unless the settings do not make a safe rotation; and the algorithms in any case, for the clients
    /// to be held against.
    pub(super) fn read(
        section: &mut Section<'_>,
        longest: &LongestTtl,
        checked: Checked,
    ) -> (Vec<Algorithm>, Option<Self>) {
        let algorithms = section.non_empty_list("algorithms", "an algorithm to sign with", parse_algorithm);
        let algorithms = algorithms.unwrap_or_else(|| vec![Algorithm::ES256, Algorithm::RS256]);
        let rsa_bits = section.integer("rsa_bits", 2048..=4096).unwrap_or(2048);
        if !RSA_BITS.contains(&rsa_bits) {
            section.problem("rsa_bits", format!("expected 2048, 3072 or 4096, found {rsa_bits}"));
        }
        let encryption_key_files = section.one_or_more("encryption_key_file", "a file", parse_path);
        let hold_for_coverage = section.duration("hold_for_coverage", Duration::ZERO..=Duration::MAX);
        let hold_for_coverage = hold_for_coverage.unwrap_or(Duration::ZERO);
        let keys = read_rotation(section, longest, checked).map(|rotation| KeySettings {
            algorithms: algorithms.clone(),
            rsa_bits: rsa_bits as usize,
            rotation,
            hold_for_coverage,
            encryption_key_files: encryption_key_files.unwrap_or_else(|| vec![PathBuf::from("keywheel-data/kek")]),
        });
        if let Some(keys) = &keys {
            refuse_holding_past_the_next(section, keys);
        }
        (algorithms, keys)
    }
}

/// The rotation policy. A setting that could not be read is told alone: to compare the others with its default would
/// mislead.
fn read_rotation(section: &mut Section<'_>, longest: &LongestTtl, checked: Checked) -> Option<RotationPolicy> {
    let problems_before = section.problem_count();
    section.one_of(&["rotate_every", "rotate_at"]);
    let defaults = RotationSettings::default();
    let mut duration = |key| section.duration(key, Duration::ZERO..=Duration::MAX);
    let interval = duration("rotate_every").map(RotateEvery::Interval);
    let settings = RotationSettings {
        announce: duration("announce").unwrap_or(defaults.announce),
        jwks_max_age: duration("jwks_max_age").unwrap_or(defaults.jwks_max_age),
        jwks_shared_max_age: duration("jwks_shared_max_age"),
        clock_skew: duration("clock_skew").unwrap_or(defaults.clock_skew),
        poll: duration("poll").unwrap_or(defaults.poll),
        max_staleness: duration("max_staleness"),
        max_token_ttl: longest.duration,
        rotate: section.text("rotate_at").map(RotateEvery::Cron).or(interval).unwrap_or(defaults.rotate),
    };
    if section.problem_count() > problems_before {
        return None;
    }
    let policy = match checked {
        Checked::Together => RotationPolicy::new(settings),
        #[cfg(debug_assertions)]
        Checked::Alone => RotationPolicy::insecure_new(settings),
    };
    match policy {
        Ok(policy) => Some(policy),
        Err(violations) => {
            for violation in violations {
                let (place, name) = match violation.setting {
                    "max_token_ttl" => (longest.place.clone(), format!("tokens.{}", longest.name)),
                    setting => (section.place_of(setting), format!("keys.{setting}")),
                };
                section.problem_of_all(place, format!("{name}: {violation}"));
            }
            None
        }
    }
}

/// A rotation that waits until the next one is due would be one rotation less.
fn refuse_holding_past_the_next(section: &mut Section<'_>, keys: &KeySettings) {
    let (hold, gap) = (keys.hold_for_coverage, keys.rotation.slots().smallest_gap());
    if hold > gap {
        let [hold, gap] = [hold, gap].map(format_duration);
        let message = format!("{hold} is too long: rotations are {gap} apart, so it may be {gap} at most");
        section.problem("hold_for_coverage", message);
    }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    ALGORITHMS.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
        let near = super::nearest(text, ALGORITHMS.iter().map(|algorithm| (algorithm.as_str(), algorithm)));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("this version does not sign with {text:?}, only with ES256, RS256, PS256 and EdDSA{near}")
    })
}

fn parse_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected a path, found an empty string") } else { Ok(PathBuf::from(text)) }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

/// What this version signs with.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::ES256, Algorithm::RS256, Algorithm::PS256, Algorithm::EdDSA];

const RSA_BITS: [u32; 3] = [2048, 3072, 4096];

/// Nobody can take a signed token back, so a day is long already.
const SIGNED_TTLS: RangeInclusive<Duration> = seconds(1)..=days(1);
