//! All that a busy day brings, at once: people sign in, apps refresh and revoke, services ask for tokens and key sets, keys
//! turn every few seconds, and in the middle of it both replicas behind nginx are restarted, one after the other. No request
//! fails, no valid token is refused, and memory stays where it was.
//!
//! `cargo xtask soak --mixed` runs it for longer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::AsyncFn;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use http::Request;
use http::header::{AUTHORIZATION, IF_NONE_MATCH};
use http_body_util::Full;
use keywheel_verifier::{AccessTokenClaims, Limits, Policy, Verifier};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    End, Issuer, Kept, Person, Postgres, Reply, Running, Settings, claims, eventually, free_addresses, get, kid,
    unix_now, until,
};

const ALICE: (&str, &str) = ("alice", "violet-harbour-lantern-42");
const SHOP: (&str, &str) = ("shop", "a-secret-of-the-shop-0123456789-abcdefgh");
const API: &str = "https://api.example.com";
const CALLBACK: &str = "https://app.example/callback";
const TABLES: &str = r#"
    [[user]]
    username = "alice"
    password = "violet-harbour-lantern-42"
    roles = ["customer"]

    [[client]]
    id = "shop"
    secret = "a-secret-of-the-shop-0123456789-abcdefgh"
    grants = ["authorization_code", "refresh_token", "client_credentials"]
    redirect_uris = ["https://app.example/callback"]
    scopes = ["openid", "roles", "offline_access", "orders:read"]
    audiences = ["https://api.example.com"]
    first_party = true
"#;
/// A server leaves more slowly than nginx forgives the other one for having been away: otherwise nginx knows of none.
const SETTINGS: Settings = Settings {
    server: "trusted_proxies = [\"127.0.0.1\"]\nshutdown_delay = \"3s\"",
    keys: r#"
        algorithms = ["ES256"]
        rotate_every = "7s"
        announce = "6s"
        jwks_max_age = "1s"
        jwks_shared_max_age = "1s"
        clock_skew = "1s"
        poll = "1s"
        max_staleness = "5s"
    "#,
    tokens: "access_ttl = \"5s\"\nid_ttl = \"5s\"",
    tables: TABLES,
};
/// How long it goes on in every run of the tests.
const SECONDS: f64 = 30.0;
/// Longer than any start on a busy machine, and any answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests of one actor.
const PACE: f64 = 0.05;
/// How long before its end a token is judged once more.
const BEFORE_END: f64 = 0.5;
/// What a process may take more at the end of a long day than in its morning: pools and caches that fill once.
const ROOM_KIB: u64 = 8 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_day_with_a_rolling_restart_fails_nobody() {
    let seconds = std::env::var("KEYWHEEL_SOAK_MINUTES").map_or(SECONDS, |minutes| {
        minutes.parse::<f64>().unwrap_or_else(|_| panic!("expected minutes, found {minutes:?}")) * 60.0
    });
    let postgres = Postgres::serve().await;
    let [front, _] = free_addresses();
    let url = format!("http://{front}");
    let replicas = [(); 2].map(|()| Issuer::replica(SETTINGS, &url, &postgres.url(), 0.0));
    let mut running = Vec::new();
    for replica in &replicas {
        running.push(replica.serve().await);
    }
    let proxy = TempDir::new().expect("a temporary folder");
    let nginx = nginx(front, replicas.each_ref().map(|replica| replica.listen), proxy.path()).await;
    let day = Day::new(url, seconds);

    let (watched, ..) = tokio::join!(
        day.restart_and_watch(&replicas, &mut running),
        day.serve_services(),
        day.serve_services(),
        day.refresh(),
        day.refresh(),
        day.sign_in_and_revoke(),
        day.fetch_keys(),
        day.judge_late(),
    );

    let report = day.report.lock().expect("no panic while noting");
    let table = report.table(seconds, &watched);
    let _ = writeln!(std::io::stderr(), "{table}");
    assert_eq!(report.failures, [""; 0], "something failed\n{table}\n{}", nginx.log());
    assert!(report.signers.len() >= 3, "keys have turned too little\n{table}");
    for what in ["client_credentials", "refresh", "sign-in", "revocation", "key set", "verdict"] {
        assert!(report.done.get(what).is_some_and(|count| *count >= 10), "too few of {what}\n{table}");
    }
    for (replica, memory) in watched.iter().enumerate() {
        let (morning, evening) = memory.ends();
        assert!(evening <= morning + morning / 10 + ROOM_KIB, "replica {replica} grows\n{table}");
    }
}

/// What everybody does, and what came of it.
struct Day {
    url: String,
    start: f64,
    seconds: f64,
    http: Kept,
    verifier: Verifier,
    report: Mutex<Report>,
    /// Tokens to be judged once more, by their ends.
    later: Mutex<VecDeque<(f64, String)>>,
}

#[derive(Default)]
struct Report {
    /// How often what went well.
    done: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
    signers: BTreeSet<String>,
}

/// Resident memory of a process since its restart, in KiB.
#[derive(Default)]
struct Memory(Vec<u64>);

impl Memory {
    /// The middle value of the first third and of the last: pools fill at the beginning, and single looks say little.
    fn ends(&self) -> (u64, u64) {
        let third = (self.0.len() / 3).max(1);
        let middle = |values: &[u64]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values.get(values.len() / 2).copied().expect("the restart left time to look")
        };
        (middle(&self.0[..third]), middle(&self.0[self.0.len() - third..]))
    }
}

impl Report {
    fn table(&self, seconds: f64, watched: &[Memory]) -> String {
        let mut rows = vec![("time", format!("{seconds:.0} s, two replicas behind nginx, each restarted once"))];
        rows.push(("signing keys", self.signers.len().to_string()));
        rows.extend(self.done.iter().map(|(what, count)| (*what, count.to_string())));
        rows.push(("failures", self.failures.len().to_string()));
        for memory in watched {
            let (morning, evening) = memory.ends();
            rows.push(("memory", format!("{:.1} MiB, then {:.1}", morning as f64 / 1024.0, evening as f64 / 1024.0)));
        }
        let mut table = String::from("a mixed day\n");
        for (name, value) in rows {
            let _ = writeln!(table, "  {name:<20}{value}");
        }
        table
    }
}

impl Day {
    fn new(url: String, seconds: f64) -> Self {
        let policy = Policy::access_token(&url, API).with_leeway(Duration::from_secs(1)).expect("a short leeway");
        // It keeps sets for as long as the issuer says, and not for its own least time.
        let limits = Limits { freshness_floor: Duration::ZERO, ..Limits::default() };
        let verifier = Verifier::builder(policy).limits(limits).build().expect("a verifier");
        Self {
            url,
            start: unix_now(),
            seconds,
            http: Kept::new(),
            verifier,
            report: Mutex::default(),
            later: Mutex::default(),
        }
    }

    /// Services ask for tokens of their own.
    async fn serve_services(&self) {
        self.again(async |day| {
            let form = "grant_type=client_credentials&scope=orders%3Aread";
            let tokens = day.token("client_credentials", form).await?;
            day.judge(text(&tokens, "access_token")).await
        })
        .await
    }

    /// An app refreshes for as long as the day lasts, and never has to send anybody to sign in again.
    async fn refresh(&self) {
        let Some(mut tokens) = self.sign_in().await else { return };
        while self.goes_on() {
            let form = format!("grant_type=refresh_token&refresh_token={}", text(&tokens, "refresh_token"));
            let Some(next) = self.token("refresh", &form).await else { break };
            tokens = next;
            self.judge(text(&tokens, "access_token")).await;
            until(unix_now() + PACE).await;
        }
    }

    /// People come, look at something, and go; what they allowed ends with them.
    async fn sign_in_and_revoke(&self) {
        self.again(async |day| {
            let tokens = day.sign_in().await?;
            let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
            let request = Request::get(format!("{}/oauth2/userinfo", day.url));
            let request = request.header(AUTHORIZATION, format!("Bearer {access}"));
            let reply = day.send("userinfo", request.body(Full::default()).expect("a request")).await?;
            day.expect("userinfo", &reply, 200)?;
            let reply = day.post("/oauth2/revoke", &format!("token={refresh}")).await?;
            day.expect("revocation", &reply, 200)?;
            // Wherever it is asked, at once.
            let form = format!("grant_type=refresh_token&refresh_token={refresh}");
            let reply = day.post("/oauth2/token", &form).await?;
            day.expect("refused as revoked", &reply, 400)?;
            let reply = day.post("/oauth2/introspect", &format!("token={access}")).await?;
            day.expect("introspection", &reply, 200)?;
            (reply.json()["active"] == false)
                .then_some(())
                .or_else(|| day.fail(format!("a revoked token: {}", reply.text())))
        })
        .await
    }

    /// Verifiers fetch the key set, mostly to hear that it is the same.
    async fn fetch_keys(&self) {
        let etag = Mutex::new(String::new());
        self.again(async |day| {
            let known = etag.lock().expect("no panic").clone();
            let request = Request::get(format!("{}/.well-known/jwks.json", day.url)).header(IF_NONE_MATCH, known);
            let reply = day.send("key set", request.body(Full::default()).expect("a request")).await?;
            let status = if reply.status == 304 { 304 } else { 200 };
            day.expect("key set", &reply, status)?;
            *etag.lock().expect("no panic") = reply.header("etag").to_owned();
            Some(())
        })
        .await
    }

    /// Restarts one replica after the other in the middle of the day, and looks at the memory of each afterwards.
    async fn restart_and_watch(&self, replicas: &[Issuer; 2], running: &mut Vec<Running>) -> Vec<Memory> {
        let mut watched = vec![Memory::default(), Memory::default()];
        until(self.start + self.seconds * 0.3).await;
        for replica in replicas {
            let exit = running.remove(0).stop().await;
            assert_eq!(exit.code, Some(0), "{exit:?}");
            running.push(replica.serve().await);
        }
        while self.goes_on() {
            for (process, memory) in running.iter().zip(&mut watched) {
                memory.0.push(process.resident_kib());
            }
            until(unix_now() + 0.5).await;
        }
        watched
    }

    /// Does something until the day ends; what fails is noted, and the next one is tried.
    async fn again(&self, deed: impl AsyncFn(&Self) -> Option<()>) {
        while self.goes_on() {
            // What fails is noted.
            deed(self).await;
            until(unix_now() + PACE).await;
        }
    }

    /// A whole sign-in with a password, and the app's tokens.
    async fn sign_in(&self) -> Option<Value> {
        let mut alice = Person::at(&self.url, ALICE.0, ALICE.1);
        let scope = "openid+roles+offline_access+orders%3Aread";
        let callback = "https%3A%2F%2Fapp.example%2Fcallback";
        let query = format!("client_id=shop&response_type=code&redirect_uri={callback}&scope={scope}");
        let callback = match alice.go(&format!("{}/oauth2/authorize?{query}", self.url)).await {
            End::Sent(url) => url,
            other => return self.fail(format!("at {:.1} s: {other:?}", unix_now() - self.start)),
        };
        let code = callback.split(['?', '&']).find_map(|pair| pair.strip_prefix("code="));
        let Some(code) = code else { return self.fail(format!("no code: {callback}")) };
        let form = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}");
        let tokens = self.token("sign-in", &form).await?;
        self.judge(text(&tokens, "access_token")).await?;
        Some(tokens)
    }

    async fn token(&self, what: &'static str, form: &str) -> Option<Value> {
        let reply = self.post("/oauth2/token", form).await?;
        self.expect(what, &reply, 200)?;
        let tokens = reply.json();
        self.report.lock().expect("no panic while noting").signers.insert(kid(text(&tokens, "access_token")));
        Some(tokens)
    }

    /// Has a token verified, now and, by [`Self::judge_late`], shortly before its end.
    async fn judge(&self, token: &str) -> Option<()> {
        self.verify(token).await?;
        let exp = claims(token)["exp"].as_f64().expect("exp");
        self.later.lock().expect("no panic while noting").push_back((exp, token.to_owned()));
        Some(())
    }

    /// All tokens live equally long, so they come to their ends in the order in which they were issued.
    async fn judge_late(&self) {
        while self.goes_on() {
            let next = self.later.lock().expect("no panic while noting").pop_front();
            match next {
                Some((exp, token)) => {
                    until(exp - BEFORE_END).await;
                    if unix_now() < exp {
                        self.verify(&token).await;
                    }
                }
                None => until(unix_now() + PACE).await,
            }
        }
    }

    async fn verify(&self, token: &str) -> Option<()> {
        match self.verifier.verify::<AccessTokenClaims>(token).await {
            Ok(_) => self.note("verdict"),
            Err(error) => {
                let end = claims(token)["exp"].as_f64().unwrap_or_default() - unix_now();
                self.fail(format!("refused {end:.1} s before its end: {error:?}, kid {}", kid(token)))
            }
        }
    }

    async fn post(&self, path: &str, form: &str) -> Option<Reply> {
        match self.http.post_form(&format!("{}{path}", self.url), form, Some(SHOP)).await {
            Ok(reply) => Some(reply),
            Err(error) => self.fail(format!("{path}: {error}")),
        }
    }

    async fn send(&self, what: &str, request: Request<Full<bytes::Bytes>>) -> Option<Reply> {
        match self.http.send(request).await {
            Ok(reply) => Some(reply),
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    fn expect(&self, what: &'static str, reply: &Reply, status: u16) -> Option<()> {
        match reply.status.as_u16() == status {
            true => self.note(what),
            false => {
                self.fail(format!("{what} at {:.1} s: {} {}", unix_now() - self.start, reply.status, reply.text()))
            }
        }
    }

    fn note(&self, what: &'static str) -> Option<()> {
        *self.report.lock().expect("no panic while noting").done.entry(what).or_default() += 1;
        Some(())
    }

    fn fail<T>(&self, failure: String) -> Option<T> {
        self.report.lock().expect("no panic while noting").failures.push(failure);
        None
    }

    fn goes_on(&self) -> bool {
        unix_now() < self.start + self.seconds
    }
}

/// Debian's nginx with the recipe of `deploy/proxies`, but for what TLS takes, before both replicas.
async fn nginx(front: SocketAddr, replicas: [SocketAddr; 2], folder: &Path) -> Running {
    let recipe = include_str!("../../deploy/proxies/nginx.conf");
    // The first server only sends people from http to https.
    let (before, rest) = recipe.split_once("server {").expect("a server");
    let (_, server) = rest.split_once("\nserver {").expect("another server");
    let server: Vec<&str> = server.lines().filter(|line| !line.contains("ssl_") && !line.contains("[::]")).collect();
    let mut recipe = format!("{before}server {{{}\n", server.join("\n"));
    let [one, two] = replicas.map(|replica| format!("server {replica} max_fails=1 fail_timeout=1s;"));
    let cache = folder.join("cache");
    for (old, new) in [
        ("server 127.0.0.1:8080 max_fails=1 fail_timeout=5s;", &*format!("{one}\n{two}")),
        ("listen 443 ssl http2;", &format!("listen {front};")),
        ("X-Forwarded-Proto https", "X-Forwarded-Proto http"),
        ("$host", "$http_host"),
        ("/var/cache/nginx-keywheel", &cache.display().to_string()),
    ] {
        assert!(recipe.contains(old), "no `{old}` in the recipe");
        recipe = recipe.replace(old, new);
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|of| format!("{of}_temp_path {of};\n")).concat();
    fs::write(folder.join("keywheel.conf"), recipe).expect("writing the recipe");
    let main = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}include keywheel.conf;\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), main).expect("writing the configuration");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(folder.join("nginx.conf"));
    let mut running = Running::start(command, folder);
    eventually("nginx answers", PATIENCE, async || {
        if let Some(status) = running.has_ended() {
            panic!("nginx ended at its start with {status}:\n{}", running.log());
        }
        get(&format!("http://{front}/.well-known/jwks.json")).await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    running
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}
