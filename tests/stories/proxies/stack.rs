//! Everything between a client and the service: issuer, gate and proxy, each a process.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::time::Duration;

use http::{Request, header};
use http_body_util::Full;
use rustix::process::getuid;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::product::Product;
use super::recipe::{Place, recipe};
use super::service::Service;
use crate::harness::{Gate, Issuer, RawReply, Reply, Running, Settings, eventually, free_addresses, send, send_raw};

/// A client of the issuer that may read and write invoices.
pub(super) const BILLING: (&str, &str) = ("billing", Settings::SECRET);

/// Keys turn every few seconds. `announce` ≥ 1 + 1 + 2 × 1 + 0 s, and a second of room for a busy machine.
pub(super) const ROTATING: Settings = Settings {
    keys: r#"
        algorithms = ["ES256"]
        rotate_every = "5s"
        announce = "5s"
        jwks_max_age = "1s"
        jwks_shared_max_age = "1s"
        clock_skew = "0s"
        poll = "1s"
        max_staleness = "4s"
    "#,
    tokens: "access_ttl = \"30s\"\n",
    ..Settings::PLAIN
};

/// For a gate that has no keys soon after it has lost its issuer.
pub(super) const SOON_WITHOUT_KEYS: &[(&str, &str)] = &[
    ("ISSUER__0__FRESHNESS_FLOOR", "0s"),
    ("ISSUER__0__FRESHNESS_CEILING", "1s"),
    ("ISSUER__0__FRESHNESS_DEFAULT", "1s"),
    ("ISSUER__0__TRUSTED", "2s"),
];

/// Longer than any proxy takes to start.
const START: Duration = Duration::from_secs(20);
/// Whom Debian has for programs that need no rights: user nobody, group nogroup.
const NOBODY: u32 = 65534;

/// All of it; killed when dropped.
pub(super) struct Stack {
    pub(super) issuer: Issuer,
    /// Where the proxy listens.
    pub(super) listen: SocketAddr,
    pub(super) service: Service,
    issuing: Option<Running>,
    gate: Option<Gate>,
    proxy: Proxy,
}

/// A proxy with its recipe; killed when dropped.
pub(super) struct Proxy {
    pub(super) listen: SocketAddr,
    running: Running,
    _folder: TempDir,
}

impl Stack {
    /// Starts everything, with the recipe of `P` and [`gate_toml`] but for what is set by `gate_settings`.
    pub(super) async fn serve<P: Product>(issuer: Settings, gate_settings: &[(&str, &str)]) -> Self {
        let issuer = Issuer::new(issuer);
        let issuing = issuer.serve().await;
        let service = Service::serve().await;
        let config = P::gate_config(&gate_toml(), service.listen);
        let url = issuer.url();
        let gate = Gate::with_settings(&config, &[&[("ISSUER__0__URL", &url[..])], gate_settings].concat()).await;

        let proxy = Proxy::serve::<P>(gate.listen, service.listen).await;
        Self { issuer, listen: proxy.listen, service, issuing: Some(issuing), gate: Some(gate), proxy }
    }

    /// The URL of a path at the proxy.
    pub(super) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Reply {
        let request = Request::get(self.at(path)).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let reply = send(request.body(Full::default()).expect("a request")).await;
        reply.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    /// Sends bytes to the proxy as they are. They should ask for an end of the connection.
    pub(super) async fn raw(&self, request: &str) -> RawReply {
        send_raw(self.listen, &[request.as_bytes()], Duration::ZERO).await
    }

    /// Kills the issuer.
    pub(super) async fn lose_issuer(&mut self) {
        self.issuing.take().expect("it runs").kill().await;
    }

    /// Kills the gate.
    pub(super) async fn lose_gate(&mut self) {
        self.gate.take().expect("it runs").kill().await;
    }

    /// What gate and proxy have written, for the message of a failure.
    pub(super) fn logs(&self) -> String {
        let gate = self.gate.as_ref().map(Gate::log).unwrap_or_default();
        format!("the gate's log:\n{gate}\nthe proxy's log:\n{}", self.proxy.running.log())
    }
}

impl Proxy {
    /// Starts `P` in front of a gate and a service, and waits until it listens.
    pub(super) async fn serve<P: Product>(gate: SocketAddr, service: SocketAddr) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let [listen, _] = free_addresses();
        let mut command = P::command(&Place { folder: folder.path(), listen, gate, service });
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
            for entry in fs::read_dir(folder.path()).expect("our own folder") {
                chown(entry.expect("our own folder").path(), Some(NOBODY), Some(NOBODY)).expect("giving a file away");
            }
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("giving the folder away");
        }
        let mut running = Running::start(command, folder.path());
        eventually("the proxy listens", START, async || {
            if let Some(status) = running.has_ended() {
                panic!("{} ended at its start with {status}:\n{}", P::PROGRAM, running.log());
            }
            TcpStream::connect(listen).await.ok()
        })
        .await;
        Self { listen, running, _folder: folder }
    }
}

/// The gate's recipe, with other claims in the place of those that a service's token does not have: so that each header has
/// a value.
pub(super) fn gate_toml() -> String {
    let recipe = recipe("gate.toml");
    [("\"roles\"", "\"jti\""), ("\"email\"", "\"aud\"")].iter().fold(recipe, |text, (claim, other)| {
        assert!(text.contains(claim), "no {claim} in {text}");
        text.replace(claim, other)
    })
}
