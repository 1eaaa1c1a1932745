//! The fake issuer on a loopback port.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fault::{Document, FaultyBody, Outcome};
use super::issuer::{DISCOVERY_PATH, INTROSPECTION_PATH, JWKS_PATH, State};

/// A listener on a free port.
pub(super) async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Serves until it is dropped. All connections are tasks of its own and end with it.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let address = listener.local_addr().expect("it is bound");
    let mut refuses = state.refuses.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = listener;
    loop {
        if *refuses.borrow_and_update() {
            connections.abort_all();
            drop(listener);
            // Bound but not listening: connections are refused, and nobody else is given the port meanwhile.
            let closed = socket(address).expect("the port was ours until now");
            if refuses.wait_for(|refuses| !refuses).await.is_err() {
                return;
            }
            listener = closed.listen(BACKLOG).expect("the port is bound");
        }
        tokio::select! {
            biased;
            _ = refuses.changed() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may still be waiting for their end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    if state.resets() {
        // Where it fails, the connection ends in the middle all the same, only more politely.
        let _ = stream.set_zero_linger();
    }
    let service = service_fn(|request| answer(request, &state));
    // It ends with an error whenever the test's client or a fault says so.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: &State) -> io::Result<Response<FaultyBody>> {
    let outcome = match (request.method(), request.uri().path()) {
        (&Method::GET, DISCOVERY_PATH) => state.get(Document::Discovery, None),
        (&Method::GET, JWKS_PATH) => state.get(Document::Keys, text(&request, header::IF_NONE_MATCH)),
        (&Method::POST, INTROSPECTION_PATH) => {
            let authorization = text(&request, header::AUTHORIZATION).map(str::to_owned);
            let form = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
            state.introspect(authorization.as_deref(), &form)
        }
        _ => {
            let mut missing = Response::new(FaultyBody::whole(bytes::Bytes::new()));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(missing);
        }
    };
    match outcome {
        Outcome::Silence => pending().await,
        // hyper closes the connection when there is no answer.
        Outcome::Disconnected => Err(io::ErrorKind::ConnectionAborted.into()),
        Outcome::Answer(pause, reply) => {
            sleep(pause).await;
            Ok(reply)
        }
    }
}

fn text(request: &Request<Incoming>, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

const BACKLOG: u32 = 128;
