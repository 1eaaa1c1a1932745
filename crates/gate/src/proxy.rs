//! The gate as a reverse proxy: a request that may pass goes to the upstream, and its answer comes back.
//!
//! - Connections are HTTP/1.1, kept and reused. Bodies stream both ways.
//! - Headers that are for one connection only stay on it (RFC 9110 §7.6.1), those that `Connection` names among them.
//! - Every header that the upstream could take for one of ours is removed before ours are set, in every spelling, and so is
//!   what only a proxy may say (`X-Forwarded-…`, `Forwarded`, `X-Real-IP`, `X-Original-…`), unless the peer is one.
//! - A WebSocket becomes a tunnel once the upstream has agreed. No other upgrade is offered to it: `h2c` would carry
//!   requests that nobody judges.
//! - A request that may have reached the upstream is never sent again.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::sleep_until;
use tracing::{debug, warn};

use crate::body::{Paced, Progress, Stalled};
use crate::config::{HostHeader, PassToken, ProxySettings};
use crate::identity::IdentityHeaders;
use crate::reply::{self, Body, BoxError};
use crate::serve::Place;

/// Forwards requests to one upstream.
pub(crate) struct Proxy {
    settings: ProxySettings,
    client: Client<HttpConnector, Body>,
    identity: Arc<IdentityHeaders>,
    /// The cookie that a token may come in.
    cookie: Option<String>,
}

impl Proxy {
    pub(crate) fn new(settings: ProxySettings, identity: Arc<IdentityHeaders>, cookie: Option<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { settings, client, identity, cookie }
    }

    /// Where requests go.
    pub(crate) fn upstream(&self) -> String {
        format!("http://{}", self.settings.upstream)
    }

    /// Forwards a request that was let through.
    pub(crate) async fn forward<B>(
        &self,
        mut request: Request<B>,
        identity: Vec<(HeaderName, HeaderValue)>,
        peer: IpAddr,
        peer_is_proxy: bool,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let websocket = opens_websocket(&request).then(|| hyper::upgrade::on(&mut request));
        let place = request.extensions().get::<Place>().cloned();
        let (mut parts, body) = request.into_parts();

        let host = parts.headers.get(HOST).cloned().or_else(|| {
            let authority = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
            authority.and_then(Result::ok)
        });
        self.clean(&mut parts, host.as_ref(), peer, peer_is_proxy);
        parts.headers.extend(identity);
        if websocket.is_some() {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        let upstream = HeaderValue::from_str(self.settings.upstream.as_str());
        let host = match self.settings.host {
            HostHeader::Keep => host,
            HostHeader::Upstream => None,
        };
        let host = host.unwrap_or_else(|| upstream.expect("an authority is visible ASCII"));
        parts.headers.insert(HOST, host);
        parts.uri = self.at_upstream(&parts.uri);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();

        let progress = Progress::now();
        let body = Paced::new(body, self.settings.body_timeout, progress.clone()).boxed_unsync();
        let mut response = match self.exchange(Request::from_parts(parts, body), &progress).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = websocket.filter(|_| names(response.headers(), UPGRADE, "websocket")) else {
                warn!("the upstream switched to a protocol that nobody asked for");
                return reply::problem(StatusCode::BAD_GATEWAY, "the service behind the gate gave no usable answer");
            };
            let upstream = hyper::upgrade::on(&mut response);
            tokio::spawn(tunnel(client, upstream, place));
            let (mut parts, _) = response.into_parts();
            remove_hop_by_hop(&mut parts.headers);
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            parts.extensions.clear();
            return Response::from_parts(
                parts,
                http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
            );
        }
        let (mut parts, body) = response.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        parts.extensions.clear();
        parts.version = Version::HTTP_11;
        Response::from_parts(parts, body.map_err(Into::into).boxed_unsync())
    }

    /// Sends the request and waits for the header of the answer. The time for it runs from when the request's body last
    /// moved, so that a long upload is no failure.
    async fn exchange(
        &self,
        request: Request<Body>,
        progress: &Progress,
    ) -> Result<Response<hyper::body::Incoming>, Response<Body>> {
        let call = self.client.request(request);
        tokio::pin!(call);
        let result = loop {
            let since = progress.last();
            tokio::select! {
                result = &mut call => break result,
                () = sleep_until(since + self.settings.response_timeout) => {
                    if progress.last() == since {
                        warn!("the upstream gave no answer in time");
                        let detail = "the service behind the gate gave no answer in time";
                        return Err(reply::problem(StatusCode::GATEWAY_TIMEOUT, detail));
                    }
                }
            }
        };
        result.map_err(|error| {
            if has_stalled(&error) {
                debug!("a client stopped sending its request");
                return reply::problem(StatusCode::REQUEST_TIMEOUT, "the request stopped in the middle");
            }
            warn!(error = %chain(&error), "the upstream can't be reached");
            reply::problem(StatusCode::BAD_GATEWAY, "the service behind the gate can't be reached")
        })
    }

    /// Removes what the upstream must not get from a client, and says what it should know of the connection.
    fn clean(&self, parts: &mut Parts, host: Option<&HeaderValue>, peer: IpAddr, peer_is_proxy: bool) {
        let Parts { headers, version, .. } = parts;
        remove_hop_by_hop(headers);
        // We have asked for the body already by the time it is forwarded.
        headers.remove(EXPECT);
        self.identity.strip(headers);
        if self.settings.token == PassToken::Drop {
            headers.remove(AUTHORIZATION);
            headers.remove(DPOP);
            if let Some(cookie) = &self.cookie {
                remove_cookie(headers, cookie);
            }
        }

        let said = |headers: &HeaderMap, name| headers.get(name).filter(|_| peer_is_proxy).cloned();
        let proto = said(headers, X_FORWARDED_PROTO).unwrap_or(HeaderValue::from_static("http"));
        let forwarded_host = said(headers, X_FORWARDED_HOST).or_else(|| host.cloned());
        let mut chain: Vec<String> = Vec::new();
        if peer_is_proxy {
            let lines = headers.get_all(X_FORWARDED_FOR).iter();
            chain.extend(lines.filter_map(|line| line.to_str().ok()).map(str::to_owned));
        }
        chain.push(peer.to_canonical().to_string());
        let by_proxies: Vec<HeaderName> = headers.keys().filter(|name| is_by_proxies(name)).cloned().collect();
        by_proxies.iter().for_each(|name| drop(headers.remove(name)));

        let chain = HeaderValue::try_from(chain.join(", ")).expect("lines of visible ASCII and an address");
        headers.insert(X_FORWARDED_FOR, chain);
        headers.insert(X_FORWARDED_PROTO, proto);
        if let Some(host) = forwarded_host {
            headers.insert(X_FORWARDED_HOST, host);
        }
        // RFC 9110 §7.6.3: with the protocol the message came by.
        headers.append(
            VIA,
            HeaderValue::from_static(match *version {
                Version::HTTP_10 => "1.0 keywheel-gate",
                Version::HTTP_2 => "2.0 keywheel-gate",
                _ => "1.1 keywheel-gate",
            }),
        );
    }

    fn at_upstream(&self, uri: &Uri) -> Uri {
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.settings.upstream.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("scheme, authority and path make a URI")
    }
}

/// Carries bytes both ways until one side is done. The connection's place among `max_connections` is kept as long.
async fn tunnel(client: OnUpgrade, upstream: OnUpgrade, place: Option<Place>) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => return debug!(%error, "a tunnel did not come about"),
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        debug!(%error, "a tunnel ended in an error");
    }
    drop(place);
}

/// RFC 6455 §4.1. Of several protocols in `Upgrade` none is taken.
fn opens_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(headers, CONNECTION, "upgrade")
        && names(headers, UPGRADE, "websocket")
        && headers.get_all(UPGRADE).iter().count() == 1
        && headers.get(UPGRADE).is_some_and(|value| !value.as_bytes().contains(&b','))
}

/// Whether one of the members of a list in a header is `token`.
fn names(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// RFC 9110 §7.6.1.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> =
        members(headers, CONNECTION).filter_map(|member| HeaderName::from_bytes(member).ok()).collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_other = |pair: &&[u8]| {
        let own = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
        own.trim_ascii() != name.as_bytes()
    };
    let mut rest: Vec<&[u8]> = Vec::new();
    for line in headers.get_all(COOKIE) {
        let pairs = line.as_bytes().split(|&byte| byte == b';').filter(is_other);
        rest.extend(pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()));
    }
    match HeaderValue::from_bytes(&rest.join(&b"; "[..])) {
        Ok(value) if !rest.is_empty() => drop(headers.insert(COOKIE, value)),
        _ => drop(headers.remove(COOKIE)),
    }
}

/// What only a proxy may say, in any spelling.
fn is_by_proxies(name: &HeaderName) -> bool {
    let plain = name.as_str().replace('_', "-");
    plain == FORWARDED.as_str()
        || ["x-forwarded", "x-original-", "x-real-ip", "x-client-ip", "true-client-ip"]
            .iter()
            .any(|start| plain.starts_with(start))
}

fn has_stalled(error: &(dyn Error + 'static)) -> bool {
    error.is::<Stalled>() || error.source().is_some_and(has_stalled)
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    format!("{error}{cause}")
}

static HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const DPOP: HeaderName = HeaderName::from_static("dpop");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Shorter than the keep-alive of common servers, so that they are not the ones to close.
const POOL_IDLE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
