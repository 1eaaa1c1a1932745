//! `[log]` and `[telemetry]`: what the server tells of itself, and to whom.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use url::{Host, Url};

use super::secret::Secret;
use super::section::Section;

/// `[log]`: the lines on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line is written: `text` for people, `json` for machines. Default text.
    pub format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), and levels of modules, such as
    /// `info,keywheel::oidc=debug`. Default info.
    pub level: String,
    /// Whether there is a line for each request: method, route, status, duration, client. Default false.
    pub requests: bool,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    Text,
    /// An object a line.
    Json,
}

/// `[telemetry]`: traces, for a collector of OpenTelemetry.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// The collector, which takes OTLP over HTTP at `/v1/traces` below this address. Default none: nothing is traced.
    pub otlp_endpoint: Option<Url>,
    /// Headers of the requests to the collector, such as an API key; from a file with lines `Name: value`. Default none.
    pub otlp_headers: Vec<(HeaderName, HeaderValue)>,
    /// How many of all requests are traced, 0 to 1. Default 1.
    pub sample_ratio: f64,
    /// What this server is called in traces, 1 to 128 characters. Default keywheel.
    pub service_name: String,
}

impl LogSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let format = section.parsed("format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("expected \"text\" or \"json\", found {other:?}")),
        });
        let level = section.parsed("level", |text| match is_level(text) {
            true => Ok(text.to_owned()),
            false => Err(format!("expected a level such as \"info\" or \"info,keywheel::oidc=debug\", found {text:?}")),
        });
        LogSettings {
            format: format.unwrap_or(LogFormat::Text),
            level: level.unwrap_or_else(|| DEFAULT_LEVEL.to_owned()),
            requests: section.boolean("requests").unwrap_or(false),
        }
    }
}

impl TelemetrySettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let otlp_endpoint = section.parsed("otlp_endpoint", parse_collector);
        let otlp_headers =
            section.parsed("otlp_headers_file", |path| parse_headers(&Secret::from_file(Path::new(path))?));
        if otlp_headers.is_some() && otlp_endpoint.as_ref().is_some_and(is_in_the_clear) {
            section.problem("otlp_headers_file", "would be sent in the clear: otlp_endpoint must be https".to_owned());
        }
        let service_name = section.parsed("service_name", |text| match text.chars().count() {
            1..=128 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
            _ => Err("expected 1 to 128 characters"),
        });
        TelemetrySettings {
            otlp_endpoint,
            otlp_headers: otlp_headers.unwrap_or_default(),
            sample_ratio: section.fraction("sample_ratio").unwrap_or(1.0),
            service_name: service_name.unwrap_or_else(|| "keywheel".to_owned()),
        }
    }
}

/// Levels, alone or after the name of a module. The library takes any other word for a module whose every line is wanted.
fn is_level(text: &str) -> bool {
    text.split(',').all(|part| {
        let (module, level) = part.rsplit_once('=').unwrap_or(("keywheel", part));
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        let named = !module.trim().is_empty() && module.trim().bytes().all(is_path);
        named && LEVELS.contains(&level.trim().to_ascii_lowercase().as_str())
    })
}

fn parse_collector(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        ["http", "https"].contains(&url.scheme()) && plain && url.query().is_none() && url.fragment().is_none()
    });
    url.ok_or_else(|| "expected an http or https address, such as http://127.0.0.1:4318".to_owned())
}

/// What is wrong is told without repeating it: a value may be a secret.
fn parse_headers(file: &Secret) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let lines = file.expose().lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let header = line.split_once(':').and_then(|(name, value)| {
                let mut value = HeaderValue::from_str(value.trim()).ok()?;
                value.set_sensitive(true);
                Some((name.trim().parse::<HeaderName>().ok()?, value))
            });
            header.ok_or_else(|| format!("line {} of the file is not `Name: value`", index + 1))
        })
        .collect()
}

fn is_in_the_clear(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !loopback
}

/// One line for what an operator should know, none for each request.
const DEFAULT_LEVEL: &str = "info";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
