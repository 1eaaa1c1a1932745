//! The guard as tower middleware: for axum, tonic, hyper and whatever else speaks `Service`.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{Request, Response};
use keywheel_jose::AccessTokenClaims;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::challenge::Refusal;
use super::guard::Guard;
use crate::verifier::Claims;

/// Puts a [`Guard`] before a service. What it lets through has the [`Verified`](crate::Verified) token in its extensions (none where the
/// guard is [`optional`](Guard::optional) and there was no token); what it refuses never reaches the service.
///
/// A verdict that needs no waiting, which is any but that of a token whose key is not there yet, is reached before the
/// future is even made, and nothing is boxed for it. A layer inside another with the same guard, or one made from it by
/// demanding more, does not verify the token again.
#[derive(Debug)]
pub struct GuardLayer<C = AccessTokenClaims> {
    guard: Guard<C>,
}

/// A service behind a [`Guard`]. Made by [`GuardLayer`].
#[derive(Debug)]
pub struct GuardService<S, C = AccessTokenClaims> {
    inner: S,
    guard: Guard<C>,
}

pin_project! {
    /// The answer of a [`GuardService`].
    pub struct GuardFuture<S, B> where S: Service<Request<B>> {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, B> where S: Service<Request<B>> {
        Waiting { verdict: PendingVerdict, inner: S, body: Option<B> },
        Inside { #[pin] answer: S::Future },
        Refused { refusal: Option<Refusal> },
    }
}

/// Gives the request's head back where it is let through.
type PendingVerdict = Pin<Box<dyn Future<Output = Result<Parts, Refusal>> + Send>>;

impl<C> GuardLayer<C> {
    pub(super) fn new(guard: Guard<C>) -> Self {
        Self { guard }
    }
}

impl<S, C> Layer<S> for GuardLayer<C> {
    type Service = GuardService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardService { inner, guard: self.guard.clone() }
    }
}

impl<S, C, B, R> Service<Request<B>> for GuardService<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    C: Claims,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = GuardFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let state = match self.guard.authorize_at_once(&parts) {
            Some(verdict) => {
                let verdict = verdict.map(|token| self.guard.admit(token, &mut parts.extensions));
                State::decided(&mut self.inner, verdict.map(|()| parts), body)
            }
            None => {
                // The one that was polled ready is the one to call; its clone gets ready anew.
                let clone = self.inner.clone();
                let inner = mem::replace(&mut self.inner, clone);
                let guard = self.guard.clone();
                let verdict = Box::pin(async move {
                    let token = guard.authorize(&parts).await?;
                    guard.admit(token, &mut parts.extensions);
                    Ok(parts)
                });
                State::Waiting { verdict, inner, body: Some(body) }
            }
        };
        GuardFuture { state }
    }
}

impl<S: Service<Request<B>>, B> State<S, B> {
    fn decided(inner: &mut S, verdict: Result<Parts, Refusal>, body: B) -> Self {
        match verdict {
            Ok(parts) => Self::Inside { answer: inner.call(Request::from_parts(parts, body)) },
            Err(refusal) => {
                refusal.log();
                Self::Refused { refusal: Some(refusal) }
            }
        }
    }
}

impl<S, B, R> Future for GuardFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Inside { answer } => return answer.poll(cx),
                Projected::Refused { refusal } => {
                    let refusal = refusal.take().expect("a future is not polled after it is done");
                    return Poll::Ready(Ok(refusal.into_response()));
                }
                Projected::Waiting { verdict, inner, body } => {
                    let verdict = ready!(verdict.as_mut().poll(cx));
                    let body = body.take().expect("the state changes as soon as the body is taken");
                    State::decided(inner, verdict, body)
                }
            };
            state.set(next);
        }
    }
}

impl<C> Clone for GuardLayer<C> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone() }
    }
}

impl<S: Clone, C> Clone for GuardService<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), guard: self.guard.clone() }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for GuardFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardFuture").finish_non_exhaustive()
    }
}
