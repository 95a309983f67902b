//! The daemon set whose pod a program is: whether it is to go on on this node. Owns the question and what the answer
//! means; what follows from it is the program's.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::api::client::Client;
use crate::api::error::ApiError;

/// What is to become of a daemon set's pod on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    /// Another pod follows it, sooner or later.
    Stays,
    /// The set is deleted, or about to be.
    Gone,
    /// The set goes on, but its required affinity leaves the node out.
    Elsewhere,
}

impl Client {
    /// What is to become of the pod of the daemon set `(namespace, name)` on a node. A node that is itself gone
    /// changes nothing.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn fleet(&self, (namespace, name): (&str, &str), node: &str) -> Result<Fleet, ApiError> {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}");
        let set = match Box::pin(self.get::<DaemonSet>(&path)).await {
            Err(ApiError::NotFound { name: Some(_) }) => return Ok(Fleet::Gone),
            set => set?,
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Fleet::Gone);
        }
        let Some(required) = required(set) else { return Ok(Fleet::Stays) };
        let node = match Box::pin(self.get::<Node>(&format!("/api/v1/nodes/{node}"))).await {
            Err(ApiError::NotFound { name: Some(_) }) => return Ok(Fleet::Stays),
            node => node?,
        };
        Ok(if admits(&required, &node) { Fleet::Stays } else { Fleet::Elsewhere })
    }
}

fn required(set: DaemonSet) -> Option<NodeSelector> {
    let affinity = set.spec?.template.spec?.affinity?.node_affinity?;
    affinity.required_during_scheduling_ignored_during_execution
}

fn admits(required: &NodeSelector, node: &Node) -> bool {
    required.node_selector_terms.iter().any(|term| matches(term, node))
}

/// A term that demands nothing matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let has_any = labels.clone().next().is_some() || fields.clone().next().is_some();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == "metadata.name");
    has_any && labels.into_iter().all(|it| holds(it, label(&it.key))) && {
        fields.into_iter().all(|it| holds(it, field(&it.key)))
    }
}

fn holds(demand: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = demand.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|it| it == value));
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let numbers = (number(value), number(values.first().map(String::as_str)));
    match (demand.operator.as_str(), numbers) {
        ("In", _) => listed,
        ("NotIn", _) => !listed,
        ("Exists", _) => value.is_some(),
        ("DoesNotExist", _) => value.is_none(),
        ("Gt", (Some(value), Some(bound))) => value > bound,
        ("Lt", (Some(value), Some(bound))) => value < bound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::FakeApi;

    const SETS: &str = "/apis/apps/v1/daemonsets";

    fn set(affinity: &Value) -> Value {
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": affinity}});
        let pod = json!({"metadata": {}, "spec": {"affinity": affinity, "containers": []}});
        json!({
            "metadata": {"name": "istio-cni-node", "namespace": "mesh"},
            "spec": {"selector": {}, "template": pod},
        })
    }

    #[test]
    fn terms_are_alternatives_and_their_demands_all_have_to_hold() {
        let node: Node =
            from_value(json!({"metadata": {"name": "n1", "labels": {"os": "linux", "cores": "8"}}})).unwrap();
        let rule = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        for (demands, admitted) in [
            (vec![rule("os", "In", &["linux"])], true),
            (vec![rule("os", "In", &["linux"]), rule("gpu", "Exists", &[])], false),
            (vec![rule("os", "NotIn", &["linux"])], false),
            (vec![rule("gpu", "NotIn", &["x"]), rule("gpu", "DoesNotExist", &[])], true),
            (vec![rule("cores", "Gt", &["4"]), rule("cores", "Lt", &["16"])], true),
            (vec![rule("cores", "Gt", &["8"])], false),
            (vec![rule("os", "Like", &["linux"])], false),
            (Vec::new(), false),
        ] {
            let terms = json!({"nodeSelectorTerms": [{"matchExpressions": demands}]});
            assert_eq!(admits(&from_value(terms.clone()).unwrap(), &node), admitted, "{terms}");
        }
        let by_name = |name: &str| {
            let named = json!({"matchFields": [rule("metadata.name", "In", &[name])]});
            let other = json!({"matchExpressions": [rule("os", "In", &["windows"])]});
            from_value(json!({"nodeSelectorTerms": [other, named]})).unwrap()
        };
        assert!(admits(&by_name("n1"), &node) && !admits(&by_name("n2"), &node));
    }

    #[tokio::test]
    async fn a_set_that_is_deleted_or_leaves_the_node_out_does_not_stay() {
        let fake = FakeApi::start().await;
        let client = client(&fake).await;
        let ask = async || client.fleet(("mesh", "istio-cni-node"), "n1").await.unwrap();
        assert_eq!(ask().await, Fleet::Gone);
        fake.put(SETS, set(&Value::Null));
        assert_eq!(ask().await, Fleet::Stays);
        let linux = json!({"key": "os", "operator": "In", "values": ["linux"]});
        fake.put(SETS, set(&json!({"nodeSelectorTerms": [{"matchExpressions": [linux]}]})));
        assert_eq!(ask().await, Fleet::Stays, "the node is gone");
        fake.put("/api/v1/nodes", json!({"metadata": {"name": "n1", "labels": {"os": "linux"}}}));
        assert_eq!(ask().await, Fleet::Stays);
        fake.put("/api/v1/nodes", json!({"metadata": {"name": "n1"}}));
        assert_eq!(ask().await, Fleet::Elsewhere);
        let mut going = set(&Value::Null);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
        fake.put(SETS, going);
        assert_eq!(ask().await, Fleet::Gone);
    }
}
