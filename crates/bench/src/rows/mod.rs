//! The rows of the table, a file per group.

mod documents;
mod footprint;
mod grants;
mod growth;
mod login;
mod people;
mod rotation;
mod token;
mod verification;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::issuer::{Issuer, Settings};
use crate::load::{Load, Outcome, Plan, Script, ask, get};
use crate::machine::{self, Cores};
use crate::process::Process;
use crate::say;
use crate::statistics::Spread;
use crate::table::{Row, Table, Target};

pub(crate) use people::{PASSWORD, argon2id};

/// A group of rows, and what measures it.
type Group = (&'static str, fn(&mut Bench<'_>) -> Result<()>);

/// So many cores busy with other things are in the way.
const BUSY: f64 = 0.2;

/// In the order of the table.
const GROUPS: [Group; 8] = [
    ("token", token::measure),
    ("grants", grants::measure),
    ("login", login::measure),
    ("documents", documents::measure),
    ("verification", verification::measure),
    ("rotation", rotation::measure),
    ("growth", growth::measure),
    ("footprint", footprint::measure),
];

/// Measures what was asked for and prints the table.
///
/// # Errors
/// When something that has to work does not; the other figures are printed all the same.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let unknown = arguments.only.iter().find(|only| {
        let group = only.split('/').next().unwrap_or_default();
        !GROUPS.iter().any(|(name, _)| *name == group)
    });
    if let Some(unknown) = unknown {
        let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no row {unknown}; the groups are {}", names.join(", "));
    }
    let cores = Cores::choose()?;
    machine::stay_on(cores.load)?;
    let mut bench = Bench::new(arguments, cores)?;
    let busy_before = machine::busy_cores()?;
    let mut failures = Vec::new();
    for (name, measure) in GROUPS {
        if arguments.wants(name) {
            say(&format!("bench: {name}"));
            // The other groups are worth as much without it.
            if let Err(error) = measure(&mut bench) {
                say(&format!("bench: {name} could not be measured: {error:#}"));
                failures.push(name);
            }
        }
    }
    if !bench.table.is_empty() {
        bench.report(busy_before)?;
    }
    if failures.is_empty() {
        return if bench.table.is_empty() { bail!("there is no such row") } else { Ok(()) };
    }
    let kept = bench.folder.keep();
    bail!("not measured to the end: {}; the servers' logs are in {}", failures.join(", "), kept.display())
}

/// What every group needs.
struct Bench<'a> {
    arguments: &'a Arguments,
    cores: Cores,
    pace: Pace,
    /// Removed at the end.
    folder: TempDir,
    folders: usize,
    table: Table,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rounds: usize,
    round: Duration,
    connections: usize,
}

/// One turn of a server under load.
#[derive(Clone, Debug)]
struct Turn {
    /// Answers for each second of processor time.
    per_core: f64,
    /// Answers for each second of the clock.
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// A server under a load, in turns.
struct Contender<'a, S> {
    process: &'a Process,
    script: S,
    turns: Vec<Turn>,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a Arguments, cores: Cores) -> Result<Self> {
        let make = || {
            std::fs::create_dir_all(&arguments.folder)?;
            tempfile::Builder::new().prefix("run-").tempdir_in(&arguments.folder)
        };
        let folder = make().with_context(|| format!("cannot make a folder in {}", arguments.folder.display()))?;
        let pace = match arguments.quick {
            true => Pace { rounds: 5, round: Duration::from_millis(300), connections: 32 },
            false => Pace { rounds: 7, round: Duration::from_secs(1), connections: 32 },
        };
        Ok(Self { arguments, cores, pace, folder, folders: 0, table: Table::default() })
    }

    /// Prints the table and writes the file.
    fn report(&self, busy_before: f64) -> Result<()> {
        // What we started has ended by now.
        let busy_after = machine::busy_cores()?;
        let (machine, Pace { rounds, round, .. }, Cores { server, load }) =
            (machine::description(), self.pace, self.cores);
        let about = json!({
            "machine": machine,
            "cores_busy_with_other_things": { "before": busy_before, "after": busy_after },
            "cores": { "server": server, "load": load },
            "quick": self.arguments.quick,
            "rounds": rounds,
            "round_s": round.as_secs_f64(),
        });
        let file = &self.arguments.json;
        self.table.write(file, &about)?;
        let mut doubts = String::new();
        if self.cores.is_one() {
            doubts.push_str("\nONE CORE for server and load: throughput and latencies by the clock say little.");
        }
        if busy_before.max(busy_after) > BUSY {
            doubts.push_str("\nA BUSY MACHINE: throughput and latencies by the clock say little.");
        }
        let mut out = std::io::stdout();
        writeln!(
            out,
            "{}\n{machine}; other programs kept {busy_before:.1} cores busy before and {busy_after:.1} after; \
             {rounds} rounds of {round:?}; also in {}{doubts}",
            self.table.render(),
            file.display(),
        )
        .context("cannot print the table")
    }

    /// A folder that does not exist yet.
    fn new_folder(&mut self) -> PathBuf {
        self.folders += 1;
        self.folder.path().join(self.folders.to_string())
    }

    fn issuer(&mut self, settings: Settings<'_>) -> Result<Issuer> {
        Issuer::new(&self.arguments.keywheel, self.new_folder(), settings, self.cores)
    }

    /// Stores the documents of a running issuer as files, for those that only send them.
    fn documents_of(&mut self, issuer: &Process) -> Result<PathBuf> {
        let folder = self.new_folder();
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, path) in [("jwks.json", documents::JWKS), ("discovery.json", documents::DISCOVERY)] {
            let (status, _, body) = ask(issuer.address, &get(path))?;
            if status != 200 {
                bail!("{path} answers {status}");
            }
            std::fs::write(folder.join(name), body).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(folder)
    }

    /// The bare server, with the documents of this folder.
    fn start_peer(&self, documents: &Path) -> Result<Process> {
        let program = std::env::current_exe().context("cannot find this very program")?;
        let mut command = Command::new(program);
        command.arg("peer").arg(documents);
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Process::start(command, nowhere, &documents.join("log"), self.cores)?;
        let told = documents.join("address");
        let mut address = None;
        process.wait(|_| {
            address = std::fs::read_to_string(&told).ok().and_then(|text| text.parse().ok());
            address.is_some()
        })?;
        process.address = address.context("the bare server has told its address")?;
        Ok(process)
    }

    /// One turn: some requests to warm up, then as many as take the server the time of a round.
    fn turn<S: Script>(&self, contender: &mut Contender<'_, S>) -> Result<()> {
        let Contender { process, script, turns } = contender;
        let Pace { round, connections, .. } = self.pace;
        let mut load = Load::connect(process.address, Plan::of(connections, round / 5))?;
        let warm_up = measured(process, || load.run(script))?;
        let answers = (warm_up.per_core * round.as_secs_f64()) as u64;
        // On a machine that does other things as well it takes longer by the clock.
        let plan = Plan { answers: answers.max(1), ..Plan::of(connections, round * 8) };
        let mut load = Load::connect(process.address, plan)?;
        turns.push(measured(process, || load.run(script))?);
        Ok(())
    }

    /// Adds words to the row that was made last.
    fn note_last(&mut self, note: &str) {
        self.table.note_last(note);
    }

    /// Lets two servers take turns, and makes a row of what they did.
    fn versus(
        &mut self,
        name: &str,
        ours: (&Process, impl Script),
        peer: (&str, &Process, impl Script),
        target: Target,
    ) -> Result<()> {
        let mut our_turns = Contender { process: ours.0, script: ours.1, turns: Vec::new() };
        let mut peer_turns = Contender { process: peer.1, script: peer.2, turns: Vec::new() };
        for _ in 0..self.pace.rounds {
            self.turn(&mut our_turns)?;
            self.turn(&mut peer_turns)?;
        }
        self.table.add(row(name, &our_turns.turns, (peer.0, &peer_turns.turns), target));
        Ok(())
    }
}

/// What a load came to, beside what it cost the server.
fn measured(process: &Process, load: impl FnOnce() -> Result<Outcome>) -> Result<Turn> {
    let start = process.processor_time()?;
    let mut outcome = load()?;
    let used = process.processor_time()?.since(start);
    Ok(Turn {
        per_core: outcome.answers as f64 / used,
        per_second: outcome.answers as f64 / outcome.elapsed.as_secs_f64(),
        p50: outcome.latencies.percentile(0.5),
        p99: outcome.latencies.percentile(0.99),
    })
}

/// Requests per core, ours beside the peer's of the same rounds.
fn row(name: &str, ours: &[Turn], peer: (&str, &[Turn]), target: Target) -> Row {
    let per_core = |turns: &[Turn]| Spread::of(turns.iter().map(|turn| turn.per_core)).median;
    Row {
        name: name.to_owned(),
        unit: "requests/core s",
        ours: per_core(ours),
        peer: (peer.0.to_owned(), per_core(peer.1)),
        ratio: Spread::of(ours.iter().zip(peer.1).map(|(ours, peer)| ours.per_core / peer.per_core)),
        target,
        note: format!("{}; peer {}", beside(ours), beside(peer.1)),
    }
}

/// Throughput and latencies by the clock.
fn beside(turns: &[Turn]) -> String {
    let median = |of: fn(&Turn) -> f64| Spread::of(turns.iter().map(of)).median;
    format!(
        "{:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
        median(|turn| turn.per_second),
        median(|turn| turn.p50.as_secs_f64() * 1e3),
        median(|turn| turn.p99.as_secs_f64() * 1e3),
    )
}
