//! What a request meets in the place of a backend (`waypoint.md` 4.1): an answer that a rule holds ready, or a fault
//! that it puts in the way. Owns the nouns and how chance decides.

use std::sync::Arc;
use std::time::Duration;

use super::filter::Share;
use crate::balance::Pick;

/// An answer that is held ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// Its status.
    pub status: u16,
    /// All of its body. Shared: it may be large, and goes out often.
    pub body: Arc<[u8]>,
}

/// What is put in the way of requests, to see how others bear it: first the delay, then the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fault {
    /// Some wait.
    pub delay: Option<Delay>,
    /// Some go no further.
    pub abort: Option<Abort>,
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// For how long.
    pub time: Duration,
    /// How many of the requests.
    pub share: Share,
}

/// An end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// With what.
    pub with: AbortWith,
    /// How many of the requests.
    pub share: Share,
}

/// How a request ends that goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortWith {
    /// With this status.
    Http(u16),
    /// With this status of gRPC.
    Grpc(u16),
}

impl Fault {
    /// How long this very request waits.
    pub fn waits(&self, pick: &mut impl Pick) -> Option<Duration> {
        self.delay.filter(|it| it.share.takes(pick)).map(|it| it.time)
    }

    /// How this very request ends, if it goes no further.
    pub fn ends(&self, pick: &mut impl Pick) -> Option<AbortWith> {
        self.abort.filter(|it| it.share.takes(pick)).map(|it| it.with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Always;

    #[test]
    fn each_fault_takes_its_own_share_of_requests() {
        let share = Share::new(30, 100).unwrap();
        let fault = Fault {
            delay: Some(Delay { time: Duration::from_secs(1), share: Share::ALL }),
            abort: Some(Abort { with: AbortWith::Http(503), share }),
        };
        for (at, ends) in [(0, Some(AbortWith::Http(503))), (29, Some(AbortWith::Http(503))), (30, None)] {
            assert_eq!(fault.ends(&mut Always(at)), ends, "{at}");
            assert_eq!(fault.waits(&mut Always(at)), Some(Duration::from_secs(1)), "{at}");
        }
        assert_eq!(Fault::default().waits(&mut Always(0)), None);
        assert_eq!(Fault::default().ends(&mut Always(0)), None);
    }
}
