//! What of a dump is shown, and as which table: the columns are `istioctl ztunnel-config`'s (`control-plane.md` 11.3).
//! Pure: the clock is handed in. Whose dump it is, and how it was got, is the command's.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Direction, Filters};
use crate::cluster::dump::{Dump, address_of, members, text, texts};
use crate::table::Table;

/// What is shown for a cell that has nothing.
const NOTHING: &str = "NA";

/// Workloads that pass the filters.
pub(super) fn workloads(dump: &Dump, by: &Filters) -> Vec<Value> {
    let passes = |it: &&Value| {
        by.namespace.as_ref().is_none_or(|wanted| text(it, "namespace") == wanted)
            && by.node.as_ref().is_none_or(|wanted| text(it, "node") == wanted)
            && by.address.is_none_or(|wanted| has_address(it, wanted))
            && by
                .pod
                .as_ref()
                .is_none_or(|(ns, name)| text(it, "namespace") == ns && text(it, "name") == name)
    };
    sorted(dump.list("workloads").iter().filter(passes), "name")
}

fn has_address(workload: &Value, wanted: IpAddr) -> bool {
    texts(workload, "workloadIps").any(|ip| ip.parse() == Ok(wanted))
}

/// As a table.
pub(super) fn workload_table(dump: &Dump, shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"]);
    for it in shown {
        let ips: Vec<_> = texts(it, "workloadIps").collect();
        table.row([
            text(it, "namespace").into(),
            text(it, "name").into(),
            ips.join(","),
            text(it, "node").into(),
            dump.waypoint(it),
            text(it, "protocol").into(),
        ]);
    }
    table
}

/// Services that pass the filters.
pub(super) fn services(dump: &Dump, by: &Filters) -> Vec<Value> {
    let passes = |it: &&Value| by.namespace.as_ref().is_none_or(|wanted| text(it, "namespace") == wanted);
    sorted(dump.list("services").iter().filter(passes), "name")
}

/// As a table.
pub(super) fn service_table(dump: &Dump, shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"]);
    for it in shown {
        let vips: Vec<_> = texts(it, "vips").map(address_of).collect();
        let endpoints = || it.get("endpoints").and_then(Value::as_object).into_iter().flatten();
        let healthy = endpoints().filter(|(_, end)| text(end, "status") != "Unhealthy").count();
        table.row([
            text(it, "namespace").into(),
            text(it, "name").into(),
            vips.join(","),
            dump.waypoint(it),
            format!("{healthy}/{}", endpoints().count()),
        ]);
    }
    table
}

/// Policies that pass the filters.
pub(super) fn policies(dump: &Dump, by: &Filters) -> Vec<Value> {
    let passes = |it: &&Value| by.namespace.as_ref().is_none_or(|wanted| text(it, "namespace") == wanted);
    sorted(dump.list("policies").iter().filter(passes), "name")
}

/// As a table.
pub(super) fn policy_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
    for it in shown {
        table.row(["namespace", "name", "action", "scope"].map(|key| text(it, key).to_owned()));
    }
    table
}

/// Certificates of everybody, or of one identity.
pub(super) fn certificates(dump: &Dump, by: &Filters) -> Vec<Value> {
    let identity = by.pod.as_ref().map(|(namespace, name)| identity(dump, namespace, name));
    let passes = |it: &&Value| identity.as_ref().is_none_or(|wanted| text(it, "identity") == wanted);
    sorted(dump.list("certificates").iter().filter(passes), "identity")
}

/// The identity of a pod, as its certificate has it; nobody's where the ztunnel does not know the pod.
fn identity(dump: &Dump, namespace: &str, name: &str) -> String {
    let account =
        dump.workload(namespace, name).map(|it| (text(it, "trustDomain"), text(it, "serviceAccount")));
    let (domain, account) = account.unwrap_or_default();
    let domain = if domain.is_empty() { "cluster.local" } else { domain };
    format!("spiffe://{domain}/ns/{namespace}/sa/{account}")
}

/// As a table: the leaf first, then what it was signed with.
pub(super) fn certificate_table(shown: &[Value], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "CERTIFICATE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ]);
    for it in shown {
        let (chain, roots) = (members(it, "certChain"), members(it, "rootCerts"));
        let chain = chain.enumerate().map(|(i, one)| (if i == 0 { "Leaf" } else { "Intermediate" }, one));
        let all: Vec<_> = chain.chain(roots.map(|one| ("Root", one))).collect();
        let named = |kind: &str, valid: String, rest: [String; 3]| {
            let [serial, after, before] = rest;
            let (name, state) = (text(it, "identity").to_owned(), text(it, "state").to_owned());
            [name, kind.to_owned(), state, valid, serial, after, before]
        };
        if all.is_empty() {
            let rest = [(); 3].map(|()| NOTHING.to_owned());
            table.row(named("Leaf", NOTHING.into(), rest));
        }
        for (kind, one) in all {
            let (before, after) = (text(one, "validFrom"), text(one, "expirationTime"));
            let rest = [hex(text(one, "serialNumber")), after.to_owned(), before.to_owned()];
            table.row(named(kind, is_valid(before, after, now), rest));
        }
    }
    table
}

fn is_valid(from: &str, until: &str, now: Timestamp) -> String {
    match (from.parse::<Timestamp>(), until.parse::<Timestamp>()) {
        (Ok(from), Ok(until)) => (from <= now && now < until).to_string(),
        _ => NOTHING.into(),
    }
}

/// A decimal number of any length in hexadecimal digits, as certificates' serial numbers are written.
fn hex(decimal: &str) -> String {
    let mut nibbles: Vec<u8> = Vec::new();
    for digit in decimal.bytes() {
        let Some(value) = digit.checked_sub(b'0').filter(|value| *value < 10) else { return NOTHING.into() };
        let mut carry = u16::from(value);
        for nibble in &mut nibbles {
            let sum = u16::from(*nibble) * 10 + carry;
            *nibble = u8::try_from(sum & 0xf).unwrap_or_default();
            carry = sum >> 4;
        }
        while carry > 0 {
            nibbles.push(u8::try_from(carry & 0xf).unwrap_or_default());
            carry >>= 4;
        }
    }
    let digits: String = nibbles.iter().rev().map(|nibble| format!("{nibble:x}")).collect();
    if digits.is_empty() { NOTHING.into() } else { digits }
}

/// Open connections: one value each, with the pod that has it.
pub(super) fn connections(dump: &Dump, by: &Filters) -> Vec<Value> {
    let mut all = Vec::new();
    for (_, pod) in dump.pods() {
        let info = pod.get("info").unwrap_or(&Value::Null);
        let (namespace, name) = (text(info, "namespace"), text(info, "name"));
        let is_meant = by.namespace.as_ref().is_none_or(|wanted| namespace == wanted)
            && by.pod.as_ref().is_none_or(|(ns, pod)| namespace == ns && name == pod);
        if !is_meant {
            continue;
        }
        for (key, way) in [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)] {
            let open = pod.get("connections").and_then(|open| open.get(key)).and_then(Value::as_array);
            if by.direction.is_some_and(|wanted| wanted != way) {
                continue;
            }
            for one in open.into_iter().flatten() {
                let target = text(one, "originalDst");
                let (local, remote) = match way {
                    Direction::Inbound => (text(one, "actualDst"), text(one, "src")),
                    Direction::Outbound => (text(one, "src"), text(one, "actualDst")),
                };
                all.push(json!({
                    "workload": format!("{name}.{namespace}"), "direction": way, "local": local,
                    "remote": remote, "remoteTarget": target, "protocol": text(one, "protocol"),
                }));
            }
        }
    }
    all.sort_by(|a, b| {
        (text(a, "workload"), text(a, "direction")).cmp(&(text(b, "workload"), text(b, "direction")))
    });
    all
}

/// As a table; `raw` leaves addresses as they are.
pub(super) fn connection_table(dump: &Dump, shown: &[Value], raw: bool) -> Table {
    let mut table = Table::new(&["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"]);
    let name = |address: &str| if raw { address.to_owned() } else { dump.named(address) };
    for it in shown {
        table.row([
            text(it, "workload").into(),
            text(it, "direction").into(),
            name(text(it, "local")),
            name(text(it, "remote")),
            name(text(it, "remoteTarget")),
            text(it, "protocol").into(),
        ]);
    }
    table
}

/// By namespace and this key.
pub(super) fn sorted<'a>(shown: impl Iterator<Item = &'a Value>, key: &str) -> Vec<Value> {
    let mut shown: Vec<Value> = shown.cloned().collect();
    shown.sort_by(|a, b| (text(a, "namespace"), text(a, key)).cmp(&(text(b, "namespace"), text(b, key))));
    shown
}

#[cfg(test)]
mod tests;
