//! Verifiers in other languages, each a process that lives as long as its story and so keeps its cache of keys.

use std::time::Duration;

use serde_json::json;

use super::talker::{Talker, node, python};

/// What a verifier is asked.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) token: &'a str,
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) jwks_uri: &'a str,
}

/// A verifier that answers a line for a line.
pub(crate) struct JwtClient(Talker);

impl JwtClient {
    /// PyPI `pyjwt`, whose `PyJWKClient` keeps a key set for `max_age`; times are compared with `leeway`.
    pub(crate) fn pyjwt(max_age: Duration, leeway: Duration) -> Self {
        let mut command = python("verify.py");
        command.args(seconds([max_age, leeway]));
        Self(Talker::start("pyjwt", command))
    }

    /// npm `jose`, whose `createRemoteJWKSet` keeps a key set for `max_age`; times are compared with `leeway`.
    pub(crate) fn jose(max_age: Duration, leeway: Duration) -> Self {
        let mut command = node("verify.mjs");
        command.args(seconds([max_age, leeway]));
        Self(Talker::start("npm jose", command))
    }

    /// Whether the verifier accepts the token; if not, why.
    pub(crate) async fn verify(&self, question: Question<'_>) -> Result<(), String> {
        let Question { token, issuer, audience, jwks_uri } = question;
        let question = json!({"token": token, "issuer": issuer, "audience": audience, "jwks_uri": jwks_uri});
        let answer = self.0.ask(&question).await;
        match answer["ok"].as_bool().expect("an answer with `ok`") {
            true => Ok(()),
            false => Err(answer["error"].as_str().unwrap_or("no reason given").to_owned()),
        }
    }
}

fn seconds(durations: [Duration; 2]) -> [String; 2] {
    durations.map(|duration| duration.as_secs_f64().to_string())
}
