//! Where a proxy runs: node, network, cluster; and how long it may take to end. Owns those settings only.

use std::time::Duration;

use ambit_model::name::{ClusterId, Network, NodeName};
use ambit_process::config::{Faults, Key, Source, duration, text};

const NODE: Key<String> = Key::new("NODE_NAME", "our node's name", text, String::new);
const NETWORK: Key<String> = Key::new("NETWORK", "our network's id", text, String::new);
const CLUSTER: Key<String> = Key::new("CLUSTER_ID", "our cluster's id", text, || "Kubernetes".into());
const META_CLUSTER: Key<Option<String>> =
    Key::new("ISTIO_META_CLUSTER_ID", "our cluster's id; wins", |t| text(t).map(Some), || None);
const DOMAIN: Key<String> =
    Key::new("CLUSTER_DOMAIN", "the cluster's domain", text, || "cluster.local".into());
const DEADLINE: Key<Option<Duration>> = Key::new(
    "CONNECTION_TERMINATION_DEADLINE",
    "how long open connections may go on after a stop",
    |t| duration(t).map(Some),
    || None,
);
const GRACE: Key<Option<Duration>> = Key::new(
    "TERMINATION_GRACE_PERIOD_SECONDS",
    "what the pod is given to end; a little less is left to connections",
    |t| duration(t).map(Some),
    || None,
);

/// Without any word on it, open connections get this long.
const DRAIN_DEFAULT: Duration = Duration::from_secs(5);

/// Where a proxy runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Our node; empty: unknown, then every workload may be local.
    pub node: NodeName,
    /// Our network.
    pub network: Network,
    /// Our cluster.
    pub cluster: ClusterId,
    /// The name of the cluster's domain.
    pub domain: String,
}

impl Place {
    /// Reads all of it.
    #[must_use]
    pub fn read(source: &dyn Source, f: &mut Faults) -> Self {
        let cluster = META_CLUSTER.read(source, f).unwrap_or_else(|| CLUSTER.read(source, f));
        Self {
            node: NODE.read(source, f).into(),
            network: NETWORK.read(source, f).into(),
            cluster: cluster.into(),
            domain: DOMAIN.read(source, f),
        }
    }
}

/// What is left for connections: the deadline as given, or the pod's grace less what ending takes.
#[must_use]
pub fn drain(source: &dyn Source, f: &mut Faults) -> Duration {
    left(DEADLINE.read(source, f), GRACE.read(source, f))
}

fn left(deadline: Option<Duration>, grace: Option<Duration>) -> Duration {
    let second = Duration::from_secs(1);
    match (deadline, grace) {
        (Some(deadline), _) => deadline,
        (None, Some(grace)) if grace > Duration::from_secs(10) => grace - Duration::from_secs(5),
        (None, Some(grace)) => grace.saturating_sub(second).max(second),
        (None, None) => DRAIN_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drain_deadline_follows_the_grace_period() {
        for (deadline, grace, wanted) in [
            (Some(9), Some(30), 9),
            (None, Some(30), 25),
            (None, Some(10), 9),
            (None, Some(0), 1),
            (None, None, 5),
        ] {
            let secs = Duration::from_secs;
            assert_eq!(left(deadline.map(secs), grace.map(secs)), secs(wanted), "{deadline:?} {grace:?}");
        }
    }
}
