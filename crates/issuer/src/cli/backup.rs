//! `keywheel backup`

use std::path::PathBuf;

use clap::Args;

use super::output::note;
use super::{Failure, Session};
use crate::storage::{BackupError, Store, WhenMissing};

#[derive(Args)]
pub(super) struct Backup {
    /// The file, which must not exist
    file: PathBuf,
}

impl Backup {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let store = Store::open(&session.config.storage.database, WhenMissing::Refuse).await?;
        let result = store.backup(&self.file, &session.by()).await;
        store.close().await;
        result.map_err(|error| match error {
            BackupError::Postgres | BackupError::Exists(_) => Failure::usage(error.to_string()),
            other => Failure::failed(crate::chain(&other)),
        })?;
        note(format_args!("wrote {}; keep a copy of the key-encryption key too, but elsewhere", self.file.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Home;

    #[tokio::test]
    async fn a_file_that_is_there_and_a_database_that_is_not_are_refused() {
        let home = Home::new();
        let session = Session { config: home.config(""), edges: home.edges() };
        let file = home.path().join("backup.db");
        let back_up = async || Backup { file: file.clone() }.run(&session).await.map_err(|failure| failure.code);

        assert_eq!(back_up().await, Err(1), "there is no database");
        drop(home.open().await);
        assert_eq!(back_up().await, Ok(()));
        assert_eq!(back_up().await, Err(2), "the file is there");
    }
}
