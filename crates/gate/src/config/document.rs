//! The settings as they were written, each with its place: a TOML file, overlaid by environment variables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere in particular: a default, or a setting that is missing.
    Unset,
    /// In a file.
    File {
        /// The file, as it was named.
        path: Arc<Path>,
        /// Line and column, both counted from 1.
        position: (usize, usize),
    },
    /// In the environment variable of this name.
    Variable(String),
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
}

pub(super) type Table = BTreeMap<String, Entry>;

/// A value and the place of its key, or of itself in an array.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    Boolean(bool),
    Array(Vec<Entry>),
    Table(Table),
    /// A float or a date, which no setting is.
    Other(&'static str),
    /// From the environment, where everything is text: the setting that reads it knows what it should be.
    Text(String),
}

impl Value {
    /// What this is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) | Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

impl Entry {
    /// Reads text from the environment as the TOML value it may be; anything else stays what it is.
    pub(super) fn typed(self) -> Self {
        let Value::Text(text) = &self.value else { return self };
        let Ok(parsed) = DeValue::parse(text) else { return self };
        let Value::Array(items) = convert(parsed.get_ref(), &|_| self.place.clone()) else {
            return Self { value: convert(parsed.get_ref(), &|_| self.place.clone()), place: self.place };
        };
        Self { place: self.place, value: Value::Array(items) }
    }
}

/// Reads a TOML document.
///
/// # Errors
/// Every syntax error, without the line itself.
pub(super) fn parse(path: &Path, text: &str) -> Result<Table, Vec<Problem>> {
    let path: Arc<Path> = Arc::from(path);
    let place = |offset: usize| Place::File { path: Arc::clone(&path), position: line_and_column(text, offset) };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors.iter().map(|error| Problem {
            place: place(error.span().map_or(text.len(), |span| span.start)),
            message: error.message().to_owned(),
        });
        return Err(problems.collect());
    }
    Ok(convert_table(document.get_ref(), &place))
}

/// Lays variables over a table: two underscores go one level deeper, a number is an index
/// (`KEYWHEEL_GATE_ISSUER__0__URL`).
pub(super) fn overlay(
    root: &mut Table,
    prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<Problem> {
    let mut settings: Vec<(Vec<String>, String, String)> = variables
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(prefix)?.split("__").map(str::to_ascii_lowercase).collect();
            Some((path, name, value))
        })
        .collect();
    // Index 2 before index 10, so that a list grows in order.
    settings.sort_by_cached_key(|(path, ..)| {
        path.iter().map(|step| (step.parse::<usize>().ok(), step.clone())).collect::<Vec<_>>()
    });
    let mut problems = Vec::new();
    for (path, name, value) in settings {
        let place = Place::Variable(name);
        if let Err(message) = set(root, &path, &place, value) {
            problems.push(Problem { place, message });
        }
    }
    problems
}

fn set(table: &mut Table, path: &[String], place: &Place, text: String) -> Result<(), String> {
    let Some((key, rest)) = path.split_first().filter(|(key, _)| !key.is_empty()) else {
        return Err("not the name of a setting: a table and its key are separated by two underscores".to_owned());
    };
    let Some(next) = rest.first() else {
        table.insert(key.clone(), Entry { place: place.clone(), value: Value::Text(text) });
        return Ok(());
    };
    let empty = || if next.parse::<usize>().is_ok() { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
    let entry = table.entry(key.clone()).or_insert_with(|| Entry { place: place.clone(), value: empty() });
    match &mut entry.value {
        Value::Table(inner) => set(inner, rest, place, text),
        Value::Array(items) => {
            let index = next.parse::<usize>().ok().filter(|index| *index <= items.len() && rest.len() > 1);
            let Some(index) = index else {
                return Err(format!("{key} has {} entries: name one by its index, or the next one", items.len()));
            };
            if index == items.len() {
                items.push(Entry { place: place.clone(), value: Value::Table(Table::new()) });
            }
            match &mut items[index].value {
                Value::Table(inner) => set(inner, &rest[1..], place, text),
                other => Err(format!("{key}[{index}] is {}, not a table", other.kind())),
            }
        }
        other => Err(format!("{key} is {}, not a table: nothing can be set inside it", other.kind())),
    }
}

fn convert(value: &DeValue<'_>, place: &impl Fn(usize) -> Place) -> Value {
    let item =
        |item: &Spanned<DeValue<'_>>| Entry { place: place(item.span().start), value: convert(item.get_ref(), place) };
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        // What does not even fit 128 bits is out of every range.
        DeValue::Integer(number) => {
            Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(items.iter().map(item).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, place)),
    }
}

fn convert_table(table: &DeTable<'_>, place: &impl Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        let entry = Entry { place: place(key.span().start), value: convert(value.get_ref(), place) };
        (key.get_ref().to_string(), entry)
    };
    table.iter().map(entry).collect()
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl Place {
    /// Files before the environment, top to bottom; what has no place comes last.
    pub(super) fn order(&self) -> (u8, (usize, usize)) {
        match self {
            Self::File { position, .. } => (0, *position),
            Self::Variable(_) => (1, (0, 0)),
            Self::Unset => (2, (0, 0)),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unset => f.write_str("configuration")?,
            Place::File { path, position: (line, column) } => write!(f, "{}:{line}:{column}", path.display())?,
            Place::Variable(name) => f.write_str(name)?,
        }
        write!(f, ": {}", self.message)
    }
}
