//! What a world is like at an instant, told relative to it: every state is at [`NOW`], and time passes by shifting all
//! that has a date. Two instants that differ in nothing but the date are then one state, which is what lets the search
//! come to an end without a horizon.

use std::sync::Arc;

use keywheel_jose::Timestamp;

use crate::ring::testing::key;
use crate::ring::{KeyRecord, Keyring};

/// The true time of every state.
pub(super) const NOW: i64 = 1_000_000;

/// A key's row, its dates in ticks from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    pub(super) serial: i16,
    pub(super) publish_at: i16,
    pub(super) sign_from: i16,
    pub(super) max_ttl: i16,
    pub(super) clock_skew: i16,
    pub(super) revoked_at: Option<i16>,
    pub(super) has_private: bool,
}

/// The database's rows, or a replica's copy of them.
pub(super) type Rows = Arc<[Row]>;

/// What is true of a key outside the database. All are ticks left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Watch {
    /// Somebody may use a set without the key.
    pub(super) lacked: i16,
    /// Some verifier accepts a token of the key by its `exp`.
    pub(super) alive: i16,
    /// Verifiers may stumble over it, and the operator was told so.
    pub(super) stumbles: i16,
    /// It signs since an emergency, or since there was nothing before it.
    pub(super) unannounced: bool,
    /// How long it has been revoked, up to where that makes no difference any more.
    pub(super) withdrawn: Option<i16>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Replica {
    /// What its clock shows more than the true time.
    pub(super) clock: i16,
    /// The rows as it read them; none while it is down, or has been cut off for so long that it is silent.
    pub(super) rows: Rows,
    /// How old it believes its last read to be.
    pub(super) age: i16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) reign: usize,
    pub(super) rows: Rows,
    /// One for each row.
    pub(super) watches: Vec<Watch>,
    /// In order, since which is which makes no difference.
    pub(super) replicas: Vec<Replica>,
    /// For how long some set that was served before now may be in use.
    pub(super) served: i16,
    /// For how long a replica may not have heard of an emergency, or of a date that a new policy postponed.
    pub(super) emergency: i16,
    /// How often an operator has acted.
    pub(super) revocations: u8,
    pub(super) rotations: u8,
}

impl Replica {
    pub(super) fn down(clock: i16, age: i16) -> Self {
        Self { clock, rows: Rows::default(), age }
    }

    /// Down, or silent until it has read the rows.
    pub(super) fn is_silent(&self) -> bool {
        self.rows.is_empty()
    }
}

impl State {
    /// One tick later. No date is told apart from others further back than `past`, and no age from greater ones than
    /// `silent`, at which a replica neither signs nor answers.
    pub(super) fn pass(&mut self, past: i16, silent: i16) {
        let shifted = |rows: &Rows| rows.iter().map(|row| row.one_tick_on(past)).collect::<Rows>();
        self.rows = shifted(&self.rows);
        for replica in &mut self.replicas {
            replica.age = (replica.age + 1).min(silent);
            if replica.age == silent {
                *replica = Replica::down(replica.clock, silent);
            }
            replica.rows = shifted(&replica.rows);
        }
        for watch in &mut self.watches {
            for left in [&mut watch.lacked, &mut watch.alive, &mut watch.stumbles] {
                *left = (*left - 1).max(0);
            }
            watch.withdrawn = watch.withdrawn.map(|ago| (ago + 1).min(silent));
        }
        self.served = (self.served - 1).max(0);
        self.emergency = (self.emergency - 1).max(0);
    }

    /// Drops the oldest row, which nothing depends on any more, and counts serials from 1 again. The code drops it too,
    /// but keeps it for hours to answer questions.
    pub(super) fn forget_oldest(&mut self) {
        let without =
            |rows: &Rows| rows.iter().skip(1).map(|row| Row { serial: row.serial - 1, ..*row }).collect::<Rows>();
        self.rows = without(&self.rows);
        self.watches.remove(0);
        for replica in &mut self.replicas {
            replica.rows = without(&replica.rows);
        }
    }

    /// The rows and everybody's copies of them.
    pub(super) fn copies(&self) -> impl Iterator<Item = &Rows> {
        self.replicas.iter().map(|replica| &replica.rows).chain([&self.rows])
    }

    pub(super) fn watch(&self, serial: i16) -> &Watch {
        &self.watches[position(serial)]
    }

    pub(super) fn watch_mut(&mut self, serial: i16) -> &mut Watch {
        &mut self.watches[position(serial)]
    }
}

impl Row {
    fn one_tick_on(&self, past: i16) -> Self {
        let shift = |at: i16| (at - 1).max(-past);
        // Whether a key was revoked before its time is never forgotten.
        let before_its_time = |at: i16| i16::from(at < self.sign_from);
        Self {
            publish_at: shift(self.publish_at),
            sign_from: shift(self.sign_from),
            revoked_at: self.revoked_at.map(|at| (at - 1).max(-past - before_its_time(at))),
            ..*self
        }
    }

    fn record(&self) -> KeyRecord {
        let at = |ticks: i16| NOW + i64::from(ticks);
        KeyRecord {
            max_ttl: seconds(self.max_ttl),
            clock_skew: seconds(self.clock_skew),
            revoked_at: self.revoked_at.map(|ticks| Timestamp::from_unix(at(ticks))),
            has_private: self.has_private,
            ..key(&self.serial.to_string(), self.serial.into(), at(self.publish_at), at(self.sign_from))
        }
    }
}

impl From<&KeyRecord> for Row {
    fn from(key: &KeyRecord) -> Self {
        Self {
            serial: key.serial.try_into().expect("serials are counted from 1"),
            publish_at: ticks(key.publish_at),
            sign_from: ticks(key.sign_from),
            max_ttl: ticks_of(key.max_ttl),
            clock_skew: ticks_of(key.clock_skew),
            revoked_at: key.revoked_at.map(ticks),
            has_private: key.has_private,
        }
    }
}

pub(super) fn keyring(rows: &[Row]) -> Keyring {
    Keyring::new(rows.iter().map(Row::record).collect())
}

/// The instant so many ticks from now.
pub(super) fn instant(ticks: i16) -> Timestamp {
    Timestamp::from_unix(NOW + i64::from(ticks))
}

pub(super) fn ticks(at: Timestamp) -> i16 {
    (at.as_unix() - NOW).try_into().expect("all dates are near")
}

pub(super) fn ticks_of(duration: std::time::Duration) -> i16 {
    duration.as_secs().try_into().expect("all durations are short")
}

pub(super) fn seconds(ticks: i16) -> std::time::Duration {
    std::time::Duration::from_secs(ticks.try_into().expect("no duration is negative"))
}

/// The serial in a `kid`.
pub(super) fn serial(kid: &str) -> i16 {
    kid.parse().expect("the kids of a world are serials")
}

fn position(serial: i16) -> usize {
    usize::try_from(serial - 1).expect("serials are counted from 1")
}
