//! The client against servers that misbehave, over real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Interval, interval};
use tokio_rustls::TlsAcceptor;

use super::*;

type Reply = Response<BoxBody<Bytes, std::convert::Infallible>>;

const KEYS: &str = r#"{"keys":[]}"#;

/// A server on loopback that answers by `handler` until the test ends. The handler is given the server's base URL.
struct Server {
    base: String,
    requests: Arc<Mutex<Vec<Request<()>>>>,
}

impl Server {
    async fn start(handler: impl Fn(&Request<()>, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Request<()>, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = listener.local_addr().expect("it is bound");
        let base = format!("{scheme}://localhost:{}", address.port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let server = Self { base: base.clone(), requests: Arc::clone(&requests) };
        let handler = Arc::new(handler);
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, base, requests) = (Arc::clone(&handler), base.clone(), Arc::clone(&requests));
                let tls = tls.clone();
                spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let request = request.map(drop);
                        let reply = handler(&request, &base);
                        requests.lock().expect("no test panics with the lock").push(request);
                        async move { Ok::<_, std::convert::Infallible>(reply) }
                    });
                    match tls {
                        None => serve(stream, service).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, service).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics with the lock").iter().map(|r| r.uri().path().to_owned()).collect()
    }

    /// What the last request said in this header.
    fn last_header(&self, name: HeaderName) -> Option<String> {
        let requests = self.requests.lock().expect("no test panics with the lock");
        let value = requests.last()?.headers().get(name)?;
        Some(value.to_str().expect("we send ASCII").to_owned())
    }
}

async fn serve<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Reply, Error = std::convert::Infallible>,
{
    // The client hangs up in the middle in half of these tests.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test's runtime")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let reply = Response::builder().status(status).body(Full::new(body.into()).boxed());
    reply.expect("a status and a body are a response")
}

fn with_header(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    reply.headers_mut().insert(name, value.parse().expect("a header value"));
    reply
}

fn client(limits: &Limits) -> HttpClient {
    HttpClient::new(limits, Vec::new(), HeaderValue::from_static("keywheel-verifier/test"))
}

/// Reads keys from this URL of the server.
fn keys_at(url: &str, limits: &Limits) -> HttpKeys {
    HttpKeys::new(Source::Jwks(url.parse().expect("a URL")), client(limits))
}

/// Finds keys by discovery.
fn keys_of(issuer: &str) -> HttpKeys {
    HttpKeys::new(Source::discovery(issuer).expect("a loopback issuer"), client(&Limits::default()))
}

fn discovery(issuer: &str, jwks_uri: &str) -> Reply {
    reply(200, serde_json::json!({"issuer": issuer, "jwks_uri": jwks_uri, "other": [1]}).to_string())
}

mod one_request {
    use super::*;

    #[tokio::test]
    async fn a_document_comes_with_its_tag_and_age() {
        let server = Server::start(|_, _| {
            let reply = with_header(reply(200, KEYS), header::ETAG, "\"v1\"");
            with_header(with_header(reply, header::CACHE_CONTROL, "public, max-age=300"), header::AGE, "20")
        })
        .await;

        let fetched = keys_at(&server.base, &Limits::default()).fetch(None).await.expect("an answer");

        let caching = Caching { max_age: Some(Duration::from_secs(300)), age: Duration::from_secs(20) };
        assert_eq!(fetched, Fetched::Document { body: KEYS.into(), etag: Some("\"v1\"".to_owned()), caching });
        assert_eq!(server.last_header(header::USER_AGENT).as_deref(), Some("keywheel-verifier/test"));
        assert_eq!(server.last_header(header::IF_NONE_MATCH), None);
    }

    #[tokio::test]
    async fn the_tag_is_sent_back_and_not_modified_understood() {
        let server = Server::start(|request, _| match request.headers().get(header::IF_NONE_MATCH) {
            Some(tag) if tag == "\"v1\"" => with_header(reply(304, ""), header::CACHE_CONTROL, "max-age=7"),
            _ => reply(200, KEYS),
        })
        .await;
        let keys = keys_at(&server.base, &Limits::default());
        keys.fetch(None).await.expect("the document");

        let fetched = keys.fetch(Some("\"v1\"")).await.expect("an answer");

        let caching = Caching { max_age: Some(Duration::from_secs(7)), age: Duration::ZERO };
        assert_eq!(fetched, Fetched::NotModified { caching });
    }

    #[tokio::test]
    async fn a_redirect_is_refused() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/jwks" => with_header(reply(302, ""), header::LOCATION, &format!("{base}/elsewhere")),
            _ => reply(200, KEYS),
        })
        .await;

        let error = keys_at(&format!("{}/jwks?key=hidden", server.base), &Limits::default()).fetch(None).await;

        let error = error.expect_err("a redirect");
        assert_eq!(error.to_string(), format!("{}/jwks answered 302 Found, expected 200", server.base));
        assert_eq!(server.paths(), ["/jwks"]);
    }

    #[tokio::test]
    async fn only_200_and_a_304_that_was_asked_for_are_answers() {
        for status in [201, 204, 206, 304, 404, 429, 500, 503] {
            let server = Server::start(move |_, _| reply(status, "")).await;

            let error = keys_at(&server.base, &Limits::default()).fetch(None).await.expect_err("no answer");

            assert!(matches!(error, FetchError::Status { status: found, .. } if found == status), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_cut_off_at_the_limit() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let server = Server::start(move |_, _| Response::new(Body::Endless(Arc::clone(&counter)).boxed())).await;
        let limits = Limits { body_limit_bytes: 64 * 1024, ..Limits::default() };

        let error = keys_at(&server.base, &limits).fetch(None).await.expect_err("an endless body");

        assert!(matches!(error, FetchError::TooLarge { limit_bytes: 65_536, .. }), "{error:?}");
        // Beyond the limit only what sockets and hyper buffer on the way.
        assert!(sent.load(Ordering::Relaxed) < 32 * 1024 * 1024);
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read() {
        let server = Server::start(|_, _| reply(200, vec![b' '; 2048])).await;
        let fetch = async |body_limit_bytes| {
            let limits = Limits { body_limit_bytes, ..Limits::default() };
            keys_at(&server.base, &limits).fetch(None).await
        };

        assert!(fetch(2048).await.is_ok());
        assert!(matches!(fetch(2047).await, Err(FetchError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_slow_body_meets_the_deadline() {
        let server = Server::start(|_, _| Response::new(Body::Stuck(Some(Bytes::from_static(b"{"))).boxed())).await;
        let limits = Limits { exchange_deadline: Duration::from_millis(200), ..Limits::default() };

        let error = keys_at(&server.base, &limits).fetch(None).await.expect_err("a body that never ends");

        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_body_that_drips_meets_the_deadline_however_lively_it_looks() {
        let server = Server::start(|_, _| Response::new(Body::Drip(interval(Duration::from_millis(5))).boxed())).await;
        let limits = Limits { exchange_deadline: Duration::from_millis(200), ..Limits::default() };

        let error = keys_at(&server.base, &limits).fetch(None).await.expect_err("a byte now and then");

        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_cut_off() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let line = format!("x: {}\r\n", "y".repeat(1000));
            let mut piece = "HTTP/1.1 200 OK\r\n".to_owned();
            // Until the client hangs up.
            while stream.write_all(piece.as_bytes()).await.is_ok() {
                piece.clone_from(&line);
            }
        });

        let error = keys_at(&format!("http://{address}"), &Limits::default()).fetch(None).await.expect_err("no end");

        assert!(matches!(error, FetchError::Exchange { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_not_http_is_an_error() {
        for greeting in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0", "HTTP/1.1 200", "200 OK\r\n\r\n{\"keys\":[]}"] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a client");
                stream.write_all(greeting.as_bytes()).await.expect("the client reads");
            });

            let error = keys_at(&format!("http://{address}"), &Limits::default()).fetch(None).await;

            let error = error.expect_err("no HTTP");
            assert!(matches!(error, FetchError::Exchange { .. }), "{greeting:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_meets_the_deadline() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("it is bound");
        let limits = Limits { exchange_deadline: Duration::from_millis(200), ..Limits::default() };

        let error = keys_at(&format!("http://{address}"), &limits).fetch(None).await.expect_err("silence");

        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);

        let error = keys_at(&format!("http://{address}/jwks"), &Limits::default()).fetch(None).await;

        assert_eq!(error.expect_err("nobody").to_string(), format!("http://{address}/jwks could not be read"));
    }
}

/// Bodies no honest server sends.
enum Body {
    /// White space for ever, without `Content-Length`; counts the bytes.
    Endless(Arc<AtomicUsize>),
    /// One piece, and then neither more nor an end.
    Stuck(Option<Bytes>),
    /// A byte at each tick, for ever.
    Drip(Interval),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Endless(sent) => {
                let piece = Bytes::from_static(&[b' '; 16 * 1024]);
                sent.fetch_add(piece.len(), Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Drip(ticks) => ticks.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b" "))))),
            Self::Stuck(piece) => piece.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece))))),
        }
    }
}

mod finding_the_keys {
    use super::*;

    #[tokio::test]
    async fn discovery_is_asked_once_and_its_jwks_uri_followed() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/tenant/.well-known/openid-configuration" => discovery(&format!("{base}/tenant"), &format!("{base}/jwks")),
            "/jwks" => reply(200, KEYS),
            _ => reply(404, ""),
        })
        .await;
        let keys = keys_of(&format!("{}/tenant", server.base));

        keys.fetch(None).await.expect("the set");
        keys.fetch(None).await.expect("the set");

        assert_eq!(server.paths(), ["/tenant/.well-known/openid-configuration", "/jwks", "/jwks"]);
    }

    #[tokio::test]
    async fn a_slash_at_the_end_of_the_issuer_counts_for_iss_but_not_for_the_url() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/.well-known/openid-configuration" => discovery(&format!("{base}/"), &format!("{base}/jwks")),
            "/jwks" => reply(200, KEYS),
            _ => reply(404, ""),
        })
        .await;

        assert!(keys_of(&format!("{}/", server.base)).fetch(None).await.is_ok());
        assert!(matches!(keys_of(&server.base).fetch(None).await, Err(FetchError::IssuerMismatch { .. })));
    }

    #[tokio::test]
    async fn where_there_is_no_openid_document_that_of_rfc_8414_is_read() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/.well-known/oauth-authorization-server/tenant/1" => {
                discovery(&format!("{base}/tenant/1"), &format!("{base}/jwks"))
            }
            "/jwks" => reply(200, KEYS),
            _ => reply(404, ""),
        })
        .await;

        keys_of(&format!("{}/tenant/1", server.base)).fetch(None).await.expect("the set");

        let fallback = "/.well-known/oauth-authorization-server/tenant/1";
        assert_eq!(server.paths(), ["/tenant/1/.well-known/openid-configuration", fallback, "/jwks"]);
    }

    #[tokio::test]
    async fn without_a_path_the_document_of_rfc_8414_is_at_the_root() {
        let at_root = "/.well-known/oauth-authorization-server";
        let server = Server::start(move |request, base| match request.uri().path() {
            path if path == at_root => discovery(base, &format!("{base}/jwks")),
            "/jwks" => reply(200, KEYS),
            _ => reply(404, ""),
        })
        .await;

        assert!(keys_of(&server.base).fetch(None).await.is_ok());
        // With a slash at its end it is another issuer, though its document is at the same place (RFC 8414 §3.1).
        assert!(matches!(
            keys_of(&format!("{}/", server.base)).fetch(None).await,
            Err(FetchError::IssuerMismatch { .. })
        ));
    }

    #[tokio::test]
    async fn the_document_of_rfc_8414_must_be_for_the_issuer_too() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/.well-known/oauth-authorization-server" => discovery("https://evil.example", &format!("{base}/jwks")),
            _ => reply(404, ""),
        })
        .await;

        let error = keys_of(&server.base).fetch(None).await.expect_err("another issuer");

        assert!(matches!(error, FetchError::IssuerMismatch { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn only_a_404_sends_us_to_the_other_place() {
        for status in [302, 401, 500, 503] {
            let server = Server::start(move |_, _| reply(status, "")).await;

            let error = keys_of(&server.base).fetch(None).await.expect_err("no document");

            assert!(matches!(error, FetchError::Status { status: found, .. } if found == status), "{error:?}");
            assert_eq!(server.paths(), ["/.well-known/openid-configuration"]);
        }
    }

    #[tokio::test]
    async fn a_document_for_another_issuer_is_refused() {
        let server = Server::start(|_, base| discovery("https://evil.example\n", &format!("{base}/jwks"))).await;

        let error = keys_of(&server.base).fetch(None).await.expect_err("another issuer");

        let expected =
            format!(r#"the discovery document is for issuer "https://evil.example\n", expected "{}""#, server.base);
        assert_eq!(error.to_string(), expected);
        assert_eq!(server.paths(), ["/.well-known/openid-configuration"], "its keys are not even asked for");
    }

    #[tokio::test]
    async fn a_jwks_uri_that_is_not_safe_is_refused() {
        for uri in ["http://id.example.com/jwks", "file:///etc/passwd", "/jwks", "https://a:b@id.example.com/jwks"] {
            let server = Server::start(move |_, base| discovery(base, uri)).await;

            let error = keys_of(&server.base).fetch(None).await.expect_err("an unsafe URL");

            assert!(matches!(error, FetchError::JwksUri { .. }), "{uri}: {error:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_discovery_document_is_refused() {
        for body in ["", "<!doctype html>", "[]", "{}", r#"{"issuer":5,"jwks_uri":"https://a"}"#] {
            let server = Server::start(move |_, _| reply(200, body)).await;

            let error = keys_of(&server.base).fetch(None).await.expect_err("no document");

            assert!(matches!(error, FetchError::Discovery { .. }), "{body}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_set_that_has_moved_is_found_again() {
        let moved = Arc::new(AtomicUsize::new(0));
        let switch = Arc::clone(&moved);
        let server = Server::start(move |request, base| {
            let place = if switch.load(Ordering::Relaxed) == 0 { "/old" } else { "/new" };
            match request.uri().path() {
                "/.well-known/openid-configuration" => discovery(base, &format!("{base}{place}")),
                path if path == place => with_header(reply(200, KEYS), header::ETAG, "\"v1\""),
                _ => reply(404, ""),
            }
        })
        .await;
        let keys = keys_of(&server.base);
        keys.fetch(None).await.expect("the set");
        moved.store(1, Ordering::Relaxed);

        keys.fetch(Some("\"v1\"")).await.expect_err("it has moved");
        keys.fetch(Some("\"v1\"")).await.expect("it is found");

        assert_eq!(server.paths().last().map(String::as_str), Some("/new"));
        assert_eq!(server.last_header(header::IF_NONE_MATCH), None, "a tag of another URL means nothing");
    }

    #[tokio::test]
    async fn discovery_that_fails_later_does_not_cut_off_the_keys() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let server = Server::start(move |request, base| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            match request.uri().path() {
                "/.well-known/openid-configuration" if number == 0 => discovery(base, &format!("{base}/jwks")),
                // The set fails once, so that discovery is asked again, which is down from now on.
                "/jwks" if number != 1 => reply(200, KEYS),
                _ => reply(503, ""),
            }
        })
        .await;
        let keys = keys_of(&server.base);
        keys.fetch(None).await.expect_err("the set is down");

        keys.fetch(None).await.expect("the set is back");

        let discovery = "/.well-known/openid-configuration";
        assert_eq!(server.paths(), [discovery, "/jwks", discovery, "/jwks"]);
    }
}

mod end_to_end {
    use keywheel_jose::{AccessTokenClaims, Policy};

    use super::*;
    use crate::fixtures::{AUDIENCE, ISSUED_AT, Signer, key_set};
    use crate::{Verifier, VerifyError};

    fn verifier(server: &Server) -> Verifier {
        let builder = Verifier::builder(Policy::access_token(&server.base, AUDIENCE)).name("payments");
        builder.build().expect("a loopback issuer")
    }

    fn token(server: &Server) -> String {
        Signer::new("a").token_with(serde_json::json!({"iss": server.base}))
    }

    #[tokio::test]
    async fn a_token_is_verified_with_keys_found_by_discovery() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/jwks" => reply(200, key_set(&[&Signer::new("a")])),
            _ => discovery(base, &format!("{base}/jwks")),
        })
        .await;
        let verifier = verifier(&server);

        let verified = verifier.verify_at::<AccessTokenClaims>(&token(&server), ISSUED_AT).await;

        assert_eq!(verified.expect("it holds").claims().sub, "alice");
        let user_agent = concat!("keywheel-verifier/", env!("CARGO_PKG_VERSION"), " (payments)");
        assert_eq!(server.last_header(header::USER_AGENT).as_deref(), Some(user_agent));
    }

    #[tokio::test]
    async fn a_maintenance_page_is_no_key_set() {
        let server = Server::start(|request, base| match request.uri().path() {
            "/jwks" => with_header(reply(200, "<!doctype html><p>Back soon"), header::CONTENT_TYPE, "text/html"),
            _ => discovery(base, &format!("{base}/jwks")),
        })
        .await;

        let verdict = verifier(&server).verify_at::<AccessTokenClaims>(&token(&server), ISSUED_AT).await;

        assert!(matches!(verdict, Err(VerifyError::KeysUnavailable { .. })), "{verdict:?}");
        assert_eq!(server.paths().last().map(String::as_str), Some("/jwks"));
    }
}

mod tls {
    use super::*;

    /// A certificate authority, and a server for `localhost` that it vouches for.
    fn authority_and_acceptor() -> (rcgen::Certificate, TlsAcceptor) {
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("a certificate");
        let issuer = rcgen::Issuer::new(params, authority_key);

        let server_key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&server_key, &issuer).expect("a certificate");
        let private = PrivateKeyDer::try_from(server_key.serialize_der()).expect("PKCS#8");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("key and certificate match");
        (authority, TlsAcceptor::from(Arc::new(config)))
    }

    async fn fetch(server: &Server, roots: Vec<CertificateDer<'static>>) -> Result<Fetched, FetchError> {
        let client = HttpClient::new(&Limits::default(), roots, HeaderValue::from_static("keywheel-verifier/test"));
        let source = Source::discovery(&server.base).expect("an https issuer");
        HttpKeys::new(source, client).fetch(None).await
    }

    fn answer(request: &Request<()>, base: &str) -> Reply {
        match request.uri().path() {
            "/jwks" => reply(200, KEYS),
            _ => discovery(base, &format!("{base}/jwks")),
        }
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_once_it_is_named() {
        let (authority, acceptor) = authority_and_acceptor();
        let server = Server::start_with(Some(acceptor), answer).await;

        let fetched = fetch(&server, vec![authority.der().clone()]).await;

        assert!(fetched.is_ok(), "{fetched:?}");
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_refused() {
        let (_, acceptor) = authority_and_acceptor();
        let (other, _) = authority_and_acceptor();
        let server = Server::start_with(Some(acceptor), answer).await;

        let error = fetch(&server, vec![other.der().clone()]).await.expect_err("an unknown authority");

        assert!(matches!(error, FetchError::Exchange { .. }), "{error:?}");
        assert!(server.paths().is_empty(), "nothing was asked for");
    }

    #[tokio::test]
    async fn an_https_issuer_can_not_send_us_to_plain_http() {
        let (authority, acceptor) = authority_and_acceptor();
        let server = Server::start_with(Some(acceptor), |_, base| discovery(base, "http://127.0.0.1:1/jwks")).await;

        let error = fetch(&server, vec![authority.der().clone()]).await.expect_err("a downgrade");

        assert!(matches!(error, FetchError::JwksUri { problem: UrlProblem::Insecure, .. }), "{error:?}");
    }
}

mod headers {
    use proptest::prelude::*;

    use super::*;

    fn caching(lines: &[(&'static str, &str)]) -> Caching {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header value"));
        }
        Caching::from_headers(&headers)
    }

    fn max_age(line: &str) -> Option<u64> {
        caching(&[("cache-control", line)]).max_age.map(|max_age| max_age.as_secs())
    }

    #[test]
    fn max_age_is_read_in_all_its_spellings() {
        assert_eq!(max_age("max-age=300"), Some(300));
        assert_eq!(max_age("public,  MAX-AGE=\"300\" , must-revalidate"), Some(300));
        assert_eq!(max_age("max-age=99999999999999999999999"), Some(u32::MAX.into()));
        assert_eq!(max_age("public"), None);
        assert_eq!(max_age("s-maxage=10"), None);
        assert_eq!(caching(&[]), Caching::default());
    }

    #[test]
    fn what_forbids_storing_or_can_not_be_read_means_no_time_at_all() {
        for line in
            ["no-store", "no-cache", "No-Cache, max-age=300", "max-age", "max-age=", "max-age=-1", "max-age=1.5"]
        {
            assert_eq!(max_age(line), Some(0), "{line}");
        }
    }

    #[test]
    fn of_two_values_the_smaller_counts_on_one_line_or_two() {
        assert_eq!(max_age("max-age=300, max-age=60"), Some(60));
        let two_lines = caching(&[("cache-control", "max-age=60"), ("cache-control", "max-age=300")]);
        assert_eq!(two_lines.max_age, Some(Duration::from_secs(60)));
    }

    #[test]
    fn age_is_read_and_nonsense_is_no_age() {
        let age = |line| caching(&[("age", line)]).age.as_secs();
        assert_eq!(age("30"), 30);
        assert_eq!(age("-30"), 0);
        assert_eq!(age("soon"), 0);
    }

    proptest! {
        #[test]
        fn any_header_gives_some_time_below_a_hundred_and_forty_years(line in "[ -~]{0,60}") {
            let caching = caching(&[("cache-control", &line), ("age", &line)]);
            prop_assert!(caching.max_age.is_none_or(|max_age| max_age.as_secs() <= u32::MAX.into()));
            prop_assert!(caching.age.as_secs() <= u32::MAX.into());
        }
    }
}
