//! A service as the mesh has it. Pure: facts in, a story out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ambit_cluster::kinds::service::Service;
use ambit_model::service::Service as Known;
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Health, Tunnel};
use serde::Serialize;

use super::Witness;
use super::pod::{Applied, list, policies, problems};
use crate::cluster::dump::text;
use crate::cluster::enrolment::{Stand, Standing};

/// What is known of a service.
pub(super) struct ServiceFacts {
    pub(super) service: Service,
    /// How the pods of its namespace stand, by name.
    pub(super) stands: BTreeMap<String, Stand>,
    pub(super) witness: Result<Witness, String>,
}

/// What is told of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStory {
    namespace: String,
    name: String,
    host: Option<String>,
    addresses: Vec<String>,
    ports: Vec<String>,
    waypoint: String,
    endpoints: Vec<End>,
    /// Those that apply to any of its ends.
    policies: BTreeSet<Applied>,
    /// What the mesh says of it on the object itself.
    conditions: Vec<String>,
    /// Which ztunnel said so.
    ztunnel: Option<String>,
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct End {
    name: String,
    node: String,
    addresses: Vec<String>,
    healthy: bool,
    in_mesh: bool,
}

impl ServiceFacts {
    /// Tells it.
    pub(super) fn tell(self) -> ServiceStory {
        let Self { service, stands, witness } = self;
        let meta = &service.metadata;
        let mut told = ServiceStory {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            host: None,
            addresses: service.spec.vips().iter().map(ToString::to_string).collect(),
            ports: service.spec.ports.iter().map(|it| it.port.0.to_string()).collect(),
            waypoint: "None".into(),
            endpoints: Vec::new(),
            policies: BTreeSet::new(),
            conditions: Vec::new(),
            ztunnel: None,
            problems: Vec::new(),
        };
        for it in &service.status.conditions {
            let line = format!("{}={} {}: {}", it.kind, it.status, it.reason, it.message);
            if it.status == "False" && it.kind.starts_with("istio.io/") {
                told.problems.push(line.clone());
            }
            told.conditions.push(line);
        }
        match witness {
            Err(why) => told.problems.push(format!("no ztunnel tells of it: {why}")),
            Ok(witness) => told.hear(&witness, &stands),
        }
        told
    }
}

fn known<'a>(world: &'a Snapshot, namespace: &str, name: &str) -> Option<&'a Known> {
    let all = || world.services().map(|it| &**it);
    // A service entry may be called the same; the one of Kubernetes has this host.
    let host = format!("{name}.{namespace}.svc.");
    all().find(|it| it.namespace.as_str() == namespace && it.hostname.as_str().starts_with(&host))
}

impl ServiceStory {
    fn hear(&mut self, witness: &Witness, stands: &BTreeMap<String, Stand>) {
        let ztunnel = &witness.part.name;
        self.ztunnel = Some(ztunnel.clone());
        let Some(service) = known(&witness.world, &self.namespace, &self.name) else {
            self.problems.push(format!("{ztunnel} was not told of it; see `ambit proxy-status`"));
            return;
        };
        let is_it = |it: &&serde_json::Value| {
            text(it, "namespace") == self.namespace && text(it, "hostname") == service.hostname.as_str()
        };
        if let Some(raw) = witness.dump.list("services").iter().find(is_it) {
            self.waypoint = witness.dump.waypoint(raw);
        }
        self.host = Some(service.hostname.to_string());
        let key = service.key();
        for workload in witness.world.endpoints(&key) {
            self.endpoints.push(End {
                name: workload.name.to_string(),
                node: workload.node.to_string(),
                addresses: workload.addresses.iter().map(ToString::to_string).collect(),
                healthy: workload.health == Health::Healthy,
                in_mesh: workload.tunnel == Tunnel::Hbone,
            });
            self.policies.extend(policies(&witness.world, workload));
        }
        self.endpoints.sort_by(|a, b| a.name.cmp(&b.name));
        let problems = self.troubles(stands);
        self.problems.extend(problems);
    }

    fn troubles(&self, stands: &BTreeMap<String, Stand>) -> Vec<String> {
        let mut problems = Vec::new();
        let healthy = self.endpoints.iter().filter(|end| end.healthy).count();
        if self.endpoints.is_empty() {
            problems.push("it has no endpoints: its selector chooses no pod with an address".to_owned());
        } else if healthy == 0 {
            problems.push(format!("none of its {} endpoints is ready", self.endpoints.len()));
        }
        for end in &self.endpoints {
            let Some(stand) = stands.get(&end.name) else { continue };
            match (stand.standing, end.in_mesh) {
                (Standing::NotEnrolled, _) => {
                    problems.push(format!("{} is to be in the mesh and is not: {}", end.name, stand.why));
                }
                (Standing::Enrolled, false) => {
                    problems.push(format!("{} is in the mesh, and ztunnels were not told so", end.name));
                }
                _ => {}
            }
        }
        let unknown = self.policies.iter().filter(|it| it.to_string().starts_with("UNKNOWN"));
        problems.extend(unknown.map(|it| format!("ztunnels were not told of policy {}", it.policy)));
        problems
    }
}

impl fmt::Display for ServiceStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Service {}/{}, {}", self.namespace, self.name, self.addresses.join(" "))?;
        writeln!(f, "  Host:         {}", self.host.as_deref().unwrap_or("not known to the mesh"))?;
        writeln!(f, "  Ports:        {}", self.ports.join(", "))?;
        writeln!(f, "  Waypoint:     {}", self.waypoint)?;
        list(f, "  Endpoints:  ", &self.endpoints)?;
        let policies: Vec<_> = self.policies.iter().collect();
        list(f, "  Policies:   ", &policies)?;
        if !self.conditions.is_empty() {
            list(f, "  Conditions: ", &self.conditions)?;
        }
        if let Some(ztunnel) = &self.ztunnel {
            writeln!(f, "  As told by:   {ztunnel}")?;
        }
        problems(f, &self.problems)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.addresses.join(" "))?;
        if !self.node.is_empty() {
            write!(f, " on {}", self.node)?;
        }
        f.write_str(if self.healthy { ", ready" } else { ", not ready" })?;
        f.write_str(if self.in_mesh { ", in the mesh" } else { ", not in the mesh" })
    }
}
