//! The bytes are a token's header: reading it never panics, and what is read was really there.
#![no_main]

use keywheel_jose::UnverifiedJwt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    let token = format!("{}.e30.AA", base64url(header));
    let Ok(jwt) = UnverifiedJwt::parse(&token, token.len()) else { return };
    let header: serde_json::Value = serde_json::from_slice(header).expect("an accepted header is JSON");
    assert!(header["alg"] == jwt.algorithm().as_str() || header["alg"] == "Ed25519");
    assert_eq!(header.get("kid").map(|kid| kid.as_str().expect("an accepted kid is a string")), jwt.kid());
    for forbidden in ["crit", "b64", "enc", "zip"] {
        assert!(header.get(forbidden).is_none());
    }
});

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
