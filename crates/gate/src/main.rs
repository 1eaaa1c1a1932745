//! `keywheel-gate`: arguments → configuration → run → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    keywheel_gate::cli::main()
}
