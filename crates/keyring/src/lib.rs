//! The timetable of signing keys: which key is published, which signs, and what is due, at an instant.
//!
//! When a key is born its whole life is written down, and everything any replica does at `t` follows from the rows and
//! `t` alone. Nothing has to fire for a rotation to happen. This crate is pure: no clock, no I/O, no randomness, no
//! state of its own.
//!
//! - [`RotationPolicy`] holds the durations and refuses any that could lose a token, with the smallest that would do.
//! - [`Slots`] says when a rotation may fall.
//! - [`Keyring`] answers who signs and what is published, [plans](Keyring::plan) what the rows need next, and
//!   works out what an operator's act ([`Keyring::revoke`], [`Keyring::bring_forward`]) changes.
//!
//! # Why a verifier never meets an unknown key
//! A verifier that obeys `max-age` holds, at `t`, a set that was served after `t − jwks_max_age − jwks_shared_max_age`.
//! A key signs no earlier than `publish_at + announce`, and `announce` covers both ages, the time until every replica
//! knows the row, and the skew between the clocks of the one that serves and the one that signs. So any set still in
//! use when a key starts to sign was served after the key was published. It does not matter whether anything was served
//! in between: a fleet that was down for a month may start with a key whose `sign_from` passed meanwhile, because every
//! set older than the outage has ended. That is why downtime is no argument for postponing a key that has been
//! published for `announce`.
//!
//! # The skew assumed
//! A replica's clock may be off by `clock_skew` from the database's, in either direction, so two replicas may be apart by
//! twice as much; which is why a late key is announced for one skew more than inequality 1 says (a key made in time
//! is, by inequality 3). A verifier's clock may be off by as much, and it may be lenient by `clock_skew` more, before it
//! accepts a token whose key has been removed.
//! Instants are whole seconds, and reading a clock drops the fraction: that counts as skew too. Clocks may step within
//! these bounds, so the age of a read is to be measured by a clock that does not step.
//!
//! A plan is stored within a poll of the read it was made from, and announcements of keys that are late run from then.
//! Whoever stores one later postpones its keys by as much.
//!
//! # What a change of policy promises
//! Promises in the rows only grow: a key that has not started to sign is postponed where the new `announce` is longer,
//! and lifetimes and skew are raised, never lowered. Two things the rows cannot know are the operator's:
//! - Sets that were served under a longer `jwks_max_age` are cached for that long yet. Lower the ages first, and
//!   `announce` below them only when the old ages have passed.
//! - A policy holds from the restart of the whole fleet. While replicas with different policies run side by side the
//!   weaker `announce` counts: raise `announce` first, the ages after it.

mod acts;
mod duration;
mod plan;
mod policy;
mod promise;
mod ring;
mod schedule;
mod slots;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;

pub use acts::{BringForwardError, BroughtForward, How, MayStumble, Revocation, RevokeError, WhoSigns};
pub use duration::{DurationError, format_duration, parse_duration};
pub use plan::Step;
pub use policy::{RotateEvery, RotationPolicy, RotationSettings, Violation};
pub use promise::AgesInUse;
pub use ring::{KeyRecord, Keyring, Phase};
pub use schedule::{Event, EventKind};
pub use slots::{CronError, Slots};
