//! `/readyz` says why not.

use std::time::Duration;

use serde_json::Value;

use super::{ask, sample, scrape};
use crate::harness::{Issuer, Postgres, Reply, Settings, eventually};

/// Stale within seconds.
const IMPATIENT: &str = "algorithms = [\"ES256\", \"RS256\"]\npoll = \"1s\"\nmax_staleness = \"3s\"";

async fn readyz(issuer: &Issuer, accept: &str) -> Reply {
    ask(&format!("http://{}/readyz", issuer.metrics), &[("accept", accept)]).await
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

#[tokio::test]
async fn a_server_that_lost_its_database_says_so_in_detail_to_its_operator_alone() {
    let mut postgres = Postgres::serve().await;
    let issuer = Issuer::new(Settings { keys: IMPATIENT, ..Settings::PLAIN });
    issuer.use_database(&postgres.url());
    let _running = issuer.serve().await;
    let in_order = eventually("the standbys are there", Duration::from_secs(30), async || {
        let report = readyz(&issuer, "application/json").await.json();
        let all = report["checks"].as_array().expect("checks");
        all.iter().all(|check| check["status"] == "ok").then_some(report)
    })
    .await;
    assert_eq!(in_order["ready"], true);
    assert!(check(&in_order, "key RS256")["detail"].as_str().expect("text").contains(" signs; "), "{in_order}");
    let text = readyz(&issuer, "*/*").await.text().to_owned();
    assert!(text.starts_with("ready\n") && text.contains("ok       database"), "{text}");
    assert_eq!(sample(&scrape(&issuer).await, "keywheel_ready"), Some(1.0));

    postgres.stop().await;
    let lost = eventually("it stops being ready", Duration::from_secs(30), async || {
        Some(readyz(&issuer, "application/json").await).filter(|reply| reply.status == 503)
    })
    .await
    .json();

    assert_eq!(lost["ready"], false);
    assert!(lost["reason"].as_str().expect("a reason").contains("max_staleness"), "{lost}");
    assert_eq!(check(&lost, "database")["status"], "failed", "{lost}");
    assert_eq!(check(&lost, "clock")["status"], "ok", "{lost}");
    assert!(!lost.to_string().contains("postgres://"), "{lost}");
    let public = ask(&issuer.at("/readyz"), &[]).await;
    assert_eq!((public.status.as_u16(), public.text().lines().count()), (503, 1), "{}", public.text());
    let metrics = scrape(&issuer).await;
    assert_eq!(sample(&metrics, "keywheel_ready"), Some(0.0), "{metrics}");
    // What waits for a connection fails a little later.
    eventually("what failed is counted", Duration::from_secs(30), async || {
        scrape(&issuer).await.contains("keywheel_store_errors_total{operation=\"").then_some(())
    })
    .await;

    postgres.start().await;
    eventually("it is ready again", Duration::from_secs(60), async || {
        Some(readyz(&issuer, "*/*").await).filter(|reply| reply.status == 200)
    })
    .await;
}
