//! Client assertions that were seen, so that none is accepted twice (RFC 7523 §3, `jti`).

use keywheel_jose::Timestamp;

use super::{Store, StoreError};

impl Store {
    /// Spends the `jti` of a client's assertion; `false` when it was spent before. It is remembered until `expires_at`,
    /// up to which the assertion could be accepted.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; the assertion must not be accepted then.
    pub async fn spend_assertion(
        &self,
        client_id: &str,
        jti_sha256: &[u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let spend = sqlx::query(
            "INSERT INTO assertion_jtis (client_id, jti_sha256, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (client_id, jti_sha256) DO UPDATE SET expires_at = excluded.expires_at \
             WHERE assertion_jtis.expires_at <= $4",
        )
        .bind(client_id)
        .bind(jti_sha256.as_slice())
        .bind(expires_at.as_unix())
        .bind(now.as_unix());
        Ok(self.change(spend, "spend an assertion").await? == 1)
    }
}
