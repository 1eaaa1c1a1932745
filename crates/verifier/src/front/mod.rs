//! Where requests meet the verifier: one [`Guard`], and a front for each way to write a service.
//!
//! The steps of every front, in order; a front only decides what happens with the verdict:
//! 1. the token is read from the `Authorization` header or, where asked for, from a cookie (RFC 6750 §2, RFC 9449 §7.1)
//! 2. a cookie's request that may change something proves that it comes from our own pages
//! 3. the verifier judges the token and what came with it
//! 4. the guard's requirements are compared with the claims
//!
//! A request that fails a step is answered with a [`Refusal`], whose status and challenges are those of RFC 6750 §3,
//! RFC 9449 §7.1 and RFC 9728 §5.1.

#[cfg(feature = "axum")]
mod axum;
mod challenge;
mod guard;
mod layer;
mod request;
mod requirement;
mod resource_metadata;
mod same_origin;
#[cfg(test)]
mod tests;

#[cfg(feature = "axum")]
pub use self::axum::Bearer;
pub use challenge::Refusal;
pub use guard::{Guard, InvalidUrl};
pub use layer::{GuardFuture, GuardLayer, GuardService};
pub use request::PeerCertificate;
pub use requirement::{Grants, Requirement};
pub use resource_metadata::ResourceMetadata;
