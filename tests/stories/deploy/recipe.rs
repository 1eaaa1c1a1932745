//! The files of `deploy/`, and what `deploy/compose/prepare.sh` makes beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getuid;

/// The name that every recipe is written for.
pub(super) const HOST: &str = "id.example.com";

/// A file or folder of `deploy/`.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

pub(super) fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with other words in it, each of which has to be there.
pub(super) fn adapted(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "no `{old}` in {text}");
        text.replace(old, new)
    })
}

/// The folder of passwords, key-encryption key and certificate that `prepare.sh` makes.
pub(super) fn prepare_secrets(folder: &Path) -> PathBuf {
    let script = folder.join("prepare.sh");
    fs::copy(path("compose/prepare.sh"), &script).expect("copying the script");
    for _ in 0..2 {
        // The second time it finds everything there.
        let output = Command::new("sh").arg(&script).arg(HOST).output().expect("starting sh");
        assert!(output.status.success(), "{output:?}");
    }
    folder.join("secrets")
}

/// As whom a program runs that needs no rights, when it is root who tests: user nobody, group nogroup.
pub(super) fn nobody() -> Option<u32> {
    getuid().is_root().then_some(65534)
}
