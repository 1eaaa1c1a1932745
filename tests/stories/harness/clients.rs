//! Verifiers in other languages, each a process that lives as long as its story and so keeps its cache of keys.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::issuer::target_folder;

const DEADLINE: Duration = Duration::from_secs(20);

/// What a verifier is asked.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) token: &'a str,
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) jwks_uri: &'a str,
}

/// A verifier that answers a line for a line.
pub(crate) struct JwtClient {
    name: &'static str,
    pipes: Mutex<Pipes>,
    _child: Child,
}

struct Pipes {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl JwtClient {
    /// PyPI `pyjwt`, whose `PyJWKClient` keeps a key set for `max_age`; times are compared with `leeway`.
    pub(crate) fn pyjwt(max_age: Duration, leeway: Duration) -> Self {
        let mut command = Command::new(client_folder().join("python/bin/python"));
        command.arg(program("verify.py")).args(seconds([max_age, leeway]));
        Self::start("pyjwt", command)
    }

    /// npm `jose`, whose `createRemoteJWKSet` keeps a key set for `max_age`; times are compared with `leeway`.
    pub(crate) fn jose(max_age: Duration, leeway: Duration) -> Self {
        let mut command = Command::new("node");
        command.arg(program("verify.mjs")).arg(client_folder().join("node")).args(seconds([max_age, leeway]));
        Self::start("npm jose", command)
    }

    /// Whether the verifier accepts the token; if not, why.
    pub(crate) async fn verify(&self, question: Question<'_>) -> Result<(), String> {
        let Question { token, issuer, audience, jwks_uri } = question;
        let line = json!({"token": token, "issuer": issuer, "audience": audience, "jwks_uri": jwks_uri}).to_string();
        let mut pipes = self.pipes.lock().await;
        let exchange = async {
            pipes.questions.write_all(format!("{line}\n").as_bytes()).await?;
            pipes.answers.next_line().await
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} did not answer within {DEADLINE:?}", self.name));
        let Ok(Some(answer)) = answer else { panic!("{} has ended: its reason is on stderr", self.name) };
        let answer: Value = serde_json::from_str(&answer).expect("an answer in JSON");
        match answer["ok"].as_bool().expect("an answer with `ok`") {
            true => Ok(()),
            false => Err(answer["error"].as_str().unwrap_or("no reason given").to_owned()),
        }
    }

    fn start(name: &'static str, mut command: Command) -> Self {
        for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name} ({error}); `cargo xtask test` installs what the stories need");
        });
        let questions = child.stdin.take().expect("stdin is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        Self { name, pipes: Mutex::new(Pipes { questions, answers }), _child: child }
    }
}

fn seconds(durations: [Duration; 2]) -> [String; 2] {
    durations.map(|duration| duration.as_secs_f64().to_string())
}

/// Where `cargo xtask test` puts the clients' libraries.
fn client_folder() -> PathBuf {
    let folder = target_folder().join("test-clients");
    assert!(folder.is_dir(), "{} is missing; `cargo xtask test` makes it", folder.display());
    folder
}

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
