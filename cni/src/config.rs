//! What the daemon is told at its start. Owns names, defaults and their reasons.

mod kubernetes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, Parser};

use crate::install::plan::Way;
use crate::install::{self, Site, Told};
use crate::node::selector::{self, Selectors};

/// The CNI node daemon: decides which pods of its node are in the mesh, hands their network namespaces to ztunnel,
/// and installs redirection in them.
#[derive(Debug, Clone, Parser)]
#[command(name = "ambit-cni-node", version, after_help = "See also: ambit-cni-node uninstall --help")]
pub struct Config {
    /// Folder of Kubernetes manifests to watch.
    #[arg(long, env = "SOURCE_DIR")]
    pub source: Option<PathBuf>,
    /// Folder where the mesh writes; beside the source when not given.
    #[arg(long, env = "OVERLAY_DIR")]
    pub overlay: Option<PathBuf>,
    /// This node's name.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Folder for the plugin's socket and for what is known of sandboxes.
    #[arg(long, env = "CNI_AGENT_RUN_DIR", default_value = "/var/run/ambit-cni")]
    pub run_dir: PathBuf,
    /// The node's process file system, where pods are found that the runtime did not tell of.
    #[arg(long, env = "HOST_PROC", default_value = "/proc")]
    pub proc_dir: PathBuf,
    /// Socket that ztunnel connects to; in the run folder when not given.
    #[arg(long, env = "ZTUNNEL_UDS_ADDRESS")]
    pub zds_socket: Option<PathBuf>,
    /// Namespace of the mesh's own pods.
    #[arg(long, env = "SYSTEM_NAMESPACE", default_value = "istio-system")]
    pub system_namespace: String,
    /// Namespaces that are never in the mesh, separated by commas.
    #[arg(long, env = "EXCLUDE_NAMESPACES", value_delimiter = ',')]
    pub exclude_namespaces: Vec<String>,
    /// Which pods are in the mesh: a YAML list of `{podSelector, namespaceSelector}`, any one of which selects.
    #[arg(long, env = "AMBIENT_ENABLEMENT_SELECTOR", default_value = selector::DEFAULT)]
    pub enablement_selector: Selectors,
    /// User that health probes of the node are sent by; kubelet runs as root.
    #[arg(long, env = "PROBE_UID", default_value_t = 0)]
    pub probe_uid: u32,
    /// Redirect names to ztunnel, which answers those of the mesh; a pod's annotation goes before this, either way.
    #[arg(long, env = "AMBIENT_DNS_CAPTURE")]
    pub dns_capture: bool,
    /// Install nothing for IPv6.
    #[arg(long, env = "DISABLE_IPV6")]
    pub disable_ipv6: bool,
    /// How long peers may take to learn that a pod leaves, before new connections are not redirected any more, in
    /// milliseconds; and how long those that are carried may then go on.
    #[arg(long, env = "LEAVE_WAIT_MS", default_value_t = 300)]
    pub leave_wait_ms: u64,
    /// How often each pod is compared with what is wanted, in seconds.
    #[arg(long, env = "AUDIT_SECONDS", default_value_t = 30)]
    pub audit_seconds: u64,
    /// Where metrics, probes and a list of pods are served; `off`: nowhere.
    #[arg(long, env = "ADMIN_ADDR", default_value = "127.0.0.1:15014")]
    pub admin_addr: AdminAddr,
    /// The plugin's installation.
    #[command(flatten)]
    pub install: Install,
    /// The cluster around.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
}

pub use kubernetes::Kubernetes;

/// In the run folder.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// An address, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddr(pub Option<SocketAddr>);

impl std::str::FromStr for AdminAddr {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self(None)) } else { text.parse().map(|at| Self(Some(at))) }
    }
}

/// Where the plugin is installed; nothing is, unless the first is given.
#[derive(Debug, Clone, Args)]
pub struct Install {
    /// The container runtime's folder of network configurations. Given, the plugin is kept installed there.
    #[arg(long, env = "MOUNTED_CNI_NET_DIR")]
    pub cni_net_dir: Option<PathBuf>,
    /// The container runtime's folder of plugins.
    #[arg(long, env = "MOUNTED_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// The plugin's program, to be copied there.
    #[arg(long, env = "CNI_PLUGIN", default_value = "/opt/cni/bin/ambit-cni")]
    pub cni_plugin: PathBuf,
    /// The primary configuration's file name; discovered when not given.
    #[arg(long, env = "CNI_CONF_NAME")]
    pub cni_conf_name: Option<String>,
    /// Get into the primary configuration; otherwise a configuration of our own alone is written.
    #[arg(long, env = "CHAINED_CNI_PLUGIN", default_value_t = true, action = ArgAction::Set)]
    pub chained_cni_plugin: bool,
    /// Leave the primary as it is, and write a copy with our plugin before it.
    #[arg(long, env = "ISTIO_OWNED_CNI_CONFIG", default_value_t = false, action = ArgAction::Set)]
    pub istio_owned_cni_config: bool,
    /// The name of that copy; it must sort before the primary's.
    #[arg(long, env = "ISTIO_OWNED_CNI_CONFIG_FILENAME", default_value = "02-istio-cni.conflist")]
    pub istio_owned_cni_config_filename: String,
    /// Configurations that are new may be read by their group.
    #[arg(long, env = "CNI_CONF_GROUP_READ", default_value_t = false, action = ArgAction::Set)]
    pub cni_conf_group_read: bool,
    /// Namespace of the daemon's own pods, which start without asking it.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
}

/// The name of a configuration of our own alone, as upstream has it: after all others.
const STANDALONE: &str = "YYY-istio-cni.conf";

impl Install {
    fn way(&self) -> Way {
        let (own, named) = (self.istio_owned_cni_config_filename.clone(), self.cni_conf_name.clone());
        match (self.chained_cni_plugin, self.istio_owned_cni_config) {
            (true, true) => Way::Owned { own, named },
            (true, false) => Way::Chained { former: own, named },
            (false, _) => Way::Standalone { own: named.unwrap_or_else(|| STANDALONE.into()) },
        }
    }
}

impl Config {
    /// Where the plugin is to be installed, if it is.
    #[must_use]
    pub fn site(&self) -> Option<Site> {
        let it = &self.install;
        let told = Told {
            run_dir: &self.run_dir,
            pod_namespace: it.pod_namespace.as_deref().unwrap_or(&self.system_namespace),
            excluded: self.excluded(),
        };
        Some(Site {
            net_dir: it.cni_net_dir.clone()?,
            bin_dir: it.cni_bin_dir.clone(),
            program: it.cni_plugin.clone(),
            way: it.way(),
            entry: install::entry(&told),
            mode: if it.cni_conf_group_read { 0o640 } else { 0o600 },
        })
    }

    /// Namespaces that are never in the mesh.
    pub(crate) fn excluded(&self) -> Vec<String> {
        let words = self.exclude_namespaces.iter().map(|it| it.trim());
        words.filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// Where the mesh writes what a folder is overlaid with.
    #[must_use]
    pub fn overlay(&self, source: &Path) -> PathBuf {
        self.overlay.clone().unwrap_or_else(|| ambit_cluster::overlay::beside(source))
    }

    /// Where ztunnel connects.
    #[must_use]
    pub fn zds_socket(&self) -> PathBuf {
        self.zds_socket.clone().unwrap_or_else(|| self.run_dir.join("ztunnel.sock"))
    }

    /// Where the plugin asks.
    #[must_use]
    pub fn event_socket(&self) -> PathBuf {
        self.run_dir.join("pluginevent.sock")
    }

    /// Where the node's root asks the daemon to do what nobody else may ask.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join(CONTROL_SOCKET)
    }

    pub(crate) fn leave_wait(&self) -> Duration {
        Duration::from_millis(self.leave_wait_ms)
    }

    pub(crate) fn audit(&self) -> Duration {
        Duration::from_secs(self.audit_seconds.max(1))
    }
}
