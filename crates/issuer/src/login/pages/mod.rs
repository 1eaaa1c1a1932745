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
use http::HeaderValue;
use http::header::SET_COOKIE;

use crate::http::reply;

/// 303, and cookies to keep. `target` is an address that was held against a list.
pub(in crate::login) fn see_other(target: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let mut response = reply::see_other(target);
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// When to come again where too many passwords are being hashed: each takes a fraction of that.
const BUSY_S: u64 = 2;
