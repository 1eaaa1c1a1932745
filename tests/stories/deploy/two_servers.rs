//! What `deploy/compose` describes, without containers: PostgreSQL, `keywheel migrate`, two servers with one configuration and
//! one key-encryption key, and nginx with its recipe in front. One server after the other is stopped and started anew.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::proxies::Proxy;
use super::recipe::{self, HOST};
use super::visitor::Visitor;
use crate::harness::{Exit, Postgres, Running, eventually, free_addresses, get, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// Requests between one event and the next.
const SOME: usize = 150;
const SECRETS: &str = "/run/secrets";

/// One of the two.
struct Server {
    listen: SocketAddr,
    metrics: SocketAddr,
}

/// The folder that both are configured by.
struct Configured {
    folder: TempDir,
}

#[test]
fn compose_names_the_files_that_are_tested_here() {
    let compose = recipe::read("compose/compose.yaml");
    for said in [
        "../proxies/nginx.conf:/recipe/nginx.conf:ro",
        r#"s/server 127.0.0.1:8080 \(.*\)/server 172.30.80.11:8080 \1 server 172.30.80.12:8080 \1/"#,
        "./keywheel.toml:/etc/keywheel/keywheel.toml:ro",
        "command: [migrate]",
        "command: [serve]",
    ] {
        assert!(compose.contains(said), "no {said}");
    }
    for secret in ["kek", "database-url", "postgres-password", "fullchain.pem", "privkey.pem"] {
        assert!(compose.contains(&format!("file: ./secrets/{secret} ")), "no {secret}");
    }
}

#[tokio::test]
async fn one_of_two_servers_may_stop_at_any_time() {
    let postgres = Postgres::serve().await;
    let configured = Configured::new(&postgres);
    let migrated = configured.run(&["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let added = configured.run(&["clients", "add", "reports", "--scope", "x", "--json"]).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    let added: serde_json::Value = serde_json::from_str(&added.stdout).expect("JSON");
    let secret = added["client_secret"].as_str().expect("a secret").to_owned();
    let servers = [Server::new(), Server::new()];
    let mut running = Vec::new();
    for server in &servers {
        running.push(configured.serve(server).await);
    }
    let mut proxy = Proxy::nginx(&servers.each_ref().map(|server| server.listen));
    proxy.listens().await;

    let load = Load::start(&proxy.visitor(), &secret);
    load.answers(SOME).await;
    for (index, server) in servers.iter().enumerate() {
        let stopped = running.remove(0).stop().await;
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        load.answers(SOME).await;
        running.push(configured.serve(server).await);
        // Longer than nginx leaves a server alone that did not answer: requests reach both again.
        eventually("the server that came back is asked", PATIENCE, async || {
            (signed(server).await > 10.0).then_some(())
        })
        .await;
        load.answers(SOME * index).await;
    }
    let failures = load.stop().await;

    assert_eq!(failures, Vec::<String>::new(), "nginx:\n{}", proxy.log());
}

/// How many tokens a server has signed.
async fn signed(server: &Server) -> f64 {
    let metrics = get(&format!("http://{}/metrics", server.metrics)).await.expect("metrics");
    let lines = metrics.text().lines().filter(|line| line.starts_with("keywheel_tokens_signed_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Clients that ask for tokens, keys and discovery, one request after the other, until they are stopped.
struct Load {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    fn start(visitor: &Visitor, secret: &str) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut clients = JoinSet::new();
        for _ in 0..6 {
            let (mut visitor, answered, stop) = (visitor.clone(), Arc::clone(&answered), Arc::clone(&stop));
            let form = format!("grant_type=client_credentials&client_id=reports&client_secret={secret}");
            clients.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    for reply in [
                        visitor.post_form("/oauth2/token", form.clone()).await,
                        visitor.get("/.well-known/jwks.json").await,
                        visitor.get("/login").await,
                    ] {
                        match reply {
                            Ok(reply) if reply.status == 200 => {}
                            other => failures.push(format!("{other:?}")),
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
                failures
            });
        }
        Self { answered, stop, clients }
    }

    /// Waits until so many more requests were answered.
    async fn answers(&self, more: usize) {
        let enough = self.answered.load(Ordering::SeqCst) + more;
        eventually("requests are answered", PATIENCE, async || {
            (self.answered.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
    }

    /// What went wrong.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.concat()
    }
}

impl Server {
    fn new() -> Self {
        let [listen, metrics] = free_addresses();
        Self { listen, metrics }
    }
}

impl Configured {
    fn new(postgres: &Postgres) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let secrets = recipe::prepare_secrets(folder.path());
        // The database of a container has another address and a password.
        fs::write(secrets.join("database-url"), postgres.url()).expect("writing the address");
        let text = recipe::read("compose/keywheel.toml");
        assert!(text.contains(&format!("\"https://{HOST}\"")), "{text}");
        let here = secrets.display().to_string();
        let text = recipe::adapted(&text, &[(SECRETS, &here), ("172.30.80.0/24", "127.0.0.1")]);
        fs::write(folder.path().join("keywheel.toml"), text).expect("writing the configuration");
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.folder.path().join("keywheel.toml"));
        command
    }

    async fn run(&self, arguments: &[&str]) -> Exit {
        Exit::of(self.command(arguments), self.folder.path(), "").await
    }

    /// Starts a server, and waits until it is ready.
    async fn serve(&self, server: &Server) -> Running {
        let mut command = self.command(&["serve"]);
        command.env("KEYWHEEL_SERVER__LISTEN", server.listen.to_string());
        command.env("KEYWHEEL_SERVER__METRICS_LISTEN", server.metrics.to_string());
        let mut running = Running::start(command, self.folder.path());
        eventually("the server is ready", PATIENCE, async || {
            if let Some(status) = running.has_ended() {
                panic!("the server ended at its start with {status}:\n{}", running.log());
            }
            get(&format!("http://{}/readyz", server.metrics)).await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        running
    }
}
