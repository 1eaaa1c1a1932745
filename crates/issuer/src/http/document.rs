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

/// What the fields of a request ask of a document.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'h> {
    /// `Accept-Encoding`
    pub(crate) encodings: Option<&'h [u8]>,
    /// `If-None-Match`
    pub(crate) tags: Option<&'h [u8]>,
    /// `User-Agent`, empty for none.
    pub(crate) agent: &'h [u8],
}

struct Variant {
    body: Bytes,
    /// Strong validator of `body` (RFC 9110 §8.8.3): other bytes have another.
    etag: HeaderValue,
    headers: HeaderMap,
    headers_of_304: HeaderMap,
    /// The same as they are sent, behind the status line.
    head: Vec<u8>,
    head_of_304: Vec<u8>,
}

impl Document {
    /// Gets everything ready. Takes a fraction of a millisecond.
    pub(crate) fn new(body: Vec<u8>, content_type: &'static str, cache_control: &HeaderValue) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzipped = encoder.write_all(&body).and_then(|()| encoder.finish()).expect("a Vec takes every byte");
        let name = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..16]);
        let variant = |body: Vec<u8>, etag: String, encoding: Option<&'static str>| {
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
            headers.extend(encoding.map(|encoding| (CONTENT_ENCODING, HeaderValue::from_static(encoding))));
            let head = render("200 OK", &headers, Some(body.len()));
            let head_of_304 = render("304 Not Modified", &headers_of_304, None);
            Variant { body: body.into(), etag, headers, headers_of_304, head, head_of_304 }
        };
        let plain = variant(body, format!("\"{name}\""), None);
        let gzipped = variant(gzipped, format!("\"{name}-gzip\""), Some("gzip"));
        Self { plain, gzipped }
    }

    /// Answers a request with these headers.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> (Response, Reader) {
        let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let (variant, reader) = self.choose(values(ACCEPT_ENCODING), || values(IF_NONE_MATCH));
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

    /// Writes the answer to a `GET` as HTTP/1.1 (RFC 9112) has it, `fields` of its head included.
    pub(crate) fn write(
        &self,
        wanted: &Wanted<'_>,
        answers: &mut Vec<u8>,
        fields: impl FnOnce(StatusCode, &mut Vec<u8>),
    ) -> Reader {
        let (variant, reader) = self.choose(wanted.encodings.into_iter(), || wanted.tags.into_iter());
        let (status, head, body) = match reader {
            Reader::Gets => (StatusCode::OK, &variant.head, &variant.body[..]),
            Reader::Has | Reader::Asks => (StatusCode::NOT_MODIFIED, &variant.head_of_304, &[][..]),
        };
        answers.extend_from_slice(head);
        fields(status, answers);
        answers.extend_from_slice(b"\r\n");
        answers.extend_from_slice(body);
        reader
    }

    fn choose<'h, I: Iterator<Item = &'h [u8]>>(
        &self,
        encodings: impl Iterator<Item = &'h [u8]>,
        tags: impl Fn() -> I,
    ) -> (&Variant, Reader) {
        let variant = if accepts_gzip(encodings) { &self.gzipped } else { &self.plain };
        // Whoever asks with one encoding's tag and then with another's has the same document.
        let reader = if tags().any(|tags| matches(tags, &self.plain.etag) || matches(tags, &self.gzipped.etag)) {
            Reader::Has
        } else if tags().any(|tags| tags.trim_ascii() == b"*") {
            Reader::Asks
        } else {
            Reader::Gets
        };
        (variant, reader)
    }
}

/// The beginning of an answer, up to where fields of its own can follow.
fn render(status: &str, headers: &HeaderMap, length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    if let Some(length) = length {
        head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    head
}

/// Whether a list of `If-None-Match` holds `etag`; the comparison is weak (RFC 9110 §13.1.2).
fn matches(tags: &[u8], etag: &HeaderValue) -> bool {
    tags.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        tag == etag.as_bytes()
    })
}

/// Whether gzip is asked for by name and not with a weight of zero (RFC 9110 §12.5.3).
fn accepts_gzip<'h>(encodings: impl Iterator<Item = &'h [u8]>) -> bool {
    let mut codings = encodings.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
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
        let accepts = |value: &'static str| accepts_gzip([value.as_bytes()].into_iter());

        assert!(accepts("gzip") && accepts("deflate, GZIP;q=0.5") && accepts("br, gzip"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !accepts("gzip; q=0.000") && !accepts("xgzip"));
    }

    #[test]
    fn a_tag_matches_weakly_and_in_lists() {
        let etag = HeaderValue::from_static("\"abc\"");

        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\""] {
            assert!(matches(tags.as_bytes(), &etag), "{tags}");
        }
        for tags in ["abc", "\"ab\"", "", "\"abc-gzip\"", "*"] {
            assert!(!matches(tags.as_bytes(), &etag), "{tags}");
        }
    }
}
