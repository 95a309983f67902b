//! A ztunnel's configuration dump as a table needs it (`control-plane.md` 11.3): ours, or upstream's.
//! Owns finding a field or a name in it. Keeps everything that it does not know, for whoever prints it as it came.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// What a dump may take: as much as a ztunnel's answer.
pub(super) const DUMP_LIMIT: usize = ambit_wire::local::TEXT_LIMIT;

/// Why a text is no dump.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DumpError {
    /// It does not read.
    #[error("the dump is no JSON; give the answer of a ztunnel's /config_dump")]
    Json(#[source] serde_json::Error),
    /// It reads, but is another one.
    #[error("this is no dump of a ztunnel: it has no {key}; give the answer of a ztunnel's /config_dump")]
    Other {
        /// What is missing.
        key: &'static str,
    },
}

/// One dump.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dump {
    whole: Value,
}

impl Dump {
    /// Reads a dump.
    pub(crate) fn parse(text: &str) -> Result<Self, DumpError> {
        let whole: Value = serde_json::from_str(text).map_err(DumpError::Json)?;
        for key in ["workloads", "services", "policies", "certificates"] {
            if !whole.get(key).is_some_and(Value::is_array) {
                return Err(DumpError::Other { key });
            }
        }
        Ok(Self { whole })
    }

    /// All of it.
    pub(super) fn whole(&self) -> &Value {
        &self.whole
    }

    /// The items of a list.
    pub(super) fn list(&self, key: &str) -> &[Value] {
        self.whole.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The pods that the ztunnel serves, by their id.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.whole.get("workloadState").and_then(Value::as_object).into_iter().flatten()
    }

    /// The workload of this name, if it is one.
    pub(super) fn workload(&self, namespace: &str, name: &str) -> Option<&Value> {
        let named = |it: &&Value| text(it, "namespace") == namespace && text(it, "name") == name;
        self.list("workloads").iter().find(named)
    }

    /// What people call the owner of an address: `<pod>.<namespace>`, or a service's host; none where nobody has it.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<String> {
        let plain = ip.to_string();
        let has = |it: &&Value| texts(it, "workloadIps").any(|its| its == plain);
        if let Some(found) = self.list("workloads").iter().find(has) {
            return Some(format!("{}.{}", text(found, "name"), text(found, "namespace")));
        }
        let answers = |it: &&Value| texts(it, "vips").any(|vip| address_of(vip) == plain);
        Some(text(self.list("services").iter().find(answers)?, "hostname").to_owned())
    }

    /// `address` as people call it, with its port; as it is where nobody has it.
    pub(super) fn named(&self, address: &str) -> String {
        let Ok(socket) = address.parse::<SocketAddr>() else { return address.to_owned() };
        self.owner(socket.ip()).map_or_else(|| address.to_owned(), |name| format!("{name}:{}", socket.port()))
    }

    /// A waypoint's name as `<ns>/<host>` or `<network>/<ip>` says it: `None` without one, `NA` when nobody knows it.
    pub(super) fn waypoint(&self, of: &Value) -> String {
        let Some(waypoint) = of.get("waypoint").filter(|it| !it.is_null()) else { return "None".into() };
        let destination = text(waypoint, "destination");
        let (left, right) = destination.split_once('/').unwrap_or(("", destination));
        let is_it = |service: &&Value| {
            let by_host = text(service, "namespace") == left && text(service, "hostname") == right;
            by_host || texts(service, "vips").any(|vip| vip == destination)
        };
        let found = self.list("services").iter().find(is_it);
        found.map_or_else(|| "NA".into(), |service| text(service, "name").to_owned())
    }
}

/// The text of a field; empty where there is none.
pub(super) fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a list.
pub(super) fn texts<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    of.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The members of a list.
pub(super) fn members<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The address of `<network>/<address>`.
pub(super) fn address_of(vip: &str) -> &str {
    vip.rsplit_once('/').map_or(vip, |(_, address)| address)
}
