//! Two-way copies: application and tunnel, or application and destination. Half-close, reset and back-pressure
//! go through as they are. Counts bytes by the caller's meter; logs nothing, knows no policy.

mod buffer;
mod plain;
mod reset;
mod tunnel;

pub use plain::plain;
pub use reset::Reset;
pub use tunnel::tunnel;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ambit_process::net::TcpStream;
use h2::Reason;

use crate::cut::Why;

/// Counts bytes as they pass. Called once per read.
pub trait Meter {
    /// Bytes came from the application (the accepted side).
    fn app_sent(&self, bytes: usize);
    /// Bytes were written to the application.
    fn app_received(&self, bytes: usize);
}

/// A meter that just adds up.
#[derive(Debug, Default)]
pub struct Count {
    app_sent: AtomicU64,
    app_received: AtomicU64,
}

impl Count {
    /// Bytes that came from the application.
    #[must_use]
    pub fn total_sent(&self) -> u64 {
        self.app_sent.load(Ordering::Relaxed)
    }

    /// Bytes that were written to the application.
    #[must_use]
    pub fn total_received(&self) -> u64 {
        self.app_received.load(Ordering::Relaxed)
    }
}

impl Meter for Count {
    fn app_sent(&self, bytes: usize) {
        self.app_sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    fn app_received(&self, bytes: usize) {
        self.app_received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// How a copy ended.
#[derive(Debug)]
pub enum Outcome {
    /// Both halves were closed.
    Closed,
    /// The application broke its connection; the far end was told.
    App(io::Error),
    /// The far end reset the stream; the application was told.
    Peer(Reset),
    /// The tunnel broke; the application was told.
    Tunnel(h2::Error),
    /// The destination of a plain copy broke its connection; the application was told.
    Destination(io::Error),
    /// It was cut; both ends were told.
    Cut(Why),
}

impl Outcome {
    /// A word for logs and labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::App(_) => "app_reset",
            Self::Peer(_) => "peer_reset",
            Self::Tunnel(_) => "tunnel_lost",
            Self::Destination(_) => "destination_reset",
            Self::Cut(Why::Stopped) => "stopped",
            Self::Cut(Why::Revoked) => "revoked",
        }
    }
}

/// Why one direction ended early.
enum Broken {
    App(io::Error),
    Peer(Reason),
    Tunnel(h2::Error),
    Destination(io::Error),
}

impl From<Broken> for Outcome {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::App(error) => Self::App(error),
            Broken::Peer(reason) => Self::Peer(reason.into()),
            Broken::Tunnel(error) => Self::Tunnel(error),
            Broken::Destination(error) => Self::Destination(error),
        }
    }
}

/// Makes the kernel send RST, not FIN, when `tcp` is dropped: its reader must not take a part for the whole.
fn reset_on_drop(tcp: &TcpStream) {
    // Best effort: a socket that is already dead refuses the option.
    let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
