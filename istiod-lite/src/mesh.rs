//! What is configured for the mesh as a whole.

use ambit_model::name::{ClusterId, TrustDomain};

/// Mesh-wide settings.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// Who vouches for identities.
    pub trust_domain: TrustDomain,
    /// Services are named `<name>.<namespace>.svc.<domain>`.
    pub domain: String,
    /// The namespace whose policies are for everyone, and whose labels name the network.
    pub root_namespace: String,
    /// The cluster's id.
    pub cluster: ClusterId,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            cluster: "Kubernetes".into(),
        }
    }
}
