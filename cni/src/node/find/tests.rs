//! Pods looked for in a made-up process file system whose namespaces are real. Needs root.

use std::os::unix::fs::symlink;

use ambit_sys::netns::Netns;

use super::*;

const WEB: &str = "1d9f1ed1-8c4e-4f5b-9c1f-0a1b2c3d4e5f";
const DB: &str = "2d9f1ed1-8c4e-4f5b-9c1f-0a1b2c3d4e5f";

/// A folder like `/proc`.
struct Proc {
    dir: tempfile::TempDir,
    node: Netns,
    open: Vec<Netns>,
}

impl Proc {
    fn new() -> Self {
        let node = Netns::anonymous().expect("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)");
        let mut it = Self { dir: tempfile::tempdir().unwrap(), node, open: Vec::new() };
        let node = it.node.try_clone().unwrap();
        it.process(1, &node, 1, "0::/init.scope\n");
        it
    }

    fn process(&mut self, pid: u32, netns: &Netns, begun: u64, cgroup: &str) {
        use std::os::fd::{AsFd, AsRawFd};
        let folder = self.dir.path().join(pid.to_string());
        fs::create_dir_all(folder.join("ns")).unwrap();
        let netns = netns.try_clone().unwrap();
        let target = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
        symlink(target, folder.join("ns/net")).unwrap();
        self.open.push(netns);
        fs::write(folder.join("cgroup"), cgroup).unwrap();
        let stat = format!("{pid} (a) b 3) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 {begun} 1 1 1\n");
        fs::write(folder.join("stat"), stat).unwrap();
    }

    fn finder(&self) -> Finder {
        Finder::new(self.dir.path().into(), Netns::current().unwrap().id())
    }
}

fn with_address(text: &str) -> Netns {
    let netns = Netns::anonymous().expect("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)");
    let add = || std::process::Command::new("ip").args(["addr", "add", text, "dev", "lo"]).status();
    assert!(netns.run(add).unwrap().expect("needs ip: apt-get install iproute2").success());
    netns
}

fn group(pod: &str, id: &str) -> String {
    format!("4:pids:/kubepods/burstable/pod{pod}/{id}\n0::/\n")
}

fn ips(all: &[&str]) -> Vec<IpAddr> {
    all.iter().map(|it| it.parse().unwrap()).collect()
}

#[tokio::test]
async fn the_oldest_process_of_the_pod_in_a_namespace_with_its_address_is_believed() {
    let (old, young, foreign) =
        (with_address("10.0.0.5/24"), with_address("10.0.0.5/24"), with_address("10.0.0.9/24"));
    let mut proc = Proc::new();
    proc.process(700, &young, 900, &group(WEB, "young"));
    proc.process(701, &old, 500, &group(WEB, "app"));
    proc.process(702, &old, 400, &group(WEB, "pause"));
    // Older than all, but where the pod's address is not: a tool of the pod that visits another.
    proc.process(703, &foreign, 100, &group(WEB, "visitor"));
    proc.process(704, &foreign, 100, &group(DB, "db"));
    let found = proc.finder().find(WEB, &ips(&["fd00::5", "::ffff:10.0.0.5"])).await.unwrap();
    assert_eq!((found.netns.id(), found.container_id.as_str()), (old.id(), "pause"));
    assert_eq!(found.path, proc.dir.path().join("702/ns/net"));
    let found = proc.finder().find(&DB.replace('-', ""), &ips(&["10.0.0.9"])).await.unwrap();
    assert_eq!(found.netns.id(), foreign.id());
}

#[tokio::test]
async fn the_nodes_namespace_is_nobodys_even_if_all_else_fits() {
    let mut proc = Proc::new();
    let node = proc.node.try_clone().unwrap();
    let add = || std::process::Command::new("ip").args(["addr", "add", "10.0.0.5/24", "dev", "lo"]).status();
    assert!(node.run(add).unwrap().unwrap().success());
    proc.process(700, &node, 5, &group(WEB, "host"));
    proc.process(701, &Netns::current().unwrap(), 5, &group(WEB, "home"));
    assert!(proc.finder().find(WEB, &ips(&["10.0.0.5", "127.0.0.1"])).await.is_none());
}

#[tokio::test]
async fn nothing_is_believed_without_addresses_without_the_first_process_or_of_torn_groups() {
    let netns = with_address("10.0.0.5/24");
    let mut proc = Proc::new();
    proc.process(700, &netns, 5, &group(WEB, "web"));
    proc.process(701, &netns, 4, &format!("0::/kubepods/pod{DB}/a\n1:x:/kubepods/pod{DB}/b\n"));
    fs::create_dir(proc.dir.path().join("702")).unwrap();
    assert!(proc.finder().find(WEB, &[]).await.is_none());
    assert!(proc.finder().find(DB, &ips(&["10.0.0.5"])).await.is_none());
    assert!(proc.finder().find(WEB, &ips(&["10.0.0.5"])).await.is_some());
    fs::remove_dir_all(proc.dir.path().join("1")).unwrap();
    assert!(proc.finder().find(WEB, &ips(&["10.0.0.5"])).await.is_none());
}

#[tokio::test]
async fn a_process_that_moved_on_since_the_look_is_not_believed() {
    let (before, after) = (with_address("10.0.0.5/24"), with_address("10.0.0.5/24"));
    let mut proc = Proc::new();
    proc.process(700, &before, 5, &group(WEB, "web"));
    let finder = proc.finder();
    assert!(finder.find(WEB, &ips(&["10.0.0.5"])).await.is_some());
    fs::remove_dir_all(proc.dir.path().join("700")).unwrap();
    proc.process(700, &after, 5, &group(WEB, "web"));
    assert!(finder.find(WEB, &ips(&["10.0.0.5"])).await.is_none(), "the look is still fresh");
}

#[test]
fn a_process_name_cannot_pretend_another_beginning() {
    let stat =
        "9 (x) R 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7 y) S 1 1 1 0 -1 1 1 0 0 0 0 0 0 0 20 0 1 0 4242 1";
    assert_eq!(begun(stat), Some(4242));
    assert_eq!(begun("9 (x) S 1"), None);
}

#[test]
fn uids_are_compared_in_one_spelling() {
    for text in [WEB, &WEB.replace('-', ""), &WEB.to_uppercase()] {
        assert_eq!(spelled(text), WEB);
    }
    assert_eq!(spelled("u-1"), "1");
}
