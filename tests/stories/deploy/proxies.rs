//! The recipes of `deploy/proxies`, each run by the proxy that it is for, with addresses and certificate of the story's own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::recipe::{self, HOST};
use super::visitor::{ADDRESS, Visitor};
use crate::harness::{Issuer, Reply, Running, Settings, eventually, free_addresses, kids};

const PATIENCE: Duration = Duration::from_secs(30);
const BILLING: (&str, &str) = ("billing", Settings::SECRET);

/// Caches keep the key set for two seconds, and the proxies are on this machine.
const SETTINGS: Settings = Settings {
    server: "trusted_proxies = [\"127.0.0.1\"]\n",
    keys: "algorithms = [\"ES256\"]\njwks_shared_max_age = \"2s\"\n",
    tables: r#"
        [[client]]
        id = "billing"
        secret = "a-secret-of-the-billing-service-0123456789"
        grants = ["client_credentials"]
        scopes = ["invoices:read"]
        audiences = ["https://api.example.com"]

        [[user]]
        username = "alice"
        password = "violet-harbour-lantern-42"
    "#,
    ..Settings::PLAIN
};

/// A proxy with its recipe; killed when dropped.
pub(super) struct Proxy {
    /// Where it speaks TLS.
    pub(super) tls: SocketAddr,
    plain: SocketAddr,
    running: Running,
    folder: TempDir,
}

/// How a proxy says that an answer was kept.
enum Cache {
    /// In a header, with this value.
    Hit(&'static str, &'static str),
    /// In a header that is not there else.
    Age,
    None,
}

#[tokio::test]
async fn nginx_stands_before_keywheel() {
    stands_before_keywheel(Proxy::nginx, Cache::Hit("x-cache", "HIT")).await;
}

#[tokio::test]
async fn haproxy_stands_before_keywheel() {
    stands_before_keywheel(Proxy::haproxy, Cache::Age).await;
}

#[tokio::test]
async fn caddy_stands_before_keywheel() {
    stands_before_keywheel(Proxy::caddy, Cache::None).await;
}

#[test]
fn the_recipe_for_traefik_says_what_the_others_say() {
    let text = recipe::read("proxies/traefik.yml");
    for said in [HOST, "http://127.0.0.1:8080", "/readyz", "Forwarded: \"\"", "maxRequestBodyBytes: 65536"] {
        assert!(text.contains(said), "no {said}");
    }
}

async fn stands_before_keywheel(start: fn(&[SocketAddr]) -> Proxy, cache: Cache) {
    let issuer = Issuer::new(SETTINGS);
    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), &format!("issuer = \"https://{HOST}\""));
    let _issuing = issuer.serve().await;
    let mut proxy = start(&[issuer.listen]);
    proxy.listens().await;
    let mut visitor = proxy.visitor();

    // The name in every document is the public one.
    let discovery = visitor.get("/.well-known/openid-configuration").await.expect("an answer").json();
    let own = format!("https://{HOST}");
    assert_eq!(discovery["issuer"], own);
    for (name, value) in discovery.as_object().expect("an object") {
        if let Some(url) = value.as_str().filter(|_| name.ends_with("_endpoint") || name.ends_with("_uri")) {
            assert!(url.starts_with(&own), "{name}: {url}");
        }
    }
    let redirect = crate::harness::send(
        http::Request::get(format!("http://{}/login?a=b", proxy.plain))
            .header("host", HOST)
            .body(http_body_util::Full::default())
            .expect("a request"),
    );
    let redirect = redirect.await.expect("an answer");
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (308, &*format!("{own}/login?a=b")));

    // Services get tokens.
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", BILLING.0, BILLING.1);
    let token = visitor.post_form("/oauth2/token", form).await.expect("an answer");
    assert_eq!(token.status, 200, "{}\n{}", token.text(), proxy.log());
    assert_eq!(token.header("cache-control"), "no-store");

    // People sign in, with cookies that no other host can have set, and are known by their own address.
    visitor.sign_in("alice", "violet-harbour-lantern-42").await;
    assert!(!visitor.cookies.is_empty());
    assert!(visitor.cookies.keys().all(|name| name.starts_with("__Host-")), "{:?}", visitor.cookies.keys());
    let account = visitor.get("/account").await.expect("an answer");
    assert_eq!(account.status, 200, "{}", account.text());
    let sessions = issuer.json(&["users", "sessions", "alice"]).await;
    assert_eq!(addresses(&sessions), [ADDRESS.to_string()], "{sessions}");

    // What is for this machine stays there, and what is too large does not come in.
    for path in ["/readyz", "/healthz"] {
        assert_eq!(visitor.get(path).await.expect("an answer").status, 404, "{path}");
    }
    let large = visitor.post_form("/oauth2/token", "a=".to_owned() + &"b".repeat(100_000)).await;
    // A proxy may also end the connection.
    assert!(large.ok().is_none_or(|reply| reply.status == 413), "a large body came in");

    keeps_the_key_set(&issuer, &mut visitor, cache).await;
}

/// The key set may be kept by a proxy for two seconds; the pages of people and their cookies never.
async fn keeps_the_key_set(issuer: &Issuer, visitor: &mut Visitor, cache: Cache) {
    let was_kept = |reply: &Reply| match cache {
        Cache::Hit(name, value) => reply.header(name) == value,
        Cache::Age => reply.headers.contains_key("age"),
        Cache::None => false,
    };
    let jwks = async |visitor: &mut Visitor| {
        let reply = visitor.get("/.well-known/jwks.json").await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply
    };
    if !matches!(cache, Cache::None) {
        eventually("the key set comes from the cache", PATIENCE, async || {
            let mut visitor = visitor.clone();
            was_kept(&jwks(&mut visitor).await).then_some(())
        })
        .await;
    }
    let account = visitor.get("/account").await.expect("an answer");
    assert!(!was_kept(&account), "{account:?}");

    // A new key is seen when the two seconds are over.
    let revoked = issuer.jwks().await["keys"][0]["kid"].as_str().expect("kid").to_owned();
    let exit = issuer.command(&["keys", "revoke", &revoked, "--reason", "a story"]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let started = std::time::Instant::now();
    eventually("the revoked key is gone", PATIENCE, async || {
        let mut visitor = visitor.clone();
        (!kids(&jwks(&mut visitor).await.json()).contains(&revoked)).then_some(())
    })
    .await;
    // A second for the server itself, one for whole seconds, and the rest for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(8), "the key set was kept for {:?}", started.elapsed());
}

fn addresses(sessions: &Value) -> Vec<String> {
    let sessions = sessions.as_array().or_else(|| sessions["sessions"].as_array()).expect("a list of sessions");
    sessions.iter().map(|session| session["address"].as_str().expect("an address").to_owned()).collect()
}

impl Proxy {
    /// nginx, with as many servers behind it as there are addresses.
    pub(super) fn nginx(servers: &[SocketAddr]) -> Self {
        Self::start("/usr/sbin/nginx", servers, |place| {
            let (plain, tls) = (format!("listen {};", place.plain), format!("listen {} ssl", place.tls));
            // As compose.yaml does it.
            let known = "server 127.0.0.1:8080 max_fails=1 fail_timeout=5s;";
            let listed = servers.iter().map(|server| known.replace("127.0.0.1:8080", &server.to_string()));
            let listed = listed.collect::<Vec<_>>().join("\n");
            let cache = place.folder.join("cache").display().to_string();
            place.recipe(
                "nginx.conf",
                &[
                    ("    listen [::]:80;\n", ""),
                    ("    listen [::]:443 ssl http2;\n", ""),
                    ("listen 80;", &plain),
                    ("listen 443 ssl", &tls),
                    (known, &listed),
                    ("/etc/keywheel/tls", &place.secrets),
                    ("/var/cache/nginx-keywheel", &cache),
                ],
            );
            // What Debian's own nginx.conf has around the files in conf.d, but all in one process, which is all that is killed.
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = temporary.map(|of| format!("{of}_temp_path {of};\n")).concat();
            let main = place.write(
                "main.conf",
                &format!(
                    "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
                     http {{\naccess_log off;\n{temporary}include nginx.conf;\n}}\n"
                ),
            );
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(&place.folder).args(["-e", "stderr", "-c"]).arg(main);
            command
        })
    }

    fn haproxy(servers: &[SocketAddr]) -> Self {
        Self::start("/usr/sbin/haproxy", servers, |place| {
            let secrets = Path::new(&place.secrets);
            let pem = ["fullchain.pem", "privkey.pem"].map(|name| fs::read_to_string(secrets.join(name)).expect(name));
            place.write("haproxy.pem", &pem.concat());
            let (plain, tls) = (format!("bind {}", place.plain), format!("bind {} ssl", place.tls));
            let config = place.recipe(
                "haproxy.cfg",
                &[
                    ("bind :80", &plain),
                    ("bind :443 ssl", &tls),
                    ("server one 127.0.0.1:8080", &format!("server one {}", servers[0])),
                    ("/etc/keywheel/tls", &place.folder.display().to_string()),
                ],
            );
            let mut command = Command::new("/usr/sbin/haproxy");
            command.args(["-db", "-f"]).arg(config);
            command
        })
    }

    fn caddy(servers: &[SocketAddr]) -> Self {
        Self::start("/usr/bin/caddy", servers, |place| {
            let certificate = format!("tls {0}/fullchain.pem {0}/privkey.pem", place.secrets);
            place.recipe(
                "Caddyfile",
                &[
                    ("id.example.com {\n", &format!("id.example.com {{\n\tbind 127.0.0.1\n\t{certificate}\n")),
                    ("reverse_proxy 127.0.0.1:8080 {\n", &format!("reverse_proxy {} {{\n", servers[0])),
                ],
            );
            let (plain, tls) = (place.plain.port(), place.tls.port());
            // Its administration has a port that is the same for all.
            let main = place.write(
                "main.Caddyfile",
                &format!("{{\nadmin off\nhttp_port {plain}\nhttps_port {tls}\n}}\nimport Caddyfile\n"),
            );
            let mut command = Command::new("/usr/bin/caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(main);
            for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                command.env(variable, &place.folder);
            }
            command
        })
    }

    fn start(program: &str, servers: &[SocketAddr], command: impl FnOnce(&Place) -> Command) -> Self {
        assert!(
            Path::new(program).is_file() && !servers.is_empty(),
            "{program} is missing; `cargo xtask test` installs it"
        );
        let folder = TempDir::new().expect("a temporary folder");
        let secrets = recipe::prepare_secrets(folder.path());
        let [plain, tls] = free_addresses();
        let place = Place { folder: folder.path().to_owned(), secrets: secrets.display().to_string(), plain, tls };
        let mut command = command(&place);
        if let Some(nobody) = recipe::nobody() {
            command.uid(nobody).gid(nobody);
            give_away(folder.path(), nobody);
        }
        let running = Running::start(command, folder.path());
        Self { tls, plain, running, folder }
    }

    /// Waits until it does.
    pub(super) async fn listens(&mut self) {
        eventually("the proxy listens", PATIENCE, async || {
            if let Some(status) = self.running.has_ended() {
                panic!("the proxy ended at its start with {status}:\n{}", self.running.log());
            }
            TcpStream::connect(self.tls).await.ok()
        })
        .await;
    }

    pub(super) fn visitor(&self) -> Visitor {
        Visitor::of(self.tls, &self.folder.path().join("secrets"))
    }

    /// Everything it has written so far.
    pub(super) fn log(&self) -> String {
        self.running.log()
    }
}

/// Where a proxy runs.
struct Place {
    folder: PathBuf,
    secrets: String,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Place {
    /// Copies a recipe, with other words in it.
    fn recipe(&self, name: &str, changes: &[(&str, &str)]) -> PathBuf {
        let text = recipe::read(&format!("proxies/{name}"));
        self.write(name, &recipe::adapted(&text, changes))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("writing into a folder of our own");
        path
    }
}

fn give_away(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).expect("giving it away");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("our own folder") {
            give_away(&entry.expect("our own folder").path(), user);
        }
    }
}
