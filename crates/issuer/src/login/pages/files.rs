//! `/static/…`: the stylesheet and the pictures. Their addresses change with their content.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderValue, StatusCode};

use crate::app::App;
use crate::http::reply;

/// `GET /static/{name}`
pub(crate) async fn get(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let Some(file) = app.login.theme.file(&name) else {
        return reply::problem(StatusCode::NOT_FOUND, "there is nothing at this address");
    };
    let mut response = reply::with_body(StatusCode::OK, file.content_type.clone(), file.bytes.clone());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    // The operator's logo may be an SVG, which is a document when somebody opens it by itself.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"),
    );
    response
}
