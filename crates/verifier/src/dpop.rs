//! What a resource server remembers about DPoP proofs (RFC 9449 §9, §11.1): which it has seen, and which nonces are its own.
//!
//! **Replay.** A proof is accepted once. What is remembered is 16 bytes of a hash for each, in two halves that change places
//! as time passes, so that forgetting costs nothing. Memory is bounded twice: by [`DpopSettings::max_proofs`] in all, and by
//! a sixteenth of it for each key, so that one holder can't use up what is there for everybody. Where there is no room the
//! answer is a 503: forgetting a proof early would let it be used again.
//!
//! **Nonces.** Where asked for, a proof has to carry a nonce of ours. A nonce is an instant and a MAC over it, so several
//! servers with one secret accept each other's, and nothing is stored.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keywheel_jose::{DpopPolicy, DpopProof, DpopRejection, Timestamp};

use crate::verifier::VerifyError;

/// How DPoP proofs are judged. The default needs no nonce and remembers 100 000 proofs (some 5 MB when they are there).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DpopSettings {
    /// What a proof itself has to be.
    pub policy: DpopPolicy,
    /// How many proofs are remembered at most: as many as can come within twice their lifetime. Default 100 000.
    pub max_proofs: usize,
    /// Whether a proof has to carry a nonce of this server, and how it is made.
    pub nonce: Nonce,
}

/// Whether DPoP proofs need a nonce (RFC 9449 §9).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Nonce {
    /// They don't: a proof's age is judged by its `iat` alone.
    #[default]
    NotAsked,
    /// They do, and nonces are good for this process only.
    Required,
    /// They do, and every server with this secret (32 random bytes at least) accepts the nonces of the others.
    RequiredWithSecret(Vec<u8>),
}

/// Settings and memory.
pub(crate) struct Dpop {
    policy: DpopPolicy,
    max_proofs: usize,
    nonces: Option<hmac::Key>,
    seen: Mutex<Seen>,
}

/// Proofs by the half of time they were seen in.
#[derive(Default)]
struct Seen {
    /// When the newer half began.
    since: Option<Timestamp>,
    newer: Half,
    older: Half,
}

#[derive(Default)]
struct Half {
    proofs: HashSet<[u8; 16]>,
    by_key: HashMap<[u8; 16], usize>,
}

impl Default for DpopSettings {
    fn default() -> Self {
        Self { policy: DpopPolicy::default(), max_proofs: 100_000, nonce: Nonce::NotAsked }
    }
}

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "NotAsked",
            Self::Required => "Required",
            Self::RequiredWithSecret(_) => "RequiredWithSecret(…)",
        })
    }
}

/// Why [`DpopSettings`] were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DpopSettingsError {
    /// A secret this short can be guessed.
    #[error("the nonce secret has {found} bytes, at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret {
        /// How many it has.
        found: usize,
    },
    /// There would be no room for a single proof of a key.
    #[error("max_proofs is {found}, at least {SHARES} are needed")]
    NoRoom {
        /// What was asked for.
        found: usize,
    },
    /// The system's generator gave nothing.
    #[error("no random bytes for the nonce secret")]
    NoRandomness,
}

impl Dpop {
    pub(crate) fn new(settings: DpopSettings) -> Result<Self, DpopSettingsError> {
        let DpopSettings { policy, max_proofs, nonce } = settings;
        if max_proofs < SHARES {
            return Err(DpopSettingsError::NoRoom { found: max_proofs });
        }
        let secret = match nonce {
            Nonce::NotAsked => None,
            Nonce::Required => {
                let mut secret = [0; MIN_SECRET_BYTES];
                rand::fill(&mut secret).map_err(|_| DpopSettingsError::NoRandomness)?;
                Some(secret.to_vec())
            }
            Nonce::RequiredWithSecret(secret) if secret.len() < MIN_SECRET_BYTES => {
                return Err(DpopSettingsError::ShortSecret { found: secret.len() });
            }
            Nonce::RequiredWithSecret(secret) => Some(secret),
        };
        let nonces = secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret));
        Ok(Self { policy, max_proofs, nonces, seen: Mutex::default() })
    }

    pub(crate) fn policy(&self) -> &DpopPolicy {
        &self.policy
    }

    /// Whether a proof's nonce is one of ours, made within the last two to four minutes.
    pub(crate) fn check_nonce(&self, nonce: Option<&str>, now: Timestamp) -> Result<(), VerifyError> {
        let Some(key) = &self.nonces else { return Ok(()) };
        let bytes = nonce.and_then(|nonce| BASE64_URL_SAFE_NO_PAD.decode(nonce).ok());
        let is_ours = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<8>()).is_some_and(|(made, mac)| {
            let age = period(now).saturating_sub(i64::from_be_bytes(*made));
            // Constant in time, and over the same bytes that are then believed. A period ahead is another server's clock.
            (-1..=1).contains(&age) && hmac::verify(key, made, mac).is_ok()
        });
        if is_ours { Ok(()) } else { Err(VerifyError::UseDpopNonce { nonce: mint_nonce(key, now) }) }
    }

    /// A nonce for the next proof, to be sent along in `DPoP-Nonce` (RFC 9449 §8.2); nothing where none is asked for.
    pub(crate) fn nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.as_ref().map(|key| mint_nonce(key, now))
    }

    /// Remembers a proof, or refuses it because it is remembered.
    pub(crate) fn spend(&self, proof: &DpopProof, now: Timestamp) -> Result<(), VerifyError> {
        let jkt = proof.jkt();
        let key = fingerprint(&[jkt]);
        let fingerprint = fingerprint(&[jkt, proof.jti()]);
        let window = self.policy.window();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.turn(now, window);
        let Seen { newer, older, .. } = &mut *seen;
        if newer.proofs.contains(&fingerprint) || older.proofs.contains(&fingerprint) {
            return Err(VerifyError::ProofRejected(DpopRejection::Replayed));
        }
        let of_key = [&*newer, older].iter().filter_map(|half| half.by_key.get(&key)).sum::<usize>();
        if newer.proofs.len() + older.proofs.len() >= self.max_proofs || of_key >= self.max_proofs / SHARES {
            tracing::warn!(of_key, "no room to remember another DPoP proof");
            return Err(VerifyError::Overloaded { retry_after: window });
        }
        newer.proofs.insert(fingerprint);
        *newer.by_key.entry(key).or_default() += 1;
        Ok(())
    }
}

impl Seen {
    /// Forgets what can't be accepted any more: a half is dropped a whole window after its last proof was seen.
    fn turn(&mut self, now: Timestamp, window: Duration) {
        let since = *self.since.get_or_insert(now);
        // A clock that was set back keeps everything; one that jumped ahead has made every proof too old anyway.
        if now < since + window {
            return;
        }
        let is_long_past = now >= since + window + window;
        self.older = std::mem::take(&mut self.newer);
        if is_long_past {
            self.older = Half::default();
        }
        self.since = Some(now);
    }
}

fn mint_nonce(key: &hmac::Key, now: Timestamp) -> String {
    let made = period(now).to_be_bytes();
    let mut nonce = made.to_vec();
    nonce.extend_from_slice(hmac::sign(key, &made).as_ref());
    BASE64_URL_SAFE_NO_PAD.encode(nonce)
}

fn period(now: Timestamp) -> i64 {
    now.as_unix().div_euclid(NONCE_PERIOD_S)
}

/// Half a SHA-256: collisions by chance are out of reach, and one that somebody makes refuses only their own proof.
fn fingerprint(parts: &[&str]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&context.finish().as_ref()[..16]);
    half
}

/// A nonce is good until the end of the period after the one it was made in.
const NONCE_PERIOD_S: i64 = 120;

/// As long as the MAC.
const MIN_SECRET_BYTES: usize = 32;

/// One key may use one of so many shares of the memory.
const SHARES: usize = 16;
