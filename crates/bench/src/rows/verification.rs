//! `verification/…`: a token held against keys that are in memory, beside the bare signature and beside libraries of
//! others. Rates are for each second of this thread's processor time (for others: of their process).

// It is built on `keywheel_verifier`, and shared with that crate's own benchmarks.
#[path = "../../../verifier/benches/fixture/mod.rs"]
mod fixture;

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use keywheel_jose::AccessTokenClaims;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use fixture::{ALGORITHMS, Fixture};

use super::Bench;
use crate::statistics::Spread;
use crate::table::{Row, Target};

/// One way of verifying: how long so many verifications take the processor, in seconds.
type Contender<'a> = Box<dyn FnMut(u32) -> Result<f64> + 'a>;

/// Libraries of others: the row, what it is called, and how its program is started.
const RIVALS: [Rival; 3] = [
    Rival { row: "jose", is: "npm jose", runtime: Runtime::Node },
    Rival { row: "fast-jwt", is: "npm fast-jwt", runtime: Runtime::Node },
    Rival { row: "pyjwt", is: "PyPI pyjwt", runtime: Runtime::Python },
];

struct Rival {
    row: &'static str,
    is: &'static str,
    runtime: Runtime,
}

enum Runtime {
    Node,
    Python,
}

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    for algorithm in ALGORITHMS {
        let name = format!("verification/{algorithm}");
        let wanted = |row: &str| bench.arguments.wants(row);
        let rows = ["", "-cached", "-jsonwebtoken"].map(|suffix| format!("{name}{suffix}"));
        let rivals = RIVALS.iter().map(|rival| format!("{name}-{}", rival.row));
        if !rows.iter().cloned().chain(rivals).any(|row| wanted(&row)) {
            continue;
        }
        let fixture = Fixture::new(algorithm);
        let (verifier, caching) =
            runtime.block_on(async { (fixture.verifier().await, fixture.caching_verifier().await) });
        let (key, signing_input, signature) = &fixture.bare;
        let (decoding_key, validation) = &fixture.jsonwebtoken;
        let ours = || -> Contender<'_> {
            repeat(|| drop(verifier.verify_now::<AccessTokenClaims>(black_box(&fixture.token)).expect("it holds")))
        };
        let bare = repeat(|| key.verify_sig(black_box(signing_input.as_bytes()), signature).expect("it holds"));
        let cached =
            repeat(|| drop(caching.verify_now::<AccessTokenClaims>(black_box(&fixture.token)).expect("it holds")));
        let jsonwebtoken = repeat(|| {
            let token = black_box(&fixture.token);
            drop(jsonwebtoken::decode::<AccessTokenClaims>(token, decoding_key, validation).expect("it holds"));
        });
        let least = if name.ends_with("RS256") { 0.90 } else { 0.95 };
        let [plain, cached_row, decode] = rows;
        versus(bench, plain, ours(), ("bare signature", bare), Target::AtLeast(least))?;
        let target = if name.ends_with("ES256") { Target::AtLeast(20.0) } else { Target::None };
        versus(bench, cached_row, cached, ("verify_now", ours()), target)?;
        versus(bench, decode, ours(), ("jsonwebtoken", jsonwebtoken), Target::None)?;
        for rival in &RIVALS {
            let row = format!("{name}-{}", rival.row);
            if !bench.arguments.wants(&row) {
                continue;
            }
            match rival.start(&bench.arguments.clients, bench.folder.path(), &case(&fixture, algorithm.as_str()))? {
                Some(mut program) => {
                    let theirs: Contender<'_> = Box::new(move |count| program.verify(count));
                    versus(bench, row, ours(), (rival.is, theirs), Target::None)?;
                }
                None => {
                    bench.table.missing(row, format!("{} is not installed (`cargo xtask test` brings it)", rival.is))
                }
            }
        }
    }
    Ok(())
}

/// Lets two ways take turns. Each turn takes about as long, however fast the way is.
fn versus(
    bench: &mut Bench<'_>,
    row: String,
    mut ours: Contender<'_>,
    (what, mut theirs): (&str, Contender<'_>),
    target: Target,
) -> Result<()> {
    if !bench.arguments.wants(&row) {
        return Ok(());
    }
    let turn = if bench.arguments.quick { 0.01 } else { 0.03 };
    let (our_count, their_count) = (count_in(turn, &mut ours)?, count_in(turn, &mut theirs)?);
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    for _ in 0..if bench.arguments.quick { 11 } else { 51 } {
        our_rates.push(f64::from(our_count) / ours(our_count)?);
        their_rates.push(f64::from(their_count) / theirs(their_count)?);
    }
    bench.table.add(Row {
        name: row,
        unit: "tokens/core s",
        ours: Spread::of(our_rates.iter().copied()).median,
        peer: (what.to_owned(), Spread::of(their_rates.iter().copied()).median),
        ratio: Spread::of(our_rates.iter().zip(&their_rates).map(|(ours, theirs)| ours / theirs)),
        target,
        note: String::new(),
    });
    Ok(())
}

/// How many fill that time, in seconds, once it is warm.
fn count_in(seconds: f64, verify: &mut Contender<'_>) -> Result<u32> {
    let mut count = 16;
    loop {
        let used = verify(count)?;
        if used >= seconds / 2.0 {
            let fitting = f64::from(count) * seconds / used;
            return Ok((fitting as u32).max(1));
        }
        count *= 2;
    }
}

fn repeat<'a>(verify: impl Fn() + 'a) -> Contender<'a> {
    Box::new(move |count| {
        let start = thread_time();
        for _ in 0..count {
            verify();
        }
        Ok((thread_time() - start).as_secs_f64())
    })
}

/// Processor time of this thread: what else runs on the machine is not in it.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What a library of others needs to know.
fn case(fixture: &Fixture, alg: &str) -> Value {
    let keys = serde_json::to_value(&fixture.keys).expect("keys can be written");
    let claims = fixture.token.split('.').nth(1).expect("a token has claims");
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
    let claims: Value = serde_json::from_slice(&claims.expect("base64url")).expect("JSON");
    json!({
        "token": fixture.token, "jwk": keys["keys"][0], "alg": alg, "issuer": claims["iss"], "audience": claims["aud"],
    })
}

/// Processor time that a program has before it is measured.
const WARM_UP_S: f64 = 0.7;

/// A program that verifies with a library of others.
struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Rival {
    /// Starts it; `None` where it is not installed.
    fn start(&self, clients: &Path, folder: &Path, case: &Value) -> Result<Option<Program>> {
        let clients = std::path::absolute(clients).context("there is no folder to be in")?;
        let node_modules = clients.join("node/node_modules");
        let (installed, program, file, text) = match self.runtime {
            Runtime::Node => (
                node_modules.join(self.row).is_dir(),
                Path::new("node").to_owned(),
                "verify.mjs",
                include_str!("../rivals/verify.mjs"),
            ),
            Runtime::Python => {
                let python = clients.join("python/bin/python");
                (python.is_file(), python, "verify.py", include_str!("../rivals/verify.py"))
            }
        };
        if !installed {
            return Ok(None);
        }
        let script = folder.join(file);
        std::fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = Command::new(&program);
        command.arg(script).arg(self.row).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().context("a program without standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("a program without standard output")?);
        let mut program = Program { child, stdin, stdout };
        let mut case = case.clone();
        case["node_modules"] = json!(node_modules);
        let answer = program.ask(&case.to_string())?;
        if answer != "ready" {
            bail!("{} says {answer:?}", self.is);
        }
        // Compilers at run time take a while to make the best of a loop.
        let mut used = 0.0;
        while used < WARM_UP_S {
            used += program.verify(200)?;
        }
        Ok(Some(program))
    }
}

impl Program {
    fn verify(&mut self, count: u32) -> Result<f64> {
        let answer = self.ask(&count.to_string())?;
        answer.parse().with_context(|| format!("a program says {answer:?} instead of a time"))
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}").context("a program has ended")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("a program has ended")?;
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
