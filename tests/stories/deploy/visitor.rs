//! Somebody elsewhere, who reaches a proxy by https under the public name: with an address of their own, and cookies.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::request::Builder;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::recipe;
use crate::harness::{Form, Reply, urlencoded};

/// Not the address that proxies and servers have.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// No answer of a server on this machine takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) struct Visitor {
    proxy: SocketAddr,
    tls: TlsConnector,
    pub(super) cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// Knows the certificate in `secrets`, and nobody else's.
    pub(super) fn of(proxy: SocketAddr, secrets: &Path) -> Self {
        let pem = fs::read(secrets.join("fullchain.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("a certificate of ours");
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { proxy, tls: TlsConnector::from(Arc::new(tls)), cookies: BTreeMap::new() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Reply, String> {
        self.ask(Request::get(path), String::new()).await
    }

    pub(super) async fn post_form(&mut self, path: &str, body: String) -> Result<Reply, String> {
        let request = Request::builder().method(Method::POST).uri(path);
        self.ask(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded"), body).await
    }

    /// Signs in at the page for it.
    pub(super) async fn sign_in(&mut self, name: &str, password: &str) {
        let page = self.get("/login").await.expect("the page to sign in");
        let form = Form::of(&page).unwrap_or_else(|| panic!("no form: {page:?}"));
        let fields = form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = urlencoded(fields.chain([("username", name), ("password", password)]));
        let request = Request::builder().method(Method::POST).uri(&form.action);
        let request = request.header("origin", format!("https://{}", recipe::HOST));
        let request = request.header("sec-fetch-site", "same-origin");
        // What somebody says of their own address.
        let request = request.header("x-forwarded-for", "203.0.113.9").header("forwarded", "for=203.0.113.9");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let reply = self.ask(request, body).await.expect("an answer");
        assert_eq!(reply.status, 303, "{}", reply.text());
    }

    async fn ask(&mut self, mut request: Builder, body: String) -> Result<Reply, String> {
        request = request.header(HOST, recipe::HOST);
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            request = request.header(COOKIE, pairs.collect::<Vec<_>>().join("; "));
        }
        let request = request.body(Full::from(body)).expect("a request");
        let reply = tokio::time::timeout(DEADLINE, self.exchange(request)).await;
        let reply = reply.unwrap_or_else(|_| Err(format!("no response within {DEADLINE:?}")))?;
        for line in reply.headers.get_all(SET_COOKIE) {
            let line = line.to_str().expect("a cookie of visible characters");
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            assert!(attributes.contains("Secure"), "{line}");
            let (name, value) = pair.split_once('=').expect("a name and a value");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(reply)
    }

    /// On a connection of its own.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(ADDRESS, 0)).expect("an address of this machine");
        let stream = socket.connect(self.proxy).await.map_err(|error| format!("connecting: {error}"))?;
        let name = ServerName::try_from(recipe::HOST).expect("a name");
        let stream = self.tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }
}
