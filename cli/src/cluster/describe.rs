//! `ambit describe`: one pod or service as the mesh has it, and what is wrong with it.
//! Owns asking for what is known of it; what is made of that is `pod`'s and `service`'s, which are pure.

mod pod;
mod service;

use std::error::Error;
use std::process::ExitCode;

use ambit_cluster::api::{ApiError, Client};
use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_model::delta::Delta;
use ambit_model::snapshot::Snapshot;
use ambit_wire::local::read_dump;
use clap::{Args, Subcommand};
use serde_json::Value;

use self::pod::PodFacts;
use self::service::ServiceFacts;
use super::aim::Aim;
use super::dump::{Dump, text};
use super::enrolment::{Rules, Stand};
use super::parts::{ADMIN_PORT, NODE_DAEMONS, Part, ZTUNNELS, fetch, on_node, parts, pod_name};
use super::{Which, block_on};
use crate::args::{chain, fail};
use crate::output::{Output, render};
use crate::why::DUMP;

/// What `ambit describe` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// A pod: whether it is in the mesh, as whom, under which policies, behind which services.
    #[command(visible_aliases = ["pods", "po"])]
    Pod(Named),
    /// A service: its ends, which of them are in the mesh, which policies they are under.
    #[command(visible_aliases = ["services", "svc"])]
    Service(Named),
}

#[derive(Debug, Clone, Args)]
struct Named {
    /// NAME, NAME.NAMESPACE or NAMESPACE/NAME; of a pod also deployment/NAME and the like: the first that is ready.
    name: String,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

/// A ztunnel, and what it says that it knows.
pub(super) struct Witness {
    pub(super) part: Part,
    pub(super) dump: Dump,
    pub(super) known: Delta,
    pub(super) world: Snapshot,
}

/// Describes. Fails when something is wrong with what it describes.
pub(crate) fn run(args: &DescribeArgs) -> ExitCode {
    let said = block_on(async {
        match &args.what {
            What::Pod(named) => {
                let told = pod_facts(&args.which, named).await?.tell();
                Ok((render(&told, named.output, ToString::to_string)?, told.problems.is_empty()))
            }
            What::Service(named) => {
                let told = service_facts(&args.which, named).await?.tell();
                Ok((render(&told, named.output, ToString::to_string)?, told.problems.is_empty()))
            }
        }
    });
    match said {
        Ok((text, is_well)) => {
            print!("{text}");
            if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(error.as_ref()),
    }
}

async fn pod_facts(which: &Which, named: &Named) -> Result<PodFacts, Box<dyn Error>> {
    let client = which.client().await?;
    let aim = Aim::read(&named.name, named.namespace.as_deref(), client.namespace());
    let (namespace, name) = aim.pod(&client).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let value: Value = found(client.read(&path).await, || format!("there is no pod {name}.{namespace}"))?;
    let pod: Pod = serde_json::from_value(value)?;
    let stand = stand(&client, &which.istio_namespace, &pod).await?;
    let witness = witness(&client, &which.istio_namespace, &pod.spec.node_name).await;
    Ok(PodFacts { warnings: warnings(&client, &pod).await?, pod, stand, witness })
}

/// What a read found; that there is nothing is said as people named it.
fn found(read: Result<Value, ApiError>, missing: impl FnOnce() -> String) -> Result<Value, Box<dyn Error>> {
    match read {
        Err(ApiError::NotFound { .. }) => Err(missing().into()),
        other => Ok(other?),
    }
}

async fn stand(client: &Client, system: &str, pod: &Pod) -> Result<Stand, Box<dyn Error>> {
    let namespace = &pod.metadata.namespace;
    let namespace: Namespace = client.read(&format!("/api/v1/namespaces/{namespace}")).await?;
    Ok(rules(client, system).await?.stand(pod, Some(&namespace)))
}

async fn rules(client: &Client, system: &str) -> Result<Rules, ApiError> {
    let path = format!("/apis/apps/v1/namespaces/{system}/daemonsets");
    let daemons = client.list(&path, &[("labelSelector", NODE_DAEMONS)]).await?;
    Ok(Rules::of(daemons.first(), system))
}

/// What the ztunnel of a node says, or why it says nothing.
pub(super) async fn witness(client: &Client, system: &str, node: &str) -> Result<Witness, String> {
    if node.is_empty() {
        return Err("the pod is on no node yet".into());
    }
    let all = parts(client, system, ZTUNNELS).await.map_err(|error| chain(&error))?;
    let part = on_node(&all, node).ok_or_else(|| format!("no ztunnel runs on node {node}"))?.clone();
    let said = fetch(client, &part, ADMIN_PORT, DUMP).await.map_err(|error| chain(&error))?;
    let dump = Dump::parse(&said).map_err(|error| chain(&error))?;
    let known = read_dump(&said).map_err(|error| chain(&error))?;
    Ok(Witness { part, dump, world: Snapshot::default().with(&known), known })
}

/// The latest warnings about a pod from the mesh, newest last.
async fn warnings(client: &Client, pod: &Pod) -> Result<Vec<String>, ApiError> {
    let path = format!("/api/v1/namespaces/{}/events", pod.metadata.namespace);
    let selector = format!("involvedObject.uid={},type=Warning", pod.metadata.uid);
    let mut events = client.list(&path, &[("fieldSelector", &selector)]).await?;
    events.retain(|it| text(it, "reason").starts_with("Ambient"));
    events.sort_by(|a, b| text(a, "lastTimestamp").cmp(text(b, "lastTimestamp")));
    let line = |it: &Value| format!("{}: {}", text(it, "lastTimestamp"), text(it, "message"));
    Ok(events.iter().map(line).collect())
}

async fn service_facts(which: &Which, named: &Named) -> Result<ServiceFacts, Box<dyn Error>> {
    let client = which.client().await?;
    let given = ["svc/", "service/", "services/"].iter().find_map(|kind| named.name.strip_prefix(kind));
    let given = given.unwrap_or(&named.name);
    let (namespace, name) = pod_name(given, named.namespace.as_deref(), client.namespace());
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let value = found(client.read(&path).await, || format!("there is no service {name}.{namespace}"))?;
    let service = serde_json::from_value(value)?;
    let pods = client.list(&format!("/api/v1/namespaces/{namespace}/pods"), &[]).await?;
    let pods: Vec<Pod> = pods.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let home: Namespace = client.read(&format!("/api/v1/namespaces/{namespace}")).await?;
    let rules = rules(&client, &which.istio_namespace).await?;
    let stands = pods.iter().map(|pod| (pod.metadata.name.clone(), rules.stand(pod, Some(&home)))).collect();
    let all = parts(&client, &which.istio_namespace, ZTUNNELS).await?;
    let witness = match all.iter().find(|part| part.ready) {
        None => Err(format!("no ztunnel in namespace {} is ready", which.istio_namespace)),
        Some(part) => witness(&client, &which.istio_namespace, &part.node).await,
    };
    Ok(ServiceFacts { service, stands, witness })
}

#[cfg(test)]
mod tests;
