//! `/account/password`: another password, for whoever knows the one there is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use minijinja::context;
use tracing::error;

use super::account::{done, end_others, to_login};
use super::error::{Fault, fault_of_store, refuse};
use super::view;
use crate::app::App;
use crate::edges::Author;
use crate::login::csrf::{self, Bound};
use crate::login::render::Page;
use crate::login::sign_in::{self, Attempted, SignIn};
use crate::login::visit::{Submission, Visit};
use crate::storage::{By, Session};
use crate::users::{MIN_CHARACTERS, PasswordError, User, WeakPassword, judge_new_password};

/// Why the password is not changed.
#[derive(Clone, Copy)]
enum Problem {
    Missing,
    Wrong,
    Differs,
    Same,
    Weak(WeakPassword),
    Throttled { wait_s: u64 },
    Busy,
}

/// `GET /account/password`
pub(crate) async fn get(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let visit = match Visit::read(app, request.into_parts().0).await {
        Ok(visit) => visit,
        Err(answer) => return answer,
    };
    match visit.user().await {
        Ok(Some(user)) => page(&visit, &user, None),
        Ok(None) => to_login(&visit),
        Err(failure) => fault_of_store(&visit, &failure),
    }
}

/// `POST /account/password`: `current`, `new` and `again`; with `others` every other session ends.
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Submission { visit, form } = match Submission::read(app, request, Bound::ToSession).await {
        Ok(submission) => submission,
        Err(answer) => return answer,
    };
    let (user, session) = match (visit.user().await, &visit.session) {
        (Ok(Some(user)), Some(session)) => (user, session),
        (Ok(_), _) => return to_login(&visit),
        (Err(failure), _) => return fault_of_store(&visit, &failure),
    };
    if user.declared {
        return page(&visit, &user, None);
    }
    let again = |problem| page(&visit, &user, Some(problem));
    let (Some(current), Some(new), Some(repeated)) = (form.get("current"), form.get("new"), form.get("again")) else {
        return again(Problem::Missing);
    };
    if let Err(problem) = judge(&user, current, new, repeated) {
        return again(problem);
    }
    // Who sits at a browser that somebody left signed in must not be able to try passwords without end.
    let (address, headers) = (visit.address, &visit.headers);
    let attempt = Attempted { name: &user.username, password: current, address, headers };
    match sign_in::check(&visit.app, &attempt).await {
        Ok(SignIn::Accepted(checked)) if checked.id == user.id => {}
        Ok(SignIn::Accepted(_) | SignIn::Refused) => return again(Problem::Wrong),
        Ok(SignIn::Throttled { wait }) => return again(Problem::Throttled { wait_s: wait.as_secs().max(1) }),
        Ok(SignIn::Busy) => return again(Problem::Busy),
        Err(failure) => return fault_of_store(&visit, &failure),
    }
    match change(&visit, &user, session, new, form.get("others").is_some()).await {
        Ok(()) => done(&visit, "password-changed"),
        Err(Failure::Busy) => again(Problem::Busy),
        Err(Failure::Answered(answer)) => *answer,
    }
}

enum Failure {
    Busy,
    Answered(Box<Response>),
}

async fn change(visit: &Visit, user: &User, own: &Session, new: &str, others: bool) -> Result<(), Failure> {
    let app = &visit.app;
    let hash = app.passwords.hash(new).await.map_err(|error| match error {
        PasswordError::Busy => Failure::Busy,
        PasswordError::Failed(reason) => {
            error!(reason, "a password can't be changed");
            Failure::Answered(Box::new(refuse(visit, Fault::Unavailable, None)))
        }
    })?;
    let store_failed = |failure| Failure::Answered(Box::new(fault_of_store(visit, &failure)));
    let by = By::new(&Author::person(&user.id, visit.address), app.clock.now());
    app.store.set_password(&user.id, Some(&hash), &by).await.map_err(store_failed)?;
    if others {
        end_others(visit, own).await.map_err(store_failed)?;
    }
    Ok(())
}

fn judge(user: &User, current: &str, new: &str, repeated: &str) -> Result<(), Problem> {
    if new != repeated {
        return Err(Problem::Differs);
    }
    if new == current {
        return Err(Problem::Same);
    }
    let name = user.claims.get("name").and_then(|name| name.as_str());
    let about: Vec<&str> = [Some(user.username.as_str()), user.email.as_deref(), name].into_iter().flatten().collect();
    judge_new_password(new, &about).map_err(Problem::Weak)
}

fn page(visit: &Visit, user: &User, problem: Option<Problem>) -> Response {
    let wait_minutes = match problem {
        Some(Problem::Throttled { wait_s }) => wait_s.div_ceil(60),
        _ => 0,
    };
    let context = context! {
        csrf => csrf::session_token(&visit.app, &visit.headers),
        user => view::person(user),
        declared => user.declared,
        shortest => MIN_CHARACTERS,
        problem => problem.map(Problem::name),
        wait_minutes,
    };
    let page = Page::new(visit, "password.html", context);
    match problem {
        None => page,
        Some(Problem::Throttled { wait_s }) => page.status(StatusCode::TOO_MANY_REQUESTS).retry_after(wait_s),
        Some(Problem::Busy) => page.status(StatusCode::SERVICE_UNAVAILABLE).retry_after(super::BUSY_S),
        Some(_) => page.status(StatusCode::UNPROCESSABLE_ENTITY),
    }
    .respond()
}

impl Problem {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Differs => "differs",
            Self::Same => "same",
            Self::Weak(WeakPassword::TooShort) => "short",
            Self::Weak(WeakPassword::TooLong) => "long",
            Self::Weak(WeakPassword::ControlCharacter) => "control",
            Self::Weak(WeakPassword::SameAsAccount) => "personal",
            Self::Weak(WeakPassword::TooCommon) => "common",
            Self::Throttled { .. } => "throttled",
            Self::Busy => "busy",
        }
    }
}
