//! What the daemon needs of a pod to enrol it, taken from the object once. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ambit_cluster::kinds::core::{Container, Enrolled, Pod, Probe, ProbePort};
use ambit_cluster::kinds::scalar::PortName;
use ambit_cluster::{Kind, ObjectRef};
use ambit_model::name::NameError;
use ambit_wire::node_link::{LinkError, PodInfo, PodUid};

use crate::apply::ProbeTarget;
use crate::rules::{Families, InterfaceName, PodRules};

/// The annotation by which the control plane learns that a pod takes tunnels.
pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";

/// A static pod's object is a mirror with a uid of its own; kubelet and the runtime know the pod by this one.
const STATIC_UID: &str = "kubernetes.io/config.hash";

const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const INNER_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// Interfaces that a pod may name; each costs two rules.
const INNER_MOST: usize = 16;

/// A pod as it is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) uid: PodUid,
    pub(crate) object: ObjectRef,
    pub(crate) info: PodInfo,
    pub(crate) rules: PodRules,
    /// Addresses that the object tells; empty before the runtime has reported them.
    pub(crate) ips: Vec<IpAddr>,
    /// Ports that probes go to.
    pub(crate) probe_ports: BTreeSet<u16>,
    /// The annotation as it stands.
    pub(crate) redirection: Option<String>,
    /// The condition as it stands.
    pub(crate) enrolled: Option<Box<Enrolled>>,
    /// The uid that the node's container runtime knows it by.
    pub(crate) runtime_uid: Box<str>,
}

/// Why a pod object cannot be enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubjectError {
    #[error("the pod has no uid yet")]
    Uid(#[source] LinkError),
    #[error("the pod's {field} cannot be part of an identity")]
    Name { field: &'static str, source: NameError },
}

/// What the node decides for all its pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeWide {
    pub(crate) families: Families,
    pub(crate) dns: bool,
}

impl Subject {
    pub(crate) fn of(pod: &Pod, node: NodeWide) -> Result<Self, SubjectError> {
        let meta = &pod.metadata;
        let name = |field| move |source| SubjectError::Name { field, source };
        let info = PodInfo {
            name: meta.name.as_str().into(),
            namespace: meta.namespace.parse().map_err(name("namespace"))?,
            service_account: pod.service_account().parse().map_err(name("service account"))?,
        };
        Ok(Self {
            uid: PodUid::new(&meta.uid).map_err(SubjectError::Uid)?,
            object: ObjectRef::new(Kind::Pod, &meta.namespace, &meta.name),
            info,
            rules: rules(pod, node),
            ips: pod.ips(),
            probe_ports: probe_ports(pod),
            redirection: meta.annotation(REDIRECTION).map(str::to_owned),
            enrolled: pod.status.conditions.enrolled.clone(),
            runtime_uid: runtime_uid(pod).into(),
        })
    }

    /// Whether its object says that it is in the mesh.
    pub(crate) fn is_said_in(&self) -> bool {
        self.redirection.as_deref() == Some("enabled")
    }

    /// Whether anything is written on it.
    pub(crate) fn is_written_on(&self) -> bool {
        self.redirection.is_some() || self.enrolled.is_some()
    }

    /// Whether this differs from a former state of the same pod at most in what we wrote on it.
    pub(crate) fn differs_only_in_word(&self, former: &Self) -> bool {
        let Self { uid, object, info, rules, ips, probe_ports, redirection: _, enrolled: _, runtime_uid } =
            self;
        (uid, object, info, rules) == (&former.uid, &former.object, &former.info, &former.rules)
            && (ips, probe_ports, runtime_uid) == (&former.ips, &former.probe_ports, &former.runtime_uid)
    }

    /// Where probes may go, for these addresses of its sandbox and those its object tells.
    pub(crate) fn probe_targets(&self, sandbox: &[IpAddr]) -> BTreeSet<ProbeTarget> {
        let ips: BTreeSet<IpAddr> = self.ips.iter().chain(sandbox).map(IpAddr::to_canonical).collect();
        ips.iter().flat_map(|ip| self.probe_ports.iter().map(|port| SocketAddr::new(*ip, *port))).collect()
    }
}

/// The uid that a pod's runtime knows it by, and says to the plugin.
pub(crate) fn runtime_uid(pod: &Pod) -> &str {
    pod.metadata.annotation(STATIC_UID).unwrap_or(&pod.metadata.uid)
}

fn rules(pod: &Pod, node: NodeWide) -> PodRules {
    let text = |key| pod.metadata.annotation(key);
    let words = text(INNER_INTERFACES).unwrap_or_default().split(',').map(str::trim);
    // A name that is none cannot be an interface of the pod, so nothing is lost by passing it over.
    let inner = words.filter_map(|word| word.parse::<InterfaceName>().ok()).take(INNER_MOST).collect();
    PodRules {
        families: node.families,
        dns: text(DNS_CAPTURE).and_then(lenient).unwrap_or(node.dns),
        bypass_inbound: text(BYPASS_INBOUND).and_then(lenient).unwrap_or(false),
        inner_interfaces: inner,
    }
}

/// Booleans as Go's `strconv.ParseBool` takes them; anything else counts as absent.
fn lenient(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn probe_ports(pod: &Pod) -> BTreeSet<u16> {
    let containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter());
    containers.flat_map(ports_of).collect()
}

fn ports_of(container: &Container) -> BTreeSet<u16> {
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let places = probes.into_iter().flatten().flat_map(|Probe { http_get, tcp_socket, grpc }| {
        [http_get, tcp_socket, grpc].into_iter().flatten().filter_map(|ProbePort { port }| port.as_ref())
    });
    places.filter_map(|port| number(port, container)).collect()
}

fn number(port: &PortName, container: &Container) -> Option<u16> {
    match port {
        PortName::Number(number) => Some(*number),
        PortName::Name(name) => {
            container.ports.iter().find(|it| it.name == *name).map(|it| it.container_port.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const NODE: NodeWide = NodeWide { families: Families::Both, dns: true };

    fn subject(annotations: &Value, spec: &Value) -> Subject {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "annotations": annotations },
            "spec": spec,
            "status": { "podIPs": [{ "ip": "10.0.0.5" }] },
        });
        Subject::of(&from_value(pod).unwrap(), NODE).unwrap()
    }

    #[test]
    fn annotations_are_read_leniently_and_nonsense_counts_as_absent() {
        for (text, bypass, dns) in [
            ("true", true, true),
            ("T", true, true),
            ("0", false, false),
            ("yes", false, true),
            ("", false, true),
        ] {
            let it = subject(&json!({ BYPASS_INBOUND: text, DNS_CAPTURE: text }), &json!({}));
            assert_eq!((it.rules.bypass_inbound, it.rules.dns), (bypass, dns), "{text:?}");
        }
    }

    #[test]
    fn a_pods_word_on_names_goes_before_the_nodes_in_both_directions() {
        for (node, annotation, dns) in
            [(true, "false", false), (false, "true", true), (true, "yes", true), (false, "yes", false)]
        {
            let pod = json!({
                "metadata": { "name": "web", "namespace": "shop", "uid": "u-1",
                              "annotations": { DNS_CAPTURE: annotation } },
                "spec": {},
                "status": { "podIPs": [{ "ip": "10.0.0.5" }] },
            });
            let wide = NodeWide { dns: node, ..NODE };
            let it = Subject::of(&from_value(pod).unwrap(), wide).unwrap();
            assert_eq!(it.rules.dns, dns, "{node} {annotation}");
        }
    }

    // K19
    #[test]
    fn inner_interfaces_that_are_no_names_are_passed_over() {
        let it = subject(&json!({ INNER_INTERFACES: "tap0, a b,,net1,\"; drop" }), &json!({}));
        let names: Vec<_> = it.rules.inner_interfaces.iter().map(InterfaceName::as_str).collect();
        assert_eq!(names, ["tap0", "net1"]);
    }

    // K20
    #[test]
    fn probes_may_reach_the_ports_that_are_declared_for_them_alone() {
        let spec = json!({ "containers": [{
            "name": "app",
            "ports": [{ "containerPort": 8080, "name": "web" }, { "containerPort": 9000 }],
            "readinessProbe": { "httpGet": { "port": "web" } },
            "livenessProbe": { "tcpSocket": { "port": 7000 } },
            "startupProbe": { "exec": {} },
        }] });
        let it = subject(&json!({}), &spec);
        assert_eq!(it.probe_ports, BTreeSet::from([7000, 8080]));
        let targets = it.probe_targets(&["::ffff:10.0.0.5".parse().unwrap()]);
        assert_eq!(
            targets,
            BTreeSet::from(["10.0.0.5:7000".parse().unwrap(), "10.0.0.5:8080".parse().unwrap()])
        );
    }

    #[test]
    fn our_own_word_on_a_pod_is_told_from_any_other_change() {
        let before = subject(&json!({}), &json!({}));
        let after = subject(&json!({ REDIRECTION: "enabled" }), &json!({}));
        assert!(after.is_said_in() && !before.is_said_in());
        assert!(after.differs_only_in_word(&before));
        let other = subject(&json!({ REDIRECTION: "enabled", BYPASS_INBOUND: "true" }), &json!({}));
        assert!(!other.differs_only_in_word(&before));
    }

    #[test]
    fn a_static_pod_is_known_to_its_runtime_by_another_uid_than_to_the_cluster() {
        let it = subject(&json!({ STATIC_UID: "0123" }), &json!({}));
        assert_eq!((it.uid.as_str(), &*it.runtime_uid), ("u-1", "0123"));
        assert_eq!(&*subject(&json!({}), &json!({})).runtime_uid, "u-1");
    }

    #[test]
    fn a_pod_without_a_uid_is_not_enrolled_yet() {
        let pod = from_value(json!({ "metadata": { "name": "web", "namespace": "shop" } })).unwrap();
        assert!(matches!(Subject::of(&pod, NODE), Err(SubjectError::Uid(_))));
    }
}
