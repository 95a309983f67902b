//! A small HTTP/1.1 client: one request over a new connection, or one connection held open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::url::Url;

/// Which address family to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// How long it took to learn the server's address.
    pub(crate) naming: Duration,
    /// The server answers no more over this connection.
    pub(crate) is_last: bool,
}

/// What one asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a Url,
    /// Header fields beside those that every request has.
    pub(crate) headers: &'a [String],
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no address for {host}: {source}")]
    NoAddress { host: String, source: io::Error },
    #[error("cannot connect to {to}: {source}")]
    Connect { to: SocketAddr, source: io::Error },
    #[error("connected to {to}, then: {source}")]
    Broken { to: SocketAddr, source: io::Error },
}

/// Largest body that is read: a dump of a large mesh.
const BODY_LIMIT: u64 = 128 << 20;
/// How long a held connection's answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How often `hold` says that all is well.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Asks once over a new connection.
pub(crate) fn fetch(wanted: Wanted<'_>, family: Family, limit: Duration) -> Result<Answer, FetchError> {
    let begun = Instant::now();
    let to = address(wanted.url, family)?;
    let naming = begun.elapsed();
    let mut reader = open(to, limit)?;
    let answer = ask(&mut reader, wanted, "close").map_err(|source| FetchError::Broken { to, source })?;
    Ok(Answer { naming, ..answer })
}

/// A new connection, on which nothing is waited for longer than this.
pub(crate) fn open(to: SocketAddr, limit: Duration) -> Result<BufReader<TcpStream>, FetchError> {
    let stream =
        TcpStream::connect_timeout(&to, limit).map_err(|source| FetchError::Connect { to, source })?;
    stream.set_read_timeout(Some(limit)).map_err(|source| FetchError::Broken { to, source })?;
    Ok(BufReader::new(stream))
}

/// Asks again and again over one connection; prints a line each second, and one when it ended.
pub(crate) fn hold(url: &Url, every: Duration) -> Result<(), FetchError> {
    let to = address(url, Family::Any)?;
    let mut reader = open(to, ANSWER_WAIT)?;
    let broken = |source| FetchError::Broken { to, source };
    let wanted = Wanted { url, headers: &[] };
    let (mut answers, mut said) = (0_u64, None::<Instant>);
    loop {
        reader.get_ref().set_read_timeout(Some(ANSWER_WAIT)).map_err(broken)?;
        if let Err(why) = ask(&mut reader, wanted, "keep-alive") {
            return ended(answers, &why);
        }
        answers += 1;
        if said.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            report(&serde_json::json!({ "held": true, "answers": answers }));
            said = Some(Instant::now());
        }
        // Waiting is reading: the end of the connection is noticed the moment it comes.
        reader.get_ref().set_read_timeout(Some(every)).map_err(broken)?;
        match reader.fill_buf() {
            Ok([]) => return ended(answers, &io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return ended(answers, &e),
        }
    }
}

fn ended(answers: u64, why: &io::Error) -> Result<(), FetchError> {
    report(&serde_json::json!({ "held": false, "answers": answers, "why": why.to_string() }));
    Ok(())
}

/// Prints a line at once. Nobody listening any more is no failure of the connection that is watched.
pub(crate) fn report(line: &serde_json::Value) {
    let mut out = io::stdout().lock();
    let _unheard = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Where a server is.
pub(crate) fn address(url: &Url, family: Family) -> Result<SocketAddr, FetchError> {
    let no_address = |source| FetchError::NoAddress { host: url.host.clone(), source };
    let found = (url.host.as_str(), url.port).to_socket_addrs().map_err(no_address)?;
    found
        .filter(|to| family == Family::Any || to.is_ipv6() == (family == Family::V6))
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| no_address(io::ErrorKind::AddrNotAvailable.into()))
}

fn ask(reader: &mut BufReader<TcpStream>, wanted: Wanted<'_>, connection: &str) -> io::Result<Answer> {
    send(reader.get_mut(), wanted, connection)?;
    read(reader)
}

/// Writes a request that has no body.
pub(crate) fn send(to: &mut impl Write, wanted: Wanted<'_>, connection: &str) -> io::Result<()> {
    let Wanted { url, headers } = wanted;
    let mut head = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: ambit\r\nconnection: {connection}\r\n",
        url.path,
        url.authority()
    );
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    to.write_all(head.as_bytes())
}

/// Reads one answer, the whole of it.
pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Answer> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split_ascii_whitespace().nth(1).and_then(|s| s.parse().ok()).ok_or_else(malformed)?;
    let (mut length, mut is_last) = (0_u64, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| malformed())?;
        }
        is_last |= name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
    }
    let mut body = String::new();
    let read = reader.take(length.min(BODY_LIMIT)).read_to_string(&mut body)?;
    if read as u64 == length {
        Ok(Answer { status, body, naming: Duration::ZERO, is_last })
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
