//! `footprint/…`: memory, the way to the first answer, and the size of the program, beside their limits.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::documents::JWKS;
use super::token::{client, request};
use super::{Bench, Process};
use crate::issuer::{Issuer, Settings};
use crate::load::{Load, Plan, Same, ask, get};
use crate::machine::resident_mib;
use crate::peer::CLIENT;
use crate::statistics::Spread;
use crate::table::{Row, Target};

const IDLE_MIB: f64 = 20.0;
/// On top of what is used when idle.
const LOADED_MIB: f64 = 10.0;
const START_MS: f64 = 30.0;
const BINARY_MIB: f64 = 25.0;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    memory(bench)?;
    starts(bench)?;
    if bench.arguments.wants("footprint/binary") {
        let bytes = bench.arguments.keywheel.metadata().context("cannot look at the program")?.len();
        let mib = bytes as f64 / (1024.0 * 1024.0);
        bench.table.add(row("footprint/binary", "MiB", &[mib], BINARY_MIB, Target::AtMost(1.0)));
    }
    Ok(())
}

fn memory(bench: &mut Bench<'_>) -> Result<()> {
    if !["footprint/idle-memory", "footprint/loaded-memory"].iter().any(|name| bench.arguments.wants(name)) {
        return Ok(());
    }
    let id = format!("{CLIENT}-ES256");
    let tables = client(&id, "ES256");
    let (mut idle, mut grown) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let issuer = bench.issuer(Settings { tables: &tables, ..Settings::default() })?;
        // As after a restart: making keys takes memory, and is not what a server does all day.
        drop(issuer.serve()?);
        let running = issuer.serve()?;
        ask(running.address, &get(JWKS))?;
        std::thread::sleep(SETTLE);
        let before = resident_mib(running.pid())?.0;
        let plan = Plan::of(bench.pace.connections, bench.pace.round * 4);
        Load::connect(running.address, plan)?.run(&mut Same(request("/oauth2/token", &id)))?;
        let (_, most) = resident_mib(running.pid())?;
        idle.push(before);
        grown.push(most - before);
    }
    let rows = [
        row("footprint/idle-memory", "MiB", &idle, IDLE_MIB, Target::AtMost(1.0)),
        row("footprint/loaded-memory", "MiB more", &grown, LOADED_MIB, Target::AtMost(1.0)),
    ];
    for row in rows {
        if bench.arguments.wants(&row.name) {
            bench.table.add(row);
        }
    }
    Ok(())
}

fn starts(bench: &mut Bench<'_>) -> Result<()> {
    let names = ["footprint/start-new", "footprint/start-existing"];
    if !names.iter().any(|name| bench.arguments.wants(name)) {
        return Ok(());
    }
    let (mut new, mut existing) = (Vec::new(), Vec::new());
    for _ in 0..bench.pace.rounds.min(7) {
        let issuer = bench.issuer(Settings::default())?;
        new.push(first_answer(&issuer)?);
        existing.push(first_answer(&issuer)?);
    }
    let rows = [
        row(names[0], "ms", &new, START_MS, Target::None),
        row(names[1], "ms", &existing, START_MS, Target::AtMost(1.0)),
    ];
    for row in rows {
        if bench.arguments.wants(&row.name) {
            bench.table.add(row);
        }
    }
    Ok(())
}

/// From the start of the process to its first key set, in milliseconds.
fn first_answer(issuer: &Issuer) -> Result<f64> {
    let began = Instant::now();
    let mut running: Process = issuer.start()?;
    running.wait(|address| ask(address, &get(JWKS)).is_ok_and(|(status, ..)| status == 200))?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn row(name: &str, unit: &'static str, values: &[f64], limit: f64, target: Target) -> Row {
    Row {
        name: name.to_owned(),
        unit,
        ours: Spread::of(values.iter().copied()).median,
        peer: ("limit".to_owned(), limit),
        ratio: Spread::of(values.iter().map(|value| value / limit)),
        target,
        note: String::new(),
    }
}

/// What a start leaves to be done is done by then.
const SETTLE: Duration = Duration::from_millis(500);
