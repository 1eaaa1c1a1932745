//! The path of a request, in the one spelling that the gate and every service behind it read alike.
//!
//! A rule for `/admin/**` is worth nothing when `/x/../admin`, `//admin` or `/%61dmin` reaches the same handler and is
//! matched as something else. Normalising would only move the problem: the service normalises in its own way. So nothing
//! is normalised. A path with a second reading is refused, which costs honest clients nothing, for they don't send one:
//!
//! | refused | because somebody reads it as |
//! | --- | --- |
//! | anything that does not begin with `/`: `http://host/x`, `*`, nothing | another host, or no path |
//! | an empty segment: `//` | nothing, so that segments move; at the front, a host |
//! | the segments `.` and `..`, and any segment that ends in a dot or a space | going up; Windows drops such ends |
//! | `\` and `%5C`, `%2F` | a slash |
//! | `;` and `%3B` | the beginning of parameters, which vanish |
//! | `%25` | a second round of decoding |
//! | letters, digits and `-._~` written with `%` | themselves (RFC 3986 §6.2.2.2), or not |
//! | control characters, NUL, `%3F`, `%23`, `#` | an end |
//! | bytes that are not UTF-8, overlong forms among them | anything |
//! | full-width letters, digits and delimiters, and other forms of dots, slashes and semicolons | the ASCII characters they look like |
//! | soft hyphens, zero-width spaces, marks of direction | nothing |
//! | what RFC 3986 §3.3 has no place for: spaces, quotes, brackets | |
//!
//! What is left has one reading: `%` and two digits of either case stand for a character that means nothing to a path, and
//! one slash at the end is insignificant, since many frameworks think so and a rule has to hold for them.

use std::fmt;

/// A path in its only spelling, cut into decoded segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath {
    segments: Vec<String>,
}

/// Why a path is refused. Says nothing of the path itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// It is longer than [`RequestPath::MAX_BYTES`].
    #[error("the path is longer than {} bytes", RequestPath::MAX_BYTES)]
    TooLong,
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// Two slashes stand side by side.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.`, `..`, or a segment that ends in a dot or a space.
    #[error("the path has a segment of dots, or one that ends in a dot or a space")]
    Dots,
    /// A character that a path does not have, or that would be read in two ways.
    #[error("the path has a character that must not be in it")]
    Character,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    Percent,
    /// A `%` and digits that stand for something that must not be written so.
    #[error("the path has a character in percent-encoding that must not be written so")]
    Encoded,
    /// Its bytes are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl RequestPath {
    /// The longest path that is read, in bytes: common servers stop at 8 KiB for the whole line.
    pub const MAX_BYTES: usize = 4096;

    /// Reads a path, without query.
    ///
    /// # Errors
    /// Every [`PathProblem`]; see the table of the module.
    pub fn parse(path: &[u8]) -> Result<Self, PathProblem> {
        if path.len() > Self::MAX_BYTES {
            return Err(PathProblem::TooLong);
        }
        let inner = path.strip_prefix(b"/").ok_or(PathProblem::NotAbsolute)?;
        if inner.is_empty() {
            return Ok(Self { segments: Vec::new() });
        }
        let inner = inner.strip_suffix(b"/").unwrap_or(inner);
        let segments = inner.split(|&byte| byte == b'/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }

    /// The decoded segments. A slash at the end makes none.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

/// In canonical spelling, without a slash at the end.
impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        for segment in &self.segments {
            f.write_str("/")?;
            for &byte in segment.as_bytes() {
                if is_path_byte(byte) { write!(f, "{}", char::from(byte))? } else { write!(f, "%{byte:02X}")? }
            }
        }
        Ok(())
    }
}

/// The path of a request target: what stands before its `?`. A `#` must not be in a target at all (RFC 9112 §3.2).
///
/// # Errors
/// Every [`PathProblem`].
pub fn path_of_target(target: &[u8]) -> Result<RequestPath, PathProblem> {
    if target.contains(&b'#') {
        return Err(PathProblem::Character);
    }
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    RequestPath::parse(path)
}

fn segment(raw: &[u8]) -> Result<String, PathProblem> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            if !is_path_byte(byte) {
                return Err(PathProblem::Character);
            }
            decoded.push(byte);
            continue;
        }
        let &[high, low, ref tail @ ..] = rest else { return Err(PathProblem::Percent) };
        let (Some(high), Some(low)) = (hex(high), hex(low)) else { return Err(PathProblem::Percent) };
        let byte = high << 4 | low;
        if !may_be_encoded(byte) {
            return Err(PathProblem::Encoded);
        }
        decoded.push(byte);
        rest = tail;
    }
    let text = String::from_utf8(decoded).map_err(|_| PathProblem::NotUtf8)?;
    if text.is_empty() {
        return Err(PathProblem::EmptySegment);
    }
    if text.ends_with(['.', ' ']) {
        return Err(PathProblem::Dots);
    }
    if text.chars().any(|c| c.is_control() || is_lookalike(c)) {
        return Err(PathProblem::Encoded);
    }
    Ok(text)
}

/// `pchar` of RFC 3986 §3.3 without `%`, and without the `;` that some servers cut a segment at.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Bytes that honest clients encode, and that mean the same to every reader.
fn may_be_encoded(byte: u8) -> bool {
    !(is_unreserved(byte) || byte.is_ascii_control() || b"/\\;%?#".contains(&byte))
}

/// Characters that some file systems and compatibility normalisations turn into ASCII, as far as it would matter in a path,
/// and those they leave out. U+200C and U+200D are left out by some as well, but words are written with them.
fn is_lookalike(c: char) -> bool {
    matches!(c,
        // # % . / 0-9 ; ? A-Z \ a-z in full width
        '\u{ff03}' | '\u{ff05}' | '\u{ff0e}'..='\u{ff19}' | '\u{ff1b}' | '\u{ff1f}' | '\u{ff21}'..='\u{ff3a}' | '\u{ff3c}'
        | '\u{ff41}'..='\u{ff5a}'
        // Dots, slashes, and signs with a slash in them; the Greek question mark is a semicolon.
        | '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{fe50}'..='\u{fe6b}'
        | '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}' | '\u{37e}'
        // Nothing at all.
        | '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(path: &str) -> Vec<String> {
        RequestPath::parse(path.as_bytes()).unwrap_or_else(|problem| panic!("{path}: {problem}")).segments
    }

    fn problem(path: impl AsRef<[u8]>) -> Option<PathProblem> {
        RequestPath::parse(path.as_ref()).err()
    }

    #[test]
    fn what_honest_clients_send_is_read() {
        assert_eq!(segments("/"), Vec::<String>::new());
        assert_eq!(segments("/api/v1/things:batch"), ["api", "v1", "things:batch"]);
        assert_eq!(segments("/users/alice%40example.com"), ["users", "alice@example.com"]);
        assert_eq!(segments("/files/caf%C3%A9%20menu.pdf"), ["files", "café menu.pdf"]);
        assert_eq!(segments("/%E6%9B%96%E6%98%A7%EF%BC%88%E4%BA%BA%EF%BC%89"), ["曖昧（人）"]);
        assert_eq!(segments("/.well-known/~alice/..a/a..b"), [".well-known", "~alice", "..a", "a..b"]);
    }

    #[test]
    fn one_slash_at_the_end_is_insignificant() {
        assert_eq!(segments("/api/me/"), segments("/api/me"));
    }

    #[test]
    fn the_case_of_percent_digits_is_insignificant() {
        assert_eq!(segments("/caf%c3%a9"), segments("/caf%C3%A9"));
        assert_eq!(segments("/caf%c3%A9"), segments("/caf%C3%A9"));
    }

    #[test]
    fn every_second_reading_is_refused() {
        for (path, expected) in [
            ("", PathProblem::NotAbsolute),
            ("*", PathProblem::NotAbsolute),
            ("admin", PathProblem::NotAbsolute),
            ("http://host/admin", PathProblem::NotAbsolute),
            ("//", PathProblem::EmptySegment),
            ("//admin", PathProblem::EmptySegment),
            ("/a//b", PathProblem::EmptySegment),
            ("/a//", PathProblem::EmptySegment),
            ("/.", PathProblem::Dots),
            ("/..", PathProblem::Dots),
            ("/a/../admin", PathProblem::Dots),
            ("/a/./admin", PathProblem::Dots),
            ("/admin.", PathProblem::Dots),
            ("/admin...", PathProblem::Dots),
            ("/admin%20", PathProblem::Dots),
            ("/..;/admin", PathProblem::Character),
            ("/admin;x=y", PathProblem::Character),
            ("/a\\admin", PathProblem::Character),
            ("/a b", PathProblem::Character),
            ("/a#b", PathProblem::Character),
            ("/a\0b", PathProblem::Character),
            ("/a\tb", PathProblem::Character),
            ("/caf\u{e9}", PathProblem::Character),
            ("/%2e%2e/admin", PathProblem::Encoded),
            ("/%2E./admin", PathProblem::Encoded),
            ("/%61dmin", PathProblem::Encoded),
            ("/a%2fadmin", PathProblem::Encoded),
            ("/a%5cadmin", PathProblem::Encoded),
            ("/a%3badmin", PathProblem::Encoded),
            ("/%252e%252e/admin", PathProblem::Encoded),
            ("/a%00", PathProblem::Encoded),
            ("/a%0d%0ab", PathProblem::Encoded),
            ("/a%7f", PathProblem::Encoded),
            ("/a%3fb", PathProblem::Encoded),
            ("/a%23b", PathProblem::Encoded),
            ("/a%C2%85", PathProblem::Encoded),
            ("/a%EF%BC%8Fadmin", PathProblem::Encoded),
            ("/%EF%BC%8E%EF%BC%8E/admin", PathProblem::Encoded),
            ("/%EF%BD%81dmin", PathProblem::Encoded),
            ("/admin%CD%BEx", PathProblem::Encoded),
            ("/%E2%84%80", PathProblem::Encoded),
            ("/ad%C2%ADmin", PathProblem::Encoded),
            ("/ad%E2%80%8Bmin", PathProblem::Encoded),
            ("/%c0%ae%c0%ae/admin", PathProblem::NotUtf8),
            ("/a%e9", PathProblem::NotUtf8),
            ("/%u002e", PathProblem::Percent),
            ("/a%", PathProblem::Percent),
            ("/a%4", PathProblem::Percent),
            ("/a%/b", PathProblem::Percent),
        ] {
            assert_eq!(problem(path), Some(expected), "{path:?}");
        }
        assert_eq!(problem(b"/a\xff"), Some(PathProblem::Character));
    }

    #[test]
    fn a_path_is_bounded() {
        let longest = format!("/{}", "a".repeat(RequestPath::MAX_BYTES - 1));
        assert_eq!(problem(&longest), None);
        assert_eq!(problem(format!("{longest}a")), Some(PathProblem::TooLong));
    }

    #[test]
    fn a_query_is_not_part_of_the_path_and_a_fragment_is_not_part_of_a_target() {
        let path = path_of_target(b"/public?next=/../admin").expect("a path");
        assert_eq!(path.segments(), ["public"]);
        assert_eq!(path_of_target(b"/public#/../admin"), Err(PathProblem::Character));
        assert_eq!(path_of_target(b"?"), Err(PathProblem::NotAbsolute));
    }

    /// Bytes from which troublesome paths are made, more often than others.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            prop::sample::select(vec![
                "/", "//", ".", "..", "%2e", "%2f", "%5c", "\\", ";", "%", "%25", "%c3%a9", "%40", "@", "admin", "%00",
                "?", "#", "%c0%ae", "*", " ", "%20", "A", "~",
            ])
            .prop_map(|piece| piece.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
    }

    /// What a server does that decodes and cleans paths as often as it finds something to do.
    fn cleaned(path: &[u8]) -> Vec<Vec<u8>> {
        let mut decoded = path.to_vec();
        loop {
            let mut next = Vec::new();
            let mut rest = decoded.as_slice();
            while let Some((&byte, tail)) = rest.split_first() {
                rest = tail;
                match tail {
                    &[high, low, ref after @ ..] if byte == b'%' && hex(high).is_some() && hex(low).is_some() => {
                        next.push(hex(high).expect("a digit") << 4 | hex(low).expect("a digit"));
                        rest = after;
                    }
                    _ => next.push(byte),
                }
            }
            if next == decoded {
                break;
            }
            decoded = next;
        }
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for segment in decoded.split(|&byte| byte == b'/' || byte == b'\\') {
            let segment = segment.split(|&byte| byte == b';' || byte == 0).next().unwrap_or_default();
            match segment {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                other => segments.push(other.to_vec()),
            }
        }
        segments
    }

    proptest! {
        #[test]
        fn a_path_that_is_read_means_the_same_to_a_server_that_decodes_and_cleans(bytes in hostile()) {
            if let Ok(path) = RequestPath::parse(&bytes) {
                let read: Vec<Vec<u8>> = path.segments().iter().map(|segment| segment.clone().into_bytes()).collect();
                prop_assert_eq!(read, cleaned(&bytes));
            }
        }

        #[test]
        fn the_canonical_spelling_is_read_as_the_same_path(bytes in hostile()) {
            if let Ok(path) = RequestPath::parse(&bytes) {
                prop_assert_eq!(RequestPath::parse(path.to_string().as_bytes()), Ok(path));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = path_of_target(&bytes);
        }
    }
}
