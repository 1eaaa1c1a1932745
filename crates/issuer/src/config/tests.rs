use std::time::Duration;

use keywheel_jose::Algorithm;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::clients::{Authentication, ClientKeys, GrantType, SecretMethod, Source, hash_secret};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A directory with files in it, the first of which is the configuration.
struct Files(tempfile::TempDir);

impl Files {
    fn new(configuration: &str) -> Self {
        let files = Files(tempfile::tempdir().expect("a temporary directory"));
        files.add(DEFAULT_FILE, configuration);
        files
    }

    fn empty() -> Self {
        Files(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Writes a file and gives its path.
    fn add(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("a writable directory");
        path.display().to_string()
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load_in(self.0.path(), None, variables)
    }

    /// The problems, each with the configuration's name cut down to `keywheel.toml`.
    fn problems(&self, variables: &[(&str, &str)]) -> Vec<String> {
        let errors = self.load(variables).expect_err("something is wrong with it").to_string();
        let directory = format!("{}/", self.0.path().display());
        errors.lines().map(|line| line.strip_prefix(&directory).unwrap_or(line).to_owned()).collect()
    }
}

fn load(configuration: &str) -> Loaded {
    Files::new(configuration).load(&[]).expect("a good configuration")
}

fn problems(configuration: &str) -> Vec<String> {
    Files::new(configuration).problems(&[])
}

fn by_secret(method: Option<SecretMethod>) -> Authentication {
    Authentication::Secret { sha256: hash_secret(SECRET.as_bytes()), method }
}

#[track_caller]
fn assert_starts(problems: &[String], starts: &[&str]) {
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\nshould start with\n{start}");
    }
}

fn messages(loaded: &Loaded) -> Vec<&str> {
    loaded.warnings.iter().map(Problem::message).collect()
}

#[test]
fn nothing_configured_gives_the_defaults() {
    let loaded = Files::empty().load(&[]).expect("the defaults are good");

    assert_eq!(loaded.origin, Origin::Defaults);
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.issuer.as_str(), "http://localhost:8080");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.metrics_listen.map(|address| address.port()), Some(9090));
    assert_eq!(config.storage.database.path(), Some(Path::new("keywheel-data/keywheel.db")));
    assert_eq!(config.keys.algorithms, [Algorithm::ES256, Algorithm::RS256]);
    assert_eq!(config.keys.rsa_bits, 2048);
    assert_eq!(config.keys.rotation.announce(), Duration::from_secs(86_400));
    assert_eq!(config.tokens.access_ttl, Duration::from_secs(600));
    assert_eq!(config.clients, []);
}

#[test]
fn the_example_of_the_reference_loads_with_warnings_only() {
    let files = Files::empty();
    let secret = files.add("billing.secret", &format!("{SECRET}\n"));
    let password = files.add("alice.password", "correct horse battery staple\n");
    files.add(
        DEFAULT_FILE,
        &format!(
            r#"
issuer = "https://id.example.com"        # exactly as in `iss`; https unless loopback

[server]
listen = "127.0.0.1:8080"
metrics_listen = "127.0.0.1:9090"        # /metrics, /healthz, /readyz
trusted_proxies = []                     # whose X-Forwarded-* count

[storage]
url = "sqlite://keywheel-data/keywheel.db"   # or postgres://…

[keys]
algorithms = ["ES256", "RS256"]          # first signs unless a client asks for another; also PS256, EdDSA
rotate_every = "30d"                     # or rotate_at = "0 0 3 * * Sun"
announce = "1d"
jwks_max_age = "5m"
jwks_shared_max_age = "30s"              # what a CDN or proxy may keep
clock_skew = "30s"
poll = "15s"
max_staleness = "10m"
encryption_key_file = "keywheel-data/kek"

[tokens]
access_ttl = "10m"
id_ttl = "10m"
refresh_ttl = "30d"                      # since last use
session_ttl = "12h"
code_ttl = "60s"

[limits]
[outgoing]
allow_private = false

[[client]]
id = "billing"
secret_file = "{secret}"
grants = ["client_credentials"]
redirect_uris = []
post_logout_redirect_uris = []
scopes = ["invoices:read"]
audiences = ["https://api.example.com"]
token_endpoint_auth_method = "client_secret_basic"
access_token_alg = "ES256"
first_party = true                       # no consent page

[[user]]
username = "alice"
email = "alice@example.com"
password_file = "{password}"
roles = ["admin"]
"#
        ),
    );

    let loaded = files.load(&[]).expect("the reference's own example");

    assert_eq!(messages(&loaded), [""; 0]);
    assert_eq!(
        loaded.config.clients,
        [Client {
            scopes: vec!["invoices:read".to_owned()],
            audiences: vec!["https://api.example.com".to_owned()],
            access_token_alg: Some(Algorithm::ES256),
            first_party: true,
            source: Source::Declared,
            ..Client::new("billing", by_secret(Some(SecretMethod::Basic)))
        }]
    );
    let [alice] = &loaded.config.users[..] else { panic!("one user, not {:?}", loaded.config.users) };
    assert_eq!((alice.username.as_str(), alice.email.as_deref()), ("alice", Some("alice@example.com")));
    assert_eq!(alice.roles, ["admin"]);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_real_key() {
    let problems = problems("[keys]\nalgorithms = [\"ES256\"]\n  rotate_evry = \"1d\"\n");

    assert_eq!(problems, ["keywheel.toml:3:3: keys.rotate_evry: no such setting; did you mean keys.rotate_every?"]);
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    let problems = problems("rotate_every = \"1d\"\n[sever]\n[[client]]\npoll = 1\nqqq = 2\n");

    assert_starts(
        &problems,
        &[
            "keywheel.toml:1:1: rotate_every: no such setting; did you mean keys.rotate_every?",
            "keywheel.toml:2:2: sever: no such setting; did you mean server?",
            "keywheel.toml:3:1: client[0].id: missing",
            "keywheel.toml:3:1: client[0].secret: missing",
            "keywheel.toml:4:1: client[0].poll: no such setting; did you mean keys.poll?",
            "keywheel.toml:5:1: client[0].qqq: no such setting",
        ],
    );
}

#[test]
fn all_problems_are_told_together_in_the_order_of_the_file() {
    let problems = Files::new(
        "issuer = \"http://id.example.com\"\n[tokens]\naccess_ttl = 600\ncode_ttl = \"1h\"\n[keys]\nalgorithms = \
         [\"ES256\",\n \"HS256\", \"ES256\", 5]\n[server]\nlisten = \"localhost:80\"\nmax_connections = 0\n",
    )
    .problems(&[("KEYWHEEL_SERVER__BODY_TIMEOUT", "10")]);

    assert_starts(
        &problems,
        &[
            "keywheel.toml:1:1: issuer: \"http://id.example.com\" must be https",
            "keywheel.toml:3:1: tokens.access_ttl: expected a duration such as \"10m\", found an integer",
            "keywheel.toml:4:1: tokens.code_ttl: 1h is out of range: from 1s to 10m",
            "keywheel.toml:7:2: keys.algorithms: this version does not sign with \"HS256\"",
            "keywheel.toml:7:11: keys.algorithms: \"ES256\" is listed twice",
            "keywheel.toml:7:20: keys.algorithms: expected a string in the array, found an integer",
            "keywheel.toml:9:1: server.listen: expected an IP address and a port",
            "keywheel.toml:10:1: server.max_connections: 0 is out of range: from 1 to 65536",
            "KEYWHEEL_SERVER__BODY_TIMEOUT: server.body_timeout: \"10\" is not a duration",
        ],
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_was_expected_and_found() {
    let problems = problems(
        "issuer = 1\nkeys = true\nclient = \"x\"\nuser = [1]\n[server]\nlisten = []\nmax_body_bytes = 1.5\ntrusted_proxies \
         = \"x\"\n[outgoing]\nallow_private = 1979-05-27\n",
    );

    assert_starts(
        &problems,
        &[
            "keywheel.toml:1:1: issuer: expected a string, found an integer",
            "keywheel.toml:2:1: keys: expected a table, found a boolean",
            "keywheel.toml:3:1: client: expected a list of tables, found a string",
            "keywheel.toml:4:9: user[0]: expected a table, found an integer",
            "keywheel.toml:6:1: server.listen: expected a string, found an array",
            "keywheel.toml:7:1: server.max_body_bytes: expected an integer, found a float",
            "keywheel.toml:8:1: server.trusted_proxies: expected an array of strings, found a string",
            "keywheel.toml:10:1: outgoing.allow_private: expected true or false, found a date",
        ],
    );
}

#[test]
fn a_file_that_is_not_toml_is_told_by_line_and_without_quoting_it() {
    let problems = problems("[[client]]\nsecret = \"0123456789\n");

    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("keywheel.toml:2:"), "{problems:#?}");
    assert!(!problems[0].contains("0123456789"), "{problems:#?}");
}

#[test]
fn an_unsafe_rotation_is_refused_with_its_numbers_at_the_line_of_the_setting() {
    let problems = problems("[keys]\njwks_max_age = \"5m\"\nannounce = \"1m\"\n");

    // 5m + 30s (a tenth) + 2 × 15s + 30s
    assert_starts(&problems, &["keywheel.toml:3:1: keys.announce: "]);
    for number in ["1m", "5m", "30s", "6m30s"] {
        assert!(problems[0].contains(number), "{number} in {problems:#?}");
    }
}

#[test]
fn a_rotation_waits_for_fetchers_when_told_and_not_past_the_next() {
    let hold = |text: &str| load(text).config.keys.hold_for_coverage;

    assert_eq!(hold(""), Duration::ZERO);
    assert_eq!(hold("[keys]\nhold_for_coverage = \"6h\"\n"), Duration::from_secs(6 * 3600));
    let problems = problems("[keys]\nrotate_every = \"10d\"\nhold_for_coverage = \"11d\"\n");
    assert_starts(&problems, &["keywheel.toml:3:1: keys.hold_for_coverage: "]);
    assert!(problems[0].contains("11d") && problems[0].contains("10d"), "{problems:?}");
}

#[test]
#[cfg(debug_assertions)]
fn an_unsafe_rotation_is_for_tests_on_loopback_only() {
    const SWITCH: (&str, &str) = ("KEYWHEEL_INSECURE_TEST_UNSAFE_POLICY", "true");
    let unsafe_on = |issuer: &str| Files::new(&format!("issuer = \"{issuer}\"\n[keys]\nannounce = \"1s\"\n"));

    assert_starts(&unsafe_on("https://id.example.com").problems(&[SWITCH]), &["KEYWHEEL_INSECURE_TEST_UNSAFE_POLICY"]);
    assert_eq!(unsafe_on("http://localhost:8080").problems(&[]).len(), 1);
    let loaded = unsafe_on("http://localhost:8080").load(&[SWITCH]).expect("an unsafe configuration");
    assert!(messages(&loaded).iter().any(|warning| warning.contains("WILL be refused")), "{loaded:?}");
    assert_eq!(loaded.config.keys.rotation.announce(), Duration::from_secs(1));
}

#[test]
#[cfg(not(debug_assertions))]
fn an_unsafe_rotation_can_not_be_had_in_a_release() {
    let files = Files::new("issuer = \"http://localhost:8080\"\n[keys]\nannounce = \"1s\"\n");

    let problems = files.problems(&[("KEYWHEEL_INSECURE_TEST_UNSAFE_POLICY", "true")]);

    assert!(problems.iter().any(|problem| problem.contains("INSECURE_TEST_UNSAFE_POLICY")), "{problems:?}");
}

#[test]
fn a_cron_expression_is_a_rotation_too_but_not_beside_an_interval() {
    let by_cron = "[keys]\nrotate_at = \"0 0 3 * * Sun\"\n";

    load(by_cron);
    assert_starts(
        &problems(&format!("{by_cron}rotate_every = \"7d\"\n")),
        &["keywheel.toml:2:1: keys.rotate_at: cannot be set together with keys.rotate_every"],
    );
    assert_starts(&problems("[keys]\nrotate_at = \"0 3 * * Sun\"\n"), &["keywheel.toml:2:1: keys.rotate_at: "]);
}

#[test]
fn a_rotation_can_be_watched_in_a_minute() {
    let loaded = load(
        "[keys]\nrotate_every = \"10s\"\nannounce = \"6s\"\njwks_max_age = \"1s\"\njwks_shared_max_age = \
         \"1s\"\nclock_skew = \"1s\"\npoll = \"1s\"\nmax_staleness = \"3s\"\n[tokens]\naccess_ttl = \"1s\"\nid_ttl = \"2s\"\n",
    );

    assert_eq!(loaded.config.keys.rotation.max_token_ttl(), Duration::from_secs(2));
}

#[test]
fn the_environment_overrides_the_file() {
    let files = Files::new("[keys]\nrotate_every = \"30d\"\nalgorithms = [\"ES256\"]\n[server]\nmax_connections = 7\n");

    let loaded = files
        .load(&[
            ("KEYWHEEL_KEYS__ALGORITHMS", "PS256, EdDSA"),
            ("KEYWHEEL_KEYS__ROTATE_AT", "0 0 3 * * Sun"),
            ("KEYWHEEL_SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("KEYWHEEL_SERVER__MAX_CONNECTIONS", "9"),
            ("KEYWHEEL_SERVER__METRICS_LISTEN", ""),
            ("KEYWHEEL_OUTGOING__ALLOW_PRIVATE", "true"),
            ("KEYWHEEL_CLIENT__0__ID", "billing"),
            ("KEYWHEEL_CLIENT__0__SECRET", SECRET),
            ("KEYWHEEL_CLIENT__0__SCOPES__0", "a"),
            ("KEYWHEEL_LOG", "debug"),
            ("LANG", "C.UTF-8"),
        ])
        .expect("good settings");

    let config = &loaded.config;
    assert_eq!(config.keys.algorithms, [Algorithm::PS256, Algorithm::EdDSA]);
    assert_eq!(config.server.max_connections, 9);
    assert_eq!(config.server.metrics_listen, None);
    assert_eq!((config.clients[0].id.as_str(), &config.clients[0].scopes[..]), ("billing", &["a".to_owned()][..]));
    assert!(config.outgoing.allow_private);
    assert_eq!(config.server.trusted_proxies.len(), 1);
    assert_eq!(messages(&loaded), [] as [&str; 0]);
}

#[test]
fn there_may_be_one_key_encryption_key_or_several() {
    let files = |configuration: &str, variables: &[(&str, &str)]| {
        let loaded = Files::new(configuration).load(variables).expect("good settings");
        loaded.config.keys.encryption_key_files
    };
    const VARIABLE: &str = "KEYWHEEL_KEYS__ENCRYPTION_KEY_FILE";

    assert_eq!(files("[keys]\nencryption_key_file = \"a,b\"", &[]), [Path::new("a,b")]);
    assert_eq!(files("[keys]\nencryption_key_file = [\"b\", \"a\"]", &[]), [Path::new("b"), Path::new("a")]);
    assert_eq!(files("", &[(VARIABLE, "a,b")]), [Path::new("a,b")]);
    assert_eq!(files("", &[(VARIABLE, "[\"b\", \"a\"]")]), [Path::new("b"), Path::new("a")]);
}

#[test]
fn key_encryption_keys_that_name_no_file_are_refused() {
    for (value, start) in [
        ("\"\"", "expected a path, found an empty string"),
        ("[]", "a file is needed, found an empty array"),
        ("[\"a\", \"a\"]", "\"a\" is listed twice"),
        ("[\"a\", \"\"]", "expected a path, found an empty string"),
        ("5", "expected an array of strings, found an integer"),
    ] {
        let problems = problems(&format!("[keys]\nencryption_key_file = {value}"));

        assert_eq!(problems.len(), 1, "{value}: {problems:?}");
        assert!(problems[0].contains(&format!("keys.encryption_key_file: {start}")), "{value}: {problems:?}");
    }
}

#[test]
fn whole_tables_can_be_set_by_the_environment() {
    let client = format!("[{{ id = 'billing', secret = '{SECRET}' }}]");

    let loaded = Files::empty().load(&[("KEYWHEEL_CLIENT", &client)]).expect("a good client");

    assert_eq!(loaded.config.clients[0].authentication, by_secret(None));
}

#[test]
fn a_misspelt_variable_is_told_by_name() {
    let problems = Files::empty().problems(&[
        ("KEYWHEEL_KEYS__ROTATE_EVRY", "1d"),
        ("KEYWHEEL_ISSUER__URL", "x"),
        ("KEYWHEEL_KEYS_POLL", "1s"),
        ("KEYWHEEL_", "1"),
        ("KEYWHEEL_CLIENT__1__ID", "x"),
        ("KEYWHEEL_SERVER__MAX_CONNECTIONS", "many"),
    ]);

    let told = problems.join("\n");
    for expected in [
        "KEYWHEEL_KEYS__ROTATE_EVRY: keys.rotate_evry: no such setting; did you mean keys.rotate_every?",
        "KEYWHEEL_ISSUER__URL: issuer: expected a string, found a table",
        "KEYWHEEL_KEYS_POLL: keys_poll: no such setting",
        "KEYWHEEL_: not the name of a setting",
        "KEYWHEEL_CLIENT__1__ID: client has 0 entries, so 0 is the next index",
        "KEYWHEEL_SERVER__MAX_CONNECTIONS: server.max_connections: expected an integer, found a string",
    ] {
        assert!(told.contains(expected), "{expected}\nin\n{told}");
    }
}

#[test]
fn variables_that_an_orchestrator_sets_for_a_service_of_our_name_are_no_mistakes() {
    let loaded = Files::empty().load(&[
        ("KEYWHEEL_SERVICE_HOST", "10.0.0.1"),
        ("KEYWHEEL_SERVICE_PORT", "8080"),
        ("KEYWHEEL_SERVICE_PORT_HTTP", "8080"),
        ("KEYWHEEL_PORT", "tcp://10.0.0.1:8080"),
        ("KEYWHEEL_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("KEYWHEEL_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("KEYWHEEL_METRICS_SERVICE_HOST", "10.0.0.2"),
    ]);

    assert!(loaded.is_ok(), "{loaded:?}");
}

#[test]
fn the_file_is_the_argument_else_the_variable_else_in_the_working_directory() {
    let files = Files::new("[server]\nmax_connections = 1\n");
    let by_variable = files.add("variable.toml", "[server]\nmax_connections = 2\n");
    let by_argument = files.add("argument.toml", "[server]\nmax_connections = 3\n");
    let load = |argument: Option<&str>, variable: Option<&str>| {
        let variables = variable.map(|path| (CONFIG_VARIABLE.to_owned(), path.to_owned()));
        let loaded = Config::load_in(files.0.path(), argument.map(Path::new), variables.into_iter());
        let loaded = loaded.expect("good files");
        (loaded.config.server.max_connections, loaded.origin)
    };

    assert_eq!(load(None, None), (1, Origin::File(files.0.path().join(DEFAULT_FILE))));
    assert_eq!(load(None, Some("")), (1, Origin::File(files.0.path().join(DEFAULT_FILE))));
    assert_eq!(load(None, Some(&by_variable)), (2, Origin::File(by_variable.as_str().into())));
    assert_eq!(load(Some(&by_argument), Some(&by_variable)), (3, Origin::File(by_argument.as_str().into())));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let errors = Config::load(Some(Path::new("/nowhere/keywheel.toml")), std::iter::empty()).expect_err("no such file");

    assert!(errors.to_string().starts_with("/nowhere/keywheel.toml: cannot read the configuration: "), "{errors}");
}

#[test]
fn the_default_issuer_follows_the_port() {
    for (listen, issuer) in [("127.0.0.1:9000", "http://localhost:9000"), ("127.0.0.1:80", "http://localhost")] {
        let loaded = load(&format!("[server]\nlisten = \"{listen}\"\n"));

        assert_eq!(loaded.config.issuer.as_str(), issuer);
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn the_default_issuer_is_questioned_where_it_can_not_be_right() {
    let reachable = load("[server]\nlisten = \"0.0.0.0:8080\"\n");

    assert!(messages(&reachable)[0].contains("http://localhost:8080"), "{:?}", reachable.warnings);
    assert_starts(&problems("[server]\nlisten = \"127.0.0.1:0\"\n"), &["configuration: issuer: must be set"]);
}

#[test]
fn a_listener_that_would_be_impossible_is_refused() {
    let problems = problems("[server]\nlisten = \"127.0.0.1:9090\"\n");

    assert_starts(&problems, &["keywheel.toml:1:2: server.metrics_listen: 127.0.0.1:9090 is taken by server.listen"]);
}

#[test]
fn tls_is_spoken_with_files_or_with_a_certificate_that_is_ordered() {
    let files = load("[server]\ntls = { cert = \"c.pem\", key = \"k.pem\" }\n").config;
    let ordered = load("issuer = \"https://id.example.com/a\"\n[server.acme]\nagree_tos = true\n").config;

    assert_eq!(files.issuer.as_str(), "https://localhost:8080");
    assert_eq!(files.server.tls, Some(TlsFiles { cert: "c.pem".into(), key: "k.pem".into() }));
    assert_eq!(
        ordered.server.acme,
        Some(AcmeSettings {
            domains: vec!["id.example.com".to_owned()],
            contact: Vec::new(),
            directory_url: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            ca_file: None,
            challenge: ChallengeKind::TlsAlpn01,
            http_listen: None,
        })
    );
    assert!(!load("").config.server.has_tls());
}

#[test]
fn tls_that_cannot_be_is_refused() {
    let both = "[server]\ntls = { cert = \"c\", key = \"k\" }\n[server.acme]\nagree_tos = true\n";
    let acme = |lines: &str| problems(&format!("issuer = \"https://id.example.com\"\n[server.acme]\n{lines}"));

    assert_starts(&problems(both), &["keywheel.toml:3:9: server.acme: cannot be set together with server.tls"]);
    assert_starts(&problems("[server]\ntls = { cert = \"c\" }\n"), &["keywheel.toml:2:1: server.tls.key: missing"]);
    assert_starts(
        &problems("issuer = \"http://localhost:8080\"\n[server]\ntls = { cert = \"c\", key = \"k\" }\n"),
        &["keywheel.toml:1:1: issuer: http://localhost:8080 must be https"],
    );
    assert_starts(&acme("agree_tos = false\n"), &["keywheel.toml:3:1: server.acme.agree_tos: set it to true"]);
    assert_starts(&acme(""), &["keywheel.toml:2:9: server.acme.agree_tos: set it to true"]);
    assert_starts(
        &acme("agree_tos = true\nchallenge = \"http-01\"\n"),
        &["keywheel.toml:2:9: server.acme.http_listen: missing"],
    );
    assert_starts(
        &acme(
            "agree_tos = true\ndomains = [\"*.example.com\", \"10.0.0.1\", \"ID.example.com\"]\n\
             contact = [\"admin@example.com\"]\ndirectory_url = \"http://ca.example.com\"\nchallenge = \"dns-01\"\n",
        ),
        &[
            "keywheel.toml:4:12: server.acme.domains: \"*.example.com\": a name with an asterisk",
            "keywheel.toml:4:29: server.acme.domains: expected the name of a host",
            "keywheel.toml:4:41: server.acme.domains: \"ID.example.com\": write it as \"id.example.com\"",
            "keywheel.toml:5:12: server.acme.contact: expected an address",
            "keywheel.toml:6:1: server.acme.directory_url: expected an https URL",
            "keywheel.toml:7:1: server.acme.challenge: expected \"tls-alpn-01\"",
        ],
    );
    assert_starts(
        &problems("issuer = \"https://10.0.0.1\"\n[server.acme]\nagree_tos = true\n"),
        &["keywheel.toml:1:1: issuer: 10.0.0.1 is no name that a certificate authority can check"],
    );
}

#[test]
fn browsers_are_told_how_long_to_insist_on_https() {
    let hsts = |text: &str| load(&format!("[server]\n{text}\n")).config.server.hsts;

    assert_eq!(hsts(""), Some(Duration::from_secs(365 * 86_400)));
    assert_eq!(hsts("hsts = \"0s\""), Some(Duration::ZERO));
    assert_eq!(hsts("hsts = \"\""), None);
}

#[test]
fn a_secret_is_given_once_and_is_a_good_one() {
    let files = Files::empty();
    let short = files.add("short", "hunter2\n");
    let empty = files.add("empty", "\n");
    let client = |id: &str, secret: &str| format!("[[client]]\nid = \"{id}\"\n{secret}\n");
    let hash = format!("secret_hash = \"sha256:{}\"", "0".repeat(64));
    let configuration = [
        client("short", "secret = \"hunter2\""),
        client("short-file", &format!("secret_file = \"{short}\"")),
        client("empty-file", &format!("secret_file = \"{empty}\"")),
        client("no-file", "secret_file = \"/nowhere/secret\""),
        client("none", ""),
        client("both", &format!("secret = \"{SECRET}\"\n{hash}")),
        client("hash", "secret_hash = \"sha256:00\""),
        client("number", "secret = 12345678901234567890123456789012"),
    ];
    files.add(DEFAULT_FILE, &configuration.concat());

    let problems = files.problems(&[]);

    assert_starts(
        &problems,
        &[
            "keywheel.toml:3:1: client[0].secret: a client secret has at least 32 characters, this one has 7",
            "keywheel.toml:6:1: client[1].secret_file: a client secret has at least 32 characters, this one has 7",
            &format!("keywheel.toml:9:1: client[2].secret_file: {empty} is empty"),
            "keywheel.toml:12:1: client[3].secret_file: cannot read /nowhere/secret: ",
            "keywheel.toml:13:1: client[4].secret: missing",
            "keywheel.toml:19:1: client[5].secret_hash: cannot be set together with client[5].secret",
            "keywheel.toml:22:1: client[6].secret_hash: expected \"sha256:\"",
            "keywheel.toml:25:1: client[7].secret: expected a string, found an integer",
        ],
    );
    assert!(!problems.concat().contains("hunter2"));
}

#[test]
fn a_client_that_this_version_cannot_serve_is_refused_by_name() {
    let client = format!("[[client]]\nid = \"a\"\nsecret = \"{SECRET}\"\n");

    let problems = problems(&format!(
        "{client}grants = [\"device_code\", \"client_credential\"]\nscopes = [\"a b\", \"a\", \"a\"]\naudiences = \
         [\"x\"]\ntoken_endpoint_auth_method = \"tls_client_auth\"\naccess_token_alg = \"PS256\"\n{client}grants = []\n"
    ));

    assert_starts(
        &problems,
        &[
            "keywheel.toml:4:11: client[0].grants: \"device_code\" is not supported by this version",
            "keywheel.toml:4:26: client[0].grants: \"client_credential\" is not a grant; did you mean client_credentials?",
            "keywheel.toml:5:11: client[0].scopes: \"a b\" is not a scope",
            "keywheel.toml:5:23: client[0].scopes: \"a\" is listed twice",
            "keywheel.toml:6:14: client[0].audiences: \"x\" is not an absolute URI",
            "keywheel.toml:7:1: client[0].token_endpoint_auth_method: \"tls_client_auth\" is not supported",
            "keywheel.toml:8:1: client[0].access_token_alg: \"PS256\" is not one of the algorithms",
            "keywheel.toml:12:1: client[1].grants: client_credentials or another grant is needed",
        ],
    );
}

#[test]
fn an_app_is_declared_with_all_that_openid_connect_registers() {
    let loaded = load(&format!(
        r#"
        [[client]]
        id = "app"
        name = "App"
        secret = "{SECRET}"
        grants = ["authorization_code", "refresh_token"]
        redirect_uris = ["https://app.example.com/callback", "http://localhost:3000/callback"]
        post_logout_redirect_uris = ["https://app.example.com/"]
        application_type = "web"
        require_pkce = true
        roles = ["admin"]
        first_party = true
        session_api = true
        allowed_origins = ["https://app.example.com"]
        id_token_signed_response_alg = "ES256"
        access_ttl = "5m"
        refresh_ttl = "7d"
        default_max_age = "1h"
        require_auth_time = true
        backchannel_logout_uri = "https://app.example.com/backchannel"
        frontchannel_logout_uri = "https://app.example.com/frontchannel"
        frontchannel_logout_session_required = true
        logo_uri = "https://app.example.com/logo.png"
        contacts = ["ops@example.com"]
        "#
    ));

    assert_eq!(loaded.warnings, []);
    let app = &loaded.config.clients[0];
    assert!(app.redirect_uri("https://app.example.com/callback").is_some());
    assert!(app.redirect_uri("https://app.example.com/other").is_none());
    assert!(app.uses(GrantType::RefreshToken) && app.may("openid") && app.may("offline_access"));
    assert_eq!(app.visible_roles(&["admin".to_owned(), "secret".to_owned()]), ["admin"]);
    assert!(app.allows_origin("https://app.example.com") && !app.allows_origin("https://evil.example"));
    assert_eq!(app.id_token_alg(&loaded.config.keys.algorithms), Algorithm::ES256);
    assert_eq!(loaded.config.tokens.access_ttl_of(app), Duration::from_secs(300));
    assert_eq!(loaded.config.tokens.refresh_ttl_of(app), Duration::from_secs(7 * 86_400));
    assert_eq!(app.default_max_age, Some(Duration::from_secs(3600)));
    assert_eq!(app.about.contacts, ["ops@example.com"]);
}

#[test]
fn a_client_without_a_secret_is_public_or_has_keys() {
    let client = |settings: &str| {
        load(&format!("[[client]]\nid = \"app\"\nredirect_uris = [\"https://a.example/\"]\n{settings}"))
            .config
            .clients
            .remove(0)
            .authentication
    };
    let key = r#"kty = "OKP", crv = "Ed25519", x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    assert_eq!(client(""), Authentication::None);
    assert_eq!(client("token_endpoint_auth_method = \"none\""), Authentication::None);
    let at = client("jwks_uri = \"https://a.example/jwks\"\ntoken_endpoint_auth_signing_alg = \"RS256\"");
    assert!(
        matches!(at, Authentication::PrivateKeyJwt { keys: ClientKeys::At(_), alg: Some(Algorithm::RS256) }),
        "{at:?}"
    );
    let inline = client(&format!("jwks = {{ keys = [{{ {key} }}] }}"));
    assert!(
        matches!(&inline, Authentication::PrivateKeyJwt { keys: ClientKeys::Inline(jwks), alg: None }
            if jwks.keys().len() == 1),
        "{inline:?}"
    );
}

#[test]
fn settings_of_a_client_that_do_not_go_together_are_refused() {
    let secret = format!("secret = \"{SECRET}\"");
    let code = "grants = [\"authorization_code\"]\nredirect_uris = [\"https://a.example/\"]";
    for (settings, start) in [
        ("", "client[0].secret: missing"),
        (
            "grants = [\"client_credentials\"]\ntoken_endpoint_auth_method = \"none\"",
            "client[0].grants: client_credentials needs",
        ),
        (&format!("{secret}\ngrants = [\"authorization_code\"]"), "client[0].redirect_uris: missing"),
        (&format!("{secret}\ngrants = [\"refresh_token\"]"), "client[0].grants: refresh_token needs"),
        (&format!("{secret}\n{code}\nsession_api = true"), "client[0].session_api: needs first_party"),
        (
            &format!("{secret}\n{code}\ntoken_endpoint_auth_method = \"none\""),
            "client[0].secret: a client that authenticates by none",
        ),
        (&format!("{secret}\n{code}\njwks_uri = \"https://a.example/jwks\""), "client[0].jwks_uri: has no effect"),
        (&format!("{code}\ntoken_endpoint_auth_method = \"private_key_jwt\""), "client[0].jwks: missing"),
        (
            &format!(
                "{code}\njwks_uri = \"https://a.example/jwks\"\njwks = {{ keys = [{{ kty = \"OKP\", crv = \"Ed25519\", x = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }}] }}"
            ),
            "client[0].jwks_uri: cannot be set together",
        ),
        (&format!("{code}\njwks_file = \"/nowhere/jwks\""), "client[0].jwks_file: cannot read /nowhere/jwks"),
        (&format!("{code}\njwks = {{ keys = [] }}"), "client[0].jwks: not the public keys"),
        (&format!("{code}\nredirect = 1"), "client[0].redirect: no such setting"),
        ("redirect_uris = [\"http://a.example/\"]", "client[0].redirect_uris: \"http://a.example/\" must be https"),
        (
            &format!("{code}\nfrontchannel_logout_uri = \"https://b.example/\""),
            "client[0].frontchannel_logout_uri: https://b.example",
        ),
        (
            &format!("{code}\nbackchannel_logout_uri = \"http://a.example/\""),
            "client[0].backchannel_logout_uri: \"http://a.example/\" must",
        ),
        (&format!("{code}\nallowed_origins = [\"*\"]"), "client[0].allowed_origins: \"*\" is not an origin"),
        (&format!("{code}\naccess_ttl = \"11m\""), "client[0].access_ttl: 11m is out of range: from 1s to 10m"),
    ] {
        let problems = problems(&format!("[[client]]\nid = \"a\"\n{settings}\n"));

        assert_eq!(problems.len(), 1, "{settings}: {problems:#?}");
        assert!(problems[0].contains(&format!(": {start}")), "{settings}: {problems:#?}");
    }
}

#[test]
fn settings_of_a_client_that_do_nothing_are_told() {
    let loaded = load(&format!(
        "[[client]]\nid = \"a\"\nsecret = \"{SECRET}\"\ngrants = [\"client_credentials\"]\nscopes = \
         [\"openid\"]\nredirect_uris = [\"https://a.example/\"]\n"
    ));

    let messages = messages(&loaded);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("client[0].redirect_uris: has no effect"), "{messages:?}");
    assert!(messages[1].starts_with("client[0].scopes: openid has no effect"), "{messages:?}");
}

#[test]
fn people_are_declared_with_claims_and_a_password() {
    let files = Files::empty();
    let password = files.add("alice.password", "correct horse battery staple\n");
    files.add(
        DEFAULT_FILE,
        &format!(
            r#"
            [[user]]
            username = "alice"
            email = "Alice@example.com"
            email_verified = true
            name = "Alice Example"
            phone_number = "+49 30 123456"
            phone_number_verified = false
            address = {{ locality = "Berlin", country = "DE" }}
            claims = {{ department = "sales", level = 3, ratio = 0.5, since = 2020-01-01, badges = ["a"] }}
            roles = ["admin", "staff"]
            groups = ["sales"]
            password_file = "{password}"
            [[user]]
            username = "bob"
            password_hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
            disabled = true
            "#
        ),
    );

    let users = files.load(&[]).expect("good people").config.users;

    let [alice, bob] = &users[..] else { panic!("two people, not {users:?}") };
    assert_eq!(
        (alice.email.as_deref(), alice.email_verified, alice.disabled),
        (Some("Alice@example.com"), true, false)
    );
    assert_eq!(
        serde_json::Value::Object(alice.claims.clone()),
        serde_json::json!({
            "name": "Alice Example", "phone_number": "+49 30 123456", "phone_number_verified": false,
            "address": { "locality": "Berlin", "country": "DE" },
            "department": "sales", "level": 3, "ratio": 0.5, "since": "2020-01-01", "badges": ["a"],
        })
    );
    assert_eq!(
        (&alice.roles[..], &alice.groups[..]),
        (&["admin".to_owned(), "staff".to_owned()][..], &["sales".to_owned()][..])
    );
    assert!(
        matches!(&alice.password, Some(DeclaredPassword::Plain(it)) if it.expose() == "correct horse battery staple")
    );
    assert!(
        bob.disabled
            && matches!(&bob.password, Some(DeclaredPassword::Hash(it)) if it.expose().starts_with("$argon2id$"))
    );
    assert!(!format!("{users:?}").contains("battery"));
}

#[test]
fn what_is_wrong_with_a_person_is_told() {
    for (settings, start) in [
        ("", "user[0].username: missing"),
        ("username = \"a b\"", "user[0].username: expected 1 to 128"),
        ("username = \"a\"\nemail = \"a\"", "user[0].email: \"a\" is not an e-mail address"),
        ("username = \"a\"\nemail = \"a@b@c\"", "user[0].email: \"a@b@c\" is not an e-mail address"),
        ("username = \"a\"\nclaims = { sub = \"x\" }", "user[0].claims: \"sub\" is set by the issuer"),
        ("username = \"a\"\nclaims = { x = inf }", "user[0].claims: a number in it"),
        ("username = \"a\"\nclaims = 1", "user[0].claims: expected a table, found an integer"),
        ("username = \"a\"\naddress = { town = \"x\" }", "user[0].address: an address has no \"town\""),
        ("username = \"a\"\nroles = [\"a b\"]", "user[0].roles: \"a b\" is not a name"),
        ("username = \"a\"\npassword_hash = \"hunter2\"", "user[0].password_hash: expected a password hash"),
        (
            "username = \"a\"\npassword = \"x\"\npassword_hash = \"$a$b$c\"",
            "user[0].password_hash: cannot be set together",
        ),
        ("username = \"a\"\n[[user]]\nusername = \"A\"", "user: \"a\" is the username of another user"),
        (
            "username = \"a\"\nemail = \"x@y\"\n[[user]]\nusername = \"b\"\nemail = \"X@Y\"",
            "user: \"x@y\" is the email",
        ),
    ] {
        let problems = problems(&format!("[[user]]\n{settings}\n"));

        assert_eq!(problems.len(), 1, "{settings}: {problems:#?}");
        assert!(problems[0].contains(&format!(": {start}")), "{settings}: {problems:#?}");
        assert!(!problems[0].contains("hunter2"));
    }
}

#[test]
fn lifetimes_that_were_not_set_follow_those_that_were() {
    let tokens = |settings: &str| load(&format!("[tokens]\n{settings}")).config.tokens;
    let days = |days: u64| Duration::from_secs(days * 86_400);

    let defaults = tokens("");
    assert_eq!((defaults.refresh_absolute_ttl, defaults.refresh_grace), (days(90), Duration::from_secs(10)));
    assert_eq!((defaults.session_idle_ttl, defaults.remember_ttl), (Duration::from_secs(7200), days(30)));
    assert_eq!(tokens("refresh_ttl = \"120d\"").refresh_absolute_ttl, days(120));
    assert_eq!(tokens("session_ttl = \"1s\"").session_idle_ttl, Duration::from_secs(1));
    assert_eq!(tokens("remember_ttl = \"0s\"\nrefresh_grace = \"0s\"").remember_ttl, Duration::ZERO);
    assert_starts(
        &problems("[tokens]\nrefresh_absolute_ttl = \"1d\"\nrefresh_ttl = \"2d\"\nsession_idle_ttl = \"13h\"\n"),
        &[
            "keywheel.toml:3:1: tokens.refresh_ttl: 2d is more than tokens.refresh_absolute_ttl, which is 1d",
            "keywheel.toml:4:1: tokens.session_idle_ttl: 13h is more than tokens.session_ttl, which is 12h",
        ],
    );
}

#[test]
fn a_lifetime_of_a_clients_own_is_never_longer_than_keys_are_published_for() {
    let tokens = load("[tokens]\naccess_ttl = \"5m\"\nid_ttl = \"7m\"\n").config.tokens;
    let with = |seconds: Option<u64>| Client {
        access_ttl: seconds.map(Duration::from_secs),
        ..Client::new("a", Authentication::None)
    };

    assert_eq!(tokens.access_ttl_of(&with(None)).as_secs(), 300);
    assert_eq!(tokens.access_ttl_of(&with(Some(60))).as_secs(), 60);
    assert_eq!(tokens.access_ttl_of(&with(Some(3600))).as_secs(), 420);
}

#[test]
fn limits_and_pages_are_read_and_ranged() {
    let files = Files::empty();
    let logo = files.add("logo.svg", "<svg/>");
    let folder = files.0.path().display().to_string();
    files.add(
        DEFAULT_FILE,
        &format!(
            "[limits]\naccount_failures = 3\naccount_lock = \"1m\"\npassword_concurrency = 2\n[pages]\nname = \
             \"Example\"\nlogo_file = \"{logo}\"\naccent = \"#0b57d0\"\ntemplates = \"{folder}\"\nlanguage = \
             \"de\"\nterms_uri = \"https://example.com/terms\"\n"
        ),
    );

    let config = files.load(&[("KEYWHEEL_PAGES__LANGUAGE", "en")]).expect("good settings").config;

    assert_eq!((config.limits.account_failures, config.limits.password_concurrency), (3, 2));
    assert_eq!(config.limits.account_lock, Duration::from_secs(60));
    assert_eq!((config.pages.name.as_str(), config.pages.language.as_str()), ("Example", "en"));
    assert_eq!(config.pages.accent.map(|it| it.to_string()).as_deref(), Some("#0b57d0"));
    assert_starts(
        &problems(
            "[limits]\naccount_failures = 0\npassword_concurrency = 65\n[pages]\nlogo_file = \"logo.exe\"\ntemplates = \
             \"/nowhere\"\nlanguage = \"../de\"\n",
        ),
        &[
            "keywheel.toml:2:1: limits.account_failures: 0 is out of range: from 1 to 1000",
            "keywheel.toml:3:1: limits.password_concurrency: 65 is out of range: from 1 to 64",
            "keywheel.toml:5:1: pages.logo_file: expected a file that ends in",
            "keywheel.toml:6:1: pages.templates: there is no folder /nowhere",
            "keywheel.toml:7:1: pages.language: the pages are not written in",
        ],
    );
}

#[test]
fn a_declared_secret_is_not_kept_and_not_shown() {
    let loaded = load(&format!("[[client]]\nid = \"a\"\nsecret = \"{SECRET}\"\n"));

    assert!(!format!("{loaded:?}").contains(SECRET));
}

/// The template with every setting it shows switched on.
#[test]
fn what_the_server_tells_of_itself_is_read_and_ranged() {
    let defaults = load("").config;
    assert_eq!(defaults.log, LogSettings { format: LogFormat::Text, level: "info".to_owned(), requests: false });
    assert!(defaults.telemetry.otlp_endpoint.is_none());

    let files = Files::new("[log]\nformat = \"json\"\nrequests = true\n[telemetry]\nsample_ratio = 0.25\n");
    let headers = files.add("otlp.headers", "Authorization: Bearer the-key-of-the-collector\n\nX-Tenant: a\n");
    let loaded = files.load(&[
        ("KEYWHEEL_LOG__LEVEL", "warn,keywheel::oidc=debug"),
        ("KEYWHEEL_TELEMETRY__OTLP_ENDPOINT", "https://collector.example.com/otlp"),
        ("KEYWHEEL_TELEMETRY__OTLP_HEADERS_FILE", &headers),
    ]);
    let Config { log, telemetry, .. } = loaded.expect("a good configuration").config;
    assert_eq!((log.format, log.level.as_str(), log.requests), (LogFormat::Json, "warn,keywheel::oidc=debug", true));
    assert_eq!(telemetry.otlp_headers.len(), 2);
    assert!(!format!("{telemetry:?}").contains("the-key-of-the-collector"));

    assert_starts(
        &problems(
            "[log]\nformat = \"xml\"\nlevel = \"loud\"\n[telemetry]\notlp_endpoint = \"collector:4318\"\n\
             sample_ratio = 1.5\nservice_name = \"\"",
        ),
        &[
            "keywheel.toml:2:1: log.format: expected \"text\" or \"json\"",
            "keywheel.toml:3:1: log.level: expected a level such as",
            "keywheel.toml:5:1: telemetry.otlp_endpoint: expected an http or https address",
            "keywheel.toml:6:1: telemetry.sample_ratio: 1.5 is out of range",
            "keywheel.toml:7:1: telemetry.service_name: expected 1 to 128 characters",
        ],
    );
    let files = Files::new("[telemetry]\notlp_endpoint = \"http://collector.example.com\"");
    let headers = files.add("otlp.headers", "Authorization the-key-of-the-collector");
    let problems = files.problems(&[("KEYWHEEL_TELEMETRY__OTLP_HEADERS_FILE", &headers)]);
    assert!(problems[0].ends_with("line 1 of the file is not `Name: value`"), "{problems:?}");
    files.add("otlp.headers", "X-Key: the-key-of-the-collector");
    let problems = files.problems(&[("KEYWHEEL_TELEMETRY__OTLP_HEADERS_FILE", &headers)]);
    assert!(problems[0].ends_with("would be sent in the clear: otlp_endpoint must be https"), "{problems:?}");
}

fn uncommented(template: &str) -> String {
    let is_setting = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase() || first == '[');
    let lines = template.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_says_nothing_but_the_defaults() {
    let defaults = Files::empty().load(&[]).expect("the defaults are good").config;
    let template = Config::template();
    let settings = uncommented(&template);
    let (settings, _) = settings.split_once("[[client]]").expect("the template shows a client");

    let as_written = load(&template);
    let uncommented = load(settings);

    assert_eq!(as_written.warnings, []);
    // A policy cannot be compared, but it shows all it consists of.
    assert_eq!(format!("{:?}", as_written.config), format!("{defaults:?}"));
    assert_eq!(format!("{:?}", uncommented.config), format!("{defaults:?}"));
}

#[test]
fn the_examples_in_the_template_are_good() {
    let files = Files::empty();
    let secret = files.add("billing.secret", SECRET);
    let password = files.add("alice.password", "correct horse battery staple");
    let template = uncommented(&Config::template());
    files.add(DEFAULT_FILE, &template.replace("billing.secret", &secret).replace("alice.password", &password));

    let loaded = files.load(&[]).expect("a good example");

    assert_eq!(loaded.config.clients.len(), 1);
}

#[test]
fn every_setting_is_in_the_template() {
    let template = Config::template();
    let client = format!("[[client]]\nid = \"a\"\nsecret = \"{SECRET}\"\n[[user]]\nusername = \"alice\"\n");
    let mut report = Report::default();
    let table = tree::parse(&Arc::from(Path::new("x")), &client, &mut report).expect("TOML");
    section::read_root(&mut report, table, read_config).expect("a good configuration");

    let missing: Vec<&String> = report
        .known()
        .iter()
        .filter(|known| !known.starts_with("insecure_test_"))
        .filter(|known| {
            let key = known.rsplit('.').next().unwrap_or(known);
            let lines = [format!("#{key} = "), format!("# {key} = "), format!("[{key}]"), format!("[{known}]")];
            let inline = [format!("{{ {key} = "), format!(", {key} = ")];
            let mut shown = lines.iter().chain(&inline);
            !shown.any(|shown| template.contains(shown))
        })
        .collect();

    assert!(report.known().len() > 40, "{:?}", report.known());
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn connections_to_postgresql_are_limited() {
    let connections = |settings: &str| match load(&format!("[storage]\n{settings}")).config.storage.database {
        Database::Postgres { max_connections, .. } => max_connections,
        Database::Sqlite { .. } => panic!("not PostgreSQL"),
    };

    assert_eq!(connections("url = \"postgres://keywheel@db/keywheel\""), 10);
    assert_eq!(connections("url = \"postgres://keywheel@db/keywheel\"\nmax_connections = 40"), 40);
    for number in ["0", "101"] {
        assert_starts(
            &problems(&format!("[storage]\nurl = \"postgres://keywheel@db/keywheel\"\nmax_connections = {number}")),
            &[&format!("keywheel.toml:3:1: storage.max_connections: {number} is out of range: from 1 to 100")],
        );
    }
    let for_sqlite = load("[storage]\nmax_connections = 40");
    assert_eq!(messages(&for_sqlite), ["storage.max_connections: has no effect with SQLite, which has one writer"]);
}

#[test]
fn scopes_and_what_people_may_do_are_read() {
    let files = Files::new(
        r#"
        [[scope]]
        name = "invoices:write"
        description = { en = "Write invoices", de = "Rechnungen schreiben" }
        roles = ["accountant"]
        [[scope]]
        name = "invoices:read"
        description = "Read invoices"
        [[user]]
        username = "alice"
        client_roles = { shop = ["accountant"] }
        scopes = ["invoices:delete"]
        "#,
    );

    let loaded = files.load(&[]).expect("a good configuration");

    assert_eq!(messages(&loaded), ["user alice has invoices:delete, to no effect: no [[scope]] of it has roles"]);
    let config = loaded.config;
    let scopes = &config.scopes;
    assert!(scopes.restrict(&["invoices:write".to_owned()]) && !scopes.restrict(&["invoices:read".to_owned()]));
    assert_eq!(scopes.description("invoices:write", "de", "en"), Some("Rechnungen schreiben"));
    assert_eq!(scopes.description("invoices:read", "de", "en"), Some("Read invoices"));
    let rights = &config.users[0].rights;
    assert_eq!(rights.client_roles["shop"], ["accountant"]);
    assert_eq!(rights.scopes, ["invoices:delete"]);
}

#[test]
fn scopes_that_can_not_be_meant_are_told_all_at_once() {
    let files = Files::new(
        r#"
        [[scope]]
        name = "openid"
        [[scope]]
        description = "nameless"
        [[scope]]
        name = "a b"
        role = ["accountant"]
        [[scope]]
        name = "invoices:write"
        description = { fr = "Écrire", en = "" }
        [[scope]]
        name = "invoices:write"
        description = 7
        [[user]]
        username = "alice"
        client_roles = { shop = "manager" }
        scopes = ["a b"]
        "#,
    );

    let errors = files.load(&[]).expect_err("nothing of it is right").to_string();

    for expected in [
        "scope[0].name: openid is a scope of OpenID Connect",
        "scope[1].name: missing",
        "scope[2].name: \"a b\"",
        "scope[2].role",
        "scope[3].description: the pages are not written in \"fr\"; there is en, de",
        "scope[3].description: en: expected 1 to 160 characters",
        "\"invoices:write\" is the name of another scope",
        "scope[4].description: expected a string, found an integer",
        "user[0].client_roles: shop: expected an array of strings",
        "user[0].scopes: \"a b\"",
    ] {
        assert!(errors.contains(expected), "{expected} in {errors}");
    }
}

#[test]
fn a_hook_needs_a_secret_that_can_not_be_guessed() {
    let load = |hooks: &str| Files::new(&format!("[hooks]\n{hooks}")).load(&[]);

    let loaded = load("url = \"https://hooks.example.com/k\"\nsecret = \"a-secret-of-the-hook-0123456789abcdef\"\n");
    let hook = loaded.expect("a good configuration").config.hooks.expect("a hook");
    assert_eq!(hook.url.as_str(), "https://hooks.example.com/k");
    assert!(!format!("{hook:?}").contains("0123456789"));
    for refused in [
        "url = \"https://hooks.example.com/k\"\n",
        "url = \"https://hooks.example.com/k\"\nsecret = \"short\"\n",
        "url = \"http://hooks.example.com/k\"\nsecret = \"a-secret-of-the-hook-0123456789abcdef\"\n",
    ] {
        assert!(load(refused).is_err(), "{refused}");
    }
    assert!(load("").expect("a good configuration").config.hooks.is_none());
}

proptest! {
    #[test]
    fn no_configuration_panics_and_every_refusal_has_a_reason(
        lines in vec(select(LINES.to_vec()), 0..8),
        variables in vec((select(VARIABLES.to_vec()), "[ -~é]{0,12}"), 0..4),
    ) {
        let text = lines.join("\n");
        let mut report = Report::default();

        let mut table = tree::parse(&Arc::from(Path::new("x")), &text, &mut report).unwrap_or_default();
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        tree::overlay(&mut table, variables, &mut report);
        let config = section::read_root(&mut report, table, read_config);

        prop_assert!(report.finish().is_err() || config.is_some());
    }

    #[test]
    fn a_text_that_is_not_toml_is_always_reported(text in "(\\PC|\n){0,64}") {
        let mut report = Report::default();

        let table = tree::parse(&Arc::from(Path::new("x")), &text, &mut report);

        prop_assert_eq!(table.is_some(), report.finish().is_ok());
    }
}

const LINES: [&str; 16] = [
    "issuer = \"https://id.example.com\"",
    "issuer = 1",
    "[server]",
    "listen = \"127.0.0.1:0\"",
    "[keys]",
    "algorithms = []",
    "rotate_every = \"1s\"",
    "rotate_at = \"é\"",
    "[[client]]",
    "id = \"é\"",
    "secret_hash = \"\"",
    "grants = [[]]",
    "[client]",
    "[[user]]",
    "username = \"\" # é",
    "é = é",
];

const VARIABLES: [&str; 8] = [
    "KEYWHEEL_ISSUER",
    "KEYWHEEL_CLIENT",
    "KEYWHEEL_CLIENT__0",
    "KEYWHEEL_CLIENT__0__ID__0",
    "KEYWHEEL_KEYS__ALGORITHMS__0",
    "KEYWHEEL_KEYS",
    "KEYWHEEL_SERVER__MAX_CONNECTIONS",
    "KEYWHEEL_é____x",
];
