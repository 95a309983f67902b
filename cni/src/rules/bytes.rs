//! Rules as the kernel's packet filter takes them: a rule is a list of small expressions over registers.
//! Owns the translation of one rule. The messages around it are `apply`'s.

use std::net::IpAddr;

use crate::rules::{Action, InterfaceName, Is, L4, Masked, Match, Rule, Set};
use ambit_sys::netlink::attribute::Attributes;

/// One expression: its name and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// What kind, for example `cmp`.
    pub name: &'static str,
    /// Its attributes, as bytes.
    pub data: Vec<u8>,
}

/// The expressions of a rule.
#[must_use]
pub fn expressions(rule: &Rule) -> Vec<Expression> {
    let mut all = Vec::new();
    for condition in &rule.when {
        match_expressions(condition, &mut all);
    }
    all.push(expression("counter", Attributes::new()));
    action_expressions(&rule.then, &mut all);
    all
}

// Numbers of linux/netfilter/nf_tables.h.
/// The verdict register and the first of 16 bytes.
const VERDICT: u32 = 0;
const REG: u32 = 1;
/// What follows 4 bytes, and 16 bytes, in that register: where the second part of a key stands. The kernel tells
/// registers by these numbers too, so that what is read back can be compared.
const REG_AFTER_4: u32 = 9;
const REG_AFTER_16: u32 = 2;

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_SKUID: u32 = 10;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const SOCKET_CGROUP_V2: u32 = 3;
const CT_MARK: u32 = 3;
const CT_ZONE: u32 = 17;
/// `IP_CT_DIR_ORIGINAL`.
const CT_ORIGINAL: u8 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NF_ACCEPT: u32 = 1;
const NFT_RETURN: u32 = 0xffff_fffb;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const NAT_SOURCE: u32 = 0;
const NAT_PORT_GIVEN: u32 = 2;
const INTERFACE_NAME: usize = 16;

fn match_expressions(condition: &Match, all: &mut Vec<Expression>) {
    match condition {
        Match::Protocol(l4) => {
            all.push(meta(META_L4PROTO));
            all.push(compare(Is::Equal, &[protocol(*l4)]));
        }
        Match::Source(is, ip) => address(*is, *ip, Side::Source, all),
        Match::Destination(is, ip) => address(*is, *ip, Side::Destination, all),
        Match::FromPort(is, port) => {
            all.push(payload(TRANSPORT_HEADER, 0, 2, REG));
            all.push(compare(*is, &port.to_be_bytes()));
        }
        Match::ToPort(is, port) => {
            all.push(payload(TRANSPORT_HEADER, 2, 2, REG));
            all.push(compare(*is, &port.to_be_bytes()));
        }
        Match::From(is, name) => interface(META_IIFNAME, *is, name, all),
        Match::To(is, name) => interface(META_OIFNAME, *is, name, all),
        Match::Mark(is, masked) => {
            all.push(meta(META_MARK));
            mask(*is, *masked, all);
        }
        Match::FlowMark(is, masked) => {
            all.push(ct(CT_MARK));
            mask(*is, *masked, all);
        }
        Match::InSet(set) => in_set(*set, all),
        Match::User(user) => {
            all.push(meta(META_SKUID));
            all.push(compare(Is::Equal, &user.to_ne_bytes()));
        }
        Match::Below(group) => {
            let socket = Attributes::new().be32(1, SOCKET_CGROUP_V2).be32(2, REG).be32(3, group.level);
            all.push(expression("socket", socket));
            all.push(compare(Is::Equal, &group.id.to_ne_bytes()));
        }
    }
}

fn action_expressions(action: &Action, all: &mut Vec<Expression>) {
    match action {
        Action::Accept => all.push(verdict(NF_ACCEPT)),
        Action::Return => all.push(verdict(NFT_RETURN)),
        Action::Redirect(port) => {
            all.push(immediate(&port.to_be_bytes()));
            all.push(expression("redir", Attributes::new().be32(1, REG).be32(3, NAT_PORT_GIVEN)));
        }
        Action::SetFlowMark(Masked { value, mask }) => {
            all.push(ct(CT_MARK));
            all.push(bitwise(!mask, *value));
            all.push(expression("ct", Attributes::new().be32(2, CT_MARK).be32(4, REG)));
        }
        Action::RestoreMark => {
            all.push(ct(CT_MARK));
            all.push(expression("meta", Attributes::new().be32(2, META_MARK).be32(3, REG)));
        }
        Action::Zone(zone) => {
            all.push(immediate(&zone.to_ne_bytes()));
            all.push(expression("ct", Attributes::new().be32(2, CT_ZONE).be32(4, REG)));
        }
        Action::FirstZone(zone) => {
            all.push(immediate(&zone.to_ne_bytes()));
            all.push(expression(
                "ct",
                Attributes::new().be32(2, CT_ZONE).raw(3, &[CT_ORIGINAL]).be32(4, REG),
            ));
        }
        Action::Snat(ip) => {
            let (octets, family) = parts(*ip);
            all.push(immediate(&octets));
            let nat = Attributes::new().be32(1, NAT_SOURCE).be32(2, family.into()).be32(3, REG);
            all.push(expression("nat", nat));
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn address(is: Is, ip: IpAddr, side: Side, all: &mut Vec<Expression>) {
    let (octets, family) = parts(ip);
    all.push(meta(META_NFPROTO));
    all.push(compare(Is::Equal, &[family]));
    let (offset, length) = place(family, side);
    all.push(payload(NETWORK_HEADER, offset, length, REG));
    all.push(compare(is, &octets));
}

/// Where in the network header an address stands, and how long it is.
fn place(family: u8, side: Side) -> (u32, u32) {
    match (family == FAMILY_V4, side) {
        (true, Side::Source) => (12, 4),
        (true, Side::Destination) => (16, 4),
        (false, Side::Source) => (8, 16),
        (false, Side::Destination) => (24, 16),
    }
}

fn in_set(set: Set, all: &mut Vec<Expression>) {
    let family = if set.six { FAMILY_V6 } else { FAMILY_V4 };
    let (offset, length) = place(family, Side::Destination);
    all.push(meta(META_NFPROTO));
    all.push(compare(Is::Equal, &[family]));
    all.push(payload(NETWORK_HEADER, offset, length, REG));
    all.push(payload(TRANSPORT_HEADER, 2, 2, if set.six { REG_AFTER_16 } else { REG_AFTER_4 }));
    all.push(expression("lookup", Attributes::new().text(1, set.name).be32(2, REG)));
}

fn interface(key: u32, is: Is, name: &InterfaceName, all: &mut Vec<Expression>) {
    let mut bytes = name.as_str().as_bytes().to_vec();
    bytes.resize(INTERFACE_NAME, 0);
    all.push(meta(key));
    all.push(compare(is, &bytes));
}

fn mask(is: Is, masked: Masked, all: &mut Vec<Expression>) {
    all.push(bitwise(masked.mask, 0));
    all.push(compare(is, &masked.value.to_ne_bytes()));
}

fn expression(name: &'static str, data: Attributes) -> Expression {
    Expression { name, data: data.into_bytes() }
}

fn meta(key: u32) -> Expression {
    expression("meta", Attributes::new().be32(1, REG).be32(2, key))
}

fn ct(key: u32) -> Expression {
    expression("ct", Attributes::new().be32(1, REG).be32(2, key))
}

fn payload(header: u32, offset: u32, length: u32, register: u32) -> Expression {
    let data = Attributes::new().be32(1, register).be32(2, header).be32(3, offset).be32(4, length);
    expression("payload", data)
}

fn compare(is: Is, value: &[u8]) -> Expression {
    let operator = match is {
        Is::Equal => 0,
        Is::Not => 1,
    };
    let data = Attributes::new().be32(1, REG).be32(2, operator).nested(3, &Attributes::new().raw(1, value));
    expression("cmp", data)
}

/// The register's value, cut by a mask, with bits flipped in.
fn bitwise(mask: u32, flip: u32) -> Expression {
    let value = |number: u32| Attributes::new().raw(1, &number.to_ne_bytes());
    let data = Attributes::new().be32(1, REG).be32(2, REG).be32(3, 4);
    expression("bitwise", data.nested(4, &value(mask)).nested(5, &value(flip)))
}

fn immediate(value: &[u8]) -> Expression {
    expression("immediate", Attributes::new().be32(1, REG).nested(2, &Attributes::new().raw(1, value)))
}

fn verdict(code: u32) -> Expression {
    let verdict = Attributes::new().nested(2, &Attributes::new().be32(1, code));
    expression("immediate", Attributes::new().be32(1, VERDICT).nested(2, &verdict))
}

fn protocol(l4: L4) -> u8 {
    match l4 {
        L4::Tcp => 6,
        L4::Udp => 17,
    }
}

fn parts(ip: IpAddr) -> (Vec<u8>, u8) {
    match ip {
        IpAddr::V4(ip) => (ip.octets().to_vec(), FAMILY_V4),
        IpAddr::V6(ip) => (ip.octets().to_vec(), FAMILY_V6),
    }
}
