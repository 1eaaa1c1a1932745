//! One line for each way a token can fail, and for the nearest one that holds.

use std::time::Duration;

use keywheel_jose::{
    AccessTokenClaims, Algorithm, Confirmation, Holder, IdTokenClaims, KeySet, Policy, ProofMethod, Rejection,
    Timestamp, UnverifiedJwt, Verified, check, check_bound, check_signature, decode_unverified,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::signing::{encode, header, key_set, public_key, raw_token, sign, token};

pub(crate) const NOW: i64 = 1_795_330_800;
pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";
const CLIENT: &str = "web";

/// The claims of an access token that holds at [`NOW`].
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": NOW + 600, "iat": NOW, "nbf": NOW,
        "jti": "t1", "client_id": CLIENT, "scope": "invoices:read invoices:write"})
}

pub(crate) fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

pub(crate) fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().expect("it is an object").remove(member);
    object
}

fn policy() -> Policy {
    Policy::access_token(ISSUER, AUDIENCE)
}

fn id_policy() -> Policy {
    Policy::id_token(ISSUER, CLIENT)
}

/// The verdict at [`NOW`]. Whatever is not about the key or the signature has to be the verdict of
/// [`UnverifiedJwt::plausible`] too.
fn verdict_of<T: AsRef<str>>(token: T, policy: &Policy) -> Result<Verified<Value>, Rejection> {
    let now = Timestamp::from_unix(NOW);
    let token = token.as_ref();
    let verdict = check::<Value>(token, &key_set(), policy, now);
    let plausible = UnverifiedJwt::parse(token, policy.max_token_bytes()).and_then(|jwt| jwt.plausible(policy, now));
    match &verdict {
        Ok(_) => assert_eq!(plausible, Ok(())),
        Err(
            Rejection::UnknownKid { .. }
            | Rejection::NoKey { .. }
            | Rejection::AmbiguousKey { .. }
            | Rejection::UnsuitableKey { .. }
            | Rejection::BadSignature,
        ) => {}
        Err(rejection) => assert_eq!(plausible.as_ref(), Err(rejection)),
    }
    verdict
}

fn code<T: AsRef<str>>(token: T, policy: &Policy) -> &'static str {
    verdict_of(token, policy).map_or_else(|rejection| rejection.code(), |_| "ok")
}

fn header_code(header: &Value) -> &'static str {
    code(token(Algorithm::ES256, header, &claims()), &policy())
}

fn claims_code(claims: &Value) -> &'static str {
    code(token(Algorithm::EdDSA, &header(Algorithm::EdDSA), claims), &policy())
}

/// The verdict of a policy for any kind of token.
fn any_code(claims: &Value) -> &'static str {
    code(token(Algorithm::EdDSA, &header(Algorithm::EdDSA), claims), &Policy::any(ISSUER, AUDIENCE))
}

fn id_claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": CLIENT, "exp": NOW + 600, "iat": NOW, "nonce": "n"})
}

fn id_code(claims: &Value) -> &'static str {
    let header = without(header(Algorithm::EdDSA), "typ");
    code(token(Algorithm::EdDSA, &header, claims), &id_policy())
}

#[test]
fn a_good_token_says_what_it_says() {
    let token = token(Algorithm::ES256, &header(Algorithm::ES256), &claims());

    let verified =
        check::<AccessTokenClaims>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW)).expect("it holds");

    assert_eq!(verified.kid(), public_key(Algorithm::ES256).kid());
    assert_eq!(verified.algorithm(), Some(Algorithm::ES256));
    assert_eq!(verified.expires_at(), Timestamp::from_unix(NOW + 600));
    assert_eq!((verified.issuer(), verified.subject()), (Some(ISSUER), Some("alice")));
    assert_eq!(verified.claims().scopes().collect::<Vec<_>>(), ["invoices:read", "invoices:write"]);
    assert_eq!(serde_json::to_value(verified.into_claims()).expect("claims can be written"), claims());
}

#[test]
fn tokens_in_another_shape_are_refused() {
    let good = token(Algorithm::ES256, &header(Algorithm::ES256), &claims());
    let [head, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for (token, expected) in [
        (good.clone(), "ok"),
        (String::new(), "wrong_part_count"),
        (".".into(), "wrong_part_count"),
        (format!("{head}.{payload}"), "wrong_part_count"),
        (format!("{good}.x"), "wrong_part_count"),
        (format!("{good}."), "wrong_part_count"),
        (format!("{good}.a.b"), "encrypted_token"),
        ("....".into(), "encrypted_token"),
        (format!("{good}.a.b.c"), "wrong_part_count"),
        ("..".into(), "empty_part"),
        (format!(".{payload}.{signature}"), "empty_part"),
        (format!("{head}..{signature}"), "empty_part"),
        (format!("{head}.{payload}."), "empty_part"),
        (json!({"payload": payload, "protected": head, "signature": signature}).to_string(), "json_serialization"),
        ("  {\"payload\":\"\"}".into(), "json_serialization"),
        (format!(" {good}"), "not_base64url"),
        (format!("{good}\n"), "not_base64url"),
        (format!("{head} .{payload}.{signature}"), "not_base64url"),
        (format!("{head}.\r\n{payload}.{signature}"), "not_base64url"),
        (format!("{head}.{payload}.{signature}=="), "not_base64url"),
        (format!("{head}=.{payload}.{signature}"), "not_base64url"),
        (format!("{head}.{payload}.{}", signature.replacen(['-', '_'], "+", 1)), "not_base64url"),
        (format!("{head}.{payload}.+{}", &signature[1..]), "not_base64url"),
        (format!("{head}.{payload}.é{}", &signature[1..]), "not_base64url"),
        (format!("{head}.{payload}.\0{}", &signature[1..]), "not_base64url"),
        (format!("Bearer {good}"), "not_base64url"),
    ] {
        // A signature without `-` and `_` leaves nothing to replace; the line after it makes the same point.
        if token == good && expected != "ok" {
            continue;
        }
        assert_eq!(code(&token, &policy()), expected, "{token}");
    }
}

#[test]
fn a_token_has_one_spelling_only() {
    // 64 octets leave four unused bits in the last letter. Each of the fifteen other spellings of the same octets is
    // refused.
    let good = token(Algorithm::ES256, &header(Algorithm::ES256), &claims());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.iter().position(|letter| Some(letter) == good.as_bytes().last()).expect("base64url");
    assert_eq!(last % 16, 0);

    for spelling in &alphabet[last + 1..last + 16] {
        let token = format!("{}{}", &good[..good.len() - 1], *spelling as char);
        assert_eq!(code(token, &policy()), "not_base64url");
    }
}

#[test]
fn size_is_looked_at_first() {
    let good = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());

    assert_eq!(code(&good, &policy().with_max_token_bytes(good.len())), "ok");
    assert_eq!(code(&good, &policy().with_max_token_bytes(good.len() - 1)), "token_too_large");
    assert_eq!(code("x".repeat(16 * 1024 + 1), &policy()), "token_too_large");
    let padded = with(claims(), "pad", json!("x".repeat(16 * 1024)));
    assert_eq!(claims_code(&padded), "token_too_large");
}

#[test]
fn headers_that_are_not_one_plain_object_are_refused() {
    let payload = claims().to_string();
    for (header, expected) in [
        (&b"null"[..], "not_an_object"),
        (b"[]", "not_an_object"),
        (b"\"alg\"", "not_an_object"),
        (b"{", "not_an_object"),
        (b"{}{}", "not_an_object"),
        (b"{\"alg\":\"ES256\",}", "not_an_object"),
        (b"{'alg':'ES256'}", "not_an_object"),
        (b"{\"alg\":\"ES256\",\"x\":\"\xff\"}", "not_an_object"),
        (b"{\"alg\":\"ES256\",\"x\":\"\\ud800\"}", "not_an_object"),
        (b"\xef\xbb\xbf{\"alg\":\"ES256\"}", "not_an_object"),
        (b"{\"alg\":\"ES256\",\"typ\":\"at+jwt\"} x", "not_an_object"),
        (b"{\"alg\":\"ES256\",\"alg\":\"ES256\"}", "repeated_member"),
        (b"{\"alg\":\"none\",\"alg\":\"ES256\"}", "repeated_member"),
        (b"{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}", "repeated_member"),
        (b"{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"x\":[{\"a\":1,\"a\":2}]}", "repeated_member"),
        (b" {\"typ\":\"at+jwt\",\r\n \"alg\":\"ES256\"} ", "ok"),
    ] {
        let token = raw_token(Algorithm::ES256, header, payload.as_bytes());
        assert_eq!(code(token, &policy()), expected, "{}", String::from_utf8_lossy(header));
    }
    let deep = format!("{{\"alg\":\"ES256\",\"x\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
    assert_eq!(code(raw_token(Algorithm::ES256, deep.as_bytes(), b"{}"), &policy()), "not_an_object");
}

#[test]
fn headers_that_ask_for_more_than_a_signature_are_refused() {
    let good = header(Algorithm::ES256);
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("x"), json!(["urn:example:x"])] {
        assert_eq!(header_code(&with(good.clone(), "crit", crit)), "critical_header");
    }
    for member in ["b64", "enc", "zip"] {
        for value in [json!(true), json!(false), json!(null), json!("DEF")] {
            assert_eq!(header_code(&with(good.clone(), member, value)), "forbidden_header", "{member}");
        }
    }
    for cty in ["JWT", "jwt", "application/jwt", "APPLICATION/JWT"] {
        assert_eq!(header_code(&with(good.clone(), "cty", json!(cty))), "nested_token");
    }
    assert_eq!(header_code(&with(good.clone(), "cty", json!("json"))), "ok");
    assert_eq!(header_code(&with(good, "cty", json!(1))), "malformed_header");
}

#[test]
fn header_members_have_their_type() {
    let good = header(Algorithm::ES256);
    for value in [json!(null), json!(1), json!(["ES256"]), json!({}), json!(true)] {
        for member in ["alg", "kid", "typ"] {
            assert_eq!(header_code(&with(good.clone(), member, value.clone())), "malformed_header", "{member}");
        }
    }
    assert_eq!(header_code(&without(good.clone(), "alg")), "malformed_header");
    assert_eq!(header_code(&with(good.clone(), "kid", json!("x".repeat(256)))), "unknown_kid");
    assert_eq!(header_code(&with(good, "kid", json!("x".repeat(257)))), "malformed_header");
}

#[test]
fn algorithms_off_the_list_are_refused() {
    for name in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "es256",
        "ES512",
        "ES256K",
        "RS1",
        "RSA-OAEP",
        "dir",
        "Ed448",
        "ML-DSA-65",
        "ES256 ",
    ] {
        let header = with(header(Algorithm::ES256), "alg", json!(name));
        assert_eq!(header_code(&header), "unsupported_algorithm", "{name}");
    }
}

#[test]
fn a_policy_narrows_the_algorithms() {
    let only_rsa = policy().with_algorithms([Algorithm::RS256, Algorithm::PS256]).expect("two algorithms");
    let token_of = |algorithm| token(algorithm, &header(algorithm), &claims());

    assert_eq!(code(token_of(Algorithm::RS256), &only_rsa), "ok");
    assert_eq!(code(token_of(Algorithm::PS256), &only_rsa), "ok");
    assert_eq!(code(token_of(Algorithm::ES256), &only_rsa), "algorithm_not_allowed");
    assert_eq!(code(token_of(Algorithm::PS512), &only_rsa), "algorithm_not_allowed");
}

#[test]
fn ed25519_is_another_name_for_eddsa() {
    let header = with(header(Algorithm::EdDSA), "alg", json!("Ed25519"));
    assert_eq!(code(token(Algorithm::EdDSA, &header, &claims()), &policy()), "ok");
}

#[test]
fn the_type_of_an_access_token_is_at_jwt() {
    let good = header(Algorithm::ES256);
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(header_code(&with(good.clone(), "typ", json!(typ))), "ok", "{typ}");
    }
    for typ in ["JWT", "", "jwt", "at+jwt ", "at jwt", "text/at+jwt", "application/", "id+jwt", "é+jwt", "applicatioé/"]
    {
        assert_eq!(header_code(&with(good.clone(), "typ", json!(typ))), "wrong_type", "{typ}");
    }
    assert_eq!(header_code(&without(good, "typ")), "wrong_type");
}

#[test]
fn the_type_of_an_id_token_is_jwt_or_absent() {
    let code_of = |typ: Option<&str>| {
        let header = without(header(Algorithm::ES256), "typ");
        let header = typ.map_or(header.clone(), |typ| with(header, "typ", json!(typ)));
        code(token(Algorithm::ES256, &header, &id_claims()), &id_policy())
    };

    for typ in [None, Some("JWT"), Some("jwt"), Some("application/jwt")] {
        assert_eq!(code_of(typ), "ok", "{typ:?}");
    }
    for typ in [Some("at+jwt"), Some("logout+jwt"), Some("")] {
        assert_eq!(code_of(typ), "wrong_type", "{typ:?}");
    }
}

#[test]
fn a_policy_for_any_type_still_checks_the_rest() {
    let any = Policy::any(ISSUER, AUDIENCE);
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("secevent+jwt")] {
        let header = without(header(Algorithm::ES256), "typ");
        let header = typ.map_or(header.clone(), |typ| with(header, "typ", json!(typ)));
        assert_eq!(code(token(Algorithm::ES256, &header, &claims()), &any), "ok", "{typ:?}");
        let expired = with(claims(), "exp", json!(NOW - 31));
        assert_eq!(code(token(Algorithm::ES256, &header, &expired), &any), "expired", "{typ:?}");
    }
}

#[test]
fn keys_in_the_header_are_never_used() {
    // The header brings the very key that signed, and the key set has another.
    let own = public_key(Algorithm::ES256);
    let bringing = json!({"alg": "ES256", "typ": "at+jwt", "kid": "theirs", "jwk": own, "jku": "https://evil.example/",
        "x5u": "https://evil.example/", "x5c": ["AAAA"], "x5t": 1});
    let token = token(Algorithm::ES256, &bringing, &claims());
    let theirs = KeySet::from_keys([public_key(Algorithm::RS256).with_kid("theirs").expect("short")]);

    let verdict = check::<Value>(&token, &theirs, &policy(), Timestamp::from_unix(NOW));

    assert_eq!(verdict.map_err(|rejection| rejection.code()).err(), Some("unsuitable_key"));
    // Beside a good `kid` they do no harm either.
    let harmless = with(with(header(Algorithm::ES256), "jwk", json!(7)), "x5c", json!(null));
    assert_eq!(header_code(&harmless), "ok");
}

#[test]
fn signatures_of_another_key_algorithm_or_form_are_refused() {
    let es256 = header(Algorithm::ES256);
    let input = format!("{}.{}", encode(es256.to_string().as_bytes()), encode(claims().to_string().as_bytes()));
    let signature_code = |signature: &[u8]| code(format!("{input}.{}", encode(signature)), &policy());
    let good = sign(Algorithm::ES256, input.as_bytes());
    let (r, s) = good.split_at(32);
    let integer = |number: &[u8]| {
        let number = [&[0], number].concat();
        [&[0x02, number.len() as u8], &number[..]].concat()
    };
    let (r_der, s_der) = (integer(r), integer(s));
    let der = [&[0x30, (r_der.len() + s_der.len()) as u8], &r_der[..], &s_der[..]].concat();

    assert_eq!(signature_code(&good), "ok");
    assert_eq!(signature_code(&der), "bad_signature");
    assert_eq!(signature_code(&[0; 64]), "bad_signature");
    assert_eq!(signature_code(&[&[0; 32], s].concat()), "bad_signature");
    assert_eq!(signature_code(&[r, &[0; 32]].concat()), "bad_signature");
    assert_eq!(signature_code(&[s, r].concat()), "bad_signature");
    assert_eq!(signature_code(&good[..63]), "bad_signature");
    assert_eq!(signature_code(&[&good[..], &[0]].concat()), "bad_signature");
    assert_eq!(signature_code(&[0xff; 64]), "bad_signature");
    assert_eq!(signature_code(&sign(Algorithm::ES384, input.as_bytes())), "bad_signature");
    assert_eq!(signature_code(&sign(Algorithm::EdDSA, input.as_bytes())), "bad_signature");
}

#[test]
fn an_algorithm_is_not_another_of_the_same_key() {
    for (said, signed) in [
        (Algorithm::RS256, Algorithm::PS256),
        (Algorithm::PS256, Algorithm::RS256),
        (Algorithm::RS256, Algorithm::RS512),
        (Algorithm::PS384, Algorithm::PS256),
    ] {
        assert_eq!(code(token(signed, &header(said), &claims()), &policy()), "bad_signature", "{said} {signed}");
    }
}

#[test]
fn payloads_that_are_not_one_plain_object_are_refused() {
    let head = header(Algorithm::EdDSA).to_string();
    let good = claims().to_string();
    let doubled = format!("{},\"iss\":{}}}", &good[..good.len() - 1], json!("https://evil.example.com"));
    let nested = format!("{},\"x\":{{\"a\":1,\"a\":2}}}}", &good[..good.len() - 1]);
    for (payload, expected) in [
        (&b"null"[..], "not_an_object"),
        (b"[]", "not_an_object"),
        (b"1", "not_an_object"),
        (b"not json", "not_an_object"),
        (b"{\"iss\":\"\xff\"}", "not_an_object"),
        (b"{} {}", "not_an_object"),
        (b"{\"exp\":1e999}", "not_an_object"),
        (b"{\"exp\":NaN}", "not_an_object"),
        (b"{\"exp\":Infinity}", "not_an_object"),
        (doubled.as_bytes(), "repeated_member"),
        (nested.as_bytes(), "repeated_member"),
        (b"{}", "missing_claim"),
        (good.as_bytes(), "ok"),
    ] {
        let token = raw_token(Algorithm::EdDSA, head.as_bytes(), payload);
        assert_eq!(code(token, &policy()), expected, "{}", String::from_utf8_lossy(payload));
    }
    let deep = format!("{{\"x\":{}", "[".repeat(8000));
    assert_eq!(code(raw_token(Algorithm::EdDSA, head.as_bytes(), deep.as_bytes()), &policy()), "not_an_object");
}

#[test]
fn the_issuer_is_compared_exactly() {
    for (iss, expected) in [
        (json!(ISSUER), "ok"),
        (json!("https://id.example.com/"), "wrong_issuer"),
        (json!("https://ID.example.com"), "wrong_issuer"),
        (json!("https://id.example.com "), "wrong_issuer"),
        (json!(""), "wrong_issuer"),
        (json!([ISSUER]), "malformed_claim"),
        (json!(null), "malformed_claim"),
        (json!(7), "malformed_claim"),
    ] {
        assert_eq!(claims_code(&with(claims(), "iss", iss.clone())), expected, "{iss}");
    }
    assert_eq!(claims_code(&without(claims(), "iss")), "missing_claim");
}

#[test]
fn an_unchecked_issuer_is_still_there_and_a_text() {
    let policy = policy().insecure_any_issuer();
    let code_of = |claims: Value| code(token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims), &policy);

    assert_eq!(code_of(with(claims(), "iss", json!("https://other.example.com"))), "ok");
    assert_eq!(code_of(without(claims(), "iss")), "missing_claim");
    assert_eq!(code_of(with(claims(), "iss", json!(7))), "malformed_claim");
    let any = Policy::any(ISSUER, AUDIENCE).insecure_any_issuer();
    let without_issuer = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &without(claims(), "iss"));
    assert_eq!(code(without_issuer, &any), "ok");
}

#[test]
fn the_audience_has_to_name_us() {
    for (aud, expected) in [
        (json!(AUDIENCE), "ok"),
        (json!([AUDIENCE]), "ok"),
        (json!(["https://other.example.com", AUDIENCE]), "ok"),
        (json!("https://api.example.com/"), "wrong_audience"),
        (json!("https://api.example.co"), "wrong_audience"),
        (json!(["https://other.example.com"]), "wrong_audience"),
        (json!(""), "wrong_audience"),
        (json!([]), "malformed_claim"),
        (json!([AUDIENCE, 5]), "malformed_claim"),
        (json!([[AUDIENCE]]), "malformed_claim"),
        (json!({AUDIENCE: true}), "malformed_claim"),
        (json!(5), "malformed_claim"),
        (json!(null), "malformed_claim"),
    ] {
        assert_eq!(claims_code(&with(claims(), "aud", aud.clone())), expected, "{aud}");
    }
    assert_eq!(claims_code(&without(claims(), "aud")), "missing_claim");
    let two = policy().or_audience("https://other.example.com");
    let other = with(claims(), "aud", json!("https://other.example.com"));
    assert_eq!(code(token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &other), &two), "ok");
}

#[test]
fn dates_are_numbers_in_range() {
    for claim in ["exp", "nbf", "iat", "auth_time"] {
        for value in [
            json!("1795330800"),
            json!(null),
            json!(true),
            json!([NOW]),
            json!({}),
            json!(-1),
            json!(-0.5),
            json!(253_402_300_800_i64),
            json!(253_402_300_799.5),
            json!(1e300),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(i64::MIN),
        ] {
            assert_eq!(claims_code(&with(claims(), claim, value.clone())), "malformed_claim", "{claim} {value}");
        }
    }
    assert_eq!(claims_code(&without(claims(), "exp")), "missing_claim");
    assert_eq!(claims_code(&without(claims(), "nbf")), "ok");
    assert_eq!(claims_code(&with(claims(), "exp", json!(253_402_300_799_i64))), "ok");
    assert_eq!(claims_code(&with(claims(), "nbf", json!(0))), "ok");
}

#[test]
fn a_token_ends_at_exp_plus_leeway() {
    for (exp, leeway_s, expected) in [
        (json!(NOW + 1), 0, "ok"),
        (json!(NOW), 0, "expired"),
        (json!(NOW - 29), 30, "ok"),
        (json!(NOW - 30), 30, "expired"),
        (json!(NOW - 59), 60, "ok"),
        (json!(NOW - 60), 60, "expired"),
        (json!(NOW as f64 + 0.5), 0, "ok"),
        (json!(NOW as f64 - 0.5), 0, "expired"),
        (json!(0), 60, "expired"),
    ] {
        let policy = policy().with_leeway(Duration::from_secs(leeway_s)).expect("at most a minute");
        let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), "exp", exp.clone()));
        assert_eq!(code(token, &policy), expected, "{exp} {leeway_s}");
    }
}

#[test]
fn a_token_begins_at_nbf_minus_leeway() {
    for (nbf, leeway_s, expected) in [
        (json!(NOW), 0, "ok"),
        (json!(NOW + 1), 0, "not_yet_valid"),
        (json!(NOW + 30), 30, "ok"),
        (json!(NOW + 31), 30, "not_yet_valid"),
        (json!(NOW as f64 + 0.5), 0, "not_yet_valid"),
        (json!(NOW as f64 - 0.5), 0, "ok"),
        (json!(253_402_300_799_i64), 60, "not_yet_valid"),
    ] {
        let policy = policy().with_leeway(Duration::from_secs(leeway_s)).expect("at most a minute");
        let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), "nbf", nbf.clone()));
        assert_eq!(code(token, &policy), expected, "{nbf} {leeway_s}");
    }
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());
    for (now, expected) in [(i64::MIN, "not_yet_valid"), (i64::MAX, "expired"), (0, "not_yet_valid")] {
        let verdict = check::<Value>(&token, &key_set(), &policy(), Timestamp::from_unix(now));
        assert_eq!(verdict.expect_err("that is another time").code(), expected, "{now}");
    }
}

#[test]
fn registered_strings_are_strings() {
    for claim in ["sub", "jti", "client_id", "scope", "azp"] {
        for value in [json!(1), json!(null), json!(["x"]), json!({})] {
            assert_eq!(claims_code(&with(claims(), claim, value.clone())), "malformed_claim", "{claim} {value}");
        }
        assert_eq!(any_code(&with(claims(), claim, json!(1))), "malformed_claim", "{claim}");
        assert_eq!(any_code(&without(claims(), claim)), "ok", "{claim}");
    }
}

#[test]
fn an_access_token_has_what_rfc_9068_requires() {
    for claim in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        assert_eq!(claims_code(&without(claims(), claim)), "missing_claim", "{claim}");
    }
    for claim in ["nbf", "scope"] {
        assert_eq!(claims_code(&without(claims(), claim)), "ok", "{claim}");
    }
}

#[test]
fn what_else_an_access_token_says_has_its_type() {
    for (claim, good, bad) in [
        ("sid", json!("s"), [json!(null), json!(1), json!(["s"]), json!({})]),
        ("acr", json!("1"), [json!(null), json!(1), json!(["1"]), json!(true)]),
        ("amr", json!(["pwd"]), [json!(null), json!("pwd"), json!([1]), json!({})]),
        ("roles", json!([]), [json!(null), json!("admin"), json!(["admin", null]), json!({"admin": true})]),
    ] {
        assert_eq!(claims_code(&with(claims(), claim, good)), "ok", "{claim}");
        for value in bad {
            let claims = with(claims(), claim, value.clone());
            assert_eq!(claims_code(&claims), "malformed_claim", "{claim} {value}");
            assert_eq!(any_code(&claims), "ok", "{claim} {value}");
        }
    }
}

#[test]
fn a_token_bound_to_a_key_is_no_bearer_token() {
    let key = public_key(Algorithm::EdDSA).thumbprint();
    for (cnf, expected) in [
        (json!({"jkt": key}), "sender_constrained"),
        (json!({"x5t#S256": key}), "sender_constrained"),
        (json!({"jkt": key, "x5t#S256": key}), "sender_constrained"),
        (json!({"jkt": "x"}), "unsupported_confirmation"),
        (json!({"jkt": key, "kid": "k"}), "unsupported_confirmation"),
        (json!({}), "unsupported_confirmation"),
        (json!(null), "unsupported_confirmation"),
    ] {
        assert_eq!(claims_code(&with(claims(), "cnf", cnf.clone())), expected, "{cnf}");
    }
}

#[test]
fn the_holder_decides_about_a_bound_token() {
    let key = public_key(Algorithm::EdDSA).thumbprint();
    let bound = with(claims(), "cnf", json!({"jkt": key}));
    let check_with = |claims: &Value, holder: Holder<'_>| {
        let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), claims);
        let now = Timestamp::from_unix(NOW);
        let may_use = |confirmation: Option<&Confirmation>| holder.may_use(confirmation);
        let plausible = UnverifiedJwt::parse(&token, 10_000)?.plausible_bound(&policy(), now, may_use);
        let verdict = check_bound::<Value>(&token, &key_set(), &policy(), now, may_use);
        assert_eq!(plausible, verdict.clone().map(|_| ()));
        verdict
    };

    let held = check_with(&bound, Holder { jkt: Some(&key), x5t_s256: None }).expect("the key is proved");
    assert_eq!(held.confirmation().and_then(Confirmation::jkt), Some(key.as_str()));
    let unbound = check_with(&claims(), Holder::default()).expect("nothing has to be proved");
    assert_eq!(unbound.confirmation(), None);

    for (claims, jkt, expected) in [
        (&bound, None, Rejection::SenderConstrained),
        (&bound, Some("x"), Rejection::ProofMismatch { method: ProofMethod::Dpop }),
        (&claims(), Some(key.as_str()), Rejection::NotBound),
    ] {
        assert_eq!(check_with(claims, Holder { jkt, x5t_s256: None }), Err(expected));
    }
}

#[test]
fn the_holder_is_asked_about_tokens_that_hold_only() {
    let bad_signature = raw_token(Algorithm::ES256, header(Algorithm::EdDSA).to_string().as_bytes(), b"{}");
    let expired = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), "exp", json!(NOW - 31)));

    for token in [bad_signature, expired] {
        let refused = check_bound::<Value>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW), |_| {
            panic!("the token does not hold in any hands")
        });
        assert!(refused.is_err());
    }
}

#[test]
fn clones_share_what_was_verified() {
    let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());
    let verified = verdict_of(&token, &policy()).expect("it holds");

    let clone = verified.clone();

    assert!(std::ptr::eq(verified.claims(), clone.claims()));
    assert_eq!((verified.into_claims(), clone.into_claims()), (claims(), claims()));
}

#[test]
fn the_issuer_of_an_unverified_token_is_one_string() {
    let issuer = |payload: &[u8]| {
        let token = raw_token(Algorithm::EdDSA, header(Algorithm::EdDSA).to_string().as_bytes(), payload);
        UnverifiedJwt::parse(&token, 10_000)?.issuer()
    };

    assert_eq!(issuer(br#"{"x":{"iss":"b"},"iss":"a"}"#).as_deref(), Ok("a"));
    for (payload, expected) in [
        (&br#"{"iss":"a","iss":"b"}"#[..], "repeated_member"),
        (br#"{"iss":"a","\u0069ss":"a"}"#, "repeated_member"),
        (br#"{"iss":["a"]}"#, "malformed_claim"),
        (br#"{"iss":null}"#, "malformed_claim"),
        (br#"{"x":{"iss":"b"}}"#, "missing_claim"),
        (br#"["iss"]"#, "not_an_object"),
        (b"\xff", "not_an_object"),
    ] {
        assert_eq!(issuer(payload).map_err(|rejection| rejection.code()), Err(expected));
    }
}

#[test]
fn an_id_token_needs_its_user_its_time_and_its_party() {
    let several = json!([CLIENT, "other"]);
    for (claims, expected) in [
        (id_claims(), "ok"),
        (without(id_claims(), "sub"), "missing_claim"),
        (without(id_claims(), "iat"), "missing_claim"),
        (with(id_claims(), "azp", json!(CLIENT)), "ok"),
        (with(id_claims(), "azp", json!("other")), "wrong_authorized_party"),
        (with(id_claims(), "azp", json!(1)), "malformed_claim"),
        (with(id_claims(), "aud", several.clone()), "missing_claim"),
        (with(with(id_claims(), "aud", several.clone()), "azp", json!(CLIENT)), "ok"),
        (with(with(id_claims(), "aud", several), "azp", json!("other")), "wrong_authorized_party"),
        (with(id_claims(), "aud", json!([CLIENT])), "ok"),
        (with(id_claims(), "aud", json!("other")), "wrong_audience"),
        (with(id_claims(), "exp", json!(NOW - 30)), "expired"),
        (without(id_claims(), "nonce"), "ok"),
        (with(id_claims(), "nonce", json!(1)), "malformed_claim"),
        (with(id_claims(), "at_hash", json!(null)), "malformed_claim"),
        (with(id_claims(), "sid", json!(["s"])), "malformed_claim"),
        (with(id_claims(), "acr", json!(1)), "malformed_claim"),
        (with(id_claims(), "amr", json!("pwd")), "malformed_claim"),
        (with(id_claims(), "amr", json!(["pwd"])), "ok"),
        // Not among what OpenID Connect defines, so it is the profile's.
        (with(id_claims(), "roles", json!("admin")), "ok"),
    ] {
        assert_eq!(id_code(&claims), expected, "{claims}");
    }
}

#[test]
fn id_token_claims_keep_the_profile() {
    let claims = with(with(id_claims(), "email", json!("alice@example.com")), "email_verified", json!(true));
    let token = token(Algorithm::EdDSA, &without(header(Algorithm::EdDSA), "typ"), &claims);

    let verified =
        check::<IdTokenClaims>(&token, &key_set(), &id_policy(), Timestamp::from_unix(NOW)).expect("it holds");

    assert_eq!(verified.claims().nonce.as_deref(), Some("n"));
    assert_eq!(verified.claims().profile["email"], "alice@example.com");
    assert_eq!(serde_json::to_value(verified.claims()).expect("claims can be written"), claims);
}

#[test]
fn claims_that_do_not_fit_the_callers_type_are_refused() {
    #[derive(Debug, Deserialize)]
    struct Tenant {
        #[expect(dead_code, reason = "it is only read into")]
        tenant: String,
    }
    let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());

    let rejection =
        check::<Tenant>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW)).expect_err("there is no tenant");

    assert_eq!(rejection.code(), "unexpected_claims");
    assert!(rejection.to_string().contains("tenant"), "{rejection}");
}

proptest! {
    /// The verdict is the token's: what is accepted can be read into the type of its kind, and what is refused is refused
    /// to everybody.
    #[test]
    fn the_verdict_does_not_depend_on_the_type_that_is_read(
        claim in "iss|sub|aud|exp|iat|nbf|jti|client_id|scope|roles|sid|auth_time|acr|amr|nonce|azp|at_hash|name",
        value in r#"null|true|-?[0-9]{1,3}(\.5)?|179533[0-9]{4}|1e(3|9|400)|"[a-z]?(\\n)?"|\[("a"(,"b")?|1|"a",null)?\]|\{("a":1)?\}"#,
        is_missing in any::<bool>(),
        is_plain in any::<bool>(),
    ) {
        fn verdict<C: DeserializeOwned>(token: &str, policy: &Policy) -> Option<Rejection> {
            check::<C>(token, &key_set(), policy, Timestamp::from_unix(NOW)).err()
        }
        for (policy, good, typ) in [
            (policy(), claims(), "at+jwt"),
            (policy().insecure_any_issuer(), claims(), "at+jwt"),
            (id_policy(), id_claims(), "JWT"),
            (id_policy().insecure_any_issuer(), id_claims(), "JWT"),
        ] {
            let mut payload = without(good, &claim).to_string();
            payload.pop();
            if !is_missing {
                payload.push_str(&format!(",\"{claim}\":{value}"));
            }
            // What is not plain is read in another way.
            payload.push_str(if is_plain { "}" } else { ",\"x\":-0.5}" });
            let header = with(header(Algorithm::EdDSA), "typ", json!(typ));
            let token = raw_token(Algorithm::EdDSA, header.to_string().as_bytes(), payload.as_bytes());
            let of_any = verdict::<Map<String, Value>>(&token, &policy);
            let of_its_kind = match typ {
                "at+jwt" => verdict::<AccessTokenClaims>(&token, &policy),
                _ => verdict::<IdTokenClaims>(&token, &policy),
            };
            prop_assert_eq!(of_any, of_its_kind, "{}", payload);
        }
    }
}

#[test]
fn fractions_of_dates_fit_the_callers_type() {
    let claims = with(claims(), "exp", json!(NOW as f64 + 0.25));
    let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims);

    let verified = check::<AccessTokenClaims>(&token, &key_set(), &policy(), Timestamp::from_unix(NOW))
        .expect("a fraction is a number");

    assert_eq!(verified.claims().exp, verified.expires_at());
}

#[test]
fn a_signature_alone_says_nothing_about_the_payload() {
    let code_of = |token: &str| {
        check_signature(token, &key_set(), &[Algorithm::EdDSA])
            .map(|verified| verified.into_payload())
            .map_err(|r| r.code())
    };
    let head = br#"{"alg":"EdDSA","typ":"whatever"}"#;

    assert_eq!(code_of(&raw_token(Algorithm::EdDSA, head, b"\x00\xff")), Ok(b"\x00\xff".to_vec()));
    assert_eq!(code_of(&raw_token(Algorithm::EdDSA, head, b"")), Ok(Vec::new()));
    let long = "x".repeat(64 * 1024);
    assert_eq!(code_of(&raw_token(Algorithm::EdDSA, head, long.as_bytes())), Ok(long.into_bytes()));
    assert_eq!(code_of(&raw_token(Algorithm::ES256, br#"{"alg":"ES256"}"#, b"x")), Err("algorithm_not_allowed"));
    assert_eq!(code_of(&raw_token(Algorithm::ES256, head, b"x")), Err("bad_signature"));
    assert_eq!(
        code_of(&raw_token(Algorithm::EdDSA, br#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, b"x")),
        Err("critical_header")
    );
}

#[test]
fn decoding_without_verifying_shows_what_is_there() {
    let parts = decode_unverified(&raw_token(Algorithm::EdDSA, br#"{"alg":"none","crit":1}"#, b"\xff")).expect("shape");

    assert_eq!(parts.header_json, r#"{"alg":"none","crit":1}"#);
    assert_eq!(parts.payload, b"\xff");
    assert_eq!(decode_unverified("a.b").expect_err("two parts").code(), "wrong_part_count");
}

#[test]
fn what_a_rejection_repeats_is_escaped_and_cut() {
    let evil = format!("\u{1b}[31m\r\nSet-Cookie: a=b\u{202e}{}", "x".repeat(200));
    let es256 = header(Algorithm::ES256);
    let tokens = [
        token(Algorithm::ES256, &with(es256.clone(), "kid", json!(evil)), &claims()),
        token(Algorithm::ES256, &with(es256.clone(), "alg", json!(evil)), &claims()),
        token(Algorithm::ES256, &with(es256.clone(), "typ", json!(evil)), &claims()),
        token(Algorithm::ES256, &es256, &with(claims(), "iss", json!(evil))),
        token(Algorithm::ES256, &es256, &with(claims(), "aud", json!([evil]))),
        raw_token(Algorithm::ES256, format!("{{{0}:1,{0}:2}}", json!(evil)).as_bytes(), b"{}"),
    ];
    for token in tokens {
        let message = verdict_of(&token, &policy()).expect_err("it is evil").to_string();
        assert!(message.chars().all(|c| c.is_ascii() && !c.is_ascii_control()), "{message:?}");
        assert!(message.contains("[31m") && message.len() < 250, "{message:?}");
    }
}

#[test]
fn only_a_missing_key_is_worth_a_fetch() {
    let rejection = |header: Value| {
        check::<Value>(
            &token(Algorithm::ES256, &header, &claims()),
            &KeySet::default(),
            &policy(),
            Timestamp::from_unix(NOW),
        )
        .expect_err("there are no keys")
    };

    assert!(rejection(header(Algorithm::ES256)).is_missing_key());
    assert!(rejection(without(header(Algorithm::ES256), "kid")).is_missing_key());
    assert!(!rejection(with(header(Algorithm::ES256), "typ", json!("JWT"))).is_missing_key());
}

#[test]
fn messages_say_what_was_expected_and_what_was_found() {
    let message = |claims: Value| {
        verdict_of(token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims), &policy())
            .expect_err("refused")
            .to_string()
    };

    assert_eq!(
        message(with(claims(), "exp", json!(NOW - 60))),
        "expired at 2026-11-22T06:59:00Z, and it is 2026-11-22T07:00:00Z (leeway 30 s)"
    );
    assert_eq!(
        message(with(claims(), "iss", json!("https://other"))),
        r#"expected the issuer "https://id.example.com", found "https://other""#
    );
    assert_eq!(message(without(claims(), "client_id")), "expected the claim client_id, found none");
    assert_eq!(
        message(with(claims(), "roles", json!("admin"))),
        "expected the claim roles to be an array of strings, found a string"
    );
    assert_eq!(
        message(with(claims(), "aud", json!(5))),
        "expected the claim aud to be a string or a non-empty array of strings, found a number"
    );
}
