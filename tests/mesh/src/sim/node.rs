//! A node: the subscriber, and the world it has brought into force. Both are lost when it restarts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ambit_model::snapshot::Snapshot;
use ambit_wire::pb::discovery::DeltaDiscoveryRequest;
use ambit_xds::loopback;
use ambit_xds::subscriber::{Batch, Mode, Subscriber};

use super::network::StreamId;

pub(super) struct Node {
    pub(super) subscriber: Subscriber,
    pub(super) world: Snapshot,
    /// What it asked for by name, when it does not want everything.
    pub(super) asked: BTreeSet<String>,
    /// The stream it believes it has.
    pub(super) stream: Option<StreamId>,
    /// Counts restarts: what was planned for an earlier life does not happen.
    pub(super) life: u32,
    pub(super) batches: VecDeque<Batch>,
    /// It was sent something unreadable on its present stream, so that it may lack what the server believes it has.
    pub(super) fed_garbage: bool,
    /// Nonces received on the present stream, and whether what came with them is in force.
    nonces: BTreeMap<String, bool>,
    waiting: VecDeque<String>,
}

/// The last node wants only what it names; the others want everything.
pub(super) fn mode(index: usize) -> Mode {
    if index == super::run::NODES - 1 { Mode::OnDemand } else { Mode::Wildcard }
}

impl Node {
    pub(super) fn new(index: usize, life: u32) -> Self {
        let node = loopback::node("ztunnel", &format!("node-{index}"));
        Self {
            subscriber: Subscriber::new(node, mode(index)),
            world: Snapshot::default(),
            asked: BTreeSet::new(),
            stream: None,
            life,
            batches: VecDeque::new(),
            fed_garbage: false,
            nonces: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn opened(&mut self) {
        self.fed_garbage = false;
        self.nonces.clear();
        self.waiting.clear();
        // Batches of the former stream are still to come into force, but nobody waits for an answer to them.
        self.waiting.extend(self.batches.iter().map(|_| String::new()));
    }

    pub(super) fn received(&mut self, nonce: &str) {
        self.nonces.insert(nonce.into(), false);
        self.waiting.push_back(nonce.into());
    }

    /// Brings the oldest batch into force.
    pub(super) fn apply(&mut self) -> bool {
        let Some(batch) = self.batches.pop_front() else { return false };
        self.world = self.world.with(&batch.delta);
        if let Some(nonce) = self.waiting.pop_front() {
            self.nonces.entry(nonce).and_modify(|in_force| *in_force = true);
        }
        true
    }

    /// An answer may only be given to what is in force, and only on the stream it came on.
    pub(super) fn may_say(&self, request: &DeltaDiscoveryRequest) -> Result<(), String> {
        let nonce = &request.response_nonce;
        match self.nonces.get(nonce) {
            _ if nonce.is_empty() => Ok(()),
            Some(true) => Ok(()),
            Some(false) => Err(format!("answers {nonce} before it is in force")),
            None => Err(format!("answers {nonce}, which did not come on this stream")),
        }
    }
}
