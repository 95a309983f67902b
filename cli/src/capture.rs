//! What is seen on the wire: frames in a namespace, taken with a packet socket and cut down to TCP payloads.
//! Needs no tcpdump. Keeps counts and the payloads' beginnings, within a limit.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::local::{SpaceError, within};

/// Longest frame that is taken: a full Ethernet frame, or what the kernel coalesced into one.
const FRAME_LIMIT: usize = 65_600;
/// Payload kept of all segments together; the demo's exchanges are a few KiB each.
const KEPT_LIMIT: usize = 4 * 1024 * 1024;
/// How often the thread looks whether it is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The kernel's queue of frames not yet taken.
const QUEUE: usize = 4 * 1024 * 1024;

/// One TCP segment that carried bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: (IpAddr, u16),
    pub(crate) to: (IpAddr, u16),
    pub(crate) payload: Vec<u8>,
}

/// Frames being taken.
pub(crate) struct Capture {
    over: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<Segment>>>,
    thread: Option<JoinHandle<()>>,
}

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("this kernel has no packet sockets (CONFIG_PACKET)")]
    NoKernelSupport,
    #[error("cannot open a packet socket")]
    Socket(#[source] io::Error),
}

impl Capture {
    /// Starts taking every frame on every link of the namespace.
    pub(crate) fn start(space: &Path) -> Result<Self, CaptureError> {
        let socket = within(space, open)??;
        let (over, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (seen, into) = (Arc::clone(&over), Arc::clone(&kept));
        let thread = std::thread::spawn(move || take(&socket, &seen, &into));
        Ok(Self { over, kept, thread: Some(thread) })
    }

    /// Ends, and returns what was seen. Frames already sent are still taken.
    pub(crate) fn finish(mut self) -> Vec<Segment> {
        self.end();
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic; if it did, what it kept is still there.
            let _ended = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether these bytes occur in any payload.
pub(crate) fn shows(segments: &[Segment], text: &str) -> bool {
    segments.iter().any(|s| s.payload.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Whether the segment begins with a TLS record.
pub(crate) fn is_tls(segment: &Segment) -> bool {
    // RFC 8446, 5.1: type (handshake, application data, change cipher spec, alert) and legacy version.
    matches!(segment.payload.as_slice(), [20..=23, 3, 1..=3, ..])
}

fn open() -> Result<OwnedFd, CaptureError> {
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = opened.map_err(|errno| match errno {
        nix::errno::Errno::EAFNOSUPPORT => CaptureError::NoKernelSupport,
        other => CaptureError::Socket(other.into()),
    })?;
    let failed = |errno: nix::errno::Errno| CaptureError::Socket(errno.into());
    let wait = TimeVal::new(0, i64::try_from(LOOK_AGAIN.as_micros()).unwrap_or(20_000));
    setsockopt(&socket, sockopt::ReceiveTimeout, &wait).map_err(failed)?;
    setsockopt(&socket, sockopt::RcvBuf, &QUEUE).map_err(failed)?;
    Ok(socket)
}

fn take(socket: &OwnedFd, over: &AtomicBool, into: &Mutex<Vec<Segment>>) {
    let mut frame = vec![0_u8; FRAME_LIMIT];
    let mut total = 0;
    loop {
        let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty());
        match length {
            Ok(length) => {
                let found = frame.get(..length).and_then(segment);
                let Some(found) = found.filter(|s| total + s.payload.len() <= KEPT_LIMIT) else { continue };
                total += found.payload.len();
                into.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            }
            // The queue is empty: only then may it end.
            Err(_) if over.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

/// The TCP payload of an Ethernet frame; none where there is no TCP, or no payload.
fn segment(frame: &[u8]) -> Option<Segment> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    const TCP: u8 = 6;
    let packet = frame.get(14..)?;
    let (from, to, tcp): (IpAddr, IpAddr, &[u8]) = match number(frame, 12)? {
        IPV4 if packet.get(9) == Some(&TCP) => {
            let head = usize::from(packet.first()? & 0x0f) * 4;
            let total = usize::from(number(packet, 2)?);
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (address(12)?, address(16)?, packet.get(head..total)?)
        }
        IPV6 if packet.get(6) == Some(&TCP) => {
            let total = usize::from(number(packet, 4)?) + 40;
            let address =
                |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (address(8)?, address(24)?, packet.get(40..total)?)
        }
        _ => return None,
    };
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    let ports = (number(tcp, 0)?, number(tcp, 2)?);
    (!payload.is_empty()).then(|| Segment {
        from: (from, ports.0),
        to: (to, ports.1),
        payload: payload.to_vec(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0_u8; 12];
        frame.extend([8, 0]);
        let total = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
        frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x1f, 0x90, 0x3a, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame.extend([0, 0, 0]);
        frame
    }

    #[test]
    fn a_segment_is_found_in_a_frame_without_its_padding() {
        let found = segment(&frame(b"GET /x")).unwrap();
        assert_eq!(found.payload, b"GET /x");
        assert_eq!((found.from.1, found.to.1), (8080, 15008));
        assert!(shows(&[found], "/x"));
        assert_eq!(segment(&frame(b"")), None);
    }

    #[test]
    fn a_frame_cut_anywhere_is_no_segment_and_no_panic() {
        let whole = frame(b"abc");
        for length in 0..whole.len() - 6 {
            assert_eq!(segment(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn tls_is_told_from_plain_text() {
        for (payload, tls) in [(&[22, 3, 1, 0][..], true), (&[23, 3, 3], true), (b"GET", false), (b"", false)]
        {
            let segment = segment(&frame(payload)).unwrap_or_else(|| Segment {
                from: ("10.0.0.1".parse().unwrap(), 1),
                to: ("10.0.0.2".parse().unwrap(), 2),
                payload: Vec::new(),
            });
            assert_eq!(is_tls(&segment), tls, "{payload:?}");
        }
    }
}
