//! Nothing that comes from outside panics, and nothing that was changed still holds.

use keywheel_jose::{
    Algorithm, KeySet, Policy, PublicJwk, Timestamp, UnverifiedJwt, check, check_signature, decode_unverified,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rejections::{AUDIENCE, ISSUER, NOW, claims, with};
use crate::signing::{decode, header, key_set, public_key, raw_token, token};

fn holds(token: &str, keys: &KeySet) -> bool {
    check::<Value>(token, keys, &Policy::access_token(ISSUER, AUDIENCE), Timestamp::from_unix(NOW)).is_ok()
}

/// Everything that reads a token, for its panics.
fn read_every_way(token: &str, keys: &KeySet) {
    let _ = holds(token, keys);
    let _ = check_signature(token, keys, &Algorithm::ALL);
    let _ = decode_unverified(token);
    if let Ok(jwt) = UnverifiedJwt::parse(token, 4096) {
        let _ = jwt.plausible(&Policy::any(ISSUER, AUDIENCE), Timestamp::from_unix(NOW));
    }
}

#[test]
fn a_flipped_bit_anywhere_refuses_the_token() {
    let keys = key_set();
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        let good = token(algorithm, &header(algorithm), &claims());
        assert!(holds(&good, &keys));
        for index in 0..good.len() {
            // The eighth bit would make it no string.
            for bit in 0..7 {
                let mut flipped = good.clone().into_bytes();
                flipped[index] ^= 1 << bit;
                let flipped = String::from_utf8(flipped).expect("ASCII stays ASCII");
                assert!(!holds(&flipped, &keys), "{algorithm}: bit {bit} of byte {index}");
            }
        }
    }
}

#[test]
fn a_token_cut_anywhere_is_refused() {
    let (keys, good) = (key_set(), token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims()));
    for end in 0..good.len() {
        assert!(!holds(&good[..end], &keys), "{end}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        "[a-z]{1,3}",
        prop::sample::select(vec![
            "alg", "kid", "typ", "kty", "crv", "n", "e", "x", "y", "d", "k", "use", "key_ops", "iss", "aud", "exp",
            "nbf", "iat", "crit", "cnf", "keys",
        ])
        .prop_map(String::from),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A good key, one member of which was replaced or removed.
fn nearly_a_key() -> impl Strategy<Value = Value> {
    let member = prop::sample::select(vec!["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops", "d"]);
    (prop::sample::select(Algorithm::ALL.to_vec()), member, json_value(), any::<bool>()).prop_map(
        |(algorithm, member, value, replace)| {
            let key = public_key(algorithm).with_kid("near").expect("short");
            let mut key = serde_json::to_value(key).expect("a key can be written");
            match replace {
                true => key = with(key, member, value),
                false => drop(key.as_object_mut().expect("a key is an object").remove(member)),
            }
            key
        },
    )
}

fn any_key() -> impl Strategy<Value = PublicJwk> {
    let rsa = prop::collection::vec(any::<u8>(), 256..600).prop_map(|mut n| {
        n[0] |= 0x80;
        *n.last_mut().expect("it is not empty") |= 1;
        PublicJwk::rsa(&n, &[1, 0, 1]).expect("an odd number of 2048 bits or more")
    });
    let ed25519 = any::<[u8; 32]>().prop_filter_map("not a point", |x| PublicJwk::ed25519(&x).ok());
    let curve = prop::sample::select(vec![Algorithm::ES256, Algorithm::ES384]).prop_map(public_key);
    (prop_oneof![rsa, ed25519, curve], prop::option::of("\\PC{0,60}"), any::<prop::sample::Index>()).prop_map(
        |(key, kid, algorithm)| {
            let key = match kid {
                Some(kid) => key.with_kid(kid).expect("at most 240 bytes"),
                None => key,
            };
            let algorithm = algorithm.get(&Algorithm::ALL);
            key.clone().with_alg(*algorithm).unwrap_or(key)
        },
    )
}

proptest! {
    #[test]
    fn any_string_is_refused(text in any::<String>()) {
        let keys = key_set();
        read_every_way(&text, &keys);
        prop_assert!(!holds(&text, &keys));
    }

    #[test]
    fn any_three_parts_are_refused(text in "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}") {
        let keys = key_set();
        read_every_way(&text, &keys);
        prop_assert!(!holds(&text, &keys));
    }

    #[test]
    fn a_spliced_token_is_refused(at in any::<prop::sample::Index>(), cut in 0..40_usize, splice in "\\PC{0,12}") {
        let keys = key_set();
        let good = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims());
        let start = at.index(good.len());
        let end = (start + cut).min(good.len());
        let spliced = format!("{}{splice}{}", &good[..start], &good[end..]);
        read_every_way(&spliced, &keys);
        prop_assert!(spliced == good || !holds(&spliced, &keys));
    }

    #[test]
    fn signed_nonsense_never_panics(header in json_value(), payload in json_value()) {
        let token = raw_token(Algorithm::EdDSA, header.to_string().as_bytes(), payload.to_string().as_bytes());
        read_every_way(&token, &key_set());
    }

    #[test]
    fn signed_claims_with_one_wild_member_never_panic(claim in "iss|aud|exp|nbf|iat|sub|azp|x", value in json_value()) {
        let token = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), &claim, value.clone()));
        read_every_way(&token, &key_set());
        // An unknown claim is nobody's business, unless it is too long.
        prop_assert!(claim != "x" || token.len() > 4096 || holds(&token, &key_set()));
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic_for_a_key_set(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = KeySet::parse(&bytes);
        let _ = KeySet::parse_one_or_set(&bytes);
    }

    #[test]
    fn what_is_written_is_read_again(key in any_key()) {
        let json = serde_json::to_value(&key).expect("a key can be written");
        let read = PublicJwk::from_json(&json);
        prop_assert_eq!(read.as_ref(), Ok(&key));

        let set = KeySet::parse(json!({"keys": [json]}).to_string().as_bytes()).expect("it is a key set");
        prop_assert_eq!(set.keys(), std::slice::from_ref(&key));
        prop_assert!(KeySet::from_keys([key]).refused().is_empty());
    }

    #[test]
    fn junk_never_costs_a_good_key(
        junk in prop::collection::vec(prop_oneof![json_value(), nearly_a_key()], 0..12),
        at in any::<prop::sample::Index>(),
    ) {
        let good = public_key(Algorithm::EdDSA);
        let mut entries = junk;
        entries.insert(at.index(entries.len() + 1), serde_json::to_value(&good).expect("a key can be written"));

        let keys = KeySet::parse(json!({"keys": entries}).to_string().as_bytes()).expect("it is a key set");

        prop_assert!(keys.contains_kid(&good.thumbprint()));
        prop_assert!(holds(&token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims()), &keys));
    }

    #[test]
    fn a_key_with_anything_private_is_never_kept(key in nearly_a_key(), value in json_value()) {
        let set = json!({"keys": [with(key, "d", value)]}).to_string();
        let keys = KeySet::parse(set.as_bytes()).expect("it is a key set");
        prop_assert!(keys.is_empty() && keys.refused()[0].is_alarming());
    }

    #[test]
    fn thumbprints_do_not_depend_on_names(key in any_key()) {
        let thumbprint = key.thumbprint();
        prop_assert_eq!(decode(&thumbprint).len(), 32);
        prop_assert_eq!(key.with_thumbprint_kid().thumbprint(), thumbprint);
    }
}
