//! TLS that a waypoint begins to endpoints: to servers of which somebody has said who vouches for them, and by which
//! names. Owns the configuration and what is proven; whom to ask for is the caller's, as is how long it may take.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_model::traffic::SubjectName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::control_plane::{ConnectError, RootSource};
use super::provider::{self, Algorithms};
use crate::credential;

/// What will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Something that has no name here.
    Opaque,
}

/// How connections to some endpoints begin.
pub struct Origin {
    /// In the order of [`Spoken`].
    connectors: [TlsConnector; 3],
    number: u64,
}

impl Origin {
    /// Believes those for whom `roots` vouch, as they are now, and who prove one of `names`; where there are none, the
    /// name that is asked for. Without roots whoever answers is believed. To servers that ask for it, `shown` is shown: a
    /// chain and its key, as PEM.
    ///
    /// # Errors
    /// When they do not read, or are no usable certificates.
    pub fn new(
        roots: Option<&RootSource>,
        names: Vec<SubjectName>,
        shown: Option<(&str, &str)>,
    ) -> Result<Self, ConnectError> {
        /// Each is another: what was begun by one is not to be taken for what another would have begun.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let anchors = match roots {
            None => None,
            Some(roots) => {
                let found =
                    credential::certificates("root bundle", &roots.read()?).map_err(ConnectError::Roots)?;
                Some(credential::anchors(&found).map_err(ConnectError::Roots)?)
            }
        };
        let provider = provider::control_plane(Algorithms::Usual);
        let proof = Proof { anchors, names, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            // Servers outside of the mesh are of every age; the older version is only spoken with its safe suites.
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(ConnectError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(proof));
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let (chain, key) = credential::pair(chain, key).ok_or(ConnectError::Shown)?;
                config.with_client_auth_cert(chain, key).map_err(|_| ConnectError::Shown)?
            }
        };
        if shown.is_some() {
            // A session that is taken up again shows what was shown when it began, which may have been withdrawn.
            config.resumption = Resumption::disabled();
        }
        let speaking = |alpn: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let connectors = [speaking(&[b"http/1.1"]), speaking(&[b"h2"]), speaking(&[])];
        Ok(Self { connectors, number: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Tells it from all others.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Lets a server prove that it is who is asked for. Unbounded: the caller has a limit for it.
    ///
    /// # Errors
    /// When it does not, or `server` is no host's name.
    pub async fn prove<S>(&self, server: &str, spoken: Spoken, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(server.to_owned());
        let name = name.map_err(|error| io::Error::other(Error::General(error.to_string())))?;
        let [http1, http2, opaque] = &self.connectors;
        let connector = match spoken {
            Spoken::Http1 => http1,
            Spoken::Http2 => http2,
            Spoken::Opaque => opaque,
        };
        connector.connect(name, stream).await
    }
}

/// What a server has to prove.
#[derive(Debug)]
struct Proof {
    anchors: Option<RootCertStore>,
    names: Vec<SubjectName>,
    provider: Arc<CryptoProvider>,
}

impl Proof {
    fn named(
        &self,
        leaf: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        asked: &ServerName<'_>,
    ) -> Result<(), Error> {
        if self.names.is_empty() {
            return verify_server_name(parsed, asked);
        }
        let is_host = |name: &str| {
            ServerName::try_from(name).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
        };
        let is = |name: &SubjectName| match name {
            SubjectName::Host(name) => is_host(name),
            SubjectName::Uri(uri) => has_uri(leaf, uri),
            SubjectName::Any(name) => is_host(name) || has_uri(leaf, name),
        };
        let named = self.names.iter().any(is);
        named.then_some(()).ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// Whether a certificate holds a URI, to the letter.
fn has_uri(leaf: &CertificateDer<'_>, wanted: &str) -> bool {
    let Ok((rest, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    let is = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if *uri == wanted);
    rest.is_empty() && names.value.general_names.iter().any(is)
}

impl ServerCertVerifier for Proof {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(anchors) = &self.anchors {
            let parsed = ParsedCertificate::try_from(leaf)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, anchors, intermediates, now, algorithms)?;
            self.named(leaf, &parsed, asked)?;
        }
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
