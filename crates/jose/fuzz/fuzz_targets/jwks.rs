//! The bytes are a key set: reading it never panics, keeps nothing private, and what it keeps can be written and read.
#![no_main]

use keywheel_jose::KeySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let _ = KeySet::parse(json);
    let Ok(keys) = KeySet::parse_one_or_set(json) else { return };
    let written = serde_json::to_vec(&keys).expect("keys can be written");
    for private in ["\"d\":", "\"p\":", "\"q\":", "\"k\":", "\"oth\":", "\"priv\":"] {
        assert!(!String::from_utf8_lossy(&written).contains(private));
    }
    let read = KeySet::parse(&written).expect("what was written is a key set");
    assert_eq!(read.keys(), keys.keys());
    assert!(read.refused().is_empty());
    for refused in keys.refused() {
        assert!(refused.reason.to_string().is_ascii());
    }
});
