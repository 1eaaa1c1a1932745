//! `GET /.well-known/jwks.json`: the public ring (RFC 7517 §5), from bytes that were written when the ring changed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use keywheel_jose::Timestamp;

use crate::app::App;
use crate::http::document::{Reader, Wanted};
use crate::http::reply;
use crate::http::request::Peer;

/// Answers with the set of this instant; 503 when this replica's rows are too old to be handed out.
pub(crate) async fn jwks(State(app): State<Arc<App>>, request: Request) -> Response {
    let peer = request.extensions().get().map(|Peer(ip)| *ip);
    answer(&app, request.method(), request.headers(), peer)
}

/// The same to whoever sent these headers from `peer`.
pub(crate) fn answer(app: &App, method: &Method, headers: &HeaderMap, peer: Option<IpAddr>) -> Response {
    let now = app.clock.now();
    let Some(jwks) = app.keys.jwks(now) else {
        let response = reply::problem(StatusCode::SERVICE_UNAVAILABLE, "the keys could not be read lately; try again");
        return reply::header(response, RETRY_AFTER, HeaderValue::from_static("5"));
    };
    let (response, reader) = jwks.document.answer(headers);
    if reader == Reader::Has || reader == Reader::Gets && method == Method::GET {
        let agent = headers.get(USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        app.fetchers.note(agent, peer, &jwks.newest, now);
    }
    response
}

/// Writes the answer to a `GET` for whoever wants it from `client`; `false` when there is no set to be handed out.
pub(crate) fn write(
    app: &App,
    (client, wanted): (IpAddr, &Wanted<'_>),
    now: Timestamp,
    answers: &mut Vec<u8>,
    fields: impl FnOnce(StatusCode, &mut Vec<u8>),
) -> bool {
    let Some(jwks) = app.keys.jwks(now) else { return false };
    if jwks.document.write(wanted, answers, fields) != Reader::Asks {
        app.fetchers.note(wanted.agent, Some(client), &jwks.newest, now);
    }
    true
}
