//! What has to hold in every state.

use stateright::Property;

use super::state::{Replica, State, ticks_of};
use super::world::World;

pub(super) const ACCEPTED: &str = "I1 a token is accepted by whoever obeys max-age";
pub(super) const ANNOUNCED: &str = "I2 a key is announced before it signs";
pub(super) const AGREED: &str = "I3 replicas sign as the rows say";
pub(super) const PUBLISHED: &str = "I4 a set has no revoked key, no key twice and not too many";
pub(super) const REVOKED: &str = "I5 a revoked key is out of reachable replicas";
pub(super) const STANDBY: &str = "I6 there is a standby";
pub(super) const PURE: &str = "I7 rows and an instant decide, and a second plan finds nothing";

pub(super) fn all() -> Vec<Property<World>> {
    vec![
        Property::always(ACCEPTED, accepted),
        Property::always(ANNOUNCED, announced),
        Property::always(AGREED, agreed),
        Property::always(PUBLISHED, published),
        Property::always(REVOKED, revoked),
        Property::always(STANDBY, standby),
        Property::always(PURE, pure),
    ]
}

/// Every set that may be in use somewhere has every key of which a token may be live, unless the operator revoked the
/// key, or was told that verifiers may stumble over it.
fn accepted(_: &World, state: &State) -> bool {
    state.watches.iter().all(|key| {
        let excused = key.withdrawn.is_some() || key.stumbles > 0;
        excused || key.alive == 0 || key.lacked == 0
    })
}

/// A key signs when `announce` has passed by the clock of the signer, and is then in every set that is answered.
fn announced(world: &World, state: &State) -> bool {
    let announce = world.reigns.iter().map(|reign| ticks_of(reign.policy.announce())).min().unwrap_or(0);
    let is_excused = |serial| {
        let watch = state.watch(serial);
        watch.unannounced || watch.withdrawn.is_some()
    };
    state.replicas.iter().all(|signer| match world.signer(state, signer) {
        None => true,
        Some(serial) if is_excused(serial) => true,
        Some(serial) => {
            let row = signer.rows.iter().find(|row| row.serial == serial).expect("it signs");
            let is_published =
                |replica| world.published(state, replica).is_none_or(|answers| answers.published.contains(&serial));
            signer.clock >= row.publish_at + announce && state.replicas.iter().all(is_published)
        }
    })
}

/// A replica signs with the key that the database's rows give its clock, however old its own are, and the database has
/// not destroyed the private half yet. Only in an emergency some have yet to hear of it.
fn agreed(world: &World, state: &State) -> bool {
    state.replicas.iter().all(|replica| match world.signer(state, replica) {
        Some(serial) if state.emergency == 0 => {
            let now = world.answers(state, &state.rows, replica.clock);
            now.signer == Some(serial) && now.signer_has_private
        }
        _ => true,
    })
}

fn published(world: &World, state: &State) -> bool {
    let is_undisturbed = world.reigns.len() == 1 && state.revocations + state.rotations == 0;
    let bound = world.reign(state).policy.max_published_keys();
    state.replicas.iter().all(|replica| {
        world.published(state, replica).is_none_or(|answers| {
            let mut keys = answers.published.clone();
            keys.sort_unstable();
            keys.dedup();
            let revoked = |serial| replica.rows.iter().any(|row| row.serial == serial && row.revoked_at.is_some());
            keys.len() == answers.published.len()
                && (keys.len() <= bound || !is_undisturbed)
                && !keys.into_iter().any(revoked)
        })
    })
}

/// Whoever has read the rows within `replica_convergence` neither signs with it nor publishes it, whatever the clocks.
fn revoked(world: &World, state: &State) -> bool {
    let convergence = ticks_of(world.reign(state).policy.replica_convergence());
    let uses = |replica: &Replica, serial| {
        world.signer(state, replica) == Some(serial)
            || world.published(state, replica).is_some_and(|answers| answers.published.contains(&serial))
    };
    state.rows.iter().zip(&state.watches).all(|(row, watch)| {
        let known = watch.withdrawn.is_some_and(|ago| ago > convergence);
        !known || state.replicas.iter().all(|replica| replica.age > convergence || !uses(replica, row.serial))
    })
}

/// Checked where reads and plans are never late, and not while a rotation is under way: until every clock shows it and
/// every replica has read what follows it.
fn standby(world: &World, state: &State) -> bool {
    let policy = &world.reign(state).policy;
    let under_way = ticks_of(policy.replica_convergence() + policy.clock_skew());
    let is_settled = |replica: &Replica, signer| {
        let row = replica.rows.iter().find(|row| Some(row.serial) == signer);
        row.is_some_and(|row| replica.clock >= row.sign_from + under_way)
    };
    !world.powers.prompt
        || state.emergency > 0
        || state.replicas.iter().all(|replica| match world.published(state, replica) {
            Some(answers) if is_settled(replica, answers.signer) => answers.standby,
            _ => true,
        })
}

fn pure(world: &World, state: &State) -> bool {
    state.replicas.iter().all(|replica| {
        let said = |rows| world.answers(state, rows, replica.clock).steady;
        said(&state.rows) && said(&replica.rows)
    })
}
