//! Whose dump is meant: a file's, a named pod's node's, a node's, or whoever is ready. Owns choosing and asking.

use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ambit_cluster::api::{ApiError, Client};
use clap::Args;
use serde_json::Value;

use crate::cluster::Which;
use crate::cluster::aim::Aim;
use crate::cluster::dump::{DUMP_LIMIT, Dump, text};
use crate::cluster::parts::{ADMIN_PORT, Part, ZTUNNELS, fetch, on_node, parts};
use crate::why::DUMP;

/// Whose dump is meant.
#[derive(Debug, Clone, Args)]
pub(super) struct Whose {
    /// A pod, `NAME[.NAMESPACE]`: a ztunnel, or a workload, of which its node's ztunnel tells. Or `KIND/NAME`: of a
    /// deployment, daemonset, statefulset, replicaset, job or service its first pod that is ready.
    pub(super) pod: Option<String>,
    /// The namespace of POD; else that of the kubeconfig's context.
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// The ztunnel of this node.
    #[arg(long, conflicts_with = "pod")]
    pub(super) node: Option<String>,
    /// A dump in a file, `-` for standard input, instead of a cluster's.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["pod", "node"])]
    pub(super) file: Option<PathBuf>,
    /// The admin port of ztunnels.
    #[arg(long, default_value_t = ADMIN_PORT)]
    pub(super) proxy_admin_port: u16,
}

/// A dump, and of whom.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) dump: Dump,
    /// Whose it is, for a person.
    pub(super) at: Option<String>,
    /// Only this pod is meant: its namespace and name.
    pub(super) pod: Option<(String, String)>,
}

/// Why there is no ztunnel to ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum WhoseError {
    /// None runs in the mesh's namespace.
    #[error("no ztunnel runs in namespace {0}; name the mesh's namespace with --istioNamespace")]
    NoZtunnel(String),
    /// None is ready.
    #[error("no ztunnel in namespace {0} is ready; `ambit status` says more")]
    NoneReady(String),
    /// None on that node.
    #[error("no ztunnel runs on node {0}")]
    NotOnNode(String),
    /// A pod that is not there.
    #[error("there is no pod {0}.{1}; give NAME.NAMESPACE")]
    NoPod(String, String),
    /// A pod that waits for a node.
    #[error("pod {0}.{1} is on no node yet")]
    Unscheduled(String, String),
}

/// The dump in a file.
pub(super) fn from_file(path: &Path) -> Result<Asked, Box<dyn Error>> {
    let mut said = String::new();
    let limit = u64::try_from(DUMP_LIMIT)?;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut said)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut said))
    };
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(Asked { dump: Dump::parse(&said)?, at: None, pod: None })
}

/// The dumps of a cluster's ztunnels: of the one that is meant, or of `every` one that is ready.
pub(super) async fn from_cluster(
    which: &Which,
    whose: &Whose,
    every: bool,
) -> Result<Vec<Asked>, Box<dyn Error>> {
    let client = which.client().await?;
    let (chosen, pod) = choose(&client, which, whose, every).await?;
    let mut asked = Vec::new();
    for part in chosen {
        let answer = fetch(&client, &part, whose.proxy_admin_port, DUMP).await?;
        let at = Some(format!("{} on {}", part.name, part.node));
        asked.push(Asked { dump: Dump::parse(&answer)?, at, pod: pod.clone() });
    }
    Ok(asked)
}

/// The ztunnels that are meant, and the pod of which they are to tell.
pub(super) async fn choose(
    client: &Client,
    which: &Which,
    whose: &Whose,
    every: bool,
) -> Result<(Vec<Part>, Option<(String, String)>), Box<dyn Error>> {
    let system = &which.istio_namespace;
    let all = parts(client, system, ZTUNNELS).await?;
    if all.is_empty() {
        return Err(WhoseError::NoZtunnel(system.clone()).into());
    }
    if let Some(given) = &whose.pod {
        let aim = Aim::read(given, whose.namespace.as_deref(), client.namespace());
        let (namespace, name) = aim.pod(client).await?;
        if let Some(itself) = all.iter().find(|part| part.name == name) {
            return Ok((vec![itself.clone()], None));
        }
        let node = node_of(client, &namespace, &name).await?;
        let part = on_node(&all, &node).ok_or_else(|| WhoseError::NotOnNode(node.clone()))?;
        return Ok((vec![part.clone()], Some((namespace, name))));
    }
    if let Some(node) = &whose.node {
        let part = on_node(&all, node).ok_or_else(|| WhoseError::NotOnNode(node.clone()))?;
        return Ok((vec![part.clone()], None));
    }
    let mut ready: Vec<Part> = all.into_iter().filter(|part| part.ready).collect();
    if ready.is_empty() {
        return Err(WhoseError::NoneReady(system.clone()).into());
    }
    if !every {
        ready.truncate(1);
    }
    Ok((ready, None))
}

async fn node_of(client: &Client, namespace: &str, name: &str) -> Result<String, Box<dyn Error>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let pod: Value = match client.read(&path).await {
        Err(ApiError::NotFound { .. }) => {
            return Err(WhoseError::NoPod(name.into(), namespace.into()).into());
        }
        other => other?,
    };
    let node = pod.get("spec").map(|spec| text(spec, "nodeName")).unwrap_or_default();
    if node.is_empty() {
        return Err(WhoseError::Unscheduled(name.into(), namespace.into()).into());
    }
    Ok(node.to_owned())
}
