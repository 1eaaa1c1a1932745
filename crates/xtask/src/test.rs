//! `cargo xtask test`: every test of the workspace, with what the tests need brought first.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::check::{cargo, metadata};
use crate::postgres::{self, Postgres};
use crate::{clients, docs, run, say, works};

/// Brings the tools, builds the programs, and runs documentation tests and then all others.
///
/// nextest comes last, so that its summary is what a reader sees at the end; it does not know documentation tests.
///
/// # Errors
/// What is missing and cannot be brought, or the first command that failed.
pub(crate) fn run_all(nextest_arguments: &[&str]) -> Result<()> {
    bring_nextest()?;
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata has no workspace_root")?;
    clients::bring(&Path::new(target).join("test-clients"))?;

    // Tests, programs and examples in one build: apart, their features would differ and most of the tree would be built twice.
    run(cargo("build")
        .args(["--workspace", "--all-features", "--bins", "--examples", "--tests", "--locked"])
        .current_dir(root))?;
    docs::build(Path::new(root), Path::new(target))?;
    run(cargo("test").args(["--workspace", "--all-features", "--doc", "--locked"]).current_dir(root))?;
    let postgres = Postgres::start()?;
    let mut nextest = cargo("nextest");
    nextest.args(["run", "--workspace", "--all-features", "--locked"]).args(nextest_arguments);
    run(nextest.env(postgres::VARIABLE, postgres.url()).current_dir(root))
}

fn bring_nextest() -> Result<()> {
    if works(env!("CARGO"), &["nextest", "--version"]) {
        return Ok(());
    }
    say("xtask: cargo-nextest runs the tests and is not installed; building it takes a few minutes");
    run(cargo("install").args(["cargo-nextest", "--locked"]))
}
