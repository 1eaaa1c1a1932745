//! Tokens bound to a DPoP key.

use keywheel_jose::DpopRequest;

use super::*;
use crate::dpop::Nonce;

const URL: &str = "https://api.example.com/invoices";

/// A holder, and a token of the issuer's that is bound to the holder's key.
fn bound(issuer: &Signer, holder: &Signer) -> String {
    issuer.token_with(json!({"cnf": {"jkt": holder.jwk().thumbprint()}}))
}

async fn with_settings(issuer: &ScriptedIssuer, settings: DpopSettings) -> Verifier {
    let verifier = Verifier::builder(policy()).fetch_keys_with(issuer.clone()).dpop(settings).build();
    pass(Duration::from_millis(1)).await;
    verifier.expect("the settings hold")
}

fn present(verifier: &Verifier, token: &str, proof: &str, now: Timestamp) -> Result<(), VerifyError> {
    let request = DpopRequest { proof, method: "GET", url: URL };
    verifier.verify_presented_now_at::<AccessTokenClaims>(&Presented::dpop(token, request), now).map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_accepted_once() {
    let (signer, holder) = (Signer::new("a"), Signer::new("holder"));
    let verifier = with_settings(&ScriptedIssuer::with_keys(&[&signer]), DpopSettings::default()).await;
    let token = bound(&signer, &holder);
    let proof = |jti: &str| holder.proof(&token, json!({"htm": "GET", "htu": URL, "jti": jti}));
    let (first, second) = (proof("1"), proof("2"));

    let verdicts = [&first, &first, &second, &first].map(|proof| present(&verifier, &token, proof, ISSUED_AT));

    let replayed = || Err(VerifyError::ProofRejected(DpopRejection::Replayed));
    assert_eq!(verdicts, [Ok(()), replayed(), Ok(()), replayed()]);
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_remembered_for_as_long_as_it_could_be_accepted() {
    let (signer, holder) = (Signer::new("a"), Signer::new("holder"));
    let settings = DpopSettings::default();
    let (window, leeway) = (settings.policy.window(), settings.policy.leeway());
    let verifier = with_settings(&ScriptedIssuer::with_keys(&[&signer]), settings).await;
    let token = bound(&signer, &holder);
    // Other proofs come and go, so that halves are turned at awkward instants.
    for offset in 0..window.as_secs() {
        let from = ISSUED_AT + seconds(offset);
        let claims = |jti: String, iat| json!({"htm": "GET", "htu": URL, "jti": jti, "iat": iat});
        let proof = holder.proof(&token, claims(format!("early {offset}"), from + leeway));
        assert_eq!(present(&verifier, &token, &proof, from), Ok(()));

        let last = from + window - seconds(1);
        let verdict = present(&verifier, &token, &proof, last);

        assert!(matches!(verdict, Err(VerifyError::ProofRejected(_))), "{offset} {verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_for_another_reason_spends_no_proof() {
    let (signer, holder) = (Signer::new("a"), Signer::new("holder"));
    let verifier = with_settings(&ScriptedIssuer::with_keys(&[&signer]), DpopSettings::default()).await;
    let token = bound(&signer, &holder);
    let proof = holder.proof(&token, json!({"htm": "GET", "htu": URL, "jti": "1"}));
    let post = DpopRequest { proof: &proof, method: "POST", url: URL };
    let refused = verifier.verify_presented_now_at::<AccessTokenClaims>(&Presented::dpop(&token, post), ISSUED_AT);
    assert!(matches!(refused, Err(VerifyError::ProofRejected(DpopRejection::WrongMethod { .. }))), "{refused:?}");

    assert_eq!(present(&verifier, &token, &proof, ISSUED_AT), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn one_holder_can_not_use_up_the_memory_of_all() {
    let (signer, greedy, other) = (Signer::new("a"), Signer::new("greedy"), Signer::new("other"));
    let settings = DpopSettings { max_proofs: 160, ..DpopSettings::default() };
    let window = settings.policy.window();
    let verifier = with_settings(&ScriptedIssuer::with_keys(&[&signer]), settings).await;
    let attempt = |holder: &Signer, jti: usize, now: Timestamp| {
        let token = bound(&signer, holder);
        let claims = json!({"htm": "GET", "htu": URL, "jti": jti.to_string(), "iat": now});
        present(&verifier, &token, &holder.proof(&token, claims), now)
    };

    let verdicts: Vec<_> = (0..11).map(|jti| attempt(&greedy, jti, ISSUED_AT)).collect();

    assert_eq!(verdicts[..10], vec![Ok(()); 10]);
    assert!(matches!(verdicts[10], Err(VerifyError::Overloaded { .. })), "{:?}", verdicts[10]);
    assert_eq!(attempt(&other, 0, ISSUED_AT), Ok(()));
    // Both halves have to be past before there is room again.
    assert_eq!(attempt(&greedy, 11, ISSUED_AT + window + window), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_token_and_its_scheme_belong_together() {
    let (signer, holder) = (Signer::new("a"), Signer::new("holder"));
    let verifier = with_settings(&ScriptedIssuer::with_keys(&[&signer]), DpopSettings::default()).await;
    let (bound, free) = (bound(&signer, &holder), signer.token());
    let proof = |token: &str| holder.proof(token, json!({"htm": "GET", "htu": URL, "jti": "1"}));
    let without_proof = Presented { scheme: crate::Scheme::DPoP, ..Presented::bearer(&bound) };

    assert_eq!(verify_now(&verifier, &bound), Err(VerifyError::Rejected(Rejection::SenderConstrained)));
    let unbound = present(&verifier, &free, &proof(&free), ISSUED_AT);
    assert_eq!(unbound, Err(VerifyError::Rejected(Rejection::NotBound)));
    let missing = verifier.verify_presented_now_at::<AccessTokenClaims>(&without_proof, ISSUED_AT).map(drop);
    assert_eq!(missing, Err(VerifyError::ProofRejected(DpopRejection::Missing)));
    let another = Signer::new("thief").proof(&bound, json!({"htm": "GET", "htu": URL, "jti": "1"}));
    let stolen = present(&verifier, &bound, &another, ISSUED_AT);
    assert!(matches!(stolen, Err(VerifyError::Rejected(Rejection::ProofMismatch { .. }))), "{stolen:?}");
}

#[tokio::test(start_paused = true)]
async fn where_a_nonce_is_asked_for_the_answer_brings_one_that_works() {
    let (signer, holder) = (Signer::new("a"), Signer::new("holder"));
    let issuer = ScriptedIssuer::with_keys(&[&signer]);
    let secret = Nonce::RequiredWithSecret(vec![7; 32]);
    let settings = DpopSettings { nonce: secret, ..DpopSettings::default() };
    let (verifier, replica) = (with_settings(&issuer, settings.clone()).await, with_settings(&issuer, settings).await);
    let stranger = DpopSettings { nonce: Nonce::Required, ..DpopSettings::default() };
    let stranger = with_settings(&issuer, stranger).await;
    let token = bound(&signer, &holder);
    let attempt = |at: &Verifier, jti: &str, nonce: serde_json::Value, now: Timestamp| {
        let claims = json!({"htm": "GET", "htu": URL, "jti": jti, "nonce": nonce, "iat": now});
        present(at, &token, &holder.proof(&token, claims), now)
    };

    let without = holder.proof(&token, json!({"htm": "GET", "htu": URL, "jti": "1"}));
    let Err(VerifyError::UseDpopNonce { nonce }) = present(&verifier, &token, &without, ISSUED_AT) else {
        panic!("a nonce is asked for")
    };

    assert_eq!(attempt(&verifier, "2", json!(nonce), ISSUED_AT), Ok(()));
    assert_eq!(attempt(&replica, "3", json!(nonce), ISSUED_AT + seconds(119)), Ok(()));
    let asks_again = |verdict| matches!(verdict, Err(VerifyError::UseDpopNonce { .. }));
    assert!(asks_again(attempt(&stranger, "4", json!(nonce), ISSUED_AT)), "another server's");
    assert!(asks_again(attempt(&verifier, "5", json!(nonce), ISSUED_AT + seconds(360))), "an old one");
    for invented in ["AAAAAAAAAAA", "not base64!"] {
        assert!(asks_again(attempt(&verifier, "6", json!(invented), ISSUED_AT)), "{invented}");
    }
}

#[test]
fn settings_that_protect_nothing_are_refused() {
    let refused = |settings| Dpop::new(settings).map(drop).expect_err("refused").to_string();

    let short = DpopSettings { nonce: Nonce::RequiredWithSecret(vec![1; 31]), ..DpopSettings::default() };
    assert_eq!(refused(short), "the nonce secret has 31 bytes, at least 32 are needed");
    let no_room = DpopSettings { max_proofs: 15, ..DpopSettings::default() };
    assert_eq!(refused(no_room), "max_proofs is 15, at least 16 are needed");
}
