//! Reading a row column by column, and lists as JSON.

use keywheel_jose::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row, Type};

use super::StoreError;

/// A row, and what is said when it can't be read.
pub(super) struct Columns<'r> {
    row: &'r AnyRow,
    doing: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r AnyRow, doing: &'static str) -> Self {
        Self { row, doing }
    }

    /// Text, a number, bytes, or `Option` of one of them.
    pub(super) fn get<T: Decode<'r, Any> + Type<Any>>(&self, column: &str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(StoreError::query(self.doing))
    }

    pub(super) fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.get::<i64>(column)? != 0)
    }

    pub(super) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.get(column).map(Timestamp::from_unix)
    }

    pub(super) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_unix))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        self.parse(column, &self.get::<String>(column)?)
    }

    pub(super) fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| self.parse(column, &text)).transpose()
    }

    fn parse<T: DeserializeOwned>(&self, column: &str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| StoreError::Row { what: column.to_owned(), why: error.to_string() })
    }
}

/// A list as it is stored.
pub(super) fn list(items: &[String]) -> String {
    serde_json::to_string(items).expect("strings are JSON")
}

/// A flag as it is stored.
pub(super) fn yes(flag: bool) -> i64 {
    i64::from(flag)
}
