//! Who fetches the JWKS, and the keys that wait for some of them.

use keywheel_jose::Timestamp;
use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::audit::{By, Entry};
use super::{KeysApplied, Store, StoreError, Transition};
use crate::keys::coverage::{Fetcher, HeldKey, Hold};

impl Store {
    /// The fetchers that all replicas have seen.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn load_fetchers(&self) -> Result<Vec<Fetcher>, StoreError> {
        const DOING: &str = "read who fetches the JWKS";
        let rows = sqlx::query("SELECT name, first_seen, last_seen, fetches, newest FROM fetchers");
        let rows = rows.fetch_all(&self.readers).await.map_err(|source| self.read_error(DOING, source))?;
        rows.iter().map(|row| read_fetcher(row).map_err(StoreError::query(DOING))).collect()
    }

    /// Adds to what is known of these fetchers: `fetches` are the new ones, and what the later request brought counts.
    /// Those last seen before `forgotten` go, and of too many those that were seen once or twice, then the longest
    /// absent.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn save_fetchers(&self, fetchers: &[Fetcher], forgotten: Timestamp) -> Result<(), StoreError> {
        const DOING: &str = "store who fetches the JWKS";
        // No generation is raised: nobody has to look because of this.
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        for fetcher in fetchers {
            sqlx::query(
                "INSERT INTO fetchers (name, first_seen, last_seen, fetches, newest) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (name) DO UPDATE SET \
                 first_seen = CASE WHEN excluded.first_seen < fetchers.first_seen \
                 THEN excluded.first_seen ELSE fetchers.first_seen END, \
                 last_seen = CASE WHEN excluded.last_seen > fetchers.last_seen \
                 THEN excluded.last_seen ELSE fetchers.last_seen END, \
                 newest = CASE WHEN excluded.last_seen >= fetchers.last_seen \
                 THEN excluded.newest ELSE fetchers.newest END, \
                 fetches = fetchers.fetches + excluded.fetches",
            )
            .bind(fetcher.name.as_str())
            .bind(fetcher.first_seen.as_unix())
            .bind(fetcher.last_seen.as_unix())
            .bind(fetcher.fetches)
            .bind(serde_json::to_string(&fetcher.newest).expect("names and numbers"))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        sqlx::query(
            "DELETE FROM fetchers WHERE last_seen < $1 OR name NOT IN (SELECT name FROM fetchers \
             ORDER BY CASE WHEN fetches < 3 THEN 1 ELSE 0 END, last_seen DESC LIMIT $2)",
        )
        .bind(forgotten.as_unix())
        .bind(MOST_FETCHERS)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        self.commit_quietly(transaction, DOING).await
    }

    /// The keys that were put off.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn load_held_keys(&self) -> Result<Vec<HeldKey>, StoreError> {
        const DOING: &str = "read the keys that wait";
        let rows = sqlx::query("SELECT kid, planned, held_until FROM held_keys");
        let rows = rows.fetch_all(&self.readers).await.map_err(|source| self.read_error(DOING, source))?;
        let read = |row: &AnyRow| {
            Ok(HeldKey {
                kid: row.try_get("kid")?,
                planned: Timestamp::from_unix(row.try_get("planned")?),
                held_until: Timestamp::from_unix(row.try_get("held_until")?),
            })
        };
        rows.iter().map(|row| read(row).map_err(StoreError::query(DOING))).collect()
    }

    /// Puts a key off, unless it or a key after it has been moved or revoked meanwhile: then nothing is stored.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn hold_key(&self, hold: &Hold, by: &By) -> Result<KeysApplied, StoreError> {
        const DOING: &str = "put a key off";
        let mut transaction = self.begin_write("keys", DOING).await?;
        match put_off(&mut transaction, hold).await {
            Ok(true) => {}
            Ok(false) => return Ok(KeysApplied::Raced),
            Err(source) => return Err(self.read_error(DOING, source)),
        }
        let told = hold.moves.iter().map(|step| {
            let details = json!({ "planned": step.from, "sign_from": step.to, "missing": hold.missing });
            Entry::new("key.held", &step.kid, details)
        });
        self.record(&mut transaction, told.collect(), by).await?;
        self.commit(transaction, DOING).await?;
        Ok(KeysApplied::Done)
    }
}

/// Whether every key was as the decision saw it.
async fn put_off(transaction: &mut Transition, hold: &Hold) -> Result<bool, sqlx::Error> {
    for step in &hold.moves {
        let moved = sqlx::query(
            "UPDATE signing_keys SET sign_from = $3 WHERE kid = $1 AND sign_from = $2 AND revoked_at IS NULL",
        )
        .bind(step.kid.as_str())
        .bind(step.from.as_unix())
        .bind(step.to.as_unix())
        .execute(&mut **transaction)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
    }
    sqlx::query(
        "INSERT INTO held_keys (kid, planned, held_until) VALUES ($1, $2, $3) \
         ON CONFLICT (kid) DO UPDATE SET held_until = excluded.held_until",
    )
    .bind(hold.key.kid.as_str())
    .bind(hold.key.planned.as_unix())
    .bind(hold.key.held_until.as_unix())
    .execute(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM held_keys WHERE kid NOT IN (SELECT kid FROM signing_keys)")
        .execute(&mut **transaction)
        .await?;
    Ok(true)
}

fn read_fetcher(row: &AnyRow) -> Result<Fetcher, sqlx::Error> {
    let newest: String = row.try_get("newest")?;
    Ok(Fetcher {
        name: row.try_get("name")?,
        first_seen: Timestamp::from_unix(row.try_get("first_seen")?),
        last_seen: Timestamp::from_unix(row.try_get("last_seen")?),
        fetches: row.try_get("fetches")?,
        // What a later version wrote, and this one can't read, is no evidence.
        newest: serde_json::from_str(&newest).unwrap_or_default(),
    })
}

/// As many rows as are kept.
const MOST_FETCHERS: i64 = 1000;
