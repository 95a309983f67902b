//! Which services destination rules are about. Owns finding them, from either side.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_cluster::kinds::destination_rule::DestinationRule;
use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::{Kind, ObjectRef};

use crate::index::unit::Unit;
use crate::index::{Space, World};
use crate::translate::destination::{full_name, is_of_entry, is_of_service, names_well};

impl World {
    /// The services and service entries that a rule names.
    #[must_use]
    pub fn governed_by(&self, rule: &DestinationRule) -> BTreeSet<Unit> {
        let host = full_name(self, rule);
        if host.starts_with('*') {
            let named = self.hosts.iter().filter(|(it, _)| names_well(&host, it).is_some());
            return named.flat_map(|(_, units)| units).cloned().collect();
        }
        self.claims(&host).cloned().collect()
    }

    /// The rules that name a service, a service entry or one of its hosts.
    #[must_use]
    pub fn rules_of(&self, at: &ObjectRef) -> BTreeSet<ObjectRef> {
        if !self.has_rules() {
            return BTreeSet::new();
        }
        let hosts = self.claimed_by(at);
        let named = self.rules().filter(|(.., rule)| self.names_one_of(rule, &hosts));
        named.map(|(namespace, name, _)| ObjectRef::new(Kind::DestinationRule, namespace, name)).collect()
    }

    /// The services of a workload with these labels of which parts are told apart by labels.
    pub(super) fn parted(&self, space: &Space, labels: &Texts) -> BTreeSet<Unit> {
        if !self.has_rules() {
            return BTreeSet::new();
        }
        let of_service = space.services.iter().filter(|(_, it)| is_of_service(it, labels));
        let of_entry = space.entries.iter().filter(|(_, it)| is_of_entry(it, labels));
        let services = of_service.map(|(name, it)| (Kind::Service, &it.metadata.namespace, name));
        let entries = of_entry.map(|(name, it)| (Kind::ServiceEntry, &it.metadata.namespace, name));
        let objects =
            services.chain(entries).map(|(kind, namespace, name)| ObjectRef::new(kind, namespace, name));
        objects.filter(|at| self.is_parted(at)).filter_map(|at| Unit::new(&at)).collect()
    }

    /// Whether any rule has subsets of it.
    fn is_parted(&self, at: &ObjectRef) -> bool {
        let hosts = self.claimed_by(at);
        let mut parting = self.rules().filter(|(.., rule)| !rule.spec.subsets.is_empty());
        parting.any(|(.., rule)| self.names_one_of(rule, &hosts))
    }

    fn names_one_of(&self, rule: &DestinationRule, hosts: &[(Box<str>, Unit)]) -> bool {
        let named = full_name(self, rule);
        hosts.iter().any(|(host, _)| names_well(&named, host).is_some())
    }

    fn rules(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &DestinationRule)> {
        self.spaces().flat_map(|(namespace, space)| {
            space.destination_rules.iter().map(move |(name, rule)| (namespace, name, &**rule))
        })
    }
}
