//! The timetable as dates, for people: what happens next, planned keys that do not exist yet included.

use keywheel_jose::{Algorithm, Timestamp};
use serde::Serialize;

use crate::policy::RotationPolicy;
use crate::ring::{KeyRecord, Keyring};

/// How many keys are shown that do not exist yet, in each ring.
const PLANNED_KEYS: usize = 3;

/// Something that will happen to a key if every rotation keeps to the timetable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The ring.
    pub alg: Algorithm,
    /// The key's place in its ring.
    pub serial: i64,
    /// Which key; `None` while it does not exist.
    pub kid: Option<String>,
    /// What.
    pub what: EventKind,
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It appears in the JWKS.
    Publish,
    /// It starts to sign.
    StartSigning,
    /// Its successor signs from now on.
    StopSigning,
    /// It leaves the JWKS.
    Remove,
}

impl Keyring {
    /// Everything to come after `now`, in order: the life of each key, and of the next few keys of each of
    /// `algorithms`.
    ///
    /// It says what the rows promise. What a [plan](Keyring::plan) would change is not in it until that plan is
    /// applied.
    pub fn schedule(&self, policy: &RotationPolicy, algorithms: &[Algorithm], now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        for alg in self.algorithms() {
            let planned = self.planned(policy, algorithms, alg, now);
            let planned_start = planned.first().map(|key| key.sign_from);
            for key in self.ring(alg).iter().filter(|key| !key.is_revoked()) {
                let superseded_at = self.superseded_at(key).or(planned_start);
                let life = Life {
                    alg,
                    serial: key.serial,
                    kid: Some(&key.kid),
                    publish_at: key.publish_at,
                    sign_from: key.sign_from,
                    superseded_at,
                    remove_at: superseded_at.map(|at| at + key.retention()),
                };
                events.extend(life.events());
            }
            for (index, key) in planned.iter().enumerate() {
                let superseded_at = planned.get(index + 1).map(|next| next.sign_from);
                let life = Life {
                    alg,
                    serial: key.serial,
                    kid: None,
                    publish_at: key.publish_at,
                    sign_from: key.sign_from,
                    superseded_at,
                    remove_at: superseded_at.map(|at| at + policy.retention()),
                };
                events.extend(life.events());
            }
        }
        events.retain(|event| event.at > now);
        events.sort_by_key(|event| (event.at, event.alg, event.serial, event.what));
        events
    }

    /// The keys that will be created next in this ring.
    fn planned(
        &self,
        policy: &RotationPolicy,
        algorithms: &[Algorithm],
        alg: Algorithm,
        now: Timestamp,
    ) -> Vec<PlannedKey> {
        let ring = self.ring(alg);
        let last_live: Option<&KeyRecord> = ring.iter().rev().find(|key| !key.is_revoked());
        let (Some(last), Some(newest), true) = (last_live, ring.last(), algorithms.contains(&alg)) else {
            return Vec::new();
        };
        let mut predecessor = last.sign_from;
        (newest.serial + 1..)
            .take(PLANNED_KEYS)
            .map(|serial| {
                let publish_at = predecessor.max(now);
                let sign_from = policy.next_sign_from(predecessor, publish_at);
                predecessor = sign_from;
                PlannedKey { serial, publish_at, sign_from }
            })
            .collect()
    }
}

struct PlannedKey {
    serial: i64,
    publish_at: Timestamp,
    sign_from: Timestamp,
}

struct Life<'a> {
    alg: Algorithm,
    serial: i64,
    kid: Option<&'a String>,
    publish_at: Timestamp,
    sign_from: Timestamp,
    superseded_at: Option<Timestamp>,
    remove_at: Option<Timestamp>,
}

impl Life<'_> {
    fn events(&self) -> impl Iterator<Item = Event> {
        [
            (Some(self.publish_at), EventKind::Publish),
            (Some(self.sign_from), EventKind::StartSigning),
            (self.superseded_at, EventKind::StopSigning),
            (self.remove_at, EventKind::Remove),
        ]
        .into_iter()
        .filter_map(|(at, what)| {
            at.map(|at| Event { at, alg: self.alg, serial: self.serial, kid: self.kid.cloned(), what })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RotationSettings;
    use crate::ring::testing::key;

    const DAY: i64 = 86_400;

    fn events(algorithms: &[Algorithm]) -> Vec<(i64, i64, bool, EventKind)> {
        let policy = RotationPolicy::new(RotationSettings::default()).expect("a safe policy");
        let ring = Keyring::new(vec![key("a", 1, 0, 0), key("b", 2, 0, 30 * DAY)]);
        let events = ring.schedule(&policy, algorithms, Timestamp::from_unix(DAY));
        events.into_iter().map(|event| (event.at.as_unix(), event.serial, event.kid.is_some(), event.what)).collect()
    }

    #[test]
    fn planned_keys_are_shown_before_they_exist() {
        let events = events(&[Algorithm::ES256]);

        assert_eq!(
            events[..6],
            [
                (30 * DAY, 1, true, EventKind::StopSigning),
                (30 * DAY, 2, true, EventKind::StartSigning),
                (30 * DAY, 3, false, EventKind::Publish),
                (30 * DAY + 690, 1, true, EventKind::Remove),
                (60 * DAY, 2, true, EventKind::StopSigning),
                (60 * DAY, 3, false, EventKind::StartSigning),
            ]
        );
        assert_eq!(events.last(), Some(&(120 * DAY + 690, 4, false, EventKind::Remove)));
    }

    #[test]
    fn a_ring_no_longer_configured_has_no_planned_keys() {
        let events = events(&[]);

        assert_eq!(events.last(), Some(&(30 * DAY + 690, 1, true, EventKind::Remove)));
    }
}
