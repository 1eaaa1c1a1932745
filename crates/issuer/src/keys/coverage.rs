//! Who holds the newest key: evidence from the requests for the JWKS, and what follows from it.
//!
//! A fetcher is a verifier by the name it gives itself, or whoever sends the same `User-Agent` from the same network
//! ([`fetchers`](super::fetchers) tells them apart). What it holds is what it was given last: a set handed out, or a tag
//! it sent that names the set in force. Nothing of this is proven, since anybody may send any name. So it is shown, and
//! it may put a scheduled rotation off for a bounded time ([`due_holds`]), but it never lets a key sign sooner: with
//! evidence forged or missing the timetable is as safe as without any.
//!
//! Several instances under one name count as one fetcher, which holds what any of them was given last.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{KeyRecord, Keyring, RotationPolicy};
use serde::{Deserialize, Serialize};

/// The newest key of each ring in a JWKS, by its place in the ring. Who has it has those before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NewestKeys(BTreeMap<Algorithm, i64>);

impl NewestKeys {
    /// Of a set with these keys.
    #[must_use]
    pub fn of(published: &[&KeyRecord]) -> Self {
        let mut newest = BTreeMap::new();
        for key in published {
            let serial = newest.entry(key.alg).or_insert(key.serial);
            *serial = key.serial.max(*serial);
        }
        Self(newest)
    }

    /// Whether a set with these as its newest keys has `key` too.
    #[must_use]
    pub fn include(&self, key: &KeyRecord) -> bool {
        self.0.get(&key.alg).is_some_and(|&serial| serial >= key.serial)
    }
}

/// Somebody who fetches the JWKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetcher {
    /// Printable ASCII, at most [`LONGEST_NAME`](super::fetchers::LONGEST_NAME) long.
    pub name: String,
    /// The first fetch that is remembered.
    pub first_seen: Timestamp,
    /// The last.
    pub last_seen: Timestamp,
    /// How many there were.
    pub fetches: i64,
    /// What the last one brought.
    pub newest: NewestKeys,
}

impl Fetcher {
    /// Whether it is expected again.
    #[must_use]
    pub fn is_regular(&self, policy: &RotationPolicy, now: Timestamp) -> bool {
        is_regular(self.first_seen, self.last_seen, self.fetches, policy, now)
    }
}

/// Whether somebody has come back often enough, over long enough, to be expected again, and is not overdue by far. Who is
/// has gone, as far as anybody can tell.
pub(super) fn is_regular(
    first_seen: Timestamp,
    last_seen: Timestamp,
    fetches: i64,
    policy: &RotationPolicy,
    now: Timestamp,
) -> bool {
    let max_age = policy.jwks_max_age();
    let seen_for = last_seen.duration_since(first_seen);
    let gaps = u32::try_from(fetches.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
    let usual = seen_for / gaps;
    let patience = PATIENCE * usual.min(LONGEST_PERIOD).max(max_age);
    fetches >= LEAST_FETCHES && seen_for >= max_age && now.duration_since(last_seen) <= patience
}

/// Which of the regular fetchers hold a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage<'a> {
    /// How many regular fetchers there are.
    pub regular: usize,
    /// Those that lack the key, the longest absent first.
    pub missing: Vec<&'a Fetcher>,
}

impl<'a> Coverage<'a> {
    /// Of `key`, as far as `fetchers` tell.
    #[must_use]
    pub fn of(key: &KeyRecord, fetchers: &'a [Fetcher], policy: &RotationPolicy, now: Timestamp) -> Self {
        let regular: Vec<_> = fetchers.iter().filter(|fetcher| fetcher.is_regular(policy, now)).collect();
        let mut missing: Vec<_> = regular.iter().copied().filter(|fetcher| !fetcher.newest.include(key)).collect();
        missing.sort_by_key(|fetcher| fetcher.last_seen);
        Self { regular: regular.len(), missing }
    }

    /// How many of them hold it.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.regular - self.missing.len()
    }

    /// Those that lack the key, for a log line or a sentence.
    #[must_use]
    pub fn name_missing(&self, now: Timestamp, say: impl Fn(Duration) -> String) -> String {
        let mut names: Vec<_> = self
            .missing
            .iter()
            .take(MOST_NAMED)
            .map(|fetcher| format!("{} (last seen {} ago)", fetcher.name, say(now.duration_since(fetcher.last_seen))))
            .collect();
        if self.missing.len() > MOST_NAMED {
            names.push(format!("and {} more", self.missing.len() - MOST_NAMED));
        }
        names.join(", ")
    }
}

/// The standby of a ring: the next to sign, published already.
#[must_use]
pub fn next_key(ring: &Keyring, alg: Algorithm, now: Timestamp) -> Option<&KeyRecord> {
    let mut upcoming = upcoming(ring, alg, now);
    upcoming.next().filter(|key| key.publish_at <= now)
}

/// A key whose start has been put off, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    /// Which key.
    pub kid: String,
    /// When it was going to sign before it was first put off.
    pub planned: Timestamp,
    /// When it signs unless it is put off again, or somebody else has moved it since.
    pub held_until: Timestamp,
}

impl HeldKey {
    /// Whether `key` waits because of this, and nobody else has moved it since.
    #[must_use]
    pub fn applies_to(&self, key: &KeyRecord) -> bool {
        self.kid == key.kid && self.held_until == key.sign_from
    }
}

/// A rotation to put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The key that waits, and its new start.
    pub key: HeldKey,
    /// Its ring.
    pub alg: Algorithm,
    /// The starts to change together, the key's first: each from what it is.
    pub moves: Vec<Move>,
    /// Until when it can wait at most.
    pub latest: Timestamp,
    /// Who is waited for.
    pub missing: String,
}

/// A start that is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which key.
    pub kid: String,
    /// When it was going to sign.
    pub from: Timestamp,
    /// When it will.
    pub to: Timestamp,
}

/// The least time that a decision comes ahead of the start it moves: every replica reads the new date before the clock of
/// any of them shows the old one.
fn lead(policy: &RotationPolicy) -> Duration {
    policy.replica_convergence() + policy.clock_skew()
}

/// The standbys about to sign whose start can still be moved in time, each with when it was planned to sign.
///
/// Only those that keep to the timetable: one that an operator or an emergency has brought forward is left alone, and so
/// is one in a ring that nothing else signs for.
pub fn holdable<'a>(
    ring: &'a Keyring,
    held: &[HeldKey],
    policy: &RotationPolicy,
    now: Timestamp,
) -> Vec<(&'a KeyRecord, Timestamp)> {
    let least = lead(policy);
    let each = ring.algorithms().into_iter().filter_map(|alg| {
        let signer = ring.signer(alg, now)?;
        let next = next_key(ring, alg, now)?;
        let left = next.sign_from.duration_since(now);
        if left <= least || left > 2 * least {
            return None;
        }
        let known = held.iter().find(|held| held.kid == next.kid);
        let (earliest, planned) = match known {
            Some(held) => (held.held_until, held.planned),
            None => (policy.next_sign_from(signer.sign_from, next.publish_at), next.sign_from),
        };
        (next.sign_from >= earliest).then_some((next, planned))
    });
    each.collect()
}

/// What to put off at `now`: each standby that is about to sign while a regular fetcher lacks it, by a small part of
/// `limit`, and never past `limit` after it was planned. Keys after it move along where the timetable wants them later.
///
/// This is always safe for verifiers: the signing key stays published until its successor has signed for as long as
/// its tokens live, whenever that is, and the standby only is announced for longer.
#[must_use]
pub fn due_holds(
    ring: &Keyring,
    fetchers: &[Fetcher],
    held: &[HeldKey],
    policy: &RotationPolicy,
    limit: Duration,
    now: Timestamp,
) -> Vec<Hold> {
    let each = holdable(ring, held, policy, now).into_iter().filter_map(|(next, planned)| {
        let coverage = Coverage::of(next, fetchers, policy, now);
        let latest = planned + limit;
        let until = latest.min(next.sign_from + lead(policy).max(limit / STEPS));
        if coverage.missing.is_empty() || until <= next.sign_from {
            return None;
        }
        let mut moves = vec![Move { kid: next.kid.clone(), from: next.sign_from, to: until }];
        let mut predecessor = until;
        for key in upcoming(ring, next.alg, now).skip(1) {
            let to = key.sign_from.max(policy.next_sign_from(predecessor, key.publish_at));
            if to > key.sign_from {
                moves.push(Move { kid: key.kid.clone(), from: key.sign_from, to });
            }
            predecessor = to;
        }
        Some(Hold {
            key: HeldKey { kid: next.kid.clone(), planned, held_until: until },
            alg: next.alg,
            moves,
            latest,
            missing: coverage.name_missing(now, keywheel_keyring::format_duration),
        })
    });
    each.collect()
}

/// The keys that have not started to sign, in order.
fn upcoming(ring: &Keyring, alg: Algorithm, now: Timestamp) -> impl Iterator<Item = &KeyRecord> {
    ring.keys().iter().filter(move |key| key.alg == alg && !key.is_revoked() && key.sign_from > now)
}

/// Twice may be chance.
const LEAST_FETCHES: i64 = 3;
/// How many times its period, or `max-age`, a fetcher may stay away and still be expected.
const PATIENCE: u32 = 3;
/// Who comes less often is not waited for any longer.
const LONGEST_PERIOD: Duration = Duration::from_secs(2 * 86_400);
/// A key waits for its latest fetcher, and this part of the limit longer at most.
const STEPS: u32 = 12;
/// More names in one sentence help nobody.
const MOST_NAMED: usize = 10;

#[cfg(test)]
mod tests;
