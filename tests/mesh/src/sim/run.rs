//! One course: a minute of changes and faults, then calm until nothing is left to happen. At every step an answer
//! means "in force"; in the end all views are equal to what is true, and the control plane knows it.

use std::fmt;
use std::time::Duration;

use ambit_wire::convert::ResourceType;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ambit_xds::backoff::Ending;
use ambit_xds::{publisher, subscriber};
use bytes::Bytes;
use fastrand::Rng;

use super::clock::Clock;
use super::control::Control;
use super::network::{Network, StreamId};
use super::node::Node;
use super::nouns;
use super::views;

pub(super) const NODES: usize = 3;
/// How long there are changes and faults.
const TURMOIL: Duration = Duration::from_secs(60);
/// How many things may happen; far above what calms down.
const EVENTS: usize = 100_000;

/// What went wrong, and when.
#[derive(Debug)]
pub struct Failure {
    /// The course's seed: the same one fails the same way.
    pub seed: u64,
    /// Since the beginning.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {:?}: {}", self.seed, self.at, self.what)
    }
}

/// What happened, so that a course in which nothing did is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Changes published.
    pub changes: u32,
    /// Streams that were opened.
    pub streams: u32,
    /// Batches brought into force.
    pub batches: u32,
    /// Answers that were refusals.
    pub nacks: u32,
    /// Restarts of the control plane and of nodes.
    pub restarts: u32,
    /// Partitions and resets.
    pub cuts: u32,
    /// Resources at the end.
    pub resources: usize,
}

enum Event {
    Change,
    Connect { node: usize, life: u32 },
    Opened { node: usize, life: u32, id: StreamId },
    Up { id: StreamId, request: Box<DeltaDiscoveryRequest> },
    Down { id: StreamId, response: Box<DeltaDiscoveryResponse> },
    Applied { node: usize, life: u32 },
    NodeTime { node: usize, life: u32 },
    ServerTime { id: StreamId },
    Ask,
    ClientNotices { node: usize, life: u32, id: Option<StreamId> },
    ServerNotices { id: StreamId },
    Fault,
    ControlBack,
    Calm,
}

struct Simulation {
    clock: Clock<Event>,
    rng: Rng,
    network: Network,
    control: Control,
    nodes: Vec<Node>,
    calm: bool,
    summary: Summary,
}

/// Runs one course.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let mut sim = Simulation {
        clock: Clock::new(),
        rng: Rng::with_seed(seed),
        network: Network::lossy(20),
        control: Control::default(),
        nodes: (0..NODES).map(|index| Node::new(index, 0)).collect(),
        calm: false,
        summary: Summary::default(),
    };
    let outcome = sim.go();
    outcome.map_err(|what| Failure { seed, at: sim.clock.now(), what })
}

impl Simulation {
    fn go(&mut self) -> Result<Summary, String> {
        for node in 0..NODES {
            let actions = self.nodes[node].subscriber.start();
            self.obey_subscriber(node, actions)?;
        }
        for _ in 0..60 {
            let at = self.within(TURMOIL);
            self.clock.at(at, Event::Change);
        }
        for _ in 0..self.rng.u8(5..25) {
            let at = self.within(TURMOIL);
            self.clock.at(at, Event::Fault);
        }
        for _ in 0..10 {
            let at = self.within(TURMOIL);
            self.clock.at(at, Event::Ask);
        }
        self.clock.at(TURMOIL, Event::Calm);
        for _ in 0..EVENTS {
            let Some(event) = self.clock.next() else {
                return self.judge();
            };
            self.happen(event)?;
        }
        Err("it never calms down".into())
    }

    fn within(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(..u64::try_from(limit.as_micros()).unwrap()))
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Change => self.change(),
            Event::Connect { node, life } if self.lives(node, life) => self.connect(node),
            Event::Opened { node, life, id } if self.lives(node, life) => self.opened(node, id),
            Event::Up { id, request } => self.up(id, *request),
            Event::Down { id, response } => self.down(id, *response),
            Event::Applied { node, life } if self.lives(node, life) => self.applied(node),
            Event::NodeTime { node, life } if self.lives(node, life) => {
                let actions = self.nodes[node].subscriber.on_time(self.clock.instant());
                self.obey_subscriber(node, actions)
            }
            Event::ServerTime { id } => {
                let now = self.clock.instant();
                let publisher = self.control.publishers.get_mut(&id);
                let actions = publisher.map(|p| p.on_time(now)).unwrap_or_default();
                self.obey_publisher(id, actions);
                Ok(())
            }
            Event::ClientNotices { node, life, id } if self.lives(node, life) => {
                self.client_notices(node, id)
            }
            Event::ServerNotices { id } => {
                self.control.publishers.remove(&id);
                Ok(())
            }
            Event::Ask => self.ask(),
            Event::Fault if !self.calm => self.fault(),
            Event::ControlBack => {
                self.control.start();
                Ok(())
            }
            Event::Calm => self.calm_down(),
            // Planned for an earlier life, or for the time of faults.
            _ => Ok(()),
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life
    }

    fn change(&mut self) -> Result<(), String> {
        let delta = nouns::change(&mut self.rng);
        self.summary.changes += 1;
        self.control.change(&delta);
        if self.control.down {
            return Ok(());
        }
        let library = self.control.library.clone();
        let ids: Vec<StreamId> = self.control.publishers.keys().copied().collect();
        for id in ids {
            let publisher = self.control.publishers.get_mut(&id);
            let actions = publisher.map(|p| p.on_library(library.clone())).unwrap_or_default();
            self.obey_publisher(id, actions);
        }
        Ok(())
    }

    /// The node that wants only what it names, names something.
    fn ask(&mut self) -> Result<(), String> {
        let (node, name) = (NODES - 1, nouns::name(&mut self.rng));
        let actions = self.nodes[node].subscriber.on_demand(&name);
        self.nodes[node].asked.insert(name);
        self.obey_subscriber(node, actions)
    }

    fn connect(&mut self, node: usize) -> Result<(), String> {
        let life = self.nodes[node].life;
        if self.control.down || self.network.is_partitioned(node, self.clock.now()) {
            let delay = self.within(Duration::from_secs(5));
            self.clock.after(delay, Event::ClientNotices { node, life, id: None });
            return Ok(());
        }
        let id = self.network.open(node);
        self.control.accept(id);
        self.summary.streams += 1;
        let delay = self.within(Duration::from_millis(20));
        self.clock.after(delay, Event::Opened { node, life, id });
        Ok(())
    }

    fn opened(&mut self, node: usize, id: StreamId) -> Result<(), String> {
        if self.network.streams[&id].dead {
            return self.client_notices(node, None);
        }
        self.nodes[node].stream = Some(id);
        self.nodes[node].opened();
        let actions = self.nodes[node].subscriber.on_opened();
        self.obey_subscriber(node, actions)
    }

    fn up(&mut self, id: StreamId, request: DeltaDiscoveryRequest) -> Result<(), String> {
        if self.network.streams[&id].dead {
            return Ok(());
        }
        self.summary.nacks += u32::from(request.error_detail.is_some());
        let now = self.clock.instant();
        let Some(publisher) = self.control.publishers.get_mut(&id) else { return Ok(()) };
        let actions = publisher.on_request(request, now).map_err(|refusal| refusal.to_string())?;
        self.obey_publisher(id, actions);
        Ok(())
    }

    fn down(&mut self, id: StreamId, response: DeltaDiscoveryResponse) -> Result<(), String> {
        let stream = &self.network.streams[&id];
        let node = stream.node;
        if stream.dead || self.nodes[node].stream != Some(id) {
            return Ok(());
        }
        self.nodes[node].received(&response.nonce);
        let actions = self.nodes[node].subscriber.on_response(response);
        self.obey_subscriber(node, actions)
    }

    fn applied(&mut self, node: usize) -> Result<(), String> {
        if !self.nodes[node].apply() {
            return Ok(());
        }
        self.summary.batches += 1;
        let actions = self.nodes[node].subscriber.on_applied();
        self.obey_subscriber(node, actions)
    }

    /// The client learns that its stream, or its attempt at one, has ended.
    fn client_notices(&mut self, node: usize, id: Option<StreamId>) -> Result<(), String> {
        if id.is_some() && self.nodes[node].stream != id {
            return Ok(());
        }
        self.nodes[node].stream = None;
        let ending = match id {
            None => Ending::Unreachable("no answer".into()),
            Some(_) if self.rng.bool() => Ending::Closed,
            Some(_) => Ending::Lost("reset".into()),
        };
        let before = self.nodes[node].world.clone();
        let (now, chance) = (self.clock.instant(), self.rng.u32(..));
        let actions = self.nodes[node].subscriber.on_closed(&ending, now, chance);
        self.obey_subscriber(node, actions)?;
        if self.nodes[node].world != before {
            return Err("losing the control plane changed a world".into());
        }
        Ok(())
    }

    fn obey_subscriber(&mut self, node: usize, actions: Vec<subscriber::Action>) -> Result<(), String> {
        let life = self.nodes[node].life;
        for action in actions {
            match action {
                subscriber::Action::Open => self.clock.after(Duration::ZERO, Event::Connect { node, life }),
                subscriber::Action::WakeAt(at) => self.clock.at_instant(at, Event::NodeTime { node, life }),
                subscriber::Action::Apply(batch) => {
                    self.nodes[node].batches.push_back(batch);
                    // Now and then a node is slow, so that streams end between a batch and its answer.
                    let limit = if self.rng.u8(..8) == 0 { 5_000 } else { 50 };
                    let delay = self.within(Duration::from_millis(limit));
                    self.clock.after(delay, Event::Applied { node, life });
                }
                subscriber::Action::Send(request) => {
                    self.nodes[node].may_say(&request).map_err(|what| format!("node {node} {what}"))?;
                    let Some(id) = self.nodes[node].stream else {
                        return Err(format!("node {node} sends without a stream"));
                    };
                    let (now, rng) = (self.clock.now(), &mut self.rng);
                    if let Some(at) = self.network.arrival(id, true, now, rng) {
                        self.clock.at(at, Event::Up { id, request });
                    }
                }
            }
        }
        Ok(())
    }

    fn obey_publisher(&mut self, id: StreamId, actions: Vec<publisher::Action>) {
        for action in actions {
            match action {
                publisher::Action::WakeAt(at) => self.clock.at_instant(at, Event::ServerTime { id }),
                publisher::Action::Send(response) => {
                    let mut response = Box::new(response.message().expect("what a publisher encoded"));
                    self.spoil(id, &mut response);
                    let (now, rng) = (self.clock.now(), &mut self.rng);
                    if let Some(at) = self.network.arrival(id, false, now, rng) {
                        self.clock.at(at, Event::Down { id, response });
                    }
                }
            }
        }
    }

    /// Now and then a resource is not what its type says.
    fn spoil(&mut self, id: StreamId, response: &mut DeltaDiscoveryResponse) {
        if self.calm || response.resources.is_empty() || self.rng.u8(..20) != 0 {
            return;
        }
        let nth = self.rng.usize(..response.resources.len());
        if let Some(payload) = &mut response.resources[nth].resource {
            payload.value = Bytes::from_static(&[0xff]);
            self.nodes[self.network.streams[&id].node].fed_garbage = true;
        }
    }

    fn fault(&mut self) -> Result<(), String> {
        let node = self.rng.usize(..NODES);
        match self.rng.u8(..6) {
            0 | 1 => self.partition(node),
            2 | 3 => {
                self.summary.cuts += 1;
                self.kill_all(node, Duration::from_secs(2));
            }
            4 => self.restart_node(node)?,
            _ => self.restart_control(),
        }
        Ok(())
    }

    fn partition(&mut self, node: usize) {
        self.summary.cuts += 1;
        let length = self.within(Duration::from_secs(40));
        self.network.partition(node, self.clock.now() + length);
        // What lasts longer than an end's patience costs the stream, at each end when that end notices.
        if length > Duration::from_secs(15) {
            self.kill_all(node, Duration::from_secs(30));
        }
    }

    /// A node's streams die; each end notices in its own time.
    fn kill_all(&mut self, node: usize, notice: Duration) {
        for id in self.network.alive(node) {
            self.network.kill(id);
            let (client, server) = (self.within(notice), self.within(notice));
            let life = self.nodes[node].life;
            self.clock.after(client, Event::ClientNotices { node, life, id: Some(id) });
            self.clock.after(server, Event::ServerNotices { id });
        }
    }

    fn restart_node(&mut self, node: usize) -> Result<(), String> {
        self.summary.restarts += 1;
        self.kill_all(node, Duration::from_secs(2));
        self.nodes[node] = Node::new(node, self.nodes[node].life + 1);
        let actions = self.nodes[node].subscriber.start();
        self.obey_subscriber(node, actions)
    }

    fn restart_control(&mut self) {
        if self.control.down {
            return;
        }
        self.summary.restarts += 1;
        for node in 0..NODES {
            self.kill_all(node, Duration::from_secs(2));
        }
        self.control.stop();
        let length = self.within(Duration::from_secs(10));
        self.clock.after(length, Event::ControlBack);
    }

    /// No more faults. Who was sent garbage on the stream it still has needs another one: the server cannot know
    /// what a node refused unless the node says on return what it has.
    fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        self.network.loss = 0;
        for node in 0..NODES {
            self.network.partition(node, self.clock.now());
            if self.nodes[node].fed_garbage {
                self.kill_all(node, Duration::from_secs(2));
            }
        }
        Ok(())
    }

    /// In the end: all connected, all in step, all views equal, all answers in.
    fn judge(&mut self) -> Result<Summary, String> {
        let truth = &self.control.truth;
        self.summary.resources =
            truth.workloads().count() + truth.services().count() + truth.policies().count();
        for (index, node) in self.nodes.iter().enumerate() {
            let fail = |what: String| Err(format!("node {index} {what}"));
            if !node.subscriber.is_connected() || !node.subscriber.is_in_step() {
                return fail("is not in step".into());
            }
            if let Some(wrong) = views::differ(index, node, truth) {
                return fail(wrong);
            }
            let publisher = node.stream.and_then(|id| self.control.publishers.get(&id));
            for kind in ResourceType::OF_NODES {
                let answers = publisher.and_then(|p| p.answers(kind));
                let settled =
                    answers.is_some_and(|a| a.unanswered() == 0 && a.sent == a.answered && a.sent.is_some());
                if !settled {
                    return fail(format!("is not known to be in step about {kind:?}: {answers:?}"));
                }
            }
        }
        Ok(self.summary)
    }
}
