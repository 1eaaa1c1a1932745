//! How an authorization request is answered to its client: as parameters of the redirect URI, behind `?` or `#`
//! (RFC 6749 §4.1.2, OAuth 2.0 Multiple Response Type Encoding Practices §2.1), or in a form that posts itself (OAuth 2.0
//! Form Post Response Mode). Every answer names the issuer (RFC 9207).

use axum::response::Response;
use http::header::{CACHE_CONTROL, PRAGMA, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use url::form_urlencoded;

use crate::http::reply;

/// Where, how and with which `state` a request is answered. The redirect URI is proven to be the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReturnTo {
    pub(crate) redirect_uri: String,
    pub(crate) mode: ResponseMode,
    pub(crate) state: Option<String>,
}

/// `response_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

/// What a client is told instead of a code (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizeError {
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("{0}")]
    UnauthorizedClient(&'static str),
    #[error("the only supported response_type is code")]
    UnsupportedResponseType,
    #[error("{0}")]
    InvalidScope(&'static str),
    #[error("{0}")]
    InvalidTarget(&'static str),
    #[error("the person refused")]
    AccessDenied,
    #[error("the person may not have any of the requested scopes")]
    NotPermitted,
    #[error("the person has to sign in")]
    LoginRequired,
    #[error("the person has to agree")]
    ConsentRequired,
    #[error("the person has to choose an account")]
    AccountSelectionRequired,
    #[error("the authentication that is asked for is not available")]
    UnmetAuthenticationRequirements,
    #[error("request objects are not supported")]
    RequestNotSupported,
    #[error("request_uri is not supported")]
    RequestUriNotSupported,
    #[error("registration by the request is not supported")]
    RegistrationNotSupported,
    #[error("the server can't answer at the moment")]
    TemporarilyUnavailable,
}

impl ResponseMode {
    /// `None` for a mode that is not known.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "query" => Some(Self::Query),
            "fragment" => Some(Self::Fragment),
            "form_post" => Some(Self::FormPost),
            _ => None,
        }
    }
}

impl AuthorizeError {
    /// The registered code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnauthorizedClient(_) => "unauthorized_client",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::AccessDenied | Self::NotPermitted => "access_denied",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::AccountSelectionRequired => "account_selection_required",
            Self::UnmetAuthenticationRequirements => "unmet_authentication_requirements",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::RegistrationNotSupported => "registration_not_supported",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }
}

impl ReturnTo {
    /// Answers with a code.
    pub(crate) fn code(&self, code: &str, issuer: &str) -> Response {
        self.answer(vec![("code", code)], issuer)
    }

    /// Answers with an error.
    pub(crate) fn error(&self, error: AuthorizeError, issuer: &str) -> Response {
        self.answer(vec![("error", error.code()), ("error_description", &error.to_string())], issuer)
    }

    fn answer<'a>(&'a self, mut parameters: Vec<(&'a str, &'a str)>, issuer: &'a str) -> Response {
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        // RFC 9207 §2: in error responses too.
        parameters.push(("iss", issuer));
        let location = match self.mode {
            ResponseMode::FormPost => return form_post(&self.redirect_uri, &parameters),
            ResponseMode::Query => {
                // RFC 6749 §3.1.2: a query of the redirect URI's own "MUST be retained".
                let divider = if self.redirect_uri.contains('?') { '&' } else { '?' };
                format!("{}{divider}{}", self.redirect_uri, encoded(&parameters))
            }
            ResponseMode::Fragment => format!("{}#{}", self.redirect_uri, encoded(&parameters)),
        };
        reply::see_other(&location)
    }
}

/// A page that posts itself, and has a button for those without scripts.
fn form_post(redirect_uri: &str, parameters: &[(&str, &str)]) -> Response {
    let fields: String = parameters
        .iter()
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">\n", escaped(name), escaped(value))
        })
        .collect();
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Continue</title></head>\n<body>\n\
         <form method=\"post\" action=\"{}\">\n{fields}<noscript><button type=\"submit\">Continue</button></noscript>\n\
         </form>\n<script>{SUBMIT}</script>\n</body>\n</html>\n",
        escaped(redirect_uri)
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = reply::with_body(StatusCode::OK, html, page);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // No form-action: browsers hold it against redirects that follow the post, which are the client's own affair.
    let policy = format!("default-src 'none'; script-src 'sha256-{}'; frame-ancestors 'none'; base-uri 'none'", hash());
    headers.insert(
        http::header::CONTENT_SECURITY_POLICY,
        HeaderValue::try_from(policy).expect("base64 can be sent in a header"),
    );
    response
}

fn encoded(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The script's hash, as the policy wants it (CSP Level 3 §2.3.1).
fn hash() -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SUBMIT.as_bytes()))
}

const SUBMIT: &str = "document.forms[0].submit()";

#[cfg(test)]
mod tests {
    use http::header::LOCATION;

    use super::*;

    const ISSUER: &str = "https://id.example.com";

    fn return_to(redirect_uri: &str, mode: ResponseMode) -> ReturnTo {
        ReturnTo { redirect_uri: redirect_uri.to_owned(), mode, state: Some("a&b=\"<c>\"".to_owned()) }
    }

    fn location(response: &Response) -> &str {
        response.headers()[LOCATION].to_str().expect("visible ASCII")
    }

    #[test]
    fn a_code_is_added_to_the_query_that_is_there() {
        let response = return_to("https://app.example/cb?x=1", ResponseMode::Query).code("C", ISSUER);

        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(
            location(&response),
            "https://app.example/cb?x=1&code=C&state=a%26b%3D%22%3Cc%3E%22&iss=https%3A%2F%2Fid.example.com"
        );
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }

    #[test]
    fn an_error_names_the_issuer_and_keeps_the_state() {
        let response =
            return_to("https://app.example/cb", ResponseMode::Fragment).error(AuthorizeError::LoginRequired, ISSUER);

        assert_eq!(
            location(&response),
            "https://app.example/cb#error=login_required&error_description=the+person+has+to+sign+in\
             &state=a%26b%3D%22%3Cc%3E%22&iss=https%3A%2F%2Fid.example.com"
        );
    }

    #[tokio::test]
    async fn a_posted_answer_is_escaped_and_runs_no_other_script() {
        let response = return_to("https://app.example/cb?a=1&b='2'", ResponseMode::FormPost).code("C", ISSUER);

        let policy = response.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        let page = std::str::from_utf8(&body).expect("UTF-8");
        assert!(page.contains("action=\"https://app.example/cb?a=1&amp;b=&#39;2&#39;\""), "{page}");
        assert!(page.contains("name=\"state\" value=\"a&amp;b=&quot;&lt;c&gt;&quot;\""), "{page}");
        assert!(page.contains("name=\"iss\" value=\"https://id.example.com\""), "{page}");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    }
}
