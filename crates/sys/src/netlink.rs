//! A raw netlink socket: bytes to the kernel and bytes back.
//! Owns the socket, its buffers and its patience; `attribute` the bytes of messages, `talk` questions and their
//! answers, `nftables` the frame of transactions. Leaves every message's meaning to the caller.

pub mod attribute;
pub mod nftables;
pub mod talk;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Which part of the kernel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, rules.
    Route,
    /// Packet filtering (nftables), and the list of flows.
    Netfilter,
    /// The list of sockets.
    Sockets,
}

// Flags of messages, of linux/netlink.h.
/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 4;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

/// A netlink socket. It stays in the namespace it was opened in, wherever its owner goes.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

/// What fits into one datagram to the kernel, and from it: dumps come in pieces of at most 32 KiB.
pub const DATAGRAM: usize = 64 << 10;

/// Room for a large transaction, which goes to the kernel whole.
const SEND_BUFFER: usize = 8 << 20;

/// Room for acknowledgements of a large batch, one for each message.
const RECEIVE_BUFFER: usize = 1 << 20;

impl Netlink {
    /// Opens a socket in the calling thread's namespace (see [`crate::netns::Netns::run`]). The kernel answers at once,
    /// so `patience` is only a guard against waiting for an answer that does not come.
    pub fn open(family: Family, patience: Duration) -> io::Result<Self> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
            Family::Sockets => SockProtocol::NetlinkSockDiag,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1);
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(millis))?;
        // Beyond the system's limit where allowed, else up to it: only very large batches would notice.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER));
        let _ = setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER)
            .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER));
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(fd))
    }

    /// Sends messages in one datagram: for Netfilter, one transaction.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        let sent = again(|| send(self.0.as_raw_fd(), messages, MsgFlags::empty()))?;
        if sent == messages.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one datagram of messages. `WouldBlock` when nothing came in time.
    pub fn recv<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let got = again(|| recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC))?;
        // With MSG_TRUNC the true length is told, so a cut datagram is noticed.
        buffer
            .get(..got)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut"))
    }

    /// The same, but an empty answer instead of waiting when nothing is there.
    pub fn try_recv<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match again(|| recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT)) {
            Ok(got) => Ok(buffer.get(..got)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn again(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    /// RTM_GETLINK as a dump: header, then an empty `ifinfomsg`.
    fn list_links() -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes[0] = 32;
        bytes[4] = 18;
        bytes[7] = 3;
        bytes[6] = 1;
        bytes
    }

    #[test]
    fn the_kernel_answers_from_the_namespace_the_socket_was_opened_in() {
        let ns = Netns::anonymous().expect("needs root");
        let link = ns.run(|| Netlink::open(Family::Route, Duration::from_secs(2)).unwrap()).unwrap();
        link.send(&list_links()).unwrap();
        let mut buffer = vec![0; DATAGRAM];
        let answer = link.recv(&mut buffer).unwrap();
        // RTM_NEWLINK for the first link, which is `lo`, number 1.
        assert_eq!((answer[4], answer[20]), (16, 1));
    }

    #[test]
    fn silence_ends_after_the_patience() {
        let link = Netlink::open(Family::Netfilter, Duration::from_millis(10)).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(link.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(link.try_recv(&mut buffer).unwrap(), None);
    }
}
