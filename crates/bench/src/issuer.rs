//! `keywheel serve` as it is measured: the release build, with a configuration and a folder of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::load::{ask, get};
use crate::machine::Cores;
use crate::process::{Process, free_address, without_settings};

/// What a measurement sets, as lines of TOML below their table's header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings<'a> {
    pub(crate) keys: &'a str,
    pub(crate) tokens: &'a str,
    /// Whole tables, such as `[[client]]`.
    pub(crate) tables: &'a str,
    /// A database of its own in its folder without one.
    pub(crate) database: Option<&'a str>,
}

/// An issuer's folder. It may be running or not.
pub(crate) struct Issuer {
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    cores: Cores,
}

impl Issuer {
    /// Writes a configuration into the new folder `folder`.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn new(program: &Path, folder: PathBuf, settings: Settings<'_>, cores: Cores) -> Result<Self> {
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let program = program.to_owned();
        let issuer = Self { program, folder, address: free_address()?, cores };
        let Settings { keys, tokens, tables, database } = settings;
        let own = format!("sqlite://{}", issuer.database().display());
        let (database, kek) = (database.unwrap_or(&own), issuer.folder.join("kek").display().to_string());
        let text = format!(
            "issuer = \"http://{}\"\n\
             [server]\nlisten = \"{}\"\nmetrics_listen = \"\"\n\
             [storage]\nurl = \"{database}\"\n\
             [keys]\nencryption_key_file = \"{kek}\"\n{keys}\n\
             [tokens]\n{tokens}\n{tables}\n",
            issuer.address, issuer.address
        );
        fs::write(issuer.configuration(), text).context("cannot write a configuration")?;
        Ok(issuer)
    }

    /// Starts it and waits until it can sign.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub(crate) fn serve(&self) -> Result<Process> {
        let mut running = self.start()?;
        running.wait(|address| ask(address, &get("/readyz")).is_ok_and(|(status, ..)| status == 200))?;
        Ok(running)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(&self) -> Result<Process> {
        Process::start(self.command(&["serve"]), self.address, &self.folder.join("log"), self.cores)
    }

    /// Runs `keywheel ARGUMENTS` to its end and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).stdin(Stdio::null()).output().context("cannot start keywheel")?;
        if !output.status.success() {
            bail!("keywheel {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        String::from_utf8(output.stdout).context("keywheel printed what is not UTF-8")
    }

    /// The file of its own database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("keywheel.db")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("keywheel.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(self.configuration()).current_dir(&self.folder);
        without_settings(&mut command);
        command
    }
}
