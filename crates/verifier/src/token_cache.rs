//! Tokens that were verified before: the second sight of one costs a hash instead of a signature.
//!
//! An entry stands for "this very token held, under this policy, with these keys". It is found by the SHA-256 of the token
//! and the type of its claims, so the token itself is not kept. It is no answer any more when the key set has changed, when
//! the token has ended, or when the clock stands before the check. Each policy has a cache of its own. Only tokens that
//! held are kept, so what strangers invent takes no room. Reads take a shared lock on one of many shards.

use std::any::{Any, TypeId};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use keywheel_jose::{Timestamp, Verified};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Weighter};

use crate::metrics::{Meter, TokenCacheEvent};

pub(crate) struct TokenCache {
    entries: Cache<Key, Entry, Weight, BuildHasherDefault<FirstBytes>, Evictions>,
}

/// Which token, read as what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    sha256: [u8; 32],
    claims: TypeId,
}

#[derive(Clone)]
struct Entry {
    /// A `Verified<C>` of the key's type.
    verified: Arc<dyn Any + Send + Sync>,
    generation: u64,
    checked_at: Timestamp,
    /// Its `exp` and the leeway.
    until: Timestamp,
    bytes: u64,
}

impl TokenCache {
    /// A cache of about so many bytes, which tells `meter` what has to make room.
    pub(crate) fn new(capacity_bytes: usize, meter: Meter) -> Self {
        let capacity_bytes = capacity_bytes as u64;
        let items = usize::try_from(capacity_bytes / TYPICAL_ENTRY_BYTES).unwrap_or(usize::MAX).max(1);
        let hasher = BuildHasherDefault::default();
        Self { entries: Cache::with(items, capacity_bytes, Weight, hasher, Evictions(meter)) }
    }

    pub(crate) fn key<C: 'static>(token: &str) -> Key {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.as_ref());
        Key { sha256, claims: TypeId::of::<C>() }
    }

    /// What was found out about a token with the keys of this generation, if it still holds `now`.
    pub(crate) fn find<C: Send + Sync + 'static>(
        &self,
        key: &Key,
        generation: u64,
        now: Timestamp,
    ) -> Option<Verified<C>> {
        let entry = self.entries.get(key)?;
        let holds = entry.generation == generation && entry.checked_at <= now && now < entry.until;
        entry.verified.downcast_ref::<Verified<C>>().filter(|_| holds).cloned()
    }

    /// Keeps a verdict that was reached `now` with the keys of this generation.
    pub(crate) fn keep<C: Send + Sync + 'static>(
        &self,
        key: Key,
        token: &str,
        verified: &Verified<C>,
        generation: u64,
        now: Timestamp,
        leeway: Duration,
    ) {
        let until = verified.expires_at() + leeway;
        // What is read from a token is at most as long as the token; beside the texts there are their headers.
        let bytes = ENTRY_OVERHEAD_BYTES + 2 * token.len() as u64;
        let verified = Arc::new(verified.clone());
        self.entries.insert(key, Entry { verified, generation, checked_at: now, until, bytes });
    }

    /// How many entries there are, and about how many bytes they take.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.sha256);
        self.claims.hash(state);
    }
}

/// The key begins with a hash that is as good as any, and that nobody can aim at a shard without as many attempts as
/// there are shards.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8).take(1) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Entry> for Weight {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.bytes
    }
}

#[derive(Clone)]
struct Evictions(Meter);

impl Lifecycle<Key, Entry> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Entry) {
        self.0.tell(|metrics| metrics.token_cache(TokenCacheEvent::Evicted));
    }
}

/// Key, entry, the two counted pointers, the header of a token and the fixed part of its claims, generously.
const ENTRY_OVERHEAD_BYTES: u64 = 1024;

/// An entry for a token of 800 bytes.
const TYPICAL_ENTRY_BYTES: u64 = ENTRY_OVERHEAD_BYTES + 1600;
