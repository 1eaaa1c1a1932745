//! The page that says what went wrong, and what to do about it.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use tracing::error;

use crate::app::App;
use crate::login::csrf::Forged;
use crate::login::render::Page;
use crate::login::visit::Visit;
use crate::storage::StoreError;
use crate::telemetry;

/// What went wrong. Each has two messages: `fault-…-title`, and `fault-…` for what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request could not be read, or says something twice.
    Unreadable,
    /// It is larger than allowed.
    TooLarge,
    /// The form comes from another site.
    CrossSite,
    /// The form is of another session, or has been open for too long.
    StaleForm,
    /// The page belongs to an app's request, and there is none.
    NoRequest,
    /// The app did not say which it is.
    NoClient,
    /// No app of that name is registered.
    UnknownClient,
    /// The app did not say where to go afterwards.
    NoRedirectUri,
    /// The app is not registered with the address it named.
    UnknownRedirectUri,
    /// Whoever asks for a sign-out is not known, or may not send people to where it says.
    BadLogout,
    /// The database or the generator does not answer.
    Unavailable,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too-large",
            Self::CrossSite => "cross-site",
            Self::StaleForm => "stale-form",
            Self::NoRequest => "no-request",
            Self::NoClient => "no-client",
            Self::UnknownClient => "unknown-client",
            Self::NoRedirectUri => "no-redirect-uri",
            Self::UnknownRedirectUri => "unknown-redirect-uri",
            Self::BadLogout => "bad-logout",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::CrossSite | Self::StaleForm => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<Forged> for Fault {
    fn from(forged: Forged) -> Self {
        match forged {
            Forged::CrossSite => Self::CrossSite,
            Forged::Token => Self::StaleForm,
        }
    }
}

/// Answers a person with what went wrong. `details` is one line for whoever runs the app, not secret; it is not translated.
pub(crate) fn page(app: &Arc<App>, headers: &HeaderMap, fault: Fault, details: Option<&str>) -> Response {
    refuse(&Visit::without_session(Arc::clone(app), headers), fault, details)
}

/// [`page`], for a visit that was read.
pub(in crate::login) fn refuse(visit: &Visit, fault: Fault, details: Option<&str>) -> Response {
    let request_id = telemetry::request_id().map(|id| id.to_string());
    let context = context! { fault => fault.name(), details, request_id };
    let page = Page::new(visit, "error.html", context).status(fault.status()).keep_opener();
    if fault == Fault::Unavailable { page.retry_after(RETRY_AFTER_S).respond() } else { page.respond() }
}

/// The page for when the database does not answer; the reason goes to the log.
pub(in crate::login) fn fault_of_store(visit: &Visit, failure: &StoreError) -> Response {
    error!(error = crate::chain(failure), "a page can't be answered");
    refuse(visit, Fault::Unavailable, None)
}

const RETRY_AFTER_S: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_messages() {
        use Fault::*;
        let messages = crate::login::messages::Messages::new("en");
        for fault in [
            Unreadable,
            TooLarge,
            CrossSite,
            StaleForm,
            NoRequest,
            NoClient,
            UnknownClient,
            NoRedirectUri,
            UnknownRedirectUri,
            BadLogout,
            Unavailable,
        ] {
            assert!(messages.has(&format!("fault-{}", fault.name())), "{fault:?}");
            assert!(messages.has(&format!("fault-{}-title", fault.name())), "{fault:?}");
        }
    }
}
