//! Connections that begin with fetches of documents: what is answered before HTTP's own machinery is asked is answered as it
//! would answer, and everything else reaches it unharmed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Issuer, Settings, eventually, get, kids, send_raw};

const JWKS: &str = "GET /.well-known/jwks.json HTTP/1.1\r\nhost: id.example.com\r\nuser-agent: a-verifier/1\r\n";
const DISCOVERY: &str = "GET /.well-known/openid-configuration HTTP/1.1\r\nHost: id.example.com\r\n";
/// Ends a connection.
const LAST: &str = "GET /healthz HTTP/1.1\r\nhost: id.example.com\r\nconnection: close\r\n\r\n";
const FIRST: &str = "GET /healthz HTTP/1.1\r\nhost: id.example.com\r\n\r\n";

#[tokio::test]
async fn a_fetch_is_answered_alike_first_and_last_on_a_connection() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let etag = get(&issuer.jwks_uri()).await.expect("a response").header("etag").to_owned();

    for request in [
        format!("{JWKS}\r\n"),
        format!("{JWKS}connection: Keep-Alive\r\naccept: */*\r\n\r\n"),
        format!("{JWKS}if-none-match: {etag}\r\n\r\n"),
        format!("{JWKS}IF-NONE-MATCH: *\r\nx-request-id: chosen-by-a-stranger\r\n\r\n"),
        format!("{JWKS}if-none-match: \"other\"\r\nif-none-match: {etag}\r\n\r\n"),
        format!("{DISCOVERY}\r\n"),
        format!("{DISCOVERY}x-forwarded-proto: https\r\ncookie: a=b\r\n\r\n"),
        // None of these is a plain fetch.
        "GET /.well-known/jwks.json?x HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET /.well-known/jwks.jso HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "POST /.well-known/jwks.json HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "GET /.well-known/jwks.json HTTP/1.1\r\n\r\n".to_owned(),
        format!("{JWKS}content-length: 4\r\n\r\nbody"),
        format!("{JWKS}transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        format!("{JWKS}host: another\r\n\r\n"),
        format!("{JWKS}{}\r\n", "x: y\r\n".repeat(40)),
        format!("{JWKS}x: {}\r\n\r\n", "y".repeat(4000)),
    ] {
        let first = send_raw(issuer.listen, &[format!("{request}{LAST}").as_bytes()], Duration::ZERO).await;
        let second = format!("{FIRST}{request}{LAST}");
        let second = send_raw(issuer.listen, &[second.as_bytes()], Duration::ZERO).await;

        let (first, second) = (alike(&first.text), alike(&second.text));
        assert_eq!(first.len(), 2, "{request:?}: {first:?}");
        assert_eq!(first[..], second[1..], "{request:?}");
    }
}

#[tokio::test]
async fn what_ends_a_connection_ends_it() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    for (request, status) in [
        (format!("{JWKS}connection: close\r\n\r\n"), "HTTP/1.1 200 OK"),
        ("GET /.well-known/jwks.json HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 200 OK"),
        (format!("{JWKS}bad header\r\n\r\n"), "HTTP/1.1 400 Bad Request"),
        (format!("{JWKS} folded: line\r\n\r\n"), "HTTP/1.1 400 Bad Request"),
        (format!("{JWKS}content-length: 1\r\ncontent-length: 2\r\n\r\n"), "HTTP/1.1 400 Bad Request"),
        (format!("{JWKS}content-length: +4\r\n\r\nbody"), "HTTP/1.1 400 Bad Request"),
        (format!("{JWKS}{}\r\n", "x: y\r\n".repeat(200)), "HTTP/1.1 431 Request Header Fields Too Large"),
    ] {
        // After a fetch too, when the rest of the connection is handed on.
        for before in [String::new(), format!("{JWKS}\r\n"), format!("{JWKS}\r\n").repeat(100)] {
            let fetches = before.matches("GET").count();
            let reply = send_raw(issuer.listen, &[format!("{before}{request}").as_bytes()], Duration::ZERO).await;
            let replies = alike(&reply.text);
            assert_eq!(replies.len(), fetches + 1, "{request:?}");
            assert_eq!(replies.last().and_then(|lines| lines.last()).map(String::as_str), Some(status), "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_goes_on_with_anything_after_fetches() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let credentials = STANDARD.encode(format!("billing:{}", Settings::SECRET));
    let form = "grant_type=client_credentials";
    let token = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: a\r\nauthorization: Basic {credentials}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let whole = format!("{JWKS}\r\n{DISCOVERY}\r\n{token}{JWKS}\r\n{LAST}");

    // However it is cut: what came of a head goes on to whoever reads the rest.
    for size in [1, 7, 64, whole.len()] {
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(size).collect();
        let reply = send_raw(issuer.listen, &pieces, Duration::from_micros(50)).await;

        let statuses: Vec<&str> = reply.text.matches("HTTP/1.1 200 OK").collect();
        assert_eq!(statuses.len(), 5, "in pieces of {size}: {}", reply.text);
        assert_eq!(reply.text.matches("\"access_token\":").count(), 1);
        assert_eq!(reply.text.matches("\"jwks_uri\":").count(), 1);
        assert_eq!(reply.text.matches("{\"keys\":[").count(), 2);
    }
}

#[tokio::test]
async fn fetches_are_counted_and_have_ids() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let three = format!("{JWKS}\r\n{JWKS}\r\n{DISCOVERY}\r\n{LAST}");

    let reply = send_raw(issuer.listen, &[three.as_bytes()], Duration::ZERO).await;

    let ids: Vec<&str> = reply.text.lines().filter_map(|line| line.strip_prefix("x-request-id: ")).collect();
    let connection = ids[0].split('-').next().expect("two parts");
    let numbered: Vec<String> = (1..=4).map(|number| format!("{connection}-{number}")).collect();
    assert_eq!(ids, numbered);
    let metrics = get(&format!("http://{}/metrics", issuer.metrics)).await.expect("metrics");
    for (route, count) in [("/.well-known/jwks.json", 2), ("/.well-known/openid-configuration", 1)] {
        let line = format!("http_requests_total{{route=\"{route}\",method=\"GET\",status=\"200\"}} {count}");
        assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    }
    assert!(metrics.text().contains("http_requests_in_flight 1"), "the one for the metrics: {}", metrics.text());
}

#[tokio::test]
async fn a_server_that_leaves_says_so_to_fetchers() {
    let settings = Settings { server: "shutdown_delay = \"2s\"\n", ..Settings::PLAIN };
    let issuer = Issuer::new(settings);
    let mut running = issuer.serve().await;
    let mut stream = TcpStream::connect(issuer.listen).await.expect("a connection");
    let fetch = format!("{JWKS}\r\n");

    stream.write_all(fetch.as_bytes()).await.expect("sent");
    let mut text = String::new();
    while !text.ends_with("]}") {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.expect("an answer");
        assert_ne!(length, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..length]).expect("ASCII"));
    }
    running.signal(Signal::TERM);
    eventually("it says that it leaves", Duration::from_secs(2), async || {
        issuer.readiness().await.filter(|reply| reply.status == 503)
    })
    .await;
    // The second of these comes too late.
    stream.write_all(format!("{fetch}{fetch}").as_bytes()).await.expect("sent");
    stream.read_to_string(&mut text).await.expect("answers to the end");
    let exit = running.ended().await;

    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let replies = alike(&text);
    assert_eq!(replies.len(), 2, "{text}");
    assert!(!replies[0].contains(&"connection: close".to_owned()), "{replies:?}");
    assert!(replies[1].contains(&"connection: close".to_owned()), "{replies:?}");
    let set = replies[1].iter().find(|line| line.starts_with("{\"keys\":")).expect("a key set");
    assert_eq!(kids(&serde_json::from_str(set).expect("JSON")).len(), 2);
}

/// The answers on a connection: the lines of each head and its body, in order of the alphabet, without what differs each time.
fn alike(text: &str) -> Vec<Vec<String>> {
    let starts: Vec<usize> = text.match_indices("HTTP/1.").map(|(start, _)| start).chain([text.len()]).collect();
    starts
        .windows(2)
        .map(|answer| {
            let mut lines: Vec<String> = text[answer[0]..answer[1]]
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with("date: ") && !line.starts_with("x-request-id: "))
                .map(|line| line.split("\"request_id\"").next().unwrap_or_default().to_owned())
                .collect();
            // The status line in the end, where it is found.
            lines.rotate_left(1);
            let last = lines.len() - 1;
            lines[..last].sort();
            lines
        })
        .collect()
}
