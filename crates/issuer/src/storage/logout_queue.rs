//! Back-channel logouts on their way to the clients (OpenID Connect Back-Channel Logout 1.0).
//!
//! 1. The transaction that ends a session puts one delivery for each client that was signed into, so none is forgotten.
//! 2. Whoever delivers takes some for a while ([`Store::due_logouts`]); if it dies, they are due again after that.
//! 3. It says how it went ([`Store::finish_logout`]). An attempt whose time is over no longer counts.

use std::time::Duration;

use keywheel_jose::Timestamp;
use sqlx::Row as _;

use super::columns::Columns;
use super::{Store, StoreError, Transition};

/// Where a client wants to be told of logouts (`backchannel_logout_uri`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutTarget {
    /// The client.
    pub client_id: String,
    /// Where.
    pub uri: String,
}

/// One logout that a client is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutDelivery {
    /// Its number.
    pub id: i64,
    /// The client.
    pub client_id: String,
    /// Where.
    pub uri: String,
    /// Who was signed out (`sub`).
    pub user_id: String,
    /// Of which session; `None` for all of them.
    pub sid: Option<String>,
    /// When the session ended.
    pub created_at: Timestamp,
    /// Which attempt this is, from 1.
    pub attempt: i64,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutOutcome {
    /// The client knows, or it will never be asked again.
    Done,
    /// It is tried again.
    RetryAt(Timestamp),
}

impl Store {
    /// Queues logouts that are not part of ending a session.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is queued then.
    pub async fn enqueue_logout(
        &self,
        targets: &[LogoutTarget],
        user_id: &str,
        sid: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "queue a logout";
        let mut transaction = self.begin(DOING).await?;
        for target in targets {
            enqueue(&mut transaction, target, user_id, sid, now)
                .await
                .map_err(|source| self.read_error(DOING, source))?;
        }
        self.commit_quietly(transaction, DOING).await
    }

    /// Takes up to `limit` deliveries that are due, the longest waiting first. Nobody else gets them before `lease` is
    /// over.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn due_logouts(
        &self,
        now: Timestamp,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<LogoutDelivery>, StoreError> {
        const DOING: &str = "take logouts to deliver";
        let failed = |source| self.read_error(DOING, source);
        // Most of the time there are none, and a reader is enough to see it.
        let due = sqlx::query("SELECT id FROM logout_deliveries WHERE next_at <= $1 ORDER BY next_at, id LIMIT $2")
            .bind(now.as_unix())
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = due.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>().map_err(failed)?;
        // In one order, so that two who take at once never wait for each other.
        ids.sort_unstable();
        let mut transaction = self.begin(DOING).await?;
        let mut taken = Vec::new();
        for id in ids {
            let row = sqlx::query(
                "UPDATE logout_deliveries SET attempt = attempt + 1, next_at = $3 WHERE id = $1 AND next_at <= $2 \
                 RETURNING id, client_id, uri, user_id, sid, created_at, attempt",
            )
            .bind(id)
            .bind(now.as_unix())
            .bind((now + lease).as_unix())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
            let Some(row) = row else { continue };
            let row = Columns::new(&row, DOING);
            taken.push(LogoutDelivery {
                id: row.get("id")?,
                client_id: row.get("client_id")?,
                uri: row.get("uri")?,
                user_id: row.get("user_id")?,
                sid: row.get("sid")?,
                created_at: row.time("created_at")?,
                attempt: row.get("attempt")?,
            });
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(taken)
    }

    /// Says how a delivery went; `false` when its lease was over and somebody else has taken it meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn finish_logout(&self, delivery: &LogoutDelivery, outcome: LogoutOutcome) -> Result<bool, StoreError> {
        const DOING: &str = "note how a logout went";
        let query = match outcome {
            LogoutOutcome::Done => sqlx::query("DELETE FROM logout_deliveries WHERE id = $1 AND attempt = $2"),
            LogoutOutcome::RetryAt(_) => {
                sqlx::query("UPDATE logout_deliveries SET next_at = $3 WHERE id = $1 AND attempt = $2")
            }
        };
        let mut query = query.bind(delivery.id).bind(delivery.attempt);
        if let LogoutOutcome::RetryAt(at) = outcome {
            query = query.bind(at.as_unix());
        }
        Ok(self.change(query, DOING).await? == 1)
    }
}

pub(super) async fn enqueue(
    transaction: &mut Transition,
    target: &LogoutTarget,
    user_id: &str,
    sid: Option<&str>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logout_deliveries (client_id, uri, user_id, sid, created_at, attempt, next_at) \
         VALUES ($1, $2, $3, $4, $5, 0, $5)",
    )
    .bind(target.client_id.as_str())
    .bind(target.uri.as_str())
    .bind(user_id)
    .bind(sid)
    .bind(now.as_unix())
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}
