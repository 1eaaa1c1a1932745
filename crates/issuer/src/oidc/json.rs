//! Strings as JSON, on the path of every token.

/// Appends a string. What needs no escape, as tokens, ids and addresses do not, is looked at once and copied whole; a
/// serializer decides character by character.
pub(super) fn push_string(json: &mut Vec<u8>, text: &str) {
    // Without a way out of the loop, so that sixteen are looked at together.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    } else {
        json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

/// Appends `name`, which follows other members and comes with its quotes and colon, and a string.
pub(super) fn push_member(json: &mut Vec<u8>, name: &str, text: &str) {
    json.extend_from_slice(name.as_bytes());
    push_string(json, text);
}

/// Appends `name` likewise, and strings.
pub(super) fn push_list(json: &mut Vec<u8>, name: &str, texts: &[impl AsRef<str>]) {
    json.extend_from_slice(name.as_bytes());
    json.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        push_string(json, text.as_ref());
    }
    json.push(b']');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_is_written_as_a_serializer_does(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let mut json = Vec::new();
            push_string(&mut json, &text);

            prop_assert_eq!(String::from_utf8(json).expect("text"), serde_json::to_string(&text).expect("JSON"));
        }
    }
}
