//! `[[scope]]`: scopes that are restricted, or that people are told of in words.

use std::collections::BTreeMap;

use super::section::Section;
use crate::clients::{self, OPENID_SCOPES};
use crate::login::languages;
use crate::scopes::{Description, Scope};

/// Reads one `[[scope]]`, unless something is wrong with it.
pub(super) fn read_scope(section: &mut Section<'_>) -> Option<Scope> {
    let name = section.parsed("name", parse_name);
    if name.is_none() && !section.was_set("name") {
        section.problem("name", "missing: every scope has a name".to_owned());
    }
    let description = read_description(section);
    let roles = section.list("roles", clients::parse_role);
    Some(Scope { name: name?, description, roles })
}

fn parse_name(text: &str) -> Result<String, String> {
    if OPENID_SCOPES.contains(&text) {
        return Err(format!("{text} is a scope of OpenID Connect, which has its meaning already"));
    }
    clients::parse_scope(text).map_err(|error| error.to_string())
}

fn read_description(section: &mut Section<'_>) -> Option<Description> {
    if !section.is_table("description") {
        return section.parsed("description", parse_text).map(Description::One);
    }
    let mut texts = BTreeMap::new();
    for (language, text) in section.json("description")? {
        if !languages().any(|known| known == language) {
            let known = languages().collect::<Vec<_>>().join(", ");
            section.problem("description", format!("the pages are not written in {language:?}; there is {known}"));
            continue;
        }
        let text = text.as_str().ok_or_else(|| "expected a string".to_owned()).and_then(parse_text);
        match text {
            Ok(text) => drop(texts.insert(language, text)),
            Err(message) => section.problem("description", format!("{language}: {message}")),
        }
    }
    Some(Description::ByLanguage(texts))
}

fn parse_text(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_CHARACTERS && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("expected 1 to {MAX_CHARACTERS} characters in one line")) }
}

/// A line or three on a phone.
const MAX_CHARACTERS: usize = 160;
