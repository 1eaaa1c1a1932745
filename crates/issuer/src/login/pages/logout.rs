//! The pages of signing out: whether somebody means it, and that it is done.

use std::sync::Arc;

use axum::response::Response;
use http::HeaderMap;
use minijinja::{Value, context};
use url::Url;

use super::view;
use crate::app::App;
use crate::clients::Client;
use crate::login::csrf;
use crate::login::render::Page;
use crate::login::visit::Visit;
use crate::storage::EndedSession;
use crate::users::User;

/// Somebody who is asked whether they mean to sign out.
pub(crate) struct Confirmation<'a> {
    /// Who is signed in.
    pub(crate) user: &'a User,
    /// The app that asks for it, if that is known.
    pub(crate) client: Option<&'a Client>,
    /// Where they are sent afterwards.
    pub(crate) post_logout_redirect_uri: Option<&'a str>,
    /// The parameters of the request, which come back with the answer.
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// The languages the app asks for.
    pub(crate) ui_locales: &'a [String],
}

/// Where somebody goes on who was signed out.
pub(crate) struct GoOn<'a> {
    /// An address that is registered for it.
    pub(crate) uri: &'a str,
    /// The app that it belongs to.
    pub(crate) client: &'a Client,
}

/// Asks whether to sign out. The answer is a form at `/oauth2/logout` with the given fields, `csrf` for
/// [`csrf::check`] (bound to the session), and `decision`: `sign-out` or `stay`.
pub(crate) fn confirmation(app: &Arc<App>, headers: &HeaderMap, asked: &Confirmation<'_>) -> Response {
    let mut visit = Visit::without_session(Arc::clone(app), headers);
    visit.prefer(asked.ui_locales);
    let fields: Vec<Value> = asked.fields.iter().map(|&(name, value)| context! { name, value }).collect();
    let context = context! {
        csrf => csrf::session_token(app, headers),
        fields,
        user => view::person(asked.user),
        app => asked.client.map(view::client),
    };
    let targets = asked.post_logout_redirect_uri.and_then(view::form_target);
    Page::new(&visit, "logout.html", context)
        .images(asked.client.and_then(view::logo_origin))
        .form_targets(targets)
        .respond()
}

/// Says that somebody is signed out. `frames` are addresses that apps want the browser to load for it (OpenID Connect
/// Front-Channel Logout §2); afterwards the browser goes on by itself. Clears the cookie of the session.
pub(crate) fn signed_out(
    app: &Arc<App>,
    headers: &HeaderMap,
    frames: &[String],
    go_on: Option<&GoOn<'_>>,
    ui_locales: &[String],
) -> Response {
    let mut visit = Visit::without_session(Arc::clone(app), headers);
    visit.prefer(ui_locales);
    let context = context! {
        frames => frames.to_vec(),
        app => go_on.map(|it| view::client(it.client)),
        uri => go_on.map(|it| it.uri),
    };
    let origins = frames.iter().filter_map(|frame| Url::parse(frame).ok()).map(|it| it.origin().ascii_serialization());
    let mut origins: Vec<String> = origins.collect();
    origins.sort();
    origins.dedup();
    Page::new(&visit, "signed_out.html", context)
        .images(go_on.and_then(|it| view::logo_origin(it.client)))
        .frames(origins)
        .cookies([crate::login::session::clear(app)])
        .respond()
}

/// The addresses that the apps of a session want to be loaded when it ends (OpenID Connect Front-Channel Logout §2:
/// `iss` and `sid`, where they registered for them).
pub(crate) fn frames(app: &App, ended: &EndedSession) -> Vec<String> {
    let clients = app.clients();
    let uris = ended.clients.iter().filter_map(|id| {
        let client = clients.find(id)?;
        let mut uri = Url::parse(client.frontchannel_logout_uri.as_ref()?.as_str()).ok()?;
        if client.frontchannel_logout_session_required {
            uri.query_pairs_mut().append_pair("iss", app.config.issuer.as_str()).append_pair("sid", &ended.sid);
        }
        Some(uri.to_string())
    });
    uris.collect()
}

/// Answers somebody who ended sessions of their own on one of our pages.
pub(super) fn done(app: &Arc<App>, headers: &HeaderMap, ended: &[EndedSession]) -> Response {
    let frames: Vec<String> = ended.iter().flat_map(|ended| frames(app, ended)).collect();
    signed_out(app, headers, &frames, None, &[])
}
