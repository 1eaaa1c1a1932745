//! `grants/…`: what has to be written down before it is answered. Codes and refresh tokens of many people at once, on
//! SQLite and on PostgreSQL.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::people::{Authorize, Exchange, Refresh, clients, sign_in, users};
use super::{Bench, Turn, beside, measured};
use crate::issuer::Settings;
use crate::load::{Load, Plan};
use crate::statistics::Spread;
use crate::table::{Row, Target};

/// People who ask at the same time, each on a connection of their own.
const PEOPLE: usize = 64;

/// What a core should manage on SQLite.
const LEAST: f64 = 5000.0;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let syncs = syncs_per_second(bench.folder.path())?;
    let on_disk = format!("the disk syncs 4 KiB {syncs:.0} times a second");
    measure_on(bench, "sqlite", None, Target::AtLeast(1.0), &on_disk)?;
    match bench.arguments.postgres.clone() {
        Some(url) => measure_on(bench, "postgres", Some(&url), Target::None, "its own processes are not counted"),
        None => {
            let of_postgres = ["authorize-postgres", "code-postgres", "refresh-postgres"];
            for name in of_postgres.map(|name| format!("grants/{name}")) {
                if bench.arguments.wants(&name) {
                    bench.table.missing(name, "there is no PostgreSQL here");
                }
            }
            Ok(())
        }
    }
}

fn measure_on(
    bench: &mut Bench<'_>,
    database: &str,
    url: Option<&str>,
    refresh_target: Target,
    note: &str,
) -> Result<()> {
    let names = ["authorize", "code", "refresh"].map(|what| format!("grants/{what}-{database}"));
    if !names.iter().any(|name| bench.arguments.wants(name)) {
        return Ok(());
    }
    let tables = format!("{}{}", clients(), users(PEOPLE));
    let settings =
        Settings { keys: "algorithms = [\"ES256\"]", tokens: "code_ttl = \"10m\"", tables: &tables, database: url };
    let issuer = bench.issuer(settings)?;
    let running = issuer.serve()?;
    let cookies = (0..PEOPLE).map(|index| sign_in(&running, &format!("p{index}"))).collect::<Result<Vec<_>>>()?;

    let plan = |duration| Plan::of(PEOPLE, duration);
    let at_a_time = if bench.arguments.quick { 500 } else { 2000 };
    let (mut authorizing, mut exchanging, mut refreshing) = (Vec::new(), Vec::new(), Vec::new());
    let mut refresh_tokens = Vec::new();
    // The first round warms up and is not counted.
    for round in 0..=bench.pace.rounds {
        let mut authorize = Authorize { cookies: &cookies, left: at_a_time, codes: Default::default() };
        let mut load = Load::connect(running.address, plan(LONG))?;
        authorizing.push(measured(&running, || load.run(&mut authorize))?);
        let mut exchange = Exchange::new(authorize.codes);
        let mut load = Load::connect(running.address, plan(LONG))?;
        exchanging.push(measured(&running, || load.run(&mut exchange))?);
        if round == 0 {
            exchange.refresh_tokens.truncate(PEOPLE);
            refresh_tokens = exchange.refresh_tokens;
        }
        let mut refresh = Refresh { refresh_tokens };
        let mut load = Load::connect(running.address, plan(bench.pace.round))?;
        refreshing.push(measured(&running, || load.run(&mut refresh))?);
        refresh_tokens = refresh.refresh_tokens;
    }
    let [authorize, code, refresh] = names;
    for (name, turns, target) in [
        (authorize, authorizing, Target::None),
        (code, exchanging, Target::None),
        (refresh, refreshing, refresh_target),
    ] {
        if bench.arguments.wants(&name) {
            bench.table.add(against_limit(name, &turns[1..], target, note));
        }
    }
    Ok(())
}

fn against_limit(name: String, turns: &[Turn], target: Target, note: &str) -> Row {
    Row {
        name,
        unit: "requests/core s",
        ours: Spread::of(turns.iter().map(|turn| turn.per_core)).median,
        peer: ("limit".to_owned(), LEAST),
        ratio: Spread::of(turns.iter().map(|turn| turn.per_core / LEAST)),
        target,
        note: format!("{}; {note}", beside(turns)),
    }
}

/// How often the disk takes something for good, one after the other.
fn syncs_per_second(folder: &Path) -> Result<f64> {
    let path = folder.join("syncs");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).context("cannot write to the disk")?;
    let (began, mut syncs) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_millis(500) {
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).context("cannot write to the disk")?;
        syncs += 1;
    }
    let per_second = f64::from(syncs) / began.elapsed().as_secs_f64();
    std::fs::remove_file(&path).context("cannot remove a file")?;
    Ok(per_second)
}

/// Those loads end when they have what they want.
const LONG: Duration = Duration::from_secs(60);
