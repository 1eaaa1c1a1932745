//! Metrics, and what `deploy/` makes of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{sample, scrape};
use crate::harness::{Issuer, Person, Settings, Talker, eventually, python, send, target_folder};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const ALICE: &str = "[[user]]\nusername = \"alice\"\npassword = \"violet-harbour-lantern-42\"\n";

/// The metrics as Prometheus' own library reads them: (family, type, samples).
async fn families(text: &str) -> Vec<(String, String, Vec<(String, Value, f64)>)> {
    let reader = Talker::start("openmetrics.py", python("openmetrics.py"));
    let families =
        reader.command("read", json!({"text": text})).await.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let sample = |sample: &Value| (text_of(&sample[0]), sample[1].clone(), sample[2].as_f64().unwrap_or(f64::NAN));
    let family = |family: &Value| {
        let samples = family["samples"].as_array().expect("samples").iter().map(sample).collect();
        (text_of(&family["name"]), text_of(&family["type"]), samples)
    };
    families.as_array().expect("families").iter().map(family).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn what_strangers_ask_for_makes_no_new_series() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    issuer.token(BILLING).await;
    // The first is counted in what the second reads.
    scrape(&issuer).await;
    let before = scrape(&issuer).await;

    for number in 0..60 {
        let method = Method::from_bytes(format!("BREW{number}").as_bytes()).expect("a method");
        for path in [format!("/nowhere/{number}"), format!("/static/{number}.css"), "/oauth2/token".to_owned()] {
            let request = Request::builder().method(method.clone()).uri(issuer.at(&path)).body(Full::default());
            let status = send(request.expect("a request")).await.expect("a response").status;
            assert!(status.is_client_error(), "{status}");
        }
    }

    let after = scrape(&issuer).await;
    let other = "keywheel_http_requests_total{route=\"other\",method=\"other\",status=\"404\"}";
    assert_eq!(sample(&after, other), Some(60.0), "{after}");
    let series = |text: &str| text.lines().filter(|line| line.starts_with("keywheel_http_")).count();
    // Three routes with a status each, and two histograms of ten lines.
    assert!(series(&after) - series(&before) <= 3 + 2 * 10, "{after}");
    assert!(!after.contains("BREW") && !after.contains("nowhere"), "{after}");
}

#[tokio::test]
async fn prometheus_reads_every_line_and_finds_what_happened() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.append_config(ALICE);
    let server = issuer.serve().await;
    issuer.token(BILLING).await;
    issuer.token_reply("grant_type=client_credentials", (BILLING.0, "wrong")).await;
    Person::new(&issuer, "alice", "violet-harbour-lantern-42").sign_in().await;
    Person::new(&issuer, "alice", "wrong").go(&issuer.at("/login")).await;

    let text = scrape(&issuer).await;
    let families = families(&text).await;

    let value = |name: &str, labels: Value| {
        let samples = families.iter().flat_map(|(_, _, samples)| samples);
        let found = samples.filter(|(known, of, _)| known == name && *of == labels).map(|(.., value)| *value);
        let found: Vec<f64> = found.collect();
        assert_eq!(found.len(), 1, "{name}{labels}: {text}");
        found[0]
    };
    let token = |status: &str| json!({"route": "/oauth2/token", "method": "POST", "status": status});
    assert_eq!(value("keywheel_http_requests_total", token("200")), 1.0);
    assert_eq!(value("keywheel_http_requests_total", token("401")), 1.0);
    assert_eq!(value("keywheel_http_request_duration_seconds_count", json!({"route": "/oauth2/token"})), 2.0);
    assert_eq!(value("keywheel_grants_total", json!({"grant_type": "client_credentials"})), 1.0);
    assert_eq!(value("keywheel_grants_total", json!({"grant_type": "refresh_token"})), 0.0, "there before it happens");
    assert_eq!(value("keywheel_sign_ins_total", json!({"outcome": "accepted"})), 1.0);
    assert_eq!(value("keywheel_sign_ins_total", json!({"outcome": "refused"})), 1.0);
    assert_eq!(value("keywheel_refreshes_total", json!({"outcome": "reused"})), 0.0);
    assert!(value("keywheel_password_hash_seconds_count", json!({})) >= 2.0);
    // This request for the metrics is the only one under way.
    assert_eq!(value("keywheel_http_requests_in_flight", json!({})), 1.0);
    assert_eq!(value("keywheel_keys", json!({"alg": "ES256", "phase": "signing"})), 1.0);
    assert_eq!(value("keywheel_clock_offset_seconds", json!({})), 0.0, "an embedded database has no other clock");
    let memory = value("process_resident_memory_bytes", json!({})) / 1024.0;
    let seen = server.resident_kib() as f64;
    assert!((memory - seen).abs() < seen / 2.0, "{memory} KiB, and the kernel says {seen}");
    assert!(families.iter().any(|(name, kind, _)| name == "keywheel_build" && kind == "info"), "{text}");
}

#[tokio::test]
async fn memory_that_passwords_took_is_given_back() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.append_config(ALICE);
    let server = issuer.serve().await;

    for _ in 0..3 {
        Person::new(&issuer, "alice", "violet-harbour-lantern-42").sign_in().await;
        eventually("19 MiB are given back", Duration::from_secs(10), async || {
            (server.resident_kib() + 15 * 1024 < server.peak_resident_kib()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.append_config(ALICE);
    let _running = issuer.serve().await;
    issuer.token(BILLING).await;
    Person::new(&issuer, "alice", "violet-harbour-lantern-42").sign_in().await;

    let families = families(&scrape(&issuer).await).await;
    let mut there: BTreeSet<String> = families.iter().map(|(name, ..)| name.clone()).collect();
    for (name, kind, samples) in &families {
        assert!(name.starts_with("keywheel_") || name.starts_with("process_"), "{name}");
        assert_ne!(kind, "unknown", "{name}");
        there.extend(samples.iter().map(|(name, ..)| name.clone()));
    }
    // These need a certificate, and a database that fails: the stories of TLS and of readiness see them.
    there
        .extend(["keywheel_certificate_not_after_timestamp_seconds", "keywheel_store_errors_total"].map(str::to_owned));

    for file in ["grafana/keywheel.json", "prometheus/rules.yml", "prometheus/rules_test.yml"] {
        let text = std::fs::read_to_string(deploy().join(file)).expect("a file of deploy/");
        let asked = metric_names(&text);
        assert!(asked.len() > 15, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}, and there is {there:?}");
    }
    let dashboard = std::fs::read_to_string(deploy().join("grafana/keywheel.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    let promtool = promtool();
    for arguments in [&["check", "rules", "rules.yml"][..], &["test", "rules", "rules_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(deploy().join("prometheus")).output();
        let output = output.expect("running promtool");
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {}: {told}", arguments.join(" "));
    }
    let rules = std::fs::read_to_string(deploy().join("prometheus/rules.yml")).expect("the rules");
    let tests = std::fs::read_to_string(deploy().join("prometheus/rules_test.yml")).expect("their tests");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<_> = alerts.filter(|alert| !tests.contains(&format!("alertname=\"{alert}\""))).collect();
    assert!(untested.is_empty(), "no test fires {untested:?}");
}

/// Every word that begins like a metric of ours.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|word| word.starts_with("keywheel_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Of the system, or where `cargo xtask test` has put it.
fn promtool() -> PathBuf {
    let brought = target_folder().join("test-clients/prometheus/usr/bin/promtool");
    let installed = PathBuf::from("/usr/bin/promtool");
    [brought, installed].into_iter().find(|path| path.is_file()).expect("promtool; `cargo xtask test` brings it")
}
