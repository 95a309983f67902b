//! `ambit status`: is the mesh of a cluster well? Control plane, nodes, pods by namespace, and what is wrong.
//! Owns the verdict, which is pure, and how it is shown; `gather` asks the cluster.

mod gather;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use ambit_process::clock;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use self::gather::Facts;
use super::enrolment::{Stand, Standing};
use super::parts::{Part, on_node};
use super::proxies::Proxy;
use super::{Which, block_on};
use crate::args::fail;
use crate::output::{Output, render};
use crate::table::Table;

/// A root that ends sooner than this is a trouble: a new one takes a while to be everywhere.
const ROOT_LEFT_DAYS: i64 = 30;
/// Pods that are named; of more only how many they are.
const NAMED: usize = 20;

/// What `ambit status` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

/// How the mesh is.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    healthy: bool,
    control_plane: ControlPlane,
    nodes: Vec<NodeStatus>,
    namespaces: Vec<NamespaceStatus>,
    /// Pods that are to be in and are not, or the other way round.
    misplaced: Vec<PodStatus>,
    /// Pods that understand HTTP for others: none yet.
    waypoints: usize,
    problems: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ControlPlane {
    desired: u64,
    replicas: Vec<Part>,
    /// The one replica that writes.
    leader: Option<String>,
    root_ends: Option<Timestamp>,
}

/// A node, and the parts of the mesh on it.
#[derive(Debug, PartialEq, Serialize)]
struct NodeStatus {
    name: String,
    ready: bool,
    ztunnel: Option<Part>,
    cni: Option<Part>,
    /// Whether all that its ztunnel was told is in force; none: nobody could say.
    synced: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceStatus {
    name: String,
    /// Of the label that asks its pods in.
    mode: Option<String>,
    enrolled: usize,
    not_enrolled: usize,
    leaving: usize,
    out: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct PodStatus {
    pod: String,
    node: String,
    #[serde(flatten)]
    stand: Stand,
}

/// Shows how the mesh is. Fails when it is not well.
pub(crate) fn run(args: &StatusArgs) -> ExitCode {
    let shown = block_on(async {
        let facts = gather::gather(&args.which).await?;
        let status = Status::of(facts, Timestamp::try_from(clock::now_system())?);
        Ok((render(&status, args.output, text)?, status.healthy))
    });
    match shown {
        Ok((text, healthy)) => {
            print!("{text}");
            if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(error.as_ref()),
    }
}

/// How the mesh is, as a text.
pub(super) async fn told(which: &Which) -> Result<String, Box<dyn Error>> {
    let facts = gather::gather(which).await?;
    Ok(text(&Status::of(facts, Timestamp::try_from(clock::now_system())?)))
}

impl Status {
    fn of(facts: Facts, now: Timestamp) -> Self {
        let mut problems = facts.troubles.clone();
        problems.extend(plane_problems(&facts, now));
        let nodes: Vec<NodeStatus> =
            facts.nodes.iter().map(|(name, ready)| node(&facts, name, *ready)).collect();
        problems.extend(nodes.iter().flat_map(node_problems));
        problems.extend(facts.proxies.iter().filter_map(Proxy::trouble));
        let namespaces = namespaces(&facts);
        let is_misplaced =
            |stand: &Stand| matches!(stand.standing, Standing::NotEnrolled | Standing::Leaving);
        let misplaced: Vec<PodStatus> = facts
            .pods
            .iter()
            .filter(|pod| is_misplaced(&pod.stand))
            .map(|pod| PodStatus {
                pod: format!("{}/{}", pod.namespace, pod.name),
                node: pod.node.clone(),
                stand: pod.stand.clone(),
            })
            .collect();
        let of = |standing| misplaced.iter().filter(|pod| pod.stand.standing == standing).count();
        match of(Standing::NotEnrolled) {
            0 => {}
            count => problems.push(format!("pods that are to be in the mesh and are not: {count}")),
        }
        match of(Standing::Leaving) {
            0 => {}
            count => problems.push(format!("pods that are in the mesh and are not to be: {count}")),
        }
        let Facts { desired, replicas, leader, root_ends, .. } = facts;
        Self {
            healthy: problems.is_empty(),
            control_plane: ControlPlane { desired, replicas, leader, root_ends },
            nodes,
            namespaces,
            misplaced,
            waypoints: 0,
            problems,
        }
    }
}

fn plane_problems(facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    let ready = facts.replicas.iter().filter(|part| part.ready).count();
    if facts.replicas.is_empty() {
        problems.push("no control plane runs here; `ambit install` brings one".to_owned());
    } else if u64::try_from(ready).unwrap_or(u64::MAX) < facts.desired.max(1) {
        problems.push(format!("control plane: {ready} of {} replicas are ready", facts.desired.max(1)));
    }
    if facts.is_ours && !facts.replicas.is_empty() && facts.leader.is_none() {
        problems.push("control plane: no replica leads; nobody writes status".to_owned());
    }
    for part in facts.replicas.iter().filter(|part| !part.ready) {
        problems.push(format!("{} is {}", part.name, part.phase));
    }
    if let Some(ends) = facts.root_ends {
        let left = ends.duration_since(now).as_hours() / 24;
        if left < ROOT_LEFT_DAYS {
            problems.push(format!("the root certificate ends in {left} days, at {ends}; rotate it"));
        }
    }
    problems
}

fn node(facts: &Facts, name: &str, ready: bool) -> NodeStatus {
    let on = |parts: &[Part]| on_node(parts, name).cloned();
    let ztunnel = on(&facts.ztunnels);
    let told = ztunnel.as_ref().and_then(|part| facts.proxies.iter().find(|it| it.name == part.name));
    NodeStatus {
        name: name.into(),
        ready,
        cni: on(&facts.daemons),
        synced: told.map(Proxy::is_synced),
        ztunnel,
    }
}

fn node_problems(node: &NodeStatus) -> Vec<String> {
    let name = &node.name;
    if !node.ready {
        return vec![format!("node {name} is not ready")];
    }
    [("ztunnel", &node.ztunnel), ("node daemon", &node.cni)]
        .into_iter()
        .filter_map(|(what, part)| match part {
            None => Some(format!("node {name} has no {what}")),
            Some(part) if !part.ready => Some(format!("node {name}: {what} {} is {}", part.name, part.phase)),
            Some(_) => None,
        })
        .collect()
}

/// Only namespaces that have to do with the mesh.
fn namespaces(facts: &Facts) -> Vec<NamespaceStatus> {
    let mut all: BTreeMap<&str, NamespaceStatus> = BTreeMap::new();
    for (name, mode) in &facts.namespaces {
        let status = NamespaceStatus { name: name.clone(), mode: mode.clone(), ..NamespaceStatus::default() };
        all.insert(name, status);
    }
    for pod in &facts.pods {
        let status = all.entry(&pod.namespace).or_default();
        match pod.stand.standing {
            Standing::Enrolled => status.enrolled += 1,
            Standing::NotEnrolled => status.not_enrolled += 1,
            Standing::Leaving => status.leaving += 1,
            Standing::Out => status.out += 1,
        }
    }
    all.into_values()
        .filter(|it| it.mode.is_some() || it.enrolled + it.not_enrolled + it.leaving > 0)
        .collect()
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _written = sections(&mut text, status);
    text
}

fn sections(to: &mut String, status: &Status) -> std::fmt::Result {
    let plane = &status.control_plane;
    let ready = plane.replicas.iter().filter(|part| part.ready).count();
    writeln!(to, "Control plane: {ready}/{} ready", plane.desired)?;
    if let Some(ends) = plane.root_ends {
        writeln!(to, "Root certificate: until {ends}")?;
    }
    let mut replicas = Table::new(&["ISTIOD", "NODE", "READY", "VERSION", "LEADS", "RESTARTS"]);
    for part in &plane.replicas {
        let leads = plane.leader.as_ref() == Some(&part.name);
        let [ready, leads] = [part.ready, leads].map(|it| if it { "yes" } else { "no" }.to_owned());
        let (name, node, version) = (part.name.clone(), part.node.clone(), part.version.clone());
        replicas.row([name, node, ready, version, leads, part.restarts.to_string()]);
    }
    let mut nodes = Table::new(&["NODE", "READY", "ZTUNNEL", "VERSION", "SYNCED", "CNI", "VERSION"]);
    for node in &status.nodes {
        let word = |part: &Option<Part>| match part {
            None => "missing".to_owned(),
            Some(part) if part.ready => "ready".into(),
            Some(part) => part.phase.clone(),
        };
        let version = |part: &Option<Part>| part.as_ref().map(|it| it.version.clone()).unwrap_or_default();
        let synced = match node.synced {
            None => "unknown",
            Some(true) => "yes",
            Some(false) => "no",
        };
        nodes.row([
            node.name.clone(),
            if node.ready { "yes" } else { "no" }.into(),
            word(&node.ztunnel),
            version(&node.ztunnel),
            synced.into(),
            word(&node.cni),
            version(&node.cni),
        ]);
    }
    let mut namespaces = Table::new(&["NAMESPACE", "LABEL", "ENROLLED", "NOT ENROLLED", "LEAVING", "OUT"]);
    for it in &status.namespaces {
        let [enrolled, not, leaving, out] =
            [it.enrolled, it.not_enrolled, it.leaving, it.out].map(|count| count.to_string());
        namespaces.row([it.name.clone(), it.mode.clone().unwrap_or_default(), enrolled, not, leaving, out]);
    }
    for table in [replicas, nodes, namespaces].iter().filter(|table| !table.is_empty()) {
        write!(to, "\n{}", table.text())?;
    }
    writeln!(to, "\nWaypoints: none")?;
    if !status.misplaced.is_empty() {
        writeln!(to, "\nPods that are not where they are to be:")?;
    }
    for pod in status.misplaced.iter().take(NAMED) {
        writeln!(to, "  {} on {}: {}", pod.pod, pod.node, pod.stand.why)?;
    }
    if let Some(more) = status.misplaced.len().checked_sub(NAMED).filter(|more| *more > 0) {
        writeln!(to, "  and {more} more; -o json names all")?;
    }
    if status.healthy {
        return writeln!(to, "\nThe mesh is well.");
    }
    writeln!(to, "\nProblems:")?;
    status.problems.iter().try_for_each(|problem| writeln!(to, "  {problem}"))
}

#[cfg(test)]
mod tests;
