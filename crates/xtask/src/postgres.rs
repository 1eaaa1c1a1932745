//! A real PostgreSQL for as long as a command runs: made in a temporary folder, on a loopback port of its own, and gone
//! afterwards. It knows no password and, unless asked to, does not wait for the disk, so nothing but tests may use it.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{clients, read, run, say, works};

/// Where tests find the address of the database.
pub(crate) const VARIABLE: &str = "KEYWHEEL_TEST_POSTGRES";

/// A running server; stopped and removed when dropped.
pub(crate) struct Postgres {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

/// The server's programs, and the user to run them as.
struct Programs {
    folder: PathBuf,
    /// PostgreSQL refuses to run as root; there it runs as the user that Debian's package makes.
    user: Option<(u32, u32)>,
}

/// Runs `command`, which finds the database's address in [`VARIABLE`].
///
/// # Errors
/// When PostgreSQL can't be had or started, and when the command fails.
pub(crate) fn run_with(program: &str, arguments: &[&str]) -> Result<()> {
    clients::bring_programs()?;
    let postgres = Postgres::start()?;
    run(Command::new(program).args(arguments).env(VARIABLE, postgres.url()))
}

impl Postgres {
    /// Makes a new, empty database and starts it.
    ///
    /// # Errors
    /// What is missing, or what PostgreSQL printed.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with("fsync=off")
    }

    /// The same, but what it has answered is on the disk.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn start_durable() -> Result<Self> {
        Self::start_with("fsync=on")
    }

    fn start_with(fsync: &str) -> Result<Self> {
        let programs = Programs::find()?;
        // Not below the target folder: as root, PostgreSQL runs as another user, who may not be able to go there.
        let folder = std::env::temp_dir().join(format!("keywheel-postgres-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut postgres = Self { programs, folder, port: free_port()?, server: None };
        if let Some((uid, gid)) = postgres.programs.user {
            chown(&postgres.folder, Some(uid), Some(gid)).context("cannot give the database's folder away")?;
        }
        let data = postgres.folder.join("data");
        let options = ["--username=keywheel", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        read(postgres.programs.command("initdb").args(options).arg(&data))?;
        let log = fs::File::create(postgres.log()).context("cannot make the database's log")?;
        let server = postgres
            .programs
            .command("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&postgres.folder)
            .args(["-p", &postgres.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", fsync])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the database's log")?)
            .stderr(log)
            .spawn()
            .context("cannot start postgres")?;
        postgres.server = Some(server);
        postgres.wait()?;
        say(&format!("xtask: PostgreSQL at {}", postgres.url()));
        Ok(postgres)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://keywheel@127.0.0.1:{}/postgres", self.port)
    }

    fn wait(&mut self) -> Result<()> {
        let ready = self.programs.folder.join("pg_isready");
        for _ in 0..300 {
            if works(&ready, &["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]) {
                return Ok(());
            }
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            if let Some(status) = ended {
                bail!("PostgreSQL ended at its start ({status}):\n{}", fs::read_to_string(self.log())?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("PostgreSQL does not answer after 30 s:\n{}", fs::read_to_string(self.log())?)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let mut stop = self.programs.command("pg_ctl");
            stop.args(["stop", "--silent", "--mode=immediate", "-D"]).arg(self.folder.join("data"));
            if !stop.status().is_ok_and(|status| status.success()) {
                let _ = server.kill();
            }
            let _ = server.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            say(&format!("xtask: cannot remove {}: {error}", self.folder.display()));
        }
    }
}

impl Programs {
    fn find() -> Result<Self> {
        let folder = programs_folder().with_context(|| {
            format!("there is no {INSTALLED}/*/bin/initdb: install PostgreSQL (Debian's package postgresql)")
        })?;
        let id = |arguments: &[&str]| -> Result<u32> {
            let text = read(Command::new("id").args(arguments))?;
            text.trim().parse().with_context(|| format!("`id` printed {text:?}"))
        };
        let user = match id(&["-u"])? {
            0 => {
                let ids = id(&["-u", "postgres"]).and_then(|uid| Ok((uid, id(&["-g", "postgres"])?)));
                Some(ids.context("PostgreSQL does not run as root, and there is no user postgres to run it as")?)
            }
            _ => None,
        };
        Ok(Self { folder, user })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        // The folder that the caller is in may be closed to the other user.
        command.current_dir("/");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// The folder with the newest server's programs, if one is installed.
pub(crate) fn programs_folder() -> Option<PathBuf> {
    let installed = Path::new(INSTALLED).read_dir().ok()?;
    let names = installed.filter_map(|entry| Some(entry.ok()?.file_name()));
    let complete = names.filter(|name| Path::new(INSTALLED).join(name).join("bin/initdb").is_file());
    let newest = complete.max_by_key(|name| version(name))?;
    Some(Path::new(INSTALLED).join(newest).join("bin"))
}

/// `15` and `9.6` as numbers, so that 9 is older than 15.
fn version(name: &OsStr) -> Vec<u32> {
    name.to_string_lossy().split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback interface")?;
    Ok(listener.local_addr()?.port())
}

/// Where Debian puts a folder for each version.
const INSTALLED: &str = "/usr/lib/postgresql";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let versions = ["9.6", "15", "17", "snapshot"];

        let newest = versions.iter().max_by_key(|name| version(OsStr::new(name)));

        assert_eq!(newest, Some(&"17"));
    }
}
