//! Random histories of whole fleets, judged by verifiers that obey `max-age` and never fetch again on an unknown `kid`.
//!
//! A history is made first: replicas with skewed and stepping clocks see the rows late, tick late, twice or not at all,
//! are cut off, restarted, or all down; policies change; operators act. Then tokens are signed at the edges of every
//! rotation, and for each one every set that a verifier could hold, at birth and until the last instant it would accept
//! the token, must have its key. True time is only known here: the replicas see their own clocks.
//!
//! The tests at the end weaken one inequality at a time and expect the judge to notice, so a judge that accepts
//! everything would be found out.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};

use crate::acts::How;
use crate::plan::Step;
use crate::policy::{RotateEvery, RotationPolicy, RotationSettings};
use crate::ring::testing::jwk;
use crate::ring::{KeyRecord, Keyring, Phase};

const START: i64 = 1_795_330_800; // 2026-11-22T07:00:00Z

/// An inequality to break, each in the one place where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    None,
    AnnounceWithoutMaxAge,
    AnnounceWithoutSharedMaxAge,
    AnnounceWithoutConvergence,
    AnnounceWithoutSkew,
    RetentionWithoutTtl,
    RetentionWithoutSkew,
    RetentionWithTwiceTheSkew,
    UnboundedSigning,
    UnboundedServing,
}

/// SplitMix64: reproducible from the seed a failure names.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).max(1) as u64) as i64
    }

    /// The ends are where inequalities break, so they come up often.
    fn extreme(&mut self, low: i64, high: i64) -> i64 {
        match self.between(0, 2) {
            0 => low,
            1 => high,
            _ => self.between(low, high),
        }
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.between(1, 100) <= percent
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("a policy's durations are at most ten years")
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).expect("no negative durations are drawn"))
}

/// What holds in truth while one configuration is in force; `policy` is what the replicas believe.
struct Reign {
    from: i64,
    policy: RotationPolicy,
    skew: i64,
    convergence: i64,
    cached_at_most: i64,
    ttl: i64,
    sign_staleness: i64,
    serve_staleness: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    CutOff,
    Down,
}

struct Replica {
    /// State from an instant of true time on.
    states: Vec<(i64, State)>,
    /// Clock error from an instant of true time on.
    clock: Vec<(i64, i64)>,
    /// When it sees each version of the rows, if connected.
    sees: Vec<i64>,
}

struct History {
    dice: Dice,
    weakness: Weakness,
    /// All clocks of the fleet stay within this of each other, whatever the policies allow.
    true_skew: i64,
    reigns: Vec<Reign>,
    replicas: Vec<Replica>,
    /// The rows from an instant of true time on.
    versions: Vec<(i64, Keyring)>,
    algorithms: Vec<Algorithm>,
    revoked: BTreeMap<String, i64>,
    /// Keys that an emergency or an impatient operator let sign early, and until when verifiers may stumble over them.
    stumbles: BTreeMap<String, i64>,
    acted: bool,
    disturbed: bool,
    rotations: usize,
    checks: usize,
}

#[derive(Debug, Default)]
struct Tally {
    rotations: usize,
    checks: usize,
}

/// Settings of one of three sizes: seconds, minutes, days. Sets may be `cached` from before for so long.
fn draw_settings(dice: &mut Dice, weakness: Weakness, cached: i64) -> RotationSettings {
    let (age, shared, skew, poll, spare, gap, ttl) = match dice.between(0, 2) {
        0 => (10, 5, 4, 2, 10, 20, 30),
        1 => (600, 120, 60, 30, 900, 3_600, 7_200),
        _ => (7_200, 600, 120, 60, 86_400, 30 * 86_400, 2 * 86_400),
    };
    let jwks_max_age = dice.between(1, age);
    let jwks_shared_max_age = dice.chance(60).then(|| dice.between(0, shared));
    // Three divides it, so that two thirds of it are whole seconds.
    let clock_skew = 3 * dice.between(0, skew / 3 + 1);
    let poll = dice.between(1, poll);
    let age = jwks_max_age + jwks_shared_max_age.unwrap_or((jwks_max_age / 10).max(1));
    let least = age.max(cached) + 2 * poll + clock_skew;
    let announce = least + if dice.chance(60) { 0 } else { dice.between(0, spare) };
    let interval = announce + clock_skew + if dice.chance(40) { 0 } else { dice.between(0, gap) };
    let max_staleness = match dice.between(0, 3) {
        0 => Some(2 * poll),
        1 => Some(announce - clock_skew),
        _ => None,
    };
    let mut settings = RotationSettings {
        rotate: RotateEvery::Interval(duration(interval)),
        announce: duration(announce),
        jwks_max_age: duration(jwks_max_age),
        jwks_shared_max_age: jwks_shared_max_age.map(duration),
        clock_skew: duration(clock_skew),
        poll: duration(poll),
        max_staleness: max_staleness.map(duration),
        max_token_ttl: duration(dice.between(1, ttl.min(4 * interval))),
    };
    if weakness == Weakness::None && dice.chance(15) {
        let expressions =
            [(30, "*/30 * * * * *"), (300, "0 */5 * * * *"), (10_800, "0 0 1-22/3 * * *"), (604_800, "0 0 3 * * Sun")];
        if let Some((_, text)) = expressions.iter().find(|(gap, _)| *gap >= announce + clock_skew) {
            settings.rotate = RotateEvery::Cron((*text).to_owned());
        }
    }
    settings
}

fn draw_reign(dice: &mut Dice, weakness: Weakness, cached: i64, from: i64) -> Reign {
    let settings = draw_settings(dice, weakness, cached);
    let sound = RotationPolicy::new(settings.clone()).expect("the drawn settings keep the inequalities");
    let mut reign = Reign {
        from,
        skew: seconds(sound.clock_skew()),
        convergence: seconds(sound.replica_convergence()),
        cached_at_most: seconds(sound.jwks_max_age() + sound.jwks_shared_max_age()),
        ttl: seconds(sound.max_token_ttl()),
        sign_staleness: seconds(sound.max_staleness()),
        serve_staleness: seconds(sound.jwks_staleness_bound()),
        policy: sound.clone(),
    };
    let announce_without = |part: Duration| RotationSettings { announce: settings.announce - part, ..settings.clone() };
    let weakened = match weakness {
        Weakness::None => return reign,
        Weakness::AnnounceWithoutMaxAge => announce_without(sound.jwks_max_age()),
        Weakness::AnnounceWithoutSharedMaxAge => announce_without(sound.jwks_shared_max_age()),
        Weakness::AnnounceWithoutConvergence => announce_without(sound.replica_convergence()),
        Weakness::AnnounceWithoutSkew => announce_without(sound.clock_skew()),
        Weakness::RetentionWithoutTtl => RotationSettings { max_token_ttl: Duration::ZERO, ..settings },
        Weakness::RetentionWithoutSkew => RotationSettings { clock_skew: Duration::ZERO, ..settings },
        Weakness::RetentionWithTwiceTheSkew => RotationSettings { clock_skew: settings.clock_skew * 2 / 3, ..settings },
        Weakness::UnboundedSigning => {
            reign.sign_staleness = i64::MAX;
            return reign;
        }
        Weakness::UnboundedServing => {
            reign.serve_staleness = i64::MAX;
            return reign;
        }
    };
    reign.policy = RotationPolicy::unsafe_for_tests(weakened);
    reign
}

impl Replica {
    fn state(&self, at: i64) -> (i64, State) {
        let index = self.states.partition_point(|(from, _)| *from <= at);
        index.checked_sub(1).map_or((i64::MIN, State::Down), |index| self.states[index])
    }

    fn time(&self, at: i64) -> Timestamp {
        let index = self.clock.partition_point(|(from, _)| *from <= at).max(1) - 1;
        Timestamp::from_unix(at + self.clock[index].1)
    }

    /// From `at` on; what was to come is forgotten.
    fn enter(&mut self, at: i64, state: State) {
        self.states.retain(|(from, _)| *from < at);
        self.states.push((at, state));
    }
}

impl History {
    fn new(seed: u64, weakness: Weakness) -> Self {
        let mut dice = Dice(seed);
        let mut reigns = vec![draw_reign(&mut dice, weakness, 0, START)];
        // Where and when later policies hold is decided while the history runs; how bad clocks are is decided now.
        for _ in 0..if weakness == Weakness::None { dice.between(0, 2) } else { 0 } {
            let cached = reigns.iter().map(|reign| reign.cached_at_most).max().unwrap_or(0);
            reigns.push(draw_reign(&mut dice, weakness, cached, i64::MAX));
        }
        let true_skew = reigns.iter().map(|reign| reign.skew).min().expect("there is a first");
        let algorithms =
            if dice.chance(30) { vec![Algorithm::ES256, Algorithm::RS256] } else { vec![Algorithm::ES256] };
        let mut history = Self {
            dice,
            weakness,
            true_skew,
            reigns,
            replicas: Vec::new(),
            versions: vec![(START, Keyring::default())],
            algorithms,
            revoked: BTreeMap::new(),
            stumbles: BTreeMap::new(),
            acted: false,
            disturbed: false,
            rotations: 0,
            checks: 0,
        };
        for _ in 0..history.dice.between(1, 4) {
            let error = history.draw_clock_error();
            history.replicas.push(Replica {
                states: vec![(START, State::Up)],
                clock: vec![(START, error)],
                sees: vec![START],
            });
        }
        history
    }

    fn draw_clock_error(&mut self) -> i64 {
        self.dice.extreme(-self.true_skew, self.true_skew)
    }

    fn reign(&self, at: i64) -> &Reign {
        self.reigns.iter().rev().find(|reign| reign.from <= at).unwrap_or(&self.reigns[0])
    }

    /// The rows a running replica goes by at `at`, and how long ago it began to read them.
    fn view(&self, replica: usize, at: i64) -> Option<(&Keyring, i64)> {
        let replica = &self.replicas[replica];
        let (since, state) = replica.state(at);
        let seen = |started: i64, at: i64| {
            let written = self.versions.partition_point(|(written, _)| *written <= at);
            (0..written).rev().find(|&version| self.versions[version].0 <= started || replica.sees[version] <= at)
        };
        match state {
            State::Down => None,
            State::Up => seen(since, at).map(|version| (&self.versions[version].1, 0)),
            State::CutOff => {
                let (started, _) = replica.state(since - 1);
                let version = seen(started, since)?;
                let first_unseen = self.versions.get(version + 1).map_or(i64::MAX, |(at, _)| *at);
                let last_read = since.min(first_unseen - 1);
                Some((&self.versions[version].1, at - last_read))
            }
        }
    }

    fn newest(&self) -> &Keyring {
        &self.versions.last().expect("there is a first").1
    }

    fn signer(&self, replica: usize, alg: Algorithm, at: i64) -> Option<&KeyRecord> {
        let (keyring, staleness) = self.view(replica, at)?;
        let fresh = staleness <= self.reign(at).sign_staleness;
        keyring.signer(alg, self.replicas[replica].time(at)).filter(|_| fresh)
    }

    /// Whether the set this replica answers with at `at` has the key; `None` where it does not answer.
    fn serves(&self, replica: usize, kid: &str, at: i64) -> Option<bool> {
        let (keyring, staleness) = self.view(replica, at)?;
        let fresh = staleness < self.reign(at).serve_staleness;
        let now = self.replicas[replica].time(at);
        fresh.then(|| keyring.key(kid).is_some_and(|key| keyring.is_published(key, now)))
    }

    /// Plans on what the replica knows and writes what the database lets it.
    fn tick(&mut self, replica: usize, at: i64) -> Result<(), String> {
        let Some((view, 0)) = self.view(replica, at) else {
            self.disturbed = true;
            return Ok(());
        };
        let knows_all = std::ptr::eq(view, self.newest());
        let view = view.clone();
        let now = self.replicas[replica].time(at);
        let steps = view.plan(&self.reign(at).policy, &self.algorithms, now);
        self.write(&view, &steps, Some(replica), at, now);
        if knows_all {
            let again = self.newest().plan(&self.reign(at).policy, &self.algorithms, now);
            if !again.is_empty() {
                return Err(format!("planning twice at {now} gives {again:?} after {steps:?}"));
            }
        }
        Ok(())
    }

    /// The database's rules: `(alg, serial)` is unique, and a row changes only if it still is what the writer saw.
    fn write(&mut self, view: &Keyring, steps: &[Step], writer: Option<usize>, at: i64, now: Timestamp) {
        let mut rows = self.newest().keys().to_vec();
        let mut changed = false;
        for step in steps {
            if let Step::Create { alg, serial, publish_at, sign_from, max_ttl, clock_skew, .. } = step {
                if rows.iter().any(|row| (row.alg, row.serial) == (*alg, *serial)) {
                    continue;
                }
                let kid = format!("{alg}-{serial}");
                if *publish_at == *sign_from && !view.keys().is_empty() {
                    self.stumbles.insert(kid.clone(), at + 2 * seconds(self.reign(at).policy.announce()));
                }
                rows.push(KeyRecord {
                    kid,
                    alg: *alg,
                    serial: *serial,
                    jwk: jwk(),
                    created_at: now,
                    publish_at: *publish_at,
                    sign_from: *sign_from,
                    max_ttl: *max_ttl,
                    clock_skew: *clock_skew,
                    revoked_at: None,
                    has_private: true,
                });
                changed = true;
                continue;
            }
            let kid = step.kid().expect("every other step names its key");
            let Some(index) = rows.iter().position(|row| row.kid == kid) else { continue };
            if !view.key(kid).is_some_and(|seen| step.still_applies(seen, &rows[index])) {
                continue;
            }
            changed = true;
            if matches!(step, Step::BringForward { .. }) && writer.is_some() {
                self.stumbles.insert(kid.to_owned(), at + 2 * seconds(self.reign(at).policy.announce()));
            }
            if matches!(step, Step::Delete { .. }) {
                rows.remove(index);
            } else {
                rows[index].take(step);
            }
        }
        if !changed {
            return;
        }
        self.versions.push((at, Keyring::new(rows)));
        for index in 0..self.replicas.len() {
            let late = self.dice.extreme(0, self.reign(at).convergence);
            let late = if writer == Some(index) { 0 } else { late };
            self.replicas[index].sees.push(at + late);
        }
    }

    /// Lets `rounds` rotations of each reign go by.
    fn run(&mut self, rounds: usize) -> Result<(), String> {
        let mut at = START;
        for replica in 0..self.replicas.len() {
            self.tick(replica, at)?;
        }
        for reign in 0..self.reigns.len() {
            if reign > 0 {
                at = self.restart_fleet(at, reign)?;
            }
            for _ in 0..rounds * 6 {
                at = self.next_tick(at);
                self.disturb(at)?;
                let replica = self.dice.between(0, self.replicas.len() as i64 - 1) as usize;
                self.tick(replica, at)?;
                if self.dice.chance(20) {
                    let other = self.dice.between(0, self.replicas.len() as i64 - 1) as usize;
                    self.tick(other, at)?;
                    self.tick(other, at)?;
                }
            }
        }
        Ok(())
    }

    /// The next instant at which the rows could need something, give or take, or much later.
    fn next_tick(&mut self, at: i64) -> i64 {
        let policy = &self.reign(at).policy;
        let ahead = seconds(policy.prepare_ahead());
        let gap = seconds(policy.slots().smallest_gap()).min(40 * 86_400);
        let keyring = self.newest();
        let mut due: Vec<i64> = Vec::new();
        for key in keyring.keys() {
            due.extend([key.sign_from.as_unix() - ahead, key.publish_at.as_unix(), key.sign_from.as_unix()]);
            due.extend(keyring.superseded_at(key).map(|at| (at + key.clock_skew).as_unix()));
            due.extend(keyring.remove_at(key).map(Timestamp::as_unix));
        }
        let next = due.into_iter().filter(|&due| due > at).min().unwrap_or(at + gap);
        let missed = self.dice.chance(8);
        self.disturbed |= missed;
        let late = if missed { self.dice.between(0, 2 * gap) } else { self.dice.between(0, ahead / 4) };
        next + late
    }

    fn disturb(&mut self, at: i64) -> Result<(), String> {
        let (gap, announce) = {
            let policy = &self.reign(at).policy;
            (seconds(policy.slots().smallest_gap()).min(40 * 86_400), seconds(policy.announce()))
        };
        let count = self.replicas.len() as i64;
        let chosen = self.dice.between(0, count - 1) as usize;
        match self.dice.between(1, 100) {
            1..=3 => {
                self.disturbed = true;
                let until = at + self.dice.between(1, 3 * gap);
                for replica in &mut self.replicas {
                    replica.enter(at, State::Down);
                    replica.enter(until, State::Up);
                }
            }
            4..=9 => {
                let until = at + self.dice.between(1, 2 * announce + gap);
                let was_up = self.replicas[chosen].state(at).1 == State::Up && self.replicas[chosen].state(at).0 < at;
                if was_up {
                    self.replicas[chosen].enter(at, State::CutOff);
                    self.replicas[chosen].enter(until, State::Up);
                }
            }
            10..=12 if count > 1 => {
                let until = at + self.dice.between(1, gap);
                self.replicas[chosen].enter(at, State::Down);
                self.replicas[chosen].enter(until, State::Up);
            }
            13..=18 => {
                let error = self.draw_clock_error();
                self.replicas[chosen].clock.push((at, error));
            }
            19..=22 if self.weakness == Weakness::None => self.act(at, chosen)?,
            23 if self.algorithms.len() == 1 && self.weakness == Weakness::None => {
                self.algorithms.push(Algorithm::EdDSA);
            }
            _ => {}
        }
        Ok(())
    }

    /// An operator's command, which reads the database itself.
    fn act(&mut self, at: i64, replica: usize) -> Result<(), String> {
        let now = self.replicas[replica].time(at);
        let keyring = self.newest().clone();
        let alg = self.algorithms[0];
        let policy = self.reign(at).policy.clone();
        self.acted = true;
        let steps = match self.dice.between(0, 5) {
            0 | 1 => {
                let keys = keyring.ring(alg);
                let victim = if self.dice.chance(70) {
                    keyring.signer(alg, now).map(|key| key.kid.clone())
                } else {
                    let index = self.dice.between(0, keys.len() as i64 - 1) as usize;
                    keys.get(index).map(|key| key.kid.clone())
                };
                let Some(revocation) = victim.and_then(|kid| keyring.revoke(&kid, &policy, now).ok()) else {
                    return Ok(());
                };
                if let Some(stumble) = revocation.may_stumble {
                    for step in &revocation.steps {
                        if let Step::BringForward { kid, .. } = step {
                            self.stumbles.insert(kid.clone(), stumble.until.as_unix() + 2 * self.true_skew);
                        }
                    }
                }
                revocation.steps
            }
            2..=4 => match keyring.bring_forward(alg, &policy, now, How::Safe) {
                Ok(brought) if brought.may_stumble.is_some() => return Err("a safe rotation may stumble".to_owned()),
                Ok(brought) => brought.steps,
                Err(_) => return Ok(()),
            },
            _ => match keyring.bring_forward(alg, &policy, now, How::Now) {
                Ok(brought) => {
                    if let Some(stumble) = brought.may_stumble {
                        self.stumbles.insert(brought.kid, stumble.until.as_unix() + 2 * self.true_skew);
                    }
                    brought.steps
                }
                Err(_) => return Ok(()),
            },
        };
        for step in &steps {
            if let Step::Revoke { kid, .. } = step {
                self.revoked.insert(kid.clone(), at);
            }
        }
        self.write(&keyring, &steps, None, at, now);
        Ok(())
    }

    /// Every replica stops and starts again under the next policy, and plans as it starts.
    fn restart_fleet(&mut self, at: i64, reign: usize) -> Result<i64, String> {
        self.disturbed = true;
        let started = at + self.dice.between(1, 5);
        for replica in &mut self.replicas {
            replica.enter(at, State::Down);
            replica.enter(started, State::Up);
        }
        self.reigns[reign].from = started;
        for replica in 0..self.replicas.len() {
            self.tick(replica, started)?;
        }
        Ok(started)
    }

    /// Signs tokens at every edge of every rotation, and shows them to verifiers.
    fn judge(&mut self) -> Result<(), String> {
        let end = self.versions.last().expect("there is a first").0;
        let mut starts: Vec<(Algorithm, i64)> = self
            .versions
            .iter()
            .flat_map(|(_, keyring)| keyring.keys().iter().map(|key| (key.alg, key.sign_from.as_unix())))
            .collect();
        starts.sort_unstable();
        starts.dedup();
        self.rotations = starts.iter().filter(|(_, at)| (START..=end).contains(at)).count();
        for (alg, start) in starts {
            for replica in 0..self.replicas.len() {
                let error = self.replicas[replica].time(start).as_unix() - start;
                let spread = self.reign(start).skew + self.reign(start).convergence;
                let after = start + self.dice.between(0, 2 * spread);
                let before = start - self.dice.between(1, 2 * spread + 1);
                for at in [start - error, start - error - 1, after, before] {
                    if at >= START && at <= end {
                        self.judge_token(replica, alg, at)?;
                    }
                }
            }
            let near = start + self.dice.between(-self.true_skew, self.true_skew + 5);
            self.judge_sets(near)?;
        }
        Ok(())
    }

    /// I1 and I2 for a token this replica signs at `at`, I3 for the replicas among themselves.
    fn judge_token(&mut self, replica: usize, alg: Algorithm, at: i64) -> Result<(), String> {
        let Some(key) = self.signer(replica, alg, at).cloned() else { return Ok(()) };
        if !key.has_private {
            return Err(format!("{} signs at {at} without its private half", key.kid));
        }
        if !self.acted && !self.disturbed && self.reigns.len() == 1 {
            self.judge_unity(replica, &key, at)?;
        }
        if self.stumbles.get(&key.kid).is_some_and(|&until| at <= until) {
            return Ok(());
        }
        let reign = self.reign(at);
        let expires = self.replicas[replica].time(at).as_unix() + reign.ttl;
        // The verifier may be behind by the skew, and lenient by as much; the signer is what it is.
        let lag = self.true_skew;
        let last = expires - 1 + lag + reign.skew;
        for publisher in 0..self.replicas.len() {
            for used in [at, self.dice.between(at, last.max(at)), last] {
                if self.revoked.get(&key.kid).is_some_and(|&revoked| used >= revoked) {
                    continue;
                }
                let oldest = used - self.reigns.iter().map(|reign| reign.cached_at_most).max().unwrap_or(0);
                let usual = used - self.reign(used).cached_at_most;
                for served in [used, usual, oldest, self.dice.between(oldest, used)] {
                    // Each policy lets caches keep its own sets for so long and no longer.
                    if served + self.reign(served).cached_at_most < used {
                        continue;
                    }
                    let Some(found) = self.serves(publisher, &key.kid, served) else { continue };
                    if !found {
                        return Err(format!(
                            "a token of {} signed at +{} by replica {replica}, expiring at +{}, is refused at +{} with \
                             the set replica {publisher} served at +{}",
                            key.kid,
                            at - START,
                            expires - START,
                            used - START,
                            served - START,
                        ));
                    }
                    self.checks += 1;
                }
            }
        }
        Ok(())
    }

    /// I3: replicas sign with different keys only within the skew of a `sign_from`.
    fn judge_unity(&self, replica: usize, key: &KeyRecord, at: i64) -> Result<(), String> {
        for other in 0..self.replicas.len() {
            let Some(theirs) = self.signer(other, key.alg, at) else { continue };
            let handover = key.sign_from.max(theirs.sign_from).as_unix();
            if theirs.kid != key.kid && (at - handover).abs() > 2 * self.true_skew {
                return Err(format!(
                    "replica {replica} signs with {} and replica {other} with {} at +{}, the handover being at +{}",
                    key.kid,
                    theirs.kid,
                    at - START,
                    handover - START
                ));
            }
        }
        Ok(())
    }

    /// I4 for what every replica serves at `at`, and I6 for the rows.
    fn judge_sets(&mut self, at: i64) -> Result<(), String> {
        for replica in 0..self.replicas.len() {
            let Some((keyring, _)) = self.view(replica, at) else { continue };
            let now = self.replicas[replica].time(at);
            let set = keyring.published(&self.algorithms, now);
            let mut kids: Vec<&str> = set.iter().map(|key| key.kid.as_str()).collect();
            kids.sort_unstable();
            kids.dedup();
            if kids.len() != set.len() || set.iter().any(|key| key.is_revoked()) {
                return Err(format!("the set at +{} has a revoked key or one twice", at - START));
            }
            if self.acted || self.reigns.len() > 1 {
                continue;
            }
            let policy = &self.reign(at).policy;
            for &alg in &self.algorithms {
                let of_ring = set.iter().filter(|key| key.alg == alg).count();
                if of_ring > policy.max_published_keys() {
                    return Err(format!("{of_ring} {alg} keys are published at +{}", at - START));
                }
                let signer = keyring.signer(alg, now);
                let has_standby = set.iter().any(|key| key.alg == alg && keyring.phase(key, now) == Phase::Standby);
                let settled = signer.is_some_and(|signer| {
                    now >= signer.sign_from + policy.replica_convergence() + policy.clock_spread()
                });
                if !self.disturbed && settled && !has_standby && at < self.versions.last().expect("there is a first").0
                {
                    return Err(format!("no {alg} standby on replica {replica} at +{}", at - START));
                }
            }
        }
        Ok(())
    }
}

fn live_through(seed: u64, weakness: Weakness) -> Result<Tally, String> {
    let mut history = History::new(seed, weakness);
    history
        .run(6)
        .and_then(|()| history.judge())
        .map(|()| Tally { rotations: history.rotations, checks: history.checks })
        .map_err(|problem| {
            let policies = history.reigns.iter().map(|reign| reign.policy.explain().join("\n")).collect::<Vec<_>>();
            format!("seed {seed}, {weakness:?}: {problem}\n{}", policies.join("\n--\n"))
        })
}

#[test]
fn no_verifier_ever_refuses_a_good_token() {
    let mut total = Tally::default();
    for seed in 0..400 {
        match live_through(seed, Weakness::None) {
            Ok(tally) => {
                total.rotations += tally.rotations;
                total.checks += tally.checks;
            }
            Err(problem) => panic!("{problem}"),
        }
    }
    assert!(total.rotations > 4_000, "too few rotations to mean anything: {total:?}");
    assert!(total.checks > 100_000, "too few tokens to mean anything: {total:?}");
}

fn finds_a_refusal(weakness: Weakness) {
    let refusal = (0..400).find_map(|seed| live_through(seed, weakness).err());
    assert!(refusal.is_some(), "the judge does not notice {weakness:?}");
}

#[test]
fn announcing_without_max_age_is_noticed() {
    finds_a_refusal(Weakness::AnnounceWithoutMaxAge);
}

#[test]
fn announcing_without_shared_max_age_is_noticed() {
    finds_a_refusal(Weakness::AnnounceWithoutSharedMaxAge);
}

#[test]
fn announcing_without_convergence_is_noticed() {
    finds_a_refusal(Weakness::AnnounceWithoutConvergence);
}

#[test]
fn announcing_without_skew_is_noticed() {
    finds_a_refusal(Weakness::AnnounceWithoutSkew);
}

#[test]
fn removing_keys_before_their_tokens_end_is_noticed() {
    finds_a_refusal(Weakness::RetentionWithoutTtl);
}

#[test]
fn removing_keys_without_skew_is_noticed() {
    finds_a_refusal(Weakness::RetentionWithoutSkew);
}

#[test]
fn removing_keys_with_twice_the_skew_is_noticed() {
    finds_a_refusal(Weakness::RetentionWithTwiceTheSkew);
}

#[test]
fn signing_on_rows_of_any_age_is_noticed() {
    finds_a_refusal(Weakness::UnboundedSigning);
}

#[test]
fn serving_rows_of_any_age_is_noticed() {
    finds_a_refusal(Weakness::UnboundedServing);
}
