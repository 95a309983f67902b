//! Waypoints that are for a service account, and whose endpoints' accounts therefore matter. Owns reading the annotation
//! that says so, and finding the services to look at again when an endpoint comes, goes, or runs as somebody else. What
//! follows for traffic is `translate::waypoint`'s.

use std::sync::Arc;

use ambit_cluster::kinds::gateway::Gateway;
use ambit_cluster::kinds::meta::{Texts, selects};
use ambit_cluster::kinds::service::Service;
use ambit_cluster::kinds::waypoint::FOR_ACCOUNT;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::{Space, World};

/// The account whose traffic a gateway is for.
#[must_use]
pub fn served(gateway: &Gateway) -> Option<&str> {
    gateway.metadata.annotation(FOR_ACCOUNT).filter(|it| !it.is_empty())
}

/// The gateways of a namespace that are for accounts.
pub fn for_accounts(space: &Space) -> impl Iterator<Item = (&Arc<Gateway>, &str)> {
    space.gateways.values().filter_map(|it| Some((it, served(it)?)))
}

/// The accounts that a service's endpoints run as, one after the other; none for what is not known to be anybody.
pub fn behind<'a>(space: &'a Space, service: &'a Service) -> Vec<Option<&'a str>> {
    let selector = &service.spec.selector;
    if selector.is_empty() {
        return named(space, service);
    }
    let pods = space.pods.values().filter(|it| !it.is_over() && selects(selector, &it.metadata.labels));
    let entries = space.workloads.values().filter(|it| selects(selector, &it.labels()));
    let pods = pods.map(|it| Some(it.service_account()));
    pods.chain(entries.map(|it| Some(it.spec.service_account.as_str()))).collect()
}

/// The endpoints that slices of a service without a selector name.
fn named<'a>(space: &'a Space, service: &'a Service) -> Vec<Option<&'a str>> {
    let name = service.metadata.name.as_str();
    let slices = space.slices.values().filter(|it| it.service() == Some(name));
    let pod = |name: &str| space.pods.get(name).map(|it| it.service_account());
    let account = |target: Option<&str>| target.and_then(pod);
    slices
        .flat_map(|it| &it.endpoints)
        .map(|it| account(it.target_ref.as_ref().filter(|to| to.kind == "Pod").map(|to| &*to.name)))
        .collect()
}

impl World {
    /// The services that an object is, or names, an endpoint of, where it matters as whom endpoints run.
    #[must_use]
    pub fn fronts(&self, at: &ObjectRef) -> Vec<ObjectRef> {
        let Some(space) = self.space(&at.namespace) else { return Vec::new() };
        if for_accounts(space).next().is_none() {
            return Vec::new();
        }
        let labels: Option<Texts> = match at.kind {
            Kind::Pod => space.pods.get(&at.name).map(|it| it.metadata.labels.clone()),
            Kind::WorkloadEntry => space.workloads.get(&at.name).map(|it| it.labels()),
            Kind::EndpointSlice => None,
            _ => return Vec::new(),
        };
        let slice = (at.kind == Kind::EndpointSlice).then(|| space.slices.get(&at.name)).flatten();
        let of_slice = slice.and_then(|it| it.service());
        let is_front = |name: &str, service: &Service| {
            let by_label = || labels.as_ref().is_some_and(|it| selects(&service.spec.selector, it));
            // Which of those without a selector name a pod is told by their slices; there are few of them.
            of_slice.map_or_else(by_label, |it| it == name)
        };
        let fronts = space.services.iter().filter(|(name, service)| is_front(name, service));
        fronts.map(|(name, _)| ObjectRef::new(Kind::Service, &at.namespace, name)).collect()
    }
}
