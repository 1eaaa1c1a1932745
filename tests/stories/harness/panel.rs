//! Four verifiers with four authors, each with a cache of keys that obeys `max-age` and never refetches because of a `kid`:
//! what one of them refuses, some service somewhere refuses.

use std::time::{Duration, Instant};

use keywheel_jose::{AccessTokenClaims, KeySet, Policy, Timestamp, check};
use keywheel_verifier::{Limits, Verifier};
use tokio::sync::Mutex;

use super::clients::{JwtClient, Question};
use super::http::get;
use super::issuer::{Issuer, Settings};
use super::wait::unix_now;

/// Long enough that an unknown `kid` never causes a fetch within a story.
const NO_REFETCH: Duration = Duration::from_secs(3600);

/// The four verifiers, for tokens of one issuer for [`Settings::AUDIENCE`].
pub(crate) struct Panel {
    issuer: String,
    jwks_uri: String,
    ours: Verifier,
    strict: StrictCache,
    pyjwt: JwtClient,
    jose: JwtClient,
}

/// What one verifier said about one token.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) verifier: &'static str,
    pub(crate) result: Result<(), String>,
    /// When it said so, in seconds since 1970.
    pub(crate) at: f64,
}

impl Panel {
    pub(crate) const SIZE: usize = 4;

    /// `max_age` has to be the issuer's `jwks_max_age`: two of the verifiers do not read it from the response.
    pub(crate) fn new(issuer: &Issuer, max_age: Duration) -> Self {
        Self::with_leeway(&issuer.url(), max_age, Duration::ZERO)
    }

    /// A panel that compares the times of tokens with `leeway`, for an issuer whose clocks are wrong.
    pub(crate) fn with_leeway(issuer: &str, max_age: Duration, leeway: Duration) -> Self {
        let jwks_uri = format!("{issuer}/.well-known/jwks.json");
        let policy = Policy::access_token(issuer, Settings::AUDIENCE);
        let policy = policy.with_leeway(leeway).expect("a leeway within bounds");
        let limits = Limits { freshness_floor: Duration::ZERO, cooldown: NO_REFETCH, ..Limits::default() };
        let ours = Verifier::builder(policy.clone()).limits(limits).build().expect("a verifier");
        Self {
            issuer: issuer.to_owned(),
            ours,
            strict: StrictCache { uri: jwks_uri.clone(), policy, cached: Mutex::new(None) },
            pyjwt: JwtClient::pyjwt(max_age, leeway),
            jose: JwtClient::jose(max_age, leeway),
            jwks_uri,
        }
    }

    /// Asks all four at once.
    pub(crate) async fn judge(&self, token: &str) -> [Verdict; Self::SIZE] {
        let Self { issuer, jwks_uri, .. } = self;
        let question = Question { token, issuer, audience: Settings::AUDIENCE, jwks_uri };
        let (ours, strict, pyjwt, jose) = tokio::join!(
            verdict("keywheel-verifier", async {
                let verified = self.ours.verify::<AccessTokenClaims>(token).await;
                verified.map(drop).map_err(|error| format!("{error:?}"))
            }),
            verdict("a strict cache", self.strict.verify(token)),
            verdict("pyjwt", self.pyjwt.verify(question)),
            verdict("npm jose", self.jose.verify(question)),
        );
        [ours, strict, pyjwt, jose]
    }

    /// Asserts that all four accept the token.
    pub(crate) async fn assert_accepted(&self, what: &str, token: &str) {
        for Verdict { verifier, result, .. } in self.judge(token).await {
            assert_eq!(result, Ok(()), "{verifier} refuses {what}");
        }
    }

    /// Asserts that all four refuse the token.
    pub(crate) async fn assert_refused(&self, what: &str, token: &str) {
        for Verdict { verifier, result, .. } in self.judge(token).await {
            assert!(result.is_err(), "{verifier} accepts {what}");
        }
    }
}

/// The simplest verifier that HTTP allows: a key set is used until `max-age` is over, and nothing shortens that.
struct StrictCache {
    uri: String,
    policy: Policy,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    keys: KeySet,
    received: Instant,
    max_age: Duration,
}

impl StrictCache {
    async fn verify(&self, token: &str) -> Result<(), String> {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_none_or(|cached| cached.received.elapsed() >= cached.max_age) {
            *cached = Some(self.fetch().await?);
        }
        let keys = &cached.as_ref().expect("set above when it was not").keys;
        let now = Timestamp::from_unix(unix_now() as i64);
        check::<AccessTokenClaims>(token, keys, &self.policy, now).map(drop).map_err(|rejection| rejection.to_string())
    }

    async fn fetch(&self) -> Result<Cached, String> {
        let reply = get(&self.uri).await?;
        if reply.status != 200 {
            return Err(format!("the key set was answered with {}", reply.status));
        }
        let directives = reply.header("cache-control");
        let max_age = directives.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="));
        let max_age = max_age.and_then(|seconds| seconds.parse().ok()).ok_or(format!("no max-age in {directives}"))?;
        let keys = KeySet::parse(&reply.body).map_err(|error| error.to_string())?;
        // Counted from the last byte, as careless caches do, which keeps the set longest.
        Ok(Cached { keys, received: Instant::now(), max_age: Duration::from_secs(max_age) })
    }
}

async fn verdict(verifier: &'static str, asked: impl Future<Output = Result<(), String>>) -> Verdict {
    let result = asked.await;
    Verdict { verifier, result, at: unix_now() }
}
