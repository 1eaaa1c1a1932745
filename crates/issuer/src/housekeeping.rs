//! The jobs that tidy up: sessions that are over are ended, and what is over is forgotten.
//!
//! 1. Every minute, sessions that have reached their end, or were not used for too long, are ended as by a sign-out: their
//!    clients hear of it and their tokens end. Nobody else would say so.
//! 2. Every few minutes it is looked which password hashes were imported and not made anew yet (`users/pace.rs`).
//! 3. Every few minutes codes, tokens, grants and sessions past their end are forgotten, and old events.
//!
//! Any number of replicas may do so at once. One run does no more than it can do quickly; what is left is for the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::admin::users::keep_pace;
use crate::app::App;
use crate::chain;
use crate::login::session::logout_targets;
use crate::shutdown::Shutdown;
use crate::storage::Purge;

/// Tidies up until `shutdown` is ordered.
pub(crate) async fn run(app: Arc<App>, mut shutdown: Shutdown) {
    let ending = async {
        let mut period = interval(END_EVERY);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            end_sessions(&app).await;
        }
    };
    let forgetting = async {
        let mut period = interval(FORGET_EVERY);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if let Err(failure) = keep_pace(&app.store, &app.passwords).await {
                warn!(error = chain(&failure), "imported password hashes could not be looked at; it is tried again");
            }
            forget(&app).await;
        }
    };
    tokio::select! {
        () = ending => {}
        () = forgetting => {}
        () = shutdown.ordered() => {}
    }
}

/// Step 1.
pub(crate) async fn end_sessions(app: &App) {
    let mut ended = 0;
    for _ in 0..BATCHES {
        let batch = app.store.end_expired_sessions(app.clock.now(), AT_ONCE, &logout_targets(app)).await;
        let batch = match batch {
            Ok(batch) => batch.len(),
            Err(failure) => {
                warn!(error = chain(&failure), "sessions that are over could not be ended; it is tried again");
                break;
            }
        };
        if batch > 0 {
            ended += batch;
            app.logouts.wake();
        }
        if batch < AT_ONCE as usize {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if ended > 0 {
        info!(sessions = ended, "sessions that were over are ended");
    }
}

/// Step 3.
async fn forget(app: &App) {
    loop {
        let now = app.clock.now();
        let purge = Purge { events_before: now - EVENTS_KEPT, refresh_grace: app.config.tokens.refresh_grace };
        match app.store.purge_expired(now, &purge).await {
            Ok(purged) => {
                debug!(?purged, "what is over was forgotten");
                if !purged.more {
                    return;
                }
            }
            Err(failure) => {
                warn!(error = chain(&failure), "what is over could not be forgotten; it is tried again");
                return;
            }
        }
        // Between two batches others have their turn at the database.
        tokio::time::sleep(PAUSE).await;
    }
}

const END_EVERY: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(5 * 60);
const PAUSE: Duration = Duration::from_millis(50);

/// Sessions that are ended in one transaction, which others wait for on SQLite, and transactions of one run.
const AT_ONCE: u32 = 50;
const BATCHES: usize = 100;

/// Long enough to look into something that was noticed late; events hold addresses of people, so no longer.
const EVENTS_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
