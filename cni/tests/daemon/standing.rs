//! The condition on a pod: what it says, since when, and that it is written no more often than it changes.

use std::time::Duration;

use ambit_sys::netns::Netns;
use serde_json::{Value, json};

use crate::kube::{Cluster, NAMESPACES, Order, PODS};
use crate::stage::{Manner, namespace, pod};

/// The condition of `web`, as `status reason`.
fn standing(cluster: &Cluster) -> Option<(String, String)> {
    let it = entry(cluster)?;
    let text = |key: &str| it[key].as_str().unwrap().to_owned();
    Some((text("status"), text("reason")))
}

fn entry(cluster: &Cluster) -> Option<Value> {
    let object = cluster.fake().object(PODS, "shop", "web")?;
    let all = object["status"]["conditions"].as_array()?.clone();
    all.into_iter().find(|it| it["type"] == "ambit.io/Enrolled")
}

fn is(cluster: &Cluster, status: &str, reason: &str) -> bool {
    standing(cluster) == Some((status.into(), reason.into()))
}

/// With a condition of kubelet's.
fn watched() -> Value {
    let mut pod = pod("web", "u-1");
    pod["status"] = json!({ "phase": "Pending", "conditions": [{ "type": "Ready", "status": "False" }] });
    pod
}

#[test]
fn a_pods_condition_says_that_it_is_proven_to_be_in_and_goes_with_it() {
    let cluster = Cluster::with(Some("ambient"), &[watched()], &[]);
    let stage = &cluster.stage;
    let netns = Netns::anonymous().unwrap();
    assert!(!stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(is(&cluster, "False", "ZtunnelNotConnected"), "{:?}", entry(&cluster));
    let refused = entry(&cluster).unwrap();
    assert!(refused["message"].as_str().unwrap().contains("no ztunnel is connected"), "{refused}");
    let ztunnel = stage.ztunnel();
    ztunnel.answer(Manner::Awaits);
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(cluster.is_enabled("web"));
    assert!(is(&cluster, "Unknown", "CertificateAwaited"), "nothing is proven yet: {:?}", entry(&cluster));
    ztunnel.answer(Manner::Holds);
    stage.eventually("it is proven", || is(&cluster, "True", "Enrolled"));
    let since = entry(&cluster).unwrap()["lastTransitionTime"].clone();
    assert!(since.as_str().is_some_and(|it| it.ends_with('Z')), "{since}");

    let object = cluster.fake().object(PODS, "shop", "web").unwrap();
    assert_eq!(object["status"]["conditions"][0], json!({ "type": "Ready", "status": "False" }));
    cluster.put(NAMESPACES, namespace(None));
    stage.eventually("out", || entry(&cluster).is_none() && cluster.redirection("web").is_none());
    let object = cluster.fake().object(PODS, "shop", "web").unwrap();
    assert_eq!(object["status"]["conditions"], json!([{ "type": "Ready", "status": "False" }]));
}

#[test]
fn a_certificate_that_does_not_come_or_goes_is_told_and_so_is_that_it_came() {
    let cluster = Cluster::with(Some("ambient"), &[watched()], &[]);
    let stage = &cluster.stage;
    let ztunnel = stage.ztunnel();
    ztunnel.answer(Manner::Awaits);
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(is(&cluster, "Unknown", "CertificateAwaited"), "it may come in a moment: {:?}", entry(&cluster));
    cluster.stage.eventually("it does not come", || is(&cluster, "False", "CertificateMissing"));
    assert!(cluster.is_enabled("web"), "it is redirected all the same");
    ztunnel.answer(Manner::Holds);
    stage.eventually("it came", || is(&cluster, "True", "Enrolled"));
    ztunnel.answer(Manner::Awaits);
    cluster.stage.eventually("it went", || is(&cluster, "False", "CertificateMissing"));
}

#[test]
fn a_condition_that_holds_is_not_written_again_by_audits_or_by_the_next_daemon() {
    let mut cluster = Cluster::with(Some("ambient"), &[watched()], &[]);
    let first = cluster.stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    assert!(is(&cluster, "True", "Enrolled"), "in the same breath as the annotation: {:?}", entry(&cluster));
    // Some audits, and another's word on the pod.
    std::thread::park_timeout(Duration::from_millis(2500));
    assert_eq!(cluster.count("PATCH"), 1);
    cluster.stage.kill();
    drop(first);
    cluster.stage.start();
    let second = cluster.stage.ztunnel();
    cluster.stage.eventually("asked for", || second.has_heard("add u-1"));
    std::thread::park_timeout(Duration::from_millis(2500));
    assert_eq!(cluster.count("PATCH"), 1, "{:?}", entry(&cluster));
    // Somebody takes it off.
    let mut object = cluster.fake().object(PODS, "shop", "web").unwrap();
    object["status"]["conditions"] = json!([]);
    cluster.put(PODS, object);
    cluster.stage.eventually("written again", || is(&cluster, "True", "Enrolled"));
}

#[test]
fn a_pod_whose_ztunnel_stays_away_is_not_known_to_be_in_and_says_so_after_a_while() {
    let cluster = Cluster::with(Some("ambient"), &[watched()], &[]);
    let first = cluster.stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    drop(first);
    std::thread::park_timeout(Duration::from_secs(2));
    assert!(is(&cluster, "True", "Enrolled"), "one that is replaced is back long before");
    cluster.stage.eventually("it is not known", || is(&cluster, "Unknown", "ZtunnelNotConnected"));
    assert!(cluster.is_enabled("web"), "its peers must not send it plaintext");
    let _second = cluster.stage.ztunnel();
    cluster.stage.eventually("it is known again", || is(&cluster, "True", "Enrolled"));
}

#[test]
fn an_api_server_that_was_away_learns_the_condition_afterwards() {
    let cluster = Cluster::with(Some("ambient"), &[watched()], &[]);
    let _ztunnel = cluster.stage.ztunnel();
    cluster.order(Order::Fall);
    let netns = Netns::anonymous().unwrap();
    assert!(cluster.stage.plugin("ADD", "web", "u-1", &netns).good);
    cluster.order(Order::Rise);
    cluster.stage.eventually("told", || is(&cluster, "True", "Enrolled") && cluster.is_enabled("web"));
}
