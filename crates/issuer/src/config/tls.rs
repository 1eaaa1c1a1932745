//! `server.tls`, `[server.acme]` and `server.hsts`: whether the public listener speaks TLS, and with which certificate.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::IssuerUrl;
use super::section::Section;
use super::server::parse_address;

/// `server.tls`: a certificate that somebody else renews, read again whenever the files change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate in PEM, and after it those that lead to the root.
    pub cert: PathBuf,
    /// Its private key in PEM, not encrypted.
    pub key: PathBuf,
}

/// `[server.acme]`: a certificate that the server orders and renews itself (RFC 8555), and keeps in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The names it is for. Default the issuer's host.
    pub domains: Vec<String>,
    /// Addresses (`mailto:`) at which the authority can reach somebody. Default none.
    pub contact: Vec<String>,
    /// Where the authority's directory is. Default Let's Encrypt's.
    pub directory_url: String,
    /// The authorities by which that address is recognised, in PEM. Default those of the system.
    pub ca_file: Option<PathBuf>,
    /// How the authority sees that the names lead here. Default `tls-alpn-01`.
    pub challenge: ChallengeKind,
    /// Address and port of a listener in the clear, for `http-01` and to send people on to https. Default none.
    pub http_listen: Option<SocketAddr>,
}

/// How a certificate authority sees that a name leads to this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a TLS handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a request in the clear on port 80 (RFC 8555 §8.3).
    Http01,
}

impl ChallengeKind {
    /// As the protocol and the configuration call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

impl TlsFiles {
    /// `None` where there is no such table, or a problem was reported.
    pub(super) fn read(section: &mut Section<'_>, is_present: bool) -> Option<Self> {
        let [cert, key] = ["cert", "key"].map(|key| section.text(key).map(PathBuf::from));
        match (cert, key) {
            (Some(cert), Some(key)) => Some(Self { cert, key }),
            (None, None) if !is_present => None,
            (cert, key) => {
                for (name, path) in [("cert", cert), ("key", key)] {
                    if path.is_none() && !section.was_set(name) {
                        section.problem(name, "missing: the path of a file in PEM".to_owned());
                    }
                }
                None
            }
        }
    }
}

impl AcmeSettings {
    /// `None` where there is no such table, or a problem was reported.
    pub(super) fn read(section: &mut Section<'_>, is_present: bool) -> Option<Self> {
        let problems_before = section.problem_count();
        let domains = section.list("domains", parse_domain).unwrap_or_default();
        let contact = section.list("contact", parse_contact).unwrap_or_default();
        let directory_url = section.parsed("directory_url", parse_directory);
        let agreed = section.boolean("agree_tos");
        let ca_file = section.text("ca_file").map(PathBuf::from);
        let challenge = section.parsed("challenge", parse_challenge).unwrap_or(ChallengeKind::TlsAlpn01);
        let http_listen = section.parsed("http_listen", parse_address);
        if !is_present {
            return None;
        }
        if agreed != Some(true) {
            section.problem(
                "agree_tos",
                "set it to true when you have read and accept the terms of the certificate authority".to_owned(),
            );
        }
        if challenge == ChallengeKind::Http01 && http_listen.is_none() && !section.was_set("http_listen") {
            section.problem("http_listen", "missing: http-01 is asked on port 80, such as \"0.0.0.0:80\"".to_owned());
        }
        let directory_url = directory_url.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        let settings = Self { domains, contact, directory_url, ca_file, challenge, http_listen };
        (section.problem_count() == problems_before).then_some(settings)
    }

    /// Names the issuer's host where no domain is named, and says when that can't be.
    pub(super) fn settle(&mut self, issuer: &IssuerUrl) -> Result<(), String> {
        if self.domains.is_empty() {
            let host = issuer.host();
            let domain = parse_domain(&host).map_err(|_| {
                format!("{host} is no name that a certificate authority can check; set server.acme.domains")
            })?;
            self.domains.push(domain);
        }
        // So that every replica means the same certificate, however it lists them.
        self.domains.sort_unstable();
        Ok(())
    }
}

/// `server.hsts`: how long browsers are to insist on https; `None` says nothing to them.
pub(super) fn read_hsts(section: &mut Section<'_>) -> Option<Duration> {
    if section.is_empty_text("hsts") {
        return None;
    }
    Some(section.duration("hsts", HSTS).unwrap_or(DEFAULT_HSTS))
}

fn parse_domain(text: &str) -> Result<String, String> {
    if text.starts_with("*.") {
        return Err(format!("{text:?}: a name with an asterisk cannot be had by either challenge"));
    }
    match Host::parse(text) {
        Ok(Host::Domain(name)) if name == text && !name.ends_with('.') && name.len() <= 253 => Ok(name),
        Ok(Host::Domain(name)) if name != text => Err(format!("{text:?}: write it as {name:?}")),
        _ => Err(format!("expected the name of a host, found {text:?}")),
    }
}

fn parse_contact(text: &str) -> Result<String, String> {
    let is_address = text.strip_prefix("mailto:").is_some_and(|address| address.contains('@'));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let expected = || format!("expected an address such as \"mailto:admin@example.com\", found {text:?}");
    (is_address && is_plain).then(|| text.to_owned()).ok_or_else(expected)
}

fn parse_directory(text: &str) -> Result<String, String> {
    let is_https = Url::parse(text).is_ok_and(|url| url.scheme() == "https");
    is_https.then(|| text.to_owned()).ok_or_else(|| format!("expected an https URL, found {text:?}"))
}

fn parse_challenge(text: &str) -> Result<ChallengeKind, String> {
    let known = [ChallengeKind::TlsAlpn01, ChallengeKind::Http01];
    let found = known.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| format!("expected \"tls-alpn-01\" or \"http-01\", found {text:?}"))
}

/// <https://letsencrypt.org/docs/acme-protocol-updates/>
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A year, which is what browsers ask of those who want to be in their built-in lists.
const DEFAULT_HSTS: Duration = Duration::from_secs(365 * 86_400);
const HSTS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(2 * 365 * 86_400);
