//! The cache as its user sees it. Time is tokio's, paused: it moves only where a test lets it pass.

use keywheel_jose::AccessTokenClaims;
use serde_json::json;
use tokio::time::sleep;

use super::*;
use crate::fixtures::{Answer, ISSUED_AT, ISSUER, ScriptedIssuer, Signer, key_set, policy};

mod dpop;
mod opaque;
mod several;
mod token_cache;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets virtual time pass; what is due meanwhile runs at its instant.
async fn pass(duration: Duration) {
    sleep(duration).await;
}

fn start(issuer: &ScriptedIssuer) -> Verifier {
    start_with(issuer, Limits::default())
}

fn start_with(issuer: &ScriptedIssuer, limits: Limits) -> Verifier {
    Verifier::builder(policy()).limits(limits).fetch_keys_with(issuer.clone()).build().expect("the settings hold")
}

/// A verifier that holds its first set.
async fn ready(issuer: &ScriptedIssuer, limits: Limits) -> Verifier {
    let verifier = start_with(issuer, limits);
    pass(Duration::from_millis(1)).await;
    assert!(matches!(verifier.health(), Health::Ok { .. }), "{:?}", verifier.health());
    verifier
}

fn verify_now(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify_now_at::<AccessTokenClaims>(token, ISSUED_AT).map(drop)
}

async fn verify(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify_at::<AccessTokenClaims>(token, ISSUED_AT).await.map(drop)
}

fn is_unknown_kid(verdict: &Result<(), VerifyError>) -> bool {
    matches!(verdict, Err(VerifyError::Rejected(Rejection::UnknownKid { .. })))
}

fn is_unavailable(verdict: &Result<(), VerifyError>) -> bool {
    matches!(verdict, Err(VerifyError::KeysUnavailable { .. }))
}

mod the_first_set {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_before_the_first_answer_waits_for_it_and_asks_no_second_time() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::After(seconds(2), Box::new(Answer::Document(key_set(&[&signer]), 60))));
        let verifier = start(&issuer);

        let verdict = verify(&verifier, &signer.token()).await;

        assert_eq!(verdict, Ok(()));
        assert_eq!(issuer.fetch_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_while_its_caller_waits_is_refused() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::After(seconds(3), Box::new(Answer::Document(key_set(&[&signer]), 60))));
        let verifier = start(&issuer);
        // With the leeway it has two seconds left.
        let ends = ISSUED_AT - policy().leeway() + seconds(2);

        let verdict = verify(&verifier, &signer.token_with(json!({"exp": ends}))).await;

        assert!(matches!(verdict, Err(VerifyError::Rejected(Rejection::Expired { .. }))), "{verdict:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn verify_now_before_the_first_answer_says_when_to_come_again() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = start(&issuer);

        let verdict = verify_now(&verifier, &signer.token());

        assert_eq!(verdict, Err(VerifyError::KeysUnavailable { retry_after: seconds(5) }));
        assert!(matches!(verifier.health(), Health::Unavailable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn without_keys_a_token_no_key_could_save_is_refused_all_the_same() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Down);
        let verifier = start(&issuer);
        pass(seconds(1)).await;

        let garbage = verify(&verifier, "garbage").await;
        let expired = verify(&verifier, &Signer::new("a").token_with(json!({"exp": 1}))).await;

        assert!(matches!(garbage, Err(VerifyError::Rejected(Rejection::WrongPartCount { .. }))), "{garbage:?}");
        assert!(matches!(expired, Err(VerifyError::Rejected(Rejection::Expired { .. }))), "{expired:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_starts_late_is_found_without_any_request() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Down);
        let verifier = start(&issuer);
        pass(seconds(600)).await;
        assert!(is_unavailable(&verify_now(&verifier, &signer.token())));
        issuer.answers(Answer::Document(key_set(&[&signer]), 60));

        // Ten seconds: without keys no pause is longer.
        pass(seconds(10)).await;

        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_keys_share_the_cooldown() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Down);
        let verifier = start(&issuer);
        let token = Signer::new("a").token();
        pass(Duration::from_millis(100)).await;
        let before = issuer.fetch_count();

        for _ in 0..1000 {
            assert!(is_unavailable(&verify(&verifier, &token).await));
        }

        assert_eq!(issuer.fetch_count(), before);
    }
}

mod two_clocks {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_set_is_replaced_before_it_goes_stale_and_nobody_waits() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;

        // An hour of sets that are fresh for a minute.
        for _ in 0..3600 {
            pass(seconds(1)).await;
            assert!(matches!(verifier.health(), Health::Ok { .. }));
            assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
        }

        let fetches = issuer.fetches();
        let gaps: Vec<_> = fetches.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        let expected = seconds(42)..=Duration::from_millis(54_010);
        assert!(gaps.iter().all(|gap| expected.contains(gap)), "{gaps:?}");
        assert!(gaps.iter().any(|gap| gap != &gaps[0]), "the instants are jittered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_announced_is_known_without_any_search() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&old, &new]), 60));

        pass(seconds(60)).await;

        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
        assert_eq!(verify_now(&verifier, &old.token()), Ok(()));
        assert!(matches!(verifier.health(), Health::Ok { generation: 2, .. }), "{:?}", verifier.health());
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_key_is_refused_after_the_fresh_time() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old, &new]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&new]), 60));

        pass(seconds(60)).await;

        assert!(is_unknown_kid(&verify_now(&verifier, &old.token())));
    }

    #[tokio::test(start_paused = true)]
    async fn not_modified_renews_the_set_it_was_asked_about() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::NotModified(60));

        pass(seconds(7200)).await;

        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
        assert!(matches!(verifier.health(), Health::Ok { generation: 1, .. }), "{:?}", verifier.health());
        let etags: Vec<_> = issuer.fetches().into_iter().map(|fetch| fetch.etag).collect();
        assert_eq!(etags[0], None);
        assert!(etags[1..].iter().all(|etag| etag.as_deref() == Some("\"1\"")), "{etags:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn not_modified_without_a_set_is_no_answer() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::NotModified(60));
        let verifier = start(&issuer);

        pass(seconds(60)).await;

        assert!(matches!(verifier.health(), Health::Unavailable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn issuer_down_between_fresh_and_trusted_still_verifies() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);

        pass(seconds(3590)).await;

        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
        assert_eq!(verify(&verifier, &signer.token()).await, Ok(()));
        let health = verifier.health();
        assert!(matches!(health, Health::Stale { trusted_for, .. } if trusted_for < seconds(11)), "{health:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_trusted_is_keys_unavailable_not_a_rejection() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);

        pass(seconds(3600)).await;

        assert!(is_unavailable(&verify_now(&verifier, &signer.token())));
        assert!(is_unavailable(&verify(&verifier, &signer.token()).await));
        assert!(is_unavailable(&verify_now(&verifier, &Signer::new("b").token())));
        assert!(matches!(verifier.health(), Health::Unavailable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn recovery_needs_nobody() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);
        pass(seconds(1800)).await;
        assert!(matches!(verifier.health(), Health::Stale { .. }));
        issuer.answers(Answer::Document(key_set(&[&signer]), 60));

        // A minute: while keys are held no pause is longer.
        pass(seconds(60)).await;

        assert!(matches!(verifier.health(), Health::Ok { generation: 1, .. }), "{:?}", verifier.health());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let _verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);

        pass(seconds(1860)).await;

        // Half an hour of pauses that average half a minute at most, after a few short ones: 60 or so. At a constant pace
        // of the shortest pause there would be 3600, of the longest 30.
        let failed = issuer.fetch_count() - 1;
        assert!((35..200).contains(&failed), "{failed} attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_floor_of_zero_does_not_make_a_busy_loop() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 0));
        let limits = Limits { freshness_floor: Duration::ZERO, ..Limits::default() };
        let verifier = start_with(&issuer, limits);

        pass(seconds(60)).await;

        assert!((100..=121).contains(&issuer.fetch_count()), "{} fetches", issuer.fetch_count());
        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_max_age_learnt_by_a_search_is_obeyed() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&signer]), 10));
        pass(seconds(10)).await;
        assert!(is_unknown_kid(&verify(&verifier, &Signer::new("invented").token()).await));
        assert_eq!(issuer.fetch_count(), 2);

        pass(seconds(10)).await;

        assert_eq!(issuer.fetch_count(), 3);
    }
}

mod unknown_kids {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_not_announced_is_fetched_for() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&old, &new]), 60));
        pass(seconds(6)).await;

        assert_eq!(verify(&verifier, &new.token()).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn verify_now_has_it_fetched_for_the_next_call() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&old, &new]), 60));
        pass(seconds(6)).await;

        assert!(is_unknown_kid(&verify_now(&verifier, &new.token())));
        pass(Duration::from_millis(1)).await;
        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn verify_now_works_on_a_thread_without_a_runtime() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;

        let verdicts = std::thread::spawn(move || {
            [signer.token(), Signer::new("invented").token()].map(|token| verify_now(&verifier, &token))
        });
        let [known, unknown] = verdicts.join().expect("the thread does not panic");

        assert_eq!(known, Ok(()));
        assert!(is_unknown_kid(&unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn invented_kids_cost_at_most_one_fetch_per_cooldown() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        let began = Instant::now();

        for number in 0..6000 {
            let verdict = verify(&verifier, &Signer::new(&format!("invented-{number}")).token()).await;
            assert!(is_unknown_kid(&verdict));
            pass(Duration::from_millis(10)).await;
        }

        assert_eq!(began.elapsed(), seconds(60), "no caller waited");
        assert!((11..=13).contains(&issuer.fetch_count()), "{} fetches in a minute", issuer.fetch_count());
        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_of_one_moment_share_one_fetch() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::After(seconds(1), Box::new(Answer::Document(key_set(&[&old, &new]), 60))));
        pass(seconds(6)).await;

        let callers: Vec<_> = (0..100)
            .map(|_| {
                let (verifier, token) = (verifier.clone(), new.token());
                Handle::current().spawn(async move { verify(&verifier, &token).await })
            })
            .collect();

        for caller in callers {
            assert_eq!(caller.await.expect("no panic"), Ok(()));
        }
        assert_eq!(issuer.fetch_count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_in_the_cooldown_has_its_answer_at_once() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Silence);
        pass(seconds(4)).await;
        let began = Instant::now();

        let verdict = verify(&verifier, &Signer::new("invented").token()).await;

        assert!(is_unknown_kid(&verdict));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(issuer.fetch_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cooldown_counts_from_the_end_of_the_last_attempt() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&Signer::new("a")]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Silence);
        pass(seconds(6)).await;
        assert!(is_unknown_kid(&verify(&verifier, &Signer::new("b").token()).await));
        assert_eq!(issuer.fetch_count(), 2);

        pass(Duration::from_millis(4900)).await;
        assert!(is_unknown_kid(&verify(&verifier, &Signer::new("c").token()).await));
        assert_eq!(issuer.fetch_count(), 2, "still cooling down");

        pass(Duration::from_millis(200)).await;
        assert!(is_unknown_kid(&verify(&verifier, &Signer::new("d").token()).await));
        assert_eq!(issuer.fetch_count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kid_that_a_fetch_did_not_bring_is_not_fetched_for_again_soon() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&Signer::new("a")]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        let token = Signer::new("staging").token();
        pass(seconds(6)).await;
        assert!(is_unknown_kid(&verify(&verifier, &token).await));
        assert_eq!(issuer.fetch_count(), 2);

        for _ in 0..28 {
            pass(seconds(1)).await;
            assert!(is_unknown_kid(&verify(&verifier, &token).await));
        }
        assert_eq!(issuer.fetch_count(), 2);

        // But not for good: the answer may have come from a replica that lags behind.
        pass(seconds(3)).await;
        assert!(is_unknown_kid(&verify(&verifier, &token).await));
        assert_eq!(issuer.fetch_count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kid_is_not_held_against_a_fetch_that_failed() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);
        pass(seconds(6)).await;
        assert!(is_unknown_kid(&verify(&verifier, &new.token()).await));
        issuer.answers(Answer::Document(key_set(&[&old, &new]), 60));

        pass(seconds(6)).await;

        assert_eq!(verify(&verifier, &new.token()).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_implausible_token_causes_no_fetch() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&Signer::new("a")]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        pass(seconds(6)).await;
        let stranger = Signer::new("invented");
        let tokens = [
            stranger.token_with(json!({"iss": "https://evil.example"})),
            stranger.token_with(json!({"aud": "https://other.example.com"})),
            stranger.token_with(json!({"exp": ISSUED_AT.as_unix() - 3600})),
            stranger.token_with(json!({"nbf": ISSUED_AT.as_unix() + 3600})),
            stranger.token_with(json!({"cnf": {"jkt": "0"}})),
        ];

        for token in &tokens {
            // The verdict is that of a plain check, whatever else is wrong.
            assert!(is_unknown_kid(&verify(&verifier, token).await));
            assert!(is_unknown_kid(&verify_now(&verifier, token)));
            pass(seconds(6)).await;
        }

        assert_eq!(issuer.fetch_count(), 1);
        assert!(is_unknown_kid(&verify(&verifier, &stranger.token()).await));
        assert_eq!(issuer.fetch_count(), 2, "the same key with plausible claims is looked for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_signature_causes_no_fetch() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 3600));
        let verifier = ready(&issuer, Limits::default()).await;
        pass(seconds(6)).await;
        let (token, other) = (signer.token(), signer.token_with(json!({"sub": "mallory"})));
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        let (_, signature) = other.rsplit_once('.').expect("three parts");

        let verdict = verify(&verifier, &format!("{signed}.{signature}")).await;

        assert_eq!(verdict, Err(VerifyError::Rejected(Rejection::BadSignature)));
        assert_eq!(issuer.fetch_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_waiter_does_not_cancel_the_fetch() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::After(seconds(3), Box::new(Answer::Document(key_set(&[&old, &new]), 60))));
        pass(seconds(6)).await;

        let impatient = tokio::time::timeout(seconds(1), verify(&verifier, &new.token())).await;
        assert!(impatient.is_err());
        pass(seconds(3)).await;

        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
        assert_eq!(issuer.fetch_count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_does_not_block_the_scheduled_refresh() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 10));
        let verifier = ready(&issuer, Limits { cooldown: seconds(3), ..Limits::default() }).await;
        // The storm's first fetch begins at 5 s and hangs; the set is due between 7 and 9 s.
        pass(seconds(5)).await;
        issuer.answers(Answer::Silence);
        assert!(is_unknown_kid(&verify_now(&verifier, &Signer::new("invented").token())));
        pass(Duration::from_millis(1)).await;
        assert_eq!(issuer.fetch_count(), 2);
        issuer.answers(Answer::Document(key_set(&[&signer]), 10));

        for number in 0..450 {
            assert!(is_unknown_kid(&verify_now(&verifier, &Signer::new(&format!("invented-{number}")).token())));
            pass(Duration::from_millis(10)).await;
            assert!(matches!(verifier.health(), Health::Ok { .. }), "at {number}: {:?}", verifier.health());
        }

        assert_eq!(issuer.fetch_count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_that_hangs_stays_the_only_one() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 10));
        let verifier = ready(&issuer, Limits { cooldown: seconds(1), ..Limits::default() }).await;
        // A search hangs from 5 to 25 s; the scheduled fetch between 7 and 9 s is answered.
        pass(seconds(5)).await;
        issuer.answers(Answer::Silence);
        assert!(is_unknown_kid(&verify_now(&verifier, &Signer::new("invented").token())));
        pass(Duration::from_millis(1)).await;
        issuer.answers(Answer::Document(key_set(&[&signer]), 3600));
        pass(seconds(5)).await;
        assert_eq!(issuer.fetch_count(), 3);

        for number in 0..10 {
            assert!(is_unknown_kid(&verify_now(&verifier, &Signer::new(&format!("invented-{number}")).token())));
            pass(seconds(1)).await;
        }

        assert_eq!(issuer.fetch_count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_one_fetch_is_in_flight_for_each_lane() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(key_set(&[&signer]), 10));
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Silence);

        for number in 0..6000 {
            verify_now(&verifier, &Signer::new(&format!("invented-{number}")).token()).expect_err("invented");
            pass(Duration::from_millis(20)).await;
        }

        assert_eq!(issuer.most_in_flight(), 2);
    }
}

mod answers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_never_overwrites_a_newer_one() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(&issuer, Limits::default()).await;
        // A search begins at 41 s and is answered at 56 s, with what was true at 41 s. The set is due between 42 and 54 s.
        pass(seconds(41)).await;
        issuer.answers(Answer::After(seconds(15), Box::new(Answer::Document(key_set(&[&old]), 60))));
        assert!(is_unknown_kid(&verify_now(&verifier, &new.token())));
        pass(Duration::from_millis(1)).await;
        assert_eq!(issuer.fetch_count(), 2);
        issuer.answers(Answer::Document(key_set(&[&new]), 3600));
        pass(Duration::from_millis(13_500)).await;
        assert_eq!(verify_now(&verifier, &new.token()), Ok(()), "the scheduled answer is there");
        assert_eq!(issuer.answered(), 2, "the other is not");

        pass(seconds(2)).await;

        assert_eq!(issuer.answered(), 3);
        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
        assert!(is_unknown_kid(&verify_now(&verifier, &old.token())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_useless_answer_keeps_the_old_set() {
        let signer = Signer::new("a");
        let body = key_set(&[&signer]);
        let huge = format!("{}{}", String::from_utf8_lossy(&body), " ".repeat(300 * 1024));
        let hundred_and_one: Vec<_> = (0..101).map(|number| Signer::new(&format!("k{number}"))).collect();
        let answers = [
            ("empty body", Answer::Document("".into(), 60)),
            ("HTML", Answer::Document("<!doctype html><title>Maintenance</title>".into(), 60)),
            ("cut off", Answer::Document(body.slice(..body.len() - 3), 60)),
            ("no set", Answer::Document("{}".into(), 60)),
            ("empty set", Answer::Document(r#"{"keys":[]}"#.into(), 60)),
            (
                "all refused",
                Answer::Document(r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"a"},{"kty":"AKP"}]}"#.into(), 60),
            ),
            ("too large", Answer::Document(huge.into(), 60)),
            ("too many keys", Answer::Document(key_set(&hundred_and_one.iter().collect::<Vec<_>>()), 60)),
            ("down", Answer::Down),
            ("silent", Answer::Silence),
        ];
        for (name, answer) in answers {
            let issuer = ScriptedIssuer::with_keys(&[&signer]);
            let verifier = ready(&issuer, Limits::default()).await;
            issuer.answers(answer);

            pass(seconds(120)).await;

            assert!(issuer.fetch_count() > 1, "{name}");
            assert_eq!(verify_now(&verifier, &signer.token()), Ok(()), "{name}");
            assert!(
                matches!(verifier.health(), Health::Stale { generation: 1, .. }),
                "{name}: {:?}",
                verifier.health()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_entry_does_not_spoil_the_set() {
        let signer = Signer::new("a");
        let good = serde_json::to_value(signer.jwk()).expect("a key is JSON");
        let set = json!({"keys": [{"kty": "AKP", "kid": "pq"}, 5, {"kty": "oct", "k": "AAAA"}, good]});
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(set.to_string().into(), 60));

        let verifier = ready(&issuer, Limits::default()).await;

        assert_eq!(verify_now(&verifier, &signer.token()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetcher_that_panics_is_one_that_failed() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Panic);
        pass(seconds(120)).await;
        assert!((3..20).contains(&issuer.fetch_count()), "{} fetches", issuer.fetch_count());
        issuer.answers(Answer::Document(key_set(&[&signer]), 60));

        pass(seconds(60)).await;

        assert!(matches!(verifier.health(), Health::Ok { .. }), "{:?}", verifier.health());
    }
}

mod whatever_happens {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What the issuer does for a while, and whether somebody invents a `kid` meanwhile.
    fn step() -> impl Strategy<Value = (Answer, Duration, bool)> {
        let known = key_set(&[&Signer::new("a")]);
        let answer = prop_oneof![
            (0..40_u64).prop_map(move |max_age| Answer::Document(known.clone(), max_age)),
            (0..40_u64).prop_map(Answer::NotModified),
            Just(Answer::Document("<html>".into(), 60)),
            Just(Answer::Document(r#"{"keys":[]}"#.into(), 60)),
            Just(Answer::Down),
            Just(Answer::Silence),
            Just(Answer::Panic),
        ];
        let late = (answer, 0..25_000_u64).prop_map(|(answer, late)| match late {
            0..10_000 => answer,
            late => Answer::After(Duration::from_millis(late - 10_000), Box::new(answer)),
        });
        (late, (1..40_000_u64).prop_map(Duration::from_millis), any::<bool>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn keys_are_used_exactly_as_long_as_they_are_trusted(steps in vec(step(), 1..30)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let limits = Limits { freshness_ceiling: seconds(30), freshness_default: seconds(30), trusted: seconds(60), ..Limits::default() };
                let issuer = ScriptedIssuer::default();
                issuer.answers(Answer::Down);
                let verifier = start_with(&issuer, limits);
                let (good, invented) = (Signer::new("a").token(), Signer::new("invented").token());

                for (answer, pause, somebody_invents) in steps {
                    issuer.answers(answer);
                    if somebody_invents {
                        verify_now(&verifier, &invented).expect_err("nobody has this key");
                    }
                    pass(pause).await;

                    let trusted = issuer.last_good().is_some_and(|asked_at| asked_at.elapsed() < seconds(60));
                    let verdict = verify_now(&verifier, &good);
                    match trusted {
                        true => assert_eq!(verdict, Ok(())),
                        false => assert!(is_unavailable(&verdict), "{verdict:?}"),
                    }
                    assert!(issuer.most_in_flight() <= 2);
                }
            });
        }
    }
}

mod logs {
    use super::*;
    use crate::fixtures::Log;

    #[tokio::test(start_paused = true)]
    async fn a_published_private_key_is_refused_loudly_and_once() {
        let (log, _guard) = Log::capture();
        let good = serde_json::to_value(Signer::new("a").jwk()).expect("a key is JSON");
        let mut leaked = serde_json::to_value(Signer::new("leaked").jwk()).expect("a key is JSON");
        leaked["d"] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Document(json!({"keys": [good, leaked]}).to_string().into(), 60));

        let verifier = ready(&issuer, Limits::default()).await;
        pass(seconds(600)).await;

        let lines = log.lines_with("secret key material");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("ERROR") && lines[0].contains(r#"kid="leaked""#), "{lines:?}");
        assert!(log.lines_with("c2VjcmV0").is_empty(), "the secret itself is not repeated");
        assert!(is_unknown_kid(&verify_now(&verifier, &Signer::new("leaked").token())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_keys_is_one_line_that_names_them() {
        let (log, _guard) = Log::capture();
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let _verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Document(key_set(&[&new]), 60));

        pass(seconds(600)).await;

        let lines = log.lines_with("the key set has changed");
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains(r#"generation=2 keys=1 added="new" removed="old""#), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kid_is_logged_escaped_and_cut() {
        let (log, _guard) = Log::capture();
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let verifier = ready(&issuer, Limits::default()).await;
        pass(seconds(6)).await;

        verify_now(&verifier, &Signer::new("k\n\u{1b}[31m").token()).expect_err("an unknown kid");

        let lines = log.lines_with("that is not in it");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(r#"kid="k\n\u{1b}[31m""#), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_a_warning_while_keys_are_held_and_an_error_without() {
        let (log, _guard) = Log::capture();
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let _verifier = ready(&issuer, Limits::default()).await;
        issuer.answers(Answer::Down);

        pass(seconds(3590)).await;
        assert!(log.lines_with("ERROR").is_empty());
        let warnings = log.lines_with("WARN");
        assert!(warnings[0].contains("connection refused"), "the whole chain of causes: {warnings:?}");

        pass(seconds(60)).await;
        assert!(!log.lines_with("ERROR").is_empty());
    }
}

mod the_end {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn background_work_ends_with_the_last_clone() {
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let verifier = ready(&issuer, Limits::default()).await;
        let clone = verifier.clone();
        drop(verifier);
        pass(seconds(120)).await;
        let fetches = issuer.fetch_count();
        assert!(fetches > 1, "the clone keeps it going");

        drop(clone);
        pass(seconds(3600)).await;

        assert_eq!(issuer.fetch_count(), fetches);
        assert_eq!(issuer.holders(), 1, "nothing holds the key source any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_in_flight_ends_too() {
        let issuer = ScriptedIssuer::default();
        issuer.answers(Answer::Silence);
        let verifier = start(&issuer);
        pass(seconds(1)).await;
        assert_eq!(issuer.fetch_count(), 1);

        drop(verifier);
        pass(Duration::from_millis(1)).await;

        assert_eq!(issuer.holders(), 1);
    }
}

mod building {
    use super::*;

    fn refused(builder: VerifierBuilder) -> String {
        match builder.build() {
            Ok(_) => panic!("expected a refusal"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn an_issuer_must_be_a_url_that_can_be_asked_safely() {
        let refuse = |issuer: &str| refused(Verifier::builder(Policy::access_token(issuer, "a")));
        assert_eq!(refuse("id.example.com"), r#"the issuer "id.example.com" is no absolute URL"#);
        let insecure = r#"the issuer "http://id.example.com" is neither https nor http on a loopback address"#;
        assert_eq!(refuse("http://id.example.com"), insecure);
        assert!(refuse("http://localhost.example.com").ends_with("is neither https nor http on a loopback address"));
        assert!(refuse("http://127.0.0.1.example.com").ends_with("is neither https nor http on a loopback address"));
        assert!(refuse("ftp://127.0.0.1").ends_with("is neither https nor http on a loopback address"));
        assert!(refuse("https://alice:secret@id.example.com").ends_with("carries a user name or password"));
        assert!(
            refuse("https://id.example.com/?tenant=1").ends_with("has a query or a fragment, which an issuer must not")
        );
    }

    #[tokio::test]
    async fn a_loopback_issuer_may_do_without_tls() {
        for issuer in ["http://localhost:8080", "http://127.0.0.1:8080", "http://127.8.8.8", "http://[::1]:8080/tenant"]
        {
            assert!(Verifier::builder(Policy::access_token(issuer, "a")).build().is_ok(), "{issuer}");
        }
    }

    #[tokio::test]
    async fn with_a_jwks_url_the_issuer_may_be_any_string() {
        let builder = || Verifier::builder(Policy::access_token("kubernetes/serviceaccount", "a"));
        assert!(builder().jwks_url("https://10.0.0.1/openid/v1/jwks").build().is_ok());
        let refusal = refused(builder().jwks_url("http://10.0.0.1/openid/v1/jwks"));
        assert!(refusal.ends_with("is neither https nor http on a loopback address"), "{refusal}");
        let refusal = refused(Verifier::builder(policy().insecure_any_issuer()));
        assert_eq!(refusal, "a policy without an issuer needs a jwks_url");
    }

    #[tokio::test]
    async fn a_name_must_fit_a_header() {
        for name in ["", "a b", "a\r\nX-Evil: 1", "a)", "é", &"x".repeat(65)] {
            let refusal = refused(Verifier::builder(policy()).name(name));
            assert!(refusal.starts_with("the name "), "{refusal}");
        }
        assert!(Verifier::builder(policy()).name("payments-eu.1_a").build().is_ok());
    }

    #[tokio::test]
    async fn a_root_certificate_must_be_one() {
        for builder in [
            Verifier::builder(policy()).root_certificates_pem("no certificate here"),
            Verifier::builder(policy())
                .root_certificates_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Verifier::builder(policy()).root_certificate_der([0; 10]),
        ] {
            assert_eq!(refused(builder), "a root certificate can't be read");
        }
    }

    #[tokio::test]
    async fn limits_that_contradict_each_other_are_refused() {
        let limits = Limits { freshness_floor: seconds(4000), ..Limits::default() };
        assert_eq!(refused(Verifier::builder(policy()).limits(limits)), "the limits do not hold");
    }

    #[test]
    fn without_a_runtime_there_is_no_verifier() {
        assert_eq!(refused(Verifier::builder(policy())), "there is no tokio runtime to fetch keys on");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_is_what_tokens_are_judged_by() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(&issuer, Limits::default()).await;
        let verdict_at = |exp: i64| {
            let token = signer.token_with(json!({"iat": exp - 60, "exp": exp}));
            verifier.verify_now::<AccessTokenClaims>(&token).map(drop)
        };

        let (past, future) = (verdict_at(system_now().as_unix() - 3600), verdict_at(system_now().as_unix() + 3600));

        assert!(matches!(past, Err(VerifyError::Rejected(Rejection::Expired { .. }))), "{past:?}");
        assert_eq!(future, Ok(()));
        assert_eq!(verifier.policies().next().and_then(Policy::issuer), Some(ISSUER));
    }
}
