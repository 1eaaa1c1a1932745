//! `cargo xtask check`: everything that is judged without running the programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{bans, layout, read, run, say, unused};

/// The crates that other people's services link.
const LIBRARIES: &[&str] = &["keywheel-jose", "keywheel-verifier"];

/// Checks layout, formatting, dependencies, lints and documentation; the quick ones first.
///
/// # Errors
/// The first of them that does not hold.
pub(crate) fn run_all() -> Result<()> {
    // `cargo tree --offline` needs every manifest, and a fresh machine has none.
    let host = read(Command::new("rustc").args(["--print", "host-tuple"]))?;
    run(cargo("fetch").args(["--locked", "--target", host.trim()]))?;
    dependencies()?;
    run(cargo("fmt").args(["--all", "--check"]))?;
    run(cargo("clippy").args(["--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"]))?;
    // What most services link: the libraries with no feature on.
    for library in LIBRARIES {
        run(cargo("clippy").args(["--package", library, "--lib", "--locked", "--", "-D", "warnings"]))?;
    }
    run(cargo("doc")
        .args(["--workspace", "--all-features", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    say("xtask: all checks hold");
    Ok(())
}

/// What cargo knows about the workspace itself, without its dependencies.
pub(crate) fn metadata() -> Result<Value> {
    let text = read(cargo("metadata").args(["--no-deps", "--locked", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo metadata printed what is not JSON")
}

/// The cargo that runs us, so that a toolchain chosen for us is the one used.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg(subcommand);
    command
}

fn dependencies() -> Result<()> {
    let metadata = metadata()?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata has no workspace_root")?;
    let mut problems = layout::problems(Path::new(root))?;
    problems.extend(bans::problems_of_arrows(&metadata)?);
    problems.extend(unused::problems(&metadata)?);
    problems.extend(bans::problems_of_workspace(&tree(&["--workspace", "--edges", "normal,build,dev"])?)?);
    for library in LIBRARIES {
        let tree = tree(&["--package", library, "--edges", "normal,build"])?;
        problems.extend(bans::problems_of_library(library, &tree));
    }
    for line in bans::accepted_advisories() {
        say(&format!("xtask: {line}"));
    }
    if !problems.is_empty() {
        bail!("layout and dependencies:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

fn tree(selection: &[&str]) -> Result<Vec<bans::Package>> {
    let mut command = cargo("tree");
    command.args(["--locked", "--offline", "--prefix", "none", "--format", bans::FORMAT]).args(selection);
    bans::parse(&read(&mut command)?)
}
