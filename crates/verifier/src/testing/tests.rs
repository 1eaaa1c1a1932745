//! What the fake issuer's tokens, turns and faults do to a real verifier with its real client. Time is tokio's: it is
//! moved where a test says so, and otherwise goes on by itself, because sockets do.

use std::time::Duration;

use keywheel_jose::{AccessTokenClaims, Algorithm, DpopRejection, DpopRequest, Rejection, Timestamp};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{advance, pause, resume, timeout};

use super::*;
use crate::{DpopSettings, Health, Limits, Nonce, Presented, Verifier, VerifyError};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes tokio's clock jump.
async fn pass(duration: Duration) {
    pause();
    advance(duration).await;
    resume();
}

/// Lets everybody else work until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            yield_now().await;
        }
    };
    assert!(timeout(seconds(20), waiting).await.is_ok(), "{what}");
}

async fn verify(verifier: &Verifier, token: TokenBuilder) -> Result<AccessTokenClaims, VerifyError> {
    verifier.verify::<AccessTokenClaims>(&token.sign()).await.map(|verified| verified.claims().clone())
}

/// The code of the refusal.
async fn refusal(verifier: &Verifier, token: TokenBuilder) -> &'static str {
    match verify(verifier, token).await {
        Ok(_) => "accepted",
        Err(VerifyError::Rejected(rejection)) => rejection.code(),
        Err(VerifyError::KeysUnavailable { .. }) => "keys unavailable",
        Err(_) => "another error",
    }
}

/// A verifier that holds the issuer's set.
async fn ready(issuer: &FakeIssuer) -> Verifier {
    let verifier = issuer.verifier().build().expect("the settings hold");
    assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
    verifier
}

fn generation(verifier: &Verifier) -> Option<u64> {
    match verifier.health() {
        Health::Ok { generation, .. } => Some(generation),
        _ => None,
    }
}

mod tokens {
    use super::*;

    #[tokio::test]
    async fn a_token_says_what_it_was_told_to() {
        let issuer = FakeIssuer::in_memory();
        let verifier = ready(&issuer).await;
        let token = issuer.token().subject("bob").scope("read").scope("write").role("admin").claim("sid", "s1");

        let claims = verify(&verifier, token).await.expect("it holds");

        assert_eq!((claims.iss.as_str(), claims.sub.as_str()), (issuer.issuer(), "bob"));
        assert_eq!(claims.scope.as_deref(), Some("read write"));
        assert_eq!(claims.roles, ["admin"]);
        assert_eq!(claims.sid.as_deref(), Some("s1"));
        assert_eq!(claims.exp.duration_since(claims.iat), seconds(600));
    }

    #[tokio::test]
    async fn each_wrong_token_is_refused_for_what_is_wrong_with_it() {
        let issuer = FakeIssuer::in_memory();
        let verifier = ready(&issuer).await;

        for (token, code) in [
            (issuer.token().expired(), "expired"),
            (issuer.token().audience("https://elsewhere.example"), "wrong_audience"),
            (issuer.token().claim("iss", "https://elsewhere.example"), "wrong_issuer"),
            (issuer.token().without_claim("exp"), "missing_claim"),
            (issuer.token().header("typ", "JWT"), "wrong_type"),
            (issuer.token().header("alg", "none"), "unsupported_algorithm"),
            (issuer.token().forged(), "bad_signature"),
            (issuer.token().signed_by_unknown_key(), "unknown_kid"),
            (issuer.token().bound_to("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"), "sender_constrained"),
            (issuer.token().bound_to_certificate("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"), "sender_constrained"),
        ] {
            assert_eq!(refusal(&verifier, token).await, code);
        }
    }

    #[tokio::test]
    async fn every_algorithm_signs_what_a_verifier_accepts() {
        let issuer = FakeIssuer::builder().algorithms(Algorithm::ALL).in_memory();
        let verifier = ready(&issuer).await;

        for algorithm in Algorithm::ALL {
            let verified = verifier.verify::<AccessTokenClaims>(&issuer.token().algorithm(algorithm).sign()).await;
            assert_eq!(verified.expect("it holds").algorithm(), Some(algorithm));
        }
        assert_eq!(issuer.kids().len(), 2 * Algorithm::ALL.len());
    }

    #[tokio::test]
    async fn a_token_ages_with_the_clock() {
        let issuer = FakeIssuer::builder().clock(TestClock::stopped_at(Timestamp::from_unix(1_000))).in_memory();
        let verifier = issuer.verifier().build().expect("the settings hold");
        let token = issuer.token().expires_in(seconds(100));
        assert_eq!(refusal(&verifier, token.clone()).await, "accepted");

        // The leeway is 30 s.
        issuer.clock().advance(seconds(129));
        assert_eq!(refusal(&verifier, token.clone()).await, "accepted");
        issuer.clock().advance(seconds(1));
        assert_eq!(refusal(&verifier, token.clone()).await, "expired");
        issuer.clock().set_back(seconds(1));
        assert_eq!(refusal(&verifier, token).await, "accepted");
    }
}

mod possession {
    use super::*;

    const URL: &str = "https://api.example.com/orders";

    async fn present(verifier: &Verifier, token: &str, proof: &ProofBuilder) -> Result<(), VerifyError> {
        let proof = proof.sign();
        let request = DpopRequest { proof: &proof, method: "GET", url: URL };
        let presented = Presented::dpop(token, request);
        verifier.verify_presented::<AccessTokenClaims>(&presented).await.map(drop)
    }

    #[tokio::test]
    async fn a_proof_opens_what_is_bound_to_its_key_and_once() {
        let issuer = FakeIssuer::in_memory();
        let verifier = ready(&issuer).await;
        let (key, other) = (DpopKey::generate(), DpopKey::generate());
        let token = issuer.token().bound_to(key.thumbprint()).sign();
        let proof = key.proof("GET", URL).access_token(&token);

        assert_eq!(present(&verifier, &token, &proof).await, Ok(()));
        let again = present(&verifier, &token, &proof).await;
        let by_another = present(&verifier, &token, &other.proof("GET", URL).access_token(&token)).await;
        let for_another = present(&verifier, &token, &key.proof("POST", URL).access_token(&token)).await;

        assert_eq!(again, Err(VerifyError::ProofRejected(DpopRejection::Replayed)));
        assert!(matches!(by_another, Err(VerifyError::Rejected(Rejection::ProofMismatch { .. }))), "{by_another:?}");
        assert!(matches!(for_another, Err(VerifyError::ProofRejected(_))), "{for_another:?}");
    }

    #[tokio::test]
    async fn a_proof_carries_the_nonce_that_was_asked_for() {
        let issuer = FakeIssuer::in_memory();
        let settings = DpopSettings { nonce: Nonce::Required, ..DpopSettings::default() };
        let verifier = issuer.verifier().dpop(settings).build().expect("the settings hold");
        let key = DpopKey::generate();
        let token = issuer.token().bound_to(key.thumbprint()).sign();

        let asked = present(&verifier, &token, &key.proof("GET", URL).access_token(&token)).await;

        let Err(VerifyError::UseDpopNonce { nonce }) = asked else { panic!("{asked:?}") };
        let answer = key.proof("GET", URL).access_token(&token).nonce(nonce);
        assert_eq!(present(&verifier, &token, &answer).await, Ok(()));
    }
}

mod turns {
    use super::*;

    #[tokio::test]
    async fn an_announced_key_is_accepted_without_a_fetch() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        let before = issuer.token();
        let (old, announced) = (issuer.kid(), issuer.kids()[1].clone());

        issuer.rotate();

        assert_eq!((issuer.kid(), issuer.kids().len()), (announced, 3));
        assert_eq!(refusal(&verifier, before.signed_by(old)).await, "accepted");
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
        assert_eq!(issuer.requests(Document::Keys), 1);
    }

    #[tokio::test]
    async fn keys_that_come_without_notice_cost_one_fetch() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        pass(seconds(6)).await;

        issuer.replace_all_keys();

        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
        assert_eq!((issuer.requests(Document::Discovery), issuer.requests(Document::Keys)), (1, 2));
        assert_eq!(generation(&verifier), Some(2));
    }

    #[tokio::test]
    async fn the_steps_of_a_rotation_can_be_taken_one_by_one() {
        let issuer = FakeIssuer::in_memory();
        let [first, second] = &issuer.kids()[..] else { panic!("one key signs and one waits") };

        let announced = issuer.announce();
        assert_eq!((&announced[..2], announced.len()), (&[first.clone(), second.clone()][..], 3));
        issuer.sign_next();
        assert_eq!(&issuer.kid(), second);
        assert!(issuer.kids().contains(first));
        issuer.retire();
        assert_eq!(issuer.kids(), [second.clone(), announced[2].clone()]);
        issuer.sign_next();
        issuer.sign_next();
        assert_eq!(issuer.kids().len(), 3, "a key that signs unannounced, and two that have signed");
    }

    #[tokio::test]
    async fn a_revoked_key_is_refused_from_the_next_fetch_on() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        let revoked = issuer.kid();
        issuer.revoke(&revoked);
        assert!(!issuer.kids().contains(&revoked));
        assert_eq!(issuer.kids().len(), 2);
        let stolen = || issuer.token().signed_by(&revoked);
        assert_eq!(refusal(&verifier, stolen()).await, "accepted");

        pass(seconds(60)).await;
        until("a scheduled fetch brings the new set", || generation(&verifier) == Some(2)).await;

        assert_eq!(refusal(&verifier, stolen()).await, "unknown_kid");
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
    }

    #[tokio::test]
    async fn an_unchanged_set_is_not_sent_again() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;

        pass(seconds(60)).await;
        let is_renewed = || matches!(verifier.health(), Health::Ok { age, .. } if age < seconds(30));
        until("the set is renewed", is_renewed).await;

        assert_eq!(issuer.requests(Document::Keys), 2);
        assert_eq!(generation(&verifier), Some(1));
    }
}

mod faults {
    use super::*;

    /// Those that bring an answer, or the end of a connection, at once.
    fn quick() -> Vec<Fault> {
        vec![
            Fault::Down,
            Fault::ResetMidBody,
            Fault::Status(500),
            Fault::Status(404),
            Fault::Redirect("http://127.0.0.1:1/jwks".to_owned()),
            Fault::Garbage,
            Fault::HtmlOk,
            Fault::Huge { bytes: 300 * 1024 },
            Fault::Huge { bytes: 100 * 1024 * 1024 },
        ]
    }

    /// Those that a deadline ends.
    fn slow() -> Vec<Fault> {
        vec![Fault::Hang, Fault::Drip { every: seconds(1) }, Fault::Slow(seconds(15))]
    }

    async fn both() -> [FakeIssuer; 2] {
        [FakeIssuer::start().await, FakeIssuer::in_memory()]
    }

    /// The verdict on a token, after so much time has been waited for an answer once the request was there.
    async fn refusal_after(
        wait: Duration,
        document: Document,
        issuer: &FakeIssuer,
        verifier: &Verifier,
        token: TokenBuilder,
    ) -> &'static str {
        let next = issuer.requests(document) + 1;
        let waiting = async {
            issuer.requested(document, next).await;
            pass(wait).await;
        };
        tokio::join!(refusal(verifier, token), waiting).0
    }

    /// The set that was held stays in use, and when all is well again the next fetch brings the new one.
    async fn assert_old_set_is_kept(issuer: &FakeIssuer, verifier: &Verifier, fault: &Fault, old_kid: &str) {
        let known = issuer.token().signed_by(old_kid);
        assert_eq!(refusal(verifier, known).await, "accepted", "{fault:?}");
        assert_eq!(generation(verifier), Some(1), "{fault:?}");
        issuer.heal();
        pass(seconds(6)).await;
        assert_eq!(refusal(verifier, issuer.token()).await, "accepted", "after {fault:?}");
        assert_eq!(generation(verifier), Some(2), "after {fault:?}");
    }

    #[tokio::test]
    async fn while_a_set_is_held_a_broken_answer_changes_nothing() {
        for fault in quick().into_iter().chain([Fault::EmptySet]) {
            for issuer in both().await {
                let verifier = ready(&issuer).await;
                let old_kid = issuer.kid();
                issuer.replace_all_keys();
                issuer.fault(fault.clone());
                pass(seconds(6)).await;

                assert_eq!(refusal(&verifier, issuer.token()).await, "unknown_kid", "{fault:?}");

                assert_old_set_is_kept(&issuer, &verifier, &fault, &old_kid).await;
            }
        }
    }

    #[tokio::test]
    async fn while_a_set_is_held_an_answer_that_does_not_come_changes_nothing() {
        for fault in slow() {
            for issuer in both().await {
                let verifier = ready(&issuer).await;
                let old_kid = issuer.kid();
                issuer.replace_all_keys();
                issuer.fault(fault.clone());
                pass(seconds(6)).await;

                // One exchange may take 10 s, a fetch from elsewhere 20 s.
                let wait = if issuer.issuer().starts_with("http:") { seconds(11) } else { seconds(21) };
                let verdict = refusal_after(wait, Document::Keys, &issuer, &verifier, issuer.token()).await;

                if verdict == "accepted" {
                    // In memory, where 20 s are allowed, 15 s are only slow.
                    assert_eq!((&fault, wait), (&Fault::Slow(seconds(15)), seconds(21)));
                    continue;
                }
                assert_eq!(verdict, "unknown_kid", "{fault:?}");
                assert_old_set_is_kept(&issuer, &verifier, &fault, &old_kid).await;
            }
        }
    }

    #[tokio::test]
    async fn without_a_set_a_broken_answer_means_503_and_never_401() {
        for fault in quick().into_iter().chain([Fault::ForeignIssuer, Fault::EmptySet, Fault::Status(304)]) {
            for issuer in both().await {
                issuer.fault(fault.clone());
                let verifier = issuer.verifier().build().expect("the settings hold");

                assert_eq!(refusal(&verifier, issuer.token()).await, "keys unavailable", "{fault:?}");
                assert_eq!(refusal(&verifier, issuer.token().forged()).await, "keys unavailable", "{fault:?}");
                let Health::Unavailable { retry_after } = verifier.health() else { panic!("{fault:?}") };
                assert!(retry_after >= seconds(1) && retry_after <= seconds(10), "{fault:?}: {retry_after:?}");

                issuer.heal();
                pass(seconds(11)).await;
                assert_eq!(refusal(&verifier, issuer.token()).await, "accepted", "after {fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn without_a_set_an_answer_that_does_not_come_means_503_too() {
        for fault in slow() {
            let issuer = FakeIssuer::start().await;
            issuer.fault(fault.clone());
            let verifier = issuer.verifier().build().expect("the settings hold");

            let token = issuer.token();
            let verdict = refusal_after(seconds(11), Document::Discovery, &issuer, &verifier, token).await;

            assert_eq!(verdict, "keys unavailable", "{fault:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_merely_slow_is_an_answer() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        issuer.replace_all_keys();
        issuer.fault(Fault::Slow(seconds(5)));
        pass(seconds(6)).await;

        let verdict = refusal_after(seconds(6), Document::Keys, &issuer, &verifier, issuer.token()).await;

        assert_eq!(verdict, "accepted");
    }

    #[tokio::test]
    async fn an_outage_is_survived_until_trust_ends() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        // An age of days must not matter to the token.
        issuer.clock().stop_at(issuer.clock().now());
        issuer.fault(Fault::Down);

        assert!(matches!(verifier.health(), Health::Ok { .. }));
        pass(seconds(61)).await;
        assert!(matches!(verifier.health(), Health::Stale { .. }), "{:?}", verifier.health());
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
        pass(seconds(3530)).await;
        assert!(matches!(verifier.health(), Health::Stale { .. }), "{:?}", verifier.health());
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
        pass(seconds(20)).await;
        assert!(matches!(verifier.health(), Health::Unavailable { .. }), "{:?}", verifier.health());
        assert_eq!(refusal(&verifier, issuer.token()).await, "keys unavailable");

        issuer.heal();
        pass(seconds(11)).await;
        until("the set is fetched without any request", || generation(&verifier).is_some()).await;
        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
    }

    #[tokio::test]
    async fn discovery_alone_may_fail_once_it_has_been_read() {
        let issuer = FakeIssuer::start().await;
        let verifier = ready(&issuer).await;
        issuer.fault_at(Document::Discovery, Fault::Status(500));
        issuer.replace_all_keys();
        pass(seconds(6)).await;

        assert_eq!(refusal(&verifier, issuer.token()).await, "accepted");
    }

    #[tokio::test]
    async fn a_key_that_was_published_with_its_private_half_is_refused_and_the_others_serve() {
        for issuer in both().await {
            let verifier = ready(&issuer).await;
            let announced = issuer.kids()[1].clone();
            issuer.fault(Fault::PrivateKeyInSet);
            pass(seconds(6)).await;

            // An unknown kid brings the set.
            assert_eq!(refusal(&verifier, issuer.token().signed_by_unknown_key()).await, "unknown_kid");

            assert_eq!(refusal(&verifier, issuer.token()).await, "unknown_kid");
            assert_eq!(refusal(&verifier, issuer.token().signed_by(announced)).await, "accepted");
        }
    }

    #[tokio::test]
    async fn the_content_type_does_not_matter() {
        let issuer = FakeIssuer::start().await;
        issuer.fault(Fault::WrongContentType);

        ready(&issuer).await;
    }

    #[tokio::test]
    async fn headers_about_time_decide_how_long_a_set_is_used() {
        // Fresh for, trusted for: see `Limits`.
        for (headers, fresh, trusted) in [
            (vec![], 60, 3600),
            (vec![("cache-control", "no-store")], 5, 3600),
            (vec![("cache-control", "max-age=999999")], 3600, 3600),
            (vec![("cache-control", "max-age=tomorrow")], 5, 3600),
            (vec![("age", "30")], 30, 3570),
            (vec![("age", "999999")], 5, 5),
            (vec![("age", "-1")], 60, 3600),
            (vec![("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("expires", "0")], 60, 3600),
        ] {
            for issuer in both().await {
                issuer.fault(Fault::headers(headers.clone()));
                let verifier = ready(&issuer).await;
                issuer.fault(Fault::Down);

                pass(seconds(fresh - 1)).await;
                assert!(matches!(verifier.health(), Health::Ok { .. }), "{headers:?} {:?}", verifier.health());
                pass(seconds(1)).await;
                if fresh < trusted {
                    assert!(matches!(verifier.health(), Health::Stale { .. }), "{headers:?} {:?}", verifier.health());
                    pass(seconds(trusted - fresh)).await;
                }
                assert!(matches!(verifier.health(), Health::Unavailable { .. }), "{headers:?} {:?}", verifier.health());
            }
        }
    }

    #[tokio::test]
    async fn a_redirect_leads_nowhere() {
        let elsewhere = FakeIssuer::start().await;
        let issuer = FakeIssuer::start().await;
        issuer.fault_at(Document::Keys, Fault::Redirect(elsewhere.jwks_url()));
        let verifier = issuer.verifier().build().expect("the settings hold");

        let smuggled = elsewhere.token().claim("iss", issuer.issuer());

        assert_eq!(refusal(&verifier, smuggled).await, "keys unavailable");
        assert_eq!(elsewhere.requests(Document::Keys), 0);
        assert!(issuer.requests(Document::Keys) > 0);
    }
}

mod the_server {
    use super::*;

    #[tokio::test]
    async fn the_port_is_closed_while_it_is_down_and_when_it_is_dropped() {
        let issuer = FakeIssuer::start().await;
        let address = issuer.issuer().strip_prefix("http://").expect("it is on loopback").to_owned();
        let is_open = async || TcpStream::connect(&address).await.is_ok();
        assert!(is_open().await);

        issuer.fault(Fault::Down);
        let refused = async { while is_open().await {} };
        assert!(timeout(seconds(20), refused).await.is_ok());
        issuer.heal();
        let open = async { while !is_open().await {} };
        assert!(timeout(seconds(20), open).await.is_ok());
        drop(issuer);
        let refused = async { while is_open().await {} };
        assert!(timeout(seconds(20), refused).await.is_ok());
    }

    #[tokio::test]
    async fn it_answers_nothing_else() {
        let issuer = FakeIssuer::start().await;
        let limits = Limits::default();
        let verifier = issuer.verifier().limits(limits).jwks_url(format!("{}/elsewhere", issuer.issuer()));
        let verifier = verifier.build().expect("the settings hold");

        assert_eq!(refusal(&verifier, issuer.token()).await, "keys unavailable");
        assert_eq!(issuer.requests(Document::Keys), 0);
    }
}
