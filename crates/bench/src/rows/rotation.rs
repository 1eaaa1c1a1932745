//! `rotation/…`: how long answers take while every key turns each few seconds, beside a server whose keys do not turn.
//!
//! The same mixture goes to both at an even rate that neither is busy with, so that what is seen is a stall, not a queue.

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
            let of = |windows: &[Vec<Seen>]| windows.iter().map(|window| window[kind]).collect::<Vec<_>>();
            bench.table.add(row(name, &of(&with), &of(&without)));
        }
    }
    Ok(())
}

/// Latencies of one kind in one window, in milliseconds.
#[derive(Clone, Copy)]
struct Seen {
    p50: f64,
    p99: f64,
    max: f64,
}

fn one_window(process: &Process, duration: Duration) -> Result<Vec<Seen>> {
    let plan = Plan { rate: Some(RATE), ..Plan::of(16, duration) };
    let mut mixture = Mixture::new(plan.connections);
    Load::connect(process.address, plan)?.run(&mut mixture)?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let seen = mixture.latencies.iter_mut().map(|latencies| Seen {
        p50: ms(latencies.percentile(0.5)),
        p99: ms(latencies.percentile(0.99)),
        max: ms(latencies.max()),
    });
    Ok(seen.collect())
}

fn row(name: String, with: &[Seen], without: &[Seen]) -> Row {
    let median = |windows: &[Seen], of: fn(&Seen) -> f64| Spread::of(windows.iter().map(of)).median;
    let words = |windows: &[Seen]| {
        let most = windows.iter().map(|seen| seen.max).fold(0.0, f64::max);
        format!("p50 {:.2} ms, max {most:.1} ms", median(windows, |seen| seen.p50))
    };
    Row {
        name,
        unit: "p99 ms",
        ours: median(with, |seen| seen.p99),
        peer: ("keys that stay".to_owned(), median(without, |seen| seen.p99)),
        ratio: Spread::of(with.iter().zip(without).map(|(with, without)| with.p99 / without.p99)),
        target: Target::AtMost(1.1),
        note: format!("{}; without {}", words(with), words(without)),
    }
}
