//! Which rules an enrolled pod's namespace holds (`cni.md` 4.3). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rules::{
    Action, Chain, ChainKind, Families, Hook, InterfaceName, Is, L4, Match, PROBE_SOURCE_V4, PROBE_SOURCE_V6,
    PROXY_MARK, RETURN_MARK, Rule, TABLE, Table,
};

/// What varies from pod to pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRules {
    /// The families in use.
    pub families: Families,
    /// Names are resolved by ztunnel.
    pub dns: bool,
    /// What comes in is left alone, for gateways of others.
    pub bypass_inbound: bool,
    /// Interfaces by which traffic of machines inside the pod comes in; for us it goes out.
    pub inner_interfaces: Vec<InterfaceName>,
}

const OUTBOUND: u16 = 15001;
const INBOUND_PLAIN: u16 = 15006;
const INBOUND_TUNNEL: u16 = 15008;
/// Where ztunnel is asked for names.
pub(crate) const NAMES: u16 = 15053;
/// Where name servers are asked.
pub(crate) const DNS: u16 = 53;
/// ztunnel's own queries are tracked apart from the application's redirected ones, whose addresses and ports they may
/// repeat.
const DNS_ZONE: u16 = 1;
/// What ztunnel delivers in its clients' names is tracked apart from what clients send themselves, whose addresses and
/// ports it may repeat: the kernel gives it a port that is free here, not there. Were both one flow to the kernel,
/// answers would be led to the wrong end, and a client's next connection might pass ztunnel by.
const DELIVERY_ZONE: u16 = 2;

/// Where other owners' destination translation stands too; theirs still see what we accept.
const DSTNAT: i32 = -100;
const MANGLE: i32 = -150;
const RAW: i32 = -300;

/// Whether rules of a pod lead connections to this port.
#[must_use]
pub(crate) fn redirected_to(port: u16) -> bool {
    [OUTBOUND, INBOUND_PLAIN, NAMES].contains(&port)
}

/// The table of a pod's namespace.
#[must_use]
pub fn pod_table(pod: &PodRules) -> Table {
    let chain = |name, kind, hook, priority, rules| Chain { name, kind, hook, priority, rules };
    let mut chains = vec![
        chain("nat-prerouting", ChainKind::Nat, Hook::Prerouting, DSTNAT, coming_in(pod)),
        chain("nat-output", ChainKind::Nat, Hook::Output, DSTNAT, going_out(pod)),
        chain("mangle-prerouting", ChainKind::Filter, Hook::Prerouting, MANGLE, vec![remember_delivery()]),
        // Route: a restored mark must look the route up again.
        chain("mangle-output", ChainKind::Route, Hook::Output, MANGLE, vec![mark_answers()]),
    ];
    chains.extend(apart(pod, Some(from_proxy())));
    Table { name: TABLE, sets: Vec::new(), chains }
}

/// The table of a pod that leaves: nothing new is redirected, and what was goes on. Its translation is the flows' own;
/// the kernel does it for as long as there are chains of that kind, though they be empty.
#[must_use]
pub fn leaving_table(pod: &PodRules) -> Table {
    let mut table = pod_table(pod);
    for chain in table.chains.iter_mut().filter(|chain| chain.kind == ChainKind::Nat) {
        chain.rules.clear();
    }
    table
}

/// The table of a pod that is about to have left. A flow of UDP has no end, and resolvers use its ports again: a query
/// would be redirected as the one before it was, and its answer, should the rules be gone by then, would come from an
/// address that was not asked. So all queries are told apart from those before. Not at once when a pod leaves: of two
/// that are asked together, of which one was redirected, the other has to be, too, for others may know other names.
#[must_use]
pub fn parting_table(pod: &PodRules) -> Table {
    let mut table = leaving_table(pod);
    table.chains.retain(|chain| chain.priority != RAW);
    table.chains.extend(apart(pod, None));
    table
}

/// The chain of a namespace that is about to be redirected: answers are not taken for those of an earlier time in the
/// mesh, to a query from the same port. One would be lost, for its flow cannot stand beside the other. Queries must not
/// be told apart here: once they are redirected, their answers would be looked for at the wrong place.
#[must_use]
pub(crate) fn joining_chain() -> Chain {
    raw("raw-prerouting", Hook::Prerouting, vec![answers()])
}

/// What is tracked apart from other flows: deliveries, and, where names are resolved here, the queries of these, or of
/// everybody, with what answers queries that went out.
fn apart(pod: &PodRules, who: Option<Match>) -> Vec<Chain> {
    let mut output = families(pod.families).into_iter().map(|(_, home)| delivery(home)).collect::<Vec<_>>();
    if !pod.dns {
        return vec![raw("raw-output", Hook::Output, output)];
    }
    let mut queries = vec![Match::Protocol(L4::Udp), Match::ToPort(Is::Equal, DNS)];
    queries.extend(who);
    output.push(Rule { when: queries, then: Action::Zone(DNS_ZONE) });
    vec![raw("raw-output", Hook::Output, output), joining_chain()]
}

/// What comes back on a delivery is the application's, and is looked for where all is: so only the first direction is
/// apart. What ztunnel answers on connections that it took is no delivery.
fn delivery(home: IpAddr) -> Rule {
    let mut when = vec![
        from_proxy(),
        Match::To(Is::Equal, InterfaceName::loopback()),
        Match::Destination(Is::Not, home),
        Match::Protocol(L4::Tcp),
    ];
    when.extend([OUTBOUND, INBOUND_PLAIN, INBOUND_TUNNEL].map(|port| Match::FromPort(Is::Not, port)));
    Rule { when, then: Action::FirstZone(DELIVERY_ZONE) }
}

fn answers() -> Rule {
    let when = vec![Match::Protocol(L4::Udp), Match::FromPort(Is::Equal, DNS), not_from_proxy()];
    Rule { when, then: Action::Zone(DNS_ZONE) }
}

fn raw(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name, kind: ChainKind::Filter, hook, priority: RAW, rules }
}

/// Packets that enter the namespace: a tunnel's own port is left alone, plain connections go to ztunnel.
fn coming_in(pod: &PodRules) -> Vec<Rule> {
    let mut rules = Vec::new();
    for interface in &pod.inner_interfaces {
        let when = vec![Match::From(Is::Equal, interface.clone()), Match::Protocol(L4::Tcp)];
        rules.push(Rule { when: when.clone(), then: Action::Redirect(OUTBOUND) });
        rules.push(Rule { when, then: Action::Return });
    }
    if pod.bypass_inbound {
        return rules;
    }
    for (source, _) in families(pod.families) {
        // A probe has no identity and never gets one; the node lets only probes have this source.
        let when = vec![Match::Protocol(L4::Tcp), Match::Source(Is::Equal, source)];
        rules.push(Rule { when, then: Action::Accept });
    }
    for (_, home) in families(pod.families) {
        let when = vec![
            Match::Destination(Is::Not, home),
            Match::Protocol(L4::Tcp),
            Match::ToPort(Is::Not, INBOUND_TUNNEL),
            not_from_proxy(),
        ];
        rules.push(Rule { when, then: Action::Redirect(INBOUND_PLAIN) });
    }
    rules
}

/// Packets made in the namespace: everything that leaves by TCP goes to ztunnel, but for its own.
fn going_out(pod: &PodRules) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (probe, _) in families(pod.families) {
        let when = vec![Match::Protocol(L4::Tcp), Match::Destination(Is::Equal, probe)];
        rules.push(Rule { when, then: Action::Accept });
    }
    if pod.dns {
        rules.extend(names(pod.families));
    }
    let returning = vec![Match::Protocol(L4::Tcp), Match::Mark(Is::Equal, RETURN_MARK)];
    rules.push(Rule { when: returning, then: Action::Accept });
    for (_, home) in families(pod.families) {
        // A pod that calls its own address stays with itself.
        let when = vec![Match::To(Is::Equal, InterfaceName::loopback()), Match::Destination(Is::Not, home)];
        rules.push(Rule { when, then: Action::Accept });
    }
    for (_, home) in families(pod.families) {
        let when = vec![Match::Protocol(L4::Tcp), Match::Destination(Is::Not, home), not_from_proxy()];
        rules.push(Rule { when, then: Action::Redirect(OUTBOUND) });
    }
    rules
}

/// Queries for names; before the rule that takes all TCP.
fn names(used: Families) -> Vec<Rule> {
    let udp = vec![
        Match::To(Is::Not, InterfaceName::loopback()),
        not_from_proxy(),
        Match::Protocol(L4::Udp),
        Match::ToPort(Is::Equal, DNS),
    ];
    let mut rules = vec![Rule { when: udp, then: Action::Redirect(NAMES) }];
    for (_, home) in families(used) {
        let when = vec![
            Match::Destination(Is::Not, home),
            Match::Protocol(L4::Tcp),
            Match::ToPort(Is::Equal, DNS),
            not_from_proxy(),
        ];
        rules.push(Rule { when, then: Action::Redirect(NAMES) });
    }
    rules
}

/// What ztunnel delivers over loopback, in its client's name, still has ztunnel's mark: the flow keeps it in mind.
fn remember_delivery() -> Rule {
    Rule { when: vec![from_proxy()], then: Action::SetFlowMark(RETURN_MARK) }
}

/// The application's answers on such a flow are addressed to the client; the mark routes them back to ztunnel. What
/// ztunnel sends on it finds its way without: looking up a route for each of these packets costs it a twentieth of all
/// that a request does.
fn mark_answers() -> Rule {
    let when = vec![Match::FlowMark(Is::Equal, RETURN_MARK), not_from_proxy()];
    Rule { when, then: Action::RestoreMark }
}

fn from_proxy() -> Match {
    Match::Mark(Is::Equal, PROXY_MARK)
}

fn not_from_proxy() -> Match {
    Match::Mark(Is::Not, PROXY_MARK)
}

/// The probe source and the loopback address of each family in use.
fn families(used: Families) -> Vec<(IpAddr, IpAddr)> {
    let mut all: Vec<(IpAddr, IpAddr)> = vec![(PROBE_SOURCE_V4.into(), Ipv4Addr::LOCALHOST.into())];
    if used == Families::Both {
        all.push((PROBE_SOURCE_V6.into(), Ipv6Addr::LOCALHOST.into()));
    }
    all
}
