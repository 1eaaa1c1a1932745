//! That a form was sent by whoever our page was shown to (cross-site request forgery).
//!
//! 1. Browsers say where a request comes from (`Sec-Fetch-Site`, or `Origin` where they are older); another site's is
//!    refused.
//! 2. Each form has a token that only its page had: a tag, which only we can make, over a secret cookie of the browser. For
//!    somebody who is signed in that is the session's, so it is worth nothing in any other session; before, it is one
//!    that is set with the page (double submit). Either has the prefix `__Host-` on https, so no neighbour domain can
//!    plant it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::session::{FORM, SESSION, cookie, name, set_cookie};
use crate::app::App;
use crate::edges::NoEntropy;
use crate::oidc::opaque::Opaque;

/// Why a form is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forged {
    /// It comes from another site.
    #[error("the form was sent from another site")]
    CrossSite,
    /// It has no token, or one of another session.
    #[error("the form has no valid token")]
    Token,
}

/// Which cookie a form is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// That of forms which make sense without a session: the one to sign in with.
    ToBrowser,
    /// That of the session.
    ToSession,
}

/// A token for a form that is bound to the browser.
pub(crate) struct Token {
    /// What goes into the field `csrf`.
    pub(crate) value: String,
    /// The cookie to set with the page, if the browser has none.
    pub(crate) cookie: Option<HeaderValue>,
}

/// The field `csrf` of forms for the session of the browser that sent `headers`; empty, and never accepted, without one.
pub(crate) fn session_token(app: &App, headers: &HeaderMap) -> String {
    secret(app, headers, Bound::ToSession).map(|secret| tag(app, Bound::ToSession, secret)).unwrap_or_default()
}

/// The token of a form for somebody who need not be signed in.
///
/// # Errors
/// [`NoEntropy`]
pub(crate) fn browser_token(app: &App, headers: &HeaderMap) -> Result<Token, NoEntropy> {
    let bound = Bound::ToBrowser;
    if let Some(secret) = secret(app, headers, bound) {
        return Ok(Token { value: tag(app, bound, secret), cookie: None });
    }
    let issuer = &app.config.issuer;
    let secret = Opaque::new(app.entropy.as_ref())?;
    let cookie = set_cookie(issuer, name(issuer, FORM), secret.expose(), None);
    Ok(Token { value: tag(app, bound, secret.expose()), cookie: Some(cookie) })
}

/// Whether a form came from our page in this browser. `token` is its field `csrf`.
///
/// # Errors
/// [`Forged`]
pub(crate) fn check(app: &App, headers: &HeaderMap, bound: Bound, token: Option<&str>) -> Result<(), Forged> {
    refuse_cross_site(app, headers)?;
    let secret = secret(app, headers, bound).ok_or(Forged::Token)?;
    let given = token.and_then(|token| URL_SAFE_NO_PAD.decode(token).ok()).ok_or(Forged::Token)?;
    if app.kek.made_tag(PURPOSE, &message(bound, secret), &given) { Ok(()) } else { Err(Forged::Token) }
}

/// Refuses what a browser says comes from elsewhere. A program that is no browser says nothing, and has no cookies either
/// that somebody else could use.
pub(crate) fn refuse_cross_site(app: &App, headers: &HeaderMap) -> Result<(), Forged> {
    let own = match headers.get("sec-fetch-site") {
        // "none" is the person: a reload, or a restored window.
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers.get(ORIGIN).is_none_or(|origin| {
            let own = Url::parse(app.config.issuer.as_str()).expect("an issuer is a URL").origin();
            origin.as_bytes() == own.ascii_serialization().as_bytes()
        }),
    };
    if own { Ok(()) } else { Err(Forged::CrossSite) }
}

fn secret<'a>(app: &App, headers: &'a HeaderMap, bound: Bound) -> Option<&'a str> {
    let kind = match bound {
        Bound::ToBrowser => FORM,
        Bound::ToSession => SESSION,
    };
    cookie(headers, name(&app.config.issuer, kind))
}

fn tag(app: &App, bound: Bound, secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(app.kek.tag(PURPOSE, &message(bound, secret)))
}

fn message(bound: Bound, secret: &str) -> Vec<u8> {
    let kind = match bound {
        Bound::ToBrowser => b'b',
        Bound::ToSession => b's',
    };
    [&[kind], secret.as_bytes()].concat()
}

const PURPOSE: &str = "form";
