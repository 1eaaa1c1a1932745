//! The sign-ins of browsers.
//!
//! A session is found by the hash of its cookie and known to apps by its `sid`. Who signs in again in the same browser
//! goes on with the same session under another cookie, so that a cookie from before is worth nothing, and apps that know
//! the `sid` still hear of its end.
//!
//! Transactions that end grants of a user first take the user's row, so that they take turns and never wait for each
//! other. One that makes a grant takes the session's row, so that no grant slips past the end of its session.

use keywheel_jose::Timestamp;
use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::columns::{Columns, list, yes};
use super::events::{EventKind, NewEvent, Origin, tell};
use super::grants::revoke;
use super::logout_queue::{LogoutTarget, enqueue};
use super::{Store, StoreError, Transition};

/// The start of every query for live sessions; `$1` is the present.
macro_rules! live_session {
    () => {
        "SELECT sessions.* FROM sessions JOIN users ON users.id = sessions.user_id AND users.disabled = 0 \
         WHERE sessions.ended_at IS NULL AND sessions.expires_at > $1 AND sessions.idle_expires_at > $1"
    };
}

/// A sign-in that just happened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// SHA-256 of the cookie's value.
    pub cookie_sha256: [u8; 32],
    /// What apps will know it by, if the browser has no session to go on with.
    pub sid: String,
    /// Who signed in.
    pub user_id: String,
    /// When.
    pub auth_time: Timestamp,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// How surely.
    pub acr: Option<String>,
    /// Whether the cookie outlives the browser's window.
    pub persistent: bool,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// When it ends unless it is used.
    pub idle_expires_at: Timestamp,
    /// What the browser says it is, cut to a sensible length.
    pub user_agent: String,
    /// The network address it came from.
    pub address: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What apps know it by.
    pub sid: String,
    /// Who signed in.
    pub user_id: String,
    /// When they last did.
    pub auth_time: Timestamp,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// How surely.
    pub acr: Option<String>,
    /// Whether the cookie outlives the browser's window.
    pub persistent: bool,
    /// When they first signed in.
    pub created_at: Timestamp,
    /// When it was last used, as far as was noted.
    pub last_seen_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// When it ends unless it is used.
    pub idle_expires_at: Timestamp,
    /// What the browser said it is.
    pub user_agent: String,
    /// The network address of the last sign-in.
    pub address: String,
}

/// What became of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStart {
    /// The session stands.
    Started {
        /// What apps know it by: the one asked for, or the one that goes on.
        sid: String,
        /// The session of somebody else that ended in this browser.
        ended: Option<EndedSession>,
    },
    /// The user is gone or disabled: nothing was stored, and the old session is as it was.
    Refused,
}

/// A session that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// What apps know it by.
    pub sid: String,
    /// Whose it was.
    pub user_id: String,
    /// The clients that were signed into from it.
    pub clients: Vec<String>,
}

impl Store {
    /// Stores a sign-in. `replaces` is the hash of the cookie that the browser came with: a live session of the same
    /// user goes on under the new cookie and keeps its `sid`; that of another user ends, as with
    /// [`end_session`](Self::end_session).
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn create_session(
        &self,
        session: &NewSession,
        replaces: Option<&[u8; 32]>,
        targets: &[LogoutTarget],
    ) -> Result<SessionStart, StoreError> {
        const DOING: &str = "store a session";
        let failed = |source| self.read_error(DOING, source);
        let origin = Origin { at: session.auth_time, address: Some(&session.address) };
        let mut transaction = self.begin(DOING).await?;
        let mut sid = session.sid.clone();
        let mut ended = None;
        let renewed = match replaces {
            Some(old) => renew(&mut transaction, session, old).await.map_err(failed)?,
            None => None,
        };
        if let Some(kept) = renewed {
            sid = kept;
        } else {
            if let Some(old) = replaces {
                ended = end_by_cookie(&mut transaction, old, targets, &origin).await.map_err(failed)?;
            }
            if !insert(&mut transaction, session).await.map_err(failed)? {
                return Ok(SessionStart::Refused);
            }
        }
        let event = NewEvent {
            kind: EventKind::SignedIn,
            user_id: Some(&session.user_id),
            client_id: None,
            sid: Some(&sid),
            details: json!({ "amr": session.amr, "user_agent": session.user_agent }),
        };
        tell(&mut transaction, event, &origin).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(SessionStart::Started { sid, ended })
    }

    /// The live session of a cookie: not ended, not over, and of somebody who may sign in.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn session(&self, cookie_sha256: &[u8; 32], now: Timestamp) -> Result<Option<Session>, StoreError> {
        const DOING: &str = "read a session";
        let row = sqlx::query(concat!(live_session!(), " AND sessions.cookie_sha256 = $2"))
            .bind(now.as_unix())
            .bind(cookie_sha256.as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        row.as_ref().map(read_session).transpose()
    }

    /// The live session that apps know by this `sid`.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn session_by_sid(&self, sid: &str, now: Timestamp) -> Result<Option<Session>, StoreError> {
        const DOING: &str = "read a session";
        let row = sqlx::query(concat!(live_session!(), " AND sessions.sid = $2"))
            .bind(now.as_unix())
            .bind(sid)
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        row.as_ref().map(read_session).transpose()
    }

    /// The live sessions of a user, the last used first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn sessions_of_user(&self, user_id: &str, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        const DOING: &str = "read the sessions of a user";
        let query = concat!(live_session!(), " AND sessions.user_id = $2 ORDER BY sessions.last_seen_at DESC, sid");
        let rows = sqlx::query(query).bind(now.as_unix()).bind(user_id).fetch_all(&self.readers).await;
        let rows = rows.map_err(|source| self.read_error(DOING, source))?;
        rows.iter().map(read_session).collect()
    }

    /// Notes that a live session is used, which puts its idle end off to `idle_until`; `false` when it is not live.
    /// Callers do this about once a minute, not at each request: it is a write.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn touch_session(&self, sid: &str, now: Timestamp, idle_until: Timestamp) -> Result<bool, StoreError> {
        let touch = sqlx::query(
            "UPDATE sessions SET last_seen_at = CASE WHEN last_seen_at < $1 THEN $1 ELSE last_seen_at END, \
             idle_expires_at = CASE WHEN idle_expires_at < $2 THEN $2 ELSE idle_expires_at END \
             WHERE sid = $3 AND ended_at IS NULL AND expires_at > $1 AND idle_expires_at > $1",
        )
        .bind(now.as_unix())
        .bind(idle_until.as_unix())
        .bind(sid);
        Ok(self.change(touch, "note that a session is used").await? == 1)
    }

    /// Notes that a client is signed into from a session, unless that is over; it will hear of the session's end.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn note_session_client(&self, sid: &str, client_id: &str, now: Timestamp) -> Result<bool, StoreError> {
        const DOING: &str = "note a client of a session";
        let mut transaction = self.begin(DOING).await?;
        let noted = join_session(&mut transaction, sid, client_id, now).await;
        let noted = noted.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(noted)
    }

    /// Ends a session and every grant of it that is not for offline use, and queues a back-channel logout for each of
    /// its clients among `targets`. `None` when there is none, or it was ended before. One that is over because of its
    /// age is ended like any other: its clients may not know yet.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn end_session(
        &self,
        sid: &str,
        targets: &[LogoutTarget],
        origin: &Origin<'_>,
    ) -> Result<Option<EndedSession>, StoreError> {
        const DOING: &str = "end a session";
        let mut transaction = self.begin(DOING).await?;
        let ended = end_by_sid(&mut transaction, sid, Which::Any, targets, origin).await;
        let ended = ended.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(ended)
    }

    /// Ends up to `limit` sessions that are over at `now`, because of their age or for want of use, as
    /// [`end_session`](Self::end_session) does. Of many that do so at once, one ends each.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn end_expired_sessions(
        &self,
        now: Timestamp,
        limit: u32,
        targets: &[LogoutTarget],
    ) -> Result<Vec<EndedSession>, StoreError> {
        const DOING: &str = "end sessions that are over";
        let failed = |source| self.read_error(DOING, source);
        // Most of the time there are none, and a reader is enough to see it. In one order, so that two who end them at
        // once never wait for each other.
        let rows = sqlx::query(
            "SELECT sid FROM sessions WHERE ended_at IS NULL AND (expires_at <= $1 OR idle_expires_at <= $1) \
             ORDER BY user_id, sid LIMIT $2",
        )
        .bind(now.as_unix())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(failed)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let origin = Origin { at: now, address: None };
        let mut transaction = self.begin(DOING).await?;
        let mut ended = Vec::new();
        for row in rows {
            let sid: String = row.try_get(0).map_err(failed)?;
            ended.extend(end_by_sid(&mut transaction, &sid, Which::Expired, targets, &origin).await.map_err(failed)?);
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(ended)
    }

    /// [`end_session`](Self::end_session) by the hash of its cookie.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn end_session_by_cookie(
        &self,
        cookie_sha256: &[u8; 32],
        targets: &[LogoutTarget],
        origin: &Origin<'_>,
    ) -> Result<Option<EndedSession>, StoreError> {
        const DOING: &str = "end a session";
        let mut transaction = self.begin(DOING).await?;
        let ended = end_by_cookie(&mut transaction, cookie_sha256, targets, origin).await;
        let ended = ended.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(ended)
    }

    /// Ends every session of a user, and every grant that is not for offline use, also those of sessions that are long
    /// over.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn end_sessions_of_user(
        &self,
        user_id: &str,
        targets: &[LogoutTarget],
        origin: &Origin<'_>,
    ) -> Result<Vec<EndedSession>, StoreError> {
        const DOING: &str = "end the sessions of a user";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        take_user(&mut transaction, user_id).await.map_err(failed)?;
        let ended = end_all(&mut transaction, user_id, targets, origin).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(ended)
    }

    /// [`end_sessions_of_user`](Self::end_sessions_of_user), and every grant for offline use besides.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn end_all_access_of_user(
        &self,
        user_id: &str,
        targets: &[LogoutTarget],
        origin: &Origin<'_>,
    ) -> Result<Vec<EndedSession>, StoreError> {
        const DOING: &str = "end all access of a user";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        take_user(&mut transaction, user_id).await.map_err(failed)?;
        let ended = end_all(&mut transaction, user_id, targets, origin).await.map_err(failed)?;
        let rows = sqlx::query("SELECT id FROM grants WHERE user_id = $1 AND revoked_at IS NULL ORDER BY id")
            .bind(user_id)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        for row in rows {
            let id: String = row.try_get(0).map_err(failed)?;
            revoke(&mut transaction, &id, EventKind::GrantRevoked, origin).await.map_err(failed)?;
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(ended)
    }
}

/// Which sessions are to be ended.
#[derive(Clone, Copy)]
enum Which {
    Any,
    /// Those that are over, and nobody ended.
    Expired,
}

/// Takes the user's row, without changing it.
pub(super) async fn take_user(transaction: &mut Transition, user_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE users SET updated_at = updated_at WHERE id = $1")
        .bind(user_id)
        .execute(&mut **transaction)
        .await
        .map(|_| ())
}

/// Takes the row of a session, unless that is over, and notes the client.
pub(super) async fn join_session(
    transaction: &mut Transition,
    sid: &str,
    client_id: &str,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let live = sqlx::query(
        "UPDATE sessions SET last_seen_at = CASE WHEN last_seen_at < $2 THEN $2 ELSE last_seen_at END \
         WHERE sid = $1 AND ended_at IS NULL AND expires_at > $2",
    )
    .bind(sid)
    .bind(now.as_unix())
    .execute(&mut **transaction)
    .await?;
    if live.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO session_clients (sid, client_id, first_at) VALUES ($1, $2, $3) \
         ON CONFLICT (sid, client_id) DO NOTHING",
    )
    .bind(sid)
    .bind(client_id)
    .bind(now.as_unix())
    .execute(&mut **transaction)
    .await?;
    Ok(true)
}

/// Ends every session of a user whose row is taken.
pub(super) async fn end_all(
    transaction: &mut Transition,
    user_id: &str,
    targets: &[LogoutTarget],
    origin: &Origin<'_>,
) -> Result<Vec<EndedSession>, sqlx::Error> {
    let rows =
        sqlx::query("UPDATE sessions SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL RETURNING sid, user_id")
            .bind(user_id)
            .bind(origin.at.as_unix())
            .fetch_all(&mut **transaction)
            .await?;
    let mut ended = Vec::new();
    for row in &rows {
        ended.push(follow_up(transaction, row, EventKind::SignedOut, targets, origin).await?);
    }
    sqlx::query(
        "UPDATE grants SET revoked_at = $2 WHERE user_id = $1 AND sid IS NOT NULL AND offline = 0 \
         AND revoked_at IS NULL",
    )
    .bind(user_id)
    .bind(origin.at.as_unix())
    .execute(&mut **transaction)
    .await?;
    Ok(ended)
}

/// Puts the sign-in into the browser's live session, if that is the same user's; its `sid` then.
async fn renew(
    transaction: &mut Transition,
    session: &NewSession,
    old: &[u8; 32],
) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE sessions SET cookie_sha256 = $1, auth_time = $2, amr = $3, acr = $4, persistent = $5, \
         last_seen_at = $2, expires_at = $6, idle_expires_at = $7, user_agent = $8, address = $9 \
         WHERE cookie_sha256 = $10 AND user_id = $11 AND ended_at IS NULL AND expires_at > $2 AND idle_expires_at > $2 \
         AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled = 0) RETURNING sid",
    )
    .bind(session.cookie_sha256.as_slice())
    .bind(session.auth_time.as_unix())
    .bind(list(&session.amr))
    .bind(session.acr.as_deref())
    .bind(yes(session.persistent))
    .bind(session.expires_at.as_unix())
    .bind(session.idle_expires_at.as_unix())
    .bind(session.user_agent.as_str())
    .bind(session.address.as_str())
    .bind(old.as_slice())
    .bind(session.user_id.as_str())
    .fetch_optional(&mut **transaction)
    .await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn insert(transaction: &mut Transition, session: &NewSession) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO sessions (cookie_sha256, sid, user_id, auth_time, amr, acr, persistent, created_at, last_seen_at, \
         expires_at, idle_expires_at, user_agent, address) \
         SELECT $1, $2, id, $4, $5, $6, $7, $4, $4, $8, $9, $10, $11 FROM users WHERE id = $3 AND disabled = 0",
    )
    .bind(session.cookie_sha256.as_slice())
    .bind(session.sid.as_str())
    .bind(session.user_id.as_str())
    .bind(session.auth_time.as_unix())
    .bind(list(&session.amr))
    .bind(session.acr.as_deref())
    .bind(yes(session.persistent))
    .bind(session.expires_at.as_unix())
    .bind(session.idle_expires_at.as_unix())
    .bind(session.user_agent.as_str())
    .bind(session.address.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

async fn end_by_cookie(
    transaction: &mut Transition,
    cookie_sha256: &[u8; 32],
    targets: &[LogoutTarget],
    origin: &Origin<'_>,
) -> Result<Option<EndedSession>, sqlx::Error> {
    let row = sqlx::query("SELECT sid FROM sessions WHERE cookie_sha256 = $1")
        .bind(cookie_sha256.as_slice())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let sid: String = row.try_get(0)?;
    end_by_sid(transaction, &sid, Which::Any, targets, origin).await
}

async fn end_by_sid(
    transaction: &mut Transition,
    sid: &str,
    which: Which,
    targets: &[LogoutTarget],
    origin: &Origin<'_>,
) -> Result<Option<EndedSession>, sqlx::Error> {
    sqlx::query("UPDATE users SET updated_at = updated_at WHERE id = (SELECT user_id FROM sessions WHERE sid = $1)")
        .bind(sid)
        .execute(&mut **transaction)
        .await?;
    let (text, event) = match which {
        Which::Any => (
            "UPDATE sessions SET ended_at = $2 WHERE sid = $1 AND ended_at IS NULL RETURNING sid, user_id",
            EventKind::SignedOut,
        ),
        // Somebody may have come back to it meanwhile.
        Which::Expired => (
            "UPDATE sessions SET ended_at = $2 WHERE sid = $1 AND ended_at IS NULL \
             AND (expires_at <= $2 OR idle_expires_at <= $2) RETURNING sid, user_id",
            EventKind::SessionExpired,
        ),
    };
    let row = sqlx::query(text).bind(sid).bind(origin.at.as_unix()).fetch_optional(&mut **transaction).await?;
    match row {
        Some(row) => follow_up(transaction, &row, event, targets, origin).await.map(Some),
        None => Ok(None),
    }
}

/// What the end of a session brings with it.
async fn follow_up(
    transaction: &mut Transition,
    row: &AnyRow,
    event: EventKind,
    targets: &[LogoutTarget],
    origin: &Origin<'_>,
) -> Result<EndedSession, sqlx::Error> {
    let (sid, user_id): (String, String) = (row.try_get("sid")?, row.try_get("user_id")?);
    sqlx::query("UPDATE grants SET revoked_at = $2 WHERE sid = $1 AND offline = 0 AND revoked_at IS NULL")
        .bind(sid.as_str())
        .bind(origin.at.as_unix())
        .execute(&mut **transaction)
        .await?;
    let rows = sqlx::query("SELECT client_id FROM session_clients WHERE sid = $1 ORDER BY client_id")
        .bind(sid.as_str())
        .fetch_all(&mut **transaction)
        .await?;
    let clients = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    for target in targets.iter().filter(|target| clients.contains(&target.client_id)) {
        enqueue(transaction, target, &user_id, Some(&sid), origin.at).await?;
    }
    let event = NewEvent {
        kind: event,
        user_id: Some(&user_id),
        client_id: None,
        sid: Some(&sid),
        details: json!({ "clients": clients }),
    };
    tell(transaction, event, origin).await?;
    Ok(EndedSession { sid, user_id, clients })
}

fn read_session(row: &AnyRow) -> Result<Session, StoreError> {
    let row = Columns::new(row, "read a session");
    Ok(Session {
        sid: row.get("sid")?,
        user_id: row.get("user_id")?,
        auth_time: row.time("auth_time")?,
        amr: row.json("amr")?,
        acr: row.get("acr")?,
        persistent: row.flag("persistent")?,
        created_at: row.time("created_at")?,
        last_seen_at: row.time("last_seen_at")?,
        expires_at: row.time("expires_at")?,
        idle_expires_at: row.time("idle_expires_at")?,
        user_agent: row.get("user_agent")?,
        address: row.get("address")?,
    })
}
