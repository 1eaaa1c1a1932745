//! The bytes are a DPoP proof: checking it never panics, none holds that was not made for the request, and no message
//! repeats what it should not.
#![no_main]

use keywheel_jose::{DpopPolicy, DpopRequest, Timestamp, check_dpop};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (proof, method, url) = input;
    let request = DpopRequest { proof, method, url };
    // The proof of RFC 9449 §7.1 is too old now, so nothing here can hold.
    let now = Timestamp::from_unix(1_800_000_000);

    let rejection = check_dpop(&request, Some("token"), &DpopPolicy::default(), now).expect_err("nobody signed it");

    assert!(rejection.to_string().is_ascii());
    assert!(rejection.to_string().len() < 400);
});
