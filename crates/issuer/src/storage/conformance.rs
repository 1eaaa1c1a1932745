//! Every [`Store`] method, on SQLite and on a real PostgreSQL: the same behaviour, two callers racing included.
//!
//! `cargo xtask test` starts the PostgreSQL and names it in `KEYWHEEL_TEST_POSTGRES`; each test makes a database of its
//! own on it.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use keywheel_jose::{Algorithm, PublicJwk, Timestamp};
use keywheel_keyring::{AgesInUse, KeyRecord};
use sqlx::Executor as _;

use super::{
    AuditVerdict, BackupError, By, ClientInsert, Generations, KeyChange, KeysApplied, NewKey, Restored, Store,
    WhenMissing,
};
use crate::clients::{Authentication, Client, SecretMethod};
use crate::config::Database;
use crate::edges::Author;
use crate::keys::coverage::{Fetcher, HeldKey, Hold, Move};
use crate::keys::material::PrivateKey;

/// Where a test keeps its rows: dropped with it.
struct Place {
    database: Database,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::parse(&format!("sqlite://{}/k.db", folder.path().display())).expect("an address");
        Self { database, _folder: Some(folder) }
    }

    async fn postgres() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test command says where its PostgreSQL is")]
        let server = std::env::var("KEYWHEEL_TEST_POSTGRES");
        let server = server.expect("no PostgreSQL to test with: run `cargo xtask test`, which starts one");
        let name = format!("conformance_{}", hex(&random()));
        let maker = sqlx::PgPool::connect(&server).await.expect("PostgreSQL answers");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        maker.execute(create).await.expect("a database is made");
        maker.close().await;
        let (address, _) = server.rsplit_once('/').expect("an address with a database");
        Self { database: Database::parse(&format!("{address}/{name}")).expect("an address"), _folder: None }
    }

    async fn open(&self) -> Store {
        Store::open(&self.database, WhenMissing::Create).await.expect("opened")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    crate::edges::Edges::system().entropy.fill(&mut bytes).expect("randomness");
    bytes
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

fn by_at(seconds: i64) -> By {
    By::new(&Author::operator(), at(seconds))
}

fn by() -> By {
    by_at(1)
}

fn new_key(serial: i64) -> NewKey {
    let key = PrivateKey::generate(Algorithm::ES256, 2048).expect("a key");
    let record = KeyRecord {
        kid: key.jwk.thumbprint(),
        alg: Algorithm::ES256,
        serial,
        jwk: key.jwk,
        created_at: at(100),
        publish_at: at(200),
        sign_from: at(300),
        max_ttl: Duration::from_secs(10),
        clock_skew: Duration::from_secs(2),
        revoked_at: None,
        has_private: true,
    };
    NewKey { record, sealed_private: vec![1, 2, 0, 255] }
}

fn insert(key: NewKey) -> KeyChange {
    KeyChange::Insert(Box::new(key))
}

/// Stores one key and returns its row.
async fn stored(store: &Store, serial: i64) -> KeyRecord {
    let key = new_key(serial);
    let record = key.record.clone();
    assert_eq!(store.change_keys(&[insert(key)], &by()).await.expect("stored"), KeysApplied::Done);
    record
}

async fn only(store: &Store) -> super::StoredKey {
    let mut keys = store.load_keys().await.expect("keys");
    assert_eq!(keys.len(), 1);
    keys.remove(0)
}

fn client(id: &str) -> Client {
    let sha256 = digest(&SHA256, id.as_bytes()).as_ref().try_into().expect("32 bytes");
    Client {
        name: Some("Ünïcode 'quoted'".to_owned()),
        scopes: vec!["a".to_owned(), "b:c".to_owned()],
        audiences: vec!["https://api.example.com".to_owned()],
        access_token_alg: Some(Algorithm::EdDSA),
        created_at: Some(at(7)),
        ..Client::new(id, Authentication::Secret { sha256, method: Some(SecretMethod::Post) })
    }
}

async fn a_key_is_read_as_it_was_stored(place: Place) {
    let store = place.open().await;
    let record = stored(&store, 1).await;

    let read = only(&store).await;

    assert_eq!(read.record, record);
    assert_eq!(read.sealed_private.as_deref(), Some([1, 2, 0, 255].as_slice()));
    assert_eq!(read.revoked_reason, None);
}

async fn a_place_in_a_ring_is_taken_once(place: Place) {
    let store = place.open().await;
    let record = stored(&store, 1).await;

    // The first of the two would fit; it goes with the second, which does not.
    let both = [insert(new_key(2)), insert(new_key(1))];

    assert_eq!(store.change_keys(&both, &by()).await.expect("answered"), KeysApplied::Raced);
    assert_eq!(only(&store).await.record, record);
}

async fn of_two_processes_at_once_one_makes_the_next_key(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    for serial in 1..=10 {
        let (mine, yours) = ([insert(new_key(serial))], [insert(new_key(serial))]);

        let by = by();
        let (first, second) = tokio::join!(one.change_keys(&mine, &by), other.change_keys(&yours, &by));

        let outcomes = [first.expect("answered"), second.expect("answered")];
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == KeysApplied::Done).count(), 1, "{outcomes:?}");
    }
    assert_eq!(one.load_keys().await.expect("keys").len(), 10);
}

async fn dates_move_only_one_way(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;
    let change = async |change: KeyChange| {
        store.change_keys(&[change], &by()).await.expect("changed");
        let record = only(&store).await.record;
        (record.publish_at.as_unix(), record.sign_from.as_unix())
    };
    let publish = |seconds| KeyChange::PublishEarlier { kid: kid.clone(), publish_at: at(seconds) };
    let postpone =
        |planned, sign_from| KeyChange::Postpone { kid: kid.clone(), planned: at(planned), sign_from: at(sign_from) };
    let forward = |publish_at, sign_from| KeyChange::BringForward {
        kid: kid.clone(),
        publish_at: at(publish_at),
        sign_from: at(sign_from),
    };

    assert_eq!(change(publish(250)).await, (200, 300), "not later");
    assert_eq!(change(publish(150)).await, (150, 300));
    assert_eq!(change(postpone(299, 400)).await, (150, 300), "somebody moved it meanwhile");
    assert_eq!(change(postpone(300, 400)).await, (150, 400));
    assert_eq!(change(forward(160, 500)).await, (150, 400), "not later");
    assert_eq!(change(forward(140, 350)).await, (140, 350));
}

async fn promises_only_grow(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;
    let raise = |ttl, skew| KeyChange::Raise {
        kid: kid.clone(),
        max_ttl: Duration::from_secs(ttl),
        clock_skew: Duration::from_secs(skew),
    };

    store.change_keys(&[raise(20, 1)], &by()).await.expect("raised");
    store.change_keys(&[raise(15, 5)], &by()).await.expect("raised");

    let record = only(&store).await.record;
    assert_eq!((record.max_ttl.as_secs(), record.clock_skew.as_secs()), (20, 5));
}

async fn a_revocation_stands_as_it_was_first_made(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;
    let revoke = |seconds, reason: &str| KeyChange::Revoke {
        kid: kid.clone(),
        revoked_at: at(seconds),
        reason: Some(reason.to_owned()),
    };

    store.change_keys(&[revoke(500, "stolen")], &by()).await.expect("revoked");
    store.change_keys(&[revoke(600, "again")], &by()).await.expect("answered");

    let read = only(&store).await;
    assert_eq!(read.record.revoked_at, Some(at(500)));
    assert_eq!(read.revoked_reason.as_deref(), Some("stolen"));
}

async fn a_private_half_and_a_key_can_be_forgotten(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;

    store.change_keys(&[KeyChange::DestroyPrivate { kid: kid.clone() }], &by()).await.expect("destroyed");
    let without = only(&store).await;
    store.change_keys(&[KeyChange::Delete { kid }], &by()).await.expect("deleted");

    assert!(without.sealed_private.is_none() && !without.record.has_private);
    assert!(store.load_keys().await.expect("keys").is_empty());
}

async fn a_public_key_that_was_exchanged_is_noticed(place: Place) {
    let store = place.open().await;
    stored(&store, 1).await;
    let other = PublicJwk::ed25519(&[
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
        0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ]);
    let other = serde_json::to_string(&other.expect("the key of RFC 8037")).expect("JSON");
    sqlx::query("UPDATE signing_keys SET public_jwk = $1").bind(other).execute(&store.writer).await.expect("updated");

    let read = store.load_keys().await;

    assert!(matches!(read.err(), Some(super::StoreError::Row { .. })));
}

async fn clients_are_stored_together_or_not_at_all(place: Place) {
    let store = place.open().await;
    let (a, b) = (client("a"), client("b"));

    let first = store.insert_clients(std::slice::from_ref(&b), &by_at(7)).await.expect("answered");
    let second = store.insert_clients(&[a.clone(), b.clone()], &by_at(8)).await.expect("answered");

    assert_eq!((first, second), (ClientInsert::Done, ClientInsert::Taken("b".to_owned())));
    assert_eq!(store.load_clients().await.expect("clients"), [b]);
}

async fn of_two_processes_at_once_one_adds_a_client(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    for number in 0..10 {
        let clients = [client(&format!("client-{number}"))];

        let by = by_at(7);
        let (first, second) = tokio::join!(one.insert_clients(&clients, &by), other.insert_clients(&clients, &by));

        let outcomes = [first.expect("answered"), second.expect("answered")];
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == ClientInsert::Done).count(), 1, "{outcomes:?}");
    }
}

async fn a_client_gets_a_new_secret_and_goes(place: Place) {
    let store = place.open().await;
    store.insert_clients(&[client("a")], &by_at(7)).await.expect("stored");

    assert!(store.replace_client_secret("a", &[9; 32], &by()).await.expect("answered"));
    assert!(!store.replace_client_secret("b", &[9; 32], &by()).await.expect("answered"));
    assert_eq!(store.load_clients().await.expect("clients")[0].authentication.secret_sha256(), Some(&[9; 32]));
    assert!(store.remove_client("a", &by()).await.expect("answered"));
    assert!(!store.remove_client("a", &by()).await.expect("answered"));
    assert!(store.load_clients().await.expect("clients").is_empty());
}

async fn ages_in_use_are_stored_if_they_are_still_what_they_were(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let ages = |seconds, held_until| AgesInUse { ages: Duration::from_secs(seconds), held_until: at(held_until) };
    let (first, mine, yours) = (ages(5, 100), ages(6, 200), ages(7, 300));

    assert_eq!(one.load_ages().await.expect("answered"), None);
    let (one_first, other_first) = tokio::join!(one.renew_ages(None, first), other.renew_ages(None, first));
    assert_eq!([one_first.expect("answered"), other_first.expect("answered")].iter().filter(|done| **done).count(), 1);
    assert!(one.renew_ages(Some(first), mine).await.expect("answered"));
    assert!(!other.renew_ages(Some(first), yours).await.expect("answered"));
    assert_eq!(other.load_ages().await.expect("answered"), Some(mine));
}

async fn every_change_is_counted(place: Place) {
    let store = place.open().await;
    let generations = async || store.look().await.expect("a look").generations;

    assert_eq!(generations().await, Generations { keys: 0, clients: 0 });
    let kid = stored(&store, 1).await.kid;
    assert_eq!(generations().await, Generations { keys: 1, clients: 0 });
    store.insert_clients(&[client("a")], &by_at(7)).await.expect("stored");
    store.replace_client_secret("a", &[9; 32], &by()).await.expect("replaced");
    store.remove_client("a", &by()).await.expect("removed");
    assert_eq!(generations().await, Generations { keys: 1, clients: 3 });
    store.change_keys(&[insert(new_key(1))], &by()).await.expect("answered");
    assert_eq!(generations().await, Generations { keys: 1, clients: 3 }, "what was not stored does not count");
    store.change_keys(&[KeyChange::Delete { kid }], &by()).await.expect("deleted");
    assert_eq!(generations().await, Generations { keys: 2, clients: 3 });
}

async fn another_process_is_told_of_a_change(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    // Longer than the test may take: on PostgreSQL only a notification comes sooner.
    let mut changes = other.changes(Duration::from_secs(600));
    changes.next().await;
    let seen = async {
        while other.look().await.expect("a look").generations.keys == 0 {
            changes.next().await;
        }
    };
    let change = async {
        stored(&one, 1).await;
    };

    let both = async { tokio::join!(seen, change) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("the change is seen");
}

async fn many_that_start_together_make_the_schema_once(place: Place) {
    let opened = tokio::join!(place.open(), place.open(), place.open(), place.open());

    for store in [opened.0, opened.1, opened.2, opened.3] {
        assert_eq!(store.look().await.expect("a look").generations, Generations { keys: 0, clients: 0 });
    }
}

async fn the_clock_of_the_database_is_told_where_it_is_another_machines(place: Place) {
    let store = place.open().await;

    let clock_ms = store.look().await.expect("a look").clock_ms;

    let is_postgres = matches!(place.database, Database::Postgres { .. });
    assert_eq!(clock_ms.is_some(), is_postgres);
    // The server of the tests is on this machine.
    let now_ms = crate::edges::Edges::system().clock.now_ms();
    assert!(clock_ms.is_none_or(|clock_ms| (clock_ms - now_ms).abs() < 60_000));
}

async fn acts(store: &Store) -> Vec<String> {
    store
        .load_audit(100)
        .await
        .expect("the log")
        .into_iter()
        .map(|row| format!("{} {}", row.act, row.subject))
        .collect()
}

async fn a_change_and_its_entry_are_one(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;
    let raise = KeyChange::Raise { kid: kid.clone(), max_ttl: Duration::from_secs(1), clock_skew: Duration::ZERO };
    let revoke = KeyChange::Revoke { kid: kid.clone(), revoked_at: at(9), reason: Some("stolen".to_owned()) };

    store.change_keys(&[insert(new_key(1))], &by()).await.expect("the place is taken");
    store.change_keys(&[raise], &by()).await.expect("that much is promised already");
    store.change_keys(&[revoke], &by_at(9)).await.expect("revoked");
    store.insert_clients(&[client("a"), client("b")], &by_at(10)).await.expect("stored");
    store.insert_clients(&[client("c"), client("b")], &by_at(11)).await.expect("b is taken");
    store.replace_client_secret("c", &[9; 32], &by_at(11)).await.expect("there is no c");
    store.replace_client_secret("a", &[9; 32], &by_at(12)).await.expect("replaced");
    store.remove_client("c", &by_at(13)).await.expect("there is no c");
    store.remove_client("a", &by_at(13)).await.expect("removed");

    let expected = [
        format!("key.created {kid}"),
        format!("key.revoked {kid}"),
        "client.added a".to_owned(),
        "client.added b".to_owned(),
        "client.secret_rotated a".to_owned(),
        "client.removed a".to_owned(),
    ];
    assert_eq!(acts(&store).await, expected);
    let revoked = store.load_audit(5).await.expect("the log").remove(0);
    let author = Author::operator();
    assert_eq!((revoked.actor.as_str(), revoked.origin.as_str()), (author.actor(), author.origin()));
    assert_eq!((revoked.serial, revoked.at), (2, at(9)));
    assert_eq!(revoked.details, r#"{"reason":"stolen","revoked_at":9}"#);
    assert!(matches!(store.verify_audit(None).await, Ok(AuditVerdict::Intact { last: Some(_) })));
}

async fn the_log_of_many_writers_is_one_chain(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let keys = async {
        for serial in 1..=10 {
            stored(&one, serial).await;
        }
    };
    let clients = async {
        for number in 1..=10 {
            let added = other.insert_clients(&[client(&number.to_string())], &by()).await;
            assert_eq!(added.expect("stored"), ClientInsert::Done);
        }
    };

    tokio::join!(keys, clients);

    assert_eq!(acts(&one).await.len(), 20);
    assert!(matches!(one.verify_audit(None).await, Ok(AuditVerdict::Intact { last: Some(_) })));
}

async fn the_audit_log_refuses_to_be_changed(place: Place) {
    let store = place.open().await;
    stored(&store, 1).await;

    for statement in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        assert!(store.writer.execute(statement).await.is_err(), "{statement}");
    }
    if matches!(place.database, Database::Postgres { .. }) {
        assert!(store.writer.execute("TRUNCATE audit").await.is_err());
    }

    assert_eq!(acts(&store).await.len(), 1);
}

async fn tampering_with_the_audit_log_is_found(place: Place) {
    let fields = ["at = 5", "actor = 'x'", "origin = 'x'", "act = 'x'", "subject = 'x'", "details = '{ }'"];
    let alter = fields.map(|field| (format!("UPDATE audit SET {field} WHERE serial = 2"), 2));
    let others = [
        ("UPDATE audit SET previous_hash = hash WHERE serial = 2", 2),
        ("UPDATE audit SET hash = previous_hash WHERE serial = 2", 2),
        ("DELETE FROM audit WHERE serial = 1", 1),
        ("DELETE FROM audit WHERE serial = 2", 2),
        ("DELETE FROM audit WHERE serial = 4", 4),
        ("DELETE FROM audit WHERE serial > 0", 1),
        ("UPDATE audit SET serial = 9 WHERE serial = 4", 4),
    ];
    let statements = alter.into_iter().chain(others.map(|(statement, broken)| (statement.to_owned(), broken)));
    for (statement, broken) in statements {
        let store = place.open().await;
        let log = tampered(&store, &statement).await;
        assert!(matches!(log, AuditVerdict::Broken { serial, .. } if serial == broken), "{statement}: {log:?}");
        store.close().await;
    }
}

/// What is said of a log of four entries after `statement`. The log is put right again.
async fn tampered(store: &Store, statement: &str) -> AuditVerdict {
    drop_triggers(store).await;
    store.writer.execute("DELETE FROM audit").await.expect("emptied");
    store.writer.execute("UPDATE generations SET generation = 0 WHERE subject = 'audit'").await.expect("set back");
    for id in ["a", "b", "c", "d"] {
        store.insert_clients(&[client(id)], &by()).await.expect("stored");
    }
    assert!(matches!(store.verify_audit(None).await, Ok(AuditVerdict::Intact { .. })));
    store.writer.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect(statement);
    let verdict = store.verify_audit(None).await.expect("a verdict");
    store.writer.execute("DELETE FROM clients").await.expect("emptied");
    verdict
}

async fn drop_triggers(store: &Store) {
    for statement in [
        "DROP TRIGGER IF EXISTS audit_is_never_changed",
        "DROP TRIGGER IF EXISTS audit_is_never_deleted",
        "DROP TRIGGER IF EXISTS audit_is_append_only ON audit",
    ] {
        // Each database understands its own.
        let _ = store.writer.execute(statement).await;
    }
}

async fn a_log_made_anew_or_cut_off_is_found_by_what_was_noted_elsewhere(place: Place) {
    let store = place.open().await;
    for id in ["a", "b", "c"] {
        store.insert_clients(&[client(id)], &by()).await.expect("stored");
    }
    let Ok(AuditVerdict::Intact { last: Some(noted) }) = store.verify_audit(None).await else { panic!("whole") };
    drop_triggers(&store).await;
    store.writer.execute("DELETE FROM audit WHERE serial > 1").await.expect("cut off");
    store.writer.execute("UPDATE generations SET generation = 1 WHERE subject = 'audit'").await.expect("hidden");
    let unseen = store.verify_audit(None).await.expect("a verdict");
    let cut_off = store.verify_audit(Some(&noted)).await.expect("a verdict");
    for id in ["x", "y", "z"] {
        store.insert_clients(&[client(id)], &by()).await.expect("stored");
    }
    let made_anew = store.verify_audit(Some(&noted)).await.expect("a verdict");

    assert!(matches!(unseen, AuditVerdict::Intact { .. }), "{unseen:?}");
    assert!(matches!(cut_off, AuditVerdict::Broken { serial: 2, .. }), "{cut_off:?}");
    assert!(matches!(made_anew, AuditVerdict::Broken { serial: 3, .. }), "{made_anew:?}");
}

fn fetcher(name: &str, (first_seen, last_seen): (i64, i64), fetches: i64, newest: i64) -> Fetcher {
    let newest = serde_json::from_str(&format!("{{\"ES256\":{newest}}}")).expect("newest keys");
    Fetcher { name: name.to_owned(), first_seen: at(first_seen), last_seen: at(last_seen), fetches, newest }
}

async fn what_is_known_of_fetchers_adds_up(place: Place) {
    let store = place.open().await;

    for seen in [fetcher("a", (20, 30), 2, 7), fetcher("a", (10, 40), 3, 8), fetcher("a", (15, 35), 1, 5)] {
        store.save_fetchers(&[seen], at(0)).await.expect("stored");
    }

    assert_eq!(store.load_fetchers().await.expect("rows"), [fetcher("a", (10, 40), 6, 8)]);
    let quiet = store.look().await.expect("a look").generations;
    assert_eq!(quiet, Generations { keys: 0, clients: 0 }, "nobody has to look because of it");
}

async fn replicas_store_the_same_fetchers_at_once(place: Place) {
    let stores = [place.open().await, place.open().await];
    let seen: Vec<_> = (0..40).map(|number| fetcher(&format!("f{number:02}"), (1, 2), 1, 1)).collect();

    for _ in 0..5 {
        let (one, other) = tokio::join!(stores[0].save_fetchers(&seen, at(0)), stores[1].save_fetchers(&seen, at(0)));
        one.and(other).expect("both stored");
    }

    let rows = stores[0].load_fetchers().await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.fetches).collect::<Vec<_>>(), [10; 40]);
}

async fn fetchers_are_bounded_and_forgotten(place: Place) {
    let store = place.open().await;
    let old = [fetcher("regular", (1, 10), 3, 1), fetcher("gone", (1, 4), 100, 1)];
    let storm: Vec<_> = (0..1_100).map(|number| fetcher(&format!("invented-{number}"), (20, 20), 1, 1)).collect();

    store.save_fetchers(&old, at(0)).await.expect("stored");
    store.save_fetchers(&storm, at(5)).await.expect("stored");

    let kept: Vec<_> = store.load_fetchers().await.expect("rows").into_iter().map(|row| row.name).collect();
    assert!((999..=1_000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.contains(&"regular".to_owned()) && !kept.contains(&"gone".to_owned()));
}

fn hold(key: &KeyRecord, from: i64, until: i64) -> Hold {
    let (kid, planned) = (key.kid.clone(), at(300));
    let moves = vec![Move { kid: kid.clone(), from: at(from), to: at(until) }];
    let key = HeldKey { kid, planned, held_until: at(until) };
    Hold { key, alg: Algorithm::ES256, moves, latest: at(1_000), missing: "payments-7".to_owned() }
}

async fn a_key_that_is_put_off_remembers_when_it_was_planned(place: Place) {
    let store = place.open().await;
    let record = stored(&store, 1).await;

    for (from, until) in [(300, 350), (350, 400)] {
        let held = store.hold_key(&hold(&record, from, until), &by()).await.expect("stored");
        assert_eq!(held, KeysApplied::Done);
    }

    assert_eq!(only(&store).await.record.sign_from, at(400));
    let expected = HeldKey { kid: record.kid, planned: at(300), held_until: at(400) };
    assert_eq!(store.load_held_keys().await.expect("rows"), [expected]);
    let told = store.load_audit(1).await.expect("an entry").remove(0);
    assert_eq!(told.act, "key.held");
    assert!(told.details.contains("payments-7"), "{}", told.details);
    assert_eq!(store.look().await.expect("a look").generations.keys, 3);
}

async fn a_key_that_was_moved_or_revoked_meanwhile_is_not_put_off(place: Place) {
    let store = place.open().await;
    let record = stored(&store, 1).await;
    let next = stored(&store, 2).await;
    let mut together = hold(&record, 300, 350);
    together.moves.push(Move { kid: next.kid.clone(), from: at(299), to: at(360) });
    let revoke = KeyChange::Revoke { kid: next.kid.clone(), revoked_at: at(250), reason: None };
    store.change_keys(&[revoke], &by()).await.expect("revoked");

    for late in [hold(&record, 299, 350), hold(&next, 300, 350), together] {
        assert_eq!(store.hold_key(&late, &by()).await.expect("an answer"), KeysApplied::Raced);
    }

    let starts = store.load_keys().await.expect("keys").into_iter().map(|key| key.record.sign_from);
    assert_eq!(starts.collect::<Vec<_>>(), [at(300), at(300)], "all or nothing");
    assert_eq!(store.load_held_keys().await.expect("rows"), []);
}

async fn of_two_processes_at_once_one_puts_a_key_off(place: Place) {
    let stores = [place.open().await, place.open().await];
    let record = stored(&stores[0], 1).await;
    let (hold, by) = (hold(&record, 300, 350), by());

    let (one, other) = tokio::join!(stores[0].hold_key(&hold, &by), stores[1].hold_key(&hold, &by));

    let mut answers = [one.expect("an answer"), other.expect("an answer")];
    answers.sort_by_key(|answer| *answer == KeysApplied::Raced);
    assert_eq!(answers, [KeysApplied::Done, KeysApplied::Raced]);
    assert_eq!(only(&stores[0]).await.record.sign_from, at(350));
}

async fn only_sqlite_is_copied_by_us(place: Place) {
    let store = place.open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup.db");

    let result = store.backup(&file, &by()).await;

    match place.database {
        Database::Sqlite { .. } => result.expect("a copy"),
        Database::Postgres { .. } => {
            let refusal = result.expect_err("it has its own tools");
            assert!(matches!(refusal, BackupError::Postgres) && refusal.to_string().contains("pg_dump"));
        }
    }
    assert_eq!(file.exists(), matches!(place.database, Database::Sqlite { .. }));
}

async fn a_restored_database_is_settled_once(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    assert_eq!(one.restored().await.expect("a look"), None);
    one.mark_restored(&by()).await.expect("marked");
    assert_eq!(other.restored().await.expect("a look"), Some(Restored { backup_at: None }));

    let by = by();
    let (first, second) = ([insert(new_key(1))], [insert(new_key(2))]);
    let details = || serde_json::json!({});
    let (first, second) =
        tokio::join!(one.settle_restored(&first, details(), &by), other.settle_restored(&second, details(), &by));

    let mut results = [first.expect("answered"), second.expect("answered")];
    results.sort_by_key(|result| *result == KeysApplied::Raced);
    assert_eq!(results, [KeysApplied::Done, KeysApplied::Raced]);
    assert_eq!(one.restored().await.expect("a look"), None);
    assert_eq!(only(&one).await.record.alg, Algorithm::ES256);
    let acts: Vec<_> = one.load_audit(9).await.expect("the log").into_iter().map(|row| row.act).collect();
    assert_eq!(acts, ["database.marked_restored", "database.restored", "key.created"]);
}

async fn a_private_half_is_only_moved_as_it_was_read(place: Place) {
    let store = place.open().await;
    let kid = stored(&store, 1).await.kid;
    let rewrap = |from: &[u8], to: &[u8]| KeyChange::Rewrap {
        kid: kid.clone(),
        from: from.to_vec(),
        to: to.to_vec(),
        under: "x".to_owned(),
    };

    store.change_keys(&[rewrap(&[9], &[8])], &by()).await.expect("it is another one");
    assert_eq!(only(&store).await.sealed_private, Some(vec![1, 2, 0, 255]));
    store.change_keys(&[rewrap(&[1, 2, 0, 255], &[8])], &by()).await.expect("moved");

    assert_eq!(only(&store).await.sealed_private, Some(vec![8]));
    assert_eq!(acts(&store).await.len(), 2);
}

/// Rows as large as those of RSA keys, so that pages are split and joined while they come and go.
#[tokio::test]
async fn no_piece_of_a_destroyed_private_half_stays_in_a_file_of_sqlite() {
    let place = Place::sqlite().await;
    let store = place.open().await;
    let folder = place._folder.as_ref().expect("a folder").path();
    let mut secrets = Vec::new();
    for serial in 1..=60 {
        let mut key = new_key(serial);
        key.sealed_private = (0..100 + serial as usize * 7).flat_map(|_| random()).collect();
        secrets.push((key.record.kid.clone(), key.sealed_private.clone()));
        store.change_keys(&[insert(key)], &by()).await.expect("stored");
    }
    // Neither in the order they came nor in that of their pages.
    secrets.sort();

    for (number, (kid, secret)) in secrets.iter().enumerate() {
        let change = match number % 3 {
            0 => KeyChange::Delete { kid: kid.clone() },
            1 => KeyChange::DestroyPrivate { kid: kid.clone() },
            _ => KeyChange::Rewrap { kid: kid.clone(), from: secret.clone(), to: vec![7; 1_500], under: String::new() },
        };
        store.change_keys(&[change], &by()).await.expect("gone");
        if number % 10 != 9 {
            continue;
        }

        let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
        let bytes: Vec<u8> = files.flat_map(|file| std::fs::read(file).expect("read")).collect();
        let seen: std::collections::HashSet<&[u8]> = bytes.windows(16).collect();
        let piece_of = |secret: &[u8]| secret.windows(16).any(|piece| seen.contains(piece));
        assert!(!secrets[..=number].iter().any(|(_, secret)| piece_of(secret)), "{number}: a piece is left");
        assert!(secrets[number + 1..].iter().all(|(_, secret)| piece_of(secret)), "{number}: the others are seen");
    }
}

macro_rules! on_both {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Place::sqlite().await).await })*
        }
        mod postgres {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::Place::postgres().await).await })*
        }
    };
}

mod certificates;
mod clients;
mod fixtures;
mod people;
mod sessions;
mod tokens;

on_both!(
    a_key_is_read_as_it_was_stored,
    a_place_in_a_ring_is_taken_once,
    of_two_processes_at_once_one_makes_the_next_key,
    dates_move_only_one_way,
    promises_only_grow,
    a_revocation_stands_as_it_was_first_made,
    a_private_half_and_a_key_can_be_forgotten,
    a_public_key_that_was_exchanged_is_noticed,
    clients_are_stored_together_or_not_at_all,
    of_two_processes_at_once_one_adds_a_client,
    a_client_gets_a_new_secret_and_goes,
    ages_in_use_are_stored_if_they_are_still_what_they_were,
    every_change_is_counted,
    another_process_is_told_of_a_change,
    many_that_start_together_make_the_schema_once,
    the_clock_of_the_database_is_told_where_it_is_another_machines,
    only_sqlite_is_copied_by_us,
    a_restored_database_is_settled_once,
    a_private_half_is_only_moved_as_it_was_read,
    a_change_and_its_entry_are_one,
    the_log_of_many_writers_is_one_chain,
    the_audit_log_refuses_to_be_changed,
    tampering_with_the_audit_log_is_found,
    a_log_made_anew_or_cut_off_is_found_by_what_was_noted_elsewhere,
    what_is_known_of_fetchers_adds_up,
    replicas_store_the_same_fetchers_at_once,
    fetchers_are_bounded_and_forgotten,
    a_key_that_is_put_off_remembers_when_it_was_planned,
    a_key_that_was_moved_or_revoked_meanwhile_is_not_put_off,
    of_two_processes_at_once_one_puts_a_key_off,
);
