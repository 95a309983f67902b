//! The cluster's objects as this machine's kubelet and scheduler see them, and what they make of them:
//! which pods are to run, which services need an address, what names mean. Pure but for the map it keeps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_cluster::files::Event;
use ambit_cluster::kinds::core::Pod;
use ambit_cluster::kinds::meta::selects;
use ambit_cluster::kinds::service::{Service, ServiceType};
use ambit_cluster::object::{Body, Kind, Object, ObjectRef};
use serde::Deserialize;

use super::names::NamedService;

/// All objects, and whether the first reading is over.
#[derive(Debug, Default)]
pub(crate) struct World {
    objects: BTreeMap<ObjectRef, Object>,
    pub(crate) complete: bool,
}

/// A container as a process: what the typed pod does not carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<EnvVar>,
}

/// A variable with a plain value; others have none here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodDocument {
    spec: PodDocumentSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodDocumentSpec {
    containers: Vec<ContainerSpec>,
    restart_policy: String,
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

    /// A pod's containers as processes, and what to do when they end.
    pub(crate) fn containers(&self, reference: &ObjectRef) -> (Vec<ContainerSpec>, String) {
        let raw = self.objects.get(reference).and_then(|object| object.raw.as_deref());
        let read = raw.and_then(|raw| PodDocument::deserialize(raw).ok()).unwrap_or_default();
        (read.spec.containers, read.spec.restart_policy)
    }

    /// What service names stand for now.
    pub(crate) fn names(&self) -> Vec<NamedService> {
        self.services()
            .map(|(reference, service)| NamedService {
                namespace: reference.namespace.to_string(),
                name: reference.name.to_string(),
                vips: service.spec.vips(),
                endpoint: self.first_ready(reference, service),
            })
            .collect()
    }

    fn first_ready(&self, reference: &ObjectRef, service: &Service) -> Vec<IpAddr> {
        let selector = &service.spec.selector;
        let mut behind = self.pods().filter(|(pod, body)| {
            pod.namespace == reference.namespace
                && !selector.is_empty()
                && selects(selector, &body.metadata.labels)
                && body.is_ready()
        });
        behind.next().map(|(_, pod)| pod.ips()).unwrap_or_default()
    }
}

/// Whether the node agent has said that the pod's traffic is redirected.
pub(crate) fn in_mesh(pod: &Pod) -> bool {
    pod.metadata.annotation("ambient.istio.io/redirection") == Some("enabled")
}
