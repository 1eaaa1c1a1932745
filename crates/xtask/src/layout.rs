//! The top level of the repository: a newcomer sees these names and no others.

use std::path::Path;

use anyhow::{Context as _, Result};

const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "crates", "deploy", "tests", "keys.example", "README.md", "LICENSE"];

/// Made by building and by running, and ignored by git.
const IGNORED: &[&str] = &["target", "keywheel-data"];

/// What is missing from the top level, and what has no place there.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in root.read_dir().with_context(|| format!("cannot read {}", root.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", root.display()))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    Ok(judge(&names))
}

fn judge(names: &[String]) -> Vec<String> {
    let missing = TOP_LEVEL.iter().filter(|name| !names.iter().any(|found| found == *name));
    let stray = names.iter().filter(|name| {
        !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) && !IGNORED.contains(&name.as_str())
    });
    missing
        .map(|name| format!("{name} is missing from the top level"))
        .chain(stray.map(|name| format!("{name} has no place at the top level")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(extra: &[&str]) -> Vec<String> {
        TOP_LEVEL.iter().chain(extra).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_agreed_names_dot_files_and_built_folders_are_fine() {
        assert_eq!(judge(&names(&[".ci", ".gitignore", "target", "keywheel-data"])), Vec::<String>::new());
    }

    #[test]
    fn strays_and_gaps_are_found() {
        let mut found = names(&["notes.txt"]);
        found.retain(|name| name != "LICENSE");
        assert_eq!(judge(&found), ["LICENSE is missing from the top level", "notes.txt has no place at the top level"]);
    }
}
