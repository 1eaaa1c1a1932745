//! Whether a name and a password are somebody's.
//!
//! 1. An address that failed too often waits; so does an account (`limits`). Attempts are counted before anything is
//!    compared, and by what was typed, so that accounts which don't exist behave like others. A browser that somebody has
//!    signed in with before is counted apart, so that no stranger has them wait there (`known_device`).
//! 2. The password is hashed in any case, and refusals are held back until they are of one age (`users/pace.rs`), so that
//!    time tells nothing about who exists.
//! 3. A wrong password, an unknown name and a disabled user are one answer.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use keywheel_jose::Timestamp;
use serde_json::json;
use tracing::{error, warn};

use super::known_device;
use crate::app::App;
use crate::config::LimitSettings;
use crate::oidc::opaque::sha256;
use crate::storage::{Attempt, EventKind, NewEvent, Origin, StoreError, ThrottlePolicy};
use crate::users::{Checked, PasswordError, User, Verdict, login_key};

/// What somebody typed, and where.
pub(crate) struct Attempted<'a> {
    /// A user name or an e-mail address.
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    pub(crate) address: Option<IpAddr>,
    /// Those of the request, for what the browser keeps.
    pub(crate) headers: &'a HeaderMap,
}

/// What becomes of an attempt.
#[derive(Debug)]
pub(crate) enum SignIn {
    /// It is this user, who may sign in.
    Accepted(Box<User>),
    /// It is nobody who may sign in.
    Refused,
    /// There were too many attempts; nothing was compared.
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The password can't be hashed at this moment, for want of room as a rule; nothing was compared.
    Busy,
}

/// Checks what somebody typed, and tells the events of what came of it. A session is not started by it.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn check(app: &App, attempt: &Attempted<'_>) -> Result<SignIn, StoreError> {
    let result = decide(app, attempt).await;
    app.metrics.sign_ins.count(match &result {
        Ok(SignIn::Accepted(_)) => "accepted",
        Ok(SignIn::Refused) => "refused",
        Ok(SignIn::Throttled { .. }) => "throttled",
        Ok(SignIn::Busy) => "busy",
        Err(_) => "failed",
    });
    result
}

async fn decide(app: &App, attempt: &Attempted<'_>) -> Result<SignIn, StoreError> {
    let &Attempted { name, password, address, headers } = attempt;
    let (now, elapsed) = (app.clock.now(), app.clock.elapsed());
    let origin_address = address.map(|address| address.to_canonical().to_string());
    let origin = Origin { at: now, address: origin_address.as_deref() };
    if let Some(wait) = address.and_then(|address| app.login.addresses.wait(address, elapsed)) {
        tell_throttled(app, "address", &origin).await?;
        return Ok(SignIn::Throttled { wait });
    }
    // Whoever exists or not, each of these is done once.
    let (mut user, mut by_device) = (None, None);
    let is_known_to_some = known_device::is_any(app, headers);
    if is_known_to_some {
        user = app.store.user_by_login(name).await?;
        let user_id = user.as_ref().map_or("", |user| user.id.as_str());
        by_device = known_device::throttle_key(app, headers, user_id);
    }
    let key = by_device.unwrap_or_else(|| sha256(&login_key(name)));
    if let Attempt::Blocked { until } = app.store.spend_attempt(&key, now, &policy(&app.config.limits)).await? {
        let what = if by_device.is_some() { "device" } else { "account" };
        tell_throttled(app, what, &origin).await?;
        return Ok(SignIn::Throttled { wait: wait_until(until, now) });
    }
    if !is_known_to_some {
        user = app.store.user_by_login(name).await?;
    }
    let hash = user.as_ref().and_then(|user| user.password_hash.as_ref());
    let Checked { verdict, hold } = match app.passwords.check(password, hash).await {
        Ok(checked) => checked,
        Err(failure) => {
            if let PasswordError::Failed(reason) = failure {
                error!(reason, "passwords can't be checked");
            }
            return Ok(SignIn::Busy);
        }
    };
    match (verdict, user) {
        (Verdict::Right { rehashed }, Some(user)) if !user.disabled => {
            app.store.clear_attempts(&key).await?;
            if let (Some(new), Some(old)) = (rehashed, &user.password_hash)
                && let Err(failure) = app.store.rehash_password(&user.id, old, &new).await
            {
                warn!(error = crate::chain(&failure), "a password stays hashed the old way");
            }
            Ok(SignIn::Accepted(Box::new(user)))
        }
        (_, user) => {
            if let Some(address) = address {
                app.login.addresses.note_failure(address, elapsed);
            }
            let event = NewEvent {
                kind: EventKind::SignInFailed,
                user_id: user.as_ref().map(|user| user.id.as_str()),
                client_id: None,
                sid: None,
                details: json!({ "disabled": user.as_ref().is_some_and(|user| user.disabled) }),
            };
            app.store.record_event(event, &origin).await?;
            // Last: who goes away meanwhile is counted all the same.
            tokio::time::sleep(hold).await;
            Ok(SignIn::Refused)
        }
    }
}

async fn tell_throttled(app: &App, what: &str, origin: &Origin<'_>) -> Result<(), StoreError> {
    let details = json!({ "by": what });
    let event = NewEvent { kind: EventKind::SignInThrottled, user_id: None, client_id: None, sid: None, details };
    app.store.record_event(event, origin).await
}

/// The attempt that is one too many makes the next wait; each wait is as long as the first, because a stranger can cause
/// it.
fn policy(limits: &LimitSettings) -> ThrottlePolicy {
    ThrottlePolicy {
        free: limits.account_failures - 1,
        first_wait: limits.account_lock,
        longest_wait: limits.account_lock,
        forget_after: limits.account_window,
    }
}

/// One second at least: the wait may be over by the time it is told.
fn wait_until(until: Timestamp, now: Timestamp) -> Duration {
    until.duration_since(now).max(Duration::from_secs(1))
}
