//! The fetchers of the JWKS, as this process sees them, and their way into the database.
//!
//! A request costs a hash, a short lock on a sixteenth of the table, and nothing else; only a fetcher not seen before
//! is written down. The table is bounded. Where it is full, a newcomer takes the place of somebody who came once or
//! twice, never of a regular fetcher, so that invented names push out invented names.
//!
//! Every `poll` the changes are added to the rows that all replicas share, and the rows read back. They too are bounded,
//! and a fetcher that stays away is forgotten with its row.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use keywheel_jose::Timestamp;
use keywheel_keyring::RotationPolicy;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::coverage::{Fetcher, NewestKeys};
use crate::chain;
use crate::edges::Clock;
use crate::shutdown::Shutdown;
use crate::storage::{Store, StoreError};

/// Everybody who fetches the JWKS.
pub struct Fetchers {
    policy: RotationPolicy,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Seen>>; SHARDS],
    /// The rows as last read, by name.
    rows: ArcSwap<Vec<Fetcher>>,
}

/// A fetcher with what this process saw of it.
struct Seen {
    name: String,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// Those of its row included, where it had one.
    fetches: i64,
    /// Not in the database yet.
    unsaved: i64,
    newest: Arc<NewestKeys>,
}

/// Who sends a request, as far as that can be told.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Who<'a> {
    /// Our verifier, by the name it was given.
    Named(&'a [u8]),
    /// Whoever says this from there.
    Group { agent: &'a [u8], network: Option<Network> },
}

/// Neighbours: a /24 of IPv4, a /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(IpAddr);

/// Changes on their way to the database.
struct Unsaved {
    /// To be added to the rows: each with only the fetches since the last time.
    fetchers: Vec<Fetcher>,
    keys: Vec<u64>,
}

impl Fetchers {
    /// Nobody yet.
    #[must_use]
    pub fn new(policy: RotationPolicy) -> Self {
        Self {
            policy,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            rows: ArcSwap::default(),
        }
    }

    /// Takes note that `agent` (RFC 9110 §10.1.5) at `peer` holds a set with `newest` from `now` on.
    pub fn note(&self, agent: &[u8], peer: Option<IpAddr>, newest: &Arc<NewestKeys>, now: Timestamp) {
        let who = Who::of(agent, peer);
        let key = self.hasher.hash_one(&who);
        let mut shard = self.shard(key);
        if let Some(seen) = shard.get_mut(&key) {
            seen.last_seen = seen.last_seen.max(now);
            seen.fetches += 1;
            seen.unsaved += 1;
            if !Arc::ptr_eq(&seen.newest, newest) {
                seen.newest = Arc::clone(newest);
            }
            return;
        }
        if shard.len() >= SHARD_CAPACITY {
            let oldest = shard.iter().map(|(key, seen)| (self.is_regular(seen, now), seen.last_seen, *key)).min();
            match oldest {
                Some((false, _, key)) => drop(shard.remove(&key)),
                _ => return,
            }
        }
        let name = who.name();
        let rows = self.rows.load();
        let row = rows.binary_search_by(|row| row.name.cmp(&name)).ok().map(|index| &rows[index]);
        let (first_seen, fetches) = row.map_or((now, 0), |row| (row.first_seen, row.fetches));
        let fetches = fetches + 1;
        shard.insert(key, Seen { name, first_seen, last_seen: now, fetches, unsaved: 1, newest: Arc::clone(newest) });
    }

    /// The fetchers that all replicas know of, as last read from the database.
    #[must_use]
    pub fn rows(&self) -> Arc<Vec<Fetcher>> {
        self.rows.load_full()
    }

    /// Adds what was seen to the database and reads back what all replicas saw.
    ///
    /// # Errors
    /// [`StoreError`]; what was not stored is kept for the next time.
    pub async fn exchange(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let unsaved = self.unsaved();
        if !unsaved.fetchers.is_empty() {
            store.save_fetchers(&unsaved.fetchers, now - FORGOTTEN_AFTER).await?;
            self.saved(&unsaved);
        }
        let mut rows = store.load_fetchers().await?;
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        self.rows.store(Arc::new(rows));
        Ok(())
    }

    /// Exchanges with the database every `poll`, until `shutdown`. What came after the last time is lost, which does no
    /// harm.
    pub async fn run(self: Arc<Self>, store: Store, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
        let mut period = tokio::time::interval(self.policy.poll());
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let exchanges = async {
            loop {
                period.tick().await;
                if let Err(error) = self.exchange(&store, clock.now()).await {
                    // Whether the database answers is told by those who need it.
                    debug!(error = chain(&error), "who fetches the JWKS could not be stored; it is tried again");
                }
            }
        };
        tokio::select! {
            () = exchanges => {}
            () = shutdown.ordered() => {}
        }
    }

    /// What the database does not know yet; of very many, those that came most often.
    fn unsaved(&self) -> Unsaved {
        let mut unsaved = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            unsaved.extend(shard.iter().filter(|(_, seen)| seen.unsaved > 0).map(|(&key, seen)| {
                let row = Fetcher {
                    name: seen.name.clone(),
                    first_seen: seen.first_seen,
                    last_seen: seen.last_seen,
                    fetches: seen.unsaved,
                    newest: NewestKeys::clone(&seen.newest),
                };
                (seen.fetches, key, row)
            }));
        }
        unsaved.sort_by_key(|(fetches, ..)| std::cmp::Reverse(*fetches));
        unsaved.truncate(MOST_SAVED_AT_ONCE);
        // In one order everywhere, so that two replicas that write the same rows wait for each other, not for ever.
        unsaved.sort_by(|(_, _, one), (_, _, other)| one.name.cmp(&other.name));
        let (keys, fetchers) = unsaved.into_iter().map(|(_, key, row)| (key, row)).unzip();
        Unsaved { fetchers, keys }
    }

    fn saved(&self, unsaved: &Unsaved) {
        for (&key, row) in unsaved.keys.iter().zip(&unsaved.fetchers) {
            if let Some(seen) = self.shard(key).get_mut(&key) {
                seen.unsaved -= row.fetches.min(seen.unsaved);
            }
        }
    }

    fn is_regular(&self, seen: &Seen, now: Timestamp) -> bool {
        let Seen { first_seen, last_seen, fetches, .. } = *seen;
        super::coverage::is_regular(first_seen, last_seen, fetches, &self.policy, now)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Seen>> {
        // The map uses the other bits of its own hash.
        self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Who<'a> {
    fn of(agent: &'a [u8], peer: Option<IpAddr>) -> Self {
        match verifier_name(agent) {
            Some(name) => Self::Named(name),
            None => Self::Group { agent: &agent[..agent.len().min(LONGEST_AGENT)], network: peer.map(Network::of) },
        }
    }

    /// Printable ASCII, and another for each other fetcher.
    fn name(&self) -> String {
        match self {
            Self::Named(name) => name.escape_ascii().to_string(),
            Self::Group { agent: b"", network } => format!("(no user agent){}", from(*network)),
            Self::Group { agent, network } => format!("{}{}", agent.escape_ascii(), from(*network)),
        }
    }
}

fn from(network: Option<Network>) -> String {
    match network {
        Some(Network(ip)) => format!(" from {ip}/{}", if ip.is_ipv4() { 24 } else { 48 }),
        None => " from nowhere".to_owned(),
    }
}

impl Network {
    fn of(peer: IpAddr) -> Self {
        Self(match peer.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & !0xff).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 80 << 80).into()),
        })
    }
}

/// The name in `keywheel-verifier/0.1.0 (payments-7)`, of whichever version.
fn verifier_name(agent: &[u8]) -> Option<&[u8]> {
    let (_, name) = agent.strip_prefix(b"keywheel-verifier/")?.split_at_checked(1)?;
    let name = &name[name.windows(2).position(|two| two == b" (")? + 2..];
    let name = name.strip_suffix(b")")?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (!name.is_empty() && name.len() <= LONGEST_AGENT && name.iter().all(plain)).then_some(name)
}

/// What of a `User-Agent` counts. A verifier's own name is no longer.
const LONGEST_AGENT: usize = 64;
/// Each byte escaped, and a network.
pub const LONGEST_NAME: usize = 4 * LONGEST_AGENT + 32;
const SHARDS: usize = 16;
/// Together a little over two thousand.
const SHARD_CAPACITY: usize = 128;
/// A storm of invented names must not keep the database busy.
const MOST_SAVED_AT_ONCE: usize = 256;
/// Longer than anybody is waited for.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(8 * 86_400);

#[cfg(test)]
mod tests;
