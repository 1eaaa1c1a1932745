//! Certificates that the servers order themselves.

use std::time::Duration;

use super::{Place, at, by as author};
use crate::storage::{AcmeSecret, CertificateOrder as Order, Reseal, StoredAccount};

const NAME: &str = "https://ca.example.com/directory id.example.com";
const LEASE: Duration = Duration::from_secs(100);

fn by(holder: &str) -> Order<'_> {
    Order { name: NAME, holder }
}

async fn one_server_orders_a_certificate_and_all_take_it(place: Place) {
    let (one, other) = (place.open().await, place.open().await);

    let (mine, yours) =
        tokio::join!(one.take_order(by("one"), 0, at(10), LEASE), other.take_order(by("other"), 0, at(10), LEASE));
    let (mine, yours) = (mine.expect("asked"), yours.expect("asked"));
    assert_eq!([mine, yours].iter().flatten().collect::<Vec<_>>(), [&0], "one of two that race");
    let (holder, loser) = if mine.is_some() { ("one", "other") } else { ("other", "one") };
    assert_eq!(other.newer_certificate(NAME, 0).await.expect("read"), None);

    assert!(!one.store_certificate(by(loser), "stolen", b"sealed", at(12)).await.expect("refused"));
    assert!(one.store_certificate(by(holder), "chain", b"sealed", at(12)).await.expect("stored"));

    let taken = other.newer_certificate(NAME, 0).await.expect("read").expect("a certificate");
    assert_eq!((taken.generation, taken.chain.as_str(), taken.private_sealed.as_slice()), (1, "chain", &b"sealed"[..]));
    assert_eq!(other.newer_certificate(NAME, 1).await.expect("read"), None);
    let late = other.take_order(by(loser), 0, at(12), LEASE).await.expect("asked");
    assert_eq!(late, None, "it has not seen the certificate that there is");
    assert_eq!(other.take_order(by(loser), 1, at(11), LEASE).await.expect("asked"), None, "so soon");
    assert_eq!(other.take_order(by(loser), 1, at(12), LEASE).await.expect("asked"), Some(0));
}

async fn an_order_that_failed_waits_and_one_that_was_lost_does_not(place: Place) {
    let store = place.open().await;
    let take = async |holder, now| store.take_order(by(holder), 0, at(now), LEASE).await.expect("asked");

    assert_eq!(take("one", 10).await, Some(0));
    store.put_off_order(by("other"), at(1000)).await.expect("not the holder");
    store.put_off_order(by("one"), at(70)).await.expect("put off");
    assert_eq!(take("other", 69).await, None, "too early");
    assert_eq!(take("other", 70).await, Some(1));
    assert_eq!(take("one", 169).await, None, "somebody else is at it");
    assert_eq!(take("one", 170).await, Some(1), "nobody heard of the other for too long");
    store.give_order_back(by("one")).await.expect("given back");
    assert_eq!(take("other", 171).await, Some(1));
}

async fn a_certificate_that_nobody_can_open_is_ordered_anew_at_once(place: Place) {
    let store = place.open().await;
    let take = async |known, now| store.take_order(by("one"), known, at(now), LEASE).await.expect("asked");

    assert_eq!(take(0, 10).await, Some(0));
    assert!(store.store_certificate(by("one"), "chain", b"sealed", at(1000)).await.expect("stored"));
    store.give_certificate_up(NAME, 2, at(20)).await.expect("it is another one");
    assert_eq!(take(1, 20).await, None, "too early");
    store.give_certificate_up(NAME, 1, at(20)).await.expect("given up");
    assert_eq!(take(1, 20).await, Some(0));

    store.put_off_order(by("one"), at(2000)).await.expect("put off");
    store.give_certificate_up(NAME, 1, at(30)).await.expect("asked");
    assert_eq!(take(1, 30).await, None, "an order failed, which another start does not make sooner");
    assert_eq!(take(1, 2000).await, Some(1));
}

async fn secrets_are_sealed_anew_unless_they_were_replaced_meanwhile(place: Place) {
    let (operator, server) = (place.open().await, place.open().await);
    let account = |sealed: &[u8]| StoredAccount { contact: "a".to_owned(), credentials_sealed: sealed.to_vec() };
    let store_certificate = async |known, sealed: &[u8]| {
        server.take_order(by("one"), known, at(10), LEASE).await.expect("asked").expect("the order");
        assert!(server.store_certificate(by("one"), "chain", sealed, at(10)).await.expect("stored"));
    };
    let reseal = |secret: &AcmeSecret, from: &[u8], to: &[u8]| Reseal {
        secret: secret.clone(),
        from: from.to_vec(),
        to: to.to_vec(),
        under: "new".to_owned(),
    };
    let (key, credentials) =
        (AcmeSecret::CertificateKey(NAME.to_owned()), AcmeSecret::Account("https://ca.example.com".to_owned()));
    let ordering = Order { name: "https://ca.example.com/directory other.example.com", holder: "one" };
    server.take_order(ordering, 0, at(10), LEASE).await.expect("asked").expect("an order that has brought nothing yet");
    store_certificate(0, &[1, 0, 255]).await;
    server.put_acme_account(credentials.name(), &account(&[2, 0, 255])).await.expect("stored");

    let secrets = operator.acme_secrets().await.expect("read");
    assert_eq!(secrets, [(key.clone(), vec![1, 0, 255]), (credentials.clone(), vec![2, 0, 255])]);
    let both = [reseal(&key, &[1, 0, 255], &[3, 0]), reseal(&credentials, &[2, 0, 255], &[4, 0])];
    let author = author();
    let (mine, yours) = tokio::join!(operator.reseal(&both, &author), server.reseal(&both, &author));
    let (mine, yours) = (mine.expect("sealed anew"), yours.expect("sealed anew"));
    assert_eq!([mine, yours].concat(), [key.clone(), credentials.clone()], "by one of two that race");
    let secrets = operator.acme_secrets().await.expect("read");
    assert_eq!(secrets, [(key.clone(), vec![3, 0]), (credentials.clone(), vec![4, 0])]);
    let acts: Vec<_> = operator.load_audit(2).await.expect("the log").into_iter().map(|row| row.act).collect();
    assert!(["certificate.rewrapped", "acme_account.rewrapped"].iter().all(|act| acts.iter().any(|it| it == act)));

    store_certificate(1, &[5]).await;
    server.put_acme_account(credentials.name(), &account(&[6])).await.expect("replaced");
    let late = [reseal(&key, &[3, 0], &[7]), reseal(&credentials, &[4, 0], &[8])];
    assert_eq!(operator.reseal(&late, &author).await.expect("nothing is left of what was read"), []);
    assert_eq!(operator.acme_secrets().await.expect("read"), [(key, vec![5]), (credentials, vec![6])]);
    assert_eq!(operator.load_audit(10).await.expect("the log").len(), 2, "no entry where nothing changed");
    let stored = operator.newer_certificate(NAME, 1).await.expect("read").expect("a certificate");
    assert_eq!((stored.generation, stored.chain.as_str()), (2, "chain"));
}

async fn every_server_answers_a_challenge_while_it_lasts(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let answer = async |kind, name, now| other.challenge_answer(kind, name, at(now)).await.expect("asked");

    one.put_challenge("http-01", "token", "before", (at(10), at(20))).await.expect("stored");
    one.put_challenge("http-01", "token", "answer", (at(10), at(20))).await.expect("replaced");

    assert_eq!(answer("http-01", "token", 19).await.as_deref(), Some("answer"));
    assert_eq!(answer("http-01", "token", 20).await, None);
    assert_eq!(answer("http-01", "other", 19).await, None);
    assert_eq!(answer("tls-alpn-01", "token", 19).await, None);
    one.put_challenge("tls-alpn-01", "id.example.com", "other", (at(30), at(40))).await.expect("stored");
    assert_eq!(answer("http-01", "token", 19).await, None, "what is over is forgotten");
    one.forget_challenge("tls-alpn-01", "id.example.com").await.expect("forgotten");
    assert_eq!(answer("tls-alpn-01", "id.example.com", 31).await, None);
}

async fn an_account_at_an_authority_is_kept(place: Place) {
    let store = place.open().await;
    let account = |contact: &str| StoredAccount { contact: contact.to_owned(), credentials_sealed: vec![0, 255] };

    assert_eq!(store.acme_account("https://ca.example.com").await.expect("read"), None);
    store.put_acme_account("https://ca.example.com", &account("a")).await.expect("stored");
    store.put_acme_account("https://ca.example.com", &account("b")).await.expect("replaced");

    assert_eq!(store.acme_account("https://ca.example.com").await.expect("read"), Some(account("b")));
    assert_eq!(store.acme_account("https://other.example.com").await.expect("read"), None);
}

on_both!(
    one_server_orders_a_certificate_and_all_take_it,
    an_order_that_failed_waits_and_one_that_was_lost_does_not,
    a_certificate_that_nobody_can_open_is_ordered_anew_at_once,
    secrets_are_sealed_anew_unless_they_were_replaced_meanwhile,
    every_server_answers_a_challenge_while_it_lasts,
    an_account_at_an_authority_is_kept,
);
