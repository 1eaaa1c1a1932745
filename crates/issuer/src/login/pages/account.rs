//! `/account`: who somebody is here, where they are signed in, and which apps they let in.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use keywheel_jose::Timestamp;
use minijinja::{Value, context};

use super::error::{Fault, fault_of_store, refuse};
use super::{logout, see_other, view};
use crate::app::App;
use crate::clients::{Client, OPENID_SCOPES};
use crate::login::continuation::Continue;
use crate::login::csrf::{self, Bound};
use crate::login::device;
use crate::login::render::Page;
use crate::login::session::logout_targets;
use crate::login::visit::{Submission, Visit};
use crate::storage::{EndedSession, Grant, Session, StoreError};
use crate::users::User;

/// `GET /account`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    match page(&visit).await {
        Ok(answer) => answer,
        Err(failure) => fault_of_store(&visit, &failure),
    }
}

/// `POST /account/sign-out`: `sid` of one session, or `all`: `here`, `others` or `everywhere`; with `apps` the last also
/// ends what apps may do while nobody is signed in.
pub(crate) async fn sign_out(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { visit, form } = match Submission::read(app, request, Bound::ToSession).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let which = match (form.get("sid"), form.get("all")) {
        (Some(sid), None) => Which::One(sid),
        (None, Some("here")) => Which::Here,
        (None, Some("others")) => Which::Others,
        (None, Some("everywhere")) => Which::Everywhere(form.get("apps").map_or(Apps::Keep, |_| Apps::End)),
        _ => return refuse(&visit, Fault::Unreadable, None),
    };
    match end(&visit, which).await {
        Ok(answer) => {
            visit.app.logouts.wake();
            answer
        }
        Err(failure) => fault_of_store(&visit, &failure),
    }
}

/// `POST /account/apps/remove`: takes back what `client_id` was allowed, and ends its tokens.
pub(crate) async fn remove_app(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { visit, form } = match Submission::read(app, request, Bound::ToSession).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let Some(client_id) = form.get("client_id") else { return refuse(&visit, Fault::Unreadable, None) };
    let Some(session) = &visit.session else { return to_login(&visit) };
    let store = &visit.app.store;
    let removed = async {
        store.withdraw_consent(&session.user_id, client_id, &visit.origin()).await?;
        store.revoke_grants_of(&session.user_id, client_id, &visit.origin()).await
    };
    match removed.await {
        Ok(_) => done(&visit, "app-removed"),
        Err(failure) => fault_of_store(&visit, &failure),
    }
}

/// Back to the account page, which then says so.
pub(super) fn done(visit: &Visit, what: &str) -> Response {
    see_other(&format!("{}/account?done={what}", visit.base()), None)
}

/// To the page to sign in, and back here from there.
pub(super) fn to_login(visit: &Visit) -> Response {
    see_other(&Continue::read(visit.base(), None).behind(visit.base(), "/login"), None)
}

enum Which<'a> {
    Here,
    One(&'a str),
    Others,
    Everywhere(Apps),
}

/// What becomes of the apps with offline access.
#[derive(Clone, Copy)]
enum Apps {
    Keep,
    End,
}

async fn end(visit: &Visit, which: Which<'_>) -> Result<Response, StoreError> {
    let Some(own) = &visit.session else { return Ok(to_login(visit)) };
    let (app, targets) = (&visit.app, logout_targets(&visit.app));
    let (store, origin) = (&app.store, visit.origin());
    let sessions = store.sessions_of_user(&own.user_id, origin.at).await?;
    // One of somebody else's is not theirs to end.
    let is_theirs = |sid: &str| sessions.iter().any(|session| session.sid == sid);
    match which {
        Which::Everywhere(apps) => {
            let ended = match apps {
                Apps::Keep => store.end_sessions_of_user(&own.user_id, &targets, &origin).await?,
                Apps::End => store.end_all_access_of_user(&own.user_id, &targets, &origin).await?,
            };
            Ok(logout::done(app, &visit.headers, &ended))
        }
        Which::Here => end_here(visit, own).await,
        Which::One(sid) if sid == own.sid => end_here(visit, own).await,
        Which::One(sid) => {
            if is_theirs(sid) {
                store.end_session(sid, &targets, &origin).await?;
            }
            Ok(done(visit, "signed-out"))
        }
        Which::Others => {
            end_others(visit, own).await?;
            Ok(done(visit, "signed-out-others"))
        }
    }
}

async fn end_here(visit: &Visit, own: &Session) -> Result<Response, StoreError> {
    let app = &visit.app;
    let ended = app.store.end_session(&own.sid, &logout_targets(app), &visit.origin()).await?;
    Ok(logout::done(app, &visit.headers, ended.as_slice()))
}

/// Ends every session of whoever this is but their own.
pub(super) async fn end_others(visit: &Visit, own: &Session) -> Result<Vec<EndedSession>, StoreError> {
    let (app, targets, origin) = (&visit.app, logout_targets(&visit.app), visit.origin());
    let mut ended = Vec::new();
    for other in app.store.sessions_of_user(&own.user_id, origin.at).await? {
        if other.sid != own.sid {
            ended.extend(app.store.end_session(&other.sid, &targets, &origin).await?);
        }
    }
    app.logouts.wake();
    Ok(ended)
}

async fn page(visit: &Visit) -> Result<Response, StoreError> {
    let (Some(own), Some(user)) = (&visit.session, visit.user().await?) else { return Ok(to_login(visit)) };
    let mut sessions = visit.app.store.sessions_of_user(&user.id, visit.app.clock.now()).await?;
    // One's own first, then the last used.
    sessions.sort_by_key(|session| session.sid != own.sid);
    let others = sessions.len() > 1;
    let sessions: Vec<Value> = sessions.iter().map(|session| session_view(visit, session, own)).collect();
    let done = visit.query.get("done").filter(|done| DONE.contains(done));
    let grants = visit.app.store.grants_of_user(&user.id, visit.app.clock.now()).await?;
    let offline = grants.iter().any(|grant| grant.allowed.offline);
    let apps = apps(visit, &user, grants).await?;
    let context = context! {
        csrf => csrf::session_token(&visit.app, &visit.headers),
        user => view::person(&user),
        has_password => user.password_hash.is_some(),
        password_changed => user.password_changed_at.map(|at| view::date(visit, at)),
        sessions, others, apps, offline, done,
    };
    Ok(Page::new(visit, "account.html", context).respond())
}

fn session_view(visit: &Visit, session: &Session, own: &Session) -> Value {
    let (browser, system) = device::describe(&session.user_agent);
    context! {
        sid => session.sid.as_str(),
        browser, system,
        address => view::address(&session.address),
        signed_in => view::instant(visit, session.auth_time),
        last_seen => view::instant(visit, session.last_seen_at),
        here => session.sid == own.sid,
        persistent => session.persistent,
    }
}

/// What a client was allowed: by consent, and by what it is signed in with right now.
#[derive(Default)]
struct Access {
    scopes: Vec<String>,
    since: Option<Timestamp>,
}

impl Access {
    fn add(&mut self, scopes: &[String], at: Timestamp) {
        for scope in scopes {
            if !self.scopes.contains(scope) {
                self.scopes.push(scope.clone());
            }
        }
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }
}

async fn apps(visit: &Visit, user: &User, grants: Vec<Grant>) -> Result<Vec<Value>, StoreError> {
    let store = &visit.app.store;
    let mut access: BTreeMap<String, Access> = BTreeMap::new();
    for consent in store.consents_of_user(&user.id).await? {
        access.entry(consent.client_id).or_default().add(&consent.scopes, consent.given_at);
    }
    for grant in grants {
        access.entry(grant.allowed.client_id).or_default().add(&grant.allowed.scope, grant.created_at);
    }
    let clients = visit.app.clients();
    let apps = access.into_iter().map(|(client_id, access)| {
        // One that was removed is still shown, by its id: its tokens may live on.
        let client = clients.find(&client_id);
        let name = client.map_or(client_id.as_str(), |client| view::name(client));
        let mut scopes = access.scopes;
        scopes
            .sort_by_key(|scope| OPENID_SCOPES.iter().position(|known| known == scope).unwrap_or(OPENID_SCOPES.len()));
        let scopes: Vec<Value> = scopes.iter().map(|scope| view::scope(visit, scope)).collect();
        let home = client.and_then(|client: &Arc<Client>| client.about.client_uri.as_ref()).map(ToString::to_string);
        context! {
            client_id => client_id.as_str(), name, home, scopes,
            initial => view::initial(name),
            since => access.since.map(|at| view::date(visit, at)),
        }
    });
    Ok(apps.collect())
}

/// What the page can say was done: `done-…` of the messages.
const DONE: [&str; 4] = ["signed-out", "signed-out-others", "app-removed", "password-changed"];
