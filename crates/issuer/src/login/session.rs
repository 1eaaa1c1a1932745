//! The cookie of a browser in which somebody is signed in, and the session it stands for.
//!
//! Its value is 256 random bits, of which only the SHA-256 is stored. Each sign-in gives the browser another value, so
//! that one which somebody planted there before is worth nothing afterwards.
//!
//! On https the name has the prefix `__Host-`, by which browsers take the cookie from this host alone, for the whole of it,
//! over TLS (RFC 6265bis §4.1.3.2). On http, which only a loopback issuer can be, browsers differ about `Secure`, so the
//! cookie goes without; its longer name there keeps it apart from those of other programs on this machine, which share
//! their cookies whatever their ports.

use std::net::IpAddr;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use keywheel_jose::Timestamp;

use super::known_device;
use crate::app::App;
use crate::config::IssuerUrl;
use crate::edges::NoEntropy;
use crate::oidc::opaque::{Opaque, new_id, sha256};
use crate::storage::{LogoutTarget, NewSession, Session, SessionStart, StoreError};
use crate::users::User;

/// Why nobody can be signed in at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// Somebody whose password was right.
pub(crate) struct SignedIn<'a> {
    pub(crate) user: &'a User,
    pub(crate) remember: Remember,
    pub(crate) address: Option<IpAddr>,
}

/// A session that has begun.
pub(crate) struct Started {
    /// The cookies to set.
    pub(crate) cookies: [HeaderValue; 2],
    /// What apps know it by.
    pub(crate) sid: String,
}

/// Whether a session outlives the browser's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remember {
    Yes,
    No,
}

/// The live session of the browser that sent these headers. That it is used is noted once a minute at most.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn current(app: &App, headers: &HeaderMap) -> Result<Option<Session>, StoreError> {
    let Some(value) = cookie(headers, name(&app.config.issuer, SESSION)) else { return Ok(None) };
    let (hash, now) = (sha256(value), app.clock.now());
    let Some(session) = app.store.session(&hash, now).await? else { return Ok(None) };
    note_use(app, &session, now).await?;
    Ok(Some(session))
}

/// The live session that apps know by this `sid`, which one of them goes on with: that is use of it too.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn used_by_app(app: &App, sid: &str, now: Timestamp) -> Result<Option<Session>, StoreError> {
    let Some(session) = app.store.session_by_sid(sid, now).await? else { return Ok(None) };
    note_use(app, &session, now).await?;
    Ok(Some(session))
}

/// Puts off when a session ends for want of use; a minute of use is noted once.
async fn note_use(app: &App, session: &Session, now: Timestamp) -> Result<(), StoreError> {
    let tokens = &app.config.tokens;
    let idle = if session.persistent { tokens.remember_ttl } else { tokens.session_idle_ttl };
    if now.duration_since(session.last_seen_at) >= TOUCH_EVERY.min(idle / 4) {
        app.store.touch_session(&session.sid, now, now + idle).await?;
    }
    Ok(())
}

/// Signs somebody in at this browser. `None` when they may not sign in any more.
///
/// # Errors
/// [`StartError`]; nothing has changed then.
pub(crate) async fn start(
    app: &App,
    headers: &HeaderMap,
    signed_in: &SignedIn<'_>,
) -> Result<Option<Started>, StartError> {
    let tokens = &app.config.tokens;
    let remember = signed_in.remember == Remember::Yes && !tokens.remember_ttl.is_zero();
    let (lifetime, idle) = if remember {
        (tokens.remember_ttl, tokens.remember_ttl)
    } else {
        (tokens.session_ttl, tokens.session_idle_ttl)
    };
    let now = app.clock.now();
    let value = Opaque::new(app.entropy.as_ref())?;
    let session = NewSession {
        cookie_sha256: value.sha256(),
        sid: new_id(app.entropy.as_ref())?,
        user_id: signed_in.user.id.clone(),
        auth_time: now,
        amr: vec![PASSWORD.to_owned()],
        acr: Some(ACR.to_owned()),
        persistent: remember,
        expires_at: now + lifetime,
        idle_expires_at: now + idle,
        user_agent: user_agent(headers),
        address: signed_in.address.map(|address| address.to_string()).unwrap_or_default(),
    };
    let known_device = known_device::remember(app, headers, signed_in.user)?;
    let name = name(&app.config.issuer, SESSION);
    let replaced = cookie(headers, name).map(sha256);
    let started = app.store.create_session(&session, replaced.as_ref(), &logout_targets(app)).await?;
    let max_age = remember.then_some(lifetime);
    Ok(match started {
        SessionStart::Started { sid, ended } => {
            if ended.is_some() {
                app.logouts.wake();
            }
            let cookie = set_cookie(&app.config.issuer, name, value.expose(), max_age);
            Some(Started { cookies: [cookie, known_device], sid })
        }
        SessionStart::Refused => None,
    })
}

/// Has the browser forget the cookie of its session, which may be over already.
pub(crate) fn clear(app: &App) -> HeaderValue {
    let issuer = &app.config.issuer;
    set_cookie(issuer, name(issuer, SESSION), "", Some(Duration::ZERO))
}

/// The clients that want to be told of the ends of sessions, for the methods of the store that end some.
pub(crate) fn logout_targets(app: &App) -> Vec<LogoutTarget> {
    let clients = app.clients();
    let targets = clients.iter().filter_map(|client| {
        let uri = client.backchannel_logout_uri.as_ref()?.to_string();
        Some(LogoutTarget { client_id: client.id.clone(), uri })
    });
    targets.collect()
}

/// Whether cookies are only ever sent over TLS.
pub(super) fn is_secure(issuer: &IssuerUrl) -> bool {
    issuer.as_str().starts_with("https:")
}

/// What the names of our cookies are on https and on http.
pub(super) struct Name {
    https: &'static str,
    http: &'static str,
}

pub(super) const SESSION: Name = Name { https: "__Host-session", http: "keywheel-session" };
pub(super) const FORM: Name = Name { https: "__Host-form", http: "keywheel-form" };
pub(super) const KNOWN_DEVICE: Name = Name { https: "__Host-device", http: "keywheel-device" };
pub(super) const LANGUAGE: Name = Name { https: "__Host-language", http: "keywheel-language" };

pub(super) fn name(issuer: &IssuerUrl, name: Name) -> &'static str {
    if is_secure(issuer) { name.https } else { name.http }
}

/// The value of a cookie, if it is one that we set: base64url characters only, and no more than the longest of ours has.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find_map(|(known, value)| (known == name).then_some(value))?;
    let ours = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (ours && (1..=known_device::MAX_CHARACTERS).contains(&value.len())).then_some(value)
}

/// `value` is of base64url characters. Without `max_age` the browser forgets it with its last window.
pub(super) fn set_cookie(issuer: &IssuerUrl, name: &str, value: &str, max_age: Option<Duration>) -> HeaderValue {
    let secure = if is_secure(issuer) { "; Secure" } else { "" };
    let max_age = max_age.map(|it| format!("; Max-Age={}", it.as_secs())).unwrap_or_default();
    let text = format!("{name}={value}; Path=/{max_age}{secure}; HttpOnly; SameSite=Lax");
    let mut value = HeaderValue::try_from(text).expect("names and values of our cookies are visible ASCII");
    value.set_sensitive(true);
    value
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(http::header::USER_AGENT).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    text.unwrap_or_default().chars().filter(|it| !it.is_control()).take(MAX_USER_AGENT).collect()
}

/// Each note is a write.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Enough to tell browsers apart.
const MAX_USER_AGENT: usize = 256;

/// RFC 8176
const PASSWORD: &str = "pwd";

/// One factor.
const ACR: &str = "1";
