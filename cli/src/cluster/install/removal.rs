//! Taking a mesh off a cluster: running pods leave first, while every part still runs; then the release goes; then it
//! is said what stays. Owns that order. Whatever users made - labels, policies, definitions - stays unless it is told.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use ambit_cluster::api::{ApiError, Client};
use serde_json::Value;

use super::helm::Helm;
use super::progress::{Steps, release};
use super::{InstallError, UninstallArgs, confirmed};
use crate::cluster::check::{few, is_ours, label, named, text_at};

const PAUSE: Duration = Duration::from_millis(500);
const MODE: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "/metadata/annotations/ambient.istio.io~1redirection";
const ROOTS: &str = "istio-ca-root-cert";
const SECRET: &str = "istio-ca-secret";
/// How the control plane's leases are called, of each revision.
const LEASE: &str = "ambit-istiod-leader";

/// Does it.
pub(super) async fn run(args: &UninstallArgs) -> Result<bool, Box<dyn Error>> {
    let helm = Helm::find(&args.helm, &args.which)?;
    let client = args.which.client().await?;
    let name = args.name();
    let namespace = args.which.istio_namespace.as_str();
    // What Helm says of a cluster that cannot be asked does not say what to do.
    client.read::<Value>("/version").await?;
    let found = helm.release(&name)?;
    if found.is_none() && !args.purge && !args.purge_definitions {
        return Err(InstallError::NoRelease { name, namespace: namespace.to_owned() }.into());
    }
    let daemons = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/istio-cni-node");
    let set = there(client.read(&daemons).await)?.filter(|it| is_ours(it) && release(it) == name);
    let others = others(&client, namespace, &name).await?;
    if !others.is_empty() && (args.purge || args.purge_definitions) {
        return Err(InstallError::Shared { others: few(&others) }.into());
    }
    let mut plan = Vec::new();
    if found.is_some() {
        plan.push(format!("release {name} in {namespace} is uninstalled"));
    }
    if set.is_some() {
        plan.push(format!("{} pods leave the mesh", enrolled(&client).await?.len()));
    }
    plan.extend(purged(args));
    let plan = plan.join("; ");
    if args.dry_run {
        println!("{plan}: if it was not a dry run");
        return Ok(true);
    }
    if !confirmed(&plan, args.yes, true)? {
        return Ok(false);
    }
    let steps = Steps::begin();
    if set.is_some() && found.is_some() {
        leave(&client, namespace, &daemons, (args.timeout, &steps)).await?;
    }
    if found.is_some() {
        let limit = format!("{}s", args.timeout.as_secs());
        helm.run(&["uninstall", &name, "--wait", "--timeout", &limit])?;
        steps.tell(&format!("release {name} is gone"));
        if others.is_empty() {
            release_leases(&client, namespace).await?;
        }
    }
    if args.purge {
        purge(&client, namespace, &steps).await?;
    }
    if args.purge_definitions {
        definitions(&client, &steps).await?;
    }
    match others.as_slice() {
        [] => print!("{}", left(&client, namespace).await?),
        others => println!("the mesh goes on with {}", few(others)),
    }
    Ok(true)
}

/// What goes beside the release, as the user is told before.
fn purged(args: &UninstallArgs) -> impl Iterator<Item = String> {
    let roots = args.purge.then_some("roots are deleted");
    let definitions = args.purge_definitions.then_some("definitions are deleted, and every policy with them");
    roots.into_iter().chain(definitions).map(str::to_owned)
}

/// The node daemons go first: at their end each lets its node's pods out, in order, and takes its plugin, rules and
/// files off the node.
async fn leave(
    client: &Client,
    namespace: &str,
    daemons: &str,
    (limit, steps): (Duration, &Steps),
) -> Result<(), Box<dyn Error>> {
    there(client.remove(daemons, &[("propagationPolicy", "Foreground")]).await)?;
    let (begun, mut told) = (Instant::now(), None);
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    loop {
        let nodes = client.list(&pods, &[("labelSelector", "k8s-app=istio-cni-node")]).await?.len();
        if told.replace(nodes) != Some(nodes) && nodes > 0 {
            steps.tell(&format!("pods leave the mesh on {nodes} nodes"));
        }
        if nodes == 0 && there(client.read::<Value>(daemons).await)?.is_none() {
            break;
        }
        if begun.elapsed() > limit {
            return Err(InstallError::StillThere { nodes, limit }.into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let still: Vec<String> = enrolled(client).await?.iter().map(named).collect();
    match still.as_slice() {
        [] => steps.tell("every pod has left"),
        still => steps.tell(&format!("told as still in: {}; start these again", few(still))),
    }
    Ok(())
}

/// Releases of ours in the namespace beside this one.
async fn others(client: &Client, namespace: &str, name: &str) -> Result<Vec<String>, ApiError> {
    let mut others = BTreeSet::new();
    for kind in ["deployments", "daemonsets"] {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{kind}");
        let all = client.list(&path, &[("labelSelector", "app.kubernetes.io/part-of=ambit")]).await?;
        others.extend(all.iter().map(|it| release(it).to_owned()).filter(|it| !it.is_empty() && it != name));
    }
    Ok(others.into_iter().map(|it| format!("release {it}")).collect())
}

async fn enrolled(client: &Client) -> Result<Vec<Value>, ApiError> {
    let mut all = client.list("/api/v1/pods", &[]).await?;
    all.retain(|it| text_at(it, REDIRECTION) == "enabled" && text_at(it, "/status/phase") == "Running");
    Ok(all)
}

/// A control plane whose rights went with its release cannot give up its leases, and the next one would wait for their
/// end before it leads.
async fn release_leases(client: &Client, namespace: &str) -> Result<(), ApiError> {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    for lease in client.list(&leases, &[]).await? {
        let name = text_at(&lease, "/metadata/name");
        if name.starts_with(LEASE) {
            there(client.remove(&format!("{leases}/{name}"), &[]).await)?;
        }
    }
    Ok(())
}

/// What the mesh made for itself, and no chart did.
async fn purge(client: &Client, namespace: &str, steps: &Steps) -> Result<(), ApiError> {
    let maps = roots(client).await?;
    for map in &maps {
        let at = text_at(map, "/metadata/namespace");
        there(client.remove(&format!("/api/v1/namespaces/{at}/configmaps/{ROOTS}"), &[]).await)?;
    }
    steps.tell(&format!("{} config maps {ROOTS} are gone", maps.len()));
    if there(client.remove(&format!("/api/v1/namespaces/{namespace}/secrets/{SECRET}"), &[]).await)?.is_some()
    {
        steps.tell(&format!("the root in secret {namespace}/{SECRET} is gone"));
    }
    Ok(())
}

async fn roots(client: &Client) -> Result<Vec<Value>, ApiError> {
    let field = format!("metadata.name={ROOTS}");
    client.list("/api/v1/configmaps", &[("fieldSelector", &field)]).await
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Definitions that our charts made, and with them every object of their kinds.
async fn definitions(client: &Client, steps: &Steps) -> Result<(), ApiError> {
    for definition in client.list(DEFINITIONS, &[]).await?.iter().filter(|it| is_ours(it)) {
        let name = text_at(definition, "/metadata/name");
        there(client.remove(&format!("{DEFINITIONS}/{name}"), &[]).await)?;
        steps.tell(&format!("definition {name} is gone, with all objects of its kind"));
    }
    Ok(())
}

/// What stays, with the command that takes it away.
async fn left(client: &Client, namespace: &str) -> Result<String, ApiError> {
    let mut lines = Vec::new();
    let namespaces = client.list("/api/v1/namespaces", &[]).await?;
    let labelled: Vec<String> =
        namespaces.iter().filter(|it| !label(it, MODE).is_empty()).map(named).collect();
    if !labelled.is_empty() {
        lines.push(format!(
            "label {MODE} of namespaces {}: kubectl label namespace NAME {MODE}-",
            few(&labelled)
        ));
    }
    if namespaces.iter().any(|it| text_at(it, "/metadata/name") == namespace) {
        lines.push(format!("namespace {namespace}: kubectl delete namespace {namespace}"));
    }
    let maps = roots(client).await?.len();
    if maps > 0 {
        lines.push(format!("{maps} config maps {ROOTS}: ambit uninstall --purge"));
    }
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/{SECRET}");
    if there(client.read::<Value>(&secret).await)?.is_some() {
        lines.push(format!(
            "the root in secret {namespace}/{SECRET}, for whoever installs again: ambit uninstall --purge"
        ));
    }
    let mut definitions = client.list(DEFINITIONS, &[]).await?;
    definitions.retain(|it| is_ours(it) && it.pointer("/metadata/deletionTimestamp").is_none());
    if !definitions.is_empty() {
        let names: Vec<String> = definitions.iter().map(named).collect();
        lines.push(format!(
            "definitions and all policies of their kinds ({}): ambit uninstall --purge-definitions",
            few(&names)
        ));
    }
    let lines = lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    Ok(if lines.is_empty() {
        "nothing is left\n".into()
    } else {
        format!("left, for you to decide:\n{lines}")
    })
}

/// An answer about what need not be there.
fn there<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(it) => Ok(Some(it)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
