//! What is configured for the mesh as a whole: by flags, and over them by the mesh's config map.

use ambit_cluster::kinds::collector::Tracing;
use ambit_cluster::kinds::line::AccessLog;
use ambit_cluster::kinds::mesh::{EntryVisibility, MeshConfig, Visible};
use ambit_cluster::kinds::meta::{LabelSelector, Texts};
use ambit_cluster::kinds::provider::ExtensionProvider;
use ambit_model::name::{ClusterId, TrustDomain};
use ambit_model::telemetry::HeaderWords;

use crate::trust::Trust;

/// Mesh-wide settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Who vouches for identities.
    pub trust: Trust,
    /// Trust domains whose accounts policies take for those of the own one.
    pub aliases: Vec<TrustDomain>,
    /// Services are named `<name>.<namespace>.svc.<domain>`.
    pub domain: String,
    /// The namespace whose policies are for everyone.
    pub root_namespace: String,
    /// The namespace of the control plane: its labels name the network, its config map configures the mesh.
    pub system_namespace: String,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Which of several control planes this is; empty: the only one.
    pub revision: String,
    /// Which namespaces are looked at; empty: all.
    pub discovery: Vec<LabelSelector>,
    /// Who may see which service entries; none: everybody all of them.
    pub visibility: Option<EntryVisibility>,
    /// Services that waypoints ask or tell about requests.
    pub providers: Vec<ExtensionProvider>,
    /// Which of them collect spans of all requests.
    pub collectors: Vec<String>,
    /// Which requests spans are kept of, and what they say.
    pub tracing: Tracing,
    /// Lines of access logs, where nobody says otherwise.
    pub access_log: AccessLog,
    /// Which providers are told of all requests by lines.
    pub loggers: Vec<String>,
    /// Headers that waypoints add, where they are not the usual ones.
    pub headers: HeaderWords,
    /// Whether secrets are read that destination rules name.
    pub secrets: bool,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            aliases: Vec::new(),
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            system_namespace: "istio-system".into(),
            cluster: "Kubernetes".into(),
            revision: String::new(),
            discovery: Vec::new(),
            visibility: None,
            providers: Vec::new(),
            collectors: Vec::new(),
            tracing: Tracing::default(),
            access_log: AccessLog::default(),
            loggers: Vec::new(),
            headers: HeaderWords::default(),
            secrets: false,
        }
    }
}

impl Mesh {
    /// The name of the config map that configures it.
    #[must_use]
    pub fn config_map(&self) -> String {
        if self.revision.is_empty() { "istio".into() } else { format!("istio-{}", self.revision) }
    }

    /// These settings with what a config map says laid over them.
    #[must_use]
    pub fn with(&self, config: MeshConfig) -> Self {
        let MeshConfig {
            trust_domain,
            trust_domain_aliases,
            root_namespace,
            discovery_selectors,
            service_entry_visibility,
            extension_providers,
            default_providers,
            default_config,
            access_log,
        } = config;
        let mut mesh = self.clone();
        mesh.trust = self.trust.saying(trust_domain.and_then(|it| it.parse().ok()));
        // One that does not read never comes this far.
        mesh.aliases = trust_domain_aliases.iter().filter_map(|it| it.parse().ok()).collect();
        if let Some(namespace) = root_namespace.filter(|it| !it.is_empty()) {
            mesh.root_namespace = namespace;
        }
        mesh.discovery = discovery_selectors;
        mesh.visibility = service_entry_visibility;
        mesh.providers = extension_providers;
        mesh.collectors = default_providers.tracing;
        mesh.tracing = default_config.tracing;
        // One that does not read never comes this far.
        mesh.headers = default_config.proxy_headers.words().unwrap_or_default();
        mesh.access_log = access_log;
        mesh.loggers = default_providers.access_logging;
        mesh
    }

    /// Whether a namespace with these labels is looked at.
    #[must_use]
    pub fn discovers(&self, labels: &Texts) -> bool {
        self.discovery.is_empty() || self.discovery.iter().any(|it| it.selects(labels))
    }

    /// For whom the service entries of a namespace with these labels are; none when that is not configured.
    #[must_use]
    pub fn visibility(&self, labels: &Texts) -> Option<Visible> {
        let rules = self.visibility.as_ref()?;
        let applies = rules
            .policies
            .iter()
            .find(|it| it.matching_rules.iter().all(|it| it.namespace_selector.selects(labels)));
        let said = applies.map_or(rules.default_visibility, |it| it.visibility);
        Some(if said == Visible::Unspecified { Visible::Public } else { said })
    }
}
