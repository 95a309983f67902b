//! The server's end of one stream, pure: requests, new libraries and time go in, responses come out.
//! Owns what this subscriber asked for, what it was told and what it answered. A push is the difference between
//! the library told last and the present one, so changes pile up nowhere: the newest wins.
//! Order within a push: new and changed policies, then addresses that may name them, then removed policies, so
//! that nobody ever holds a workload without its policies; those of requests likewise. To a subscriber that asks for routes: routes after the
//! addresses they may point to, and what is gone of addresses after the routes that pointed there, so that nobody ever
//! holds a route to what is not known (any more). Reads no socket (`server`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_model::name::{Identity, NodeName};
use ambit_wire::convert::ResourceType;
use ambit_wire::limits;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, Node};

pub use self::answers::{Answers, Nack};
use self::interest::Interest;
pub use self::reported::Asked;
pub use self::response::Response;
use crate::content::{Contents, Farewell, Told};
use crate::library::Library;

mod answers;
mod interest;
mod reported;
mod response;

/// How long the first answer about addresses waits for the subscriber to ask for policies. It asks for both in one
/// breath; one that asks for addresses only loses this once per stream.
const POLICIES_FIRST: Duration = Duration::from_millis(100);

/// What the server is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this.
    Send(Response),
    /// Call [`Publisher::on_time`] then.
    WakeAt(Instant),
}

/// Why a stream is ended by the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first request does not say who subscribes.
    #[error("the first request holds no node with an id")]
    NoNode,
    /// The id is not made as it must be.
    #[error("node id {id:?} is not of the form type~ip~name.namespace~domain")]
    NodeId {
        /// The id.
        id: String,
    },
    /// More names than a subscriber may ask for one by one.
    #[error("{found} names are asked for, more than {limit}; subscribe to everything instead")]
    TooManyNames {
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
}

/// The state of one stream.
#[derive(Debug)]
pub struct Publisher {
    stream: u64,
    next_nonce: u64,
    library: Arc<Library>,
    node: Option<Node>,
    /// As whom the subscriber was proven.
    caller: Option<Identity>,
    topics: BTreeMap<ResourceType, Topic>,
    /// Until when the first answer about addresses waits for policies.
    waits_for_policies: Option<Instant>,
    unknown_types: u64,
}

#[derive(Debug)]
struct Topic {
    interest: Interest,
    answers: Answers,
}

impl Publisher {
    /// A stream that has said nothing yet. `stream` tells streams apart, in nonces and for people.
    #[must_use]
    pub fn new(stream: u64, library: Arc<Library>) -> Self {
        let topics = BTreeMap::new();
        Self {
            stream,
            next_nonce: 1,
            library,
            node: None,
            caller: None,
            topics,
            waits_for_policies: None,
            unknown_types: 0,
        }
    }

    /// The subscriber was proven to be this one: what is its own is told to nobody else.
    #[must_use]
    pub fn proven(self, caller: Option<Identity>) -> Self {
        Self { caller, ..self }
    }

    /// Who subscribes, once that was said.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The generation of the library that it tells of.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.library.generation()
    }

    /// What the subscriber answered about a type, once it asked for that.
    #[must_use]
    pub fn answers(&self, kind: ResourceType) -> Option<&Answers> {
        self.topics.get(&kind).map(|topic| &topic.answers)
    }

    /// The subscriber said something.
    pub fn on_request(&mut self, asked: impl Into<Asked>, now: Instant) -> Result<Vec<Action>, Refusal> {
        let Asked { request, reported } = asked.into();
        let DeltaDiscoveryRequest {
            node,
            type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            initial_resource_versions: _, // kept apart
            response_nonce: nonce,
            error_detail: error,
        } = request;
        if self.node.is_none() {
            self.node = Some(introduced(node)?);
        }
        let Some(kind) = ResourceType::from_url(&type_url) else {
            self.unknown_types += 1;
            return Ok(Vec::new());
        };
        check_count(subscribe.len().max(reported.count()))?;
        let Some(topic) = self.topics.get_mut(&kind) else {
            let interest = Interest::first(kind, subscribe, &unsubscribe, reported);
            self.topics.insert(kind, Topic { interest, answers: Answers::default() });
            return Ok(self.first_asked(kind, now));
        };
        if !topic.answers.take(&nonce, error) {
            return Ok(Vec::new()); // about a response that is no longer the latest: nothing in it counts
        }
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return Ok(Vec::new());
        }
        topic.interest.change(subscribe, &unsubscribe);
        check_count(topic.interest.names())?;
        Ok(self.push())
    }

    /// Whether the first answer waits for the subscriber to ask for policies, too.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits_for_policies.is_some()
    }

    /// Whether addresses were asked for and the first answer was given.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        !self.is_waiting() && self.topics.contains_key(&ResourceType::Address)
    }

    /// Begins with another library than it was made with: one that others are being told now.
    pub fn begin(&mut self, library: Arc<Library>) {
        if self.topics.is_empty() {
            self.library = library;
        }
    }

    /// There is a newer library.
    pub fn on_library(&mut self, library: Arc<Library>) -> Vec<Action> {
        self.library = library;
        self.push()
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        match self.waits_for_policies {
            Some(until) if now >= until => {
                self.waits_for_policies = None;
                self.push()
            }
            Some(until) => vec![Action::WakeAt(until)],
            None => Vec::new(),
        }
    }

    fn first_asked(&mut self, kind: ResourceType, now: Instant) -> Vec<Action> {
        match kind {
            ResourceType::Address if !self.topics.contains_key(&ResourceType::Authorization) => {
                let until = now + POLICIES_FIRST;
                self.waits_for_policies = Some(until);
                vec![Action::WakeAt(until)]
            }
            ResourceType::Address
            | ResourceType::Route
            | ResourceType::Policy
            | ResourceType::RateLimit
            | ResourceType::ExtProc
            | ResourceType::Authentication
            | ResourceType::Provider
            | ResourceType::Traffic
            | ResourceType::Credential
            | ResourceType::Telemetry => self.push(),
            ResourceType::Authorization => {
                self.waits_for_policies = None;
                self.push()
            }
        }
    }

    /// Everything that is due, in the order that keeps policies ahead of what they protect, and what routes point to
    /// ahead of routes.
    fn push(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let policies = self.due(ResourceType::Authorization, Farewell::Last);
        self.say(ResourceType::Authorization, &policies.now, &mut actions);
        let providers = self.due(ResourceType::Provider, Farewell::Last);
        self.say(ResourceType::Provider, &providers.now, &mut actions);
        let demands = self.due(ResourceType::Policy, Farewell::Last);
        self.say(ResourceType::Policy, &demands.now, &mut actions);
        let limits = self.due(ResourceType::RateLimit, Farewell::Last);
        self.say(ResourceType::RateLimit, &limits.now, &mut actions);
        let processors = self.due(ResourceType::ExtProc, Farewell::Last);
        self.say(ResourceType::ExtProc, &processors.now, &mut actions);
        let issuers = self.due(ResourceType::Authentication, Farewell::Last);
        self.say(ResourceType::Authentication, &issuers.now, &mut actions);
        // What is shown is there before anybody is to show it.
        let own = self.due(ResourceType::Credential, Farewell::Last);
        self.say(ResourceType::Credential, &own.now, &mut actions);
        let handled = self.due(ResourceType::Traffic, Farewell::Last);
        self.say(ResourceType::Traffic, &handled.now, &mut actions);
        let told = self.due(ResourceType::Telemetry, Farewell::InTurn);
        self.say(ResourceType::Telemetry, &told.now, &mut actions);
        if self.waits_for_policies.is_none() {
            let routed = self.topics.contains_key(&ResourceType::Route);
            let farewell = if routed { Farewell::Last } else { Farewell::InTurn };
            let addresses = self.due(ResourceType::Address, farewell);
            self.say(ResourceType::Address, &addresses.now, &mut actions);
            let routes = self.due(ResourceType::Route, Farewell::InTurn);
            self.say(ResourceType::Route, &routes.now, &mut actions);
            self.say(ResourceType::Address, &addresses.later, &mut actions);
        }
        // The removals are an answer of their own.
        self.say(ResourceType::Traffic, &handled.later, &mut actions);
        self.say(ResourceType::Credential, &own.later, &mut actions);
        self.say(ResourceType::Authorization, &policies.later, &mut actions);
        self.say(ResourceType::Policy, &demands.later, &mut actions);
        self.say(ResourceType::RateLimit, &limits.later, &mut actions);
        self.say(ResourceType::ExtProc, &processors.later, &mut actions);
        self.say(ResourceType::Authentication, &issuers.later, &mut actions);
        self.say(ResourceType::Provider, &providers.later, &mut actions);
        actions
    }

    fn due(&mut self, kind: ResourceType, farewell: Farewell) -> Arc<Told> {
        let own_node = self.node.as_ref().map(node_name).unwrap_or_default();
        match self.topics.get_mut(&kind) {
            Some(Topic { interest: Interest::Own(own), .. }) => {
                Arc::new(own.due(self.caller.as_ref(), &self.library).told(kind, farewell))
            }
            Some(topic) => topic.interest.due((kind, farewell), &self.library, &own_node),
            None => Arc::default(),
        }
    }

    fn say(&mut self, kind: ResourceType, contents: &Contents, actions: &mut Vec<Action>) {
        let Some(topic) = self.topics.get_mut(&kind) else { return };
        let generation = self.library.generation();
        for content in contents {
            let nonce = format!("{generation}-{}-{}", self.stream, self.next_nonce);
            self.next_nonce += 1;
            topic.answers.sent(&nonce, generation);
            actions.push(Action::Send(Response::new(kind, nonce, generation, Arc::clone(content))));
        }
    }
}

/// Checks who subscribes: four parts between tildes, and a type.
fn introduced(node: Option<Node>) -> Result<Node, Refusal> {
    let node = node.filter(|node| !node.id.is_empty()).ok_or(Refusal::NoNode)?;
    let parts: Vec<&str> = node.id.split('~').collect();
    match parts.as_slice() {
        [kind, _, _, _] if !kind.is_empty() => Ok(node),
        _ => Err(Refusal::NodeId { id: node.id }),
    }
}

fn check_count(found: usize) -> Result<(), Refusal> {
    let limit = limits::NAMES_PER_REQUEST;
    if found > limit { Err(Refusal::TooManyNames { found, limit }) } else { Ok(()) }
}

/// The Kubernetes node of a subscriber, whose workloads it gets unasked.
fn node_name(node: &Node) -> NodeName {
    metadata(node, "NODE_NAME").unwrap_or_default().into()
}

/// A text of a node's metadata.
pub(crate) fn metadata<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
