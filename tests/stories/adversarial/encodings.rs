//! The letters and dots: a token has one spelling (RFC 7515 §2, §3.1 and §7, RFC 4648 §3.5).

use keywheel_jose::Algorithm;
use serde_json::json;

use super::signer::{Key, claims, encode, good, header, signed, signing_input, token, with};
use super::table::{Case, Table};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn cases() -> Vec<Case> {
    let mut table = Table::new("encodings");
    parts(&mut table);
    other_serializations(&mut table);
    strange_letters(&mut table);
    unused_bits(&mut table);
    sizes(&mut table);
    table.into_cases()
}

fn parts(table: &mut Table) {
    table.section("RFC 7515 §7.1: three parts");
    let good = good(Algorithm::EdDSA);
    let [head, payload, signature] = split(&good);
    for (name, token, code) in [
        ("none", String::new(), "wrong_part_count"),
        ("one", head.to_owned(), "wrong_part_count"),
        ("a dot", ".".into(), "wrong_part_count"),
        ("two", format!("{head}.{payload}"), "wrong_part_count"),
        ("four", format!("{good}.{signature}"), "wrong_part_count"),
        ("four, the last empty", format!("{good}."), "wrong_part_count"),
        ("four, the first empty", format!(".{good}"), "wrong_part_count"),
        ("five", format!("{good}.{payload}.{signature}"), "encrypted_token"),
        ("five, two empty", format!("{good}.."), "encrypted_token"),
        ("five, two empty before", format!("..{good}"), "encrypted_token"),
        ("five empty", "....".into(), "encrypted_token"),
        ("six", format!("{good}.{good}"), "wrong_part_count"),
        ("six empty", ".....".into(), "wrong_part_count"),
        ("three empty", "..".into(), "empty_part"),
        ("an empty header", format!(".{payload}.{signature}"), "empty_part"),
        ("an empty payload", format!("{head}..{signature}"), "empty_part"),
        ("an empty signature", format!("{head}.{payload}."), "empty_part"),
        ("only a header", format!("{head}.."), "empty_part"),
        ("only a payload", format!(".{payload}."), "empty_part"),
        ("only a signature", format!("..{signature}"), "empty_part"),
        ("header and payload swapped", format!("{payload}.{head}.{signature}"), "malformed_header"),
        ("two dots for one", good.replacen('.', "..", 1), "wrong_part_count"),
        ("a comma for a dot", good.replacen('.', ",", 1), "wrong_part_count"),
        ("full-width dots", good.replace('.', "\u{ff0e}"), "wrong_part_count"),
        ("ideographic dots", good.replace('.', "\u{3002}"), "wrong_part_count"),
        ("one dot leaders", good.replace('.', "\u{2024}"), "wrong_part_count"),
        ("the dots as %2E", good.replace('.', "%2E"), "wrong_part_count"),
        ("sixteen thousand dots", ".".repeat(16_000), "wrong_part_count"),
        ("a million dots", ".".repeat(1_000_000), "token_too_large"),
    ] {
        table.refuse(name, token, code);
    }
    let empty = signed(&signing_input(header(Algorithm::EdDSA).to_string(), ""), |message| {
        Key::Ed25519.sign(Algorithm::EdDSA, message)
    });
    table.refuse("an empty payload, signed", empty, "empty_part");
    let detached = format!("{head}..{signature}");
    table.refuse("a detached payload (RFC 7515 appendix F)", detached, "empty_part");
}

fn other_serializations(table: &mut Table) {
    table.section("RFC 7519 §1: the compact serialization only");
    let good = good(Algorithm::EdDSA);
    let [head, payload, signature] = split(&good);
    let flattened = json!({"protected": head, "payload": payload, "signature": signature});
    let general = json!({"payload": payload, "signatures": [{"protected": head, "signature": signature}]});
    let unprotected = json!({"payload": payload, "header": {"alg": "none"}, "signature": ""});
    for (name, text) in [
        ("flattened", flattened.to_string()),
        ("flattened and pretty", format!("{flattened:#}")),
        ("flattened, after white space", format!(" \t\r\n{flattened}")),
        ("general", general.to_string()),
        ("with an unprotected header", unprotected.to_string()),
        ("an empty object", "{}".into()),
        ("a brace", "{".into()),
        ("a brace and a good token", format!("{{{good}")),
    ] {
        table.refuse(name, text, "json_serialization");
    }
    table.refuse("an array of it", format!("[{flattened}]"), "wrong_part_count");
    table.refuse("a text of it", format!("\"{good}\""), "not_base64url");
    table.refuse("in angle brackets", format!("<{good}>"), "not_base64url");

    table.section("RFC 7516 §7.1: five parts are an encrypted token");
    for (alg, enc) in
        [("RSA-OAEP", "A256GCM"), ("dir", "A128CBC-HS256"), ("ECDH-ES", "A128GCM"), ("PBES2-HS256+A128KW", "A128GCM")]
    {
        let head = encode(json!({"alg": alg, "enc": enc, "p2c": 2_000_000_000, "zip": "DEF"}).to_string());
        let token = format!("{head}.{}.{}.{}.{}", encode([1; 32]), encode([2; 12]), encode(&good), encode([3; 16]));
        table.refuse(format!("{alg} with {enc}"), token, "encrypted_token");
    }
}

fn strange_letters(table: &mut Table) {
    table.section("RFC 7515 §2: no padding, no white space, no other letters");
    let good = good(Algorithm::EdDSA);
    let [head, payload, signature] = split(&good);
    for (name, pad) in [
        ("=", "="),
        ("==", "=="),
        ("===", "==="),
        ("====", "===="),
        ("%3D", "%3D"),
        ("a blank", " "),
        ("a tab", "\t"),
        ("a line feed", "\n"),
        ("CRLF", "\r\n"),
        ("a null octet", "\0"),
        ("a no-break space", "\u{a0}"),
        ("a zero-width space", "\u{200b}"),
        ("a byte order mark", "\u{feff}"),
        ("a line separator", "\u{2028}"),
        ("a slash", "/"),
        ("a plus", "+"),
        ("a quote", "\""),
        ("a tilde", "~"),
        ("a comma", ","),
        ("a semicolon", ";"),
        ("an ampersand", "&"),
        ("é", "\u{e9}"),
        ("a full-width A", "\u{ff21}"),
        ("a delete", "\u{7f}"),
        ("a replacement character", "\u{fffd}"),
        ("a four-octet letter", "\u{10ffff}"),
    ] {
        let places = [
            ("before the header", format!("{pad}{good}")),
            ("in the header", format!("{}{pad}{}.{payload}.{signature}", &head[..5], &head[5..])),
            ("behind the header", format!("{head}{pad}.{payload}.{signature}")),
            ("before the payload", format!("{head}.{pad}{payload}.{signature}")),
            ("behind the payload", format!("{head}.{payload}{pad}.{signature}")),
            ("before the signature", format!("{head}.{payload}.{pad}{signature}")),
            ("in the signature", format!("{head}.{payload}.{}{pad}{}", &signature[..9], &signature[9..])),
            ("behind the signature", format!("{good}{pad}")),
        ];
        for (place, token) in places {
            table.refuse(format!("{name} {place}"), token, "not_base64url");
        }
    }
    // Letters of the other alphabet where ours stand: a payload whose text has both.
    let claims = with(claims(), "text", "\u{3ff}\u{3fe}>>>???~~~");
    let good = token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &claims);
    assert!(good.contains('-') || good.contains('_'), "a token without the letters that tell the alphabets apart");
    table.accept("both alphabets differ in this one", good.as_str());
    table.refuse("the standard alphabet", good.replace('-', "+").replace('_', "/"), "not_base64url");
    let [head, payload, signature] = split(&good);
    let parts = [head, payload, signature];
    for (index, name) in ["header", "payload", "signature"].into_iter().enumerate() {
        let mut longer = parts.map(str::to_owned);
        longer[index].push_str(&"A".repeat((5 - longer[index].len() % 4) % 4));
        assert_eq!(longer[index].len() % 4, 1);
        table.refuse(format!("four letters and one: {name}"), longer.join("."), "not_base64url");
        let mut escaped = parts.map(str::to_owned);
        escaped[index] = format!("%{:02X}{}", escaped[index].as_bytes()[0], &escaped[index][1..]);
        table.refuse(format!("a letter as a percent-encoding: {name}"), escaped.join("."), "not_base64url");
        let code = ["not_an_object", "not_an_object", "bad_signature"][index];
        for (what, part) in [("encoded twice", encode(parts[index])), ("the other case", swap_case(parts[index]))] {
            let mut changed = parts.map(str::to_owned);
            changed[index] = part;
            // Signed anew, where that is not what was changed: only the encoding is at fault.
            let input = format!("{}.{}", changed[0], changed[1]);
            let token = if index == 2 { format!("{input}.{}", changed[2]) } else { sign(&input) };
            table.refuse(format!("{what}: {name}"), token, code);
        }
    }

    table.section("RFC 6750 §2.1: the scheme is not part of the token");
    for prefix in [
        "Bearer ",
        "bearer ",
        "BEARER ",
        "Bearer",
        "Bearer\t",
        "DPoP ",
        "Bearer,",
        "access_token=",
        "Bearer%20",
        "Authorization: Bearer ",
        "token=",
    ] {
        table.refuse(format!("{prefix:?}"), format!("{prefix}{good}"), "not_base64url");
    }
    table.refuse("a token and another", format!("{good} {good}"), "encrypted_token");
    table.refuse("a token, a comma and another", format!("{good},{good}"), "encrypted_token");

    table.section("RFC 3629: octets that are no text");
    for (name, octets) in [
        ("0xff", &b"\xff"[..]),
        ("an overlong null", b"\xc0\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a lone continuation", b"\x80"),
        ("0xff and 0xfe", b"\xff\xfe"),
    ] {
        table.refuse(format!("{name} before"), [octets, good.as_bytes()].concat(), "not_base64url");
        table.refuse(format!("{name} behind"), [good.as_bytes(), octets].concat(), "not_base64url");
        table.refuse(format!("{name} alone"), octets, "wrong_part_count");
    }
}

/// RFC 4648 §3.5: "Implementations MUST … pad bits set to zero"; else a token has many spellings, and a list of revoked
/// ones, or a cache, can be walked around.
fn unused_bits(table: &mut Table) {
    table.section("RFC 4648 §3.5: bits behind the last octet are zero");
    let texts = |blanks: usize| {
        let blanks = " ".repeat(blanks);
        (format!("{}{blanks}", header(Algorithm::EdDSA)), format!("{}{blanks}", claims()))
    };
    for blanks in 0..3 {
        let (head, payload) = texts(blanks);
        let (head, payload) = (encode(head), encode(payload));
        table.accept(format!("as it has to be, {blanks} blanks"), sign(&format!("{head}.{payload}")));
        for (index, other) in respellings(&head).into_iter().enumerate() {
            let token = sign(&format!("{other}.{payload}"));
            table.refuse(format!("header with {blanks} blanks, spelling {index}"), token, "not_base64url");
        }
        for (index, other) in respellings(&payload).into_iter().enumerate() {
            let token = sign(&format!("{head}.{other}"));
            table.refuse(format!("payload with {blanks} blanks, spelling {index}"), token, "not_base64url");
        }
    }
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        let good = good(algorithm);
        let (input, signature) = good.rsplit_once('.').expect("three parts");
        let others = respellings(signature);
        assert_eq!(others.len(), 15, "64 and 256 octets leave four bits");
        for (index, other) in others.into_iter().enumerate() {
            table.refuse(
                format!("signature of {algorithm}, spelling {index}"),
                format!("{input}.{other}"),
                "not_base64url",
            );
        }
    }
}

fn sizes(table: &mut Table) {
    table.section("a token has at most 16 KiB");
    let padded = |letters: usize| {
        token(Algorithm::EdDSA, &header(Algorithm::EdDSA), &with(claims(), "pad", "x".repeat(letters)))
    };
    let most =
        (0..16_384).rev().find(|letters| padded_len(padded(0).len(), *letters) <= 16_384).expect("room for none");
    let exactly =
        (0..8).map(|more| padded(most - more)).find(|token| token.len() <= 16_384).expect("a token that fits");
    table.accept("as long as it may be", exactly);
    table.refuse("a little longer", padded(most + 8), "token_too_large");
    table.refuse("a hundred kilobytes", padded(75_000), "token_too_large");
    table.refuse("a mebibyte", padded(1 << 20), "token_too_large");
    table.refuse("a mebibyte of one letter", "A".repeat(1 << 20), "token_too_large");
    let good = good(Algorithm::EdDSA);
    table.refuse("a mebibyte of signature", format!("{good}{}", "A".repeat(1 << 20)), "token_too_large");
    table.refuse("sixteen kilobytes of one letter", "A".repeat(16_000), "wrong_part_count");
}

/// About how long a token becomes by so many letters in its payload.
fn padded_len(len: usize, letters: usize) -> usize {
    len + letters * 4 / 3
}

/// Every other spelling of the same octets.
fn respellings(part: &str) -> Vec<String> {
    let unused = match part.len() % 4 {
        2 => 16,
        3 => 4,
        _ => 1,
    };
    let (rest, last) = part.split_at(part.len() - 1);
    let last = ALPHABET.iter().position(|letter| last.as_bytes() == [*letter]).expect("base64url");
    assert_eq!(last % unused, 0, "the canonical spelling has zeros there");
    (1..unused).map(|bits| format!("{rest}{}", char::from(ALPHABET[last + bits]))).collect()
}

fn sign(input: &str) -> String {
    signed(input, |message| Key::Ed25519.sign(Algorithm::EdDSA, message))
}

fn split(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

/// The last letter stays: its bits have to end in zeros in either case.
fn swap_case(text: &str) -> String {
    let swap = |letter: char| {
        if letter.is_ascii_uppercase() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() }
    };
    let (rest, last) = text.split_at(text.len() - 1);
    rest.chars().map(swap).chain(last.chars()).collect()
}
