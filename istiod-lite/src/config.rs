//! The command line; every flag is also an environment variable.

mod given;
mod waypoint;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_cluster::{ObjectRef, overlay};
use ambit_model::name::TrustDomain;
use ambit_process::config::duration;
use clap::{Args, Parser, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::ca::keeper::Place;
use crate::ca::root::Recipe;
use crate::deploy::plan::Template;
use crate::mesh::Mesh;
use crate::origin::Kubernetes;
use crate::trust::{self, Trust};
use crate::vips::Ranges;

pub use given::{Given, Unset};
pub use waypoint::Waypoint;

/// The mesh's control plane.
#[derive(Debug, Parser)]
#[command(name = "istiod-lite", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve discovery and certificates.
    Run(Box<Run>),
    /// Print everything that would be sent, as JSON.
    Dump(Dump),
}

/// Where the cluster is read from, and what the mesh is called.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// A directory of Kubernetes manifests (for dump, also one file) instead of a Kubernetes API.
    #[arg(long, env = "SOURCE", value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// Where the mesh writes; beside the source by default.
    #[arg(long, env = "OVERLAY", value_name = "DIR")]
    pub overlay: Option<PathBuf>,
    /// The trust domain of identities.
    /// That of the mesh's config map by default, else cluster.local; if both are named they have to be the same.
    #[arg(long, env = "TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// The domain of service names.
    #[arg(long, env = "DOMAIN", default_value = "cluster.local")]
    pub domain: String,
    /// The namespace whose policies are for everyone.
    #[arg(long, env = "ROOT_NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The cluster's id.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Which of several control planes this is; objects with another revision's label are left to that.
    #[arg(long, env = "REVISION", default_value = "")]
    pub revision: String,
}

impl Cluster {
    /// Where the mesh writes what a directory is overlaid with.
    #[must_use]
    pub fn overlay(&self, source: &Path) -> PathBuf {
        self.overlay.clone().unwrap_or_else(|| overlay::beside(source))
    }

    /// The name of the config map with the mesh's configuration.
    #[must_use]
    pub fn mesh_config(&self) -> String {
        if self.revision.is_empty() { "istio".into() } else { format!("istio-{}", self.revision) }
    }

    /// Mesh-wide settings.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        Mesh {
            trust: Trust::new(self.trust_domain.clone()),
            domain: self.domain.clone(),
            root_namespace: self.root_namespace.clone(),
            system_namespace: self.root_namespace.clone(),
            cluster: self.cluster_id.as_str().into(),
            revision: self.revision.clone(),
            // A directory has read everything.
            secrets: self.source.is_some(),
            ..Mesh::default()
        }
    }
}

/// Serve discovery and certificates.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The Kubernetes API.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
    /// Where the root certificate and its key are kept.
    #[arg(long, env = "STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// A folder with ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem (or tls.crt, tls.key and ca.crt) to
    /// sign with, and with revocation lists in ca-crl.pem; read again when they change. While it is empty, a root of
    /// our own signs. Whatever follows is announced before it signs, also over restarts.
    #[arg(long, env = "ROOT_CA_DIR", value_name = "DIR")]
    pub cacerts: Option<PathBuf>,
    /// What somebody else gives in place of our own authority.
    #[command(flatten)]
    pub given: Given,
    /// How long a root of our own lives; another one follows when a fifth of that is left.
    #[arg(
        long,
        env = "CITADEL_SELF_SIGNED_CA_CERT_TTL",
        value_name = "TIME",
        default_value = "87600h",
        value_parser = duration
    )]
    pub root_lifetime: Duration,
    /// How long a new root is announced, at least, before certificates are signed under it.
    #[arg(long, env = "ROOT_OVERLAP", value_name = "TIME", default_value = "48h", value_parser = duration)]
    pub root_overlap: Duration,
    /// The public key (PEM) of whoever signs service account tokens; in a cluster the API server is asked instead.
    #[arg(long, env = "TOKEN_KEY", value_name = "FILE")]
    pub token_key: Option<PathBuf>,
    /// Discovery without TLS. Whoever reaches it may read everything.
    #[arg(long, env = "GRPC_ADDR", default_value = "127.0.0.1:15010")]
    pub grpc_addr: SocketAddr,
    /// Discovery and certificates over TLS.
    #[arg(long, env = "SECURE_GRPC_ADDR", default_value = "[::]:15012")]
    pub secure_grpc_addr: SocketAddr,
    /// Admission of objects, over HTTPS; in a cluster [::]:15017 by default, with a directory nowhere.
    #[arg(long, env = "HTTPS_ADDR", value_name = "ADDRESS")]
    pub https_addr: Option<SocketAddr>,
    /// A validating webhook configuration whose webhooks are served here; the leader keeps our roots in it. By
    /// default istio-validator-<namespace>, with the revision before the namespace, and istiod-default-validator.
    #[arg(long = "webhook", env = "VALIDATION_WEBHOOKS", value_name = "NAME", value_delimiter = ',')]
    pub webhooks: Vec<String>,
    /// Readiness and dumps.
    #[arg(long, env = "HTTP_ADDR", default_value = "127.0.0.1:8080")]
    pub http_addr: SocketAddr,
    /// Metrics.
    #[arg(long, env = "MONITORING_ADDR", default_value = "127.0.0.1:15014")]
    pub monitoring_addr: SocketAddr,
    /// A further name or address that clients know this server by.
    #[arg(long = "host", env = "HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Whether hosts of service entries without addresses are given some.
    #[arg(
        long,
        env = "PILOT_ENABLE_IP_AUTOALLOCATE",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub auto_addresses: bool,
    /// Where addresses of IPv4 for them are taken from.
    #[arg(
        long,
        env = "PILOT_IP_AUTOALLOCATE_IPV4_PREFIX",
        value_name = "CIDR",
        default_value = "240.240.0.0/16"
    )]
    pub auto_range_v4: Ipv4Net,
    /// Where addresses of IPv6 for them are taken from.
    #[arg(
        long,
        env = "PILOT_IP_AUTOALLOCATE_IPV6_PREFIX",
        value_name = "CIDR",
        default_value = "2001:2::/48"
    )]
    pub auto_range_v6: Ipv6Net,
    /// Accounts that may ask for certificates of the pods on their node.
    #[arg(
        long = "trusted-node-account",
        env = "CA_TRUSTED_NODE_ACCOUNTS",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        default_value = "istio-system/ztunnel"
    )]
    pub trusted: Vec<String>,
    /// Further accounts that may read the whole mesh, beside those that may ask for certificates of their node's
    /// pods; * for any account.
    #[arg(long = "reader", env = "XDS_READERS", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    pub readers: Vec<String>,
    /// Whether secrets are read that DestinationRules name (credentialName), each by its name, in the namespaces of the
    /// waypoints that the rules are for. Those of a directory always are.
    #[arg(
        long,
        env = "READ_SECRETS",
        value_name = "BOOL",
        default_value_t = false,
        action = clap::ArgAction::Set
    )]
    pub read_secrets: bool,
    /// Waypoints.
    #[command(flatten)]
    pub waypoint: Waypoint,
}

impl Run {
    /// The namespace of this control plane: of its lease and of the mesh's configuration.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let own = Some(self.kubernetes.pod_namespace.as_str()).filter(|it| !it.is_empty());
        own.filter(|_| self.cluster.source.is_none()).unwrap_or(&self.cluster.root_namespace)
    }

    /// The mesh's config map.
    #[must_use]
    pub fn config_map(&self) -> ObjectRef {
        trust::config_map(self.namespace(), &self.cluster.mesh_config())
    }

    /// Mesh-wide settings, with the trust domain that was decided.
    #[must_use]
    pub fn mesh(&self, trust: Trust) -> Mesh {
        let mesh = self.cluster.mesh();
        let secrets = mesh.secrets || self.read_secrets;
        Mesh { trust, system_namespace: self.namespace().into(), secrets, ..mesh }
    }

    /// What waypoints that are deployed here have in common; none are, without an image.
    #[must_use]
    pub fn waypoints(&self, domain: &TrustDomain) -> Option<Template> {
        let Waypoint { image, pod, control_plane } = &self.waypoint;
        let Cluster { domain: names, cluster_id, revision, .. } = &self.cluster;
        let suffix = if revision.is_empty() { String::new() } else { format!("-{revision}") };
        let usual = || format!("https://istiod{suffix}.{}.svc:15012", self.namespace());
        (!image.is_empty()).then(|| Template {
            image: image.clone(),
            pod: pod.clone(),
            control_plane: Some(control_plane.clone()).filter(|it| !it.is_empty()).unwrap_or_else(usual),
            domain: names.clone(),
            trust_domain: domain.to_string(),
            cluster: cluster_id.clone(),
            revision: revision.clone(),
        })
    }

    /// Where signing material comes from.
    #[must_use]
    pub fn signing(&self, domain: TrustDomain) -> Place {
        let recipe = Recipe { domain, lifetime: self.root_lifetime, overlap: self.root_overlap };
        Place { state: self.state.clone(), plugged: self.cacerts.clone(), recipe }
    }

    /// Accounts that may read the mesh.
    #[must_use]
    pub fn readers(&self) -> Vec<String> {
        self.trusted.iter().chain(&self.readers).cloned().collect()
    }

    /// Where addresses for hosts of service entries are taken from; none: they are given none.
    #[must_use]
    pub fn ranges(&self) -> Option<Ranges> {
        self.auto_addresses.then_some(Ranges { v4: self.auto_range_v4, v6: self.auto_range_v6 })
    }

    /// Where admission is asked for; nowhere without an API server that would.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        let usual = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 15017));
        self.https_addr.or_else(|| self.cluster.source.is_none().then_some(usual))
    }

    /// The configurations of the webhooks that are served here.
    #[must_use]
    pub fn hooks(&self) -> Vec<String> {
        if !self.webhooks.is_empty() {
            return self.webhooks.clone();
        }
        let (namespace, revision) = (self.namespace(), self.cluster.revision.as_str());
        let own = match revision {
            "" => format!("istio-validator-{namespace}"),
            revision => format!("istio-validator-{revision}-{namespace}"),
        };
        vec![own, "istiod-default-validator".into()]
    }

    /// The names in the serving certificate: of the service, in the namespace of the control plane and in that
    /// which clients take for it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let Cluster { root_namespace: root, domain, revision, .. } = &self.cluster;
        let mut services = vec!["istiod".to_owned(), "istio-pilot".into()];
        services.extend((!revision.is_empty()).then(|| format!("istiod-{revision}")));
        let mut namespaces = vec![root.as_str(), self.namespace()];
        namespaces.dedup();
        let mut names = Vec::new();
        for (namespace, service) in
            namespaces.iter().flat_map(|it| services.iter().map(move |name| (it, name)))
        {
            names.extend([
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.{domain}"),
            ]);
        }
        names.push("localhost".into());
        names.extend(self.hosts.iter().cloned());
        names
    }
}

/// Print everything that would be sent, as JSON.
#[derive(Debug, Clone, Args)]
pub struct Dump {
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Only the workloads of this node, with all services and policies.
    #[arg(long, env = "NODE", value_name = "NAME")]
    pub node: Option<String>,
}
