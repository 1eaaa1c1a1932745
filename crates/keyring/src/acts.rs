//! What an operator may do to the timetable: withdraw a key, or let the standby sign sooner.
//!
//! Both only compute steps. They are to be applied in one transaction, followed by a [plan](Keyring::plan), which makes
//! the next standby.

use keywheel_jose::{Algorithm, Timestamp};
use serde::Serialize;

use crate::plan::{Step, emergency_start};
use crate::policy::RotationPolicy;
use crate::ring::{KeyRecord, Keyring, Phase};

/// What withdrawing a key entails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The steps, for one transaction.
    pub steps: Vec<Step>,
    /// Who signs once they are applied.
    pub signs_next: WhoSigns,
    /// Until when tokens of the key could have lived, had it not been withdrawn: all of them are refused, by each
    /// verifier as soon as it fetches the JWKS. `None` where the key never signed.
    pub refuses_tokens_until: Option<Timestamp>,
    /// Set when the next signer was not announced in full.
    pub may_stumble: Option<MayStumble>,
}

/// Who signs after a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhoSigns {
    /// The key was not the one that signs: nothing changes.
    Unchanged,
    /// This key takes over at once.
    Standby {
        /// Its `kid`.
        kid: String,
    },
    /// There is no other key. The plan that follows creates one that signs at once, if the algorithm is still
    /// configured.
    Replacement,
}

/// Verifiers that may refuse good tokens for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MayStumble {
    /// When the announcement of the key that signs now has run its course.
    pub until: Timestamp,
    /// Who may refuse them.
    pub who: &'static str,
}

/// Why a key is not revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// No row has this `kid`.
    #[error("no key has the kid {kid:?}")]
    Unknown {
        /// What was asked for.
        kid: String,
    },
    /// It was withdrawn before.
    #[error("key {kid} was revoked at {at}")]
    AlreadyRevoked {
        /// Which key.
        kid: String,
        /// Since when.
        at: Timestamp,
    },
}

/// How soon a rotation that an operator asks for may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As soon as the inequalities allow it.
    Safe,
    /// Now, whatever it breaks.
    Now,
}

/// A rotation brought forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtForward {
    /// The key that will sign.
    pub kid: String,
    /// When it was going to.
    pub from: Timestamp,
    /// When it will.
    pub to: Timestamp,
    /// The steps, for one transaction.
    pub steps: Vec<Step>,
    /// Set when the key was not announced in full; never with [`How::Safe`].
    pub may_stumble: Option<MayStumble>,
}

/// Why a rotation is not brought forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BringForwardError {
    /// The ring has no key that waits to sign.
    #[error("there is no {alg} key waiting to sign")]
    NoStandby {
        /// The ring.
        alg: Algorithm,
    },
    /// The timetable has it no later than it may be.
    #[error("key {kid} signs from {sign_from} as planned; {earliest} is the earliest that is safe")]
    NoEarlier {
        /// The key that will sign.
        kid: String,
        /// When it will.
        sign_from: Timestamp,
        /// When it may.
        earliest: Timestamp,
    },
}

const NEVER_SEEN: &str =
    "verifiers whose cached JWKS is older than the key and which do not fetch again on an unknown kid";

impl Keyring {
    /// Withdraws a key for good: it is out of the JWKS and never signs again. If it signed, the standby does from the
    /// same instant.
    ///
    /// The standby's `sign_from` lies twice `clock_skew` before `now` where the ring allows it, so that a replica whose clock
    /// is behind has a signer as soon as it reads the rows.
    ///
    /// # Errors
    /// Every [`RevokeError`].
    pub fn revoke(&self, kid: &str, policy: &RotationPolicy, now: Timestamp) -> Result<Revocation, RevokeError> {
        let key = self.key(kid).ok_or_else(|| RevokeError::Unknown { kid: kid.to_owned() })?;
        if let Some(at) = key.revoked_at {
            return Err(RevokeError::AlreadyRevoked { kid: kid.to_owned(), at });
        }
        let phase = self.phase(key, now);
        let mut steps = vec![Step::Revoke { kid: kid.to_owned(), revoked_at: now }];
        let refuses_tokens_until = match phase {
            Phase::Signing => Some(now + key.max_ttl),
            Phase::Retiring => self.superseded_at(key).map(|at| at + key.max_ttl),
            _ => None,
        };
        let (signs_next, may_stumble) = match phase {
            Phase::Signing => self.take_over(key.alg, policy, now, &mut steps),
            _ => (WhoSigns::Unchanged, None),
        };
        Ok(Revocation { steps, signs_next, refuses_tokens_until, may_stumble })
    }

    /// Lets the standby of a ring sign sooner than planned.
    ///
    /// [`How::Safe`] waits until its announcement has run its course, and until every replica either knows the new date
    /// or has stopped signing. With [`How::Now`] a replica that hears of it late goes on signing with the old key for
    /// up to `max_staleness`, by a clock that may be ahead; that key stays published so much longer.
    ///
    /// # Errors
    /// Every [`BringForwardError`].
    pub fn bring_forward(
        &self,
        alg: Algorithm,
        policy: &RotationPolicy,
        now: Timestamp,
        how: How,
    ) -> Result<BroughtForward, BringForwardError> {
        let standby = self.upcoming(alg, now).next().ok_or(BringForwardError::NoStandby { alg })?;
        let announced = announced(policy, standby, now);
        let to = match how {
            // The new date is stored a poll from now at the latest.
            How::Safe => announced.max(now + policy.poll() + policy.max_staleness() + policy.clock_spread()),
            How::Now => now,
        };
        if to >= standby.sign_from {
            let (kid, sign_from) = (standby.kid.clone(), standby.sign_from);
            return Err(BringForwardError::NoEarlier { kid, sign_from, earliest: to });
        }
        let publish_at = standby.publish_at.min(now);
        let mut steps = vec![Step::BringForward { kid: standby.kid.clone(), publish_at, sign_from: to }];
        if let Some(next) = self.upcoming(alg, now).nth(1).filter(|next| next.publish_at > to) {
            steps.push(Step::PublishEarlier { kid: next.kid.clone(), publish_at: to });
        }
        if how == How::Now
            && let Some(signer) = self.signer(alg, now)
        {
            steps.push(Step::Raise {
                kid: signer.kid.clone(),
                max_ttl: signer.max_ttl + policy.max_staleness() + policy.clock_spread(),
                clock_skew: signer.clock_skew,
            });
        }
        Ok(BroughtForward {
            kid: standby.kid.clone(),
            from: standby.sign_from,
            to,
            steps,
            may_stumble: may_stumble(to, announced),
        })
    }

    /// The standby signs at once, and the key after it becomes the standby.
    fn take_over(
        &self,
        alg: Algorithm,
        policy: &RotationPolicy,
        now: Timestamp,
        steps: &mut Vec<Step>,
    ) -> (WhoSigns, Option<MayStumble>) {
        let at = emergency_start(policy, self.ring(alg), now);
        let mut upcoming = self.upcoming(alg, now);
        let Some(standby) = upcoming.next() else {
            return (WhoSigns::Replacement, may_stumble(now, now + policy.poll() + policy.announcement()));
        };
        steps.push(Step::BringForward {
            kid: standby.kid.clone(),
            publish_at: standby.publish_at.min(at),
            sign_from: at,
        });
        if let Some(next) = upcoming.next().filter(|next| next.publish_at > now) {
            steps.push(Step::PublishEarlier { kid: next.kid.clone(), publish_at: now });
        }
        let announced = announced(policy, standby, now);
        (WhoSigns::Standby { kid: standby.kid.clone() }, may_stumble(now, announced))
    }

    /// The keys that have not started to sign, in order.
    fn upcoming(&self, alg: Algorithm, now: Timestamp) -> impl Iterator<Item = &KeyRecord> {
        self.ring(alg).iter().filter(move |key| !key.is_revoked() && key.sign_from > now)
    }
}

/// When the announcement of a key has run its course: it may have been stored a poll after it was to be published.
fn announced(policy: &RotationPolicy, key: &KeyRecord, now: Timestamp) -> Timestamp {
    key.publish_at.min(now) + policy.poll() + policy.announcement()
}

fn may_stumble(signs_from: Timestamp, announced: Timestamp) -> Option<MayStumble> {
    (signs_from < announced).then_some(MayStumble { until: announced, who: NEVER_SEEN })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{RotateEvery, RotationSettings};
    use crate::ring::testing::{applied, key};

    const ES256: Algorithm = Algorithm::ES256;
    const NOW: i64 = 1_000_000;
    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    /// Hourly rotations announced for ten minutes; skew 30 s, staleness at most 9 min 30 s, a poll every 15 s.
    fn policy() -> RotationPolicy {
        RotationPolicy::new(RotationSettings {
            rotate: RotateEvery::Interval(Duration::from_secs(3_600)),
            announce: Duration::from_secs(600),
            ..RotationSettings::default()
        })
        .expect("a safe policy")
    }

    /// `o` retires, `a` signs since NOW, `b` is its standby.
    fn ring() -> Keyring {
        Keyring::new(vec![
            key("o", 1, NOW - 2 * HOUR, NOW - HOUR),
            key("a", 2, NOW - HOUR, NOW),
            key("b", 3, NOW, NOW + HOUR),
        ])
    }

    fn signer(keyring: &Keyring, now: i64) -> Option<&str> {
        keyring.signer(ES256, at(now)).map(|key| key.kid.as_str())
    }

    #[test]
    fn the_standby_signs_in_the_instant_its_predecessor_is_revoked() {
        let now = NOW + 1_000;

        let revocation = ring().revoke("a", &policy(), at(now)).expect("it signs");

        assert_eq!(revocation.signs_next, WhoSigns::Standby { kid: "b".into() });
        assert_eq!(revocation.may_stumble, None);
        assert_eq!(revocation.refuses_tokens_until, Some(at(now + 600)));
        assert_eq!(signer(&applied(&ring(), &revocation.steps), now), Some("b"));
    }

    #[test]
    fn a_replica_whose_clock_is_behind_obeys_a_revocation_at_once() {
        let now = NOW + 1_000;

        let revocation = ring().revoke("a", &policy(), at(now)).expect("it signs");

        assert_eq!(signer(&applied(&ring(), &revocation.steps), now - 30), Some("b"));
    }

    #[test]
    fn a_key_revoked_as_it_starts_leaves_its_predecessor_superseded_when_it_was() {
        let now = NOW + 5;

        let revocation = ring().revoke("a", &policy(), at(now)).expect("it signs");

        let after = applied(&ring(), &revocation.steps);
        assert_eq!(after.superseded_at(after.key("o").expect("a row")), Some(at(NOW)));
        assert_eq!(signer(&after, now), Some("b"));
    }

    #[test]
    fn a_standby_announced_too_briefly_is_said_to_make_verifiers_stumble() {
        let revocation = ring().revoke("a", &policy(), at(NOW + 100)).expect("it signs");

        assert_eq!(revocation.may_stumble.map(|stumble| stumble.until), Some(at(NOW + 15 + 600 + 30)));
    }

    #[test]
    fn the_key_after_the_standby_is_published_with_the_revocation() {
        let keys = [ring().keys(), &[key("c", 4, NOW + HOUR, NOW + 2 * HOUR)]].concat();
        let now = at(NOW + HOUR - 60);

        let revocation = Keyring::new(keys).revoke("a", &policy(), now).expect("it signs");

        assert!(revocation.steps.contains(&Step::PublishEarlier { kid: "c".into(), publish_at: now }));
    }

    #[test]
    fn without_a_standby_a_replacement_signs_at_once() {
        let keyring = Keyring::new(ring().keys()[..2].to_vec());
        let now = at(NOW + 100);

        let revocation = keyring.revoke("a", &policy(), now).expect("it signs");

        assert_eq!(revocation.signs_next, WhoSigns::Replacement);
        assert_eq!(revocation.may_stumble.map(|stumble| stumble.until), Some(at(NOW + 100 + 15 + 600 + 30)));
        let after = applied(&keyring, &revocation.steps);
        assert!(after.signer(ES256, now).is_none());
        let replaced = applied(&after, &after.plan(&policy(), &[ES256], now));
        assert_eq!(replaced.signer(ES256, now).map(|key| key.serial), Some(3));
    }

    #[test]
    fn revoking_a_standby_leaves_the_signer_alone() {
        let revocation = ring().revoke("b", &policy(), at(NOW + 100)).expect("it waits");

        assert_eq!(revocation.signs_next, WhoSigns::Unchanged);
        assert_eq!(revocation.refuses_tokens_until, None);
        assert_eq!(revocation.steps, [Step::Revoke { kid: "b".into(), revoked_at: at(NOW + 100) }]);
    }

    #[test]
    fn revoking_a_retiring_key_says_until_when_tokens_are_refused() {
        let revocation = ring().revoke("o", &policy(), at(NOW + 100)).expect("it retires");

        assert_eq!(revocation.refuses_tokens_until, Some(at(NOW + 600)));
        let after = applied(&ring(), &revocation.steps);
        assert!(after.published(&[], at(NOW + 100)).iter().all(|key| key.kid != "o"));
    }

    #[test]
    fn a_key_is_revoked_once() {
        let revocation = ring().revoke("b", &policy(), at(NOW + 100)).expect("it waits");
        let after = applied(&ring(), &revocation.steps);

        let again = after.revoke("b", &policy(), at(NOW + 200));

        assert_eq!(again, Err(RevokeError::AlreadyRevoked { kid: "b".into(), at: at(NOW + 100) }));
    }

    #[test]
    fn an_unknown_key_is_not_revoked() {
        let error = ring().revoke("x", &policy(), at(NOW)).expect_err("no such key");

        assert_eq!(error, RevokeError::Unknown { kid: "x".into() });
    }

    #[test]
    fn a_safe_rotation_waits_for_replicas_that_have_not_heard_of_it() {
        let now = NOW + 1_000;

        let brought = ring().bring_forward(ES256, &policy(), at(now), How::Safe).expect("it is early");

        assert_eq!((brought.from, brought.to), (at(NOW + HOUR), at(now + 15 + 570 + 60)));
        assert_eq!(brought.may_stumble, None);
        assert_eq!(signer(&applied(&ring(), &brought.steps), now + 645), Some("b"));
    }

    #[test]
    fn a_safe_rotation_waits_for_the_announcement() {
        let mut keys = ring().keys().to_vec();
        keys[2].publish_at = at(NOW + 500);

        let brought =
            Keyring::new(keys).bring_forward(ES256, &policy(), at(NOW + 500), How::Safe).expect("it is early");

        assert_eq!(brought.to, at(NOW + 500 + 15 + 600 + 30));
    }

    #[test]
    fn a_rotation_now_says_who_may_stumble_and_keeps_the_old_key_longer() {
        let now = NOW + 100;

        let brought = ring().bring_forward(ES256, &policy(), at(now), How::Now).expect("it is early");

        assert_eq!(brought.to, at(now));
        assert_eq!(brought.may_stumble.map(|stumble| stumble.until), Some(at(NOW + 15 + 600 + 30)));
        let after = applied(&ring(), &brought.steps);
        let old = after.key("a").expect("a row");
        assert_eq!(after.remove_at(old), Some(at(now + 600 + 570 + 60 + 90)));
    }

    #[test]
    fn a_rotation_due_anyway_is_not_brought_forward() {
        let error = ring().bring_forward(ES256, &policy(), at(NOW + HOUR - 60), How::Safe).expect_err("it is due");

        assert!(matches!(error, BringForwardError::NoEarlier { sign_from, .. } if sign_from == at(NOW + HOUR)));
    }

    #[test]
    fn a_ring_without_a_standby_is_not_rotated() {
        let error = Keyring::default().bring_forward(ES256, &policy(), at(NOW), How::Now).expect_err("no keys");

        assert_eq!(error, BringForwardError::NoStandby { alg: ES256 });
    }
}
