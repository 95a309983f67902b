//! Waits until every part of a release runs as it was told to, and tells each step of it; says of one that does not
//! what keeps it. Owns looking and telling; what is done about it is the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ambit_cluster::api::{ApiError, Client};
use serde_json::Value;

use crate::cluster::check::{label, list_at, readiness, text_at};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// An image that cannot be had is tried again by the node, and seldom comes after this.
const HOPE: Duration = Duration::from_secs(20);
/// Reasons for which a container waits that do not pass by waiting.
const HOPELESS: [&str; 6] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];
/// Lines about what went wrong: the first ones say it.
const COMPLAINTS: usize = 12;

/// Which release, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'a> {
    pub(super) namespace: &'a str,
    pub(super) release: &'a str,
    /// The configuration of the control plane's webhooks, if there is one.
    pub(super) webhook: &'a str,
}

/// Why a release is not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum WaitError {
    #[error("not ready after {limit:?}:\n{what}")]
    Late { limit: Duration, what: String },
    #[error("it will not get ready:\n{what}")]
    Hopeless { what: String },
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Tells each step, with the time since the beginning.
#[derive(Debug)]
pub(super) struct Steps(Instant);

impl Steps {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    pub(super) fn tell(&self, step: &str) {
        println!("{:>6.1} s  {step}", self.0.elapsed().as_secs_f64());
    }
}

/// Waits until all parts are ready.
pub(super) async fn ready(
    client: &Client,
    watched: Watched<'_>,
    limit: Duration,
    steps: &Steps,
) -> Result<(), WaitError> {
    let begun = Instant::now();
    let mut told = BTreeMap::new();
    let mut hopeless_since: Option<Instant> = None;
    loop {
        let parts = parts(client, watched).await?;
        let mut all_ready = !parts.is_empty();
        for part in &parts {
            let name = text_at(part, "/metadata/name").to_owned();
            let ((ready, wanted), is_done) = (readiness(part), is_rolled_out(part));
            all_ready &= is_done;
            let word = if is_done || ready < wanted { "" } else { ", replacing" };
            let line = format!("{name:<18} {ready}/{wanted} ready{word}");
            if told.insert(name, line.clone()).as_ref() != Some(&line) {
                steps.tell(&line);
            }
        }
        if all_ready && is_believed(client, watched.webhook).await? {
            return Ok(());
        }
        let pods = pods(client, watched.namespace).await?;
        let is_hopeless = pods.iter().flat_map(waits).any(|(reason, _)| HOPELESS.contains(&reason));
        let since = hopeless_since.filter(|_| is_hopeless);
        hopeless_since = is_hopeless.then(|| since.unwrap_or_else(Instant::now));
        if hopeless_since.is_some_and(|since| since.elapsed() > HOPE) {
            return Err(WaitError::Hopeless { what: complaints(client, watched, &parts, &pods).await });
        }
        if begun.elapsed() > limit {
            return Err(WaitError::Late { limit, what: complaints(client, watched, &parts, &pods).await });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deployments and daemon sets of the release.
async fn parts(client: &Client, watched: Watched<'_>) -> Result<Vec<Value>, ApiError> {
    let mut all = Vec::new();
    for kind in ["deployments", "daemonsets"] {
        let path = format!("/apis/apps/v1/namespaces/{}/{kind}", watched.namespace);
        all.extend(client.list(&path, &[("labelSelector", "app.kubernetes.io/part-of=ambit")]).await?);
    }
    all.retain(|it| release(it) == watched.release);
    Ok(all)
}

/// The Helm release that an object is of.
pub(super) fn release(object: &Value) -> &str {
    text_at(object, "/metadata/annotations/meta.helm.sh~1release-name")
}

async fn pods(client: &Client, namespace: &str) -> Result<Vec<Value>, ApiError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    client.list(&path, &[("labelSelector", "app.kubernetes.io/part-of=ambit")]).await
}

/// Every pod is of the newest kind, and ready.
fn is_rolled_out(part: &Value) -> bool {
    let number = |place: &str| part.pointer(place).and_then(Value::as_u64).unwrap_or_default();
    let (ready, wanted) = readiness(part);
    let seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let by_hand = text_at(part, "/spec/updateStrategy/type") == "OnDelete";
    let new = if part.pointer("/status/desiredNumberScheduled").is_some() {
        number("/status/updatedNumberScheduled") >= wanted || by_hand
    } else {
        number("/status/updatedReplicas") >= wanted && number("/status/replicas") <= wanted
    };
    seen && new && ready >= wanted
}

/// The API server knows the roots of the webhooks' certificates: until then no policy can be stored.
async fn is_believed(client: &Client, webhook: &str) -> Result<bool, ApiError> {
    let path = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{webhook}");
    match client.read::<Value>(&path).await {
        Ok(object) => {
            let known = |hook: &Value| !text_at(hook, "/clientConfig/caBundle").is_empty();
            Ok(list_at(&object, "/webhooks").iter().all(known))
        }
        Err(ApiError::NotFound { .. } | ApiError::Forbidden { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Why containers of a pod wait, and what is said of it.
fn waits(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
    statuses.into_iter().flat_map(|place| list_at(pod, place)).filter_map(|container| {
        let reason = text_at(container, "/state/waiting/reason");
        (!reason.is_empty()).then(|| (reason, text_at(container, "/state/waiting/message")))
    })
}

/// What is known about parts that are not ready: their pods, and what has happened to these. An answer that fails
/// leaves out what it was about.
async fn complaints(client: &Client, watched: Watched<'_>, parts: &[Value], pods: &[Value]) -> String {
    let mut lines = Vec::new();
    for part in parts.iter().filter(|it| !is_rolled_out(it)) {
        let (ready, wanted) = readiness(part);
        lines.push(format!("  {} {ready}/{wanted} ready", text_at(part, "/metadata/name")));
    }
    let path = format!("/api/v1/namespaces/{}/events", watched.namespace);
    let events = client.list(&path, &[("fieldSelector", "type=Warning")]).await.unwrap_or_default();
    let late: BTreeSet<&str> = pods.iter().filter(|it| !is_ready(it)).map(name).collect();
    for pod in pods.iter().filter(|it| late.contains(name(it))) {
        let node = text_at(pod, "/spec/nodeName");
        let phase = text_at(pod, "/status/phase");
        lines.push(format!(
            "  pod {} on {}: {phase}",
            name(pod),
            if node.is_empty() { "no node" } else { node }
        ));
        lines.extend(
            waits(pod).map(|(reason, message)| format!("    {reason} {message}").trim_end().to_owned()),
        );
    }
    // Newest last, as the API lists them; of a part's own too, where no pod could be made at all.
    let own: BTreeSet<&str> = parts.iter().map(name).collect();
    for event in events.iter().rev() {
        let about = text_at(event, "/involvedObject/name");
        if late.contains(about) || own.contains(about) {
            let line = format!("  {about}: {}: {}", text_at(event, "/reason"), text_at(event, "/message"));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines.truncate(COMPLAINTS);
    lines.join("\n")
}

fn name(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = list_at(pod, "/status/conditions").iter();
    conditions.any(|it| text_at(it, "/type") == "Ready" && text_at(it, "/status") == "True")
}

/// Parts of any release of ours that nodes have only one of.
pub(super) fn is_shared(object: &Value) -> bool {
    label(object, "app.kubernetes.io/part-of") == "ambit"
        && ["istio-cni-node", "ztunnel"].contains(&text_at(object, "/metadata/name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_is_ready_when_all_its_pods_are_of_the_newest_kind() {
        let deployment =
            |status: Value| json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        let set = |status: Value| json!({"metadata": {"generation": 2}, "spec": {}, "status": status});
        let full = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2});
        let nodes = json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "numberReady": 2, "updatedNumberScheduled": 2});
        let with = |status: &Value, key: &str, value: u64| {
            let mut status = status.clone();
            status[key] = value.into();
            status
        };
        assert!(is_rolled_out(&deployment(full.clone())) && is_rolled_out(&set(nodes.clone())));
        for (key, value) in
            [("observedGeneration", 1), ("replicas", 3), ("readyReplicas", 1), ("updatedReplicas", 1)]
        {
            assert!(!is_rolled_out(&deployment(with(&full, key, value))), "{key}");
        }
        for (key, value) in [("observedGeneration", 1), ("numberReady", 1), ("updatedNumberScheduled", 1)] {
            assert!(!is_rolled_out(&set(with(&nodes, key, value))), "{key}");
        }
        let mut by_hand = set(with(&nodes, "updatedNumberScheduled", 0));
        by_hand["spec"] = json!({"updateStrategy": {"type": "OnDelete"}});
        assert!(is_rolled_out(&by_hand));
    }

    #[test]
    fn a_container_that_waits_says_why() {
        let waiting = json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}});
        let pod = json!({"status": {"containerStatuses": [{"state": {"running": {}}}, waiting]}});
        assert_eq!(waits(&pod).collect::<Vec<_>>(), [("ErrImagePull", "not found")]);
    }
}
