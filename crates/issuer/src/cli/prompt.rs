//! Asks a person at the terminal for a password.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::Failure;
use super::output::note;

/// Asks for a new password twice, without showing it.
pub(super) fn new_password(about: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nobody is at the terminal: use --password-file FILE (- is standard input) or --generate",
        ));
    }
    let password = ask(&format!("Password for {about}: "))?;
    let again = ask("The same again: ")?;
    if *password == *again { Ok(password) } else { Err(Failure::usage("the two are not the same")) }
}

fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    let _quiet = Quiet::start()?;
    // On a line of its own, so that the answer's line end, which is not shown, is not missed.
    note(question);
    // With the limit reserved the text never moves while it grows, so no copy of it is left behind.
    let mut line = Zeroizing::new(String::with_capacity(LIMIT_BYTES));
    let read = std::io::stdin().lock().take(LIMIT_BYTES as u64).read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn start() -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("the terminal cannot hide what is typed: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nobody to tell if that fails.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

const LIMIT_BYTES: usize = 4096;
