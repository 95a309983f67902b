//! The packet filter: one table brought to a description in one transaction, and compared with it.
//! Owns the messages around rules. What a rule consists of is `rules::expressions`.

use ambit_sys::netlink::attribute::{Attributes, Messages, attribute, attributes, text, u32_at};
use ambit_sys::netlink::nftables::{
    Batch, DEL_TABLE, FAMILY_INET, GET_CHAIN, GET_RULE, GET_SET, GET_TABLE, NEW_CHAIN, NEW_RULE, NEW_SET,
    NEW_TABLE, head, message,
};
use ambit_sys::netlink::talk::{Talk, TalkError};
use ambit_sys::netlink::{APPEND, CREATE, EXCLUSIVE, Family};

use crate::apply::upstream::Upstream;
use crate::apply::{ApplyError, Change, Drift};
use crate::rules::{
    Chain, ChainKind, Expression, FOREIGN_TABLES, Hook, Rule, Set, TABLE, Table, expressions,
};

const LIST_ELEMENT: u16 = 1;

/// Refusals of a transaction that counts on what was read before: ENOENT, EEXIST.
const CAME_OR_WENT: [Option<i32>; 2] = [Some(2), Some(17)];

/// What is in the kernel, read in one go.
struct Found {
    tables: Vec<Vec<u8>>,
    chains: Vec<Vec<u8>>,
    rules: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    upstream: Upstream,
}

/// Whose packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Pod,
    Node,
}

/// A packet filter that was read, to be brought to a description.
pub(super) struct Site {
    talk: Talk,
    whose: Whose,
    found: Found,
}

impl Site {
    pub(super) fn visit(whose: Whose) -> Result<Self, ApplyError> {
        let mut talk = open()?;
        let found = read(&mut talk, whose)?;
        Ok(Self { talk, whose, found })
    }

    /// How the kernel differs from the description.
    pub(super) fn drift(&self, table: &Table) -> Option<Drift> {
        compare(table, &self.found)
    }

    /// Replaces our table, and an earlier agent's, unless exactly this stands there.
    pub(super) fn install(mut self, table: &Table) -> Result<Change, ApplyError> {
        if self.drift(table).is_none() {
            return Ok(Change::None);
        }
        if self.found.upstream.sidecar {
            return Err(ApplyError::Sidecar);
        }
        let mut told = self.replace(table);
        if told.as_ref().is_err_and(|error| CAME_OR_WENT.contains(&error.errno())) {
            // Somebody was here between reading and writing.
            self.found = read(&mut self.talk, self.whose)?;
            told = self.replace(table);
        }
        told.map_err(|source| ApplyError::Kernel { what: "install the packet filter", source })?;
        let drift = compare(table, &read(&mut self.talk, self.whose)?);
        drift.map_or(Ok(Change::Made), |drift| Err(ApplyError::NotAsInstalled(drift)))
    }

    fn replace(&mut self, table: &Table) -> Result<(), TalkError> {
        let (batch, last) = installation(table, &self.found);
        self.talk.tell(&batch, last)
    }
}

/// Deletes our table and an earlier agent's.
pub(super) fn remove(whose: Whose) -> Result<(), ApplyError> {
    let mut talk = open()?;
    let found = read(&mut talk, whose)?;
    if found.to_replace().next().is_none() && found.upstream.first().is_none() {
        return Ok(());
    }
    let mut batch = Batch::begin();
    clear(&mut batch, &found);
    let (messages, last) = batch.end();
    let told = talk.tell(&messages, last);
    told.map_err(|source| ApplyError::Kernel { what: "remove the packet filter", source })
}

pub(super) fn open() -> Result<Talk, ApplyError> {
    let what = "open a netlink socket";
    Talk::open(Family::Netfilter).map_err(|source| ApplyError::Kernel { what, source })
}

impl Found {
    /// Names of tables that are ours, or an earlier agent's.
    fn to_replace(&self) -> impl Iterator<Item = &[u8]> {
        let ours = |table: &&Vec<u8>| name_in(table, 1) == TABLE.as_bytes() || foreign(table).is_some();
        self.tables.iter().filter(ours).map(|table| name_in(table, 1))
    }
}

/// Deletes what was found of ours and of an earlier agent's.
fn clear(batch: &mut Batch, found: &Found) {
    for name in found.to_replace() {
        batch.add(DEL_TABLE, 0, &Attributes::new().raw(1, &ended(name)));
    }
    found.upstream.clear(batch);
}

/// What brings the packet filter to the description.
fn installation(table: &Table, found: &Found) -> (Messages, u32) {
    let mut batch = Batch::begin();
    // Only what is there: most namespaces are empty, and adding tables in order to delete them is work, too.
    clear(&mut batch, found);
    batch.add(NEW_TABLE, CREATE | EXCLUSIVE, &Attributes::new().text(1, table.name));
    for (number, set) in (1..).zip(&table.sets) {
        batch.add(NEW_SET, CREATE, &set_attributes(table, *set).be32(10, number));
    }
    for chain in &table.chains {
        batch.add(NEW_CHAIN, CREATE, &chain_attributes(table, chain));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            batch.add(NEW_RULE, CREATE | APPEND, &rule_attributes(table, chain, rule));
        }
    }
    batch.end()
}

fn ended(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.push(0);
    bytes
}

/// `addr . port`: the types' numbers of nft, so that `nft list` shows the elements readably.
fn set_attributes(table: &Table, set: Set) -> Attributes {
    let (kind, length) = if set.six { (8 << 6 | 13, 20) } else { (7 << 6 | 13, 8) };
    Attributes::new().text(1, table.name).text(2, set.name).be32(3, 0).be32(4, kind).be32(5, length)
}

pub(super) fn chain_attributes(table: &Table, chain: &Chain) -> Attributes {
    let (hook, priority, kind) = entry(chain);
    let entry = Attributes::new().be32(1, hook).be32(2, priority.cast_unsigned());
    Attributes::new().text(1, table.name).text(3, chain.name).nested(4, &entry).text(7, kind)
}

fn entry(chain: &Chain) -> (u32, i32, &'static str) {
    let hook = match chain.hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    };
    let kind = match chain.kind {
        ChainKind::Nat => "nat",
        ChainKind::Filter => "filter",
        ChainKind::Route => "route",
    };
    (hook, chain.priority, kind)
}

pub(super) fn rule_attributes(table: &Table, chain: &Chain, rule: &Rule) -> Attributes {
    let mut list = Attributes::new();
    for Expression { name, data } in expressions(rule) {
        list = list.nested(LIST_ELEMENT, &Attributes::new().text(1, name).raw(2, &data));
    }
    Attributes::new().text(1, table.name).text(2, chain.name).nested(4, &list)
}

fn read(talk: &mut Talk, whose: Whose) -> Result<Found, ApplyError> {
    let tables = list(talk, GET_TABLE, &Attributes::new())?;
    let upstream = Upstream::find(talk, whose)?;
    if !tables.iter().any(|table| name_in(table, 1) == TABLE.as_bytes()) {
        return Ok(Found { tables, chains: Vec::new(), rules: Vec::new(), sets: Vec::new(), upstream });
    }
    let ours = Attributes::new().text(1, TABLE);
    let of_ours =
        |all: Vec<Vec<u8>>| all.into_iter().filter(|it| name_in(it, 1) == TABLE.as_bytes()).collect();
    // The kernel lists all chains whatever table is asked for.
    let chains = of_ours(list(talk, GET_CHAIN, &Attributes::new())?);
    let rules = of_ours(list(talk, GET_RULE, &ours)?);
    let sets = of_ours(list(talk, GET_SET, &ours)?);
    Ok(Found { tables, chains, rules, sets, upstream })
}

pub(super) fn list(talk: &mut Talk, kind: u16, which: &Attributes) -> Result<Vec<Vec<u8>>, ApplyError> {
    list_of(talk, FAMILY_INET, kind, which)
}

pub(super) fn list_of(
    talk: &mut Talk,
    family: u8,
    kind: u16,
    which: &Attributes,
) -> Result<Vec<Vec<u8>>, ApplyError> {
    let listed = talk.list(message(kind), &head(family, 0), which);
    let listed = listed.map_err(|source| ApplyError::Kernel { what: "read the packet filter", source })?;
    Ok(listed.into_iter().filter_map(|it| it.body.get(4..).map(<[u8]>::to_vec)).collect())
}

pub(super) fn name_in(body: &[u8], kind: u16) -> &[u8] {
    text(attribute(body, kind).unwrap_or_default())
}

fn foreign(table: &[u8]) -> Option<&'static str> {
    FOREIGN_TABLES.into_iter().find(|name| name.as_bytes() == name_in(table, 1))
}

fn compare(table: &Table, found: &Found) -> Option<Drift> {
    if let Some(name) = found.tables.iter().find_map(|table| foreign(table)) {
        return Some(Drift::Foreign(name.into()));
    }
    if let Some(chain) = found.upstream.first() {
        return Some(Drift::Upstream(chain));
    }
    if !found.tables.iter().any(|it| name_in(it, 1) == table.name.as_bytes()) {
        return Some(Drift::NoTable);
    }
    for set in &table.sets {
        if !found.sets.iter().any(|it| name_in(it, 2) == set.name.as_bytes()) {
            return Some(Drift::Set(set.name.into()));
        }
    }
    let known = |it: &[u8]| table.chains.iter().any(|chain| chain.name.as_bytes() == name_in(it, 3));
    if let Some(other) = found.chains.iter().find(|it| !known(it)) {
        return Some(Drift::Chain(String::from_utf8_lossy(name_in(other, 3)).into_owned()));
    }
    table.chains.iter().find_map(|chain| compare_chain(chain, found))
}

fn compare_chain(chain: &Chain, found: &Found) -> Option<Drift> {
    let differs = || Some(Drift::Chain(chain.name.into()));
    let Some(there) = found.chains.iter().find(|it| name_in(it, 3) == chain.name.as_bytes()) else {
        return differs();
    };
    let (hook, priority, kind) = entry(chain);
    let place = attribute(there, 4).unwrap_or_default();
    let number = |kind| attribute(place, kind).and_then(|value| u32_at(value, 0)).map(u32::from_be);
    if number(1) != Some(hook)
        || number(2) != Some(priority.cast_unsigned())
        || name_in(there, 7) != kind.as_bytes()
    {
        return differs();
    }
    let rules: Vec<_> = found.rules.iter().filter(|it| name_in(it, 2) == chain.name.as_bytes()).collect();
    let same = rules.len() == chain.rules.len()
        && rules.iter().zip(&chain.rules).all(|(there, rule)| same_rule(there, rule));
    (!same).then(|| Drift::Rules(chain.name.into()))
}

/// Whether a rule read back is the one described: the same expressions in the same order, each with all attributes
/// that we set. The kernel adds some (counts, the kind of a bit operation) that follow from ours.
fn same_rule(there: &[u8], rule: &Rule) -> bool {
    let mut wanted = expressions(rule).into_iter();
    let list = attribute(there, 4).unwrap_or_default();
    for (_, element) in attributes(list) {
        let Some(Expression { name, data }) = wanted.next() else { return false };
        let found = attribute(element, 2).unwrap_or_default();
        let all_there =
            attributes(&data).all(|(kind, value)| attribute(found, kind).is_some_and(|it| same(it, value)));
        if name_in(element, 1) != name.as_bytes() || !all_there {
            return false;
        }
    }
    wanted.next().is_none()
}

/// Equal bytes, or the same attributes inside but for flags in their kinds.
fn same(found: &[u8], wanted: &[u8]) -> bool {
    found == wanted
        || (wanted.len() > 4 && attributes(wanted).count() > 0 && attributes(found).eq(attributes(wanted)))
}

/// A refusal that means the table is not there.
pub(super) fn is_missing(error: &TalkError) -> bool {
    error.errno() == Some(2)
}
