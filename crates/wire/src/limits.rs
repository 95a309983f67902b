//! Sizes and counts that are accepted, each with its reason. Owns numbers only: who reads bytes enforces them.

/// One packet of the node link: both ends receive into a buffer of this size (`wire.md` 9.2).
pub const NODE_LINK_PACKET: usize = 1024;

/// The text of a refusal on the node link. Leaves room for the frame around it and for logs that quote it.
pub const NODE_LINK_ERROR: usize = 512;

/// A discovery response that a subscriber accepts; what upstream's node proxy accepts. The first response of a
/// large mesh is one message.
pub const DISCOVERY_RESPONSE: usize = 200 << 20;

/// A discovery request that a publisher accepts. Upstream takes 4 MiB, which a subscriber that retains more than
/// about 40,000 resources exceeds when it reconnects; ours is for 200,000.
pub const DISCOVERY_REQUEST: usize = 32 << 20;

/// Where a publisher starts another response. Below gRPC's customary limit of 4 MiB, so that any client takes it.
pub const DISCOVERY_RESPONSE_SPLIT: usize = 3 << 20;

/// One resource in a response. Kubernetes bounds an object at about 1.5 MiB; a record made from one is smaller.
pub const RESOURCE: usize = 2 << 20;

/// Names in one request to subscribe or unsubscribe; a subscriber that wants more wants everything.
pub const NAMES_PER_REQUEST: usize = 200_000;

/// The text of a NACK: it names every refused resource, and is logged and kept by the publisher.
pub const NACK_TEXT: usize = 4096;

/// Hosts of one service entry: each is a service of its own to a waypoint.
pub const ENTRY_HOSTS: usize = 256;

/// Services that one route is attached to (`waypoint.md` 2.2, as the following): 32 parents, each a service entry at the
/// most.
pub const ROUTE_PARENTS: usize = 32 * ENTRY_HOSTS;

/// Rules of one route.
pub const ROUTE_RULES: usize = 16;

/// Matches of all rules of one route.
pub const ROUTE_MATCHES: usize = 128;

/// Services that one VirtualService is for: a wildcard may be many.
pub const VIRTUAL_PARENTS: usize = 1024;

/// Rules of one VirtualService, which has no limit of its own; an object of Kubernetes is smaller.
pub const VIRTUAL_RULES: usize = 4096;

/// Matches of all rules of one VirtualService.
pub const VIRTUAL_MATCHES: usize = 16_384;

/// An answer that a rule holds ready (`waypoint.md` 4.1).
pub const DIRECT_BODY: usize = 1 << 20;

/// How long a request may be held up by a fault that is put in its way; it takes room all the while.
pub const FAULT_DELAY: std::time::Duration = std::time::Duration::from_secs(600);

/// Backends of one rule.
pub const ROUTE_BACKENDS: usize = 16;

/// A backend's weight.
pub const ROUTE_WEIGHT: u32 = 1_000_000;

/// Headers or parameters in one match, changes of headers of one sort, or mirrors.
pub const ROUTE_LIST: usize = 16;

/// Labels of a workload that are told: as many as all routes may look at.
pub const WORKLOAD_LABELS: usize = 64;

/// A path, or why something is broken.
pub const ROUTE_TEXT: usize = 1024;

/// A header's name.
pub const HEADER_NAME: usize = 256;

/// A header's value.
pub const HEADER_VALUE: usize = 4096;

/// Origins, methods or headers that are allowed across origins.
pub const CORS_LIST: usize = 64;

/// How often one request is tried again. The Gateway API has no limit; more than this only makes an outage larger.
pub const RETRIES: usize = 100;

/// Status codes or events that are retried after; there are 200 codes.
pub const RETRY_CODES: usize = 200;

/// Targets of one policy of requests (`waypoint.md` 1.11): 16 that it names, each a service entry at the most.
pub const POLICY_TARGETS: usize = 16 * ENTRY_HOSTS;

/// Routes that one policy names.
pub const POLICY_ROUTES: usize = 16;

/// Limits that a waypoint counts itself in one policy; a request is looked at by each.
pub const LOCAL_LIMITS: usize = 64;

/// Attributes that requests are told apart by, descriptors, or parts of one: a request is written down by each.
pub const LIMIT_LIST: usize = 16;

/// A name or a value in a descriptor.
pub const LIMIT_TEXT: usize = 256;

/// Issuers of tokens in one authentication of requests; whoever believes more writes several.
pub const TOKEN_RULES: usize = 64;

/// Headers of one sort that a provider names.
pub const PROVIDER_LIST: usize = 256;

/// Members of a line of an access log.
pub const LINE_MEMBERS: usize = 128;

/// Rules, or parts of one, or values of one condition, in a policy of requests. Objects of Kubernetes are smaller.
pub const POLICY_LIST: usize = 4096;

/// Subsets of one service; more are of no use to anybody.
pub const TRAFFIC_SUBSETS: usize = 256;

/// Workloads in one subset.
pub const TRAFFIC_MEMBERS: usize = 50_000;

/// Ports of one service that are handled otherwise than the others.
pub const TRAFFIC_PORTS: usize = 256;

/// Places, or ways between them, of one service.
pub const TRAFFIC_LIST: usize = 1_024;

/// Certificates, as PEM, of those who vouch for a service's endpoints: some dozens; the handling of traffic on each port
/// and in each subset may have its own.
pub const TRAFFIC_ROOTS: usize = 64 << 10;

/// Waypoints of one namespace that have the same credential.
pub const CREDENTIAL_OWNERS: usize = 256;

/// Names of which an endpoint proves one.
pub const SUBJECT_NAMES: usize = 64;

/// Cuts a text to at most `limit` bytes, at a character's boundary.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, limit, wanted) in
            [("abc", 5, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é", 1, ""), ("", 0, "")]
        {
            assert_eq!(shortened(text, limit), wanted, "{text} {limit}");
        }
    }
}
