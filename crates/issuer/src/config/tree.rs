//! The settings as they were written, each with its place: a TOML file, overlaid by environment variables.
//!
//! `toml` gives spans but no overlay, and serde stops at the first error; this tree allows both, and every problem is
//! reported at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};
use zeroize::Zeroizing;

use super::problem::{Place, Report};

/// The entries of a table by key.
pub(super) type Table = BTreeMap<String, Entry>;

/// A value and the place of its key (or of itself, in an array).
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    String(Zeroizing<String>),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Entry>),
    Table(Table),
    /// From the environment, where everything is text: the setting that reads it knows what it should be.
    Text(Zeroizing<String>),
}

/// Reads a TOML document; syntax errors go to the report, all of them.
pub(super) fn parse(path: &Arc<Path>, text: &str, report: &mut Report) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let source = FileText { path, text };
    for error in &errors {
        // The error's own Display would quote the line, which may hold a secret.
        report.problem(source.place(error.span().map_or(text.len(), |span| span.start)), error.message());
    }
    errors.is_empty().then(|| source.table(document.get_ref()))
}

/// Lays environment variables over a table. `settings` are (variable, value) pairs of which only the names that start
/// with [`PREFIX`] count; two underscores go one level deeper, a number is an index (`KEYWHEEL_CLIENT__0__SECRET`).
pub(super) fn overlay(root: &mut Table, settings: impl Iterator<Item = (String, String)>, report: &mut Report) {
    let mut settings: Vec<(Vec<String>, String, Zeroizing<String>)> = settings
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect();
            Some((path, name, Zeroizing::new(value)))
        })
        .filter(|(_, name, value)| !NOT_SETTINGS.contains(&name.as_str()) && !is_service_link(name, value))
        .collect();
    // Index 2 before index 10, so that a list grows in order.
    settings.sort_by_cached_key(|(path, ..)| {
        path.iter().map(|step| (step.parse::<usize>().ok(), step.clone())).collect::<Vec<_>>()
    });
    for (path, name, value) in settings {
        let place = Place::Environment(name);
        if let Err(problem) = set(root, &path, &place, value) {
            report.problem(place, problem);
        }
    }
}

impl Value {
    /// What this is, for people; never the value itself, which may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::String(_) | Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

impl Entry {
    /// Reads text from the environment as the TOML value it may be; anything else stays what it is.
    pub(super) fn typed(self) -> Entry {
        let Value::Text(text) = &self.value else { return self };
        match DeValue::parse(text) {
            Ok(parsed) => {
                let value = FileText { path: &Arc::from(Path::new("")), text }.value(parsed.get_ref());
                Entry { value: with_place(value, &self.place), place: self.place }
            }
            Err(_) => self,
        }
    }
}

/// The text of a file, to turn offsets into lines.
struct FileText<'a> {
    path: &'a Arc<Path>,
    text: &'a str,
}

impl FileText<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Place::File { path: Arc::clone(self.path), position: Some((line, column)) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.get_ref().to_string(), Entry { place, value: self.value(value.get_ref()) })
            })
            .collect()
    }

    fn item(&self, item: &Spanned<DeValue<'_>>) -> Entry {
        Entry { place: self.place(item.span().start), value: self.value(item.get_ref()) }
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(Zeroizing::new(text.to_string())),
            DeValue::Integer(number) => Value::Integer(integer(number)),
            // TOML's inf and nan have no JSON; as numbers they are out of every range we accept.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(date) => Value::Datetime(date.to_string()),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.item(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

impl Value {
    /// The same value in JSON, where dates are strings; `None` for a number that JSON does not have.
    pub(super) fn into_json(self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match self {
            Value::String(mut text) | Value::Text(mut text) => Json::String(std::mem::take(&mut *text)),
            Value::Integer(number) => Json::from(i64::try_from(number).ok()?),
            Value::Float(number) => Json::Number(serde_json::Number::from_f64(number)?),
            Value::Boolean(truth) => Json::Bool(truth),
            Value::Datetime(date) => Json::String(date),
            Value::Array(items) => items.into_iter().map(|item| item.value.into_json()).collect::<Option<_>>()?,
            Value::Table(table) => {
                table.into_iter().map(|(key, entry)| Some((key, entry.value.into_json()?))).collect::<Option<_>>()?
            }
        })
    }
}

/// TOML integers are 64 bits wide; what does not even fit 128 is out of every range we accept.
fn integer(number: &DeInteger<'_>) -> i128 {
    i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)
}

/// The same value, with every place in it replaced: what a variable holds has no lines.
fn with_place(value: Value, place: &Place) -> Value {
    let moved = |entry: Entry| Entry { place: place.clone(), value: with_place(entry.value, place) };
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(moved).collect()),
        Value::Table(table) => Value::Table(table.into_iter().map(|(key, entry)| (key, moved(entry))).collect()),
        other => other,
    }
}

/// Sets the value at a path, making the tables and lists on the way.
fn set(table: &mut Table, path: &[String], place: &Place, value: Zeroizing<String>) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    if key.is_empty() {
        return Err("not the name of a setting: a table and its key are separated by two underscores".to_owned());
    }
    if rest.is_empty() {
        table.insert(key.clone(), Entry { place: place.clone(), value: Value::Text(value) });
        return Ok(());
    }
    let entry = table.entry(key.clone()).or_insert_with(|| Entry {
        place: place.clone(),
        value: if rest[0].parse::<usize>().is_ok() { Value::Array(Vec::new()) } else { Value::Table(Table::new()) },
    });
    match &mut entry.value {
        Value::Table(inner) => set(inner, rest, place, value),
        Value::Array(items) => set_item(items, key, rest, place, value),
        other => Err(format!("{key} is {}, not a table: nothing can be set inside it", other.kind())),
    }
}

/// Sets the value at a path that starts with an index.
fn set_item(
    items: &mut Vec<Entry>,
    list: &str,
    path: &[String],
    place: &Place,
    value: Zeroizing<String>,
) -> Result<(), String> {
    let (index, rest) = path.split_first().expect("set() only descends while steps are left");
    let Some(index) = index.parse::<usize>().ok().filter(|index| *index <= items.len()) else {
        return Err(format!("{list} has {0} entries, so {0} is the next index", items.len()));
    };
    if index == items.len() {
        items.push(Entry { place: place.clone(), value: Value::Table(Table::new()) });
    }
    let item = &mut items[index];
    match (&mut item.value, rest) {
        (_, []) => *item = Entry { place: place.clone(), value: Value::Text(value) },
        (Value::Table(inner), _) => set(inner, rest, place, value)?,
        (other, _) => return Err(format!("{list}[{index}] is {}, not a table", other.kind())),
    }
    Ok(())
}

/// Is this one of the variables that Kubernetes puts into every container of a namespace with a service called
/// `keywheel…` (`KEYWHEEL_SERVICE_HOST`, `KEYWHEEL_PORT_8080_TCP_ADDR`)? Nobody wrote them, so they are no mistake.
fn is_service_link(name: &str, value: &str) -> bool {
    let of_a_port = name.split_once("PORT_").is_some_and(|(_, rest)| {
        rest.split_once('_').is_some_and(|(port, protocol)| {
            port.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|known| protocol.starts_with(known))
        })
    });
    of_a_port
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && value.contains("://")
}

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "KEYWHEEL_";

/// Variables of ours that are no settings.
const NOT_SETTINGS: [&str; 2] = [super::CONFIG_VARIABLE, super::LOG_VARIABLE];
