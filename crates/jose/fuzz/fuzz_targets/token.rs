//! The bytes are a token: checking it never panics, and none holds that was not signed for us.
#![no_main]

use std::sync::LazyLock;

use keywheel_jose::{
    Algorithm, KeySet, Outcome, Policy, PublicJwk, Timestamp, UnverifiedJwt, check, check_signature, decode_unverified,
    explain,
};
use libfuzzer_sys::fuzz_target;

/// The P-256 key of RFC 7515 §A.3. The example itself has no `aud`, so it does not hold either.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let json = serde_json::json!({"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    KeySet::from_keys([PublicJwk::from_json(&json).expect("RFC 7515 prints a good key")])
});

fuzz_target!(|token: &str| {
    let policy = Policy::any("joe", "api").insecure_any_issuer();
    let now = Timestamp::from_unix(1_300_000_000);

    let rejection = check::<serde_json::Value>(token, &KEYS, &policy, now).expect_err("nothing was signed for us");

    assert!(rejection.to_string().is_ascii());
    let explained = explain::<serde_json::Value>(token, &KEYS, &policy, now);
    let failed = explained.iter().find(|check| check.outcome != Outcome::Passed).expect("it does not hold");
    assert_eq!(failed.outcome, Outcome::Failed(rejection));
    let _ = check_signature(token, &KEYS, &Algorithm::ALL);
    let _ = decode_unverified(token);
    if let Ok(jwt) = UnverifiedJwt::parse(token, policy.max_token_bytes()) {
        let _ = jwt.plausible(&policy, now);
    }
});
