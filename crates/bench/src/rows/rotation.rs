//! `rotation/…`: how long answers take while every key turns each few seconds, beside a server whose keys do not turn.
//!
//! The same mixture goes to both at an even rate that neither is busy with, so that what is seen is a stall, not a queue.
//!
//! The p99 of one window is its twelfth slowest answer, which is as much chance as anything. So the ratio is that of all
//! windows of each taken together; the lowest and the highest are those of windows.

use std::time::Duration;

use anyhow::Result;

use super::documents::JWKS;
use super::token::{client, request};
use super::{Bench, Process};
use crate::issuer::Settings;
use crate::load::{Answer, Load, Plan, Script, get};
use crate::peer::CLIENT;
use crate::statistics::{Latencies, Spread};
use crate::table::{Row, Target};

/// What is asked for, in turns.
const KINDS: [&str; 3] = ["token-ES256", "token-RS256", "jwks"];
/// Requests a second, of all kinds together.
const RATE: f64 = 900.0;

/// As long as a key signs, so that each has one change of keys in it.
const WINDOW: Duration = Duration::from_secs(4);

/// `announce` ≥ 1 + 1 + 2 × 1 s.
const TURNING: &str = "algorithms = [\"ES256\", \"RS256\"]\nrotate_every = \"4s\"\nannounce = \"4s\"\n\
                       jwks_max_age = \"1s\"\njwks_shared_max_age = \"1s\"\nclock_skew = \"0s\"\npoll = \"1s\"\n\
                       max_staleness = \"4s\"";
const TOKENS: &str = "access_ttl = \"3s\"\nid_ttl = \"3s\"";

struct Mixture {
    requests: Vec<String>,
    next: usize,
    /// Which kind a connection waits for.
    kinds: Vec<usize>,
    latencies: Vec<Latencies>,
}

impl Mixture {
    fn new(connections: usize) -> Self {
        let token = |alg| request("/oauth2/token", &format!("{CLIENT}-{alg}"));
        let requests = vec![token("ES256"), token("RS256"), get(JWKS)];
        Self { requests, next: 0, kinds: vec![0; connections], latencies: vec![Latencies::default(); KINDS.len()] }
    }
}

impl Script for Mixture {
    fn request(&mut self, connection: usize, request: &mut Vec<u8>) -> bool {
        self.next = (self.next + 1) % KINDS.len();
        self.kinds[connection] = self.next;
        request.extend_from_slice(self.requests[self.next].as_bytes());
        true
    }

    fn answer(&mut self, connection: usize, answer: &Answer<'_>) -> Result<()> {
        self.latencies[self.kinds[connection]].add(answer.latency);
        Ok(())
    }
}

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let tables: String = ["ES256", "RS256"].map(|alg| client(&format!("{CLIENT}-{alg}"), alg)).concat();
    let turning = bench.issuer(Settings { keys: TURNING, tokens: TOKENS, tables: &tables, database: None })?;
    let standing = TURNING.replace("rotate_every = \"4s\"", "rotate_every = \"30d\"");
    let standing = bench.issuer(Settings { keys: &standing, tokens: TOKENS, tables: &tables, database: None })?;
    let (turning, standing) = (turning.serve()?, standing.serve()?);

    let (mut with, mut without) = (Vec::new(), Vec::new());
    for server in [&turning, &standing] {
        one_window(server, Duration::from_millis(300))?;
    }
    for _ in 0..if bench.arguments.quick { 3 } else { 9 } {
        with.push(one_window(&turning, WINDOW)?);
        without.push(one_window(&standing, WINDOW)?);
    }
    for (kind, what) in KINDS.iter().enumerate() {
        let name = format!("rotation/{what}");
        if bench.arguments.wants(&name) {
            let of = |windows: &[Vec<Latencies>]| windows.iter().map(|window| window[kind].clone()).collect::<Vec<_>>();
            bench.table.add(row(name, of(&with), of(&without)));
        }
    }
    Ok(())
}

/// Latencies in one window, by kind.
fn one_window(process: &Process, duration: Duration) -> Result<Vec<Latencies>> {
    let plan = Plan { rate: Some(RATE), ..Plan::of(16, duration) };
    let mut mixture = Mixture::new(plan.connections);
    Load::connect(process.address, plan)?.run(&mut mixture)?;
    Ok(mixture.latencies)
}

fn row(name: String, mut with: Vec<Latencies>, mut without: Vec<Latencies>) -> Row {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let p99 = |latencies: &mut Latencies| ms(latencies.percentile(0.99));
    let windows = Spread::of(with.iter_mut().zip(&mut without).map(|(with, without)| p99(with) / p99(without)));
    let (mut with, mut without): (Latencies, Latencies) = (with.into_iter().sum(), without.into_iter().sum());
    let words = |latencies: &mut Latencies| {
        format!("p50 {:.2} ms, max {:.1} ms", ms(latencies.percentile(0.5)), ms(latencies.max()))
    };
    let note = format!("{}; without {}", words(&mut with), words(&mut without));
    let (ours, theirs) = (p99(&mut with), p99(&mut without));
    Row {
        name,
        unit: "p99 ms",
        ours,
        peer: ("keys that stay".to_owned(), theirs),
        ratio: Spread { median: ours / theirs, ..windows },
        target: Target::AtMost(1.1),
        note,
    }
}
