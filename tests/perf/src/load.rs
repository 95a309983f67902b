//! A closed loop of HTTP/1.1 requests over a fixed number of connections, and what it measured.
//! Owns the load program; it prints one JSON object, which `bench` reads.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

/// What to send, where, how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// The server.
    #[arg(long)]
    pub to: SocketAddr,
    /// Connections, one request in flight on each.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Requests a second over all connections; 0: as many as go.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// A new connection for every request.
    #[arg(long)]
    pub fresh: bool,
}

/// Sends, then prints `{requests, seconds, p50_us, p99_us, p999_us}`.
///
/// # Errors
/// When a connection fails: a measurement with failures measures something else.
pub fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut took, spent) = LocalSet::new().block_on(&runtime, send_all(arguments))?;
    took.sort_unstable();
    let at = |part: f64| {
        // The index stays below the length; fractions of a sample are of no interest.
        let index = (part * (took.len().max(1) - 1) as f64) as usize;
        took.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    let told = json!({
        "requests": took.len(), "seconds": spent.as_secs_f64(),
        "p50_us": at(0.50), "p99_us": at(0.99), "p999_us": at(0.999),
    });
    println!("{told}");
    Ok(())
}

async fn send_all(arguments: &Arguments) -> Result<(Vec<Duration>, Duration)> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let request: Rc<[u8]> = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", arguments.to).into_bytes().into();
    let mut open = JoinSet::new();
    for number in 0..arguments.connections {
        let pace = pace(arguments, number, begin);
        let worker = Worker { to: arguments.to, request: Rc::clone(&request), end, pace };
        let fresh = arguments.fresh;
        open.spawn_local(async move { if fresh { worker.fresh().await } else { worker.kept().await } });
    }
    let mut all = Vec::new();
    while let Some(done) = open.join_next().await {
        all.append(&mut done??);
    }
    Ok((all, begin.elapsed()))
}

/// When a connection's requests are due: from the first on, at equal distances. `None`: at once.
fn pace(arguments: &Arguments, number: usize, begin: Instant) -> Option<(Instant, Duration)> {
    (arguments.rate > 0.0).then(|| {
        let step = arguments.connections as f64 / arguments.rate;
        let first = step * number as f64 / arguments.connections as f64;
        (begin + Duration::from_secs_f64(first), Duration::from_secs_f64(step))
    })
}

struct Worker {
    to: SocketAddr,
    request: Rc<[u8]>,
    end: Instant,
    pace: Option<(Instant, Duration)>,
}

impl Worker {
    async fn kept(mut self) -> Result<Vec<Duration>> {
        let mut stream = connect(self.to).await?;
        let mut took = Vec::new();
        while let Some(due) = self.due().await {
            exchange(&mut stream, &self.request).await?;
            took.push(due.elapsed());
        }
        Ok(took)
    }

    async fn fresh(mut self) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        while let Some(due) = self.due().await {
            let mut stream = connect(self.to).await?;
            exchange(&mut stream, &self.request).await?;
            took.push(due.elapsed());
        }
        Ok(took)
    }

    /// When the next request counts from: its due time, so that a stall is charged to all it delayed.
    async fn due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let Some((due, step)) = &mut self.pace else { return (now < self.end).then_some(now) };
        let this = *due;
        *due += *step;
        if this >= self.end {
            return None;
        }
        tokio::time::sleep_until(this.into()).await;
        Some(this)
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("no connection to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request).await?;
    let mut buffer = [0; 8192];
    let mut held = 0;
    loop {
        let Some(room) = buffer.get_mut(held..).filter(|room| !room.is_empty()) else {
            bail!("an answer larger than {} bytes", 8192);
        };
        match stream.read(room).await? {
            0 => bail!("the connection ended within an answer"),
            read => held += read,
        }
        if whole(buffer.get(..held).unwrap_or_default())? {
            return Ok(());
        }
    }
}

/// Whether a whole answer is there: its head, and as many bytes as the head says.
fn whole(answer: &[u8]) -> Result<bool> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(answer.get(..head).unwrap_or_default())?;
    if !text.starts_with("HTTP/1.1 200") {
        bail!("answered {}", text.lines().next().unwrap_or_default());
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("an answer without a length")?.trim().parse()?;
    Ok(answer.len() >= head + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert!(whole(answer).unwrap());
        assert!(!whole(&answer[..answer.len() - 1]).unwrap());
        assert!(!whole(&answer[..20]).unwrap());
        assert!(whole(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
