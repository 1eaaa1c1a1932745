//! Signing keys: rows of the ring, and the transitions that rotation makes.
//!
//! Every change is idempotent and only moves one way (later, longer, gone), so that replicas that plan the same step
//! at the same time do no harm. Which of several successors is created is decided by `UNIQUE (alg, serial)`.

use std::str::FromStr;
use std::time::Duration;

use keywheel_jose::{Algorithm, PublicJwk, Timestamp};
use keywheel_keyring::KeyRecord;
use sqlx::any::AnyRow;
use sqlx::{Executor, Row};

use super::audit::{By, Entry};
use super::{Backend, Store, StoreError, Transition, is_unique_violation};

/// A key as stored: its place in the timetable and, while it can sign, the sealed private half.
pub struct StoredKey {
    /// The row of the ring.
    pub record: KeyRecord,
    /// The private half as `keys/seal.rs` wrote it; `None` once destroyed.
    pub sealed_private: Option<Vec<u8>>,
    /// What the operator said when revoking it.
    pub revoked_reason: Option<String>,
}

/// A key to insert.
#[derive(Clone)]
pub struct NewKey {
    /// The row of the ring.
    pub record: KeyRecord,
    /// The sealed private half.
    pub sealed_private: Vec<u8>,
}

/// One change of the ring.
pub enum KeyChange {
    /// A new key.
    Insert(Box<NewKey>),
    /// A new key that an operator brought along.
    Import(Box<NewKey>),
    /// Publish no later than this.
    PublishEarlier {
        /// Which key.
        kid: String,
        /// When.
        publish_at: Timestamp,
    },
    /// Start to sign later, unless somebody has moved the start meanwhile: an emergency must not be undone.
    Postpone {
        /// Which key.
        kid: String,
        /// When it was going to.
        planned: Timestamp,
        /// When.
        sign_from: Timestamp,
    },
    /// Publish and start to sign no later than this.
    BringForward {
        /// Which key.
        kid: String,
        /// When it is published.
        publish_at: Timestamp,
        /// When it starts.
        sign_from: Timestamp,
    },
    /// Promise at least these.
    Raise {
        /// Which key.
        kid: String,
        /// The longest token lifetime.
        max_ttl: Duration,
        /// The clock skew to allow for.
        clock_skew: Duration,
    },
    /// Withdraw the key.
    Revoke {
        /// Which key.
        kid: String,
        /// Since when.
        revoked_at: Timestamp,
        /// Why, in the operator's words.
        reason: Option<String>,
    },
    /// Seal the private half under another key-encryption key, unless it has been changed or destroyed meanwhile.
    Rewrap {
        /// Which key.
        kid: String,
        /// As it is sealed now.
        from: Vec<u8>,
        /// As it is to be.
        to: Vec<u8>,
        /// The id of the key-encryption key that seals it then.
        under: String,
    },
    /// Forget the private half.
    DestroyPrivate {
        /// Which key.
        kid: String,
    },
    /// Forget the key.
    Delete {
        /// Which key.
        kid: String,
    },
}

/// What became of a set of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysApplied {
    /// All of them are stored.
    Done,
    /// Another process had already created a key of the same place or the same thumbprint: nothing is stored.
    Raced,
}

impl Store {
    /// All signing keys.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer or a row is unreadable.
    pub async fn load_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT kid, alg, serial, public_jwk, sealed_private, created_at, publish_at, sign_from, max_ttl_s, \
             clock_skew_s, revoked_at, revoked_reason FROM signing_keys ORDER BY alg, serial",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.read_error("read the signing keys", source))?;
        rows.iter().map(read_key).collect()
    }

    /// Stores `changes` together or not at all, with what the audit log tells of those that changed something.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn change_keys(&self, changes: &[KeyChange], by: &By) -> Result<KeysApplied, StoreError> {
        const DOING: &str = "change the signing keys";
        if changes.is_empty() {
            return Ok(KeysApplied::Done);
        }
        let mut transaction = self.begin_write("keys", DOING).await?;
        let mut entries = Vec::new();
        for change in changes {
            match apply(&mut transaction, change).await {
                Ok(0) => {}
                Ok(_) => entries.push(Entry::from(change)),
                Err(error) if is_unique_violation(&error) => return Ok(KeysApplied::Raced),
                Err(error) => return Err(self.read_error(DOING, error)),
            }
        }
        self.record(&mut transaction, entries, by).await?;
        self.commit(transaction, DOING).await?;
        let forgets = |change: &KeyChange| {
            matches!(change, KeyChange::DestroyPrivate { .. } | KeyChange::Rewrap { .. } | KeyChange::Delete { .. })
        };
        if matches!(self.backend, Backend::Sqlite(_)) && changes.iter().any(forgets) {
            // Until the log is folded in and cut, an old page with the private half may still stand in it.
            self.writer
                .execute("PRAGMA wal_checkpoint(TRUNCATE)")
                .await
                .map_err(StoreError::query("fold its write-ahead log in"))?;
        }
        Ok(KeysApplied::Done)
    }
}

/// Makes one change, and says of how many rows; none where another process was faster.
pub(super) async fn apply(transaction: &mut Transition, change: &KeyChange) -> Result<u64, sqlx::Error> {
    let query = match change {
        KeyChange::Insert(key) | KeyChange::Import(key) => {
            let record = &key.record;
            sqlx::query(
                "INSERT INTO signing_keys (kid, alg, serial, public_jwk, sealed_private, created_at, publish_at, \
                 sign_from, max_ttl_s, clock_skew_s) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(record.kid.as_str())
            .bind(record.alg.as_str())
            .bind(record.serial)
            .bind(serde_json::to_string(&record.jwk).expect("a JWK is plain strings"))
            .bind(key.sealed_private.as_slice())
            .bind(record.created_at.as_unix())
            .bind(record.publish_at.as_unix())
            .bind(record.sign_from.as_unix())
            .bind(seconds(record.max_ttl))
            .bind(seconds(record.clock_skew))
        }
        KeyChange::PublishEarlier { kid, publish_at } => {
            sqlx::query("UPDATE signing_keys SET publish_at = $2 WHERE kid = $1 AND publish_at > $2")
                .bind(kid.as_str())
                .bind(publish_at.as_unix())
        }
        KeyChange::Postpone { kid, planned, sign_from } => {
            sqlx::query("UPDATE signing_keys SET sign_from = $3 WHERE kid = $1 AND sign_from = $2")
                .bind(kid.as_str())
                .bind(planned.as_unix())
                .bind(sign_from.as_unix())
        }
        KeyChange::BringForward { kid, publish_at, sign_from } => sqlx::query(
            "UPDATE signing_keys SET \
             publish_at = CASE WHEN publish_at > $2 THEN $2 ELSE publish_at END, \
             sign_from = CASE WHEN sign_from > $3 THEN $3 ELSE sign_from END \
             WHERE kid = $1 AND (publish_at > $2 OR sign_from > $3)",
        )
        .bind(kid.as_str())
        .bind(publish_at.as_unix())
        .bind(sign_from.as_unix()),
        KeyChange::Raise { kid, max_ttl, clock_skew } => sqlx::query(
            "UPDATE signing_keys SET \
             max_ttl_s = CASE WHEN max_ttl_s < $2 THEN $2 ELSE max_ttl_s END, \
             clock_skew_s = CASE WHEN clock_skew_s < $3 THEN $3 ELSE clock_skew_s END \
             WHERE kid = $1 AND (max_ttl_s < $2 OR clock_skew_s < $3)",
        )
        .bind(kid.as_str())
        .bind(seconds(*max_ttl))
        .bind(seconds(*clock_skew)),
        KeyChange::Revoke { kid, revoked_at, reason } => sqlx::query(
            "UPDATE signing_keys SET revoked_at = $2, revoked_reason = $3 WHERE kid = $1 AND revoked_at IS NULL",
        )
        .bind(kid.as_str())
        .bind(revoked_at.as_unix())
        .bind(reason.as_deref()),
        KeyChange::Rewrap { kid, from, to, .. } => {
            sqlx::query("UPDATE signing_keys SET sealed_private = $3 WHERE kid = $1 AND sealed_private = $2")
                .bind(kid.as_str())
                .bind(from.as_slice())
                .bind(to.as_slice())
        }
        KeyChange::DestroyPrivate { kid } => {
            sqlx::query("UPDATE signing_keys SET sealed_private = NULL WHERE kid = $1 AND sealed_private IS NOT NULL")
                .bind(kid.as_str())
        }
        KeyChange::Delete { kid } => sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid.as_str()),
    };
    query.execute(&mut **transaction).await.map(|done| done.rows_affected())
}

fn read_key(row: &AnyRow) -> Result<StoredKey, StoreError> {
    const DOING: &str = "read a signing key";
    let query = StoreError::query(DOING);
    let kid: String = row.try_get("kid").map_err(&query)?;
    let unreadable = |why: String| StoreError::Row { what: format!("signing key {kid}"), why };
    let instant = |column: &str| row.try_get(column).map(Timestamp::from_unix).map_err(&query);
    let duration = |column: &str| -> Result<Duration, StoreError> {
        let seconds: i64 = row.try_get(column).map_err(&query)?;
        u64::try_from(seconds).map(Duration::from_secs).map_err(|_| unreadable(format!("{column} is negative")))
    };

    let alg: String = row.try_get("alg").map_err(&query)?;
    let alg = Algorithm::from_str(&alg).map_err(|error| unreadable(error.to_string()))?;
    let jwk: String = row.try_get("public_jwk").map_err(&query)?;
    let jwk = serde_json::from_str(&jwk).map_err(|error| unreadable(error.to_string()))?;
    let jwk = PublicJwk::from_json(&jwk).map_err(|error| unreadable(error.to_string()))?;
    // The kid is the thumbprint (RFC 7638): a row whose public key was exchanged does not pass.
    if jwk.thumbprint() != kid {
        return Err(unreadable("its public key does not have this thumbprint".to_owned()));
    }
    let sealed_private: Option<Vec<u8>> = row.try_get("sealed_private").map_err(&query)?;
    let revoked_at: Option<i64> = row.try_get("revoked_at").map_err(&query)?;
    Ok(StoredKey {
        record: KeyRecord {
            alg,
            serial: row.try_get("serial").map_err(&query)?,
            jwk,
            created_at: instant("created_at")?,
            publish_at: instant("publish_at")?,
            sign_from: instant("sign_from")?,
            max_ttl: duration("max_ttl_s")?,
            clock_skew: duration("clock_skew_s")?,
            revoked_at: revoked_at.map(Timestamp::from_unix),
            has_private: sealed_private.is_some(),
            kid: kid.clone(),
        },
        sealed_private,
        revoked_reason: row.try_get("revoked_reason").map_err(&query)?,
    })
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
