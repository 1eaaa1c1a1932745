//! What apps have registered, and servers of the first version that know nothing of it.

use sqlx::Row as _;

use super::fixtures::all;
use super::{Place, at, by, by_at, client};
use crate::clients::{Authentication, Client, ClientKeys, GrantType, RedirectUri, SecretMethod, WebUri};
use crate::storage::{ClientChange, Generations, Store};

fn app(id: &str, authentication: Authentication) -> Client {
    Client {
        redirect_uris: vec![RedirectUri::parse("https://app.example.com/callback?a='b'").expect("a URI")],
        grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        scopes: vec!["openid".to_owned(), "ünï".to_owned()],
        first_party: true,
        created_at: Some(at(7)),
        ..Client::new(id, authentication)
    }
}

fn by_keys() -> Authentication {
    let keys = ClientKeys::At(WebUri::parse("https://app.example.com/jwks").expect("a URI"));
    Authentication::PrivateKeyJwt { keys, alg: None }
}

fn add_scope(scope: String) -> impl FnOnce(&mut Client) -> Result<(), String> {
    move |client| {
        client.scopes.push(scope);
        Ok(())
    }
}

async fn only(store: &Store) -> Client {
    let mut clients = store.load_clients().await.expect("clients");
    assert_eq!(clients.len(), 1);
    clients.remove(0)
}

async fn apps_are_read_as_they_were_stored(place: Place) {
    let store = place.open().await;
    let apps = [app("keys", by_keys()), app("public", Authentication::None)];

    store.insert_clients(&apps, &by_at(7)).await.expect("stored");

    assert_eq!(store.load_clients().await.expect("clients"), apps);
}

async fn a_client_of_the_first_version_is_still_one(place: Place) {
    let store = place.open().await;
    sqlx::query(
        "INSERT INTO clients (id, name, secret_sha256, auth_method, access_token_alg, scopes, audiences, created_at) \
         VALUES ('old', NULL, $1, 'client_secret_post', 'RS256', '[\"a\"]', '[\"https://api.example.com\"]', 7)",
    )
    .bind([9_u8; 32].as_slice())
    .execute(&store.writer)
    .await
    .expect("stored");

    let old = only(&store).await;

    assert_eq!(old.authentication, Authentication::Secret { sha256: [9; 32], method: Some(SecretMethod::Post) });
    assert_eq!(
        (&old.scopes[..], &old.audiences[..]),
        (&["a".to_owned()][..], &["https://api.example.com".to_owned()][..])
    );
    assert_eq!((old.grants, old.created_at), ([GrantType::ClientCredentials].into(), Some(at(7))));
}

async fn a_server_of_the_first_version_can_read_every_client(place: Place) {
    let store = place.open().await;
    let clients = [app("keys", by_keys()), app("public", Authentication::None), client("service")];
    store.insert_clients(&clients, &by()).await.expect("stored");

    let rows = sqlx::query("SELECT secret_sha256, auth_method, scopes, audiences FROM clients ORDER BY id");
    let rows = rows.fetch_all(&store.writer).await.expect("rows");

    let methods: Vec<Option<String>> = rows.iter().map(|row| row.get("auth_method")).collect();
    assert_eq!(methods, [None, None, Some("client_secret_post".to_owned())]);
    for row in &rows {
        assert_eq!(row.get::<Vec<u8>, _>("secret_sha256").len(), 32);
        for column in ["scopes", "audiences"] {
            serde_json::from_str::<Vec<String>>(&row.get::<String, _>(column)).expect("a list");
        }
    }
}

async fn a_change_is_made_counted_and_recorded(place: Place) {
    let store = place.open().await;
    store.insert_clients(&[app("app", Authentication::None)], &by_at(7)).await.expect("stored");
    let change = |client: &mut Client| {
        client.name = Some("App".to_owned());
        client.authentication = Authentication::Secret { sha256: [9; 32], method: None };
        client.id = "other".to_owned();
        Ok::<(), ()>(())
    };

    let outcome = store.change_client("app", change, &by()).await.expect("answered");

    let members = ["client_name", "token_endpoint_auth_method"].map(str::to_owned).to_vec();
    assert_eq!(outcome, ClientChange::Done(members));
    let changed = only(&store).await;
    let authentication = Authentication::Secret { sha256: [9; 32], method: None };
    assert_eq!(changed, Client { name: Some("App".to_owned()), ..app("app", authentication) });
    assert_eq!(store.look().await.expect("a look").generations, Generations { keys: 0, clients: 2 });
    let entry = store.load_audit(1).await.expect("the log").remove(0);
    assert_eq!((entry.act.as_str(), entry.subject.as_str()), ("client.changed", "app"));
    assert_eq!(entry.details, r#"{"members":["client_name","token_endpoint_auth_method"]}"#);
}

async fn a_change_that_is_refused_or_none_leaves_no_trace(place: Place) {
    let store = place.open().await;
    let before = app("app", Authentication::None);
    store.insert_clients(std::slice::from_ref(&before), &by_at(7)).await.expect("stored");
    let refuse = |client: &mut Client| {
        client.scopes.clear();
        Err("no".to_owned())
    };

    let refused = store.change_client("app", refuse, &by()).await.expect("answered");
    let same = store.change_client("app", |_| Ok::<(), ()>(()), &by()).await.expect("answered");
    let unknown = store.change_client("nobody", add_scope("x".to_owned()), &by()).await.expect("answered");

    assert_eq!(refused, ClientChange::Refused("no".to_owned()));
    assert_eq!((same, unknown), (ClientChange::Done(vec![]), ClientChange::Unknown));
    assert_eq!(only(&store).await, before);
    assert_eq!(store.look().await.expect("a look").generations, Generations { keys: 0, clients: 1 });
}

async fn of_eight_changes_at_once_none_is_lost(place: Place) {
    let stores = [place.open().await, place.open().await];
    stores[0].insert_clients(&[Client { scopes: vec![], ..client("a") }], &by()).await.expect("stored");

    let changes = (0..4).flat_map(|_| stores.iter().cloned()).enumerate().map(|(number, store)| async move {
        store.change_client("a", add_scope(format!("scope-{number}")), &by()).await.expect("answered")
    });
    let outcomes = all(changes.collect()).await;

    assert!(outcomes.iter().all(|outcome| matches!(outcome, ClientChange::Done(_))), "{outcomes:?}");
    let mut scopes = only(&stores[1]).await.scopes;
    scopes.sort_unstable();
    assert_eq!(scopes, (0..8).map(|number| format!("scope-{number}")).collect::<Vec<_>>());
}

on_both!(
    apps_are_read_as_they_were_stored,
    a_client_of_the_first_version_is_still_one,
    a_server_of_the_first_version_can_read_every_client,
    a_change_is_made_counted_and_recorded,
    a_change_that_is_refused_or_none_leaves_no_trace,
    of_eight_changes_at_once_none_is_lost,
);
