//! The cookies that hold the tokens of a first-party app, out of the reach of its scripts.
//!
//! On https their names have the prefix `__Host-`: the browser sends them to this host alone and lets no neighbour set
//! them (RFC 6265bis §4.1.3.2). A service that takes the access token from its cookie is therefore reached under the same
//! host as the issuer, by a path that a reverse proxy hands on; an app elsewhere keeps a cookie of its own, and a native
//! app gets the tokens in the body.
//!
//! On http, which only a loopback issuer can be, browsers differ about `Secure`, and without it they refuse the prefix. The
//! names are then `keywheel-access` and `keywheel-refresh`, and the log says so at the start.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use tracing::warn;

use crate::config::IssuerUrl;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    Access,
    Refresh,
}

impl Cookie {
    pub(super) fn name(self, issuer: &IssuerUrl) -> &'static str {
        match (self, is_secure(issuer)) {
            (Self::Access, true) => "__Host-access",
            (Self::Access, false) => "keywheel-access",
            (Self::Refresh, true) => "__Host-refresh",
            (Self::Refresh, false) => "keywheel-refresh",
        }
    }

    /// The token in it, if it can be one of ours.
    pub(super) fn read(self, issuer: &IssuerUrl, headers: &HeaderMap) -> Option<String> {
        let name = self.name(issuer);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.find_map(|(known, value)| (known == name).then_some(value))?;
        let is_token = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        (is_token && (1..=MAX_BYTES).contains(&value.len())).then(|| value.to_owned())
    }

    /// Sets it. Without `max_age` the browser forgets it with its last window.
    pub(super) fn set(self, issuer: &IssuerUrl, token: &str, max_age: Option<Duration>) -> HeaderValue {
        let name = self.name(issuer);
        if name.len() + token.len() > MAX_BYTES {
            warn!(cookie = name, "a token is longer than browsers keep in a cookie: let the client see fewer roles");
        }
        let secure = if is_secure(issuer) { "; Secure" } else { "" };
        let max_age = max_age.map(|it| format!("; Max-Age={}", it.as_secs())).unwrap_or_default();
        let text = format!("{name}={token}; Path=/{max_age}{secure}; HttpOnly; SameSite=Strict");
        let mut value = HeaderValue::try_from(text).expect("tokens of ours are visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// Has the browser forget it.
    pub(super) fn clear(self, issuer: &IssuerUrl) -> HeaderValue {
        self.set(issuer, "", Some(Duration::ZERO))
    }
}

fn is_secure(issuer: &IssuerUrl) -> bool {
    issuer.as_str().starts_with("https:")
}

/// Name and value together; browsers drop what is longer (RFC 6265bis §5.6).
const MAX_BYTES: usize = 4096;
