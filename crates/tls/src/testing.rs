//! A certificate authority for this crate's tests, and certificates good and bad.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_model::name::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

use crate::credential::{Credential, Material, Terms};

/// Longer than these tests are kept.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The calendar's time in tests: the start of 2025.
pub(crate) fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_735_689_600)
}

/// A root that signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Chain, key and roots as PEM.
pub(crate) struct Pem {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) roots: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A root of that name: lists are matched with their authority by it.
    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A revocation list, as PEM.
    pub(crate) fn list(&self, params: &rcgen::CertificateRevocationListParams) -> String {
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub(crate) fn root(&self) -> String {
        self.0.pem()
    }

    /// A leaf with these names, valid for `life` from [`wall`] on.
    pub(crate) fn leaf(&self, names: Vec<SanType>, life: Duration) -> Pem {
        self.leaf_from(wall(), names, life)
    }

    /// A leaf with these names, valid for `life` from `began` on.
    pub(crate) fn leaf_from(&self, began: SystemTime, names: Vec<SanType>, life: Duration) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = began.into();
        params.not_after = params.not_before + life;
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Pem { chain: leaf.pem(), key: key.serialize_pem(), roots: self.root() }
    }

    pub(crate) fn sign(&self, mut request: rcgen::CertificateSigningRequestParams) -> String {
        request.params.not_after = request.params.not_before + CENTURY;
        request.signed_by(&self.0).unwrap().pem()
    }

    pub(crate) fn workload(&self, identity: &str) -> Pem {
        self.leaf(vec![uri(identity)], CENTURY)
    }

    pub(crate) fn credential(&self, identity: &str) -> Credential {
        self.workload(identity).credential(&Terms::default())
    }
}

impl Pem {
    pub(crate) fn credential(&self, terms: &Terms) -> Credential {
        let material = Material::from_pem(self.chain.as_bytes(), self.key.as_bytes(), self.roots.as_bytes());
        Credential::new(material.unwrap(), terms).unwrap()
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn identity(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}
