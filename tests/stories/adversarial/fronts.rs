//! Every way to ask whether a token holds, behind one trait: what one of them says, all have to say.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use keywheel_jose::{AccessTokenClaims, Explained, KeySet, Outcome, Policy, TokenType, Verified, check, explain};
use keywheel_verifier::{Caching, FetchFuture, FetchKeys, Fetched, Health, Limits, Verifier, VerifyError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::table::{Case, Verdict, World};
use crate::harness::program;

/// A way to ask.
pub(super) trait Front: Send + Sync {
    /// Whether it can be asked about this one at all.
    fn takes(&self, case: &Case) -> bool;

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a>;
}

pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What a front said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    /// Refused, with this code.
    Refused(String),
    /// Refused over HTTP, which does not say why.
    Status(u16),
    /// No verdict, which is never right.
    Failed(String),
}

/// Whether `answer` is the one that the table demands.
pub(super) fn fits(answer: &Answer, case: &Case) -> bool {
    match (answer, case.verdict) {
        (Answer::Accepted, Verdict::Accept) => true,
        (Answer::Refused(found), Verdict::Refuse(expected)) => found == expected,
        // RFC 6750 §3.1: a malformed request is a 400, a token that does not hold a 401. A header that is too long
        // has a status of its own.
        (Answer::Status(401), Verdict::Refuse(_)) => true,
        (Answer::Status(400 | 413 | 431), Verdict::Refuse(_)) => {
            !case.is_a_credential() || case.token.len() > 16 * 1024
        }
        _ => false,
    }
}

/// [`keywheel_jose::check`], read into a type of claims.
pub(super) struct Check<C> {
    keys: KeySet,
    policy: Policy,
    claims: PhantomData<fn() -> C>,
}

impl<C: DeserializeOwned> Check<C> {
    pub(super) fn new(world: &World) -> Self {
        let keys = KeySet::parse(world.keys.as_bytes()).expect("a key set");
        Self { keys, policy: world.policy.clone(), claims: PhantomData }
    }
}

impl<C: DeserializeOwned> Front for Check<C> {
    fn takes(&self, case: &Case) -> bool {
        text(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let (token, now) = (text(case).expect("it takes only texts"), case.instant());
        Box::pin(std::future::ready(answer(check::<C>(token, &self.keys, &self.policy, now))))
    }
}

/// [`keywheel_jose::explain`]: the check that has failed, where there is one.
pub(super) struct Explain(Check<Map<String, Value>>);

impl Explain {
    pub(super) fn new(world: &World) -> Self {
        Self(Check::new(world))
    }

    fn explain(&self, case: &Case) -> Answer {
        let token = text(case).expect("it takes only texts");
        let explained = explain::<Map<String, Value>>(token, &self.0.keys, &self.0.policy, case.instant());
        let passed = explained.iter().take_while(|check| check.outcome == Outcome::Passed).count();
        match explained[passed..].split_first() {
            None => Answer::Accepted,
            Some((Explained { outcome: Outcome::Failed(rejection), .. }, rest))
                if rest.iter().all(|check| check.outcome == Outcome::NotReached) =>
            {
                Answer::Refused(rejection.code().to_owned())
            }
            _ => Answer::Failed(format!("{explained:?}")),
        }
    }
}

impl Front for Explain {
    fn takes(&self, case: &Case) -> bool {
        self.0.takes(case)
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        Box::pin(std::future::ready(self.explain(case)))
    }
}

/// [`Verifier::verify_now_at`].
pub(super) struct VerifyNow(pub(super) Verifier);

impl Front for VerifyNow {
    fn takes(&self, case: &Case) -> bool {
        text(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let token = text(case).expect("it takes only texts");
        Box::pin(std::future::ready(answer_of(self.0.verify_now_at::<Map<String, Value>>(token, case.instant()))))
    }
}

/// [`Verifier::verify_at`].
pub(super) struct Verify(pub(super) Verifier);

impl Front for Verify {
    fn takes(&self, case: &Case) -> bool {
        text(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let token = text(case).expect("it takes only texts");
        Box::pin(async move { answer_of(self.0.verify_at::<AccessTokenClaims>(token, case.instant()).await) })
    }
}

/// `keywheel token verify`, a process for each token.
pub(super) struct CommandLine {
    folder: TempDir,
    policy: Policy,
}

impl CommandLine {
    pub(super) fn new(world: &World) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join(Self::KEYS), &world.keys).expect("writing the key set");
        Self { folder, policy: world.policy.clone() }
    }

    async fn run(&self, case: &Case) -> Answer {
        // What an argument can't be comes on standard input, where a line break at the end does not count.
        let argument = text(case).filter(|token| token.len() < 100_000 && !token.contains('\0'));
        let mut command = program();
        command.current_dir(self.folder.path()).args(["token", "verify", "--json", "--jwks", Self::KEYS]);
        command.args(self.policy.issuer().map_or(vec![], |issuer| vec!["--issuer", issuer]));
        let kind = match self.policy.token_type() {
            TokenType::AccessToken => "at+jwt",
            TokenType::IdToken => "id",
            TokenType::Any => "any",
            other => panic!("{other:?} has no name on the command line"),
        };
        command.args([
            "--type",
            kind,
            "--audience",
            &self.policy.audiences()[0],
            "--at",
            &case.instant().as_unix().to_string(),
        ]);
        command.args(["--", argument.unwrap_or("-")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starting keywheel");
        let mut stdin = child.stdin.take().expect("a pipe");
        if argument.is_none() {
            stdin.write_all(&case.token).await.expect("it reads its input to the end");
        }
        drop(stdin);
        let output = child.wait_with_output().await.expect("waiting for keywheel");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match (output.status.code(), &said["valid"], &said["code"]) {
            (Some(0), Value::Bool(true), Value::Null) => Answer::Accepted,
            (Some(1), Value::Bool(false), Value::String(code)) => Answer::Refused(code.clone()),
            _ => Answer::Failed(format!("{output:?}")),
        }
    }

    const KEYS: &str = "jwks.json";
}

impl Front for CommandLine {
    fn takes(&self, case: &Case) -> bool {
        text(case).is_some() || !case.token.ends_with(b"\n")
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        Box::pin(self.run(case))
    }
}

/// A verifier of that world whose keys are at hand, and what counts its fetches.
pub(super) async fn verifier(world: &World, limits: Limits) -> (Verifier, Arc<AtomicUsize>) {
    let (keys, fetches) = KeysAtHand::new(world.keys.clone());
    let builder = Verifier::builder(world.policy.clone()).limits(limits).fetch_keys_with(keys);
    let verifier = builder.build().expect("a verifier");
    until_it_has_keys(&verifier).await;
    (verifier, fetches)
}

/// Waits for the first fetch.
pub(super) async fn until_it_has_keys(verifier: &Verifier) {
    while !matches!(verifier.health(), Health::Ok { .. }) {
        tokio::task::yield_now().await;
    }
}

/// What comes of a future that does not wait.
pub(super) fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Fresh for so long that nothing but an unknown key causes a fetch.
pub(super) fn long_fresh() -> Limits {
    Limits { freshness_ceiling: MONTH, freshness_default: MONTH, trusted: MONTH, ..Limits::default() }
}

/// A key set that is always there.
pub(super) struct KeysAtHand {
    keys: Bytes,
    fetches: Arc<AtomicUsize>,
}

impl KeysAtHand {
    /// The set, and what counts its fetches.
    pub(super) fn new(keys: String) -> (Self, Arc<AtomicUsize>) {
        let fetches = Arc::<AtomicUsize>::default();
        (Self { keys: keys.into(), fetches: Arc::clone(&fetches) }, fetches)
    }
}

impl FetchKeys for KeysAtHand {
    fn fetch<'a>(&'a self, _: Option<&'a str>) -> FetchFuture<'a> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let body = self.keys.clone();
        Box::pin(std::future::ready(Ok(Fetched::Document { body, etag: None, caching: Caching::default() })))
    }
}

/// The token, if it is one that a `&str` can be.
pub(super) fn text(case: &Case) -> Option<&str> {
    std::str::from_utf8(&case.token).ok()
}

fn answer<C: DeserializeOwned>(verdict: Result<Verified<C>, keywheel_jose::Rejection>) -> Answer {
    match verdict {
        Ok(_) => Answer::Accepted,
        Err(rejection) => Answer::Refused(rejection.code().to_owned()),
    }
}

fn answer_of<C: DeserializeOwned>(verdict: Result<Verified<C>, VerifyError>) -> Answer {
    match verdict {
        Ok(_) => Answer::Accepted,
        Err(VerifyError::Rejected(rejection)) => Answer::Refused(rejection.code().to_owned()),
        Err(other) => Answer::Failed(format!("{other:?}")),
    }
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
