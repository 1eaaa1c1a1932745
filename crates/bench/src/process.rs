//! A server that was started to be measured, and ends with the value that stands for it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::machine::{self, Cores, ProcessorTime};

/// A process on the server's core.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts `command`, which will listen on `address`, and does not wait. What it writes goes to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(mut command: Command, address: SocketAddr, log: &Path, cores: Cores) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone().context("cannot share a log")?).stderr(file);
        without_settings(&mut command);
        // A child inherits the core of the thread that starts it, and so do all of its own threads.
        machine::stay_on(cores.server)?;
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()));
        machine::stay_on(cores.load)?;
        Ok(Self { child: child?, log: log.to_owned(), address })
    }

    /// Waits until `is_up`.
    ///
    /// # Errors
    /// When it ends or takes too long, with what it wrote.
    pub(crate) fn wait(&mut self, mut is_up: impl FnMut(SocketAddr) -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_up(self.address) {
            let ended = self.child.try_wait().context("cannot ask for a process")?;
            if ended.is_some() || began.elapsed() > START {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let what = ended.map_or("does not answer".to_owned(), |status| format!("ended with {status}"));
                bail!("the server {what}:\n{log}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// See [`machine::processor_seconds`].
    pub(crate) fn processor_time(&self) -> Result<ProcessorTime> {
        machine::processor_seconds(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The children first: nginx's worker would outlive a master that is killed.
        let task = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(task).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes away what the environment would set.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYWHEEL_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}

/// An address on this machine that nothing listens on.
///
/// # Errors
/// When there is none.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback interface")?;
    listener.local_addr().context("a port without an address")
}

/// Longer than any start takes, on a busy machine, with RSA keys to be made.
const START: Duration = Duration::from_secs(60);
