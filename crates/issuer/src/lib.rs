//! Keywheel: an identity provider whose signing keys turn without anyone noticing.
//!
//! The program is `keywheel` (`main.rs`). The library exists so that it can be tested whole:
//! [`app::App::open`] makes an issuer from a configuration and the [`edges`] (clock and randomness) it is given, and
//! [`http::router`] answers requests without a socket.
//!
//! - [`config`]: what can be configured, checked as a whole before anything starts
//! - [`storage`]: signing keys, clients, users and their sign-ins, in SQLite or PostgreSQL
//! - [`users`]: the people who sign in
//! - [`keys`]: sign, publish, rotate
//! - `oidc`: the OAuth endpoints
//! - `api`: sign-in for first-party pages and apps
//! - [`http`]: the route table and the accept loop
//! - [`notify`]: what systemd is told
//! - [`admin`]: what an operator can do
//! - [`cli`]: the command line, one of the faces of [`admin`]

pub mod admin;
mod api;
pub mod app;
pub mod cli;
pub mod clients;
pub mod config;
pub mod edges;
mod hooks;
mod housekeeping;
pub mod http;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod notify;
mod oidc;
mod outgoing;
pub mod registry;
pub mod scopes;
pub mod shutdown;
pub mod storage;
mod telemetry;
#[cfg(test)]
mod testing;
mod tls;
pub mod users;

/// An error with all its causes, for a log line or a terminal.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
