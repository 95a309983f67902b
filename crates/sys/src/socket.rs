//! Socket options of the data path: listeners, outgoing sockets, original destinations.
//! Owns how a socket is made ready, in whatever namespace the calling thread is. Leaves accepting and connecting.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// The mark that packets of a socket carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u32);

/// Whether a listener takes connections to addresses that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transparency {
    /// Not asked for.
    Off,
    /// Asked for; the listener works without.
    Try,
    /// Needed: fail without.
    Require,
}

/// How to listen.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// Where; `[::]` takes IPv4 too.
    pub at: SocketAddr,
    /// The mark, also of what is accepted.
    pub mark: Option<Mark>,
    /// Transparent for both families.
    pub transparency: Transparency,
    /// Several processes may listen here at once.
    pub reuse_port: bool,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
}

/// A listener, and what it could be given.
#[derive(Debug)]
pub struct Listening {
    /// The listener, non-blocking.
    pub socket: TcpListener,
    /// It is transparent, so sockets that borrow a client's address will be possible too.
    pub transparent: bool,
}

/// Probes of a connection on which nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer before giving up.
    pub probes: u32,
}

/// How to make an outgoing socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing {
    /// The mark of its packets.
    pub mark: Option<Mark>,
    /// Speak from this address, though it is not ours.
    pub borrow_source: Option<IpAddr>,
    /// Keepalive probes.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// Which step of making a socket failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} for {at}")]
pub struct SocketError {
    /// The step.
    pub step: &'static str,
    /// The address it was for.
    pub at: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// Makes a TCP listener in the calling thread's namespace (see [`crate::netns::Netns::run`]).
pub fn listen(how: &Listen) -> Result<Listening, SocketError> {
    let at = how.at;
    let fail = |step| move |source| SocketError { step, at, source };
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))
        .map_err(fail("make a socket"))?;
    if at.is_ipv6() {
        socket.set_only_v6(false).map_err(fail("take both families"))?;
    }
    socket.set_reuse_address(true).map_err(fail("reuse the address"))?;
    if how.reuse_port {
        socket.set_reuse_port(true).map_err(fail("share the port"))?;
    }
    set_mark(&socket, how.mark).map_err(fail("set the mark"))?;
    let transparent = match how.transparency {
        Transparency::Off => false,
        Transparency::Try => set_transparent(&socket, at).is_ok(),
        Transparency::Require => {
            set_transparent(&socket, at).map(|()| true).map_err(fail("become transparent"))?
        }
    };
    socket.bind(&at.into()).map_err(fail("bind"))?;
    socket.listen(how.backlog).map_err(fail("listen"))?;
    socket.set_nonblocking(true).map_err(fail("stop blocking"))?;
    Ok(Listening { socket: socket.into(), transparent })
}

/// Makes a UDP socket bound to an address in the calling thread's namespace.
pub fn bind_udp(at: SocketAddr, mark: Option<Mark>, reuse_port: bool) -> Result<UdpSocket, SocketError> {
    let fail = |step| move |source| SocketError { step, at, source };
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))
        .map_err(fail("make a socket"))?;
    if reuse_port {
        socket.set_reuse_port(true).map_err(fail("share the port"))?;
    }
    set_mark(&socket, mark).map_err(fail("set the mark"))?;
    socket.bind(&at.into()).map_err(fail("bind"))?;
    socket.set_nonblocking(true).map_err(fail("stop blocking"))?;
    Ok(socket.into())
}

/// Makes an unconnected TCP socket in the calling thread's namespace, fit to connect to `to`; for
/// `tokio::net::TcpSocket::from_std_stream`. Without a delay, non-blocking.
pub fn outgoing(to: SocketAddr, how: &Outgoing) -> Result<TcpStream, SocketError> {
    let at = to;
    let fail = |step| move |source| SocketError { step, at, source };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
        .map_err(fail("make a socket"))?;
    set_mark(&socket, how.mark).map_err(fail("set the mark"))?;
    tune(&socket, how.keepalive, how.user_timeout).map_err(fail("disable delay"))?;
    if let Some(source) = how.borrow_source {
        borrow_source(&socket, SocketAddr::new(source, 0)).map_err(fail("borrow the client's address"))?;
    }
    socket.set_nonblocking(true).map_err(fail("stop blocking"))?;
    Ok(socket.into())
}

/// Sets what every data connection has: no delay (must succeed), keepalive and user timeout (may fail: a kernel
/// without them still carries the bytes).
pub fn tune(
    socket: &impl AsFd,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    if let Some(Keepalive { idle, interval, probes }) = keepalive {
        let wanted = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        let _ = socket.set_tcp_keepalive(&wanted);
    }
    if user_timeout.is_some() {
        let _ = socket.set_tcp_user_timeout(user_timeout);
    }
    Ok(())
}

/// Where the client meant to go before a redirection, in canonical form. `None`: the connection was not redirected,
/// or the kernel does not know any more.
#[must_use]
pub fn original_destination(connection: &impl AsFd) -> Option<SocketAddr> {
    let socket = SockRef::from(connection);
    let local = socket.local_addr().ok()?.as_socket()?;
    let local = canonical(local);
    // Asked by the family of the packets, not of the socket: an IPv4 lookup on an IPv6 connection finds nothing or,
    // after port reuse, another connection.
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket().map(canonical)
}

/// An IPv4-mapped IPv6 address as IPv4.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Brings up `lo` in the calling thread's namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`: it consists of integers and byte arrays.
    // WHY: the structure has a union, which cannot be written as a literal in full.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: `request` is a valid `ifreq` with a terminated name and outlives the call, which only reads it.
    // WHY: no safe wrapper sets interface flags.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `IFF_UP | IFF_RUNNING`.
const UP_AND_RUNNING: i16 = 0x41;

const SIOCSIFFLAGS: libc::Ioctl = libc::SIOCSIFFLAGS;

fn set_mark(socket: &Socket, mark: Option<Mark>) -> io::Result<()> {
    mark.map_or(Ok(()), |Mark(mark)| socket.set_mark(mark))
}

/// On an IPv6 socket both options set the same bit, and either may be missing in a kernel without that family.
fn set_transparent(socket: &Socket, at: SocketAddr) -> io::Result<()> {
    if at.is_ipv4() {
        return socket.set_ip_transparent_v4(true);
    }
    let four = socket.set_ip_transparent_v4(true);
    socket.set_ip_transparent_v6(true).or(four)
}

fn borrow_source(socket: &Socket, from: SocketAddr) -> io::Result<()> {
    set_transparent(socket, from)?;
    if from.is_ipv4() {
        socket.set_freebind_v4(true)?
    } else {
        socket.set_freebind_v6(true)?
    }
    // The port is chosen at connect time, when the destination is known: 28,000 connections to each destination
    // instead of 28,000 in all. Old kernels lack it, and lose only that.
    let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
    socket.bind(&from.into())
}

#[cfg(test)]
mod tests;
