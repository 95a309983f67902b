//! A small HTTP/1.1 server: one thread a connection, an answer that names the pod and the client.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections served at the same time; a demo needs a handful, a runaway client must not take the machine.
const CONNECTIONS: usize = 512;
/// Longest request head.
const HEAD_LIMIT: u64 = 16 * 1024;

/// Serves until the process ends.
pub(crate) fn serve(port: u16, name: &str) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    let name: Arc<str> = name.into();
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (name, open) = (Arc::clone(&name), Arc::clone(&open));
        std::thread::spawn(move || {
            // The client's end of a connection is its own business.
            let _ended = answer(stream, &name);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

fn answer(stream: TcpStream, name: &str) -> io::Result<()> {
    let from = plain(stream.peer_addr()?);
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(path) = request(&mut reader)? {
        let body =
            serde_json::json!({ "pod": name, "from": from.to_string(), "path": path }).to_string() + "\n";
        write!(
            writer,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
    Ok(())
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
