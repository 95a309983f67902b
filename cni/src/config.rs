//! What the daemon is told at its start. Owns names, defaults and their reasons.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::node::selector::{self, Selectors};

/// The CNI node daemon: decides which pods of its node are in the mesh, hands their network namespaces to ztunnel,
/// and installs redirection in them.
#[derive(Debug, Clone, Parser)]
#[command(name = "ambit-cni-node", version, after_help = "See also: ambit-cni-node uninstall --help")]
pub struct Config {
    /// Folder of Kubernetes manifests to watch.
    #[arg(long, env = "SOURCE_DIR")]
    pub source: PathBuf,
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
    /// Redirect names to ztunnel; a pod's annotation can only switch it off. Needs a ztunnel that answers names.
    #[arg(long, env = "AMBIENT_DNS_CAPTURE")]
    pub dns_capture: bool,
    /// Install nothing for IPv6.
    #[arg(long, env = "DISABLE_IPV6")]
    pub disable_ipv6: bool,
    /// How long peers may take to learn that a pod leaves, before its redirection ends, in milliseconds.
    #[arg(long, env = "LEAVE_WAIT_MS", default_value_t = 300)]
    pub leave_wait_ms: u64,
    /// How often each pod is compared with what is wanted, in seconds.
    #[arg(long, env = "AUDIT_SECONDS", default_value_t = 30)]
    pub audit_seconds: u64,
    /// Where metrics, probes and a list of pods are served; `off`: nowhere.
    #[arg(long, env = "ADMIN_ADDR", default_value = "127.0.0.1:15014")]
    pub admin_addr: AdminAddr,
}

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

impl Config {
    /// Where the mesh writes.
    #[must_use]
    pub fn overlay(&self) -> PathBuf {
        self.overlay.clone().unwrap_or_else(|| ambit_cluster::overlay::beside(&self.source))
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
