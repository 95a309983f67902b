//! Control groups of a cluster: what bounds its memory and processes, and what finds every process of it.
//! Version 1 with one hierarchy a controller, or version 2. Owns making, joining, listing and removing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::Process;
use crate::wait::pause;

/// A cluster of two nodes takes less than 2 GB; a test with a hundred pods has room.
const MEMORY_LIMIT: u64 = 8 << 30;
/// Threads count: a Go program has a dozen, a container's shim as many.
const TASKS_LIMIT: u64 = 12_000;
/// A group stays busy for a moment after its last process has ended.
const REMOVAL_WAIT: Duration = Duration::from_secs(60);

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// What it is mounted with: controllers, or `name=…`. Empty for version 2.
    pub options: String,
}

impl Hierarchy {
    /// Whether this is the one hierarchy of version 2.
    pub fn is_unified(&self) -> bool {
        self.options.is_empty()
    }

    fn counts_tasks(&self) -> bool {
        self.is_unified() || self.options.split(',').any(|one| one == "pids")
    }
}

/// The hierarchies in use: those of version 1 where there are any, else the one of version 2.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let found = parse(&mounts);
    if found.is_empty() {
        bail!("no control groups are mounted on this machine; containers need them");
    }
    Ok(found)
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let (mut old, mut unified) = (Vec::new(), Vec::new());
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, mount, kind, options, ..] = fields.as_slice() else { continue };
        let options: Vec<&str> = options
            .split(',')
            .filter(|one| !matches!(*one, "rw" | "ro" | "relatime" | "nosuid" | "nodev" | "noexec" | "xattr"))
            .filter(|one| !one.starts_with("release_agent=") && *one != "clone_children")
            .collect();
        match *kind {
            "cgroup" => old.push(Hierarchy { mount: mount.into(), options: options.join(",") }),
            "cgroup2" => unified.push(Hierarchy { mount: mount.into(), options: String::new() }),
            _ => {}
        }
    }
    if old.is_empty() { unified } else { old }
}

/// Makes the cluster's group, with its limits, and one below it for each host.
pub fn make(cluster: &str, hosts: &[String]) -> Result<()> {
    for hierarchy in hierarchies()? {
        if hierarchy.is_unified() {
            delegate(&hierarchy.mount)?;
        }
        let top = hierarchy.mount.join(cluster);
        make_one(&hierarchy, &top)?;
        limit(&top)?;
        for host in hosts {
            make_one(&hierarchy, &hierarchy.mount.join(host))?;
        }
    }
    Ok(())
}

fn make_one(hierarchy: &Hierarchy, group: &Path) -> Result<()> {
    fs::create_dir_all(group)
        .with_context(|| format!("cannot make the control group {}", group.display()))?;
    // cgroups(7): a new cpuset of version 1 is empty, and a process cannot join it.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if !hierarchy.is_unified() && own.exists() {
            let parent = group.parent().unwrap_or(&hierarchy.mount).join(file);
            let value = fs::read_to_string(&parent).with_context(|| parent.display().to_string())?;
            fs::write(&own, value).with_context(|| own.display().to_string())?;
        }
    }
    if hierarchy.is_unified() && group.parent() == Some(&hierarchy.mount) {
        delegate(group)?;
    }
    Ok(())
}

/// Version 2 gives the groups below only those controllers that are named here.
pub fn delegate(group: &Path) -> Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<String> = offered.split_ascii_whitespace().map(|one| format!("+{one}")).collect();
    let file = group.join("cgroup.subtree_control");
    fs::write(&file, wanted.join(" ")).with_context(|| file.display().to_string())
}

fn limit(group: &Path) -> Result<()> {
    let limits =
        [("memory.limit_in_bytes", MEMORY_LIMIT), ("memory.max", MEMORY_LIMIT), ("pids.max", TASKS_LIMIT)];
    for (file, value) in limits {
        let file = group.join(file);
        if file.exists() {
            fs::write(&file, value.to_string()).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

/// Moves the calling process into the group.
pub fn join(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let file = hierarchy.mount.join(group).join("cgroup.procs");
        // "0" means the writer.
        fs::write(&file, "0").with_context(|| format!("cannot join {}", file.display()))?;
    }
    Ok(())
}

/// Every process in the group and below.
pub fn members(group: &str) -> Result<Vec<Process>> {
    let Some(counted) = hierarchies()?.into_iter().find(Hierarchy::counts_tasks) else {
        bail!("this machine has no `pids` control group (CONFIG_CGROUP_PIDS)");
    };
    let mut found = Vec::new();
    for group in below(&counted.mount.join(group)) {
        let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(listed.lines().filter_map(|pid| Process::find(pid.parse().ok()?)));
    }
    Ok(found)
}

/// Bytes of memory that are the group's processes' own, without files that are merely cached.
pub fn memory(group: &str) -> Option<u64> {
    let found = hierarchies().ok()?;
    found.iter().find_map(|hierarchy| {
        let stat = fs::read_to_string(hierarchy.mount.join(group).join("memory.stat")).ok()?;
        let name = if hierarchy.is_unified() { "anon " } else { "total_rss " };
        stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    })
}

/// Removes the group and all below it; its processes must have ended. Gone already is success.
pub fn remove(group: &str) -> Result<()> {
    remove_from(group, 0)
}

/// Removes all groups below this one, whose processes must have ended: no group survives a machine's end.
pub fn clear(group: &str) -> Result<()> {
    remove_from(group, 1)
}

fn remove_from(group: &str, kept: usize) -> Result<()> {
    for hierarchy in hierarchies()? {
        let until = Instant::now() + REMOVAL_WAIT;
        // Parents come first, and go last.
        let groups = below(&hierarchy.mount.join(group));
        for group in groups.iter().skip(kept).rev() {
            while let Err(error) = fs::remove_dir(group) {
                if error.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if Instant::now() >= until {
                    return Err(error).with_context(|| format!("cannot remove {}", group.display()));
                }
                pause(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

/// The group and all below it, parents first.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = if group.is_dir() { vec![group.to_owned()] } else { Vec::new() };
    while let Some(next) = open.pop() {
        let inside = fs::read_dir(&next).into_iter().flatten().flatten();
        open.extend(
            inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
        found.push(next);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn version_1_is_used_where_it_is_mounted_and_version_2_where_it_is_alone() {
        let old = "cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0\n\
                   cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,release_agent=/x,name=systemd 0 0\n\
                   cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let options: Vec<String> = parse(old).into_iter().map(|found| found.options).collect();
        assert_eq!(options, ["memory", "name=systemd"]);
        let new = parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate,memory_recursiveprot 0 0\n");
        assert_eq!(new.len(), 1);
        assert!(new[0].is_unified());
    }

    #[test]
    fn a_group_is_made_with_limits_lists_who_joined_and_is_removed_without_a_trace() {
        let name = format!("ambit-lab-test-{}", std::process::id());
        make(&name, &[format!("{name}/a")]).expect("control groups need root: run the tests with sudo");
        let joined = format!("echo 0 > {{}}/{name}/a/cgroup.procs");
        let script: Vec<String> = hierarchies()
            .unwrap()
            .iter()
            .map(|one| joined.replace("{}", one.mount.to_str().unwrap()))
            .collect();
        let mut child =
            Command::new("sh").args(["-c", &format!("{}; sleep 60", script.join("; "))]).spawn().unwrap();
        let there = crate::wait::wait("a member", Duration::from_secs(5), &[], || {
            let found = members(&name)?;
            anyhow::ensure!(!found.is_empty(), "nobody joined");
            Ok(found)
        });
        for process in there.unwrap() {
            process.kill();
        }
        for process in members(&name).unwrap() {
            process.kill();
        }
        child.wait().unwrap();
        remove(&name).unwrap();
        remove(&name).unwrap();
        assert!(hierarchies().unwrap().iter().all(|one| !one.mount.join(&name).exists()));
    }
}
