//! Introspection against a fake issuer, over real sockets. Tokio's clock is moved where a test says so.

use keywheel_jose::AccessTokenClaims;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{advance, pause, resume};

use super::*;
use crate::UrlProblem;
use crate::limits::LimitsError;
use crate::testing::{Document, FakeIssuer, Fault};

const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes tokio's clock jump.
async fn pass(duration: Duration) {
    pause();
    advance(duration).await;
    resume();
}

async fn start() -> (FakeIssuer, Introspection) {
    let issuer = FakeIssuer::start().await;
    let introspection = issuer.introspection().build().expect("the settings hold");
    (issuer, introspection)
}

/// The code of the verdict.
async fn verdict(issuer: &FakeIssuer, introspection: &Introspection, token: &str) -> &'static str {
    code(introspection.introspect::<Value>(token, &issuer.policy()).await)
}

fn code<C>(result: Result<Introspected<C>, IntrospectError>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(IntrospectError::Rejected(rejection)) => rejection.code(),
        Err(IntrospectError::Unavailable { retry_after }) if retry_after >= seconds(1) => "unavailable",
        Err(IntrospectError::Unavailable { .. }) => "unavailable for too short a time",
    }
}

fn requests(issuer: &FakeIssuer) -> usize {
    issuer.requests(Document::Introspection)
}

mod verdicts {
    use super::*;

    #[tokio::test]
    async fn an_active_token_is_its_claims() {
        let (issuer, introspection) = start().await;
        let token = issuer.token().subject("bob").scope("read").opaque();

        let held = introspection.introspect::<AccessTokenClaims>(&token, &issuer.policy()).await.expect("it is active");

        assert_eq!((held.subject(), held.issuer()), (Some("bob"), Some(issuer.issuer())));
        assert_eq!(held.claims().scope.as_deref(), Some("read"));
        assert_eq!(held.expires_at(), held.claims().exp);
    }

    #[tokio::test]
    async fn each_wrong_token_is_refused_for_what_is_wrong_with_it() {
        let (issuer, introspection) = start().await;
        for (token, expected) in [
            (issuer.token().expired(), "inactive"),
            (issuer.token().audience("https://elsewhere.example"), "wrong_audience"),
            (issuer.token().without_claim("aud"), "missing_claim"),
            (issuer.token().claim("iss", "https://elsewhere.example"), "wrong_issuer"),
            (issuer.token().without_claim("iss"), "accepted"),
            (issuer.token().without_claim("exp"), "missing_claim"),
            (issuer.token().claim("nbf", i64::from(u32::MAX)), "not_yet_valid"),
            (issuer.token().claim("token_type", "refresh_token"), "wrong_type"),
            (issuer.token().bound_to(KEY), "sender_constrained"),
        ] {
            assert_eq!(verdict(&issuer, &introspection, &token.opaque()).await, expected);
        }
        assert_eq!(verdict(&issuer, &introspection, "invented").await, "inactive");
    }

    #[tokio::test]
    async fn a_missing_audience_is_accepted_only_where_that_was_said() {
        let (issuer, _) = start().await;
        let introspection = issuer.introspection().insecure_accept_missing_audience().build().expect("it holds");

        let without = issuer.token().without_claim("aud").opaque();
        let of_another = issuer.token().audience("https://elsewhere.example").opaque();

        assert_eq!(verdict(&issuer, &introspection, &without).await, "accepted");
        assert_eq!(verdict(&issuer, &introspection, &of_another).await, "wrong_audience");
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused_without_a_request() {
        let (issuer, introspection) = start().await;
        let long = "a".repeat(16 * 1024 + 1);
        for (token, expected) in [
            ("", "malformed_token"),
            ("=", "malformed_token"),
            ("a b", "malformed_token"),
            ("a=b", "malformed_token"),
            ("a\r\nb", "malformed_token"),
            ("a&token=b", "malformed_token"),
            ("%41", "malformed_token"),
            ("é", "malformed_token"),
            ("a\0", "malformed_token"),
            (&long, "token_too_large"),
        ] {
            assert_eq!(verdict(&issuer, &introspection, token).await, expected, "{token:?}");
        }
        assert_eq!(requests(&issuer), 0);
        assert_eq!(verdict(&issuer, &introspection, "aZ09-._~+/==").await, "inactive");
        assert_eq!(requests(&issuer), 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_says_nothing_about_the_token() {
        let (issuer, introspection) = start().await;
        let token = issuer.token().opaque();
        for answer in [
            "",
            "true",
            "[]",
            "{}",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"aud":"a","aud":"https://api.example.com"}"#,
            "{\"active\":true",
        ] {
            issuer.answer_introspection_with(Some(answer));
            assert_eq!(verdict(&issuer, &introspection, &token).await, "unavailable", "{answer}");
            pass(seconds(2)).await;
        }
        issuer.answer_introspection_with(None);
        assert_eq!(verdict(&issuer, &introspection, &token).await, "accepted");
    }
}

mod memory {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_believed_for_its_time_and_no_longer() {
        let (issuer, introspection) = start().await;
        let token = issuer.token().opaque();
        assert_eq!(verdict(&issuer, &introspection, &token).await, "accepted");
        issuer.revoke_opaque(&token);

        pass(seconds(9)).await;
        assert_eq!(verdict(&issuer, &introspection, &token).await, "accepted");
        assert_eq!(requests(&issuer), 1);
        pass(seconds(1)).await;
        assert_eq!(verdict(&issuer, &introspection, &token).await, "inactive");
        assert_eq!(requests(&issuer), 2);
    }

    #[tokio::test]
    async fn no_token_outlives_its_end() {
        let (issuer, introspection) = start().await;
        let token = issuer.token().expires_in(seconds(5)).opaque();
        let (policy, now) = (issuer.policy(), issuer.clock().now());
        issuer.clock().stop_at(now);
        let at = async |now| code(introspection.introspect_bound::<Value>(&token, &policy, now, |_| Ok(())).await);
        assert_eq!(at(now).await, "accepted");
        issuer.clock().advance(seconds(10));

        assert_eq!(at(now + seconds(4)).await, "accepted");
        assert_eq!(requests(&issuer), 1);
        assert_eq!(at(now + seconds(10)).await, "inactive");
        assert_eq!(requests(&issuer), 2);
    }

    #[tokio::test]
    async fn a_no_is_believed_for_a_second() {
        let (issuer, introspection) = start().await;
        for _ in 0..3 {
            assert_eq!(verdict(&issuer, &introspection, "invented").await, "inactive");
        }
        assert_eq!(requests(&issuer), 1);

        pass(seconds(1)).await;
        assert_eq!(verdict(&issuer, &introspection, "invented").await, "inactive");
        assert_eq!(requests(&issuer), 2);
    }

    #[tokio::test]
    async fn without_a_lifetime_every_call_asks() {
        let (issuer, _) = start().await;
        let introspection = issuer.introspection().cache_ttl(Duration::ZERO).build().expect("zero is allowed");
        let token = issuer.token().opaque();

        for _ in 0..3 {
            assert_eq!(verdict(&issuer, &introspection, &token).await, "accepted");
        }

        assert_eq!(requests(&issuer), 3);
    }

    #[tokio::test]
    async fn a_remembered_answer_is_judged_by_each_policy_anew() {
        let (issuer, introspection) = start().await;
        let token = issuer.token().bound_to(KEY).opaque();
        let (policy, now) = (issuer.policy(), issuer.clock().now());
        let other = Policy::access_token(issuer.issuer(), "https://elsewhere.example");
        let holder = Holder { jkt: Some(KEY), x5t_s256: None };

        let by_holder = introspection.introspect_bound::<Value>(&token, &policy, now, |bound| holder.may_use(bound));
        assert_eq!(code(by_holder.await), "accepted");
        assert_eq!(verdict(&issuer, &introspection, &token).await, "sender_constrained");
        assert_eq!(code(introspection.introspect::<Value>(&token, &other).await), "wrong_audience");

        assert_eq!(requests(&issuer), 1);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let (issuer, _) = start().await;
        let introspection = issuer.introspection().cache_bytes(16 * 1024).build().expect("it is the least");

        for number in 0..500 {
            verdict(&issuer, &introspection, &format!("invented-{number}")).await;
        }

        assert!(introspection.inner.answers.weight() <= 16 * 1024);
        assert!(!introspection.inner.answers.is_empty());
    }
}

mod requests {
    use super::*;

    #[tokio::test]
    async fn all_callers_with_one_token_share_one_request() {
        let (issuer, introspection) = start().await;
        let (token, policy) = (issuer.token().opaque(), issuer.policy());
        let call = || introspection.introspect::<Value>(&token, &policy);

        let verdicts = tokio::join!(call(), call(), call(), call());

        assert!(verdicts.0.is_ok() && verdicts.1.is_ok() && verdicts.2.is_ok() && verdicts.3.is_ok());
        assert_eq!(requests(&issuer), 1);
    }

    #[tokio::test]
    async fn when_the_one_who_asks_goes_away_another_asks() {
        let (issuer, introspection) = start().await;
        let (token, policy) = (issuer.token().opaque(), issuer.policy());
        issuer.fault(Fault::Hang);
        let impatient = async {
            tokio::select! {
                _ = introspection.introspect::<Value>(&token, &policy) => panic!("nobody answers"),
                () = issuer.requested(Document::Introspection, 1) => {}
            }
            issuer.heal();
        };

        let (verdict, ()) = tokio::join!(biased; async {
            // The impatient one is at the guard first.
            issuer.requested(Document::Introspection, 1).await;
            introspection.introspect::<Value>(&token, &policy).await
        }, impatient);

        assert_eq!(code(verdict), "accepted");
        assert_eq!(requests(&issuer), 2);
    }

    #[tokio::test]
    async fn one_too_many_is_told_to_come_again() {
        let (issuer, _) = start().await;
        let introspection = issuer.introspection().max_in_flight(1).build().expect("the settings hold");
        let policy = issuer.policy();
        issuer.fault(Fault::Hang);

        tokio::select! {
            _ = introspection.introspect::<Value>("first", &policy) => panic!("nobody answers"),
            () = async {
                issuer.requested(Document::Introspection, 1).await;
                assert_eq!(verdict(&issuer, &introspection, "second").await, "unavailable");
            } => {}
        }

        assert_eq!(requests(&issuer), 1);
    }

    #[tokio::test]
    async fn a_request_says_what_rfc_7662_wants_to_hear() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let endpoint = format!("http://{}/introspect", listener.local_addr().expect("it is bound"));
        let introspection = Introspection::builder(endpoint, "s:1 ä", "p%w+").name("payments");
        let introspection = introspection.build().expect("the settings hold");
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = String::new();
            while !request.ends_with("access_token") {
                let mut more = [0; 4096];
                let read = stream.read(&mut more).await.expect("more of the request");
                request.push_str(std::str::from_utf8(&more[..read]).expect("it is text"));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"active\":false}").await.expect("sent");
            request
        };

        let policy = Policy::access_token("https://id.example.com", "https://api.example.com");
        let (verdict, request) = tokio::join!(introspection.introspect::<Value>("a+b/c==", &policy), server);

        assert_eq!(code(verdict), "inactive");
        let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("POST /introspect HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, "token=a%2Bb%2Fc%3D%3D&token_type_hint=access_token");
        for header in [
            // printf 's%%3A1+%%C3%%A4:p%%25w%%2B' | base64
            "authorization: Basic cyUzQTErJUMzJUE0OnAlMjV3JTJC",
            "content-type: application/x-www-form-urlencoded",
            "accept: application/json",
            "accept-encoding: identity",
            concat!("user-agent: keywheel-verifier/", env!("CARGO_PKG_VERSION"), " (payments)"),
        ] {
            assert!(head.lines().any(|line| line == header), "{header} in {head}");
        }
    }
}

mod outages {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_fails_means_503_and_a_pause() {
        for fault in [
            Fault::Down,
            Fault::ResetMidBody,
            Fault::Status(500),
            Fault::Status(401),
            Fault::Status(201),
            Fault::Redirect("http://127.0.0.1:1/".to_owned()),
            Fault::Garbage,
            Fault::HtmlOk,
            Fault::Huge { bytes: 100 * 1024 * 1024 },
        ] {
            let (issuer, introspection) = start().await;
            let token = issuer.token().opaque();
            issuer.fault(fault.clone());

            assert_eq!(verdict(&issuer, &introspection, &token).await, "unavailable", "{fault:?}");
            let asked = requests(&issuer);
            assert_eq!(verdict(&issuer, &introspection, &token).await, "unavailable", "{fault:?}");
            assert_eq!(requests(&issuer), asked, "{fault:?}");

            issuer.heal();
            pass(seconds(1)).await;
            assert_eq!(verdict(&issuer, &introspection, &token).await, "accepted", "after {fault:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_ends_with_the_deadline_for_all() {
        for fault in [Fault::Hang, Fault::Drip { every: seconds(1) }, Fault::Slow(seconds(6))] {
            let (issuer, introspection) = start().await;
            let token = issuer.token().opaque();
            issuer.fault(fault.clone());

            let time = async {
                issuer.requested(Document::Introspection, 1).await;
                pass(seconds(5)).await;
            };
            let (first, second, ()) =
                tokio::join!(verdict(&issuer, &introspection, &token), verdict(&issuer, &introspection, &token), time);

            assert_eq!((first, second), ("unavailable", "unavailable"), "{fault:?}");
            assert_eq!(requests(&issuer), 1, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_serves_while_the_endpoint_is_down() {
        let (issuer, introspection) = start().await;
        let (known, unknown) = (issuer.token().opaque(), issuer.token().opaque());
        assert_eq!(verdict(&issuer, &introspection, &known).await, "accepted");
        issuer.fault(Fault::Down);

        assert_eq!(verdict(&issuer, &introspection, &unknown).await, "unavailable");
        assert_eq!(verdict(&issuer, &introspection, &known).await, "accepted");
        pass(seconds(10)).await;
        assert_eq!(verdict(&issuer, &introspection, &known).await, "unavailable");
    }

    #[tokio::test]
    async fn credentials_that_are_refused_are_our_fault_and_not_the_tokens() {
        let (issuer, _) = start().await;
        let introspection = Introspection::builder(issuer.introspection_url(), FakeIssuer::CLIENT_ID, "wrong");
        let introspection = introspection.build().expect("the settings hold");

        assert_eq!(verdict(&issuer, &introspection, &issuer.token().opaque()).await, "unavailable");
    }

    #[tokio::test]
    async fn a_fault_of_other_documents_does_not_matter() {
        let (issuer, introspection) = start().await;
        issuer.fault_at(Document::Keys, Fault::Status(500));
        issuer.fault_at(Document::Discovery, Fault::Hang);

        assert_eq!(verdict(&issuer, &introspection, &issuer.token().opaque()).await, "accepted");
    }
}

mod building {
    use super::*;

    #[test]
    fn what_would_leak_or_could_not_work_is_refused() {
        let build = |endpoint: &str| Introspection::builder(endpoint, "client", "secret").build();
        for (endpoint, expected) in [
            ("http://id.example.com/introspect", UrlProblem::Insecure),
            ("https://user:password@id.example.com/introspect", UrlProblem::Credentials),
            ("/introspect", UrlProblem::Unreadable),
        ] {
            let error = build(endpoint).expect_err("it is refused");
            assert!(
                matches!(&error, BuildError::IntrospectionEndpoint { problem, .. } if *problem == expected),
                "{error:?}"
            );
        }

        let builder = || Introspection::builder("https://id.example.com/introspect", "client", "secret");
        assert!(builder().build().is_ok());
        for refused in [
            builder().cache_ttl(seconds(61)),
            builder().cache_bytes(1024),
            builder().max_in_flight(0),
            builder().deadline(seconds(61)),
        ] {
            let error = refused.build().expect_err("it is out of range");
            assert!(matches!(error, BuildError::Limits(LimitsError::Range { .. })), "{error:?}");
        }
        assert!(matches!(builder().name("a b").build(), Err(BuildError::Name { .. })));
        assert!(matches!(builder().root_certificates_pem("").build(), Err(BuildError::RootCertificate(_))));
    }

    #[test]
    fn the_secret_is_not_shown() {
        let introspection = Introspection::builder("https://id.example.com/introspect", "client", "hidden").build();
        let introspection = introspection.expect("the settings hold");
        let shown = format!("{introspection:?} {:?}", introspection.inner.authorization);
        assert!(!shown.contains("hidden") && !shown.contains(&BASE64_STANDARD.encode("client:hidden")), "{shown}");
    }

    #[test]
    fn the_credentials_are_encoded_before_they_are_joined() {
        // RFC 6749 §2.3.1 and appendix B.
        let value = basic("a:b", "c d");
        assert_eq!(value.to_str().ok(), Some(format!("Basic {}", BASE64_STANDARD.encode("a%3Ab:c+d")).as_str()));
        assert!(value.is_sensitive());
    }
}
