//! The pages on which people sign in, agree, and see what is theirs; and the browser sessions behind them.
//!
//! 1. A request becomes a `Visit`: whose session it is, from which address, in which language.
//! 2. One that changes something is a form with a token that only its page had (`csrf`), from our own origin.
//! 3. What it says goes to `sign_in` or to the store.
//! 4. The answer is a page of `render`, or a redirect to a `Continue`: one of our own
//!    addresses, never another's.
//!
//! Everything works without scripts, and no page has one.

pub(crate) mod continuation;
pub(crate) mod csrf;
mod device;
mod known_device;
mod messages;
pub(crate) mod pages;
mod render;
pub(crate) mod session;
pub(crate) mod sign_in;
#[cfg(test)]
mod tests;
mod theme;
mod throttle;
pub(crate) mod visit;

use std::path::PathBuf;

use tracing::warn;

use crate::config::Config;
use messages::Messages;
use render::Templates;
use theme::Theme;
use throttle::Addresses;

/// What the pages are made of, read once.
pub(crate) struct Login {
    messages: Messages,
    templates: Templates,
    theme: Theme,
    addresses: Addresses,
}

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// A file of the operator's.
    #[error("cannot read {path}, which [pages] names")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A template of the operator's.
    #[error("the template {name} in pages.templates is not well-formed: {reason}")]
    Template {
        /// Which.
        name: String,
        /// Where, and why.
        reason: String,
    },
}

impl Login {
    /// Reads logo and templates.
    ///
    /// # Errors
    /// [`PagesError`]
    pub(crate) fn open(config: &Config) -> Result<Self, PagesError> {
        let issuer = &config.issuer;
        if !session::is_secure(issuer) {
            warn!("the issuer is plain http: the cookies of people who sign in are sent without Secure");
        }
        let theme = Theme::read(&config.pages, issuer.path())?;
        let messages = Messages::new(&config.pages.language);
        let templates = Templates::read(config.pages.templates.as_deref(), messages.clone())?;
        Ok(Self { messages, templates, theme, addresses: Addresses::new(&config.limits) })
    }
}

/// The languages that the pages are written in, as tags (RFC 5646).
pub(crate) fn languages() -> impl Iterator<Item = &'static str> {
    Messages::languages().map(|language| language.tag)
}
