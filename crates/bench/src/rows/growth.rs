//! `growth/…`: whether what a request costs grows with what there is. Each row compares a large installation with a
//! small one, in turns, by requests for each second of processor time: 1 is no growth.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::documents::JWKS;
use super::people::{Authorize, Exchange, Ready, Refresh, WEB, clients, password_hash, sign_in, sign_in_request};
use super::token::{authorization, client, request};
use super::{Bench, Process, Turn, measured, row};
use crate::issuer::{Issuer, Settings};
use crate::load::{Load, Plan, Same, Script, ask, get, post};
use crate::machine::resident_mib;
use crate::peer::{AUDIENCE, CLIENT, SCOPE, SECRET};
use crate::say;
use crate::table::Target;

/// Signs in at once, refreshes and asks at once.
const PEOPLE: usize = 32;

const ES256: &str = "algorithms = [\"ES256\"]";

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    with_clients(bench)?;
    with_users(bench)?;
    with_keys(bench)?;
    with_fetchers(bench)
}

/// Tokens for one of 10 clients, and for one of many.
fn with_clients(bench: &mut Bench<'_>) -> Result<()> {
    if !bench.arguments.wants("growth/clients-token") {
        return Ok(());
    }
    let many = if bench.arguments.quick { 5_000 } else { 100_000 };
    let (few_issuer, many_issuer) = (issuer_with_clients(bench, 10)?, issuer_with_clients(bench, many)?);
    let (few_running, many_running) = (few_issuer.serve()?, many_issuer.serve()?);
    let ours = Clients { count: many, next: 0 };
    let small = Clients { count: 10, next: 0 };
    let peer = ("10 clients", &few_running, small);
    bench.versus("growth/clients-token", (&many_running, ours), peer, Target::None)?;
    let (few_mib, many_mib) = (resident_mib(few_running.pid())?.0, resident_mib(many_running.pid())?.0);
    bench.note_last(&format!("{many} clients; {many_mib:.0} MiB, with 10 {few_mib:.0} MiB"));
    Ok(())
}

/// A new issuer with so many clients in its database.
fn issuer_with_clients(bench: &mut Bench<'_>, count: usize) -> Result<Issuer> {
    let issuer = bench.issuer(Settings { keys: ES256, ..Settings::default() })?;
    let entries = (0..count).map(|index| {
        json!({
            "client_id": format!("c{index}"), "client_secret": SECRET, "grant_types": ["client_credentials"],
            "scope": SCOPE, "audiences": [AUDIENCE],
        })
    });
    let file = bench.new_folder().with_extension("json");
    let text = Value::Array(entries.collect()).to_string();
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    issuer.run(&["migrate"])?;
    issuer.run(&["clients", "import", &file.display().to_string(), "--json"])?;
    Ok(issuer)
}

/// Each request is of another client.
struct Clients {
    count: usize,
    next: usize,
}

impl Script for Clients {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        // A step that visits all of them, none near the one before.
        self.next = (self.next + 7919) % self.count;
        out.extend_from_slice(request("/oauth2/token", &format!("c{}", self.next)).as_bytes());
        true
    }
}

/// Sign-ins, refreshes and introspection with 1000 people and their sessions, and with many.
fn with_users(bench: &mut Bench<'_>) -> Result<()> {
    let names = ["login", "code", "refresh", "introspect"].map(|what| format!("growth/users-{what}"));
    if !names.iter().any(|name| bench.arguments.wants(name)) {
        return Ok(());
    }
    let many = if bench.arguments.quick { 20_000 } else { 1_000_000 };
    let few = 1_000;
    let (few_issuer, many_issuer) = (issuer_with_users(bench, few)?, issuer_with_users(bench, many)?);
    let (few_running, many_running) = (few_issuer.serve()?, many_issuer.serve()?);
    let (few_people, many_people) = (People::sign_in(&few_running, few)?, People::sign_in(&many_running, many)?);
    let note = format!("{many} users, sessions, grants and refresh tokens");
    let peer = format!("{few} users");
    let [login, code, refresh, introspect] = names;
    let connections = bench.pace.connections;
    bench.pace.connections = 4;
    if bench.arguments.wants(&login) {
        let theirs = Ready::new(few_people.sign_ins);
        let ours = Ready::new(many_people.sign_ins);
        bench.versus(&login, (&many_running, ours), (&peer, &few_running, theirs), Target::None)?;
        bench.note_last(&note);
    }
    bench.pace.connections = PEOPLE;
    if bench.arguments.wants(&introspect) {
        let theirs = Ready::new(few_people.questions);
        let ours = Ready::new(many_people.questions);
        bench.versus(&introspect, (&many_running, ours), (&peer, &few_running, theirs), Target::None)?;
        bench.note_last(&note);
    }
    if bench.arguments.wants(&code) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..bench.pace.rounds {
            ours.push(exchange_codes(&many_running, &many_people.cookies)?);
            theirs.push(exchange_codes(&few_running, &few_people.cookies)?);
        }
        bench.table.add(row(&code, &ours, (&peer, &theirs), Target::None));
        bench.note_last(&note);
    }
    if bench.arguments.wants(&refresh) {
        let theirs = Refresh { refresh_tokens: few_people.refresh_tokens };
        let ours = Refresh { refresh_tokens: many_people.refresh_tokens };
        bench.versus(&refresh, (&many_running, ours), (&peer, &few_running, theirs), Target::None)?;
        bench.note_last(&note);
    }
    bench.pace.connections = connections;
    Ok(())
}

/// What people across the whole database send.
struct People {
    cookies: Vec<String>,
    sign_ins: Vec<String>,
    questions: Vec<String>,
    refresh_tokens: Vec<String>,
}

impl People {
    fn sign_in(running: &Process, of: usize) -> Result<Self> {
        let names: Vec<String> = (0..PEOPLE).map(|index| format!("p{}", index * of / PEOPLE)).collect();
        let cookies = names.iter().map(|name| sign_in(running, name)).collect::<Result<Vec<_>>>()?;
        let mut exchange = Exchange::new(codes(running, &cookies, PEOPLE)?);
        Load::connect(running.address, LONG)?.run(&mut exchange)?;
        let question = |token: &String| post("/oauth2/introspect", &authorization(WEB), &format!("token={token}"));
        Ok(Self {
            sign_ins: names.iter().map(|name| sign_in_request(running, name)).collect(),
            questions: exchange.access_tokens.iter().map(question).collect(),
            refresh_tokens: exchange.refresh_tokens,
            cookies,
        })
    }
}

/// Redeems some codes, and measures that.
fn exchange_codes(running: &Process, cookies: &[String]) -> Result<Turn> {
    let mut exchange = Exchange::new(codes(running, cookies, 10 * PEOPLE)?);
    let mut load = Load::connect(running.address, LONG)?;
    measured(running, || load.run(&mut exchange))
}

/// Codes for people who are signed in.
fn codes(running: &Process, cookies: &[String], count: usize) -> Result<VecDeque<String>> {
    let mut authorize = Authorize { cookies, left: count, codes: VecDeque::new() };
    Load::connect(running.address, LONG)?.run(&mut authorize)?;
    Ok(authorize.codes)
}

/// A new issuer whose database has so many people, each with a session, a grant and a refresh token: written straight
/// into its tables, because signing them all in would take a day of hashing.
fn issuer_with_users(bench: &mut Bench<'_>, count: usize) -> Result<Issuer> {
    let issuer = bench.issuer(Settings { keys: ES256, tables: &clients(), ..Settings::default() })?;
    issuer.run(&["migrate"])?;
    say(&format!("bench: writing {count} users"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is wrong")?.as_secs();
    let later = now + 30 * 24 * 3600;
    let hash = password_hash();
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count} - 1) ");
    // Ids as the issuer makes them: random, so that rows which follow each other are not neighbours in an index.
    let inserts = [
        "INSERT INTO users (id, username, username_key, email_verified, claims, roles, groups, password_hash, disabled, \
         declared, created_at, updated_at, password_changed_at) WITHNUMBERS SELECT hex(randomblob(11)), 'p' || i, \
         'p' || i, 0, '{}', '[]', '[]', 'HASH', 0, 0, NOW, NOW, NOW FROM n",
        "INSERT INTO login_names (name, user_id) SELECT username_key, id FROM users",
        "INSERT INTO sessions (cookie_sha256, sid, user_id, auth_time, amr, acr, persistent, created_at, last_seen_at, \
         expires_at, idle_expires_at, user_agent, address) SELECT randomblob(32), hex(randomblob(11)), id, NOW, \
         '[\"pwd\"]', '1', 0, NOW, NOW, LATER, LATER, 'bench', '127.0.0.1' FROM users",
        "INSERT INTO grants (id, user_id, client_id, sid, offline, scope, audiences, auth_time, amr, acr, created_at, \
         alive_until) SELECT hex(randomblob(11)), user_id, 'WEB', sid, 1, '[\"offline_access\"]', '[\"AUDIENCE\"]', \
         auth_time, amr, acr, created_at, LATER FROM sessions",
        "INSERT INTO refresh_tokens (token_sha256, grant_id, issued_at, expires_at) SELECT randomblob(32), id, NOW, \
         LATER FROM grants",
    ];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let write = async {
        let mut connection = SqliteConnectOptions::new().filename(issuer.database()).connect().await?;
        sqlx::query("PRAGMA synchronous = OFF").execute(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        for insert in inserts {
            let insert = insert
                .replace("WITHNUMBERS", &numbers)
                .replace("HASH", &hash)
                .replace("LATER", &later.to_string())
                .replace("NOW", &now.to_string())
                .replace("WEB", WEB)
                .replace("AUDIENCE", AUDIENCE);
            sqlx::query(AssertSqlSafe(insert)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        connection.close().await
    };
    runtime.block_on(write).context("cannot write users into the database")?;
    Ok(issuer)
}

/// Tokens and key sets with one key published, and with 64.
fn with_keys(bench: &mut Bench<'_>) -> Result<()> {
    let names = ["token", "jwks"].map(|what| format!("growth/keys-{what}"));
    if !names.iter().any(|name| bench.arguments.wants(name)) {
        return Ok(());
    }
    let id = format!("{CLIENT}-ES256");
    let tables = client(&id, "ES256");
    let tokens = "access_ttl = \"1d\"";
    let settings = Settings { keys: ES256, tables: &tables, tokens, database: None };
    let (one, many) = (bench.issuer(settings)?, bench.issuer(settings)?);
    let (one, many_running) = (one.serve()?, many.serve()?);
    for _ in 1..KEYS {
        many.run(&["keys", "rotate", "--now", "--yes"])?;
    }
    let published = |running: &Process| -> Result<(usize, usize)> {
        let (_, _, body) = ask(running.address, &get(JWKS))?;
        let set: Value = serde_json::from_slice(&body).context("a key set that is no JSON")?;
        Ok((set["keys"].as_array().map_or(0, Vec::len), body.len()))
    };
    // A server hears of another process's change in a moment.
    let mut seen = published(&many_running)?;
    for _ in 0..100 {
        if seen.0 >= KEYS {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        seen = published(&many_running)?;
    }
    let few = published(&one)?;
    let note = format!("{} keys in {} bytes", seen.0, seen.1);
    let peer = format!("{} keys in {} bytes", few.0, few.1);
    for (name, text) in names.iter().zip([request("/oauth2/token", &id), get(JWKS)]) {
        if bench.arguments.wants(name) {
            let (ours, theirs) = (Same(text.clone()), Same(text));
            bench.versus(name, (&many_running, ours), (&peer, &one, theirs), Target::None)?;
            bench.note_last(&note);
        }
    }
    Ok(())
}

/// The key set for one fetcher, and for 10 000 that the server has to tell apart.
fn with_fetchers(bench: &mut Bench<'_>) -> Result<()> {
    let name = "growth/fetchers-jwks";
    if !bench.arguments.wants(name) {
        return Ok(());
    }
    let (one, many) = (bench.issuer(Settings::default())?, bench.issuer(Settings::default())?);
    let (one, many) = (one.serve()?, many.serve()?);
    let (ours, theirs) = (Fetchers { count: FETCHERS, next: 0 }, Fetchers { count: 1, next: 0 });
    bench.versus(name, (&many, ours), ("1 fetcher", &one, theirs), Target::None)?;
    let (few_mib, many_mib) = (resident_mib(one.pid())?.0, resident_mib(many.pid())?.0);
    bench.note_last(&format!("{FETCHERS} fetchers; {many_mib:.0} MiB, with 1 {few_mib:.0} MiB"));
    Ok(())
}

/// Each request is of another program.
struct Fetchers {
    count: usize,
    next: usize,
}

impl Script for Fetchers {
    fn request(&mut self, _: usize, request: &mut Vec<u8>) -> bool {
        self.next = (self.next + 1) % self.count;
        let line = format!("user-agent: fetcher-{:05}", self.next);
        request.extend_from_slice(get(JWKS).replace("user-agent: bench", &line).as_bytes());
        true
    }
}

/// A load that ends when it has what it wants.
const LONG: Plan = Plan { connections: PEOPLE, duration: Duration::from_secs(60), answers: u64::MAX, rate: None };

const KEYS: usize = 64;
const FETCHERS: usize = 10_000;
