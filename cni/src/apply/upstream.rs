//! What upstream's agent leaves in a running pod, and on its node, when it installed its rules by iptables (`cni.md`
//! 4.2, 5.2), as far as that is nf_tables underneath: chains in tables that others use, too. Owns recognising them and
//! taking them out, them alone, in the transaction that installs ours. A sidecar's chains are recognised and left.

use crate::apply::ApplyError;
use ambit_sys::netlink::attribute::{Attributes, attribute, attributes};
use ambit_sys::netlink::nftables::{Batch, GET_CHAIN, GET_RULE};
use ambit_sys::netlink::talk::Talk;

use crate::apply::nft::{Whose, list_of, name_in};

const DEL_CHAIN: u16 = 5;
const DEL_RULE: u16 = 8;

/// The families that iptables and ip6tables use: `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];

/// Chains of upstream's agent in each of its tables in a pod.
const CHAINS: [&str; 2] = ["ISTIO_PRERT", "ISTIO_OUTPUT"];

/// Its chain on a node, which gives every connection of a process on the node's network the probes' source, and the
/// built-in one that leads there. It stays when the agent ends for a successor.
const NODES: [&str; 1] = ["ISTIO_POSTRT"];
const NODES_TABLE: &str = "nat";
const BEFORE_NODES: &str = "POSTROUTING";

/// Chains that only a sidecar's rules have, one of which is named as one of the agent's.
const SIDECARS: [&str; 3] = ["ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT"];

/// Chains, and the rules that lead to them.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    chains: Vec<Chain>,
    jumps: Vec<Jump>,
    /// A sidecar's redirection is there, which ours cannot stand beside.
    pub(super) sidecar: bool,
}

#[derive(Debug)]
struct Chain {
    family: u8,
    table: Vec<u8>,
    name: Vec<u8>,
}

#[derive(Debug)]
struct Jump {
    family: u8,
    table: Vec<u8>,
    chain: Vec<u8>,
    handle: Vec<u8>,
}

impl Upstream {
    pub(super) fn find(talk: &mut Talk, whose: Whose) -> Result<Self, ApplyError> {
        match whose {
            Whose::Pod => Self::in_pod(talk),
            Whose::Node => Self::on_node(talk),
        }
    }

    /// Asked for by name: a node may have ten thousand chains.
    fn on_node(talk: &mut Talk) -> Result<Self, ApplyError> {
        let mut found = Self::default();
        let table = NODES_TABLE.as_bytes();
        for family in FAMILIES {
            for name in NODES {
                let which = Attributes::new().text(1, NODES_TABLE).text(2, name);
                if !list_of(talk, family, GET_RULE, &which)?.is_empty() {
                    found.chains.push(Chain { family, table: table.into(), name: name.into() });
                }
            }
            if found.chains.iter().any(|it| it.family == family) {
                let which = Attributes::new().text(1, NODES_TABLE).text(2, BEFORE_NODES);
                let rules = list_of(talk, family, GET_RULE, &which)?;
                found.jumps.extend(rules.iter().filter_map(|rule| Jump::of(rule, family, table, &NODES)));
            }
        }
        Ok(found)
    }

    fn in_pod(talk: &mut Talk) -> Result<Self, ApplyError> {
        let mut found = Self::default();
        for family in FAMILIES {
            for chain in list_of(talk, family, GET_CHAIN, &Attributes::new())? {
                let (table, name) = (name_in(&chain, 1).to_vec(), name_in(&chain, 3).to_vec());
                found.sidecar |= is_one_of(&name, &SIDECARS);
                if is_one_of(&name, &CHAINS) {
                    found.chains.push(Chain { family, table, name });
                }
            }
        }
        if found.sidecar {
            found.chains.clear();
        }
        let mut tables: Vec<_> = found.chains.iter().map(|it| (it.family, it.table.clone())).collect();
        tables.dedup();
        for (family, table) in tables {
            let rules = list_of(talk, family, GET_RULE, &Attributes::new().raw(1, &ended(&table)))?;
            found.jumps.extend(rules.iter().filter_map(|rule| Jump::of(rule, family, &table, &CHAINS)));
        }
        Ok(found)
    }

    /// One of the chains, for people.
    pub(super) fn first(&self) -> Option<String> {
        let Chain { table, name, .. } = self.chains.first()?;
        Some(format!("{}/{}", String::from_utf8_lossy(table), String::from_utf8_lossy(name)))
    }

    /// Takes all of it out: what leads there, what is in there, then the chains.
    pub(super) fn clear(&self, batch: &mut Batch) {
        for Jump { family, table, chain, handle } in &self.jumps {
            let which = Attributes::new().raw(1, &ended(table)).raw(2, &ended(chain)).raw(3, handle);
            batch.add_to(*family, DEL_RULE, 0, &which);
        }
        for Chain { family, table, name } in &self.chains {
            let which = Attributes::new().raw(1, &ended(table)).raw(2, &ended(name));
            batch.add_to(*family, DEL_RULE, 0, &which);
        }
        for Chain { family, table, name } in &self.chains {
            let which = Attributes::new().raw(1, &ended(table)).raw(3, &ended(name));
            batch.add_to(*family, DEL_CHAIN, 0, &which);
        }
    }
}

impl Jump {
    /// A rule as it is listed, if it is a jump of this table from another chain to one of these.
    fn of(rule: &[u8], family: u8, table: &[u8], chains: &[&str]) -> Option<Self> {
        let chain = name_in(rule, 2);
        let is_one = leads_to(rule, chains) && !is_one_of(chain, chains) && name_in(rule, 1) == table;
        let handle = attribute(rule, 3).unwrap_or_default().to_vec();
        is_one.then(|| Self { family, table: table.into(), chain: chain.into(), handle })
    }
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|it| it.as_bytes() == name)
}

/// Whether one of a rule's verdicts is a jump to one of the chains: immediate, data, verdict, chain.
fn leads_to(rule: &[u8], chains: &[&str]) -> bool {
    attributes(attribute(rule, 4).unwrap_or_default()).any(|(_, expression)| {
        let verdict = [2, 2, 2].into_iter().try_fold(expression, attribute);
        name_in(expression, 1) == b"immediate"
            && verdict.is_some_and(|verdict| is_one_of(name_in(verdict, 2), chains))
    })
}

fn ended(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.push(0);
    bytes
}
