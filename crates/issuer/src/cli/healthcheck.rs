//! `keywheel healthcheck`: asks the server on this machine whether it is ready, where there is no other program to ask with
//! (a container's HEALTHCHECK).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failure, load};

/// Succeeds when `/readyz` of the metrics listener says 200; else it says why not.
pub(super) async fn healthcheck(path: Option<&Path>) -> Result<(), Failure> {
    let config = load(path)?.config;
    let address = config
        .server
        .metrics_listen
        .ok_or_else(|| Failure::usage("there is no listener for health: server.metrics_listen is empty".to_owned()))?;
    let address = reachable(address);
    let failed = |why: String| Failure::failed(format!("no answer from {address}: {why}"));
    let answer = timeout(PATIENCE, ask(address)).await;
    let answer = answer.map_err(|_| failed(format!("{PATIENCE:?} have passed")))?;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    if is_ok(&answer) {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    Err(Failure::failed(if body.is_empty() { "the server is not ready".to_owned() } else { body.to_owned() }))
}

/// One that listens everywhere is reached at home.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_ok(answer: &str) -> bool {
    answer.strip_prefix("HTTP/1.1 ").is_some_and(|rest| rest.starts_with("200 "))
}

/// Less than the 3 s that our container files give.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any reason takes.
const MAX_ANSWER: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_for_everybody_is_asked_at_home() {
        for (listens, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
            ("127.0.0.1:9090", "127.0.0.1:9090"),
        ] {
            let address = reachable(listens.parse().expect("an address"));

            assert_eq!(address.to_string(), asked);
        }
    }
}
