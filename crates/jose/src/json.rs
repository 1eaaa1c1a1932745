//! JSON as tokens and key sets need it: read once, strings borrowed, and repeated member names noticed.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader take the last of two equal names. Two readers that choose differently see
//! two different tokens, so here a repeated name is found at any depth and the caller refuses it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::rejection::shown;
use crate::{Part, Rejection};

/// Any JSON value. Numbers are `f64`: the only ones that matter here are dates, far below 2^53.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    Null,
    Bool,
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// A JSON object, its members ordered by name.
#[derive(Debug)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

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
    /// The member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let index = self.0.binary_search_by(|(member, _)| member.as_ref().cmp(name)).ok()?;
        Some(&self.0[index].1)
    }

    /// Whether that member stands in this object more than once.
    pub(crate) fn has_twice(&self, name: &str) -> bool {
        self.0.iter().filter(|(member, _)| member == name).count() > 1
    }

    /// A member name that stands twice in this object or in one inside it.
    pub(crate) fn repeated_name(&self) -> Option<&str> {
        let own = self.0.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.as_ref());
        own.or_else(|| self.0.iter().find_map(|(_, value)| value.repeated_name()))
    }
}

/// Reads a part of a token as one JSON object without repeated names.
pub(crate) fn with_object<T>(
    part: Part,
    json: &[u8],
    read: impl FnOnce(&Object<'_>) -> Result<T, Rejection>,
) -> Result<T, Rejection> {
    let Ok(Json::Object(object)) = serde_json::from_slice(json) else {
        return Err(Rejection::NotAnObject { part });
    };
    match object.repeated_name() {
        Some(name) => Err(Rejection::RepeatedMember { part, found: shown(name) }),
        None => read(&object),
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

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
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((Name(name), value)) = members.next_entry()? {
            object.push((name, value));
        }
        object.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
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
    fn nesting_is_bounded() {
        assert!(serde_json::from_str::<Json<'_>>(&"[".repeat(100_000)).is_err());
        assert!(serde_json::from_str::<Json<'_>>(&r#"{"a":"#.repeat(100_000)).is_err());
    }
}
