//! Which gateways ask for a waypoint, and what is made for one: a service, and pods. Pure; when they come and go is the
//! parent module's. In a cluster this is istiod-lite's to say, of deployments; both make the same of a gateway.

use std::collections::BTreeMap;

use ambit_cluster::kinds::gateway::{Gateway, Listener};
use ambit_cluster::kinds::waypoint::{MANAGED, PART_OF, PassedOn, REPLICAS, TELLS_CLIENT, WaypointClass};
use ambit_cluster::object::{Kind, ObjectRef};
use serde_json::{Value, json};

use crate::local::layout::{Node, control_plane};
use crate::local::tokens::Subject;
use crate::local::world::World;

/// More pods than any trial on one machine needs.
const REPLICAS_MOST: u8 = 8;
/// How long a waypoint may go on with requests that it has begun.
const GRACE_SECONDS: u32 = 60;
/// How long it takes new ones from those who have not heard that it goes: here they hear within milliseconds.
const LAST_REQUESTS: &str = "2s";

/// The name under which the control plane is known, and its port.
pub(crate) const ISTIOD: (&str, u16) = ("istiod.istio-system.svc", 15012);

/// What is made for a gateway. Two that are equal make equal pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) account: String,
    pub(super) replicas: u8,
    tells_client: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    ports: Vec<(String, u16, String)>,
    gateway: String,
}

/// Where a pod is to be, and under which names.
pub(super) struct Berth<'a> {
    pub(super) pod: &'a ObjectRef,
    pub(super) subject: &'a Subject,
    /// Its token, and the mesh's roots.
    pub(super) token: String,
    pub(super) roots: String,
}

/// What is made for each gateway that asks for a waypoint.
pub(super) fn asked(world: &World) -> BTreeMap<ObjectRef, Shape> {
    let all = world.gateways().filter_map(|(at, gateway)| Some((at.clone(), shape(world, gateway)?)));
    all.collect()
}

/// Who sees to a gateway of waypoints, as labels write that; none, if it is of another class.
pub(super) fn controller(world: &World, gateway: &Gateway) -> Option<String> {
    let class = gateway.spec.gateway_class_name.as_str();
    let found = WaypointClass::of(class, world.controller(class)).filter(|it| it.is_ours)?;
    Some(found.manager())
}

fn shape(world: &World, gateway: &Gateway) -> Option<Shape> {
    let controller = controller(world, gateway)?;
    let meta = &gateway.metadata;
    // What parameters say nobody reads here.
    if !gateway.is_deployed() || gateway.spec.infrastructure.parameters_ref.is_some() {
        return None;
    }
    let PassedOn { mut labels, annotations } = gateway.passed_on();
    labels.insert(PART_OF.into(), meta.name.clone());
    labels.insert(MANAGED.into(), controller);
    let replicas = meta.annotation(REPLICAS).and_then(|it| it.parse().ok()).unwrap_or(1);
    Some(Shape {
        name: gateway.name_of_parts().to_owned(),
        account: gateway.account_of_parts().to_owned(),
        replicas: REPLICAS_MOST.min(replicas),
        tells_client: meta.annotation(TELLS_CLIENT) == Some("true"),
        labels,
        annotations,
        ports: ports(&gateway.spec.listeners),
        gateway: meta.name.clone(),
    })
}

fn ports(listeners: &[Listener]) -> Vec<(String, u16, String)> {
    let mut ports = vec![("status-port".to_owned(), 15021, "tcp".to_owned())];
    for it in listeners {
        if !ports.iter().any(|(_, port, _)| *port == it.port.0) {
            ports.push((it.name.clone(), it.port.0, it.protocol.to_ascii_lowercase()));
        }
    }
    ports
}

impl Shape {
    /// Whether pods of the one may stand for those of the other: how many there are makes no difference to each.
    pub(super) fn makes_same(&self, other: &Self) -> bool {
        let alike = Self { replicas: other.replicas, ports: other.ports.clone(), ..self.clone() };
        alike == *other
    }

    pub(super) fn service_of(&self, gateway: &ObjectRef) -> ObjectRef {
        ObjectRef::new(Kind::Service, &gateway.namespace, &self.name)
    }

    pub(super) fn service(&self, gateway: &ObjectRef) -> Value {
        let ports = self.ports.iter().map(|(name, port, protocol)| {
            json!({ "name": name, "port": port, "targetPort": port, "appProtocol": protocol })
        });
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": *gateway.namespace,
                "labels": self.labels, "annotations": self.annotations,
            },
            "spec": {
                "ipFamilyPolicy": "PreferDualStack",
                "ports": ports.collect::<Vec<_>>(),
                "selector": { PART_OF: self.gateway },
            },
        })
    }

    pub(super) fn pod(&self, berth: &Berth<'_>) -> Value {
        let Berth { pod, subject, .. } = berth;
        let mut labels = self.labels.clone();
        // What comes out of it is not caught again.
        labels.entry("istio.io/dataplane-mode".into()).or_insert_with(|| "none".into());
        labels.insert("service.istio.io/canonical-name".into(), self.name.clone());
        let aliases = control_plane().map(|net| json!({ "ip": net.addr(), "hostnames": [ISTIOD.0] }));
        // A waypoint of a busy machine is slow to say that it is well, and well all the same.
        let ready = json!({
            "httpGet": { "path": "/healthz/ready", "port": 15021 },
            "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 3,
        });
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": *pod.name, "namespace": *pod.namespace, "uid": subject.uid,
                "labels": labels, "annotations": self.annotations,
            },
            "spec": {
                "nodeName": subject.node,
                "serviceAccountName": self.account,
                "terminationGracePeriodSeconds": GRACE_SECONDS,
                "hostAliases": aliases,
                "containers": [{
                    "name": "istio-proxy",
                    "command": ["ambit-waypoint"],
                    "env": self.environment(berth),
                    "readinessProbe": ready,
                }],
            },
        })
    }

    fn environment(&self, berth: &Berth<'_>) -> Vec<Value> {
        let control_plane = format!("https://{}:{}", ISTIOD.0, ISTIOD.1);
        let grace = GRACE_SECONDS.to_string();
        let texts = [
            ("GATEWAY_NAME", self.gateway.as_str()),
            ("GATEWAY_SERVICE", &self.name),
            ("SERVICE_ACCOUNT", &self.account),
            ("POD_NAME", &berth.pod.name),
            ("POD_NAMESPACE", &berth.pod.namespace),
            ("NODE_NAME", &berth.subject.node),
            ("XDS_ADDRESS", &control_plane),
            ("CA_ADDRESS", &control_plane),
            ("XDS_ROOT_CA", &berth.roots),
            ("CA_ROOT_CA", &berth.roots),
            ("AUTH_TOKEN", &berth.token),
            ("TERMINATION_GRACE_PERIOD_SECONDS", &grace),
            ("DRAIN_GRACE", LAST_REQUESTS),
        ];
        let tells = self.tells_client.then_some(("XFCC_INCLUDE_CLIENT_IDENTITY", "true"));
        let texts = texts.into_iter().chain(tells);
        let mut all: Vec<_> = texts.map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let address = json!({ "fieldRef": { "fieldPath": "status.podIP" } });
        all.push(json!({ "name": "INSTANCE_IP", "valueFrom": address }));
        all
    }
}

/// The node for another pod of a gateway: the one with the fewest of them, then with the fewest pods.
pub(super) fn node_for<'a>(world: &World, nodes: &'a [Node], own: &[&str]) -> Option<&'a Node> {
    let load = |node: &Node| {
        let here = own.iter().filter(|it| **it == node.name).count();
        let pods = world.pods().filter(|(_, pod)| *pod.spec.node_name == *node.name).count();
        (here, pods)
    };
    nodes.iter().min_by_key(|node| load(node))
}
