//! An HTTP/1.1 server that answers every request with the same body and keeps connections open.
//! Owns as much of HTTP as the load speaks: requests without a body, ended by an empty line.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

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
        if buffer.get(..held).is_some_and(|have| have.ends_with(b"\r\n\r\n")) {
            held = 0;
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
