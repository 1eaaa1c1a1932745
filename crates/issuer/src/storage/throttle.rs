//! How often somebody may try to sign in to an account, for all replicas together.
//!
//! 1. An attempt is counted before the password is looked at ([`Store::spend_attempt`]), so that a hundred at once are
//!    a hundred.
//! 2. A right password forgets them ([`Store::clear_attempts`]).
//! 3. After some free ones each makes the next wait, twice as long each time and never longer than the policy says:
//!    what a stranger does to an account is over soon after the stranger stops. While it waits nothing is counted.

use std::time::Duration;

use keywheel_jose::Timestamp;
use sqlx::Row as _;

use super::{Store, StoreError};

/// How attempts are slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottlePolicy {
    /// So many attempts don't wait.
    pub free: u32,
    /// How long the first wait is.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
    /// After so long without an attempt all is forgotten.
    pub forget_after: Duration,
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may, and it is counted.
    Allowed {
        /// How many it makes without a success.
        failures: u32,
    },
    /// It may not; nothing was counted.
    Blocked {
        /// When the next may be made.
        until: Timestamp,
    },
}

impl ThrottlePolicy {
    /// How long the next attempt waits after this many.
    fn wait(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free.saturating_add(1)) else { return Duration::ZERO };
        let wait = 2_u32.checked_pow(doublings).and_then(|factor| self.first_wait.checked_mul(factor));
        wait.unwrap_or(self.longest_wait).min(self.longest_wait)
    }
}

impl Store {
    /// Counts an attempt, before anything is compared. The key is the hash of what was typed as a name, folded: accounts
    /// that do not exist are slowed down like others, and no database shows what somebody typed into the wrong field.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer; the attempt must not be made then.
    pub async fn spend_attempt(
        &self,
        key_sha256: &[u8; 32],
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Attempt, StoreError> {
        const DOING: &str = "count an attempt to sign in";
        let failed = |source| self.read_error(DOING, source);
        let mut transaction = self.begin(DOING).await?;
        // The row is ours from here on.
        let counted = sqlx::query(
            "INSERT INTO throttle (key_sha256, failures, blocked_until, forgotten_at) \
             VALUES ($1, 1, $2, $3) ON CONFLICT (key_sha256) DO UPDATE SET \
             failures = CASE WHEN throttle.forgotten_at <= $2 THEN 1 ELSE throttle.failures + 1 END, \
             forgotten_at = excluded.forgotten_at \
             WHERE throttle.blocked_until <= $2 RETURNING failures",
        )
        .bind(key_sha256.as_slice())
        .bind(now.as_unix())
        .bind((now + policy.forget_after).as_unix())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(counted) = counted else {
            let row = sqlx::query("SELECT blocked_until FROM throttle WHERE key_sha256 = $1")
                .bind(key_sha256.as_slice())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
            // Cleared in between by a success, so the next attempt need not wait.
            let until = row.map(|row| row.try_get(0)).transpose().map_err(failed)?;
            return Ok(Attempt::Blocked { until: until.map_or(now, Timestamp::from_unix) });
        };
        let failures: i64 = counted.try_get(0).map_err(failed)?;
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        let wait = policy.wait(failures);
        if !wait.is_zero() {
            sqlx::query("UPDATE throttle SET blocked_until = $2 WHERE key_sha256 = $1")
                .bind(key_sha256.as_slice())
                .bind((now + wait).as_unix())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        self.commit_quietly(transaction, DOING).await?;
        Ok(Attempt::Allowed { failures })
    }

    /// Until when no attempt may be made; `None` when one may.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn blocked_until(&self, key_sha256: &[u8; 32], now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        const DOING: &str = "read whether attempts are refused";
        let row = sqlx::query("SELECT blocked_until FROM throttle WHERE key_sha256 = $1 AND blocked_until > $2")
            .bind(key_sha256.as_slice())
            .bind(now.as_unix())
            .fetch_optional(&self.readers)
            .await
            .map_err(|source| self.read_error(DOING, source))?;
        row.map(|row| row.try_get(0).map(Timestamp::from_unix)).transpose().map_err(StoreError::query(DOING))
    }

    /// Forgets the attempts, after a success.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn clear_attempts(&self, key_sha256: &[u8; 32]) -> Result<(), StoreError> {
        let clear = sqlx::query("DELETE FROM throttle WHERE key_sha256 = $1").bind(key_sha256.as_slice());
        self.change(clear, "forget attempts to sign in").await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let seconds = Duration::from_secs;
        let policy =
            ThrottlePolicy { free: 3, first_wait: seconds(1), longest_wait: seconds(60), forget_after: seconds(900) };

        let waits = [0, 3, 4, 5, 6, 9, 10, 100, u32::MAX].map(|failures| policy.wait(failures).as_secs());

        assert_eq!(waits, [0, 0, 1, 2, 4, 32, 60, 60, 60]);
    }
}
