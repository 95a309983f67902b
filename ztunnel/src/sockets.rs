//! The sockets of one pod: listeners and outgoing connections in its namespace, with our mark.
//! Owns how they are made and the wait for a connect. What flows through them is the callers'.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::time::Duration;

use ambit_process::net::{TcpSocket, TcpStream};
use ambit_sys::netns::{Netns, NetnsError};
use ambit_sys::socket::{self, Keepalive, Listen, Listening, Mark, Outgoing, SocketError, Transparency};
use tokio::time::timeout;
use tracing::warn;

use crate::config;
use crate::outcome::chain;

/// Longer than any healthy network needs, shorter than people wait.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Connections that may wait to be accepted, on each listener; also while a restart overlaps.
const BACKLOG: i32 = 1024;

/// `EAFNOSUPPORT`: the kernel was started without IPv6.
const NO_SUCH_FAMILY: i32 = 97;

/// `EADDRNOTAVAIL`: no interface of the namespace has the address.
const NO_SUCH_ADDRESS: i32 = 99;

/// A connection on its way. What the network said; a silent one is `TimedOut`.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Where a pod's sockets come from: its namespace, or a fake.
pub trait Sockets: Send + Sync + 'static {
    /// A listener on one of our ports.
    ///
    /// # Errors
    /// When the port is taken, or the namespace or a right is missing.
    fn listen(&self, port: u16) -> Result<Listening, SocketsError>;

    /// Connects to `to`, in bounded time; if a client is given, `to` sees it as its peer, where that is possible.
    fn connect(&self, to: SocketAddr, client: Option<IpAddr>) -> Connecting;

    /// Both sockets where names are asked.
    ///
    /// # Errors
    /// When the port is taken, or the address, the namespace or a right is missing.
    fn listen_names(&self, at: SocketAddr) -> Result<(UdpSocket, TcpListener), SocketsError>;

    /// A socket for one question to `to`, on a port of chance.
    ///
    /// # Errors
    /// When the namespace or a right is missing.
    fn ask(&self, to: SocketAddr) -> Result<UdpSocket, SocketsError>;

    /// Whether an address is one of the namespace's own.
    fn owns(&self, ip: IpAddr) -> bool;

    /// What an accepted connection is given.
    ///
    /// # Errors
    /// When the connection has ended already.
    fn tune(&self, accepted: &TcpStream) -> io::Result<()>;
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The namespace cannot be entered.
    #[error("cannot work in the pod's namespace")]
    Namespace(#[from] NetnsError),
    /// The socket cannot be made.
    #[error("{0}: {source}", source = .0.source)]
    Socket(#[from] SocketError),
}

impl SocketsError {
    /// The family is switched off there.
    pub(crate) fn no_such_address(&self) -> bool {
        let codes = [Some(NO_SUCH_FAMILY), Some(NO_SUCH_ADDRESS)];
        matches!(self, Self::Socket(error) if codes.contains(&error.source.raw_os_error()))
    }
}

/// Sockets in a namespace.
pub struct InNamespace {
    netns: Option<Netns>,
    mark: Option<Mark>,
    transparency: Transparency,
    reuse_port: bool,
    ipv6: bool,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
}

impl InNamespace {
    /// In `netns`, or in our own namespace.
    #[must_use]
    pub fn new(netns: Option<Netns>, traffic: &config::Traffic, reuse_port: bool) -> Self {
        let keepalive =
            traffic.keepalive.map(|k| Keepalive { idle: k.idle, interval: k.interval, probes: k.probes });
        Self {
            netns,
            mark: traffic.mark.map(Mark),
            transparency: match traffic.original_source {
                None => Transparency::Try,
                Some(true) => Transparency::Require,
                Some(false) => Transparency::Off,
            },
            reuse_port,
            ipv6: traffic.ipv6,
            keepalive,
            user_timeout: traffic.user_timeout,
        }
    }

    /// An unconnected socket that is fit for `to`.
    ///
    /// # Errors
    /// When the namespace or a right is missing.
    pub fn outgoing(
        &self,
        to: SocketAddr,
        borrow_source: Option<IpAddr>,
    ) -> Result<std::net::TcpStream, SocketsError> {
        let how = Outgoing {
            mark: self.mark,
            borrow_source,
            keepalive: self.keepalive,
            user_timeout: self.user_timeout,
        };
        self.inside(|| socket::outgoing(to, &how))
    }

    fn inside<T>(&self, work: impl FnOnce() -> Result<T, SocketError>) -> Result<T, SocketsError> {
        Ok(match &self.netns {
            Some(netns) => netns.run(work)??,
            None => work()?,
        })
    }

    fn listen_at(&self, at: SocketAddr, transparency: Transparency) -> Result<Listening, SocketsError> {
        let how = Listen { at, mark: self.mark, transparency, reuse_port: self.reuse_port, backlog: BACKLOG };
        self.inside(|| socket::listen(&how))
    }
}

impl Sockets for InNamespace {
    fn listen(&self, port: u16) -> Result<Listening, SocketsError> {
        if self.ipv6 {
            match self.listen_at((Ipv6Addr::UNSPECIFIED, port).into(), self.transparency) {
                Err(SocketsError::Socket(error)) if error.source.raw_os_error() == Some(NO_SUCH_FAMILY) => {}
                outcome => return outcome,
            }
        }
        self.listen_at((Ipv4Addr::UNSPECIFIED, port).into(), self.transparency)
    }

    fn connect(&self, to: SocketAddr, client: Option<IpAddr>) -> Connecting {
        // An address cannot be borrowed by its own owner, nor across families.
        let client = client.filter(|client| *client != to.ip() && client.is_ipv4() == to.is_ipv4());
        let made = match (self.outgoing(to, client), client) {
            (Err(error), Some(_)) => {
                warn!(error = chain(&error), "the application will not see its client's address");
                self.outgoing(to, None)
            }
            (made, _) => made,
        };
        Box::pin(finish(made, to))
    }

    fn listen_names(&self, at: SocketAddr) -> Result<(UdpSocket, TcpListener), SocketsError> {
        // Marked, too: rules tell our answers from those of other servers by it.
        let udp = self.inside(|| socket::bind_udp(at, self.mark, self.reuse_port))?;
        Ok((udp, self.listen_at(at, Transparency::Off)?.socket))
    }

    fn ask(&self, to: SocketAddr) -> Result<UdpSocket, SocketsError> {
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.inside(|| socket::bind_udp(SocketAddr::new(any, 0), self.mark, false))
    }

    fn owns(&self, ip: IpAddr) -> bool {
        self.inside(|| socket::bind_udp(SocketAddr::new(ip, 0), None, false)).is_ok()
    }

    fn tune(&self, accepted: &TcpStream) -> io::Result<()> {
        socket::tune(accepted, self.keepalive, self.user_timeout)
    }
}

async fn finish(made: Result<std::net::TcpStream, SocketsError>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(made.map_err(io::Error::other)?);
    match timeout(CONNECT_WAIT, socket.connect(to)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
