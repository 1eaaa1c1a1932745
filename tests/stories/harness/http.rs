//! HTTP as clients speak it: well-formed through hyper, each request on a connection of its own, and bytes as they are.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer of a server on this machine takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The header's value, or nothing for a header that is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of visible characters"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.body))
    }
}

/// What came back on a connection that was written to byte by byte.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub(crate) text: String,
    /// From the first byte sent to the end of the connection.
    pub(crate) took: Duration,
}

impl RawReply {
    /// The status of the first response, or nothing when the connection just ended.
    pub(crate) fn status(&self) -> Option<u16> {
        self.text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
    }

    /// The body of a response that was the last on its connection.
    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// Sends a request; the error says why there was no response.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Result<Reply, String> {
    exchange(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(), request).await
}

/// Connections that are kept, for stories that send thousands of requests.
#[derive(Clone)]
pub(crate) struct Kept(Client<HttpConnector, Full<Bytes>>);

impl Kept {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        exchange(self.0.clone(), request).await
    }

    /// Posts a form, with client credentials in an `Authorization` header where they are given.
    pub(crate) async fn post_form(&self, url: &str, form: &str, basic: Option<(&str, &str)>) -> Result<Reply, String> {
        self.send(form_request(url, form, basic)).await
    }
}

/// Sends a request over HTTP/2 without asking first.
pub(crate) async fn send_with_prior_knowledge(request: Request<Full<Bytes>>) -> Result<Reply, String> {
    exchange(Client::builder(TokioExecutor::new()).http2_only(true).build_http(), request).await
}

pub(crate) async fn get(url: &str) -> Result<Reply, String> {
    send(Request::get(url).body(Full::default()).expect("a request")).await
}

/// Posts a form, with client credentials in an `Authorization` header where they are given.
pub(crate) async fn post_form(url: &str, form: &str, basic: Option<(&str, &str)>) -> Result<Reply, String> {
    send(form_request(url, form, basic)).await
}

fn form_request(url: &str, form: &str, basic: Option<(&str, &str)>) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some((id, secret)) = basic {
        let credentials = STANDARD.encode(format!("{id}:{secret}"));
        request = request.header(header::AUTHORIZATION, format!("Basic {credentials}"));
    }
    request.body(Full::from(form.to_owned())).expect("a request")
}

/// Writes `pieces` one by one, `pause` apart, and reads until the server ends the connection.
///
/// A server that stops reading early is no error: what it answered is what counts.
pub(crate) async fn send_raw(server: SocketAddr, pieces: &[&[u8]], pause: Duration) -> RawReply {
    let start = Instant::now();
    let stream = TcpStream::connect(server).await.expect("the server accepts connections");
    let (mut reading, mut writing) = stream.into_split();
    let read_all = async {
        let mut received = Vec::new();
        // A reset after the answer leaves in `received` what came before it.
        let _ = reading.read_to_end(&mut received).await;
        received
    };
    let write_all = async {
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                tokio::time::sleep(pause).await;
            }
            if writing.write_all(piece).await.is_err() {
                break;
            }
        }
        // Held open: a client that only waits is part of what is tested.
        std::future::pending::<()>().await;
    };
    let received = tokio::time::timeout(DEADLINE, async {
        tokio::select! {
            received = read_all => received,
            () = write_all => unreachable!("the writing half stays open"),
        }
    });
    let received = received.await.unwrap_or_else(|_| panic!("the server kept a connection open for {DEADLINE:?}"));
    RawReply { text: String::from_utf8_lossy(&received).into_owned(), took: start.elapsed() }
}

async fn exchange<C>(client: Client<C, Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Reply, String>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let whole = async {
        let response = client.request(request).await.map_err(|error| chain(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| chain(&error))?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    };
    tokio::time::timeout(DEADLINE, whole).await.unwrap_or_else(|_| Err(format!("no response within {DEADLINE:?}")))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
