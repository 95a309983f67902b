//! Which pods we carry for: a state per pod, fed by the node link (`ztunnel.md` 9.3). Owns the decisions only;
//! `driver` has the socket and `pod` the listeners. A slip of the agent costs its connection, never the process,
//! and losing the agent loses no pod.

pub mod driver;

use std::collections::{BTreeMap, BTreeSet};

use ambit_wire::node_link::{LinkError, PodInfo, PodUid, Request, Response};

/// Pods one node may hold; Kubernetes plans for 110, large nodes for 500.
const PODS: usize = 2048;

/// What must be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<N> {
    /// Bind the listeners in there and serve; then say how it went (`Enrol::on_started`).
    Start {
        /// The pod.
        uid: PodUid,
        /// Whose traffic it is.
        info: PodInfo,
        /// The pod's network namespace.
        netns: N,
    },
    /// Close listeners and connections at once.
    Stop {
        /// The pod.
        uid: PodUid,
    },
    /// Answer the request at hand.
    Answer(Response),
    /// Answer it with what is known of this pod's certificate: it is carried for.
    Vouch {
        /// The pod.
        uid: PodUid,
    },
    /// End this connection, and connect again.
    HangUp,
}

/// One pod.
#[derive(Debug)]
enum Pod<N> {
    /// Its listeners are being bound; the agent waits for the outcome, or it is a retry.
    Binding { info: PodInfo, netns: N, asked: bool },
    /// It is carried for.
    Serving { info: PodInfo, netns: N },
    /// Its listeners could not be bound; that is tried again.
    Failed { info: PodInfo, netns: N },
}

/// What was said on the present connection.
#[derive(Debug, Default)]
struct Session {
    /// Added or kept, until the snapshot is complete.
    named: BTreeSet<PodUid>,
    complete: bool,
}

/// All pods of the node. `N` is a network namespace; equal ones are the same namespace.
#[derive(Debug)]
pub struct Enrol<N> {
    pods: BTreeMap<PodUid, Pod<N>>,
    session: Option<Session>,
}

/// A pod's state, for dumps and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Not carried for yet.
    Pending,
    /// Carried for.
    Up,
}

impl<N: Clone + PartialEq> Default for Enrol<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Clone + PartialEq> Enrol<N> {
    /// No pods, no connection.
    #[must_use]
    pub fn new() -> Self {
        Self { pods: BTreeMap::new(), session: None }
    }

    /// A connection to the agent begins: it will name all pods anew.
    pub fn on_connected(&mut self) {
        self.session = Some(Session::default());
    }

    /// The connection is lost. Every pod stays.
    pub fn on_disconnected(&mut self) {
        self.session = None;
    }

    /// A packet arrived, with these namespaces.
    pub fn on_packet(&mut self, packet: Result<Request, LinkError>, mut netns: Vec<N>) -> Vec<Action<N>> {
        let request = match packet {
            Ok(request) => request,
            Err(error) => return refuse(format!("cannot read the request: {}", chain(&error))),
        };
        if netns.len() != request.descriptors() {
            return refuse(format!("{} descriptors came, not {}", netns.len(), request.descriptors()));
        }
        match (request, netns.pop()) {
            (Request::Add { uid, info }, Some(netns)) => self.add(uid, info, netns),
            (Request::Add { .. }, None) => refuse("no network namespace came along".into()),
            (Request::Keep { uid }, _) => self.keep(uid),
            (Request::Del { uid }, _) => self.del(&uid),
            (Request::SnapshotSent, _) => self.snapshot_sent(),
        }
    }

    /// A start ended.
    pub fn on_started(&mut self, uid: &PodUid, outcome: Result<(), String>) -> Vec<Action<N>> {
        let Some(pod) = self.pods.remove(uid) else { return Vec::new() };
        let Pod::Binding { info, netns, asked } = pod else {
            self.pods.insert(uid.clone(), pod);
            return Vec::new();
        };
        let (pod, answer) = match outcome {
            Ok(()) => (Pod::Serving { info, netns }, Action::Vouch { uid: uid.clone() }),
            Err(why) => (Pod::Failed { info, netns }, Action::Answer(Response::Failed(why))),
        };
        self.pods.insert(uid.clone(), pod);
        if asked { vec![answer] } else { Vec::new() }
    }

    /// Time to try the failed ones again.
    pub fn on_retry(&mut self) -> Vec<Action<N>> {
        let failed = |(uid, pod): (&PodUid, &Pod<N>)| matches!(pod, Pod::Failed { .. }).then(|| uid.clone());
        let failed: Vec<PodUid> = self.pods.iter().filter_map(failed).collect();
        let mut actions = Vec::new();
        for uid in failed {
            let Some(Pod::Failed { info, netns }) = self.pods.remove(&uid) else { continue };
            actions.push(self.start(uid, info, netns, false));
        }
        actions
    }

    /// Whether the agent has named all pods on the present connection and all are served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let complete = self.session.as_ref().is_some_and(|session| session.complete);
        complete && self.pods.values().all(|pod| matches!(pod, Pod::Serving { .. }))
    }

    /// Every pod with its state, by uid.
    pub fn pods(&self) -> impl Iterator<Item = (&PodUid, &PodInfo, Shown)> {
        self.pods.iter().map(|(uid, pod)| match pod {
            Pod::Serving { info, .. } => (uid, info, Shown::Up),
            Pod::Binding { info, .. } | Pod::Failed { info, .. } => (uid, info, Shown::Pending),
        })
    }

    fn add(&mut self, uid: PodUid, info: PodInfo, netns: N) -> Vec<Action<N>> {
        let Some(session) = &mut self.session else { return Vec::new() };
        if !session.complete {
            session.named.insert(uid.clone());
        }
        let mut actions = Vec::new();
        match self.pods.get(&uid) {
            Some(Pod::Serving { netns: present, .. }) if *present == netns => {
                return vec![Action::Vouch { uid }];
            }
            Some(Pod::Serving { .. } | Pod::Binding { .. }) => {
                actions.push(Action::Stop { uid: uid.clone() })
            }
            Some(Pod::Failed { .. }) => {}
            None if self.pods.len() >= PODS => {
                return vec![Action::Answer(Response::Failed(format!("more than {PODS} pods on this node")))];
            }
            None => {}
        }
        actions.push(self.start(uid, info, netns, true));
        actions
    }

    fn start(&mut self, uid: PodUid, info: PodInfo, netns: N, asked: bool) -> Action<N> {
        let binding = Pod::Binding { info: info.clone(), netns: netns.clone(), asked };
        self.pods.insert(uid.clone(), binding);
        Action::Start { uid, info, netns }
    }

    fn keep(&mut self, uid: PodUid) -> Vec<Action<N>> {
        match &mut self.session {
            Some(session) if !session.complete => {
                session.named.insert(uid);
                vec![Action::Answer(Response::Done)]
            }
            _ => refuse("keep is for before the end of the snapshot".into()),
        }
    }

    fn del(&mut self, uid: &PodUid) -> Vec<Action<N>> {
        let complete = match &mut self.session {
            Some(session) => {
                session.named.remove(uid);
                session.complete
            }
            None => return Vec::new(),
        };
        let mut actions = Vec::new();
        // Before the end of the snapshot it goes with all others that were not named.
        if complete && self.pods.remove(uid).is_some() {
            actions.push(Action::Stop { uid: uid.clone() });
        }
        actions.push(Action::Answer(Response::Done));
        actions
    }

    fn snapshot_sent(&mut self) -> Vec<Action<N>> {
        let Some(session) = self.session.as_mut().filter(|session| !session.complete) else {
            return refuse("the snapshot ended before".into());
        };
        session.complete = true;
        let named = std::mem::take(&mut session.named);
        let gone: Vec<PodUid> = self.pods.keys().filter(|uid| !named.contains(*uid)).cloned().collect();
        let mut actions = Vec::new();
        for uid in gone {
            self.pods.remove(&uid);
            actions.push(Action::Stop { uid });
        }
        actions.push(Action::Answer(Response::Done));
        actions
    }
}

fn refuse<N>(why: String) -> Vec<Action<N>> {
    vec![Action::Answer(Response::Failed(why)), Action::HangUp]
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
