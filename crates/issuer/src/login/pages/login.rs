//! `/login`: user name or e-mail address, and password.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use minijinja::context;
use tracing::error;

use super::error::{Fault, fault_of_store, refuse};
use super::{see_other, view};
use crate::app::App;
use crate::login::continuation::Continue;
use crate::login::csrf::{self, Bound};
use crate::login::render::Page;
use crate::login::session::{self, Remember, SignedIn, StartError};
use crate::login::sign_in::{Attempted, SignIn, check};
use crate::login::visit::{Submission, Visit};
use crate::oidc::authorize::{self, Interaction};

/// The page, and why it is shown again.
struct LoginPage<'a> {
    to: &'a Continue,
    waiting: Option<&'a Interaction>,
    username: &'a str,
    remember: Remember,
    problem: Option<Problem>,
}

/// Why somebody is not signed in. Who exists can't be told from it.
#[derive(Clone, Copy)]
enum Problem {
    Missing,
    Refused,
    Throttled { wait_s: u64 },
    Busy,
}

/// `GET /login?continue=…`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let mut visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), visit.query.get("continue"));
    // Whoever is signed in has no reason to be here, unless an app wants a new sign-in.
    if visit.session.is_some() && to.authorization().is_none() {
        return see_other(to.as_str(), None);
    }
    let waiting = visit.waiting(&to);
    let hint = waiting.as_ref().and_then(|waiting| waiting.login_hint.clone());
    let hint = hint.or_else(|| visit.query.get("login_hint").map(str::to_owned));
    let hint = match hint {
        Some(hint) => hint,
        None => match visit.user().await {
            Ok(user) => user.map(|user| user.username).unwrap_or_default(),
            Err(failure) => return fault_of_store(&visit, &failure),
        },
    };
    let page = LoginPage { to: &to, waiting: waiting.as_ref(), username: &hint, remember: Remember::No, problem: None };
    page.respond(&visit)
}

/// `POST /login`
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { mut visit, form } = match Submission::read(app, request, Bound::ToBrowser).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let to = Continue::read(visit.base(), form.get("continue"));
    let waiting = visit.waiting(&to);
    let username = form.get("username").map(str::trim).unwrap_or_default();
    let remember = if form.get("remember").is_some() { Remember::Yes } else { Remember::No };
    let again = |problem| {
        let page = LoginPage { to: &to, waiting: waiting.as_ref(), username, remember, problem: Some(problem) };
        page.respond(&visit)
    };
    let Some(password) = form.get("password").filter(|_| !username.is_empty()) else {
        return again(Problem::Missing);
    };
    let attempt = Attempted { name: username, password, address: visit.address, headers: &visit.headers };
    let user = match check(&visit.app, &attempt).await {
        Ok(SignIn::Accepted(user)) => user,
        Ok(SignIn::Refused) => return again(Problem::Refused),
        Ok(SignIn::Throttled { wait }) => return again(Problem::Throttled { wait_s: wait.as_secs().max(1) }),
        Ok(SignIn::Busy) => return again(Problem::Busy),
        Err(failure) => return fault_of_store(&visit, &failure),
    };
    let signed_in = SignedIn { user: &user, remember, address: visit.address };
    match session::start(&visit.app, &visit.headers, &signed_in).await {
        Ok(Some(started)) => {
            // To sign in by name is to choose an account, if the app asked for a choice.
            let target = match to.authorization() {
                Some(authorization) => authorize::account_chosen(&visit.app, authorization, &started.sid),
                None => to.as_str().to_owned(),
            };
            see_other(&target, started.cookies)
        }
        // Disabled or removed since a moment ago.
        Ok(None) => again(Problem::Refused),
        Err(StartError::Store(failure)) => fault_of_store(&visit, &failure),
        Err(StartError::NoEntropy(failure)) => {
            error!(error = crate::chain(&failure), "nobody can sign in");
            refuse(&visit, Fault::Unavailable, None)
        }
    }
}

impl LoginPage<'_> {
    fn respond(&self, visit: &Visit) -> Response {
        let token = match csrf::browser_token(&visit.app, &visit.headers) {
            Ok(token) => token,
            Err(failure) => {
                error!(error = crate::chain(&failure), "the page to sign in can't be shown");
                return refuse(visit, Fault::Unavailable, None);
            }
        };
        let client = self.waiting.map(|waiting| &waiting.client);
        let wait_minutes = match self.problem {
            Some(Problem::Throttled { wait_s }) => wait_s.div_ceil(60),
            _ => 0,
        };
        let context = context! {
            csrf => token.value,
            to => self.to.as_str(),
            app => client.map(|client| view::client(client)),
            username => self.username,
            remember => self.remember == Remember::Yes,
            may_remember => !visit.app.config.tokens.remember_ttl.is_zero(),
            problem => self.problem.map(Problem::name),
            wait_minutes,
        };
        let page = Page::new(visit, "login.html", context)
            .cookies(token.cookie)
            .images(client.and_then(|client| view::logo_origin(client)))
            .form_targets(self.waiting.map(view::form_targets).unwrap_or_default())
            .status(self.problem.map_or(StatusCode::OK, Problem::status));
        let page = if client.is_some() { page.keep_opener() } else { page };
        match self.problem {
            Some(Problem::Throttled { wait_s }) => page.retry_after(wait_s),
            Some(Problem::Busy) => page.retry_after(super::BUSY_S),
            _ => page,
        }
        .respond()
    }
}

impl Problem {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Busy => "busy",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            // Not 401, which would be about HTTP's own authentication.
            Self::Missing | Self::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
