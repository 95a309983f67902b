//! What the daemon is told when it is a pod of a cluster. Owns names, defaults and their reasons.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

/// Where the API server is, and how the node looks from inside the daemon's pod.
#[derive(Debug, Clone, Args)]
pub struct Kubernetes {
    /// Read the cluster from the API server of this kubeconfig. Without it and without --source: from that of the
    /// cluster that this program is a pod of. Not read when --source is given.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the node's folders are seen from inside the daemon's container: put before the paths of pods' network
    /// namespaces that the runtime names.
    #[arg(long, env = "HOST_ROOT", default_value = "/")]
    pub host_root: PathBuf,
    /// Work on the node's rules in the network namespace of the node's first process, for a daemon that does not
    /// share it.
    #[arg(long, env = "ALLOW_SWITCH_TO_HOST_NS", default_value_t = false, action = ArgAction::Set)]
    pub allow_switch_to_host_ns: bool,
    /// The daemon set whose pod this is: when it is gone, so is the mesh from this node.
    #[arg(long, env = "DAEMON_SET_NAME", default_value = "istio-cni-node")]
    pub daemon_set: String,
    /// Let running pods out of the mesh when the daemon set is deleted. Without it they stay redirected, for
    /// another daemon to take over.
    #[arg(long, env = "UNENROL_ON_UNINSTALL", default_value_t = true, action = ArgAction::Set)]
    pub unenrol_on_uninstall: bool,
    /// Take everything off the node at each end, as if the daemon set were deleted.
    #[arg(long, env = "AMBIENT_DISABLE_SAFE_UPGRADE", default_value_t = false, action = ArgAction::Set)]
    pub disable_safe_upgrade: bool,
}

impl Kubernetes {
    /// A path of the node, as it is seen from here. The runtime may spell `/run` as `/var/run`, which on the node are
    /// one folder; in a container only one of them may be mounted.
    #[must_use]
    pub fn seen(&self, path: &Path) -> PathBuf {
        if self.host_root == Path::new("/") {
            return path.to_owned();
        }
        let under = |path: &Path| self.host_root.join(path.strip_prefix("/").unwrap_or(path));
        let plain = under(path);
        let other = match (path.strip_prefix("/var/run"), path.strip_prefix("/run")) {
            (Ok(rest), _) => under(&Path::new("/run").join(rest)),
            (_, Ok(rest)) => under(&Path::new("/var/run").join(rest)),
            _ => return plain,
        };
        if !plain.exists() && other.exists() { other } else { plain }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_path_of_the_node_is_looked_for_where_the_node_is_mounted_however_it_is_spelled() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        std::fs::create_dir_all(dir.path().join("var/run/netns")).unwrap();
        std::fs::write(dir.path().join("var/run/netns/a"), "").unwrap();
        let told = |more: &[&str]| Config::parse_from([&["x", "--node-name", "n"], more].concat()).kubernetes;
        let mounted = told(&["--host-root", root]);
        let there = dir.path().join("var/run/netns/a");
        assert_eq!(mounted.seen(Path::new("/var/run/netns/a")), there);
        assert_eq!(mounted.seen(Path::new("/run/netns/a")), there);
        assert_eq!(mounted.seen(Path::new("/proc/7/ns/net")), dir.path().join("proc/7/ns/net"));
        assert_eq!(told(&[]).seen(Path::new("/run/netns/a")), Path::new("/run/netns/a"));
    }
}
