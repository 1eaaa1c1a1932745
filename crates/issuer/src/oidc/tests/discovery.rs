//! What discovery says is what there is.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use super::*;
use crate::testing::{get, json};

async fn document(world: &World) -> Value {
    json(get(&world.app, "/.well-known/openid-configuration").await).await
}

#[tokio::test]
async fn every_endpoint_that_is_listed_is_there() {
    let world = World::new().await;
    let document = document(&world).await;
    let members = document.as_object().expect("an object");
    let endpoints: Vec<_> = members.iter().filter(|(name, _)| name.ends_with("_endpoint")).collect();

    assert_eq!(endpoints.len(), 6);
    for (name, url) in endpoints {
        let path = url.as_str().and_then(|url| url.strip_prefix(ISSUER)).expect("an endpoint of ours");
        let put = Request::put(path).body(Body::empty()).expect("a request");
        assert_eq!(send(&world.app, put).await.status(), StatusCode::METHOD_NOT_ALLOWED, "{name}");
    }
}

#[tokio::test]
async fn the_claims_are_listed_once_and_those_of_every_scope() {
    let world = World::new().await;
    let document = document(&world).await;

    let claims: Vec<&str> =
        document["claims_supported"].as_array().expect("claims").iter().filter_map(Value::as_str).collect();

    assert_eq!(claims.iter().collect::<BTreeSet<_>>().len(), claims.len(), "{claims:?}");
    for claim in ["sub", "name", "email_verified", "address", "phone_number", "roles", "auth_time", "sid"] {
        assert!(claims.contains(&claim), "{claim}");
    }
}

#[tokio::test]
async fn both_addresses_say_the_same() {
    let world = World::new().await;

    assert_eq!(document(&world).await, json(get(&world.app, "/.well-known/oauth-authorization-server").await).await);
}
