//! What people and clients do: sign-ins, failures, consents, revocations.
//!
//! They are many, strangers can cause them, and they hold addresses of people, which have to be forgotten after a while.
//! The audit log is none of that: its writers take turns, and nothing is ever taken out of its chain. So events are rows
//! of their own, written in the transaction of what they tell of, and [`Store::purge_expired`] forgets the old ones. What
//! an operator does to a user is in the audit log.

use keywheel_jose::Timestamp;
use serde_json::Value;

use super::columns::Columns;
use super::{Store, StoreError, Transition};

/// When something is asked for, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The present.
    pub at: Timestamp,
    /// The network address; `None` for what the server does by itself.
    pub address: Option<&'a str>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Somebody signed in.
    SignedIn,
    /// Somebody was not let in: a wrong password, an unknown name, a disabled user.
    SignInFailed,
    /// An attempt was refused without looking at the password, because there were too many.
    SignInThrottled,
    /// A session was ended.
    SignedOut,
    /// A session came to its end, or was not used for too long.
    SessionExpired,
    /// A client could not be told that a session ended, and will not be.
    LogoutUndelivered,
    /// A client was given a grant: somebody is signed in to it.
    GrantIssued,
    /// A grant was ended.
    GrantRevoked,
    /// An authorization code came a second time, which ended its grant.
    CodeReused,
    /// A refresh token came again too late, which ended its grant.
    RefreshTokenReused,
    /// An access token was ended before its time.
    AccessTokenRevoked,
    /// Somebody allowed a client something.
    ConsentGiven,
    /// Somebody took that back.
    ConsentWithdrawn,
}

impl EventKind {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::SignedIn => "user.signed_in",
            EventKind::SignInFailed => "user.sign_in_failed",
            EventKind::SignInThrottled => "user.sign_in_throttled",
            EventKind::SignedOut => "user.signed_out",
            EventKind::SessionExpired => "session.expired",
            EventKind::LogoutUndelivered => "logout.undelivered",
            EventKind::GrantIssued => "grant.issued",
            EventKind::GrantRevoked => "grant.revoked",
            EventKind::CodeReused => "code.reused",
            EventKind::RefreshTokenReused => "refresh_token.reused",
            EventKind::AccessTokenRevoked => "access_token.revoked",
            EventKind::ConsentGiven => "consent.given",
            EventKind::ConsentWithdrawn => "consent.withdrawn",
        }
    }
}

/// Something to be told that is not part of another change, such as a failure.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// What happened.
    pub kind: EventKind,
    /// To whom, if that is known: never what somebody typed as their name, which may be their password.
    pub user_id: Option<&'a str>,
    /// At which client.
    pub client_id: Option<&'a str>,
    /// In which session.
    pub sid: Option<&'a str>,
    /// More about it: a JSON object without secrets.
    pub details: Value,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Grows; there may be holes.
    pub id: i64,
    /// When it happened.
    pub at: Timestamp,
    /// What, such as `user.signed_in`.
    pub kind: String,
    /// To whom.
    pub user_id: Option<String>,
    /// At which client.
    pub client_id: Option<String>,
    /// In which session.
    pub sid: Option<String>,
    /// From which address.
    pub address: Option<String>,
    /// More about it: a JSON object.
    pub details: String,
}

impl Store {
    /// Tells of something that is not part of another change.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn record_event(&self, event: NewEvent<'_>, origin: &Origin<'_>) -> Result<(), StoreError> {
        const DOING: &str = "note an event";
        let mut transaction = self.begin(DOING).await?;
        tell(&mut transaction, event, origin).await.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await
    }

    /// The last `limit` events, oldest first: all, or those of one user.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn load_events(&self, user_id: Option<&str>, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        const DOING: &str = "read the events";
        let query = match user_id {
            None => sqlx::query("SELECT * FROM events ORDER BY id DESC LIMIT $1").bind(i64::from(limit)),
            Some(user_id) => sqlx::query("SELECT * FROM events WHERE user_id = $2 ORDER BY id DESC LIMIT $1")
                .bind(i64::from(limit))
                .bind(user_id),
        };
        let rows = query.fetch_all(&self.readers).await.map_err(|source| self.read_error(DOING, source))?;
        let events = rows.iter().rev().map(|row| read_event(row, DOING));
        events.collect()
    }
}

pub(super) fn read_event(row: &sqlx::any::AnyRow, doing: &'static str) -> Result<EventRow, StoreError> {
    let row = Columns::new(row, doing);
    Ok(EventRow {
        id: row.get("id")?,
        at: row.time("at")?,
        kind: row.get("kind")?,
        user_id: row.get("user_id")?,
        client_id: row.get("client_id")?,
        sid: row.get("sid")?,
        address: row.get("address")?,
        details: row.get("details")?,
    })
}

/// Tells of a change in its own transaction.
pub(super) async fn tell(
    transaction: &mut Transition,
    event: NewEvent<'_>,
    origin: &Origin<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO events (at, kind, user_id, client_id, sid, address, details) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(origin.at.as_unix())
    .bind(event.kind.as_str())
    .bind(event.user_id)
    .bind(event.client_id)
    .bind(event.sid)
    .bind(origin.address)
    .bind(event.details.to_string())
    .execute(&mut **transaction)
    .await
    .map(|_| ())
}
