//! For the tests of your own services (feature `testing`): an issuer you control, without any set-up.
//!
//! ```toml
//! [dev-dependencies]
//! keywheel-verifier = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`FakeIssuer`] signs tokens to order, publishes its keys over real HTTP on a loopback port, turns its ring when told,
//! and fails in every way an issuer can. A service under test is given a verifier for it and notices no difference:
//!
//! ```
//! use http::request::Parts;
//! use http::{Request, Response, StatusCode, header};
//! use keywheel_verifier::testing::{Document, FakeIssuer, Fault, TokenBuilder};
//! use keywheel_verifier::{AccessTokenClaims, Guard, Verified, Verifier};
//!
//! // The service, as it is in production: it is given its verifier.
//! fn guard(verifier: Verifier) -> Guard {
//!     Guard::new(verifier).require_scope("greet")
//! }
//!
//! async fn hello(guard: &Guard, request: Parts) -> Response<String> {
//!     match guard.authorize(&request).await {
//!         Ok(token) => {
//!             let subject = token.as_ref().and_then(Verified::<AccessTokenClaims>::subject);
//!             Response::new(format!("hello {}", subject.unwrap_or("stranger")))
//!         }
//!         Err(refusal) => refusal.into_response(),
//!     }
//! }
//!
//! // In the test: a request with this token.
//! fn request(token: TokenBuilder) -> Parts {
//!     let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {}", token.sign()));
//!     request.body(()).expect("a request").into_parts().0
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = FakeIssuer::start().await;
//! let service = guard(issuer.verifier().build()?);
//! let token = || issuer.token().scope("greet");
//!
//! // A good token, and some that are not.
//! let reply = hello(&service, request(token().subject("bob"))).await;
//! assert_eq!((reply.status(), reply.body().as_str()), (StatusCode::OK, "hello bob"));
//! for (token, status) in [
//!     (issuer.token(), StatusCode::FORBIDDEN),
//!     (token().expired(), StatusCode::UNAUTHORIZED),
//!     (token().audience("https://elsewhere.example"), StatusCode::UNAUTHORIZED),
//!     (token().forged(), StatusCode::UNAUTHORIZED),
//! ] {
//!     assert_eq!(hello(&service, request(token)).await.status(), status);
//! }
//!
//! // The keys turn, and nobody notices: the next key was announced long before.
//! let old = issuer.kid();
//! issuer.rotate();
//! assert_eq!(hello(&service, request(token().signed_by(old))).await.status(), StatusCode::OK);
//! assert_eq!(hello(&service, request(token())).await.status(), StatusCode::OK);
//! assert_eq!(issuer.requests(Document::Keys), 1);
//!
//! // The issuer goes down. Who has its keys goes on; who starts now answers 503, not 401.
//! issuer.fault(Fault::Down);
//! assert_eq!(hello(&service, request(token())).await.status(), StatusCode::OK);
//! let late = guard(issuer.verifier().build()?);
//! assert_eq!(hello(&late, request(token())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
//! # Ok(())
//! # }
//! ```
//!
//! Tokens that are bound to a key come with proofs from a [`DpopKey`]; opaque ones from [`TokenBuilder::opaque`], for an
//! [`Introspection`](crate::Introspection) made by [`FakeIssuer::introspection`].
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
