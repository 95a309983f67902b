//! The API server as a measurement asks it: without a program's start for each question. Owns a `kubectl proxy`,
//! which answers for who asks, and plain HTTP to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Lab;

/// No single question takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A way to the API server, as its administrator.
#[derive(Debug)]
pub(super) struct Api {
    proxy: Child,
    at: SocketAddr,
}

/// What became of an object, and when that was heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) object: Value,
}

/// When a question was sent, and when it was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

impl Api {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.kubectl_command(&["proxy", "--port=0", "--address=127.0.0.1"]);
        let mut proxy = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let printed = proxy.stdout.take().context("its output is not read")?;
        BufReader::new(printed).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.with_context(|| format!("kubectl proxy says {line:?}"))?;
        Ok(Self { proxy, at: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// Asks once; an answer that is no success is an error.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(Asked, Value)> {
        let sent = Instant::now();
        let mut stream = self.send(method, path, body)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let asked = Asked { sent, answered: Instant::now() };
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
        ensure!(is_success(head), "{method} {path}: {head}\n{body}");
        Ok((asked, serde_json::from_str(body)?))
    }

    /// Hears what becomes of a kind's objects from now on, until the receiver is dropped.
    pub(super) fn watch(&self, path: &str) -> Result<Receiver<Heard>> {
        let (_, list) = self.ask("GET", path, None)?;
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0");
        let path = format!("{path}?watch=1&resourceVersion={version}");
        let mut reader = BufReader::new(self.send("GET", &path, None)?);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        ensure!(is_success(&head), "watching {path}: {head}");
        let (events, received) = channel();
        std::thread::spawn(move || hear(reader, &events));
        Ok(received)
    }

    /// HTTP/1.0: the answer ends with the connection, in one piece.
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<TcpStream> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut stream = TcpStream::connect(self.at)?;
        stream.set_nodelay(true)?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended with the cluster.
        let _gone = self.proxy.kill();
        let _reaped = self.proxy.wait();
    }
}

/// The next event that a look takes for the one it waits for.
pub(super) fn until<T>(
    events: &Receiver<Heard>,
    limit: Duration,
    mut look: impl FnMut(&Heard) -> Option<T>,
) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(heard) = events.recv_timeout(left) else { bail!("nothing was heard of it in {limit:?}") };
        if let Some(found) = look(&heard) {
            return Ok(found);
        }
    }
}

fn hear(reader: BufReader<TcpStream>, events: &Sender<Heard>) {
    for line in reader.lines() {
        let at = Instant::now();
        let Some(mut event) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else {
            return;
        };
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        if events.send(Heard { at, object }).is_err() {
            return;
        }
    }
}

fn is_success(head: &str) -> bool {
    head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'))
}
