//! Dependencies that nobody uses: named in a manifest, and nowhere in the package's source.
//!
//! A name in a comment counts as use, so this misses some; what it finds is real.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The dependencies of each package that its source never names, from `cargo metadata --no-deps`.
///
/// # Errors
/// When the metadata is not what cargo writes, or a source file cannot be read.
pub(crate) fn problems(metadata: &Value) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest = package["manifest_path"].as_str().context("a package without a manifest_path")?;
        let folder = Path::new(manifest).parent().context("a manifest in no folder")?;
        let mut source = String::new();
        append_source(folder, &mut source).with_context(|| format!("cannot read the source of {name}"))?;
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        problems.extend(unnamed(dependencies, &source).map(|unused| format!("{name} does not use {unused}")));
    }
    Ok(problems)
}

fn unnamed<'a>(dependencies: &'a [Value], source: &'a str) -> impl Iterator<Item = &'a str> {
    let names = dependencies.iter().filter_map(|dependency| {
        let renamed = dependency["rename"].as_str();
        renamed.or_else(|| dependency["name"].as_str())
    });
    names.filter(|name| {
        let identifier = name.replace('-', "_");
        let words = source.split(|character: char| !character.is_alphanumeric() && character != '_');
        !words.into_iter().any(|word| word == identifier)
    })
}

/// Appends every Rust file below `folder`, packages of their own and what is built left out.
fn append_source(folder: &Path, source: &mut String) -> std::io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let is_own_package = path.join("Cargo.toml").exists();
        if path.is_dir() && !is_own_package && !path.ends_with("target") {
            append_source(&path, source)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            source.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let dependencies = [
            json!({"name": "serde_json"}),
            json!({"name": "hyper-util"}),
            json!({"name": "hyper", "rename": "engine"}),
        ];
        let source = "use hyper_util::rt; use serde_json::Value; use hyper::body;";

        assert_eq!(unnamed(&dependencies, source).collect::<Vec<_>>(), ["engine"]);
        assert_eq!(unnamed(&dependencies, "").count(), 3);
    }
}
