//! The frames between the node agent and the node proxy (`wire.md` 9): one message, one packet.
//! Owns encoding, decoding and their limits. Leaves sockets, descriptors and order to the two ends.

use ambit_model::name::{Label, NameError, Namespace, ServiceAccount};
use prost::Message;

use crate::limits::{NODE_LINK_ERROR, NODE_LINK_PACKET, shortened};
use crate::pb::zds::{
    Ack, AddWorkload, CertificateState, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo,
    WorkloadRequest, WorkloadResponse, ZdsHello, workload_request, workload_response,
};

/// A packet as it is sent.
pub type Packet = Vec<u8>;

/// A pod's uid as Kubernetes gives it; opaque here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Box<str>);

impl PodUid {
    /// Takes a uid; an empty one names nothing and is refused.
    pub fn new(text: &str) -> Result<Self, LinkError> {
        if text.is_empty() { Err(LinkError::NoUid) } else { Ok(Self(text.into())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PodUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose traffic a pod's is; the trust domain is the mesh's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInfo {
    /// The pod's name.
    pub name: Label,
    /// Its namespace.
    pub namespace: Namespace,
    /// The account it runs as.
    pub service_account: ServiceAccount,
}

/// What the agent asks. Each gets exactly one [`Response`], in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take a pod on. The only packet that carries a descriptor, the pod's network namespace, and exactly one.
    Add {
        /// The pod.
        uid: PodUid,
        /// Whose traffic it is.
        info: PodInfo,
    },
    /// Keep a pod whose network namespace the agent has not at hand. Before [`Request::SnapshotSent`] only.
    Keep {
        /// The pod.
        uid: PodUid,
    },
    /// Let a pod go.
    Del {
        /// The pod.
        uid: PodUid,
    },
    /// All present pods have been named: those not named may be let go.
    SnapshotSent,
}

impl Request {
    /// How many descriptors must come with the packet.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Add { .. }))
    }
}

/// Whether a pod's certificate is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// It is there, and valid.
    Held,
    /// It is asked for.
    Awaited,
}

/// What the proxy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Done.
    Done,
    /// Done, and this is known of the certificate of the pod that was added.
    Carried(Certificate),
    /// Not done; the text says why. Cut to [`NODE_LINK_ERROR`] bytes when sent.
    Failed(String),
}

/// Why a packet is no message of the node link.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// A packet larger than either end receives.
    #[error("a packet of {found} bytes is larger than the {NODE_LINK_PACKET} that both ends receive")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Bytes that are no such message.
    #[error("the packet does not decode")]
    Undecodable(#[from] prost::DecodeError),
    /// A message with nothing in it, or with something newer than this end.
    #[error("the packet holds no known payload")]
    NoPayload,
    /// A version this end does not speak.
    #[error("protocol version {found} is not spoken here; use 1")]
    Version {
        /// The version.
        found: i32,
    },
    /// A pod without a uid.
    #[error("uid is empty")]
    NoUid,
    /// An added pod of whom nothing is said.
    #[error("add of {uid} holds no workload_info")]
    NoInfo {
        /// The pod.
        uid: PodUid,
    },
    /// A name that is none.
    #[error("add of {uid} is refused")]
    Name {
        /// The pod.
        uid: PodUid,
        /// What is wrong with the name.
        source: NameError,
    },
}

/// The proxy's first packet.
#[must_use]
pub fn encode_hello() -> Packet {
    ZdsHello { version: Version::V1.into() }.encode_to_vec()
}

/// Reads the proxy's first packet.
pub fn decode_hello(packet: &[u8]) -> Result<(), LinkError> {
    let ZdsHello { version } = ZdsHello::decode(fits(packet)?)?;
    if version == i32::from(Version::V1) { Ok(()) } else { Err(LinkError::Version { found: version }) }
}

/// A request as a packet.
pub fn encode_request(request: &Request) -> Result<Packet, LinkError> {
    use workload_request::Payload;
    let payload = match request {
        Request::Add { uid, info } => {
            let PodInfo { name, namespace, service_account } = info;
            let info = WorkloadInfo {
                name: name.to_string(),
                namespace: namespace.to_string(),
                service_account: service_account.to_string(),
            };
            Payload::Add(AddWorkload { uid: uid.to_string(), workload_info: Some(info) })
        }
        Request::Keep { uid } => Payload::Keep(KeepWorkload { uid: uid.to_string() }),
        Request::Del { uid } => Payload::Del(DelWorkload { uid: uid.to_string() }),
        Request::SnapshotSent => Payload::SnapshotSent(SnapshotSent {}),
    };
    let packet = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
    fits(&packet)?;
    Ok(packet)
}

/// Reads a request.
pub fn decode_request(packet: &[u8]) -> Result<Request, LinkError> {
    use workload_request::Payload;
    let WorkloadRequest { payload } = WorkloadRequest::decode(fits(packet)?)?;
    match payload.ok_or(LinkError::NoPayload)? {
        Payload::Add(AddWorkload { uid, workload_info }) => {
            let uid = PodUid::new(&uid)?;
            let Some(info) = workload_info else { return Err(LinkError::NoInfo { uid }) };
            match pod_info(&info) {
                Ok(info) => Ok(Request::Add { uid, info }),
                Err(source) => Err(LinkError::Name { uid, source }),
            }
        }
        Payload::Keep(KeepWorkload { uid }) => Ok(Request::Keep { uid: PodUid::new(&uid)? }),
        Payload::Del(DelWorkload { uid }) => Ok(Request::Del { uid: PodUid::new(&uid)? }),
        Payload::SnapshotSent(SnapshotSent {}) => Ok(Request::SnapshotSent),
    }
}

/// An answer as a packet. Always fits: a long text is cut, for a truncated packet would end the connection.
#[must_use]
pub fn encode_response(response: &Response) -> Packet {
    let (error, certificate) = match response {
        Response::Done => (String::new(), CertificateState::CertificateUnsaid),
        Response::Carried(Certificate::Held) => (String::new(), CertificateState::CertificateHeld),
        Response::Carried(Certificate::Awaited) => (String::new(), CertificateState::CertificateAwaited),
        // An empty text would read as success.
        Response::Failed(why) if why.is_empty() => {
            ("no reason given".into(), CertificateState::CertificateUnsaid)
        }
        Response::Failed(why) => {
            (shortened(why, NODE_LINK_ERROR).into(), CertificateState::CertificateUnsaid)
        }
    };
    let ack = Ack { error, certificate: certificate.into() };
    WorkloadResponse { payload: Some(workload_response::Payload::Ack(ack)) }.encode_to_vec()
}

/// Reads an answer. A word on certificates that is newer than this end is none.
pub fn decode_response(packet: &[u8]) -> Result<Response, LinkError> {
    let WorkloadResponse { payload } = WorkloadResponse::decode(fits(packet)?)?;
    let workload_response::Payload::Ack(Ack { error, certificate }) = payload.ok_or(LinkError::NoPayload)?;
    if !error.is_empty() {
        return Ok(Response::Failed(error));
    }
    Ok(match CertificateState::try_from(certificate) {
        Ok(CertificateState::CertificateHeld) => Response::Carried(Certificate::Held),
        Ok(CertificateState::CertificateAwaited) => Response::Carried(Certificate::Awaited),
        Ok(CertificateState::CertificateUnsaid) | Err(_) => Response::Done,
    })
}

fn fits(packet: &[u8]) -> Result<&[u8], LinkError> {
    if packet.len() > NODE_LINK_PACKET {
        return Err(LinkError::TooLong { found: packet.len() });
    }
    Ok(packet)
}

fn pod_info(raw: &WorkloadInfo) -> Result<PodInfo, NameError> {
    let WorkloadInfo { name, namespace, service_account } = raw;
    let service_account =
        if service_account.is_empty() { ServiceAccount::default() } else { service_account.parse()? };
    Ok(PodInfo { name: name.as_str().into(), namespace: namespace.parse()?, service_account })
}

#[cfg(test)]
mod tests;
