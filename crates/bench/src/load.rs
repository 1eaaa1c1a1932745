//! The load: many connections that stay open, each with one request under way, driven by one thread.
//!
//! 1. Each connection sends a request that its [`Script`] writes.
//! 2. When the answer is whole, its status is held against the expected one, the script sees it, and the next request goes.
//! 3. When the time is over nothing more is sent, and the answers under way are waited for.
//!
//! With a rate, requests are due at even distances, whatever the answers take, and latencies count from the moment when a
//! request was due: a stall of the server is seen by all that would have come meanwhile.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::statistics::Latencies;

/// What the connections say.
pub(crate) trait Script {
    /// Writes the next request of a connection into the empty `request`; `false` when there is none any more.
    fn request(&mut self, connection: usize, request: &mut Vec<u8>) -> bool;

    /// Takes an answer with the expected status.
    ///
    /// # Errors
    /// When it is not what was asked for.
    fn answer(&mut self, connection: usize, answer: &Answer<'_>) -> Result<()> {
        let _ = (connection, answer);
        Ok(())
    }

    /// The status that answers must have.
    fn expected_status(&self) -> u16 {
        200
    }
}

/// An answer, as it came.
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
    /// Since the request was sent, or due.
    pub(crate) latency: Duration,
}

impl Answer<'_> {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    /// No request is sent after this time.
    pub(crate) duration: Duration,
    /// Nor after so many answers.
    pub(crate) answers: u64,
    /// Requests a second; as many as are answered without it.
    pub(crate) rate: Option<f64>,
}

impl Plan {
    /// As many requests as this time takes.
    pub(crate) fn of(connections: usize, duration: Duration) -> Self {
        Self { connections, duration, answers: u64::MAX, rate: None }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Latencies,
}

/// Connects, so that what follows can be measured without it.
pub(crate) struct Load {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    plan: Plan,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
    /// When the request under way was sent, or due.
    since: Option<Instant>,
}

impl Load {
    /// Opens the connections of a plan.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(crate) fn connect(address: SocketAddr, plan: Plan) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot wait for connections")?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
            stream.set_nonblocking(true).context("cannot make a connection non-blocking")?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).context("cannot wait for a connection")?;
            let (request, received) = (Vec::with_capacity(1024), Vec::with_capacity(16 * 1024));
            connections.push(Connection { stream, request, received, since: None });
        }
        Ok(Self { epoll, connections, plan })
    }

    /// Sends what the script says, for as long as the plan says.
    ///
    /// # Errors
    /// An answer that was not expected, or a connection that broke.
    pub(crate) fn run(&mut self, script: &mut impl Script) -> Result<Outcome> {
        match self.plan.rate {
            None => self.run_closed(script),
            Some(rate) => self.run_at_rate(script, rate),
        }
    }

    fn run_closed(&mut self, script: &mut impl Script) -> Result<Outcome> {
        let began = Instant::now();
        let until = began + self.plan.duration;
        let mut outcome = Outcome::default();
        let mut under_way = 0_usize;
        for index in 0..self.connections.len() {
            under_way += usize::from(self.connections[index].send(index, script, began)?);
        }
        let mut events = Vec::with_capacity(self.connections.len());
        while under_way > 0 {
            self.wait(&mut events, None)?;
            for event in events.drain(..) {
                let index = event.data.u64() as usize;
                let connection = &mut self.connections[index];
                let Some((now, latency)) = connection.receive(index, script)? else { continue };
                outcome.latencies.add(latency);
                outcome.answers += 1;
                let is_over = now >= until || outcome.answers >= self.plan.answers;
                if is_over || !connection.send(index, script, now)? {
                    under_way -= 1;
                }
            }
        }
        outcome.elapsed = began.elapsed();
        Ok(outcome)
    }

    fn run_at_rate(&mut self, script: &mut impl Script, rate: f64) -> Result<Outcome> {
        let began = Instant::now();
        let distance = Duration::from_secs_f64(1.0 / rate);
        let mut outcome = Outcome::default();
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let mut due = began;
        let mut events = Vec::with_capacity(self.connections.len());
        loop {
            let now = Instant::now();
            while due <= now && due - began < self.plan.duration {
                let Some(index) = free.pop() else { break };
                if !self.connections[index].send(index, script, due)? {
                    bail!("the script has no more requests");
                }
                due += distance;
            }
            let is_over = due - began >= self.plan.duration;
            if is_over && free.len() == self.connections.len() {
                break;
            }
            let pause = if is_over || free.is_empty() { None } else { Some(due.saturating_duration_since(now)) };
            self.wait(&mut events, pause)?;
            for event in events.drain(..) {
                let index = event.data.u64() as usize;
                if let Some((_, latency)) = self.connections[index].receive(index, script)? {
                    outcome.latencies.add(latency);
                    outcome.answers += 1;
                    free.push(index);
                }
            }
        }
        outcome.elapsed = began.elapsed();
        Ok(outcome)
    }

    /// Waits for something to read, and no longer than `pause` or [`PATIENCE`].
    fn wait(&self, events: &mut Vec<epoll::Event>, pause: Option<Duration>) -> Result<()> {
        let limit = pause.unwrap_or(PATIENCE);
        let limit = Timespec::try_from(limit).context("a time to wait that no clock has")?;
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&limit)) {
            Ok(0) if pause.is_none() => bail!("no answer within {PATIENCE:?}"),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for answers"),
        }
    }
}

impl Connection {
    fn send(&mut self, index: usize, script: &mut impl Script, since: Instant) -> Result<bool> {
        self.request.clear();
        if !script.request(index, &mut self.request) {
            return Ok(false);
        }
        let mut rest = self.request.as_slice();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("cannot send a request"),
            }
        }
        self.since = Some(since);
        Ok(true)
    }

    /// Reads what is there; if the answer is whole, the time and how long it took.
    fn receive(&mut self, index: usize, script: &mut impl Script) -> Result<Option<(Instant, Duration)>> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(length) => self.received.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(error) => return Err(error).context("cannot read an answer"),
        }
        let Some((head, whole)) = parse(&self.received)? else { return Ok(None) };
        let Some(since) = self.since.take() else { bail!("an answer that nobody asked for") };
        let now = Instant::now();
        let latency = now.saturating_duration_since(since);
        let answer = Answer { head: head.text, body: &self.received[head.length..whole], latency };
        let expected = script.expected_status();
        if head.status != expected {
            let body = String::from_utf8_lossy(answer.body);
            bail!("status {} instead of {expected}: {}\n{body}", head.status, String::from_utf8_lossy(&self.request));
        }
        script.answer(index, &answer)?;
        self.received.drain(..whole);
        Ok(Some((now, latency)))
    }
}

struct Head<'a> {
    text: &'a str,
    status: u16,
    /// With the empty line.
    length: usize,
}

/// The head of an answer and the length of all of it; `None` while it is not whole.
fn parse(received: &[u8]) -> Result<Option<(Head<'_>, usize)>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = str::from_utf8(&received[..end]).context("a head that is not text")?;
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).context("an answer without a status")?;
    let length = end + 4;
    let head = Head { text, status, length };
    let body = match header(text, "content-length") {
        Some(number) => number.parse().with_context(|| format!("a Content-Length of {number:?}"))?,
        None if matches!(status, 204 | 304) => 0_usize,
        None => bail!("an answer without Content-Length"),
    };
    Ok((received.len() >= length + body).then_some((head, length + body)))
}

/// Sends one request on a connection of its own: the status, the head and the body of the answer.
///
/// # Errors
/// When there is no answer.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Result<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a deadline")?;
    stream.write_all(request.as_bytes()).context("cannot send a request")?;
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some((head, whole)) = parse(&received)? {
            return Ok((head.status, head.text.to_owned(), received[head.length..whole].to_vec()));
        }
        match stream.read(&mut chunk).context("cannot read an answer")? {
            0 => bail!("the server closed a connection"),
            length => received.extend_from_slice(&chunk[..length]),
        }
    }
}

/// The same request, over and over.
pub(crate) struct Same(pub(crate) String);

impl Script for Same {
    fn request(&mut self, _: usize, request: &mut Vec<u8>) -> bool {
        request.extend_from_slice(self.0.as_bytes());
        true
    }
}

/// A GET as a client sends it.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")
}

/// A POST of a form. `headers` are whole lines.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n{headers}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

        for length in 0..text.len() {
            assert!(parse(&text[..length]).expect("a part").is_none(), "{length}");
        }
        let (head, whole) = parse(text).expect("an answer").expect("all of it");

        assert_eq!((head.status, whole), (200, text.len()));
        assert_eq!(header(head.text, "CONTENT-length"), Some("3"));
    }

    #[test]
    fn answers_that_cannot_be_counted_are_errors() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 304 Not Modified\r\n\r\n").expect("no body").is_some());
    }

    /// Answers every request of three connections with `status`.
    fn server(status: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || {
                    let mut chunk = [0; 1024];
                    while stream.read(&mut chunk).is_ok_and(|length| length > 0) {
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
                        stream.write_all(answer.as_bytes()).expect("it is read");
                    }
                });
            }
        });
        address
    }

    fn run(address: SocketAddr, rate: Option<f64>) -> Result<Outcome> {
        let plan = Plan { rate, ..Plan::of(3, Duration::from_millis(50)) };
        Load::connect(address, plan)?.run(&mut Same(get("/")))
    }

    #[test]
    fn every_answer_is_counted_with_its_latency() {
        for rate in [None, Some(1000.0)] {
            let outcome = run(server("200 OK"), rate).expect("it answers");

            assert!(outcome.answers > 3, "{outcome:?}");
            assert!(outcome.latencies.max() > Duration::ZERO);
            assert!(outcome.elapsed >= Duration::from_millis(49));
        }
    }

    #[test]
    fn a_load_ends_after_its_number_of_answers() {
        let plan = Plan { answers: 20, ..Plan::of(3, Duration::from_secs(30)) };

        let outcome = Load::connect(server("200 OK"), plan).and_then(|mut load| load.run(&mut Same(get("/"))));

        let answers = outcome.expect("it answers").answers;
        assert!((20..=22).contains(&answers), "two more connections wait for theirs: {answers}");
    }

    #[test]
    fn a_refusal_is_no_figure() {
        let failure = run(server("429 Too Many Requests"), None).expect_err("it refuses");

        assert!(failure.to_string().starts_with("status 429 instead of 200"), "{failure}");
    }
}
