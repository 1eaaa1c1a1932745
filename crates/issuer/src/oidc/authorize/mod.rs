//! `/oauth2/authorize` (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2).
//!
//! 1. Read the request; who hears of its faults depends on what is proven ([`request`]).
//! 2. Find out who is at the browser, whom the client means, and what the person has agreed to before.
//! 3. Decide ([`decision`]): show a page first, refuse, or issue.
//! 4. A page sends the browser back here with the same request and a note of what was done ([`progress`]); everything is
//!    read and decided anew.

mod claims_request;
mod decision;
mod progress;
mod request;
mod response;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, Uri};
use tracing::{info, warn};
use url::form_urlencoded;

use self::decision::{Decision, SignedIn, decide};
use self::progress::Note;
use self::request::{AuthorizationRequest, PageFault, Refused};
use self::response::AuthorizeError;
use super::hint;
use super::opaque::{Opaque, new_id};
use crate::app::App;
use crate::chain;
use crate::clients::{Client, GrantType};
use crate::http::reply::see_other;
use crate::http::request::Form;
use crate::login::pages::error::{self, Fault};
use crate::login::session;
use crate::storage::{NewCode, NewGrant, Session, StoreError};

/// What a page tells the person about the request they are in the middle of.
#[derive(Clone, Debug)]
pub(crate) struct Interaction {
    /// Who asks.
    pub(crate) client: Arc<Client>,
    /// What for.
    pub(crate) scopes: Vec<String>,
    /// Whom the client expects.
    pub(crate) login_hint: Option<String>,
    /// Language tags, the most wanted first.
    pub(crate) ui_locales: Vec<String>,
    /// Where the answer will send the browser, which a page's policy has to allow for its forms.
    pub(crate) redirect_uri: String,
}

/// Answers `GET`.
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, _) = request.into_parts();
    match Form::of_query(&parts.uri) {
        Ok(form) => answer(&app, &form, &parts.headers).await,
        Err(_) => fault_page(&app, PageFault::Unreadable, &parts.headers),
    }
}

/// Answers `POST`: "Authorization Servers MUST support the use of the HTTP GET and POST methods" (OpenID Connect Core
/// §3.1.2.1).
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let server = &app.config.server;
    match Form::read(&parts.headers, body, server.max_body_bytes, server.body_timeout).await {
        // The browser's session is not sent along with a post from another site (SameSite=Lax), and the pages come back by
        // GET in any case.
        Ok(form) if parts.uri.query().is_none() => {
            see_other(&own_address(&app, &Note::default().query(&form, &app.kek)))
        }
        _ => fault_page(&app, PageFault::Unreadable, &parts.headers),
    }
}

/// What the pages show about the request that `address` comes back to; `None` when there is none, or it is not in order.
pub(crate) fn describe(app: &App, address: &str) -> Option<Interaction> {
    let request = read(app, &returning(app, address)?).ok()?;
    Some(Interaction {
        client: request.client,
        scopes: request.scopes,
        login_hint: request.login_hint,
        ui_locales: request.ui_locales,
        redirect_uri: request.return_to.redirect_uri,
    })
}

/// The address to go on with when the person has agreed in this session.
pub(crate) fn consented(app: &App, address: &str, sid: &str) -> String {
    noted(app, address, |note| note.consented(sid))
}

/// The address to go on with when the person has said in this session which account is meant.
pub(crate) fn account_chosen(app: &App, address: &str, sid: &str) -> String {
    noted(app, address, |note| note.chosen(sid))
}

/// The answer to the client when the person has refused.
pub(crate) fn denied(app: &App, address: &str) -> Response {
    match returning(app, address).and_then(|form| read(app, &form).ok()) {
        Some(request) => request.return_to.error(AuthorizeError::AccessDenied, app.config.issuer.as_str()),
        // What is not in order is told when it comes back.
        None => see_other(address),
    }
}

async fn answer(app: &Arc<App>, form: &Form, headers: &HeaderMap) -> Response {
    let issuer = app.config.issuer.as_str();
    let request = match read(app, form) {
        Ok(request) => request,
        Err(Refused::OnPage(fault)) => {
            info!(?fault, "an authorization request was refused");
            return fault_page(app, fault, headers);
        }
        Err(Refused::ByRedirect(return_to, refusal)) => {
            info!(code = refusal.code(), reason = %refusal, "an authorization request was refused");
            return return_to.error(refusal, issuer);
        }
    };
    match go_on(app, &request, form, headers).await {
        Ok(response) => response,
        Err(failure) => {
            tracing::error!(error = chain(&failure), "an authorization request could not be answered");
            request.return_to.error(AuthorizeError::TemporarilyUnavailable, issuer)
        }
    }
}

/// Steps 2 to 4.
async fn go_on(
    app: &App,
    request: &AuthorizationRequest,
    form: &Form,
    headers: &HeaderMap,
) -> Result<Response, StoreError> {
    let now = app.clock.now();
    let issuer = app.config.issuer.as_str();
    let hinted = match request.id_token_hint.as_deref().map(|token| hint::read(app, token)) {
        Some(None) => {
            let refusal = AuthorizeError::InvalidRequest("id_token_hint is no ID token of this issuer");
            return Ok(request.return_to.error(refusal, issuer));
        }
        hint => hint.flatten().map(|hint| hint.sub),
    };
    let session = session::current(app, headers).await?;
    let agreed = match &session {
        Some(session) => app.store.consent(&session.user_id, &request.client.id).await?.unwrap_or_default(),
        None => Vec::new(),
    };
    let signed_in = session.as_ref().map(|session| SignedIn {
        user_id: &session.user_id,
        auth_time: session.auth_time,
        acr: session.acr.as_deref().unwrap_or_default(),
    });
    let mut request = request.clone();
    let may_have_some = match &session {
        Some(session) => narrow(app, &mut request, &session.user_id).await?,
        None => true,
    };
    let note = Note::read(form, &app.kek);
    let progress = note.progress(session.as_ref().map(|session| session.sid.as_str()));

    let page = |path: &str, note: &Note| {
        let address = own_address(app, &note.query(form, &app.kek));
        let parameters = form_urlencoded::Serializer::new(String::new()).append_pair("continue", &address).finish();
        see_other(&format!("{}{path}?{parameters}", app.config.issuer.path()))
    };
    Ok(match (decide(&request, signed_in, hinted.as_deref(), &agreed, progress, now), session) {
        // Not before: the person may be about to become another.
        (Decision::Consent | Decision::Issue, Some(_)) if !may_have_some => {
            request.return_to.error(AuthorizeError::NotPermitted, issuer)
        }
        (Decision::Refuse(refusal), _) => request.return_to.error(refusal, issuer),
        (Decision::SelectAccount, _) => page("/select-account", &note),
        (Decision::Consent, _) => page("/consent", &note),
        (Decision::Issue, Some(session)) => issue(app, &request, &session).await?,
        (Decision::Login | Decision::Issue, _) => page("/login", &note.asked_to_sign_in(now)),
    })
}

/// Leaves of a request what this person may have; `false` when that is nothing.
async fn narrow(app: &App, request: &mut AuthorizationRequest, user_id: &str) -> Result<bool, StoreError> {
    let scopes = &app.config.scopes;
    if !scopes.restrict(&request.scopes) {
        return Ok(true);
    }
    let Some(user) = app.store.user_by_id(user_id).await? else { return Ok(true) };
    let permitted = scopes.permitted(&user, &request.client.id, &request.scopes);
    let may_have_some = permitted.is_some();
    request.scopes = permitted.unwrap_or_default();
    Ok(may_have_some)
}

/// Answers with a code.
async fn issue(app: &App, request: &AuthorizationRequest, session: &Session) -> Result<Response, StoreError> {
    let now = app.clock.now();
    let issuer = app.config.issuer.as_str();
    let (Ok(code), Ok(id)) = (Opaque::new(app.entropy.as_ref()), new_id(app.entropy.as_ref())) else {
        warn!("there is no randomness for an authorization code");
        return Ok(request.return_to.error(AuthorizeError::TemporarilyUnavailable, issuer));
    };
    let offline = request.scopes.iter().any(|scope| scope == "offline_access");
    let stored = NewCode {
        code_sha256: code.sha256(),
        redirect_uri: request.redirect_uri_was_sent.then(|| request.return_to.redirect_uri.clone()),
        code_challenge: request.code_challenge.clone(),
        issued_at: now,
        expires_at: now + app.config.tokens.code_ttl,
        grant: NewGrant {
            id,
            user_id: session.user_id.clone(),
            client_id: request.client.id.clone(),
            sid: Some(session.sid.clone()),
            offline: offline && request.client.uses(GrantType::RefreshToken),
            scope: request.scopes.clone(),
            audiences: request.audiences.clone(),
            claims_request: request.claims.as_ref().map(claims_request::ClaimsRequest::to_json),
            nonce: request.nonce.clone(),
            auth_time: session.auth_time,
            amr: session.amr.clone(),
            acr: session.acr.clone(),
        },
    };
    app.store.insert_code(&stored).await?;
    Ok(request.return_to.code(code.expose(), issuer))
}

fn read(app: &App, form: &Form) -> Result<AuthorizationRequest, Refused> {
    AuthorizationRequest::read(form, &app.clients(), app.config.issuer.as_str())
}

/// Our own address with this query, as a path.
fn own_address(app: &App, query: &str) -> String {
    format!("{}{PATH}?{query}", app.config.issuer.path())
}

/// The request that `address`, a path of ours with a query, comes back to.
fn returning(app: &App, address: &str) -> Option<Form> {
    let uri: Uri = address.parse().ok()?;
    let is_ours = uri.authority().is_none() && uri.path() == format!("{}{PATH}", app.config.issuer.path());
    Form::of_query(&uri).ok().filter(|_| is_ours)
}

/// What is no request of ours is left as it is: it is refused when it comes back.
fn noted(app: &App, address: &str, change: impl FnOnce(Note) -> Note) -> String {
    let Some(form) = returning(app, address) else { return address.to_owned() };
    let note = change(Note::read(&form, &app.kek));
    own_address(app, &note.query(&form, &app.kek))
}

fn fault_page(app: &Arc<App>, fault: PageFault, headers: &HeaderMap) -> Response {
    let fault = match fault {
        PageFault::Unreadable => Fault::Unreadable,
        PageFault::NoClient => Fault::NoClient,
        PageFault::UnknownClient => Fault::UnknownClient,
        PageFault::NoRedirectUri => Fault::NoRedirectUri,
        PageFault::UnknownRedirectUri => Fault::UnknownRedirectUri,
    };
    error::page(app, headers, fault, None)
}

const PATH: &str = "/oauth2/authorize";
