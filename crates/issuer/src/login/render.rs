//! A page as HTML, with the headers that no page may forget.

use std::fmt::Write as _;
use std::path::Path;

use axum::response::Response;
use fluent_bundle::{FluentArgs, FluentValue};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, VARY, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use minijinja::value::Kwargs;
use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value, context, escape_formatter,
};
use tracing::error;

use super::PagesError;
use super::messages::{Language, Messages};
use super::visit::Visit;
use crate::http::reply;

/// The templates: the built-in ones, and those that the operator has put in place of some.
pub(super) struct Templates(Environment<'static>);

/// A page that is about to be answered with.
pub(super) struct Page<'a> {
    visit: &'a Visit,
    template: &'static str,
    context: Value,
    status: StatusCode,
    retry_after_s: Option<u64>,
    cookies: Vec<HeaderValue>,
    policy: Policy,
    opener: Opener,
}

/// What a page may load or go to beside our own (CSP Level 3): origins, or schemes with a colon.
#[derive(Default)]
struct Policy {
    images: Vec<String>,
    frames: Vec<String>,
    form_targets: Vec<String>,
}

/// Whether the window that opened this one may stay in touch with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    /// It may: apps sign people in in windows that they open.
    Kept,
    Cut,
}

impl Templates {
    /// Reads the templates, those in `folder` in place of built-in ones of the same name.
    ///
    /// # Errors
    /// [`PagesError`]
    pub(super) fn read(folder: Option<&Path>, messages: Messages) -> Result<Self, PagesError> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_formatter(escape);
        for (name, source) in BUILT_IN {
            templates.add_template(name, source).expect("a test renders every page");
        }
        for (name, source) in folder.map(own_templates).transpose()?.unwrap_or_default() {
            let malformed =
                |error: minijinja::Error| PagesError::Template { name: name.clone(), reason: error.to_string() };
            templates.add_template_owned(name.clone(), source).map_err(malformed)?;
        }
        templates.add_function("t", move |state: &State<'_, '_>, key: &str, arguments: Kwargs| {
            translate(&messages, state, key, &arguments)
        });
        Ok(Self(templates))
    }

    fn render(&self, template: &str, context: Value) -> Result<String, minijinja::Error> {
        self.0.get_template(template)?.render(context)
    }
}

impl<'a> Page<'a> {
    /// A page from a template, for the person of this visit.
    pub(super) fn new(visit: &'a Visit, template: &'static str, context: Value) -> Self {
        Self {
            visit,
            template,
            context,
            status: StatusCode::OK,
            retry_after_s: None,
            cookies: Vec::new(),
            policy: Policy::default(),
            opener: Opener::Cut,
        }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// For when the same request may be made again.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) fn cookies(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.cookies.extend(cookies);
        self
    }

    /// Origins of the pictures on it.
    pub(super) fn images(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.policy.images.extend(origins);
        self
    }

    /// Origins of the pages in it.
    pub(super) fn frames(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.policy.frames.extend(origins);
        self
    }

    /// Where its forms lead in the end: browsers hold the policy of the page against the redirects that follow a form,
    /// those to the app too.
    pub(super) fn form_targets(mut self, targets: impl IntoIterator<Item = String>) -> Self {
        self.policy.form_targets.extend(targets);
        self
    }

    /// For a page that an app may have opened in a window of its own.
    pub(super) fn keep_opener(mut self) -> Self {
        self.opener = Opener::Kept;
        self
    }

    pub(super) fn respond(self) -> Response {
        let login = &self.visit.app.login;
        let context = context! { ..self.context.clone(), ..self.visit.context() };
        let html = match login.templates.render(self.template, context) {
            Ok(html) => html,
            Err(failure) => {
                error!(template = self.template, error = crate::chain(&failure), "a page can't be rendered");
                return reply::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "This page can't be shown. The reason is in the log.\n",
                );
            }
        };
        let mut response = reply::with_body(self.status, HeaderValue::from_static("text/html; charset=utf-8"), html);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.header());
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        // Not no-referrer: with that, browsers send our own forms with `Origin: null`.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("cookie, accept-language"));
        if self.opener == Opener::Cut {
            headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        for cookie in self.cookies.into_iter().chain(self.visit.cookies()) {
            headers.append(SET_COOKIE, cookie);
        }
        response
    }
}

impl Policy {
    fn header(&self) -> HeaderValue {
        let list = |sources: &[String]| sources.iter().map(|source| format!(" {source}")).collect::<String>();
        let frames = if self.frames.is_empty() { String::new() } else { format!("frame-src{}; ", list(&self.frames)) };
        let policy = format!(
            "default-src 'none'; style-src 'self'; img-src 'self'{}; {frames}form-action 'self'{}; base-uri 'none'; \
             frame-ancestors 'none'",
            list(&self.images),
            list(&self.form_targets),
        );
        HeaderValue::try_from(policy).expect("origins and schemes are visible ASCII")
    }
}

/// Writes a value into a page: escaped, but for what is HTML already. The library would escape slashes too, which makes
/// addresses hard to read for people and for simple programs.
fn escape(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let Some(text) = value.as_str().filter(|_| matches!(state.auto_escape(), AutoEscape::Html) && !value.is_safe())
    else {
        return escape_formatter(output, state, value);
    };
    for character in text.chars() {
        match character {
            '&' => output.write_str("&amp;"),
            '<' => output.write_str("&lt;"),
            '>' => output.write_str("&gt;"),
            '"' => output.write_str("&quot;"),
            '\'' => output.write_str("&#39;"),
            other => output.write_char(other),
        }?;
    }
    Ok(())
}

/// `t(key, name=value, …)` in templates: a message in the language of the page.
fn translate(
    messages: &Messages,
    state: &State<'_, '_>,
    key: &str,
    arguments: &Kwargs,
) -> Result<String, minijinja::Error> {
    let tag = state.lookup("lang").unwrap_or_default();
    let language: Language = messages.choose(tag.as_str());
    let mut values = FluentArgs::new();
    for name in arguments.args() {
        let value: Value = arguments.get(name)?;
        let value = match i64::try_from(value.clone()) {
            Ok(number) => FluentValue::from(number),
            Err(_) => FluentValue::from(value.to_string()),
        };
        values.set(name.to_owned(), value);
    }
    let text = messages.text(language, key, &values);
    text.ok_or_else(|| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("no message {key} with these arguments"))
    })
}

/// The templates of a folder, by name.
fn own_templates(folder: &Path) -> Result<Vec<(String, String)>, PagesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PagesError::File { path, source }
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().and_then(|it| it.to_str()).filter(|it| it.ends_with(".html"));
        if let Some(name) = name {
            let source = std::fs::read_to_string(&path).map_err(failed(&path))?;
            found.push((name.to_owned(), source));
        }
    }
    Ok(found)
}

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

/// All templates.
pub(super) const BUILT_IN: [(&str, &str); 14] = built_in![
    "about.html",
    "account.html",
    "app.html",
    "base.html",
    "consent.html",
    "error.html",
    "home.html",
    "login.html",
    "logout.html",
    "password.html",
    "person.html",
    "problem.html",
    "select_account.html",
    "signed_out.html",
];
