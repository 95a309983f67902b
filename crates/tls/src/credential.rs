//! One identity's certificate, key and roots, and the rustls configurations made of them, once.
//! Owns reading the material. When to get another is `vault`'s, from whom is `issue`'s.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_model::name::{Identity, TrustDomain};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::configs::hbone::{self, Checks};
use crate::configs::provider;
use crate::configs::{Accepting, Algorithms, Dialling, Revocations};
use crate::peer::{self, PeerError};

/// Certificates one chain or root bundle may hold; longer ones are refused.
const CERTIFICATES_MAX: usize = 64;

/// Why material is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A PEM text that does not read.
    #[error("the {what} is no readable PEM; give PEM blocks")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What the reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// A part is missing.
    #[error("there is no {what}; give at least one PEM block of it")]
    Missing {
        /// Which part.
        what: &'static str,
    },
    /// More certificates than are accepted.
    #[error("the {what} holds more than {CERTIFICATES_MAX} certificates")]
    TooMany {
        /// Which part.
        what: &'static str,
    },
    /// A certificate that does not decode.
    #[error("a certificate of the {what} does not decode")]
    Certificate {
        /// Which part.
        what: &'static str,
    },
    /// The leaf names no workload.
    #[error("the leaf certificate is no workload's")]
    Identity(#[from] PeerError),
    /// Key and certificate do not belong together, or are of a kind not supported.
    #[error("the key does not fit the certificate")]
    Key(#[source] rustls::Error),
    /// No root can be used, or rustls refuses them.
    #[error("the roots cannot be used")]
    Roots(#[source] rustls::Error),
    /// rustls refuses the material.
    #[error("TLS cannot be configured with this material")]
    Config(#[source] rustls::Error),
}

/// Whose peers are accepted beside those of the own trust domain, and how they may prove themselves.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Trust domains that count as the own one.
    pub aliases: Arc<[TrustDomain]>,
    /// What peers may agree on.
    pub algorithms: Algorithms,
    /// Certificates that no longer count.
    pub revoked: Option<Revocations>,
}

/// Certificate chain, key and roots as they came.
pub struct Material {
    /// The leaf, then intermediates; never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// Whom to believe.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Material {
    /// Reads the three PEM texts.
    ///
    /// # Errors
    /// [`CredentialError`] when one does not read or is empty.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, CredentialError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| CredentialError::Pem { what: "private key", source })?;
        Ok(Self {
            chain: certificates("certificate chain", chain)?,
            key,
            roots: certificates("root bundle", roots)?,
        })
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub not_before: SystemTime,
    /// Not after this.
    pub not_after: SystemTime,
}

/// A certificate as dumps show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number, decimal.
    pub serial: String,
    /// When it is valid.
    pub validity: Validity,
}

/// An identity we can prove. Holds ready rustls configurations, so a tunnel builds none.
pub struct Credential {
    identity: Identity,
    validity: Validity,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    checks: Checks,
    /// The own trust domain, then its other names.
    trusted: Vec<TrustDomain>,
    server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Credential {
    /// Checks the material and builds both configurations of it.
    ///
    /// # Errors
    /// [`CredentialError`] names the part that cannot be used.
    pub fn new(material: Material, terms: &Terms) -> Result<Self, CredentialError> {
        let Material { chain, key, roots } = material;
        let leaf = chain.first().ok_or(CredentialError::Missing { what: "certificate chain" })?;
        let (identity, validity) = read_leaf(leaf)?;
        let checks = Checks::new(Arc::new(anchors(&roots)?), terms);
        let certified =
            CertifiedKey::from_der(chain.clone(), key, checks.provider()).map_err(CredentialError::Key)?;
        let certified = Arc::new(certified);
        let mut trusted = vec![identity.trust_domain.clone()];
        trusted.extend(terms.aliases.iter().cloned());
        let server = hbone::server(checks.clone(), Arc::clone(&certified), trusted.clone())?;
        let client = hbone::client_base(&checks, certified)?;
        Ok(Self { identity, validity, chain, roots, checks, trusted, server: Arc::new(server), client })
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The accepting side of tunnels: a client certificate of a trusted domain is required.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The accepting end of tunnels, which learns of a client's revocation also later.
    #[must_use]
    pub fn accepting(&self) -> Accepting {
        Accepting { config: self.server(), checks: self.checks.clone() }
    }

    /// The dialling end of a tunnel to one of `expected`, which learns of the server's revocation also later.
    #[must_use]
    pub fn dialling(&self, expected: Arc<[Identity]>) -> Dialling {
        Dialling { config: self.client(expected), checks: self.checks.clone() }
    }

    /// The dialling side: the peer must be one of `expected`. An empty list matches nobody. Who is expected under one
    /// name of our trust domain may show itself under another.
    #[must_use]
    pub fn client(&self, expected: Arc<[Identity]>) -> Arc<ClientConfig> {
        let expected = if self.trusted.len() > 1 { self.under_all_names(&expected) } else { expected };
        hbone::client_for(&self.client, &self.checks, expected)
    }

    fn under_all_names(&self, expected: &[Identity]) -> Arc<[Identity]> {
        let ours = expected.iter().filter(|it| self.trusted.contains(&it.trust_domain));
        let renamed = ours.flat_map(|it| {
            let others = self.trusted.iter().filter(|domain| **domain != it.trust_domain);
            others.map(|domain| Identity { trust_domain: domain.clone(), ..it.clone() })
        });
        expected.iter().cloned().chain(renamed).collect()
    }

    /// The chain as dumps show it.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateInfo> {
        self.chain.iter().filter_map(describe).collect()
    }

    /// The roots as dumps show them.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateInfo> {
        self.roots.iter().filter_map(describe).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The certificates of a PEM text.
pub(crate) fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let mut found = Vec::new();
    for block in CertificateDer::pem_slice_iter(pem) {
        if found.len() == CERTIFICATES_MAX {
            return Err(CredentialError::TooMany { what });
        }
        found.push(block.map_err(|source| CredentialError::Pem { what, source })?);
    }
    if found.is_empty() {
        return Err(CredentialError::Missing { what });
    }
    Ok(found)
}

/// Whether a PEM text holds certificates of those who vouch, all of which can be used.
#[must_use]
pub fn is_bundle(pem: &str) -> bool {
    certificates("root bundle", pem.as_bytes()).is_ok_and(|found| anchors(&found).is_ok())
}

/// Whether a chain and a key, as PEM, are each other's and can be used.
#[must_use]
pub fn is_pair(chain: &str, key: &str) -> bool {
    pair(chain, key).is_some_and(|(chain, key)| {
        CertifiedKey::from_der(chain, key, &provider::control_plane(Algorithms::Usual)).is_ok()
    })
}

/// A chain and a key. What is wrong with them is not said: it could repeat a piece of the key.
pub(crate) fn pair(chain: &str, key: &str) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates("certificate chain", chain.as_bytes()).ok()?;
    Some((chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?))
}

/// The roots as rustls wants them. Every one must be usable: a bundle half understood hides mistakes.
pub(crate) fn anchors(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, CredentialError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(CredentialError::Roots)?;
    }
    Ok(store)
}

fn read_leaf(leaf: &CertificateDer<'_>) -> Result<(Identity, Validity), CredentialError> {
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|_| CredentialError::Certificate { what: "certificate chain" })?;
    Ok((peer::of_certificate(&parsed)?, validity(&parsed)))
}

fn describe(der: &CertificateDer<'static>) -> Option<CertificateInfo> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let (serial, validity) = (parsed.serial.to_string(), validity(&parsed));
    Some(CertificateInfo { der: der.clone(), serial, validity })
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let v = certificate.validity();
    Validity { not_before: at(v.not_before.timestamp()), not_after: at(v.not_after.timestamp()) }
}

/// Certificates from before 1970 are as old as it gets.
fn at(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
