//! JSON as tokens and key sets need it: read once, strings borrowed, and repeated member names noticed.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader take the last of two equal names. Two readers that choose differently see
//! two different tokens, so here a repeated name is found at any depth and the caller refuses it.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

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
pub(crate) struct Object<'a> {
    members: Vec<Member<'a>>,
    /// Whether the [`PlainReader`] has read it: all of its values are then strings, whole numbers, booleans, and arrays of
    /// strings.
    plain: bool,
}

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

    /// The text, if this is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
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
        let member = self.members.iter().find(|member| member.prefix == wanted && member.name == name)?;
        Some(&member.value)
    }

    /// The names of its members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_ref())
    }

    /// Whether that member stands in this object more than once.
    pub(crate) fn has_twice(&self, name: &str) -> bool {
        self.members.iter().filter(|member| member.name == name).count() > 1
    }

    /// A member name that stands twice in this object or in one inside it.
    pub(crate) fn repeated_name(&self) -> Option<&str> {
        // There is no object in a plain one.
        let inner = || self.members.iter().find_map(|member| member.value.repeated_name());
        self.own_repeated_name().or_else(|| if self.plain { None } else { inner() })
    }

    /// Its members read into a type, if it is plain and the type is as well. What is not is for [`serde_json`], which
    /// would call the type's visitors in the same way.
    pub(crate) fn read_plain<C: DeserializeOwned>(&self) -> Option<C> {
        if self.plain { C::deserialize(PlainObject(self)).ok() } else { None }
    }

    fn own_repeated_name(&self) -> Option<&str> {
        let same = |a: &Member<'_>, b: &Member<'_>| a.prefix == b.prefix && a.name == b.name;
        if self.members.len() <= FEW_MEMBERS {
            let mut prefixes = [0; FEW_MEMBERS];
            for (index, member) in self.members.iter().enumerate() {
                let earlier = &prefixes[..index];
                if earlier.contains(&member.prefix) && self.members[..index].iter().any(|other| same(other, member)) {
                    return Some(&member.name);
                }
                prefixes[index] = member.prefix;
            }
            return None;
        }
        // Comparing each with each would let a hostile document cost the square of its length.
        let mut ordered: Vec<_> = self.members.iter().collect();
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
    let Some(object) = PlainReader::object(json).or_else(|| any_object(json)) else {
        return Err(Rejection::NotAnObject { part }.into());
    };
    match object.repeated_name() {
        Some(name) => Err(Rejection::RepeatedMember { part, found: shown(name) }.into()),
        None => read(&object),
    }
}

fn any_object(json: &str) -> Option<Object<'_>> {
    if let Ok(Json::Object(object)) = serde_json::from_str(json) { Some(object) } else { None }
}

/// Reads objects as nearly all tokens have them: no escapes, no control characters, whole numbers, and nothing nested but
/// arrays of strings. For anything else it gives up and the general reader has its turn, so it decides nothing: what it
/// reads, that one would read in the same way, only more slowly.
struct PlainReader<'a> {
    rest: &'a str,
}

impl<'a> PlainReader<'a> {
    /// The object, unless it is not that plain.
    fn object(json: &'a str) -> Option<Object<'a>> {
        // Looked for in all bytes at once, so that a string simply ends at the next quotation mark.
        if json.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'\\')) {
            return None;
        }
        let mut reader = Self { rest: json };
        let mut members = Vec::with_capacity(TYPICAL_MEMBERS);
        reader.token(b'{')?;
        loop {
            let (prefix, name) = reader.name()?;
            reader.token(b':')?;
            // Strings, the most frequent, are written where they belong at once.
            if reader.peek()? == b'"' {
                let value = Json::String(Cow::Borrowed(reader.string()?));
                members.push(Member { prefix, name: Cow::Borrowed(name), value });
            } else {
                let value = reader.value()?;
                members.push(Member { prefix, name: Cow::Borrowed(name), value });
            }
            if reader.token(b',').is_none() {
                break;
            }
        }
        reader.token(b'}')?;
        reader.peek().is_none().then_some(Object { members, plain: true })
    }

    /// A value other than a string.
    fn value(&mut self) -> Option<Json<'a>> {
        match self.peek()? {
            b'[' => self.array(),
            b't' => self.boolean("true"),
            b'f' => self.boolean("false"),
            _ => self.number(),
        }
    }

    fn boolean(&mut self, literal: &str) -> Option<Json<'a>> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(Json::Bool)
    }

    fn array(&mut self) -> Option<Json<'a>> {
        let mut array = Vec::new();
        self.token(b'[')?;
        loop {
            array.push(Json::String(Cow::Borrowed(self.string()?)));
            if self.token(b',').is_none() {
                break;
            }
        }
        self.token(b']')?;
        Some(Json::Array(array))
    }

    fn string(&mut self) -> Option<&'a str> {
        self.token(b'"')?;
        self.text()
    }

    /// A member's name, after its [`prefix`].
    fn name(&mut self) -> Option<(u64, &'a str)> {
        self.token(b'"')?;
        let ahead = self.rest.as_bytes().first_chunk().map(|ahead| u64::from_be_bytes(*ahead));
        let name = self.text()?;
        let prefix = match ahead {
            // What follows a short name is shifted out.
            Some(ahead) if name.len() < 8 => ahead.checked_shr(64 - 8 * name.len() as u32).unwrap_or(0),
            Some(ahead) => ahead,
            None => prefix(name),
        };
        Some((prefix, name))
    }

    /// What is left of a string, and its quotation mark.
    fn text(&mut self) -> Option<&'a str> {
        let length = quotation_mark(self.rest.as_bytes())?;
        let (text, rest) = self.rest.split_at(length);
        self.rest = &rest[1..];
        Some(text)
    }

    /// A whole number that an `f64` holds exactly.
    fn number(&mut self) -> Option<Json<'a>> {
        let (mut length, mut number) = (0, 0_u64);
        for digit in self.rest.bytes().take(16).take_while(u8::is_ascii_digit) {
            (length, number) = (length + 1, number * 10 + u64::from(digit - b'0'));
        }
        let (digits, rest) = self.rest.split_at(length);
        let is_plain = matches!(length, 1..=15) && (length == 1 || !digits.starts_with('0'));
        // What may follow a number is a separator; a fraction or an exponent is for the general reader.
        if !is_plain || !rest.starts_with([',', '}', ' ']) {
            return None;
        }
        self.rest = rest;
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

/// Where the first quotation mark is. Names and claims are short: looking at eight bytes at a time is quicker than one by
/// one, and quicker than a search that is made for long texts.
#[inline]
fn quotation_mark(text: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let (eights, rest) = text.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        // A byte is zero where the mark was. Taking one from it borrows, which leaves the top bit set; the first byte in which
        // that happens is right, and only those above it may be wrong.
        let marks = u64::from_le_bytes(*eight) ^ (EACH * u64::from(b'"'));
        let found = marks.wrapping_sub(EACH) & !marks & (EACH << 7);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let index = rest.iter().position(|byte| *byte == b'"')?;
    Some(eights.len() * 8 + index)
}

/// A plain object as a type's deserializer sees it.
struct PlainObject<'o>(&'o Object<'o>);

/// A value of one.
#[derive(Clone, Copy)]
struct PlainValue<'o>(&'o Json<'o>);

impl<'de> Deserializer<'de> for PlainObject<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let members = self.0.members.iter().map(|member| (member.name.as_ref(), PlainValue(&member.value)));
        let mut map = MapDeserializer::new(members);
        let read = visitor.visit_map(&mut map)?;
        map.end()?;
        Ok(read)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Deserializer<'de> for PlainValue<'_> {
    type Error = de::value::Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Json::String(text) => visitor.visit_str(text),
            // The plain reader takes whole numbers of 15 digits at most.
            Json::Number(number) => visitor.visit_u64(*number as u64),
            Json::Array(items) => {
                let mut items = SeqDeserializer::new(items.iter().map(PlainValue));
                let read = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(read)
            }
            // Which boolean it is was not kept.
            Json::Bool | Json::Null | Json::Object(_) => Err(de::Error::custom("not plain")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not plain"))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not plain"))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct seq tuple tuple_struct map
        struct identifier
    }
}

impl<'de> IntoDeserializer<'de> for PlainValue<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue { members: TYPICAL_MEMBERS })
    }
}

/// Reads any value; an object gets room for `members` at once. Only the outermost one does: in a hostile document each
/// byte pair could be an object, and room for all of them would be a thousand times its size.
struct AnyValue {
    members: usize,
}

const NESTED: AnyValue = AnyValue { members: 0 };
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
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(NESTED)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::with_capacity(self.members);
        while let Some(Name(name)) = members.next_key()? {
            let value = members.next_value_seed(NESTED)?;
            object.push(Member { prefix: prefix(&name), name, value });
        }
        Ok(Json::Object(Object { members: object, plain: false }))
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

    /// What the general reader makes of a text; plain, so that it can be compared.
    fn read_generally(text: &str) -> Option<Object<'_>> {
        any_object(text).map(|object| Object { plain: true, ..object })
    }

    #[test]
    fn plain_objects_are_read_the_short_way() {
        for text in [
            r#"{"iss":"https://id.example.com","exp":1795330800,"aud":["a","b"],"roles":["x"],"t":true,"f":false}"#,
            r#" { "a" : "b" , "c" : [ "d" , "e" ] , "f" : 0 } "#,
            r#"{"a":"","":"é","a":"twice"}"#,
        ] {
            let plain = PlainReader::object(text);
            assert!(plain.is_some(), "{text}");
            assert_eq!(plain, read_generally(text), "{text}");
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
            assert_eq!(PlainReader::object(text), None, "{text}");
        }
    }

    /// Kinds of members that types of callers have.
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Typed {
        text: Option<String>,
        #[serde(default)]
        number: f64,
        signed: Option<i8>,
        list: Option<Vec<String>>,
        kind: Option<Kind>,
        wrapped: Option<Wrapped>,
        #[serde(flatten)]
        others: std::collections::BTreeMap<String, serde_json::Value>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        A,
        B,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Wrapped(String);

    proptest! {
        #[test]
        fn types_are_read_as_serde_json_reads_them(
            text in r#"\{"text":("a"|1|\["a"\])(,"(text|number|signed|list|kind|wrapped|x)":("a"|"b"|7|300|\["a","b"\]|true)){0,4}\}"#,
        ) {
            let object = PlainReader::object(&text).expect("it is plain");
            let general = serde_json::from_str::<Typed>(&text).ok();
            if let Some(short) = object.read_plain::<Typed>() {
                prop_assert_eq!(Some(short), general);
            }
            let map = |json| serde_json::from_str::<std::collections::BTreeMap<String, serde_json::Value>>(json).ok();
            if let Some(short) = object.read_plain() {
                prop_assert_eq!(Some(short), map(&text));
            }
        }
    }

    #[test]
    fn the_short_way_leads_into_types() {
        let text = r#"{"text":"a","number":7,"signed":1,"list":["a","b"],"wrapped":"w","x":["y"]}"#;
        let short = PlainReader::object(text).and_then(|object| object.read_plain::<Typed>());
        assert!(short.is_some());
        assert_eq!(short, serde_json::from_str(text).ok());
    }

    proptest! {
        #[test]
        fn both_readers_agree(text in r#" ?\{( ?"(a|aud|é|)" ?: ?("[a-z \\\\]{0,2}"|[0-9]{1,17}|-?[0-9.e]{1,4}|\["?a?"?(,"b")?\]|true|\{\}),?){0,4}\} ?"#) {
            if let Some(plain) = PlainReader::object(&text) {
                if let Some(value) = plain.read_plain::<serde_json::Value>().filter(|_| plain.repeated_name().is_none()) {
                    prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
                }
                prop_assert_eq!(Some(plain), read_generally(&text));
            }
        }

        #[test]
        fn both_readers_agree_about_any_bytes(text in r#"[{}\[\]":, a0-9.\\\n-]{0,24}"#) {
            if let Some(plain) = PlainReader::object(&text) {
                prop_assert_eq!(Some(plain), read_generally(&text));
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

    proptest! {
        #[test]
        fn a_quotation_mark_is_found_wherever_it_is(text in "[!\"#\u{a2}a\u{a1}]{0,30}") {
            prop_assert_eq!(quotation_mark(text.as_bytes()), text.find('"'));
        }

        #[test]
        fn the_prefix_of_a_name_is_the_same_in_both_readers(name in "[a-zé]{0,12}", spaces in " {0,9}") {
            let text = format!("{{{spaces}\"{name}\":1}}");
            let object = PlainReader::object(&text).expect("it is plain");
            prop_assert_eq!(object.members[0].prefix, prefix(&name));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(serde_json::from_str::<Json<'_>>(&"[".repeat(100_000)).is_err());
        assert!(serde_json::from_str::<Json<'_>>(&r#"{"a":"#.repeat(100_000)).is_err());
    }
}
