//! Hostile input at the token endpoint: always a 4xx that says what was wrong, never a 5xx, and memory stays flat.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;

use crate::harness::{Issuer, Reply, Settings, send, send_raw};

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";
const BILLING: (&str, &str) = ("billing", Settings::SECRET);

/// Deadlines short enough to watch.
const IMPATIENT: Settings = Settings { server: "header_timeout = \"1s\"\nbody_timeout = \"1s\"\n", ..Settings::PLAIN };
/// The deadlines above, and room for a busy machine.
const CUT_OFF: Duration = Duration::from_secs(4);

#[tokio::test]
async fn malformed_forms_are_invalid_requests() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;
    let secret = Settings::SECRET;

    let forms = [
        ("no parameter at all", String::new()),
        ("an empty grant_type", "grant_type=".to_owned()),
        ("grant_type twice", format!("{GRANT}&{GRANT}")),
        ("scope twice", format!("{GRANT}&scope=invoices:read&scope=invoices:write")),
        ("a parameter twice, of which one is empty", format!("{GRANT}&scope=&scope=invoices:read")),
        ("an unknown parameter twice", format!("{GRANT}&x=1&x=2")),
        ("a truncated percent-encoding", format!("{GRANT}&scope=%2")),
        ("a lone percent sign", format!("{GRANT}&scope=%")),
        ("a percent-encoding that is not hexadecimal", "grant_type=%zz".to_owned()),
        ("percent-encoded bytes that are not UTF-8", format!("{GRANT}&scope=%ff%fe")),
        ("an overlong UTF-8 sequence", format!("{GRANT}&scope=%c0%af")),
        ("a control character", format!("{GRANT}&scope=a%00b")),
        ("a secret in the form beside the header", format!("{GRANT}&client_id=billing&client_secret={secret}")),
    ];
    for (what, form) in forms {
        let reply = issuer.token_reply(&form, BILLING).await;
        assert_oauth_error(what, &reply, &[400], "invalid_request");
    }

    let mut bytes = format!("{GRANT}&scope=").into_bytes();
    bytes.extend([0xff, 0xfe]);
    let reply = send(token_request(&issuer, Some(FORM), bytes)).await.expect("a response");
    assert_oauth_error("bytes that are not UTF-8", &reply, &[400], "invalid_request");
}

#[tokio::test]
async fn only_a_posted_form_is_read() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    let json = r#"{"grant_type":"client_credentials"}"#;
    for (content_type, body) in [
        (None, GRANT),
        (Some("application/json"), json),
        (Some("text/plain"), GRANT),
        (Some("multipart/form-data; boundary=x"), GRANT),
        (Some("application/x-www-form-urlencodedx"), GRANT),
        (Some(""), GRANT),
    ] {
        let reply = send(token_request(&issuer, content_type, body)).await.expect("a response");
        assert_oauth_error(&format!("content type {content_type:?}"), &reply, &[400, 415], "invalid_request");
    }
    let with_charset = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
    let reply = send(token_request(&issuer, Some(with_charset), GRANT)).await.expect("a response");
    assert_eq!(reply.status, 200, "{}", reply.text());

    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD] {
        let mut request = token_request(&issuer, Some(FORM), GRANT);
        *request.method_mut() = method.clone();
        let reply = send(request).await.expect("a response");
        assert_eq!(reply.status, 405, "{method}: {}", reply.text());
        assert!(reply.header("allow").contains("POST"), "{method}: {:?}", reply.headers);
    }
}

#[tokio::test]
async fn a_client_that_is_not_authenticated_is_an_invalid_client() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let headers = [
        ("no credentials", String::new()),
        ("an unknown client", basic(&format!("nobody:{}", Settings::SECRET))),
        ("a wrong secret", basic("billing:a-wrong-secret-that-is-long-enough-to-be-one")),
        ("an empty secret", basic("billing:")),
        ("an empty id", basic(&format!(":{}", Settings::SECRET))),
        ("no colon", basic("billing")),
        ("nothing after the scheme", "Basic".to_owned()),
        ("blanks after the scheme", "Basic    ".to_owned()),
        ("not base64", "Basic !!!!".to_owned()),
        ("base64 with a stray character", format!("{}*", basic("billing:x"))),
        ("base64 of bytes that are not UTF-8", format!("Basic {}", STANDARD.encode([0xff, b':', 0xfe]))),
        ("a bad percent-encoding in the id", basic("bill%ing:secret")),
        ("a control character", basic("billing:\u{0}")),
        ("another scheme", "Bearer abcdef".to_owned()),
        ("an unknown scheme", "Digest username=\"billing\"".to_owned()),
        ("credentials far too long", basic(&format!("billing:{}", "x".repeat(6_000)))),
    ];
    let mut bodies = Vec::new();
    for (what, value) in headers {
        let mut request = token_request(&issuer, Some(FORM), GRANT);
        request.headers_mut().remove(header::AUTHORIZATION);
        if !value.is_empty() {
            request.headers_mut().insert(header::AUTHORIZATION, value.parse().expect("a header value"));
        }
        let reply = send(request).await.expect("a response");

        // RFC 6749 §5.2: a request with a malformed parameter is invalid_request; a client that fails to authenticate
        // is invalid_client. A malformed header can be read as either.
        let code = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        let (status, code) = match code.as_str() {
            "invalid_request" => (400, "invalid_request"),
            _ => (401, "invalid_client"),
        };
        assert_oauth_error(what, &reply, &[status], code);
        if status == 401 {
            assert!(reply.header("www-authenticate").starts_with("Basic"), "{what}: {:?}", reply.headers);
        }
        bodies.push((what, status, reply.text().to_owned()));
    }
    // Who asks must not learn which ids exist.
    assert_eq!((bodies[1].1, &bodies[1].2), (bodies[2].1, &bodies[2].2), "unknown client, wrong secret");
    for (what, status, _) in &bodies[..4] {
        assert_eq!(*status, 401, "{what}");
    }

    let wrong = format!("{GRANT}&client_id=billing&client_secret=a-wrong-secret-that-is-long-enough-to-be-one");
    let half = format!("{GRANT}&client_id=billing");
    for (what, form) in [("a wrong secret in the form", wrong), ("no secret in the form", half)] {
        let mut request = token_request(&issuer, Some(FORM), form);
        request.headers_mut().remove(header::AUTHORIZATION);
        let reply = send(request).await.expect("a response");
        assert_oauth_error(what, &reply, &[400, 401], "invalid_client");
    }

    let mut in_query = token_request(&issuer, Some(FORM), GRANT);
    in_query.headers_mut().remove(header::AUTHORIZATION);
    let url = issuer.at(&format!("/oauth2/token?client_id=billing&client_secret={}", Settings::SECRET));
    *in_query.uri_mut() = url.parse().expect("a URL");
    let reply = send(in_query).await.expect("a response");
    assert!(matches!(reply.status.as_u16(), 400 | 401), "credentials in the query must not count: {}", reply.text());

    let mut twice = token_request(&issuer, Some(FORM), GRANT);
    let again = twice.headers()[header::AUTHORIZATION].clone();
    twice.headers_mut().append(header::AUTHORIZATION, again);
    let reply = send(twice).await.expect("a response");
    assert_oauth_error("two Authorization headers", &reply, &[400], "invalid_request");
}

#[tokio::test]
async fn what_a_client_may_not_have_is_refused_by_its_own_code() {
    let issuer = Issuer::new(Settings::PLAIN);
    let _running = issuer.serve().await;

    for (form, code) in [
        ("grant_type=password&username=alice&password=x", "unsupported_grant_type"),
        ("grant_type=implicit", "unsupported_grant_type"),
        ("grant_type=CLIENT_CREDENTIALS", "unsupported_grant_type"),
        ("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=x", "unsupported_grant_type"),
        ("grant_type=client_credentials&scope=invoices:delete", "invalid_scope"),
        ("grant_type=client_credentials&scope=%22quoted%22", "invalid_scope"),
        ("grant_type=client_credentials&resource=https%3A%2F%2Fevil.example.com", "invalid_target"),
        ("grant_type=client_credentials&resource=not+a+url", "invalid_target"),
        ("grant_type=client_credentials&resource=https%3A%2F%2Fapi.example.com%23part", "invalid_target"),
    ] {
        let reply = issuer.token_reply(form, BILLING).await;
        assert_oauth_error(form, &reply, &[400], code);
    }
    for good in ["&scope=invoices:read", "&resource=https%3A%2F%2Fother.example.com", "&unknown=1", "&"] {
        let reply = issuer.token_reply(&format!("{GRANT}{good}"), BILLING).await;
        assert_eq!(reply.status, 200, "{good}: {}", reply.text());
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused_unread() {
    let issuer = Issuer::new(Settings::PLAIN);
    let running = issuer.serve().await;
    let credentials = STANDARD.encode(format!("billing:{}", Settings::SECRET));
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nAuthorization: Basic {credentials}\r\n\
         Connection: close\r\n",
        issuer.listen
    );
    let megabyte = vec![b'a'; 1 << 20];
    let chunk = [format!("{:x}\r\n", megabyte.len()).into_bytes(), megabyte.clone(), b"\r\n".to_vec()].concat();
    let with_length = format!("{head}Content-Length: {}\r\n\r\n", 10 << 20);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let requests = [
        ("with its length", with_length.as_bytes(), megabyte.as_slice()),
        ("in chunks", chunked.as_bytes(), chunk.as_slice()),
    ];

    // The first of each warms up what is only allocated once.
    let mut before = None;
    for round in 0..8 {
        for (what, head, piece) in requests {
            let mut pieces = vec![head];
            pieces.extend([piece; 10]);
            pieces.push(b"0\r\n\r\n");
            let reply = send_raw(issuer.listen, &pieces, Duration::ZERO).await;
            assert!(matches!(reply.status(), Some(400 | 413)), "{what}: {:?}", reply.text);
            assert!(reply.body().contains("\"invalid_request\""), "{what}: {:?}", reply.text);
        }
        if round == 0 {
            before = Some(running.resident_kib());
        }
    }
    let (before, after) = (before.expect("measured in round 0"), running.resident_kib());
    assert!(after < before + 20 * 1024, "memory grew from {before} to {after} KiB");
    issuer.token(BILLING).await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_leave_nothing_behind() {
    let issuer = Issuer::new(IMPATIENT);
    let running = issuer.serve().await;
    issuer.token(BILLING).await;
    let before = running.resident_kib();

    let head = format!("POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n");
    let half_a_body = format!("{head}Content-Length: 100\r\n\r\ngrant_type=");
    let endless_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let once = Duration::ZERO;
    let drip = Duration::from_millis(300);
    let (head_only, half_only) = ([head.as_bytes()], [half_a_body.as_bytes()]);
    let mut header_drip = vec![head.as_bytes()];
    header_drip.extend([b"x".as_slice(); 60]);
    let mut body_drip = vec![half_a_body.as_bytes()];
    body_drip.extend([b"a".as_slice(); 60]);
    let mut chunk_drip = vec![endless_chunks.as_bytes()];
    chunk_drip.extend([b"1\r\na\r\n".as_slice(); 60]);

    let (silence, no_end, no_rest, headers, bodies, chunks) = tokio::join!(
        send_raw(issuer.listen, &[], once),
        send_raw(issuer.listen, &head_only, once),
        send_raw(issuer.listen, &half_only, once),
        send_raw(issuer.listen, &header_drip, drip),
        send_raw(issuer.listen, &body_drip, drip),
        send_raw(issuer.listen, &chunk_drip, drip),
    );
    for (what, reply) in [
        ("says nothing", silence),
        ("never ends its header", no_end),
        ("never sends the rest of its body", no_rest),
        ("sends its header byte by byte", headers),
        ("sends its body byte by byte", bodies),
        ("sends small chunks for ever", chunks),
    ] {
        assert!(reply.took < CUT_OFF, "a client that {what} was cut off after {:?}", reply.took);
        let status = reply.status();
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "a client that {what}: {}", reply.text);
    }

    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (server, half) = (issuer.listen, half_a_body.clone());
        crowd.spawn(async move { send_raw(server, &[half.as_bytes()], once).await.took });
    }
    issuer.token(BILLING).await;
    for took in crowd.join_all().await {
        assert!(took < CUT_OFF, "one of a hundred slow clients was cut off after {took:?}");
    }
    let after = running.resident_kib();
    assert!(after < before + 20 * 1024, "memory grew from {before} to {after} KiB");
    issuer.token(BILLING).await;
}

#[tokio::test]
async fn bytes_that_are_not_http_end_the_connection() {
    let issuer = Issuer::new(IMPATIENT);
    let running = issuer.serve().await;

    let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(5_000));
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /oauth2/token\r\n\r\n",
        b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        long_line.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let reply = send_raw(issuer.listen, &[bytes], Duration::ZERO).await;
        let status = reply.status();
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{}", reply.text);
        assert!(
            reply.took < CUT_OFF,
            "{:?} for {:?}",
            reply.took,
            String::from_utf8_lossy(&bytes[..20.min(bytes.len())])
        );
    }
    issuer.token(BILLING).await;
    assert!(!running.log().contains("panicked"), "{}", running.log());
}

fn token_request(issuer: &Issuer, content_type: Option<&str>, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let (id, secret) = BILLING;
    let credentials = STANDARD.encode(format!("{id}:{secret}"));
    let mut request =
        Request::post(issuer.at("/oauth2/token")).header(header::AUTHORIZATION, format!("Basic {credentials}"));
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    request.body(Full::new(body.into())).expect("a request")
}

/// RFC 6749 §5.2: the error's form, its code, and that nobody keeps it.
#[track_caller]
fn assert_oauth_error(what: &str, reply: &Reply, statuses: &[u16], code: &str) {
    let context = format!("{what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    assert!(statuses.contains(&reply.status.as_u16()), "{context}");
    assert!(reply.header("content-type").starts_with("application/json"), "{context}");
    assert_eq!(reply.header("cache-control"), "no-store", "{context}");
    let body = reply.json();
    assert_eq!(body["error"], code, "{context}");
    let description = body["error_description"].as_str().unwrap_or_default();
    assert!(!description.is_empty(), "{context}");
    assert!(description.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{context}");
    assert!(!reply.text().contains(Settings::SECRET), "{context}");
}
