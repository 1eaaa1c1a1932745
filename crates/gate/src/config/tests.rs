use super::*;
use crate::original::Dialect;

const ISSUER: &str = "[[issuer]]\nurl = \"https://id.example.com\"\naudience = \"https://api.example.com\"\n";

fn read(text: &str) -> Result<Config, String> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(Path::new("gate.toml"), text, variables).map_err(|errors| errors.to_string())
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn problems(text: &str) -> String {
    read(text).expect_err("a bad configuration")
}

/// The template with every setting it shows switched on, and the alternatives to others left out.
fn uncommented() -> String {
    let is_setting = |rest: &str| {
        rest.starts_with('[')
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)))
    };
    let lines =
        Config::template().lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_is_a_good_configuration() {
    let config = good(Config::template());

    assert_eq!(config.issuers.len(), 1);
    assert_eq!(config.routes.routes.len(), 3);
    assert_eq!(config.unmatched, Unmatched::Deny);
}

#[test]
fn the_examples_in_the_template_are_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("secret"), "0123456789012345678901234567890123456789\n").expect("writable");
    let text = uncommented()
        .replace("internal-ca.pem", &path("secret"))
        .replace("introspection.secret", &path("secret"))
        .replace("dpop-nonce.secret", &path("secret"))
        .replace("/var/lib/keywheel-gate", &folder.path().display().to_string());

    good(&text);
}

#[test]
fn the_template_shows_the_defaults() {
    let proxy_only = "[proxy]\nupstream = \"http://127.0.0.1:3000\"\n";
    for (shown, unset) in [("[server]\n", ISSUER), ("[cache]\n", ISSUER), ("[dpop]\n", ISSUER)] {
        good(&format!("{unset}{shown}"));
    }
    let server = good(ISSUER).server;
    for line in [
        format!("#listen = \"{}\"", server.listen),
        format!("#metrics_listen = \"{}\"", server.metrics_listen.expect("a listener")),
        format!("#header_timeout = \"{}s\"", server.header_timeout.as_secs()),
        format!("#drain_timeout = \"{}s\"", server.drain_timeout.as_secs()),
        format!("#max_connections = {}", server.max_connections),
    ] {
        assert!(Config::template().contains(&line), "{line}");
    }
    let Mode::Proxy(proxy) = good(&format!("{ISSUER}{proxy_only}")).mode else { panic!("a proxy") };
    for line in [
        format!("# connect_timeout = \"{}s\"", proxy.connect_timeout.as_secs()),
        format!("# response_timeout = \"{}s\"", proxy.response_timeout.as_secs()),
        format!("# body_timeout = \"{}s\"", proxy.body_timeout.as_secs()),
    ] {
        assert!(Config::template().contains(&line), "{line}");
    }
    for (name, claim) in DEFAULT_HEADERS {
        let line = format!("= \"{claim}\"");
        let shown = Config::template().lines().find(|shown| shown.to_lowercase().starts_with(&format!("#{name} ")));
        assert!(shown.is_some_and(|shown| shown.ends_with(&line)), "{name}");
    }
}

#[test]
fn the_template_explains_every_setting() {
    let mut report = Report::default();
    let proxy = "[proxy]\nupstream = \"http://127.0.0.1:3000\"\n[resource]\nidentifier = \"https://a.example\"\n[[route]]\npath = \"/\"\n";
    for text in [format!("{ISSUER}[issuer.introspection]\n{proxy}"), format!("{ISSUER}[forward_auth]\n")] {
        let table = document::parse(Path::new("gate.toml"), &text).expect("TOML");
        report.read(table, read_config);
    }
    for setting in report.known() {
        let key = setting.rsplit('.').next().unwrap_or_default();
        assert!(Config::template().contains(key), "{setting}");
    }
}

#[test]
fn an_issuer_is_all_that_is_needed() {
    let config = good(ISSUER);

    assert!(matches!(config.mode, Mode::ForwardAuth(None)));
    assert_eq!(config.unmatched, Unmatched::Token);
    assert_eq!(config.issuers[0].policy.issuer(), Some("https://id.example.com"));
    assert_eq!(config.issuers[0].policy.audiences(), ["https://api.example.com"]);
}

#[test]
fn a_misspelt_setting_is_named_with_its_line_and_the_nearest_one() {
    for (text, expected) in [
        (
            "[server]\nlistn = \"127.0.0.1:1\"",
            "gate.toml:5:1: server.listn: no such setting; did you mean server.listen?",
        ),
        (
            "[[route]]\npath = \"/\"\nscope = [\"a\"]",
            "gate.toml:6:1: route[0].scope: no such setting; did you mean route.scopes?",
        ),
        ("[sever]\n", "gate.toml:4:2: sever: no such setting; did you mean server?"),
        ("[xyz]\n", "gate.toml:4:2: xyz: no such setting"),
        ("[server]\ncookie = \"a\"", "gate.toml:5:1: server.cookie: no such setting; did you mean token.cookie?"),
    ] {
        let problems = problems(&format!("{ISSUER}{text}"));
        assert!(problems.lines().any(|line| line == expected), "{expected}\n--\n{problems}");
    }
}

#[test]
fn every_problem_is_told_with_its_place() {
    let text = r#"
unmatched = "allow"
[server]
listen = "localhost"
header_timeout = "1h"
max_connections = 0
trusted_proxies = ["10.0.0.0/33"]
[[issuer]]
url = 7
audience = []
algorithms = ["HS256", "ES256"]
[forward_auth]
proxy = "nginxx"
[[route]]
methods = ["get"]
path = "/a/../b"
access = "public"
[[route]]
access = "public"
path = "/c"
scopes = ["a b"]
roles = ["admin"]
"#;
    let expected = "\
gate.toml:2:1: unmatched: expected deny or token
gate.toml:4:1: server.listen: expected an IP address and a port, such as 127.0.0.1:8090, found \"localhost\"
gate.toml:5:1: server.header_timeout: 1h is out of range: from 1s to 300s
gate.toml:6:1: server.max_connections: 0 is out of range: from 1 to 65536
gate.toml:7:20: server.trusted_proxies: expected an IP address or network, such as 10.0.0.0/8, found \"10.0.0.0/33\"
gate.toml:9:1: issuer[0].url: expected a string, found an integer
gate.toml:10:1: issuer[0].audience: expected at least one, found an empty list
gate.toml:11:15: issuer[0].algorithms: expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, found \"HS256\"
";
    let problems = problems(text);
    for line in expected.lines().filter(|line| !line.contains("HS256")) {
        assert!(problems.lines().any(|found| found == line), "{line}\n--\n{problems}");
    }
    for part in [
        "gate.toml:11:15: issuer[0].algorithms: expected one of ",
        "gate.toml:13:1: forward_auth.proxy: expected one of nginx, ingress-nginx, haproxy, apache, traefik, caddy, envoy, found \"nginxx\"",
        "gate.toml:15:12: route[0].methods: expected a method in capital letters, such as GET",
        "gate.toml:16:1: route[0].path: \"/a/../b\" fits no request: the path has a segment of dots",
        "gate.toml:19:1: route[1].access: public demands no token, so scopes and roles can't be demanded of it",
        "gate.toml:21:11: route[1].scopes: expected one scope",
    ] {
        assert!(problems.contains(part), "{part}\n--\n{problems}");
    }
}

#[test]
fn a_syntax_error_is_told_without_the_line_itself() {
    let problems = problems("[server]\nlisten = hunter2\n");

    assert!(problems.starts_with("gate.toml:2:"), "{problems}");
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn without_an_issuer_nothing_is_guarded() {
    assert!(problems("").contains("no [[issuer]] is there"));
    let incomplete = problems("[[issuer]]\n");
    assert!(incomplete.contains("issuer[0].url: expected") && incomplete.contains("issuer[0].audience: expected"));
}

#[test]
fn routes_need_to_know_where_the_request_is_told_about() {
    let route = "[[route]]\npath = \"/\"\n";
    assert!(problems(&format!("{ISSUER}{route}")).contains("set forward_auth.proxy"));
    assert!(problems(&format!("{ISSUER}[token]\ncookie = \"a\"\n")).contains("set forward_auth.proxy"));
    let config = good(&format!("{ISSUER}[forward_auth]\nproxy = \"traefik\"\n{route}"));
    assert!(matches!(config.mode, Mode::ForwardAuth(Some(Dialect::Traefik))));
}

#[test]
fn a_gate_is_asked_or_a_proxy_but_not_both() {
    let both = format!("{ISSUER}[proxy]\nupstream = \"http://127.0.0.1:1\"\n[forward_auth]\nproxy = \"nginx\"\n");
    assert!(problems(&both).contains("proxy: cannot be set together with forward_auth"));
}

#[test]
fn an_upstream_is_a_host_and_a_port() {
    for upstream in ["https://a", "http://a/b", "http://a?b", "http://u@a", "a:80", "", "/a"] {
        let text = format!("{ISSUER}[proxy]\nupstream = \"{upstream}\"\n");
        assert!(problems(&text).contains("proxy.upstream: expected http://"), "{upstream}");
    }
    assert!(problems(&format!("{ISSUER}[proxy]\n")).contains("proxy.upstream: expected the service to guard"));
}

#[test]
fn a_route_that_can_never_decide_is_an_error() {
    let routes = "[forward_auth]\nproxy = \"nginx\"\n[[route]]\npath = \"/**\"\naccess = \"public\"\n[[route]]\npath = \"/admin/**\"\n";
    let problems = problems(&format!("{ISSUER}{routes}"));
    assert_eq!(problems, "gate.toml:9:1: route[1]: never decides, because route[0] fits everything that it fits");
}

#[test]
fn identity_headers_are_the_owners_choice() {
    let headers = |lines: &str| read(&format!("{ISSUER}[headers]\n{lines}\n"));
    assert!(headers("X-User = \"sub\"\nX-Team = \"/org/team\"").is_ok());
    for line in [
        "Authorization = \"sub\"",
        "Host = \"sub\"",
        "X-Forwarded-For = \"sub\"",
        "\"X User\" = \"sub\"",
        "X-User = \"\"",
        "X-User = 7",
        "X-User = \"sub\"\nx-user = \"email\"",
    ] {
        assert!(headers(line).is_err(), "{line}");
    }
}

#[test]
fn variables_win_over_the_file() {
    let variables = [
        ("KEYWHEEL_GATE_SERVER__LISTEN", "127.0.0.1:7000"),
        ("KEYWHEEL_GATE_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("KEYWHEEL_GATE_SERVER__MAX_CONNECTIONS", "7"),
        ("KEYWHEEL_GATE_ISSUER__0__AUDIENCE", "a"),
        ("KEYWHEEL_GATE_ISSUER__1__URL", "https://other.example.com"),
        ("KEYWHEEL_GATE_ISSUER__1__AUDIENCE", "[\"b\", \"c\"]"),
        ("KEYWHEEL_GATE_LOG", "debug"),
        ("KEYWHEEL_GATE_SERVICE_HOST", "10.0.0.1"),
        ("KEYWHEEL_GATE_PORT_8090_TCP_ADDR", "10.0.0.1"),
    ];

    let config = read_with(ISSUER, &variables).unwrap_or_else(|errors| panic!("{errors}"));

    assert_eq!(config.server.listen.port(), 7000);
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.issuers[0].policy.audiences(), ["a"]);
    assert_eq!(config.issuers[1].policy.audiences(), ["b", "c"]);
}

#[test]
fn a_problem_with_a_variable_names_it() {
    for (name, value, expected) in [
        (
            "KEYWHEEL_GATE_SERVER__LISTN",
            "x",
            "KEYWHEEL_GATE_SERVER__LISTN: server.listn: no such setting; did you mean",
        ),
        (
            "KEYWHEEL_GATE_SERVER__MAX_CONNECTIONS",
            "many",
            "KEYWHEEL_GATE_SERVER__MAX_CONNECTIONS: server.max_connections: expected an integer",
        ),
        ("KEYWHEEL_GATE_ISSUER__5__URL", "x", "KEYWHEEL_GATE_ISSUER__5__URL: issuer has 1 entries"),
        ("KEYWHEEL_GATE_", "x", "KEYWHEEL_GATE_: not the name of a setting"),
    ] {
        let problems = read_with(ISSUER, &[(name, value)]).expect_err(name);
        assert!(problems.contains(expected), "{expected}\n--\n{problems}");
    }
}

#[test]
fn a_nonce_secret_comes_from_a_file_and_is_not_shown() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "correct horse battery staple 0123456789\n").expect("writable");
    let path = file.path().display();

    let config = good(&format!("{ISSUER}[dpop]\nnonce = true\nnonce_secret_file = \"{path}\"\n"));

    assert_eq!(config.dpop.nonce_secret.as_deref(), Some(&b"correct horse battery staple 0123456789"[..]));
    assert!(!format!("{config:?}").contains("correct horse"));
    assert!(problems(&format!("{ISSUER}[dpop]\nnonce_secret_file = \"{path}\"\n")).contains("without nonce = true"));
    std::fs::write(file.path(), "short").expect("writable");
    assert!(
        problems(&format!("{ISSUER}[dpop]\nnonce = true\nnonce_secret_file = \"{path}\"\n")).contains("has 5 bytes")
    );
}

#[test]
fn whom_to_ask_about_opaque_tokens_is_told_whole() {
    let introspection = |lines: &str| read(&format!("{ISSUER}[issuer.introspection]\n{lines}\n"));
    let good = "url = \"https://id.example.com/introspect\"\nclient_id = \"gate\"\nclient_secret = \"hunter2\"\n";

    let config = introspection(good).unwrap_or_else(|errors| panic!("{errors}"));

    assert!(config.issuers[0].introspection.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
    for bad in ["", "url = \"https://a\"", "client_id = \"gate\""] {
        let problems = introspection(bad).expect_err("incomplete");
        assert!(problems.contains("issuer[0].introspection.url: expected url, client_id and"), "{problems}");
    }
    let both = introspection(&format!("{good}client_secret_file = \"none\"")).expect_err("two secrets");
    assert!(both.contains("cannot be set together with client_secret"), "{both}");
}

#[test]
fn the_file_that_is_missing_is_named() {
    let missing = Path::new("no/such/gate.toml");

    let errors = Config::load(Some(missing), std::iter::empty()).expect_err("no such file");

    assert!(errors.to_string().contains("cannot read no/such/gate.toml"), "{errors}");
}
