//! A body on its way through the gate: handed on frame by frame, never collected, and not waited for without end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::reply::BoxError;

/// When something last moved. Clones tell of the same thing.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

/// The sender of a body has sent nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing more came for {} s", .0.as_secs())]
pub(crate) struct Stalled(Duration);

/// A request body whose sender has to keep sending. Trailers are left out: headers that nobody has looked at would be in
/// them, identity headers among them.
pub(crate) struct Paced<B> {
    body: Pin<Box<B>>,
    timeout: Duration,
    /// Runs while the sender is waited for, and not while the receiver is.
    waiting: Option<Pin<Box<Sleep>>>,
    progress: Progress,
}

/// A body that keeps something alive until it is sent or dropped.
pub(crate) struct Holding<B, T> {
    body: Pin<Box<B>>,
    _held: T,
}

impl Progress {
    pub(crate) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl<B> Paced<B> {
    pub(crate) fn new(body: B, timeout: Duration, progress: Progress) -> Self {
        Self { body: Box::pin(body), timeout, waiting: None, progress }
    }
}

impl<B, T> Holding<B, T> {
    pub(crate) fn new(body: B, held: T) -> Self {
        Self { body: Box::pin(body), _held: held }
    }
}

impl<B: Body<Data = Bytes>> Body for Paced<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match this.body.as_mut().poll_frame(context) {
                Poll::Ready(frame) => {
                    this.waiting = None;
                    this.progress.made();
                    match frame {
                        Some(Ok(frame)) if !frame.is_data() => continue,
                        frame => return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
                    }
                }
                Poll::Pending => {
                    let timeout = this.timeout;
                    let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
                    return match waiting.as_mut().poll(context) {
                        Poll::Ready(()) => Poll::Ready(Some(Err(Stalled(timeout).into()))),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body, T: Unpin> Body for Holding<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderMap;
    use http_body_util::BodyExt as _;

    use super::*;

    /// Sends these frames and then nothing more, without an end.
    struct Frames(Vec<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(self.0.remove(0)))) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_stops_is_given_up() {
        let frames = Frames(vec![Frame::data(Bytes::from_static(b"a"))]);
        let mut body = Paced::new(frames, Duration::from_secs(30), Progress::now());
        let began = Instant::now();

        let first = body.frame().await.expect("a frame").expect("no error");
        let second = body.frame().await.expect("an error").expect_err("nothing more comes");

        assert_eq!(first.into_data().ok(), Some(Bytes::from_static(b"a")));
        assert!(second.is::<Stalled>());
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_takes_its_time_is_not_held_against_the_sender() {
        let frames = Frames(vec![Frame::data(Bytes::from_static(b"a")), Frame::data(Bytes::from_static(b"b"))]);
        let mut body = Paced::new(frames, Duration::from_secs(30), Progress::now());

        body.frame().await.expect("a frame").expect("no error");
        tokio::time::advance(Duration::from_secs(3600)).await;

        assert!(body.frame().await.expect("a frame").is_ok());
    }

    #[tokio::test]
    async fn trailers_are_left_out() {
        let frames = Frames(vec![Frame::trailers(HeaderMap::new()), Frame::data(Bytes::from_static(b"a"))]);
        let mut body = Paced::new(frames, Duration::from_secs(30), Progress::now());

        let frame = body.frame().await.expect("a frame").expect("no error");

        assert!(frame.is_data());
    }
}
