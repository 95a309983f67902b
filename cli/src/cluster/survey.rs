//! All objects of a cluster that the mesh reads, once. Owns the waiting; what is wrong with them is `analyze`'s.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ambit_cluster::api::{Wanted, watch};
use ambit_cluster::files::{Event, Keep};
use ambit_cluster::{Fault, Kind, Object, ObjectRef};

use super::parts::NODE_DAEMONS;
use super::{Which, block_on};
use crate::analyze::Surroundings;

/// A large cluster is listed within this.
pub(crate) const LISTED: Duration = Duration::from_secs(60);

/// The kinds that checks look at.
const KINDS: [Kind; 10] = [
    Kind::Namespace,
    Kind::ServiceAccount,
    Kind::Pod,
    Kind::Service,
    Kind::Gateway,
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::ConfigMap,
];

/// What a cluster holds.
pub(crate) struct Survey {
    pub(crate) objects: Vec<Object>,
    /// Objects that do not read.
    pub(crate) faults: Vec<Fault>,
    pub(crate) around: Surroundings,
    /// The namespace of the kubeconfig's context.
    pub(crate) namespace: String,
}

/// Reads all of it, within a limit.
pub(crate) fn survey(which: &Which, limit: Duration) -> Result<Survey, Box<dyn Error>> {
    block_on(async {
        let client = which.client().await?;
        let system = which.istio_namespace.clone();
        let path = format!("/apis/apps/v1/namespaces/{system}/daemonsets");
        let daemons = client.list(&path, &[("labelSelector", NODE_DAEMONS)]).await?;
        let wanted: Vec<Wanted> = KINDS
            .into_iter()
            .map(|kind| match kind {
                // Of all texts only the mesh's configuration.
                Kind::ConfigMap => Wanted::named(kind, &system, "istio"),
                _ => Wanted::from(kind),
            })
            .collect();
        let mut watch = watch(&client, &wanted, Keep::Slim);
        let mut objects: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        let listed = tokio::time::timeout(limit, async {
            loop {
                match watch.next().await {
                    Event::Applied(object) => drop(objects.insert(object.reference.clone(), object)),
                    Event::Gone(reference) => drop(objects.remove(&reference)),
                    Event::Fault(_) => {}
                    Event::Complete => break,
                }
            }
        });
        let is_whole = Box::pin(listed).await.is_ok();
        let faults = watch.faults();
        if !is_whole {
            let said = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(format!("the cluster was not read within {limit:?}: {said}").into());
        }
        let namespace = client.namespace().to_owned();
        let around = Surroundings { whole: true, system, daemon_set: daemons.into_iter().next() };
        Ok(Survey { objects: objects.into_values().collect(), faults, around, namespace })
    })
}
