//! What the issuer and the verifier cost, beside the least that their work can cost: `cargo xtask bench`.
//!
#![doc = include_str!("method.txt")]
//!
//! One binary is both sides: as `bench` it starts servers, sends the load and prints the table; as `bench peer` it is the
//! bare server that ours is compared with.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, and a peer makes its own keys")]

mod arguments;
mod issuer;
mod load;
mod machine;
mod nginx;
mod peer;
mod process;
mod rows;
mod statistics;
mod table;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["peer", folder] => peer::serve(folder.as_ref()),
        words => match Arguments::parse(words) {
            Ok(arguments) => rows::run(&arguments),
            Err(wrong) => {
                say(&format!("bench: {wrong}"));
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells a person something. A closed stderr is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
