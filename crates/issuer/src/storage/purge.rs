//! Forgetting what is over: codes, tokens, grants, sessions, attempts and events.

use std::time::Duration;

use keywheel_jose::Timestamp;

use super::{Store, StoreError};

/// What [`Store::purge_expired`] may forget.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    /// Events from before this.
    pub events_before: Timestamp,
    /// The [`RefreshPolicy::grace`](super::RefreshPolicy::grace).
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
            let purge = sqlx::query(text).bind(until.as_unix()).bind(PURGED_AT_ONCE as i64);
            let gone = self.change(purge, "forget what is over").await?;
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
}

/// Up to when rows are forgotten.
#[derive(Clone, Copy)]
enum Until {
    Now,
    GraceIsOver,
    EventsAreOld,
}

/// What is forgotten, and how; `$1` is until when, `$2` how many. A grant goes when none of its tokens can be alive, and
/// takes its used refresh tokens and its code with it. A session goes when it is over and was ended, so that its clients
/// have heard of it. What can be given more time is asked once more whether it is over: on PostgreSQL that is seen when the
/// row is taken, the list of rows may be older.
const PURGES: [(&str, &str, Until); 10] = [
    (
        "grants",
        "DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE alive_until <= $1 LIMIT $2) AND alive_until <= $1",
        Until::Now,
    ),
    (
        "codes",
        "DELETE FROM codes WHERE code_sha256 IN \
         (SELECT code_sha256 FROM codes WHERE made_grant IS NULL AND expires_at <= $1 LIMIT $2) AND made_grant IS NULL",
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
        "DELETE FROM sessions WHERE sid IN \
         (SELECT sid FROM sessions WHERE expires_at <= $1 AND ended_at IS NOT NULL LIMIT $2) AND expires_at <= $1",
        Until::Now,
    ),
    (
        "sessions",
        "DELETE FROM sessions WHERE sid IN \
         (SELECT sid FROM sessions WHERE idle_expires_at <= $1 AND ended_at IS NOT NULL LIMIT $2) \
         AND idle_expires_at <= $1",
        Until::Now,
    ),
    (
        "revoked_tokens",
        "DELETE FROM revoked_tokens WHERE jti IN (SELECT jti FROM revoked_tokens WHERE expires_at <= $1 LIMIT $2)",
        Until::Now,
    ),
    (
        "throttle",
        "DELETE FROM throttle WHERE key_sha256 IN \
         (SELECT key_sha256 FROM throttle WHERE forgotten_at <= $1 LIMIT $2) AND forgotten_at <= $1",
        Until::Now,
    ),
    (
        "assertion_jtis",
        "DELETE FROM assertion_jtis WHERE (client_id, jti_sha256) IN \
         (SELECT client_id, jti_sha256 FROM assertion_jtis WHERE expires_at <= $1 LIMIT $2) AND expires_at <= $1",
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
