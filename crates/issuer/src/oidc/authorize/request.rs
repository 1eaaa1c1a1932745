//! What an authorization request asks (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1, RFC 7636 §4.3, RFC 8707 §2).
//!
//! The order decides who hears of a fault. As long as client and redirect URI are not proven, only the person does, on a
//! page: a fault must not become a redirect to wherever a stranger says (RFC 6749 §4.1.2.1). From there on the client
//! hears of it by redirect.
//!
//! 1. the client
//! 2. its redirect URI
//! 3. how to answer: `response_mode`, `state`
//! 4. everything else

use std::sync::Arc;
use std::time::Duration;

use super::claims_request::ClaimsRequest;
use super::response::{AuthorizeError, ResponseMode, ReturnTo};
use crate::clients::{Client, GrantType, parse_scope};
use crate::http::request::Form;
use crate::registry::Registry;
use crate::telemetry;

/// A request in order. Whether the person may have it is another question.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizationRequest {
    pub(crate) client: Arc<Client>,
    pub(crate) return_to: ReturnTo,
    /// Whether the redirect URI was in the request, and has to be in the token request then (RFC 6749 §4.1.3).
    pub(crate) redirect_uri_was_sent: bool,
    /// What of the requested scopes the client may ask for, in the order of the request.
    pub(crate) scopes: Vec<String>,
    /// One at least.
    pub(crate) audiences: Vec<String>,
    /// Of S256.
    pub(crate) code_challenge: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) prompt: Prompt,
    pub(crate) max_age: Option<Duration>,
    pub(crate) login_hint: Option<String>,
    pub(crate) id_token_hint: Option<String>,
    /// Language tags, the most wanted first.
    pub(crate) ui_locales: Vec<String>,
    pub(crate) claims: Option<ClaimsRequest>,
}

/// What the person has to be shown, wanted or not (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Nothing may be shown.
    pub(crate) none: bool,
    pub(crate) login: bool,
    pub(crate) consent: bool,
    pub(crate) select_account: bool,
}

/// A request that is not in order.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// For the person: whom to answer is not known.
    OnPage(PageFault),
    /// For the client.
    ByRedirect(ReturnTo, AuthorizeError),
}

/// Why there is nobody to send the person back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFault {
    /// The parameters could not be read, or one is there twice.
    Unreadable,
    /// No `client_id`.
    NoClient,
    /// One that nobody has.
    UnknownClient,
    /// No `redirect_uri`, and no way to tell which is meant.
    NoRedirectUri,
    /// One that the client is not registered with.
    UnknownRedirectUri,
}

impl AuthorizationRequest {
    /// Reads a request. `issuer` is the audience of tokens whose client names no other.
    ///
    /// # Errors
    /// [`Refused`], in the order of the module's list
    pub(crate) fn read(form: &Form, registry: &Registry, issuer: &str) -> Result<Self, Refused> {
        let id = form.get("client_id").ok_or(Refused::OnPage(PageFault::NoClient))?;
        let client = registry.find(id).cloned().ok_or(Refused::OnPage(PageFault::UnknownClient))?;
        telemetry::client_is(&client);
        let redirect_uri = redirect_uri(&client, form).map_err(Refused::OnPage)?;

        let state = form.get("state").map(str::to_owned);
        let mode = form.get("response_mode").map(ResponseMode::parse);
        let return_to = ReturnTo {
            redirect_uri,
            mode: mode.flatten().unwrap_or(ResponseMode::Query),
            // What is too long to be kept is not sent back cut.
            state: state.filter(|state| state.len() <= MAX_STATE_BYTES),
        };
        let refuse = |error| Refused::ByRedirect(return_to.clone(), error);
        if mode == Some(None) {
            return Err(refuse(AuthorizeError::InvalidRequest("response_mode is query, fragment or form_post")));
        }
        Self::read_rest(form, client, issuer, return_to.clone()).map_err(refuse)
    }

    /// Step 4.
    fn read_rest(form: &Form, client: Arc<Client>, issuer: &str, return_to: ReturnTo) -> Result<Self, AuthorizeError> {
        use AuthorizeError::InvalidRequest;
        check_lengths(form)?;
        // OpenID Connect Core §6: an OP that takes no request objects says so by these registered codes.
        if form.get("request").is_some() {
            return Err(AuthorizeError::RequestNotSupported);
        }
        if form.get("request_uri").is_some() {
            return Err(AuthorizeError::RequestUriNotSupported);
        }
        if form.get("registration").is_some() {
            return Err(AuthorizeError::RegistrationNotSupported);
        }
        match form.get("response_type") {
            None => return Err(InvalidRequest("response_type is missing")),
            Some("code") => {}
            Some(_) => return Err(AuthorizeError::UnsupportedResponseType),
        }
        if !client.uses(GrantType::AuthorizationCode) {
            return Err(AuthorizeError::UnauthorizedClient("the client is not registered for authorization codes"));
        }
        let scopes = scopes(&client, form.get("scope"))?;
        let is_openid = scopes.iter().any(|scope| scope == "openid");
        let redirect_uri_was_sent = form.get("redirect_uri").is_some();
        // OpenID Connect Core §3.1.2.1 has redirect_uri REQUIRED.
        if is_openid && !redirect_uri_was_sent {
            return Err(InvalidRequest("redirect_uri is missing"));
        }
        Ok(Self {
            code_challenge: code_challenge(&client, form)?,
            audiences: audiences(&client, form, issuer)?,
            nonce: form.get("nonce").map(str::to_owned),
            prompt: prompt(form.get("prompt"))?,
            max_age: max_age(form.get("max_age"))?.or(client.default_max_age),
            login_hint: form.get("login_hint").map(str::to_owned),
            id_token_hint: form.get("id_token_hint").map(str::to_owned),
            ui_locales: words(form.get("ui_locales")),
            claims: form.get("claims").map(ClaimsRequest::parse).transpose().map_err(InvalidRequest)?,
            client,
            return_to,
            redirect_uri_was_sent,
            scopes,
        })
    }
}

/// Step 2. "Simple String Comparison" (OpenID Connect Core §3.1.2.1), but for the port of a loopback address (RFC 8252
/// §7.3).
fn redirect_uri(client: &Client, form: &Form) -> Result<String, PageFault> {
    match form.get("redirect_uri") {
        Some(sent) => client.redirect_uri(sent).map(|_| sent.to_owned()).ok_or(PageFault::UnknownRedirectUri),
        // RFC 6749 §3.1.2.3: it may be left out where only one is registered.
        None => match client.redirect_uris.as_slice() {
            [only] => Ok(only.as_str().to_owned()),
            _ => Err(PageFault::NoRedirectUri),
        },
    }
}

fn check_lengths(form: &Form) -> Result<(), AuthorizeError> {
    for (name, limit) in [
        ("state", MAX_STATE_BYTES),
        ("nonce", MAX_TEXT_BYTES),
        ("scope", MAX_TEXT_BYTES),
        ("login_hint", MAX_TEXT_BYTES),
        ("ui_locales", MAX_TEXT_BYTES),
        ("acr_values", MAX_TEXT_BYTES),
    ] {
        if form.get(name).is_some_and(|value| value.len() > limit) {
            return Err(AuthorizeError::InvalidRequest("a parameter is too long"));
        }
    }
    Ok(())
}

/// RFC 6749 §3.3: what the client may not ask for is left out, and the answer says what is in. OpenID Connect Core
/// §3.1.2.1: "Scope values used that are not understood by an implementation SHOULD be ignored".
fn scopes(client: &Client, requested: Option<&str>) -> Result<Vec<String>, AuthorizeError> {
    let Some(requested) = requested else {
        // Without a request a client gets what it may do, but no identity: that has to be asked for.
        return Ok(client.own_scopes().map(str::to_owned).collect());
    };
    let mut granted: Vec<String> = Vec::new();
    for scope in requested.split(' ') {
        if parse_scope(scope).is_err() {
            return Err(AuthorizeError::InvalidScope("scope must be scope names separated by single spaces"));
        }
        if client.may(scope) && !granted.iter().any(|known| known == scope) {
            granted.push(scope.to_owned());
        }
    }
    if granted.is_empty() {
        return Err(AuthorizeError::InvalidScope("none of the requested scopes may be asked for by this client"));
    }
    Ok(granted)
}

fn audiences(client: &Client, form: &Form, issuer: &str) -> Result<Vec<String>, AuthorizeError> {
    let mut audiences: Vec<String> = Vec::new();
    for resource in form.all("resource") {
        if !client.audiences.iter().any(|audience| audience == resource) {
            return Err(AuthorizeError::InvalidTarget("the client has no access to the requested resource"));
        }
        if !audiences.iter().any(|known| known == resource) {
            audiences.push(resource.to_owned());
        }
    }
    if audiences.is_empty() {
        audiences.push(client.audiences.first().map_or(issuer, String::as_str).to_owned());
    }
    Ok(audiences)
}

/// RFC 7636 §4.3. `plain` is refused: it protects against nobody who can read the request (RFC 9700 §2.1.1).
fn code_challenge(client: &Client, form: &Form) -> Result<Option<String>, AuthorizeError> {
    use AuthorizeError::InvalidRequest;
    let method = form.get("code_challenge_method");
    let Some(challenge) = form.get("code_challenge") else {
        if method.is_some() {
            return Err(InvalidRequest("code_challenge is missing"));
        }
        if client.needs_pkce() {
            return Err(InvalidRequest("code_challenge is missing: this client has to use PKCE"));
        }
        return Ok(None);
    };
    // RFC 7636 §4.3: without a method it is "plain".
    if method != Some("S256") {
        return Err(InvalidRequest("code_challenge_method must be S256"));
    }
    let is_hash = challenge.len() == S256_CHARACTERS
        && challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_hash {
        return Err(InvalidRequest("code_challenge is not a SHA-256 hash in base64url"));
    }
    Ok(Some(challenge.to_owned()))
}

fn prompt(text: Option<&str>) -> Result<Prompt, AuthorizeError> {
    let mut prompt = Prompt::default();
    for word in text.into_iter().flat_map(str::split_ascii_whitespace) {
        match word {
            "none" => prompt.none = true,
            "login" => prompt.login = true,
            "consent" => prompt.consent = true,
            "select_account" => prompt.select_account = true,
            _ => return Err(AuthorizeError::InvalidRequest("prompt has an unknown value")),
        }
    }
    if prompt.none && (prompt.login || prompt.consent || prompt.select_account) {
        return Err(AuthorizeError::InvalidRequest("prompt=none can't be combined with another value"));
    }
    Ok(prompt)
}

fn max_age(text: Option<&str>) -> Result<Option<Duration>, AuthorizeError> {
    let Some(text) = text else { return Ok(None) };
    let seconds = text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = seconds.ok_or(AuthorizeError::InvalidRequest("max_age must be a number of seconds"))?;
    Ok(Some(Duration::from_secs(seconds.into())))
}

fn words(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(str::split_ascii_whitespace).take(MAX_WORDS).map(str::to_owned).collect()
}

/// A SHA-256 in base64url without padding.
const S256_CHARACTERS: usize = 43;

/// Some clients keep a whole signed state in here.
const MAX_STATE_BYTES: usize = 4096;

const MAX_TEXT_BYTES: usize = 1024;

/// Languages or classes that are looked at.
const MAX_WORDS: usize = 16;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clients::{Authentication, GrantTypes, RedirectUri};

    const ISSUER: &str = "https://id.example.com";
    pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    /// A public app with two redirect URIs, and a confidential one with a single one.
    fn registry() -> Registry {
        let uri = |text| RedirectUri::parse(text).expect("a redirect URI");
        let scopes = ["openid", "profile", "offline_access", "cart:write"].map(str::to_owned).to_vec();
        let grants = GrantTypes::from([GrantType::AuthorizationCode, GrantType::RefreshToken]);
        let app = Client {
            redirect_uris: vec![uri("https://app.example/cb"), uri("http://127.0.0.1/cb")],
            scopes: scopes.clone(),
            grants: grants.clone(),
            audiences: vec!["https://api.example.com".to_owned()],
            ..Client::new("app", Authentication::None)
        };
        let server = Client {
            redirect_uris: vec![uri("https://server.example/cb")],
            scopes,
            grants,
            ..Client::new("server", Authentication::Secret { sha256: [0; 32], method: None })
        };
        let service = Client {
            redirect_uris: vec![uri("https://service.example/cb")],
            ..Client::new("service", Authentication::Secret { sha256: [0; 32], method: None })
        };
        Registry::new([app, server, service])
    }

    pub(crate) fn read(query: &str) -> Result<AuthorizationRequest, Refused> {
        AuthorizationRequest::read(&Form::parse(query.as_bytes()).expect("a form"), &registry(), ISSUER)
    }

    /// A request of the public app that is in order, with `more`.
    pub(crate) fn app(more: &str) -> String {
        format!(
            "client_id=app&redirect_uri=https://app.example/cb&response_type=code&scope=openid+profile\
             &code_challenge={CHALLENGE}&code_challenge_method=S256&state=s{more}"
        )
    }

    fn on_page(query: &str) -> PageFault {
        match read(query) {
            Err(Refused::OnPage(fault)) => fault,
            other => panic!("{query}: {other:?}"),
        }
    }

    fn by_redirect(query: &str) -> (&'static str, ReturnTo) {
        match read(query) {
            Err(Refused::ByRedirect(return_to, error)) => (error.code(), return_to),
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn a_request_in_order_is_read() {
        let request =
            read(&app("&nonce=n&prompt=login+consent&max_age=0&login_hint=alice&ui_locales=de+en&acr_values=1"));

        let request = request.expect("it is in order");
        assert_eq!(request.scopes, ["openid", "profile"]);
        assert_eq!(request.audiences, ["https://api.example.com"]);
        assert_eq!(request.code_challenge.as_deref(), Some(CHALLENGE));
        assert_eq!(request.max_age, Some(Duration::ZERO));
        assert!(request.prompt.login && request.prompt.consent && !request.prompt.none);
        assert_eq!(request.ui_locales, ["de", "en"]);
        assert_eq!(request.return_to.state.as_deref(), Some("s"));
        assert!(request.redirect_uri_was_sent);
    }

    #[test]
    fn without_a_proven_redirect_uri_only_the_person_hears_of_it() {
        for (query, fault) in [
            ("", PageFault::NoClient),
            ("client_id=nobody&redirect_uri=https://app.example/cb", PageFault::UnknownClient),
            ("client_id=app", PageFault::NoRedirectUri),
            ("client_id=app&redirect_uri=https://evil.example/cb", PageFault::UnknownRedirectUri),
            ("client_id=app&redirect_uri=https://app.example/cb/", PageFault::UnknownRedirectUri),
            ("client_id=app&redirect_uri=https://app.example/cb?x=1", PageFault::UnknownRedirectUri),
            ("client_id=app&redirect_uri=https://APP.example/cb", PageFault::UnknownRedirectUri),
            ("client_id=app&redirect_uri=https://server.example/cb", PageFault::UnknownRedirectUri),
            ("client_id=app&redirect_uri=javascript:alert(1)", PageFault::UnknownRedirectUri),
        ] {
            assert_eq!(on_page(query), fault, "{query}");
        }
    }

    #[test]
    fn the_port_of_a_loopback_address_may_vary() {
        let query = app("").replace("https://app.example/cb", "http://127.0.0.1:51004/cb");

        assert_eq!(read(&query).expect("it is in order").return_to.redirect_uri, "http://127.0.0.1:51004/cb");
    }

    #[test]
    fn once_the_redirect_uri_is_proven_the_client_hears_of_it() {
        let base = app("");
        for (query, code) in [
            (base.replace("response_type=code", ""), "invalid_request"),
            (base.replace("response_type=code", "response_type=token"), "unsupported_response_type"),
            (base.replace("response_type=code", "response_type=code+id_token"), "unsupported_response_type"),
            (app("&response_mode=web_message"), "invalid_request"),
            (app("&request=x"), "request_not_supported"),
            (app("&request_uri=https://app.example/r"), "request_uri_not_supported"),
            (app("&registration={}"), "registration_not_supported"),
            (base.replace("openid+profile", "admin"), "invalid_scope"),
            (base.replace("openid+profile", "openid++profile"), "invalid_scope"),
            (base.replace("S256", "plain"), "invalid_request"),
            (base.replace("&code_challenge_method=S256", ""), "invalid_request"),
            (base.replace(&format!("&code_challenge={CHALLENGE}&code_challenge_method=S256"), ""), "invalid_request"),
            (base.replace(CHALLENGE, "short"), "invalid_request"),
            (app("&prompt=none+login"), "invalid_request"),
            (app("&prompt=create"), "invalid_request"),
            (app("&max_age=-1"), "invalid_request"),
            (app("&max_age=%2B1"), "invalid_request"),
            (app("&max_age=soon"), "invalid_request"),
            (app("&claims=x"), "invalid_request"),
            (app("&resource=https://other.example.com"), "invalid_target"),
            (app(&format!("&nonce={}", "n".repeat(2000))), "invalid_request"),
            ("client_id=service&response_type=code&scope=x".to_owned(), "unauthorized_client"),
        ] {
            let (found, return_to) = by_redirect(&query);
            assert_eq!(found, code, "{query}");
            assert!(return_to.redirect_uri.ends_with("/cb"));
        }
    }

    #[test]
    fn an_error_is_sent_the_way_the_answer_was_wanted() {
        let (_, return_to) = by_redirect(&app("&response_mode=form_post&prompt=create"));

        assert_eq!((return_to.mode, return_to.state.as_deref()), (ResponseMode::FormPost, Some("s")));
    }

    #[test]
    fn a_confidential_client_may_leave_out_the_challenge_and_without_openid_its_only_redirect_uri() {
        let request = read("client_id=server&response_type=code").expect("it is in order");
        assert_eq!(request.return_to.redirect_uri, "https://server.example/cb");
        assert!(!request.redirect_uri_was_sent && request.code_challenge.is_none());
        assert_eq!(request.scopes, ["cart:write"], "an identity has to be asked for");
        assert_eq!(request.audiences, [ISSUER]);

        assert_eq!(by_redirect("client_id=server&response_type=code&scope=openid").0, "invalid_request");
    }
}
