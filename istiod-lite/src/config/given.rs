//! Settings of what somebody else gives in place of our own authority: its signatures, a serving certificate, roots.
//! Owns those settings only, and which of upstream's are refused.

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
    /// Refused: certificates are not requested of the Kubernetes API.
    #[arg(long = "external-ca", env = "EXTERNAL_CA", hide = true, default_value = "", value_parser = nobody)]
    pub external: Unset,
    /// Refused unless false: a root of our own is kept in one place.
    #[arg(
        long = "cacerts-for-self-signed-ca",
        env = "USE_CACERTS_FOR_SELF_SIGNED_CA",
        hide = true,
        default_value = "",
        value_parser = one_place
    )]
    pub in_cacerts: Unset,
}

/// A setting of upstream's that has no effect here, and may therefore only say that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unset;

fn nobody(value: &str) -> Result<Unset, &'static str> {
    let remedy = "certificates are not requested of the Kubernetes API; unset it, and for its signers set \
                  ENABLE_CA_SERVER=false and install cert-manager's istio-csr, or give what to sign with in cacerts";
    if value.is_empty() { Ok(Unset) } else { Err(remedy) }
}

fn one_place(value: &str) -> Result<Unset, &'static str> {
    let remedy = "a root of our own is kept in the secret istio-ca-secret and nowhere else; unset it, and to sign with \
                  a root that is in cacerts already, mount that (ROOT_CA_DIR)";
    let is_off = ["", "0", "f", "false", "off", "no", "n"].contains(&value.to_lowercase().as_str());
    if is_off { Ok(Unset) } else { Err(remedy) }
}

impl Given {
    /// The serving certificate to show, if it is somebody else's.
    #[must_use]
    pub fn serving(&self) -> Option<Files> {
        let files = Files { certificate: self.certificate.clone(), key: self.key.clone() };
        (!self.signs || files.are_there()).then_some(files)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::config::Cli;

    #[test]
    fn modes_of_signing_that_are_not_there_are_refused_with_what_to_do_instead() {
        let read = |flag: &str| {
            let flags = ["istiod-lite", "run", "--state=/nowhere", "--source=/nowhere", flag];
            Cli::try_parse_from(flags).map(drop).map_err(|error| error.to_string())
        };
        for (flag, remedy) in [
            ("--external-ca=ISTIOD_RA_KUBERNETES_API", "ENABLE_CA_SERVER=false"),
            ("--external-ca=anything", "istio-csr"),
            ("--cacerts-for-self-signed-ca=true", "istio-ca-secret"),
            ("--cacerts-for-self-signed-ca=1", "ROOT_CA_DIR"),
        ] {
            let said = read(flag).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(said.contains(name) && said.contains(remedy), "{flag}: {said}");
        }
        for flag in ["--external-ca=", "--cacerts-for-self-signed-ca=false", "--cacerts-for-self-signed-ca="]
        {
            assert_eq!(read(flag), Ok(()), "{flag}");
        }
    }
}
