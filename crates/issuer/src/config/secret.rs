//! A secret that came from configuration: never shown, wiped when dropped.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// A secret text. `Debug` does not show it, there is no `Display`, and its memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text that nobody should see again.
    #[must_use]
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        Secret(text.into())
    }

    /// Reads a secret from a file, such as one mounted by an orchestrator, without the newline at its end.
    ///
    /// # Errors
    /// What is wrong with the file, in words that name it: unreadable, empty, too long or not UTF-8.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        // With the limit reserved, the text never moves while it grows, so no copy of it is left behind.
        let mut text = Zeroizing::new(String::with_capacity(FILE_LIMIT_BYTES + 1));
        File::open(path)
            .and_then(|file| file.take(FILE_LIMIT_BYTES as u64 + 1).read_to_string(&mut text))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if text.len() > FILE_LIMIT_BYTES {
            return Err(format!("{} is longer than {FILE_LIMIT_BYTES} bytes", path.display()));
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let length = line.strip_suffix('\r').unwrap_or(line).len();
        text.truncate(length);
        if text.is_empty() {
            return Err(format!("{} is empty", path.display()));
        }
        Ok(Secret(text))
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Longer than any secret a person or a generator makes, shorter than a file named by mistake.
const FILE_LIMIT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("writable");
        file
    }

    #[test]
    fn debug_does_not_show_a_secret() {
        let secret = Secret::new("correct horse".to_owned());

        let shown = format!("{secret:?}");

        assert_eq!(shown, "Secret(…)");
    }

    #[test]
    fn the_newline_at_the_end_of_a_file_is_not_part_of_the_secret() {
        for (content, expected) in
            [("s3\n", "s3"), ("s3\r\n", "s3"), ("s3", "s3"), ("s3\n\n", "s3\n"), (" s3 ", " s3 ")]
        {
            let file = file_with(content.as_bytes());

            let secret = Secret::from_file(file.path()).expect("readable");

            assert_eq!(secret.expose(), expected);
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused_by_name() {
        for content in [&b""[..], b"\n", b"\xff\xfe", &[b'x'; FILE_LIMIT_BYTES + 1]] {
            let file = file_with(content);

            let refusal = Secret::from_file(file.path()).expect_err("nothing usable in it");

            assert!(refusal.contains(&file.path().display().to_string()), "{refusal}");
        }
    }
}
