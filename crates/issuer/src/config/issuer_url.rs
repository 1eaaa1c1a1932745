//! The issuer's own name: a URL that is compared as a string by everyone who verifies.

use std::fmt;

use url::{Host, Url};

/// The issuer identifier, exactly as it stands in `iss` (RFC 8414 §2, OpenID Connect Discovery 1.0 §3).
///
/// It is `https`, or `http` on a loopback host; it has no user, query or fragment, and is in normal form, so that no
/// other spelling of the same address exists. A path is allowed, and so is a slash at its end: both are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl {
    text: String,
    path: String,
    is_loopback: bool,
}

/// Why a text is no issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssuer {
    /// It is not a URL at all.
    #[error("{0:?} is not a URL: {1}")]
    NotAUrl(String, url::ParseError),
    /// It is neither `https` nor `http`, or has no host.
    #[error("{0:?} is not an https URL")]
    NotHttps(String),
    /// It is `http` on a host that is not this machine.
    #[error("{0:?} must be https: plain http is only for localhost, 127.0.0.0/8 and [::1]")]
    Insecure(String),
    /// It has a user, query or fragment.
    #[error("an issuer has no {0} (RFC 8414 §2)")]
    Extra(&'static str),
    /// Its path begins with two slashes: what is behind them would be taken for a host where the path stands alone.
    #[error("{0:?} has two slashes before its path")]
    TwoSlashes(String),
    /// It has another, simpler spelling.
    #[error("{found:?} is compared as a string by everyone who verifies: write it as {normal:?}")]
    NotNormal {
        /// As it was written.
        found: String,
        /// As it should be written.
        normal: String,
    },
}

impl IssuerUrl {
    /// Reads an issuer identifier.
    ///
    /// # Errors
    /// See [`InvalidIssuer`].
    pub fn parse(text: &str) -> Result<Self, InvalidIssuer> {
        let url = Url::parse(text).map_err(|error| InvalidIssuer::NotAUrl(text.to_owned(), error))?;
        let host = url.host().filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.ok_or_else(|| InvalidIssuer::NotHttps(text.to_owned()))?;
        let is_loopback = match host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if url.scheme() == "http" && !is_loopback {
            return Err(InvalidIssuer::Insecure(text.to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidIssuer::Extra("user name or password"));
        }
        if url.query().is_some() {
            return Err(InvalidIssuer::Extra("query"));
        }
        if url.fragment().is_some() {
            return Err(InvalidIssuer::Extra("fragment"));
        }
        if url.path().starts_with("//") {
            return Err(InvalidIssuer::TwoSlashes(text.to_owned()));
        }
        // The slash of an empty path is the one that may be left out.
        let normal = if text.ends_with('/') { url.as_str() } else { url.as_str().trim_end_matches('/') };
        if normal != text {
            return Err(InvalidIssuer::NotNormal { found: text.to_owned(), normal: normal.to_owned() });
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(IssuerUrl { text: text.to_owned(), path, is_loopback })
    }

    /// The issuer of a server on this machine that nobody gave a name.
    pub(super) fn localhost(port: u16, has_tls: bool) -> Self {
        let (scheme, usual) = if has_tls { ("https", 443) } else { ("http", 80) };
        let text = if port == usual { format!("{scheme}://localhost") } else { format!("{scheme}://localhost:{port}") };
        IssuerUrl { text, path: String::new(), is_loopback: true }
    }

    /// Exactly what stands in `iss`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path under which the issuer's endpoints are, without a slash at its end; empty for a bare host.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The absolute URL of an endpoint; `path` starts with a slash. Never doubles the slash between the two.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.text.trim_end_matches('/'))
    }

    /// The name or address of its host, as a URL has it.
    #[must_use]
    pub fn host(&self) -> String {
        let url = Url::parse(&self.text).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        Url::parse(&self.text).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// Is it reached by https?
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Is the issuer only reachable from this machine?
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_kept_exactly_as_written() {
        for (text, path, is_loopback) in [
            ("https://id.example.com", "", false),
            ("https://id.example.com/", "", false),
            ("https://id.example.com:8443/tenant", "/tenant", false),
            ("https://id.example.com/tenant/", "/tenant", false),
            ("http://localhost:8080", "", true),
            ("http://127.8.9.1", "", true),
            ("http://[::1]:8080/x", "/x", true),
            ("https://localhost", "", true),
        ] {
            let issuer = IssuerUrl::parse(text).expect(text);

            assert_eq!((issuer.as_str(), issuer.path(), issuer.is_loopback()), (text, path, is_loopback));
            let endpoint = issuer.endpoint("/oauth2/token");
            assert_eq!(endpoint, format!("{}/oauth2/token", text.trim_end_matches('/')));
        }
    }

    #[test]
    fn plain_http_is_refused_off_loopback() {
        for text in ["http://id.example.com", "http://10.0.0.1:8080", "http://localhost.example.com", "http://[::2]"] {
            assert_eq!(IssuerUrl::parse(text), Err(InvalidIssuer::Insecure(text.to_owned())));
        }
    }

    #[test]
    fn an_issuer_has_no_user_query_or_fragment() {
        for text in [
            "https://a@id.example.com",
            "https://:b@id.example.com",
            "https://id.example.com/?",
            "https://id.example.com/#",
        ] {
            assert!(matches!(IssuerUrl::parse(text), Err(InvalidIssuer::Extra(_))), "{text}");
        }
    }

    #[test]
    fn what_is_no_https_url_is_refused() {
        for text in ["", "id.example.com", "//id.example.com", "https://", "ftp://id.example.com", "urn:id", "id:8080"]
        {
            let refusal = IssuerUrl::parse(text).expect_err(text);
            assert!(matches!(refusal, InvalidIssuer::NotAUrl(..) | InvalidIssuer::NotHttps(_)), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_path_that_alone_would_name_a_host_is_refused() {
        for text in ["https://id.example.com//evil.example", "https://id.example.com//", "http://localhost:8080//a/b"] {
            assert_eq!(IssuerUrl::parse(text), Err(InvalidIssuer::TwoSlashes(text.to_owned())));
        }
        assert!(IssuerUrl::parse("https://id.example.com/a//b").is_ok());
    }

    #[test]
    fn a_second_spelling_of_an_address_is_refused_with_the_first() {
        for (found, normal) in [
            ("HTTPS://id.example.com", "https://id.example.com"),
            ("https://ID.example.com", "https://id.example.com"),
            ("https://id.example.com:443", "https://id.example.com"),
            ("https://id.example.com/a/../b", "https://id.example.com/b"),
            (" https://id.example.com", "https://id.example.com"),
            ("http://127.1:8080", "http://127.0.0.1:8080"),
        ] {
            let refusal = IssuerUrl::parse(found).expect_err(found);

            assert_eq!(refusal, InvalidIssuer::NotNormal { found: found.to_owned(), normal: normal.to_owned() });
        }
    }

    #[test]
    fn the_default_issuer_is_a_valid_one() {
        for (port, has_tls) in [(80, false), (8080, false), (443, true), (8080, true)] {
            let default = IssuerUrl::localhost(port, has_tls);

            assert_eq!(IssuerUrl::parse(default.as_str()), Ok(default));
        }
    }
}
