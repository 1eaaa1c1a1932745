//! Everything that may happen, in any order.

use std::sync::Arc;

use stateright::{Model, Property};

use super::answers::{ALG, Answers, Memory, stored};
use super::invariants;
use super::state::{Replica, Row, Rows, State, Watch, instant, keyring, serial, ticks, ticks_of};
use crate::acts::How;
use crate::plan::Step;
use crate::policy::RotationPolicy;

/// One configuration: what the replicas go by, and what is true whatever they believe.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) policy: RotationPolicy,
    /// How long a set may be in use after it was served: in a shared cache, then at a verifier.
    pub(super) cached: i16,
    /// The lifetime of every token.
    pub(super) ttl: i16,
    /// A replica signs while its last read is younger.
    pub(super) signs_for: i16,
    /// A replica answers with its set while its last read is younger.
    pub(super) serves_for: i16,
}

/// What may happen besides reading, planning and the passing of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Powers {
    /// A replica goes down, and starts again whenever.
    pub(super) crashes: bool,
    /// Reads and plans are never late: nobody is cut off, and what is due is stored before time passes.
    pub(super) prompt: bool,
    /// A clock steps, as far as clocks may be off.
    pub(super) steps: Option<Staleness>,
    /// An operator revokes keys so many times, by the clock of any replica.
    pub(super) revocations: u8,
    /// An operator asks for a rotation that breaks nothing so many times, by the clock of any replica.
    pub(super) rotations: u8,
    /// So many ticks go by, at most, from when a replica reads the rows to when it has stored what it planned on them.
    pub(super) late: i16,
}

/// How a replica measures the time since its last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staleness {
    Monotonic,
    WallClock,
}

#[derive(Debug)]
pub(super) struct World {
    /// One after another, if there are several.
    pub(super) reigns: Vec<Reign>,
    /// What the replicas' clocks are off by, in each of the ways the world may begin.
    pub(super) clocks: Vec<Vec<i16>>,
    /// The furthest any clock is ahead and behind.
    pub(super) furthest: (i16, i16),
    /// The skew that is assumed of verifiers: they lag the furthest clock by twice as much, and are lenient by once.
    pub(super) skew: i16,
    pub(super) powers: Powers,
    /// No date further back is told apart from others.
    pub(super) past: i16,
    pub(super) memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A tick of true time.
    Pass,
    /// A replica reads the rows: it polled, or was notified, or starts.
    Read(usize),
    /// What a replica planned so many ticks ago, on the rows it holds, which may be old by now, is stored.
    Plan(usize, i16),
    Crash(usize),
    /// A replica's clock now shows so much more than the true time.
    Step(usize, i16),
    /// An operator revokes a key, by this replica's clock.
    Revoke(usize, i16),
    /// An operator asks for a safe rotation, by this replica's clock so many ticks ago.
    Rotate(usize, i16),
    /// The whole fleet stops, and starts under the next policy.
    Redeploy,
}

impl World {
    pub(super) fn reign(&self, state: &State) -> &Reign {
        &self.reigns[state.reign]
    }

    /// The age of a read from which on a replica is silent.
    pub(super) fn silent(&self) -> i16 {
        self.reigns.iter().map(|reign| reign.signs_for.max(reign.serves_for)).max().expect("there is a first")
    }

    pub(super) fn answers(&self, state: &State, rows: &Rows, clock: i16) -> Arc<Answers> {
        self.memory.answers(&self.reign(state).policy, state.reign, rows, clock)
    }

    pub(super) fn signer(&self, state: &State, replica: &Replica) -> Option<i16> {
        let signs = replica.age < self.reign(state).signs_for;
        signs.then(|| self.answers(state, &replica.rows, replica.clock).signer).flatten()
    }

    pub(super) fn published(&self, state: &State, replica: &Replica) -> Option<Arc<Answers>> {
        let serves = !replica.is_silent() && replica.age < self.reign(state).serves_for;
        serves.then(|| self.answers(state, &replica.rows, replica.clock))
    }

    fn read(&self, state: &mut State, index: usize) {
        let clock = state.replicas[index].clock;
        // A replica that starts keeps old promises under the new policy before it serves.
        while state.replicas[index].is_silent() {
            let answers = self.answers(state, &state.rows, clock);
            if !state.rows.is_empty() && !answers.has_promises_due() {
                break;
            }
            self.store(state, &Arc::clone(&state.rows), &answers.due);
        }
        state.replicas[index].rows = Arc::clone(&state.rows);
        state.replicas[index].age = 0;
    }

    /// Stores what was planned from `seen`.
    fn store(&self, state: &mut State, seen: &Rows, steps: &[Step]) {
        let (rows, effective) = stored(&state.rows, seen, steps);
        let is_first = state.rows.is_empty();
        let announced = self.reign(state).policy.announce() + self.reign(state).policy.clock_skew();
        state.watches.resize(rows.len(), Watch { lacked: state.served, ..Watch::default() });
        state.rows = rows;
        for step in effective {
            if matches!(step, Step::Postpone { .. }) {
                self.alarm(state);
            }
            let unannounced = match step {
                Step::Create { serial, publish_at, sign_from, .. } if sign_from <= publish_at => {
                    i16::try_from(*serial).ok()
                }
                Step::BringForward { kid, .. } => Some(serial(kid)),
                _ => None,
            };
            let Some(serial) = unannounced else { continue };
            state.watch_mut(serial).unannounced = true;
            if !is_first {
                state.watch_mut(serial).stumbles = ticks_of(announced);
                self.alarm(state);
            }
        }
    }

    fn alarm(&self, state: &mut State) {
        state.emergency = self.silent() + 1;
    }

    fn revoke(&self, state: &mut State, clock: i16, victim: i16) {
        let ring = keyring(&state.rows);
        let policy = &self.reign(state).policy;
        let Ok(revocation) = ring.revoke(&victim.to_string(), policy, instant(clock)) else { return };
        let until = revocation.may_stumble.map_or(0, |stumble| ticks(stumble.until) - clock + self.skew);
        self.store(state, &Arc::clone(&state.rows), &revocation.steps);
        state.revocations += 1;
        state.watch_mut(victim).withdrawn = Some(0);
        for step in &revocation.steps {
            if let Step::BringForward { kid, .. } = step {
                state.watch_mut(serial(kid)).stumbles = until;
            }
        }
        self.alarm(state);
    }

    fn rotate(&self, state: &mut State, clock: i16) {
        let ring = keyring(&state.rows);
        if let Ok(brought) = ring.bring_forward(ALG, &self.reign(state).policy, instant(clock), How::Safe) {
            let (rows, _) = stored(&state.rows, &state.rows, &brought.steps);
            state.rows = rows;
            state.rotations += 1;
        }
    }

    /// Every replica that can signs a token and answers a verifier, at this instant.
    fn observe(&self, state: &mut State) {
        let reign = self.reign(state);
        // A tick has a length: what is served late in this one is still in use early in the last of them.
        let in_use = reign.cached + 1;
        for replica in state.replicas.clone() {
            if let Some(answers) = self.published(state, &replica) {
                state.served = state.served.max(in_use);
                for (row, watch) in state.rows.iter().zip(&mut state.watches) {
                    if !answers.published.contains(&row.serial) {
                        watch.lacked = watch.lacked.max(in_use);
                    }
                }
            }
            if let Some(serial) = self.signer(state, &replica) {
                let accepted_for = replica.clock + reign.ttl + 3 * self.skew - self.furthest.0;
                let watch = state.watch_mut(serial);
                watch.alive = watch.alive.max(accepted_for);
            }
        }
    }

    /// Whether what is due is done, and nobody is about to be cut off.
    pub(super) fn is_at_rest(&self, state: &State) -> bool {
        let convergence = ticks_of(self.reign(state).policy.replica_convergence());
        state.replicas.iter().all(|replica| {
            let due = &self.answers(state, &replica.rows, replica.clock).due;
            replica.age < convergence && (replica.rows != state.rows || due.is_empty())
        })
    }

    /// Brings a state into the one form that all states like it have.
    fn settle(&self, state: &mut State) {
        let earliest_clock = self.furthest.1;
        let out: Vec<_> = state.copies().map(|rows| self.answers(state, rows, earliest_clock)).collect();
        for (row, watch) in state.rows.iter().zip(&mut state.watches) {
            let is_out = |answers: &Arc<Answers>| answers.knows_nothing || answers.out.contains(&row.serial);
            if watch.withdrawn.is_some() {
                (watch.alive, watch.lacked) = (0, 0);
            }
            if watch.alive == 0 && out.iter().all(is_out) {
                *watch = Watch { withdrawn: watch.withdrawn, ..Watch::default() };
            }
        }
        let is_alive = state.watches.first().is_none_or(|oldest| oldest.alive > 0);
        if !is_alive && out.iter().all(|answers| answers.knows_nothing || answers.oldest_is_spent) {
            state.forget_oldest();
        }
        state.replicas.sort_unstable();
    }

    /// The keys an operator could want to revoke: one at a time.
    fn revocable(&self, state: &State, clock: i16) -> Vec<i16> {
        let revoked = |row: &Row| row.revoked_at.is_some();
        if state.revocations == self.powers.revocations || state.emergency > 0 || state.rows.iter().any(revoked) {
            return Vec::new();
        }
        let answers = self.answers(state, &state.rows, clock);
        answers.published.iter().copied().filter(|&serial| Some(serial) >= answers.signer).collect()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let begin = |clocks: &Vec<i16>| State {
            reign: 0,
            rows: Rows::default(),
            watches: Vec::new(),
            replicas: clocks.iter().map(|&clock| Replica::down(clock, self.silent())).collect(),
            served: 0,
            emergency: 0,
            revocations: 0,
            rotations: 0,
        };
        self.clocks.iter().map(begin).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let powers = &self.powers;
        if !powers.prompt || self.is_at_rest(state) {
            actions.push(Action::Pass);
        }
        for (index, replica) in state.replicas.iter().enumerate() {
            if index > 0 && *replica == state.replicas[index - 1] {
                continue;
            }
            if replica.age > 0 || replica.rows != state.rows {
                actions.push(Action::Read(index));
            }
            let is_due = !replica.is_silent() && !self.answers(state, &replica.rows, replica.clock).due.is_empty();
            if is_due && replica.age <= powers.late {
                actions.extend((0..=replica.age.max(0)).map(|ago| Action::Plan(index, ago)));
            }
            if powers.crashes && !replica.is_silent() {
                actions.push(Action::Crash(index));
            }
            if powers.steps.is_some() {
                let range = self.furthest.1..=self.furthest.0;
                actions.extend(range.filter(|&to| to != replica.clock).map(|to| Action::Step(index, to)));
            }
            if !state.rows.is_empty() {
                let victims = self.revocable(state, replica.clock);
                actions.extend(victims.into_iter().map(|serial| Action::Revoke(index, serial)));
                if state.rotations < powers.rotations {
                    actions.extend((0..=powers.late).map(|ago| Action::Rotate(index, ago)));
                }
            }
        }
        if state.reign + 1 < self.reigns.len() && !state.rows.is_empty() {
            actions.push(Action::Redeploy);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass => state.pass(self.past, self.silent()),
            Action::Read(index) => self.read(&mut state, index),
            Action::Plan(index, ago) => {
                let Replica { rows, clock, .. } = &last.replicas[index];
                self.store(&mut state, rows, &self.answers(last, rows, clock - ago).due);
            }
            Action::Crash(index) => state.replicas[index] = Replica::down(last.replicas[index].clock, self.silent()),
            Action::Step(index, to) => {
                let replica = &mut state.replicas[index];
                if self.powers.steps == Some(Staleness::WallClock) && !replica.is_silent() {
                    replica.age += to - replica.clock;
                }
                replica.clock = to;
            }
            Action::Revoke(index, serial) => self.revoke(&mut state, last.replicas[index].clock, serial),
            Action::Rotate(index, ago) => self.rotate(&mut state, last.replicas[index].clock - ago),
            Action::Redeploy => {
                state.reign += 1;
                state.replicas.iter_mut().for_each(|one| *one = Replica::down(one.clock, self.silent()));
            }
        }
        self.observe(&mut state);
        self.settle(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::all()
    }
}
