//! Bringing a cluster up, and taking it down from whatever state it is in.
//! Owns the order; each part makes and removes its own things. Every step of the way down may find its work done.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};

use crate::binaries::{self, Binaries};
use crate::layout::Layout;
use crate::node::Node;
use crate::plane::{self, Component};
use crate::process::{self, Process};
use crate::spec::{self, Spec, Wish};
use crate::wait::wait;
use crate::{cgroup, enter, images, kubectl, net, pki};

/// A node is ready ten seconds after its start on a quiet machine.
const NODE_WAIT: Duration = Duration::from_secs(240);
/// The name server's first start includes unpacking.
const DNS_WAIT: Duration = Duration::from_secs(240);
/// Controllers make each namespace's account and certificate soon after they start.
const ACCOUNT_WAIT: Duration = Duration::from_secs(120);
/// A killed process is gone at once, unless the kernel still works for it.
const KILL_WAIT: Duration = Duration::from_secs(60);

const DNS: &str = include_str!("../manifests/dns.yaml");
/// What must be on this machine, and the Debian packages it comes in.
const NEEDS: [(&str, &str); 13] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("pkill", "procps"),
];

/// Brings a cluster up; returns when nodes, names and accounts are ready.
///
/// `say` is told each step when it is done. A cluster that does not come up stays as it is, to be looked into.
pub fn up(
    layout: &Layout,
    size: (u8, Wish),
    owner: Option<Process>,
    say: &mut dyn FnMut(&str),
) -> Result<Spec> {
    let begun = Instant::now();
    let mut done = |what: &str| say(&format!("{:5.1} s  {what}", begun.elapsed().as_secs_f32()));
    ensure!(nix::unistd::geteuid().is_root(), "a cluster needs root: run this with sudo");
    needs()?;
    remove_abandoned(layout.root());
    let ambit = enter::beside("ambit")?;
    let Binaries { kube, coredns, helm } = binaries::build(&binaries::cache())?;
    let spec = Spec::claim(layout, size, owner, &kube)?;
    fs::create_dir_all(layout.records())?;
    enter::keep_helper(layout)?;
    tools(layout, &kube, &helm)?;
    let hosts: Vec<String> = spec.hosts().iter().map(|(host, _)| layout.host_cgroup(host)).collect();
    cgroup::make(&layout.cgroup(), &hosts)?;
    pki::make(layout, &spec)?;
    net::make(layout, &spec)?;
    net::attach(layout, &spec, crate::layout::PLANE, spec.slot.plane())?;
    done("keys, control groups and network are made");
    for component in [Component::Etcd, Component::ApiServer] {
        component.start(layout, &spec)?;
    }
    let tars = images::write(layout, &ambit, &coredns)?;
    let nodes: Vec<Node> =
        spec.each_node().map(|(_, name)| Node::find(layout, &spec, &name)).collect::<Result<_>>()?;
    boot(&nodes, &spec, &tars)?;
    done("nodes have started, with their images");
    plane::api_ready(layout, &spec)?;
    done("the API server is ready");
    for component in [Component::ControllerManager, Component::Scheduler] {
        component.start(layout, &spec)?;
    }
    nodes_ready(layout, &spec)?;
    // It asks for the node whose name it borrows, and gives up when there is none.
    Component::Proxy.start(layout, &spec)?;
    done("nodes are ready");
    settle(layout, &spec)?;
    done("names are answered");
    Ok(spec)
}

/// The one program of Kubernetes goes by the name it is called by.
fn tools(layout: &Layout, kube: &Path, helm: &Path) -> Result<()> {
    fs::create_dir_all(layout.bin())?;
    symlink(kube, layout.bin().join("kubectl"))?;
    symlink(helm, layout.bin().join("helm")).context("the cluster's own programs")
}

fn boot(nodes: &[Node], spec: &Spec, tars: &[PathBuf]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    node.start(spec)?;
                    tars.iter().try_for_each(|tar| node.import_image(tar))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(booted) => booted,
            Err(_) => bail!("a thread panicked"),
        })
    })
}

/// Waits until every node that is up is ready, and not merely was before it crashed: the API server must have heard
/// of this start of it.
pub fn nodes_ready(layout: &Layout, spec: &Spec) -> Result<()> {
    let nodes: Vec<Node> =
        spec.each_node().map(|(_, name)| Node::find(layout, spec, &name)).collect::<Result<_>>()?;
    let mut logs = vec![layout.log("kube-controller-manager")];
    let mut wanted = Vec::new();
    for node in nodes.iter().filter(|node| node.process().is_some()) {
        logs.extend(node.logs());
        let start = node.read("/proc/sys/kernel/random/boot_id")?;
        wanted.push(format!("{}={}=True", node.name(), start.trim()));
    }
    let shown = "jsonpath={range .items[*]}{.metadata.name}={.status.nodeInfo.bootID}=\
                 {.status.conditions[?(@.type=='Ready')].status} {end}";
    wait("the nodes", NODE_WAIT, &logs, || {
        let said = kubectl::run(layout, spec, &["get", "nodes", "-o", shown])?;
        let missing: Vec<&String> = wanted.iter().filter(|state| !said.contains(state.as_str())).collect();
        ensure!(missing.is_empty(), "wanted {missing:?} but they are {said}");
        Ok(())
    })
}

fn settle(layout: &Layout, spec: &Spec) -> Result<()> {
    let dns = DNS.replace("$IMAGE", images::COREDNS).replace("$ADDRESS", &spec.slot.dns().to_string());
    kubectl::run_with(layout, spec, &["apply", "-f", "-"], &dns)?;
    let logs = [layout.log("kube-controller-manager")];
    wait("the account `default` and the root's ConfigMap", ACCOUNT_WAIT, &logs, || {
        kubectl::run(layout, spec, &["get", "serviceaccount/default", "configmap/kube-root-ca.crt"]).map(drop)
    })?;
    let available = "jsonpath={.status.readyReplicas}/{.spec.replicas}";
    wait("the name server", DNS_WAIT, &[layout.log("kube-scheduler")], || {
        let said =
            kubectl::run(layout, spec, &["-n", "kube-system", "get", "deployment/coredns", "-o", available])?;
        let (ready, wanted) = said.split_once('/').context("no status")?;
        ensure!(ready == wanted, "{said} are ready");
        Ok(())
    })
}

fn needs() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let mut missing: Vec<&str> =
        NEEDS.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    ensure!(missing.is_empty(), "missing on this machine: `apt-get install -y {}`", missing.join(" "));
    Ok(())
}

/// Takes down what tests have left that were killed.
pub fn remove_abandoned(root: &Path) {
    for layout in spec::all(root) {
        if Spec::read(&layout).is_ok_and(|spec| spec.is_abandoned())
            && let Err(error) = down(&layout)
        {
            eprintln!("cluster {} was left by a test and stays: {error:#}", layout.name());
        }
    }
}

/// Takes the cluster down; nothing of it is left when this is `Ok`.
pub fn down(layout: &Layout) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "taking a cluster down needs root: run this with sudo");
    let Ok(folder) = File::open(layout.dir()) else { return Ok(()) };
    // Whoever comes second waits, and finds it done: a story's guard and the next story may both want it gone.
    folder.lock()?;
    if !layout.dir().exists() {
        return Ok(());
    }
    let spec = Spec::read(layout).ok();
    let gone = layout.records().with_extension("gone");
    // Somebody may have come no further than this.
    end_recorded(layout, &gone)?;
    // From here on nothing more starts: a process that no longer finds its record after it has written it ends, and what
    // was written before is in here.
    match fs::rename(layout.records(), &gone) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => end_recorded(layout, &gone)?,
    }
    net::remove(layout, spec.as_ref())?;
    cgroup::remove(&layout.cgroup())?;
    unmount(&layout.dir())?;
    remove_tree(&layout.dir())?;
    remove_root(layout.root())
}

/// Removes the folder of all clusters with the last of them. Another may be about to come.
fn remove_root(root: &Path) -> Result<()> {
    let _held = spec::hold(root)?;
    if spec::all(root).is_empty() { remove_tree(root) } else { Ok(()) }
}

/// Ends the cluster's processes, and those that are recorded in the folder, which goes then.
fn end_recorded(layout: &Layout, records: &Path) -> Result<()> {
    let recorded: Vec<Process> = files(records).iter().filter_map(|path| Process::recorded(path)).collect();
    wait(&format!("the processes of cluster {}", layout.name()), KILL_WAIT, &[], || {
        let mut left = cgroup::members(&layout.cgroup())?;
        left.extend(recorded.iter().copied().filter(|process| process.is_alive()));
        let left = process::end(&left, Duration::from_millis(200));
        let Some(stuck) = left.first() else { return Ok(()) };
        bail!("process {} does not end", stuck.pid())
    })?;
    remove_tree(records)
}

/// A node's mounts end with it; this is for what a crash left between two calls.
fn unmount(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let inside: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|mount| Path::new(mount).starts_with(dir))
        .collect();
    for mount in inside.iter().rev() {
        umount2(*mount, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {mount}"))?;
    }
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What runs, in lines for a person.
pub fn status(layout: &Layout) -> Result<String> {
    let spec = Spec::read(layout)?;
    let mut text = format!("cluster {}\n", layout.name());
    let mut line = |kind: &str, name: &str, rest: &str| text += &format!("  {kind:8} {name:24} {rest}\n");
    for component in Component::ALL {
        let state =
            component.process(layout).map_or("down".to_owned(), |found| format!("pid {}", found.pid()));
        line("program", component.name(), &state);
    }
    for (_, name) in spec.each_node() {
        let node = Node::find(layout, &spec, &name)?;
        let state = node.process().map_or("down".to_owned(), |found| format!("pid {}", found.pid()));
        line("node", &name, &format!("{state}, {}", node.address()));
    }
    let memory =
        cgroup::memory(&layout.cgroup()).map_or("unknown".to_owned(), |bytes| format!("{} MB", bytes >> 20));
    line("memory", "of all processes", &memory);
    line("config", "KUBECONFIG", &layout.kubeconfig("admin").display().to_string());
    Ok(text)
}
