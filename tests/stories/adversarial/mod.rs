//! What an attacker would send, as tables: each token with its verdict, put to every way there is to ask for one.
//!
//! A verifier is as strong as its weakest front, so the same cases go to all of them. A line of a table is one token, its
//! verdict and the sentence of the RFC that it is about; adding a front is an implementation of [`fronts::Front`].

mod algorithms;
mod bleed;
mod claims;
mod encodings;
mod fronts;
mod headers;
mod hostile_servers;
mod id_tokens;
mod key_sets;
mod origin;
mod poisoned_keys;
mod proofs;
mod requests;
mod services;
mod signer;
mod storms;
mod table;
mod trap;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use keywheel_jose::{AccessTokenClaims, Algorithm, IdTokenClaims, TokenType};
use keywheel_verifier::{Guard, Limits, Verifier};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use fronts::{Check, CommandLine, Explain, Front, Verify, VerifyNow, fits, long_fresh, verifier};
use origin::{Origin, Reply};
use services::{Gated, Guarded, Routed, Service as _};
use table::{Case, Verdict, World};
use trap::Trap;

#[tokio::test]
async fn the_function_gives_the_verdicts_of_the_tables() {
    let (tables, world) = (Tables::new().await, World::ours());
    tables.put_to(Check::<Map<String, Value>>::new(&world)).await;
    tables.put_to(Check::<AccessTokenClaims>::new(&world)).await;
    tables.put_to(Check::<IgnoredAny>::new(&world)).await;
    tables.put_to(Explain::new(&world)).await;
}

#[tokio::test]
async fn the_verifier_gives_the_verdicts_of_the_tables() {
    let (verifier, _) = verifier(&World::ours(), long_fresh()).await;
    let tables = Tables::new().await;
    tables.put_to(VerifyNow(verifier.clone())).await;
    tables.put_to(Verify(verifier)).await;
}

#[tokio::test]
async fn guards_give_the_verdicts_of_the_tables() {
    let (verifier, _) = verifier(&World::ours(), long_fresh()).await;
    let (tables, guard) = (Tables::new().await, Guard::new(verifier));
    tables.put_to(Guarded(guard.clone())).await;
    tables.put_to(Guarded(guard.clone().optional())).await;
    tables.put_to(Routed::by_layer(&guard)).await;
    tables.put_to(Routed::by_extractor(guard)).await;
}

#[tokio::test]
async fn the_gate_gives_the_verdicts_of_the_tables() {
    let (tables, world) = (Tables::new().await, World::ours());
    for gate in [Gated::at_verify(&world).await, Gated::before_a_service(&world, "").await].map(Arc::new) {
        tables.put_to::<Gated>(Arc::clone(&gate)).await;
        assert!(!gate.log().contains("panicked"), "{}", gate.log());
    }
}

#[tokio::test]
async fn the_command_line_gives_the_verdicts_of_the_tables() {
    Tables::new().await.put_to(CommandLine::new(&World::ours())).await;
}

#[tokio::test]
async fn one_kind_of_token_does_not_pass_for_another() {
    for (world, cases) in [
        (id_tokens::world(), id_tokens::cases()),
        (id_tokens::world_of_any_type(), id_tokens::cases_of_any_type()),
        (id_tokens::world_of_any_issuer(), id_tokens::cases_of_any_issuer()),
    ] {
        let (tables, (verifier, _)) = (Tables::of(cases).await, verifier(&world, long_fresh()).await);
        tables.put_to(Check::<Map<String, Value>>::new(&world)).await;
        tables.put_to(Check::<IgnoredAny>::new(&world)).await;
        // Any other token may lack what this type has.
        if world.policy.token_type() == TokenType::IdToken {
            tables.put_to(Check::<IdTokenClaims>::new(&world)).await;
        }
        tables.put_to(VerifyNow(verifier)).await;
        tables.put_to(CommandLine::new(&world)).await;
    }
}

/// Every token causes at most one fetch, and none but those that only lack a key.
#[tokio::test(start_paused = true)]
async fn only_a_plausible_token_of_an_unknown_key_causes_a_fetch() {
    let tables = Tables::new().await;
    let searched = searches_of_each_front(&tables.cases).await;
    assert!(searched.iter().all(|searched| *searched > 40), "fewer unknown keys than the tables have: {searched:?}");
}

/// RFC 7519 §7.2: what is wrong with the claims needs no key to be seen.
#[tokio::test(start_paused = true)]
async fn no_key_is_looked_for_to_check_a_token_that_no_key_could_save() {
    let invent = |(number, case): (usize, &Case)| {
        let token = fronts::text(case).filter(|token| token.split('.').count() == 3)?;
        let header = signer::with(signer::header(Algorithm::EdDSA), "kid", format!("invented-{number}"));
        let token = format!("{}.{}", signer::encode(header.to_string()), token.split_once('.')?.1);
        // What would be accepted of a known key is worth a fetch.
        let verdict = match case.verdict {
            Verdict::Refuse(_) => Verdict::Refuse("not plausible"),
            Verdict::Accept => Verdict::Refuse("unknown_kid"),
        };
        Some(Case { token: token.into_bytes(), verdict, ..case.clone() })
    };
    let cases: Vec<Case> = claims::cases().iter().enumerate().filter_map(invent).collect();
    let searched = searches_of_each_front(&cases).await;
    assert!(searched.iter().all(|searched| *searched > 100), "fewer good claims than the tables have: {searched:?}");
}

/// How many fetches the cases caused at each front. Asserts that it is at most one for a case, and none for one that does
/// not merely lack a key. The clock is the test's, and no cooldown ever stands in the way.
async fn searches_of_each_front(cases: &[Case]) -> Vec<usize> {
    let limits = Limits { cooldown: Duration::from_millis(100), ..long_fresh() };
    let makers: [fn(Verifier) -> Box<dyn Front>; 4] = [
        |verifier| Box::new(VerifyNow(verifier)),
        |verifier| Box::new(Verify(verifier)),
        |verifier| Box::new(Guarded(Guard::new(verifier))),
        |verifier| Box::new(Routed::by_layer(&Guard::new(verifier))),
    ];
    let mut searched = Vec::new();
    for make in makers {
        let (verifier, fetches) = verifier(&World::ours(), limits.clone()).await;
        let front = make(verifier);
        tokio::time::sleep(limits.cooldown * 2).await;
        for case in cases.iter().filter(|case| front.takes(case)) {
            let before = fetches.load(Ordering::Relaxed);
            front.judge(case).await;
            tokio::time::sleep(limits.cooldown * 2).await;
            let fetched = fetches.load(Ordering::Relaxed) - before;
            let may = usize::from(case.verdict == Verdict::Refuse("unknown_kid"));
            assert!(fetched <= may, "{case}: {fetched} fetches");
        }
        searched.push(fetches.load(Ordering::Relaxed));
    }
    searched
}

/// RFC 6750 has no answer for it: where nobody can say whether a token holds, it is not called invalid (a 503, never a 401).
/// What no key could save needs none to be refused.
#[tokio::test]
async fn without_keys_nothing_is_accepted_and_nothing_good_is_called_invalid() {
    let gone = Origin::answering(Reply { status: StatusCode::BAD_GATEWAY, ..Reply::keys("") }).await;
    let builder = Verifier::builder(World::ours().policy).jwks_url(gone.url());
    let verifier = builder.build().expect("a verifier");
    gone.asked(1).await;
    let service = Routed::by_layer(&Guard::new(verifier.clone()));
    let about_the_key = ["unknown_kid", "no_key", "ambiguous_key", "unsuitable_key", "bad_signature"];

    for case in Tables::new().await.cases.iter() {
        let refused = match case.verdict {
            Verdict::Refuse(code) if !about_the_key.contains(&code) => Some(code),
            _ => None,
        };
        if let Some(token) = fronts::text(case) {
            let verdict = verifier.verify_now_at::<AccessTokenClaims>(token, case.instant());
            let error = verdict.expect_err("nothing is accepted without a key");
            assert_eq!(error.code(), refused.unwrap_or("keys_unavailable"), "{case}");
        }
        if service.takes(case) && case.is_a_credential() {
            let reply = service.answer_to(case).await;
            let (status, has_challenge) = (reply.status.as_u16(), reply.headers.contains_key("www-authenticate"));
            match refused {
                Some(_) => assert_eq!((status, has_challenge), (401, true), "{case}"),
                None => {
                    assert_eq!((status, has_challenge), (503, false), "{case}");
                    assert!(reply.headers.contains_key("retry-after"), "{case}");
                }
            }
        }
    }
}

/// All cases, and the address that some of them name.
struct Tables {
    trap: Trap,
    cases: Arc<[Case]>,
}

impl Tables {
    async fn new() -> Self {
        let trap = Trap::new().await;
        let groups = [algorithms::cases(), headers::cases(trap.address()), encodings::cases(), claims::cases()];
        Self { trap, cases: groups.concat().into() }
    }

    /// Other cases, of which none names an address.
    async fn of(cases: Vec<Case>) -> Self {
        Self { trap: Trap::new().await, cases: cases.into() }
    }

    /// Asserts that the front gives the verdict of every case that it takes, and follows no URL in a token.
    async fn put_to<F: Front + 'static>(&self, front: impl Into<Arc<F>>) {
        let front = front.into();
        let taken: Vec<usize> = (0..self.cases.len()).filter(|index| front.takes(&self.cases[*index])).collect();
        assert!(taken.len() * 10 > self.cases.len() * 9, "only {} cases were put to the front", taken.len());

        let mut asking = JoinSet::new();
        for start in 0..AT_ONCE {
            let (front, cases) = (Arc::clone(&front), Arc::clone(&self.cases));
            let share: Vec<usize> = taken.iter().copied().skip(start).step_by(AT_ONCE).collect();
            asking.spawn(async move {
                let mut wrong = Vec::new();
                for case in share.into_iter().map(|index| &cases[index]) {
                    let answer = front.judge(case).await;
                    if !fits(&answer, case) {
                        wrong.push(format!("{case}: expected {:?}, got {answer:?}", case.verdict));
                    }
                }
                wrong
            });
        }
        let wrong = asking.join_all().await.concat();

        assert!(wrong.is_empty(), "{} of {} verdicts are wrong:\n{}", wrong.len(), taken.len(), wrong.join("\n"));
        assert_eq!(self.trap.connections(), 0, "somebody followed a URL in a token");
    }
}

/// Processes of the command line side by side.
const AT_ONCE: usize = 4;
