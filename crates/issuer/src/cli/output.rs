//! What commands print: tables for people, JSON for machines, and no panic when the reader has gone.

use std::io::Write;

/// Writes to standard output. A closed pipe (`| head -1`) is the reader's choice, not an error.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    write_to(&mut std::io::stdout().lock(), text.as_bytes())
}

/// Writes raw bytes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> std::io::Result<()> {
    write_to(&mut std::io::stdout().lock(), bytes)
}

/// Writes a line to standard error; nobody can be told if that fails.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a JSON document.
pub(crate) fn print_json(document: &serde_json::Value) -> std::io::Result<()> {
    print(&format!("{document:#}\n"))
}

fn write_to(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A table with aligned columns.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["ID", "WHAT"]);
        table.row(["é".to_owned(), String::new()]);
        table.row(["long one".to_owned(), "x".to_owned()]);

        assert_eq!(table.render(), "ID        WHAT\né\nlong one  x\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        assert!(write_to(&mut Closed, b"text").is_ok());
    }
}
