//! Tokens to order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_jose::{Algorithm, Timestamp};
use serde_json::{Map, Value, json};

use super::issuer::State;
use super::signer::Signer;

/// A token of a [`FakeIssuer`](super::FakeIssuer), right in everything that is not said otherwise: an access token (RFC 9068)
/// for `alice` and the issuer's audience, that ends in ten minutes.
#[derive(Clone)]
#[must_use]
pub struct TokenBuilder {
    state: Arc<State>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    issued_at: Timestamp,
    key: Key,
}

#[derive(Clone)]
enum Key {
    /// The one that signs, for this algorithm or the issuer's first.
    Signing(Option<Algorithm>),
    Named(String),
    /// One that was never in the ring, under its own id.
    Unknown,
    /// One that was never in the ring, under the id of the one that signs.
    Forged,
}

impl TokenBuilder {
    pub(super) fn new(state: Arc<State>) -> Self {
        static ISSUED: AtomicU64 = AtomicU64::new(1);
        let jti = format!("test-{}", ISSUED.fetch_add(1, Ordering::Relaxed));
        let issued_at = state.clock.now();
        let claims = object(json!({
            "iss": state.issuer(), "aud": state.audience, "sub": "alice", "client_id": "test-client", "jti": jti,
        }));
        let builder =
            Self { state, header: object(json!({"typ": "at+jwt"})), claims, issued_at, key: Key::Signing(None) };
        builder.expires_in(LIFETIME)
    }

    /// Whom it is about.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject.into())
    }

    /// Whom it is for, instead of the issuer's audience.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience.into())
    }

    /// One more scope.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        let scope = match self.claims.get("scope").and_then(Value::as_str) {
            Some(earlier) => format!("{earlier} {}", scope.into()),
            None => scope.into(),
        };
        self.claims.insert("scope".to_owned(), scope.into());
        self
    }

    /// One more role.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        let roles = self.claims.entry("roles").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(roles) = roles {
            roles.push(role.into().into());
        }
        self
    }

    /// This claim, whatever it was before; [`Value::Null`] is a claim too.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Without this claim.
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// This header member, whatever it was before. `alg` and `kid` may lie too.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// It holds for this long since it was issued.
    pub fn expires_in(self, lifetime: Duration) -> Self {
        let (issued_at, expires_at) = (self.issued_at, self.issued_at + lifetime);
        self.claim("iat", issued_at.as_unix()).claim("exp", expires_at.as_unix())
    }

    /// It ended an hour ago, and was issued ten minutes before.
    pub fn expired(mut self) -> Self {
        self.issued_at = self.issued_at - Duration::from_secs(70 * 60);
        self.expires_in(LIFETIME)
    }

    /// It is bound to the DPoP key with this thumbprint (RFC 9449 §6.1); see
    /// [`DpopKey::thumbprint`](super::DpopKey::thumbprint).
    pub fn bound_to(self, jkt: impl Into<String>) -> Self {
        self.confirmation("jkt", jkt.into())
    }

    /// It is bound to the client certificate with this SHA-256 in base64url (RFC 8705 §3.1).
    pub fn bound_to_certificate(self, x5t_s256: impl Into<String>) -> Self {
        self.confirmation("x5t#S256", x5t_s256.into())
    }

    /// Signed with this algorithm, for an issuer that has [several](super::FakeIssuerBuilder::algorithms).
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.key = Key::Signing(Some(algorithm));
        self
    }

    /// Signed by this key of the ring, whatever has become of it: one that is announced, retiring, retired or revoked.
    pub fn signed_by(mut self, kid: impl Into<String>) -> Self {
        self.key = Key::Named(kid.into());
        self
    }

    /// Signed by a key that nobody published, and under its own `kid`.
    pub fn signed_by_unknown_key(mut self) -> Self {
        self.key = Key::Unknown;
        self
    }

    /// Signed by a key that nobody published, under the `kid` of the one that signs: a forgery.
    pub fn forged(mut self) -> Self {
        self.key = Key::Forged;
        self
    }

    /// The token.
    ///
    /// # Panics
    /// When the issuer has no key of the chosen algorithm or id.
    #[must_use]
    pub fn sign(self) -> String {
        let Self { state, header, claims, key, .. } = self;
        let current = |algorithm| state.ring(|ring| ring.signer(algorithm)).expect("the issuer has that algorithm");
        let (signer, kid) = match key {
            Key::Signing(algorithm) => own_kid(current(algorithm)),
            Key::Named(kid) => own_kid(state.ring(|ring| ring.by_kid(&kid)).expect("the issuer has a key of that id")),
            Key::Unknown => own_kid(Arc::new(Signer::generate(current(None).algorithm()))),
            Key::Forged => {
                let genuine = current(None);
                (Arc::new(Signer::generate(genuine.algorithm())), genuine.kid().to_owned())
            }
        };
        let mut full = object(json!({"alg": signer.algorithm().as_str(), "kid": kid}));
        full.extend(header);
        signer.sign(&full, &claims)
    }

    /// An opaque token that the issuer's [introspection endpoint](super::FakeIssuer::introspection_url) knows by these
    /// claims. Header and key do not matter.
    #[must_use]
    pub fn opaque(self) -> String {
        self.state.remember_opaque(self.claims)
    }

    fn confirmation(mut self, method: &str, thumbprint: String) -> Self {
        let confirmation = self.claims.entry("cnf").or_insert_with(|| json!({}));
        confirmation[method] = thumbprint.into();
        self
    }
}

fn own_kid(signer: Arc<Signer>) -> (Arc<Signer>, String) {
    let kid = signer.kid().to_owned();
    (signer, kid)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Long enough for any test, short enough that `expired` says what it means.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
