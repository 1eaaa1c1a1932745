//! The book and the README do what they say: every command in them is run in the order of its page, in a fresh folder,
//! beside a real server, and prints what is shown.

mod page;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use page::Page;

/// A test for each page that has commands to run.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        /// The pages that are run.
        const RUN: &[&str] = &[$($page),*];
        $(
            #[tokio::test]
            async fn $test() {
                let book = book();
                run::run(&book.join(concat!($page, ".md")), $page, &book).await;
            }
        )*
    };
}

pages! {
    quick_start: "quick-start",
    install: "install",
    sign_in: "sign-in",
    concepts_keys: "concepts/keys",
    concepts_tokens: "concepts/tokens",
    concepts_permissions: "concepts/permissions",
    grants_client_credentials: "grants/client-credentials",
    grants_authorization_code: "grants/authorization-code",
    grants_refresh: "grants/refresh",
    grants_userinfo: "grants/userinfo",
    grants_introspection: "grants/introspection",
    grants_revocation: "grants/revocation",
    grants_logout: "grants/logout",
    grants_session_api: "grants/session-api",
    grants_private_key_jwt: "grants/private-key-jwt",
    verify_rust: "verify/rust",
    verify_node: "verify/node",
    verify_python: "verify/python",
    verify_nginx: "verify/nginx",
    operate_configuration: "operate/configuration",
    operate_tls: "operate/tls",
    operate_rotation: "operate/rotation",
    operate_emergency: "operate/emergency",
    operate_key_encryption_key: "operate/key-encryption-key",
    operate_backup: "operate/backup",
    operate_upgrade: "operate/upgrade",
    operate_scaling: "operate/scaling",
    operate_audit: "operate/audit",
    operate_monitoring: "operate/monitoring",
    migrate_hydra: "migrate/hydra",
    migrate_dex: "migrate/dex",
    migrate_keycloak: "migrate/keycloak",
    migrate_jwt: "migrate/jwt",
}

#[tokio::test]
async fn readme() {
    run::run(&readme_file(), "README", &book()).await;
}

/// Why a block may not be run; each is written out beside its block. A new reason is thought about here first.
const REASONS: &[&str] = &[
    "it is another vendor's program",
    "it is how the program under test is built",
    "it is what runs the tests",
    "it needs a PostgreSQL with your data",
    "it needs a cluster",
    "it needs containers",
    "it needs systemd",
    "it stands for values of yours",
    "the tests bring packages in the versions that the pages name",
];

#[test]
fn every_page_with_commands_is_run_and_what_is_not_run_says_why() {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut steps = 0;
    let mut pages = pages_of(&book());
    pages.insert("README".to_owned(), readme_file());
    for (name, path) in pages {
        let page = Page::read(&path, &name);
        let is_run = name == "README" || RUN.contains(&name.as_str());
        assert_eq!(!page.steps.is_empty(), is_run, "{name} has {} things to run", page.steps.len());
        steps += page.steps.len();
        for block in page.not_run {
            reasons.entry(block.why).or_default().push(block.place);
        }
    }
    for (why, places) in &reasons {
        assert!(REASONS.contains(&why.as_str()), "{why}: {places:?}");
    }
    let not_run: usize = reasons.values().map(Vec::len).sum();
    assert!(not_run * 5 < steps, "{not_run} blocks of {steps} are not run: {reasons:#?}");
}

fn readme_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/issuer/book/src")
}

/// The pages below a folder, by name: their path without the ending.
fn pages_of(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder of the book") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                let name = path.strip_prefix(folder).expect("below it").with_extension("");
                pages.insert(name.to_str().expect("UTF-8").to_owned(), path);
            }
        }
    }
    assert!(!pages.is_empty(), "no page in {}", folder.display());
    pages
}

/// The words that stand in a source file between `before` and a quotation mark.
fn quoted(source: &str, before: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    // What a file's own tests say is not what it does.
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn pages_name_all_that_the_code_has() {
    let text = |page: &str| fs::read_to_string(book().join(page)).expect(page);
    for (page, source, before, least) in [
        ("reference/http.md", "crates/issuer/src/http/mod.rs", "&at(\"", 15),
        ("reference/errors.md", "crates/issuer/src/oidc/mod.rs", "=> \"", 9),
        ("reference/errors.md", "crates/issuer/src/oidc/authorize/response.rs", "=> \"", 10),
        ("reference/errors.md", "crates/issuer/src/api/problem.rs", ", \"", 10),
        ("operate/audit.md", "crates/issuer/src/storage/events.rs", "=> \"", 12),
    ] {
        let words: BTreeSet<String> = quoted(source, before).into_iter().filter(|word| !word.is_empty()).collect();
        assert!(words.len() >= least, "{source}: {words:?}");
        let page_text = text(page);
        // Files of the pages, and the start page, are not for anybody to name.
        let unnamed = ["/", "/static/{name}", "/account/sign-out", "/account/apps/remove"];
        let missing: Vec<&String> = words
            .iter()
            .filter(|word| !unnamed.contains(&word.as_str()) && !page_text.contains(&format!("`{word}`")))
            .collect();
        assert_eq!(missing, Vec::<&String>::new(), "{page} lacks what {source} has");
    }
}

#[test]
fn metrics_to_watch_are_counted() {
    let page = fs::read_to_string(book().join("operate/monitoring.md")).expect("the page");
    let named: BTreeSet<&str> = page.split("`keywheel_").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    let registered = ["mod.rs", "requests.rs"].map(|file| quoted(&format!("crates/issuer/src/metrics/{file}"), "\""));

    assert!(named.len() >= 12, "{named:?}");
    for name in named {
        let plain = name.strip_suffix("_total").unwrap_or(name);
        assert!(registered.iter().any(|names| names.contains(plain)), "nothing is called keywheel_{name}");
    }
}

#[test]
fn packages_have_the_version_that_the_tests_bring() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/xtask/src/clients.rs");
    let brought = fs::read_to_string(clients).expect("the list of packages");
    let mut seen = 0;
    for (name, path) in pages_of(&book()) {
        let text = fs::read_to_string(path).expect("a page");
        for line in text.lines() {
            let words = line.strip_prefix("npm install ").or(line.strip_prefix("pip install "));
            for word in words.into_iter().flat_map(|words| words.split(' ')) {
                let wanted = match word.split_once('@') {
                    Some((package, version)) => format!("(\"{package}\", \"{version}\")"),
                    None => format!("\"{}\"", word.trim_matches('"')),
                };
                assert!(brought.contains(&wanted), "{name} installs {word}, which the tests bring in another version");
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "{seen} packages");
}

#[test]
fn each_page_on_verifying_says_whether_it_is_run() {
    let pages = pages_of(&book().join("verify"));
    for (name, path) in pages.iter().filter(|(name, _)| *name != "index") {
        let text = fs::read_to_string(path).expect("a page");
        let is_run = RUN.contains(&format!("verify/{name}").as_str());
        let words = if is_run { "\nRun by the tests with " } else { "\nNot run by the tests. Written for " };
        assert!(text.contains(words), "verify/{name} does not say{words}");
    }
    assert!(pages.len() >= 10, "{pages:?}");
}
