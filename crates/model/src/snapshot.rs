//! The known world: immutable, indexed, numbered. A reader holds one and it never changes under it.
//! Owns the nouns and what they are found by. Decides nothing (`route`, `judge`, `balance`).
//!
//! What a snapshot answers depends on what it holds, never on the order in which it came: two nodes that
//! were told the same agree. Where upstream lets the last one win, the smaller key does here.

mod demands;
mod ranges;
mod routes;
mod said;
mod shelf;

use std::fmt;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::address::NetworkAddress;
use crate::authentication::Authentication;
use crate::credential::Credential;
use crate::delta::{Change, Delta};
use crate::ext_proc::ExtProc;
use crate::http_route::{Route, RouteKey, RuleName, Tables};
use crate::name::{Hostname, Label, Namespace, NodeName, PolicyKey, ServiceAccount, ServiceKey, WorkloadUid};
use crate::policy::{Policy, PolicyScope};
use crate::provider::Provider;
use crate::rate_limit::RateLimit;
use crate::request_policy::{RequestPolicy, Target};
use crate::service::Service;
use crate::telemetry::{Levels, Telemetry};
use crate::traffic::Traffic;
use crate::workload::{Health, Tunnel, Workload};
use demands::Demands;
use ranges::Ranges;
use routes::Routes;
use said::Said;
use shelf::{Family, Shelf};

/// The known world at one moment. Clones share everything.
///
/// Two snapshots are equal when they hold the same nouns; the generation does not count.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    generation: Generation,
    workloads: HashTrieMapSync<WorkloadUid, Arc<Workload>>,
    by_address: Shelf<NetworkAddress, Workload>,
    by_name: Shelf<(Namespace, Label), Workload>,
    by_workload_host: Shelf<(Namespace, Label), Workload>,
    by_node: Family<NodeName, WorkloadUid, Workload>,
    /// Kept for services that are not known (yet), and for workloads that are not healthy: a service that
    /// arrives late, or starts to accept unhealthy endpoints, finds them all.
    endpoints: Family<ServiceKey, WorkloadUid, Workload>,
    services: HashTrieMapSync<ServiceKey, Arc<Service>>,
    by_host: Shelf<Hostname, Service>,
    by_vip: Shelf<NetworkAddress, Service>,
    by_range: Ranges,
    policies: HashTrieMapSync<PolicyKey, Arc<Policy>>,
    by_namespace: Family<Namespace, PolicyKey, Policy>,
    global: RedBlackTreeMapSync<PolicyKey, Arc<Policy>>,
    routes: Routes,
    demands: Demands<RequestPolicy>,
    authentications: Demands<Authentication>,
    limits: Demands<RateLimit>,
    processors: Demands<ExtProc>,
    traffic: HashTrieMapSync<ServiceKey, Arc<Traffic>>,
    credentials: HashTrieMapSync<Label, Arc<Credential>>,
    providers: HashTrieMapSync<Label, Arc<Provider>>,
    said: Said,
}

/// How many changes led to a snapshot. Says nothing about what is in it, so any two are equal.
#[derive(Clone, Copy, Default)]
struct Generation(u64);

impl PartialEq for Generation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Generation {}

impl Snapshot {
    /// The world after a change. What did not change is shared, so this costs what the change costs.
    #[must_use]
    pub fn with(&self, delta: &Delta) -> Self {
        let mut next = self.clone();
        next.generation.0 += 1;
        for change in &delta.changes {
            next.apply(change);
        }
        next.routes.settle();
        next
    }

    /// The number of changes that led here.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.0
    }

    /// The workload of a uid.
    #[must_use]
    pub fn workload(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that owns an address. Of several, a pod goes before others, then one that speaks HBONE,
    /// then a healthy one, then the smaller uid. A workload on its node's network is never found here.
    #[must_use]
    pub fn workload_by_address(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.by_address.best(address)
    }

    /// Workloads with a DNS name to be resolved, by namespace and that name.
    #[must_use]
    pub fn workload_by_host(&self, key: &ServiceKey) -> Option<&Arc<Workload>> {
        self.by_workload_host.best(&(key.namespace.clone(), Label::from(key.hostname.as_str())))
    }

    /// The workload a pod on `node` is. With an empty node name, on any node.
    #[must_use]
    pub fn local_workload(
        &self,
        node: &NodeName,
        namespace: &Namespace,
        account: &ServiceAccount,
        name: &str,
    ) -> Option<Arc<Workload>> {
        let here = |w: &&Arc<Workload>| node.is_empty() || w.node == *node;
        self.by_name
            .all(&(namespace.clone(), Label::from(name)))
            .iter()
            .filter(here)
            .find(|w| w.service_account == *account)
            .cloned()
    }

    /// The workloads of one node, by uid.
    pub fn workloads_on<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a Arc<Workload>> + use<'a> {
        self.by_node.members(node)
    }

    /// The service of a key.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The services of a host name, one a namespace, by key.
    #[must_use]
    pub fn services_by_host(&self, hostname: &Hostname) -> &[Arc<Service>] {
        self.by_host.all(hostname)
    }

    /// The same for a name that may be none of a host.
    #[must_use]
    pub fn services_named(&self, name: &str) -> &[Arc<Service>] {
        self.by_host.all(name)
    }

    /// The services with exactly this virtual address, by key.
    #[must_use]
    pub fn services_by_vip(&self, address: &NetworkAddress) -> &[Arc<Service>] {
        self.by_vip.all(address)
    }

    /// The services with a range that holds this address, longest range first, then by key.
    pub fn services_by_range<'a>(
        &'a self,
        address: &NetworkAddress,
    ) -> impl Iterator<Item = (u8, &'a Arc<Service>)> + use<'a> {
        self.by_range.holding(address)
    }

    /// The workloads that are endpoints of a service, whatever their health, by uid.
    pub fn endpoints<'a>(
        &'a self,
        service: &ServiceKey,
    ) -> impl Iterator<Item = &'a Arc<Workload>> + use<'a> {
        self.endpoints.members(service)
    }

    /// True when this workload is an endpoint of a service.
    #[must_use]
    pub fn is_endpoint(&self, service: &ServiceKey, workload: &WorkloadUid) -> bool {
        self.endpoints.member(service, workload).is_some()
    }

    /// The policy of a key.
    #[must_use]
    pub fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    /// The policies that apply to every workload, by key.
    pub fn global_policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.global.values()
    }

    /// The policies that apply to every workload of a namespace, by key.
    pub fn namespace_policies<'a>(
        &'a self,
        namespace: &Namespace,
    ) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        self.by_namespace.members(namespace)
    }

    /// The route of a key.
    #[must_use]
    pub fn route(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.routes.route(key)
    }

    /// The routes that are attached to a service, to whichever of its ports, by key.
    pub fn routes_of<'a>(&'a self, service: &ServiceKey) -> impl Iterator<Item = &'a Arc<Route>> + use<'a> {
        self.routes.of(service)
    }

    /// The tables in which requests to a service are looked up. None: no route is attached to it.
    #[must_use]
    pub fn tables_of(&self, service: &ServiceKey) -> Option<&Arc<Tables>> {
        self.routes.tables(service)
    }

    /// The policy of requests of a key.
    #[must_use]
    pub fn request_policy(&self, key: &PolicyKey) -> Option<&Arc<RequestPolicy>> {
        self.demands.get(key)
    }

    /// The policies of requests that are attached to any of these, each once.
    #[must_use]
    pub fn request_policies_of(&self, targets: &[Target]) -> Vec<&RequestPolicy> {
        self.demands.of(targets)
    }

    /// The authentications of requests that are attached to any of these, each once.
    #[must_use]
    pub fn authentications_of(&self, targets: &[Target]) -> Vec<&Authentication> {
        self.authentications.of(targets)
    }

    /// The authentication of requests of a key.
    #[must_use]
    pub fn authentication(&self, key: &PolicyKey) -> Option<&Arc<Authentication>> {
        self.authentications.get(key)
    }

    /// The policies of limits that are attached to any of these, or to the rule that a request is of, each once.
    #[must_use]
    pub fn rate_limits_of(&self, targets: &[Target], rule: Option<RuleName<'_>>) -> Vec<&Arc<RateLimit>> {
        self.limits.of_rule(targets, rule)
    }

    /// The processors that requests to any of these go by, or those of a rule, each once.
    #[must_use]
    pub fn ext_procs_of(&self, targets: &[Target], rule: Option<RuleName<'_>>) -> Vec<&Arc<ExtProc>> {
        self.processors.of_rule(targets, rule)
    }

    /// The provider of a name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.get(name)
    }

    /// How a service's traffic is handled; none: nothing was said of it.
    #[must_use]
    pub fn traffic_of(&self, service: &ServiceKey) -> Option<&Arc<Traffic>> {
        self.traffic.get(service)
    }

    /// What we prove ourselves by outside of the mesh, by its name.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(name)
    }

    /// All of that, in no order.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.credentials.values()
    }

    /// How traffic is handled, of all services of which something was said, in no order.
    pub fn traffic(&self) -> impl Iterator<Item = &Arc<Traffic>> {
        self.traffic.values()
    }

    /// What is said of what is told of requests to a service, through a waypoint of this name; none: nothing.
    #[must_use]
    pub fn telemetry_of(
        &self,
        (namespace, name): (&Namespace, &str),
        service: Option<&ServiceKey>,
    ) -> Option<Levels> {
        self.said.of((namespace, name), service)
    }

    /// All that is said of what is told of requests, in no order.
    pub fn telemetry(&self) -> impl Iterator<Item = &Arc<Telemetry>> {
        self.said.all()
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// All policies, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// All routes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.all()
    }

    /// All policies of requests, in no order.
    pub fn request_policies(&self) -> impl Iterator<Item = &Arc<RequestPolicy>> {
        self.demands.all()
    }

    /// All authentications of requests, in no order.
    pub fn authentications(&self) -> impl Iterator<Item = &Arc<Authentication>> {
        self.authentications.all()
    }

    /// All policies of limits, in no order.
    pub fn rate_limits(&self) -> impl Iterator<Item = &Arc<RateLimit>> {
        self.limits.all()
    }

    /// All policies that have requests go by processors, in no order.
    pub fn ext_procs(&self) -> impl Iterator<Item = &Arc<ExtProc>> {
        self.processors.all()
    }

    /// All providers, in no order.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// Services that workloads are endpoints of but that are not known, in no order.
    pub fn missing_services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.endpoints.keys().filter(|key| !self.services.contains_key(*key))
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Workload(workload) => {
                self.drop_workload(&workload.uid);
                self.put_workload(workload);
            }
            Change::Service(service) => {
                self.drop_service(&service.key());
                self.put_service(service);
            }
            Change::Policy(policy) => {
                self.drop_policy(&policy.key);
                self.put_policy(policy);
            }
            Change::Route(route) => self.routes.put(route),
            Change::RequestPolicy(policy) => self.demands.put(policy),
            Change::Authentication(one) => self.authentications.put(one),
            Change::RateLimit(one) => self.limits.put(one),
            Change::ExtProc(one) => self.processors.put(one),
            Change::Provider(one) => {
                self.providers.insert_mut(one.name.clone(), Arc::clone(one));
            }
            Change::Traffic(traffic) => {
                self.traffic.insert_mut(traffic.service.clone(), Arc::clone(traffic));
            }
            Change::TrafficGone(key) => {
                self.traffic.remove_mut(key);
            }
            Change::Credential(one) => {
                self.credentials.insert_mut(one.name.clone(), Arc::clone(one));
            }
            Change::CredentialGone(name) => {
                self.credentials.remove_mut(name);
            }
            Change::Telemetry(one) => self.said.put(one),
            Change::TelemetryGone(key) => self.said.take(key),
            Change::WorkloadGone(uid) => self.drop_workload(uid),
            Change::ServiceGone(key) => self.drop_service(key),
            Change::PolicyGone(key) => self.drop_policy(key),
            Change::RouteGone(key) => self.routes.take(key),
            Change::RequestPolicyGone(key) => self.demands.take(key),
            Change::AuthenticationGone(key) => self.authentications.take(key),
            Change::RateLimitGone(key) => self.limits.take(key),
            Change::ExtProcGone(key) => self.processors.take(key),
            Change::ProviderGone(name) => {
                self.providers.remove_mut(name);
            }
        }
    }

    fn put_workload(&mut self, workload: &Arc<Workload>) {
        self.workloads.insert_mut(workload.uid.clone(), Arc::clone(workload));
        self.by_name.put(name_of(workload), workload, |w| w.uid.clone());
        self.by_node.put(&workload.node, workload.uid.clone(), workload);
        for address in addresses_of(workload) {
            self.by_address.put(address, workload, rank);
        }
        if let Some(key) = host_of(workload) {
            self.by_workload_host.put(key, workload, |w| w.uid.clone());
        }
        for service in workload.services.keys() {
            self.endpoints.put(service, workload.uid.clone(), workload);
        }
    }

    fn drop_workload(&mut self, uid: &WorkloadUid) {
        let Some(old) = self.workloads.get(uid).cloned() else { return };
        self.workloads.remove_mut(uid);
        self.by_name.take(&name_of(&old), |w| w.uid == *uid);
        self.by_node.take(&old.node, uid);
        for address in addresses_of(&old) {
            self.by_address.take(&address, |w| w.uid == *uid);
        }
        if let Some(key) = host_of(&old) {
            self.by_workload_host.take(&key, |w| w.uid == *uid);
        }
        for service in old.services.keys() {
            self.endpoints.take(service, uid);
        }
    }

    fn put_service(&mut self, service: &Arc<Service>) {
        self.services.insert_mut(service.key(), Arc::clone(service));
        self.by_host.put(service.hostname.clone(), service, |s| s.key());
        for vip in vips_of(service) {
            self.by_vip.put(vip, service, |s| s.key());
        }
        for range in service.ranges.iter().filter(|r| !is_host(&r.range)) {
            self.by_range.put(range, service);
        }
    }

    fn drop_service(&mut self, key: &ServiceKey) {
        let Some(old) = self.services.get(key).cloned() else { return };
        self.services.remove_mut(key);
        self.by_host.take(&old.hostname, |s| s.key() == *key);
        for vip in vips_of(&old) {
            self.by_vip.take(&vip, |s| s.key() == *key);
        }
        for range in old.ranges.iter().filter(|r| !is_host(&r.range)) {
            self.by_range.take(range, key);
        }
    }

    fn put_policy(&mut self, policy: &Arc<Policy>) {
        self.policies.insert_mut(policy.key.clone(), Arc::clone(policy));
        match policy.scope {
            PolicyScope::Global => self.global.insert_mut(policy.key.clone(), Arc::clone(policy)),
            PolicyScope::Namespace => {
                self.by_namespace.put(&policy.key.namespace, policy.key.clone(), policy);
            }
            // Applies only where a workload lists it.
            PolicyScope::Selector => {}
        }
    }

    fn drop_policy(&mut self, key: &PolicyKey) {
        let Some(old) = self.policies.get(key).cloned() else { return };
        self.policies.remove_mut(key);
        match old.scope {
            PolicyScope::Global => {
                self.global.remove_mut(key);
            }
            PolicyScope::Namespace => self.by_namespace.take(&key.namespace, key),
            PolicyScope::Selector => {}
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation.0)
            .field("workloads", &self.workloads.size())
            .field("services", &self.services.size())
            .field("policies", &self.policies.size())
            .field("routes", &self.routes.len())
            .field("request_policies", &self.demands.len())
            .field("authentications", &self.authentications.len())
            .field("limits", &self.limits.len())
            .field("processors", &self.processors.len())
            .field("traffic", &self.traffic.size())
            .field("providers", &self.providers.size())
            .finish_non_exhaustive()
    }
}

fn name_of(workload: &Workload) -> (Namespace, Label) {
    (workload.namespace.clone(), workload.name.clone())
}

fn host_of(workload: &Workload) -> Option<(Namespace, Label)> {
    (!workload.hostname.is_empty()).then(|| (workload.namespace.clone(), workload.hostname.clone()))
}

fn addresses_of(workload: &Workload) -> impl Iterator<Item = NetworkAddress> {
    let found_by_address = if workload.host_network { &[][..] } else { &workload.addresses[..] };
    found_by_address.iter().map(|ip| NetworkAddress::new(workload.network.clone(), *ip))
}

/// Who owns an address that several claim; the smallest does. A terminating pod is unhealthy, so the pod
/// that was given its address next goes before it.
fn rank(workload: &Workload) -> (bool, bool, bool, WorkloadUid) {
    (
        !workload.uid.as_str().contains("//Pod/"),
        workload.tunnel != Tunnel::Hbone,
        workload.health != Health::Healthy,
        workload.uid.clone(),
    )
}

/// Virtual addresses, those written as a range of one included.
fn vips_of(service: &Service) -> impl Iterator<Item = NetworkAddress> {
    let hosts = service.ranges.iter().filter(|r| is_host(&r.range));
    service.vips.iter().cloned().chain(hosts.map(|r| NetworkAddress::new(r.network.clone(), r.range.addr())))
}

fn is_host(range: &ipnet::IpNet) -> bool {
    range.prefix_len() == range.max_prefix_len()
}

#[cfg(test)]
mod tests;
