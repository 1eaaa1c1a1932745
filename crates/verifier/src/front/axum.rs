//! The guard in axum: an extractor, so that a handler that takes a token can't be reached without one.

use axum_core::body::Body;
use axum_core::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use keywheel_jose::{AccessTokenClaims, Verified};

use super::challenge::Refusal;
use super::guard::{Guard, Presence};
use super::resource_metadata::ResourceMetadata;
use crate::verifier::Claims;

/// The token of a request, verified by the [`Guard`] in the router's state (cargo feature `axum`). The state is the guard
/// itself, or anything it can be taken from by [`FromRef`]; a router without one does not compile.
///
/// A handler that takes `Option<Bearer>` also gets requests without a token, whatever the guard says; one whose token
/// does not hold is refused all the same.
///
/// Behind [`Guard::layer`] the token was verified already, and a handler takes `Extension<Verified<AccessTokenClaims>>`.
/// Where both are there and one guard was made from the other, the token is verified once and has to meet the
/// requirements of both.
#[derive(Clone, Debug)]
pub struct Bearer<C = AccessTokenClaims>(pub Verified<C>);

impl<S, C> FromRequestParts<S> for Bearer<C>
where
    S: Send + Sync,
    C: Claims,
    Guard<C>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let guard = Guard::from_ref(state);
        let token = extract(&guard, Presence::Required, parts).await?;
        token.map(Self).ok_or_else(|| guard.missing_token())
    }
}

impl<S, C> OptionalFromRequestParts<S> for Bearer<C>
where
    S: Send + Sync,
    C: Claims,
    Guard<C>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Refusal> {
        let token = extract(&Guard::from_ref(state), Presence::Optional, parts).await?;
        Ok(token.map(Self))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_response::<Body>()
    }
}

impl IntoResponse for ResourceMetadata {
    fn into_response(self) -> Response {
        self.response::<Body>()
    }
}

async fn extract<C: Claims>(
    guard: &Guard<C>,
    presence: Presence,
    parts: &mut Parts,
) -> Result<Option<Verified<C>>, Refusal> {
    let token = guard.authorize_as(presence, parts).await.inspect_err(Refusal::log)?;
    guard.admit(token.clone(), &mut parts.extensions);
    Ok(token)
}
