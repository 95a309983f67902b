//! The file system of a node: this machine's, with a layer of the node's own over it.
//! What the node writes to `/etc`, `/opt` or anywhere is its alone, and still there after a reboot. `/run` is not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;

use crate::cgroup::{self, Hierarchy};
use crate::layout::Layout;

/// Folders on the node's disk proper: containerd cannot put its layers on a layer.
const DISK: [(&str, &str); 4] = [
    ("kubelet", "var/lib/kubelet"),
    ("containerd", "var/lib/containerd"),
    ("cni", "var/lib/cni"),
    ("log", "var/log"),
];
const FOLDERS: [&str; 7] = ["proc", "sys", "dev", "run", "opt/cni/bin", "etc/cni/net.d", "usr/local/bin"];
/// What the kubelet would set for the whole machine. It finds them set, and leaves the machine alone.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
const NONE: Option<&str> = None;

/// Makes it and moves the calling process, alone in its mount namespace, into it.
pub(super) fn enter(layout: &Layout, name: &str, kube: &Path) -> Result<()> {
    let hierarchies = cgroup::hierarchies()?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("private mounts")?;
    let node = layout.node(name);
    let root = node.join("root");
    for dir in ["upper", "work", "root"].into_iter().chain(DISK.map(|(dir, _)| dir)) {
        fs::create_dir_all(node.join(dir)).with_context(|| node.join(dir).display().to_string())?;
    }
    overlay(&node, &root)?;
    for folder in FOLDERS.into_iter().chain(DISK.map(|(_, folder)| folder)) {
        fs::create_dir_all(root.join(folder)).with_context(|| root.join(folder).display().to_string())?;
    }
    kernel_folders(&root, &hierarchies)?;
    for (dir, folder) in DISK {
        bind(&node.join(dir), &root.join(folder), MsFlags::empty())?;
    }
    // The clusters of this machine are none of the node's business, and its own layers must not be walked into.
    let hidden = root.join(layout.root().strip_prefix("/").unwrap_or(layout.root()));
    fs::create_dir_all(&hidden)?;
    mount(Some("none"), &hidden, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=4k"))
        .context("hiding clusters")?;
    kubernetes(&root, kube)?;
    sysctls(&root)?;
    pivot(&root)?;
    // As systemd leaves it: what the kubelet mounts is seen in containers that asked for it.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).context("shared mounts")
}

fn overlay(node: &Path, root: &Path) -> Result<()> {
    let options = format!(
        "lowerdir=/,upperdir={},workdir={}",
        node.join("upper").display(),
        node.join("work").display()
    );
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).with_context(
        || {
            format!(
                "no layer over this machine's files can be in {}: choose another --state-dir",
                node.display()
            )
        },
    )
}

/// Kernel file systems of the node's own namespaces, and this machine's devices.
fn kernel_folders(root: &Path, hierarchies: &[Hierarchy]) -> Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), plain, NONE).context("/proc")?;
    mount(Some("sysfs"), &root.join("sys"), Some("sysfs"), plain, NONE).context("/sys")?;
    bind(Path::new("/dev"), &root.join("dev"), MsFlags::MS_REC)?;
    let run = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &root.join("run"), Some("tmpfs"), run, Some("mode=755,size=256m"))
        .context("/run")?;
    for folder in ["run/netns", "run/lock", "run/sysctl"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let bpf = Path::new("/sys/fs/bpf");
    if bpf.is_dir() && root.join("sys/fs/bpf").is_dir() {
        bind(bpf, &root.join("sys/fs/bpf"), MsFlags::MS_REC)?;
    }
    let groups = root.join("sys/fs/cgroup");
    match hierarchies {
        [one] if one.is_unified() => unified(&groups),
        old => {
            mount(Some("tmpfs"), &groups, Some("tmpfs"), plain, Some("mode=755,size=1m"))
                .context("cgroups")?;
            old.iter().try_for_each(|one| version_1(one, &groups))
        }
    }
}

/// Mounted from inside the node's namespace of control groups, its own group is the root.
fn version_1(hierarchy: &Hierarchy, groups: &Path) -> Result<()> {
    let name = hierarchy.mount.file_name().context("a hierarchy has a name")?;
    let at = groups.join(name);
    fs::create_dir(&at)?;
    let options = match hierarchy.options.strip_prefix("name=") {
        Some(_) => format!("none,{}", hierarchy.options),
        None => hierarchy.options.clone(),
    };
    mount(Some("cgroup"), &at, Some("cgroup"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("the hierarchy {options}"))
}

/// Version 2 wants no process beside groups below: the node's own move into one.
fn unified(groups: &Path) -> Result<()> {
    mount(Some("cgroup2"), groups, Some("cgroup2"), MsFlags::empty(), NONE).context("cgroup2")?;
    fs::create_dir_all(groups.join("system"))?;
    fs::write(groups.join("system/cgroup.procs"), "0").context("joining the node's own group")?;
    cgroup::delegate(groups)
}

/// The one program of Kubernetes, under each of its names.
fn kubernetes(root: &Path, kube: &Path) -> Result<()> {
    let bin = root.join("usr/local/bin");
    let at = bin.join("kube");
    if !at.exists() {
        fs::File::create(&at)?;
    }
    bind(kube, &at, MsFlags::empty())?;
    for name in ["kubectl", "kubelet", "kube-proxy"] {
        let link = bin.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink("kube", &link)?;
        }
    }
    Ok(())
}

fn sysctls(root: &Path) -> Result<()> {
    for (at, (name, value)) in SYSCTLS.into_iter().enumerate() {
        cover(root, &format!("sys/{name}"), at, value)?;
    }
    // By this the kubelet tells a reboot from its own restart.
    let fresh = fs::read_to_string("/proc/sys/kernel/random/uuid").context("no random numbers")?;
    cover(root, "sys/kernel/random/boot_id", SYSCTLS.len(), fresh.trim())
}

fn cover(root: &Path, name: &str, number: usize, value: &str) -> Result<()> {
    let (file, target) = (root.join(format!("run/sysctl/{number}")), root.join("proc").join(name));
    if !target.exists() {
        return Ok(());
    }
    fs::write(&file, format!("{value}\n"))?;
    bind(&file, &target, MsFlags::empty())
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | more, NONE)
        .with_context(|| format!("cannot show {} as {}", from.display(), to.display()))
}

fn pivot(root: &Path) -> Result<()> {
    let old = PathBuf::from(".before");
    fs::create_dir_all(root.join(&old))?;
    std::env::set_current_dir(root)?;
    pivot_root(".", &old).context("cannot change the root")?;
    std::env::set_current_dir("/")?;
    umount2("/.before", MntFlags::MNT_DETACH).context("cannot let go of the machine's own root")?;
    fs::remove_dir("/.before")?;
    ensure!(!Path::new("/.before").exists(), "the machine's own root is still there");
    Ok(())
}
