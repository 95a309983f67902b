//! What passes between hosts: frames on the cluster's bridge, taken with a packet socket.
//! Owns taking and searching them; what should or should not be there is a test's to say.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ambit_sys::netns::Netns;
use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::layout::{LAN, Layout};

/// Longest frame that is taken: what the kernel coalesced into one.
const FRAME: usize = 65_600;
/// All frames together; what passes after that is counted as missed.
const KEPT: usize = 64 << 20;
/// The kernel's queue of frames not yet taken.
const QUEUE: usize = 8 << 20;
/// How often the thread looks whether it is to end.
const LOOK_AGAIN: i64 = 20_000;

/// Frames being taken.
pub struct Capture {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Frames>>,
}

/// Frames that were taken. One that passes the bridge is seen on both of its links.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    kept: Vec<Vec<u8>>,
    missed: usize,
}

impl Capture {
    /// Starts taking every frame that passes between two hosts.
    pub(crate) fn start(layout: &Layout) -> Result<Self> {
        let socket = Netns::open(&layout.pin(LAN))?.run_on_thread(open)??;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || take(&socket, &seen));
        Ok(Self { over, thread: Some(thread) })
    }

    /// Ends it; frames already sent are still taken.
    pub fn finish(mut self) -> Frames {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Frames {
    /// Whether these bytes passed in any one frame.
    pub fn contain(&self, bytes: &[u8]) -> bool {
        self.kept.iter().any(|frame| frame.windows(bytes.len().max(1)).any(|window| window == bytes))
    }

    /// How many were to or from this TCP or UDP port, over IPv4.
    pub fn with_port(&self, port: u16) -> usize {
        self.kept
            .iter()
            .filter(|frame| ports(frame).is_some_and(|(from, to)| from == port || to == port))
            .count()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// How many passed that were not kept: what is not in here may have been among them.
    pub fn missed(&self) -> usize {
        self.missed
    }
}

fn open() -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("this kernel has no packet sockets (CONFIG_PACKET)")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, LOOK_AGAIN))?;
    setsockopt(&socket, sockopt::RcvBuf, &QUEUE)?;
    Ok(socket)
}

fn take(socket: &OwnedFd, over: &AtomicBool) -> Frames {
    let (mut frame, mut frames, mut total) = (vec![0_u8; FRAME], Frames::default(), 0);
    loop {
        match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) if total + length <= KEPT => {
                total += length;
                frames.kept.push(frame[..length].to_vec());
            }
            Ok(_) => frames.missed += 1,
            // The queue is empty: only then may it end.
            Err(_) if over.load(Ordering::Relaxed) => return frames,
            Err(_) => {}
        }
    }
}

/// The ports of a frame of IPv4 that carries TCP or UDP.
fn ports(frame: &[u8]) -> Option<(u16, u16)> {
    let number = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let (kind, protocol) = (number(12)?, *frame.get(23)?);
    if kind != 0x0800 || !matches!(protocol, 6 | 17) {
        return None;
    }
    let inner = 14 + usize::from(frame.get(14)? & 0x0f) * 4;
    Some((number(inner)?, number(inner + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_behind_the_address_header_and_a_cut_frame_has_none() {
        let mut frame = vec![0_u8; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x1f, 0x90, 0x3a, 0xa0]);
        assert_eq!(ports(&frame), Some((8080, 15008)));
        for length in 0..frame.len() {
            assert_eq!(ports(&frame[..length]), None, "{length}");
        }
        let frames = Frames { kept: vec![frame], missed: 0 };
        assert_eq!((frames.with_port(15008), frames.with_port(80), frames.count()), (1, 0, 1));
        assert!(frames.contain(&[10, 0, 0, 2, 0x1f]) && !frames.contain(b"nothing"));
    }
}
