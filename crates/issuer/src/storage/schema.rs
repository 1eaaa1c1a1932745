//! Which schema the database has.

use sqlx::Row;

use super::{Store, StoreError};

impl Store {
    /// The schema of the database at this moment, which a newer version may have changed since it was opened. Cheap enough
    /// for a probe to ask.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn schema(&self) -> Result<i64, StoreError> {
        const DOING: &str = "say which schema it has";
        let row = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&self.readers).await;
        let row = row.map_err(|source| self.read_error(DOING, source))?;
        row.try_get(0).map_err(StoreError::query(DOING))
    }
}
