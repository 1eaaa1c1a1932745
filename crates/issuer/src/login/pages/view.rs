//! What templates are given of clients, people and instants.

use std::net::IpAddr;

use fluent_bundle::FluentArgs;
use keywheel_jose::Timestamp;
use minijinja::{Value, context};
use url::{Host, Url};

use crate::clients::Client;
use crate::login::visit::Visit;
use crate::oidc::authorize::Interaction;
use crate::users::User;

/// An app.
pub(super) fn client(client: &Client) -> Value {
    let about = &client.about;
    let text = |uri: &Option<crate::clients::WebUri>| uri.as_ref().map(ToString::to_string);
    context! {
        id => client.id.as_str(),
        name => name(client),
        initial => initial(name(client)),
        logo => text(&about.logo_uri),
        home => text(&about.client_uri),
        policy => text(&about.policy_uri),
        terms => text(&about.tos_uri),
    }
}

/// What people call it.
pub(super) fn name(client: &Client) -> &str {
    client.name.as_deref().unwrap_or(&client.id)
}

/// Where the logo of an app is loaded from.
pub(super) fn logo_origin(client: &Client) -> Option<String> {
    client.about.logo_uri.as_ref().map(|uri| source(&Url::parse(uri.as_str()).expect("it was read as a URL")))
}

/// Where a form may lead that goes on to an app: to where the app is answered, and to where that may send people on, its
/// home page and origins.
pub(super) fn form_targets(waiting: &Interaction) -> Vec<String> {
    let client = &waiting.client;
    let origins = client.allowed_origins.iter().map(|origin| origin.as_str());
    let home = client.about.client_uri.iter().map(|uri| uri.as_str());
    let all = [waiting.redirect_uri.as_str()].into_iter().chain(origins).chain(home);
    let mut targets: Vec<String> = all.filter_map(form_target).collect();
    targets.sort();
    targets.dedup();
    targets
}

/// Where a form may lead that goes on to this address.
pub(super) fn form_target(uri: &str) -> Option<String> {
    Url::parse(uri).ok().map(|uri| source(&uri))
}

/// Somebody.
pub(super) fn person(user: &User) -> Value {
    let full = user.claims.get("name").and_then(|it| it.as_str()).filter(|it| !it.trim().is_empty());
    let shown = full.unwrap_or(&user.username);
    context! {
        username => user.username.as_str(),
        name => shown,
        email => user.email.as_deref(),
        email_verified => user.email_verified,
        initial => initial(shown),
    }
}

/// A scope: what is said of it is the message `scope-…`, if there is one, or what the operator says of it.
pub(super) fn scope(visit: &Visit, name: &str) -> Value {
    let config = &visit.app.config;
    let description = config.scopes.description(name, visit.language().tag, &config.pages.language);
    context! { name, description, known => visit.app.login.messages.has(&format!("scope-{name}")) }
}

/// An instant, for machines and for people: how long ago it was, or the date.
pub(super) fn instant(visit: &Visit, at: Timestamp) -> Value {
    let ago = visit.app.clock.now().duration_since(at).as_secs();
    let text = match ago {
        0..=89 => message(visit, "moment-now", &[]),
        90..=5399 => message(visit, "moment-minutes", &[("count", number((ago + 30) / 60))]),
        5400..=86_399 => message(visit, "moment-hours", &[("count", number((ago + 1800) / 3600))]),
        _ => date_text(visit, at),
    };
    context! { machine => at.to_string(), text }
}

/// A day, for machines and for people.
pub(super) fn date(visit: &Visit, at: Timestamp) -> Value {
    context! { machine => at.to_string(), text => date_text(visit, at) }
}

/// A message that is put together here rather than in a template.
pub(super) fn message(visit: &Visit, key: &str, arguments: &[(&'static str, i64)]) -> String {
    let mut values = FluentArgs::new();
    for (name, value) in arguments {
        values.set(*name, *value);
    }
    visit.app.login.messages.text(visit.language(), key, &values).unwrap_or_default()
}

/// An address as people are shown it.
pub(super) fn address(text: &str) -> Option<String> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical().to_string())
}

fn date_text(visit: &Visit, at: Timestamp) -> String {
    // RFC 3339: 2026-11-22T07:00:00Z
    let text = at.to_string();
    let mut parts = text.get(..10).unwrap_or_default().split('-').map(|part| part.parse::<i64>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let (year, month, day) = (next(), next(), next());
    // A year is no number with thousands.
    let mut values = FluentArgs::new();
    values.set("year", year.to_string());
    values.set("month", month);
    values.set("day", day.to_string());
    visit.app.login.messages.text(visit.language(), "moment-date", &values).unwrap_or_default()
}

/// A source of a content security policy (CSP Level 3 §2.3.1): an origin, or a scheme where there is none that it could
/// write. It has no way to write an IPv6 address.
fn source(uri: &Url) -> String {
    let scheme = uri.scheme();
    match uri.host() {
        Some(Host::Ipv6(_)) => format!("{scheme}:"),
        Some(Host::Ipv4(address)) if address.is_loopback() => format!("{scheme}://{address}:*"),
        Some(Host::Domain("localhost")) => format!("{scheme}://localhost:*"),
        Some(_) if uri.origin().is_tuple() => uri.origin().ascii_serialization(),
        _ => format!("{scheme}:"),
    }
}

/// For where there is no picture.
pub(super) fn initial(name: &str) -> String {
    name.chars().find(|it| it.is_alphanumeric()).map(|it| it.to_uppercase().collect()).unwrap_or_default()
}

fn number(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_may_lead_to_where_the_app_is() {
        for (uri, target) in [
            ("https://shop.example/cb?x", "https://shop.example"),
            ("https://shop.example:8443/cb", "https://shop.example:8443"),
            ("http://127.0.0.1:3000/cb", "http://127.0.0.1:*"),
            ("http://localhost/cb", "http://localhost:*"),
            ("http://[::1]:3000/cb", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
            ("com.example.app://host/cb", "com.example.app:"),
        ] {
            assert_eq!(form_target(uri).as_deref(), Some(target), "{uri}");
        }
    }

    #[test]
    fn a_name_without_letters_has_no_initial() {
        assert_eq!(initial("“Shop”"), "S");
        assert_eq!(initial("straße"), "S");
        assert_eq!(initial("***"), "");
    }
}
