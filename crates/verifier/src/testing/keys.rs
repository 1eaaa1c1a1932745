//! The fake issuer's keys without a socket.

use std::future::pending;
use std::sync::Arc;

use http::{StatusCode, header};
use tokio::time::sleep;

use super::fault::{Document, Outcome};
use super::issuer::State;
use crate::fetch::{Caching, FetchError, FetchFuture, FetchKeys, Fetched};

/// The keys of a [`FakeIssuer`](super::FakeIssuer), read from memory: for tests that move time with
/// `tokio::time::pause`, where real sockets and timers don't go together.
///
/// The issuer's faults apply. Of those of its discovery document, which is not read here, only
/// [`ForeignIssuer`](super::Fault::ForeignIssuer) does.
#[derive(Clone)]
pub struct FakeKeys(pub(super) Arc<State>);

impl FetchKeys for FakeKeys {
    fn fetch<'a>(&'a self, etag: Option<&'a str>) -> FetchFuture<'a> {
        Box::pin(async move {
            let issuer = self.0.issuer();
            if self.0.is_foreign() {
                return Err(FetchError::IssuerMismatch {
                    expected: issuer.to_owned(),
                    found: "\"another\"".to_owned(),
                });
            }
            let failed =
                |source: std::io::Error| FetchError::Exchange { url: issuer.to_owned(), source: source.into() };
            let (pause, reply) = match self.0.get(Document::Keys, etag) {
                Outcome::Silence => pending().await,
                Outcome::Disconnected => return Err(failed(std::io::ErrorKind::ConnectionRefused.into())),
                Outcome::Answer(pause, reply) => (pause, reply),
            };
            sleep(pause).await;
            let caching = Caching::from_headers(reply.headers());
            match reply.status() {
                StatusCode::OK => {
                    let etag = reply.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
                    let body = reply.into_body().read().await.map_err(failed)?;
                    Ok(Fetched::Document { body, etag, caching })
                }
                StatusCode::NOT_MODIFIED => Ok(Fetched::NotModified { caching }),
                status => Err(FetchError::Status { url: issuer.to_owned(), status }),
            }
        })
    }
}
