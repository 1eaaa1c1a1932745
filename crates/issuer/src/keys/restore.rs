//! What becomes of the keys of a database that was restored from a backup.
//!
//! A backup knows nothing of what came after it: keys that were made, published and signed with since are lost, keys that
//! were superseded since seem current, and keys that were revoked since are back. It says itself that it is one
//! (`storage/backup.rs`), so the first process that would sign goes through the keys before anything is signed, in one
//! transaction, and says what it did.
//!
//! # Why it is safe
//! Verifiers hold sets that were served up to the restore. Let `now` be the restore, and look at the key that the restored
//! timetable has signing:
//!
//! 1. **Its successor is in the backup.** Then the time at which it hands over was settled before the backup was made, and
//!    it is still ahead. So the key signed up to the restore, and every set in use holds it.
//! 2. **Its successor is not, but could not have been long in force.** A successor is announced when the key starts to
//!    sign or later, so it took over at [`RotationPolicy::next_sign_from`] at the earliest, and from then on the key was
//!    published for its whole retention. Until that has passed (less the skew of the clock that served the set) every
//!    set in use holds the key. It goes on signing, with a private half that the backup still has, until a new successor
//!    was announced in full.
//! 3. **It may have left the JWKS.** Then no key of the backup can be relied on: the others were superseded earlier still,
//!    and nothing waits. A new key signs at once, since nothing else may, and verifiers that do not fetch again on an
//!    unknown kid may refuse its tokens until their copies end. No choice avoids this, and it is said with its date. The old
//!    key is superseded and not revoked: if in truth no time passed for it (nobody was running), its tokens still hold.
//!
//! A key that waits in the backup was published when its row says, by the servers of that time and by those of now, so
//! it may start when it was to.
//!
//! # What a backup cannot tell
//! - Keys that were **revoked** after it. Only the operator knows; every key of the backup that could sign, or that is
//!   published, is listed.
//! - Rotations by hand after it: they made keys leave sooner than the timetable says.
//! - A policy that turned faster then than the one in force now.
//! - Tokens signed by keys that are lost are refused for the rest of their lives.

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{KeyRecord, Keyring, Phase, RotationPolicy, Step};
use serde::Serialize;
use tracing::warn;

use super::material::PROGRESS;

/// What was done with the keys of a restored database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settlement {
    /// When the backup was made, if it says so.
    pub backup_at: Option<Timestamp>,
    /// Each ring that signed.
    pub rings: Vec<Settled>,
    /// The keys that are to be revoked again if they were revoked after the backup.
    pub usable: Vec<String>,
}

impl Settlement {
    /// Tells the operator, who alone knows the rest.
    pub(super) fn tell(&self) {
        let since = self.backup_at.map_or_else(|| "the backup".to_owned(), |at| at.to_string());
        warn!(target: PROGRESS, "this database was restored from a backup; what was changed after {since} is lost");
        for Settled { alg, kid, signer, lost_tokens_until } in &self.rings {
            match signer {
                Signer::GoesOn => {
                    warn!(target: PROGRESS, "the {alg} key {kid} goes on signing: by the timetable verifiers hold it");
                }
                Signer::Replaced { may_stumble_until } => warn!(
                    target: PROGRESS,
                    "verifiers may have dropped the {alg} key {kid}, so a new one signs at once: until \
                     {may_stumble_until} its tokens may be refused by verifiers that do not fetch again on an unknown kid"
                ),
            }
            if let Some(until) = lost_tokens_until {
                warn!(target: PROGRESS, "{alg} tokens that lost keys have signed are refused; the last ends at {until}");
            }
        }
        let kids = self.usable.join(" ");
        warn!(
            target: PROGRESS,
            "a key that was revoked after {since} is back and has to be revoked again; those that are in use: {kids}"
        );
        warn!(target: PROGRESS, "clients are as they were: removed ones are back, and replaced secrets hold again");
    }
}

/// What is done with one ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The ring.
    pub alg: Algorithm,
    /// The key that signs by the timetable of the backup.
    pub kid: String,
    /// What becomes of it.
    pub signer: Signer,
    /// Until when tokens may be refused that were signed by keys made after the backup; `None` where none can have.
    pub lost_tokens_until: Option<Timestamp>,
}

/// What becomes of the key that signs by the timetable of the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signer {
    /// It goes on: verifiers hold it.
    GoesOn,
    /// A new key signs in its place at once.
    Replaced {
        /// Until when verifiers may refuse the new one's tokens that do not fetch again on an unknown kid.
        may_stumble_until: Timestamp,
    },
}

/// Goes through the rings of a restored database: what is done with each, and the steps that do it.
pub(super) fn settle(
    rows: &Keyring,
    policy: &RotationPolicy,
    algorithms: &[Algorithm],
    now: Timestamp,
) -> (Vec<Settled>, Vec<Step>) {
    let (mut settled, mut steps) = (Vec::new(), Vec::new());
    for &alg in algorithms {
        // A ring that has nothing to sign with is what every visit of the rotator looks after.
        let Some(key) = rows.signer(alg, now) else { continue };
        let latest_clock = now + policy.clock_spread();
        // While it is unknown when it was superseded: the earliest that the timetable allows.
        let unknown = rows.superseded_at(key).is_none();
        let superseded = policy.next_sign_from(key.sign_from, key.publish_at.max(key.sign_from));
        let dropped = superseded + key.max_ttl + 3 * key.clock_skew;
        let signer = if unknown && dropped <= latest_clock {
            // As in any emergency: from a little earlier, so that a replica whose clock is behind has a signer too.
            let at = key.sign_from.max(now - policy.clock_spread());
            let last = rows.keys().iter().filter(|other| other.alg == alg).map(|other| other.serial).max();
            steps.push(Step::Create {
                alg,
                serial: last.unwrap_or(0) + 1,
                publish_at: at,
                sign_from: at,
                max_ttl: policy.max_token_ttl(),
                clock_skew: policy.clock_skew(),
                why: "verifiers may have dropped the key of the backup",
            });
            Signer::Replaced { may_stumble_until: now + policy.announce() }
        } else {
            Signer::GoesOn
        };
        let lost = unknown && superseded <= latest_clock;
        let lost_tokens_until = lost.then(|| latest_clock + policy.max_token_ttl());
        settled.push(Settled { alg, kid: key.kid.clone(), signer, lost_tokens_until });
    }
    (settled, steps)
}

/// The keys that must be revoked again if they were revoked after the backup: published, or able to sign.
pub(super) fn usable(rows: &Keyring, now: Timestamp) -> Vec<String> {
    let usable = |key: &&KeyRecord| match rows.phase(key, now) {
        Phase::Revoked => false,
        Phase::Removed => key.has_private,
        _ => true,
    };
    rows.keys().iter().filter(usable).map(|key| key.kid.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::admin::ops;
    use crate::app::{App, Ring};
    use crate::storage::{AuditVerdict, BackupError, By, Store, WhenMissing};
    use crate::testing::{Home, START};

    const ES256: &str = r#"algorithms = ["ES256"]"#;

    async fn ring(home: &Home) -> Ring {
        let ring = Ring::open(&home.config(ES256), &home.edges(), WhenMissing::Create).await.expect("a ring");
        ring.rotator.tick().await.expect("a visit");
        ring
    }

    async fn rows(store: &Store) -> Keyring {
        Keyring::new(store.load_keys().await.expect("rows").into_iter().map(|key| key.record).collect())
    }

    async fn back_up(ring: &Ring, home: &Home, name: &str) -> std::path::PathBuf {
        let file = home.path().join(name);
        ring.store.backup(&file, &by(home)).await.expect("a backup");
        file
    }

    fn by(home: &Home) -> By {
        By::new(&home.edges().author, home.edges().clock.now())
    }

    /// A place in which a server can start on `backup`, with the key-encryption key and the clock of `home`.
    fn restored(home: &Home, backup: &Path) -> Home {
        let copy = Home::new();
        std::fs::copy(backup, copy.path().join("keywheel.db")).expect("copied");
        std::fs::copy(home.path().join("kek"), copy.path().join("kek")).expect("copied");
        copy.clock.advance(home.edges().clock.now().as_unix() - START);
        copy
    }

    fn kids(ring: &Keyring, now: Timestamp) -> Vec<String> {
        ring.published(&[], now).into_iter().map(|key| key.kid.clone()).collect()
    }

    async fn settlement(app: &Arc<App>) -> Value {
        let log = app.store.load_audit(100).await.expect("the log");
        let told: Vec<_> = log.iter().filter(|row| row.act == "database.restored").collect();
        assert_eq!(told.len(), 1, "it is gone through once");
        serde_json::from_str(&told[0].details).expect("JSON")
    }

    /// What a verifier may hold: every set that was served in the last `jwks_max_age + jwks_shared_max_age`.
    struct Served(Vec<(Timestamp, Vec<String>)>);

    impl Served {
        fn in_use(&self, now: Timestamp) -> impl Iterator<Item = &Vec<String>> {
            self.0
                .iter()
                .filter(move |(at, _)| *at <= now && now.duration_since(*at).as_secs() <= 6)
                .map(|(_, set)| set)
        }

        fn all_hold(&self, kid: &str, now: Timestamp) -> bool {
            self.in_use(now).all(|set| set.iter().any(|held| held == kid))
        }
    }

    /// Every gap between backup and restore up to five rotations, for backups at different points of the timetable.
    #[tokio::test]
    async fn a_restored_ring_signs_with_a_key_that_verifiers_hold_or_says_that_there_is_none() {
        for backup_after in [5, 50] {
            let home = Home::new();
            let live = ring(&home).await;
            let mut served = Served(Vec::new());
            let mut backup = None;
            let (mut gone_on, mut replaced) = (0, 0);
            for second in 0..300 {
                let now = home.edges().clock.now();
                live.rotator.tick().await.expect("a visit");
                served.0.push((now, kids(&rows(&live.store).await, now)));
                if second == backup_after {
                    backup = Some(back_up(&live, &home, "backup.db").await);
                }
                if let Some(backup) = backup.as_deref().filter(|_| second % 7 == 0) {
                    let copy = restored(&home, backup);
                    let app = copy.open().await;
                    let after = rows(&app.store).await;
                    let signer = &after.signer(Algorithm::ES256, now).expect("it signs").kid;
                    let told = settlement(&app).await;
                    let replacement = told["rings"][0]["signer"]["replaced"].is_object();
                    if replacement {
                        replaced += 1;
                        let later = now + live.rotator.policy_in_force().await.expect("a policy").clock_spread();
                        let dropped = kids(&rows(&live.store).await, later);
                        let held = told["usable"].as_array().expect("kids").iter().filter_map(Value::as_str);
                        let held: Vec<_> = held.filter(|kid| dropped.iter().any(|held| held == kid)).collect();
                        assert_eq!(held, Vec::<&str>::new(), "at {second}: a key of the backup would have done");
                        assert!(!served.all_hold(signer, now), "at {second}: nobody can stumble");
                    } else {
                        gone_on += 1;
                        assert!(served.all_hold(signer, now), "at {second}: {signer} is not in every set in use");
                    }
                    app.store.close().await;
                }
                home.clock.advance(1);
            }
            assert!(gone_on > 10 && replaced > 10, "{gone_on} went on, {replaced} were replaced");
        }
    }

    #[tokio::test]
    async fn a_restored_ring_that_goes_on_surprises_no_verifier_later_either() {
        for gap in [0, 40, 55, 70] {
            let home = Home::new();
            let live = ring(&home).await;
            let backup = back_up(&live, &home, "backup.db").await;
            let mut served = Served(Vec::new());
            for _ in 0..=gap {
                let now = home.edges().clock.now();
                live.rotator.tick().await.expect("a visit");
                served.0.push((now, kids(&rows(&live.store).await, now)));
                home.clock.advance(1);
            }
            let copy = restored(&home, &backup);
            let app = copy.open().await;
            let mut signers = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let now = copy.edges().clock.now();
                app.rotator().tick().await.expect("a visit");
                let ring = rows(&app.store).await;
                let signer = ring.signer(Algorithm::ES256, now).expect("it signs").kid.clone();
                assert!(served.all_hold(&signer, now), "gap {gap}, {now}: {signer} is not in every set in use");
                served.0.push((now, kids(&ring, now)));
                signers.insert(signer);
                copy.clock.advance(1);
            }
            assert!(signers.len() > 2, "it turns again");
        }
    }

    #[tokio::test]
    async fn a_key_that_was_revoked_after_the_backup_is_named_to_be_revoked_again() {
        let home = Home::new();
        let live = ring(&home).await;
        let backup = back_up(&live, &home, "backup.db").await;
        home.clock.advance(10);
        let now = || home.edges().clock.now();
        let stolen = rows(&live.store).await.signer(Algorithm::ES256, now()).expect("a signer").kid.clone();
        ops::revoke(&live, &home.config(ES256), &stolen, Some("stolen"), now).await.expect("revoked");

        let copy = restored(&home, &backup);
        let restored = ring(&copy).await;
        let log = restored.store.load_audit(100).await.expect("the log");
        let told = &log.iter().find(|row| row.act == "database.restored").expect("told").details;
        let again = ops::revoke(&restored, &copy.config(ES256), &stolen, Some("stolen"), now).await;

        let told: Value = serde_json::from_str(told).expect("JSON");
        assert!(told["usable"].as_array().expect("kids").contains(&Value::from(stolen)));
        assert_eq!(told["backup_at"], START);
        again.expect("revoked again");
        assert!(matches!(restored.store.verify_audit(None).await, Ok(AuditVerdict::Intact { .. })));
    }

    #[tokio::test]
    async fn of_several_servers_on_a_restored_database_one_goes_through_its_keys() {
        let home = Home::new();
        let live = ring(&home).await;
        let backup = back_up(&live, &home, "backup.db").await;
        home.clock.advance(300);
        let copy = restored(&home, &backup);

        let (one, other) = tokio::join!(copy.open(), copy.open());

        settlement(&one).await;
        assert_eq!(settlement(&other).await["rings"].as_array().expect("rings").len(), 1);
        assert_eq!(one.store.restored().await.expect("a look"), None);
        let starts = rows(&one.store).await;
        let at_once = starts.keys().iter().filter(|key| key.publish_at == key.sign_from && key.serial > 1);
        assert_eq!(at_once.count(), 1, "one new key signs at once");
    }

    #[tokio::test]
    async fn an_operator_can_say_that_a_database_was_restored() {
        let home = Home::new();
        let live = ring(&home).await;
        home.clock.advance(300);

        live.store.mark_restored(&by(&home)).await.expect("marked");
        live.store.mark_restored(&by(&home)).await.expect("marked twice");
        let settlement = live.rotator.settle_restored().await.expect("gone through").expect("it was marked");
        let again = live.rotator.settle_restored().await.expect("looked at");

        assert_eq!(settlement.backup_at, None);
        assert!(matches!(settlement.rings[0].signer, Signer::Replaced { .. }), "{settlement:?}");
        assert!(settlement.rings[0].lost_tokens_until.is_some());
        assert_eq!(again, None);
    }

    #[tokio::test]
    async fn a_backup_is_private_never_replaces_a_file_and_leaves_nothing_behind() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = Home::new();
        let live = ring(&home).await;
        let backup = back_up(&live, &home, "backup.db").await;
        let content = std::fs::read(&backup).expect("read");

        let again = live.store.backup(&backup, &by(&home)).await;
        let nowhere = live.store.backup(&home.path().join("none/backup.db"), &by(&home)).await;

        assert!(matches!(again, Err(BackupError::Exists(_))));
        assert!(matches!(nowhere, Err(BackupError::File { doing: "create", .. })));
        assert_eq!(std::fs::read(&backup).expect("read"), content);
        assert_eq!(std::fs::metadata(&backup).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!home.path().join("backup.db.part").exists());
        assert_eq!(live.store.restored().await.expect("a look"), None, "the database itself is not marked");
    }

    #[tokio::test]
    async fn a_backup_made_while_keys_change_is_whole() {
        let home = Home::new();
        let live = ring(&home).await;
        let writer = Ring::open(&home.config(ES256), &home.edges(), WhenMissing::Refuse).await.expect("a ring");
        let changes = async {
            for _ in 0..20 {
                home.clock.advance(60);
                writer.rotator.tick().await.expect("a visit");
            }
        };
        let backups = async {
            let mut files = Vec::new();
            for number in 0..5 {
                files.push(back_up(&live, &home, &format!("{number}.db")).await);
            }
            files
        };

        let ((), files) = tokio::join!(changes, backups);

        for file in files {
            let copy = restored(&home, &file);
            let app = copy.open().await;
            assert!(matches!(app.store.verify_audit(None).await, Ok(AuditVerdict::Intact { last: Some(_) })));
            app.keys.ready(copy.edges().clock.now()).expect("it signs");
        }
    }
}
