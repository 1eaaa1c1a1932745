//! Telling an address of the operator's what people and clients do: to mail somebody about a sign-in, to page somebody
//! about a reused refresh token, to feed a system that watches.
//!
//! 1. The events of the database are read on in their order, by one server at a time.
//! 2. They are posted as JSON, `{"issuer": …, "events": [{"id", "at", "type", "user_id", "client_id", "sid", "address",
//!    "details"}]}`, with `Keywheel-Signature: t=TIME,v1=HEX`: the HMAC-SHA-256 of `TIME.BODY` under the configured secret.
//! 3. An answer of 2xx says that they were taken. Until then they are posted again, so one may come twice; its `id` tells.
//!
//! What is older than an hour when it could be told is passed over: a hook is for now, the events are for later.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use tracing::{debug, warn};
use url::Url;

use crate::app::App;
use crate::chain;
use crate::config::HookSettings;
use crate::outgoing::Bounds;
use crate::shutdown::Shutdown;
use crate::storage::{EventRow, StoreError};
use crate::telemetry::traces;

/// Tells until `shutdown` is ordered; nobody where no hook is configured.
pub(crate) async fn run(app: Arc<App>, mut shutdown: Shutdown) {
    let Some(hook) = app.config.hooks.clone() else { return shutdown.ordered().await };
    loop {
        match tell(&app, &hook).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(failure) => warn!(error = chain(&failure), "events can't be read for the hook"),
        }
        tokio::select! {
            () = shutdown.ordered() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Tells of what is new, some of it; how many events were taken by the hook.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn tell(app: &App, hook: &HookSettings) -> Result<usize, StoreError> {
    let now = app.clock.now();
    let events = app.store.take_events(now, now - OLDEST, LEASE, AT_ONCE).await?;
    let Some(last) = events.last() else { return Ok(0) };
    let body = body(app.config.issuer.as_str(), &events);
    let signature = signature(hook, now.as_unix(), &body);
    let post = app.outgoing.post_json(hook.url.as_str(), body, ("keywheel-signature", signature), BOUNDS);
    let posted = traces::job(app.tracer.as_deref(), "tell the hook", post).await;
    app.metrics.hook.count(if posted.is_ok() { "delivered" } else { "failed" });
    if let Err(failure) = posted {
        let error = without_address(&chain(&failure), hook);
        warn!(error, "the hook did not take what happened; it is told again");
        return Ok(0);
    }
    app.store.told_events(last.id).await?;
    debug!(events = events.len(), "the hook was told what happened");
    Ok(events.len())
}

/// The address of a hook is often all that it knows its callers by, so it is not logged.
fn without_address(text: &str, hook: &HookSettings) -> String {
    let configured = hook.url.as_str();
    let called = Url::parse(configured).map_or_else(|_| configured.to_owned(), String::from);
    text.replace(&called, "the hook").replace(configured, "the hook")
}

fn body(issuer: &str, events: &[EventRow]) -> String {
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "id": event.id, "at": event.at.as_unix(), "type": event.kind, "user_id": event.user_id,
                "client_id": event.client_id, "sid": event.sid, "address": event.address,
                "details": serde_json::from_str::<Value>(&event.details).unwrap_or(Value::Null),
            })
        })
        .collect();
    json!({ "issuer": issuer, "events": events }).to_string()
}

fn signature(hook: &HookSettings, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, hook.secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

const LOOK_EVERY: Duration = Duration::from_secs(2);
const OLDEST: Duration = Duration::from_secs(60 * 60);
/// Longer than an exchange takes, and the pause before what failed is tried again.
const LEASE: Duration = Duration::from_secs(15);
const AT_ONCE: u32 = 100;
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(10), body_limit_bytes: 64 * 1024 };

#[cfg(test)]
mod tests {
    use crate::config::Secret;
    use crate::outgoing::tests::Server;
    use crate::storage::{EventKind, NewEvent, Origin};
    use crate::testing::Home;

    use super::*;

    const SECRET: &str = "a-secret-of-the-hook-0123456789abcdef";

    #[tokio::test]
    async fn what_went_wrong_is_told_without_the_address() {
        let home = Home::new();
        let app = home.open_with("[outgoing]\nallow_private = true").await.expect("an issuer");
        let server = Server::answering("503 Service Unavailable", "").await;
        let url = server.url("/services/the-secret-part?key=another");
        let hook = HookSettings {
            url: crate::clients::WebUri::parse(&url).expect("a URL"),
            secret: Secret::new(SECRET.to_owned()),
        };
        let post = app.outgoing.post_json(hook.url.as_str(), String::new(), ("x", String::new()), BOUNDS).await;

        let told = without_address(&chain(&post.expect_err("refused")), &hook);

        assert_eq!(told, "the hook answers 503 Service Unavailable");
    }

    #[tokio::test]
    async fn the_hook_is_told_in_order_until_it_takes_what_happened() {
        let home = Home::new();
        let app = home.open_with("[outgoing]\nallow_private = true").await.expect("an issuer");
        let server = Server::answering("503 Service Unavailable", "").await;
        let hook = HookSettings {
            url: crate::clients::WebUri::parse(&server.url("/hook")).expect("a URL"),
            secret: Secret::new(SECRET.to_owned()),
        };
        for kind in [EventKind::SignInFailed, EventKind::SignInThrottled] {
            let event = NewEvent { kind, user_id: Some("u1"), client_id: None, sid: None, details: json!({"n": 1}) };
            let origin = Origin { at: app.clock.now(), address: Some("192.0.2.1") };
            app.store.record_event(event, &origin).await.expect("stored");
        }
        assert_eq!(tell(&app, &hook).await.expect("an answer"), 0, "they may still be followed by earlier ones");
        home.clock.advance(3);

        assert_eq!(tell(&app, &hook).await.expect("an answer"), 0);
        assert_eq!(tell(&app, &hook).await.expect("an answer"), 0, "leased until it is tried again");
        server.answer("204 No Content", "");
        home.clock.advance(15);
        assert_eq!(tell(&app, &hook).await.expect("an answer"), 2);
        assert_eq!(tell(&app, &hook).await.expect("an answer"), 0, "once it was taken it is not told again");

        let received = server.received();
        assert_eq!(received.len(), 2);
        let (head, body) = received[1].split_once("\r\n\r\n").expect("a body");
        let told: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(told["issuer"], app.config.issuer.as_str());
        assert_eq!(told["events"][0]["type"], "user.sign_in_failed");
        assert_eq!(told["events"][1]["type"], "user.sign_in_throttled");
        assert_eq!(told["events"][1]["address"], "192.0.2.1");
        let expected = signature(&hook, app.clock.now().as_unix(), body);
        assert!(head.lines().any(|line| line == format!("keywheel-signature: {expected}")), "{head}");
    }
}
