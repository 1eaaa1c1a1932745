//! What the stories need and others have written: clients to verify tokens with and what those run on (a C compiler,
//! node, Python), PostgreSQL, and clocks that are wrong (faketime). Libraries go below the target folder; only Debian's
//! packages are installed into the system, and only when missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{postgres, read, run, say, works};

/// Pinned, so that a new release of a client is a change somebody makes, not a surprise.
const JOSE: &str = "6.2.17";
const PYJWT: &str = "2.15.1";

const OLDEST_NODE: u32 = 18;

/// Makes `folder/node` (npm `jose`) and `folder/python` (PyPI `pyjwt`) ready to run.
///
/// # Errors
/// When something is missing that cannot be installed from here, with the names of the packages that bring it.
pub(crate) fn bring(folder: &Path) -> Result<()> {
    bring_programs()?;
    bring_jose(&folder.join("node"))?;
    bring_pyjwt(&folder.join("python"))
}

/// Installs the Debian packages that are missing.
///
/// # Errors
/// When one is missing that cannot be installed from here.
pub(crate) fn bring_programs() -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    let as_root: &[&str] = match read(Command::new("id").arg("-u"))?.trim() {
        "0" => &["env"],
        _ if works("sudo", &["-n", "true"]) => &["sudo", "-n", "env"],
        _ => bail!("the tests need these Debian packages, and this user may not install them: {wanted}"),
    };
    if !works("apt-get", &["--version"]) {
        bail!("the tests need what Debian calls {wanted}, and there is no apt-get to install it with");
    }
    say(&format!("xtask: the tests need {wanted}; installing"));
    for step in [&["update"][..], &["install", "-y", "--no-install-recommends"]] {
        let mut apt = Command::new(as_root[0]);
        apt.args(&as_root[1..]).args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(step);
        if step[0] == "install" {
            apt.args(&missing);
        }
        run(&mut apt)?;
    }
    let still = missing_packages();
    if !still.is_empty() {
        bail!(
            "installed, and still not what the tests need: {} (node has to be {OLDEST_NODE} or newer)",
            still.join(" ")
        );
    }
    Ok(())
}

/// The Debian packages that would bring what is not there.
fn missing_packages() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !works("cc", &["--version"]) {
        missing.extend(["gcc", "libc6-dev"]);
    }
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|output| node_is_recent(&String::from_utf8_lossy(&output.stdout))) {
        missing.push("nodejs");
    }
    if !works("npm", &["--version"]) {
        missing.push("npm");
    }
    if !works("python3", &["-c", "import venv, ensurepip"]) {
        missing.extend(["python3", "python3-venv", "python3-pip"]);
    }
    if postgres::programs_folder().is_none() {
        missing.push("postgresql");
    }
    if !works("faketime", &["--version"]) {
        missing.push("faketime");
    }
    missing
}

fn bring_jose(folder: &Path) -> Result<()> {
    let installed = fs::read(folder.join("node_modules/jose/package.json")).ok();
    let installed = installed.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    if installed.is_some_and(|package| package["version"] == JOSE) {
        return Ok(());
    }
    say(&format!("xtask: installing jose {JOSE} from npm into {}", folder.display()));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Without a package.json of its own, npm would look for one in the folders above.
    let manifest = folder.join("package.json");
    fs::write(&manifest, r#"{"private":true}"#).with_context(|| format!("cannot write {}", manifest.display()))?;
    let package = format!("jose@{JOSE}");
    let quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--save-exact"];
    run(Command::new("npm").arg("install").args(quietly).arg(package).current_dir(folder))
}

fn bring_pyjwt(folder: &Path) -> Result<()> {
    let python = folder.join("bin/python");
    let right = format!("import jwt, cryptography, sys; sys.exit(jwt.__version__ != '{PYJWT}')");
    if works(&python, &["-c", &right]) {
        return Ok(());
    }
    say(&format!("xtask: installing pyjwt {PYJWT} from PyPI into {}", folder.display()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let package = format!("pyjwt[crypto]=={PYJWT}");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(package))
}

/// Reads what `node --version` prints: `v20.1.0`.
fn node_is_recent(version: &str) -> bool {
    let major = version.trim().strip_prefix('v').and_then(|version| version.split('.').next());
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= OLDEST_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_are_told_apart() {
        assert!(node_is_recent("v20.20.2\n"));
        assert!(node_is_recent("v18.0.0"));
        assert!(!node_is_recent("v16.20.1"));
        assert!(!node_is_recent(""));
        assert!(!node_is_recent("20"));
    }
}
