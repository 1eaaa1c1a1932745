//! Users, what they consented to, and how often somebody tried to be one.

use std::time::Duration;

use serde_json::json;

use super::fixtures::{all, eight, from, session, signed_in, stored_user, told, user};
use super::{Place, at, by, by_at};
use crate::storage::{
    Attempt, AuditVerdict, Consent, SessionStart, Store, ThrottlePolicy, UserChange, UserInsert, UserUpdate,
};
use crate::users::{CURRENT_PREFIX, NewUser, PasswordHash, Rights, User};

async fn by_login(store: &Store, login: &str) -> Option<String> {
    store.user_by_login(login).await.expect("answered").map(|user| user.id)
}

/// What the audit log tells of, in order.
async fn acts(store: &Store) -> Vec<String> {
    store.load_audit(99).await.expect("the log").into_iter().map(|row| row.act).collect()
}

async fn by_id(store: &Store, id: &str) -> User {
    store.user_by_id(id).await.expect("answered").expect("a user")
}

async fn insert(store: &Store, users: &[NewUser]) -> UserInsert {
    store.insert_users(users, &by()).await.expect("answered")
}

async fn a_user_is_read_as_they_were_stored(place: Place) {
    let store = place.open().await;
    let new = user("Alice");

    store.insert_users(std::slice::from_ref(&new), &by_at(7)).await.expect("stored");

    let expected = User {
        id: new.id.clone(),
        username: new.username,
        email: new.email,
        email_verified: true,
        claims: new.claims,
        roles: new.roles,
        groups: new.groups,
        rights: new.rights,
        password_hash: new.password_hash,
        disabled: false,
        declared: false,
        created_at: at(7),
        updated_at: at(7),
        password_changed_at: Some(at(7)),
    };
    assert_eq!(by_id(&store, &new.id).await, expected);
    assert_eq!(store.user_by_login("ＡＬＩＣＥ").await.expect("answered").as_ref(), Some(&expected));
    assert_eq!(store.user_by_login("alice@EXAMPLE.com").await.expect("answered"), Some(expected));
    assert_eq!(store.user_by_id("none").await.expect("answered"), None);
    assert_eq!(by_login(&store, "id-of-Alice").await, None);
}

async fn a_user_without_address_and_password_is_one_too(place: Place) {
    let store = place.open().await;
    let bare = |name: &str| NewUser { email: None, password_hash: None, ..user(name) };

    assert_eq!(insert(&store, &[bare("alice"), bare("bob")]).await, UserInsert::Inserted);

    let alice = by_id(&store, "id-of-alice").await;
    assert_eq!((alice.email, alice.password_hash, alice.password_changed_at), (None, None, None));
}

async fn a_name_is_one_users_whether_it_is_a_user_name_or_an_address(place: Place) {
    let store = place.open().await;
    stored_user(&store, "alice").await;
    let other = |username: &str, email: &str| NewUser {
        id: "other".to_owned(),
        username: username.to_owned(),
        email: Some(email.to_owned()),
        ..user("other")
    };

    for username in ["Alice", "ＡLICE", "ALICE@example.com"] {
        let taken = insert(&store, &[other(username, "x@example.com")]).await;
        assert_eq!(taken, UserInsert::UsernameTaken(username.to_owned()));
    }
    for email in ["Alice@Example.com", "alice"] {
        assert_eq!(insert(&store, &[other("x", email)]).await, UserInsert::EmailTaken(email.to_owned()));
    }
    let both = [user("bob"), other("alice", "x@example.com")];
    assert_eq!(insert(&store, &both).await, UserInsert::UsernameTaken("alice".to_owned()));
    assert_eq!(by_login(&store, "bob").await, None, "together or not at all");
    assert_eq!(insert(&store, &[other("x@example.com", "X@example.com")]).await, UserInsert::Inserted, "one's own");
    assert_eq!(acts(&store).await, ["user.added", "user.added"]);
}

async fn of_eight_that_take_a_name_one_gets_it(place: Place) {
    let stores = eight(&place).await;
    for round in 0..4 {
        let attempts = stores.iter().cloned().zip(0..).map(|(store, number): (_, u32)| {
            let (own, wanted) = (format!("user-{round}-{number}"), format!("wanted-{round}@example.com"));
            // Some want it as an address, some as a name, some as both.
            let (username, email) = match number % 3 {
                0 => (wanted.clone(), None),
                1 => (own.clone(), Some(wanted.clone())),
                _ => (wanted.clone(), Some(wanted.clone())),
            };
            let new = NewUser { username, email, ..user(&own) };
            async move { store.insert_users(&[new], &by()).await.expect("answered") }
        });
        let results = all(attempts.collect()).await;

        assert_eq!(results.iter().filter(|result| **result == UserInsert::Inserted).count(), 1, "{results:?}");
    }
    assert_eq!(stores[0].list_users(None, 99).await.expect("users").len(), 4);
    assert!(matches!(stores[0].verify_audit(None).await, Ok(AuditVerdict::Intact { .. })));
}

async fn two_that_take_each_others_names_do_not_wait_for_ever(place: Place) {
    let stores = eight(&place).await;
    let attempts = stores.iter().cloned().zip(0..).map(|(store, number): (_, u32)| {
        let (one, other) = ("a@example.com".to_owned(), "b@example.com".to_owned());
        let (username, email) = if number % 2 == 0 { (one, other) } else { (other, one) };
        let new = NewUser { username, email: Some(email), ..user(&format!("user-{number}")) };
        async move { store.insert_users(&[new], &by()).await.expect("answered") }
    });

    let results = all(attempts.collect()).await;

    assert_eq!(results.iter().filter(|result| **result == UserInsert::Inserted).count(), 1, "{results:?}");
}

async fn users_are_listed_by_name_and_page(place: Place) {
    let store = place.open().await;
    for name in ["carol", "Alice", "bob"] {
        stored_user(&store, name).await;
    }
    let page = async |after, limit| {
        let users = store.list_users(after, limit).await.expect("users");
        users.into_iter().map(|user| user.username).collect::<Vec<_>>()
    };

    assert_eq!(page(None, 2).await, ["Alice", "bob"]);
    assert_eq!(page(Some("bob"), 2).await, ["carol"]);
    assert_eq!(page(Some("BOB"), 9).await, ["carol"]);
    assert_eq!(page(Some("carol"), 2).await, [""; 0]);
}

async fn a_change_changes_what_it_names(place: Place) {
    let store = place.open().await;
    let id = stored_user(&store, "alice").await;
    let before = by_id(&store, &id).await;
    let update = async |change| store.update_user(&id, &change, &by_at(9)).await.expect("answered");

    let roles = Some(vec!["editor".to_owned()]);
    let change = UserChange { username: Some("Alicia".to_owned()), email: Some(None), roles, ..UserChange::default() };
    assert_eq!(update(change).await, UserUpdate::Updated);

    let expected = User {
        username: "Alicia".to_owned(),
        email: None,
        roles: vec!["editor".to_owned()],
        updated_at: at(9),
        ..before
    };
    assert_eq!(by_id(&store, &id).await, expected);
    assert_eq!(by_login(&store, "alicia").await, Some(id.clone()));
    for given_up in ["alice", "alice@example.com"] {
        assert_eq!(by_login(&store, given_up).await, None);
    }
    let next = NewUser { id: "next".to_owned(), ..user("alice") };
    assert_eq!(insert(&store, &[next]).await, UserInsert::Inserted, "the names are free");
    let rest = UserChange {
        email: Some(Some("new@example.com".to_owned())),
        email_verified: Some(false),
        claims: json!({ "name": "A" }).as_object().cloned(),
        groups: Some(Vec::new()),
        ..UserChange::default()
    };
    assert_eq!(update(rest).await, UserUpdate::Updated);
    let after = by_id(&store, &id).await;
    assert_eq!((after.email.as_deref(), after.email_verified, after.groups), (Some("new@example.com"), false, vec![]));
    assert_eq!(serde_json::Value::from(after.claims), json!({ "name": "A" }));
    let told = store.load_audit(1).await.expect("an entry").remove(0);
    assert_eq!(told.act, "user.changed");
    assert!(told.details.contains("claims") && !told.details.contains("example.com"), "{}", told.details);
}

async fn a_change_takes_no_name_of_somebody_else(place: Place) {
    let store = place.open().await;
    let id = stored_user(&store, "alice").await;
    stored_user(&store, "bob").await;
    let before = by_id(&store, &id).await;
    let update = async |id: &str, change| store.update_user(id, &change, &by()).await.expect("answered");
    let name = UserChange { username: Some("BOB".to_owned()), ..UserChange::default() };
    let address = UserChange { email: Some(Some("bob@example.com".to_owned())), ..UserChange::default() };

    assert_eq!(update(&id, name.clone()).await, UserUpdate::UsernameTaken("BOB".to_owned()));
    assert_eq!(update(&id, address).await, UserUpdate::EmailTaken("bob@example.com".to_owned()));
    assert_eq!(update("none", name).await, UserUpdate::Unknown);
    assert_eq!(by_id(&store, &id).await, before);
    assert_eq!(by_login(&store, "alice").await, Some(id));
}

async fn changes_of_different_things_at_once_both_stand(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let id = stored_user(&one, "alice").await;
    for round in 0..8 {
        let roles = UserChange { roles: Some(vec![format!("role-{round}")]), ..UserChange::default() };
        let groups = UserChange { groups: Some(vec![format!("group-{round}")]), ..UserChange::default() };
        let by = by();

        let (first, second) = tokio::join!(one.update_user(&id, &roles, &by), other.update_user(&id, &groups, &by));

        assert_eq!([first.expect("answered"), second.expect("answered")], [UserUpdate::Updated, UserUpdate::Updated]);
        let after = by_id(&one, &id).await;
        assert_eq!((after.roles, after.groups), (roles.roles.expect("roles"), groups.groups.expect("groups")));
    }
}

async fn a_password_is_set_and_hashed_anew_unless_it_changed(place: Place) {
    let store = place.open().await;
    let id = stored_user(&store, "alice").await;
    let hash = |text: &str| PasswordHash::new(text.to_owned());
    let stored = async || {
        let user = by_id(&store, &id).await;
        (user.password_hash, user.password_changed_at)
    };

    assert!(store.set_password(&id, Some(&hash("new")), &by_at(9)).await.expect("answered"));
    assert_eq!(stored().await, (Some(hash("new")), Some(at(9))));
    assert!(!store.rehash_password(&id, &hash("old"), &hash("thief")).await.expect("answered"));
    assert!(store.rehash_password(&id, &hash("new"), &hash("stronger")).await.expect("answered"));
    assert_eq!(stored().await, (Some(hash("stronger")), Some(at(9))), "it is the same password");
    assert!(store.set_password(&id, None, &by_at(10)).await.expect("answered"));
    assert_eq!(stored().await, (None, Some(at(10))));
    assert!(!store.set_password("none", None, &by()).await.expect("answered"));
    let log = store.load_audit(9).await.expect("the log");
    assert!(log.iter().all(|row| !row.details.contains("new") && !row.details.contains("stronger")));
    assert_eq!(acts(&store).await, ["user.added", "user.password_set", "user.password_removed"]);
}

async fn of_two_that_hash_a_password_anew_one_does(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let id = stored_user(&one, "alice").await;
    let hash = |text: &str| PasswordHash::new(text.to_owned());
    let (old, mine, yours) = (hash("$argon2id$of-alice"), hash("mine"), hash("yours"));

    let (first, second) = tokio::join!(one.rehash_password(&id, &old, &mine), other.rehash_password(&id, &old, &yours));

    assert_eq!([first.expect("answered"), second.expect("answered")].iter().filter(|done| **done).count(), 1);
}

async fn a_user_is_disabled_enabled_and_removed(place: Place) {
    let store = place.open().await;
    let (id, sid) = signed_in(&store, "alice", 1).await;

    let ended = store.disable_user(&id, &[], &by()).await.expect("answered").expect("a user");
    assert_eq!(ended.iter().map(|session| session.sid.as_str()).collect::<Vec<_>>(), [sid]);
    assert!(by_id(&store, &id).await.disabled);
    assert!(store.enable_user(&id, &by()).await.expect("answered"));
    assert!(!store.enable_user(&id, &by()).await.expect("answered"));
    assert_eq!(store.session(&[1; 32], at(1001)).await.expect("answered"), None, "signing in is up to them");
    let started = store.create_session(&session(&id, 2), None, &[]).await.expect("answered");
    assert!(matches!(started, SessionStart::Started { .. }));
    store.give_consent(&id, "shop", &["a".to_owned()], &from(1)).await.expect("stored");
    assert_eq!(store.remove_user(&id, &[], &by()).await.expect("answered").expect("a user").len(), 1);

    assert_eq!(store.remove_user(&id, &[], &by()).await.expect("answered"), None);
    assert_eq!(store.disable_user(&id, &[], &by()).await.expect("answered"), None);
    assert_eq!(store.consents_of_user(&id).await.expect("answered"), []);
    assert_eq!(stored_user(&store, "alice").await, id, "the names are free");
    let expected = ["user.added", "user.disabled", "user.enabled", "user.removed", "user.added"];
    assert_eq!(acts(&store).await, expected);
}

async fn declared_users_are_what_the_configuration_says(place: Place) {
    let store = place.open().await;
    let kept = stored_user(&store, "bob").await;
    let declare = async |users: &[NewUser]| store.declare_users(users, &[], &by_at(9)).await.expect("answered");
    let bob = NewUser { id: "not-used".to_owned(), roles: vec!["boss".to_owned()], ..user("Bob") };
    let alice = user("alice");

    for _ in 0..2 {
        assert_eq!(declare(&[bob.clone(), alice.clone()]).await, UserInsert::Inserted);
    }
    let found = by_id(&store, &kept).await;
    assert_eq!((found.username.as_str(), found.declared, found.roles), ("Bob", true, bob.roles.clone()));
    assert_eq!(found.password_changed_at, Some(at(9)), "it got another password");
    assert_eq!(acts(&store).await, ["user.added", "user.declared", "user.declared"], "the second time changed nothing");

    // Alice is renamed and keeps the address.
    store.create_session(&session(&alice.id, 1), None, &[]).await.expect("stored");
    let alicia = NewUser { email: alice.email.clone(), ..user("alicia") };
    assert_eq!(declare(&[bob.clone(), alicia]).await, UserInsert::Inserted);
    assert!(by_id(&store, &alice.id).await.disabled);
    assert_eq!(store.session(&[1; 32], at(1001)).await.expect("answered"), None);
    assert_eq!(by_login(&store, "alice@example.com").await.as_deref(), Some("id-of-alicia"));

    // And comes back, while the two others exchange their addresses.
    let swapped = |name: &str, email: &str| NewUser { email: Some(email.to_owned()), ..user(name) };
    let swapped = [
        swapped("bob", "alice@example.com"),
        swapped("alicia", "bob@example.com"),
        swapped("alice", "third@example.com"),
    ];
    assert_eq!(declare(&swapped).await, UserInsert::Inserted);
    assert!(!by_id(&store, &alice.id).await.disabled);
    assert_eq!(by_login(&store, "alice@example.com").await, Some(kept.clone()));
    let last = store.load_audit(99).await.expect("the log").len();
    assert_eq!(last, 8);
}

async fn rights_are_read_as_they_were_stored_and_changed(place: Place) {
    let store = place.open().await;
    let scopes = vec!["invoices:write".to_owned()];
    let roles = vec!["manager".to_owned(), "clerk".to_owned()];
    let rights = Rights { scopes, client_roles: [("shop".to_owned(), roles)].into() };
    let alice = NewUser { rights: rights.clone(), ..user("alice") };
    insert(&store, &[alice.clone(), user("bob")]).await;
    let update = async |change| store.update_user(&alice.id, &change, &by_at(9)).await.expect("answered");

    assert_eq!(by_id(&store, &alice.id).await.rights, rights);
    let listed = store.list_users(None, 9).await.expect("users").into_iter().map(|user| user.rights);
    assert_eq!(listed.collect::<Vec<_>>(), [rights.clone(), Rights::default()]);
    update(UserChange { email_verified: Some(false), ..UserChange::default() }).await;
    assert_eq!(by_id(&store, &alice.id).await.rights, rights, "not named");
    let fewer = Rights { scopes: Vec::new(), ..rights };
    update(UserChange { rights: Some(fewer.clone()), ..UserChange::default() }).await;
    assert_eq!(by_id(&store, &alice.id).await.rights, fewer);
    let told = store.load_audit(1).await.expect("the log").remove(0);
    assert!(told.details.contains(r#""changed":["scopes"]"#), "{}", told.details);

    let declared = |rights: &Rights| NewUser { rights: rights.clone(), ..user("bob") };
    for rights in [fewer, Rights::default()] {
        store.declare_users(&[declared(&rights)], &[], &by()).await.expect("answered");
        assert_eq!(by_id(&store, "id-of-bob").await.rights, rights);
    }
}

async fn a_declared_hash_does_not_replace_what_was_made_of_it(place: Place) {
    let store = place.open().await;
    let hash = |text: &str| PasswordHash::new(text.to_owned());
    let declare = async |text: &str, seconds| {
        let alice = NewUser { password_hash: Some(hash(text)), ..user("alice") };
        store.declare_users(&[alice], &[], &by_at(seconds)).await.expect("answered");
        let alice = by_id(&store, "id-of-alice").await;
        (alice.password_hash.expect("a hash").expose().to_owned(), alice.password_changed_at)
    };

    assert_eq!(declare("$2b$one", 1).await, ("$2b$one".to_owned(), Some(at(1))));
    assert!(store.rehash_password("id-of-alice", &hash("$2b$one"), &hash("$argon2id$one")).await.expect("answered"));
    assert_eq!(declare("$2b$one", 2).await, ("$argon2id$one".to_owned(), Some(at(1))));
    assert_eq!(acts(&store).await, ["user.declared"], "nothing has changed");
    assert_eq!(declare("$2b$two", 3).await, ("$2b$two".to_owned(), Some(at(3))), "another one does");
    assert_eq!(declare("$2b$one", 4).await, ("$2b$one".to_owned(), Some(at(4))), "and so does the one of before");
    for _ in 0..2 {
        let alice = NewUser { password_hash: None, ..user("alice") };
        store.declare_users(&[alice], &[], &by_at(5)).await.expect("answered");
        assert_eq!(by_id(&store, "id-of-alice").await.password_hash, None);
    }
}

async fn hashes_from_elsewhere_are_found_page_by_page(place: Place) {
    let store = place.open().await;
    let with = |name: &str, hash: Option<&str>| NewUser {
        password_hash: hash.map(|hash| PasswordHash::new(hash.to_owned())),
        ..user(name)
    };
    let own = format!("{CURRENT_PREFIX}c2FsdA$ZGlnZXN0");
    let users = [
        with("alice", Some("$2b$12$alice")),
        with("bob", None),
        with("carol", Some(&own)),
        with("dave", Some("$argon2id$v=19$m=65536,t=3,p=4$dave")),
    ];
    insert(&store, &users).await;
    let page = async |after, limit| {
        let page = store.foreign_hashes(after, limit).await.expect("answered");
        page.into_iter().map(|(id, hash)| format!("{id} {}", hash.expose())).collect::<Vec<_>>()
    };

    assert_eq!(page(None, 1).await, ["id-of-alice $2b$12$alice"]);
    assert_eq!(page(Some("id-of-alice"), 9).await, ["id-of-dave $argon2id$v=19$m=65536,t=3,p=4$dave"]);
    assert_eq!(page(Some("id-of-dave"), 9).await, [""; 0]);
}

async fn a_declared_user_takes_no_name_of_somebody_else(place: Place) {
    let store = place.open().await;
    stored_user(&store, "alice").await;
    let other = NewUser { email: Some("ALICE@example.com".to_owned()), ..user("bob") };

    let answer = store.declare_users(&[other], &[], &by()).await.expect("answered");

    assert_eq!(answer, UserInsert::EmailTaken("ALICE@example.com".to_owned()));
    assert_eq!(by_login(&store, "bob").await, None);
}

async fn replicas_that_start_together_declare_each_user_once(place: Place) {
    let stores = eight(&place).await;

    let starts = stores.iter().cloned().zip(0..).map(|(store, number): (_, u32)| async move {
        // Each has made ids of its own, and found the users in another order.
        let mut users = ["alice", "bob", "carol"].map(|name| NewUser { id: format!("{name}-{number}"), ..user(name) });
        users.rotate_left(number as usize % 3);
        store.declare_users(&users, &[], &by()).await.expect("answered")
    });
    let results = all(starts.collect()).await;

    assert!(results.iter().all(|result| *result == UserInsert::Inserted), "{results:?}");
    assert_eq!(stores[0].list_users(None, 99).await.expect("users").len(), 3);
    assert_eq!(acts(&stores[0]).await, ["user.declared"; 3]);
}

async fn consents_add_up_until_they_are_withdrawn(place: Place) {
    let store = place.open().await;
    let alice = stored_user(&store, "alice").await;
    let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let give = async |client: &str, names: &[&str], seconds| {
        store.give_consent(&alice, client, &scopes(names), &from(seconds)).await.expect("answered")
    };

    assert_eq!(store.consent(&alice, "shop").await.expect("answered"), None);
    assert!(give("shop", &["openid", "email"], 1).await);
    assert!(give("shop", &["profile", "openid"], 2).await);
    assert!(give("blog", &[], 3).await);

    assert_eq!(store.consent(&alice, "shop").await.expect("answered"), Some(scopes(&["email", "openid", "profile"])));
    assert_eq!(store.consent(&alice, "blog").await.expect("answered"), Some(vec![]), "nothing is an answer too");
    let shop =
        Consent { client_id: "shop".to_owned(), scopes: scopes(&["email", "openid", "profile"]), given_at: at(2) };
    let blog = Consent { client_id: "blog".to_owned(), scopes: vec![], given_at: at(3) };
    assert_eq!(store.consents_of_user(&alice).await.expect("answered"), [blog, shop]);
    assert!(store.withdraw_consent(&alice, "shop", &from(4)).await.expect("answered"));
    assert!(!store.withdraw_consent(&alice, "shop", &from(4)).await.expect("answered"));
    assert_eq!(store.consent(&alice, "shop").await.expect("answered"), None);
    assert!(!store.give_consent("nobody", "shop", &[], &from(5)).await.expect("answered"));
    assert_eq!(told(&store).await, ["consent.given", "consent.given", "consent.given", "consent.withdrawn"]);
}

async fn of_eight_consents_at_once_none_is_lost(place: Place) {
    let stores = eight(&place).await;
    let alice = stored_user(&stores[0], "alice").await;

    let attempts =
        stores.iter().cloned().zip(0..).map(|(store, number): (_, u32)| {
            let alice = alice.clone();
            async move {
                store.give_consent(&alice, "shop", &[format!("scope-{number}")], &from(1)).await.expect("answered")
            }
        });
    all(attempts.collect()).await;

    let expected: Vec<String> = (0..8).map(|number| format!("scope-{number}")).collect();
    assert_eq!(stores[0].consent(&alice, "shop").await.expect("answered"), Some(expected));
}

const THROTTLE: ThrottlePolicy = ThrottlePolicy {
    free: 3,
    first_wait: Duration::from_secs(10),
    longest_wait: Duration::from_secs(30),
    forget_after: Duration::from_secs(600),
};

async fn attempt(store: &Store, seconds: i64) -> Attempt {
    store.spend_attempt(&[1; 32], at(seconds), &THROTTLE).await.expect("answered")
}

async fn attempts_beyond_the_free_ones_wait_ever_longer(place: Place) {
    let store = place.open().await;

    for (seconds, failures) in [(1000, 1), (1000, 2), (1000, 3), (1000, 4)] {
        assert_eq!(attempt(&store, seconds).await, Attempt::Allowed { failures });
    }
    assert_eq!(attempt(&store, 1009).await, Attempt::Blocked { until: at(1010) });
    assert_eq!(store.blocked_until(&[1; 32], at(1009)).await.expect("answered"), Some(at(1010)));
    assert_eq!(store.blocked_until(&[1; 32], at(1010)).await.expect("answered"), None);
    assert_eq!(store.blocked_until(&[2; 32], at(1009)).await.expect("answered"), None, "another account");
    assert_eq!(attempt(&store, 1010).await, Attempt::Allowed { failures: 5 });
    assert_eq!(attempt(&store, 1029).await, Attempt::Blocked { until: at(1030) });
    assert_eq!(attempt(&store, 1030).await, Attempt::Allowed { failures: 6 });
    assert_eq!(attempt(&store, 1059).await, Attempt::Blocked { until: at(1060) }, "the longest");
    assert_eq!(attempt(&store, 1630).await, Attempt::Allowed { failures: 1 }, "all is forgotten");
}

async fn a_success_forgets_the_attempts(place: Place) {
    let store = place.open().await;
    for _ in 0..4 {
        attempt(&store, 1000).await;
    }

    store.clear_attempts(&[1; 32]).await.expect("cleared");

    assert_eq!(attempt(&store, 1001).await, Attempt::Allowed { failures: 1 });
}

async fn of_many_attempts_at_once_the_free_ones_are_made(place: Place) {
    let stores = eight(&place).await;

    let attempts = (0..4).flat_map(|_| stores.iter().cloned()).map(|store| async move { attempt(&store, 1000).await });
    let results = all(attempts.collect()).await;

    let mut allowed: Vec<u32> = results
        .iter()
        .filter_map(|result| match result {
            Attempt::Allowed { failures } => Some(*failures),
            Attempt::Blocked { until } => {
                assert_eq!(*until, at(1010));
                None
            }
        })
        .collect();
    allowed.sort_unstable();
    assert_eq!(allowed, [1, 2, 3, 4]);
}

on_both!(
    a_user_is_read_as_they_were_stored,
    a_user_without_address_and_password_is_one_too,
    a_name_is_one_users_whether_it_is_a_user_name_or_an_address,
    of_eight_that_take_a_name_one_gets_it,
    two_that_take_each_others_names_do_not_wait_for_ever,
    users_are_listed_by_name_and_page,
    a_change_changes_what_it_names,
    a_change_takes_no_name_of_somebody_else,
    changes_of_different_things_at_once_both_stand,
    a_password_is_set_and_hashed_anew_unless_it_changed,
    of_two_that_hash_a_password_anew_one_does,
    a_user_is_disabled_enabled_and_removed,
    declared_users_are_what_the_configuration_says,
    rights_are_read_as_they_were_stored_and_changed,
    a_declared_hash_does_not_replace_what_was_made_of_it,
    hashes_from_elsewhere_are_found_page_by_page,
    a_declared_user_takes_no_name_of_somebody_else,
    replicas_that_start_together_declare_each_user_once,
    consents_add_up_until_they_are_withdrawn,
    of_eight_consents_at_once_none_is_lost,
    attempts_beyond_the_free_ones_wait_ever_longer,
    a_success_forgets_the_attempts,
    of_many_attempts_at_once_the_free_ones_are_made,
);
