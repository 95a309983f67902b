//! Asks a container as a kubelet does: from the node's namespace, or by a command in the pod's.
//! Blocks, for as long as the probe allows at most. Owns the bounds of what an answer may cost.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Ask, Probe};
use crate::args::chain;
use crate::local::launch::{Launch, prepare};
use crate::local::mesh::Mesh;
use crate::local::process::Process;
use crate::local::space;

/// Where a container is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) mesh: Mesh,
    /// The node's namespace.
    pub(crate) node: PathBuf,
    pub(crate) address: IpAddr,
    /// How a command is started in the container.
    pub(crate) launch: Launch,
}

/// The first line of an answer must come within so many bytes; the rest is not read.
const HEAD_LIMIT: usize = 1024;
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Asks once. The failure is told to a person.
pub(crate) fn ask(place: &Place, probe: &Probe) -> Result<(), String> {
    let from_node = |port: u16, question: &(dyn Fn(TcpStream) -> Result<(), String> + Sync)| {
        let to = SocketAddr::new(place.address, port);
        let asked = space::within(&place.node, || {
            let stream = TcpStream::connect_timeout(&to, probe.limit).map_err(|e| e.to_string())?;
            question(stream)
        });
        asked.map_err(|e| chain(&e))?
    };
    match &probe.ask {
        Ask::Tcp { port } => from_node(*port, &|_| Ok(())),
        Ask::Http { port, path, headers } => {
            let head = head(SocketAddr::new(place.address, *port), path, headers);
            from_node(*port, &|stream| answered(stream, &head, probe.limit))
        }
        Ask::Exec { command } => run(place, command, probe.limit),
    }
}

fn head(to: SocketAddr, path: &str, headers: &[(String, String)]) -> String {
    let mut head = format!("GET {path} HTTP/1.1\r\n");
    for (name, default) in [("Host", to.to_string()), ("User-Agent", "kube-probe/ambit".to_owned())] {
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            head += &format!("{name}: {default}\r\n");
        }
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "Accept: */*\r\nConnection: close\r\n\r\n"
}

/// A status from 200 to 399 is a success. https://kubernetes.io/docs/tasks/configure-pod-container/
fn answered(mut stream: TcpStream, head: &str, limit: Duration) -> Result<(), String> {
    let until = Instant::now() + limit;
    let text = |e: io::Error| e.to_string();
    stream.set_write_timeout(Some(limit)).map_err(text)?;
    stream.write_all(head.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < HEAD_LIMIT {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {limit:?}"));
        }
        stream.set_read_timeout(Some(left)).map_err(text)?;
        let mut part = [0; 256];
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend(part.iter().take(count)),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(text(e)),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let mut words = line.lines().next().unwrap_or_default().split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    match words.next().and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=399) if version.starts_with("HTTP/1.") => Ok(()),
        Some(status) if version.starts_with("HTTP/1.") => Err(format!("status {status}")),
        _ => Err("no HTTP answer".to_owned()),
    }
}

fn run(place: &Place, command: &[String], limit: Duration) -> Result<(), String> {
    let launch = Launch { command: command.iter().map(Into::into).collect(), ..place.launch.clone() };
    let mut ready = prepare(&place.mesh, &launch).map_err(|e| chain(&e))?;
    let spawned = ready.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let ended = spawned.map_err(|e| e.to_string()).and_then(|mut child| {
        let until = Instant::now() + limit;
        loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(status.to_string()),
                None if Instant::now() < until => std::thread::park_timeout(LOOK_AGAIN),
                None => break,
            }
        }
        if let Some(process) = i32::try_from(child.id()).ok().and_then(Process::find) {
            process.signal(Signal::SIGKILL);
        }
        child.wait().map_err(|e| e.to_string())?;
        Err(format!("no end within {limit:?}"))
    });
    // Nothing runs under this record any more.
    let _unused = std::fs::remove_file(place.mesh.process(&launch.name));
    ended
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// A server that answers one connection so, and what the client makes of it.
    fn told(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.write_all(answer.as_bytes()).unwrap();
        let told = answered(stream, "GET / HTTP/1.1\r\n\r\n", LIMIT);
        drop(served);
        told
    }

    #[test]
    fn only_a_good_status_is_a_success() {
        for (answer, wanted) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.0 302 Found\r\n\r\n", Ok(())),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("status 404")),
            ("HTTP/1.1 503 \r\n\r\n", Err("status 503")),
            ("SSH-2.0-x\r\n", Err("no HTTP answer")),
            ("HTTP/1.1 200 never ends", Err("no answer within 200ms")),
        ] {
            assert_eq!(told(answer), wanted.map_err(str::to_owned), "{answer}");
        }
    }

    #[test]
    fn headers_that_are_given_replace_ours() {
        let to = "[fd00::1]:80".parse().unwrap();
        let given = [("host".to_owned(), "shop".to_owned())];
        let text = head(to, "/x", &given);
        assert!(text.starts_with("GET /x HTTP/1.1\r\n") && text.contains("\r\nhost: shop\r\n"), "{text}");
        assert_eq!(text.to_ascii_lowercase().matches("host:").count(), 1, "{text}");
        assert!(head(to, "/", &[]).contains("\r\nHost: [fd00::1]:80\r\n"));
    }
}
