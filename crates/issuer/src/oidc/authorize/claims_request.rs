//! The `claims` parameter: single claims, wanted in the ID token or from the UserInfo endpoint (OpenID Connect Core §5.5).

use serde_json::{Map, Value};

/// Which claims are wanted beside those of the scopes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClaimsRequest {
    id_token: Map<String, Value>,
    userinfo: Map<String, Value>,
}

impl ClaimsRequest {
    /// Reads the parameter. Members that are not understood are ignored, as §5.5 asks.
    ///
    /// # Errors
    /// What is wrong, for the client
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("claims is too long");
        }
        let Ok(Value::Object(mut members)) = serde_json::from_str(text) else {
            return Err("claims must be a JSON object");
        };
        let mut place = |name: &str| match members.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(claims)) if claims.values().all(|it| it.is_null() || it.is_object()) => Ok(claims),
            Some(_) => Err("claims must name claims, each with null or an object"),
        };
        Ok(Self { id_token: place("id_token")?, userinfo: place("userinfo")? })
    }

    /// For a column of the database.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        [("id_token", &self.id_token), ("userinfo", &self.userinfo)]
            .map(|(place, claims)| (place.to_owned(), Value::Object(claims.clone())))
            .into_iter()
            .collect()
    }

    /// The one subject the client wants, if it names one: an error for anybody else (§5.5.1).
    pub(crate) fn subject(&self) -> Option<&str> {
        let wanted = |claims: &Map<String, Value>| claims.get("sub").and_then(|sub| sub.get("value")).is_some();
        let place = if wanted(&self.id_token) { &self.id_token } else { &self.userinfo };
        place.get("sub")?.get("value")?.as_str()
    }

    /// The authentication context classes without which the client wants no ID token (§5.5.1.1); empty for no such wish.
    pub(crate) fn essential_acr(&self) -> Vec<&str> {
        let Some(acr) = self.id_token.get("acr").filter(|acr| acr["essential"] == Value::Bool(true)) else {
            return Vec::new();
        };
        let several = acr["values"].as_array().into_iter().flatten();
        several.chain(acr.get("value")).filter_map(Value::as_str).collect()
    }
}

/// More than any form of any application asks for.
const MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_by_their_place() {
        let request = ClaimsRequest::parse(
            r#"{"userinfo":{"given_name":{"essential":true},"picture":null},"id_token":{"auth_time":{"essential":true}},"other":1}"#,
        );

        let request = request.expect("it is in order");
        assert_eq!(
            request.to_json()["userinfo"],
            serde_json::json!({"given_name": {"essential": true}, "picture": null})
        );
        assert_eq!(request.to_json()["id_token"], serde_json::json!({"auth_time": {"essential": true}}));
    }

    #[test]
    fn a_wanted_subject_and_class_are_found() {
        let request = ClaimsRequest::parse(
            r#"{"id_token":{"sub":{"value":"248289761001"},"acr":{"essential":true,"values":["urn:a","urn:b"]}}}"#,
        );

        let request = request.expect("it is in order");
        assert_eq!(request.subject(), Some("248289761001"));
        assert_eq!(request.essential_acr(), ["urn:a", "urn:b"]);
        let voluntary = ClaimsRequest::parse(r#"{"id_token":{"acr":{"values":["urn:a"]}}}"#).expect("it is in order");
        assert!(voluntary.essential_acr().is_empty());
    }

    #[test]
    fn what_is_no_claims_request_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "\"x\"",
            "{",
            r#"{"userinfo":[]}"#,
            r#"{"id_token":{"acr":1}}"#,
            r#"{"userinfo":{"a":"b"}}"#,
        ] {
            assert!(ClaimsRequest::parse(text).is_err(), "{text}");
        }
        let long = format!(r#"{{"userinfo":{{"{}":null}}}}"#, "x".repeat(MAX_BYTES));
        assert_eq!(ClaimsRequest::parse(&long), Err("claims is too long"));
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        assert!(ClaimsRequest::parse(&deep).is_err());
    }
}
