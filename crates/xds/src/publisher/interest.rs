//! What one subscriber wants of one type and what it has; from these and a library follows what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_model::name::{Identity, NodeName};
use ambit_wire::convert::ResourceType;

use super::reported::Reported;
use crate::content::{Due, Farewell, Told};
use crate::library::{Library, Name, Record};

/// Everything.
const ALL: &str = "*";

/// What a subscriber wants.
#[derive(Debug)]
pub(super) enum Interest {
    /// Everything; it has what it reported and was told nothing yet.
    Returning { reported: Reported },
    /// Everything; it has the library told last. `asked`: names it asked for nevertheless, to be answered.
    Everything { told: Arc<Library>, asked: BTreeSet<String> },
    /// What it names.
    Named(Named),
    /// What is its own, of a type of which nobody is told everything.
    Own(Own),
}

/// A subscriber to what is its own.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// What it has: canonical names and versions.
    has: BTreeMap<Name, Box<str>>,
    /// An answer is owed.
    owed: bool,
}

/// A subscriber that names what it wants.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Names and aliases it asked for.
    asked: BTreeSet<String>,
    /// Those it waits to hear about.
    fresh: BTreeSet<String>,
    /// What it has: canonical names and versions.
    has: BTreeMap<Name, Box<str>>,
    /// The library told last; none before the first answer.
    told: Option<Arc<Library>>,
    /// An answer is owed.
    owed: bool,
}

impl Interest {
    /// The interest a first request declares. Only addresses are ever asked for by name.
    pub(super) fn first(
        kind: ResourceType,
        subscribe: Vec<String>,
        unsubscribe: &[String],
        reported: Reported,
    ) -> Self {
        if kind == ResourceType::Credential {
            let held = reported.into_map().into_iter();
            let has = held.map(|(name, version)| (Name::from(name), version.into())).collect();
            return Self::Own(Own { has, owed: true });
        }
        let asks_all = subscribe.is_empty() || subscribe.iter().any(|name| name == ALL);
        let drops_all = unsubscribe.iter().any(|name| name == ALL);
        if kind != ResourceType::Address || (asks_all && !drops_all) {
            // A name asked for beside everything, and unknown here, is answered as gone.
            let named = subscribe.into_iter().filter(|name| name != ALL);
            return Self::Returning { reported: reported.with_names(named) };
        }
        let reported = reported.into_map();
        let mut named = Named { owed: true, ..Named::default() };
        named.asked.extend(reported.keys().cloned());
        named.fresh.extend(reported.keys().cloned());
        // A name reported without a version was asked for and never received.
        let held = reported.into_iter().filter(|(_, version)| !version.is_empty());
        named.has.extend(held.map(|(name, version)| (Name::from(name), version.into())));
        named.ask(subscribe);
        Self::Named(named)
    }

    /// A later request adds and drops names.
    pub(super) fn change(&mut self, subscribe: Vec<String>, unsubscribe: &[String]) {
        let names = subscribe.into_iter().filter(|name| name != ALL);
        match self {
            Self::Returning { reported } => *reported = std::mem::take(reported).with_names(names),
            Self::Everything { asked, .. } => asked.extend(names),
            // It has all that it may have.
            Self::Own(own) => own.owed = true,
            Self::Named(named) => {
                named.drop(unsubscribe);
                named.ask(names.collect());
                named.owed = true;
            }
        }
    }

    /// How many names are held for this subscriber.
    pub(super) fn names(&self) -> usize {
        match self {
            Self::Returning { reported } => reported.count(),
            Self::Everything { asked, .. } => asked.len(),
            Self::Named(named) => named.asked.len(),
            Self::Own(own) => own.has.len(),
        }
    }

    /// What is to be said now; it counts as said.
    pub(super) fn due(
        &mut self,
        (kind, farewell): (ResourceType, Farewell),
        library: &Arc<Library>,
        own_node: &NodeName,
    ) -> Arc<Told> {
        let told = match self {
            Self::Returning { reported } if reported.is_empty() => {
                Arc::new(Told { now: library.everything(kind), later: Vec::new() })
            }
            Self::Returning { reported } => returning(reported, (kind, farewell), library),
            Self::Everything { told, asked } if asked.is_empty() => library.difference(told, kind, farewell),
            Self::Everything { told, asked } => {
                let mut due = difference(told, kind, library);
                answer_asked(&mut due, std::mem::take(asked), library);
                Arc::new(due.told(kind, farewell))
            }
            Self::Named(named) => return Arc::new(named.due(library, own_node).told(kind, farewell)),
            // Nobody is known whose it would be.
            Self::Own(own) => return Arc::new(own.due(None, library).told(kind, farewell)),
        };
        *self = Self::Everything { told: Arc::clone(library), asked: BTreeSet::new() };
        told
    }
}

/// What those are told who come back. Mostly they have what all had in a generation that is remembered; then they
/// are told alike. An answer is owed to them.
fn returning(
    reported: &Reported,
    (kind, farewell): (ResourceType, Farewell),
    library: &Library,
) -> Arc<Told> {
    let recent = library
        .with_print(kind, reported.print())
        .and_then(|generation| library.recent_difference(generation, kind, farewell));
    match recent {
        Some(told) if told.now.len() == 1 => told,
        Some(told) if told.now.is_empty() => {
            let answer = Due { owed: true, ..Due::default() }.told(kind, farewell);
            Arc::new(Told { later: told.later.clone(), ..answer })
        }
        // The difference of a long time is more than one message, and then the first of them is no whole answer.
        _ => Arc::new(compared(reported, kind, library).told(kind, farewell)),
    }
}

/// Both are in the order of names: they are walked side by side.
fn compared(reported: &Reported, kind: ResourceType, library: &Library) -> Due {
    let mut due = Due { owed: true, ..Due::default() };
    let reported = reported.sorted();
    let mut rest = reported.iter().peekable();
    for record in library.records(kind) {
        while let Some((gone, _)) = rest.next_if(|(name, _)| *name < &*record.name) {
            due.removed.push((*gone).to_owned());
        }
        let known = rest.next_if(|(name, _)| *name == &*record.name);
        if known.is_none_or(|(_, version)| *version != &*record.version) {
            due.changed.push(Arc::clone(record));
        }
    }
    due.removed.extend(rest.map(|(gone, _)| (*gone).to_owned()));
    due
}

fn difference(told: &Library, kind: ResourceType, library: &Library) -> Due {
    let mut due = Due::default();
    for name in library.touched_since(told, kind) {
        match (told.record(kind, &name), library.record(kind, &name)) {
            (None, None) => {}
            (Some(_), None) => due.removed.push(name.to_string()),
            (Some(old), Some(new)) if old.version == new.version => {}
            (_, Some(new)) => due.changed.push(Arc::clone(new)),
        }
    }
    due
}

/// A subscriber to everything that asks by name gets what it named once more, or hears that it does not exist.
fn answer_asked(due: &mut Due, asked: BTreeSet<String>, library: &Library) {
    let already: BTreeSet<Name> = due.changed.iter().map(|record| Arc::clone(&record.name)).collect();
    due.owed |= !asked.is_empty();
    for name in asked {
        let found = library.find(&name);
        if found.is_empty() && !due.removed.contains(&name) {
            due.removed.push(name);
        }
        due.changed.extend(found.into_iter().filter(|record| !already.contains(&record.name)));
    }
    due.changed.sort_by(|one, other| one.name.cmp(&other.name));
    due.changed.dedup_by(|one, other| one.name == other.name);
}

impl Own {
    /// What is to be said now; it counts as said. Whoever was not proven has nothing.
    pub(super) fn due(&mut self, caller: Option<&Identity>, library: &Library) -> Due {
        let mut due = Due { owed: std::mem::take(&mut self.owed), ..Due::default() };
        let all = library.records(ResourceType::Credential);
        let own: BTreeMap<&Name, &Arc<Record>> = all
            .filter(|record| caller.is_some_and(|caller| record.owners.contains(caller)))
            .map(|record| (&record.name, record))
            .collect();
        self.has.retain(|name, _| {
            let stays = own.contains_key(name);
            if !stays {
                due.removed.push(name.to_string());
            }
            stays
        });
        for (name, record) in own {
            let former = self.has.insert(Arc::clone(name), record.version.clone());
            if former.as_ref() != Some(&record.version) {
                due.changed.push(Arc::clone(record));
            }
        }
        due
    }
}

impl Named {
    fn ask(&mut self, names: Vec<String>) {
        for name in names.into_iter().filter(|name| name != ALL) {
            // Asked for once more, it is answered once more: the subscriber may have lost it.
            self.has.remove(name.as_str());
            self.fresh.insert(name.clone());
            self.asked.insert(name);
        }
    }

    /// Nothing is said about names that the subscriber dropped, not even that they are gone.
    fn drop(&mut self, names: &[String]) {
        for name in names {
            self.asked.remove(name);
            self.fresh.remove(name);
            self.has.remove(name.as_str());
        }
    }

    fn due(&mut self, library: &Arc<Library>, own_node: &NodeName) -> Due {
        let mut due = Due { aliases: true, owed: std::mem::take(&mut self.owed), ..Due::default() };
        let mut wanted: BTreeMap<Name, Arc<Record>> = BTreeMap::new();
        let mut want =
            |record: &Arc<Record>| drop(wanted.insert(Arc::clone(&record.name), Arc::clone(record)));
        for asked in std::mem::take(&mut self.fresh) {
            let found = library.find(&asked);
            found.iter().for_each(&mut want);
            if found.is_empty() {
                self.has.remove(asked.as_str());
                due.removed.push(asked);
            }
        }
        library.on_node(own_node).for_each(&mut want);
        for name in self
            .told
            .as_ref()
            .map(|told| library.touched_since(told, ResourceType::Address))
            .unwrap_or_default()
        {
            match library.record(ResourceType::Address, &name) {
                Some(record) if self.wants(record) => {
                    want(record);
                    library.endpoints(&name).for_each(&mut want);
                }
                Some(_) => {}
                None if self.has.remove(&name).is_some() => due.removed.push(name.to_string()),
                None => {}
            }
        }
        for (name, record) in wanted {
            let former = self.has.insert(name, record.version.clone());
            if former.as_ref() != Some(&record.version) {
                due.changed.push(record);
            }
        }
        self.told = Some(Arc::clone(library));
        due
    }

    /// Whether a changed resource concerns this subscriber: it has it, asked for it, or it is an endpoint of a
    /// service it has.
    fn wants(&self, record: &Record) -> bool {
        let asked = |name: &str| self.asked.contains(name);
        self.has.contains_key(&record.name)
            || asked(&record.name)
            || record.aliases.iter().any(|alias| asked(alias))
            || record.services.iter().any(|service| self.has.contains_key(service.as_str()))
            || (record.has_ranges() && self.asked.iter().any(|asked| record.covers(asked).is_some()))
    }
}
