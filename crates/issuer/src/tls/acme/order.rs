//! The conversation with a certificate authority (RFC 8555 §7): account, order, challenges, certificate.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::warn;
use zeroize::Zeroizing;

use crate::app::App;
use crate::chain;
use crate::config::{AcmeSettings, ChallengeKind};
use crate::keys::seal::SealError;
use crate::outgoing::{Bounds, Outgoing, Reach};
use crate::storage::{AcmeSecret, StoreError, StoredAccount};

/// Why an order brought no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the certificate authority {doing}")]
    Authority {
        doing: &'static str,
        #[source]
        source: instant_acme::Error,
    },
    #[error("the certificate authority does not offer {kind} for {name}")]
    NotOffered { kind: &'static str, name: String },
    #[error("the certificate authority refuses {name}: {why}")]
    Refused { name: String, why: String },
    #[error("the request for the certificate could not be made")]
    Request(#[source] rcgen::Error),
}

/// Orders a certificate: the chain in PEM, and its private key.
pub(super) async fn order(app: &App, settings: &AcmeSettings) -> Result<(String, PrivateKeyDer<'static>), OrderError> {
    let identifiers: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut opened = account(app, settings, Kept::Use).await;
    if opened.as_ref().is_err_and(is_gone) {
        opened = account(app, settings, Kept::Replace).await;
    }
    let mut account = opened?;
    let mut ordered = account.new_order(&NewOrder::new(&identifiers)).await;
    if ordered.as_ref().is_err_and(is_account_gone) {
        warn!("the certificate authority has forgotten the account; making another");
        account = self::account(app, settings, Kept::Replace).await?;
        ordered = account.new_order(&NewOrder::new(&identifiers)).await;
    }
    let mut order = ordered.map_err(failed("does not take the order"))?;
    let mut answers = Vec::new();
    let result = finish(app, settings, &mut order, &mut answers).await;
    for name in &answers {
        app.store.forget_challenge(settings.challenge.as_str(), name).await?;
    }
    result
}

/// Answers the challenges, and fetches the certificate.
async fn finish(
    app: &App,
    settings: &AcmeSettings,
    order: &mut instant_acme::Order,
    answers: &mut Vec<String>,
) -> Result<(String, PrivateKeyDer<'static>), OrderError> {
    let kind = settings.challenge.as_str();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed("does not say what it wants to see"))?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(OrderError::Refused { name, why: format!("its authorization is {other:?}") }),
        }
        let wanted = match settings.challenge {
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Http01 => ChallengeType::Http01,
        };
        let Some(mut challenge) = authorization.challenge(wanted) else {
            return Err(OrderError::NotOffered { kind, name });
        };
        // One is asked for by the name, the other by its token.
        let asked_for = match settings.challenge {
            ChallengeKind::TlsAlpn01 => name,
            ChallengeKind::Http01 => challenge.token.clone(),
        };
        let answer = challenge.key_authorization();
        let now = app.clock.now();
        app.store.put_challenge(kind, &asked_for, answer.as_str(), (now, now + CHALLENGE_LASTS)).await?;
        answers.push(asked_for);
        challenge.set_ready().await.map_err(failed("does not look at the challenge"))?;
    }
    let patience = RetryPolicy::new().initial_delay(FIRST_LOOK).timeout(PATIENCE);
    let status = order.poll_ready(&patience).await.map_err(failed("does not finish the authorization"))?;
    if status != OrderStatus::Ready {
        return Err(why_refused(order).await);
    }
    let key = KeyPair::generate().map_err(OrderError::Request)?;
    let mut request = CertificateParams::new(settings.domains.clone()).map_err(OrderError::Request)?;
    request.distinguished_name = DistinguishedName::new();
    let request = request.serialize_request(&key).map_err(OrderError::Request)?;
    order.finalize_csr(request.der()).await.map_err(failed("does not make the certificate"))?;
    let chain = order.poll_certificate(&patience).await.map_err(failed("does not give the certificate"))?;
    Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

/// What the authority saw where it looked.
async fn why_refused(order: &mut instant_acme::Order) -> OrderError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(why) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return OrderError::Refused { name, why: why.to_string() };
        }
    }
    OrderError::Refused { name: "the order".to_owned(), why: "it does not say why".to_owned() }
}

/// What to do about an account that is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Use,
    Replace,
}

/// Opens the account at the authority, or makes one.
async fn account(app: &App, settings: &AcmeSettings, kept: Kept) -> Result<Account, OrderError> {
    let directory = settings.directory_url.as_str();
    let outgoing = Arc::new(Outgoing::new(Reach::Anywhere).trusting(settings.ca_file.clone()));
    let builder = || Account::builder_with_http(Box::new(Client(Arc::clone(&outgoing))));
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let listed = contact.join(",");
    let secret = AcmeSecret::Account(directory.to_owned());
    let keep = async |credentials: &[u8]| {
        let credentials_sealed = super::seal(&app.kek, &secret, credentials)?;
        let account = StoredAccount { contact: listed.clone(), credentials_sealed };
        app.store.put_acme_account(directory, &account).await.map_err(OrderError::from)
    };
    let stored = match kept {
        Kept::Use => app.store.acme_account(directory).await?,
        Kept::Replace => None,
    };
    let opened = stored.map(|stored| (super::open(&app.kek, &secret, &stored.credentials_sealed), stored));
    match opened {
        Some((Ok(opened), stored)) => {
            let credentials: Result<AccountCredentials, _> = serde_json::from_slice(&opened);
            let credentials =
                credentials.map_err(|error| failed("has an account that cannot be read")(error.into()))?;
            let account = builder().from_credentials(credentials).await;
            let account = account.map_err(failed("does not answer"))?;
            if stored.contact != listed {
                account.update_contacts(&contact).await.map_err(failed("does not take the new contact"))?;
                keep(&opened).await?;
            }
            return Ok(account);
        }
        Some((Err(failure), _)) => {
            warn!(error = chain(&failure), "making another account at the certificate authority")
        }
        None => {}
    }
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let made = builder().create(&wanted, directory.to_owned(), None).await;
    let (account, credentials) = made.map_err(failed("does not make an account"))?;
    let credentials = serde_json::to_vec(&credentials).map(Zeroizing::new);
    keep(&credentials.map_err(|error| failed("has an account that cannot be kept")(error.into()))?).await?;
    Ok(account)
}

fn failed(doing: &'static str) -> impl FnOnce(instant_acme::Error) -> OrderError {
    move |source| OrderError::Authority { doing, source }
}

fn is_gone(error: &OrderError) -> bool {
    matches!(error, OrderError::Authority { source, .. } if is_account_gone(source))
}

/// RFC 8555 §6.7: "The request specified an account that does not exist", or one that was deactivated.
fn is_account_gone(error: &instant_acme::Error) -> bool {
    let instant_acme::Error::Api(problem) = error else { return false };
    matches!(
        problem.r#type.as_deref(),
        Some("urn:ietf:params:acme:error:accountDoesNotExist" | "urn:ietf:params:acme:error:unauthorized")
    )
}

/// Our own way out, for the library that speaks the protocol.
struct Client(Arc<Outgoing>);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let outgoing = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
            let request = Request::from_parts(head, Full::from(body));
            let answer = outgoing.send(request, BOUNDS).await;
            let answer = answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(answer.map(Full::<Bytes>::from)))
        })
    }
}

/// Of one request; a chain of certificates has some kilobytes.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(30), body_limit_bytes: 1 << 20 };
/// Longer than any order.
const CHALLENGE_LASTS: Duration = Duration::from_secs(600);
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// For the authorization, and again for the certificate.
const PATIENCE: Duration = Duration::from_secs(60);
