//! Requests and what becomes of them: by hand, through the layer and through the extractor, with one verdict.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use keywheel_jose::{AccessTokenClaims, Verified, certificate_thumbprint};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_service::Service;

use super::{Guard, PeerCertificate, Refusal, Requirement};
use crate::testing::{DpopKey, FakeIssuer, Fault};
use crate::verifier::{Claims, Verifier};
use crate::{DpopSettings, Nonce};

/// An issuer, and a verifier that has its keys.
async fn world() -> (FakeIssuer, Verifier) {
    let issuer = FakeIssuer::in_memory();
    let verifier = verifier(&issuer, DpopSettings::default()).await;
    (issuer, verifier)
}

async fn verifier(issuer: &FakeIssuer, dpop: DpopSettings) -> Verifier {
    let verifier = issuer.verifier().dpop(dpop).build().expect("the settings hold");
    verifier.verify::<AccessTokenClaims>(&issuer.token().sign()).await.expect("a good token");
    verifier
}

fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = "/orders?access_token=in-the-query".parse().expect("a URI");
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("a name");
        request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    request
}

fn get(headers: &[(&str, &str)]) -> Parts {
    request(Method::GET, headers).into_parts().0
}

fn with_token(token: &str) -> Parts {
    get(&[("authorization", &format!("Bearer {token}"))])
}

fn subject<C: Claims>(verdict: Result<Option<Verified<C>>, Refusal>) -> Result<Option<String>, Refusal> {
    verdict.map(|token| token.map(|token| token.subject().expect("there is one").to_owned()))
}

/// Through every front; they have to agree.
async fn judge<C: Claims>(guard: &Guard<C>, parts: &Parts) -> Result<Option<String>, Refusal> {
    let by_hand = subject(guard.authorize_now(parts));
    assert_eq!(subject(guard.authorize(parts).await), by_hand);

    let service = Probe::<C>::default();
    let reached = Arc::clone(&service.reached);
    let mut guarded = guard.layer().layer(service);
    let answer = call(&mut guarded, Request::from_parts(parts.clone(), ())).await;
    assert_eq!(reached.load(Ordering::Relaxed), usize::from(by_hand.is_ok()));
    match &by_hand {
        Ok(subject) => assert_eq!(answer.body(), subject.as_deref().unwrap_or("nobody")),
        Err(refusal) => {
            assert_eq!((answer.status(), answer.headers()), (refusal.status(), &refusal.headers()));
            assert_eq!(answer.body(), "");
        }
    }

    #[cfg(feature = "axum")]
    {
        use axum_core::extract::FromRequestParts;

        let extracted = super::Bearer::<C>::from_request_parts(&mut parts.clone(), guard).await;
        match (&by_hand, subject(extracted.map(|token| Some(token.0)))) {
            // The extractor without an `Option` around it demands a token.
            (Ok(None), extracted) => assert_eq!(extracted.expect_err("no token").code(), "missing_token"),
            (by_hand, extracted) => assert_eq!(&extracted, by_hand),
        }
        let extracted = Option::<super::Bearer<C>>::from_request_parts(&mut parts.clone(), guard).await;
        match (&by_hand, subject(extracted.map(|token| token.map(|token| token.0)))) {
            (Err(refusal), extracted) if refusal.code() == "missing_token" => assert_eq!(extracted, Ok(None)),
            (by_hand, extracted) => assert_eq!(&extracted, by_hand),
        }
    }
    by_hand
}

async fn call<S: Service<Request<()>, Response = Response<String>, Error = Infallible>>(
    service: &mut S,
    request: Request<()>,
) -> Response<String> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("infallible");
    service.call(request).await.expect("infallible")
}

/// A service that says whom it was called by. It insists on being asked whether it is ready, clone by clone.
struct Probe<C> {
    is_ready: bool,
    reached: Arc<AtomicUsize>,
    claims: std::marker::PhantomData<fn() -> C>,
}

impl<C> Default for Probe<C> {
    fn default() -> Self {
        Self { is_ready: false, reached: Arc::default(), claims: std::marker::PhantomData }
    }
}

impl<C> Clone for Probe<C> {
    fn clone(&self) -> Self {
        Self { is_ready: false, reached: Arc::clone(&self.reached), claims: std::marker::PhantomData }
    }
}

impl<C: Claims> Service<Request<()>> for Probe<C> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.reached.fetch_add(1, Ordering::Relaxed);
        let token = request.extensions().get::<Verified<C>>();
        let subject = token.and_then(Verified::subject).unwrap_or("nobody");
        ready(Ok(Response::new(subject.to_owned())))
    }
}

/// Status, code and challenges.
fn answer(verdict: Result<Option<String>, Refusal>) -> (u16, &'static str, Vec<String>) {
    let refusal = verdict.expect_err("a refusal");
    assert_eq!(refusal.headers()[CACHE_CONTROL], "no-store");
    let challenges = refusal.headers().get_all(WWW_AUTHENTICATE).iter().map(text).collect();
    (refusal.status().as_u16(), refusal.code(), challenges)
}

fn text(value: &HeaderValue) -> String {
    value.to_str().expect("printable ASCII").to_owned()
}

const MISSING: &str = r#"Bearer realm="api""#;

mod the_authorization_header {
    use super::*;

    #[tokio::test]
    async fn a_scheme_has_no_case_and_any_number_of_spaces_after_it() {
        let (issuer, verifier) = world().await;
        let token = issuer.token().sign();
        for scheme in ["Bearer ", "bearer ", "BEARER ", "bEaReR    "] {
            let parts = get(&[("authorization", &format!("{scheme}{token}"))]);
            assert_eq!(judge(&Guard::new(verifier.clone()), &parts).await, Ok(Some("alice".to_owned())), "{scheme}");
        }
    }

    #[tokio::test]
    async fn no_token_of_ours_gets_a_challenge_without_an_error() {
        let (_issuer, verifier) = world().await;
        let guard = Guard::new(verifier);
        for headers in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Basic YWxpY2U6c2VjcmV0")],
            &[("authorization", "Bearerabc")],
            &[("authorization", "Token abc")],
            &[("cookie", "__Host-access=abc")],
        ] {
            let parts = get(headers);
            assert_eq!(answer(judge(&guard, &parts).await), (401, "missing_token", vec![MISSING.to_owned()]));
            assert_eq!(judge(&guard.clone().optional(), &parts).await, Ok(None), "{headers:?}");
        }
    }

    #[tokio::test]
    async fn what_begins_like_a_token_and_is_none_is_malformed_even_where_a_token_is_optional() {
        let (issuer, verifier) = world().await;
        let token = issuer.token().sign();
        let expected =
            r#"Bearer realm="api", error="invalid_request", error_description="the Authorization header is malformed""#;
        for value in [
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "DPoP".to_owned(),
            format!("Bearer\t{token}"),
            format!("Bearer \t{token}"),
            format!("Bearer {token} "),
            format!("Bearer {token}, Bearer {token}"),
            format!("Bearer {token},"),
            format!("Bearer,{token}"),
            format!("Bearer={token}"),
            format!("Bearer \"{token}\""),
            format!("Bearer {token}=a"),
            "Bearer ====".to_owned(),
            "Bearer é".to_owned(),
            format!(" Bearer {token}"),
            format!("\"Bearer\" {token}"),
        ] {
            let parts = get(&[("authorization", &value)]);
            for guard in [Guard::new(verifier.clone()), Guard::new(verifier.clone()).optional()] {
                let answer = answer(judge(&guard, &parts).await);
                assert_eq!(answer, (400, "malformed_authorization_header", vec![expected.to_owned()]), "{value}");
            }
        }
    }

    #[tokio::test]
    async fn two_headers_are_one_too_many() {
        let (issuer, verifier) = world().await;
        let bearer = format!("Bearer {}", issuer.token().sign());
        for other in [bearer.as_str(), "Basic YWxpY2U6c2VjcmV0", ""] {
            let parts = get(&[("authorization", &bearer), ("authorization", other)]);
            let (status, code, challenges) = answer(judge(&Guard::new(verifier.clone()).optional(), &parts).await);
            assert_eq!((status, code), (400, "several_authorization_headers"));
            let expected = r#"Bearer realm="api", error="invalid_request", error_description="there is more than one Authorization header""#;
            assert_eq!(challenges, [expected]);
        }
    }
}

mod the_cookie {
    use super::*;

    const NAME: &str = "__Host-access";

    #[tokio::test]
    async fn it_is_read_only_where_asked_for_and_by_its_exact_name() {
        let (issuer, verifier) = world().await;
        let token = issuer.token().sign();
        let guard = Guard::new(verifier).cookie(NAME);
        for value in [
            format!("{NAME}={token}"),
            format!("theme=dark; {NAME}={token}; lang=en"),
            format!("theme=dark;{NAME}={token}"),
            format!("broken; =; {NAME}={token}"),
        ] {
            assert_eq!(judge(&guard, &get(&[("cookie", &value)])).await, Ok(Some("alice".to_owned())), "{value}");
        }
        let two_lines = get(&[("cookie", "theme=dark"), ("cookie", &format!("{NAME}={token}"))]);
        assert_eq!(judge(&guard, &two_lines).await, Ok(Some("alice".to_owned())));
        for value in [format!("__host-access={token}"), format!("{NAME}2={token}"), format!("x{NAME}={token}")] {
            let answer = answer(judge(&guard, &get(&[("cookie", &value)])).await);
            assert_eq!(answer, (401, "missing_token", vec![MISSING.to_owned()]), "{value}");
        }
    }

    #[tokio::test]
    async fn two_sources_are_one_too_many() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).cookie(NAME);
        let token = issuer.token().sign();
        let (bearer, cookie) = (format!("Bearer {token}"), format!("{NAME}={token}"));
        let malformed = |description| {
            let challenge =
                format!(r#"Bearer realm="api", error="invalid_request", error_description="{description}""#);
            vec![challenge]
        };

        let both = get(&[("authorization", &bearer), ("cookie", &cookie)]);
        let expected = malformed("there is a token in the Authorization header and another in a cookie");
        assert_eq!(answer(judge(&guard, &both).await), (400, "token_in_two_places", expected));
        for twice in [
            get(&[("cookie", &format!("{cookie}; {cookie}"))]),
            get(&[("cookie", &cookie), ("cookie", &format!("{NAME}=other"))]),
            get(&[("cookie", &format!("{NAME}=; {cookie}"))]),
        ] {
            let expected = malformed("there is more than one cookie with a token");
            assert_eq!(answer(judge(&guard, &twice).await), (400, "several_token_cookies", expected));
        }
        for value in [format!("{NAME}="), format!("{NAME}=\"{token}\""), format!("{NAME}={token} {token}")] {
            let expected = malformed("the cookie does not hold a token");
            let answer = answer(judge(&guard, &get(&[("cookie", &value)])).await);
            assert_eq!(answer, (400, "malformed_token_cookie", expected), "{value}");
        }
    }

    #[tokio::test]
    async fn a_request_that_may_change_something_needs_same_origin_proof() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).cookie(NAME).optional();
        let cookie = format!("{NAME}={}", issuer.token().sign());
        let post = |more: &[(&str, &str)]| {
            let headers = [&[("cookie", cookie.as_str()), ("host", "api.example.com")], more].concat();
            request(Method::POST, &headers).into_parts().0
        };

        let with_proof = judge(&guard, &post(&[("sec-fetch-site", "same-origin")])).await;
        let without = judge(&guard, &post(&[])).await;
        let cross_site = judge(&guard, &post(&[("sec-fetch-site", "cross-site")])).await;

        assert_eq!(with_proof, Ok(Some("alice".to_owned())));
        assert_eq!(answer(without), (403, "csrf", vec![]));
        assert_eq!(answer(cross_site), (403, "csrf", vec![]));
    }

    #[tokio::test]
    async fn a_token_in_the_header_needs_none() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).cookie(NAME);
        let bearer = format!("Bearer {}", issuer.token().sign());

        let headers = [("authorization", bearer.as_str()), ("sec-fetch-site", "cross-site")];
        let verdict = judge(&guard, &request(Method::POST, &headers).into_parts().0).await;

        assert_eq!(verdict, Ok(Some("alice".to_owned())));
    }

    #[tokio::test]
    async fn the_external_url_and_allowed_origins_count_as_ours() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).cookie(NAME).external_url("https://API.example.com:443/v1/").expect("a URL");
        let guard = guard.allow_origin("https://app.example.com").expect("an origin");
        let cookie = format!("{NAME}={}", issuer.token().sign());
        for (origin, is_ours) in [
            ("https://api.example.com", true),
            ("https://app.example.com", true),
            ("http://api.example.com", false),
            ("https://api.example.com.evil.example", false),
            ("https://inside:8080", false),
            ("null", false),
        ] {
            let headers = [("cookie", cookie.as_str()), ("host", "inside:8080"), ("origin", origin)];
            let verdict = judge(&guard, &request(Method::DELETE, &headers).into_parts().0).await;
            assert_eq!(verdict.is_ok(), is_ours, "{origin}");
        }
    }
}

mod a_token_that_does_not_hold {
    use super::*;

    #[tokio::test]
    async fn is_refused_even_where_a_token_is_optional() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).optional();
        let challenge = |description| {
            vec![format!(r#"Bearer realm="api", error="invalid_token", error_description="{description}""#)]
        };
        for (token, code, description) in [
            (issuer.token().expired().sign(), "expired", "the access token expired"),
            (issuer.token().forged().sign(), "bad_signature", "the access token is not valid"),
            (issuer.token().audience("https://other").sign(), "wrong_audience", "the access token is not valid"),
            (issuer.token().signed_by_unknown_key().sign(), "unknown_kid", "the access token is not valid"),
            ("garbage".to_owned(), "wrong_part_count", "the access token is not valid"),
            (
                issuer.token().bound_to(DpopKey::generate().thumbprint()).sign(),
                "sender_constrained",
                "the access token is bound to a key, and no proof of it came",
            ),
        ] {
            let answer = answer(judge(&guard, &with_token(&token)).await);
            assert_eq!(answer, (401, code, challenge(description)));
        }
    }

    #[tokio::test]
    async fn the_cause_is_kept_for_the_log() {
        let (issuer, verifier) = world().await;
        let refusal = Guard::new(verifier).authorize_now(&with_token(&issuer.token().expired().sign()));
        let refusal = refusal.expect_err("it expired");
        assert_eq!(refusal.to_string(), "the request is refused with status 401 (expired)");
        assert_eq!(refusal.cause().map(|cause| cause.code()), Some("expired"));
        assert!(std::error::Error::source(&refusal).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_keys_the_answer_is_503_and_no_challenge() {
        let issuer = FakeIssuer::in_memory();
        issuer.fault(Fault::Down);
        let verifier = issuer.verifier().build().expect("the settings hold");
        let parts = with_token(&issuer.token().sign());

        let refusal = Guard::new(verifier).optional().authorize(&parts).await.expect_err("no keys");

        assert_eq!((refusal.status(), refusal.code()), (StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable"));
        assert_eq!(refusal.challenges(), [] as [HeaderValue; 0]);
        let pause = refusal.retry_after().expect("one is named");
        assert!(pause >= Duration::from_secs(1));
        let seconds = refusal.headers()[RETRY_AFTER].to_str().expect("digits").parse::<u64>().expect("seconds");
        assert!(Duration::from_secs(seconds) >= pause);
    }
}

mod requirements {
    use super::*;

    #[tokio::test]
    async fn a_scope_is_compared_exactly_and_named_when_it_is_missing() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).require_scope("read").require_scope("write");
        let parts = |scope: &str| with_token(&issuer.token().scope(scope).sign());

        assert_eq!(judge(&guard, &parts("write other read")).await, Ok(Some("alice".to_owned())));
        let expected = r#"Bearer realm="api", error="insufficient_scope", error_description="the access token lacks a scope", scope="read write""#;
        for scope in ["read", "read writer", "read Write", "read write:all", "read\twrite", "re ad write"] {
            let answer = answer(judge(&guard, &parts(scope)).await);
            assert_eq!(answer, (403, "insufficient_scope", vec![expected.to_owned()]), "{scope}");
        }
    }

    #[tokio::test]
    async fn a_missing_role_names_no_scope() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).require_scope("read").require_role("admin");
        let token = || issuer.token().scope("read");

        assert!(judge(&guard, &with_token(&token().role("staff").role("admin").sign())).await.is_ok());
        let expected = r#"Bearer realm="api", error="insufficient_scope", error_description="the user lacks a role""#;
        for token in [token(), token().role("Admin"), token().role("admin ")] {
            let answer = answer(judge(&guard, &with_token(&token.sign())).await);
            assert_eq!(answer, (403, "missing_role", vec![expected.to_owned()]));
        }
        // Both are missing: the scope is what a client can do something about.
        let (_, code, challenges) = answer(judge(&guard, &with_token(&issuer.token().sign())).await);
        assert_eq!(code, "insufficient_scope");
        assert!(challenges[0].ends_with(r#"scope="read""#), "{challenges:?}");
    }

    #[tokio::test]
    async fn any_all_and_named_conditions_combine() {
        let (issuer, verifier) = world().await;
        let from_billing = || {
            Requirement::claim("from_billing", |token: &Verified<AccessTokenClaims>| {
                token.claims().client_id == "billing"
            })
        };
        let guard = Guard::new(verifier).require(Requirement::any([
            Requirement::role("admin"),
            Requirement::all([Requirement::scope("read"), from_billing()]),
        ]));
        let billing = || issuer.token().claim("client_id", "billing");

        assert!(judge(&guard, &with_token(&issuer.token().role("admin").sign())).await.is_ok());
        assert!(judge(&guard, &with_token(&billing().scope("read").sign())).await.is_ok());
        let no_scope = answer(judge(&guard, &with_token(&billing().sign())).await);
        assert_eq!((no_scope.0, no_scope.1), (403, "insufficient_scope"));
        assert!(no_scope.2[0].ends_with(r#"scope="read""#));
        let other_client = answer(judge(&guard, &with_token(&issuer.token().scope("read").sign())).await);
        assert_eq!((other_client.0, other_client.1), (403, "missing_role"));
    }

    #[tokio::test]
    async fn a_condition_of_its_own_is_named_in_the_log_alone() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).require_claim("person", |token| token.claims().sid.is_some());
        assert!(judge(&guard, &with_token(&issuer.token().claim("sid", "s1").sign())).await.is_ok());
        let expected = r#"Bearer realm="api", error="insufficient_scope", error_description="the access token does not allow this""#;
        let answer = answer(judge(&guard, &with_token(&issuer.token().sign())).await);
        assert_eq!(answer, (403, "person", vec![expected.to_owned()]));
    }

    #[tokio::test]
    async fn an_empty_list_of_alternatives_is_met_by_nothing() {
        let (issuer, verifier) = world().await;
        let parts = with_token(&issuer.token().sign());
        assert!(judge(&Guard::new(verifier.clone()).require(Requirement::any([])), &parts).await.is_err());
        assert!(judge(&Guard::new(verifier.clone()).require_scope(""), &parts).await.is_err());
        assert!(judge(&Guard::new(verifier).require(Requirement::all([])), &parts).await.is_ok());
    }

    #[tokio::test]
    async fn claims_of_any_type_can_be_guarded() {
        let (issuer, verifier) = world().await;
        let guard = Guard::<Value>::with_claims(verifier).require_scope("read").require_role("admin");
        let token = || issuer.token().scope("other read");

        assert!(judge(&guard, &with_token(&token().role("admin").sign())).await.is_ok());
        for roles in [json!("admin"), json!({"admin": true}), json!([["admin"]]), json!(null)] {
            assert!(judge(&guard, &with_token(&token().claim("roles", roles).sign())).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_handler_may_demand_more_of_a_token_it_was_given() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier);
        let token = guard.authorize_now(&with_token(&issuer.token().scope("read").sign()));
        let token = token.expect("it holds").expect("there is one");
        assert_eq!(guard.clone().require_scope("read").permit(&token), Ok(()));
        let refusal = guard.require_scope("write").permit(&token).expect_err("another scope");
        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    }
}

mod challenges {
    use super::*;

    #[tokio::test]
    async fn settings_are_escaped_and_come_with_every_challenge() {
        let (_issuer, verifier) = world().await;
        let guard = Guard::new(verifier).realm("say \"hi\"\\\r\né").resource_metadata("https://api.example.com/m");
        let expected = r#"Bearer realm="say \"hi\"\\", resource_metadata="https://api.example.com/m""#;
        assert_eq!(answer(judge(&guard, &get(&[])).await).2, [expected]);
        let malformed = answer(judge(&guard, &get(&[("authorization", "Bearer")])).await).2;
        assert!(malformed[0].ends_with(r#", resource_metadata="https://api.example.com/m""#), "{malformed:?}");
    }

    #[test]
    fn urls_that_are_no_origin_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let verifier = FakeIssuer::in_memory().verifier().build().expect("the settings hold");
        let guard = Guard::new(verifier);
        for url in ["", "api.example.com", "ftp://api.example.com", "https://a@b", "https://a?b", "https://a#b", "null"]
        {
            assert!(guard.clone().external_url(url).is_err(), "{url}");
            assert!(guard.clone().allow_origin(url).is_err(), "{url}");
        }
        assert!(guard.clone().allow_origin("https://app.example.com/path").is_err());
        assert!(guard.external_url("https://api.example.com/v1").is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// What was sent is nowhere in the answer, and whatever was sent there is one.
        #[test]
        fn nothing_is_echoed(
            secret in "[A-Za-z0-9._~+/-]{16,80}",
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            place in 0..7_usize,
        ) {
            thread_local! {
                static GUARD: (tokio::runtime::Runtime, Guard) = {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    let (_, verifier) = runtime.block_on(world());
                    let guard = Guard::new(verifier).cookie("c").external_url("https://api.example.com").expect("a URL");
                    (runtime, guard)
                };
            }
            let mut parts = get(&[]);
            let mut put = |name: &'static str, value: Vec<u8>| {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    parts.headers.append(name, value);
                }
            };
            let with = |prefix: &str| [prefix.as_bytes(), secret.as_bytes(), &bytes].concat();
            match place {
                0 => put("authorization", with("")),
                1 => put("authorization", with("Bearer ")),
                2 => put("cookie", with("c=")),
                3 => put("authorization", format!("Bearer {secret}").into_bytes()),
                4 => put("authorization", format!("DPoP {secret}.{secret}.{secret}").into_bytes()),
                5 => {
                    put("authorization", format!("DPoP {secret}").into_bytes());
                    put("dpop", with(""));
                }
                _ => {
                    put("cookie", format!("c={secret}").into_bytes());
                    put("origin", with("https://"));
                    put("sec-fetch-site", bytes.clone());
                }
            }
            let refusal = GUARD.with(|(runtime, guard)| {
                let _entered = runtime.enter();
                guard.authorize_now(&parts).expect_err("no token of ours")
            });
            prop_assert!(refusal.status().is_client_error());
            let response = format!("{:?}", refusal.into_response::<String>());
            prop_assert!(!response.contains(&secret), "{response}");
        }
    }
}

mod proof_of_possession {
    use super::*;

    const URL: &str = "https://api.example.com/v1/orders";

    fn bound(guard: Guard) -> Guard {
        guard.external_url("https://api.example.com/v1").expect("a URL")
    }

    fn with_proof(token: &str, proof: &str) -> Parts {
        get(&[("authorization", &format!("DPoP {token}")), ("dpop", proof), ("host", "evil.example")])
    }

    #[tokio::test]
    async fn a_bound_token_comes_with_its_proof_once() {
        let (issuer, verifier) = world().await;
        let (guard, key) = (bound(Guard::new(verifier)), DpopKey::generate());
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let parts = with_proof(&token, &key.proof("GET", URL).access_token(&token).sign());

        assert_eq!(subject(guard.authorize_now(&parts)), Ok(Some("alice".to_owned())));
        let (status, code, challenges) = answer(subject(guard.authorize_now(&parts)));

        assert_eq!((status, code), (401, "dpop_replayed"));
        assert_eq!(challenges[0], MISSING);
        let (error, algs) = challenges[1].split_once(r#", algs=""#).expect("they are named");
        assert_eq!(
            error,
            r#"DPoP realm="api", error="invalid_dpop_proof", error_description="the DPoP proof is missing or does not hold""#
        );
        assert!(algs.contains("ES256"), "{algs}");
    }

    #[tokio::test]
    async fn a_proof_is_for_this_request_this_token_and_this_key() {
        let (issuer, verifier) = world().await;
        let (guard, key, other) = (bound(Guard::new(verifier)), DpopKey::generate(), DpopKey::generate());
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let good = || key.proof("GET", URL).access_token(&token);
        for proof in [
            key.proof("POST", URL).access_token(&token),
            key.proof("GET", "https://evil.example/orders").access_token(&token),
            key.proof("GET", "https://api.example.com/orders").access_token(&token),
            key.proof("GET", URL),
            good().access_token("another"),
            other.proof("GET", URL).access_token(&token),
        ] {
            let (status, _, challenges) = answer(subject(guard.authorize_now(&with_proof(&token, &proof.sign()))));
            assert_eq!((status, challenges[0].as_str()), (401, MISSING));
            assert!(challenges[1].contains("error="), "{challenges:?}");
        }
        assert!(guard.authorize_now(&with_proof(&token, &good().sign())).is_ok());
    }

    #[tokio::test]
    async fn scheme_and_token_have_to_fit() {
        let (issuer, verifier) = world().await;
        let (guard, key) = (bound(Guard::new(verifier)), DpopKey::generate());
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let unbound = issuer.token().sign();
        let proof = |token: &str| key.proof("GET", URL).access_token(token).sign();

        let as_bearer = answer(subject(guard.authorize_now(&with_token(&token))));
        assert_eq!((as_bearer.0, as_bearer.1), (401, "sender_constrained"));
        assert!(as_bearer.2[0].starts_with(r#"Bearer realm="api", error="invalid_token""#));
        assert!(as_bearer.2[1].starts_with(r#"DPoP realm="api", algs="#), "{as_bearer:?}");

        let not_bound = answer(subject(guard.authorize_now(&with_proof(&unbound, &proof(&unbound)))));
        assert_eq!((not_bound.0, not_bound.1), (401, "not_bound"));
        assert!(not_bound.2[1].starts_with(r#"DPoP realm="api", error="invalid_token""#), "{not_bound:?}");

        let bare = get(&[("authorization", &format!("DPoP {token}"))]);
        assert_eq!(answer(subject(guard.authorize_now(&bare))).0, 401);

        let malformed = answer(subject(guard.authorize_now(&get(&[("authorization", "DPoP a b")]))));
        assert_eq!((malformed.0, malformed.2[0].as_str()), (400, MISSING));
        assert!(malformed.2[1].starts_with(r#"DPoP realm="api", error="invalid_request""#), "{malformed:?}");

        let mut twice = with_proof(&token, &proof(&token));
        twice.headers.append("dpop", HeaderValue::from_str(&proof(&token)).expect("text"));
        assert_eq!(answer(subject(guard.authorize_now(&twice))).1, "malformed_dpop_header");
    }

    #[tokio::test]
    async fn without_an_external_url_no_dpop_token_is_taken() {
        let (issuer, verifier) = world().await;
        let key = DpopKey::generate();
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let proof = key.proof("GET", "https://evil.example/orders").access_token(&token).sign();

        let guard = Guard::new(verifier).optional();
        let (status, _, challenges) = answer(subject(guard.authorize_now(&with_proof(&token, &proof))));

        assert_eq!((status, challenges.len()), (401, 1));
        assert!(challenges[0].starts_with("Bearer "), "{challenges:?}");
    }

    #[tokio::test]
    async fn a_nonce_is_handed_out_and_then_accepted() {
        let issuer = FakeIssuer::in_memory();
        let settings = DpopSettings { nonce: Nonce::Required, ..DpopSettings::default() };
        let guard = bound(Guard::new(verifier(&issuer, settings).await));
        let key = DpopKey::generate();
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let proof = || key.proof("GET", URL).access_token(&token);

        let refusal = guard.authorize_now(&with_proof(&token, &proof().sign())).expect_err("no nonce");
        assert_eq!((refusal.status().as_u16(), refusal.code()), (401, "use_dpop_nonce"));
        assert!(text(&refusal.challenges()[1]).starts_with(r#"DPoP realm="api", error="use_dpop_nonce""#));
        let nonce = text(&refusal.headers()["dpop-nonce"]);

        assert!(guard.authorize_now(&with_proof(&token, &proof().nonce(nonce).sign())).is_ok());
    }

    #[tokio::test]
    async fn a_certificate_comes_from_the_extensions_alone() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier);
        let token = issuer.token().bound_to_certificate(certificate_thumbprint(b"certificate")).sign();
        let with = |certificate: Option<&'static [u8]>| {
            let mut parts = with_token(&token);
            if let Some(certificate) = certificate {
                parts.extensions.insert(PeerCertificate::from_der(certificate));
            }
            parts
        };

        assert_eq!(judge(&guard, &with(Some(b"certificate"))).await, Ok(Some("alice".to_owned())));
        assert_eq!(answer(judge(&guard, &with(Some(b"other"))).await).1, "proof_mismatch");
        assert_eq!(answer(judge(&guard, &with(None)).await).1, "sender_constrained");
    }
}

mod the_layer {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_a_key_that_is_being_fetched() {
        let issuer = FakeIssuer::in_memory();
        let verifier = issuer.verifier().build().expect("the settings hold");
        let mut service = Guard::new(verifier).layer().layer(Probe::<AccessTokenClaims>::default());

        let answer = call(&mut service, Request::from_parts(with_token(&issuer.token().sign()), ())).await;
        let again = call(&mut service, Request::from_parts(with_token(&issuer.token().sign()), ())).await;

        assert_eq!((answer.body().as_str(), again.body().as_str()), ("alice", "alice"));
    }

    #[tokio::test]
    async fn takes_out_what_somebody_else_put_into_the_extensions() {
        let (issuer, verifier) = world().await;
        let guard = Guard::new(verifier).optional();
        let earlier = guard.authorize_now(&with_token(&issuer.token().subject("eve").sign()));
        let mut parts = get(&[]);
        parts.extensions.insert(earlier.expect("it holds").expect("there is one"));
        let mut service = guard.layer().layer(Probe::<AccessTokenClaims>::default());

        let answer = call(&mut service, Request::from_parts(parts, ())).await;

        assert_eq!(answer.body(), "nobody");
    }

    #[tokio::test]
    async fn layers_of_one_guard_verify_once_and_demand_together() {
        let (issuer, verifier) = world().await;
        let key = DpopKey::generate();
        let guard = Guard::new(verifier).external_url("https://api.example.com").expect("a URL");
        let bound = || issuer.token().bound_to(key.thumbprint());
        let nested = |guard: &Guard| {
            let inner = guard.clone().require_role("admin").layer().layer(Probe::<AccessTokenClaims>::default());
            guard.clone().require_scope("read").layer().layer(inner)
        };
        let request = |token: &str| {
            let proof = key.proof("GET", "https://api.example.com/orders").access_token(token).sign();
            Request::from_parts(get(&[("authorization", &format!("DPoP {token}")), ("dpop", &proof)]), ())
        };

        let both = call(&mut nested(&guard), request(&bound().scope("read").role("admin").sign())).await;
        let no_role = call(&mut nested(&guard), request(&bound().scope("read").sign())).await;
        let no_scope = call(&mut nested(&guard), request(&bound().role("admin").sign())).await;

        assert_eq!(both.body(), "alice");
        assert_eq!((no_role.status(), no_scope.status()), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    }

    #[tokio::test]
    async fn what_another_guard_accepted_is_not_believed() {
        let (issuer, verifier) = world().await;
        let (elsewhere, other_verifier) = world().await;
        let token = elsewhere.token().sign();
        let lax = Guard::new(other_verifier).cookie("c");
        let by_cookie = || Request::from_parts(get(&[("cookie", &format!("c={token}"))]), ());
        let admitted = |inner: Guard| lax.layer().layer(inner.layer().layer(Probe::<AccessTokenClaims>::default()));
        drop(issuer);

        let same = call(&mut admitted(lax.clone()), by_cookie()).await;
        let other_issuer = call(&mut admitted(Guard::new(verifier.clone()).cookie("c")), by_cookie()).await;
        let other_sources = call(&mut admitted(lax.clone().cookie("other")), by_cookie()).await;
        let no_token = call(&mut admitted(Guard::new(verifier).optional()), by_cookie()).await;

        assert_eq!((same.status(), same.body().as_str()), (StatusCode::OK, "alice"));
        assert_eq!(other_issuer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(other_sources.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(no_token.body(), "nobody");
    }

    #[tokio::test]
    async fn a_service_that_is_reused_is_asked_again_whether_it_is_ready() {
        let (issuer, verifier) = world().await;
        let mut service = Guard::new(verifier).layer().layer(Probe::<AccessTokenClaims>::default());
        let refused = call(&mut service, Request::from_parts(get(&[]), ())).await;
        let passed = call(&mut service, Request::from_parts(with_token(&issuer.token().sign()), ())).await;
        assert_eq!((refused.status(), passed.status()), (StatusCode::UNAUTHORIZED, StatusCode::OK));
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], MISSING);
        assert_eq!(refused.extensions().get().map(Refusal::code), Some("missing_token"));
    }

    #[tokio::test]
    async fn the_request_reaches_the_service_as_it_was() {
        let (issuer, verifier) = world().await;
        let token = issuer.token().sign();
        let echo = Echo;
        let mut service = Guard::new(verifier).layer().layer(echo);
        let parts = with_token(&token);

        let answer = call(&mut service, Request::from_parts(parts, ())).await;

        assert_eq!(answer.headers()[AUTHORIZATION], format!("Bearer {token}"));
        assert_eq!(answer.body(), "GET /orders?access_token=in-the-query");
    }

    #[derive(Clone)]
    struct Echo;

    impl Service<Request<()>> for Echo {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = Ready<Result<Response<String>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            let mut response = Response::new(format!("{} {}", request.method(), request.uri()));
            *response.headers_mut() = request.headers().clone();
            ready(Ok(response))
        }
    }
}

#[cfg(feature = "axum")]
mod the_extractor {
    use axum_core::extract::{FromRef, FromRequestParts};
    use axum_core::response::IntoResponse;

    use super::super::{Bearer, ResourceMetadata};
    use super::*;

    #[derive(Clone)]
    struct App {
        guard: Guard,
    }

    impl FromRef<App> for Guard {
        fn from_ref(app: &App) -> Self {
            app.guard.clone()
        }
    }

    #[tokio::test]
    async fn finds_the_guard_in_a_state_of_any_shape() {
        let (issuer, verifier) = world().await;
        let app = App { guard: Guard::new(verifier) };
        let Bearer(token) =
            Bearer::<AccessTokenClaims>::from_request_parts(&mut with_token(&issuer.token().sign()), &app)
                .await
                .expect("it holds");
        assert_eq!(token.claims().sub, "alice");
    }

    #[tokio::test]
    async fn takes_the_token_that_a_layer_or_another_extractor_has_verified_and_compares_it() {
        let (issuer, verifier) = world().await;
        let key = DpopKey::generate();
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let proof = key.proof("GET", "https://api.example.com/orders").access_token(&token).sign();
        let guard = Guard::new(verifier).external_url("https://api.example.com").expect("a URL");
        let mut parts = get(&[("authorization", &format!("DPoP {token}")), ("dpop", &proof)]);

        let first = Bearer::<AccessTokenClaims>::from_request_parts(&mut parts, &guard).await;
        let second = Bearer::<AccessTokenClaims>::from_request_parts(&mut parts, &guard).await;
        let stricter = Bearer::<AccessTokenClaims>::from_request_parts(&mut parts, &guard.require_role("admin")).await;

        assert!(first.is_ok() && second.is_ok());
        assert_eq!(stricter.expect_err("no role").code(), "missing_role");
    }

    #[tokio::test]
    async fn refusals_and_metadata_are_responses() {
        let (_issuer, verifier) = world().await;
        let refusal = Guard::new(verifier).authorize_now(&get(&[])).expect_err("no token");
        assert_eq!(IntoResponse::into_response(refusal).status(), StatusCode::UNAUTHORIZED);
        let metadata = ResourceMetadata::new("https://api.example.com").expect("a URL");
        assert_eq!(metadata.into_response().headers()["content-type"], "application/json");
    }
}
