//! Ways into other networks (`control-plane.md` 1.10): gateways of a class that stands for a remote one.
//! Owns reading them off a gateway object, leniently: what does not read is no way.

use std::net::IpAddr;

use ambit_cluster::kinds::gateway::{Gateway, GatewayAddress};
use ambit_cluster::kinds::meta::Meta;
use ambit_cluster::kinds::waypoint::ACCOUNT;

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
pub fn read(object: &Gateway) -> Vec<NetworkGateway> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let is_remote = spec.gateway_class_name == REMOTE;
    let Some(network) = meta.label(NETWORK).filter(|network| !network.is_empty() && is_remote) else {
        return Vec::new();
    };
    // The port of the first listener for HBONE.
    let hbone = spec.listeners.iter().find(|it| it.protocol == "HBONE").map(|it| it.port.0);
    let Some(port) = hbone.filter(|port| *port != 0) else { return Vec::new() };
    let way = |address: &GatewayAddress| {
        Some(NetworkGateway {
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            network: network.into(),
            address: place(address)?,
            port,
            account: account(meta).into(),
        })
    };
    object.status.addresses.iter().filter_map(way).collect()
}

/// Where an address is; nowhere, if it is of a kind that is not known.
#[must_use]
pub fn place(address: &GatewayAddress) -> Option<Place> {
    let value = address.value.as_str();
    match (value.parse::<IpAddr>(), address.kind.as_str()) {
        (Ok(ip), _) => Some(Place::Ip(ip.to_canonical())),
        (Err(_), "Hostname") if !value.is_empty() => Some(Place::Host(value.into())),
        (Err(_), _) => None,
    }
}

fn account(meta: &Meta) -> String {
    let said = meta.annotation(ACCOUNT).filter(|it| !it.is_empty());
    said.map_or_else(|| format!("{}-{REMOTE}", meta.name), Into::into)
}
