//! A certificate authority for one test, and leaves with the identities a test asks for.

use std::fs;
use std::path::Path;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

/// A root and its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
}

/// A certificate for one identity, with its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The chain without the root.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
    /// The root that vouches for it.
    pub root_pem: String,
    /// By what it is revoked.
    pub serial: SerialNumber,
}

impl Authority {
    /// A new root.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "ambit test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), root_pem }
    }

    /// The root certificate.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A leaf whose only name is this URI, for example `spiffe://cluster.local/ns/shop/sa/web`.
    #[must_use]
    pub fn issue(&self, identity: &str) -> Leaf {
        self.leaf(SanType::URI(Ia5String::try_from(identity).expect("an ASCII identity")))
    }

    /// A leaf whose only name is this host.
    #[must_use]
    pub fn issue_host(&self, host: &str) -> Leaf {
        self.leaf(SanType::DnsName(Ia5String::try_from(host).expect("an ASCII name")))
    }

    fn leaf(&self, name: SanType) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        // Out of the key, so that no two leaves share it; RFC 5280, 4.1.2.2: positive.
        let mut serial = key.public_key_raw()[1..17].to_vec();
        serial[0] &= 0x7f;
        let serial = SerialNumber::from(serial);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("a leaf");
        Leaf {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            root_pem: self.root_pem.clone(),
            serial,
        }
    }

    /// The key of a signing request, certified for this URI.
    ///
    /// # Panics
    /// When it is no signing request.
    #[must_use]
    pub fn sign(&self, csr: &str, identity: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).expect("a signing request");
        let name = Ia5String::try_from(identity).expect("an ASCII identity");
        request.params.subject_alt_names = vec![SanType::URI(name)];
        request.signed_by(&self.issuer).expect("a leaf").pem()
    }

    /// A revocation list, as PEM.
    #[must_use]
    pub fn revoke(&self, leaves: &[SerialNumber]) -> String {
        let began = rcgen::date_time_ymd(2025, 1, 1);
        let revoked = |serial: &SerialNumber| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: began,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: began,
            next_update: rcgen::date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: leaves.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaf {
    /// Writes it as a directory of identity files: `cert-chain.pem`, `key.pem`, `root-cert.pem`.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("a directory for an identity");
        for (name, text) in [
            ("cert-chain.pem", &self.chain_pem),
            ("key.pem", &self.key_pem),
            ("root-cert.pem", &self.root_pem),
        ] {
            fs::write(dir.join(name), text).expect("an identity file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_written_as_the_files_a_proxy_reads() {
        let dir = tempfile::tempdir().unwrap();
        Authority::new().issue("spiffe://cluster.local/ns/shop/sa/web").write(dir.path());
        for name in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
            assert!(fs::read_to_string(dir.path().join(name)).unwrap().starts_with("-----BEGIN "), "{name}");
        }
    }
}
