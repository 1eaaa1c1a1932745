//! Looking into tokens and key sets, without verifying anything.

use std::collections::BTreeSet;

use keywheel_jose::decode_unverified;
use serde_json::Value;

/// The header of a token.
pub(crate) fn header(token: &str) -> Value {
    let parts = decode_unverified(token).expect("a token");
    serde_json::from_str(&parts.header_json).expect("a header in JSON")
}

/// The claims of a token.
pub(crate) fn claims(token: &str) -> Value {
    serde_json::from_slice(&decode_unverified(token).expect("a token").payload).expect("claims in JSON")
}

/// Which key signed a token.
pub(crate) fn kid(token: &str) -> String {
    header(token)["kid"].as_str().expect("kid").to_owned()
}

/// The keys of a key set.
pub(crate) fn kids(jwks: &Value) -> BTreeSet<String> {
    let keys = jwks["keys"].as_array().expect("a key set");
    keys.iter().map(|key| key["kid"].as_str().expect("kid").to_owned()).collect()
}
