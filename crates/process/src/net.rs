//! The sockets to import. Owns nothing: one place to swap tokio's for simulated ones.

pub use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixListener, UnixStream, lookup_host};
