//! `keywheel`: arguments, configuration, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    keywheel::cli::main()
}
