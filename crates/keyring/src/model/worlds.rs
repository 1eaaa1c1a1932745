//! Worlds that are explored to the end, and what they are made of.

use std::time::Duration;

use stateright::{Checker, Model};

use super::answers::Memory;
use super::invariants::ACCEPTED;
use super::state::ticks_of;
use super::weakened::breaks;
use super::world::{Powers, Reign, Staleness, World};
use crate::policy::{RotateEvery, RotationPolicy, RotationSettings};

/// What may always happen: a plan is stored up to a poll after the rows it is made from were read.
pub(super) const USUAL: Powers =
    Powers { crashes: false, prompt: false, steps: None, revocations: 0, rotations: 0, late: 1 };

/// The tightest timetable that is safe where sets live for `cached` ticks, split between the two kinds of cache.
pub(super) fn tightest(cached: u64, skew: u64, ttl: u64) -> RotationSettings {
    let announce = cached + 2 + skew;
    RotationSettings {
        rotate: RotateEvery::Interval(seconds(announce + skew)),
        announce: seconds(announce),
        jwks_max_age: seconds(cached.div_ceil(2)),
        jwks_shared_max_age: Some(seconds(cached / 2)),
        clock_skew: seconds(skew),
        poll: seconds(1),
        max_staleness: Some(seconds(announce - skew)),
        max_token_ttl: seconds(ttl),
    }
}

/// A world in which what the replicas believe is true.
pub(super) fn world(replicas: usize, settings: &RotationSettings, powers: Powers) -> World {
    let policy = RotationPolicy::new(settings.clone()).expect("a safe policy");
    let skew = ticks_of(policy.clock_skew());
    let (behind, ahead) = (-(skew / 2), skew - skew / 2);
    World {
        past: ticks_of(policy.retention().max(policy.slots().smallest_gap()) + policy.poll()) + 2 * skew + 2,
        reigns: vec![Reign {
            cached: ticks_of(policy.jwks_max_age() + policy.jwks_shared_max_age()),
            ttl: ticks_of(policy.max_token_ttl()),
            signs_for: ticks_of(policy.max_staleness()),
            serves_for: ticks_of(policy.jwks_staleness_bound()),
            policy,
        }],
        clocks: ways_to_be_off(replicas, behind, ahead),
        furthest: (ahead, behind),
        skew,
        powers,
        memory: Memory::default(),
    }
}

/// The world with clocks that are each off by up to `clock_skew` from the database's, so that two are apart by twice as
/// much. It has many more states, so the worlds with more powers keep to clocks that are `clock_skew` apart.
pub(super) fn apart(world: World) -> World {
    let (replicas, skew) = (world.clocks[0].len(), world.skew);
    World { clocks: ways_to_be_off(replicas, -skew, skew), furthest: (skew, -skew), ..world }
}

/// A world in which the whole fleet restarts with another policy, at any moment.
fn redeployed(settings: &RotationSettings, next: &RotationSettings) -> World {
    let (mut world, next) = (world(2, settings, USUAL), world(2, next, USUAL));
    world.past = world.past.max(next.past);
    world.reigns.extend(next.reigns);
    world
}

/// Every way for so many clocks to be off, which is which making no difference.
fn ways_to_be_off(replicas: usize, behind: i16, ahead: i16) -> Vec<Vec<i16>> {
    let Some(others) = replicas.checked_sub(1) else { return vec![Vec::new()] };
    let ways = ways_to_be_off(others, behind, ahead).into_iter();
    ways.flat_map(|way| {
        let least = way.last().copied().unwrap_or(behind);
        (least..=ahead).map(move |clock| [way.clone(), vec![clock]].concat())
    })
    .collect()
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Explores the world to the end. A world that has become smaller than `least` states has lost something on the way.
fn holds_in(world: World, least: usize) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    if let Some((name, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}\n{:#?}\n{:#?}", path.last_state().clone(), path.into_actions());
    }
    assert!(checker.is_done(), "the world was not explored to the end");
    let states = checker.unique_state_count();
    report(states, checker.state_count());
    assert!(states >= least, "only {states} states");
}

#[expect(clippy::print_stdout, reason = "seen only with --no-capture, for the table in the module's documentation")]
fn report(states: usize, transitions: usize) {
    let test = std::thread::current();
    println!("{}: {states} states, {transitions} transitions", test.name().unwrap_or_default());
}

#[test]
fn one_replica_holds() {
    holds_in(world(1, &tightest(2, 1, 2), USUAL), 8_000);
}

#[test]
fn two_replicas_hold() {
    holds_in(apart(world(2, &tightest(2, 1, 2), USUAL)), 280_000);
}

#[test]
fn two_replicas_with_clocks_further_off_hold() {
    holds_in(world(2, &tightest(1, 2, 3), USUAL), 1_100_000);
}

#[test]
fn three_replicas_hold() {
    holds_in(world(3, &tightest(1, 0, 1), USUAL), 13_000);
}

#[test]
fn replicas_that_are_never_late_always_have_a_standby() {
    holds_in(apart(world(2, &tightest(2, 2, 3), Powers { prompt: true, ..USUAL })), 7_000);
}

#[test]
fn replicas_that_crash_hold() {
    holds_in(apart(world(2, &tightest(1, 1, 1), Powers { crashes: true, ..USUAL })), 220_000);
}

#[test]
fn clocks_that_step_hold() {
    holds_in(world(2, &tightest(1, 1, 1), Powers { steps: Some(Staleness::Monotonic), ..USUAL }), 140_000);
}

#[test]
fn a_revocation_holds() {
    holds_in(world(2, &tightest(1, 0, 1), Powers { revocations: 1, ..USUAL }), 170_000);
}

#[test]
fn revocations_of_a_fleet_that_is_never_late_hold() {
    holds_in(world(2, &tightest(1, 1, 1), Powers { prompt: true, revocations: 2, ..USUAL }), 370_000);
}

#[test]
fn a_rotation_brought_forward_holds() {
    let mut settings = tightest(1, 1, 1);
    settings.rotate = RotateEvery::Interval(settings.announce + seconds(4));
    holds_in(world(2, &settings, Powers { rotations: 1, ..USUAL }), 260_000);
}

#[test]
fn longer_caches_hold() {
    holds_in(redeployed(&tightest(1, 1, 1), &tightest(3, 1, 1)), 830_000);
}

#[test]
fn shorter_caches_hold_while_the_announcement_stays() {
    let longer = tightest(3, 1, 1);
    let shorter = RotationSettings { jwks_max_age: seconds(1), ..longer.clone() };
    holds_in(redeployed(&longer, &shorter), 410_000);
}

#[test]
fn longer_tokens_hold() {
    holds_in(redeployed(&tightest(1, 1, 1), &tightest(1, 1, 3)), 240_000);
}

#[test]
fn shorter_tokens_hold() {
    holds_in(redeployed(&tightest(1, 1, 3), &tightest(1, 1, 1)), 720_000);
}

#[test]
fn more_skew_holds() {
    holds_in(redeployed(&tightest(1, 1, 1), &tightest(1, 2, 1)), 580_000);
}

/// Rows alone cannot tell what is still cached. What is remembered beside them can, as the next test shows.
#[test]
fn shorter_caches_and_announcement_at_once_are_noticed() {
    assert!(breaks(ACCEPTED, redeployed(&tightest(6, 1, 1), &tightest(1, 1, 1))));
}

#[test]
fn shorter_caches_hold_while_the_ages_in_use_are_honoured() {
    let mut world = redeployed(&tightest(4, 1, 1), &tightest(1, 1, 1));
    world.reigns[1].policy = world.reigns[1].policy.honouring(seconds(4));
    holds_in(world, 650_000);
}
