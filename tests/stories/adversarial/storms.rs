//! Storms of invented `kid`s: they cost the issuer next to nothing, hold up no good token, and hide no new key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keywheel_jose::{AccessTokenClaims, Algorithm, Policy};
use keywheel_verifier::{FetchReport, Lane, Limits, Metrics, Verifier};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fronts::ready;
use super::origin::{Origin, Reply};
use super::signer::{AUDIENCE, ISSUER, Key, claims, encode, good, header, our_keys, signing_input, with};
use super::table::World;
use crate::harness::{Issuer, Settings, eventually, kid};

const STORM: usize = 10_000;
const COOLDOWN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn ten_thousand_invented_kids_cost_one_fetch_per_cooldown() {
    let origin = Origin::answering(Reply::keys(our_keys().to_string())).await;
    let verifier = verifier(&origin);
    let known = good(Algorithm::EdDSA);
    assert!(verifier.verify::<AccessTokenClaims>(&known).await.is_ok());
    let began = Instant::now();

    let mut crowd = JoinSet::new();
    for first in 0..100 {
        let (verifier, known) = (verifier.clone(), known.clone());
        crowd.spawn(async move {
            for number in (first..STORM).step_by(100) {
                let invented = invented(ISSUER, AUDIENCE, number);
                let verdict = match number % 2 {
                    0 => verifier.verify::<AccessTokenClaims>(&invented).await,
                    _ => verifier.verify_now::<AccessTokenClaims>(&invented),
                };
                assert_eq!(verdict.expect_err("nobody has that key").code(), "unknown_kid");
                let good = ready(verifier.verify::<AccessTokenClaims>(&known));
                assert!(good.expect("a known key waits for nothing").is_ok());
            }
        });
    }
    crowd.join_all().await;

    let windows = usize::try_from(began.elapsed().as_secs() / COOLDOWN.as_secs()).expect("few seconds");
    let fetches = origin.requests();
    assert!(fetches <= 2 + windows, "{fetches} fetches, the first one included, in {:?}", began.elapsed());
}

#[tokio::test]
async fn the_same_kid_is_not_looked_for_again_and_again() {
    let origin = Origin::answering(Reply::keys(our_keys().to_string())).await;
    // A kid is looked for again after some cooldowns: they outlast the loop below on the slowest machine.
    let limits = Limits { cooldown: COOLDOWN * 3, ..Limits::default() };
    let builder = Verifier::builder(World::ours().policy).jwks_url(origin.url()).limits(limits);
    let verifier = builder.build().expect("a verifier");
    assert!(verifier.verify::<AccessTokenClaims>(&good(Algorithm::EdDSA)).await.is_ok());
    let invented = invented(ISSUER, AUDIENCE, 1);

    // A fetch that began after the first sight of it did not bring it.
    eventually("the kid was looked for", PATIENCE, async || {
        drop(verifier.verify::<AccessTokenClaims>(&invented).await);
        (origin.requests() == 2).then_some(())
    })
    .await;
    for _ in 0..1_000 {
        let verdict = ready(verifier.verify::<AccessTokenClaims>(&invented));
        assert_eq!(verdict.expect("it waits for nothing").expect_err("nobody has it").code(), "unknown_kid");
    }

    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_key_that_was_not_announced_is_found_in_a_storm() {
    let origin = Origin::answering(Reply::keys(json!({"keys": [Key::Ed25519.jwk()]}).to_string())).await;
    let verifier = verifier(&origin);
    let known = good(Algorithm::EdDSA);
    assert!(verifier.verify::<AccessTokenClaims>(&known).await.is_ok());
    let storm = Storm::begin(verifier.clone(), ISSUER.to_owned(), AUDIENCE);
    let new = good(Algorithm::ES256);
    assert_eq!(verifier.verify::<AccessTokenClaims>(&new).await.expect_err("it is new").code(), "unknown_kid");
    let began = Instant::now();

    origin.answer(Reply::keys(our_keys().to_string()));
    eventually("the new key is found", PATIENCE, async || verifier.verify::<AccessTokenClaims>(&new).await.ok()).await;

    assert!(ready(verifier.verify::<AccessTokenClaims>(&known)).expect("it waits for nothing").is_ok());
    let windows = usize::try_from(began.elapsed().as_secs() / COOLDOWN.as_secs()).expect("few seconds");
    let fetches = origin.requests();
    assert!(fetches <= 4 + windows, "{fetches} fetches in {:?} and a little", began.elapsed());
    assert!(storm.end().await > 100, "that was no storm");
}

/// Keys turn every five seconds; the verifier has to know the second one, in time, while nobody stops inventing others.
#[tokio::test]
async fn a_rotation_in_a_storm_is_followed() {
    let settings = Settings {
        keys: r#"
            algorithms = ["ES256"]
            rotate_every = "5s"
            announce = "5s"
            jwks_max_age = "1s"
            jwks_shared_max_age = "1s"
            clock_skew = "0s"
            poll = "1s"
            max_staleness = "4s"
        "#,
        tokens: "access_ttl = \"3s\"\nid_ttl = \"3s\"\n",
        ..Settings::PLAIN
    };
    let issuer = Issuer::new(settings);
    let _running = issuer.serve().await;
    let searches = Searches::default();
    let policy = Policy::access_token(issuer.url(), Settings::AUDIENCE);
    let limits = Limits { freshness_floor: Duration::ZERO, cooldown: COOLDOWN, ..Limits::default() };
    let builder = Verifier::builder(policy).limits(limits).metrics(searches.clone());
    let verifier = builder.build().expect("a verifier");
    let client = ("billing", Settings::SECRET);
    let first = issuer.token(client).await;
    assert!(verifier.verify::<Map<String, Value>>(&first).await.is_ok());
    let began = Instant::now();
    let storm = Storm::begin(verifier.clone(), issuer.url(), Settings::AUDIENCE);

    eventually("another key signs", PATIENCE, async || {
        let token = issuer.token(client).await;
        // The set is replaced in the background, before any token needs it.
        let verdict = verifier.verify_now::<Map<String, Value>>(&token);
        assert!(verdict.is_ok(), "{verdict:?}");
        (kid(&token) != kid(&first)).then_some(())
    })
    .await;

    let windows = usize::try_from(began.elapsed().as_secs() / COOLDOWN.as_secs()).expect("few seconds");
    let searched = searches.0.load(Ordering::Relaxed);
    assert!(searched <= 1 + windows, "{searched} fetches for invented keys in {:?}", began.elapsed());
    assert!(storm.end().await > 100, "that was no storm");
}

/// Somebody who never stops inventing keys.
struct Storm {
    over: Arc<AtomicBool>,
    blowing: tokio::task::JoinHandle<usize>,
}

impl Storm {
    fn begin(verifier: Verifier, issuer: String, audience: &'static str) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ended = Arc::clone(&over);
        let blowing = tokio::spawn(async move {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    number += 1;
                    let verdict = verifier.verify_now::<Map<String, Value>>(&invented(&issuer, audience, number));
                    assert_eq!(verdict.expect_err("nobody has that key").code(), "unknown_kid");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            number
        });
        Self { over, blowing }
    }

    /// How many keys were invented.
    async fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.blowing.await.expect("every invented key was refused")
    }
}

/// Counts the fetches that tokens caused.
#[derive(Clone, Default)]
struct Searches(Arc<AtomicUsize>);

impl Metrics for Searches {
    fn fetched(&self, fetch: &FetchReport) {
        if fetch.lane == Lane::Search {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn verifier(origin: &Origin) -> Verifier {
    let limits = Limits { cooldown: COOLDOWN, ..Limits::default() };
    let builder = Verifier::builder(World::ours().policy).jwks_url(origin.url()).limits(limits);
    builder.build().expect("a verifier")
}

/// A token that is plausible but for its key and signature.
fn invented(issuer: &str, audience: &str, number: usize) -> String {
    let header = with(header(Algorithm::ES256), "kid", format!("invented-{number}"));
    let claims = with(with(claims(), "iss", issuer), "aud", audience);
    format!("{}.{}", signing_input(header.to_string(), claims.to_string()), encode([7; 64]))
}
