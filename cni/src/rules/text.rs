//! Rules as people read them, in the manner of `nft list ruleset`.

use std::fmt;
use std::net::IpAddr;

use crate::rules::{Action, ChainKind, Hook, Is, L4, Match, Rule, Set, Table};

pub(super) fn write(table: &Table, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "table inet {} {{", table.name)?;
    let mut first = true;
    for Set { name, six } in &table.sets {
        gap(&mut first, f)?;
        writeln!(
            f,
            "\tset {name} {{\n\t\ttype {} . inet_service\n\t}}",
            if *six { "ipv6_addr" } else { "ipv4_addr" }
        )?;
    }
    for chain in &table.chains {
        gap(&mut first, f)?;
        writeln!(f, "\tchain {} {{", chain.name)?;
        let (kind, hook) = (kind(chain.kind), hook(chain.hook));
        writeln!(f, "\t\ttype {kind} hook {hook} priority {}; policy accept;", chain.priority)?;
        for rule in &chain.rules {
            writeln!(f, "\t\t{}", Line(rule))?;
        }
        writeln!(f, "\t}}")?;
    }
    writeln!(f, "}}")
}

struct Line<'a>(&'a Rule);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut protocol = "";
        for condition in &self.0.when {
            if let Match::Protocol(l4) = condition {
                protocol = name(*l4);
            }
            write_match(condition, protocol, f)?;
        }
        f.write_str("counter ")?;
        write_action(&self.0.then, f)
    }
}

fn write_match(condition: &Match, protocol: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match condition {
        Match::Protocol(l4) => write!(f, "meta l4proto {} ", name(*l4)),
        Match::Source(is, ip) => write!(f, "{} saddr {}{ip} ", family(*ip), not(*is)),
        Match::Destination(is, ip) => write!(f, "{} daddr {}{ip} ", family(*ip), not(*is)),
        Match::ToPort(is, port) => write!(f, "{protocol} dport {}{port} ", not(*is)),
        Match::FromPort(is, port) => write!(f, "{protocol} sport {}{port} ", not(*is)),
        Match::From(is, interface) => write!(f, "iifname {}\"{}\" ", not(*is), interface.as_str()),
        Match::To(is, interface) => write!(f, "oifname {}\"{}\" ", not(*is), interface.as_str()),
        Match::Mark(is, it) => write!(f, "meta mark & {:#x} {} {:#x} ", it.mask, compare(*is), it.value),
        Match::FlowMark(is, it) => write!(f, "ct mark & {:#x} {} {:#x} ", it.mask, compare(*is), it.value),
        Match::InSet(set) => {
            write!(f, "{} daddr . {protocol} dport @{} ", if set.six { "ip6" } else { "ip" }, set.name)
        }
        Match::User(user) => write!(f, "meta skuid {user} "),
        Match::Below(group) => write!(f, "socket cgroupv2 level {} {} ", group.level, group.id),
    }
}

fn write_action(action: &Action, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match action {
        Action::Accept => f.write_str("accept"),
        Action::Return => f.write_str("return"),
        Action::Redirect(port) => write!(f, "redirect to :{port}"),
        Action::SetFlowMark(it) => write!(f, "ct mark set ct mark & {:#x} | {:#x}", !it.mask, it.value),
        Action::RestoreMark => f.write_str("meta mark set ct mark"),
        Action::Zone(zone) => write!(f, "ct zone set {zone}"),
        Action::FirstZone(zone) => write!(f, "ct original zone set {zone}"),
        Action::Snat(ip) => write!(f, "snat {} to {ip}", family(*ip)),
    }
}

fn gap(first: &mut bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if std::mem::take(first) { Ok(()) } else { writeln!(f) }
}

fn kind(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Nat => "nat",
        ChainKind::Filter => "filter",
        ChainKind::Route => "route",
    }
}

fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    }
}

fn name(l4: L4) -> &'static str {
    match l4 {
        L4::Tcp => "tcp",
        L4::Udp => "udp",
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip" } else { "ip6" }
}

fn not(is: Is) -> &'static str {
    match is {
        Is::Equal => "",
        Is::Not => "!= ",
    }
}

fn compare(is: Is) -> &'static str {
    match is {
        Is::Equal => "==",
        Is::Not => "!=",
    }
}
