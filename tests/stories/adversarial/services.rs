//! The fronts that take requests: guards, the routers behind them, and the gate.

use std::future::Future;
use std::pin::Pin;

use axum::body::Body;
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full};
use keywheel_jose::{AccessTokenClaims, Verified};
use keywheel_verifier::{Bearer, Guard};
use tower_service::Service as _;

use super::fronts::{Answer, Answering, Front};
use super::origin::{self, Origin};
use super::table::{Case, World};
use crate::harness::{Gate, Reply, send};

/// [`Guard::authorize_now`] and [`Guard::authorize`], which have to agree.
pub(super) struct Guarded(pub(super) Guard);

impl Front for Guarded {
    fn takes(&self, case: &Case) -> bool {
        request(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        let parts = request(case).expect("it takes only what a header can carry").into_parts().0;
        Box::pin(async move {
            let [now, later] =
                [self.0.authorize_now(&parts), self.0.authorize(&parts).await].map(|verdict| match verdict {
                    Ok(Some(_)) => Answer::Accepted,
                    Ok(None) => Answer::Failed("let through without claims".to_owned()),
                    Err(refusal) if refusal.cause().is_some() => Answer::Refused(refusal.code().to_owned()),
                    Err(refusal) => Answer::Status(refusal.status().as_u16()),
                });
            if now == later { now } else { Answer::Failed(format!("now: {now:?}, and when waiting: {later:?}")) }
        })
    }
}

/// A front that is a whole HTTP service: it answers 200 to whoever has a good token.
pub(super) trait Service: Send + Sync {
    /// Answers a request for `/`.
    fn answer(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;

    /// Answers a request with this bearer token, which a header has to be able to carry.
    fn answer_to(&self, case: &Case) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        self.answer(request(case).expect("a header can't carry this").map(|()| Full::default()))
    }
}

impl<S: Service> Front for S {
    fn takes(&self, case: &Case) -> bool {
        request(case).is_some()
    }

    fn judge<'a>(&'a self, case: &'a Case) -> Answering<'a> {
        Box::pin(async move { answer_over_http(case, &self.answer_to(case).await) })
    }
}

/// A whole axum router, guarded by the tower layer or by the extractor [`Bearer`].
pub(super) struct Routed(Router);

impl Routed {
    pub(super) fn by_layer(guard: &Guard) -> Self {
        let handler = |token: Extension<Verified<AccessTokenClaims>>| async move { token.claims().iss.clone() };
        Self(Router::new().route("/", any(handler)).layer(guard.layer()))
    }

    pub(super) fn by_extractor(guard: Guard) -> Self {
        let handler = |Bearer(token): Bearer| async move { token.claims().iss.clone() };
        Self(Router::new().route("/", any(handler)).with_state(guard))
    }
}

impl Service for Routed {
    fn answer(&self, request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let mut router = self.0.clone();
        Box::pin(async move {
            let response = router.call(request.map(Body::new)).await.expect("a router does not fail");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("a body in memory").to_bytes();
            Reply { status: parts.status, headers: parts.headers, body }
        })
    }
}

/// `keywheel-gate`, a process, asked over HTTP.
pub(super) struct Gated {
    gate: Gate,
    asked: Asked,
    _origin: Origin,
}

/// In which place a gate stands.
#[derive(Clone, Copy)]
enum Asked {
    /// Forward authentication by a proxy that tells nothing of the request.
    Verify,
    /// Forward authentication by nginx, as the guide tells to configure it.
    ByNginx,
    /// It is the proxy.
    Itself,
}

impl Gated {
    pub(super) async fn at_verify(world: &World) -> Self {
        Self::start(world, Asked::Verify, "[forward_auth]\n").await
    }

    /// `settings` are further tables.
    pub(super) async fn behind_nginx(world: &World, settings: &str) -> Self {
        Self::start(world, Asked::ByNginx, &format!("{settings}\n[forward_auth]\nproxy = \"nginx\"\n")).await
    }

    /// The proxy before a service that answers 200 to everybody. `settings` are further tables.
    pub(super) async fn before_a_service(world: &World, settings: &str) -> Self {
        Self::start(world, Asked::Itself, &format!("{settings}\n[proxy]\nupstream = \"http://SERVICE\"\n")).await
    }

    pub(super) fn log(&self) -> String {
        self.gate.log()
    }

    async fn start(world: &World, asked: Asked, settings: &str) -> Self {
        let origin = Origin::answering(origin::Reply::keys(world.keys.clone())).await;
        let (issuer, audience) = (world.policy.issuer().expect("an issuer"), &world.policy.audiences()[0]);
        let keys = origin.url();
        let issuer = format!("[[issuer]]\nurl = \"{issuer}\"\naudience = \"{audience}\"\njwks_url = \"{keys}\"\n");
        // What serves the keys to the gate answers everything else with 200 as well.
        let settings = settings.replace("SERVICE", &origin.address().to_string());
        let gate = Gate::serve(&format!("{issuer}{settings}")).await;
        Self { gate, asked, _origin: origin }
    }
}

impl Service for Gated {
    fn answer(&self, mut request: Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        let asked_at = match self.asked {
            Asked::Itself => target.clone(),
            Asked::Verify | Asked::ByNginx => target.replacen('/', "/verify", 1),
        };
        *request.uri_mut() = format!("http://{}{asked_at}", self.gate.listen).parse().expect("a URL");
        if let Asked::ByNginx = self.asked {
            let method = std::mem::take(request.method_mut());
            let host = request.headers_mut().remove(header::HOST);
            let host = host.unwrap_or(HeaderValue::from_static("api.example.com"));
            let value = |text: &str| HeaderValue::from_str(text).expect("a header value");
            for (name, value) in [
                ("x-original-method", value(method.as_str())),
                ("x-original-uri", value(&target)),
                ("x-forwarded-host", host),
            ] {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        Box::pin(async move { send(request).await.expect("an answer") })
    }
}

/// The case as a request with a bearer token. A header has no line breaks, and blanks around a token are not part of it;
/// no clock but the system's decides.
fn request(case: &Case) -> Option<Request<()>> {
    let trimmed = case.token.trim_ascii().len();
    let value = HeaderValue::from_bytes(&[b"Bearer ", case.token.as_slice()].concat()).ok()?;
    if case.at.is_some() || trimmed < case.token.len() {
        return None;
    }
    Some(Request::get("/").header(header::AUTHORIZATION, value).body(()).expect("a request"))
}

/// What a guarded service answered. A refusal has a challenge (RFC 6750 §3), and nothing of the token in it.
fn answer_over_http(case: &Case, reply: &Reply) -> Answer {
    let status = reply.status.as_u16();
    let challenge = reply.headers.get(header::WWW_AUTHENTICATE).map_or(&b""[..], |value| value.as_bytes());
    let said = [challenge, &reply.body].concat();
    let echoed = case
        .token
        .split(|byte| *byte == b'.')
        .any(|part| part.len() >= ECHO && said.windows(ECHO).any(|window| window == &part[part.len() - ECHO..]));
    match status {
        200 => Answer::Accepted,
        _ if echoed => Answer::Failed(format!("{status} with a part of the token: {}", String::from_utf8_lossy(&said))),
        400 if challenge.starts_with(b"Bearer ") && contains(challenge, b"error=\"invalid_request\"") => {
            Answer::Status(400)
        }
        431 => Answer::Status(431),
        401 if challenge.starts_with(b"Bearer ") && contains(challenge, b"error=\"invalid_token\"") => {
            Answer::Status(401)
        }
        _ => Answer::Failed(format!("{status} with {}", String::from_utf8_lossy(challenge))),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// So many octets of a token in an answer are no accident.
const ECHO: usize = 12;
