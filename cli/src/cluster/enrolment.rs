//! Whether a pod is to be in the mesh, whether it is, and if not, why: from the objects alone, as a person reads them.
//! Owns reading what the node daemon was told (`cni.md` 2.1). It decides; this only says what it would decide.

use std::collections::BTreeSet;

use ambit_cluster::kinds::core::{Namespace, Pod};
use ambit_cluster::kinds::meta::{LabelSelector, Texts};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dump::text;

/// The label that asks pods in, or leaves them out.
pub(crate) const MODE: &str = "istio.io/dataplane-mode";
/// Where the node daemon says how far it is with a pod.
pub(super) const REDIRECTION: &str = "ambient.istio.io/redirection";
const SIDECAR: &str = "sidecar.istio.io/status";
/// The settings of the node daemon that decide, and what it goes by without them.
const SELECTORS: &str = "AMBIENT_ENABLEMENT_SELECTOR";
const EXCLUDED: &str = "EXCLUDE_NAMESPACES";

/// How a pod stands to the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Standing {
    /// It is in.
    Enrolled,
    /// It is to be in, and is not.
    NotEnrolled,
    /// It is in, and is not to be.
    Leaving,
    /// It is out, as it is to be.
    Out,
}

/// How a pod stands to the mesh, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Stand {
    /// How.
    pub(crate) standing: Standing,
    /// Why, for a person.
    pub(crate) why: String,
}

/// What the node daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    selectors: Vec<Selector>,
    excluded: BTreeSet<String>,
    system: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    pod_selector: LabelSelector,
    namespace_selector: LabelSelector,
}

impl Rules {
    /// Of the node daemon's settings, as they stand in its daemon set; without one, as the chart has them.
    pub(crate) fn of(daemon_set: Option<&Value>, system: &str) -> Self {
        let containers = daemon_set.and_then(|it| it.pointer("/spec/template/spec/containers"));
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        let settings: Vec<&Value> = containers.filter_map(|it| it.get("env")?.as_array()).flatten().collect();
        let setting =
            |name: &str| settings.iter().find(|it| text(it, "name") == name).map(|it| text(it, "value"));
        let excluded = setting(EXCLUDED).unwrap_or("kube-system");
        // What the daemon would not start with is nothing that it goes by.
        let selectors = setting(SELECTORS).and_then(|yaml| yaml_serde::from_str(yaml).ok());
        Self {
            selectors: selectors.unwrap_or_else(default_selectors),
            excluded: excluded
                .split(',')
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(Into::into)
                .collect(),
            system: system.into(),
        }
    }

    /// How a pod stands.
    pub(crate) fn stand(&self, pod: &Pod, namespace: Option<&Namespace>) -> Stand {
        let said = pod.metadata.annotation(REDIRECTION);
        let is_in = said == Some("enabled");
        match (self.out(pod, namespace), is_in) {
            (Some(why), false) => Stand { standing: Standing::Out, why },
            (Some(why), true) if pod.is_over() => Stand { standing: Standing::Out, why },
            (Some(why), true) => Stand { standing: Standing::Leaving, why },
            (None, true) => Stand { standing: Standing::Enrolled, why: String::new() },
            (None, false) => {
                let why = match said {
                    Some("pending") => "the node daemon has begun, and tries again",
                    _ if pod.spec.node_name.is_empty() => "it is on no node yet",
                    _ if pod.ips().is_empty() => "it has no address yet",
                    _ => "the node daemon has not enrolled it",
                };
                Stand { standing: Standing::NotEnrolled, why: why.into() }
            }
        }
    }

    /// Why a pod is not to be in; none where it is.
    fn out(&self, pod: &Pod, namespace: Option<&Namespace>) -> Option<String> {
        let meta = &pod.metadata;
        let empty = Texts::new();
        let labels = namespace.map_or(&empty, |it| &it.metadata.labels);
        let selected =
            |it: &Selector| it.pod_selector.selects(&meta.labels) && it.namespace_selector.selects(labels);
        if pod.spec.host_network {
            return Some("it shares its node's network".into());
        }
        if meta.annotation(SIDECAR).is_some() {
            return Some("it has a sidecar".into());
        }
        let own = [("app", "ztunnel"), ("k8s-app", "istio-cni-node")];
        if meta.namespace == self.system && own.iter().any(|(key, value)| meta.label(key) == Some(value)) {
            return Some("it is part of the mesh itself".into());
        }
        if self.excluded.contains(&meta.namespace) {
            return Some(format!("namespace {} is excluded in the node daemon's settings", meta.namespace));
        }
        if pod.is_over() {
            return Some("it has ended".into());
        }
        if self.selectors.iter().any(selected) {
            return None;
        }
        Some(match meta.label(MODE) {
            Some("none") => format!("its label {MODE}=none leaves it out"),
            Some(other) => format!("its label {MODE}={other} selects nothing"),
            None => format!("neither it nor namespace {} has the label {MODE}=ambient", meta.namespace),
        })
    }
}

fn default_selectors() -> Vec<Selector> {
    let yaml = "[{podSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}}, \
        {namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}, \
        podSelector: {matchExpressions: [{key: istio.io/dataplane-mode, operator: NotIn, values: [none]}]}}]";
    yaml_serde::from_str(yaml).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn stand(rules: &Rules, mode: Option<&str>, change: impl FnOnce(&mut Value)) -> (Standing, String) {
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {}, "annotations": {}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        change(&mut pod);
        let labels = mode.map_or_else(|| json!({}), |mode| json!({MODE: mode}));
        let namespace = from_value(json!({"metadata": {"name": "shop", "labels": labels}})).unwrap();
        let Stand { standing, why } = rules.stand(&from_value(pod).unwrap(), Some(&namespace));
        (standing, why)
    }

    #[test]
    fn a_pod_stands_as_its_labels_and_its_annotation_say() {
        let rules = Rules::of(None, "istio-system");
        let said = |pod: &mut Value, word: &str| pod["metadata"]["annotations"][REDIRECTION] = json!(word);
        let ambient = Some("ambient");
        assert_eq!(stand(&rules, ambient, |pod| said(pod, "enabled")).0, Standing::Enrolled);
        assert_eq!(stand(&rules, None, |pod| said(pod, "enabled")).0, Standing::Leaving);
        let (standing, why) = stand(&rules, None, |_| ());
        assert!(standing == Standing::Out && why.contains("ambient"), "{why}");
        for (change, because) in [
            (
                (|pod: &mut Value| pod["spec"]["hostNetwork"] = json!(true)) as fn(&mut Value),
                "node's network",
            ),
            (|pod| pod["metadata"]["annotations"][SIDECAR] = json!("{}"), "sidecar"),
            (|pod| pod["metadata"]["namespace"] = json!("kube-system"), "excluded"),
            (|pod| pod["status"]["phase"] = json!("Succeeded"), "ended"),
            (|pod| pod["metadata"]["labels"][MODE] = json!("none"), "leaves it out"),
        ] {
            let (standing, why) = stand(&rules, ambient, change);
            assert!(standing == Standing::Out && why.contains(because), "{because}: {why}");
        }
        for (change, because) in [
            ((|_: &mut Value| ()) as fn(&mut Value), "has not enrolled"),
            (|pod| pod["metadata"]["annotations"][REDIRECTION] = json!("pending"), "tries again"),
            (|pod| pod["spec"]["nodeName"] = json!(""), "no node"),
            (|pod| pod["status"]["podIP"] = Value::Null, "no address"),
        ] {
            let mut whole = json!({});
            let (standing, why) = stand(&rules, ambient, |pod| {
                change(pod);
                if pod["status"]["podIP"].is_null() {
                    pod["status"].as_object_mut().unwrap().remove("podIP");
                }
                whole = pod.clone();
            });
            assert!(standing == Standing::NotEnrolled && why.contains(because), "{because}: {why} {whole}");
        }
    }

    #[test]
    fn the_node_daemons_own_settings_decide() {
        let daemon_set = json!({"spec": {"template": {"spec": {"containers": [{"env": [
            {"name": EXCLUDED, "value": "a, shop"},
            {"name": SELECTORS, "value": "[{podSelector: {matchLabels: {mesh: 'yes'}}}]"},
        ]}]}}}});
        let rules = Rules::of(Some(&daemon_set), "istio-system");
        assert!(stand(&rules, Some("ambient"), |_| ()).1.contains("excluded"));
        let elsewhere = |pod: &mut Value| {
            pod["metadata"]["namespace"] = json!("b");
            pod["metadata"]["labels"]["mesh"] = json!("yes");
        };
        assert_eq!(stand(&rules, None, elsewhere).0, Standing::NotEnrolled);
    }
}
