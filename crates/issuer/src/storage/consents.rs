//! What a user allowed a client once and for all, so that the question is not asked again.

use keywheel_jose::Timestamp;
use serde_json::json;

use super::columns::{Columns, list};
use super::events::{EventKind, NewEvent, Origin, tell};
use super::{Store, StoreError};

/// What a user allowed one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The client.
    pub client_id: String,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// When the user last said so.
    pub given_at: Timestamp,
}

impl Store {
    /// The scopes a user allowed a client; `None` when the user never allowed it anything.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn consent(&self, user_id: &str, client_id: &str) -> Result<Option<Vec<String>>, StoreError> {
        const DOING: &str = "read a consent";
        let row = sqlx::query("SELECT scopes FROM consents WHERE user_id = $1 AND client_id = $2")
            .bind(user_id)
            .bind(client_id)
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        row.map(|row| Columns::new(&row, DOING).json("scopes")).transpose()
    }

    /// Allows a client `scopes` besides what it was allowed before; `false` when the user is gone.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn give_consent(
        &self,
        user_id: &str,
        client_id: &str,
        scopes: &[String],
        origin: &Origin<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "store a consent";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        // The row is ours from here on, so of two that are given at once none is lost.
        let row = sqlx::query(
            "INSERT INTO consents (user_id, client_id, scopes, given_at) \
             SELECT id, $2, '[]', $3 FROM users WHERE id = $1 \
             ON CONFLICT (user_id, client_id) DO UPDATE SET given_at = excluded.given_at RETURNING scopes",
        )
        .bind(user_id)
        .bind(client_id)
        .bind(origin.at.as_unix())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(false) };
        let mut all: Vec<String> = Columns::new(&row, DOING).json("scopes")?;
        all.extend(scopes.iter().cloned());
        all.sort();
        all.dedup();
        sqlx::query("UPDATE consents SET scopes = $3 WHERE user_id = $1 AND client_id = $2")
            .bind(user_id)
            .bind(client_id)
            .bind(list(&all))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let event = NewEvent {
            kind: EventKind::ConsentGiven,
            user_id: Some(user_id),
            client_id: Some(client_id),
            sid: None,
            details: json!({ "scopes": scopes }),
        };
        tell(&mut transaction, event, origin).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// Forgets what a client was allowed; `false` when that was nothing. Ends no grant by itself.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn withdraw_consent(
        &self,
        user_id: &str,
        client_id: &str,
        origin: &Origin<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "withdraw a consent";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let removed = sqlx::query("DELETE FROM consents WHERE user_id = $1 AND client_id = $2")
            .bind(user_id)
            .bind(client_id)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        let event = NewEvent {
            kind: EventKind::ConsentWithdrawn,
            user_id: Some(user_id),
            client_id: Some(client_id),
            sid: None,
            details: json!({}),
        };
        tell(&mut transaction, event, origin).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// All that a user allowed, by client.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn consents_of_user(&self, user_id: &str) -> Result<Vec<Consent>, StoreError> {
        const DOING: &str = "read the consents of a user";
        let rows =
            sqlx::query("SELECT client_id, scopes, given_at FROM consents WHERE user_id = $1 ORDER BY client_id")
                .bind(user_id)
                .fetch_all(&self.readers)
                .await
                .map_err(|source| self.read_error(DOING, source))?;
        let consents = rows.iter().map(|row| {
            let row = Columns::new(row, DOING);
            Ok(Consent {
                client_id: row.get("client_id")?,
                scopes: row.json("scopes")?,
                given_at: row.time("given_at")?,
            })
        });
        consents.collect()
    }
}
