//! The program as `cargo xtask bench` runs it, with a row that needs no server. No time is judged.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(folder: &Path, only: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--quick", "--only", only, "--keywheel", "/nowhere/keywheel"]);
    command.arg("--folder").arg(folder.join("servers")).arg("--clients").arg(folder);
    command.arg("--json").arg(folder.join("bench.json"));
    command.output().expect("it starts")
}

#[test]
fn a_run_leaves_a_table_and_the_same_figures_as_json() {
    let folder = tempfile::tempdir().expect("a folder");

    let output = bench(folder.path(), "verification/EdDSA");

    let (table, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{words}");
    assert!(table.contains("not measured: npm jose is not installed"), "{table}");
    let report = std::fs::read_to_string(folder.path().join("bench.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let rows: Vec<&str> =
        report["rows"].as_array().into_iter().flatten().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(rows, ["verification/EdDSA", "verification/EdDSA-cached", "verification/EdDSA-jsonwebtoken"]);
    for row in report["rows"].as_array().into_iter().flatten() {
        let ratio = |which| row["ratio"][which].as_f64().expect("a number");
        assert!(0.0 < ratio("min") && ratio("min") <= ratio("median") && ratio("median") <= ratio("max"), "{row}");
    }
    let left = folder.path().join("servers").read_dir().expect("the folder").count();
    assert_eq!(left, 0, "the folder of a run is removed");
}

#[test]
fn what_is_wanted_and_does_not_exist_is_said() {
    let folder = tempfile::tempdir().expect("a folder");

    for (only, words) in [("tokens", "there is no row tokens"), ("verification/HS256", "there is no such row")] {
        let output = bench(folder.path(), only);

        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
