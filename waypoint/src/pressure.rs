//! What a waypoint does when there is more to do than it can (`waypoint.md` 6.4): a ladder of five rungs, each in force
//! with all that are below it. Owns who is looked at how often, what each rung is for, and that what is done is counted;
//! when a rung is in force is `ladder`'s, and doing it is its place's: whoever opens, copies, refuses or ends something
//! asks here first, which costs one read. No policy is among what is left out.

mod delay;
mod ladder;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use ambit_hbone::Windows;
use ambit_process::clock::{Instant, now};
use ambit_process::stop::Stop;
use ambit_process::usage::own_memory;
use ambit_proxy::side::Reason;
use ambit_sys::pages::release_heap;
use tokio::time::{sleep, sleep_until};
use tracing::{info, warn};

use crate::lane::Lane;
use crate::metrics::Rung;
use crate::room::memory::limit;
use crate::stream::Inbound;
use delay::Delay;
use ladder::{LAST, Ladder, Seen};

/// What may be under way to us on a new connection of HTTP/2, and on each of its requests, while there is little room:
/// what every client has before it is told anything (RFC 9113, 6.9.2), and less it cannot be told.
pub(crate) const WINDOW_SMALL: u32 = 65_535;
/// The same of a new tunnel: sixteen of its streams may stand still before the others feel it.
const WINDOWS_SMALL: Windows = Windows { stream: WINDOW_SMALL, tunnel: 1024 * 1024, frame: 16 * 1024 };

/// How often a thread with work is looked at; and one without, which is not to wake for nothing.
const LOOK_EACH: Duration = Duration::from_millis(100);
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// Looks from one goodbye to the largest clients to the next: they need a moment to go.
const LOOKS_TO_LEAVE: u32 = 10;
/// How often memory is measured. A gigabit brings 30 MiB meanwhile, which is what a limit of 1 GiB has left at the last
/// rung.
const MEASURE_EACH: Duration = Duration::from_millis(250);
/// How often the heap's pages that hold nothing are given back while memory is short: it looks through all of the heap.
const RELEASE_EACH: Duration = Duration::from_secs(10);
/// Requests that clients share at least, before what a rung takes of them: with a handful under way there is no largest.
const SHARED_LEAST: usize = 32;

/// What is done for a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// A new connection of HTTP/2, or a new tunnel, gets small windows.
    SmallWindow,
    /// A copy of a request is not sent.
    NoMirror,
    /// A request is not given to a second endpoint.
    NoHedge,
    /// The spans of a request are not recorded.
    NoSpan,
    /// A request is refused: its client has its share.
    RefuseRequest,
    /// A connection is to end: its client has the largest share.
    SendAway,
    /// A new tunnel, or a request for a new stream of one, is refused.
    RefuseTunnel,
}

impl Measure {
    /// Its rung.
    const fn rung(self) -> u8 {
        match self {
            Self::SmallWindow => 1,
            Self::NoMirror | Self::NoHedge | Self::NoSpan => 2,
            Self::RefuseRequest => 3,
            Self::SendAway => 4,
            Self::RefuseTunnel => 5,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::SmallWindow => "small_window",
            Self::NoMirror => "no_mirror",
            Self::NoHedge => "no_hedge",
            Self::NoSpan => "no_span",
            Self::RefuseRequest => "request_refused",
            Self::SendAway => "connection_sent_away",
            Self::RefuseTunnel => "tunnel_refused",
        }
    }
}

/// How many rungs are in force for one thread.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU8);

/// How much of the memory that we may have is in use, in thousandths; measured by one, known to all threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<AtomicU32>);

/// Whether this is done now; if so, it is counted.
pub(crate) fn takes(lane: &Lane, measure: Measure) -> bool {
    let is_due = lane.pressure.0.load(Ordering::Relaxed) >= measure.rung();
    if is_due {
        count(lane, measure);
    }
    is_due
}

/// Counts what was done.
pub(crate) fn count(lane: &Lane, measure: Measure) {
    lane.shared.metrics.overload.get_or_create(&Reason(measure.as_str())).inc();
}

/// The windows of a new tunnel of a client.
pub(crate) fn windows(lane: &Lane) -> Windows {
    if takes(lane, Measure::SmallWindow) { WINDOWS_SMALL } else { lane.shared.windows }
}

/// Waits until a connection is to end at its next opportunity: to be opened anew elsewhere, or because its client has
/// more than others. Cancel-safe.
pub(crate) async fn parting(inbound: &Inbound) {
    // Cancel-safe: neither owns anything.
    tokio::select! {
        () = inbound.lane.shared.rebalance.due() => {}
        () = inbound.caller.share.sent_away() => count(&inbound.lane, Measure::SendAway),
    }
}

/// Looks at one thread for as long as it serves. To be run on that thread: how late it is woken is what it looks at.
pub(crate) async fn watch(lane: &Lane) -> Infallible {
    let (mut ladder, mut delay) = (Ladder::default(), Delay::default());
    let (mut under_way, mut looks) = (None, 0_u32);
    for rung in 1..=LAST {
        // There from the first scrape on, though nothing is in force.
        drop(lane.shared.metrics.rungs.get_or_create(&Rung(rung)));
    }
    loop {
        let is_idle = ladder.rungs() == 0 && lane.room.under_way() == 0;
        let due = now() + if is_idle { LOOK_SELDOM } else { LOOK_EACH };
        sleep_until(due).await;
        delay.note(now().saturating_duration_since(due));
        let seen = Seen { memory: lane.shared.memory.in_use(), delay: delay.least() };
        let before = ladder.rungs();
        let rungs = ladder.step(seen);
        if rungs != before {
            tell(lane, (before, rungs), seen);
        }
        // What clients share is a part of what was under way when it became too much: that is what could not be done.
        under_way = (rungs >= Measure::RefuseRequest.rung())
            .then(|| under_way.unwrap_or_else(|| lane.room.under_way().max(SHARED_LEAST)));
        lane.room.bind(under_way.map(|all| shared(all, rungs)));
        looks = looks.wrapping_add(1);
        if rungs >= Measure::SendAway.rung() && looks.is_multiple_of(LOOKS_TO_LEAVE) {
            lane.room.send_largest_away();
        }
    }
}

/// What clients share: half at the rung where requests are refused, and half of that at each further one.
fn shared(all: usize, rungs: u8) -> usize {
    all >> (rungs.saturating_sub(Measure::RefuseRequest.rung()) + 1).min(LAST)
}

/// Other rungs are in force for a thread than before.
fn tell(lane: &Lane, (before, rungs): (u8, u8), seen: Seen) {
    lane.pressure.0.store(rungs, Ordering::Relaxed);
    let is_narrow = rungs >= Measure::SmallWindow.rung();
    lane.tunnels.use_windows(if is_narrow { WINDOWS_SMALL } else { lane.shared.windows });
    for rung in before.min(rungs) + 1..=before.max(rungs) {
        let gauge = lane.shared.metrics.rungs.get_or_create(&Rung(rung));
        if rungs > before {
            gauge.inc()
        } else {
            gauge.dec()
        };
    }
    let (memory, delay) = (seen.memory / 10, seen.delay.as_millis());
    if rungs > before {
        warn!(rungs, memory_percent = memory, delay_ms = %delay, "there is too much to do");
    } else {
        info!(rungs, memory_percent = memory, delay_ms = %delay, "there is less to do");
    }
}

impl Memory {
    fn in_use(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Measures to the end of the program.
    pub(crate) async fn measure(self, stop: Stop) {
        let mut released: Option<Instant> = None;
        loop {
            let mut in_use = in_use();
            if ladder::is_short(in_use) && released.is_none_or(|at| at.elapsed() >= RELEASE_EACH) {
                // What was freed and is kept for later is not what is short.
                release_heap();
                (released, in_use) = (Some(now()), self::in_use());
            }
            self.0.store(in_use, Ordering::Relaxed);
            // Cancel-safe: nothing is owned but what is known.
            tokio::select! {
                () = stop.stopped() => return,
                () = sleep(MEASURE_EACH) => {}
            }
        }
    }
}

/// How much of the memory that we may have is in use now, in thousandths; nothing, if nobody says how much that is.
fn in_use() -> u32 {
    let Some(limit) = limit() else { return 0 };
    part(own_memory().unwrap_or_default(), limit)
}

fn part(used: u64, of: u64) -> u32 {
    let thousandths = u128::from(used) * 1000 / u128::from(of.max(1));
    u32::try_from(thousandths).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_a_part_of_what_there_may_be() {
        for (used, of, wanted) in [
            (0, 1 << 30, 0),
            (512 << 20, 1 << 30, 500),
            (2 << 30, 1 << 30, 2000),
            (1 << 30, 9_223_372_036_854_771_712, 0),
            (1, 0, 1000),
            (u64::MAX, 0, u32::MAX),
        ] {
            assert_eq!(part(used, of), wanted, "{used} of {of}");
        }
    }

    #[test]
    fn clients_share_half_of_what_was_too_much_and_less_at_each_further_rung() {
        assert_eq!([3, 4, 5].map(|rungs| shared(80, rungs)), [40, 20, 10]);
    }

    #[test]
    fn each_rung_is_for_something() {
        let all = [
            Measure::SmallWindow,
            Measure::NoMirror,
            Measure::NoHedge,
            Measure::NoSpan,
            Measure::RefuseRequest,
            Measure::SendAway,
            Measure::RefuseTunnel,
        ];
        let mut rungs = all.map(Measure::rung).to_vec();
        rungs.dedup();
        assert_eq!(rungs, (1..=LAST).collect::<Vec<_>>());
    }
}
