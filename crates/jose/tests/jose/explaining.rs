//! Explanations: the verdict is the same as without one, and nothing of the token is in them.

use keywheel_jose::{
    Algorithm, Explained, Holder, Outcome, Policy, Rejection, Step, Timestamp, check, explain, explain_bound,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rejections::{AUDIENCE, ISSUER, NOW, claims, with, without};
use crate::signing::{header, key_set, raw_token, token};

fn policy() -> Policy {
    Policy::access_token(ISSUER, AUDIENCE)
}

fn explained(token: &str, policy: &Policy) -> Vec<Explained> {
    explain::<Value>(token, &key_set(), policy, Timestamp::from_unix(NOW))
}

/// Whether the explanation is that of the verdict: passed, then the one failure, then nothing that was reached.
fn agrees(explained: &[Explained], verdict: Option<&Rejection>) -> bool {
    let passed = explained.iter().take_while(|check| check.outcome == Outcome::Passed).count();
    let steps_in_order = explained.iter().map(|check| check.step).eq(Step::ALL);
    let rest_agrees = match (verdict, &explained[passed..]) {
        (None, []) => true,
        (Some(rejection), [failed, rest @ ..]) => {
            failed.outcome == Outcome::Failed(rejection.clone())
                && rest.iter().all(|check| check.outcome == Outcome::NotReached && check.found.is_empty())
        }
        _ => false,
    };
    steps_in_order && rest_agrees
}

fn check_agreement(token: &str) -> Result<(), TestCaseError> {
    for policy in
        [policy(), Policy::id_token(ISSUER, AUDIENCE), Policy::any(ISSUER, AUDIENCE).with_max_token_bytes(300)]
    {
        let verdict = check::<Value>(token, &key_set(), &policy, Timestamp::from_unix(NOW)).err();
        let explained = explained(token, &policy);
        prop_assert!(agrees(&explained, verdict.as_ref()), "{verdict:?} {explained:?}");
        prop_assert!(explained.iter().all(|check| check.found.is_ascii() && check.expected.is_ascii()));
        let signature = token.rsplit('.').next().unwrap_or_default();
        let text = format!("{explained:?}");
        prop_assert!(signature.len() < 40 || !text.contains(signature));
    }
    Ok(())
}

#[test]
fn a_token_that_holds_passes_every_check() {
    let token = token(Algorithm::ES256, &header(Algorithm::ES256), &claims());

    let explained = explained(&token, &policy());

    assert!(agrees(&explained, None));
    let found = |step| explained.iter().find(|check| check.step == step).map(|check| check.found.as_str());
    assert_eq!(found(Step::Algorithm), Some("ES256"));
    assert_eq!(found(Step::Type), Some("\"at+jwt\""));
    assert_eq!(found(Step::Issuer), Some("\"https://id.example.com\""));
    assert_eq!(found(Step::Audience), Some("\"https://api.example.com\""));
    assert_eq!(found(Step::Expiry), Some("2026-11-22T07:10:00Z"));
    assert_eq!(found(Step::Profile), Some("client_id, jti, scope"));
    assert_eq!(found(Step::Holder), Some("bound to nothing"));
}

#[test]
fn what_is_expected_depends_on_the_kind_of_token() {
    let expected = |policy: Policy, step| {
        let explained = explained("a.b.c", &policy);
        explained.into_iter().find(|check| check.step == step).expect("every step is there").expected
    };

    assert!(expected(policy(), Step::Profile).starts_with("client_id and jti"));
    assert!(expected(Policy::id_token(ISSUER, AUDIENCE), Step::Profile).contains("nonce"));
    assert!(!expected(Policy::any(ISSUER, AUDIENCE), Step::Profile).contains("roles"));
    assert_eq!(expected(policy(), Step::Subject), "a string");
    assert_eq!(expected(Policy::any(ISSUER, AUDIENCE), Step::Subject), "a string or none");
}

#[test]
fn each_failure_belongs_to_its_step() {
    let header = header(Algorithm::EdDSA);
    let signed = |header: &Value, claims: &Value| token(Algorithm::EdDSA, header, claims);
    let claimed = |claim: &str, value: Value| signed(&header, &with(claims(), claim, value));
    let key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    for (token, step) in [
        ("a".repeat(20_000), Step::Size),
        ("a.b".into(), Step::Shape),
        ("e30..AA".into(), Step::Shape),
        ("e30.e30.A=".into(), Step::Shape),
        ("e30.e30.AA".into(), Step::Header),
        (signed(&with(header.clone(), "crit", json!([])), &claims()), Step::Header),
        (signed(&with(header.clone(), "typ", json!(1)), &claims()), Step::Header),
        (signed(&with(header.clone(), "alg", json!("none")), &claims()), Step::Algorithm),
        (signed(&with(header.clone(), "typ", json!("JWT")), &claims()), Step::Type),
        (signed(&with(header.clone(), "kid", json!("x")), &claims()), Step::Key),
        (signed(&with(header.clone(), "alg", json!("RS256")), &claims()), Step::Key),
        (raw_token(Algorithm::ES256, header.to_string().as_bytes(), b"{}"), Step::Signature),
        (raw_token(Algorithm::EdDSA, header.to_string().as_bytes(), b"[]"), Step::Claims),
        (claimed("iss", json!("x")), Step::Issuer),
        (claimed("iss", json!(1)), Step::Issuer),
        (claimed("aud", json!("x")), Step::Audience),
        (claimed("azp", json!(1)), Step::Audience),
        (claimed("sub", json!(1)), Step::Subject),
        (signed(&header, &without(claims(), "sub")), Step::Subject),
        (signed(&header, &without(claims(), "iat")), Step::Dates),
        (signed(&header, &without(claims(), "exp")), Step::Dates),
        (claimed("iat", json!("now")), Step::Dates),
        (claimed("exp", json!(NOW - 60)), Step::Expiry),
        (claimed("nbf", json!(NOW + 60)), Step::NotBefore),
        (signed(&header, &without(claims(), "jti")), Step::Profile),
        (signed(&header, &without(claims(), "client_id")), Step::Profile),
        (claimed("jti", json!(1)), Step::Profile),
        (claimed("roles", json!("admin")), Step::Profile),
        (claimed("cnf", json!({"jkt": key})), Step::Holder),
        (claimed("cnf", json!(null)), Step::Holder),
    ] {
        let explained = explained(&token, &policy());
        let verdict =
            check::<Value>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW)).expect_err("it is wrong");
        assert!(agrees(&explained, Some(&verdict)), "{step} {verdict:?}");
        let failed = explained.iter().find(|check| matches!(check.outcome, Outcome::Failed(_)));
        assert_eq!(failed.map(|check| (check.step, check.found.clone())), Some((step, verdict.to_string())));
    }
}

#[test]
fn claims_that_do_not_fit_the_type_fail_last() {
    #[derive(Deserialize)]
    struct Tenant {
        #[expect(dead_code, reason = "it is only read into")]
        tenant: String,
    }
    let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());

    let explained = explain::<Tenant>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW));

    let (last, others) = explained.split_last().expect("there are steps");
    assert!(matches!(last, Explained { step: Step::Members, outcome: Outcome::Failed(_), .. }));
    assert!(others.iter().all(|check| check.outcome == Outcome::Passed));
}

#[test]
fn whatever_the_holder_refuses_with_is_the_holders() {
    let (token, now) = (token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims()), Timestamp::from_unix(NOW));
    let refuse = |rejection: Rejection| {
        let explained = explain_bound::<Value>(&token, &key_set(), &policy(), now, |_| Err(rejection));
        explained.iter().position(|check| matches!(check.outcome, Outcome::Failed(_))).map(|index| Step::ALL[index])
    };

    assert_eq!(refuse(Rejection::NotBound), Some(Step::Holder));
    assert_eq!(refuse(Rejection::BadSignature), Some(Step::Holder));
    let bound = explain_bound::<Value>(&token, &key_set(), &policy(), now, |confirmation| {
        Holder { jkt: Some("x"), x5t_s256: None }.may_use(confirmation)
    });
    assert!(agrees(&bound, Some(&Rejection::NotBound)));
}

proptest! {
    #[test]
    fn any_text_is_explained_as_it_is_judged(text in "\\PC{0,60}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}") {
        check_agreement(&text)?;
    }

    #[test]
    fn a_changed_token_is_explained_as_it_is_judged(at in any::<prop::sample::Index>(), cut in 0..9_usize, splice in "[ -~]{0,3}") {
        let good = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());
        let start = at.index(good.len());
        check_agreement(&format!("{}{splice}{}", &good[..start], &good[(start + cut).min(good.len())..]))?;
    }

    #[test]
    fn a_signed_wild_member_is_explained_as_it_is_judged(
        member in "alg|kid|typ|crit|cty|iss|aud|exp|nbf|iat|sub|azp|jti|client_id|scope|sid|acr|amr|roles|nonce|cnf|auth_time|x", text in "\\PC{0,9}", number in any::<f64>(),
    ) {
        for value in [json!(text), json!(number), json!([text]), json!({"jkt": text}), json!(NOW), json!(null)] {
            let header = header(Algorithm::EdDSA);
            check_agreement(&token(Algorithm::EdDSA, &with(header.clone(), &member, value.clone()), &claims()))?;
            check_agreement(&token(Algorithm::EdDSA, &header, &with(claims(), &member, value)))?;
        }
    }
}
