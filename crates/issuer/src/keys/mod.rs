//! The signing keys of a running issuer.
//!
//! [`Keys::sign`] and [`Keys::jwks`] answer from memory, for the instant they are asked about: nothing has to fire for
//! a key to start to sign. The rows of the ring are swapped in whole by the [`rotator`]; between two of its visits the
//! timetable alone decides. What holds at the present (the signers, the bytes of the JWKS) is laid out once and kept
//! until the next instant of the timetable, so that a request does no work that could have been done before.

pub mod coverage;
pub(crate) mod example;
pub mod fetchers;
mod jwks;
pub mod material;
pub mod restore;
pub mod rotator;
pub mod seal;
mod signers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_jose::{Algorithm, KeySet, Timestamp};
use keywheel_keyring::{KeyRecord, Keyring, RotationPolicy, format_duration};
use prometheus_client::metrics::counter::Counter;
use signature::Signer as _;
use tracing::{info, warn};

pub use jwks::JwksDocument;
pub(crate) use jwks::PublicKeys;
use material::{MaterialError, SigningKey};
use seal::{KeyEncryptionKeys, SealError};
use signers::Signers;

use crate::edges::Clock;
use crate::metrics::Metrics;
use crate::storage::StoredKey;
use crate::telemetry;

/// Why no token was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The ring of this algorithm has no key that signs yet.
    #[error("no {alg} key signs before {from}: its announcement to verifiers is running")]
    NotYet {
        /// The ring.
        alg: Algorithm,
        /// When its first key starts.
        from: Timestamp,
    },
    /// The ring of this algorithm has no key.
    #[error("there is no {0} key that may sign")]
    NoKey(Algorithm),
    /// The rows were read too long ago: a revocation might have been missed.
    #[error("the signing keys were last read from the database {} ago, longer than max_staleness", format_duration(*age))]
    Stale {
        /// Time since the start of the last successful read.
        age: Duration,
    },
    /// The token would outlive its key.
    #[error("a lifetime of {asked:?} is longer than the {allowed:?} that the signing key is kept for")]
    TooLong {
        /// The lifetime asked for.
        asked: Duration,
        /// The lifetime promised with the key.
        allowed: Duration,
    },
    /// So many signatures are waited for that this one would come too late.
    #[error("too many tokens are being signed")]
    Busy,
    /// The cryptographic library refused.
    #[error("signing failed")]
    Failed,
}

/// Why no requests should come here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The clock is wrong.
    #[error(
        "this machine's clock differs from the database's by {ahead_ms} ms, and {limit_ms} ms are allowed (clock_skew)"
    )]
    Clock {
        /// How far it is ahead; negative: behind.
        ahead_ms: i64,
        /// What is allowed.
        limit_ms: i64,
    },
    /// The database has been out of reach for too long.
    #[error(
        "the database was last read {} ago, too long (max_staleness; the announcement of keys): {stopped} has stopped",
        format_duration(*age)
    )]
    Stale {
        /// Time since the start of the last successful read.
        age: Duration,
        /// What has stopped.
        stopped: &'static str,
    },
    /// No key signs.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// What is signed, which decides `typ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// For a resource server (RFC 9068 §2.1).
    Access,
    /// For a client (OpenID Connect Core §2).
    Id,
    /// That tells a client of a sign-out (OpenID Connect Back-Channel Logout §2.4).
    Logout,
}

impl TokenKind {
    const ALL: [Self; 3] = [Self::Access, Self::Id, Self::Logout];

    fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Id => "JWT",
            Self::Logout => "logout+jwt",
        }
    }
}

/// Why the stored keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A private half does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A private half is not a key.
    #[error("the private half of signing key {kid} is unusable")]
    Material {
        /// Whose.
        kid: String,
        /// Why.
        #[source]
        source: MaterialError,
    },
}

/// The signing keys: what is published and who signs, at any instant.
pub struct Keys {
    view: ArcSwap<View>,
    /// Start of the last successful read of the rows, in milliseconds of [`Clock::elapsed`]: a clock that is set back
    /// must not make them look younger. [`NEVER`] before the first.
    read_ms: AtomicU64,
    clock: Arc<dyn Clock>,
    /// How far this machine's clock is ahead of the database's, in milliseconds, as far as can be told.
    ahead_ms: AtomicI64,
    algorithms: Vec<Algorithm>,
    policy: RotationPolicy,
    metrics: Arc<Metrics>,
    signers: Signers<Result<String, SignError>>,
}

/// The ring with the private halves that can still sign, as last read.
struct Rows {
    ring: Keyring,
    private: HashMap<String, Arc<LoadedKey>>,
    /// See [`Keys::all_public`].
    public: OnceLock<Arc<KeySet>>,
}

impl Rows {
    fn new(ring: Keyring, private: HashMap<String, Arc<LoadedKey>>) -> Arc<Self> {
        Arc::new(Self { ring, private, public: OnceLock::new() })
    }
}

/// What holds from `from` until `until`.
struct View {
    from: Timestamp,
    until: Timestamp,
    signers: Vec<(Algorithm, Arc<LoadedKey>)>,
    jwks: Arc<JwksDocument>,
    rows: Arc<Rows>,
}

/// A key ready to sign.
struct LoadedKey {
    kid: String,
    max_ttl: Duration,
    /// `BASE64URL(header) || '.'` of each kind of token, in the order of [`TokenKind::ALL`].
    prefixes: [String; TokenKind::ALL.len()],
    key: Arc<SigningKey>,
    signed: Counter,
}

impl Keys {
    /// No keys yet; the rotator brings them.
    #[must_use]
    pub fn empty(
        policy: RotationPolicy,
        algorithms: Vec<Algorithm>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rows = Rows::new(Keyring::new(Vec::new()), HashMap::new());
        let start = Timestamp::from_unix(0);
        let jwks = Arc::new(JwksDocument::build(&[], &policy));
        let view = View { from: start, until: start, signers: Vec::new(), jwks, rows };
        Self {
            view: ArcSwap::from_pointee(view),
            read_ms: AtomicU64::new(NEVER),
            clock,
            ahead_ms: AtomicI64::new(0),
            algorithms,
            policy,
            metrics,
            signers: Signers::new(),
        }
    }

    /// Puts rows in force; `started` is when their reading began ([`Clock::elapsed`]).
    ///
    /// # Errors
    /// [`LoadError`] when a private half does not open or is no key; the rows before stay in force.
    pub fn install(
        &self,
        stored: Vec<StoredKey>,
        kek: &KeyEncryptionKeys,
        started: Duration,
        now: Timestamp,
    ) -> Result<(), LoadError> {
        let before = self.view.load_full();
        let mut private = HashMap::new();
        for StoredKey { record, sealed_private, .. } in &stored {
            let Some(sealed) = sealed_private else { continue };
            let loaded = match before.rows.private.get(&record.kid) {
                Some(known) => self.load_key(record, Arc::clone(&known.key)),
                None => {
                    let pkcs8 = kek.open(&record.kid, record.alg, sealed)?;
                    let key = SigningKey::parse(record.alg, &pkcs8)
                        .map_err(|source| LoadError::Material { kid: record.kid.clone(), source })?;
                    self.load_key(record, Arc::new(key))
                }
            };
            private.insert(record.kid.clone(), Arc::new(loaded));
        }
        let records = stored.into_iter().map(|key| key.record).collect();
        let rows = Rows::new(Keyring::new(records), private);
        let view = self.lay_out(rows, now);
        self.announce_signers(&before, &view);
        self.view.store(Arc::new(view));
        self.confirm_fresh(started);
        Ok(())
    }

    /// The rows in force are known to be those of the database when a look at it was `started` ([`Clock::elapsed`]).
    pub fn confirm_fresh(&self, started: Duration) {
        let started_ms = u64::try_from(started.as_millis()).unwrap_or(u64::MAX);
        // One more, since zero stands for never.
        self.read_ms.fetch_max(started_ms.saturating_add(1), Ordering::Relaxed);
        // Moves along with the timetable, so that a change is logged in time even if nobody asks.
        drop(self.view(self.clock.now()));
    }

    /// Time since the start of the last successful read of the rows.
    #[must_use]
    pub fn read_age(&self) -> Duration {
        match self.read_ms.load(Ordering::Relaxed) {
            NEVER => Duration::MAX,
            read_ms => self.clock.elapsed().saturating_sub(Duration::from_millis(read_ms - 1)),
        }
    }

    /// The ring as last read.
    #[must_use]
    pub fn with_ring<T>(&self, look: impl FnOnce(&Keyring) -> T) -> T {
        look(&self.view.load().rows.ring)
    }

    /// The public halves of every key that was not revoked, retired ones too: what our own tokens are checked with when
    /// they come back to us. Some are good for long after their end: a client may keep an ID token to name a person by.
    #[must_use]
    pub fn all_public(&self) -> Arc<KeySet> {
        let view = self.view.load();
        let usable = || view.rows.ring.keys().iter().filter(|key| !key.is_revoked()).map(|key| key.jwk.clone());
        Arc::clone(view.rows.public.get_or_init(|| Arc::new(KeySet::from_keys(usable()))))
    }

    /// The algorithms that this issuer signs with; the first is the default.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The first configured algorithm whose ring can sign at `now`; the first of all when none can.
    #[must_use]
    pub fn default_algorithm(&self, now: Timestamp) -> Algorithm {
        self.view(now).signers.first().map_or(self.algorithms[0], |(alg, _)| *alg)
    }

    /// Signs a token: `claims` is the serialised claims set, `lifetime` its `exp - iat`. Where that takes long, on
    /// another thread.
    ///
    /// # Errors
    /// Every [`SignError`].
    pub async fn sign(
        &self,
        kind: TokenKind,
        alg: Algorithm,
        claims: &[u8],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let mut span = telemetry::span("sign");
        span.note("key.alg", || alg.as_str().into());
        let (token, signer) = {
            let age = self.read_age();
            if age >= self.policy.max_staleness() {
                return Err(SignError::Stale { age });
            }
            let view = self.view(now);
            let Some((_, signer)) = view.signers.iter().find(|(ring, _)| *ring == alg) else {
                return Err(self.no_signer(&view, alg, now));
            };
            if lifetime > signer.max_ttl {
                return Err(SignError::TooLong { asked: lifetime, allowed: signer.max_ttl });
            }
            let token = signer.begin(kind, claims);
            if !signer.key.is_slow() {
                return signer.complete(token);
            }
            (token, Arc::clone(signer))
        };
        let signed = self.signers.run(move || signer.complete(token)).await;
        signed.map_err(|_full| SignError::Busy)?.unwrap_or(Err(SignError::Failed))
    }

    /// The JWKS at `now`; `None` when the rows are so old that it might lack a key which others sign with
    /// (inequality 5 of the timetable), or when it has no key at all.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Option<Arc<JwksDocument>> {
        let fresh = self.read_age() < self.policy.jwks_staleness_bound();
        let document = Arc::clone(&self.view(now).jwks);
        (fresh && !document.is_empty).then_some(document)
    }

    /// Takes note of the database's clock, read between two readings of this machine's (milliseconds since 1970).
    pub fn compare_clock(&self, before_ms: i64, database_ms: i64, after_ms: i64) {
        // The database read its clock at some instant between the two: only what lies outside is known to be wrong.
        let ahead_ms = (before_ms - database_ms).max(0) + (after_ms - database_ms).min(0);
        let known_ms = self.ahead_ms.swap(ahead_ms, Ordering::Relaxed);
        let limit_ms = self.skew_limit_ms();
        if ahead_ms.abs() > limit_ms && known_ms.abs() <= limit_ms {
            warn!(ahead_ms, limit_ms, "this machine's clock is too far from the database's");
        }
    }

    /// Why the issuer is not to be sent requests at `now`, if so.
    ///
    /// # Errors
    /// Every [`NotReady`].
    pub fn ready(&self, now: Timestamp) -> Result<(), NotReady> {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        if ahead_ms.abs() > self.skew_limit_ms() {
            return Err(NotReady::Clock { ahead_ms, limit_ms: self.skew_limit_ms() });
        }
        let age = self.read_age();
        let (signs, publishes) = (age < self.policy.max_staleness(), age < self.policy.jwks_staleness_bound());
        if !signs || !publishes {
            let stopped = match (signs, publishes) {
                (false, false) => "signing and publishing",
                (false, true) => "signing",
                _ => "publishing",
            };
            return Err(NotReady::Stale { age, stopped });
        }
        let view = self.view(now);
        if view.signers.is_empty() {
            return Err(self.no_signer(&view, self.algorithms[0], now).into());
        }
        Ok(())
    }

    /// How far this machine's clock is ahead of the database's, as far as can be told, and how far it may differ.
    #[must_use]
    pub fn clock_ahead_ms(&self) -> (i64, i64) {
        (self.ahead_ms.load(Ordering::Relaxed), self.skew_limit_ms())
    }

    fn skew_limit_ms(&self) -> i64 {
        // Clocks are compared to the millisecond but kept by the second, so a skew of zero means less than one.
        i64::try_from(self.policy.clock_skew().as_millis()).unwrap_or(i64::MAX).max(1000)
    }

    fn no_signer(&self, view: &View, alg: Algorithm, now: Timestamp) -> SignError {
        let ring = view.rows.ring.keys().iter().filter(|key| key.alg == alg && !key.is_revoked());
        match ring.map(|key| key.sign_from).filter(|&from| from > now).min() {
            Some(from) => SignError::NotYet { alg, from },
            None => SignError::NoKey(alg),
        }
    }

    /// What holds at `now`, laid out anew when the timetable has moved on (or the clock was set back).
    fn view(&self, now: Timestamp) -> Guard<Arc<View>> {
        loop {
            let view = self.view.load();
            if view.from <= now && now < view.until {
                return view;
            }
            let next = Arc::new(self.lay_out(Arc::clone(&view.rows), now));
            let seen = self.view.compare_and_swap(&view, Arc::clone(&next));
            if Arc::ptr_eq(&seen, &view) {
                self.announce_signers(&view, &next);
            }
        }
    }

    fn lay_out(&self, rows: Arc<Rows>, now: Timestamp) -> View {
        let signers = self
            .algorithms
            .iter()
            .filter_map(|&alg| {
                let signer = rows.ring.signer(alg, now)?;
                Some((alg, Arc::clone(rows.private.get(&signer.kid)?)))
            })
            .collect();
        let published = rows.ring.published(&self.algorithms, now);
        let jwks = Arc::new(JwksDocument::build(&published, &self.policy));
        let until = rows.ring.next_change(now).unwrap_or(Timestamp::from_unix(i64::MAX));
        View { from: now, until, signers, jwks, rows }
    }

    /// Says which key signs now, once for each change.
    fn announce_signers(&self, before: &View, after: &View) {
        for (alg, signer) in &after.signers {
            let known = before.signers.iter().any(|(ring, key)| ring == alg && key.kid == signer.kid);
            if !known {
                let next = after.rows.ring.signs_until(*alg, after.from).map(|instant| instant.to_string());
                info!(%alg, kid = signer.kid, until = next, "key signs");
                self.metrics.rotations.get_or_create(&(*alg).into()).inc();
            }
        }
    }

    fn load_key(&self, record: &KeyRecord, key: Arc<SigningKey>) -> LoadedKey {
        let prefix = |kind: TokenKind| {
            let header = format!(r#"{{"alg":"{}","typ":"{}","kid":"{}"}}"#, record.alg, kind.typ(), record.kid);
            format!("{}.", URL_SAFE_NO_PAD.encode(header))
        };
        LoadedKey {
            kid: record.kid.clone(),
            max_ttl: record.max_ttl,
            prefixes: TokenKind::ALL.map(prefix),
            key,
            signed: self.metrics.signed(&record.kid, record.alg),
        }
    }
}

impl LoadedKey {
    /// What is signed. RFC 7515 §5.1: BASE64URL(header) || '.' || BASE64URL(payload) || '.' || BASE64URL(signature)
    fn begin(&self, kind: TokenKind, claims: &[u8]) -> String {
        let prefix = &self.prefixes[kind as usize];
        let mut token = String::with_capacity(prefix.len() + claims.len() * 4 / 3 + MAX_SIGNATURE_LENGTH);
        token.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        token
    }

    fn complete(&self, mut token: String) -> Result<String, SignError> {
        let made = self.key.try_sign(token.as_bytes()).map_err(|_| SignError::Failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(made, &mut token);
        self.signed.inc();
        Ok(token)
    }
}

/// No rows have been read.
const NEVER: u64 = 0;

/// A 4096-bit RSA signature in base64url, and a dot.
const MAX_SIGNATURE_LENGTH: usize = 684;
