//! Ways into other networks (`control-plane.md` 1.10): gateways of a class that stands for a remote one.
//! Owns reading them off a gateway object, leniently: what does not read is no way.

use std::net::IpAddr;

use ambit_cluster::kinds::Carried;
use ambit_cluster::kinds::meta::Meta;
use serde_json::Value;

/// The label that names the network behind a gateway.
const NETWORK: &str = "topology.istio.io/network";

/// The class of gateways that only stand for one somewhere else.
const REMOTE: &str = "istio-remote";

/// One address of a gateway into a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkGateway {
    /// The gateway's namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The network behind it.
    pub network: Box<str>,
    /// Where it is.
    pub address: Place,
    /// Its port for HBONE.
    pub port: u16,
    /// The account it runs as.
    pub account: Box<str>,
}

/// Where a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At an address.
    Ip(IpAddr),
    /// At a name.
    Host(Box<str>),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// The ways that a gateway object stands for.
#[must_use]
pub fn read(object: &Carried) -> Vec<NetworkGateway> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let class = spec.get("gatewayClassName").and_then(Value::as_str).unwrap_or_default();
    let Some(network) = meta.label(NETWORK).filter(|network| !network.is_empty() && class == REMOTE) else {
        return Vec::new();
    };
    let Some(port) = hbone_port(spec) else { return Vec::new() };
    let list =
        object.status.get("addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let way = |address: &Value| {
        Some(NetworkGateway {
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            network: network.into(),
            address: place(address)?,
            port,
            account: account(meta).into(),
        })
    };
    list.iter().filter_map(way).collect()
}

/// The port of the first listener for HBONE.
fn hbone_port(spec: &Value) -> Option<u16> {
    let listeners = spec.get("listeners")?.as_array()?;
    let hbone = listeners.iter().find(|it| it.get("protocol").and_then(Value::as_str) == Some("HBONE"))?;
    hbone.get("port")?.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn place(address: &Value) -> Option<Place> {
    let text = |key: &str| address.get(key).and_then(Value::as_str).unwrap_or_default();
    let value = text("value");
    match (value.parse::<IpAddr>(), text("type")) {
        (Ok(ip), _) => Some(Place::Ip(ip.to_canonical())),
        (Err(_), "Hostname") if !value.is_empty() => Some(Place::Host(value.into())),
        (Err(_), _) => None,
    }
}

fn account(meta: &Meta) -> String {
    let said = meta.annotation("gateway.istio.io/service-account").filter(|it| !it.is_empty());
    said.map_or_else(|| format!("{}-{REMOTE}", meta.name), Into::into)
}
