//! `POST /oauth2/revoke` (RFC 7009): a client gives a token back.
//!
//! An access token ends alone; it is remembered until it would have ended anyway, for the endpoints here that see it. A
//! refresh token ends the grant it belongs to, and every other token of that (§2.1). `token_type_hint` is not needed:
//! access tokens have dots, refresh tokens none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};

use super::client_auth::{identify, read};
use super::opaque::sha256;
use super::{OAuthError, presented};
use crate::app::App;
use crate::clients::Client;
use crate::http::request::Peer;
use crate::http::{cors, reply};
use crate::storage::Origin;

/// Path below the issuer.
const ENDPOINT: &str = "/oauth2/revoke";

/// Takes a token back.
pub(crate) async fn revoke(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut client = None;
    let response = match answer(&app, &parts, body, &mut client).await {
        Ok(()) => reply::unstored_json(StatusCode::OK, ""),
        Err(refusal) => refusal.into_response(),
    };
    cors::readable(&app, &parts.headers, client.as_deref(), response)
}

/// `OPTIONS /oauth2/revoke`
pub(crate) async fn preflight(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    cors::preflight(&app, &headers, "POST")
}

/// `client` becomes known before the answer does.
async fn answer(app: &App, parts: &Parts, body: Body, client: &mut Option<Arc<Client>>) -> Result<(), OAuthError> {
    let form = read(app, parts, body).await?;
    let known = identify(app, &parts.headers, &form, ENDPOINT).await?;
    let client = &*client.insert(known);
    let token = form.get("token").ok_or(OAuthError::InvalidRequest("token is missing"))?;
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string());
    let origin = Origin { at: app.clock.now(), address: address.as_deref() };
    // §2.2: "invalid tokens do not cause an error response since the client cannot handle such an error in a reasonable
    // way". One that is another client's is refused (§2.1), and the client hears of it: it has a token it should not have.
    if token.contains('.') {
        let Some(claims) = presented::holds(app, token) else { return Ok(()) };
        if claims.client_id != client.id {
            return Err(NOT_YOURS);
        }
        let revoked = app.store.revoke_access_token(&claims.jti, &client.id, claims.exp, &origin).await;
        return revoked.map_err(OAuthError::Storage);
    }
    let found = app.store.find_refresh_token(&sha256(token)).await.map_err(OAuthError::Storage)?;
    let Some(grant) = found.map(|token| token.grant.allowed) else { return Ok(()) };
    if grant.client_id != client.id {
        return Err(NOT_YOURS);
    }
    app.store.revoke_grant(&grant.id, &origin).await.map(drop).map_err(OAuthError::Storage)
}

const NOT_YOURS: OAuthError = OAuthError::InvalidRequest("the token was issued to another client");
