//! Certificates that the servers order themselves.

use std::time::Duration;

use super::{Place, at};
use crate::storage::{CertificateOrder as Order, StoredAccount};

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
    one.reseal_certificate(NAME, 1, b"anew").await.expect("sealed anew");
    let resealed = one.newer_certificate(NAME, 0).await.expect("read").expect("a certificate");
    assert_eq!((resealed.generation, resealed.private_sealed.as_slice()), (1, &b"anew"[..]));
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
    every_server_answers_a_challenge_while_it_lasts,
    an_account_at_an_authority_is_kept,
);
