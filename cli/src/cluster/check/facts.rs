//! What a cluster says of itself, as far as this account may read it. Owns the asking; judges nothing.

use ambit_cluster::api::{ApiError, Client};
use serde_json::{Value, json};

use super::text_at;

/// What installing needs to be allowed: verb, group, resource, and whether in the mesh's namespace only.
const RIGHTS: [(&str, &str, &str, bool); 14] = [
    ("create", "", "namespaces", false),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions", false),
    ("create", "rbac.authorization.k8s.io", "clusterroles", false),
    // Whoever makes a role must have every right in it, or this one.
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", false),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("create", "admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
    ("create", "rbac.authorization.k8s.io", "roles", true),
    ("create", "rbac.authorization.k8s.io", "rolebindings", true),
    ("create", "apps", "deployments", true),
    ("create", "apps", "daemonsets", true),
    ("create", "", "services", true),
    ("create", "", "serviceaccounts", true),
    ("create", "", "configmaps", true),
    // Helm keeps its releases in secrets.
    ("create", "", "secrets", true),
];

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Where the mesh is, or is to be.
    pub(crate) namespace: String,
    pub(crate) revision: String,
    /// As the API server says it, for example `v1.34.4`.
    pub(crate) version: String,
    /// Groups of the API.
    pub(crate) groups: Vec<String>,
    pub(crate) nodes: Vec<Value>,
    pub(crate) namespaces: Vec<Value>,
    pub(crate) daemon_sets: Vec<Value>,
    pub(crate) deployments: Vec<Value>,
    pub(crate) network_policies: Vec<Value>,
    pub(crate) definitions: Vec<Value>,
    pub(crate) webhooks: Vec<Value>,
    /// Pods of namespaces in the mesh, and pods that are by themselves.
    pub(crate) members: Vec<Value>,
    /// Settings of networks that matter, where these are installed.
    pub(crate) cilium: Option<Value>,
    pub(crate) felix: Option<Value>,
    /// What this account may not do of what an installation does.
    pub(crate) missing_rights: Vec<String>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<(&'static str, String)>,
}

impl Facts {
    /// Asks the cluster.
    ///
    /// # Errors
    /// When it does not answer, or does not know this account.
    pub(crate) async fn gather(client: &Client, namespace: &str, revision: &str) -> Result<Self, ApiError> {
        let version: Value = client.read("/version").await?;
        let groups: Value = client.read("/apis").await?;
        let groups = super::list_at(&groups, "/groups").iter().map(|it| text_at(it, "/name").to_owned());
        let mut facts = Self {
            namespace: namespace.to_owned(),
            revision: revision.to_owned(),
            version: text_at(&version, "/gitVersion").to_owned(),
            groups: groups.collect(),
            ..Self::default()
        };
        facts.nodes = facts.all(client, "nodes", "/api/v1/nodes").await?;
        facts.namespaces = facts.all(client, "namespaces", "/api/v1/namespaces").await?;
        facts.daemon_sets = facts.all(client, "daemonsets", "/apis/apps/v1/daemonsets").await?;
        facts.deployments = facts.all(client, "deployments", "/apis/apps/v1/deployments").await?;
        let policies = "/apis/networking.k8s.io/v1/networkpolicies";
        facts.network_policies = facts.all(client, "networkpolicies", policies).await?;
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        facts.definitions = facts.all(client, "customresourcedefinitions", definitions).await?;
        let hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        facts.webhooks = facts.all(client, "mutatingwebhookconfigurations", hooks).await?;
        facts.members = facts.all_members(client).await?;
        facts.networks(client).await?;
        facts.missing_rights = missing_rights(client, namespace).await?;
        Ok(facts)
    }

    /// A list; where this account may not read it, that is kept instead.
    async fn all(&mut self, client: &Client, what: &'static str, path: &str) -> Result<Vec<Value>, ApiError> {
        match client.list(path, &[]).await {
            Ok(all) => Ok(all),
            Err(ApiError::Forbidden { message }) => {
                self.unread.push((what, message));
                Ok(Vec::new())
            }
            Err(ApiError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn all_members(&mut self, client: &Client) -> Result<Vec<Value>, ApiError> {
        let named = |it: &Value| text_at(it, "/metadata/name").to_owned();
        let all = self.namespaces.iter().filter(|it| super::label(it, MODE) == "ambient").map(named);
        let mut pods = Vec::new();
        for namespace in all.collect::<Vec<_>>() {
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            pods.extend(self.all(client, "pods", &path).await?);
        }
        Ok(pods)
    }

    async fn networks(&mut self, client: &Client) -> Result<(), ApiError> {
        let cilium = self.daemon_sets.iter().find(|it| text_at(it, "/metadata/name") == "cilium");
        if let Some(namespace) = cilium.map(|it| text_at(it, "/metadata/namespace").to_owned()) {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/cilium-config");
            self.cilium = there(client.read(&path).await)?;
        }
        if self.groups.iter().any(|group| group == "crd.projectcalico.org") {
            let path = "/apis/crd.projectcalico.org/v1/felixconfigurations/default";
            self.felix = there(client.read(path).await)?;
        }
        Ok(())
    }
}

/// The label that puts namespaces and pods into the mesh.
pub(crate) const MODE: &str = "istio.io/dataplane-mode";

/// An object that need not be there, nor be readable.
fn there(answer: Result<Value, ApiError>) -> Result<Option<Value>, ApiError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(ApiError::NotFound { .. } | ApiError::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn missing_rights(client: &Client, namespace: &str) -> Result<Vec<String>, ApiError> {
    let mut missing = Vec::new();
    for (verb, group, resource, inside) in RIGHTS {
        let mut attributes = json!({"verb": verb, "group": group, "resource": resource});
        if inside && let Some(fields) = attributes.as_object_mut() {
            fields.insert("namespace".into(), namespace.into());
        }
        let asked = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = client.create(path, &asked).await?;
        if answer.pointer("/status/allowed") != Some(&Value::Bool(true)) {
            let place = if inside { format!(" in {namespace}") } else { String::new() };
            let group = if group.is_empty() { String::new() } else { format!(".{group}") };
            missing.push(format!("{verb} {resource}{group}{place}"));
        }
    }
    Ok(missing)
}
