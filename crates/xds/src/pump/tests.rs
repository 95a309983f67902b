//! Pump and server over real sockets on loopback: first sync, pushes, refusals, and reconnecting for changes only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_model::delta::{Change, Delta};
use ambit_process::net::TcpListener;
use ambit_process::tasks::Tasks;
use ambit_wire::convert::ResourceType;
use futures_util::FutureExt;
use futures_util::stream::unfold;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::library::Library;
use crate::loopback::node;
use crate::sample::{delta, gone, pod, policy, service};
use crate::server::{Ads, Caller, Streams};

const WAIT: Duration = Duration::from_secs(60);

/// A control plane that can be stopped and started again at the same address.
struct Plane {
    address: SocketAddr,
    library: watch::Sender<Arc<Library>>,
    stop: Stop,
    streams: Streams,
    tasks: Tasks,
}

impl Plane {
    async fn start(address: SocketAddr, world: Library) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (library, view) = watch::channel(Arc::new(world));
        let stop = Stop::new();
        let admit = |headers: &MetadataMap, _: &tonic::Extensions| match headers.get("authorization") {
            Some(token) if token == "Bearer good" => Ok(Caller::default()),
            _ => Err(Status::unauthenticated("authentication failure")),
        };
        let ads = Ads::new(view, Arc::new(admit), stop.clone());
        let streams = ads.streams();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("server", move |stop| async move {
            let connections = unfold(listener, |listener| async move {
                let connection = listener.accept().await.map(|(stream, _)| stream);
                Some((connection, listener))
            });
            let ended = async move { stop.stopped().await };
            let server = Server::builder();
            server.serve_with_incoming_shutdown(ads.into_service(), connections, ended).await.unwrap();
        });
        Self { address, library, stop, streams, tasks }
    }

    fn publish(&self, delta: &Delta) {
        self.library.send_modify(|library| *library = Arc::new(library.with(delta)));
    }

    async fn end(self) -> (SocketAddr, Library) {
        self.stop.stop();
        self.tasks.drain(WAIT).await;
        (self.address, (**self.library.borrow()).clone())
    }
}

/// A subscriber whose world is the test.
struct Node {
    batches: mpsc::Receiver<Apply>,
    handle: Handle,
    tasks: Tasks,
}

impl Node {
    fn start(address: SocketAddr, tokens: &'static [&'static str]) -> Self {
        Self::begin(address, tokens, Mode::Wildcard)
    }

    fn begin(address: SocketAddr, tokens: &'static [&'static str], mode: Mode) -> Self {
        let (world, batches) = mpsc::channel(1);
        let dial = move || {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            async move { endpoint.connect().await.map_err(Into::into) }.boxed()
        };
        let used = AtomicUsize::new(0);
        let headers = move || {
            let token = tokens[used.fetch_add(1, Ordering::Relaxed).min(tokens.len() - 1)];
            let mut headers = MetadataMap::new();
            headers.insert("authorization", token.parse()?);
            Ok(headers)
        };
        let settings =
            Settings { node: node("ztunnel", "n1"), mode, dial: Box::new(dial), headers: Box::new(headers) };
        let (pump, handle) = Pump::new(settings, world);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("pump", |stop| pump.run(stop));
        Self { batches, handle, tasks }
    }

    /// The next batch, in force at once.
    async fn next(&mut self) -> Vec<Change> {
        let Apply { batch, done } = timeout(WAIT, self.batches.recv()).await.unwrap().unwrap();
        done.send(()).unwrap();
        batch.delta.changes
    }

    /// Batches until both types have come.
    async fn first_sync(&mut self) -> Vec<Change> {
        let mut changes = self.next().await;
        changes.extend(self.next().await);
        let in_step = |progress: &Progress| progress.in_step;
        timeout(WAIT, self.handle.progress.wait_for(in_step)).await.unwrap().unwrap();
        changes
    }

    async fn end(self) {
        self.tasks.drain(WAIT).await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn a_subscriber_gets_everything_and_then_what_changes() {
    let plane =
        Plane::start(any_port(), Library::default().with(&delta([pod("a", 1), policy("p", 1)]))).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    assert_eq!(node.first_sync().await, [policy("p", 1), pod("a", 1)]);
    plane.publish(&delta([service("s", 1), gone(&pod("a", 1))]));
    assert_eq!(node.next().await, [service("s", 1), gone(&pod("a", 1))]);
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn an_empty_world_is_a_world_too() {
    let plane = Plane::start(any_port(), Library::default()).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    assert_eq!(node.first_sync().await, []);
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn an_acknowledgement_reaches_the_record_only_when_the_batch_is_in_force() {
    let plane = Plane::start(any_port(), Library::default().with(&delta([policy("p", 1)]))).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    let Apply { done, .. } = timeout(WAIT, node.batches.recv()).await.unwrap().unwrap();
    until("sent", || plane.streams.view().iter().any(|stream| !stream.is_in_step())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let policies = plane.streams.view()[0].types[&ResourceType::Authorization].clone();
    assert_eq!((policies.sent, policies.answered, policies.acks), (Some(1), None, 0));
    done.send(()).unwrap();
    let _ = node.next().await;
    until("acknowledged", || plane.streams.view().iter().all(|stream| stream.is_in_step())).await;
    let policies = plane.streams.view()[0].types[&ResourceType::Authorization].clone();
    assert_eq!((policies.answered, policies.acks, policies.nacks), (Some(1), 1, 0));
    node.end().await;
    until("gone from the record", || plane.streams.is_empty()).await;
    plane.end().await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_only_changes_come() {
    let world = Library::default().with(&delta([pod("a", 1), pod("b", 1), policy("p", 1), policy("q", 1)]));
    let plane = Plane::start(any_port(), world).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    assert_eq!(node.first_sync().await.len(), 4);
    let (address, world) = plane.end().await;
    // Another server: it has the same content and none of the history.
    let mut anew = Library::default();
    for kind in ResourceType::OF_NODES {
        assert!(world.len(kind) == 2);
    }
    anew = anew.with(&delta([pod("a", 1), pod("b", 2), pod("c", 1), policy("p", 1)]));
    let plane = Plane::start(address, anew).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(node.next().await);
    }
    assert_eq!(got, [pod("b", 2), pod("c", 1), gone(&policy("q", 1))]);
    plane.publish(&delta([pod("d", 1)]));
    assert_eq!(node.next().await, [pod("d", 1)], "and nothing more than that");
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn a_refused_subscriber_reads_its_token_anew_and_tries_again() {
    let plane = Plane::start(any_port(), Library::default()).await;
    let mut node = Node::start(plane.address, &["Bearer stale", "Bearer good"]);
    let refused = |progress: &Progress| matches!(progress.last_ending, Some(Ending::Refused(_)));
    timeout(WAIT, node.handle.progress.wait_for(refused)).await.unwrap().unwrap();
    assert_eq!(node.first_sync().await, []);
    assert!(node.handle.progress.borrow().attempts >= 2);
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn a_bad_resource_is_refused_by_name_and_the_rest_is_in_force() {
    // Too large for a subscriber, and all a server of ours can be made to say wrong.
    let Change::Workload(mut huge) = pod("huge", 1) else { panic!("a pod") };
    Arc::make_mut(&mut huge).name = "x".repeat(limits::RESOURCE).into();
    let plane = Plane::start(any_port(), Library::default()).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    node.first_sync().await;
    plane.publish(&delta([pod("a", 1), Change::Workload(huge)]));
    assert_eq!(node.next().await, [pod("a", 1)]);
    let refusal = || plane.streams.view().first()?.types.get(&ResourceType::Address)?.refused.clone();
    until("recorded", || refusal().is_some()).await;
    let text = refusal().unwrap().text;
    assert!(text.starts_with("Kubernetes//Pod/ns/huge: the resource has "), "{text}");
    until("counted", || node.handle.progress.borrow().refused == 1).await;
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn changes_made_while_a_batch_is_applied_come_as_one() {
    let plane = Plane::start(any_port(), Library::default()).await;
    let mut node = Node::start(plane.address, &["Bearer good"]);
    node.first_sync().await;
    plane.publish(&delta([pod("a", 1)]));
    let Apply { batch, done } = timeout(WAIT, node.batches.recv()).await.unwrap().unwrap();
    assert_eq!(batch.delta.changes, [pod("a", 1)]);
    for revision in 0..2000 {
        plane.publish(&delta([pod("b", revision)]));
        if revision % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    done.send(()).unwrap();
    let (mut batches, mut last) = (0, Vec::new());
    while last != [pod("b", 1999)] {
        last = node.next().await;
        batches += 1;
    }
    assert!(batches < 200, "{batches} batches for 2000 changes");
    node.end().await;
    plane.end().await;
}

#[tokio::test]
async fn on_demand_a_lookup_ends_when_its_name_is_in_force_or_known_to_be_missing_or_late() {
    let world = Library::default().with(&delta([pod("a", 1), policy("p", 1)]));
    let plane = Plane::start(any_port(), world).await;
    let mut node = Node::begin(plane.address, &["Bearer good"], Mode::OnDemand);
    let lookups = node.handle.lookups.clone();
    let ask = async {
        let missing = lookups.lookup("/10.0.9.9", WAIT).await;
        let both = tokio::join!(lookups.lookup("/10.0.0.1", WAIT), lookups.lookup("/10.0.0.1", WAIT));
        (missing, both.0, both.1)
    };
    let apply = async {
        let mut seen = Vec::new();
        while !seen.contains(&pod("a", 1)) {
            seen.extend(node.next().await);
        }
    };
    let (outcomes, ()) = tokio::join!(ask, apply);
    assert_eq!(outcomes, (Lookup::Missing, Lookup::InForce, Lookup::InForce), "two wait for one name");
    // Nobody takes the batch: what is not in force is not known.
    assert_eq!(lookups.lookup("/10.0.9.8", Duration::from_millis(200)).await, Lookup::Late);
    node.end().await;
    assert_eq!(lookups.lookup("/10.0.0.1", WAIT).await, Lookup::Busy);
    plane.end().await;
}
