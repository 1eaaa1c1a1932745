//! Takes typed settings out of a table. What is wrong is reported and reading goes on with the default; what nobody
//! asked for is reported as unknown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use keywheel_keyring::{format_duration, parse_duration};
use zeroize::Zeroizing;

use super::problem::{Place, Report};
use super::secret::Secret;
use super::tree::{Entry, Table, Value};

/// One table of the configuration while it is being read.
pub(super) struct Section<'a> {
    report: &'a mut Report,
    /// Dotted name as the owner sees it: empty for the root, `keys`, `client[0]`.
    name: String,
    /// Dotted name without indices.
    schema: String,
    place: Place,
    entries: Table,
    /// Where the settings were that have been taken.
    places: BTreeMap<&'static str, Place>,
}

/// A string of a list, and where it is.
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) text: String,
}

/// Reads a whole configuration: `read` takes what it knows, and the rest is reported.
pub(super) fn read_root<T>(report: &mut Report, entries: Table, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    let root = Section {
        report,
        name: String::new(),
        schema: String::new(),
        place: Place::Unset,
        entries,
        places: BTreeMap::new(),
    };
    root.read(read)
}

impl Section<'_> {
    /// Reads the table at `key`; a missing table reads like an empty one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let (place, entries) = match self.take(key).map(Entry::typed) {
            Some(Entry { place, value: Value::Table(entries) }) => (place, entries),
            Some(other) => {
                self.wrong_type(key, &other, "a table");
                (other.place, Table::new())
            }
            None => (Place::Unset, Table::new()),
        };
        let name = dotted(&self.name, key);
        self.inner(key, name, place, entries).read(read)
    }

    /// Reads each table of the list of tables at `key`.
    pub(super) fn tables<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        let items = match self.take(key).map(Entry::typed) {
            Some(Entry { value: Value::Array(items), .. }) => items,
            Some(other) => {
                self.wrong_type(key, &other, "a list of tables");
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut read_items = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{}[{index}]", dotted(&self.name, key));
            match item.typed() {
                Entry { place, value: Value::Table(entries) } => {
                    read_items.push(self.inner(key, name, place, entries).read(&mut read));
                }
                other => {
                    let message = format!("{name}: expected a table, found {}", other.value.kind());
                    self.report.problem(other.place, message);
                }
            }
        }
        read_items
    }

    /// The string at `key`.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.text_of(key, "a string").map(|mut text| std::mem::take(&mut *text))
    }

    /// The string at `key`, as what `parse` makes of it.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.parsed_as(key, "a string", parse)
    }

    /// The duration at `key`, if it is in range.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.parsed_as(key, "a duration such as \"10m\"", |text| {
            let duration = parse_duration(text).map_err(|error| error.to_string())?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
            Err(format!("{text} is out of range: from {least} to {most}"))
        })
    }

    /// The integer at `key`, if it is in range.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match self.take(key)?.typed() {
            Entry { value: Value::Integer(number), .. } => number,
            other => {
                self.wrong_type(key, &other, "an integer");
                return None;
            }
        };
        let in_range = u32::try_from(number).ok().filter(|number| range.contains(number));
        if in_range.is_none() {
            let message = format!("{number} is out of range: from {} to {}", range.start(), range.end());
            self.problem(key, message);
        }
        in_range
    }

    /// The number from 0 to 1 at `key`.
    pub(super) fn fraction(&mut self, key: &'static str) -> Option<f64> {
        let number = match self.take(key)?.typed() {
            Entry { value: Value::Float(number), .. } => number,
            Entry { value: Value::Integer(0), .. } => 0.0,
            Entry { value: Value::Integer(1), .. } => 1.0,
            other => {
                self.wrong_type(key, &other, "a number from 0 to 1");
                return None;
            }
        };
        let in_range = (0.0..=1.0).contains(&number);
        if !in_range {
            self.problem(key, format!("{number} is out of range: from 0 to 1"));
        }
        in_range.then_some(number)
    }

    /// The boolean at `key`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)?.typed() {
            Entry { value: Value::Boolean(truth), .. } => Some(truth),
            other => {
                self.wrong_type(key, &other, "true or false");
                None
            }
        }
    }

    /// Is there a table at `key`?
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.value, Value::Table(_)))
    }

    /// The table at `key` as a JSON object, whatever is in it.
    pub(super) fn json(&mut self, key: &'static str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let entry = self.take(key)?.typed();
        if !matches!(entry.value, Value::Table(_)) {
            self.wrong_type(key, &entry, "a table");
            return None;
        }
        match entry.value.into_json() {
            Some(serde_json::Value::Object(object)) => Some(object),
            _ => {
                self.problem(key, "a number in it is too large, or none".to_owned());
                None
            }
        }
    }

    /// The list of strings at `key`; in the environment also comma-separated.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Item>> {
        let entry = match self.take(key)? {
            Entry { place, value: Value::Text(text) } if !text.trim_start().starts_with('[') => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                return Some(words.map(|word| Item { place: place.clone(), text: word.to_owned() }).collect());
            }
            other => other.typed(),
        };
        let Value::Array(items) = entry.value else {
            self.wrong_type(key, &entry, "an array of strings");
            return None;
        };
        let texts = items.into_iter().filter_map(|item| match item {
            Entry { place, value: Value::String(mut text) | Value::Text(mut text) } => {
                Some(Item { place, text: std::mem::take(&mut *text) })
            }
            Entry { place, value } => {
                let message = format!("expected a string in the array, found {}", value.kind());
                self.problem_at(place, key, message);
                None
            }
        });
        Some(texts.collect())
    }

    /// The list of strings at `key`, each as what `parse` makes of it; none twice.
    pub(super) fn list<T: PartialEq, E: Display>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let mut values = Vec::new();
        for Item { place, text } in self.texts(key)? {
            match parse(&text) {
                Ok(value) if values.contains(&value) => {
                    self.problem_at(place, key, format!("{text:?} is listed twice"));
                }
                Ok(value) => values.push(value),
                Err(error) => self.problem_at(place, key, error.to_string()),
            }
        }
        Some(values)
    }

    /// As [`Section::non_empty_list`], where a single string stands for a list of it. In the environment a list is
    /// written as in the file, since the string may have commas.
    pub(super) fn one_or_more<T: PartialEq, E: Display>(
        &mut self,
        key: &'static str,
        needed: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::String(_)) => self.parsed(key, parse).map(|one| vec![one]),
            Some(Value::Text(text)) if !text.trim_start().starts_with('[') => {
                self.parsed(key, parse).map(|one| vec![one])
            }
            _ => self.non_empty_list(key, needed, parse),
        }
    }

    /// As [`Section::list`], where an empty list is a problem: it says that `needed` is.
    pub(super) fn non_empty_list<T: PartialEq, E: Display>(
        &mut self,
        key: &'static str,
        needed: &str,
        parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let problems_before = self.problem_count();
        let list = self.list(key, parse);
        // A list whose items were all wrong has been complained about.
        if list.as_ref().is_some_and(Vec::is_empty) && self.problem_count() == problems_before {
            self.problem(key, format!("{needed} is needed, found an empty array"));
        }
        list
    }

    /// The secret at `key`, or in the file named by `file_key`; both at once are a problem.
    pub(super) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        self.one_of(&[key, file_key]);
        let written = self.text_of(key, "a string").map(Secret::new);
        let read = self.parsed(file_key, |path| Secret::from_file(Path::new(path)));
        written.or(read)
    }

    /// Of several ways to say one thing, only one may be used. A variable wins over the file, as everywhere.
    pub(super) fn one_of(&mut self, alternatives: &[&'static str]) {
        let is_variable = |entry: &Entry| matches!(entry.place, Place::Environment(_));
        let by_variable = alternatives.iter().any(|key| self.entries.get(*key).is_some_and(is_variable));
        for key in alternatives {
            self.report.knows(dotted(&self.schema, key));
            if by_variable && self.entries.get(*key).is_some_and(|entry| !is_variable(entry)) {
                self.entries.remove(*key);
            }
        }
        let mut used = alternatives.iter().filter(|key| self.entries.contains_key(**key));
        let Some(first) = used.next() else { return };
        for other in used.copied().collect::<Vec<_>>() {
            let entry = self.entries.remove(other).expect("other is one of the keys in use");
            self.problem_at(entry.place, other, format!("cannot be set together with {}", dotted(&self.name, first)));
        }
    }

    /// Is there anything at `key`? Only before it is taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes the string at `key` if it is an empty one.
    pub(super) fn is_empty_text(&mut self, key: &'static str) -> bool {
        let value = self.entries.get(key).map(|entry| &entry.value);
        let is_empty = matches!(value, Some(Value::String(text) | Value::Text(text)) if text.is_empty());
        is_empty && self.take(key).is_some()
    }

    /// Reports what is wrong with the setting at `key`.
    pub(super) fn problem(&mut self, key: &'static str, message: String) {
        self.problem_at(self.place_of(key), key, message);
    }

    /// Reports what is wrong with a part of the setting at `key`.
    pub(super) fn problem_at(&mut self, place: Place, key: &'static str, message: String) {
        self.report.problem(place, format!("{}: {message}", dotted(&self.name, key)));
    }

    /// Reports what is wrong with several settings together.
    pub(super) fn problem_of_all(&mut self, place: Place, message: String) {
        self.report.problem(place, message);
    }

    /// Tells the owner something about the setting at `key` that is not wrong.
    pub(super) fn hint(&mut self, key: &'static str, message: &str) {
        self.report.warning(self.place_of(key), format!("{}: {message}", dotted(&self.name, key)));
    }

    /// Tells the owner something that is not wrong.
    pub(super) fn warning(&mut self, key: &'static str, message: String) {
        self.report.warning(self.place_of(key), message);
    }

    /// Was the setting at `key` made? Only for keys that have been taken.
    pub(super) fn was_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Where the setting at `key` was made: its own place, else that of the table.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.places.get(key).unwrap_or(&self.place).clone()
    }

    /// How many problems the whole configuration has so far.
    pub(super) fn problem_count(&self) -> usize {
        self.report.count()
    }

    fn parsed_as<T, E: Display>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text_of(key, expected)?;
        parse(&text).map_err(|error| self.problem(key, error.to_string())).ok()
    }

    fn text_of(&mut self, key: &'static str, expected: &str) -> Option<Zeroizing<String>> {
        match self.take(key)? {
            Entry { value: Value::String(text) | Value::Text(text), .. } => Some(text),
            other => {
                self.wrong_type(key, &other, expected);
                None
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.report.knows(dotted(&self.schema, key));
        let entry = self.entries.remove(key)?;
        self.places.insert(key, entry.place.clone());
        Some(entry)
    }

    fn wrong_type(&mut self, key: &'static str, found: &Entry, expected: &str) {
        self.problem(key, format!("expected {expected}, found {}", found.value.kind()));
    }

    fn inner(&mut self, key: &str, name: String, place: Place, entries: Table) -> Section<'_> {
        let schema = dotted(&self.schema, key);
        Section { report: self.report, name, schema, place, entries, places: BTreeMap::new() }
    }

    fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let value = read(&mut self);
        for (key, entry) in self.entries {
            self.report.unknown(entry.place, &self.schema, dotted(&self.name, &key), key);
        }
        value
    }
}

/// The name of a setting inside a table; the root has no name.
fn dotted(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}
