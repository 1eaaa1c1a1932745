//! What happens to a request that is in order: pure, so that every combination can be tested.
//!
//! 1. Somebody has to be signed in, recently enough and as the right person (OpenID Connect Core §3.1.2.3).
//! 2. They have to agree to what is new to them (§3.1.2.4).
//! 3. Where nothing may be shown, what would have to be is an error (§3.1.2.6).

use keywheel_jose::Timestamp;

use super::request::AuthorizationRequest;
use super::response::AuthorizeError;

/// Who is at the browser, as far as the decision needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedIn<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) auth_time: Timestamp,
    pub(crate) acr: &'a str,
}

/// What has happened to this very request before it came back: the browser carries it, with a tag that only we can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// When the person was asked to sign in for it.
    pub(crate) login_asked_at: Option<Timestamp>,
    /// When the person was asked to choose an account for it.
    pub(crate) account_chosen: bool,
    /// Whether the person has agreed to it.
    pub(crate) consented: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Have somebody sign in.
    Login,
    /// Have the person say which account is meant.
    SelectAccount,
    /// Have the person agree to these scopes.
    Consent,
    /// Answer with a code.
    Issue,
    /// Answer with an error.
    Refuse(AuthorizeError),
}

/// Decides. `hinted` is the subject of a proven `id_token_hint`; `agreed` are the scopes the person has agreed to before.
pub(crate) fn decide(
    request: &AuthorizationRequest,
    signed_in: Option<SignedIn<'_>>,
    hinted: Option<&str>,
    agreed: &[String],
    progress: Progress,
    now: Timestamp,
) -> Decision {
    let shown = needed(request, signed_in, hinted, agreed, progress, now);
    match shown {
        Decision::Login if request.prompt.none => Decision::Refuse(AuthorizeError::LoginRequired),
        Decision::SelectAccount if request.prompt.none => Decision::Refuse(AuthorizeError::AccountSelectionRequired),
        Decision::Consent if request.prompt.none => Decision::Refuse(AuthorizeError::ConsentRequired),
        decided => decided,
    }
}

fn needed(
    request: &AuthorizationRequest,
    signed_in: Option<SignedIn<'_>>,
    hinted: Option<&str>,
    agreed: &[String],
    progress: Progress,
    now: Timestamp,
) -> Decision {
    let prompt = request.prompt;
    let Some(person) = signed_in else { return Decision::Login };
    // A sign-in that was made for this request is as fresh as the request can ask for.
    let was_made_for_it = progress.login_asked_at.is_some_and(|asked_at| person.auth_time >= asked_at);
    if prompt.login && !was_made_for_it {
        return Decision::Login;
    }
    // The clock counts seconds, so a maximum of nothing would be met for the rest of the second of a sign-in.
    let is_too_old = request.max_age.is_some_and(|it| it.is_zero() || now > person.auth_time + it);
    if is_too_old && !was_made_for_it {
        return Decision::Login;
    }
    let wanted = request.claims.as_ref().and_then(super::claims_request::ClaimsRequest::subject).or(hinted);
    if wanted.is_some_and(|wanted| wanted != person.user_id) {
        // §3.1.2.1: "If the End-User identified by the ID Token is logged in [...] Otherwise, it SHOULD return an error".
        // Somebody who has signed in for it as another person will not become the right one by being asked again.
        return if was_made_for_it { Decision::Refuse(AuthorizeError::LoginRequired) } else { Decision::Login };
    }
    let classes = request.claims.as_ref().map_or(Vec::new(), |claims| claims.essential_acr());
    if !classes.is_empty() && !classes.contains(&person.acr) {
        return Decision::Refuse(AuthorizeError::UnmetAuthenticationRequirements);
    }
    if prompt.select_account && !progress.account_chosen && !was_made_for_it {
        return Decision::SelectAccount;
    }
    if progress.consented {
        return Decision::Issue;
    }
    let is_new = !request.scopes.iter().all(|scope| agreed.contains(scope));
    // OpenID Connect Core §11: offline access needs consent, unless "other conditions for processing the request permitting
    // offline access [...] are in place": here, that the client is the operator's own.
    let asks = prompt.consent || (!request.client.first_party && is_new);
    if asks { Decision::Consent } else { Decision::Issue }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::request::tests::{app, read};
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    /// Somebody who signed in an hour ago.
    const ALICE: SignedIn<'_> =
        SignedIn { user_id: "u-alice", auth_time: Timestamp::from_unix(1_800_000_000 - 3600), acr: "1" };

    fn ago(seconds: u64) -> Option<Timestamp> {
        Some(NOW - Duration::from_secs(seconds))
    }

    /// The decision on a request with `more`, by somebody who has agreed to its scopes.
    fn decided(more: &str, signed_in: Option<SignedIn<'_>>, progress: Progress) -> Decision {
        let request = read(&app(more)).expect("it is in order");
        decide(&request, signed_in, None, &request.scopes, progress, NOW)
    }

    const FRESH: Progress = Progress { login_asked_at: None, account_chosen: false, consented: false };

    #[test]
    fn whoever_is_signed_in_and_has_agreed_is_not_asked_again() {
        assert_eq!(decided("", Some(ALICE), FRESH), Decision::Issue);
        assert_eq!(decided("&prompt=none", Some(ALICE), FRESH), Decision::Issue);
    }

    #[test]
    fn nobody_has_to_sign_in() {
        assert_eq!(decided("", None, FRESH), Decision::Login);
        assert_eq!(decided("&prompt=none", None, FRESH), Decision::Refuse(AuthorizeError::LoginRequired));
    }

    #[test]
    fn a_new_sign_in_that_is_asked_for_happens_once() {
        let asked_before = |asked_at| Progress { login_asked_at: asked_at, ..FRESH };

        assert_eq!(decided("&prompt=login", Some(ALICE), FRESH), Decision::Login);
        assert_eq!(decided("&prompt=login", Some(ALICE), asked_before(ago(60))), Decision::Login, "not since");
        let again = SignedIn { auth_time: NOW, ..ALICE };
        assert_eq!(decided("&prompt=login", Some(again), asked_before(ago(60))), Decision::Issue);
        assert_eq!(decided("&prompt=login", Some(again), FRESH), Decision::Login, "a tag nobody made");
    }

    #[test]
    fn a_sign_in_that_is_too_old_is_renewed() {
        assert_eq!(decided("&max_age=3600", Some(ALICE), FRESH), Decision::Issue);
        assert_eq!(decided("&max_age=3599", Some(ALICE), FRESH), Decision::Login);
        let refused = Decision::Refuse(AuthorizeError::LoginRequired);
        assert_eq!(decided("&max_age=3599&prompt=none", Some(ALICE), FRESH), refused);
        let just_now = SignedIn { auth_time: NOW, ..ALICE };
        assert_eq!(decided("&max_age=0", Some(just_now), FRESH), Decision::Login);
        // With a maximum of nothing, the sign-in for this very request has to be enough.
        let (again, asked) = (SignedIn { auth_time: NOW - Duration::from_secs(5), ..ALICE }, ago(30));
        assert_eq!(decided("&max_age=0", Some(again), Progress { login_asked_at: asked, ..FRESH }), Decision::Issue);
    }

    #[test]
    fn another_person_than_the_one_meant_has_to_sign_in() {
        let request = read(&app("")).expect("it is in order");
        let hinted = |hint, progress| decide(&request, Some(ALICE), Some(hint), &request.scopes, progress, NOW);

        assert_eq!(hinted("u-alice", FRESH), Decision::Issue);
        assert_eq!(hinted("u-bob", FRESH), Decision::Login);
        let tried = Progress { login_asked_at: ago(4000), ..FRESH };
        assert_eq!(hinted("u-bob", tried), Decision::Refuse(AuthorizeError::LoginRequired));
        let claims = "&claims=%7B%22id_token%22:%7B%22sub%22:%7B%22value%22:%22u-bob%22%7D%7D%7D";
        assert_eq!(decided(claims, Some(ALICE), FRESH), Decision::Login);
    }

    #[test]
    fn a_class_that_can_not_be_had_is_an_error_only_where_it_is_essential() {
        let claims = |essential: bool| {
            format!(
                "&claims=%7B%22id_token%22:%7B%22acr%22:%7B%22essential%22:{essential},%22value%22:%22gold%22%7D%7D%7D"
            )
        };

        let refused = Decision::Refuse(AuthorizeError::UnmetAuthenticationRequirements);
        assert_eq!(decided(&claims(true), Some(ALICE), FRESH), refused);
        assert_eq!(decided(&claims(false), Some(ALICE), FRESH), Decision::Issue);
    }

    #[test]
    fn an_account_is_chosen_once() {
        assert_eq!(decided("&prompt=select_account", Some(ALICE), FRESH), Decision::SelectAccount);
        let chosen = Progress { account_chosen: true, ..FRESH };
        assert_eq!(decided("&prompt=select_account", Some(ALICE), chosen), Decision::Issue);
    }

    #[test]
    fn what_is_new_is_agreed_to() {
        let request = read(&app("")).expect("it is in order");
        let with = |agreed: &[&str], progress| {
            let agreed: Vec<_> = agreed.iter().map(|scope| (*scope).to_owned()).collect();
            decide(&request, Some(ALICE), None, &agreed, progress, NOW)
        };

        assert_eq!(with(&[], FRESH), Decision::Consent);
        assert_eq!(with(&["openid"], FRESH), Decision::Consent);
        assert_eq!(with(&["profile", "openid", "email"], FRESH), Decision::Issue);
        assert_eq!(with(&[], Progress { consented: true, ..FRESH }), Decision::Issue);
        assert_eq!(decided("&prompt=consent", Some(ALICE), FRESH), Decision::Consent);
        let mut own = read(&app("&prompt=none")).expect("it is in order");
        assert_eq!(decide(&own, Some(ALICE), None, &[], FRESH, NOW), Decision::Refuse(AuthorizeError::ConsentRequired));
        std::sync::Arc::make_mut(&mut own.client).first_party = true;
        assert_eq!(decide(&own, Some(ALICE), None, &[], FRESH, NOW), Decision::Issue);
    }
}
