//! `/readyz`: whether requests should come here, and what stands behind the answer.
//!
//! The public listener says it in a line. The metrics listener tells of each check, in lines or, to who accepts
//! `application/json`, as JSON. A warning says what will become a reason, and is none yet.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, StatusCode};
use keywheel_keyring::{Phase, format_duration};
use serde::Serialize;

use super::reply;
use crate::app::App;
use crate::chain;
use crate::keys::NotReady;
use crate::storage::Store;

/// How one thing stands.
#[derive(Serialize)]
struct Check {
    name: String,
    status: Status,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

#[derive(Serialize)]
struct Report {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    checks: Vec<Check>,
}

/// `GET /readyz` of the public listener.
pub(super) async fn brief(State(app): State<Arc<App>>) -> Response {
    match app.ready(app.clock.now()) {
        Ok(()) => reply::text(StatusCode::OK, "ready\n"),
        Err(reason) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// `GET /readyz` of the metrics listener.
pub(super) async fn detailed(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let now = app.clock.now();
    let (not_ready, reason) = (app.keys.ready(now).err(), app.ready(now).err());
    let mut checks = Vec::from(database(&app, not_ready.as_ref()).await);
    checks.push(clock(&app, not_ready.as_ref()));
    checks.extend(keys(&app, not_ready.as_ref()));
    checks.extend(certificate(&app));
    let report = Report { ready: reason.is_none(), reason: reason.map(|reason| reason.to_string()), checks };
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/json") {
        let body = serde_json::to_vec(&report).unwrap_or_default();
        let response = reply::with_body(status, HeaderValue::from_static("application/json"), body);
        return reply::header(response, CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    reply::text(status, report.to_string())
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            None => writeln!(formatter, "ready")?,
            Some(reason) => writeln!(formatter, "not ready: {reason}")?,
        }
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, status, detail } in &self.checks {
            let status = match status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Failed => "failed",
            };
            writeln!(formatter, "{status:<8} {name:<width$}  {detail}")?;
        }
        Ok(())
    }
}

/// Does it answer now; when was it read; and does its schema fit?
async fn database(app: &App, not_ready: Option<&NotReady>) -> [Check; 2] {
    let age = app.keys.read_age();
    let began = app.clock.elapsed();
    let answer = tokio::time::timeout(PATIENCE, app.store.schema()).await;
    let took = app.clock.elapsed().saturating_sub(began);
    let answered = match &answer {
        Ok(Ok(_)) => format!("answers within {} ms", took.as_millis()),
        Ok(Err(failure)) => chain(failure),
        Err(_) => format!("does not answer within {}", format_duration(PATIENCE)),
    };
    let limit = format_duration(app.config.keys.rotation.max_staleness());
    let detail = format!("{answered}; keys read {:.1} s ago, {limit} are allowed", age.as_secs_f64());
    let status = match not_ready {
        Some(NotReady::Stale { .. }) => Status::Failed,
        _ if !matches!(answer, Ok(Ok(_))) => Status::Warning,
        _ => Status::Ok,
    };
    let known = Store::schema_version();
    let (schema, told) = match answer {
        Ok(Ok(found)) if found == known => (Status::Ok, format!("{found}, the one of this version")),
        Ok(Ok(found)) if found > known => (
            Status::Warning,
            format!("{found}: a newer version has been here, which this one ({known}) can serve beside"),
        ),
        Ok(Ok(found)) => (Status::Warning, format!("{found}, older than that of this version ({known})")),
        _ => (Status::Warning, "not known".to_owned()),
    };
    [
        Check { name: "database".to_owned(), status, detail },
        Check { name: "schema".to_owned(), status: schema, detail: told },
    ]
}

fn clock(app: &App, not_ready: Option<&NotReady>) -> Check {
    let (ahead_ms, limit_ms) = app.keys.clock_ahead_ms();
    let status = if matches!(not_ready, Some(NotReady::Clock { .. })) { Status::Failed } else { Status::Ok };
    let detail = format!("{ahead_ms} ms ahead of the database's, {limit_ms} ms are allowed");
    Check { name: "clock".to_owned(), status, detail }
}

/// Each ring has to have a key that signs; and should have the next.
fn keys(app: &App, not_ready: Option<&NotReady>) -> Vec<Check> {
    let now = app.clock.now();
    let none_signs = matches!(not_ready, Some(NotReady::Sign(_)));
    app.keys.with_ring(|ring| {
        let check = |alg| {
            let next = ring
                .keys()
                .iter()
                .find(|key| key.alg == alg && matches!(ring.phase(key, now), Phase::Standby | Phase::Scheduled));
            let next = next.map(|key| format!("{} from {}", key.kid, key.sign_from));
            let (status, detail) = match (ring.signer(alg, now), next) {
                (Some(signer), Some(next)) => (Status::Ok, format!("{} signs; {next}", signer.kid)),
                (Some(signer), None) => (Status::Warning, format!("{} signs; no standby", signer.kid)),
                (None, next) => {
                    let status = if none_signs { Status::Failed } else { Status::Warning };
                    (status, format!("none signs; {}", next.as_deref().unwrap_or("no standby")))
                }
            };
            Check { name: format!("key {alg}"), status, detail }
        };
        app.config.keys.algorithms.iter().map(|&alg| check(alg)).collect()
    })
}

/// Where TLS is spoken here.
fn certificate(app: &App) -> Option<Check> {
    let tls = app.tls.as_ref()?;
    let (now, not_after) = (app.clock.now(), tls.not_after());
    let (status, detail) = match (tls.ready(), not_after) {
        (Err(reason), _) => (Status::Failed, reason),
        (Ok(()), Some(not_after)) if not_after <= now => (Status::Warning, format!("expired at {not_after}")),
        (Ok(()), Some(not_after)) => (Status::Ok, format!("good until {not_after}")),
        (Ok(()), None) => (Status::Ok, "in force".to_owned()),
    };
    Some(Check { name: "certificate".to_owned(), status, detail })
}

/// Longer than a database in order takes, shorter than a probe waits.
const PATIENCE: Duration = Duration::from_secs(1);
