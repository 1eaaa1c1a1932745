//! Tokens that only the issuer can read, and the reasons of a verdict.

use keywheel_jose::{Outcome, Step};

use super::*;
use crate::testing::FakeIssuer;

async fn asking(issuer: &FakeIssuer) -> Verifier {
    let introspection = issuer.introspection().build().expect("the settings hold");
    let verifier = issuer.verifier().introspection(introspection).build().expect("the settings hold");
    let ready = verifier.verify::<AccessTokenClaims>(&issuer.token().sign()).await;
    ready.expect("a readable token is verified as ever");
    verifier
}

#[tokio::test]
async fn a_token_that_is_no_jwt_is_asked_about() {
    let issuer = FakeIssuer::start().await;
    let verifier = asking(&issuer).await;
    let token = issuer.token().subject("alice").opaque();

    let verified = verifier.verify::<AccessTokenClaims>(&token).await.expect("the issuer calls it active");

    assert_eq!((verified.subject(), verified.algorithm(), verified.kid()), (Some("alice"), None, None));
    let invented = verifier.verify::<AccessTokenClaims>("invented").await.map(drop);
    assert_eq!(invented, Err(VerifyError::Rejected(Rejection::Inactive)));
}

#[tokio::test]
async fn calls_that_can_not_wait_refuse_it() {
    let issuer = FakeIssuer::start().await;
    let verifier = asking(&issuer).await;

    let verdict = verifier.verify_now::<AccessTokenClaims>(&issuer.token().opaque()).map(drop);

    assert!(matches!(verdict, Err(VerifyError::Rejected(Rejection::WrongPartCount { .. }))), "{verdict:?}");
}

#[tokio::test]
async fn a_bound_one_needs_its_proof() {
    let issuer = FakeIssuer::start().await;
    let verifier = asking(&issuer).await;
    let certificate = b"a certificate";
    let token = issuer.token().bound_to_certificate(keywheel_jose::certificate_thumbprint(certificate)).opaque();
    let bound = Presented::bearer(&token).with_peer_certificate(certificate);

    let with = verifier.verify_presented::<AccessTokenClaims>(&bound).await.map(drop);
    let without = verifier.verify::<AccessTokenClaims>(&token).await.map(drop);

    assert_eq!(with, Ok(()));
    assert_eq!(without, Err(VerifyError::Rejected(Rejection::SenderConstrained)));
}

#[tokio::test]
async fn while_the_issuer_does_not_answer_nobody_is_signed_out() {
    let issuer = FakeIssuer::start().await;
    let verifier = asking(&issuer).await;
    let token = issuer.token().opaque();
    issuer.fault(crate::testing::Fault::Down);

    let verdict = verifier.verify::<AccessTokenClaims>(&token).await.map(drop);

    assert!(matches!(verdict, Err(VerifyError::IntrospectionUnavailable { .. })), "{verdict:?}");
}

#[tokio::test]
async fn one_issuer_of_a_list_is_asked_and_no_second() {
    let (one, two) = (FakeIssuer::start().await, FakeIssuer::start().await);
    let quiet = two.verifier().build().expect("the settings hold");
    let several = Verifier::several([quiet, asking(&one).await]).expect("two issuers");

    let verdict = several.verify::<AccessTokenClaims>(&one.token().opaque()).await.map(drop);

    assert_eq!(verdict, Ok(()));
    let refusal = Verifier::several([asking(&one).await, asking(&two).await]).expect_err("two would be asked");
    assert_eq!(refusal.to_string(), "more than one issuer would be asked about opaque tokens");
}

#[tokio::test]
async fn a_verdict_is_explained_without_the_token() {
    let issuer = FakeIssuer::start().await;
    let verifier = asking(&issuer).await;
    let token = issuer.token().expired().sign();

    let explained = verifier.explain::<AccessTokenClaims>(&token).expect("keys are held");

    let failed: Vec<_> = explained.iter().filter(|it| matches!(it.outcome, Outcome::Failed(_))).collect();
    assert_eq!(failed.len(), 1, "{explained:?}");
    assert!(matches!(&failed[0].outcome, Outcome::Failed(rejection) if rejection.code() == "expired"));
    assert!(explained.iter().any(|it| it.step == Step::ALL[0] && it.outcome == Outcome::Passed));
    let text = format!("{explained:?}");
    assert!(token.split('.').all(|part| !text.contains(part)), "a part of the token is in {text}");
}
