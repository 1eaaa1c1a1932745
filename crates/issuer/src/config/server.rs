//! `[server]` and `[storage]`: where the issuer listens, what it accepts from strangers, and where it keeps its rows.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::secret::Secret;
use super::section::Section;
use super::tls::{AcmeSettings, TlsFiles, read_hsts};
use crate::http::client_address::Network;

/// `[server]`: the listeners and the limits of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address and port of the public listener. Default 127.0.0.1:8080; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address and port of `/metrics`, `/healthz` and `/readyz`, or `None` for no such listener. Default 127.0.0.1:9090.
    pub metrics_listen: Option<SocketAddr>,
    /// The proxies whose `Forwarded` and `X-Forwarded-For` count. Default none.
    pub trusted_proxies: Vec<Network>,
    /// The certificate with which the public listener speaks TLS. Default none: it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How the certificate is ordered with which it speaks TLS; not together with `tls`. Default none.
    pub acme: Option<AcmeSettings>,
    /// How long browsers are told to insist on https, 0s (they forget it) to 730d, or `None` for not telling them.
    /// Default 365d. Only in answers that came by https, and never for an issuer on loopback.
    pub hsts: Option<Duration>,
    /// How long a client may take to send the header of a request, 1s to 5m. Default 10s; then it is cut off.
    pub header_timeout: Duration,
    /// How long a client may take to send the body of a request, 1s to 5m. Default 10s; then it is cut off.
    pub body_timeout: Duration,
    /// How long a server that is told to stop goes on while `/readyz` says so and answers close their connections, so that a
    /// balancer sends requests elsewhere, 0s to 5m. Default 0s.
    pub shutdown_delay: Duration,
    /// How long a stopping server waits for requests that have begun, 1s to 5m. Default 10s; then it cuts them off.
    pub drain_timeout: Duration,
    /// How many connections may be open at once, 1 to 65536. Default 4096; more wait to be accepted.
    pub max_connections: usize,
    /// How many bytes the body of a request may have, 1024 to 1048576. Default 65536; more is answered with 413.
    pub max_body_bytes: usize,
}

/// `[storage]`: where the rows are.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// The database. Default `sqlite://keywheel-data/keywheel.db`.
    pub database: Database,
}

/// A database, as `storage.url` (or the file `storage.url_file`) names it.
#[derive(Debug, Clone)]
pub enum Database {
    /// Embedded, for one server.
    Sqlite {
        /// The address as configured.
        url: String,
        /// The file that it names; relative to the working directory unless it starts with a slash.
        path: PathBuf,
    },
    /// For several servers.
    Postgres {
        /// The address, which may hold a password.
        url: Secret,
        /// How many connections a server may have for its queries, 1 to 100; one more listens. Default 10.
        max_connections: u32,
    },
}

/// Without the password.
impl Display for Database {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { url, .. } => formatter.write_str(url),
            Self::Postgres { url, .. } => match Url::parse(url.expose()) {
                Ok(mut url) => {
                    // Parameters can hold a password as well.
                    url.set_query(None);
                    let _ = url.set_password(None);
                    write!(formatter, "{url}")
                }
                Err(_) => formatter.write_str("postgres://…"),
            },
        }
    }
}

impl Database {
    /// The file of an embedded database.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path, .. } => Some(path),
            Self::Postgres { .. } => None,
        }
    }
}

impl ServerSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let listen = section.parsed("listen", parse_address).unwrap_or(DEFAULT_LISTEN);
        let metrics_listen = section
            .parsed("metrics_listen", |text| if text.is_empty() { Ok(None) } else { parse_address(text).map(Some) })
            .unwrap_or(Some(DEFAULT_METRICS_LISTEN));
        if metrics_listen == Some(listen) && listen.port() != 0 {
            section.problem("metrics_listen", format!("{listen} is taken by server.listen"));
        }
        section.one_of(&["tls", "acme"]);
        let [has_tls, has_acme] = ["tls", "acme"].map(|key| section.has(key));
        ServerSettings {
            listen,
            metrics_listen,
            trusted_proxies: section.list("trusted_proxies", Network::parse).unwrap_or_default(),
            tls: section.table("tls", |section| TlsFiles::read(section, has_tls)),
            acme: section.table("acme", |section| AcmeSettings::read(section, has_acme)),
            hsts: read_hsts(section),
            header_timeout: section.duration("header_timeout", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
            body_timeout: section.duration("body_timeout", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
            shutdown_delay: section.duration("shutdown_delay", SHUTDOWN_DELAYS).unwrap_or(Duration::ZERO),
            drain_timeout: section.duration("drain_timeout", TIMEOUTS).unwrap_or(DEFAULT_TIMEOUT),
            max_connections: section.integer("max_connections", 1..=65_536).unwrap_or(4096) as usize,
            max_body_bytes: section.integer("max_body_bytes", 1024..=1_048_576).unwrap_or(65_536) as usize,
        }
    }
}

impl ServerSettings {
    /// Does the public listener speak TLS?
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.tls.is_some() || self.acme.is_some()
    }
}

impl StorageSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.one_of(&["url", "url_file"]);
        let key = if section.was_set("url_file") { "url_file" } else { "url" };
        let url = section.secret("url", "url_file");
        let database = match url.as_ref().map(|url| Database::parse(url.expose())) {
            Some(Err(why)) => {
                section.problem(key, why);
                None
            }
            Some(Ok(database)) => Some(database),
            None => None,
        };
        let default = || Database::parse(DEFAULT_STORAGE).expect("the default is an embedded database");
        let mut database = database.unwrap_or_else(default);
        if let Some(wanted) = section.integer("max_connections", 1..=100) {
            match &mut database {
                Database::Postgres { max_connections, .. } => *max_connections = wanted,
                Database::Sqlite { .. } => {
                    section.hint("max_connections", "has no effect with SQLite, which has one writer");
                }
            }
        }
        Self { database }
    }
}

impl Database {
    /// Reads the address of a database.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
        match scheme {
            "sqlite" => {}
            "postgres" | "postgresql" => {
                let named = Url::parse(url).ok().filter(|url| rest.starts_with("//") && url.path().len() > 1);
                named.ok_or("expected postgres://USER@HOST/DATABASE")?;
                let url = Secret::new(url.to_owned());
                return Ok(Self::Postgres { url, max_connections: DEFAULT_DATABASE_CONNECTIONS });
            }
            _ => return Err(format!("expected sqlite:// and a path, such as {DEFAULT_STORAGE}, or postgres://…")),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.starts_with(":memory:") {
            return Err("a database in memory would forget its keys: name a file".to_owned());
        }
        if path.is_empty() || path.ends_with('/') {
            return Err("the path names no file".to_owned());
        }
        if path.contains(['?', '%']) {
            return Err("the path of a database has no parameters and no percent signs".to_owned());
        }
        Ok(Self::Sqlite { url: url.to_owned(), path: Path::new(path).to_owned() })
    }
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected an IP address and a port, such as {DEFAULT_LISTEN}, found {text:?}"))
}

/// Loopback, because a server that nobody configured should be met by nobody else.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

const DEFAULT_STORAGE: &str = "sqlite://keywheel-data/keywheel.db";
/// Enough that sign-ins and refreshes seldom wait for each other, and several servers fit into the hundred connections that
/// PostgreSQL allows by default.
const DEFAULT_DATABASE_CONNECTIONS: u32 = 10;

/// Long for a token request on a bad line, short for one that only means to hold a connection.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
const SHUTDOWN_DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_file() {
        for (url, path) in [
            ("sqlite://keywheel-data/keywheel.db", "keywheel-data/keywheel.db"),
            ("sqlite:///var/lib/keywheel.db", "/var/lib/keywheel.db"),
            ("sqlite:k.db", "k.db"),
        ] {
            assert_eq!(Database::parse(url).expect(url).path(), Some(Path::new(path)));
        }
    }

    #[test]
    fn the_password_of_a_database_is_never_shown() {
        let url = "postgres://keywheel:hunter2@db.example.com:5433/keywheel?password=hunter2";

        let database = Database::parse(url).expect(url);

        assert_eq!(database.to_string(), "postgres://keywheel@db.example.com:5433/keywheel");
        assert!(!format!("{database:?}").contains("hunter2"));
        assert_eq!(database.path(), None);
    }

    #[test]
    fn a_database_of_another_kind_is_refused() {
        for (url, why) in [
            ("postgres://", "expected postgres://"),
            ("postgres://db", "expected postgres://"),
            ("postgresql:db/keywheel", "expected postgres://"),
            ("sqlite::memory:", "forget its keys"),
            ("sqlite://", "names no file"),
            ("sqlite://data/", "names no file"),
            ("sqlite://k.db?mode=ro", "no parameters"),
            ("keywheel.db", "expected sqlite://"),
            ("mysql://db", "expected sqlite://"),
        ] {
            let refusal = Database::parse(url).expect_err(url);

            assert!(refusal.contains(why), "{url}: {refusal}");
        }
    }
}
