//! `private_key_jwt`: a client authenticates by a JWT that it signs (RFC 7521 §4.2, RFC 7523 §3, OpenID Connect Core §9).
//!
//! 1. `iss` names the client, whose registered keys and algorithm are the only ones that count.
//! 2. Signature, issuer, audience and time are checked by the same routine as every other token in this project.
//! 3. `sub` is the client too, the assertion ends soon, and its `jti` has not been seen before.
//!
//! The audience is this issuer, its token endpoint, or the endpoint that is asked. What comes after RFC 7523 wants the
//! issuer alone, but most libraries still send the token endpoint, as OpenID Connect Core told them to. Every audience has
//! to be one of ours: an assertion that another server may accept as well is one that it could bring here.

use std::sync::Arc;
use std::time::Duration;

use keywheel_jose::{Algorithm, Audience, KeySet, Policy, Rejection, UnverifiedJwt, check};
use serde::Deserialize;

use super::OAuthError;
use super::opaque::sha256;
use crate::app::App;
use crate::clients::{Authentication, Client, ClientKeys};
use crate::storage::StoreError;

/// `client_assertion_type`
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    jti: String,
}

/// Why an assertion shows nothing; for the log.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the assertion does not hold")]
    Rejected(#[from] Rejection),
    #[error("the client that the assertion names is not registered for private_key_jwt")]
    NotRegistered,
    #[error("client_id is not the client that the assertion names")]
    AnotherClient,
    #[error("there are no keys of the client to check the assertion with")]
    NoKeys,
    #[error("the subject of the assertion is not its issuer")]
    Subject,
    #[error("the assertion is for others too")]
    Audience,
    #[error("the assertion ends later than {} s from now", LONGEST.as_secs())]
    TooLong,
    #[error("the jti is empty or too long")]
    Id,
    #[error("the assertion was used before")]
    Replayed,
    #[error("whether the assertion was used before is not known")]
    Unknown(#[source] StoreError),
}

/// The client that signed `assertion`. `named` is the `client_id` of the request, and `endpoint` the path that is asked.
///
/// # Errors
/// [`OAuthError::InvalidClient`] for every fault of the assertion, [`OAuthError::Storage`]
pub(super) async fn authenticate(
    app: &App,
    assertion: &str,
    named: Option<&str>,
    endpoint: &str,
) -> Result<Arc<Client>, OAuthError> {
    match verify(app, assertion, named, endpoint).await {
        Ok(client) => Ok(client),
        Err(Refused::Unknown(failure)) => Err(OAuthError::Storage(failure)),
        Err(refused) => {
            tracing::info!(reason = crate::chain(&refused), "a client assertion was refused");
            Err(OAuthError::InvalidClient)
        }
    }
}

async fn verify(app: &App, assertion: &str, named: Option<&str>, endpoint: &str) -> Result<Arc<Client>, Refused> {
    // Step 1.
    let jwt = UnverifiedJwt::parse(assertion, MAX_BYTES)?;
    let id = jwt.issuer()?;
    if named.is_some_and(|named| named != id) {
        return Err(Refused::AnotherClient);
    }
    let client = app.clients().find(&id).cloned().ok_or(Refused::NotRegistered)?;
    let Authentication::PrivateKeyJwt { keys, alg } = &client.authentication else {
        return Err(Refused::NotRegistered);
    };

    // Step 2.
    let now = app.clock.now();
    let issuer = &app.config.issuer;
    let audiences = [issuer.as_str().to_owned(), issuer.endpoint("/oauth2/token"), issuer.endpoint(endpoint)];
    let leeway = app.config.keys.rotation.clock_skew().min(Policy::MAX_LEEWAY);
    let algorithms: &[Algorithm] = alg.as_ref().map_or(&Algorithm::ALL, std::slice::from_ref);
    let policy = Policy::any(id.as_str(), audiences[0].as_str())
        .or_audience(audiences[1].as_str())
        .or_audience(audiences[2].as_str())
        .with_leeway(leeway)
        .expect("it is no longer than the longest")
        .with_algorithms(algorithms.iter().copied())
        .expect("one at least");
    // Nobody makes us fetch keys with what could not be accepted anyway.
    jwt.plausible(&policy, now)?;
    let keys = keys_of(app, &client, keys, jwt.kid()).await.ok_or(Refused::NoKeys)?;
    let verified = check::<Claims>(assertion, &keys, &policy, now)?;

    // Step 3.
    let (claims, ends) = (verified.claims(), verified.expires_at());
    if claims.sub != id {
        return Err(Refused::Subject);
    }
    if !claims.aud.iter().all(|audience| audiences.iter().any(|ours| ours == audience)) {
        return Err(Refused::Audience);
    }
    if ends > now + LONGEST + leeway {
        return Err(Refused::TooLong);
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_ID_BYTES {
        return Err(Refused::Id);
    }
    let is_new = app.store.spend_assertion(&id, &sha256(&claims.jti), ends + leeway, now).await;
    if is_new.map_err(Refused::Unknown)? { Ok(client) } else { Err(Refused::Replayed) }
}

async fn keys_of(app: &App, client: &Client, keys: &ClientKeys, kid: Option<&str>) -> Option<Arc<KeySet>> {
    match keys {
        ClientKeys::Inline(jwks) => Some(Arc::new(jwks.keys().clone())),
        ClientKeys::At(uri) => app.client_keys.keys(&client.id, uri, kid, &app.outgoing, app.clock.as_ref()).await,
    }
}

/// Some libraries give an hour, though a minute would do; what is remembered of each assertion is small.
const LONGEST: Duration = Duration::from_secs(60 * 60);

const MAX_BYTES: usize = 16 * 1024;

/// A UUID has 36; some put a whole address in front of it.
const MAX_ID_BYTES: usize = 256;
