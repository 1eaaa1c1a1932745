//! Requests that this program makes to others: bounded in time and size, https unless to this machine, no redirects.
//!
//! The addresses of clients (`jwks_uri`, back-channel logout) are registered by their owners, who may be anybody. They must
//! not make the issuer call what only it can reach: its own machine, its network, its cloud's metadata (server-side request
//! forgery). So
//! 1. a name is resolved once, and what it resolves to is held against the ranges that are reachable for everybody;
//! 2. the connection goes to the addresses that passed. Nothing resolves the name again, so a name server that answers
//!    differently the second time gains nothing;
//! 3. a redirect is an answer like any other that is not 200: nobody is sent on to an address that was not looked at.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tower_service::Service;
use url::{Host, Url};

use crate::telemetry;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} is not an http or https address")]
    Address(String),
    #[error("{0} must be https: only addresses of this machine may be called in the clear")]
    Insecure(String),
    #[error("{0} is a private address or one of this machine (outgoing.allow_private)")]
    Private(String),
    #[error("the certificate authorities of this system cannot be read")]
    Roots(#[source] io::Error),
    #[error("{0} holds no certificate of an authority that can be used")]
    Authorities(PathBuf),
    #[error("{url} does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    #[error("{url} answers {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} did not send its answer completely, or sent more than {limit_bytes} bytes")]
    Body { url: String, limit_bytes: usize },
    #[error("{url} did not answer within {} s", .limit.as_secs())]
    TooSlow { url: String, limit: Duration },
}

/// Whom the program may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only what everybody can reach, by https.
    Public,
    /// Private networks too, and this machine in the clear.
    Anywhere,
    /// Whatever the operator names for the server itself, in the clear too.
    Operator,
}

/// How much an exchange may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// From the name to the last byte.
    pub(crate) deadline: Duration,
    /// Of the answer.
    pub(crate) body_limit_bytes: usize,
}

/// Calls others.
pub(crate) struct Outgoing {
    reach: Reach,
    /// The authorities that vouch for who is called, in PEM; those of the system when there is none.
    authorities: Option<PathBuf>,
    resolve: Arc<Resolve>,
    client: OnceCell<HttpClient>,
}

type HttpClient = Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>;

/// Finds the addresses of a name.
type Resolve = dyn Fn(Name) -> Resolving + Send + Sync;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Fetches a JSON document for the person at the command line, from wherever they say.
pub(crate) async fn get(address: &str) -> Result<Bytes, FetchError> {
    let bounds = Bounds { deadline: Duration::from_secs(10), body_limit_bytes: 1 << 20 };
    Outgoing::new(Reach::Anywhere).get(address, bounds).await
}

impl Outgoing {
    /// Nothing is called yet, and nothing read from disk.
    pub(crate) fn new(reach: Reach) -> Self {
        let resolve = |name: Name| -> Resolving {
            Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) })
        };
        Self::resolving(reach, resolve)
    }

    fn resolving(reach: Reach, resolve: impl Fn(Name) -> Resolving + Send + Sync + 'static) -> Self {
        Self { reach, authorities: None, resolve: Arc::new(resolve), client: OnceCell::new() }
    }

    /// The same, trusting the authorities in this file and no others.
    pub(crate) fn trusting(self, authorities: Option<PathBuf>) -> Self {
        Self { authorities, ..self }
    }

    /// Sends a request as it is, but for who we are, and gives the answer whatever its status.
    ///
    /// # Errors
    /// Every [`FetchError`] but [`FetchError::Status`]
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let url = self.admit(&request.uri().to_string())?;
        self.exchange(url, request, bounds, |_| true).await
    }

    /// Fetches a JSON document.
    ///
    /// # Errors
    /// Every [`FetchError`]; [`FetchError::Status`] for anything but 200
    pub(crate) async fn get(&self, address: &str, bounds: Bounds) -> Result<Bytes, FetchError> {
        let url = self.admit(address)?;
        let request = Request::get(url.as_str()).header(ACCEPT, "application/json");
        let request = request.body(Full::default()).map_err(|_| FetchError::Address(address.to_owned()))?;
        self.exchange(url, request, bounds, |status| status == StatusCode::OK).await.map(Response::into_body)
    }

    /// Posts a form; the answer does not matter, only that it is a good one.
    ///
    /// # Errors
    /// Every [`FetchError`]; [`FetchError::Status`] for anything but 2xx
    pub(crate) async fn post(&self, address: &str, form: String, bounds: Bounds) -> Result<(), FetchError> {
        let url = self.admit(address)?;
        let request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Full::from(form)).map_err(|_| FetchError::Address(address.to_owned()))?;
        self.exchange(url, request, bounds, |status| status.is_success()).await.map(drop)
    }

    /// Posts JSON with one more header; the answer does not matter, only that it is a good one.
    ///
    /// # Errors
    /// Every [`FetchError`]; [`FetchError::Status`] for anything but 2xx
    pub(crate) async fn post_json(
        &self,
        address: &str,
        json: String,
        (name, value): (&'static str, String),
        bounds: Bounds,
    ) -> Result<(), FetchError> {
        let url = self.admit(address)?;
        let request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/json").header(name, value);
        let request = request.body(Full::from(json)).map_err(|_| FetchError::Address(address.to_owned()))?;
        self.exchange(url, request, bounds, |status| status.is_success()).await.map(drop)
    }

    /// Reads an address that may be called, as far as that can be told before its name is resolved.
    fn admit(&self, address: &str) -> Result<Url, FetchError> {
        let url = Url::parse(address).map_err(|_| FetchError::Address(address.to_owned()))?;
        match url.scheme() {
            "https" => {}
            "http" if self.reach == Reach::Anywhere && is_loopback(&url) => {}
            "http" if self.reach == Reach::Operator => {}
            "http" => return Err(FetchError::Insecure(url.into())),
            _ => return Err(FetchError::Address(address.to_owned())),
        }
        // Numbers are not resolved, so the guard would not see them. `Url` has read every way to write one.
        let number = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::Address(address.to_owned())),
        };
        if self.reach == Reach::Public && number.is_some_and(|address| !is_public(address)) {
            return Err(FetchError::Private(url.into()));
        }
        Ok(url)
    }

    async fn exchange(
        &self,
        url: Url,
        mut request: Request<Full<Bytes>>,
        bounds: Bounds,
        is_good: fn(StatusCode) -> bool,
    ) -> Result<Response<Bytes>, FetchError> {
        request.headers_mut().insert(USER_AGENT, NAME);
        // The host alone: a path or a query may hold what is secret between two.
        let mut span = telemetry::span("http request").of_a_call();
        span.note("server.address", || url.host_str().unwrap_or_default().to_owned().into());
        span.note("http.request.method", || request.method().to_string().into());
        request.headers_mut().extend(span.traceparent());
        let client = self.client.get_or_try_init(async || self.connect()).await?;
        let limit_bytes = bounds.body_limit_bytes;
        let exchange = async {
            let response = client.request(request).await;
            let response: Response<Incoming> =
                response.map_err(|source| FetchError::Unreachable { url: url.to_string(), source })?;
            if !is_good(response.status()) {
                return Err(FetchError::Status { url: url.to_string(), status: response.status() });
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limit_bytes).collect().await;
            let body = body.map_err(|_| FetchError::Body { url: url.to_string(), limit_bytes })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let result = tokio::time::timeout(bounds.deadline, exchange).await;
        let result =
            result.unwrap_or_else(|_| Err(FetchError::TooSlow { url: url.to_string(), limit: bounds.deadline }));
        if result.is_err() {
            span.failed();
        }
        result
    }

    /// Reads the certificate authorities.
    fn connect(&self) -> Result<HttpClient, FetchError> {
        let guard = Guard { reach: self.reach, resolve: Arc::clone(&self.resolve) };
        let mut connector = HttpConnector::new_with_resolver(guard);
        connector.enforce_http(false);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = match &self.authorities {
            None => HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(FetchError::Roots)?,
            Some(file) => {
                let config = trusting(file, provider).ok_or_else(|| FetchError::Authorities(file.clone()))?;
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        // Calls are rare, and each should find out anew where a name leads.
        Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }
}

/// TLS to whoever the authorities in a file vouch for; `None` when it holds none.
fn trusting(file: &Path, provider: CryptoProvider) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file).ok()? {
        roots.add(root.ok()?).ok()?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().ok()?;
    (!roots.is_empty()).then(|| config.with_root_certificates(roots).with_no_client_auth())
}

/// Resolves names, and passes on only the addresses that may be called.
#[derive(Clone)]
struct Guard {
    reach: Reach,
    resolve: Arc<Resolve>,
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (reach, resolving) = (self.reach, (self.resolve)(name));
        Box::pin(async move {
            let mut addresses = resolving.await?;
            if reach == Reach::Public {
                addresses.retain(|address| is_public(address.ip()));
                if addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, PRIVATE_NAME));
                }
            }
            Ok(addresses.into_iter())
        })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether an address is the same for everybody: not one of the special ranges (IANA, RFC 6890 and what came after it).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let number = u32::from(address);
    !SPECIAL_V4.iter().any(|&([a, b, c, d], bits)| {
        let network = u32::from(Ipv4Addr::new(a, b, c, d));
        (number ^ network) >> (32 - bits) == 0
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // An IPv4 address in disguise: mapped (RFC 4291 §2.5.5.2), or behind a translator (RFC 6052 §2.1).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        // Protocols of the IETF, Teredo among them (RFC 2928); documentation; 6to4, which wraps any IPv4 address.
        [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => false,
        // What has been given out as unicast (RFC 4291 §2.4). Loopback, link-local, unique local and multicast are outside.
        [0x2000..0x4000, ..] => true,
        _ => false,
    }
}

/// Networks and their prefix lengths: this host, private, shared (CGNAT), loopback, link-local, IETF, documentation, 6to4
/// relays, benchmarks, multicast, reserved and broadcast.
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

const PRIVATE_NAME: &str = "the name leads to private addresses only (outgoing.allow_private)";

const NAME: HeaderValue = HeaderValue::from_static(concat!("keywheel/", env!("CARGO_PKG_VERSION")));

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(5), body_limit_bytes: 64 };

    /// A server on this machine that gives one answer to whoever comes, and keeps what they sent.
    pub(crate) struct Server {
        pub(crate) port: u16,
        received: Arc<Mutex<Vec<String>>>,
        answer: Arc<Mutex<String>>,
    }

    impl Server {
        pub(crate) async fn answering(status: &str, body: &str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let received = Arc::new(Mutex::new(Vec::new()));
            let answer = Arc::new(Mutex::new(whole_answer(status, body)));
            tokio::spawn({
                let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                async move {
                    while let Ok((mut socket, _)) = listener.accept().await {
                        let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                        tokio::spawn(async move {
                            let request = read_request(&mut socket).await;
                            received.lock().expect("not poisoned").push(request);
                            let answer = answer.lock().expect("not poisoned").clone();
                            let _ = socket.write_all(answer.as_bytes()).await;
                        });
                    }
                }
            });
            Self { port, received, answer }
        }

        /// From now on.
        pub(crate) fn answer(&self, status: &str, body: &str) {
            *self.answer.lock().expect("not poisoned") = whole_answer(status, body);
        }

        pub(crate) fn url(&self, path: &str) -> String {
            format!("http://127.0.0.1:{}{path}", self.port)
        }

        pub(crate) fn received(&self) -> Vec<String> {
            self.received.lock().expect("not poisoned").clone()
        }
    }

    fn whole_answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    /// Head and body, up to the announced length.
    async fn read_request(socket: &mut tokio::net::TcpStream) -> String {
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let count = socket.read(&mut buffer).await.unwrap_or(0);
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if count == 0 || body.is_some_and(|body| body >= length.unwrap_or(0)) {
                return text;
            }
        }
    }

    fn refusal(result: Result<Bytes, FetchError>) -> String {
        crate::chain(&result.expect_err("refused"))
    }

    #[test]
    fn only_addresses_that_everybody_can_reach_are_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(public.parse().expect(public)), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456:789a::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().expect(special)), "{special}");
        }
    }

    #[tokio::test]
    async fn however_a_private_address_is_written_it_is_not_called() {
        let resolve = |_| -> Resolving { panic!("nothing is resolved") };
        let outgoing = Outgoing::resolving(Reach::Public, resolve);
        for address in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://①②⑦.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[::ffff:7f00:1]:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://user@10.0.0.1/",
        ] {
            let result = outgoing.get(address, BOUNDS).await;
            assert!(matches!(result, Err(FetchError::Private(_))), "{address}: {result:?}");
        }
        for address in ["http://app.example.com/", "http://localhost/", "http://127.0.0.1/"] {
            assert!(matches!(outgoing.get(address, BOUNDS).await, Err(FetchError::Insecure(_))), "{address}");
        }
        for address in ["", "app.example.com", "file:///etc/passwd", "ftp://app.example.com/", "gopher://a/", "data:,x"]
        {
            assert!(matches!(outgoing.get(address, BOUNDS).await, Err(FetchError::Address(_))), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_called() {
        let server = Server::answering("200 OK", "{}").await;
        for private in ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let port = server.port;
            let outgoing = Outgoing::resolving(Reach::Public, move |_| {
                Box::pin(async move { Ok(vec![SocketAddr::new(private.parse().expect("an address"), 0)]) })
            });

            let refusal = refusal(outgoing.get(&format!("https://app.example.com:{port}/jwks"), BOUNDS).await);

            assert!(refusal.contains("private addresses only"), "{refusal}");
        }
        assert!(server.received().is_empty());
    }

    #[tokio::test]
    async fn the_address_that_was_looked_at_is_the_one_that_is_called() {
        // A name server that says something else each time it is asked.
        let server = Server::answering("200 OK", "{}").await;
        let asked = Arc::new(AtomicUsize::new(0));
        let outgoing = Outgoing::resolving(Reach::Anywhere, {
            let asked = Arc::clone(&asked);
            move |_| {
                let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                let address = if first { [127, 0, 0, 1] } else { [127, 0, 0, 2] };
                Box::pin(async move { Ok(vec![SocketAddr::from((address, 0))]) })
            }
        });

        let answer = outgoing.get(&format!("http://localhost:{}/jwks", server.port), BOUNDS).await.expect("an answer");

        assert_eq!(answer, "{}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(server.received()[0].starts_with("GET /jwks HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn redirects_and_long_answers_are_refused() {
        let server = Server::answering("302 Found\r\nlocation: http://127.0.0.1/", "").await;
        let outgoing = Outgoing::new(Reach::Anywhere);

        let redirected = outgoing.get(&server.url("/"), BOUNDS).await;
        assert!(matches!(redirected, Err(FetchError::Status { status: StatusCode::FOUND, .. })), "{redirected:?}");
        server.answer("200 OK", &"x".repeat(65));
        assert!(matches!(outgoing.get(&server.url("/"), BOUNDS).await, Err(FetchError::Body { limit_bytes: 64, .. })));
        server.answer("200 OK", &"x".repeat(64));
        assert!(outgoing.get(&server.url("/"), BOUNDS).await.is_ok());
        assert_eq!(server.received().len(), 3);
    }

    #[tokio::test]
    async fn whoever_keeps_silent_is_left_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let bounds = Bounds { deadline: Duration::from_millis(50), ..BOUNDS };

        let result = Outgoing::new(Reach::Anywhere).post(&address, "a=b".to_owned(), bounds).await;

        assert!(matches!(result, Err(FetchError::TooSlow { .. })), "{result:?}");
    }
}
