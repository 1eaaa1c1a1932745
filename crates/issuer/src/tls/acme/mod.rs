//! A certificate that the server orders itself (RFC 8555), kept in the database for all servers that are configured alike.
//!
//! Every few seconds each server
//! 1. takes over a certificate that is newer than its own, whoever ordered it;
//! 2. if there is none, or two thirds of its life are over, asks to be the one that orders. One is, for as long as its
//!    lease lasts; it stores what it got ([`order`]), and the others find it at 1;
//! 3. an order that fails is tried again later, and each time it takes twice as long. The certificate before stays in force.
//!
//! A private key or an account that does not open, because the key-encryption key is gone under which it was sealed, is
//! given up with a warning: another certificate, another account is better than none.
//!
//! What the authority asks meanwhile, any of the servers can answer ([`challenge`]).

pub(crate) mod challenge;
mod order;

use std::time::Duration;

use keywheel_jose::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use super::certificate::{Certificate, CertificateError};
use super::{Tls, TlsError};
use crate::app::App;
use crate::chain;
use crate::config::AcmeSettings;
use crate::edges::NoEntropy;
use crate::keys::seal::{KeyEncryptionKeys, SealError};
use crate::shutdown::Shutdown;
use crate::storage::{AcmeSecret, CertificateOrder, Store, StoreError, StoredCertificate};
use order::OrderError;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    #[error("the certificate in the database cannot be used")]
    Stored(#[source] TlsError),
    #[error("the certificate that the authority gave cannot be used")]
    Given(#[source] CertificateError),
    #[error("the certificate that the authority gave is not for {0}")]
    NotFor(String),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("the authority took longer than {} s", LONGEST_ORDER.as_secs())]
    TooSlow,
}

/// Keeps a certificate in force until `shutdown` is ordered.
pub(super) async fn run(app: &App, tls: &Tls, settings: &AcmeSettings, mut shutdown: Shutdown) {
    let mut bytes = [0; 16];
    if let Err(failure) = app.entropy.fill(&mut bytes) {
        error!(error = chain(&failure), "no certificate can be ordered");
        return;
    }
    let mut server = Server {
        app,
        tls,
        settings,
        name: name_of(settings),
        holder: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        known: 0,
    };
    let rounds = async {
        let mut period = tokio::time::interval(LOOK_EVERY);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            server.round().await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = shutdown.ordered() => {}
    }
    // Another server need not wait for the end of the lease.
    if let Err(failure) = app.store.give_order_back(server.order()).await {
        debug!(error = chain(&failure), "an order could not be given back");
    }
}

/// This server, and the certificate that it shows.
struct Server<'a> {
    app: &'a App,
    tls: &'a Tls,
    settings: &'a AcmeSettings,
    /// Of the certificate.
    name: String,
    /// Of this process.
    holder: String,
    /// The generation of the newest certificate that was seen.
    known: i64,
}

impl Server<'_> {
    async fn round(&mut self) {
        if let Err(failure) = self.take_over().await {
            warn!(error = chain(&failure), "the certificate could not be taken from the database");
            self.tls.tell_trouble(&failure);
        }
        let now = self.app.clock.now();
        if self.tls.renew_at().is_some_and(|at| at > now) {
            return;
        }
        match self.store().take_order(self.order(), self.known, now, LEASE).await {
            Ok(Some(failures)) => self.renew(failures).await,
            Ok(None) => {}
            Err(failure) => {
                warn!(error = chain(&failure), "no certificate can be ordered");
                self.tls.tell_trouble(&AcmeError::from(failure));
            }
        }
    }

    /// Shows the newest certificate that is stored, if it is another one.
    async fn take_over(&mut self) -> Result<(), AcmeError> {
        let Some(stored) = self.store().newer_certificate(&self.name, self.known).await? else { return Ok(()) };
        let StoredCertificate { generation, chain, private_sealed } = stored;
        let opened = open(&self.app.kek, &self.key(), &private_sealed);
        if opened.is_err() {
            self.store().give_certificate_up(&self.name, generation, self.app.clock.now()).await?;
        }
        // Even when it can't be used, so that it can be replaced.
        self.known = generation;
        let key = PrivateKeyDer::try_from(opened?.to_vec());
        let key = key.map_err(|_| AcmeError::Stored(CertificateError::NoKey(IN_DATABASE.to_owned()).into()))?;
        let certificate = Certificate::from_pem(chain.as_bytes(), key, IN_DATABASE, IN_DATABASE, &self.tls.provider);
        let certificate = certificate.map_err(|error| AcmeError::Stored(error.into()))?;
        let not_after = certificate.not_after;
        self.tls.put_in_force(certificate).map_err(|error| AcmeError::Stored(error.into()))?;
        info!(%not_after, "a new certificate is in force");
        Ok(())
    }

    /// Orders a certificate, as the only server that does.
    async fn renew(&mut self, failures: u32) {
        info!(
            names = self.settings.domains.join(" "),
            directory = self.settings.directory_url,
            "ordering a certificate"
        );
        let ordered = tokio::time::timeout(LONGEST_ORDER, self.order_and_store()).await;
        let Err(failure) = ordered.unwrap_or(Err(AcmeError::TooSlow)) else {
            if let Err(failure) = self.take_over().await {
                warn!(error = chain(&failure), "the certificate could not be taken from the database");
            }
            return;
        };
        self.tls.tell_trouble(&failure);
        let pause = pause(failures);
        let (pause_s, not_after) = (pause.as_secs(), self.tls.not_after().map(|at| at.to_string()));
        if not_after.is_some() {
            warn!(
                error = chain(&failure),
                pause_s, not_after, "the certificate could not be renewed; it is tried again"
            );
        } else {
            error!(error = chain(&failure), pause_s, "no certificate could be had; it is tried again");
        }
        let next_try_at = self.app.clock.now() + pause;
        if let Err(failure) = self.store().put_off_order(self.order(), next_try_at).await {
            warn!(error = chain(&failure), "that an order failed could not be noted");
        }
    }

    async fn order_and_store(&self) -> Result<(), AcmeError> {
        let (chain, key) = order::order(self.app, self.settings).await?;
        let sealed = seal(&self.app.kek, &self.key(), key.secret_der())?;
        let certificate =
            Certificate::from_pem(chain.as_bytes(), key, "the authority", "the order", &self.tls.provider);
        let certificate = certificate.map_err(AcmeError::Given)?;
        if let Some(domain) = self.settings.domains.iter().find(|domain| !certificate.covers(domain)) {
            return Err(AcmeError::NotFor(domain.clone()));
        }
        // A clock that is far ahead would find each new certificate old, and the authority would be asked all day.
        let life = certificate.not_after.duration_since(certificate.not_before);
        let next_try_at = self.app.clock.now() + life / 10;
        if !self.store().store_certificate(self.order(), &chain, &sealed, next_try_at).await? {
            debug!("another server has taken over the order");
        }
        Ok(())
    }

    fn key(&self) -> AcmeSecret {
        AcmeSecret::CertificateKey(self.name.clone())
    }

    fn order(&self) -> CertificateOrder<'_> {
        CertificateOrder { name: &self.name, holder: &self.holder }
    }

    fn store(&self) -> &Store {
        &self.app.store
    }
}

/// What a server that is configured so cannot open of what is stored for it, and does without: why, and what it does then.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub(crate) async fn lost(
    settings: &AcmeSettings,
    store: &Store,
    kek: &KeyEncryptionKeys,
) -> Result<Vec<String>, StoreError> {
    let used = [AcmeSecret::CertificateKey(name_of(settings)), AcmeSecret::Account(settings.directory_url.clone())];
    let stored = store.acme_secrets().await?.into_iter().filter(|(secret, _)| used.contains(secret));
    let lost = stored.filter_map(|(secret, sealed)| {
        let failure = open(kek, &secret, &sealed).err()?;
        let instead = match secret {
            AcmeSecret::CertificateKey(_) => "orders another certificate",
            AcmeSecret::Account(_) => "makes another account",
        };
        Some(format!("{}: the server {instead}", chain(&failure)))
    });
    Ok(lost.collect())
}

fn open(kek: &KeyEncryptionKeys, secret: &AcmeSecret, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    kek.open_secret(secret.purpose(), secret.name(), sealed).map(|(opened, _)| opened)
}

fn seal(kek: &KeyEncryptionKeys, secret: &AcmeSecret, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    kek.seal_secret(secret.purpose(), secret.name(), plain)
}

/// Of the certificate: the same for servers that are configured alike.
fn name_of(settings: &AcmeSettings) -> String {
    format!("{} {}", settings.directory_url, settings.domains.join(","))
}

/// How long to wait after so many failures before the present one. Five in the first hour, which is what Let's Encrypt
/// allows for one name.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures).and_then(|factor| FIRST_PAUSE.checked_mul(factor));
    doubled.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
}

/// When two thirds of a certificate's life are over.
pub(super) fn renew_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    not_before + not_after.duration_since(not_before) * 2 / 3
}

const IN_DATABASE: &str = "the database";

/// One query for a row that is mostly not there.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// An authority that validates answers within seconds; one that is busy may take a minute.
const LONGEST_ORDER: Duration = Duration::from_secs(150);
/// Longer than an order, so that nobody takes over one that is going on.
const LEASE: Duration = Duration::from_secs(180);
const FIRST_PAUSE: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let at = Timestamp::from_unix;

        assert_eq!(renew_at(at(1000), at(1090)), at(1060));
        assert_eq!(renew_at(at(1000), at(1000)), at(1000));
        assert_eq!(renew_at(at(1000), at(10)), at(1000), "a certificate that was never good");
    }

    #[test]
    fn each_failure_makes_the_next_try_wait_twice_as_long() {
        let minutes = [0, 1, 2, 3, 4, 9, 40, u32::MAX].map(|failures| pause(failures).as_secs() / 60);

        assert_eq!(minutes, [2, 4, 8, 16, 32, 360, 360, 360]);
    }
}
