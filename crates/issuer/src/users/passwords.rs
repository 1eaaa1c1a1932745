//! Passwords: hashed by argon2id, a few at a time, and judged before they are taken.
//!
//! 1. A hash takes 19 MiB and a processor on purpose, so strangers must not be able to order any number of them. A few are
//!    computed at once, on blocking threads; some wait; who comes then is told to come again ([`PasswordError::Busy`]).
//! 2. Nobody may learn from the time it takes whether a user exists. Where there is no hash to compare with, one of the
//!    same cost is computed. A hash that was imported from elsewhere takes its own time until its owner signs in.
//! 3. A hash of another algorithm or with other parameters is made anew when its password comes by.
//! 4. A password is prepared as RFC 8265 §4.2.2 has it (OpaqueString): spaces of every kind are a space, and characters
//!    are composed (NFC). So the same password typed on another keyboard is the same. Case and compatible characters
//!    stay distinct, and nothing is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icu_normalizer::ComposingNormalizer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use super::hashes::{Hash, NotComputed, SALT_BYTES};
use super::{PasswordHash, login_key};
use crate::edges::{Entropy, NoEntropy};

/// What hashes passwords, with a limit on how many at once.
pub struct Passwords {
    /// For each that is computed or waits.
    places: Arc<Semaphore>,
    /// For each that is computed.
    slots: Arc<Semaphore>,
    concurrency: usize,
    entropy: Arc<dyn Entropy>,
    computed: Arc<AtomicU64>,
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already: come again in a few seconds.
    #[error("too many passwords are being checked")]
    Busy,
    /// Memory, threads or random bytes ran out.
    #[error("the password could not be hashed: {0}")]
    Failed(String),
}

/// Whether a password is somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Right {
        /// The same password hashed as this version does, to be stored instead of the old hash.
        rehashed: Option<PasswordHash>,
    },
    /// It is not, or they have none.
    Wrong,
}

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Shorter than [`MIN_CHARACTERS`].
    #[error("it has fewer than {MIN_CHARACTERS} characters")]
    TooShort,
    /// Longer than [`MAX_CHARACTERS`].
    #[error("it has more than {MAX_CHARACTERS} characters")]
    TooLong,
    /// There is a character in it that nobody types.
    #[error("there is a control character in it")]
    ControlCharacter,
    /// It is the user name, the e-mail address or the name.
    #[error("it is the user name or the e-mail address")]
    SameAsAccount,
    /// It is among those that are tried first.
    #[error("it is too easy to guess")]
    TooCommon,
}

impl Passwords {
    /// Computes up to `concurrency` hashes at once, and lets 32 times as many wait.
    #[must_use]
    pub fn new(concurrency: usize, entropy: Arc<dyn Entropy>) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            places: Arc::new(Semaphore::new(concurrency * (1 + WAITING_PER_SLOT))),
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            entropy,
            computed: Arc::default(),
        }
    }

    /// How many are computed at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// How many hashes were computed so far.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// Hashes a password by argon2id.
    ///
    /// # Errors
    /// [`PasswordError`]
    pub async fn hash(&self, password: &str) -> Result<PasswordHash, PasswordError> {
        let password = prepare(password);
        let worker = self.worker();
        self.run(move || worker.make(&password)).await?
    }

    /// Whether `hash` is one of `password`. Without one (no such user, or one without a password) a hash of the same cost
    /// is computed and the answer is [`Verdict::Wrong`].
    ///
    /// # Errors
    /// [`PasswordError`]
    pub async fn verify(&self, password: &str, hash: Option<&PasswordHash>) -> Result<Verdict, PasswordError> {
        let password = prepare(password);
        let stored = hash.and_then(|hash| match Hash::parse(hash.expose()) {
            Ok(hash) => Some(hash),
            Err(error) => {
                warn!(%error, "a stored password hash cannot be used: its owner needs a new password");
                None
            }
        });
        let worker = self.worker();
        self.run(move || worker.verify(&password, stored.as_ref())).await?
    }

    fn worker(&self) -> Worker {
        Worker { entropy: Arc::clone(&self.entropy), computed: Arc::clone(&self.computed) }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|closed| PasswordError::Failed(closed.to_string()))?;
        // They are given back when the work is done, not when whoever wanted it has gone.
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (slot, place);
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(held);
            result
        });
        done.await.map_err(|failure| PasswordError::Failed(failure.to_string()))
    }
}

/// What runs on a blocking thread.
struct Worker {
    entropy: Arc<dyn Entropy>,
    computed: Arc<AtomicU64>,
}

impl Worker {
    fn make(&self, password: &str) -> Result<PasswordHash, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt).map_err(|error: NoEntropy| PasswordError::Failed(error.to_string()))?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        Hash::make(password, &salt).map_err(no_memory)
    }

    fn verify(&self, password: &str, stored: Option<&Hash>) -> Result<Verdict, PasswordError> {
        let dummy = Hash::dummy();
        self.computed.fetch_add(1, Ordering::Relaxed);
        let matches = stored.unwrap_or(&dummy).matches(password).map_err(no_memory)?;
        match stored {
            Some(hash) if matches => {
                let rehashed = if hash.is_current() {
                    None
                } else {
                    self.make(password)
                        .map_err(|error| {
                            warn!(%error, "a password is right, and keeps its old hash for now");
                        })
                        .ok()
                };
                Ok(Verdict::Right { rehashed })
            }
            _ => Ok(Verdict::Wrong),
        }
    }
}

/// Whether somebody may choose this password. `about` is what others know of them: user name, e-mail address, name.
///
/// NIST SP 800-63B (revision 3, §5.1.1.2): length, and whether it is "commonly used, expected, or compromised"; no rules about which
/// characters to use. What is expected is found by zxcvbn, which knows common passwords, words, names, dates and keyboards.
///
/// # Errors
/// [`WeakPassword`]
pub fn judge_new_password(password: &str, about: &[&str]) -> Result<(), WeakPassword> {
    let password = prepare(password);
    let characters = password.chars().count();
    if characters < MIN_CHARACTERS {
        return Err(WeakPassword::TooShort);
    }
    if characters > MAX_CHARACTERS {
        return Err(WeakPassword::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(WeakPassword::ControlCharacter);
    }
    let key = Zeroizing::new(login_key(&password));
    if about.iter().any(|known| login_key(known) == *key) {
        return Err(WeakPassword::SameAsAccount);
    }
    let words = about.iter().flat_map(|known| known.split(|it: char| !it.is_alphanumeric()).chain([*known]));
    let words: Vec<&str> = words.filter(|word| word.chars().count() >= 3).collect();
    let start = password.char_indices().nth(JUDGED_CHARACTERS).map_or(password.as_str(), |(end, _)| &password[..end]);
    if zxcvbn(start, &words).score() < Score::Two { Err(WeakPassword::TooCommon) } else { Ok(()) }
}

/// A password as it is hashed (RFC 8265 §4.2.2).
fn prepare(password: &str) -> Zeroizing<String> {
    let spaces = Zeroizing::new(password.chars().map(|it| if is_space(it) { ' ' } else { it }).collect::<String>());
    Zeroizing::new(ComposingNormalizer::new_nfc().normalize(&spaces).into_owned())
}

/// Unicode's general category Zs.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

fn no_memory(NotComputed: NotComputed) -> PasswordError {
    PasswordError::Failed("there is not enough memory".to_owned())
}

/// The least that NIST SP 800-63B (revision 3, §5.1.1.2) lets people choose. A Unicode character counts as one.
pub const MIN_CHARACTERS: usize = 8;
/// More than anybody types, and no work to hash.
pub const MAX_CHARACTERS: usize = 128;

/// The time zxcvbn takes grows with the square of the length: 64 characters take a few milliseconds.
const JUDGED_CHARACTERS: usize = 64;

/// The last one waits about a second.
const WAITING_PER_SLOT: usize = 32;
