//! Takes typed settings out of a table. What is wrong is noted and reading goes on with the default; what nobody asked
//! for is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{Entry, Place, Problem, Table, Value};

/// What reading has found so far.
#[derive(Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    unknown: Vec<Unknown>,
    /// Every setting that was asked for, by its table and key, indices left out.
    known: BTreeSet<(String, String)>,
}

struct Unknown {
    place: Place,
    /// The table without indices, and as the owner sees it.
    table: String,
    name: String,
    key: String,
}

/// One table while it is being read.
pub(super) struct Section<'a> {
    report: &'a mut Report,
    /// As the owner sees it: empty for the root, `server`, `route[0]`.
    name: String,
    /// The same without indices.
    schema: String,
    place: Place,
    entries: Table,
    places: BTreeMap<&'static str, Place>,
}

impl Report {
    pub(super) fn add(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
    }

    /// Reads the root table.
    pub(super) fn read<T>(&mut self, entries: Table, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let (name, schema) = (String::new(), String::new());
        Section { report: self, name, schema, place: Place::Unset, entries, places: BTreeMap::new() }.read(read)
    }

    /// Everything that is wrong, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for Unknown { place, table, name, key } in std::mem::take(&mut self.unknown) {
            let siblings = self.known.iter().filter(|(known, _)| *known == table);
            let likeness = |(_, known): &&(String, String)| strsim::normalized_damerau_levenshtein(known, &key);
            let similar =
                siblings.map(|sibling| (likeness(&sibling), sibling)).filter(|(likeness, _)| *likeness >= LIKE);
            let nearest = similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, sibling)| sibling);
            let elsewhere = || self.known.iter().find(|(_, known)| *known == key);
            let hint = match nearest.or_else(elsewhere) {
                Some((table, key)) => format!("; did you mean {}?", dotted(table, key)),
                None => String::new(),
            };
            self.problems.push(Problem { place, message: format!("{name}: no such setting{hint}") });
        }
        self.problems.sort_by_key(|problem| problem.place.order());
        self.problems
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> impl Iterator<Item = String> {
        self.known.iter().map(|(table, key)| dotted(table, key))
    }
}

impl Section<'_> {
    /// Reads the table at `key`; a missing one reads like an empty one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let (place, entries) = match self.take(key).map(Entry::typed) {
            Some(Entry { place, value: Value::Table(entries) }) => (place, entries),
            Some(other) => {
                self.wrong_type(key, &other, "a table");
                (other.place, Table::new())
            }
            None => (Place::Unset, Table::new()),
        };
        self.inner(key, dotted(&self.name, key), place, entries).read(read)
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
                    self.problem_at(other.place, format!("{name}: expected a table, found {}", other.value.kind()))
                }
            }
        }
        read_items
    }

    /// Every entry, for a table whose keys are the owner's.
    pub(super) fn pairs(&mut self) -> Vec<(Place, String, String)> {
        let mut pairs = Vec::new();
        for (key, entry) in std::mem::take(&mut self.entries) {
            match entry.value {
                Value::String(text) | Value::Text(text) => pairs.push((entry.place, key, text)),
                other => {
                    let name = dotted(&self.name, &key);
                    self.problem_at(entry.place, format!("{name}: expected a string, found {}", other.kind()));
                }
            }
        }
        pairs
    }

    /// The string at `key`, as what `parse` makes of it.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match self.take(key)? {
            Entry { value: Value::String(text) | Value::Text(text), .. } => {
                parse(&text).map_err(|error| self.problem(key, error)).ok()
            }
            other => {
                self.wrong_type(key, &other, "a string");
                None
            }
        }
    }

    /// The string at `key`.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, |text| Ok::<_, String>(text.to_owned()))
    }

    /// The duration at `key`, if it is in range.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.parsed(key, |text| {
            let duration = parse_duration(text).ok_or_else(|| {
                format!("expected whole numbers with a unit d, h, m or s, such as 30s, found {text:?}")
            })?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = (range.start().as_secs(), range.end().as_secs());
            Err(format!("{text} is out of range: from {least}s to {most}s"))
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
            self.problem(key, format!("{number} is out of range: from {} to {}", range.start(), range.end()));
        }
        in_range
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

    /// The strings at `key`, each as what `parse` makes of it: a string, an array, and in the environment also a list with
    /// commas. Empty when there are none, which is a problem if there is an empty array.
    pub(super) fn list<T: PartialEq, E: Display>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let items = match entry.typed() {
            Entry { value: Value::Array(items), .. } => items,
            Entry { place, value: Value::Text(text) } => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.map(|word| Entry { place: place.clone(), value: Value::String(word.to_owned()) }).collect()
            }
            one => vec![one],
        };
        if items.is_empty() {
            self.problem(key, "expected at least one, found an empty list");
        }
        let mut values = Vec::new();
        for Entry { place, value } in items {
            let (Value::String(text) | Value::Text(text)) = value else {
                let message = format!("{}: expected a string, found {}", dotted(&self.name, key), value.kind());
                self.problem_at(place, message);
                continue;
            };
            match parse(&text) {
                Ok(value) if values.contains(&value) => {
                    self.problem_at(place, format!("{}: {text:?} is listed twice", dotted(&self.name, key)));
                }
                Ok(value) => values.push(value),
                Err(error) => self.problem_at(place, format!("{}: {error}", dotted(&self.name, key))),
            }
        }
        values
    }

    /// Was the setting at `key` made, and not taken yet?
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Notes what is wrong with the setting at `key`, or that it is missing.
    pub(super) fn problem(&mut self, key: &'static str, message: impl Display) {
        let place = self.places.get(key).unwrap_or(&self.place).clone();
        self.problem_at(place, format!("{}: {message}", dotted(&self.name, key)));
    }

    /// Notes what is wrong at a place; the message names the setting.
    pub(super) fn problem_at(&mut self, place: Place, message: String) {
        self.report.problems.push(Problem { place, message });
    }

    /// Where this table is.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.report.known.insert((self.schema.clone(), key.to_owned()));
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
        for (key, entry) in std::mem::take(&mut self.entries) {
            let (table, name) = (self.schema.clone(), dotted(&self.name, &key));
            self.report.unknown.push(Unknown { place: entry.place, table, name, key });
        }
        value
    }
}

/// Reads `30s`, `10m`, `12h`, `30d` or a sum from the largest unit to the smallest, such as `1h30m`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)].into_iter();
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit = tail.chars().next()?;
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(length)?)?;
        rest = &tail[unit.len_utf8()..];
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

fn dotted(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// From which likeness on (0 to 1) a guess helps more than it confuses.
const LIKE: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_from_large_to_small() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "30", "s", "1m1h", "1s1s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
