//! Names that a pod asks for while it leaves.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use ambit_sys::netns::Netns;
use serde_json::json;

use super::{ambient, stage};
use crate::stage::{namespace, pod};

/// What the daemon gives an answer to come.
const WAIT: Duration = Duration::from_secs(2);

/// A namespace with an address, from which something else can be asked.
fn connected() -> Netns {
    let netns = Netns::anonymous().unwrap();
    let steps: [&[&str]; 4] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
        &["addr", "add", "10.0.0.5/24", "dev", "eth0"],
        &["link", "set", "eth0", "up"],
    ];
    for words in steps {
        let done = netns.run(|| Command::new("ip").args(words).status()).unwrap();
        assert!(done.expect("needs ip: apt-get install iproute2").success(), "ip {words:?}");
    }
    netns
}

#[test]
fn a_pod_that_leaves_waits_for_the_answer_to_a_name_it_has_asked_for_but_not_for_ever() {
    let mut web = pod("web", "u-1");
    web["metadata"]["annotations"] = json!({ "ambient.istio.io/dns-capture": "true" });
    let stage = stage(&[ambient(), web.clone()]);
    let (ztunnel, netns) = (stage.ztunnel(), connected());
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    let bind = |at: &str| netns.run(|| UdpSocket::bind(at).unwrap()).unwrap();
    let (proxy, asker) = (bind("127.0.0.1:15053"), bind("10.0.0.5:0"));
    proxy.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    asker.send_to(b"who", "10.0.0.53:53").unwrap();
    let (_, from) = proxy.recv_from(&mut [0; 16]).expect("the question is led to ztunnel");
    assert_eq!(from, asker.local_addr().unwrap());
    let begun = Instant::now();
    stage.tell(&[namespace(None), web]);
    stage.eventually("let go", || ztunnel.has_heard("del u-1"));
    assert!(begun.elapsed() >= WAIT, "it was let go after {:?}", begun.elapsed());
}
