//! How to use this crate, a page for each task. Documentation only: there is nothing to call here.
//!
//! | you want to | read |
//! | --- | --- |
//! | guard an axum service | [`axum`] |
//! | guard tonic, tower, or anything else that is a `Service` | [`tower`] |
//! | guard a service on bare hyper | [`hyper`] |
//! | guard code without `async` | [`blocking`] |
//! | guard a service in another language | [`gate`] |
//! | know from where tokens are taken, and what a cookie has to prove | [`requests`] |
//! | take tokens that only their owner can use: DPoP, mutual TLS | [`bound_tokens`] |
//! | take tokens of several issuers, or opaque ones | [`issuers`] |
//! | run it: restarts, metrics, alarms, probes, "why 401?" | [`operation`] |
//! | test your service | [`testing`] |
//! | look up a default, and why it is what it is | [`defaults`] |
//! | replace calls of `jsonwebtoken` | [`migration`] |
//! | choose a verifier | [`comparison`] |
//!
//! # Versions
//! The oldest Rust this crate is built with is 1.95 (`rust-version`); raising it is a minor release. There is no `unsafe`
//! in it. Public enums that may grow are `#[non_exhaustive]`; [`Algorithm`](crate::Algorithm) is not, because code that
//! tells algorithms apart has to look at another one, so that is a major release. [`Limits`](crate::Limits) may get
//! further fields in a minor release: end a literal of it with `..Limits::default()`.

#[cfg_attr(feature = "axum", doc = include_str!("axum.md"))]
#[cfg_attr(not(feature = "axum"), doc = "This page is about the cargo feature `axum`, and is built with it.")]
pub mod axum {}

#[doc = include_str!("tower.md")]
pub mod tower {}

#[doc = include_str!("hyper.md")]
pub mod hyper {}

#[doc = include_str!("blocking.md")]
pub mod blocking {}

#[doc = include_str!("gate.md")]
pub mod gate {}

#[doc = include_str!("requests.md")]
pub mod requests {}

#[doc = include_str!("bound_tokens.md")]
pub mod bound_tokens {}

#[doc = include_str!("issuers.md")]
pub mod issuers {}

#[doc = include_str!("operation.md")]
pub mod operation {}

#[cfg_attr(feature = "testing", doc = include_str!("testing.md"))]
#[cfg_attr(not(feature = "testing"), doc = "This page is about the cargo feature `testing`, and is built with it.")]
pub mod testing {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("migration.md")]
pub mod migration {}

#[doc = include_str!("comparison.md")]
pub mod comparison {}
