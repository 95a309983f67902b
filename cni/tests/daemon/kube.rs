//! The daemon on a Kubernetes API that is played: what it reads, what it writes onto pods, and what stays while the
//! API server is away.

use std::fs;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ambit_kit::fake_api::{FakeApi, Trick};
use ambit_sys::netns::Netns;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::leave::get;
use crate::stage::{Stage, filter, namespace, pod};

pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";

/// A node with an API server in its namespace.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    fake: Arc<Mutex<FakeApi>>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Fall,
    Rise,
}

impl Cluster {
    /// With these objects, and a running daemon.
    pub(crate) fn with(mode: Option<&str>, pods: &[Value], more: &[&str]) -> Self {
        let stage = Stage::empty(env!("CARGO_BIN_EXE_ambit-cni-node"));
        let (orders, ordered) = mpsc::channel(1);
        let (made, fake) = std::sync::mpsc::channel();
        let node = stage.node.try_clone().unwrap();
        // All of it is in the node's namespace.
        let serve = move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let fake = Arc::new(Mutex::new(FakeApi::start().await));
                made.send(Arc::clone(&fake)).unwrap();
                obey(&fake, ordered).await;
            });
        };
        let thread = std::thread::spawn(move || node.run(serve).unwrap());
        let fake = fake.recv().unwrap();
        let mut cluster = Self { stage, fake, orders: Some(orders), thread: Some(thread) };
        cluster.put(NAMESPACES, namespace(mode));
        pods.iter().for_each(|pod| cluster.put(PODS, pod.clone()));
        let path = cluster.stage.path("kubeconfig");
        fs::write(&path, cluster.fake().kubeconfig()).unwrap();
        cluster.stage.more = vec!["--kubeconfig".into(), path.to_str().unwrap().into()];
        cluster.stage.more.extend(more.iter().map(|it| (*it).to_owned()));
        cluster.stage.start();
        cluster
    }

    pub(crate) fn fake(&self) -> MutexGuard<'_, FakeApi> {
        self.fake.blocking_lock()
    }

    pub(crate) fn put(&self, collection: &str, object: Value) {
        self.fake().put(collection, object);
    }

    /// How often a line was asked that begins so.
    pub(crate) fn count(&self, begins: &str) -> usize {
        self.fake().asked().iter().filter(|it| it.starts_with(begins)).count()
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.as_ref().unwrap().blocking_send(order).unwrap();
    }

    pub(crate) fn redirection(&self, name: &str) -> Option<String> {
        let object = self.fake().object(PODS, "shop", name)?;
        object["metadata"]["annotations"]["ambient.istio.io/redirection"].as_str().map(str::to_owned)
    }

    pub(crate) fn is_enabled(&self, name: &str) -> bool {
        self.redirection(name).as_deref() == Some("enabled")
    }
}

async fn obey(fake: &Mutex<FakeApi>, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let mut fake = fake.lock().await;
        match order {
            Order::Fall => fake.fall(),
            Order::Rise => fake.rise().await,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn elsewhere(name: &str) -> Value {
    let mut pod = pod(name, "u-9");
    pod["spec"]["nodeName"] = json!("n2");
    pod
}

// K29
#[test]
fn a_nodes_own_pods_are_read_from_the_api_and_the_word_is_written_on_the_very_pod() {
    let cluster = Cluster::with(Some("ambient"), &[pod("web", "u-1"), elsewhere("far")], &[]);
    let stage = &cluster.stage;
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    assert!(answer.good, "{answer:?}\n{}", stage.log());
    assert!(filter(&netns).contains("redirect to :15001"));
    assert!(cluster.is_enabled("web"), "before the plugin is answered");
    let asked = cluster.fake().asked();
    let pods: Vec<_> = asked.iter().filter(|it| it.starts_with("GET /api/v1/pods?")).collect();
    assert!(!pods.is_empty() && pods.iter().all(|it| it.contains("spec.nodeName%3Dn1")), "{asked:#?}");
    let written: Vec<_> = asked.iter().filter(|it| it.starts_with("PATCH")).collect();
    assert_eq!(written, ["PATCH /api/v1/namespaces/shop/pods/web/status?fieldManager=ambit-cni"]);

    cluster.put(NAMESPACES, namespace(None));
    stage.eventually("out", || ztunnel.has_heard("del u-1"));
    assert_eq!((cluster.redirection("web"), filter(&netns)), (None, String::new()));
    cluster.put(NAMESPACES, namespace(Some("ambient")));
    stage.eventually("in again", || cluster.is_enabled("web"));
    assert!(stage.plugin("DEL", "web", "u-1", &netns).good);
    assert_eq!(cluster.count("PATCH"), 3, "a pod that ends is not written to");
}

// K35
#[test]
fn whoever_asks_about_a_pod_that_is_refused_is_told_why_once() {
    let cluster = Cluster::with(Some("ambient"), &[pod("web", "u-1")], &[]);
    let netns = Netns::anonymous().unwrap();
    for _ in 0..2 {
        assert!(!cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    }
    assert_eq!(cluster.redirection("web").as_deref(), Some("pending"));
    cluster.stage.eventually("an event", || !cluster.fake().all("/api/v1/events").is_empty());
    let events = cluster.fake().all("/api/v1/events");
    let [event] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("AmbientNotEnrolled")));
    assert_eq!((&event["involvedObject"]["uid"], &event["source"]["host"]), (&json!("u-1"), &json!("n1")));
    assert!(event["message"].as_str().unwrap().contains("ztunnel"), "{event}");
}

// K7
#[test]
fn a_pod_whose_namespace_is_not_known_yet_does_not_start_outside_the_mesh() {
    let mut cluster = Cluster::with(Some("ambient"), &[], &[]);
    cluster.stage.kill();
    cluster.fake().remove(NAMESPACES, "", "shop");
    cluster.stage.start();
    cluster
        .stage
        .eventually("it has read the cluster", || get(&cluster.stage, "/readyz").starts_with("HTTP/1.1 200"));
    let _ztunnel = cluster.stage.ztunnel();
    cluster.put(PODS, pod("web", "u-1"));
    let netns = Netns::anonymous().unwrap();
    let answer = cluster.stage.plugin("ADD", "web", "u-1", &netns);
    assert!(!answer.good && answer.output.contains("not known"), "{answer:?}");
    cluster.put(NAMESPACES, namespace(Some("ambient")));
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(cluster.is_enabled("web"));
}

#[test]
fn an_api_server_that_is_away_freezes_what_is_keeps_nobody_from_starting_and_is_told_afterwards() {
    let pods = [pod("web", "u-1"), pod("db", "u-2")];
    let mut cluster = Cluster::with(Some("ambient"), &pods, &[]);
    let ztunnel = cluster.stage.ztunnel();
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &web).good);
    cluster.order(Order::Fall);
    let answer = cluster.stage.plugin("ADD", "db", "u-2", &db);
    assert!(answer.good, "{answer:?}\n{}", cluster.stage.log());
    assert!(filter(&db).contains("redirect to :15001"));
    // Some audits.
    std::thread::park_timeout(Duration::from_millis(2500));
    let before = (filter(&web), filter(&db), filter(&cluster.stage.node));
    assert!(before.2.contains("10.0.0.5 . 80"), "{}", before.2);
    assert!(!ztunnel.has_heard("del u-1") && !ztunnel.has_heard("del u-2"));

    cluster.stage.kill();
    cluster.stage.start();
    std::thread::park_timeout(Duration::from_millis(2500));
    let after = (filter(&web), filter(&db), filter(&cluster.stage.node));
    assert_eq!(after, before, "a new daemon that knows nothing yet changes nothing");

    cluster.order(Order::Rise);
    let _ztunnel = cluster.stage.ztunnel();
    cluster.stage.eventually("told", || cluster.is_enabled("db"));
    assert!(cluster.is_enabled("web"));
    assert_eq!((filter(&web), filter(&db)), (before.0, before.1));
}

// K26
#[test]
fn a_pod_leaves_after_its_peers_could_be_told_and_stays_in_until_then() {
    let cluster = Cluster::with(Some("ambient"), &[pod("web", "u-1")], &[]);
    let stage = &cluster.stage;
    let ztunnel = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    cluster.fake().trick("PATCH", Trick::Refuse(503), 1000);
    cluster.put(NAMESPACES, namespace(None));
    stage.eventually("tried again", || cluster.count("PATCH") > 3);
    assert!(filter(&netns).contains("redirect to :15001") && !ztunnel.has_heard("del u-1"));
    cluster.fake().behave();
    stage.eventually("out", || ztunnel.has_heard("del u-1"));
    assert_eq!((cluster.redirection("web"), filter(&netns)), (None, String::new()));
}
