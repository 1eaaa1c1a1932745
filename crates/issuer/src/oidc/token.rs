//! `POST /oauth2/token` (RFC 6749 §3.2).
//!
//! 1. Read the form once, strictly.
//! 2. Authenticate the client against the registry in memory.
//! 3. The grant decides.
//! 4. Sign with the snapshot in memory, and answer.
//!
//! No key is parsed on this path, and for `client_credentials` the database is not read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use keywheel_jose::Timestamp;
use serde_json::{Map, Value};
use tracing::{debug, error};

use super::client_auth::{identify, read};
use super::grants::{OnBehalf, authorization_code, client_credentials, refresh_token};
use super::json::push_member;
use super::mint::{IdTokenRequest, Person};
use super::opaque::Opaque;
use super::{AccessTokenRequest, OAuthError, profile};
use crate::app::App;
use crate::clients::{Client, GrantType};
use crate::http::request::{Form, Peer, RequestBody};
use crate::http::{cors, reply};
use crate::keys::SignError;
use crate::storage::{NewGrant, Origin};
use crate::users::User;

/// The answer of RFC 6749 §5.1, and OpenID Connect Core §3.1.3.3.
struct TokenResponse<'a> {
    access_token: &'a str,
    expires_in: u64,
    refresh_token: Option<&'a str>,
    /// Empty for none.
    scope: &'a str,
    id_token: Option<&'a str>,
}

/// Path below the issuer.
const ENDPOINT: &str = "/oauth2/token";

/// Answers a token request.
pub(crate) async fn token(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get().map(|Peer(address)| *address);
    respond(&app, &parts, body, peer).await
}

/// The same to whoever sent this from `peer`.
pub(crate) async fn respond<B: RequestBody>(app: &App, parts: &Parts, body: B, peer: Option<IpAddr>) -> Response {
    let mut client = None;
    let granted = match read(app, parts, body).await {
        Ok(form) => grant(app, &parts.headers, form, peer, &mut client).await,
        Err(refusal) => Err(refusal),
    };
    let response = granted.unwrap_or_else(|refusal| {
        app.metrics.refused(refusal.code());
        refusal.into_response()
    });
    cors::readable(app, &parts.headers, client.as_deref(), response)
}

/// `OPTIONS /oauth2/token`
pub(crate) async fn preflight(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    cors::preflight(&app, &headers, "POST")
}

/// `client` becomes known before the answer does.
async fn grant(
    app: &App,
    headers: &HeaderMap,
    form: Form,
    peer: Option<IpAddr>,
    client: &mut Option<Arc<Client>>,
) -> Result<Response, OAuthError> {
    let client = &*client.insert(identify(app, headers, &form, ENDPOINT).await?);

    let grant_type = form.get("grant_type");
    let now = app.clock.now();
    // Of no use to a client that acts for itself.
    let address = peer.filter(|_| grant_type != Some("client_credentials")).map(|peer| peer.to_string());
    let origin = Origin { at: now, address: address.as_deref() };
    match grant_type {
        None => Err(OAuthError::InvalidRequest("grant_type is missing")),
        Some("client_credentials") => for_itself(app, client, &form, now).await.inspect(|_| {
            app.metrics.grants.client_credentials.inc();
        }),
        // In boxes, so that the requests of clients for themselves, of which there are most, are not the larger for it.
        Some("authorization_code") => {
            let granted = Box::pin(authorization_code::redeem(app, client, &form, &origin)).await?;
            let response = Box::pin(on_behalf(app, client, granted, now)).await;
            response.inspect(|_| {
                app.metrics.grants.authorization_code.inc();
            })
        }
        Some("refresh_token") => {
            let granted = Box::pin(refresh_token::rotate(app, client, &form, &origin)).await?;
            let response = Box::pin(on_behalf(app, client, granted, now)).await;
            response.inspect(|_| {
                app.metrics.grants.refresh_token.inc();
            })
        }
        Some(_) => Err(OAuthError::UnsupportedGrantType),
    }
}

/// An access token for the client itself.
async fn for_itself(app: &App, client: &Client, form: &Form, now: Timestamp) -> Result<Response, OAuthError> {
    if !client.uses(GrantType::ClientCredentials) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let issuer = app.config.issuer.as_str();
    let granted = client_credentials::decide(client, form, issuer)?;
    let lifetime = client.access_ttl.unwrap_or(app.config.tokens.access_ttl);
    let request = AccessTokenRequest {
        issuer,
        subject: &client.id,
        client_id: &client.id,
        audiences: &granted.audiences,
        scope: &granted.scope,
        lifetime,
        alg: client.access_token_alg,
        clock_skew: app.config.keys.rotation.clock_skew(),
        person: None,
    };
    let minted = request.mint(&app.keys, app.entropy.as_ref(), now).await;
    let access_token = minted.map_err(|failure| unsigned(client, failure))?;
    Ok(answer(&TokenResponse {
        access_token: &access_token,
        expires_in: lifetime.as_secs(),
        refresh_token: None,
        scope: &granted.scope,
        id_token: None,
    }))
}

/// The tokens for a client that acts on behalf of a person.
async fn on_behalf(app: &App, client: &Client, mut granted: OnBehalf, now: Timestamp) -> Result<Response, OAuthError> {
    let user = match granted.user.take() {
        Some(user) => Some(*user),
        None => app.store.user_by_id(&granted.grant.allowed.user_id).await.map_err(OAuthError::Storage)?,
    };
    let user =
        user.filter(|user| !user.disabled).ok_or(OAuthError::InvalidGrant("the person may not sign in any more"))?;
    let granted = granted.permitted(&app.config.scopes, &user)?;
    let allowed = &granted.grant.allowed;
    let access_token = access_token(app, client, &granted, &user, now).await?;
    let id_token = if granted.scopes.iter().any(|scope| scope == "openid") {
        let request = IdTokenRequest {
            issuer: app.config.issuer.as_str(),
            subject: &user.id,
            client_id: &client.id,
            nonce: granted.nonce.as_deref(),
            access_token: Some(&access_token),
            person: person(allowed, &[]),
            claims: profile::claims(client, &user, wanted_in_id_token(allowed.claims_request.as_ref())),
            lifetime: app.config.tokens.id_ttl,
            alg: client.id_token_alg(&app.config.keys.algorithms),
        };
        Some(request.mint(&app.keys, now).await.map_err(|failure| unsigned(client, failure))?)
    } else {
        None
    };
    Ok(answer(&TokenResponse {
        access_token: &access_token,
        expires_in: app.config.tokens.access_ttl_of(client).as_secs(),
        refresh_token: granted.refresh_token.as_ref().map(Opaque::expose),
        scope: &granted.scopes.join(" "),
        id_token: id_token.as_deref(),
    }))
}

/// An access token for a client that acts on behalf of `user`, who may sign in.
///
/// # Errors
/// [`OAuthError::Unavailable`], [`OAuthError::ServerError`]
pub(super) async fn access_token(
    app: &App,
    client: &Client,
    granted: &OnBehalf,
    user: &User,
    now: Timestamp,
) -> Result<String, OAuthError> {
    let roles = client.visible_roles(user.roles_at(&client.id));
    let request = AccessTokenRequest {
        issuer: app.config.issuer.as_str(),
        subject: &user.id,
        client_id: &client.id,
        audiences: &granted.audiences.iter().map(String::as_str).collect::<Vec<_>>(),
        scope: &granted.scopes.join(" "),
        lifetime: app.config.tokens.access_ttl_of(client),
        alg: client.access_token_alg,
        clock_skew: app.config.keys.rotation.clock_skew(),
        person: Some(person(&granted.grant.allowed, &roles)),
    };
    let minted = request.mint(&app.keys, app.entropy.as_ref(), now).await;
    minted.map_err(|failure| unsigned(client, failure))
}

fn person<'a>(grant: &'a NewGrant, roles: &'a [&'a str]) -> Person<'a> {
    Person {
        grant_id: &grant.id,
        sid: grant.sid.as_deref(),
        auth_time: grant.auth_time,
        acr: grant.acr.as_deref(),
        amr: &grant.amr,
        roles,
    }
}

/// The names under `id_token` of the `claims` parameter.
fn wanted_in_id_token(request: Option<&Map<String, Value>>) -> impl Iterator<Item = &str> {
    let claims = request.and_then(|request| request.get("id_token")).and_then(Value::as_object);
    claims.into_iter().flat_map(|claims| claims.keys().map(String::as_str))
}

fn unsigned(client: &Client, failure: SignError) -> OAuthError {
    match failure {
        // There may be thousands of them, and the refusals are counted.
        SignError::Busy => debug!(client.id = client.id, "too many tokens are being signed"),
        _ => error!(client.id = client.id, error = %failure, "no token could be signed"),
    }
    match failure {
        SignError::Failed => OAuthError::ServerError,
        other => OAuthError::Unavailable(other),
    }
}

fn answer(answer: &TokenResponse<'_>) -> Response {
    let TokenResponse { access_token, expires_in, refresh_token, scope, id_token } = *answer;
    let tokens = access_token.len() + refresh_token.map_or(0, str::len) + id_token.map_or(0, str::len);
    let mut body = Vec::with_capacity(tokens + scope.len() + ROOM_FOR_NAMES);
    push_member(&mut body, "{\"access_token\":", access_token);
    body.extend_from_slice(b",\"token_type\":\"Bearer\",\"expires_in\":");
    body.extend_from_slice(expires_in.to_string().as_bytes());
    if let Some(refresh_token) = refresh_token {
        push_member(&mut body, ",\"refresh_token\":", refresh_token);
    }
    if !scope.is_empty() {
        push_member(&mut body, ",\"scope\":", scope);
    }
    if let Some(id_token) = id_token {
        push_member(&mut body, ",\"id_token\":", id_token);
    }
    body.push(b'}');
    reply::unstored_json(StatusCode::OK, body)
}

/// Of the members of an answer, quotes and all, and of a number.
const ROOM_FOR_NAMES: usize = 144;
