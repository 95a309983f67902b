//! Values with rules of their own: ports, addresses, ranges. A value that parses is valid.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// An address or a range; an address is the range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

/// Why a text is no range.
pub const NOT_A_RANGE: &str =
    "not an address or range; write an address like 10.0.0.1 or a range like 10.0.0.0/8";

/// Why a text is no port.
pub const NOT_A_PORT: &str = "not a port; use a number from 1 to 65535";

impl Cidr {
    /// Reads an address or a range; bits beyond the length are cleared.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(Self(ip.into()));
        }
        text.parse::<IpNet>().ok().map(|net| Self(net.trunc()))
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        Self::read(&text).ok_or_else(|| D::Error::custom(NOT_A_RANGE))
    }
}

/// An IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip(pub IpAddr);

impl<'de> Deserialize<'de> for Ip {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let ip = text
            .parse()
            .map_err(|_| D::Error::custom("not an IP address; write it like 10.0.0.1 or fd00::1"))?;
        Ok(Self(ip))
    }
}

/// A cluster address of a service: an address, or `None`, or nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterIp(pub Option<IpAddr>);

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        if text.is_empty() || text == "None" {
            return Ok(Self(None));
        }
        let problem =
            "not a cluster address; write an IP address, None for a headless service, or leave it out";
        text.parse().map(|ip| Self(Some(ip))).map_err(|_| D::Error::custom(problem))
    }
}

/// A port number from 1 to 65535.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u16);

impl Port {
    /// Reads a port written as text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|port| *port != 0).map(Self)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match input.deserialize_any(PortNameVisitor("a port number from 1 to 65535"))? {
            PortName::Number(port) => Ok(Self(port)),
            PortName::Name(_) => Err(D::Error::custom(NOT_A_PORT)),
        }
    }
}

/// A port number written as text, as Istio's policies have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortText(pub u16);

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match PortName::deserialize(input)? {
            PortName::Number(port) => Ok(Self(port)),
            PortName::Name(text) => {
                Port::read(&text).map(|port| Self(port.0)).ok_or_else(|| D::Error::custom(NOT_A_PORT))
            }
        }
    }
}

/// A port by number, or by the name that the container gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortName {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl<'de> Deserialize<'de> for PortName {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(PortNameVisitor("a port number or a port's name"))
    }
}

struct PortNameVisitor(&'static str);

impl Visitor<'_> for PortNameVisitor {
    type Value = PortName;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PortName, E> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        port.map(PortName::Number).ok_or_else(|| E::custom(NOT_A_PORT))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<PortName, E> {
        Err(E::custom(NOT_A_PORT))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortName, E> {
        if text.is_empty() {
            return Err(E::custom(NOT_A_PORT));
        }
        Ok(Port::read(text).map_or_else(|| PortName::Name(text.into()), |port| PortName::Number(port.0)))
    }
}

/// A text that is not empty and holds neither white space nor control characters: a part of an identity, a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(D::Error::custom(
                "empty, or holds white space; write one word, or leave the entry out",
            ));
        }
        Ok(Self(text))
    }
}

/// A word made of `<namespace>/<service account>` or of the account alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName {
    /// The namespace; none: the policy's own.
    pub namespace: Option<String>,
    /// The service account.
    pub account: String,
}

impl AccountName {
    /// Reads one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (namespace, account) = match text.split_once('/') {
            None => (None, text),
            Some((namespace, account)) => (Some(namespace), account),
        };
        let empty = account.is_empty() || namespace.is_some_and(str::is_empty);
        if empty || account.contains('/') || text.contains('*') {
            return None;
        }
        Some(Self { namespace: namespace.map(Into::into), account: account.into() })
    }
}

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let what = "not a service account; write <namespace>/<name> or <name>, no wildcards";
        Self::read(&Word::deserialize(input)?.0).ok_or_else(|| D::Error::custom(what))
    }
}
