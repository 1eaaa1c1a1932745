//! Any request target: read or refused, and what is read survives being written and read again, with nothing in it that a
//! service could take for another path.

#![no_main]

use keywheel_gate::path::{RequestPath, path_of_target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &[u8]| {
    let Ok(path) = path_of_target(target) else { return };
    for segment in path.segments() {
        assert!(!segment.is_empty() && segment != "." && segment != "..");
        assert!(!segment.contains(['/', '\\', ';', '%', '?', '#', '\0']));
        assert!(!segment.chars().any(char::is_control));
    }
    let canonical = path.to_string();
    assert_eq!(RequestPath::parse(canonical.as_bytes()), Ok(path));
});
