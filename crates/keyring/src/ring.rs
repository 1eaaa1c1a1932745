//! The rows of an issuer's keys, and what follows from them at an instant.
//!
//! A key lives through `scheduled` → `standby` → `signing` → `retiring` → `removed`, and may be `revoked` from any of
//! them. None of these is stored. All of them are functions of the rows and `t`, so the same rows and the same `t` give
//! the same answer on every replica.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_jose::{Algorithm, PublicJwk, Timestamp};
use serde::Serialize;

/// One key, as stored. Its promises (`max_ttl`, `clock_skew`) only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// The keys a JWKS holds: ring by ring, `algorithms` first and in that order, and in each ring the signing key,
    /// then the standby, then the retiring ones, newest first.
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

    /// The next instant after `now` at which a signer or the published set changes, if the rows stay as they are. What
    /// was computed for `now` holds until then.
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

    /// When a key's successor starts to sign: from then on it never signs again, even if the successor is revoked
    /// later. `None` while no successor exists.
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
    /// Whether an operator has withdrawn it. This counts from the moment the row is read, whatever the reader's clock
    /// says: a replica that is behind must not go on signing for as long as it is behind.
    pub fn is_revoked(&self) -> bool {
        self.revoked_at.is_some()
    }

    /// Whether it takes over when its time comes, which a key does not that was revoked before. In that very instant it
    /// signs already.
    pub(crate) fn took_over(&self) -> bool {
        self.revoked_at.is_none_or(|at| at >= self.sign_from)
    }

    /// How long it stays published after it was superseded, as promised by its row.
    pub(crate) fn retention(&self) -> Duration {
        self.max_ttl + 3 * self.clock_skew
    }
}

#[cfg(test)]
mod tests {
    use super::testing::key;
    use super::*;

    const ES256: Algorithm = Algorithm::ES256;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    /// Rotations at 1000, 2000 and 3000; each key is published when its predecessor starts, and for 690 s after its own
    /// time.
    fn ring() -> Keyring {
        Keyring::new(vec![key("c", 3, 2_000, 3_000), key("a", 1, 1_000, 1_000), key("b", 2, 1_000, 2_000)])
    }

    fn revoked(kid: &str, at: i64) -> Keyring {
        let mut keys = ring().keys().to_vec();
        let key = keys.iter_mut().find(|key| key.kid == kid).expect("one of the three");
        key.revoked_at = Some(Timestamp::from_unix(at));
        Keyring::new(keys)
    }

    fn signer(keyring: &Keyring, now: i64) -> Option<&str> {
        keyring.signer(ES256, at(now)).map(|key| key.kid.as_str())
    }

    fn published(keyring: &Keyring, now: i64) -> Vec<&str> {
        keyring.published(&[ES256], at(now)).into_iter().map(|key| key.kid.as_str()).collect()
    }

    #[test]
    fn a_key_lives_through_its_phases() {
        let ring = ring();
        let b = ring.key("b").expect("a row");

        for (now, phase) in [
            (999, Phase::Scheduled),
            (1_000, Phase::Standby),
            (1_999, Phase::Standby),
            (2_000, Phase::Signing),
            (2_999, Phase::Signing),
            (3_000, Phase::Retiring),
            (3_689, Phase::Retiring),
            (3_690, Phase::Removed),
        ] {
            assert_eq!(ring.phase(b, at(now)), phase, "at {now}");
        }
    }

    #[test]
    fn the_signer_changes_by_the_clock_alone() {
        let ring = ring();

        assert_eq!(signer(&ring, 999), None);
        assert_eq!(signer(&ring, 1_999), Some("a"));
        assert_eq!(signer(&ring, 2_000), Some("b"));
        assert_eq!(signer(&ring, 1_000_000), Some("c"));
        assert_eq!(ring.signs_until(ES256, at(1_500)), Some(at(2_000)));
        assert_eq!(ring.signs_until(ES256, at(3_500)), None);
    }

    #[test]
    fn the_set_has_the_signer_first_and_the_retiring_newest_first() {
        let mut keys = ring().keys().to_vec();
        keys.push(key("d", 4, 3_000, 4_000));
        keys[0].max_ttl = Duration::from_secs(10_000);

        assert_eq!(published(&Keyring::new(keys), 3_100), ["c", "d", "b", "a"]);
    }

    #[test]
    fn rings_come_in_the_order_asked_for_then_the_others() {
        let mut keys = ring().keys().to_vec();
        for (kid, alg) in [("r", Algorithm::RS256), ("e", Algorithm::EdDSA)] {
            keys.push(KeyRecord { alg, ..key(kid, 1, 1_000, 1_000) });
        }
        let keyring = Keyring::new(keys);

        let order = |algorithms: &[Algorithm]| {
            keyring.published(algorithms, at(1_500)).iter().map(|key| key.kid.clone()).collect::<Vec<_>>()
        };
        assert_eq!(order(&[Algorithm::RS256, ES256]), ["r", "a", "b", "e"]);
        assert_eq!(order(&[Algorithm::RS256, Algorithm::RS256]), ["r", "a", "b", "e"]);
    }

    #[test]
    fn a_revoked_key_is_out_whatever_the_clock_says() {
        let ring = revoked("b", 2_500);

        assert_eq!(published(&ring, 2_400), ["c", "a"]);
        assert_eq!(ring.phase(ring.key("b").expect("a row"), at(2_400)), Phase::Revoked);
    }

    #[test]
    fn a_superseded_key_never_signs_again_even_if_its_successor_is_revoked() {
        assert_eq!(signer(&revoked("b", 2_500), 2_600), None);
    }

    #[test]
    fn a_key_revoked_before_its_time_never_took_over() {
        let ring = revoked("b", 1_500);

        assert_eq!(signer(&ring, 2_500), Some("a"));
        assert_eq!(ring.superseded_at(ring.key("a").expect("a row")), Some(at(3_000)));
    }

    #[test]
    fn nothing_changes_before_the_next_change() {
        let ring = ring();
        let mut seen = Vec::new();
        let mut now = at(0);
        while let Some(next) = ring.next_change(now) {
            seen.push(next.as_unix());
            now = next;
        }

        assert_eq!(seen, [1_000, 2_000, 2_690, 3_000, 3_690]);
    }

    #[test]
    fn phases_are_written_in_lower_case() {
        assert_eq!(serde_json::to_string(&Phase::Standby).expect("a name"), "\"standby\"");
    }
}

/// Rows made by hand, for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::LazyLock;

    use keywheel_jose::{Algorithm, PublicJwk, Timestamp};

    use super::{Duration, KeyRecord, Keyring};
    use crate::plan::Step;

    /// The key of RFC 8037, appendix A.2: the ring never looks inside.
    pub(crate) fn jwk() -> PublicJwk {
        static JWK: LazyLock<PublicJwk> = LazyLock::new(|| {
            PublicJwk::from_json(&serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
            }))
            .expect("a key of the RFC")
        });
        JWK.clone()
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

    /// The rows after these steps, whoever else is writing.
    pub(crate) fn applied(keyring: &Keyring, steps: &[Step]) -> Keyring {
        let mut keys = keyring.keys().to_vec();
        for step in steps {
            match step {
                Step::Create { alg, serial, publish_at, sign_from, max_ttl, clock_skew, .. } => keys.push(KeyRecord {
                    alg: *alg,
                    max_ttl: *max_ttl,
                    clock_skew: *clock_skew,
                    ..key(&format!("{alg}-{serial}"), *serial, publish_at.as_unix(), sign_from.as_unix())
                }),
                Step::Delete { kid } => keys.retain(|key| key.kid != *kid),
                _ => {
                    let key = keys.iter_mut().find(|key| Some(key.kid.as_str()) == step.kid());
                    key.expect("a step names a key of the ring").take(step);
                }
            }
        }
        Keyring::new(keys)
    }

    impl Step {
        /// Whether the database lets the step change `row`, when it was planned from `seen`: dates only come forward
        /// and promises only grow, and what is postponed must still be where its planner saw it.
        pub(crate) fn still_applies(&self, seen: &KeyRecord, row: &KeyRecord) -> bool {
            match self {
                Self::PublishEarlier { publish_at, .. } => *publish_at < row.publish_at,
                Self::Postpone { .. } => seen.sign_from == row.sign_from,
                Self::BringForward { publish_at, sign_from, .. } => {
                    *publish_at < row.publish_at || *sign_from < row.sign_from
                }
                Self::Raise { max_ttl, clock_skew, .. } => *max_ttl > row.max_ttl || *clock_skew > row.clock_skew,
                Self::Revoke { .. } => row.revoked_at.is_none(),
                Self::DestroyPrivate { .. } => row.has_private,
                Self::Create { .. } | Self::Delete { .. } => true,
            }
        }
    }

    impl KeyRecord {
        /// What the step does to this row, which is the one it names.
        pub(crate) fn take(&mut self, step: &Step) {
            match step {
                Step::PublishEarlier { publish_at, .. } => self.publish_at = *publish_at,
                Step::BringForward { publish_at, sign_from, .. } => {
                    self.publish_at = self.publish_at.min(*publish_at);
                    self.sign_from = self.sign_from.min(*sign_from);
                }
                Step::Postpone { sign_from, .. } => self.sign_from = *sign_from,
                Step::Raise { max_ttl, clock_skew, .. } => {
                    self.max_ttl = self.max_ttl.max(*max_ttl);
                    self.clock_skew = self.clock_skew.max(*clock_skew);
                }
                Step::Revoke { revoked_at, .. } => self.revoked_at = Some(*revoked_at),
                Step::DestroyPrivate { .. } => self.has_private = false,
                Step::Create { .. } | Step::Delete { .. } => unreachable!("these change the list of rows"),
            }
        }
    }
}
