//! One large body that is sent as fast as it is taken. Owns the program that sends it; it prints one JSON object.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

/// What is written at a time.
const CHUNK: usize = 64 << 10;
/// How long nothing at all may happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to send, and where.
#[derive(clap::Args)]
pub struct Arguments {
    /// The server.
    #[arg(long)]
    pub to: SocketAddr,
    /// The body's length.
    #[arg(long, default_value_t = 1024)]
    pub megabytes: u64,
}

/// Sends, waits for the answer, then prints `{bytes, seconds}`.
///
/// # Errors
/// When the connection fails, or the answer is none of success.
pub fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(arguments.to).with_context(|| arguments.to.to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = arguments.megabytes << 20;
    write!(
        stream,
        "POST /upload HTTP/1.1\r\nhost: {}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n",
        arguments.to
    )?;
    let chunk = vec![b'x'; CHUNK];
    for _ in 0..bytes / CHUNK as u64 {
        stream.write_all(&chunk)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "answered {}", answer.lines().next().unwrap_or_default());
    println!("{}", json!({ "bytes": bytes, "seconds": begun.elapsed().as_secs_f64() }));
    Ok(())
}
