//! Every way to ask whether a token holds, behind one trait: what one of them says, all have to say.

use std::future::Future;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full};
use keywheel_jose::{AccessTokenClaims, Explained, KeySet, Outcome, Policy, TokenType, Verified, check, explain};
use keywheel_verifier::{
    Bearer, Caching, FetchFuture, FetchKeys, Fetched, Guard, Health, Limits, Verifier, VerifyError,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tower_service::Service as _;

use super::origin::{self, Origin};
use super::table::{Case, Verdict, World};
use crate::harness::{Gate, Reply, program, send};

/// A way to ask.
pub(super) trait Front: Send + Sync {
    /// Whether it can be asked about this one at all.
    fn takes(&self, case: &Case) -> bool;

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a>;

    /// What it reads claims into.
    fn reads(&self) -> Reads {
        Reads::AnyClaims
    }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    AnyClaims,
    AccessTokenClaims,
}

/// Whether `answer` is the one that the table demands.
pub(super) fn fits(answer: &Answer, case: &Case, reads: Reads) -> bool {
    let expected = match (case.verdict, reads) {
        (Verdict::Accept, _) | (Verdict::Incomplete, Reads::AnyClaims) => None,
        (Verdict::Incomplete, Reads::AccessTokenClaims) => Some("unexpected_claims"),
        (Verdict::Refuse(code), _) => Some(code),
    };
    match (answer, expected) {
        (Answer::Accepted, None) => true,
        (Answer::Refused(found), Some(expected)) => found == expected,
        // RFC 6750 §3.1: a malformed request is a 400, a token that does not hold a 401. A header that is too long
        // has a status of its own.
        (Answer::Status(401), Some(_)) => true,
        (Answer::Status(400 | 413 | 431), Some(_)) => !case.is_a_credential() || case.token.len() > 16 * 1024,
        _ => false,
    }
}

/// [`keywheel_jose::check`].
pub(super) struct Check {
    keys: KeySet,
    policy: Policy,
    reads: Reads,
}

impl Check {
    pub(super) fn new(world: &World, reads: Reads) -> Self {
        let keys = KeySet::parse(world.keys.as_bytes()).expect("a key set");
        Self { keys, policy: world.policy.clone(), reads }
    }
}

impl Front for Check {
    fn takes(&self, case: &Case) -> bool {
        text(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let (token, now) = (text(case).expect("it takes only texts"), case.instant());
        let answer = match self.reads {
            Reads::AnyClaims => answer(check::<Map<String, Value>>(token, &self.keys, &self.policy, now)),
            Reads::AccessTokenClaims => answer(check::<AccessTokenClaims>(token, &self.keys, &self.policy, now)),
        };
        Box::pin(std::future::ready(answer))
    }

    fn reads(&self) -> Reads {
        self.reads
    }
}

/// [`keywheel_jose::explain`]: the check that has failed, where there is one.
pub(super) struct Explain(Check);

impl Explain {
    pub(super) fn new(world: &World) -> Self {
        Self(Check::new(world, Reads::AccessTokenClaims))
    }

    fn explain(&self, case: &Case) -> Answer {
        let token = text(case).expect("it takes only texts");
        let explained = explain::<AccessTokenClaims>(token, &self.0.keys, &self.0.policy, case.instant());
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

    fn reads(&self) -> Reads {
        self.0.reads()
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

    fn reads(&self) -> Reads {
        Reads::AccessTokenClaims
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

/// [`Guard::authorize_now`] and [`Guard::authorize`], which have to agree.
pub(super) struct Guarded(pub(super) Guard);

impl Front for Guarded {
    fn takes(&self, case: &Case) -> bool {
        request(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let parts = request(case).expect("it takes only what a header can carry").into_parts().0;
        Box::pin(async move {
            let [now, later] =
                [self.0.authorize_now(&parts), self.0.authorize(&parts).await].map(|verdict| match verdict {
                    Ok(Some(_)) => Answer::Accepted,
                    Ok(None) => Answer::Failed("let through without claims".to_owned()),
                    Err(refusal) if refusal.cause().is_some() => Answer::Refused(refusal.code().to_owned()),
                    Err(refusal) => Answer::Status(refusal.status().as_u16()),
                });
            if now == later { now } else { Answer::Failed(format!("now: {now:?}, and when waiting: {later:?}")) }
        })
    }

    fn reads(&self) -> Reads {
        Reads::AccessTokenClaims
    }
}

/// A front that is a whole HTTP service: it answers 200 to whoever has a good token.
pub(super) trait Service: Send + Sync {
    /// Answers a request for `/`.
    fn answer(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;
}

impl<S: Service> Front for S {
    fn takes(&self, case: &Case) -> bool {
        request(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let request = request(case).expect("it takes only what a header can carry").map(|()| Full::default());
        Box::pin(async move { answer_over_http(case, &self.answer(request).await) })
    }

    fn reads(&self) -> Reads {
        Reads::AccessTokenClaims
    }
}

/// A whole axum router, guarded by the tower layer or by the extractor [`Bearer`].
pub(super) struct Routed(Router);

impl Routed {
    pub(super) fn by_layer(guard: &Guard) -> Self {
        let handler = |token: Extension<Verified<AccessTokenClaims>>| async move { token.claims().iss.clone() };
        Self(Router::new().route("/", any(handler)).layer(guard.layer()))
    }

    pub(super) fn by_extractor(guard: Guard) -> Self {
        let handler = |Bearer(token): Bearer| async move { token.claims().iss.clone() };
        Self(Router::new().route("/", any(handler)).with_state(guard))
    }
}

impl Service for Routed {
    fn answer(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let mut router = self.0.clone();
        Box::pin(async move {
            let response = router.call(request.map(Body::new)).await.expect("a router does not fail");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a body in memory").to_bytes();
            Reply { status: parts.status, headers: parts.headers, body }
        })
    }
}

/// `keywheel-gate`, a process, asked over HTTP.
pub(super) struct Gated {
    gate: Gate,
    asked: Asked,
    _origin: Origin,
}

/// In which place a gate stands.
#[derive(Clone, Copy)]
enum Asked {
    /// Forward authentication by a proxy that tells nothing of the request.
    Verify,
    /// Forward authentication by nginx, as the guide tells to configure it.
    ByNginx,
    /// It is the proxy.
    Itself,
}

impl Gated {
    pub(super) async fn at_verify(world: &World) -> Self {
        Self::start(world, Asked::Verify, "[forward_auth]\n").await
    }

    /// `settings` are further tables.
    pub(super) async fn behind_nginx(world: &World, settings: &str) -> Self {
        Self::start(world, Asked::ByNginx, &format!("{settings}\n[forward_auth]\nproxy = \"nginx\"\n")).await
    }

    /// The proxy before a service that answers 200 to everybody. `settings` are further tables.
    pub(super) async fn before_a_service(world: &World, settings: &str) -> Self {
        Self::start(world, Asked::Itself, &format!("{settings}\n[proxy]\nupstream = \"http://SERVICE\"\n")).await
    }

    pub(super) fn log(&self) -> String {
        self.gate.log()
    }

    async fn start(world: &World, asked: Asked, settings: &str) -> Self {
        let origin = Origin::answering(origin::Reply::keys(world.keys.clone())).await;
        let (issuer, audience) = (world.policy.issuer().expect("an issuer"), &world.policy.audiences()[0]);
        let keys = origin.url();
        let issuer = format!("[[issuer]]\nurl = \"{issuer}\"\naudience = \"{audience}\"\njwks_url = \"{keys}\"\n");
        // What serves the keys to the gate answers everything else with 200 as well.
        let settings = settings.replace("SERVICE", &origin.address().to_string());
        let gate = Gate::serve(&format!("{issuer}{settings}")).await;
        Self { gate, asked, _origin: origin }
    }
}

impl Service for Gated {
    fn answer(&self, mut request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        let asked_at = match self.asked {
            Asked::Itself => target.clone(),
            Asked::Verify | Asked::ByNginx => target.replacen('/', "/verify", 1),
        };
        *request.uri_mut() = format!("http://{}{asked_at}", self.gate.listen).parse().expect("a URL");
        if let Asked::ByNginx = self.asked {
            let method = std::mem::take(request.method_mut());
            let host = request.headers_mut().remove(header::HOST);
            let host = host.unwrap_or(HeaderValue::from_static("api.example.com"));
            let value = |text: &str| HeaderValue::from_str(text).expect("a header value");
            for (name, value) in [
                ("x-original-method", value(method.as_str())),
                ("x-original-uri", value(&target)),
                ("x-forwarded-host", host),
            ] {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        Box::pin(async move { send(request).await.expect("an answer") })
    }
}

/// The case as a request with a bearer token. A header has no line breaks, and blanks around a token are not part of it;
/// no clock but the system's decides.
fn request(case: &Case) -> Option<Request<()>> {
    let trimmed = case.token.trim_ascii().len();
    let value = HeaderValue::from_bytes(&[b"Bearer ", case.token.as_slice()].concat()).ok()?;
    if case.at.is_some() || trimmed < case.token.len() {
        return None;
    }
    Some(Request::get("/").header(header::AUTHORIZATION, value).body(()).expect("a request"))
}

/// What a guarded service answered. A refusal has a challenge (RFC 6750 §3), and nothing of the token in it.
fn answer_over_http(case: &Case, reply: &Reply) -> Answer {
    let status = reply.status.as_u16();
    let challenge = reply.headers.get(header::WWW_AUTHENTICATE).map_or(&b""[..], |value| value.as_bytes());
    let said = [challenge, &reply.body].concat();
    let echoed = case
        .token
        .split(|byte| *byte == b'.')
        .any(|part| part.len() >= ECHO && said.windows(ECHO).any(|window| window == &part[part.len() - ECHO..]));
    match status {
        200 => Answer::Accepted,
        _ if echoed => Answer::Failed(format!("{status} with a part of the token: {}", String::from_utf8_lossy(&said))),
        400 if challenge.starts_with(b"Bearer ") && contains(challenge, b"error=\"invalid_request\"") => {
            Answer::Status(400)
        }
        431 => Answer::Status(431),
        401 if challenge.starts_with(b"Bearer ") && contains(challenge, b"error=\"invalid_token\"") => {
            Answer::Status(401)
        }
        _ => Answer::Failed(format!("{status} with {}", String::from_utf8_lossy(challenge))),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// So many octets of a token in an answer are no accident.
const ECHO: usize = 12;

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
