//! `/consent`: what an app may know and do.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use minijinja::{Value, context};

use super::error::{Fault, fault_of_store, refuse};
use super::{see_other, view};
use crate::app::App;
use crate::login::continuation::Continue;
use crate::login::csrf::Bound;
use crate::login::render::Page;
use crate::login::visit::{Asked, Submission, Visit};
use crate::oidc::authorize;

/// `GET /consent?continue=…`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let mut visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), visit.query.get("continue"));
    let Asked { waiting, user, csrf } = match visit.asked(&to).await {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let scopes: Vec<Value> = waiting.scopes.iter().map(|scope| view::scope(&visit, scope)).collect();
    let context = context! {
        csrf,
        to => to.as_str(),
        app => view::client(&waiting.client),
        user => view::person(&user),
        scopes,
        other => to.behind(visit.base(), "/login"),
    };
    Page::new(&visit, "consent.html", context)
        .images(view::logo_origin(&waiting.client))
        .form_targets(view::form_targets(&waiting))
        .keep_opener()
        .respond()
}

/// `POST /consent`
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { mut visit, form } = match Submission::read(app, request, Bound::ToSession).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), form.get("continue"));
    let Some(authorization) = to.authorization() else { return refuse(&visit, Fault::NoRequest, None) };
    if form.get("decision") != Some("allow") {
        return authorize::denied(&visit.app, authorization);
    }
    let Asked { waiting, user, .. } = match visit.asked(&to).await {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let client_id = &waiting.client.id;
    if let Err(failure) = visit.app.store.give_consent(&user.id, client_id, &waiting.scopes, &visit.origin()).await {
        return fault_of_store(&visit, &failure);
    }
    match &visit.session {
        Some(session) => see_other(&authorize::consented(&visit.app, authorization, &session.sid), None),
        None => see_other(&to.behind(visit.base(), "/login"), None),
    }
}
