//! Both ends joined in memory, without transport, clock or chance of their own: for tests and simulations that
//! want to lose, delay and cut what goes between them. Owns the two directions as queues; decides nothing.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//! use ambit_xds::{library::Library, loopback::Loopback, subscriber::Mode};
//!
//! let now = Instant::now();
//! let mut link = Loopback::new(ambit_xds::loopback::node("ztunnel", "node-a"), Mode::Wildcard);
//! link.open(Arc::new(Library::default()), now);
//! link.settle(now, |_batch| { /* bring it into force */ });
//! assert!(link.subscriber.is_in_step());
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_wire::convert::ResourceType;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

use crate::backoff::Ending;
use crate::library::Library;
use crate::publisher::{self, Publisher, Refusal};
use crate::subscriber::{self, Batch, Mode, Subscriber};

/// Longer than any wait of either end.
const LONG: Duration = Duration::from_secs(60);

/// One subscriber, and a publisher while a stream is open.
#[derive(Debug)]
pub struct Loopback {
    /// The client's end; it outlives streams.
    pub subscriber: Subscriber,
    /// The server's end of the open stream.
    pub publisher: Option<Publisher>,
    /// Requests on their way up.
    pub up: VecDeque<DeltaDiscoveryRequest>,
    /// Responses on their way down.
    pub down: VecDeque<DeltaDiscoveryResponse>,
    /// Batches handed on and not yet in force, oldest first.
    pub batches: VecDeque<Batch>,
    /// Why the server ended the stream, if it did.
    pub refused: Option<Refusal>,
    streams: u64,
}

/// A node as subscribers introduce themselves, on a Kubernetes node of this name.
#[must_use]
pub fn node(kind: &str, node_name: &str) -> Node {
    let text =
        |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.into())) };
    let fields = BTreeMap::from([
        ("NODE_NAME".to_owned(), text(node_name)),
        ("NAMESPACE".to_owned(), text("istio-system")),
    ]);
    Node {
        id: format!("{kind}~1.1.1.1~{kind}.istio-system~istio-system.svc.cluster.local"),
        cluster: String::new(),
        metadata: Some(prost_types::Struct { fields }),
    }
}

impl Loopback {
    /// A subscriber without a stream.
    #[must_use]
    pub fn new(node: Node, mode: Mode) -> Self {
        Self {
            subscriber: Subscriber::new(node, mode),
            publisher: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            batches: VecDeque::new(),
            refused: None,
            streams: 0,
        }
    }

    /// The same that asks for these types, in this order.
    #[must_use]
    pub fn asking(mut self, kinds: &'static [ResourceType]) -> Self {
        self.subscriber = self.subscriber.asking(kinds);
        self
    }

    /// Opens a stream to a server that holds `library`. Does nothing while one is open.
    pub fn open(&mut self, library: Arc<Library>, now: Instant) {
        if self.publisher.is_some() {
            return;
        }
        self.streams += 1;
        self.publisher = Some(Publisher::new(self.streams, library));
        let mut actions = self.subscriber.on_time(now);
        actions.extend(self.subscriber.on_opened());
        self.obey_subscriber(actions);
    }

    /// Cuts the stream: whatever is on its way is lost. Batches handed on will still take effect.
    pub fn cut(&mut self, now: Instant) {
        if self.publisher.take().is_none() {
            return;
        }
        self.up.clear();
        self.down.clear();
        let actions = self.subscriber.on_closed(&Ending::Lost("cut".into()), now, 0);
        self.obey_subscriber(actions);
    }

    /// The server's library changed.
    pub fn publish(&mut self, library: Arc<Library>) {
        let actions = self.publisher.as_mut().map(|publisher| publisher.on_library(library));
        self.obey_publisher(actions.unwrap_or_default());
    }

    /// Delivers the oldest request. False: there was none.
    pub fn deliver_up(&mut self, now: Instant) -> bool {
        let (Some(publisher), Some(request)) = (&mut self.publisher, self.up.pop_front()) else {
            return false;
        };
        match publisher.on_request(request, now) {
            Ok(actions) => self.obey_publisher(actions),
            Err(refusal) => {
                self.refused = Some(refusal);
                self.cut(now);
            }
        }
        true
    }

    /// Delivers the oldest response. False: there was none.
    pub fn deliver_down(&mut self) -> bool {
        let Some(response) = self.down.pop_front() else { return false };
        let actions = self.subscriber.on_response(response);
        self.obey_subscriber(actions);
        true
    }

    /// The oldest batch comes into force; the caller has done what it says. False: there was none.
    pub fn applied(&mut self) -> bool {
        if self.batches.pop_front().is_none() {
            return false;
        }
        let actions = self.subscriber.on_applied();
        self.obey_subscriber(actions);
        true
    }

    /// Time passes for the server.
    pub fn tick(&mut self, now: Instant) {
        let actions = self.publisher.as_mut().map(|publisher| publisher.on_time(now));
        self.obey_publisher(actions.unwrap_or_default());
    }

    /// Lets everything arrive and take effect until nothing is left to do.
    pub fn settle(&mut self, now: Instant, mut apply: impl FnMut(&Batch)) {
        loop {
            let mut moved = self.deliver_up(now);
            moved |= self.deliver_down();
            if let Some(batch) = self.batches.front() {
                apply(batch);
                moved |= self.applied();
            }
            if moved {
                continue;
            }
            self.tick(now + LONG);
            if self.down.is_empty() {
                return;
            }
        }
    }

    fn obey_subscriber(&mut self, actions: Vec<subscriber::Action>) {
        for action in actions {
            match action {
                subscriber::Action::Send(request) => self.up.push_back(*request),
                subscriber::Action::Apply(batch) => self.batches.push_back(batch),
                // When to open and to wake is the owner's: it calls `open` and `tick`.
                subscriber::Action::Open | subscriber::Action::WakeAt(_) => {}
            }
        }
    }

    fn obey_publisher(&mut self, actions: Vec<publisher::Action>) {
        for action in actions {
            match action {
                // What a publisher encoded reads.
                publisher::Action::Send(response) => self.down.extend(response.message().ok()),
                publisher::Action::WakeAt(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
