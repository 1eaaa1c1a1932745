use keywheel_jose::PublicJwk;
use keywheel_keyring::{How, Phase, RotateEvery, RotationSettings, Step};
use proptest::prelude::*;

use super::*;

const ES256: Algorithm = Algorithm::ES256;
const NOW: i64 = 1_000_000;
const HOUR: i64 = 3_600;
/// Two polls and a skew.
const LEAD: i64 = 60;
const LIMIT: Duration = Duration::from_secs(1_800);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

/// Hourly rotations announced for ten minutes; verifiers come back every five.
fn policy() -> RotationPolicy {
    RotationPolicy::new(RotationSettings {
        rotate: RotateEvery::Interval(Duration::from_secs(3_600)),
        announce: Duration::from_secs(600),
        ..RotationSettings::default()
    })
    .expect("a safe policy")
}

fn key(kid: &str, serial: i64, publish_at: i64, sign_from: i64) -> KeyRecord {
    // RFC 8037, appendix A.2: the ring never looks inside.
    let jwk = serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    });
    KeyRecord {
        kid: kid.to_owned(),
        alg: ES256,
        serial,
        jwk: PublicJwk::from_json(&jwk).expect("a key of the RFC"),
        created_at: at(publish_at),
        publish_at: at(publish_at),
        sign_from: at(sign_from),
        max_ttl: Duration::from_secs(600),
        clock_skew: Duration::from_secs(30),
        revoked_at: None,
        has_private: true,
    }
}

/// `a` signs since NOW, `b` is its standby, `c` comes after it.
fn ring() -> Keyring {
    Keyring::new(vec![
        key("a", 1, NOW - HOUR, NOW),
        key("b", 2, NOW, NOW + HOUR),
        key("c", 3, NOW + HOUR, NOW + 2 * HOUR),
    ])
}

/// Came every five minutes for an hour, and was given a set whose newest key is the one of this serial.
fn fetcher(name: &str, serial: i64, last_seen: i64) -> Fetcher {
    Fetcher {
        name: name.to_owned(),
        first_seen: at(last_seen - HOUR),
        last_seen: at(last_seen),
        fetches: 13,
        newest: NewestKeys(BTreeMap::from([(ES256, serial)])),
    }
}

fn decide(ring: &Keyring, fetchers: &[Fetcher], held: &[HeldKey], now: i64) -> Vec<Hold> {
    due_holds(ring, fetchers, held, &policy(), LIMIT, at(now))
}

fn moved(ring: &Keyring, moves: &[Move]) -> Keyring {
    let mut keys = ring.keys().to_vec();
    for step in moves {
        let key = keys.iter_mut().find(|key| key.kid == step.kid).expect("a key of the ring");
        assert_eq!(key.sign_from, step.from);
        key.sign_from = step.to;
    }
    Keyring::new(keys)
}

/// When the decision about `b` falls.
const ABOUT_TO_SIGN: i64 = NOW + HOUR - LEAD - 1;

#[test]
fn whoever_comes_back_over_a_while_is_regular_until_overdue() {
    let regular = |fetches, seen_for: i64, away: i64| {
        let last_seen = at(NOW);
        is_regular(at(NOW - seen_for), last_seen, fetches, &policy(), at(NOW + away))
    };

    assert!(regular(3, 600, 0));
    assert!(!regular(2, 600, 0), "twice may be chance");
    assert!(!regular(100, 299, 0), "one burst is no habit");
    assert!(regular(3, 600, 900) && !regular(3, 600, 901), "three times max-age");
    assert!(regular(3, 2 * HOUR, 3 * HOUR) && !regular(3, 2 * HOUR, 3 * HOUR + 1), "three times its own period");
    let month = 30 * 86_400;
    assert!(!regular(3, 2 * month, month), "who comes once a month is not waited for");
    assert!(regular(3, 600, -30), "a clock that is behind takes nobody away");
}

#[test]
fn a_set_holds_its_newest_key_and_those_before_it() {
    let ring = ring();
    let newest = NewestKeys::of(&ring.published(&[ES256], at(NOW)));

    let included: Vec<_> = ring.keys().iter().map(|key| newest.include(key)).collect();

    assert_eq!(included, [true, true, false]);
    let other = KeyRecord { alg: Algorithm::RS256, ..key("r", 1, NOW, NOW) };
    assert!(!newest.include(&other), "a ring that was not in the set");
    assert_eq!(serde_json::to_string(&newest).expect("JSON"), r#"{"ES256":2}"#);
}

#[test]
fn coverage_counts_the_regular_and_names_the_missing() {
    let mut once = fetcher("once", 1, NOW);
    once.fetches = 1;
    let fetchers = [fetcher("late", 1, NOW - 60), fetcher("has-it", 2, NOW), fetcher("later", 1, NOW - 600), once];
    let ring = ring();

    let coverage = Coverage::of(&ring.keys()[1], &fetchers, &policy(), at(NOW));

    assert_eq!((coverage.holding(), coverage.regular), (1, 3));
    let sentence = coverage.name_missing(at(NOW), keywheel_keyring::format_duration);
    assert_eq!(sentence, "later (last seen 10m ago), late (last seen 1m ago)");
}

#[test]
fn of_very_many_missing_a_few_are_named() {
    let fetchers: Vec<_> = (0..25).map(|number| fetcher(&format!("f{number}"), 1, NOW)).collect();
    let ring = ring();

    let coverage = Coverage::of(&ring.keys()[1], &fetchers, &policy(), at(NOW));

    assert!(coverage.name_missing(at(NOW), keywheel_keyring::format_duration).ends_with(", and 15 more"));
}

#[test]
fn a_rotation_waits_for_a_regular_fetcher_that_lacks_the_key() {
    let fetchers = [fetcher("payments-7", 1, ABOUT_TO_SIGN - 800), fetcher("billing", 2, ABOUT_TO_SIGN)];

    let holds = decide(&ring(), &fetchers, &[], ABOUT_TO_SIGN);

    // A twelfth of the limit.
    let until = at(NOW + HOUR + 150);
    assert_eq!(holds[0].key, HeldKey { kid: "b".into(), planned: at(NOW + HOUR), held_until: until });
    assert_eq!(holds[0].missing, "payments-7 (last seen 13m20s ago)");
    let after = moved(&ring(), &holds[0].moves);
    assert_eq!(after.signer(ES256, at(NOW + HOUR + 149)).map(|key| key.kid.as_str()), Some("a"));
    assert_eq!(after.signer(ES256, until).map(|key| key.kid.as_str()), Some("b"));
}

#[test]
fn the_keys_after_it_move_along() {
    let holds = decide(&ring(), &[fetcher("payments-7", 1, ABOUT_TO_SIGN)], &[], ABOUT_TO_SIGN);

    let along = Move { kid: "c".into(), from: at(NOW + 2 * HOUR), to: at(NOW + 2 * HOUR + 150) };
    assert_eq!(holds[0].moves[1..], [along]);
}

#[test]
fn a_rotation_waits_for_nobody_who_has_it_has_gone_or_came_once() {
    let gone = fetcher("gone", 1, ABOUT_TO_SIGN - 901);
    let once = Fetcher { fetches: 1, ..fetcher("once", 1, ABOUT_TO_SIGN) };

    assert_eq!(decide(&ring(), &[gone, once, fetcher("billing", 2, ABOUT_TO_SIGN)], &[], ABOUT_TO_SIGN), []);
}

#[test]
fn a_start_is_moved_only_while_every_replica_can_still_learn_of_it() {
    let fetchers = [fetcher("payments-7", 1, ABOUT_TO_SIGN)];
    let decides = |left: i64| !decide(&ring(), &fetchers, &[], NOW + HOUR - left).is_empty();

    assert!(!decides(LEAD) && decides(LEAD + 1), "convergence and skew");
    assert!(decides(2 * LEAD) && !decides(2 * LEAD + 1), "and not long before");
}

#[test]
fn a_rotation_waits_up_to_the_limit_and_no_longer() {
    let mut ring = ring();
    let mut held: Vec<HeldKey> = Vec::new();
    let mut waits = 0;

    for now in NOW..NOW + 2 * HOUR {
        for hold in decide(&ring, &[fetcher("payments-7", 1, now)], &held, now) {
            ring = moved(&ring, &hold.moves);
            assert_eq!(hold.key.held_until == hold.latest, waits == 11, "the twelfth is the last");
            held = vec![hold.key];
            waits += 1;
        }
    }

    assert_eq!(waits, 12);
    assert_eq!(ring.key("b").expect("a row").sign_from, at(NOW + HOUR) + LIMIT);
}

#[test]
fn a_key_that_was_brought_forward_does_not_wait() {
    let fetchers = |now| [fetcher("payments-7", 1, now)];
    let brought = |ring: &Keyring, now: i64| {
        let act = ring.bring_forward(ES256, &policy(), at(now), How::Safe).expect("it is early");
        let keys = ring
            .keys()
            .iter()
            .map(|key| KeyRecord { sign_from: if key.kid == act.kid { act.to } else { key.sign_from }, ..key.clone() });
        (Keyring::new(keys.collect()), act.to.as_unix())
    };

    let (planned, signs) = brought(&ring(), NOW + 600);
    assert_eq!(decide(&planned, &fetchers(signs), &[], signs - LEAD - 1), []);

    // Held first: then it may be brought forward to after it was planned, and still does not wait.
    let until = NOW + HOUR + 1_200;
    let held = HeldKey { kid: "b".into(), planned: at(NOW + HOUR), held_until: at(until) };
    let waiting = moved(&ring(), &[Move { kid: "b".into(), from: at(NOW + HOUR), to: at(until) }]);
    let (after, signs) = brought(&waiting, NOW + HOUR);
    assert!(signs > NOW + HOUR);
    assert_eq!(decide(&after, &fetchers(signs), std::slice::from_ref(&held), signs - LEAD - 1), []);
    assert_eq!(decide(&waiting, &fetchers(until), &[held], until - LEAD - 1).len(), 1, "left alone it does");
}

#[test]
fn a_ring_without_a_signer_does_not_wait() {
    let starting = Keyring::new(ring().keys()[1..].to_vec());

    assert_eq!(decide(&starting, &[fetcher("payments-7", 1, ABOUT_TO_SIGN)], &[], ABOUT_TO_SIGN), []);
}

#[test]
fn nothing_waits_for_a_key_that_is_not_published() {
    let keys = [ring().keys()[0].clone(), key("b", 2, NOW + HOUR - 10, NOW + HOUR)];

    assert_eq!(decide(&Keyring::new(keys.to_vec()), &[fetcher("x", 1, ABOUT_TO_SIGN)], &[], ABOUT_TO_SIGN), []);
}

/// A fleet of two whose rotations wait at random: rows as written, each with its instant.
struct Fleet {
    policy: RotationPolicy,
    limit: Duration,
    versions: Vec<(i64, Keyring)>,
    held: Vec<HeldKey>,
}

impl Fleet {
    /// Rotations a minute apart, announced for 30 s; convergence and skew are 2 s each, tokens live 10 s.
    fn new(limit: u64) -> Self {
        let settings = RotationSettings {
            rotate: RotateEvery::Interval(Duration::from_secs(60)),
            announce: Duration::from_secs(30),
            jwks_max_age: Duration::from_secs(MAX_AGE as u64),
            jwks_shared_max_age: Some(Duration::from_secs(1)),
            clock_skew: Duration::from_secs(SKEW as u64),
            poll: Duration::from_secs(1),
            max_staleness: None,
            max_token_ttl: Duration::from_secs(TTL as u64),
        };
        let policy = RotationPolicy::new(settings).expect("a safe policy");
        let limit = Duration::from_secs(limit);
        Self { policy, limit, versions: vec![(i64::MIN, Keyring::default())], held: Vec::new() }
    }

    fn newest(&self) -> &Keyring {
        &self.versions.last().expect("there is a first").1
    }

    /// What a replica goes by that learns of changes `late` seconds after they were written.
    fn seen(&self, now: i64, late: i64) -> &Keyring {
        let seen = self.versions.iter().rev().find(|(written, _)| *written <= now.saturating_sub(late));
        &seen.expect("the first was there for ever").1
    }

    /// A visit, by a clock that shows `clock` at `now`.
    fn tick(&mut self, now: i64, clock: i64, lacking: bool) {
        loop {
            let steps = self.newest().plan(&self.policy, &[ES256], at(clock));
            if steps.is_empty() {
                break;
            }
            let mut keys = self.newest().keys().to_vec();
            steps.iter().for_each(|step| take(&mut keys, step));
            self.versions.push((now, Keyring::new(keys)));
        }
        let fetchers = if lacking { vec![fetcher("payments-7", 0, clock)] } else { Vec::new() };
        for hold in due_holds(self.newest(), &fetchers, &self.held, &self.policy, self.limit, at(clock)) {
            let after = moved(self.newest(), &hold.moves);
            self.versions.push((now, after));
            self.held.retain(|held| held.kid != hold.key.kid);
            self.held.push(hold.key);
        }
    }
}

fn take(keys: &mut Vec<KeyRecord>, step: &Step) {
    let named = |keys: &mut Vec<KeyRecord>| keys.iter().position(|key| Some(key.kid.as_str()) == step.kid());
    match step {
        Step::Create { serial, publish_at, sign_from, max_ttl, clock_skew, .. } => {
            let made = key(&format!("k{serial}"), *serial, publish_at.as_unix(), sign_from.as_unix());
            keys.push(KeyRecord { max_ttl: *max_ttl, clock_skew: *clock_skew, ..made });
        }
        Step::Delete { .. } => drop(named(keys).map(|index| keys.remove(index))),
        _ => {
            let index = named(keys).expect("a step names a key of the ring");
            let key = &mut keys[index];
            match step {
                Step::PublishEarlier { publish_at, .. } => key.publish_at = *publish_at,
                Step::Postpone { sign_from, .. } => key.sign_from = *sign_from,
                Step::DestroyPrivate { .. } => key.has_private = false,
                other => panic!("{other:?} is not due in a fleet that keeps to one policy"),
            }
        }
    }
}

const MAX_AGE: i64 = 5;
const SKEW: i64 = 2;
const TTL: i64 = 10;
const SPAN: i64 = 400;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I1 to I4 and I6 of the timetable, and the limit, whatever is waited for and whoever ticks when.
    #[test]
    fn no_waiting_harms_a_verifier(
        limit in 0_u64..=60,
        ahead in -SKEW..=SKEW,
        ticks in proptest::collection::vec((0_u8..10, any::<bool>(), proptest::bool::weighted(0.8)), SPAN as usize),
    ) {
        let mut fleet = Fleet::new(limit);
        fleet.tick(NOW, NOW, false);
        let bound = fleet.policy.max_published_keys();
        // What each of the two signs with and publishes, second by second.
        let mut seconds = Vec::new();
        let mut planned: BTreeMap<String, Timestamp> = BTreeMap::new();

        for (now, (chance, other, lacking)) in (NOW..).zip(ticks) {
            if chance > 1 {
                fleet.tick(now, if other { now + ahead } else { now }, lacking);
            }
            let replicas = [(0, now), (2, now + ahead)].map(|(late, clock)| {
                let seen = fleet.seen(now, late);
                let signer = seen.signer(ES256, at(clock)).map(|key| (key.kid.clone(), key.has_private));
                let published: Vec<_> =
                    seen.published(&[ES256], at(clock)).into_iter().map(|key| key.kid.clone()).collect();
                (signer, published)
            });
            let rows = fleet.newest();
            let signer = rows.signer(ES256, at(now)).expect("there is always a signer");
            let next = next_key(rows, ES256, at(now));
            prop_assert!(rows.keys().windows(2).all(|two| two[0].sign_from < two[1].sign_from), "order at {now}");
            prop_assert!(signer.has_private, "the signer at {now} has its private half");
            prop_assert!(signer.serial == 1 || signer.publish_at + fleet.policy.announce() <= at(now), "I2 at {now}");
            prop_assert!(rows.keys().iter().any(|key| rows.phase(key, at(now)) == Phase::Standby), "I6 at {now}");
            prop_assert!(rows.published(&[ES256], at(now)).len() <= bound, "I4 at {now}");
            if now > NOW + 2 {
                let [(one, _), (two, _)] = &replicas;
                let (one, two) = (one.as_ref().expect("a signer"), two.as_ref().expect("a signer"));
                let edge = rows.keys().iter().any(|key| (key.sign_from.as_unix() - now).abs() <= SKEW);
                prop_assert!(one.0 == two.0 || edge, "I3 at {now}: {one:?} and {two:?}");
                prop_assert!(one.1 && two.1, "a signer's private half is there at {now}");
            }
            // The plan that counts is the one in force when a key becomes the next.
            if let Some(next) = next {
                let first = *planned.entry(next.kid.clone()).or_insert(next.sign_from);
                prop_assert!(next.sign_from <= first + fleet.limit, "the limit at {now}");
            }
            seconds.push(replicas);
        }

        let cached = MAX_AGE + 1;
        for (second, replicas) in seconds.iter().enumerate().skip(cached as usize + 2) {
            for (signer, _) in replicas {
                let (kid, _) = signer.as_ref().expect("a signer");
                let until = (second + (TTL + SKEW) as usize).min(seconds.len() - 1);
                for served in &seconds[second - cached as usize..=until] {
                    for (_, published) in served {
                        prop_assert!(published.contains(kid), "I1: a token of second {second} meets a set without {kid}");
                    }
                }
            }
        }
    }
}
