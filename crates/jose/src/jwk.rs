//! A public key as JOSE writes it (RFC 7517, RFC 7518 §6, RFC 8037), and its thumbprint (RFC 7638).
//!
//! Reading is strict: numbers have one spelling, points lie on their curve, an RSA key is strong enough, and a key that
//! carries anything private is refused as a leak, not read around.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::Algorithm;
use crate::json::{Json, Object};
use crate::rejection::shown;
use crate::verifying_key::{NotAKey, VerifyingKey};

/// A public key that can verify signatures. It has been checked; [`PublicJwk`]s that can't work do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicJwk {
    numbers: Numbers,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    /// Whether `use: sig` is written.
    says_use: bool,
}

/// The kind of a key: its `kty` and, on curves, its `crv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// RSA of 2048 to 8192 bits.
    Rsa,
    /// The curve P-256.
    P256,
    /// The curve P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// Why a key was refused. Texts from the key are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// It carries a private member: someone published a private key.
    #[error("the key has the private member {0}: treat it as leaked")]
    PrivateMember(&'static str),
    /// `kty: oct`, a shared secret: someone published it.
    #[error("the key is a shared secret (kty oct): treat it as leaked")]
    SymmetricKey,
    /// A `kty` or `crv` this crate does not implement.
    #[error("the {member} {found} is not supported")]
    UnsupportedKeyType {
        /// `kty` or `crv`.
        member: &'static str,
        /// Its value.
        found: String,
    },
    /// An `alg` that is not on the allow-list.
    #[error("the alg {0} is not supported")]
    UnsupportedAlgorithm(String),
    /// `use` or `key_ops` say that the key is not for verifying signatures.
    #[error("the key is not for verifying signatures ({0})")]
    NotForSignatures(&'static str),
    /// The entry is not a JSON object.
    #[error("expected a key to be an object, found {0}")]
    NotAnObject(&'static str),
    /// A member name stands twice.
    #[error("the key has the member {0} twice")]
    RepeatedMember(String),
    /// A required member is missing.
    #[error("the key has no {0}")]
    MissingMember(&'static str),
    /// A member has the wrong JSON type.
    #[error("expected the member {member} to be {expected}, found {found}")]
    WrongType {
        /// Its name.
        member: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A number is not canonical base64url without padding.
    #[error("the member {0} is not canonical base64url without padding")]
    NotBase64Url(&'static str),
    /// A number or coordinate has the wrong length.
    #[error("expected {member} to have {expected}, found {found_bytes} bytes")]
    WrongLength {
        /// Its name.
        member: &'static str,
        /// The right length.
        expected: &'static str,
        /// The length found.
        found_bytes: usize,
    },
    /// An RSA number is written with leading zero octets (RFC 7518 §2, Base64urlUInt).
    #[error("the number {0} has leading zero octets")]
    LeadingZero(&'static str),
    /// The RSA modulus is too short, too long or even.
    #[error("expected an odd RSA modulus of 2048 to 8192 bits, found {found_bits} bits")]
    Modulus {
        /// Its length.
        found_bits: usize,
    },
    /// The RSA exponent is even, below 3 or over 33 bits.
    #[error("expected an odd RSA exponent of at least 3 and at most 33 bits")]
    Exponent,
    /// The coordinates are not a point of the curve, or the numbers are no key for another reason.
    #[error("the numbers are not a public key: not on the curve, or inconsistent")]
    NotAKey,
    /// An Ed25519 point of small order: a signature for it can be made without a private key.
    #[error("the Ed25519 key is a point of small order, for which anyone can sign")]
    SmallOrder,
    /// `alg` does not go with `kty` and `crv`.
    #[error("a {key_type:?} key can't have the alg {algorithm}")]
    AlgorithmMismatch {
        /// The kind of key.
        key_type: KeyType,
        /// Its `alg`.
        algorithm: Algorithm,
    },
    /// The key id is longer than is read from a token.
    #[error("the kid has {found_bytes} bytes, more than {MAX_KID_BYTES}")]
    KidTooLong {
        /// Its length.
        found_bytes: usize,
    },
}

impl PublicJwk {
    /// An RSA key from its big-endian modulus and exponent, without leading zeros. It says `use: sig`.
    ///
    /// # Errors
    /// [`JwkError::Modulus`], [`JwkError::Exponent`], [`JwkError::LeadingZero`] or [`JwkError::NotAKey`]
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JwkError> {
        Self::new(Numbers::Rsa { n: n.into(), e: e.into() })
    }

    /// A P-256 key from its coordinates of 32 bytes each. It says `use: sig`.
    ///
    /// # Errors
    /// [`JwkError::WrongLength`] or [`JwkError::NotAKey`]
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, JwkError> {
        Self::new(Numbers::P256 { x: coordinate("x", x)?, y: coordinate("y", y)? })
    }

    /// A P-384 key from its coordinates of 48 bytes each. It says `use: sig`.
    ///
    /// # Errors
    /// [`JwkError::WrongLength`] or [`JwkError::NotAKey`]
    pub fn p384(x: &[u8], y: &[u8]) -> Result<Self, JwkError> {
        Self::new(Numbers::P384 { x: coordinate("x", x)?, y: coordinate("y", y)? })
    }

    /// An Ed25519 key from its 32 bytes. It says `use: sig`.
    ///
    /// # Errors
    /// [`JwkError::WrongLength`], [`JwkError::SmallOrder`] or [`JwkError::NotAKey`]
    pub fn ed25519(x: &[u8]) -> Result<Self, JwkError> {
        Self::new(Numbers::Ed25519 { x: coordinate("x", x)? })
    }

    /// Reads a key. Repeated members are not visible in a [`serde_json::Value`]; [`crate::KeySet::parse`] sees them.
    ///
    /// # Errors
    /// Any [`JwkError`]. [`JwkError::is_alarming`] tells leaks from everything else, [`JwkError::is_unsupported`] keys
    /// that are fine but for someone else.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, JwkError> {
        let json = Json::deserialize(json).map_err(|_| JwkError::NotAnObject("something else"))?;
        Self::from_entry(&json)
    }

    /// The same key for one algorithm only.
    ///
    /// # Errors
    /// [`JwkError::AlgorithmMismatch`]: the kind of key can't serve it
    pub fn with_alg(self, algorithm: Algorithm) -> Result<Self, JwkError> {
        if !self.kty().algorithms().contains(&algorithm) {
            return Err(JwkError::AlgorithmMismatch { key_type: self.kty(), algorithm });
        }
        Ok(Self { algorithm: Some(algorithm), ..self })
    }

    /// The same key under another id.
    ///
    /// # Errors
    /// [`JwkError::KidTooLong`]: over 256 bytes
    pub fn with_kid(self, kid: impl Into<String>) -> Result<Self, JwkError> {
        let kid = kid.into();
        if kid.len() > MAX_KID_BYTES {
            return Err(JwkError::KidTooLong { found_bytes: kid.len() });
        }
        Ok(Self { kid: Some(kid), ..self })
    }

    /// The same key, its thumbprint as its id.
    pub fn with_thumbprint_kid(self) -> Self {
        Self { kid: Some(self.thumbprint()), ..self }
    }

    /// The key id.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm the key is for, if it says so.
    pub fn alg(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The kind of key.
    pub fn kty(&self) -> KeyType {
        match self.numbers {
            Numbers::Rsa { .. } => KeyType::Rsa,
            Numbers::P256 { .. } => KeyType::P256,
            Numbers::P384 { .. } => KeyType::P384,
            Numbers::Ed25519 { .. } => KeyType::Ed25519,
        }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638 §3, RFC 8037 §2).
    pub fn thumbprint(&self) -> String {
        // "containing only the required members of a JWK representing the key … with the required members ordered
        // lexicographically"; base64url and these names need no escapes.
        let json = match &self.numbers {
            Numbers::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64url(e), base64url(n)),
            Numbers::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64url(x), base64url(y))
            }
            Numbers::P384 { x, y } => {
                format!(r#"{{"crv":"P-384","kty":"EC","x":"{}","y":"{}"}}"#, base64url(x), base64url(y))
            }
            Numbers::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x)),
        };
        base64url(digest::digest(&digest::SHA256, json.as_bytes()).as_ref())
    }

    /// Reads an entry of a key set.
    pub(crate) fn from_entry(entry: &Json<'_>) -> Result<Self, JwkError> {
        let Json::Object(members) = entry else {
            return Err(JwkError::NotAnObject(entry.kind()));
        };
        // Leaks first: whatever else is wrong with the entry, this is what its owner has to hear.
        if matches!(members.get("kty"), Some(Json::String(kty)) if kty == "oct") {
            return Err(JwkError::SymmetricKey);
        }
        if let Some(private) = PRIVATE_MEMBERS.into_iter().find(|name| members.get(name).is_some()) {
            return Err(JwkError::PrivateMember(private));
        }
        if let Some(name) = members.repeated_name() {
            return Err(JwkError::RepeatedMember(shown(name)));
        }

        let numbers = Numbers::read(members)?;
        let says_use = check_use(members)?;
        let mut jwk = Self { says_use, ..Self::new(numbers)? };
        if let Some(alg) = optional_text(members, "alg")? {
            let algorithm = Algorithm::from_alg(alg).ok_or_else(|| JwkError::UnsupportedAlgorithm(shown(alg)))?;
            jwk = jwk.with_alg(algorithm)?;
        }
        match optional_text(members, "kid")? {
            Some(kid) => jwk.with_kid(kid),
            None => Ok(jwk),
        }
    }

    /// Whether both are the same key, whatever they are called and used for.
    pub(crate) fn same_key(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }

    /// The key ready for each algorithm it is for.
    pub(crate) fn verifying_keys(&self) -> Result<Vec<VerifyingKey>, NotAKey> {
        match &self.algorithm {
            Some(algorithm) => Ok(vec![self.numbers.verifying_key(*algorithm)?]),
            None => self.kty().algorithms().iter().map(|algorithm| self.numbers.verifying_key(*algorithm)).collect(),
        }
    }

    /// The key ready for that algorithm, if it is for it.
    pub(crate) fn verifying_key(&self, algorithm: Algorithm) -> Option<VerifyingKey> {
        let is_for_it =
            self.algorithm.is_none_or(|own| own == algorithm) && self.kty().algorithms().contains(&algorithm);
        is_for_it.then(|| self.numbers.verifying_key(algorithm).ok()).flatten()
    }

    fn new(numbers: Numbers) -> Result<Self, JwkError> {
        match &numbers {
            Numbers::Rsa { n, e } => check_rsa(n, e)?,
            Numbers::Ed25519 { x } if has_small_order(x) => return Err(JwkError::SmallOrder),
            _ => {}
        }
        let jwk = Self { numbers, kid: None, algorithm: None, says_use: true };
        jwk.numbers.verifying_key(jwk.kty().algorithms()[0]).map_err(|_| JwkError::NotAKey)?;
        Ok(jwk)
    }
}

impl KeyType {
    /// The algorithms a key of this kind can serve; never empty.
    fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Rsa => &Algorithm::RSA,
            Self::P256 => &[Algorithm::ES256],
            Self::P384 => &[Algorithm::ES384],
            Self::Ed25519 => &[Algorithm::EdDSA],
        }
    }
}

impl JwkError {
    /// Private or shared-secret material was published: someone should act.
    pub fn is_alarming(&self) -> bool {
        matches!(self, Self::PrivateMember(_) | Self::SymmetricKey)
    }

    /// The key may be good, but not for this crate: an unknown kind or algorithm, or another use.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::UnsupportedKeyType { .. } | Self::UnsupportedAlgorithm(_) | Self::NotForSignatures(_))
    }
}

/// Exactly `kty kid use alg` and the public numbers, in that order; what is unknown is left out.
impl Serialize for PublicJwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let kty = match self.kty() {
            KeyType::Rsa => "RSA",
            KeyType::P256 | KeyType::P384 => "EC",
            KeyType::Ed25519 => "OKP",
        };
        map.serialize_entry("kty", kty)?;
        if let Some(kid) = &self.kid {
            map.serialize_entry("kid", kid)?;
        }
        if self.says_use {
            map.serialize_entry("use", "sig")?;
        }
        if let Some(algorithm) = self.algorithm {
            map.serialize_entry("alg", algorithm.as_str())?;
        }
        match &self.numbers {
            Numbers::Rsa { n, e } => {
                map.serialize_entry("n", &base64url(n))?;
                map.serialize_entry("e", &base64url(e))?;
            }
            Numbers::P256 { x, y } => {
                map.serialize_entry("crv", "P-256")?;
                map.serialize_entry("x", &base64url(x))?;
                map.serialize_entry("y", &base64url(y))?;
            }
            Numbers::P384 { x, y } => {
                map.serialize_entry("crv", "P-384")?;
                map.serialize_entry("x", &base64url(x))?;
                map.serialize_entry("y", &base64url(y))?;
            }
            Numbers::Ed25519 { x } => {
                map.serialize_entry("crv", "Ed25519")?;
                map.serialize_entry("x", &base64url(x))?;
            }
        }
        map.end()
    }
}

/// The public numbers, big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Numbers {
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    P256 { x: [u8; 32], y: [u8; 32] },
    P384 { x: [u8; 48], y: [u8; 48] },
    Ed25519 { x: [u8; 32] },
}

impl Numbers {
    fn read(members: &Object<'_>) -> Result<Self, JwkError> {
        match text(members, "kty")? {
            "RSA" => Ok(Self::Rsa { n: number(members, "n")?.into(), e: number(members, "e")?.into() }),
            "EC" => match text(members, "crv")? {
                "P-256" => Ok(Self::P256 { x: read_coordinate(members, "x")?, y: read_coordinate(members, "y")? }),
                "P-384" => Ok(Self::P384 { x: read_coordinate(members, "x")?, y: read_coordinate(members, "y")? }),
                crv => Err(JwkError::UnsupportedKeyType { member: "crv", found: shown(crv) }),
            },
            "OKP" => match text(members, "crv")? {
                "Ed25519" => Ok(Self::Ed25519 { x: read_coordinate(members, "x")? }),
                crv => Err(JwkError::UnsupportedKeyType { member: "crv", found: shown(crv) }),
            },
            kty => Err(JwkError::UnsupportedKeyType { member: "kty", found: shown(kty) }),
        }
    }

    fn verifying_key(&self, algorithm: Algorithm) -> Result<VerifyingKey, NotAKey> {
        match self {
            Self::Rsa { n, e } => VerifyingKey::rsa(algorithm, n, e),
            Self::P256 { x, y } => VerifyingKey::curve(algorithm, &uncompressed_point(x, y)),
            Self::P384 { x, y } => VerifyingKey::curve(algorithm, &uncompressed_point(x, y)),
            Self::Ed25519 { x } => VerifyingKey::curve(algorithm, x),
        }
    }
}

/// SEC 1 §2.3.3.
fn uncompressed_point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

/// RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used". Longer than 8192 only serves to waste time.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), JwkError> {
    for (member, number) in [("n", n), ("e", e)] {
        if number.first() == Some(&0) {
            return Err(JwkError::LeadingZero(member));
        }
    }
    let found_bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&found_bits) || n.last().is_none_or(|last| last % 2 == 0) {
        return Err(JwkError::Modulus { found_bits });
    }
    // 33 bits is the most that aws-lc accepts when it verifies.
    if e.len() > 8 {
        return Err(JwkError::Exponent);
    }
    let exponent = e.iter().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    if exponent < 3 || exponent % 2 == 0 || exponent >> 33 != 0 {
        return Err(JwkError::Exponent);
    }
    Ok(())
}

/// Whether an Ed25519 point has order 1, 2, 4 or 8. Its `x` is up to sign decided by `y`, of which there are five, two
/// of them with a second, unreduced spelling.
fn has_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL_ORDER_Y.contains(&y)
}

/// Refuses a key that is meant for something else; tells whether it says `use: sig` (RFC 7517 §4.2, §4.3).
fn check_use(members: &Object<'_>) -> Result<bool, JwkError> {
    let says_use = match optional_text(members, "use")? {
        None => false,
        Some("sig") => true,
        Some(_) => return Err(JwkError::NotForSignatures("use is not sig")),
    };
    let wrong_type = |found: &Json<'_>| JwkError::WrongType {
        member: "key_ops",
        expected: "an array of strings",
        found: found.kind(),
    };
    match members.get("key_ops") {
        None => {}
        Some(Json::Array(operations)) => {
            let mut verifies = false;
            for operation in operations {
                let Json::String(operation) = operation else { return Err(wrong_type(operation)) };
                verifies |= operation == "verify";
            }
            if !verifies {
                return Err(JwkError::NotForSignatures("key_ops has no verify"));
            }
        }
        Some(other) => return Err(wrong_type(other)),
    }
    Ok(says_use)
}

fn optional_text<'j>(members: &'j Object<'_>, member: &'static str) -> Result<Option<&'j str>, JwkError> {
    match members.get(member) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(JwkError::WrongType { member, expected: "a string", found: other.kind() }),
    }
}

fn text<'j>(members: &'j Object<'_>, member: &'static str) -> Result<&'j str, JwkError> {
    optional_text(members, member)?.ok_or(JwkError::MissingMember(member))
}

fn number(members: &Object<'_>, member: &'static str) -> Result<Vec<u8>, JwkError> {
    URL_SAFE_NO_PAD.decode(text(members, member)?).map_err(|_| JwkError::NotBase64Url(member))
}

fn read_coordinate<const N: usize>(members: &Object<'_>, member: &'static str) -> Result<[u8; N], JwkError> {
    coordinate(member, &number(members, member)?)
}

fn coordinate<const N: usize>(member: &'static str, octets: &[u8]) -> Result<[u8; N], JwkError> {
    octets.try_into().map_err(|_| JwkError::WrongLength {
        member,
        expected: if N == 48 { "48 bytes" } else { "32 bytes" },
        found_bytes: octets.len(),
    })
}

fn base64url(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// Every private member of RFC 7518 §6, RFC 8037 §2 and RFC 9964.
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// The longest key id, in keys and in tokens.
pub(crate) const MAX_KID_BYTES: usize = 256;

/// The `y` of the points of small order, little-endian: 0, 1, the two of order 8, -1, and the unreduced 0 and 1.
const SMALL_ORDER_Y: [[u8; 32]; 7] = [
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
];
