//! What names mean inside a pod: its `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Inside the mesh a service name stands for the service's own addresses: ztunnel captures them. Outside
//! nothing translates service addresses on these nodes, so there the name stands for a ready pod behind it.
//! Pure.

use std::fmt::Write;
use std::net::IpAddr;

/// A service as far as its name goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedService {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) vips: Vec<IpAddr>,
    /// The addresses of the first ready pod behind it.
    pub(crate) endpoint: Vec<IpAddr>,
}

/// The reader of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) in_mesh: bool,
}

/// The text of `/etc/hosts`.
pub(crate) fn hosts(reader: &Reader, services: &[NamedService]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for address in &reader.addresses {
        line(&mut text, *address, std::slice::from_ref(&reader.name));
    }
    for service in services {
        let NamedService { namespace, name, vips, endpoint } = service;
        let mut names = vec![
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
        ];
        if *namespace == reader.namespace {
            names.push(name.clone());
        }
        let addresses = if reader.in_mesh && !vips.is_empty() { vips } else { endpoint };
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
    fn a_service_name_means_its_address_inside_the_mesh_and_a_pod_outside() {
        let service = NamedService {
            namespace: "shop".into(),
            name: "cart".into(),
            vips: vec!["10.96.0.2".parse().unwrap()],
            endpoint: vec!["10.244.2.2".parse().unwrap()],
        };
        let mut reader =
            Reader { namespace: "shop".into(), name: "web".into(), addresses: vec![], in_mesh: true };
        let names = "cart.shop.svc.cluster.local cart.shop.svc cart.shop cart";
        assert!(hosts(&reader, std::slice::from_ref(&service)).contains(&format!("10.96.0.2 {names}\n")));
        reader.in_mesh = false;
        assert!(hosts(&reader, std::slice::from_ref(&service)).contains(&format!("10.244.2.2 {names}\n")));
        reader.namespace = "else".into();
        assert!(
            hosts(&reader, &[service])
                .contains("10.244.2.2 cart.shop.svc.cluster.local cart.shop.svc cart.shop\n")
        );
    }
}
