//! One question over HTTP to an address of this machine or of a host. Owns that, and no more of HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Whoever is asked is near.
const ANSWERED: Duration = Duration::from_secs(20);

/// The body that is answered with a 200; any other answer is an error with what it says.
pub fn get(from: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&from, ANSWERED)?;
    stream.set_read_timeout(Some(ANSWERED))?;
    // In version 1.0 the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {from}\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let (head, body) = said.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {body}");
    Ok(body.to_owned())
}
