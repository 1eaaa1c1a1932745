//! The beginning of a WebSocket (RFC 6455 §4.1), and bytes both ways.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The example of RFC 6455 §1.3, and what it has to be answered with. HAProxy looks.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// No answer of a server on this machine takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asserts that what is sent through `proxy` to an echoing service comes back.
pub(super) async fn assert_echo(proxy: SocketAddr, authorization: &str) {
    let (mut stream, head) = open(proxy, &format!("Authorization: {authorization}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    let message = b"to the service and back";
    let mut echoed = [0; 23];
    let exchange = async {
        stream.write_all(message).await?;
        stream.read_exact(&mut echoed).await
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an echo in time").expect("an echo");
    assert_eq!(&echoed, message);
}

/// Asserts that without a token there is no connection.
pub(super) async fn assert_refused(proxy: SocketAddr) {
    let (_, head) = open(proxy, "").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

/// Asks for a WebSocket, and reads the head of the answer.
async fn open(proxy: SocketAddr, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy accepts connections");
    let request = format!(
        "GET /invoices/events HTTP/1.1\r\nHost: api.example.com\r\n{headers}Connection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let mut head = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time").expect("an answer");
    (stream, String::from_utf8(head).expect("a head in ASCII"))
}
