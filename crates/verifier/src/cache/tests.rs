//! What breaks, what alarms, and what a storm does. The cache in ordinary use is tested with the verifier.

use keywheel_jose::{AccessTokenClaims, Rejection};
use serde_json::json;

use super::*;
use crate::fetch::FetchFuture;
use crate::fixtures::{Answer as Script, Counted, ISSUED_AT, Log, ScriptedIssuer, Signer, key_set, policy};
use crate::metrics::Metrics;
use crate::{Verifier, VerifyError};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets virtual time pass; what is due meanwhile runs at its instant.
async fn pass(duration: Duration) {
    sleep(duration).await;
}

/// A verifier that holds its first set.
async fn ready(fetcher: impl FetchKeys, metrics: impl Metrics) -> Verifier {
    let verifier = Verifier::builder(policy()).fetch_keys_with(fetcher).metrics(metrics).build();
    pass(Duration::from_millis(1)).await;
    verifier.expect("the settings hold")
}

fn verify_now(verifier: &Verifier, token: &str) -> Result<(), VerifyError> {
    verifier.verify_now_at::<AccessTokenClaims>(token, ISSUED_AT).map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_search_that_fails_does_not_move_the_schedule() {
    let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
    let cache = KeyCache::start(KeyCacheSettings {
        fetcher: Box::new(issuer.clone()),
        limits: Limits::default(),
        runtime: Handle::current(),
        meter: Meter::default(),
        warm_start: None,
        wall_clock: Arc::new(|| ISSUED_AT),
    });
    pass(seconds(6)).await;
    let before = cache.shared.ledger.refresh_at();
    issuer.answers(Script::Down);

    cache.search(Some("invented")).expect("the cooldown is over").landed().await;

    assert_eq!(issuer.fetch_count(), 2);
    assert_eq!(cache.shared.ledger.refresh_at(), before);
}

mod panics {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_source_that_panics_is_reported_and_asked_again() {
        let (log, _guard) = Log::capture();
        let counted = Counted::default();
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let verifier = ready(issuer.clone(), counted.clone()).await;
        issuer.answers(Script::Panic);

        pass(seconds(60)).await;
        let alarms = counted.of("alarm refresh_panicked").len();
        issuer.answers(Script::Document(key_set(&[&signer]), 60));
        pass(seconds(60)).await;

        let lines = log.lines_with("the key source panicked; it is started again");
        assert_eq!((lines.len(), alarms > 0), (alarms, true), "{lines:?}");
        assert!(lines[0].contains("ERROR") && lines[0].contains("keywheel_verifier::alarm"), "{lines:?}");
        assert!(lines[0].contains("the script says so"), "{lines:?}");
        assert_eq!(counted.of("fetched scheduled panicked").len(), alarms);
        assert!(matches!(verifier.health(), Health::Ok { .. }), "{:?}", verifier.health());
    }

    #[tokio::test(start_paused = true)]
    async fn panics_back_off_like_any_failure() {
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let _verifier = ready(issuer.clone(), Counted::default()).await;
        issuer.answers(Script::Panic);

        pass(seconds(1860)).await;

        let failed = issuer.fetch_count() - 1;
        assert!((35..200).contains(&failed), "{failed} attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_source_that_panics_before_it_does_anything_is_no_different() {
        struct Broken;
        impl FetchKeys for Broken {
            fn fetch<'a>(&'a self, _: Option<&'a str>) -> FetchFuture<'a> {
                panic!("not even a future")
            }
        }
        let counted = Counted::default();
        let verifier = ready(Broken, counted.clone()).await;

        let verdict = verifier.verify_at::<AccessTokenClaims>(&Signer::new("a").token(), ISSUED_AT).await;

        assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{verdict:?}");
        assert_eq!(counted.of("fetched").first().map(String::as_str), Some("fetched scheduled panicked 0ns"));
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_that_panic_stop_neither_a_verdict_nor_a_refresh() {
        struct Broken;
        impl Metrics for Broken {
            fn verified(&self) {
                panic!("verified")
            }
            fn rejected(&self, _: &'static str) {
                panic!("rejected")
            }
            fn unknown_kid(&self, _: UnknownKid) {
                panic!("unknown_kid")
            }
            fn fetched(&self, _: &FetchReport) {
                panic!("fetched")
            }
            fn keys_changed(&self, _: &crate::metrics::KeysChanged) {
                panic!("keys_changed")
            }
            fn alarm(&self, _: Alarm) {
                panic!("alarm")
            }
        }
        let (log, _guard) = Log::capture();
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let issuer = ScriptedIssuer::with_keys(&[&old]);
        let verifier = ready(issuer.clone(), Broken).await;
        assert_eq!(verify_now(&verifier, &old.token()), Ok(()));
        issuer.answers(Script::Document(key_set(&[&new]), 60));

        pass(seconds(60)).await;

        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
        assert!(matches!(verify_now(&verifier, &old.token()), Err(VerifyError::Rejected(_))));
        assert_eq!(log.lines_with("the metrics panicked").len(), 1, "once, not with each token");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_begun_again_after_each_panic() {
        let (mut runs, mut reports) = (0, Vec::new());
        let began = Instant::now();

        let run = || {
            runs += 1;
            let run = runs;
            async move {
                if run < 3 {
                    panic!("run {run}");
                }
            }
        };
        supervised(run, |message| {
            reports.push(message.to_owned());
            panic!("and so does the report");
        })
        .await;

        assert_eq!((runs, reports), (3, vec![r#""run 1""#.to_owned(), r#""run 2""#.to_owned()]));
        assert_eq!(began.elapsed(), SHORTEST_PAUSE * 2, "not in a busy loop");
    }
}

mod alarms {
    use super::*;

    /// What is logged and counted when an issuer with key "a" goes over to this set.
    async fn going_over_to(set: impl Into<bytes::Bytes>) -> (Vec<String>, Vec<String>, Verifier) {
        let (log, _guard) = Log::capture();
        let counted = Counted::default();
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let verifier = ready(issuer.clone(), counted.clone()).await;
        assert_eq!(log.lines_with("keywheel_verifier::alarm").len(), 0, "the first set is as good as any");
        issuer.answers(Script::Document(set.into(), 60));
        // Some ten fetches.
        pass(seconds(600)).await;
        (log.lines_with("keywheel_verifier::alarm"), counted.of("alarm"), verifier)
    }

    #[tokio::test(start_paused = true)]
    async fn an_ordinary_rotation_alarms_nobody() {
        let (lines, alarms, _) = going_over_to(key_set(&[&Signer::new("a"), &Signer::new("b")])).await;

        assert_eq!((lines, alarms), (vec![], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kid_that_names_another_key_is_an_alarm_and_the_new_key_is_used() {
        let impostor = Signer::new("impostor").named("a");

        let (lines, alarms, verifier) = going_over_to(key_set(&[&impostor])).await;

        assert_eq!(alarms, ["alarm kid_reused"]);
        assert!(lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains(r#"kid="a""#), "{lines:?}");
        assert_eq!(verify_now(&verifier, &impostor.token()), Ok(()));
        let verdict = verify_now(&verifier, &Signer::new("a").token());
        assert_eq!(verdict, Err(VerifyError::Rejected(Rejection::BadSignature)));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_all_replaced_at_once_are_an_alarm() {
        let (lines, alarms, _) = going_over_to(key_set(&[&Signer::new("b"), &Signer::new("c")])).await;

        assert_eq!(alarms, ["alarm all_keys_replaced"]);
        assert!(lines.len() == 1 && lines[0].contains("WARN"), "{lines:?}");
        assert!(lines[0].contains(r#"added="b" "c" removed="a""#), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn published_secrets_are_an_alarm_once_for_each() {
        let mut private = serde_json::to_value(Signer::new("leaked").jwk()).expect("a key is JSON");
        private["d"] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I");
        let good = serde_json::to_value(Signer::new("a").jwk()).expect("a key is JSON");
        let set = json!({"keys": [good, private, {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}]});

        let (lines, alarms, _) = going_over_to(set.to_string()).await;

        assert_eq!(alarms, ["alarm secret_published", "alarm secret_published"]);
        assert!(lines[0].contains(r#"kid="leaked""#) && lines[1].contains(r#"kid="shared""#), "{lines:?}");
        assert!(!lines.concat().contains("c2VjcmV0"), "the secrets themselves are not repeated");
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_of_nothing_but_secrets_is_an_alarm_once_and_not_used() {
        let set = json!({"keys": [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}]});

        let (lines, alarms, verifier) = going_over_to(set.to_string()).await;

        assert_eq!((lines.len(), alarms), (1, vec!["alarm secret_published".to_owned()]));
        assert_eq!(verify_now(&verifier, &Signer::new("a").token()), Ok(()), "the set before it is");
    }
}

mod told {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fetches_are_told_with_lane_outcome_and_duration() {
        let counted = Counted::default();
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Script::Document(key_set(&[&signer]), 3600));
        let verifier = ready(issuer.clone(), counted.clone()).await;
        let search = async |answer, kid: &str| {
            pass(seconds(6)).await;
            issuer.answers(answer);
            let token = Signer::new(kid).token();
            verifier.verify_at::<AccessTokenClaims>(&token, ISSUED_AT).await.expect_err("nobody has this key");
        };

        search(Script::After(seconds(2), Box::new(Script::NotModified(3600))), "b").await;
        search(Script::Document("<html>".into(), 60), "c").await;
        search(Script::Down, "d").await;

        let expected = [
            "fetched scheduled changed 0ns",
            "fetched search unchanged 2s",
            "fetched search refused 0ns",
            "fetched search failed 0ns",
        ];
        assert_eq!(counted.of("fetched"), expected);
        assert_eq!(counted.of("keys_changed"), ["keys_changed 1 1 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_told_as_such() {
        let counted = Counted::default();
        let issuer = ScriptedIssuer::with_keys(&[&Signer::new("a")]);
        let verifier = ready(issuer.clone(), counted.clone()).await;
        // The search is answered at 56 s; the set is due between 42 and 54 s.
        pass(seconds(41)).await;
        let old = Script::Document(key_set(&[&Signer::new("a")]), 60);
        issuer.answers(Script::After(seconds(15), Box::new(old)));
        verify_now(&verifier, &Signer::new("b").token()).expect_err("nobody has this key");
        pass(Duration::from_millis(1)).await;
        issuer.answers(Script::Document(key_set(&[&Signer::new("a"), &Signer::new("b")]), 3600));

        pass(seconds(20)).await;

        assert_eq!(counted.of("fetched search"), ["fetched search late 15s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_of_an_unknown_kid_is_told() {
        let counted = Counted::default();
        let issuer = ScriptedIssuer::default();
        issuer.answers(Script::Document(key_set(&[&Signer::new("a")]), 3600));
        let verifier = ready(issuer.clone(), counted.clone()).await;
        let look = |kid: &str| verify_now(&verifier, &Signer::new(kid).token()).expect_err("nobody has this key");

        look("b");
        pass(seconds(6)).await;
        look("b");
        look("c");
        pass(seconds(1)).await;
        look("b");

        let expected = ["cooling_down", "fetching", "joined", "settled"].map(|answer| format!("unknown_kid {answer}"));
        assert_eq!(counted.of("unknown_kid"), expected);
    }
}

mod storms {
    use std::sync::mpsc;

    use super::*;

    /// Ten thousand tokens with keys nobody has, evenly over a second, and a good one now and then.
    async fn storm(verifier: &Verifier, good: &str) {
        for number in 0..10_000 {
            let verdict = verify_now(verifier, &Signer::new(&format!("invented-{number}")).token());
            assert!(matches!(verdict, Err(VerifyError::Rejected(Rejection::UnknownKid { .. }))), "{verdict:?}");
            if number % 10 == 9 {
                assert_eq!(verify_now(verifier, good), Ok(()));
                pass(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_invented_kids_in_a_second_cost_one_fetch() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Script::Document(key_set(&[&signer]), 3600));
        let verifier = ready(issuer.clone(), Counted::default()).await;
        pass(seconds(6)).await;

        storm(&verifier, &signer.token()).await;

        assert_eq!(issuer.fetch_count(), 2, "the first set and one search");
        assert_eq!(issuer.most_in_flight(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotation_in_the_midst_of_a_storm_is_picked_up_by_the_schedule() {
        let (old, new) = (Signer::new("old"), Signer::new("new"));
        let counted = Counted::default();
        let issuer = ScriptedIssuer::default();
        issuer.answers(Script::Document(key_set(&[&old]), 5));
        let verifier = ready(issuer.clone(), counted.clone()).await;
        // The set is due between 3.5 and 4.5 s, the storm blows from 3.4 to 4.4 s, and the first fetch cools down until 5 s:
        // what comes can only come by the schedule.
        pass(Duration::from_millis(3400)).await;
        issuer.answers(Script::Document(key_set(&[&old, &new]), 60));

        storm(&verifier, &old.token()).await;
        pass(Duration::from_millis(200)).await;

        assert_eq!(verify_now(&verifier, &new.token()), Ok(()));
        assert_eq!(counted.of("fetched").len(), 2);
        assert_eq!(counted.of("fetched search"), [""; 0]);
    }

    /// On real threads and by the real clock, so only bounds can be told.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn threads_that_storm_together_share_the_cooldown() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::default();
        issuer.answers(Script::Document(key_set(&[&signer]), 3600));
        let cooldown = Duration::from_millis(100);
        let builder = Verifier::builder(policy()).limits(Limits { cooldown, ..Limits::default() });
        let verifier = builder.fetch_keys_with(issuer.clone()).build().expect("the settings hold");
        let began = Instant::now();
        let first = verifier.verify_at::<AccessTokenClaims>(&signer.token(), ISSUED_AT).await;
        assert!(first.is_ok(), "{first:?}");

        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (verifier, good) = (verifier.clone(), signer.token());
                std::thread::spawn(move || {
                    for number in 0..2500 {
                        let token = Signer::new(&format!("invented-{thread}-{number}")).token();
                        verify_now(&verifier, &token).expect_err("nobody has this key");
                        assert_eq!(verify_now(&verifier, &good), Ok(()));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }

        let windows = began.elapsed().as_millis() / cooldown.as_millis() + 1;
        assert!(issuer.fetch_count() as u128 <= windows, "{} fetches in {windows} windows", issuer.fetch_count());
        assert_eq!(issuer.most_in_flight(), 1);
    }

    /// The lock is held by this test all the while. A request that touched it would never come back.
    #[tokio::test]
    async fn a_request_whose_key_is_there_touches_no_lock() {
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let cache = KeyCache::start(KeyCacheSettings {
            fetcher: Box::new(issuer),
            limits: Limits::default(),
            runtime: Handle::current(),
            meter: Meter::default(),
            warm_start: None,
            wall_clock: Arc::new(|| ISSUED_AT),
        });
        cache.shared.launch_scheduled().landed().await;
        let cache = Arc::new(cache);

        let (told, answer) = mpsc::channel();
        let answer = cache.shared.ledger.while_locked(|| {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || {
                let found = cache.read(|held| held.is_some_and(|held| held.keys.contains_kid("a")));
                told.send(found).expect("the test waits");
            });
            answer.recv_timeout(seconds(30))
        });

        assert_eq!(answer, Ok(true));
    }
}
