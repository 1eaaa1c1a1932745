//! The server as its operator sees it: log lines, metrics, traces, readiness, and what `deploy/` makes of them.

mod collector;
mod logs;
mod metrics;
mod readiness;
mod traces;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::harness::{Issuer, Reply, send};

/// What Prometheus reads.
async fn scrape(issuer: &Issuer) -> String {
    let reply = ask(&format!("http://{}/metrics", issuer.metrics), &[]).await;
    assert_eq!(reply.status, 200);
    reply.text().to_owned()
}

/// The value of a series; nothing when it is not there.
fn sample(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn ask(url: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("a response")
}
