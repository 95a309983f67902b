//! The client's end, pure: responses, applied batches, endings and time go in, actions come out.
//! Owns what is retained with which version, what is acknowledged and when to try again. Everything in a response is
//! parsed before anything is handed on; what is bad is refused by name, the rest takes effect. An answer is sent
//! only once the batch is in force, so an ACK means "in force". Reads no socket (`pump`), keeps no world.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use ambit_model::delta::Delta;
use ambit_wire::convert::{ResourceKey, ResourceType};
use ambit_wire::limits;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status};

use crate::backoff::{Backoff, Ending};

mod batch;

/// Demanded names that are remembered. Beyond, those that do not exist are dropped: whoever asks for addresses at
/// random makes as many of them as it likes. Names that exist are as many as the mesh has.
const DEMANDED: usize = 10_000;

/// How addresses are subscribed to. All else is always subscribed to as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    Wildcard,
    /// What is demanded.
    OnDemand,
}

/// What the pump is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Open a stream; say [`Subscriber::on_opened`] or [`Subscriber::on_closed`].
    Open,
    /// Send this on the stream.
    Send(Box<DeltaDiscoveryRequest>),
    /// Bring this into force; then say [`Subscriber::on_applied`].
    Apply(Batch),
    /// Call [`Subscriber::on_time`] then.
    WakeAt(Instant),
}

/// What one response changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The type it is about.
    pub kind: ResourceType,
    /// What its resources take on the wire, refused ones included.
    pub bytes: usize,
    /// The changes, in order; may be empty.
    pub delta: Delta,
    /// Demanded names that are now known.
    pub found: Vec<String>,
    /// Demanded names that do not exist.
    pub missing: Vec<String>,
    /// Resources that were refused and why; they are not in `delta`.
    pub refused: Vec<Refused>,
}

/// A resource that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Where the stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    Idle,
    Opening,
    Open { worked: bool },
    Waiting { until: Instant },
}

/// What became of a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Waiting,
    Found,
    Missing,
}

/// A response that was handed on and is to be answered once it is in force.
#[derive(Debug)]
struct Pending {
    kind: ResourceType,
    /// The answer; none when its stream has ended.
    answer: Option<DeltaDiscoveryRequest>,
}

/// The state of the subscription, over as many streams as it takes.
#[derive(Debug)]
pub struct Subscriber {
    node: Node,
    kinds: &'static [ResourceType],
    mode: Mode,
    link: Link,
    backoff: Backoff,
    /// What the world holds from here, with the version it was received in. A refused resource leaves the entry of
    /// the one before it: that is what is in force, and the server must be told so.
    retained: HashMap<ResourceKey, Box<str>>,
    /// Demanded names and whether they were answered. All are asked for again on a new stream, for what did not
    /// exist then may exist now.
    demanded: BTreeMap<String, Demand>,
    /// How many of them are not known to exist.
    doubtful: usize,
    pending: VecDeque<Pending>,
    in_step: BTreeSet<ResourceType>,
}

impl Subscriber {
    /// A subscription to what a node's proxy needs, that has not begun.
    #[must_use]
    pub fn new(node: Node, mode: Mode) -> Self {
        Self {
            node,
            kinds: &ResourceType::OF_NODES,
            mode,
            link: Link::Idle,
            backoff: Backoff::default(),
            retained: HashMap::new(),
            demanded: BTreeMap::new(),
            doubtful: 0,
            pending: VecDeque::new(),
            in_step: BTreeSet::new(),
        }
    }

    /// The same to these types, which are asked for in this order.
    #[must_use]
    pub fn asking(mut self, kinds: &'static [ResourceType]) -> Self {
        self.kinds = kinds;
        self
    }

    /// Begins.
    #[must_use]
    pub fn start(&mut self) -> Vec<Action> {
        self.link = Link::Opening;
        vec![Action::Open]
    }

    /// True once the first batch of every type subscribed to as a whole is in force, whether or not something in it
    /// was refused: one bad resource must not keep a node from serving.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.kinds.iter().all(|kind| self.is_on_demand(*kind) || self.in_step.contains(kind))
    }

    /// True while a stream is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    /// How many resources are held.
    #[must_use]
    pub fn retained(&self) -> usize {
        self.retained.len()
    }

    /// A stream is open: ask for everything that changed.
    #[must_use]
    pub fn on_opened(&mut self) -> Vec<Action> {
        self.link = Link::Open { worked: false };
        self.kinds.iter().map(|kind| send(self.first_request(*kind))).collect()
    }

    /// The stream, or the attempt to open one, ended. The world stays as it is.
    #[must_use]
    pub fn on_closed(&mut self, ending: &Ending, now: Instant, chance: u32) -> Vec<Action> {
        let worked = matches!(self.link, Link::Open { worked: true });
        self.pending.iter_mut().for_each(|pending| pending.answer = None);
        let until = now + self.backoff.after(ending, worked, chance);
        self.link = Link::Waiting { until };
        vec![Action::WakeAt(until)]
    }

    /// Time has passed.
    #[must_use]
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        match self.link {
            Link::Waiting { until } if now >= until => self.start(),
            Link::Waiting { until } => vec![Action::WakeAt(until)],
            Link::Idle | Link::Opening | Link::Open { .. } => Vec::new(),
        }
    }

    /// The server said something.
    #[must_use]
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Vec<Action> {
        let Link::Open { worked } = &mut self.link else { return Vec::new() };
        *worked = true;
        let Some(kind) = ResourceType::from_url(&response.type_url) else {
            // Nothing of it was asked for; an answer keeps the server from waiting.
            return vec![send(answer(&response.type_url, &response.nonce, &[]))];
        };
        let nonce = response.nonce.clone();
        let batch = batch::read(kind, response, self);
        let answer = Some(answer(kind.url(), &nonce, &batch.refused));
        self.pending.push_back(Pending { kind, answer });
        vec![Action::Apply(batch)]
    }

    /// The oldest batch handed on is in force.
    #[must_use]
    pub fn on_applied(&mut self) -> Vec<Action> {
        let Some(Pending { kind, answer }) = self.pending.pop_front() else { return Vec::new() };
        self.in_step.insert(kind);
        answer.map(send).into_iter().collect()
    }

    /// Somebody needs what `name` stands for: a uid, `<namespace>/<hostname>` or `<network>/<ip>`. Matters only on
    /// demand; while no stream is open it is remembered.
    #[must_use]
    pub fn on_demand(&mut self, name: &str) -> Vec<Action> {
        if !self.is_on_demand(ResourceType::Address) {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        if self.doubtful >= DEMANDED && !self.demanded.contains_key(name) {
            dropped = self.drop_missing();
            if self.doubtful >= DEMANDED {
                return Vec::new(); // the server does not answer: more questions do not help
            }
        }
        let former = self.demanded.insert(name.into(), Demand::Waiting);
        self.doubtful += usize::from(former.is_none_or(|former| former == Demand::Found));
        if former == Some(Demand::Waiting) || !self.is_connected() {
            return Vec::new();
        }
        let request = DeltaDiscoveryRequest {
            type_url: ResourceType::Address.url().into(),
            resource_names_subscribe: vec![name.into()],
            resource_names_unsubscribe: dropped,
            ..DeltaDiscoveryRequest::default()
        };
        vec![send(request)]
    }

    /// Whether somebody waits to hear about `name`; no longer, from here on.
    fn answered(&mut self, name: &str, answer: Demand) -> bool {
        let Some(demand) = self.demanded.get_mut(name) else { return false };
        let former = std::mem::replace(demand, answer);
        self.doubtful += usize::from(former == Demand::Found && answer != Demand::Found);
        self.doubtful -= usize::from(former != Demand::Found && answer == Demand::Found);
        former == Demand::Waiting
    }

    /// Forgets the names that do not exist.
    fn drop_missing(&mut self) -> Vec<String> {
        let missing = |demand: &Demand| *demand == Demand::Missing;
        let dropped =
            self.demanded.iter().filter(|(_, demand)| missing(demand)).map(|(name, _)| name.clone());
        let dropped: Vec<_> = dropped.collect();
        self.demanded.retain(|_, demand| !missing(demand));
        self.doubtful -= dropped.len();
        dropped
    }

    fn is_on_demand(&self, kind: ResourceType) -> bool {
        self.mode == Mode::OnDemand && kind == ResourceType::Address
    }

    fn first_request(&self, kind: ResourceType) -> DeltaDiscoveryRequest {
        let held = self.retained.iter().filter(|(key, _)| key.kind() == kind);
        let mut versions: BTreeMap<String, String> =
            held.map(|(key, version)| (key.to_string(), version.to_string())).collect();
        let mut request = DeltaDiscoveryRequest {
            node: Some(self.node.clone()),
            type_url: kind.url().into(),
            ..DeltaDiscoveryRequest::default()
        };
        if self.is_on_demand(kind) {
            // Both together mean "nothing yet" (wire.md 7.2).
            request.resource_names_subscribe = vec!["*".into()];
            request.resource_names_unsubscribe = vec!["*".into()];
            for name in self.demanded.keys() {
                versions.entry(name.clone()).or_default();
            }
        }
        request.initial_resource_versions = versions;
        request
    }
}

fn send(request: DeltaDiscoveryRequest) -> Action {
    Action::Send(Box::new(request))
}

/// ACK, or NACK with every refused resource and its reason.
fn answer(type_url: &str, nonce: &str, refused: &[Refused]) -> DeltaDiscoveryRequest {
    let reasons: Vec<String> =
        refused.iter().map(|Refused { name, reason }| format!("{name}: {reason}")).collect();
    let text = reasons.join("; ");
    let error_detail = (!refused.is_empty())
        .then(|| Status { message: limits::shortened(&text, limits::NACK_TEXT).into(), ..Status::default() });
    DeltaDiscoveryRequest {
        type_url: type_url.into(),
        response_nonce: nonce.into(),
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}

#[cfg(test)]
mod tests;
