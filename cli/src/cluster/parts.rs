//! The mesh's own pods in a cluster: which there are, where, which version, whether they are ready; and pods by the
//! names that people give. Owns finding them; asks the API server and nobody else.

use ambit_cluster::api::{ApiError, Client, PodPort, ReachError};
use http::Method;
use serde::Serialize;
use serde_json::Value;

use super::dump::text;

/// What the parts of the mesh are labelled with, as upstream's are.
pub(super) const CONTROL_PLANE: &str = "app=istiod";
/// The node proxies.
pub(super) const ZTUNNELS: &str = "app=ztunnel";
/// The node daemons.
pub(super) const NODE_DAEMONS: &str = "k8s-app=istio-cni-node";

/// Where proxies tell what they know.
pub(super) const ADMIN_PORT: u16 = 15000;

/// A pod of the mesh itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// The node that it runs on.
    pub(super) node: String,
    /// Whether it is ready.
    pub(super) ready: bool,
    /// Of its image: the tag.
    pub(super) version: String,
    /// What Kubernetes says of it, in a word.
    pub(super) phase: String,
    /// How often its containers were started again.
    pub(super) restarts: u64,
}

impl Part {
    /// Of a pod's JSON.
    pub(super) fn of(pod: &Value) -> Self {
        let at = |path: &str| pod.pointer(path).unwrap_or(&Value::Null);
        let conditions = at("/status/conditions").as_array().into_iter().flatten();
        let mut ready =
            conditions.filter(|it| text(it, "type") == "Ready").map(|it| text(it, "status") == "True");
        let containers = || at("/status/containerStatuses").as_array().into_iter().flatten();
        // Why a container waits says more than that its pod does.
        let waits = containers().find_map(|it| it.pointer("/state/waiting/reason")).and_then(Value::as_str);
        Self {
            namespace: text(at("/metadata"), "namespace").into(),
            name: text(at("/metadata"), "name").into(),
            node: text(at("/spec"), "nodeName").into(),
            ready: ready.next().unwrap_or(false) && !is_ending(pod),
            version: tag(text(at("/spec/containers/0"), "image")).into(),
            phase: match waits {
                _ if is_ending(pod) => "Terminating",
                Some(why) => why,
                None => text(at("/status"), "phase"),
            }
            .into(),
            restarts: containers().filter_map(|it| it.get("restartCount")?.as_u64()).sum(),
        }
    }

    /// A port of it.
    pub(super) fn port(&self, port: u16) -> PodPort<'_> {
        PodPort { namespace: &self.namespace, pod: &self.name, port }
    }
}

/// On its way out.
pub(super) fn is_ending(pod: &Value) -> bool {
    pod.pointer("/metadata/deletionTimestamp").is_some_and(|it| !it.is_null())
}

/// The tag of an image; a registry's port is none, a digest neither.
fn tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}

/// All parts of a sort, by name.
pub(super) async fn parts(client: &Client, namespace: &str, labels: &str) -> Result<Vec<Part>, ApiError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let pods = client.list(&path, &[("labelSelector", labels)]).await?;
    let mut parts: Vec<Part> = pods.iter().map(Part::of).collect();
    parts.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
    Ok(parts)
}

/// The part on a node: while one takes over from another, the one that is ready.
pub(super) fn on_node<'a>(all: &'a [Part], node: &str) -> Option<&'a Part> {
    let mut here = all.iter().filter(|part| part.node == node);
    here.clone().find(|part| part.ready).or_else(|| here.next())
}

/// What a part answers, if it answers at all and well.
pub(super) async fn fetch(client: &Client, part: &Part, port: u16, path: &str) -> Result<String, PartError> {
    let pod = || part.name.clone();
    let asked = Box::pin(client.ask_port(part.port(port), Method::GET, path));
    let answer = asked.await.map_err(|source| PartError::Reach { pod: pod(), source: Box::new(source) })?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let said = answer.body.chars().take(200).collect::<String>().trim().to_owned();
    Err(PartError::Refused { pod: pod(), path: path.into(), status: answer.status, said })
}

/// Why a part says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    /// It cannot be asked.
    #[error("{pod} cannot be asked; your account needs the right to create pods/portforward there")]
    Reach {
        /// The part.
        pod: String,
        /// Why.
        source: Box<ReachError>,
    },
    /// It was asked, and does not say.
    #[error("{pod} does not answer {path} (HTTP {status}): {said}")]
    Refused {
        /// The part.
        pod: String,
        /// What was asked.
        path: String,
        /// The status code.
        status: u16,
        /// Its words.
        said: String,
    },
}

/// A pod as people name it: `NAME`, `NAME.NAMESPACE`, `NAMESPACE/NAME`, each after `pod/`, if they like.
pub(super) fn pod_name(given: &str, namespace: Option<&str>, otherwise: &str) -> (String, String) {
    let given = ["pod/", "pods/", "po/"].iter().find_map(|kind| given.strip_prefix(kind)).unwrap_or(given);
    if let Some((namespace, name)) = given.split_once('/') {
        return (namespace.into(), name.into());
    }
    match (namespace, given.rsplit_once('.')) {
        (Some(namespace), _) => (namespace.into(), given.into()),
        (None, Some((name, namespace))) => (namespace.into(), name.into()),
        (None, None) => (otherwise.into(), given.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_named_in_each_of_the_usual_ways() {
        for (given, flag, wanted) in [
            ("web", None, ("default", "web")),
            ("web", Some("shop"), ("shop", "web")),
            ("web.shop", None, ("shop", "web")),
            ("pod/web.shop", None, ("shop", "web")),
            ("shop/web", None, ("shop", "web")),
            ("po/shop/web.v1", None, ("shop", "web.v1")),
            ("web.v1", Some("shop"), ("shop", "web.v1")),
        ] {
            let (namespace, name) = pod_name(given, flag, "default");
            assert_eq!((namespace.as_str(), name.as_str()), wanted, "{given}");
        }
    }

    #[test]
    fn the_version_is_the_tag_and_never_a_registrys_port() {
        for (image, version) in [
            ("localhost:5000/ambit/ztunnel:1.2.3", "1.2.3"),
            ("localhost:5000/ambit/ztunnel", "latest"),
            ("ztunnel:1@sha256:abc", "1"),
        ] {
            assert_eq!(tag(image), version, "{image}");
        }
    }

    #[test]
    fn a_part_that_ends_is_not_ready_and_one_that_waits_says_why() {
        let pod = |deleted: Value, state: Value| {
            json!({
                "metadata": {"name": "z", "namespace": "istio-system", "deletionTimestamp": deleted},
                "spec": {"nodeName": "n1", "containers": [{"image": "a/z:1"}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"restartCount": 2, "state": state}]},
            })
        };
        let running = Part::of(&pod(Value::Null, json!({"running": {}})));
        assert!(running.ready);
        assert_eq!((running.phase.as_str(), running.version.as_str(), running.restarts), ("Running", "1", 2));
        let ending = Part::of(&pod(json!("2026-01-01T00:00:00Z"), json!({})));
        assert_eq!((ending.ready, ending.phase.as_str()), (false, "Terminating"));
        let waiting = Part::of(&pod(Value::Null, json!({"waiting": {"reason": "ImagePullBackOff"}})));
        assert_eq!(waiting.phase, "ImagePullBackOff");
    }
}
