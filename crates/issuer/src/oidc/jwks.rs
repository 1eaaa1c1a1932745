//! `GET /.well-known/jwks.json`: the public ring (RFC 7517 §5), from bytes that were written when the ring changed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::app::App;
use crate::http::reply;
use crate::http::request::Peer;

/// Answers with the set of this instant; 503 when this replica's rows are too old to be handed out.
pub(crate) async fn jwks(State(app): State<Arc<App>>, request: Request) -> Response {
    let (headers, now) = (request.headers(), app.clock.now());
    let Some(document) = app.keys.jwks(now) else {
        let response = reply::problem(StatusCode::SERVICE_UNAVAILABLE, "the keys could not be read lately; try again");
        return reply::header(response, RETRY_AFTER, HeaderValue::from_static("5"));
    };
    let gzip = accepts_gzip(headers);
    let (body, etag) =
        if gzip { (&document.gzipped, &document.gzipped_etag) } else { (&document.body, &document.etag) };
    // A verifier that asks with one encoding's tag and then with another's has the same set.
    let tags = || headers.get_all(IF_NONE_MATCH).iter();
    let held = tags().any(|tags| matches(tags, &document.etag) || matches(tags, &document.gzipped_etag));
    let unchanged = held || tags().any(|tags| tags.as_bytes().trim_ascii() == b"*");
    let handed_out = !unchanged && request.method() == Method::GET;
    if held || handed_out {
        app.fetchers.note(headers, request.extensions().get().map(|Peer(ip)| *ip), &document.newest, now);
    }
    let mut response = Response::new(if unchanged { Body::empty() } else { Body::from(body.clone()) });
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(ETAG, etag.clone());
    headers.insert(CACHE_CONTROL, document.cache_control.clone());
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
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
