//! Several issuers behind one verifier.

use super::*;

const OTHER: &str = "https://other.example.com";

/// A verifier for another issuer, whose tokens may be for us too.
fn other(issuer: &ScriptedIssuer) -> Verifier {
    let policy = Policy::access_token(OTHER, crate::fixtures::AUDIENCE);
    Verifier::builder(policy).fetch_keys_with(issuer.clone()).build().expect("the settings hold")
}

#[tokio::test(start_paused = true)]
async fn each_issuers_tokens_are_checked_with_its_own_keys_alone() {
    let (ours, theirs) = (Signer::new("ours"), Signer::new("theirs"));
    // Both publish a key of the same name.
    let (ours, theirs) = (ours.named("1"), theirs.named("1"));
    let (our_issuer, their_issuer) = (ScriptedIssuer::with_keys(&[&ours]), ScriptedIssuer::with_keys(&[&theirs]));
    let verifier = Verifier::several([start(&our_issuer), other(&their_issuer)]).expect("two issuers");
    pass(seconds(1)).await;
    let from = |signer: &Signer, iss: &str| signer.token_with(json!({"iss": iss}));

    assert_eq!(verify_now(&verifier, &from(&ours, ISSUER)), Ok(()));
    assert_eq!(verify_now(&verifier, &from(&theirs, OTHER)), Ok(()));
    for crossed in [from(&theirs, ISSUER), from(&ours, OTHER)] {
        assert_eq!(verify_now(&verifier, &crossed), Err(VerifyError::Rejected(Rejection::BadSignature)));
    }
    assert_eq!((our_issuer.fetch_count(), their_issuer.fetch_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_is_looked_for_at_its_issuer_alone() {
    let ours = Signer::new("a");
    let (our_issuer, their_issuer) =
        (ScriptedIssuer::with_keys(&[&ours]), ScriptedIssuer::with_keys(&[&Signer::new("b")]));
    let verifier = Verifier::several([start(&our_issuer), other(&their_issuer)]).expect("two issuers");
    pass(seconds(30)).await;

    let verdict = verify(&verifier, &Signer::new("c").token_with(json!({"iss": OTHER}))).await;

    assert!(is_unknown_kid(&verdict), "{verdict:?}");
    assert_eq!((our_issuer.fetch_count(), their_issuer.fetch_count()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_nobody_we_know_is_refused_without_a_fetch() {
    let signer = Signer::new("a");
    let issuers = [ScriptedIssuer::with_keys(&[&signer]), ScriptedIssuer::with_keys(&[&signer])];
    let verifier = Verifier::several([start(&issuers[0]), other(&issuers[1])]).expect("two issuers");
    pass(seconds(30)).await;

    for iss in [json!("https://evil.example"), json!(format!("{ISSUER}/")), json!([ISSUER]), json!(null), json!(1)] {
        let verdict = verify(&verifier, &signer.token_with(json!({"iss": iss}))).await;
        assert!(matches!(verdict, Err(VerifyError::Rejected(_))), "{iss} {verdict:?}");
    }

    assert_eq!(issuers.map(|issuer| issuer.fetch_count()), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn dead_issuers_hold_up_nobody_elses_tokens() {
    let signer = Signer::new("a");
    let silent = ScriptedIssuer::default();
    silent.answers(Answer::Silence);
    let dead = (0..999).map(|number| {
        let policy = Policy::access_token(format!("https://{number}.example.com"), crate::fixtures::AUDIENCE);
        Verifier::builder(policy).fetch_keys_with(silent.clone()).build().expect("the settings hold")
    });
    let alive = start(&ScriptedIssuer::with_keys(&[&signer]));
    let verifier = Verifier::several(dead.chain([alive])).expect("a thousand issuers");
    pass(seconds(1)).await;
    let began = Instant::now();

    assert_eq!(verify(&verifier, &signer.token()).await, Ok(()));

    assert_eq!(began.elapsed(), Duration::ZERO, "it waited for somebody");
    assert!(matches!(verifier.health(), Health::Unavailable { .. }), "the worst one counts");
    assert_eq!(verifier.healths().filter(|(_, health)| matches!(health, Health::Ok { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_would_be_ambiguous_is_refused() {
    let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
    let any = Verifier::builder(policy().insecure_any_issuer()).fetch_keys_with(issuer.clone()).build();
    let any = any.expect("the settings hold");

    let refusals = [
        Verifier::several([]).expect_err("nobody"),
        Verifier::several([start(&issuer), any]).expect_err("anybody"),
        Verifier::several([start(&issuer), start(&issuer)]).expect_err("one twice"),
    ];

    assert_eq!(
        refusals.map(|refusal| refusal.to_string()),
        [
            "a policy without an issuer needs a jwks_url",
            "a policy without an issuer needs a jwks_url",
            "the issuer \"https://id.example.com\" is there twice",
        ]
    );
}
