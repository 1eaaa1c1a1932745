//! Sets of public keys (RFC 7517 §5): read entry by entry, parsed once, looked up by `kid`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::json::{Json, Object};
use crate::rejection::shown;
use crate::verifying_key::VerifyingKey;
use crate::{Algorithm, Header, JwkError, PublicJwk, Rejection};

/// The keys tokens are checked with.
///
/// An entry that can't be used never spoils the set; it is in [`KeySet::refused`] with the reason.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<PublicJwk>,
    /// In step with `keys`.
    parsed: Vec<Vec<VerifyingKey>>,
    by_kid: HashMap<String, Vec<usize>>,
    refused: Vec<RefusedKey>,
    known_headers: [OnceLock<KnownHeader>; 4],
}

/// The header of a token that was verified with this set, as it stands in the token, and what reading it and choosing
/// its key gave. All tokens of a key have the same few headers, and neither depends on anything but text and set.
#[derive(Clone, Debug)]
pub(crate) struct KnownHeader {
    text: Box<str>,
    pub(crate) header: Arc<Header>,
    pub(crate) key: VerifyingKey,
}

/// An entry of a key set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedKey {
    /// Where it stands, from zero.
    pub index: usize,
    /// Its `kid` if that is a string, escaped and cut.
    pub kid: Option<String>,
    /// Why.
    pub reason: JwkError,
}

/// Why a document is not a key set at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Longer than is read.
    #[error("the key set has {found_bytes} bytes, more than the {} allowed", KeySet::MAX_BYTES)]
    TooLarge {
        /// Its length.
        found_bytes: usize,
    },
    /// Not JSON.
    #[error("the key set is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// Not an object with one `keys` array.
    #[error("expected an object with one array called keys")]
    NotAKeySet,
    /// More entries than are read.
    #[error("the key set has {found} entries, more than the {} allowed", KeySet::MAX_KEYS)]
    TooManyKeys {
        /// How many.
        found: usize,
    },
}

impl KeySet {
    /// The longest document that is read.
    pub const MAX_BYTES: usize = 1 << 20;
    /// The most entries that are read.
    pub const MAX_KEYS: usize = 256;

    /// Reads a JWK set, entry by entry.
    ///
    /// # Errors
    /// [`KeySetError`] when the document as a whole is no key set; entries are never the reason
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        match document(json)? {
            Json::Object(set) => Self::from_set(&set),
            _ => Err(KeySetError::NotAKeySet),
        }
    }

    /// Reads a JWK set or a single JWK, as a person may hand over either.
    ///
    /// # Errors
    /// As for [`KeySet::parse`]; a single key that can't be used makes an empty set that says why
    pub fn parse_one_or_set(json: &[u8]) -> Result<Self, KeySetError> {
        match document(json)? {
            Json::Object(key) if key.get("keys").is_none() && key.get("kty").is_some() => {
                Ok(Self::from_entries([&Json::Object(key)]))
            }
            Json::Object(set) => Self::from_set(&set),
            _ => Err(KeySetError::NotAKeySet),
        }
    }

    /// A set of keys at hand.
    pub fn from_keys(keys: impl IntoIterator<Item = PublicJwk>) -> Self {
        let mut set = Self::default();
        for (index, key) in keys.into_iter().enumerate() {
            set.insert(index, key);
        }
        set
    }

    /// The usable keys, in the order they stand.
    pub fn keys(&self) -> &[PublicJwk] {
        &self.keys
    }

    /// The entries that are not used, and why.
    pub fn refused(&self) -> &[RefusedKey] {
        &self.refused
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a usable key has that id.
    pub fn contains_kid(&self, kid: &str) -> bool {
        self.by_kid.contains_key(kid)
    }

    /// The one key that can have signed a token with this `kid` and algorithm.
    ///
    /// A key without a `kid` is never the one a `kid` names. A token without a `kid` is only checked when there is no
    /// choice: trying one key after the other would let a token be checked with a key its signer did not mean.
    pub(crate) fn choose(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&VerifyingKey, Rejection> {
        match kid {
            Some(kid) => {
                let named = self.by_kid.get(kid).ok_or_else(|| Rejection::UnknownKid { found: shown(kid) })?;
                self.only_one(named.iter().copied(), algorithm)?
                    .ok_or_else(|| Rejection::UnsuitableKey { kid: shown(kid), algorithm })
            }
            None => self.only_one(0..self.keys.len(), algorithm)?.ok_or(Rejection::NoKey { algorithm }),
        }
    }

    /// A header that stands in tokens this set has verified.
    pub(crate) fn known_header(&self, text: &str) -> Option<&KnownHeader> {
        self.known_headers.iter().map_while(OnceLock::get).find(|known| *known.text == *text)
    }

    /// Remembers a header, if there is room. Only of tokens whose signature is valid: nobody else may fill the room.
    pub(crate) fn remember_header(&self, text: &str, header: &Arc<Header>, key: &VerifyingKey) {
        for room in &self.known_headers {
            let known =
                room.get_or_init(|| KnownHeader { text: text.into(), header: Arc::clone(header), key: key.clone() });
            if *known.text == *text {
                return;
            }
        }
    }

    /// The key for `algorithm` among the candidates; the same key under two entries counts once.
    fn only_one(
        &self,
        candidates: impl Iterator<Item = usize>,
        algorithm: Algorithm,
    ) -> Result<Option<&VerifyingKey>, Rejection> {
        let mut usable = candidates.filter_map(|index| {
            let parsed = self.parsed[index].iter().find(|key| key.algorithm() == algorithm)?;
            Some((&self.keys[index], parsed))
        });
        let Some((first, parsed)) = usable.next() else { return Ok(None) };
        match usable.filter(|(other, _)| !other.same_key(first)).count() {
            0 => Ok(Some(parsed)),
            others => Err(Rejection::AmbiguousKey { algorithm, found: others + 1 }),
        }
    }

    fn from_set(set: &Object<'_>) -> Result<Self, KeySetError> {
        match set.get("keys") {
            Some(Json::Array(_)) if set.has_twice("keys") => Err(KeySetError::NotAKeySet),
            Some(Json::Array(entries)) if entries.len() > Self::MAX_KEYS => {
                Err(KeySetError::TooManyKeys { found: entries.len() })
            }
            Some(Json::Array(entries)) => Ok(Self::from_entries(entries)),
            _ => Err(KeySetError::NotAKeySet),
        }
    }

    fn from_entries<'j, 'a: 'j>(entries: impl IntoIterator<Item = &'j Json<'a>>) -> Self {
        let mut set = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            match PublicJwk::from_entry(entry) {
                Ok(key) => set.insert(index, key),
                Err(reason) => {
                    let kid = match entry {
                        Json::Object(members) => match members.get("kid") {
                            Some(Json::String(kid)) => Some(shown(kid)),
                            _ => None,
                        },
                        _ => None,
                    };
                    set.refused.push(RefusedKey { index, kid, reason });
                }
            }
        }
        set
    }

    fn insert(&mut self, index: usize, key: PublicJwk) {
        if self.keys.contains(&key) {
            return;
        }
        match key.verifying_keys() {
            Ok(parsed) => {
                if let Some(kid) = key.kid() {
                    self.by_kid.entry(kid.to_owned()).or_default().push(self.keys.len());
                }
                self.parsed.push(parsed);
                self.keys.push(key);
            }
            Err(_) => {
                let kid = key.kid().map(shown);
                self.refused.push(RefusedKey { index, kid, reason: JwkError::NotAKey });
            }
        }
    }
}

impl RefusedKey {
    /// Private or shared-secret material was published: someone should act.
    pub fn is_alarming(&self) -> bool {
        self.reason.is_alarming()
    }
}

/// `{"keys":[…]}` with the usable keys.
impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut set = serializer.serialize_struct("KeySet", 1)?;
        set.serialize_field("keys", &self.keys)?;
        set.end()
    }
}

fn document(json: &[u8]) -> Result<Json<'_>, KeySetError> {
    if json.len() > KeySet::MAX_BYTES {
        return Err(KeySetError::TooLarge { found_bytes: json.len() });
    }
    serde_json::from_slice(json).map_err(KeySetError::NotJson)
}
