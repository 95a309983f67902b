//! Names asked inside pods: whether, where, and whose services are preferred (`ztunnel.md` 10.1). Owns those settings
//! only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ambit_model::name::Namespace;
use ambit_process::config::{Faults, Key, Source};

/// How names are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Where questions are taken, in each pod.
    pub at: Vec<SocketAddr>,
    /// Whose services are preferred among those of one name.
    pub preferred: Option<Namespace>,
}

const CAPTURE: Key<bool> = Key::new(
    "ISTIO_META_DNS_CAPTURE",
    "answer names asked in pods; anything but true switches it off",
    // As upstream reads it: what is not yes is no.
    |given| Ok(given.eq_ignore_ascii_case("true")),
    || true,
);
const ADDRESS: Key<Place> = Key::new(
    "ISTIO_META_DNS_PROXY_ADDR",
    "where names are answered in each pod: localhost:<port>, for both loopback addresses, or an address and a port",
    place,
    || Place::Loopback(15053),
);
const PREFERRED: Key<Option<Namespace>> = Key::new(
    "PREFERED_SERVICE_NAMESPACE",
    "whose services are preferred among those of one name that are neither the asker's own nor canonical",
    namespace,
    || None,
);

/// Where questions are taken.
#[derive(Debug, Clone, Copy)]
enum Place {
    Loopback(u16),
    At(SocketAddr),
}

impl Names {
    pub(super) fn read(source: &dyn Source, f: &mut Faults, ipv6: bool) -> Option<Self> {
        let (wanted, place) = (CAPTURE.read(source, f), ADDRESS.read(source, f));
        let preferred = PREFERRED.read(source, f);
        let loopback = |port| {
            let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            let used = both.into_iter().filter(|ip| ipv6 || ip.is_ipv4());
            used.map(|ip| SocketAddr::new(ip, port)).collect()
        };
        let at = match place {
            Place::Loopback(port) => loopback(port),
            Place::At(at) => vec![at],
        };
        wanted.then_some(Self { at, preferred })
    }
}

fn place(given: &str) -> Result<Place, String> {
    let refuse = || "write localhost:<port>, or an address and a port such as 127.0.0.1:15053".to_owned();
    let place = match given.strip_prefix("localhost:") {
        Some(port) => port.parse().map(Place::Loopback).map_err(|_| refuse())?,
        None => given.parse().map(Place::At).map_err(|_| refuse())?,
    };
    match place {
        Place::Loopback(0) => Err(refuse()),
        Place::At(at) if at.port() == 0 => Err(refuse()),
        fine => Ok(fine),
    }
}

fn namespace(given: &str) -> Result<Option<Namespace>, String> {
    match given {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|error: ambit_model::name::NameError| error.to_string()),
    }
}
