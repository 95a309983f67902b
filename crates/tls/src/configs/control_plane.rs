//! TLS to and of the control plane: server authentication only (`wire.md` 8.1).
//! Owns the channel's TLS and its keepalives. What is said over it is `xds`'s and `issue`'s.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::net::TcpStream;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::provider::{self, Algorithms};
use crate::credential::{self, CredentialError};

/// TCP and TLS to the control plane; a healthy one answers in milliseconds.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Pings while calls are open; upstream's control plane refuses more than one in 15 s.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WAIT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEPALIVE_PROBES: u32 = 9;
/// Where distributions keep the bundle of public roots, the common ones first.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is no https address with a host.
    #[error("control plane address {address:?} is not usable; give https://host:port")]
    Address {
        /// The address as given.
        address: String,
    },
    /// The file of roots does not read.
    #[error("the roots of the control plane do not read from {path}")]
    RootFile {
        /// Where they should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The roots are no usable certificates.
    #[error("the roots of the control plane are not usable")]
    Roots(#[source] CredentialError),
    /// What is to be shown cannot be used. Why is not said: it could repeat a piece of a key.
    #[error("the certificate that is to be shown, or its key, is not usable")]
    Shown,
    /// rustls refuses the roots.
    #[error("TLS to the control plane cannot be configured")]
    Config(#[source] Error),
    /// No connection came about.
    #[error("no connection to the control plane")]
    Transport(#[source] tonic::transport::Error),
}

/// Where the roots of the control plane come from.
#[derive(Debug, Clone)]
pub enum RootSource {
    /// A file, read again for each new channel.
    File(PathBuf),
    /// The machine's public roots.
    System,
    /// PEM as it is.
    Pem(String),
}

impl RootSource {
    /// The PEM text, as it is now.
    ///
    /// # Errors
    /// [`ConnectError::RootFile`] when a file does not read.
    pub fn read(&self) -> Result<Vec<u8>, ConnectError> {
        let refuse = |path: PathBuf| |source| ConnectError::RootFile { path, source };
        match self {
            Self::Pem(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => std::fs::read(path).map_err(refuse(path.clone())),
            Self::System => {
                let mut readable = SYSTEM_BUNDLES.iter().filter_map(|path| std::fs::read(path).ok());
                let missing = io::Error::from(io::ErrorKind::NotFound);
                readable.next().ok_or(missing).map_err(refuse(SYSTEM_BUNDLES.concat().into()))
            }
        }
    }
}

/// How to reach the control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    uri: Uri,
    host: ServerName<'static>,
    alternative: Option<ServerName<'static>>,
    roots: RootSource,
    algorithms: Algorithms,
}

impl ControlPlane {
    /// Parses `address` (`https://` is assumed) and the other name that the server may have.
    ///
    /// # Errors
    /// [`ConnectError::Address`] when either is not usable.
    pub fn new(address: &str, roots: RootSource, alternative: Option<&str>) -> Result<Self, ConnectError> {
        let refuse = |address: &str| ConnectError::Address { address: address.into() };
        let full = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let uri: Uri = full.parse().map_err(|_| refuse(address))?;
        if uri.scheme_str() != Some("https") {
            return Err(refuse(address));
        }
        let host = uri.host().and_then(name).ok_or_else(|| refuse(address))?;
        let alternative = match alternative {
            None | Some("") => None,
            Some(text) => Some(name(text).ok_or_else(|| refuse(text))?),
        };
        Ok(Self { uri, host, alternative, roots, algorithms: Algorithms::default() })
    }

    /// The same, agreeing on nothing but these algorithms. TLS 1.3 is always needed.
    #[must_use]
    pub fn with(mut self, algorithms: Algorithms) -> Self {
        self.algorithms = algorithms;
        self
    }

    /// The roots' source.
    #[must_use]
    pub fn roots(&self) -> &RootSource {
        &self.roots
    }

    /// A channel that is connected, with the roots as they are now.
    ///
    /// # Errors
    /// [`ConnectError`] when the roots are not usable or nobody answers in time.
    pub async fn connect(&self) -> Result<Channel, ConnectError> {
        let dial = self.dial(&self.roots.read()?)?;
        let connector = tower::service_fn(move |_: Uri| connected(dial.clone()));
        self.endpoint().connect_with_connector(connector).await.map_err(ConnectError::Transport)
    }

    /// A channel that connects with these roots when first used, and again after each loss.
    ///
    /// # Errors
    /// [`ConnectError`] when the roots are not usable.
    pub fn connect_lazily(&self, roots: &[u8]) -> Result<Channel, ConnectError> {
        let dial = self.dial(roots)?;
        let connector = tower::service_fn(move |_: Uri| connected(dial.clone()));
        Ok(self.endpoint().connect_with_connector_lazy(connector))
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.uri.clone())
            .connect_timeout(CONNECT_WAIT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WAIT)
    }

    fn dial(&self, roots: &[u8]) -> Result<Dial, ConnectError> {
        let roots = credential::certificates("root bundle", roots).map_err(ConnectError::Roots)?;
        let anchors = Arc::new(credential::anchors(&roots).map_err(ConnectError::Roots)?);
        let provider = provider::control_plane(self.algorithms);
        let inner = WebPkiServerVerifier::builder_with_provider(anchors, Arc::clone(&provider))
            .build()
            .map_err(|error| ConnectError::Config(Error::General(error.to_string())))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(ConnectError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NamedServer {
                inner,
                alternative: self.alternative.clone(),
            }))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(443);
        Ok(Dial {
            host: host.into(),
            port,
            name: self.host.clone(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }
}

/// What is spoken over TLS with the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// gRPC.
    Grpc,
    /// Plain HTTP, as the API server does with webhooks.
    Http,
}

/// The control plane's own side: its certificate, and no client certificate asked for (tokens say who calls).
///
/// # Errors
/// [`CredentialError`] when chain or key cannot be used.
pub fn server(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, CredentialError> {
    server_of(Speaks::Grpc, chain_pem, key_pem)
}

/// As `server`, for what is spoken over it.
///
/// # Errors
/// [`CredentialError`] when chain or key cannot be used.
pub fn server_of(
    speaks: Speaks,
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<ServerConfig>, CredentialError> {
    let chain = credential::certificates("certificate chain", chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|source| CredentialError::Pem { what: "private key", source })?;
    let mut config = ServerConfig::builder_with_provider(provider::control_plane(Algorithms::default()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(CredentialError::Config)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(CredentialError::Key)?;
    config.alpn_protocols = match speaks {
        Speaks::Grpc => vec![b"h2".to_vec()],
        Speaks::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

#[derive(Clone)]
struct Dial {
    host: Arc<str>,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// Connected and proven, within the wait.
async fn connected(dial: Dial) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let attempt = async {
        let tcp = TcpStream::connect((&*dial.host, dial.port)).await?;
        tcp.set_nodelay(true)?;
        keep_alive(&tcp);
        dial.tls.connect(dial.name, tcp).await
    };
    match timeout(CONNECT_WAIT, attempt).await {
        Ok(stream) => stream.map(TokioIo::new),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Best effort: without it a dead peer is noticed by the pings, a little later.
fn keep_alive(tcp: &TcpStream) {
    let options = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket2::SockRef::from(tcp).set_tcp_keepalive(&options);
}

fn name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(ServerName::IpAddress(ip.into()));
    }
    ServerName::try_from(bare.to_owned()).ok()
}

/// The usual check of chain and name, with one more name that is as good as the address's.
#[derive(Debug)]
struct NamedServer {
    inner: Arc<WebPkiServerVerifier>,
    alternative: Option<ServerName<'static>>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let first = self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now);
        match (&self.alternative, &first) {
            (Some(other), Err(Error::InvalidCertificate(error))) if names_differ(error) => {
                self.inner.verify_server_cert(leaf, intermediates, other, ocsp, now)
            }
            _ => first,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn names_differ(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}
