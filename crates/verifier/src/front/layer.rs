//! The guard as tower middleware: for axum, tonic, hyper and whatever else speaks `Service`.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{Request, Response};
use keywheel_jose::{AccessTokenClaims, Verified};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::challenge::Refusal;
use super::guard::Guard;
use crate::verifier::Claims;

/// Puts a [`Guard`] before a service. What it lets through has the [`Verified`] token in its extensions (none where the
/// guard is [`optional`](Guard::optional) and there was no token); what it refuses never reaches the service.
///
/// A verdict that needs no waiting, which is any but that of a token whose key is not there yet, costs no allocation
/// beyond the token's own.
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
    pub struct GuardFuture<S, C, B> where S: Service<Request<B>> {
        #[pin]
        state: State<S, C, B>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, C, B> where S: Service<Request<B>> {
        Waiting { verdict: PendingVerdict<C>, inner: S, body: Option<B> },
        Inside { #[pin] answer: S::Future },
        Refused { refusal: Option<Refusal> },
    }
}

/// Gives the request's head back with the verdict.
type PendingVerdict<C> = Pin<Box<dyn Future<Output = (Parts, Verdict<C>)> + Send>>;

type Verdict<C> = Result<Option<Verified<C>>, Refusal>;

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
    type Future = GuardFuture<S, C, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let state = match self.guard.authorize_at_once(&parts) {
            Some(verdict) => State::decided(&mut self.inner, parts, body, verdict),
            None => {
                // The one that was polled ready is the one to call; its clone gets ready anew.
                let clone = self.inner.clone();
                let inner = mem::replace(&mut self.inner, clone);
                let guard = self.guard.clone();
                let verdict = Box::pin(async move {
                    let verdict = guard.authorize(&parts).await;
                    (parts, verdict)
                });
                State::Waiting { verdict, inner, body: Some(body) }
            }
        };
        GuardFuture { state }
    }
}

impl<S: Service<Request<B>>, C: Claims, B> State<S, C, B> {
    fn decided(inner: &mut S, mut parts: Parts, body: B, verdict: Verdict<C>) -> Self {
        match verdict {
            Ok(token) => {
                // Whoever reads the extension believes this guard, so nothing from before may stay in it.
                parts.extensions.remove::<Verified<C>>();
                if let Some(token) = token {
                    parts.extensions.insert(token);
                }
                Self::Inside { answer: inner.call(Request::from_parts(parts, body)) }
            }
            Err(refusal) => Self::Refused { refusal: Some(refusal) },
        }
    }
}

impl<S, C, B, R> Future for GuardFuture<S, C, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: Claims,
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
                    let (parts, verdict) = ready!(verdict.as_mut().poll(cx));
                    let body = body.take().expect("the state changes as soon as the body is taken");
                    State::decided(inner, parts, body, verdict)
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

impl<S: Service<Request<B>>, C, B> fmt::Debug for GuardFuture<S, C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardFuture").finish_non_exhaustive()
    }
}
