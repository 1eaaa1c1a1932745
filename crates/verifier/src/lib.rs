//! For resource servers: verifies the tokens of an issuer with its public keys, which it fetches and keeps fresh.
//!
//! A guarded service, here with axum (cargo feature `axum`):
//!
#![cfg_attr(feature = "axum", doc = "```no_run")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::get};
//! use keywheel_verifier::{Bearer, Guard, Policy, Verifier};
//! use tokio::net::TcpListener;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let policy = Policy::access_token("https://id.example.com", "https://api.example.com");
//!     let guard = Guard::new(Verifier::builder(policy).build()?).require_scope("invoices:read");
//!     let app = Router::new().route("/invoices", get(invoices)).with_state(guard);
//!     Ok(axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app).await?)
//! }
//!
//! async fn invoices(Bearer(token): Bearer) -> String {
//!     format!("the invoices of {}", token.claims().sub)
//! }
//! ```
//!
//! A request without a token, or with one that does not hold or lacks the scope, never reaches the handler: it is answered
//! with the status and the challenge of RFC 6750. The same [`Guard`] stands before anything that tower can put it before
//! ([`Guard::layer`]), and judges a request's head in code without a framework ([`Guard::authorize`]) or without `async`
//! ([`Guard::authorize_now`]). It takes cookies, DPoP proofs and client certificates where it is told to.
//!
//! Where there is no request, ask the verifier itself:
//!
//! ```no_run
//! use keywheel_verifier::{AccessTokenClaims, Policy, Verifier, VerifyError};
//!
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::access_token("https://id.example.com", "https://api.example.com");
//! let verifier = Verifier::builder(policy).name("payments").build()?;
//!
//! match verifier.verify::<AccessTokenClaims>(token).await {
//!     Ok(verified) => println!("hello {}", verified.claims().sub),
//!     Err(VerifyError::KeysUnavailable { retry_after }) => println!("503, retry after {} s", retry_after.as_secs()),
//!     Err(error) => println!("401: {}", error.code()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Build one [`Verifier`] for each issuer at start-up and clone it into the handlers. The verdict is always that of
//! [`keywheel_jose::check`]; what this crate adds is the key set it is given:
//!
//! - It is fetched at once and then in the background, before it goes stale: no request waits for a refresh, and
//!   [`Verifier::verify_now`] needs no `async` at all.
//! - While the issuer can't be reached, the last set is used for up to [`Limits::trusted`]; then the answer is
//!   [`VerifyError::KeysUnavailable`], a 503 and never a 401.
//! - A token whose `kid` is unknown may cause a fetch, but a storm of them causes no more than one per
//!   [`Limits::cooldown`], and one that is not even plausible causes none.
//! - An answer that is broken, empty, late or too large changes nothing.
//!
//! The [`guide`] has a page for each task: every front, cookies, bound tokens, several issuers, operation, tests, and the
//! [defaults](guide::defaults) with their reasons. Needs Rust 1.95; has no `unsafe`.

mod answer;
mod cache;
mod change;
mod dpop;
mod fetch;
#[cfg(test)]
mod fixtures;
mod front;
#[cfg(any(doc, doctest))]
pub mod guide;
mod introspection;
mod ledger;
mod limits;
mod metrics;
mod presented;
#[cfg(feature = "prometheus")]
mod prometheus;
mod schedule;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod token_cache;
mod unknown_kids;
mod verifier;
mod warm_start;

pub use cache::Health;
pub use dpop::{DpopSettings, DpopSettingsError, Nonce};
pub use fetch::{Caching, FetchError, FetchFuture, FetchKeys, Fetched, UrlProblem};
#[cfg(feature = "axum")]
pub use front::Bearer;
pub use front::{
    Grants, Guard, GuardFuture, GuardLayer, GuardService, InvalidUrl, PeerCertificate, Refusal, Requirement,
    ResourceMetadata,
};
pub use introspection::{IntrospectError, Introspection, IntrospectionBuilder};
pub use keywheel_jose::{
    AccessTokenClaims, Algorithm, Audience, Confirmation, DpopPolicy, DpopRejection, DpopRequest, Explained,
    IdTokenClaims, Introspected, Outcome, Policy, PolicyError, Rejection, Step, Timestamp, TokenType, Verified,
};
pub use limits::{Limits, LimitsError};
pub use metrics::{Alarm, FetchOutcome, FetchReport, KeysChanged, Lane, Metrics, TokenCacheEvent, UnknownKid};
pub use presented::{Presented, Scheme};
#[cfg(feature = "prometheus")]
pub use prometheus::PrometheusMetrics;
pub use verifier::{BuildError, Claims, Verifier, VerifierBuilder, VerifyError};
