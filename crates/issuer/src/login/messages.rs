//! What the pages say, by language: `messages/*.ftl` (Fluent). Every language has every message.

use std::sync::Arc;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use unic_langid::LanguageIdentifier;

/// The messages of all languages.
#[derive(Clone)]
pub(super) struct Messages(Arc<Inner>);

struct Inner {
    bundles: Vec<(Language, FluentBundle<FluentResource>)>,
    default: Language,
}

/// A language that there are messages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Language {
    /// Its tag (RFC 5646).
    pub(super) tag: &'static str,
    /// What its speakers call it.
    pub(super) name: &'static str,
}

impl Messages {
    /// `default` is the language of people who ask for none that there is.
    pub(super) fn new(default: &str) -> Self {
        let bundles = FILES.map(|(language, text)| (language, bundle(language, text)));
        let default = matching(default).unwrap_or(ENGLISH);
        Self(Arc::new(Inner { bundles: bundles.into(), default }))
    }

    /// The languages, for somebody to choose from.
    pub(super) fn languages() -> impl Iterator<Item = Language> {
        FILES.into_iter().map(|(language, _)| language)
    }

    /// The first of the wanted tags that there are messages for.
    pub(super) fn choose<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Language {
        wanted.into_iter().find_map(matching).unwrap_or(self.0.default)
    }

    /// A message; `None` when there is none of that name, or it needs what `arguments` doesn't have.
    pub(super) fn text(&self, language: Language, key: &str, arguments: &FluentArgs<'_>) -> Option<String> {
        let (_, bundle) = self.0.bundles.iter().find(|(known, _)| *known == language)?;
        let pattern = bundle.get_message(key)?.value()?;
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, Some(arguments), &mut errors);
        errors.is_empty().then(|| text.into_owned())
    }

    /// Whether there is a message of this name.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.bundles.iter().all(|(_, bundle)| bundle.has_message(key))
    }
}

/// The tags of an `Accept-Language` header, the most wanted first (RFC 9110 §12.5.4).
pub(super) fn accepted(header: &str) -> Vec<&str> {
    let mut ranges: Vec<(&str, f32)> = header
        .split(',')
        .take(MAX_RANGES)
        .filter_map(|range| {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=")?.parse().ok()?;
            Some((tag.trim(), weight))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    // The sort is stable, so of equals the first counts.
    ranges.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranges.into_iter().map(|(tag, _)| tag).collect()
}

/// The language of a tag: `de-AT` is `de` (RFC 4647 §3.4).
fn matching(tag: &str) -> Option<Language> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    Messages::languages().find(|language| language.tag.eq_ignore_ascii_case(primary))
}

fn bundle(language: Language, text: &str) -> FluentBundle<FluentResource> {
    let identifier: LanguageIdentifier = language.tag.parse().expect("ours are well-formed");
    let mut bundle = FluentBundle::new_concurrent(vec![identifier]);
    // Where a foreign name stands in a text, the templates say so with <bdi>.
    bundle.set_use_isolating(false);
    let resource = FluentResource::try_new(text.to_owned()).map_err(|(_, errors)| errors);
    bundle.add_resource(resource.expect("a test reads every file")).expect("no message is there twice");
    bundle
}

const ENGLISH: Language = Language { tag: "en", name: "English" };
const GERMAN: Language = Language { tag: "de", name: "Deutsch" };

const FILES: [(Language, &str); 2] =
    [(ENGLISH, include_str!("messages/en.ftl")), (GERMAN, include_str!("messages/de.ftl"))];

/// More than any browser sends.
const MAX_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(text: &str) -> BTreeSet<String> {
        let starts = text.lines().filter(|line| line.starts_with(|it: char| it.is_ascii_lowercase()));
        starts.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
    }

    /// Names of arguments, which a translation must not misspell.
    fn arguments(text: &str) -> BTreeSet<(String, String)> {
        let mut key = "";
        let mut found = BTreeSet::new();
        for line in text.lines() {
            if line.starts_with(|it: char| it.is_ascii_lowercase()) {
                key = line.split_once('=').expect("a message").0.trim();
            }
            for rest in line.split('$').skip(1) {
                let end = rest.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(rest.len());
                found.insert((key.to_owned(), rest[..end].to_owned()));
            }
        }
        found
    }

    #[test]
    fn every_language_says_everything() {
        let (_, english) = FILES[0];
        assert!(keys(english).len() > 100);
        for (language, text) in FILES {
            assert_eq!(keys(text), keys(english), "{}", language.tag);
            assert_eq!(arguments(text), arguments(english), "{}", language.tag);
        }
    }

    #[test]
    fn the_language_that_is_wanted_most_is_chosen() {
        let messages = Messages::new("en");
        for (header, tag) in [
            ("de", "de"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "en"),
            ("en;q=0.1,de;q=0.2", "de"),
            ("de;q=0, en", "en"),
            ("fr", "en"),
            ("", "en"),
            (";;q=,,x;q=NaN", "en"),
        ] {
            assert_eq!(messages.choose(accepted(header)).tag, tag, "{header}");
        }
        assert_eq!(Messages::new("de").choose(["fr"]).tag, "de");
        assert_eq!(Messages::new("tlh").choose(["fr"]).tag, "en");
    }

    #[test]
    fn a_message_without_its_argument_is_none() {
        let messages = Messages::new("en");

        assert_eq!(messages.text(ENGLISH, "no-such-message", &FluentArgs::new()), None);
        assert_eq!(messages.text(ENGLISH, "continue-to", &FluentArgs::new()), None);
        let mut arguments = FluentArgs::new();
        arguments.set("app", "Shop");
        assert_eq!(messages.text(GERMAN, "continue-to", &arguments).as_deref(), Some("Weiter zu Shop"));
    }
}
