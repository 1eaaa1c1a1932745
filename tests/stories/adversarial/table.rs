//! What is sent and what has to come of it, as a table.

use std::fmt;

use keywheel_jose::{Policy, Timestamp};
use serde_json::Value;

use super::signer::{AUDIENCE, ISSUER, NOW, our_keys};

/// One token and its verdict.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Group, section and name: enough to find the line that made it.
    pub(super) name: String,
    /// As it is sent. It may not be text.
    pub(super) token: Vec<u8>,
    pub(super) verdict: Verdict,
    /// When it is judged, where the verdict hangs on the second; then only those are asked whose clock can be set.
    pub(super) at: Option<Timestamp>,
}

/// What has to come of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds.
    Accept,
    /// It does not, for the reason of this code.
    Refuse(&'static str),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Case {
    /// Whether an `Authorization` header can carry it as a token (RFC 9110 §11.2): letters, and `=` only behind them.
    pub(super) fn is_a_credential(&self) -> bool {
        let plain =
            self.token.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte)).count();
        plain > 0 && self.token[plain..].iter().all(|byte| *byte == b'=')
    }

    /// When to judge it, if it is all the same.
    pub(super) fn instant(&self) -> Timestamp {
        self.at.unwrap_or(Timestamp::from_unix(NOW))
    }
}

/// The cases of one group, written down section by section.
pub(super) struct Table {
    group: &'static str,
    section: &'static str,
    at: Option<Timestamp>,
    cases: Vec<Case>,
}

impl Table {
    pub(super) fn new(group: &'static str) -> Self {
        Self { group, section: "", at: None, cases: Vec::new() }
    }

    /// What the next cases are about: the sentence of which RFC.
    pub(super) fn section(&mut self, section: &'static str) {
        self.section = section;
        self.at = None;
    }

    /// The next cases of this section are judged at this instant, in seconds since 1970.
    pub(super) fn judged_at(&mut self, at: i64) {
        self.at = Some(Timestamp::from_unix(at));
    }

    pub(super) fn accept(&mut self, name: impl fmt::Display, token: impl Into<Vec<u8>>) {
        self.add(name, token, Verdict::Accept);
    }

    pub(super) fn refuse(&mut self, name: impl fmt::Display, token: impl Into<Vec<u8>>, code: &'static str) {
        self.add(name, token, Verdict::Refuse(code));
    }

    pub(super) fn add(&mut self, name: impl fmt::Display, token: impl Into<Vec<u8>>, verdict: Verdict) {
        let name = format!("{} > {} > {name}", self.group, self.section);
        assert!(!self.cases.iter().any(|case| case.name == name), "two cases are called `{name}`");
        self.cases.push(Case { name, token: token.into(), verdict, at: self.at });
    }

    pub(super) fn into_cases(self) -> Vec<Case> {
        self.cases
    }
}

/// What every front of one run is set up with.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) keys: String,
    pub(super) policy: Policy,
}

impl World {
    /// Our four keys and the plain policy.
    pub(super) fn ours() -> Self {
        Self::with_keys(&our_keys())
    }

    /// The plain policy and other keys.
    pub(super) fn with_keys(keys: &Value) -> Self {
        Self { keys: keys.to_string(), policy: Policy::access_token(ISSUER, AUDIENCE) }
    }
}
