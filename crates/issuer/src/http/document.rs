//! Public documents that are written once and sent often: with their compressed form, their validators and all their
//! headers ready, so that sending one is a copy of a few words.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// A document that everybody may read, pages of every origin too.
pub(crate) struct Document {
    plain: Variant,
    gzipped: Variant,
}

/// What a request for a document shows of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// They get it now.
    Gets,
    /// They have it.
    Has,
    /// They want to know whether there is one at all.
    Asks,
}

struct Variant {
    body: Bytes,
    /// Strong validator of `body` (RFC 9110 §8.8.3): other bytes have another.
    etag: HeaderValue,
    headers: HeaderMap,
    headers_of_304: HeaderMap,
}

impl Document {
    /// Gets everything ready. Takes a fraction of a millisecond.
    pub(crate) fn new(body: Vec<u8>, content_type: &'static str, cache_control: &HeaderValue) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzipped = encoder.write_all(&body).and_then(|()| encoder.finish()).expect("a Vec takes every byte");
        let name = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..16]);
        let variant = |body: Vec<u8>, etag: String| {
            let etag = HeaderValue::try_from(etag).expect("visible ASCII");
            let headers_of_304 = HeaderMap::from_iter([
                (ETAG, etag.clone()),
                (CACHE_CONTROL, cache_control.clone()),
                (VARY, HeaderValue::from_static("accept-encoding")),
                (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
                (ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag")),
            ]);
            let mut headers = headers_of_304.clone();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            Variant { body: body.into(), etag, headers, headers_of_304 }
        };
        let plain = variant(body, format!("\"{name}\""));
        let mut gzipped = variant(gzipped, format!("\"{name}-gzip\""));
        gzipped.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Self { plain, gzipped }
    }

    /// Answers a request with these headers.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> (Response, Reader) {
        let variant = if accepts_gzip(headers) { &self.gzipped } else { &self.plain };
        // Whoever asks with one encoding's tag and then with another's has the same document.
        let tags = || headers.get_all(IF_NONE_MATCH).iter();
        let reader = if tags().any(|tags| matches(tags, &self.plain.etag) || matches(tags, &self.gzipped.etag)) {
            Reader::Has
        } else if tags().any(|tags| tags.as_bytes().trim_ascii() == b"*") {
            Reader::Asks
        } else {
            Reader::Gets
        };
        let mut response;
        if reader == Reader::Gets {
            response = Response::new(Body::from(variant.body.clone()));
            *response.headers_mut() = variant.headers.clone();
        } else {
            response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = variant.headers_of_304.clone();
        }
        (response, reader)
    }
}

/// Whether a list of `If-None-Match` holds `etag`; the comparison is weak (RFC 9110 §13.1.2).
fn matches(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    tags.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        tag == etag.as_bytes()
    })
}

/// Whether gzip is asked for by name and not with a weight of zero (RFC 9110 §12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut codings = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    codings.any(|coding| {
        let mut parts = coding.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
        let refused = parts.any(|weight| {
            weight.strip_prefix(b"q=").is_some_and(|weight| weight.iter().all(|&byte| byte == b'0' || byte == b'.'))
        });
        named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_ask_for_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };

        assert!(accepts("gzip") && accepts("deflate, GZIP;q=0.5") && accepts("br, gzip"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !accepts("gzip; q=0.000") && !accepts("xgzip"));
    }

    #[test]
    fn a_tag_matches_weakly_and_in_lists() {
        let etag = HeaderValue::from_static("\"abc\"");

        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\""] {
            assert!(matches(&HeaderValue::from_static(tags), &etag), "{tags}");
        }
        for tags in ["abc", "\"ab\"", "", "\"abc-gzip\"", "*"] {
            assert!(!matches(&HeaderValue::from_static(tags), &etag), "{tags}");
        }
    }
}
