//! The listener in the clear beside one with TLS: it answers a certificate authority, and sends everybody else on to https.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};

use super::reply;
use crate::app::App;
use crate::tls::acme::challenge::http_answer;

/// What it answers.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/.well-known/acme-challenge/{token}", get(challenge))
        .fallback(send_on)
        .with_state(Arc::clone(app))
}

async fn challenge(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    match http_answer(&app, &token).await {
        Some(answer) => {
            let answer = reply::text(StatusCode::OK, answer);
            reply::header(answer, CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        }
        None => reply::problem(StatusCode::NOT_FOUND, "nothing is known of this challenge"),
    }
}

/// Who follows a link is sent to the same path at the issuer. What is posted may hold a secret, which is on the wire by
/// now: whoever sent it should notice, rather than be led on each time.
async fn send_on(State(app): State<Arc<App>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply::problem(
            StatusCode::FORBIDDEN,
            "only https is served: use the address that begins with https://",
        );
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let origin = app.config.issuer.origin();
    match HeaderValue::try_from(format!("{origin}{path}")) {
        Ok(location) => {
            let answer = reply::text(StatusCode::PERMANENT_REDIRECT, "use https\n");
            reply::header(answer, LOCATION, location)
        }
        Err(_) => reply::problem(StatusCode::BAD_REQUEST, "the path cannot be sent on"),
    }
}
