//! The JWKS as bytes, ready to send (RFC 7517 §5).

use std::sync::Arc;

use http::HeaderValue;
use keywheel_jose::PublicJwk;
use keywheel_keyring::{KeyRecord, RotationPolicy};
use serde::Serialize;

use super::coverage::NewestKeys;
use crate::http::document::Document;

/// A JWKS with all that an answer needs.
pub struct JwksDocument {
    /// The document, which verifiers and shared caches may keep for a while.
    pub(crate) document: Document,
    /// Whether it holds no key. Such a document is not to be handed out: verifiers would keep it.
    pub is_empty: bool,
    /// What whoever has it holds.
    pub newest: Arc<NewestKeys>,
}

/// RFC 7517 §5, with the members of each key in the order in which the JWK writes them.
#[derive(Serialize)]
pub(crate) struct PublicKeys<'a> {
    pub(crate) keys: Vec<&'a PublicJwk>,
}

impl JwksDocument {
    /// Writes the public halves of `published`, in that order.
    pub(super) fn build(published: &[&KeyRecord], policy: &RotationPolicy) -> Self {
        let keys = published.iter().map(|record| &record.jwk).collect();
        let body = serde_json::to_vec(&PublicKeys { keys }).expect("a JWK is plain strings");
        let cache_control = format!(
            "public, max-age={}, s-maxage={}",
            policy.jwks_max_age().as_secs(),
            policy.jwks_shared_max_age().as_secs()
        );
        let cache_control = HeaderValue::try_from(cache_control).expect("visible ASCII");
        Self {
            document: Document::new(body, "application/jwk-set+json", &cache_control),
            is_empty: published.is_empty(),
            newest: Arc::new(NewestKeys::of(published)),
        }
    }
}
