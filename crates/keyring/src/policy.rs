//! The durations of a rotation, and the inequalities that make them safe.
//!
//! A policy can only be had by [`RotationPolicy::new`], which reports every broken inequality at once, with the numbers
//! in it and the value that would do. What follows elsewhere may therefore rely on all of them:
//!
//! 1. `announce ≥ jwks_max_age + jwks_shared_max_age + replica_convergence + clock_skew`
//! 2. a key stays published for `max_token_ttl + 3 × clock_skew` after it stopped signing
//!    ([`RotationPolicy::retention`])
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

/// How long a replica signs on rows it cannot refresh, unless told otherwise: long enough for a database failover, and
/// short enough that a revocation is not missed for long.
const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(10 * 60);

/// A successor is prepared at least this long before it is published, so that a slow key generation is never in the
/// way.
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
    /// False only where a test wants to see what the inequalities are for: nothing is mended then.
    pub(crate) is_safe: bool,
}

impl RotationPolicy {
    /// Checks the settings by themselves and against each other.
    ///
    /// # Errors
    /// Every [`Violation`], never only the first. A setting that is out of range by itself is held against the others
    /// as if it had been mended.
    pub fn new(mut settings: RotationSettings) -> Result<Self, Vec<Violation>> {
        let mut violations = mend_ranges(&mut settings);
        let (rotate_setting, slots) = read_slots(&settings.rotate, &mut violations);
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
            is_safe: true,
        }
    }

    /// A policy whose settings were checked by themselves only, so that a whole program can be seen to fail by it.
    /// Release builds do not have it.
    ///
    /// # Errors
    /// The [`Violation`]s of single settings.
    #[doc(hidden)]
    #[cfg(debug_assertions)]
    pub fn insecure_new(mut settings: RotationSettings) -> Result<Self, Vec<Violation>> {
        let mut violations = mend_ranges(&mut settings);
        let (_, slots) = read_slots(&settings.rotate, &mut violations);
        if violations.is_empty() {
            Ok(Self { is_safe: false, ..Self::unchecked(settings, slots) })
        } else {
            Err(violations)
        }
    }

    /// The same policy with a longer announcement, which is always safe.
    pub(crate) fn with_announce(self, announce: Duration) -> Self {
        Self { announce, ..self }
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
        self.slots.next(predecessor, publish_at + self.announcement())
    }

    /// How far the clocks of two replicas may be apart: each may be off by `clock_skew` from the database's.
    pub fn clock_spread(&self) -> Duration {
        2 * self.clock_skew
    }

    /// How long a key is published before it signs. Inequality 1 has one `clock_skew`, and two replicas' clocks may be
    /// apart by two: a key that was made in time is published for as much longer by inequality 3, a late one by this.
    pub fn announcement(&self) -> Duration {
        self.announce + self.clock_skew
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
                "a key stays published for {} after it stops signing = longest token ({ttl}) + 3 × clock_skew \
                 ({skew}): no token outlives its key",
                format_duration(self.retention())
            ),
            format!(
                "rotations are at least {least_gap} apart ≥ announce ({announce}) + clock_skew ({skew}): a standby is \
                 always ready, and at most {} keys of an algorithm are published",
                self.max_published_keys()
            ),
            format!(
                "max_staleness ({staleness}) ≤ announce ({announce}) − clock_skew ({skew}): a replica cut off from the \
                 database stops signing before a key it has not heard of starts"
            ),
            format!(
                "a JWKS is answered while the rows were read within {} = announce ({announce}) − jwks_max_age \
                 ({max_age}) − jwks_shared_max_age ({shared}) − clock_skew ({skew}): no set without a key that others \
                 are about to sign with",
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
                    "max_staleness = \"{shown}\" is too short: it must be at least replica_convergence (2 × poll = \
                     {}), or a healthy replica stops signing between two polls",
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
                    "max_staleness = \"{shown}\" is too long: it must be at most announce ({}) − clock_skew ({}) = {}, \
                     so that a replica cut off from the database stops signing before a key it has not heard of \
                     starts",
                    format_duration(announce),
                    format_duration(self.clock_skew),
                    format_duration(most)
                ),
                remedy: Some(format_duration(most)),
            });
        }
    }
}

/// The slots, with the setting that names them; a cron expression that is none is told and never fires.
fn read_slots(rotate: &RotateEvery, violations: &mut Vec<Violation>) -> (&'static str, Slots) {
    match rotate {
        RotateEvery::Interval(interval) => ("rotate_every", Slots::every(*interval)),
        RotateEvery::Cron(text) => {
            let slots = Slots::cron(text).unwrap_or_else(|error| {
                violations.push(Violation {
                    setting: "rotate_at",
                    message: format!("rotate_at = {text:?} {error}"),
                    remedy: None,
                });
                Slots::every(2 * LONGEST)
            });
            ("rotate_at", slots)
        }
    }
}

/// What can be said of each duration by itself: whole seconds, not absurdly long, not zero where zero means nothing.
/// Each is mended, so that the sums of the inequalities mean something.
fn mend_ranges(settings: &mut RotationSettings) -> Vec<Violation> {
    let interval = match &mut settings.rotate {
        RotateEvery::Interval(interval) => Some(interval),
        RotateEvery::Cron(_) => None,
    };
    let rows = [
        ("rotate_every", interval, SECOND),
        ("announce", Some(&mut settings.announce), Duration::ZERO),
        ("jwks_max_age", Some(&mut settings.jwks_max_age), SECOND),
        ("jwks_shared_max_age", settings.jwks_shared_max_age.as_mut(), Duration::ZERO),
        ("clock_skew", Some(&mut settings.clock_skew), Duration::ZERO),
        ("poll", Some(&mut settings.poll), SECOND),
        ("max_staleness", settings.max_staleness.as_mut(), Duration::ZERO),
        ("max_token_ttl", Some(&mut settings.max_token_ttl), SECOND),
    ];
    let mut violations = Vec::new();
    for (setting, value, least) in rows {
        let Some(value) = value else { continue };
        let shown = format_duration(*value);
        let (message, mended) = if *value > LONGEST {
            let most = format_duration(LONGEST);
            (format!("{setting} = \"{shown}\" is too long: it must be at most {most} (ten years)"), LONGEST)
        } else if value.subsec_nanos() != 0 {
            let next = Duration::from_secs(value.as_secs() + 1);
            let whole = format_duration(next);
            (format!("{setting} = {value:?} has a fraction: it must be whole seconds, for example {whole}"), next)
        } else if *value < least {
            (format!("{setting} = \"{shown}\" is too short: it must be at least {}", format_duration(least)), least)
        } else {
            continue;
        };
        *value = mended;
        violations.push(Violation { setting, message, remedy: Some(format_duration(mended)) });
    }
    violations
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::duration::parse_duration;

    fn seconds(text: &str) -> Duration {
        parse_duration(text).expect("a duration")
    }

    fn settings() -> RotationSettings {
        RotationSettings::default()
    }

    fn policy(settings: RotationSettings) -> RotationPolicy {
        RotationPolicy::new(settings).expect("a safe policy")
    }

    /// The one violation of these settings: its setting, message and remedy.
    fn refused(settings: RotationSettings) -> (&'static str, String, Option<String>) {
        let violations = RotationPolicy::new(settings).expect_err("an unsafe policy");
        let [violation] = violations.as_slice() else { panic!("one violation expected: {violations:?}") };
        (violation.setting, violation.to_string(), violation.remedy.clone())
    }

    #[test]
    fn the_defaults_are_safe() {
        let policy = policy(settings());

        assert_eq!(policy.jwks_shared_max_age(), seconds("30s"));
        assert_eq!(policy.max_staleness(), seconds("10m"));
        assert_eq!(policy.retention(), seconds("11m30s"));
        assert_eq!(policy.prepare_ahead(), seconds("2m"));
        assert_eq!(policy.max_published_keys(), 3);
        assert_eq!(policy.jwks_staleness_bound(), seconds("23h54m"));
    }

    #[test]
    fn an_announcement_shorter_than_the_caches_is_refused() {
        let (setting, message, remedy) = refused(RotationSettings { announce: seconds("4s"), ..settings() });

        assert_eq!(setting, "announce");
        assert_eq!(
            message,
            "announce = \"4s\" is too short: it must be at least jwks_max_age (5m) + jwks_shared_max_age (30s) + \
             replica_convergence (2 × poll = 30s) + clock_skew (30s) = 6m30s"
        );
        assert_eq!(remedy.as_deref(), Some("6m30s"));
    }

    #[test]
    fn rotations_too_close_for_a_standby_are_refused() {
        let (setting, message, remedy) =
            refused(RotationSettings { rotate: RotateEvery::Interval(seconds("1d")), ..settings() });

        assert_eq!(setting, "rotate_every");
        assert_eq!(
            message,
            "rotate_every = \"1d\" is too short: it must be at least announce (1d) + clock_skew (30s) = 1d30s, so that \
             a \
             standby is always ready"
        );
        assert_eq!(remedy.as_deref(), Some("1d30s"));
    }

    #[test]
    fn cron_slots_too_close_for_a_standby_are_refused() {
        let cron = RotateEvery::Cron("0 0 3 * * Sat,Sun".to_owned());
        let (setting, message, _) = refused(RotationSettings { rotate: cron, ..settings() });

        assert_eq!(setting, "rotate_at");
        assert_eq!(
            message,
            "rotate_at fires too often: two of its instants are 1d apart, and the gap must be at least announce (1d) + \
             clock_skew (30s) = 1d30s, so that a standby is always ready"
        );
    }

    #[test]
    fn a_cron_expression_that_is_none_is_refused() {
        let cron = RotateEvery::Cron("0 3 * * Sun".to_owned());
        let (setting, message, remedy) = refused(RotationSettings { rotate: cron, ..settings() });

        assert_eq!(setting, "rotate_at");
        assert!(message.starts_with("rotate_at = \"0 3 * * Sun\" has 5 fields, expected 6"), "{message}");
        assert_eq!(remedy, None);
    }

    #[test]
    fn signing_on_rows_older_than_the_announcement_is_refused() {
        let (setting, message, remedy) = refused(RotationSettings { max_staleness: Some(seconds("1d")), ..settings() });

        assert_eq!(setting, "max_staleness");
        assert!(message.contains("at most announce (1d) − clock_skew (30s) = 23h59m30s"), "{message}");
        assert_eq!(remedy.as_deref(), Some("23h59m30s"));
    }

    #[test]
    fn a_healthy_replica_must_not_stop_between_two_polls() {
        let (setting, message, remedy) =
            refused(RotationSettings { max_staleness: Some(seconds("29s")), ..settings() });

        assert_eq!(setting, "max_staleness");
        assert!(message.contains("at least replica_convergence (2 × poll = 30s)"), "{message}");
        assert_eq!(remedy.as_deref(), Some("30s"));
    }

    #[test]
    fn durations_of_nothing_are_refused() {
        let zero = Duration::ZERO;
        let violations = RotationPolicy::new(RotationSettings {
            rotate: RotateEvery::Interval(zero),
            jwks_max_age: zero,
            poll: zero,
            max_token_ttl: zero,
            ..settings()
        })
        .expect_err("four zeros");

        let named: Vec<_> = violations.iter().map(|violation| violation.setting).collect();
        assert_eq!(named, ["rotate_every", "jwks_max_age", "poll", "max_token_ttl", "rotate_every"]);
        assert_eq!(violations[2].to_string(), "poll = \"0s\" is too short: it must be at least 1s");
    }

    #[test]
    fn durations_no_sum_could_hold_are_refused() {
        let (setting, message, remedy) =
            refused(RotationSettings { max_token_ttl: Duration::from_secs(u64::MAX), ..settings() });

        assert_eq!(setting, "max_token_ttl");
        assert!(message.ends_with("is too long: it must be at most 3650d (ten years)"), "{message}");
        assert_eq!(remedy.as_deref(), Some("3650d"));
    }

    #[test]
    fn a_fraction_of_a_second_is_refused() {
        let (setting, message, remedy) =
            refused(RotationSettings { clock_skew: Duration::from_millis(1_500), ..settings() });

        assert_eq!(setting, "clock_skew");
        assert_eq!(message, "clock_skew = 1.5s has a fraction: it must be whole seconds, for example 2s");
        assert_eq!(remedy.as_deref(), Some("2s"));
    }

    #[test]
    fn all_problems_are_reported_together() {
        let violations = RotationPolicy::new(RotationSettings {
            rotate: RotateEvery::Cron("never".to_owned()),
            announce: seconds("1m"),
            max_staleness: Some(seconds("1s")),
            ..settings()
        })
        .expect_err("three problems");

        let named: Vec<_> = violations.iter().map(|violation| violation.setting).collect();
        assert_eq!(named, ["rotate_at", "announce", "max_staleness"]);
    }

    #[test]
    fn a_slow_poll_signs_on_rows_as_old_as_its_convergence() {
        let policy = policy(RotationSettings { poll: seconds("1h"), ..settings() });

        assert_eq!(policy.max_staleness(), seconds("2h"));
    }

    #[test]
    fn a_whole_rotation_fits_into_seconds() {
        let policy = policy(RotationSettings {
            rotate: RotateEvery::Interval(seconds("5s")),
            announce: seconds("4s"),
            jwks_max_age: seconds("1s"),
            clock_skew: seconds("0s"),
            poll: seconds("1s"),
            max_token_ttl: seconds("3s"),
            ..settings()
        });

        assert_eq!(policy.jwks_shared_max_age(), seconds("1s"));
        assert_eq!(policy.max_staleness(), seconds("4s"));
        assert_eq!(policy.max_published_keys(), 4);
    }

    #[test]
    fn every_inequality_is_explained_with_its_numbers() {
        let rows = policy(settings()).explain();

        assert_eq!(rows.len(), 5);
        assert!(rows[0].starts_with("announce (1d) ≥ jwks_max_age (5m)"), "{}", rows[0]);
        assert!(rows[1].contains("11m30s") && rows[1].contains("3 × clock_skew (30s)"), "{}", rows[1]);
        assert!(rows[2].contains("30d apart"), "{}", rows[2]);
        assert!(rows[3].contains("max_staleness (10m)"), "{}", rows[3]);
        assert!(rows[4].contains("23h54m"), "{}", rows[4]);
    }

    proptest! {
        /// Whatever is configured: following the remedies, once, gives a policy.
        #[test]
        fn the_remedies_are_enough(
            rotate in 0_u64..100_000, announce in 0_u64..100_000, max_age in 0_u64..10_000, shared in 0_u64..10_000,
            skew in 0_u64..1_000, poll in 0_u64..1_000, staleness in 0_u64..100_000,
        ) {
            let mut settings = RotationSettings {
                rotate: RotateEvery::Interval(Duration::from_secs(rotate)),
                announce: Duration::from_secs(announce),
                jwks_max_age: Duration::from_secs(max_age),
                jwks_shared_max_age: Some(Duration::from_secs(shared)),
                clock_skew: Duration::from_secs(skew),
                poll: Duration::from_secs(poll),
                max_staleness: Some(Duration::from_secs(staleness)),
                ..RotationSettings::default()
            };
            for violation in RotationPolicy::new(settings.clone()).err().unwrap_or_default() {
                let remedy = seconds(&violation.remedy.expect("every one of these has a remedy"));
                match violation.setting {
                    "rotate_every" => settings.rotate = RotateEvery::Interval(remedy),
                    "announce" => settings.announce = remedy,
                    "jwks_max_age" => settings.jwks_max_age = remedy,
                    "poll" => settings.poll = remedy,
                    "max_staleness" => settings.max_staleness = Some(remedy),
                    other => panic!("{other} was in range"),
                }
            }
            let policy = RotationPolicy::new(settings);
            prop_assert!(policy.is_ok(), "{:?}", policy.err());
            let policy = policy.expect("just seen");
            prop_assert!(policy.jwks_staleness_bound() >= policy.replica_convergence());
            prop_assert!(policy.prepare_ahead() >= policy.replica_convergence() + policy.clock_skew());
        }
    }
}
