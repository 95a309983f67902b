//! Responses of a bounded size. The first answer to a subscriber that wants everything is one message however
//! large, within what subscribers accept: they count as in step once they have it.

use ambit_wire::convert::{ResourceKey, ResourceType};
use ambit_wire::limits;
use ambit_wire::pb::discovery::{DeltaDiscoveryResponse, Payload, Resource};

use super::interest::Due;
use crate::library::Record;

/// What a resource costs beside its texts and content: tags, lengths, the type's URL.
const RESOURCE_FRAME: usize = 96;
/// What a removed name costs beside its text.
const NAME_FRAME: usize = 6;
/// What a response costs beside its resources.
const RESPONSE_FRAME: usize = 256;

/// What is due as responses; at least one. Nonces are the caller's.
pub(super) fn split(kind: ResourceType, due: Due) -> Vec<DeltaDiscoveryResponse> {
    let Due { changed, removed, aliases, owed } = due;
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
    stack.done.push(stack.open);
    stack.done
}

struct Stack {
    kind: ResourceType,
    limit: usize,
    size: usize,
    done: Vec<DeltaDiscoveryResponse>,
    open: DeltaDiscoveryResponse,
}

impl Stack {
    /// The response that still has room for `size` bytes.
    fn room(&mut self, size: usize) -> &mut DeltaDiscoveryResponse {
        if self.size + size > self.limit && self.size > RESPONSE_FRAME {
            self.done.push(std::mem::replace(&mut self.open, empty(self.kind)));
            self.size = RESPONSE_FRAME;
        }
        self.size += size;
        &mut self.open
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
