//! For the tests of your own services (feature `testing`): an issuer you control, without any set-up.
//!
//! ```toml
//! [dev-dependencies]
//! keywheel-verifier = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`FakeIssuer`] signs tokens to order, publishes its keys over real HTTP on a loopback port, turns its ring when told,
//! and fails in every way an issuer can. A service under test is given its verifier and notices no difference:
//!
//! ```
//! use http::{Request, Response, StatusCode, header};
//! use keywheel_verifier::testing::{Document, Fault, FakeIssuer};
//! use keywheel_verifier::{AccessTokenClaims, Verifier, VerifyError};
//!
//! // The service: any hyper or axum handler that holds a `Verifier`.
//! async fn hello(verifier: &Verifier, request: Request<()>) -> Response<String> {
//!     let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
//!     let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
//!     let (status, body) = match verifier.verify::<AccessTokenClaims>(token).await {
//!         Ok(verified) => (StatusCode::OK, format!("hello {}", verified.claims().sub)),
//!         Err(VerifyError::KeysUnavailable { .. }) => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
//!         Err(_) => (StatusCode::UNAUTHORIZED, String::new()),
//!     };
//!     Response::builder().status(status).body(body).expect("a status and a body")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = FakeIssuer::start().await;
//! let verifier = issuer.verifier().build()?;
//! let get = |token: String| {
//!     Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}")).body(()).expect("a request")
//! };
//!
//! // A good token, and some that are not.
//! let reply = hello(&verifier, get(issuer.token().subject("bob").sign())).await;
//! assert_eq!((reply.status(), reply.body().as_str()), (StatusCode::OK, "hello bob"));
//! for token in [
//!     issuer.token().expired().sign(),
//!     issuer.token().audience("https://elsewhere.example").sign(),
//!     issuer.token().forged().sign(),
//! ] {
//!     assert_eq!(hello(&verifier, get(token)).await.status(), StatusCode::UNAUTHORIZED);
//! }
//!
//! // The keys turn, and nobody notices: the next key was announced long before.
//! let old = issuer.token().sign();
//! issuer.rotate();
//! assert_eq!(hello(&verifier, get(old)).await.status(), StatusCode::OK);
//! assert_eq!(hello(&verifier, get(issuer.token().sign())).await.status(), StatusCode::OK);
//! assert_eq!(issuer.requests(Document::Keys), 1);
//!
//! // The issuer goes down. What a service has learnt before lasts; one that starts now answers 503, not 401.
//! issuer.fault(Fault::Down);
//! assert_eq!(hello(&verifier, get(issuer.token().sign())).await.status(), StatusCode::OK);
//! let late = issuer.verifier().build()?;
//! assert_eq!(hello(&late, get(issuer.token().sign())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
//! # Ok(())
//! # }
//! ```
//!
//! # Time
//! Tokens are issued and judged by the issuer's [`TestClock`]: `issuer.clock().advance(..)` makes them expire. The age of
//! a key set goes by tokio's clock instead. To move that, use [`FakeIssuer::in_memory`], which has no sockets, under
//! `tokio::time::pause` and `tokio::time::advance`; real sockets and a paused clock don't go together.
//!
//! # Not for production
//! This module makes and holds private keys, which nothing else in this crate does. It is compiled only with the feature
//! `testing`: name it under `[dev-dependencies]` alone.

mod clock;
mod dpop;
mod fault;
mod issuer;
mod keys;
mod ring;
mod server;
mod signer;
#[cfg(test)]
mod tests;
mod token;

pub use clock::TestClock;
pub use dpop::{DpopKey, ProofBuilder};
pub use fault::{Document, Fault};
pub use issuer::{FakeIssuer, FakeIssuerBuilder};
pub use keys::FakeKeys;
pub use token::TokenBuilder;
