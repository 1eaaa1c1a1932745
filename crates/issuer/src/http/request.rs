//! Reading requests, bounded and strict.
//!
//! "Request and response parameters MUST NOT be included more than once" (RFC 6749 §3.1), so forms are not read by a
//! lenient extractor that keeps the first or the last.

use std::net::IpAddr;
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// Why a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the body must be application/x-www-form-urlencoded")]
    ContentType,
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokenOff,
    #[error("the body is not well-formed form encoding of UTF-8 text")]
    Malformed,
    #[error("there are too many parameters")]
    TooMany,
    #[error("a parameter is included more than once")]
    Repeated,
}

/// What comes behind the head of a request: from the router in a box, or as hyper has it.
pub(crate) trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin> RequestBody for B {}

/// Who sent the request, as far as is known: whoever is at the other end of the connection, or behind a proxy of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The parameters of a form. A parameter without a value counts as omitted (RFC 6749 §3.1).
#[derive(Debug)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body of a request with these headers as a form.
    pub(crate) async fn read<B: RequestBody>(
        headers: &HeaderMap,
        body: B,
        limit: usize,
        deadline: Duration,
    ) -> Result<Self, RequestError> {
        if !is_form(headers) {
            return Err(RequestError::ContentType);
        }
        let body = read_body(body, limit, deadline).await?;
        Self::parse(&body)
    }

    /// Parses `application/x-www-form-urlencoded` text (WHATWG URL §5.1), refusing what a lenient parser mends.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let mut parameters: Vec<(String, String)> = Vec::with_capacity(8);
        for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(place) => (&pair[..place], &pair[place + 1..]),
                None => (pair, &[][..]),
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if !REPEATABLE.contains(&name.as_str()) && parameters.iter().any(|(known, _)| *known == name) {
                return Err(RequestError::Repeated);
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(RequestError::TooMany);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// Reads the query of an address.
    pub(crate) fn of_query(uri: &Uri) -> Result<Self, RequestError> {
        Self::parse(uri.query().unwrap_or_default().as_bytes())
    }

    /// All parameters, in their order, those without a value too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a parameter that can stand only once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter that can be repeated.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// Decodes `%XX` and `+`; the result must be UTF-8 without control characters.
pub(crate) fn decode(text: &[u8]) -> Result<String, RequestError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (&[high, low], tail) = rest.split_first_chunk().ok_or(RequestError::Malformed)?;
                rest = tail;
                hex_digit(high).ok_or(RequestError::Malformed)? << 4 | hex_digit(low).ok_or(RequestError::Malformed)?
            }
            other => other,
        });
    }
    let decoded = String::from_utf8(decoded).map_err(|_| RequestError::Malformed)?;
    if decoded.chars().any(char::is_control) {
        return Err(RequestError::Malformed);
    }
    Ok(decoded)
}

/// Reads a body that is no form.
pub(crate) async fn read_body<B: RequestBody>(
    body: B,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, RequestError> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(RequestError::TooLarge);
    }
    match tokio::time::timeout(deadline, Limited::new(body, limit).collect()).await {
        Err(_) => Err(RequestError::TooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(RequestError::TooLarge),
        Ok(Err(_)) => Err(RequestError::BrokenOff),
    }
}

/// Whether the body is said to be a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// RFC 8707 §2: several resources are several parameters.
const REPEATABLE: [&str; 1] = ["resource"];

/// More than any OAuth request has; keeps the search for repetitions cheap.
const MAX_PARAMETERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let form = Form::parse(b"grant_type=client_credentials&scope=a+b%2Bc&empty=&=x&flag").expect("a form");

        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("a b+c"));
        assert_eq!(form.get("empty"), None, "a parameter without a value is omitted");
        assert_eq!(form.get("flag"), None);
    }

    #[test]
    fn a_repeated_parameter_is_refused_unless_it_may_be() {
        assert_eq!(Form::parse(b"a=1&a=2").err(), Some(RequestError::Repeated));
        assert_eq!(Form::parse(b"a=1&%61=").err(), Some(RequestError::Repeated));
        let form = Form::parse(b"resource=x&resource=y").expect("resources repeat");
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn what_a_lenient_parser_mends_is_refused() {
        for body in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%00", "a=%0a", "%c3=1", "a=%+1"] {
            assert_eq!(Form::parse(body.as_bytes()).err(), Some(RequestError::Malformed), "{body}");
        }
    }

    #[test]
    fn a_thousand_parameters_are_refused() {
        let body = (0..1000).map(|number| format!("p{number}=1")).collect::<Vec<_>>().join("&");

        assert_eq!(Form::parse(body.as_bytes()).err(), Some(RequestError::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(text in "[^\\p{Cc}]{0,40}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes()), Ok(text));
        }
    }
}
