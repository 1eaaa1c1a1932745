//! The smallest service behind a guard, for a `keywheel serve` beside it:
//! `guarded_service http://localhost:8080 https://api.example.com 127.0.0.1:3000`.

use axum::{Router, routing::get};
use keywheel_verifier::{Bearer, Guard, Policy, Verifier};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, audience, listen] = &arguments[..] else { return Err("needs ISSUER AUDIENCE ADDRESS".into()) };

    let verifier = Verifier::builder(Policy::access_token(issuer, audience)).name("invoices").build()?;
    let guard = Guard::new(verifier).require_scope("demo:read");
    let app = Router::new().route("/invoices", get(invoices)).with_state(guard);
    axum::serve(tokio::net::TcpListener::bind(listen).await?, app).await?;
    Ok(())
}

async fn invoices(Bearer(token): Bearer) -> String {
    format!("the invoices of {}\n", token.claims().sub)
}
