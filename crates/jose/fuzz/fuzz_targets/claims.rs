//! The bytes are a token's payload, unsigned: reading it never panics, and an accepted confirmation was really there.
//! Plain objects take a shorter way through the reader, so what is accepted is compared with serde_json's reading. What
//! passes for an access token can be read as one.
#![no_main]

use keywheel_jose::{AccessTokenClaims, Confirmation, Policy, Timestamp, UnverifiedJwt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let token = format!("eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.{}.AA", base64url(payload));
    let Ok(jwt) = UnverifiedJwt::parse(&token, token.len()) else { return };
    if let Ok(issuer) = jwt.issuer() {
        let claims: serde_json::Value = serde_json::from_slice(payload).expect("accepted claims are JSON");
        assert_eq!(claims["iss"], issuer.as_str());
    }
    let policy = Policy::any("joe", "api").insecure_any_issuer();
    let mut confirmed: Option<Confirmation> = None;
    let holder = |confirmation: Option<&Confirmation>| {
        confirmed = confirmation.cloned();
        Ok(())
    };
    if jwt.plausible_bound(&policy, NOW, holder).is_err() {
        return;
    }
    let claims: serde_json::Value = serde_json::from_slice(payload).expect("accepted claims are JSON");
    let member = |name: &str| claims["cnf"].get(name).and_then(serde_json::Value::as_str);
    assert_eq!(confirmed.is_some(), claims.get("cnf").is_some());
    assert_eq!(confirmed.as_ref().and_then(Confirmation::jkt), member("jkt"));
    assert_eq!(confirmed.as_ref().and_then(Confirmation::x5t_s256), member("x5t#S256"));

    let access = Policy::access_token("joe", "api").insecure_any_issuer();
    if jwt.plausible_bound(&access, NOW, |_| Ok(())).is_ok() {
        serde_json::from_slice::<AccessTokenClaims>(payload).expect("an access token has the claims of one");
    }
});

const NOW: Timestamp = Timestamp::from_unix(1_300_000_000);

/// Written out, so that the target does not share a mistake with the code it tests.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for letter in 0..=chunk.len() {
            text.push(char::from(ALPHABET[bits >> (18 - 6 * letter) & 63]));
        }
    }
    text
}
