//! One response: what its subscriber shares with others, and what is its own.

use std::sync::Arc;

use ambit_wire::convert::ResourceType;
use ambit_wire::pb::discovery::DeltaDiscoveryResponse;
use bytes::Bytes;
use prost::{DecodeError, Message as _};

use crate::content::Content;

/// A response to one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    kind: ResourceType,
    nonce: String,
    generation: u64,
    content: Arc<Content>,
}

impl Response {
    pub(super) fn new(kind: ResourceType, nonce: String, generation: u64, content: Arc<Content>) -> Self {
        Self { kind, nonce, generation, content }
    }

    /// The type it is about.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// What its answer will name.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Its bytes: those of its own, and those that follow them, which are shared.
    #[must_use]
    pub fn bytes(&self) -> (Vec<u8>, Bytes) {
        let own = DeltaDiscoveryResponse {
            nonce: self.nonce.clone(),
            system_version_info: self.generation.to_string(),
            ..DeltaDiscoveryResponse::default()
        };
        (own.encode_to_vec(), self.content.bytes().clone())
    }

    /// What is shared. While somebody holds it, it is not encoded anew.
    #[must_use]
    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// As a message, for those who join both ends without bytes between them.
    ///
    /// # Errors
    /// When its bytes are no such message, which those of a publisher always are.
    pub fn message(&self) -> Result<DeltaDiscoveryResponse, DecodeError> {
        let (own, shared) = self.bytes();
        DeltaDiscoveryResponse::decode([own.as_slice(), &shared].concat().as_slice())
    }
}
