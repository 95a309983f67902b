//! Everything the control plane has to say, as one immutable, numbered view: type -> name -> record.
//! Owns content, versions, the indexes of on-demand lookups, what changed lately, and what was encoded of it for many.
//! A view is cheap to derive (`with`) and cheap to keep: it shares what did not change. Knows no subscriber
//! (`publisher`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ambit_model::delta::Delta;
use ambit_model::name::{Identity, NodeName};
use ambit_wire::convert::{Encoded, ResourceKey, ResourceType, encode};
use bytes::Bytes;
use ipnet::IpNet;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use twox_hash::XxHash64;

use self::index::Index;
pub(crate) use self::print::Print;
use self::shared::Shared;
use crate::content::{Contents, Due, Farewell, Told};

mod index;
mod print;
mod shared;

/// Generations whose changes are remembered. A subscriber further behind is compared in full, which costs one walk
/// over everything.
const STEPS: usize = 256;

/// How many types there are.
const TYPES: usize = ResourceType::ALL.len();

/// The text of a resource's name.
pub type Name = Arc<str>;

/// One resource.
#[derive(PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: ResourceKey,
    /// Its canonical name.
    pub name: Name,
    /// The hash of its content, in hexadecimal. Authorization has one too, though upstream leaves it empty.
    pub version: Box<str>,
    /// Other names it may be asked for by.
    pub aliases: Vec<String>,
    /// The node it runs on; empty: none.
    pub node: NodeName,
    /// Names of the services it is an endpoint of.
    pub services: Vec<String>,
    /// Whom it is told to alone; nobody in particular: all who ask.
    pub owners: Vec<Identity>,
    /// Its content.
    pub body: Bytes,
}

/// Without the content, which may be a key.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = (&self.name, &self.version);
        f.debug_struct("Record").field("name", name).field("version", version).finish_non_exhaustive()
    }
}

impl Record {
    /// How long a range of this service's is that holds what is asked for (`<network>/<ip>`); none: none does.
    #[must_use]
    pub fn covers(&self, asked: &str) -> Option<u8> {
        let (network, ip) = asked.rsplit_once('/')?;
        let ip: IpAddr = ip.parse().ok()?;
        let range = |alias: &String| {
            let range: IpNet = alias.strip_prefix(network)?.strip_prefix('/')?.parse().ok()?;
            range.contains(&ip).then(|| range.prefix_len())
        };
        self.aliases.iter().filter_map(range).max()
    }

    pub(crate) fn has_ranges(&self) -> bool {
        matches!(self.key, ResourceKey::Service(_))
            && self.aliases.iter().any(|it| it.matches('/').count() > 1)
    }
}

/// What one generation changed.
#[derive(Debug)]
struct Step {
    changed: Vec<Changed>,
    /// What was there before, of each type.
    before: [Print; TYPES],
    moment: Option<Moment>,
}

/// When changes came about, for whoever measures how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The oldest of them was heard of.
    pub heard: Instant,
    /// They were ready to be told.
    pub ready: Instant,
}

#[derive(Debug)]
struct Changed {
    kind: ResourceType,
    name: Name,
    /// What was there under this name before.
    former: Option<Arc<Record>>,
}

/// All resources of one generation.
#[derive(Debug, Clone, Default)]
pub struct Library {
    generation: u64,
    addresses: RedBlackTreeMapSync<Name, Arc<Record>>,
    policies: RedBlackTreeMapSync<Name, Arc<Record>>,
    routes: RedBlackTreeMapSync<Name, Arc<Record>>,
    request_policies: RedBlackTreeMapSync<Name, Arc<Record>>,
    rate_limits: RedBlackTreeMapSync<Name, Arc<Record>>,
    ext_procs: RedBlackTreeMapSync<Name, Arc<Record>>,
    authentications: RedBlackTreeMapSync<Name, Arc<Record>>,
    providers: RedBlackTreeMapSync<Name, Arc<Record>>,
    traffic: RedBlackTreeMapSync<Name, Arc<Record>>,
    credentials: RedBlackTreeMapSync<Name, Arc<Record>>,
    telemetry: RedBlackTreeMapSync<Name, Arc<Record>>,
    by_alias: Index,
    by_service: Index,
    by_node: Index,
    /// Services with ranges of addresses; there are few.
    ranged: RedBlackTreeSetSync<Name>,
    /// The changes of the latest generations, newest last.
    steps: VecDeque<Arc<Step>>,
    /// What is there, of each type.
    prints: [Print; TYPES],
    shared: Shared,
}

impl Library {
    /// How often anything changed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The view after `delta`. What is published anew with the same content is no change; if nothing changes,
    /// neither does the generation.
    #[must_use]
    pub fn with(&self, delta: &Delta) -> Self {
        let mut next = self.clone();
        let mut changed = Vec::new();
        for change in &delta.changes {
            let (key, encoded) = encode(change);
            let kind = key.kind();
            let name = Name::from(key.to_string());
            let former = next.shelf(kind).get(&name).cloned();
            let differs = match encoded {
                Some(encoded) => next.put(key, &name, encoded),
                None => next.take(&key, &name),
            };
            if differs {
                changed.push(Changed { kind, name, former });
            }
        }
        if changed.is_empty() {
            return next;
        }
        next.generation += 1;
        next.steps.push_back(Arc::new(Step { changed, before: self.prints, moment: None }));
        if next.steps.len() > STEPS {
            next.steps.pop_front();
        }
        next
    }

    /// The same, when what it changes came about is known; a view that changes nothing has no such moment.
    #[must_use]
    pub fn timed(mut self, moment: Moment) -> Self {
        // A step that an older view has, too, is not of this change.
        if let Some(step) = self.steps.back_mut().and_then(Arc::get_mut) {
            step.moment = Some(moment);
        }
        self
    }

    /// When the oldest change after a generation was heard of, of those that are remembered; of one type, or of any.
    #[must_use]
    pub fn heard_since(&self, generation: u64, kind: Option<ResourceType>) -> Option<Instant> {
        let behind = usize::try_from(self.generation.saturating_sub(generation)).unwrap_or(usize::MAX);
        let is_of = |step: &&Arc<Step>| kind.is_none_or(|kind| step.changed.iter().any(|it| it.kind == kind));
        let steps = self.steps.iter().rev().take(behind).filter(is_of);
        steps.filter_map(|step| step.moment.map(|it| it.heard)).min()
    }

    /// When it was ready to be told.
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        self.steps.back().and_then(|step| step.moment).map(|it| it.ready)
    }

    /// A resource by its canonical name.
    #[must_use]
    pub fn record(&self, kind: ResourceType, name: &str) -> Option<&Arc<Record>> {
        self.shelf(kind).get(name)
    }

    /// All resources of a type, by name.
    pub fn records(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Record>> {
        self.shelf(kind).values()
    }

    /// How many resources of a type there are.
    #[must_use]
    pub fn len(&self, kind: ResourceType) -> usize {
        self.shelf(kind).size()
    }

    /// What an on-demand subscriber means by `asked` (`control-plane.md` 1.13): a workload by its uid; all workloads
    /// with an address; a service, by name or address, with all its endpoints. An address that is nobody's own is that
    /// of the service with the narrowest range around it.
    #[must_use]
    pub fn find(&self, asked: &str) -> Vec<Arc<Record>> {
        let named = self.addresses.get(asked).map(|record| &record.name);
        let known: Vec<&Arc<Record>> = named
            .into_iter()
            .chain(self.by_alias.names(asked))
            .filter_map(|name| self.addresses.get(name))
            .collect();
        let workloads = known.iter().filter(|record| matches!(record.key, ResourceKey::Workload(_)));
        let found: Vec<Arc<Record>> = workloads.map(|record| Arc::clone(record)).collect();
        if !found.is_empty() {
            return found;
        }
        let with_endpoints = |service: &Arc<Record>| {
            let endpoints: Vec<_> = self.endpoints(&service.name).cloned().collect();
            std::iter::once(Arc::clone(service)).chain(endpoints)
        };
        if known.is_empty() {
            return self.around(asked).into_iter().flat_map(with_endpoints).collect();
        }
        known.into_iter().flat_map(with_endpoints).collect()
    }

    /// The service with the narrowest range around an address.
    fn around(&self, asked: &str) -> Option<&Arc<Record>> {
        let services = self.ranged.iter().filter_map(|name| self.addresses.get(name));
        let around = services.filter_map(|record| Some((record.covers(asked)?, record)));
        // Of equal ones the first by name.
        around.min_by_key(|(length, _)| Reverse(*length)).map(|(_, record)| record)
    }

    /// The endpoints of a service.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Arc<Record>> {
        self.by_service.names(service).filter_map(|name| self.addresses.get(name))
    }

    /// The workloads of a node; none for the empty name.
    pub fn on_node(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Record>> {
        self.by_node.names(node.as_str()).filter_map(|name| self.addresses.get(name))
    }

    /// Names of a type that may differ between `older`, an ancestor of this view, and this view. From memory when
    /// `older` is recent enough, else by comparing everything.
    #[must_use]
    pub fn touched_since(&self, older: &Self, kind: ResourceType) -> BTreeSet<Name> {
        let behind = self.generation.saturating_sub(older.generation);
        match usize::try_from(behind) {
            Ok(behind) if behind <= self.steps.len() => {
                let steps = self.steps.iter().rev().take(behind);
                let names = steps.flat_map(|step| &step.changed).filter(|it| it.kind == kind);
                names.map(|it| Arc::clone(&it.name)).collect()
            }
            _ => self.compared_with(older, kind),
        }
    }

    /// All of a type, encoded, as an answer that is owed.
    pub(crate) fn everything(&self, kind: ResourceType) -> Contents {
        self.shared.everything(kind, || {
            let changed = self.records(kind).cloned().collect();
            Due { changed, owed: true, ..Due::default() }.told(kind, Farewell::InTurn).now
        })
    }

    /// What is to be said to those who have `older`, an ancestor of this view.
    pub(crate) fn difference(&self, older: &Self, kind: ResourceType, farewell: Farewell) -> Arc<Told> {
        self.recent_difference(older.generation, kind, farewell).unwrap_or_else(|| {
            let former = |name: Name| {
                let former = older.record(kind, &name);
                (name, former)
            };
            let touched = self.compared_with(older, kind).into_iter().map(former).collect();
            Arc::new(self.due(kind, touched).told(kind, farewell))
        })
    }

    /// What is to be said to those who have what a generation had, if that is remembered.
    pub(crate) fn recent_difference(
        &self,
        generation: u64,
        kind: ResourceType,
        farewell: Farewell,
    ) -> Option<Arc<Told>> {
        let behind = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        let first = self.steps.len().checked_sub(behind)?;
        Some(self.shared.difference((generation, kind, farewell), || {
            let mut touched: BTreeMap<Name, Option<&Arc<Record>>> = BTreeMap::new();
            let changed = self.steps.iter().skip(first).flat_map(|step| &step.changed);
            for it in changed.filter(|it| it.kind == kind) {
                // The first change knows what was there in that generation.
                touched.entry(Arc::clone(&it.name)).or_insert(it.former.as_ref());
            }
            self.due(kind, touched).told(kind, farewell)
        }))
    }

    fn due(&self, kind: ResourceType, touched: BTreeMap<Name, Option<&Arc<Record>>>) -> Due {
        let mut due = Due::default();
        for (name, former) in touched {
            match (former, self.record(kind, &name)) {
                (None, None) => {}
                (Some(_), None) => due.removed.push(name.to_string()),
                (Some(old), Some(new)) if old.version == new.version => {}
                (_, Some(new)) => due.changed.push(Arc::clone(new)),
            }
        }
        due
    }

    /// The newest generation that is remembered and had exactly these names and versions of a type.
    pub(crate) fn with_print(&self, kind: ResourceType, print: Print) -> Option<u64> {
        let at = place(kind);
        if self.prints.get(at) == Some(&print) {
            return Some(self.generation);
        }
        let older = self.steps.iter().rev().position(|step| step.before.get(at) == Some(&print))?;
        self.generation.checked_sub(1 + u64::try_from(older).ok()?)
    }

    fn compared_with(&self, older: &Self, kind: ResourceType) -> BTreeSet<Name> {
        let (new, old) = (self.shelf(kind), older.shelf(kind));
        let changed = new
            .iter()
            .filter(|(name, record)| old.get(&***name).is_none_or(|former| !Arc::ptr_eq(former, record)));
        let gone = old.keys().filter(|name| !new.contains_key(&***name));
        changed.map(|(name, _)| name).chain(gone).cloned().collect()
    }

    fn shelf(&self, kind: ResourceType) -> &RedBlackTreeMapSync<Name, Arc<Record>> {
        match kind {
            ResourceType::Address => &self.addresses,
            ResourceType::Authorization => &self.policies,
            ResourceType::Route => &self.routes,
            ResourceType::Policy => &self.request_policies,
            ResourceType::RateLimit => &self.rate_limits,
            ResourceType::ExtProc => &self.ext_procs,
            ResourceType::Authentication => &self.authentications,
            ResourceType::Provider => &self.providers,
            ResourceType::Traffic => &self.traffic,
            ResourceType::Credential => &self.credentials,
            ResourceType::Telemetry => &self.telemetry,
        }
    }

    fn shelf_mut(&mut self, kind: ResourceType) -> &mut RedBlackTreeMapSync<Name, Arc<Record>> {
        match kind {
            ResourceType::Address => &mut self.addresses,
            ResourceType::Authorization => &mut self.policies,
            ResourceType::Route => &mut self.routes,
            ResourceType::Policy => &mut self.request_policies,
            ResourceType::RateLimit => &mut self.rate_limits,
            ResourceType::ExtProc => &mut self.ext_procs,
            ResourceType::Authentication => &mut self.authentications,
            ResourceType::Provider => &mut self.providers,
            ResourceType::Traffic => &mut self.traffic,
            ResourceType::Credential => &mut self.credentials,
            ResourceType::Telemetry => &mut self.telemetry,
        }
    }

    fn put(&mut self, key: ResourceKey, name: &Name, encoded: Encoded) -> bool {
        let kind = key.kind();
        let Encoded { aliases, node, services, owners, body } = encoded;
        if self.shelf(kind).get(name).is_some_and(|former| former.body == body) {
            return false;
        }
        self.take(&key, name);
        let record = Arc::new(Record {
            key,
            name: Arc::clone(name),
            version: version_of(&body),
            aliases,
            node,
            services: services.iter().map(ToString::to_string).collect(),
            owners,
            body,
        });
        if let Some(print) = self.prints.get_mut(place(kind)) {
            print.add(name, &record.version);
        }
        self.by_alias.link_all(&record.aliases, name);
        self.by_service.link_all(&record.services, name);
        self.by_node.link(record.node.as_str(), name);
        if record.has_ranges() {
            self.ranged.insert_mut(Arc::clone(name));
        }
        self.shelf_mut(kind).insert_mut(Arc::clone(name), record);
        true
    }

    fn take(&mut self, key: &ResourceKey, name: &Name) -> bool {
        let kind = key.kind();
        let Some(former) = self.shelf(kind).get(name).cloned() else { return false };
        if let Some(print) = self.prints.get_mut(place(kind)) {
            print.remove(name, &former.version);
        }
        self.by_alias.unlink_all(&former.aliases, name);
        self.by_service.unlink_all(&former.services, name);
        self.by_node.unlink(former.node.as_str(), name);
        self.ranged.remove_mut(name);
        self.shelf_mut(kind).remove_mut(name)
    }
}

/// Where a type is in what is kept of each.
fn place(kind: ResourceType) -> usize {
    match kind {
        ResourceType::Address => 0,
        ResourceType::Authorization => 1,
        ResourceType::Route => 2,
        ResourceType::Policy => 3,
        ResourceType::Authentication => 4,
        ResourceType::Provider => 5,
        ResourceType::Traffic => 6,
        ResourceType::RateLimit => 7,
        ResourceType::Telemetry => 8,
        ResourceType::ExtProc => 9,
        ResourceType::Credential => 10,
    }
}

/// The version upstream gives a resource: the xxHash64 of its bytes, in lower-case hexadecimal.
fn version_of(body: &[u8]) -> Box<str> {
    format!("{:x}", XxHash64::oneshot(0, body)).into()
}

#[cfg(test)]
mod tests;
