//! What a request that is refused is answered with (RFC 6750 §3, RFC 9449 §7.1 and §9, RFC 9728 §5.1).
//!
//! | what happened | status | `error` |
//! | --- | --- | --- |
//! | no token came | 401 | none: RFC 6750 §3.1 wants no error code where there was no attempt |
//! | the request can't be read: two tokens, not a token | 400 | `invalid_request` |
//! | the token does not hold | 401 | `invalid_token` |
//! | its DPoP proof does not hold | 401 | `invalid_dpop_proof` |
//! | its DPoP proof needs a nonce of ours | 401 | `use_dpop_nonce`, and a `DPoP-Nonce` header |
//! | it holds, and does not allow this | 403 | `insufficient_scope` |
//! | its cookie came without same-origin proof | 403 | no challenge: another token would not help |
//! | nobody can say whether it holds | 503 | no challenge, but `Retry-After`: the token may well be good |
//!
//! Nothing of the request is repeated in the answer: every text is a constant or the guard's own setting. The body is
//! empty, because the status and the challenge already say everything that a client may know.

use std::fmt;
use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use keywheel_jose::Rejection;

use super::request::Malformed;
use super::requirement::Missing;
use crate::presented::Scheme;
use crate::verifier::VerifyError;

/// Why a request is not let through, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    status: StatusCode,
    code: &'static str,
    challenges: Vec<HeaderValue>,
    retry_after: Option<Duration>,
    dpop_nonce: Option<HeaderValue>,
    cause: Option<VerifyError>,
}

/// What challenges say besides the error.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    /// RFC 6750 §3 wants at least one parameter in each challenge, so there is always a realm.
    pub(super) realm: String,
    /// Where the metadata of RFC 9728 is.
    pub(super) resource_metadata: Option<String>,
    /// The algorithms of DPoP proofs, divided by spaces; `None` where DPoP tokens are not taken.
    pub(super) dpop_algs: Option<String>,
}

/// The `error` and `error_description` of a challenge (RFC 6750 §3).
#[derive(Clone, Copy)]
struct Reason<'a> {
    error: &'static str,
    description: &'static str,
    scope: Option<&'a str>,
}

impl Refusal {
    /// The status: 400, 401, 403 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The `WWW-Authenticate` values, each for a header line of its own: many clients can't divide a line with two.
    #[must_use]
    pub fn challenges(&self) -> &[HeaderValue] {
        &self.0.challenges
    }

    /// When to come again, with the status 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// A stable name for logs and metrics: `missing_token`, `csrf`, `insufficient_scope`, `missing_role`, the name of a
    /// [`Requirement::claim`](crate::Requirement::claim), one of `several_authorization_headers`,
    /// `malformed_authorization_header`, `several_token_cookies`, `malformed_token_cookie`, `token_in_two_places`,
    /// `malformed_dpop_header`, or else [`VerifyError::code`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The verifier's own words, where it came so far. For logs: it can say more than a client should learn.
    #[must_use]
    pub fn cause(&self) -> Option<&VerifyError> {
        self.0.cause.as_ref()
    }

    /// Every header of the answer: the challenges, `Retry-After` (whole seconds, rounded up), `DPoP-Nonce`, and
    /// `Cache-Control: no-store`, so that nobody is answered with another's refusal.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for challenge in &self.0.challenges {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
        if let Some(pause) = self.0.retry_after {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(nonce) = &self.0.dpop_nonce {
            headers.insert(DPOP_NONCE, nonce.clone());
        }
        headers
    }

    /// The answer, with an empty body, and with the refusal in its extensions for a layer further out that keeps a log.
    #[must_use]
    pub fn into_response<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status();
        *response.headers_mut() = self.headers();
        response.extensions_mut().insert(self);
        response
    }

    fn new(status: StatusCode, code: &'static str, challenges: Vec<HeaderValue>) -> Self {
        Self(Box::new(Details { status, code, challenges, retry_after: None, dpop_nonce: None, cause: None }))
    }

    /// For the fronts that answer by themselves. No more than `debug`: what strangers send is nobody's alarm, and an issuer
    /// that can't be reached is told by the verifier.
    pub(super) fn log(&self) {
        let cause = self.0.cause.as_ref().and_then(std::error::Error::source);
        tracing::debug!(code = self.0.code, status = self.0.status.as_u16(), cause, "refused a request");
    }

    fn because(mut self, cause: VerifyError) -> Self {
        self.0.cause = Some(cause);
        self
    }
}

impl Challenges {
    /// RFC 6750 §3.1: "If the request lacks any authentication information (e.g., the client was unaware that
    /// authentication is necessary or attempted using an unsupported authentication method), the resource server SHOULD
    /// NOT include an error code or other error information."
    pub(super) fn missing_token(&self) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "missing_token", self.all(None))
    }

    pub(super) fn malformed(&self, malformed: Malformed) -> Refusal {
        let reason = Reason { error: "invalid_request", description: malformed.description(), scope: None };
        Refusal::new(StatusCode::BAD_REQUEST, malformed.code(), self.all(Some((malformed.scheme(), reason))))
    }

    /// Several `DPoP` headers, or one that is not text (RFC 9449 §4.3 check 1).
    pub(super) fn malformed_proof(&self) -> Refusal {
        let description = "there has to be exactly one DPoP header, and a JWT in it";
        let reason = Reason { error: "invalid_dpop_proof", description, scope: None };
        Refusal::new(StatusCode::UNAUTHORIZED, "malformed_dpop_header", self.all(Some((Scheme::DPoP, reason))))
    }

    /// No token would make the request acceptable, so no challenge asks for another.
    pub(super) fn cross_site(&self) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "csrf", Vec::new())
    }

    /// RFC 6750 §3.1: "The request requires higher privileges than provided by the access token." The scopes are named
    /// only if it was a scope that was missing: asking for them again would not bring a role.
    pub(super) fn insufficient(&self, scheme: Scheme, missing: Missing, scopes: &[&str]) -> Refusal {
        let (code, description) = match missing {
            Missing::Scope => ("insufficient_scope", "the access token lacks a scope"),
            Missing::Role => ("missing_role", "the user lacks a role"),
            Missing::Claim(name) => (name, "the access token does not allow this"),
        };
        let scopes = scopes.join(" ");
        let scope = (missing == Missing::Scope).then_some(scopes.as_str());
        let reason = Reason { error: "insufficient_scope", description, scope };
        Refusal::new(StatusCode::FORBIDDEN, code, self.all(Some((scheme, reason))))
    }

    pub(super) fn unverified(&self, scheme: Scheme, error: VerifyError) -> Refusal {
        let code = error.code();
        let unauthorized = |scheme, error, description| {
            let challenges = self.all(Some((scheme, Reason { error, description, scope: None })));
            Refusal::new(StatusCode::UNAUTHORIZED, code, challenges)
        };
        let refusal = match &error {
            VerifyError::Rejected(rejection) => unauthorized(scheme, "invalid_token", describe(rejection)),
            VerifyError::ProofRejected(_) => {
                unauthorized(Scheme::DPoP, "invalid_dpop_proof", "the DPoP proof is missing or does not hold")
            }
            VerifyError::UseDpopNonce { nonce } => {
                let mut refusal =
                    unauthorized(Scheme::DPoP, "use_dpop_nonce", "the DPoP proof needs a nonce of this server");
                refusal.0.dpop_nonce = HeaderValue::from_str(nonce).ok();
                refusal
            }
            VerifyError::KeysUnavailable { retry_after }
            | VerifyError::IntrospectionUnavailable { retry_after }
            | VerifyError::Overloaded { retry_after } => {
                let mut refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, Vec::new());
                refusal.0.retry_after = Some(*retry_after);
                refusal
            }
        };
        refusal.because(error)
    }

    /// One challenge for each scheme that is taken; the one that was used has the reason. Where DPoP was used and is not
    /// taken, the bearer challenge has it.
    fn all(&self, reason: Option<(Scheme, Reason<'_>)>) -> Vec<HeaderValue> {
        let takes_dpop = self.dpop_algs.is_some();
        let reason_of = |scheme| reason.filter(|(used, _)| *used == scheme || !takes_dpop).map(|(_, reason)| reason);
        let mut challenges = vec![self.challenge("Bearer", reason_of(Scheme::Bearer), None)];
        if let Some(algs) = &self.dpop_algs {
            challenges.push(self.challenge("DPoP", reason_of(Scheme::DPoP), Some(algs)));
        }
        challenges
    }

    fn challenge(&self, scheme: &str, reason: Option<Reason<'_>>, algs: Option<&str>) -> HeaderValue {
        let mut challenge = format!("{scheme} realm={}", quoted(&self.realm));
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                challenge.push_str(&format!(", {name}={}", quoted(value)));
            }
        };
        add("error", reason.map(|reason| reason.error));
        add("error_description", reason.map(|reason| reason.description));
        add("scope", reason.and_then(|reason| reason.scope));
        add("algs", algs);
        add("resource_metadata", self.resource_metadata.as_deref());
        HeaderValue::try_from(challenge).expect("`quoted` leaves printable ASCII only")
    }
}

/// What a client may know. The codes of rejections go to the log: told apart here, they would help to find out what keys
/// and audiences there are.
fn describe(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Expired { .. } => "the access token expired",
        Rejection::NotYetValid { .. } => "the access token is not valid yet",
        Rejection::SenderConstrained => "the access token is bound to a key, and no proof of it came",
        Rejection::ProofMismatch { .. } => "the access token is bound to another key",
        Rejection::NotBound => "the access token is not bound to a DPoP key",
        _ => "the access token is not valid",
    }
}

/// RFC 9110 §5.6.4. What no header may carry is left out.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars().filter(|char| matches!(char, ' '..='~')) {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request is refused with status {} ({})", self.0.status.as_u16(), self.0.code)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
