//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0): an app sends somebody here to sign out of everything.
//!
//! 1. Who asks is known by the `id_token_hint` or the `client_id`. Only then may the request say where to go afterwards, and
//!    only an address the client is registered with, to the character. Every fault is a page: nobody is redirected to an
//!    address that is not proven.
//! 2. A hint that names the person and the session of this very browser is enough: the app that has it was signed into
//!    from here. Without one anybody may have sent the person, who is asked first (§6).
//! 3. The session ends in the database, with what was granted from it; clients with a back-channel are told from there.
//!    Those with a front-channel are told by the page that the browser shows then.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use tracing::error;
use url::form_urlencoded;

use super::hint::{self, Hint};
use crate::app::App;
use crate::clients::Client;
use crate::http::reply;
use crate::http::request::{Form, Peer, RequestError};
use crate::login::csrf::{self, Bound};
use crate::login::pages::error::{self, Fault};
use crate::login::pages::logout::{Confirmation, GoOn, confirmation, frames, signed_out};
use crate::login::session;
use crate::storage::{Origin, Session, StoreError};

/// A request in order.
struct Asked<'f> {
    form: &'f Form,
    hint: Option<Hint>,
    client: Option<Arc<Client>>,
    /// Where to go afterwards, with `state`; of the client.
    go_on: Option<String>,
    ui_locales: Vec<String>,
}

/// What somebody is told instead, with a line for whoever runs the app.
struct Refused(Fault, Option<&'static str>);

/// `GET` and `POST /oauth2/logout`
pub(crate) async fn logout(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    match answer(&app, &parts, body).await {
        Ok(response) => response,
        Err(Refused(fault, details)) => error::page(&app, &parts.headers, fault, details),
    }
}

async fn answer(app: &Arc<App>, parts: &Parts, body: Body) -> Result<Response, Refused> {
    let form = read_form(app, parts, body).await?;
    let asked = Asked::read(app, &form)?;
    let headers = &parts.headers;
    let Some(session) = session::current(app, headers).await? else {
        if parts.method == Method::POST {
            if form.get(TOKEN).is_none() {
                return Ok(asked.again(app));
            }
            // Another site's form, too, comes without the cookie; it must not have the browser forget it.
            csrf::refuse_cross_site(app, headers).map_err(|forged| Refused(forged.into(), None))?;
        }
        return Ok(asked.done(app, headers, &[]));
    };
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string());
    let origin = Origin { at: app.clock.now(), address: address.as_deref() };
    if parts.method == Method::POST && form.get(TOKEN).is_some() {
        csrf::check(app, headers, Bound::ToSession, form.get(TOKEN)).map_err(|forged| Refused(forged.into(), None))?;
        return match form.get(DECISION) {
            Some("sign-out") => asked.end(app, headers, &session, &origin).await,
            _ => Ok(asked.stay(app)),
        };
    }
    if asked.names(&session) {
        return asked.end(app, headers, &session, &origin).await;
    }
    asked.ask(app, headers, &session).await
}

async fn read_form(app: &App, parts: &Parts, body: Body) -> Result<Form, Refused> {
    let form = if parts.method == Method::POST {
        let server = &app.config.server;
        Form::read(&parts.headers, body, server.max_body_bytes, server.body_timeout).await
    } else {
        Form::of_query(&parts.uri)
    };
    form.map_err(|unreadable| match unreadable {
        RequestError::TooLarge => Refused(Fault::TooLarge, None),
        RequestError::Repeated => Refused(Fault::Unreadable, Some("a parameter is included more than once")),
        _ => Refused(Fault::Unreadable, None),
    })
}

impl<'f> Asked<'f> {
    /// Step 1.
    fn read(app: &App, form: &'f Form) -> Result<Self, Refused> {
        let bad = |details| Refused(Fault::BadLogout, Some(details));
        let hint = match form.get("id_token_hint") {
            None => None,
            Some(token) => {
                Some(hint::read(app, token).ok_or_else(|| bad("id_token_hint is not an ID token of this issuer"))?)
            }
        };
        let named = form.get("client_id");
        // §2: "the OP MUST verify that the Client Identifier matches the one used when issuing the ID Token".
        if let (Some(hint), Some(named)) = (&hint, named)
            && hint.aud != named
        {
            return Err(bad("id_token_hint was issued to another client than client_id"));
        }
        let id = named.or(hint.as_ref().map(|hint| hint.aud.as_str()));
        let client = id.and_then(|id| app.clients().find(id).cloned());
        if named.is_some() && client.is_none() {
            return Err(bad("client_id is not registered"));
        }
        let go_on = match (form.get("post_logout_redirect_uri"), &client) {
            (None, _) => None,
            (Some(_), None) => return Err(bad("post_logout_redirect_uri needs an id_token_hint or a client_id")),
            (Some(uri), Some(client)) => {
                let registered = client.post_logout_redirect_uri(uri);
                registered.ok_or_else(|| bad("the client is not registered with this post_logout_redirect_uri"))?;
                Some(with_state(uri, form.get("state")))
            }
        };
        if go_on.as_ref().is_some_and(|uri| uri.len() > MAX_LOCATION_BYTES) {
            return Err(bad("post_logout_redirect_uri and state are too long"));
        }
        let languages = form.get("ui_locales").into_iter().flat_map(str::split_ascii_whitespace);
        let ui_locales = languages.take(MAX_LANGUAGES).map(str::to_owned).collect();
        Ok(Self { form, hint, client, go_on, ui_locales })
    }

    /// Step 2. A token without a session was issued for offline use; it still names the person.
    fn names(&self, session: &Session) -> bool {
        self.hint
            .as_ref()
            .is_some_and(|hint| hint.sub == session.user_id && hint.sid.as_ref().is_none_or(|sid| *sid == session.sid))
    }

    /// Step 2, for those whom nothing names.
    async fn ask(&self, app: &Arc<App>, headers: &HeaderMap, session: &Session) -> Result<Response, Refused> {
        let user = app.store.user_by_id(&session.user_id).await?.ok_or(Refused(Fault::Unavailable, None))?;
        let kept = self.form.iter().filter(|(name, _)| PARAMETERS.contains(name));
        let asked = Confirmation {
            user: &user,
            client: self.client.as_deref(),
            post_logout_redirect_uri: self.form.get("post_logout_redirect_uri"),
            fields: &kept.collect::<Vec<_>>(),
            ui_locales: &self.ui_locales,
        };
        Ok(confirmation(app, headers, &asked))
    }

    /// Step 3.
    async fn end(
        &self,
        app: &Arc<App>,
        headers: &HeaderMap,
        session: &Session,
        origin: &Origin<'_>,
    ) -> Result<Response, Refused> {
        let ended = app.store.end_session(&session.sid, &session::logout_targets(app), origin).await?;
        app.logouts.wake();
        // Whoever ended it first has shown the frames.
        let frames = ended.map(|ended| frames(app, &ended)).unwrap_or_default();
        Ok(self.done(app, headers, &frames))
    }

    /// Says that nobody is signed in any more, and goes on.
    fn done(&self, app: &Arc<App>, headers: &HeaderMap, frames: &[String]) -> Response {
        let go_on = self.go_on.as_deref().zip(self.client.as_deref()).map(|(uri, client)| GoOn { uri, client });
        match go_on {
            Some(go_on) if frames.is_empty() => {
                let mut response = reply::see_other(go_on.uri);
                response.headers_mut().append(SET_COOKIE, session::clear(app));
                response
            }
            go_on => signed_out(app, headers, frames, go_on.as_ref(), &self.ui_locales),
        }
    }

    /// Goes on although the person stays signed in here: the app that asked has signed them out of itself already.
    fn stay(&self, app: &App) -> Response {
        match &self.go_on {
            Some(uri) => reply::see_other(uri),
            None => reply::see_other(&format!("{}/account", app.config.issuer.path())),
        }
    }

    /// Has the browser come again with GET. The post of another site brings no cookie (`SameSite=Lax`), so nobody would
    /// seem to be signed in.
    fn again(&self, app: &App) -> Response {
        let kept = self.form.iter().filter(|(name, _)| PARAMETERS.contains(name));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
        if query.len() > MAX_LOCATION_BYTES {
            return reply::see_other(&format!("{}/oauth2/logout", app.config.issuer.path()));
        }
        reply::see_other(&format!("{}/oauth2/logout?{query}", app.config.issuer.path()))
    }
}

impl From<StoreError> for Refused {
    fn from(failure: StoreError) -> Self {
        error!(error = crate::chain(&failure), "a logout can't be answered");
        Self(Fault::Unavailable, None)
    }
}

/// §3: "the OP MUST [...] pass this value back to the RP using the state parameter". A query of the address's own stays.
fn with_state(uri: &str, state: Option<&str>) -> String {
    let Some(state) = state else { return uri.to_owned() };
    let divider = if uri.contains('?') { '&' } else { '?' };
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("state", state).finish();
    format!("{uri}{divider}{query}")
}

/// §2, what of it is looked at.
const PARAMETERS: [&str; 5] = ["id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"];

/// Fields of our own form.
const TOKEN: &str = "csrf";
const DECISION: &str = "decision";

/// What servers take as one header.
const MAX_LOCATION_BYTES: usize = 8 * 1024;

/// Languages that are looked at.
const MAX_LANGUAGES: usize = 16;
