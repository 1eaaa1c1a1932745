//! A service with a thread for each connection and no `async` of its own, for a `keywheel serve` beside it:
//! `cargo run --example blocking`, then `curl -H "Authorization: Bearer $TOKEN" http://localhost:3000/`.
//!
//! The verifier fetches keys on a runtime in the background; a request never touches it. The HTTP here is only as much as
//! an example needs: a head of up to 16 KiB, no body, one request for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use keywheel_verifier::{Guard, Policy, Refusal, Verifier};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let entered = runtime.enter();
    let guard = Guard::new(Verifier::builder(Policy::access_token(ISSUER, RESOURCE)).name("blocking").build()?);
    drop(entered);

    for connection in TcpListener::bind("127.0.0.1:3000")?.incoming() {
        let (connection, guard) = (connection?, guard.clone());
        // A client that hangs up is nobody's error.
        thread::spawn(move || answer(&connection, &guard).ok());
    }
    Ok(())
}

fn answer(connection: &TcpStream, guard: &Guard) -> io::Result<()> {
    let response = match read_head(connection)? {
        Some(parts) => hello(guard, &parts).unwrap_or_else(Refusal::into_response),
        None => {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    let (parts, body) = response.into_parts();
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", parts.status, body.len());
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let mut connection = connection;
    connection.write_all(format!("{head}\r\n{body}").as_bytes())
}

fn hello(guard: &Guard, parts: &Parts) -> Result<Response<String>, Refusal> {
    let token = guard.authorize_now(parts)?.expect("this guard is not optional");
    Ok(Response::new(format!("hello {}\n", token.claims().sub)))
}

/// `None` is what can't be read.
fn read_head(connection: &TcpStream) -> io::Result<Option<Parts>> {
    let mut lines = BufReader::new(connection.take(MAX_HEAD_BYTES)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ');
    let mut request = Request::builder().method(words.next().unwrap_or_default()).uri(words.next().unwrap_or_default());
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok(request.body(()).ok().map(|request| request.into_parts().0));
        }
        let Some((name, value)) = line.split_once(':') else { return Ok(None) };
        request = request.header(name, value.trim());
    }
    Ok(None)
}

const ISSUER: &str = "http://localhost:8080";
const RESOURCE: &str = "http://localhost:3000";
const MAX_HEAD_BYTES: u64 = 16 * 1024;
