//! Step 1: the token of a request, and from where it came.
//!
//! A token is read from exactly one place. The query and the form of RFC 6750 §2.2 and §2.3 are not among them: a token
//! there ends up in logs, histories and `Referer` headers (RFC 9700 §4.3.2), so `access_token=…` is a parameter like any
//! other, and the request has no token.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::presented::Scheme;

/// The certificate a client authenticated its TLS connection with (RFC 8705). The server that ends TLS puts it into the
/// extensions of each request, and thereby vouches that the client has its private key; it must never come from a header
/// that a client could have sent. Without one, a token that is bound to a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate(Bytes);

/// A token, and from where it came. Nothing about it has been checked but its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'r> {
    pub(super) token: &'r str,
    pub(super) scheme: Scheme,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Header,
    Cookie,
}

/// Why a request can't be read: `invalid_request`, a 400 (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    SeveralAuthorizations,
    Authorization(Scheme),
    SeveralCookies,
    Cookie,
    /// RFC 6750 §2: "Clients MUST NOT use more than one method to transmit the token in each request."
    TwoPlaces,
}

impl PeerCertificate {
    /// The end-entity certificate, X.509 DER.
    pub fn from_der(der: impl Into<Bytes>) -> Self {
        Self(der.into())
    }

    /// The certificate, X.509 DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl Malformed {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::SeveralAuthorizations => "several_authorization_headers",
            Self::Authorization(_) => "malformed_authorization_header",
            Self::SeveralCookies => "several_token_cookies",
            Self::Cookie => "malformed_token_cookie",
            Self::TwoPlaces => "token_in_two_places",
        }
    }

    /// The scheme whose challenge says so.
    pub(super) fn scheme(self) -> Scheme {
        match self {
            Self::Authorization(scheme) => scheme,
            _ => Scheme::Bearer,
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::SeveralAuthorizations => "there is more than one Authorization header",
            Self::Authorization(_) => "the Authorization header is malformed",
            Self::SeveralCookies => "there is more than one cookie with a token",
            Self::Cookie => "the cookie does not hold a token",
            Self::TwoPlaces => "there is a token in the Authorization header and another in a cookie",
        }
    }
}

/// The one token of a request. `cookie` is the name of the cookie that may hold it.
pub(super) fn find<'r>(headers: &'r HeaderMap, cookie: Option<&str>) -> Result<Option<Found<'r>>, Malformed> {
    let header = in_authorization(headers)?;
    let cookie = match cookie {
        Some(name) => in_cookie(headers, name)?,
        None => None,
    };
    match (header, cookie) {
        (Some(_), Some(_)) => Err(Malformed::TwoPlaces),
        (header, cookie) => Ok(header.or(cookie)),
    }
}

/// The only line of a header, `None` where there is none, an error where there are several.
pub(super) fn only_line(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, SeveralLines> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(SeveralLines),
        (line, None) => Ok(line),
    }
}

pub(super) struct SeveralLines;

/// RFC 9110 §11.6.2: `auth-scheme 1*SP token68`. The scheme is compared without case (§11.1). A scheme that is not ours
/// carries no token of ours; anything that begins like one of ours and is not a token is malformed, rather than absent,
/// so that it is not let through where a token is optional.
fn in_authorization(headers: &HeaderMap) -> Result<Option<Found<'_>>, Malformed> {
    let line = only_line(headers, AUTHORIZATION).map_err(|SeveralLines| Malformed::SeveralAuthorizations)?;
    let Some(value) = line.map(HeaderValue::as_bytes).filter(|value| !value.is_empty()) else { return Ok(None) };
    let end = value.iter().position(|byte| !is_tchar(*byte)).unwrap_or(value.len());
    let (name, rest) = value.split_at(end);
    let scheme = if name.eq_ignore_ascii_case(b"Bearer") {
        Scheme::Bearer
    } else if name.eq_ignore_ascii_case(b"DPoP") {
        Scheme::DPoP
    } else if name.is_empty() {
        return Err(Malformed::Authorization(Scheme::Bearer));
    } else {
        return Ok(None);
    };
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    match b64token(&rest[spaces..]) {
        Some(token) if spaces > 0 => Ok(Some(Found { token, scheme, place: Place::Header })),
        _ => Err(Malformed::Authorization(scheme)),
    }
}

/// RFC 6265 §5.4. HTTP/2 may divide the pairs over several lines (RFC 9113 §8.2.3). Of two cookies with one name
/// neither is believed: the second may have been planted by a neighbouring subdomain.
fn in_cookie<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<Found<'r>>, Malformed> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            if pair[..equals].trim_ascii() != name.as_bytes() {
                continue;
            }
            if found.replace(pair[equals + 1..].trim_ascii()).is_some() {
                return Err(Malformed::SeveralCookies);
            }
        }
    }
    let Some(value) = found else { return Ok(None) };
    let token = b64token(value).ok_or(Malformed::Cookie)?;
    Ok(Some(Found { token, scheme: Scheme::Bearer, place: Place::Cookie }))
}

/// RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn b64token(bytes: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let plain = bytes.iter().take_while(|byte| is_plain(byte)).count();
    let is_token = plain > 0 && bytes[plain..].iter().all(|byte| *byte == b'=');
    if is_token { str::from_utf8(bytes).ok() } else { None }
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
