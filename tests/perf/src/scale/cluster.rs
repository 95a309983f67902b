//! A large cluster as its API server would tell of it: every object is made from its number when it is asked for, so
//! that fifty thousand pods of several kilobytes each are held nowhere. Owns what there is and what changed.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The version before anything changed.
const FIRST: usize = 1;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Pods, dealt out to services and nodes in turn.
    pub pods: usize,
    /// Nodes.
    pub nodes: usize,
    /// Services.
    pub services: usize,
    /// Namespaces, to which services are dealt out.
    pub spaces: usize,
}

/// What is made from numbers; everything else has to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// Namespaces.
    Namespaces,
    /// Nodes.
    Nodes,
    /// Services.
    Services,
    /// One slice for each service.
    Slices,
    /// Pods.
    Pods,
}

impl Many {
    /// The kind at a path of the API.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/api/v1/namespaces" => Self::Namespaces,
            "/api/v1/nodes" => Self::Nodes,
            "/api/v1/services" => Self::Services,
            "/apis/discovery.k8s.io/v1/endpointslices" => Self::Slices,
            "/api/v1/pods" => Self::Pods,
            _ => return None,
        })
    }
}

struct Change {
    kind: Many,
    line: Bytes,
}

struct State {
    ready: Vec<bool>,
    log: Vec<Change>,
    /// When a pod changed last.
    changed: Vec<Option<Instant>>,
}

/// The cluster.
pub struct Cluster {
    /// How large it is.
    pub shape: Shape,
    state: Mutex<State>,
    /// The newest version.
    version: watch::Sender<usize>,
}

impl Cluster {
    /// All pods are ready and nothing has changed yet.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let state = State { ready: vec![true; shape.pods], log: Vec::new(), changed: vec![None; shape.pods] };
        Self { shape, state: Mutex::new(state), version: watch::channel(FIRST).0 }
    }

    /// To be told of newer versions.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<usize> {
        self.version.subscribe()
    }

    /// A page of a list from the nth object on, and where the next page begins.
    #[must_use]
    pub fn page(&self, kind: Many, from: usize, limit: usize) -> String {
        let Shape { pods, nodes, services, spaces } = self.shape;
        let all = match kind {
            Many::Namespaces => spaces,
            Many::Nodes => nodes,
            Many::Services | Many::Slices => services,
            Many::Pods => pods,
        };
        let (state, to) = (self.state(), (from + limit).min(all));
        let next = if to < all { to.to_string() } else { String::new() };
        let mut text = format!(
            "{{\"metadata\":{{\"resourceVersion\":\"{}\",\"continue\":\"{next}\"}},\"items\":[",
            FIRST + state.log.len()
        );
        for number in from..to {
            if number > from {
                text.push(',');
            }
            text += &self.object(&state, kind, number);
        }
        text + "]}"
    }

    /// What was said of a kind since a version, and the version that this leads to.
    #[must_use]
    pub fn since(&self, kind: Many, version: usize) -> (Vec<Bytes>, usize) {
        let state = self.state();
        let news = state.log.get(version.saturating_sub(FIRST)..).unwrap_or_default();
        let lines = news.iter().filter(|it| it.kind == kind).map(|it| it.line.clone()).collect();
        (lines, FIRST + state.log.len())
    }

    /// A pod becomes ready, or ceases to be, and its service's slice tells so as well.
    pub fn flip(&self, pod: usize) {
        let mut state = self.state();
        if let (Some(ready), Some(changed)) = (state.ready.get(pod).copied(), state.changed.get_mut(pod)) {
            *changed = Some(Instant::now());
            if let Some(it) = state.ready.get_mut(pod) {
                *it = !ready;
            }
        }
        for (kind, number) in [(Many::Pods, pod), (Many::Slices, pod % self.shape.services)] {
            let object = self.object(&state, kind, number);
            let line = format!("{{\"type\":\"MODIFIED\",\"object\":{object}}}\n").into();
            state.log.push(Change { kind, line });
        }
        let version = FIRST + state.log.len();
        drop(state);
        self.version.send_replace(version);
    }

    /// When a pod changed last.
    #[must_use]
    pub fn changed(&self, pod: usize) -> Option<Instant> {
        self.state().changed.get(pod).copied().flatten()
    }

    fn object(&self, state: &State, kind: Many, number: usize) -> String {
        let version = (FIRST + state.log.len()).to_string();
        let value = match kind {
            Many::Namespaces => json!({"metadata": {
                "name": format!("team-{number}"), "resourceVersion": version,
                "labels": {"istio.io/dataplane-mode": "ambient", "team": format!("team-{number}")},
            }}),
            Many::Nodes => node(number, &version),
            Many::Services => self.service(number, &version),
            Many::Slices => self.slice(state, number, &version),
            Many::Pods => return self.pod(state, number, &version),
        };
        value.to_string()
    }

    fn space(&self, service: usize) -> usize {
        service % self.shape.spaces
    }

    fn service(&self, number: usize, version: &str) -> Value {
        let (app, ip) = (format!("app-{number}"), format!("10.96.{}.{}", number >> 8, number & 255));
        json!({
            "metadata": {
                "name": app, "namespace": format!("team-{}", self.space(number)), "resourceVersion": version,
                "uid": format!("service-{number}"), "labels": {"app": app},
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                "selector": {"app": app},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
            "status": {"loadBalancer": {}},
        })
    }

    fn slice(&self, state: &State, service: usize, version: &str) -> Value {
        let space = format!("team-{}", self.space(service));
        let endpoint = |pod: usize| {
            json!({
                "addresses": [address(pod)], "nodeName": format!("node-{}", pod % self.shape.nodes),
                "conditions": {"ready": state.ready.get(pod), "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": space, "name": name(service, pod), "uid": uid(pod)},
            })
        };
        let pods = (service..self.shape.pods).step_by(self.shape.services);
        json!({
            "metadata": {
                "name": format!("app-{service}-x7k2p"), "namespace": space, "resourceVersion": version,
                "labels": {
                    "kubernetes.io/service-name": format!("app-{service}"),
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": pods.map(endpoint).collect::<Vec<_>>(),
        })
    }

    /// As a deployment's controller makes it and a kubelet reports it. Written by hand: there are very many.
    fn pod(&self, state: &State, number: usize, version: &str) -> String {
        let service = number % self.shape.services;
        let ready = state.ready.get(number).copied().unwrap_or_default();
        let (app, space, ip) = (format!("app-{service}"), self.space(service), address(number));
        let node = number % self.shape.nodes;
        let set = format!("{app}-7d9c6b8f5d");
        let time = "2026-01-01T00:00:00Z";
        let mut text = String::with_capacity(8192);
        let mut conditions = String::new();
        for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
            let holds = if ready || !kind.contains("Ready") { "True" } else { "False" };
            let comma = if conditions.is_empty() { "" } else { "," };
            conditions += &format!(
                r#"{comma}{{"type":"{kind}","status":"{holds}","lastProbeTime":null,"lastTransitionTime":"{time}"}}"#
            );
        }
        let managed = MANAGED.repeat(40);
        write!(
            text,
            r#"{{"metadata":{{"name":"{name}","generateName":"{set}-","namespace":"team-{space}","uid":"{uid}",
"resourceVersion":"{version}","creationTimestamp":"{time}",
"labels":{{"app":"{app}","version":"v1","pod-template-hash":"7d9c6b8f5d","app.kubernetes.io/part-of":"shop","team":"team-{space}"}},
"annotations":{{"ambient.istio.io/redirection":"enabled","example.com/checksum":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}},
"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"{set}","uid":"u","controller":true,"blockOwnerDeletion":true}}],
"managedFields":[{{"manager":"kubelet","operation":"Update","time":"{time}","fieldsV1":{{{managed}"f:end":{{}}}}}}]}},
"spec":{{"nodeName":"node-{node}","serviceAccountName":"{app}","restartPolicy":"Always","containers":[{{"name":"application",
"image":"registry.example.com/team/application:1.2.3","ports":[{{"containerPort":8080,"name":"http","protocol":"TCP"}}],
"readinessProbe":{{"httpGet":{{"path":"/healthz","port":"http","scheme":"HTTP"}},"periodSeconds":10}},
"livenessProbe":{{"httpGet":{{"path":"/healthz","port":"http","scheme":"HTTP"}},"periodSeconds":10}},
"env":[{{"name":"A","value":"b"}},{{"name":"C","valueFrom":{{"fieldRef":{{"fieldPath":"metadata.name"}}}}}}],
"resources":{{"limits":{{"cpu":"1","memory":"1Gi"}},"requests":{{"cpu":"100m","memory":"128Mi"}}}},
"volumeMounts":[{{"name":"token","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","readOnly":true}}]}}],
"tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists"}}]}},
"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"hostIP":"192.168.{high}.{low}","startTime":"{time}","conditions":[{conditions}]}}}}"#,
            name = name(service, number),
            uid = uid(number),
            high = node >> 8,
            low = node & 255,
        )
        .expect("a text takes what is written");
        text.retain(|it| it != '\n');
        text
    }
}

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the many fields that each writer of a pod is noted with.
const MANAGED: &str = r#""f:field":{"f:name":{},"f:value":{}},"#;

fn node(number: usize, version: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("node-{number}"), "resourceVersion": version,
            "labels": {
                "kubernetes.io/hostname": format!("node-{number}"), "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": "north", "topology.kubernetes.io/zone": format!("north-{}", number % 3),
            },
        },
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.{}.{}", number >> 8, number & 255)}]},
    })
}

fn name(service: usize, pod: usize) -> String {
    format!("app-{service}-7d9c6b8f5d-{pod:05}")
}

/// The number of a pod, from its resource's name.
#[must_use]
pub fn pod_of(resource: &str) -> Option<usize> {
    resource.contains("/Pod/").then(|| resource.rsplit('-').next()?.parse().ok()).flatten()
}

fn uid(pod: usize) -> String {
    format!("00000000-0000-4000-8000-{pod:012}")
}

fn address(pod: usize) -> String {
    format!("10.{}.{}.{}", pod >> 16, (pod >> 8) & 255, pod & 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { pods: 7, nodes: 2, services: 3, spaces: 2 };

    #[test]
    fn a_list_is_told_in_pages_and_every_object_is_json_with_a_name() {
        let cluster = Cluster::new(SHAPE);
        for (kind, all) in
            [(Many::Namespaces, 2), (Many::Nodes, 2), (Many::Services, 3), (Many::Slices, 3), (Many::Pods, 7)]
        {
            let (mut names, mut from) = (std::collections::BTreeSet::new(), String::from("0"));
            while !from.is_empty() {
                let page: Value =
                    serde_json::from_str(&cluster.page(kind, from.parse().unwrap(), 2)).unwrap();
                from = page["metadata"]["continue"].as_str().unwrap().to_owned();
                let items = page["items"].as_array().unwrap();
                names.extend(items.iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()));
            }
            assert_eq!(names.len(), all, "{kind:?}");
        }
    }

    #[test]
    fn a_change_is_told_of_the_pod_and_of_its_slice_and_only_since_then() {
        let cluster = Cluster::new(SHAPE);
        let (before, version) = cluster.since(Many::Pods, FIRST);
        assert!(before.is_empty());
        cluster.flip(4);
        let (lines, next) = cluster.since(Many::Pods, version);
        let line: Value = serde_json::from_slice(&lines[0]).unwrap();
        let ready = &line["object"]["status"]["conditions"][2];
        assert_eq!((lines.len(), &ready["type"], &ready["status"]), (1, &json!("Ready"), &json!("False")));
        assert_eq!(cluster.since(Many::Slices, version).0.len(), 1);
        assert!(cluster.since(Many::Pods, next).0.is_empty());
        assert_eq!(pod_of("Kubernetes//Pod/team-1/app-1-7d9c6b8f5d-00004"), Some(4));
        assert!(cluster.changed(4).is_some() && cluster.changed(3).is_none());
    }
}
