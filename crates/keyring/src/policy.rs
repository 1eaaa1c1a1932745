//! The durations of a rotation, and the inequalities that make them safe.
//!
//! A policy can only be had by [`RotationPolicy::new`], which reports every broken inequality at once, with the numbers in
//! it and the value that would do. What follows elsewhere may therefore rely on all of them:
//!
//! 1. `announce ≥ jwks_max_age + jwks_shared_max_age + replica_convergence + clock_skew`
//! 2. a key stays published for `max_token_ttl + 3 × clock_skew` after it stopped signing ([`RotationPolicy::retention`])
//! 3. rotations are at least `announce + clock_skew` apart
//! 4. `replica_convergence ≤ max_staleness ≤ announce − clock_skew`
//! 5. a set is answered only while the rows were read within [`RotationPolicy::jwks_staleness_bound`]

use std::time::Duration;

use keywheel_jose::Timestamp;

use crate::duration::format_duration;
use crate::slots::Slots;

const SECOND: Duration = Duration::from_secs(1);

/// Nothing here may be longer: sums of such durations and instants cannot overflow.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

/// How long a replica signs on rows it cannot refresh, unless told otherwise: long enough for a database failover, short
/// for a revocation to go unnoticed.
const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(10 * 60);

/// A successor is prepared at least this long before it is published, so that a slow key generation is never in the way.
const LEAST_PREPARATION: Duration = Duration::from_secs(60);

/// When the signing key changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotateEvery {
    /// `rotate_every`: this long after the predecessor began to sign.
    Interval(Duration),
    /// `rotate_at`: at the instants of a six-field cron expression in UTC.
    Cron(String),
}

/// What an operator configures; [`RotationPolicy::new`] decides whether it is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationSettings {
    /// `rotate_every` or `rotate_at`; default every 30 days.
    pub rotate: RotateEvery,
    /// How long a key is published before it signs; default one day.
    pub announce: Duration,
    /// How long a verifier may cache the JWKS; default 5 minutes.
    pub jwks_max_age: Duration,
    /// How long a shared cache may age the JWKS besides; default a tenth of `jwks_max_age`, at least one second.
    pub jwks_shared_max_age: Option<Duration>,
    /// How far two clocks may differ; default 30 seconds.
    pub clock_skew: Duration,
    /// How often a replica reads the rows; default 15 seconds.
    pub poll: Duration,
    /// How long a replica signs on rows it cannot refresh; default 10 minutes, or what the inequalities leave of it.
    pub max_staleness: Option<Duration>,
    /// The longest lifetime of any token; default 10 minutes.
    pub max_token_ttl: Duration,
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self {
            rotate: RotateEvery::Interval(Duration::from_secs(30 * 86_400)),
            announce: Duration::from_secs(86_400),
            jwks_max_age: Duration::from_secs(5 * 60),
            jwks_shared_max_age: None,
            clock_skew: Duration::from_secs(30),
            poll: Duration::from_secs(15),
            max_staleness: None,
            max_token_ttl: Duration::from_secs(10 * 60),
        }
    }
}

/// One reason a policy is refused. `Display` gives the whole sentence, ready for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Violation {
    /// The setting to change, by its name in the configuration (`max_token_ttl` stands for the longest of `[tokens]`).
    pub setting: &'static str,
    /// The inequality in words, the numbers in it, and the value that would do.
    pub message: String,
    /// The value nearest to the configured one that would do, as it is written in the configuration; `None` where no
    /// duration helps.
    pub remedy: Option<String>,
}

/// Durations that have been found safe together.
#[derive(Clone, Debug)]
pub struct RotationPolicy {
    slots: Slots,
    announce: Duration,
    jwks_max_age: Duration,
    jwks_shared_max_age: Duration,
    clock_skew: Duration,
    poll: Duration,
    max_staleness: Duration,
    max_token_ttl: Duration,
}

impl RotationPolicy {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Every [`Violation`], never only the first. Durations that are out of range by themselves are reported alone, since
    /// sums of them would mean nothing.
    pub fn new(settings: RotationSettings) -> Result<Self, Vec<Violation>> {
        let mut violations = ranges(&settings);
        let (rotate_setting, slots) = match &settings.rotate {
            RotateEvery::Interval(interval) => ("rotate_every", Ok(Slots::every(*interval))),
            RotateEvery::Cron(text) => ("rotate_at", Slots::cron(text)),
        };
        let slots = match slots {
            Ok(slots) => slots,
            Err(error) => {
                let RotateEvery::Cron(text) = &settings.rotate else { unreachable!("an interval is always a slot") };
                violations.push(Violation {
                    setting: rotate_setting,
                    message: format!("{rotate_setting} = {text:?} {error}"),
                    remedy: None,
                });
                return Err(violations);
            }
        };
        if !violations.is_empty() {
            return Err(violations);
        }
        let explicit_staleness = settings.max_staleness.is_some();
        let policy = Self::unchecked(settings, slots);
        policy.check_announce(&mut violations);
        policy.check_rotation(rotate_setting, &mut violations);
        if explicit_staleness {
            policy.check_staleness(&mut violations);
        }
        if violations.is_empty() { Ok(policy) } else { Err(violations) }
    }

    fn unchecked(settings: RotationSettings, slots: Slots) -> Self {
        let jwks_shared_max_age = settings
            .jwks_shared_max_age
            .unwrap_or_else(|| Duration::from_secs(settings.jwks_max_age.as_secs() / 10).max(SECOND));
        // A slow poll wants more than ten minutes, a short announcement allows only less. Where `announce` is safe the
        // two bounds do not cross.
        let max_staleness = settings.max_staleness.unwrap_or_else(|| {
            DEFAULT_MAX_STALENESS.max(2 * settings.poll).min(settings.announce.saturating_sub(settings.clock_skew))
        });
        Self {
            slots,
            announce: settings.announce,
            jwks_max_age: settings.jwks_max_age,
            jwks_shared_max_age,
            clock_skew: settings.clock_skew,
            poll: settings.poll,
            max_staleness,
            max_token_ttl: settings.max_token_ttl,
        }
    }

    /// A policy nobody checked, for the tests that show what each inequality is for.
    #[cfg(test)]
    pub(crate) fn unsafe_for_tests(settings: RotationSettings) -> Self {
        let slots = match &settings.rotate {
            RotateEvery::Interval(interval) => Slots::every(*interval),
            RotateEvery::Cron(text) => Slots::cron(text).expect("a valid expression"),
        };
        Self::unchecked(settings, slots)
    }

    /// When a rotation may fall.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// How long a key is published, at least, before it signs.
    pub fn announce(&self) -> Duration {
        self.announce
    }

    /// How long a verifier may cache a set: `max-age`.
    pub fn jwks_max_age(&self) -> Duration {
        self.jwks_max_age
    }

    /// How long a shared cache may keep a set: `s-maxage`. Many clients ignore `Age`, so it adds to their own.
    pub fn jwks_shared_max_age(&self) -> Duration {
        self.jwks_shared_max_age
    }

    /// How far two clocks may differ.
    pub fn clock_skew(&self) -> Duration {
        self.clock_skew
    }

    /// How often a replica reads the rows.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// How long a replica goes on signing after the start of its last successful read of the rows.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// The longest lifetime of any token.
    pub fn max_token_ttl(&self) -> Duration {
        self.max_token_ttl
    }

    /// By when every reachable replica knows a new row: two polls, which is one period and one timeout.
    pub fn replica_convergence(&self) -> Duration {
        2 * self.poll
    }

    /// How long a key stays published after it stopped signing.
    ///
    /// Its last signer's clock may be behind, the publisher's ahead, and the verifier's behind or lenient.
    pub fn retention(&self) -> Duration {
        self.max_token_ttl + 3 * self.clock_skew
    }

    /// How long before its publication a key is created: every replica knows the row in time, and a tick or a key
    /// generation that fails can be made up for.
    pub fn prepare_ahead(&self) -> Duration {
        LEAST_PREPARATION.max(2 * (self.replica_convergence() + self.clock_skew)).min(self.slots.smallest_gap())
    }

    /// The most keys of one ring that are published at once while rotations keep to the timetable.
    pub fn max_published_keys(&self) -> usize {
        let gap = self.slots.smallest_gap().max(SECOND);
        let retiring = (self.retention() + self.announce).as_secs().div_ceil(gap.as_secs());
        2 + usize::try_from(retiring).unwrap_or(usize::MAX - 2)
    }

    /// How old the last read of the rows may be for a set still to be answered; past it a replica might hand out a set
    /// without a key that others are about to sign with.
    ///
    /// Never less than [`replica_convergence`](Self::replica_convergence), by the first inequality.
    pub fn jwks_staleness_bound(&self) -> Duration {
        self.announce
            .saturating_sub(self.jwks_max_age + self.jwks_shared_max_age + self.clock_skew)
            .max(self.replica_convergence())
    }

    /// When the successor of a key that signs from `predecessor` may sign, being published from `publish_at`.
    pub fn next_sign_from(&self, predecessor: Timestamp, publish_at: Timestamp) -> Timestamp {
        self.slots.next(predecessor, publish_at + self.announce)
    }

    /// Why this policy is safe, a sentence for each inequality with its numbers.
    pub fn explain(&self) -> Vec<String> {
        let [announce, max_age, shared, skew, staleness, ttl] = [
            self.announce,
            self.jwks_max_age,
            self.jwks_shared_max_age,
            self.clock_skew,
            self.max_staleness,
            self.max_token_ttl,
        ]
        .map(format_duration);
        let least_gap = format_duration(self.slots.smallest_gap());
        vec![
            format!(
                "announce ({announce}) ≥ {}: every verifier has fetched a key before a token carries it",
                self.announce_terms()
            ),
            format!(
                "a key stays published for {} after it stops signing = longest token ({ttl}) + 3 × clock_skew ({skew}): no token outlives its key",
                format_duration(self.retention())
            ),
            format!(
                "rotations are at least {least_gap} apart ≥ announce ({announce}) + clock_skew ({skew}): a standby is always ready, and at most {} keys of an algorithm are published",
                self.max_published_keys()
            ),
            format!(
                "max_staleness ({staleness}) ≤ announce ({announce}) − clock_skew ({skew}): a replica cut off from the database stops signing before a key it has not heard of starts"
            ),
            format!(
                "a JWKS is answered while the rows were read within {} = announce ({announce}) − jwks_max_age ({max_age}) − jwks_shared_max_age ({shared}) − clock_skew ({skew}): no set without a key that others are about to sign with",
                format_duration(self.jwks_staleness_bound())
            ),
        ]
    }

    fn least_announce(&self) -> Duration {
        self.jwks_max_age + self.jwks_shared_max_age + self.replica_convergence() + self.clock_skew
    }

    fn announce_terms(&self) -> String {
        format!(
            "jwks_max_age ({}) + jwks_shared_max_age ({}) + replica_convergence (2 × poll = {}) + clock_skew ({}) = {}",
            format_duration(self.jwks_max_age),
            format_duration(self.jwks_shared_max_age),
            format_duration(self.replica_convergence()),
            format_duration(self.clock_skew),
            format_duration(self.least_announce()),
        )
    }

    /// Inequality 1, and with it 5.
    fn check_announce(&self, violations: &mut Vec<Violation>) {
        if self.announce < self.least_announce() {
            violations.push(Violation {
                setting: "announce",
                message: format!(
                    "announce = \"{}\" is too short: it must be at least {}",
                    format_duration(self.announce),
                    self.announce_terms()
                ),
                remedy: Some(format_duration(self.least_announce())),
            });
        }
    }

    /// Inequality 3. Where `announce` is too short as well, the gap is held against the one that would do, so that
    /// following both messages is enough.
    fn check_rotation(&self, setting: &'static str, violations: &mut Vec<Violation>) {
        let gap = self.slots.smallest_gap();
        let announce = self.announce.max(self.least_announce());
        let least = announce + self.clock_skew;
        if gap >= least {
            return;
        }
        let subject = match setting {
            "rotate_every" => format!("rotate_every = \"{}\" is too short: it", format_duration(gap)),
            _ => format!(
                "rotate_at fires too often: two of its instants are {} apart, and the gap",
                format_duration(gap)
            ),
        };
        violations.push(Violation {
            setting,
            message: format!(
                "{subject} must be at least announce ({}) + clock_skew ({}) = {}, so that a standby is always ready",
                format_duration(announce),
                format_duration(self.clock_skew),
                format_duration(least),
            ),
            remedy: Some(format_duration(least)),
        });
    }

    /// Inequality 4, and its lower end: a healthy replica must never stop signing between two polls.
    fn check_staleness(&self, violations: &mut Vec<Violation>) {
        let shown = format_duration(self.max_staleness);
        let least = self.replica_convergence();
        if self.max_staleness < least {
            violations.push(Violation {
                setting: "max_staleness",
                message: format!(
                    "max_staleness = \"{shown}\" is too short: it must be at least replica_convergence (2 × poll = {}), or a healthy replica stops signing between two polls",
                    format_duration(least)
                ),
                remedy: Some(format_duration(least)),
            });
        }
        let announce = self.announce.max(self.least_announce());
        let most = announce - self.clock_skew;
        if self.max_staleness > most {
            violations.push(Violation {
                setting: "max_staleness",
                message: format!(
                    "max_staleness = \"{shown}\" is too long: it must be at most announce ({}) − clock_skew ({}) = {}, so that a replica cut off from the database stops signing before a key it has not heard of starts",
                    format_duration(announce),
                    format_duration(self.clock_skew),
                    format_duration(most)
                ),
                remedy: Some(format_duration(most)),
            });
        }
    }
}

/// What can be said of each duration by itself: whole seconds, not absurdly long, not zero where zero means nothing.
fn ranges(settings: &RotationSettings) -> Vec<Violation> {
    let interval = match settings.rotate {
        RotateEvery::Interval(interval) => Some(interval),
        RotateEvery::Cron(_) => None,
    };
    let rows = [
        ("rotate_every", interval, SECOND),
        ("announce", Some(settings.announce), Duration::ZERO),
        ("jwks_max_age", Some(settings.jwks_max_age), SECOND),
        ("jwks_shared_max_age", settings.jwks_shared_max_age, Duration::ZERO),
        ("clock_skew", Some(settings.clock_skew), Duration::ZERO),
        ("poll", Some(settings.poll), SECOND),
        ("max_staleness", settings.max_staleness, Duration::ZERO),
        ("max_token_ttl", Some(settings.max_token_ttl), SECOND),
    ];
    let mut violations = Vec::new();
    for (setting, value, least) in rows {
        let Some(value) = value else { continue };
        let shown = format_duration(value);
        let (message, remedy) = if value < least {
            (format!("{setting} = \"{shown}\" is too short: it must be at least 1s"), SECOND)
        } else if value > LONGEST {
            (
                format!(
                    "{setting} = \"{shown}\" is too long: it must be at most {} (ten years)",
                    format_duration(LONGEST)
                ),
                LONGEST,
            )
        } else if value.subsec_nanos() != 0 {
            let next = Duration::from_secs(value.as_secs() + 1);
            (
                format!(
                    "{setting} = {value:?} has a fraction: it must be whole seconds, for example {}",
                    format_duration(next)
                ),
                next,
            )
        } else {
            continue;
        };
        violations.push(Violation { setting, message, remedy: Some(format_duration(remedy)) });
    }
    violations
}
