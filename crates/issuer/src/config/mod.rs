//! The configuration: a TOML file, overlaid by environment variables, read into types that prove it is safe.
//!
//! 1. The file is `--config`, else `KEYWHEEL_CONFIG`, else `keywheel.toml` in the working directory if there is one.
//! 2. `KEYWHEEL_KEYS__ROTATE_EVERY=30d` overrides `rotate_every` in `[keys]`; a list is comma-separated or TOML
//!    (`["ES256"]`), and a number picks an entry of a list (`KEYWHEEL_CLIENT__0__SECRET_FILE=…`).
//! 3. Everything that is wrong is told at once, with file, line and column, or with the variable.
//!
//! Relative paths mean the working directory, not the directory of the file. This is the only module that reads the
//! environment.

mod client;
mod issuer_url;
mod keys;
mod limits;
mod pages;
mod problem;
mod scope;
mod secret;
mod section;
mod server;
mod telemetry;
mod tls;
mod tree;
mod user;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use issuer_url::{InvalidIssuer, IssuerUrl};
pub use keys::{KeySettings, TokenSettings};
pub use limits::{HookSettings, LimitSettings, OutgoingSettings};
pub use pages::{Colour, PageSettings};
pub(crate) use problem::nearest;
pub use problem::{ConfigErrors, Place, Problem};
pub use secret::Secret;
pub use server::{Database, ServerSettings, StorageSettings};
pub use telemetry::{LogFormat, LogSettings, TelemetrySettings};
pub use tls::{AcmeSettings, ChallengeKind, TlsFiles};
pub use user::{DeclaredPassword, DeclaredUser};

use crate::clients::Client;
use crate::scopes::Scopes;
use keys::Checked;
use problem::Report;
use section::Section;
use tree::Table;

/// Everything that can be configured, and is safe.
#[derive(Debug, Clone)]
pub struct Config {
    /// The issuer's URL, exactly as in `iss`. Default `http://localhost:` and the port of `server.listen`.
    pub issuer: IssuerUrl,
    /// `[server]`
    pub server: ServerSettings,
    /// `[storage]`
    pub storage: StorageSettings,
    /// `[keys]`
    pub keys: KeySettings,
    /// `[tokens]`
    pub tokens: TokenSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[outgoing]`
    pub outgoing: OutgoingSettings,
    /// `[hooks]`; default none.
    pub hooks: Option<HookSettings>,
    /// `[pages]`
    pub pages: PageSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[telemetry]`
    pub telemetry: TelemetrySettings,
    /// The declared clients, each id once. Default none.
    pub clients: Vec<Client>,
    /// The declared scopes, each name once. Default none.
    pub scopes: Scopes,
    /// The declared people, each name once. Default none.
    pub users: Vec<DeclaredUser>,
}

/// A configuration, and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Where it was read from.
    pub origin: Origin,
    /// What its owner should know, such as settings that have no effect in this version.
    pub warnings: Vec<Problem>,
}

/// Where a configuration was read from, the environment aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was no file.
    Defaults,
    /// This file.
    File(PathBuf),
}

impl Config {
    /// Reads the configuration from `path`, or from where the module's documentation says, and from variables such as
    /// [`environment`] gives.
    ///
    /// # Errors
    /// Everything that is wrong with it. A file that was named and cannot be read is told alone.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        Config::load_in(Path::new(""), path, environment)
    }

    /// A configuration file that says nothing but the defaults, and explains each setting.
    #[must_use]
    pub fn template() -> String {
        include_str!("template.toml").to_owned()
    }

    /// As [`Config::load`], with another directory to find `keywheel.toml` in.
    fn load_in(
        directory: &Path,
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let variables: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with(tree::PREFIX)).collect();
        let origin = find(directory, path, &variables);
        let mut report = Report::default();
        let table = match &origin {
            Origin::Defaults => Some(Table::new()),
            Origin::File(path) => tree::parse(&Arc::from(path.as_path()), &read_file(path)?, &mut report),
        };
        // A file with a syntax error is half a file: what it seems not to say would only mislead.
        let is_readable = table.is_some();
        let mut table = table.unwrap_or_default();
        tree::overlay(&mut table, variables.into_iter(), &mut report);
        let config = is_readable.then(|| section::read_root(&mut report, table, read_config)).flatten();
        let warnings = report.finish()?;
        let config = config.expect("a configuration without problems is complete");
        Ok(Loaded { config, origin, warnings })
    }
}

/// The variables of this process that are UTF-8. No setting of ours has a name that is not.
///
/// What is not UTF-8 in a value becomes U+FFFD, which no setting that matters accepts.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// What to log, from `KEYWHEEL_LOG`, such as `info` or `keywheel=debug`: for one run, whatever `log.level` says.
#[must_use]
pub fn log_filter() -> Option<String> {
    environment().find_map(|(name, value)| (name == LOG_VARIABLE && !value.is_empty()).then_some(value))
}

/// The file to read. One that was named must be there; `keywheel.toml` may be.
fn find(directory: &Path, path: Option<&Path>, variables: &[(String, String)]) -> Origin {
    let by_variable = variables.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
    let named = path.or(by_variable.map(|(_, value)| Path::new(value)));
    let found = directory.join(DEFAULT_FILE);
    match named {
        Some(path) => Origin::File(path.to_owned()),
        None if found.exists() => Origin::File(found),
        None => Origin::Defaults,
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, ConfigErrors> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        let place = Place::File { path: Arc::from(path), position: None };
        ConfigErrors::one(Problem::new(place, format!("cannot read the configuration: {error}")))
    })
}

/// Reads everything, whatever is wrong with parts of it; `None` only when a problem was reported.
fn read_config(root: &mut Section<'_>) -> Option<Config> {
    let issuer = root.parsed("issuer", IssuerUrl::parse);
    let mut server = root.table("server", ServerSettings::read);
    let storage = root.table("storage", StorageSettings::read);
    let (tokens, longest) = root.table("tokens", TokenSettings::read);
    let checked = insecure_test_unsafe_policy(root, issuer.as_ref());
    let (algorithms, keys) = root.table("keys", |section| KeySettings::read(section, &longest, checked));
    let longest_signed = tokens.longest_signed();
    let clients = root.tables("client", |section| {
        let client = client::read_client(section, &client::Issuer { algorithms: &algorithms, longest_signed });
        (section.place_of("id"), client)
    });
    let scopes = root.tables("scope", |section| (section.place_of("name"), scope::read_scope(section)));
    let users = root.tables("user", |section| (section.place_of("username"), user::read_user(section)));
    let limits = root.table("limits", LimitSettings::read);
    let outgoing = root.table("outgoing", OutgoingSettings::read);
    let hooks = root.table("hooks", HookSettings::read);
    let pages = root.table("pages", PageSettings::read);
    let log = root.table("log", LogSettings::read);
    let telemetry = root.table("telemetry", TelemetrySettings::read);
    refuse_repeated(root, "client", "id", &clients, |client| Some(client.id.clone()));
    refuse_repeated(root, "scope", "name", &scopes, |scope| Some(scope.name.clone()));
    // Names and addresses are compared without regard to case when somebody signs in.
    refuse_repeated(root, "user", "username", &users, |user| Some(user.username.to_lowercase()));
    refuse_repeated(root, "user", "email", &users, |user| user.email.as_ref().map(|email| email.to_lowercase()));
    let issuer = issuer.or_else(|| default_issuer(root, &server));
    if let Some(issuer) = &issuer {
        check_tls(root, &mut server, issuer);
    }
    let clients = clients.into_iter().filter_map(|(_, client)| client).collect();
    let scopes = Scopes::new(scopes.into_iter().filter_map(|(_, scope)| scope).collect());
    for user in users.iter().filter_map(|(_, user)| user.as_ref()) {
        for scope in user.rights.scopes.iter().filter(|scope| !scopes.restrict(std::slice::from_ref(*scope))) {
            let message = format!("user {} has {scope}, to no effect: no [[scope]] of it has roles", user.username);
            root.warning("user", message);
        }
    }
    let users = users.into_iter().filter_map(|(_, user)| user).collect();
    Some(Config {
        issuer: issuer?,
        server,
        storage,
        keys: keys?,
        tokens,
        limits,
        outgoing,
        hooks,
        pages,
        log,
        telemetry,
        clients,
        scopes,
        users,
    })
}

/// `insecure_test_unsafe_policy`, by which the project's own tests show that an unsafe rotation does break tokens: its
/// durations are then not held against each other. Only debug builds know it, and only for an issuer that nobody else
/// can reach.
#[cfg(debug_assertions)]
fn insecure_test_unsafe_policy(root: &mut Section<'_>, issuer: Option<&IssuerUrl>) -> Checked {
    const KEY: &str = "insecure_test_unsafe_policy";
    let wanted = root.boolean(KEY) == Some(true);
    if wanted && !issuer.is_some_and(IssuerUrl::is_loopback) {
        root.problem(KEY, "only for the project's own tests, with an issuer on loopback".to_owned());
    } else if wanted {
        root.warning(KEY, "the rotation was not found safe: tokens WILL be refused".to_owned());
    }
    if wanted { Checked::Alone } else { Checked::Together }
}

#[cfg(not(debug_assertions))]
fn insecure_test_unsafe_policy(_: &mut Section<'_>, _: Option<&IssuerUrl>) -> Checked {
    Checked::Together
}

fn refuse_repeated<T>(
    root: &mut Section<'_>,
    list: &'static str,
    key: &str,
    items: &[(Place, Option<T>)],
    name: impl Fn(&T) -> Option<String>,
) {
    let mut seen = BTreeSet::new();
    for (place, item) in items {
        let Some(name) = item.as_ref().and_then(&name) else { continue };
        if seen.contains(&name) {
            root.problem_at(place.clone(), list, format!("{name:?} is the {key} of another {list}"));
        }
        seen.insert(name);
    }
}

/// The issuer that nobody named. It follows the port, so that a second server on one machine needs one setting only.
fn default_issuer(root: &mut Section<'_>, server: &ServerSettings) -> Option<IssuerUrl> {
    let listen = server.listen;
    if root.was_set("issuer") {
        return None;
    }
    if listen.port() == 0 {
        root.problem("issuer", "must be set when server.listen takes any free port".to_owned());
        return None;
    }
    let issuer = IssuerUrl::localhost(listen.port(), server.has_tls());
    if !listen.ip().is_loopback() {
        let message =
            format!("issuer is not set: tokens will say {issuer}, which other machines cannot reach at {listen}");
        root.warning("issuer", message);
    }
    Some(issuer)
}

/// What TLS and the issuer have to agree on.
fn check_tls(root: &mut Section<'_>, server: &mut ServerSettings, issuer: &IssuerUrl) {
    if server.has_tls() && !issuer.is_https() {
        root.problem("issuer", format!("{issuer} must be https, because the server is to speak TLS"));
    }
    if let Some(Err(why)) = server.acme.as_mut().map(|acme| acme.settle(issuer)) {
        root.problem("issuer", why);
    }
}

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "keywheel.toml";

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "KEYWHEEL_CONFIG";

/// The variable that says what to log.
pub const LOG_VARIABLE: &str = "KEYWHEEL_LOG";

#[cfg(test)]
mod tests;
