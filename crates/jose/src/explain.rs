//! Every check of a token with what it expects and what it finds: for people who ask why one was refused.
//!
//! The verdict is [`check_bound`]'s own. This module only says which check a rejection belongs to, so that those before it
//! have passed and those after it were not reached; it decides nothing. Nothing in it repeats a token or its signature.

use std::cell::Cell;
use std::fmt;

use serde::de::DeserializeOwned;

use crate::claims::{claim_date, claim_text};
use crate::json::{Json, Object, with_object};
use crate::rejection::shown;
use crate::{Confirmation, Holder, KeySet, Part, Policy, Rejection, Timestamp, TokenType, UnverifiedJwt, check_bound};

/// One check of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explained {
    /// What is checked.
    pub step: Step,
    /// What the token has to be, in words.
    pub expected: String,
    /// What it is, escaped and cut; empty if the check was not reached.
    pub found: String,
    /// How the check went.
    pub outcome: Outcome,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token is as expected.
    Passed,
    /// It is not, and this is the verdict.
    Failed(Rejection),
    /// A check before it has failed.
    NotReached,
}

/// The checks of a token, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The length of the token.
    Size,
    /// Three parts in canonical base64url.
    Shape,
    /// A header that asks for nothing more than a plain signature.
    Header,
    /// An algorithm the policy allows.
    Algorithm,
    /// The kind of token.
    Type,
    /// A key to check it with.
    Key,
    /// The signature.
    Signature,
    /// Claims that are one JSON object.
    Claims,
    /// The issuer.
    Issuer,
    /// The audience, and for ID tokens the authorized party.
    Audience,
    /// The subject.
    Subject,
    /// The dates are there and are dates.
    Dates,
    /// It has not ended.
    Expiry,
    /// It has begun.
    NotBefore,
    /// What else its kind of token has: RFC 9068 §2.2 for access tokens, OpenID Connect Core §2 for ID tokens.
    Profile,
    /// Whoever presents it may use it.
    Holder,
    /// The claims fit the type they are read into.
    Members,
}

/// Explains [`check`](crate::check) of a bearer token: one entry for each [`Step`], in order. It holds if all have passed.
pub fn explain<C: DeserializeOwned>(token: &str, keys: &KeySet, policy: &Policy, now: Timestamp) -> Vec<Explained> {
    explain_bound::<C>(token, keys, policy, now, |confirmation| Holder::default().may_use(confirmation))
}

/// Explains [`check_bound`] likewise.
pub fn explain_bound<C: DeserializeOwned>(
    token: &str,
    keys: &KeySet,
    policy: &Policy,
    now: Timestamp,
    holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
) -> Vec<Explained> {
    // A holder may refuse for reasons that look like another check's.
    let refused_by_holder = Cell::new(false);
    let holder =
        |confirmation: Option<&Confirmation>| holder(confirmation).inspect_err(|_| refused_by_holder.set(true));
    let rejection = check_bound::<C>(token, keys, policy, now, holder).err();
    let failed = rejection.as_ref().map(|rejection| match refused_by_holder.get() {
        true => Step::Holder,
        false => Step::of(rejection),
    });

    let facts = Facts::read(token, policy);
    Step::ALL
        .into_iter()
        .map(|step| {
            let (found, outcome) = match (failed, &rejection) {
                (Some(failed), Some(rejection)) if failed == step => {
                    (rejection.to_string(), Outcome::Failed(rejection.clone()))
                }
                (Some(failed), _) if failed < step => (String::new(), Outcome::NotReached),
                _ => (facts.found(step), Outcome::Passed),
            };
            Explained { step, expected: expected(step, policy, now), found, outcome }
        })
        .collect()
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 17] = [
        Self::Size,
        Self::Shape,
        Self::Header,
        Self::Algorithm,
        Self::Type,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Issuer,
        Self::Audience,
        Self::Subject,
        Self::Dates,
        Self::Expiry,
        Self::NotBefore,
        Self::Profile,
        Self::Holder,
        Self::Members,
    ];

    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::Dates => "dates",
            Self::Expiry => "expiry",
            Self::NotBefore => "not_before",
            Self::Profile => "profile",
            Self::Holder => "holder",
            Self::Members => "members",
        }
    }

    /// The step a rejection is the failure of.
    fn of(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::TokenTooLarge { .. } => Self::Size,
            Rejection::JsonSerialization
            | Rejection::EncryptedToken
            | Rejection::WrongPartCount { .. }
            | Rejection::EmptyPart { .. }
            | Rejection::NotBase64Url { .. }
            | Rejection::MalformedToken => Self::Shape,
            Rejection::NotAnObject { part } | Rejection::RepeatedMember { part, .. } => match part {
                Part::Header => Self::Header,
                Part::Payload | Part::Signature => Self::Claims,
            },
            Rejection::MalformedHeader { .. }
            | Rejection::CriticalHeader
            | Rejection::ForbiddenHeader { .. }
            | Rejection::NestedToken => Self::Header,
            Rejection::UnsupportedAlgorithm { .. } | Rejection::AlgorithmNotAllowed { .. } => Self::Algorithm,
            Rejection::WrongType { .. } => Self::Type,
            Rejection::UnknownKid { .. }
            | Rejection::NoKey { .. }
            | Rejection::AmbiguousKey { .. }
            | Rejection::UnsuitableKey { .. } => Self::Key,
            Rejection::BadSignature => Self::Signature,
            Rejection::MissingClaim { claim } | Rejection::MalformedClaim { claim, .. } => match *claim {
                "iss" => Self::Issuer,
                "aud" | "azp" => Self::Audience,
                "sub" => Self::Subject,
                "exp" | "nbf" | "iat" | "auth_time" => Self::Dates,
                _ => Self::Profile,
            },
            Rejection::Inactive => Self::Claims,
            Rejection::WrongIssuer { .. } => Self::Issuer,
            Rejection::WrongAudience { .. } | Rejection::WrongAuthorizedParty { .. } => Self::Audience,
            Rejection::Expired { .. } => Self::Expiry,
            Rejection::NotYetValid { .. } => Self::NotBefore,
            Rejection::UnsupportedConfirmation { .. }
            | Rejection::SenderConstrained
            | Rejection::ProofMismatch { .. }
            | Rejection::NotBound => Self::Holder,
            Rejection::UnexpectedClaims { .. } => Self::Members,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the policy expects of a step.
fn expected(step: Step, policy: &Policy, now: Timestamp) -> String {
    let leeway = policy.leeway().as_secs();
    match step {
        Step::Size => format!("at most {} bytes", policy.max_token_bytes()),
        Step::Shape => "three parts in canonical base64url, none empty".into(),
        Step::Header => "one JSON object without repeated names, crit, b64, enc and zip".into(),
        Step::Algorithm => {
            let names: Vec<_> = policy.algorithms().iter().map(|algorithm| algorithm.as_str()).collect();
            format!("one of {}", names.join(" "))
        }
        Step::Type => policy.token_type().expected_typ().into(),
        Step::Key => "exactly one key that the token's kid names and that is for its algorithm".into(),
        Step::Signature => "the key's, over header and payload".into(),
        Step::Claims => "one JSON object without repeated names".into(),
        Step::Issuer => policy.issuer().map_or("any".into(), shown),
        Step::Audience => policy.audiences_shown(),
        Step::Subject if policy.token_type() == TokenType::Any => "a string or none".into(),
        Step::Subject => "a string".into(),
        Step::Dates if policy.token_type() == TokenType::Any => {
            "exp, and what else there is, between 1970 and the year 9999".into()
        }
        Step::Dates => "exp and iat, and what else there is, between 1970 and the year 9999".into(),
        Step::Expiry => format!("an end after {now} (leeway {leeway} s)"),
        Step::NotBefore => format!("a beginning until {now} (leeway {leeway} s)"),
        Step::Profile => match policy.token_type() {
            TokenType::AccessToken => {
                "client_id and jti; these, scope, sid and acr strings, amr and roles arrays of strings".into()
            }
            TokenType::IdToken => {
                "client_id, jti, scope, sid, acr, nonce and at_hash strings or none, amr an array of strings or none"
                    .into()
            }
            TokenType::Any => "client_id, jti and scope strings or none".into(),
        },
        Step::Holder => "bound to nothing, or to keys that were proved".into(),
        Step::Members => "the members of the type the claims are read into".into(),
    }
}

/// What a token says, for the steps it has passed. Where it can't be read nothing was passed that would show it.
#[derive(Clone, Default)]
struct Facts {
    size: String,
    algorithm: String,
    typ: String,
    key: String,
    issuer: String,
    audience: String,
    subject: String,
    dates: String,
    expiry: String,
    not_before: String,
    profile: String,
    holder: String,
}

impl Facts {
    fn read(token: &str, policy: &Policy) -> Self {
        let facts = Self { size: format!("{} bytes", token.len()), ..Self::default() };
        let Ok(jwt) = UnverifiedJwt::parse(token, policy.max_token_bytes()) else { return facts };
        let facts = Self {
            algorithm: jwt.algorithm().to_string(),
            typ: jwt.header().typ().map_or("none".into(), shown),
            key: jwt.kid().map_or("no kid, and one such key".into(), shown),
            ..facts
        };
        let Ok(payload) = str::from_utf8(jwt.payload()) else { return facts };
        with_object(Part::Payload, payload, |claims| Ok::<_, Rejection>(facts.clone().with(claims))).unwrap_or(facts)
    }

    fn with(self, claims: &Object<'_>) -> Self {
        let claimed = |claim| claim_text(claims, claim).ok().flatten().map_or("none".into(), shown);
        let date = |claim| claim_date(claims, claim).ok().flatten();
        let dates: Vec<_> = ["exp", "nbf", "iat", "auth_time"]
            .into_iter()
            .filter_map(|claim| date(claim).map(|date| format!("{claim} {date}")))
            .collect();
        let audience = match claims.get("aud") {
            Some(Json::String(audience)) => shown(audience),
            Some(Json::Array(audiences)) => {
                let names = audiences
                    .iter()
                    .filter_map(|name| if let Json::String(name) = name { Some(&**name) } else { None });
                shown(&names.collect::<Vec<_>>().join(" "))
            }
            _ => "none".into(),
        };
        let members: Vec<_> = PROFILE.into_iter().filter(|claim| claims.get(claim).is_some()).collect();
        let holder = match Confirmation::read(claims) {
            Ok(Some(confirmation)) => match (confirmation.jkt(), confirmation.x5t_s256()) {
                (Some(_), Some(_)) => "bound to a DPoP key and a certificate",
                (Some(_), None) => "bound to a DPoP key",
                _ => "bound to a certificate",
            },
            _ => "bound to nothing",
        };
        Self {
            issuer: claimed("iss"),
            audience,
            // Who it is about is the user's own business.
            subject: if claims.get("sub").is_some() { "a string" } else { "none" }.into(),
            dates: dates.join(", "),
            expiry: date("exp").map_or("none".into(), |end| end.to_string()),
            not_before: date("nbf").map_or("none".into(), |beginning| beginning.to_string()),
            profile: if members.is_empty() { "none of them".into() } else { members.join(", ") },
            holder: holder.into(),
            ..self
        }
    }

    fn found(&self, step: Step) -> String {
        let found = match step {
            Step::Size => &self.size,
            Step::Algorithm => &self.algorithm,
            Step::Type => &self.typ,
            Step::Key => &self.key,
            Step::Issuer => &self.issuer,
            Step::Audience => &self.audience,
            Step::Subject => &self.subject,
            Step::Dates => &self.dates,
            Step::Expiry => &self.expiry,
            Step::NotBefore => &self.not_before,
            Step::Profile => &self.profile,
            Step::Holder => &self.holder,
            Step::Shape | Step::Header | Step::Signature | Step::Claims | Step::Members => "as expected",
        };
        found.to_owned()
    }
}

/// What [`Step::Profile`] looks at, for any kind of token.
const PROFILE: [&str; 9] = ["client_id", "jti", "scope", "sid", "acr", "amr", "roles", "nonce", "at_hash"];
