//! Configurations of both ends of a tunnel, and whom each end accepts (`ztunnel.md` 2.1, 2.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ambit_model::name::{Identity, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};

use crate::configs::provider::{self, Algorithms};
use crate::configs::revoked::{Chain, End, Revocations, Seen, Standing};
use crate::credential::{CredentialError, Terms};
use crate::peer::{self, PeerError};

/// A chain that holds, of a peer that is not the one wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The leaf names nobody.
    #[error("the peer's certificate names nobody")]
    Nobody(#[from] PeerError),
    /// The peer's trust domain is neither ours nor an alias of it.
    #[error("the peer {found} is of a foreign trust domain")]
    Foreign {
        /// Who the peer is.
        found: Identity,
    },
    /// The peer is none of those expected.
    #[error("the peer is {found}, expected one of {wanted:?}")]
    Unexpected {
        /// Who the peer is.
        found: Identity,
        /// Who was expected.
        wanted: Arc<[Identity]>,
    },
}

impl Mismatch {
    /// The mismatch inside an I/O error that a failed handshake gave, if that was the reason.
    #[must_use]
    pub fn behind(error: &std::io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
            _ => None,
        }
    }

    // `Other` makes rustls send the alert certificate_unknown, as upstream does.
    fn refuse(self) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }
}

/// The name handed to rustls where it wants one. Never sent, never checked: identities are.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

/// How certificates of peers are checked, whoever they are.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    anchors: Arc<RootCertStore>,
    algorithms: Algorithms,
    provider: Arc<CryptoProvider>,
    revoked: Option<Revocations>,
}

impl Checks {
    pub(crate) fn new(anchors: Arc<RootCertStore>, terms: &Terms) -> Self {
        let algorithms = terms.algorithms;
        Self { anchors, algorithms, provider: provider::hbone(algorithms), revoked: terms.revoked.clone() }
    }

    pub(crate) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// What is to be remembered from before a handshake, so that a list that comes during it is not missed.
    pub(crate) fn seen(&self) -> Seen {
        self.revoked.as_ref().map(Revocations::seen).unwrap_or_default()
    }

    /// The standing of a peer that has proven itself by this chain.
    pub(crate) fn standing(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        end: End,
        seen: Seen,
    ) -> Standing {
        match (&self.revoked, chain) {
            (Some(revoked), Some(chain)) => {
                let algorithms = self.provider.signature_verification_algorithms.all;
                revoked.follow_chain(chain.to_vec(), (Arc::clone(&self.anchors), algorithms), (end, seen))
            }
            _ => Standing::default(),
        }
    }

    /// For a chain that holds otherwise.
    fn not_revoked(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        (end, now): (End, UnixTime),
    ) -> Result<(), Error> {
        let Some(revoked) = &self.revoked else { return Ok(()) };
        let algorithms = self.provider.signature_verification_algorithms.all;
        revoked.check(&Chain { leaf, intermediates, anchors: &self.anchors, algorithms }, end, now)
    }
}

/// The accepting end of tunnels. Cheap to clone.
#[derive(Clone)]
pub struct Accepting {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) checks: Checks,
}

/// The dialling end of a tunnel. Cheap to clone.
#[derive(Clone)]
pub struct Dialling {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) checks: Checks,
}

pub(crate) fn server(
    checks: Checks,
    certified: Arc<CertifiedKey>,
    trusted: Vec<TrustDomain>,
) -> Result<ServerConfig, CredentialError> {
    let anchors = Arc::clone(&checks.anchors);
    let chain = WebPkiClientVerifier::builder_with_provider(anchors, Arc::clone(&checks.provider))
        // Names of roots would tell a stranger who we trust, and cost bytes in each handshake.
        .clear_root_hint_subjects()
        .build()
        .map_err(|error| CredentialError::Roots(Error::General(error.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&checks.provider))
        .with_protocol_versions(checks.algorithms.versions())
        .map_err(CredentialError::Config)?
        .with_client_cert_verifier(Arc::new(TrustedClient { chain, trusted, checks }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A configuration that believes nobody yet; [`client_for`] says whom.
pub(crate) fn client_base(
    checks: &Checks,
    certified: Arc<CertifiedKey>,
) -> Result<ClientConfig, CredentialError> {
    let nobody = ExpectedServer { checks: checks.clone(), expected: Arc::from([]) };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&checks.provider))
        .with_protocol_versions(checks.algorithms.versions())
        .map_err(CredentialError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(nobody))
        .with_client_cert_resolver(Arc::new(Always(certified)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn client_for(
    base: &ClientConfig,
    checks: &Checks,
    expected: Arc<[Identity]>,
) -> Arc<ClientConfig> {
    let mut config = base.clone();
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(ExpectedServer { checks: checks.clone(), expected }));
    Arc::new(config)
}

/// Presents the certificate whatever issuers the server hints at; it knows best whom it accepts.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts clients with a valid chain and an identity of a trusted domain.
#[derive(Debug)]
struct TrustedClient {
    chain: Arc<dyn ClientCertVerifier>,
    trusted: Vec<TrustDomain>,
    checks: Checks,
}

impl ClientCertVerifier for TrustedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        self.checks.not_revoked(leaf, intermediates, (End::Server, now))?;
        let found = peer::of_leaf(leaf).map_err(|error| Mismatch::Nobody(error).refuse())?;
        if self.trusted.contains(&found.trust_domain) {
            Ok(verified)
        } else {
            Err(Mismatch::Foreign { found }.refuse())
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Accepts servers with a valid chain and one of the expected identities.
struct ExpectedServer {
    checks: Checks,
    expected: Arc<[Identity]>,
}

impl fmt::Debug for ExpectedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedServer").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let Checks { anchors, provider, .. } = &self.checks;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, anchors, intermediates, now, algorithms)?;
        self.checks.not_revoked(leaf, intermediates, (End::Client, now))?;
        let found = peer::of_leaf(leaf).map_err(|error| Mismatch::Nobody(error).refuse())?;
        if self.expected.contains(&found) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Mismatch::Unexpected { found, wanted: Arc::clone(&self.expected) }.refuse())
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.checks.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.checks.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checks.provider.signature_verification_algorithms.supported_schemes()
    }
}
