//! Text that came from outside, on its way into a log.

/// The start of `text` in quotes, with everything but plain printable ASCII escaped: safe in a log line, and bounded.
pub(crate) fn excerpt(text: &str) -> String {
    let escaped: String = text.chars().take(MAX_CHARS).flat_map(char::escape_default).collect();
    let cut = if text.chars().nth(MAX_CHARS).is_some() { "…" } else { "" };
    format!("\"{escaped}{cut}\"")
}

/// A SHA-256 thumbprint in base64url has 43 characters, a UUID 36: real ids are shown whole.
const MAX_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_escaped_and_cut() {
        assert_eq!(excerpt("key-1"), r#""key-1""#);
        assert_eq!(excerpt("a\n\u{202e}\"b"), r#""a\n\u{202e}\"b""#);
        assert_eq!(excerpt(&"x".repeat(10_000)).chars().count(), MAX_CHARS + 3);
    }
}
