//! What a request is called in the log.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The id of a request: made here, or given by a proxy of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// The random number of a connection, and the number of a request on it. Written out only where somebody reads it.
    Made { connection: u64, number: u32 },
    /// As a proxy has called it already.
    Given(HeaderValue),
}

impl RequestId {
    /// What a proxy called the request, if it did in a way that can stand in a log line.
    pub(crate) fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&HEADER).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let safe = (1..=LONGEST).contains(&value.len()) && value.as_bytes().iter().all(is_safe);
        safe.then(|| Self::Given(value.clone()))
    }

    /// As a header of the answer.
    pub(crate) fn to_header(&self) -> HeaderValue {
        match self {
            Self::Given(value) => value.clone(),
            Self::Made { connection, number } => {
                // Every answer has one, so it is written on the stack and copied once.
                let mut text = [b'-'; CONNECTION_DIGITS + 1 + 8];
                write_hex(&mut text[..CONNECTION_DIGITS], *connection);
                let digits = (32 - number.leading_zeros() as usize).div_ceil(4).max(1);
                let end = CONNECTION_DIGITS + 1 + digits;
                write_hex(&mut text[CONNECTION_DIGITS + 1..end], u64::from(*number));
                HeaderValue::from_bytes(&text[..end]).unwrap_or(HeaderValue::from_static("unknown"))
            }
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => formatter.write_str(value.to_str().unwrap_or_default()),
            Self::Made { connection, number } => write!(formatter, "{connection:012x}-{number:x}"),
        }
    }
}

/// Writes the last digits of a number in hexadecimal, as many as there is room for.
fn write_hex(text: &mut [u8], number: u64) {
    for (place, digit) in text.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 0xf];
    }
}

/// The name of the header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// 48 bits tell connections apart for as long as anybody keeps logs.
const CONNECTION_DIGITS: usize = 12;
/// Room for a UUID or a trace id with something around it.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).expect("a header"));
        }
        RequestId::given(&headers).map(|id| id.to_string())
    }

    #[test]
    fn only_a_short_and_plain_id_is_taken_over() {
        assert_eq!(given(&[b"4bf92f35-77b3.4da6_A"]).as_deref(), Some("4bf92f35-77b3.4da6_A"));
        assert_eq!(given(&[&[b'a'; LONGEST]]).map(|id| id.len()), Some(LONGEST));
        let hostile: [&[&[u8]]; 7] =
            [&[], &[b""], &[&[b'a'; LONGEST + 1]], &[b"a b"], &[b"a\"b"], &[b"\xe9"], &[b"one", b"other"]];
        for values in hostile {
            assert_eq!(given(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_header_says_what_the_log_says() {
        for (connection, number, text) in [
            (0, 0, "000000000000-0"),
            (0xab, 0x1f, "0000000000ab-1f"),
            (0xffff_ffff_ffff, u32::MAX, "ffffffffffff-ffffffff"),
        ] {
            let id = RequestId::Made { connection, number };

            assert_eq!(id.to_string(), text);
            assert_eq!(id.to_header(), text);
        }
    }
}
