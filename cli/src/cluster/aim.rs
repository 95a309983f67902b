//! Pods by what people call them: a pod's own name, or the name of what keeps it, or of a service in front of it.
//! Owns reading such names and choosing among the pods that are meant; asks the API server and nobody else.

use ambit_cluster::api::{ApiError, Client};
use serde_json::Value;

use super::dump::text;
use super::parts::{Part, pod_name};

/// What has pods, other than a pod: how people write it, and where it is in the API.
const KEEPERS: [(&str, &[&str]); 6] = [
    ("apis/apps/v1 deployments", &["deployment", "deployments", "deploy"]),
    ("apis/apps/v1 daemonsets", &["daemonset", "daemonsets", "ds"]),
    ("apis/apps/v1 statefulsets", &["statefulset", "statefulsets", "sts"]),
    ("apis/apps/v1 replicasets", &["replicaset", "replicasets", "rs"]),
    ("apis/batch/v1 jobs", &["job", "jobs"]),
    ("api/v1 services", &["service", "services", "svc"]),
];
const PODS: [&str; 3] = ["pod", "pods", "po"];

/// What somebody named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Aim {
    /// A pod.
    Pod { namespace: String, name: String },
    /// What has pods: its path in the API, and what it was called.
    Keeper { path: String, namespace: String, called: String },
}

/// Why no pod is meant.
#[derive(Debug, thiserror::Error)]
pub(super) enum AimError {
    #[error("there is no {called} in namespace {namespace}; give KIND/NAME.NAMESPACE, or -n NAMESPACE")]
    NoKeeper { called: String, namespace: String },
    #[error("{called} in namespace {namespace} selects no pods")]
    NoSelector { called: String, namespace: String },
    #[error(
        "{called} in namespace {namespace} has no pod that runs; `kubectl -n {namespace} get pods` shows why"
    )]
    NoPod { called: String, namespace: String },
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Aim {
    /// Of `[KIND/]NAME[.NAMESPACE]`, or `NAMESPACE/NAME` of a pod. A word before the slash that is no kind is a
    /// namespace: people write pods both ways.
    pub(super) fn read(given: &str, namespace: Option<&str>, otherwise: &str) -> Self {
        let kind = given.split_once('/').map(|(kind, name)| (kind.to_ascii_lowercase(), name));
        if let Some((kind, name)) = kind
            && let Some((place, names)) = KEEPERS.iter().find(|(_, names)| names.contains(&kind.as_str()))
        {
            // Within it a namespace may stand before the name, too.
            let (namespace, name) = pod_name(name, namespace, otherwise);
            let (group, plural) = place.split_once(' ').unwrap_or((place, ""));
            let path = format!("/{group}/namespaces/{namespace}/{plural}/{name}");
            let called = format!("{} {name}", names.first().unwrap_or(&""));
            return Self::Keeper { path, namespace, called };
        }
        let is_pod = |(kind, _): &(&str, &str)| PODS.contains(&kind.to_ascii_lowercase().as_str());
        let given = given.split_once('/').filter(is_pod).map_or(given, |(_, name)| name);
        let (namespace, name) = pod_name(given, namespace, otherwise);
        Self::Pod { namespace, name }
    }

    /// The pod that is meant: its namespace and name. Of several that one thing has, the first that is ready.
    pub(super) async fn pod(self, client: &Client) -> Result<(String, String), AimError> {
        let (path, namespace, called) = match self {
            Self::Pod { namespace, name } => return Ok((namespace, name)),
            Self::Keeper { path, namespace, called } => (path, namespace, called),
        };
        let keeper: Value = match client.read(&path).await {
            Err(ApiError::NotFound { .. }) => return Err(AimError::NoKeeper { called, namespace }),
            other => other?,
        };
        let Some(labels) = selector(&keeper) else { return Err(AimError::NoSelector { called, namespace }) };
        let pods = client
            .list(&format!("/api/v1/namespaces/{namespace}/pods"), &[("labelSelector", &labels)])
            .await?;
        let parts: Vec<Part> = pods.iter().map(Part::of).collect();
        match first(parts) {
            Some(pod) => Ok((namespace, pod)),
            None => Err(AimError::NoPod { called, namespace }),
        }
    }
}

/// One that is ready before one that is not, then by name; none that is on no node or has ended.
fn first(mut pods: Vec<Part>) -> Option<String> {
    pods.retain(|it| !it.node.is_empty() && !["Succeeded", "Failed"].contains(&it.phase.as_str()));
    pods.sort_by(|a, b| (!a.ready, &a.name).cmp(&(!b.ready, &b.name)));
    pods.into_iter().next().map(|it| it.name)
}

/// Whom it selects, as the API server is asked for them; none where it selects nobody.
fn selector(keeper: &Value) -> Option<String> {
    let selector = keeper.pointer("/spec/selector")?;
    // A service's labels are said without a word before them.
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object();
    let equal =
        labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let said = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let all: Vec<String> = equal.chain(said.filter_map(expression)).collect();
    (!all.is_empty()).then(|| all.join(","))
}

fn expression(it: &Value) -> Option<String> {
    let key = text(it, "key");
    let values = it.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let values = values.collect::<Vec<_>>().join(",");
    match text(it, "operator") {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str) -> Aim {
        Aim::Pod { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn pods_and_what_keeps_them_are_read_as_people_write_them() {
        for (given, flag, wanted) in [
            ("web", None, pod("default", "web")),
            ("web.shop", None, pod("shop", "web")),
            ("pod/web.shop", None, pod("shop", "web")),
            ("PO/shop/web.v1", None, pod("shop", "web.v1")),
            ("shop/web", None, pod("shop", "web")),
            ("web", Some("shop"), pod("shop", "web")),
        ] {
            assert_eq!(Aim::read(given, flag, "default"), wanted, "{given}");
        }
        for (given, flag, path, called) in [
            ("deployment/web.shop", None, "/apis/apps/v1/namespaces/shop/deployments/web", "deployment web"),
            ("Deploy/web", Some("shop"), "/apis/apps/v1/namespaces/shop/deployments/web", "deployment web"),
            (
                "ds/ztunnel",
                Some("mesh"),
                "/apis/apps/v1/namespaces/mesh/daemonsets/ztunnel",
                "daemonset ztunnel",
            ),
            ("sts/db", None, "/apis/apps/v1/namespaces/default/statefulsets/db", "statefulset db"),
            ("rs/web-1.shop", None, "/apis/apps/v1/namespaces/shop/replicasets/web-1", "replicaset web-1"),
            ("job/once", None, "/apis/batch/v1/namespaces/default/jobs/once", "job once"),
            ("svc/shop/web", None, "/api/v1/namespaces/shop/services/web", "service web"),
        ] {
            let Aim::Keeper { path: found, called: named, .. } = Aim::read(given, flag, "default") else {
                panic!("{given} is taken for a pod")
            };
            assert_eq!((found.as_str(), named.as_str()), (path, called), "{given}");
        }
    }

    #[test]
    fn those_that_are_selected_are_asked_for_as_the_api_server_reads_it() {
        for (spec, wanted) in [
            (json!({"selector": {"app": "web", "v": "1"}}), Some("app=web,v=1")),
            (json!({"selector": {"matchLabels": {"app": "web"}}}), Some("app=web")),
            (
                json!({"selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                    {"key": "v", "operator": "In", "values": ["1", "2"]}, {"key": "x", "operator": "Exists"},
                    {"key": "y", "operator": "DoesNotExist"}, {"key": "z", "operator": "NotIn", "values": ["3"]}]}}),
                Some("app=web,v in (1,2),x,!y,z notin (3)"),
            ),
            // A service without a selector has ends of its own; nobody's pods are meant, and not everybody's.
            (json!({}), None),
            (json!({"selector": {}}), None),
        ] {
            assert_eq!(selector(&json!({"spec": spec})).as_deref(), wanted, "{spec}");
        }
    }

    #[test]
    fn one_that_is_ready_is_chosen_before_others_and_none_that_has_ended_or_waits_for_a_node() {
        let part = |name: &str, node: &str, ready: bool, phase: &str| Part {
            namespace: "shop".into(),
            name: name.into(),
            node: node.into(),
            ready,
            version: String::new(),
            phase: phase.into(),
            restarts: 0,
        };
        let all = vec![
            part("a", "n1", false, "Running"),
            part("b", "", false, "Pending"),
            part("c", "n1", true, "Running"),
            part("d", "n1", false, "Succeeded"),
        ];
        assert_eq!(first(all.clone()).as_deref(), Some("c"));
        assert_eq!(first(all[..1].to_vec()).as_deref(), Some("a"));
        assert_eq!(first(vec![all[1].clone(), all[3].clone()]), None);
    }
}
