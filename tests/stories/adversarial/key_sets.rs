//! Poisoned key sets: a bad entry is not used and spoils nothing else, and no answer of an issuer that has gone mad takes
//! the good keys away (RFC 7517 §4 and §5, RFC 7518 §6).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use keywheel_jose::Algorithm;
use keywheel_verifier::{Limits, Verifier, VerifyError};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::fronts::{Check, CommandLine, Front, VerifyNow, fits};
use super::origin::{Origin, Reply};
use super::poisoned_keys::{KeySet, poisoned, stranger};
use super::signer::{Key, good, our_keys, with};
use super::table::World;
use super::trap::Trap;

const AT_ONCE: usize = 4;

#[tokio::test]
async fn a_poisoned_entry_is_not_used_and_spoils_nothing() {
    let trap = Trap::new().await;
    let sets: Arc<[KeySet]> = poisoned(trap.address()).into();
    assert!(sets.len() > 100, "{} key sets", sets.len());

    let mut asking = JoinSet::new();
    for start in 0..AT_ONCE {
        let sets = Arc::clone(&sets);
        asking.spawn(async move {
            let mut wrong = Vec::new();
            for set in sets.iter().skip(start).step_by(AT_ONCE) {
                wrong.extend(verdicts_that_are_wrong(set).await);
            }
            wrong
        });
    }
    let wrong = asking.join_all().await.concat();

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(trap.connections(), 0, "somebody followed a URL in a key");
}

#[tokio::test]
async fn a_document_that_is_no_key_set_gives_no_keys_and_no_panic() {
    let trap = Trap::new().await;
    let mut asking = JoinSet::new();
    for (name, reply) in unusable(trap.address()) {
        asking.spawn(async move {
            let origin = Origin::answering(reply).await;
            let verifier = verifier(&origin, Limits::default());
            // Joins the fetch that is in the air.
            let verdict = verifier.verify::<Map<String, Value>>(&good(Algorithm::ES256)).await;
            assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{name}: {verdict:?}");
            assert_eq!(origin.requests(), 1, "{name}");
        });
    }
    asking.join_all().await;
    assert_eq!(trap.connections(), 0, "somebody followed a redirect");
}

#[tokio::test]
async fn no_answer_takes_the_good_keys_away() {
    let trap = Trap::new().await;
    let mut asking = JoinSet::new();
    for (name, reply) in unusable(trap.address()) {
        asking.spawn(async move {
            let origin = Origin::answering(Reply::keys(our_keys().to_string()).with_max_age_0()).await;
            let verifier = verifier(&origin, eager());
            let token = good(Algorithm::ES256);
            assert!(verifier.verify::<Map<String, Value>>(&token).await.is_ok(), "{name}");

            origin.answer(reply);
            origin.asked(2).await;

            let verdict = verifier.verify_now::<Map<String, Value>>(&token);
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
            let forged = stranger("our-p256");
            assert!(verifier.verify_now::<Map<String, Value>>(&forged).is_err(), "{name}");
        });
    }
    asking.join_all().await;
    assert_eq!(trap.connections(), 0, "somebody followed a redirect");
}

#[tokio::test]
async fn a_swapped_set_counts_and_the_old_one_does_not() {
    let origin = Origin::answering(Reply::keys(our_keys().to_string()).with_max_age_0()).await;
    let verifier = verifier(&origin, eager());
    let (ours, theirs) = (good(Algorithm::ES256), stranger("our-p256"));
    assert_eq!(code(&verifier, &ours).await, "ok");
    assert_eq!(code(&verifier, &theirs).await, "bad_signature");

    // The same kid, another key: the issuer says so, and nobody else could.
    let swapped = json!({"keys": [with(Key::Stranger.jwk(), "kid", "our-p256")]});
    origin.answer(Reply::keys(swapped.to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "bad_signature");
    assert_eq!(code(&verifier, &theirs).await, "ok");

    let renamed = json!({"keys": [with(Key::P256.jwk(), "kid", "renamed")]});
    origin.answer(Reply::keys(renamed.to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "unknown_kid");
    assert_eq!(code(&verifier, &theirs).await, "unknown_kid");

    origin.answer(Reply::keys(our_keys().to_string()).with_max_age_0());
    origin.asked(2).await;
    assert_eq!(code(&verifier, &ours).await, "ok");
    assert_eq!(code(&verifier, &theirs).await, "bad_signature");
}

async fn code(verifier: &Verifier, token: &str) -> &'static str {
    let verdict = verifier.verify::<Map<String, Value>>(token).await;
    verdict.map_or_else(|error| error.code(), |_| "ok")
}

async fn verdicts_that_are_wrong(set: &KeySet) -> Vec<String> {
    let world = World { keys: set.keys.clone(), ..World::ours() };
    let origin = Origin::answering(Reply::keys(set.keys.clone())).await;
    let verifier = verifier(&origin, Limits::default());
    // Joins the fetch that is in the air.
    let first = verifier.verify::<Map<String, Value>>(&good(Algorithm::EdDSA)).await;
    assert!(first.is_ok(), "{}: {first:?}", set.name);
    let fronts: [(&str, &dyn Front); 3] = [
        ("check", &Check::<Value>::new(&world)),
        ("the verifier", &VerifyNow(verifier.clone())),
        ("the command line", &CommandLine::new(&world)),
    ];
    let mut wrong = Vec::new();
    for (front_name, front) in &fronts[..if set.asks_command_line { 3 } else { 2 }] {
        for case in &set.cases {
            let answer = front.judge(case).await;
            if !fits(&answer, case) {
                let (name, verdict) = (&set.name, case.verdict);
                wrong.push(format!("{front_name}: {name}: {case}: expected {verdict:?}, got {answer:?}"));
            }
        }
    }
    if origin.requests() > 2 {
        wrong.push(format!("{}: {} fetches", set.name, origin.requests()));
    }
    wrong
}

fn verifier(origin: &Origin, limits: Limits) -> Verifier {
    let builder = Verifier::builder(World::ours().policy).jwks_url(origin.url()).limits(limits);
    builder.build().expect("a verifier")
}

/// Fetches again as soon as it may.
fn eager() -> Limits {
    Limits { freshness_floor: Duration::ZERO, cooldown: Duration::from_secs(3600), ..Limits::default() }
}

/// Answers without one usable key; the redirects lead to `trap`.
fn unusable(trap: SocketAddr) -> Vec<(&'static str, Reply)> {
    let good = our_keys();
    let text = good.to_string();
    let documents: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("white space", b" \n".to_vec()),
        ("null", b"null".to_vec()),
        ("an array", good["keys"].to_string().into()),
        ("an object", b"{}".to_vec()),
        ("an empty set", br#"{"keys":[]}"#.to_vec()),
        ("keys that are null", br#"{"keys":null}"#.to_vec()),
        ("keys that are an object", json!({"keys": {"a": Key::P256.jwk()}}).to_string().into()),
        ("a key alone", Key::P256.jwk().to_string().into()),
        ("KEYS", text.replace("\"keys\"", "\"KEYS\"").into()),
        ("keys twice", format!("{},\"keys\":[]}}", &text[..text.len() - 1]).into()),
        ("keys twice, the good ones last", format!("{{\"keys\":[],{}", &text[1..]).into()),
        ("the set in a set", json!({"keys": [good]}).to_string().into()),
        ("the set as a text", json!(text).to_string().into()),
        ("cut off", text[..text.len() - 1].into()),
        ("with more behind", format!("{text}x").into()),
        ("twice", text.repeat(2).into()),
        ("a byte order mark", format!("\u{feff}{text}").into()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("an octet that is not UTF-8", [text.trim_end_matches('}').as_bytes(), b",\"a\":\"\xff\"}"].concat()),
        ("HTML", b"<!DOCTYPE html><title>Sign in</title>".to_vec()),
        ("JSONP", format!("callback({text})").into()),
        ("compressed", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
        ("two hundred thousand arrays", "[".repeat(200_000).into()),
        ("two hundred thousand arrays in it", format!("{{\"keys\":[],\"a\":{}", "[".repeat(200_000)).into()),
        ("ten thousand keys", json!({"keys": vec![Key::P256.jwk(); 10_000]}).to_string().into()),
        ("a hundred and one keys", {
            let keys: Vec<Value> = (0..101).map(|index| with(Key::P256.jwk(), "kid", index)).collect();
            json!({"keys": keys}).to_string().into()
        }),
        ("half a mebibyte of blanks", format!("{}{text}", " ".repeat(1 << 19)).into()),
        ("only secrets", json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "our-p256"}]}).to_string().into()),
        ("only private halves", json!({"keys": Key::OURS.map(Key::private_jwk)}).to_string().into()),
        (
            "only keys for encryption",
            json!({"keys": Key::OURS.map(|key| with(key.jwk(), "use", "enc"))}).to_string().into(),
        ),
    ];
    let mut replies: Vec<_> = documents.into_iter().map(|(name, body)| (name, Reply::keys(body))).collect();
    for (name, status) in [
        ("201", StatusCode::CREATED),
        ("203", StatusCode::NON_AUTHORITATIVE_INFORMATION),
        ("204", StatusCode::NO_CONTENT),
        ("206", StatusCode::PARTIAL_CONTENT),
        ("301", StatusCode::MOVED_PERMANENTLY),
        ("302", StatusCode::FOUND),
        ("307", StatusCode::TEMPORARY_REDIRECT),
        ("401", StatusCode::UNAUTHORIZED),
        ("404", StatusCode::NOT_FOUND),
        ("429", StatusCode::TOO_MANY_REQUESTS),
        ("500", StatusCode::INTERNAL_SERVER_ERROR),
        ("503", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        // Each has a key set for a body: the stranger's.
        let keys = json!({"keys": [with(Key::Stranger.jwk(), "kid", "our-p256")]}).to_string();
        let mut reply = Reply { status, ..Reply::keys(if status == 204 { String::new() } else { keys }) };
        reply.headers.push(("location", format!("http://{trap}/jwks.json")));
        replies.push((name, reply));
    }
    replies
}
