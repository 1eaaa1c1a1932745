//! Which dependencies may be in the tree, judged without a network: banned crates and features, advisories, licences, and
//! the arrows between our own crates. What is judged is the *resolved* tree as `cargo tree` prints it; Cargo.lock also
//! names crates of features that nobody turned on. Every exception stands here beside its reason.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How `cargo tree` has to print a package for [`parse`].
pub(crate) const FORMAT: &str = "{p}|{f}|{l}";

/// Crates that stay out, and why.
const BANNED: &[(&str, &str)] = &[
    ("bindgen", "it needs libclang to build"),
    ("native-tls", "a second TLS stack, and a C library at run time"),
    ("openssl-sys", "a second TLS stack, and a C library at run time"),
    ("prost-build", "it needs protoc to build"),
    ("ring", "a second crypto backend; everything here uses aws-lc-rs"),
    ("rustls-pemfile", "unmaintained (RUSTSEC-2025-0134); rustls-pki-types reads PEM"),
    ("serde_yaml", "unmaintained"),
    ("sqlx-macros", "it compiles the database drivers and aws-lc a second time for the host"),
];

/// Features that stay off, and why.
const BANNED_FEATURES: &[(&str, &str, &str)] = &[
    ("jsonwebtoken", "rust_crypto", "it signs with the rsa crate (RUSTSEC-2023-0071), and two providers panic"),
    ("jsonwebtoken", "use_pem", "private keys are read in one place, by the issuer"),
];

/// What a resource server would otherwise have to compile, or could sign with.
const NOT_IN_LIBRARIES: &[&str] = &["axum", "keywheel", "p256", "rsa", "sqlx", "tokio-cron-scheduler"];

/// Advisories that a version in the tree could fall under.
const ADVISORIES: &[Advisory] = &[
    Advisory { package: "aws-lc-sys", id: "RUSTSEC advisories before 0.39", fixed: Fixed::In("0.39.0") },
    Advisory { package: "h2", id: "RUSTSEC-2026-0258", fixed: Fixed::In("0.4.16") },
    Advisory { package: "rustls-webpki", id: "RUSTSEC advisories before 0.103.13", fixed: Fixed::In("0.103.13") },
    Advisory { package: "time", id: "RUSTSEC advisories before 0.3.47", fixed: Fixed::In("0.3.47") },
    Advisory {
        package: "rsa",
        id: "RUSTSEC-2023-0071",
        fixed: Fixed::Never {
            accepted: "a timing leak in private-key operations, which nothing here calls: the crate makes and converts \
                       keys, aws-lc-rs signs, .clippy.toml bans the rest and jsonwebtoken's rust_crypto stays off",
        },
    },
];

/// Licences that a dependency may have, by SPDX identifier.
/// CDLA-Permissive-2.0 is that of the list of certificate authorities in webpki-roots, which is data.
const LICENCES: &[&str] = &["Apache-2.0", "BSD-3-Clause", "CDLA-Permissive-2.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];

/// Who may depend on whom among our own crates: the picture in the architecture, as a table.
const ARROWS: &[(&str, &[&str])] = &[
    ("keywheel-jose", &[]),
    ("keywheel-keyring", &["keywheel-jose"]),
    ("keywheel-verifier", &["keywheel-jose"]),
    ("keywheel", &["keywheel-jose", "keywheel-keyring"]),
    ("keywheel-gate", &["keywheel-verifier"]),
    ("bench", &["keywheel-jose", "keywheel-verifier"]),
    ("stories", &["keywheel", "keywheel-gate", "keywheel-jose", "keywheel-keyring", "keywheel-verifier"]),
    ("xtask", &[]),
];

struct Advisory {
    package: &'static str,
    id: &'static str,
    fixed: Fixed,
}

enum Fixed {
    In(&'static str),
    Never { accepted: &'static str },
}

/// One crate of the resolved tree.
pub(crate) struct Package {
    name: String,
    version: String,
    features: Vec<String>,
    licence: String,
}

/// Reads what `cargo tree --prefix none --format FORMAT` printed.
///
/// # Errors
/// On a line that is not in [`FORMAT`], and on an empty tree, which would make every rule hold.
pub(crate) fn parse(tree: &str) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.trim_end().trim_end_matches("(*)").trim_end();
        let mut columns = line.splitn(3, '|');
        let (Some(package), Some(features), Some(licence)) = (columns.next(), columns.next(), columns.next()) else {
            bail!("cargo tree printed an unexpected line: {line}");
        };
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|word| word.strip_prefix('v'))) else {
            bail!("cargo tree printed an unexpected package: {package}");
        };
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            features: features.split(',').map(str::to_owned).collect(),
            licence: licence.to_owned(),
        });
    }
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages.dedup_by(|a, b| a.name == b.name && a.version == b.version && a.features == b.features);
    if packages.is_empty() {
        bail!("cargo tree printed no package at all");
    }
    Ok(packages)
}

/// Everything that is wrong with the tree of the whole workspace: bans, advisories, licences.
///
/// # Errors
/// When a version number cannot be read.
pub(crate) fn problems_of_workspace(tree: &[Package]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in tree {
        let Package { name, version, features, licence } = package;
        for (_, why) in BANNED.iter().filter(|(banned, _)| banned == name) {
            problems.push(format!("{name} {version} is banned: {why}"));
        }
        for (_, feature, why) in BANNED_FEATURES.iter().filter(|(of, _, _)| of == name) {
            if features.iter().any(|on| on == feature) {
                problems.push(format!("{name} {version} has its feature {feature} on: {why}"));
            }
        }
        for Advisory { id, fixed, .. } in ADVISORIES.iter().filter(|advisory| advisory.package == name) {
            if let Fixed::In(first) = fixed
                && numbers(version)? < numbers(first)?
            {
                problems.push(format!("{name} {version} falls under {id}; {first} is the first version that does not"));
            }
        }
        if !licence_is_allowed(licence) {
            problems.push(format!("{name} {version} has the licence `{licence}`, which is not on the list"));
        }
    }
    Ok(problems)
}

/// What is in the tree of a library for resource servers that has no business there.
pub(crate) fn problems_of_library(library: &str, tree: &[Package]) -> Vec<String> {
    let unwanted = tree.iter().filter(|package| NOT_IN_LIBRARIES.contains(&package.name.as_str()));
    unwanted.map(|package| format!("{library} must not depend on {}", package.name)).collect()
}

/// Arrows between our own crates that the architecture does not have, from `cargo metadata --no-deps`.
///
/// Every kind of dependency counts: a test that needs the other crate belongs to the stories.
///
/// # Errors
/// When the metadata has no packages.
pub(crate) fn problems_of_arrows(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems = Vec::new();
    for package in packages {
        let from = package["name"].as_str().context("a package without a name")?;
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
            problems.push(format!("{from} is not in the table of crates and their arrows"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        for to in dependencies.iter().filter_map(|dependency| dependency["name"].as_str()) {
            if names.contains(&to) && !allowed.contains(&to) {
                problems.push(format!("{from} may not depend on {to}"));
            }
        }
    }
    Ok(problems)
}

/// The advisories we live with, each as a line that says why.
pub(crate) fn accepted_advisories() -> impl Iterator<Item = String> {
    ADVISORIES.iter().filter_map(|Advisory { package, id, fixed }| match fixed {
        Fixed::Never { accepted } => Some(format!("{id} ({package}, no fixed version) is accepted: {accepted}")),
        Fixed::In(_) => None,
    })
}

/// Whether an SPDX expression can be satisfied by the allowed licences alone. `/` is the old spelling of `OR`.
fn licence_is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) && rest.is_empty()
}

fn either(words: &mut &[&str]) -> bool {
    let mut allowed = all(words);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        allowed |= all(words);
    }
    allowed
}

fn all(words: &mut &[&str]) -> bool {
    let mut allowed = single(words);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        allowed &= single(words);
    }
    allowed
}

fn single(words: &mut &[&str]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = either(words);
            let closed = words.first() == Some(&")");
            *words = words.get(1..).unwrap_or_default();
            allowed && closed
        }
        // An exception only ever permits more than the licence it stands on.
        [licence, "WITH", _, rest @ ..] | [licence, rest @ ..] => {
            *words = rest;
            LICENCES.contains(licence)
        }
        [] => false,
    }
}

/// A version's three numbers; what follows them (a pre-release, build metadata) does not matter to the rules here.
fn numbers(version: &str) -> Result<[u64; 3]> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<u64> =
        release.split('.').map(str::parse).collect::<Result<_, _>>().with_context(|| format!("version `{version}`"))?;
    <[u64; 3]>::try_from(parts).ok().with_context(|| format!("version `{version}` does not have three numbers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(tree: &str) -> Vec<String> {
        problems_of_workspace(&parse(tree).expect("a tree")).expect("versions")
    }

    #[test]
    fn a_clean_tree_has_no_problems() {
        let tree = "keywheel v0.1.0 (/src/crates/issuer)||Apache-2.0\n\
                    h2 v0.4.20||MIT\n\
                    jsonwebtoken v11.1.0|aws_lc_rs|MIT\n\
                    h2 v0.4.20||MIT (*)\n";
        assert_eq!(problems(tree), Vec::<String>::new());
    }

    #[test]
    fn a_banned_crate_is_found() {
        let found = problems("anyhow v1.0.0|std|MIT\nring v0.17.14||MIT (*)");
        assert_eq!(found, ["ring 0.17.14 is banned: a second crypto backend; everything here uses aws-lc-rs"]);
    }

    #[test]
    fn a_banned_feature_is_found() {
        let found = problems("jsonwebtoken v11.1.0|aws_lc_rs,rust_crypto|MIT");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("rust_crypto"), "{found:?}");
    }

    #[test]
    fn a_version_before_the_fix_is_found() {
        assert_eq!(problems("h2 v0.4.16||MIT").len(), 0);
        let found = problems("h2 v0.4.9||MIT");
        assert_eq!(found, ["h2 0.4.9 falls under RUSTSEC-2026-0258; 0.4.16 is the first version that does not"]);
    }

    #[test]
    fn only_one_advisory_is_accepted_and_it_says_why() {
        let accepted: Vec<String> = accepted_advisories().collect();
        assert_eq!(accepted.len(), 1);
        assert!(accepted[0].starts_with("RUSTSEC-2023-0071 (rsa"), "{accepted:?}");
        assert!(accepted[0].contains("aws-lc-rs signs"), "{accepted:?}");
    }

    #[test]
    fn licences_are_read_as_expressions() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "ISC AND (Apache-2.0 OR ISC) AND BSD-3-Clause",
        ] {
            assert!(licence_is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR AGPL-3.0", "(MIT", "MIT MIT"] {
            assert!(!licence_is_allowed(bad), "{bad}");
        }
        assert_eq!(problems("left v1.0.0||").len(), 1);
    }

    #[test]
    fn a_library_stays_light() {
        let tree = parse("keywheel-verifier v0.1.0 (/src)||Apache-2.0\nrsa v0.9.10|std|MIT").expect("a tree");
        assert_eq!(problems_of_library("keywheel-verifier", &tree), ["keywheel-verifier must not depend on rsa"]);
    }

    #[test]
    fn an_arrow_outside_the_architecture_is_found() {
        let metadata = json!({"packages": [
            {"name": "keywheel", "dependencies": [{"name": "keywheel-verifier"}, {"name": "keywheel-jose"}, {"name": "anyhow"}]},
            {"name": "keywheel-jose", "dependencies": []},
            {"name": "keywheel-verifier", "dependencies": [{"name": "keywheel-jose"}]},
            {"name": "helper", "dependencies": []},
        ]});
        let found = problems_of_arrows(&metadata).expect("metadata");
        assert_eq!(
            found,
            ["keywheel may not depend on keywheel-verifier", "helper is not in the table of crates and their arrows"]
        );
    }

    #[test]
    fn an_empty_or_strange_tree_is_an_error() {
        assert!(parse("\n").is_err());
        assert!(parse("what is this").is_err());
    }
}
