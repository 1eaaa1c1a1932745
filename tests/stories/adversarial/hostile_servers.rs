//! Servers that answer with anything but HTTP, or without end: who asks them for keys gives up in time, with little memory,
//! and says that nobody knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use keywheel_jose::{Algorithm, Policy};
use keywheel_verifier::{Limits, Verifier, VerifyError};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::origin::{Origin, Reply};
use super::signer::{AUDIENCE, ISSUER, claims, good, header, our_keys, token, with};
use super::trap::Trap;

/// One exchange may take so long; a fetch is given up after twice this.
const DEADLINE: Duration = Duration::from_millis(500);
/// The same, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server writes once it was asked: this, and then the second over and over.
#[derive(Clone)]
struct Talk {
    first: Vec<u8>,
    then: Then,
}

#[derive(Clone)]
enum Then {
    Close,
    /// Says nothing more, and keeps the connection.
    Wait,
    /// Says this again and again, so long apart.
    Repeat(Vec<u8>, Duration),
}

#[tokio::test]
async fn a_server_that_does_not_answer_as_it_should_is_given_up() {
    let mut asking = JoinSet::new();
    for (name, talk) in talks() {
        asking.spawn(async move {
            let url = format!("http://{}/jwks.json", serve(talk).await);
            let verifier = verifier(Policy::access_token(ISSUER, AUDIENCE), Some(&url));
            let began = Instant::now();

            let verdict = verifier.verify::<Map<String, Value>>(&good(Algorithm::ES256)).await;

            assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{name}: {verdict:?}");
            assert!(began.elapsed() < PATIENCE, "{name}: given up after {:?}", began.elapsed());
        });
    }
    asking.join_all().await;
}

/// RFC 8414 §3.3 and OpenID Connect Discovery §4.3: the document has to be that of the issuer it was asked from.
#[tokio::test]
async fn a_discovery_document_of_somebody_else_leads_nowhere() {
    let trap = Trap::new().await;
    let (there, keys) = (trap.address(), our_keys().to_string());
    let good_keys = Origin::answering(Reply::keys(keys)).await;
    let at = |issuer: &str, jwks_uri: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}"}}"#);
    for (name, document) in [
        ("the right one", Box::new(|own: &str| at(own, &good_keys.url())) as Box<dyn Fn(&str) -> String>),
        ("another issuer", Box::new(|_| at(ISSUER, &good_keys.url()))),
        ("a slash more", Box::new(|own| at(&format!("{own}/"), &good_keys.url()))),
        ("in other letters", Box::new(|own| at(&own.to_uppercase(), &good_keys.url()))),
        ("issuers in an array", Box::new(|own| format!(r#"{{"issuer":["{own}"],"jwks_uri":"{}"}}"#, good_keys.url()))),
        ("no issuer", Box::new(|_| format!(r#"{{"jwks_uri":"{}"}}"#, good_keys.url()))),
        (
            "two issuers",
            Box::new(|own| format!(r#"{{"issuer":"x","issuer":"{own}","jwks_uri":"{}"}}"#, good_keys.url())),
        ),
        ("no jwks_uri", Box::new(|own| format!(r#"{{"issuer":"{own}"}}"#))),
        ("plain HTTP elsewhere", Box::new(|own| at(own, "http://keys.example.com/jwks.json"))),
        ("a file", Box::new(|own| at(own, "file:///etc/passwd"))),
        ("data", Box::new(|own| at(own, "data:application/json,{}"))),
        ("credentials", Box::new(move |own| at(own, &format!("http://user@{there}/jwks.json")))),
        ("a relative URL", Box::new(|own| at(own, "/jwks.json"))),
        ("nothing", Box::new(|own| at(own, ""))),
        ("a number", Box::new(|own| format!(r#"{{"issuer":"{own}","jwks_uri":1}}"#))),
        ("the keys themselves", Box::new(|_| our_keys().to_string())),
        ("no JSON", Box::new(|_| "<html>".to_owned())),
    ] {
        let origin = Origin::answering(Reply::keys("")).await;
        let own = format!("http://{}", origin.address());
        origin.answer(Reply::keys(document(&own)));
        let verifier = verifier(Policy::access_token(&own, AUDIENCE), None);
        let claims = with(claims(), "iss", own.as_str());
        let token = token(Algorithm::ES256, &header(Algorithm::ES256), &claims);

        let verdict = verifier.verify::<Map<String, Value>>(&token).await;

        if name == "the right one" {
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
            continue;
        }
        assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{name}: {verdict:?}");
        assert_eq!(origin.requests(), 1, "{name}");
    }
    assert_eq!(good_keys.requests(), 1, "keys were fetched because of a document of somebody else");
    assert_eq!(trap.connections(), 0, "somebody followed a URL that nobody may follow");
}

fn talks() -> Vec<(&'static str, Talk)> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\n";
    let keys = our_keys().to_string();
    let slowly = Duration::from_millis(20);
    let at_once = Duration::ZERO;
    let talk = |first: String, then: Then| Talk { first: first.into_bytes(), then };
    let chunk = |octets: usize| format!("{octets:x}\r\n{}\r\n", " ".repeat(octets)).into_bytes();
    vec![
        ("it closes at once", talk(String::new(), Then::Close)),
        ("it says nothing", talk(String::new(), Then::Wait)),
        ("it begins a status line", talk("HTTP/1.1 2".into(), Then::Wait)),
        ("it never ends its header", talk(head.into(), Then::Wait)),
        ("header lines without end", talk(head.into(), Then::Repeat(b"X-A: b\r\n".to_vec(), at_once))),
        (
            "one header line without end",
            talk("HTTP/1.1 200 OK\r\nX-A: ".into(), Then::Repeat(vec![b'a'; 4096], at_once)),
        ),
        ("a header letter by letter", talk(head.into(), Then::Repeat(b"a".to_vec(), slowly))),
        ("half a body, and then nothing", talk(format!("{head}Content-Length: 10000\r\n\r\n{keys}"), Then::Wait)),
        ("half a body, and then the end", talk(format!("{head}Content-Length: 10000\r\n\r\n{keys}"), Then::Close)),
        (
            "a body letter by letter",
            talk(format!("{head}Content-Length: 10000\r\n\r\n"), Then::Repeat(b" ".to_vec(), slowly)),
        ),
        (
            "a body of a tebibyte",
            talk(format!("{head}Content-Length: 1099511627776\r\n\r\n"), Then::Repeat(vec![b' '; 65_536], at_once)),
        ),
        (
            "chunks without end",
            talk(format!("{head}Transfer-Encoding: chunked\r\n\r\n"), Then::Repeat(chunk(4096), at_once)),
        ),
        (
            "small chunks without end",
            talk(format!("{head}Transfer-Encoding: chunked\r\n\r\n"), Then::Repeat(chunk(1), slowly)),
        ),
        (
            "a chunk that is no number",
            talk(format!("{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n{keys}"), Then::Close),
        ),
        (
            "a chunk of a negative length",
            talk(format!("{head}Transfer-Encoding: chunked\r\n\r\n-1\r\n{keys}"), Then::Close),
        ),
        (
            "a body until the end, that does not end",
            talk(format!("{head}\r\n"), Then::Repeat(vec![b' '; 4096], at_once)),
        ),
        (
            "100 Continue without end",
            talk(String::new(), Then::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), slowly)),
        ),
        ("two lengths", talk(format!("{head}Content-Length: 3\r\nContent-Length: 5\r\n\r\n{keys}"), Then::Close)),
        ("a negative length", talk(format!("{head}Content-Length: -1\r\n\r\n{keys}"), Then::Close)),
        ("a length too short", talk(format!("{head}Content-Length: 20\r\n\r\n{keys}"), Then::Close)),
        (
            "compressed",
            talk(
                format!("{head}Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\u{1f}\u{8}\u{8}\u{0}"),
                Then::Close,
            ),
        ),
        ("HTTP/0.9", talk(keys.clone(), Then::Close)),
        ("HTTP/2 without asking", talk("\0\0\0\u{4}\0\0\0\0\0".into(), Then::Wait)),
        ("TLS", talk("\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}".into(), Then::Close)),
        ("SSH", talk("SSH-2.0-OpenSSH_9.9\r\n".into(), Then::Wait)),
        (
            "a status of four digits",
            talk(format!("HTTP/1.1 2000 OK\r\nContent-Length: {}\r\n\r\n{keys}", keys.len()), Then::Close),
        ),
        (
            "a null octet in a header",
            talk(format!("{head}X-A: a\0b\r\nContent-Length: {}\r\n\r\n{keys}", keys.len()), Then::Close),
        ),
    ]
}

/// A server that talks like that to whoever has sent a request.
async fn serve(talk: Talk) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever hangs up in the middle is right.
            tokio::spawn(speak(stream, talk.clone()));
        }
    });
    address
}

async fn speak(mut stream: TcpStream, talk: Talk) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    stream.write_all(&talk.first).await?;
    match talk.then {
        Then::Close => Ok(()),
        Then::Wait => std::future::pending().await,
        Then::Repeat(bytes, pause) => loop {
            stream.write_all(&bytes).await?;
            tokio::time::sleep(pause).await;
        },
    }
}

fn verifier(policy: Policy, jwks_url: Option<&str>) -> Verifier {
    let limits = Limits { exchange_deadline: DEADLINE, connect_timeout: DEADLINE, ..Limits::default() };
    let builder = Verifier::builder(policy).limits(limits);
    let builder = jwks_url.into_iter().fold(builder, |builder, url| builder.jwks_url(url));
    builder.build().expect("a verifier")
}
