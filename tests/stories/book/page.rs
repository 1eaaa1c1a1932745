//! Reads a page: its fenced blocks, and what the comment above each says to do with it.
//!
//! | comment | the block below it |
//! | --- | --- |
//! | none, above `sh` | is run and has to succeed; variables last until the page ends |
//! | `<!-- exit 1 -->` | is run and has to end with this code |
//! | `<!-- server -->`, `<!-- server NAME URL -->` | runs on; the next block waits until the URL answers (`/readyz`), or `tcp:127.0.0.1:PORT` |
//! | `<!-- output -->` | is what the block before prints; `…` stands for anything in a line, alone for any lines |
//! | `<!-- file NAME -->`, `<!-- append NAME -->` | is written to a file |
//! | `<!-- program NAME -->` | is the verifier's example of this name, whose program is on the path |
//! | `<!-- not run: WHY -->` | is not run |
//!
//! And on their own: `<!-- stop NAME -->` ends a server, `<!-- run -->` runs a command that readers do otherwise (Ctrl-C),
//! `<!-- page: after PAGE, postgres -->` says what the reader has done before, and what is there.

use std::fs;
use std::path::Path;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Run { code: i32 },
    Serve { name: String, ready: String },
    Stop { name: String },
    Expect,
    Write { name: String, append: bool },
}

/// A block of a page, or a comment that stands alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// `PAGE:LINE`
    pub(super) place: String,
    pub(super) act: Act,
    pub(super) text: String,
}

/// A block that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotRun {
    pub(super) place: String,
    pub(super) why: String,
}

/// A page of the book, as far as it is run.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) after: Vec<String>,
    pub(super) postgres: bool,
    pub(super) steps: Vec<Step>,
    pub(super) not_run: Vec<NotRun>,
}

impl Page {
    /// Reads the page at `path`, which is called `name`.
    ///
    /// # Panics
    /// When a comment is not understood, or stands above nothing.
    pub(super) fn read(path: &Path, name: &str) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text, name)
    }

    fn parse(text: &str, name: &str) -> Self {
        let mut page = Self::default();
        let mut marker: Option<String> = None;
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let place = format!("{name}:{}", index + 1);
            // A fence inside a list is indented, and so is what is in it.
            let indent = line.len() - line.trim_start().len();
            let line = line.trim();
            if let Some(language) = line.strip_prefix("```") {
                let is_end = |line: &str| line.trim() == "```";
                let unindented = |line: &str| line.get(indent..).unwrap_or_default().to_owned();
                let block: Vec<String> =
                    lines.by_ref().map(|(_, line)| line).take_while(|line| !is_end(line)).map(unindented).collect();
                page.add(place, language, marker.take().as_deref(), block.join("\n") + "\n");
                continue;
            }
            assert!(marker.is_none() || line.is_empty(), "{place}: no block stands below `{marker:?}`");
            let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
            match comment.split_once([' ', ':']) {
                Some(("page", what)) => page.head(&place, what),
                Some(("stop", server)) => {
                    let act = Act::Stop { name: server.to_owned() };
                    page.steps.push(Step { place, act, text: String::new() });
                }
                _ => marker = Some(comment.to_owned()),
            }
        }
        page
    }

    fn head(&mut self, place: &str, what: &str) {
        for word in what.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.split_once(' ') {
                Some(("after", page)) => self.after.push(page.to_owned()),
                None if word == "postgres" => self.postgres = true,
                _ => panic!("{place}: `{word}` says nothing about a page"),
            }
        }
    }

    fn add(&mut self, place: String, language: &str, marker: Option<&str>, text: String) {
        let (word, rest) = marker.map(|marker| marker.split_once(' ').unwrap_or((marker, ""))).unwrap_or_default();
        let act = match (word, language) {
            ("", "sh") => Act::Run { code: 0 },
            // What other languages' blocks show is looked at where they are about something that runs.
            ("", _) => return,
            ("exit", "sh") => Act::Run { code: rest.parse().unwrap_or_else(|_| panic!("{place}: exit {rest}")) },
            ("server", "sh") => {
                let (name, ready) = rest.split_once(' ').unwrap_or((rest, ""));
                let name = if name.is_empty() { "keywheel" } else { name }.to_owned();
                let ready = if ready.is_empty() { "http://127.0.0.1:9090/readyz" } else { ready }.to_owned();
                Act::Serve { name, ready }
            }
            // An example of the verifier, which is built beside the tests.
            ("program", "rust") => {
                let (_, example) = EXAMPLES.iter().find(|(name, _)| *name == rest).expect("an example that is known");
                assert!(example.ends_with(&format!("\n{text}")), "{place}: the example {rest} is another program");
                return;
            }
            ("output", _) => Act::Expect,
            ("file" | "append", _) => Act::Write { name: rest.to_owned(), append: word == "append" },
            ("not", _) => {
                let why = rest.strip_prefix("run: ").unwrap_or_else(|| panic!("{place}: not {rest}"));
                self.not_run.push(NotRun { place, why: why.to_owned() });
                return;
            }
            _ => panic!("{place}: `{marker:?}` says nothing about a block of `{language}`"),
        };
        self.steps.push(Step { place, act, text });
    }
}

/// The programs in Rust that pages show.
const EXAMPLES: [(&str, &str); 1] =
    [("guarded_service", include_str!("../../../crates/verifier/examples/guarded_service.rs"))];

/// Whether `found` is what `expected` shows; if not, the first line that is missing.
pub(super) fn shows(expected: &str, found: &str) -> Result<(), String> {
    let expected: Vec<&str> = expected.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let found: Vec<&str> = found.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut next = 0;
    let mut skipping = false;
    for line in &expected {
        if line.trim_start() == "…" {
            skipping = true;
            continue;
        }
        let at = found[next..].iter().position(|found| line_shows(line, found));
        match at {
            Some(skipped) if skipped == 0 || skipping => next += skipped + 1,
            _ => return Err((*line).to_owned()),
        }
        skipping = false;
    }
    if next < found.len() && !skipping { Err(format!("nothing more, but there is {:?}", found[next])) } else { Ok(()) }
}

fn line_shows(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn a_page_is_read_as_its_comments_say() {
    let page = Page::parse(
        "<!-- page: after quick-start, postgres -->\n# Title\n<!-- server -->\n```sh\nkeywheel serve\n```\n\
         <!-- exit 1 -->\n```sh\nfalse\n```\n<!-- output -->\n```text\nx\n```\n<!-- stop keywheel -->\n\
         <!-- not run: it needs a cluster -->\n```sh\nkubectl get pods\n```\n- a list\n  ```sh\n  echo x\n  ```\n",
        "p",
    );

    assert_eq!((page.after, page.postgres), (vec!["quick-start".to_owned()], true));
    let acts: Vec<&Act> = page.steps.iter().map(|step| &step.act).collect();
    assert!(
        matches!(
            acts[..],
            [Act::Serve { .. }, Act::Run { code: 1 }, Act::Expect, Act::Stop { .. }, Act::Run { code: 0 }]
        ),
        "{acts:?}"
    );
    assert_eq!(page.steps[4].text, "echo x\n");
    assert_eq!(page.not_run, [NotRun { place: "p:17".to_owned(), why: "it needs a cluster".to_owned() }]);
}

#[test]
fn shown_output_has_to_be_there_and_no_more() {
    let found = "one 1\ntwo 2\nthree 3\n";
    for expected in ["one …\ntwo 2\nthree 3", "…\nthree …", "one 1\n…", "o…1\n…\nt…3", "…"] {
        assert_eq!(shows(expected, found), Ok(()), "{expected}");
    }
    for expected in ["one 1", "two 2\n…", "one …\nthree 3", "one 2\n…", "…\none 1", "one 1\ntwo 2\nthree 3\nfour"]
    {
        assert!(shows(expected, found).is_err(), "{expected}");
    }
}
