//! A company's own authority: a root, and an intermediate that the mesh is given to sign with.

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::SYSTEM;
use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// What of it goes into the secret.
pub(crate) struct Company {
    root: String,
    intermediate: String,
    key: String,
}

impl Company {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let above = KeyPair::generate()?;
        let params = authority(&format!("{name} root"), BasicConstraints::Unconstrained);
        let root = params.self_signed(&above)?.pem();
        let key = KeyPair::generate()?;
        let below = authority(&format!("{name} mesh"), BasicConstraints::Constrained(0));
        let intermediate = below.signed_by(&key, &Issuer::new(params, above))?.pem();
        Ok(Self { root, intermediate, key: key.serialize_pem() })
    }

    /// Puts it into the secret that the documents name, as upstream's documents describe its files.
    pub(crate) fn is_given(&self, lab: &Lab) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "cacerts", "namespace": SYSTEM },
            "stringData": {
                "ca-cert.pem": self.intermediate,
                "ca-key.pem": self.key,
                "root-cert.pem": self.root,
                "cert-chain.pem": format!("{}{}", self.intermediate, self.root),
            },
        });
        lab.apply(&secret.to_string())
    }

    /// Whether a text of certificates has the root in it.
    pub(crate) fn is_told_in(&self, text: &str) -> bool {
        has(text, &self.root)
    }

    /// Whether it is this one that has signed, by a chain of certificates.
    pub(crate) fn has_signed(&self, chain: &str) -> bool {
        has(chain, &self.intermediate)
    }
}

/// However its lines end.
fn has(text: &str, certificate: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    plain(text).contains(&plain(certificate))
}

fn authority(name: &str, reach: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(reach);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
