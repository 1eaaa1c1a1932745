//! The command line: a file per noun, each command one call into [`crate::admin`].
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. What people read goes to standard error or is a table
//! on standard output; `--json` gives machines the same facts. Secrets are never arguments: they come from files or
//! standard input.

mod audit;
mod backup;
mod check;
mod clients;
mod healthcheck;
mod init;
mod keys;
mod manual;
mod output;
mod prompt;
mod serve;
mod token;
mod users;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::admin::ops::OpsError;
use crate::app::StartError;
use crate::config::{self, Config, ConfigErrors, Loaded};
use crate::edges::Edges;
use crate::keys::LoadError;
use crate::keys::material::PROGRESS;
use crate::keys::rotator::RotationError;
use crate::storage::{By, Store, StoreError, WhenMissing};

/// An identity provider whose signing keys turn without anyone noticing.
#[derive(Parser)]
#[command(name = "keywheel", version, about, max_term_width = 100)]
struct Arguments {
    /// The configuration file. Without it: $KEYWHEEL_CONFIG, keywheel.toml in this folder, or the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the identity provider
    Serve,
    /// Write a commented keywheel.toml and a key-encryption key
    Init,
    /// Is this configuration safe and usable? Prints the rotation plan as dates
    Check(check::Check),
    /// Ask the server on this machine whether it is ready
    #[command(hide = true)]
    Healthcheck,
    /// Bring the database to the schema of this version; `serve` does it too
    Migrate,
    /// Signing keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Clients: the services that may ask for tokens
    #[command(subcommand)]
    Clients(clients::Clients),
    /// Users: the people who sign in
    #[command(subcommand)]
    Users(users::Users),
    /// Tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Write a copy of the database to a file, while the server runs
    ///
    /// To restore it, stop the server, remove the database with its -wal and -shm files, and put the copy in its place.
    /// It says of itself that it is a backup: the first start goes through its keys and tells what it did. The
    /// key-encryption key is not in it.
    Backup(backup::Backup),
    /// The record of who changed keys, clients and users
    #[command(subcommand)]
    Audit(audit::Audit),
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
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Exit code 1 for what has been said already.
    pub(crate) fn silent() -> Self {
        Self { code: 1, message: String::new() }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(format!("the configuration is not usable:\n{errors}"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self { code: if error.is_configuration() { 2 } else { 1 }, message: crate::chain(&error) }
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        Self::failed(crate::chain(&error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(crate::chain(&error))
    }
}

impl From<RotationError> for Failure {
    fn from(error: RotationError) -> Self {
        let code = if matches!(error, RotationError::Load(LoadError::Seal(_))) { 2 } else { 1 };
        Self { code, message: crate::chain(&error) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(format!("cannot write the result: {error}"))
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
                output::note(error.render().to_string().trim_end());
                Ok(())
            } else {
                output::print(&error.render().to_string())
            };
            return if error.use_stderr() || printed.is_err() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // A server logs as its configuration says, when that has been read.
    if !matches!(arguments.command, Command::Serve) {
        log();
    }
    let runtime = if matches!(arguments.command, Command::Serve) {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    };
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments));
            // A key that is being generated will not be used any more.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::failed(format!("cannot start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                output::note(format_args!("keywheel: {message}"));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config.as_deref();
    match arguments.command {
        Command::Serve => serve::serve(config).await,
        Command::Init => init::init(config),
        Command::Check(command) => command.run(config).await,
        Command::Healthcheck => healthcheck::healthcheck(config).await,
        Command::Migrate => migrate(&Session::open(config)?).await,
        Command::Keys(command) => command.run(&Session::open(config)?).await,
        Command::Clients(command) => command.run(&Session::open(config)?).await,
        Command::Users(command) => command.run(&Session::open(config)?).await,
        Command::Token(command) => command.run(config).await,
        Command::Backup(command) => command.run(&Session::open(config)?).await,
        Command::Audit(command) => command.run(&Session::open(config)?).await,
        Command::Completions { shell } => manual::completions(shell),
        Command::Manual { folder } => manual::pages(&folder),
    }
}

/// Opening a database brings it up to date; this does nothing else.
async fn migrate(session: &Session) -> Result<(), Failure> {
    let database = &session.config.storage.database;
    let store = Store::open(database, WhenMissing::Create).await?;
    store.close().await;
    output::note(format_args!("{database} has the schema of this version ({})", Store::schema_version()));
    Ok(())
}

/// What a command works with: the configuration, the clock and randomness.
struct Session {
    config: Config,
    edges: Edges,
}

impl Session {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self { config: load(path)?.config, edges: Edges::system() })
    }

    /// Who makes a change now.
    fn by(&self) -> By {
        By::new(&self.edges.author, self.edges.clock.now())
    }
}

/// Reads the configuration and says what its owner should know.
fn load(path: Option<&Path>) -> Result<Loaded, Failure> {
    let loaded = Config::load(path, config::environment())?;
    for warning in &loaded.warnings {
        output::note(format_args!("warning: {warning}"));
    }
    Ok(loaded)
}

/// Reads a file, or standard input for `-`.
fn read_input(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_INPUT).read_to_end(&mut bytes))
    };
    let refused = |reason: &dyn std::fmt::Display| Failure::usage(format!("cannot read {}: {reason}", path.display()));
    match read.map_err(|error| refused(&error))? as u64 {
        // There may be more of it.
        MAX_INPUT.. => Err(refused(&format_args!("it is larger than {} MiB", MAX_INPUT >> 20))),
        _ => Ok(bytes),
    }
}

/// Log lines of commands other than `serve` go to standard error and only tell of what takes long; a failure is told once,
/// at their end.
fn log() {
    let filter = config::log_filter().and_then(|filter| filter.parse::<EnvFilter>().ok());
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(format!("off,{PROGRESS}=info"))))
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .without_time()
        .with_level(false)
        .init();
}

/// A million users, or clients, with all that can be said of them.
const MAX_INPUT: u64 = 1 << 30;
