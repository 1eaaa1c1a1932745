//! How much a verification allocates: `cargo bench -p keywheel-verifier --bench allocations`.
//!
//! Apart from the timing, because counting costs time. What is counted is requested from the allocator while one token is
//! verified and its claims are read and dropped.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::disallowed_methods, reason = "the tokens are of this minute")]
#![expect(clippy::disallowed_types, reason = "a benchmark has to sign what it verifies")]

mod fixture;

use std::alloc::System;

use keywheel_jose::{AccessTokenClaims, Timestamp, check};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use fixture::{ALGORITHMS, Fixture};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{:<34}{:>12}{:>12}", "for one token", "allocations", "bytes");
    for algorithm in ALGORITHMS {
        let fixture = Fixture::new(algorithm);
        let verifier = fixture.verifier().await;
        let caching = fixture.caching_verifier().await;
        let now = Timestamp::from_unix(fixture::unix_now());
        let (key, signing_input, signature) = &fixture.bare;
        let (decoding_key, validation) = &fixture.jsonwebtoken;
        println!("{algorithm}");
        count("bare signature", || {
            key.verify_sig(signing_input.as_bytes(), signature).expect("it holds");
        });
        count("jsonwebtoken::decode", || {
            jsonwebtoken::decode::<AccessTokenClaims>(&fixture.token, decoding_key, validation).expect("it holds");
        });
        count("keywheel_jose::check", || {
            check::<AccessTokenClaims>(&fixture.token, &fixture.keys, &fixture.policy, now).expect("it holds");
        });
        count("Verifier::verify_now", || {
            verifier.verify_now::<AccessTokenClaims>(&fixture.token).expect("it holds");
        });
        count("a cached token", || {
            caching.verify_now::<AccessTokenClaims>(&fixture.token).expect("it holds");
        });
    }
}

/// Prints the average of many verifications, after one that may fill caches.
fn count(name: &str, verify: impl Fn()) {
    verify();
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        verify();
    }
    let change = region.change();
    println!("  {name:<32}{:>12}{:>12}", change.allocations / ROUNDS, change.bytes_allocated / ROUNDS);
}

const ROUNDS: usize = 1000;
