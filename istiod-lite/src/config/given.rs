//! Settings of what somebody else gives in place of our own authority: its signatures, a serving certificate, roots.
//! Owns those settings only.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::serve::Files;

/// What somebody else gives.
#[derive(Debug, Clone, Args)]
pub struct Given {
    /// Whether certificates are signed here, and the roots told to all namespaces.
    /// If not, somebody else does both (cert-manager's istio-csr, for example), and gives the serving certificate.
    #[arg(
        long = "ca",
        env = "ENABLE_CA_SERVER",
        value_name = "BOOL",
        default_value = "true",
        value_parser = BoolishValueParser::new(),
        action = clap::ArgAction::Set
    )]
    pub signs: bool,
    /// The serving certificate with its chain, read again when it changes.
    /// Where there is none, one is signed here.
    #[arg(
        long = "tls-cert",
        alias = "tlsCertFile",
        env = "TLS_CERT_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/istiod/tls/tls.crt"
    )]
    pub certificate: PathBuf,
    /// The serving certificate's key.
    #[arg(
        long = "tls-key",
        alias = "tlsKeyFile",
        env = "TLS_KEY_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/istiod/tls/tls.key"
    )]
    pub key: PathBuf,
    /// The roots that prove the serving certificate, for webhook configurations; read again when they change.
    #[arg(
        long = "tls-roots",
        alias = "caCertFile",
        env = "TLS_ROOTS_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/istiod/ca/root-cert.pem"
    )]
    pub roots: PathBuf,
    /// Whether the roots are kept in a ClusterTrustBundle as well, where the cluster's API has such objects.
    #[arg(
        long = "cluster-trust-bundle",
        env = "ENABLE_CLUSTER_TRUST_BUNDLE_API",
        value_name = "BOOL",
        default_value = "true",
        value_parser = BoolishValueParser::new(),
        action = clap::ArgAction::Set
    )]
    pub trust_bundle: bool,
}

impl Given {
    /// The serving certificate to show, if it is somebody else's.
    #[must_use]
    pub fn serving(&self) -> Option<Files> {
        let files = Files { certificate: self.certificate.clone(), key: self.key.clone() };
        (!self.signs || files.are_there()).then_some(files)
    }
}
