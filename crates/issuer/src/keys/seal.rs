//! Private keys at rest: AES-256-GCM under a key-encryption key that is not in the database.
//!
//! A sealed key is `version (1) ‖ key-encryption key id (8) ‖ nonce (12) ‖ ciphertext and tag`. The associated data is
//! `version ‖ key id ‖ kid ‖ 0 ‖ alg`, so that a row's private half can't be moved to another row or algorithm.
//! A key derived from it authenticates what the issuer hands out and gets back.
//! The key-encryption key lives in a file of its own, as 32 bytes in base64 or hex. There may be several
//! ([`KeyEncryptionKeys`]), so that one can be exchanged for another while the server runs.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_jose::Algorithm;
use zeroize::Zeroizing;

use crate::edges::{Entropy, NoEntropy};

/// Why a private key could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file with the key-encryption key is not there.
    #[error(
        "the key-encryption key {0} is missing: without it the signing keys in the database cannot be opened; restore the file, or set keys.encryption_key_file"
    )]
    FileMissing(PathBuf),
    /// The file can't be read or written.
    #[error("cannot {doing} the key-encryption key {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold a key.
    #[error(
        "the key-encryption key {0} must be 32 bytes, written in base64 or hex (`openssl rand -base64 32` makes one)"
    )]
    FileMalformed(PathBuf),
    /// The row was sealed under another key.
    #[error(
        "the signing key {kid} is sealed under the key-encryption key {sealed_under}, but only {configured} is configured: restore the right file, or add it to keys.encryption_key_file"
    )]
    OtherKey {
        /// Whose private half.
        kid: String,
        /// Id of the key-encryption key in the row.
        sealed_under: String,
        /// Ids of the configured ones.
        configured: String,
    },
    /// The row is not what was sealed.
    #[error("the private half of signing key {kid} was altered or moved: it does not open for {kid} and {alg}")]
    Altered {
        /// Whose private half.
        kid: String,
        /// For which algorithm.
        alg: Algorithm,
    },
    /// A secret that is no signing key is sealed under another key.
    #[error(
        "the {purpose} of {name} is sealed under the key-encryption key {sealed_under}, but only {configured} is configured"
    )]
    SecretUnderOtherKey {
        /// What it is for.
        purpose: &'static str,
        /// Whose it is.
        name: String,
        /// Id of the key-encryption key in the row.
        sealed_under: String,
        /// Ids of the configured ones.
        configured: String,
    },
    /// A secret that is no signing key does not open.
    #[error("the {purpose} of {name} was altered or moved: it does not open")]
    Secret {
        /// What it is for.
        purpose: &'static str,
        /// Whose it is.
        name: String,
    },
    /// The generator failed.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// AES-256-GCM refused; should not happen.
    #[error("sealing failed")]
    Cipher,
}

/// The keys that open private keys; the first of them seals.
#[derive(Debug)]
pub struct KeyEncryptionKeys {
    first: KeyEncryptionKey,
    others: Vec<KeyEncryptionKey>,
}

impl KeyEncryptionKeys {
    /// `first` seals, all of them open.
    #[must_use]
    pub fn new(first: KeyEncryptionKey, others: Vec<KeyEncryptionKey>) -> Self {
        Self { first, others }
    }

    /// As [`KeyEncryptionKey::seal`], with the first.
    ///
    /// # Errors
    /// [`SealError::Cipher`].
    pub fn seal(&self, kid: &str, alg: Algorithm, pkcs8: &[u8]) -> Result<Vec<u8>, SealError> {
        self.first.seal(kid, alg, pkcs8)
    }

    /// As [`KeyEncryptionKey::open`], with the one that sealed it.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::Altered`].
    pub fn open(&self, kid: &str, alg: Algorithm, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match self.all().find(|key| key.sealed(sealed)).unwrap_or(&self.first).open(kid, alg, sealed) {
            Err(SealError::OtherKey { kid, sealed_under, .. }) => {
                Err(SealError::OtherKey { kid, sealed_under, configured: self.ids() })
            }
            opened => opened,
        }
    }

    /// Seals anew, under the first, what another one sealed; `None` where the first did.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::Altered`], [`SealError::Cipher`].
    pub fn rewrap(&self, kid: &str, alg: Algorithm, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if self.first.sealed(sealed) {
            return Ok(None);
        }
        self.seal(kid, alg, &self.open(kid, alg, sealed)?).map(Some)
    }

    /// Seals a secret that is no signing key, with the first; it opens for the same purpose and name only.
    ///
    /// # Errors
    /// [`SealError::Cipher`].
    pub(crate) fn seal_secret(&self, purpose: &'static str, name: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.first.seal_labelled(name, purpose, secret)
    }

    /// Opens what [`Self::seal_secret`] made, and says whether another key than the first had sealed it.
    ///
    /// # Errors
    /// [`SealError::SecretUnderOtherKey`], [`SealError::Secret`].
    pub(crate) fn open_secret(
        &self,
        purpose: &'static str,
        name: &str,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, Sealed), SealError> {
        let Some(key) = self.all().find(|key| key.sealed(sealed)) else {
            return Err(match sealed.get(1..=ID_LENGTH) {
                Some(id) => SealError::SecretUnderOtherKey {
                    purpose,
                    name: name.to_owned(),
                    sealed_under: hex(id),
                    configured: self.ids(),
                },
                None => SealError::Secret { purpose, name: name.to_owned() },
            });
        };
        let by = if key.id == self.first.id { Sealed::ByFirst } else { Sealed::ByAnother };
        let opened = key.open_labelled(name, purpose, sealed);
        opened.map(|secret| (secret, by)).ok_or_else(|| SealError::Secret { purpose, name: name.to_owned() })
    }

    /// As [`Self::rewrap`], for what [`Self::seal_secret`] made.
    ///
    /// # Errors
    /// [`SealError::SecretUnderOtherKey`], [`SealError::Secret`], [`SealError::Cipher`].
    pub(crate) fn rewrap_secret(
        &self,
        purpose: &'static str,
        name: &str,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        match self.open_secret(purpose, name, sealed)? {
            (_, Sealed::ByFirst) => Ok(None),
            (secret, Sealed::ByAnother) => self.seal_secret(purpose, name, &secret).map(Some),
        }
    }

    /// A short name of the key that seals.
    #[must_use]
    pub fn sealing_id(&self) -> String {
        self.first.id()
    }

    /// A tag that only this issuer can make: HMAC-SHA-256 of `message` under a key derived from the first, for what is
    /// handed out and comes back (a form, an interrupted request). `purpose` keeps a tag from serving for something else.
    ///
    /// Nothing that is tagged is stored, so there is nothing to rewrap when the first key is exchanged. What was handed out
    /// under a key that is gone is as good as unknown: the form is refused and shown anew, the person signs in again.
    #[must_use]
    pub fn tag(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        self.first.tag(purpose, message)
    }

    /// Whether [`Self::tag`] made this, with any of the keys; in constant time for each.
    #[must_use]
    pub fn made_tag(&self, purpose: &str, message: &[u8], tag: &[u8]) -> bool {
        self.all().any(|key| hmac::verify(&key.mac, &tagged(purpose, message), tag).is_ok())
    }

    fn ids(&self) -> String {
        self.all().map(KeyEncryptionKey::id).collect::<Vec<_>>().join(", ")
    }

    fn all(&self) -> impl Iterator<Item = &KeyEncryptionKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// Which of several keys sealed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The one that seals now.
    ByFirst,
    /// One that is on its way out.
    ByAnother,
}

/// One key that seals private keys.
pub struct KeyEncryptionKey {
    id: [u8; ID_LENGTH],
    cipher: RandomizedNonceKey,
    mac: hmac::Key,
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyEncryptionKey({})", self.id())
    }
}

impl KeyEncryptionKey {
    /// Reads the key from `path`.
    ///
    /// # Errors
    /// [`SealError::FileMissing`], [`SealError::File`], [`SealError::FileMalformed`].
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let text = match std::fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SealError::FileMissing(path.to_owned()));
            }
            Err(source) => return Err(SealError::File { doing: "read", path: path.to_owned(), source }),
        };
        let bytes = decode(text.trim_ascii()).ok_or_else(|| SealError::FileMalformed(path.to_owned()))?;
        Self::from_bytes(&bytes)
    }

    /// Makes a new key and writes it to `path`, which must not exist; only the owner may read it.
    ///
    /// # Errors
    /// [`SealError::File`] when the file exists or can't be written, [`SealError::NoEntropy`].
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, SealError> {
        let failed = |doing| move |source| SealError::File { doing, path: path.to_owned(), source };
        let mut bytes = Zeroizing::new([0_u8; 32]);
        entropy.fill(bytes.as_mut())?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::storage::make_private_folder(folder).map_err(failed("make the folder of"))?;
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("create"))?;
        let text = Zeroizing::new(format!("{}\n", Zeroizing::new(STANDARD.encode(bytes.as_slice())).as_str()));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        Self::from_bytes(&bytes)
    }

    /// Seals the private half (PKCS#8) of key `kid`.
    ///
    /// # Errors
    /// [`SealError::Cipher`] if the cipher refuses.
    pub fn seal(&self, kid: &str, alg: Algorithm, pkcs8: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_labelled(kid, alg.as_str(), pkcs8)
    }

    /// Opens what [`Self::seal`] made for the same `kid` and `alg`.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::Altered`].
    pub fn open(&self, kid: &str, alg: Algorithm, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let altered = || SealError::Altered { kid: kid.to_owned(), alg };
        let (&version, rest) = sealed.split_first().ok_or_else(altered)?;
        let (id, rest) = rest.split_first_chunk::<ID_LENGTH>().ok_or_else(altered)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<12>().ok_or_else(altered)?;
        if version != VERSION {
            return Err(altered());
        }
        if *id != self.id {
            return Err(SealError::OtherKey { kid: kid.to_owned(), sealed_under: hex(id), configured: self.id() });
        }
        self.decrypt(nonce, ciphertext, kid, alg.as_str()).ok_or_else(altered)
    }

    /// A short name of the key that tells nothing about it.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// No label is both a purpose and an algorithm, so neither can be moved to where the other belongs.
    fn seal_labelled(&self, name: &str, label: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut ciphertext = Zeroizing::new(secret.to_vec());
        let nonce = self
            .cipher
            .seal_in_place_append_tag(Aad::from(associated_data(&self.id, name, label)), &mut *ciphertext)
            .map_err(|_| SealError::Cipher)?;
        Ok([&[VERSION], self.id.as_slice(), nonce.as_ref().as_slice(), ciphertext.as_slice()].concat())
    }

    fn open_labelled(&self, name: &str, label: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&version, rest) = sealed.split_first()?;
        let (id, rest) = rest.split_first_chunk::<ID_LENGTH>()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<12>()?;
        (version == VERSION && *id == self.id).then(|| self.decrypt(nonce, ciphertext, name, label))?
    }

    fn decrypt(&self, nonce: &[u8; 12], ciphertext: &[u8], name: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let associated_data = Aad::from(associated_data(&self.id, name, label));
        let length = self.cipher.open_in_place(Nonce::from(nonce), associated_data, &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// Whether `sealed` names this key.
    fn sealed(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=ID_LENGTH) == Some(self.id.as_slice())
    }

    fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SealError> {
        let labelled = Zeroizing::new([b"keywheel key-encryption key".as_slice(), bytes].concat());
        let name = digest(&SHA256, &labelled);
        let id = *name.as_ref().first_chunk().expect("a SHA-256 digest has 32 bytes");
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Cipher)?;
        // RFC 5869 §2.3, one block: the key is uniformly random, so there is nothing to extract.
        let expanded = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"keywheel message authentication\x01");
        Ok(Self { id, cipher, mac: hmac::Key::new(hmac::HMAC_SHA256, expanded.as_ref()) })
    }

    fn tag(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.mac, &tagged(purpose, message));
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

/// No purpose holds a zero byte, so no two pairs read the same.
fn tagged(purpose: &str, message: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), &[0], message].concat()
}

fn associated_data(id: &[u8; ID_LENGTH], name: &str, label: &str) -> Vec<u8> {
    [&[VERSION], id.as_slice(), name.as_bytes(), &[0], label.as_bytes()].concat()
}

fn decode(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(if text.len() == 64 {
        text.chunks_exact(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()?
    } else {
        STANDARD.decode(text).ok()?
    });
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const VERSION: u8 = 1;
const ID_LENGTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes(&[byte; 32]).expect("32 bytes are a key")
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let sealed = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");

        assert_eq!(key(1).open("kid-1", Algorithm::ES256, &sealed).expect("opened").as_slice(), b"private");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
    }

    #[test]
    fn a_sealed_key_cannot_be_moved_to_another_row_or_algorithm() {
        let sealed = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");

        assert!(matches!(key(1).open("kid-2", Algorithm::ES256, &sealed), Err(SealError::Altered { .. })));
        assert!(matches!(key(1).open("kid-1", Algorithm::RS256, &sealed), Err(SealError::Altered { .. })));
    }

    #[test]
    fn a_tag_is_for_one_message_and_one_purpose() {
        let keys = KeyEncryptionKeys::new(key(1), Vec::new());
        let tag = keys.tag("form", b"a message");

        assert!(keys.made_tag("form", b"a message", &tag));
        assert!(!keys.made_tag("form", b"another", &tag));
        assert!(!keys.made_tag("link", b"a message", &tag));
        assert!(!keys.made_tag("form", b"a message", &tag[..31]));
        assert!(!KeyEncryptionKeys::new(key(2), Vec::new()).made_tag("form", b"a message", &tag));
        assert!(
            KeyEncryptionKeys::new(key(2), vec![key(1)]).made_tag("form", b"a message", &tag),
            "a key on its way out"
        );
    }

    #[test]
    fn a_secret_opens_for_its_purpose_and_name_only() {
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);
        let sealed = keys.seal_secret("certificate key", "id.example.com", b"private").expect("sealed");
        let by_old = KeyEncryptionKeys::new(key(1), Vec::new());
        let by_old = by_old.seal_secret("certificate key", "id.example.com", b"private").expect("sealed");
        let open = |purpose, name, sealed: &[u8]| keys.open_secret(purpose, name, sealed);

        for (sealed, by) in [(&sealed, Sealed::ByFirst), (&by_old, Sealed::ByAnother)] {
            let opened = open("certificate key", "id.example.com", sealed).expect("opened");
            assert_eq!((opened.0.as_slice(), opened.1), (&b"private"[..], by));
        }
        let under_none = KeyEncryptionKeys::new(key(3), Vec::new()).seal_secret("certificate key", "a", b"private");
        for refused in [
            open("account", "id.example.com", &sealed),
            open("certificate key", "example.com", &sealed),
            open("certificate key", "id.example.com", &sealed[..20]),
            open("certificate key", "id.example.com", &sealed[..8]),
        ] {
            assert!(matches!(refused, Err(SealError::Secret { .. })));
        }
        let refused = open("certificate key", "a", &under_none.expect("sealed"));
        let Err(SealError::SecretUnderOtherKey { sealed_under, configured, .. }) = refused else {
            panic!("another key")
        };
        assert_eq!((sealed_under, configured), (key(3).id(), format!("{}, {}", key(2).id(), key(1).id())));
    }

    #[test]
    fn rewrapping_a_secret_moves_it_to_the_first_key_once() {
        let by_old =
            KeyEncryptionKeys::new(key(1), Vec::new()).seal_secret("account", "ca", b"private").expect("sealed");
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);

        let moved = keys.rewrap_secret("account", "ca", &by_old).expect("opened").expect("moved");

        let opened = KeyEncryptionKeys::new(key(2), Vec::new()).open_secret("account", "ca", &moved).expect("opened");
        assert_eq!(opened.0.as_slice(), b"private");
        assert_eq!(keys.rewrap_secret("account", "ca", &moved).expect("looked at"), None);
        assert!(keys.rewrap_secret("account", "another", &by_old).is_err());
    }

    #[test]
    fn another_key_encryption_key_is_named() {
        let sealed = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");

        assert!(matches!(key(2).open("kid-1", Algorithm::ES256, &sealed), Err(SealError::OtherKey { .. })));
    }

    #[test]
    fn the_first_of_several_keys_seals_and_all_open() {
        let by_old = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);

        let by_new = keys.seal("kid-1", Algorithm::ES256, b"private").expect("sealed");

        for sealed in [&by_old, &by_new] {
            let opened = keys.open("kid-1", Algorithm::ES256, sealed).expect("opened");
            assert_eq!(opened.as_slice(), b"private");
        }
        assert!(key(2).open("kid-1", Algorithm::ES256, &by_new).is_ok());
    }

    #[test]
    fn a_row_sealed_under_none_of_several_keys_names_its_key() {
        let sealed = key(3).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);

        let refused = keys.open("kid-1", Algorithm::ES256, &sealed);

        let Err(SealError::OtherKey { sealed_under, configured, .. }) = refused else { panic!("another key") };
        assert_eq!((sealed_under, configured), (key(3).id(), format!("{}, {}", key(2).id(), key(1).id())));
    }

    #[test]
    fn rewrapping_moves_to_the_first_key_once() {
        let sealed = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");
        let keys = KeyEncryptionKeys::new(key(2), vec![key(1)]);

        let moved = keys.rewrap("kid-1", Algorithm::ES256, &sealed).expect("opened").expect("moved");

        assert_eq!(key(2).open("kid-1", Algorithm::ES256, &moved).expect("opened").as_slice(), b"private");
        assert_eq!(keys.rewrap("kid-1", Algorithm::ES256, &moved).expect("looked at"), None);
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let sealed = key(1).seal("kid-1", Algorithm::ES256, b"private").expect("sealed");

        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert!(key(1).open("kid-1", Algorithm::ES256, &altered).is_err(), "byte {place}");
        }
        for length in 0..sealed.len() {
            assert!(key(1).open("kid-1", Algorithm::ES256, &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_key_file_is_read_in_base64_and_hex() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kek");
        for text in [STANDARD.encode([7; 32]), "07".repeat(32), format!("{}\n", STANDARD.encode([7; 32]))] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(KeyEncryptionKey::read(&path).expect("read").id(), key(7).id());
        }
        for text in ["", "c2hvcnQ=", "not base64 at all"] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(KeyEncryptionKey::read(&path), Err(SealError::FileMalformed(_))), "{text:?}");
        }
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kek");
        let entropy = crate::edges::Edges::system().entropy;
        let made = KeyEncryptionKey::create(&path, entropy.as_ref()).expect("made");

        assert!(KeyEncryptionKey::create(&path, entropy.as_ref()).is_err());
        assert_eq!(KeyEncryptionKey::read(&path).expect("read").id(), made.id());
    }
}
