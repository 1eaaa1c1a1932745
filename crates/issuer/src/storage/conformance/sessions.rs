//! Sessions, their ends, the logouts that follow, and what is told of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixtures::{all, code, eight, from, grant, refresh_token, session, signed_in, stored_user, target, told};
use super::{Place, at, by};
use crate::storage::{
    EndedSession, EventKind, LogoutOutcome, NewEvent, NewGrant, NewSession, Session, SessionStart, Store,
};

async fn live(store: &Store, number: u8, seconds: i64) -> Option<Session> {
    store.session(&[number; 32], at(seconds)).await.expect("answered")
}

async fn a_session_is_read_as_it_was_stored(place: Place) {
    let store = place.open().await;
    let alice = stored_user(&store, "alice").await;
    let new = session(&alice, 1);

    let started = store.create_session(&new, None, &[]).await.expect("stored");

    assert_eq!(started, SessionStart::Started { sid: "sid-1".to_owned(), ended: None });
    let expected = Session {
        sid: new.sid,
        user_id: alice.clone(),
        auth_time: at(1000),
        amr: new.amr,
        acr: new.acr,
        persistent: true,
        created_at: at(1000),
        last_seen_at: at(1000),
        expires_at: at(5000),
        idle_expires_at: at(2000),
        user_agent: new.user_agent,
        address: new.address,
    };
    assert_eq!(live(&store, 1, 1500).await.as_ref(), Some(&expected));
    assert_eq!(store.session_by_sid("sid-1", at(1500)).await.expect("answered").as_ref(), Some(&expected));
    assert_eq!(store.sessions_of_user(&alice, at(1500)).await.expect("answered"), [expected]);
    assert_eq!(live(&store, 2, 1500).await, None);
}

async fn a_session_lives_while_it_is_used_up_to_its_end(place: Place) {
    let store = place.open().await;
    signed_in(&store, "alice", 1).await;
    let touch = async |seconds, until| store.touch_session("sid-1", at(seconds), at(until)).await.expect("answered");

    assert!(live(&store, 1, 1999).await.is_some());
    assert!(live(&store, 1, 2000).await.is_none(), "idle");
    assert!(!touch(2000, 3000).await);
    assert!(touch(1999, 9000).await);
    assert!(touch(1998, 2500).await, "a slower clock, which shortens nothing");
    let touched = live(&store, 1, 4999).await.expect("alive");
    assert_eq!((touched.last_seen_at, touched.idle_expires_at), (at(1999), at(9000)));
    assert!(live(&store, 1, 5000).await.is_none(), "over, however much it is used");
    assert!(!touch(5000, 9000).await);
    assert!(!store.touch_session("sid-9", at(1000), at(1001)).await.expect("answered"));
}

async fn a_session_is_used_by_apps_that_know_its_sid(place: Place) {
    let store = place.open().await;
    let (_, sid) = signed_in(&store, "alice", 1).await;
    let touch =
        async |sid: &str, seconds, until| store.touch_session(sid, at(seconds), at(until)).await.expect("answered");

    assert!(touch(&sid, 1999, 9000).await);
    let touched = live(&store, 1, 4999).await.expect("alive");
    assert_eq!((touched.last_seen_at, touched.idle_expires_at), (at(1999), at(9000)));
    assert!(!touch(&sid, 5000, 9000).await, "over");
    assert!(!touch("another", 1999, 9000).await);
    store.end_session(&sid, &[], &from(2000)).await.expect("ended");
    assert!(!touch(&sid, 2001, 9000).await, "ended");
}

async fn who_signs_in_again_goes_on_under_another_cookie(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    store.note_session_client(&sid, "shop", at(1100)).await.expect("noted");
    let again = NewSession { auth_time: at(1500), amr: vec!["otp".to_owned()], ..session(&alice, 2) };

    let started = store.create_session(&again, Some(&[1; 32]), &[target("shop")]).await.expect("stored");

    assert_eq!(started, SessionStart::Started { sid: sid.clone(), ended: None });
    assert_eq!(live(&store, 1, 1500).await, None, "the old cookie is worth nothing");
    let session = live(&store, 2, 1500).await.expect("alive");
    assert_eq!((session.sid.as_str(), session.created_at, session.auth_time), (sid.as_str(), at(1000), at(1500)));
    assert_eq!(session.amr, ["otp"]);
    let ended = store.end_session(&sid, &[], &from(1600)).await.expect("answered").expect("ended");
    assert_eq!(ended.clients, ["shop"]);
}

async fn a_sign_in_of_somebody_else_ends_the_session_of_the_browser(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    store.note_session_client(&sid, "shop", at(1100)).await.expect("noted");
    let bob = stored_user(&store, "bob").await;

    let started = store.create_session(&session(&bob, 2), Some(&[1; 32]), &[target("shop")]).await.expect("stored");

    let ended = EndedSession { sid, user_id: alice.clone(), clients: vec!["shop".to_owned()] };
    assert_eq!(started, SessionStart::Started { sid: "sid-2".to_owned(), ended: Some(ended) });
    assert_eq!(live(&store, 1, 1100).await, None);
    assert_eq!(live(&store, 2, 1100).await.expect("alive").user_id, bob);
    let due = store.due_logouts(at(1000), 9, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(due.iter().map(|logout| logout.user_id.as_str()).collect::<Vec<_>>(), [alice]);
}

async fn a_cookie_that_is_over_is_not_gone_on_with(place: Place) {
    let store = place.open().await;
    let (alice, _) = signed_in(&store, "alice", 1).await;
    let late = NewSession { auth_time: at(2000), idle_expires_at: at(3000), ..session(&alice, 2) };

    let started = store.create_session(&late, Some(&[1; 32]), &[]).await.expect("stored");
    let of_no_session = store.create_session(&session(&alice, 3), Some(&[9; 32]), &[]).await.expect("stored");

    let SessionStart::Started { sid, ended } = started else { panic!("refused") };
    assert_eq!((sid.as_str(), ended.map(|ended| ended.sid).as_deref()), ("sid-2", Some("sid-1")));
    assert_eq!(of_no_session, SessionStart::Started { sid: "sid-3".to_owned(), ended: None });
}

/// Two windows sign in at once with the cookie of one session.
async fn of_two_renewals_at_once_neither_cookie_of_before_is_left(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let (alice, _) = signed_in(&one, "alice", 1).await;
    let (mine, yours) = (session(&alice, 2), session(&alice, 3));

    let (first, second) =
        tokio::join!(one.create_session(&mine, Some(&[1; 32]), &[]), other.create_session(&yours, Some(&[1; 32]), &[]));

    let sids: BTreeSet<String> = [first.expect("stored"), second.expect("stored")]
        .into_iter()
        .map(|start| match start {
            SessionStart::Started { sid, ended: None } => sid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(sids.len() == 2 && sids.contains("sid-1"), "one goes on, one begins: {sids:?}");
    assert_eq!(live(&one, 1, 1500).await, None);
    assert!(live(&one, 2, 1500).await.is_some() && live(&one, 3, 1500).await.is_some());
}

async fn a_disabled_or_removed_user_has_no_session(place: Place) {
    let store = place.open().await;
    let (alice, _) = signed_in(&store, "alice", 1).await;
    let (bob, _) = signed_in(&store, "bob", 2).await;

    store.disable_user(&alice, &[], &by()).await.expect("disabled");
    store.remove_user(&bob, &[], &by()).await.expect("removed");

    for (user, number) in [(&alice, 1), (&bob, 2)] {
        assert_eq!(live(&store, number, 1001).await, None);
        let refused = store.create_session(&session(user, 9), Some(&[number; 32]), &[]).await.expect("answered");
        assert_eq!(refused, SessionStart::Refused);
    }
}

async fn the_end_of_a_session_ends_its_grants_and_tells_its_clients(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    let (_, other_sid) = signed_in(&store, "bob", 2).await;
    let offline = NewGrant { offline: true, ..grant(&alice, Some(&sid), "offline") };
    for grant in [grant(&alice, Some(&sid), "online"), offline] {
        assert!(store.insert_grant(&grant, None, at(2000), &from(1100)).await.expect("stored"));
    }
    store.note_session_client(&sid, "blog", at(1100)).await.expect("noted");
    store.note_session_client(&other_sid, "news", at(1100)).await.expect("noted");
    let targets = ["blog", "news", "never"].map(target);

    let ended = store.end_session_by_cookie(&[1; 32], &targets, &from(1200)).await.expect("answered");

    let clients = vec!["blog".to_owned(), "shop".to_owned()];
    assert_eq!(ended, Some(EndedSession { sid: sid.clone(), user_id: alice.clone(), clients }));
    assert_eq!(store.end_session_by_cookie(&[1; 32], &targets, &from(1200)).await.expect("answered"), None);
    assert_eq!(store.end_session(&sid, &targets, &from(1200)).await.expect("answered"), None);
    assert_eq!(live(&store, 1, 1200).await, None);
    assert!(live(&store, 2, 1200).await.is_some());
    assert_eq!(store.grant("online").await.expect("answered"), None);
    assert!(store.grant("offline").await.expect("answered").is_some());
    assert!(!store.note_session_client(&sid, "late", at(1200)).await.expect("answered"));
    let due = store.due_logouts(at(1200), 9, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(due.len(), 1, "those who were signed into and want to know");
    assert_eq!((due[0].client_id.as_str(), due[0].uri.as_str()), ("blog", "https://blog.example.com/logout"));
    assert_eq!((due[0].user_id.as_str(), due[0].sid.as_deref()), (alice.as_str(), Some(sid.as_str())));
}

async fn of_eight_that_end_a_session_one_does(place: Place) {
    let stores = eight(&place).await;
    let (_, sid) = signed_in(&stores[0], "alice", 1).await;
    stores[0].note_session_client(&sid, "shop", at(1100)).await.expect("noted");

    let attempts = stores.iter().cloned().map(|store| {
        let sid = sid.clone();
        async move { store.end_session(&sid, &[target("shop")], &from(1200)).await.expect("answered") }
    });
    let results = all(attempts.collect()).await;

    assert_eq!(results.iter().flatten().count(), 1, "{results:?}");
    let due = stores[0].due_logouts(at(1200), 9, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(due.len(), 1);
    assert_eq!(told(&stores[0]).await, ["user.signed_in", "user.signed_out"]);
}

async fn of_eight_that_end_what_is_over_one_ends_each(place: Place) {
    let stores = eight(&place).await;
    for (name, number) in [("alice", 1), ("bob", 2), ("carol", 3)] {
        let (user_id, sid) = signed_in(&stores[0], name, number).await;
        let grant = grant(&user_id, Some(&sid), name);
        assert!(stores[0].insert_grant(&grant, None, at(9000), &from(1100)).await.expect("stored"));
    }
    assert!(stores[0].touch_session("sid-3", at(1900), at(9000)).await.expect("answered"));
    let end = |store: &Store, now: i64, limit: u32| {
        let store = store.clone();
        async move {
            let ended = store.end_expired_sessions(at(now), limit, &[target("shop")]).await.expect("answered");
            ended.into_iter().map(|ended| ended.sid).collect::<Vec<_>>()
        }
    };
    assert_eq!(end(&stores[0], 1999, 9).await, [""; 0]);

    let results = all(stores.iter().map(|store| end(store, 2000, 9)).collect()).await;

    let mut ended = results.concat();
    ended.sort();
    assert_eq!(ended, ["sid-1", "sid-2"], "those that were not used, each once");
    assert_eq!(stores[0].grant("alice").await.expect("answered"), None);
    assert!(stores[0].grant("carol").await.expect("answered").is_some());
    assert_eq!(stores[0].due_logouts(at(2000), 9, Duration::from_secs(30)).await.expect("answered").len(), 2);
    assert_eq!(end(&stores[0], 5000, 9).await, ["sid-3"], "however much it was used");
    assert_eq!(told(&stores[0]).await.iter().filter(|kind| *kind == "session.expired").count(), 3);
}

async fn no_more_sessions_are_ended_at_once_than_was_said(place: Place) {
    let store = place.open().await;
    for (name, number) in [("alice", 1), ("bob", 2), ("carol", 3)] {
        signed_in(&store, name, number).await;
    }

    let first = store.end_expired_sessions(at(2000), 2, &[]).await.expect("answered");
    let second = store.end_expired_sessions(at(2000), 2, &[]).await.expect("answered");

    assert_eq!((first.len(), second.len()), (2, 1));
}

async fn all_access_of_a_user_ends_with_what_is_for_offline_use(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    let (bob, _) = signed_in(&store, "bob", 2).await;
    for (user_id, id) in [(&alice, "offline"), (&bob, "of bob")] {
        let grant = NewGrant { offline: true, ..grant(user_id, None, id) };
        assert!(store.insert_grant(&grant, None, at(9000), &from(1100)).await.expect("stored"));
    }
    let online = grant(&alice, Some(&sid), "online");
    assert!(store.insert_grant(&online, None, at(9000), &from(1100)).await.expect("stored"));

    let ended = store.end_all_access_of_user(&alice, &[target("shop")], &from(1200)).await.expect("answered");

    assert_eq!(ended.len(), 1);
    for id in ["offline", "online"] {
        assert_eq!(store.grant(id).await.expect("answered"), None, "{id}");
    }
    assert!(store.grant("of bob").await.expect("answered").is_some());
    assert_eq!(told(&store).await.iter().filter(|kind| *kind == "grant.revoked").count(), 1);
}

async fn of_eight_that_take_events_one_does_until_it_has_told_them(place: Place) {
    let stores = eight(&place).await;
    signed_in(&stores[0], "alice", 1).await;
    let take = |store: &Store, now: i64| {
        let store = store.clone();
        async move {
            let taken = store.take_events(at(now), at(0), Duration::from_secs(15), 9).await.expect("answered");
            taken.into_iter().map(|event| event.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(take(&stores[0], 1001).await, [] as [i64; 0], "an earlier one may still be on its way");

    let results = all(stores.iter().map(|store| take(store, 1100)).collect()).await;

    let taken: Vec<_> = results.into_iter().filter(|events| !events.is_empty()).collect();
    assert_eq!((taken.len(), taken[0].len()), (1, 1), "{taken:?}");
    assert_eq!(take(&stores[1], 1115).await, taken[0], "what was not told is taken again when the lease is over");
    stores[1].told_events(taken[0][0]).await.expect("noted");
    stores[2].told_events(0).await.expect("one who comes late takes nothing back");
    assert_eq!(take(&stores[2], 1200).await, [] as [i64; 0]);
}

async fn all_sessions_of_a_user_end_together(place: Place) {
    let store = place.open().await;
    let (alice, _) = signed_in(&store, "alice", 1).await;
    store.create_session(&session(&alice, 2), None, &[]).await.expect("stored");
    signed_in(&store, "bob", 3).await;
    let of_before = NewGrant { sid: Some("sid-2".to_owned()), ..grant(&alice, None, "g") };
    store.insert_grant(&of_before, Some(&refresh_token(1)), at(1600), &from(1000)).await.expect("stored");

    let ended = store.end_sessions_of_user(&alice, &[target("shop")], &from(1200)).await.expect("answered");

    assert_eq!(ended.iter().map(|session| session.sid.as_str()).collect::<BTreeSet<_>>(), ["sid-1", "sid-2"].into());
    assert_eq!(store.sessions_of_user(&alice, at(1200)).await.expect("answered"), []);
    assert_eq!(store.grant("g").await.expect("answered"), None);
    assert!(live(&store, 3, 1200).await.is_some());
    assert_eq!(store.due_logouts(at(1200), 9, Duration::from_secs(30)).await.expect("answered").len(), 1);
    assert_eq!(store.end_sessions_of_user(&alice, &[], &from(1200)).await.expect("answered"), []);
}

/// Ends of one session, of all, and of grants, in every order at once: none waits for another that waits for it.
async fn ends_of_all_kinds_take_turns(place: Place) {
    let stores = eight(&place).await;
    for round in 0..4_u8 {
        let name = format!("user-{round}");
        let alice = stored_user(&stores[0], &name).await;
        for number in 0..4 {
            let number = 10 * round + number;
            let session = session(&alice, number);
            stores[0].create_session(&session, None, &[]).await.expect("stored");
            for client in ["shop", "blog"] {
                let grant = grant(&alice, Some(&session.sid), &format!("{client}-{number}"));
                let grant = NewGrant { client_id: client.to_owned(), ..grant };
                assert!(stores[0].insert_grant(&grant, None, at(2000), &from(1100)).await.expect("stored"));
            }
        }

        let ends = stores.iter().cloned().zip(0_u8..).map(|(store, number)| {
            let alice = alice.clone();
            async move {
                let origin = from(1200);
                match number {
                    0..4 => store.end_session_by_cookie(&[10 * round + number; 32], &[], &origin).await.map(|_| ()),
                    4 => store.end_sessions_of_user(&alice, &[], &origin).await.map(|_| ()),
                    5 => store.revoke_grants_of(&alice, "shop", &origin).await.map(|_| ()),
                    6 => store.revoke_grants_of(&alice, "blog", &origin).await.map(|_| ()),
                    _ => store.disable_user(&alice, &[], &by()).await.map(|_| ()),
                }
            }
        });
        for result in all(ends.collect()).await {
            result.expect("nobody is left waiting");
        }

        assert_eq!(stores[0].sessions_of_user(&alice, at(1200)).await.expect("answered"), []);
        assert_eq!(stores[0].grants_of_user(&alice, at(1200)).await.expect("answered"), []);
    }
}

async fn a_logout_is_delivered_by_one_and_again_when_that_dies(place: Place) {
    let store = place.open().await;
    let lease = Duration::from_secs(30);
    store.enqueue_logout(&[target("shop"), target("blog")], "alice", None, at(1000)).await.expect("queued");
    let due = async |seconds| store.due_logouts(at(seconds), 9, lease).await.expect("answered");

    assert_eq!(due(999).await, []);
    let taken = due(1000).await;
    assert_eq!(
        taken.iter().map(|logout| (logout.client_id.as_str(), logout.attempt)).collect::<Vec<_>>(),
        [("shop", 1), ("blog", 1)]
    );
    assert_eq!((taken[0].sid.as_deref(), taken[0].created_at), (None, at(1000)));
    assert_eq!(due(1029).await, [], "they are taken");
    assert!(store.finish_logout(&taken[0], LogoutOutcome::Done).await.expect("answered"));
    assert!(!store.finish_logout(&taken[0], LogoutOutcome::Done).await.expect("answered"));

    let again = due(1030).await;
    assert_eq!(
        again.iter().map(|logout| (logout.client_id.as_str(), logout.attempt)).collect::<Vec<_>>(),
        [("blog", 2)]
    );
    assert!(!store.finish_logout(&taken[1], LogoutOutcome::Done).await.expect("answered"), "its time was over");
    assert!(store.finish_logout(&again[0], LogoutOutcome::RetryAt(at(1500))).await.expect("answered"));
    assert_eq!(due(1499).await, []);
    assert_eq!(due(1500).await[0].attempt, 3);
}

async fn of_eight_that_deliver_each_logout_goes_to_one(place: Place) {
    let stores = eight(&place).await;
    let targets: Vec<_> = (0..40).map(|number| target(&format!("client-{number}"))).collect();
    stores[0].enqueue_logout(&targets, "alice", Some("sid"), at(1000)).await.expect("queued");

    let attempts = stores
        .iter()
        .cloned()
        .map(|store| async move { store.due_logouts(at(1000), 20, Duration::from_secs(30)).await.expect("answered") });
    let results = all(attempts.collect()).await;

    let taken: Vec<i64> = results.iter().flatten().map(|logout| logout.id).collect();
    assert_eq!(taken.len(), taken.iter().collect::<BTreeSet<_>>().len(), "none twice");
    assert!(results.iter().flatten().all(|logout| logout.attempt == 1));
    let rest = stores[0].due_logouts(at(1000), 99, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(taken.len() + rest.len(), 40, "none lost");
}

async fn logouts_wait_for_users_who_are_gone(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    store.note_session_client(&sid, "shop", at(1100)).await.expect("noted");

    let ended = store.remove_user(&alice, &[target("shop")], &by()).await.expect("answered").expect("removed");

    assert_eq!(ended.len(), 1);
    let due = store.due_logouts(at(1200), 9, Duration::from_secs(30)).await.expect("answered");
    assert_eq!(due.iter().map(|logout| logout.user_id.as_str()).collect::<Vec<_>>(), [alice]);
}

async fn events_tell_who_what_when_and_from_where(place: Place) {
    let store = place.open().await;
    let failure = |user_id| NewEvent {
        kind: EventKind::SignInFailed,
        user_id,
        client_id: Some("shop"),
        sid: None,
        details: serde_json::json!({ "why": "password" }),
    };

    store.record_event(failure(Some("alice")), &from(1000)).await.expect("stored");
    store.record_event(failure(None), &from(1001)).await.expect("stored");

    let all = store.load_events(None, 9).await.expect("events");
    assert_eq!(all.iter().map(|event| event.user_id.as_deref()).collect::<Vec<_>>(), [Some("alice"), None]);
    assert_eq!(store.load_events(Some("alice"), 9).await.expect("events"), all[..1]);
    assert_eq!(store.load_events(None, 1).await.expect("events"), all[1..]);
    let event = &all[0];
    assert_eq!((event.at, event.kind.as_str(), event.sid.as_deref()), (at(1000), "user.sign_in_failed", None));
    assert_eq!((event.client_id.as_deref(), event.address.as_deref()), (Some("shop"), Some("192.0.2.7")));
    assert_eq!(event.details, r#"{"why":"password"}"#);
}

async fn nothing_of_a_sign_in_wakes_other_processes_or_joins_the_chain(place: Place) {
    let store = place.open().await;
    let alice = stored_user(&store, "alice").await;
    let before = (store.look().await.expect("a look").generations, store.load_audit(99).await.expect("the log"));

    store.create_session(&session(&alice, 1), None, &[]).await.expect("stored");
    store.insert_code(&code(grant(&alice, Some("sid-1"), "g"), 1)).await.expect("stored");
    store.redeem_code(&[1; 32], at(1600), &from(1001)).await.expect("answered");
    store.end_session("sid-1", &[target("shop")], &from(1002)).await.expect("answered");

    assert_eq!((store.look().await.expect("a look").generations, store.load_audit(99).await.expect("the log")), before);
}

async fn a_restored_database_has_no_sign_ins(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    let offline = NewGrant { offline: true, ..grant(&alice, None, "g") };
    store.insert_grant(&offline, Some(&refresh_token(1)), at(1600), &from(1000)).await.expect("stored");
    store.insert_code(&code(grant(&alice, Some(&sid), "h"), 1)).await.expect("stored");
    store.mark_restored(&by()).await.expect("marked");

    store.settle_restored(&[], serde_json::json!({}), &by()).await.expect("settled");

    assert_eq!(live(&store, 1, 1001).await, None);
    assert_eq!(store.grant("g").await.expect("answered"), None);
    let redeemed = store.redeem_code(&[1; 32], at(1600), &from(1001)).await.expect("answered");
    assert_eq!(redeemed, crate::storage::Redemption::Unknown);
    let told = store.load_audit(1).await.expect("the log").remove(0);
    assert_eq!((told.act.as_str(), told.details.as_str()), ("database.sign_ins_ended", r#"{"grants":1,"sessions":1}"#));
}

on_both!(
    a_session_is_read_as_it_was_stored,
    a_session_lives_while_it_is_used_up_to_its_end,
    a_session_is_used_by_apps_that_know_its_sid,
    who_signs_in_again_goes_on_under_another_cookie,
    a_sign_in_of_somebody_else_ends_the_session_of_the_browser,
    a_cookie_that_is_over_is_not_gone_on_with,
    of_two_renewals_at_once_neither_cookie_of_before_is_left,
    a_disabled_or_removed_user_has_no_session,
    the_end_of_a_session_ends_its_grants_and_tells_its_clients,
    of_eight_that_end_a_session_one_does,
    of_eight_that_end_what_is_over_one_ends_each,
    no_more_sessions_are_ended_at_once_than_was_said,
    all_access_of_a_user_ends_with_what_is_for_offline_use,
    of_eight_that_take_events_one_does_until_it_has_told_them,
    all_sessions_of_a_user_end_together,
    ends_of_all_kinds_take_turns,
    a_logout_is_delivered_by_one_and_again_when_that_dies,
    of_eight_that_deliver_each_logout_goes_to_one,
    logouts_wait_for_users_who_are_gone,
    events_tell_who_what_when_and_from_where,
    nothing_of_a_sign_in_wakes_other_processes_or_joins_the_chain,
    a_restored_database_has_no_sign_ins,
);
