//! JSON as tokens and key sets need it: read once, strings borrowed, and repeated member names noticed.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader take the last of two equal names. Two readers that choose differently see
//! two different tokens, so here a repeated name is found at any depth and the caller refuses it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::rejection::shown;
use crate::{Part, Rejection};

/// Any JSON value. Numbers are `f64`: the only ones that matter here are dates, far below 2^53.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool,
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// A JSON object, its members in the order they stand.
#[derive(Debug, PartialEq)]
pub(crate) struct Object<'a>(Vec<Member<'a>>);

#[derive(Debug, PartialEq)]
struct Member<'a> {
    /// The first eight bytes of the name as a number: they decide nearly every comparison, and cheaply.
    prefix: u64,
    name: Cow<'a, str>,
    value: Json<'a>,
}

impl Json<'_> {
    /// What this is, in words for an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// A member name that stands twice in one object, at any depth.
    pub(crate) fn repeated_name(&self) -> Option<&str> {
        match self {
            Self::Array(items) => items.iter().find_map(Self::repeated_name),
            Self::Object(object) => object.repeated_name(),
            _ => None,
        }
    }
}

impl<'a> Object<'a> {
    /// The member of that name. Objects are small: one after the other is quicker than halving.
    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let wanted = prefix(name);
        let member = self.0.iter().find(|member| member.prefix == wanted && member.name == name)?;
        Some(&member.value)
    }

    /// The names of its members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|member| member.name.as_ref())
    }

    /// Whether that member stands in this object more than once.
    pub(crate) fn has_twice(&self, name: &str) -> bool {
        self.0.iter().filter(|member| member.name == name).count() > 1
    }

    /// A member name that stands twice in this object or in one inside it.
    pub(crate) fn repeated_name(&self) -> Option<&str> {
        self.own_repeated_name().or_else(|| self.0.iter().find_map(|member| member.value.repeated_name()))
    }

    fn own_repeated_name(&self) -> Option<&str> {
        let same = |a: &Member<'_>, b: &Member<'_>| a.prefix == b.prefix && a.name == b.name;
        if self.0.len() <= FEW_MEMBERS {
            let mut prefixes = [0; FEW_MEMBERS];
            for (index, member) in self.0.iter().enumerate() {
                let earlier = &prefixes[..index];
                if earlier.contains(&member.prefix) && self.0[..index].iter().any(|other| same(other, member)) {
                    return Some(&member.name);
                }
                prefixes[index] = member.prefix;
            }
            return None;
        }
        // Comparing each with each would let a hostile document cost the square of its length.
        let mut ordered: Vec<_> = self.0.iter().collect();
        ordered.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| a.name.cmp(&b.name)));
        ordered.windows(2).find(|pair| same(pair[0], pair[1])).map(|pair| pair[0].name.as_ref())
    }
}

#[inline]
fn prefix(name: &str) -> u64 {
    match name.as_bytes().first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => name.bytes().fold(0, |prefix, byte| prefix << 8 | u64::from(byte)),
    }
}

/// The text of a part of a token. One look at all bytes is quicker than the parser's at each string.
pub(crate) fn text(part: Part, bytes: &[u8]) -> Result<&str, Rejection> {
    str::from_utf8(bytes).map_err(|_| Rejection::NotAnObject { part })
}

/// Reads a part of a token as one JSON object without repeated names.
pub(crate) fn with_object<T, E: From<Rejection>>(
    part: Part,
    json: &str,
    read: impl FnOnce(&Object<'_>) -> Result<T, E>,
) -> Result<T, E> {
    with_outer(part, json, OUTERMOST, read)
}

/// The same for an object in which only the array called `array` is looked into; others seem empty. A token's roles and
/// the like are many small strings that nobody here reads.
pub(crate) fn with_object_and_array<T, E: From<Rejection>>(
    part: Part,
    json: &str,
    array: &'static str,
    read: impl FnOnce(&Object<'_>) -> Result<T, E>,
) -> Result<T, E> {
    with_outer(part, json, AnyValue { only_array: Some(array), ..OUTERMOST }, read)
}

fn with_outer<T, E: From<Rejection>>(
    part: Part,
    json: &str,
    outermost: AnyValue,
    read: impl FnOnce(&Object<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let Some(object) = PlainReader::object(json, outermost.only_array).or_else(|| any_object(json, outermost)) else {
        return Err(Rejection::NotAnObject { part }.into());
    };
    match object.repeated_name() {
        Some(name) => Err(Rejection::RepeatedMember { part, found: shown(name) }.into()),
        None => read(&object),
    }
}

fn any_object(json: &str, outermost: AnyValue) -> Option<Object<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = outermost.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    if let Json::Object(object) = value { Some(object) } else { None }
}

/// Reads objects as nearly all tokens have them: no escapes, no control characters, whole numbers, and nothing nested but
/// arrays of strings. For anything else it gives up and the general reader has its turn, so it decides nothing: what it
/// reads, that one would read in the same way, only more slowly.
struct PlainReader<'a> {
    rest: &'a str,
}

impl<'a> PlainReader<'a> {
    /// The object, unless it is not that plain. Arrays other than `only_array` are left empty.
    fn object(json: &'a str, only_array: Option<&str>) -> Option<Object<'a>> {
        // Looked for in all bytes at once, so that a string simply ends at the next quotation mark.
        if json.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'\\')) {
            return None;
        }
        let mut reader = Self { rest: json };
        let mut members = Vec::with_capacity(TYPICAL_MEMBERS);
        reader.token(b'{')?;
        loop {
            let name = reader.string()?;
            reader.token(b':')?;
            // Strings, the most frequent, are written where they belong at once.
            if reader.peek()? == b'"' {
                let value = Json::String(Cow::Borrowed(reader.string()?));
                members.push(Member { prefix: prefix(name), name: Cow::Borrowed(name), value });
            } else {
                let value = reader.value(only_array.is_none_or(|array| array == name))?;
                members.push(Member { prefix: prefix(name), name: Cow::Borrowed(name), value });
            }
            if reader.token(b',').is_none() {
                break;
            }
        }
        reader.token(b'}')?;
        reader.peek().is_none().then_some(Object(members))
    }

    /// A value other than a string.
    fn value(&mut self, keep_strings: bool) -> Option<Json<'a>> {
        match self.peek()? {
            b'[' => self.array(keep_strings),
            b't' => self.boolean("true"),
            b'f' => self.boolean("false"),
            _ => self.number(),
        }
    }

    fn boolean(&mut self, literal: &str) -> Option<Json<'a>> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(Json::Bool)
    }

    fn array(&mut self, keep_strings: bool) -> Option<Json<'a>> {
        let mut array = Vec::new();
        self.token(b'[')?;
        loop {
            let text = self.string()?;
            if keep_strings {
                array.push(Json::String(Cow::Borrowed(text)));
            }
            if self.token(b',').is_none() {
                break;
            }
        }
        self.token(b']')?;
        Some(Json::Array(array))
    }

    fn string(&mut self) -> Option<&'a str> {
        self.token(b'"')?;
        let (text, rest) = self.rest.split_once('"')?;
        self.rest = rest;
        Some(text)
    }

    /// A whole number that an `f64` holds exactly.
    fn number(&mut self) -> Option<Json<'a>> {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        let is_plain = matches!(length, 1..=15) && (length == 1 || !digits.starts_with('0'));
        // What may follow a number is a separator; a fraction or an exponent is for the general reader.
        if !is_plain || !rest.starts_with([',', '}', ' ']) {
            return None;
        }
        self.rest = rest;
        let number = digits.bytes().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        Some(Json::Number(number as f64))
    }

    /// Takes that byte, and spaces before it.
    fn token(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.rest = self.rest.get(1..)?;
        Some(())
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        if self.rest.starts_with(' ') {
            self.rest = self.rest.trim_start_matches(' ');
        }
        self.rest.as_bytes().first().copied()
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OUTERMOST)
    }
}

/// Reads any value.
#[derive(Clone, Copy)]
struct AnyValue {
    /// How many members an object gets room for at once. Only the outermost one does: in a hostile document each byte pair
    /// could be an object, and room for all of them would be a thousand times its size.
    members: usize,
    /// The member whose array is kept whole; unless given, all are.
    only_array: Option<&'static str>,
    /// Whether the scalars of an array are kept.
    scalars: bool,
}

const OUTERMOST: AnyValue = AnyValue { members: TYPICAL_MEMBERS, only_array: None, scalars: true };
const NESTED: AnyValue = AnyValue { members: 0, ..OUTERMOST };
const NESTED_WITHOUT_SCALARS: AnyValue = AnyValue { scalars: false, ..NESTED };
/// As many as a token of ours has.
const TYPICAL_MEMBERS: usize = 16;
/// As many as are compared each with each.
const FEW_MEMBERS: usize = 32;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let inner = AnyValue { members: 0, ..self };
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            if self.scalars || matches!(item, Json::Array(_) | Json::Object(_)) {
                array.push(item);
            }
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::with_capacity(self.members);
        while let Some(Name(name)) = members.next_key()? {
            let inner = match self.only_array {
                Some(array) if array != name => NESTED_WITHOUT_SCALARS,
                Some(_) => NESTED,
                None => AnyValue { members: 0, ..self },
            };
            let value = members.next_value_seed(inner)?;
            object.push(Member { prefix: prefix(&name), name, value });
        }
        Ok(Json::Object(Object(object)))
    }
}

/// A member name; unlike `Cow`'s own implementation this one borrows.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Json<'_> {
        serde_json::from_str(text).expect("test input is JSON")
    }

    #[test]
    fn repeated_names_are_found_at_any_depth() {
        for text in [
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"{"x":[0,[{"a":1,"a":2}]]}"#,
            // An escape spells the same name.
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(parse(text).repeated_name(), Some("a"), "{text}");
        }
    }

    #[test]
    fn equal_names_in_different_objects_are_no_repetition() {
        assert_eq!(parse(r#"{"a":{"a":[{"a":1},{"a":2}]},"A":1}"#).repeated_name(), None);
    }

    #[test]
    fn members_are_found_by_name() {
        let Json::Object(object) = parse(r#"{"z":1,"a":"x","m":[],"k":{},"b":true,"n":null}"#) else {
            panic!("the text is an object");
        };

        let kinds = ["z", "a", "m", "k", "b", "n"].map(|name| object.get(name).map(Json::kind));

        assert_eq!(kinds, ["a number", "a string", "an array", "an object", "a boolean", "null"].map(Some));
        assert!(object.get("missing").is_none());
    }

    #[test]
    fn names_that_begin_alike_are_told_apart() {
        let Json::Object(object) = parse(r#"{"authorized":1,"authoriz":"x","authorizing":[],"a":null,"a\u0000":true}"#)
        else {
            panic!("the text is an object");
        };

        let kinds = ["authorized", "authoriz", "authorizing", "a", "a\0", "authori", ""]
            .map(|name| object.get(name).map(Json::kind));

        assert_eq!(kinds[..5], ["a number", "a string", "an array", "null", "a boolean"].map(Some));
        assert_eq!(kinds[5..], [None, None]);
        assert_eq!(object.repeated_name(), None);
        assert_eq!(
            parse(r#"{"authorized":1,"b":1,"authorizing":1,"authorized":1}"#).repeated_name(),
            Some("authorized")
        );
    }

    /// What the general reader makes of a text.
    fn read_generally<'a>(text: &'a str, only_array: Option<&'static str>) -> Option<Object<'a>> {
        any_object(text, AnyValue { only_array, ..OUTERMOST })
    }

    #[test]
    fn plain_objects_are_read_the_short_way() {
        for text in [
            r#"{"iss":"https://id.example.com","exp":1795330800,"aud":["a","b"],"roles":["x"],"t":true,"f":false}"#,
            r#" { "a" : "b" , "c" : [ "d" , "e" ] , "f" : 0 } "#,
            r#"{"a":"","":"é","a":"twice"}"#,
        ] {
            for only_array in [None, Some("aud")] {
                let plain = PlainReader::object(text, only_array);
                assert!(plain.is_some(), "{text}");
                assert_eq!(plain, read_generally(text, only_array), "{text}");
            }
        }
    }

    #[test]
    fn anything_else_is_left_to_the_general_reader() {
        for text in [
            "",
            " ",
            "{",
            "{}",
            "[]",
            "\"a\"",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1}x"#,
            r#"{"a":1}}"#,
            r#"{"a":01}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e2}"#,
            r#"{"a":-1}"#,
            r#"{"a":1234567890123456}"#,
            r#"{"a":1"b":2}"#,
            r#"{"a":[]}"#,
            r#"{"a":["b",]}"#,
            r#"{"a":["b"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":truefalse}"#,
            r#"{"a":tru}"#,
            r#"{"a":null}"#,
            r#"{"a":"\u0062"}"#,
            "{\"a\":\"\n\"}",
            "{\n\"a\":1}",
            r#"{"a":"b"#,
            r#"{"a:1}"#,
            r#"{a:1}"#,
        ] {
            assert_eq!(PlainReader::object(text, None), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_readers_agree(text in r#" ?\{( ?"(a|aud|é|)" ?: ?("[a-z \\\\]{0,2}"|[0-9]{1,17}|-?[0-9.e]{1,4}|\["?a?"?(,"b")?\]|true|\{\}),?){0,4}\} ?"#) {
            for only_array in [None, Some("aud")] {
                if let Some(plain) = PlainReader::object(&text, only_array) {
                    prop_assert_eq!(Some(plain), read_generally(&text, only_array));
                }
            }
        }

        #[test]
        fn both_readers_agree_about_any_bytes(text in r#"[{}\[\]":, a0-9.\\\n-]{0,24}"#) {
            if let Some(plain) = PlainReader::object(&text, None) {
                prop_assert_eq!(Some(plain), read_generally(&text, None));
            }
        }

        #[test]
        fn repeated_names_are_found_in_objects_of_any_size(count in 2..80_usize, at in any::<prop::sample::Index>()) {
            let repeated = at.index(count);
            let members: Vec<_> = (0..count).map(|index| format!("\"common-prefix-{index}\":1")).collect();
            let text = format!("{{{}}}", members.join(","));
            prop_assert!(parse(&text).repeated_name().is_none());

            let text = format!("{{{},\"common-prefix-{repeated}\":2}}", members.join(","));
            let name = format!("common-prefix-{repeated}");
            prop_assert!(parse(&text).repeated_name() == Some(&name));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(serde_json::from_str::<Json<'_>>(&"[".repeat(100_000)).is_err());
        assert!(serde_json::from_str::<Json<'_>>(&r#"{"a":"#.repeat(100_000)).is_err());
    }
}
