//! Which keys are read, which are refused, and which one a token is checked with.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use keywheel_jose::{
    AccessTokenClaims, Algorithm, JwkError, KeySet, KeySetError, KeyType, Policy, PublicJwk, Timestamp, check,
};
use serde_json::{Value, json};

use crate::rejections::{AUDIENCE, ISSUER, NOW, claims, with, without};
use crate::signing::{ED25519_X, P256_X, P256_Y, P384_X, P384_Y, RSA_N, decode, encode, header, public_key, token};

/// The points of order 8, but for their sign.
const ORDER_8_X: &str = "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU";
const OTHER_ORDER_8_X: &str = "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o";

fn rsa() -> Value {
    json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"})
}

fn p256() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y})
}

fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X})
}

fn parse(keys: Value) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).expect("it is a key set")
}

/// The verdict over a good token of that algorithm and that `kid`.
fn verdict(keys: &KeySet, algorithm: Algorithm, kid: Option<&str>) -> Result<(), &'static str> {
    let header = match kid {
        Some(kid) => with(header(algorithm), "kid", json!(kid)),
        None => without(header(algorithm), "kid"),
    };
    check::<AccessTokenClaims>(
        &token(algorithm, &header, &claims()),
        keys,
        &Policy::access_token(ISSUER, AUDIENCE),
        Timestamp::from_unix(NOW),
    )
    .map(|_| ())
    .map_err(|rejection| rejection.code())
}

#[test]
fn keys_are_written_in_a_fixed_order_without_anything_else() {
    let written = |key: PublicJwk| serde_json::to_string(&key).expect("a key can be written");
    let p384 = PublicJwk::p384(&decode(P384_X), &decode(P384_Y)).expect("RFC 6979 prints a good key");

    assert_eq!(
        written(public_key(Algorithm::ES256).with_kid("k1").expect("short").with_alg(Algorithm::ES256).expect("fits")),
        format!(r#"{{"kty":"EC","kid":"k1","use":"sig","alg":"ES256","crv":"P-256","x":"{P256_X}","y":"{P256_Y}"}}"#)
    );
    assert_eq!(written(p384), format!(r#"{{"kty":"EC","use":"sig","crv":"P-384","x":"{P384_X}","y":"{P384_Y}"}}"#));
    assert_eq!(
        written(PublicJwk::from_json(&rsa()).expect("good key")),
        format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB"}}"#)
    );
    assert_eq!(
        serde_json::to_string(&KeySet::from_keys([PublicJwk::from_json(&ed25519()).expect("good key")])).ok(),
        Some(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{ED25519_X}"}}]}}"#))
    );
}

#[test]
fn private_members_refuse_the_key_whatever_they_hold() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        for key in [rsa(), p256(), ed25519(), json!({"kty": "AKP"}), json!({})] {
            for value in [json!("AQAB"), json!(null), json!(""), json!([{}])] {
                let refusal = PublicJwk::from_json(&with(key.clone(), member, value)).expect_err("it is private");
                assert_eq!(refusal, JwkError::PrivateMember(member));
                assert!(refusal.is_alarming());
            }
        }
    }
    assert_eq!(PublicJwk::from_json(&json!({"kty": "oct"})), Err(JwkError::SymmetricKey));
}

#[test]
fn keys_for_someone_else_are_refused_quietly() {
    for key in [
        json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"}),
        with(p256(), "crv", json!("P-521")),
        with(p256(), "crv", json!("secp256k1")),
        with(ed25519(), "crv", json!("X25519")),
        with(ed25519(), "crv", json!("Ed448")),
        with(rsa(), "alg", json!("RSA-OAEP-256")),
        with(rsa(), "alg", json!("HS256")),
        with(rsa(), "use", json!("enc")),
        with(rsa(), "key_ops", json!(["encrypt"])),
        with(rsa(), "key_ops", json!([])),
    ] {
        let refusal = PublicJwk::from_json(&key).expect_err("it is not for us");
        assert!(refusal.is_unsupported() && !refusal.is_alarming(), "{key}: {refusal}");
    }
}

#[test]
fn malformed_keys_are_refused() {
    let off_curve = encode(&{
        let mut y = decode(P256_Y);
        y[31] ^= 1;
        y
    });
    let modulus = |bits: usize| {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        json!(encode(&n))
    };
    for (key, part_of_message) in [
        (json!([]), "an array"),
        (json!("x"), "a string"),
        (json!({}), "no kty"),
        (with(rsa(), "kty", json!(1)), "a number"),
        (without(rsa(), "n"), "no n"),
        (without(rsa(), "e"), "no e"),
        (without(p256(), "y"), "no y"),
        (without(p256(), "crv"), "no crv"),
        (with(rsa(), "n", json!([1])), "an array"),
        (with(rsa(), "n", json!("")), "0 bits"),
        (with(rsa(), "n", modulus(1024)), "1024 bits"),
        (with(rsa(), "n", modulus(2047)), "2047 bits"),
        (with(rsa(), "n", modulus(8193)), "8193 bits"),
        (with(rsa(), "n", json!(encode(&[&[0], &decode(RSA_N)[..]].concat()))), "leading zero"),
        (with(rsa(), "n", json!(format!("{RSA_N}=="))), "base64url"),
        (with(rsa(), "n", json!(RSA_N.replace('_', "/"))), "base64url"),
        (with(rsa(), "n", json!(format!(" {RSA_N}"))), "base64url"),
        // The last letter has two bits too many; here they are not zero.
        (with(ed25519(), "x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp")), "base64url"),
        (with(rsa(), "e", json!("")), "exponent"),
        (with(rsa(), "e", json!("AQ")), "exponent"),
        (with(rsa(), "e", json!("Ag")), "exponent"),
        (with(rsa(), "e", json!("AAEAAQ")), "leading zero"),
        (with(rsa(), "e", json!(encode(&[3, 0, 0, 0, 1]))), "exponent"),
        (with(rsa(), "e", json!(encode(&[255; 9]))), "exponent"),
        (with(p256(), "x", json!(encode(&decode(P256_X)[1..]))), "31 bytes"),
        (with(p256(), "x", json!(encode(&[&[0], &decode(P256_X)[..]].concat()))), "33 bytes"),
        (with(p256(), "y", json!(off_curve)), "curve"),
        (with(p256(), "x", json!(encode(&[0xff; 32]))), "curve"),
        (json!({"kty": "EC", "crv": "P-256", "x": encode(&[0; 32]), "y": encode(&[0; 32])}), "curve"),
        (with(p256(), "crv", json!("P-384")), "48 bytes"),
        (with(ed25519(), "x", json!(encode(&[1; 33]))), "33 bytes"),
        (with(p256(), "alg", json!("ES384")), "alg ES384"),
        (with(p256(), "alg", json!("RS256")), "alg RS256"),
        (with(rsa(), "alg", json!(null)), "null"),
        (with(rsa(), "use", json!(["sig"])), "an array"),
        (with(rsa(), "key_ops", json!("verify")), "a string"),
        (with(rsa(), "key_ops", json!(["verify", 1])), "a number"),
        (with(rsa(), "kid", json!(7)), "a number"),
        (with(rsa(), "kid", json!("x".repeat(257))), "257 bytes"),
    ] {
        let refusal = PublicJwk::from_json(&key).expect_err("it is malformed");
        assert!(refusal.to_string().contains(part_of_message), "{key}: {refusal}");
        assert!(!refusal.is_alarming() && !refusal.is_unsupported(), "{key}: {refusal}");
    }
}

#[test]
fn constructors_check_as_the_reader_does() {
    assert_eq!(PublicJwk::rsa(&decode(RSA_N)[1..], &[3]), Err(JwkError::Modulus { found_bits: 2040 }));
    assert_eq!(PublicJwk::rsa(&decode(RSA_N), &[2]), Err(JwkError::Exponent));
    assert_eq!(PublicJwk::p256(&[1; 32], &[1; 32]), Err(JwkError::NotAKey));
    assert!(PublicJwk::p384(&[1; 47], &[1; 48]).is_err());
    assert!(PublicJwk::ed25519(&[1; 31]).is_err());
    assert_eq!(
        public_key(Algorithm::ES256).with_alg(Algorithm::RS256),
        Err(JwkError::AlgorithmMismatch { key_type: KeyType::P256, algorithm: Algorithm::RS256 })
    );
    assert_eq!(public_key(Algorithm::ES256).with_kid("x".repeat(257)), Err(JwkError::KidTooLong { found_bytes: 257 }));
}

#[test]
fn ed25519_points_of_small_order_are_refused() {
    // With such a key, the neutral R and S = 0 sign one message in eight at least, and no private key is needed.
    let forged = [&[1], &[0; 63][..]].concat();
    let minus_one = [&[0xec], &[0xff; 30][..], &[0x7f]].concat();
    for point in [vec![0; 32], [&[1], &[0; 31][..]].concat(), minus_one, decode(ORDER_8_X), decode(OTHER_ORDER_8_X)] {
        let key = UnparsedPublicKey::new(&ED25519, &point);
        assert!((0..200_u8).any(|message| key.verify(&[message], &forged).is_ok()), "the danger is real: {point:?}");
        for sign in [0, 0x80] {
            let mut point = point.clone();
            point[31] |= sign;
            assert_eq!(PublicJwk::ed25519(&point), Err(JwkError::SmallOrder));
        }
    }
}

#[test]
fn rsa_of_2048_to_8192_bits_and_the_smallest_exponent_are_read() {
    for bits in [2048, 2049, 3072, 4096, 8192_usize] {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        assert!(PublicJwk::rsa(&n, &[3]).is_ok(), "{bits}");
    }
}

#[test]
fn one_bad_entry_never_spoils_the_set() {
    let bad = [
        json!(null),
        json!("key"),
        json!({}),
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA"}),
        with(rsa(), "d", json!("AQAB")),
        json!({"kty": "oct", "k": "AQAB", "kid": "secret\u{1b}[31m"}),
        json!({"kty": "EC", "kid": 5}),
        with(p256(), "y", json!("AA")),
    ];
    let mut entries: Vec<Value> = bad.to_vec();
    entries.insert(3, with(p256(), "kid", json!("good")));

    let keys = parse(json!(entries));

    assert_eq!(keys.len(), 1);
    assert!(keys.contains_kid("good"));
    let indexes: Vec<_> = keys.refused().iter().map(|refused| refused.index).collect();
    assert_eq!(indexes, [0, 1, 2, 4, 5, 6, 7, 8]);
    let alarming: Vec<_> = keys.refused().iter().filter(|key| key.is_alarming()).map(|key| key.index).collect();
    assert_eq!(alarming, [5, 6]);
    assert_eq!(keys.refused()[3].kid.as_deref(), Some(r#""pq""#));
    assert_eq!(keys.refused()[5].kid.as_deref(), Some(r#""secret\u{1b}[31m""#));
    assert_eq!(verdict(&keys, Algorithm::ES256, Some("good")), Ok(()));
}

#[test]
fn repeated_members_refuse_the_entry_they_are_in() {
    let set = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{P256_X}","x":"{P256_X}","y":"{P256_Y}"}},
                     {{"kty":"EC","crv":"P-256","x":"{P256_X}","y":"{P256_Y}","kid":"good"}},
                     {{"kty":"RSA","n":"{RSA_N}","e":"AQAB","x":{{"a":1,"a":1}}}}]}}"#
    );

    let keys = KeySet::parse(set.as_bytes()).expect("it is a key set");

    assert_eq!(keys.len(), 1);
    assert!(keys.refused().iter().all(|refused| matches!(refused.reason, JwkError::RepeatedMember(_))));
}

#[test]
fn documents_that_are_no_key_set_are_refused() {
    for text in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]} x"#, "\u{feff}{}"]
    {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        assert!(KeySet::parse_one_or_set(text.as_bytes()).is_err(), "{text}");
    }
    assert!(matches!(KeySet::parse(b"{\"keys\":[\"\xff\"]}"), Err(KeySetError::NotJson(_))));
    assert!(matches!(KeySet::parse("[".repeat(100_000).as_bytes()), Err(KeySetError::NotJson(_))));
    let many = json!({"keys": vec![json!({}); 257]}).to_string();
    assert!(matches!(KeySet::parse(many.as_bytes()), Err(KeySetError::TooManyKeys { found: 257 })));
    let long = format!(r#"{{"keys":[]{}}}"#, " ".repeat(KeySet::MAX_BYTES));
    assert!(matches!(KeySet::parse(long.as_bytes()), Err(KeySetError::TooLarge { .. })));
}

#[test]
fn a_single_key_is_read_only_where_a_person_gives_it() {
    let key = with(p256(), "kid", json!("one")).to_string();

    assert!(matches!(KeySet::parse(key.as_bytes()), Err(KeySetError::NotAKeySet)));
    assert!(KeySet::parse_one_or_set(key.as_bytes()).expect("it is a key").contains_kid("one"));
    let private = with(p256(), "d", json!("AA")).to_string();
    let refused = KeySet::parse_one_or_set(private.as_bytes()).expect("it is a key, if a bad one");
    assert!(refused.is_empty() && refused.refused()[0].is_alarming());
}

#[test]
fn every_algorithm_verifies_with_its_key() {
    let keys = crate::signing::key_set();
    for algorithm in Algorithm::ALL {
        assert_eq!(verdict(&keys, algorithm, public_key(algorithm).kid()), Ok(()), "{algorithm}");
    }
}

#[test]
fn a_key_verifies_only_the_algorithm_it_names() {
    let keys = parse(json!([
        with(with(rsa(), "alg", json!("PS256")), "kid", json!("r")),
        with(with(ed25519(), "alg", json!("Ed25519")), "kid", json!("e")),
    ]));

    assert_eq!(verdict(&keys, Algorithm::PS256, Some("r")), Ok(()));
    assert_eq!(verdict(&keys, Algorithm::RS256, Some("r")), Err("unsuitable_key"));
    assert_eq!(verdict(&keys, Algorithm::PS384, Some("r")), Err("unsuitable_key"));
    assert_eq!(verdict(&keys, Algorithm::ES256, Some("r")), Err("unsuitable_key"));
    assert_eq!(verdict(&keys, Algorithm::EdDSA, Some("e")), Ok(()));
}

#[test]
fn use_sig_and_key_ops_verify_are_honoured() {
    let key = with(with(p256(), "use", json!("sig")), "key_ops", json!(["sign", "verify"]));

    assert_eq!(verdict(&parse(json!([with(key, "kid", json!("k"))])), Algorithm::ES256, Some("k")), Ok(()));
}

#[test]
fn a_kid_names_exactly_its_key() {
    let keys = parse(json!([with(p256(), "kid", json!("a")), rsa()]));

    assert_eq!(verdict(&keys, Algorithm::ES256, Some("a")), Ok(()));
    assert_eq!(verdict(&keys, Algorithm::ES256, Some("A")), Err("unknown_kid"));
    assert_eq!(verdict(&keys, Algorithm::ES256, Some("")), Err("unknown_kid"));
    // A key without an id is never the one that an id names.
    assert_eq!(verdict(&keys, Algorithm::RS256, Some("r")), Err("unknown_kid"));
}

#[test]
fn without_a_kid_there_has_to_be_one_candidate() {
    let other_p256 = json!({"kty": "EC", "crv": "P-256", "kid": "other",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});

    assert_eq!(verdict(&parse(json!([p256(), rsa()])), Algorithm::ES256, None), Ok(()));
    assert_eq!(verdict(&parse(json!([with(p256(), "kid", json!("a"))])), Algorithm::ES256, None), Ok(()));
    assert_eq!(verdict(&parse(json!([p256(), other_p256])), Algorithm::ES256, None), Err("ambiguous_key"));
    assert_eq!(verdict(&parse(json!([rsa()])), Algorithm::ES256, None), Err("no_key"));
    assert_eq!(verdict(&KeySet::default(), Algorithm::ES256, None), Err("no_key"));
}

#[test]
fn keys_that_share_a_kid_are_told_apart_by_algorithm_or_not_at_all() {
    let same = |key: Value| with(key, "kid", json!("same"));
    let other_p256 = json!({"kty": "EC", "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});

    let by_algorithm = parse(json!([same(p256()), same(rsa())]));
    assert_eq!(verdict(&by_algorithm, Algorithm::ES256, Some("same")), Ok(()));
    assert_eq!(verdict(&by_algorithm, Algorithm::RS256, Some("same")), Ok(()));
    assert_eq!(verdict(&by_algorithm, Algorithm::EdDSA, Some("same")), Err("unsuitable_key"));

    let ambiguous = parse(json!([same(p256()), same(other_p256)]));
    assert_eq!(verdict(&ambiguous, Algorithm::ES256, Some("same")), Err("ambiguous_key"));

    // The same key twice is no ambiguity, once or with different algorithms.
    let twice = parse(json!([same(p256()), same(p256()), same(with(p256(), "alg", json!("ES256")))]));
    assert_eq!(twice.len(), 2);
    assert_eq!(verdict(&twice, Algorithm::ES256, Some("same")), Ok(()));
}
