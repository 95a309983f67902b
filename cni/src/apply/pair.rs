//! For tests: a pod's namespace and another, on one link. Needs root and the `ip` program.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;

use ambit_kit::until_up;
use ambit_sys::netns::Netns;

/// The pod's addresses.
pub(super) const POD: [&str; 2] = ["10.99.0.1", "fd99::1"];
/// The other's.
pub(super) const PEER: [&str; 2] = ["10.99.0.2", "fd99::2"];

/// Both, with their addresses, and the link working.
pub(super) fn pair() -> (Netns, Netns) {
    let (pod, peer) = (Netns::anonymous().expect("needs root"), Netns::anonymous().expect("needs root"));
    let into = format!("/proc/{}/fd/{}", std::process::id(), peer.as_fd().as_raw_fd());
    ip(&pod, &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", &into]);
    for (ns, link, [four, six]) in [(&pod, "eth0", POD), (&peer, "eth1", PEER)] {
        ip(ns, &["addr", "add", &format!("{four}/24"), "dev", link]);
        ip(ns, &["addr", "add", &format!("{six}/64"), "dev", link, "nodad"]);
        for link in [link, "lo"] {
            ip(ns, &["link", "set", link, "up"]);
        }
    }
    for (ns, link) in [(&pod, "eth0"), (&peer, "eth1")] {
        ns.run(|| until_up(&[link])).unwrap();
    }
    (pod, peer)
}

fn ip(netns: &Netns, words: &[&str]) {
    let output = netns.run(|| Command::new("ip").args(words).output()).unwrap();
    let output = output.expect("needs ip: apt-get install iproute2");
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
