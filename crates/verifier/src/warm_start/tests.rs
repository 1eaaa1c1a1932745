//! Two starts of one service, and what somebody may have done to the file between them.

use std::cell::Cell;

use keywheel_jose::AccessTokenClaims;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::*;
use crate::cache::{KeyCache, KeyCacheSettings};
use crate::fixtures::{Answer as Script, Counted, ISSUED_AT, ISSUER, Log, ScriptedIssuer, Signer, key_set, policy};
use crate::metrics::Meter;
use crate::{Health, Verifier, VerifyError};

const SOURCE: &str = "https://id.example.com/jwks";
const LEEWAY: Duration = Duration::from_secs(60);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets virtual time pass. Files are written on threads of their own, for which it waits.
async fn pass(duration: Duration) {
    sleep(duration).await;
}

thread_local! {
    static BEGAN: Instant = Instant::now();
    /// By how many seconds the wall clock has been set forward, or back.
    static SET_BY: Cell<i64> = const { Cell::new(0) };
}

/// Goes with tokio's clock, unless it is set.
fn wall_clock() -> Timestamp {
    let elapsed = i64::try_from(BEGAN.with(Instant::elapsed).as_secs()).expect("tests are short");
    Timestamp::from_unix(ISSUED_AT.as_unix() + elapsed + SET_BY.get())
}

struct Service {
    folder: TempDir,
    issuer: ScriptedIssuer,
    limits: Limits,
}

impl Service {
    fn new(issuer: &ScriptedIssuer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, issuer: issuer.clone(), limits: Limits::default() }
    }

    /// A service that has fetched once, was stopped, and whose issuer is down now.
    async fn after_one_run(answer: Script) -> Self {
        let issuer = ScriptedIssuer::default();
        issuer.answers(answer);
        let service = Self::new(&issuer);
        let cache = service.start();
        pass(seconds(1)).await;
        drop(cache);
        issuer.answers(Script::Down);
        service
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    fn start(&self) -> KeyCache {
        self.start_for(Some(ISSUER), SOURCE)
    }

    fn start_for(&self, issuer: Option<&str>, source: &str) -> KeyCache {
        KeyCache::start(KeyCacheSettings {
            fetcher: Box::new(self.issuer.clone()),
            limits: self.limits.clone(),
            runtime: Handle::current(),
            meter: Meter::default(),
            warm_start: Some(WarmStart {
                path: self.path(),
                issuer: issuer.map(str::to_owned),
                source: source.to_owned(),
                leeway: LEEWAY,
            }),
            wall_clock: Arc::new(wall_clock),
        })
    }

    fn file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path()).expect("a file")).expect("JSON")
    }

    /// Somebody writes to the file.
    fn set_file(&self, content: impl AsRef<[u8]>) {
        fs::write(self.path(), content).expect("it can be written");
    }

    /// Somebody sets a member of the file.
    fn set_member(&self, name: &str, value: impl Into<Value>) {
        let mut file = self.file();
        file[name] = value.into();
        self.set_file(file.to_string());
    }
}

fn one_key() -> Script {
    Script::Document(key_set(&[&Signer::new("a")]), 60)
}

fn holds(cache: &KeyCache, kid: &str) -> bool {
    cache.read(|held| held.is_some_and(|held| held.keys.contains_kid(kid)))
}

mod a_restart {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn verifies_while_the_issuer_is_down_from_the_first_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer::new("a");
        let issuer = ScriptedIssuer::with_keys(&[&signer]);
        let start = || {
            let builder = Verifier::builder(policy()).fetch_keys_with(issuer.clone());
            builder.warm_start_file(folder.path().join("keys.json")).build().expect("the settings hold")
        };
        drop({
            let verifier = start();
            pass(seconds(1)).await;
            verifier
        });
        issuer.answers(Script::Down);

        let verifier = start();

        let verdict = verifier.verify_now_at::<AccessTokenClaims>(&signer.token(), ISSUED_AT).map(drop);
        assert_eq!(verdict, Ok(()), "no await since the start");
    }

    #[tokio::test(start_paused = true)]
    async fn trusts_the_set_for_as_long_as_it_would_have_been_trusted() {
        let service = Service::after_one_run(one_key()).await;
        pass(seconds(1799)).await;

        // The set is half an hour old, and trusted for an hour.
        let cache = service.start();
        pass(seconds(1790)).await;
        assert!(holds(&cache, "a"));
        assert!(matches!(cache.health(), Health::Stale { trusted_for, .. } if trusted_for <= seconds(10)));
        pass(seconds(10)).await;

        assert!(!holds(&cache, "a"));
        assert!(matches!(cache.health(), Health::Unavailable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn makes_the_set_no_fresher() {
        let service = Service::after_one_run(one_key()).await;

        let cache = service.start();
        let at_once = cache.health();
        pass(seconds(60)).await;

        assert!(matches!(at_once, Health::Ok { age, .. } if age >= seconds(1)), "{at_once:?}");
        assert!(matches!(cache.health(), Health::Stale { .. }), "{:?}", cache.health());
    }

    #[tokio::test(start_paused = true)]
    async fn many_of_them_add_nothing_to_trust() {
        let service = Service::after_one_run(one_key()).await;

        for _ in 0..70 {
            let cache = service.start();
            pass(seconds(60)).await;
            drop(cache);
        }

        assert!(!holds(&service.start(), "a"), "over an hour since the one good fetch");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_the_time_in_shared_caches_again() {
        let service = Service::after_one_run(one_key()).await;
        service.set_member("age_s", 3000);

        let cache = service.start();
        pass(seconds(590)).await;
        assert!(holds(&cache, "a"));
        pass(seconds(10)).await;

        assert!(!holds(&cache, "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn obeys_limits_that_have_become_stricter() {
        let mut service = Service::after_one_run(one_key()).await;
        pass(seconds(100)).await;
        service.limits = Limits { trusted: seconds(90), freshness_ceiling: seconds(60), ..Limits::default() };
        service.limits.freshness_default = seconds(60);

        assert!(!holds(&service.start(), "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_at_once_all_the_same() {
        let service = Service::after_one_run(one_key()).await;
        service.issuer.answers(Script::Document(key_set(&[&Signer::new("b")]), 60));
        let before = service.issuer.fetch_count();

        let cache = service.start();
        pass(Duration::from_millis(1)).await;

        assert_eq!(service.issuer.fetch_count(), before + 1);
        assert_eq!((holds(&cache, "a"), holds(&cache, "b")), (false, true));
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_generation_when_the_set_is_the_same() {
        let service = Service::after_one_run(one_key()).await;
        service.issuer.answers(one_key());

        let cache = service.start();
        pass(seconds(1)).await;

        assert!(matches!(cache.health(), Health::Ok { generation: 1, .. }), "{:?}", cache.health());
    }

    #[tokio::test(start_paused = true)]
    async fn notices_a_kid_that_was_reused_meanwhile() {
        let service = Service::after_one_run(one_key()).await;
        service.issuer.answers(Script::Document(key_set(&[&Signer::new("impostor").named("a")]), 60));
        let (log, _guard) = Log::capture();

        let _cache = service.start();
        pass(seconds(1)).await;

        assert_eq!(log.lines_with("a kid names another key than before").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_the_entity_tag_of_the_file() {
        let service = Service::after_one_run(one_key()).await;
        service.issuer.answers(Script::NotModified(60));

        let cache = service.start();
        pass(seconds(1)).await;

        let last = service.issuer.fetches().pop().expect("a fetch");
        assert_eq!(last.etag.as_deref(), Some("\"1\""));
        assert!(matches!(cache.health(), Health::Ok { age, .. } if age <= seconds(1)), "{:?}", cache.health());
    }
}

mod the_file {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn says_whose_keys_it_holds_and_when_they_were_fetched() {
        let service = Service::new(&ScriptedIssuer::with_keys(&[&Signer::new("a")]));
        let _cache = service.start();
        pass(Duration::from_millis(10)).await;

        let file = service.file();

        let jwks = String::from_utf8(key_set(&[&Signer::new("a")]).to_vec()).expect("JSON");
        // A second is taken off, because fractions were cut.
        let expected = json!({
            "format": 1, "issuer": ISSUER, "source": SOURCE, "fetched_at": ISSUED_AT.as_unix() - 1,
            "max_age_s": 60, "age_s": 0, "etag": "\"1\"", "jwks": jwks,
        });
        assert_eq!(file, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn is_written_again_by_each_good_fetch_and_by_no_other() {
        let service = Service::new(&ScriptedIssuer::with_keys(&[&Signer::new("a")]));
        let _cache = service.start();
        pass(seconds(1)).await;
        let first = service.file();

        pass(seconds(60)).await;
        let second = service.file();
        service.issuer.answers(Script::Document("<html>".into(), 60));
        pass(seconds(60)).await;
        let third = service.file();

        assert_eq!(first["jwks"], second["jwks"]);
        assert!(first["fetched_at"].as_i64() < second["fetched_at"].as_i64());
        assert_eq!(second, third);
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn is_for_its_owner_only_and_alone_in_its_folder() {
        use std::os::unix::fs::PermissionsExt;
        let service = Service::after_one_run(one_key()).await;

        let mode = fs::metadata(service.path()).expect("a file").permissions().mode();
        let names: Vec<_> = fs::read_dir(service.folder.path()).expect("a folder").collect();

        assert_eq!((mode & 0o777, names.len()), (0o600, 1), "{names:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_can_not_be_written_is_a_warning_and_leaves_nothing_behind() {
        let (log, _guard) = Log::capture();
        let service = Service::new(&ScriptedIssuer::with_keys(&[&Signer::new("a")]));
        // A folder can't be replaced by a file.
        fs::create_dir(service.path()).expect("a folder");

        let cache = service.start();
        pass(seconds(1)).await;

        assert!(holds(&cache, "a"));
        let lines = log.lines_with("the warm-start file can't be written");
        assert!(lines.len() == 1 && lines[0].contains("WARN"), "{lines:?}");
        let names: Vec<_> = fs::read_dir(service.folder.path()).expect("a folder").collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_not_there_is_no_news() {
        let (log, _guard) = Log::capture();
        let service = Service::new(&ScriptedIssuer::with_keys(&[&Signer::new("a")]));

        let _cache = service.start();

        assert!(log.lines_with("WARN").is_empty());
    }

    /// What is wrong with the file, in the words of the log; the service starts and finds its keys by itself.
    async fn refused(service: &Service, start: impl FnOnce() -> KeyCache) -> String {
        let (log, _guard) = Log::capture();
        let cache = start();
        assert!(!holds(&cache, "a"), "the file is not used");
        service.issuer.answers(one_key());
        pass(seconds(11)).await;
        assert!(holds(&cache, "a"), "the issuer's answer is");
        let lines = log.lines_with("the warm-start file is not used");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN"), "{lines:?}");
        lines[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn of_another_issuer_or_source_is_refused() {
        let service = Service::after_one_run(one_key()).await;

        let issuer = refused(&service, || service.start_for(Some("https://other.example.com"), SOURCE)).await;
        let service = Service::after_one_run(one_key()).await;
        let none = refused(&service, || service.start_for(None, SOURCE)).await;
        let service = Service::after_one_run(one_key()).await;
        let source = refused(&service, || service.start_for(Some(ISSUER), "https://id.example.com/other")).await;

        assert!(issuer.contains("it holds the keys of issuer \"https://id.example.com\""), "{issuer}");
        assert!(none.contains("it holds the keys of issuer \"https://id.example.com\""), "{none}");
        assert!(source.contains("its keys came from \"https://id.example.com/jwks\""), "{source}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_cut_off_anywhere_is_refused() {
        let service = Service::after_one_run(one_key()).await;
        let whole = fs::read(service.path()).expect("a file");

        for length in 0..whole.len() {
            service.set_file(&whole[..length]);
            assert!(!holds(&service.start(), "a"), "the first {length} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_was_tampered_with_is_refused() {
        let other_format = "its format is 2, expected 1";
        let no_file = "it is damaged, or no warm-start file";
        let keys = "its keys can't be used";
        let private = json!({"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}).to_string();
        let cases = [
            ("format", json!(2), other_format),
            ("format", json!("1"), no_file),
            ("surplus", json!(true), no_file),
            ("fetched_at", json!("now"), no_file),
            ("max_age_s", json!(-1), no_file),
            ("jwks", json!("{"), keys),
            ("jwks", json!(r#"{"keys":[]}"#), keys),
            ("jwks", json!(private), keys),
            ("etag", json!("\"1\"\r\nx: y"), "its entity tag can't be sent in a header"),
            ("etag", json!("x".repeat(2000)), "its entity tag can't be sent in a header"),
        ];
        for (member, value, problem) in cases {
            let service = Service::after_one_run(one_key()).await;
            service.set_member(member, value.clone());

            let line = refused(&service, || service.start()).await;

            assert!(line.contains(problem), "{member}: {value}: {line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_over_the_limits_is_refused() {
        let signers: Vec<_> = (0..6).map(|number| Signer::new(&format!("a{number}"))).collect();
        let mut service =
            Service::after_one_run(Script::Document(key_set(&signers.iter().collect::<Vec<_>>()), 60)).await;
        service.limits.max_keys = 5;
        let keys = refused(&service, || service.start()).await;

        let mut service = Service::after_one_run(one_key()).await;
        service.limits.body_limit_bytes = 1024;
        service.set_file(" ".repeat(1024 * 1024));
        let bytes = refused(&service, || service.start()).await;

        assert!(keys.contains("the key set has 6 keys, at most 5 are allowed"), "{keys}");
        assert!(bytes.contains("it has more than 71680 bytes"), "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_too_old_is_refused() {
        let service = Service::after_one_run(one_key()).await;
        pass(seconds(3600)).await;

        let line = refused(&service, || service.start()).await;

        assert!(line.contains("were to be trusted for 3600 s"), "{line}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_future_is_refused_beyond_the_leeway_and_old_by_the_leeway_within_it() {
        let service = Service::after_one_run(one_key()).await;
        SET_BY.set(-30);

        let within = service.start().health();
        SET_BY.set(-120);
        let beyond = refused(&service, || service.start()).await;

        // 60 s for the leeway, one for the fractions.
        assert!(matches!(within, Health::Stale { age, .. } if age == seconds(61)), "{within:?}");
        assert!(beyond.contains("a clock is wrong"), "{beyond}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_end_of_time_is_refused() {
        for fetched_at in [i64::MAX, i64::MIN, 0, -1] {
            let service = Service::after_one_run(one_key()).await;
            service.set_member("fetched_at", fetched_at);

            refused(&service, || service.start()).await;
        }
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        for mode in [0o620, 0o602, 0o666] {
            let service = Service::after_one_run(one_key()).await;
            fs::set_permissions(service.path(), fs::Permissions::from_mode(mode)).expect("it is ours");

            let line = refused(&service, || service.start()).await;

            assert!(line.contains("others than its owner may write it"), "{mode:o}: {line}");
        }
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn in_a_folder_that_is_everybodys_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let service = Service::after_one_run(one_key()).await;
        fs::set_permissions(service.folder.path(), fs::Permissions::from_mode(0o1777)).expect("it is ours");

        let line = refused(&service, || service.start()).await;

        assert!(line.contains("anybody may write its folder"), "{line}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_no_file_is_refused() {
        let service = Service::new(&ScriptedIssuer::default());
        service.issuer.answers(Script::Down);
        fs::create_dir(service.path()).expect("a folder");

        let line = refused(&service, || service.start()).await;

        assert!(line.contains("it is not a regular file"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_came_with_secrets_is_judged_again_and_alarms_again() {
    let mut leaked = serde_json::to_value(Signer::new("leaked").jwk()).expect("a key is JSON");
    leaked["d"] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I");
    let good = serde_json::to_value(Signer::new("a").jwk()).expect("a key is JSON");
    let set = json!({"keys": [good, leaked]}).to_string();
    let service = Service::after_one_run(Script::Document(set.into(), 60)).await;
    let counted = Counted::default();

    let (fetcher, path) = (service.issuer.clone(), service.path());
    let builder = Verifier::builder(policy()).fetch_keys_with(fetcher).metrics(counted.clone()).warm_start_file(&path);
    service.set_member("source", "the service's own");
    service.set_member("fetched_at", crate::verifier::system_now().as_unix());
    let verifier = builder.build().expect("the settings hold");

    let verdict =
        |kid: &str| verifier.verify_now_at::<AccessTokenClaims>(&Signer::new(kid).token(), ISSUED_AT).map(drop);
    assert_eq!(verdict("a"), Ok(()));
    assert!(matches!(verdict("leaked"), Err(VerifyError::Rejected(_))));
    assert_eq!(counted.of("alarm"), ["alarm secret_published"]);
}
