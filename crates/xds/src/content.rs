//! What is sent, encoded. Many subscribers are sent the same, so it is encoded once and they share the bytes; what is
//! a subscriber's own in a response (its nonce) is a few bytes in front, since fields of a message may come in any
//! order. Owns sizes and encoding; who is sent what is `publisher`'s.
//! The first answer to a subscriber that wants everything is one message however large, within what subscribers
//! accept: they count as in step once they have it.

use std::fmt;
use std::sync::Arc;

use ambit_wire::convert::{ResourceKey, ResourceType};
use ambit_wire::limits;
use ambit_wire::pb::discovery::{DeltaDiscoveryResponse, Payload, Resource};
use bytes::Bytes;
use prost::Message as _;

use crate::library::Record;

/// What a resource costs beside its texts and content: tags, lengths, the type's URL.
const RESOURCE_FRAME: usize = 96;
/// What a removed name costs beside its text.
const NAME_FRAME: usize = 6;
/// What a response costs beside its resources.
const RESPONSE_FRAME: usize = 256;

/// A response but for what is its subscriber's own.
#[derive(PartialEq, Eq)]
pub struct Content(Bytes);

/// Without the bytes, in which a key may be.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// Responses, in order.
pub(crate) type Contents = Vec<Arc<Content>>;

/// What is to be said of a type: in its turn, and after what was said of the others.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) now: Contents,
    pub(crate) later: Contents,
}

/// When something is said to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// With what is new.
    InTurn,
    /// After everything else.
    Last,
}

/// What is to be said, not encoded yet.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) changed: Vec<Arc<Record>>,
    pub(crate) removed: Vec<String>,
    /// Aliases go with the resources: for subscribers that ask by them.
    pub(crate) aliases: bool,
    /// An answer is owed, even an empty one.
    pub(crate) owed: bool,
}

impl Content {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<&DeltaDiscoveryResponse> for Content {
    fn from(response: &DeltaDiscoveryResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

impl Due {
    /// As responses.
    pub(crate) fn told(mut self, kind: ResourceType, farewell: Farewell) -> Told {
        let removed = match farewell {
            Farewell::InTurn => Vec::new(),
            Farewell::Last => std::mem::take(&mut self.removed),
        };
        let later = Self { removed, ..Self::default() };
        Told { now: self.encoded(kind), later: later.encoded(kind) }
    }

    fn is_nothing(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty() && !self.owed
    }

    /// As responses of a bounded size; none if there is nothing to say.
    fn encoded(self, kind: ResourceType) -> Contents {
        if self.is_nothing() {
            return Vec::new();
        }
        let Self { changed, removed, aliases, owed } = self;
        let limit = if owed { limits::DISCOVERY_RESPONSE / 4 * 3 } else { limits::DISCOVERY_RESPONSE_SPLIT };
        let mut stack = Stack { kind, limit, size: RESPONSE_FRAME, done: Vec::new(), open: empty(kind) };
        // Workloads before services, as upstream.
        let (services, others): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|record| matches!(record.key, ResourceKey::Service(_)));
        for record in others.iter().chain(&services) {
            let size = RESOURCE_FRAME
                + record.body.len()
                + record.name.len()
                + record.aliases.iter().map(String::len).sum::<usize>();
            stack.room(size).resources.push(resource(kind, record, aliases));
        }
        for name in removed {
            stack.room(NAME_FRAME + name.len()).removed_resources.push(name);
        }
        stack.finish()
    }
}

struct Stack {
    kind: ResourceType,
    limit: usize,
    size: usize,
    done: Contents,
    open: DeltaDiscoveryResponse,
}

impl Stack {
    /// The response that still has room for `size` bytes.
    fn room(&mut self, size: usize) -> &mut DeltaDiscoveryResponse {
        if self.size + size > self.limit && self.size > RESPONSE_FRAME {
            self.close();
        }
        self.size += size;
        &mut self.open
    }

    fn close(&mut self) {
        let closed = std::mem::replace(&mut self.open, empty(self.kind));
        self.done.push(Arc::new(Content::from(&closed)));
        self.size = RESPONSE_FRAME;
    }

    fn finish(mut self) -> Contents {
        self.close();
        self.done
    }
}

fn empty(kind: ResourceType) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse { type_url: kind.url().into(), ..DeltaDiscoveryResponse::default() }
}

fn resource(kind: ResourceType, record: &Record, aliases: bool) -> Resource {
    Resource {
        version: record.version.to_string(),
        resource: Some(Payload { type_url: kind.url().into(), value: record.body.clone() }),
        name: record.name.to_string(),
        aliases: if aliases { record.aliases.clone() } else { Vec::new() },
        ttl: None,
        cache_control: None,
    }
}
