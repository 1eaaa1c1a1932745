//! Who has been told of which events: one server at a time reads on, and says how far it came.

use std::time::Duration;

use keywheel_jose::Timestamp;
use sqlx::Row as _;

use super::events::read_event;
use super::{EventRow, Store, StoreError};

impl Store {
    /// Takes the events that nobody was told of yet, for as long as `lease`, in their order: none where there are none, or
    /// another server has taken them. Those from before `since` are passed over. One that is just being written may come
    /// before one that is there already, so only events from before the present second are taken.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn take_events(
        &self,
        now: Timestamp,
        since: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        const DOING: &str = "take events to tell of";
        let failed = |source| self.read_error(DOING, source);
        const NEW: &str = "SELECT events.* FROM events JOIN event_reader ON event_reader.name = 'hook' \
                           WHERE events.id > event_reader.told_up_to AND events.at >= $1 AND events.at < $2 \
                           AND event_reader.leased_until <= $3 ORDER BY events.id LIMIT $4";
        let settled = now - SETTLING;
        let new = || {
            sqlx::query(NEW).bind(since.as_unix()).bind(settled.as_unix()).bind(now.as_unix()).bind(i64::from(limit))
        };
        // Most of the time there are none, and a reader is enough to see it.
        if new().fetch_optional(&self.readers).await.map_err(failed)?.is_none() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin(DOING).await?;
        let leased = sqlx::query(
            "UPDATE event_reader SET leased_until = $2 WHERE name = 'hook' AND leased_until <= $1 RETURNING told_up_to",
        )
        .bind(now.as_unix())
        .bind((now + lease).as_unix())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(leased) = leased else { return Ok(Vec::new()) };
        let told_up_to: i64 = leased.try_get(0).map_err(failed)?;
        let rows = sqlx::query("SELECT * FROM events WHERE id > $1 AND at >= $2 AND at < $3 ORDER BY id LIMIT $4")
            .bind(told_up_to)
            .bind(since.as_unix())
            .bind(settled.as_unix())
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        rows.iter().map(|row| read_event(row, DOING)).collect()
    }

    /// Says that everybody was told of the events up to this one, and gives the lease back.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; the events are taken again when the lease is over.
    pub async fn told_events(&self, up_to: i64) -> Result<(), StoreError> {
        const TOLD: &str =
            "UPDATE event_reader SET told_up_to = $1, leased_until = 0 WHERE name = 'hook' AND told_up_to < $1";
        self.change(sqlx::query(TOLD).bind(up_to), "note what was told").await.map(|_| ())
    }
}

/// Longer than any transaction that tells of an event is open.
const SETTLING: Duration = Duration::from_secs(2);
