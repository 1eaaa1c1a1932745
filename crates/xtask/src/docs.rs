//! `cargo xtask docs`: the book, the manual pages and the completions, below `target/docs`.
//!
//! 1. mdBook is brought in a pinned version, below the target folder.
//! 2. The programs write manual pages and completions themselves.
//! 3. What the code knows better than an author is generated: settings from the template that the tests hold against the
//!    code, commands from their own help, rejections from their enum.
//! 4. The book is built, and every link in it has to lead somewhere; nothing may be loaded from elsewhere.

mod links;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::check::{cargo, metadata};
use crate::{read, run, say};

/// Pinned, so that a new release is a change somebody makes.
const MDBOOK: &str = "0.5.4";

const PROGRAMS: [&str; 2] = ["keywheel", "keywheel-gate"];

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds the programs and then all documentation.
///
/// # Errors
/// What could not be brought, built or found.
pub(crate) fn run_all() -> Result<()> {
    run(cargo("build").args(["--locked", "--package", "keywheel", "--package", "keywheel-gate"]))?;
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata has no workspace_root")?;
    build(Path::new(root), Path::new(target))
}

/// Writes all documentation, with the programs that are in `target/debug`.
///
/// # Errors
/// What could not be brought, written or found.
pub(crate) fn build(root: &Path, target: &Path) -> Result<()> {
    let mdbook = bring_mdbook(&target.join("tools"))?;
    let docs = target.join("docs");
    if docs.exists() {
        fs::remove_dir_all(&docs).with_context(|| format!("cannot remove {}", docs.display()))?;
    }
    let [man, completions] = ["man", "completions"].map(|name| docs.join(name));
    fs::create_dir_all(&completions).with_context(|| format!("cannot create {}", completions.display()))?;
    let mut pages = Vec::new();
    for name in PROGRAMS {
        let program = target.join("debug").join(name);
        run(Command::new(&program).arg("manual").arg(&man))?;
        for shell in SHELLS {
            // What each shell wants the file to be called.
            let file = match shell {
                "zsh" => format!("_{name}"),
                "fish" => format!("{name}.fish"),
                _ => name.to_owned(),
            };
            write(&completions.join(file), &read(Command::new(&program).args(["completions", shell]))?)?;
        }
        pages.push((format!("reference/{name}.md"), reference::commands(name, &program)?));
    }
    let text = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
    let settings = reference::settings(&text("crates/issuer/src/config/template.toml")?)?;
    pages.push(("reference/configuration.md".to_owned(), settings));

    let book = root.join("crates/issuer/book");
    let source = docs.join("source");
    let replaced = [
        ("{{timetable}}\n", fs::read_to_string(book.join("src/concepts/timetable.svg"))?),
        ("{{rejections}}\n", reference::rejections(&text("crates/jose/src/rejection.rs")?)?),
    ];
    copy(&book, &source, &replaced)?;
    for (name, text) in pages {
        write(&source.join("src").join(name), &text)?;
    }
    let site = docs.join("book");
    run(Command::new(mdbook).arg("build").arg(&source).arg("--dest-dir").arg(&site))?;
    let problems = links::problems(&site)?;
    if !problems.is_empty() {
        bail!("the book has broken links:\n  {}", problems.join("\n  "));
    }
    say(&format!("xtask: the book is {}", site.join("index.html").display()));
    Ok(())
}

fn bring_mdbook(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("bin/mdbook");
    let version = Command::new(&program).arg("--version").output();
    let wanted = format!("mdbook v{MDBOOK}");
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(program);
    }
    say("xtask: the book needs mdBook; building it takes a few minutes");
    let build = folder.join("build");
    // Without optimisation, which would take longer than it ever saves.
    run(cargo("install")
        .args(["--locked", "--force", "--debug", "--no-default-features", "--features", "search", "--root"])
        .arg(folder)
        .arg("--target-dir")
        .arg(&build)
        .arg(format!("mdbook@{MDBOOK}")))
    .context("the book needs mdBook, which cannot be installed")?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    Ok(program)
}

/// Copies a folder; in its pages what is generated takes the place of its name.
fn copy(from: &Path, to: &Path, replaced: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in from.read_dir().with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target, replaced)?;
        } else if path.extension().is_some_and(|ending| ending == "md") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            write(&target, &replaced.iter().fold(text, |text, (name, by)| text.replace(name, by)))?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
