//! Runs a page as a reader would: one shell, in a fresh folder, with the programs on its path. Ports are replaced by free
//! ones, in commands, files and shown output alike, so that pages can be run beside each other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::Command;

use super::page::{Act, Page, Step, shows};
use crate::harness::{Postgres, free_addresses, program, target_folder};

/// Longer than any page takes, key generation in a debug build included.
const DEADLINE: Duration = Duration::from_secs(150);

/// The ports that pages name: two for each server that runs beside the others.
const PORTS: [[u16; 2]; 4] = [[8080, 9090], [8081, 9091], [3000, 4180], [5432, 4181]];

/// Runs a page of the book after those that its reader has read.
pub(super) async fn run(path: &Path, name: &str, book: &Path) {
    let page = Page::read(path, name);
    let mut steps = Vec::new();
    for before in &page.after {
        steps.extend(Page::read(&book.join(format!("{before}.md")), before).steps);
    }
    let first = steps.len();
    steps.extend(page.steps);
    assert!(steps.len() > first, "{name} has nothing to run");
    let postgres = if page.postgres { Some(Postgres::serve().await) } else { None };
    Reader::new(postgres.as_ref()).follow(&steps, first).await;
}

struct Reader {
    folder: TempDir,
    /// What stands in pages, and what it is here.
    replaced: Vec<(String, String)>,
}

impl Reader {
    fn new(postgres: Option<&Postgres>) -> Self {
        // What builds the program before it runs it.
        let mut replaced = vec![("cargo run --release -- ".to_owned(), "keywheel ".to_owned())];
        if let Some(postgres) = postgres {
            replaced.push(("postgres://keywheel@localhost/keywheel".to_owned(), postgres.url()));
        }
        for pair in PORTS {
            for (shown, free) in pair.into_iter().zip(free_addresses()) {
                let forms = ["localhost:", "127.0.0.1:", "localhost%3A", "listen("];
                replaced.extend(forms.map(|form| (format!("{form}{shown}"), format!("{form}{}", free.port()))));
            }
        }
        Self { folder: TempDir::new().expect("a temporary folder"), replaced }
    }

    /// Does all of it, and looks at what the steps from the `first` on print.
    async fn follow(&self, steps: &[Step], first: usize) {
        let home = self.folder.path().join("home");
        fs::create_dir_all(home.join(".out")).expect("a folder");
        // Packages that a reader would install for one page.
        let packages = target_folder().join("test-clients");
        std::os::unix::fs::symlink(packages.join("node/node_modules"), home.join("node_modules")).expect("a link");
        let script = self.folder.path().join("page.sh");
        fs::write(&script, self.script(steps)).expect("writing the script");

        // `program` knows where the programs are, and what of the environment must not come along.
        let keywheel = program();
        let programs = Path::new(keywheel.as_std().get_program()).parent().expect("a folder").to_owned();
        let system = std::env::var_os("PATH").unwrap_or_default();
        let path = [programs.clone(), programs.join("examples"), packages.join("python/bin")]
            .into_iter()
            .chain(std::env::split_paths(&system));
        let path = std::env::join_paths(path.collect::<Vec<PathBuf>>()).expect("no colon in a folder's name");
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb");
        command.env("KEYWHEEL_SERVER__LISTEN", self.replace("127.0.0.1:8080"));
        command.env("KEYWHEEL_SERVER__METRICS_LISTEN", self.replace("127.0.0.1:9090"));
        command.arg(&script).current_dir(&home).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("starting bash");
        let group = Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("a pid")).expect("not 0");
        let ended = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        // Servers that the page left running. When there are none, there is no group either.
        let _ = kill_process_group(group, Signal::KILL);

        let prints = |index: usize| fs::read_to_string(home.join(format!(".out/{index}"))).unwrap_or_default();
        let shown = |index: usize| {
            let Step { place, text, .. } = &steps[index];
            let mut report = format!("{place}:\n{text}--- printed:\n{}", prints(index));
            for (index, step) in steps[..index].iter().enumerate() {
                if let Act::Serve { name, .. } = &step.act {
                    let _ = write!(report, "\n--- server {name} printed:\n{}", prints(index));
                }
            }
            report
        };
        let at: usize =
            fs::read_to_string(home.join(".out/at")).ok().and_then(|at| at.trim().parse().ok()).unwrap_or(0);
        let output = ended.unwrap_or_else(|_| panic!("still running after {DEADLINE:?}: {}", shown(at)));
        let output = output.expect("waiting for bash");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}{}", shown(at));

        let mut last = None;
        for (index, step) in steps.iter().enumerate() {
            match &step.act {
                Act::Run { .. } | Act::Serve { .. } => last = Some(index),
                Act::Expect if index >= first => {
                    let last = last.unwrap_or_else(|| panic!("{}: nothing ran before", step.place));
                    if let Err(line) = shows(&self.replace(&step.text), &prints(last)) {
                        panic!("{}: shown, and not printed: {line}\n{}", step.place, shown(last));
                    }
                }
                Act::Expect | Act::Write { .. } | Act::Stop { .. } => {}
            }
        }
    }

    fn replace(&self, text: &str) -> String {
        replaced(text, &self.replaced)
    }

    /// The page as one script. Its blocks run in one shell, so that variables last.
    fn script(&self, steps: &[Step]) -> String {
        let mut script = HEAD.to_owned();
        for (index, step) in steps.iter().enumerate() {
            let text = self.replace(&step.text);
            let _ = writeln!(script, "echo {index} >\"$OUT/at\"");
            let _ = match &step.act {
                Act::Run { code: 0 } => {
                    let pause = if changes_something(&text) { "sleep 2\n" } else { "" };
                    write!(script, "{{\n{text}}} >\"$OUT/{index}\" 2>&1\n{pause}")
                }
                Act::Run { code } => writeln!(
                    script,
                    "(\nset +eE\ntrap - ERR\n{text}) >\"$OUT/{index}\" 2>&1 && ended=0 || ended=$?\n\
                     [ $ended = {code} ] || {{ echo \"ended with $ended, not {code}\" >&2; exit 1; }}"
                ),
                Act::Serve { name, ready } => {
                    let (ready, name) = (self.replace(ready), name.replace('-', "_"));
                    writeln!(
                        script,
                        "(\n{}) >\"$OUT/{index}\" 2>&1 &\nserver_{name}=$!\nready $server_{name} '{ready}'",
                        executed(&text)
                    )
                }
                Act::Stop { name } => {
                    let name = name.replace('-', "_");
                    writeln!(script, "kill $server_{name}\nwait $server_{name} || true")
                }
                Act::Write { name, append } => {
                    let into = if *append { ">>" } else { ">" };
                    writeln!(script, "cat {into}'{name}' <<'END_OF_THE_BLOCK'\n{text}END_OF_THE_BLOCK")
                }
                Act::Expect => Ok(()),
            };
        }
        script.push_str("exit 0\n");
        script
    }
}

/// Replaces what is shown by what is here, in one pass: what was put in is not looked at again, and 3000 is no part of 30005.
fn replaced(text: &str, pairs: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let is_whole = |shown: &str| {
            let after = rest[shown.len()..].chars().next();
            !(shown.ends_with(|last: char| last.is_ascii_digit()) && after.is_some_and(|after| after.is_ascii_digit()))
        };
        let found = pairs.iter().find(|(shown, _)| rest.starts_with(shown.as_str()) && is_whole(shown));
        let taken = match found {
            Some((shown, here)) => {
                result.push_str(here);
                shown.len()
            }
            None => {
                result.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    result
}

/// A running server sees within a second what a command changed: the pause that a reader makes before the next block.
fn changes_something(text: &str) -> bool {
    let commands = ["keywheel clients", "keywheel users", "keywheel keys"];
    text.lines().any(|line| commands.iter().any(|command| line.trim_start().starts_with(command)))
}

/// With the server in the place of the shell, so that it can be stopped by the shell's pid.
fn executed(text: &str) -> String {
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
    // Variables before a command belong to it.
    let is_variable = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let variables: Vec<&str> = last.split(' ').take_while(is_variable).collect();
    let rest = last.split(' ').skip(variables.len()).collect::<Vec<_>>().join(" ");
    format!("{before}\nexec env {} {rest}\n", variables.join(" "))
}

const HEAD: &str = r#"set -eE -o pipefail
OUT=$PWD/.out
trap 'echo "a command ended with $?: $BASH_COMMAND" >&2' ERR
ready() {
    for _ in $(seq 1200); do
        kill -0 $1 2>/dev/null || { echo "the server ended" >&2; exit 1; }
        case $2 in
            tcp:*) (exec 3<>"/dev/tcp/${2:4:9}/${2:14}") 2>/dev/null && return ;;
            *) curl -sf -o /dev/null "$2" && return ;;
        esac
        sleep 0.05
    done
    echo "$2 does not answer" >&2
    exit 1
}
"#;

#[test]
fn ports_are_replaced_once_and_whole() {
    let pairs = [("localhost:8080", "localhost:30005"), ("localhost:3000", "localhost:1"), ("x", "yx")];
    let pairs = pairs.map(|(shown, here)| (shown.to_owned(), here.to_owned()));

    assert_eq!(
        replaced("é localhost:8080/x, localhost:3000, localhost:30001", &pairs),
        "é localhost:30005/yx, localhost:1, localhost:30001"
    );
}
