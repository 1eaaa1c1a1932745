//! `keywheel-gate`, run as its users run it: a process with a configuration file and two ports.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
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
    /// Starts `keywheel-gate serve` with this configuration, and waits until it has keys.
    pub(crate) async fn serve(config: &str) -> Self {
        Self::with_settings(config, &[]).await
    }

    /// The same with some settings made by the environment, as those of its addresses are. Names go without the prefix.
    pub(crate) async fn with_settings(config: &str, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let [listen, metrics] = free_addresses();
        let file = folder.path().join("keywheel-gate.toml");
        fs::write(&file, config).expect("writing the configuration");
        let mut command = built("keywheel-gate");
        command.arg("serve").arg("--config").arg(&file);
        command.env("KEYWHEEL_GATE_SERVER__LISTEN", listen.to_string());
        command.env("KEYWHEEL_GATE_SERVER__METRICS_LISTEN", metrics.to_string());
        command.envs(settings.iter().map(|(name, value)| (format!("KEYWHEEL_GATE_{name}"), value)));
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

    /// Kills it (SIGKILL), and waits for its end.
    pub(crate) async fn kill(self) {
        self.running.kill().await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Everything it has written so far.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }
}
