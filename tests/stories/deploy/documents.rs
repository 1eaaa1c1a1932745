//! Files that are for a cluster or a registry: judged by the schemas of Kubernetes and Compose, by hadolint, and by
//! `keywheel check` where they hold a configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::recipe;
use crate::harness::{Exit, Postgres, program, python_tool};

/// What the manifests use that is newest is `unhealthyPodEvictionPolicy` of disruption budgets.
const OLDEST_KUBERNETES: &str = "1.27";

#[tokio::test]
async fn the_manifests_are_what_kubernetes_takes() {
    for version in [OLDEST_KUBERNETES, "1.34"] {
        let mut command = python_tool("kubernetes-validate");
        command.args(["--strict", "--no-warn", "--kubernetes-version", version]).args(manifests());
        let folder = TempDir::new().expect("a temporary folder");

        let exit = Exit::of(command, folder.path(), "").await;

        assert_eq!(exit.code, Some(0), "{exit:?}");
        for kind in
            ["deployment", "service", "poddisruptionbudget", "horizontalpodautoscaler", "networkpolicy", "ingress"]
        {
            let passed = format!("passed for resource {kind}/keywheel against version {version}");
            assert!(exit.stderr.contains(&passed) || exit.stdout.contains(&passed), "{kind}: {exit:?}");
        }
    }
}

#[test]
fn kustomize_is_told_of_every_manifest() {
    for folder in ["base", "example"] {
        let listed = recipe::read(&format!("kubernetes/{folder}/kustomization.yaml"));
        for file in manifests() {
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
            if file.parent().is_some_and(|parent| parent.ends_with(folder)) && name != "secret.example.yaml" {
                assert!(listed.contains(&format!("- {name}\n")), "{folder}: {name}");
            }
        }
    }
}

#[test]
fn a_pod_has_the_time_to_end_that_its_server_takes() {
    let seconds = |text: &str, after: &str, unit: char| -> u64 {
        let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("no {after}"));
        let number = rest.split(unit).next().unwrap_or_default();
        number.trim().parse().unwrap_or_else(|_| panic!("no number after {after}"))
    };
    let config = recipe::read("kubernetes/base/keywheel.toml");
    let deployment = recipe::read("kubernetes/base/deployment.yaml");

    let server = seconds(&config, "shutdown_delay = \"", 's') + seconds(&config, "drain_timeout = \"", 's');
    let pod = seconds(&deployment, "terminationGracePeriodSeconds:", '\n');

    assert!(pod > server, "{pod} s are not more than {server} s");
}

#[tokio::test]
async fn the_compose_file_is_what_compose_takes() {
    let mut command = python_tool("check-jsonschema");
    command.args(["--builtin-schema", "vendor.compose-spec"]).arg(recipe::path("compose/compose.yaml"));
    let folder = TempDir::new().expect("a temporary folder");

    let exit = Exit::of(command, folder.path(), "").await;

    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn hadolint_finds_nothing_in_the_containerfile() {
    let mut command = python_tool("hadolint");
    command.arg(recipe::path("container/Containerfile"));
    let folder = TempDir::new().expect("a temporary folder");

    let exit = Exit::of(command, folder.path(), "").await;

    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), ""), "{exit:?}");
}

/// Each with the secrets that it names, and a database where it wants one.
#[tokio::test]
async fn every_configuration_is_safe() {
    let postgres = Postgres::serve().await;
    for (file, secrets, adapted) in [
        ("systemd/keywheel.toml", "/etc/keywheel", ("/var/lib/keywheel", "data")),
        ("container/keywheel.toml", "/data", ("metrics_listen", "metrics_listen")),
        ("compose/keywheel.toml", "/run/secrets", ("172.30.80.0/24", "172.30.80.0/24")),
        ("kubernetes/base/keywheel.toml", "/run/secrets/keywheel", ("10.0.0.0/8", "10.0.0.0/8")),
    ] {
        let folder = TempDir::new().expect("a temporary folder");
        let made = recipe::prepare_secrets(folder.path());
        fs::write(made.join("database-url"), postgres.url()).expect("writing the address");
        let here = made.display().to_string();
        let text = recipe::adapted(&recipe::read(file), &[(secrets, &here), adapted]);
        let config = folder.path().join("keywheel.toml");
        fs::write(&config, text).expect("writing the configuration");
        let run = async |word: &str| {
            let mut command = program();
            command.arg(word).arg("--config").arg(&config);
            Exit::of(command, folder.path(), "").await
        };
        if file.contains("kubernetes") || file.contains("compose") {
            let migrated = run("migrate").await;
            assert_eq!(migrated.code, Some(0), "{file}: {migrated:?}");
        }

        let checked = run("check").await;

        assert_eq!(checked.code, Some(0), "{file}: {checked:?}");
        assert!(checked.stderr.contains("the configuration is safe"), "{file}: {checked:?}");
        // The image does not know its name, and says so.
        assert_eq!(checked.stderr.contains("warning"), file.starts_with("container"), "{file}: {checked:?}");
    }
}

/// Every manifest but what only kustomize reads.
fn manifests() -> BTreeSet<PathBuf> {
    let folders = ["base", "example"].map(|name| recipe::path("kubernetes").join(name));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder of manifests"));
    let paths = files.map(|file| file.expect("a file of ours").path());
    let manifests: BTreeSet<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("kustomization.yaml"))
        .collect();
    assert!(manifests.len() >= 9, "{manifests:?}");
    manifests
}
