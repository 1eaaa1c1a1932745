//! What a verification costs beyond the signature: `cargo bench -p keywheel-verifier --bench verify`.
//!
//! Every way of verifying takes its turn in each round, so that a slow moment of the machine hits all of them. The
//! table gives the median, fastest and slowest round, and the speed relative to the bare signature as the median of
//! the rounds' own ratios.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::disallowed_types, reason = "a benchmark has to sign what it verifies")]

mod fixture;

use std::hint::black_box;
use std::time::{Duration, Instant};

use keywheel_jose::{AccessTokenClaims, Timestamp, check};

use fixture::{ALGORITHMS, Fixture};

/// One way of verifying.
type Contender<'a> = (&'static str, Box<dyn Fn() + 'a>);

#[tokio::main]
async fn main() {
    println!("microseconds for one token; {ROUNDS} interleaved rounds of {:?} each", ROUND);
    for algorithm in ALGORITHMS {
        let fixture = Fixture::new(algorithm);
        let verifier = fixture.verifier().await;
        let caching = fixture.caching_verifier().await;
        let now = Timestamp::from_unix(fixture::unix_now());
        println!(
            "\n{algorithm}, a token of {} bytes{:>23}{:>10}{:>10}{:>9}",
            fixture.token.len(),
            "median",
            "min",
            "max",
            "speed"
        );
        let (key, signing_input, signature) = &fixture.bare;
        let (decoding_key, validation) = &fixture.jsonwebtoken;
        report(&[
            (
                "bare signature (aws-lc-rs, parsed key)",
                Box::new(|| key.verify_sig(black_box(signing_input.as_bytes()), signature).expect("it holds")),
            ),
            (
                "jsonwebtoken::decode",
                Box::new(|| {
                    let token = black_box(&fixture.token);
                    jsonwebtoken::decode::<AccessTokenClaims>(token, decoding_key, validation).expect("it holds");
                }),
            ),
            (
                "keywheel_jose::check",
                Box::new(|| {
                    let token = black_box(&fixture.token);
                    check::<AccessTokenClaims>(token, &fixture.keys, &fixture.policy, now).expect("it holds");
                }),
            ),
            (
                "Verifier::verify_now",
                Box::new(|| {
                    verifier.verify_now::<AccessTokenClaims>(black_box(&fixture.token)).expect("it holds");
                }),
            ),
            (
                "Verifier::verify_now, a cached token",
                Box::new(|| {
                    caching.verify_now::<AccessTokenClaims>(black_box(&fixture.token)).expect("it holds");
                }),
            ),
        ]);
    }
}

/// Measures all contenders and prints a line for each. The first one is what the others are compared with.
fn report(contenders: &[Contender<'_>]) {
    let calls: Vec<u32> = contenders.iter().map(|(_, verify)| calls_in(ROUND, verify)).collect();
    let mut costs = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for (index, (_, verify)) in contenders.iter().enumerate() {
            costs[index].push(time(calls[index], verify).as_secs_f64() * 1e6 / f64::from(calls[index]));
        }
    }
    let bare = costs[0].clone();
    for ((name, _), costs) in contenders.iter().zip(&mut costs) {
        let mut speeds: Vec<f64> = costs.iter().zip(&bare).map(|(cost, bare)| bare / cost).collect();
        costs.sort_by(f64::total_cmp);
        speeds.sort_by(f64::total_cmp);
        println!(
            "  {name:<42}{:>10.2}{:>10.2}{:>10.2}{:>9.3}",
            costs[ROUNDS / 2],
            costs[0],
            costs[ROUNDS - 1],
            speeds[ROUNDS / 2]
        );
    }
}

/// How many calls fill that time, after a warm-up of as long.
fn calls_in(duration: Duration, verify: &dyn Fn()) -> u32 {
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < duration {
        verify();
        calls += 1;
    }
    calls
}

fn time(calls: u32, verify: &dyn Fn()) -> Duration {
    let began = Instant::now();
    for _ in 0..calls {
        verify();
    }
    began.elapsed()
}

/// Odd, so that one round is the median.
const ROUNDS: usize = 101;
const ROUND: Duration = Duration::from_millis(10);
