use std::net::{Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use http::{HeaderValue, Method, Request, StatusCode};
use keywheel_jose::Algorithm;
use keywheel_keyring::KeyRecord;

use super::*;
use crate::app::App;
use crate::http::request::Peer;
use crate::keys::coverage::{Coverage, next_key};
use crate::storage::WhenMissing;
use crate::testing::{Home, START, get, send};

const PATH: &str = "/.well-known/jwks.json";

fn name(agent: &[u8], peer: Option<IpAddr>) -> String {
    Who::of(agent, peer).name()
}

fn v4(last: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(192, 0, 2, last).into())
}

fn policy() -> RotationPolicy {
    RotationPolicy::new(keywheel_keyring::RotationSettings::default()).expect("a safe policy")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

#[test]
fn a_verifier_is_known_by_the_name_it_gives_itself() {
    assert_eq!(name(b"keywheel-verifier/0.1.0 (payments-7)", v4(1)), "payments-7");
    assert_eq!(Who::of(b"keywheel-verifier/9.9.9 (payments-7)", None), Who::Named(b"payments-7"));
    for other in [
        &b"keywheel-verifier/0.1.0"[..],
        b"keywheel-verifier/0.1.0 ()",
        b"keywheel-verifier/0.1.0 (a b)",
        b"keywheel-verifier/0.1.0 (a\\x)",
        b"keywheel-verifier/",
        b"keywheel-verifier/ (",
        b"other (payments-7)",
    ] {
        assert!(matches!(Who::of(other, None), Who::Group { .. }), "{}", other.escape_ascii());
    }
}

#[test]
fn others_are_known_by_user_agent_and_network() {
    assert_eq!(name(b"jose/6.1", v4(1)), "jose/6.1 from 192.0.2.0/24");
    assert_eq!(Who::of(b"jose/6.1", v4(1)), Who::of(b"jose/6.1", v4(200)));
    assert_ne!(Who::of(b"jose/6.1", v4(1)), Who::of(b"jose/6.2", v4(1)));
    let mapped: IpAddr = Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped().into();
    assert_eq!(Who::of(b"jose/6.1", v4(1)), Who::of(b"jose/6.1", Some(mapped)));
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 7, 8, 9, 10, 11, 12).into();
    assert_eq!(name(b"", Some(v6)), "(no user agent) from 2001:db8:7::/48");
}

#[test]
fn hostile_names_are_escaped_cut_and_kept_apart() {
    let long = vec![0xff; 10_000];
    for agent in [&b"\x1b[2J\x07"[..], b"a\tb\xe9\r\n", b"\\x1b[2J", &long, b"' OR 1=1 --", "\u{202e}".as_bytes()] {
        let name = name(agent, v4(1));

        assert!(name.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}");
        assert!(name.len() <= LONGEST_NAME, "{name}");
    }
    assert_ne!(name(b"\x1b", None), name(b"\\x1b", None));
    assert_ne!(name(b"payments-7", None), name(b"keywheel-verifier/0.1.0 (payments-7)", None));
}

#[test]
fn a_storm_of_invented_names_is_bounded_and_pushes_out_no_regular_fetcher() {
    let fetchers = Fetchers::new(policy());
    let newest = Arc::new(NewestKeys::default());
    let regular: Vec<_> = (0..300).map(|n| format!("keywheel-verifier/1 (regular-{n})")).collect();
    for round in 0..3 {
        regular.iter().for_each(|agent| fetchers.note(agent.as_bytes(), None, &newest, at(START + 300 * round)));
    }

    for number in 0..100_000 {
        fetchers.note(format!("invented/{number}").as_bytes(), v4(1), &newest, at(START + 700));
    }

    let kept: Vec<_> = fetchers
        .shards
        .iter()
        .flat_map(|shard| {
            let shard = shard.lock().expect("no panic");
            shard.values().map(|seen| seen.name.clone()).collect::<Vec<_>>()
        })
        .collect();
    assert!(kept.len() <= SHARDS * SHARD_CAPACITY, "{}", kept.len());
    assert_eq!(kept.iter().filter(|name| name.starts_with("regular-")).count(), 300);
    let unsaved = fetchers.unsaved().fetchers;
    assert_eq!(unsaved.len(), MOST_SAVED_AT_ONCE);
    assert!(unsaved.iter().all(|row| row.name.starts_with("regular-")), "those that came most often go first");
}

#[tokio::test]
async fn what_two_replicas_saw_adds_up_and_outlives_them() {
    let home = Home::new();
    let store = Store::open(&home.config("").storage.database, WhenMissing::Create).await.expect("a store");
    let [one, other] = [(); 2].map(|()| Fetchers::new(policy()));
    let (old, new) = (newest(&[1]), newest(&[1, 2]));
    let payments = b"keywheel-verifier/0.1.0 (payments)";

    one.note(payments, None, &old, at(START));
    other.note(payments, None, &new, at(START + 300));
    // The later request counts, whichever is stored first.
    other.exchange(&store, at(START + 300)).await.expect("stored");
    one.exchange(&store, at(START + 300)).await.expect("stored");
    one.exchange(&store, at(START + 300)).await.expect("nothing new");
    let restarted = Fetchers::new(policy());
    restarted.exchange(&store, at(START + 300)).await.expect("read");
    restarted.note(payments, None, &new, at(START + 600));
    restarted.exchange(&store, at(START + 600)).await.expect("stored");

    let rows = restarted.rows();
    let expected = Fetcher {
        name: "payments".to_owned(),
        first_seen: at(START),
        last_seen: at(START + 600),
        fetches: 3,
        newest: NewestKeys::clone(&new),
    };
    assert_eq!(*rows, [expected]);
    assert!(rows[0].is_regular(&policy(), at(START + 600)));
}

#[tokio::test]
async fn what_could_not_be_stored_is_stored_the_next_time() {
    let home = Home::new();
    let open = async || Store::open(&home.config("").storage.database, WhenMissing::Create).await.expect("a store");
    let fetchers = Fetchers::new(policy());
    fetchers.note(b"keywheel-verifier/0.1.0 (payments)", None, &newest(&[1]), at(START));
    let closed = open().await;
    closed.close().await;

    fetchers.exchange(&closed, at(START)).await.expect_err("the database is out of reach");
    fetchers.exchange(&open().await, at(START)).await.expect("stored");

    assert_eq!(fetchers.rows().iter().map(|row| row.fetches).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn every_answer_that_leaves_a_set_with_its_fetcher_is_noted_and_no_other() {
    let home = Home::new();
    let app = home.open().await;
    app.rotator().tick().await.expect("a visit");
    let etag = get(&app, PATH).await.headers()["etag"].clone();
    let ask = async |name: &str, method: Method, tag: Option<&HeaderValue>| {
        let mut request = Request::builder().method(method).uri(PATH);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request = request.header("user-agent", format!("keywheel-verifier/0.1.0 ({name})"));
        send(&app, request.body(Body::empty()).expect("a request")).await.status()
    };

    assert_eq!(ask("handed", Method::GET, None).await, StatusCode::OK);
    assert_eq!(ask("handed-anew", Method::GET, Some(&HeaderValue::from_static("\"old\""))).await, StatusCode::OK);
    assert_eq!(ask("held", Method::GET, Some(&etag)).await, StatusCode::NOT_MODIFIED);
    assert_eq!(ask("held-and-looks", Method::HEAD, Some(&etag)).await, StatusCode::NOT_MODIFIED);
    assert_eq!(ask("looks", Method::HEAD, None).await, StatusCode::OK);
    assert_eq!(ask("has-any", Method::GET, Some(&HeaderValue::from_static("*"))).await, StatusCode::NOT_MODIFIED);

    app.fetchers.exchange(&app.store, app.clock.now()).await.expect("stored");
    let rows = app.fetchers.rows();
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["(no user agent) from nowhere", "handed", "handed-anew", "held", "held-and-looks"]);
    let next = app.keys.with_ring(|ring| next_key(ring, Algorithm::ES256, app.clock.now()).cloned());
    assert!(rows.iter().all(|row| row.newest.include(next.as_ref().expect("a standby"))));
}

#[tokio::test]
async fn a_peer_is_noted_by_its_network_and_a_hostile_agent_escaped() {
    let home = Home::new();
    let app = home.open().await;
    for agent in [&b"\x80\xff\tx"[..], &[b'a'; 20_000]] {
        let request = Request::get(PATH).header("user-agent", HeaderValue::from_bytes(agent).expect("a header"));
        let request = request.extension(Peer(Ipv4Addr::new(198, 51, 100, 77).into()));
        assert_eq!(send(&app, request.body(Body::empty()).expect("a request")).await.status(), StatusCode::OK);
    }

    app.fetchers.exchange(&app.store, app.clock.now()).await.expect("stored");

    let names: Vec<_> = app.fetchers.rows().iter().map(|row| row.name.clone()).collect();
    let cut = format!("{} from 198.51.100.0/24", "a".repeat(64));
    assert_eq!(names, [r"\x80\xff\tx from 198.51.100.0/24", cut.as_str()]);
}

#[tokio::test]
async fn a_rotation_waits_for_a_slow_fetcher_until_it_came() {
    let home = Home::new();
    let app = home.open_with(WAITING).await.expect("an issuer");

    let (key, missing) = live(&home, &app, &[0, 45, 90, 185]).await;

    assert!((START + 185..START + 198).contains(&key.sign_from.as_unix()), "{}", key.sign_from);
    assert_eq!(missing, ["slow"], "it alone was missing before");
}

#[tokio::test]
async fn a_rotation_does_not_wait_past_its_limit() {
    let home = Home::new();
    let app = home.open_with(WAITING).await.expect("an issuer");

    let (key, _) = live(&home, &app, &[0, 45, 90]).await;

    assert_eq!(key.sign_from, at(PLANNED + 20));
    let held = app.store.load_held_keys().await.expect("rows");
    assert!(held.iter().any(|held| held.kid == key.kid && held.planned == at(PLANNED)), "{held:?}");
}

#[tokio::test]
async fn by_default_a_rotation_waits_for_nobody_but_it_is_known_who_lacks_the_key() {
    let home = Home::new();
    let app = home.open().await;

    let (key, missing) = live(&home, &app, &[0, 45, 90]).await;

    assert_eq!(key.sign_from, at(PLANNED));
    assert_eq!(missing, ["slow"]);
}

#[tokio::test]
async fn metrics_count_the_regular_fetchers_without_naming_them() {
    let home = Home::new();
    let app = home.open().await;
    for _ in 0..4 {
        for name in ["payments", "billing"] {
            fetch(&app, name).await;
        }
        home.clock.advance(2);
        app.rotator().tick().await.expect("a visit");
    }
    app.fetchers.exchange(&app.store, app.clock.now()).await.expect("stored");

    let text = app.render_metrics();

    for line in ["keywheel_fetchers_regular 2", "keywheel_fetchers_holding_next{alg=\"ES256\"} 2"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("payments"));
}

/// Lets 200 seconds go by: `fast` fetches every 4 s, `slow` when it is said. Gives the key that was planned to sign at
/// [`PLANNED`], and who lacked it shortly before.
async fn live(home: &Home, app: &Arc<App>, slow: &[i64]) -> (KeyRecord, Vec<String>) {
    let policy = &app.config.keys.rotation;
    let (mut key, mut missing): (Option<KeyRecord>, _) = (None, Vec::new());
    for second in 0..200 {
        if second % 4 == 0 {
            fetch(app, "fast").await;
        }
        if slow.contains(&second) {
            fetch(app, "slow").await;
        }
        app.fetchers.exchange(&app.store, app.clock.now()).await.expect("stored");
        app.rotator().tick().await.expect("a visit");
        if second == 172 {
            let now = app.clock.now();
            let next = app.keys.with_ring(|ring| next_key(ring, Algorithm::ES256, now).cloned()).expect("a standby");
            let rows = app.fetchers.rows();
            let lacking = Coverage::of(&next, &rows, policy, now).missing;
            missing = lacking.iter().map(|fetcher| fetcher.name.clone()).collect();
            key = Some(next);
        }
        home.clock.advance(1);
    }
    let kid = key.expect("a standby").kid;
    (app.keys.with_ring(|ring| ring.key(&kid).expect("its row").clone()), missing)
}

async fn fetch(app: &Arc<App>, name: &str) {
    let request = Request::get(PATH).header("user-agent", format!("keywheel-verifier/0.1.0 ({name})"));
    assert_eq!(send(app, request.body(Body::empty()).expect("a request")).await.status(), StatusCode::OK);
}

/// After a set with keys of these places in the ring.
fn newest(serials: &[i64]) -> Arc<NewestKeys> {
    let rings = serials.iter().max().map(|serial| serde_json::json!({ "ES256": serial }));
    Arc::new(serde_json::from_value(rings.expect("a serial")).expect("newest keys"))
}

/// The fourth key's turn: the first began four seconds before the start.
const PLANNED: i64 = START + 176;
const WAITING: &str = "algorithms = [\"ES256\"]\nhold_for_coverage = \"20s\"";
