//! How long key sets that are handed out may be cached, by whatever replica they were.

use std::time::Duration;

use keywheel_jose::Timestamp;
use keywheel_keyring::AgesInUse;
use sqlx::Row;

use super::{Store, StoreError};

impl Store {
    /// The ages in use, `None` in a new database.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn load_ages(&self) -> Result<Option<AgesInUse>, StoreError> {
        const DOING: &str = "read how long key sets are cached";
        let row = sqlx::query("SELECT ages_s, held_until FROM ages_in_use").fetch_optional(&self.readers).await;
        let Some(row) = row.map_err(|source| self.read_error(DOING, source))? else { return Ok(None) };
        let ages_s: i64 = row.try_get(0).map_err(StoreError::query(DOING))?;
        let held_until: i64 = row.try_get(1).map_err(StoreError::query(DOING))?;
        let ages = Duration::from_secs(u64::try_from(ages_s).unwrap_or_default());
        Ok(Some(AgesInUse { ages, held_until: Timestamp::from_unix(held_until) }))
    }

    /// Stores the ages in use, if they are still what they were; `false` when another process was faster. Raises no
    /// generation: every plan reads them anew.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn renew_ages(&self, known: Option<AgesInUse>, renewed: AgesInUse) -> Result<bool, StoreError> {
        let seconds = |ages: AgesInUse| i64::try_from(ages.ages.as_secs()).unwrap_or(i64::MAX);
        let query = match known {
            None => sqlx::query(
                "INSERT INTO ages_in_use (id, ages_s, held_until) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
            )
            .bind(seconds(renewed))
            .bind(renewed.held_until.as_unix()),
            Some(known) => sqlx::query(
                "UPDATE ages_in_use SET ages_s = $1, held_until = $2 WHERE id = 1 AND ages_s = $3 AND held_until = $4",
            )
            .bind(seconds(renewed))
            .bind(renewed.held_until.as_unix())
            .bind(seconds(known))
            .bind(known.held_until.as_unix()),
        };
        Ok(self.change(query, "store how long key sets are cached").await? == 1)
    }
}
