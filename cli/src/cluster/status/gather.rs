//! What `ambit status` goes by: asked of the API server, and of the control plane's replicas. Decides nothing.

use std::error::Error;

use ambit_cluster::api::{ApiError, Client};
use ambit_cluster::kinds::core::{Namespace, Pod};
use jiff::Timestamp;
use serde_json::Value;

use crate::args::chain;
use crate::cluster::Which;
use crate::cluster::dump::text;
use crate::cluster::enrolment::{MODE, Rules, Stand};
use crate::cluster::parts::{CONTROL_PLANE, NODE_DAEMONS, Part, ZTUNNELS, fetch, parts};
use crate::cluster::proxies::{Proxy, merge, told};

/// Where replicas have their metrics.
const METRICS_PORT: u16 = 15014;
const ROOT_ENDS: &str = "citadel_server_root_cert_expiry_timestamp";
/// The lease of the replica that writes.
const LEASE: &str = "ambit-istiod-leader";

/// A pod of the cluster, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PodFact {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) stand: Stand,
}

/// Everything that is needed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    /// Replicas of the control plane that are wanted.
    pub(super) desired: u64,
    pub(super) replicas: Vec<Part>,
    /// The control plane is ours, which has a lease.
    pub(super) is_ours: bool,
    pub(super) leader: Option<String>,
    pub(super) root_ends: Option<Timestamp>,
    /// Nodes, and whether they are ready.
    pub(super) nodes: Vec<(String, bool)>,
    pub(super) ztunnels: Vec<Part>,
    pub(super) daemons: Vec<Part>,
    pub(super) proxies: Vec<Proxy>,
    /// Namespaces, and the label that asks their pods in.
    pub(super) namespaces: Vec<(String, Option<String>)>,
    pub(super) pods: Vec<PodFact>,
    /// What could not be asked.
    pub(super) troubles: Vec<String>,
}

/// Asks.
pub(super) async fn gather(which: &Which) -> Result<Facts, Box<dyn Error>> {
    let client = which.client().await?;
    let system = which.istio_namespace.as_str();
    let mut facts = Facts {
        replicas: parts(&client, system, CONTROL_PLANE).await?,
        ztunnels: parts(&client, system, ZTUNNELS).await?,
        daemons: parts(&client, system, NODE_DAEMONS).await?,
        ..Facts::default()
    };
    facts.desired = desired(&client, system).await?;
    control_plane(&client, system, &mut facts).await?;
    let nodes = client.list("/api/v1/nodes", &[]).await?;
    facts.nodes = nodes.iter().map(|node| (name(node), is_ready(node))).collect();
    pods(&client, system, &mut facts).await?;
    Ok(facts)
}

/// Replicas of all revisions.
async fn desired(client: &Client, system: &str) -> Result<u64, ApiError> {
    let path = format!("/apis/apps/v1/namespaces/{system}/deployments");
    let all = client.list(&path, &[("labelSelector", CONTROL_PLANE)]).await?;
    Ok(all.iter().map(|it| it.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)).sum())
}

async fn control_plane(client: &Client, system: &str, facts: &mut Facts) -> Result<(), Box<dyn Error>> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{system}/leases/{LEASE}");
    match client.read::<Value>(&path).await {
        Ok(lease) => {
            facts.is_ours = true;
            let holder = lease.get("spec").map(|spec| text(spec, "holderIdentity")).unwrap_or_default();
            facts.leader = (!holder.is_empty()).then(|| holder.to_owned());
        }
        // Another control plane has another one.
        Err(ApiError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // Another control plane tells its clients in its own way; `istioctl proxy-status` reads that.
    if facts.is_ours {
        let (proxies, troubles) = told(client, &facts.replicas).await;
        facts.proxies = merge(proxies, &facts.ztunnels);
        facts.troubles = troubles;
    }
    let Some(replica) = facts.replicas.iter().find(|part| part.ready) else { return Ok(()) };
    match fetch(client, replica, METRICS_PORT, "/metrics").await {
        Ok(metrics) => {
            facts.root_ends = metric(&metrics, ROOT_ENDS).and_then(|at| Timestamp::from_second(at).ok())
        }
        Err(error) => facts.troubles.push(chain(&error)),
    }
    Ok(())
}

/// The value of a gauge without labels, in whole seconds.
pub(super) fn metric(metrics: &str, name: &str) -> Option<i64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let whole = line.split_whitespace().next()?;
    whole.split('.').next()?.parse().ok().filter(|at| *at > 0)
}

async fn pods(client: &Client, system: &str, facts: &mut Facts) -> Result<(), Box<dyn Error>> {
    let path = format!("/apis/apps/v1/namespaces/{system}/daemonsets");
    let daemons = client.list(&path, &[("labelSelector", NODE_DAEMONS)]).await?;
    let rules = Rules::of(daemons.first(), system);
    let mut namespaces = Vec::new();
    for value in client.list("/api/v1/namespaces", &[]).await? {
        let namespace: Namespace = serde_json::from_value(value)?;
        let mode = namespace.metadata.label(MODE).map(ToOwned::to_owned);
        facts.namespaces.push((namespace.metadata.name.clone(), mode));
        namespaces.push(namespace);
    }
    for value in client.list("/api/v1/pods", &[]).await? {
        let pod: Pod = serde_json::from_value(value)?;
        let namespace = namespaces.iter().find(|it| it.metadata.name == pod.metadata.namespace);
        facts.pods.push(PodFact {
            stand: rules.stand(&pod, namespace),
            namespace: pod.metadata.namespace,
            name: pod.metadata.name,
            node: pod.spec.node_name.to_string(),
        });
    }
    Ok(())
}

fn name(of: &Value) -> String {
    of.get("metadata").map(|meta| text(meta, "name")).unwrap_or_default().to_owned()
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.filter(|it| text(it, "type") == "Ready").any(|it| text(it, "status") == "True")
}
