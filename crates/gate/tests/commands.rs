//! The program as its users start it: files, the environment, and exit codes.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `keywheel-gate ARGUMENTS` in `folder`, with these variables and none of the machine's own that would count.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel-gate"));
    command.current_dir(folder).args(arguments).env_clear().envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn what_init_writes_passes_check() {
    let folder = tempfile::tempdir().expect("a folder");

    let (written, _, _) = run(folder.path(), &["init"], &[]);
    let (checked, table, said) = run(folder.path(), &["check"], &[]);

    assert_eq!((written, checked), (Some(0), Some(0)), "{said}");
    assert!(table.contains("/invoices/**") && said.contains("usable"), "{table}{said}");
}

#[test]
fn init_writes_over_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keywheel-gate.toml");
    std::fs::write(&file, "# mine").expect("writable");

    let (code, _, said) = run(folder.path(), &["init"], &[]);

    assert_eq!(code, Some(1), "{said}");
    assert_eq!(std::fs::read_to_string(file).expect("readable"), "# mine");
}

#[test]
fn a_bad_configuration_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gate.toml"), "[sever]\n").expect("writable");

    for arguments in
        [["check", "--config", "gate.toml"], ["serve", "--config", "gate.toml"], ["check", "--config", "none.toml"]]
    {
        let (code, _, said) = run(folder.path(), &arguments, &[]);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
    }
    assert_eq!(run(folder.path(), &["chek"], &[]).0, Some(2));
    assert_eq!(run(folder.path(), &["--help"], &[]).0, Some(0));
}

#[test]
fn variables_count() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("other.toml"), "").expect("writable");
    let variables = [
        ("KEYWHEEL_GATE_CONFIG", "other.toml"),
        ("KEYWHEEL_GATE_ISSUER__0__URL", "http://127.0.0.1:1"),
        ("KEYWHEEL_GATE_ISSUER__0__AUDIENCE", "https://api.example.com"),
    ];

    let (code, table, said) = run(folder.path(), &["check"], &variables);

    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("http://127.0.0.1:1"), "{table}");
}

#[test]
fn a_token_that_is_none_is_explained_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[[issuer]]\nurl = \"http://127.0.0.1:1\"\naudience = \"a\"\n";
    std::fs::write(folder.path().join("keywheel-gate.toml"), text).expect("writable");

    let (code, explained, said) = run(folder.path(), &["explain", "hunter2.hunter2"], &[]);

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("three parts"), "{said}");
    assert!(!explained.contains("hunter2") && !said.contains("hunter2"));
}
