//! The public listener's TLS: which certificate it shows, and how a connection gets from its first byte to HTTP.
//!
//! 1. What is no TLS is told so, if it looks like HTTP, and closed.
//! 2. The client's hello is read. If an ACME authority is asking, it is answered from the database ([`acme`]).
//! 3. The handshake is made with the certificate in force: that of the files `server.tls` names ([`files`]), or one that
//!    was ordered. Exchanging it touches no connection that is open.
//!
//! TLS 1.2 and 1.3, HTTP/2 and 1.1; the key exchange withstands quantum computers whenever the client knows how.

pub(crate) mod acme;
pub(crate) mod certificate;
pub(crate) mod files;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use keywheel_jose::Timestamp;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, kx_group};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SupportedKxGroup};
use rustls::server::{Acceptor, NoServerSessionStorage, ProducesTickets};
use rustls::sign::SingleCertAndKey;
use rustls::{Error, NamedGroup, ProtocolVersion, ServerConfig};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::debug;

use crate::app::App;
use crate::chain;
use crate::config::{Config, ServerSettings};
use crate::edges::Clock;
use crate::shutdown::Shutdown;
use crate::storage::Store;
use acme::challenge::{Challenges, PROTOCOL};
use certificate::{Certificate, CertificateError};

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The library that speaks it.
    #[error("the certificate cannot be shown")]
    Library(#[from] Error),
}

/// How the public listener speaks TLS.
pub(crate) struct Tls {
    in_force: ArcSwapOption<InForce>,
    provider: Arc<CryptoProvider>,
    /// The same for every certificate, so that sessions outlive them.
    tickets: Arc<dyn ProducesTickets>,
    /// What an authority is answered, if certificates are ordered.
    challenges: Option<Challenges>,
    /// Why there is no certificate yet.
    trouble: ArcSwapOption<String>,
}

/// A certificate, and what shows it.
struct InForce {
    certificate: Certificate,
    /// For clients that know X25519MLKEM768, wherever in their list it stands.
    hybrid: Arc<ServerConfig>,
    /// For the others.
    classic: Arc<ServerConfig>,
}

impl Tls {
    /// With the certificate that the files hold; one that is ordered comes later, and until then no handshake succeeds.
    /// `None` where no TLS is to be spoken.
    ///
    /// # Errors
    /// Every [`TlsError`].
    pub(crate) fn open(
        settings: &ServerSettings,
        store: &Store,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        if !settings.has_tls() {
            return Ok(None);
        }
        let challenges = settings.acme.as_ref().map(|acme| Challenges {
            store: store.clone(),
            clock: Arc::clone(clock),
            domains: acme.domains.clone(),
        });
        let tls = Self {
            in_force: ArcSwapOption::empty(),
            provider: Arc::new(provider()),
            tickets: Ticketer::new()?,
            challenges,
            trouble: ArcSwapOption::empty(),
        };
        if let Some(files) = &settings.tls {
            tls.put_in_force(Certificate::read(files, &tls.provider)?)?;
        }
        Ok(Some(Arc::new(tls)))
    }

    /// Shows `certificate` to whoever connects from now on.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub(crate) fn put_in_force(&self, certificate: Certificate) -> Result<(), Error> {
        let hybrid = CryptoProvider { kx_groups: HYBRID.to_vec(), ..(*self.provider).clone() };
        let hybrid = self.config(Arc::new(hybrid), &certificate)?;
        let classic = self.config(Arc::clone(&self.provider), &certificate)?;
        self.in_force.store(Some(Arc::new(InForce { certificate, hybrid, classic })));
        Ok(())
    }

    /// Until when the certificate in force is good; `None` when there is none.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        self.in_force.load().as_ref().map(|it| it.certificate.not_after)
    }

    /// Whether there is a certificate; or why not.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.in_force.load().is_some() {
            return Ok(());
        }
        let trouble = self.trouble.load();
        let trouble = trouble.as_ref().map_or("it is being ordered", |trouble| trouble.as_str());
        Err(format!("there is no certificate for TLS yet: {trouble}"))
    }

    /// Remembers what went wrong, for as long as there is no certificate.
    fn tell_trouble(&self, failure: &dyn std::error::Error) {
        self.trouble.store(Some(Arc::new(chain(failure))));
    }

    /// When the certificate in force should be replaced; `None` when there is none.
    fn renew_at(&self) -> Option<Timestamp> {
        let in_force = self.in_force.load();
        in_force.as_ref().map(|it| acme::renew_at(it.certificate.not_before, it.certificate.not_after))
    }

    /// Makes the handshake; `None` when there is nothing to be served on this connection, because it ended, because no
    /// TLS is spoken on it, or because it was a question of an ACME authority, which has been answered. It takes as long
    /// as the client likes: the caller has a deadline.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE => {}
            Ok(1) if first[0].is_ascii_uppercase() => {
                debug!("plain HTTP where TLS is spoken");
                say_https(stream).await;
                return None;
            }
            _ => return None,
        }
        let start = match LazyConfigAcceptor::new(Acceptor::default(), stream).await {
            Ok(start) => start,
            Err(error) => {
                debug!(%error, "no TLS handshake");
                return None;
            }
        };
        let hello = start.client_hello();
        if hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == PROTOCOL)) {
            let name = hello.server_name().unwrap_or_default().to_owned();
            self.answer_challenge(start, &name).await;
            return None;
        }
        let in_force = self.in_force.load_full();
        let Some(in_force) = in_force else {
            debug!("a TLS handshake before there is a certificate");
            return None;
        };
        let is_hybrid = hello.named_groups().is_some_and(|groups| groups.contains(&NamedGroup::X25519MLKEM768));
        let config = if is_hybrid { &in_force.hybrid } else { &in_force.classic };
        match start.into_stream(Arc::clone(config)).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                debug!(%error, "a TLS handshake failed");
                None
            }
        }
    }

    /// The handshake is all that there is to it: "Once the TLS handshake is complete, the connection MUST be immediately
    /// closed" (RFC 8737 §3).
    async fn answer_challenge(&self, start: StartHandshake<TcpStream>, name: &str) {
        let Some(challenges) = &self.challenges else { return };
        let Some(config) = challenges.config(name, &self.provider).await else { return };
        match start.into_stream(config).await {
            Ok(mut stream) => {
                debug!(name, "a certificate authority was answered");
                let _ = stream.shutdown().await;
            }
            Err(error) => debug!(name, %error, "a certificate authority broke off the handshake"),
        }
    }

    fn config(&self, provider: Arc<CryptoProvider>, certificate: &Certificate) -> Result<Arc<ServerConfig>, Error> {
        let resolver = SingleCertAndKey::from(Arc::clone(&certificate.certified));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are resumed by tickets, which need no memory here.
        config.ticketer = Arc::clone(&self.tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

/// A certificate that the listener would show.
#[derive(Serialize)]
pub(crate) struct Inspection {
    /// Where it is from.
    pub(crate) source: String,
    /// Until when it is good, where it is known.
    pub(crate) not_after: Option<Timestamp>,
    /// What its owner should know.
    pub(crate) warnings: Vec<String>,
}

/// Looks at what `serve` would speak TLS with; `None` where it would not.
///
/// # Errors
/// Why clients would not be served.
pub(crate) fn inspect(config: &Config, now: Timestamp) -> Result<Option<Inspection>, String> {
    let host = config.issuer.host();
    if let Some(acme) = &config.server.acme {
        let mut warnings = Vec::new();
        if !acme.domains.contains(&host) {
            warnings
                .push(format!("server.acme.domains does not have the issuer's host {host}: clients would refuse it"));
        }
        if let Some(Err(failure)) = acme.ca_file.as_ref().map(std::fs::read) {
            return Err(format!("the authorities of server.acme.ca_file cannot be read: {failure}"));
        }
        let source = format!("ordered from {} for {}", acme.directory_url, acme.domains.join(" "));
        return Ok(Some(Inspection { source, not_after: None, warnings }));
    }
    let Some(files) = &config.server.tls else { return Ok(None) };
    let certificate = Certificate::read(files, &provider()).map_err(|failure| chain(&failure))?;
    let Certificate { not_before, not_after, .. } = certificate;
    let source = files.cert.display().to_string();
    if not_after <= now {
        return Err(format!("the certificate in {source} expired at {not_after}: clients would refuse it"));
    }
    let mut warnings = Vec::new();
    if not_before > now {
        warnings.push(format!("the certificate in {source} is not good before {not_before}"));
    }
    if not_after <= now + files::EXPIRES_SOON {
        warnings.push(format!("the certificate in {source} expires at {not_after}"));
    }
    if !certificate.covers(&host) {
        warnings
            .push(format!("the certificate in {source} is not for the issuer's host {host}: clients would refuse it"));
    }
    Ok(Some(Inspection { source, not_after: Some(not_after), warnings }))
}

/// Keeps the certificate good until `shutdown` is ordered.
pub(crate) async fn run(app: Arc<App>, shutdown: Shutdown) {
    let Some(tls) = &app.tls else { return };
    let settings = &app.config.server;
    if let Some(files) = &settings.tls {
        files::watch(Arc::clone(tls), files.clone(), Arc::clone(&app.clock), shutdown).await;
    } else if let Some(settings) = &settings.acme {
        acme::run(&app, tls, settings, shutdown).await;
    }
}

/// The algorithms, never those of the process as a whole.
pub(crate) fn provider() -> CryptoProvider {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    CryptoProvider { kx_groups, ..default_provider() }
}

/// Answers a request in the clear, whatever it is, and waits for the client to leave, so that it reads the answer.
async fn say_https(mut stream: TcpStream) {
    if stream.write_all(NOT_HTTPS.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    let mut left = LONGEST_REQUEST_IN_THE_CLEAR;
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}

/// A group of key exchange that is left to TLS 1.2.
///
/// rustls takes the first group in the client's list that it has. To make it take X25519MLKEM768 where a client knows it
/// at all, it has no other for TLS 1.3, where that group exists; with TLS 1.2 such a client still gets on with these.
#[derive(Debug)]
struct BeforeTls13(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for BeforeTls13 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.0.start()
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_2 && self.0.usable_for_version(version)
    }
}

const HYBRID: [&dyn SupportedKxGroup; 4] = [
    kx_group::X25519MLKEM768,
    &BeforeTls13(kx_group::X25519),
    &BeforeTls13(kx_group::SECP256R1),
    &BeforeTls13(kx_group::SECP384R1),
];

/// What every TLS connection begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

const NOT_HTTPS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
     content-length: 71\r\nconnection: close\r\n\r\n\
     This port speaks TLS only: use the address that begins with https://.\r\n";

const LONGEST_REQUEST_IN_THE_CLEAR: usize = 64 * 1024;
