//! The identity headers: what the service behind the gate learns of the token, and what nobody else may tell it.
//!
//! A value is the claim's text: a string as it is, the members of an array divided by commas, numbers, booleans and objects
//! as JSON. So that every value is one line of visible ASCII with one reading, `%`, `,` (within a member or a string),
//! control characters, everything beyond ASCII, and spaces at either end are percent-encoded as UTF-8. A claim that is
//! absent, null or empty makes an empty header: a proxy that copies headers then overwrites what the client has sent.

use std::collections::BTreeSet;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// Which claims go into which headers.
#[derive(Clone, Debug)]
pub(crate) struct IdentityHeaders {
    headers: Vec<(HeaderName, Claim)>,
    /// The names in the spelling that services may not tell apart from them.
    folded: BTreeSet<String>,
}

/// Where a claim is: its name, or the way to a nested one as a JSON pointer (RFC 6901), such as `/realm_access/roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim(String);

/// A value of more than [`MAX_VALUE_BYTES`], which a service could not read whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) header: HeaderName,
}

impl IdentityHeaders {
    pub(crate) fn new(headers: Vec<(HeaderName, Claim)>) -> Self {
        let folded = headers.iter().map(|(name, _)| fold(name)).collect();
        Self { headers, folded }
    }

    /// Every header with its value; all of them empty where there are no claims.
    pub(crate) fn values(
        &self,
        claims: Option<&Map<String, Value>>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, TooLong> {
        let value = |(name, claim): &(HeaderName, Claim)| {
            let text = claims.and_then(|claims| claim.of(claims)).map(text).unwrap_or_default();
            let value = HeaderValue::try_from(text).ok().filter(|value| value.len() <= MAX_VALUE_BYTES);
            Ok((name.clone(), value.ok_or_else(|| TooLong { header: name.clone() })?))
        };
        self.headers.iter().map(value).collect()
    }

    /// Takes away every header that the service could take for one of ours.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        let forged: Vec<HeaderName> =
            headers.keys().filter(|name| self.folded.contains(&fold(name))).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    }

    /// Whether a header is there that looks like one of ours to many services, and is none: `X_Auth_Subject`. A proxy that
    /// copies our headers does not overwrite it.
    pub(crate) fn are_imitated(&self, headers: &HeaderMap) -> bool {
        let is_own = |name: &HeaderName| self.headers.iter().any(|(own, _)| own == name);
        headers.keys().any(|name| !is_own(name) && self.folded.contains(&fold(name)))
    }
}

impl Claim {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() { Err("expected the name of a claim") } else { Ok(Self(text.to_owned())) }
    }

    fn of<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
        claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }
}

/// CGI and its heirs (WSGI, Rack, PHP) write every character of a name that is no letter or digit as `_`, so that several
/// headers become one variable.
fn fold(name: &HeaderName) -> String {
    name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn text(claim: &Value) -> String {
    match claim {
        Value::Null => String::new(),
        Value::String(text) => encoded(text),
        Value::Array(members) => members.iter().map(text).collect::<Vec<_>>().join(","),
        other => encoded(&other.to_string()),
    }
}

fn encoded(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut encoded = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let is_plain =
            matches!(byte, b'!'..=b'~') && byte != b'%' && byte != b',' || byte == b' ' && at != 0 && at != last;
        if is_plain { encoded.push(char::from(byte)) } else { encoded.push_str(&format!("%{byte:02X}")) }
    }
    encoded
}

/// Services read 8 KiB for all headers at the least; what is longer would be refused there, or cut.
const MAX_VALUE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> IdentityHeaders {
        let pair = |(name, claim): &(&str, &str)| (name.parse().expect(name), Claim::parse(claim).expect(claim));
        IdentityHeaders::new(pairs.iter().map(pair).collect())
    }

    fn value(claim: Value) -> String {
        let claims = Map::from_iter([("c".to_owned(), claim)]);
        let values = headers(&[("x-c", "c")]).values(Some(&claims)).expect("a short value");
        values[0].1.to_str().expect("visible ASCII").to_owned()
    }

    #[test]
    fn claims_become_one_line_of_visible_ascii() {
        for (claim, expected) in [
            (json!("alice"), "alice"),
            (json!("invoices:read invoices:write"), "invoices:read invoices:write"),
            (json!(["admin", "auditor"]), "admin,auditor"),
            (json!(["a,b", "c"]), "a%2Cb,c"),
            (json!("a,b"), "a%2Cb"),
            (json!("100%"), "100%25"),
            (json!("Zoë"), "Zo%C3%AB"),
            (json!("a\r\nX-Auth-Roles: admin"), "a%0D%0AX-Auth-Roles: admin"),
            (json!(" a "), "%20a%20"),
            (json!(" "), "%20"),
            (json!("\u{0}\u{7f}"), "%00%7F"),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!({"a": 1}), "{\"a\":1}"),
            (json!(null), ""),
            (json!([]), ""),
            (json!(""), ""),
        ] {
            assert_eq!(value(claim.clone()), expected, "{claim}");
        }
    }

    #[test]
    fn every_header_is_there_whatever_the_claims_are() {
        let headers = headers(&[("x-auth-subject", "sub"), ("x-auth-email", "email")]);
        let claims = Map::from_iter([("sub".to_owned(), json!("alice"))]);

        let with = headers.values(Some(&claims)).expect("short values");
        let without = headers.values(None).expect("short values");

        assert_eq!(with.iter().map(|(_, value)| value.as_bytes()).collect::<Vec<_>>(), [&b"alice"[..], b""]);
        assert_eq!(without.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn a_nested_claim_is_found_by_its_pointer() {
        let headers = headers(&[("x-roles", "/realm_access/roles"), ("x-url", "https://example.com/team")]);
        let claims = json!({"realm_access": {"roles": ["a"]}, "https://example.com/team": "blue"});

        let values = headers.values(claims.as_object()).expect("short values");

        assert_eq!(values.iter().map(|(_, value)| value.as_bytes()).collect::<Vec<_>>(), [&b"a"[..], b"blue"]);
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_rather_than_cut() {
        let claims = Map::from_iter([("c".to_owned(), json!("x".repeat(MAX_VALUE_BYTES + 1)))]);

        let refused = headers(&[("x-c", "c")]).values(Some(&claims));

        assert_eq!(refused, Err(TooLong { header: HeaderName::from_static("x-c") }));
    }

    #[test]
    fn every_spelling_of_a_header_is_stripped() {
        let identity = headers(&[("x-auth-subject", "sub")]);
        let mut sent = HeaderMap::new();
        for name in
            ["x-auth-subject", "x_auth_subject", "x-auth_subject", "x.auth.subject", "X-AUTH-SUBJECT", "x-other"]
        {
            sent.append(HeaderName::try_from(name).expect(name), HeaderValue::from_static("root"));
        }

        assert!(identity.are_imitated(&sent));
        identity.strip(&mut sent);

        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other"]);
    }

    #[test]
    fn a_header_of_its_own_name_is_no_imitation() {
        let mut sent = HeaderMap::new();
        sent.insert("x-auth-subject", HeaderValue::from_static("root"));

        assert!(!headers(&[("x-auth-subject", "sub")]).are_imitated(&sent));
    }

    proptest! {
        #[test]
        fn a_value_has_one_reading(text in any::<String>()) {
            let value = value(json!(text));
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(value.trim(), &value);
            let mut decoded = Vec::new();
            let mut rest = value.bytes();
            while let Some(byte) = rest.next() {
                if byte == b'%' {
                    let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.expect("a digit")));
                    let digit = |at: usize| u8::try_from(digits[at].to_digit(16).expect("a digit")).expect("a nibble");
                    decoded.push(digit(0) << 4 | digit(1));
                } else {
                    decoded.push(byte);
                }
            }
            prop_assert_eq!(decoded, text.into_bytes());
        }
    }
}
