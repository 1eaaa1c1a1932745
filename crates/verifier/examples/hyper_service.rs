//! A service on bare hyper, without a framework, for a `keywheel serve` beside it: `cargo run --example hyper_service`,
//! then `curl -H "Authorization: Bearer $TOKEN" http://localhost:3000/`.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use keywheel_verifier::{Guard, Policy, Refusal, ResourceMetadata, Verifier};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metadata = ResourceMetadata::new(RESOURCE)?.authorization_server(ISSUER);
    let verifier = Verifier::builder(Policy::access_token(ISSUER, RESOURCE)).name("hyper").build()?;
    let guard = Guard::new(verifier).resource_metadata(metadata.url());
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let (guard, metadata) = (guard.clone(), metadata.clone());
        let service = service_fn(move |request| {
            let (guard, metadata) = (guard.clone(), metadata.clone());
            async move {
                if metadata.is_at(request.uri()) {
                    return Ok::<_, Infallible>(metadata.response());
                }
                Ok(hello(&guard, request).await.unwrap_or_else(Refusal::into_response))
            }
        });
        #[expect(clippy::disallowed_methods, reason = "a connection may outlive everything but the server")]
        tokio::spawn(
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), service),
        );
    }
}

async fn hello(guard: &Guard, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
    let (parts, _body) = request.into_parts();
    let token = guard.authorize(&parts).await?.expect("this guard is not optional");
    Ok(Response::new(Full::from(format!("hello {}\n", token.claims().sub))))
}

const ISSUER: &str = "http://localhost:8080";
const RESOURCE: &str = "http://localhost:3000";
