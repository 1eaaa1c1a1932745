//! Pages that are written from the code: settings, commands, rejections.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::read;

/// The page of all settings, from the template of `keywheel init`. The issuer's tests hold that against the code: it has
/// every setting, and shows the defaults.
///
/// # Errors
/// When the template is not as expected.
pub(super) fn settings(template: &str) -> Result<String> {
    let mut page = String::from(
        "# Configuration reference\n\nEvery setting, from the file that `keywheel init` writes. \
         [Configuration](../operate/configuration.md) says how the file is found and checked.\n",
    );
    let mut section = Section { name: String::new(), is_list: false };
    let mut about: Vec<&str> = Vec::new();
    // Of which setting the last words were: they are also of those that follow without any.
    let mut said_of: Option<String> = None;
    let mut count = 0;
    for line in template.lines() {
        let plain = line.trim_start_matches('#').trim_start();
        if let Some(next) = Section::parse(plain) {
            let _ = write!(page, "\n## {}\n", next.heading());
            if !about.is_empty() {
                let _ = write!(page, "\n{}\n", about.join(" "));
            }
            (section, about, said_of) = (next, Vec::new(), None);
        } else if let Some((key, value)) = setting(plain) {
            let words = match &said_of {
                Some(other) if about.is_empty() => format!("As [`{other}`](#{}) says.", other.replace('.', "-")),
                _ => {
                    said_of = Some(section.dotted(key));
                    about.join(" ")
                }
            };
            about.clear();
            // One more way to say what stands above it, such as a list where one would do.
            let is_default = line.starts_with('#') && !line.starts_with("# ") && !section.is_list;
            section.write(&mut page, key, value, is_default, &words);
            count += 1;
        } else if line.is_empty() {
            if count == 0 && section.name.is_empty() && !about.is_empty() {
                let _ = write!(page, "\n{}\n", about.join(" "));
            }
            about.clear();
            said_of = None;
        } else if line.starts_with('#') {
            about.push(plain);
        } else {
            bail!("the template of the configuration has a line that is none: {line}");
        }
    }
    if count < 40 {
        bail!("the template of the configuration has {count} settings, which can't be all");
    }
    Ok(page)
}

struct Section {
    name: String,
    is_list: bool,
}

impl Section {
    fn parse(line: &str) -> Option<Self> {
        let name = line.strip_prefix('[')?.strip_suffix(']')?;
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let plain = inner.unwrap_or(name);
        let is_name = !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
        is_name.then(|| Self { name: plain.to_owned(), is_list: inner.is_some() })
    }

    fn heading(&self) -> String {
        let id = self.name.replace('.', "-");
        if self.is_list { format!("`[[{}]]` {{#{id}}}", self.name) } else { format!("`[{}]` {{#{id}}}", self.name) }
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn write(&self, page: &mut String, key: &str, value: &str, is_default: bool, about: &str) {
        let dotted = self.dotted(key);
        let id = dotted.replace('.', "-");
        let heading = format!("\n### `{dotted}` {{#{id}}}\n");
        // A second example of the same setting.
        if page.contains(&heading) {
            let _ = write!(page, "\nOr `{key} = {value}`. {about}\n");
            return;
        }
        let what = if is_default { "default" } else { "for example" };
        let _ = write!(page, "{heading}\n{about}\n\n<span class=\"setting\">{what} `{value}`");
        // A variable sets one value, not a table of them.
        if !self.is_list && !value.starts_with('{') {
            let variable = dotted.to_uppercase().replace('.', "__");
            let _ = write!(page, " · environment `KEYWHEEL_{variable}`");
        }
        page.push_str("</span>\n");
    }
}

fn setting(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
    is_key.then_some((key, value))
}

/// The page of a program's commands: what each says with `--help`.
///
/// # Errors
/// When the program cannot be run.
pub(super) fn commands(name: &str, program: &Path) -> Result<String> {
    let mut page = format!("# {name}\n\nWhat each command says of itself with `--help`.\n");
    describe(&mut page, program, &[name.to_owned()])?;
    Ok(page)
}

fn describe(page: &mut String, program: &Path, words: &[String]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(&words[1..]).arg("--help").env("COLUMNS", "96");
    let help = read(&mut command)?;
    if words.len() > 1 {
        let _ = write!(page, "\n## {}\n", words.join(" "));
    }
    let _ = write!(page, "\n```text\n{}\n```\n", help.trim_end());
    for inner in subcommands(&help) {
        describe(page, program, &[words, &[inner.to_owned()]].concat())?;
    }
    Ok(())
}

/// The commands that a help text lists, but for `help` itself.
fn subcommands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect()
}

/// The table of rejections, from the source of their enum.
///
/// # Errors
/// When the source is not as expected.
pub(super) fn rejections(source: &str) -> Result<String> {
    let mut about: Vec<(&str, String)> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut table = String::from("| code | a token is refused because |\n| --- | --- |\n");
    let mut rows = 0;
    for line in source.lines() {
        if let Some(word) = line.strip_prefix("    /// ") {
            words.push(word);
        } else if let Some((variant, rest)) =
            line.trim_start().strip_prefix("Self::").and_then(|it| it.split_once(" => \""))
        {
            let variant = variant.split([' ', '(']).next().unwrap_or(variant);
            let Some((_, about)) = about.iter().find(|(name, _)| *name == variant) else { continue };
            let code = rest.split('"').next().unwrap_or_default();
            let _ = writeln!(table, "| `{code}` | {about} |");
            rows += 1;
        } else {
            let name = line.strip_prefix("    ").map(|line| line.trim_end_matches([',', '{', ' ']));
            let is_variant = |name: &&str| {
                name.starts_with(|first: char| first.is_ascii_uppercase())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric())
            };
            if let Some(name) = name.filter(is_variant) {
                about.push((name, words.join(" ").replace('|', "\\|")));
            }
            if !line.trim_start().starts_with('#') {
                words.clear();
            }
        }
    }
    if rows < 20 {
        bail!("only {rows} rejections were found");
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_template_is_on_the_page_once() {
        let template = include_str!("../../../issuer/src/config/template.toml");

        let page = settings(template).expect("a page");

        for (heading, value) in [
            ("### `issuer` {#issuer}", "default `\"http://localhost:8080\"`"),
            ("### `server.body_timeout` {#server-body_timeout}", "`KEYWHEEL_SERVER__BODY_TIMEOUT`"),
            ("### `keys.rotate_at` {#keys-rotate_at}", "for example `\"0 0 3 * * Sun\"`"),
            ("### `client.id` {#client-id}", "for example `\"billing\"`"),
            ("### `user.claims` {#user-claims}", "department"),
        ] {
            let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
            let end = rest.find("\n### ").unwrap_or(rest.len());
            assert!(rest[..end].contains(value), "{heading}: {}", &rest[..end]);
            assert_eq!(page.matches(heading).count(), 1, "{heading}");
        }
        let keys = |line: &str| setting(line.trim_start_matches('#').trim_start()).map(|(key, _)| key.to_owned());
        for key in template.lines().filter_map(keys) {
            assert!(page.contains(&format!("{key}` {{#")), "{key} has no heading");
        }
    }

    #[test]
    fn the_commands_of_a_help_text_are_found() {
        let help = "About\n\nUsage: x <COMMAND>\n\nCommands:\n  serve  Run it\n  keys   Signing keys\n         and more\n  help   Print\n\nOptions:\n";
        assert_eq!(subcommands(help), ["serve", "keys"]);
    }

    #[test]
    fn every_rejection_has_a_row() {
        let source = include_str!("../../../jose/src/rejection.rs");

        let table = rejections(source).expect("a table");

        for code in ["`expired` | `exp` has passed.", "`wrong_audience` | `aud` does not name us.", "`unknown_kid`"] {
            assert!(table.contains(code), "no {code} in {table}");
        }
        let codes = source.matches("=> \"").count();
        let parts = 3;
        assert!(table.lines().count() + parts >= codes, "{codes} codes in {table}");
    }
}
