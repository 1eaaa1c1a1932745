//! What was found out under one policy, with one key or at one instant says nothing under another (RFC 8725 §3.8, §3.9,
//! §3.12), however often it is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keywheel_jose::{AccessTokenClaims, Algorithm, Policy, Timestamp};
use keywheel_verifier::{FetchError, FetchFuture, FetchKeys, Guard, Limits, Verifier};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Tables;
use super::fronts::{KeysAtHand, Verify, VerifyNow, long_fresh, ready, until_it_has_keys, verifier};
use super::origin::{Origin, Reply};
use super::services::Guarded;
use super::signer::{
    AUDIENCE, EXPIRES_AT, ISSUER, Key, NOW, claims, good, header, our_keys, signed, signing_input, token, with, without,
};
use super::table::World;

/// Room for every token of the tables.
const CACHE_BYTES: usize = 1 << 22;
const OTHER_ISSUER: &str = "https://other.example.com";

#[tokio::test]
async fn what_is_remembered_gives_the_verdicts_of_the_tables_again() {
    let verifier = remembering(World::ours().policy, &our_keys()).await;
    let tables = Tables::new().await;
    for _ in 0..2 {
        tables.put_to(VerifyNow(verifier.clone())).await;
        tables.put_to(Verify(verifier.clone())).await;
    }
}

#[tokio::test]
async fn one_of_two_issuers_gives_the_verdicts_of_the_tables() {
    let ours = remembering(World::ours().policy, &our_keys()).await;
    let other =
        remembering(Policy::access_token(OTHER_ISSUER, AUDIENCE), &json!({"keys": [Key::Stranger.jwk()]})).await;
    let both = Verifier::several([other, ours]).expect("two issuers");
    let tables = Tables::new().await;
    tables.put_to(Verify(both.clone())).await;
    tables.put_to(Guarded(Guard::new(both))).await;
}

#[tokio::test]
async fn a_token_holds_under_each_policy_by_itself() {
    let plain = || Policy::access_token(ISSUER, AUDIENCE);
    let only = |algorithm| plain().with_algorithms([algorithm]).expect("an algorithm");
    let policies = [
        ("plain", plain(), "ok"),
        ("another audience", Policy::access_token(ISSUER, "https://other.example.com"), "wrong_audience"),
        ("another issuer", Policy::access_token(OTHER_ISSUER, AUDIENCE), "wrong_issuer"),
        ("another type", Policy::id_token(ISSUER, AUDIENCE), "wrong_type"),
        ("another algorithm", only(Algorithm::RS256), "algorithm_not_allowed"),
        ("its algorithm", only(Algorithm::ES256), "ok"),
        ("a smaller size", plain().with_max_token_bytes(100), "token_too_large"),
        ("one audience more", Policy::access_token(ISSUER, "x").or_audience(AUDIENCE), "ok"),
        ("any type", Policy::any(ISSUER, AUDIENCE), "ok"),
    ];
    let token = good(Algorithm::ES256);
    let mut verifiers = Vec::new();
    for (name, policy, expected) in policies {
        verifiers.push((name, remembering(policy, &our_keys()).await, expected));
    }
    let stranger = json!({"keys": [with(Key::Stranger.jwk(), "kid", Key::P256.kid())]});
    verifiers.push(("other keys", remembering(plain(), &stranger).await, "bad_signature"));
    verifiers.push(("no such key", remembering(plain(), &json!({"keys": [Key::Rsa.jwk()]})).await, "unknown_kid"));

    for round in 0..3 {
        for (name, verifier, expected) in &verifiers {
            assert_eq!(code(verifier, &token, NOW), *expected, "{name}, round {round}");
        }
    }
}

#[tokio::test]
async fn leeway_is_that_of_each_policy() {
    let with_leeway =
        |seconds| World::ours().policy.with_leeway(Duration::from_secs(seconds)).expect("a leeway within bounds");
    let (strict, lenient) =
        (remembering(with_leeway(0), &our_keys()).await, remembering(with_leeway(60), &our_keys()).await);
    let token = good(Algorithm::ES256);
    for (after, in_strict, in_lenient) in
        [(-1, "ok", "ok"), (0, "expired", "ok"), (59, "expired", "ok"), (60, "expired", "expired"), (-1, "ok", "ok")]
    {
        assert_eq!(code(&lenient, &token, EXPIRES_AT + after), in_lenient, "60 s of leeway, {after} s after the end");
        assert_eq!(code(&strict, &token, EXPIRES_AT + after), in_strict, "no leeway, {after} s after the end");
    }
}

#[tokio::test]
async fn what_is_remembered_ends_with_the_token_and_begins_with_it() {
    let verifier = remembering(World::ours().policy, &our_keys()).await;
    let begins = NOW;
    let token =
        token(Algorithm::ES256, &header(Algorithm::ES256), &with(with(claims(), "nbf", begins), "exp", begins + 60));
    for (at, expected) in [
        (begins, "ok"),
        (begins + 59, "ok"),
        (begins + 89, "ok"),
        (begins + 90, "expired"),
        (begins + 89, "ok"),
        (begins - 30, "ok"),
        (begins - 31, "not_yet_valid"),
        (begins + 1_000_000, "expired"),
        (begins + 1, "ok"),
    ] {
        assert_eq!(code(&verifier, &token, at), expected, "{} s after it began", at - begins);
    }
}

#[tokio::test]
async fn what_is_remembered_of_one_type_of_claims_is_not_taken_for_another() {
    #[derive(Debug, Deserialize)]
    struct OfATenant {
        #[expect(dead_code, reason = "it is only read into")]
        tenant: String,
    }
    let verifier = remembering(World::ours().policy, &our_keys()).await;
    let (token, at) = (good(Algorithm::ES256), Timestamp::from_unix(NOW));
    for _ in 0..2 {
        assert!(verifier.verify_now_at::<Map<String, Value>>(&token, at).is_ok());
        assert!(verifier.verify_now_at::<AccessTokenClaims>(&token, at).is_ok());
        let typed = verifier.verify_now_at::<OfATenant>(&token, at);
        assert_eq!(typed.expect_err("there is no tenant").code(), "unexpected_claims");
    }
}

#[tokio::test]
async fn what_is_remembered_goes_with_its_key() {
    let origin = Origin::answering(Reply::keys(our_keys().to_string()).with_max_age_0()).await;
    let limits = Limits { freshness_floor: Duration::ZERO, ..Limits::default() };
    let builder = Verifier::builder(World::ours().policy).jwks_url(origin.url()).limits(limits);
    let verifier = builder.token_cache_bytes(CACHE_BYTES).build().expect("a verifier");
    let tokens = [Algorithm::ES256, Algorithm::RS256].map(good);
    let verdicts = async || {
        let [es256, rs256] = &tokens;
        // Once to be remembered, and once from memory.
        for token in &tokens {
            drop(verifier.verify::<Map<String, Value>>(token).await);
        }
        [code(&verifier, es256, NOW), code(&verifier, rs256, NOW)]
    };
    assert_eq!(verdicts().await, ["ok", "ok"]);

    for (what, keys, expected) in [
        ("revoked", json!({"keys": [Key::Rsa.jwk()]}), ["unknown_kid", "ok"]),
        ("back", our_keys(), ["ok", "ok"]),
        (
            "replaced",
            json!({"keys": [Key::Rsa.jwk(), with(Key::Stranger.jwk(), "kid", Key::P256.kid())]}),
            ["bad_signature", "ok"],
        ),
        (
            "for encryption now",
            json!({"keys": [Key::Rsa.jwk(), with(Key::P256.jwk(), "use", "enc")]}),
            ["unknown_kid", "ok"],
        ),
        (
            "for another algorithm now",
            json!({"keys": [Key::P256.jwk(), with(Key::Rsa.jwk(), "alg", "PS256")]}),
            ["ok", "unsuitable_key"],
        ),
        ("back again", our_keys(), ["ok", "ok"]),
    ] {
        origin.answer(Reply::keys(keys.to_string()).with_max_age_0());
        origin.asked(2).await;
        assert_eq!(verdicts().await, expected, "{what}");
    }
}

#[tokio::test]
async fn a_kid_never_crosses_issuers() {
    let keys_of = |key: Key, kid: &str| json!({"keys": [with(key.jwk(), "kid", kid)]});
    let ours = remembering(World::ours().policy, &keys_of(Key::P256, "k")).await;
    let theirs = remembering(Policy::access_token(OTHER_ISSUER, AUDIENCE), &keys_of(Key::Stranger, "k")).await;
    let third = "https://third.example.com";
    let third_keys = json!({"keys": [with(Key::Stranger.jwk(), "kid", "only here")]});
    let third_verifier = remembering(Policy::access_token(third, AUDIENCE), &third_keys).await;
    let verifier = Verifier::several([ours, theirs, third_verifier]).expect("three issuers");
    let token_of = |key: Key, issuer: &str, kid: Option<&str>| {
        let header = without(header(Algorithm::ES256), "kid");
        let header = kid.map_or(header.clone(), |kid| with(header, "kid", kid));
        let input = signing_input(header.to_string(), with(claims(), "iss", issuer).to_string());
        signed(&input, |message| key.sign(Algorithm::ES256, message))
    };

    for round in 0..2 {
        for (key, issuer, kid, expected) in [
            (Key::P256, ISSUER, Some("k"), "ok"),
            (Key::Stranger, OTHER_ISSUER, Some("k"), "ok"),
            (Key::Stranger, third, Some("only here"), "ok"),
            (Key::P256, ISSUER, None, "ok"),
            (Key::Stranger, ISSUER, Some("k"), "bad_signature"),
            (Key::P256, OTHER_ISSUER, Some("k"), "bad_signature"),
            (Key::Stranger, ISSUER, None, "bad_signature"),
            (Key::Stranger, ISSUER, Some("only here"), "unknown_kid"),
            (Key::P256, ISSUER, Some("only here"), "unknown_kid"),
            (Key::Stranger, third, Some("k"), "unknown_kid"),
            (Key::Stranger, "https://nobody.example.com", Some("k"), "wrong_issuer"),
            (Key::P256, "", Some("k"), "wrong_issuer"),
            (Key::P256, "https://ID.example.com", Some("k"), "wrong_issuer"),
        ] {
            let token = token_of(key, issuer, kid);
            assert_eq!(code(&verifier, &token, NOW), expected, "{key:?} for {issuer} as {kid:?}, round {round}");
        }
    }
}

/// Verdicts on the live issuer's tokens are there at the first poll, so whatever the dead ones do, nobody waits for it.
#[tokio::test]
async fn dead_issuers_hold_up_nobody() {
    const DEAD: usize = 999;
    let (live, live_fetches) = verifier(&World::ours(), long_fresh()).await;
    let asked = Arc::<AtomicUsize>::default();
    let dead = (0..DEAD).map(|index| {
        let policy = Policy::access_token(format!("https://dead{index}.example.com"), AUDIENCE);
        // Half of them never answer, half refuse the connection.
        let fetcher = Dead { asked: Arc::clone(&asked), silent: index % 2 == 0 };
        Verifier::builder(policy).limits(long_fresh()).fetch_keys_with(fetcher).build().expect("a verifier")
    });
    let all = Verifier::several(dead.chain([live])).expect("a thousand issuers");
    while asked.load(Ordering::Relaxed) < DEAD {
        tokio::task::yield_now().await;
    }

    for algorithm in Algorithm::ALL {
        let token = good(algorithm);
        let verdict = ready(all.verify::<AccessTokenClaims>(&token)).expect("it waits for nobody");
        assert!(verdict.is_ok(), "{algorithm}: {verdict:?}");
        assert!(all.verify_now::<AccessTokenClaims>(&token).is_ok());
    }
    for index in [0, 1, DEAD - 1] {
        let claims = with(claims(), "iss", format!("https://dead{index}.example.com"));
        let token = token(Algorithm::ES256, &header(Algorithm::ES256), &claims);
        assert_eq!(code(&all, &token, NOW), "keys_unavailable", "{index}");
    }

    assert_eq!(live_fetches.load(Ordering::Relaxed), 1, "the live issuer's keys are fresh");
}

/// An issuer that is gone.
struct Dead {
    asked: Arc<AtomicUsize>,
    silent: bool,
}

impl FetchKeys for Dead {
    fn fetch<'a>(&'a self, _: Option<&'a str>) -> FetchFuture<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.silent {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Err(FetchError::Other("connection refused".into()))))
    }
}

fn code(verifier: &Verifier, token: &str, at: i64) -> &'static str {
    let verdict = verifier.verify_now_at::<Map<String, Value>>(token, Timestamp::from_unix(at));
    verdict.map_or_else(|error| error.code(), |_| "ok")
}

/// A verifier with a cache of verified tokens.
async fn remembering(policy: Policy, keys: &Value) -> Verifier {
    let keys = KeysAtHand::new(keys.to_string()).0;
    let builder = Verifier::builder(policy).limits(long_fresh()).fetch_keys_with(keys);
    let verifier = builder.token_cache_bytes(CACHE_BYTES).build().expect("a verifier");
    until_it_has_keys(&verifier).await;
    verifier
}
