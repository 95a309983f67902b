//! Who is taken for a health probe: real connections from the node to an enrolled pod, over a real link.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ambit_kit::{eventually, until_up};

use super::ambient;
use crate::found::Running;
use crate::stage::{Stage, filter};

const PATIENCE: Duration = Duration::from_secs(30);

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status();
    assert!(status.expect("needs ip: apt-get install iproute2").success(), "ip {words}");
}

/// A link between the node, 10.78.0.1, and the pod, 10.78.0.5.
fn link(stage: &Stage, running: &Running) {
    let pid = running.process.id();
    let node = || {
        ip(&format!("link add v{pid} type veth peer name eth0 netns {pid}"));
        ip(&format!("addr add 10.78.0.1/24 dev v{pid}"));
        ip(&format!("link set v{pid} up"));
    };
    stage.node.run(node).unwrap();
    let pod = || {
        ip("addr add 10.78.0.5/24 dev eth0");
        ip("link set eth0 up");
        ip("route add default via 10.78.0.1");
    };
    running.netns.run(pod).unwrap();
    stage.node.run(|| until_up(&[&format!("v{pid}")])).unwrap();
    running.netns.run(|| until_up(&["eth0"])).unwrap();
}

/// Connects from the node to the pod's probed port, as a process of this group; whom the pod took the peer for.
fn peer(stage: &Stage, running: &Running, group: Option<&Path>) -> Option<IpAddr> {
    let listener = running.netns.run(|| TcpListener::bind("10.78.0.5:80").unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let join = group.map_or(String::new(), |it| format!("echo $$ > {}/cgroup.procs && ", it.display()));
    let words = format!("{join}exec timeout 30 bash -c 'exec 3<>/dev/tcp/10.78.0.5/80'");
    let connect = || Command::new("bash").args(["-c", &words]).output().unwrap();
    let connected = stage.node.run(connect).unwrap().status.success();
    let accepted = || match listener.accept() {
        Ok((_, from)) => Some(from.ip()),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            None
        }
    };
    if !connected {
        // Refused by nobody else than the kernel, where it was taken to.
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(accepted(), None, "{words}");
        return None;
    }
    eventually(PATIENCE, || accepted().ok_or("connected, but not here")).map(Some).unwrap()
}

// K20
#[test]
fn the_nodes_probes_pass_and_what_a_pod_on_the_nodes_network_sends_is_captured_like_anybodys() {
    let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let has = unified.iter().any(|it| Path::new(it).join("cgroup.controllers").exists());
    assert!(has, "needs control groups of the second version: mount -t cgroup2 none /sys/fs/cgroup/unified");
    let running = Running::with("127.0.0.77/32");
    let object = running.object("web", "10.78.0.5");
    let stage = running.stage(&[ambient(), object]);
    link(&stage, &running);
    let _ztunnel = stage.ztunnel();
    assert!(stage.plugin("ADD", "web", &running.uid, &running.netns).good, "{}", stage.log());
    assert!(filter(&stage.node).contains("10.78.0.5 . 80"));
    stage.eventually("the group of pods is known", || filter(&stage.node).contains("mangle-output"));
    let probe: IpAddr = "169.254.7.127".parse().unwrap();
    assert_eq!(peer(&stage, &running, None), Some(probe), "the node's own, such as kubelet");
    // The group of the running pod itself: as good as that of any pod that shares the node's network.
    assert_eq!(
        peer(&stage, &running, running.groups.last().map(AsRef::as_ref)),
        None,
        "nobody listens on 15006"
    );
    assert_eq!(peer(&stage, &running, running.groups.first().map(AsRef::as_ref)), None, "directly below");
    assert_eq!(peer(&stage, &running, None), Some(probe));
}
