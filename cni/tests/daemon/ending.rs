//! A daemon that is asked to end: for its successor, or because the mesh leaves the node (`cni.md` 3.7).

use std::fs;

use ambit_kit::fake_api::Trick;
use ambit_sys::netns::Netns;
use serde_json::json;

use crate::installed::{LIST, folders, is_last};
use crate::kube::{Cluster, Order};
use crate::stage::{Ztunnel, filter, pod};

const SETS: &str = "/apis/apps/v1/daemonsets";

/// A node with a pod in the mesh and the plugin installed, whose daemon knows its set.
struct Scene {
    cluster: Cluster,
    dir: tempfile::TempDir,
    netns: Netns,
    _ztunnel: Ztunnel,
}

impl Scene {
    fn new(more: &[&str]) -> Self {
        let (dir, flags) = folders(Some(LIST));
        let flags: Vec<_> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let cluster = Cluster::with(Some("ambient"), &[pod("web", "u-1")], &flags);
        let ztunnel = cluster.stage.ztunnel();
        let netns = Netns::anonymous().unwrap();
        let answer = cluster.stage.plugin("ADD", "web", "u-1", &netns);
        assert!(answer.good, "{answer:?}\n{}", cluster.stage.log());
        cluster.stage.eventually("installed", || is_last(&dir, "10-net.conflist"));
        Self { cluster, dir, netns, _ztunnel: ztunnel }
    }

    /// With a set that the daemon has seen.
    fn with_set(more: &[&str]) -> Self {
        let scene = Self::new(&[&["--pod-namespace", "istio-system"], more].concat());
        let set = json!({"metadata": {"name": "istio-cni-node", "namespace": "istio-system"}});
        scene.cluster.put(SETS, set);
        let stage = &scene.cluster.stage;
        stage.eventually("seen", || stage.log().contains("goes when its daemon set goes"));
        scene
    }

    fn assert_kept(&self) {
        assert!(filter(&self.netns).contains("redirect to :15001"), "{}", self.cluster.stage.log());
        assert!(filter(&self.cluster.stage.node).contains("10.0.0.5 . 80"));
        assert!(is_last(&self.dir, "10-net.conflist") && self.dir.path().join("bin/ambit-cni").exists());
        assert!(self.cluster.is_enabled("web"));
    }

    fn assert_off_the_node(&self) {
        let log = self.cluster.stage.log();
        assert_eq!(filter(&self.cluster.stage.node), "", "{log}");
        assert_eq!(fs::read_to_string(self.dir.path().join("net/10-net.conflist")).unwrap(), LIST);
        assert_eq!(fs::read_dir(self.dir.path().join("net")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.dir.path().join("bin")).unwrap().count(), 0);
        assert!(!self.cluster.stage.path("run").exists(), "{log}");
    }
}

#[test]
fn a_daemon_whose_set_goes_on_leaves_everything_to_its_successor() {
    let mut scene = Scene::with_set(&[]);
    scene.cluster.stage.terminate();
    scene.assert_kept();
}

// K25
#[test]
fn when_the_set_is_deleted_pods_leave_in_order_and_the_node_is_as_it_was() {
    let mut scene = Scene::with_set(&[]);
    scene.cluster.fake().remove(SETS, "istio-system", "istio-cni-node");
    scene.cluster.stage.terminate();
    assert_eq!((scene.cluster.redirection("web"), filter(&scene.netns)), (None, String::new()));
    scene.assert_off_the_node();
}

// K28
#[test]
fn rights_that_were_taken_away_are_an_uninstallation_too_and_pods_leave_all_the_same() {
    let mut scene = Scene::with_set(&[]);
    scene.cluster.fake().trick("", Trick::Refuse(403), 10_000);
    scene.cluster.stage.terminate();
    assert_eq!(filter(&scene.netns), "");
    assert!(scene.cluster.is_enabled("web"), "nobody may write it any more");
    scene.assert_off_the_node();
}

#[test]
fn another_agent_may_take_over_pods_that_are_not_to_be_let_out() {
    let mut scene = Scene::with_set(&["--unenrol-on-uninstall", "false"]);
    scene.cluster.fake().remove(SETS, "istio-system", "istio-cni-node");
    scene.cluster.stage.terminate();
    assert!(filter(&scene.netns).contains("redirect to :15001") && scene.cluster.is_enabled("web"));
    scene.assert_off_the_node();
}

#[test]
fn an_api_server_that_is_away_is_no_uninstallation() {
    let mut scene = Scene::with_set(&[]);
    scene.cluster.order(Order::Fall);
    scene.cluster.stage.terminate();
    scene.assert_kept();
}

#[test]
fn a_set_that_was_never_seen_or_rights_that_never_were_there_are_no_uninstallation() {
    let mut scene = Scene::new(&["--pod-namespace", "istio-system"]);
    scene.cluster.stage.terminate();
    scene.assert_kept();
    let mut scene = Scene::new(&["--pod-namespace", "istio-system"]);
    scene.cluster.fake().trick("daemonsets", Trick::Refuse(403), 10_000);
    scene.cluster.stage.terminate();
    scene.assert_kept();
}
