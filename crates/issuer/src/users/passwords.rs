//! Passwords: hashed by argon2id, a few at a time, and judged before they are taken.
//!
//! 1. A hash takes 19 MiB and a processor on purpose, so strangers must not be able to order any number of them. A few are
//!    computed at once, on blocking threads; some wait; who comes then is told to come again ([`PasswordError::Busy`]).
//! 2. Nobody may learn from the time it takes whether a user exists. Where there is no hash to compare with, one of the
//!    same cost is computed. A hash that was imported from elsewhere takes its own time until its owner signs in, and while
//!    there is one, all refusals wait until they are of the same age ([`Checked::hold`], `pace.rs`).
//! 3. A hash of another algorithm or with other parameters is made anew when its password comes by.
//! 4. A password is prepared as RFC 8265 §4.2.2 has it (OpaqueString): spaces of every kind are a space, and characters
//!    are composed (NFC). So the same password typed on another keyboard is the same. Case and compatible characters
//!    stay distinct, and nothing is cut off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icu_normalizer::ComposingNormalizer;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use super::hashes::{Hash, NotComputed, SALT_BYTES};
use super::pace::{ForeignHashes, Pace};
use super::{PasswordHash, login_key};
use crate::edges::{Clock, Edges, Entropy, NoEntropy};
use crate::metrics::Metrics;
use crate::telemetry;

/// What hashes passwords, with a limit on how many at once.
pub struct Passwords {
    /// For each that is computed or waits.
    places: Arc<Semaphore>,
    /// For each that is computed.
    slots: Arc<Semaphore>,
    concurrency: usize,
    worker: Worker,
    /// How long they took, waiting included.
    durations: Histogram,
}

/// A password that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether it is somebody's.
    pub verdict: Verdict,
    /// How much longer a refusal has to wait, to be like any other.
    pub hold: Duration,
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
    pub fn new(concurrency: usize, edges: &Edges) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            places: Arc::new(Semaphore::new(concurrency * (1 + WAITING_PER_SLOT))),
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            worker: Worker {
                clock: Arc::clone(&edges.clock),
                entropy: Arc::clone(&edges.entropy),
                computed: Arc::default(),
                pace: Arc::default(),
            },
            durations: Metrics::histogram(),
        }
    }

    /// The same, counted where Prometheus sees it.
    pub(crate) fn counted_by(self, metrics: &Metrics) -> Self {
        Self { durations: metrics.hashes.clone(), ..self }
    }

    /// How many are computed at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// How many are computed at this moment, and how many wait.
    #[must_use]
    pub fn under_way(&self) -> (usize, usize) {
        let running = self.concurrency - self.slots.available_permits();
        let places = self.concurrency * (1 + WAITING_PER_SLOT);
        (running, (places - self.places.available_permits()).saturating_sub(running))
    }

    /// How many hashes were computed so far.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.worker.computed.load(Ordering::Relaxed)
    }

    /// Hashes a password by argon2id.
    ///
    /// # Errors
    /// [`PasswordError`]
    pub async fn hash(&self, password: &str) -> Result<PasswordHash, PasswordError> {
        let password = prepare(password);
        let worker = self.worker.clone();
        self.run(move || worker.make(&password)).await?
    }

    /// Whether `hash` is one of `password`. Without one (no such user, or one without a password) a hash of the same cost
    /// is computed and the answer is [`Verdict::Wrong`].
    ///
    /// # Errors
    /// [`PasswordError`]
    pub async fn verify(&self, password: &str, hash: Option<&PasswordHash>) -> Result<Verdict, PasswordError> {
        self.check(password, hash).await.map(|checked| checked.verdict)
    }

    /// As [`verify`](Self::verify), for strangers.
    ///
    /// # Errors
    /// [`PasswordError`]
    pub async fn check(&self, password: &str, hash: Option<&PasswordHash>) -> Result<Checked, PasswordError> {
        let password = prepare(password);
        let stored = hash.and_then(|hash| match Hash::parse(hash.expose()) {
            Ok(hash) => Some(hash),
            Err(error) => {
                warn!(%error, "a stored password hash cannot be used: its owner needs a new password");
                None
            }
        });
        let worker = self.worker.clone();
        self.run(move || worker.check(&password, stored.as_ref())).await?
    }

    /// Measures how long checks of such hashes take: those of the users there are, all of them.
    ///
    /// # Errors
    /// [`PasswordError`]; what was measured before stays in force.
    pub async fn measure(&self, foreign: ForeignHashes) -> Result<(), PasswordError> {
        let mut measured = BTreeMap::new();
        for (family, hash) in foreign.into_costliest() {
            let clock = Arc::clone(&self.worker.clock);
            let took = self.run(move || {
                let began = clock.elapsed();
                hash.matches("").map_err(no_memory)?;
                Ok(clock.elapsed().saturating_sub(began))
            });
            measured.insert(family, took.await??);
        }
        self.worker.pace.set(measured);
        Ok(())
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let _span = telemetry::span("hash a password");
        let began = self.worker.clock.elapsed();
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|closed| PasswordError::Failed(closed.to_string()))?;
        // They are given back when the work is done, not when whoever wanted it has gone.
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (slot, place);
        let done = tokio::task::spawn_blocking(telemetry::carried(move || {
            let result = work();
            drop(held);
            result
        }));
        let done = done.await.map_err(|failure| PasswordError::Failed(failure.to_string()));
        self.durations.observe(self.worker.clock.elapsed().saturating_sub(began).as_secs_f64());
        done
    }
}

/// What runs on a blocking thread.
#[derive(Clone)]
struct Worker {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    computed: Arc<AtomicU64>,
    pace: Arc<Pace>,
}

impl Worker {
    fn make(&self, password: &str) -> Result<PasswordHash, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt).map_err(|error: NoEntropy| PasswordError::Failed(error.to_string()))?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        Hash::make(password, &salt).map_err(no_memory)
    }

    fn check(&self, password: &str, stored: Option<&Hash>) -> Result<Checked, PasswordError> {
        let began = self.clock.elapsed();
        let verdict = self.verify(password, stored)?;
        let took = self.clock.elapsed().saturating_sub(began);
        if let (Some(hash), Verdict::Wrong) = (stored.filter(|hash| !hash.is_current()), &verdict) {
            self.pace.note(hash.cost().0, took);
        }
        Ok(Checked { verdict, hold: self.pace.left(took) })
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

#[cfg(test)]
mod tests {
    use keywheel_jose::Timestamp;

    use super::*;

    const PASSWORD: &str = "a long way to Tipperary";
    /// `Grüße, wörld 1`, by bcrypt of Python.
    const BCRYPT: &str = "$2b$04$KGd3Qs8qilcq1w0TIQCS7OlHpmB2/IWeQ4v2LekQTMAZuJDAO4HVa";

    fn passwords() -> Passwords {
        Passwords::new(2, &Edges::system())
    }

    /// A generator that gives nothing.
    struct Dry;

    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy)
        }
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong() {
        let passwords = passwords();

        let hash = passwords.hash(PASSWORD).await.expect("a hash");

        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let right = passwords.verify(PASSWORD, Some(&hash)).await.expect("a verdict");
        assert_eq!(right, Verdict::Right { rehashed: None });
        for wrong in ["", "a long way to tipperary", "a long way to Tipperary "] {
            assert_eq!(passwords.verify(wrong, Some(&hash)).await.expect("a verdict"), Verdict::Wrong, "{wrong}");
        }
    }

    #[tokio::test]
    async fn two_hashes_of_a_password_have_nothing_in_common() {
        let passwords = passwords();

        let [one, other] =
            [passwords.hash(PASSWORD).await, passwords.hash(PASSWORD).await].map(|hash| hash.expect("one"));

        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn one_hash_is_computed_whether_somebody_exists_or_not() {
        let passwords = passwords();
        let hash = passwords.hash(PASSWORD).await.expect("a hash");
        let unreadable = PasswordHash::new("$nothing$known".to_owned());

        for stored in [Some(&hash), None, Some(&unreadable)] {
            let before = passwords.computed();
            let verdict = passwords.verify("another", stored).await.expect("a verdict");

            assert_eq!((verdict, passwords.computed() - before), (Verdict::Wrong, 1));
        }
        assert!(Hash::dummy().is_current(), "it costs what ours cost");
    }

    #[tokio::test]
    async fn an_imported_hash_is_made_anew_when_its_password_comes() {
        let passwords = passwords();
        let imported = PasswordHash::new(BCRYPT.to_owned());

        let wrong = passwords.verify("Grüße, wörld 2", Some(&imported)).await.expect("a verdict");
        let right = passwords.verify("Grüße, wörld 1", Some(&imported)).await.expect("a verdict");

        assert_eq!(wrong, Verdict::Wrong);
        let Verdict::Right { rehashed: Some(new) } = right else { panic!("{right:?}") };
        let again = passwords.verify("Grüße, wörld 1", Some(&new)).await.expect("a verdict");
        assert_eq!(again, Verdict::Right { rehashed: None });
    }

    /// A clock on which everything takes a tenth of a second.
    struct Stepping(AtomicU64);

    impl Clock for Stepping {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix(1_800_000_000)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(100, Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn all_refusals_are_held_back_alike_while_foreign_hashes_are_stored() {
        let passwords = Passwords::new(1, &Edges { clock: Arc::new(Stepping(0.into())), ..Edges::system() });
        let own = passwords.hash(PASSWORD).await.expect("a hash");
        let imported = PasswordHash::new(BCRYPT.to_owned());
        let holds = async || {
            let mut holds = Vec::new();
            for stored in [None, Some(&own), Some(&imported)] {
                let before = passwords.computed();
                let checked = passwords.check("another", stored).await.expect("a verdict");
                assert_eq!((checked.verdict, passwords.computed() - before), (Verdict::Wrong, 1));
                holds.push(checked.hold.as_millis());
            }
            holds
        };
        let measure = async |stored: &[&PasswordHash]| {
            let mut foreign = ForeignHashes::default();
            stored.iter().for_each(|hash| foreign.add(hash));
            passwords.measure(foreign).await.expect("measured");
        };

        measure(&[&own, &imported]).await;
        assert_eq!(holds().await, [100; 3]);

        measure(&[&own]).await;
        assert_eq!(holds().await[..2], [0; 2], "nobody has one any more");
        assert_eq!(holds().await, [100; 3], "but then somebody came with one that nobody told of");
    }

    #[tokio::test]
    async fn without_random_bytes_nothing_is_hashed_and_people_still_sign_in() {
        let passwords = Passwords::new(1, &Edges { entropy: Arc::new(Dry), ..Edges::system() });
        let imported = PasswordHash::new(BCRYPT.to_owned());

        assert!(matches!(passwords.hash(PASSWORD).await, Err(PasswordError::Failed(_))));
        let verdict = passwords.verify("Grüße, wörld 1", Some(&imported)).await.expect("a verdict");
        assert_eq!(verdict, Verdict::Right { rehashed: None });
    }

    #[tokio::test]
    async fn a_password_is_the_same_on_every_keyboard() {
        let passwords = passwords();
        let hash = passwords.hash("Schlüssel\u{a0}Brücke").await.expect("a hash");

        let verdict = passwords.verify("Schlu\u{308}ssel Bru\u{308}cke", Some(&hash)).await.expect("a verdict");

        assert_eq!(verdict, Verdict::Right { rehashed: None });
    }

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_is_turned_away() {
        let passwords = passwords();
        let places = u32::try_from(2 * (1 + WAITING_PER_SLOT)).expect("few");
        let all = Arc::clone(&passwords.places).try_acquire_many_owned(places).expect("all places");

        assert!(matches!(passwords.hash(PASSWORD).await, Err(PasswordError::Busy)));
        assert!(matches!(passwords.verify(PASSWORD, None).await, Err(PasswordError::Busy)));
        assert_eq!(passwords.computed(), 0);

        drop(all);
        assert!(passwords.hash(PASSWORD).await.is_ok());
    }

    #[tokio::test]
    async fn no_more_than_the_limit_are_computed_at_once_even_if_who_asked_has_gone() {
        let passwords = Arc::new(passwords());
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let work = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                Hash::make(PASSWORD, &[0; SALT_BYTES]).expect("enough memory");
                running.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let ask = || {
            let (passwords, work) = (Arc::clone(&passwords), work());
            tokio::spawn(async move { passwords.run(work).await })
        };

        let asked: Vec<_> = (0..24).map(|_| ask()).collect();
        for (index, task) in asked.into_iter().enumerate() {
            if index % 2 == 0 {
                tokio::task::yield_now().await;
                task.abort();
            } else {
                task.await.expect("not aborted").expect("done");
            }
        }

        assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
        let all = passwords.slots.acquire_many(2).await;
        assert!(all.is_ok(), "every slot is given back");
    }

    #[test]
    fn passwords_that_are_tried_first_are_refused() {
        let about = ["alice", "alice.smith@example.com", "Alice Smith"];
        for (password, expected) in [
            ("", WeakPassword::TooShort),
            ("zf7!kqm", WeakPassword::TooShort),
            ("пароль1", WeakPassword::TooShort),
            (&"z".repeat(129), WeakPassword::TooLong),
            ("zf7!kq\u{7}mwp", WeakPassword::ControlCharacter),
            ("password", WeakPassword::TooCommon),
            ("P@ssw0rd!", WeakPassword::TooCommon),
            ("12345678", WeakPassword::TooCommon),
            ("qwertzuiop", WeakPassword::TooCommon),
            ("summer2024", WeakPassword::TooCommon),
            ("aaaaaaaaaaaaaaaa", WeakPassword::TooCommon),
            ("alice123", WeakPassword::TooCommon),
            ("AliceSmith", WeakPassword::TooCommon),
            ("ALICE.smith@example.com", WeakPassword::SameAsAccount),
            ("alice smith", WeakPassword::SameAsAccount),
        ] {
            assert_eq!(judge_new_password(password, &about), Err(expected), "{password}");
        }
    }

    #[test]
    fn passwords_that_are_hard_to_guess_are_taken_whatever_they_are_made_of() {
        for password in [
            "correct horse battery staple",
            "xkq7vbn2",
            "корова на крыше",
            "三人行必有我師焉擇其",
            "🐄🪜🏠🌙🎷🧂🛶🪁",
            &"Zf7!kqmwp ".repeat(12),
        ] {
            assert_eq!(judge_new_password(password, &["alice"]), Ok(()), "{password}");
        }
    }
}
