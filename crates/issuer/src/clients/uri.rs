//! The addresses a client registers: where people are sent back to, what the issuer calls, who may call it.
//!
//! All are kept exactly as they were written. `url` only decides whether one is acceptable; what is compared is the text,
//! so that no two parsers can disagree about what was compared.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Why an address cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUri {
    /// Not an address at all.
    #[error("{0:?} is not an absolute URI")]
    NotAbsolute(String),
    /// It has a fragment.
    #[error("{0:?} has a fragment, which no address that is registered may have (RFC 6749 §3.1.2)")]
    Fragment(String),
    /// It has a user name, or a wildcard in its host.
    #[error("{0:?} has a user name or a wildcard: addresses are compared as they are")]
    Ambiguous(String),
    /// Plain HTTP to another machine.
    #[error("{0:?} must be https: plain http is only for localhost, 127.0.0.0/8 and [::1]")]
    Insecure(String),
    /// A scheme that runs code, or that any app can take.
    #[error("{0:?} must be https, or have a scheme of its own with a dot such as com.example.app (RFC 8252 §7.1)")]
    Scheme(String),
    /// Neither https nor http.
    #[error("{0:?} is not an https URL")]
    NotHttps(String),
    /// More than scheme, host and port.
    #[error("{0:?} is not an origin: scheme, host and port as a browser writes them, such as https://app.example.com")]
    NotAnOrigin(String),
}

/// Where an authorization is answered (RFC 6749 §3.1.2): https, a scheme of an app's own (RFC 8252 §7.1), or http on this
/// machine (RFC 8252 §7.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedirectUri(String);

/// Where people may be sent after signing out (OpenID Connect RP-Initiated Logout §3.1); compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostLogoutRedirectUri(String);

/// An address of a client that the issuer or a browser fetches: https, or http on this machine; no fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebUri(String);

/// A web page's origin, as browsers write it in `Origin`: https, or http on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

impl RedirectUri {
    /// Reads an address that people can be sent back to.
    ///
    /// # Errors
    /// Every [`InvalidUri`] but [`InvalidUri::NotHttps`] and [`InvalidUri::NotAnOrigin`].
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        check_redirect(text).map(|()| Self(text.to_owned()))
    }

    /// Is `presented` this address, to the character? "Authorization servers MUST utilize exact string matching"
    /// (RFC 9700 §4.1.3).
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        self.0 == presented
    }

    /// As [`RedirectUri::is`], but a port of this machine may vary: "The authorization server MUST allow any port to be
    /// specified at the time of the request for loopback IP redirect URIs" (RFC 8252 §7.3).
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.is(presented)
            || loopback_without_port(&self.0).is_some_and(|it| loopback_without_port(presented) == Some(it))
    }

    /// Its origin, for a page that posts a form to it; `None` where it has a scheme of its own.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        Url::parse(&self.0)
            .ok()
            .map(|url| url.origin())
            .filter(url::Origin::is_tuple)
            .map(|it| it.ascii_serialization())
    }
}

impl PostLogoutRedirectUri {
    /// Reads an address that people can be sent to after signing out.
    ///
    /// # Errors
    /// As [`RedirectUri::parse`].
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        check_redirect(text).map(|()| Self(text.to_owned()))
    }

    /// Is `presented` this address, to the character?
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        self.0 == presented
    }
}

impl WebUri {
    /// Reads an address.
    ///
    /// # Errors
    /// Every [`InvalidUri`] but [`InvalidUri::Scheme`] and [`InvalidUri::NotAnOrigin`].
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        let url = parse(text)?;
        match url.scheme() {
            "https" => Ok(Self(text.to_owned())),
            "http" if is_loopback(&url) => Ok(Self(text.to_owned())),
            "http" => Err(InvalidUri::Insecure(text.to_owned())),
            _ => Err(InvalidUri::NotHttps(text.to_owned())),
        }
    }

    /// Its origin.
    #[must_use]
    pub fn origin(&self) -> String {
        Url::parse(&self.0).expect("it was read as a URL").origin().ascii_serialization()
    }
}

impl Origin {
    /// Reads an origin. `*` is none: who may call is said by name.
    ///
    /// # Errors
    /// [`InvalidUri::NotAnOrigin`], [`InvalidUri::Insecure`]
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        let not_an_origin = || InvalidUri::NotAnOrigin(text.to_owned());
        let origin = WebUri::parse(text).map(|uri| uri.origin()).map_err(|error| match error {
            insecure @ InvalidUri::Insecure(_) => insecure,
            _ => not_an_origin(),
        })?;
        if origin == text { Ok(Self(origin)) } else { Err(not_an_origin()) }
    }
}

macro_rules! text {
    ($($type:ident),*) => {$(
        impl $type {
            /// Exactly as it was registered.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidUri;

            fn from_str(text: &str) -> Result<Self, InvalidUri> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidUri;

            fn try_from(text: String) -> Result<Self, InvalidUri> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(uri: $type) -> String {
                uri.0
            }
        }
    )*};
}

text!(RedirectUri, PostLogoutRedirectUri, WebUri, Origin);

/// What all addresses have in common.
fn parse(text: &str) -> Result<Url, InvalidUri> {
    let readable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = Url::parse(text).ok().filter(|_| readable);
    let url = url.ok_or_else(|| InvalidUri::NotAbsolute(text.to_owned()))?;
    if url.fragment().is_some() {
        return Err(InvalidUri::Fragment(text.to_owned()));
    }
    let has_wildcard = url.host_str().is_some_and(|host| host.contains('*'));
    if has_wildcard || !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUri::Ambiguous(text.to_owned()));
    }
    // `https:example.com` and `https:///example.com` mean something to browsers only.
    let is_web = matches!(url.scheme(), "https" | "http");
    let authority = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    if is_web && authority.is_none_or(|rest| rest.starts_with('/')) {
        return Err(InvalidUri::NotAbsolute(text.to_owned()));
    }
    Ok(url)
}

fn check_redirect(text: &str) -> Result<(), InvalidUri> {
    let url = parse(text)?;
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&url) => Ok(()),
        "http" => Err(InvalidUri::Insecure(text.to_owned())),
        own if own.contains('.') => Ok(()),
        // Without a dot are javascript:, data: and file:, and names that any app may take.
        _ => Err(InvalidUri::Scheme(text.to_owned())),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Splits `http://127.0.0.1:8123/callback` into host and what follows the port, if it is on this machine.
fn loopback_without_port(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = LOOPBACK_HOSTS.into_iter().find(|host| rest.starts_with(host))?;
    let after = &rest[host.len()..];
    let path = match after.strip_prefix(':') {
        Some(port) => {
            let digits = port.bytes().take_while(u8::is_ascii_digit).count();
            let (port, path) = port.split_at(digits);
            port.parse::<u16>().ok()?;
            path
        }
        None => after,
    };
    // Nothing else may follow a host: `localhost.example.com` is another, and so is what comes after an `@`.
    let ends_there = path.is_empty() || path.starts_with(['/', '?']);
    (ends_there && !path.contains('#')).then_some((host, path))
}

/// Hosts of this machine whose port may vary (RFC 8252 §7.3, §8.3).
const LOOPBACK_HOSTS: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_sent_to_https_to_apps_and_to_this_machine() {
        for uri in [
            "https://app.example.com/callback",
            "https://app.example.com",
            "https://app.example.com/callback?tenant=1",
            "http://localhost:3000/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:8080/",
            "com.example.app:/callback",
            "com.example.app://callback",
        ] {
            assert_eq!(RedirectUri::parse(uri).expect(uri).as_str(), uri);
            assert_eq!(PostLogoutRedirectUri::parse(uri).expect(uri).as_str(), uri);
        }
    }

    #[test]
    fn people_are_sent_nowhere_else() {
        let text = str::to_owned;
        for (uri, why) in [
            ("", InvalidUri::NotAbsolute(text(""))),
            ("/callback", InvalidUri::NotAbsolute(text("/callback"))),
            ("https:app.example.com", InvalidUri::NotAbsolute(text("https:app.example.com"))),
            ("https:///app.example.com", InvalidUri::NotAbsolute(text("https:///app.example.com"))),
            ("https://app.example.com\\@evil", InvalidUri::NotAbsolute(text("https://app.example.com\\@evil"))),
            ("https://app.example.com/ä", InvalidUri::NotAbsolute(text("https://app.example.com/ä"))),
            ("https://app.example.com/a b", InvalidUri::NotAbsolute(text("https://app.example.com/a b"))),
            ("https://app.example.com/#x", InvalidUri::Fragment(text("https://app.example.com/#x"))),
            ("https://app.example.com/#", InvalidUri::Fragment(text("https://app.example.com/#"))),
            ("https://me@app.example.com/", InvalidUri::Ambiguous(text("https://me@app.example.com/"))),
            ("https://*.example.com/", InvalidUri::Ambiguous(text("https://*.example.com/"))),
            ("http://app.example.com/", InvalidUri::Insecure(text("http://app.example.com/"))),
            ("http://localhost.example.com/", InvalidUri::Insecure(text("http://localhost.example.com/"))),
            ("javascript:alert(1)", InvalidUri::Scheme(text("javascript:alert(1)"))),
            ("data:text/html,x", InvalidUri::Scheme(text("data:text/html,x"))),
            ("file:///etc/passwd", InvalidUri::Scheme(text("file:///etc/passwd"))),
            ("myapp:/callback", InvalidUri::Scheme(text("myapp:/callback"))),
        ] {
            assert_eq!(RedirectUri::parse(uri), Err(why), "{uri}");
        }
    }

    #[test]
    fn a_redirect_uri_is_compared_to_the_character() {
        let uri = RedirectUri::parse("https://app.example.com/callback?a=1").expect("a URI");

        assert!(uri.matches("https://app.example.com/callback?a=1"));
        for other in [
            "https://app.example.com/callback",
            "https://app.example.com/callback?a=1&b=2",
            "https://app.example.com/callback/?a=1",
            "https://app.example.com:443/callback?a=1",
            "https://APP.example.com/callback?a=1",
            "https://app.example.com/x/../callback?a=1",
            "https://app.example.com/callback?a=1#",
            "",
        ] {
            assert!(!uri.matches(other), "{other}");
        }
    }

    #[test]
    fn a_port_of_this_machine_may_vary_and_nothing_else() {
        for (registered, presented) in [
            ("http://127.0.0.1/callback", "http://127.0.0.1:51004/callback"),
            ("http://127.0.0.1:1/callback", "http://127.0.0.1:51004/callback"),
            ("http://[::1]:1/callback?a=1", "http://[::1]/callback?a=1"),
            ("http://localhost", "http://localhost:80"),
        ] {
            assert!(RedirectUri::parse(registered).expect(registered).matches(presented), "{registered} {presented}");
            assert!(!RedirectUri::parse(registered).expect(registered).is(presented));
        }
        let uri = RedirectUri::parse("http://127.0.0.1/callback").expect("a URI");
        for other in [
            "http://127.0.0.1:51004/other",
            "http://127.0.0.1:51004/callback?a=1",
            "http://127.0.0.1:51004/callback#a",
            "http://127.0.0.1:x/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:99999/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.1@evil.example/callback",
            "http://localhost:51004/callback",
            "https://127.0.0.1:51004/callback",
            "http://127.0.0.12/callback",
        ] {
            assert!(!uri.matches(other), "{other}");
        }
    }

    #[test]
    fn the_issuer_calls_https_and_this_machine() {
        for uri in ["https://app.example.com/jwks?x=1", "http://localhost:3000/logout"] {
            assert_eq!(WebUri::parse(uri).expect(uri).as_str(), uri);
        }
        for uri in ["http://app.example.com/", "com.example.app:/", "app", "https://a/#b", "ftp://a/"] {
            assert!(WebUri::parse(uri).is_err(), "{uri}");
        }
        assert_eq!(WebUri::parse("https://App.example.com:443/x").expect("a URI").origin(), "https://app.example.com");
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for origin in ["https://app.example.com", "https://app.example.com:8443", "http://localhost:3000"] {
            assert_eq!(Origin::parse(origin).expect(origin).as_str(), origin);
        }
        for other in [
            "*",
            "null",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://App.example.com",
            "https://app.example.com/x",
            "com.example.app://x",
        ] {
            assert_eq!(Origin::parse(other), Err(InvalidUri::NotAnOrigin(other.to_owned())));
        }
        assert!(matches!(Origin::parse("http://app.example.com"), Err(InvalidUri::Insecure(_))));
    }

    #[test]
    fn the_origin_of_a_redirect_uri_is_for_pages_and_an_app_has_none() {
        let origin = |uri| RedirectUri::parse(uri).expect("a URI").origin();

        assert_eq!(origin("https://app.example.com:8443/cb").as_deref(), Some("https://app.example.com:8443"));
        assert_eq!(origin("com.example.app:/cb"), None);
    }
}
