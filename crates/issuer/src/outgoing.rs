//! Requests that this program makes to others: bounded in time and size, https unless to this machine, no redirects.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use url::{Host, Url};

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} is not an http or https address")]
    Address(String),
    #[error("{0} must be https: only addresses of this machine may be fetched in the clear")]
    Insecure(Url),
    #[error("the certificate authorities of this system cannot be read")]
    Roots(#[source] std::io::Error),
    #[error("{url} does not answer")]
    Unreachable {
        url: Url,
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    #[error("{url} answers {status}")]
    Status { url: Url, status: StatusCode },
    #[error("{0} did not send its answer completely, or sent more than 1 MiB")]
    Body(Url),
    #[error("{0} did not answer within 10 s")]
    TooSlow(Url),
}

/// Fetches a JSON document.
pub(crate) async fn get(address: &str) -> Result<Bytes, FetchError> {
    let url = Url::parse(address).map_err(|_| FetchError::Address(address.to_owned()))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(FetchError::Insecure(url)),
        _ => return Err(FetchError::Address(address.to_owned())),
    }
    match tokio::time::timeout(DEADLINE, fetch(&url)).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::TooSlow(url)),
    }
}

async fn fetch(url: &Url) -> Result<Bytes, FetchError> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
        .map_err(FetchError::Roots)?
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(url.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("keywheel/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|_| FetchError::Address(url.to_string()))?;
    let response =
        client.request(request).await.map_err(|source| FetchError::Unreachable { url: url.clone(), source })?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status { url: url.clone(), status: response.status() });
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(|_| FetchError::Body(url.clone()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 1 << 20;
