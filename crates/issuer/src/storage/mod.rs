//! What outlives the process: signing keys and clients, in SQLite.
//!
//! One method is one transition in one transaction. There is a single writer connection, whose transactions begin with
//! `BEGIN IMMEDIATE` (a deferred one that upgrades fails at once when another process writes), and a few readers.
//! Each transition raises a generation number, which is how a running server sees what a command in another process did.
//!
//! Commits are durable (`synchronous = FULL`): what was acknowledged is there after a power cut. Deleted content is
//! overwritten (`secure_delete`), because destroyed private keys must not linger in free pages.

mod clients;
mod keys;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Row, SqlSafeStr, Transaction};

pub use clients::ClientInsert;
pub use keys::{KeyChange, KeysApplied, NewKey, StoredKey};

/// Why storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: String,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// The folder for the database could not be made.
    #[error("cannot make the folder {path} for the database")]
    Folder {
        /// The folder.
        path: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// There is no database yet and the caller did not ask for a new one.
    #[error("there is no database at {path} yet: start `keywheel serve` once, or check storage.url")]
    Missing {
        /// The file.
        path: String,
    },
    /// The file is not a database, or is damaged.
    #[error("the database {path} is damaged or is not a Keywheel database; restore it from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// A later version of Keywheel has been here.
    #[error("the database has schema {found}, which is newer than this version knows ({known}): run the newer version")]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest schema of this version.
        known: i64,
    },
    /// Bringing the schema up to date failed.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] MigrateError),
    /// A query failed.
    #[error("the database could not {doing}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this version cannot read.
    #[error("the database holds an unreadable {what}: {why}")]
    Row {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// For `map_err`: a query that failed while `doing` something.
    fn query(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Query { doing, source }
    }
}

/// How often keys and clients have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Changes of signing keys so far.
    pub keys: i64,
    /// Changes of clients so far.
    pub clients: i64,
}

/// What to do when there is no database file yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissing {
    /// Make one.
    Create,
    /// Say so and stop.
    Refuse,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    path: String,
    writer: AnyPool,
    readers: AnyPool,
}

impl Store {
    /// Opens the database that `url` (`sqlite://PATH`) names and brings its schema up to date.
    ///
    /// # Errors
    /// - [`StoreError::Missing`]: no file, and `when_missing` says to refuse
    /// - [`StoreError::Folder`], [`StoreError::Open`]: no permission, no space, not a file
    /// - [`StoreError::Damaged`]: the file is no database, or broken
    /// - [`StoreError::Newer`]: made by a later version
    /// - [`StoreError::Migrate`]: the schema could not be changed
    pub async fn open(url: &str, when_missing: WhenMissing) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);

        let path = sqlite_path(url);
        if let Some(file) = &path {
            let missing = !file.exists();
            if missing && when_missing == WhenMissing::Refuse {
                return Err(StoreError::Missing { path: file.display().to_string() });
            }
            if missing && let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                make_private_folder(folder)
                    .map_err(|source| StoreError::Folder { path: folder.display().to_string(), source })?;
            }
        }
        let shown = path.as_ref().map_or_else(|| url.to_owned(), |file| file.display().to_string());
        let options = AnyConnectOptions::from_str(&with_create(url))
            .map_err(|source| StoreError::Open { path: shown.clone(), source })?;
        refuse_damage(&options).await.map_err(|source| open_error(&shown, source))?;
        let writer = pool(1).connect_with(options.clone()).await.map_err(|source| open_error(&shown, source))?;
        let readers = pool(2).connect_lazy_with(options);
        let store = Self { path: shown, writer, readers };
        store.migrate().await?;
        Ok(store)
    }

    /// How often keys and clients have changed. Cheap: meant to be asked several times a second.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn generations(&self) -> Result<Generations, StoreError> {
        let rows = sqlx::query("SELECT subject, generation FROM generations")
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.read_error("read its generations", source))?;
        let mut generations = Generations { keys: 0, clients: 0 };
        for row in rows {
            let subject: String = row.try_get(0).map_err(StoreError::query("read its generations"))?;
            let generation: i64 = row.try_get(1).map_err(StoreError::query("read its generations"))?;
            match subject.as_str() {
                "keys" => generations.keys = generation,
                "clients" => generations.clients = generation,
                _ => {}
            }
        }
        Ok(generations)
    }

    /// Closes the connections, so that the write-ahead log is folded into the database file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Brings the schema up to date, in one transaction that holds the write lock: of many processes that start
    /// together, one does it and the others find it done.
    async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = Migrator::with_migrations(
            MIGRATIONS
                .iter()
                .map(|(version, name, sql)| {
                    Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
                })
                .collect(),
        );
        let mut transaction =
            self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|source| open_error(&self.path, source))?;
        match migrator.run_direct(None, &mut *transaction, false).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(found)) => {
                return Err(StoreError::Newer { found, known: MIGRATIONS.len() as i64 });
            }
            Err(MigrateError::Execute(source)) if is_damage(&source) => {
                return Err(StoreError::Damaged { path: self.path.clone(), source });
            }
            Err(other) => return Err(StoreError::Migrate(other)),
        }
        transaction.commit().await.map_err(StoreError::query("commit the schema"))
    }

    async fn begin_write(&self, doing: &'static str) -> Result<Transaction<'static, Any>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|source| self.read_error(doing, source))
    }

    /// A failed query; one that failed because the file is broken says so.
    fn read_error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        if is_damage(&source) {
            StoreError::Damaged { path: self.path.clone(), source }
        } else {
            StoreError::Query { doing, source }
        }
    }
}

async fn raise_generation(
    transaction: &mut Transaction<'static, Any>,
    subject: &'static str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE generations SET generation = generation + 1 WHERE subject = $1")
        .bind(subject)
        .execute(&mut **transaction)
        .await
        .map_err(StoreError::query("count a change"))?;
    Ok(())
}

/// Reads the schema on a connection of its own, because a pool tries for seconds what fails at once.
async fn refuse_damage(options: &AnyConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute("SELECT count(*) FROM sqlite_schema").await?;
    connection.close().await
}

fn pool(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Together with `BEGIN IMMEDIATE`, the busy timeout makes writers of several processes take turns.
                for pragma in [
                    "PRAGMA busy_timeout = 5000",
                    "PRAGMA journal_mode = WAL",
                    "PRAGMA synchronous = FULL",
                    "PRAGMA foreign_keys = ON",
                    "PRAGMA secure_delete = ON",
                    "PRAGMA cache_size = -1024",
                ] {
                    connection.execute(pragma).await?;
                }
                Ok(())
            })
        })
}

/// The file that an SQLite address names, `None` for a database in memory.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    let path = rest.split('?').next().unwrap_or(rest);
    (path != ":memory:").then(|| PathBuf::from(path))
}

fn with_create(url: &str) -> String {
    if url.contains('?') || url.contains(":memory:") { url.to_owned() } else { format!("{url}?mode=rwc") }
}

/// Makes `folder` and its parents; only the owner may look inside.
pub(crate) fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn open_error(path: &str, source: sqlx::Error) -> StoreError {
    if is_damage(&source) {
        StoreError::Damaged { path: path.to_owned(), source }
    } else {
        StoreError::Open { path: path.to_owned(), source }
    }
}

/// SQLITE_CORRUPT (11) and SQLITE_NOTADB (26), with their extended codes (<https://www.sqlite.org/rescode.html>).
fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "keys and clients", include_str!("migrations/sqlite-0001.sql"))];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_process_finds_the_schema_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/k.db", folder.path().display());

        let (first, second) =
            tokio::join!(Store::open(&url, WhenMissing::Create), Store::open(&url, WhenMissing::Create));

        first.expect("the first opens");
        let second = second.expect("the second opens");
        assert_eq!(second.generations().await.expect("generations"), Generations { keys: 0, clients: 0 });
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_called_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("k.db");
        std::fs::write(&file, [0x5a; 8192]).expect("written");

        let opened = Store::open(&format!("sqlite://{}", file.display()), WhenMissing::Create).await;

        assert!(matches!(opened.err(), Some(StoreError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/k.db", folder.path().display());
        let store = Store::open(&url, WhenMissing::Create).await.expect("made");
        store
            .writer
            .execute(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', 1, x'00', 0)",
            )
            .await
            .expect("inserted");
        store.close().await;

        let opened = Store::open(&url, WhenMissing::Create).await;

        assert!(matches!(opened.err(), Some(StoreError::Newer { found: 99, known: 1 })));
    }

    #[tokio::test]
    async fn a_missing_database_is_only_made_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/none/k.db", folder.path().display());

        let opened = Store::open(&url, WhenMissing::Refuse).await;

        assert!(matches!(opened.err(), Some(StoreError::Missing { .. })));
        assert!(!folder.path().join("none").exists());
    }
}
