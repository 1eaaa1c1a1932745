//! A bounded memory of `kid`s that a fetch did not bring.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The `kid`s that were looked for, and since when. Bounded: when full, the oldest goes.
pub(crate) struct UnknownKids {
    /// Hashes, not `kid`s: strangers choose how long those are. The hasher is keyed, so collisions can't be chosen.
    since: HashMap<u64, Instant>,
    oldest_first: VecDeque<u64>,
    hasher: RandomState,
    limit: usize,
}

impl UnknownKids {
    pub(crate) fn new(limit: usize) -> Self {
        Self { since: HashMap::new(), oldest_first: VecDeque::new(), hasher: RandomState::new(), limit }
    }

    /// Notes that `kid` is missing from the set that was asked for at `asked_at`; a token may name none. True when that
    /// set already is the answer to an earlier search for it, not longer ago than `lifetime`.
    pub(crate) fn is_settled(
        &mut self,
        kid: Option<&str>,
        asked_at: Instant,
        now: Instant,
        lifetime: Duration,
    ) -> bool {
        let kid = self.hasher.hash_one(kid);
        match self.since.get_mut(&kid) {
            Some(since) if now.saturating_duration_since(*since) < lifetime => *since <= asked_at,
            Some(since) => {
                *since = now;
                false
            }
            None => {
                if self.oldest_first.len() == self.limit
                    && let Some(oldest) = self.oldest_first.pop_front()
                {
                    self.since.remove(&oldest);
                }
                self.oldest_first.push_back(kid);
                self.since.insert(kid, now);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_kid_is_settled_once_a_later_fetch_did_not_bring_it() {
        let mut unknown = UnknownKids::new(10);
        let start = Instant::now();
        let at = |offset| start + seconds(offset);
        let lifetime = seconds(30);

        assert!(!unknown.is_settled(Some("a"), at(0), at(10), lifetime), "never looked for");
        assert!(!unknown.is_settled(Some("a"), at(0), at(11), lifetime), "the held set is older than the first search");
        assert!(unknown.is_settled(Some("a"), at(12), at(13), lifetime), "a later set does not have it either");
        assert!(!unknown.is_settled(Some("b"), at(12), at(13), lifetime), "another kid");
        assert!(!unknown.is_settled(None, at(12), at(13), lifetime), "no kid");
        assert!(!unknown.is_settled(Some("a"), at(12), at(40), lifetime), "forgotten");
    }

    #[test]
    fn unknown_kids_are_bounded_and_the_oldest_goes_first() {
        let mut unknown = UnknownKids::new(3);
        let (early, late) = (Instant::now(), Instant::now() + seconds(1));
        for kid in ["a", "b", "c", "d"] {
            unknown.is_settled(Some(kid), early, early, seconds(30));
        }
        assert_eq!((unknown.since.len(), unknown.oldest_first.len()), (3, 3));
        assert!(unknown.is_settled(Some("b"), late, late, seconds(30)));
        assert!(!unknown.is_settled(Some("a"), late, late, seconds(30)), "\"a\" was pushed out");
    }
}
