//! A TCP server that sends back what it gets, in whatever namespace it is started.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::namespace::Namespace;

/// An echo server; it ends with the test's process.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    address: SocketAddr,
}

impl Echo {
    /// Starts one; port 0 takes a free one.
    #[must_use]
    pub fn start(at: SocketAddr) -> Self {
        Self::serve(TcpListener::bind(at).expect("an address to echo at"))
    }

    /// Starts one inside a namespace.
    #[must_use]
    pub fn start_in(namespace: &Namespace, at: SocketAddr) -> Self {
        Self::serve(namespace.within(|| TcpListener::bind(at).expect("an address to echo at")))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("the address it is bound to");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        Self { address }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn an_echo_server_in_a_namespace_is_reached_only_from_inside() {
        let namespace = Namespace::new();
        let echo = Echo::start_in(&namespace, "127.0.0.1:0".parse().unwrap());
        let answer = namespace.within(|| {
            let mut stream = TcpStream::connect(echo.address()).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        assert_eq!(&answer, b"hello");
    }
}
