//! What an issuer says about a token when asked (RFC 7662): for opaque tokens, which only it can read.
//!
//! The answer proves nothing by itself. Whoever calls this has got it from the issuer's introspection endpoint over a
//! connection it trusts. What a token has to be is the same as for one that can be read: [`IntrospectionAnswer::check`]
//! compares issuer, audience, time and confirmation by the same rules as [`crate::check`].

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::claims::{Registered, check_audience, check_dates, check_profile_types, claim_date, claim_text};
use crate::json::{Json, Object, text, with_object};
use crate::jwt::Held;
use crate::rejection::shown;
use crate::{Confirmation, Part, Policy, Rejection, Timestamp, Verified};

/// The body of an introspection response (RFC 7662 §2.2), read but not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionAnswer {
    json: Box<str>,
    active: bool,
    expires_at: Option<Timestamp>,
}

/// The claims of an opaque token that held when its issuer was asked about it. Only [`IntrospectionAnswer::check`] makes
/// one. Clones share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Introspected<C>(Arc<Held<C>>);

/// The body is no introspection response: nobody can say whether the token holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no introspection response")]
pub struct UnreadableAnswer(#[source] Rejection);

/// What an answer without `aud` means. RFC 7662 §2.2 makes it optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingAudience {
    /// Nobody knows whom the token is for, so it is refused.
    #[default]
    Refused,
    /// The issuer is believed to call a token active only to those it is for (RFC 7662 §4 lets it, but few do).
    InsecureAccepted,
}

impl IntrospectionAnswer {
    /// Reads a body: one JSON object without repeated names, with a boolean `active`.
    ///
    /// # Errors
    /// [`UnreadableAnswer`]: it is anything else
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableAnswer> {
        #[derive(Deserialize)]
        struct Activity {
            active: bool,
        }
        let json = text(Part::Payload, body).map_err(UnreadableAnswer)?;
        let expires_at = with_object(Part::Payload, json, |answer| match answer.get("active") {
            Some(Json::Bool) => Ok(claim_date(answer, "exp").ok().flatten()),
            None => Err(Rejection::MissingClaim { claim: "active" }),
            // RFC 7662 §2.2: "Boolean indicator". A reader that takes "false" for true lets everybody in.
            Some(other) => {
                Err(Rejection::MalformedClaim { claim: "active", expected: "a boolean", found: other.kind() })
            }
        })
        .map_err(UnreadableAnswer)?;
        let Activity { active } =
            serde_json::from_str(json).map_err(|_| UnreadableAnswer(Rejection::NotAnObject { part: Part::Payload }))?;
        Ok(Self { json: json.into(), active, expires_at })
    }

    /// Whether the issuer says that the token is active.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Its `exp`, if that can be read.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// How many bytes it takes.
    pub fn size_bytes(&self) -> usize {
        self.json.len()
    }

    /// Whether the token holds at the instant `now`. `holder` decides about what it is bound to, as in
    /// [`crate::check_bound`].
    ///
    /// `iss` may be missing, since the issuer itself was asked; where it is there, it has to be the policy's. `exp` is
    /// demanded, and `aud` unless `missing_audience` says otherwise. What else the policy's kind of token has may be missing
    /// too (RFC 7662 §2.2: all of it is "OPTIONAL"), but what is there has to be of its type. The policy's algorithms mean
    /// nothing.
    ///
    /// # Errors
    /// The first [`Rejection`] in the order: active, kind of token, issuer, audience, dates, types, confirmation, claims
    pub fn check<C: DeserializeOwned>(
        &self,
        policy: &Policy,
        missing_audience: MissingAudience,
        now: Timestamp,
        holder: impl FnOnce(Option<&Confirmation>) -> Result<(), Rejection>,
    ) -> Result<Introspected<C>, Rejection> {
        if !self.active {
            return Err(Rejection::Inactive);
        }
        let registered = with_object(Part::Payload, &self.json, |answer| {
            check_kind(answer)?;
            claim_text(answer, "username")?;
            let issuer = claim_text(answer, "iss")?;
            if let (Some(expected), Some(found)) = (policy.issuer(), issuer)
                && expected != found
            {
                return Err(Rejection::WrongIssuer { expected: shown(expected), found: shown(found) });
            }
            if answer.get("aud").is_some() || missing_audience == MissingAudience::Refused {
                check_audience(answer, policy)?;
            }
            let subject = claim_text(answer, "sub")?;
            let expires_at = check_dates(answer, policy, now)?;
            check_profile_types(answer, policy.token_type())?;
            let confirmation = Confirmation::read(answer)?;
            holder(confirmation.as_ref())?;
            Ok(Registered {
                expires_at,
                issuer: issuer.map(Into::into),
                subject: subject.map(Into::into),
                confirmation,
            })
        })?;
        let claims = serde_json::from_str(&self.json)
            .map_err(|error| Rejection::UnexpectedClaims { found: shown(&error.to_string()) })?;
        Ok(Introspected(Arc::new(Held { claims, header: None, registered })))
    }
}

/// An endpoint may know refresh tokens too (RFC 7662 §2.1), and calls them active. Where it says what a token is, it has
/// to be an access token: `token_type` by RFC 6749 §7.1 and RFC 9449 §5, `token_use` by custom.
fn check_kind(answer: &Object<'_>) -> Result<(), Rejection> {
    for (member, expected, accepted) in
        [("token_type", "Bearer or DPoP", ["bearer", "dpop"]), ("token_use", "access", ["access", "access_token"])]
    {
        if let Some(found) = claim_text(answer, member)?
            && !accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(found))
        {
            return Err(Rejection::WrongType { expected, found: shown(found) });
        }
    }
    Ok(())
}

impl<C> Introspected<C> {
    /// The claims, as the issuer told them.
    pub fn claims(&self) -> &C {
        &self.0.claims
    }

    /// The claims, given away.
    pub fn into_claims(self) -> C
    where
        C: Clone,
    {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.claims.clone(), |held| held.claims)
    }

    /// Its `iss`, if the answer has one; then it is the policy's.
    pub fn issuer(&self) -> Option<&str> {
        self.0.registered.issuer.as_deref()
    }

    /// Its `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.0.registered.subject.as_deref()
    }

    /// Its `exp`, a fraction rounded up.
    pub fn expires_at(&self) -> Timestamp {
        self.0.registered.expires_at
    }

    /// What it is bound to.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.0.registered.confirmation.as_ref()
    }
}

/// For those who take tokens of either kind: the issuer's word over a trusted connection stands for its signature.
impl<C> From<Introspected<C>> for Verified<C> {
    fn from(introspected: Introspected<C>) -> Self {
        Self(introspected.0)
    }
}

impl<C> Clone for Introspected<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Holder;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn policy() -> Policy {
        Policy::access_token("https://id.example.com", "https://api.example.com")
    }

    /// An answer that holds, with these members instead; null takes one away.
    fn answer(members: Value) -> IntrospectionAnswer {
        let mut answer = json!({
            "active": true, "iss": "https://id.example.com", "aud": "https://api.example.com", "sub": "alice",
            "exp": NOW.as_unix() + 60, "token_type": "Bearer",
        });
        for (name, value) in members.as_object().expect("members are an object") {
            answer[name] = value.clone();
        }
        answer.as_object_mut().expect("it is one").retain(|_, value| !value.is_null());
        IntrospectionAnswer::parse(answer.to_string().as_bytes()).expect("it can be read")
    }

    fn verdict(answer: &IntrospectionAnswer) -> &'static str {
        let unbound = |confirmation: Option<&Confirmation>| Holder::default().may_use(confirmation);
        match answer.check::<Value>(&policy(), MissingAudience::Refused, NOW, unbound) {
            Ok(_) => "accepted",
            Err(rejection) => rejection.code(),
        }
    }

    #[test]
    fn only_one_object_with_a_boolean_active_is_an_answer() {
        for body in [
            "",
            "null",
            "true",
            "[]",
            "{}",
            "not json",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"Active":true}"#,
            r#"{"active":true,"active":true}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"cnf":{"jkt":"a","jkt":"b"}}"#,
            r#"{"active":true}{"active":true}"#,
            "\u{feff}{\"active\":true}",
        ] {
            assert!(IntrospectionAnswer::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(IntrospectionAnswer::parse(b"{\"active\":true,\"sub\":\"\xff\"}").is_err());
        assert!(!IntrospectionAnswer::parse(br#"{"active":false}"#).expect("an answer").is_active());
    }

    #[test]
    fn an_answer_is_judged_like_a_token() {
        for (members, expected) in [
            (json!({}), "accepted"),
            (json!({"active": false}), "inactive"),
            (json!({"iss": null}), "accepted"),
            (json!({"iss": "https://id.example.com/"}), "wrong_issuer"),
            (json!({"iss": 1}), "malformed_claim"),
            (json!({"aud": null}), "missing_claim"),
            (json!({"aud": ["https://other.example", "https://api.example.com"]}), "accepted"),
            (json!({"aud": "https://other.example"}), "wrong_audience"),
            (json!({"aud": []}), "malformed_claim"),
            (json!({"aud": {"a": "https://api.example.com"}}), "malformed_claim"),
            (json!({"exp": null}), "missing_claim"),
            (json!({"exp": "never"}), "malformed_claim"),
            (json!({"exp": NOW.as_unix() - 29}), "accepted"),
            (json!({"exp": NOW.as_unix() - 30}), "expired"),
            (json!({"nbf": NOW.as_unix() + 30}), "accepted"),
            (json!({"nbf": NOW.as_unix() + 31}), "not_yet_valid"),
            (json!({"token_type": null}), "accepted"),
            (json!({"token_type": "dpop"}), "accepted"),
            (json!({"token_type": "Refresh"}), "wrong_type"),
            (json!({"token_type": "refresh_token"}), "wrong_type"),
            (json!({"token_type": true}), "malformed_claim"),
            (json!({"token_use": "access_token"}), "accepted"),
            (json!({"token_use": "refresh_token"}), "wrong_type"),
            (json!({"scope": ["a"]}), "malformed_claim"),
            (json!({"sub": null}), "accepted"),
            (json!({"roles": ["admin"], "sid": "s", "acr": "1", "amr": []}), "accepted"),
            (json!({"roles": "admin"}), "malformed_claim"),
            (json!({"sid": 1}), "malformed_claim"),
            (json!({"amr": [1]}), "malformed_claim"),
            (json!({"cnf": {"jkt": KEY}}), "sender_constrained"),
            (json!({"cnf": {"x5t#S256": KEY}}), "sender_constrained"),
            (json!({"cnf": {}}), "unsupported_confirmation"),
        ] {
            assert_eq!(verdict(&answer(members.clone())), expected, "{members}");
        }
    }

    #[test]
    fn a_bound_token_is_its_holders() {
        let answer = answer(json!({"cnf": {"jkt": KEY}}));
        let holder = Holder { jkt: Some(KEY), x5t_s256: None };

        let held = answer.check::<Value>(&policy(), MissingAudience::Refused, NOW, |bound| holder.may_use(bound));

        let held = held.expect("the holder proved the key");
        assert_eq!(held.confirmation().and_then(Confirmation::jkt), Some(KEY));
        assert_eq!((held.subject(), held.issuer()), (Some("alice"), Some("https://id.example.com")));
        assert_eq!(held.expires_at(), NOW + std::time::Duration::from_secs(60));
        assert_eq!(held.clone().into_claims()["sub"], "alice");
    }

    #[test]
    fn an_audience_may_be_missing_but_not_wrong_where_that_is_accepted() {
        let check =
            |members| answer(members).check::<Value>(&policy(), MissingAudience::InsecureAccepted, NOW, |_| Ok(()));
        assert!(check(json!({"aud": null})).is_ok());
        assert_eq!(check(json!({"aud": "https://other.example"})).map_err(|error| error.code()), Err("wrong_audience"));
    }

    #[test]
    fn claims_that_do_not_fit_are_refused() {
        #[derive(Debug, Deserialize)]
        struct Tenant {
            #[expect(dead_code, reason = "it is only read into")]
            tenant: String,
        }
        let refused = answer(json!({})).check::<Tenant>(&policy(), MissingAudience::Refused, NOW, |_| Ok(()));
        assert_eq!(refused.map(drop).map_err(|rejection| rejection.code()), Err("unexpected_claims"));
    }
}
