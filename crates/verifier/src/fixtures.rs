//! For tests: a signer, and an issuer that plays from a script.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[expect(clippy::disallowed_types, reason = "tests have to sign")]
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use keywheel_jose::{KeySet, Policy, PublicJwk, Timestamp};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::fetch::{Caching, FetchError, FetchFuture, FetchKeys, Fetched};
use crate::metrics::{Alarm, FetchReport, KeysChanged, Metrics, UnknownKid};

pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";

/// When all tokens of these tests were issued.
pub(crate) const ISSUED_AT: Timestamp = Timestamp::from_unix(1_800_000_000);

pub(crate) fn policy() -> Policy {
    Policy::access_token(ISSUER, AUDIENCE)
}

/// A key whose `kid` and secret follow from its name.
#[expect(clippy::disallowed_types, reason = "tests have to sign")]
pub(crate) struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(crate) fn new(kid: &str) -> Self {
        let mut seed = [0; 32];
        seed[..kid.len()].copy_from_slice(kid.as_bytes());
        #[expect(clippy::disallowed_types, reason = "tests have to sign")]
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        Self { kid: kid.to_owned(), pair }
    }

    /// The same key under another `kid`.
    pub(crate) fn named(self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), ..self }
    }

    pub(crate) fn jwk(&self) -> PublicJwk {
        let key = PublicJwk::ed25519(self.pair.public_key().as_ref()).expect("a public key");
        key.with_kid(&self.kid).expect("a short kid")
    }

    /// A token that holds for an hour.
    pub(crate) fn token(&self) -> String {
        self.token_with(json!({}))
    }

    /// A DPoP proof for the holder of this key, made [`ISSUED_AT`] unless the claims say otherwise.
    pub(crate) fn proof(&self, access_token: &str, claims: serde_json::Value) -> String {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, access_token.as_bytes());
        let mut payload = json!({"iat": ISSUED_AT.as_unix(), "ath": BASE64_URL_SAFE_NO_PAD.encode(hash)});
        for (name, value) in claims.as_object().expect("claims are an object") {
            payload[name] = value.clone();
        }
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        self.sign(
            &json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}),
            &payload,
        )
    }

    /// A token with these claims instead of, or beside, the usual ones.
    pub(crate) fn token_with(&self, claims: serde_json::Value) -> String {
        let mut payload = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "billing", "jti": "1",
            "iat": ISSUED_AT.as_unix(), "exp": ISSUED_AT.as_unix() + 3600,
        });
        for (name, value) in claims.as_object().expect("claims are an object") {
            payload[name] = value.clone();
        }
        self.sign(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid}), &payload)
    }

    fn sign(&self, header: &serde_json::Value, payload: &serde_json::Value) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload.to_string().as_bytes()));
        let signature = encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

/// A JWK Set with these keys.
pub(crate) fn key_set(signers: &[&Signer]) -> Bytes {
    let keys = KeySet::from_keys(signers.iter().map(|signer| signer.jwk()));
    serde_json::to_vec(&keys).expect("a key set is JSON").into()
}

/// An issuer that answers what it was last told to; clones are the same issuer.
#[derive(Clone, Default)]
pub(crate) struct ScriptedIssuer(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answer: Option<Answer>,
    fetches: Vec<Fetch>,
    in_flight: usize,
    most_in_flight: usize,
    answered: usize,
    last_good: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This document, with `max-age` in seconds.
    Document(Bytes, u64),
    /// "Not modified", with `max-age` in seconds.
    NotModified(u64),
    /// The connection is refused.
    Down,
    /// No answer ever comes.
    Silence,
    /// The issuer's client breaks.
    Panic,
    /// Another answer, after a while.
    After(Duration, Box<Answer>),
}

/// One fetch as the issuer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) at: Instant,
    pub(crate) etag: Option<String>,
}

impl ScriptedIssuer {
    /// Answers with these keys, fresh for a minute.
    pub(crate) fn with_keys(signers: &[&Signer]) -> Self {
        let issuer = Self::default();
        issuer.answers(Answer::Document(key_set(signers), 60));
        issuer
    }

    /// What fetches that begin from now on are answered.
    pub(crate) fn answers(&self, answer: Answer) {
        self.edit(|script| script.answer = Some(answer));
    }

    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.edit(|script| script.fetches.clone())
    }

    pub(crate) fn fetch_count(&self) -> usize {
        self.fetches().len()
    }

    /// How many fetches were not given up by the one who asked.
    pub(crate) fn answered(&self) -> usize {
        self.edit(|script| script.answered)
    }

    /// When the newest fetch began that was answered with keys, or that the keys it knows are current.
    pub(crate) fn last_good(&self) -> Option<Instant> {
        self.edit(|script| script.last_good)
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.edit(|script| script.most_in_flight)
    }

    /// How many hold this issuer, the test itself included.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().expect("no test panics while it holds the script"))
    }
}

impl FetchKeys for ScriptedIssuer {
    fn fetch<'a>(&'a self, etag: Option<&'a str>) -> FetchFuture<'a> {
        struct InFlight<'a>(&'a ScriptedIssuer);
        impl Drop for InFlight<'_> {
            fn drop(&mut self) {
                self.0.edit(|script| script.in_flight -= 1);
            }
        }
        Box::pin(async move {
            let asked_at = Instant::now();
            let mut answer = self.edit(|script| {
                script.fetches.push(Fetch { at: asked_at, etag: etag.map(str::to_owned) });
                script.in_flight += 1;
                script.most_in_flight = script.most_in_flight.max(script.in_flight);
                script.answer.clone().expect("the script has an answer")
            });
            let _in_flight = InFlight(self);
            while let Answer::After(pause, then) = answer {
                sleep(pause).await;
                answer = *then;
            }
            let caching = |max_age| Caching { max_age: Some(Duration::from_secs(max_age)), age: Duration::ZERO };
            let answer = match answer {
                Answer::Document(body, max_age) => {
                    Ok(Fetched::Document { body, etag: Some("\"1\"".to_owned()), caching: caching(max_age) })
                }
                Answer::NotModified(max_age) => Ok(Fetched::NotModified { caching: caching(max_age) }),
                Answer::Down => Err(FetchError::Other("connection refused".into())),
                Answer::Panic => panic!("the script says so"),
                Answer::Silence | Answer::After(..) => std::future::pending().await,
            };
            let is_good = match &answer {
                Ok(Fetched::Document { body, .. }) => KeySet::parse(body).is_ok_and(|set| !set.is_empty()),
                Ok(Fetched::NotModified { .. }) => etag.is_some(),
                Err(_) => false,
            };
            self.edit(|script| {
                script.answered += 1;
                script.last_good = script.last_good.max(Some(asked_at).filter(|_| is_good));
            });
            answer
        })
    }
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What is logged on this thread until the guard is dropped; the tasks of a test run on its thread.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines_with(&self, part: &str) -> Vec<String> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Metrics that write down what the cache tells them.
#[derive(Clone, Default)]
pub(crate) struct Counted(Arc<Mutex<Vec<String>>>);

impl Counted {
    /// What was told, in order, where it begins with `kind`.
    pub(crate) fn of(&self, kind: &str) -> Vec<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|event| event.starts_with(kind)).cloned().collect()
    }

    fn note(&self, event: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Metrics for Counted {
    fn unknown_kid(&self, answer: UnknownKid) {
        self.note(format!("unknown_kid {}", answer.as_str()));
    }

    fn fetched(&self, fetch: &FetchReport) {
        self.note(format!("fetched {} {} {:?}", fetch.lane.as_str(), fetch.outcome.as_str(), fetch.duration));
    }

    fn keys_changed(&self, change: &KeysChanged) {
        self.note(format!("keys_changed {} {} {}", change.generation, change.keys, change.refused));
    }

    fn alarm(&self, alarm: Alarm) {
        self.note(format!("alarm {}", alarm.as_str()));
    }
}
