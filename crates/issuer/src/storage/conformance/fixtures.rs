//! People, sessions, codes and tokens to test with.

use std::time::Duration;

use serde_json::json;

use super::at;
use crate::storage::{
    LogoutTarget, NewCode, NewGrant, NewRefreshToken, NewSession, Origin, RefreshPolicy, Store, UserInsert,
};
use crate::users::{NewUser, PasswordHash, Rights};

pub(super) fn user(name: &str) -> NewUser {
    NewUser {
        id: format!("id-of-{name}"),
        username: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        email_verified: true,
        claims: json!({ "name": "Ünïcode 'quoted'" }).as_object().expect("an object").clone(),
        roles: vec!["admin".to_owned()],
        groups: vec!["staff".to_owned(), "a,b".to_owned()],
        rights: Rights::default(),
        password_hash: Some(PasswordHash::new(format!("$argon2id$of-{name}"))),
        disabled: false,
    }
}

/// Stores a user and returns the id.
pub(super) async fn stored_user(store: &Store, name: &str) -> String {
    let user = user(name);
    let inserted = store.insert_users(std::slice::from_ref(&user), &super::by()).await.expect("stored");
    assert_eq!(inserted, UserInsert::Inserted);
    user.id
}

pub(super) fn from(seconds: i64) -> Origin<'static> {
    Origin { at: at(seconds), address: Some("192.0.2.7") }
}

/// A session from 1000 to 5000 that waits until 2000.
pub(super) fn session(user_id: &str, number: u8) -> NewSession {
    NewSession {
        cookie_sha256: [number; 32],
        sid: format!("sid-{number}"),
        user_id: user_id.to_owned(),
        auth_time: at(1000),
        amr: vec!["pwd".to_owned()],
        acr: Some("1".to_owned()),
        persistent: true,
        expires_at: at(5000),
        idle_expires_at: at(2000),
        user_agent: "Example/1.0".to_owned(),
        address: "192.0.2.7".to_owned(),
    }
}

/// Stores a user and a session of theirs; the ids of both.
pub(super) async fn signed_in(store: &Store, name: &str, number: u8) -> (String, String) {
    let user_id = stored_user(store, name).await;
    let session = session(&user_id, number);
    store.create_session(&session, None, &[]).await.expect("stored");
    (user_id, session.sid)
}

pub(super) fn grant(user_id: &str, sid: Option<&str>, id: &str) -> NewGrant {
    NewGrant {
        id: id.to_owned(),
        user_id: user_id.to_owned(),
        client_id: "shop".to_owned(),
        sid: sid.map(str::to_owned),
        offline: false,
        scope: vec!["openid".to_owned(), "profile".to_owned()],
        audiences: vec!["https://api.example.com".to_owned()],
        claims_request: json!({ "userinfo": { "email": null } }).as_object().cloned(),
        nonce: Some("n".to_owned()),
        auth_time: at(1000),
        amr: vec!["pwd".to_owned()],
        acr: None,
    }
}

/// A code from 1000 to 1060.
pub(super) fn code(grant: NewGrant, number: u8) -> NewCode {
    NewCode {
        code_sha256: [number; 32],
        redirect_uri: Some("https://shop.example.com/cb?x=1".to_owned()),
        code_challenge: Some("challenge".to_owned()),
        issued_at: at(1000),
        expires_at: at(1060),
        grant,
    }
}

/// A refresh token from 1000 to 2000.
pub(super) fn refresh_token(number: u8) -> NewRefreshToken {
    NewRefreshToken { token_sha256: [number; 32], issued_at: at(1000), expires_at: at(2000) }
}

/// Stores a grant `g` for offline use with the refresh token 1.
pub(super) async fn refreshable(store: &Store) -> NewGrant {
    let user_id = stored_user(store, "alice").await;
    let grant = NewGrant { offline: true, ..grant(&user_id, None, "g") };
    assert!(store.insert_grant(&grant, Some(&refresh_token(1)), at(1600), &from(1000)).await.expect("stored"));
    grant
}

pub(super) const POLICY: RefreshPolicy = RefreshPolicy {
    grace: Duration::from_secs(10),
    idle: Duration::from_secs(1000),
    absolute: Some(Duration::from_secs(3000)),
    access_ttl: Duration::from_secs(600),
};

pub(super) fn target(client_id: &str) -> LogoutTarget {
    LogoutTarget { client_id: client_id.to_owned(), uri: format!("https://{client_id}.example.com/logout") }
}

/// What was told of, in order.
pub(super) async fn told(store: &Store) -> Vec<String> {
    store.load_events(None, 100).await.expect("events").into_iter().map(|event| event.kind).collect()
}

/// Eight stores on one database, four processes with two callers each.
pub(super) async fn eight(place: &super::Place) -> Vec<Store> {
    let mut stores = Vec::new();
    for _ in 0..4 {
        let store = place.open().await;
        stores.extend([store.clone(), store]);
    }
    stores
}

/// Runs all at once, and returns what they gave.
pub(super) async fn all<T: Send + 'static>(tasks: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}
