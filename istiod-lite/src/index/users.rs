//! Who names which gateway by labels: as the waypoint to go through, or as what it is a part of. Owns reading those
//! labels, and finding by a gateway all that has to be looked at again when it changes. What it means that a gateway is
//! named is `translate`'s.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ambit_cluster::kinds::entry::ServiceEntry;
use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::waypoint::{PART_OF, USE, USE_NAMESPACE};
use ambit_cluster::{Kind, ObjectRef};

use crate::index::accounts::{for_accounts, served};
use crate::index::{Space, World};

/// The label by which a second waypoint is tried.
const CANARY: &str = "istio.io/use-waypoint-canary";
/// The label that says where that is.
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";

/// A gateway, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What labels say of a waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Nothing: what is around decides.
    Unsaid,
    /// There is to be none.
    Nobody,
    /// This one.
    Waypoint(Named<'a>),
}

/// The waypoint that labels choose, of an object in this namespace.
#[must_use]
pub fn choice<'a>(labels: &'a Texts, home: &'a str) -> Choice<'a> {
    match labels.get(USE).map(String::as_str) {
        None => Choice::Unsaid,
        Some("" | "none") => Choice::Nobody,
        Some(name) => Choice::Waypoint(Named { namespace: elsewhere(labels, USE_NAMESPACE, home), name }),
    }
}

/// The second waypoint that labels try.
#[must_use]
pub fn canary<'a>(labels: &'a Texts, home: &'a str) -> Option<Named<'a>> {
    let name = labels.get(CANARY).map(String::as_str).filter(|name| !matches!(*name, "" | "none"))?;
    Some(Named { namespace: elsewhere(labels, CANARY_NAMESPACE, home), name })
}

fn elsewhere<'a>(labels: &'a Texts, label: &str, home: &'a str) -> &'a str {
    labels.get(label).map(String::as_str).filter(|it| !it.is_empty()).unwrap_or(home)
}

/// Objects by the gateways that they name.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<(Box<str>, Box<str>), BTreeSet<ObjectRef>>);

impl Users {
    pub(super) fn enter(&mut self, gateway: Named<'_>, user: &ObjectRef) {
        self.0.entry(key(gateway)).or_default().insert(user.clone());
    }

    pub(super) fn leave(&mut self, gateway: Named<'_>, user: &ObjectRef) {
        let key = key(gateway);
        let Some(users) = self.0.get_mut(&key) else { return };
        users.remove(user);
        if users.is_empty() {
            self.0.remove(&key);
        }
    }

    fn of(&self, gateway: Named<'_>) -> impl Iterator<Item = &ObjectRef> {
        self.0.get(&key(gateway)).into_iter().flatten()
    }
}

fn key(gateway: Named<'_>) -> (Box<str>, Box<str>) {
    (gateway.namespace.into(), gateway.name.into())
}

impl World {
    /// The objects that bear on a gateway, or on which it bears. For a namespace that names it, all that lives there.
    #[must_use]
    pub fn users(&self, gateway: Named<'_>) -> BTreeSet<ObjectRef> {
        let mut all = BTreeSet::new();
        for user in self.users.of(gateway) {
            match (user.kind, self.space(&user.name)) {
                (Kind::Namespace, Some(space)) => all.extend(inhabitants(&user.name, space)),
                (Kind::Namespace, None) => {}
                _ => drop(all.insert(user.clone())),
            }
        }
        // Before it is there and after it has gone nothing is its account's.
        if let Some((home, space)) = self.spaces.get_key_value(gateway.namespace)
            && space.gateways.get(gateway.name).is_some_and(|it| served(it).is_some())
        {
            all.extend(inhabitants(home, space));
            let beside = for_accounts(space).filter(|(it, _)| it.metadata.name != gateway.name);
            all.extend(beside.map(|(it, _)| ObjectRef::new(Kind::Gateway, home, &it.metadata.name)));
        }
        all
    }

    /// The same of all gateways, whether they are there or not.
    #[must_use]
    pub fn users_of_all(&self) -> BTreeSet<ObjectRef> {
        let named = self.users.0.keys().map(|(namespace, name)| Named { namespace, name });
        let gateways = self
            .spaces()
            .flat_map(|(home, space)| space.gateways.keys().map(move |name| Named { namespace: home, name }));
        named.chain(gateways).flat_map(|it| self.users(it)).collect()
    }

    /// The gateways of a class.
    pub fn gateways_of<'a>(&'a self, class: &'a str) -> impl Iterator<Item = Named<'a>> {
        let gateways = self.spaces().flat_map(|(_, space)| space.gateways.values());
        let of_class = gateways.filter(move |it| it.spec.gateway_class_name == class);
        of_class.map(|it| Named { namespace: &it.metadata.namespace, name: &it.metadata.name })
    }

    /// The gateways that an object names.
    pub(super) fn names(&self, at: &ObjectRef) -> Vec<Named<'_>> {
        let home = if at.kind == Kind::Namespace { &at.name } else { &at.namespace };
        let Some((home, space)) = self.spaces.get_key_value(home) else { return Vec::new() };
        let labels: Vec<&Texts> = match at.kind {
            Kind::Namespace => space.object.iter().map(|it| &it.metadata.labels).collect(),
            Kind::Pod => space.pods.get(&at.name).map(|it| &it.metadata.labels).into_iter().collect(),
            Kind::Service => space.services.get(&at.name).map(|it| &it.metadata.labels).into_iter().collect(),
            Kind::ServiceEntry => space.entries.get(&at.name).into_iter().flat_map(labels_of_entry).collect(),
            Kind::WorkloadEntry => {
                let workload = space.workloads.get(&at.name).into_iter();
                workload.flat_map(|it| [&it.metadata.labels, &it.spec.labels]).collect()
            }
            _ => Vec::new(),
        };
        labels.into_iter().flat_map(|labels| said(labels, home)).collect()
    }
}

/// An entry's own labels, and those of its endpoints, each of which may choose.
fn labels_of_entry(entry: &Arc<ServiceEntry>) -> impl Iterator<Item = &Texts> {
    let endpoints = entry.spec.endpoints.iter().map(|it| &it.labels);
    std::iter::once(&entry.metadata.labels).chain(endpoints)
}

fn said<'a>(labels: &'a Texts, home: &'a str) -> impl Iterator<Item = Named<'a>> {
    let chosen = match choice(labels, home) {
        Choice::Waypoint(named) => Some(named),
        Choice::Unsaid | Choice::Nobody => None,
    };
    let part_of = labels.get(PART_OF).map(|name| Named { namespace: home, name });
    chosen.into_iter().chain(canary(labels, home)).chain(part_of)
}

/// All of a namespace that may go through a waypoint.
fn inhabitants(namespace: &Arc<str>, space: &Space) -> Vec<ObjectRef> {
    let services = space.services.keys().map(|name| (Kind::Service, name));
    let entries = space.entries.keys().map(|name| (Kind::ServiceEntry, name));
    let workloads = space.workloads.keys().map(|name| (Kind::WorkloadEntry, name));
    let pods = space.pods.keys().map(|name| (Kind::Pod, name));
    let all = services.chain(entries).chain(workloads).chain(pods);
    all.map(|(kind, name)| ObjectRef { kind, namespace: namespace.clone(), name: name.clone() }).collect()
}
