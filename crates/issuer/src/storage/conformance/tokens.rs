//! Grants, codes, refresh tokens, revoked access tokens and spent assertions.

use std::time::Duration;

use super::fixtures::{
    POLICY, all, code, eight, from, grant, refresh_token, refreshable, session, signed_in, stored_user, target, told,
};
use super::{Place, at, by};
use crate::storage::{
    Grant, NewGrant, Purge, Redemption, RefreshPolicy, Rotation, Store, StoreError, Successor, UserChange,
};
use crate::users::Rights;

async fn rotate(store: &Store, old: u8, new: u8, seconds: i64) -> Rotation {
    rotate_by(store, old, new, seconds, &POLICY).await
}

async fn rotate_by(store: &Store, old: u8, new: u8, seconds: i64, policy: &RefreshPolicy) -> Rotation {
    let successor = Successor { token_sha256: [new; 32], sealed: &[old, new] };
    store.rotate_refresh_token(&[old; 32], "shop", &successor, policy, &from(seconds)).await.expect("answered")
}

async fn redeem(store: &Store, number: u8, seconds: i64) -> Redemption {
    store.redeem_code(&[number; 32], at(seconds + 600), &from(seconds)).await.expect("answered")
}

async fn a_code_becomes_the_grant_it_was_issued_for(place: Place) {
    let store = place.open().await;
    let (user_id, sid) = signed_in(&store, "alice", 1).await;
    let allowed = grant(&user_id, Some(&sid), "g");
    store.insert_code(&code(allowed.clone(), 7)).await.expect("stored");

    let Redemption::Redeemed(redeemed) = redeem(&store, 7, 1059).await else { panic!("not redeemed") };

    assert_eq!(redeemed.redirect_uri.as_deref(), Some("https://shop.example.com/cb?x=1"));
    assert_eq!(redeemed.code_challenge.as_deref(), Some("challenge"));
    assert_eq!(redeemed.grant, Grant { allowed, created_at: at(1059), revoked_at: None });
    assert_eq!(store.grant("g").await.expect("answered"), Some(redeemed.grant));
    assert_eq!(told(&store).await, ["user.signed_in", "grant.issued"]);
    let ended = store.end_session(&sid, &[], &from(1100)).await.expect("answered").expect("ended");
    assert_eq!(ended.clients, ["shop"], "the session knows who will have to be told");
}

async fn a_second_use_of_a_code_ends_its_grant(place: Place) {
    let store = place.open().await;
    let (user_id, sid) = signed_in(&store, "alice", 1).await;
    store.insert_code(&code(grant(&user_id, Some(&sid), "g"), 7)).await.expect("stored");
    redeem(&store, 7, 1001).await;
    store.insert_refresh_token("g", &refresh_token(1)).await.expect("stored");

    // Also when it would be too old by now.
    let second = redeem(&store, 7, 1300).await;
    let third = redeem(&store, 7, 1301).await;

    assert_eq!(second, Redemption::Reused { grant_id: "g".to_owned(), revoked: true });
    assert_eq!(third, Redemption::Reused { grant_id: "g".to_owned(), revoked: false });
    assert_eq!(store.grant("g").await.expect("answered"), None);
    assert_eq!(rotate(&store, 1, 2, 1302).await, Rotation::Revoked);
    assert!(!store.insert_refresh_token("g", &refresh_token(3)).await.expect("answered"));
    assert_eq!(told(&store).await, ["user.signed_in", "grant.issued", "code.reused"]);
}

async fn of_eight_that_redeem_a_code_one_does_and_its_grant_ends(place: Place) {
    let stores = eight(&place).await;
    let (user_id, sid) = signed_in(&stores[0], "alice", 1).await;
    for round in 0..8_u8 {
        let id = format!("g-{round}");
        stores[0].insert_code(&code(grant(&user_id, Some(&sid), &id), round)).await.expect("stored");

        let attempts = stores.iter().cloned().map(|store| async move { redeem(&store, round, 1001).await });
        let results = all(attempts.collect()).await;

        let redeemed = results.iter().filter(|result| matches!(result, Redemption::Redeemed(_))).count();
        let reused = |by_this| {
            let expected = Redemption::Reused { grant_id: id.clone(), revoked: by_this };
            results.iter().filter(|result| **result == expected).count()
        };
        assert_eq!((redeemed, reused(true), reused(false)), (1, 1, 6), "{results:?}");
        assert_eq!(stores[0].grant(&id).await.expect("answered"), None);
    }
}

async fn a_code_is_refused_when_it_is_old_or_unknown_or_its_user_has_left(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    let (bob, _) = signed_in(&store, "bob", 2).await;
    for (number, user, sid) in [(1, &alice, Some(sid.as_str())), (2, &alice, Some(&sid)), (3, &bob, None)] {
        store.insert_code(&code(grant(user, sid, &format!("g-{number}")), number)).await.expect("stored");
    }

    let old = redeem(&store, 1, 1060).await;
    let old_again = redeem(&store, 1, 1060).await;
    let unknown = redeem(&store, 9, 1001).await;
    store.end_session(&sid, &[], &from(1001)).await.expect("answered");
    let of_an_ended_session = redeem(&store, 2, 1001).await;
    store.disable_user(&bob, &[], &by()).await.expect("answered");
    let of_a_disabled_user = redeem(&store, 3, 1001).await;

    assert_eq!((old, old_again, unknown), (Redemption::Expired, Redemption::Expired, Redemption::Unknown));
    assert_eq!((of_an_ended_session, of_a_disabled_user), (Redemption::Withdrawn, Redemption::Withdrawn));
    for id in ["g-1", "g-2", "g-3"] {
        assert_eq!(store.grant(id).await.expect("answered"), None);
    }
    let spent = Redemption::Reused { grant_id: "g-2".to_owned(), revoked: false };
    assert_eq!(redeem(&store, 2, 1002).await, spent, "the attempt spent it");
}

/// The sessions end while their codes are redeemed: whoever wins, nobody keeps a grant.
async fn no_grant_slips_past_the_end_of_its_session(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let alice = stored_user(&one, "alice").await;
    for round in 0..12_u8 {
        let session = session(&alice, round);
        one.create_session(&session, None, &[]).await.expect("stored");
        let id = format!("g-{round}");
        one.insert_code(&code(grant(&alice, Some(&session.sid), &id), round)).await.expect("stored");

        let (redeemed, ended) = tokio::join!(redeem(&one, round, 1001), async {
            other.end_session(&session.sid, &[target("shop")], &from(1001)).await
        });

        let ended = ended.expect("answered").expect("ended");
        assert_eq!(one.grant(&id).await.expect("answered"), None, "{redeemed:?}");
        let first = matches!(redeemed, Redemption::Redeemed(_));
        assert_eq!(ended.clients.len(), usize::from(first), "the client of a grant is told");
    }
}

async fn a_refresh_token_gives_way_to_its_successor(place: Place) {
    let store = place.open().await;
    let allowed = refreshable(&store).await;

    let first = rotate(&store, 1, 2, 1500).await;
    let second = rotate(&store, 2, 3, 2499).await;

    let user = store.user_by_id(&allowed.user_id).await.expect("answered").map(Box::new).expect("there");
    let grant = Box::new(Grant { allowed, created_at: at(1000), revoked_at: None });
    assert_eq!(first, Rotation::Rotated { grant: grant.clone(), user: user.clone(), expires_at: at(2500) });
    assert_eq!(second, Rotation::Rotated { grant: grant.clone(), user, expires_at: at(3499) });
    let found = store.find_refresh_token(&[2; 32]).await.expect("answered").expect("found");
    assert_eq!((found.issued_at, found.expires_at, found.used_at), (at(1500), at(2500), Some(at(2499))));
    assert_eq!(found.grant, *grant);
    assert_eq!(store.find_refresh_token(&[9; 32]).await.expect("answered"), None);
}

async fn a_lost_answer_is_given_again_within_the_grace(place: Place) {
    let store = place.open().await;
    let allowed = refreshable(&store).await;
    rotate(&store, 1, 2, 1500).await;

    let again = rotate(&store, 1, 3, 1510).await;

    let user = store.user_by_id(&allowed.user_id).await.expect("answered").map(Box::new).expect("there");
    let grant = Box::new(Grant { allowed, created_at: at(1000), revoked_at: None });
    assert_eq!(again, Rotation::Replayed { sealed: vec![1, 2], grant, user });
    assert_eq!(rotate(&store, 3, 4, 1510).await, Rotation::Unknown, "only one successor is stored");
    assert!(matches!(rotate(&store, 2, 4, 1511).await, Rotation::Rotated { .. }));
    assert!(matches!(rotate(&store, 1, 5, 1509).await, Rotation::Replayed { .. }), "also when it is used by then");
}

async fn a_refresh_token_that_comes_again_later_ends_its_grant(place: Place) {
    let store = place.open().await;
    refreshable(&store).await;
    rotate(&store, 1, 2, 1500).await;

    let reused = rotate(&store, 1, 3, 1511).await;

    assert_eq!(reused, Rotation::Reused { grant_id: "g".to_owned(), revoked: true });
    assert_eq!(rotate(&store, 2, 4, 1512).await, Rotation::Revoked, "the thief's or the client's");
    assert_eq!(rotate(&store, 1, 5, 1501).await, Rotation::Revoked);
    assert_eq!(store.grant("g").await.expect("answered"), None);
    assert_eq!(told(&store).await, ["grant.issued", "refresh_token.reused"]);
}

async fn a_refresh_token_has_an_idle_and_an_absolute_end(place: Place) {
    let store = place.open().await;
    refreshable(&store).await;

    assert_eq!(rotate(&store, 1, 2, 2000).await, Rotation::Expired);
    assert!(matches!(rotate(&store, 1, 2, 1999).await, Rotation::Rotated { expires_at, .. } if expires_at == at(2999)));
    assert!(matches!(rotate(&store, 2, 3, 2998).await, Rotation::Rotated { expires_at, .. } if expires_at == at(3998)));
    let last = rotate(&store, 3, 4, 3900).await;
    assert!(matches!(last, Rotation::Rotated { expires_at, .. } if expires_at == at(4000)), "{last:?}");
    assert_eq!(rotate(&store, 4, 5, 4000).await, Rotation::Expired);
    let shorter = RefreshPolicy { absolute: Some(Duration::from_secs(2950)), ..POLICY };
    assert_eq!(rotate_by(&store, 4, 5, 3950, &shorter).await, Rotation::Expired, "a policy that became stricter");
    let endless = RefreshPolicy { absolute: None, ..POLICY };
    let went_on = rotate_by(&store, 4, 5, 3999, &endless).await;
    assert!(matches!(went_on, Rotation::Rotated { expires_at, .. } if expires_at == at(4999)));
}

async fn a_refresh_token_of_another_client_is_unknown_and_unspoilt(place: Place) {
    let store = place.open().await;
    refreshable(&store).await;
    let successor = Successor { token_sha256: [2; 32], sealed: &[1] };
    let as_thief = async |seconds| {
        let rotation = store.rotate_refresh_token(&[1; 32], "thief", &successor, &POLICY, &from(seconds)).await;
        rotation.expect("answered")
    };

    assert_eq!(as_thief(1500).await, Rotation::Unknown);
    assert!(matches!(rotate(&store, 1, 2, 1500).await, Rotation::Rotated { .. }));
    assert_eq!(as_thief(1600).await, Rotation::Unknown, "nor can it end the grant");
    assert!(store.grant("g").await.expect("answered").is_some());
}

async fn of_eight_that_refresh_at_once_all_get_the_one_successor(place: Place) {
    let stores = eight(&place).await;
    refreshable(&stores[0]).await;
    let mut current = 1_u8;
    for round in 0..8_u8 {
        let attempts = stores.iter().cloned().zip(1..).map(|(store, caller)| {
            let new = 10 + round * 8 + caller;
            async move { (new, rotate(&store, current, new, 1500).await) }
        });

        let results = all(attempts.collect()).await;

        let won: Vec<u8> = results
            .iter()
            .filter(|(_, result)| matches!(result, Rotation::Rotated { .. }))
            .map(|(new, _)| *new)
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for (new, result) in &results {
            if *new == won[0] {
                continue;
            }
            assert!(matches!(result, Rotation::Replayed { sealed, .. } if *sealed == [current, won[0]]), "{result:?}");
            assert_eq!(rotate(&stores[0], *new, 255, 1500).await, Rotation::Unknown, "it was never stored");
        }
        current = won[0];
    }
}

async fn of_eight_that_reuse_a_refresh_token_one_ends_the_grant(place: Place) {
    let stores = eight(&place).await;
    refreshable(&stores[0]).await;
    rotate(&stores[0], 1, 2, 1500).await;

    let attempts = stores.iter().cloned().map(|store| async move { rotate(&store, 1, 3, 1600).await });
    let results = all(attempts.collect()).await;

    let ended = Rotation::Reused { grant_id: "g".to_owned(), revoked: true };
    assert_eq!(results.iter().filter(|result| **result == ended).count(), 1, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Rotation::Reused { .. } | Rotation::Revoked)), "{results:?}");
    assert_eq!(told(&stores[0]).await, ["grant.issued", "refresh_token.reused"]);
}

async fn a_grant_without_a_code_needs_a_live_session_and_an_enabled_user(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    let insert = async |grant: NewGrant, token| {
        store.insert_grant(&grant, Some(&refresh_token(token)), at(1600), &from(1500)).await.expect("answered")
    };

    assert!(insert(grant(&alice, Some(&sid), "g-1"), 1).await);
    store.end_session(&sid, &[], &from(1600)).await.expect("answered");
    assert!(!insert(grant(&alice, Some(&sid), "g-2"), 2).await);
    assert!(insert(grant(&alice, None, "g-3"), 3).await);
    store.disable_user(&alice, &[], &by()).await.expect("answered");
    assert!(!insert(grant(&alice, None, "g-4"), 4).await);

    for (id, token) in [("g-1", 1), ("g-2", 2), ("g-3", 3), ("g-4", 4)] {
        assert_eq!(store.grant(id).await.expect("answered"), None, "{id}");
        assert!(!matches!(rotate(&store, token, 9, 1601).await, Rotation::Rotated { .. }), "{id}");
    }
    store.enable_user(&alice, &by()).await.expect("answered");
    assert_eq!(store.grant("g-3").await.expect("answered"), None, "what was ended stays ended");
}

async fn grants_are_listed_and_ended_by_client(place: Place) {
    let store = place.open().await;
    let alice = stored_user(&store, "alice").await;
    for (id, client_id, created) in
        [("a", "shop", 1000), ("b", "blog", 1001), ("c", "shop", 1002), ("old", "shop", 400)]
    {
        let grant = NewGrant { client_id: client_id.to_owned(), ..grant(&alice, None, id) };
        assert!(store.insert_grant(&grant, None, at(created + 600), &from(created)).await.expect("stored"));
    }
    let ids = async || {
        let grants = store.grants_of_user(&alice, at(1100)).await.expect("answered");
        grants.into_iter().map(|grant| grant.allowed.id).collect::<Vec<_>>()
    };

    assert_eq!(ids().await, ["c", "b", "a"]);
    assert_eq!(store.revoke_grants_of(&alice, "shop", &from(1100)).await.expect("answered"), 3);
    assert_eq!(store.revoke_grants_of(&alice, "shop", &from(1100)).await.expect("answered"), 0);
    assert_eq!(ids().await, ["b"]);
    assert!(store.revoke_grant("b", &from(1100)).await.expect("answered"));
    assert!(!store.revoke_grant("b", &from(1100)).await.expect("answered"));
    assert!(!store.revoke_grant("none", &from(1100)).await.expect("answered"));
    assert_eq!(ids().await, [""; 0]);
}

async fn a_client_that_is_removed_leaves_nothing_to_its_namesake(place: Place) {
    let store = place.open().await;
    let allowed = refreshable(&store).await;
    store.give_consent(&allowed.user_id, "shop", &["openid".to_owned()], &from(1000)).await.expect("stored");
    store.give_consent(&allowed.user_id, "blog", &["openid".to_owned()], &from(1000)).await.expect("stored");
    store.insert_clients(&[super::client("shop")], &by()).await.expect("stored");
    let roles = |client: &str| (client.to_owned(), vec!["manager".to_owned()]);
    let rights = Rights { client_roles: [roles("shop"), roles("shop2"), roles("Shop")].into(), ..Rights::default() };
    let change = UserChange { rights: Some(rights), ..UserChange::default() };
    store.update_user(&allowed.user_id, &change, &by()).await.expect("changed");

    assert!(store.remove_client("shop", &by()).await.expect("removed"));

    let alice = store.user_by_id(&allowed.user_id).await.expect("answered").expect("a user");
    assert_eq!(alice.rights.client_roles, [roles("shop2"), roles("Shop")].into());
    assert_eq!(store.grant("g").await.expect("answered"), None);
    assert_eq!(rotate(&store, 1, 2, 1500).await, Rotation::Revoked);
    assert_eq!(store.consent(&allowed.user_id, "shop").await.expect("answered"), None);
    assert!(store.consent(&allowed.user_id, "blog").await.expect("answered").is_some());
}

async fn a_revoked_access_token_is_remembered_until_it_would_expire(place: Place) {
    let store = place.open().await;
    let revoked = async |jti: &str| store.is_access_token_revoked(jti).await.expect("answered");

    for _ in 0..2 {
        store.revoke_access_token("g.1", "shop", at(1600), &from(1000)).await.expect("stored");
    }

    assert!(revoked("g.1").await && !revoked("g.2").await);
    assert_eq!(told(&store).await, ["access_token.revoked"]);
    let purge = Purge { events_before: at(0), refresh_grace: POLICY.grace };
    store.purge_expired(at(1599), &purge).await.expect("purged");
    assert!(revoked("g.1").await);
    store.purge_expired(at(1600), &purge).await.expect("purged");
    assert!(!revoked("g.1").await);
}

async fn an_assertion_is_spent_once_while_it_could_be_accepted(place: Place) {
    let stores = eight(&place).await;
    let spend = async |client: &str, jti: u8, seconds: i64| {
        stores[0].spend_assertion(client, &[jti; 32], at(seconds + 60), at(seconds)).await.expect("answered")
    };

    let attempts = stores.iter().cloned().map(|store| async move {
        store.spend_assertion("shop", &[1; 32], at(1060), at(1000)).await.expect("answered")
    });
    let results = all(attempts.collect()).await;

    assert_eq!(results.iter().filter(|spent| **spent).count(), 1, "{results:?}");
    assert!(!spend("shop", 1, 1059).await);
    assert!(spend("blog", 1, 1000).await, "another client's");
    assert!(spend("shop", 2, 1000).await);
    assert!(spend("shop", 1, 1060).await, "it was over");
    assert!(!spend("shop", 1, 1061).await);
}

async fn what_is_over_is_forgotten_and_nothing_else(place: Place) {
    let store = place.open().await;
    let (alice, sid) = signed_in(&store, "alice", 1).await;
    store.insert_code(&code(grant(&alice, Some(&sid), "g"), 1)).await.expect("stored");
    store.insert_code(&code(grant(&alice, Some(&sid), "never"), 2)).await.expect("stored");
    redeem(&store, 1, 1001).await;
    store.insert_refresh_token("g", &refresh_token(1)).await.expect("stored");
    rotate(&store, 1, 2, 1100).await;
    let purge = Purge { events_before: at(1001), refresh_grace: POLICY.grace };

    let early = store.purge_expired(at(1110), &purge).await.expect("purged");
    assert_eq!((early.codes, early.refresh_tokens, early.grants, early.sessions, early.events), (1, 0, 0, 0, 1));
    assert!(!early.more);
    assert_eq!(redeem(&store, 2, 1111).await, Redemption::Unknown);
    assert!(matches!(rotate(&store, 1, 3, 1110).await, Rotation::Replayed { .. }), "still within the grace");

    store.purge_expired(at(1111), &purge).await.expect("purged");
    let of_a_fast_clock = rotate(&store, 1, 3, 1105).await;
    assert!(matches!(of_a_fast_clock, Rotation::Reused { .. }), "the sealed successor is gone: {of_a_fast_clock:?}");

    let late = store.purge_expired(at(5000), &purge).await.expect("purged");
    assert_eq!((late.grants, late.sessions), (1, 0), "nobody was told of the end of the session");
    store.end_expired_sessions(at(5000), 9, &[]).await.expect("ended");
    let told = store.purge_expired(at(5000), &Purge { events_before: at(0), ..purge }).await.expect("purged");
    assert_eq!(told.sessions, 1);
    assert_eq!(redeem(&store, 1, 1001).await, Redemption::Unknown, "its code went with it");
    assert_eq!(store.find_refresh_token(&[2; 32]).await.expect("answered"), None);
    let nothing = store.purge_expired(at(5000), &purge).await.expect("purged");
    assert_eq!(nothing, crate::storage::Purged::default());
}

async fn a_grant_is_kept_as_long_as_any_of_its_tokens(place: Place) {
    let store = place.open().await;
    refreshable(&store).await;
    let purge = Purge { events_before: at(0), refresh_grace: POLICY.grace };
    let longer = RefreshPolicy { access_ttl: Duration::from_secs(4000), ..POLICY };

    store.purge_expired(at(1999), &purge).await.expect("purged");
    rotate_by(&store, 1, 2, 1999, &longer).await;
    store.purge_expired(at(5998), &purge).await.expect("purged");

    assert!(store.grant("g").await.expect("answered").is_some(), "an access token is still alive");
    assert_eq!(rotate(&store, 2, 3, 2000).await, Rotation::Unknown, "the refresh token is not");
    assert_eq!(store.purge_expired(at(5999), &purge).await.expect("purged").grants, 1);
}

async fn more_than_fits_is_forgotten_bit_by_bit(place: Place) {
    let store = place.open().await;
    // At once, and in a text that both databases know.
    sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1001) \
         INSERT INTO revoked_tokens (jti, expires_at) SELECT CAST(n AS TEXT), 5 FROM numbers",
    )
    .execute(&store.writer)
    .await
    .expect("stored");
    let purge = Purge { events_before: at(0), refresh_grace: POLICY.grace };

    let first = store.purge_expired(at(10), &purge).await.expect("purged");
    let second = store.purge_expired(at(10), &purge).await.expect("purged");

    assert_eq!((first.other, first.more, second.other, second.more), (1000, true, 1, false));
}

async fn a_code_for_a_user_who_is_gone_is_not_stored(place: Place) {
    let store = place.open().await;

    let stored = store.insert_code(&code(grant("nobody", None, "g"), 1)).await;

    assert!(matches!(stored, Err(StoreError::Query { .. })));
}

on_both!(
    a_code_becomes_the_grant_it_was_issued_for,
    a_second_use_of_a_code_ends_its_grant,
    of_eight_that_redeem_a_code_one_does_and_its_grant_ends,
    a_code_is_refused_when_it_is_old_or_unknown_or_its_user_has_left,
    no_grant_slips_past_the_end_of_its_session,
    a_refresh_token_gives_way_to_its_successor,
    a_lost_answer_is_given_again_within_the_grace,
    a_refresh_token_that_comes_again_later_ends_its_grant,
    a_refresh_token_has_an_idle_and_an_absolute_end,
    a_refresh_token_of_another_client_is_unknown_and_unspoilt,
    of_eight_that_refresh_at_once_all_get_the_one_successor,
    of_eight_that_reuse_a_refresh_token_one_ends_the_grant,
    a_grant_without_a_code_needs_a_live_session_and_an_enabled_user,
    grants_are_listed_and_ended_by_client,
    a_client_that_is_removed_leaves_nothing_to_its_namesake,
    a_revoked_access_token_is_remembered_until_it_would_expire,
    an_assertion_is_spent_once_while_it_could_be_accepted,
    what_is_over_is_forgotten_and_nothing_else,
    a_grant_is_kept_as_long_as_any_of_its_tokens,
    more_than_fits_is_forgotten_bit_by_bit,
    a_code_for_a_user_who_is_gone_is_not_stored,
);
