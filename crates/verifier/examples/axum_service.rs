//! A service on axum, for a `keywheel serve` beside it: `cargo run --features axum --example axum_service`, then
//! `curl -H "Authorization: Bearer $TOKEN" http://localhost:3000/invoices`.

use axum::extract::Extension;
use axum::routing::get;
use axum::{Router, serve};
use keywheel_verifier::{AccessTokenClaims, Bearer, Guard, Policy, ResourceMetadata, Verified, Verifier};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metadata = ResourceMetadata::new(RESOURCE)?.authorization_server(ISSUER).scopes(["invoices:read"]);
    let verifier = Verifier::builder(Policy::access_token(ISSUER, RESOURCE)).name("invoices").build()?;
    let guard = Guard::new(verifier).resource_metadata(metadata.url());

    // A route with demands of its own has a layer of its own.
    let admins = guard.clone().require_role("admin").layer();
    let app = Router::new()
        .route(metadata.well_known_path(), get(metadata.clone()))
        .route("/", get(greeting))
        .route("/invoices", get(invoices))
        .route("/admin", get(administration).layer(admins))
        .with_state(guard.require_scope("invoices:read"));

    serve(TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}

/// For everybody: a token is optional, but one that does not hold is refused.
async fn greeting(token: Option<Bearer>) -> String {
    match token {
        Some(Bearer(token)) => format!("hello {}\n", token.claims().sub),
        None => "hello stranger\n".to_owned(),
    }
}

/// For tokens that the guard in the router's state accepts.
async fn invoices(Bearer(token): Bearer) -> String {
    format!("the invoices of {}\n", token.claims().sub)
}

/// For tokens that the layer of this route has accepted.
async fn administration(Extension(token): Extension<Verified<AccessTokenClaims>>) -> String {
    format!("at your service, {}\n", token.claims().sub)
}

const ISSUER: &str = "http://localhost:8080";
const RESOURCE: &str = "http://localhost:3000";
