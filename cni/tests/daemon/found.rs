//! Pods that the runtime did not tell of, or whose record is lost or leads elsewhere: real processes in real groups.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ambit_sys::netns::{Netns, remove_named};
use serde_json::{Value, json};

use super::{ambient, stage, stage_with};
use crate::stage::{Stage, filter, namespace, pod};

/// A running pod: a process in a namespace with an address, in a control group as kubelet makes them.
pub(crate) struct Running {
    pub(crate) netns: Netns,
    pub(crate) process: Child,
    pub(crate) groups: Vec<PathBuf>,
    pub(crate) uid: String,
    proc_dir: tempfile::TempDir,
}

impl Running {
    pub(crate) fn with(address: &str) -> Self {
        let netns = Netns::anonymous().unwrap();
        let add = || Command::new("ip").args(["addr", "add", address, "dev", "lo"]).status();
        assert!(netns.run(add).unwrap().expect("needs ip: apt-get install iproute2").success());
        let sleep = || Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
        let process = netns.run(sleep).unwrap().unwrap();
        let uid = uid(process.id());
        let proc_dir = proc_dir(process.id());
        let mut it = Self { netns, process, groups: Vec::new(), uid, proc_dir };
        it.group();
        it
    }

    pub(crate) fn stage(&self, objects: &[Value]) -> Stage {
        stage_with(objects, &["--proc-dir".into(), self.proc_dir.path().to_str().unwrap().into()])
    }

    /// Puts the process into a group of its own, below a folder that is this test's alone.
    fn group(&mut self) {
        let mount = hierarchy();
        let parts =
            [format!("kubepods-test-{}", self.process.id()), format!("pod{}", self.uid), "c0ffee".into()];
        let mut folder = mount;
        for part in parts {
            folder.push(part);
            fs::create_dir(&folder).unwrap();
            self.groups.push(folder.clone());
        }
        fs::write(folder.join("cgroup.procs"), self.process.id().to_string()).unwrap();
    }

    pub(crate) fn object(&self, name: &str, address: &str) -> Value {
        let mut object = pod(name, &self.uid);
        object["status"] = json!({ "podIPs": [{ "ip": address }] });
        object
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for folder in self.groups.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The system's processes cut down to one, and a first one in this namespace: not everybody may look at the real one.
fn proc_dir(pid: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    symlink("/proc/sys", dir.path().join("sys")).unwrap();
    symlink(format!("/proc/{pid}"), dir.path().join(pid.to_string())).unwrap();
    fs::create_dir_all(dir.path().join("1/ns")).unwrap();
    symlink("/proc/self/ns/net", dir.path().join("1/ns/net")).unwrap();
    dir
}

/// A hierarchy of control groups that takes processes: the second version's, or any of the first.
fn hierarchy() -> PathBuf {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];
    let fits = |it: &&&str| Path::new(it).join("cgroup.procs").exists();
    let place = places.iter().find(fits);
    place.expect("needs control groups: mount -t cgroup2 none /sys/fs/cgroup").into()
}

fn uid(pid: u32) -> String {
    format!("{pid:08x}-8c4e-4f5b-9c1f-0a1b2c3d4e5f")
}

fn is_enrolled(stage: &Stage, running: &Running, name: &str) -> bool {
    stage.redirection(name).as_deref() == Some("enabled")
        && filter(&running.netns).contains("redirect to :15001")
}

// K1, K5
#[test]
fn a_pod_that_was_running_before_the_plugin_was_there_joins_by_label_and_leaves() {
    let running = Running::with("10.77.0.5/24");
    let stage = running.stage(&[namespace(None), running.object("web", "10.77.0.5")]);
    let ztunnel = stage.ztunnel();
    assert_eq!(filter(&running.netns), "");
    stage.tell(&[ambient(), running.object("web", "10.77.0.5")]);
    stage.eventually("found and enrolled", || is_enrolled(&stage, &running, "web"));
    assert_eq!(ztunnel.namespaces(), [running.netns.id()]);
    assert!(filter(&stage.node).contains("10.77.0.5 . 80"));
    stage.tell(&[namespace(None), running.object("web", "10.77.0.5")]);
    stage.eventually("left", || filter(&running.netns).is_empty() && stage.redirection("web").is_none());
}

// K1
#[test]
fn a_pod_whose_record_is_lost_is_found_and_served_and_let_out_again() {
    let running = Running::with("10.77.0.6/24");
    let objects = [ambient(), running.object("web", "10.77.0.6")];
    let mut stage = running.stage(&objects);
    let first = stage.ztunnel();
    let uid = running.uid.clone();
    assert!(stage.plugin("ADD", "web", &uid, &running.netns).good);
    let before = filter(&running.netns);
    stage.kill();
    drop(first);
    fs::remove_dir_all(stage.path("run/pods")).unwrap();
    stage.start();
    let ztunnel = stage.ztunnel();
    stage.eventually("told", || ztunnel.has_heard(&format!("add {uid}")));
    assert_eq!(ztunnel.namespaces(), [running.netns.id()]);
    assert_eq!(filter(&running.netns), before, "nothing was changed");
    assert!(stage.plugin("CHECK", "web", &uid, &running.netns).good);

    // And once more with nobody to ask what was: an unlabelled pod with rules of a former daemon in it.
    stage.kill();
    drop(ztunnel);
    let _ = fs::remove_dir_all(stage.path("run/pods"));
    stage.tell(&[namespace(None), running.object("web", "10.77.0.6")]);
    stage.start();
    stage.eventually("left", || filter(&running.netns).is_empty() && stage.redirection("web").is_none());
}

// K33
#[test]
fn a_recorded_path_that_leads_to_another_namespace_by_now_is_not_believed() {
    let mut stage = stage(&[ambient(), pod("web", "u-1")]);
    let first = stage.ztunnel();
    let path = stage.path("sandbox");
    Netns::create_named(&path).unwrap();
    assert!(stage.plugin_at("ADD", "web", "u-1", &path).good);
    stage.kill();
    drop(first);
    remove_named(&path).unwrap();
    let other = Netns::create_named(&path).unwrap();
    stage.start();
    let ztunnel = stage.ztunnel();
    stage.eventually("the record is gone", || fs::read_dir(stage.path("run/pods")).unwrap().count() == 0);
    std::thread::park_timeout(std::time::Duration::from_millis(1500));
    remove_named(&path).unwrap();
    assert_eq!(filter(&other), "", "{}", stage.log());
    assert!(!ztunnel.has_heard("add u-1"));
}

// K1, K33
#[test]
fn a_record_of_before_the_last_boot_is_not_believed_whatever_its_numbers() {
    let mut stage = stage(&[ambient(), pod("web", "u-1")]);
    let first = stage.ztunnel();
    let netns = Netns::anonymous().unwrap();
    assert!(stage.plugin("ADD", "web", "u-1", &netns).good);
    stage.kill();
    drop(first);
    let record = stage.path("run/pods/u-1.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["mark"]["boot"] = json!("another");
    fs::write(&record, value.to_string()).unwrap();
    stage.start();
    let ztunnel = stage.ztunnel();
    stage.eventually("the record is gone", || !record.exists());
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    assert!(!ztunnel.has_heard("add u-1"), "{:?}", ztunnel.heard());
}

#[test]
fn a_pod_that_starts_while_the_plugin_was_not_in_the_list_is_found_before_it_has_an_address() {
    let running = Running::with("10.0.0.5/32");
    let objects = [ambient(), pod("web", &running.uid)];
    // Nothing was wrong with the plugin: it is waited for, and nobody is believed without an address.
    let trusting = running.stage(&objects);
    let _ztunnel = trusting.ztunnel();
    std::thread::park_timeout(std::time::Duration::from_millis(1500));
    assert_eq!(filter(&running.netns), "");
    drop(trusting);
    let (dir, mut more) = super::installed::folders(None);
    more.extend(["--proc-dir".into(), running.proc_dir.path().to_str().unwrap().into()]);
    let stage = stage_with(&objects, &more);
    let _ztunnel = stage.ztunnel();
    assert_eq!(filter(&running.netns), "");
    fs::write(dir.path().join("net/10-net.conflist"), super::installed::LIST).unwrap();
    stage.eventually("found", || stage.redirection("web").as_deref() == Some("enabled"));
    assert!(filter(&running.netns).contains("redirect to :15001"));
}

// While nobody is there, nobody keeps the list, and what starts then is in no mesh. The next daemon says so, and mends it.
#[test]
fn a_list_that_was_rewritten_while_no_daemon_ran_is_repaired_and_pods_that_started_meanwhile_are_taken_in() {
    let running = Running::with("10.77.0.7/24");
    let (dir, mut more) = super::installed::folders(Some(super::installed::LIST));
    more.extend(["--proc-dir".into(), running.proc_dir.path().to_str().unwrap().into()]);
    let mut stage = stage_with(&[ambient()], &more);
    let is_installed = || super::installed::is_last(&dir, "10-net.conflist");
    stage.eventually("installed", is_installed);
    stage.kill();
    fs::write(dir.path().join("net/10-net.conflist"), super::installed::LIST).unwrap();
    // The runtime asks nobody, and the pod runs.
    stage.tell(&[ambient(), running.object("web", "10.77.0.7")]);
    stage.start();
    stage.eventually("repaired", is_installed);
    let says = |line: &str| super::leave::get(&stage, "/metrics").contains(line);
    let word = |stage: &Stage| stage.redirection("web");
    stage.eventually("reported", || {
        word(&stage).as_deref() == Some("pending") && says("ambit_cni_pending_pods 1\n")
    });
    assert_eq!(filter(&running.netns), "", "there is no ztunnel to take its traffic yet");
    let mesh = super::leave::get(&stage, "/readyz/mesh");
    assert!(mesh.starts_with("HTTP/1.1 503") && mesh.contains("pods"), "{mesh}");
    let ztunnel = stage.ztunnel();
    stage.eventually("found and enrolled", || is_enrolled(&stage, &running, "web"));
    assert_eq!(ztunnel.namespaces(), [running.netns.id()]);
    stage.eventually("nobody is reported", || says("ambit_cni_pending_pods 0\n"));
}
