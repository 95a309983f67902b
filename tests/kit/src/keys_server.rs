//! Somebody who publishes keys, and can be as wrong about it as a test needs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ambit_process::net::TcpListener;
use ambit_process::tasks::Tasks;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is answered.
#[derive(Debug, Clone)]
pub enum Publishes {
    /// This, as a key set or as whatever else.
    Page(String),
    /// This status, and no keys.
    Status(u16),
    /// Nothing at all, for as long as anybody waits.
    Silence,
    /// Just these bytes, and an end.
    Raw(Vec<u8>),
    /// Bytes without an end.
    Endless,
}

impl Publishes {
    /// These keys.
    #[must_use]
    pub fn keys(keys: &[Value]) -> Self {
        Self::Page(serde_json::json!({ "keys": keys }).to_string())
    }
}

/// A server of keys. Lives as long as the tasks that it was started among.
#[derive(Debug, Clone)]
pub struct KeysServer {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    publishes: Mutex<Publishes>,
    asked: AtomicUsize,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Publishes> {
        self.publishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeysServer {
    /// Starts one on this machine.
    ///
    /// # Panics
    /// When no port is to be had.
    pub async fn start(publishes: Publishes, tasks: &mut Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State { publishes: Mutex::new(publishes), asked: AtomicUsize::new(0) });
        let served = Arc::clone(&state);
        tasks.spawn("keys server", move |stop| async move {
            let mut open = Tasks::new(&stop);
            loop {
                let mut stream = tokio::select! {
                    () = stop.stopped() => return,
                    taken = listener.accept() => match taken {
                        Ok((stream, _)) => stream,
                        Err(_) => return,
                    },
                };
                let state = Arc::clone(&served);
                open.spawn("keys", move |stop| async move {
                    tokio::select! {
                        () = answer(&mut stream, &state) => {}
                        () = stop.stopped() => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    /// The address of a page.
    #[must_use]
    pub fn uri(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Publishes something else from now on.
    pub fn publish(&self, publishes: Publishes) {
        *self.state.lock() = publishes;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

async fn answer(stream: &mut ambit_process::net::TcpStream, state: &State) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 8192 => head.push(byte),
            _ => return,
        }
    }
    // Counted by what was published when it was asked, before anybody can have seen the answer.
    let publishes = state.lock().clone();
    state.asked.fetch_add(1, Ordering::SeqCst);
    let length = |body: &str| format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let bytes = match publishes {
        Publishes::Page(text) => format!("HTTP/1.1 200 OK\r\n{}", length(&text)).into_bytes(),
        Publishes::Status(status) => format!("HTTP/1.1 {status} No\r\n{}", length("{}")).into_bytes(),
        Publishes::Raw(bytes) => bytes,
        Publishes::Silence => return std::future::pending().await,
        Publishes::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            return;
        }
    };
    // Whoever left does not need it.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}
