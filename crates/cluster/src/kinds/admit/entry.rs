//! Rules of entries for services and workloads outside of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Findings, is_fqdn, is_label, label_texts, selector};
use crate::kinds::entry::{EntryEndpoint, EntryPort, Resolution, ServiceEntry, WorkloadEntry};
use crate::kinds::scalar::Port;
use crate::kinds::waypoint::USE;

/// What may be spoken on a port.
const PROTOCOLS: [&str; 12] = [
    "http",
    "https",
    "http2",
    "grpc",
    "grpc-web",
    "tcp",
    "tls",
    "udp",
    "mongo",
    "mysql",
    "redis",
    "http_proxy",
];

pub(super) fn service(entry: &ServiceEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    hosts(entry, findings);
    ports(&spec.ports, findings);
    for (at, cidr) in spec.addresses.iter().enumerate() {
        let single = cidr.0.prefix_len() == cidr.0.max_prefix_len();
        if !single && !matches!(spec.resolution, Resolution::None | Resolution::Static) {
            let remedy = "give single addresses, or use the resolution NONE or STATIC";
            let value = cidr.0.to_string();
            findings.refuse(format!("spec.addresses[{at}]"), &value, "a range with this resolution", remedy);
        }
    }
    if let Some(given) = &spec.workload_selector {
        selector("spec.workloadSelector.labels", &given.labels, findings);
        if spec.resolution == Resolution::None {
            let remedy = "use the resolution STATIC to send connections to the chosen workloads";
            findings.warn("spec.workloadSelector", "", "not used with the resolution NONE", remedy);
        }
    }
    for (at, endpoint) in spec.endpoints.iter().enumerate() {
        self::endpoint(&format!("spec.endpoints[{at}]"), endpoint, entry, findings);
    }
    if spec.resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        let remedy = "give one endpoint, or use the resolution DNS";
        let count = spec.endpoints.len().to_string();
        findings.refuse("spec.endpoints", &count, "DNS_ROUND_ROBIN takes one endpoint", remedy);
    }
    dynamic(entry, findings);
    shared(entry, findings);
    for (at, to) in spec.export_to.iter().enumerate() {
        if !matches!(to.as_str(), "." | "*" | "~") && !is_label(to) {
            let remedy = "write '.', '*', '~' or a namespace";
            findings.refuse(format!("spec.exportTo[{at}]"), to, "not a namespace", remedy);
        }
    }
}

pub(super) fn workload(entry: &WorkloadEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    let unix = spec.address.starts_with("unix://");
    if spec.address.is_empty() {
        let remedy = "give an address, if it has one that peers can reach";
        findings.warn("spec.address", "", "only reached through the gateway of its network", remedy);
    } else if !unix && !is_place(&spec.address) {
        let remedy = "give an IP address, a host name or unix:///path";
        findings.refuse("spec.address", &spec.address, "not an address", remedy);
    }
    if unix && !spec.ports.is_empty() {
        findings.refuse("spec.ports", "", "a socket's path has no ports", "remove the ports");
    }
    label_texts("spec.labels", &spec.labels, findings);
    port_names("spec.ports", &spec.ports, findings);
}

fn hosts(entry: &ServiceEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    let by_dns = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let needs_name = by_dns && spec.endpoints.is_empty() && spec.workload_selector.is_none();
    for (at, host) in spec.hosts.iter().enumerate() {
        let (field, host) = (format!("spec.hosts[{at}]"), host.0.as_str());
        let plain = host.strip_prefix("*.").unwrap_or(host);
        let partial = plain == host && host.starts_with('*') && host.len() > 1;
        if host == "*" {
            findings.refuse(field, host, "would be every host", "name a domain, like *.example.com");
        } else if partial && is_fqdn(host.trim_start_matches('*').trim_start_matches('-')) {
            let remedy = "put the wildcard in place of whole labels, like *.example.com";
            findings.warn(
                field,
                host,
                "a wildcard for a part of a label is not matched by most clients",
                remedy,
            );
        } else if !is_fqdn(plain) {
            findings.refuse(field, host, "not a host name", "write a DNS name, like api.example.com");
        } else if needs_name && plain != host {
            let remedy = "give endpoints, or use the resolution DYNAMIC_DNS or NONE";
            findings.refuse(field, host, "a wildcard cannot be looked up", remedy);
        }
    }
}

fn ports(ports: &[EntryPort], findings: &mut Findings) {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (at, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{at}]");
        if !numbers.insert(port.number) {
            let value = port.number.0.to_string();
            findings.refuse(format!("{field}.number"), &value, "given twice", "give each number once");
        }
        if !port.name.is_empty() && !names.insert(port.name.as_str()) {
            findings.refuse(format!("{field}.name"), &port.name, "given twice", "give each name once");
        }
        if !port.name.is_empty() && !is_label(&port.name) {
            let remedy = "use lower-case letters, digits and '-', at most 63 of them";
            findings.refuse(format!("{field}.name"), &port.name, "not a port's name", remedy);
        }
        let protocol = port.protocol.to_ascii_lowercase();
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol.as_str()) {
            let remedy = format!("use one of {}", PROTOCOLS.join(", ").to_ascii_uppercase());
            findings.refuse(format!("{field}.protocol"), &port.protocol, "unknown protocol", &remedy);
        }
    }
}

fn endpoint(field: &str, endpoint: &EntryEndpoint, entry: &ServiceEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    let address = endpoint.address.as_str();
    let (ip, unix) = (address.parse::<IpAddr>().is_ok(), address.starts_with("unix://"));
    let field_of = |name: &str| format!("{field}.{name}");
    match spec.resolution {
        Resolution::Static if !ip && !unix && (!address.is_empty() || endpoint.network.is_empty()) => {
            let remedy = "give an IP address, or use the resolution DNS";
            findings.refuse(field_of("address"), address, "STATIC takes IP addresses", remedy);
        }
        Resolution::Dns | Resolution::DnsRoundRobin if !is_place(address) => {
            let remedy = "give a host name or an IP address";
            findings.refuse(field_of("address"), address, "neither a host name nor an address", remedy);
        }
        _ => {}
    }
    let declared: BTreeSet<&str> = spec.ports.iter().map(|port| port.name.as_str()).collect();
    for name in endpoint.ports.keys().filter(|name| !declared.contains(name.as_str())) {
        let remedy = "use the name of a port of spec.ports";
        findings.refuse(field_of("ports"), name, "no port of the entry has this name", remedy);
    }
    label_texts(&field_of("labels"), &endpoint.labels, findings);
}

fn dynamic(entry: &ServiceEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    if spec.resolution != Resolution::DynamicDns {
        return;
    }
    if let Some((at, host)) = spec.hosts.iter().enumerate().find(|(_, host)| !host.0.starts_with('*')) {
        let remedy = "use the resolution DNS for hosts without wildcard";
        findings.refuse(format!("spec.hosts[{at}]"), &host.0, "DYNAMIC_DNS is for wildcards", remedy);
    }
    if !spec.addresses.is_empty() {
        let remedy = "remove the addresses";
        findings.refuse("spec.addresses", "", "DYNAMIC_DNS takes no addresses", remedy);
    }
    for (at, port) in spec.ports.iter().enumerate() {
        if !matches!(port.protocol.to_ascii_uppercase().as_str(), "HTTP" | "HTTP2" | "GRPC" | "TLS") {
            let remedy = "use HTTP, HTTP2, GRPC or TLS: the host is read off the request";
            let field = format!("spec.ports[{at}].protocol");
            findings.refuse(field, &port.protocol, "DYNAMIC_DNS cannot find the host in it", remedy);
        }
    }
    if spec.location == "MESH_INTERNAL" && entry.metadata.label(USE).is_some() {
        let remedy = "use MESH_EXTERNAL";
        findings.refuse("spec.location", "MESH_INTERNAL", "not with DYNAMIC_DNS and a waypoint", remedy);
    }
}

/// Several hosts on one port can only be told apart by what is spoken there.
fn shared(entry: &ServiceEntry, findings: &mut Findings) {
    let spec = &entry.spec;
    let opaque = |port: &&EntryPort| {
        !matches!(
            port.protocol.to_ascii_uppercase().as_str(),
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTPS" | "TLS" | "HTTP_PROXY"
        )
    };
    let Some(port) = spec.ports.iter().find(opaque).filter(|_| spec.hosts.len() > 1) else { return };
    let (number, field) = (port.number.0.to_string(), "spec.ports");
    if !spec.addresses.is_empty() {
        let remedy = "write an entry for each host";
        findings.warn(field, &number, "its hosts cannot be told apart at this address and port", remedy);
    }
}

fn port_names(field: &str, ports: &BTreeMap<String, Port>, findings: &mut Findings) {
    for name in ports.keys().filter(|name| !is_label(name)) {
        let remedy = "use lower-case letters, digits and '-', at most 63 of them";
        findings.refuse(field, name, "not a port's name", remedy);
    }
}

fn is_place(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok() || is_fqdn(address)
}
