//! The job that forgets what is over: codes, tokens, grants and sessions past their end, and old events.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::{Purge, Store};
use crate::chain;
use crate::edges::Clock;
use crate::shutdown::Shutdown;

/// Forgets what is over, now and every few minutes. Any number of replicas may do so at once.
pub(crate) async fn run(store: Store, clock: Arc<dyn Clock>, refresh_grace: Duration, mut shutdown: Shutdown) {
    let rounds = async {
        let mut period = tokio::time::interval(EVERY);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            forget(&store, clock.as_ref(), refresh_grace).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = shutdown.ordered() => {}
    }
}

async fn forget(store: &Store, clock: &dyn Clock, refresh_grace: Duration) {
    loop {
        let now = clock.now();
        let purge = Purge { events_before: now - EVENTS_KEPT, refresh_grace };
        match store.purge_expired(now, &purge).await {
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

const EVERY: Duration = Duration::from_secs(5 * 60);
const PAUSE: Duration = Duration::from_millis(50);

/// Long enough to look into something that was noticed late; events hold addresses of people, so no longer.
const EVENTS_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
