//! The fake issuer: what it holds, what it is told, and what it answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use keywheel_jose::{Algorithm, Policy, PublicJwk};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fault::{Document, Fault, JSON, Outcome, spoil};
use super::ring::Ring;
use super::server;
use super::{FakeKeys, TestClock, TokenBuilder};
use crate::{Introspection, IntrospectionBuilder, Verifier, VerifierBuilder};

/// An issuer for tests: it has keys, signs tokens to order, publishes its key set, and fails when told to.
///
/// [`start`](Self::start) serves it on a loopback port; [`in_memory`](Self::in_memory) needs no socket. It ends when it is
/// dropped. See the [module](super) for examples.
pub struct FakeIssuer {
    state: Arc<State>,
    /// None in memory.
    server: Option<JoinSet<()>>,
}

/// The settings of a [`FakeIssuer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FakeIssuerBuilder {
    algorithms: Vec<Algorithm>,
    audience: String,
    max_age: Duration,
    clock: TestClock,
}

/// What the issuer, its server and its tokens share.
pub(super) struct State {
    issuer: String,
    pub(super) audience: String,
    pub(super) clock: TestClock,
    /// Never held across an await.
    inner: Mutex<Inner>,
    requests: watch::Sender<HashMap<Document, usize>>,
    /// Whether connections are refused.
    pub(super) refuses: watch::Sender<bool>,
}

struct Inner {
    ring: Ring,
    max_age: Duration,
    faults: HashMap<Document, Fault>,
    /// Opaque tokens and what they stand for.
    opaque: HashMap<String, Map<String, Value>>,
    /// What introspection answers instead of the truth.
    introspection_answer: Option<String>,
}

impl FakeIssuer {
    /// The audience of its tokens, unless another one is [set](FakeIssuerBuilder::audience).
    pub const AUDIENCE: &str = "https://api.example.com";
    /// The client that may introspect.
    pub const CLIENT_ID: &str = "resource-server";
    /// The secret of the client that may introspect.
    pub const CLIENT_SECRET: &str = "a secret: with + and %";

    /// Starts an issuer with an ES256 ring on a loopback port of its own.
    ///
    /// # Panics
    /// As for [`FakeIssuerBuilder::start`]
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// An issuer with an ES256 ring and without a socket: its verifiers read its keys straight from memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::builder().in_memory()
    }

    /// Begins an issuer that is not like all others.
    pub fn builder() -> FakeIssuerBuilder {
        FakeIssuerBuilder {
            algorithms: vec![Algorithm::ES256],
            audience: Self::AUDIENCE.to_owned(),
            max_age: Duration::from_secs(60),
            clock: TestClock::running(),
        }
    }

    /// Publishes one more key, which does not sign yet. Returns the ids of all that are published.
    pub fn announce(&self) -> Vec<String> {
        self.state.ring(Ring::announce);
        self.kids()
    }

    /// Signs with the key that has waited longest; the one that signed so far stays published.
    pub fn sign_next(&self) {
        self.state.ring(Ring::sign_next);
    }

    /// Publishes no more the keys that signed earlier.
    pub fn retire(&self) {
        self.state.ring(Ring::retire);
    }

    /// A rotation as it should be: signs with the key that was announced, and announces another one. The old key stays
    /// published until it is [retired](Self::retire).
    pub fn rotate(&self) {
        self.state.ring(|ring| {
            ring.sign_next();
            ring.announce();
        });
    }

    /// A rotation as it should not be: from now on every key is new, without notice.
    pub fn replace_all_keys(&self) {
        self.state.ring(Ring::replace_all);
    }

    /// Takes a key out of the set at once. If it was the one that signs, the next one does.
    ///
    /// # Panics
    /// When no published key has this id.
    pub fn revoke(&self, kid: &str) {
        assert!(self.state.ring(|ring| ring.revoke(kid)), "no published key has the id {kid:?}");
    }

    /// For how long answers are fresh, from the next one on: their `max-age`.
    pub fn set_max_age(&self, max_age: Duration) {
        self.state.edit(|inner| inner.max_age = max_age);
    }

    /// From now on this goes wrong with every document, instead of what went wrong before.
    pub fn fault(&self, fault: Fault) {
        self.state.set_faults(Document::ALL.map(|document| (document, fault.clone())));
    }

    /// From now on this goes wrong with one document.
    pub fn fault_at(&self, document: Document, fault: Fault) {
        self.state.set_faults([(document, fault)]);
    }

    /// Nothing goes wrong any more. A request that [hangs](Fault::Hang) is not answered any more.
    pub fn heal(&self) {
        self.state.edit(|inner| inner.faults.clear());
        self.state.refuses.send_replace(false);
    }

    /// The introspection endpoint answers every request with this text, whatever it is asked; `None` ends it.
    pub fn answer_introspection_with(&self, answer: Option<&str>) {
        self.state.edit(|inner| inner.introspection_answer = answer.map(str::to_owned));
    }

    /// Forgets an [opaque token](TokenBuilder::opaque), so that it is no longer active.
    pub fn revoke_opaque(&self, token: &str) {
        self.state.edit(|inner| inner.opaque.remove(token));
    }

    /// A token to order.
    pub fn token(&self) -> TokenBuilder {
        TokenBuilder::new(Arc::clone(&self.state))
    }

    /// A verifier for this issuer's access tokens, which goes by its [clock](Self::clock).
    pub fn verifier(&self) -> VerifierBuilder {
        let builder = Verifier::builder(self.policy()).clock(self.clock().clone());
        if self.server.is_some() { builder } else { builder.fetch_keys_with(self.keys()) }
    }

    /// A client of its introspection endpoint, for [opaque tokens](TokenBuilder::opaque). There is none in memory.
    pub fn introspection(&self) -> IntrospectionBuilder {
        Introspection::builder(self.introspection_url(), Self::CLIENT_ID, Self::CLIENT_SECRET)
    }

    /// What a resource server demands of this issuer's access tokens.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::access_token(self.issuer(), &self.state.audience)
    }

    /// Its keys without a socket, for [`VerifierBuilder::fetch_keys_with`]. Faults apply.
    #[must_use]
    pub fn keys(&self) -> FakeKeys {
        FakeKeys(Arc::clone(&self.state))
    }

    /// Its name: `http://127.0.0.1:…`, or `https://issuer.test` in memory.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.state.issuer()
    }

    /// Where its key set is.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.issuer())
    }

    /// Where its [opaque tokens](TokenBuilder::opaque) are introspected (RFC 7662), by [`CLIENT_ID`](Self::CLIENT_ID).
    #[must_use]
    pub fn introspection_url(&self) -> String {
        format!("{}{INTROSPECTION_PATH}", self.issuer())
    }

    /// The clock that its tokens and its verifiers go by.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.state.clock
    }

    /// The id of the key that signs by default.
    #[must_use]
    pub fn kid(&self) -> String {
        let signer = self.state.ring(|ring| ring.signer(None));
        signer.expect("there is always a key that signs").kid().to_owned()
    }

    /// The ids of the published keys: those that sign, then those that are announced, then those that have signed.
    #[must_use]
    pub fn kids(&self) -> Vec<String> {
        let set = self.state.ring(|ring| ring.public_set());
        set.keys().iter().filter_map(PublicJwk::kid).map(str::to_owned).collect()
    }

    /// How often a document was asked for, with whatever answer.
    #[must_use]
    pub fn requests(&self, document: Document) -> usize {
        self.state.requests.borrow().get(&document).copied().unwrap_or_default()
    }

    /// Waits until a document has been asked for so many times in all.
    pub async fn requested(&self, document: Document, times: usize) {
        let mut requests = self.state.requests.subscribe();
        let enough = |counts: &HashMap<Document, usize>| counts.get(&document).is_some_and(|count| *count >= times);
        requests.wait_for(enough).await.expect("the sender is in self");
    }
}

impl FakeIssuerBuilder {
    /// Has a ring for each of these algorithms; tokens are signed with the first one unless
    /// [asked otherwise](TokenBuilder::algorithm). Default: ES256. RSA keys take a tenth of a second each.
    ///
    /// # Panics
    /// When there is none.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        assert!(!self.algorithms.is_empty(), "an issuer needs an algorithm");
        self
    }

    /// The audience of its tokens. Default: [`FakeIssuer::AUDIENCE`].
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// For how long answers are fresh. Default: 60 s.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// The clock to go by. Default: one that goes with the system's.
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock = clock;
        self
    }

    /// Serves it over HTTP on a free loopback port, on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O, and where no port can be bound.
    pub async fn start(self) -> FakeIssuer {
        let listener = server::bind().await.expect("a free loopback port");
        let address = listener.local_addr().expect("it is bound");
        let state = self.state(format!("http://{address}"));
        let mut server = JoinSet::new();
        server.spawn(server::serve(listener, Arc::clone(&state)));
        FakeIssuer { state, server: Some(server) }
    }

    /// Serves it to those who read its [keys](FakeIssuer::keys), without a socket.
    #[must_use]
    pub fn in_memory(self) -> FakeIssuer {
        FakeIssuer { state: self.state("https://issuer.test".to_owned()), server: None }
    }

    fn state(self, issuer: String) -> Arc<State> {
        let inner = Inner {
            ring: Ring::new(self.algorithms),
            max_age: self.max_age,
            faults: HashMap::new(),
            opaque: HashMap::new(),
            introspection_answer: None,
        };
        Arc::new(State {
            issuer,
            audience: self.audience,
            clock: self.clock,
            inner: Mutex::new(inner),
            requests: watch::Sender::new(HashMap::new()),
            refuses: watch::Sender::new(false),
        })
    }
}

impl State {
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn ring<T>(&self, change: impl FnOnce(&mut Ring) -> T) -> T {
        self.edit(|inner| change(&mut inner.ring))
    }

    /// A new opaque token with this meaning.
    pub(super) fn remember_opaque(&self, claims: Map<String, Value>) -> String {
        self.edit(|inner| {
            let token = format!("opaque-{}", inner.opaque.len() + 1);
            inner.opaque.insert(token.clone(), claims);
            token
        })
    }

    /// What becomes of a request for a document. `etag` is what the client holds.
    pub(super) fn get(&self, document: Document, etag: Option<&str>) -> Outcome {
        self.count(document);
        self.edit(|inner| {
            let fault = inner.faults.get(&document);
            let mut reply = match document {
                Document::Discovery => Response::new(self.discovery(fault)),
                _ => inner.key_set(fault, etag),
            };
            let cache_control = format!("public, max-age={}", inner.max_age.as_secs());
            let cache_control = HeaderValue::try_from(cache_control).expect("digits are a header value");
            reply.headers_mut().insert(header::CACHE_CONTROL, cache_control);
            finish(fault, reply)
        })
    }

    /// What becomes of a request to the introspection endpoint.
    pub(super) fn introspect(&self, authorization: Option<&str>, form: &[u8]) -> Outcome {
        self.count(Document::Introspection);
        self.edit(|inner| {
            let fault = inner.faults.get(&Document::Introspection);
            if authorization != Some(&client_credentials()) {
                let mut refusal = Response::new(Bytes::from_static(br#"{"error":"invalid_client"}"#));
                *refusal.status_mut() = StatusCode::UNAUTHORIZED;
                return finish(fault, refusal);
            }
            let answer = inner.introspection_answer.clone().unwrap_or_else(|| {
                let mut pairs = url::form_urlencoded::parse(form);
                let token = pairs.find(|(name, _)| name == "token").map(|(_, token)| token);
                let claims = token.and_then(|token| inner.opaque.get(&*token));
                let now = self.clock.now().as_unix();
                match claims.filter(|claims| claims.get("exp").and_then(Value::as_i64).is_none_or(|exp| now < exp)) {
                    None => json!({"active": false}).to_string(),
                    Some(claims) => {
                        let mut answer = Map::from_iter([("active".to_owned(), true.into())]);
                        answer.extend(claims.clone());
                        Value::Object(answer).to_string()
                    }
                }
            });
            finish(fault, Response::new(answer.into()))
        })
    }

    /// Whether connections are to break hard.
    pub(super) fn resets(&self) -> bool {
        self.edit(|inner| inner.faults.values().any(|fault| *fault == Fault::ResetMidBody))
    }

    /// Whether discovery speaks for somebody else: all that a reader of the keys alone can see of it.
    pub(super) fn is_foreign(&self) -> bool {
        self.edit(|inner| inner.faults.get(&Document::Discovery) == Some(&Fault::ForeignIssuer))
    }

    fn discovery(&self, fault: Option<&Fault>) -> Bytes {
        let issuer = if fault == Some(&Fault::ForeignIssuer) { FOREIGN_ISSUER } else { self.issuer() };
        let document = json!({
            "issuer": issuer,
            "jwks_uri": format!("{}{JWKS_PATH}", self.issuer),
            "introspection_endpoint": format!("{}{INTROSPECTION_PATH}", self.issuer),
        });
        document.to_string().into()
    }

    fn set_faults(&self, faults: impl IntoIterator<Item = (Document, Fault)>) {
        let all_down = self.edit(|inner| {
            inner.faults.extend(faults);
            Document::ALL.iter().all(|document| inner.faults.get(document) == Some(&Fault::Down))
        });
        self.refuses.send_replace(all_down);
    }

    fn count(&self, document: Document) {
        self.requests.send_modify(|counts| *counts.entry(document).or_default() += 1);
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn key_set(&self, fault: Option<&Fault>, etag: Option<&str>) -> Response<Bytes> {
        let current = format!("\"{}\"", self.ring.generation);
        let set = self.ring.public_set();
        let body = match fault {
            Some(Fault::EmptySet) => json!({"keys": []}).to_string(),
            Some(Fault::PrivateKeyInSet) => {
                let mut set = serde_json::to_value(&set).expect("a key set is JSON");
                // By its name alone a verifier knows that this should not be there.
                set["keys"][0]["d"] = "AAAA".into();
                set.to_string()
            }
            _ if etag == Some(&current) => {
                let mut unchanged = Response::new(Bytes::new());
                *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
                return unchanged;
            }
            _ => serde_json::to_string(&set).expect("a key set is JSON"),
        };
        let mut reply = Response::new(body.into());
        if !matches!(fault, Some(Fault::EmptySet | Fault::PrivateKeyInSet)) {
            reply.headers_mut().insert(header::ETAG, current.parse().expect("digits are a header value"));
        }
        reply
    }
}

impl Document {
    const ALL: [Self; 3] = [Self::Discovery, Self::Keys, Self::Introspection];
}

fn finish(fault: Option<&Fault>, mut reply: Response<Bytes>) -> Outcome {
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    spoil(fault, reply)
}

/// RFC 6749 §2.3.1: both are form-encoded before they are joined.
fn client_credentials() -> String {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(FakeIssuer::CLIENT_ID), encode(FakeIssuer::CLIENT_SECRET));
    format!("Basic {}", BASE64_STANDARD.encode(joined))
}

impl fmt::Debug for FakeIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeIssuer").field("issuer", &self.issuer()).field("kids", &self.kids()).finish_non_exhaustive()
    }
}

pub(super) const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
pub(super) const JWKS_PATH: &str = "/jwks";
pub(super) const INTROSPECTION_PATH: &str = "/introspect";
const FOREIGN_ISSUER: &str = "https://another-issuer.test";
