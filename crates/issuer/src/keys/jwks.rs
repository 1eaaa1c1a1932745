//! The JWKS as bytes, ready to send (RFC 7517 §5).

use std::io::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use keywheel_jose::PublicJwk;
use keywheel_keyring::{KeyRecord, RotationPolicy};
use serde::Serialize;

use super::coverage::NewestKeys;

/// A JWKS with all that an answer needs.
pub struct JwksDocument {
    /// The document.
    pub body: Bytes,
    /// The document in gzip.
    pub gzipped: Bytes,
    /// Strong validator of `body` (RFC 9110 §8.8.3).
    pub etag: HeaderValue,
    /// Strong validator of `gzipped`: other bytes, so another tag.
    pub gzipped_etag: HeaderValue,
    /// Whether it holds no key. Such a document is not to be handed out: verifiers would keep it.
    pub is_empty: bool,
    /// How long verifiers, and shared caches, may keep it.
    pub cache_control: HeaderValue,
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
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzipped = encoder.write_all(&body).and_then(|()| encoder.finish()).expect("a Vec takes every byte");
        let name = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..16]);
        let header = |text: String| HeaderValue::try_from(text).expect("visible ASCII");
        Self {
            is_empty: published.is_empty(),
            body: body.into(),
            gzipped: gzipped.into(),
            etag: header(format!("\"{name}\"")),
            gzipped_etag: header(format!("\"{name}-gzip\"")),
            newest: Arc::new(NewestKeys::of(published)),
            cache_control: header(format!(
                "public, max-age={}, s-maxage={}",
                policy.jwks_max_age().as_secs(),
                policy.jwks_shared_max_age().as_secs()
            )),
        }
    }
}
