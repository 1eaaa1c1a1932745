//! The program under test, run as its users run it: a process with a configuration file, ports, signals and an exit code.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::http::{Reply, get, post_form};
use super::wait::eventually;

/// Longer than any start takes, the generation of RSA keys in a debug build included.
const START: Duration = Duration::from_secs(60);
/// Longer than any command takes.
const COMMAND: Duration = Duration::from_secs(60);

/// What a story sets in the configuration, as lines of TOML below their table's header.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) server: &'static str,
    pub(crate) keys: &'static str,
    pub(crate) tokens: &'static str,
    /// Whole tables, such as `[[client]]`.
    pub(crate) tables: &'static str,
}

impl Settings {
    /// One fast ring, and a client `billing` with the secret [`Settings::SECRET`].
    pub(crate) const PLAIN: Self =
        Self { server: "", keys: r#"algorithms = ["ES256"]"#, tokens: "", tables: Self::BILLING };
    pub(crate) const SECRET: &'static str = "a-secret-of-the-billing-service-0123456789";
    pub(crate) const AUDIENCE: &'static str = "https://api.example.com";
    const BILLING: &'static str = r#"
        [[client]]
        id = "billing"
        secret = "a-secret-of-the-billing-service-0123456789"
        grants = ["client_credentials"]
        scopes = ["invoices:read", "invoices:write"]
        audiences = ["https://api.example.com", "https://other.example.com"]
    "#;
}

/// An issuer's folder: configuration, key-encryption key, database. It may be running or not.
pub(crate) struct Issuer {
    folder: TempDir,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// How far the server's clock is ahead, in seconds.
    clock_ahead: f64,
}

impl Issuer {
    pub(crate) fn new(settings: Settings) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let [listen, metrics] = free_addresses();
        let issuer = Self { folder, listen, metrics, clock_ahead: 0.0 };
        // 32 bytes in base64. Its strength does not matter here; that it is the same key at every start does.
        fs::write(issuer.path("kek"), "a2V5d2hlZWwgc3RvcmllcywgMzIgYnl0ZXMgbG9uZyE=\n").expect("writing the key");
        issuer.configure(settings);
        issuer
    }

    /// One of several servers that share `database` and speak as the issuer `url`. Its clock is `clock_ahead` seconds ahead;
    /// commands run by the right one.
    pub(crate) fn replica(settings: Settings, url: &str, database: &str, clock_ahead: f64) -> Self {
        let replica = Self { clock_ahead, ..Self::new(settings) };
        replica.edit_config(&format!("issuer = \"{}\"", replica.url()), &format!("issuer = \"{url}\""));
        replica.use_database(database);
        replica
    }

    /// From the next start on.
    pub(crate) fn set_clock_ahead(&mut self, seconds: f64) {
        self.clock_ahead = seconds;
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, settings: Settings) {
        let Self { listen, metrics, .. } = self;
        let Settings { server, keys, tokens, tables } = settings;
        let (url, folder) = (self.url(), self.folder.path().display());
        let text = format!(
            "issuer = \"{url}\"\n\
             [server]\nlisten = \"{listen}\"\nmetrics_listen = \"{metrics}\"\n{server}\n\
             [storage]\nurl = \"sqlite://{folder}/keywheel.db\"\n\
             [keys]\nencryption_key_file = \"{folder}/kek\"\n{keys}\n\
             [tokens]\n{tokens}\n\
             {tables}\n"
        );
        fs::write(self.config_file(), text).expect("writing the configuration");
    }

    /// Makes it sign in another issuer's name, with keys of its own.
    pub(crate) fn claim_to_be(&self, other: &Self) {
        self.edit_config(&format!("issuer = \"{}\"", self.url()), &format!("issuer = \"{}\"", other.url()));
    }

    /// Replaces a part of the configuration, which has to be there.
    pub(crate) fn edit_config(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.config_file()).expect("reading the configuration");
        assert!(text.contains(old), "no `{old}` in {text}");
        fs::write(self.config_file(), text.replace(old, new)).expect("writing the configuration");
    }

    /// Adds tables at the end of the configuration.
    pub(crate) fn append_config(&self, tables: &str) {
        let text = fs::read_to_string(self.config_file()).expect("reading the configuration");
        fs::write(self.config_file(), format!("{text}\n{tables}\n")).expect("writing the configuration");
    }

    /// Keeps everything in another database than its own.
    pub(crate) fn use_database(&self, url: &str) {
        self.edit_config(&format!("sqlite://{}/keywheel.db", self.folder.path().display()), url);
    }

    /// Starts `keywheel serve` and waits until it is ready.
    pub(crate) async fn serve(&self) -> Running {
        self.wait_for(self.start()).await
    }

    /// The same, with all it can log.
    pub(crate) async fn serve_talkative(&self) -> Running {
        let mut command = self.serve_command();
        command.env("KEYWHEEL_LOG", "debug,keywheel=trace");
        self.wait_for(Running::start(command, self.folder.path())).await
    }

    async fn wait_for(&self, mut running: Running) -> Running {
        eventually("the server is ready", START, async || {
            if let Some(status) = running.has_ended() {
                panic!("the server ended at its start with {status}:\n{}", running.log());
            }
            self.readiness().await.filter(|reply| reply.status == 200)
        })
        .await;
        running
    }

    /// What `/readyz` answers, if anything does.
    pub(crate) async fn readiness(&self) -> Option<Reply> {
        get(&format!("http://{}/readyz", self.metrics)).await.ok()
    }

    /// Starts `keywheel serve` and does not wait.
    pub(crate) fn start(&self) -> Running {
        Running::start(self.serve_command(), self.folder.path())
    }

    pub(crate) fn serve_command(&self) -> Command {
        let mut command = program();
        command.arg("serve").arg("--config").arg(self.config_file());
        if self.clock_ahead != 0.0 {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("{:+}s", self.clock_ahead));
            // Timers go by the monotonic clock, which nobody sets wrong.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    /// Runs `keywheel ARGUMENTS --config …` to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Exit {
        self.command_with_input(arguments, "").await
    }

    /// The same, with something to read on standard input.
    pub(crate) async fn command_with_input(&self, arguments: &[&str], input: &str) -> Exit {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.config_file());
        Exit::of(command, self.folder.path(), input).await
    }

    /// Runs a command that has to succeed, with `--json`, and reads what it printed.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let exit = self.command(&[arguments, &["--json"]].concat()).await;
        assert_eq!(exit.code, Some(0), "`keywheel {}`: {exit:?}", arguments.join(" "));
        serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {exit:?}"))
    }

    /// An access token for `client`, which has to be granted.
    pub(crate) async fn token(&self, client: (&str, &str)) -> String {
        let reply = self.token_reply("grant_type=client_credentials", client).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["access_token"].as_str().expect("an access token").to_owned()
    }

    pub(crate) async fn token_reply(&self, form: &str, client: (&str, &str)) -> Reply {
        post_form(&self.at("/oauth2/token"), form, Some(client)).await.expect("an answer from the token endpoint")
    }

    /// The key set as it is published at this moment.
    pub(crate) async fn jwks(&self) -> Value {
        let reply = get(&self.jwks_uri()).await.expect("an answer with the key set");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    pub(crate) fn jwks_uri(&self) -> String {
        self.at("/.well-known/jwks.json")
    }

    /// The issuer identifier.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The URL of a path on the public listener.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("keywheel.toml")
    }
}

/// A running `keywheel serve`; killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Running {
    /// Starts any long-running command in `folder`, collecting what it writes to stdout and stderr.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("starting keywheel");
        let log = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let (to_log, also_to_log) = (Arc::clone(&log), Arc::clone(&log));
        let reading = tokio::spawn(async move {
            tokio::join!(collect(stdout, &to_log), collect(stderr, &also_to_log));
        });
        Self { child, log, reading }
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub(crate) async fn stop(mut self) -> Exit {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it (SIGKILL), as a power cut would, and waits for its end.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("asking for the process")
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(&mut self) -> Exit {
        let status = tokio::time::timeout(COMMAND, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("still running after {COMMAND:?}:\n{}", self.log()));
        let status = status.expect("waiting for the process");
        (&mut self.reading).await.expect("collecting the output");
        Exit { code: status.code(), stdout: String::new(), stderr: self.log() }
    }

    /// Resident memory in KiB, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that it ever used.
    pub(crate) fn peak_resident_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line with it");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// Everything it has written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic while collecting").clone()
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("a process that was not waited for")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("a pid that is not 0");
        kill_process(pid, signal).expect("sending a signal to our own child");
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// Nothing when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    /// Runs `command` in `folder` to its end.
    pub(crate) async fn of(mut command: Command, folder: &Path, input: &str) -> Self {
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("starting a command");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let run = async {
            // A command that does not read its input closes the pipe, which is its right.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await.expect("waiting for a command")
        };
        let output = tokio::time::timeout(COMMAND, run).await;
        let output = output.unwrap_or_else(|_| panic!("{command:?} did not end within {COMMAND:?}"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("output in UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("messages in UTF-8"),
        }
    }

    /// Asserts a refusal as users deserve it: this exit code, a message with these words, and no panic.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "the message lacks `{word}`: {self:?}");
        }
    }
}

/// `keywheel`, as built beside the stories, without what the environment would set.
pub(crate) fn program() -> Command {
    built("keywheel")
}

/// An example of the verifier, as built beside the stories.
pub(crate) fn example(name: &str) -> Command {
    built(&format!("examples/{name}"))
}

/// A program of the workspace, as built beside the stories, without what the environment would set.
pub(super) fn built(name: &str) -> Command {
    let profile = test_binary().parent().and_then(Path::parent).expect("target/PROFILE/deps/stories").to_owned();
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is missing; `cargo build --workspace --all-features --bins --examples` makes it",
        path.display()
    );
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYWHEEL_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// The library of Debian's package `libfaketime`, below the folder of this machine's architecture.
fn faketime() -> PathBuf {
    let folders = Path::new("/usr/lib").read_dir().expect("reading /usr/lib");
    let libraries = folders.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    let mut installed = libraries.filter(|library| library.is_file());
    installed.next().expect("libfaketime is missing; `cargo xtask test` installs it")
}

/// The folder that cargo builds into.
pub(crate) fn target_folder() -> PathBuf {
    test_binary().ancestors().nth(3).expect("target/PROFILE/deps/stories").to_owned()
}

fn test_binary() -> PathBuf {
    std::env::current_exe().expect("the path of this test")
}

/// Two loopback addresses that nobody listens on.
///
/// Below the range that outgoing connections take theirs from, so that a server that is down finds its port free again.
/// Above 10080, which browsers and Node.js refuse to fetch from.
pub(crate) fn free_addresses() -> [SocketAddr; 2] {
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let first = 10_100 + (std::process::id() % 1_000) * 20 + HANDED_OUT.fetch_add(2, Ordering::Relaxed);
    let mut held = Vec::new();
    for port in first..first + 2_000 {
        let port = u16::try_from(port).expect("below 32768");
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if let [one, two] = held.as_slice() {
            return [one, two].map(|listener| listener.local_addr().expect("a bound address"));
        }
    }
    panic!("no free port on the loopback interface");
}

async fn collect(mut from: impl tokio::io::AsyncRead + Unpin, into: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        into.lock().expect("no panic while collecting").push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
