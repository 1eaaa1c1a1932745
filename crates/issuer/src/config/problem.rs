//! What is wrong with a configuration, and where: collected while reading, told all together.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere in particular: a default, or a setting that is missing.
    Unset,
    /// In a file; without a line when the file as a whole is meant.
    File {
        /// The file, as it was named.
        path: Arc<Path>,
        /// Line and column, both counted from 1.
        position: Option<(usize, usize)>,
    },
    /// In the environment variable of this name.
    Environment(String),
}

/// One thing that is wrong with a configuration, or that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Place,
    message: String,
}

/// Everything that is wrong with a configuration; never empty. Displays as one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unknown: Vec<Unknown>,
    /// Every setting that was asked for, by its dotted name without indices.
    known: BTreeSet<String>,
}

#[derive(Debug)]
struct Unknown {
    place: Place,
    /// Dotted name of the table it is in, without indices; empty for the root.
    table: String,
    /// Dotted name as the owner wrote it.
    name: String,
    key: String,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Problem { place, message: message.into() }
    }

    /// Where the setting was made.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl ConfigErrors {
    pub(super) fn one(problem: Problem) -> Self {
        ConfigErrors(vec![problem])
    }

    /// The problems, those of the file in the order of its lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl Report {
    pub(super) fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>) {
        self.warnings.push(Problem::new(place, message));
    }

    pub(super) fn knows(&mut self, dotted: String) {
        self.known.insert(dotted);
    }

    pub(super) fn unknown(&mut self, place: Place, table: &str, name: String, key: String) {
        self.unknown.push(Unknown { place, table: table.to_owned(), name, key });
    }

    /// How many problems there are so far, unknown settings not counted.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// The warnings, or every problem in reading order.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, ConfigErrors> {
        for unknown in std::mem::take(&mut self.unknown) {
            let message = match self.nearest(&unknown) {
                Some(near) => format!("{}: no such setting; did you mean {near}?", unknown.name),
                None => format!("{}: no such setting", unknown.name),
            };
            self.problem(unknown.place, message);
        }
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        self.problems.sort_by_key(|problem| problem.place.order());
        Err(ConfigErrors(self.problems))
    }

    /// The known setting that an unknown one was probably meant to be: a similar name in the same table,
    /// or else the same name in another table.
    fn nearest(&self, unknown: &Unknown) -> Option<&str> {
        let siblings = self.known.iter().filter(|known| split_last(known).0 == unknown.table);
        let same_name = self.known.iter().filter(|known| split_last(known).1 == unknown.key);
        nearest(&unknown.key, siblings.map(|known| (split_last(known).1, known.as_str())))
            .or_else(|| same_name.map(String::as_str).next())
    }
}

impl Place {
    /// Files before the environment, top to bottom; what has no place comes last.
    fn order(&self) -> (u8, Option<(usize, usize)>) {
        match self {
            Place::File { position, .. } => (0, *position),
            Place::Environment(_) => (1, None),
            Place::Unset => (2, None),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unset => f.write_str("configuration"),
            Place::File { path, position: None } => write!(f, "{}", path.display()),
            Place::File { path, position: Some((line, column)) } => write!(f, "{}:{line}:{column}", path.display()),
            Place::Environment(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The value whose name is most like `name`, if any is like it at all.
pub(crate) fn nearest<'a, T>(name: &str, candidates: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    candidates
        .map(|(candidate, value)| (strsim::normalized_damerau_levenshtein(name, candidate), value))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, value)| value)
}

/// Splits `keys.poll` into `keys` and `poll`, and `issuer` into nothing and `issuer`.
fn split_last(dotted: &str) -> (&str, &str) {
    dotted.rsplit_once('.').unwrap_or(("", dotted))
}

/// From which likeness on (0 to 1) a guess helps more than it confuses: two wrong letters in five are still a guess.
const LIKE: f64 = 0.6;
