//! When a subscriber tries again. Owns the delays; chance is passed in, time is the caller's.
//! Always with jitter: after a restart of the control plane its subscribers must not return as one.

use std::time::Duration;

/// The first delay, and the one after a stream that worked.
const FIRST: Duration = Duration::from_millis(10);
/// The longest delay, before jitter. What was changed while the control plane was away is in force so much later. A
/// thousand nodes that knock every three seconds are some hundred handshakes a second: a small part of a core.
const LONGEST: Duration = Duration::from_secs(3);

/// How a stream, or the attempt to open one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// No stream came to be: no connection, no handshake, no answer.
    Unreachable(String),
    /// The stream ended in order.
    Closed,
    /// The transport was lost, or the server shed the connection.
    Lost(String),
    /// The server refused: not authenticated, not permitted, not ready.
    Refused(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Lost(why) => write!(f, "lost: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// The delay to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: FIRST }
    }
}

impl Backoff {
    /// The delay after `ending`. `worked`: the stream had brought at least one response; without that even an
    /// orderly end counts as a failure, or a server that hangs up at once would be called a hundred times a second.
    /// `chance` is in 0..=`u32::MAX`; the delay lies between half and one and a half of the base.
    pub fn after(&mut self, ending: &Ending, worked: bool, chance: u32) -> Duration {
        let starts_over = worked && matches!(ending, Ending::Closed | Ending::Lost(_));
        self.base = if starts_over { FIRST } else { (self.base * 2).min(LONGEST) };
        self.base / 2 + self.base.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Ending {
        Ending::Refused("no".into())
    }

    #[test]
    fn failures_double_the_delay_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..12).map(|_| backoff.after(&refused(), true, 0).as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1280, 1500, 1500, 1500, 1500]);
    }

    #[test]
    fn a_stream_that_worked_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.after(&refused(), false, 0);
        }
        for ending in [Ending::Closed, Ending::Lost("reset".into())] {
            assert_eq!(backoff.clone().after(&ending, true, 0), FIRST / 2, "{ending}");
            assert!(backoff.clone().after(&ending, false, 0) > Duration::from_secs(1), "{ending}");
        }
    }

    #[test]
    fn chance_spreads_the_delay_and_never_takes_it_away() {
        for (chance, delay) in [(0, FIRST / 2), (u32::MAX, FIRST * 3 / 2)] {
            assert_eq!(Backoff::default().after(&Ending::Closed, true, chance), delay);
        }
    }
}
