//! The signature: which algorithm, whose key, in what form (RFC 7518 §3, RFC 8725 §2.1 and §3.1).

use keywheel_jose::Algorithm;
use serde_json::json;

use super::signer::{
    Key, claims, encode, good, header, hmac, raw_token, signed, signing_input, token, with, with_text, without,
};
use super::table::{Case, Table};

pub(super) fn cases() -> Vec<Case> {
    let mut table = Table::new("algorithms");
    good_ones(&mut table);
    none(&mut table);
    public_keys_as_secrets(&mut table);
    names(&mut table);
    swaps(&mut table);
    ecdsa_forms(&mut table);
    numbers_out_of_range(&mut table);
    lengths(&mut table);
    table.into_cases()
}

fn good_ones(table: &mut Table) {
    table.section("RFC 7518 §3.1: what is on the allow-list");
    for algorithm in Algorithm::ALL {
        table.accept(algorithm, good(algorithm));
    }
    table.accept("Ed25519, the name of RFC 9864", alg_token(Algorithm::EdDSA, "Ed25519"));
}

fn none(table: &mut Table) {
    table.section("RFC 8725 §2.1: none");
    for bits in 0..16_u8 {
        let letter = |index: usize, letter: char| {
            if bits >> index & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
        };
        let name: String = "none".chars().enumerate().map(|(index, own)| letter(index, own)).collect();
        let input = unsigned(&name);
        table.refuse(format!("{name} without a signature"), format!("{input}."), "empty_part");
        table.refuse(format!("{name} with one"), alg_token(Algorithm::ES256, &name), "unsupported_algorithm");
    }
    let good = good(Algorithm::ES256);
    let payload = good.split('.').nth(1).expect("a payload");
    let head = encode(with(header(Algorithm::ES256), "alg", "none").to_string());
    table.refuse("a good payload and no signature", format!("{head}.{payload}."), "empty_part");
    table.refuse("no third part", format!("{head}.{payload}"), "wrong_part_count");
    table.refuse("a null octet for a signature", format!("{head}.{payload}.AA"), "unsupported_algorithm");
}

/// RFC 8725 §2.1: "an HMAC … using the RSA public key as the HMAC shared secret".
fn public_keys_as_secrets(table: &mut Table) {
    table.section("RFC 8725 §2.1: a public key as the secret of an HMAC");
    for algorithm in ["HS256", "HS384", "HS512"] {
        for key in Key::OURS {
            for (form, secret) in spellings(key) {
                let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": key.kid()}).to_string();
                let input = signing_input(header, claims().to_string());
                let token = signed(&input, |message| hmac(algorithm, &secret, message));
                table.refuse(format!("{algorithm}, {key:?} as {form}"), token, "unsupported_algorithm");
            }
        }
        let header = json!({"alg": algorithm, "typ": "at+jwt"}).to_string();
        let token = signed(&signing_input(header, claims().to_string()), |message| hmac(algorithm, b"", message));
        table.refuse(format!("{algorithm}, an empty secret and no kid"), token, "unsupported_algorithm");
    }
    // The algorithm's name is ours, the signature is the HMAC.
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        for (form, secret) in spellings(Key::of(algorithm)) {
            let input = signing_input(header(algorithm).to_string(), claims().to_string());
            let token = signed(&input, |message| hmac("HS256", &secret, message));
            table.refuse(format!("an HMAC called {algorithm}, the key as {form}"), token, "bad_signature");
        }
    }
}

/// Every text or octets that a careless reader could hold a public key as.
fn spellings(key: Key) -> Vec<(&'static str, Vec<u8>)> {
    let der = subject_public_key_info(key);
    let pem = pem("PUBLIC KEY", &der);
    let jwk = key.jwk();
    let raw = if key == Key::Rsa { key.number("n") } else { key.number("x") };
    let mut spellings = vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM without its last line break", pem.trim_end().as_bytes().to_vec()),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("DER", der),
        ("JWK", jwk.to_string().into_bytes()),
        ("its number", raw.clone()),
        ("its number in base64url", encode(raw).into_bytes()),
    ];
    if key == Key::Rsa {
        let der = rsa_public_key();
        spellings.push(("PKCS#1 PEM", pem_bytes("RSA PUBLIC KEY", &der)));
        spellings.push(("PKCS#1 DER", der));
    }
    spellings
}

fn names(table: &mut Table) {
    table.section("RFC 7515 §4.1.1: names are compared exactly");
    for name in [
        "",
        " ",
        "ES256 ",
        " ES256",
        "ES256\n",
        "ES256\0",
        "\0ES256",
        "es256",
        "Es256",
        "eS256",
        "ＥＳ256",
        "ES256K",
        "ES512",
        "ES-256",
        "ES256,RS256",
        "RS1",
        "RS256\0",
        "rs256",
        "RSASSA-PKCS1-v1_5",
        "RSA",
        "PS1",
        "ps256",
        "EDDSA",
        "eddsa",
        "Ed448",
        "ed25519",
        "ED25519",
        "HS1",
        "hs256",
        "HS256/64",
        "dir",
        "A128KW",
        "RSA-OAEP",
        "RSA1_5",
        "ECDH-ES",
        "ML-DSA-44",
        "ML-DSA-65",
        "ESP256",
        "null",
        "undefined",
        "true",
        "0",
        "*",
        "ES256;",
        "SHA256withECDSA",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    ] {
        let token = alg_token(Algorithm::ES256, name);
        table.refuse(format!("{:?}", name), token, "unsupported_algorithm");
    }
    let long = "E".repeat(8_000);
    table.refuse("eight thousand letters", alg_token(Algorithm::ES256, &long), "unsupported_algorithm");

    table.section("RFC 7515 §4.1.1: alg is a string");
    for value in [
        "null",
        "true",
        "false",
        "0",
        "256",
        "-1",
        "[]",
        r#"["ES256"]"#,
        r#"["none","ES256"]"#,
        "{}",
        r#"{"alg":"ES256"}"#,
    ] {
        let header = with_text(header(Algorithm::ES256), "alg", value);
        table.refuse(value, raw_token(Algorithm::ES256, header, claims().to_string()), "malformed_header");
    }
    let header = without(header(Algorithm::ES256), "alg");
    table.refuse("missing", token(Algorithm::ES256, &header, &claims()), "malformed_header");
    let header = with(with(header, "ALG", "ES256"), "Alg", "ES256");
    table.refuse("in other letters", token(Algorithm::ES256, &header, &claims()), "malformed_header");
}

fn swaps(table: &mut Table) {
    table.section("RFC 8725 §3.1: each key with one algorithm at a time");
    for said in Algorithm::ALL {
        for used in Algorithm::ALL.into_iter().filter(|used| *used != said) {
            let input = signing_input(header(said).to_string(), claims().to_string());
            let forged = signed(&input, |message| Key::of(used).sign(used, message));
            table.refuse(format!("says {said}, is {used}"), forged, "bad_signature");
        }
        for key in Key::OURS.into_iter().filter(|key| *key != Key::of(said)) {
            let token = token(said, &with(header(said), "kid", key.kid()), &claims());
            table.refuse(format!("{said} with the kid of {key:?}"), token, "unsuitable_key");
        }
    }
    for algorithm in Algorithm::ALL {
        let other = token(algorithm, &header(algorithm), &with(claims(), "sub", "mallory"));
        let (input, _) = good_parts(algorithm);
        let signature = other.rsplit('.').next().expect("a signature");
        table.refuse(
            format!("{algorithm}: another token's signature"),
            format!("{input}.{signature}"),
            "bad_signature",
        );
        let (_, signature) = good_parts(algorithm);
        let input = other.rsplit_once('.').expect("a signature").0;
        table.refuse(
            format!("{algorithm}: another payload"),
            format!("{input}.{}", encode(signature)),
            "bad_signature",
        );
    }
    let input = signing_input(header(Algorithm::ES256).to_string(), claims().to_string());
    let forged = signed(&input, |message| Key::Stranger.sign(Algorithm::ES256, message));
    table.refuse("our kid, a stranger's signature", forged, "bad_signature");
    let header = with(header(Algorithm::ES256), "kid", Key::Stranger.kid());
    let input = signing_input(header.to_string(), claims().to_string());
    let forged = signed(&input, |message| Key::Stranger.sign(Algorithm::ES256, message));
    table.refuse("a stranger's kid and signature", forged, "unknown_kid");
    for algorithm in Algorithm::ALL {
        let header = without(super::signer::header(algorithm), "kid");
        table.accept(format!("{algorithm} without a kid, and no choice"), token(algorithm, &header, &claims()));
    }
    let header = without(super::signer::header(Algorithm::ES256), "kid");
    let input = signing_input(header.to_string(), claims().to_string());
    let forged = signed(&input, |message| Key::Stranger.sign(Algorithm::ES256, message));
    table.refuse("no kid, a stranger's signature", forged, "bad_signature");
}

fn ecdsa_forms(table: &mut Table) {
    table.section("RFC 7518 §3.4: an ECDSA signature is R and S side by side");
    let input = signing_input(header(Algorithm::ES256).to_string(), claims().to_string());
    table.refuse("in DER", signed(&input, |message| Key::P256.sign_in_der(message)), "bad_signature");
    let (input, signature) = good_parts(Algorithm::ES256);
    let (r, s) = signature.split_at(32);
    let forms = [
        ("S before R", [s, r].concat()),
        ("R alone", r.to_vec()),
        ("S alone", s.to_vec()),
        ("R twice", [r, r].concat()),
        ("a null octet before each", [&[0], r, &[0], s].concat()),
        ("a null octet before R", [&[0], r, s].concat()),
        ("48 octets each", [&[0; 16], r, &[0; 16], s].concat()),
        ("66 octets each", [&[0; 34], r, &[0; 34], s].concat()),
        ("the lengths before each", [&[32], r, &[32], s].concat()),
        ("as hexadecimal", hexadecimal(&signature)),
        ("in base64url, once more", encode(&signature).into_bytes()),
        ("little-endian", r.iter().rev().chain(s.iter().rev()).copied().collect()),
    ];
    for (name, form) in forms {
        table.refuse(name, signed(&input, |_| form), "bad_signature");
    }
    let negated = [r, &minus(&P256_ORDER, s)].concat();
    table.accept("S and its negation are the same: JWS has no rule of low S", signed(&input, |_| negated));
}

fn numbers_out_of_range(table: &mut Table) {
    table.section("FIPS 186-5 §6.4.2: R and S lie between 1 and the order");
    for (algorithm, order) in [(Algorithm::ES256, &P256_ORDER[..]), (Algorithm::ES384, &P384_ORDER[..])] {
        let (input, signature) = good_parts(algorithm);
        let (r, s) = signature.split_at(order.len());
        let zero = vec![0; order.len()];
        let one = [&zero[1..], &[1]].concat();
        let most = vec![0xff; order.len()];
        let before = minus(order, &one);
        for (name, forged) in [
            ("R = S = 0", [&zero[..], &zero].concat()),
            ("R = 0", [&zero[..], s].concat()),
            ("S = 0", [r, &zero].concat()),
            ("R = n, S = 0", [order, &zero].concat()),
            ("R = n", [order, s].concat()),
            ("S = n", [r, order].concat()),
            ("R = S = n", [order, order].concat()),
            ("R = S = 1", [&one[..], &one].concat()),
            ("R = 1, S = 0", [&one[..], &zero].concat()),
            ("R = 0, S = 1", [&zero[..], &one].concat()),
            ("R = S = n - 1", [&before[..], &before].concat()),
            ("R = S = all ones", [&most[..], &most].concat()),
            ("R negated", [&minus(order, r)[..], s].concat()),
        ] {
            table.refuse(format!("{algorithm}: {name}"), signed(&input, |_| forged), "bad_signature");
        }
    }

    table.section("RFC 8032 §5.1.7: S is smaller than the order");
    let (input, signature) = good_parts(Algorithm::EdDSA);
    let (r, s) = signature.split_at(32);
    for (name, forged) in [
        ("S + L", [r, &plus_little_endian(s, &ED25519_ORDER)].concat()),
        ("S = L", [r, &ED25519_ORDER].concat()),
        ("S = 0", [r, &[0; 32]].concat()),
        ("R = 0", [&[0; 32], s].concat()),
        ("R is the neutral point, S = 0", [&[1], &[0; 63][..]].concat()),
        ("all ones", vec![0xff; 64]),
        ("the top bit of S", [&signature[..63], &[signature[63] | 0x80]].concat()),
        ("the sign of R", [&signature[..31], &[signature[31] ^ 0x80], s].concat()),
        ("S before R", [s, r].concat()),
    ] {
        table.refuse(format!("EdDSA: {name}"), signed(&input, |_| forged), "bad_signature");
    }

    table.section("RFC 8017 §8.2.2: the signature is smaller than the modulus");
    let modulus = Key::Rsa.number("n");
    for algorithm in [Algorithm::RS256, Algorithm::PS256] {
        let (input, signature) = good_parts(algorithm);
        let zero = vec![0; modulus.len()];
        let one = [&zero[1..], &[1]].concat();
        for (name, forged) in [
            ("0", zero.clone()),
            ("1", one.clone()),
            ("n", modulus.clone()),
            ("n - 1", minus(&modulus, &one)),
            ("all ones", vec![0xff; modulus.len()]),
            ("negated", minus(&modulus, &signature)),
        ] {
            table.refuse(format!("{algorithm}: {name}"), signed(&input, |_| forged), "bad_signature");
        }
        // The sum has to fit: one token in a few has such a signature.
        let (input, sum) = (0..64)
            .find_map(|number| {
                let claims = with(claims(), "number", number);
                let input = signing_input(header(algorithm).to_string(), claims.to_string());
                let signature = Key::Rsa.sign(algorithm, input.as_bytes());
                Some((input, plus(&signature, &modulus)?))
            })
            .expect("a signature that leaves room for the modulus");
        table.refuse(format!("{algorithm}: plus the modulus"), signed(&input, |_| sum), "bad_signature");
    }
}

fn lengths(table: &mut Table) {
    table.section("RFC 7518 §3.3 and §3.4, RFC 8037 §3.1: a signature has one length");
    for algorithm in Algorithm::ALL {
        let (input, signature) = good_parts(algorithm);
        let length = signature.len();
        table.refuse(format!("{algorithm}: empty"), format!("{input}."), "empty_part");
        let mut flipped = signature.clone();
        flipped[length / 2] ^= 1;
        for (name, forged) in [
            ("one octet less", signature[..length - 1].to_vec()),
            ("one octet less, at the front", signature[1..].to_vec()),
            ("one octet more", [&signature[..], &[0]].concat()),
            ("one octet more, at the front", [&[0], &signature[..]].concat()),
            ("twice", [&signature[..], &signature].concat()),
            ("half", signature[..length / 2].to_vec()),
            ("one octet", vec![0]),
            ("all zero", vec![0; length]),
            ("a bit is different", flipped),
        ] {
            table.refuse(format!("{algorithm}: {name}"), signed(&input, |_| forged), "bad_signature");
        }
    }
}

/// Signing input and signature of a good token.
fn good_parts(algorithm: Algorithm) -> (String, Vec<u8>) {
    let input = signing_input(header(algorithm).to_string(), claims().to_string());
    let signature = Key::of(algorithm).sign(algorithm, input.as_bytes());
    (input, signature)
}

/// A token that is signed by `algorithm` and says `name`.
fn alg_token(algorithm: Algorithm, name: &str) -> String {
    token(algorithm, &with(header(algorithm), "alg", name), &claims())
}

fn unsigned(alg: &str) -> String {
    signing_input(json!({"alg": alg, "typ": "at+jwt"}).to_string(), claims().to_string())
}

/// RFC 5280 §4.1.2.7, by the bytes that stand before each kind of key.
fn subject_public_key_info(key: Key) -> Vec<u8> {
    let point = || [&[4][..], &key.number("x"), &key.number("y")].concat();
    match key {
        Key::Rsa => {
            let prefix = [
                0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
                0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00,
            ];
            [&prefix[..], &rsa_public_key()].concat()
        }
        Key::P256 | Key::Stranger => {
            let prefix = [
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
                0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ];
            [&prefix[..], &point()].concat()
        }
        Key::P384 => {
            let prefix = [
                0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
                0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
            ];
            [&prefix[..], &point()].concat()
        }
        Key::Ed25519 => {
            [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &key.number("x")].concat()
        }
    }
}

/// RFC 8017 §A.1.1, for a modulus of 256 octets with its top bit set and the exponent 65537.
fn rsa_public_key() -> Vec<u8> {
    let modulus = Key::Rsa.number("n");
    [&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00][..], &modulus, &[0x02, 0x03, 0x01, 0x00, 0x01]].concat()
}

fn pem_bytes(label: &str, der: &[u8]) -> Vec<u8> {
    pem(label, der).into_bytes()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn hexadecimal(octets: &[u8]) -> Vec<u8> {
    octets.iter().flat_map(|octet| format!("{octet:02x}").into_bytes()).collect()
}

/// `a - b` of big-endian numbers of one length, where `a` is not smaller.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut difference = vec![0; a.len()];
    for index in (0..a.len()).rev() {
        let octet = i16::from(a[index]) - i16::from(b[index]) - borrow;
        borrow = i16::from(octet < 0);
        difference[index] = octet.rem_euclid(256) as u8;
    }
    assert_eq!(borrow, 0, "the second number is greater");
    difference
}

/// `a + b` of big-endian numbers of one length, where the sum has that length too.
fn plus(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0;
    let mut sum = vec![0; a.len()];
    for index in (0..a.len()).rev() {
        let octet = u16::from(a[index]) + u16::from(b[index]) + carry;
        carry = octet >> 8;
        sum[index] = octet as u8;
    }
    (carry == 0).then_some(sum)
}

fn plus_little_endian(a: &[u8], b: &[u8]) -> Vec<u8> {
    let reversed = |octets: &[u8]| octets.iter().rev().copied().collect::<Vec<_>>();
    reversed(&plus(&reversed(a), &reversed(b)).expect("both are below 2^253"))
}

/// The orders of the groups: SEC 2 §2.4.2 and §2.5.1, RFC 8032 §5.1 (little-endian).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10,
];
