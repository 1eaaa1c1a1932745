//! Each inequality weakened by no more than one term or one tick, which the search has to notice: whoever accepts
//! everything would be found out.

use stateright::{Checker, HasDiscoveries, Model};

use super::invariants::{ACCEPTED, AGREED};
use super::state::ticks_of;
use super::world::{Powers, Staleness, World};
use super::worlds::{USUAL, apart, seconds, tightest, world};
use crate::policy::{RotationPolicy, RotationSettings};

/// Whether the search finds a state of this world in which the invariant does not hold.
pub(super) fn breaks(invariant: &'static str, world: World) -> bool {
    let wanted = HasDiscoveries::AnyOf([invariant].into());
    let checker = world.checker().threads(2).finish_when(wanted).spawn_bfs().join();
    checker.discovery(invariant).is_some()
}

/// The world of `settings`, in which the replicas go by a policy that is weaker.
fn weakened(settings: &RotationSettings, weaken: impl Fn(&mut RotationSettings)) -> World {
    let mut weaker = settings.clone();
    weaken(&mut weaker);
    let policy = RotationPolicy::unsafe_for_tests(weaker);
    let mut world = apart(world(2, settings, USUAL));
    let reign = &mut world.reigns[0];
    (reign.signs_for, reign.serves_for) = (ticks_of(policy.max_staleness()), ticks_of(policy.jwks_staleness_bound()));
    reign.policy = policy;
    world
}

/// Everything else follows from the shorter announcement, as it would in an issuer.
fn announced_for_less(settings: &RotationSettings, less: u64) -> World {
    weakened(settings, |policy| {
        policy.announce -= seconds(less);
        policy.max_staleness = None;
    })
}

#[test]
fn announcing_without_the_shared_cache_is_noticed() {
    let settings = tightest(2, 1, 2);
    let shared = settings.jwks_shared_max_age.expect("it is set").as_secs();

    assert!(breaks(ACCEPTED, announced_for_less(&settings, shared)));
}

#[test]
fn announcing_without_convergence_is_noticed() {
    assert!(breaks(ACCEPTED, announced_for_less(&tightest(2, 1, 2), 2)));
}

#[test]
fn announcing_without_skew_is_noticed() {
    assert!(breaks(ACCEPTED, announced_for_less(&tightest(2, 1, 2), 1)));
}

/// The retention is then `ttl + 2 × clock_skew`.
#[test]
fn removing_keys_with_twice_the_skew_is_noticed() {
    let world = weakened(&tightest(1, 2, 3), |policy| policy.max_token_ttl -= policy.clock_skew);

    assert!(breaks(ACCEPTED, world));
}

#[test]
fn signing_for_as_long_as_a_key_is_announced_is_noticed() {
    let world = weakened(&tightest(2, 1, 2), |policy| policy.max_staleness = Some(policy.announce));

    assert!(breaks(AGREED, world));
}

#[test]
fn answering_for_longer_than_the_rows_are_good_for_is_noticed() {
    let mut world = apart(world(2, &tightest(2, 1, 2), USUAL));
    world.reigns[0].serves_for += 1;

    assert!(breaks(ACCEPTED, world));
}

#[test]
fn measuring_staleness_by_a_clock_that_steps_is_noticed() {
    let steps = Some(Staleness::WallClock);

    assert!(breaks(ACCEPTED, apart(world(2, &tightest(2, 1, 2), Powers { steps, ..USUAL }))));
}

#[test]
fn storing_a_plan_later_than_a_poll_is_noticed() {
    assert!(breaks(ACCEPTED, apart(world(2, &tightest(2, 1, 2), Powers { late: 2, ..USUAL }))));
}
