//! `keywheel init`

use std::io::Write as _;
use std::path::Path;

use super::Failure;
use super::output::note;
use crate::config::Config;
use crate::edges::Edges;
use crate::keys::seal::{KeyEncryptionKey, SealError};

/// Writes a commented configuration and a key-encryption key; never over existing ones.
pub(super) fn init(path: Option<&Path>) -> Result<(), Failure> {
    let path = path.unwrap_or(Path::new("keywheel.toml"));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    match file {
        Ok(mut file) => {
            let written = file.write_all(Config::template().as_bytes());
            written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
            note(format_args!("wrote {}", path.display()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            note(format_args!("{} is there already and stays as it is", path.display()));
        }
        Err(error) => return Err(Failure::failed(format!("cannot write {}: {error}", path.display()))),
    }
    let config = super::load(Some(path))?.config;
    for kek in &config.keys.encryption_key_files {
        if kek.exists() {
            KeyEncryptionKey::read(kek).map_err(|error| Failure::usage(crate::chain(&error)))?;
            note(format_args!("{} is there already and stays as it is", kek.display()));
        } else {
            KeyEncryptionKey::create(kek, Edges::system().entropy.as_ref())
                .map_err(|error: SealError| Failure::failed(crate::chain(&error)))?;
            let kek = kek.display();
            note(format_args!("made the key-encryption key {kek}: keep a copy of it apart from the database"));
        }
    }
    note("next: edit the configuration, `keywheel check`, `keywheel serve`");
    Ok(())
}
