//! Programs in other languages that answer a line of JSON for a line of JSON, from `tests/clients`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::issuer::target_folder;

/// Longer than any answer takes, a browser's included.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running program; killed when dropped.
pub(crate) struct Talker {
    name: &'static str,
    pipes: Mutex<Pipes>,
    _child: Child,
}

struct Pipes {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    /// Starts `command`, which people know as `name`.
    pub(crate) fn start(name: &'static str, mut command: Command) -> Self {
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

    /// The answer to a question.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) async fn ask(&self, question: &Value) -> Value {
        let mut pipes = self.pipes.lock().await;
        let exchange = async {
            pipes.questions.write_all(format!("{question}\n").as_bytes()).await?;
            pipes.answers.next_line().await
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} did not answer {question} in {DEADLINE:?}", self.name));
        let Ok(Some(answer)) = answer else { panic!("{} has ended: its reason is on stderr", self.name) };
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{}: not JSON ({error}): {answer}", self.name))
    }

    /// What a program says that knows commands: the value, or why there is none.
    pub(crate) async fn command(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let mut question = match arguments {
            Value::Object(arguments) => arguments,
            Value::Null => Map::new(),
            other => panic!("arguments have names, unlike {other}"),
        };
        question.insert("do".to_owned(), command.into());
        let mut answer = self.ask(&question.into()).await;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["value"].take()),
        }
    }
}

/// A program for node, which finds its packages in the folder that is its first argument.
pub(crate) fn node(program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(source(program)).arg(folder().join("node"));
    command
}

/// A program for Python, which finds its packages by itself.
pub(crate) fn python(program: &str) -> Command {
    let mut command = Command::new(folder().join("python/bin/python"));
    command.arg(source(program));
    command
}

/// A program that a package for Python brings.
pub(crate) fn python_tool(name: &str) -> Command {
    let path = folder().join("python/bin").join(name);
    assert!(path.is_file(), "{} is missing; `cargo xtask test` installs it", path.display());
    Command::new(path)
}

/// Where `cargo xtask test` puts the packages.
fn folder() -> PathBuf {
    let folder = target_folder().join("test-clients");
    assert!(folder.is_dir(), "{} is missing; `cargo xtask test` makes it", folder.display());
    folder
}

fn source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
