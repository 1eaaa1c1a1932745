//! What outlives the process: signing keys, clients, users and their sign-ins, in SQLite or PostgreSQL.
//!
//! One method is one transition in one transaction, with one query text for both databases. A transition of what servers
//! keep in memory (keys and clients) raises a generation number, which is how a running server sees what another process
//! did: it asks for the numbers, several times a second on SQLite, and on PostgreSQL when it is notified and at each poll
//! ([`Store::changes`]). Users and sign-ins are read anew each time, and changing them makes nobody wait for a turn; what
//! is single is decided by a primary key, or by an `UPDATE` that finds its row as it should be.
//!
//! On SQLite there is a single writer connection, whose transactions begin with `BEGIN IMMEDIATE` (a deferred one that
//! upgrades fails at once when another process writes), and a few readers. Those who wait for it together share a commit
//! (`transition.rs`). Commits are durable (`synchronous = FULL`):
//! what was acknowledged is there after a power cut. Deleted content is overwritten (`secure_delete`), because destroyed
//! private keys must not linger in free pages. PostgreSQL cannot be asked to: there the sealed form lingers until the table
//! is vacuumed and its own write-ahead log is recycled.

mod ages;
mod assertions;
mod audit;
mod backup;
mod certificates;
mod changes;
mod clients;
mod codes;
mod columns;
#[cfg(test)]
mod conformance;
mod consents;
mod event_reader;
mod events;
mod fetchers;
mod grants;
mod keys;
mod logout_queue;
mod purge;
mod refresh_tokens;
mod schema;
mod sessions;
mod throttle;
mod timed;
mod transition;
mod users;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Row, SqlSafeStr};

pub use audit::{AuditRow, AuditVerdict, By, Known};
pub use backup::{BackupError, Restored};
pub use certificates::{AcmeSecret, Order as CertificateOrder, Reseal, StoredAccount, StoredCertificate};
pub use changes::Changes;
pub use clients::{ClientChange, ClientInsert};
pub use codes::{Code, NewCode, Redemption};
pub use consents::Consent;
pub use events::{EventKind, EventRow, NewEvent, Origin};
pub use grants::{Grant, NewGrant};
pub use keys::{KeyChange, KeysApplied, NewKey, StoredKey};
pub use logout_queue::{LogoutDelivery, LogoutOutcome, LogoutTarget};
pub use purge::{Purge, Purged};
pub use refresh_tokens::{NewRefreshToken, RefreshPolicy, RefreshToken, Rotation, Successor};
pub use sessions::{EndedSession, NewSession, Session, SessionStart};
pub use throttle::{Attempt, ThrottlePolicy};
pub use users::{UserChange, UserInsert, UserUpdate};

use crate::config::Database;
use crate::metrics::{Metrics, StoreMetrics};
use timed::Timed;
use transition::{Transition, Turns, Way};

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
    /// The file of the database, or its folder, could not be made.
    #[error("cannot make {path} for the database")]
    Folder {
        /// The file or folder.
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

/// What a look at the database showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How often what has changed.
    pub generations: Generations,
    /// The database's clock in milliseconds since 1970; `None` where it is this machine's.
    pub clock_ms: Option<i64>,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    shown: String,
    backend: Backend,
    writer: AnyPool,
    readers: AnyPool,
    metrics: StoreMetrics,
}

#[derive(Clone)]
enum Backend {
    Sqlite(Turns),
    /// With a pool for the connection that listens to notifications, which the general driver has no name for.
    Postgres(PgPool),
}

impl Store {
    /// Opens a database and brings its schema up to date. Of many processes that start together, one does that and
    /// the others wait.
    ///
    /// # Errors
    /// - [`StoreError::Missing`]: no file, and `when_missing` says to refuse
    /// - [`StoreError::Folder`], [`StoreError::Open`]: no permission, no space, not a file, no server
    /// - [`StoreError::Damaged`]: the file is no database, or broken
    /// - [`StoreError::Newer`]: made by a later version
    /// - [`StoreError::Migrate`]: the schema could not be changed
    pub async fn open(database: &Database, when_missing: WhenMissing) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);

        let shown = database.to_string();
        let failed = |source| open_error(&shown, source);
        let url = match database {
            Database::Sqlite { url, path } => {
                prepare_file(path, when_missing)?;
                format!("{url}?mode=rwc")
            }
            Database::Postgres { url, .. } => url.expose().to_owned(),
        };
        let options = AnyConnectOptions::from_str(&url).map_err(failed)?;
        // A pool tries for seconds what fails at once; this tells what is wrong.
        let mut first = match database {
            Database::Sqlite { .. } => first_connection_to_sqlite(&options).await.map_err(failed)?,
            Database::Postgres { .. } => AnyConnection::connect_with(&options).await.map_err(failed)?,
        };
        let store = match database {
            Database::Sqlite { .. } => {
                let pool = |connections| {
                    pool(connections)
                        .test_before_acquire(false)
                        .after_connect(|connection, _| Box::pin(set_up_sqlite(connection)))
                };
                let (writer, readers) =
                    (pool(1).connect_lazy_with(options.clone()), pool(2).connect_lazy_with(options));
                let backend = Backend::Sqlite(Turns::new(writer.clone()));
                Self { shown: shown.clone(), backend, writer, readers, metrics: StoreMetrics::default() }
            }
            Database::Postgres { url, max_connections } => {
                let listener = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
                let listener = listener.connect_lazy(url.expose()).map_err(failed)?;
                let pool = pool(*max_connections)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            for setting in POSTGRES_SETTINGS {
                                connection.execute(setting).await?;
                            }
                            Ok(())
                        })
                    })
                    .connect_lazy_with(options);
                let (writer, readers) = (pool.clone(), pool);
                let backend = Backend::Postgres(listener);
                Self { shown: shown.clone(), backend, writer, readers, metrics: StoreMetrics::default() }
            }
        };
        store.migrate(&mut first).await?;
        // Last, so that SQLite's log is not folded in and begun anew.
        let _ = first.close().await;
        Ok(store)
    }

    /// The same, counted where Prometheus sees it.
    pub(crate) fn counted_by(self, metrics: &Metrics) -> Self {
        Self { metrics: metrics.store.clone(), ..self }
    }

    /// The newest schema that this version knows.
    #[must_use]
    pub fn schema_version() -> i64 {
        MIGRATIONS.last().map_or(0, |(version, ..)| *version)
    }

    /// How often keys and clients have changed, and the time. Cheap: meant to be asked several times a second.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn look(&self) -> Result<Look, StoreError> {
        const DOING: &str = "read its generations";
        let text = match self.backend {
            Backend::Sqlite(_) => "SELECT subject, generation, CAST(0 AS BIGINT) FROM generations",
            Backend::Postgres(_) => {
                "SELECT subject, generation, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) \
                 FROM generations"
            }
        };
        let rows = sqlx::query(text).fetch_all(&self.readers).await;
        let rows = rows.map_err(|source| self.read_error(DOING, source))?;
        let mut look = Look { generations: Generations { keys: 0, clients: 0 }, clock_ms: None };
        for row in rows {
            let subject: String = row.try_get(0).map_err(StoreError::query(DOING))?;
            let generation: i64 = row.try_get(1).map_err(StoreError::query(DOING))?;
            let clock_ms: i64 = row.try_get(2).map_err(StoreError::query(DOING))?;
            match subject.as_str() {
                "keys" => look.generations.keys = generation,
                "clients" => look.generations.clients = generation,
                _ => {}
            }
            look.clock_ms = matches!(self.backend, Backend::Postgres(_)).then_some(clock_ms);
        }
        Ok(look)
    }

    /// Closes the connections, so that SQLite's write-ahead log is folded into the database file.
    pub async fn close(&self) {
        if let Backend::Postgres(listener) = &self.backend {
            listener.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Brings the schema up to date: on SQLite in one transaction that holds the write lock, on PostgreSQL under the
    /// migrator's advisory lock.
    async fn migrate(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let migrations = match self.backend {
            Backend::Sqlite(_) => MIGRATIONS.map(|(version, name, sqlite, _)| (version, name, sqlite)),
            Backend::Postgres(_) => MIGRATIONS.map(|(version, name, _, postgres)| (version, name, postgres)),
        };
        let migrations = migrations.into_iter().map(|(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let migrator = Migrator::with_migrations(migrations.collect());
        let failed = |error| match error {
            MigrateError::VersionMissing(found) => StoreError::Newer { found, known: Self::schema_version() },
            MigrateError::Execute(source) if is_damage(&source) => {
                StoreError::Damaged { path: self.shown.clone(), source }
            }
            other => StoreError::Migrate(other),
        };
        match self.backend {
            Backend::Sqlite(_) => {
                let begun = connection.begin_with("BEGIN IMMEDIATE").await;
                let mut transaction = begun.map_err(|source| open_error(&self.shown, source))?;
                migrator.run_direct(None, &mut *transaction, false).await.map_err(failed)?;
                transaction.commit().await.map_err(StoreError::query("commit the schema"))
            }
            Backend::Postgres(_) => migrator.run_direct(None, connection, false).await.map_err(failed),
        }
    }

    /// Begins a transition of `subject`. Its generation is raised first, so that on PostgreSQL too those who change the
    /// same subject take turns.
    async fn begin_write(&self, subject: &'static str, doing: &'static str) -> Result<Transition, StoreError> {
        let mut transaction = self.begin(doing).await?;
        sqlx::query("UPDATE generations SET generation = generation + 1 WHERE subject = $1")
            .bind(subject)
            .execute(&mut *transaction)
            .await
            .map_err(|source| self.read_error(doing, source))?;
        Ok(transaction)
    }

    async fn begin(&self, doing: &'static str) -> Result<Transition, StoreError> {
        let timed = Timed::begin(&self.metrics, doing);
        let begun = match &self.backend {
            Backend::Sqlite(turns) => turns.take().await.map(Way::Shared),
            Backend::Postgres(_) => self.writer.begin_with("BEGIN").await.map(Way::Own),
        };
        begun.map(|way| Transition::new(way, timed)).map_err(|source| self.read_error(doing, source))
    }

    /// A transition of one statement, of which nobody has to be told; how many rows it changed.
    async fn change(&self, query: Query<'_, Any, AnyArguments>, doing: &'static str) -> Result<u64, StoreError> {
        let failed = |source| self.read_error(doing, source);
        let done = match &self.backend {
            Backend::Sqlite(_) => {
                let mut transition = self.begin(doing).await?;
                let done = query.execute(&mut *transition).await.map_err(failed)?;
                self.commit_quietly(transition, doing).await?;
                done
            }
            Backend::Postgres(_) => query.execute(&self.writer).await.map_err(failed)?,
        };
        Ok(done.rows_affected())
    }

    /// Ends a transition, and tells those who listen.
    async fn commit(&self, mut transaction: Transition, doing: &'static str) -> Result<(), StoreError> {
        if let Backend::Postgres(_) = self.backend {
            // Delivered when the transaction commits, and only then.
            transaction.execute(changes::NOTIFY).await.map_err(|source| self.read_error(doing, source))?;
        }
        transaction.commit().await.map_err(|source| self.read_error(doing, source))
    }

    /// Ends a transition that nobody keeps in memory, so that nobody has to be told.
    async fn commit_quietly(&self, transaction: Transition, doing: &'static str) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|source| self.read_error(doing, source))
    }

    /// A failed query; one that failed because the file is broken says so.
    fn read_error(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        self.metrics.failed(doing);
        if is_damage(&source) {
            StoreError::Damaged { path: self.shown.clone(), source }
        } else {
            StoreError::Query { doing, source }
        }
    }
}

/// Makes the folder of a database file that is not there yet.
fn prepare_file(file: &Path, when_missing: WhenMissing) -> Result<(), StoreError> {
    if file.exists() {
        return Ok(());
    }
    if when_missing == WhenMissing::Refuse {
        return Err(StoreError::Missing { path: file.display().to_string() });
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_private_folder(folder)
            .map_err(|source| StoreError::Folder { path: folder.display().to_string(), source })?;
    }
    // SQLite would make it readable for everybody; the files of its log take over the mode of this one.
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    made.map(|_| ()).map_err(|source| StoreError::Folder { path: file.display().to_string(), source })
}

fn pool(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(PATIENCE)
}

/// Connects, and sets the file up. Turning the log on fails at once, whatever the busy timeout, when another process is
/// about to do the same; it is tried again.
async fn first_connection_to_sqlite(options: &AnyConnectOptions) -> Result<AnyConnection, sqlx::Error> {
    let mut tries_left = 100;
    loop {
        let mut connection = AnyConnection::connect_with(options).await?;
        match set_up_sqlite(&mut connection).await {
            Err(error) if is_busy(&error) && tries_left > 0 => tries_left -= 1,
            result => return result.map(|()| connection),
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

async fn set_up_sqlite(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
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

/// SQLITE_BUSY (5), with its extended codes (<https://www.sqlite.org/rescode.html>).
fn is_busy(error: &sqlx::Error) -> bool {
    sqlite_code(error) == Some(5)
}

/// SQLITE_CORRUPT (11) and SQLITE_NOTADB (26), with their extended codes (<https://www.sqlite.org/rescode.html>).
fn is_damage(error: &sqlx::Error) -> bool {
    matches!(sqlite_code(error), Some(11 | 26))
}

fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let code = transition::first_cause(error).as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// Version, name, and the text for SQLite and PostgreSQL, which differ in BLOB and BYTEA. Never edit one that has been
/// released: checksums are compared.
const MIGRATIONS: [(i64, &str, &str, &str); 9] = [
    (1, "keys and clients", include_str!("migrations/sqlite-0001.sql"), include_str!("migrations/postgres-0001.sql")),
    (2, "audit", include_str!("migrations/sqlite-0002.sql"), include_str!("migrations/postgres-0002.sql")),
    (3, "fetchers", include_str!("migrations/sqlite-0003.sql"), include_str!("migrations/postgres-0003.sql")),
    (4, "ages in use", include_str!("migrations/sqlite-0004.sql"), include_str!("migrations/postgres-0004.sql")),
    (5, "sign-in", include_str!("migrations/sqlite-0005.sql"), include_str!("migrations/postgres-0005.sql")),
    (6, "client metadata", include_str!("migrations/sqlite-0006.sql"), include_str!("migrations/postgres-0006.sql")),
    (7, "event reader", include_str!("migrations/sqlite-0007.sql"), include_str!("migrations/postgres-0007.sql")),
    (8, "user details", include_str!("migrations/sqlite-0008.sql"), include_str!("migrations/postgres-0008.sql")),
    (9, "certificates", include_str!("migrations/sqlite-0009.sql"), include_str!("migrations/postgres-0009.sql")),
];

/// Between two tries to set up a file that somebody else is setting up.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may take before the database counts as out of reach.
const PATIENCE: Duration = Duration::from_secs(6);

/// A statement that hangs, or a transaction that was forgotten, must not hold up the others for ever.
const POSTGRES_SETTINGS: [&str; 3] =
    ["SET statement_timeout = '10s'", "SET lock_timeout = '5s'", "SET idle_in_transaction_session_timeout = '15s'"];

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(folder: &Path) -> Database {
        Database::parse(&format!("sqlite://{}/k.db", folder.display())).expect("an address")
    }

    #[tokio::test]
    async fn a_second_process_finds_the_schema_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = in_folder(folder.path());

        let (first, second) =
            tokio::join!(Store::open(&database, WhenMissing::Create), Store::open(&database, WhenMissing::Create));

        first.expect("the first opens");
        let second = second.expect("the second opens");
        let look = second.look().await.expect("a look");
        assert_eq!(look, Look { generations: Generations { keys: 0, clients: 0 }, clock_ms: None });
    }

    #[tokio::test]
    async fn nobody_else_can_read_the_database() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");

        let _store = Store::open(&in_folder(folder.path()), WhenMissing::Create).await.expect("made");

        for entry in std::fs::read_dir(folder.path()).expect("a folder") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} is {mode:o}", entry.path().display());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_called_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("k.db");
        std::fs::write(&file, [0x5a; 8192]).expect("written");

        let opened = Store::open(&in_folder(folder.path()), WhenMissing::Create).await;

        assert!(matches!(opened.err(), Some(StoreError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = in_folder(folder.path());
        let store = Store::open(&database, WhenMissing::Create).await.expect("made");
        store
            .writer
            .execute(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', 1, x'00', 0)",
            )
            .await
            .expect("inserted");
        store.close().await;

        let opened = Store::open(&database, WhenMissing::Create).await;

        let known = MIGRATIONS.len() as i64;
        assert!(matches!(opened.err(), Some(StoreError::Newer { found: 99, known: it }) if it == known));
    }

    #[tokio::test]
    async fn a_missing_database_is_only_made_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = in_folder(&folder.path().join("none"));

        let opened = Store::open(&database, WhenMissing::Refuse).await;

        assert!(matches!(opened.err(), Some(StoreError::Missing { .. })));
        assert!(!folder.path().join("none").exists());
    }
}
