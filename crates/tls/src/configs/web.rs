//! TLS to servers of the web, of which nothing is known but their name: where issuers publish their keys. Owns the
//! configuration; what is asked there is the caller's.

use std::io;
use std::sync::Arc;

use ambit_process::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::control_plane::{ConnectError, RootSource};
use super::provider::{self, Algorithms};
use crate::credential;

/// How servers of the web prove who they are. Cheap to clone.
#[derive(Clone)]
pub struct Web(TlsConnector);

impl Web {
    /// Believes these roots, as they are now.
    ///
    /// # Errors
    /// When they do not read, or are no usable certificates.
    pub fn new(roots: &RootSource) -> Result<Self, ConnectError> {
        let roots = credential::certificates("root bundle", &roots.read()?).map_err(ConnectError::Roots)?;
        let anchors = credential::anchors(&roots).map_err(ConnectError::Roots)?;
        let mut config = ClientConfig::builder_with_provider(provider::control_plane(Algorithms::Usual))
            // Servers of the web are of every age; the older version is only spoken with its safe suites.
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(ConnectError::Config)?
            .with_root_certificates(anchors)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Lets a server prove that it is the one of this name. Unbounded: the caller has a limit for all of its exchange.
    ///
    /// # Errors
    /// When it does not.
    pub async fn prove(&self, host: &str, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::other(Error::General(error.to_string())))?;
        self.0.connect(name, tcp).await
    }
}
