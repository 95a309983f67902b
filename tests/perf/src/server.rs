//! An HTTP/1.1 server that answers every request with the same body and keeps connections open.
//! Owns as much of HTTP as the load speaks: heads that end with an empty line, and bodies whose length they say.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

/// What of a body is read at a time.
const CHUNK: usize = 64 << 10;

/// Where and what to answer.
#[derive(clap::Args)]
pub struct Arguments {
    /// Address to listen on.
    #[arg(long)]
    pub at: SocketAddr,
    /// Bytes of each answer's body.
    #[arg(long, default_value_t = 1024)]
    pub body: usize,
}

/// Serves until it is killed.
///
/// # Errors
/// When the address cannot be listened on.
pub fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.at).await?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", arguments.body);
    let answer: std::rc::Rc<[u8]> = [head.as_bytes(), &vec![b'x'; arguments.body]].concat().into();
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        open.spawn_local(answer_all(stream, std::rc::Rc::clone(&answer)));
        while open.try_join_next().is_some() {}
    }
}

async fn answer_all(mut stream: TcpStream, answer: std::rc::Rc<[u8]>) {
    let mut buffer = [0; 4096];
    let mut held = 0;
    loop {
        let Some(room) = buffer.get_mut(held..).filter(|room| !room.is_empty()) else { return };
        match stream.read(room).await {
            Ok(0) | Err(_) => return,
            Ok(read) => held += read,
        }
        let Some((head, more)) = body(buffer.get(..held).unwrap_or_default()) else { continue };
        // Of a body, some may have come with its head.
        let left = (head + more).saturating_sub(held);
        if held > head + more || skip(&mut stream, left).await.is_err() {
            return;
        }
        held = 0;
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Once all of a head is there: its length, and that of the body after it.
fn body(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    Some((end + 4, head.lines().find_map(field).unwrap_or_default()))
}

/// Reads so many bytes that nobody wants.
async fn skip(stream: &mut TcpStream, mut left: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(left)];
    while left > 0 {
        let most = buffer.len().min(left);
        match stream.read(buffer.get_mut(..most).unwrap_or_default()).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => left -= read,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_head_and_as_much_as_that_says() {
        for (bytes, wanted) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r", None),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Some((27, 0))),
            ("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nab", Some((39, 12))),
        ] {
            assert_eq!(body(bytes.as_bytes()), wanted, "{bytes}");
        }
    }
}
