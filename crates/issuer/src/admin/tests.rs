//! The operator's acts, on a real database, beside a server that has read it.

use keywheel_jose::{Algorithm, Timestamp};
use keywheel_keyring::{How, Keyring, Phase, WhoSigns};

use super::ops::{self, OpsError};
use crate::app::Ring;
use crate::storage::WhenMissing;
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

    let rotated =
        ops::rotate(&ring, &config.keys.rotation, &[Algorithm::ES256], How::Safe, || now(&home)).await.expect("done");

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
    let config = home.config(ES256);
    let rotate = async || {
        let now = || now(&home);
        ops::rotate(&ring, &config.keys.rotation, &[Algorithm::ES256], How::Safe, now).await.expect("done")
    };

    let first = rotate().await;
    let second = rotate().await;

    assert_eq!((second[0].from, second[0].to), (first[0].to, first[0].to));
}

#[tokio::test]
async fn a_rotation_at_once_says_what_it_may_break() {
    let home = Home::new();
    let ring = ring(&home).await;
    home.clock.advance(10);
    let config = home.config(ES256);

    let rotated =
        ops::rotate(&ring, &config.keys.rotation, &[Algorithm::ES256], How::Now, || now(&home)).await.expect("done");

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
    assert!(matches!(started.err(), Some(crate::app::StartError::ExampleKey(_))));
}

const ES256: &str = r#"algorithms = ["ES256"]"#;
