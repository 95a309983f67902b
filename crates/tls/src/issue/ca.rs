//! Asks the mesh's certificate authority over gRPC (`ztunnel.md` 7.2, 7.3; `wire.md` 6).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ambit_model::name::{ClusterId, Identity};
use ambit_wire::pb::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use ambit_wire::pb::auth::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::Request;
use tonic::transport::Channel;

use super::{IssueError, Issuer, Token, of_the_asked};
use crate::configs::control_plane::{ConnectError, ControlPlane};
use crate::credential::{self, Credential, CredentialError, Material, Terms};

/// A chain and its roots, as PEM: a few KiB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How to ask.
#[derive(Debug, Clone)]
pub struct CaSettings {
    /// Where.
    pub control_plane: ControlPlane,
    /// As whom.
    pub token: Token,
    /// The cluster whose tokens we show.
    pub cluster: ClusterId,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// For how long the certificate should hold.
    pub ttl: Duration,
    /// Ask for others (a node's tunnel), not for ourselves.
    pub impersonate: bool,
    /// Whose peers the credentials accept.
    pub terms: Terms,
}

/// A certificate authority.
pub struct Ca {
    settings: CaSettings,
    /// The channel, and the roots it was made with. Never held across an await.
    channel: Mutex<Option<(Vec<u8>, Channel)>>,
}

impl Ca {
    /// Connects when first asked.
    #[must_use]
    pub fn new(settings: CaSettings) -> Self {
        Self { settings, channel: Mutex::new(None) }
    }

    /// The channel, made anew when the roots changed. New roots that are not usable leave the old channel.
    fn channel(&self) -> Result<Channel, ConnectError> {
        let roots = self.settings.control_plane.roots().read();
        let mut held = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match (&roots, &*held) {
            (Ok(roots), Some((of, channel))) if of == roots => return Ok(channel.clone()),
            (Ok(roots), _) => self.settings.control_plane.connect_lazily(roots),
            (Err(_), Some((_, channel))) => return Ok(channel.clone()),
            (Err(_), None) => {
                return roots.and_then(|roots| self.settings.control_plane.connect_lazily(&roots));
            }
        };
        match (fresh, &*held) {
            (Ok(channel), _) => {
                *held = roots.ok().map(|roots| (roots, channel.clone()));
                Ok(channel)
            }
            (Err(error), Some((_, old))) => {
                tracing::warn!(%error, "new roots of the certificate authority are not usable, using the old");
                Ok(old.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn request(
        &self,
        identity: &Identity,
        csr: String,
    ) -> Result<Request<IstioCertificateRequest>, IssueError> {
        let ttl = i64::try_from(self.settings.ttl.as_secs()).unwrap_or(i64::MAX);
        let mut message = IstioCertificateRequest { csr, validity_duration: ttl, ..Default::default() };
        if self.settings.impersonate {
            let fields = &mut message.metadata.get_or_insert_default().fields;
            fields.insert("ImpersonatedIdentity".into(), identity.to_string().into());
        }
        let mut headers = http::HeaderMap::new();
        if let Some(bearer) = self.settings.token.bearer()? {
            headers.insert(http::header::AUTHORIZATION, bearer);
        }
        let cluster = ("clusterid".to_owned(), self.settings.cluster.to_string());
        for (name, value) in std::iter::once(&cluster).chain(&self.settings.headers) {
            let refuse = || IssueError::Header { name: name.clone() };
            let key = http::HeaderName::try_from(name.to_ascii_lowercase()).map_err(|_| refuse())?;
            headers.insert(key, http::HeaderValue::try_from(value).map_err(|_| refuse())?);
        }
        let metadata = tonic::metadata::MetadataMap::from_headers(headers);
        Ok(Request::from_parts(metadata, tonic::Extensions::default(), message))
    }
}

impl Issuer for Ca {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(IssueError::Request)?;
        let csr = signing_request(identity, &key).map_err(IssueError::Request)?;
        let request = self.request(identity, csr)?;
        let mut client =
            IstioCertificateServiceClient::new(self.channel()?).max_decoding_message_size(ANSWER_BYTES_MAX);
        let answer = client.create_certificate(request).await;
        let IstioCertificateResponse { cert_chain } =
            answer.map_err(|status| IssueError::Refused(Box::new(status)))?.into_inner();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        of_the_asked(Credential::new(material(&cert_chain, key)?, &self.settings.terms)?, identity)
    }

    async fn changed(&self) {
        // A certificate holds until its half life, whatever happens.
        std::future::pending().await
    }
}

/// A request with nothing in it but the identity: no subject, so the name is critical (RFC 5280, 4.2.1.6).
fn signing_request(identity: &Identity, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.serialize_request(key)?.pem()
}

/// The first element is the leaf, the last the root bundle, those between are intermediates.
fn material(answer: &[String], key: PrivateKeyDer<'static>) -> Result<Material, CredentialError> {
    let (roots, chain) = answer.split_last().ok_or(CredentialError::Missing { what: "certificate chain" })?;
    if chain.is_empty() {
        return Err(CredentialError::Missing { what: "root bundle" });
    }
    Ok(Material {
        chain: credential::certificates("certificate chain", chain.concat().as_bytes())?,
        key,
        roots: credential::certificates("root bundle", roots.as_bytes())?,
    })
}

#[cfg(test)]
mod tests;
