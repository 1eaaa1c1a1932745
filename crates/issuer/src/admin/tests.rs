//! The operator's acts, on a real database, beside a server that has read it.

use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{How, Keyring, Phase, WhoSigns};
use p256::pkcs8::DecodePrivateKey as _;

use super::ops::{self, OpsError, Rewrapped};
use crate::app::{Ring, StartError};
use crate::chain;
use crate::keys::seal::{KeyEncryptionKey, SealError};
use crate::storage::{AcmeSecret, By, CertificateOrder, KeyChange, StoredAccount, WhenMissing};
use crate::testing::{Home, START};

async fn ring(home: &Home) -> Ring {
    let ring = Ring::open(&home.config(ES256), &home.edges(), WhenMissing::Create).await.expect("a ring");
    ring.rotator.tick().await.expect("a visit");
    ring
}

async fn rows(ring: &Ring) -> Keyring {
    Keyring::new(ring.store.load_keys().await.expect("rows").into_iter().map(|key| key.record).collect())
}

fn now(home: &Home) -> Timestamp {
    home.edges().clock.now()
}

#[tokio::test]
async fn revoking_the_signing_key_hands_over_to_the_standby_at_once() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(40);
    let before = rows(&ring).await;
    let signer = before.signer(Algorithm::ES256, now(&home)).expect("a signer").kid.clone();
    let standby = before.keys().iter().find(|key| before.phase(key, now(&home)) == Phase::Standby);
    let standby = standby.expect("a standby").kid.clone();

    let revocation = ops::revoke(&ring, &home.config(ES256), &signer, Some("stolen"), || now(&home)).await;

    let revocation = revocation.expect("revoked");
    assert_eq!(revocation.signs_next, WhoSigns::Standby { kid: standby.clone() });
    assert_eq!(revocation.may_stumble, None, "it was announced for longer than 30 s");
    let after = rows(&ring).await;
    assert_eq!(after.signer(Algorithm::ES256, now(&home)).expect("a signer").kid, standby);
    assert!(after.published(&[], now(&home)).iter().all(|key| key.kid != signer), "it is out of the JWKS");
    assert!(after.keys().iter().any(|key| after.phase(key, now(&home)) == Phase::Standby), "there is a new standby");
    let stored = ring.store.load_keys().await.expect("rows");
    let revoked = stored.iter().find(|key| key.record.kid == signer).expect("the row stays");
    assert_eq!(revoked.revoked_reason.as_deref(), Some("stolen"));
    assert!(revoked.sealed_private.is_none(), "its private half is gone");
    let again = ops::revoke(&ring, &home.config(ES256), &signer, None, || now(&home)).await;
    assert!(matches!(again, Err(OpsError::Revoke(_))));
}

#[tokio::test]
async fn revoking_before_the_standby_was_announced_says_who_may_stumble() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(3);
    let signer = rows(&ring).await.signer(Algorithm::ES256, now(&home)).expect("a signer").kid.clone();

    let revocation = ops::revoke(&ring, &home.config(ES256), &signer, None, || now(&home)).await.expect("revoked");

    let stumble = revocation.may_stumble.expect("somebody may");
    assert!(stumble.until > now(&home) && stumble.until <= Timestamp::from_unix(START + 40), "{stumble:?}");
}

#[tokio::test]
async fn a_rotation_is_brought_forward_only_as_far_as_is_safe() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(10);
    let config = home.config(ES256);

    let rotated = ops::rotate(&ring, &[Algorithm::ES256], How::Safe, || now(&home)).await.expect("done");

    let standby = rows(&ring).await.key(&rotated[0].kid).expect("the standby").clone();
    assert_eq!(standby.sign_from, rotated[0].to);
    assert!(rotated[0].to < rotated[0].from);
    assert!(standby.sign_from >= standby.publish_at + config.keys.rotation.announce());
    assert_eq!(rotated[0].may_stumble, None);
}

#[tokio::test]
async fn a_rotation_that_cannot_be_sooner_stays_as_it_is() {
    let home = Home::new();
    let ring = ring(&home).await;
    let rotate = async || {
        let now = || now(&home);
        ops::rotate(&ring, &[Algorithm::ES256], How::Safe, now).await.expect("done")
    };

    let first = rotate().await;
    let second = rotate().await;

    assert_eq!((second[0].from, second[0].to), (first[0].to, first[0].to));
}

#[tokio::test]
async fn a_key_is_announced_for_as_long_as_sets_of_an_older_policy_may_be_cached() {
    let home = Home::new();
    let every = (r#"rotate_every = "60s""#, r#"rotate_every = "80s""#);
    let ages = |max_age, announce| [every, (r#"jwks_max_age = "5s""#, max_age), (r#"announce = "30s""#, announce)];
    let long = home.config_with(ES256, &ages(r#"jwks_max_age = "60s""#, r#"announce = "70s""#));
    let before = Ring::open(&long, &home.edges(), WhenMissing::Create).await.expect("a ring");
    before.rotator.tick().await.expect("a visit");
    home.clock.advance(60);
    // Lowered together. Who fetched a moment ago keeps the set for a minute yet.
    let short = home.config_with(ES256, &ages(r#"jwks_max_age = "5s""#, r#"announce = "12s""#));
    let after = Ring::open(&short, &home.edges(), WhenMissing::Refuse).await.expect("a ring");
    let standby = rows(&after).await.keys().last().expect("a standby").kid.clone();

    ops::revoke(&after, &short, &standby, None, || now(&home)).await.expect("revoked");

    let rows = rows(&after).await;
    let newest = rows.keys().last().expect("a new standby");
    let announced = newest.sign_from.duration_since(newest.publish_at).as_secs();
    assert!(announced >= 60 + 1 + 2 + 2, "announced for {announced} s");
}

#[tokio::test]
async fn a_rotation_at_once_says_what_it_may_break() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(10);

    let rotated = ops::rotate(&ring, &[Algorithm::ES256], How::Now, || now(&home)).await.expect("done");

    assert!(rotated[0].may_stumble.is_some());
    let signer = rows(&ring).await.signer(Algorithm::ES256, now(&home)).expect("a signer").kid.clone();
    assert_eq!(signer, rotated[0].kid);
}

#[tokio::test]
async fn of_two_rotators_at_once_exactly_one_makes_the_next_key() {
    let home = Home::new();
    let one = ring(&home).await;
    let other = Ring::open(&home.config(ES256), &home.edges(), WhenMissing::Refuse).await.expect("a ring");

    for _ in 0..6 {
        home.clock.advance(60);
        let (first, second) = tokio::join!(one.rotator.tick(), other.rotator.tick());
        first.expect("a visit");
        second.expect("a visit");
    }

    let rows = rows(&one).await;
    let mut serials: Vec<i64> = rows.keys().iter().map(|key| key.serial).collect();
    let count = serials.len();
    serials.dedup();
    assert_eq!(serials.len(), count);
    assert!(count <= 9, "one key a rotation, not two: {count}");
}

#[tokio::test]
async fn an_imported_key_is_the_first_of_a_new_issuer_and_the_last_in_line_of_another() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keys.example");
    let pem = std::fs::read(folder.join("es256.pem")).expect("an example key");
    let jwk = std::fs::read(folder.join("es256.jwk")).expect("an example key");
    let home = Home::new();
    let config = home.config(ES256);
    let ring = Ring::open(&config, &home.edges(), WhenMissing::Create).await.expect("a ring");

    let first = ops::import_key(&ring, &config, &pem, None, || now(&home)).await.expect("imported");
    ring.rotator.tick().await.expect("a visit");
    let last = ops::import_key(&ring, &config, &jwk, None, || now(&home)).await.expect("imported");

    assert!(first.sign_from <= now(&home));
    assert!(last.sign_from >= now(&home) + config.keys.rotation.announce());
    let signer = rows(&ring).await.signer(Algorithm::ES256, now(&home)).expect("a signer").kid.clone();
    assert_eq!(signer, first.kid);
    let again = ops::import_key(&ring, &config, &pem, None, || now(&home)).await;
    assert!(matches!(again, Err(OpsError::KnownKey(_))));
}

#[tokio::test]
async fn an_example_key_is_refused_unless_the_issuer_is_on_loopback() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keys.example");
    let pem = std::fs::read(folder.join("es256.pem")).expect("an example key");
    let home = Home::new();
    let mut config = home.config(ES256);
    let ring = Ring::open(&config, &home.edges(), WhenMissing::Create).await.expect("a ring");
    ops::import_key(&ring, &config, &pem, None, || now(&home)).await.expect("imported on loopback");
    config.issuer = crate::config::IssuerUrl::parse("https://id.example.com").expect("an issuer");

    let imported = ops::import_key(&ring, &config, &pem, None, || now(&home)).await;
    let started = crate::app::App::open(config, home.edges()).await;

    assert!(matches!(imported, Err(OpsError::KnownKey(_) | OpsError::ExampleKey(_))));
    assert!(matches!(started.err(), Some(StartError::ExampleKey(_))));
}

/// The keys of `home`, with these key-encryption keys; the folder's `kek` is made if it is missing.
async fn ring_under(home: &Home, files: &[&str]) -> Result<Ring, StartError> {
    let mut config = home.config(ES256);
    config.keys.encryption_key_files = files.iter().map(|file| home.path().join(file)).collect();
    let ring = Ring::open(&config, &home.edges(), WhenMissing::Create).await?;
    ring.rotator.tick().await?;
    Ok(ring)
}

fn make_kek(home: &Home, file: &str) {
    KeyEncryptionKey::create(&home.path().join(file), home.edges().entropy.as_ref()).expect("made");
}

#[tokio::test]
async fn an_emergency_leaves_its_record() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(10);
    let config = home.config(ES256);

    let rotated = ops::rotate(&ring, &[Algorithm::ES256], How::Now, || now(&home)).await.expect("done");
    let kid = rotated[0].kid.clone();
    ops::revoke(&ring, &config, &kid, Some("stolen"), || now(&home)).await.expect("revoked");

    let log = ring.store.load_audit(100).await.expect("the log");
    let told = |act| {
        let entry = log.iter().find(|row| row.act == act && row.subject == kid).expect("an entry");
        (entry.at, entry.actor.as_str(), entry.details.as_str())
    };
    let author = home.edges().author;
    let (at, actor, details) = told("key.brought_forward");
    assert_eq!((at, actor), (now(&home), author.actor()));
    assert!(details.contains(&format!(r#""sign_from":{}"#, now(&home).as_unix())), "{details}");
    let (at, actor, details) = told("key.revoked");
    assert_eq!((at, actor), (now(&home), author.actor()));
    assert!(details.contains(r#""reason":"stolen""#), "{details}");
}

#[tokio::test]
async fn rewrapping_exchanges_the_key_encryption_key_beside_a_running_server() {
    let home = Home::new();
    let server = ring(&home).await;
    make_kek(&home, "new");
    let operator = ring_under(&home, &["new", "kek"]).await.expect("both are read");
    let count = rows(&operator).await.keys().len();

    let first = ops::rewrap(&operator, || now(&home)).await.expect("moved");
    let second = ops::rewrap(&operator, || now(&home)).await.expect("looked at");

    assert_eq!(first, Rewrapped { signing_keys: count, ..Rewrapped::default() });
    assert_eq!(second, Rewrapped::default());
    server.rotator.tick().await.expect("the server goes on with the keys it has");
    assert!(server.keys.ready(now(&home)).is_ok());
    ring_under(&home, &["new"]).await.expect("the old key is not needed any more");
    let acts = operator.store.load_audit(2).await.expect("the log");
    assert!(acts.iter().all(|row| row.act == "key.rewrapped" && row.details.contains(&operator.kek.sealing_id())));
}

/// Stores what a server stores that orders certificates: the secrets of two names at one authority.
async fn store_acme_secrets(ring: &Ring, names: [&str; 2], directory_url: &str) {
    let seal = |secret: &AcmeSecret, plain: &[u8]| {
        ring.kek.seal_secret(secret.purpose(), secret.name(), plain).expect("sealed")
    };
    let at = Timestamp::from_unix(START);
    for name in names {
        let order = CertificateOrder { name, holder: "server" };
        ring.store.take_order(order, 0, at, Duration::from_secs(60)).await.expect("asked").expect("the order");
        let sealed = seal(&AcmeSecret::CertificateKey(name.to_owned()), b"certificate key");
        ring.store.store_certificate(order, "chain", &sealed, at).await.expect("stored");
    }
    let credentials_sealed = seal(&AcmeSecret::Account(directory_url.to_owned()), b"credentials");
    let account = StoredAccount { contact: String::new(), credentials_sealed };
    ring.store.put_acme_account(directory_url, &account).await.expect("stored");
}

#[tokio::test]
async fn rewrapping_moves_what_certificates_are_ordered_and_shown_with() {
    const DIRECTORY: &str = "https://ca.example.com";
    let home = Home::new();
    let server = ring(&home).await;
    store_acme_secrets(&server, ["a.example.com", "b.example.com"], DIRECTORY).await;
    make_kek(&home, "new");
    let operator = ring_under(&home, &["new", "kek"]).await.expect("both are read");
    let signing_keys = rows(&operator).await.keys().len();

    let first = ops::rewrap(&operator, || now(&home)).await.expect("moved");
    let second = ops::rewrap(&operator, || now(&home)).await.expect("looked at");

    assert_eq!(first, Rewrapped { signing_keys, certificate_keys: 2, acme_accounts: 1, lost: Vec::new() });
    assert_eq!(second, Rewrapped::default());
    let without_old = ring_under(&home, &["new"]).await.expect("the old key is not needed any more");
    let secrets = without_old.store.acme_secrets().await.expect("read");
    let opened = secrets.iter().map(|(secret, sealed)| {
        let (plain, _) = without_old.kek.open_secret(secret.purpose(), secret.name(), sealed).expect("opened");
        (secret.name(), String::from_utf8(plain.to_vec()).expect("text"))
    });
    assert_eq!(
        opened.collect::<Vec<_>>(),
        [("a.example.com", "certificate key"), ("b.example.com", "certificate key"), (DIRECTORY, "credentials")]
            .map(|(name, plain)| (name, plain.to_owned()))
    );
    let log = operator.store.load_audit(3).await.expect("the log");
    let under = operator.kek.sealing_id();
    assert!(log.iter().all(|row| row.act.ends_with(".rewrapped") && row.details.contains(&under)), "{log:?}");
}

#[tokio::test]
async fn what_no_key_opens_is_told_of_and_keeps_nothing_from_being_rewrapped() {
    let home = Home::new();
    make_kek(&home, "lost");
    let before = ring(&home).await;
    let gone = Ring { kek: kek_of(&home, &["lost"]).await, ..ring(&home).await };
    store_acme_secrets(&gone, ["old.example.com", "older.example.com"], "https://old.example.com").await;
    store_acme_secrets(&before, ["a.example.com", "b.example.com"], "https://ca.example.com").await;
    make_kek(&home, "new");
    let operator = ring_under(&home, &["new", "kek"]).await.expect("both are read");

    let Rewrapped { signing_keys, certificate_keys, acme_accounts, lost } =
        ops::rewrap(&operator, || now(&home)).await.expect("moved");

    assert!(signing_keys > 0);
    assert_eq!((certificate_keys, acme_accounts, lost.len()), (2, 1, 3));
    for (why, name) in lost.iter().zip(["old.example.com", "older.example.com", "https://old.example.com"]) {
        assert!(why.contains(&format!("of {name} is sealed under the key-encryption key {}", gone.kek.sealing_id())));
    }
}

/// The key-encryption keys in these files.
async fn kek_of(home: &Home, files: &[&str]) -> std::sync::Arc<crate::keys::seal::KeyEncryptionKeys> {
    let mut config = home.config(ES256);
    config.keys.encryption_key_files = files.iter().map(|file| home.path().join(file)).collect();
    Ring::open(&config, &home.edges(), WhenMissing::Create).await.expect("a ring").kek
}

#[tokio::test]
async fn rewrapping_does_not_bring_back_a_private_half_that_is_destroyed_meanwhile() {
    let home = Home::new();
    let server = ring(&home).await;
    let key = server.store.load_keys().await.expect("rows").remove(0);
    let (kid, from) = (key.record.kid, key.sealed_private.expect("it can sign"));
    let by = By::new(&home.edges().author, now(&home));
    server.store.change_keys(&[KeyChange::DestroyPrivate { kid: kid.clone() }], &by).await.expect("destroyed");

    let rewrap = KeyChange::Rewrap { kid, from, to: vec![1], under: "new".to_owned() };
    server.store.change_keys(&[rewrap], &by).await.expect("nothing is left to move");

    assert!(server.store.load_keys().await.expect("rows")[0].sealed_private.is_none());
    assert_eq!(server.store.load_audit(1).await.expect("the log")[0].act, "key.private_destroyed");
}

#[tokio::test]
async fn a_missing_key_encryption_key_is_found_at_the_start() {
    let home = Home::new();
    drop(ring(&home).await);
    make_kek(&home, "new");

    let missing = ring_under(&home, &["kek", "gone"]).await;
    let first_missing = ring_under(&home, &["gone", "kek"]).await;
    let other = ring_under(&home, &["new"]).await;

    assert!(matches!(missing.err(), Some(StartError::Seal(SealError::FileMissing(_)))));
    assert!(matches!(first_missing.err(), Some(StartError::Seal(SealError::FileMissing(_)))));
    let id = KeyEncryptionKey::read(&home.path().join("kek")).expect("read").id();
    let Some(StartError::Rotation(error)) = other.err() else { panic!("the rows do not open") };
    assert!(chain(&error).contains(&id), "the key-encryption key that is needed is named");
}

/// The whole of a life: after the rotation neither form of the private half stands in any file of the database.
#[tokio::test]
async fn a_private_half_that_can_sign_no_more_is_in_no_file_of_the_database() {
    let home = Home::new();
    let ring = ring_under(&home, &["kek"]).await.expect("a ring");
    let mut seen: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for _ in 0..200 {
        for key in ring.store.load_keys().await.expect("rows") {
            let Some(sealed) = key.sealed_private else { continue };
            if !seen.iter().any(|(kid, _)| *kid == key.record.kid) {
                let pkcs8 = ring.kek.open(&key.record.kid, key.record.alg, &sealed).expect("opened");
                let secret = p256::SecretKey::from_pkcs8_der(&pkcs8).expect("a key").to_bytes().to_vec();
                // The head of a sealed key is the same for all of them.
                seen.push((key.record.kid, vec![sealed[9..].to_vec(), pkcs8.to_vec(), secret]));
            }
        }
        home.clock.advance(10);
        ring.rotator.tick().await.expect("a visit");

        let files = database_files(&home);
        let rows = ring.store.load_keys().await.expect("rows");
        for (kid, secrets) in &seen {
            let can_sign = rows.iter().any(|key| key.record.kid == *kid && key.sealed_private.is_some());
            let [sealed, plain @ ..] = secrets.as_slice() else { panic!("three forms") };
            assert_eq!(contains(&files, sealed), can_sign, "the sealed half of {kid}");
            assert!(plain.iter().all(|secret| !contains(&files, secret)), "the private half of {kid}");
        }
    }
    let rows = ring.store.load_keys().await.expect("rows");
    assert!(seen.len() > 30 && rows.iter().filter(|key| key.sealed_private.is_some()).count() < 5);
}

/// Every byte of the database and of what lies beside it, such as its write-ahead log.
fn database_files(home: &Home) -> Vec<u8> {
    let files = std::fs::read_dir(home.path()).expect("a folder").map(|file| file.expect("a file").path());
    let names = |file: &std::path::Path| file.to_string_lossy().contains("keywheel.db");
    let files: Vec<_> = files.filter(|file| names(file)).collect();
    assert!(files.len() > 1, "the log is read too: {files:?}");
    files.iter().flat_map(|file| std::fs::read(file).expect("read")).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let first = part[0];
    let mut rest = bytes;
    while let Some(place) = rest.iter().position(|&byte| byte == first) {
        if rest[place..].starts_with(part) {
            return true;
        }
        rest = &rest[place + 1..];
    }
    false
}

const ES256: &str = r#"algorithms = ["ES256"]"#;
