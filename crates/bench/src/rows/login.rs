//! `login/password`: a sign-in, beside the password hash in it.
//!
//! The hash costs its 19 MiB of fresh memory on both sides: a bare call of the library, which allocates it, and one for
//! each request of ours.

use anyhow::Result;

use super::people::{Ready, clients, sign_in_request, users};
use super::{Bench, Contender, beside};
use crate::issuer::Settings;
use crate::load::{Same, post};
use crate::statistics::Spread;
use crate::table::{Row, Target};

/// Enough that a hash is always waiting, on both sides.
const PEOPLE: usize = 4;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let tables = format!("{}{}", clients(), users(PEOPLE));
    let settings = Settings { keys: "algorithms = [\"ES256\"]", tables: &tables, ..Settings::default() };
    let issuer = bench.issuer(settings)?;
    let running = issuer.serve()?;
    let documents = bench.documents_of(&running)?;
    let peer = bench.start_peer(&documents)?;

    let requests = (0..PEOPLE).map(|index| sign_in_request(&running, &format!("p{index}"))).collect();
    let mut ours = Contender { process: &running, script: Ready::new(requests), turns: Vec::new() };
    let mut bare = Contender { process: &peer, script: Same(post("/argon2", "", "")), turns: Vec::new() };
    let connections = bench.pace.connections;
    bench.pace.connections = PEOPLE;
    for _ in 0..bench.pace.rounds {
        bench.turn(&mut ours)?;
        bench.turn(&mut bare)?;
    }
    bench.pace.connections = connections;

    let cost = |per_core: f64| 1e3 / per_core;
    bench.table.add(Row {
        name: "login/password".to_owned(),
        unit: "core ms",
        ours: cost(Spread::of(ours.turns.iter().map(|turn| turn.per_core)).median),
        peer: ("bare argon2id".to_owned(), cost(Spread::of(bare.turns.iter().map(|turn| turn.per_core)).median)),
        ratio: Spread::of(ours.turns.iter().zip(&bare.turns).map(|(ours, bare)| bare.per_core / ours.per_core)),
        target: Target::AtMost(1.1),
        note: beside(&ours.turns),
    });
    Ok(())
}
