//! `keywheel-gate`: verifies access tokens in front of services in any language, so that they need not.
//!
//! Two ways to stand there. With **forward authentication** a proxy asks the gate about each request, at `/verify`, and
//! passes it on if the answer is 200:
//!
//! | answer | means | has |
//! | --- | --- | --- |
//! | 200 | let it through | every identity header, empty where its claim is absent, to overwrite what the client sent |
//! | 400 | the request can't be judged in one way only | |
//! | 401 | no token, or one that does not hold | `WWW-Authenticate` (RFC 6750 §3), to be passed to the client |
//! | 403 | the token does not allow it, no route does, or a cookie came from somebody else's page | `WWW-Authenticate` where another token would help |
//! | 503 | nobody can say, because no keys are held | `Retry-After` |
//!
//! As a **reverse proxy** the gate gives the same answers itself and forwards the rest to one upstream, WebSockets included.
//!
//! Either way the verdict on a token is [`keywheel_verifier::Guard`]'s, the routes decide what a request has to bring, and
//! a request that could be read in two ways is refused: see [`path`]. `keywheel-gate init` writes a configuration that
//! explains every setting, `check` shows it as a table, `explain` says why a token is refused, `serve` runs it.
//!
//! On the listener for operators, `/healthz` says that the process runs, `/readyz` whether the keys of any issuer are held
//! and how those of each are, and `/metrics` counts.
//!
//! # What a proxy has to do
//! 1. Tell about the original request where the gate looks for it, overwriting what the client sent. What is missing, there
//!    twice or not as it should be is refused with 400, never guessed.
//!
//!    | `forward_auth.proxy` | asks at | method | path and query | host |
//!    | --- | --- | --- | --- | --- |
//!    | `nginx`, `haproxy`, `apache` | `/verify` | `X-Original-Method` | `X-Original-URI` | `X-Forwarded-Host` |
//!    | `ingress-nginx` | `/verify` | `X-Original-Method` | `X-Original-URL`, a whole URL | that URL's |
//!    | `traefik`, `caddy` | `/verify` | `X-Forwarded-Method` | `X-Forwarded-Uri` | `X-Forwarded-Host` |
//!    | `envoy` | `/verify` and the path | its own | what follows `/verify` | `Host` |
//!
//!    The host may be left out where no route has `hosts` and no cookie is used. With a cookie, `Upgrade` has to come along
//!    too: by it the gate tells a WebSocket from a page.
//! 2. Copy every identity header of the 200 answer into the request for the service, so that the client's are overwritten;
//!    an empty value may as well remove the header. Pass `WWW-Authenticate`, `Retry-After` and `DPoP-Nonce` of a refusal on.
//! 3. Forward the path as it came. One that rewrites or decodes it after the gate was asked undoes what the gate checked.
//! 4. Treat every answer that is not 2xx as a refusal.
//!
//! # What the gate can't know
//! A service that takes another method from the query or the body (`_method=DELETE`), or serves one resource under several
//! paths (`/admin` and `/admin.json`), needs rules that say so. Headers to the same end (`X-HTTP-Method-Override`,
//! `X-Original-URL`, `X-Rewrite-URL`) are refused.
//!
//! # Configuration
//! ```toml
#![doc = include_str!("config/template.toml")]
//! ```

mod body;
pub mod cli;
mod config;
mod gate;
mod identity;
mod metrics;
mod original;
pub mod path;
mod proxy;
mod reply;
mod routes;
mod serve;
mod shutdown;
