//! For tests of names: sockets on loopback, upstream servers that say what they are told to. Owns nothing that ships.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_process::net::TcpStream;
use ambit_sys::socket::Listening;
use ambit_wire::dns::{Carrier, Failure, Question};

use super::resolvers::Told;
use crate::sockets::{Connecting, Sockets, SocketsError};

/// A question for an address, with a number, and without options.
pub(super) fn ask(name: &str, id: u16) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The question an upstream was asked, answered with this address, as an upstream does.
pub(super) fn answered(asked: &[u8], ip: [u8; 4]) -> Vec<u8> {
    Question::parse(asked).unwrap().answer(None, &[IpAddr::from(ip)], Carrier::Tcp)
}

pub(super) fn failed(asked: &[u8]) -> Vec<u8> {
    Question::parse(asked).unwrap().failure(Failure::Failed)
}

/// The last four bytes: the address, where there is one.
pub(super) fn address(answer: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&answer[answer.len() - 4..]).unwrap())
}

/// An upstream: over UDP, all it says to the nth question; over TCP, one answer. Ends with its holder, within reason.
pub(super) struct Upstream {
    pub(super) at: SocketAddr,
    pub(super) asked: Arc<AtomicUsize>,
}

type Script = fn(usize, &[u8]) -> Vec<Vec<u8>>;

impl Upstream {
    pub(super) fn new(script: Script) -> Self {
        let (socket, stream) = pair();
        let at = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let nth = counted.fetch_add(1, Ordering::Relaxed);
                for said in script(nth, &buffer[..length]) {
                    socket.send_to(&said, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            let (mut stream, _) = stream.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&super::forward::framed(&answered(&asked, [10, 9, 9, 9]))).unwrap();
        });
        Self { at, asked }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Both carriers at one port. A port that is free for one may be taken for the other, by a test beside this one.
fn pair() -> (UdpSocket, TcpListener) {
    let one = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let listener = TcpListener::bind(socket.local_addr()?)?;
        Ok::<_, std::io::Error>((socket, listener))
    };
    (0..64).find_map(|_| one().ok()).unwrap()
}

/// These, waited for as if there were no others to be asked: nobody is asked twice because the machine is busy.
pub(super) fn told(servers: &[&Upstream], limit: Duration) -> Told {
    let servers = servers.iter().map(|it| it.at).collect();
    Told { servers, search: Vec::new(), limit, patience: limit, attempts: 2 }
}

/// Sockets of our own namespace; names are asked at whatever ports are free.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) bound: Mutex<Vec<SocketAddr>>,
    pub(super) own: Vec<IpAddr>,
}

impl Sockets for Fake {
    fn listen(&self, _: u16) -> Result<Listening, SocketsError> {
        unreachable!("no connections here")
    }

    fn connect(&self, to: SocketAddr, _: Option<IpAddr>) -> Connecting {
        Box::pin(TcpStream::connect(to))
    }

    fn listen_names(&self, _: SocketAddr) -> Result<(UdpSocket, TcpListener), SocketsError> {
        let (socket, listener) = pair();
        let at = socket.local_addr().unwrap();
        socket.set_nonblocking(true).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.bound.lock().unwrap().push(at);
        Ok((socket, listener))
    }

    fn ask(&self, to: SocketAddr) -> Result<UdpSocket, SocketsError> {
        assert!(to.is_ipv4());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Ok(socket)
    }

    fn owns(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
    }

    fn tune(&self, _: &TcpStream) -> std::io::Result<()> {
        Ok(())
    }
}
