//! What the code under check says about rows at an instant, remembered: a search asks the same again and again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use keywheel_jose::Algorithm;

use super::state::{Row, Rows, instant, keyring, serial};
use crate::plan::Step;
use crate::policy::RotationPolicy;
use crate::ring::testing::applied;
use crate::ring::{KeyRecord, Keyring, Phase};

pub(super) const ALG: Algorithm = Algorithm::ES256;

/// What these rows mean at an instant.
#[derive(Debug)]
pub(super) struct Answers {
    /// There are no rows: whoever asks is down.
    pub(super) knows_nothing: bool,
    pub(super) signer: Option<i16>,
    pub(super) signer_has_private: bool,
    pub(super) published: Vec<i16>,
    pub(super) standby: bool,
    /// What a plan finds to do.
    pub(super) due: Vec<Step>,
    /// The same rows in another order say the same, and a second plan finds nothing more to do.
    pub(super) steady: bool,
    /// The keys that are removed or revoked.
    pub(super) out: Vec<i16>,
    /// The first row makes no difference any more, neither to a clock that shows this instant nor to a later one.
    pub(super) oldest_is_spent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Memory(RwLock<HashMap<(Rows, i16, usize), Arc<Answers>>>);

impl Memory {
    /// What `rows` mean to a clock that shows `clock` ticks from now, under the policy of this reign.
    pub(super) fn answers(&self, policy: &RotationPolicy, reign: usize, rows: &Rows, clock: i16) -> Arc<Answers> {
        let question = (Arc::clone(rows), clock, reign);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
        known.unwrap_or_else(|| {
            let answers = Arc::new(Answers::new(policy, rows, clock));
            let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(memory.entry(question).or_insert(answers))
        })
    }
}

impl Answers {
    fn new(policy: &RotationPolicy, rows: &[Row], clock: i16) -> Self {
        let now = instant(clock);
        let ring = keyring(rows);
        let said = |ring: &Keyring| {
            let signer = ring.signer(ALG, now).map(|key| serial(&key.kid));
            let published: Vec<i16> = ring.published(&[ALG], now).iter().map(|key| serial(&key.kid)).collect();
            (signer, published, ring.plan(policy, &[ALG], now))
        };
        let (signer, published, due) = said(&ring);
        let mut turned = rows.to_vec();
        turned.reverse();
        let again = applied(&ring, &due).plan(policy, &[ALG], now);
        let steady = said(&keyring(&turned)) == (signer, published.clone(), due.clone()) && again.is_empty();
        Self {
            knows_nothing: rows.is_empty(),
            signer,
            signer_has_private: ring.signer(ALG, now).is_none_or(|key| key.has_private),
            standby: ring.published(&[ALG], now).iter().any(|key| ring.phase(key, now) == Phase::Standby),
            published,
            due,
            steady,
            out: ring
                .keys()
                .iter()
                .filter(|key| matches!(ring.phase(key, now), Phase::Removed | Phase::Revoked))
                .map(|key| serial(&key.kid))
                .collect(),
            oldest_is_spent: match ring.keys() {
                [oldest, later @ ..] => {
                    let gone = match oldest.revoked_at {
                        Some(at) => at + oldest.retention() + oldest.clock_skew <= now,
                        None => ring.phase(oldest, now) == Phase::Removed,
                    };
                    let succeeded = later.iter().any(|key| !key.is_revoked() && key.sign_from <= now);
                    gone && !oldest.has_private && succeeded
                }
                _ => false,
            },
        }
    }

    /// Whether something is due that a replica does before it serves.
    pub(super) fn has_promises_due(&self) -> bool {
        self.due.iter().any(|step| matches!(step, Step::Raise { .. } | Step::Postpone { .. }))
    }
}

/// The rows after `steps`, planned from `seen`, by the rules of the database, and the steps that had an effect.
///
/// `(alg, serial)` is unique: where another replica made the key first, the transaction is rolled back.
pub(super) fn stored<'a>(rows: &Rows, seen: &Rows, steps: &'a [Step]) -> (Rows, Vec<&'a Step>) {
    let seen = keyring(seen);
    let mut keys: Vec<KeyRecord> = keyring(rows).keys().to_vec();
    let mut effective = Vec::new();
    for step in steps {
        if let Step::Create { serial, .. } = step {
            if keys.iter().any(|key| key.serial == *serial) {
                return (Arc::clone(rows), Vec::new());
            }
            let made = applied(&Keyring::default(), std::slice::from_ref(step));
            keys.extend(made.keys().iter().map(|key| KeyRecord { kid: serial.to_string(), ..key.clone() }));
            effective.push(step);
            continue;
        }
        let kid = step.kid().expect("every other step names its key");
        let row = keys.iter_mut().find(|key| key.kid == kid);
        if let Some((row, seen)) = row.zip(seen.key(kid))
            && step.still_applies(seen, row)
        {
            row.take(step);
            effective.push(step);
        }
    }
    (keys.iter().map(Row::from).collect(), effective)
}
