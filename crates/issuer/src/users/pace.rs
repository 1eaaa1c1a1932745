//! How long a refused password has to seem to take.
//!
//! A hash that was imported from elsewhere costs what it costs until its owner signs in; that of bcrypt may take ten times
//! as long as ours. Whoever measured refusals would learn from it that somebody has this name, and where they came from.
//! So while such hashes are stored, every refusal is held back up to a common floor: twice what the slowest of them takes
//! on this machine.
//!
//! - What they take is measured, at the start and every few minutes, by the costliest stored one of each family; and one
//!   that takes longer in earnest, because the machine is busy, raises the floor until then.
//! - The floor counts from when the computing began. The wait for a turn before that is the same for everybody.
//! - Being held back costs a timer: the thread and the place in the queue have been given back by then.
//!
//! To compute a hash of a stored kind for unknown names as well would look simpler, but strangers could then make the
//! server spend a second and 256 MiB on each name that they make up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::PasswordHash;
use super::hashes::Hash;

/// The costliest of the stored hashes that are not made as this version does, by their families.
#[derive(Default)]
pub struct ForeignHashes(BTreeMap<&'static str, (u64, Hash)>);

/// How long checks of such hashes take.
#[derive(Default)]
pub(super) struct Pace(Mutex<BTreeMap<&'static str, Duration>>);

impl ForeignHashes {
    /// Takes note of a stored hash. One that can't be used is never computed.
    pub fn add(&mut self, hash: &PasswordHash) {
        let Ok(hash) = Hash::parse(hash.expose()) else { return };
        if hash.is_current() {
            return;
        }
        let (family, work) = hash.cost();
        if self.0.get(family).is_none_or(|(known, _)| *known < work) {
            self.0.insert(family, (work, hash));
        }
    }

    pub(super) fn into_costliest(self) -> impl Iterator<Item = (&'static str, Hash)> {
        self.0.into_iter().map(|(family, (_, hash))| (family, hash))
    }
}

impl Pace {
    /// Takes over how long the stored families take; there are no others.
    pub(super) fn set(&self, measured: BTreeMap<&'static str, Duration>) {
        *self.families() = measured;
    }

    /// Takes note of a check that took so long.
    pub(super) fn note(&self, family: &'static str, took: Duration) {
        let mut families = self.families();
        let longest = families.entry(family).or_default();
        *longest = took.max(*longest);
    }

    /// How much longer a refusal has to wait whose computing took so long.
    pub(super) fn left(&self, took: Duration) -> Duration {
        let slowest = self.families().values().max().copied().unwrap_or_default();
        (slowest * 2).min(LONGEST).saturating_sub(took)
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Duration>> {
        // Each entry is whole at every point where this could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody is held back for longer, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn without_foreign_hashes_nobody_is_held_back() {
        assert_eq!(Pace::default().left(ms(20)), Duration::ZERO);
    }

    #[test]
    fn all_refusals_end_at_twice_the_slowest() {
        let pace = Pace::default();
        pace.set([("bcrypt", ms(250)), ("scrypt", ms(60))].into());

        assert_eq!([20, 60, 250, 499].map(|took| ms(took) + pace.left(ms(took))), [ms(500); 4]);
        assert_eq!(pace.left(ms(600)), Duration::ZERO);
    }

    #[test]
    fn a_busy_machine_raises_the_floor_until_it_is_measured_again() {
        let pace = Pace::default();
        pace.set([("bcrypt", ms(250))].into());

        pace.note("bcrypt", ms(400));
        pace.note("bcrypt", ms(300));
        assert_eq!(pace.left(ms(20)), ms(780));
        pace.note("scrypt", ms(9000));
        assert_eq!(pace.left(ms(0)), LONGEST, "but not for ever");

        pace.set([("bcrypt", ms(250))].into());
        assert_eq!(pace.left(ms(20)), ms(480));
        pace.set(BTreeMap::new());
        assert_eq!(pace.left(ms(20)), Duration::ZERO, "when the last of them is gone");
    }

    #[test]
    fn of_each_family_the_costliest_is_measured() {
        let mut foreign = ForeignHashes::default();
        for hash in [
            "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa",
            "$2y$05$BZ6R0GMog60ZMyd3XWV2V.CYWfVMHeHH0p/H2ky0QCJOTRb64QMJe",
            "$2a$04$irBqBUkg8f2VuhMhm4YPQeh4n8cdCbqeOQrhJhrUiInf0tGIfisL2",
            "pbkdf2_sha256$1000$saltsaltsaltsalt$5jYgd5THnM/St2yFEDiSeo7dEby5rDVd3QjWp4pASHc=",
            "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$Nom/SmaGx3xVCApWJXg4RJdMjZ78aNzHr90ztViKM0s",
            "$nothing$known",
        ] {
            foreign.add(&PasswordHash::new(hash.to_owned()));
        }

        let costliest: Vec<(&str, u64)> = foreign.into_costliest().map(|(_, hash)| hash.cost()).collect();

        assert_eq!(costliest, [("bcrypt", 32), ("pbkdf2-sha256", 1000)]);
    }
}
