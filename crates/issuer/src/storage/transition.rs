//! A transition under way, and how those of SQLite share a commit.
//!
//! A commit waits for the disk, which is most of what a transition costs. SQLite has one writer at a time, so whoever comes
//! meanwhile waits anyway; those who wait together are committed together:
//! 1. The first begins a transaction, and lets its end queue up behind those who wait already.
//! 2. Each takes its turn behind a savepoint, so that one that fails or is given up takes back what it did, and nothing
//!    else.
//! 3. The end commits; only then is anybody told that something is stored.
//!
//! Nobody waits for others to come: the next group gathers while the last one is written.
//!
//! On PostgreSQL each transition is a transaction of its own, on one of several connections; it brings the commits of many
//! to the disk together by itself.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Executor as _, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::PATIENCE;
use super::timed::Timed;

/// A transition under way. What it did is taken back, unless it is committed.
pub(super) struct Transition {
    way: Way,
    timed: Timed,
}

/// How a transition is made.
pub(super) enum Way {
    /// In a transaction with others.
    Shared(Turn),
    /// In its own.
    Own(Transaction<'static, Any>),
}

/// Where those who write to SQLite take turns.
#[derive(Clone)]
pub(super) struct Turns {
    writer: AnyPool,
    /// Whoever has this has the turn.
    group: Arc<Mutex<Option<Group>>>,
}

/// The right to write. There is a group as long as somebody has it.
pub(super) struct Turn(OwnedMutexGuard<Option<Group>>);

/// A transaction with the transitions of several.
struct Group {
    connection: PoolConnection<Any>,
    last: Last,
    /// Those who are told how the commit went.
    committed: Vec<oneshot::Sender<Outcome>>,
}

/// What becomes of the transition that had the last turn.
enum Last {
    TakenBack,
    Kept,
}

type Outcome = Result<(), Arc<sqlx::Error>>;

/// Why a group was not committed, for each of its transitions.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
struct NotCommitted(Arc<sqlx::Error>);

impl Transition {
    /// One that has its turn.
    pub(super) fn new(way: Way, mut timed: Timed) -> Self {
        timed.has_its_turn();
        Self { way, timed }
    }

    /// Stores what was done.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { way, timed } = self;
        let result = match way {
            Way::Shared(turn) => turn.commit().await,
            Way::Own(transaction) => transaction.commit().await,
        };
        drop(timed);
        result
    }
}

impl Deref for Transition {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match &self.way {
            Way::Shared(turn) => &turn.group().connection,
            Way::Own(transaction) => transaction,
        }
    }
}

impl DerefMut for Transition {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.way {
            Way::Shared(turn) => &mut turn.group_mut().connection,
            Way::Own(transaction) => transaction,
        }
    }
}

impl Turns {
    /// For a pool of one connection.
    pub(super) fn new(writer: AnyPool) -> Self {
        Self { writer, group: Arc::default() }
    }

    /// Waits for the turn.
    pub(super) async fn take(&self) -> Result<Turn, sqlx::Error> {
        let turn = timeout(PATIENCE, Arc::clone(&self.group).lock_owned()).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
        // Whoever asked may go away at any time, but not between a savepoint and its being known.
        let begun = tokio::spawn(self.clone().begin(turn)).await;
        begun.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    async fn begin(self, mut turn: OwnedMutexGuard<Option<Group>>) -> Result<Turn, sqlx::Error> {
        if let Some(group) = turn.as_mut() {
            match group.next_turn().await {
                Ok(()) => return Ok(Turn(turn)),
                Err(error) => {
                    if let Some(group) = turn.take() {
                        group.fail(error).await;
                    }
                }
            }
        }
        let mut connection = self.writer.acquire().await?;
        if let Err(error) = connection.execute("BEGIN IMMEDIATE; SAVEPOINT turn").await {
            connection.close_on_drop();
            return Err(error);
        }
        *turn = Some(Group { connection, last: Last::TakenBack, committed: Vec::new() });
        // Step 1: the lock is given to those who wait for it in their order.
        tokio::spawn(async move {
            let mut turn = self.group.lock_owned().await;
            if let Some(group) = turn.take() {
                group.end().await;
            }
        });
        Ok(Turn(turn))
    }
}

impl Turn {
    async fn commit(mut self) -> Result<(), sqlx::Error> {
        let (told, outcome) = oneshot::channel();
        let group = self.group_mut();
        group.last = Last::Kept;
        group.committed.push(told);
        drop(self);
        match outcome.await {
            Ok(outcome) => outcome.map_err(|error| shared(&error)),
            Err(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }

    fn group(&self) -> &Group {
        self.0.as_ref().expect("the group of a turn is there until it has ended")
    }

    fn group_mut(&mut self) -> &mut Group {
        self.0.as_mut().expect("the group of a turn is there until it has ended")
    }
}

impl Group {
    /// Step 2. Either statement fails when SQLite has taken the whole transaction back, as it does when the disk is full.
    async fn next_turn(&mut self) -> Result<(), sqlx::Error> {
        let next = match self.last {
            Last::Kept => sqlx::query("RELEASE turn; SAVEPOINT turn"),
            Last::TakenBack => sqlx::query("ROLLBACK TO turn"),
        };
        next.execute(&mut *self.connection).await?;
        self.last = Last::TakenBack;
        Ok(())
    }

    /// Step 3.
    async fn end(mut self) {
        let end = match (self.committed.as_slice(), &self.last) {
            ([], _) => "ROLLBACK",
            (_, Last::Kept) => "COMMIT",
            (_, Last::TakenBack) => "ROLLBACK TO turn; COMMIT",
        };
        match self.connection.execute(end).await {
            Ok(_) => self.tell(&Ok(())),
            Err(error) => self.fail(error).await,
        }
    }

    async fn fail(mut self, error: sqlx::Error) {
        // There may be nothing left to take back. Nobody can tell, so the next begins on a connection of its own.
        let _ = self.connection.execute("ROLLBACK").await;
        self.connection.close_on_drop();
        self.tell(&Err(Arc::new(error)));
    }

    fn tell(self, outcome: &Outcome) {
        for told in self.committed {
            // Who has gone away is not told.
            let _ = told.send(outcome.clone());
        }
    }
}

/// The same error for one of many; its code stays readable.
fn shared(error: &Arc<sqlx::Error>) -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(NotCommitted(Arc::clone(error))))
}

/// The error behind that of one of many.
pub(super) fn first_cause(error: &sqlx::Error) -> &sqlx::Error {
    match error {
        sqlx::Error::AnyDriverError(source) => source.downcast_ref().map_or(error, |NotCommitted(source)| source),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Database;
    use crate::storage::{Store, WhenMissing};

    async fn store(folder: &tempfile::TempDir) -> (Store, Turns) {
        let database = Database::parse(&format!("sqlite://{}/k.db", folder.path().display())).expect("an address");
        let store = Store::open(&database, WhenMissing::Create).await.expect("opened");
        let turns = Turns::new(store.writer.clone());
        (store, turns)
    }

    async fn write(turn: &mut Turn, name: &str) {
        let insert = sqlx::query("INSERT INTO meta (name, value) VALUES ($1, '')").bind(name.to_owned());
        insert.execute(&mut *turn.group_mut().connection).await.expect("written");
    }

    async fn written(store: &Store) -> Vec<String> {
        let rows = sqlx::query_scalar("SELECT name FROM meta WHERE name LIKE 'test-%' ORDER BY name");
        rows.fetch_all(&store.readers).await.expect("read")
    }

    #[tokio::test]
    async fn those_who_wait_together_are_committed_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, turns) = store(&folder).await;
        let others = async {
            let mut second = turns.take().await.expect("a turn");
            assert!(matches!(second.group().committed.as_slice(), [_]), "it is in the transaction of the first");
            write(&mut second, "test-2").await;
            assert!(written(&store).await.is_empty(), "nothing is told before it is stored");
            second.commit().await
        };
        let one = async {
            let mut first = turns.take().await.expect("a turn");
            write(&mut first, "test-1").await;
            first.commit().await
        };

        let (first, second) = tokio::join!(one, others);

        first.expect("committed");
        second.expect("committed");
        assert_eq!(written(&store).await, ["test-1", "test-2"]);
    }

    #[tokio::test]
    async fn one_that_is_given_up_takes_back_nothing_but_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, turns) = store(&folder).await;
        let turn = |name: &'static str| {
            let turns = turns.clone();
            async move {
                let mut turn = turns.take().await.expect("a turn");
                write(&mut turn, name).await;
                if name.ends_with("lost") { Ok(()) } else { turn.commit().await }
            }
        };

        let all =
            tokio::join!(turn("test-1-lost"), turn("test-2"), turn("test-3-lost"), turn("test-4"), turn("test-5-lost"));

        assert!([all.0, all.1, all.2, all.3, all.4].iter().all(Result::is_ok));
        assert_eq!(written(&store).await, ["test-2", "test-4"]);
    }

    #[tokio::test]
    async fn when_all_is_taken_back_nobody_is_told_that_it_is_stored() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, turns) = store(&folder).await;
        let others = async {
            let mut second = turns.take().await.expect("a turn");
            write(&mut second, "test-2").await;
            second.commit().await
        };
        let one = async {
            let mut first = turns.take().await.expect("a turn");
            write(&mut first, "test-1").await;
            // What SQLite does by itself when the disk is full.
            first.group_mut().connection.execute("ROLLBACK").await.expect("taken back");
            first.commit().await
        };

        let (first, second) = tokio::join!(one, others);

        assert!(first.is_err(), "its work is lost");
        second.expect("the next begin anew");
        assert_eq!(written(&store).await, ["test-2"]);
    }
}
