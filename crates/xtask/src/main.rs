//! Developer commands: `cargo xtask test` runs every test and brings what they need, `cargo xtask check` everything that
//! is judged without running it. All say what they do and fail loudly; none skips anything in silence.

mod bans;
mod bench;
mod check;
mod clients;
mod docs;
mod layout;
mod postgres;
mod soak;
mod test;
mod unused;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
usage: cargo xtask test [-- ARGUMENTS FOR NEXTEST]   bring what the tests need, then run all of them
       cargo xtask check                             formatting, lints, documentation, dependency rules, layout
       cargo xtask bench [--quick] [--only NAME ...] [--json FILE]
                                                     what it costs, beside what it could cost; --help says how
       cargo xtask docs                              the book, manual pages and completions, in target/docs
       cargo xtask postgres -- COMMAND ...           run a command beside a new PostgreSQL (KEYWHEEL_TEST_POSTGRES)
       cargo xtask soak [--minutes N] [--replicas N] [--rotate-every S] [--kill-every S] [--outage S]
                                                     replicas, wrong clocks, kills and an outage, for a while
       cargo xtask soak --mixed [--minutes N]        people, services and apps at once, keys that turn, a rolling restart
       cargo xtask soak --refresh N                  N rotations of refresh tokens on each database";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["test"] => test::run_all(&[]),
        ["test", "--", rest @ ..] => test::run_all(rest),
        ["check"] => check::run_all(),
        ["docs"] => docs::run_all(),
        ["postgres", "--", program, rest @ ..] => postgres::run_with(program, rest),
        ["bench", options @ ..] => bench::run_with(options),
        ["soak", options @ ..] => soak::run_with(options),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            Ok(())
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells a person something. A closed stderr is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a command for its effect, with its output passed through.
fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(&format!("xtask: {shown}"));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command for what it prints on stdout.
fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed what is not UTF-8"))
}

/// Whether a command starts and succeeds; what it prints does not matter.
fn works(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
