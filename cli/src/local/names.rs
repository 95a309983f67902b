//! What names mean inside a pod: its `/etc/hosts` and `/etc/resolv.conf`.
//!
//! A service name stands for the service's own addresses: inside the mesh ztunnel captures them, outside the
//! node translates them (`services`). Pure.

use std::fmt::Write;
use std::net::IpAddr;

use super::container::Alias;

/// A service as far as its name goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedService {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The reader of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// Names that its manifest gives to addresses.
    pub(crate) aliases: Vec<Alias>,
}

/// The text of `/etc/hosts`.
pub(crate) fn hosts(reader: &Reader, services: &[NamedService]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for address in &reader.addresses {
        line(&mut text, *address, std::slice::from_ref(&reader.name));
    }
    for Alias { ip, hostnames } in &reader.aliases {
        line(&mut text, *ip, hostnames);
    }
    for service in services {
        let NamedService { namespace, name, addresses } = service;
        let mut names = vec![
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
        ];
        if *namespace == reader.namespace {
            names.push(name.clone());
        }
        for address in addresses {
            line(&mut text, *address, &names);
        }
    }
    text
}

/// The text of `/etc/resolv.conf`: there is no name server here, and asking for one fails at once.
pub(crate) fn resolv(namespace: &str) -> String {
    format!(
        "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n\
         nameserver 127.0.0.1\noptions timeout:1 attempts:1 ndots:1\n"
    )
}

fn line(text: &mut String, address: IpAddr, names: &[String]) {
    // Writing to a String cannot fail.
    let _written = writeln!(text, "{address} {}", names.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_short_name_in_its_own_namespace_only() {
        let service = NamedService {
            namespace: "shop".into(),
            name: "cart".into(),
            addresses: vec!["10.96.0.2".parse().unwrap()],
        };
        let aliases = vec![Alias { ip: [10, 0, 0, 9].into(), hostnames: vec!["far".into(), "away".into()] }];
        let mut reader = Reader { namespace: "shop".into(), name: "web".into(), addresses: vec![], aliases };
        let names = "cart.shop.svc.cluster.local cart.shop.svc cart.shop";
        assert!(
            hosts(&reader, std::slice::from_ref(&service)).contains(&format!("10.96.0.2 {names} cart\n"))
        );
        assert!(hosts(&reader, &[]).contains("10.0.0.9 far away\n"));
        reader.namespace = "else".into();
        assert!(hosts(&reader, &[service]).contains(&format!("10.96.0.2 {names}\n")));
    }
}
