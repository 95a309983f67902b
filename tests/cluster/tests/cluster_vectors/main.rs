//! The recorded clusters, applied to a real API server: what ours tells a node of them differs from what upstream's
//! told it only as `tests/vectors/differences.json` lists. They are stored by our own resource definitions, which are
//! looked at first. Owns the story; a recorded cluster on a server is `recorded`'s.

#![cfg(test)]

mod definitions;
mod plane;
mod recorded;

use std::collections::BTreeSet;
use std::time::Duration;

use ambit_cluster_lab::mesh::{SYSTEM, told};
use ambit_cluster_lab::{Component, Lab};
use ambit_kit::vectors;
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::plane::Plane;
use crate::recorded::Recorded;

const SOON: Duration = Duration::from_secs(60);

/// Policies of which ours says something else than upstream's did, that accepted them although they protect nothing.
const TOLD_OTHERWISE: [&str; 2] = ["jwt-when", "l7-deny-only"];

/// The addresses that services had when clusters were recorded.
const ADDRESSES: &str = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: { name: recorded }
spec: { cidrs: [10.96.0.0/16] }
";

#[test]
fn what_is_sent_for_recorded_clusters_on_a_real_api_server_differs_from_upstream_only_as_listed() {
    told("vectors", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.kubectl(&["create", "namespace", SYSTEM])?;
    definitions::are_installed_where_nobody_else_has(lab)?;
    definitions::hold_what_is_written(lab)?;
    // Waypoints come with resource definitions of the Gateway API, which this cluster does not have.
    let without = vectors::ALL.into_iter().filter(|it| *it != "waypoints");
    let clusters: Vec<Recorded> = without.map(Recorded::read).collect::<Result<_>>()?;
    prepare(lab, &clusters)?;
    for cluster in &clusters {
        cluster.apply(lab)?;
        let plane = Plane::start(lab, cluster.vector)?;
        compare(lab, cluster, &plane)?;
        if cluster.vector == "policies" {
            conditions(lab, cluster)?;
            unreadable(lab)?;
        }
        drop(plane);
        cluster.remove(lab)?;
    }
    Ok(())
}

/// Namespaces with their accounts, and addresses for services. Then nobody is left who would change anything: nodes
/// of recorded clusters do not answer, which controllers would write onto their pods.
fn prepare(lab: &Lab, clusters: &[Recorded]) -> Result<()> {
    lab.apply(ADDRESSES)?;
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    lab.wait("addresses for services", SOON, || {
        let said = lab.kubectl(&["get", "servicecidr", "recorded", "-o", ready])?;
        ensure!(said == "True", "ready: {said:?}");
        Ok(())
    })?;
    let namespaces: BTreeSet<&String> = clusters.iter().flat_map(|it| &it.namespaces).collect();
    for namespace in namespaces {
        if namespace != SYSTEM {
            lab.kubectl(&["create", "namespace", namespace])?;
        }
        lab.wait(&format!("the account of {namespace}"), SOON, || {
            lab.kubectl(&["-n", namespace, "get", "serviceaccount", "default"])
        })?;
    }
    lab.kill(Component::ControllerManager)?;
    lab.kill(Component::Scheduler)
}

fn compare(lab: &Lab, cluster: &Recorded, plane: &Plane) -> Result<()> {
    let listed: BTreeSet<_> =
        vectors::listed().into_iter().filter(|it| it.vector == cluster.vector).collect();
    lab.wait(&format!("{} to be told as it was recorded", cluster.vector), SOON, || {
        let ours: Vec<Value> = plane.dump()?.into_iter().filter(|it| cluster.holds(it)).collect();
        let found = vectors::differences(cluster.vector, &ours);
        let unlisted: Vec<_> = found.difference(&listed).collect();
        let stale: Vec<_> = listed.difference(&found).collect();
        ensure!(
            unlisted.is_empty() && stale.is_empty(),
            "not listed: {unlisted:#?}\nlisted, but not there: {stale:#?}"
        );
        Ok(())
    })?;
    println!(
        "{}: {} resources are as recorded, but for {} differences that are listed",
        cluster.vector,
        vectors::recorded(cluster.vector).len(),
        listed.len()
    );
    Ok(())
}

/// What became of policies is written onto them, for the generation that they have.
fn conditions(lab: &Lab, cluster: &Recorded) -> Result<()> {
    let accepted = |policy: &Value| -> Option<(Value, Value)> {
        let all = policy["status"]["conditions"].as_array()?;
        let said = all.iter().find(|it| it["type"] == "ZtunnelAccepted")?;
        Some((said["status"].clone(), said["reason"].clone()))
    };
    lab.wait("conditions of policies", SOON, || {
        let all = lab.kubectl(&["get", "authorizationpolicies", "-A", "-o", "json"])?;
        let all: Value = serde_json::from_str(&all)?;
        let mut differing = BTreeSet::new();
        for theirs in cluster.of("AuthorizationPolicy") {
            let same = |it: &&Value| {
                ["name", "namespace"].iter().all(|key| it["metadata"][key] == theirs["metadata"][key])
            };
            let ours = all["items"].as_array().into_iter().flatten().find(same);
            if ours.and_then(accepted) != accepted(theirs) {
                differing.insert(theirs["metadata"]["name"].as_str().unwrap_or_default());
            }
            let said = ours.and_then(|it| it["status"]["conditions"].as_array()).into_iter().flatten();
            for condition in said {
                let of = &condition["observedGeneration"];
                let of = of.as_i64().or_else(|| of.as_str()?.parse().ok());
                ensure!(of == Some(1), "said of another generation: {condition}");
            }
        }
        ensure!(differing == BTreeSet::from(TOLD_OTHERWISE), "told otherwise: {differing:?}");
        Ok(())
    })
}

/// A mistyped condition that no webhook has refused: its author reads so on the policy.
fn unreadable(lab: &Lab) -> Result<()> {
    let mistyped = definitions::MISTYPED;
    lab.kubectl_with(&["apply", "--validate=ignore", "-f", "-"], mistyped)?;
    let condition = "jsonpath={.status.conditions[?(@.type=='istio.io/Accepted')].message}";
    lab.wait("the policy to say that it does not read", SOON, || {
        let said = lab.kubectl(&["get", "authorizationpolicy", "mistyped", "-o", condition])?;
        ensure!(said.contains("form") && said.contains("nothing of it is in force"), "it says {said:?}");
        Ok(())
    })?;
    lab.delete(mistyped)
}
