//! Authorization codes.
//!
//! The first attempt to redeem a code spends it and makes its grant, in one transaction; handing out the tokens comes
//! after. Another attempt ends that grant (RFC 6749 §4.1.2), also that of an honest client which tries twice: nobody can
//! tell it from a thief.

use keywheel_jose::Timestamp;

use super::columns::{Columns, list, yes};
use super::events::{EventKind, Origin};
use super::grants::{Grant, NewGrant, json_text, live_grant, revoke, tell_of_grant};
use super::sessions::join_session;
use super::{Store, StoreError, Transition};

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

impl Store {
    /// Stores a code.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer, or the user is gone.
    pub async fn insert_code(&self, code: &NewCode) -> Result<(), StoreError> {
        let grant = &code.grant;
        let insert = sqlx::query(
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
        .bind(grant.acr.as_deref());
        self.change(insert, "store an authorization code").await.map(|_| ())
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
                 WHERE code_sha256 = $1 \
                 AND EXISTS (SELECT 1 FROM users WHERE users.id = codes.user_id AND users.disabled = 0)",
            )
            .bind(code_sha256.as_slice())
            .bind(origin.at.as_unix())
            .bind(alive_until.as_unix())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?
            .rows_affected()
                == 1;
        if made {
            sqlx::query("UPDATE codes SET made_grant = grant_id WHERE code_sha256 = $1")
                .bind(code_sha256.as_slice())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
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

    /// Why a code can't be spent.
    async fn refuse_code(
        &self,
        transaction: &mut Transition,
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
}
