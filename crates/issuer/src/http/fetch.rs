//! Connections that fetch documents.
//!
//! Every verifier there is asks for the key set, mostly on a connection of its own, and the work of HTTP is most of what
//! such an answer costs. So what comes first on a connection is looked at before it is handed on: as long as it is a plain
//! `GET` for a document whose bytes are ready, head and all, it is answered here. The first request that is anything else
//! goes to hyper with the rest of the connection, unread.
//!
//! The heads are read by hyper's own parser (httparse). Whatever can be understood in two ways (RFC 9112 §11.2) or needs
//! more than a look is left to hyper: a body, an expectation, an upgrade, another version, a head that came in parts.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf as _, BytesMut};
use http::{HeaderValue, Method};
use keywheel_jose::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::client_address::is_trusted;
use super::document::Wanted;
use super::serve::{Activity, IDLE_TIMEOUT, Limits, UnderWay, Verdict};
use super::{Address, Direct, Routes, Transport};
use crate::oidc::jwks;
use crate::shutdown::Shutdown;
use crate::telemetry::HEADER;
use crate::telemetry::request::Watched;

/// A stream of which something was read that nobody has used.
pub(super) struct Unread<S> {
    first: BytesMut,
    rest: S,
}

/// What answers fetches on one connection.
struct Fetches<'c> {
    direct: &'c Direct,
    client: IpAddr,
    hsts: Option<&'c HeaderValue>,
    watched: &'c Watched,
    /// As a header, with the second that it is for.
    date: (Timestamp, String),
}

/// Answers what comes on `stream` for as long as it is fetches; `None` when the connection has ended with that. Without a
/// request it waits as long as anybody would who watches `activity`.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    (peer, transport): (IpAddr, Transport),
    routes: &Routes,
    watched: &Watched,
    limits: &Limits,
    activity: &Arc<Activity>,
    shutdown: &mut Shutdown,
) -> Option<Unread<S>> {
    let table = &*routes.0;
    // A proxy of ours may say things in any head that are to be believed.
    let is_simple = watched.only_counts() && !is_trusted(peer, &table.front.proxies);
    let Some(direct) = table.direct.as_ref().filter(|_| is_simple) else {
        return Some(Unread { first: BytesMut::new(), rest: stream });
    };
    let hsts = table.front.hsts.as_ref().filter(|_| transport == Transport::Tls);
    let client = peer.to_canonical();
    let mut fetches = Fetches { direct, client, hsts, watched, date: (Timestamp::from_unix(0), String::new()) };

    let is_leaving = shutdown.clone();
    let mut ordered = pin!(shutdown.ordered());
    let mut watchdog = pin!(sleep_until(activity.started + limits.header_timeout));
    let mut unread = BytesMut::new();
    let mut answers = Vec::new();
    loop {
        unread.reserve(ROOM);
        tokio::select! {
            biased;
            // What ends a connection is hyper's to judge.
            read = stream.read_buf(&mut unread) => if !matches!(read, Ok(1..)) {
                break;
            },
            () = ordered.as_mut() => break,
            () = watchdog.as_mut() => match activity.verdict(false) {
                Verdict::Keep(until) => watchdog.as_mut().reset(until),
                Verdict::End | Verdict::Cut => break,
            },
        }
        let mut under_way = None;
        // The last answer has to say that it is the last, so hyper gives it.
        while !is_leaving.is_announced()
            && let Some(length) = fetches.answer(&unread, &mut answers)
        {
            unread.advance(length);
            under_way.get_or_insert_with(|| UnderWay::begin(activity));
            if unread.is_empty() || answers.len() >= ENOUGH {
                write(&mut stream, &answers).await?;
                answers.clear();
            }
        }
        if !answers.is_empty() {
            write(&mut stream, &answers).await?;
            answers.clear();
        }
        if !unread.is_empty() {
            break;
        }
        // Thousands of connections wait at the same time.
        answers.shrink_to(KEPT);
    }
    Some(Unread { first: unread, rest: stream })
}

/// Sends answers to somebody who has to take them; `None` if they don't.
async fn write<S: AsyncWrite + Unpin>(stream: &mut S, answers: &[u8]) -> Option<()> {
    let mut writing = pin!(async {
        stream.write_all(answers).await?;
        stream.flush().await
    });
    // Nearly always there is room, and a timer would cost more than the writing.
    let at_once = std::future::poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await;
    let written = match at_once {
        Poll::Ready(written) => written,
        Poll::Pending => tokio::time::timeout(IDLE_TIMEOUT, writing).await.ok()?,
    };
    written.ok()
}

impl Fetches<'_> {
    /// Answers the request at the beginning of `unread`, if it is a fetch that has come whole, and says how long it is.
    fn answer(&mut self, unread: &[u8], answers: &mut Vec<u8>) -> Option<usize> {
        let begun = Instant::now();
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(unread, &mut headers);
        let Ok(httparse::Status::Complete(length)) = parsed else { return None };
        let (Some("GET"), Some(path), Some(1)) = (request.method, request.path, request.version) else { return None };
        let address = self.direct.of(&Method::GET, path)?;
        let wanted = wanted(request.headers)?;
        let app = &*self.direct.app;
        let now = app.clock.now();
        if self.date.0 != now {
            let since = Duration::from_secs(u64::try_from(now.as_unix()).unwrap_or_default());
            self.date = (now, httpdate::fmt_http_date(UNIX_EPOCH + since));
        }
        let fields = |status, answers: &mut Vec<u8>| {
            if let Some(hsts) = self.hsts {
                push(answers, "strict-transport-security", hsts.as_bytes());
            }
            let id = self.watched.count(path, status, begun);
            push(answers, HEADER.as_str(), id.to_header().as_bytes());
            push(answers, "date", self.date.1.as_bytes());
        };
        let is_written = match address {
            Address::Jwks => jwks::write(app, (self.client, &wanted), now, answers, fields),
            Address::Discovery => {
                app.discovery.write(&wanted, answers, fields);
                true
            }
            Address::Token => false,
        };
        is_written.then_some(length)
    }
}

fn push(answers: &mut Vec<u8>, name: &str, value: &[u8]) {
    answers.extend_from_slice(name.as_bytes());
    answers.extend_from_slice(b": ");
    answers.extend_from_slice(value);
    answers.extend_from_slice(b"\r\n");
}

/// What the fields of a head ask for; `None` if it is more than a document.
fn wanted<'h>(headers: &[httparse::Header<'h>]) -> Option<Wanted<'h>> {
    let mut wanted = Wanted::default();
    let mut hosts = 0;
    for httparse::Header { name, value } in headers {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => hosts += 1,
            10 if is("connection") && !value.eq_ignore_ascii_case(b"keep-alive") => return None,
            10 if is("user-agent") && wanted.agent.is_empty() => wanted.agent = value,
            13 if is("if-none-match") && wanted.tags.replace(value).is_some() => return None,
            15 if is("accept-encoding") && wanted.encodings.replace(value).is_some() => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            14 if is("content-length") => return None,
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    // RFC 9112 §3.2 demands just one.
    (hosts == 1).then_some(wanted)
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, into);
        }
        let some = self.first.len().min(into.remaining());
        into.put_slice(&self.first.split_to(some));
        if self.first.is_empty() {
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }
}

/// Room for a head. A longer one goes to hyper.
const ROOM: usize = 2048;
/// More fields than a fetch has, cookies of the issuer's pages and all.
const MAX_HEADERS: usize = 32;
/// Of the room for answers, so many bytes stay with a connection that waits: for a usual key set.
const KEPT: usize = 4096;
/// So many bytes of answers to requests that came together are sent before more are written.
const ENOUGH: usize = 64 * 1024;
