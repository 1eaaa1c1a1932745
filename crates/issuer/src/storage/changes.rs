//! When to look for what other processes changed.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, info};

use super::{Backend, Store};

/// Tells when to look. A notification may be lost (while a connection is made anew, or behind a pooler that does not
/// pass it on), so it only makes the look come sooner: the period is what is promised.
pub struct Changes {
    store: Store,
    period: Interval,
    listener: Option<PgListener>,
}

impl Store {
    /// When to look: on PostgreSQL at each notification and each `poll`; on SQLite every quarter of a second, well below
    /// the second that is promised.
    #[must_use]
    pub fn changes(&self, poll: Duration) -> Changes {
        let period = match self.backend {
            Backend::Sqlite(_) => LOOK_EVERY.min(poll),
            Backend::Postgres(_) => poll,
        };
        let mut period = tokio::time::interval(period);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Changes { store: self.clone(), period, listener: None }
    }
}

impl Changes {
    /// Waits until it is time to look.
    pub async fn next(&mut self) {
        let Backend::Postgres(pool) = &self.store.backend else {
            self.period.tick().await;
            return;
        };
        if self.listener.is_none() {
            let listening = async {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.listen(CHANNEL).await?;
                Ok::<_, sqlx::Error>(listener)
            };
            tokio::select! {
                // What happened before it listened can only be seen by looking, now.
                listener = listening => match listener {
                    Ok(listener) => {
                        info!("listening to changes in the database");
                        self.listener = Some(listener);
                        return;
                    }
                    Err(error) => debug!(%error, "cannot listen to changes in the database; polling"),
                },
                _ = self.period.tick() => return,
            }
        }
        let Some(listener) = &mut self.listener else {
            self.period.tick().await;
            return;
        };
        tokio::select! {
            notification = listener.try_recv() => {
                if !matches!(notification, Ok(Some(_))) {
                    self.listener = None;
                }
            }
            _ = self.period.tick() => {}
        }
    }
}

/// Where changes are told.
const CHANNEL: &str = "keywheel_changes";
/// Tells of a change.
pub(super) const NOTIFY: &str = "NOTIFY keywheel_changes";

/// How often SQLite is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
