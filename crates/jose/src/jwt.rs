//! From a string to a verified token (RFC 7515 §5.2, RFC 7519 §7.2), and the ways to look at one that is not verified.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::base64url;
use crate::claims::{Registered, check_claims, read_issuer};
use crate::json::{Json, Object, text, with_object};
use crate::jwk::MAX_KID_BYTES;
use crate::rejection::shown;
use crate::verifying_key::VerifyingKey;
use crate::{Algorithm, Confirmation, Holder, KeySet, Part, Policy, Rejection, Timestamp, TokenType};

/// The claims of a token that held when it was checked. Only [`check`] and [`check_bound`] make one. Clones share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified<C>(pub(crate) Arc<Held<C>>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held<C> {
    pub(crate) claims: C,
    /// `None` for a token that its issuer was asked about.
    pub(crate) header: Option<Arc<Header>>,
    pub(crate) registered: Registered,
}

/// The payload of a JWS whose signature is valid. Only [`check_signature`] makes one. It may be anything, and of any age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPayload {
    payload: Vec<u8>,
    header: Arc<Header>,
}

/// A token in the right shape with an acceptable header. Nothing in it has been proved.
#[derive(Clone, Debug)]
pub struct UnverifiedJwt<'t> {
    header: Arc<Header>,
    body: Body<'t>,
}

/// A compact JWS taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'t> {
    token: &'t str,
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
}

/// What follows the header, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Body<'t> {
    /// Header and payload as they stand in the token: what the signature is over.
    pub(crate) signing_input: &'t str,
    /// The payload, and after it the signature.
    octets: Vec<u8>,
    payload_length: usize,
}

/// What the header of a token says, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
}

/// A token taken apart and nothing more, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedParts {
    /// The header's JSON, whatever it says.
    pub header_json: String,
    /// The payload's bytes.
    pub payload: Vec<u8>,
}

/// Checks a token at the instant `now`. A token that is bound to its holder is refused: no proof comes with it here.
///
/// # Errors
/// The first [`Rejection`] in the order of the steps: size, shape, header, key, signature, claims
pub fn check<C: DeserializeOwned>(
    token: &str,
    keys: &KeySet,
    policy: &Policy,
    now: Timestamp,
) -> Result<Verified<C>, Rejection> {
    check_bound(token, keys, policy, now, |confirmation| Holder::default().may_use(confirmation))
}

/// Like [`check`], but `holder` decides whether whoever presents the token may use it, mostly by [`Holder::may_use`].
/// It is asked last, about a token that holds in the right hands, and gets `None` when the token is bound to nothing.
///
/// # Errors
/// As for [`check`], and whatever `holder` refuses with
pub fn check_bound<C: DeserializeOwned>(
    token: &str,
    keys: &KeySet,
    policy: &Policy,
    now: Timestamp,
    holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
) -> Result<Verified<C>, Rejection> {
    let parts = Parts::split_jwt(token, policy.max_token_bytes())?;
    let known = keys.known_header(parts.header);
    let jwt = match known {
        Some(known) => UnverifiedJwt { header: Arc::clone(&known.header), body: parts.decode_body()? },
        None => parts.read()?,
    };
    check_header(&jwt.header, policy)?;
    match known {
        Some(known) => check_signature_by(&known.key, &jwt.body)?,
        None => {
            let key = keys.choose(jwt.kid(), jwt.algorithm())?;
            check_signature_by(key, &jwt.body)?;
            keys.remember_header(parts.header, &jwt.header, key);
        }
    }
    let payload = text(Part::Payload, jwt.body.payload())?;
    let (registered, claims) = check_claims(payload, policy, now, holder, |claims| match claims.read_plain() {
        Some(claims) => Ok(claims),
        None => serde_json::from_str(payload)
            .map_err(|error| Rejection::UnexpectedClaims { found: shown(&error.to_string()) }),
    })?;
    Ok(Verified(Arc::new(Held { claims, header: Some(jwt.header), registered })))
}

/// Checks a JWS alone: shape, header, key and signature. The payload may be anything, empty too; `typ` and claims are
/// not looked at, so this says who signed, not that a token holds.
///
/// # Errors
/// The first [`Rejection`] in the order of the steps; an input over 1 MiB is too large
pub fn check_signature(token: &str, keys: &KeySet, algorithms: &[Algorithm]) -> Result<VerifiedPayload, Rejection> {
    let jws = Parts::split(token, MAX_JWS_BYTES)?.read()?;
    check_algorithm(jws.algorithm(), algorithms)?;
    check_signature_by(keys.choose(jws.kid(), jws.algorithm())?, &jws.body)?;
    Ok(VerifiedPayload { payload: jws.body.into_payload(), header: jws.header })
}

/// Takes a token apart and verifies **nothing**: neither signature nor header nor time. For people who debug.
///
/// # Errors
/// A [`Rejection`] about size (over 1 MiB) and shape only
pub fn decode_unverified(token: &str) -> Result<UnverifiedParts, Rejection> {
    let [header, payload, signature] = split(token, MAX_JWS_BYTES)?;
    decode(Part::Signature, signature)?;
    let header_json =
        String::from_utf8(decode(Part::Header, header)?).map_err(|_| Rejection::NotAnObject { part: Part::Header })?;
    Ok(UnverifiedParts { header_json, payload: decode(Part::Payload, payload)? })
}

impl<'t> UnverifiedJwt<'t> {
    /// Reads a token's shape and header.
    ///
    /// # Errors
    /// A [`Rejection`] about size, shape or header
    pub fn parse(token: &'t str, max_bytes: usize) -> Result<Self, Rejection> {
        Parts::split_jwt(token, max_bytes)?.read()
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The id of the key that is said to have signed it.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid()
    }

    /// The algorithm it is said to be signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm()
    }

    /// The `iss` it claims, to choose the issuer whose keys and policy it is then checked with.
    ///
    /// # Errors
    /// A [`Rejection`] about the payload or its `iss`: there has to be one, and it has to be a string
    pub fn issuer(&self) -> Result<String, Rejection> {
        read_issuer(text(Part::Payload, self.body.payload())?)
    }

    /// Whether the token would hold if its signature did: everything [`check`] does but key and signature. A token
    /// that is not even plausible is not worth fetching keys for.
    ///
    /// # Errors
    /// A [`Rejection`] about header or claims
    pub fn plausible(&self, policy: &Policy, now: Timestamp) -> Result<(), Rejection> {
        self.plausible_bound(policy, now, |confirmation| Holder::default().may_use(confirmation))
    }

    /// The same for [`check_bound`]. The signature is not checked yet, so `holder` must not count this as a use.
    ///
    /// # Errors
    /// As for [`UnverifiedJwt::plausible`], and whatever `holder` refuses with
    pub fn plausible_bound(
        &self,
        policy: &Policy,
        now: Timestamp,
        holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        check_header(&self.header, policy)?;
        check_claims(text(Part::Payload, self.body.payload())?, policy, now, holder, |_| Ok(()))?;
        Ok(())
    }

    /// The payload's octets.
    pub(crate) fn payload(&self) -> &[u8] {
        self.body.payload()
    }
}

impl Header {
    /// `alg`.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// `typ`.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }
}

impl<C> Verified<C> {
    /// The claims.
    pub fn claims(&self) -> &C {
        &self.0.claims
    }

    /// The claims, given away; copied if there are clones.
    pub fn into_claims(self) -> C
    where
        C: Clone,
    {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.claims.clone(), |held| held.claims)
    }

    /// The id of the key that signed it, if the token names one.
    pub fn kid(&self) -> Option<&str> {
        self.0.header.as_ref()?.kid()
    }

    /// The algorithm it is signed with; `None` for an opaque token, which its issuer vouched for when asked.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.0.header.as_ref().map(|header| header.algorithm())
    }

    /// Its `exp`, a fraction rounded up.
    pub fn expires_at(&self) -> Timestamp {
        self.0.registered.expires_at
    }

    /// Its `iss`; always there unless the policy accepts any issuer.
    pub fn issuer(&self) -> Option<&str> {
        self.0.registered.issuer.as_deref()
    }

    /// Its `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.0.registered.subject.as_deref()
    }

    /// What it is bound to, and so what its holder has proved.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.0.registered.confirmation.as_ref()
    }
}

impl<C> Clone for Verified<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl VerifiedPayload {
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, given away.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// The id of the key that signed it, if the header names one.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid()
    }

    /// The `typ` of the header.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ()
    }

    /// The algorithm it is signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm()
    }
}

/// Step 1 of [`check`].
impl<'t> Parts<'t> {
    pub(crate) fn split(token: &'t str, max_bytes: usize) -> Result<Self, Rejection> {
        let [header, payload, signature] = split(token, max_bytes)?;
        if signature.is_empty() {
            return Err(Rejection::EmptyPart { part: Part::Signature });
        }
        Ok(Self { token, header, payload, signature })
    }

    /// The same for a JWT, which has claims.
    fn split_jwt(token: &'t str, max_bytes: usize) -> Result<Self, Rejection> {
        let parts = Self::split(token, max_bytes)?;
        if parts.payload.is_empty() {
            return Err(Rejection::EmptyPart { part: Part::Payload });
        }
        Ok(parts)
    }

    /// The header's octets, and the rest.
    pub(crate) fn decode(self) -> Result<(Vec<u8>, Body<'t>), Rejection> {
        Ok((decode(Part::Header, self.header)?, self.decode_body()?))
    }

    fn decode_body(self) -> Result<Body<'t>, Rejection> {
        let mut octets = Vec::with_capacity(self.payload.len() + self.signature.len());
        decode_into(&mut octets, Part::Payload, self.payload)?;
        let payload_length = octets.len();
        decode_into(&mut octets, Part::Signature, self.signature)?;
        let signing_input = &self.token[..self.header.len() + 1 + self.payload.len()];
        Ok(Body { signing_input, octets, payload_length })
    }

    fn read(self) -> Result<UnverifiedJwt<'t>, Rejection> {
        let (header, body) = self.decode()?;
        let header = with_object(Part::Header, text(Part::Header, &header)?, read_header)?;
        Ok(UnverifiedJwt { header: Arc::new(header), body })
    }
}

impl Body<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.octets[..self.payload_length]
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.octets[self.payload_length..]
    }

    fn into_payload(mut self) -> Vec<u8> {
        self.octets.truncate(self.payload_length);
        self.octets
    }
}

/// Size and shape. Only the header has to have content here.
fn split(token: &str, max_bytes: usize) -> Result<[&str; 3], Rejection> {
    if token.len() > max_bytes {
        return Err(Rejection::TokenTooLarge { limit_bytes: max_bytes, found_bytes: token.len() });
    }
    if token.trim_start().starts_with('{') {
        return Err(Rejection::JsonSerialization);
    }
    let parts = token.split_once('.').and_then(|(header, rest)| Some((header, rest.split_once('.')?)));
    let Some((header, (payload, signature))) = parts.filter(|(_, (_, signature))| !signature.contains('.')) else {
        return Err(match token.split('.').count() {
            5 => Rejection::EncryptedToken,
            found => Rejection::WrongPartCount { found },
        });
    };
    if header.is_empty() {
        return Err(Rejection::EmptyPart { part: Part::Header });
    }
    Ok([header, payload, signature])
}

/// RFC 7515 §2: base64url "with all trailing '=' characters omitted … and without the inclusion of any line breaks,
/// whitespace, or other additional characters". Bits after the last octet have to be zero, so that a token has one
/// spelling only.
fn decode(part: Part, text: &str) -> Result<Vec<u8>, Rejection> {
    let mut octets = Vec::with_capacity(text.len());
    decode_into(&mut octets, part, text)?;
    Ok(octets)
}

fn decode_into(octets: &mut Vec<u8>, part: Part, text: &str) -> Result<(), Rejection> {
    base64url::decode_into(octets, text).ok_or(Rejection::NotBase64Url { part })
}

/// Step 2 of [`check`], the part that no policy changes. `jwk jku x5u x5c` and members nobody knows are not looked at:
/// a token can't bring its own key.
pub(crate) fn read_header(header: &Object<'_>) -> Result<Header, Rejection> {
    // RFC 7515 §4.1.11: "If any of the listed extension Header Parameters are not understood and supported by the
    // recipient, then the JWS is invalid", and an empty or wrongly typed list is invalid too.
    if header.get("crit").is_some() {
        return Err(Rejection::CriticalHeader);
    }
    // RFC 7797 §7 keeps `b64` out of JWTs; `enc` and `zip` belong to encryption.
    if let Some(member) = ["b64", "enc", "zip"].into_iter().find(|member| header.get(member).is_some()) {
        return Err(Rejection::ForbiddenHeader { member });
    }
    if header_text(header, "cty")?.is_some_and(|cty| is_media_type(cty, "JWT")) {
        return Err(Rejection::NestedToken);
    }
    let alg = header_text(header, "alg")?.ok_or(Rejection::MalformedHeader {
        member: "alg",
        expected: "a string",
        found: "nothing",
    })?;
    let kid = header_text(header, "kid")?;
    if kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(Rejection::MalformedHeader {
            member: "kid",
            expected: "at most 256 bytes long",
            found: "a longer string",
        });
    }
    let typ = header_text(header, "typ")?;
    let algorithm = Algorithm::from_alg(alg).ok_or_else(|| Rejection::UnsupportedAlgorithm { found: shown(alg) })?;
    Ok(Header { algorithm, kid: kid.map(str::to_owned), typ: typ.map(str::to_owned) })
}

fn header_text<'j>(header: &'j Object<'_>, member: &'static str) -> Result<Option<&'j str>, Rejection> {
    match header.get(member) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(Rejection::MalformedHeader { member, expected: "a string", found: other.kind() }),
    }
}

/// RFC 7515 §4.1.9: media types are compared without case, and `application/` may be left out.
pub(crate) fn is_media_type(found: &str, expected: &str) -> bool {
    const PREFIX: &str = "application/";
    let short = match found.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &found[PREFIX.len()..],
        _ => found,
    };
    short.eq_ignore_ascii_case(expected)
}

/// Step 2 of [`check`], the part that the policy decides.
fn check_header(header: &Header, policy: &Policy) -> Result<(), Rejection> {
    check_algorithm(header.algorithm, policy.algorithms())?;
    let typ = header.typ.as_deref();
    let accepted = match policy.token_type() {
        // RFC 9068 §4: "The resource server MUST verify that the 'typ' header value is 'at+jwt' or
        // 'application/at+jwt' and reject tokens carrying any other value."
        TokenType::AccessToken => typ.is_some_and(|typ| is_media_type(typ, "at+jwt")),
        TokenType::IdToken => typ.is_none_or(|typ| is_media_type(typ, "JWT")),
        TokenType::Any => true,
    };
    let expected = policy.token_type().expected_typ();
    if accepted { Ok(()) } else { Err(Rejection::WrongType { expected, found: typ.map_or("none".into(), shown) }) }
}

pub(crate) fn check_algorithm(found: Algorithm, allowed: &[Algorithm]) -> Result<(), Rejection> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let names: Vec<_> = allowed.iter().map(|algorithm| algorithm.as_str()).collect();
    Err(Rejection::AlgorithmNotAllowed { expected: names.join(" "), found })
}

/// Step 4 of [`check`].
fn check_signature_by(key: &VerifyingKey, body: &Body<'_>) -> Result<(), Rejection> {
    if key.signed(body.signing_input.as_bytes(), body.signature()) { Ok(()) } else { Err(Rejection::BadSignature) }
}

/// A bound for [`check_signature`] and [`decode_unverified`], which no policy gives one.
const MAX_JWS_BYTES: usize = 1 << 20;
