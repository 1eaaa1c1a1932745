//! `keywheel-gate completions` and `keywheel-gate manual`: what shells and `man` want to know, from the definition of the commands
//! itself. Both are left out of the help: whoever packages the program needs them, nobody else.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::output::print;
use super::{Arguments, Failure};

/// Prints what a shell needs to complete our commands.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
        .map_err(|error| Failure::failed(format!("cannot write the result: {error}")))
}

/// Writes a manual page for each command into a folder, which is made when it is missing.
pub(super) fn pages(folder: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::failed(format!("cannot write the manual to {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)
}

const NAME: &str = "keywheel-gate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().expect("a folder");

        assert!(pages(&folder.path().join("man")).is_ok());

        let page = |name: &str| std::fs::read_to_string(folder.path().join("man").join(name)).unwrap_or_default();
        for (name, words) in
            [("keywheel-gate.1", "keywheel\\-gate\\-explain(1)"), ("keywheel-gate-serve.1", "\\-\\-config")]
        {
            assert!(page(name).contains(words), "{name}: {}", page(name));
        }
        assert!(!folder.path().join("man/keywheel-gate-manual.1").exists(), "hidden commands have none");
    }
}
