//! The ledger under shuttle: thousands of orders in which threads can meet, and after each the five promises.
//!
//! The ledger is the production code; only what lies beneath it is shuttle's, so that every lock, load, store and waking is a
//! point where another thread may go first. (That arc-swap's load is one indivisible step is arc-swap's own promise.) The
//! last tests break one promise each and expect it to be noticed: a check that can't fail shows nothing.

use std::sync::{Mutex as Plain, OnceLock, PoisonError};

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::*;
use crate::fixtures::{Signer, key_set};

const CALLERS: usize = 2;
const ROUNDS: usize = 2;

/// Half a millisecond each.
const SCHEDULES: usize = 10_000;

/// How many scheduling decisions of a run go against priority; the promises are about meetings of two or three threads.
const DEPTH: usize = 3;

struct Shuttle;

impl Threads for Shuttle {
    type Lock<T: Send> = Mutex<T>;
    type Slot<T: Send + Sync> = ShuttleSlot<T>;
    type Landing = Landing;
    type Flight = ShuttleFlight;

    fn flight() -> (Landing, ShuttleFlight) {
        let landed = Arc::new((Mutex::new(false), Condvar::new()));
        (Landing(Arc::clone(&landed)), ShuttleFlight(landed))
    }
}

impl<T> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.lock().expect("a panic ends the run"))
    }
}

/// A pointer behind a lock of its own: each load and each store is one step, and others may come between.
struct ShuttleSlot<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for ShuttleSlot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Slot<T> for ShuttleSlot<T> {
    fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.load().as_deref())
    }

    fn load(&self) -> Option<Arc<T>> {
        self.0.with(|value| value.clone())
    }

    fn store(&self, value: Arc<T>) {
        self.0.with(|slot| *slot = Some(value));
    }
}

struct Landing(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Landing {
    fn drop(&mut self) {
        let (landed, waiters) = &*self.0;
        landed.with(|landed| *landed = true);
        waiters.notify_all();
    }
}

#[derive(Clone)]
struct ShuttleFlight(Arc<(Mutex<bool>, Condvar)>);

impl ShuttleFlight {
    /// Where nobody ever lands, shuttle sees that no thread can go on, and fails the run.
    fn landed(&self) {
        let (landed, waiters) = &*self.0;
        let mut landed = landed.lock().expect("a panic ends the run");
        while !*landed {
            landed = waiters.wait(landed).expect("a panic ends the run");
        }
    }
}

impl Flight for ShuttleFlight {
    fn in_the_air(&self) -> bool {
        !self.0.0.with(|landed| *landed)
    }
}

/// One run: a ledger, a clock that each look moves on, and what has been seen so far. The witness is outside shuttle's
/// reach and is only touched between two steps.
struct World {
    ledger: Ledger<Shuttle>,
    witness: Plain<Witness>,
    breach: Option<Breach>,
}

#[derive(Default)]
struct Witness {
    looks_at_the_clock: u32,
    in_flight: [usize; 2],
    last_end: Option<Instant>,
    /// The greatest sequence that any reader saw.
    newest_seen: u64,
    searches: usize,
    late: usize,
    joined: usize,
}

/// A promise broken on purpose.
#[derive(Clone, Copy)]
enum Breach {
    /// Every answer counts as the newest.
    SequenceIgnored,
    /// Who waits is never told.
    LandingKept,
    /// The search lane forgets who is under way.
    FlightForgotten,
    /// The search lane forgets its cooldown.
    CooldownForgotten,
}

impl World {
    fn new(breach: Option<Breach>) -> Arc<Self> {
        let ledger = Ledger::new(Limits { cooldown: COOLDOWN, ..Limits::default() }, start());
        Arc::new(Self { ledger, witness: Plain::default(), breach })
    }

    fn see<R>(&self, look: impl FnOnce(&mut Witness) -> R) -> R {
        // A promise that is found broken panics in here; the first message is the one that counts.
        look(&mut self.witness.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Later with every look, by less than a cooldown.
    fn now(&self) -> Instant {
        self.see(|witness| {
            witness.looks_at_the_clock += 1;
            start() + TICK * witness.looks_at_the_clock
        })
    }

    /// The task of the scheduled lane.
    fn follow_schedule(&self) {
        for _ in 0..ROUNDS {
            match self.ledger.begin_scheduled(self.now()) {
                Ok((attempt, _)) => self.fetch(attempt),
                Err(flight) => flight.landed(),
            }
        }
    }

    /// A caller with an invented `kid`.
    fn search(&self, caller: usize) {
        for round in 0..ROUNDS {
            let now = self.now();
            match self.breach {
                Some(Breach::FlightForgotten) => self.ledger.state.with(|state| {
                    state.search = None;
                    state.scheduled = None;
                    state.cool_at = now;
                }),
                Some(Breach::CooldownForgotten) => self.ledger.state.with(|state| state.cool_at = now),
                _ => {}
            }
            match self.ledger.search(Some(&format!("invented-{caller}-{round}")), now) {
                Search::Begun(attempt, _) => {
                    self.see(|witness| {
                        let pause = witness.last_end.map(|end| attempt.asked_at.saturating_duration_since(end));
                        assert!(
                            matches!(self.breach, Some(Breach::FlightForgotten))
                                || pause.is_none_or(|pause| pause >= COOLDOWN),
                            "searched {pause:?} after the last attempt"
                        );
                        witness.searches += 1;
                    });
                    self.fetch(attempt);
                }
                Search::Joined(flight) => {
                    flight.landed();
                    self.see(|witness| witness.joined += 1);
                }
                Search::CoolingDown | Search::Settled => {}
            }
        }
    }

    /// One attempt, which is answered with the set of its number, or every fifth time not at all.
    fn fetch(&self, mut attempt: Attempt<Shuttle>) {
        let lane = attempt.lane as usize;
        self.see(|witness| {
            witness.in_flight[lane] += 1;
            assert_eq!(witness.in_flight[lane], 1, "two attempts in the {:?} lane", attempt.lane);
        });
        let number = attempt.sequence;
        thread::yield_now();
        let now = self.now();
        // Noted before it ends: the next one may begin the moment it has.
        self.see(|witness| {
            witness.in_flight[lane] -= 1;
            witness.last_end = witness.last_end.max(Some(now));
        });
        match self.breach {
            Some(Breach::SequenceIgnored) => attempt.sequence = u64::MAX,
            // The attempt is over, and its waiters are not told.
            Some(Breach::LandingKept) => return std::mem::forget(attempt),
            _ => {}
        }
        let outcome = match number % 5 {
            0 => Err(Failure::NothingToRenew),
            _ => Ok(answer(number)),
        };
        if let Finished::Late = self.ledger.finish(attempt, outcome, now, 0.5) {
            self.see(|witness| witness.late += 1);
        }
    }

    /// A request: what it sees is one set, and never an older one than somebody saw before.
    fn read(&self) {
        for _ in 0..ROUNDS {
            let before = self.see(|witness| witness.newest_seen);
            let seen = self.ledger.read(|held| {
                held.map(|held| {
                    let number = held.caching.age.as_secs();
                    assert_eq!(held.body, answer(number).body, "the keys of one set, the age of another");
                    assert!(held.keys.contains_kid(&kid(number)), "the body of one set, the keys of another");
                    number
                })
            });
            let seen = seen.unwrap_or(0);
            assert!(seen >= before, "saw the set of attempt {seen} after that of {before}");
            self.see(|witness| witness.newest_seen = witness.newest_seen.max(seen));
        }
    }
}

/// All threads of one run, to their end.
fn play(breach: Option<Breach>) -> Arc<World> {
    let world = World::new(breach);
    let mut threads = Vec::new();
    let mut start = |work: Box<dyn FnOnce(&World) + Send>| {
        let world = Arc::clone(&world);
        threads.push(thread::spawn(move || work(&world)));
    };
    for caller in 0..CALLERS {
        start(Box::new(move |world| world.search(caller)));
    }
    start(Box::new(World::follow_schedule));
    start(Box::new(World::follow_schedule));
    start(Box::new(World::read));
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    world
}

/// Long enough that a run of ticks has a few cooldowns in it.
const COOLDOWN: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// The clock itself is nobody's concern here, but has to begin somewhere.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// One of a few sets, each with a key of its own; the age tells which attempt brought it.
fn answer(number: u64) -> Answer {
    static SETS: OnceLock<Vec<(Arc<KeySet>, Bytes)>> = OnceLock::new();
    let sets = SETS.get_or_init(|| {
        let set = |number| {
            let body = key_set(&[&Signer::new(&kid(number))]);
            (Arc::new(KeySet::parse(&body).expect("a set")), body)
        };
        (0..SETS_IN_TURN).map(set).collect()
    });
    let (keys, body) = &sets[usize::try_from(number % SETS_IN_TURN).expect("a small number")];
    let caching = Caching { max_age: None, age: Duration::from_secs(number) };
    Answer { keys: Arc::clone(keys), body: body.clone(), etag: None, caching }
}

fn kid(number: u64) -> String {
    format!("key-{}", number % SETS_IN_TURN)
}

const SETS_IN_TURN: u64 = 16;

/// Plays `SCHEDULES` orders and says how often the interesting things came up in them.
fn explore(check: impl FnOnce(Box<dyn Fn() + Send + Sync>)) -> [usize; 3] {
    let seen = Arc::new(Plain::new([0; 3]));
    let counter = Arc::clone(&seen);
    check(Box::new(move || {
        let world = play(None);
        let counts = world.see(|witness| [witness.searches, witness.late, witness.joined]);
        let mut seen = counter.lock().expect("a panic ends the test");
        for (sum, count) in seen.iter_mut().zip(counts) {
            *sum += count;
        }
    }));
    *seen.lock().expect("nobody is left who could panic")
}

#[test]
fn the_promises_hold_in_random_orders() {
    let seen = explore(|run| shuttle::check_random(run, SCHEDULES));

    assert!(seen.iter().all(|count| *count > SCHEDULES / 1000), "[searches, late answers, joined flights]: {seen:?}");
}

#[test]
fn the_promises_hold_where_some_threads_are_much_slower() {
    let seen = explore(|run| shuttle::check_pct(run, SCHEDULES, DEPTH));

    assert!(seen.iter().all(|count| *count > SCHEDULES / 1000), "[searches, late answers, joined flights]: {seen:?}");
}

mod a_broken_promise_is_noticed {
    use std::panic::catch_unwind;

    use shuttle::scheduler::RandomScheduler;
    use shuttle::{Config, Runner};

    use super::*;

    const SEED: u64 = 1;

    /// The message of the failure that some order leads to. The orders are the same at every run: chance must not decide
    /// whether a breach is found.
    fn failure(breach: Breach) -> String {
        let run = catch_unwind(|| {
            let orders = RandomScheduler::new_from_seed(SEED, 4 * SCHEDULES);
            Runner::new(orders, Config::new()).run(move || drop(play(Some(breach))));
        });
        let payload = run.expect_err("some order shows it");
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    }

    #[test]
    fn a_late_answer_that_overwrites_a_newer_one() {
        let failure = failure(Breach::SequenceIgnored);
        assert!(failure.contains("saw the set of attempt"), "{failure}");
    }

    #[test]
    fn a_waiter_that_never_wakes() {
        let failure = failure(Breach::LandingKept);
        assert!(failure.contains("deadlock"), "{failure}");
    }

    #[test]
    fn two_fetches_in_one_lane() {
        let failure = failure(Breach::FlightForgotten);
        assert!(failure.contains("two attempts in the"), "{failure}");
    }

    #[test]
    fn a_search_in_the_cooldown() {
        let failure = failure(Breach::CooldownForgotten);
        assert!(failure.contains("after the last attempt"), "{failure}");
    }
}
