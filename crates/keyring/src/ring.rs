//! The rows of an issuer's keys, and what follows from them at an instant.
//!
//! A key lives through `scheduled` → `standby` → `signing` → `retiring` → `removed`, and may be `revoked` from any of
//! them. None of these is stored. All of them are functions of the rows and `t`, so the same rows and the same `t` give the same
//! answer on every replica.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_jose::{Algorithm, PublicJwk, Timestamp};
use serde::Serialize;

/// One key, as stored. Its promises (`max_ttl`, `clock_skew`) only grow.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The RFC 7638 thumbprint.
    pub kid: String,
    /// The ring it belongs to.
    pub alg: Algorithm,
    /// Its place in the ring. `(alg, serial)` is unique in the database, which is how exactly one successor is created
    /// however many replicas race.
    pub serial: i64,
    /// What is published of it.
    pub jwk: PublicJwk,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it first appears in the JWKS.
    pub publish_at: Timestamp,
    /// When it starts to sign.
    pub sign_from: Timestamp,
    /// The longest lifetime of any token it may have signed.
    pub max_ttl: Duration,
    /// The skew its removal allows for.
    pub clock_skew: Duration,
    /// When an operator withdrew it; never in the future.
    pub revoked_at: Option<Timestamp>,
    /// Whether the database still holds its private half.
    pub has_private: bool,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet published.
    Scheduled,
    /// Published, and waiting to sign.
    Standby,
    /// The one that signs.
    Signing,
    /// Superseded, and published while a token of it may live.
    Retiring,
    /// Withdrawn from the JWKS after its time.
    Removed,
    /// Withdrawn by an operator.
    Revoked,
}

/// All rings of one issuer.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Ordered by algorithm, then serial.
    keys: Vec<KeyRecord>,
    /// When each of them is superseded, which the rows decide without a clock.
    superseded: Vec<Option<Timestamp>>,
}

impl Keyring {
    /// The rings made of these rows, in whatever order they come.
    pub fn new(mut keys: Vec<KeyRecord>) -> Self {
        keys.sort_by_key(|key| (key.alg, key.serial));
        let mut superseded = vec![None; keys.len()];
        let mut next: Option<(Algorithm, Timestamp)> = None;
        for (key, superseded) in keys.iter().zip(&mut superseded).rev() {
            let later = next.filter(|(alg, _)| *alg == key.alg).map(|(_, at)| at);
            *superseded = later;
            let own = key.took_over().then_some(key.sign_from);
            next = own.into_iter().chain(later).min().map(|at| (key.alg, at));
        }
        Self { keys, superseded }
    }

    /// Every row, by algorithm, then serial.
    pub fn keys(&self) -> &[KeyRecord] {
        &self.keys
    }

    /// The row of this `kid`.
    pub fn key(&self, kid: &str) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// The algorithms that have rows.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        self.keys.iter().map(|key| key.alg).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Where this key is in its life.
    pub fn phase(&self, key: &KeyRecord, now: Timestamp) -> Phase {
        if key.is_revoked() {
            Phase::Revoked
        } else if self.superseded_at(key).is_some_and(|at| at <= now) {
            if self.remove_at(key).is_some_and(|at| at <= now) { Phase::Removed } else { Phase::Retiring }
        } else if key.sign_from <= now {
            Phase::Signing
        } else if key.publish_at <= now {
            Phase::Standby
        } else {
            Phase::Scheduled
        }
    }

    /// The key that signs; `None` while the first key of a ring is announced, and after an emergency until its
    /// replacement exists.
    pub fn signer(&self, alg: Algorithm, now: Timestamp) -> Option<&KeyRecord> {
        self.ring(alg).iter().rev().find(|key| self.phase(key, now) == Phase::Signing)
    }

    /// When the current signer hands over, as far as the rows say.
    pub fn signs_until(&self, alg: Algorithm, now: Timestamp) -> Option<Timestamp> {
        self.signer(alg, now).and_then(|signer| self.superseded_at(signer))
    }

    /// The keys a JWKS holds: ring by ring, `algorithms` first and in that order, and in each ring the signing key, then
    /// the standby, then the retiring ones, newest first.
    pub fn published(&self, algorithms: &[Algorithm], now: Timestamp) -> Vec<&KeyRecord> {
        let mut rings: Vec<Algorithm> = Vec::new();
        for alg in algorithms.iter().copied().chain(self.algorithms()) {
            if !rings.contains(&alg) {
                rings.push(alg);
            }
        }
        let mut published = Vec::new();
        for ring in rings.into_iter().map(|alg| self.ring(alg)) {
            let shown: Vec<_> = ring.iter().filter(|key| self.is_published(key, now)).collect();
            let of = |wanted| shown.iter().copied().filter(move |key| self.phase(key, now) == wanted);
            published.extend(of(Phase::Signing).chain(of(Phase::Standby)).chain(of(Phase::Retiring).rev()));
        }
        published
    }

    /// Whether this key is in the JWKS.
    pub fn is_published(&self, key: &KeyRecord, now: Timestamp) -> bool {
        key.publish_at <= now && matches!(self.phase(key, now), Phase::Signing | Phase::Standby | Phase::Retiring)
    }

    /// The next instant after `now` at which a signer or the published set changes, if the rows stay as they are. What was
    /// computed for `now` holds until then.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let mut instants: Vec<Timestamp> = self
            .keys
            .iter()
            .flat_map(|key| [Some(key.publish_at), Some(key.sign_from), self.remove_at(key)])
            .flatten()
            .filter(|&at| at > now)
            .collect();
        instants.sort_unstable();
        let visible =
            |at| self.published(&[], at).iter().map(|key| (&key.kid, self.phase(key, at))).collect::<Vec<_>>();
        let current = visible(now);
        instants.into_iter().find(|&at| visible(at) != current)
    }

    /// When a key's successor starts to sign: from then on it never signs again, even if the successor is revoked later.
    /// `None` while no successor exists.
    ///
    /// A successor that was revoked before its time never took over.
    pub fn superseded_at(&self, key: &KeyRecord) -> Option<Timestamp> {
        let index = self.keys.binary_search_by_key(&(key.alg, key.serial), |key| (key.alg, key.serial)).ok()?;
        self.superseded[index]
    }

    /// When a key leaves the JWKS by the timetable; `None` while no successor exists.
    pub fn remove_at(&self, key: &KeyRecord) -> Option<Timestamp> {
        self.superseded_at(key).map(|at| at + key.retention())
    }

    pub(crate) fn ring(&self, alg: Algorithm) -> &[KeyRecord] {
        let start = self.keys.partition_point(|key| key.alg < alg);
        let end = self.keys.partition_point(|key| key.alg <= alg);
        &self.keys[start..end]
    }
}

impl KeyRecord {
    /// Whether an operator has withdrawn it. This counts from the moment the row is read, whatever the reader's clock says:
    /// a replica that is behind must not go on signing for as long as it is behind.
    pub fn is_revoked(&self) -> bool {
        self.revoked_at.is_some()
    }

    /// Whether it takes over when its time comes, which a key does not that was revoked before.
    pub(crate) fn took_over(&self) -> bool {
        self.revoked_at.is_none_or(|at| at > self.sign_from)
    }

    /// How long it stays published after it was superseded, as promised by its row.
    pub(crate) fn retention(&self) -> Duration {
        self.max_ttl + 3 * self.clock_skew
    }
}

/// Rows made by hand, for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use keywheel_jose::{Algorithm, PublicJwk, Timestamp};

    use super::{Duration, KeyRecord};
    use crate::plan::Step;

    /// The key of RFC 8037, appendix A.2: the ring never looks inside.
    pub(crate) fn jwk() -> PublicJwk {
        PublicJwk::from_json(&serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        }))
        .expect("a key of the RFC")
    }

    /// A row of the ES256 ring: lifetime 600 s, skew 30 s, its private half in place.
    pub(crate) fn key(kid: &str, serial: i64, publish_at: i64, sign_from: i64) -> KeyRecord {
        KeyRecord {
            kid: kid.to_owned(),
            alg: Algorithm::ES256,
            serial,
            jwk: jwk(),
            created_at: Timestamp::from_unix(publish_at),
            publish_at: Timestamp::from_unix(publish_at),
            sign_from: Timestamp::from_unix(sign_from),
            max_ttl: Duration::from_secs(600),
            clock_skew: Duration::from_secs(30),
            revoked_at: None,
            has_private: true,
        }
    }

    impl KeyRecord {
        /// What the step does to this row, which is the one it names.
        pub(crate) fn take(&mut self, step: &Step) {
            match step {
                Step::PublishEarlier { publish_at, .. } => self.publish_at = *publish_at,
                Step::BringForward { publish_at, sign_from, .. } => {
                    (self.publish_at, self.sign_from) = (*publish_at, *sign_from);
                }
                Step::Postpone { sign_from, .. } => self.sign_from = *sign_from,
                Step::Raise { max_ttl, clock_skew, .. } => (self.max_ttl, self.clock_skew) = (*max_ttl, *clock_skew),
                Step::Revoke { revoked_at, .. } => self.revoked_at = Some(*revoked_at),
                Step::DestroyPrivate { .. } => self.has_private = false,
                Step::Create { .. } | Step::Delete { .. } => unreachable!("these change the list of rows"),
            }
        }
    }
}
