//! DPoP proofs: the examples of RFC 9449, and one line for each way a proof can fail.

use std::error::Error;
use std::time::Duration;

use keywheel_jose::{Algorithm, DpopPolicy, DpopProof, DpopRejection, DpopRequest, Timestamp, check_dpop};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rejections::{NOW, with, without};
use crate::signing::{decode, encode, public_key, raw_token, sign, token};

const URL: &str = "https://api.example.com/invoices/7";
/// Any text is an access token here; only its hash counts.
const ACCESS_TOKEN: &str = "aaa.bbb.ccc";
/// SHA-256 of it, computed apart from this code.
const ATH: &str = "zoh6juzga6MpwYi5z4cr2KcKDDVCdf48Q1RQAkeEyd4";

/// RFC 9449 §4.1 and §7.1, one key for both.
const RFC_HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";
const RFC_TOKEN_REQUEST: &str = "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
const RFC_RESOURCE_REQUEST: &str = "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const RFC_ACCESS_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const RFC_JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn jwk(algorithm: Algorithm) -> Value {
    without(serde_json::to_value(public_key(algorithm)).expect("a key can be written"), "kid")
}

fn proof_header(algorithm: Algorithm) -> Value {
    json!({"typ": "dpop+jwt", "alg": algorithm.as_str(), "jwk": jwk(algorithm)})
}

/// What a proof says that holds at [`NOW`] for a GET of [`URL`] with [`ACCESS_TOKEN`].
fn proof_claims() -> Value {
    json!({"jti": "p1", "htm": "GET", "htu": URL, "iat": NOW, "ath": ATH})
}

fn verdict(proof: &str, access_token: Option<&str>) -> Result<DpopProof, DpopRejection> {
    let request = DpopRequest { proof, method: "GET", url: URL };
    check_dpop(&request, access_token, &DpopPolicy::default(), Timestamp::from_unix(NOW))
}

/// The code of the proof's rejection, or of its source where the proof fails as any token would.
fn code(proof: &str) -> &'static str {
    match verdict(proof, Some(ACCESS_TOKEN)) {
        Ok(_) => "ok",
        Err(DpopRejection::Unacceptable(rejection)) => rejection.code(),
        Err(rejection) => rejection.code(),
    }
}

fn header_code(header: &Value) -> &'static str {
    code(&token(Algorithm::ES256, header, &proof_claims()))
}

fn claims_code(claims: &Value) -> &'static str {
    code(&token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), claims))
}

#[test]
fn rfc_9449_4_1_the_proof_of_a_token_request_holds() {
    let proof = format!("{RFC_HEADER}.{RFC_TOKEN_REQUEST}");
    let request = DpopRequest { proof: &proof, method: "POST", url: "https://server.example.com/token" };
    let now = Timestamp::from_unix(1_562_262_616);

    let held = check_dpop(&request, None, &DpopPolicy::default(), now).expect("the RFC prints a good proof");

    assert_eq!((held.jkt(), held.jti(), held.nonce()), (RFC_JKT, "-BwC3ESc6acc2lTc", None));
    assert_eq!(held.iat(), now);
    let missing = check_dpop(&request, Some("x"), &DpopPolicy::default(), now).expect_err("it has no ath");
    assert_eq!(missing.source().map(ToString::to_string).as_deref(), Some("expected the claim ath, found none"));
}

#[test]
fn rfc_9449_7_1_the_proof_of_a_resource_request_holds() {
    let proof = format!("{RFC_HEADER}.{RFC_RESOURCE_REQUEST}");
    let request = DpopRequest { proof: &proof, method: "GET", url: "https://resource.example.org/protectedresource" };
    let verdict = |request: &DpopRequest<'_>, access_token, now| {
        check_dpop(request, Some(access_token), &DpopPolicy::default(), Timestamp::from_unix(now))
            .map(|proof| proof.jkt().to_owned())
            .map_err(|rejection| rejection.code())
    };
    let iat = 1_562_262_618;

    assert_eq!(verdict(&request, RFC_ACCESS_TOKEN, iat).as_deref(), Ok(RFC_JKT));
    for (request, access_token, now, expected) in [
        (request, "another", iat, "dpop_wrong_access_token"),
        (request, RFC_ACCESS_TOKEN, iat + 91, "dpop_too_old"),
        (request, RFC_ACCESS_TOKEN, iat - 31, "dpop_from_the_future"),
        (DpopRequest { method: "POST", ..request }, RFC_ACCESS_TOKEN, iat, "dpop_wrong_method"),
        (DpopRequest { url: "https://server.example.com/token", ..request }, RFC_ACCESS_TOKEN, iat, "dpop_wrong_url"),
    ] {
        assert_eq!(verdict(&request, access_token, now), Err(expected));
    }
}

#[test]
fn every_algorithm_of_the_list_can_prove() {
    for algorithm in Algorithm::ALL {
        let claims = with(proof_claims(), "nonce", json!("n1"));
        let held = verdict(&token(algorithm, &proof_header(algorithm), &claims), Some(ACCESS_TOKEN));
        let held = held.expect("it is signed by the key in its header");
        assert_eq!((held.jkt(), held.nonce()), (public_key(algorithm).thumbprint().as_str(), Some("n1")));
    }
}

#[test]
fn headers_of_anything_but_a_proof_are_refused() {
    let good = proof_header(Algorithm::ES256);
    let with_jwk = |member: &str, value: Value| with(good.clone(), "jwk", with(jwk(Algorithm::ES256), member, value));
    for (header, expected) in [
        (good.clone(), "ok"),
        (with(good.clone(), "typ", json!("application/dpop+jwt")), "ok"),
        (with(good.clone(), "typ", json!("at+jwt")), "wrong_type"),
        (with(good.clone(), "typ", json!("JWT")), "wrong_type"),
        (without(good.clone(), "typ"), "wrong_type"),
        (with(good.clone(), "typ", json!(["dpop+jwt"])), "malformed_header"),
        (with(good.clone(), "alg", json!("none")), "unsupported_algorithm"),
        (with(good.clone(), "alg", json!("HS256")), "unsupported_algorithm"),
        (with(good.clone(), "alg", json!("ES384")), "dpop_unsuitable_key"),
        (with(good.clone(), "alg", json!("RS256")), "dpop_unsuitable_key"),
        (without(good.clone(), "alg"), "malformed_header"),
        (with(good.clone(), "crit", json!(["b64"])), "critical_header"),
        (with(good.clone(), "b64", json!(false)), "forbidden_header"),
        (with(good.clone(), "zip", json!("DEF")), "forbidden_header"),
        (with(good.clone(), "cty", json!("JWT")), "nested_token"),
        (with(good.clone(), "kid", json!("x")), "ok"),
        (with(good.clone(), "jku", json!("https://evil.example")), "ok"),
        (without(good.clone(), "jwk"), "dpop_missing_key"),
        (with(good.clone(), "jwk", json!("x")), "dpop_unusable_key"),
        (with(good.clone(), "jwk", json!(null)), "dpop_unusable_key"),
        (with(good.clone(), "jwk", json!([jwk(Algorithm::ES256)])), "dpop_unusable_key"),
        (with(good.clone(), "jwk", json!({"keys": [jwk(Algorithm::ES256)]})), "dpop_unusable_key"),
        (with(good.clone(), "jwk", json!({"kty": "oct", "k": "AA"})), "dpop_unusable_key"),
        (with_jwk("d", json!("AA")), "dpop_unusable_key"),
        (with_jwk("d", json!(null)), "dpop_unusable_key"),
        (with_jwk("x", json!(encode(&[7; 32]))), "dpop_unusable_key"),
        (with_jwk("use", json!("enc")), "dpop_unusable_key"),
        (with_jwk("alg", json!("ES384")), "dpop_unusable_key"),
        (with_jwk("alg", json!("ES256")), "ok"),
        (with(good.clone(), "jwk", jwk(Algorithm::EdDSA)), "dpop_unsuitable_key"),
    ] {
        assert_eq!(header_code(&header), expected, "{header}");
    }
}

#[test]
fn a_private_key_in_the_header_is_named_as_a_leak() {
    let header = with(proof_header(Algorithm::ES256), "jwk", with(jwk(Algorithm::ES256), "d", json!("AA")));

    let refused = verdict(&token(Algorithm::ES256, &header, &proof_claims()), Some(ACCESS_TOKEN));

    assert!(matches!(refused, Err(DpopRejection::UnusableKey(reason)) if reason.is_alarming()));
}

#[test]
fn signatures_of_other_keys_are_refused() {
    let good = token(Algorithm::ES256, &proof_header(Algorithm::ES256), &proof_claims());
    let (signing_input, _) = good.rsplit_once('.').expect("a proof has dots");
    let signed_by = |signature: &[u8]| format!("{signing_input}.{}", encode(signature));
    for (proof, expected) in [
        (signed_by(&sign(Algorithm::ES256, signing_input.as_bytes())), "ok"),
        (signed_by(&sign(Algorithm::EdDSA, signing_input.as_bytes())), "dpop_bad_signature"),
        (signed_by(&sign(Algorithm::ES256, b"something else")), "dpop_bad_signature"),
        (signed_by(&[0; 64]), "dpop_bad_signature"),
        (signed_by(&[1; 63]), "dpop_bad_signature"),
        (format!("{signing_input}."), "empty_part"),
    ] {
        assert_eq!(code(&proof), expected);
    }
}

#[test]
fn an_algorithm_outside_the_policy_is_refused() {
    let policy = DpopPolicy::default().with_algorithms([Algorithm::EdDSA]);
    let proof = token(Algorithm::ES256, &proof_header(Algorithm::ES256), &proof_claims());
    let request = DpopRequest { proof: &proof, method: "GET", url: URL };

    let refused = check_dpop(&request, Some(ACCESS_TOKEN), &policy, Timestamp::from_unix(NOW));

    assert!(matches!(refused, Err(DpopRejection::Unacceptable(reason)) if reason.code() == "algorithm_not_allowed"));
}

#[test]
fn claims_have_to_fit_the_request() {
    for (claim, value, expected) in [
        ("htm", json!("get"), "dpop_wrong_method"),
        ("htm", json!("GET "), "dpop_wrong_method"),
        ("htm", json!("POST"), "dpop_wrong_method"),
        ("htm", json!(""), "dpop_wrong_method"),
        ("htm", json!(["GET"]), "malformed_claim"),
        ("htu", json!("HTTPS://API.example.com:443/invoices/%37?draft=1#top"), "ok"),
        ("htu", json!("https://api.example.com/invoices/./6/../7"), "ok"),
        ("htu", json!("http://api.example.com/invoices/7"), "dpop_wrong_url"),
        ("htu", json!("https://api.example.com/invoices/7/"), "dpop_wrong_url"),
        ("htu", json!("https://api.example.com/Invoices/7"), "dpop_wrong_url"),
        ("htu", json!("https://api.example.com:8443/invoices/7"), "dpop_wrong_url"),
        ("htu", json!("https://api.example.com.evil.example/invoices/7"), "dpop_wrong_url"),
        ("htu", json!("https://api.example.com@evil.example/invoices/7"), "dpop_wrong_url"),
        ("htu", json!("/invoices/7"), "dpop_wrong_url"),
        ("htu", json!("api.example.com/invoices/7"), "dpop_wrong_url"),
        ("htu", json!(""), "dpop_wrong_url"),
        ("htu", json!(7), "malformed_claim"),
        ("iat", json!(NOW + 30), "ok"),
        ("iat", json!(NOW + 31), "dpop_from_the_future"),
        ("iat", json!(NOW - 90), "ok"),
        ("iat", json!(NOW - 91), "dpop_too_old"),
        ("iat", json!(0), "dpop_too_old"),
        ("iat", json!(-1), "malformed_claim"),
        ("iat", json!(1e300), "malformed_claim"),
        ("iat", json!(NOW.to_string()), "malformed_claim"),
        ("iat", json!(null), "malformed_claim"),
        ("jti", json!(""), "malformed_claim"),
        ("jti", json!("x".repeat(256)), "ok"),
        ("jti", json!("x".repeat(257)), "malformed_claim"),
        ("jti", json!(1), "malformed_claim"),
        ("nonce", json!("x".repeat(257)), "malformed_claim"),
        ("nonce", json!({}), "malformed_claim"),
        ("ath", json!(""), "dpop_wrong_access_token"),
        ("ath", json!(format!("{ATH}=")), "dpop_wrong_access_token"),
        ("ath", json!(ATH.to_lowercase()), "dpop_wrong_access_token"),
        ("ath", json!([ATH]), "malformed_claim"),
        ("exp", json!(NOW - 31), "expired"),
        ("nbf", json!(NOW + 31), "not_yet_valid"),
        ("exp", json!(NOW + 60), "ok"),
        ("x", json!({"anything": [1]}), "ok"),
    ] {
        assert_eq!(claims_code(&with(proof_claims(), claim, value.clone())), expected, "{claim} {value}");
    }
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        assert_eq!(claims_code(&without(proof_claims(), claim)), "missing_claim", "{claim}");
    }
}

#[test]
fn proofs_in_another_shape_are_refused() {
    let good = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &proof_claims());
    let header = proof_header(Algorithm::EdDSA).to_string();
    let repeated = |from: &str, to: &str, text: String| text.replacen(from, to, 1);
    for (proof, expected) in [
        (String::new(), "wrong_part_count"),
        (format!("{good}.x"), "wrong_part_count"),
        (format!("{good},{good}"), "encrypted_token"),
        (format!(" {good}"), "not_base64url"),
        (format!("{good}="), "not_base64url"),
        (format!("{{\"payload\":\"{good}\"}}"), "json_serialization"),
        (format!("{good}.x.y"), "encrypted_token"),
        (raw_token(Algorithm::EdDSA, header.as_bytes(), b"{}x"), "not_an_object"),
        (raw_token(Algorithm::EdDSA, header.as_bytes(), b"\xff"), "not_an_object"),
        (raw_token(Algorithm::EdDSA, header.as_bytes(), b""), "not_an_object"),
        (raw_token(Algorithm::EdDSA, b"[]", b"{}"), "not_an_object"),
        (
            raw_token(Algorithm::EdDSA, repeated("{", r#"{"typ":"dpop+jwt","#, header.clone()).as_bytes(), b"{}"),
            "repeated_member",
        ),
        (
            raw_token(Algorithm::EdDSA, repeated("\"x\"", r#""x":"AA","x""#, header.clone()).as_bytes(), b"{}"),
            "repeated_member",
        ),
        (
            raw_token(
                Algorithm::EdDSA,
                header.as_bytes(),
                repeated("{", r#"{"htu":"x","#, proof_claims().to_string()).as_bytes(),
            ),
            "repeated_member",
        ),
        (format!("{}.{good}", "A".repeat(9000)), "token_too_large"),
    ] {
        assert_eq!(code(&proof), expected, "{proof:.80}");
    }
}

#[test]
fn a_request_url_that_is_not_absolute_is_the_callers_mistake() {
    let proof = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &proof_claims());
    for url in ["/invoices/7", "", "ws://api.example.com/"] {
        let request = DpopRequest { proof: &proof, method: "GET", url };
        let refused = check_dpop(&request, Some(ACCESS_TOKEN), &DpopPolicy::default(), Timestamp::from_unix(NOW));
        assert_eq!(refused.map_err(|rejection| rejection.code()), Err("dpop_unusable_request_url"));
    }
}

#[test]
fn the_settings_of_a_policy_are_kept_in_their_bounds() {
    let policy = DpopPolicy::default().with_max_age(Duration::MAX).with_leeway(Duration::ZERO).with_max_proof_bytes(10);

    assert_eq!((policy.max_age(), policy.leeway()), (Duration::from_secs(600), Duration::from_secs(5)));
    assert_eq!(policy.window(), Duration::from_secs(611));
    assert_eq!(policy.with_leeway(Duration::MAX).leeway(), Duration::from_secs(60));
    assert_eq!(DpopPolicy::default().window(), Duration::from_secs(121));
}

#[test]
fn a_proof_is_acceptable_within_its_window_only() {
    let policy = DpopPolicy::default();
    let proof = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &proof_claims());
    let request = DpopRequest { proof: &proof, method: "GET", url: URL };
    let accepted: Vec<i64> = (NOW - 200..NOW + 200)
        .filter(|now| check_dpop(&request, Some(ACCESS_TOKEN), &policy, Timestamp::from_unix(*now)).is_ok())
        .collect();

    assert_eq!((accepted.first(), accepted.last()), (Some(&(NOW - 30)), Some(&(NOW + 90))));
    assert_eq!(accepted.len() as u64, policy.window().as_secs());
}

#[test]
fn messages_repeat_nothing_at_length_and_nothing_unescaped() {
    let claims = with(proof_claims(), "htu", json!(format!("https://\u{202e}\n{}", "x".repeat(4000))));
    let proof = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &claims);

    let message = verdict(&proof, Some(ACCESS_TOKEN)).expect_err("it is for another URL").to_string();

    assert!(message.is_ascii() && message.len() < 250, "{message}");
    assert!(message.contains("expected a DPoP proof for the URL \"https://api.example.com/invoices/7\""), "{message}");
}

#[test]
fn a_flipped_bit_anywhere_refuses_the_proof() {
    let good = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &proof_claims());
    for index in 0..good.len() {
        for bit in 0..7 {
            let mut flipped = good.clone().into_bytes();
            flipped[index] ^= 1 << bit;
            let flipped = String::from_utf8(flipped).expect("ASCII stays ASCII");
            assert!(verdict(&flipped, Some(ACCESS_TOKEN)).is_err(), "bit {bit} of byte {index}");
        }
    }
    assert_eq!(decode(ATH).len(), 32);
}

proptest! {
    #[test]
    fn any_text_is_refused_as_a_proof(proof in any::<String>(), method in any::<String>(), url in any::<String>()) {
        let request = DpopRequest { proof: &proof, method: &method, url: &url };
        let policy = DpopPolicy::default();
        prop_assert!(check_dpop(&request, Some(&proof), &policy, Timestamp::from_unix(NOW)).is_err());
    }

    #[test]
    fn a_signed_proof_with_a_wild_member_never_panics(
        member in "htm|htu|iat|jti|ath|nonce|exp|nbf", text in "\\PC{0,20}", number in any::<f64>(), seconds in any::<i64>(),
    ) {
        for value in [json!(text), json!(number), json!([text]), json!({"x": number})] {
            let claims = with(proof_claims(), &member, value);
            let proof = token(Algorithm::EdDSA, &proof_header(Algorithm::EdDSA), &claims);
            let request = DpopRequest { proof: &proof, method: "GET", url: URL };
            let verdict = check_dpop(&request, Some(ACCESS_TOKEN), &DpopPolicy::default(), Timestamp::from_unix(seconds));
            if let Err(rejection) = verdict {
                prop_assert!(rejection.to_string().is_ascii());
            }
        }
    }

    #[test]
    fn a_proof_with_a_wild_header_member_never_panics(member in "typ|alg|jwk|kid|crit", text in "\\PC{0,20}") {
        for value in [json!(text), json!([text]), json!({"kty": text}), json!({"kty": "EC", "crv": "P-256", "x": text})] {
            let header = with(proof_header(Algorithm::EdDSA), &member, value);
            let _ = verdict(&token(Algorithm::EdDSA, &header, &proof_claims()), None);
        }
    }
}
