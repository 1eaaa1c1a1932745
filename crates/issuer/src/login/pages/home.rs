//! `/`: who is signed in here, and where to go.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use minijinja::context;

use super::error::fault_of_store;
use super::view;
use crate::app::App;
use crate::login::csrf;
use crate::login::render::Page;
use crate::login::visit::Visit;

/// `GET /`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    let user = match visit.user().await {
        Ok(user) => user,
        Err(failure) => return fault_of_store(&visit, &failure),
    };
    let context = context! {
        csrf => csrf::session_token(&visit.app, &visit.headers),
        user => user.as_ref().map(view::person),
    };
    Page::new(&visit, "home.html", context).respond()
}
