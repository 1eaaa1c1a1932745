//! What the rows of a keyring need next. Planning is idempotent, so a tick that is missed, late or doubled changes
//! nothing.

use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};

use crate::policy::RotationPolicy;
use crate::ring::{KeyRecord, Keyring, Phase};

/// A removed key's row stays this long at least, so that a verifier's complaint about its `kid` can still be explained.
const LEAST_MEMORY: Duration = Duration::from_secs(3_600);

/// One change to the rows.
///
/// The steps of a plan are stored in one transaction. `Create` is decided by the unique `(alg, serial)`: the loser rolls
/// everything back and reads the winner's row. Dates only come forward and promises only grow, whoever else wrote; a
/// date is postponed only while it is what it was planned from. One plan may publish a key earlier, postpone and raise
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Generate a key and insert its row.
    Create {
        /// The ring.
        alg: Algorithm,
        /// Its place in the ring.
        serial: i64,
        /// When it is published.
        publish_at: Timestamp,
        /// When it starts to sign.
        sign_from: Timestamp,
        /// The longest lifetime of any token it may sign.
        max_ttl: Duration,
        /// The skew its removal allows for.
        clock_skew: Duration,
        /// Why it is needed, for the log.
        why: &'static str,
    },
    /// Publish a scheduled key sooner, because there is no other standby.
    PublishEarlier {
        /// Which key.
        kid: String,
        /// Its new `publish_at`.
        publish_at: Timestamp,
    },
    /// Let a key sign sooner: an emergency, or an operator asked for it.
    BringForward {
        /// Which key.
        kid: String,
        /// Its new `publish_at`, never after `sign_from`.
        publish_at: Timestamp,
        /// Its new `sign_from`.
        sign_from: Timestamp,
    },
    /// Let a key sign later, because the policy now asks for a longer announcement.
    Postpone {
        /// Which key.
        kid: String,
        /// Its new `sign_from`.
        sign_from: Timestamp,
    },
    /// Let a key be published longer; neither value is below the row's.
    Raise {
        /// Which key.
        kid: String,
        /// Its new `max_ttl`.
        max_ttl: Duration,
        /// Its new `clock_skew`.
        clock_skew: Duration,
    },
    /// Withdraw a key: it neither signs nor is published any more. Only an operator asks for this, never a plan.
    Revoke {
        /// Which key.
        kid: String,
        /// Its `revoked_at`.
        revoked_at: Timestamp,
    },
    /// Destroy the private half: it can't be needed again, and nothing stolen later can forge with it.
    DestroyPrivate {
        /// Which key.
        kid: String,
    },
    /// Drop the row of a key that left the JWKS long ago.
    Delete {
        /// Which key.
        kid: String,
    },
}

impl Step {
    /// The key it changes; `None` for [`Step::Create`], whose key does not exist yet.
    pub fn kid(&self) -> Option<&str> {
        match self {
            Self::Create { .. } => None,
            Self::PublishEarlier { kid, .. }
            | Self::BringForward { kid, .. }
            | Self::Postpone { kid, .. }
            | Self::Raise { kid, .. }
            | Self::Revoke { kid, .. }
            | Self::DestroyPrivate { kid }
            | Self::Delete { kid } => Some(kid),
        }
    }
}

/// A key of the ring under planning, with what the plan has changed so far.
struct Planned {
    /// `None` until it is created.
    kid: Option<String>,
    serial: i64,
    publish_at: Timestamp,
    sign_from: Timestamp,
}

impl Keyring {
    /// What the rows need at `now`. Applying the steps and planning again at the same instant yields nothing more.
    ///
    /// `algorithms` are the configured ones. A ring of any other gets no new keys: its keys finish by the timetable,
    /// the last one stays published, and an operator may revoke it.
    ///
    /// - A new issuer's first keys sign at once, since no verifier has a cache, and from twice `clock_skew` ago, so that a
    ///   replica whose clock is behind has a signer too.
    /// - The first key of an algorithm that a running issuer starts to use is announced like any other: verifiers hold
    ///   sets without it. It does *not* sign at once, although its ring is empty.
    /// - A ring that signed and has nothing left to sign with gets its standby, or a new key, at once: nothing else can
    ///   sign.
    /// - The successor of a key is created [`prepare_ahead`](RotationPolicy::prepare_ahead) before that key starts to
    ///   sign, and published when it does. Late, it is published from `now` and announced from a poll later, by when it
    ///   is stored, and the rotation slips.
    pub fn plan(&self, policy: &RotationPolicy, algorithms: &[Algorithm], now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut planned: Vec<Algorithm> = Vec::new();
        for alg in algorithms.iter().copied().chain(self.algorithms()) {
            if !planned.contains(&alg) {
                planned.push(alg);
                self.plan_ring(policy, alg, algorithms.contains(&alg), now, &mut steps);
                self.plan_upkeep(policy, alg, now, &mut steps);
            }
        }
        steps
    }

    /// The place of one more key at the end of a ring, for a key an operator brings along: announced like any other, or
    /// signing at once where the issuer has no keys at all.
    pub fn append(&self, policy: &RotationPolicy, alg: Algorithm, now: Timestamp) -> Step {
        let serial = self.ring(alg).last().map_or(1, |key| key.serial + 1);
        let last = self.ring(alg).iter().rev().find(|key| !key.is_revoked());
        let key = match last {
            Some(last) => successor(policy, serial, last.sign_from, now, self.stored_by(policy, now)),
            None => self.first(policy, alg, serial, now),
        };
        create(policy, alg, &key, "an operator brought it")
    }

    fn plan_ring(
        &self,
        policy: &RotationPolicy,
        alg: Algorithm,
        configured: bool,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) {
        let ring = self.ring(alg);
        let mut next_serial = ring.last().map_or(1, |key| key.serial + 1);
        let mut live: Vec<Planned> = ring.iter().filter(|key| !key.is_revoked()).map(Planned::from).collect();

        if configured && self.is_stranded(alg, now) {
            let at = emergency_start(policy, ring, now);
            if let Some(standby) = live.iter_mut().find(|key| key.sign_from > now) {
                standby.publish_at = standby.publish_at.min(at);
                standby.sign_from = at;
                steps.extend(standby.kid.clone().map(|kid| Step::BringForward {
                    kid,
                    publish_at: standby.publish_at,
                    sign_from: at,
                }));
            } else {
                let key = Planned { kid: None, serial: next_serial, publish_at: at, sign_from: at };
                steps.push(create(policy, alg, &key, "no key of the ring can sign"));
                next_serial += 1;
                live.push(key);
            }
        } else if configured && ring.is_empty() {
            let key = self.first(policy, alg, next_serial, now);
            steps.push(create(policy, alg, &key, "the ring is empty"));
            next_serial += 1;
            live.push(key);
        }

        if configured {
            publish_standby(&mut live, now, steps);
        }
        postpone(policy, &mut live, now, steps);
        if !configured {
            return;
        }
        while let Some(last) = live.last()
            && last.sign_from - policy.prepare_ahead() <= now
        {
            let key = successor(policy, next_serial, last.sign_from, now, self.stored_by(policy, now));
            steps.push(create(policy, alg, &key, "the ring needs a standby"));
            next_serial += 1;
            live.push(key);
        }
    }

    /// Whether a ring that has signed, or has only revoked keys, has nothing to sign with now.
    fn is_stranded(&self, alg: Algorithm, now: Timestamp) -> bool {
        let ring = self.ring(alg);
        let signer = self.signer(alg, now).filter(|key| key.has_private);
        let has_signed = ring.iter().any(|key| key.sign_from <= now);
        let all_revoked = ring.iter().all(|key| key.is_revoked());
        !ring.is_empty() && signer.is_none() && (has_signed || all_revoked)
    }

    fn first(&self, policy: &RotationPolicy, alg: Algorithm, serial: i64, now: Timestamp) -> Planned {
        let (publish_at, sign_from) = if self.keys().is_empty() {
            (now - policy.clock_spread(), now - policy.clock_spread())
        } else if self.ring(alg).is_empty() {
            (now, self.stored_by(policy, now) + policy.announcement())
        } else {
            let at = emergency_start(policy, self.ring(alg), now);
            (at, at)
        };
        Planned { kid: None, serial, publish_at, sign_from }
    }

    /// When a new key is in the database at the latest, by the planner's clock: a poll later, or else the planner
    /// postpones it. The first rows of an issuer are no concern: nobody answers before they are there.
    fn stored_by(&self, policy: &RotationPolicy, now: Timestamp) -> Timestamp {
        if self.keys().is_empty() { now } else { now + policy.poll() }
    }

    /// Raises promises, destroys private halves and drops rows, whatever the configuration says about the ring.
    fn plan_upkeep(&self, policy: &RotationPolicy, alg: Algorithm, now: Timestamp, steps: &mut Vec<Step>) {
        let ring = self.ring(alg);
        let memory = LEAST_MEMORY.max(3 * policy.slots().smallest_gap());
        // Oldest first and without holes: a row tells when those before it were superseded. Never the last one, which
        // tells the next serial, nor one whose successor is young and may not be known everywhere.
        let deletable = ring
            .iter()
            .zip(ring.iter().skip(1))
            .take_while(|(key, next)| {
                let forgotten = |at: Timestamp| at + memory <= now;
                forgotten(next.sign_from) && self.gone_at(key).is_some_and(forgotten)
            })
            .count();
        let (deleted, kept) = ring.split_at(deletable);
        for key in kept {
            let phase = self.phase(key, now);
            let below_policy = key.max_ttl < policy.max_token_ttl() || key.clock_skew < policy.clock_skew();
            if below_policy && !matches!(phase, Phase::Removed | Phase::Revoked) {
                steps.push(Step::Raise {
                    kid: key.kid.clone(),
                    max_ttl: key.max_ttl.max(policy.max_token_ttl()),
                    clock_skew: key.clock_skew.max(policy.clock_skew()),
                });
            }
            // A poll more: whoever read the clock just before the change may still be about to sign, and the rows that
            // this plan is made from may lack a revocation by which the key signs on.
            let outlived = self.superseded_at(key).is_some_and(|at| at + 2 * key.clock_skew + policy.poll() <= now);
            if key.has_private && (outlived || phase == Phase::Revoked) {
                steps.push(Step::DestroyPrivate { kid: key.kid.clone() });
            }
        }
        steps.extend(deleted.iter().map(|key| Step::Delete { kid: key.kid.clone() }));
    }

    /// When nothing signed by this key can be accepted any more, as far as the rows say.
    fn gone_at(&self, key: &KeyRecord) -> Option<Timestamp> {
        key.revoked_at.map(|at| at + key.retention()).or_else(|| self.remove_at(key))
    }
}

impl From<&KeyRecord> for Planned {
    fn from(key: &KeyRecord) -> Self {
        Self { kid: Some(key.kid.clone()), serial: key.serial, publish_at: key.publish_at, sign_from: key.sign_from }
    }
}

impl Planned {
    /// Whether it was made or moved to sign from when it is published, because another could not sign any more.
    fn stands_in(&self) -> bool {
        self.sign_from <= self.publish_at
    }
}

/// From when a key signs that takes over at once.
///
/// Not `now` but twice `clock_skew` earlier where the ring allows it: a replica whose clock is behind then has a signer as
/// soon as it reads the row. Never before the key it replaces, or the one before that would have been superseded sooner
/// than it was.
pub(crate) fn emergency_start(policy: &RotationPolicy, ring: &[KeyRecord], now: Timestamp) -> Timestamp {
    let starts = ring.iter().filter(|key| key.took_over()).map(|key| key.sign_from);
    starts.filter(|&at| at <= now).fold(now - policy.clock_spread(), Timestamp::max)
}

/// Published when its predecessor starts to sign, or now where that is past.
///
/// Its announcement runs from when it is `stored_by` at the latest: a replica that read the rows just before answers
/// without it for as long as any other.
fn successor(
    policy: &RotationPolicy,
    serial: i64,
    predecessor: Timestamp,
    now: Timestamp,
    stored_by: Timestamp,
) -> Planned {
    let publish_at = predecessor.max(now);
    let sign_from = policy.next_sign_from(predecessor, publish_at.max(stored_by));
    Planned { kid: None, serial, publish_at, sign_from }
}

fn create(policy: &RotationPolicy, alg: Algorithm, key: &Planned, why: &'static str) -> Step {
    Step::Create {
        alg,
        serial: key.serial,
        publish_at: key.publish_at,
        sign_from: key.sign_from,
        max_ttl: policy.max_token_ttl(),
        clock_skew: policy.clock_skew(),
        why,
    }
}

/// Publishes the next key now where one signs and none waits published.
fn publish_standby(live: &mut [Planned], now: Timestamp, steps: &mut Vec<Step>) {
    let signs = live.iter().any(|key| key.sign_from <= now);
    let mut upcoming = live.iter_mut().filter(|key| key.sign_from > now);
    if signs
        && let Some(next) = upcoming.next()
        && next.publish_at > now
        && !next.stands_in()
        && upcoming.all(|key| key.publish_at > now)
    {
        next.publish_at = now;
        steps.extend(next.kid.clone().map(|kid| Step::PublishEarlier { kid, publish_at: now }));
    }
}

/// Moves keys that have not started to sign to where the policy's `announce` allows it, never the other way.
///
/// Two cases are left alone. Every replica publishes the key already, so no set served under this policy lacks it, and
/// it starts too soon for every replica to learn of a new date: it starts as promised, which the policy it was promised
/// under made safe. And a key that signs from when it is published stands in for one that can't: only to a clock that
/// is behind it seems not to have started.
fn postpone(policy: &RotationPolicy, live: &mut [Planned], now: Timestamp, steps: &mut Vec<Step>) {
    let mut predecessor: Option<Timestamp> = None;
    for key in live {
        let least = key.publish_at + policy.announce();
        let out_of_order = predecessor.is_some_and(|at| key.sign_from <= at);
        let published_everywhere = key.publish_at + policy.clock_spread() <= now;
        let imminent = key.sign_from <= now + policy.replica_convergence() + policy.clock_spread();
        let too_early = key.sign_from < least && !(published_everywhere && imminent) && !key.stands_in();
        if key.sign_from > now && (too_early || out_of_order) {
            key.sign_from = predecessor.map_or(least, |at| policy.next_sign_from(at, key.publish_at));
            steps.extend(key.kid.clone().map(|kid| Step::Postpone { kid, sign_from: key.sign_from }));
        }
        predecessor = Some(key.sign_from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{RotateEvery, RotationSettings};
    use crate::ring::testing::{applied, key};

    const ES256: Algorithm = Algorithm::ES256;
    const RS256: Algorithm = Algorithm::RS256;
    const NOW: i64 = 1_000_000;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    /// Hourly rotations announced for ten minutes; prepared two minutes ahead; skew 30 s, convergence 30 s.
    fn settings() -> RotationSettings {
        RotationSettings {
            rotate: RotateEvery::Interval(Duration::from_secs(3_600)),
            announce: Duration::from_secs(600),
            ..RotationSettings::default()
        }
    }

    fn policy() -> RotationPolicy {
        RotationPolicy::new(settings()).expect("a safe policy")
    }

    /// `a` signs since NOW, `b` is its standby.
    fn steady() -> Keyring {
        Keyring::new(vec![key("a", 1, NOW - HOUR, NOW), key("b", 2, NOW, NOW + HOUR)])
    }

    fn edited(keyring: &Keyring, kid: &str, edit: impl Fn(&mut KeyRecord)) -> Keyring {
        let mut keys = keyring.keys().to_vec();
        edit(keys.iter_mut().find(|key| key.kid == kid).expect("a row"));
        Keyring::new(keys)
    }

    fn plan(keyring: &Keyring, now: i64) -> Vec<Step> {
        let steps = keyring.plan(&policy(), &[ES256], at(now));
        let again = applied(keyring, &steps).plan(&policy(), &[ES256], at(now));
        assert_eq!(again, [], "a plan is idempotent");
        steps
    }

    /// `(serial, publish_at, sign_from)` of every key to create.
    fn created(steps: &[Step]) -> Vec<(i64, i64, i64)> {
        let places = steps.iter().filter_map(|step| match step {
            Step::Create { serial, publish_at, sign_from, .. } => {
                Some((*serial, publish_at.as_unix(), sign_from.as_unix()))
            }
            _ => None,
        });
        places.collect()
    }

    #[test]
    fn a_new_issuer_signs_at_once_and_has_a_standby() {
        let steps = plan(&Keyring::default(), NOW);

        assert_eq!(created(&steps), [(1, NOW - 60, NOW - 60), (2, NOW, NOW - 60 + HOUR)]);
    }

    #[test]
    fn a_steady_ring_needs_nothing() {
        assert_eq!(plan(&steady(), NOW + HOUR - 121), []);
    }

    #[test]
    fn the_next_standby_is_prepared_before_its_predecessor_signs() {
        let steps = plan(&steady(), NOW + HOUR - 120);

        assert_eq!(created(&steps), [(3, NOW + HOUR, NOW + 2 * HOUR)]);
    }

    #[test]
    fn a_late_standby_is_announced_in_full_and_the_rotation_slips() {
        let late = NOW + 2 * HOUR - 100;

        assert_eq!(created(&plan(&steady(), late)), [(3, late, late + 15 + 600 + 30)]);
    }

    #[test]
    fn a_late_cron_rotation_slips_to_an_allowed_instant() {
        let cron = RotateEvery::Cron("0 0 * * * *".to_owned());
        let policy = RotationPolicy::new(RotationSettings { rotate: cron, ..settings() }).expect("a safe policy");
        let late = at(NOW + 2 * HOUR - 100);

        let [(_, publish_at, sign_from)] = created(&steady().plan(&policy, &[ES256], late))[..] else {
            panic!("one key expected")
        };

        assert_eq!(publish_at, late.as_unix());
        assert_eq!((sign_from % HOUR, sign_from >= publish_at + 630), (0, true));
    }

    #[test]
    fn a_new_algorithm_of_a_running_issuer_is_announced_first() {
        let steps = steady().plan(&policy(), &[ES256, RS256], at(NOW));

        let [Step::Create { alg: RS256, serial: 1, publish_at, sign_from, .. }] = steps[..] else {
            panic!("one key expected: {steps:?}")
        };
        assert_eq!((publish_at, sign_from), (at(NOW), at(NOW + 15 + 600 + 30)));
    }

    #[test]
    fn a_ring_of_revoked_keys_is_replaced_at_once() {
        let now = NOW + 500;
        let revoke = |key: &mut KeyRecord| (key.revoked_at, key.has_private) = (Some(at(now)), false);
        let ring = edited(&edited(&steady(), "a", revoke), "b", revoke);

        assert_eq!(created(&plan(&ring, now)), [(3, now - 60, now - 60), (4, now, now - 60 + HOUR)]);
    }

    #[test]
    fn a_standby_takes_over_from_a_signer_that_was_revoked_alone() {
        let ring = edited(&steady(), "a", |key| (key.revoked_at, key.has_private) = (Some(at(NOW + 10)), false));

        let steps = plan(&ring, NOW + 10);

        assert_eq!(steps[0], Step::BringForward { kid: "b".into(), publish_at: at(NOW), sign_from: at(NOW) });
        assert_eq!(created(&steps), [(3, NOW + 10, NOW + HOUR)]);
    }

    #[test]
    fn a_signer_without_its_private_half_is_stood_in_for() {
        let ring = edited(&steady(), "a", |key| key.has_private = false);

        let steps = plan(&ring, NOW + 500);

        assert_eq!(steps[0], Step::BringForward { kid: "b".into(), publish_at: at(NOW), sign_from: at(NOW + 440) });
    }

    #[test]
    fn a_scheduled_key_is_published_earlier_where_no_standby_is() {
        let ring = edited(&steady(), "b", |key| key.publish_at = at(NOW + 1_000));

        assert_eq!(plan(&ring, NOW + 10), [Step::PublishEarlier { kid: "b".into(), publish_at: at(NOW + 10) }]);
    }

    #[test]
    fn a_longer_announcement_postpones_keys_that_have_not_started() {
        let ring = edited(&steady(), "b", |key| key.sign_from = at(NOW + 400));

        assert_eq!(plan(&ring, NOW + 10), [Step::Postpone { kid: "b".into(), sign_from: at(NOW + HOUR) }]);
    }

    #[test]
    fn a_key_about_to_start_is_not_postponed_once_all_publish_it() {
        let ring = edited(&steady(), "b", |key| key.sign_from = at(NOW + 400));

        let steps = plan(&ring, NOW + 340);

        assert!(!steps.iter().any(|step| matches!(step, Step::Postpone { .. })), "{steps:?}");
    }

    #[test]
    fn a_stand_in_is_not_postponed_by_a_clock_that_is_behind() {
        let ring = edited(&steady(), "a", |key| key.sign_from = at(NOW - HOUR));
        let ring = edited(&ring, "b", |key| (key.publish_at, key.sign_from) = (at(NOW), at(NOW)));

        let steps = plan(&ring, NOW - 20);

        assert!(!steps.iter().any(|step| matches!(step, Step::Postpone { .. })), "{steps:?}");
    }

    #[test]
    fn promises_are_raised_and_never_lowered() {
        let short = edited(&steady(), "a", |key| key.max_ttl = Duration::from_secs(5));
        let long = edited(&short, "b", |key| key.max_ttl = Duration::from_secs(9_999));

        let raised =
            Step::Raise { kid: "a".into(), max_ttl: Duration::from_secs(600), clock_skew: Duration::from_secs(30) };
        assert_eq!(plan(&long, NOW + 10), [raised]);
    }

    #[test]
    fn skew_is_raised_without_lowering_the_lifetime() {
        let ring = edited(&steady(), "b", |key| {
            (key.max_ttl, key.clock_skew) = (Duration::from_secs(9_999), Duration::ZERO);
        });

        let raised =
            Step::Raise { kid: "b".into(), max_ttl: Duration::from_secs(9_999), clock_skew: Duration::from_secs(30) };
        assert_eq!(plan(&ring, NOW + 10), [raised]);
    }

    #[test]
    fn a_private_half_is_destroyed_when_no_clock_can_sign_with_it() {
        let handover = NOW + HOUR;
        let ring = Keyring::new([steady().keys(), &[key("c", 3, handover, handover + HOUR)]].concat());

        assert_eq!(plan(&ring, handover + 74), []);
        assert_eq!(plan(&ring, handover + 75), [Step::DestroyPrivate { kid: "a".into() }]);
    }

    #[test]
    fn a_revoked_private_half_is_destroyed_at_once() {
        let ring = edited(&steady(), "b", |key| key.revoked_at = Some(at(NOW + 10)));

        let steps = plan(&ring, NOW + 10);

        assert!(steps.contains(&Step::DestroyPrivate { kid: "b".into() }), "{steps:?}");
        assert_eq!(created(&steps), [(3, NOW + 10, NOW + HOUR)]);
    }

    #[test]
    fn rows_are_dropped_long_after_removal_but_never_the_last() {
        let spent = |mut key: KeyRecord| {
            key.has_private = false;
            key
        };
        let ring = Keyring::new(vec![
            spent(key("a", 1, NOW, NOW)),
            spent(key("b", 2, NOW, NOW + 1)),
            key("c", 3, NOW, NOW + HOUR),
        ]);
        let memory = 3 * HOUR;
        let deletes = |now| {
            let steps = ring.plan(&policy(), &[], at(now));
            steps.into_iter().filter(|step| matches!(step, Step::Delete { .. })).collect::<Vec<_>>()
        };

        assert_eq!(deletes(NOW + 1 + 690 + memory - 1), []);
        assert_eq!(deletes(NOW + 1 + 690 + memory), [Step::Delete { kid: "a".into() }]);
        let all_but_the_last = [Step::Delete { kid: "a".into() }, Step::Delete { kid: "b".into() }];
        assert_eq!(deletes(NOW + 1_000 * HOUR), all_but_the_last);
    }

    #[test]
    fn a_row_outlives_those_it_superseded() {
        let ring = Keyring::new(vec![
            KeyRecord { max_ttl: Duration::from_secs(1_000_000), ..key("a", 1, NOW, NOW) },
            key("b", 2, NOW, NOW + 10),
            key("c", 3, NOW, NOW + HOUR),
        ]);

        let steps = ring.plan(&policy(), &[], at(NOW + 100 * HOUR));

        assert!(!steps.iter().any(|step| matches!(step, Step::Delete { .. })), "{steps:?}");
    }

    #[test]
    fn a_ring_no_longer_configured_gets_no_keys_and_keeps_its_last() {
        let ring = steady();
        let later = at(NOW + 2 * HOUR);

        let steps = ring.plan(&policy(), &[], later);

        assert_eq!(steps, [Step::DestroyPrivate { kid: "a".into() }]);
        assert_eq!(ring.signer(ES256, later).map(|key| key.kid.as_str()), Some("b"));
    }

    #[test]
    fn a_key_an_operator_brings_joins_the_end_of_the_ring() {
        let Step::Create { serial, publish_at, sign_from, .. } = steady().append(&policy(), ES256, at(NOW + 10)) else {
            panic!("a place")
        };
        assert_eq!((serial, publish_at, sign_from), (3, at(NOW + HOUR), at(NOW + 2 * HOUR)));

        let Step::Create { serial, sign_from, .. } = Keyring::default().append(&policy(), ES256, at(NOW)) else {
            panic!("a place")
        };
        assert_eq!((serial, sign_from), (1, at(NOW - 60)));
    }
}
