//! The command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. What people read goes to standard error or is a table on
//! standard output.

mod explain;
mod manual;
mod output;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config, ConfigErrors, DEFAULT_FILE, HostHeader, Mode, PassToken};
use crate::gate::{Gate, GateError};
use crate::routes::{Access, Unmatched};
use crate::serve::{Limits, Routes, serve};
use crate::shutdown::{Shutdown, shutdown};
use output::{Table, note, print};

/// Verifies access tokens in front of services in any language.
#[derive(Parser)]
#[command(name = "keywheel-gate", version, about, max_term_width = 100)]
struct Arguments {
    /// The configuration file. Without it: $KEYWHEEL_GATE_CONFIG, or keywheel-gate.toml in this folder.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the proxy's questions, or be the proxy
    Serve,
    /// Write a commented configuration
    Init,
    /// Is this configuration usable? Prints the routes as a table
    Check,
    /// Why is this token accepted or refused? Fetches the keys and prints each check
    Explain(explain::Explain),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Manual {
        /// The folder
        folder: PathBuf,
    },
}

/// Why a command ends with something else than 0.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(format!("the configuration is not usable:\n{errors}"))
    }
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        Self::usage(format!("the configuration is not usable:\n{}", chain(&error)))
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for and go to standard output; the rest is wrong usage.
            let printed = if error.use_stderr() {
                note(error.render().to_string().trim_end());
                Ok(())
            } else {
                print(&error.render().to_string())
            };
            return if error.use_stderr() || printed.is_err() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    log(matches!(arguments.command, Command::Serve));
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments));
            // Tunnels end with the process.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::failed(format!("cannot start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            note(format_args!("keywheel-gate: {message}"));
            ExitCode::from(code)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.config.as_deref();
    match arguments.command {
        Command::Serve => {
            // First, since the default action of this signal is to end the process.
            let hangup = listen_for(SignalKind::hangup())?;
            run_server(load(path)?, hangup).await
        }
        Command::Init => init(path.unwrap_or(Path::new(DEFAULT_FILE))),
        Command::Check => check(load(path)?),
        Command::Explain(command) => command.run(load(path)?).await,
        Command::Completions { shell } => manual::completions(shell),
        Command::Manual { folder } => manual::pages(&folder),
    }
}

fn load(path: Option<&Path>) -> Result<Config, Failure> {
    Ok(Config::load(path, config::environment())?)
}

/// Serves until SIGTERM or SIGINT, then lets the requests under way finish.
async fn run_server(config: Config, hangup: Signal) -> Result<(), Failure> {
    let server = &config.server;
    raise_descriptor_limit(server.max_connections);
    let limits = Limits {
        header_timeout: server.header_timeout,
        drain_timeout: server.drain_timeout,
        max_connections: server.max_connections,
    };
    let public = bind("server.listen", server.listen).await?;
    let operator = match server.metrics_listen {
        Some(address) => Some(bind("server.metrics_listen", address).await?),
        None => None,
    };
    let shutdown = shutdown_signal()?;
    tokio::spawn(answer(hangup));
    let gate = Arc::new(Gate::build(config)?);

    if let Some(address) = operator.as_ref().and_then(|listener| listener.local_addr().ok()) {
        info!("metrics and health on http://{address}/metrics, /healthz, /readyz");
    }
    if let Ok(address) = public.local_addr() {
        info!("{} on http://{address}", gate.purpose());
    }
    let operator = async {
        if let Some(listener) = operator {
            let limits = Limits { max_connections: OPERATOR_CONNECTIONS, ..limits };
            serve(listener, Routes::Operator(Arc::clone(&gate)), limits, shutdown.clone()).await;
        }
    };
    tokio::join!(serve(public, Routes::Public(Arc::clone(&gate)), limits, shutdown.clone()), operator);
    info!("stopped");
    Ok(())
}

async fn bind(setting: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error| Failure::failed(format!("cannot listen on {address} ({setting}): {error}"));
    TcpListener::bind(address).await.map_err(failed)
}

/// Writes a commented configuration; never over an existing one.
fn init(path: &Path) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(Config::template().as_bytes()));
    written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    note(format_args!("wrote {}; next: edit it, `keywheel-gate check`, `keywheel-gate serve`", path.display()));
    Ok(())
}

fn check(config: Config) -> Result<(), Failure> {
    let text = describe(&config);
    // What only the verifier can know, such as limits that contradict each other. Nothing is asked of an issuer that
    // would be waited for.
    Gate::build(config)?;
    print(&text).map_err(|error| Failure::failed(format!("cannot write the result: {error}")))?;
    note("the configuration is usable");
    Ok(())
}

/// The configuration as its owner should understand it.
fn describe(config: &Config) -> String {
    let mut text = String::new();
    for issuer in &config.issuers {
        let policy = &issuer.policy;
        let algorithms: Vec<&str> = policy.algorithms().iter().map(|algorithm| algorithm.as_str()).collect();
        text.push_str(&format!("issuer     {}\n", policy.issuer().unwrap_or_default()));
        text.push_str(&format!("           for {}; {}\n", policy.audiences().join(" or "), algorithms.join(", ")));
    }
    match &config.mode {
        Mode::ForwardAuth(dialect) => {
            let dialect = dialect.map_or("any proxy; nothing is known of the request".to_owned(), |it| it.to_string());
            text.push_str(&format!("asked by   {dialect}\n"));
        }
        Mode::Proxy(settings) => {
            let host = if settings.host == HostHeader::Keep { "the client's Host" } else { "its own Host" };
            let token = if settings.token == PassToken::Keep { "with the token" } else { "without the token" };
            text.push_str(&format!("forwards   to http://{}, {token}, with {host}\n", settings.upstream));
        }
    }
    let mut table = Table::new(["#", "METHODS", "HOSTS", "PATH", "ACCESS", "DEMANDS"]);
    for (index, route) in config.routes.routes.iter().enumerate() {
        let list = |items: Vec<String>| if items.is_empty() { "any".to_owned() } else { items.join(" ") };
        table.row([
            index.to_string(),
            list(route.methods.iter().map(ToString::to_string).collect()),
            list(route.hosts.iter().map(ToString::to_string).collect()),
            route.path.to_string(),
            route.access.to_string(),
            route.demands.to_string(),
        ]);
    }
    let rest = match config.unmatched {
        Unmatched::Deny => "refused".to_owned(),
        Unmatched::Token => Access::Token.to_string(),
    };
    let any = || "any".to_owned();
    table.row(["else".to_owned(), any(), any(), any(), rest, String::new()]);
    text.push('\n');
    text.push_str(&table.render());
    text
}

fn shutdown_signal() -> Result<Shutdown, Failure> {
    let (stop, stopped) = shutdown();
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: finishing the requests under way"),
            _ = interrupt.recv() => info!("SIGINT: finishing the requests under way"),
        }
        stop.stop();
        // A second signal does not wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(stopped)
}

/// Says what SIGHUP does.
async fn answer(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        info!("SIGHUP: there is nothing to read again; changes of the configuration need a restart");
    }
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

/// Each connection takes a file descriptor, with an upstream two, and the usual soft limit is 1024.
fn raise_descriptor_limit(max_connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = 2 * max_connections as u64 + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        if setrlimit(Resource::Nofile, limit).is_err() || limit.current < Some(wanted) {
            warn!(max_connections, "the system allows fewer open files than server.max_connections needs");
        }
    }
}

/// Log lines go to standard error. Commands other than `serve` tell of their failure themselves.
fn log(serving: bool) {
    let filter = config::log_filter().and_then(|filter| filter.parse::<EnvFilter>().ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(if serving { "info" } else { "off" })))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    format!("{error}{cause}")
}

/// Scrapers and probes.
const OPERATOR_CONNECTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_described_as_a_table_of_routes() {
        let text = r#"
            [[issuer]]
            url = "https://id.example.com"
            audience = "https://api.example.com"
            algorithms = ["ES256"]
            [forward_auth]
            proxy = "nginx"
            [[route]]
            methods = ["GET"]
            path = "/status"
            access = "public"
            [[route]]
            path = "/admin/**"
            roles = ["admin"]
            any_scope = ["a", "b"]
        "#;
        let config = Config::read(Path::new("gate.toml"), text, Vec::new()).expect("a good configuration");

        let shown = describe(&config);

        let expected = "\
issuer     https://id.example.com
           for https://api.example.com; ES256
asked by   nginx

#     METHODS  HOSTS  PATH       ACCESS   DEMANDS
0     GET      any    /status    public
1     any      any    /admin/**  token    role admin, scope a or b
else  any      any    any        refused
";
        assert_eq!(shown, expected);
    }
}
