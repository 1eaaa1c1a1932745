//! Certificates made by the stories, and the clients that are shown them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::harness::Reply;

/// The host of the issuers that speak TLS. No name server knows it.
pub(super) const HOST: &str = "id.example.test";

/// Who vouches for the certificates of a story.
pub(super) struct Authority {
    signer: Signer<'static, KeyPair>,
    /// In PEM.
    pub(super) certificate: String,
}

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        // Of a name of its own: a client that finds the name goes on to the signature.
        let name = format!("Authority {:x?}", &key.public_key_raw()[1..9]);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self { signer: Signer::new(params, key), certificate }
    }

    /// A certificate for [`HOST`].
    pub(super) fn pair(&self) -> Pair {
        self.pair_with(HOST, |_| {})
    }

    /// One that is made differently.
    pub(super) fn pair_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.signer).expect("a certificate");
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// Connects to an issuer, with everything that this library can do.
    pub(super) async fn connect(&self, server: SocketAddr) -> Result<TlsStream<TcpStream>, String> {
        connect(server, self.client(None, &[])).await
    }

    /// A client that knows these groups of key exchange, in this order, and these versions; the library's own for none.
    pub(super) fn client(
        &self,
        groups: Option<Vec<&'static dyn SupportedKxGroup>>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate");
        roots.add(root).expect("an authority");
        let provider = aws_lc_rs::default_provider();
        let kx_groups = groups.unwrap_or_else(|| provider.kx_groups.clone());
        let config = ClientConfig::builder_with_provider(Arc::new(CryptoProvider { kx_groups, ..provider }));
        let config = if versions.is_empty() {
            config.with_safe_default_protocol_versions()
        } else {
            config.with_protocol_versions(versions)
        };
        let config = config.expect("versions that go with the groups").with_root_certificates(roots);
        TlsConnector::from(Arc::new(config.with_no_client_auth()))
    }
}

impl Pair {
    /// Writes both files.
    pub(super) fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.crt"), &self.chain).expect("writing a certificate");
        fs::write(folder.join("tls.key"), &self.key).expect("writing a key");
    }

    /// Whether this is the certificate that a server showed.
    pub(super) fn was_shown(&self, stream: &TlsStream<TcpStream>) -> bool {
        let ours = CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("a certificate");
        let shown = stream.get_ref().1.peer_certificates();
        shown.and_then(<[_]>::first) == Some(&ours)
    }
}

/// Makes a handshake for [`HOST`].
pub(super) async fn connect(server: SocketAddr, client: TlsConnector) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(HOST).expect("a name");
    client.connect(name, stream).await.map_err(|error| error.to_string())
}

/// A connection on which requests are sent one after the other.
pub(super) struct Kept(http1::SendRequest<Full<Bytes>>);

impl Kept {
    pub(super) async fn on(stream: TlsStream<TcpStream>) -> Result<Self, String> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Reply, String> {
        let request = Request::get(path).version(Version::HTTP_11).header(header::HOST, HeaderValue::from_static(HOST));
        let request = request.body(Full::default()).expect("a request");
        let response = self.0.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}
