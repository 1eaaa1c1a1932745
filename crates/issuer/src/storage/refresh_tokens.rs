//! Refresh tokens, of which each use makes the next.
//!
//! 1. The first of many attempts marks the token used and stores its successor: by its hash, and sealed so that only
//!    who has the old token can open it.
//! 2. Whoever comes again within the grace gets the same successor, because the first answer may have been lost, and
//!    because apps ask from several windows at once.
//! 3. Whoever comes later ends the grant, since two hold the same token (RFC 9700 §4.14.2).

use std::time::Duration;

use keywheel_jose::Timestamp;
use sqlx::Row as _;

use super::columns::Columns;
use super::events::{EventKind, Origin};
use super::grants::{Grant, LiveGrant, keep_grant, live_grant, live_grant_of_user, read_grant, revoke};
use super::{Store, StoreError, Transition};
use crate::users::User;

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
    /// The token itself, sealed under a key that only its predecessor gives: no key-encryption key is involved.
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
#[derive(Clone, Debug, PartialEq)]
pub enum Rotation {
    /// The successor is stored.
    Rotated {
        /// The grant, alive.
        grant: Box<Grant>,
        /// Whose it is.
        user: Box<User>,
        /// Until when the successor can be used.
        expires_at: Timestamp,
    },
    /// It was used a moment ago: this is the successor that was stored then, and the one given now is not.
    Replayed {
        /// The successor, sealed under a key that the token gives.
        sealed: Vec<u8>,
        /// The grant, alive.
        grant: Box<Grant>,
        /// Whose it is.
        user: Box<User>,
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

impl Store {
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
             AND EXISTS (SELECT 1 FROM grants WHERE grants.id = refresh_tokens.grant_id AND client_id = $4 \
             AND revoked_at IS NULL) RETURNING grant_id",
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
        let Some(live) = live_grant_of_user(&mut transaction, &grant_id).await? else { return Ok(Rotation::Revoked) };
        let LiveGrant { grant, user, alive_until } = live;
        let last = policy.absolute.map(|absolute| grant.created_at + absolute);
        let expires_at = last.map_or(now + policy.idle, |last| last.min(now + policy.idle));
        if expires_at <= now {
            return Ok(Rotation::Expired);
        }
        let token = NewRefreshToken { token_sha256: successor.token_sha256, issued_at: now, expires_at };
        insert_row(&mut transaction, &grant_id, &token).await.map_err(failed)?;
        let needed_until = expires_at.max(now + policy.access_ttl);
        // It is only ever moved on.
        if alive_until < needed_until {
            keep_grant(&mut transaction, &grant_id, needed_until).await.map_err(failed)?;
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(Rotation::Rotated { grant: Box::new(grant), user: Box::new(user), expires_at })
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

    /// What a refresh token that can't be used is answered with.
    async fn rotate_again(
        &self,
        transaction: &mut Transition,
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
        let live = live_grant_of_user(transaction, &grant_id).await?;
        let Some(LiveGrant { grant, user, .. }) = live else { return Ok(Rotation::Revoked) };
        let Some(used_at) = row.maybe_time("used_at")? else { return Ok(Rotation::Expired) };
        let sealed: Option<Vec<u8>> = row.get("successor_sealed")?;
        // Time is told in whole seconds: without a grace, not even the rest of the same one is given.
        let in_grace = !policy.grace.is_zero() && origin.at <= used_at + policy.grace;
        if let Some(sealed) = sealed.filter(|_| in_grace) {
            keep_grant(transaction, &grant_id, origin.at + policy.access_ttl).await.map_err(failed)?;
            return Ok(Rotation::Replayed { sealed, grant: Box::new(grant), user: Box::new(user) });
        }
        let revoked = revoke(transaction, &grant_id, EventKind::RefreshTokenReused, origin).await.map_err(failed)?;
        Ok(Rotation::Reused { grant_id, revoked })
    }
}

pub(super) async fn insert_token(
    transaction: &mut Transition,
    grant_id: &str,
    token: &NewRefreshToken,
) -> Result<(), sqlx::Error> {
    insert_row(transaction, grant_id, token).await?;
    keep_grant(transaction, grant_id, token.expires_at).await
}

async fn insert_row(transaction: &mut Transition, grant_id: &str, token: &NewRefreshToken) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO refresh_tokens (token_sha256, grant_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(token.token_sha256.as_slice())
        .bind(grant_id)
        .bind(token.issued_at.as_unix())
        .bind(token.expires_at.as_unix())
        .execute(&mut **transaction)
        .await
        .map(|_| ())
}
