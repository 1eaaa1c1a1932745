//! A request to one of the pages: whose it is, from where, in which language.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::ACCEPT_LANGUAGE;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request};
use minijinja::{Value, context};
use url::form_urlencoded;

use super::continuation::Continue;
use super::csrf::{self, Bound};
use super::messages::{Language, Messages, accepted};
use super::pages::error::{Fault, fault_of_store, refuse};
use super::pages::see_other;
use super::session::{self, LANGUAGE, cookie, name, set_cookie};
use crate::app::App;
use crate::http::request::{Form, Peer, RequestError};
use crate::oidc::authorize::{self, Interaction};
use crate::storage::{Origin, Session, StoreError};
use crate::users::User;

/// A request, read.
pub(crate) struct Visit {
    pub(super) app: Arc<App>,
    pub(super) session: Option<Session>,
    pub(super) address: Option<IpAddr>,
    address_text: Option<String>,
    pub(super) query: Form,
    pub(super) headers: HeaderMap,
    path: String,
    language: Language,
    /// A language that the person chose on this page, to be remembered.
    chosen: Option<Language>,
}

/// An app that waits, and who is asked about it.
pub(super) struct Asked {
    pub(super) waiting: Interaction,
    pub(super) user: User,
    /// The token for the form.
    pub(super) csrf: String,
}

/// A form that was sent from one of our pages.
pub(super) struct Submission {
    pub(super) visit: Visit,
    pub(super) form: Form,
}

impl Visit {
    /// Reads a request, or answers with a page that says what is wrong with it.
    pub(super) async fn read(app: Arc<App>, parts: Parts) -> Result<Self, Response> {
        let mut visit = Self::without_session(app, &parts.headers);
        visit.address = address(&parts.extensions);
        visit.address_text = visit.address.map(|address| address.to_canonical().to_string());
        visit.path = parts.uri.path().to_owned();
        match Form::of_query(&parts.uri) {
            Ok(query) => visit.query = query,
            Err(error) => return Err(refuse(&visit, Fault::Unreadable, Some(&error.to_string()))),
        }
        let own = visit.query.get("lang").map(|tag| visit.app.login.messages.choose([tag]));
        if let Some(language) = own {
            (visit.language, visit.chosen) = (language, Some(language));
        } else {
            let wanted = visit.query.get("ui_locales").unwrap_or_default();
            let wanted: Vec<String> = wanted.split(' ').map(str::to_owned).collect();
            visit.prefer(&wanted);
        }
        match session::current(&visit.app, &visit.headers).await {
            Ok(session) => visit.session = session,
            Err(error) => return Err(fault_of_store(&visit, &error)),
        }
        Ok(visit)
    }

    /// A visit of which nothing is known but these headers: for answering with a page from outside of this module.
    pub(super) fn without_session(app: Arc<App>, headers: &HeaderMap) -> Self {
        let by_cookie = cookie(headers, name(&app.config.issuer, LANGUAGE)).map(str::to_owned);
        let by_browser = headers.get(ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let language = app.login.messages.choose(by_cookie.as_deref().into_iter().chain(accepted(by_browser)));
        let query = Form::parse(b"").expect("nothing is well-formed");
        let (path, headers) = (String::new(), headers.clone());
        Self { app, session: None, address: None, address_text: None, query, headers, path, language, chosen: None }
    }

    /// The first of these languages that there is, unless the person chose another on this very page.
    pub(super) fn prefer(&mut self, wanted: &[String]) {
        if self.chosen.is_none() {
            let wanted = wanted.iter().map(String::as_str).chain([self.language.tag]);
            self.language = self.app.login.messages.choose(wanted);
        }
    }

    /// The app that waits for somebody to go on to it; the page is then in the language that it asks for.
    pub(super) fn waiting(&mut self, to: &Continue) -> Option<Interaction> {
        let waiting = authorize::describe(&self.app, to.authorization()?)?;
        self.prefer(&waiting.ui_locales);
        Some(waiting)
    }

    /// Everything for a page that asks somebody who is signed in about an app; or the answer instead of that page.
    pub(super) async fn asked(&mut self, to: &Continue) -> Result<Asked, Response> {
        let Some(mut waiting) = self.waiting(to) else { return Err(refuse(self, Fault::NoRequest, None)) };
        let user = match self.user().await {
            Ok(Some(user)) => user,
            Ok(None) => return Err(see_other(&to.behind(self.base(), "/login"), None)),
            Err(failure) => return Err(fault_of_store(self, &failure)),
        };
        // What they may not have, they are not asked for.
        let permitted = self.app.config.scopes.permitted(&user, &waiting.client.id, &waiting.scopes);
        waiting.scopes = permitted.unwrap_or_default();
        let csrf = csrf::session_token(&self.app, &self.headers);
        Ok(Asked { waiting, user, csrf })
    }

    /// Who is signed in.
    pub(super) async fn user(&self) -> Result<Option<User>, StoreError> {
        match &self.session {
            Some(session) => self.app.store.user_by_id(&session.user_id).await,
            None => Ok(None),
        }
    }

    /// When and from where, for events.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin { at: self.app.clock.now(), address: self.address_text.as_deref() }
    }

    /// The path of the issuer.
    pub(super) fn base(&self) -> &str {
        self.app.config.issuer.path()
    }

    /// For messages that are put together outside of templates.
    pub(super) fn language(&self) -> Language {
        self.language
    }

    /// What every template may use.
    pub(super) fn context(&self) -> Value {
        let theme = &self.app.login.theme;
        let languages: Vec<Value> = Messages::languages()
            .map(|it| context! { tag => it.tag, name => it.name, here => it == self.language, href => self.in_language(it) })
            .collect();
        let site = context! {
            name => theme.name.as_str(), mark => theme.mark.as_str(), stylesheet => theme.stylesheet.as_str(),
            logo => theme.logo.as_deref(), terms => theme.terms.as_deref(), privacy => theme.privacy.as_deref(),
        };
        context! { lang => self.language.tag, languages, site, base => self.base() }
    }

    /// The cookies that belong to no page of its own.
    pub(super) fn cookies(&self) -> Option<HeaderValue> {
        let issuer = &self.app.config.issuer;
        self.chosen.map(|language| set_cookie(issuer, name(issuer, LANGUAGE), language.tag, Some(A_YEAR)))
    }

    /// The address of this page in another language; none for a page that has no address of its own.
    fn in_language(&self, language: Language) -> Option<String> {
        if self.path.is_empty() {
            return None;
        }
        let others = self.query.iter().filter(|(name, _)| *name != "lang");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("lang", language.tag)
            .finish();
        Some(format!("{}?{query}", self.path))
    }
}

impl Submission {
    /// Reads a form that has to come from one of our pages, or answers with a page that says what is wrong with it.
    pub(super) async fn read(app: Arc<App>, request: Request<Body>, bound: Bound) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let visit = Visit::read(app, parts).await?;
        let server = &visit.app.config.server;
        let form = Form::read(&visit.headers, body, server.max_body_bytes, server.body_timeout).await;
        let form = match form {
            Ok(form) => form,
            Err(error) => {
                let fault = if error == RequestError::TooLarge { Fault::TooLarge } else { Fault::Unreadable };
                return Err(refuse(&visit, fault, Some(&error.to_string())));
            }
        };
        match csrf::check(&visit.app, &visit.headers, bound, form.get("csrf")) {
            Ok(()) => Ok(Self { visit, form }),
            Err(forged) => Err(refuse(&visit, forged.into(), None)),
        }
    }
}

/// The network address at the other end.
pub(crate) fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| peer.0)
}

pub(super) const A_YEAR: Duration = Duration::from_secs(365 * 86_400);
