//! A peer that reads its tunnel frame by frame: what it was told, and in which order. HTTP/2 by hand, for a library
//! would tell only what it makes of the frames.

#![expect(dead_code, reason = "each test file uses its part of the peer")]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::net::TcpStream;
use ambit_tls::ClientStream;
use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::handshake;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;

/// RFC 9113, 4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
    flags: u8,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM: their last four fixed bytes.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Whether it is the last of its stream.
    pub(crate) fn ends_stream(&self) -> bool {
        self.kind == RST_STREAM || (matches!(self.kind, DATA | HEADERS) && self.flags & 1 == 1)
    }
}

/// A tunnel to the server's proxy. Answers pings if it is polite.
pub(crate) struct Raw {
    runtime: Runtime,
    stream: ClientStream<TcpStream>,
    polite: bool,
}

impl Raw {
    /// Shakes hands over a connection, as whoever `identity` says, with the server.
    pub(crate) fn new(tcp: std::net::TcpStream, identity: &Path, polite: bool) -> Self {
        let read = |name| std::fs::read(identity.join(name)).unwrap();
        let material =
            Material::from_pem(&read("cert-chain.pem"), &read("key.pem"), &read("root-cert.pem")).unwrap();
        let credential = Credential::new(material, &Terms::default()).unwrap();
        let config =
            credential.dialling(Arc::new(["spiffe://cluster.local/ns/shop/sa/server".parse().unwrap()]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let stream = runtime.block_on(async move {
            let tcp = TcpStream::from_std(tcp).unwrap();
            let (mut stream, _) = handshake::connect(config, tcp).await.unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            stream
        });
        let mut this = Self { runtime, stream, polite };
        this.send(SETTINGS, 0, 0, &[]).unwrap();
        this
    }

    /// Asks for a connection to `target`, and returns whether the answer is 200.
    pub(crate) fn connect(&mut self, stream: u32, target: SocketAddr) -> bool {
        let authority = target.to_string();
        // RFC 7541, 6.2.2: literals without indexing; names by index 2 (:method) and 1 (:authority).
        let mut block = vec![0x02, 7];
        block.extend(b"CONNECT");
        block.extend([0x01, u8::try_from(authority.len()).unwrap()]);
        block.extend(authority.as_bytes());
        self.send(HEADERS, END_HEADERS, stream, &block).unwrap();
        let answer = self.until(|frame| frame.kind == HEADERS && frame.stream == stream);
        // RFC 7541, Appendix A: index 8 is `:status: 200`.
        answer.last().is_some_and(|frame| frame.payload.first() == Some(&0x88))
    }

    /// One request on an open stream; whether anything came back.
    pub(crate) fn ask(&mut self, stream: u32) -> bool {
        self.send(DATA, 0, stream, b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").unwrap();
        let answer = self.until(|frame| frame.stream == stream);
        answer.last().is_some_and(|frame| frame.kind == DATA && !frame.payload.is_empty())
    }

    /// The certificate that the server has shown.
    pub(crate) fn server_certificate(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// The frame that ends a stream, or the last of the tunnel.
    pub(crate) fn until_stream_ends(&mut self, stream: u32) -> Frame {
        let frames = self.until(|frame| frame.stream == stream && frame.ends_stream());
        frames.last().cloned().expect("a frame before the end")
    }

    /// All frames until the tunnel's end; a reset of TCP is an end, too.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        self.until(|_| false)
    }

    /// Frames up to the first that fits, or to the tunnel's end.
    fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next() {
            let last = fits(&frame);
            all.push(frame);
            if last {
                break;
            }
        }
        all
    }

    fn next(&mut self) -> Option<Frame> {
        let frame = self.runtime.block_on(async { timeout(PATIENCE, read(&mut self.stream)).await });
        let frame = match frame.expect("a frame, or the end of the tunnel") {
            Ok(frame) => frame,
            Err(error) => {
                let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(ends.contains(&error.kind()), "{error:?}");
                return None;
            }
        };
        // A peer that is gone cannot be answered; the next read says so.
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            let _ = self.send(SETTINGS, ACK, 0, &[]);
        }
        if self.polite && frame.kind == PING && frame.flags & ACK == 0 {
            let _ = self.send(PING, ACK, 0, &frame.payload);
        }
        Some(frame)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.runtime.block_on(async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        })
    }
}

async fn read(stream: &mut ClientStream<TcpStream>) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff;
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}
