//! The table for people, and the same figures for machines.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::statistics::Spread;

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// It is told, not judged.
    None,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `group/what`, by which it can be asked for.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// What the limit or the peer is, and its figure.
    pub(crate) peer: (String, f64),
    pub(crate) ratio: Spread,
    pub(crate) target: Target,
    /// What stands beside: throughput, latencies.
    pub(crate) note: String,
}

/// All lines, those too that could not be measured.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    missing: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds words to the row that was added last.
    pub(crate) fn note_last(&mut self, note: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.note = format!("{note}; {}", row.note);
        }
    }

    /// Says why a row is not there.
    pub(crate) fn missing(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.missing.push((name.into(), why.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.missing.is_empty()
    }

    /// In columns, as wide as they need to be.
    pub(crate) fn render(&self) -> String {
        let heads = ["row", "ours", "peer or limit", "", "unit", "ratio", "min-max", "target", "met", "beside"];
        let mut lines = vec![heads.map(str::to_owned)];
        for row in &self.rows {
            let Spread { median, min, max } = row.ratio;
            lines.push([
                row.name.clone(),
                number(row.ours),
                row.peer.0.clone(),
                number(row.peer.1),
                row.unit.to_owned(),
                number(median),
                format!("{}-{}", number(min), number(max)),
                row.target.words(),
                row.is_met().map_or("-", |met| if met { "yes" } else { "NO" }).to_owned(),
                row.note.clone(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let mut out = String::new();
            for (column, cell) in line.iter().enumerate() {
                let (width, gap) = (widths[column], if column == 0 { "" } else { "  " });
                let _ = match column {
                    1 | 3 | 5 | 6 => write!(out, "{gap}{cell:>width$}"),
                    _ => write!(out, "{gap}{cell:<width$}"),
                };
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        for (name, why) in &self.missing {
            let _ = writeln!(text, "{name:<0$}  not measured: {why}", widths[0]);
        }
        text
    }

    /// Writes it as JSON, with what `about` says of the run.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn write(&self, file: &Path, about: &Value) -> Result<()> {
        let rows = self.rows.iter().map(|row| {
            let (at_least, at_most) = match row.target {
                Target::AtLeast(bound) => (Some(bound), None),
                Target::AtMost(bound) => (None, Some(bound)),
                Target::None => (None, None),
            };
            json!({
                "row": row.name, "unit": row.unit, "ours": row.ours,
                "peer": { "what": row.peer.0, "value": row.peer.1 },
                "ratio": { "median": row.ratio.median, "min": row.ratio.min, "max": row.ratio.max },
                "target": { "at_least": at_least, "at_most": at_most },
                "met": row.is_met(), "beside": row.note,
            })
        });
        let missing = self.missing.iter().map(|(name, why)| json!({ "row": name, "why": why }));
        let report = json!({
            "about": about,
            "rows": rows.collect::<Vec<_>>(),
            "not_measured": missing.collect::<Vec<_>>(),
        });
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(file, format!("{report:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(bound) => Some(self.ratio.median >= bound),
            Target::AtMost(bound) => Some(self.ratio.median <= bound),
            Target::None => None,
        }
    }
}

impl Target {
    fn words(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::None => String::new(),
        }
    }
}

/// Three or four digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ratio: f64, target: Target) -> Row {
        Row {
            name: name.to_owned(),
            unit: "requests/core s",
            ours: 36_123.4,
            peer: ("bare server".to_owned(), 40_000.0),
            ratio: Spread { median: ratio, min: ratio - 0.01, max: ratio + 0.01 },
            target,
            note: "p50 1 ms".to_owned(),
        }
    }

    #[test]
    fn the_table_says_what_was_met_and_what_was_not_measured() {
        let mut table = Table::default();
        assert!(table.is_empty());
        table.add(row("token/ES256", 0.903, Target::AtLeast(0.9)));
        table.add(row("login/password", 1.2, Target::AtMost(1.1)));
        table.add(row("x", 3.0, Target::None));
        table.missing("verification/fast-jwt", "fast-jwt is not installed");

        let text = table.render();

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1].contains("36123") && lines[1].contains("0.903") && lines[1].contains(">= 0.9  yes"), "{text}");
        assert!(lines[2].contains("<= 1.1  NO"), "{text}");
        assert!(lines[3].ends_with("  -    p50 1 ms"), "{text}");
        assert_eq!(lines[4], "verification/fast-jwt  not measured: fast-jwt is not installed");
    }

    #[test]
    fn machines_read_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("new/bench.json");
        let mut table = Table::default();
        table.add(row("token/ES256", 0.8, Target::AtLeast(0.9)));
        table.missing("documents/jwks-nginx", "nginx is not installed");

        table.write(&file, &json!({ "quick": true })).expect("it can be written");

        let text = std::fs::read_to_string(file).expect("it was written");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(report["about"]["quick"], true);
        assert_eq!(report["rows"][0]["met"], false);
        assert_eq!(report["rows"][0]["target"]["at_least"], 0.9);
        assert_eq!(report["not_measured"][0]["why"], "nginx is not installed");
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!([36_123.4, 123.45, 12.345, 0.90312].map(number), ["36123", "123.5", "12.35", "0.903"]);
    }
}
