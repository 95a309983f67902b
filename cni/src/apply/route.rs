//! Policy routing in a pod (`cni.md` 4.4): packets with the return mark are delivered locally, to ztunnel.
//! Owns one rule and one route for each family. A family's failure or success never decides about the other.

use std::path::Path;

use ambit_sys::netlink::Family;
use ambit_sys::netlink::attribute::{Attributes, Messages, attribute, u32_at};
use ambit_sys::netlink::talk::{Listed, Talk, TalkError};
use ambit_sys::netlink::{ACK, CREATE, EXCLUSIVE, REPLACE, REQUEST};

use crate::apply::{ApplyError, Change, Drift};
use crate::rules::{Families, RETURN_MARK};

const TABLE: u32 = 100;
const PRIORITY: u32 = 32764;
/// Linux gives the loopback interface this number in every namespace.
const LOOPBACK: u32 = 1;

// Numbers of linux/rtnetlink.h and fib_rules.h.
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DEL_RULE: u16 = 33;
const GET_RULE: u16 = 34;
const ROUTE_LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const TO_TABLE: u8 = 1;
const TABLE_BYTE: u8 = 100;

const EXISTS: i32 = 17;
const GONE: [i32; 3] = [2, 3, 97];

#[derive(Clone, Copy)]
struct Side {
    family: u8,
    name: &'static str,
}

const FOUR: Side = Side { family: 2, name: "IPv4" };
const SIX: Side = Side { family: 10, name: "IPv6" };

pub(super) fn install(used: Families) -> Result<Change, ApplyError> {
    let mut talk = open()?;
    let mut change = Change::None;
    let mut failed = None;
    for side in sides(used) {
        match install_side(&mut talk, side) {
            Ok(Change::Made) => change = Change::Made,
            Ok(Change::None) => {}
            Err(source) => failed = Some(source),
        }
    }
    failed.map_or(Ok(change), |source| Err(ApplyError::Kernel { what: "install policy routing", source }))
}

pub(super) fn verify(used: Families) -> Result<Option<Drift>, ApplyError> {
    let mut talk = open()?;
    for side in sides(used) {
        let there = has_rule(&mut talk, side).and_then(|rule| Ok(rule && has_route(&mut talk, side)?));
        let there = there.map_err(|source| ApplyError::Kernel { what: "read policy routing", source })?;
        if !there {
            return Ok(Some(Drift::Routing(side.name)));
        }
    }
    Ok(None)
}

/// Removes both families' rule and route, whichever are there.
pub(super) fn remove() -> Result<(), ApplyError> {
    let mut talk = open()?;
    let mut failed = None;
    for side in [FOUR, SIX] {
        for (kind, fixed, attributes) in [
            (DEL_RULE, rule_head(side), rule_attributes()),
            (DEL_ROUTE, route_head(side), route_attributes()),
        ] {
            let mut question = Messages::default();
            let last = question.push(kind, REQUEST | ACK, &fixed, &attributes);
            match talk.tell(&question, last) {
                Err(error) if !error.errno().is_some_and(|it| GONE.contains(&it)) => failed = Some(error),
                _ => {}
            }
        }
    }
    failed.map_or(Ok(()), |source| Err(ApplyError::Kernel { what: "remove policy routing", source }))
}

fn open() -> Result<Talk, ApplyError> {
    let what = "open a netlink socket";
    Talk::open(Family::Route).map_err(|source| ApplyError::Kernel { what, source })
}

/// The families in use here: a pod may have IPv6 switched off though the node has it.
fn sides(used: Families) -> Vec<Side> {
    let mut sides = vec![FOUR];
    if used == Families::Both && !is_six_off() {
        sides.push(SIX);
    }
    sides
}

fn is_six_off() -> bool {
    let switch = Path::new("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    std::fs::read_to_string(switch).map_or(true, |text| text.trim() == "1")
}

fn install_side(talk: &mut Talk, side: Side) -> Result<Change, TalkError> {
    // Telling is cheaper than looking first: most namespaces have neither.
    let mut change = new_route(talk, side, EXCLUSIVE)?;
    if change == Change::None && !has_route(talk, side)? {
        change = new_route(talk, side, REPLACE)?;
    }
    let ruled = tell_new(talk, NEW_RULE, EXCLUSIVE, (rule_head(side), rule_attributes()))?;
    Ok(if ruled == Change::Made { ruled } else { change })
}

fn new_route(talk: &mut Talk, side: Side, how: u16) -> Result<Change, TalkError> {
    tell_new(talk, NEW_ROUTE, how, (route_head(side), route_attributes()))
}

/// Adds something; no change when it, or another in its place, exists.
fn tell_new(
    talk: &mut Talk,
    kind: u16,
    how: u16,
    (head, attributes): ([u8; 12], Attributes),
) -> Result<Change, TalkError> {
    let mut question = Messages::default();
    let last = question.push(kind, REQUEST | ACK | CREATE | how, &head, &attributes);
    match talk.tell(&question, last) {
        Ok(()) => Ok(Change::Made),
        Err(error) if error.errno() == Some(EXISTS) => Ok(Change::None),
        Err(error) => Err(error),
    }
}

fn has_rule(talk: &mut Talk, side: Side) -> Result<bool, TalkError> {
    let all = talk.list(GET_RULE, &rule_head(side), &Attributes::new())?;
    let wanted = [(6, PRIORITY), (10, RETURN_MARK.value), (16, RETURN_MARK.mask), (15, TABLE)];
    Ok(all.iter().any(|it| it.kind == NEW_RULE && has_all(it, &wanted)))
}

fn has_route(talk: &mut Talk, side: Side) -> Result<bool, TalkError> {
    let all = talk.list(GET_ROUTE, &route_head(side), &Attributes::new())?;
    let wanted = [(15, TABLE), (4, LOOPBACK)];
    let is_local = |it: &Listed| it.body.get(1) == Some(&0) && it.body.get(7) == Some(&ROUTE_LOCAL);
    Ok(all.iter().any(|it| it.kind == NEW_ROUTE && is_local(it) && has_all(it, &wanted)))
}

fn has_all(it: &Listed, wanted: &[(u16, u32)]) -> bool {
    let attributes = it.body.get(12..).unwrap_or_default();
    wanted
        .iter()
        .all(|(kind, number)| attribute(attributes, *kind).and_then(|v| u32_at(v, 0)) == Some(*number))
}

/// `fib_rule_hdr`: everything is in the attributes but for family and action.
fn rule_head(side: Side) -> [u8; 12] {
    [side.family, 0, 0, 0, TABLE_BYTE, 0, 0, TO_TABLE, 0, 0, 0, 0]
}

fn rule_attributes() -> Attributes {
    Attributes::new().ne32(6, PRIORITY).ne32(10, RETURN_MARK.value).ne32(16, RETURN_MARK.mask).ne32(15, TABLE)
}

/// `rtmsg`: a default route (length 0) of type local.
fn route_head(side: Side) -> [u8; 12] {
    let scope = if side.family == FOUR.family { SCOPE_HOST } else { 0 };
    [side.family, 0, 0, 0, TABLE_BYTE, PROTOCOL_STATIC, scope, ROUTE_LOCAL, 0, 0, 0, 0]
}

fn route_attributes() -> Attributes {
    Attributes::new().ne32(15, TABLE).ne32(4, LOOPBACK)
}
