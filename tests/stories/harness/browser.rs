//! A real browser, and devices of people in it: each a profile with cookies of its own and one window.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::issuer::target_folder;
use super::talker::{Talker, node};

/// Debian's Chromium; ended when dropped.
pub(crate) struct Browser(Talker);

/// Somebody's device.
#[derive(Clone, Copy)]
pub(crate) struct Device<'b> {
    browser: &'b Browser,
    name: &'static str,
}

/// What a window shows.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) url: String,
    pub(crate) title: String,
    pub(crate) heading: String,
    /// All that can be read.
    pub(crate) text: String,
    /// Of the last response, where one was waited for.
    #[serde(default)]
    pub(crate) status: u16,
}

/// What has the keyboard's focus.
#[derive(Debug, Deserialize)]
pub(crate) struct Focused {
    pub(crate) tag: String,
    /// Its label, or what it says.
    pub(crate) name: String,
    /// Whether it can be seen that it has the focus.
    pub(crate) outlined: bool,
}

/// A cookie as the browser keeps it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredCookie {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) path: String,
    /// In seconds since 1970; -1 when it goes with the last window.
    pub(crate) expires: f64,
    pub(crate) http_only: bool,
    pub(crate) secure: bool,
    pub(crate) same_site: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let mut command = node("browser.mjs");
        command.arg(target_folder().join("screenshots"));
        Self(Talker::start("the browser", command))
    }

    /// A new device. `options` are those of playwright's contexts, such as `javaScriptEnabled`.
    pub(crate) async fn device(&self, name: &'static str, options: Value) -> Device<'_> {
        let device = Device { browser: self, name };
        device.ask("open", json!({"options": options})).await;
        device
    }
}

impl Device<'_> {
    pub(crate) async fn goto(self, url: &str) -> Seen {
        self.seen("goto", json!({"url": url})).await
    }

    /// Clicks the button or link of this name, and sees where it leads.
    pub(crate) async fn follow(self, name: &str) -> Seen {
        self.seen("follow", json!({"name": name})).await
    }

    /// The same for one of several of this name: that beside `text`.
    pub(crate) async fn follow_beside(self, text: &str, name: &str) -> Seen {
        self.seen("follow", json!({"name": name, "within": text})).await
    }

    /// Clicks a button that stays on the page: that beside `text`.
    pub(crate) async fn click_beside(self, text: &str, name: &str) {
        self.ask("click", json!({"name": name, "within": text})).await;
    }

    /// Clicks a button that stays on the page.
    pub(crate) async fn click(self, name: &str) {
        self.ask("click", json!({"name": name})).await;
    }

    /// Waits until this can be read on the page.
    pub(crate) async fn reads(self, text: &str) {
        self.ask("read", json!({"text": text})).await;
    }

    pub(crate) async fn fill(self, label: &str, text: &str) {
        self.ask("fill", json!({"label": label, "text": text})).await;
    }

    pub(crate) async fn check(self, label: &str) {
        self.ask("check", json!({"label": label})).await;
    }

    /// Fills in a form, found by a CSS selector, field by field, and presses its first button.
    pub(crate) async fn submit(self, form: &str, fields: &[(&str, &str)]) -> Seen {
        self.seen("submit", json!({"form": form, "fields": fields})).await
    }

    /// Types into whatever has the focus.
    pub(crate) async fn types(self, text: &str) {
        self.ask("type", json!({"text": text})).await;
    }

    pub(crate) async fn press(self, key: &str) {
        self.ask("press", json!({"key": key})).await;
    }

    /// Presses a key, and sees where it leads.
    pub(crate) async fn enter(self, key: &str) -> Seen {
        self.seen("enter", json!({"key": key})).await
    }

    pub(crate) async fn focused(self) -> Focused {
        read(self.ask("focused", Value::Null).await)
    }

    /// Waits until the window is at an address that begins like this.
    pub(crate) async fn waits_for(self, prefix: &str) -> Seen {
        self.seen("wait_for_url", json!({"prefix": prefix})).await
    }

    /// How many elements a CSS selector finds.
    pub(crate) async fn count(self, selector: &str) -> u64 {
        self.ask("count", json!({"selector": selector})).await.as_u64().expect("a number")
    }

    /// What a script of the page would get.
    pub(crate) async fn evaluate(self, script: &str) -> Value {
        self.ask("evaluate", json!({"script": script})).await
    }

    pub(crate) async fn cookies(self) -> Vec<StoredCookie> {
        read(self.ask("cookies", Value::Null).await)
    }

    /// As when the cookie's time is over.
    pub(crate) async fn forgets(self, cookie: &str) {
        self.ask("forget_cookie", json!({"name": cookie})).await;
    }

    /// What closing the last window and opening another does to cookies.
    pub(crate) async fn closes_and_opens_again(self) {
        self.ask("forget_session_cookies", Value::Null).await;
    }

    /// The addresses of the page and of all frames in it.
    pub(crate) async fn frames(self) -> Vec<String> {
        read(self.ask("frames", Value::Null).await)
    }

    /// What the browser complained of since it was last asked: violations of policies, scripts that failed.
    pub(crate) async fn complaints(self) -> Vec<String> {
        read(self.ask("problems", Value::Null).await)
    }

    /// Asserts that axe finds no fault with the page, for those who can't see or point.
    pub(crate) async fn assert_accessible(self, what: impl fmt::Display) {
        let violations: Vec<String> = read(self.ask("axe", Value::Null).await);
        assert!(violations.is_empty(), "{what}: {violations:#?}");
    }

    /// Keeps a picture of the page below the target folder.
    pub(crate) async fn picture(self, name: impl fmt::Display) {
        self.ask("screenshot", json!({"name": name.to_string()})).await;
    }

    /// Closes the window and forgets everything.
    pub(crate) async fn close(self) {
        self.ask("close", Value::Null).await;
    }

    async fn seen(self, command: &str, arguments: Value) -> Seen {
        read(self.ask(command, arguments).await)
    }

    async fn ask(self, command: &str, arguments: Value) -> Value {
        let mut arguments = if arguments.is_null() { json!({}) } else { arguments };
        let shown = arguments.to_string();
        arguments["device"] = self.name.into();
        let answer = self.browser.0.command(command, arguments).await;
        answer.unwrap_or_else(|error| panic!("{} can't {command} {shown}: {error}", self.name))
    }
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).expect("an answer of the browser")
}
