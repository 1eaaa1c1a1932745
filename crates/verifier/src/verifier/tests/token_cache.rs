//! Tokens that were verified before.

use std::sync::Mutex;

use super::*;
use crate::metrics::TokenCacheEvent;

/// Notes what the cache of verified tokens did.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<TokenCacheEvent>>>);

impl Metrics for Noted {
    fn token_cache(&self, event: TokenCacheEvent) {
        self.0.lock().expect("no test panics in here").push(event);
    }
}

impl Noted {
    /// What has happened since this was asked last.
    fn take(&self) -> Vec<TokenCacheEvent> {
        std::mem::take(&mut self.0.lock().expect("no test panics in here"))
    }
}

async fn remembering(issuer: &ScriptedIssuer) -> (Verifier, Noted) {
    let noted = Noted::default();
    let builder = Verifier::builder(policy()).fetch_keys_with(issuer.clone()).metrics(noted.clone());
    let verifier = builder.token_cache_bytes(MIN_TOKEN_CACHE_BYTES).build().expect("the settings hold");
    pass(Duration::from_millis(1)).await;
    (verifier, noted)
}

use TokenCacheEvent::{Hit, Miss};

#[tokio::test(start_paused = true)]
async fn the_second_sight_of_a_token_needs_no_signature_check() {
    let signer = Signer::new("a");
    let (verifier, noted) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let token = signer.token();

    let first = verifier.verify_now_at::<AccessTokenClaims>(&token, ISSUED_AT).expect("it holds");
    let second = verifier.verify_now_at::<AccessTokenClaims>(&token, ISSUED_AT).expect("it still holds");

    assert_eq!(first, second);
    assert_eq!(noted.take(), [Miss, Hit]);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_ends_when_it_ends() {
    let signer = Signer::new("a");
    let (verifier, noted) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let token = signer.token();
    let last = ISSUED_AT + seconds(3600) + policy().leeway() - seconds(1);
    let at = |now| verifier.verify_now_at::<AccessTokenClaims>(&token, now).map(drop);

    assert_eq!([at(ISSUED_AT), at(last)], [Ok(()), Ok(())]);
    let past = at(last + seconds(1));

    assert!(matches!(past, Err(VerifyError::Rejected(Rejection::Expired { .. }))), "{past:?}");
    assert_eq!(noted.take(), [Miss, Hit, Miss]);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_does_not_hold_before_it_begins() {
    let signer = Signer::new("a");
    let (verifier, _) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let token = signer.token_with(json!({"nbf": ISSUED_AT}));
    let at = |now| verifier.verify_now_at::<AccessTokenClaims>(&token, now).map(drop);
    assert_eq!(at(ISSUED_AT), Ok(()));

    let set_back = at(ISSUED_AT - seconds(3600));

    assert!(matches!(set_back, Err(VerifyError::Rejected(Rejection::NotYetValid { .. }))), "{set_back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_ends_with_its_key() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let issuer = ScriptedIssuer::with_keys(&[&old]);
    let (verifier, _) = remembering(&issuer).await;
    let token = old.token();
    assert_eq!([verify_now(&verifier, &token), verify_now(&verifier, &token)], [Ok(()), Ok(())]);

    issuer.answers(Answer::Document(key_set(&[&new]), 60));
    pass(seconds(60)).await;

    assert!(is_unknown_kid(&verify_now(&verifier, &token)));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_ends_when_its_key_gets_other_numbers_under_the_same_name() {
    let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
    let (verifier, _) = remembering(&issuer).await;
    let token = Signer::new("a").token();
    assert_eq!(verify_now(&verifier, &token), Ok(()));

    issuer.answers(Answer::Document(key_set(&[&Signer::new("other").named("a")]), 60));
    pass(seconds(60)).await;

    assert_eq!(verify_now(&verifier, &token), Err(VerifyError::Rejected(Rejection::BadSignature)));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_ends_when_the_keys_are_not_trusted_any_more() {
    let signer = Signer::new("a");
    let issuer = ScriptedIssuer::with_keys(&[&signer]);
    let (verifier, _) = remembering(&issuer).await;
    assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
    issuer.answers(Answer::Down);

    pass(Limits::default().trusted).await;

    assert!(is_unavailable(&verify_now(&verifier, &signer.token())));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_one_type_of_claims_is_not_taken_for_another() {
    #[derive(serde::Deserialize)]
    struct Demanding {
        #[expect(dead_code, reason = "it only has to be missing")]
        tenant: String,
    }
    let signer = Signer::new("a");
    let (verifier, noted) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let token = signer.token();
    assert_eq!(verify_now(&verifier, &token), Ok(()));

    let other = verifier.verify_now_at::<Demanding>(&token, ISSUED_AT).map(drop);

    assert!(matches!(other, Err(VerifyError::Rejected(Rejection::UnexpectedClaims { .. }))), "{other:?}");
    assert_eq!(noted.take(), [Miss, Miss]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_is_not_remembered() {
    let signer = Signer::new("a");
    let (verifier, noted) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let mut token = signer.token();
    token.truncate(token.len() - 4);

    for _ in 0..2 {
        assert!(matches!(verify_now(&verifier, &token), Err(VerifyError::Rejected(_))));
    }

    assert_eq!(noted.take(), [Miss, Miss]);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_that_is_bound_to_a_key_is_still_no_bearer_token() {
    let signer = Signer::new("a");
    let (verifier, noted) = remembering(&ScriptedIssuer::with_keys(&[&signer])).await;
    let certificate = b"a certificate";
    let thumbprint = keywheel_jose::certificate_thumbprint(certificate);
    let token = signer.token_with(json!({"cnf": {"x5t#S256": thumbprint}}));
    let bound = Presented::bearer(&token).with_peer_certificate(certificate);
    let verify_presented = |presented| verifier.verify_presented_now_at::<AccessTokenClaims>(presented, ISSUED_AT);
    assert!(verify_presented(&bound).is_ok());

    let verdicts = [
        verify_now(&verifier, &token),
        verify_presented(&Presented::bearer(&token).with_peer_certificate(b"another")).map(drop),
        verify_presented(&bound).map(drop),
    ];

    assert_eq!(noted.take(), [Miss, Hit, Hit, Hit]);
    assert_eq!(verdicts[0], Err(VerifyError::Rejected(Rejection::SenderConstrained)));
    assert!(matches!(verdicts[1], Err(VerifyError::Rejected(Rejection::ProofMismatch { .. }))));
    assert_eq!(verdicts[2], Ok(()));
}

#[test]
fn the_memory_is_bounded() {
    let noted = Noted::default();
    let cache = TokenCache::new(MIN_TOKEN_CACHE_BYTES, Meter::new(noted.clone()));
    let signer = Signer::new("a");
    let keys = keywheel_jose::KeySet::from_keys([signer.jwk()]);

    for number in 0..2000 {
        let token = signer.token_with(json!({"jti": number.to_string()}));
        let verified = keywheel_jose::check::<AccessTokenClaims>(&token, &keys, &policy(), ISSUED_AT);
        let verified = verified.expect("it holds");
        cache.keep(TokenCache::key::<AccessTokenClaims>(&token), &token, &verified, 1, ISSUED_AT, seconds(0));
        let (_, bytes) = cache.size();
        assert!(bytes <= MIN_TOKEN_CACHE_BYTES as u64, "{bytes} after {number}");
    }

    let (entries, _) = cache.size();
    assert!((100..2000).contains(&entries), "{entries}");
    assert_eq!(noted.take().len(), 2000 - entries, "what had to go is counted");
}

#[tokio::test(start_paused = true)]
async fn a_cache_too_small_for_anything_is_refused() {
    let builder = Verifier::builder(policy()).fetch_keys_with(ScriptedIssuer::with_keys(&[&Signer::new("a")]));

    let refusal = builder.token_cache_bytes(1000).build().expect_err("too small");

    assert_eq!(refusal.to_string(), "token_cache_bytes is 1000, at least 1048576 are needed");
}
