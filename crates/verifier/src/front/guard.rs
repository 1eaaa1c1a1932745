//! The guard: everything about a request that decides whether it is let through, in one place for every front.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, HeaderName};
use keywheel_jose::{AccessTokenClaims, DpopRequest, Verified};
use url::Url;

use super::challenge::{Challenges, Refusal};
use super::layer::GuardLayer;
use super::request::{self, Malformed, PeerCertificate, Place, SeveralLines, only_line};
use super::requirement::{Grants, Missing, Requirement};
use super::same_origin;
use crate::presented::{Presented, Scheme};
use crate::text::excerpt;
use crate::verifier::{Claims, Verifier, VerifyError};

/// What a request has to bring: from where its token may come, and what the token must allow. Clones share it.
///
/// ```no_run
/// # use keywheel_verifier::{Guard, Policy, Requirement, Verifier};
/// # fn example(verifier: Verifier) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = Guard::new(verifier).realm("invoices").require_scope("invoices:read");
/// let people = guard.clone().require_claim("person", |token| token.claims().sid.is_some());
/// let admins = guard.require(Requirement::any([Requirement::role("admin"), Requirement::role("owner")]));
/// # Ok(())
/// # }
/// ```
///
/// By default the token comes in the `Authorization` header, as a bearer token, and there has to be one.
#[must_use]
pub struct Guard<C = AccessTokenClaims> {
    inner: Arc<Inner<C>>,
}

struct Inner<C> {
    /// Guards made from one another share it until one of them is told to read requests differently.
    entrance: Arc<Entrance>,
    presence: Presence,
    challenges: Challenges,
    requirements: Vec<Requirement<C>>,
}

/// What decides whether a token is accepted, before anything is required of it.
#[derive(Clone)]
struct Entrance {
    verifier: Verifier,
    cookie: Option<String>,
    external: Option<External>,
    allowed_origins: Vec<String>,
}

/// In a request's extensions: a token that was accepted at this entrance. A second guard with the same entrance need not
/// verify it again, and could not: a DPoP proof is good for one time. One with another entrance does not believe it.
struct Accepted<C> {
    token: Verified<C>,
    entrance: Arc<Entrance>,
}

/// Whether there has to be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
}

/// A token, none where none is needed, or a refusal.
type Verdict<C> = Result<Option<Verified<C>>, Refusal>;

/// Under which URL clients know this service.
#[derive(Clone)]
struct External {
    /// Without a slash at its end.
    base: String,
    origin: String,
}

/// A URL that a guard can't work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url} is not {expected}")]
pub struct InvalidUrl {
    /// The URL, escaped and cut.
    url: String,
    expected: &'static str,
}

/// A request's token with everything the verifier may ask for.
struct Credential<'r> {
    token: &'r str,
    scheme: Scheme,
    method: &'r str,
    /// The DPoP proof, and the request's URL as clients see it.
    proof: Option<(&'r str, String)>,
    peer_certificate_der: Option<&'r [u8]>,
}

impl InvalidUrl {
    pub(super) fn new(url: &str, expected: &'static str) -> Self {
        Self { url: excerpt(url), expected }
    }
}

impl Guard {
    /// Lets requests through that have an access token of `verifier`'s. Claims of another type: see
    /// [`with_claims`](Guard::with_claims).
    pub fn new(verifier: Verifier) -> Self {
        Self::with_claims(verifier)
    }
}

impl<C> Guard<C> {
    /// Like [`new`](Guard::new), for claims of a type of your own: `Guard::<MyClaims>::with_claims(verifier)`.
    pub fn with_claims(verifier: Verifier) -> Self {
        let challenges = Challenges { realm: DEFAULT_REALM.to_owned(), resource_metadata: None, dpop_algs: None };
        Self {
            inner: Arc::new(Inner {
                entrance: Arc::new(Entrance { verifier, cookie: None, external: None, allowed_origins: Vec::new() }),
                presence: Presence::Required,
                challenges,
                requirements: Vec::new(),
            }),
        }
    }

    /// Also takes the token from the cookie with this name (exactly this: cookie names have a case), for the pages of a
    /// first-party app. A name that begins with `__Host-` keeps neighbouring subdomains from setting it.
    ///
    /// A cookie comes along whoever's page made the request. So one that may change something (any method but `GET`,
    /// `HEAD` and `OPTIONS`) or opens a WebSocket has to prove that it comes from our own pages: by
    /// `Sec-Fetch-Site: same-origin`, or from older browsers by an `Origin` that is ours, or one of
    /// [`allow_origin`](Self::allow_origin). Otherwise it is refused with 403, code `csrf`.
    ///
    /// A token in the header and another in the cookie are refused with 400, and so are two cookies with this name.
    pub fn cookie(self, name: impl Into<String>) -> Self {
        self.edit_entrance(|entrance| entrance.cookie = Some(name.into()))
    }

    /// Lets requests without a token through, without claims. One whose token does not hold is still refused: its
    /// sender believes to be signed in.
    pub fn optional(self) -> Self {
        self.edit(|inner| inner.presence = Presence::Optional)
    }

    /// Also demands this of the token.
    pub fn require(self, requirement: Requirement<C>) -> Self {
        self.edit(|inner| inner.requirements.push(requirement))
    }

    /// Also demands that the token is as `holds` says. The name is for logs: it is the code of the refusal.
    pub fn require_claim(
        self,
        name: &'static str,
        holds: impl Fn(&Verified<C>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.require(Requirement::claim(name, holds))
    }

    /// The realm that challenges name (RFC 9110 §11.5). Default: `api`. What a header can't carry is left out of it.
    pub fn realm(self, realm: impl Into<String>) -> Self {
        self.edit(|inner| inner.challenges.realm = realm.into())
    }

    /// Names the URL of the [`ResourceMetadata`](crate::ResourceMetadata) in challenges, so that a client finds the
    /// authorization server by itself (RFC 9728 §5.1).
    pub fn resource_metadata(self, url: impl Into<String>) -> Self {
        self.edit(|inner| inner.challenges.resource_metadata = Some(url.into()))
    }

    /// The URL under which clients know this service, as `https://api.example.com`, or with the path that a proxy or a
    /// nested router has taken off by the time the guard sees the request: `https://api.example.com/v1`.
    ///
    /// With it, tokens bound to a DPoP key are taken (RFC 9449), because a proof names the URL it was made for; and it is
    /// the origin of our own pages for [`cookie`](Self::cookie). It is configured and not read from `Host`, which the
    /// sender chooses: whoever was given a proof for their own server could use it here.
    ///
    /// # Errors
    /// [`InvalidUrl`]: no `https` or `http` URL, or one with a user, a query or a fragment
    pub fn external_url(self, url: &str) -> Result<Self, InvalidUrl> {
        let parsed = parse(url, "an https URL without user, query and fragment")?;
        let external = External {
            base: parsed.as_str().trim_end_matches('/').to_owned(),
            origin: parsed.origin().ascii_serialization(),
        };
        let algorithms = self.inner.entrance.verifier.dpop_algorithms().iter().map(|algorithm| algorithm.as_str());
        let algorithms = algorithms.collect::<Vec<_>>().join(" ");
        let guard = self.edit(|inner| inner.challenges.dpop_algs = Some(algorithms));
        Ok(guard.edit_entrance(|entrance| entrance.external = Some(external)))
    }

    /// Takes cookies from the pages of another origin too, as `https://app.example.com`. May be called several times.
    ///
    /// # Errors
    /// [`InvalidUrl`]: not an `https` or `http` origin
    pub fn allow_origin(self, origin: &str) -> Result<Self, InvalidUrl> {
        const EXPECTED: &str = "an https origin without a path";
        let parsed = parse(origin, EXPECTED)?;
        if parsed.path() != "/" {
            return Err(InvalidUrl::new(origin, EXPECTED));
        }
        Ok(self.edit_entrance(|entrance| entrance.allowed_origins.push(parsed.origin().ascii_serialization())))
    }

    /// This guard for tower and everything built on it, before a service that can be cloned. A layer that answers CORS
    /// preflights has to be further out: they come without a token.
    pub fn layer(&self) -> GuardLayer<C> {
        GuardLayer::new(self.clone())
    }

    /// Compares a token that was verified with the requirements: for a handler that demands more than its route did.
    ///
    /// # Errors
    /// A [`Refusal`] with the status 403
    pub fn permit(&self, token: &Verified<C>) -> Result<(), Refusal> {
        // RFC 9449 §7.1: a token bound to a key came with that scheme.
        let is_dpop = token.confirmation().is_some_and(|confirmation| confirmation.jkt().is_some());
        self.check_requirements(token, if is_dpop { Scheme::DPoP } else { Scheme::Bearer })
    }

    pub(super) fn missing_token(&self) -> Refusal {
        self.inner.challenges.missing_token()
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner<C>)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    fn edit_entrance(self, change: impl FnOnce(&mut Entrance)) -> Self {
        self.edit(|inner| change(Arc::make_mut(&mut inner.entrance)))
    }

    /// Steps 1 and 2.
    fn read<'r>(&self, parts: &'r Parts) -> Result<Option<Credential<'r>>, Refusal> {
        let Inner { entrance, challenges, .. } = &*self.inner;
        let Entrance { cookie, external, allowed_origins, .. } = &**entrance;
        let found = request::find(&parts.headers, cookie.as_deref());
        let Some(found) = found.map_err(|malformed: Malformed| challenges.malformed(malformed))? else {
            return Ok(None);
        };
        let own_origin = external.as_ref().map(|external| external.origin.as_str());
        if found.place == Place::Cookie
            && same_origin::needs_proof(parts)
            && !same_origin::has_proof(parts, own_origin, allowed_origins)
        {
            return Err(challenges.cross_site());
        }
        let proof = match external {
            Some(external) if found.scheme == Scheme::DPoP => {
                let line = only_line(&parts.headers, DPOP);
                let line = line.map_err(|SeveralLines| challenges.malformed_proof())?;
                let proof = line.map(|line| line.to_str()).transpose().map_err(|_| challenges.malformed_proof())?;
                proof.map(|proof| (proof, format!("{}{}", external.base, parts.uri.path())))
            }
            // Without a URL there is nothing a proof could be for, so a token that needs one is refused.
            _ => None,
        };
        Ok(Some(Credential {
            token: found.token,
            scheme: found.scheme,
            method: parts.method.as_str(),
            proof,
            peer_certificate_der: parts.extensions.get().map(PeerCertificate::der),
        }))
    }

    /// Step 4.
    fn decide(&self, scheme: Scheme, verdict: Result<Verified<C>, VerifyError>) -> Verdict<C> {
        let token = verdict.map_err(|error| self.inner.challenges.unverified(scheme, error))?;
        self.check_requirements(&token, scheme)?;
        Ok(Some(token))
    }

    fn check_requirements(&self, token: &Verified<C>, scheme: Scheme) -> Result<(), Refusal> {
        let Inner { requirements, challenges, .. } = &*self.inner;
        let mut unmet = requirements.iter().filter(|requirement| !requirement.is_met_by(token));
        let Some(first) = unmet.next() else { return Ok(()) };
        let mut missing = std::iter::once(first).chain(unmet).map(|requirement| requirement.missing(token));
        let first = missing.next().expect("the first was put there");
        // A missing scope is named before anything else, because a client can do something about it.
        let missing = if missing.any(|missing| missing == Missing::Scope) { Missing::Scope } else { first };
        // RFC 6750 §3: "the required scope of the access token for accessing the requested resource": all, not the rest.
        let mut scopes = Vec::new();
        requirements.iter().for_each(|requirement| requirement.scopes(&mut scopes));
        Err(challenges.insufficient(scheme, missing, &scopes))
    }
}

impl<C: Grants> Guard<C> {
    /// Also demands this scope, exactly (RFC 6749 §3.3). Called twice, it demands both.
    pub fn require_scope(self, scope: impl Into<String>) -> Self {
        self.require(Requirement::scope(scope))
    }

    /// Also demands this role of the user, exactly (RFC 9068 §2.2.3.1).
    pub fn require_role(self, role: impl Into<String>) -> Self {
        self.require(Requirement::role(role))
    }
}

impl<C: Claims> Guard<C> {
    /// Judges a request. Waits only where a key is missing and a fetch is under way that may bring it. `None` is a request
    /// without a token, where that is [`optional`](Self::optional).
    ///
    /// # Errors
    /// A [`Refusal`], to be sent as it is
    pub async fn authorize(&self, parts: &Parts) -> Result<Option<Verified<C>>, Refusal> {
        self.authorize_as(self.inner.presence, parts).await
    }

    /// Judges a request with the keys at hand, without waiting: for synchronous code. A token whose key is missing is
    /// refused, but has begun a fetch that may bring it.
    ///
    /// # Errors
    /// A [`Refusal`], to be sent as it is
    pub fn authorize_now(&self, parts: &Parts) -> Result<Option<Verified<C>>, Refusal> {
        let credential = match self.enter(self.inner.presence, parts) {
            ControlFlow::Continue(credential) => credential,
            ControlFlow::Break(verdict) => return verdict,
        };
        let verdict = self.inner.entrance.verifier.verify_presented_now(&credential.presented());
        self.decide(credential.scheme, verdict)
    }

    pub(super) async fn authorize_as(&self, presence: Presence, parts: &Parts) -> Verdict<C> {
        let credential = match self.enter(presence, parts) {
            ControlFlow::Continue(credential) => credential,
            ControlFlow::Break(verdict) => return verdict,
        };
        let verdict = self.inner.entrance.verifier.verify_presented(&credential.presented()).await;
        self.decide(credential.scheme, verdict)
    }

    /// What [`authorize`](Self::authorize) says, if it says so at once.
    pub(super) fn authorize_at_once(&self, parts: &Parts) -> Option<Verdict<C>> {
        let credential = match self.enter(self.inner.presence, parts) {
            ControlFlow::Continue(credential) => credential,
            ControlFlow::Break(verdict) => return Some(verdict),
        };
        let verdict = self.inner.entrance.verifier.verify_presented_at_once(&credential.presented())?;
        Some(self.decide(credential.scheme, verdict))
    }

    /// Puts what was accepted into the extensions. Whoever reads them believes this guard, so nothing from before stays.
    pub(super) fn admit(&self, token: Option<Verified<C>>, extensions: &mut Extensions) {
        extensions.remove::<Verified<C>>();
        extensions.remove::<Accepted<C>>();
        if let Some(token) = token {
            extensions.insert(Accepted { token: token.clone(), entrance: Arc::clone(&self.inner.entrance) });
            extensions.insert(token);
        }
    }

    /// Steps 1 and 2: what there is to verify, or the verdict where there is nothing.
    fn enter<'r>(&self, presence: Presence, parts: &'r Parts) -> ControlFlow<Verdict<C>, Credential<'r>> {
        if let Some(accepted) = parts.extensions.get::<Accepted<C>>()
            && Arc::ptr_eq(&accepted.entrance, &self.inner.entrance)
        {
            return ControlFlow::Break(self.permit(&accepted.token).map(|()| Some(accepted.token.clone())));
        }
        match (self.read(parts), presence) {
            (Ok(Some(credential)), _) => ControlFlow::Continue(credential),
            (Ok(None), Presence::Optional) => ControlFlow::Break(Ok(None)),
            (Ok(None), Presence::Required) => ControlFlow::Break(Err(self.missing_token())),
            (Err(refusal), _) => ControlFlow::Break(Err(refusal)),
        }
    }
}

impl Credential<'_> {
    fn presented(&self) -> Presented<'_> {
        let dpop = self.proof.as_ref().map(|(proof, url)| DpopRequest { proof, method: self.method, url });
        Presented { token: self.token, scheme: self.scheme, dpop, peer_certificate_der: self.peer_certificate_der }
    }
}

// Not derived: a guard can be cloned whatever its claims are.
impl<C> Clone for Guard<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C> Clone for Inner<C> {
    fn clone(&self) -> Self {
        Self {
            entrance: Arc::clone(&self.entrance),
            presence: self.presence,
            challenges: self.challenges.clone(),
            requirements: self.requirements.clone(),
        }
    }
}

impl<C> Clone for Accepted<C> {
    fn clone(&self) -> Self {
        Self { token: self.token.clone(), entrance: Arc::clone(&self.entrance) }
    }
}

impl<C> fmt::Debug for Guard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { entrance, presence, requirements, .. } = &*self.inner;
        f.debug_struct("Guard")
            .field("verifier", &entrance.verifier)
            .field("presence", presence)
            .field("cookie", &entrance.cookie)
            .field("requirements", requirements)
            .finish_non_exhaustive()
    }
}

fn parse(url: &str, expected: &'static str) -> Result<Url, InvalidUrl> {
    let refuse = || InvalidUrl::new(url, expected);
    let parsed = Url::parse(url).map_err(|_| refuse())?;
    let is_plain = matches!(parsed.scheme(), "https" | "http")
        && parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_plain { Ok(parsed) } else { Err(refuse()) }
}

/// A challenge has to have a parameter (RFC 6750 §3), and this one says nothing.
const DEFAULT_REALM: &str = "api";

const DPOP: HeaderName = HeaderName::from_static("dpop");
