//! The audit log: who did what, when and from where, in rows that are only ever added.
//!
//! 1. A change and the entry that tells of it are one transaction, so neither exists without the other. A change that
//!    changed nothing (another process was faster) leaves no entry.
//! 2. Writers take turns: the count of entries is raised before the last one is read, and in PostgreSQL that holds the
//!    row until the transaction ends. It comes after every other lock of a transaction.
//! 3. An entry's hash is the SHA-256 of all its fields, each with its length before it, and of the hash of the entry
//!    before; the first has 32 zero bytes before it.
//!
//! [`Store::verify_audit`] finds an entry that was altered, one that was removed or put in between, and a tail that was
//! cut off, unless the count in `generations` was set back as well. There is no secret in the hashes, so somebody who may
//! write to the database can make the whole chain anew, or cut it off and set the count back; then, and after a restore
//! of an old backup, only a copy of an earlier hash that was kept elsewhere tells ([`Known`]). Triggers in the database
//! refuse to change and to delete entries. They stop slips, not somebody who owns the tables.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use keywheel_jose::Timestamp;
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{KeyChange, Store, StoreError, Transition};
use crate::edges::Author;

/// Who makes a change, and when.
#[derive(Clone, Debug)]
pub struct By {
    author: Author,
    at: Timestamp,
}

impl By {
    /// A change that `author` makes at `at`.
    #[must_use]
    pub fn new(author: &Author, at: Timestamp) -> Self {
        Self { author: author.clone(), at }
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// What is to be told of one change.
#[derive(Debug)]
pub(super) struct Entry {
    act: &'static str,
    subject: String,
    /// Never a secret.
    details: Value,
}

impl Entry {
    pub(super) fn new(act: &'static str, subject: &str, details: Value) -> Self {
        Self { act, subject: subject.to_owned(), details }
    }
}

impl From<&KeyChange> for Entry {
    fn from(change: &KeyChange) -> Self {
        let (act, kid, details) = match change {
            KeyChange::Insert(key) | KeyChange::Import(key) => {
                let act = if matches!(change, KeyChange::Import(_)) { "key.imported" } else { "key.created" };
                let record = &key.record;
                let details = json!({
                    "alg": record.alg.as_str(),
                    "serial": record.serial,
                    "publish_at": record.publish_at,
                    "sign_from": record.sign_from,
                });
                (act, &record.kid, details)
            }
            KeyChange::PublishEarlier { kid, publish_at } => {
                ("key.published_earlier", kid, json!({ "publish_at": publish_at }))
            }
            KeyChange::Postpone { kid, planned, sign_from } => {
                ("key.postponed", kid, json!({ "planned": planned, "sign_from": sign_from }))
            }
            KeyChange::BringForward { kid, publish_at, sign_from } => {
                ("key.brought_forward", kid, json!({ "publish_at": publish_at, "sign_from": sign_from }))
            }
            KeyChange::Raise { kid, max_ttl, clock_skew } => {
                let details = json!({ "max_ttl_s": max_ttl.as_secs(), "clock_skew_s": clock_skew.as_secs() });
                ("key.kept_longer", kid, details)
            }
            KeyChange::Revoke { kid, revoked_at, reason } => {
                ("key.revoked", kid, json!({ "revoked_at": revoked_at, "reason": reason }))
            }
            KeyChange::Rewrap { kid, under, .. } => ("key.rewrapped", kid, json!({ "under": under })),
            KeyChange::DestroyPrivate { kid } => ("key.private_destroyed", kid, json!({})),
            KeyChange::Delete { kid } => ("key.forgotten", kid, json!({})),
        };
        Self::new(act, kid, details)
    }
}

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place, from 1, without holes.
    pub serial: i64,
    /// When the change was made, by the clock of the machine that made it.
    pub at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What was done, such as `key.revoked`.
    pub act: String,
    /// To what: a kid or a client's id.
    pub subject: String,
    /// More about it: a JSON object.
    pub details: String,
    /// The hash of the row before.
    pub previous_hash: Vec<u8>,
    /// The hash over all of the above.
    pub hash: Vec<u8>,
}

impl AuditRow {
    fn expected_hash(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut add = |field: &[u8]| {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        };
        add(b"keywheel audit 1");
        add(&self.serial.to_be_bytes());
        add(&self.at.as_unix().to_be_bytes());
        for text in [&self.actor, &self.origin, &self.act, &self.subject, &self.details] {
            add(text.as_bytes());
        }
        add(&self.previous_hash);
        context.finish().as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
    }
}

/// A row that somebody noted outside of the database: its serial and hash, written `17:6f…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    serial: i64,
    hash: String,
}

impl From<&AuditRow> for Known {
    fn from(row: &AuditRow) -> Self {
        Self { serial: row.serial, hash: row.hash.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl FromStr for Known {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "expected the serial and the hash of an entry as `keywheel audit verify` prints them, 17:6f…";
        let (serial, hash) = text.split_once(':').ok_or(FORM)?;
        let serial = serial.parse().map_err(|_| FORM)?;
        let well_formed = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if serial < 1 || !well_formed { Err(FORM) } else { Ok(Self { serial, hash: hash.to_ascii_lowercase() }) }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.serial, self.hash)
    }
}

/// What a walk along the chain showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every row is as it was written, and none is missing as far as can be seen from the database.
    Intact {
        /// The last row; `None` in an empty log.
        last: Option<Known>,
    },
    /// The chain is broken.
    Broken {
        /// The first row that is not as it should be.
        serial: i64,
        /// What is wrong there.
        why: &'static str,
    },
}

impl Store {
    /// The last `limit` rows, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn load_audit(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, at, actor, origin, act, subject, details, previous_hash, hash FROM audit \
             ORDER BY serial DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.read_error(READING, source))?;
        rows.iter().rev().map(read_row).collect()
    }

    /// Walks along the whole chain, and past the rows in `known`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn verify_audit(&self, known: Option<&Known>) -> Result<AuditVerdict, StoreError> {
        // Before the rows: what is added meanwhile may be seen or not.
        let count: i64 = sqlx::query("SELECT generation FROM generations WHERE subject = 'audit'")
            .fetch_one(&self.readers)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|source| self.read_error(READING, source))?;
        let mut last: Option<AuditRow> = None;
        loop {
            let after = last.as_ref().map_or(0, |row| row.serial);
            let page = sqlx::query(
                "SELECT serial, at, actor, origin, act, subject, details, previous_hash, hash FROM audit \
                 WHERE serial > $1 ORDER BY serial LIMIT 1000",
            )
            .bind(after)
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.read_error(READING, source))?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                let row = read_row(row)?;
                if let Some(why) = flaw(last.as_ref(), &row, known) {
                    return Ok(AuditVerdict::Broken { serial: last.map_or(1, |last| last.serial + 1), why });
                }
                last = Some(row);
            }
        }
        let end = last.as_ref().map_or(0, |row| row.serial);
        let expected = count.max(known.map_or(0, |known| known.serial));
        if end < expected {
            return Ok(AuditVerdict::Broken { serial: end + 1, why: "it and what came after it are gone" });
        }
        Ok(AuditVerdict::Intact { last: last.as_ref().map(Known::from) })
    }

    /// Adds `entries` to the log, as the last thing before the commit.
    pub(super) async fn record(
        &self,
        transaction: &mut Transition,
        entries: Vec<Entry>,
        by: &By,
    ) -> Result<(), StoreError> {
        const DOING: &str = "write its audit log";
        if entries.is_empty() {
            return Ok(());
        }
        let failed = |source| self.read_error(DOING, source);
        sqlx::query("UPDATE generations SET generation = generation + $1 WHERE subject = 'audit'")
            .bind(entries.len() as i64)
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
        let last = sqlx::query("SELECT serial, hash FROM audit ORDER BY serial DESC LIMIT 1")
            .fetch_optional(&mut **transaction)
            .await
            .map_err(failed)?;
        let (mut serial, mut previous_hash) = match last {
            Some(row) => (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?),
            None => (0, vec![0; 32]),
        };
        for Entry { act, subject, details } in entries {
            serial += 1;
            let mut row = AuditRow {
                serial,
                at: by.at,
                actor: by.author.actor().to_owned(),
                origin: by.author.origin().to_owned(),
                act: act.to_owned(),
                subject,
                details: details.to_string(),
                previous_hash,
                hash: Vec::new(),
            };
            row.hash = row.expected_hash().to_vec();
            sqlx::query(
                "INSERT INTO audit (serial, at, actor, origin, act, subject, details, previous_hash, hash) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(row.serial)
            .bind(row.at.as_unix())
            .bind(row.actor)
            .bind(row.origin)
            .bind(row.act)
            .bind(row.subject)
            .bind(row.details)
            .bind(row.previous_hash)
            .bind(row.hash.clone())
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
            previous_hash = row.hash;
        }
        Ok(())
    }
}

/// What is wrong with `row`, which comes after `last`.
fn flaw(last: Option<&AuditRow>, row: &AuditRow, known: Option<&Known>) -> Option<&'static str> {
    let (serial, hash) = last.map_or((0, [0; 32].as_slice()), |last| (last.serial, &last.hash));
    if row.serial != serial + 1 {
        Some("it is gone")
    } else if row.hash != row.expected_hash() {
        Some("it was altered")
    } else if row.previous_hash != hash {
        Some("it does not follow on the one before, which was exchanged")
    } else if known.is_some_and(|known| known.serial == row.serial && *known != Known::from(row)) {
        Some("it is not the one that was noted: this one or an earlier one was exchanged")
    } else {
        None
    }
}

fn read_row(row: &AnyRow) -> Result<AuditRow, StoreError> {
    let query = StoreError::query(READING);
    let text = |column: &str| -> Result<String, StoreError> { row.try_get(column).map_err(&query) };
    Ok(AuditRow {
        serial: row.try_get("serial").map_err(&query)?,
        at: row.try_get("at").map(Timestamp::from_unix).map_err(&query)?,
        actor: text("actor")?,
        origin: text("origin")?,
        act: text("act")?,
        subject: text("subject")?,
        details: text("details")?,
        previous_hash: row.try_get("previous_hash").map_err(&query)?,
        hash: row.try_get("hash").map_err(&query)?,
    })
}

const READING: &str = "read its audit log";
