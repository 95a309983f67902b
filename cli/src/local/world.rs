//! The cluster's objects as this machine's kubelet and scheduler see them, and what they make of them:
//! which pods are to run, which services need an address, what names mean. Pure but for the map it keeps.

use std::collections::BTreeMap;

use ambit_cluster::files::Event;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::gateway::Gateway;
use ambit_cluster::kinds::route::ParentStatus;
use ambit_cluster::kinds::service::{EndpointSlice, Service, ServiceType};
use ambit_cluster::object::{Body, Kind, Object, ObjectRef};

use super::container::{self, PodPlan, Unfit};
use super::names::NamedService;
use super::services::is_behind;

/// All objects, and whether the first reading is over.
#[derive(Debug, Default)]
pub(crate) struct World {
    objects: BTreeMap<ObjectRef, Object>,
    pub(crate) complete: bool,
}

impl World {
    /// Takes in what the watch says; a fault changes nothing.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Applied(object) => {
                self.objects.insert(object.reference.clone(), object);
            }
            Event::Gone(reference) => {
                self.objects.remove(&reference);
            }
            Event::Complete => self.complete = true,
            Event::Fault(_) => {}
        }
    }

    /// The pods that are there, by name.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&ObjectRef, &Pod)> {
        self.objects.values().filter_map(|object| match &object.body {
            Body::Pod(pod) => Some((&object.reference, pod.as_ref())),
            _ => None,
        })
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = (&ObjectRef, &Gateway)> {
        self.objects.values().filter_map(|object| match &object.body {
            Body::Gateway(gateway) => Some((&object.reference, gateway.as_ref())),
            _ => None,
        })
    }

    /// What sees to the gateways of a class that somebody made.
    pub(crate) fn controller(&self, class: &str) -> Option<&str> {
        let object = self.objects.get(&ObjectRef::new(Kind::GatewayClass, "", class))?;
        match &object.body {
            Body::GatewayClass(class) => Some(class.spec.controller_name.as_str()),
            _ => None,
        }
    }

    /// Routes, and what is said of them and what they are attached to.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&ObjectRef, &[ParentStatus])> {
        self.objects.values().filter_map(|object| match &object.body {
            Body::HttpRoute(route) => Some((&object.reference, route.status.parents.as_slice())),
            Body::GrpcRoute(route) => Some((&object.reference, route.status.parents.as_slice())),
            Body::TlsRoute(route) | Body::TcpRoute(route) => {
                Some((&object.reference, route.status.parents.as_slice()))
            }
            _ => None,
        })
    }

    pub(crate) fn service(&self, reference: &ObjectRef) -> Option<&Service> {
        self.objects.get(reference).and_then(|object| match &object.body {
            Body::Service(service) => Some(service.as_ref()),
            _ => None,
        })
    }

    pub(crate) fn pod(&self, reference: &ObjectRef) -> Option<&Pod> {
        self.objects.get(reference).and_then(|object| match &object.body {
            Body::Pod(pod) => Some(pod.as_ref()),
            _ => None,
        })
    }

    /// The names of the nodes that have a manifest.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().filter(|key| key.kind == Kind::Node).map(|key| key.name.as_ref())
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = (&ObjectRef, &Service)> {
        self.objects.values().filter_map(|object| match &object.body {
            Body::Service(service) => Some((&object.reference, service.as_ref())),
            _ => None,
        })
    }

    /// Services that are to have addresses and have none yet.
    pub(crate) fn without_address(&self) -> Vec<ObjectRef> {
        self.services()
            .filter(|(_, service)| {
                let spec = &service.spec;
                spec.kind != ServiceType::ExternalName
                    && spec.cluster_ip.is_none()
                    && spec.cluster_ips.is_empty()
            })
            .map(|(reference, _)| reference.clone())
            .collect()
    }

    /// What a pod is to run.
    pub(crate) fn plan(&self, reference: &ObjectRef) -> Result<PodPlan, Unfit> {
        let raw = self.objects.get(reference).and_then(|object| object.raw.as_deref());
        container::plan(raw.unwrap_or(&serde_json::Value::Null))
    }

    /// Endpoint slices.
    pub(crate) fn slices(&self) -> impl Iterator<Item = (&ObjectRef, &EndpointSlice)> {
        self.objects.values().filter_map(|object| match &object.body {
            Body::EndpointSlice(slice) => Some((&object.reference, slice.as_ref())),
            _ => None,
        })
    }

    /// Whether a service sends a client to the same endpoint each time.
    pub(crate) fn has_affinity(&self, service: &ObjectRef) -> bool {
        let raw = self.objects.get(service).and_then(|object| object.raw.as_deref());
        raw.and_then(|raw| raw.pointer("/spec/sessionAffinity")).is_some_and(|value| value == "ClientIP")
    }

    /// The pods that a service sends traffic to.
    pub(crate) fn behind<'a>(
        &'a self,
        reference: &'a ObjectRef,
        service: &'a Service,
    ) -> impl Iterator<Item = &'a Pod> {
        let serves = |pod: &Pod| {
            pod.metadata.deletion_timestamp.is_none()
                && (pod.is_ready() || (service.spec.publish_not_ready_addresses && !pod.is_over()))
        };
        self.pods()
            .filter(move |(at, pod)| {
                at.namespace == reference.namespace && is_behind(service, pod) && serves(pod)
            })
            .map(|(_, pod)| pod)
    }

    /// What service names stand for now: the service's own addresses or, of a headless one, its pods'.
    pub(crate) fn names(&self) -> Vec<NamedService> {
        self.services()
            .map(|(reference, service)| {
                let vips = service.spec.vips();
                let pods = || self.behind(reference, service).flat_map(Pod::ips).collect();
                NamedService {
                    namespace: reference.namespace.to_string(),
                    name: reference.name.to_string(),
                    addresses: if vips.is_empty() { pods() } else { vips },
                }
            })
            .collect()
    }
}

/// Whether the node agent has said that the pod's traffic is redirected.
pub(crate) fn in_mesh(pod: &Pod) -> bool {
    pod.metadata.annotation("ambient.istio.io/redirection") == Some("enabled")
}

#[cfg(test)]
pub(crate) mod tests {
    use ambit_cluster::files::{Keep, load_once};

    use super::*;

    /// What these manifests say, all of which are good.
    pub(crate) fn world(manifests: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("all.yaml"), manifests).unwrap();
        let mut world = World::default();
        let loaded = load_once(dir.path(), None, Keep::Whole).unwrap();
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        loaded.objects.into_iter().for_each(|object| world.take(Event::Applied(object)));
        world
    }

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { selector: { app: cart }, ports: [{ port: 80 }] }
---
";

    fn pod(name: &str, ready: bool, ip: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, labels: {{ app: cart }} }}\n\
             spec: {{ containers: [{{ name: app, command: [serve], args: ['80'], env: [{{ name: A, value: b }}] }}] }}\n\
             status: {{ podIP: {ip}, conditions: [{{ type: Ready, status: '{}' }}] }}\n---\n",
            if ready { "True" } else { "False" }
        )
    }

    #[test]
    fn a_name_stands_for_the_service_or_without_an_address_for_its_ready_pods() {
        let pods = pod("a", false, "10.0.0.1") + &pod("b", true, "10.0.0.2") + &pod("c", true, "10.0.0.3");
        let of = |service: &str| {
            let names = world(&format!("{service}{pods}")).names();
            names[0].addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(SERVICE), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(of(&SERVICE.replace("spec: {", "spec: { clusterIP: 10.96.0.7,")), ["10.96.0.7"]);
    }

    #[test]
    fn a_service_gets_an_address_if_it_has_none_and_wants_one() {
        for (spec, wants) in [
            ("{ ports: [{ port: 80 }] }", true),
            ("{ clusterIP: None, ports: [{ port: 80 }] }", false),
            ("{ clusterIP: 10.96.0.9, ports: [{ port: 80 }] }", false),
            ("{ type: ExternalName }", false),
        ] {
            let service = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{ name: a, namespace: b }}\nspec: {spec}\n"
            );
            assert_eq!(world(&service).without_address().len(), usize::from(wants), "{spec}");
        }
    }
}
