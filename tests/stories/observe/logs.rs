//! Log lines and request ids.

use serde_json::Value;

use super::ask;
use crate::harness::{Issuer, Settings, eventually};

const BILLING: (&str, &str) = ("billing", Settings::SECRET);
const GRANT: &str = "grant_type=client_credentials";

/// Behind a proxy on this machine.
const PROXIED: Settings = Settings { server: "trusted_proxies = [\"127.0.0.1\"]", ..Settings::PLAIN };

#[tokio::test]
async fn json_lines_tell_of_each_request_and_of_nothing_that_was_asked() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.append_config("[log]\nformat = \"json\"\nrequests = true\n");
    let server = issuer.serve().await;

    let granted = issuer.token_reply(GRANT, BILLING).await;
    let refused = issuer.token_reply(GRANT, (BILLING.0, "a-wrong-secret-that-somebody-sent")).await;
    ask(&issuer.at("/login?secret=in-the-query"), &[("x-secret", "in-a-header")]).await;
    let lines = eventually("the last line is written", std::time::Duration::from_secs(5), async || {
        let lines = lines(&server.log());
        lines.iter().any(|line| line["fields"]["route"] == "/login").then_some(lines)
    })
    .await;

    for line in &lines {
        for member in ["timestamp", "level", "target", "message"] {
            assert!(line[member].is_string(), "no {member}: {line}");
        }
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() >= 20), "{line}");
    }
    let of = |id: &str| lines.iter().filter(|line| line["request_id"] == id).collect::<Vec<_>>();
    let [line] = of(granted.header("x-request-id"))[..] else { panic!("one line a request: {lines:?}") };
    let fields = &line["fields"];
    assert_eq!((&fields["method"], &fields["route"]), (&"POST".into(), &"/oauth2/token".into()), "{line}");
    assert_eq!((&fields["status"], &fields["client.id"]), (&200.into(), &"billing".into()), "{line}");
    assert_eq!(fields["client.address"], "127.0.0.1", "{line}");
    assert!(fields["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 20_000.0), "{line}");
    let refusal = of(refused.header("x-request-id"));
    let messages: Vec<_> = refusal.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, ["a client did not authenticate", "answered"], "both have the id");
    for secret in ["in-the-query", "in-a-header", "a-wrong-secret"] {
        assert!(!server.log().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_server_says_little_unless_it_is_asked_to() {
    let issuer = Issuer::new(Settings::PLAIN);
    issuer.append_config("[log]\nlevel = \"warn\"\n");
    let quiet = issuer.serve().await;
    issuer.token(BILLING).await;
    let log = quiet.stop().await.stderr;
    assert!(!log.contains(" INFO ") && log.lines().count() < 3, "{log}");

    issuer.edit_config("level = \"warn\"", "level = \"info\"");
    let usual = issuer.serve().await;
    for _ in 0..10 {
        issuer.token(BILLING).await;
    }
    let log = usual.stop().await.stderr;
    assert!(log.contains(" INFO issuer http://"), "{log}");
    assert!(!log.contains("/oauth2/token") && log.lines().count() < 20, "no line for a request: {log}");

    issuer.edit_config("level = \"info\"", "level = \"loud\"");
    let mut refused = issuer.start();
    refused.ended().await.assert_refused(2, &["log.level: expected a level", "loud"]);
}

#[tokio::test]
async fn a_request_has_an_id_that_only_a_proxy_of_ours_can_choose() {
    let stranger = Issuer::new(Settings::PLAIN);
    let _running = stranger.serve().await;
    let proxied = Issuer::new(PROXIED);
    let _running_too = proxied.serve().await;
    let id = |issuer: &Issuer, given: &'static str| {
        let url = issuer.at("/nowhere");
        async move {
            let reply = ask(&url, &[("x-request-id", given)]).await;
            let id = reply.header("x-request-id").to_owned();
            assert_eq!(reply.json()["request_id"], id.as_str(), "the problem names it: {}", reply.text());
            id
        }
    };

    assert_eq!(id(&proxied, "from-the-proxy_1.2").await, "from-the-proxy_1.2");
    for (issuer, given) in [
        (&stranger, "from-a-stranger"),
        (&proxied, "with space"),
        (&proxied, "with\"quote"),
        (&proxied, "a-very-long-one-0123456789-0123456789-0123456789-0123456789-0123456789"),
    ] {
        let made = id(issuer, given).await;
        let (connection, number) = made.split_once('-').expect("two parts");
        assert!(connection.len() == 12 && number == "1", "{given}: {made}");
        assert!(connection.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
    assert_ne!(id(&stranger, "").await, id(&stranger, "").await);
    for path in ["/", "/oauth2/token", "/.well-known/jwks.json", "/healthz"] {
        assert!(!ask(&stranger.at(path), &[]).await.header("x-request-id").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_page_for_a_fault_says_which_request_it_was() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    let reply = ask(&issuer.at("/oauth2/authorize?client_id=nobody"), &[("accept", "text/html")]).await;

    assert_eq!(reply.status, 400);
    assert!(reply.text().contains(reply.header("x-request-id")), "{}", reply.text());
}

/// The lines of a log of JSON objects.
fn lines(log: &str) -> Vec<Value> {
    let objects = log.lines().filter(|line| line.ends_with('}'));
    objects
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}")))
        .collect()
}
