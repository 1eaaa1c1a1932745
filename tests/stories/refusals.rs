//! What `serve` refuses to start with: each time an exit code, words that say what to do, and no panic.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Exit, Issuer, Settings};

const FAILED: i32 = 1;
const WRONG_CONFIGURATION: i32 = 2;

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let issuer = Issuer::new(Settings::PLAIN);
    let text = "this was never a database, and it is long enough to look like a page of one".repeat(100);
    fs::write(issuer.path("keywheel.db"), &text).expect("writing the file");

    let exit = issuer.start().ended().await;

    exit.assert_refused(FAILED, &["keywheel.db", "damaged or is not a Keywheel database", "backup"]);
    assert_eq!(fs::read_to_string(issuer.path("keywheel.db")).expect("reading the file"), text);
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.serve().await.stop().await;
    let path = issuer.path("keywheel.db");
    let length = fs::metadata(&path).expect("the database").len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).expect("opening the database");
    // The header of the file stays as it is; every page behind it becomes nonsense.
    file.seek(SeekFrom::Start(100)).expect("seeking");
    file.write_all(&vec![0xa5; usize::try_from(length - 100).expect("a small file")]).expect("damaging the database");
    drop(file);

    let exit = issuer.start().ended().await;

    exit.assert_refused(FAILED, &["keywheel.db", "damaged"]);
}

#[tokio::test]
async fn without_the_right_key_encryption_key_nothing_starts_and_no_key_is_made() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.serve().await.stop().await;
    let kids = kids(&issuer).await;
    let right = fs::read(issuer.path("kek")).expect("reading the key");

    fs::remove_file(issuer.path("kek")).expect("removing the key");
    let missing = issuer.start().ended().await;
    assert!(!issuer.path("kek").exists(), "a new key-encryption key was made for an existing database");
    fs::write(issuer.path("kek"), "YW5vdGhlciBrZXksIGFsc28gMzIgYnl0ZXMgbG9uZyE=").expect("writing a key");
    let wrong = issuer.start().ended().await;
    fs::write(issuer.path("kek"), "too short").expect("writing a key");
    let malformed = issuer.start().ended().await;

    for (exit, words) in [
        (missing, ["key-encryption key", "missing"]),
        (wrong, ["key-encryption key", "right file"]),
        (malformed, ["key-encryption key", "32 bytes"]),
    ] {
        assert!(matches!(exit.code, Some(FAILED | WRONG_CONFIGURATION)), "{exit:?}");
        exit.assert_refused(exit.code.unwrap_or_default(), &words);
    }
    fs::write(issuer.path("kek"), right).expect("writing the key");
    let running = issuer.serve().await;
    assert_eq!(self::kids(&issuer).await, kids, "the refused starts changed the keys");
    running.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let issuer = Issuer::new(Settings::PLAIN);
    for address in [issuer.listen, issuer.metrics] {
        let held = TcpListener::bind(address).expect("a free port");

        let exit = issuer.start().ended().await;

        exit.assert_refused(FAILED, &[&address.to_string(), "in use"]);
        drop(held);
    }
}

#[tokio::test]
async fn an_unsafe_policy_is_refused_with_its_numbers() {
    // 300 + 30 + 2 × 15 + 30 seconds are the least that verifiers with a cache need to see a key before it signs.
    let keys = r#"
        rotate_every = "30d"
        announce = "60s"
        jwks_max_age = "5m"
        jwks_shared_max_age = "30s"
        clock_skew = "30s"
        poll = "15s"
    "#;
    let issuer = Issuer::new(Settings { keys, ..Settings::PLAIN });

    let exit = issuer.start().ended().await;

    exit.assert_refused(WRONG_CONFIGURATION, &["announce", "1m", "jwks_max_age", "6m30s"]);
    assert!(!issuer.path("keywheel.db").exists(), "a refused configuration must leave nothing behind");
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once() {
    let server = "lisen = \"127.0.0.1:1\"\n";
    let keys = "algorithms = [\"HS256\"]\nrotate_evry = \"30d\"\npoll = \"soon\"\n";
    let tables = "[[client]]\nid = \"billing\"\nsecret = \"short\"\ngrants = [\"client_credentials\"]\n";
    let issuer = Issuer::new(Settings { server, keys, tables, ..Settings::PLAIN });
    let text = fs::read_to_string(issuer.config_file()).expect("reading the configuration");
    let line = 1 + text.lines().position(|line| line.starts_with("rotate_evry")).expect("the misspelt line");

    let exit = issuer.start().ended().await;

    let place = format!("keywheel.toml:{line}:");
    exit.assert_refused(
        WRONG_CONFIGURATION,
        &["lisen", "server.listen", &place, "rotate_evry", "keys.rotate_every", "HS256", "soon", "32 characters"],
    );
    assert!(!exit.stderr.contains("\"short\""), "the message shows the secret: {exit:?}");
}

#[tokio::test]
async fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let issuer = Issuer::new(Settings::PLAIN);
    fs::write(issuer.config_file(), "issuer = \"http://localhost\"\n[server\n").expect("writing the configuration");

    issuer.start().ended().await.assert_refused(WRONG_CONFIGURATION, &["keywheel.toml:2"]);

    fs::remove_file(issuer.config_file()).expect("removing the configuration");
    issuer.start().ended().await.assert_refused(WRONG_CONFIGURATION, &["keywheel.toml"]);
}

#[tokio::test]
async fn a_key_that_everybody_has_signs_only_on_loopback() {
    let issuer = Issuer::new(Settings::PLAIN);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys.example/es256.pem");
    issuer.serve().await.stop().await;
    let import = issuer.command(&["keys", "import", example]).await;
    assert_eq!(import.code, Some(0), "{import:?}");
    issuer.serve().await.stop().await;

    issuer.edit_config(&format!("issuer = \"{}\"", issuer.url()), "issuer = \"https://id.example.com\"");
    let exit = issuer.start().ended().await;

    assert!(matches!(exit.code, Some(FAILED | WRONG_CONFIGURATION)), "{exit:?}");
    exit.assert_refused(exit.code.unwrap_or_default(), &["example"]);
}

#[tokio::test]
async fn wrong_usage_is_told_with_code_2() {
    let issuer = Issuer::new(Settings::PLAIN);
    for arguments in [&["frobnicate"][..], &["keys", "lisst"], &["serve", "--cofnig", "x"], &["token", "verify"]] {
        let exit: Exit = issuer.command(arguments).await;
        exit.assert_refused(WRONG_CONFIGURATION, &["Usage"]);
    }
}

async fn kids(issuer: &Issuer) -> Vec<String> {
    let keys = issuer.json(&["keys", "list"]).await;
    let list = keys.as_array().or_else(|| keys["keys"].as_array()).expect("a list of keys");
    let mut kids: Vec<String> = list.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect();
    kids.sort();
    assert!(!kids.is_empty() && kids.iter().all(|kid| !kid.is_empty()), "{}", Value::clone(&keys));
    kids
}
