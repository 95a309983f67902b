//! Packets with descriptors over a unix socket (`SOCK_SEQPACKET`).
//! Owns the two ends, non-blocking. Leaves waiting to the caller (`AsyncFd`), and what packets mean.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

/// Where connections arrive. The file is the caller's to delete.
#[derive(Debug)]
pub struct SeqPacketListener(Socket);

/// One connection.
#[derive(Debug)]
pub struct SeqPacket(Socket);

/// A packet that was received.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer are filled; 0: the peer has gone.
    pub len: usize,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Peers that may wait to be accepted; a node has one node proxy, two while it is being replaced.
const BACKLOG: i32 = 16;

/// The most descriptors Linux passes at once (`SCM_MAX_FD`). With room for all of them the control data can never
/// be cut, and none can leak.
const MOST_DESCRIPTORS: usize = 253;

impl SeqPacketListener {
    /// Listens at `path`. A file left there by a process that has gone is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The next connection, or `WouldBlock`.
    pub fn try_accept(&self) -> io::Result<SeqPacket> {
        let (socket, _) = self.0.accept()?;
        socket.set_nonblocking(true)?;
        Ok(SeqPacket(socket))
    }
}

impl SeqPacket {
    /// Connects to a listener. Does not wait: a unix socket connects at once, or `WouldBlock` says the backlog is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(Self(socket))
    }

    /// Two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        a.set_nonblocking(true)?;
        b.set_nonblocking(true)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one packet, whole or not at all, with at most one descriptor, or says `WouldBlock`.
    pub fn try_send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let parts = [IoSlice::new(packet)];
        let sent = sendmsg::<UnixAddr>(self.0.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?;
        if sent == packet.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }

    /// Receives one packet, or says `WouldBlock`. A packet larger than `buffer` is `InvalidData`, and is lost along
    /// with its descriptors.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for item in message.cmsgs()? {
            let ControlMessageOwned::ScmRights(raw) = item else { continue };
            // SAFETY: the kernel has just made these descriptors for this process and nobody else knows their numbers.
            // WHY: the safe wrapper hands out bare numbers, which would leak on any early return.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the packet is larger than the buffer"));
        }
        Ok(Received { len: message.bytes, descriptors })
    }
}

impl AsFd for SeqPacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SeqPacketListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SeqPacket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_packet_arrives_whole_with_its_descriptor() {
        let (a, b) = SeqPacket::pair().unwrap();
        let path = std::env::temp_dir().join(format!("ambit-pass-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"through").unwrap();
        file.rewind().unwrap();
        a.try_send(b"one", Some(file.as_fd())).unwrap();
        a.try_send(b"two", None).unwrap();
        let mut buffer = [0; 16];
        let first = b.try_recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..first.len], first.descriptors.len()), (&b"one"[..], 1));
        let mut text = String::new();
        File::from(first.descriptors.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let second = b.try_recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..second.len], second.descriptors.len()), (&b"two"[..], 0));
    }

    #[test]
    fn nothing_there_would_block_and_a_peer_that_left_reads_as_nothing() {
        let (a, b) = SeqPacket::pair().unwrap();
        let mut buffer = [0; 4];
        assert_eq!(b.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(b.try_recv(&mut buffer).unwrap().len, 0);
        assert_eq!(b.try_send(b"x", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error_and_the_next_one_is_read() {
        let (a, b) = SeqPacket::pair().unwrap();
        a.try_send(b"too long", None).unwrap();
        a.try_send(b"ok", None).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(b.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(b.try_recv(&mut buffer).unwrap().len, 2);
    }

    #[test]
    fn a_stale_socket_file_is_replaced() {
        let path = std::env::temp_dir().join(format!("ambit-seq-{}.sock", std::process::id()));
        drop(SeqPacketListener::bind(&path).unwrap());
        let listener = SeqPacketListener::bind(&path).unwrap();
        let _client = SeqPacket::connect(&path).unwrap();
        listener.try_accept().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
