//! Somebody without a browser: follows redirects, keeps cookies, and sends the forms of our pages as they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request};
use http_body_util::Full;

use super::http::{Reply, send};
use super::issuer::Issuer;

/// A person at the pages of one issuer.
#[derive(Clone)]
pub(crate) struct Person {
    issuer: String,
    name: &'static str,
    password: &'static str,
    cookies: BTreeMap<String, String>,
}

/// A form as a page shows it.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) action: String,
    /// The hidden fields.
    pub(crate) fields: Vec<(String, String)>,
}

/// Where an authorization request ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The browser is sent to this address, which is not the issuer's.
    Sent(String),
    /// The browser is shown a form that leads away (`response_mode=form_post`).
    #[expect(dead_code, reason = "shown when a story expected something else")]
    Form(Form),
    /// The issuer shows a page that is none of its forms, or the same form again.
    #[expect(dead_code, reason = "shown when a story expected something else")]
    Page(Reply),
}

impl Person {
    pub(crate) fn new(issuer: &Issuer, name: &'static str, password: &'static str) -> Self {
        Self::at(&issuer.url(), name, password)
    }

    /// The same at an issuer that is known by its URL.
    pub(crate) fn at(issuer: &str, name: &'static str, password: &'static str) -> Self {
        Self { issuer: issuer.to_owned(), name, password, cookies: BTreeMap::new() }
    }

    /// Goes to an authorization request and signs in and agrees as asked, until the app is reached; gives its address.
    pub(crate) async fn authorize(&mut self, url: &str) -> String {
        match self.go(url).await {
            End::Sent(url) => url,
            other => panic!("not sent back to the app: {other:?}"),
        }
    }

    /// The same, wherever it ends.
    pub(crate) async fn go(&mut self, url: &str) -> End {
        let mut reply = self.get(url).await;
        for _ in 0..MANY {
            if reply.status.is_redirection() {
                let location = self.absolute(reply.header(LOCATION.as_str()));
                if !location.starts_with(&format!("{}/", self.issuer)) {
                    return End::Sent(location);
                }
                reply = self.get(&location).await;
                continue;
            }
            let Some(form) = Form::of(&reply) else { return End::Page(reply) };
            let answers: &[(&str, &str)] = match form.action.as_str() {
                "/login" => &[("username", self.name), ("password", self.password)],
                "/consent" | "/select-account" | "/oauth2/logout" => &[],
                action if action.starts_with("http") => return End::Form(form),
                _ => return End::Page(reply),
            };
            let sent = self.submit(&form, answers).await;
            if sent.status.is_client_error() {
                return End::Page(sent);
            }
            reply = sent;
        }
        panic!("{url} leads in circles");
    }

    /// Signs in at the issuer itself.
    pub(crate) async fn sign_in(&mut self) {
        let page = self.get(&self.absolute("/login")).await;
        let form = Form::of(&page).expect("a form");
        let reply = self.submit(&form, &[("username", self.name), ("password", self.password)]).await;
        assert_eq!(reply.status, 303, "{}", reply.text());
    }

    /// Gets a page with the cookies that were set so far.
    pub(crate) async fn get(&mut self, url: &str) -> Reply {
        self.ask(Request::get(url), String::new()).await
    }

    /// Sends a form with what was filled in.
    pub(crate) async fn submit(&mut self, form: &Form, answers: &[(&str, &str)]) -> Reply {
        let fields = form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = urlencoded(fields.chain(answers.iter().copied()));
        let url = self.absolute(&form.action);
        let request = Request::builder().method(Method::POST).uri(url).header("origin", &self.issuer);
        self.ask(request.header("sec-fetch-site", "same-origin").header(CONTENT_TYPE, FORM), body).await
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// All cookies, as they are sent.
    pub(crate) fn cookie_header(&self) -> String {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    async fn ask(&mut self, mut request: http::request::Builder, body: String) -> Reply {
        if !self.cookies.is_empty() {
            request = request.header(COOKIE, self.cookie_header());
        }
        let reply = send(request.body(Full::new(Bytes::from(body))).expect("a request")).await.expect("a response");
        for line in reply.headers.get_all(SET_COOKIE) {
            let line = line.to_str().expect("a cookie of visible characters");
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let (name, value) = pair.split_once('=').expect("a name and a value");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        reply
    }

    fn absolute(&self, address: &str) -> String {
        if address.starts_with('/') { format!("{}{address}", self.issuer) } else { address.to_owned() }
    }
}

impl Form {
    /// The first form of a page: where there are two, that is the one which agrees.
    pub(crate) fn of(reply: &Reply) -> Option<Self> {
        if !reply.header(CONTENT_TYPE.as_str()).starts_with("text/html") {
            return None;
        }
        let (_, form) = reply.text().split_once("<form ")?;
        let (form, _) = form.split_once("</form>")?;
        let (opening, inside) = form.split_once('>')?;
        let inputs = inside.split("<input ").skip(1).filter_map(|input| input.split_once('>'));
        let hidden = inputs.filter(|(input, _)| attribute(input, "type").as_deref() == Some("hidden"));
        let fields = hidden.filter_map(|(input, _)| Some((attribute(input, "name")?, attribute(input, "value")?)));
        Some(Self { action: attribute(opening, "action")?, fields: fields.collect() })
    }

    /// The value of a hidden field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }
}

/// Fields as a body or a query.
pub(crate) fn urlencoded<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encode = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        bytes.collect()
    };
    let pairs = fields.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// An attribute of a tag whose attributes are all quoted.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let unescaped = [
        ("&#x2f;", "/"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    Some(unescaped.iter().fold(value.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain)))
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Redirects and pages of one sign-in.
const MANY: usize = 12;
