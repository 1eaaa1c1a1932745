//! Password hashes as other servers write them, and as this one does.
//!
//! What is imported decides how much work a sign-in is, so it is read completely before it is stored: parameters that
//! would take too much memory or time are refused, and so is a digest so short that somebody could meet it by chance.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use subtle::ConstantTimeEq as _;
use tokio::runtime::Handle;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::PasswordHash;

/// Why a text is not a password hash that can be used here. It never repeats the text, in whose place a password may
/// have been put by mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    /// No form that is known.
    #[error(
        "expected a password hash: argon2 ($argon2id$…), bcrypt ($2b$…), PBKDF2 ($pbkdf2-sha256$…) or scrypt ($scrypt$…)"
    )]
    UnknownForm,
    /// The form is known, and this part of it is not as it should be.
    #[error("the {form} hash is malformed: {part}")]
    Malformed {
        /// Which form.
        form: &'static str,
        /// What is wrong.
        part: &'static str,
    },
    /// Whoever signs in with it would keep the server busy.
    #[error("the {form} hash costs too much to check: {most}")]
    TooCostly {
        /// Which form.
        form: &'static str,
        /// What is accepted.
        most: &'static str,
    },
}

/// Reads a password hash from elsewhere. It stays as it is written until its owner signs in.
///
/// Accepted are argon2id, argon2i and argon2d (PHC), bcrypt (`$2a$`, `$2b$`, `$2y$`), PBKDF2 with SHA-1, SHA-256 or
/// SHA-512 (PHC, as passlib writes it, as Django writes it) and scrypt (PHC).
///
/// # Errors
/// [`InvalidHash`]
pub fn parse_password_hash(text: &str) -> Result<PasswordHash, InvalidHash> {
    Hash::parse(text)?;
    Ok(PasswordHash::new(text.to_owned()))
}

/// A password hash, taken apart.
pub(super) enum Hash {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, digest: Vec<u8> },
    Bcrypt { cost: u32, salt: [u8; 16], digest: [u8; 23] },
    Pbkdf2 { algorithm: pbkdf2::Algorithm, iterations: NonZeroU32, salt: Vec<u8>, digest: Vec<u8> },
    Scrypt { params: scrypt::Params, salt: Vec<u8>, digest: Vec<u8> },
}

/// The digest could not be computed: there is not enough memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotComputed;

impl Hash {
    /// What is computed where there is nothing to compare with: the same work as a hash of this version.
    pub(super) fn dummy() -> Self {
        let [salt, digest] = [vec![0; SALT_BYTES], vec![0; DIGEST_BYTES]];
        Self::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, params: current(), salt, digest }
    }

    /// Hashes a password as this version does, as a PHC string.
    pub(super) fn make(password: &str, salt: &[u8; SALT_BYTES]) -> Result<PasswordHash, NotComputed> {
        let digest = argon2(Algorithm::Argon2id, Version::V0x13, &current(), salt, password, DIGEST_BYTES)?;
        let [salt, digest] = [salt.as_slice(), &digest].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        Ok(PasswordHash::new(format!("{CURRENT_PREFIX}{salt}${digest}")))
    }

    pub(super) fn parse(text: &str) -> Result<Self, InvalidHash> {
        // Longer than any, and what is printed in a hash is ASCII.
        if text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidHash::UnknownForm);
        }
        // As Django marks it.
        let text = text.strip_prefix("argon2").filter(|rest| rest.starts_with("$argon2")).unwrap_or(text);
        let fields: Vec<&str> = text.split('$').collect();
        match fields.as_slice() {
            ["", name @ ("argon2id" | "argon2i" | "argon2d"), fields @ ..] => parse_argon2(name, fields),
            ["", "2a" | "2b" | "2y", cost, salt_and_digest] => parse_bcrypt(cost, salt_and_digest),
            ["", name @ ("pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512"), rounds, salt, digest] => {
                let malformed = |part| InvalidHash::Malformed { form: "PBKDF2", part };
                let salt = decode(salt).ok_or(malformed("the salt is not base64"))?;
                parse_pbkdf2(name, iterations(rounds).ok_or(malformed("the iterations"))?, salt, digest)
            }
            [name @ ("pbkdf2_sha1" | "pbkdf2_sha256"), rounds, salt, digest] => {
                let rounds =
                    rounds.parse().map_err(|_| InvalidHash::Malformed { form: "PBKDF2", part: "the iterations" })?;
                parse_pbkdf2(name, rounds, salt.as_bytes().to_vec(), digest)
            }
            ["", "scrypt", params, salt, digest] => parse_scrypt(params, salt, digest),
            _ => Err(InvalidHash::UnknownForm),
        }
    }

    /// What the time to check it depends on: its family, and how much work it is compared with others of that.
    pub(super) fn cost(&self) -> (&'static str, u64) {
        match self {
            Self::Argon2 { params, .. } => ("argon2", u64::from(params.m_cost()) * u64::from(params.t_cost())),
            Self::Bcrypt { cost, .. } => ("bcrypt", 1 << cost),
            Self::Pbkdf2 { algorithm, iterations, digest, .. } => {
                let families =
                    [(pbkdf2::PBKDF2_HMAC_SHA1, "pbkdf2-sha1", 20), (pbkdf2::PBKDF2_HMAC_SHA512, "pbkdf2-sha512", 64)];
                let found = families.into_iter().find(|(known, ..)| known == algorithm);
                let (family, block_bytes) = found.map_or(("pbkdf2-sha256", 32), |(_, family, bytes)| (family, bytes));
                (family, u64::from(iterations.get()) * digest.len().div_ceil(block_bytes) as u64)
            }
            Self::Scrypt { params, .. } => {
                ("scrypt", (u64::from(params.r()) * u64::from(params.p())) << params.log_n())
            }
        }
    }

    /// Whether it is made as [`make`](Self::make) does.
    pub(super) fn is_current(&self) -> bool {
        match self {
            Self::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, params, salt, digest } => {
                let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
                (memory, passes, lanes) == (MEMORY_KIB, PASSES, LANES)
                    && salt.len() >= SALT_BYTES
                    && digest.len() >= DIGEST_BYTES
            }
            _ => false,
        }
    }

    /// Whether it is the hash of this password, in a time that does not depend on how much of it is.
    pub(super) fn matches(&self, password: &str) -> Result<bool, NotComputed> {
        match self {
            Self::Argon2 { algorithm, version, params, salt, digest } => {
                let computed = argon2(*algorithm, *version, params, salt, password, digest.len())?;
                Ok(computed.ct_eq(digest).into())
            }
            Self::Bcrypt { cost, salt, digest } => {
                // The key is the password with its zero byte, up to 72 bytes of it.
                let mut key = Zeroizing::new(Vec::with_capacity(BCRYPT_KEY_BYTES));
                key.extend(password.bytes().chain([0]).take(BCRYPT_KEY_BYTES));
                let computed = Zeroizing::new(bcrypt::bcrypt(*cost, *salt, &key));
                Ok(computed[..digest.len()].ct_eq(digest).into())
            }
            Self::Pbkdf2 { algorithm, iterations, salt, digest } => {
                Ok(pbkdf2::verify(*algorithm, *iterations, salt, password.as_bytes(), digest).is_ok())
            }
            Self::Scrypt { params, salt, digest } => {
                let mut computed = Zeroizing::new(vec![0; digest.len()]);
                scrypt::scrypt(password.as_bytes(), salt, params, &mut computed).map_err(|_| NotComputed)?;
                Ok(computed.ct_eq(digest).into())
            }
        }
    }
}

fn argon2(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    salt: &[u8],
    password: &str,
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, NotComputed> {
    let mut digest = Zeroizing::new(vec![0; length]);
    let argon2 = Argon2::new(algorithm, version, params.clone());
    let is_current = params.block_count() == current().block_count();
    // Another's parameters count until its owner signs in.
    let spare = if is_current { spare().pieces.pop() } else { None };
    let mut memory = spare.unwrap_or_else(|| Vec::with_capacity(params.block_count().max(GIVEN_BACK_BLOCKS)));
    memory.resize(params.block_count(), Block::new());
    let computed = argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut digest, &mut memory);
    if is_current {
        keep(memory);
    }
    computed.map_err(|_| NotComputed)?;
    Ok(digest)
}

/// What hashes were computed in and others will be: as many pieces as were needed at once. Given back each time, 19 MiB
/// would cost thousands of page faults anew. Nothing is in them that the digest does not tell.
struct Spare {
    pieces: Vec<Vec<Block>>,
    used_at: Option<Instant>,
    /// Somebody will give them back.
    is_watched: bool,
}

fn spare() -> MutexGuard<'static, Spare> {
    static SPARE: Mutex<Spare> = Mutex::new(Spare { pieces: Vec::new(), used_at: None, is_watched: false });
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a piece for the next hash, if that comes soon.
fn keep(memory: Vec<Block>) {
    // A command ends soon, and gives everything back.
    let Ok(runtime) = Handle::try_current() else { return };
    let mut spare = spare();
    spare.pieces.push(memory);
    spare.used_at = Some(Instant::now());
    if !std::mem::replace(&mut spare.is_watched, true) {
        runtime.spawn(give_back());
    }
}

/// Gives the pieces back once no hash was computed for [`KEPT`].
async fn give_back() {
    struct Watching;
    impl Drop for Watching {
        fn drop(&mut self) {
            let mut spare = spare();
            spare.pieces = Vec::new();
            spare.is_watched = false;
        }
    }
    let _watching = Watching;
    loop {
        let used_at = spare().used_at;
        let Some(left) = used_at.and_then(|at| KEPT.checked_sub(at.elapsed())).filter(|left| !left.is_zero()) else {
            return;
        };
        tokio::time::sleep(left).await;
    }
}

fn current() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within argon2's limits")
}

/// `v=19$m=65536,t=3,p=4$salt$digest`; before version 19 there was no `v`.
fn parse_argon2(name: &str, fields: &[&str]) -> Result<Hash, InvalidHash> {
    let malformed = |part| InvalidHash::Malformed { form: "argon2", part };
    let (version, fields) = match fields {
        ["v=19", rest @ ..] => (Version::V0x13, rest),
        ["v=16", rest @ ..] => (Version::V0x10, rest),
        [other, ..] if other.starts_with("v=") => return Err(malformed("the version is neither 16 nor 19")),
        rest => (Version::V0x10, rest),
    };
    let [params, salt, digest] = fields else { return Err(malformed("it has not all its parts")) };
    let [memory, passes, lanes] =
        numbers(params, ["m", "t", "p"]).ok_or(malformed("the parameters are not m, t and p"))?;
    let total = u64::from(memory) * u64::from(passes);
    if memory > MAX_MEMORY_KIB || total > MAX_WORK_KIB || lanes > 64 {
        return Err(InvalidHash::TooCostly {
            form: "argon2",
            most: "at most m=262144 (256 MiB), m times t=1048576, p=64",
        });
    }
    let algorithm = match name {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        _ => Algorithm::Argon2d,
    };
    let salt = decode(salt).filter(|salt| (8..=MAX_SALT_BYTES).contains(&salt.len())).ok_or(malformed("the salt"))?;
    let digest = digest_of(digest).ok_or(malformed("the digest"))?;
    let params = Params::new(memory, passes, lanes, Some(digest.len()))
        .map_err(|_| malformed("the parameters are too small"))?;
    Ok(Hash::Argon2 { algorithm, version, params, salt, digest })
}

fn parse_bcrypt(cost: &str, salt_and_digest: &str) -> Result<Hash, InvalidHash> {
    let malformed = |part| InvalidHash::Malformed { form: "bcrypt", part };
    let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost = cost.parse().ok().filter(|_| is_number).filter(|cost| *cost >= 4).ok_or(malformed("the cost"))?;
    if cost > MAX_BCRYPT_COST {
        return Err(InvalidHash::TooCostly { form: "bcrypt", most: "at most cost 14" });
    }
    let (salt, digest) = salt_and_digest.split_at_checked(22).ok_or(malformed("it is too short"))?;
    let exact = |text: &str| BCRYPT.decode(text).ok();
    let salt = exact(salt).and_then(|salt| salt.try_into().ok()).ok_or(malformed("the salt"))?;
    let digest = exact(digest).and_then(|digest| digest.try_into().ok()).ok_or(malformed("the digest"))?;
    Ok(Hash::Bcrypt { cost, salt, digest })
}

fn parse_pbkdf2(name: &str, iterations: u32, salt: Vec<u8>, digest: &str) -> Result<Hash, InvalidHash> {
    let malformed = |part| InvalidHash::Malformed { form: "PBKDF2", part };
    let algorithm = match name {
        "pbkdf2" | "pbkdf2-sha1" | "pbkdf2_sha1" => pbkdf2::PBKDF2_HMAC_SHA1,
        "pbkdf2-sha512" => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => pbkdf2::PBKDF2_HMAC_SHA256,
    };
    let iterations = NonZeroU32::new(iterations).ok_or(malformed("the iterations"))?;
    if iterations.get() > MAX_ITERATIONS {
        return Err(InvalidHash::TooCostly { form: "PBKDF2", most: "at most 4000000 iterations" });
    }
    if !(1..=MAX_SALT_BYTES).contains(&salt.len()) {
        return Err(malformed("the salt"));
    }
    Ok(Hash::Pbkdf2 { algorithm, iterations, salt, digest: digest_of(digest).ok_or(malformed("the digest"))? })
}

fn parse_scrypt(params: &str, salt: &str, digest: &str) -> Result<Hash, InvalidHash> {
    let malformed = |part| InvalidHash::Malformed { form: "scrypt", part };
    let [log_n, r, p] = numbers(params, ["ln", "r", "p"]).ok_or(malformed("the parameters are not ln, r and p"))?;
    let memory_kib =
        1u64.checked_shl(log_n).filter(|_| log_n < 32).unwrap_or(u64::MAX).saturating_mul(u64::from(r)) / 8;
    if memory_kib > u64::from(MAX_MEMORY_KIB) || memory_kib.saturating_mul(u64::from(p)) > MAX_WORK_KIB {
        return Err(InvalidHash::TooCostly {
            form: "scrypt",
            most: "at most 256 MiB of memory and p times that 1 GiB",
        });
    }
    let log_n = u8::try_from(log_n).ok().filter(|log_n| *log_n > 0);
    let params = log_n.and_then(|log_n| scrypt::Params::new(log_n, r, p).ok());
    let salt = decode(salt).filter(|salt| (1..=MAX_SALT_BYTES).contains(&salt.len())).ok_or(malformed("the salt"))?;
    Ok(Hash::Scrypt {
        params: params.ok_or(malformed("the parameters"))?,
        salt,
        digest: digest_of(digest).ok_or(malformed("the digest"))?,
    })
}

/// `29000` as passlib writes it, or `i=29000` with the length behind it as a PHC string has it.
fn iterations(text: &str) -> Option<u32> {
    let first = text.split(',').next()?;
    first.strip_prefix("i=").unwrap_or(text).parse().ok()
}

/// The numbers of `m=65536,t=3,p=4`, which have to have these names, in this order or another.
fn numbers<const COUNT: usize>(text: &str, names: [&str; COUNT]) -> Option<[u32; COUNT]> {
    let mut numbers = [None; COUNT];
    for pair in text.split(',') {
        let (name, number) = pair.split_once('=')?;
        let place = names.iter().position(|known| *known == name)?;
        if numbers[place].replace(number.parse().ok()?).is_some() {
            return None;
        }
    }
    let found: Vec<u32> = numbers.into_iter().collect::<Option<_>>()?;
    found.try_into().ok()
}

/// Fewer bytes than this somebody could meet by chance; more than 64 are none of these algorithms' own.
fn digest_of(text: &str) -> Option<Vec<u8>> {
    decode(text).filter(|digest| (16..=64).contains(&digest.len()))
}

/// Base64 with or without its padding, and with passlib's `.` for `+`.
fn decode(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text.replace('.', "+")).ok()
}

/// What OWASP's cheat sheet on password storage names first: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What the hashes begin with that are made so.
pub(crate) const CURRENT_PREFIX: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
/// Room of 33 MiB, of which only what is written to costs memory. glibc gives back what is larger than 32 MiB as soon as it is
/// freed (`M_MMAP_THRESHOLD`, mallopt(3)); of what is smaller it learns to keep more each time.
const GIVEN_BACK_BLOCKS: usize = 33 * 1024;
/// How long memory is kept for the next hash: a few page faults matter to who signs in after another, not to who comes later.
const KEPT: Duration = Duration::from_secs(1);

/// Of our own salts and digests.
pub(super) const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

/// 256 MiB, as much as libsodium's moderate setting takes, and a gigabyte to be gone through in all.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_WORK_KIB: u64 = 1024 * 1024;
/// About a second.
const MAX_BCRYPT_COST: u32 = 14;
/// About a second; Django is at 1.5 million.
const MAX_ITERATIONS: u32 = 4_000_000;
const MAX_SALT_BYTES: usize = 128;
const BCRYPT_KEY_BYTES: usize = 72;

/// Other implementations leave something in the bits that are left over.
const BCRYPT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by bcrypt, passlib, Django, argon2-cffi (the reference implementation) and hashlib of Python.
    const VECTORS: [&str; 18] = [
        "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa",
        "$2a$04$irBqBUkg8f2VuhMhm4YPQeh4n8cdCbqeOQrhJhrUiInf0tGIfisL2",
        "$2y$05$BZ6R0GMog60ZMyd3XWV2V.CYWfVMHeHH0p/H2ky0QCJOTRb64QMJe",
        "$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$K1JAXOaMUjbwZ8igwiaeQyvnvmGLZ1kPh1AMb6qkWJ4",
        "$pbkdf2-sha512$1000$MDEyMzQ1Njc4OWFiY2RlZg$S7YgObCZ0Et9VK89iE5tJh3fnxID1i5W6IyTMuo2DNy0oyN/CKErL.RlrhVs0agMi3IfTll.cnLlXcdNBdGkzw",
        "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$7mbioWZrOErXu9Ml3ZrB8fifgkM",
        "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$K1JAXOaMUjbwZ8igwiaeQyvnvmGLZ1kPh1AMb6qkWJ4",
        "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$K1JAXOaMUjbwZ8igwiaeQyvnvmGLZ1kPh1AMb6qkWJ4",
        "pbkdf2_sha256$1000$saltsaltsaltsalt$5jYgd5THnM/St2yFEDiSeo7dEby5rDVd3QjWp4pASHc=",
        "pbkdf2_sha1$1000$saltsaltsaltsalt$I0ewTIU9ZL+79AZ4jL+8tXtDPhA=",
        "$argon2id$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$dFM9Y0gscsVqi2ycvog7C+ov4afCJjsOmBM0Ckd4/c4",
        "$argon2i$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$xgizX7oWuaY1cFEMTTbDX5Wk63HAIzpu794LM5HkLl4",
        "$argon2d$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$VELLn3QVx9AR+yFlcmdYl6GStlSXosOPeKqFSqDUi34",
        "$argon2i$v=16$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$3vrqkGNd0Xud06LAPfThgHFc//z8XUgUymIIK5wqBrI",
        "$argon2i$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$3vrqkGNd0Xud06LAPfThgHFc//z8XUgUymIIK5wqBrI",
        "argon2$argon2id$v=19$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$Z11mYCRXAmb+tP8tZsTR0w",
        "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$0H9q4OGxGnXYvQRarCPOqK0DmqJ5sBbKnxx4PrsrFAQ",
        CURRENT,
    ];
    const CURRENT: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$Nom/SmaGx3xVCApWJXg4RJdMjZ78aNzHr90ztViKM0s";
    const PASSWORD: &str = "Grüße, wörld 1";

    #[test]
    fn hashes_of_other_implementations_are_checked() {
        for vector in VECTORS {
            let hash = Hash::parse(vector).unwrap_or_else(|error| panic!("{vector}: {error}"));

            assert_eq!(hash.matches(PASSWORD), Ok(true), "{vector}");
            assert_eq!(hash.matches("Grüße, wörld 2"), Ok(false), "{vector}");
            assert_eq!(hash.matches(""), Ok(false), "{vector}");
            assert_eq!(hash.is_current(), vector == CURRENT, "{vector}");
        }
    }

    #[test]
    fn ours_is_the_one_of_the_reference_implementation() {
        let ours = Hash::make(PASSWORD, b"0123456789abcdef").expect("enough memory");

        assert_eq!(ours.expose(), CURRENT);
        let params = format!("m={MEMORY_KIB},t={PASSES},p={LANES}");
        assert!(CURRENT_PREFIX.contains(&params), "what it says is what was done");
        assert!(Hash::parse(ours.expose()).expect("our own").is_current());
    }

    #[tokio::test]
    async fn memory_is_kept_for_a_moment_and_then_given_back() {
        for _ in 0..2 {
            Hash::make(PASSWORD, b"0123456789abcdef").expect("enough memory");
            assert_eq!(spare().pieces.len(), 1);
            Hash::make(PASSWORD, b"0123456789abcdef").expect("enough memory");
            assert_eq!(spare().pieces.len(), 1, "it is used again");

            assert!(spare().is_watched, "somebody gives it back");

            tokio::time::timeout(KEPT * 20, give_back()).await.expect("nobody hashes");
            assert!(spare().pieces.is_empty());
        }
    }

    #[test]
    fn bcrypt_reads_72_bytes() {
        let hash = Hash::parse("$2b$04$jTReAw4mD2qDGQVaQ9scn.LmIC9VdW8xJySrO6lwTts2z9wV7vPgG").expect("a hash");

        assert_eq!(hash.matches(&"x".repeat(72)), Ok(true));
        assert_eq!(hash.matches(&"x".repeat(80)), Ok(true), "as wherever it was made");
        assert_eq!(hash.matches(&"x".repeat(71)), Ok(false));
    }

    #[test]
    fn a_hash_that_would_keep_the_server_busy_is_refused() {
        let (salt, digest) = ("MDEyMzQ1Njc4OWFiY2RlZg", "dFM9Y0gscsVqi2ycvog7C+ov4afCJjsOmBM0Ckd4/c4");
        for costly in [
            format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=262144,t=5,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=4294967295,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=262144,t=1,p=16777215${salt}${digest}"),
            format!("$pbkdf2-sha256$4294967295${salt}${digest}"),
            format!("$scrypt$ln=63,r=4294967295,p=4294967295${salt}${digest}"),
            format!("$scrypt$ln=20,r=8,p=1${salt}${digest}"),
            format!("$scrypt$ln=16,r=8,p=64${salt}${digest}"),
            "$2b$31$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa".to_owned(),
            "$2b$15$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa".to_owned(),
        ] {
            let refusal = parse_password_hash(&costly).expect_err(&costly);

            assert!(matches!(refusal, InvalidHash::TooCostly { .. }), "{costly}: {refusal}");
            assert!(refusal.to_string().contains("at most"), "{refusal}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_without_repeating_it() {
        let (salt, digest) = ("MDEyMzQ1Njc4OWFiY2RlZg", "dFM9Y0gscsVqi2ycvog7C+ov4afCJjsOmBM0Ckd4/c4");
        for text in [
            String::new(),
            "hunter2".to_owned(),
            "$$$".to_owned(),
            "$6$hunter2$x".to_owned(),
            "$2x$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa".to_owned(),
            "$2b$+4$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa".to_owned(),
            "$2b$03$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa".to_owned(),
            "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HV".to_owned(),
            "$2b$04$é".to_owned(),
            format!("$argon2id$v=20$m=64,t=2,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=2${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=2,t=2${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=2,p=1,keyid=x${salt}${digest}"),
            format!("$argon2id$v=19$m=4,t=0,p=1${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=2,p=0${salt}${digest}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${salt}"),
            format!("$argon2id$v=19$m=64,t=2,p=1$c2hvcnQ${digest}"),
            format!("$argon2id$v=19$m=64,t=2,p=1${salt}$hunter2"),
            format!("$argon2id$v=19$m=64,t=2,p=1${salt}${digest}$x"),
            format!("$pbkdf2-sha256$0${salt}${digest}"),
            format!("$pbkdf2-sha256$i=-1${salt}${digest}"),
            format!("$pbkdf2-sha256$1000$${digest}"),
            format!("$pbkdf2-md5$1000${salt}${digest}"),
            format!("$scrypt$ln=0,r=8,p=1${salt}${digest}"),
            format!("$scrypt$ln=4,r=0,p=1${salt}${digest}"),
            format!("$scrypt$ln=4,r=8,p=0${salt}${digest}"),
            format!("$scrypt$ln=4,r=8${salt}${digest}"),
            format!("$argon2id${}", "x".repeat(600)),
        ] {
            let refusal = parse_password_hash(&text).expect_err(&text);

            assert!(!matches!(refusal, InvalidHash::TooCostly { .. }), "{text}: {refusal}");
            assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
        }
    }
}
