//! Backups of SQLite while the server runs, and the mark that tells a restored database from one that has always been
//! here. What follows from the mark is in `keys/restore.rs`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use keywheel_jose::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Connection as _, Row as _};

use super::audit::{By, Entry};
use super::keys::apply;
use super::{Backend, KeyChange, KeysApplied, Store, StoreError, Transition, is_unique_violation};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database is not ours to copy.
    #[error(
        "a PostgreSQL database is backed up with its own tools: pg_dump --format=custom --file=FILE URL; after restoring one with pg_restore, and before a server starts, say `keywheel keys restored`"
    )]
    Postgres,
    /// There is a file of this name.
    #[error("{0} is there already, and a backup never replaces a file")]
    Exists(PathBuf),
    /// The file can't be written.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The database can't be read, or the copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of the backup that a database was restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When it was made; `None` where an operator only said that there was one.
    pub backup_at: Option<Timestamp>,
}

impl Store {
    /// Writes a copy of the database to `file`, which must not exist and which only its owner may read. Others go on
    /// reading and writing meanwhile: the copy is what the database was at one instant. It carries the mark of a restored
    /// database, so whoever opens it knows.
    ///
    /// # Errors
    /// Every [`BackupError`]; there is no file then.
    pub async fn backup(&self, file: &Path, by: &By) -> Result<(), BackupError> {
        const DOING: &str = "note a backup";
        if let Backend::Postgres(_) = self.backend {
            return Err(BackupError::Postgres);
        }
        if file.exists() {
            return Err(BackupError::Exists(file.to_owned()));
        }
        // Under another name until it is whole and marked.
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |doing| {
            let path = part.clone();
            move |source| BackupError::File { doing, path, source }
        };
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed("create"))?;
        let copied = async {
            let mut transaction = self.begin(DOING).await?;
            let entry = Entry::new("database.backed_up", &file.display().to_string(), json!({}));
            self.record(&mut transaction, vec![entry], by).await?;
            self.commit(transaction, DOING).await?;
            self.copy_to(&part, by.at()).await?;
            File::open(&part).and_then(|file| file.sync_all()).map_err(failed("write"))?;
            std::fs::rename(&part, file).map_err(failed("rename"))
        };
        let result = copied.await;
        if result.is_err() {
            // What is left over is of no use, and the first failure is the one to tell.
            let _ = std::fs::remove_file(&part);
        }
        result
    }

    /// Marks the database as one that was restored by other means than a copy that [`Store::backup`] made.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn mark_restored(&self, by: &By) -> Result<(), StoreError> {
        const DOING: &str = "mark that it was restored";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin_write("keys", DOING).await?;
        let marked =
            sqlx::query("INSERT INTO meta (name, value) VALUES ('restored', '') ON CONFLICT (name) DO NOTHING")
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        if marked.rows_affected() > 0 {
            let entry = Entry::new("database.marked_restored", "", json!({}));
            self.record(&mut transaction, vec![entry], by).await?;
        }
        self.commit(transaction, DOING).await
    }

    /// Whether this is a restored database whose keys have not been gone through yet.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn restored(&self) -> Result<Option<Restored>, StoreError> {
        const DOING: &str = "read whether it was restored";
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'restored'")
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        let Some(row) = row else { return Ok(None) };
        let value: String = row.try_get(0).map_err(StoreError::query(DOING))?;
        Ok(Some(Restored { backup_at: value.parse().ok().map(Timestamp::from_unix) }))
    }

    /// Takes the mark of a restored database away, together with the `changes` of keys that this asks for; of several
    /// processes one does. Every session and grant ends: some were ended after the backup, and nobody knows which.
    /// `details` is what the audit log tells of it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn settle_restored(
        &self,
        changes: &[KeyChange],
        details: Value,
        by: &By,
    ) -> Result<KeysApplied, StoreError> {
        const DOING: &str = "settle that it was restored";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin_write("keys", DOING).await?;
        let unmarked = sqlx::query("DELETE FROM meta WHERE name = 'restored'").execute(&mut *transaction).await;
        if unmarked.map_err(failed)?.rows_affected() == 0 {
            return Ok(KeysApplied::Raced);
        }
        let mut entries = vec![Entry::new("database.restored", "", details)];
        for change in changes {
            match apply(&mut transaction, change).await {
                Ok(_) => entries.push(Entry::from(change)),
                Err(error) if is_unique_violation(&error) => return Ok(KeysApplied::Raced),
                Err(error) => return Err(failed(error)),
            }
        }
        entries.extend(end_sign_ins(&mut transaction, by.at()).await.map_err(failed)?);
        self.record(&mut transaction, entries, by).await?;
        self.commit(transaction, DOING).await?;
        Ok(KeysApplied::Done)
    }

    async fn copy_to(&self, file: &Path, at: Timestamp) -> Result<(), StoreError> {
        const DOING: &str = "write a copy of itself";
        let failed = StoreError::query(DOING);
        // SQLite takes a name as text; a path that is none cannot be opened by it either.
        let name = file.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1")
            .bind(name)
            .execute(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        let options = SqliteConnectOptions::new().filename(file).journal_mode(SqliteJournalMode::Off);
        let mut copy = SqliteConnection::connect_with(&options).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('restored', $1) ON CONFLICT (name) DO UPDATE SET value = $1",
        )
        .bind(at.as_unix().to_string())
        .execute(&mut copy)
        .await
        .map_err(&failed)?;
        copy.close().await.map_err(&failed)
    }
}

/// Ends every session and grant, and voids every code that waits; tells of it unless there was none.
async fn end_sign_ins(transaction: &mut Transition, now: Timestamp) -> Result<Option<Entry>, sqlx::Error> {
    let sessions = sqlx::query("UPDATE sessions SET ended_at = $1 WHERE ended_at IS NULL");
    let sessions = sessions.bind(now.as_unix()).execute(&mut **transaction).await?.rows_affected();
    let grants = sqlx::query("UPDATE grants SET revoked_at = $1 WHERE revoked_at IS NULL");
    let grants = grants.bind(now.as_unix()).execute(&mut **transaction).await?.rows_affected();
    sqlx::query("DELETE FROM codes WHERE redeemed_at IS NULL").execute(&mut **transaction).await?;
    let entry = || Entry::new("database.sign_ins_ended", "", json!({ "sessions": sessions, "grants": grants }));
    Ok((sessions + grants > 0).then(entry))
}
