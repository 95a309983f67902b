//! Streams between nodes and the control plane: ordered and reliable while they live, as TCP makes them, on a network
//! that loses (which costs time), is partitioned (which costs the stream, if it lasts) and resets.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

/// One stream, over its whole life at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// A stream on the network; what its ends believe is theirs.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) node: usize,
    /// Nothing passes any more, whether or not the ends know.
    pub(super) dead: bool,
    /// When the latest message of each direction arrives: none overtakes another.
    up: Duration,
    down: Duration,
}

/// The network between three nodes and a control plane.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) streams: BTreeMap<StreamId, Stream>,
    opened: u64,
    /// Until when a node is cut off.
    partitioned: BTreeMap<usize, Duration>,
    /// One message in so many is lost and sent again.
    pub(super) loss: u32,
}

/// A partition that lasts longer than this kills the streams across it.
const PATIENCE: Duration = Duration::from_secs(20);

impl Network {
    pub(super) fn lossy(loss: u32) -> Self {
        Self { loss, ..Self::default() }
    }

    pub(super) fn open(&mut self, node: usize) -> StreamId {
        self.opened += 1;
        let id = StreamId(self.opened);
        let stream = Stream { node, dead: false, up: Duration::ZERO, down: Duration::ZERO };
        self.streams.insert(id, stream);
        id
    }

    pub(super) fn partition(&mut self, node: usize, until: Duration) {
        self.partitioned.insert(node, until);
    }

    pub(super) fn is_partitioned(&self, node: usize, now: Duration) -> bool {
        self.partitioned.get(&node).is_some_and(|until| now < *until)
    }

    /// When a message sent now arrives; none: its stream is dead, or dies of a partition before.
    pub(super) fn arrival(
        &mut self,
        id: StreamId,
        up: bool,
        now: Duration,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let node = self.streams.get(&id).filter(|s| !s.dead)?.node;
        let mut at = now + Duration::from_micros(rng.u64(200..5_000));
        let mut again = Duration::from_millis(200);
        while self.loss > 0 && rng.u32(..self.loss) == 0 {
            at += again;
            again *= 2;
        }
        if let Some(until) = self.partitioned.get(&node).filter(|until| at < **until) {
            if *until - now > PATIENCE {
                return None;
            }
            at = *until + again;
        }
        let stream = self.streams.get_mut(&id)?;
        let latest = if up { &mut stream.up } else { &mut stream.down };
        *latest = at.max(*latest);
        Some(*latest)
    }

    /// Nothing passes a stream any more.
    pub(super) fn kill(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.dead = true;
        }
    }

    /// Streams of a node on which something may still pass.
    pub(super) fn alive(&self, node: usize) -> Vec<StreamId> {
        let of = |(_, s): &(&StreamId, &Stream)| s.node == node && !s.dead;
        self.streams.iter().filter(of).map(|(id, _)| *id).collect()
    }
}
