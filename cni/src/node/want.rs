//! Should this pod be in the mesh? (`cni.md` 2.1.) Pure: same objects, same answer.

use std::collections::BTreeSet;
use std::fmt;

use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_cluster::kinds::meta::Texts;

use crate::node::selector::{Demand, Selector};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// In.
    In,
    /// Out, and why.
    Out(Why),
}

/// Why a pod is not in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It shares its node's network.
    HostNetwork,
    /// It has a sidecar.
    Sidecar,
    /// It is part of the mesh itself.
    OwnPod,
    /// Its namespace is excluded on this node.
    ExcludedNamespace,
    /// Neither it nor its namespace asks for it, or it asks to be left out.
    NotSelected,
    /// All its containers have ended.
    Ended,
    /// The mesh is leaving this node.
    Leaving,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "it shares its node's network",
            Self::Sidecar => "it has a sidecar",
            Self::OwnPod => "it is part of the mesh itself",
            Self::ExcludedNamespace => "its namespace is excluded",
            Self::NotSelected => "no label of it or its namespace selects it",
            Self::Ended => "it has ended",
            Self::Leaving => "the mesh is leaving this node",
        })
    }
}

/// What decides, beside the objects.
#[derive(Debug, Clone)]
pub struct Criteria {
    /// Any one that matches selects.
    pub selectors: Vec<Selector>,
    /// Namespaces that are never in.
    pub excluded: BTreeSet<String>,
    /// Where the mesh's own pods are.
    pub system_namespace: String,
}

const MODE: &str = "istio.io/dataplane-mode";
const SIDECAR: &str = "sidecar.istio.io/status";

impl Default for Criteria {
    fn default() -> Self {
        let is = |value: &str| Demand::In(MODE.into(), vec![value.into()]);
        let by_pod = Selector { pod: vec![is("ambient")], namespace: Vec::new() };
        let left_out = Demand::NotIn(MODE.into(), vec!["none".into()]);
        let by_namespace = Selector { pod: vec![left_out], namespace: vec![is("ambient")] };
        let selectors = vec![by_pod, by_namespace];
        Self { selectors, excluded: BTreeSet::new(), system_namespace: "istio-system".into() }
    }
}

/// Whether a pod is to be in the mesh.
#[must_use]
pub fn want(pod: &Pod, namespace: Option<&Namespace>, by: &Criteria) -> Want {
    let empty = Texts::new();
    let namespace_labels = namespace.map_or(&empty, |it| &it.metadata.labels);
    let selects = |it: &Selector| it.selects(&pod.metadata.labels, namespace_labels);
    if pod.spec.host_network {
        return Want::Out(Why::HostNetwork);
    }
    if pod.metadata.annotation(SIDECAR).is_some() {
        return Want::Out(Why::Sidecar);
    }
    if by.is_own(pod) {
        return Want::Out(Why::OwnPod);
    }
    if by.excluded.contains(&pod.metadata.namespace) {
        return Want::Out(Why::ExcludedNamespace);
    }
    if pod.is_over() {
        return Want::Out(Why::Ended);
    }
    if by.selectors.iter().any(selects) { Want::In } else { Want::Out(Why::NotSelected) }
}

impl Criteria {
    fn is_own(&self, pod: &Pod) -> bool {
        let is_daemon = pod.metadata.label("k8s-app") == Some("istio-cni-node");
        self.is_ztunnel(pod) || is_daemon && pod.metadata.namespace == self.system_namespace
    }

    /// Whether a pod is the mesh's node proxy.
    pub(crate) fn is_ztunnel(&self, pod: &Pod) -> bool {
        pod.metadata.namespace == self.system_namespace && pod.metadata.label("app") == Some("ztunnel")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn namespace(mode: Option<&str>) -> Namespace {
        from_value(json!({ "metadata": { "name": "shop", "labels": labels(mode) } })).unwrap()
    }

    fn labels(mode: Option<&str>) -> Value {
        mode.map_or_else(|| json!({}), |mode| json!({ MODE: mode }))
    }

    fn pod(mode: Option<&str>, change: impl FnOnce(&mut Value)) -> Pod {
        let mut value = json!({
            "metadata": { "name": "web", "namespace": "shop", "labels": labels(mode), "annotations": {} },
            "spec": {}, "status": {},
        });
        change(&mut value);
        from_value(value).unwrap()
    }

    #[test]
    fn the_table_of_labels_decides() {
        let ambient = Some("ambient");
        let not = Want::Out(Why::NotSelected);
        for (of_namespace, of_pod, wanted) in [
            (ambient, None, Want::In),
            (None, ambient, Want::In),
            (ambient, ambient, Want::In),
            (None, None, not),
            (ambient, Some("none"), not),
            (None, Some("none"), not),
            (Some("none"), ambient, Want::In),
            (Some("other"), None, not),
        ] {
            let pod = pod(of_pod, |_| {});
            let answer = want(&pod, Some(&namespace(of_namespace)), &Criteria::default());
            assert_eq!(answer, wanted, "{of_namespace:?} {of_pod:?}");
        }
    }

    #[test]
    fn what_cannot_or_must_not_be_in_is_out_whatever_the_labels_say() {
        type Spoil = fn(&mut Value);
        let cases: [(Spoil, Why); 6] = [
            (|v| v["spec"]["hostNetwork"] = json!(true), Why::HostNetwork),
            (|v| v["metadata"]["annotations"][SIDECAR] = json!(""), Why::Sidecar),
            (|v| v["metadata"]["namespace"] = json!("kube-system"), Why::ExcludedNamespace),
            (|v| v["status"]["phase"] = json!("Succeeded"), Why::Ended),
            (
                |v| {
                    v["metadata"]["namespace"] = json!("istio-system");
                    v["metadata"]["labels"]["app"] = json!("ztunnel");
                },
                Why::OwnPod,
            ),
            (
                |v| {
                    v["metadata"]["namespace"] = json!("istio-system");
                    v["metadata"]["labels"]["k8s-app"] = json!("istio-cni-node");
                },
                Why::OwnPod,
            ),
        ];
        let by = Criteria { excluded: BTreeSet::from(["kube-system".into()]), ..Criteria::default() };
        for (spoil, why) in cases {
            let pod = pod(Some("ambient"), spoil);
            assert_eq!(want(&pod, Some(&namespace(Some("ambient"))), &by), Want::Out(why));
        }
    }

    #[test]
    fn a_container_that_is_called_like_a_sidecar_is_none() {
        let pod = pod(None, |v| v["spec"]["containers"] = json!([{ "name": "istio-proxy" }]));
        assert_eq!(want(&pod, Some(&namespace(Some("ambient"))), &Criteria::default()), Want::In);
    }

    #[test]
    fn a_pod_can_select_itself_before_its_namespace_is_known() {
        assert_eq!(want(&pod(Some("ambient"), |_| {}), None, &Criteria::default()), Want::In);
        assert_eq!(want(&pod(None, |_| {}), None, &Criteria::default()), Want::Out(Why::NotSelected));
    }

    #[test]
    fn the_default_is_what_upstreams_chart_writes() {
        let crate::node::selector::Selectors(written) = crate::node::selector::DEFAULT.parse().unwrap();
        assert_eq!(written, Criteria::default().selectors);
    }

    #[test]
    fn without_selectors_nothing_is_in() {
        let by = Criteria { selectors: Vec::new(), ..Criteria::default() };
        let pod = pod(Some("ambient"), |_| {});
        assert_eq!(want(&pod, None, &by), Want::Out(Why::NotSelected));
    }
}
