//! What is made for a waypoint (`control-plane.md` 7.2, 7.3): an account, a deployment, a service. Pure. Owns the objects;
//! when they are written, and that nobody else's are touched, is `deploy`'s.

use std::collections::BTreeMap;

use ambit_cluster::kinds::gateway::{Gateway, Listener};
use ambit_cluster::kinds::waypoint::{CLASS, MANAGED, PART_OF, PassedOn};
use serde_json::{Value, json};

use crate::deploy::overlay::Part;
use crate::translate::waypoint::Asked;

/// The label of a network.
const NETWORK: &str = "topology.istio.io/network";
/// The label of which mesh a pod is a part of.
const MODE: &str = "istio.io/dataplane-mode";

/// What all waypoints have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// What they run.
    pub image: String,
    /// What their pods are beside: a pod's own words, with those of its container.
    pub pod: Value,
    /// Where discovery and certificates come from.
    pub control_plane: String,
    /// The domain of service names.
    pub domain: String,
    /// The trust domain.
    pub trust_domain: String,
    /// The cluster.
    pub cluster: String,
    /// Which of several control planes this is.
    pub revision: String,
}

/// An object to be made, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its path in the API.
    pub path: String,
    /// The object.
    pub object: Value,
}

type Words = BTreeMap<String, String>;

/// What is made for a gateway, in this order; nothing, if somebody else sees to its pods.
#[must_use]
pub fn plan(template: &Template, asked: &Asked) -> Vec<Planned> {
    if !asked.gateway.is_deployed() {
        return Vec::new();
    }
    let parts = Parts::new(template, asked);
    let mut all = vec![
        (Part::ServiceAccount, parts.account()),
        (Part::Service, parts.service()),
        (Part::Deployment, parts.deployment()),
    ];
    let spoken_of = ON_DEMAND.into_iter().filter(|(part, _)| is_spoken_of(asked, *part));
    all.extend(spoken_of.map(|(part, make)| (part, make(&parts))));
    let laid = |(part, mut planned): (Part, Planned)| {
        asked.overlays.iter().for_each(|it| it.lay_over(part, &mut planned.object));
        planned
    };
    all.into_iter().map(laid).collect()
}

/// Where there may be something that was made for a gateway once, and that nobody asks for any more.
#[must_use]
pub fn surplus(template: &Template, asked: &Asked) -> Vec<String> {
    if !asked.gateway.is_deployed() {
        return Vec::new();
    }
    let parts = Parts::new(template, asked);
    let unspoken = ON_DEMAND.into_iter().filter(|(part, _)| !is_spoken_of(asked, *part));
    unspoken.map(|(_, make)| make(&parts).path).collect()
}

type Make = fn(&Parts<'_>) -> Planned;

/// What is made only where somebody says something of it.
const ON_DEMAND: [(Part, Make); 2] = [
    (Part::HorizontalPodAutoscaler, |parts| parts.autoscaler()),
    (Part::PodDisruptionBudget, |parts| parts.budget()),
];

fn is_spoken_of(asked: &Asked, part: Part) -> bool {
    asked.overlays.iter().any(|it| it.says(part))
}

struct Parts<'a> {
    template: &'a Template,
    gateway: &'a Gateway,
    name: &'a str,
    account: &'a str,
    network: &'a str,
    tells_client: bool,
    labels: Words,
    annotations: Words,
}

impl<'a> Parts<'a> {
    fn new(template: &'a Template, asked: &'a Asked) -> Self {
        let gateway = asked.gateway.as_ref();
        let meta = &gateway.metadata;
        let PassedOn { mut labels, annotations } = gateway.passed_on();
        labels.insert(PART_OF.into(), meta.name.clone());
        labels.insert(CLASS.into(), gateway.spec.gateway_class_name.clone());
        labels.insert(MANAGED.into(), asked.class.manager());
        let network = meta.label(NETWORK).unwrap_or(&asked.network);
        if !network.is_empty() {
            labels.insert(NETWORK.into(), network.into());
        }
        let (name, account) = (gateway.name_of_parts(), gateway.account_of_parts());
        let tells_client = asked.tells_client;
        Self { template, gateway, name, account, network, tells_client, labels, annotations }
    }

    fn metadata(&self, name: &str, more: &[(&str, &str)]) -> Value {
        let meta = &self.gateway.metadata;
        let mut annotations = self.annotations.clone();
        annotations.extend(more.iter().map(|(key, it)| ((*key).to_owned(), (*it).to_owned())));
        let owner = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                           "name": meta.name, "uid": meta.uid});
        json!({"name": name, "namespace": meta.namespace, "labels": self.labels, "annotations": annotations,
               "ownerReferences": [owner]})
    }

    fn at(&self, root: &str, (plural, name): (&str, &str), object: Value) -> Planned {
        Planned {
            path: format!("{root}/namespaces/{}/{plural}/{name}", self.gateway.metadata.namespace),
            object,
        }
    }

    fn account(&self) -> Planned {
        let metadata = self.metadata(self.account, &[]);
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        self.at("/api/v1", ("serviceaccounts", self.account), object)
    }

    fn service(&self) -> Planned {
        let metadata =
            self.metadata(self.name, &[("networking.istio.io/traffic-distribution", "PreferClose")]);
        let kind =
            self.gateway.metadata.annotation("networking.istio.io/service-type").unwrap_or("ClusterIP");
        let mut ports = vec![port("status-port", 15021, "tcp")];
        for it in &self.gateway.spec.listeners {
            if !ports.iter().any(|known| known["port"] == it.port.0) {
                ports.push(port(&port_name(it), it.port.0, &it.protocol.to_ascii_lowercase()));
            }
        }
        let spec = json!({"type": kind, "ipFamilyPolicy": "PreferDualStack", "ports": ports,
                          "selector": {PART_OF: self.gateway.metadata.name}});
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        self.at("/api/v1", ("services", self.name), object)
    }

    /// As many as there are now, until somebody says how many there may be.
    fn autoscaler(&self) -> Planned {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name});
        let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                            "metadata": self.metadata(self.name, &[]),
                            "spec": {"scaleTargetRef": target, "maxReplicas": 1}});
        self.at("/apis/autoscaling/v2", ("horizontalpodautoscalers", self.name), object)
    }

    fn budget(&self) -> Planned {
        let selector = json!({"matchLabels": {PART_OF: self.gateway.metadata.name}});
        let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                            "metadata": self.metadata(self.name, &[]), "spec": {"selector": selector}});
        self.at("/apis/policy/v1", ("poddisruptionbudgets", self.name), object)
    }

    fn deployment(&self) -> Planned {
        let selector = json!({"matchLabels": {PART_OF: self.gateway.metadata.name}});
        let mut labels = self.labels.clone();
        labels.insert("sidecar.istio.io/inject".into(), "false".into());
        // What comes out of it is not caught again.
        labels.entry(MODE.into()).or_insert_with(|| "none".into());
        labels.insert("service.istio.io/canonical-name".into(), self.name.into());
        labels.insert("service.istio.io/canonical-revision".into(), "latest".into());
        let mut annotations = self.annotations.clone();
        let revision = self.template.revision.as_str();
        annotations
            .insert("istio.io/rev".into(), if revision.is_empty() { "default" } else { revision }.into());
        annotations.insert("prometheus.io/scrape".into(), "true".into());
        annotations.insert("prometheus.io/port".into(), "15020".into());
        let template =
            json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": self.pod()});
        // A replica goes only when another one is ready in its place.
        let strategy = json!({"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}});
        let spec = json!({"selector": selector, "strategy": strategy, "template": template});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                            "metadata": self.metadata(self.name, &[]), "spec": spec});
        self.at("/apis/apps/v1", ("deployments", self.name), object)
    }

    fn pod(&self) -> Value {
        let token = json!({"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}});
        let mut pod = json!({
            "serviceAccountName": self.account,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 60,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [self.container()],
            "volumes": [
                {"name": "root-cert", "configMap": {"name": "istio-ca-root-cert", "optional": true}},
                {"name": "istio-token", "projected": {"sources": [token]}},
            ],
        });
        let beside = self.template.pod.as_object().into_iter().flatten();
        for (key, value) in beside.filter(|(key, _)| POD.contains(&key.as_str())) {
            if let Some(members) = pod.as_object_mut() {
                members.insert(key.clone(), value.clone());
            }
        }
        pod
    }

    fn container(&self) -> Value {
        let said = |key: &str| self.template.pod.get(key).cloned();
        let usual = || json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        let ready = json!({"path": "/healthz/ready", "port": 15021});
        json!({
            "name": "istio-proxy",
            "image": self.template.image,
            "imagePullPolicy": said("imagePullPolicy").unwrap_or_else(|| "IfNotPresent".into()),
            // Said although it is nothing: upstream's would stay where its deployment is taken over.
            "args": [],
            "env": self.environment(),
            "ports": [
                {"name": "mesh", "containerPort": 15008, "protocol": "TCP"},
                {"name": "metrics", "containerPort": 15020, "protocol": "TCP"},
                {"name": "status-port", "containerPort": 15021, "protocol": "TCP"},
            ],
            "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": 120},
            "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "failureThreshold": 2},
            "resources": said("resources").unwrap_or_else(usual),
            "securityContext": {
                "runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": true, "privileged": false,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "root-cert", "mountPath": "/var/run/secrets/istio", "readOnly": true},
                {"name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
            ],
        })
    }

    fn environment(&self) -> Vec<Value> {
        let Template { control_plane, domain, trust_domain, cluster, .. } = self.template;
        let roots = "/var/run/secrets/istio/root-cert.pem";
        let texts = [
            ("GATEWAY_NAME", self.gateway.metadata.name.as_str()),
            ("GATEWAY_SERVICE", self.name),
            ("SERVICE_ACCOUNT", self.account),
            ("XDS_ADDRESS", control_plane),
            ("CA_ADDRESS", control_plane),
            ("XDS_ROOT_CA", roots),
            ("CA_ROOT_CA", roots),
            ("AUTH_TOKEN", "/var/run/secrets/tokens/istio-token"),
            ("CLUSTER_DOMAIN", domain),
            ("TRUST_DOMAIN", trust_domain),
            ("ISTIO_META_CLUSTER_ID", cluster),
            ("NETWORK", self.network),
            ("TERMINATION_GRACE_PERIOD_SECONDS", "60"),
        ];
        let fields = [
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("INSTANCE_IP", "status.podIP"),
            ("NODE_NAME", "spec.nodeName"),
        ];
        let tells = self.tells_client.then_some(("XFCC_INCLUDE_CLIENT_IDENTITY", "true"));
        let texts = texts.into_iter().chain(tells).map(|(name, value)| json!({"name": name, "value": value}));
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        texts
            .chain(fields.into_iter().map(|(name, path)| json!({"name": name, "valueFrom": field(path)})))
            .collect()
    }
}

/// What of a pod may be said for all waypoints.
const POD: [&str; 6] = [
    "affinity",
    "topologySpreadConstraints",
    "nodeSelector",
    "tolerations",
    "imagePullSecrets",
    "priorityClassName",
];

fn port(name: &str, number: u16, protocol: &str) -> Value {
    json!({"name": name, "port": number, "protocol": "TCP", "targetPort": number, "appProtocol": protocol})
}

/// A listener's name as a port may have it.
fn port_name(it: &Listener) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = it.name.chars().map(letter).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { format!("port-{}", it.port.0) } else { name.into() }
}

#[cfg(test)]
mod tests;
