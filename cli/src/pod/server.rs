//! A small HTTP/1.1 server: one thread a connection, an answer that names the pod and the client.
//! It ends as well-behaved servers do: told to (SIGTERM), it takes nobody new, answers whoever has asked, and goes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

/// Connections served at the same time; a demo needs a handful, a runaway client must not take the machine.
const CONNECTIONS: usize = 512;
/// Longest request head.
const HEAD_LIMIT: u64 = 16 * 1024;

/// How long those who are connected may still ask, once the server is to end. Whoever keeps a connection without
/// asking is not waited for longer.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// What the threads of a server share.
struct Shared {
    name: Box<str>,
    status: u16,
    open: AtomicUsize,
    ending: AtomicBool,
}

/// Serves until the process ends, or is told to.
pub(crate) fn serve(port: u16, status: u16, name: &str) -> io::Result<()> {
    // Before any other thread is there: they inherit it.
    let mut told = SigSet::empty();
    told.add(Signal::SIGTERM);
    told.thread_block()?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    let (open, ending) = (AtomicUsize::new(0), AtomicBool::new(false));
    let shared = Shared { name: name.into(), status, open, ending };
    let shared = Arc::new(shared);
    let (ours, flag) = (listener.try_clone()?, Arc::clone(&shared));
    std::thread::spawn(move || {
        // Only an invalid set is an error.
        let _told = told.wait();
        flag.ending.store(true, Ordering::SeqCst);
        // Those in the queue are still taken; with a listener that does not block, an empty queue is the end.
        let _unblocked = ours.set_nonblocking(true);
        drop(ours);
        let _woken = TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    });
    loop {
        match listener.accept() {
            Ok((stream, _)) => take(&shared, stream),
            Err(_) if shared.ending.load(Ordering::SeqCst) => break,
            Err(_) => {}
        }
    }
    // Closed before the last are answered: nobody new comes in meanwhile.
    drop(listener);
    finish(&shared);
    Ok(())
}

/// Waits until whoever is connected has been answered.
fn finish(shared: &Shared) {
    let until = Instant::now() + LAST_REQUESTS;
    while shared.open.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn take(shared: &Arc<Shared>, stream: TcpStream) {
    if shared.open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
        shared.open.fetch_sub(1, Ordering::SeqCst);
        return;
    }
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        // The client's end of a connection is its own business.
        let _ended = answer(stream, &shared);
        shared.open.fetch_sub(1, Ordering::SeqCst);
    });
}

fn answer(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // One that is accepted by a listener that does not block does, on Linux; said all the same.
    stream.set_nonblocking(false)?;
    let from = plain(stream.peer_addr()?);
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(path) = request(&mut reader)? {
        let body = serde_json::json!({ "pod": shared.name, "from": from.to_string(), "path": path });
        let body = body.to_string() + "\n";
        let last = shared.ending.load(Ordering::SeqCst);
        let more = if last { "connection: close\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}",
            shared.status,
            if shared.status == 200 { "OK" } else { "As told" },
            body.len()
        );
        // All at once: what comes in pieces waits until the former piece is acknowledged, which takes 40 ms.
        writer.write_all(answer.as_bytes())?;
        if last {
            break;
        }
    }
    writer.shutdown(Shutdown::Write)
}

/// Reads one request without a body; `None` when the client is done.
fn request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = reader.by_ref().take(HEAD_LIMIT);
    let mut first = String::new();
    head.read_line(&mut first)?;
    let Some(path) = first.split_ascii_whitespace().nth(1).map(str::to_owned) else { return Ok(None) };
    let mut line = String::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(path));
        }
    }
}

/// A client of IPv4, seen through a socket of both families, as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, |v4| SocketAddr::from((v4, address.port()))),
        IpAddr::V4(_) => address,
    }
}
