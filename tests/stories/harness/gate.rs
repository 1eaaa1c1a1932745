//! `keywheel-gate`, run as its users run it: a process with a configuration file and two ports.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use super::http::get;
use super::issuer::{Running, built, free_addresses};
use super::wait::eventually;

/// Longer than any start takes, the first fetch of keys included.
const START: Duration = Duration::from_secs(20);

/// A gate in a folder of its own; killed when dropped.
pub(crate) struct Gate {
    pub(crate) listen: SocketAddr,
    running: Running,
    _folder: TempDir,
}

impl Gate {
    /// Starts `keywheel-gate serve` with these tables beside `[server]`, and waits until it has keys.
    pub(crate) async fn serve(tables: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let [listen, metrics] = free_addresses();
        let file = folder.path().join("keywheel-gate.toml");
        let server = format!("[server]\nlisten = \"{listen}\"\nmetrics_listen = \"{metrics}\"\n");
        fs::write(&file, format!("{server}\n{tables}")).expect("writing the configuration");
        let mut command = built("keywheel-gate");
        command.arg("serve").arg("--config").arg(&file);
        let mut running = Running::start(command, folder.path());
        eventually("the gate is ready", START, async || {
            if let Some(status) = running.has_ended() {
                panic!("the gate ended at its start with {status}:\n{}", running.log());
            }
            get(&format!("http://{metrics}/readyz")).await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        Self { listen, running, _folder: folder }
    }

    /// Everything it has written so far.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }
}
