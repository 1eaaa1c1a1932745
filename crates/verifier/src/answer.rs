//! From what the issuer sent to a set that may be put in place, or why not. Pure: nothing is kept here.

use std::sync::Arc;

use bytes::Bytes;
use keywheel_jose::{KeySet, KeySetError, RefusedKey};

use crate::fetch::{Caching, FetchError, Fetched};
use crate::ledger::Snapshot;
use crate::limits::Limits;
use crate::metrics::FetchOutcome;

/// An answer that may be put in place.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) body: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) caching: Caching,
}

/// Why an attempt left the set as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the key set can't be fetched")]
    Fetch(#[from] FetchError),
    #[error("the answer is no key set")]
    Unreadable(#[from] KeySetError),
    #[error("the key set has {found} keys, at most {limit} are allowed")]
    TooManyKeys { found: usize, limit: usize },
    #[error("the key set has no key that can be used ({} refused)", refused.len())]
    NoUsableKey { refused: Vec<RefusedKey> },
    #[error("the answer has {found} bytes, at most {limit} are allowed")]
    TooLarge { found: usize, limit: usize },
    #[error("the answer is \"not modified\", but no set is held")]
    NothingToRenew,
    #[error("the key source panicked: {message}")]
    Panicked {
        /// Escaped and cut.
        message: String,
    },
}

impl Failure {
    pub(crate) fn outcome(&self) -> FetchOutcome {
        match self {
            Self::Fetch(_) => FetchOutcome::Failed,
            Self::Panicked { .. } => FetchOutcome::Panicked,
            _ => FetchOutcome::Refused,
        }
    }

    /// The entries of a set that is of no use at all.
    pub(crate) fn refused(&self) -> &[RefusedKey] {
        match self {
            Self::NoUsableKey { refused } => refused,
            _ => &[],
        }
    }
}

/// Judges an answer against the set that was held when it was asked for.
pub(crate) fn judge(fetched: Fetched, held: Option<&Snapshot>, limits: &Limits) -> Result<Answer, Failure> {
    let (body, etag, caching) = match fetched {
        Fetched::NotModified { caching } => {
            let held = held.ok_or(Failure::NothingToRenew)?;
            // RFC 9111 §4.3.4: what the 304 does not say stays as it was.
            let caching = Caching { max_age: caching.max_age.or(held.caching.max_age), ..caching };
            return Ok(Answer {
                keys: Arc::clone(&held.keys),
                body: held.body.clone(),
                etag: held.etag.clone(),
                caching,
            });
        }
        Fetched::Document { body, etag, caching } => (body, etag, caching),
    };
    if let Some(held) = held.filter(|held| held.body == body) {
        return Ok(Answer { keys: Arc::clone(&held.keys), body: held.body.clone(), etag, caching });
    }
    Ok(Answer { keys: Arc::new(usable(&body, limits)?), body, etag, caching })
}

/// Reads a set that may be used, wherever it comes from.
pub(crate) fn usable(body: &[u8], limits: &Limits) -> Result<KeySet, Failure> {
    if body.len() > limits.body_limit_bytes {
        return Err(Failure::TooLarge { found: body.len(), limit: limits.body_limit_bytes });
    }
    let keys = KeySet::parse(body)?;
    let found = keys.len() + keys.refused().len();
    if found > limits.max_keys {
        return Err(Failure::TooManyKeys { found, limit: limits.max_keys });
    }
    if keys.is_empty() {
        return Err(Failure::NoUsableKey { refused: keys.refused().to_vec() });
    }
    Ok(keys)
}
