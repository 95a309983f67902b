//! Limits of how many requests may come (`waypoint.md` 4.10): counted here, by buckets of tokens, or by a service that
//! is asked. Owns the nouns and which of them are of a request; how a bucket empties and fills is `bucket`'s, what is
//! known of a request by name is `attribute`'s, and asking is a waypoint's.
//!
//! What cannot be known of a request never keeps a limit from being its own, as with policies that deny.

mod attribute;
mod bucket;
mod buckets;

use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::http_route::RouteTarget;
use crate::name::PolicyKey;
use crate::provider::{HeaderChanges, Reach};
use crate::request_policy::{Facts, RequestRule, Target, fires};
pub use attribute::{Attribute, AttributeError};
pub use bucket::{BURST_MOST, Level, PER_LEAST, PER_MOST, REQUESTS_MOST, Rate, RateError, Taken};
pub use buckets::Buckets;

/// How long a service is waited for, where nothing else is said.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// One policy of limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// `<namespace>/<name>`.
    pub key: PolicyKey,
    /// Whose requests it limits.
    pub targets: Vec<Target>,
    /// Of which routes requests are limited as well.
    pub routes: Vec<RouteTarget>,
    /// Limits that are counted here, of which every one that matches must have room.
    pub local: Vec<LocalLimit>,
    /// Who else counts; none: nobody.
    pub global: Option<GlobalLimit>,
    /// Whether clients are told in headers how much is left.
    pub tell: bool,
    /// Whether gRPC is told RESOURCE_EXHAUSTED, and not UNAVAILABLE.
    pub exhausted: bool,
}

/// A limit that is counted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalLimit {
    /// Whose requests it counts.
    pub rule: RequestRule,
    /// By what they are told apart, each with a bucket of its own; nothing: all share one.
    pub key: Vec<Attribute>,
    /// How many, and how fast.
    pub rate: Rate,
}

/// Limits that a service counts, with whom it speaks Envoy's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalLimit {
    /// Where it is; none: that could not be read, and nobody counts there.
    pub at: Option<Reach>,
    /// What the descriptors are of, in its configuration.
    pub domain: Box<str>,
    /// What it is told of a request.
    pub descriptors: Vec<Descriptor>,
    /// What one request counts.
    pub hits: u32,
    /// How long it is waited for.
    pub patience: Duration,
    /// Whether requests are refused without an answer.
    pub fail_closed: bool,
}

/// Something a service is told of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Of which requests.
    pub rule: RequestRule,
    /// Its parts, in this order.
    pub entries: Vec<Entry>,
}

/// A part of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How the service calls it.
    pub key: Box<str>,
    /// What it is.
    pub value: EntryValue,
}

/// What a part of a descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryValue {
    /// Always the same.
    Fixed(Box<str>),
    /// What is known of the request.
    Of(Attribute),
}

/// A descriptor as it is sent: keys and values.
pub type Described = Vec<(String, String)>;

/// How much of a limit is left, as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// How many requests there are at most.
    pub most: u32,
    /// How many are left.
    pub left: u32,
    /// When all of them will be there again.
    pub reset: Duration,
}

/// What a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Whether there are too many.
    pub is_over: bool,
    /// Changes to the request, where it goes on.
    pub request: HeaderChanges,
    /// Changes to the answer, whoever gives it.
    pub back: HeaderChanges,
    /// What the client is answered, where there are too many.
    pub body: Vec<u8>,
    /// What is left of the scarcest of its limits.
    pub left: Option<Left>,
}

impl RateLimit {
    /// The limits that count a request here, and which each is.
    pub fn counted<'a>(
        &'a self,
        facts: &'a Facts<'a>,
    ) -> impl Iterator<Item = (usize, &'a LocalLimit)> + use<'a> {
        self.local.iter().enumerate().filter(|(_, it)| fires(&it.rule, facts))
    }
}

impl LocalLimit {
    /// Says which bucket a request is of: the limit's, and there that of what is known of the request. What is not
    /// known is a value as well, so that nobody gets a way around the limit by leaving something out.
    pub fn name(&self, (policy, at): (&PolicyKey, usize), facts: &Facts<'_>, to: &mut impl Hasher) {
        (policy, at).hash(to);
        for attribute in &self.key {
            attribute.of(facts).hash(to);
        }
    }
}

impl GlobalLimit {
    /// What the service is told of a request. A descriptor of which a part is not known is left out; nothing is left:
    /// it is not asked.
    #[must_use]
    pub fn describe(&self, facts: &Facts<'_>) -> Vec<Described> {
        let known = |entry: &Entry| {
            let value = match &entry.value {
                EntryValue::Fixed(text) => text.to_string(),
                EntryValue::Of(attribute) => attribute.of(facts)?.into_owned(),
            };
            Some((entry.key.to_string(), value))
        };
        let of_it = self.descriptors.iter().filter(|it| fires(&it.rule, facts));
        of_it.filter_map(|it| it.entries.iter().map(known).collect()).collect()
    }
}

impl Left {
    /// The one of which less is left.
    #[must_use]
    pub fn scarcer(self, other: Self) -> Self {
        if other.left < self.left { other } else { self }
    }
}

#[cfg(test)]
mod tests;
