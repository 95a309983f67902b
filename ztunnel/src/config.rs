//! Everything ztunnel can be told, read once from the environment (`ztunnel.md` 12.2).
//! Owns which settings exist and what they mean together; reading one is `process::config`'s.

mod layers;
mod names;
mod threads;
mod traffic;
mod unsupported;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_model::name::{ClusterId, Label, Network, NodeName};
use ambit_process::config::{Faults, Key, Source, duration, flag, path, text};
use ambit_process::observe::LogConfig;
use ambit_tls::credential::Terms;
use ambit_wire::node_link::PodInfo;

use ambit_proxy::control::Us;
pub use ambit_proxy::control::{Control, Credentials, LocalWorld, NodeFacts};
use ambit_proxy::place::{self, Place};
pub use ambit_proxy::ports::Ports;
use ambit_proxy::terms;
use layers::Layers;
pub use names::Names;
pub use traffic::{Keepalive, Traffic};

/// All settings.
#[derive(Clone)]
pub struct Config {
    /// For whom we carry.
    pub mode: Mode,
    /// Our node; empty: unknown, then every workload may be local.
    pub node: NodeName,
    /// Our network.
    pub network: Network,
    /// Our cluster.
    pub cluster: ClusterId,
    /// The name of the cluster's domain.
    pub domain: String,
    /// Our own ports.
    pub ports: Ports,
    /// How peers must prove themselves.
    pub terms: Terms,
    /// Where the world and certificates come from.
    pub control: Control,
    /// How traffic is carried.
    pub traffic: Traffic,
    /// How names are answered in pods; none: they are not.
    pub names: Option<Names>,
    /// How long open connections may go on after a stop.
    pub drain: Duration,
    /// Traffic threads.
    pub threads: usize,
    /// The log.
    pub log: LogConfig,
    /// Decisions of policies are logged at info instead of debug.
    pub log_decisions: bool,
    /// How long a policy that is chosen for a workload may be unknown before connections are refused for it.
    pub policy_wait: Duration,
    /// The mesh's version, shown in metrics.
    pub mesh_version: Label,
}

/// For whom ztunnel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Every pod that the node agent names over this socket.
    Shared {
        /// The agent's socket.
        link: PathBuf,
        /// Listeners share their port, so that two processes may overlap.
        reuse_port: bool,
    },
    /// One workload, in our own namespace.
    Dedicated(PodInfo),
}

const MODE: Key<bool> = Key::new("PROXY_MODE", "shared or dedicated", dedicated, || false);
const WORKLOAD: Key<Option<PodInfo>> = Key::new(
    "PROXY_WORKLOAD_INFO",
    "<namespace>/<pod name>/<service account> of the one workload in dedicated mode",
    workload,
    || None,
);
const LINK: Key<PathBuf> =
    Key::new("INPOD_UDS", "the node agent's socket", path, || "/var/run/ztunnel/ztunnel.sock".into());
const REUSE_PORT: Key<bool> =
    Key::new("INPOD_PORT_REUSE", "let two processes share a pod's ports", flag, || true);
const LOG_DECISIONS: Key<bool> =
    Key::new("AUTHZ_POLICY_INFO_LOGGING", "log policy decisions at info", flag, || false);
const POLICY_WAIT: Key<Duration> = Key::new(
    "AUTHZ_POLICY_WAIT",
    "how long connections wait for a policy that is chosen for their workload but not known yet; then they are \
     refused, and live ones cut; 0 refuses and cuts at once",
    duration,
    || Duration::from_secs(1),
);
const MESH_VERSION: Key<String> =
    Key::new("ISTIO_META_ISTIO_VERSION", "shown in metrics", text, || "unknown".into());

const ADMIN_PORT: u16 = 15000;
const STATS_PORT: u16 = 15020;
const READINESS_PORT: u16 = 15021;

impl Config {
    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn read(source: &dyn Source) -> Result<Self, Faults> {
        Self::read_over(source, Path::new(layers::MESH_FILE))
    }

    /// The same, with the mesh's configuration at `mesh`.
    fn read_over(source: &dyn Source, mesh: &Path) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let f = &mut faults;
        let layers = Layers::read(source, mesh, f);
        let source = &layers as &dyn Source;
        unsupported::refuse(source, f);
        let mode = mode(source, f);
        let Place { node, network, cluster, domain } = Place::read(source, f);
        let (terms, shared) = (terms::read(source, f), matches!(mode, Mode::Shared { .. }));
        let traffic = Traffic::read(source, f, shared);
        let names = names(source, f, &traffic);
        let us = Us { kind: "ztunnel", node: node.as_str(), cluster: &cluster, shared, terms: &terms };
        let this = Self {
            control: Control::read(source, f, &us),
            ports: Ports {
                admin: layers.admin_port.unwrap_or(ADMIN_PORT),
                stats: layers.stats_port.unwrap_or(STATS_PORT),
                readiness: READINESS_PORT,
            },
            domain,
            traffic,
            names,
            drain: place::drain(source, f),
            threads: threads::read(source, f, layers.concurrency),
            log: LogConfig::read(source, f, "ambit_ztunnel::"),
            log_decisions: LOG_DECISIONS.read(source, f),
            policy_wait: POLICY_WAIT.read(source, f),
            mesh_version: MESH_VERSION.read(source, f).into(),
            node,
            network,
            mode,
            terms,
            cluster,
        };
        faults.into_result(this)
    }
}

fn mode(source: &dyn Source, faults: &mut Faults) -> Mode {
    let shared = |faults: &mut Faults| Mode::Shared {
        link: LINK.read(source, faults),
        reuse_port: REUSE_PORT.read(source, faults),
    };
    if !MODE.read(source, faults) {
        return shared(faults);
    }
    match WORKLOAD.require(source, faults) {
        Some(info) => Mode::Dedicated(info),
        None => shared(faults),
    }
}

/// How names are answered; something must be left to do.
fn names(source: &dyn Source, f: &mut Faults, traffic: &Traffic) -> Option<Names> {
    let names = Names::read(source, f, traffic.ipv6);
    if names.is_none() && !traffic.carry {
        f.add(
            "ENABLE_PROXY",
            "false",
            "names are not answered either, so nothing is left to do; switch one on",
        );
    }
    names
}

fn dedicated(given: &str) -> Result<bool, String> {
    match given {
        "shared" => Ok(false),
        "dedicated" => Ok(true),
        _ => Err("write shared or dedicated".into()),
    }
}

fn workload(given: &str) -> Result<Option<PodInfo>, String> {
    let shape = || "write <namespace>/<pod name>/<service account>".to_owned();
    let mut parts = given.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(shape);
    let (namespace, name, account) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(shape());
    }
    Ok(Some(PodInfo {
        name: name.into(),
        namespace: namespace.parse().map_err(|_| shape())?,
        service_account: account.parse().map_err(|_| shape())?,
    }))
}

#[cfg(test)]
mod tests;
