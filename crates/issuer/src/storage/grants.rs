//! Grants, and the codes and refresh tokens that stand for them.
//!
//! A grant is what a user allowed a client in one authorization; every token of it ends with it. It is alive while it is
//! not revoked and its user may sign in.
//!
//! 1. A code waits for its client ([`Store::insert_code`]). The first attempt to redeem it spends it and makes the grant
//!    ([`Store::redeem_code`]); another one ends the grant (RFC 6749 §4.1.2), also that of an honest client which
//!    tries twice.
//! 2. A refresh token gives way to its successor at each use ([`Store::rotate_refresh_token`]). Whoever comes again a
//!    moment later gets the same successor, sealed so that only the old token opens it; whoever comes later than that
//!    ends the grant (RFC 9700 §4.14.2).
//! 3. What is over is forgotten ([`Store::purge_expired`]), spent codes and tokens last of all.

use std::time::Duration;

use keywheel_jose::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::columns::{Columns, list, yes};
use super::events::{EventKind, NewEvent, Origin, tell};
use super::sessions::{join_session, take_user};
use super::{Store, StoreError};

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

/// An authorization code.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// SHA-256 of the code.
    pub code_sha256: [u8; 32],
    /// The `redirect_uri` of the request, as it was sent.
    pub redirect_uri: Option<String>,
    /// The `code_challenge` of the request (RFC 7636, `S256`).
    pub code_challenge: Option<String>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Until when it can be redeemed.
    pub expires_at: Timestamp,
    /// What it stands for.
    pub grant: NewGrant,
}

/// What a code was issued with, to be compared with the request that redeems it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The `redirect_uri` of the request, as it was sent.
    pub redirect_uri: Option<String>,
    /// The `code_challenge` of the request.
    pub code_challenge: Option<String>,
    /// The new grant, alive.
    pub grant: Grant,
}

/// What became of a code that was to be redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// It is spent, and its grant made. Whoever finds that the request does not fit revokes that.
    Redeemed(Box<Code>),
    /// It was spent before; the grant that it became is ended.
    Reused {
        /// The grant.
        grant_id: String,
        /// Whether this attempt ended it.
        revoked: bool,
    },
    /// It is too old.
    Expired,
    /// The session that it came from has ended, or its user may not sign in any more. It is spent.
    Withdrawn,
    /// There is no such code.
    Unknown,
}

/// A refresh token to be stored.
#[derive(Clone, Debug)]
pub struct NewRefreshToken {
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// When it is issued.
    pub issued_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// The successor of a refresh token, made before it is known whether it is needed.
#[derive(Clone, Debug)]
pub struct Successor<'a> {
    /// SHA-256 of the token.
    pub token_sha256: [u8; 32],
    /// The token itself, sealed under a key that only its predecessor gives.
    pub sealed: &'a [u8],
}

/// How refresh tokens live.
#[derive(Clone, Copy, Debug)]
pub struct RefreshPolicy {
    /// So long after its use a token gives the same successor once more.
    pub grace: Duration,
    /// So long a token can wait for its use.
    pub idle: Duration,
    /// So long after the grant was made the last one ends; `None` for never.
    pub absolute: Option<Duration>,
    /// So long the access tokens live that are issued with them.
    pub access_ttl: Duration,
}

/// What became of a refresh token that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The successor is stored.
    Rotated {
        /// The grant, alive.
        grant: Box<Grant>,
        /// Until when the successor can be used.
        expires_at: Timestamp,
    },
    /// It was used a moment ago: this is the successor that was stored then, and the one given now is not.
    Replayed {
        /// The successor, sealed under a key that the token gives.
        sealed: Vec<u8>,
        /// The grant, alive.
        grant: Box<Grant>,
    },
    /// It was used before; the grant is ended.
    Reused {
        /// The grant.
        grant_id: String,
        /// Whether this attempt ended it.
        revoked: bool,
    },
    /// The grant was ended before, or its user may not sign in any more.
    Revoked,
    /// It is too old.
    Expired,
    /// There is no such token for this client.
    Unknown,
}

/// A refresh token that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// What it stands for, alive.
    pub grant: Grant,
}

/// What [`Store::purge_expired`] may forget.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    /// Events from before this.
    pub events_before: Timestamp,
    /// The [`RefreshPolicy::grace`].
    pub refresh_grace: Duration,
}

/// How many rows were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Authorization codes.
    pub codes: u64,
    /// Refresh tokens.
    pub refresh_tokens: u64,
    /// Grants.
    pub grants: u64,
    /// Sessions.
    pub sessions: u64,
    /// Revoked access tokens, spent assertions, and counted attempts.
    pub other: u64,
    /// Events.
    pub events: u64,
    /// Whether there may be more to forget at once.
    pub more: bool,
}

impl Store {
    /// Stores a code.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer, or the user is gone.
    pub async fn insert_code(&self, code: &NewCode) -> Result<(), StoreError> {
        let grant = &code.grant;
        sqlx::query(
            "INSERT INTO codes (code_sha256, redirect_uri, code_challenge, issued_at, expires_at, grant_id, user_id, \
             client_id, sid, offline, scope, audiences, claims_request, nonce, auth_time, amr, acr) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(code.code_sha256.as_slice())
        .bind(code.redirect_uri.as_deref())
        .bind(code.code_challenge.as_deref())
        .bind(code.issued_at.as_unix())
        .bind(code.expires_at.as_unix())
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
        .execute(&self.writer)
        .await
        .map(|_| ())
        .map_err(|source| self.read_error("store an authorization code", source))
    }

    /// Spends a code and makes its grant, which is kept until `alive_until`: the end of the access tokens that are issued
    /// now. The client of the code's session is noted, to hear of its end. A second attempt ends the grant.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn redeem_code(
        &self,
        code_sha256: &[u8; 32],
        alive_until: Timestamp,
        origin: &Origin<'_>,
    ) -> Result<Redemption, StoreError> {
        const DOING: &str = "redeem an authorization code";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        let spent = sqlx::query(
            "UPDATE codes SET redeemed_at = $2 WHERE code_sha256 = $1 AND redeemed_at IS NULL AND expires_at > $2 \
             RETURNING redirect_uri, code_challenge, grant_id, client_id, sid",
        )
        .bind(code_sha256.as_slice())
        .bind(origin.at.as_unix())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(spent) = spent else {
            let redemption = self.refuse_code(&mut transaction, code_sha256, origin).await?;
            self.commit_quietly(transaction, DOING).await?;
            return Ok(redemption);
        };
        let spent = Columns::new(&spent, DOING);
        let (grant_id, client_id): (String, String) = (spent.get("grant_id")?, spent.get("client_id")?);
        let sid: Option<String> = spent.get("sid")?;
        let joined = match &sid {
            Some(sid) => join_session(&mut transaction, sid, &client_id, origin.at).await.map_err(failed)?,
            None => true,
        };
        // The grant is made of what the code was issued with, if the user may still sign in.
        let made = joined
            && sqlx::query(
                "INSERT INTO grants (id, user_id, client_id, sid, offline, scope, audiences, claims_request, nonce, \
                 auth_time, amr, acr, created_at, alive_until) \
                 SELECT grant_id, user_id, client_id, sid, offline, scope, audiences, claims_request, nonce, \
                 auth_time, amr, acr, $2, $3 FROM codes \
                 WHERE code_sha256 = $1 AND user_id IN (SELECT id FROM users WHERE disabled = 0)",
            )
            .bind(code_sha256.as_slice())
            .bind(origin.at.as_unix())
            .bind(alive_until.as_unix())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?
            .rows_affected()
                == 1;
        let grant = if made { live_grant(&mut transaction, &grant_id).await? } else { None };
        let redemption = match grant {
            Some(grant) => {
                tell_of_grant(&mut transaction, EventKind::GrantIssued, &grant, origin).await.map_err(failed)?;
                Redemption::Redeemed(Box::new(Code {
                    redirect_uri: spent.get("redirect_uri")?,
                    code_challenge: spent.get("code_challenge")?,
                    grant,
                }))
            }
            None => Redemption::Withdrawn,
        };
        self.commit_quietly(transaction, DOING).await?;
        Ok(redemption)
    }

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

    /// Stores the first refresh token of a grant; `false` when that has ended meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is stored then.
    pub async fn insert_refresh_token(&self, grant_id: &str, token: &NewRefreshToken) -> Result<bool, StoreError> {
        const DOING: &str = "store a refresh token";
        let mut transaction = self.begin(DOING).await?;
        if live_grant(&mut transaction, grant_id).await?.is_none() {
            return Ok(false);
        }
        let inserted = insert_token(&mut transaction, grant_id, token).await;
        inserted.map_err(|source| self.read_error(DOING, source))?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(true)
    }

    /// Uses a refresh token: exactly one of many attempts stores its successor. What comes back decides what the client
    /// gets; a client that is not the grant's own neither learns nor spoils anything.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; nothing is changed then.
    pub async fn rotate_refresh_token(
        &self,
        token_sha256: &[u8; 32],
        client_id: &str,
        successor: &Successor<'_>,
        policy: &RefreshPolicy,
        origin: &Origin<'_>,
    ) -> Result<Rotation, StoreError> {
        const DOING: &str = "rotate a refresh token";
        let failed = |source| self.read_error(DOING, source);
        let now = origin.at;
        let mut transaction = self.begin(DOING).await?;
        // The row is ours from here on, whoever else comes.
        let used = sqlx::query(
            "UPDATE refresh_tokens SET used_at = $2, successor_sealed = $3 \
             WHERE token_sha256 = $1 AND used_at IS NULL AND expires_at > $2 \
             AND grant_id IN (SELECT id FROM grants WHERE client_id = $4 AND revoked_at IS NULL) RETURNING grant_id",
        )
        .bind(token_sha256.as_slice())
        .bind(now.as_unix())
        .bind(successor.sealed)
        .bind(client_id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(used) = used else {
            let rotation = self.rotate_again(&mut transaction, token_sha256, client_id, policy, origin).await?;
            self.commit_quietly(transaction, DOING).await?;
            return Ok(rotation);
        };
        let grant_id: String = used.try_get(0).map_err(failed)?;
        let Some(grant) = live_grant(&mut transaction, &grant_id).await? else { return Ok(Rotation::Revoked) };
        let last = policy.absolute.map(|absolute| grant.created_at + absolute);
        let expires_at = last.map_or(now + policy.idle, |last| last.min(now + policy.idle));
        if expires_at <= now {
            return Ok(Rotation::Expired);
        }
        let token = NewRefreshToken { token_sha256: successor.token_sha256, issued_at: now, expires_at };
        insert_token(&mut transaction, &grant_id, &token).await.map_err(failed)?;
        keep_grant(&mut transaction, &grant_id, now + policy.access_ttl).await.map_err(failed)?;
        self.commit_quietly(transaction, DOING).await?;
        Ok(Rotation::Rotated { grant: Box::new(grant), expires_at })
    }

    /// A refresh token whose grant is alive, used or not, to tell of it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn find_refresh_token(&self, token_sha256: &[u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        const DOING: &str = "read a refresh token";
        let row = sqlx::query(
            "SELECT grants.*, refresh_tokens.issued_at, refresh_tokens.expires_at, refresh_tokens.used_at \
             FROM refresh_tokens JOIN grants ON grants.id = refresh_tokens.grant_id \
             JOIN users ON users.id = grants.user_id \
             WHERE token_sha256 = $1 AND grants.revoked_at IS NULL AND users.disabled = 0",
        )
        .bind(token_sha256.as_slice())
        .fetch_optional(&self.readers)
        .await
        .map_err(|source| self.read_error(DOING, source))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::new(&row, DOING);
        Ok(Some(RefreshToken {
            issued_at: columns.time("issued_at")?,
            expires_at: columns.time("expires_at")?,
            used_at: columns.maybe_time("used_at")?,
            grant: read_grant(&row)?,
        }))
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

    /// Forgets what is over, some thousand rows at a time, each kind in a transaction of its own.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn purge_expired(&self, now: Timestamp, purge: &Purge) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        for (kind, text, until) in PURGES {
            let until = match until {
                Until::Now => now,
                Until::GraceIsOver => now - purge.refresh_grace,
                Until::EventsAreOld => purge.events_before,
            };
            let done = sqlx::query(text).bind(until.as_unix()).bind(PURGED_AT_ONCE as i64).execute(&self.writer).await;
            let gone = done.map_err(|source| self.read_error("forget what is over", source))?.rows_affected();
            purged.more |= gone >= PURGED_AT_ONCE;
            match kind {
                "codes" => purged.codes += gone,
                "refresh_tokens" => purged.refresh_tokens += gone,
                "grants" => purged.grants += gone,
                "sessions" => purged.sessions += gone,
                "events" => purged.events += gone,
                "successors" => {}
                _ => purged.other += gone,
            }
        }
        Ok(purged)
    }

    /// Why a code can't be spent.
    async fn refuse_code(
        &self,
        transaction: &mut Transaction<'static, Any>,
        code_sha256: &[u8; 32],
        origin: &Origin<'_>,
    ) -> Result<Redemption, StoreError> {
        const DOING: &str = "read an authorization code";
        let failed = |source| self.read_error(DOING, source);
        let row = sqlx::query("SELECT grant_id, redeemed_at FROM codes WHERE code_sha256 = $1")
            .bind(code_sha256.as_slice())
            .fetch_optional(&mut **transaction)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(Redemption::Unknown) };
        let row = Columns::new(&row, DOING);
        if row.maybe_time("redeemed_at")?.is_none() {
            return Ok(Redemption::Expired);
        }
        let grant_id: String = row.get("grant_id")?;
        let revoked = revoke(transaction, &grant_id, EventKind::CodeReused, origin).await.map_err(failed)?;
        Ok(Redemption::Reused { grant_id, revoked })
    }

    /// What a refresh token that can't be used is answered with.
    async fn rotate_again(
        &self,
        transaction: &mut Transaction<'static, Any>,
        token_sha256: &[u8; 32],
        client_id: &str,
        policy: &RefreshPolicy,
        origin: &Origin<'_>,
    ) -> Result<Rotation, StoreError> {
        const DOING: &str = "read a refresh token";
        let failed = |source| self.read_error(DOING, source);
        let row = sqlx::query(
            "SELECT grant_id, used_at, successor_sealed FROM refresh_tokens JOIN grants ON grants.id = grant_id \
             WHERE token_sha256 = $1 AND client_id = $2",
        )
        .bind(token_sha256.as_slice())
        .bind(client_id)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(Rotation::Unknown) };
        let row = Columns::new(&row, DOING);
        let grant_id: String = row.get("grant_id")?;
        let Some(grant) = live_grant(transaction, &grant_id).await? else { return Ok(Rotation::Revoked) };
        let Some(used_at) = row.maybe_time("used_at")? else { return Ok(Rotation::Expired) };
        let sealed: Option<Vec<u8>> = row.get("successor_sealed")?;
        if let Some(sealed) = sealed.filter(|_| origin.at <= used_at + policy.grace) {
            keep_grant(transaction, &grant_id, origin.at + policy.access_ttl).await.map_err(failed)?;
            return Ok(Rotation::Replayed { sealed, grant: Box::new(grant) });
        }
        let revoked = revoke(transaction, &grant_id, EventKind::RefreshTokenReused, origin).await.map_err(failed)?;
        Ok(Rotation::Reused { grant_id, revoked })
    }
}

/// Ends a grant; `false` when there is none or it was ended before.
async fn revoke(
    transaction: &mut Transaction<'static, Any>,
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

async fn insert_token(
    transaction: &mut Transaction<'static, Any>,
    grant_id: &str,
    token: &NewRefreshToken,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO refresh_tokens (token_sha256, grant_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(token.token_sha256.as_slice())
        .bind(grant_id)
        .bind(token.issued_at.as_unix())
        .bind(token.expires_at.as_unix())
        .execute(&mut **transaction)
        .await?;
    keep_grant(transaction, grant_id, token.expires_at).await
}

/// Keeps a grant as long as a token of it.
async fn keep_grant(
    transaction: &mut Transaction<'static, Any>,
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
async fn live_grant(transaction: &mut Transaction<'static, Any>, id: &str) -> Result<Option<Grant>, StoreError> {
    let row = sqlx::query(LIVE_GRANT).bind(id).fetch_optional(&mut **transaction).await;
    row.map_err(StoreError::query(READING))?.as_ref().map(read_grant).transpose()
}

async fn tell_of_grant(
    transaction: &mut Transaction<'static, Any>,
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

fn read_grant(row: &AnyRow) -> Result<Grant, StoreError> {
    let row = Columns::new(row, READING);
    Ok(Grant {
        allowed: NewGrant {
            id: row.get("id")?,
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
        created_at: row.time("created_at")?,
        revoked_at: row.maybe_time("revoked_at")?,
    })
}

fn json_text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).expect("an object is JSON")
}

/// Up to when rows are forgotten.
#[derive(Clone, Copy)]
enum Until {
    Now,
    GraceIsOver,
    EventsAreOld,
}

/// What is forgotten, and how; `$1` is until when, `$2` how many. A grant goes when none of its tokens can be alive, and
/// takes its used refresh tokens with it; a code that became a grant goes after it.
const PURGES: [(&str, &str, Until); 10] = [
    ("grants", "DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE alive_until <= $1 LIMIT $2)", Until::Now),
    (
        "codes",
        "DELETE FROM codes WHERE code_sha256 IN (SELECT code_sha256 FROM codes WHERE expires_at <= $1 \
         AND NOT EXISTS (SELECT id FROM grants WHERE grants.id = codes.grant_id) LIMIT $2)",
        Until::Now,
    ),
    (
        "refresh_tokens",
        "DELETE FROM refresh_tokens WHERE token_sha256 IN \
         (SELECT token_sha256 FROM refresh_tokens WHERE expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "successors",
        "UPDATE refresh_tokens SET successor_sealed = NULL WHERE token_sha256 IN (SELECT token_sha256 \
         FROM refresh_tokens WHERE used_at < $1 AND successor_sealed IS NOT NULL LIMIT $2)",
        Until::GraceIsOver,
    ),
    (
        "sessions",
        "DELETE FROM sessions WHERE sid IN (SELECT sid FROM sessions WHERE expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "sessions",
        "DELETE FROM sessions WHERE sid IN (SELECT sid FROM sessions WHERE idle_expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "revoked_tokens",
        "DELETE FROM revoked_tokens WHERE jti IN (SELECT jti FROM revoked_tokens WHERE expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "throttle",
        "DELETE FROM throttle WHERE key_sha256 IN (SELECT key_sha256 FROM throttle WHERE forgotten_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "assertion_jtis",
        "DELETE FROM assertion_jtis WHERE (client_id, jti_sha256) IN \
         (SELECT client_id, jti_sha256 FROM assertion_jtis WHERE expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "events",
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < $1 ORDER BY at LIMIT $2)",
        Until::EventsAreOld,
    ),
];

/// So many rows of one kind are forgotten in one transaction, which others wait for on SQLite.
const PURGED_AT_ONCE: u64 = 1000;

const LIVE_GRANT: &str = "SELECT grants.* FROM grants JOIN users ON users.id = grants.user_id \
     WHERE grants.id = $1 AND grants.revoked_at IS NULL AND users.disabled = 0";
const READING: &str = "read a grant";
