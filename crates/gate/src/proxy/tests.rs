use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;

use http_body_util::{Empty, Full};
use keywheel_verifier::testing::FakeIssuer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::gate::Gate;
use crate::serve::{Limits, Routes, serve};
use crate::shutdown::{Stop, shutdown};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=5\r\nconnection: x-hop\r\nx-hop: 1\r\nx-end: 1\r\n\r\nok";

/// A service that answers every request with the same bytes and remembers what it was sent.
struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        log.lock().expect("no panic").push(head);
                        stream.write_all(answer.as_bytes()).await.expect("a client that reads");
                        if answer.contains("101 Switching") {
                            return echo(stream).await;
                        }
                    }
                });
            }
        });
        Self { address, received, task }
    }

    /// The only request that came.
    fn request(&self) -> String {
        let received = self.received.lock().expect("no panic");
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }

    /// The lines of a header in the only request.
    fn lines(&self, name: &str) -> Vec<String> {
        let request = self.request();
        let lines = request.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    }

    fn was_left_alone(&self) -> bool {
        self.received.lock().expect("no panic").is_empty()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of a message, up to the empty line; `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        stream.write_all(&bytes[..count]).await.expect("a client that reads");
    }
}

struct World {
    issuer: FakeIssuer,
    gate: Arc<Gate>,
    upstream: Upstream,
}

async fn world_answering(answer: &'static str, tables: &str) -> World {
    let upstream = Upstream::start(answer).await;
    let (issuer, gate) = gate(upstream.address, tables);
    World { issuer, gate, upstream }
}

async fn world(tables: &str) -> World {
    world_answering(OK, tables).await
}

fn gate(upstream: SocketAddr, tables: &str) -> (FakeIssuer, Arc<Gate>) {
    let issuer = FakeIssuer::in_memory();
    let proxy = if tables.contains("[proxy]") { "" } else { "[proxy]\n" };
    let upstream = format!("upstream = \"http://{upstream}\"\n");
    let tables = format!("{proxy}{tables}").replacen("[proxy]\n", &format!("[proxy]\n{upstream}"), 1);
    let text = format!(
        "[[issuer]]\nurl = \"https://id.example.com\"\naudience = \"a\"\n{tables}\n\
         [[route]]\npath = \"/public/**\"\naccess = \"public\"\n[[route]]\npath = \"/private/**\"\n"
    );
    let config = Config::read(Path::new("gate.toml"), &text, Vec::new()).unwrap_or_else(|errors| panic!("{errors}"));
    let verifier = issuer.verifier().build().expect("a verifier");
    (issuer, Arc::new(Gate::for_tests(config, verifier)))
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri).header("host", "app.example.com")
}

impl World {
    async fn answer(&self, request: http::request::Builder) -> Response<Body> {
        self.gate.answer(request.body(Empty::<Bytes>::new()).expect("a request"), LOOPBACK).await
    }

    async fn status(&self, request: http::request::Builder) -> u16 {
        self.answer(request).await.status().as_u16()
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.issuer.token().subject("alice").sign())
    }
}

#[tokio::test]
async fn a_request_that_may_pass_arrives_as_it_was_sent() {
    let world = world("").await;

    let request = get("/private/caf%c3%a9?a=%2F&b").header("authorization", world.bearer()).header("x-other", "1");
    let response = world.answer(request).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get("x-end").map(HeaderValue::as_bytes), Some(&b"1"[..]));
    assert!(world.upstream.request().starts_with("GET /private/caf%c3%a9?a=%2F&b HTTP/1.1\r\n"));
    assert_eq!(world.upstream.lines("host"), ["app.example.com"]);
    assert_eq!(world.upstream.lines("x-other"), ["1"]);
    assert_eq!(world.upstream.lines("x-auth-subject"), ["alice"]);
    assert_eq!(world.upstream.lines("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(world.upstream.lines("x-forwarded-host"), ["app.example.com"]);
    assert_eq!(world.upstream.lines("x-forwarded-proto"), ["http"]);
    assert_eq!(world.upstream.lines("via"), ["1.1 keywheel-gate"]);
}

#[tokio::test]
async fn what_may_not_pass_never_arrives() {
    let world = world("").await;

    for (request, status) in [
        (get("/private/a"), 401),
        (get("/elsewhere").header("authorization", world.bearer()), 403),
        (get("/public/../private/a"), 400),
        (get("/public//a"), 400),
        (get("/public/%2e%2e/private"), 400),
        (get("/public/a;x/../../private"), 400),
        (get("/public/a").header("x-original-url", "/private/a"), 400),
        (get("/public/a").method("TRACE"), 400),
        (get("/public/a").method("delete"), 400),
        (get("http://app.example.com/public/a"), 400),
        (Request::get("/public/a"), 400),
        (get("/public/a").header("host", "other.example.com"), 400),
        (get("/public/a").header("content-length", "1").header("transfer-encoding", "chunked"), 400),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(world.status(request).await, status, "{shown}");
    }
    assert!(world.upstream.was_left_alone());
}

#[tokio::test]
async fn no_identity_but_ours_arrives() {
    let world = world("").await;
    let mut request = get("/public/a");
    for name in ["x-auth-subject", "x_auth_subject", "x-auth_subject", "X-Auth-Roles", "x.auth.email"] {
        request = request.header(name, "root");
    }

    // Naming a header in Connection removes it from what came, not from what we add.
    assert_eq!(world.status(request.header("connection", "x-auth-subject, x-auth-roles")).await, 200);

    assert!(!world.upstream.request().contains("root"), "{}", world.upstream.request());
    assert_eq!(world.upstream.lines("x-auth-subject"), [""]);
    assert_eq!(world.upstream.lines("x-auth-roles"), [""]);
}

#[tokio::test]
async fn headers_of_the_connection_stay_on_it() {
    let world = world("").await;
    let request = get("/public/a")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "1")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic x")
        .header("te", "trailers")
        .header("upgrade", "h2c")
        .header("http2-settings", "x")
        .header("expect", "100-continue")
        .header("x-end", "1");

    let response = world.answer(request).await;

    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
        "expect",
    ] {
        assert_eq!(world.upstream.lines(name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(world.upstream.lines("x-end"), ["1"]);
    assert!(!response.headers().contains_key("x-hop") && !response.headers().contains_key("keep-alive"));
}

#[tokio::test]
async fn only_a_trusted_proxy_speaks_for_the_client() {
    let forged = |request: http::request::Builder| {
        request
            .header("x-forwarded-for", "1.2.3.4")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "public.example.com")
            .header("x_forwarded_for", "9.9.9.9")
            .header("x-forwarded-prefix", "/admin")
            .header("x-real-ip", "1.2.3.4")
            .header("forwarded", "for=1.2.3.4")
    };
    let stranger = world("").await;
    let proxy = world("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[proxy]\n").await;

    stranger.answer(forged(get("/public/a"))).await;
    proxy.answer(forged(get("/public/a"))).await;

    let said =
        |world: &World| ["for", "proto", "host"].map(|it| world.upstream.lines(&format!("x-forwarded-{it}")).join("|"));
    assert_eq!(said(&stranger), ["127.0.0.1", "http", "app.example.com"]);
    assert_eq!(said(&proxy), ["1.2.3.4, 127.0.0.1", "https", "public.example.com"]);
    for world in [&stranger, &proxy] {
        for name in ["x_forwarded_for", "x-forwarded-prefix", "x-real-ip", "forwarded"] {
            assert_eq!(world.upstream.lines(name), Vec::<String>::new(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_token_stays_with_the_gate_unless_told_otherwise() {
    let cookie = "[token]\ncookie = \"__Host-access\"\n";
    let dropping = world(&format!("{cookie}[proxy]\n")).await;
    let keeping = world(&format!("{cookie}[proxy]\npass_token = true\n")).await;

    for world in [&dropping, &keeping] {
        let request =
            get("/public/a").header("authorization", "Bearer x").header("cookie", "a=1; __Host-access=t; b=2");
        assert_eq!(world.status(request).await, 200);
    }

    assert_eq!(dropping.upstream.lines("authorization"), Vec::<String>::new());
    assert_eq!(dropping.upstream.lines("cookie"), ["a=1; b=2"]);
    assert_eq!(keeping.upstream.lines("authorization"), ["Bearer x"]);
    assert_eq!(keeping.upstream.lines("cookie"), ["a=1; __Host-access=t; b=2"]);
}

#[tokio::test]
async fn the_upstream_can_have_its_own_host() {
    let world = world("[proxy]\nhost = \"upstream\"\n").await;

    world.answer(get("/public/a")).await;

    assert_eq!(world.upstream.lines("host"), [world.upstream.address.to_string()]);
    assert_eq!(world.upstream.lines("x-forwarded-host"), ["app.example.com"]);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_bad_gateway() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let (_issuer, gate) = gate(address, "");

    let request = get("/public/a").body(Empty::<Bytes>::new()).expect("a request");
    let response = gate.answer(request, LOOPBACK).await;

    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["status"], 502);
    assert!(!body.to_string().contains(&address.port().to_string()), "nothing of the inside is told");
}

#[tokio::test]
async fn an_answer_that_nobody_can_use_is_a_bad_gateway() {
    for answer in
        ["nonsense\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"]
    {
        let world = world_answering(answer, "").await;
        assert_eq!(world.status(get("/public/a")).await, 502, "{answer}");
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_gateway_timeout() {
    // The empty answer: the request is read and nothing comes back.
    let world = world_answering("", "[proxy]\nresponse_timeout = \"1s\"\n").await;

    assert_eq!(world.status(get("/public/a")).await, 504);
}

#[tokio::test]
async fn the_length_of_a_body_survives() {
    let world = world("").await;
    let request = Request::post("/public/a").header("host", "a").header("content-length", "5");

    let body = Full::new(Bytes::from_static(b"hello"));
    let response = world.gate.answer(request.body(body).expect("a request"), LOOPBACK).await;

    assert_eq!(response.status(), StatusCode::OK);
    let head = world.upstream.received.lock().expect("no panic")[0].clone();
    assert!(head.contains("content-length: 5\r\n") && !head.contains("transfer-encoding"), "{head}");
}

/// The gate on a port of its own.
struct Served {
    address: SocketAddr,
    stop: Option<Stop>,
    serving: JoinHandle<()>,
}

fn served(listener: TcpListener, gate: Arc<Gate>) -> Served {
    let seconds = Duration::from_secs;
    let limits = Limits { header_timeout: seconds(5), drain_timeout: seconds(5), max_connections: 16 };
    let (stop, stopped) = shutdown();
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(serve(listener, Routes::Public(gate), limits, stopped));
    Served { address, stop: Some(stop), serving }
}

async fn served_world(answer: &'static str) -> (World, Served) {
    let world = world_answering(answer, "").await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let served = served(listener, Arc::clone(&world.gate));
    (world, served)
}

/// Sends bytes as they are and reads until the connection ends.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a server that reads");
    let mut answer = Vec::new();
    // A connection that is reset after the answer has still brought it.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_could_be_cut_in_two_places_are_refused() {
    let (world, served) = served_world(OK).await;
    let smuggled = "GET /private/a HTTP/1.1\r\nhost: a\r\n\r\n";
    for framing in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "content-length: +3\r\n\r\nabc",
    ] {
        let request = format!("POST /public/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{framing}{smuggled}");
        let answer = raw(served.address, &request).await;
        assert!(!answer.starts_with("HTTP/1.1 200") || !answer.contains("401"), "{framing}: {answer}");
        let received = world.upstream.received.lock().expect("no panic").join("");
        assert!(!received.contains("/private"), "{framing}: {received}");
        assert!(!received.contains("content-length: 3\r\ntransfer-encoding"), "{framing}: {received}");
    }
}

#[tokio::test]
async fn lines_cannot_be_put_into_a_request() {
    let (world, served) = served_world(OK).await;
    for line in
        ["/public/a\x0bHTTP", "/public/a\r HTTP/1.1", "/public/a#x/../private", "/public/%0d%0aX-Auth-Subject:root"]
    {
        let answer = raw(served.address, &format!("GET {line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let received = world.upstream.received.lock().expect("no panic").join("");
        assert!(!received.contains("root") && !received.contains("private"), "{line:?}: {answer} {received}");
    }
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
    let (world, served) = served_world(switching).await;
    let mut client = TcpStream::connect(served.address).await.expect("a connection");
    let request = format!(
        "GET /private/socket HTTP/1.1\r\nhost: a\r\nauthorization: {}\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: k\r\n\r\n",
        world.bearer()
    );

    client.write_all(request.as_bytes()).await.expect("a server that reads");
    let head = read_head(&mut client).await.expect("an answer");
    client.write_all(b"ping").await.expect("a tunnel");
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.expect("an echo");

    assert!(head.starts_with("HTTP/1.1 101") && head.contains("sec-websocket-accept: x"), "{head}");
    assert_eq!(&echoed, b"ping");
    assert_eq!(world.upstream.lines("upgrade"), ["websocket"]);
    assert_eq!(world.upstream.lines("sec-websocket-key"), ["k"]);
    assert_eq!(world.upstream.lines("x-auth-subject"), ["alice"]);
}

#[tokio::test]
async fn a_websocket_needs_its_token_too() {
    let (world, served) = served_world(OK).await;
    let request = "GET /private/socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

    let mut client = TcpStream::connect(served.address).await.expect("a connection");
    client.write_all(request.as_bytes()).await.expect("a server that reads");
    let head = read_head(&mut client).await.expect("an answer");

    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert!(world.upstream.was_left_alone());
}

#[tokio::test]
async fn a_stopping_gate_finishes_what_it_has_begun() {
    // The service sends the first half of its answer and keeps the second until it is told.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (go, going) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await.expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await.expect("a gate that reads");
        going.await.expect("the order to go on");
        stream.write_all(b"cd").await.expect("a gate that reads");
    });
    let (_issuer, gate) = gate(address, "");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let mut served = served(port, gate);

    let mut client = TcpStream::connect(served.address).await.expect("a connection");
    client.write_all(b"GET /public/a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a server that reads");
    read_head(&mut client).await.expect("an answer");
    served.stop.take().expect("it was not stopped yet").stop();
    go.send(()).expect("a service that waits");
    let mut body = Vec::new();
    client.read_to_end(&mut body).await.expect("a body and the end");

    assert_eq!(body, b"abcd");
    served.serving.await.expect("an orderly end");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[test]
fn a_cookie_is_taken_out_of_its_line() {
    for (line, rest) in [
        ("t=1", None),
        ("t=1; a=2", Some("a=2")),
        ("a=2;t=1;  b=3", Some("a=2; b=3")),
        ("tt=1; T=2", Some("tt=1; T=2")),
        ("a=t=1", Some("a=t=1")),
        ("t", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static(line));
        remove_cookie(&mut headers, "t");
        assert_eq!(headers.get(COOKIE).map(|value| value.to_str().expect("text")), rest, "{line}");
    }
}
