//! One question to the node daemon: HTTP/1.1 over its unix socket, bounded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than everything the daemon waits for inside (27 s), so that its reason arrives instead of silence; a fraction
/// of what a kubelet gives a sandbox.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between looks for it.
const LOOK: Duration = Duration::from_millis(50);

/// An answer's text that is read; the rest is not worth the memory.
const ANSWER: u64 = 64 << 10;

/// What the daemon said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// Asks, and waits for the whole answer; for a daemon that is away, not longer than `absence`.
pub(crate) fn ask(socket: &Path, path: &str, body: &str, absence: Duration) -> io::Result<Said> {
    let mut stream = connect(socket, absence)?;
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: unix\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    read(&mut stream, until)
}

fn connect(socket: &Path, absence: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + absence;
    loop {
        match UnixStream::connect(socket) {
            Err(error) if is_absence(&error) && Instant::now() < until => std::thread::park_timeout(LOOK),
            other => return other,
        }
    }
}

/// Nobody has made the socket yet, or who made it is no more.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn read(stream: &mut UnixStream, until: Instant) -> io::Result<Said> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while u64::try_from(bytes.len()).unwrap_or(u64::MAX) < ANSWER {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let no_answer = || io::Error::new(io::ErrorKind::InvalidData, "the daemon's answer is no HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(no_answer)?;
    Ok(Said { status, text: body.trim().to_owned() })
}
