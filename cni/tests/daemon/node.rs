//! A node that has just started: pods are asked about before its ztunnel is there, or before the daemon knows of any.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ambit_sys::netns::Netns;
use serde_json::{Value, json};

use super::{ambient, code, post, stage};
use crate::kube::{Cluster, Order};
use crate::stage::{Manner, Stage, filter, pod};

const WAITS: &str = "waits for this node's ztunnel";

/// The node's own ztunnel, as its object is after a crash: nobody has said yet that it does not run.
fn proxy() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "ztunnel-x7", "namespace": "istio-system", "uid": "u-z", "labels": { "app": "ztunnel" },
        },
        "spec": { "nodeName": "n1", "containers": [{ "name": "istio-proxy" }] },
        "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.2" }] },
    })
}

fn question(namespace: &str, name: &str, netns: &Netns) -> String {
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    json!({ "Netns": path, "PodName": name, "PodNamespace": namespace }).to_string()
}

#[test]
fn a_pod_waits_for_its_nodes_ztunnel_and_nobody_waits_with_it_who_does_not_need_one() {
    let mut out = pod("out", "u-2");
    out["metadata"]["labels"] = json!({ "istio.io/dataplane-mode": "none" });
    let stage = stage(&[ambient(), proxy(), pod("web", "u-1"), out]);
    let (netns, other) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| stage.plugin("ADD", "web", "u-1", &netns));
        stage.eventually("it waits", || stage.log().contains(WAITS));
        assert!(stage.plugin("ADD", "out", "u-2", &other).good);
        let said = post(&stage, "/cmdadd", &question("istio-system", "ztunnel-x7", &other));
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("\"enrolled\":false"), "{said}");
        assert!(stage.plugin("DEL", "nobody", "u-9", &other).good);
        assert!(!asking.is_finished(), "{:?}", asking.join());
        assert_eq!((filter(&netns), stage.redirection("web")), (String::new(), None));
        std::thread::park_timeout(Duration::from_secs(3));
        let ztunnel = stage.ztunnel();
        (asking.join().unwrap(), ztunnel.heard())
    });
    assert!(answer.0.good, "{answer:?}\n{}", stage.log());
    assert!(filter(&netns).contains("redirect to :15001"));
    assert_eq!(stage.redirection("web").as_deref(), Some("enabled"));
}

#[test]
fn a_ztunnel_that_does_not_come_is_given_up_with_its_reason_and_one_that_nobody_expects_at_once() {
    let stage = stage(&[ambient(), proxy(), pod("web", "u-1")]);
    let netns = Netns::anonymous().unwrap();
    let begun = Instant::now();
    let answer = stage.plugin("ADD", "web", "u-1", &netns);
    let waited = begun.elapsed();
    assert!(code(&answer) == 11 && answer.output.contains("no ztunnel is connected"), "{answer:?}");
    assert!(waited >= Duration::from_secs(15), "{waited:?}");
    assert_eq!((filter(&netns), stage.redirection("web").as_deref()), (String::new(), Some("pending")));
    stage.tell(&[ambient(), pod("web", "u-1")]);
    stage.eventually("it is refused at once", || {
        let begun = Instant::now();
        assert_eq!(code(&stage.plugin("ADD", "web", "u-1", &netns)), 11);
        begun.elapsed() < Duration::from_secs(10)
    });
}

#[test]
fn a_runtime_that_has_given_up_leaves_nothing_that_waits_and_a_label_is_heard_meanwhile() {
    let stage = stage(&[ambient(), proxy(), pod("web", "u-1"), pod("db", "u-2")]);
    let (web, db) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let mut asked = UnixStream::connect(stage.path("run/pluginevent.sock")).unwrap();
    let body = question("shop", "web", &web);
    let length = body.len();
    write!(asked, "POST /cmdadd HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    stage.eventually("it waits", || stage.log().contains(WAITS));
    drop(asked);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| stage.plugin("ADD", "db", "u-2", &db));
        stage.eventually("the other one waits", || stage.log().matches(WAITS).count() == 2);
        let mut out = pod("db", "u-2");
        out["metadata"]["labels"] = json!({ "istio.io/dataplane-mode": "none" });
        stage.tell(&[ambient(), proxy(), pod("web", "u-1"), out]);
        let answer = asking.join().unwrap();
        assert!(answer.good, "{answer:?}");
    });
    let ztunnel = stage.ztunnel();
    // Whoever waited before is asked for before the one that comes now.
    stage.tell(&[ambient(), proxy(), pod("web", "u-1"), pod("db", "u-2")]);
    stage.eventually("it is in", || ztunnel.has_heard("add u-2"));
    assert!(!ztunnel.has_heard("add u-1"), "{:?}", ztunnel.heard());
    assert_eq!(filter(&web), "");
}

#[test]
fn a_sandbox_goes_at_once_while_its_pods_keeper_is_busy() {
    let stage = stage(&[ambient(), pod("web", "u-1")]);
    let ztunnel = stage.ztunnel();
    ztunnel.answer(Manner::Silent);
    let netns = Netns::anonymous().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| stage.plugin("ADD", "web", "u-1", &netns));
        stage.eventually("its keeper is busy", || ztunnel.has_heard("add u-1"));
        let answer = stage.plugin("DEL", "web", "u-1", &netns);
        assert!(answer.good, "{answer:?}");
        assert!(!asking.is_finished(), "the keeper was not busy: {:?}", asking.join());
    });
    assert_eq!(filter(&netns), "");
}

#[test]
fn a_sandbox_goes_at_once_while_a_new_daemon_cannot_read_the_cluster() {
    let mut cluster = Cluster::with(Some("ambient"), &[pod("web", "u-1")], &[]);
    let first = cluster.stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    cluster.stage.kill();
    drop(first);
    cluster.order(Order::Fall);
    cluster.stage.start();
    let records = |stage: &Stage| fs::read_dir(stage.path("run/pods")).unwrap().count();
    assert_eq!(records(&cluster.stage), 1);
    let answer = cluster.stage.plugin("DEL", "web", "u-1", &netns);
    assert!(answer.good, "{answer:?}\n{}", cluster.stage.log());
    assert_eq!(records(&cluster.stage), 0);
}
