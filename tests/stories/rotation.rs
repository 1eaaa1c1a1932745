//! The rotation watched in real time: keys turn every few seconds, and no verifier ever refuses a good token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{Issuer, Panel, Settings, Verdict, claims, eventually, header, kid, kids, unix_now, until};

/// `announce` ≥ 1 + 1 + 2 × 1 + 0 s, and a second of room for a busy machine; tokens live for 3 s.
const FAST: Settings = Settings {
    keys: r#"
        algorithms = ["ES256", "RS256"]
        rotate_every = "5s"
        announce = "5s"
        jwks_max_age = "1s"
        jwks_shared_max_age = "1s"
        clock_skew = "0s"
        poll = "1s"
        max_staleness = "4s"
    "#,
    tokens: "access_ttl = \"3s\"\nid_ttl = \"3s\"\n",
    tables: r#"
        [[client]]
        id = "modern"
        secret = "a-secret-of-the-modern-service-0123456789"
        grants = ["client_credentials"]
        audiences = ["https://api.example.com"]
        access_token_alg = "ES256"

        [[client]]
        id = "legacy"
        secret = "a-secret-of-the-legacy-service-0123456789"
        grants = ["client_credentials"]
        audiences = ["https://api.example.com"]
        access_token_alg = "RS256"
    "#,
    ..Settings::PLAIN
};
const MAX_AGE: Duration = Duration::from_secs(1);
const ANNOUNCE: f64 = 5.0;
/// 2 + ceil((retention + announce) / rotate_every), where retention is the tokens' 3 s.
const MOST_KEYS: usize = 2 + (3 + 5_usize).div_ceil(5);

const CLIENTS: [(&str, (&str, &str)); 2] = [
    ("ES256", ("modern", "a-secret-of-the-modern-service-0123456789")),
    ("RS256", ("legacy", "a-secret-of-the-legacy-service-0123456789")),
];
/// Six signing keys of a ring have five rotations between them.
const SIGNERS: usize = 6;
/// Five rotations take 25 s when none slips.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often tokens are fetched and the key set is looked at.
const PACE: f64 = 0.25;
/// How long before its end a token is checked again: "just before", with time for four answers.
const BEFORE_END: f64 = 0.8;

#[tokio::test]
async fn five_rotations_pass_without_one_refusal() {
    let issuer = Issuer::new(FAST);
    assert_eq!(issuer.json(&["check"]).await["max_published_keys"], MOST_KEYS);
    let _running = issuer.serve().await;
    let panel = Arc::new(Panel::new(&issuer, MAX_AGE));
    let mut tally = Tally::default();
    let mut judging = JoinSet::new();
    let start = Instant::now();

    while !CLIENTS.iter().all(|(alg, _)| tally.signers(alg) >= SIGNERS) {
        assert!(start.elapsed() < PATIENCE, "fewer than five rotations in {PATIENCE:?}: {tally:?}");
        let next = unix_now() + PACE;
        tally.look_at(&issuer.jwks().await);
        for (alg, client) in CLIENTS {
            let token = issuer.token(client).await;
            let exp = tally.signed(alg, &token);
            let panel = Arc::clone(&panel);
            judging.spawn(async move {
                let at_birth = panel.judge(&token).await;
                until(exp - BEFORE_END).await;
                let before_end = panel.judge(&token).await;
                (exp, at_birth, before_end)
            });
        }
        until(next).await;
    }
    let judged = judging.join_all().await;

    let mut accepted_before_end = BTreeMap::<_, usize>::new();
    for (exp, at_birth, before_end) in &judged {
        for Verdict { verifier, result, at } in at_birth.iter().chain(before_end) {
            // What was answered after the token's end, because the machine is busy, says nothing.
            assert!(result.is_ok() || at >= exp, "{verifier} refused a good token: {result:?} at {at}, exp {exp}");
        }
        for Verdict { verifier, .. } in before_end.iter().filter(|verdict| verdict.result.is_ok()) {
            *accepted_before_end.entry(*verifier).or_default() += 1;
        }
    }
    assert_eq!(accepted_before_end.len(), Panel::SIZE);
    for (verifier, count) in accepted_before_end {
        assert!(count * 10 > judged.len() * 9, "{verifier} judged only {count} of {} in time", judged.len());
    }
}

/// That the story above can fail: who keeps keys longer than told does stumble, so a refusal would have been seen.
#[tokio::test]
async fn a_verifier_that_keeps_keys_for_too_long_stumbles() {
    let issuer = Issuer::new(FAST);
    let _running = issuer.serve().await;
    let disobedient = Panel::new(&issuer, Duration::from_secs(3600));
    let (_, modern) = CLIENTS[0];
    disobedient.assert_accepted("the first token", &issuer.token(modern).await).await;
    let known = kids(&issuer.jwks().await);

    let token = eventually("a key signs that was published later", PATIENCE, async || {
        let token = issuer.token(modern).await;
        (!known.contains(&kid(&token))).then_some(token)
    })
    .await;

    let verdicts = disobedient.judge(&token).await;
    let stumbled: Vec<_> = verdicts.iter().filter(|verdict| verdict.result.is_err()).collect();
    let names: Vec<_> = stumbled.iter().map(|verdict| verdict.verifier).collect();
    assert_eq!(names, ["pyjwt", "npm jose"], "the two that do not read max-age themselves: {verdicts:?}");
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused_by_all_four() {
    let issuer = Issuer::new(Settings { tokens: "access_ttl = \"4s\"\n", ..Settings::PLAIN });
    let _running = issuer.serve().await;
    let panel = Panel::new(&issuer, Duration::from_secs(300));
    // The first question waits until two runtimes have started; its token may be past its end by then.
    panel.judge(&issuer.token(("billing", Settings::SECRET)).await).await;
    let token = issuer.token(("billing", Settings::SECRET)).await;
    // The last character but a few, so that its bits all count.
    let (kept, end) = token.split_at(token.len() - 10);
    let other = if end.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{kept}{other}{}", &end[1..]);

    panel.assert_accepted("a good token", &token).await;
    panel.assert_refused("a token with another signature", &tampered).await;
    let exp = claims(&token)["exp"].as_f64().expect("exp");
    until(exp + 0.1).await;
    panel.assert_refused("a token past its end", &token).await;
}

#[tokio::test]
async fn a_token_of_a_key_that_is_not_published_is_refused_by_all_four() {
    let (issuer, impostor) = (Issuer::new(Settings::PLAIN), Issuer::new(Settings::PLAIN));
    impostor.claim_to_be(&issuer);
    let (_running, _impostor_running) = (issuer.serve().await, impostor.serve().await);
    let panel = Panel::new(&issuer, Duration::from_secs(300));
    panel.assert_accepted("a good token", &issuer.token(("billing", Settings::SECRET)).await).await;

    let token = impostor.token(("billing", Settings::SECRET)).await;

    assert_eq!(claims(&token)["iss"], issuer.url());
    panel.assert_refused("the impostor's token", &token).await;
}

/// What was seen of the rings.
#[derive(Debug, Default)]
struct Tally {
    /// When each kid was first seen in the key set.
    published: BTreeMap<String, f64>,
    /// Which kids have signed, by algorithm.
    signers: BTreeMap<String, BTreeSet<String>>,
}

impl Tally {
    fn look_at(&mut self, jwks: &Value) {
        let keys = jwks["keys"].as_array().expect("a key set");
        let mut sizes = BTreeMap::<&str, usize>::new();
        for key in keys {
            let kid = key["kid"].as_str().expect("kid");
            self.published.entry(kid.to_owned()).or_insert_with(unix_now);
            *sizes.entry(key["alg"].as_str().expect("alg")).or_default() += 1;
        }
        assert!(sizes.values().all(|size| *size <= MOST_KEYS), "more than {MOST_KEYS} keys in a ring: {sizes:?}");
    }

    /// Notes who signed a token; gives its end.
    fn signed(&mut self, alg: &str, token: &str) -> f64 {
        let header = header(token);
        assert_eq!(header["alg"], alg);
        let kid = header["kid"].as_str().expect("kid").to_owned();
        let signers = self.signers.entry(alg.to_owned()).or_default();
        let first_of_ring = signers.is_empty();
        if signers.insert(kid.clone()) && !first_of_ring {
            let published = self.published.get(&kid).copied().expect("a key that signs was published before");
            let announced = unix_now() - published;
            // Both instants are seen up to a pace late, and the timetable has whole seconds.
            assert!(announced > ANNOUNCE - 1.0 - PACE, "{kid} signs {announced} s after it was published");
        }
        claims(token)["exp"].as_f64().expect("exp")
    }

    fn signers(&self, alg: &str) -> usize {
        self.signers.get(alg).map_or(0, BTreeSet::len)
    }
}
