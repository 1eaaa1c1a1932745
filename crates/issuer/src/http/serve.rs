//! The accept loop: connections with deadlines, a cap, and an orderly end.
//!
//! `axum::serve` installs no timer, which leaves hyper's header deadline without effect; and hyper's version detection
//! waits for the first bytes without one. Here every connection has a watchdog: it must bring its first request within
//! `header_timeout`, may idle for [`IDLE_TIMEOUT`], and ends within `drain_timeout` of a shutdown.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::{Routes, Transport, fetch};
use crate::shutdown::Shutdown;
use crate::tls::Tls;

/// Deadlines and caps of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a client may take for the header of a request, and before it for the TLS handshake.
    pub(crate) header_timeout: Duration,
    /// How long requests under way may take after a shutdown began.
    pub(crate) drain_timeout: Duration,
    /// Connections at the same time; more wait in the kernel's queue.
    pub(crate) max_connections: usize,
}

/// Serves `routes` on `listener`, behind `tls` if there is one, until `shutdown` is ordered, then lets the requests under
/// way finish. Once it is announced, connections end with the next answer, so that a proxy opens its next one elsewhere.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    routes: Routes,
    limits: Limits,
    open: Gauge,
    mut shutdown: Shutdown,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let builder = builder();
    let of_the_loop = shutdown.clone();
    let admit = |connections: &mut JoinSet<()>, permit: OwnedSemaphorePermit, stream: TcpStream, peer: IpAddr| {
        let _ = stream.set_nodelay(true);
        let (builder, routes, open) = (builder.clone(), routes.clone(), open.clone());
        let (tls, mut shutdown) = (tls.clone(), of_the_loop.clone());
        connections.spawn(async move {
            open.inc();
            match tls {
                None => serve_connection(stream, (peer, Transport::Plain), builder, routes, limits, shutdown).await,
                // In a box, so that plain connections do not carry the size of a handshake.
                Some(tls) => {
                    Box::pin(async move {
                        let handshake = tokio::time::timeout(limits.header_timeout, tls.accept(stream));
                        let too_late = async {
                            shutdown.ordered().await;
                            tokio::time::sleep(FIRST_REQUEST).await;
                        };
                        let stream = tokio::select! {
                            stream = handshake => stream,
                            () = too_late => return,
                        };
                        match stream {
                            Ok(Some(stream)) => {
                                let from = (peer, Transport::Tls);
                                serve_connection(stream, from, builder, routes, limits, shutdown).await;
                            }
                            Ok(None) => {}
                            Err(_) => debug!("a TLS handshake took too long"),
                        }
                    })
                    .await
                }
            }
            open.dec();
            drop(permit);
        });
    };
    loop {
        // The permit comes first: a connection that can't be served is not accepted.
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.ordered() => break,
        };
        match accepted {
            (Err(_), _) => break,
            (Ok(permit), Ok((stream, address))) => admit(&mut connections, permit, stream, address.ip()),
            // A connection that is gone again is no trouble; out of descriptors is, and retrying at once won't help.
            (_, Err(error)) if !is_connection_error(&error) => {
                warn!(%error, "cannot accept connections; trying again in a moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (_, Err(_)) => {}
        }
    }
    // Whom the kernel has let in by now is served: a proxy would not send a form a second time. The kernel is asked itself,
    // since the runtime knows only what it heard when it last slept.
    if let Ok(listener) = listener.into_std() {
        while let (Ok(permit), Ok((stream, address))) = (Arc::clone(&permits).try_acquire_owned(), listener.accept()) {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                admit(&mut connections, permit, stream, address.ip());
            }
        }
    }
    let drained =
        tokio::time::timeout(limits.drain_timeout, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        warn!(connections = connections.len(), "requests still under way are cut off");
        connections.shutdown().await;
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (peer, transport): (IpAddr, Transport),
    builder: auto::Builder<TokioExecutor>,
    routes: Routes,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let activity = Arc::new(Activity::new());
    let watched = Arc::new(routes.watch(peer));
    let fetches = fetch::answer(stream, (peer, transport), &routes, &watched, &limits, &activity, &mut shutdown);
    let Some(stream) = fetches.await else { return };
    let service = {
        let (activity, shutdown) = (Arc::clone(&activity), shutdown.clone());
        service_fn(move |request: Request<Incoming>| {
            let routes = routes.clone();
            let under_way = UnderWay::begin(&activity);
            let watched = Arc::clone(&watched);
            // HTTP/2 says it with a frame of its own, when the order comes.
            let is_last = request.version() < Version::HTTP_2 && shutdown.is_announced();
            async move {
                let (mut answer, ended) =
                    watched.answer(request, |request| routes.answer(request, peer, transport)).await;
                if is_last {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                under_way.end(ended);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let watchdog = sleep_until(activity.started + limits.header_timeout);
    tokio::pin!(watchdog);
    let (mut ending, mut ordered) = (false, false);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    debug!(%error, "connection ended in an error");
                }
                return;
            }
            () = watchdog.as_mut() => match activity.verdict(ending) {
                _ if ordered && !ending && activity.has_begun() => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    watchdog.as_mut().reset(Instant::now() + limits.drain_timeout);
                }
                Verdict::Keep(until) => watchdog.as_mut().reset(until),
                Verdict::End => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    watchdog.as_mut().reset(Instant::now() + limits.header_timeout);
                }
                Verdict::Cut => return,
            },
            () = shutdown.ordered(), if !ordered => {
                ordered = true;
                if ending {
                    continue;
                }
                // A request that has not arrived yet was sent already, perhaps: told to end, hyper would not wait for it.
                let patience = if activity.has_begun() { Duration::ZERO } else { FIRST_REQUEST };
                watchdog.as_mut().reset(Instant::now() + patience);
            }
        }
    }
}

/// What a connection has been doing, seen by its watchdog.
pub(super) struct Activity {
    pub(super) started: Instant,
    under_way: AtomicU32,
    /// Milliseconds from `started` to the end of the last request; zero before the first.
    last_end_ms: AtomicU64,
    seen: AtomicU32,
}

pub(super) enum Verdict {
    Keep(Instant),
    End,
    Cut,
}

impl Activity {
    fn new() -> Self {
        let (under_way, last_end_ms, seen) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Self { started: Instant::now(), under_way, last_end_ms, seen }
    }

    /// Whether a request has come.
    fn has_begun(&self) -> bool {
        self.seen.load(Ordering::Relaxed) != 0
    }

    pub(super) fn verdict(&self, ending: bool) -> Verdict {
        let now = Instant::now();
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep(now + IDLE_TIMEOUT);
        }
        if ending || !self.has_begun() {
            return Verdict::Cut;
        }
        let idle_since = self.started + Duration::from_millis(self.last_end_ms.load(Ordering::Relaxed));
        let until = idle_since + IDLE_TIMEOUT;
        if now < until { Verdict::Keep(until) } else { Verdict::End }
    }
}

/// Counts a request as under way until it is dropped, finished or not.
pub(super) struct UnderWay {
    activity: Arc<Activity>,
    ended: Option<Instant>,
}

impl UnderWay {
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.seen.store(1, Ordering::Relaxed);
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), ended: None }
    }

    /// It was answered, at a time that has been read already.
    fn end(mut self, at: Instant) {
        self.ended = Some(at);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = self.ended.unwrap_or_else(Instant::now);
        let elapsed = ended.duration_since(self.activity.started).as_millis();
        self.activity.last_end_ms.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.activity.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The watchdog does this job for the whole connection, without a timer for each request.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

fn is_connection_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// How long a connection may be open without a request: longer than the 60 s of common proxies, so that they close first.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a connection that has not said anything is waited for when the server stops.
const FIRST_REQUEST: Duration = Duration::from_millis(500);
/// Pause after a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// More header fields than any client of ours sends.
const MAX_HEADERS: usize = 100;
/// Room for a header; hyper answers 431 beyond.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Requests at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
