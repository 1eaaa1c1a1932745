//! The keys of a fake issuer and what each is doing.

use std::sync::Arc;

use keywheel_jose::{Algorithm, KeySet};

use super::signer::Signer;

/// For each algorithm a key that signs, keys that wait and keys that have signed. Unlike a real ring it turns when told.
#[derive(Debug)]
pub(super) struct Ring {
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
    /// Goes up with every change, so that it makes an entity tag.
    pub(super) generation: u64,
}

#[derive(Debug)]
struct Key {
    signer: Arc<Signer>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Signing,
    /// Published, has not signed yet.
    Standby,
    /// Published, signs no more.
    Retiring,
    /// Not published any more. Whoever has it can still sign with it.
    Removed,
}

impl Ring {
    /// One key that signs and one that waits, for each algorithm; the first one is the default.
    pub(super) fn new(algorithms: Vec<Algorithm>) -> Self {
        let mut ring = Self { algorithms, keys: Vec::new(), generation: 0 };
        ring.add(Phase::Signing);
        ring.add(Phase::Standby);
        ring
    }

    pub(super) fn announce(&mut self) {
        self.add(Phase::Standby);
    }

    pub(super) fn sign_next(&mut self) {
        if !self.keys.iter().any(|key| key.phase == Phase::Standby) {
            self.add(Phase::Standby);
        }
        self.turn(Phase::Signing, Phase::Retiring);
        self.promote();
        self.generation += 1;
    }

    pub(super) fn retire(&mut self) {
        self.turn(Phase::Retiring, Phase::Removed);
        self.generation += 1;
    }

    pub(super) fn replace_all(&mut self) {
        for key in &mut self.keys {
            key.phase = Phase::Removed;
        }
        self.add(Phase::Signing);
        self.add(Phase::Standby);
    }

    /// False when no published key has this id.
    pub(super) fn revoke(&mut self, kid: &str) -> bool {
        let revoked = self.keys.iter_mut().find(|key| key.phase != Phase::Removed && key.signer.kid() == kid);
        let Some(revoked) = revoked else { return false };
        let was = std::mem::replace(&mut revoked.phase, Phase::Removed);
        if was == Phase::Signing {
            self.promote();
        }
        if was != Phase::Retiring {
            self.fill_up();
        }
        self.generation += 1;
        true
    }

    /// The key that signs by default, or for this algorithm.
    pub(super) fn signer(&self, algorithm: Option<Algorithm>) -> Option<Arc<Signer>> {
        let algorithm = algorithm.or(self.algorithms.first().copied());
        let of_algorithm = |key: &&Key| Some(key.signer.algorithm()) == algorithm;
        let found = self.keys.iter().filter(of_algorithm).find(|key| key.phase == Phase::Signing)?;
        Some(Arc::clone(&found.signer))
    }

    /// Any key that ever was in the ring.
    pub(super) fn by_kid(&self, kid: &str) -> Option<Arc<Signer>> {
        self.keys.iter().find(|key| key.signer.kid() == kid).map(|key| Arc::clone(&key.signer))
    }

    /// The published keys: those that sign, then those that wait, then those that have signed.
    pub(super) fn public_set(&self) -> KeySet {
        let mut published: Vec<_> = self.keys.iter().filter(|key| key.phase != Phase::Removed).collect();
        published.sort_by_key(|key| key.phase);
        KeySet::from_keys(published.into_iter().map(|key| key.signer.jwk().clone()))
    }

    fn add(&mut self, phase: Phase) {
        for algorithm in self.algorithms.clone() {
            self.keys.push(Key { signer: Arc::new(Signer::generate(algorithm)), phase });
        }
        self.generation += 1;
    }

    fn turn(&mut self, from: Phase, to: Phase) {
        for key in self.keys.iter_mut().filter(|key| key.phase == from) {
            key.phase = to;
        }
    }

    /// Where nobody signs, the one that has waited longest does.
    fn promote(&mut self) {
        for algorithm in self.algorithms.clone() {
            if self.count(algorithm, Phase::Signing) > 0 {
                continue;
            }
            let mut of_algorithm = self.keys.iter_mut().filter(|key| key.signer.algorithm() == algorithm);
            if let Some(next) = of_algorithm.find(|key| key.phase == Phase::Standby) {
                next.phase = Phase::Signing;
            }
        }
    }

    /// Where nobody signs or waits, somebody new does.
    fn fill_up(&mut self) {
        for phase in [Phase::Signing, Phase::Standby] {
            for algorithm in self.algorithms.clone() {
                if self.count(algorithm, phase) == 0 {
                    self.keys.push(Key { signer: Arc::new(Signer::generate(algorithm)), phase });
                }
            }
        }
    }

    fn count(&self, algorithm: Algorithm, phase: Phase) -> usize {
        self.keys.iter().filter(|key| key.signer.algorithm() == algorithm && key.phase == phase).count()
    }
}
