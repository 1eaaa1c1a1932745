//! What users allow clients.
//!
//! A grant is what a user allowed a client in one authorization; every token of it ends with it. It is alive while it is
//! not revoked and its user may sign in.
//!
//! How they come to be is in `codes.rs`, how they go on in `refresh_tokens.rs`.

use keywheel_jose::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::columns::{Columns, list, yes};
use super::events::{EventKind, NewEvent, Origin, tell};
use super::refresh_tokens::{NewRefreshToken, insert_token};
use super::sessions::{join_session, take_user};
use super::users::forget_client_roles;
use super::users::{read_user, user_columns};
use super::{Store, StoreError, Transition};
use crate::users::User;

/// What a user allows a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// 128 random bits, which nobody had before.
    pub id: String,
    /// The user.
    pub user_id: String,
    /// The client.
    pub client_id: String,
    /// The session in which it was allowed.
    pub sid: Option<String>,
    /// Whether it outlives that session (`offline_access`).
    pub offline: bool,
    /// The scopes.
    pub scope: Vec<String>,
    /// The resources (RFC 8707).
    pub audiences: Vec<String>,
    /// The `claims` parameter.
    pub claims_request: Option<Map<String, Value>>,
    /// The `nonce` parameter.
    pub nonce: Option<String>,
    /// When the user signed in.
    pub auth_time: Timestamp,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// How surely.
    pub acr: Option<String>,
}

/// What a user allowed a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What was allowed.
    pub allowed: NewGrant,
    /// When its code was redeemed.
    pub created_at: Timestamp,
    /// When it was ended before its time.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Makes a grant without a code, with a refresh token if there is one; `false` when its session has ended or its
    /// user may not sign in. It is kept until `alive_until`, the end of the access tokens that are issued now, or as long
    /// as the refresh token.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn insert_grant(
        &self,
        grant: &NewGrant,
        refresh_token: Option<&NewRefreshToken>,
        alive_until: Timestamp,
        origin: &Origin<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "store a grant";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        if let Some(sid) = &grant.sid
            && !join_session(&mut transaction, sid, &grant.client_id, origin.at).await.map_err(failed)?
        {
            return Ok(false);
        }
        let inserted = sqlx::query(
            "INSERT INTO grants (id, user_id, client_id, sid, offline, scope, audiences, claims_request, nonce, \
             auth_time, amr, acr, created_at, alive_until) \
             SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM users \
             WHERE id = $2 AND disabled = 0",
        )
        .bind(grant.id.as_str())
        .bind(grant.user_id.as_str())
        .bind(grant.client_id.as_str())
        .bind(grant.sid.as_deref())
        .bind(yes(grant.offline))
        .bind(list(&grant.scope))
        .bind(list(&grant.audiences))
        .bind(grant.claims_request.as_ref().map(json_text))
        .bind(grant.nonce.as_deref())
        .bind(grant.auth_time.as_unix())
        .bind(list(&grant.amr))
        .bind(grant.acr.as_deref())
        .bind(origin.at.as_unix())
        .bind(alive_until.as_unix())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(token) = refresh_token {
            insert_token(&mut transaction, &grant.id, token).await.map_err(failed)?;
        }
        let grant = Grant { allowed: grant.clone(), created_at: origin.at, revoked_at: None };
        tell_of_grant(&mut transaction, EventKind::GrantIssued, &grant, origin).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// A grant that is alive. The `jti` of an access token names it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn grant(&self, id: &str) -> Result<Option<Grant>, StoreError> {
        let row = sqlx::query(LIVE_GRANT).bind(id).fetch_optional(&self.readers).await;
        let row = row.map_err(|source| self.read_error(READING, source))?;
        row.as_ref().map(read_grant).transpose()
    }

    /// The grants of a user that are alive at `now`, the last made first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn grants_of_user(&self, user_id: &str, now: Timestamp) -> Result<Vec<Grant>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM grants WHERE user_id = $1 AND revoked_at IS NULL AND alive_until > $2 \
             ORDER BY created_at DESC, id",
        )
        .bind(user_id)
        .bind(now.as_unix())
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.read_error(READING, source))?;
        rows.iter().map(read_grant).collect()
    }

    /// Ends a grant, and all its tokens with it; `false` when it was over before.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn revoke_grant(&self, id: &str, origin: &Origin<'_>) -> Result<bool, StoreError> {
        const DOING: &str = "revoke a grant";
        let mut transaction = self.begin(DOING).await?;
        let revoked = revoke(&mut transaction, id, EventKind::GrantRevoked, origin).await;
        let revoked = revoked.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(revoked)
    }

    /// Ends all grants that a user gave a client, those for offline use too; how many there were.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn revoke_grants_of(
        &self,
        user_id: &str,
        client_id: &str,
        origin: &Origin<'_>,
    ) -> Result<usize, StoreError> {
        const DOING: &str = "revoke grants";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        take_user(&mut transaction, user_id).await.map_err(failed)?;
        let rows = sqlx::query("SELECT id FROM grants WHERE user_id = $1 AND client_id = $2 AND revoked_at IS NULL")
            .bind(user_id)
            .bind(client_id)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let mut revoked = 0;
        for row in rows {
            let id: String = row.try_get(0).map_err(failed)?;
            let ended = revoke(&mut transaction, &id, EventKind::GrantRevoked, origin).await.map_err(failed)?;
            revoked += usize::from(ended);
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(revoked)
    }

    /// Remembers until `expires_at` that this access token is no longer good.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn revoke_access_token(
        &self,
        jti: &str,
        client_id: &str,
        expires_at: Timestamp,
        origin: &Origin<'_>,
    ) -> Result<(), StoreError> {
        const DOING: &str = "revoke an access token";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let revoked =
            sqlx::query("INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING")
                .bind(jti)
                .bind(expires_at.as_unix())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        if revoked.rows_affected() == 1 {
            let event = NewEvent {
                kind: EventKind::AccessTokenRevoked,
                user_id: None,
                client_id: Some(client_id),
                sid: None,
                details: json!({ "jti": jti }),
            };
            tell(&mut transaction, event, origin).await.map_err(failed)?;
        }
        self.commit_quietly(transaction, DOING).await
    }

    /// Whether an access token was revoked by itself; that of its grant is another question.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn is_access_token_revoked(&self, jti: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT jti FROM revoked_tokens WHERE jti = $1")
            .bind(jti)
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error("read whether an access token was revoked", source))?;
        Ok(row.is_some())
    }
}

/// Ends a grant; `false` when there is none or it was ended before.
pub(super) async fn revoke(
    transaction: &mut Transition,
    id: &str,
    kind: EventKind,
    origin: &Origin<'_>,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE grants SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING user_id, client_id, sid",
    )
    .bind(id)
    .bind(origin.at.as_unix())
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let (user_id, client_id): (String, String) = (row.try_get("user_id")?, row.try_get("client_id")?);
    let sid: Option<String> = row.try_get("sid")?;
    let event = NewEvent {
        kind,
        user_id: Some(&user_id),
        client_id: Some(&client_id),
        sid: sid.as_deref(),
        details: json!({ "grant": id }),
    };
    tell(transaction, event, origin).await?;
    Ok(true)
}

/// Ends every grant of a client that is removed, and forgets what users allowed it and are there: another client of the
/// same id inherits nothing.
pub(super) async fn forget_client(
    transaction: &mut Transition,
    client_id: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let users =
        sqlx::query("SELECT DISTINCT user_id FROM grants WHERE client_id = $1 AND revoked_at IS NULL ORDER BY user_id")
            .bind(client_id)
            .fetch_all(&mut **transaction)
            .await?;
    for user in users {
        let user_id: String = user.try_get(0)?;
        take_user(transaction, &user_id).await?;
    }
    sqlx::query("UPDATE grants SET revoked_at = $2 WHERE client_id = $1 AND revoked_at IS NULL")
        .bind(client_id)
        .bind(now.as_unix())
        .execute(&mut **transaction)
        .await?;
    sqlx::query("DELETE FROM consents WHERE client_id = $1").bind(client_id).execute(&mut **transaction).await?;
    forget_client_roles(transaction, client_id).await
}

/// Keeps a grant as long as a token of it.
pub(super) async fn keep_grant(
    transaction: &mut Transition,
    grant_id: &str,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE grants SET alive_until = $2 WHERE id = $1 AND alive_until < $2")
        .bind(grant_id)
        .bind(until.as_unix())
        .execute(&mut **transaction)
        .await
        .map(|_| ())
}

/// A grant that is alive, as this transaction sees it.
pub(super) async fn live_grant(transaction: &mut Transition, id: &str) -> Result<Option<Grant>, StoreError> {
    let row = sqlx::query(LIVE_GRANT).bind(id).fetch_optional(&mut **transaction).await;
    row.map_err(StoreError::query(READING))?.as_ref().map(read_grant).transpose()
}

/// A grant that is alive, with what those who go on with it need.
pub(super) struct LiveGrant {
    pub(super) grant: Grant,
    /// Whose it is.
    pub(super) user: User,
    /// Until when it is kept.
    pub(super) alive_until: Timestamp,
}

/// [`live_grant`] with its user, in one query.
pub(super) async fn live_grant_of_user(
    transaction: &mut Transition,
    id: &str,
) -> Result<Option<LiveGrant>, StoreError> {
    let row = sqlx::query(LIVE_GRANT_OF_USER).bind(id).fetch_optional(&mut **transaction).await;
    let row = row.map_err(StoreError::query(READING))?;
    let read = |row: &AnyRow| {
        Ok(LiveGrant {
            grant: read_grant_from(row, ("grant_id", "granted_at"))?,
            user: read_user(row)?,
            alive_until: Columns::new(row, READING).time("alive_until")?,
        })
    };
    row.as_ref().map(read).transpose()
}

pub(super) async fn tell_of_grant(
    transaction: &mut Transition,
    kind: EventKind,
    grant: &Grant,
    origin: &Origin<'_>,
) -> Result<(), sqlx::Error> {
    let allowed = &grant.allowed;
    let event = NewEvent {
        kind,
        user_id: Some(&allowed.user_id),
        client_id: Some(&allowed.client_id),
        sid: allowed.sid.as_deref(),
        details: json!({ "grant": allowed.id, "scope": allowed.scope.join(" ") }),
    };
    tell(transaction, event, origin).await
}

pub(super) fn read_grant(row: &AnyRow) -> Result<Grant, StoreError> {
    read_grant_from(row, ("id", "created_at"))
}

/// Reads a grant from a row that has columns of these names for its id and when it was made.
fn read_grant_from(row: &AnyRow, (id, created_at): (&str, &str)) -> Result<Grant, StoreError> {
    let row = Columns::new(row, READING);
    Ok(Grant {
        allowed: NewGrant {
            id: row.get(id)?,
            user_id: row.get("user_id")?,
            client_id: row.get("client_id")?,
            sid: row.get("sid")?,
            offline: row.flag("offline")?,
            scope: row.json("scope")?,
            audiences: row.json("audiences")?,
            claims_request: row.maybe_json("claims_request")?,
            nonce: row.get("nonce")?,
            auth_time: row.time("auth_time")?,
            amr: row.json("amr")?,
            acr: row.get("acr")?,
        },
        created_at: row.time(created_at)?,
        revoked_at: row.maybe_time("revoked_at")?,
    })
}

pub(super) fn json_text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).expect("an object is JSON")
}

const LIVE_GRANT_OF_USER: &str = concat!(
    "SELECT grants.id AS grant_id, grants.user_id, grants.client_id, grants.sid, grants.offline, grants.scope, \
     grants.audiences, grants.claims_request, grants.nonce, grants.auth_time, grants.amr, grants.acr, \
     grants.created_at AS granted_at, grants.alive_until, grants.revoked_at, ",
    user_columns!(),
    " FROM grants JOIN users ON users.id = grants.user_id LEFT JOIN user_details ON user_details.user_id = users.id \
     WHERE grants.id = $1 AND grants.revoked_at IS NULL AND users.disabled = 0"
);
const LIVE_GRANT: &str = "SELECT grants.* FROM grants JOIN users ON users.id = grants.user_id \
     WHERE grants.id = $1 AND grants.revoked_at IS NULL AND users.disabled = 0";
const READING: &str = "read a grant";
