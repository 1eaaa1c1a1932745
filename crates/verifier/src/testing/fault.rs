//! What can go wrong with an issuer, and what it then answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// A document of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Document {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// The JWK Set.
    Keys,
    /// The answers of the introspection endpoint.
    Introspection,
}

/// What goes wrong. Set by [`FakeIssuer::fault`](super::FakeIssuer::fault), ended by
/// [`FakeIssuer::heal`](super::FakeIssuer::heal).
///
/// What a service behind a [`Verifier`](crate::Verifier) shows of all but the last three is the same: while it holds keys
/// that are still trusted, nothing; without them, 503s and never a 401.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nobody listens: connections are refused.
    Down,
    /// The request is taken and never answered.
    Hang,
    /// The right answer, after this time.
    Slow(Duration),
    /// The right answer, one byte after the other with this pause between them.
    Drip {
        /// The pause.
        every: Duration,
    },
    /// The connection breaks in the middle of the right answer.
    ResetMidBody,
    /// This status, with an empty body.
    Status(u16),
    /// A redirect (302) to this URL.
    Redirect(String),
    /// 200, and bytes that are not JSON.
    Garbage,
    /// 200, and a page for people, as from a proxy that shows its own error or a login.
    HtmlOk,
    /// 200, and so many bytes of JSON that goes on and on.
    Huge {
        /// How many bytes.
        bytes: usize,
    },
    /// A discovery document that speaks for another issuer. Other documents stay right.
    ForeignIssuer,
    /// A JWK Set without a key. Other documents stay right.
    EmptySet,
    /// A JWK Set in which the key that signs has a private member. Other documents stay right.
    ///
    /// A verifier takes the set and refuses that key: its tokens are no longer accepted, those of others are.
    PrivateKeyInSet,
    /// The right answer under `Content-Type: text/plain`. A verifier doesn't mind.
    WrongContentType,
    /// The right answer with these headers instead of its own, or beside them: `Age`, `Date`, `Cache-Control` and others
    /// that lie about time.
    Headers(Vec<(String, String)>),
}

impl Fault {
    /// Headers that lie about time, or about anything else: `Fault::headers([("age", "86400")])`.
    pub fn headers<N: Into<String>, V: Into<String>>(headers: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::Headers(headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What becomes of one request.
pub(super) enum Outcome {
    /// No answer comes.
    Silence,
    /// The connection ends without one.
    Disconnected,
    /// This answer, after a while.
    Answer(Duration, Response<FaultyBody>),
}

/// Spoils an answer. Faults that are about the contents of a document have been dealt with where it was written.
pub(super) fn spoil(fault: Option<&Fault>, intended: Response<Bytes>) -> Outcome {
    let instead = |status: StatusCode, content_type: &'static str, body: FaultyBody| {
        let mut reply = Response::new(body);
        *reply.status_mut() = status;
        reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply
    };
    let at_once = |reply| Outcome::Answer(Duration::ZERO, reply);
    match fault {
        None | Some(Fault::ForeignIssuer | Fault::EmptySet | Fault::PrivateKeyInSet) => {
            at_once(intended.map(FaultyBody::whole))
        }
        Some(Fault::Down) => Outcome::Disconnected,
        Some(Fault::Hang) => Outcome::Silence,
        Some(Fault::Slow(pause)) => Outcome::Answer(*pause, intended.map(FaultyBody::whole)),
        Some(Fault::Drip { every }) => {
            at_once(intended.map(|body| FaultyBody { pace: Some(Pace::new(*every)), ..FaultyBody::whole(body) }))
        }
        Some(Fault::ResetMidBody) => at_once(intended.map(FaultyBody::broken)),
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(*status).expect("a status is between 100 and 999");
            at_once(instead(status, JSON, FaultyBody::whole(Bytes::new())))
        }
        Some(Fault::Redirect(url)) => {
            let mut reply = instead(StatusCode::FOUND, JSON, FaultyBody::whole(Bytes::new()));
            reply.headers_mut().insert(header::LOCATION, url.parse().expect("a URL is a header value"));
            at_once(reply)
        }
        Some(Fault::Garbage) => at_once(instead(StatusCode::OK, JSON, FaultyBody::whole(GARBAGE.into()))),
        Some(Fault::HtmlOk) => at_once(instead(StatusCode::OK, "text/html", FaultyBody::whole(PAGE.into()))),
        Some(Fault::Huge { bytes }) => {
            let body = FaultyBody { filler: *bytes, ..FaultyBody::whole(Bytes::from_static(b"[\"")) };
            at_once(instead(StatusCode::OK, JSON, body))
        }
        Some(Fault::WrongContentType) => {
            let mut reply = intended.map(FaultyBody::whole);
            reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            at_once(reply)
        }
        Some(Fault::Headers(headers)) => {
            let mut reply = intended.map(FaultyBody::whole);
            overwrite(reply.headers_mut(), headers);
            at_once(reply)
        }
    }
}

fn overwrite(headers: &mut HeaderMap, with: &[(String, String)]) {
    for (name, value) in with {
        let name: HeaderName = name.parse().expect("a test sends a valid header name");
        headers.insert(name, value.parse().expect("a test sends a valid header value"));
    }
}

/// A body that may come slowly, go on for long, or break off.
pub(super) struct FaultyBody {
    left: Bytes,
    /// How many more bytes follow, all the same.
    filler: usize,
    pace: Option<Pace>,
    breaks: bool,
}

struct Pace {
    every: Duration,
    pause: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, pause: Box::pin(sleep(every)) }
    }
}

impl FaultyBody {
    pub(super) fn whole(body: Bytes) -> Self {
        Self { left: body, filler: 0, pace: None, breaks: false }
    }

    fn broken(body: Bytes) -> Self {
        let half = body.slice(..body.len() / 2);
        Self { breaks: true, ..Self::whole(half) }
    }

    /// All of it, for those who read it without a connection.
    pub(super) async fn read(self) -> std::io::Result<Bytes> {
        Ok(self.collect().await?.to_bytes())
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let body = &mut *self;
        if body.left.is_empty() && body.filler > 0 {
            let more = body.filler.min(FILLER.len());
            body.filler -= more;
            body.left = Bytes::from_static(&FILLER[..more]);
        }
        if body.left.is_empty() {
            let broken = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
            return Poll::Ready(std::mem::take(&mut body.breaks).then(broken));
        }
        let Some(pace) = &mut body.pace else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut body.left)))));
        };
        ready!(pace.pause.as_mut().poll(context));
        *pace = Pace::new(pace.every);
        Poll::Ready(Some(Ok(Frame::data(body.left.split_to(1)))))
    }
}

pub(super) const JSON: &str = "application/json";
const GARBAGE: &str = "\u{0}{]not json";
const PAGE: &str = "<!doctype html><title>Sign in</title><p>Please sign in.";
static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];
