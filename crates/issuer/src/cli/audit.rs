//! `keywheel audit …`

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Table, note, print, print_json};
use super::{Failure, Session};
use crate::storage::{AuditRow, AuditVerdict, Known, Store, WhenMissing};

#[derive(Subcommand)]
pub(super) enum Audit {
    /// Show who changed keys, clients and users, the newest last
    List {
        /// How many entries
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print JSON, with details and hashes
        #[arg(long)]
        json: bool,
    },
    /// Check that no entry was altered or removed; exits with 1 and names the first broken one
    ///
    /// Each entry carries the hash of the one before. Somebody who may write to the database can still make the whole
    /// log anew, or cut its end off and hide that. Keep the last line that this prints somewhere else, and give it back
    /// with --known: then that is seen too.
    Verify {
        /// An entry noted earlier, as this command printed it
        #[arg(long, value_name = "SERIAL:HASH")]
        known: Option<Known>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Audit {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let store = Store::open(&session.config.storage.database, WhenMissing::Refuse).await?;
        let result = match self {
            Self::List { limit, json } => list(&store, limit, json).await,
            Self::Verify { known, json } => verify(&store, known.as_ref(), json).await,
        };
        store.close().await;
        result
    }
}

async fn list(store: &Store, limit: u32, json: bool) -> Result<(), Failure> {
    let rows = store.load_audit(limit).await?;
    if json {
        return Ok(print_json(&rows.iter().map(document).collect())?);
    }
    let mut table = Table::new(["NO", "WHEN", "WHO", "FROM", "ACT", "SUBJECT"]);
    for row in rows {
        table.row([row.serial.to_string(), row.at.to_string(), row.actor, row.origin, row.act, row.subject]);
    }
    if table.is_empty() {
        note("nothing has been changed yet");
        return Ok(());
    }
    Ok(print(&table.render())?)
}

fn document(row: &AuditRow) -> Value {
    json!({
        "serial": row.serial,
        "at": row.at,
        "actor": row.actor,
        "origin": row.origin,
        "act": row.act,
        "subject": row.subject,
        // What is no JSON was altered; `verify` says so, and here it is shown as it is.
        "details": serde_json::from_str(&row.details).unwrap_or_else(|_| Value::from(row.details.as_str())),
        "known": Known::from(row).to_string(),
    })
}

async fn verify(store: &Store, known: Option<&Known>, json: bool) -> Result<(), Failure> {
    match store.verify_audit(known).await? {
        AuditVerdict::Intact { last } => {
            let last = last.map(|last| last.to_string());
            if json {
                return Ok(print_json(&json!({ "intact": true, "last": last }))?);
            }
            note("the audit log is whole, as far as the database can tell; its last entry, to keep elsewhere:");
            Ok(print(&format!("{}\n", last.unwrap_or_else(|| "none".to_owned())))?)
        }
        AuditVerdict::Broken { serial, why } => {
            if json {
                print_json(&json!({ "intact": false, "broken": serial, "why": why }))?;
                return Err(Failure::silent());
            }
            Err(Failure::failed(format!("the audit log is broken at entry {serial}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{Connection as _, Executor as _};

    use super::*;
    use crate::testing::Home;

    #[tokio::test]
    async fn a_broken_log_ends_with_1_and_names_the_entry() {
        let home = Home::new();
        drop(home.open().await);
        let session = Session { config: home.config(""), edges: home.edges() };
        let verify = async || Audit::Verify { known: None, json: false }.run(&session).await;
        verify().await.expect("nobody has touched it");

        let file = SqliteConnectOptions::new().filename(home.path().join("keywheel.db"));
        let mut database = SqliteConnection::connect_with(&file).await.expect("opened");
        for statement in ["DROP TRIGGER audit_is_never_changed", "UPDATE audit SET actor = 'nobody' WHERE serial = 1"] {
            database.execute(statement).await.expect("done");
        }
        database.close().await.expect("closed");
        let failure = verify().await.expect_err("it was altered");

        assert_eq!((failure.code, failure.message.as_str()), (1, "the audit log is broken at entry 1: it was altered"));
    }

    #[test]
    fn a_noted_entry_is_read_as_it_is_printed() {
        let text = format!("17:{}", "6f".repeat(32));

        assert_eq!(text.parse::<Known>().map(|known| known.to_string()), Ok(text));
        for text in
            ["", "17", "17:6f", ":6f", "0:6f", &format!("x:{}", "6f".repeat(32)), &format!("1:{}", "é".repeat(32))]
        {
            assert!(text.parse::<Known>().is_err(), "{text}");
        }
    }
}
