//! A pod as the mesh has it. Pure: facts in, a story out. Which policies apply is `model::judge`'s.

use std::fmt;

use ambit_cluster::kinds::core::Pod;
use ambit_model::judge;
use ambit_model::policy::{Action, Policy, PolicyScope};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Tunnel, Workload};
use serde::Serialize;
use serde_json::Value;

use super::Witness;
use crate::cluster::dump::{Dump, text};
use crate::cluster::enrolment::{Stand, Standing};

/// What is known of a pod.
pub(super) struct PodFacts {
    pub(super) pod: Pod,
    pub(super) stand: Stand,
    pub(super) witness: Result<Witness, String>,
    /// Of the mesh, about this pod.
    pub(super) warnings: Vec<String>,
}

/// What is told of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStory {
    namespace: String,
    name: String,
    node: String,
    addresses: Vec<String>,
    ready: bool,
    mesh: Stand,
    /// What its node's ztunnel knows; none where that cannot be asked, or does not know it.
    known: Option<Known>,
    /// Which ztunnel said so.
    ztunnel: Option<String>,
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    identity: String,
    protocol: &'static str,
    waypoint: String,
    /// Hosts, with service and target ports.
    services: Vec<String>,
    policies: Vec<Applied>,
    /// Of its certificate, and until when; none where it has none.
    certificate: Option<Certificate>,
    connections: Connections,
}

/// A policy that applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Applied {
    pub(super) policy: String,
    action: &'static str,
    /// Why it applies.
    scope: &'static str,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Certificate {
    state: String,
    until: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Connections {
    inbound: usize,
    outbound: usize,
}

impl PodFacts {
    /// Tells it.
    pub(super) fn tell(self) -> PodStory {
        let Self { pod, stand, witness, warnings } = self;
        let mut problems = Vec::new();
        match stand.standing {
            Standing::NotEnrolled => {
                problems.push(format!("it is to be in the mesh and is not: {}", stand.why))
            }
            Standing::Leaving => problems.push(format!("it is in the mesh and is not to be: {}", stand.why)),
            Standing::Enrolled | Standing::Out => {}
        }
        if stand.standing != Standing::Enrolled {
            problems.extend(warnings.last().map(|said| format!("the node daemon said at {said}")));
        }
        let is_in = stand.standing == Standing::Enrolled;
        let (known, ztunnel) = match witness {
            Err(why) => {
                problems.extend(is_in.then(|| format!("its node's ztunnel does not tell: {why}")));
                (None, None)
            }
            Ok(witness) => {
                let workload = find(&witness.world, &pod.metadata.namespace, &pod.metadata.name);
                let known = workload.map(|it| Known::of(it, &witness, &pod.metadata.uid));
                problems.extend(contradictions(&pod, &stand, workload, known.as_ref(), &witness));
                (known, Some(witness.part.name))
            }
        };
        PodStory {
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            node: pod.spec.node_name.to_string(),
            addresses: pod.ips().iter().map(ToString::to_string).collect(),
            ready: pod.is_ready(),
            mesh: stand,
            known,
            ztunnel,
            problems,
        }
    }
}

/// The workload of a pod.
pub(super) fn find<'a>(world: &'a Snapshot, namespace: &str, name: &str) -> Option<&'a Workload> {
    let end = format!("//Pod/{namespace}/{name}");
    world.workloads().map(|it| &**it).find(|it| it.uid.as_str().ends_with(&end))
}

/// The policies that apply to a workload; those of which only the name is known have no action.
pub(super) fn policies(world: &Snapshot, workload: &Workload) -> Vec<Applied> {
    let found = judge::applicable(world, workload);
    let of = |policy: &Policy| Applied {
        policy: policy.key.to_string(),
        action: match policy.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        },
        scope: match policy.scope {
            PolicyScope::Global => "the whole mesh",
            PolicyScope::Namespace => "its namespace",
            PolicyScope::Selector => "chosen for it",
        },
        dry_run: policy.dry_run,
    };
    let missing = |key: &&_| Applied {
        policy: ToString::to_string(*key),
        action: "UNKNOWN",
        scope: "chosen for it",
        dry_run: false,
    };
    found.policies.iter().map(|it| of(it)).chain(found.missing.iter().map(missing)).collect()
}

impl Known {
    fn of(workload: &Workload, witness: &Witness, uid: &str) -> Self {
        let identity = workload.identity().to_string();
        let services = workload.services.iter().map(|(key, ports)| {
            let ports: Vec<_> = ports.iter().map(|(port, target)| format!("{port}->{target}")).collect();
            format!("{} {}", key.hostname, ports.join(","))
        });
        let raw = witness.dump.workload(workload.namespace.as_str(), workload.name.as_str());
        Self {
            protocol: if workload.tunnel == Tunnel::Hbone { "HBONE" } else { "TCP" },
            waypoint: raw.map_or_else(|| "None".into(), |raw| witness.dump.waypoint(raw)),
            services: services.collect(),
            policies: policies(&witness.world, workload),
            certificate: certificate(&witness.dump, &identity),
            connections: connections(&witness.dump, uid),
            identity,
        }
    }
}

fn certificate(dump: &Dump, identity: &str) -> Option<Certificate> {
    let found = dump.list("certificates").iter().find(|it| text(it, "identity") == identity)?;
    let until = found.pointer("/certChain/0/expirationTime").and_then(Value::as_str).map(Into::into);
    Some(Certificate { state: text(found, "state").into(), until })
}

/// The ztunnel's own state of a pod.
fn seat<'a>(dump: &'a Dump, uid: &str) -> Option<&'a Value> {
    dump.pods().find(|(id, _)| *id == uid).map(|(_, it)| it)
}

fn connections(dump: &Dump, uid: &str) -> Connections {
    let count = |way: &str| {
        let open = seat(dump, uid).and_then(|it| it.pointer(&format!("/connections/{way}"))?.as_array());
        open.map_or(0, Vec::len)
    };
    Connections { inbound: count("inbound"), outbound: count("outbound") }
}

/// Where the cluster and the ztunnel do not say the same.
fn contradictions(
    pod: &Pod,
    stand: &Stand,
    workload: Option<&Workload>,
    known: Option<&Known>,
    witness: &Witness,
) -> Vec<String> {
    let mut problems = Vec::new();
    let name = &witness.part.name;
    let is_in = stand.standing == Standing::Enrolled;
    let (Some(workload), Some(known)) = (workload, known) else {
        problems
            .extend((!pod.is_over()).then(|| format!("{name} was not told of it; see `ambit proxy-status`")));
        return problems;
    };
    let hbone = workload.tunnel == Tunnel::Hbone;
    if is_in && !hbone {
        problems.push(format!("{name} takes it for a pod outside the mesh; see `ambit proxy-status`"));
    }
    if is_in && seat(&witness.dump, &pod.metadata.uid).is_none_or(|seat| text(seat, "state") != "Up") {
        problems.push(format!("{name} does not serve it: its node daemon has not handed it over"));
    }
    if is_in && known.certificate.as_ref().is_none_or(|it| it.state != "Available") {
        let state = known.certificate.as_ref().map_or("none was asked for", |it| it.state.as_str());
        problems.push(format!("{name} has no certificate for it: {state}"));
    }
    if pod.ips().iter().any(|ip| !workload.addresses.contains(ip)) {
        let known: Vec<_> = workload.addresses.iter().map(ToString::to_string).collect();
        problems.push(format!("{name} knows it by other addresses: {}", known.join(", ")));
    }
    if pod.is_ready() && workload.health == Health::Unhealthy {
        problems.push(format!("{name} takes it for not ready"));
    }
    let missing = known.policies.iter().filter(|it| it.action == "UNKNOWN");
    problems.extend(missing.map(|it| format!("{name} was not told of policy {}: all is denied", it.policy)));
    problems
}

impl fmt::Display for PodStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "ready" } else { "not ready" };
        let node = if self.node.is_empty() { "no node" } else { &self.node };
        writeln!(f, "Pod {}/{} on {node}, {}, {ready}", self.namespace, self.name, self.addresses.join(" "))?;
        match (self.mesh.standing, self.mesh.why.as_str()) {
            (Standing::Enrolled, _) => writeln!(f, "  Mesh:         in")?,
            (Standing::Leaving, why) => writeln!(f, "  Mesh:         still in; {why}")?,
            (Standing::NotEnrolled | Standing::Out, why) => writeln!(f, "  Mesh:         out; {why}")?,
        }
        if let Some(known) = &self.known {
            known.fmt(f)?;
        }
        if let Some(ztunnel) = &self.ztunnel {
            writeln!(f, "  As told by:   {ztunnel}")?;
        }
        problems(f, &self.problems)
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  Identity:     {}", self.identity)?;
        match &self.certificate {
            None => writeln!(f, "  Certificate:  none")?,
            Some(Certificate { state, until: None }) => writeln!(f, "  Certificate:  {state}")?,
            Some(Certificate { state, until: Some(until) }) => {
                writeln!(f, "  Certificate:  {state}, until {until}")?
            }
        }
        writeln!(f, "  Reached by:   {}", self.protocol)?;
        writeln!(f, "  Waypoint:     {}", self.waypoint)?;
        list(f, "  Services:   ", &self.services)?;
        list(f, "  Policies:   ", &self.policies)?;
        writeln!(f, "  Connections:  {} in, {} out", self.connections.inbound, self.connections.outbound)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.action, self.policy, self.scope)?;
        f.write_str(if self.dry_run { ", dry run" } else { "" })
    }
}

/// One a line; `none` without any.
pub(super) fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, all: &[T]) -> fmt::Result {
    let Some((first, rest)) = all.split_first() else { return writeln!(f, "{title}  none") };
    writeln!(f, "{title}  {first}")?;
    rest.iter().try_for_each(|one| writeln!(f, "{:w$}  {one}", "", w = title.len()))
}

/// What is wrong, at the end.
pub(super) fn problems(f: &mut fmt::Formatter<'_>, all: &[String]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(f, "Problems:")?;
    all.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
}
