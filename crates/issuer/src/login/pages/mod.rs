//! The pages, a file each.
//!
//! A handler reads like its page: who comes, what they want, what is shown. Forms are answered with 303, so that a reload
//! sends nothing twice.

pub(crate) mod account;
pub(crate) mod consent;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod home;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod password;
pub(crate) mod select_account;
mod view;

use axum::response::Response;
use http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use http::{HeaderValue, StatusCode};

/// 303: go on there with GET (RFC 9110 §15.4.4). `target` is an address that was held against a list.
pub(in crate::login) fn see_other(target: &str, cookie: Option<HeaderValue>) -> Response {
    let mut response = Response::default();
    let Ok(target) = HeaderValue::from_str(target) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, target);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
    response
}

/// When to come again where too many passwords are being hashed: each takes a fraction of that.
const BUSY_S: u64 = 2;
