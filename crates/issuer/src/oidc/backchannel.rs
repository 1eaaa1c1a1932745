//! Telling clients that somebody signed out (OpenID Connect Back-Channel Logout 1.0).
//!
//! 1. Whatever ends a session queues a delivery for each client of it, in the same transaction.
//! 2. This job takes what is due, for a while, so that no other replica delivers it at the same time.
//! 3. Each delivery is a logout token (§2.4), made anew for each attempt, posted to the client (§2.5).
//! 4. What fails is tried again after longer and longer pauses, and given up in the end: a client that does not hear of it
//!    for hours will find that its refresh token is not good any more.

use std::sync::Arc;
use std::time::Duration;

use keywheel_jose::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use url::form_urlencoded;

use super::opaque::new_id;
use crate::app::App;
use crate::clients::Client;
use crate::edges::NoEntropy;
use crate::keys::{SignError, TokenKind};
use crate::outgoing::{Bounds, FetchError};
use crate::shutdown::Shutdown;
use crate::storage::{EventKind, LogoutDelivery, LogoutOutcome, NewEvent, Origin, StoreError};
use crate::telemetry::traces;

/// Wakes the job of this process.
#[derive(Default)]
pub(crate) struct Deliveries {
    queued: Notify,
}

/// §2.4. Never a `nonce`: that would make it an ID token for those who do not look closely.
#[derive(Serialize)]
struct LogoutClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    events: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

/// Why a client was not told.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("there is no randomness for a logout token")]
    NoEntropy(#[from] NoEntropy),
    #[error("the logout token can't be written")]
    Json(#[from] serde_json::Error),
    #[error("the logout token can't be signed")]
    Sign(#[from] SignError),
    #[error("the client can't be told")]
    Post(#[from] FetchError),
}

impl Deliveries {
    /// Says that something was queued. Nothing is lost without it: the job looks by itself every few seconds.
    pub(crate) fn wake(&self) {
        self.queued.notify_one();
    }
}

/// Delivers until `shutdown` is ordered.
pub(crate) async fn run(app: Arc<App>, mut shutdown: Shutdown) {
    loop {
        match deliver_due(&app).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(failure) => error!(error = crate::chain(&failure), "logouts can't be delivered"),
        }
        tokio::select! {
            () = shutdown.ordered() => return,
            () = app.logouts.queued.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Tries what is due now, some of it; how many that were.
///
/// # Errors
/// [`StoreError`] when the database does not answer; what was taken is due again later.
pub(crate) async fn deliver_due(app: &Arc<App>) -> Result<usize, StoreError> {
    let due = app.store.due_logouts(app.clock.now(), AT_ONCE, LEASE).await?;
    let count = due.len();
    let mut attempts = JoinSet::new();
    for delivery in due {
        let app = Arc::clone(app);
        attempts.spawn(async move { attempt(&app, &delivery).await });
    }
    let mut result = Ok(count);
    while let Some(attempt) = attempts.join_next().await {
        // One that panicked is due again when its lease is over.
        if let Ok(Err(failure)) = attempt {
            result = Err(failure);
        }
    }
    result
}

async fn attempt(app: &App, delivery: &LogoutDelivery) -> Result<(), StoreError> {
    let client = app.clients().find(&delivery.client_id).cloned();
    // What the client is registered with counts now, not what it was when the session ended.
    let uri = client.as_ref().and_then(|client| client.backchannel_logout_uri.as_ref());
    let (Some(client), Some(uri)) = (&client, uri) else {
        return app.store.finish_logout(delivery, LogoutOutcome::Done).await.map(drop);
    };
    let telling = tell(app, client, uri.as_str(), delivery);
    let Err(failure) = traces::job(app.tracer.as_deref(), "tell a client of a logout", telling).await else {
        app.metrics.logouts.count("delivered");
        info!(client.id = client.id, attempt = delivery.attempt, "a client was told of a logout");
        return app.store.finish_logout(delivery, LogoutOutcome::Done).await.map(drop);
    };
    let pause = usize::try_from(delivery.attempt - 1).ok().and_then(|failed| PAUSES_S.get(failed));
    let now = app.clock.now();
    let Some(pause) = pause else {
        app.metrics.logouts.count("given_up");
        let reason = crate::chain(&failure);
        warn!(client.id = client.id, reason, "a client was not told of a logout; given up");
        return give_up(app, delivery, now).await;
    };
    app.metrics.logouts.count("failed");
    let (attempt, reason) = (delivery.attempt, crate::chain(&failure));
    warn!(client.id = client.id, attempt, reason, "a client was not told of a logout; trying again later");
    app.store.finish_logout(delivery, LogoutOutcome::RetryAt(now + Duration::from_secs(*pause))).await.map(drop)
}

async fn give_up(app: &App, delivery: &LogoutDelivery, now: Timestamp) -> Result<(), StoreError> {
    // Somebody else may have taken it over meanwhile; then it is theirs to tell.
    if app.store.finish_logout(delivery, LogoutOutcome::Done).await? {
        let event = NewEvent {
            kind: EventKind::LogoutUndelivered,
            user_id: Some(&delivery.user_id),
            client_id: Some(&delivery.client_id),
            sid: delivery.sid.as_deref(),
            details: json!({ "attempts": delivery.attempt }),
        };
        app.store.record_event(event, &Origin { at: now, address: None }).await?;
    }
    Ok(())
}

/// Step 3.
async fn tell(app: &App, client: &Client, uri: &str, delivery: &LogoutDelivery) -> Result<(), Undelivered> {
    let token = logout_token(app, client, delivery).await?;
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", &token).finish();
    Ok(app.outgoing.post(uri, form, BOUNDS).await?)
}

/// §2.4; signed like the client's ID tokens, since §2.6 has the client check it so.
async fn logout_token(app: &App, client: &Client, delivery: &LogoutDelivery) -> Result<String, Undelivered> {
    let now = app.clock.now();
    // No longer than what the keys are kept for.
    let lifetime = LIFETIME.min(app.config.tokens.longest_signed());
    let claims = LogoutClaims {
        iss: app.config.issuer.as_str(),
        sub: &delivery.user_id,
        aud: &client.id,
        iat: now.as_unix(),
        exp: (now + lifetime).as_unix(),
        jti: &new_id(app.entropy.as_ref())?,
        events: Map::from_iter([(EVENT.to_owned(), json!({}))]),
        sid: delivery.sid.as_deref(),
    };
    let alg = client.id_token_alg(&app.config.keys.algorithms);
    Ok(app.keys.sign(TokenKind::Logout, alg, &serde_json::to_vec(&claims)?, lifetime, now).await?)
}

/// §2.4
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// §2.4: "it is RECOMMENDED that the expiration time be set to at most two minutes in the future".
const LIFETIME: Duration = Duration::from_secs(120);

/// After each failed attempt; one more failure and it is given up, two hours after the sign-out.
const PAUSES_S: [u64; 7] = [5, 15, 60, 300, 900, 1800, 3600];

/// A client is to answer quickly; what it says does not matter.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(5), body_limit_bytes: 64 * 1024 };

/// Longer than an attempt can take.
const LEASE: Duration = Duration::from_secs(30);
const AT_ONCE: u32 = 16;

/// For what other replicas queued, and for what is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
