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
    /// There is no other key. The plan that follows creates one that signs at once, if the algorithm is still configured.
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
    /// Withdraws a key for good: it is out of the JWKS and never signs again. If it signed, the standby does from the same instant.
    ///
    /// The standby's `sign_from` lies `clock_skew` before `now` where the ring allows it, so that a replica whose clock is
    /// behind has a signer as soon as it reads the rows.
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
    /// [`How::Safe`] waits until its announcement has run its course, and until every replica either knows the new date or has
    /// stopped signing. With [`How::Now`] a replica that hears of it late goes on signing with the old key for up to
    /// `max_staleness`; that key stays published so much longer.
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
        let announced = standby.publish_at.min(now) + policy.announce();
        let to = match how {
            How::Safe => announced.max(now + policy.max_staleness() + policy.clock_skew()),
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
                max_ttl: signer.max_ttl + policy.max_staleness(),
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
            return (WhoSigns::Replacement, may_stumble(now, now + policy.announce()));
        };
        steps.push(Step::BringForward {
            kid: standby.kid.clone(),
            publish_at: standby.publish_at.min(at),
            sign_from: at,
        });
        if let Some(next) = upcoming.next().filter(|next| next.publish_at > now) {
            steps.push(Step::PublishEarlier { kid: next.kid.clone(), publish_at: now });
        }
        let announced = standby.publish_at.min(now) + policy.announce();
        (WhoSigns::Standby { kid: standby.kid.clone() }, may_stumble(now, announced))
    }

    /// The keys that have not started to sign, in order.
    fn upcoming(&self, alg: Algorithm, now: Timestamp) -> impl Iterator<Item = &KeyRecord> {
        self.ring(alg).iter().filter(move |key| !key.is_revoked() && key.sign_from > now)
    }
}

fn may_stumble(signs_from: Timestamp, announced: Timestamp) -> Option<MayStumble> {
    (signs_from < announced).then_some(MayStumble { until: announced, who: NEVER_SEEN })
}
