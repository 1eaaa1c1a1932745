//! `/select-account`: whether to go on as who is signed in, when an app asks for a choice (`prompt=select_account`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use minijinja::context;

use super::error::{Fault, refuse};
use super::{see_other, view};
use crate::app::App;
use crate::login::continuation::Continue;
use crate::login::csrf::Bound;
use crate::login::render::Page;
use crate::login::visit::{Asked, Submission, Visit};
use crate::oidc::authorize;

/// `GET /select-account?continue=…`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let mut visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), visit.query.get("continue"));
    let Asked { waiting, user, csrf, .. } = match visit.asked(&to).await {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let context = context! {
        csrf,
        to => to.as_str(),
        app => view::client(&waiting.client),
        user => view::person(&user),
        other => to.behind(visit.base(), "/login"),
    };
    Page::new(&visit, "select_account.html", context)
        .images(view::logo_origin(&waiting.client))
        .form_targets(view::form_targets(&waiting))
        .keep_opener()
        .respond()
}

/// `POST /select-account`
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { visit, form } = match Submission::read(app, request, Bound::ToSession).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), form.get("continue"));
    match (&visit.session, to.authorization()) {
        (Some(session), Some(authorization)) => {
            see_other(&authorize::account_chosen(&visit.app, authorization, &session.sid), None)
        }
        (None, Some(_)) => see_other(&to.behind(visit.base(), "/login"), None),
        (_, None) => refuse(&visit, Fault::NoRequest, None),
    }
}
