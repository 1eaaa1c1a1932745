//! `cargo xtask bench`: builds both sides in release mode, starts a PostgreSQL where there is one, and lets the package
//! `bench` measure.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::check::{cargo, metadata};
use crate::postgres::{self, Postgres};
use crate::{run, say};

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--only NAME ...] [--json FILE]

  --quick       small numbers and short rounds: about two minutes, after building
  --only NAME   a group of rows (token) or those whose name begins so (token/ES256, growth/users); several may follow.
                The groups are token, grants, login, documents, verification, rotation, growth and footprint
  --json FILE   where the figures go for machines (target/bench.json)

Prints a table: what we do, what the limit or a peer does, the ratio of the two with the lowest and the highest of its
rounds, what it should be, and whether it is.
";

/// How the figures are made; the same text is the documentation of the package.
const METHOD: &str = include_str!("../../bench/src/method.txt");

/// Builds the programs and measures.
///
/// # Errors
/// A build that fails, an option that is not known, or a measurement that could not be made.
pub(crate) fn run_with(arguments: &[&str]) -> Result<()> {
    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h" | "help")) {
        say(&format!("{USAGE}\n{METHOD}"));
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?;
    let target = Path::new(target);
    run(cargo("build").args(["--release", "--locked", "--package", "keywheel", "--package", "bench"]))?;

    let database = if options.needs_postgres() { start_postgres()? } else { None };
    let release = target.join("release");
    let mut bench = Command::new(release.join("bench"));
    bench.arg("--keywheel").arg(release.join("keywheel"));
    bench.arg("--folder").arg(target.join("bench"));
    bench.arg("--clients").arg(target.join("test-clients"));
    bench.arg("--json").arg(options.json.unwrap_or_else(|| target.join("bench.json")));
    if let Some(database) = &database {
        bench.args(["--postgres", &database.url()]);
    }
    if options.quick {
        bench.arg("--quick");
    }
    for name in &options.only {
        bench.args(["--only", name]);
    }
    run(&mut bench)
}

/// `None`, and a word about it, where PostgreSQL is not installed.
fn start_postgres() -> Result<Option<Postgres>> {
    if postgres::programs_folder().is_none() {
        say("xtask: PostgreSQL is not installed, so its rows are left out");
        return Ok(None);
    }
    Postgres::start_durable().map(Some)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    only: Vec<String>,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter().copied().peekable();
        while let Some(argument) = rest.next() {
            match argument {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(rest.next().context("--json needs a file")?.into()),
                "--only" => {
                    let before = options.only.len();
                    while let Some(name) = rest.next_if(|word| !word.starts_with('-')) {
                        options.only.push(name.to_owned());
                    }
                    if options.only.len() == before {
                        bail!("--only needs the name of a row or a group");
                    }
                }
                other => bail!("bench has no option {other}\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Only one group stores anything there.
    fn needs_postgres(&self) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == "grants" || name.starts_with("grants/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_only_until_the_next_option() {
        let options = Options::parse(&["--only", "token", "grants/refresh-sqlite", "--quick", "--json", "x.json"]);

        let options = options.expect("options");
        assert!(options.quick && options.needs_postgres());
        assert_eq!(options.only, ["token", "grants/refresh-sqlite"]);
        assert_eq!(options.json.as_deref(), Some(Path::new("x.json")));
    }

    #[test]
    fn what_is_not_an_option_is_refused() {
        for wrong in [&["--fast"][..], &["token"], &["--only"], &["--only", "--quick"], &["--json"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_database_is_started_only_for_rows_that_use_it() {
        let needs = |arguments: &[&str]| Options::parse(arguments).expect("options").needs_postgres();

        assert!(needs(&[]) && needs(&["--only", "grants"]));
        assert!(!needs(&["--only", "token", "growth"]));
    }
}
